"""Two ways to widen a network at a fixed number of weights that narrow something in return.

A *linear bottleneck* writes every weight W as a product W₁W₂ of limited rank. A *nonlinear bottleneck*
takes layers in pairs and narrows what lies between the two. (The third way, static sparsity, is
[`masks.sparsify`][wsnlib.masks.sparsify].) In both, each layer or pair has a *bottleneck size*, a whole
number of units, and the network can have only those numbers of weights that whole units add up to.
`…_sizes` chooses the sizes for a number of weights, `…_bottleneck` changes the network.

References:
    G21, Sections 2.1 and 2.2, Figures 2 and 3.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import nn
from torch.nn.utils import skip_init

from wsnlib import masks
from wsnlib.models import MLP, ResNet18
from wsnlib.specs.checks import plain

__all__ = [
    "LayerPair",
    "layer_pairs",
    "linear_bottleneck",
    "linear_bottleneck_sizes",
    "nonlinear_bottleneck",
    "nonlinear_bottleneck_sizes",
]

M = TypeVar("M", bound=nn.Module)
Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


class Bottleneck(NamedTuple):
    """Something with a size to choose: weights for each unit of size, and the size it has at most."""

    unit: int
    most: int


def bottleneck_sizes(
    bottlenecks: Mapping[str, Bottleneck], *, num_weights: int, proportions: Mapping[str, int]
) -> dict[str, int]:
    """Sizes whose weights add up to `num_weights` as nearly as possible, shared out in proportion.

    Each bottleneck first gets the whole units in its share of the weights (at least one, at most
    `most`); the weights still missing go out unit by unit, rounds from the dearest unit to the
    cheapest, wherever one fits; a last unit of the cheapest is added if that comes nearer.

    Args:
        bottlenecks: Cost of a unit and largest size, by name.
        num_weights: Number of weights to reach.
        proportions: Share of each, by name; only their ratios count.

    Returns:
        Sizes in the order of `bottlenecks`. Their weights differ from `num_weights` by at most half the
        cheapest unit of those below their largest size before that last unit is added.

    Raises:
        ValueError: If one unit each is too much, or the largest sizes are too little.

    Examples:
        >>> two = {"a": Bottleneck(unit=824, most=40), "b": Bottleneck(unit=50, most=10)}
        >>> bottleneck_sizes(two, num_weights=3970, proportions={"a": 3920, "b": 50})
        {'a': 4, 'b': 10}
        >>> bottleneck_sizes(two, num_weights=3970, proportions={"a": 1, "b": 1})
        {'a': 4, 'b': 10}
    """
    num_weights = int(num_weights)  # products of numpy's integers overflow
    proportions = {name: plain(share) for name, share in proportions.items()}
    least = sum(b.unit for b in bottlenecks.values())
    largest = sum(b.unit * b.most for b in bottlenecks.values())
    if not least <= num_weights <= largest:
        raise ValueError(
            f"bottlenecks must hold {least} (one unit each) to {largest} weights, got {num_weights}"
        )
    whole = sum(proportions[name] for name in bottlenecks)
    steps = 1 << 20

    def shares(step: int) -> dict[str, int]:
        return {
            name: min(b.most, max(1, step * proportions[name] * num_weights // (steps * whole * b.unit)))
            for name, b in bottlenecks.items()
        }

    def weights(sizes: Mapping[str, int]) -> int:
        return sum(sizes[name] * b.unit for name, b in bottlenecks.items())

    # One unit as the least may cost more than a share; then all shares shrink by one factor.
    step = bisect_right(range(steps + 1), num_weights, key=lambda step: weights(shares(step))) - 1
    sizes = shares(step)
    rest = num_weights - weights(sizes)
    by_unit = sorted(bottlenecks, key=lambda name: -bottlenecks[name].unit)
    changed = True
    while changed:
        changed = False
        for name in by_unit:
            if bottlenecks[name].unit <= rest and sizes[name] < bottlenecks[name].most:
                sizes[name] += 1
                rest -= bottlenecks[name].unit
                changed = True
    for name in reversed(by_unit):
        if sizes[name] < bottlenecks[name].most:
            sizes[name] += bottlenecks[name].unit < 2 * rest
            break
    return sizes


# -- linear bottleneck ------------------------------------------------------------------------


def linear_bottleneck_sizes(
    model: nn.Module,
    *,
    num_weights: int | None = None,
    like: Mapping[str, int] | None = None,
    exclude: Iterable[str] = (),
) -> dict[str, int]:
    """Size d_b of the linear bottleneck of each layer, for a number of weights.

    A layer with d_i inputs, d_o outputs and k weights in a kernel (9 for 3x3, 1 for Linear) has
    k·d_i·d_b + d_b·d_o weights after the substitution; d_b is at most min(k·d_i, d_o), the rank that
    its dense weight can have, so that the largest sizes keep all of the layer's expressive power.

    What is kept: the number of weights of the whole network, to within half of the cheapest unit
    k·d_i + d_o. The number of each layer is near its share, not equal to it.

    G21 leaves unsaid how d_b differs between layers (here: each keeps its share of the weights, so
    that in Figure 2(a) a layer widened by f has its d_b divided by about f), what happens to the first
    convolution, to shortcuts and to the classifier (here: as to all others, unless excluded) and how
    d_b is rounded. It asks for d_b ≤ min(d_i, d_o), which for a convolution with fewer inputs than
    outputs would cut off rank at once: the first one of a ResNet would have d_b = 3.

    Args:
        model: The dense, wide network.
        num_weights: Number of weights to reach, excluded layers included; `None` for the largest sizes.
        like: Weights per layer of another network, whose proportions the layers keep; by default the
            dense weights of `model`.
        exclude: Layers that stay as they are.

    Returns:
        Bottleneck size of each layer that is not excluded.

    Raises:
        ValueError: If no bottleneck sizes reach the number, or a layer cannot be split.

    References:
        G21, Section 2.2 and footnotes 2 and 3, Figure 2(a).

    Examples:
        >>> net = MLP(40)
        >>> sizes = linear_bottleneck_sizes(net, num_weights=3970, like={"hidden1": 3920, "output": 50})
        >>> sizes, 4 * (784 + 40) + 10 * (40 + 10)
        ({'hidden1': 4, 'output': 10}, 3796)
    """
    layers, fixed = _split(model, exclude)
    bottlenecks = {name: _linear_unit(layer.weight.shape) for name, layer in layers.items()}
    if num_weights is None:
        return {name: b.most for name, b in bottlenecks.items()}
    proportions = _proportions({name: layer.weight.numel() for name, layer in layers.items()}, like)
    try:
        return bottleneck_sizes(bottlenecks, num_weights=num_weights - fixed, proportions=proportions)
    except ValueError:
        least, most = (
            fixed + sum(b.unit * (b.most if full else 1) for b in bottlenecks.values())
            for full in (False, True)
        )
        raise ValueError(
            f"num_weights must be {least} to {most} with linear bottlenecks of 1 unit to full rank, got "
            f"{num_weights}; change it, or the width"
        ) from None


def linear_bottleneck(model: M, *, sizes: Mapping[str, int], generator: torch.Generator) -> M:
    """Replace layers by two without a nonlinearity between, in place: W by W₁W₂ of rank d_b at most.

    A Linear layer becomes two; a convolution becomes one of the same kernel, stride and padding with
    d_b output channels and a 1x1 convolution. They are named `reduce` and `expand` under the layer's
    name; the bias, where there is one, is that of `expand`. No batch norm stands between them.

    Both are drawn as PyTorch draws new layers; G21 does not say how they were. In variance a product
    of two such layers is a third of one layer, which batch norm, where it follows, divides out.

    Args:
        model: Its named layers are replaced; the others stay as they are.
        sizes: Bottleneck size of each layer, by name; from 1 to the largest rank of its weight.
        generator: Random generator for the new layers' weights, on the CPU.

    Raises:
        ValueError: If a name is not a layer, a size is not possible, the generator is on another
            device, or a layer cannot be split (the network itself, a grouped convolution, a subclass,
            a layer with hooks, or whose parameters are shared or computed by a mask, pruning, weight
            norm or spectral norm). Model and generator are then unchanged.

    References:
        G21, Section 2.2 and footnote 2, Figure 2(a).

    Examples:
        >>> net = linear_bottleneck(MLP(40), sizes={"hidden1": 4}, generator=torch.Generator())
        >>> {name: tuple(layer.weight.shape) for name, layer in masks.weight_layers(net).items()}
        {'hidden1.reduce': (4, 784), 'hidden1.expand': (40, 4), 'output': (10, 40)}
    """
    masks.check_generator(generator)
    layers = _named_layers(model, sizes)
    for name, layer in layers.items():
        _check_size(name, sizes[name], _linear_unit(layer.weight.shape).most)
    pairs = {}
    for name, layer in layers.items():
        pairs[name] = nn.Sequential()
        pairs[name].add_module(
            "reduce", _resized(layer, outputs=sizes[name], bias=False, generator=generator)
        )
        pairs[name].add_module(
            "expand", _resized(layer, inputs=sizes[name], pointwise=True, generator=generator)
        )
    return _replaced(model, pairs)


def _linear_unit(shape: torch.Size) -> Bottleneck:
    outputs, inputs = shape[0], shape[1:].numel()
    return Bottleneck(unit=inputs + outputs, most=min(inputs, outputs))


# -- nonlinear bottleneck ---------------------------------------------------------------------


class LayerPair(NamedTuple):
    """Two layers in a row, and the batch norm layers between them, by name."""

    first: str
    second: str
    between: tuple[str, ...] = ()


def layer_pairs(model: nn.Module) -> list[LayerPair]:
    """The pairs of layers that a nonlinear bottleneck narrows between.

    In a ResNet-18, the two convolutions of each residual block: the channels that blocks hand on are
    the wide ones. In an MLP, hidden2 and hidden3, hidden4 and hidden5, and so on, the last with the
    output layer if need be: as in the ResNet, the layer that reads the data is followed by wide units.

    Raises:
        ValueError: If there is no such pair, or the network is of another kind.

    References:
        G21, Section 2.2: "the input dimension of the first layer is increased, while its output
        dimension […] is reduced"; which layers pair up is not said.

    Examples:
        >>> layer_pairs(MLP(7, hidden_layers=3))
        [LayerPair(first='hidden2', second='hidden3', between=())]
    """
    if isinstance(model, ResNet18):
        blocks = [f"layer{stage}.{block}" for stage in range(1, 5) for block in range(2)]
        return [LayerPair(f"{b}.conv1", f"{b}.conv2", (f"{b}.bn1",)) for b in blocks]
    if not isinstance(model, MLP):
        raise ValueError(
            f"pairs must be given for networks other than MLP and ResNet18, got a {type(model).__name__}; "
            "give pairs"
        )
    names = list(masks.weight_layers(model))
    if len(names) < 3:
        raise ValueError("an MLP must have at least 2 hidden layers for a pair of layers, got 1; add one")
    return [LayerPair(names[i], names[i + 1]) for i in range(1, len(names) - 1, 2)]


def nonlinear_bottleneck_sizes(
    model: nn.Module,
    *,
    num_weights: int,
    like: Mapping[str, int] | None = None,
    pairs: Iterable[LayerPair] | None = None,
) -> dict[str, int]:
    """Inner width d_b of each pair of layers, for a number of weights.

    What is kept: the number of layers and of nonlinearities exactly; the number of weights of the
    whole network to within half of the cheapest unit, the weights of one inner unit of a pair. Layers
    outside the pairs (stem, shortcuts and classifier; the first layer of an MLP) grow with the width
    and are paid for by the pairs; where they alone exceed the number, no inner width reaches it.

    G21 leaves unsaid which layers pair up ([`layer_pairs`][wsnlib.widening.layer_pairs]), what becomes
    of shortcuts (here: as wide as what they carry) and how the weights are shared among the pairs
    (here: in proportion to those of the base, so that where nothing else grew d_b falls as 1/f).

    Args:
        model: The dense, wide network.
        num_weights: Number of weights to reach.
        like: Weights per layer of another network, whose proportions the pairs keep; by default the
            dense weights of `model`.
        pairs: Pairs of layers, by default those of [`layer_pairs`][wsnlib.widening.layer_pairs].

    Returns:
        Inner width of each pair, by the name of its first layer; at most what it has in `model`.

    Raises:
        ValueError: If no inner widths reach the number.

    References:
        G21, Section 2.2, Figure 2(b).

    Examples:
        >>> nonlinear_bottleneck_sizes(MLP(60, inputs=64, hidden_layers=3), num_weights=8200)
        {'hidden2': 31}
        >>> 64 * 60 + 60 * 31 + 31 * 60 + 60 * 10
        8160
    """
    chosen = layer_pairs(model) if pairs is None else list(pairs)
    layers = _named_layers(model, [name for pair in chosen for name in pair[:2]])
    weights = {name: layer.weight.numel() for name, layer in layers.items()}
    bottlenecks = {
        pair.first: Bottleneck(
            unit=(weights[pair.first] + weights[pair.second]) // layers[pair.first].weight.shape[0],
            most=layers[pair.first].weight.shape[0],
        )
        for pair in chosen
    }
    shares = _proportions(weights, like)
    proportions = {pair.first: shares[pair.first] + shares[pair.second] for pair in chosen}
    fixed = masks.num_weights(model) - sum(weights.values())
    try:
        return bottleneck_sizes(bottlenecks, num_weights=num_weights - fixed, proportions=proportions)
    except ValueError:
        least = fixed + sum(b.unit for b in bottlenecks.values())
        most = masks.num_weights(model)
        raise ValueError(
            f"num_weights must be {least} to {most} with inner widths of 1 to full, {fixed} of them "
            f"outside the pairs, got {num_weights}; change it, or the width"
        ) from None


def nonlinear_bottleneck(
    model: M,
    *,
    sizes: Mapping[str, int],
    pairs: Iterable[LayerPair] | None = None,
    generator: torch.Generator,
) -> M:
    """Narrow what lies between pairs of layers, in place.

    The first layer of a pair gets that many output channels or units, the second as many inputs, and
    batch norm between them as many channels. They are drawn anew as PyTorch draws new layers. A pair
    that keeps its inner width is left as it is: with full sizes the network is the dense one.

    Args:
        model: Its pairs are narrowed; everything else stays as it is.
        sizes: Inner width of each pair, by the name of its first layer.
        pairs: Pairs of layers, by default those of [`layer_pairs`][wsnlib.widening.layer_pairs].
        generator: Random generator for the new layers' weights, on the CPU.

    Raises:
        ValueError: If a name is not the first layer of a pair, a size is not possible, a layer is in
            two pairs or cannot be replaced (as in [`linear_bottleneck`][wsnlib.widening.linear_bottleneck]),
            or the generator is on another device. Model and generator are then unchanged.

    References:
        G21, Section 2.2, Figure 2(b).

    Examples:
        >>> net = MLP(7, inputs=5, hidden_layers=3)
        >>> net = nonlinear_bottleneck(net, sizes={"hidden2": 2}, generator=torch.Generator())
        >>> [tuple(layer.weight.shape) for layer in masks.weight_layers(net).values()]
        [(7, 5), (2, 7), (7, 2), (10, 7)]
    """
    masks.check_generator(generator)
    known = {pair.first: pair for pair in (layer_pairs(model) if pairs is None else pairs)}
    if unknown := set(sizes) - set(known):
        raise ValueError(
            f"sizes must name the first layers of pairs, got {_listed(unknown)}; choose from {_listed(known)}"
        )
    chosen = [known[name] for name in sizes]
    changed = [name for pair in chosen for name in (pair.first, pair.second, *pair.between)]
    if twice := {name for name in changed if changed.count(name) > 1}:
        raise ValueError(f"a layer must be in one pair, got {_listed(twice)} in two; widen them in two calls")
    layers = _named_layers(model, [name for pair in chosen for name in pair[:2]])
    modules = dict(model.named_modules())
    for pair in chosen:
        inner = layers[pair.first].weight.shape[0]
        _check_size(pair.first, sizes[pair.first], inner)
        if layers[pair.second].weight.shape[1] != inner:
            raise ValueError(
                f"{pair.second} must read the {inner} outputs of {pair.first}, got another number of "
                "inputs; change the pair"
            )
        for name in pair.between:
            norm: Any = modules.get(name)
            if type(norm) not in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
                raise ValueError(f"{name} must be a batch norm layer, got another; leave it out")
            if norm.num_features != inner:
                raise ValueError(
                    f"{name} must be of the {inner} outputs of {pair.first}, got {norm.num_features}"
                )
        _check_replaceable(model, pair.between)
    narrow: dict[str, nn.Module] = {}
    for pair in chosen:
        first, second, size = layers[pair.first], layers[pair.second], sizes[pair.first]
        if size == first.weight.shape[0]:
            continue
        narrow[pair.first] = _resized(first, outputs=size, generator=generator)
        narrow[pair.second] = _resized(second, inputs=size, generator=generator)
        for name in pair.between:
            norm = modules[name]
            dtype = next((t.dtype for t in (norm.weight, norm.running_mean) if t is not None), None)
            narrow[name] = type(norm)(
                size,
                norm.eps,
                norm.momentum,
                norm.affine,
                norm.track_running_stats,
                first.weight.device,
                dtype,
            )
    return _replaced(model, narrow)


# -- layers -----------------------------------------------------------------------------------


def _split(model: nn.Module, exclude: Iterable[str]) -> tuple[dict[str, Layer], int]:
    """The layers to be split by name, and the weights of the others."""
    names, excluded = list(masks.weight_layers(model)), masks.names_of(exclude)
    if unknown := excluded - set(names):
        raise ValueError(f"exclude must name layers, got {_listed(unknown)}; choose from {_listed(names)}")
    layers = _named_layers(model, [name for name in names if name not in excluded])
    return layers, masks.num_weights(model) - sum(layer.weight.numel() for layer in layers.values())


def _named_layers(model: nn.Module, names: Iterable[str]) -> dict[str, Layer]:
    """Layers that can be replaced by smaller ones of their kind, by name."""
    layers, names = masks.weight_layers(model), list(names)
    if unknown := set(names) - set(layers):
        raise ValueError(f"{_listed(unknown)} must be a layer, got none; choose from {_listed(layers)}")
    _check_replaceable(model, names)
    for name in names:
        layer = layers[name]
        if type(layer) not in masks.LAYER_TYPES:
            raise ValueError(
                f"{name} must be a plain Linear or Conv layer, got a {type(layer).__name__}; leave it out"
            )
        if getattr(layer, "groups", 1) != 1:
            raise ValueError(
                f"{name} must be a convolution in 1 group, got one in {layer.groups}; leave it out"
            )
    return {name: layers[name] for name in names}


HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def _check_replaceable(model: nn.Module, names: Iterable[str]) -> None:
    """Raise ValueError if something is lost where layers are replaced: what they share, compute, or call."""
    names = list(names)
    if "" in names:
        raise ValueError(
            f"the model must hold its layers, got one {type(model).__name__}; put it into a Sequential"
        )
    masks.check_own(model, names)
    for name in names:
        if any(getattr(model.get_submodule(name), kind) for kind in HOOKS):
            raise ValueError(
                f"{name} must have no hooks, got some; remove them, and add them to the new layer"
            )


def _replaced(model: M, layers: Mapping[str, nn.Module]) -> M:
    """The model with these layers in place of its own, in their mode and as trainable as they were."""
    for name, layer in layers.items():
        old = model.get_submodule(name)
        trainable = {path: parameter.requires_grad for path, parameter in old.named_parameters()}
        for path, parameter in layer.named_parameters():
            parameter.requires_grad_(trainable[path.rpartition(".")[2]])
        model.set_submodule(name, layer.train(old.training))
    return model


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _proportions(weights: Mapping[str, int], like: Mapping[str, int] | None) -> Mapping[str, int]:
    if like is not None and (missing := set(weights) - set(like)):
        raise ValueError(
            f"like must have the weights of each layer, got none of {_listed(missing)}; add them"
        )
    return weights if like is None else like


def _check_size(name: str, size: object, most: int) -> None:
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or not 1 <= size <= most:
        raise ValueError(f"the bottleneck of {name} must be an integer of 1 to {most}, got {size!r}")


def _resized(
    layer: Layer,
    *,
    inputs: int | None = None,
    outputs: int | None = None,
    bias: bool | None = None,
    pointwise: bool = False,
    generator: torch.Generator,
) -> Layer:
    """A new layer of the same kind and other size; `pointwise`, it acts at each position alone."""
    outputs = outputs or layer.weight.shape[0]
    inputs = inputs or layer.weight.shape[1]
    has_bias = layer.bias is not None if bias is None else bias
    made = {"bias": has_bias, "device": layer.weight.device, "dtype": layer.weight.dtype}
    if not isinstance(layer, nn.Linear):
        kept = ("kernel_size", "stride", "padding", "dilation", "padding_mode")
        made |= {"kernel_size": 1} if pointwise else {name: getattr(layer, name) for name in kept}
    return _drawn(skip_init(type(layer), inputs, outputs, **made), generator)


def _drawn(layer: Layer, generator: torch.Generator) -> Layer:
    """The layer with weights and bias from U(±1/√fan_in), drawn on the CPU."""
    bound = 1 / math.sqrt(layer.weight.shape[1:].numel())
    for values in (layer.weight, layer.bias):
        if values is not None and not values.is_meta:
            drawn = torch.empty(values.shape, dtype=values.dtype, device="cpu")
            values.data.copy_(drawn.uniform_(-bound, bound, generator=generator))
    return layer
