"""Sparse layers.

They hold what masked layers hold and compute with the weights present only, by `wsnlib.sparse.functions`, on
a CPU in float32 and float64. Elsewhere they multiply by the dense, masked weight.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from wsnlib.masks import StaticMask

T = TypeVar("T")
Pair = tuple[int, int]


class Geometry(NamedTuple):
    """Heights and widths: of the kernel, its steps, and the images."""

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    images: Pair

    @property
    def reach(self) -> Pair:
        """Positions between the first and the last that a kernel reads."""
        return self._pair(lambda i: self.dilation[i] * (self.kernel[i] - 1))

    @property
    def padded(self) -> Pair:
        """Height and width of the images with their padding."""
        return self._pair(lambda i: self.images[i] + 2 * self.padding[i])

    @property
    def outputs(self) -> Pair:
        """Height and width of the output; below 1 where the kernel does not fit."""
        return self._pair(lambda i: (self.padded[i] - self.reach[i] - 1) // self.stride[i] + 1)

    @property
    def in_place(self) -> bool:
        """Whether a frame of one position of zeros suffices, for the images and for the output's gradient."""
        return self.stride == (1, 1) and all(
            p <= 1 and r - p <= 1 for p, r in zip(self.padding, self.reach, strict=True)
        )

    @property
    def phases(self) -> tuple[list[int], list[int]]:
        """Residues modulo the stride that are read."""
        down, across = (
            sorted({k * self.dilation[i] % self.stride[i] for k in range(self.kernel[i])}) for i in (0, 1)
        )
        return down, across

    @property
    def margin(self) -> Pair:
        """Rows and columns of a phase before its first that reads a position of the output."""
        return self._pair(lambda i: self.reach[i] // self.stride[i])

    @property
    def copied(self) -> Pair:
        """Height and width of a phase."""
        return self._pair(lambda i: self.outputs[i] + self.margin[i])

    def _pair(self, each) -> Pair:  # type: ignore[no-untyped-def]
        return each(0), each(1)


def geometry_of(layer: nn.Conv2d, input: torch.Tensor) -> Geometry:
    """The geometry of a layer with padding given as numbers, on an input (…, height, width)."""
    sizes = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, input.shape[-2:])
    return Geometry(*(cast(Pair, tuple(size)) for size in sizes))


def refuse_transforms(input: object) -> None:
    """Raise RuntimeError where a sparse layer would be traced or transformed, which `wsn.to_dense` allows.

    `torch.compile` runs it outside of its graphs, and with `fullgraph=True` gives this as the reason.
    """
    said = "a sparse layer must be run on tensors as it is, got {}; call wsn.to_dense(model) first"
    if torch.compiler.is_dynamo_compiling():
        torch._dynamo.graph_break(msg=said.format("torch.compile or torch.export"))
    elif not isinstance(input, torch.Tensor):  # of torch.fx
        raise RuntimeError(said.format(f"a {type(input).__name__}"))
    elif torch._C._get_tracing_state() is not None:
        raise RuntimeError(said.format("torch.jit.trace"))
    elif torch._C._are_functorch_transforms_active():
        raise RuntimeError(said.format("a transform of torch.func"))


@cache
def everywhere(count: int) -> torch.Tensor:
    """All positions of a weight, one tensor for all layers of that size."""
    return torch.arange(count, device="cpu")


