"""Native sparse convolution in two dimensions.

At one position of the output a convolution is a sparse matrix times the patch of the input under it, and
the same matrix at every position. With the input laid out as (height, width, channel, batch) and zeros
around it, every patch is found from its corner by the same offsets: the weights are written down once,
not once for each position, and no patch is copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import nn

from wsnlib.sparse.layers import (
    Bags,
    SparseLayer,
    bags,
    refuse_second_derivative,
    refuse_transforms,
)

Pair = tuple[int, int]


class Grid(NamedTuple):
    """Heights and widths: of the kernel, its steps, and the input, with zeros around it, and the output."""

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    inputs: Pair

    @property
    def padded(self) -> Pair:
        """Height and width of the input with zeros around it."""
        (h, w), (ph, pw) = self.inputs, self.padding
        return h + 2 * ph, w + 2 * pw

    @property
    def outputs(self) -> Pair:
        """Height and width of the output."""
        h, w = (
            (self.padded[i] - self.dilation[i] * (self.kernel[i] - 1) - 1) // self.stride[i] + 1
            for i in (0, 1)
        )
        return h, w

    @property
    def margin(self) -> Pair:
        """Zeros before the gradient of the output, so that every position of the input looks inside it."""
        h, w = (self.dilation[i] * (self.kernel[i] - 1) // self.stride[i] for i in (0, 1))
        return h, w

    @property
    def around(self) -> Pair:
        """Height and width of the gradient of the output with zeros around it."""
        h, w = (
            self.margin[i] + max(self.outputs[i], (self.padded[i] - 1) // self.stride[i] + 1) for i in (0, 1)
        )
        return h, w


def grid_of(layer: nn.Conv2d, input: torch.Tensor) -> Grid:
    """The grid of a layer with padding given as numbers, on an input (…, height, width)."""
    sizes = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, input.shape[-2:])
    return Grid(*(cast(Pair, tuple(size)) for size in sizes))


class Phase(NamedTuple):
    """The weights that reach the input positions `phase` modulo the stride: by input channel, in `order`."""

    phase: Pair
    by_input: Bags
    order: torch.Tensor


class ConvWeight(NamedTuple):
    """Where the weights of a Conv2d layer are: by output channel (`row`), and by phase and input channel."""

    by_output: Bags
    row: torch.Tensor
    phases: tuple[Phase, ...]


def conv_weight(index: torch.Tensor, shape: torch.Size, grid: Grid) -> ConvWeight:
    """The weights at these positions of (outputs, inputs, height, width), as offsets on a grid."""
    outputs, inputs, height, width = shape
    rest, x = index // width, index % width * grid.dilation[1]
    rest, y = rest // height, rest % height * grid.dilation[0]
    row, channel = rest // inputs, rest % inputs
    by_output = bags(row, (y * grid.padded[1] + x) * inputs + channel, rows=outputs)

    (sy, sx), (my, mx) = grid.stride, grid.margin
    back = ((my - y // sy) * grid.around[1] + mx - x // sx) * outputs + row
    phases = []
    for phase in ((i, j) for i in range(sy) for j in range(sx)):
        chosen = ((y % sy == phase[0]) & (x % sx == phase[1])).nonzero().squeeze(1)
        order = chosen[channel[chosen].argsort(stable=True)]
        phases.append(Phase(phase, bags(channel[order], back[order], rows=inputs), order.int()))
    return ConvWeight(by_output, row.int(), tuple(phases))


def batch_last(x: torch.Tensor, before: Pair, size: Pair) -> torch.Tensor:
    """(batch, channel, height, width) as (height, width, channel, batch), with zeros up to `size` around."""
    batch, channels, height, width = x.shape
    x = x.permute(0, 2, 3, 1).reshape(batch, -1).t().contiguous().view(height, width, channels, batch)
    if (height, width) == size:
        return x
    after = [size[i] - before[i] - (height, width)[i] for i in (0, 1)]
    return F.pad(x, (0, 0, 0, 0, before[1], after[1], before[0], after[0]))


def batch_first(x: torch.Tensor) -> torch.Tensor:
    """(height, width, channel, batch) as (batch, height, width, channel), in memory of its own."""
    height, width, channels, batch = x.shape
    made = x.new_empty(batch, height, width, channels)
    made.view(batch, -1).copy_(x.view(-1, batch).t())
    return made


class Conv2dFunction(torch.autograd.Function):
    """A convolution without bias; what is made is of the size of input, output or number of weights."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, values: torch.Tensor, w: ConvWeight, grid: Grid) -> torch.Tensor:
        ctx.w, ctx.grid, ctx.channels = w, grid, x.shape[1]
        outputs, batch = len(w.by_output.start), x.shape[0]
        x = batch_last(x, grid.padding, grid.padded)
        y = x.new_empty(*grid.outputs, outputs, batch)
        for i, j, patch in patches(x, grid):
            y[i, j] = w.by_output.times(values, patch)
        ctx.save_for_backward(x, values)
        return batch_first(y)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        refuse_second_derivative()
        x, values = ctx.saved_tensors
        g = batch_last(gradients[0].permute(0, 3, 1, 2), ctx.grid.margin, ctx.grid.around)
        return (
            input_gradient(ctx.w, ctx.grid, values, g, ctx.channels) if ctx.needs_input_grad[0] else None,
            values_gradient(ctx.w, ctx.grid, x, g) if ctx.needs_input_grad[1] else None,
            None,
            None,
        )


