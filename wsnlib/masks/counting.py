"""Which weights count, and how many there are."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any, cast
from weakref import WeakSet

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils import parametrize

from wsnlib.masks.allocation import listed
from wsnlib.masks.static import StaticMask

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


def names_of(exclude: Iterable[str]) -> set[str]:
    """The layers that are excluded; a text is refused, whose letters would be taken for names."""
    names = [exclude] if isinstance(exclude, str) else list(exclude)
    for name in names:
        if isinstance(exclude, str) or not isinstance(name, str):
            raise ValueError(f"exclude must be a sequence of names, got {exclude!r}; write [{str(name)!r}]")
    return set(names)


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


def weight_shape(layer: nn.Module) -> torch.Size:
    """Of the weight, without computing it: that alone would change the buffers of a spectral norm."""
    if (static := static_mask(layer)) is not None:
        return static.shape
    if not parametrize.is_parametrized(layer, "weight"):
        return cast(torch.Tensor, layer.weight).shape
    if isinstance(layer, nn.Linear):
        return torch.Size((layer.out_features, layer.in_features))
    conv = cast(nn.Conv2d, layer)
    return torch.Size((conv.out_channels, conv.in_channels // conv.groups, *conv.kernel_size))


_warned: WeakSet[nn.Module] = WeakSet()


def warn_uncounted(model: nn.Module) -> None:
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
            f"the weights of {listed(names)} are neither counted nor made sparse (of an attention, its "
            "input projections): Linear and Conv layers are",
            stacklevel=1,
        )


def decay_groups(model: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups of an optimiser that decays weights only, not biases and normalisation.

    Decayed is what has more than one dimension, but for layer normalisation over planes, and the values of a
    sparse weight, which are a vector.

    Args:
        model: Any network, with masked, sparse-compute or dense layers.
        weight_decay: Weight decay of the first group; that of the second is 0. A group without parameters
            is left out.

    Examples:
        >>> from wsnlib.masks import sparsify
        >>> net = sparsify(nn.Linear(4, 4), num_weights=5, generator=torch.Generator())
        >>> optimizer = torch.optim.AdamW(decay_groups(net, weight_decay=0.01), lr=1e-3)
        >>> [(len(g["params"][0]), g["weight_decay"]) for g in optimizer.param_groups]
        [(5, 0.01), (4, 0.0)]
    """
    sparse = (m for m in model.modules() if static_mask(m) is not None)
    values = {id(m.get_parameter("parametrizations.weight.original")) for m in sparse}
    norms = (m for m in model.modules() if isinstance(m, nn.LayerNorm | nn.RMSNorm))
    kept = {id(p) for norm in norms for p in norm.parameters()}
    chosen = values | {id(p) for p in model.parameters() if p.ndim > 1} - kept
    decayed = [p for p in model.parameters() if id(p) in chosen]
    rest = [p for p in model.parameters() if id(p) not in chosen]
    groups = ({"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0})
    return [group for group in groups if group["params"]]


def static_mask(layer: nn.Module) -> StaticMask | None:
    if parametrize.is_parametrized(layer, "weight"):
        for parametrisation in cast(nn.ModuleDict, layer.parametrizations)["weight"].children():
            if isinstance(parametrisation, StaticMask):
                return parametrisation
    return None


def counts_by_layer(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Weights present and weights of the dense layer, by name; a shared weight counts once."""
    warn_uncounted(model)
    counts, seen = {}, set()
    for name, layer in weight_layers(model).items():
        static = static_mask(layer)
        computed = parametrize.is_parametrized(layer, "weight")
        stored: object = layer if computed else layer.weight
        if static is not None:
            counts[name] = (static.index.numel(), static.shape.numel())
        elif id(stored) not in seen:
            seen.add(id(stored))
            counts[name] = (weight_shape(layer).numel(), weight_shape(layer).numel())
    return counts


def layer_masks(model: nn.Module) -> dict[str, torch.Tensor]:
    """The mask of every sparse layer, by name.

    Examples:
        >>> from wsnlib.masks import sparsify
        >>> net = sparsify(nn.Linear(4, 4), num_weights=5, generator=torch.Generator())
        >>> {name: int(mask.sum()) for name, mask in layer_masks(net).items()}
        {'': 5}
    """
    found = {name: static_mask(layer) for name, layer in weight_layers(model).items()}
    return {name: static.mask for name, static in found.items() if static is not None}


def num_weights(model: nn.Module) -> int:
    """Weights present in the Linear and Conv layers; biases and normalisation do not count.

    Examples:
        >>> num_weights(nn.Sequential(nn.Linear(784, 5), nn.Linear(5, 10)))
        3970
    """
    return sum(present for present, _ in counts_by_layer(model).values())


def connectivity(model: nn.Module) -> float:
    """Weights present / weights of the dense network of that width, in (0, 1] (G21, Section 2.3).

    It is 1 where there are no Linear and Conv layers.

    Examples:
        >>> connectivity(nn.Linear(8, 4)), connectivity(nn.ReLU())
        (1.0, 1.0)
    """
    counts = counts_by_layer(model).values()
    size = sum(size for _, size in counts)
    return sum(present for present, _ in counts) / size if size else 1.0


def density(model: nn.Module) -> dict[str, float]:
    """Weights present / weights of the dense layer, by layer name.

    Examples:
        >>> from wsnlib.masks import sparsify
        >>> net = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2))
        >>> density(sparsify(net, allocation={"0": 16}, generator=torch.Generator()))
        {'0': 0.5, '1': 1.0}
    """
    return {name: present / size for name, (present, size) in counts_by_layer(model).items()}
