"""The one rule that says what our measurement makes of a claim.

A claim states, before its runs, where its quantity must lie for it to hold (H) and where it must lie to be
contradicted (C); what lies between does not support it. With the interval of our estimate the claim is

- *verified* or *refuted*, if it is arithmetic (true by algebra or construction, or computed without training)
  or a premise: the interval lies in H, or apart from it;
- *reproduced*, if the interval lies in H;
- *not reproduced*, if it lies apart from H, in C or not;
- *mixed*, if it leaves C out and yet does not lie in H, or if one listed reading is reproduced, another not
  (readings without a calibrated interval aside);
- *inconclusive*, if it meets both; with fewer than 3 independent units, or for H in the control group; for H
  unless the control group's interval lies apart from it; if it is arithmetic and the interval of a lower
  confidence than it asks for;
  if its premise is not met; or if the p-value of its direction is above 0.05 after Holm's correction for the
  directions of its page;
- *not tested*, on other data, by a shorter training than it needs, or without a measurement.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from wsnlib.book.engine.claims import Claim
from wsnlib.estimates import MOST_UNITS, ROUNDING, Estimate, proportion, units_that_see

LEAST_UNITS = 3
"""Independent units below which nothing is concluded."""

LEVEL = 0.05
"""Of all directions of a page together."""

SHOWN_ALONE = frozenset({"held-out best"})
"""Readings that are shown and decide nothing, since their intervals cover too seldom."""


class Verdict(StrEnum):
    """What our measurement says about a claim."""

    VERIFIED = "verified"
    REFUTED = "refuted"
    REPRODUCED = "reproduced"
    MIXED = "mixed"
    NOT_REPRODUCED = "not reproduced"
    INCONCLUSIVE = "inconclusive"
    NOT_TESTED = "not tested"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A verdict, what decided it in words, and how many seeds would, where that is a matter of seeds.

    Args:
        verdict: By the rule at the head of this module.
        why: In words.
        seeds: For an inconclusive claim; `"no number"` where more would not decide it.
    """

    verdict: Verdict
    why: str
    seeds: str = ""


def judge(
    claim: Claim,
    ours: Estimate | None,
    *,
    same_data: bool,
    full_protocol: bool,
    readings: Mapping[str, Estimate] | None = None,
    control: Estimate | None = None,
    unmet: str = "",
    adjusted_p: float | None = None,
) -> Judgement:
    """What our estimate says of a claim, by the rule at the head of this module.

    Args:
        claim: What the paper says.
        ours: Our estimate by the claim's primary estimator, in its unit; `None` if there is none.
        same_data: Whether it was measured on the paper's data set.
        full_protocol: Whether the paper's whole training was followed.
        readings: Of the claim's closed list of other readings, by name.
        control: The same quantity where the claim says nothing, of a claim with a control group.
        unmet: Its premise, where that is not met: networks are not of the kind that the claim is about.
        adjusted_p: Of a direction, after Holm; its own p-value if not given.

    Examples:
        >>> from wsnlib.estimates import estimate
        >>> gain = Claim(name="gain", source="", statement="", low=1, high=9, unit="points", against=(0, 20))
        >>> def verdict(values):
        ...     return str(judge(gain, estimate(values), same_data=True, full_protocol=True).verdict)
        >>> verdict([2.0, 2.1, 1.9]), verdict([1.0, 0.9, 1.1])
        ('reproduced', 'mixed')
        >>> verdict([0.5, -2.0, 3.0]), verdict([-0.1, -0.2, -0.3])
        ('inconclusive', 'not reproduced')
    """
    if reason := _untested(claim, ours, same_data=same_data, full_protocol=full_protocol):
        return Judgement(verdict=Verdict.NOT_TESTED, why=reason)
    assert ours is not None
    said, why = _of_interval(claim, ours)
    if claim.type != "empirical":
        return Judgement(verdict=said, why=why)
    deciding = {name: e for name, e in (readings or {}).items() if name not in SHOWN_ALONE}
    enough = {name: e for name, e in deciding.items() if min(e.n, ours.n) >= LEAST_UNITS}
    others = {name: _of_interval(claim, found)[0] for name, found in enough.items()}
    if unmet:
        premise = unmet[0].lower() + unmet[1:].removesuffix(".")
        why = f"its premise is not met, that {premise}"
        return Judgement(verdict=Verdict.INCONCLUSIVE, why=why, seeds="no number")
    if ours.n < LEAST_UNITS:
        why = f"fewer than {LEAST_UNITS} independent units"
        said = Verdict.INCONCLUSIVE
    elif claim.control and said is Verdict.REPRODUCED and (control is None or control.n < LEAST_UNITS):
        why = f"fewer than {LEAST_UNITS} independent units in its control group: {claim.control}"
        return Judgement(verdict=Verdict.INCONCLUSIVE, why=why, seeds=f"at least {LEAST_UNITS}")
    elif control is not None and said is Verdict.REPRODUCED and not _is_apart(claim, control):
        if _of_interval(claim, control)[0] is Verdict.REPRODUCED:
            why = f"it holds for the control group, too: {claim.control}"
            return Judgement(verdict=Verdict.INCONCLUSIVE, why=why, seeds="no number")
        why = f"it may hold for the control group, too: {claim.control}"
        return Judgement(verdict=Verdict.INCONCLUSIVE, why=why, seeds=_seeds(claim, control, None))
    elif claim.is_direction and said in (Verdict.REPRODUCED, Verdict.NOT_REPRODUCED):
        p = ours.p_value(0.0) if adjusted_p is None else adjusted_p
        if p > LEVEL:
            why = f"p = {min(1.0, p):.2g} after Holm's correction for the directions of the page"
            said = Verdict.INCONCLUSIVE
    if {Verdict.REPRODUCED, Verdict.NOT_REPRODUCED} <= {said, *others.values()}:
        against = [name for name, one in others.items() if one is not said]
        return Judgement(verdict=Verdict.MIXED, why=f"listed readings disagree: {', '.join(against)}")
    seeds = _seeds(claim, ours, adjusted_p) if said is Verdict.INCONCLUSIVE else ""
    return Judgement(verdict=said, why=why, seeds=seeds)


