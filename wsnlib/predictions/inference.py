"""What the tests of this package share: many tests at once, permutations, intervals over networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def holm_sidak(p_values: ArrayLike) -> Array:
    """Adjusted p-values: rejecting those ≤ α makes any false rejection with probability ≤ α at most.

    The k-th smallest of n becomes max over j ≤ k of 1 − (1 − p₍ⱼ₎)^(n − j + 1). Valid where the tests
    are independent or positively dependent, as the accuracies of classes of one network are.

    Args:
        p_values: (n,), in [0, 1].

    References:
        Holm, *A simple sequentially rejective multiple test procedure* (1979); N21, Table F.2.

    Examples:
        >>> holm_sidak([0.01, 0.04, 0.5]).round(4).tolist()
        [0.0297, 0.0784, 0.5]
    """
    p = np.asarray(p_values, dtype=float)
    if p.ndim != 1 or not np.all((p >= 0) & (p <= 1)):
        raise ValueError(f"p_values must be a sequence of numbers of 0 to 1, got {p}")
    order = np.argsort(p)
    remaining = len(p) - np.arange(len(p))
    with np.errstate(divide="ignore"):
        single = -np.expm1(remaining * np.log1p(-p[order]))
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(single)
    return adjusted


def sidak_confidence(confidence: float, intervals: int) -> float:
    """Confidence of each interval, c^(1/n), so that n independent ones all cover with probability c.

    Examples:
        >>> round(sidak_confidence(0.95, 10), 4)
        0.9949
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be > 0 and < 1, got {confidence}; 0.95 is 95 %")
    return float(confidence ** (1 / intervals))


# -- permutations over networks ---------------------------------------------------------------


def assignments(first: int, second: int, *, permutations: int, seed: int) -> NDArray[np.bool_]:
    """Random choices of `first` among `first + second` networks, True where chosen, a row a choice."""
    if permutations < 1:
        raise ValueError(f"permutations must be ≥ 1, got {permutations}")
    keys = np.random.default_rng(seed).random((permutations, first + second))
    return np.argsort(keys, axis=1) < first


def permutation_p_value(observed: float, permuted: Array) -> float:
    """(1 + number of permuted values ≥ observed) / (1 + permutations), which is never 0.

    The observed order counts as one permutation, so that the test holds its level exactly. Values
    that differ by rounding alone are equal.

    References:
        Phipson and Smyth, *Permutation p-values should never be zero* (2010).
    """
    tolerance = 1e-9 * float(np.abs(permuted).max(initial=abs(observed)))
    return float((1 + np.sum(permuted >= observed - tolerance)) / (1 + len(permuted)))


def jackknife(statistic: Callable[..., Array], *sizes: int, confidence: float) -> tuple[Any, Any]:
    """Interval of a statistic of samples of networks, from its values with one network left out.

    Variance = Σ over all samples of (n − 1)/n · Σ (θ₋ᵢ − mean)²; quantiles are Student's with the
    smallest sample's n − 1 degrees of freedom. On average too large by what pairs of networks, beyond
    single ones, add to the variance, so that it is conservative where nothing but pairs moves a statistic,
    such as a square about 0. Infinite if a sample has fewer than three networks.

    Args:
        statistic: Vectorised statistic of one array of indicators (rows, networks of all samples) for each
            sample; one number a row, or several, each with its own interval.
        sizes: Sizes of the samples, whose networks follow one another; a sample of 0 is none.
        confidence: Confidence level of the interval.

    References:
        Efron and Stein, *The jackknife estimate of variance* (1981).
    """
    present = [n for n in sizes if n]
    if min(present) < 3:
        return -np.inf, np.inf
    members = np.repeat(np.arange(len(sizes)), sizes) == np.arange(len(sizes))[:, None]
    left_in = 1.0 - np.eye(members.shape[1])
    values = statistic(*(sample * left_in for sample in members))
    centre = statistic(*(sample[None].astype(float) for sample in members))[0]
    parts = np.split(values, np.cumsum(present)[:-1])
    variance = sum((n - 1) * part.var(0) for n, part in zip(present, parts, strict=True))
    half = float(scipy.stats.t.isf((1 - confidence) / 2, min(present) - 1)) * np.sqrt(variance)
    return centre - half, centre + half


def bootstrap(value: float, resampled: Array, *, networks: int, confidence: float) -> tuple[float, float]:
    """Interval of a statistic, value ± t · standard deviation of its resamples.

    Resamples where the statistic does not exist are left out. Infinite with fewer than three networks, or
    where it exists in fewer than half of the resamples; NaN where the value is.

    Args:
        value: Of the sample itself.
        resampled: (resamples,).
        networks: Of the smallest sample; Student's t has one degree of freedom less.
        confidence: Confidence level of the interval.

    References:
        Efron, Tibshirani, *An introduction to the bootstrap* (1993), chapter 12.

    Examples:
        >>> normal = np.random.default_rng(0).normal(size=999)
        >>> low, high = bootstrap(0.0, normal, networks=50, confidence=0.95)
        >>> round(low, 1), round(high, 1)
        (-2.0, 2.0)
    """
    some = resampled[np.isfinite(resampled)]
    if networks < 3 or len(some) < max(2, len(resampled) / 2):
        half = np.inf
    else:
        half = float(scipy.stats.t.isf((1 - confidence) / 2, networks - 1)) * float(some.std(ddof=1))
    return value - half, value + half
