"""What an experiment is: frozen dataclasses, nested by composition, and their key.

Two specs with equal content have equal keys, on every machine and in every version of Python:
the key is a hash of canonical JSON that holds every field (defaults included), the class names
and [`SPEC_VERSION`][wsnlib.specs.SPEC_VERSION]. Device, paths and worker counts are not part of
a spec. This module needs the standard library only.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

SPEC_VERSION = 1
"""Raised whenever the meaning of a spec changes; part of every key."""

KEY_LENGTH = 20
"""Hexadecimal digits in a key (80 bits)."""


def _refuse(spec: object, name: str, allowed: str) -> ValueError:
    value = getattr(spec, name)
    return ValueError(f"{type(spec).__name__}.{name} is {value!r}; {allowed} is allowed")


def _integer(spec: object, *names: str, at_least: int) -> None:
    for name in names:
        value = getattr(spec, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
            raise _refuse(spec, name, f"an integer of at least {at_least}")


def _number(
    spec: object,
    name: str,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> None:
    """Check a real number and store it as a float, so that 1 and 1.0 have the same key."""
    limits = {"above": above, "of at least": at_least, "at most": at_most, "below": below}
    allowed = "a number " + " and ".join(f"{k} {v:g}" for k, v in limits.items() if v is not None)
    value = getattr(spec, name)
    fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if (
        not fits
        or (above is not None and not value > above)
        or (at_least is not None and not value >= at_least)
        or (at_most is not None and not value <= at_most)
        or (below is not None and not value < below)
    ):
        raise _refuse(spec, name, allowed)
    object.__setattr__(spec, name, float(value))


def _choice(spec: object, name: str, choices: Iterable[object]) -> None:
    options = tuple(choices)
    if not any(getattr(spec, name) is c or getattr(spec, name) == c for c in options):
        raise _refuse(spec, name, "one of " + ", ".join(map(repr, options)))


def _flag(spec: object, *names: str) -> None:
    for name in names:
        if not isinstance(getattr(spec, name), bool):
            raise _refuse(spec, name, "True or False")


def _instance(spec: object, name: str, classes: tuple[type, ...]) -> None:
    if not isinstance(getattr(spec, name), classes):
        raise _refuse(spec, name, "a " + " or ".join(c.__name__ for c in classes))


# -- networks ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class MLPSpec:
    """A fully connected network; `wsnlib.models.MLP` says what each field does.

    Examples:
        >>> MLPSpec(width=5)
        MLPSpec(width=5, inputs=784, outputs=10, hidden_layers=1, activation='relu', bias=True, \
parametrisation='standard')
    """

    width: int
    inputs: int = 784
    outputs: int = 10
    hidden_layers: int = 1
    activation: Literal["relu", "linear"] = "relu"
    bias: bool = True
    parametrisation: Literal["standard", "ntk"] = "standard"

    def __post_init__(self) -> None:
        _integer(self, "width", "inputs", "outputs", "hidden_layers", at_least=1)
        _choice(self, "activation", ("relu", "linear"))
        _flag(self, "bias")
        _choice(self, "parametrisation", ("standard", "ntk"))


@dataclass(frozen=True, kw_only=True)
class ResNet18Spec:
    """A ResNet-18; `wsnlib.models.ResNet18` says what each field does.

    Examples:
        >>> ResNet18Spec(width=8)
        ResNet18Spec(width=8, num_classes=10, stem='cifar', input_channels=3, initialisation='default')
    """

    width: int
    num_classes: int = 10
    stem: Literal["cifar", "imagenet"] = "cifar"
    input_channels: int = 3
    initialisation: Literal["default", "fan_out"] = "default"

    def __post_init__(self) -> None:
        _integer(self, "width", "num_classes", "input_channels", at_least=1)
        _choice(self, "stem", ("cifar", "imagenet"))
        _choice(self, "initialisation", ("default", "fan_out"))


DenseSpec = MLPSpec | ResNet18Spec
"""A dense network, which can be the base of a wider one."""

_DENSE = (MLPSpec, ResNet18Spec)


def widths(base: DenseSpec, *, widening_factors: Iterable[float]) -> list[int]:
    """The width for each widening factor, width / base width, rounded down as G21 does.

    Examples:
        >>> widths(ResNet18Spec(width=8), widening_factors=[1.5**k for k in range(7)])  # Figure 10
        [8, 12, 18, 27, 40, 60, 91]
    """
    found = []
    for factor in widening_factors:
        if not factor >= 1 or math.isinf(factor):
            raise ValueError(f"a widening factor is {factor!r}; a number of at least 1 is allowed")
        found.append(math.floor(base.width * factor * (1 + 1e-12)))  # 100 * 2.3 is 230, not 229.99…
    return found


def _check_widened(spec: Any) -> None:
    _instance(spec, "base", _DENSE)
    _integer(spec, "width", at_least=1)
    if spec.width < spec.base.width:
        raise _refuse(spec, "width", f"an integer of at least the base width {spec.base.width}")


@dataclass(frozen=True, kw_only=True)
class LargestFirst:
    """Take weights from the largest layer until it equals the next, and so on (G21, Appendix B)."""


@dataclass(frozen=True, kw_only=True)
class UniformDensity:
    """Give every layer the same density, to within one weight."""


@dataclass(frozen=True, kw_only=True)
class LastLayerDensity:
    """Fix the density of the last layer in (0, 1]; the rest is shared out largest first.

    G21, Figure 5 calls this density the connectivity of the last layer.
    """

    density: float

    def __post_init__(self) -> None:
        _number(self, "density", above=0, at_most=1)


@dataclass(frozen=True, kw_only=True)
class StaticSparsity:
    """A network of another `width` with as many weights as `base`, by a static random mask (G21, 2.3).

    Args:
        base: The dense network whose number of weights is kept.
        width: At least the base width; at the base width the network is the dense one.
        allocation: How many weights each layer keeps.
        initialisation: `"released"` divides the first weights and the bias of a layer by the
            square root of its density, which is in distribution what the authors' code does;
            `"unscaled"` leaves them as the dense network has them.

    Examples:
        >>> StaticSparsity(MLPSpec(width=5), width=40).width
        40
    """

    base: DenseSpec = field(kw_only=False)
    width: int
    allocation: LargestFirst | UniformDensity | LastLayerDensity = LargestFirst()
    initialisation: Literal["released", "unscaled"] = "released"

    def __post_init__(self) -> None:
        _check_widened(self)
        _instance(self, "allocation", (LargestFirst, UniformDensity, LastLayerDensity))
        _choice(self, "initialisation", ("released", "unscaled"))


@dataclass(frozen=True, kw_only=True)
class ChannelSparsity(StaticSparsity):
    """Static sparsity over input and output channels only: a kernel is whole or absent (G21, Appendix C).

    The fields are those of `StaticSparsity`. Each layer keeps what the allocation gives it, rounded
    to whole kernels so that the network keeps the base's number of weights exactly.
    """


@dataclass(frozen=True, kw_only=True)
class LinearBottleneck:
    """A network of another `width` whose weights are products of two, of limited rank (G21, 2.2).

    Every layer of an MLP and every convolution of a ResNet-18 is split; the ResNet's classifier stays
    dense (G21, footnote 2, speaks of convolutions; split, it would have rank 1 at a widening of 10).

    Args:
        base: The dense network that is widened.
        width: At least the base width. At the base width the network is not the dense one.
        keeps: The number of weights that is kept, to the nearest that bottlenecks reach: that of the
            dense `"base"`, or of the `"factorised_base"`, the base with each weight replaced by a
            product of full rank, which has more weights and is exact at the base width. G21,
            Figure 3(a) labels its curves with the first and starts them from the second.

    Examples:
        >>> LinearBottleneck(ResNet18Spec(width=8), width=16).keeps
        'base'
    """

    base: DenseSpec = field(kw_only=False)
    width: int
    keeps: Literal["base", "factorised_base"] = "base"

    def __post_init__(self) -> None:
        _check_widened(self)
        _choice(self, "keeps", ("base", "factorised_base"))


@dataclass(frozen=True, kw_only=True)
class NonlinearBottleneck:
    """A network of another `width` that is narrowed between pairs of layers (G21, 2.2).

    Args:
        base: The dense network whose number of weights is kept, to the nearest that whole units reach.
        width: At least the base width; at the base width the network is the dense one.

    Examples:
        >>> NonlinearBottleneck(ResNet18Spec(width=8), width=16).width
        16
    """

    base: DenseSpec = field(kw_only=False)
    width: int

    def __post_init__(self) -> None:
        _check_widened(self)


WidenedSpec = StaticSparsity | LinearBottleneck | NonlinearBottleneck
"""A network widened at a fixed number of weights."""

ModelSpec = DenseSpec | WidenedSpec

_MODELS = (*_DENSE, StaticSparsity, LinearBottleneck, NonlinearBottleneck)


# -- data -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """What every data set shares: how its training images are split and normalised.

    Args:
        train_size: Images used for training, class-balanced; `None` takes all that are left.
        validation_size: Images set aside from the training images, class-balanced.
        split_seed: Draws both.
        normalisation: `"standardise"` subtracts the mean and divides by the standard deviation
            per channel over the training images used; `"unit"` scales to [0, 1].
    """

    train_size: int | None = None
    validation_size: int = 0
    split_seed: int = 0
    normalisation: Literal["standardise", "unit"] = "standardise"

    def __post_init__(self) -> None:
        if self.train_size is not None:
            _integer(self, "train_size", at_least=1)
        _integer(self, "validation_size", "split_seed", at_least=0)
        _choice(self, "normalisation", ("standardise", "unit"))


@dataclass(frozen=True, kw_only=True)
class Digits(DataSpec):
    """scikit-learn's digits: 1,797 images of 8 x 8 pixels, 10 classes, 360 of them the test set."""


