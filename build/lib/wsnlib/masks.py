"""Static random masks: how many weights each layer keeps, which ones, and counting them.

A mask is bool, True = weight present; it is drawn once and kept. A sparse layer stores the values
of its present weights as one vector, of which its `weight` is computed. A removed weight is
therefore not a parameter that happens to be 0: it does not exist, and no optimiser, weight decay,
copy or state dict can bring it back. Parameters, gradients and optimiser state take memory in
proportion to the weights present. Code that tells weights from biases by `parameter.ndim > 1` takes
this vector for a bias; [`decay_groups`][wsnlib.masks.decay_groups] gives an optimiser both kinds apart.

Weights are the entries of the `weight` of Linear and Conv1d, Conv2d and Conv3d layers. Biases and
normalisation layers are neither counted nor masked (G21, Appendix A).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import Any, Literal, SupportsIndex, TypeVar, cast, get_args
from weakref import WeakSet

import numpy as np
import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils import parametrize

__all__ = [
    "LAYER_TYPES",
    "StaticMask",
    "allocate",
    "allocate_uniform",
    "connectivity",
    "decay_groups",
    "densify",
    "density",
    "draw_mask",
    "layer_masks",
    "num_weights",
    "sparsify",
    "whole_kernels",
]

M = TypeVar("M", bound=nn.Module)

LAYER_TYPES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""The layers whose weights are counted and may be made sparse."""

