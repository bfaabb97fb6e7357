"""Accuracies, distances and masks, and the style that all figures share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import TwoSlopeNorm
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator
from matplotlib.typing import ColorType

METHOD_STYLES: dict[str, dict[str, Any]] = {
    "largest layer first": {"color": "#0072B2", "marker": "o"},
    "uniform density": {"color": "#D55E00", "marker": "s"},
    "last layer thinned most": {"color": "#009E73", "marker": "^"},
    "dense network": {"color": "#444444", "marker": "x"},
    "depthwise kept dense": {"color": "#E69F00", "marker": "v"},
    "dense, as wide": {"color": "#CC79A7", "marker": "D"},
}
"""Colour (safe for colour-blind readers) and marker of each method, the same in all chapters."""


KERNEL_STYLES: dict[str, dict[str, Any]] = {
    "Theorem 1": {"color": "#0072B2", "linestyle": "-"},
    "corrected closed form": {"color": "#009E73", "linestyle": "-."},
    "eq. (4)": {"color": "#D55E00", "linestyle": "--"},
    "simulated networks": {"color": "#000000", "linestyle": "none", "marker": "o", "markersize": 4},
}
"""Colour, line and marker of each way to a kernel distance."""


FAMILY_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Colours (safe for colour-blind readers) of the families of networks with one number of weights."""


def width_color(width: float) -> tuple[float, float, float, float]:
    """The colour of a width, the same in all chapters: log₂ from 4 (dark) to 1024 (light).

    Examples:
        >>> width_color(4) == width_color(2)
        True
    """
    place = (np.log2(max(width, 1e-9)) - 2) / 8
    return mpl.colormaps["viridis"](float(np.clip(place, 0, 1)))


def connectivity_grid(
    accuracy: pd.DataFrame, *, baseline: float, ax: Axes, floor: float | None = None
) -> Axes:
    """Accuracy over connectivity (columns) and density of the last layer (rows), as in G21, Figure 5.

    Colours part at the baseline and end at the best value; stars mark the best value to 0.1 point;
    combinations that cannot be had are hatched.

    Args:
        accuracy: Test accuracy in [0, 1]; index: last-layer density; columns: width; NaN where
            impossible. Columns are labelled with their width and connectivity.
        baseline: Accuracy of the dense network, where the two halves of the colours meet; NaN if it diverged.
        ax: Axes to draw on; a colour bar is added beside it.
        floor: Values below it share the darkest colour; the smallest value by default.
    """
    grid = accuracy.sort_index().sort_index(axis=1)
    values = grid.to_numpy(dtype=float) * 100
    best = np.nanmax(values)
    middle = np.nanmin(values) if np.isnan(baseline) else baseline * 100
    low = np.nanmin([np.nanmin(values) if floor is None else floor * 100, middle - 0.1])
    norm = TwoSlopeNorm(middle, low, max(best, middle + 0.1))
    ax.set_facecolor("white")
    ax.patch.set(hatch="////", edgecolor="#cccccc")
    mesh = ax.pcolormesh(
        np.ma.masked_invalid(values), cmap="RdBu", norm=norm, edgecolors="white", linewidth=0.5
    )
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value):
            continue
        starred = round(value, 1) >= round(best, 1)
        text = f"★\n{value:.1f}" if starred else f"{value:.1f}"
        write_cell(ax, mesh, (row, column), value, text, bold=starred, linespacing=0.9)
    widths = [float(width) for width in grid.columns]
    ax.set_xticks(np.arange(len(grid.columns)) + 0.5)
    ax.set_xticklabels([f"{w:g}\n{min(widths) / w:.2g}" for w in widths])
    ax.set_yticks(np.arange(len(grid.index)) + 0.5)
    ax.set_yticklabels([f"{d:g}" for d in grid.index])
    ax.set_xlabel("width (above), connectivity of the network (below)")
    ax.set_ylabel("density of the last layer")
    bar = ax.figure.colorbar(mesh, ax=ax, extend="neither" if floor is None else "min")
    bar.set_label("test accuracy (%)")
    if not np.isnan(baseline):
        bar.ax.axhline(middle, color="black", linewidth=1)
        ticks = [t for t in bar.get_ticks() if low <= t <= best and abs(t - middle) > 0.06 * (best - low)]
        bar.set_ticks([*ticks, middle])
        bar.set_ticklabels([*(f"{t:g}" for t in ticks), f"dense {middle:.1f}"])
    bar.minorticks_off()
    return ax


