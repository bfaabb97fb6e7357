"""Estimates with their intervals, and the one rule that turns an estimate and a claim into a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd
from scipy import stats


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


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Estimate:
    """Mean over mean of n pairs with Fieller's 95 % interval.

    The interval holds every r for which Student's test does not tell the mean of a − r b from 0. It
    is unbounded where the mean of the denominators cannot be told from 0.

    Args:
        numerators, denominators: a and b, one pair a seed.

    References:
        Fieller, *Some problems in interval estimation* (1954).

    Examples:
        >>> e = ratio([1.0, 1.2, 0.8], [2.0, 2.3, 1.8])
        >>> round(e.mean, 3), round(e.low, 2), round(e.high, 2), e.n
        (0.492, 0.36, 0.57, 3)
        >>> ratio([1.0, 1.2, 0.8], [2.0, -2.3, 0.5]).high
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


def spread(values: Sequence[float]) -> Estimate:
    """Median, smallest and largest value: for choices, such as the best width of each seed.

    Examples:
        >>> spread([80, 160, 80])
        Estimate(mean=80.0, low=80.0, high=160.0, n=3)
    """
    if len(values) == 0:
        raise ValueError("values is empty; a sequence of at least one number is allowed")
    median = float(np.median(values))
    return Estimate(mean=median, low=float(min(values)), high=float(max(values)), n=len(values))


ABOVE_0 = math.nextafter(0, 1)
BELOW_0 = -ABOVE_0
"""Ends of a claim's range that leave 0 out: the claim is of a direction."""


