"""Claims, what was measured of them, and the verdicts, as a page shows them and the scorecard reads them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd

from wsnlib.book.engine.claims import Claim, Verdict, claims_table, verdict
from wsnlib.estimates import Estimate

VERDICTS_TYPE = "application/vnd.wsnlib.verdicts+json"
"""Media type under which a notebook keeps its estimates and verdicts."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Verdicts:
    """The verdicts of one page, with the estimates that gave them.

    Args:
        claims: By name.
        ours: Our estimates by the same names; a claim without one is not tested.
        same_data, full_protocol: As in [`verdict`][wsnlib.book.engine.claims.verdict].
        chapter, profile, preset: Of the page.

    Raises:
        ValueError: If an estimate names no claim.
    """

    claims: Mapping[str, Claim]
    ours: Mapping[str, Estimate]
    same_data: bool
    full_protocol: bool
    chapter: str
    profile: str
    preset: str

    def __post_init__(self) -> None:
        self.table  # noqa: B018 - an estimate without a claim is reported at once

    @property
    def table(self) -> pd.DataFrame:
        """One row a claim, as [`claims_table`][wsnlib.book.engine.claims.claims_table] gives it."""
        return claims_table(
            self.claims, self.ours, same_data=self.same_data, full_protocol=self.full_protocol
        )

    def __getitem__(self, name: str) -> Verdict:
        """The verdict on a claim."""
        ours = self.ours.get(name)
        if ours is None:
            return Verdict.NOT_TESTED
        return verdict(self.claims[name], ours, same_data=self.same_data, full_protocol=self.full_protocol)

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it: every estimate and every verdict; an end that is not finite is text."""
        return {
            "chapter": self.chapter,
            "profile": self.profile,
            "preset": self.preset,
            "same_data": self.same_data,
            "full_protocol": self.full_protocol,
            "ours": {
                name: {"mean": _json(e.mean), "low": _json(e.low), "high": _json(e.high), "n": e.n}
                for name, e in self.ours.items()
            },
            "verdicts": {name: str(self[name]) for name in self.claims},
        }

    def __repr__(self) -> str:
        return f"Verdicts of {self.chapter}: " + ", ".join(f"{n} {self[n]}" for n in self.claims)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {
            "text/html": table_html(self.table, caption=f"Verdicts of this page, profile {self.profile}"),
            "text/plain": repr(self),
            VERDICTS_TYPE: self.to_dict(),
        }


def estimates_of(content: Mapping[str, Any]) -> dict[str, Estimate]:
    """The estimates in what `Verdicts.to_dict` gave."""
    return {
        name: Estimate(mean=float(e["mean"]), low=float(e["low"]), high=float(e["high"]), n=int(e["n"]))
        for name, e in content["ours"].items()
    }


def _json(value: float) -> float | str:
    return float(value) if math.isfinite(value) else str(float(value))


def table_html(table: pd.DataFrame, *, caption: str, link: str | None = None) -> str:
    """A table whose columns a page can sort; the verdict is also a class of its row.

    Args:
        table: Of text and numbers.
        caption: Says what it holds.
        link: A column with names of pages, which lead to these.

    Examples:
        >>> table_html(pd.DataFrame({"page": ["sparse_mlp"]}), caption="c", link="page").count("href")
        1
    """
    head = "".join(f'<th scope="col">{escape(str(column))}</th>' for column in table.columns)
    body = "".join(_row(row, link) for row in table.to_dict("records"))
    return (
        f'<table class="wsn-table sortable"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _row(row: Mapping[Any, Any], link: str | None) -> str:
    said = str(row.get("verdict", "")).replace(" ", "-")
    cells = "".join(f"<td>{_cell(value, linked=name == link)}</td>" for name, value in row.items())
    return f'<tr class="verdict-{said}">{cells}</tr>' if said else f"<tr>{cells}</tr>"


def _cell(value: Any, *, linked: bool) -> str:
    text = escape(str(value))
    return f'<a href="{text}.html">{text}</a>' if linked and text else text
