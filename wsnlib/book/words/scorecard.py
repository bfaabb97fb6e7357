"""What the scorecard says of all pages."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from wsnlib import book
from wsnlib.book import scorecard as chapter
from wsnlib.book.engine.published import Notebook


def summary(
    table: pd.DataFrame, counts: pd.DataFrame, printed: pd.DataFrame, pages: Mapping[str, Notebook]
) -> dict[str, str]:
    """All that the text names.

    Args:
        table: As `book.scorecard_table` gives it.
        counts: As `book.verdict_counts` gives it; its last row is of the book's own questions.
        printed: As `book.printed_numbers` gives it.
        pages: As `book.read_pages` gives them.
    """
    of_papers, shown = (
        table[table["paper"] != book.LATER],
        [name for name in table["profile"].unique() if name],
    )
    profiles, whole = book.listed(f"`{name}`" for name in shown), chapter.trained_whole(pages)
    lacking = table[table["verdict"] == "not tested"].groupby("paper").size()
    return {
        "headline": book.headline(table),
        "profiles": f"All show the profile {profiles}"
        if len(shown) == 1
        else f"Profiles that they show: {profiles}",
        "whole": f"Only {book.listed(whole)} have their paper's whole training."
        if whole
        else "No page has its paper's whole training.",
        "num_claims": str(len(of_papers)),
        "num_later": str(counts["claims"][book.LATER]),
        "num_own": str(counts["claims"].iloc[-1]),
        "num_printed": str(len(printed)),
        "content_words": f"{_reproduced(of_papers)}\n{_failed(of_papers)}",
        "untested_words": book.listed(
            f"{book.counted(number, 'claim')} of {paper}" for paper, number in lacking.items()
        ),
        "num_exploratory": str(int((table["flag"] == "exploratory").sum())),
        "printed_verified": str(int((printed["verdict"] == "verified").sum())),
        "printed_computed": str(int((printed["n"] > 0).sum())),
    }


def _reproduced(claims: pd.DataFrame) -> str:
    """How many confirmatory claims are reproduced, by page."""
    found = claims[(claims["flag"] != "exploratory") & (claims["verdict"] == "reproduced")]
    by_page = found.groupby("page", sort=False).size()
    on_pages = book.listed(f"{number} on {page}" for page, number in by_page.items())
    return f"- Reproduced, and confirmatory: {on_pages}."


def _failed(claims: pd.DataFrame) -> str:
    """What does not hold, in the words of the claims."""
    found = claims[claims["verdict"].isin(["refuted", "not reproduced"])]
    statements = found["claim"].str.replace("*", r"\*", regex=False).str.removesuffix(".")
    said = "*" + statements + "* (" + found["paper"] + ")"
    return f"- Refuted or not reproduced: {'; '.join(said) or 'none'}."
