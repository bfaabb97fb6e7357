"""Estimates with their intervals over independent units, most often seeds.

Every interval is calibrated by simulation at the sizes of the book's pages (`tests/test_calibration.py`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import scipy
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "CellsAndSeeds",
    "Estimate",
    "correlation_of_means",
    "estimate",
    "exact",
    "exact_range",
    "held_out_best",
    "median_and_range",
    "proportion",
    "ratio_of_means",
    "shown",
]

ROUNDING = 1e-9
"""Relative to the largest number of an estimate; by less, its numbers differ between machines alone."""

POWER = 0.8
"""With which a number of units decides, if the truth is what was estimated."""

MOST_UNITS = 1000
"""More are not counted."""

LEVEL = 0.05
"""Of what is tested together."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its interval (low to high) over n independent units, most often seeds.

    Args:
        mean: The number.
        low, high: Of the interval; an end may be infinite.
        n: Independent units.
        df: Degrees of freedom of the interval's quantile: n − 1 if not given.
        confidence: Of the interval: 0.95, or 0.9 where two one-sided tests decide (an equivalence).
        later: Of a set that shrinks in steps: the number of units, and low and high from there on, if the
            truth is what was estimated (with probability 0.8).
        p_of_zero: Two-sided, where the interval alone does not give it.
    """

    mean: float
    low: float
    high: float
    n: int
    df: float | None = None
    confidence: float = 0.95
    later: tuple[tuple[int, float, float], ...] = ()
    p_of_zero: float | None = None

    @property
    def quantile(self) -> float:
        """Student's, of which half the interval is a multiple; infinite without degrees of freedom."""
        df = self.n - 1 if self.df is None else self.df
        return float(scipy.special.stdtrit(df, (1 + self.confidence) / 2)) if df > 0 else math.inf

    def p_value(self, border: float) -> float:
        """Two-sided, of the border: at most 1 − confidence just where the interval leaves the border out.

        From the part of the interval that faces the border, with Student's t: exact for every estimate whose
        interval is mean ± t · error. 1 where that part has no end, or a single unit no error.

        Examples:
            >>> round(estimate([1.0, 2.0, 3.0]).p_value(0.0), 4)  # that of scipy.stats.ttest_1samp
            0.0742
        """
        if border == 0 and self.p_of_zero is not None:
            return self.p_of_zero
        part = self.mean - self.low if border < self.mean else self.high - self.mean
        distance = abs(self.mean - border)
        if part <= 0:  # the number can lie outside of an interval that is not about it
            return 1.0 if self.low <= border <= self.high else 0.0
        if not (math.isfinite(part) and math.isfinite(self.quantile)):
            return 1.0
        df = self.n - 1 if self.df is None else self.df
        return float(2 * scipy.special.stdtr(df, -distance / part * self.quantile))


def _about(mean: float, error: float, *, n: int, df: float, confidence: float) -> Estimate:
    """Mean ± t · error."""
    found = Estimate(mean=mean, low=-math.inf, high=math.inf, n=n, df=df, confidence=confidence)
    half = found.quantile * error
    return Estimate(mean=mean, low=mean - half, high=mean + half, n=n, df=df, confidence=confidence)


def units_that_see(found: Estimate, distance: float, level: float) -> int:
    """How many units see a distance between an estimate and a border, with the probability `POWER`.

    The least n with (t₁₋ₗ/₂ + t₀.₈) · s / √n ≤ distance, s / √(units now) being the error; at most
    `MOST_UNITS` + 1.

    Args:
        found: With its interval, of which the part below the mean gives the error.
        distance: Above 0; not above 0 is never seen.
        level: Two-sided, of the test.

    Examples:
        >>> units_that_see(Estimate(mean=1.0, low=-1.0, high=3.0, n=4), 1.0, 0.05)
        15
    """
    part = found.mean - found.low
    if not (distance > 0 and 0 <= part < math.inf):
        return MOST_UNITS + 1
    n = np.arange(max(3, found.n), MOST_UNITS + 1)
    df = (found.n - 1 if found.df is None else found.df) * (n - 1) / max(found.n - 1, 1)
    quantiles = scipy.special.stdtrit(df, 1 - level / 2) + scipy.special.stdtrit(df, POWER)
    seen = quantiles * part / found.quantile * np.sqrt(found.n / n) <= distance
    return int(n[seen.argmax()]) if seen.any() else MOST_UNITS + 1


def exact(value: float) -> Estimate:
    """A number that is computed and has no error.

    Examples:
        >>> found = exact(3970)
        >>> found.low, found.mean, found.high
        (3970.0, 3970.0, 3970.0)
    """
    return Estimate(mean=float(value), low=float(value), high=float(value), n=1)