def _is_apart(claim: Claim, control: Estimate) -> bool:
    """Whether the whole interval of a control group lies outside the supporting range."""
    return _of_interval(claim, control)[0] is Verdict.NOT_REPRODUCED


def _untested(claim: Claim, ours: Estimate | None, *, same_data: bool, full_protocol: bool) -> str:
    """Why a claim is not tested; empty if it is."""
    if ours is None:
        return claim.untested or "not measured with this profile"
    if not (same_data or claim.any_scale):
        return "measured on other data than the paper's"
    if claim.full_protocol_only and not full_protocol:
        return "only the paper's data and its whole training can tell"
    if any(map(math.isnan, (ours.mean, ours.low, ours.high))):
        return "a run gave no number"
    return ""


def _of_interval(claim: Claim, ours: Estimate) -> tuple[Verdict, str]:
    """Verdict and reason by the interval alone."""
    if claim.type == "arithmetic" and ours.confidence < claim.confidence:
        return Verdict.INCONCLUSIVE, f"the interval is one of {100 * ours.confidence:g} % only"
    if ours.confidence != claim.confidence:
        raise ValueError(
            f"the interval for {claim.name!r} must be one of {100 * claim.confidence:g} %, "
            f"got {100 * ours.confidence:g} %"
        )
    low, high = _settled(claim, ours)
    of_training = (Verdict.REPRODUCED, Verdict.NOT_REPRODUCED)
    holds, fails = of_training if claim.type == "empirical" else (Verdict.VERIFIED, Verdict.REFUTED)
    if claim.low <= low and high <= claim.high:
        return holds, "the whole interval lies in the range"
    if high < claim.low or low > claim.high:
        return fails, f"the whole interval lies {'below' if high < claim.low else 'above'} the range"
    below, above = claim.against
    if low <= below or high >= above:
        return Verdict.INCONCLUSIVE, "the interval meets the range and what contradicts it"
    return Verdict.MIXED, "nothing contradicts it, but the interval is not all in the range"


def _settled(claim: Claim, ours: Estimate) -> tuple[float, float]:
    """The ends, which are 0 or an end of a range where but for rounding they would be."""
    largest = max((abs(x) for x in (ours.low, ours.high) if math.isfinite(x)), default=0.0)
    near = max(ROUNDING * largest, 1e-12)

    def at(end: float) -> float:
        exact = (0.0, claim.low, claim.high, *claim.against)
        return next((x for x in exact if abs(end - x) <= near), end)

    return at(ours.low), at(ours.high)


# -- a page ------------------------------------------------------------------------------------


