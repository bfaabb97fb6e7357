"""Images in the layout of sparse layers, and the operations that work in it.

Between sparse layers images stay in groups, one a lane of a vector, with a frame of zeros: (group, channel,
height + 2, width + 2, lane). A [`Packed`][wsnlib.sparse.packed.Packed] tensor stands for them: batch norm,
ReLU, addition and pooling go on in this layout, batch norm together with the addition and the ReLU after it.
Any other function gets the plain tensor, which is computed then.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch.utils._pytree import tree_map_only

from wsnlib.sparse import elementwise
from wsnlib.sparse.tiles import LANES


def refuse_second_derivative() -> None:
    """Raise RuntimeError in a backward pass that is itself to be differentiated."""
    if torch.is_grad_enabled():
        raise RuntimeError(
            "create_graph must be False for a sparse layer, got True; "
            "second derivatives are those of wsn.to_dense(model)"
        )


@cache
def _workers(_: int) -> ThreadPoolExecutor:
    """Of one process; a forked one has none of its parent's."""
    return ThreadPoolExecutor()


def in_threads(work: Callable[[int, int], object], count: int) -> None:
    """Do `work(first, last)` on parts of range(count), in as many threads as torch uses."""
    threads = min(torch.get_num_threads(), count)
    if threads < 2:
        work(0, count)
        return
    ends = [count * i // threads for i in range(threads + 1)]
    others = _workers(os.getpid())
    waiting = [others.submit(work, *part) for part in pairwise(ends[1:])]
    work(0, ends[1])
    for each in waiting:
        each.result()


def flat(x: torch.Tensor) -> Any:
    """The numbers of a contiguous tensor as an array."""
    return x.detach().reshape(-1).numpy()


def empty_images(like: torch.Tensor, planes: int, height: int, width: int) -> torch.Tensor:
    """Room for images of this size in the groups of another array; not even the frames are written."""
    return like.new_empty(like.shape[0], planes, height + 2, width + 2, LANES)


def pack(x: torch.Tensor) -> torch.Tensor:
    """(batch, channels, height, width) in groups; lanes without an image are 0."""
    batch, channels, height, width = x.shape
    groups = -(-batch // LANES)
    made = x.new_zeros(groups, channels, height + 2, width + 2, LANES)
    inside = made[:, :, 1:-1, 1:-1]
    whole = batch // LANES
    if whole:
        part = x[: whole * LANES].unflatten(0, (whole, LANES))
        inside[:whole] = part.permute(0, 2, 3, 4, 1)
    if whole < groups:
        inside[whole, ..., : batch - whole * LANES] = x[whole * LANES :].permute(1, 2, 3, 0)
    return made


def unpack(x: torch.Tensor) -> torch.Tensor:
    """Images in groups as (group · lane, height, width, channel)."""
    groups, channels, height, width, lanes = x.shape
    made = x.new_empty(groups * lanes, height - 2, width - 2, channels)
    made.unflatten(0, (groups, lanes)).copy_(x[:, :, 1:-1, 1:-1].permute(0, 4, 2, 3, 1))
    return made


class Pack(torch.autograd.Function):
    """`pack`, differentiated."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.batch = len(x)
        return pack(x)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return unpack(gradients[0])[: ctx.batch].permute(0, 3, 1, 2)


class Unpack(torch.autograd.Function):
    """`unpack`, differentiated."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return unpack(x)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return pack(gradients[0].permute(0, 3, 1, 2))


class Normalise(torch.autograd.Function):
    """Batch norm with known mean and variance, plus other images, cut off at 0: the last two if asked for."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        other: torch.Tensor | None,
        mean: torch.Tensor,
        inverse: torch.Tensor,
        images: int,
        training: bool,
        relu: bool,
    ) -> torch.Tensor:
        y = torch.empty_like(x)
        scale = weight * inverse
        shift = bias - mean * scale
        given = flat(x), tuple(x.shape), flat(scale), flat(shift)
        added = flat(x)[:0] if other is None else flat(other)
        in_threads(
            lambda first, last: elementwise.normalise(*given, added, relu, images, flat(y), first, last),
            x.shape[1],
        )
        ctx.save_for_backward(x, weight, mean, inverse, *([y] if relu else []))
        ctx.options = images, training, relu
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        refuse_second_derivative()
        x, weight, mean, inverse, *saved = ctx.saved_tensors
        images, training, relu = ctx.options
        g = gradients[0].contiguous()
        gx, gweight, gbias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)
        y = saved[0] if relu else x
        keep = ctx.needs_input_grad[3] and relu
        kept = torch.empty_like(x) if keep else x.new_empty(0)
        given: list[Any] = [flat(each) for each in (g, x, y)]
        per_plane = [flat(each) for each in (mean, inverse, weight)]
        made = [flat(each) for each in (gx, kept, gweight, gbias)]
        given += [tuple(x.shape), *per_plane, relu, training, images, *made]
        in_threads(lambda *part: elementwise.normalise_backward(*given, *part), x.shape[1])
        other = (kept if relu else g) if ctx.needs_input_grad[3] else None
        return gx, gweight, gbias, other, None, None, None, None, None


class Packed(torch.Tensor):
    """Stands for images (batch, channels, height, width) that lie in groups.

    Every function of torch takes it; `grouped` is what it stands for in groups, `plain` as any other tensor.
    Both are computed when they are first asked for, as they would have been at once, and gradients flow
    through either.

    Examples:
        >>> x = torch.arange(30.0).view(5, 1, 2, 3)
        >>> packed = Packed(Pack.apply(x), 5)
        >>> packed.shape, torch.equal(packed + 1, x + 1)
        (torch.Size([5, 1, 2, 3]), True)
    """

    _inner: torch.Tensor | None
    _later: Callable[..., torch.Tensor] | None
    _plain: torch.Tensor | None
    _seen: int
    _batch: int
    _inference: bool
    _recorded: bool

    @staticmethod
    def __new__(
        cls,
        like: torch.Tensor,
        batch: int,
        later: Callable[..., torch.Tensor] | None = None,
        *,
        differentiated: bool | None = None,
    ) -> Packed:
        size = like.shape
        if not isinstance(like, Packed):
            size = torch.Size((batch, size[1], size[2] - 2, size[3] - 2))
        made = torch.Tensor._make_wrapper_subclass(cls, size, dtype=like.dtype, device=like.device)
        made._inner, made._later, made._plain, made._seen = None if later else like, later, None, 0
        made._batch, made._inference = batch, torch.is_inference_mode_enabled()
        made._recorded = torch.is_grad_enabled()
        if like.requires_grad if differentiated is None else differentiated:
            with torch._C.DisableTorchFunctionSubclass():
                made.requires_grad_().register_hook(_refuse_gradient)
        return made

    def grouped(self) -> torch.Tensor:
        """(group, channel, height + 2, width + 2, lane)."""
        self._refuse_others()
        unchanged = self._plain is None or _version(self._plain) == self._seen
        if self._inner is not None and unchanged:
            return self._inner
        with torch.inference_mode(self._inference), torch.enable_grad():
            if self._plain is not None and not unchanged:  # it was changed in place
                self._inner = cast(torch.Tensor, Pack.apply(self._plain))
                self._seen = _version(self._plain) or 0
            if self._inner is None:
                assert self._later is not None
                self._inner, self._later = self._later(None, False), None
            return self._inner

    def plain(self) -> torch.Tensor:
        """(batch, channels, height, width)."""
        self._refuse_others()
        if self._plain is None:
            inner = self.grouped()
            with torch.inference_mode(self._inference), torch.enable_grad():
                whole = cast(torch.Tensor, Unpack.apply(inner))
                self._plain = whole[: self._batch].permute(0, 3, 1, 2)
            self._seen = _version(self._plain) or 0
        return self._plain

    def later(self) -> Callable[..., torch.Tensor] | None:
        """What gives `grouped` where it is not computed yet: with something added or cut off, if asked."""
        self._refuse_others()
        return self._later if self._plain is None else None

    def _refuse_others(self) -> None:
        """Refuse images that another function has put out, to which alone a gradient would go."""
        with torch._C.DisableTorchFunctionSubclass():
            if self.grad_fn is not None:
                _refuse_gradient(self)

    def become(self, inner: torch.Tensor) -> Packed:
        """Stand for something else, as after an operation in place."""
        self._inner, self._later, self._plain = inner, None, None
        return self

    @classmethod
    def __torch_function__(cls, func: Any, types: Sequence[type], args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in WATCHING:
            raise RuntimeError(
                "the images between sparse layers must have no hook on their gradient, got one by "
                f"{func.__name__}; call wsn.to_dense(model) first"
            )
        if func in DESCRIBING:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        if func in HERE and _takes(HERE[func], args, kwargs):
            found = HERE[func](*args, **kwargs)
            if found is not NotImplemented:
                return found
        args, kwargs = tree_map_only(Packed, Packed.plain, (args, kwargs))
        return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        _refuse_gradient(func)


def _refuse_gradient(found: object) -> None:
    """No gradient reaches what only stands for images: that of `grouped` and `plain` does."""
    raise RuntimeError(
        "the images between sparse layers must be given to functions of torch, got one of another "
        "kind, such as a torch.autograd.Function or a reentrant checkpoint; call wsn.to_dense(model) first"
    )


def _takes(work: Callable[..., Any], args: Any, kwargs: Any) -> bool:
    """Whether a function has arguments of these names; torch knows more of them, such as `axis`."""
    try:
        _signature(work).bind(*args, **kwargs)
    except TypeError:
        return False
    return True


_signature = cache(inspect.signature)


def _version(x: torch.Tensor) -> int | None:
    """How often a tensor was changed in place; None where torch does not count."""
    return None if x.is_inference() else x._version


def _recorded(work: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Work for later, whose gradient is recorded only if that of work done now would be."""
    now = torch.is_grad_enabled()

    def later(other: torch.Tensor | None, relu: bool) -> torch.Tensor:
        with torch.set_grad_enabled(now and torch.is_grad_enabled()):
            return work(other, relu)

    return later


def packed(x: torch.Tensor) -> torch.Tensor:
    """Images in groups, of whichever tensor."""
    return x.grouped() if isinstance(x, Packed) else cast(torch.Tensor, Pack.apply(x))


def _batch_norm(
    input: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    if not isinstance(input, Packed) or (training and input.numel() == input.shape[1]):  # torch refuses this
        return NotImplemented
    x, batch = input.grouped(), len(input)
    if training:
        mean, variance = x.new_empty(x.shape[1]), x.new_empty(x.shape[1])
        given, found = (flat(x), tuple(x.shape), batch), (flat(mean), flat(variance))
        in_threads(lambda *part: elementwise.moments(*given, *found, *part), x.shape[1])
        count = batch * (x.shape[2] - 2) * (x.shape[3] - 2)
        if running_mean is not None and running_var is not None:
            with torch.no_grad():
                running_mean.lerp_(mean.to(running_mean.dtype), momentum)
                running_var.lerp_((variance * (count / (count - 1))).to(running_var.dtype), momentum)
    else:
        assert running_mean is not None
        assert running_var is not None
        mean, variance = running_mean.to(x.dtype, copy=True), running_var.to(x.dtype)
    inverse = (variance + eps).rsqrt()
    # copies: an optimiser or a state dict may change the parameters before they are used
    weight = x.new_ones(x.shape[1]) if weight is None else weight.clone()
    bias = x.new_zeros(x.shape[1]) if bias is None else bias.clone()

    def later(other: torch.Tensor | None, relu: bool) -> torch.Tensor:
        given = (x, weight, bias, other, mean, inverse, batch, training, relu)
        return cast(torch.Tensor, Normalise.apply(*given))

    differentiable = any(each.requires_grad for each in (x, weight, bias))
    return Packed(x, batch, _recorded(later), differentiated=torch.is_grad_enabled() and differentiable)


def _relu(input: torch.Tensor, inplace: bool = False) -> torch.Tensor:
    assert isinstance(input, Packed)
    later = input.later()
    made = later(None, True) if later else input.grouped().relu()
    return input.become(made) if inplace else Packed(made, len(input))


def _onto(later: Callable[..., torch.Tensor], more: torch.Tensor) -> Callable[..., torch.Tensor]:
    """Work for later with more added."""
    return _recorded(lambda third, relu: later(more if third is None else more + third, relu))


def _added(a: Any, b: Any) -> Callable[[torch.Tensor | None, bool], torch.Tensor] | None:
    """The sum of two that are not of one shape in this layout: None."""
    if not (isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)):
        return None
    if a.shape != b.shape or a.dtype != b.dtype or a.device != b.device:
        return None
    for one, other in ((a, b), (b, a)):
        if isinstance(one, Packed) and (later := one.later()) and (one._recorded or not other.requires_grad):
            return _onto(later, packed(other))
    x, y = packed(a), packed(b)

    def plainly(third: torch.Tensor | None, relu: bool) -> torch.Tensor:
        total = x + y if third is None else x + y + third
        return total.relu() if relu else total

    return _recorded(plainly)


def _add(a: Any, b: Any, *, alpha: float = 1) -> Any:
    later = _added(a, b) if alpha == 1 else None
    if later is None:
        return NotImplemented
    like = next(x for x in (a, b) if isinstance(x, Packed))
    differentiated = torch.is_grad_enabled() and (a.requires_grad or b.requires_grad)
    return Packed(like, len(like), later, differentiated=differentiated)


def _add_(a: Any, b: Any, *, alpha: float = 1) -> Any:
    later = _added(a, b) if alpha == 1 and isinstance(a, Packed) else None
    return NotImplemented if later is None else a.become(later(None, False))


def _mean(input: torch.Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    if not isinstance(input, Packed) or dtype is not None or dim is None or isinstance(dim, int):
        return NotImplemented
    if sorted(d % 4 for d in dim) != [2, 3]:
        return NotImplemented
    inside = input.grouped()[:, :, 1:-1, 1:-1].mean((2, 3))
    found = inside.transpose(1, 2).flatten(0, 1)[: len(input)]
    return found[:, :, None, None] if keepdim else found


def _adaptive_mean(input: torch.Tensor, output_size: Any) -> Any:
    if output_size not in (1, (1, 1), [1, 1]):
        return NotImplemented
    return _mean(input, (2, 3), True)


def _max_pool(
    input: torch.Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    if not isinstance(input, Packed) or return_indices:
        return NotImplemented
    k, s, p, d = (_pair(each) for each in (kernel_size, stride or kernel_size, padding, dilation))
    inside = input.grouped()[:, :, 1:-1, 1:-1]
    found = F.max_pool3d(inside, (*k, 1), (*s, 1), (*p, 0), (*d, 1), ceil_mode)
    return Packed(F.pad(found, (0, 0, 1, 1, 1, 1)), len(input))


def _average_pool(
    input: torch.Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    if not isinstance(input, Packed):
        return NotImplemented
    k, s, p = (_pair(each) for each in (kernel_size, stride or kernel_size, padding))
    inside = input.grouped()[:, :, 1:-1, 1:-1]
    found = F.avg_pool3d(inside, (*k, 1), (*s, 1), (*p, 0), ceil_mode, count_include_pad, divisor_override)
    return Packed(F.pad(found, (0, 0, 1, 1, 1, 1)), len(input))


def _pair(x: Any) -> tuple[int, int]:
    return (x, x) if isinstance(x, int) else (x[0], x[-1])


_ATTRIBUTES: tuple[Any, ...] = tuple(
    getattr(torch.Tensor, name) for name in ("shape", "dtype", "device", "ndim", "layout", "requires_grad")
)

DESCRIBING = {
    *(each.__get__ for each in _ATTRIBUTES),
    torch.Tensor.size,
    torch.Tensor.dim,
    torch.Tensor.numel,
    torch.Tensor.nelement,
    torch.Tensor.is_floating_point,
    torch.Tensor.__len__,
}
"""What says nothing of the values."""

WATCHING = {torch.Tensor.register_hook, torch.Tensor.retain_grad}
"""What would see only the gradient that comes to the plain tensor."""

HERE: dict[Any, Callable[..., Any]] = {
    F.batch_norm: _batch_norm,
    F.relu: _relu,
    torch.relu: _relu,
    torch.Tensor.relu: _relu,
    torch.relu_: lambda x: _relu(x, True),
    torch.Tensor.relu_: lambda x: _relu(x, True),
    torch.add: _add,
    torch.Tensor.add: _add,
    torch.Tensor.__add__: _add,
    torch.Tensor.__radd__: _add,
    torch.Tensor.add_: _add_,
    torch.Tensor.__iadd__: _add_,
    torch.mean: _mean,
    torch.Tensor.mean: _mean,
    F.adaptive_avg_pool2d: _adaptive_mean,
    torch.max_pool2d: _max_pool,
    F.max_pool2d: _max_pool,
    F.avg_pool2d: _average_pool,
}
"""What works in groups; it gives NotImplemented where it does not after all."""
