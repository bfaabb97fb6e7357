"""Which masked layers are faster in their native form, by timing both."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal, cast

import torch
from torch import nn

from wsnlib.sparse.convert import masked_layers, to_dense, to_sparse, unsupported

MARGIN = 0.9
"""The native form is chosen where it takes less than this share of the dense form's time."""


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
    layers = masked_layers(model)
    inputs = _inputs(model, layers, images)
    timed: dict[object, tuple[float, float]] = {}
    costs = []
    for name, layer in layers.items():
        weights, size = _numbers(layer)
        x = inputs.get(name)
        alike = None if x is None else (layer.extra_repr(), weights, x.shape, x.requires_grad)
        if alike not in timed:
            timed[alike] = (0.0, 0.0) if x is None else _times(layer, x, repetitions)
        dense, native = timed[alike]
        chosen: Literal["dense", "sparse"] = "sparse" if native < MARGIN * dense else "dense"
        costs.append(
            LayerCost(layer=name, density=weights / size, dense_ms=dense, sparse_ms=native, chosen=chosen)
        )
    return costs


def choose_sparse(model: nn.Module, images: torch.Tensor, *, repetitions: int = 5) -> list[LayerCost]:
    """Give each masked layer of a model its faster form, in place, and say what each costs.

    `wsn.to_sparse(model)` and `wsn.to_dense(model)` force one form instead.

    Args:
        model, images, repetitions: As in [`layer_costs`][wsnlib.sparse.layer_costs].

    Examples:
        >>> from wsnlib import masks
        >>> net = masks.sparsify(nn.Linear(784, 640), num_weights=3970, generator=torch.Generator())
        >>> [cost.chosen for cost in choose_sparse(net, torch.randn(100, 784))], type(net).__name__
        (['sparse'], 'SparseLinear')
    """
    costs = layer_costs(model, images, repetitions=repetitions)
    to_dense(model)
    to_sparse(model, layers=[cost.layer for cost in costs if cost.chosen == "sparse"])
    return costs


def _numbers(layer: nn.Module) -> tuple[int, int]:
    values = layer.get_parameter("parametrizations.weight.original")
    return values.numel(), cast(torch.Tensor, layer.weight).numel()


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
