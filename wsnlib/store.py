"""Results on disk, one record per key.

A record is one JSON file, `<key>.json`: the spec that made it, its metrics and predictions, and
where it was made, with a checksum over all of it. It is written under a temporary name, flushed
and renamed, so that a record is there whole or not at all; reading it never runs code.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import uuid
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs

from wsnlib import specs

Integers = npt.NDArray[np.integer[Any]]


class StoreError(RuntimeError):
    """A record is damaged or of another spec, or the store cannot be written."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """The result of one run.

    Args:
        experiment: What was run, a training or a measurement; its key names the record.
        status: `"finished"`, or `"diverged"` if the loss was not finite.
        history: One number per epoch under each name (see `wsnlib.training.Outcome`); for a
            measurement, one number per row. Kept to 7 digits.
        reported_epoch: The epoch that the protocol reports, from 1; `None` if diverged.
        train_accuracy: Of the last weights on the training images, in [0, 1].
        predictions: Predicted class of each test image at the reported epoch, (n,) uint8 or int16.
        arrays: What a measurement read, by name: integers of any shape.
        network: What was built: `num_weights`, `connectivity` and `weights_per_layer`.
        environment: Versions, commit, device, threads, seconds.
    """

    experiment: specs.Run
    status: str
    history: dict[str, list[float]]
    reported_epoch: int | None = None
    train_accuracy: float | None = None
    predictions: Integers | None = None
    arrays: dict[str, Integers] = field(default_factory=dict)
    network: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The key of the experiment."""
        return specs.key(self.experiment)

    def reported(self, name: str) -> float:
        """A metric of the history at the reported epoch; NaN if the run diverged."""
        return math.nan if self.reported_epoch is None else self.history[name][self.reported_epoch - 1]

    def to_json(self) -> str:
        """The record as text, with the SHA-256 of its content."""
        content: dict[str, Any] = {
            "spec_version": specs.SPEC_VERSION,
            "spec": specs.to_dict(self.experiment),
            "status": self.status,
            "history": {
                name: [float(f"{v:.7g}") if math.isfinite(v) else None for v in values]
                for name, values in self.history.items()
            },
            "reported_epoch": self.reported_epoch,
            "train_accuracy": self.train_accuracy,
            "predictions": None if self.predictions is None else _packed(self.predictions),
            "network": self.network,
            "environment": self.environment,
        }
        if self.arrays:
            content["arrays"] = {
                name: _packed(array) | {"shape": list(array.shape)} for name, array in self.arrays.items()
            }
        text = specs.canonical_json(content)
        return f'{{"sha256":"{hashlib.sha256(text.encode()).hexdigest()}","content":{text}}}\n'

    @classmethod
    def from_json(cls, text: str) -> Record:
        """The record that `to_json` wrote.

        Raises:
            ValueError: If the text is cut off or changed.
        """
        try:
            whole = json.loads(text)
            content, checksum = whole["content"], whole["sha256"]
            intact = hashlib.sha256(specs.canonical_json(content).encode()).hexdigest() == checksum
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError("it is cut off or is no record") from error
        if not intact:
            raise ValueError("its content does not match its checksum")
        if content["spec_version"] not in specs.READABLE_VERSIONS:
            raise ValueError(
                f"it is of spec version {content['spec_version']}; "
                f"{', '.join(map(str, specs.READABLE_VERSIONS))} are read here"
            )
        history = {
            name: [math.nan if v is None else v for v in values]
            for name, values in content["history"].items()
        }
        packed = content["predictions"]
        return cls(
            experiment=specs.from_dict(content["spec"]),
            status=content["status"],
            history=history,
            reported_epoch=content["reported_epoch"],
            train_accuracy=content["train_accuracy"],
            predictions=None if packed is None else _unpacked(packed),
            arrays={
                name: _unpacked(array).reshape(array["shape"])
                for name, array in content.get("arrays", {}).items()
            },
            network=content["network"],
            environment=content["environment"],
        )


