"""Masked kernels by polar quadrature of a characteristic function: deterministic, any dimension.

Let w be a masked Gaussian weight vector: w_i is N(0, 1) with probability p, else 0. The projections
U = w·x and V = w·y have the characteristic function, along the direction ψ,

    φ(r, ψ) = E exp(ir (U cos ψ + V sin ψ)) = Π_i [1 − p + p exp(−r² (x_i cos ψ + y_i sin ψ)² / 2)],

a product of d factors where the sum over masks of Theorem 1 has 2^d terms. With [z]₊ the ReLU, and
because (U, V) and (−U, −V) have one law,

    E [U]₊[V]₊ = E(|UV| + UV) / 4,        E [U]₊²[V]₊² = E(U²V² + UV|UV|) / 4.

UV and U²V² have exact means. In polar coordinates U = R cos Φ, V = R sin Φ,

    |UV| = R² |sin 2Φ| / 2,               UV|UV| = R⁴ sin 2Φ |sin 2Φ| / 4,

whose harmonics in 2Φ are known. The harmonics of φ(r, ·) give those of the law: up to terms that only
touch the lowest ones, ∫ cos(rz) r^(−1−2l) dr is −½ c_l z^(2l) log z², and z = R cos(Φ − ψ). So harmonic
k of E R^(2l) e^(2ikΦ) is that of ∫ φ(r, ψ) r^(−1−2l) dr, times a number, for k > l; the lower ones are
moments of U and V. The integral over log r is a trapezoid sum with steps of log √2, whose error is about
1e−6 relative (the integrand is analytic in a strip).

The Gaussian law with the same covariance, whose answer is the dense kernel K_l, is subtracted
beforehand: at p = 1 nothing is left, and the result is the difference itself, without cancellation.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FIRST_RADIUS, LAST_RADIUS = 0.3, 256.0  # in units of 1/(standard deviation of U given its mask)
FEW = 3.0  # with fewer weights than this on average, that is about the scale of a mask with any
NEGLIGIBLE = 1e-8
STEP_ERROR = 1e-6  # of the steps in log r and the ends of their range, as measured, times (1 − p)/p


def differences(x: Array, y: Array, densities: Array, directions: int) -> Array:
    """K̃_{l,p}(x, y) − K_l(x, y) for unit vectors and l = 1, 2, and the estimated errors of both.

    Args:
        x, y: Two vectors of length 1 that are not parallel.
        densities: Probabilities p in (0, 1), shape (P,).
        directions: Number N of angles ψ in [0, π), a multiple of 16.

    Returns:
        Shape (4, P): the difference for l = 1 and l = 2, and the estimated error of each: its change
        when only every second or fourth direction is used, and what is extrapolated in r.
    """
    angles = np.pi * np.arange(directions) / directions
    squares = (np.outer(x, np.cos(angles)) + np.outer(y, np.sin(angles))) ** 2
    if len(squares) % 2:
        squares = np.vstack([squares, np.zeros(directions)])
    half = len(squares) // 2
    gaussian = 1 + float(x @ y) * np.sin(2 * angles)  # variance along ψ, divided by p
    weights = _weights(directions)

    radius = FIRST_RADIUS
    unit = 1 / np.sqrt(np.maximum(densities, FEW / len(x)))
    start, last = FIRST_RADIUS * unit, LAST_RADIUS * unit
    active = np.ones(len(densities), dtype=bool)
    terms: list[list[Array]] = [[] for _ in densities]
    decay = np.exp(-(radius**2) * squares / 2)
    while active.any():
        one = 1 - decay[:half]
        other = 1 - decay[half:]
        total, product = one + other, one * other
        factors = np.empty_like(total)
        for i in np.flatnonzero(active & (radius >= start * (1 - 1e-9))):
            p = densities[i]
            # (1 − p q) (1 − p q') of two coordinates at a time, q = 1 − exp(−t)
            np.multiply(product, -p, out=factors)
            factors += total
            factors *= -p
            factors += 1
            phi = _product(factors)
            phi -= np.exp(-(radius**2) * p * gaussian / 2)
            scaled = radius * np.sqrt(p)
            terms[i].append(weights @ phi / np.tile([scaled**2, scaled**4], 3))
            falls = scaled**2 * gaussian.min() < 16  # φ somewhere; until then a small difference ends nothing
            active[i] = (falls or np.ptp(phi) > NEGLIGIBLE * scaled**2) and radius < last[i]
        decay *= decay
        radius *= np.sqrt(2)
    integrals, tails = np.array([_integrate(np.array(t)) for t in terms]).transpose(1, 2, 0)
    halved, quartered = np.abs(integrals[:2] - integrals[2:4]), np.abs(integrals[2:4] - integrals[4:])
    odds = (1 - densities) / densities
    steps = STEP_ERROR * np.array([np.minimum(odds, 4), 4 * odds])
    errors = np.maximum(halved, quartered / 2) + np.abs(tails[:2]) + steps

    s22, s31, s13 = np.sum(x**2 * y**2), np.sum(x**3 * y), np.sum(x * y**3)
    moments = odds * (3 / 4 * s22 + 1 / np.pi * (s31 + s13))
    return np.array([integrals[0], integrals[1] + moments, *errors])


def _product(factors: Array) -> Array:
    """Product over the first axis, by halves; overwrites its argument."""
    rows = len(factors)
    while rows > 1:
        half = rows // 2
        np.multiply(factors[:half], factors[rows - half : rows], out=factors[:half])
        rows -= half
    return np.asarray(factors[0])


def _integrate(values: Array) -> tuple[Array, Array]:
    """Trapezoid sum over log r with step log √2, and the part of it that lies above the last radius.

    Below the first radius the integrand is αr² + βr⁴ + γr⁶; above the last it falls as r^(−2l).
    """
    first, second, third = values[:3]
    gamma = (third - 6 * second + 8 * first) / 24
    beta = (second - 2 * first) / 2 - 3 * gamma
    alpha = first - beta - gamma
    below = alpha + beta / 3 + gamma / 7
    above = values[-1] / np.tile([1, 3], 3)
    step = np.log(2) / 2
    return step * (values.sum(axis=0) + below + above), step * above


@lru_cache(maxsize=16)
def _weights(directions: int) -> Array:
    """Weights of φ(r, ψ) for l = 1 and l = 2, with all, every second, every fourth direction: (6, N)."""
    rows = []
    for used in (directions, directions // 2, directions // 4):
        angles = np.pi * np.arange(used) / used
        even = np.arange(2, used // 2, 2)
        first = np.cos(2 * np.outer(angles, even)) @ (even / 2)
        odd = np.arange(3, used // 2, 2)
        target = -8 / (np.pi * odd * (odd**2 - 4.0))  # sin 2Φ |sin 2Φ| = Σ target sin 2kΦ
        second = np.sin(2 * np.outer(angles, odd)) @ (target / _log_harmonics(odd))
        step = directions // used
        for weights, factor in ((first, -4 / np.pi), (second, -24 / 16)):
            row = np.zeros(directions)
            row[::step] = factor * 2 / used * weights
            rows.append(row)
    return np.array(rows)


def _log_harmonics(k: NDArray[np.int64]) -> Array:
    """Coefficient of cos 2kφ in cos⁴φ log|cos φ|, for k ≥ 3."""

    def log_cos(n: NDArray[np.int64]) -> Array:  # log|cos φ| = −log 2 + Σ (−1)^(n+1) cos(2nφ) / n
        return np.asarray((-1.0) ** (n + 1) / n)

    return 3 / 8 * log_cos(k) + (log_cos(k - 1) + log_cos(k + 1)) / 4 + (log_cos(k - 2) + log_cos(k + 2)) / 16
