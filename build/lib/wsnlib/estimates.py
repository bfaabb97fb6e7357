"""Estimates with their 95 % intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

__all__ = [
    "Estimate",
    "correlation",
    "estimate",
    "held_out_best",
    "median_and_range",
    "ratio_of_means",
    "shown",
]

ROUNDING = 1e-9
"""Relative to the largest number of an estimate: by less, its numbers differ between machines alone."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean with its 95 % interval (low to high) over n independent values, most often seeds."""

    mean: float
    low: float
    high: float
    n: int


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and Student's 95 % interval, mean ± t · s / √n; infinite where n is 1, NaN where a value is.

    Examples:
        >>> e = estimate([1.0, 2.0, 3.0])
        >>> e.mean, round(e.high - e.mean, 3), e.n
        (2.0, 2.484, 3)
    """
    sample = np.asarray(values, dtype=float)
    if sample.ndim != 1 or len(sample) == 0:
        raise ValueError(f"values has shape {sample.shape}; a sequence of at least one number is allowed")
    n, mean = len(sample), float(sample.mean())
    if n == 1:
        return Estimate(mean=mean, low=-math.inf, high=math.inf, n=1)
    half = float(stats.t.ppf(0.975, n - 1) * sample.std(ddof=1) / math.sqrt(n))
    return Estimate(mean=mean, low=mean - half, high=mean + half, n=n)


def ratio_of_means(numerators: Sequence[float], denominators: Sequence[float]) -> Estimate:
    """Mean over mean of n pairs with Fieller's 95 % interval.

    The interval holds every r for which Student's test does not tell the mean of a − r b from 0. It
    is unbounded where the mean of the denominators cannot be told from 0.

    Args:
        numerators, denominators: a and b, one pair a seed.

    References:
        Fieller, *Some problems in interval estimation* (1954).

    Examples:
        >>> e = ratio_of_means([1.0, 1.2, 0.8], [2.0, 2.3, 1.8])
        >>> round(e.mean, 3), round(e.low, 2), round(e.high, 2), e.n
        (0.492, 0.36, 0.57, 3)
        >>> ratio_of_means([1.0, 1.2, 0.8], [2.0, -2.3, 0.5]).high
        inf
    """
    a, b = np.asarray(numerators, dtype=float), np.asarray(denominators, dtype=float)
    if a.ndim != 1 or a.shape != b.shape or len(a) == 0:
        raise ValueError(
            f"the values have shapes {a.shape} and {b.shape}; as many of both, at least 1, are allowed"
        )
    n, mean = len(a), float(a.mean() / b.mean())
    everything = Estimate(mean=mean, low=-math.inf, high=math.inf, n=n)
    if n == 1:
        return everything
    (aa, ab), (_, bb) = np.cov(a, b) * float(stats.t.ppf(0.975, n - 1)) ** 2 / n
    # (mean a − r mean b)² ≤ aa − 2 r ab + r² bb
    leading, middle, last = b.mean() ** 2 - bb, a.mean() * b.mean() - ab, a.mean() ** 2 - aa
    if leading <= 0:
        return everything
    root = math.sqrt(max(middle**2 - leading * last, 0))
    return Estimate(
        mean=mean, low=float((middle - root) / leading), high=float((middle + root) / leading), n=n
    )


def correlation(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Pearson's correlation of n pairs with Fisher's 95 % interval, tanh(atanh r ± 1.96/√(n − 3)).

    Examples:
        >>> e = correlation([1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 2.0, 3.0, 5.0, 4.0])
        >>> round(e.mean, 2), round(e.low, 2), round(e.high, 2), e.n
        (0.9, 0.09, 0.99, 5)
    """
    x, y = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if x.ndim != 1 or x.shape != y.shape or len(x) < 3:
        raise ValueError(
            f"the values have shapes {x.shape} and {y.shape}; as many of both, at least 3, are allowed"
        )
    r, n = float(np.corrcoef(x, y)[0, 1]), len(x)
    if n == 3:
        return Estimate(mean=r, low=-1.0, high=1.0, n=3)
    half = float(stats.norm.ppf(0.975)) / math.sqrt(n - 3)
    centre = math.atanh(min(max(r, -1 + 1e-12), 1 - 1e-12))
    return Estimate(mean=r, low=math.tanh(centre - half), high=math.tanh(centre + half), n=n)


