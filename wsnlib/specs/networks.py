"""What a network is: dense, or widened at a fixed number of weights."""

from __future__ import annotations

import keyword
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Literal

from wsnlib.specs.checks import PositiveInt, Range, Share, Spec, plain, refuse


@dataclass(frozen=True, kw_only=True)
class MLPSpec(Spec):
    """A fully connected network; `wsnlib.models.MLP` says what each field does.

    As the base of `StaticSparsity`, one of the parametrisation `"sparse_mu"` is where one learning rate is to
    be the same as in the standard one; alone it is the standard one.

    Examples:
        >>> MLPSpec(width=5)
        MLPSpec(width=5, inputs=784, outputs=10, hidden_layers=1, activation='relu', bias=True, \
parametrisation='standard')
    """

    width: PositiveInt
    inputs: PositiveInt = 784
    outputs: PositiveInt = 10
    hidden_layers: PositiveInt = 1
    activation: Literal["relu", "linear"] = "relu"
    bias: bool = True
    parametrisation: Literal["standard", "ntk", "sparse_mu"] = "standard"


@dataclass(frozen=True, kw_only=True)
class ResNet18Spec(Spec):
    """A ResNet-18; `wsnlib.models.ResNet18` says what each field does.

    Examples:
        >>> ResNet18Spec(width=8)
        ResNet18Spec(width=8, num_classes=10, stem='cifar', input_channels=3, initialisation='default')
    """

    width: PositiveInt
    num_classes: PositiveInt = 10
    stem: Literal["cifar", "imagenet"] = "cifar"
    input_channels: PositiveInt = 3
    initialisation: Literal["default", "fan_out"] = "default"


@dataclass(frozen=True, kw_only=True)
class ResNetCifarSpec(Spec):
    """A ResNet for CIFAR of depth 6n + 2; `wsnlib.models.ResNetCifar` says what each field does.

    N21 trains it with `Training(epochs, batch_size=128, learning_rate=0.01, momentum=0.9,
    weight_decay=2e-4, weight_decay_on="weights", schedule=Cosine(),
    augmentation=CropAndFlip(padding_mode="reflect"), report="best_test")` on images of
    normalisation `"unit"`; class-balanced subsets of them are `CIFAR10(train_size=…)`.

    Examples:
        >>> ResNetCifarSpec(depth=38, width_multiplier=4)
        ResNetCifarSpec(depth=38, width_multiplier=4.0, num_classes=10, input_channels=3, residual=True, \
details='released', norm_momentum=0.01)
    """

    depth: PositiveInt
    width_multiplier: Annotated[float, Range(at_least=1 / 16)] = 1.0
    num_classes: PositiveInt = 10
    input_channels: PositiveInt = 3
    residual: bool = True
    details: Literal["released", "torchvision"] = "released"
    norm_momentum: Share = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth < 8 or self.depth % 6 != 2:
            raise refuse(self, "depth", "6n + 2 for n ≥ 1, such as 8, 14 or 20")

    @property
    def width(self) -> int:
        """Output channels of the first convolution, 16 · width_multiplier rounded."""
        return round(16 * self.width_multiplier)


@dataclass(frozen=True, kw_only=True)
class ResNetImageNetSpec(Spec):
    """A ResNet-50 and its like; `wsnlib.models.ResNetImageNet` says what each field does.

    N21's Figure F.4 compares ResNet-50 with one of 17 blocks in its third stage and one 2.8 times as wide.

    Examples:
        >>> ResNetImageNetSpec(third_stage_blocks=17).depth
        83
    """

    width: PositiveInt = 64
    third_stage_blocks: PositiveInt = 6
    third_stage_width_multiplier: Annotated[float, Range(at_least=1 / 16)] = 1.0
    num_classes: PositiveInt = 1000
    input_channels: PositiveInt = 3
    initialisation: Literal["default", "fan_out"] = "fan_out"

    @property
    def depth(self) -> int:
        """Convolutions along the longest path and the classifier, 32 + 3 · third_stage_blocks."""
        return 32 + 3 * self.third_stage_blocks


DenseSpec = MLPSpec | ResNet18Spec | ResNetCifarSpec | ResNetImageNetSpec
"""A dense network, which can be the base of a wider one."""


def at_width(spec: DenseSpec, width: int) -> DenseSpec:
    """The same network of another width.

    Examples:
        >>> at_width(ResNetCifarSpec(depth=14), 24).width_multiplier
        1.5
    """
    if isinstance(spec, ResNetCifarSpec):
        return replace(spec, width_multiplier=width / 16)
    return replace(spec, width=width)


def widths(base: DenseSpec, *, widening_factors: Iterable[float]) -> list[int]:
    """The width for each widening factor, width / base width, rounded down as G21 does.

    Examples:
        >>> widths(ResNet18Spec(width=8), widening_factors=[1.5**k for k in range(7)])  # Figure 10
        [8, 12, 18, 27, 40, 60, 91]
    """
    found = []
    for factor in widening_factors:
        if not factor >= 1 or math.isinf(factor):
            raise ValueError(f"a widening factor must be a number ≥ 1, got {factor!r}")
        found.append(math.floor(base.width * factor * (1 + 1e-12)))  # 100 * 2.3 is 230, not 229.99…
    return found


