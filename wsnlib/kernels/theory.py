"""Closed forms of the kernel distance and its minimisers: the paper's and ours.

Everywhere the number of weights is fixed, so that density p and width n go together: n p = m, where m
is the base width, the mean number of weights of the first layer per input.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from wsnlib.kernels.numeric import arc_cosine, densities, inputs

Array = NDArray[np.float64]


# -- the paper's approximation ----------------------------------------------------------------


def paper_distance(*, width: ArrayLike, density: ArrayLike, dimension: int) -> Array:
    """The paper's approximation for independent inputs x, y ~ N(0, 1)^d,

        (1/4d) [(p^(−1/2) − 1)² / 4 + (d/n) (1 − 1/π²)].

    Args:
        width: n ≥ 1.
        density: p in (0, 1].
        dimension: d ≥ 1.

    References:
        G21, eqs. (4) = (23). The first term of (4) is not the squared bias of Theorem 1;
        see [`corrected_distance`][wsnlib.kernels.theory.corrected_distance].

    Examples:
        >>> round(float(paper_distance(width=128, density=1 / 16, dimension=784)), 6)
        0.002473
    """
    n, p = np.asarray(width, dtype=float), np.asarray(density, dtype=float)
    _check(n, dimension)
    densities(p.ravel())
    return np.asarray(((p**-0.5 - 1) ** 2 / 4 + dimension / n * (1 - np.pi**-2)) / (4 * dimension))


def paper_minimiser(*, base_width: float, dimension: int) -> float:
    """p* = √(m / 4d), which drops the factor 1 − 1/π² and assumes √p* ≪ 1; at most 1.

    References:
        G21, eq. (25), where m is written np.

    Examples:
        >>> round(paper_minimiser(base_width=8, dimension=784), 4)
        0.0505
    """
    _check(np.asarray(base_width), dimension)
    return float(min(1.0, np.sqrt(base_width / (4 * dimension))))


def paper_distance_minimiser(*, base_width: float, dimension: int) -> float:
    """The exact minimiser of eq. (4) at n p = m: the root of p² / (1 − √p) = m / (4d (1 − 1/π²)).

    Examples:
        >>> round(paper_distance_minimiser(base_width=8, dimension=784), 4)
        0.0471
    """
    _check(np.asarray(base_width), dimension)
    right = base_width / (4 * dimension * (1 - np.pi**-2))
    return float(scipy.optimize.brentq(lambda p: p**2 - right * (1 - np.sqrt(p)), 0.0, 1.0, xtol=1e-12))


def _check(width: Array, dimension: int) -> None:
    if not np.all(width >= 1):
        raise ValueError(f"the width must be ≥ 1, got {width.min():g}")
    if dimension < 1:
        raise ValueError(f"dimension must be ≥ 1, got {dimension}")


# -- the corrected closed form ----------------------------------------------------------------


def corrections(x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    """B_1 and B_2 in K̃_{l,p} ≈ K_l + (1 − p)/p · B_l, the effect of masks by the second moments they add.

    With a = x·x, b = y·y, c = x·y, S_jk = Σ x_i^j y_i^k, s = √(ab − c²) and θ the angle,

        B_1 = [(2c² − ab)/4 · (S_40/a² + S_04/b²) + (3/2) S_22 − c (S_31/a + S_13/b)] / (4πs),
        B_2 = [−(cs/2) (S_40/a² + S_04/b²) + 3(π − θ) S_22 + 2s (S_31/a + S_13/b)] / 2π.

    The inner products of the masked inputs vary around p times those of the inputs with covariance
    p(1 − p) times the S's; B_l is half the trace of that with the Hessian of K_l. What is left out, from the
    third moments on, is smaller by another factor of the order of 1/(dp).

    Args:
        x, y: Inputs (..., d), not 0. Of parallel inputs K_1 is linear, and B_1 is 0.

    References:
        Replaces G21, eqs. (17)–(20), where the random sign of the angle is treated as if all masks
        shared it.
    """
    x, y = inputs(x, y)
    a, b, c = np.sum(x * x, -1), np.sum(y * y, -1), np.sum(x * y, -1)
    sine = np.sqrt(np.maximum(a * b - c * c, 0))
    opposite = np.pi - np.arctan2(sine, c)
    fourth = np.sum(x**4, -1) / a**2 + np.sum(y**4, -1) / b**2
    middle = np.sum(x**2 * y**2, -1)
    skew = np.sum(x**3 * y, -1) / a + np.sum(x * y**3, -1) / b
    first = (2 * c * c - a * b) / 4 * fourth + 1.5 * middle - c * skew
    parallel = sine < 1e-6 * np.sqrt(a * b)
    first = np.where(parallel, 0.0, first / (4 * np.pi * np.where(parallel, 1.0, sine)))
    second = (-c * sine / 2 * fourth + 3 * opposite * middle + 2 * sine * skew) / (2 * np.pi)
    return np.asarray(first), np.asarray(second)


def corrected_distance(x: ArrayLike, y: ArrayLike, *, width: ArrayLike, density: ArrayLike) -> Array:
    """Theorem 1 with the corrections B_1 and B_2 of the kernels, for any two inputs,

        [(1 − p)/p · B_1]² / d²  +  [K_2 − K_1² + (1 − p)/p · (B_2 − 2 K_1 B_1)] / (d² n).

    What is left out is smaller by another factor of the order of 1/(dp): good where the masked inputs still
    have many coordinates, p ≫ Σx_i⁴ / |x|⁴.

    Args:
        x, y: Inputs (pairs, d).
        width, density: Numbers or vectors of one length P.

    Returns:
        (pairs, P).
    """
    x, y = np.atleast_2d(*inputs(x, y))
    p, n = densities(density), np.asarray(width, dtype=float)
    _check(n, x.shape[1])
    odds = (1 - p) / p
    first, second = (v[:, None] for v in corrections(x, y))
    k1, k2 = arc_cosine(x, y, order=1)[:, None], arc_cosine(x, y, order=2)[:, None]
    variance = (k2 - k1**2 + odds * (second - 2 * k1 * first)) / n
    return np.asarray(((odds * first) ** 2 + variance) / x.shape[1] ** 2)


def corrected_minimiser(x: ArrayLike, y: ArrayLike, *, base_width: float) -> float:
    """p* = (2m ⟨B_1²⟩ / ⟨K_2 − K_1²⟩)^(1/3), the minimiser of the corrected distance for small p.

    Brackets are means over pairs. For inputs whose B_1 does not grow with d, p* falls as (m/d²)^(1/3),
    not as (m/d)^(1/2).

    Args:
        x, y: Inputs (pairs, d).
        base_width: m = n p.
    """
    x, y = np.atleast_2d(*inputs(x, y))
    _check(np.asarray(base_width), x.shape[1])
    first, _ = corrections(x, y)
    spread = arc_cosine(x, y, order=2) - arc_cosine(x, y, order=1) ** 2
    cube = 2 * base_width * float(np.mean(first**2)) / float(np.mean(spread))
    return float(min(1.0, cube ** (1 / 3)))


def measured_distance(
    measured: Mapping[str, ArrayLike], width: ArrayLike, *, ratio: ArrayLike = 1.0, corrected: bool = False
) -> Array:
    """Mean distance at a width, from the columns of a `KernelDistances` measurement.

    Args:
        measured: Columns `squared_bias`, `spread`, `bias_times_kernel`, `squared_kernel`, or the
            corrected ones, such as `wsn.read_measurements` gives.
        width: n, one for each row, or one number.
        ratio: Density divided by the density that the variance of the weights is read from.
        corrected: Take the corrected closed form in place of Theorem 1.

    Examples:
        >>> rows = {"squared_bias": 0.1, "spread": 4.0, "bias_times_kernel": 0.0, "squared_kernel": 1.0}
        >>> float(measured_distance(rows, 10)), float(measured_distance(rows, 10, ratio=0.5))
        (0.5, 0.375)
    """
    kind = "corrected_" if corrected else ""
    squared, spread, cross, kernel = (
        np.asarray(measured[name], dtype=float)
        for name in (f"{kind}squared_bias", f"{kind}spread", "bias_times_kernel", "squared_kernel")
    )
    r, n = np.asarray(ratio, dtype=float), np.asarray(width, dtype=float)
    bias = r**2 * squared + 2 * r * (r - 1) * cross + (r - 1) ** 2 * kernel
    return np.asarray(bias + r**2 * spread / n)


def lowest_point(density: ArrayLike, distance: ArrayLike) -> tuple[float, float]:
    """Where a curve over density is lowest, and how low, by a cubic spline in log p.

    Examples:
        >>> p = np.geomspace(0.01, 1, 9)
        >>> round(lowest_point(p, (np.log(p) - np.log(0.1)) ** 2)[0], 4)
        0.1
    """
    p = densities(density)
    order = np.argsort(p)
    spline = scipy.interpolate.CubicSpline(np.log(p[order]), np.asarray(distance, dtype=float)[order])
    fine = np.linspace(np.log(p.min()), np.log(p.max()), 4001)
    values = spline(fine)
    return float(np.exp(fine[values.argmin()])), float(values.min())
