"""The precision of a forward pass: float32, or bfloat16 as autocast has it, fast on every processor.

Instructions for bfloat16 multiply rounded numbers and add in float32. A processor without them can do the
same with its instructions for float32, in about float32's time; torch's own way takes twice as long with
AVX-512 and ten times with AVX2 (`benchmarks/bfloat16.py`), where it also adds less exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

Precision = Literal["float32", "bfloat16"]

PRODUCTS: frozenset[Callable[..., torch.Tensor]] = frozenset(
    {F.conv1d, F.conv2d, F.conv3d, F.linear, torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__}
)
"""What is computed from rounded numbers in float32 where the processor has no instructions for bfloat16."""


@contextmanager
def computing(precision: str, device: torch.device) -> Iterator[None]:
    """In bfloat16 if that is asked for; no cast of a weight is kept, as another autocast outside would.

    Examples:
        >>> with computing("bfloat16", torch.device("cpu")):
        ...     torch.nn.Linear(3, 2)(torch.ones(1, 3)).dtype
        torch.bfloat16
    """
    low = precision == "bfloat16"
    by_float32 = low and device.type == "cpu" and not has_bfloat16()
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=low, cache_enabled=False)
    with autocast, Rounded() if by_float32 else nullcontext():
        yield


@cache
def has_bfloat16() -> bool:
    """Whether the processor has instructions for bfloat16, and torch has oneDNN, which uses them."""
    found = torch.cpu.get_capabilities() if torch.backends.mkldnn.is_available() else {}
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


class Rounded(TorchFunctionMode):
    """Products under autocast to bfloat16, of rounded numbers, added in float32 and rounded.

    The same numbers as by instructions for bfloat16, but for the order of the sum; so are the gradients.

    Examples:
        >>> with torch.autocast("cpu", torch.bfloat16), Rounded():
        ...     torch.nn.functional.linear(torch.tensor([[1 + 2**-9]]), torch.tensor([[3.0]]))
        tensor([[3.]], dtype=torch.bfloat16)
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = args, kwargs or {}
        leaves = tree_leaves(given)
        if func not in PRODUCTS or not _in_bfloat16() or _saves_by_hooks() or not all(map(_is_cast, leaves)):
            return func(*given[0], **given[1])
        args, kwargs = tree_map(_rounded, given)
        with torch.autocast("cpu", enabled=False):
            return func(*args, **kwargs).bfloat16()


def _in_bfloat16() -> bool:
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


def _saves_by_hooks() -> bool:
    """Whether activations are saved by hooks, as under checkpointing; these return outside of this mode."""
    if torch.compiler.is_compiling():
        return False
    return torch._C._autograd._top_saved_tensors_default_hooks(False) is not None


def _is_cast(given: Any) -> bool:
    """Whether autocast would cast it; it leaves whole, complex and float64 numbers as they are."""
    return not isinstance(given, torch.Tensor) or (given.is_floating_point() and given.dtype != torch.float64)


def _rounded(given: Any) -> Any:
    return given.bfloat16().float() if isinstance(given, torch.Tensor) else given
