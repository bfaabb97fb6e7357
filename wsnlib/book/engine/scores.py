"""Every claim of both papers beside what the published pages measured."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from wsnlib.book.engine import claims, published
from wsnlib.book.engine.claims import LATER, PAPERS, Claim, Exhibit
from wsnlib.book.engine.provenance import core_time
from wsnlib.book.engine.rule import Judgement, Verdict, judge_page
from wsnlib.book.engine.text import listed
from wsnlib.book.engine.verdicts import estimates_of, row_of
from wsnlib.estimates import Estimate, shown

VERDICTS = tuple(str(verdict) for verdict in Verdict)

OWN = "own questions"
"""Row of what no paper claims; where it stands, `"question of this book"` is said."""


def read_pages(folder: Path | str) -> dict[str, published.Notebook]:
    """The notebooks in a folder, by chapter.

    Args:
        folder: Seen from the working folder, or from one above it.

    Raises:
        FileNotFoundError: If a chapter that judges claims is missing.
    """
    here = Path.cwd()
    places = [above / folder for above in (here, *here.parents)]
    found = next((p for p in places if any(p.glob("*.ipynb"))), places[0])
    for chapter in claims.judging_chapters():
        if not (found / f"{chapter}.ipynb").exists():
            raise FileNotFoundError(
                f"there is no {chapter}.ipynb in {folder}; the scorecard reads all chapters"
            )
    return {path.stem: published.read_notebook(path) for path in sorted(found.glob("*.ipynb"))}


def scorecard_table(pages: Mapping[str, published.Notebook]) -> pd.DataFrame:
    """One row for each claim that a chapter judges or that no chapter does, in the papers' order.

    Columns: `paper`, `where`, `claim`, `reported`, `type`, `holds in`, `contradicted`, `ours`, `n`,
    `verdict`,
    `flag`, `seeds to decide`, `why`, `page`, `profile`. Verdicts are computed anew from the estimates that
    the pages hold; what is a page's premise and no claim of a paper is left out.

    Args:
        pages: Published notebooks by chapter, as [`read_pages`][wsnlib.book.engine.scores.read_pages] gives
            them; a page that holds no estimates, or none yet, leaves its claims untested.
    """
    rows = []
    for chapter in (*claims.judging_chapters(), ""):
        of_chapter, held = claims.claims_of(chapter), _held(pages.get(chapter))
        ours = estimates_of(held)
        judged = judge_page(of_chapter, ours, **_scale(held))
        rows += [
            _row(claim, ours, judged[name]) | {"page": chapter, "profile": held.get("profile", "")}
            for name, claim in of_chapter.items()
            if claim.type != "premise"
        ]
    return pd.DataFrame(rows).sort_values("paper", kind="stable", ignore_index=True)


def history_table() -> pd.DataFrame:
    """One row for each exploratory claim: what was fixed or changed after a result had been seen."""
    return pd.DataFrame(
        [
            {
                "page": chapter,
                "claim": claim.statement,
                "what was fixed or changed after a result": claim.exploratory,
            }
            for chapter in claims.judging_chapters()
            for claim in claims.claims_of(chapter).values()
            if claim.exploratory
        ]
    )


def verdict_on(page: published.Notebook, claim: Claim) -> Verdict:
    """The verdict on a claim by the rule, from the estimates that its page holds."""
    held = _held(page)
    of_chapter = claims.claims_of(claim.chapter) | {claim.name: claim}
    return judge_page(of_chapter, estimates_of(held), **_scale(held))[claim.name].verdict


def measured_on(page: published.Notebook, claim: Claim) -> str:
    """Our estimate for a claim with its interval, in words, as its page holds it.

    Raises:
        KeyError: If the page has none.
    """
    ours = estimates_of(_held(page))
    if claim.name not in ours:
        raise KeyError(
            f"the claim must be one that the page has an estimate for, {', '.join(ours)}, got {claim.name!r}"
        )
    return shown(ours[claim.name])


def _held(page: published.Notebook | None) -> Mapping[str, Any]:
    return (None if page is None else published.verdicts_of(page)) or {"ours": {}}


def _scale(held: Mapping[str, Any]) -> dict[str, bool]:
    return {name: bool(held.get(name, False)) for name in ("same_data", "full_protocol")}


def _row(claim: Claim, ours: Mapping[str, Estimate], judged: Judgement) -> dict[str, Any]:
    paper, _, where = claim.source.partition(", ")
    return {
        "paper": paper,
        "where": where,
        "claim": claim.statement,
        "reported": "" if claim.reported is None else f"{claim.reported:,g}",
    } | row_of(claim, ours, judged)


def printed_numbers(ours: Mapping[str, Estimate]) -> pd.DataFrame:
    """One row for each number that the papers print and no chapter judges.

    Args:
        ours: Estimates by the names of `printed_claims()`; what specs alone give is computed exactly.
    """
    printed = claims.printed_claims()
    judged = judge_page(printed, ours, same_data=True, full_protocol=False)
    return pd.DataFrame([_row(claim, ours, judged[name]) for name, claim in printed.items()])


def verdict_counts(table: pd.DataFrame) -> pd.DataFrame:
    """How many claims have which verdict: of each paper, of both by kind, of later work, and of this book.

    An empirical claim is confirmatory if range, quantity, interval and data were fixed before a result was
    seen.
    """
    both = table["paper"].isin(PAPERS)
    empirical = table["type"] == "empirical"
    exploratory = table["flag"] == "exploratory"
    rows = {paper: table["paper"] == paper for paper in PAPERS}
    rows |= {"both": both, "arithmetic": both & ~empirical}
    rows |= {"confirmatory": both & empirical & ~exploratory, "exploratory": both & empirical & exploratory}
    later, own = table["paper"] == LATER, table["where"].str.contains("question of this book")
    rows |= {LATER: later & ~own, OWN: later & own}
    counts = pd.DataFrame(
        {
            name: table.loc[which, "verdict"].value_counts().reindex(VERDICTS, fill_value=0)
            for name, which in rows.items()
        }
    ).T
    counts.insert(0, "claims", counts.sum(axis=1))
    return counts.rename_axis(index=None, columns=None)


def headline(table: pd.DataFrame) -> str:
    """What the verdicts come to, in words.

    Args:
        table: As `scorecard_table` gives it.
    """
    counts = verdict_counts(table)
    tested, cells = counts["claims"] - counts["not tested"], counts.to_dict("index")

    def how_many(row: str, which: str) -> str:
        are = "is" if tested[row] == 1 else "are"
        return f"Of {cells[row]['claims']} {which}, {tested[row]} {are} tested"

    def said(row: str, which: str) -> str:
        found = [f"{cells[row][v]} {v}" for v in VERDICTS if cells[row][v] and v != Verdict.NOT_TESTED]
        return how_many(row, which) + (f": {listed(found)}." if found else ".")

    arithmetic = table["paper"].isin(PAPERS) & (table["type"] != "empirical")
    late = int((arithmetic & (table["flag"] == "exploratory")).sum())
    before, after = "fixed before what decides them was seen", "fixed or changed later"
    return " ".join(
        [
            how_many("both", "claims of the two papers") + ".",
            said("arithmetic", f"*arithmetic* ones, decided without training ({late} of them exploratory)"),
            said("confirmatory", f"*confirmatory* ones, {before}"),
            said("exploratory", f"*exploratory* ones, {after}"),
            said(LATER, "claims of later work"),
            said(OWN, "questions of this book's own"),
        ]
    )


def verdict_counts_markdown(table: pd.DataFrame) -> str:
    """The headline and the counts of verdicts as a table, in Markdown, for the front page."""
    counts = verdict_counts(table)
    return headline(table) + "\n\n" + markdown_table(["", *counts.columns], counts.itertuples())


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown, of what is text in it or may be written as it is."""
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (head, ["---"] * len(head), *rows))