@dataclass(frozen=True, kw_only=True)
class MNIST(DataSpec):
    """MNIST: 60,000 training and 10,000 test images of 28 x 28 pixels, 10 classes."""


@dataclass(frozen=True, kw_only=True)
class FashionMNIST(DataSpec):
    """Fashion-MNIST: 60,000 training and 10,000 test images of 28 x 28 pixels, 10 classes."""


@dataclass(frozen=True, kw_only=True)
class PackedData(DataSpec):
    """Data of your own, packed once by `wsn.pack_data`, known by name and checksum."""

    name: str
    sha256: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise _refuse(self, "name", "a word of letters, digits and underscores")
        if not isinstance(self.sha256, str) or len(self.sha256) != 64:
            raise _refuse(self, "sha256", "a checksum of 64 hexadecimal digits")


# -- training ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Constant:
    """The learning rate stays what it is."""


@dataclass(frozen=True, kw_only=True)
class MultiStep:
    """Multiply the learning rate by `factor` at each milestone, a fraction of the run in (0, 1)."""

    milestones: tuple[float, ...]
    factor: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "milestones", tuple(float(m) for m in self.milestones))
        rising = list(self.milestones) == sorted(set(self.milestones))
        if not self.milestones or not rising or not all(0 < m < 1 for m in self.milestones):
            raise _refuse(self, "milestones", "a rising sequence of fractions between 0 and 1")
        _number(self, "factor", above=0, at_most=1)


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Let the learning rate fall to 0 along half a cosine, epoch by epoch."""


@dataclass(frozen=True, kw_only=True)
class CropAndFlip:
    """Pad each image by `padding` pixels, crop at random, mirror left-right half of the time."""

    padding: int = 4
    padding_mode: Literal["zeros", "reflect"] = "zeros"
    flip: bool = True

    def __post_init__(self) -> None:
        _integer(self, "padding", at_least=0)
        _choice(self, "padding_mode", ("zeros", "reflect"))
        _flag(self, "flip")


@dataclass(frozen=True, kw_only=True)
class Training:
    """Stochastic gradient descent on the cross-entropy.

    Args:
        epochs: Passes over the training images.
        batch_size: Images in a step; the last, smaller batch of an epoch is used too.
        learning_rate, momentum, weight_decay: As in `torch.optim.SGD`, on all parameters.
        schedule: How the learning rate changes over the run, in fractions of it.
        augmentation: Random changes of the training images, or `None`.
        precision: `"bfloat16"` computes the forward pass under autocast.
        report: The epoch whose test accuracy and predictions count: `"last"`,
            `"best_validation"` (needs a validation split) or `"best_test"` (what G21 reports;
            it looks at the test set while choosing, so it is biased upwards).
    """

    epochs: int
    batch_size: int = 100
    learning_rate: float = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: Constant | MultiStep | Cosine = Constant()
    augmentation: CropAndFlip | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    report: Literal["last", "best_validation", "best_test"] = "last"

    def __post_init__(self) -> None:
        _integer(self, "epochs", "batch_size", at_least=1)
        _number(self, "learning_rate", above=0)
        _number(self, "momentum", at_least=0, below=1)
        _number(self, "weight_decay", at_least=0)
        _instance(self, "schedule", (Constant, MultiStep, Cosine))
        if self.augmentation is not None:
            _instance(self, "augmentation", (CropAndFlip,))
        _choice(self, "precision", ("float32", "bfloat16"))
        _choice(self, "report", ("last", "best_validation", "best_test"))


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
        _instance(self, "model", _MODELS)
        _instance(self, "data", (DataSpec,))
        _instance(self, "training", (Training,))
        _integer(self, "seed", at_least=0)
        if self.training.report == "best_validation" and self.data.validation_size == 0:
            raise ValueError(
                "Training.report is 'best_validation' and the data has validation_size 0; "
                "set data.validation_size to at least 1"
            )


# -- kernels ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class GaussianInputs:
    """Independent inputs from N(0, 1) in each of `dimension` coordinates."""

    dimension: int

    def __post_init__(self) -> None:
        _integer(self, "dimension", at_least=1)


@dataclass(frozen=True, kw_only=True)
class KernelDistances:
    """Theorem 1 of G21 on random pairs of inputs: what `wsn.kernel_distance` gives, averaged over them.

    Args:
        inputs: Gaussian vectors, or the test images of a data set, normalised.
        densities: Of the first layer, in (0, 1].
        num_pairs: Pairs of different inputs.
        seed: Draws them.

    Examples:
        >>> KernelDistances(inputs=GaussianInputs(dimension=7), densities=(1, 0.5), num_pairs=10).seed
        0
    """

    inputs: GaussianInputs | DataSpec
    densities: tuple[float, ...]
    num_pairs: int
    seed: int = 0

    def __post_init__(self) -> None:
        _instance(self, "inputs", (GaussianInputs, DataSpec))
        _densities(self, "densities")
        _integer(self, "num_pairs", at_least=1)
        _integer(self, "seed", at_least=0)


@dataclass(frozen=True, kw_only=True)
class KernelSimulation:
    """Distances of random networks' kernels from the infinite one; `wsn.simulate_kernels` draws them.

    Args:
        inputs, num_pairs, seed: As in `KernelDistances`; the seed draws the networks, too.
        widths: Units of each hidden layer.
        densities: Of each hidden layer, in (0, 1].
        scaled_by: Densities that the variance of each hidden layer is read from; `None` for its own.
        distribution: Of the weights.
        exact_count: Whether each layer keeps exactly `round(density · size)` weights.
        num_networks: Networks drawn.
    """

    inputs: GaussianInputs | DataSpec
    widths: tuple[int, ...]
    densities: tuple[float, ...]
    scaled_by: tuple[float, ...] | None = None
    distribution: Literal["normal", "uniform"] = "normal"
    exact_count: bool = False
    num_pairs: int
    num_networks: int
    seed: int = 0

    def __post_init__(self) -> None:
        _instance(self, "inputs", (GaussianInputs, DataSpec))
        object.__setattr__(self, "widths", tuple(self.widths))
        if not self.widths or not all(isinstance(w, int) and w >= 1 for w in self.widths):
            raise _refuse(self, "widths", "a sequence of integers of at least 1")
        for name in ("densities", "scaled_by") if self.scaled_by is not None else ("densities",):
            _densities(self, name)
            if len(getattr(self, name)) != len(self.widths):
                raise _refuse(self, name, f"a sequence of {len(self.widths)} numbers, one for each width,")
        _choice(self, "distribution", ("normal", "uniform"))
        _flag(self, "exact_count")
        _integer(self, "num_pairs", "num_networks", at_least=1)
        _integer(self, "seed", at_least=0)


def _densities(spec: object, name: str) -> None:
    values = tuple(float(v) for v in getattr(spec, name))
    object.__setattr__(spec, name, values)
    if not values or not all(0 < v <= 1 for v in values):
        raise _refuse(spec, name, "a sequence of numbers above 0 and at most 1")


Run = Experiment | KernelDistances | KernelSimulation
"""What has a record: a training, or a measurement of kernels."""


# -- keys -------------------------------------------------------------------------------------

_CLASSES: dict[str, Any] = {
    c.__name__: c
    for c in (
        MLPSpec,
        ResNet18Spec,
        LargestFirst,
        UniformDensity,
        LastLayerDensity,
        StaticSparsity,
        ChannelSparsity,
        LinearBottleneck,
        NonlinearBottleneck,
        Digits,
        MNIST,
        FashionMNIST,
        PackedData,
        Constant,
        MultiStep,
        Cosine,
        CropAndFlip,
        Training,
        Experiment,
        GaussianInputs,
        KernelDistances,
        KernelSimulation,
    )
}


def to_dict(spec: Any) -> dict[str, Any]:
    """The spec as plain JSON values, each nested spec with its class name under `"class"`."""
    if not is_dataclass(spec) or type(spec).__name__ not in _CLASSES:
        raise TypeError(f"{spec!r} is not a spec; one of {', '.join(_CLASSES)} is")

    def plain(value: Any) -> Any:
        if is_dataclass(value):
            return to_dict(value)
        return list(value) if isinstance(value, tuple) else value

    content = {f.name: plain(getattr(spec, f.name)) for f in fields(spec)}
    return {"class": type(spec).__name__, **content}


def from_dict(content: Mapping[str, Any]) -> Any:
    """The spec that [`to_dict`][wsnlib.specs.to_dict] wrote; never runs code from the content."""
    name = content.get("class")
    if name not in _CLASSES:
        raise ValueError(f"{name!r} is not a spec class; one of {', '.join(_CLASSES)} is")
    values = {
        k: from_dict(v) if isinstance(v, Mapping) else tuple(v) if isinstance(v, list) else v
        for k, v in content.items()
        if k != "class"
    }
    return _CLASSES[name](**values)


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
