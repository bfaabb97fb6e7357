"""Claims of one page, what was measured of them, and the verdicts, as it shows them and others read it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from importlib import resources
from typing import Any

import pandas as pd
from pydantic import TypeAdapter

from wsnlib.book.engine.claims import Claim, contradicted_by, holds_in
from wsnlib.book.engine.rule import Judgement, Verdict, judge_page
from wsnlib.estimates import Estimate, shown, with_minus

VERDICTS_TYPE = "application/vnd.wsnlib.verdicts+json"
"""Media type under which a notebook keeps its estimates and verdicts."""


SHORT = ("claim", "verdict", "ours", "holds in", "seeds to decide")
"""Columns of the table that a page shows; the others unfold."""

UNFOLDS = "Types, contradictions, flags and reasons"

SIGNS = {
    "verified": "✓",
    "reproduced": "✓",
    "mixed": "±",
    "inconclusive": "?",
    "not reproduced": "✗",
    "refuted": "✗",
    "not tested": "–",
}
"""Before the word of each verdict, so that neither colour nor reading is needed."""


@dataclass(frozen=True, kw_only=True, repr=False)
class PageVerdicts:
    """The verdicts of one page, with the estimates that gave them.

    Args:
        claims: By name.
        ours: Our estimates, as in [`judge_page`][wsnlib.book.engine.rule.judge_page].
        same_data, full_protocol: As in [`judge`][wsnlib.book.engine.rule.judge].
        chapter, profile, preset: Of the page.

    Raises:
        ValueError: If an estimate is of no claim.
    """

    claims: Mapping[str, Claim]
    ours: Mapping[str, Estimate]
    same_data: bool
    full_protocol: bool
    chapter: str
    profile: str
    preset: str

    def __post_init__(self) -> None:
        _ = self.judgements  # an estimate without a claim is reported at once

    @cached_property
    def judgements(self) -> dict[str, Judgement]:
        """By claim, as [`judge_page`][wsnlib.book.engine.rule.judge_page] gives them."""
        return judge_page(self.claims, self.ours, same_data=self.same_data, full_protocol=self.full_protocol)

    @property
    def table(self) -> pd.DataFrame:
        """One row a claim, with where it holds, what contradicts it, what we measured, and the verdict."""
        return pd.DataFrame(
            [
                {"claim": claim.statement} | row_of(claim, self.ours, self.judgements[name])
                for name, claim in self.claims.items()
            ]
        )

    def __getitem__(self, name: str) -> Verdict:
        """The verdict on a claim."""
        return self.judgements[name].verdict

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it: every estimate and every verdict; an end that is not finite is text."""
        return {
            "chapter": self.chapter,
            "profile": self.profile,
            "preset": self.preset,
            "same_data": self.same_data,
            "full_protocol": self.full_protocol,
            "ours": {name: {k: _json(v) for k, v in vars(e).items()} for name, e in self.ours.items()},
            "verdicts": {name: str(self[name]) for name in self.claims},
        }

    def __repr__(self) -> str:
        return f"Verdicts of {self.chapter}: " + ", ".join(f"{n} {self[n]}" for n in self.claims)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        caption = f"Verdicts of this page, profile {self.profile}"
        short = table_html(self.table[list(SHORT)], caption=caption)
        rest = self.table.drop(columns=[name for name in SHORT if name != "claim"])
        whole = table_html(rest, caption="Of each claim")
        return {
            "text/html": f"{short}<details><summary>{UNFOLDS}</summary>{whole}</details>",
            "text/plain": repr(self),
            VERDICTS_TYPE: self.to_dict(),
        }


def estimates_of(content: Mapping[str, Any]) -> dict[str, Estimate]:
    """The estimates in what `PageVerdicts.to_dict` gave."""
    return TypeAdapter(dict[str, Estimate]).validate_python(content["ours"])


def row_of(claim: Claim, ours: Mapping[str, Estimate], judged: Judgement) -> dict[str, Any]:
    """What a table says of a claim: type, ranges, estimates, verdict, flag, the seeds that would decide.

    Args:
        claim: Of a page or of none.
        ours: Estimates by name.
        judged: The claim by the rule.
    """
    found = ours.get(claim.name)
    others = [
        f"{name}: {shown(ours[f'{claim.name}/{name}'])}"
        for name in claim.readings
        if f"{claim.name}/{name}" in ours
    ]
    if (control := ours.get(f"{claim.name}/control")) is not None:
        others.append(f"control: {shown(control)}")
    return {
        "type": claim.type,
        "holds in": holds_in(claim),
        "contradicted": contradicted_by(claim),
        "ours": "; ".join(([] if found is None else [shown(found)]) + others),
        "n": 0 if found is None else found.n,
        "verdict": str(judged.verdict),
        "flag": "exploratory" if claim.exploratory else "",
        "seeds to decide": judged.seeds,
        "why": judged.why,
    }


def _json(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def table_html(table: pd.DataFrame, *, caption: str, link: str | None = None) -> str:
    """A table that sorts by the column that is chosen, where its script runs; verdicts are classes of rows.

    Args:
        table: Of text and numbers.
        caption: Says what it holds.
        link: A column with names of chapters, which lead to their notebooks.

    Examples:
        >>> table_html(pd.DataFrame({"page": ["sparse_mlp"]}), caption="c", link="page").count("href")
        1
    """
    head = "".join(f'<th scope="col">{escape(str(column))}</th>' for column in table.columns)
    body = "".join(_row(row, link) for row in table.to_dict("records"))
    return (
        f'<table class="wsn-table sortable"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><script>{sorting_script()}</script>"
    )


def sorting_script() -> str:
    """JavaScript that lets the tables of a page or notebook sort."""
    return resources.files("wsnlib.book.engine").joinpath("tables.js").read_text(encoding="utf-8")


def _row(row: Mapping[Any, Any], link: str | None) -> str:
    said = str(row.get("verdict", "")).replace(" ", "-")
    cells = "".join(
        _verdict(str(value)) if name == "verdict" else f"<td>{_cell(value, linked=name == link)}</td>"
        for name, value in row.items()
    )
    return f'<tr class="verdict-{said}">{cells}</tr>' if said else f"<tr>{cells}</tr>"


def _verdict(word: str) -> str:
    return f'<td class="verdict"><span aria-hidden="true">{SIGNS.get(word, "")}</span> {escape(word)}</td>'


def _cell(value: Any, *, linked: bool) -> str:
    text = escape(with_minus(str(value)))
    return f'<a href="{text}.ipynb">{text}</a>' if linked and text else text
