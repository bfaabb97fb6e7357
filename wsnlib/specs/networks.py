"""What a network is: dense, or widened at a fixed number of weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from wsnlib.specs.checks import choice, flag, instance, integer, number, refuse


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
        integer(self, "width", "inputs", "outputs", "hidden_layers", at_least=1)
        choice(self, "activation", ("relu", "linear"))
        flag(self, "bias")
        choice(self, "parametrisation", ("standard", "ntk"))


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
        integer(self, "width", "num_classes", "input_channels", at_least=1)
        choice(self, "stem", ("cifar", "imagenet"))
        choice(self, "initialisation", ("default", "fan_out"))


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
    instance(spec, "base", _DENSE)
    integer(spec, "width", at_least=1)
    if spec.width < spec.base.width:
        raise refuse(spec, "width", f"an integer of at least the base width {spec.base.width}")


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
        number(self, "density", above=0, at_most=1)


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
        instance(self, "allocation", (LargestFirst, UniformDensity, LastLayerDensity))
        choice(self, "initialisation", ("released", "unscaled"))


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
        choice(self, "keeps", ("base", "factorised_base"))


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

MODELS = (*_DENSE, StaticSparsity, LinearBottleneck, NonlinearBottleneck)
