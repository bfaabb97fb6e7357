"""A record and its text: the spec that was run, what came of it, and a checksum over all of it.

Reading one never runs code: it is JSON, from which a spec of known classes is made.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from wsnlib import specs

Integers = npt.NDArray[np.integer[Any]]


MOST_UNPACKED = 2**30
"""Bytes of one array of a record at most; what claims to be more is refused before it fills the memory."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """The result of one training.

    Args:
        experiment: What was run; its key names the record.
        status: `"finished"`, or `"diverged"` if the loss was not finite.
        history: One number per epoch under each name (see `wsnlib.training.Outcome`). Kept to 7 digits.
        reported_epoch: The epoch that the protocol reports, from 1; `None` if diverged.
        train_accuracy: Accuracy of the last weights on the training images, in [0, 1].
        predictions: Predicted class of each test image at the reported epoch, (n,) uint8 or int16.
        network: What was built: `num_weights`, `connectivity` and `weights_per_layer`.
        environment: Versions, commit, device, threads, seconds.
    """

    experiment: specs.Experiment
    status: str
    history: dict[str, list[float]]
    reported_epoch: int | None = None
    train_accuracy: float | None = None
    predictions: Integers | None = None
    network: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The key of the experiment."""
        return specs.spec_key(self.experiment)

    def reported(self, name: str) -> float:
        """A metric of the history at the reported epoch; NaN if the run diverged."""
        return math.nan if self.reported_epoch is None else self.history[name][self.reported_epoch - 1]

    def to_json(self) -> str:
        """The record as text, with the SHA-256 of its content; `record_from_json` reads it."""
        packed = None if self.predictions is None else _packed(self.predictions)
        content = _content(self, self.history, self.network)
        content |= {"reported_epoch": self.reported_epoch, "train_accuracy": self.train_accuracy}
        return _sealed(content | {"predictions": packed})


@dataclass(frozen=True, kw_only=True)
class MeasurementRecord:
    """What was measured of layers or kernels, or read of a data set.

    Args:
        experiment: What was measured; its key names the record.
        status: `"finished"`, or `"diverged"` if a network that was trained for it did.
        columns: Numbers by name; of kernels one for each row. Kept to 7 digits.
        names: What the numbers are of, such as `layers`, and `num_weights` of each network.
        arrays: Integers of any shape by name.
        environment: Versions, commit, device, threads, seconds; under `trainings` the same of each network
            that was trained for it, wherever that was, with the key of its `run`.
    """

    experiment: specs.Measurement
    status: str
    columns: dict[str, list[float]] = field(default_factory=dict)
    names: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, Integers] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The key of the measurement."""
        return specs.spec_key(self.experiment)

    def to_json(self) -> str:
        """The record as text, with the SHA-256 of its content; `record_from_json` reads it."""
        content = _content(self, self.columns, self.names)
        if self.arrays:
            arrays = {name: _packed(a) | {"shape": list(a.shape)} for name, a in self.arrays.items()}
            content["arrays"] = arrays
        return _sealed(content)


AnyRecord = Record | MeasurementRecord
"""The result of any run."""


def record_from_json(text: str) -> AnyRecord:
    """The record that `to_json` wrote.

    Raises:
        ValueError: If the text is cut off or changed.
    """
    content = checked_content(text)
    try:
        experiment, status = specs.from_dict(content["spec"]), content["status"]
        columns = {
            name: [math.nan if v is None else v for v in values]
            for name, values in content["history"].items()
        }
        names, environment = content["network"], content["environment"]
        if not isinstance(experiment, specs.Experiment):
            arrays = content.get("arrays", {}).items()
            return MeasurementRecord(
                experiment=experiment,
                status=status,
                columns=columns,
                names=names,
                arrays={name: _unpacked(array).reshape(array["shape"]) for name, array in arrays},
                environment=environment,
            )
        packed = content["predictions"]
        return Record(
            experiment=experiment,
            status=status,
            history=columns,
            reported_epoch=content["reported_epoch"],
            train_accuracy=content["train_accuracy"],
            predictions=None if packed is None else _unpacked(packed),
            network=names,
            environment=environment,
        )
    except (KeyError, TypeError, AttributeError, zlib.error) as error:
        raise ValueError(f"it lacks what a record has ({type(error).__name__}: {error})") from error


def _content(record: AnyRecord, columns: dict[str, list[float]], names: dict[str, Any]) -> dict[str, Any]:
    """What all records have; what only a training has is null in others, under the names of a training."""
    return {
        "spec_version": specs.SPEC_VERSION,
        "spec": specs.to_dict(record.experiment),
        "status": record.status,
        "history": {
            name: [float(f"{v:.7g}") if math.isfinite(v) else None for v in values]
            for name, values in columns.items()
        },
        "reported_epoch": None,
        "train_accuracy": None,
        "predictions": None,
        "network": names,
        "environment": record.environment,
    }


def _sealed(content: dict[str, Any]) -> str:
    text = specs.canonical_json(content)
    return f'{{"sha256":"{hashlib.sha256(text.encode()).hexdigest()}","content":{text}}}\n'


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A record without what grows with epochs and images: what an index holds and a table shows.

    Args:
        key: Key of the spec.
        spec: The spec as plain values, each nested spec with its class.
        status: As in the record, like `reported_epoch`, `train_accuracy`, `network` and `environment`.
        reported: Each metric at the reported epoch; empty if there is none.
        last: Each metric after the last epoch.
    """

    key: str
    spec: dict[str, Any]
    status: str
    reported_epoch: int | None
    train_accuracy: float | None
    reported: dict[str, float]
    last: dict[str, float]
    network: dict[str, Any]
    environment: dict[str, Any]

    @classmethod
    def of_text(cls, text: str) -> Summary:
        """The summary of a record's text, whose checksum and key are checked; about as fast as reading it.

        Raises:
            ValueError: If the text is cut off or changed.
        """
        content = checked_content(text)
        try:
            if content["spec_version"] != specs.SPEC_VERSION:  # fields that were added since have defaults
                content["spec"] = specs.to_dict(specs.from_dict(content["spec"]))
            epoch, history = content["reported_epoch"], content["history"].items()
            return cls(
                key=specs.key_of_content(content["spec"]),
                reported={} if epoch is None else {name: _number(v[epoch - 1]) for name, v in history},
                last={name: _number(v[-1]) for name, v in history if v},
                **{name: content[name] for name in _AS_IN_RECORD},
            )
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"it lacks what a record has ({type(error).__name__}: {error})") from error


