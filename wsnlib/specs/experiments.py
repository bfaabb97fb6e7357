"""An experiment, everything that has a record, and its key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from wsnlib.specs.checks import instance, integer
from wsnlib.specs.data import (
    CIFAR10,
    CIFAR100,
    MNIST,
    SVHN,
    DataSpec,
    Digits,
    FashionMNIST,
    ImageNet,
    PackedData,
)
from wsnlib.specs.examples import ExampleImages, ExampleLabels
from wsnlib.specs.kernels import GaussianInputs, KernelDistances, KernelSimulation
from wsnlib.specs.networks import (
    MODELS,
    ChannelSparsity,
    CustomSparsity,
    CustomSpec,
    LargestFirst,
    LastLayerDensity,
    LinearBottleneck,
    MLPSpec,
    ModelSpec,
    NonlinearBottleneck,
    ResNet18Spec,
    ResNetCifarSpec,
    StaticSparsity,
    UniformDensity,
)
from wsnlib.specs.training import (
    Constant,
    Cosine,
    CropAndFlip,
    MultiStep,
    OneCycle,
    ResizedCropAndFlip,
    Training,
)

SPEC_VERSION = 2
"""Raised whenever a spec gets a new field or a new meaning; part of every key."""

READABLE_VERSIONS = (1, 2)
"""Versions whose specs mean today what they meant then: fields that were added have their defaults."""

KEY_LENGTH = 20
"""Hexadecimal digits in a key (80 bits)."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One training: a network, data, a protocol and a seed.

    Initialisation, mask and order of the data draw from separate generators that derive from
    `seed`, so that two widths with the same seed see the same data in the same order.

    Examples:
        >>> run = Experiment(model=MLPSpec(width=5), data=MNIST(), training=Training(epochs=1))
        >>> len(key(run)), key(run) == key(from_dict(to_dict(run)))
        (20, True)
    """

    model: ModelSpec
    data: DataSpec
    training: Training
    seed: int = 0

    def __post_init__(self) -> None:
        instance(self, "model", MODELS)
        instance(self, "data", (DataSpec,))
        instance(self, "training", (Training,))
        integer(self, "seed", at_least=0)
        if self.training.report == "best_validation" and self.data.validation_size == 0:
            raise ValueError(
                "Training.report is 'best_validation' and the data has validation_size 0; "
                "set data.validation_size to at least 1"
            )


Measurement = KernelDistances | KernelSimulation | ExampleLabels | ExampleImages
"""What is measured without training."""

Run = Experiment | Measurement
"""What has a record: a training, a measurement of kernels, or what was read of a test set."""


_CLASSES: dict[str, Any] = {
    c.__name__: c
    for c in (
        MLPSpec,
        ResNet18Spec,
        ResNetCifarSpec,
        LargestFirst,
        UniformDensity,
        LastLayerDensity,
        StaticSparsity,
        ChannelSparsity,
        LinearBottleneck,
        NonlinearBottleneck,
        CustomSpec,
        CustomSparsity,
        Digits,
        MNIST,
        FashionMNIST,
        CIFAR10,
        CIFAR100,
        SVHN,
        ImageNet,
        PackedData,
        Constant,
        MultiStep,
        Cosine,
        OneCycle,
        CropAndFlip,
        ResizedCropAndFlip,
        Training,
        Experiment,
        GaussianInputs,
        KernelDistances,
        KernelSimulation,
        ExampleLabels,
        ExampleImages,
    )
}


def to_dict(spec: Any) -> dict[str, Any]:
    """The spec as plain JSON values, each nested spec with its class name under `"class"`."""
    if not is_dataclass(spec) or type(spec).__name__ not in _CLASSES:
        raise TypeError(f"{spec!r} is not a spec; one of {', '.join(_CLASSES)} is")

    def plain(value: Any) -> Any:
        if is_dataclass(value):
            return to_dict(value)
        if isinstance(value, Mapping):
            return {name: plain(v) for name, v in value.items()}
        return list(value) if isinstance(value, tuple) else value

    content = {f.name: plain(getattr(spec, f.name)) for f in fields(spec)}
    return {"class": type(spec).__name__, **content}


def from_dict(content: Mapping[str, Any]) -> Any:
    """The spec that [`to_dict`][wsnlib.specs.to_dict] wrote; never runs code from the content."""
    name = content.get("class")
    if name not in _CLASSES:
        raise ValueError(f"{name!r} is not a spec class; one of {', '.join(_CLASSES)} is")

    def specified(value: Any) -> Any:
        if isinstance(value, Mapping) and "class" in value:
            return from_dict(value)
        return tuple(value) if isinstance(value, list) else value

    return _CLASSES[name](**{k: specified(v) for k, v in content.items() if k != "class"})


def canonical_json(content: Any) -> str:
    """JSON with sorted keys, no spaces, ASCII only; NaN and infinity are refused."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def key(spec: Any) -> str:
    """The first 20 hexadecimal digits of the SHA-256 of the spec's canonical JSON and version.

    Examples:
        >>> key(Training(epochs=3, learning_rate=1)) == key(Training(epochs=3, learning_rate=1.0))
        True
    """
    text = canonical_json({"version": SPEC_VERSION, "spec": to_dict(spec)})
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


def derive_seed(seed: int, purpose: str) -> int:
    """A 63-bit seed for one purpose (`"initialisation"`, `"mask"`, `"order"`), independent of others.

    Examples:
        >>> derive_seed(0, "mask") == derive_seed(0, "order")
        False
    """
    digest = hashlib.sha256(f"{seed}:{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