UNCOUNTED_TYPES = (
    nn.MultiheadAttention,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Bilinear,
    nn.Embedding,
    nn.EmbeddingBag,
)
"""Layers with weights that are not counted; of an attention the input projections are not."""

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""What weights may be that are drawn, scaled or made sparse."""

Dimensions = Literal["all", "channels"]
"""What a mask is drawn over: every entry of a weight, or pairs of input and output channel."""

Initialisation = Literal["released", "unscaled"]
"""Whether what is kept is divided by the root of the density."""


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
    check_generator(generator)
    mask = torch.zeros(size, dtype=torch.bool, device="cpu")
    mask[torch.randperm(size, generator=generator, device="cpu")[:num_weights]] = True
    return mask.view(shape)


def check_generator(generator: torch.Generator) -> None:
    """Raise ValueError unless the generator is on the CPU."""
    if generator.device.type != "cpu":
        raise ValueError(f"the generator is on {generator.device}; one on the CPU is allowed")


_DATA: Any = torch.Tensor.data


class ComputedWeight(torch.Tensor):
    """The weight of a sparse layer, computed from its values: a copy, so that changing it is refused.

    What `reset_parameters`, `torch.nn.init` and `weight.data.normal_()` would change is this copy.
    """

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs, name = kwargs or {}, function.__name__
        changed = kwargs.get("out", args[0] if args else next(iter(kwargs.values()), None))
        in_place = (name[-1] == "_" and name[-2] != "_") or name == "__setitem__" or function == _DATA.__set__
        if isinstance(changed, cls) and (in_place or "out" in kwargs):
            raise RuntimeError(
                f"the weight of a sparse layer must be assigned as a whole, got {name} on a copy of it; "
                "write layer.weight = …, or initialise the layers before wsn.sparsify"
            )
        with torch._C.DisableTorchFunctionSubclass():
            result = function(*args, **kwargs)
        if function == _DATA.__get__:
            result.__class__ = cls
        return result

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.clone().__reduce_ex__(protocol)


class StaticMask(nn.Module):
    """Parametrisation of a weight by the vector of its present values, in row-major order.

    `index` (n,) holds the positions present, rising. It is no buffer, so that nothing which averages,
    casts or blends those of a network moves a weight; it goes with the network to another device. A state
    dict holds `mask` instead: 0 and 1, which every cast keeps, in the shape of the weight.

    What copies all buffers of another network (`DistributedDataParallel`, `AveragedModel`) brings its
    values along, but not where they belong. `witness`, signs that tell masks apart, is the buffer that
    gives away a copy from a network with another mask: `index` then refuses.

    Examples:
        >>> layer = nn.Linear(3, 2)
        >>> mask = torch.tensor([[True, False, False], [False, True, True]])
        >>> _ = parametrize.register_parametrization(layer, "weight", StaticMask(mask))
        >>> layer.parametrizations.weight.original.shape, int((layer.weight != 0).sum())
        (torch.Size([3]), 3)
        >>> layer.state_dict()["parametrizations.weight.0.mask"].half().tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]
    """

    witness: torch.Tensor
    _seen: tuple[torch.Tensor, int] | None = None

    def __init__(self, mask: torch.Tensor) -> None:
        super().__init__()
        self.shape = mask.shape
        self.mask = mask

    @property
    def mask(self) -> torch.Tensor:
        """Bool tensor of the weight's shape, True = weight present; assign another to move the weights."""
        flat = torch.zeros(self.shape.numel(), dtype=torch.bool, device=self.index.device)
        flat[self.index] = True
        return flat.view(self.shape)

    @mask.setter
    def mask(self, mask: torch.Tensor) -> None:
        if mask.shape != self.shape:
            raise ValueError(
                f"a mask must be of the weight's shape {tuple(self.shape)}, got {tuple(mask.shape)}; "
                "make a network of that width"
            )
        self._index = mask.flatten().nonzero().squeeze(1)
        positions = self._index.cpu().numpy().tobytes()
        digest = blake2b(repr(tuple(self.shape)).encode() + positions, digest_size=8).digest()
        self._signs = [1.0 if byte >> bit & 1 else -1.0 for byte in digest for bit in range(8)]
        signs = torch.tensor(self._signs, device=mask.device)
        self.register_buffer("witness", signs, persistent=False)

    @property
    def index(self) -> torch.Tensor:
        """Positions present in the flattened weight, int64, rising.

        Raises:
            RuntimeError: If the buffers are those of a network with another mask.
        """
        witness = self.witness
        if torch.compiler.is_compiling() or witness.is_meta:
            return self._index
        # to look at it costs a transfer from a GPU, where it is done once
        version = witness._version if witness.is_cpu and not witness.is_inference() else 0
        if self._seen is None or self._seen[0] is not witness or self._seen[1] != version:
            self._check(witness)
            self._seen = (witness, version)
        return self._index

    def _check(self, witness: torch.Tensor) -> None:
        try:
            known = [1.0 if sign > 0 else -1.0 for sign in witness.tolist()] == self._signs
        except RuntimeError:  # several at once, in torch.func.vmap
            known = False
        if not known:
            raise RuntimeError(
                "the buffers of a sparse layer must be those of its own mask, got those of other masks, "
                "copied or stacked without them; draw the masks of all processes and copies from one seed, "
                "load a state dict, or call wsn.densify on each network before they are stacked"
            )

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        index = self.index.to(values.device)
        weight = values.new_zeros(self.shape.numel()).scatter_(0, index, values).view(self.shape)
        if type(weight) is torch.Tensor and not torch.compiler.is_compiling():
            weight.__class__ = ComputedWeight
        return weight

    def right_inverse(self, weight: torch.Tensor) -> torch.Tensor:
        if weight.shape != self.shape:
            raise ValueError(
                f"the weight of this layer must be of shape {tuple(self.shape)}, got {tuple(weight.shape)}; "
                "give one entry for each of the dense layer, removed ones included"
            )
        return weight.flatten()[self.index.to(weight.device)]

    def _apply(self, fn: Any, recurse: bool = True) -> StaticMask:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if not self.witness.is_meta:
            self._index = self._index.to(self.witness.device)
        return self

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "mask"] = self.mask

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        mask, positions = (state_dict.pop(prefix + name, None) for name in ("mask", "index"))
        if mask is not None:
            assign = local_metadata.get("assign_to_params_buffers", False)
            found = torch.as_tensor(mask, device=None if assign else self._index.device).bool()
            present, n = int(found.sum()), len(self._index)
            if found.shape != self.shape or present != n:
                error_msgs.append(
                    f"{prefix}mask must have {n} weights in the shape {tuple(self.shape)}, got {present} in "
                    f"{tuple(found.shape)}; load the state of a network of this width, or one that was not "
                    "averaged with those of other masks"
                )
            else:
                self.mask = found
        elif positions is None:
            missing_keys += [prefix + "mask"] * strict
        elif not torch.equal(torch.as_tensor(positions).to(self._index), self._index):
            error_msgs.append(
                f"{prefix}index must be the positions of this layer's own mask, got others, which do not say "
                f"of what shape; put the bool mask of shape {tuple(self.shape)} there as {prefix}mask"
            )
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_seen"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        if (positions := self._buffers.pop("index", None)) is not None:  # saved when they were one
            mask = torch.zeros(self.shape.numel(), dtype=torch.bool, device=positions.device)
            self.mask = mask.index_fill(0, positions, True).view(self.shape)


