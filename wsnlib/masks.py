"""Static random masks: how many weights each layer keeps, which ones, and counting them.

A mask is bool, True = weight present; it is drawn once and kept. A sparse layer stores the values
of its present weights as one vector, of which its `weight` is computed. A removed weight is
therefore not a parameter that happens to be 0: it does not exist, and no optimiser, weight decay,
copy or state dict can bring it back. Parameters, gradients and optimiser state take memory in
proportion to the weights present.

Weights are the entries of the `weight` of Linear and Conv1d, Conv2d and Conv3d layers. Biases and
normalisation layers are neither counted nor masked (G21, Appendix A).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeVar, cast

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

M = TypeVar("M", bound=nn.Module)

LAYER_TYPES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""The layers whose weights are counted and may be made sparse."""

Dimensions = Literal["all", "channels"]
"""What a mask is drawn over: every entry of a weight, or pairs of input and output channel."""


# -- allocation -------------------------------------------------------------------------------


def allocate(
    layer_sizes: Mapping[str, int],
    *,
    num_weights: int,
    density: Mapping[str, float] | None = None,
) -> dict[str, int]:
    """Weights kept per layer: the largest layer gives until it equals the next, and so on.

    Every layer that gives ends with the same number of weights; what is left over in the integer
    division comes off the largest. Layers smaller than that stay dense.

    Args:
        layer_sizes: Weights of each dense layer.
        num_weights: Weights to keep in all, from one per layer to all there are.
        density: Layers whose density in (0, 1] is given; they keep `round(density * size)`
            weights, at least one, and the others share the rest by the rule above.

    Returns:
        Weights kept, in the order of `layer_sizes`; they sum to `num_weights`.

    Raises:
        ValueError: If no allocation has that many weights.

    References:
        G21, Section 2.3 and Appendix B (`get_ntf`), Figure 4.

    Examples:
        >>> allocate({"conv1": 216, "linear": 6400}, num_weights=3000)
        {'conv1': 216, 'linear': 2784}
        >>> allocate({"hidden1": 31360, "output": 400}, num_weights=3970, density={"output": 0.5})
        {'hidden1': 3770, 'output': 200}
    """
    _check_budget(layer_sizes, num_weights)
    fixed = {}
    for name, value in (density or {}).items():
        if name not in layer_sizes:
            raise ValueError(f"{name!r} is not a layer; one of {_listed(layer_sizes)} is allowed")
        if not 0 < value <= 1:
            raise ValueError(f"the density of {name} is {value!r}; above 0 and at most 1 is allowed")
        fixed[name] = max(1, round(value * layer_sizes[name]))
    free = {name: size for name, size in layer_sizes.items() if name not in fixed}
    rest = num_weights - sum(fixed.values())
    if not len(free) <= rest <= sum(free.values()):
        asked = ", ".join(f"{fixed[name]} in {name}" for name in fixed)
        raise ValueError(
            f"{num_weights} weights with {asked} leave {rest} for {_listed(free)}, where "
            f"{len(free)} to {sum(free.values())} are allowed"
        )
    kept = _largest_first(free, rest) | fixed
    return {name: kept[name] for name in layer_sizes}