def _check_width(spec: WidenedSpec) -> None:
    if spec.width < spec.base.width:
        raise refuse(spec, "width", f"an integer of at least the base width {spec.base.width}")


Rule = Literal["largest_first", "uniform", "erdos_renyi", "balanced", "pyramidal"]
"""How `wsnlib.masks.allocate` shares weights out."""


@dataclass(frozen=True, kw_only=True)
class LargestFirst:
    """Take weights from the largest layer until it equals the next, and so on (G21, Appendix B)."""

    rule: ClassVar[Rule] = "largest_first"


@dataclass(frozen=True, kw_only=True)
class UniformDensity:
    """Give every layer the same density, to within one weight."""

    rule: ClassVar[Rule] = "uniform"


@dataclass(frozen=True, kw_only=True)
class ErdosRenyi:
    """Give layers weights in proportion to the sum of their weight's dimensions (Evci et al. 2020)."""

    rule: ClassVar[Rule] = "erdos_renyi"


@dataclass(frozen=True, kw_only=True)
class Balanced:
    """Give every layer the same number of weights, or all it has (Gadhikar et al. 2023)."""

    rule: ClassVar[Rule] = "balanced"


@dataclass(frozen=True, kw_only=True)
class Pyramidal:
    """Give layers the densities q, q², q³, … from the first to the last (Gadhikar et al. 2023)."""

    rule: ClassVar[Rule] = "pyramidal"


@dataclass(frozen=True, kw_only=True)
class LastLayerDensity(Spec):
    """Fix the density of the last layer in (0, 1]; the rest is shared out largest first.

    G21, Figure 5 calls this density the connectivity of the last layer.
    """

    density: Share
    rule: ClassVar[Rule] = "largest_first"


Allocation = LargestFirst | UniformDensity | ErdosRenyi | Balanced | Pyramidal | LastLayerDensity
"""Rule for the number of weights that each layer keeps; `wsnlib.masks.allocate` says what each is."""


@dataclass(frozen=True, kw_only=True)
class StaticSparsity(Spec):
    """A network of another `width` with as many weights as `base`, by a static random mask (G21, 2.3).

    Args:
        base: The dense network whose number of weights is kept.
        width: At least the base width; at the base width the network is the dense one.
        allocation: Rule for the number of weights that each layer keeps.
        initialisation: `"released"` divides the first weights and the bias of a layer by the
            square root of its density, which is in distribution what the authors' code does;
            `"unscaled"` leaves them as the dense network has them.

    Examples:
        >>> StaticSparsity(MLPSpec(width=5), width=40).width
        40
    """

    base: DenseSpec = field(kw_only=False)
    width: PositiveInt
    allocation: Allocation = LargestFirst()
    initialisation: Literal["released", "unscaled"] = "released"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_width(self)


@dataclass(frozen=True, kw_only=True)
class ChannelSparsity(StaticSparsity):
    """Static sparsity over input and output channels only: a kernel is whole or absent (G21, Appendix C).

    The fields are those of `StaticSparsity`. Each layer keeps what the allocation gives it, rounded
    to whole kernels so that the network keeps the base's number of weights exactly.
    """


@dataclass(frozen=True, kw_only=True)
class PatternedSparsity(StaticSparsity):
    """Static sparsity with weights where a pattern has them; `wsnlib.masks.draw_mask` says what each is.

    The other fields are those of `StaticSparsity`, which is the pattern `"random"`.

    Examples:
        >>> PatternedSparsity(MLPSpec(width=5), width=40, pattern="blocks").pattern
        'blocks'
    """

    pattern: Literal["constant_fan_in", "balanced", "blocks"]


@dataclass(frozen=True, kw_only=True)
class LinearBottleneck(Spec):
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

    base: MLPSpec | ResNet18Spec = field(kw_only=False)
    width: PositiveInt
    keeps: Literal["base", "factorised_base"] = "base"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_width(self)


@dataclass(frozen=True, kw_only=True)
class NonlinearBottleneck(Spec):
    """A network of another `width` that is narrowed between pairs of layers (G21, 2.2).

    Args:
        base: The dense network whose number of weights is kept, to the nearest that whole units reach.
        width: At least the base width; at the base width the network is the dense one.

    Examples:
        >>> NonlinearBottleneck(ResNet18Spec(width=8), width=16).width
        16
    """

    base: MLPSpec | ResNet18Spec = field(kw_only=False)
    width: PositiveInt

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_width(self)


WidenedSpec = StaticSparsity | LinearBottleneck | NonlinearBottleneck
"""A network widened at a fixed number of weights."""


Plain = bool | int | float | str | None
Option = Plain | Sequence[Plain]
"""A value of an option, plain or a flat list of plain values."""


