"""Verdicts, counted."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

VERDICT_STYLES: dict[str, dict[str, Any]] = {
    "reproduced": {"color": "#0072B2"},
    "partly": {"color": "#56B4E9", "hatch": "//"},
    "not reproduced": {"color": "#D55E00", "hatch": "xx"},
    "not tested at this scale": {"color": "#DDDDDD"},
}
"""Colour and hatching of each verdict, safe for colour-blind readers and in print."""


def plot_verdicts(counts: pd.DataFrame, *, ax: Axes) -> Axes:
    """One bar for each row, made up of how many claims have which verdict.

    Args:
        counts: Number of claims; index: names of the bars, from above; columns: verdicts.
        ax: Where to draw.

    Examples:
        >>> from matplotlib.figure import Figure
        >>> counts = pd.DataFrame({"reproduced": [2, 1], "partly": [0, 3]}, index=["G21", "N21"])
        >>> ax = plot_verdicts(counts, ax=Figure().subplots())
        >>> [int(bar.get_width()) for bar in ax.patches], [text.get_text() for text in ax.texts]
        ([2, 1, 0, 3], ['2', '1', '3'])
    """
    names = [str(name) for name in counts.index]
    left = pd.Series(0, index=counts.index)
    for verdict, column in counts.items():
        style = VERDICT_STYLES[str(verdict)]
        bars = ax.barh(
            names, column.tolist(), left=left.tolist(), label=str(verdict), edgecolor="white", **style
        )
        labels = [str(n) if n else "" for n in column]
        dark = str(verdict) in ("reproduced", "not reproduced")
        box = None if "hatch" not in style else {"facecolor": style["color"], "edgecolor": "none", "pad": 1}
        for bar, label in zip(bars, labels, strict=True):
            if label:
                x, y = bar.get_x() + bar.get_width() / 2, bar.get_y() + bar.get_height() / 2
                color = "white" if dark else "black"
                ax.text(x, y, label, ha="center", va="center", color=color, fontsize=8, bbox=box)
        left = left + column
    ax.invert_yaxis()
    ax.set_xlabel("claims")
    ax.legend(frameon=False, fontsize=8, ncols=len(counts.columns), loc="lower left", bbox_to_anchor=(0, 1))
    return ax
