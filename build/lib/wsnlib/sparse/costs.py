"""Which masked layers are estimated to be faster as sparse-compute ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import nn

from wsnlib.masks import StaticMask
from wsnlib.sparse.convert import masked_layers, unsupported
from wsnlib.sparse.convolution import grid_of

MARGIN = 0.9
"""The native form is chosen where it takes less than this share of the dense form's time."""

DENSE_NS = 0.055
"""Estimated nanoseconds on one CPU core, forward and backward, of a weight of a dense layer at one position
of one image. `benchmarks/sparse.py` shows what was measured beside these four estimates."""
WEIGHT_NS = {"linear": 0.6, "conv": 0.6}
"""The same of a weight of a native layer."""
VALUE_NS = {"linear": 1.0, "conv": 3.0}
"""Of a number of a native layer's input or output, which is laid out with the batch last."""
CALL_NS = 30_000.0
"""Of each position of a native layer, however few weights there are."""
AFTER_NATIVE_NS = 3.5
"""Of a number of the input of a dense Linear layer, if a native one before it left the batch last."""


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """What a masked layer costs in both forms.

    Args:
        layer: Its name.
        density: Weights present / weights of the dense layer.
        dense_ms: Estimated milliseconds of a forward and a backward pass with the dense, masked weight.
        sparse_ms: The same of the native form; NaN if there is none.
        chosen: The faster form, by a margin.
    """

    layer: str
    density: float
    dense_ms: float
    sparse_ms: float
    chosen: Literal["dense", "sparse"]


def estimated_costs(
    model: nn.Module, images: torch.Tensor, *, batch_size: int | None = None
) -> list[LayerCost]:
    """What every masked layer of a model would cost in both forms on one CPU core, without timing anything.

    Estimates do not depend on chance, so that what is chosen by them, and with it every bit of a result,
    is the same each time. The choice is right where it matters and may be wrong by some 30 % of a layer's
    time near break-even.

    Args:
        model: With masked layers.
        images: One or more inputs of the model, which is run on them once, in evaluation mode.
        batch_size: Images in a batch; by default as many as there are.

    Returns:
        One entry a layer, in the order of the model; `pandas.DataFrame(costs)` is a table of them. A layer
        that is not used takes 0 ms.

    Examples:
        >>> from wsnlib import masks
        >>> net = nn.Sequential(nn.Linear(784, 640), nn.ReLU(), nn.Linear(640, 10))
        >>> net = masks.sparsify(net, num_weights=3970, generator=torch.Generator())
        >>> [cost.chosen for cost in estimated_costs(net, torch.zeros(1, 784), batch_size=100)]
        ['sparse', 'sparse']
    """
    factor = (batch_size or len(images)) / len(images)
    layers = masked_layers(model)
    inputs = _inputs(model, layers, images)
    batch_is_last = False
    costs = []
    for name, layer in layers.items():
        weights, size = _numbers(layer)
        dense, native = 0.0, 0.0
        if name in inputs:
            dense, native = _milliseconds(layer, inputs[name], factor, weights, size, batch_is_last)
            batch_is_last = not isinstance(layer, nn.Conv2d) and native < MARGIN * dense
        chosen: Literal["dense", "sparse"] = "sparse" if native < MARGIN * dense else "dense"
        costs.append(
            LayerCost(layer=name, density=weights / size, dense_ms=dense, sparse_ms=native, chosen=chosen)
        )
    return costs


def _milliseconds(
    layer: nn.Module, x: torch.Tensor, factor: float, weights: int, size: int, batch_is_last: bool
) -> tuple[float, float]:
    """Of the dense and of the sparse-compute form; `factor` batches like x are one batch of the training."""
    if unsupported(layer):
        return math.nan, math.nan
    if isinstance(layer, nn.Conv2d):
        positions = math.prod(grid_of(layer, x).outputs)
        batch, outputs, kind = factor * x.shape[0], layer.out_channels * positions, "conv"
    else:
        positions, outputs, kind = 1, cast(nn.Linear, layer).out_features, "linear"
        batch = factor * x.shape[:-1].numel()
    values = factor * x.numel() + batch * outputs
    dense = DENSE_NS * size * positions * batch
    if batch_is_last and kind == "linear":
        dense += AFTER_NATIVE_NS * factor * x.numel()
        values -= factor * x.numel()
    native = WEIGHT_NS[kind] * weights * positions * batch + VALUE_NS[kind] * values + CALL_NS * positions
    return dense / 1e6, native / 1e6


def _numbers(layer: nn.Module) -> tuple[int, int]:
    values = layer.get_parameter("parametrizations.weight.original")
    stored = layer.get_submodule("parametrizations.weight.0")
    return values.numel(), cast(StaticMask, stored).shape.numel()


def _inputs(model: nn.Module, layers: dict[str, nn.Module], images: torch.Tensor) -> dict[str, torch.Tensor]:
    """An input of each layer that is used."""
    found: dict[str, torch.Tensor] = {}
    modes = {module: module.training for module in model.modules()}

    def note(name: str) -> Callable[[nn.Module, Any], None]:
        def hook(_: nn.Module, args: Any) -> None:
            found[name] = args[0]

        return hook

    hooks = [layer.register_forward_pre_hook(note(name)) for name, layer in layers.items()]
    try:
        model.eval()
        with torch.no_grad():
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
    return found