def sparsify(
    model: M,
    *,
    num_weights: int | None = None,
    allocation: Mapping[str, int] | None = None,
    exclude: Iterable[str] = (),
    initialisation: Initialisation = "released",
    dimensions: Dimensions = "all",
    generator: torch.Generator,
) -> M:
    """Make a model sparse in place by static random masks, and return it.

    Layers that keep all their weights are left as they are: density 1 is the dense network. The
    `weight` of a sparse layer is computed when it is read. `layer.weight = tensor` gives new values to
    the weights present; `layer.reset_parameters()`, `torch.nn.init` and other changes in place are
    refused with a RuntimeError, so that what initialises a network comes before.

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
        ValueError: If the weights asked for cannot be had, a name is not a layer, the generator is
            on another device, or the weight or bias of a layer is not a floating-point parameter of
            its own: sparse already, shared, lazy, or computed by pruning, weight norm or spectral
            norm. Model and generator are then unchanged.

    Warns:
        UserWarning: Once a model, if it has layers whose weights are not counted.

    References:
        G21, Section 2.3 and Appendices B and C.

    Examples:
        >>> net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Flatten(), nn.Linear(16, 10))
        >>> num_weights(sparsify(net, num_weights=200, generator=torch.Generator()))
        200
    """
    layers = weight_layers(model)
    layer_shapes = {name: _shape(layer) for name, layer in layers.items()}
    sizes = {name: shape.numel() for name, shape in layer_shapes.items()}
    excluded = set(exclude)
    for chosen, allowed in ((initialisation, Initialisation), (dimensions, Dimensions)):
        if chosen not in get_args(allowed):
            raise ValueError(f"{chosen!r} must be one of {', '.join(get_args(allowed))}")
    check_generator(generator)
    if unknown := (excluded | set(allocation or {})) - set(sizes):
        raise ValueError(f"{_listed(sorted(unknown))} is not a layer; one of {_listed(sizes)} is allowed")
    if (num_weights is None) == (allocation is None):
        raise ValueError("give either num_weights or allocation")
    if allocation is None:
        assert num_weights is not None
        counts = _counts(model)
        _check_budget({name: sizes[name] for name in counts}, num_weights)
        free = {name: sizes[name] for name in counts if name not in excluded}
        kept = sum(present for name, (present, _) in counts.items() if name in excluded)
        if not len(free) <= num_weights - kept <= sum(free.values()):
            raise ValueError(
                f"num_weights is {num_weights} and the excluded layers hold {kept}; "
                f"{kept + len(free)} to {kept + sum(free.values())} are allowed"
            )
        allocation = allocate(free, num_weights=num_weights - kept) if free else {}
        if dimensions == "channels":
            allocation = whole_kernels(allocation, layer_shapes=layer_shapes)
    elif both := excluded & set(allocation):
        raise ValueError(f"{_listed(sorted(both))} is both excluded and in the allocation")
    sparse = {name: count for name, count in allocation.items() if count != sizes[name]}
    for name, count in allocation.items():
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or not 0 < count <= sizes[name]:
            raise ValueError(f"{name} is to keep {count!r} weights; 1 to {sizes[name]} are allowed")
        kernel = layer_shapes[name][2:].numel()
        if dimensions == "channels" and count % kernel:
            raise ValueError(
                f"{name} is to keep {count} weights; a multiple of {kernel} is allowed for whole kernels"
            )
    check_own(model, sparse, ("weight", "bias") if initialisation == "released" else ("weight",))
    _warn_uncounted(model)

    for name, count in sparse.items():
        layer = layers[name]
        mask = draw_mask(layer_shapes[name], num_weights=count, dimensions=dimensions, generator=generator)
        if initialisation == "released":
            with torch.no_grad():
                scale = (count / sizes[name]) ** -0.5
                layer.weight.mul_(scale)
                if layer.bias is not None:
                    layer.bias.mul_(scale)
        layer.weight.grad = None  # of the dense shape
        attach_mask(layer, StaticMask(mask).to(layer.weight.device))
    return model


