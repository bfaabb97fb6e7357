"""What the papers claim and print, read from one table a paper, and the rule that gives each a verdict.

A claim says in which range a measured quantity must lie for the claim to hold. One rule gives every
verdict: the claim is reproduced if the whole 95 % interval of our estimate lies in the range, partly if
only some of it does, and not reproduced if none of it does. The ranges stand beside the papers' words in
`wsnlib/book/papers/`.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from wsnlib.estimates import ROUNDING, Estimate, shown

PAPERS = ("G21", "N21")

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
        chapter: That judges it; empty if none does.
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
    chapter: str = ""
    full_protocol_only: bool = False
    untested: str = ""


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """A figure, table or theorem of a paper.

    Args:
        paper: `"G21"` or `"N21"`.
        name: As the paper numbers it.
        shows: In our words.
        chapter: The page that has ours.
        figures: Labels of our figures there; empty if the page has it as a table or as formulas.
        note: Why nothing of ours stands beside it, where nothing does.
    """

    paper: str
    name: str
    shows: str
    chapter: str
    figures: tuple[str, ...] = ()
    note: str = ""


# -- what the papers print --------------------------------------------------------------------


class _Entry(BaseModel):
    """One claim or printed number, or, with a `table`, one for each number of its columns."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str
    where: str
    statement: str
    unit: str
    chapter: str = ""
    reported: float | None = None
    low: float = -math.inf
    high: float = math.inf
    above: float | None = None
    below: float | None = None
    tolerance: float | str | None = None
    relative_tolerance: float | None = None
    table: str = ""
    columns: list[str] = []
    full_protocol_only: bool = False
    untested: str = ""

    def claims(self, paper: str, tables: Mapping[str, _Table]) -> Iterator[Claim]:
        if not self.table:
            yield self._claim(paper, self.reported, {})
            return
        table = tables[self.table]
        for row in table.rows:
            named = dict(zip([*table.index, *table.columns], row, strict=True))
            for column in self.columns or table.columns:
                value = named[column]
                if not math.isnan(value):
                    yield self._claim(paper, value, named | {"column": column, "value": value})

    def _claim(self, paper: str, reported: float | None, names: Mapping[str, Any]) -> Claim:
        low = self.low if self.above is None else math.nextafter(self.above, math.inf)
        high = self.high if self.below is None else math.nextafter(self.below, -math.inf)
        tolerance = names[self.tolerance] if isinstance(self.tolerance, str) else self.tolerance
        if self.relative_tolerance is not None and reported is not None:
            tolerance = self.relative_tolerance * reported
        if tolerance is not None and reported is not None:
            low, high = reported - tolerance, reported + tolerance
        return Claim(
            name=self.name.format(**names) if names else self.name,
            source=f"{paper}, {self.where}",
            statement=self.statement.format(**names) if names else self.statement,
            reported=reported,
            low=low,
            high=high,
            unit=self.unit,
            chapter=self.chapter,
            full_protocol_only=self.full_protocol_only,
            untested=self.untested,
        )


class _Exhibit(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str
    shows: str
    chapter: str
    figures: list[str] = []
    note: str = ""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    about: str
    index: list[str]
    columns: list[str]
    rows: list[list[Any]]


class _Paper(BaseModel):
    """The file of one paper, checked."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    exhibits: list[_Exhibit]
    claim: list[_Entry]
    printed: list[_Entry]
    table: dict[str, _Table]


@cache
def _paper(name: str) -> _Paper:
    file = resources.files("wsnlib.book") / "papers" / f"{name.lower()}.toml"
    try:
        return _Paper.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{place} in {file}: {first['msg']}; got {first['input']!r}") from None


def _claims(kind: str) -> Iterator[Claim]:
    for name in PAPERS:
        paper = _paper(name)
        for entry in getattr(paper, kind):
            yield from entry.claims(name, paper.table)


@cache
def claims_of(chapter: str) -> dict[str, Claim]:
    """The claims that a chapter judges, by name; `claims_of("")` are those that no chapter does.

    Examples:
        >>> claims_of("sparse_mlp")["relu-best"].reported
        96.3
    """
    return {claim.name: claim for claim in _claims("claim") if claim.chapter == chapter}


@cache
def judging_chapters() -> tuple[str, ...]:
    """The chapters that judge claims, in the order of the papers."""
    return tuple(dict.fromkeys(claim.chapter for claim in _claims("claim") if claim.chapter))


@cache
def printed_claims() -> dict[str, Claim]:
    """The numbers that the papers print and no claim of a chapter holds, with the range of their rounding."""
    return {claim.name: claim for claim in _claims("printed")}


@cache
def exhibits() -> tuple[Exhibit, ...]:
    """All figures, tables, theorems and propositions of G21 and N21, in their order."""
    return tuple(
        Exhibit(paper=name, **e.model_dump() | {"figures": tuple(e.figures)})
        for name in PAPERS
        for e in _paper(name).exhibits
    )


def printed_table(paper: str, name: str) -> pd.DataFrame:
    """A table that a paper prints, or a figure's numbers.

    Args:
        paper: `"G21"` or `"N21"`.
        name: As the paper numbers it, such as `"Table 1"`.

    Examples:
        >>> printed_table("G21", "Table 1").loc[128, ["dense", "sparse"]].tolist()
        [70.22, 70.02]
    """
    table = _paper(paper).table[name]
    return pd.DataFrame(table.rows, columns=[*table.index, *table.columns]).set_index(table.index)


# -- verdicts ---------------------------------------------------------------------------------


def _settled(claim: Claim, ours: Estimate) -> Estimate:
    """Our estimate, whose ends are 0 or an end of the claim's range where but for rounding they would be."""
    near = max(ROUNDING * max(abs(ours.low), abs(ours.high)), 1e-12)

    def at(end: float) -> float:
        return next((exact for exact in (0.0, claim.low, claim.high) if abs(end - exact) <= near), end)

    return replace(ours, low=at(ours.low), high=at(ours.high))


def verdict(claim: Claim, ours: Estimate, *, same_data: bool, full_protocol: bool) -> Verdict:
    """What our estimate says of a claim, by the one rule above; an end that is one of the range lies in it.

    Args:
        claim: What the paper says.
        ours: Our estimate, in the claim's unit.
        same_data: Whether it was measured on the paper's data set.
        full_protocol: Whether the paper's whole training was followed.

    Examples:
        >>> from wsnlib import estimate
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
    ours = _settled(claim, ours)
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
        >>> from wsnlib import estimate
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
    ours = _settled(claim, ours)
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
