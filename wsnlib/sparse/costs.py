"""Which masked layers are faster in their native form, by timing both."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal, cast

import torch
from torch import nn

from wsnlib.masks import StaticMask
from wsnlib.sparse.convert import masked_layers, to_dense, to_sparse, unsupported
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
        dense_ms: Milliseconds of a forward and a backward pass with the dense, masked weight.
        sparse_ms: The same of the native form; NaN if there is none.
        chosen: The faster form.
    """

    layer: str
    density: float
    dense_ms: float
    sparse_ms: float
    chosen: Literal["dense", "sparse"]


def layer_costs(model: nn.Module, images: torch.Tensor, *, repetitions: int = 5) -> list[LayerCost]:
    """Time every masked layer of a model in both forms, on inputs of the shape that it gets.

    Layers with the same shapes and the same number of weights are timed once. The model is run once, in
    evaluation mode, and stays as it was.

    Args:
        model: With masked layers, native or not; where its parameters lie is where they are timed.
        images: A batch of inputs of the model, as large as those it will be trained on.
        repetitions: Of each form, in turns; the median counts. A layer that is not used takes 0 ms.

    Returns:
        One entry a layer, in the order of the model; `pandas.DataFrame(costs)` is a table of them.

    Examples:
        >>> from wsnlib import masks
        >>> net = nn.Sequential(nn.Linear(784, 640), nn.ReLU(), nn.Linear(640, 10))
        >>> net = masks.sparsify(net, num_weights=3970, generator=torch.Generator())
        >>> [(cost.layer, round(cost.density, 3)) for cost in layer_costs(net, torch.randn(100, 784))]
        [('0', 0.004), ('2', 0.31)]
    """
    if repetitions < 1:
        raise ValueError(f"repetitions is {repetitions!r}; an integer of at least 1 is allowed")
    timed: dict[object, tuple[float, float]] = {}

    def times(layer: nn.Module, x: torch.Tensor) -> tuple[float, float]:
        alike = (layer.extra_repr(), _numbers(layer), x.shape, x.requires_grad)
        if alike not in timed:
            timed[alike] = _times(layer, x, repetitions)
        return timed[alike]

    return _costs(model, images, times)


def estimated_costs(
    model: nn.Module, images: torch.Tensor, *, batch_size: int | None = None
) -> list[LayerCost]:
    """What [`layer_costs`][wsnlib.sparse.layer_costs] would find on one CPU core, without timing anything.

    Estimates do not depend on chance, so that what is chosen by them, and with it every bit of a result,
    is the same each time. The choice is right where it matters and may be wrong by some 30 % of a layer's
    time near break-even.

    Args:
        model: With masked layers.
        images: One or more inputs of the model, which is run on them once, in evaluation mode.
        batch_size: Images in a batch; by default as many as there are.

    Examples:
        >>> from wsnlib import masks
        >>> net = nn.Sequential(nn.Linear(784, 640), nn.ReLU(), nn.Linear(640, 10))
        >>> net = masks.sparsify(net, num_weights=3970, generator=torch.Generator())
        >>> [cost.chosen for cost in estimated_costs(net, torch.zeros(1, 784), batch_size=100)]
        ['sparse', 'sparse']
    """
    factor = (batch_size or len(images)) / len(images)
    batch_is_last = False

    def times(layer: nn.Module, x: torch.Tensor) -> tuple[float, float]:
        nonlocal batch_is_last
        weights, size = _numbers(layer)
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
        batch_is_last = kind == "linear" and native < MARGIN * dense
        return dense / 1e6, native / 1e6

    return _costs(model, images, times)


def choose_sparse(model: nn.Module, images: torch.Tensor, *, repetitions: int = 5) -> list[LayerCost]:
    """Give each masked layer of a model its faster form, in place, and say what each costs.

    `wsn.to_sparse(model)` and `wsn.to_dense(model)` force one form instead.

    Args:
        model, images, repetitions: As in [`layer_costs`][wsnlib.sparse.layer_costs].

    Examples:
        >>> from wsnlib import masks
        >>> net = masks.sparsify(nn.Linear(784, 640), num_weights=3970, generator=torch.Generator())
        >>> (cost,) = choose_sparse(net, torch.randn(100, 784))
        >>> type(net).__name__.startswith("Sparse") == (cost.chosen == "sparse")
        True
    """
    costs = layer_costs(model, images, repetitions=repetitions)
    take(model, costs)
    return costs


def take(model: nn.Module, costs: list[LayerCost]) -> None:
    """Give each layer the form that was chosen, in place."""
    to_dense(model)
    to_sparse(model, layers=[cost.layer for cost in costs if cost.chosen == "sparse"])


def _costs(
    model: nn.Module,
    images: torch.Tensor,
    times: Callable[[nn.Module, torch.Tensor], tuple[float, float]],
) -> list[LayerCost]:
    layers = masked_layers(model)
    inputs = _inputs(model, layers, images)
    costs = []
    for name, layer in layers.items():
        weights, size = _numbers(layer)
        dense, native = times(layer, inputs[name]) if name in inputs else (0.0, 0.0)
        chosen: Literal["dense", "sparse"] = "sparse" if native < MARGIN * dense else "dense"
        costs.append(
            LayerCost(layer=name, density=weights / size, dense_ms=dense, sparse_ms=native, chosen=chosen)
        )
    return costs


def _numbers(layer: nn.Module) -> tuple[int, int]:
    values = layer.get_parameter("parametrizations.weight.original")
    stored = layer.get_submodule("parametrizations.weight.0")
    return values.numel(), cast(StaticMask, stored).shape.numel()


def _inputs(model: nn.Module, layers: dict[str, nn.Module], images: torch.Tensor) -> dict[str, torch.Tensor]:
    """An input of each layer, which requires a gradient if the layer's input does in training."""
    found: dict[str, torch.Tensor] = {}
    modes = {module: module.training for module in model.modules()}

    def note(name: str) -> Callable[[nn.Module, Any], None]:
        def hook(_: nn.Module, args: Any) -> None:
            found[name] = args[0].detach().clone().requires_grad_(args[0].requires_grad)

        return hook

    hooks = [layer.register_forward_pre_hook(note(name)) for name, layer in layers.items()]
    try:
        model.eval()
        model(images)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
    return found


def _times(layer: nn.Module, x: torch.Tensor, repetitions: int) -> tuple[float, float]:
    """Milliseconds of the dense and of the native form."""
    dense = to_dense(copy.deepcopy(layer))
    if unsupported(dense):
        return _median_ms([dense], x, repetitions)[0], float("nan")
    native = to_sparse(copy.deepcopy(dense))
    first, second = _median_ms([dense, native], x, repetitions)
    return first, second


def _median_ms(forms: list[nn.Module], x: torch.Tensor, repetitions: int) -> list[float]:
    took: list[list[float]] = [[] for _ in forms]
    for repetition in range(repetitions + 1):
        for form, times in zip(forms, took, strict=True):
            _wait(x)
            start = time.perf_counter()
            y = form(x)
            y.backward(torch.ones_like(y))
            _wait(x)
            if repetition:  # the first of each makes what the others find
                times.append(time.perf_counter() - start)
            form.zero_grad()
    return [1000 * median(times) for times in took]


def _wait(x: torch.Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