def attach_mask(layer: nn.Module, mask: nn.Module) -> None:
    """Compute the weight of a layer with a mask; the layer can be pickled, as torch's others cannot."""
    parametrize.register_parametrization(layer, "weight", mask)
    setattr(type(layer), "__reduce_ex__", _reduced)  # noqa: B010, mypy knows no methods of an instance


def _reduced(layer: nn.Module, protocol: SupportsIndex) -> Any:
    stored = cast(nn.ModuleDict, layer.parametrizations)
    if list(stored) != ["weight"] or len(cast(parametrize.ParametrizationList, stored["weight"])) > 1:
        return object.__reduce_ex__(layer, protocol)  # torch refuses
    return _unpickled, (type(layer).__bases__[0], dict(layer.__dict__))


def _unpickled(kind: type[nn.Module], state: dict[str, Any]) -> nn.Module:
    layer = kind.__new__(kind)
    layer.__setstate__(state)
    reattach_mask(layer)
    return layer


def reattach_mask(layer: nn.Module) -> None:
    """Compute the weight of a layer again with the mask and the values that it holds."""
    like = type(layer).__new__(type(layer))
    nn.Module.__init__(like)
    like.weight = nn.Parameter(torch.zeros(1))
    attach_mask(like, nn.Identity())  # torch makes the class that computes a weight
    layer.__class__ = type(like)


def check_own(model: nn.Module, names: Iterable[str], tensors: Iterable[str] = ("weight", "bias")) -> None:
    """Raise ValueError unless these tensors of the layers are floating-point parameters of their own."""
    owners: dict[object, list[str]] = {}
    for path, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(_memory(parameter), []).append(path)
    for name in names:
        layer = model.get_submodule(name)
        for kind in tensors:
            if parametrize.is_parametrized(layer, kind):
                raise ValueError(
                    f"the {kind} of {name} is parametrised already; exclude {name} or build anew"
                )
            if kind not in layer._parameters:
                raise ValueError(
                    f"the {kind} of {name} must be a parameter, got what a hook computes (pruning, weight or "
                    f"spectral norm); exclude {name} or remove the hook as torch.nn.utils.prune.remove does"
                )
            value = layer._parameters[kind]
            if value is None:
                continue
            if type(value) is not nn.Parameter or value.dtype not in DTYPES:
                raise ValueError(
                    f"the {kind} of {name} must be a plain floating-point parameter, got "
                    f"{type(value).__name__} of {value.dtype}; exclude {name}"
                )
            if len(shared := owners[_memory(value)]) > 1:
                raise ValueError(f"{' and '.join(shared)} are one tensor; exclude {name}")


def _memory(parameter: nn.Parameter) -> object:
    """Equal for parameters that lie in the same memory."""
    if isinstance(parameter, UninitializedParameter) or not parameter.untyped_storage().data_ptr():
        return id(parameter)
    return parameter.device, parameter.untyped_storage().data_ptr()