def judge_page(
    claims: Mapping[str, Claim], ours: Mapping[str, Estimate], *, same_data: bool, full_protocol: bool
) -> dict[str, Judgement]:
    """The judgements on all claims of a page, by name.

    Args:
        claims: By name.
        ours: Estimates by the claims' names; `name/reading` is a listed reading of one, `name/control` its
            control.
        same_data, full_protocol: As in `judge`.

    Raises:
        ValueError: If an estimate is of no claim, reading or control.
    """
    allowed = {
        *claims,
        *(f"{name}/{reading}" for name, claim in claims.items() for reading in claim.readings),
    }
    allowed |= {f"{name}/control" for name, claim in claims.items() if claim.control}
    if unknown := set(ours) - allowed:
        raise ValueError(
            f"estimates must be of claims, one of {', '.join(claims)}, got {sorted(unknown)[0]!r}"
        )
    scale = {"same_data": same_data, "full_protocol": full_protocol}
    directions = {
        name: ours[name].p_value(0.0)
        for name, claim in claims.items()
        if claim.is_direction and name in ours and not _untested(claim, ours[name], **scale)
    }
    adjusted = dict(zip(directions, holm(list(directions.values())), strict=True))

    def unmet(premise: str) -> str:
        met = judged(claims[premise]).verdict is Verdict.VERIFIED
        return "" if met else claims[premise].statement

    def judged(claim: Claim) -> Judgement:
        return judge(
            claim,
            ours.get(claim.name),
            readings={r: ours[f"{claim.name}/{r}"] for r in claim.readings if f"{claim.name}/{r}" in ours},
            control=ours.get(f"{claim.name}/control"),
            unmet=unmet(claim.premise) if claim.premise else "",
            adjusted_p=adjusted.get(claim.name),
            **scale,
        )

    return {name: judged(claim) for name, claim in claims.items()}


def holm(p_values: list[float]) -> list[float]:
    """Holm's adjusted p-values: the k-th smallest of n is max over j ≤ k of (n − j + 1) · p₍ⱼ₎.

    They are not cut off at 1, so that they say what a p-value was multiplied by.

    References:
        Holm, *A simple sequentially rejective multiple test procedure* (1979).

    Examples:
        >>> [round(p, 3) for p in holm([0.04, 0.01, 0.5])]
        [0.08, 0.03, 0.5]
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    return [float(x) for x in adjusted]


# -- how many seeds ----------------------------------------------------------------------------


def _seeds(claim: Claim, ours: Estimate, adjusted_p: float | None) -> str:
    """How many units, more than there are, would decide, with probability 0.8 if our estimate is the truth.

    They tell the estimate from the border between it and the range; in the range, from each that its interval
    crosses.
    """
    least = max(LEAST_UNITS, ours.n + 1)
    if claim.universal:
        return _said(n for n in range(least, MOST_UNITS + 1) if _binomial_decides(claim, ours, n))
    if ours.later:
        later = ((n, replace(ours, low=low, high=high)) for n, low, high in ours.later)
        return _said(n for n, e in later if _of_interval(claim, e)[0] is not Verdict.INCONCLUSIVE)
    low, high = _settled(claim, ours)
    ends = ((claim.low, low < claim.low), (claim.high, high > claim.high))
    borders = [end for end, crossed in ends if crossed]
    if not (borders and claim.low <= ours.mean <= claim.high):
        borders = [min((claim.low, claim.high), key=lambda end: abs(ours.mean - end))]
    own_p = ours.p_value(0.0)
    share = own_p / adjusted_p if adjusted_p and own_p < adjusted_p else 1
    for border in borders:
        part = ours.mean - ours.low if border < ours.mean else ours.high - ours.mean
        if not all(map(math.isfinite, (part, border, ours.quantile))):
            return f"at least {least}"
        facing = replace(ours, low=ours.mean - part)
        n = units_that_see(facing, abs(ours.mean - border), (1 - ours.confidence) * share)
        least = max(least, n)
    return _said(iter([least] if least <= MOST_UNITS else []))


def _binomial_decides(claim: Claim, ours: Estimate, n: int) -> bool:
    """Whether the same share of n units would lie in the range, or apart from it."""
    having = round(ours.mean * n)
    found = proportion([True] * having + [False] * (n - having))
    return found.low >= claim.low or found.high < claim.low


def _said(numbers: Iterator[int]) -> str:
    return str(next(numbers, f"more than {MOST_UNITS:,}"))
