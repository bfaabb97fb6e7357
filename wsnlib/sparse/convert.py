"""From masked layers to sparse ones and back."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import TypeVar, cast

from torch import nn
from torch.nn.utils import parametrize

from wsnlib import masks
from wsnlib.models.mlp import NTKLinear
from wsnlib.sparse.layers import SparseConv2d, SparseLayer, SparseLinear
from wsnlib.sparse.layouts import keeping_layers

M = TypeVar("M", bound=nn.Module)


def to_sparse(model: M, *, layers: Iterable[str] | None = None) -> M:
    """Let layers compute with the weights present only, in place, and return the model.

    Parameters, their names, masks, forward hooks and the state dict stay what they are, so that training goes
    on with the same optimiser. Between sparse convolutions images stay in a layout of their own, in which
    batch norm, ReLU, addition and pooling work, too (see `wsnlib.sparse.packed`); where anything else is done
    with them they are converted. Sparse layers have first derivatives only and are not for hooks on the
    gradients between them, tracing, FX, `torch.compile(fullgraph=True)` or `torch.func`, where they ask for
    [`to_dense`][wsnlib.sparse.to_dense].

    Args:
        model: With layers made sparse by [`sparsify`][wsnlib.masks.sparsify].
        layers: Names of the masked layers, and of convolutions without a mask, to change. By default all
            masked layers, and with masked convolutions those without a mask that have no more weights than
            the fullest of them. Masked ones that have no sparse form stay masked; without `layers` one
            warning names them.

    Raises:
        ValueError: If a name in `layers` is of another layer, or of one without a sparse form. The model
            is then unchanged.

    Examples:
        >>> import torch
        >>> net = masks.sparsify(nn.Linear(8, 6), num_weights=7, generator=torch.Generator().manual_seed(0))
        >>> x = torch.ones(2, 8)
        >>> expected = net(x)
        >>> torch.allclose(to_sparse(net)(x), expected), masks.num_weights(net)
        (True, 7)
    """
    masked = masked_layers(model)
    allowed = masked | full_convolutions(model)
    named = list(masked if layers is None else layers)
    for name in named:
        if name not in allowed:
            raise ValueError(f"a layer must be one of {', '.join(masked)}, got {name!r}; others have no mask")
    without = {name: reason for name in named if (reason := unsupported(allowed[name]))}
    said = "; ".join(f"{name} has {reason}" for name, reason in without.items())
    if without and layers is not None:
        raise ValueError(
            f"layers must be masked Linear ones or Conv2d ones of one group with zeros around, got {said}"
        )
    if without:
        warnings.warn(f"these layers stay dense: {said}", stacklevel=2)
    if layers is None:
        counts = [masks.num_weights(masked[n]) for n in masked if isinstance(masked[n], nn.Conv2d)]
        named += [
            n for n, c in full_convolutions(model).items() if c.weight.numel() <= max(counts, default=0)
        ]
    for name in named:
        if name not in without and not isinstance(allowed[name], SparseLayer):
            _make_sparse(allowed[name])
    keeping = keeping_layers(model)
    for name, layer in model.named_modules():
        if isinstance(layer, SparseConv2d):
            layer.keeps_layout = name in keeping
    return model


def to_dense(model: M) -> M:
    """Let sparse layers compute with the dense, masked weight again, in place, and return the model.

    The inverse of [`to_sparse`][wsnlib.sparse.to_sparse]; parameters, masks and state dict stay.

    Examples:
        >>> import torch
        >>> net = masks.sparsify(nn.Linear(8, 6), num_weights=7, generator=torch.Generator())
        >>> isinstance(to_dense(to_sparse(net)), SparseLinear), masks.num_weights(net)
        (False, 7)
    """
    for layer in model.modules():
        if isinstance(layer, SparseLayer):
            _make_masked(layer)
    return model


def masked_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Layers with a mask, sparse or not, by name."""
    layers = masks.weight_layers(model)
    return {name: layers[name] for name in masks.layer_masks(model)}


def full_convolutions(model: nn.Module) -> dict[str, nn.Conv2d]:
    """Convolutions without a mask that can be sparse, by name."""
    return {
        name: layer
        for name, layer in model.named_modules()
        if type(layer) in (nn.Conv2d, SparseConv2d)
        and "weight" in layer._parameters
        and not unsupported(layer)
    }


def unsupported(layer: nn.Module) -> str | None:
    """Why a layer has no sparse form, as the end of "the layer has …"; None if it has one."""
    if isinstance(layer, SparseLayer):
        return None
    kind = type(layer).__bases__[0] if parametrize.is_parametrized(layer) else type(layer)
    if kind not in (nn.Linear, NTKLinear, nn.Conv2d):
        return f"the type {kind.__name__}"
    if isinstance(layer, nn.Conv2d):
        if layer.groups != 1:
            return f"{layer.groups} groups"
        if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
            return f"padding {layer.padding!r} in the mode {layer.padding_mode!r}"
    if not parametrize.is_parametrized(layer):
        return None
    stored = cast(nn.ModuleDict, layer.parametrizations)
    others = [n for n in stored if n != "weight"] + [type(p).__name__ for p in stored["weight"].children()][
        1:
    ]
    return f"another parametrisation ({', '.join(others)})" if others else None


def _make_sparse(layer: nn.Module) -> None:
    if isinstance(layer, NTKLinear):
        layer.input_scale = layer.in_features**-0.5
    layer.__class__ = SparseConv2d if isinstance(layer, nn.Conv2d) else SparseLinear


def _make_masked(layer: nn.Module) -> None:
    layer.__dict__.pop("_known", None)
    if isinstance(layer, nn.Conv2d):
        layer.__dict__.pop("keeps_layout", None)
        layer.__class__ = nn.Conv2d
        if "weight" in layer._parameters:
            return
    else:
        layer.__class__ = NTKLinear if layer.__dict__.pop("input_scale", None) else nn.Linear
    masks.reattach_mask(layer)
