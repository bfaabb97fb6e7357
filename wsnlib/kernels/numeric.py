"""Kernels of Theorem 1, and the distance of a sparse finite network's kernel from the infinite one.

A network f(x) = (nd)^(−1/2) Σ_i v_i [u_i·x]₊ with d inputs and n hidden units has weights u that are
present with probability p (the density of the first layer) and then drawn from N(0, 1/p). Its
Gaussian-process (GP) kernel Θ(x, y) = ∇ᵥf(x)·∇ᵥf(y) is random; that of the infinitely wide dense
network is K₁(x, y)/d.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsnlib.choices import check_choice
from wsnlib.kernels import quadrature

Order = Literal[0, 1, 2]
Method = Literal["quadrature", "enumeration", "sampling"]

Array = NDArray[np.float64]

MOST_ENUMERATED = 20
"""Largest number of inputs whose 2^d masks are enumerated."""


# -- dense kernels ----------------------------------------------------------------------------


def arc_cosine(x: ArrayLike, y: ArrayLike, *, order: Order) -> Array:
    """K_l(x, y) = E [w·x]₊^l [w·y]₊^l over w ~ N(0, 1) in every coordinate.

    With θ the angle between x and y, K_l = |x|^l |y|^l J_l(θ) / 2π, where

        J_0 = π − θ,   J_1 = sin θ + (π − θ) cos θ,   J_2 = 3 sin θ cos θ + (π − θ)(1 + 2 cos²θ).

    Args:
        x, y: Inputs (..., d), broadcast against each other.
        order: l. For l = 0 a power of 0 is 1 where the input is positive, else 0.

    Returns:
        (...). The kernel of a zero vector is the limit 0; for l = 0, where there is no limit, 0 too.

    References:
        G21, eqs. (12)–(16); Cho and Saul, *Kernel methods for deep learning* (2009), eq. (1)
        (whose definition is twice this one).

    Examples:
        >>> bool(np.isclose(arc_cosine([3.0, 4.0], [3.0, 4.0], order=1), 25 / 2))
        True
    """
    check_choice("order", order, Order)
    x, y = inputs(x, y)
    return of_products(np.sum(x * x, -1), np.sum(y * y, -1), np.sum(x * y, -1), order=order)


def of_products(a: Array, b: Array, c: Array, *, order: int) -> Array:
    """K_l as a function of the inner products a = x·x, b = y·y, c = x·y."""
    sine = np.sqrt(np.maximum(a * b - c * c, 0))  # times |x||y|
    opposite = np.pi - np.arctan2(sine, c)
    if order == 0:
        value = np.where(a * b > 0, opposite, 0)
    elif order == 1:
        value = sine + opposite * c
    else:
        value = 3 * sine * c + opposite * (a * b + 2 * c * c)
    return np.asarray(value / (2 * np.pi))


# -- masked kernels ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """K̃_{1,p} and K̃_{2,p} for pairs of inputs, one column for each density, and how far they may be off.

    Args:
        first, second: K̃_{l,p}(x, y) for l = 1, 2, shape (pairs, densities).
        first_bias: K̃_{1,p} − K_1, computed without cancellation where the method allows it.
        first_error, second_error: 0 for enumeration, a standard error for sampling, for quadrature an
            estimate of the error, which is up to twelve times larger for nearly parallel or opposite inputs
            (angles below 0.1), and then below 5e-5 |x||y|.
    """

    first: Array
    second: Array
    first_bias: Array
    first_error: Array
    second_error: Array


def masked_kernels(
    x: ArrayLike,
    y: ArrayLike,
    *,
    density: ArrayLike,
    method: Method = "quadrature",
    directions: int = 64,
    num_masks: int = 10_000,
    seed: int = 0,
) -> Estimates:
    """K̃_{l,p}(x, y) = p^(−l) E_s K_l(x_s, y_s), s a random mask of the inputs with density p.

    Args:
        x, y: Inputs (pairs, d), or (d,) for one pair.
        density: Probabilities p in (0, 1] that a weight is present, (P,) or one number.
        method: `"quadrature"` is deterministic, for every d
            ([how][wsnlib.kernels.quadrature]); `"enumeration"` adds up all 2^d masks, exactly, for
            d up to 20; `"sampling"` averages over random masks and gives a standard error.
        directions: Angles of the quadrature; pairs at a small angle use more.
        num_masks, seed: Number of sampled masks and their random seed; all pairs and densities share the
            same uniform numbers.

    References:
        G21, Theorem 1 and eqs. (2), (7).

    Examples:
        >>> x, y = np.array([1.0, 2.0, 0.5]), np.array([0.5, -1.0, 1.0])
        >>> exact = masked_kernels(x, y, density=0.5, method="enumeration")
        >>> fast = masked_kernels(x, y, density=0.5, directions=1024)
        >>> bool(abs(exact.first - fast.first).item() < 1e-5)
        True
    """
    check_choice("method", method, Method)
    x, y = inputs(x, y)
    x, y = (np.atleast_2d(v) for v in np.broadcast_arrays(x, y))
    if x.ndim > 2:
        raise ValueError(f"x must be of shape (pairs, d) or (d,), got {x.shape}; flatten the inputs")
    p = densities(density)
    if method == "quadrature":
        return _by_quadrature(x, y, p, directions)
    if method == "enumeration":
        return _by_masks(x, y, p, list(_all_masks(x.shape[1])), sampled=False)
    if num_masks < 2:
        raise ValueError(f"num_masks must be ≥ 2, got {num_masks}")
    return _by_masks(x, y, p, list(_uniforms(x.shape[1], num_masks, seed)), sampled=True)


def _by_quadrature(x: Array, y: Array, p: Array, directions: int) -> Estimates:
    if directions < 32 or directions % 16:
        raise ValueError(f"directions must be a multiple of 16 and ≥ 32, got {directions}; round it")
    lengths = np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1)
    sparse = p < 1

    def one_pair(i: int) -> Array:
        result = np.zeros((4, len(p)))
        if lengths[0][i] == 0 or lengths[1][i] == 0 or not sparse.any():
            return result
        u, v = x[i] / lengths[0][i], y[i] / lengths[1][i]
        if min(np.abs(u - v).max(), np.abs(u + v).max()) < 1e-12:
            # parallel: K_1 is linear in x_s·x_s, K_2 is (3/2) (x_s·x_s)²; opposite: both are 0
            if u @ v > 0:
                result[1] = 1.5 * (1 - p) / p * np.sum(u**4)
            return result
        cosine = abs(float(u @ v))
        decay = (1 - np.sqrt(max(1 - cosine**2, 0))) / max(cosine, 1e-9)  # of the Gaussian harmonics
        needed = directions
        while decay ** (needed / 2) > 1e-7 and needed < 2048:
            needed *= 2
        result[:, sparse] = quadrature.differences(u, v, p[sparse], needed)
        return result

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        values = np.array(list(pool.map(one_pair, range(len(x))))).reshape(len(x), 4, len(p))
    scale = (lengths[0] * lengths[1])[:, None]
    dense = [arc_cosine(x, y, order=order)[:, None] for order in (1, 2)]
    return Estimates(
        first=dense[0] + scale * values[:, 0],
        second=dense[1] + scale**2 * values[:, 1],
        first_bias=scale * values[:, 0],
        first_error=scale * values[:, 2],
        second_error=scale**2 * values[:, 3],
    )


def _all_masks(d: int, batch: int = 4096) -> Iterator[Array]:
    if d > MOST_ENUMERATED:
        raise ValueError(
            f"inputs must have at most {MOST_ENUMERATED} dimensions for method 'enumeration', got {d}, "
            f"with 2^{d} masks; use 'quadrature' or 'sampling'"
        )
    bits = 2 ** np.arange(d)
    for start in range(0, 2**d, batch):
        numbers = np.arange(start, min(start + batch, 2**d))
        yield ((numbers[:, None] & bits) > 0).astype(float)


def _uniforms(d: int, count: int, seed: int, batch: int = 1024) -> Iterator[Array]:
    rng = np.random.default_rng(seed)
    for start in range(0, count, batch):
        yield rng.random((min(batch, count - start), d))


def _by_masks(x: Array, y: Array, p: Array, batches: list[Array], *, sampled: bool) -> Estimates:
    """Weighted mean over given masks, or mean and standard error over masks below a uniform number."""
    d = x.shape[1]
    products = np.stack([x * x, y * y, x * y])
    sums = np.zeros((4, len(x), len(p)))  # of K_1, K_2, and their squares
    for j, probability in enumerate(p):
        for batch in batches:
            if sampled:
                mask, weights = (batch < probability).astype(float), np.ones(len(batch))
            else:
                mask, present = batch, batch.sum(1)
                weights = probability**present * (1 - probability) ** (d - present)
            a, b, c = mask @ products.transpose(0, 2, 1)
            for order in (1, 2):
                values = of_products(a, b, c, order=order) / probability**order
                sums[order - 1, :, j] += weights @ values
                sums[order + 1, :, j] += weights @ values**2
    if not sampled:
        error = np.zeros((2, len(x), len(p)))
    else:
        count = sum(len(batch) for batch in batches)
        sums /= count
        variance = np.maximum(sums[2:] - sums[:2] ** 2, 0) * count / (count - 1)
        error = np.sqrt(variance / count)
    return Estimates(
        first=sums[0],
        second=sums[1],
        first_bias=sums[0] - arc_cosine(x, y, order=1)[:, None],
        first_error=error[0],
        second_error=error[1],
    )


# -- distance ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class KernelDistance:
    """E (Θ − Θ^∞)² in two parts, each (pairs, P) or, for one pair or one density, without that axis.

    Args:
        squared_bias: (E Θ − Θ^∞)².
        variance: Var Θ.
    """

    squared_bias: Array
    variance: Array

    @property
    def total(self) -> Array:
        """The mean-square distance."""
        return self.squared_bias + self.variance


def kernel_distance(
    x: ArrayLike,
    y: ArrayLike,
    *,
    width: ArrayLike,
    density: ArrayLike,
    scaled_by: ArrayLike | None = None,
) -> KernelDistance:
    """Mean-square distance between the GP kernels of a sparse finite and of the infinite dense network,

        E (Θ − Θ^∞)² = [K̃_{1,p} − K_1]² / d²  +  [K̃_{2,p} − K̃_{1,p}²] / (d² n).

    Args:
        x, y: Inputs (pairs, d), or (d,) for one pair.
        width: n ≥ 1, a number or as many as densities.
        density: Density p of the first layer, in (0, 1].
        scaled_by: Density q in (0, 1] that the variance 1/q of the weights is read from, by default
            p itself; the kernel is then p/q times that of Theorem 1.

    References:
        G21, Theorem 1, eqs. (1) and (10).

    Examples:
        >>> x, y = np.eye(2, 7)
        >>> one = kernel_distance(x, y, width=10, density=1.0)
        >>> float(one.squared_bias), bool(np.isclose(one.variance, (1 / 4 - 1 / (4 * np.pi**2)) / 490))
        (0.0, True)
    """
    n = np.asarray(width, dtype=float)
    if not np.all(n >= 1):
        raise ValueError(f"width must be ≥ 1, got {width!r}")
    estimates = masked_kernels(x, y, density=density)
    d = np.shape(x)[-1]
    dense = np.atleast_1d(arc_cosine(x, y, order=1))[:, None]
    scaled_by = density if scaled_by is None else scaled_by
    ratio = densities(density) / densities(scaled_by)
    squared_bias = ((ratio * estimates.first_bias + (ratio - 1) * dense) / d) ** 2
    variance = ratio**2 * (estimates.second - estimates.first**2) / (d**2 * n)
    shape = np.broadcast_shapes(np.shape(x), np.shape(y))[:-1]
    shape += np.broadcast_shapes(n.shape, np.shape(density), np.shape(scaled_by))
    return KernelDistance(
        squared_bias=np.broadcast_to(squared_bias, variance.shape).reshape(shape),
        variance=variance.reshape(shape),
    )


def take_pairs(images: ArrayLike, *, num_pairs: int, seed: int = 0) -> tuple[Array, Array]:
    """Random pairs of different rows of `images` (m, ...), flattened to (num_pairs, d)."""
    flat = np.asarray(images, dtype=float).reshape(len(np.asarray(images)), -1)
    if len(flat) < 2:
        raise ValueError(f"images must be at least 2, got {len(flat)}; a pair needs different ones")
    rng = np.random.default_rng(seed)
    first = rng.integers(len(flat), size=num_pairs)
    second = (first + rng.integers(1, len(flat), size=num_pairs)) % len(flat)
    return flat[first], flat[second]


# -- checks -----------------------------------------------------------------------------------


def inputs(x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    """x and y as float64 arrays of one length, all finite."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if x.ndim == 0 or y.ndim == 0 or x.shape[-1] != y.shape[-1] or x.shape[-1] == 0:
        raise ValueError(
            f"x and y must have the same last axis, of at least 1, got shapes {x.shape} and {y.shape}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("x and y must be finite, got a value that is not; remove it")
    return x, y


def densities(density: ArrayLike) -> Array:
    """Densities as a float64 vector, all in (0, 1]."""
    p = np.atleast_1d(np.asarray(density, dtype=float))
    if p.ndim > 1:
        raise ValueError(f"density must be a number or a vector, got shape {p.shape}; flatten it")
    if not (np.all(p > 0) and np.all(p <= 1)):
        wrong = p[~((p > 0) & (p <= 1))][0]
        raise ValueError(f"density must be > 0 and ≤ 1, got {wrong:g}")
    return p