def exhibits_table(table: pd.DataFrame) -> pd.DataFrame:
    """One row for each figure, table and theorem of the papers: what it shows, where ours is, and the
    verdicts on the claims that name it.

    Args:
        table: As `scorecard_table` gives it.
    """
    rows = []
    for exhibit in claims.exhibits():
        names_it = table["where"].map(lambda where, name=exhibit.name: name in named_in(where))
        named = table[(table["paper"] == exhibit.paper) & names_it]
        counts = named["verdict"].value_counts()
        rows.append(
            {
                "paper": exhibit.paper,
                "exhibit": exhibit.name,
                "shows": exhibit.shows,
                "page": exhibit.chapter,
                "ours": _ours(exhibit, tested=bool((named["verdict"] != "not tested").any())),
                "verdicts": ", ".join(f"{counts[v]} {v}" for v in VERDICTS if v in counts),
            }
        )
    return pd.DataFrame(rows)


def _ours(exhibit: Exhibit, *, tested: bool) -> str:
    if exhibit.planned and not tested:
        return exhibit.planned
    shown = "as a figure" if exhibit.figures else "" if exhibit.note else "as a table"
    return "; ".join(part for part in (shown, exhibit.note) if part)


def named_in(source: str) -> set[str]:
    """The figures, tables, theorems and propositions that a source names.

    Examples:
        >>> sorted(named_in("Section 7, Figures 7(a) and F.1(a)"))
        ['Figure 7', 'Figure F.1']
        >>> sorted(named_in("Appendix E, Figure 12, Table 1"))
        ['Figure 12', 'Table 1']
    """
    found = set()
    kinds = r"(Figure|Table|Theorem|Proposition)s?((?:(?:,| and)? *(?:[A-Z]\.)?\d+(?:\([a-z]\))?)+)"
    for kind, numbers in re.findall(kinds, source):
        found |= {f"{kind} {number}" for number in re.findall(r"(?:[A-Z]\.)?\d+", numbers)}
    return found


