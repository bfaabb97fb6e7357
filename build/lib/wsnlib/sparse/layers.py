"""Native sparse layers.

The sum over the weights of one output is a bag of rows of the input, weighted by their values: what
`torch.embedding_bag` computes. With the batch as the last, contiguous dimension every weight is one
vectorised multiply-add over the batch. It is part of PyTorch, compiled for every platform; of the ways
that `benchmarks/sparse.py` compares it is the fastest without a compiler on the user's machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from wsnlib.masks import StaticMask

T = TypeVar("T")

_dots = torch.ops.aten._embedding_bag_per_sample_weights_backward
SUM = 0
"""The number of the mode `"sum"` in `torch.embedding_bag` and its derivative."""


class Bags(NamedTuple):
    """Entries of a sparse matrix in order of their rows: `column` (n,) and `start` (rows,), both int32."""

    column: torch.Tensor
    start: torch.Tensor

    def times(self, values: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
        """The matrix with these values (n,), times a dense one (columns, batch): (rows, batch)."""
        if self.column.numel() == 0 or dense.shape[1] == 0:  # what torch does with nothing is not defined
            return dense.new_zeros(len(self.start), dense.shape[1])
        return torch.embedding_bag(dense, self.column, self.start, per_sample_weights=values)[0]

    def dots(self, row: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """left[row] · right[column] for every entry, (n,), of (rows, batch) and (columns, batch)."""
        return cast(torch.Tensor, _dots(left, right, self.column, self.start, row, SUM))


def bags(row: torch.Tensor, column: torch.Tensor, *, rows: int) -> Bags:
    """Bags of entries that are in order of their rows.

    Examples:
        >>> bags(torch.tensor([0, 0, 2]), torch.tensor([1, 4, 0]), rows=3).start.tolist()
        [0, 2, 2]
    """
    start = torch.searchsorted(row.contiguous(), torch.arange(rows, device=row.device))
    return Bags(column.int(), start.int())


class LinearWeight(NamedTuple):
    """Where the weights of a Linear layer are: by outputs, whose number is `row`, and by inputs.

    `order` takes values that are sorted by outputs to values that are sorted by inputs.
    """

    by_output: Bags
    row: torch.Tensor
    by_input: Bags
    order: torch.Tensor


def linear_weight(index: torch.Tensor, shape: torch.Size) -> LinearWeight:
    """The weights at these positions of a matrix (outputs, inputs)."""
    outputs, inputs = shape
    return located(index // inputs, index % inputs, (outputs, inputs))


def located(row: torch.Tensor, column: torch.Tensor, shape: tuple[int, int]) -> LinearWeight:
    """The weights in these rows, in order, and columns of a matrix."""
    rows, columns = shape
    order = (column * rows + row).argsort()
    return LinearWeight(
        bags(row, column, rows=rows),
        row.int(),
        bags(column[order], row[order], rows=columns),
        order.int(),
    )


def refuse_second_derivative() -> None:
    """Raise RuntimeError in a backward pass that is itself to be differentiated."""
    if torch.is_grad_enabled():
        raise RuntimeError(
            "a native sparse layer has first derivatives only and create_graph is True; "
            "False is allowed, or the network of wsn.to_dense(model)"
        )


def refuse_transforms(input: object) -> None:
    """Raise RuntimeError where a native layer would be traced or transformed, which `wsn.to_dense` allows.

    `torch.compile` runs it outside of its graphs, and with `fullgraph=True` gives this as the reason.
    """
    said = "a native sparse layer must be run on tensors as it is, got {}; call wsn.to_dense(model) first"
    if torch.compiler.is_dynamo_compiling():
        torch._dynamo.graph_break(msg=said.format("torch.compile or torch.export"))
    elif not isinstance(input, torch.Tensor):  # of torch.fx
        raise RuntimeError(said.format(f"a {type(input).__name__}"))
    elif torch._C._get_tracing_state() is not None:
        raise RuntimeError(said.format("torch.jit.trace"))
    elif torch._C._are_functorch_transforms_active():
        raise RuntimeError(said.format("a transform of torch.func"))


class LinearFunction(torch.autograd.Function):
    """W xᵀ + b, (outputs, batch), for x (batch, inputs) and the values of W; nothing of W's size is made."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, values: torch.Tensor, bias: torch.Tensor | None, w: LinearWeight
    ) -> torch.Tensor:
        x = x.t().contiguous()
        y = w.by_output.times(values, x)
        if bias is not None:
            y += bias[:, None]
        ctx.save_for_backward(x, values)
        ctx.w = w
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        refuse_second_derivative()
        x, values = ctx.saved_tensors
        w = ctx.w
        need_x, need_values, need_bias, _ = ctx.needs_input_grad
        g = gradients[0].contiguous()
        return (
            w.by_input.times(values[w.order], g).t() if need_x else None,
            w.by_output.dots(w.row, g, x) if need_values else None,
            g.sum(1) if need_bias else None,
            None,
        )


