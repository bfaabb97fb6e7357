"""HSIC and linear CKA of two representations (n, p) and (n, q) of the same n examples.

A Gram matrix K = XXᵀ is *U-centred* when its diagonal is set to 0 and its rows are made to sum to 0
without touching it:

    K̃ᵢⱼ = Kᵢⱼ − rᵢ − rⱼ (i ≠ j),  rᵢ = Σⱼ Kᵢⱼ / (n − 2) − Σᵢⱼ Kᵢⱼ / (2(n − 1)(n − 2)) (sums over i ≠ j).

Then HSIC₁(K, L) = ⟨K̃, L̃⟩ / (n(n − 3)): N21's equation (3) as one inner product, without the differences
of large numbers that cost the textbook form its digits. Moving all examples by one vector adds aᵢ + aⱼ to
Kᵢⱼ and leaves K̃ as it is; subtracting anything near the mean before the Gram matrix is formed is therefore
exact, and keeps float32 accurate where activations lie far from 0.

References:
    N21, Section 3.1. Song, Smola, Gretton, Bedo, Borgwardt, *Feature selection via dependence maximization*
    (2012), Section 2.3. Székely, Rizzo, *Partial distance correlation with methods for dissimilarities*
    (2014), Definition 2 (U-centring).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, lru_cache, partial
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy
import torch
from threadpoolctl import ThreadpoolController

from wsnlib.choices import check_choice

Estimator = Literal["unbiased", "biased"]

Array = torch.Tensor | npt.ArrayLike
"""A tensor, or what numpy makes an array of."""

LEAST_EXAMPLES = 4
"""HSIC₁ averages over 4-tuples of examples."""

_COLUMNS = 4096
"""Features that enter a Gram matrix at a time on a CPU; moved, they stay in its cache."""
_ROWS = 64
"""Rows of a Gram matrix that are computed at a time on a CPU; what lies right of them is not."""
_FEW = 16
"""Examples by whose mean all are moved, near enough to the mean of all for the rounding."""


# -- Gram matrices ----------------------------------------------------------------------------


def as_tensor(x: Array) -> torch.Tensor:
    """A tensor as it is, anything else as numpy makes an array of it.

    Examples:
        >>> as_tensor(np.arange(3)[::-1])
        tensor([2, 1, 0])
    """
    if isinstance(x, torch.Tensor):
        return x
    array = np.asarray(x)  # a copy where torch would refuse the layout, or warn that it is only read
    return torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ["C", "W"]))


def real(x: Array) -> torch.Tensor:
    """A tensor of float32 or float64: half precision is raised to float32, integers to float64.

    Raises:
        ValueError: If the values are complex.

    Examples:
        >>> real([1, 2]), real(np.ones(2, dtype=np.float16))
        (tensor([1., 2.], dtype=torch.float64), tensor([1., 1.]))
    """
    x = as_tensor(x)
    if x.is_complex():
        raise ValueError(
            f"activations must be real, got {x.dtype}; give torch.view_as_real(x), or layers that are real"
        )
    if not x.is_floating_point():
        return x.to(_accurate(x))
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def u_centred(gram: Array) -> torch.Tensor:
    """K̃: the Gram matrix with zero diagonal and rows that sum to 0 (see the module's head).

    Args:
        gram: (…, n, n), symmetric, n of at least 4.

    Examples:
        >>> K = u_centred(torch.tensor([[1.0, 2, 0, 1], [2, 5, 1, 1], [0, 1, 3, 0], [1, 1, 0, 2]]))
        >>> K.diagonal().tolist(), K.sum(0).abs().max().item() < 1e-6
        ([0.0, 0.0, 0.0, 0.0], True)
    """
    gram = real(gram).clone()
    n = gram.shape[-1]
    _check_examples(n)
    gram.diagonal(dim1=-2, dim2=-1).zero_()
    sums = gram.sum(-1, dtype=_accurate(gram))
    rows = (sums / (n - 2) - sums.sum(-1, keepdim=True) / (2 * (n - 1) * (n - 2))).to(gram.dtype)
    gram -= rows.unsqueeze(-1)
    gram -= rows.unsqueeze(-2)
    gram.diagonal(dim1=-2, dim2=-1).zero_()
    return gram


def centred(gram: Array) -> torch.Tensor:
    """HKH with H = 1 − 11ᵀ/n: the Gram matrix of the examples minus their mean.

    Examples:
        >>> centred(torch.tensor([[1.0, 3.0], [3.0, 9.0]]))
        tensor([[ 1., -1.],
                [-1.,  1.]])
    """
    gram = real(gram)
    means = gram.mean(-1, dtype=_accurate(gram))
    rows = (means - means.mean(-1, keepdim=True) / 2).to(gram.dtype)
    return gram - rows.unsqueeze(-1) - rows.unsqueeze(-2)


def hsic0(gram: Array, other: Array) -> torch.Tensor:
    """HSIC₀(K, L) = ⟨HKH, HLH⟩ / (n − 1)², the biased estimate.

    References:
        N21, Section 3.1, above equation (1).

    Examples:
        >>> K = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> hsic0(K, K)
        tensor(1.)
    """
    gram, other = _same_examples(gram, other)
    return (centred(gram) * centred(other)).sum((-2, -1)) / (gram.shape[-1] - 1) ** 2


def hsic1(gram: Array, other: Array) -> torch.Tensor:
    """HSIC₁(K, L) = ⟨K̃, L̃⟩ / (n(n − 3)), the unbiased estimate: the mean of a kernel over all 4-tuples.

    References:
        N21, equation (3), and equation (5) for the average over 4-tuples.

    Examples:
        >>> X = torch.arange(6.0).square().unsqueeze(1)
        >>> hsic1(X @ X.T, X @ X.T).item()
        6714.7...
    """
    gram, other = _same_examples(gram, other)
    n = gram.shape[-1]
    return (u_centred(gram) * u_centred(other)).sum((-2, -1)) / (n * (n - 3))


def cka(x: Array, y: Array, *, estimator: Estimator = "unbiased") -> float:
    """HSIC(XXᵀ, YYᵀ) / √(HSIC(XXᵀ, XXᵀ) · HSIC(YYᵀ, YYᵀ)), linear CKA, in float64.

    1 if the representations are equal up to rotation, isotropic scale and shift. Nothing is cut off: the
    unbiased estimate may lie a little below 0.

    Args:
        x: (n, …), flattened to (n, p); n of at least 4.
        y: (n, …), flattened to (n, q): the same examples in the same order.
        estimator: `"unbiased"` takes HSIC₁, whose expectation does not depend on n; `"biased"` takes
            HSIC₀, which grows with p / n.

    Returns:
        NaN, with a warning, if a representation does not vary.

    Raises:
        ValueError: If there are fewer than 4 examples, not equally many in both, values that are complex
            or not finite, or no such estimator.

    References:
        N21, equation (1). Kornblith, Norouzi, Lee, Hinton, *Similarity of neural network representations
        revisited* (2019), Section 3.

    Examples:
        >>> X = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
        >>> round(cka(X, -2 * X.flip(1) + 5), 6)
        1.0
    """
    check_choice("estimator", estimator, Estimator)
    vectors, norms, names = [], [], []
    one, other = (real(each).double().detach() for each in (x, y))
    if len(one) != len(other):
        raise ValueError(f"y must be of the examples of x, got {len(other)} in place of {len(one)}")
    for name, value in (("x", one), ("y", other)):
        if estimator == "unbiased":
            gram = read_gram(value)
            vector, norm = gram.vector, gram.norm
        else:
            _check_examples(len(value))
            flat = as_rows(value)
            matrix = centred(_gram(flat - flat.mean(0)))
            norm = torch.linalg.vector_norm(matrix)
            if norm <= _rounding(matrix) ** 2 * flat.mean(0).square().sum():
                norm = torch.zeros_like(norm)
            vector = matrix.flatten() / norm
        if not norm.isfinite():
            raise ValueError(
                f"{name} or its Gram matrix must be finite, got NaN or infinity; leave these out"
            )
        vectors.append(vector)
        norms.append(norm)
        if norm == 0:
            names.append(name)
    if names:
        warn_constant(names)
        return math.nan
    return float(vectors[0] @ vectors[1])


def warn_constant(names: list[str]) -> None:
    """Warn that layers do not vary, so that their CKA is NaN."""
    listed = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    warnings.warn(
        f"{listed}: constant over the examples (or all equally far apart, or all but one alike), "
        "so that CKA is undefined: NaN",
        RuntimeWarning,
        stacklevel=3,
    )


# -- from a representation to a vector ------------------------------------------------------------


class Gram(NamedTuple):
    """A U-centred Gram matrix as a vector: its entries above the diagonal, scaled to length 1.

    HSIC₁ of two is `2 · a.norm · b.norm · (a.vector @ b.vector) / (n(n − 3))`, so that CKA is the inner
    product of the vectors. `norm` is 0, and so is the vector, if the representation does not vary.
    """

    vector: torch.Tensor
    norm: torch.Tensor


def read_gram(x: Array, *, without_component: bool = False) -> Gram:
    """The U-centred Gram matrix of a representation, in float32 (float64 for float64).

    Examples that lie far from 0 are first moved by the mean of a few of them, which changes nothing but the
    rounding. No copy of the representation is made: it is moved some features at a time.

    Args:
        x: (n, …), n of at least 4, real; half precision is raised to float32, integers to float64.
        without_component: Whether the first principal component of these n examples is removed.

    Examples:
        >>> a = read_gram(torch.randn(7, 5, 3, generator=torch.Generator().manual_seed(0)))
        >>> a.vector.shape, round(a.vector.norm().item(), 5)
        (torch.Size([21]), 1.0)
    """
    x = as_rows(x)
    n = len(x)
    _check_examples(n)
    shift = _shift(x)
    gram = _gram(x, shift)
    scale = gram.diagonal().sum(dtype=_accurate(gram)) / n
    if without_component:
        whole = centred(gram.to(_accurate(gram)))
        value, vector = first_component(whole)
        gram = whole.sub_(value * torch.outer(vector, vector)).to(gram.dtype)
    return _unit(gram, scale, shift)


def _unit(gram: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor | None) -> Gram:
    """A Gram matrix of examples of mean square `scale`, which were moved by `shift`, as a vector."""
    vector = u_centred(gram).flatten().index_select(0, _above_diagonal(len(gram), gram.device))
    norm = torch.linalg.vector_norm(vector, dtype=_accurate(gram))
    # what is left may be rounding: of the examples, or of the Gram matrix of examples equally far apart
    eps = _rounding(gram)
    constant = norm <= eps * vector.numel() ** 0.5 * scale
    if shift is not None:
        constant |= scale <= eps**2 * shift.square().sum(dtype=_accurate(gram))
    norm = torch.where(constant, torch.zeros_like(norm), norm)
    vector.mul_(torch.where(constant, torch.zeros_like(norm), 1 / norm).to(vector.dtype))
    return Gram(vector, norm)


class Decomposition(NamedTuple):
    """A representation of n examples, taken apart.

    Args:
        gram: HKH, (n, n) in the precision of the representation.
        whole: Its Gram matrix as a vector.
        rest: The same without the first principal component.
        share: σ₁²/Σσ², the component's share of the variance; NaN if there is none.
        direction: u₁, the examples along the component, (n,) float64 of length 1, whose largest absolute
            value is positive; NaN if the representation does not vary.
    """

    gram: torch.Tensor
    whole: Gram
    rest: Gram
    share: float
    direction: torch.Tensor


def decompose(x: Array) -> Decomposition:
    """A representation (n, …) with and without its first principal component.

    Examples:
        >>> x = torch.outer(torch.tensor([1.0, -1, 2, -2]), torch.tensor([3.0, 4.0]))
        >>> found = decompose(x)
        >>> round(found.share, 6), found.rest.norm.item(), (found.direction * 10**0.5).round(decimals=4)
        (1.0, 0.0, tensor([ 1., -1.,  2., -2.], dtype=torch.float64))
    """
    x = as_rows(x)
    _check_examples(len(x))
    shift = _shift(x)
    gram = _gram(x, shift)
    scale = gram.diagonal().sum(dtype=_accurate(gram)) / len(x)
    accurate = centred(gram.to(_accurate(gram)))
    centre = accurate.to(gram.dtype)
    whole = _unit(centre, scale, shift)
    if whole.norm == 0:
        nothing = torch.full((len(x),), math.nan, dtype=torch.float64)
        return Decomposition(centre, whole, whole, math.nan, nothing)
    value, direction = first_component(accurate)
    share = float(value / accurate.trace())
    rest = _unit((accurate - value * torch.outer(direction, direction)).to(gram.dtype), scale, shift)
    return Decomposition(centre, whole, rest, share, direction.cpu().double())


def first_component(gram: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest eigenvalue λ of a symmetric matrix and its eigenvector, of length 1.

    The entry of the vector of largest absolute value is positive, of equal ones the first. On a CPU it is
    found by Lanczos' method from a fixed start, to the precision of the matrix; that of a matrix of zeros, or
    of one that is not finite, is 0.

    Examples:
        >>> value, vector = first_component(torch.diag(torch.tensor([1.0, 3, 2, 0], dtype=torch.float64)))
        >>> round(value.item(), 6), vector.round(decimals=4).abs().tolist()
        (3.0, [0.0, 1.0, 0.0, 0.0])
    """
    if gram.device.type == "cpu":
        start = np.random.default_rng(0).standard_normal(len(gram))
        matrix = gram.numpy()
        start = (matrix @ start).astype(matrix.dtype)
        if not (start.any() and np.isfinite(start).all()):
            return gram.new_zeros(()), gram.new_zeros(len(gram))
        found = scipy.sparse.linalg.eigsh(matrix, k=1, which="LA", v0=start)
        value, vector = torch.tensor(found[0][0], dtype=gram.dtype), torch.from_numpy(found[1][:, 0])
    else:
        finite = gram.isfinite().all()
        values, vectors = torch.linalg.eigh(gram.where(finite, 0))
        value, vector = values[-1], vectors[:, -1] * finite
    largest = vector.abs() >= (1 - 1e-6) * vector.abs().max()  # several where images are opposite
    return value, vector * vector.take(largest.int().argmax()).sign()


def cka_of_grams(grams: torch.Tensor) -> npt.NDArray[np.float64]:
    """CKA of every two of some layers by their Gram matrices on all examples at once, by HSIC₁.

    Args:
        grams: (layers, n, n), of the same n examples, at least 4, moved near their mean.

    Returns:
        (layers, layers); NaN where a layer does not vary.

    Examples:
        >>> x = torch.randn(2, 9, 3, generator=torch.Generator().manual_seed(0))
        >>> cka_of_grams(x @ x.mT)[0, 1] == cka_of_grams((x @ x.mT).flip(0))[0, 1]
        np.True_
    """
    _check_examples(grams.shape[-1])
    units = [_unit(gram, gram.diagonal().mean(dtype=_accurate(gram)), None) for gram in grams]
    return cka_of_units(units)


def cka_of_units(units: Sequence[Gram]) -> npt.NDArray[np.float64]:
    """The same by the vectors of the Gram matrices; 1 on the diagonal."""
    values = inner_products(torch.stack([unit.vector for unit in units])).numpy()
    constant = torch.stack([unit.norm for unit in units]).cpu().numpy() == 0
    values[constant], values[:, constant] = math.nan, math.nan
    return np.asarray(values)


def inner_products(vectors: torch.Tensor) -> torch.Tensor:
    """Of every two of some unit vectors (k, m), in float64 on the CPU, (k, k).

    1 on the diagonal, and symmetric to the last bit, which a product of matrices is not on every processor.
    """
    with full_precision(vectors.device):
        above = (vectors @ vectors.T).double().cpu().triu_(1)
    return (above + above.T).fill_diagonal_(1)


def bures_of_grams(grams: torch.Tensor) -> npt.NDArray[np.float64]:
    """‖XᵀY‖_* / (‖X‖ ‖Y‖) of every two of some layers, the normalised Bures similarity, in [0, 1].

    ‖·‖_* is the sum of singular values, ‖·‖ Frobenius' norm. Its arc cosine is the angular Procrustes
    distance: the angle between X and Y after the rotation that brings them nearest. Where CKA weighs each
    direction by its variance squared, this weighs it by its variance, and so sees more than the largest few.

    Args:
        grams: (layers, n, n), XXᵀ of representations whose mean over the n examples is 0.

    Returns:
        (layers, layers), NaN where a layer does not vary. Of Gram matrices in float32 it is up to 3e-4 too
        large, as rounding errors look like directions of little variance.

    References:
        Williams, Kunz, Kornblith, Linderman, *Generalized shape metrics on neural representations* (2021).
        Cloos, Siegel, Brincat, Miller, Cueva, *Differentiable optimization of similarity scores between
        models and brains* (2024).

    Examples:
        >>> x = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
        >>> y = x[:, :1]  # one of two directions that vary equally
        >>> bures_of_grams(torch.stack([x @ x.T, y @ y.T])).round(4)
        array([[1.    , 0.7071],
               [0.7071, 1.    ]])
    """
    grams = grams.to(_accurate(grams))
    traces = grams.diagonal(dim1=-2, dim2=-1).sum(-1)
    constant = traces <= 0
    grams = grams / torch.where(constant, torch.ones_like(traces), traces)[:, None, None]
    values, vectors = torch.linalg.eigh(grams)
    roots = vectors * values.clamp(min=0).sqrt().unsqueeze(-2) @ vectors.mT
    found = torch.ones(len(grams), len(grams), dtype=torch.float64)
    for i, root in enumerate(roots[:-1]):
        squares = torch.linalg.eigvalsh(root @ grams[i + 1 :] @ root)
        found[i, i + 1 :] = squares.clamp(min=0).sqrt().sum(-1).cpu()
        found[i + 1 :, i] = found[i, i + 1 :]
    found[constant.cpu()], found[:, constant.cpu()] = math.nan, math.nan
    return found.numpy()


@contextmanager
def full_precision(device: torch.device | str) -> Iterator[None]:
    """Within it, float32 is computed as float32: no autocast, no TF32, no bfloat16 products.

    Examples:
        >>> with torch.autocast("cpu", torch.bfloat16), full_precision("cpu"):
        ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
        torch.float32
    """
    backends: Any = torch.backends
    on_gpu = torch.device(device).type == "cuda"
    units = [backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn]
    if on_gpu:
        units = [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn]
    before = [unit.fp32_precision for unit in units]
    older = _older_settings(on_gpu)
    for set_to, _, full in older:
        set_to(full)
    for unit in units:
        if unit.fp32_precision not in ("ieee", "none"):
            unit.fp32_precision = "ieee"
    try:
        with torch.autocast(torch.device(device).type, enabled=False):
            yield
    finally:
        for set_to, was, _ in older:
            set_to(was)
        for unit, was in zip(units, before, strict=True):
            if unit.fp32_precision != was:
                unit.fp32_precision = "none" if was == backends.fp32_precision else was
            if unit.fp32_precision != was:
                unit.fp32_precision = was


def _older_settings(on_gpu: bool) -> list[tuple[Callable[[Any], None], Any, Any]]:
    """Settings of torch's older interface that are not full: what sets one, its value, and the full one.

    Those that cannot be read, as the newer interface was used, are left to that.
    """
    found: list[tuple[Callable[[Any], None], Any, Any]] = []
    with suppress(RuntimeError):
        if (was := torch.get_float32_matmul_precision()) != "highest":
            found.append((torch.set_float32_matmul_precision, was, "highest"))
    with suppress(RuntimeError):
        if on_gpu and torch.backends.cudnn.allow_tf32:
            found.append((partial(setattr, torch.backends.cudnn, "allow_tf32"), True, False))
    return found


def as_rows(x: Array) -> torch.Tensor:
    """(n, p) in the order of memory, so that no layout of images is copied."""
    x = real(x)
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        x = x.permute(0, 2, 3, 1)
    return x.flatten(1) if x.dim() > 1 else x.unsqueeze(1)


def _shift(x: torch.Tensor) -> torch.Tensor | None:
    """The mean of a few examples; none on a CPU if they spread as widely as they lie from 0."""
    few = x[:_FEW]
    mean = few.mean(0)
    if x.device.type == "cpu" and mean.square().sum() <= 0.8 * few.square().sum() / len(few):
        return None
    return mean


def _gram(x: torch.Tensor, shift: torch.Tensor | None = None) -> torch.Tensor:
    """(X − shift)(X − shift)ᵀ, of which a CPU computes little more than one half."""
    n, p = x.shape
    gram = x.new_zeros(n, n)
    if x.device.type == "cpu":
        add = _add_by_numpy if torch.get_num_threads() == 1 else _add_by_rows
        columns = p if shift is None and add is _add_by_numpy else _COLUMNS
    else:
        add, columns = _add_whole, max(_COLUMNS, 2**22 // n)
    moved = None if shift is None else x.new_empty(n, min(columns, p))
    for start in range(0, p, columns):
        part = x[:, start : start + columns]
        if shift is not None:
            out = moved if len(part.T) == columns else None
            part = torch.sub(part, shift[start : start + columns], out=out)
        add(gram, part)
    return gram


def _add_whole(gram: torch.Tensor, x: torch.Tensor) -> None:
    gram.addmm_(x, x.T)


def _add_by_rows(gram: torch.Tensor, x: torch.Tensor) -> None:
    """By torch, some rows at a time up to the diagonal."""
    total = torch.zeros_like(gram)
    for top in range(0, len(x), _ROWS):
        total[top : top + _ROWS, : top + _ROWS] = x[top : top + _ROWS] @ x[: top + _ROWS].T
    gram += total.tril_().add_(total.tril(-1).T)


def _add_by_numpy(gram: torch.Tensor, x: torch.Tensor) -> None:
    """By the symmetric product of numpy's BLAS, the fastest of one thread.

    Of several it is the slowest: BLAS's threads and torch's wait for each other.
    """
    given = x.detach().numpy()
    with _blas().limit(limits=1):
        gram += torch.from_numpy(given @ given.T)


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


def _accurate(x: torch.Tensor) -> torch.dtype:
    """float64 where the device has it."""
    return torch.float32 if x.device.type == "mps" else torch.float64


def _rounding(x: torch.Tensor) -> float:
    return 4 * torch.finfo(x.dtype).eps


@lru_cache(maxsize=8)
def _above_diagonal(n: int, device: torch.device) -> torch.Tensor:
    indices = torch.triu_indices(n, n, 1, device=device)
    return indices[0] * n + indices[1]


def _check_examples(n: int) -> None:
    if n < LEAST_EXAMPLES:
        raise ValueError(f"examples must be at least {LEAST_EXAMPLES}, got {n}")


def _same_examples(gram: Array, other: Array) -> tuple[torch.Tensor, torch.Tensor]:
    gram, other = real(gram), real(other)
    if gram.shape[-2:] != other.shape[-2:]:
        raise ValueError(
            f"Gram matrices must be of one size, got {tuple(gram.shape)} and {tuple(other.shape)}"
        )
    return gram, other
