"""An experiment, everything that has a record, and its key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

from wsnlib.specs import data, examples, kernels, networks, training
from wsnlib.specs.checks import choice, flag, instance, integer, refuse
from wsnlib.specs.data import DataSpec, PackedData
from wsnlib.specs.examples import ExampleImages, ExampleLabels
from wsnlib.specs.kernels import KernelDistances, KernelSimulation
from wsnlib.specs.networks import MODELS, ModelSpec, ResNetCifarSpec
from wsnlib.specs.training import Training

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
        >>> from wsnlib.specs import MLPSpec, MNIST
        >>> run = Experiment(model=MLPSpec(width=5), data=MNIST(), training=Training(epochs=1))
        >>> len(spec_key(run)), spec_key(run) == spec_key(from_dict(to_dict(run)))
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


@dataclass(frozen=True, kw_only=True)
class LayerSimilarity:
    """A training, then what the layers of its network compute: CKA between them, components, deletions.

    Its record holds all of it, so that a network is trained once and its weights need not be kept;
    `wsn.layer_results` reads it.

    Args:
        experiment: The training. Measured are its last weights, whatever epoch it reports.
        num_images: Class-balanced test images that are measured; `None` takes all.
        batch_size: Images in a batch of the minibatch estimate of CKA.
        passes: How often it goes through the images.
        weighting: Of its batches: `"released"` by n(n − 3), `"paper"` equally (N21, equation 2).
        num_component_images: Of the images, for the first principal component of each layer.
        probes: Whether a linear probe is fitted on each layer before and after an addition; the data
            need validation images.
        seed: Draws the images and the batches.

    References:
        N21, Figures 1 to 5, C.1, D.1 to D.8.

    Examples:
        >>> from wsnlib.specs import CIFAR10
        >>> run = Experiment(
        ...     model=ResNetCifarSpec(depth=14), data=CIFAR10(), training=Training(epochs=1)
        ... )
        >>> LayerSimilarity(run).passes
        10
    """

    experiment: Experiment = field(kw_only=False)
    num_images: int | None = None
    batch_size: int = 256
    passes: int = 10
    weighting: Literal["released", "paper"] = "released"
    num_component_images: int = 1000
    probes: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        instance(self, "experiment", (Experiment,))
        _check_images(self)
        integer(self, "num_component_images", at_least=4)
        flag(self, "probes")
        if not isinstance(self.experiment.model, ResNetCifarSpec):
            raise ValueError(
                "LayerSimilarity.experiment must train a ResNetCifarSpec, "
                f"got a {type(self.experiment.model).__name__}"
            )
        if self.probes and self.experiment.data.validation_size == 0:
            raise ValueError(
                "LayerSimilarity.probes is True and the data has validation_size 0; "
                "set data.validation_size to at least 1"
            )


@dataclass(frozen=True, kw_only=True)
class NetworkSimilarity:
    """Several trainings, then CKA between every layer of every two networks, on the same images.

    The fields are those of [`LayerSimilarity`][wsnlib.specs.experiments.LayerSimilarity];
    `wsn.network_results` reads the record.

    Args:
        experiments: At least two, on one data set.

    References:
        N21, Figures 6 and E.1.
    """

    experiments: tuple[Experiment, ...] = field(kw_only=False)
    num_images: int | None = None
    batch_size: int = 256
    passes: int = 10
    weighting: Literal["released", "paper"] = "released"
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "experiments", tuple(self.experiments))
        if len(self.experiments) < 2 or not all(isinstance(e, Experiment) for e in self.experiments):
            raise refuse(self, "experiments", "a sequence of at least two Experiments")
        sets = sorted({_data_set(e.data) for e in self.experiments})
        if len(sets) > 1:
            raise ValueError(
                f"NetworkSimilarity.experiments must be on one data set, got {' and '.join(sets)}"
            )
        _check_images(self)


@dataclass(frozen=True, kw_only=True)
class ComponentProjections:
    """A training, then where each image lies along the first principal component of some layers.

    `wsn.component_projections` reads the record; its ends show which images the component tells apart.

    Args:
        experiment: The training. Measured are its last weights, whatever epoch it reports.
        layers: Names of the layers, such as `"stage2.block3.add"`.
        num_images: Class-balanced test images, all of which go through the network at once; `None` takes
            all, which is meant for small test sets.
        seed: Draws the images, as for `LayerSimilarity`.

    References:
        N21, Section 5.1, equation (4).

    Examples:
        >>> from wsnlib.specs import CIFAR10
        >>> run = Experiment(
        ...     model=ResNetCifarSpec(depth=14), data=CIFAR10(), training=Training(epochs=1)
        ... )
        >>> ComponentProjections(run, layers=["pool"], num_images=500).layers
        ('pool',)
    """

    experiment: Experiment = field(kw_only=False)
    layers: tuple[str, ...]
    num_images: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        instance(self, "experiment", (Experiment,))
        named = isinstance(self.layers, list | tuple) and all(isinstance(name, str) for name in self.layers)
        if not named or not self.layers or len(set(self.layers)) < len(self.layers):
            raise refuse(self, "layers", "a sequence of names of layers, all different")
        object.__setattr__(self, "layers", tuple(self.layers))
        if self.num_images is not None:
            integer(self, "num_images", at_least=4)
        integer(self, "seed", at_least=0)


def _data_set(spec: DataSpec) -> str:
    """Which images, whatever part of them trains: a packed set is known by its checksum, too."""
    return f"{spec.name} ({spec.sha256[:8]}…)" if isinstance(spec, PackedData) else type(spec).__name__


def _check_images(spec: LayerSimilarity | NetworkSimilarity) -> None:
    if spec.num_images is not None:
        integer(spec, "num_images", at_least=4)
    integer(spec, "batch_size", at_least=4)
    integer(spec, "passes", at_least=1)
    choice(spec, "weighting", ("released", "paper"))
    integer(spec, "seed", at_least=0)


NetworkMeasurement = LayerSimilarity | NetworkSimilarity | ComponentProjections
"""What trains networks and then measures their layers."""

Measurement = NetworkMeasurement | KernelDistances | KernelSimulation | ExampleLabels | ExampleImages
"""What has a record and is no training, though it may train: of layers, of kernels, of test examples."""

Run = Experiment | Measurement
"""What has a record."""


_CLASSES: dict[str, Any] = {
    name: value
    for names in (*map(vars, (data, examples, kernels, networks, training)), globals())
    for name, value in names.items()
    if isinstance(value, type) and is_dataclass(value)
}
"""Everything that a spec may be made of: the dataclasses of this package."""


def to_dict(spec: Any) -> dict[str, Any]:
    """The spec as plain JSON values, each nested spec with its class name under `"class"`."""
    if not is_dataclass(spec) or type(spec).__name__ not in _CLASSES:
        raise TypeError(f"{spec!r} is not a spec; one of {', '.join(_CLASSES)} is")

    def plain(value: Any) -> Any:
        if is_dataclass(value):
            return to_dict(value)
        if isinstance(value, Mapping):
            return {name: plain(v) for name, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, tuple) else value

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
        return tuple(map(specified, value)) if isinstance(value, list) else value

    return _CLASSES[name](**{k: specified(v) for k, v in content.items() if k != "class"})


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
