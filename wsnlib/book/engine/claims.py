"""What the papers claim and print, read from one table a paper.

A claim says in which range a measured quantity must lie for the claim to hold, and where it must lie to be
contradicted; the rule of [`judge`][wsnlib.book.engine.rule.judge] makes a verdict of that and of our
estimate. The ranges stand beside the papers' words in `wsnlib/book/papers/`.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ValidationError

PAPERS = ("G21", "N21")

LATER = "later work"
"""What papers after these two claim, all in one file; the scorecard counts it apart."""

ABOVE_0 = math.nextafter(0, 1)
BELOW_0 = -ABOVE_0
"""Ends of a claim's range that leave 0 out, where the claim is of a direction."""

ClaimType = Literal["arithmetic", "empirical", "premise"]

EVERY = 0.9
"""The share of networks that "every network" must reach, which no finite number of them can prove to be 1."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement of a paper about one number.

    Args:
        name: Short and unique in its chapter.
        source: Paper, section, figure.
        statement: In our words, with the paper's number.
        type: `"arithmetic"`: true by algebra or construction, or computed without training; `"empirical"`; or
            `"premise"`: no claim of a paper, but what must be so of our networks for other claims to be
        judged.
        reported: The paper's number, in `unit`; `None` if it states only a direction.
        low, high: The claim holds if the quantity lies in this range, ends included; an end may be infinite,
            and `ABOVE_0` or `BELOW_0` leaves 0 out.
        against: The claim is contradicted by a quantity of at most the first or at least the second; all
            that is not in the range if not given.
        unit: Of all five.
        estimator: The one estimator that decides, in words.
        readings: All other readings of the claim, in words, by name.
        control: The group of which the claim says nothing, in words; what holds there, too, is no finding.
        premise: Name of the chapter's premise without which nothing is concluded.
        equivalence: Whether it says that there is no difference: two one-sided tests, a 90 % interval.
        universal: Whether it says something of every network: an exact binomial.
        exploratory: What was fixed or changed after a result of the networks that decide it had been seen;
            empty if nothing was.
        chapter: That judges it; empty if none does.
        any_scale: Whether any data and any training can test it.
        full_protocol_only: Whether only the paper's data and its whole training can test it.
        untested: Why no page measures it, and with which parameters one would, where that is known.
    """

    name: str
    source: str
    statement: str
    low: float
    high: float
    unit: str
    type: ClaimType = "empirical"
    against: tuple[float, float] = (math.nan, math.nan)
    reported: float | None = None
    estimator: str = ""
    readings: Mapping[str, str] = field(default_factory=dict)
    control: str = ""
    premise: str = ""
    equivalence: bool = False
    universal: bool = False
    exploratory: str = ""
    chapter: str = ""
    any_scale: bool = False
    full_protocol_only: bool = False
    untested: str = ""

    def __post_init__(self) -> None:
        outside = (math.nextafter(self.low, -math.inf), math.nextafter(self.high, math.inf))
        if math.isnan(self.against[0]):
            object.__setattr__(self, "against", outside)
        if self.against[0] >= self.low > -math.inf or self.against[1] <= self.high < math.inf:
            raise ValueError(f"against of {self.name!r} must lie outside {self.low} to {self.high}")

    @property
    def is_direction(self) -> bool:
        """Whether it says on which side of 0 a quantity lies, and no more."""
        return {math.inf, -math.inf} & {self.low, self.high} != set() and bool(
            {self.low, self.high} & {0.0, ABOVE_0, BELOW_0}
        )

    @property
    def confidence(self) -> float:
        """Of the interval that decides."""
        return 0.9 if self.equivalence else 0.95


class Exhibit(BaseModel, extra="forbid", strict=True, frozen=True):
    """A figure, table or theorem of a paper.

    Args:
        paper: `"G21"` or `"N21"`.
        name: As the paper numbers it.
        shows: In our words.
        chapter: The page that has ours.
        figures: Labels of our figures there; empty if the page has it as a table or as formulas.
        note: Why nothing of ours stands beside it, where nothing does.
        planned: Why the figures are not there as long as the page has none of them.
    """

    paper: str = ""
    name: str
    shows: str
    chapter: str
    figures: list[str] = []
    note: str = ""
    planned: str = ""