def _packed(predictions: Integers) -> dict[str, Any]:
    compressed = zlib.compress(np.ascontiguousarray(predictions).tobytes(), 9)
    return {"dtype": str(predictions.dtype), "zlib": base64.b64encode(compressed).decode("ascii")}


def _unpacked(packed: dict[str, Any]) -> Integers:
    data = zlib.decompress(base64.b64decode(packed["zlib"]))
    return np.frombuffer(data, dtype={"uint8": np.uint8, "int16": np.int16}[packed["dtype"]]).copy()


class Store:
    """A folder of records; experiments are its keys.

    Args:
        path: Where records are written and looked for first; made when the first one is saved.
        also: Folders that are only read, such as the records published with the book.

    Examples:
        >>> import tempfile
        >>> store = Store(tempfile.mkdtemp())
        >>> run = specs.Experiment(
        ...     model=specs.MLPSpec(width=5), data=specs.MNIST(), training=specs.Training(epochs=1)
        ... )
        >>> run in store
        False
        >>> store.save(Record(experiment=run, status="diverged", history={}))
        >>> store.load(run).status, len(list(store))
        ('diverged', 1)
    """

    def __init__(self, path: Path | str, *, also: Sequence[Path | str] = ()) -> None:
        self.path = Path(path)
        self.also = tuple(Path(p) for p in also)

    def _find(self, key: str) -> Path | None:
        for folder in (self.path, *self.also):
            if (file := folder / f"{key}.json").exists():
                return file
        return None

    def __contains__(self, experiment: specs.Run) -> bool:
        return self._find(specs.key(experiment)) is not None

    def __iter__(self) -> Iterator[Record]:
        """All records, in order of their keys."""
        files = {
            file.stem: file for folder in (*reversed(self.also), self.path) for file in folder.glob("*.json")
        }
        for key in sorted(files):
            yield self._read(files[key])

    def load(self, experiment: specs.Run) -> Record:
        """The record of an experiment.

        Raises:
            KeyError: If there is none.
            StoreError: If the file is damaged or was made by another spec.
        """
        key = specs.key(experiment)
        file = self._find(key)
        if file is None:
            raise KeyError(f"no record {key} in {self.path}; wsn.run_missing makes it")
        return self._read(file)

    def _read(self, file: Path) -> Record:
        advice = "move it away, and the next run makes it again"
        try:
            record = Record.from_json(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise StoreError(f"the record {file} cannot be used: {error}; {advice}") from error
        if record.key != file.stem:
            raise StoreError(f"the record {file} was made by another spec, of key {record.key}; {advice}")
        return record

    def save(self, record: Record) -> None:
        """Write a record, whole or not at all; one of the same key is replaced.

        Raises:
            StoreError: If the folder cannot be written.
        """
        temporary = self.path / f".{record.key}.{uuid.uuid4().hex}.tmp"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("w", encoding="utf-8") as file:
                    file.write(record.to_json())
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(self.path / f"{record.key}.json")
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error

    def check_writable(self) -> None:
        """Raise StoreError if a record could not be written, before hours go into making one."""
        probe = self.path / f".{uuid.uuid4().hex}.tmp"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> StoreError:
        return StoreError(
            f"the store {self.path} cannot be written ({error.strerror}); set WSN_STORE to a folder that can"
        )


def default_store() -> Store:
    """The store at `$WSN_STORE`, else in the user's cache folder; it also reads published records.

    Published records are those in the folder `records` beside the nearest `_toc.yml`, from the
    working folder upwards; `book/_toc.yml` is a link to the one that counts.
    """
    given = os.environ.get("WSN_STORE")
    path = Path(given) if given else Path(platformdirs.user_cache_dir("wsnlib")) / "records"
    here = Path.cwd()
    toc = next((p / "_toc.yml" for p in (here, *here.parents) if (p / "_toc.yml").exists()), None)
    return Store(path, also=[] if toc is None else [toc.resolve().parent / "records"])