def patches(x: torch.Tensor, grid: Grid) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Every position of the output with the rows of the padded input from the corner of its patch on."""
    rows = x.view(-1, x.shape[-1])
    for i in range(grid.outputs[0]):
        for j in range(grid.outputs[1]):
            corner = (i * grid.stride[0] * grid.padded[1] + j * grid.stride[1]) * x.shape[2]
            yield i, j, rows[corner:]


def values_gradient(w: ConvWeight, grid: Grid, x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """Sum over positions and batch of the gradient of the output times the input, for every weight."""
    my, mx = grid.margin
    total = x.new_zeros(len(w.row))
    for i, j, patch in patches(x, grid):
        total += w.by_output.dots(w.row, g[i + my, j + mx], patch)
    return total


def input_gradient(
    w: ConvWeight, grid: Grid, values: torch.Tensor, g: torch.Tensor, channels: int
) -> torch.Tensor:
    """The transposed convolution of the padded gradient of the output."""
    rows, outputs = g.view(-1, g.shape[-1]), g.shape[2]
    (height, width), (py, px), (sy, sx) = grid.inputs, grid.padding, grid.stride
    found = g.new_empty(height, width, channels, g.shape[-1])
    for (fy, fx), by_input, order in w.phases:
        ordered = values[order]
        for i in range((fy - py) % sy, height, sy):
            for j in range((fx - px) % sx, width, sx):
                corner = ((i + py) // sy * grid.around[1] + (j + px) // sx) * outputs
                found[i, j] = by_input.times(ordered, rows[corner:])
    return batch_first(found).permute(0, 3, 1, 2)


class SparseConv2d(SparseLayer, nn.Conv2d):
    """A Conv2d layer, with time in proportion to the weights present, the positions and the batch.

    Made by [`to_sparse`][wsnlib.sparse.to_sparse]: one group, zeros around, any stride, padding and
    dilation. First derivatives with respect to input, values and bias; a second derivative is refused.

    Examples:
        >>> from wsnlib import masks, sparse
        >>> net = masks.sparsify(nn.Conv2d(16, 32, 3), num_weights=99, generator=torch.Generator())
        >>> sparse.to_sparse(net)(torch.ones(2, 16, 8, 8)).shape
        torch.Size([2, 32, 6, 6])
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        refuse_transforms(input)
        values, index, shape = self._weights()
        if input.ndim not in (3, 4) or input.shape[-3] != shape[1]:
            raise ValueError(
                f"the input has the shape {tuple(input.shape)}; (batch, {shape[1]}, height, width) "
                "is allowed for this layer"
            )
        grid = grid_of(self, input)._replace(kernel=cast(Pair, tuple(shape[2:])))
        if min(grid.outputs) < 1:
            raise ValueError(
                f"the input is {grid.padded[0]} x {grid.padded[1]} with its zeros around; a kernel of "
                f"{grid.kernel[0]} x {grid.kernel[1]} with dilation {grid.dilation} does not fit"
            )
        w = self._positions(index, conv_weight, shape, grid)
        x = input.reshape(-1, *input.shape[-3:]).to(values.dtype)
        y = cast(torch.Tensor, Conv2dFunction.apply(x, values, w, grid)).permute(0, 3, 1, 2)
        if self.bias is not None:
            y = y + self.bias[:, None, None]
        return y.reshape(*input.shape[:-3], *y.shape[1:])