class Verdict(StrEnum):
    """What our measurement says about a claim."""

    REPRODUCED = "reproduced"
    PARTLY = "partly"
    NOT_REPRODUCED = "not reproduced"
    NOT_TESTED = "not tested at this scale"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement of a paper about one number.

    Args:
        name: Short and unique.
        source: Paper, section, figure.
        statement: In our words, with the paper's number.
        reported: The paper's number, in `unit`; `None` if it states only a direction.
        low, high: The claim holds if the quantity lies in this range, ends included; an end may be infinite,
            and `ABOVE_0` or `BELOW_0` leaves 0 out.
        unit: Of all three.
        full_protocol_only: Whether only the paper's data and its whole training can test it.
        untested: Why no page measures it, where none does.
    """

    name: str
    source: str
    statement: str
    low: float
    high: float
    unit: str
    reported: float | None = None
    full_protocol_only: bool = False
    untested: str = ""


def verdict(claim: Claim, ours: Estimate, *, same_data: bool, full_protocol: bool) -> Verdict:
    """What our estimate says of a claim, by the one rule above.

    Args:
        claim: What the paper says.
        ours: Our estimate, in the claim's unit.
        same_data: Whether it was measured on the paper's data set.
        full_protocol: Whether the paper's whole training was followed.

    Examples:
        >>> gain = Claim(name="gain", source="", statement="", low=0.1, high=9, unit="points")
        >>> str(verdict(gain, estimate([1.0, 1.1, 0.9]), same_data=True, full_protocol=False))
        'reproduced'
        >>> str(verdict(gain, estimate([1.0, -1.0, 0.3]), same_data=True, full_protocol=False))
        'partly'
    """
    if not same_data or (claim.full_protocol_only and not full_protocol):
        return Verdict.NOT_TESTED
    if not (math.isfinite(ours.low) and math.isfinite(ours.high)):
        return Verdict.NOT_TESTED
    if claim.low <= ours.low and ours.high <= claim.high:
        return Verdict.REPRODUCED
    if ours.high < claim.low or ours.low > claim.high:
        return Verdict.NOT_REPRODUCED
    return Verdict.PARTLY


def why(claim: Claim, ours: Estimate | None, *, same_data: bool, full_protocol: bool) -> str:
    """What decided the verdict, in words.

    Args:
        claim, same_data, full_protocol: As in [`verdict`][wsnlib.claims.rule.verdict].
        ours: Our estimate; `None` if there is none.

    Examples:
        >>> gain = Claim(name="gain", source="", statement="", low=0.1, high=9, unit="points")
        >>> why(gain, estimate([-1.0, -1.1, -0.9]), same_data=True, full_protocol=False)
        'the whole interval lies below the range'
    """
    if ours is None:
        return claim.untested or "not measured with this profile"
    if not same_data:
        return "measured on other data than the paper's"
    if claim.full_protocol_only and not full_protocol:
        return "only the paper's data and its whole training can tell"
    if math.isnan(ours.mean):
        return "a run gave no number"
    if not (math.isfinite(ours.low) and math.isfinite(ours.high)):
        return "the interval has no end"
    said = verdict(claim, ours, same_data=same_data, full_protocol=full_protocol)
    if said == Verdict.REPRODUCED:
        return "the whole interval lies in the range"
    if said == Verdict.NOT_REPRODUCED:
        return f"the whole interval lies {'below' if ours.high < claim.low else 'above'} the range"
    within_noise = ", and holds 0" if ours.low < 0 < ours.high else ""
    return f"the interval lies in the range only in part{within_noise}"


def claims_table(
    claims: Mapping[str, Claim],
    ours: Mapping[str, Estimate],
    *,
    same_data: bool,
    full_protocol: bool,
) -> pd.DataFrame:
    """One row a claim: what the paper says, what we measured, and the verdict.

    Args:
        claims: By name, such as `SPARSE_MLP`.
        ours: Our estimates by the same names; a claim without one is not tested.
        same_data, full_protocol: As in [`verdict`][wsnlib.claims.verdict].

    Raises:
        ValueError: If an estimate names no claim.
    """
    if unknown := set(ours) - set(claims):
        raise ValueError(f"{sorted(unknown)[0]!r} is not a claim; one of {', '.join(claims)} is allowed")
    rows = []
    for name, claim in claims.items():
        found = ours.get(name)
        said = (
            Verdict.NOT_TESTED
            if found is None
            else verdict(claim, found, same_data=same_data, full_protocol=full_protocol)
        )
        rows.append(
            {
                "claim": claim.statement,
                "source": claim.source,
                "holds in": holds_in(claim),
                "ours": "" if found is None else shown(found),
                "n": 0 if found is None else found.n,
                "verdict": str(said),
            }
        )
    return pd.DataFrame(rows)


def holds_in(claim: Claim) -> str:
    """The range in which a claim holds, in words."""
    return f"{_interval(claim.low, claim.high)} {claim.unit}"


def _interval(low: float, high: float) -> str:
    if low == high:
        return f"{low:,g}"
    above = "above 0" if low == ABOVE_0 else f"{low:,g}"
    below = "below 0" if high == BELOW_0 else f"{high:,g}"
    if high == math.inf:
        return above if above == "above 0" else f"at least {above}"
    if low == -math.inf:
        return below if below == "below 0" else f"at most {below}"
    if above == "above 0":
        return f"above 0, at most {below}"
    if below == "below 0":
        return f"below 0, at least {above}"
    return f"{above} to {below}"


def shown(found: Estimate) -> str:
    """An estimate with its interval, in words, with as many decimals as the interval is worth.

    These are two digits of half the interval, and at least two decimals below 1,000.

    Examples:
        >>> shown(Estimate(mean=0.07667, low=-3.46, high=3.614, n=3))
        '0.08 (-3.46 to 3.61)'
        >>> shown(Estimate(mean=0.01347, low=-0.00196, high=0.0289, n=50))
        '0.013 (-0.002 to 0.029)'
        >>> shown(spread([40, 80, 80]))
        '80 (40 to 80)'
    """
    numbers = (found.mean, found.low, found.high)
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return f"{found.mean:,.4g} (no interval)"
    if found.low == found.high:
        return f"{found.mean:,.0f}" if abs(found.mean) >= 1000 else f"{found.mean:,.4g}"
    if all(number == round(number) for number in numbers):
        decimals = 0
    else:
        digits = 1 - math.floor(math.log10((found.high - found.low) / 2))
        decimals = max(digits, 0 if abs(found.mean) >= 1000 else 2)
    mean, low, high = (f"{round(number, decimals) + 0.0:,.{decimals}f}" for number in numbers)
    return f"{mean} ({low} to {high})"


def held_out_best(
    table: pd.DataFrame, *, cell: Sequence[str], value: str = "test_accuracy", by: str = "seed"
) -> pd.DataFrame:
    """One row a seed: the run of that seed in the cell that is best on average over the other seeds.

    The best of many noisy cells looks better than it is; choosing on some seeds and reporting on
    another removes that bias. With a single seed there is nothing to hold out, and the row is the
    best cell itself. A cell with a NaN among the other seeds is never chosen.

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
        best = means.idxmax()
        match = here
        for column, found in zip(cell, best if isinstance(best, tuple) else (best,), strict=True):
            match = match & (table[column].isna() if pd.isna(found) else table[column] == found)
        rows.append(table[match].iloc[0])
    return pd.DataFrame(rows)
