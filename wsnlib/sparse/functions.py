"""Products of sparse weights with images in groups and with matrices, differentiated; needs numba."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F

from wsnlib.sparse import elementwise, tiles
from wsnlib.sparse.geometry import Places, Terms, check_offsets, conv_places, linear_places
from wsnlib.sparse.layers import Geometry, Pair
from wsnlib.sparse.packed import (
    Packed,
    empty_images,
    flat,
    in_threads,
    packed,
    refuse_second_derivative,
)
from wsnlib.sparse.tiles import LANES


class Images(NamedTuple):
    """Where a product finds or leaves images: an array from their first position on, and its strides."""

    at: Any
    group: int
    plane: int
    row: int

    @classmethod
    def framed(cls, x: torch.Tensor) -> Images:
        """Inside their frames."""
        _, planes, rows, columns, _ = x.shape
        plane = rows * columns * LANES
        return cls(flat(x)[(columns + 1) * LANES :], planes * plane, plane, columns * LANES)

    @classmethod
    def rows(cls, x: torch.Tensor) -> Images:
        """Of a matrix (features, batch): a feature is a plane with a position for each vector of images."""
        return cls(flat(x), 0, x.shape[1], 0)

    @classmethod
    def whole(cls, x: torch.Tensor) -> Images:
        """Of phases (group, plane, phase, phase, row, column, lane), which have none."""
        rows, columns = x.shape[-3:-1]
        plane = rows * columns * LANES
        return cls(flat(x), x[0].numel(), plane, columns * LANES)


def product(x: Images, y: Images, terms: Terms, values: torch.Tensor, size: Pair, groups: int) -> None:
    """Fill y, of this height and width, by the weights with these values."""
    tile = tiles.tile_shape(*size, tiles.MOST)
    ordered = flat(values) if terms.order is None else flat(values).take(terms.order)
    given = x.at, x.group, x.row, y.at, y.group, y.plane, y.row, *size, *tile
    weights = terms.segments, terms.offsets, ordered
    in_threads(lambda first, last: tiles.products(*(*given, first, last, *weights)), groups)


def values_gradient(
    x: Images, g: Images, terms: Terms, like: torch.Tensor, size: Pair, groups: int
) -> torch.Tensor:
    """Sum over positions and images of the gradient of the output times the input, for every weight."""
    tile = tiles.tile_shape(*size, tiles.MOST_HELD)
    parts: dict[int, torch.Tensor] = {}

    def work(first: int, last: int) -> None:
        total = like.new_zeros(len(terms.offsets), LANES)
        tiles.gradients(
            x.at, x.group, x.row, g.at, g.group, g.plane, g.row, *size, *tile, first, last,
            terms.segments, terms.blocks, terms.offsets, flat(total),
        )  # fmt: skip
        parts[first] = total.sum(1)

    in_threads(work, groups)
    found = torch.stack([parts[first] for first in sorted(parts)]).sum(0)
    if terms.order is None:
        return found
    return torch.empty_like(found).scatter_(0, torch.from_numpy(terms.order).long(), found)


def phases(x: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    """A copy of images in which the positions of each residue modulo the stride are a plane."""
    down, across = geometry.phases
    y = x.new_empty(*x.shape[:2], len(down), len(across), *geometry.copied, LANES)
    return _spread(x, y, geometry.stride, (down, across), geometry.padding)


def widened(g: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    """The gradient of the output with so many zeros around that every position of a phase looks inside."""
    (h, w), (my, mx) = geometry.copied, geometry.margin
    y = g.new_empty(*g.shape[:2], 1, 1, h + my, w + mx, LANES)
    return _spread(g, y, (1, 1), ([0], [0]), (my, mx))


def _spread(
    x: torch.Tensor, y: torch.Tensor, step: Pair, residues: tuple[list[int], list[int]], shift: Pair
) -> torch.Tensor:
    given = flat(x), tuple(x.shape), flat(y), tuple(y.shape), step, _table(residues), shift
    in_threads(lambda *part: elementwise.spread(*given, *part), len(x))
    return y


def _table(residues: tuple[list[int], list[int]]) -> Any:
    most = max(map(len, residues))
    return np.array([each + [0] * (most - len(each)) for each in residues])


def gathered(x: torch.Tensor, geometry: Geometry, channels: int) -> torch.Tensor:
    """The images of which these are the phases."""
    y = empty_images(x, channels, *geometry.images)
    table = _table(geometry.phases)
    given = flat(x), tuple(x.shape), flat(y), tuple(y.shape), geometry.stride, table, geometry.padding
    in_threads(lambda *part: elementwise.gather(*given, *part), len(x))
    return y


def _images(x: torch.Tensor) -> Images:
    """Inside their frames, or phases, which have none."""
    return Images.framed(x) if x.ndim == 5 else Images.whole(x)


class Conv2dFunction(torch.autograd.Function):
    """A convolution of images in groups; nothing of the dense weight's size is made."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        values: torch.Tensor,
        bias: torch.Tensor | None,
        places: Places,
        geometry: Geometry,
        images: int,
        outputs: int,
    ) -> torch.Tensor:
        y = empty_images(x, outputs, *geometry.outputs)
        read = x if geometry.in_place else phases(x, geometry)
        product(_images(read), Images.framed(y), places.forward, values, geometry.outputs, len(x))
        added = flat(values)[:0] if bias is None else flat(bias)
        given = flat(y), tuple(y.shape), added, images
        in_threads(lambda *part: elementwise.finish(*given, *part), len(y))
        ctx.save_for_backward(read, values)
        ctx.places, ctx.geometry, ctx.images = places, geometry, images
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        refuse_second_derivative()
        read, values = ctx.saved_tensors
        geometry, g = ctx.geometry, gradients[0].contiguous()
        need_x, need_values, need_bias, *_ = ctx.needs_input_grad
        found = of_values = None
        if need_x:
            found = input_gradient(g, values, ctx.places.backward, geometry, read.shape[1], ctx.images)
        if need_values:
            given = _images(read), Images.framed(g)
            of_values = values_gradient(*given, ctx.places.forward, values, geometry.outputs, len(g))
        of_bias = g.sum((0, 2, 3, 4)) if need_bias else None
        return found, of_values, of_bias, None, None, None, None