def estimate(values: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """Mean and Student's interval, mean ± t · s / √n; infinite where n is 1, NaN where a value is.

    Args:
        values: One a unit.
        confidence: Of the interval.

    Examples:
        >>> e = estimate([1.0, 2.0, 3.0])
        >>> e.mean, round(e.high - e.mean, 3), e.n
        (2.0, 2.484, 3)
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be > 0 and < 1, got {confidence!r}; give such a number")
    sample = np.asarray(values, dtype=float)
    if sample.ndim != 1 or len(sample) == 0:
        raise ValueError(
            f"values must be a sequence of one or more numbers, got shape {sample.shape}; give one number "
            "a seed"
        )
    n, mean = len(sample), float(sample.mean())
    if n == 1:
        return Estimate(mean=mean, low=-math.inf, high=math.inf, n=1, confidence=confidence)
    error = float(sample.std(ddof=1)) / math.sqrt(n)
    return _about(mean, error, n=n, df=n - 1, confidence=confidence)


def difference(first: Estimate, second: Estimate) -> Estimate:
    """The first less the second, of independent estimates mean ± t · error, with Satterthwaite's interval.

    Examples:
        >>> e = difference(estimate([1.0, 2.0, 3.0]), estimate([0.0, 4.0, 2.0, 2.0]))
        >>> e.mean, round(e.low, 2), round(e.high, 2), round(e.df, 1), e.n  # as scipy.stats.ttest_ind
        (0.0, -2.58, 2.58, 4.9, 3)
    """
    both, n, confidence = (first, second), min(first.n, second.n), first.confidence
    mean, df = first.mean - second.mean, [e.n - 1 if e.df is None else e.df for e in both]
    if min(df) <= 0:
        return Estimate(mean=mean, low=-math.inf, high=math.inf, n=n, confidence=confidence)
    errors = [(e.high - e.mean) / e.quantile for e in both]
    squared = sum(error**2 for error in errors)
    parts = sum(error**4 / d for error, d in zip(errors, df, strict=True))
    together = squared**2 / parts if parts else min(df)
    return _about(mean, math.sqrt(squared), n=n, df=together, confidence=confidence)


def proportion(successes: Sequence[bool]) -> Estimate:
    """Share of units that have something, with the exact binomial 95 % interval (Clopper and Pearson).

    Of 3 units that all have it, the share may be anything from 0.29 on: n of n exclude a share of 0.9 or less
    only from n = 36.

    Args:
        successes: One a unit.

    References:
        Clopper and Pearson, *The use of confidence or fiducial limits* (1934).

    Examples:
        >>> e = proportion([True, True, True])
        >>> e.mean, round(e.low, 2), e.high, e.n
        (1.0, 0.29, 1.0, 3)
    """
    n, k = len(successes), int(np.sum(successes))
    if n == 0:
        raise ValueError("successes must be a sequence of at least one unit, got none")
    interval = scipy.stats.binomtest(k, n).proportion_ci(method="exact")
    return Estimate(mean=k / n, low=float(interval.low), high=float(interval.high), n=n)


def ratio_of_means(numerators: ArrayLike, denominators: ArrayLike) -> Estimate:
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
            f"numerators and denominators must be as many, at least 1, got shapes {a.shape} and {b.shape}; "
            "give one pair a seed"
        )
    n = len(a)
    if n == 1:
        return Estimate(mean=float(a[0] / b[0]) if b[0] else math.nan, low=-math.inf, high=math.inf, n=1)
    x, y = a.mean(), b.mean()
    everything = Estimate(mean=float(x / y) if y else math.nan, low=-math.inf, high=math.inf, n=n)
    (aa, ab), (_, bb) = np.cov(a, b) / n * everything.quantile**2  # (x − r y)² ≤ aa − 2 r ab + r² bb
    leading, middle, last = y**2 - bb, x * y - ab, x**2 - aa
    if not leading > 0:
        return everything
    root = math.sqrt(max(middle**2 - leading * last, 0))
    low, high = ((middle + sign * root) / leading for sign in (-1, 1))
    return replace(everything, low=float(low), high=float(high))


def correlation_of_means(
    first: ArrayLike, second: ArrayLike, *, samples: int = 9999, seed: int = 0
) -> Estimate:
    """Pearson's correlation over widths of two means over seeds, with a bootstrap interval over the seeds.

    The widths are a design, not a sample: only the noise of the seeds is drawn, at each width with the
    covariance of its runs, from Student's distribution with the degrees of freedom of the error of r, to
    which all widths contribute (Satterthwaite). The 95 % interval holds every correlation ρ of the true
    means under which r lies in neither tail of 2.5 %; the true means scatter as those measured do, less what
    noise adds. An interval about r would leave out a ρ near ±1, since noise alone moves r away from it. It is
    −1 to 1 where the means of one scatter no more than their noise, and r is NaN where they are all equal.

    Args:
        first, second: (seeds, widths), the same seeds and widths in both; at least 3 widths.
        samples: Draws of the noise.
        seed: Of the draws.

    References:
        DiCiccio and Romano, *Nonparametric confidence limits by resampling methods and least favorable
        families* (1990). Satterthwaite, *An approximate distribution of estimates of variance components*
        (1946).

    Examples:
        >>> noise = np.random.default_rng(0).normal(size=(2, 6, 5))
        >>> e = correlation_of_means(np.arange(5.0) + noise[0], np.arange(5.0) + noise[1])
        >>> round(e.mean, 2), e.low < 0.9 < e.high, e.n
        (0.97, True, 6)
    """
    x, y = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if x.ndim != 2 or x.shape != y.shape or x.shape[1] < 3:
        raise ValueError(
            f"first and second must be (seeds, widths) with at least 3 widths, got {x.shape} and {y.shape}"
        )
    n, widths = x.shape
    runs = _centred(np.stack([x, y]))  # what a seed adds at all widths moves no correlation
    means = runs.mean(1)
    noise, squares = runs - means[:, None], (means**2).sum(1)
    if not squares.min() > 0:
        return Estimate(mean=math.nan, low=-1.0, high=1.0, n=n)
    r = float(means[0] @ means[1] / np.sqrt(squares.prod()))
    scatter = squares - (noise**2).sum((1, 2)) / (n * max(n - 1, 1))
    if n == 1 or not scatter.min() > 0:
        return Estimate(mean=r, low=-1.0, high=1.0, n=n)

    along, beside = means / np.sqrt(squares)[:, None]
    moves = noise[0] * (beside - r * along) / math.sqrt(squares[0])
    moves += noise[1] * (along - r * beside) / math.sqrt(squares[1])
    of_width = (moves**2).sum(0)
    df = (n - 1) * of_width.sum() ** 2 / max(float((of_width**2).sum()), 1e-300) or n - 1

    rng = np.random.default_rng(seed)
    size = np.sqrt(widths / (widths - 1) / n / (n - 1) * df / rng.chisquare(df, (samples, 1, 1)))
    draws = rng.normal(size=(samples, n, widths)) * size
    a, b = (_centred((draws * each).sum(1)) for each in noise)
    across = means[1] - (means[1] @ along) * along
    across /= math.sqrt(max(across @ across, 1e-300))
    a += math.sqrt(scatter[0]) * along

    def not_above_r(angle: float) -> float:
        """Share of the draws, if the true means have the correlation cos angle; rises with the angle."""
        at = b + math.sqrt(scatter[1]) * (math.cos(angle) * along + math.sin(angle) * across)
        return float(((a * at).sum(1) <= r * np.sqrt((a**2).sum(1) * (at**2).sum(1))).mean())

    def end(share: float) -> float:
        low, high = 0.0, math.pi
        if not_above_r(low) > share:
            return 1.0
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (low, middle) if not_above_r(middle) > share else (middle, high)
        return math.cos(high)

    return Estimate(mean=r, low=end(0.975), high=end(0.025), n=n)


def _centred(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Less the mean over the last axis."""
    return np.asarray(values - values.mean(-1, keepdims=True))


def median_and_range(values: Sequence[float]) -> Estimate:
    """Median, smallest and largest value of a sample.

    The range covers the median with the probability 1 − 2^(1 − n), 0.998 of 10 and 0.75 of 3, which is the
    confidence where it is below 0.95. Of one value it is infinite.

    Examples:
        >>> found = median_and_range([80, 160, 80])
        >>> found.mean, found.low, found.high, found.n, found.confidence
        (80.0, 80.0, 160.0, 3, 0.75)
    """
    found, n = exact_range(values), len(values)
    if n == 1:
        return estimate(values)
    return replace(found, confidence=min(0.95, 1 - 2.0 ** (1 - n)))


def exact_range(values: Sequence[float]) -> Estimate:
    """Median, smallest and largest of numbers that are computed and have no error.

    Examples:
        >>> found = exact_range([0, 1, 0])
        >>> found.mean, found.low, found.high, found.n
        (0.0, 0.0, 1.0, 3)
    """
    if len(values) == 0:
        raise ValueError("values must be a sequence of one or more numbers, got none; give one number a seed")
    median = float(np.median(values))
    return Estimate(mean=median, low=float(min(values)), high=float(max(values)), n=len(values))


class CellsAndSeeds:
    """Contrasts of cells, such as networks of several widths, that share their seeds: paired by seed.

    Networks of one seed see the images in one order, and what a seed adds to all cells cancels. The interval
    is Student's of the n differences, exact however much the cells differ in their noise. One spread of all
    runs has more degrees of freedom, but its intervals cover 74 to 92 % where one cell has twice the noise of
    the rest, which tests with so few seeds seldom see.

    Args:
        values: One row a cell, one column a seed. What asks for a cell with a NaN is NaN.

    Examples:
        >>> noise = np.random.default_rng(0).normal(size=(9, 3))
        >>> runs = CellsAndSeeds(pd.DataFrame(noise + np.arange(9.0)[:, None]))
        >>> e = runs.contrast({8: 1, 0: -1})
        >>> e.low < 8 < e.high, e.n
        (True, 3)
    """

    def __init__(self, values: pd.DataFrame) -> None:
        self.seeds = values.shape[1]
        self._rows = dict(zip(values.index.tolist(), values.to_numpy(float), strict=True))

    @property
    def deviation(self) -> float:
        """Standard deviation of a run within its cell, root mean square over the cells without a NaN."""
        cells = np.array([row for row in self._rows.values() if np.isfinite(row).all()])
        return float(np.sqrt(cells.var(axis=1, ddof=1).mean())) if self.seeds > 1 and len(cells) else math.nan

    def contrast(self, weights: Mapping[Any, float], *, confidence: float = 0.95) -> Estimate:
        """Σ wᵢ · (mean of cell i), weights by cells, with its interval."""
        return estimate(self._by_seed(weights), confidence=confidence)

    def ratio(self, numerator: Mapping[Any, float], denominator: Mapping[Any, float]) -> Estimate:
        """One contrast over another, with Fieller's 95 % interval."""
        return ratio_of_means(self._by_seed(numerator), self._by_seed(denominator))

    def largest(self, contrasts: Sequence[Mapping[Any, float]]) -> Estimate:
        """The largest of several contrasts: where it is below 0, all of them are.

        Its upper end is the largest of theirs; the largest of k noisy numbers is too large, so that the lower
        ends hold for all k together at the level 0.025 (Šidák). So are the p-values: the largest of theirs
        below 0, the smallest for all k together above.
        """
        found = [self.contrast(weights) for weights in contrasts]
        each = 1 - 2 * (1 - (1 - LEVEL / 2) ** (1 / len(found)))
        lows = [self.contrast(weights, confidence=each).low for weights in contrasts]
        one, highs = max(found, key=lambda e: (math.isnan(e.mean), e.mean)), [e.high for e in found]
        if math.isnan(one.mean):
            return one
        p = [e.p_value(0.0) for e in found if (e.mean > 0) == (one.mean > 0)]
        p_of_zero = max(p) if one.mean <= 0 else min(1.0, 2 * (1 - (1 - min(p) / 2) ** len(found)))
        return replace(one, low=max(lows), high=max(highs), p_of_zero=p_of_zero)

    def not_below_best(
        self, cells: Mapping[Any, float], *, level: float = LEVEL, chosen_from: int | None = None
    ) -> Estimate:
        """Which cells may be the best: the one with the highest mean, and the range of those not below it.

        A cell is left out if one of the others is above it by a one-sided test; all tests together
        at one level (Šidák), so that the best cell is in the set with a probability of at least 1 − `level`.

        Args:
            cells: The number that each stands for, such as its width; an interval is of these numbers.
            level: Of all tests together.
            chosen_from: How many cells these are the best of, if each was chosen by the same runs: the level
                is then shared by so many.

        References:
            Hsu, *Constrained simultaneous confidence intervals for multiple comparisons with the best*
            (1984).

        Examples:
            >>> runs = CellsAndSeeds(pd.DataFrame([[1.0, 1.1], [3.0, 3.2], [3.1, 3.0], [1.9, 2.1]]))
            >>> found = runs.not_below_best({0: 10, 1: 20, 2: 40, 3: 80})
            >>> found.mean, found.low, found.high
            (20.0, 20.0, 40.0)
        """
        means = {cell: float(self._by_seed({cell: 1.0}).mean()) for cell in cells}
        if any(math.isnan(mean) for mean in means.values()):
            return Estimate(mean=math.nan, low=math.nan, high=math.nan, n=self.seeds)
        each = 1 - 2 * (1 - (1 - level) ** (1 / max((chosen_from or len(cells)) - 1, 1)))

        gaps = {
            cell: [self.contrast({o: 1.0, cell: -1.0}, confidence=each) for o in cells if o != cell]
            for cell in cells
        }
        best = max(means, key=lambda cell: means[cell])

        leaves = {
            cell: min(units_that_see(gap, gap.mean, 1 - each) for gap in gaps[cell])
            for cell in cells
            if cell != best
        }
        now = [cell for cell in cells if cell == best or not any(gap.low > 0 for gap in gaps[cell])]
        changes = sorted({n for cell, n in leaves.items() if cell in now and self.seeds < n <= MOST_UNITS})
        later = [(n, [cells[c] for c in now if c == best or leaves[c] > n]) for n in changes]
        low, high = (float(end(cells[cell] for cell in now)) for end in (min, max))
        return Estimate(
            mean=float(cells[best]),
            low=low,
            high=high,
            n=self.seeds,
            later=tuple((n, float(min(left)), float(max(left))) for n, left in later),
        )

    def _by_seed(self, weights: Mapping[Any, float]) -> NDArray[np.float64]:
        missing = np.full(self.seeds, math.nan)
        return np.asarray(sum(w * self._rows.get(cell, missing) for cell, w in weights.items()))


def with_minus(text: str) -> str:
    """A text whose negative numbers have a minus sign (U+2212) where they had a hyphen.

    Examples:
        >>> with_minus("-0.5 (-1 to 2e-05), `-1`, 2020-11, x^-1")
        '−0.5 (−1 to 2e-05), `-1`, 2020-11, x^-1'
    """
    return re.sub(r"(?<![\w.)\]}{^`-])-(?=\.?\d)", "−", text)


def shown(found: Estimate) -> str:
    """An estimate with its interval, in words, with as many decimals as the interval is worth.

    These are two digits of half the interval, and at least two decimals below 1,000.

    Examples:
        >>> shown(Estimate(mean=0.07667, low=-3.46, high=3.614, n=3))
        '0.08 (−3.46 to 3.61)'
        >>> shown(Estimate(mean=0.01347, low=-0.00196, high=0.0289, n=50))
        '0.013 (−0.002 to 0.029)'
        >>> shown(exact_range([40, 80, 80]))
        '80 (40 to 80)'
        >>> shown(Estimate(mean=0.2, low=-0.3, high=0.7, n=3, confidence=0.9))
        '0.20 (−0.30 to 0.70, 90 %)'
        >>> shown(estimate([math.nan, 0.5])), shown(estimate([math.inf]))
        ('not known', '∞ (no interval)')
    """
    numbers = (found.mean, found.low, found.high)
    if math.isnan(found.mean):
        return "not known"
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return with_minus(f"{found.mean:,.4g} (no interval)").replace("inf", "∞")
    half, rounding = (found.high - found.low) / 2, ROUNDING * max(map(abs, numbers))
    if half <= rounding:
        return with_minus(f"{found.mean:,.0f}" if abs(found.mean) >= 1000 else f"{found.mean:,.4g}")
    if all(abs(number - round(number)) <= rounding for number in numbers):
        decimals = 0
    else:
        digits = 1 - math.floor(math.log10(half * (1 + ROUNDING)))
        decimals = max(digits, 0 if abs(found.mean) >= 1000 else 2)
    mean, low, high = (f"{round(number, decimals) + 0.0:,.{decimals}f}" for number in numbers)
    level = "" if found.confidence == 0.95 else f", {100 * found.confidence:g} %"
    return with_minus(f"{mean} ({low} to {high}{level})")


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

    Raises:
        ValueError: If a seed has no run in the cell that is chosen for it, or every cell a NaN.

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
        if means.isna().all():
            raise ValueError(
                f"{value} must be known of all runs of a cell, got NaN in each but for {by} {seed}; drop them"
            )
        best = (means - means.max()).round(12)[::-1].idxmax()  # equal means may differ by rounding
        match = here
        for column, found in zip(cell, best if isinstance(best, tuple) else (best,), strict=True):
            match = match & (table[column].isna() if pd.isna(found) else table[column] == found)
        if not match.any():
            raise ValueError(
                f"every {by} must have a run in each cell, got none of {by} {seed} where "
                f"{', '.join(cell)} is {best}"
            )
        rows.append(table[match].iloc[0])
    return pd.DataFrame(rows)
