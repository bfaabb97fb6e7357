"""Which layers are faster as sparse ones here, from times that are measured once and kept.

A convolution costs as much as one of the same shape and number of weights did when it was timed here on
random images, a change of layout as much as a number did. Times are those of the thread, so that what else
the machine does counts little.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import nn

from wsnlib import masks
from wsnlib.choices import check_choice
from wsnlib.precision import Precision, computing
from wsnlib.sparse.convert import full_convolutions, masked_layers, to_sparse, unsupported
from wsnlib.sparse.layers import geometry_of
from wsnlib.sparse.layouts import traced
from wsnlib.timings import kept, thread_ms

MARGIN = 0.9
"""Sparse forms are chosen where they take less than this share of the time without them."""
IMAGES = 16
"""Images in a batch when a convolution is timed."""


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """What a layer costs in both forms.

    Args:
        layer: Its name.
        density: Weights present / weights of the dense layer.
        dense_ms: Milliseconds of a forward and a backward pass with the dense weight, masked if it is; NaN
            if there is no sparse form, as it is not timed then.
        sparse_ms: The same of the sparse form; NaN if there is none.
        chosen: The form in which the whole network is fastest, changes of the layout included.
    """

    layer: str
    density: float
    dense_ms: float
    sparse_ms: float
    chosen: Literal["dense", "sparse"]


class Timed(NamedTuple):
    """A layer whose time is known by it: its kind and sizes, weights present, and images in a batch."""

    kind: str
    sizes: tuple[int, ...]
    weights: int
    images: int

    @property
    def layer(self) -> nn.Module:
        """One of this kind."""
        if self.kind == "linear":
            return nn.Linear(self.sizes[0], self.sizes[1], bias=False)
        inputs, outputs, *n = self.sizes
        pairs = (n[0], n[1]), (n[2], n[3]), (n[4], n[5]), (n[6], n[7])
        return nn.Conv2d(inputs, outputs, *pairs, bias=False)

    @property
    def input(self) -> torch.Tensor:
        """A batch for it."""
        if self.kind == "linear":
            return torch.randn(self.images, self.sizes[0])
        made = torch.randn(self.images, self.sizes[0], *self.sizes[10:])
        return made.to(memory_format=torch.channels_last)


def estimated_costs(
    model: nn.Module,
    images: torch.Tensor,
    *,
    batch_size: int | None = None,
    precision: Precision = "float32",
) -> list[LayerCost]:
    """What every masked layer and every convolution of a model costs here in both forms, on one CPU core.

    A shape is timed when it is first asked for, in some tenths of a second, and its times are kept in a file
    of the user's cache, so that what is chosen, and with it every bit of a result, stays the same on one
    machine. All layers are chosen together: a change of layout between two costs time, too.

    Args:
        model: With masked layers.
        images: One or more inputs of the model, which is run on them once, in evaluation mode.
        batch_size: Images in a batch; by default as many as there are.
        precision: In which dense layers compute; sparse ones compute in float32.

    Returns:
        One entry a layer, in the order of their use; `pandas.DataFrame(costs)` is a table of them. A layer
        that is not used takes 0 ms and comes last.

    Examples:
        >>> from wsnlib import masks
        >>> net = nn.Sequential(nn.Linear(784, 640), nn.ReLU(), nn.Linear(640, 10))
        >>> net = masks.sparsify(net, num_weights=3970, generator=torch.Generator())
        >>> costs = estimated_costs(net, torch.zeros(1, 784), batch_size=100)
        >>> [(cost.layer, round(cost.density, 3)) for cost in costs]
        [('0', 0.004), ('2', 0.31)]
    """
    check_choice("precision", precision, Precision)
    factor = (batch_size or len(images)) / len(images)
    layers: dict[str, nn.Module] = masked_layers(model)
    if any(isinstance(layer, nn.Conv2d) for layer in layers.values()):
        layers |= full_convolutions(model)
    inputs, outputs = _used(model, layers, images)
    weights = {name: masks.num_weights(layer) for name, layer in layers.items()}
    times: dict[str, tuple[float, float]] = {}
    sizes: dict[str, float] = {}
    for name, x in inputs.items():
        times[name] = _milliseconds(layers[name], x, factor, weights[name], precision)
        sizes[name] = factor * (outputs[name] if isinstance(layers[name], nn.Conv2d) else 0)
    timed = {name: each for name, each in times.items() if not math.isnan(each[1])}
    read, around = {name: factor * x.numel() for name, x in inputs.items()}, elementwise_ns()
    if traced(model) is None:  # images are converted before and after every layer
        for name, (dense, native) in timed.items():
            timed[name] = dense, native + around.change * (read[name] + sizes[name]) / 1e6
        around = Elementwise(around.dense, around.dense, 0.0)
    chosen = choose(timed, sizes, read, around)
    order = [*inputs, *(name for name in layers if name not in inputs)]
    return [
        LayerCost(
            layer=name,
            density=masks.connectivity(layers[name]),
            dense_ms=times.get(name, (0.0, 0.0))[0],
            sparse_ms=times.get(name, (0.0, 0.0))[1],
            chosen="sparse" if name in chosen else "dense",
        )
        for name in order
    ]


class Elementwise(NamedTuple):
    """Nanoseconds of a number, forward and backward: batch norm and ReLU in both layouts, and a change."""

    dense: float
    sparse: float
    change: float


def choose(
    times: dict[str, tuple[float, float]],
    outputs: dict[str, float],
    inputs: dict[str, float],
    around: Elementwise,
) -> set[str]:
    """The layers that are sparse in the fastest of all choices, of layers one after the other.

    Args:
        times: Milliseconds of each, dense and sparse.
        outputs: Numbers of each output on which batch norm and ReLU work.
        inputs: Numbers of each input, which change their layout where the form changes.
        around: What such numbers cost.

    Examples:
        >>> free = Elementwise(0, 0, 0)
        >>> two = {"a": (3.0, 2.0), "b": (1.0, 2.0)}
        >>> choose(two, {"a": 0, "b": 0}, {"a": 1e6, "b": 1e6}, free)
        {'a'}
        >>> choose(two, {"a": 0, "b": 0}, {"a": 1e6, "b": 1e6}, free._replace(change=0.6))
        set()
    """
    best: dict[bool, tuple[float, tuple[str, ...]]] = {False: (0.0, ())}
    for name, (dense, sparse) in times.items():
        found = {}
        for is_sparse in (False, True):
            own = (sparse if is_sparse else dense) + outputs[name] / 1e6 * around[is_sparse]
            ways = [
                (cost + own + (0.0 if before == is_sparse else around.change * inputs[name] / 1e6), layers)
                for before, (cost, layers) in best.items()
            ]
            cost, layers = min(ways)
            found[is_sparse] = cost, (*layers, name) if is_sparse else layers
        best = found
    cost, layers = min(best.values(), default=(0.0, ()))
    without = sum(dense + around.dense * outputs[name] / 1e6 for name, (dense, _) in times.items())
    return set(layers) if cost < MARGIN * without else set()


def _milliseconds(
    layer: nn.Module, x: torch.Tensor, factor: float, weights: int, precision: Precision
) -> tuple[float, float]:
    """Dense and sparse; `factor` batches like x are one batch of the training."""
    if unsupported(layer):
        return math.nan, math.nan
    if isinstance(layer, nn.Conv2d):
        geometry = geometry_of(layer, x)
        sizes = [layer.in_channels, layer.out_channels, *(n for pair in geometry for n in pair)]
        timed = Timed("conv", tuple(sizes), weights, IMAGES)
        factor *= len(x) / IMAGES
    else:
        layer = cast(nn.Linear, layer)
        batch = round(factor * x.shape[:-1].numel())
        timed, factor = Timed("linear", (layer.in_features, layer.out_features), weights, batch), 1.0
    return factor * layer_ms(timed, precision), factor * layer_ms(timed, "sparse")


def layer_ms(timed: Timed, form: Precision | Literal["sparse"]) -> float:
    """Milliseconds of a forward and a backward pass in this form, measured here or kept from then."""
    weights = timed.weights if form == "sparse" else 0
    key = f"{form} {timed.kind} {' '.join(map(str, timed.sizes))} of {timed.images}, {weights}"
    return kept(key, lambda: _layer_ms(timed, form))


def _layer_ms(timed: Timed, form: str) -> float:
    x, layer = timed.input.requires_grad_(), timed.layer
    if form == "sparse":
        if timed.weights < cast(torch.Tensor, layer.weight).numel():
            masks.sparsify(layer, num_weights=timed.weights, generator=torch.Generator().manual_seed(0))
        to_sparse(layer, layers=[""])
        if isinstance(layer, nn.Conv2d):
            from wsnlib.sparse.packed import Pack, Packed

            layer.keeps_layout = True  # type: ignore[assignment]
            inner = cast(torch.Tensor, Pack.apply(x.detach())).requires_grad_()

            def through() -> None:
                y = layer(Packed(inner, len(x))).grouped()
                y.backward(torch.ones_like(y))

            return thread_ms(through)
    else:
        layer.to(memory_format=torch.channels_last if timed.kind == "conv" else torch.contiguous_format)

    def work() -> None:
        with computing(form, x.device):
            y = layer(x)
        y.backward(torch.ones_like(y))

    return thread_ms(work)


def elementwise_ns() -> Elementwise:
    """Measured on 8 million numbers of this machine, or kept from then."""
    fields = Elementwise._fields
    return Elementwise(*(kept(f"elementwise {each}", partial(_elementwise_ns, each)) for each in fields))


def _elementwise_ns(part: str) -> float:
    from wsnlib.sparse.packed import Pack, Packed

    x = torch.randn(IMAGES, 64, 32, 32).to(memory_format=torch.channels_last).requires_grad_()
    inner = cast(torch.Tensor, Pack.apply(x.detach())).requires_grad_()
    norm = nn.BatchNorm2d(64)

    def work() -> None:
        if part == "change":
            y = Packed(cast(torch.Tensor, Pack.apply(x)), len(x)).plain()
        elif part == "sparse":
            y = norm(Packed(inner, len(x))).relu().grouped()
        else:
            y = norm(x).relu()
        y.backward(torch.ones_like(y))

    return 1e6 * thread_ms(work) / x.numel() / (2 if part == "change" else 1)


def _used(
    model: nn.Module, layers: dict[str, nn.Module], images: torch.Tensor
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """An input of each layer that is used, in order, and how many numbers its output has."""
    inputs: dict[str, torch.Tensor] = {}
    outputs: dict[str, float] = {}

    def note(name: str) -> Callable[[nn.Module, Any, Any, Any], None]:
        def hook(_: nn.Module, args: Any, kwargs: Any, output: torch.Tensor) -> None:
            inputs[name], outputs[name] = [*args, *kwargs.values()][0], output.numel()

        return hook

    with ExitStack() as stack:
        for name, layer in layers.items():
            stack.callback(layer.register_forward_hook(note(name), with_kwargs=True).remove)
        for module in model.modules():
            stack.callback(setattr, module, "training", module.training)
        model.eval()
        with torch.no_grad():
            model(images)
    return inputs, outputs