# -- what the papers print --------------------------------------------------------------------


class _Entry(BaseModel, extra="forbid", strict=True, frozen=True):
    """One claim or printed number, or, with a `table`, one for each number of its columns."""

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
    margin: float | None = None
    every: bool = False
    against: list[float] = []
    type: ClaimType
    estimator: str = ""
    readings: dict[str, str] = {}
    control: str = ""
    premise: str = ""
    exploratory: str = ""
    any_scale: bool = False
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
        low, high, against = self._range(reported, names)
        same = "unit type estimator readings control premise exploratory chapter any_scale full_protocol_only"
        return Claim(
            name=self.name.format(**names) if names else self.name,
            source=f"{paper}, {self.where}",
            statement=self.statement.format(**names) if names else self.statement,
            reported=reported,
            low=low,
            high=high,
            against=against,
            equivalence=self.margin is not None,
            universal=self.every,
            **{name: getattr(self, name) for name in (*same.split(), "untested")},
        )

    def _range(
        self, reported: float | None, names: Mapping[str, Any]
    ) -> tuple[float, float, tuple[float, float]]:
        """Where the claim holds and where it is contradicted: a number ± m is by what lies beyond ± 2 m."""
        low = self.low if self.above is None else math.nextafter(self.above, math.inf)
        high = self.high if self.below is None else math.nextafter(self.below, -math.inf)
        against = (math.nan, math.nan)
        tolerance = names[self.tolerance] if isinstance(self.tolerance, str) else self.tolerance
        if self.relative_tolerance is not None and reported is not None:
            tolerance = self.relative_tolerance * reported
        if tolerance is not None and reported is not None:
            low, high = reported - tolerance, reported + tolerance
            if tolerance:
                against = (reported - 2 * tolerance, reported + 2 * tolerance)
        if self.margin is not None:
            low, high = -self.margin, self.margin
        if self.every:
            low, high, against = EVERY, 1.0, (0.5, math.inf)
        if self.against:
            below, above = self.against
            against = (below, above)
        return low, high, against


class _Table(BaseModel, extra="forbid", strict=True, frozen=True):
    about: str
    index: list[str]
    columns: list[str]
    rows: list[list[Any]]


class _Paper(BaseModel, extra="forbid", strict=True, frozen=True):
    """The file of one paper, checked."""

    exhibits: list[Exhibit]
    claim: list[_Entry]
    printed: list[_Entry]
    table: dict[str, _Table]


@cache
def _paper(name: str) -> _Paper:
    file = resources.files("wsnlib.book") / "papers" / f"{name.split()[0].lower()}.toml"
    try:
        return _Paper.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{place} in {file}: {first['msg']}; got {first['input']!r}") from None


def _claims(kind: str) -> Iterator[Claim]:
    for name in (*PAPERS, LATER):
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
        exhibit.model_copy(update={"paper": name}) for name in PAPERS for exhibit in _paper(name).exhibits
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


def holds_in(claim: Claim) -> str:
    """The range in which a claim holds, in words."""
    return f"{_interval(claim.low, claim.high)} {claim.unit}"


def contradicted_by(claim: Claim) -> str:
    """What contradicts a claim, in words.

    Examples:
        >>> contradicted_by(claims_of("sparse_mlp")["relu-best"])
        'at most 95.3, at least 97.3'
        >>> contradicted_by(claims_of("sparse_mlp")["relu-gain"])
        'at most 0'
    """
    below, above = claim.against
    parts = []
    if math.isfinite(claim.low):
        rest = math.nextafter(claim.low, -math.inf)
        parts.append(
            "at most 0" if below == 0 else f"below {claim.low:,g}" if below == rest else f"at most {below:,g}"
        )
    if math.isfinite(claim.high) and math.isfinite(above):
        rest = math.nextafter(claim.high, math.inf)
        parts.append(
            "at least 0"
            if above == 0
            else f"above {claim.high:,g}"
            if above == rest
            else f"at least {above:,g}"
        )
    return ", ".join(parts)


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
    return f"{above} to {below}"