def input_gradient(
    g: torch.Tensor, values: torch.Tensor, terms: Terms, geometry: Geometry, channels: int, images: int
) -> torch.Tensor:
    """The transposed convolution of the gradient of the output."""
    if geometry.in_place:
        y = empty_images(g, channels, *geometry.images)
        product(Images.framed(g), Images.framed(y), terms, values, geometry.images, len(g))
        given = flat(y), tuple(y.shape), flat(values)[:0], images
        in_threads(lambda *part: elementwise.finish(*given, *part), len(y))
        return y
    down, across = geometry.phases
    y = g.new_empty(len(g), channels, len(down), len(across), *geometry.copied, LANES)
    source = Images.whole(widened(g, geometry))
    product(source, Images.whole(y), terms, values, geometry.copied, len(g))
    return gathered(y, geometry, channels)


class LinearFunction(torch.autograd.Function):
    """W x + b for x (inputs, batch), whose batch is whole vectors, and the values of W."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        values: torch.Tensor,
        bias: torch.Tensor | None,
        places: Places,
        outputs: int,
    ) -> torch.Tensor:
        ctx.places = places
        ctx.save_for_backward(x, values)
        y = _linear(x, places.forward, values, outputs)
        return y if bias is None else y.add_(bias[:, None])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        refuse_second_derivative()
        x, values = ctx.saved_tensors
        need_x, need_values, need_bias, *_ = ctx.needs_input_grad
        g = gradients[0].contiguous()
        found = _linear(g, ctx.places.backward, values, len(x)) if need_x else None
        of_values = None
        if need_values:
            terms, size = _spaced(ctx.places.forward, x), (1, x.shape[1] // LANES)
            of_values = values_gradient(Images.rows(x), Images.rows(g), terms, values, size, 1)
        return found, of_values, g.sum(1) if need_bias else None, None, None


def _spaced(terms: Terms, x: torch.Tensor) -> Terms:
    check_offsets(x.numel())
    return terms._replace(offsets=terms.offsets * np.int32(x.shape[1] // LANES))


def _linear(x: torch.Tensor, terms: Terms, values: torch.Tensor, outputs: int) -> torch.Tensor:
    y = x.new_empty(outputs, x.shape[1])
    product(Images.rows(x), Images.rows(y), _spaced(terms, x), values, (1, x.shape[1] // LANES), 1)
    return y


@torch.compiler.disable  # type: ignore[untyped-decorator]
def linear(
    x: torch.Tensor,
    layer: Any,
    values: torch.Tensor,
    index: torch.Tensor,
    shape: torch.Size,
    batch: torch.Size,
) -> torch.Tensor:
    """A Linear layer on (n, inputs), as (*batch, outputs); the output has the batch last in memory."""
    found = layer._positions(index, lambda i, size: linear_places(i.numpy(), size), tuple(shape))
    batch_last = F.pad(x.t(), (0, -len(x) % LANES)).contiguous()
    y = cast(torch.Tensor, LinearFunction.apply(batch_last, values, layer.bias, found, shape[0]))
    return y[:, : len(x)].t().reshape(*batch, shape[0])


@torch.compiler.disable  # type: ignore[untyped-decorator]
def convolution(
    input: torch.Tensor,
    layer: Any,
    values: torch.Tensor,
    index: torch.Tensor,
    shape: torch.Size,
    geometry: Geometry,
) -> torch.Tensor:
    """A Conv2d layer on (batch, inputs, height, width); packed if the layer keeps the layout."""
    found = layer._positions(index, lambda i, *size: conv_places(i.numpy(), *size), tuple(shape), geometry)
    x = packed(input if input.dtype == values.dtype else input.to(values.dtype))
    y = Conv2dFunction.apply(x, values, layer.bias, found, geometry, len(input), shape[0])
    made = Packed(cast(torch.Tensor, y), len(input))
    return made if layer.keeps_layout else made.plain()
