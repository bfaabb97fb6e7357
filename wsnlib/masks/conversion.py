"""Dense networks made sparse, and sparse ones dense again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils import parametrize

from wsnlib.choices import check_choice
from wsnlib.masks.allocation import Rule, allocate, listed, whole_kernels
from wsnlib.masks.counting import (
    counts_by_layer,
    names_of,
    static_mask,
    warn_uncounted,
    weight_layers,
    weight_shape,
)
from wsnlib.masks.static import Pattern, StaticMask, attach_mask, check_generator, draw_mask

M = TypeVar("M", bound=nn.Module)

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""What weights may be that are drawn, scaled or made sparse."""

Initialisation = Literal["released", "unscaled"]
"""Whether what is kept is divided by the root of the density."""


def sparsify(
    model: M,
    *,
    num_weights: int | None = None,
    allocation: Mapping[str, int] | Rule | None = None,
    exclude: Iterable[str] = (),
    initialisation: Initialisation = "released",
    pattern: Pattern = "random",
    generator: torch.Generator,
) -> M:
    """Make a model sparse in place by static random masks, and return it.

    Layers that keep all their weights are left as they are: density 1 is the dense network. The
    `weight` of a sparse layer is computed when it is read. `layer.weight = tensor` gives new values to
    the weights present; `layer.reset_parameters()`, `torch.nn.init` and other changes in place are
    refused with a RuntimeError, so that what initialises a network comes before. What is taken from it, such
    as `layer.weight[:3]`, is a copy whose changes count for nothing.

    Args:
        model: Any module; its Linear, Conv1d, Conv2d and Conv3d layers are made sparse.
        num_weights: Weights to keep in all, excluded layers included.
        allocation: The rule by which [`allocate`][wsnlib.masks.allocate] shares them out,
            `"largest_first"` if none is given. Or, instead of `num_weights`: weights kept per layer, by the
            names of `model.named_modules()`; layers not named stay dense.
        exclude: Names of layers that stay dense.
        initialisation: `"released"` divides the remaining weights and the bias of a sparse layer
            by √density, which for PyTorch's default layers is in distribution what the authors'
            code draws, U(±1/√(fan_in · density)); `"unscaled"` leaves the values as they are.
        pattern: Where in a layer its weights lie, as in [`draw_mask`][wsnlib.masks.draw_mask]; for
            `"channels"` [`whole_kernels`][wsnlib.masks.whole_kernels] rounds what `num_weights` gives each
            layer.
        generator: Random generator on the CPU; one seed gives one mask on every device.

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
        >>> import wsnlib as wsn
        >>> net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Flatten(), nn.Linear(16, 10))
        >>> wsn.num_weights(sparsify(net, num_weights=200, generator=torch.Generator()))
        200
    """
    layers = weight_layers(model)
    layer_shapes = {name: weight_shape(layer) for name, layer in layers.items()}
    sizes = {name: shape.numel() for name, shape in layer_shapes.items()}
    excluded = names_of(exclude)
    check_choice("initialisation", initialisation, Initialisation)
    check_choice("pattern", pattern, Pattern)
    check_generator(generator)
    rule: Rule = "largest_first"
    if isinstance(allocation, str):
        rule, allocation = allocation, None
    if unknown := (excluded | set(allocation or {})) - set(sizes):
        raise ValueError(f"{listed(sorted(unknown))} must be a layer, got none; choose from {listed(sizes)}")
    if (num_weights is None) == (allocation is None):
        got = "neither" if allocation is None else "both"
        raise ValueError(f"one of num_weights and allocation must be given, got {got}; leave the other None")
    if allocation is None:
        assert num_weights is not None
        counts = counts_by_layer(model)
        fixed = {n: present / size for n, (present, size) in counts.items() if n in excluded}
        shapes = {n: layer_shapes[n] for n in counts}
        allocation = allocate(shapes, num_weights=num_weights, rule=rule, density=fixed)
        allocation = {name: kept for name, kept in allocation.items() if name not in excluded}
        if pattern == "channels":
            allocation = whole_kernels(allocation, layer_shapes=layer_shapes)
    elif both := excluded & set(allocation):
        raise ValueError(
            f"excluded layers must not be in the allocation, got {listed(sorted(both))}; leave it out of one"
        )
    sparse = {
        name: count
        for name, count in allocation.items()
        if count != sizes[name] or static_mask(layers[name]) is not None
    }
    for name, count in allocation.items():
        kept_in = f"the weights kept in {name or 'the model'}"
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or not 0 < count <= sizes[name]:
            raise ValueError(
                f"{kept_in} must be an integer of 1 to {sizes[name]}, got {count!r}; change the allocation"
            )
        kernel = layer_shapes[name][2:].numel()
        if pattern == "channels" and count % kernel:
            raise ValueError(
                f"{kept_in} must be a multiple of {kernel} for whole kernels, got {count}; round it"
            )
    check_own(model, sparse, ("weight", "bias") if initialisation == "released" else ("weight",))
    warn_uncounted(model)

    for name, count in sparse.items():
        layer = layers[name]
        mask = draw_mask(layer_shapes[name], num_weights=count, pattern=pattern, generator=generator)
        if initialisation == "released":
            with torch.no_grad():
                scale = (count / sizes[name]) ** -0.5
                layer.weight.mul_(scale)
                if layer.bias is not None:
                    layer.bias.mul_(scale)
        layer.weight.grad = None  # of the dense shape
        attach_mask(layer, StaticMask(mask).to(layer.weight.device))
    return model


def check_own(model: nn.Module, names: Iterable[str], tensors: Iterable[str] = ("weight", "bias")) -> None:
    """Raise ValueError unless these tensors of the layers are floating-point parameters of their own."""
    owners: dict[object, list[str]] = {}
    for path, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(_memory(parameter), []).append(path)
    for name in names:
        layer = model.get_submodule(name)
        name = name or "the model"
        for kind in tensors:
            if parametrize.is_parametrized(layer, kind):
                raise ValueError(
                    f"the {kind} of {name} must be a parameter, got one that is computed already; exclude "
                    f"{name} or build anew"
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
                raise ValueError(
                    f"the {kind} of {name} must be its own, got one tensor for {' and '.join(shared)}; "
                    f"exclude {name}"
                )


def _memory(parameter: nn.Parameter) -> object:
    """Equal for parameters that lie in the same memory."""
    if isinstance(parameter, UninitializedParameter) or not parameter.untyped_storage().data_ptr():
        return id(parameter)
    return parameter.device, parameter.untyped_storage().data_ptr()


def densify(model: M) -> M:
    """Undo the parametrisation in place: removed weights become parameters that are 0.

    Raises:
        ValueError: If a layer is a sparse-compute layer (`wsn.to_dense` makes it a masked one first), or
            its weight has other parametrisations. The model is then unchanged.

    Examples:
        >>> net = sparsify(nn.Linear(4, 4), num_weights=5, generator=torch.Generator())
        >>> int((densify(net).weight == 0).sum())
        11
    """
    masked = {name: m for name, m in weight_layers(model).items() if static_mask(m) is not None}
    for name, layer in masked.items():
        if not type(layer).__name__.startswith("Parametrized"):  # as torch names what it makes
            raise ValueError(
                f"{name} must be a masked layer, got a sparse-compute layer; call wsn.to_dense first"
            )
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