def densify(model: M) -> M:
    """Undo the parametrisation in place: removed weights become parameters that are 0.

    Raises:
        ValueError: If a layer is a native sparse one (`wsn.to_dense` makes it a masked one first), or
            its weight has other parametrisations. The model is then unchanged.

    Examples:
        >>> net = sparsify(nn.Linear(4, 4), num_weights=5, generator=torch.Generator())
        >>> int((densify(net).weight == 0).sum()), num_weights(net)
        (11, 16)
    """
    masked = {name: m for name, m in weight_layers(model).items() if _static_mask(m) is not None}
    for name, layer in masked.items():
        if not type(layer).__name__.startswith("Parametrized"):  # as torch names what it makes
            raise ValueError(f"{name} is a native sparse layer; call wsn.to_dense first")
        if len(stored := layer.get_submodule("parametrizations.weight")) > 1:  # type: ignore[arg-type]
            others = ", ".join(type(p).__name__ for p in stored.children() if not isinstance(p, StaticMask))
            raise ValueError(
                f"the weight of {name} must have no other parametrisation, got {others}; remove it"
            )
    for layer in masked.values():
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
    """The layers whose weights count, by name, in order of definition; each once.

    Raises:
        ValueError: If one is lazy, so that it has no weights yet.
    """
    layers = {name: m for name, m in model.named_modules() if isinstance(m, LAYER_TYPES)}
    for name, layer in layers.items():
        if isinstance(layer, LazyModuleMixin) and layer.has_uninitialized_params():
            raise ValueError(
                f"{name} must have its weights, got a lazy layer; call the model on a batch first"
            )
    return layers


def _shape(layer: nn.Module) -> torch.Size:
    """Of the weight, without computing it: that alone would change the buffers of a spectral norm."""
    if (static := _static_mask(layer)) is not None:
        return static.shape
    if not parametrize.is_parametrized(layer, "weight"):
        return cast(torch.Tensor, layer.weight).shape
    if isinstance(layer, nn.Linear):
        return torch.Size((layer.out_features, layer.in_features))
    conv = cast(nn.Conv2d, layer)
    return torch.Size((conv.out_channels, conv.in_channels // conv.groups, *conv.kernel_size))


_warned: WeakSet[nn.Module] = WeakSet()


def _warn_uncounted(model: nn.Module) -> None:
    """Name the layers whose weights are not counted, in one warning for each model."""
    counted = {id(p) for layer in weight_layers(model).values() for p in layer.parameters()}
    names = [
        f"{name or 'the model'} ({parametrize.type_before_parametrizations(m).__name__})"
        for name, m in model.named_modules()
        if isinstance(m, UNCOUNTED_TYPES) and any(id(p) not in counted for p in m.parameters())
    ]
    if names and model not in _warned:
        _warned.add(model)
        # from here always, so that a sweep over many models of one kind says it once
        warnings.warn(
            f"the weights of {_listed(names)} are neither counted nor made sparse (of an attention, its "
            "input projections): Linear and Conv layers are",
            stacklevel=1,
        )


def decay_groups(model: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups of an optimiser that decays weights only, not biases and normalisation.

    Decayed is what has more than one dimension, and the values of a sparse weight, which are a vector.

    Args:
        model: Masked, native or dense.
        weight_decay: Of the first group; that of the second is 0. A group without parameters is left out.

    Examples:
        >>> net = sparsify(nn.Linear(4, 4), num_weights=5, generator=torch.Generator())
        >>> optimizer = torch.optim.AdamW(decay_groups(net, weight_decay=0.01), lr=1e-3)
        >>> [(len(g["params"][0]), g["weight_decay"]) for g in optimizer.param_groups]
        [(5, 0.01), (4, 0.0)]
    """
    sparse = (m for m in model.modules() if _static_mask(m) is not None)
    values = {id(m.get_parameter("parametrizations.weight.original")) for m in sparse}
    decayed = [p for p in model.parameters() if p.ndim > 1 or id(p) in values]
    chosen = {id(p) for p in decayed}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    groups = ({"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0})
    return [group for group in groups if group["params"]]


def _static_mask(layer: nn.Module) -> StaticMask | None:
    if parametrize.is_parametrized(layer, "weight"):
        for parametrisation in cast(nn.ModuleDict, layer.parametrizations)["weight"].children():
            if isinstance(parametrisation, StaticMask):
                return parametrisation
    return None


def _counts(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Weights present and weights of the dense layer, by name; a shared weight counts once."""
    _warn_uncounted(model)
    counts, seen = {}, set()
    for name, layer in weight_layers(model).items():
        static = _static_mask(layer)
        computed = parametrize.is_parametrized(layer, "weight")
        stored: object = layer if computed else layer.weight
        if static is not None:
            counts[name] = (static.index.numel(), static.shape.numel())
        elif id(stored) not in seen:
            seen.add(id(stored))
            counts[name] = (_shape(layer).numel(), _shape(layer).numel())
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
