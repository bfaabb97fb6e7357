"""An experiment, everything that has a record, and its key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from typing import Annotated, Any

from wsnlib.specs import data, kernels, networks, training
from wsnlib.specs.checks import NonNegativeInt, PositiveInt, Range, Spec, plain, refuse
from wsnlib.specs.data import DataSpec, ExampleImages, ExampleLabels, PackedData
from wsnlib.specs.kernels import KernelDistances, KernelSimulation
from wsnlib.specs.networks import ModelSpec, ResNetCifarSpec
from wsnlib.specs.training import Training

SPEC_VERSION = 2
"""Raised whenever a spec gets a new field or a new meaning; part of every key."""

READABLE_VERSIONS = (1, 2)
"""Versions whose specs mean today what they meant then, as fields that were added have their defaults."""

KEY_LENGTH = 20
"""Hexadecimal digits in a key (80 bits)."""


@dataclass(frozen=True, kw_only=True)
class Experiment(Spec):
    """One training: a network, data, a protocol and a seed.

    Initialisation, mask and order of the data draw from separate generators that derive from
    `seed`, so that two widths with the same seed see the same data in the same order.

    Examples:
        >>> from wsnlib.specs import MLPSpec, MNIST
        >>> run = Experiment(model=MLPSpec(width=5), data=MNIST(), training=Training(epochs=1))
        >>> len(spec_key(run)), spec_key(run) == spec_key(from_dict(to_dict(run)))
        (20, True)
    """

    model: ModelSpec
    data: DataSpec
    training: Training
    seed: NonNegativeInt = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.training.report == "best_validation" and self.data.validation_size == 0:
            raise ValueError(
                "data.validation_size must be ≥ 1 with Training.report 'best_validation', got 0; set "
                "images aside"
            )


@dataclass(frozen=True, kw_only=True)
class BlockOrigins(Spec):
    """A training, then how alike all layers are, along which images, and since when.

    Its record, which `wsn.origin_results` reads, holds all of it, so that no weights need be kept. CKA is by
    HSIC₁ of all measured images at once, which go through the network together. *Outputs* are the stem's and
    the residual blocks' last ReLUs.

    Args:
        experiment: The training. Measured are its last weights, whatever epoch it reports.
        epochs: Rising, before the last; after these, outputs are compared, too. 0 is the initialisation.
        num_images: Class-balanced test images that are measured; `None` takes all, for small test sets.
        num_removed: How many dominant images, and how many others, are taken out of the map.
        num_rotated: Of the images, for normalised Bures similarity.
        probes: Whether a linear probe is fitted on each layer before and after an addition; the data
            need validation images.
        seed: Draws the images, and those others.

    References:
        N21, Figures 1 to 5, C.1, D.1 to D.8. Nguyen, Raghu, Kornblith, *On the origins of the block
        structure phenomenon in neural network representations* (2022).

    Examples:
        >>> from wsnlib.specs import CIFAR10
        >>> run = Experiment(
        ...     model=ResNetCifarSpec(depth=56), data=CIFAR10(), training=Training(epochs=100)
        ... )
        >>> BlockOrigins(run, epochs=[0, 10, 50]).epochs
        (0, 10, 50)
    """

    experiment: Experiment = field(kw_only=False)
    epochs: tuple[int, ...] = ()
    num_images: Annotated[int, Range(at_least=8)] | None = 1000
    num_removed: PositiveInt = 10
    num_rotated: Annotated[int, Range(at_least=4)] = 250
    probes: bool = False
    seed: NonNegativeInt = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "epochs", tuple(map(plain, self.epochs)))
        last = self.experiment.training.epochs - 1
        whole = all(isinstance(e, int) and not isinstance(e, bool) and 0 <= e <= last for e in self.epochs)
        if not whole or list(self.epochs) != sorted(set(self.epochs)):
            raise refuse(self, "epochs", f"rising integers from 0 to {last}, before the last epoch")
        if self.num_images is not None and self.num_images < 2 * self.num_removed + 4:
            raise ValueError(
                f"BlockOrigins.num_removed must be at most {(self.num_images - 4) // 2} of num_images "
                f"{self.num_images}, got {self.num_removed}"
            )
        if not isinstance(self.experiment.model, ResNetCifarSpec):
            raise ValueError(
                "BlockOrigins.experiment must train a ResNetCifarSpec, got a "
                f"{type(self.experiment.model).__name__}"
            )
        if self.probes and self.experiment.data.validation_size == 0:
            raise ValueError(
                "data.validation_size must be ≥ 1 for BlockOrigins.probes, got 0; set images aside"
            )


@dataclass(frozen=True, kw_only=True)
class OutputSimilarity(Spec):
    """Several trainings, then CKA between the outputs of every two networks, on the same images at once.

    The fields are those of [`BlockOrigins`][wsnlib.specs.experiments.BlockOrigins]; `wsn.output_results`
    reads the record.

    Args:
        experiments: At least two, on one data set.

    References:
        N21, Section 6, Figures 6 and E.1.
    """

    experiments: tuple[Experiment, ...] = field(kw_only=False)
    num_images: Annotated[int, Range(at_least=4)] | None = 1000
    seed: NonNegativeInt = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "experiments", tuple(self.experiments))
        if len(self.experiments) < 2 or not all(isinstance(e, Experiment) for e in self.experiments):
            raise refuse(self, "experiments", "a sequence of at least two Experiments")
        sets = sorted({_data_set(e.data) for e in self.experiments})
        if len(sets) > 1:
            raise ValueError(
                f"OutputSimilarity.experiments must be on one data set, got {' and '.join(sets)}"
            )


def _data_set(spec: DataSpec) -> str:
    """Which images, whatever part of them trains: a packed set is known by its checksum, too."""
    return f"{spec.name} ({spec.sha256[:8]}…)" if isinstance(spec, PackedData) else type(spec).__name__


NetworkMeasurement = BlockOrigins | OutputSimilarity
"""What trains networks and then measures their layers."""

Measurement = NetworkMeasurement | KernelDistances | KernelSimulation | ExampleLabels | ExampleImages
"""What has a record and is no training, though it may train (of layers, kernels, test examples)."""

Run = Experiment | Measurement
"""What has a record."""


_CLASSES: dict[str, Any] = {
    name: value
    for names in (*map(vars, (data, kernels, networks, training)), globals())
    for name, value in names.items()
    if isinstance(value, type) and is_dataclass(value)
}
"""Everything that a spec may be made of, the dataclasses of this package."""


def to_dict(spec: Any) -> dict[str, Any]:
    """The spec as plain JSON values, each nested spec with its class name under `"class"`."""
    if not is_dataclass(spec) or type(spec).__name__ not in _CLASSES:
        raise TypeError(f"spec must be one of {', '.join(_CLASSES)}, got {spec!r}")

    def plain(value: Any) -> Any:
        if is_dataclass(value):
            return to_dict(value)
        if isinstance(value, Mapping):
            return {name: plain(v) for name, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, tuple) else value

    kind = type(spec).__name__
    content = {recorded: plain(getattr(spec, name)) for recorded, name in _names(_CLASSES[kind]).items()}
    return {"class": kind, **content}


def from_dict(content: Mapping[str, Any]) -> Any:
    """The spec that [`to_dict`][wsnlib.specs.to_dict] wrote; never runs code from the content."""
    name = content.get("class")
    if name not in _CLASSES:
        raise ValueError(f"class must be one of {', '.join(_CLASSES)}, got {name!r}")

    def specified(value: Any) -> Any:
        if isinstance(value, Mapping) and "class" in value:
            return from_dict(value)
        return tuple(map(specified, value)) if isinstance(value, list) else value

    names = _names(_CLASSES[name])
    return _CLASSES[name](**{names.get(k, k): specified(v) for k, v in content.items() if k != "class"})


@cache
def _names(spec_class: type) -> dict[str, str]:
    """The fields of a spec by the names that records and keys have for them, which never change."""
    return {f.metadata.get("recorded", f.name): f.name for f in fields(spec_class)}


def canonical_json(content: Any) -> str:
    """JSON with sorted keys, no spaces, ASCII only; NaN and infinity are refused."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def spec_key(spec: Any) -> str:
    """The first 20 hexadecimal digits of the SHA-256 of the spec's canonical JSON and version.

    Examples:
        >>> spec_key(Training(epochs=3, learning_rate=1)) == spec_key(Training(epochs=3, learning_rate=1.0))
        True
    """
    return key_of_content(to_dict(spec))


def key_of_content(content: Mapping[str, Any]) -> str:
    """The key of the spec that [`to_dict`][wsnlib.specs.to_dict] gave as plain values."""
    text = canonical_json({"version": SPEC_VERSION, "spec": content})
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


def derive_seed(seed: int, purpose: str) -> int:
    """A 63-bit seed for one purpose (`"initialisation"`, `"mask"`, `"order"`), independent of others.

    Examples:
        >>> derive_seed(0, "mask") == derive_seed(0, "order")
        False
    """
    digest = hashlib.sha256(f"{seed}:{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