def _largest_first(layer_sizes: Mapping[str, int], num_weights: int) -> dict[str, int]:
    names = sorted(layer_sizes, key=lambda name: -layer_sizes[name])  # equal sizes: as they come
    sizes = [layer_sizes[name] for name in names] + [0]
    for sparse in range(1, len(names) + 1):
        dense = sum(sizes[sparse:])
        if sparse * sizes[sparse] + dense <= num_weights:
            break
    else:
        return {}
    level = -((dense - num_weights) // sparse)
    excess = sparse * level - (num_weights - dense)
    kept = dict(layer_sizes) | dict.fromkeys(names[:sparse], level)
    if excess < level:
        kept[names[0]] -= excess
    else:  # so few weights that the largest layer alone would be emptied
        kept |= dict.fromkeys(names[:excess], level - 1)
    return kept


def allocate_uniform(layer_sizes: Mapping[str, int], *, num_weights: int) -> dict[str, int]:
    """Weights kept per layer when all layers have one density, to within one weight.

    Each layer first keeps the whole part of its share; the weights still missing go to the layers
    with the largest fractions.

    Raises:
        ValueError: If `num_weights` is not from one per layer to all there are, or if a layer
            would keep none.

    Examples:
        >>> allocate_uniform({"hidden1": 31360, "output": 400}, num_weights=3970)
        {'hidden1': 3920, 'output': 50}
    """
    _check_budget(layer_sizes, num_weights)
    total = sum(layer_sizes.values())
    kept = {name: size * num_weights // total for name, size in layer_sizes.items()}
    by_fraction = sorted(layer_sizes, key=lambda name: -(layer_sizes[name] * num_weights % total))
    for name in by_fraction[: num_weights - sum(kept.values())]:
        kept[name] += 1
    empty = [name for name in kept if kept[name] == 0]
    if empty:
        raise ValueError(
            f"{num_weights} weights at uniform density leave none in {_listed(empty)}; "
            f"at least {-(-total // min(layer_sizes.values()))} are allowed"
        )
    return kept


def whole_kernels(
    allocation: Mapping[str, int],
    *,
    layer_shapes: Mapping[str, tuple[int, ...]],
    fixed: Iterable[str] = (),
) -> dict[str, int]:
    """An allocation changed as little as it takes for every layer to keep whole kernels.

    A kernel is all weights between one input and one output channel: 9 in a 3x3 convolution, 1 in
    a Linear layer or a 1x1 convolution. Layers keep the whole kernels of their share, the largest
    kernels first get one back where that fits, and layers whose kernel is one weight take the rest.

    Args:
        allocation: Weights kept per layer.
        layer_shapes: Of the weights, (output channels, input channels, …).
        fixed: Layers whose number of weights is not to change.

    Returns:
        Weights kept, multiples of each layer's kernel, with the sum of `allocation`.

    Raises:
        ValueError: If whole kernels cannot have that sum, or a fixed layer keeps a part of one.

    References:
        G21, Appendix C, which does not say how counts are rounded; the released code leaves the sum
        wrong by up to a kernel.

    Examples:
        >>> shapes = {"conv": (16, 3, 3, 3), "linear": (10, 16)}
        >>> whole_kernels({"conv": 85, "linear": 85}, layer_shapes=shapes)
        {'conv': 81, 'linear': 89}
    """
    kernels = {name: torch.Size(layer_shapes[name][2:]).numel() for name in allocation}
    sizes = {name: torch.Size(layer_shapes[name]).numel() for name in allocation}
    held = set(fixed)
    for name in allocation:
        if name in held and allocation[name] % kernels[name]:
            raise ValueError(
                f"{name} is to keep {allocation[name]} weights; "
                f"a multiple of {kernels[name]} is allowed for whole kernels"
            )
    kept = {name: max(kernels[name], n - n % kernels[name]) for name, n in allocation.items()}
    rest = sum(allocation.values()) - sum(kept.values())
    free = sorted((name for name in kept if name not in held), key=lambda n: (-kernels[n], -kept[n]))
    lost = {name: n - kept[name] for name, n in allocation.items()}
    coarse = [name for name in free if kernels[name] > 1]
    fine = [name for name in free if kernels[name] == 1]

    # a layer with less than a kernel was given one: the largest give
    while rest < 0 and (givers := [name for name in coarse if kept[name] > kernels[name]]):
        name = max(givers, key=kept.__getitem__)
        kept[name] -= kernels[name]
        rest += kernels[name]
    # what rounding took away comes back, the largest kernels first, and where most was lost
    for name in sorted(coarse, key=lambda n: (-kernels[n], -lost[n])):
        if kept[name] < allocation[name] and kernels[name] <= rest:
            kept[name] += kernels[name]
            rest -= kernels[name]
    room = sum(sizes[name] - kept[name] for name in fine)
    for name in reversed(coarse):  # no layer has room for the rest: a kernel more, and fine layers give
        if room < rest and kept[name] < sizes[name]:
            kept[name] += kernels[name]
            rest -= kernels[name]
    for name in fine:
        change = max(1 - kept[name], min(rest, sizes[name] - kept[name]))
        kept[name] += change
        rest -= change
    if rest:
        raise ValueError(
            f"whole kernels do not add up to {sum(allocation.values())} weights; "
            "a layer with kernels of one weight is needed to take the rest"
        )
    return kept


def _listed(names: Iterable[str], most: int = 6) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _check_budget(layer_sizes: Mapping[str, int], num_weights: int) -> None:
    if not layer_sizes:
        raise ValueError("there is no Linear or Conv layer to allocate weights to")
    low, high = len(layer_sizes), sum(layer_sizes.values())
    if isinstance(num_weights, bool) or not isinstance(num_weights, int | np.integer):
        raise TypeError(f"num_weights is {num_weights!r}; an integer is allowed")
    if not low <= num_weights <= high:
        raise ValueError(f"num_weights is {num_weights}; {low} to {high} are allowed")


# -- masks ------------------------------------------------------------------------------------


def draw_mask(
    shape: tuple[int, ...] | torch.Size,
    *,
    num_weights: int,
    dimensions: Dimensions = "all",
    generator: torch.Generator,
) -> torch.Tensor:
    """A bool tensor with exactly `num_weights` True entries, uniform over all such tensors.

    Args:
        shape: Of the weight.
        num_weights: 0 to the number of entries.
        dimensions: `"all"`, or `"channels"` for masks over the first two dimensions only: all
            positions of a kernel are present or absent together.
        generator: On the CPU, so that one seed gives one mask on every device.

    References:
        G21, Section 2.3 (all dimensions) and Appendix C (channels).

    Examples:
        >>> int(draw_mask((3, 5), num_weights=7, generator=torch.Generator()).sum())
        7
        >>> mask = draw_mask((3, 5, 2), num_weights=14, dimensions="channels", generator=torch.Generator())
        >>> torch.equal(mask[..., 0], mask[..., 1]), int(mask.sum())
        (True, 14)
    """
    size = torch.Size(shape).numel()
    if not 0 <= num_weights <= size:
        raise ValueError(f"num_weights is {num_weights}; 0 to {size} are allowed for shape {tuple(shape)}")
    if dimensions == "channels" and (kernel := torch.Size(shape[2:]).numel()) > 1:
        if num_weights % kernel:
            raise ValueError(
                f"num_weights is {num_weights}; a multiple of {kernel} is allowed "
                f"for whole kernels of shape {tuple(shape)}"
            )
        pairs = draw_mask(shape[:2], num_weights=num_weights // kernel, generator=generator)
        return pairs.view(*shape[:2], *[1] * len(shape[2:])).expand(shape).clone()
    if generator.device.type != "cpu":
        raise ValueError(f"the generator is on {generator.device}; one on the CPU is allowed")
    mask = torch.zeros(size, dtype=torch.bool)
    mask[torch.randperm(size, generator=generator)[:num_weights]] = True
    return mask.view(shape)


class StaticMask(nn.Module):
    """Parametrisation of a weight by the vector of its present values, in row-major order.

    `index` (the positions present, saved in the state dict) determines the mask; `mask` computes it.

    Examples:
        >>> layer = nn.Linear(3, 2)
        >>> mask = torch.tensor([[True, False, False], [False, True, True]])
        >>> _ = parametrize.register_parametrization(layer, "weight", StaticMask(mask))
        >>> layer.parametrizations.weight.original.shape, int((layer.weight != 0).sum())
        (torch.Size([3]), 3)
    """

    index: torch.Tensor

    def __init__(self, mask: torch.Tensor) -> None:
        super().__init__()
        self.shape = mask.shape
        self.register_buffer("index", mask.flatten().nonzero().squeeze(1))

    @property
    def mask(self) -> torch.Tensor:
        """Bool tensor of the weight's shape, True = weight present."""
        flat = torch.zeros(self.shape.numel(), dtype=torch.bool, device=self.index.device)
        flat[self.index] = True
        return flat.view(self.shape)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values.new_zeros(self.shape.numel()).scatter_(0, self.index, values).view(self.shape)

    def right_inverse(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.flatten()[self.index]


def sparsify(
    model: M,
    *,
    num_weights: int | None = None,
    allocation: Mapping[str, int] | None = None,
    exclude: Iterable[str] = (),
    initialisation: Literal["released", "unscaled"] = "released",
    dimensions: Dimensions = "all",
    generator: torch.Generator,
) -> M:
    """Make a model sparse in place by static random masks, and return it.

    Layers that keep all their weights are left as they are: density 1 is the dense network.

    Args:
        model: Any module; its Linear, Conv1d, Conv2d and Conv3d layers are made sparse.
        num_weights: Weights to keep in all, excluded layers included, shared out by
            [`allocate`][wsnlib.masks.allocate].
        allocation: Instead of `num_weights`: weights kept per layer, by the names of
            `model.named_modules()`; layers not named stay dense.
        exclude: Names of layers that stay dense.
        initialisation: `"released"` divides the remaining weights and the bias of a sparse layer
            by √density, which for PyTorch's default layers is in distribution what the authors'
            code draws, U(±1/√(fan_in · density)); `"unscaled"` leaves the values as they are.
        dimensions: `"all"`, or `"channels"` for masks over input and output channels only; then
            [`whole_kernels`][wsnlib.masks.whole_kernels] rounds what `num_weights` gives each layer.
        generator: On the CPU; one seed gives one mask on every device.

    Raises:
        ValueError: If the weights asked for cannot be had, a name is not a layer, a layer is
            sparse already or shares its weight with another. The model is then unchanged.

    References:
        G21, Section 2.3 and Appendices B and C.

    Examples:
        >>> net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Flatten(), nn.Linear(16, 10))
        >>> num_weights(sparsify(net, num_weights=200, generator=torch.Generator()))
        200
    """
    layers = weight_layers(model)
    sizes = {name: layer.weight.numel() for name, layer in layers.items()}
    excluded = set(exclude)
    if unknown := (excluded | set(allocation or {})) - set(sizes):
        raise ValueError(f"{_listed(sorted(unknown))} is not a layer; one of {_listed(sizes)} is allowed")
    if (num_weights is None) == (allocation is None):
        raise ValueError("give either num_weights or allocation")
    if allocation is None:
        assert num_weights is not None
        _check_budget(sizes, num_weights)
        free = {name: size for name, size in sizes.items() if name not in excluded}
        kept = sum(size for name, size in sizes.items() if name in excluded)
        if not len(free) <= num_weights - kept <= sum(free.values()):
            raise ValueError(
                f"num_weights is {num_weights} and the excluded layers hold {kept}; "
                f"{kept + len(free)} to {sum(sizes.values())} are allowed"
            )
        allocation = allocate(free, num_weights=num_weights - kept) if free else {}
        if dimensions == "channels":
            shapes = {name: tuple(layers[name].weight.shape) for name in free}
            allocation = whole_kernels(allocation, layer_shapes=shapes)
    elif both := excluded & set(allocation):
        raise ValueError(f"{_listed(sorted(both))} is both excluded and in the allocation")
    sparse = {name: count for name, count in allocation.items() if count != sizes[name]}
    for name, count in allocation.items():
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or not 0 < count <= sizes[name]:
            raise ValueError(f"{name} is to keep {count!r} weights; 1 to {sizes[name]} are allowed")
        kernel = layers[name].weight.shape[2:].numel()
        if dimensions == "channels" and count % kernel:
            raise ValueError(
                f"{name} is to keep {count} weights; a multiple of {kernel} is allowed for whole kernels"
            )
    check_maskable(model, sparse)

    for name, count in sparse.items():
        layer = layers[name]
        shape = layer.weight.shape
        mask = draw_mask(shape, num_weights=count, dimensions=dimensions, generator=generator)
        if initialisation == "released":
            with torch.no_grad():
                scale = (count / sizes[name]) ** -0.5
                layer.weight.mul_(scale)
                if layer.bias is not None:
                    layer.bias.mul_(scale)
        parametrisation = StaticMask(mask.to(layer.weight.device))
        parametrize.register_parametrization(layer, "weight", parametrisation)
    return model


def check_maskable(model: nn.Module, names: Iterable[str]) -> None:
    """Raise ValueError if the weight of a layer is parametrised already or shared with another's."""
    owners: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(id(parameter), []).append(name)
    for name in names:
        layer = model.get_submodule(name)
        if parametrize.is_parametrized(layer, "weight"):
            raise ValueError(f"the weight of {name} is parametrised already; exclude {name} or build anew")
        shared = owners.get(id(layer.weight), [])
        if len(shared) > 1:
            raise ValueError(f"{' and '.join(shared)} are one tensor; exclude {name}")


def densify(model: M) -> M:
    """Undo the parametrisation in place: removed weights become parameters that are 0.

    Raises:
        ValueError: If a layer is a native sparse one; `wsn.to_dense` makes it a masked one first.

    Examples:
        >>> net = sparsify(nn.Linear(4, 4), num_weights=5, generator=torch.Generator())
        >>> int((densify(net).weight == 0).sum()), num_weights(net)
        (11, 16)
    """
    for name, layer in weight_layers(model).items():
        if _static_mask(layer) is not None:
            if not type(layer).__name__.startswith("Parametrized"):  # as torch names what it makes
                raise ValueError(f"{name} is a native sparse layer; call wsn.to_dense first")
            weight = layer.weight.detach().clone()
            stored = layer.get_submodule("parametrizations.weight")
            trainable = any(values.requires_grad for values in stored.parameters())
            # A deep copy shares the class that torch made for the layer, and removing a
            # parametrisation edits that class: give this layer one of its own first.
            shared = type(layer)
            layer.__class__ = type(shared.__name__, shared.__bases__, dict(vars(shared)))
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
            layer.weight = nn.Parameter(weight, requires_grad=trainable)
    return model


# -- counting ---------------------------------------------------------------------------------


def weight_layers(model: nn.Module) -> dict[str, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d]:
    """The layers whose weights count, by name, in order of definition; each once."""
    return {name: m for name, m in model.named_modules() if isinstance(m, LAYER_TYPES)}


def _static_mask(layer: nn.Module) -> StaticMask | None:
    if parametrize.is_parametrized(layer, "weight"):
        for parametrisation in cast(nn.ModuleDict, layer.parametrizations)["weight"].children():
            if isinstance(parametrisation, StaticMask):
                return parametrisation
    return None


def _counts(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Weights present and weights of the dense layer, by name; a shared weight counts once."""
    counts, seen = {}, set()
    for name, layer in weight_layers(model).items():
        static = _static_mask(layer)
        if static is not None:
            counts[name] = (static.index.numel(), static.shape.numel())
        elif id(layer.weight) not in seen:
            seen.add(id(layer.weight))
            counts[name] = (layer.weight.numel(), layer.weight.numel())
    return counts


def layer_masks(model: nn.Module) -> dict[str, torch.Tensor]:
    """The mask of every sparse layer, by name.

    Examples:
        >>> net = sparsify(nn.Linear(4, 4), num_weights=5, generator=torch.Generator())
        >>> {name: int(mask.sum()) for name, mask in layer_masks(net).items()}
        {'': 5}
    """
    found = {name: _static_mask(layer) for name, layer in weight_layers(model).items()}
    return {name: static.mask for name, static in found.items() if static is not None}


def num_weights(model: nn.Module) -> int:
    """Weights present in the Linear and Conv layers; biases and normalisation do not count.

    Examples:
        >>> num_weights(nn.Sequential(nn.Linear(784, 5), nn.Linear(5, 10)))
        3970
    """
    return sum(present for present, _ in _counts(model).values())


def connectivity(model: nn.Module) -> float:
    """Weights present / weights of the dense network of that width, in (0, 1] (G21, Section 2.3)."""
    counts = _counts(model).values()
    return sum(present for present, _ in counts) / sum(size for _, size in counts)


def density(model: nn.Module) -> dict[str, float]:
    """Weights present / weights of the dense layer, by layer name.

    Examples:
        >>> net = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2))
        >>> density(sparsify(net, allocation={"0": 16}, generator=torch.Generator()))
        {'0': 0.5, '1': 1.0}
    """
    return {name: present / size for name, (present, size) in _counts(model).items()}