def write_cell(
    ax: Axes, mesh: QuadMesh, cell: tuple[int, ...], value: float, text: str, *, bold: bool, **style: Any
) -> None:
    """Write into a cell (row, column) of a map of values, in the colour that can be read there."""
    dark = float(np.dot(mesh.cmap(mesh.norm(np.asarray(value)))[:3], (0.299, 0.587, 0.114))) < 0.5
    style |= {"color": "white" if dark else "black", "fontweight": "bold" if bold else "normal"}
    ax.text(cell[1] + 0.5, cell[0] + 0.5, text, ha="center", va="center", fontsize=6.5, **style)


def widening(
    curves: Mapping[str, pd.DataFrame],
    *,
    ax: Axes,
    baseline: float | None = None,
    runs: Mapping[str, pd.Series] | None = None,
) -> Axes:
    """Accuracy against width, one curve per method, with a band for the interval or a dot for every run.

    The vertical axis is chosen by the means, or holds all runs; a wide band is cut off at the frame.

    Args:
        curves: Curves by method; index: width; column `mean` and, for a band, `low` and `high`, in [0, 1].
        ax: Axes to draw on.
        baseline: Accuracy of the dense network of the base width, as a dashed line.
        runs: Accuracies of single runs by method; index: width.
    """
    if baseline is not None:
        ax.axhline(baseline * 100, color="#444444", linestyle="--", linewidth=1, label="dense network")
    dots = [100 * accuracy for accuracy in (runs or {}).values()]
    for name, curve in curves.items():
        style = METHOD_STYLES.get(name, {"marker": "o"})
        marker = {"marker": ""} if runs else {}
        line = _with_band(curve, ax, label=name, **style | marker)
        if runs:
            color = {"color": line.get_color(), "alpha": 0.8, "linestyle": "none"}
            ax.plot(runs[name].index, runs[name] * 100, markersize=4, **{"marker": "o", **style} | color)
    _frame(curves.values(), ax, dots)
    widths = sorted({width for curve in curves.values() for width in curve.index})
    log_axis(ax, widths)
    ax.set_xlabel("width (hidden units)")
    ax.set_ylabel("test accuracy (%)")
    ax.legend(frameon=False, fontsize=8)
    return ax


