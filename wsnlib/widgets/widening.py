"""Test accuracy and masks of networks that are widened at a fixed number of weights, to explore."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from wsnlib.widgets.page import ExplorerPage, fill_template

COLUMNS = ("mean", "low", "high", "first", "last")


class WideningExplorerPage(ExplorerPage):
    """A network with one hidden layer, widened in a static page."""


def widening_explorer_page(
    curves: Mapping[str, pd.DataFrame], *, image: tuple[int, int]
) -> WideningExplorerPage:
    """Widen a network with one hidden layer at a fixed number of weights, without a kernel.

    Controls: width and activation; the pointer chooses a width in the plot, too. Shown: which pixels each
    hidden unit sees, by a mask that the page draws with the number of weights of the first layer; the test
    accuracy against width; and both in words. The same curves give the same bytes.

    Args:
        curves: By activation; index: widths, of which the first is that of the dense network; columns `mean`,
            `low` and `high` (test accuracy in [0, 1]; an end may be infinite), `first` and `last` (weights
            that each layer keeps).
        image: Height and width of the input in pixels.

    Raises:
        ValueError: If there is no curve, or one lacks a column or a row.

    References:
        G21, Section 2.3 and Figure 5.

    Examples:
        >>> curve = {"mean": [0.8, 0.9], "low": [0.7, 0.8], "high": [0.9, 1.0]}
        >>> curve |= {"first": [24, 21], "last": [6, 9]}
        >>> widening_explorer_page({"relu": pd.DataFrame(curve, index=[2, 4])}, image=(3, 4))
        WideningExplorerPage()
    """
    if not curves:
        raise ValueError("curves must have one activation or more, got none; add one")
    shown = {}
    for name, curve in curves.items():
        missing = [column for column in COLUMNS if column not in curve]
        if missing or curve.empty:
            raise ValueError(
                f"{name} must have the columns {', '.join(COLUMNS)} and a row or more, got "
                f"{'no ' + missing[0] if missing else 'no row'}; add it"
            )
        rows = curve.sort_index()
        percent = {
            column: [_percent(value) for value in rows[column].tolist()] for column in ("mean", "low", "high")
        }
        weights = {column: [int(value) for value in rows[column].tolist()] for column in ("first", "last")}
        shown[name] = {"widths": [int(width) for width in rows.index], **percent, **weights}
    return WideningExplorerPage(fill_template("widening.html", {"curves": shown, "image": list(image)}))


def _percent(value: float) -> float | None:
    return round(100 * value, 3) if math.isfinite(value) else None