_AS_IN_RECORD = ("spec", "status", "reported_epoch", "train_accuracy", "network", "environment")


def _number(value: float | None) -> float:
    return math.nan if value is None else value


_BEFORE, _BETWEEN, _AFTER = '{"sha256":"', '","content":', "}\n"


def checked_content(text: str) -> dict[str, Any]:
    """The content of a record's text.

    Raises:
        ValueError: If the text is cut off or changed, or of a spec version that is not read here.
    """
    start = len(_BEFORE) + 64 + len(_BETWEEN)
    try:
        if text[start - len(_BETWEEN) : start] == _BETWEEN and text.endswith(_AFTER):
            checksum, plain = text[len(_BEFORE) : len(_BEFORE) + 64], text[start : -len(_AFTER)]
            content = json.loads(plain)
        else:  # laid out anew by another program
            whole = json.loads(text)
            content, checksum = whole["content"], whole["sha256"]
            plain = specs.canonical_json(content)
        version = content["spec_version"] if isinstance(content, dict) and content else None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError("it is cut off or is no record") from error
    if hashlib.sha256(plain.encode()).hexdigest() != checksum:
        raise ValueError("its content does not match its checksum")
    if version not in specs.READABLE_VERSIONS:
        raise ValueError(
            f"it is of spec version {version}; {', '.join(map(str, specs.READABLE_VERSIONS))} are read here"
        )
    return dict(content)


def _packed(predictions: Integers) -> dict[str, Any]:
    if str(predictions.dtype) not in _DTYPES:
        raise ValueError(
            f"arrays of a record must be of {', '.join(_DTYPES)}, got {predictions.dtype}; convert them"
        )
    compressed = zlib.compress(np.ascontiguousarray(predictions).tobytes(), 9)
    return {"dtype": str(predictions.dtype), "zlib": base64.b64encode(compressed).decode("ascii")}


_DTYPES = {name: np.dtype(name) for name in ("uint8", "int16", "int32")}


def _unpacked(packed: dict[str, Any]) -> Integers:
    unpacking = zlib.decompressobj()
    data = unpacking.decompress(base64.b64decode(packed["zlib"]), MOST_UNPACKED)
    if not unpacking.eof:
        raise ValueError("an array of it is cut off, or larger than a record's may be")
    return np.frombuffer(data, dtype=_DTYPES[packed["dtype"]]).copy()