class SparseLayer(nn.Module):
    """What sparse layers share: the values and the mask of their weight, held as a masked layer holds them.

    A layer without a mask holds its weight as any other does, and all of it is present.

    The positions are worked out when they are first needed and again whenever the mask has changed: by
    `load_state_dict`, `.to(device)`, or a new mask. Sizes are those of the mask, whatever the layer's
    attributes say, so that nothing beyond the input is read.
    """

    _known: tuple[Any, ...] | None = None

    @property
    def weight(self) -> torch.Tensor:
        """The dense weight, computed when it is asked for; removed weights are 0."""
        full = self._parameters.get("weight")
        return cast(torch.Tensor, self._stored()()) if full is None else full

    @weight.setter
    def weight(self, value: torch.Tensor) -> None:
        self._stored().right_inverse(value)

    def _stored(self) -> ParametrizationList:
        return cast(ParametrizationList, self.get_submodule("parametrizations.weight"))

    def _weights(self) -> tuple[torch.Tensor, torch.Tensor, torch.Size]:
        """The values, their positions in the flattened weight, and its shape."""
        if (full := self._parameters.get("weight")) is not None:
            return full.flatten(), everywhere(full.numel()), full.shape
        stored = self._stored()
        mask = stored[0]
        values = stored.original
        if len(stored) > 1 or not isinstance(mask, StaticMask):
            raise ValueError(
                f"the weight of a sparse layer must have the parametrisation StaticMask alone, got "
                f"{', '.join(type(p).__name__ for p in stored)}; use wsn.to_dense(model)"
            )
        index = mask.index
        if values.shape != index.shape:
            raise ValueError(
                f"a mask of {index.numel()} weights must have as many values, got {tuple(values.shape)}"
            )
        return values, index.to(values.device), mask.shape

    def _positions(self, index: torch.Tensor, work_out: Callable[..., T], *size: Any) -> T:
        """`work_out(index, *size)`, remembered as long as positions and size stay what they are."""
        known = self._known
        if known is None or known[0] is not index or known[1] != size:
            known = (index, size, work_out(index, *size))
            self._known = known
        return cast(T, known[2])

    def _computed_here(self, values: torch.Tensor, input: torch.Tensor) -> bool:
        """Whether the weights present alone are computed with, and not the dense weight."""
        numbers = values.dtype in (torch.float32, torch.float64) and not torch.compiler.is_exporting()
        here = values.is_cpu and input.device.type == "cpu"
        return numbers and here and len(input) > 0

    def __delattr__(self, name: str) -> None:
        if name == "bias":  # torch would change the class of all sparse layers
            raise RuntimeError(
                "the bias of a sparse layer must be a parameter, got a parametrisation of it; "
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
            raise ValueError(f"the input must have {inputs} features, got {input.shape[-1]}")
        x = input.reshape(-1, inputs).to(values.dtype)
        if self.input_scale != 1:
            x = x * self.input_scale
        if not self._computed_here(values, x):
            return F.linear(x, self.weight, self.bias).reshape(*input.shape[:-1], outputs)
        from wsnlib.sparse import functions

        return functions.linear(x, self, values, index, shape, input.shape[:-1])  # type: ignore[no-any-return]


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

    keeps_layout: bool = False
    """Whether the output stays in groups for the layers after it (see `wsnlib.sparse.packed`)."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        refuse_transforms(input)
        values, index, shape = self._weights()
        if input.ndim not in (3, 4) or input.shape[-3] != shape[1]:
            raise ValueError(
                f"the input must be of shape (batch, {shape[1]}, height, width), got {tuple(input.shape)}"
            )
        geometry = geometry_of(self, input)._replace(kernel=cast(Pair, tuple(shape[2:])))
        if min(geometry.outputs) < 1:
            raise ValueError(
                f"the input is {geometry.padded[0]} x {geometry.padded[1]} with its zeros around; a kernel "
                f"of {geometry.kernel[0]} x {geometry.kernel[1]} with dilation {geometry.dilation} "
                "does not fit"
            )
        if input.ndim == 3:
            return self.forward(input[None])[0]
        if not self._computed_here(values, input):
            given = geometry.stride, geometry.padding, geometry.dilation
            return F.conv2d(input.to(values.dtype), self.weight, self.bias, *given)
        from wsnlib.sparse import functions

        return functions.convolution(input, self, values, index, shape, geometry)  # type: ignore[no-any-return]