STATUS_COLUMNS = ("chapter", "profile", "state", "records", "device", "time")


def versions_list(notebooks: Mapping[str, published.Notebook]) -> list[str]:
    """The versions that pages were drawn with, one line for each set of them, with its pages."""
    pages: dict[str, list[str]] = {}
    for chapter, notebook in notebooks.items():
        held = notebook["metadata"].get("wsnlib", {}).get("versions", {})
        if held:
            pages.setdefault(", ".join(f"{name} {number}" for name, number in held.items()), []).append(
                chapter
            )
    return [f"{', '.join(chapters)}: {versions}" for versions, chapters in pages.items()]


def status_markdown(notebooks: Mapping[str, published.Notebook], *, root: Path) -> str:
    """A table with a row for each page, and below it the versions that the pages were drawn with.

    Args:
        notebooks: As published, by chapter.
        root: Of the repository, for what the pages would rest on now.
    """
    rows = (status_row(chapter, notebook, root=root) for chapter, notebook in notebooks.items())
    table = markdown_table(STATUS_COLUMNS, rows)
    return "\n".join([table, "", *(f"- {line}" for line in versions_list(notebooks))])


def status_row(chapter: str, notebook: published.Notebook, *, root: Path) -> list[str]:
    """Chapter, profile, state, records, device and time of a page, as text.

    Args:
        chapter: Its name.
        notebook: As published.
        root: Of the repository, for what the page would rest on now.
    """
    held = notebook["metadata"].get("wsnlib")
    if held is None:
        return [f"[{chapter}]({chapter}.ipynb)", "", "not stamped", "", "", ""]
    stale = published.why_stale(notebook, chapter=chapter, profile=held["profile"], root=root)
    made = published.provenances(notebook)
    seconds = max(_seconds(notebook, root=root), *(m["seconds"] for m in made), 0.0)
    devices = sorted({device for m in made for device in m["devices"]})
    return [
        f"[{chapter}]({chapter}.ipynb)",
        held["profile"],
        f"stale: {', '.join(stale)}" if stale else "fresh",
        f"{len(published.record_keys(notebook)):,}",
        "; ".join(devices),
        core_time(seconds) if seconds else "",
    ]


def _seconds(notebook: published.Notebook, *, root: Path) -> float:
    """What all records behind the figures of a page took; one that cannot be read counts for nothing."""
    found = 0.0
    for key in published.record_keys(notebook):
        with suppress(OSError, ValueError, KeyError):
            record = json.loads((root / "records" / f"{key}.json").read_text(encoding="utf-8"))
            found += float(record["content"]["environment"].get("seconds", 0))
    return found