def median_and_range(values: Sequence[float]) -> Estimate:
    """Median, smallest and largest value: for choices, such as the best width of each seed.

    Examples:
        >>> median_and_range([80, 160, 80])
        Estimate(mean=80.0, low=80.0, high=160.0, n=3)
    """
    if len(values) == 0:
        raise ValueError("values is empty; a sequence of at least one number is allowed")
    median = float(np.median(values))
    return Estimate(mean=median, low=float(min(values)), high=float(max(values)), n=len(values))


def shown(found: Estimate) -> str:
    """An estimate with its interval, in words, with as many decimals as the interval is worth.

    These are two digits of half the interval, and at least two decimals below 1,000.

    Examples:
        >>> shown(Estimate(mean=0.07667, low=-3.46, high=3.614, n=3))
        '0.08 (-3.46 to 3.61)'
        >>> shown(Estimate(mean=0.01347, low=-0.00196, high=0.0289, n=50))
        '0.013 (-0.002 to 0.029)'
        >>> shown(median_and_range([40, 80, 80]))
        '80 (40 to 80)'
    """
    numbers = (found.mean, found.low, found.high)
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return f"{found.mean:,.4g} (no interval)"
    half, rounding = (found.high - found.low) / 2, ROUNDING * max(map(abs, numbers))
    if half <= rounding:
        return f"{found.mean:,.0f}" if abs(found.mean) >= 1000 else f"{found.mean:,.4g}"
    if all(abs(number - round(number)) <= rounding for number in numbers):
        decimals = 0
    else:
        digits = 1 - math.floor(math.log10(half * (1 + ROUNDING)))
        decimals = max(digits, 0 if abs(found.mean) >= 1000 else 2)
    mean, low, high = (f"{round(number, decimals) + 0.0:,.{decimals}f}" for number in numbers)
    return f"{mean} ({low} to {high})"


def held_out_best(
    table: pd.DataFrame, *, cell: Sequence[str], value: str = "test_accuracy", by: str = "seed"
) -> pd.DataFrame:
    """One row a seed: the run of that seed in the cell that is best on average over the other seeds.

    The best of many noisy cells looks better than it is; choosing on some seeds and reporting on
    another removes that bias. With a single seed there is nothing to hold out, and the row is the
    best cell itself. Of cells that are equally good the last in order is chosen, such as the widest, and
    one with a NaN among the other seeds never.

    Args:
        table: One row a run, with the columns named here.
        cell: Columns that together say which cell a run belongs to.
        value: What is to be large.
        by: The column of the seeds.

    Examples:
        >>> runs = pd.DataFrame(
        ...     {"width": [5, 9, 5, 9], "seed": [0, 0, 1, 1], "test_accuracy": [0.8, 0.7, 0.6, 0.9]}
        ... )
        >>> held_out_best(runs, cell=["width"])["test_accuracy"].tolist()
        [0.7, 0.6]
    """
    rows = []
    for seed in sorted(table[by].unique()):
        here = table[by] == seed
        others = table[~here] if (~here).any() else table
        means = others.groupby(list(cell), dropna=False)[value].apply(lambda v: v.mean(skipna=False))
        best = (means - means.max()).round(12)[::-1].idxmax()  # equal means may differ by rounding
        match = here
        for column, found in zip(cell, best if isinstance(best, tuple) else (best,), strict=True):
            match = match & (table[column].isna() if pd.isna(found) else table[column] == found)
        rows.append(table[match].iloc[0])
    return pd.DataFrame(rows)