class Options(Mapping[str, Option]):
    """Options of a network by name, in alphabetical order; they cannot be changed and are hashable.

    Two are equal if they have the same key. Whole numbers are stored as integers, so that 2 and 2.0
    are one value; True and 1 are two. Lists are stored as tuples.

    Examples:
        >>> Options({"width_mult": 2.0, "depths": [2, 2]})
        {'depths': (2, 2), 'width_mult': 2}
    """

    def __init__(self, values: Mapping[str, Option]) -> None:
        self._values = {name: _canonical(values[name]) for name in sorted(values)}

    def __getitem__(self, name: str) -> Option:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        return repr(self) == repr(other) if isinstance(other, Options) else NotImplemented

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        return repr(self._values)


def _canonical(value: Option) -> Option:
    value = plain(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(map(_plain, value))
    return _plain(value)


def _plain(value: Plain) -> Plain:
    value = plain(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _is_plain(value: object) -> bool:
    value = plain(value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, bool | int | str)


@dataclass(frozen=True, kw_only=True)
class CustomSpec:
    """A network of your own or of another library: what a function or class returns for some options.

    The spec holds names and plain values only. Making, comparing, saving and loading it (as a part of
    a record, too) imports nothing and runs no code. Building does: `wsn.build`, and what needs the
    network's layers or trains it (`wsn.weights_per_layer`, `wsn.is_reachable`, `wsn.run`, `wsn.run_missing`),
    imports the module and calls the factory, *whatever it is*. Build a spec that came with somebody
    else's records only if you trust what it names.

    The key holds the factory's name and the options, not its code: give a network that you change
    another name, or its old records will be taken for new ones.

    Args:
        factory: `"module.name"` of a function or class that returns a `torch.nn.Module`, which takes
            images and gives one number a class. It lies in a file that Python finds, not in a notebook.
        options: Its keyword arguments: numbers, strings, booleans, None, and flat lists of these,
            which it gets as lists. For anything else, write a small function of your own around it.

    Examples:
        >>> CustomSpec("torchvision.models.mobilenet_v3_small", options={"width_mult": 2.0})
        CustomSpec(factory='torchvision.models.mobilenet_v3_small', options={'width_mult': 2})
    """

    factory: str = field(kw_only=False)
    options: Mapping[str, Option] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parts = self.factory.split(".") if isinstance(self.factory, str) else []
        if len(parts) < 2 or not all(map(str.isidentifier, parts)):
            raise refuse(self, "factory", "the name of a function or class with its module, 'module.name'")
        if parts[0] == "__main__":
            raise refuse(self, "factory", "a module in a file of its own, which every process can import")
        if not isinstance(self.options, Mapping):
            raise refuse(self, "options", "a mapping of names to plain values")
        for name, given in self.options.items():
            value = plain(given)
            if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
                raise ValueError(f"CustomSpec.options must be names of keyword arguments, got {name!r}")
            if not all(map(_is_plain, value if isinstance(value, list | tuple) else [value])):
                raise ValueError(
                    f"CustomSpec.options[{name!r}] must be a finite number, a string, True, False, None "
                    f"or a flat list of these, got {value!r}"
                )
        object.__setattr__(self, "options", Options(self.options))


@dataclass(frozen=True, kw_only=True)
class CustomSparsity(Spec):
    """The network `wide` with as many weights as `base`, by a static random mask (G21, 2.3).

    Weights are those of Linear and Conv layers. A wide network with other matrices that grow with
    width is refused, because its number of weights would not be kept; one that is stored flat, as a vector,
    is taken for a bias and goes unnoticed.

    Args:
        base: The dense network whose number of weights is kept.
        wide: The same network made wider by its options. If it is the base, it stays dense.
        allocation: Rule for the number of weights that each layer keeps. The last layer is the one
            defined last.
        exclude: Names of layers of the wide network (as in `named_modules`) that stay dense; the
            other layers share the rest.
        initialisation: As in `StaticSparsity`.

    Examples:
        >>> small = "torchvision.models.mobilenet_v3_small"
        >>> wide = CustomSpec(small, options={"width_mult": 2.0})
        >>> CustomSparsity(CustomSpec(small), wide).allocation
        LargestFirst()
    """

    base: CustomSpec = field(kw_only=False)
    wide: CustomSpec = field(kw_only=False)
    allocation: Allocation = LargestFirst()
    exclude: tuple[str, ...] = ()
    initialisation: Literal["released", "unscaled"] = "released"

    def __post_init__(self) -> None:
        super().__post_init__()
        exclude: object = self.exclude
        if not isinstance(exclude, list | tuple) or not all(isinstance(name, str) for name in exclude):
            raise refuse(self, "exclude", "a sequence of names of layers")
        object.__setattr__(self, "exclude", tuple(sorted(set(exclude))))


CustomModelSpec = CustomSpec | CustomSparsity
"""A network that this library does not know."""

ModelSpec = DenseSpec | WidenedSpec | CustomModelSpec