class SparseLayer(nn.Module):
    """What native layers share: the values and the mask of their weight, held as a masked layer holds them.

    The positions are worked out when they are first needed and again whenever the mask has changed: by
    `load_state_dict`, `.to(device)`, or a new mask. Sizes are those of the mask, whatever the layer's
    attributes say, so that nothing beyond the input is read.
    """

    _known: tuple[Any, ...] | None = None

    @property
    def weight(self) -> torch.Tensor:
        """The dense weight, computed when it is asked for; removed weights are 0."""
        return cast(torch.Tensor, self._stored()())

    @weight.setter
    def weight(self, value: torch.Tensor) -> None:
        self._stored().right_inverse(value)

    def _stored(self) -> ParametrizationList:
        return cast(ParametrizationList, self.get_submodule("parametrizations.weight"))

    def _weights(self) -> tuple[torch.Tensor, torch.Tensor, torch.Size]:
        """The values, their positions in the flattened weight, and its shape."""
        stored = self._stored()
        mask = stored[0]
        values = stored.original
        if len(stored) > 1 or not isinstance(mask, StaticMask):
            raise ValueError(
                f"the weight of a native sparse layer has the parametrisations "
                f"{', '.join(type(p).__name__ for p in stored)}; StaticMask alone is allowed"
            )
        index = mask.index
        if values.shape != index.shape:
            raise ValueError(
                f"the mask has {index.numel()} weights and there are {tuple(values.shape)} values; "
                f"as many values as weights are allowed"
            )
        return values, index.to(values.device), mask.shape

    def _positions(self, index: torch.Tensor, work_out: Callable[..., T], *size: Any) -> T:
        """`work_out(index, *size)`, remembered as long as positions and size stay what they are."""
        known = self._known
        if known is None or known[0] is not index or known[1] != size:
            known = (index, size, work_out(index, *size))
            if not torch.compiler.is_exporting():  # what is exported keeps no state
                self._known = known
        return cast(T, known[2])

    def __delattr__(self, name: str) -> None:
        if name == "bias":  # torch would change the class of all native layers
            raise RuntimeError(
                "the bias of a native sparse layer must be a parameter, got a parametrisation of it; "
                "call wsn.to_dense(model) first"
            )
        super().__delattr__(name)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_known"}


class SparseLinear(SparseLayer, nn.Linear):
    """y = x Wᵀ + b, with time and memory in proportion to the weights present and to the batch.

    Made by [`to_sparse`][wsnlib.sparse.to_sparse]. First derivatives with respect to input, values and
    bias; a second derivative is refused.

    Examples:
        >>> from wsnlib import masks, sparse
        >>> net = masks.sparsify(nn.Linear(784, 640), num_weights=3970, generator=torch.Generator())
        >>> net = sparse.to_sparse(net)
        >>> net(torch.ones(2, 784)).shape, net.parametrizations.weight.original.shape
        (torch.Size([2, 640]), torch.Size([3970]))
    """

    input_scale: float = 1.0
    """A factor of the input, 1 / √in_features in the NTK parametrisation."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        refuse_transforms(input)
        values, index, shape = self._weights()
        outputs, inputs = shape
        if input.shape[-1] != inputs:
            raise ValueError(f"the input has {input.shape[-1]} features; {inputs} are allowed for this layer")
        w = self._positions(index, linear_weight, shape)
        x = input.reshape(-1, inputs).to(values.dtype)
        if self.input_scale != 1:
            x = x * self.input_scale
        y = cast(torch.Tensor, LinearFunction.apply(x, values, self.bias, w)).t()
        return y.reshape(*input.shape[:-1], outputs)