def _with_band(curve: pd.DataFrame, ax: Axes, **style: Any) -> Line2D:
    curve = 100 * curve.sort_index()
    (line,) = ax.plot(curve.index, curve["mean"], markersize=4, **style)
    if "low" in curve:
        low, high = curve["low"], curve["high"]
        ax.fill_between(curve.index, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    return line


def _frame(curves: Iterable[pd.DataFrame], ax: Axes, dots: Iterable[pd.Series] = ()) -> None:
    """Let means and dots choose the vertical axis, not the bands, which can be wide."""
    means = 100 * pd.concat([curve["mean"] for curve in curves])
    margin = 0.3 * (means.max() - means.min()) + 0.5
    least = min([means.min() - margin, *(each.min() - 1 for each in dots)])
    most = max([means.max() + margin, *(each.max() + 1 for each in dots)])
    ax.set_ylim(max(0, least), min(100, most))


def families(
    families: Mapping[int, pd.DataFrame],
    *,
    ax: Axes,
    baselines: Mapping[int, float] | None = None,
    dense: pd.DataFrame | None = None,
    percent: bool = True,
) -> Axes:
    """One line for each base width over its wider networks, with bars for the interval.

    Colours go by the order of the base widths; a filled circle is the dense network the family
    starts from, crosses are the wider ones (G21, Figures 6 and 12). The vertical axis
    holds every bar that reaches no farther beyond the means than they spread; a longer one is cut off
    at the frame. An interval without an end has no bar.

    Args:
        families: Families by base width; index: the horizontal quantity (width, widening factor or
            connectivity), the first row the base's; columns `mean`, `low`, `high`.
        ax: Axes to draw on.
        baselines: By base width, a value that is drawn as a dashed line over the family's range, and
            then the first row is a cross as well.
        dense: A curve of dense networks, whose number of weights rises with width, with the same columns;
            drawn in gray beside.
        percent: Whether the values are in [0, 1] and shown as percentages.
    """
    scale = 100 if percent else 1
    levels: list[float] = []
    ends: list[float] = []

    def draw(curve: pd.DataFrame, **style: Any) -> pd.Series:
        mean = scale * curve["mean"]
        below, above = mean - scale * curve["low"], scale * curve["high"] - mean
        bars = [below.where(np.isfinite(below)), above.where(np.isfinite(above))]
        ax.errorbar(curve.index, mean, yerr=bars, elinewidth=1, **style)
        levels.extend(mean.dropna())
        ends.extend([*(mean - bars[0]).dropna(), *(mean + bars[1]).dropna()])
        return mean

    for color, (base_width, family) in zip(cycle(FAMILY_COLORS), sorted(families.items()), strict=False):
        mean = draw(family, color=color, marker="x", label=f"{base_width}")
        if baselines is None:
            ax.plot(family.index[0], mean.iloc[0], "o", color=color, markersize=7)
        else:
            level = scale * baselines[base_width]
            reach = [family.index.min(), family.index.max()]
            ax.plot(reach, [level, level], linestyle="--", linewidth=1, color=color)
            levels.append(level)
    if dense is not None:
        gray = {"color": "#888888", "linestyle": "--", "marker": "D", "markersize": 4, "zorder": 1}
        draw(dense, label="dense, with more weights", **gray)
    low, high = min(levels), max(levels)
    spread, margin = high - low, 0.05 * (high - low) + 0.005 * scale
    least, most = min([low, *ends]), max([high, *ends])
    ax.set_ylim(max(least, low - spread) - margin, min(most, high + spread) + margin)
    if len(families) > 1 or dense is not None:
        small = {"frameon": False, "fontsize": 8, "title_fontsize": 8}
        ax.legend(title="base width", loc="upper left", bbox_to_anchor=(1, 1), **small)
    ax.set_ylabel("test accuracy (%)")
    return ax


def log_axis(ax: Axes, ticks: Iterable[float]) -> Axes:
    """A base-2 logarithmic horizontal axis that is labelled at the given values only."""
    ticks = list(ticks)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticklabels([f"{t:g}" for t in ticks])
    return ax


def curves(
    curves: Mapping[float, pd.DataFrame],
    *,
    ax: Axes,
    label: str,
    colors: Mapping[float, ColorType] | None = None,
) -> Axes:
    """One line for each number (a width, an epoch), coloured in order of that number, with a band.

    A wide band is cut off at the frame, as in `widening`.

    Args:
        curves: Tables by number; index: the horizontal quantity; columns as in `widening`.
        ax: Axes to draw on.
        label: What the numbers are; the title of the legend.
        colors: Colours by number; by default those of widths.
    """
    for number, curve in sorted(curves.items()):
        color = width_color(number) if colors is None else colors[number]
        _with_band(curve, ax, marker="o", color=color, label=f"{number:g}")
    _frame(curves.values(), ax)
    ax.set_ylabel("test accuracy (%)")
    ax.legend(title=label, frameon=False, fontsize=8, title_fontsize=8)
    return ax


def distance(
    curves: Mapping[str, pd.DataFrame],
    *,
    ax: Axes,
    styles: Mapping[str, Mapping[str, Any]] = KERNEL_STYLES,
    minima: bool = True,
) -> Axes:
    """Kernel distance against width, both logarithmic, with each line's lowest point marked.

    Args:
        curves: Curves by name; index: width; columns `mean` and, where there is an interval, `low` and
            `high`, drawn as bars. A name that starts with "_" stays out of the legend.
        ax: Axes to draw on.
        styles: Keyword arguments of `ax.plot`, by name.
        minima: Whether to mark minima; one at the end of a line is where it stops, and is not marked.
    """
    for name, curve in curves.items():
        curve = curve.sort_index()
        style = {"marker": "", **styles.get(name, {})}
        if "low" in curve:
            below, above = curve["mean"] - curve["low"], curve["high"] - curve["mean"]
            ax.errorbar(curve.index, curve["mean"], yerr=[below, above], label=name, elinewidth=1, **style)
        else:
            (line,) = ax.plot(curve.index, curve["mean"], label=name, **style)
            lowest = int(curve["mean"].argmin())
            if minima and 0 < lowest < len(curve) - 1:
                ax.plot(
                    curve.index[lowest], curve["mean"].iloc[lowest], "v", color=line.get_color(), markersize=8
                )
    ax.set(xscale="log", yscale="log", xlabel="width (hidden units)", ylabel="mean-square kernel distance")
    if ax.get_legend_handles_labels()[1]:
        ax.legend(frameon=False, fontsize=8)
    return ax


def mask(mask: npt.ArrayLike, *, ax: Axes) -> Axes:
    """A weight matrix, (units, inputs): dark where a weight is present."""
    present = np.asarray(mask, dtype=bool)
    ax.imshow(present, cmap="Blues", vmin=0, vmax=1.25, aspect="auto", interpolation="nearest")
    ax.set_xlabel("input")
    ax.set_ylabel("unit")
    return ax


def set_style() -> None:
    """Set matplotlib's defaults for the book: sharp, no top and right spines, readable sizes."""
    mpl.rcParams.update(
        {
            "figure.dpi": 130,
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 10,
            "figure.constrained_layout.use": True,
        }
    )
