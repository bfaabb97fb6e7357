"""The numbers that a figure shows, read back from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import FillBetweenPolyCollection, LineCollection, PathCollection, QuadMesh
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.typing import ColorType

COLUMNS = ("panel", "series", "x", "y", "value", "low", "high")

LARGE_MAP = 2000
"""Cells of a map above which two digits of each have to do."""

Row = dict[str, Any]
Floats = npt.NDArray[np.float64]


def drawn_data(figure: Figure) -> pd.DataFrame:
    """One row for each point, bar or cell that a figure shows.

    Columns: `panel` (title of the axes, else its number), `series` (name in the legend), `x` and `y`,
    `value` (of a cell, or the size of a dot), `low` and `high` (ends of a vertical bar or band); columns
    without a number are left out. A cell is named by the labels of its column and row where each has one,
    else by their numbers; its value has three digits, two in a large map, and of a symmetric map one
    half is listed. Guide lines, colour bars, pictures in colour and annotations hold no data.

    Args:
        figure: Any figure of this library, or a plain one.

    Examples:
        >>> figure = Figure()
        >>> _ = figure.subplots().plot([5, 10], [0.5, 0.75], label="sparse")
        >>> drawn_data(figure).to_dict("list")
        {'panel': ['1', '1'], 'series': ['sparse', 'sparse'], 'x': [5.0, 10.0], 'y': [0.5, 0.75]}
    """
    axes = [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]
    rows = [
        {"panel": ax.get_title() or str(number), **row}
        for number, ax in enumerate(axes, start=1)
        for row in _rows(ax)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).dropna(axis=1, how="all")


def _rows(ax: Axes) -> Iterator[Row]:
    in_bars: set[Line2D] = set()
    for container in ax.containers:
        if isinstance(container, ErrorbarContainer):
            line, caps, bars = container.lines
            in_bars |= {line, *caps} if line is not None else set(caps)
            yield from _errorbar(line, bars, _name(container))
        elif isinstance(container, BarContainer):
            yield from _bars(container)
    bands = [
        (to_hex(cast(ColorType, band.get_facecolor()[0])), _band(band))
        for band in ax.collections
        if isinstance(band, FillBetweenPolyCollection)
    ]
    for line in ax.lines:
        if line not in in_bars and line.get_transform() is ax.transData:  # others are guides
            color, places = to_hex(line.get_color()), set(_floats(line.get_xdata(orig=False)))
            own = next((band for band in bands if band[0] == color and places & band[1].keys()), None)
            if own:  # of one line only, the first of its colour
                bands.remove(own)
            yield from _line(line, own[1] if own else {})
    for collection in ax.collections:
        if isinstance(collection, PathCollection):
            yield from _dots(collection)
        elif isinstance(collection, QuadMesh):
            yield from _cells(ax, _array(collection.get_array()))
    for image in ax.images:
        values = _array(image.get_array())
        if values.ndim == 2:
            yield from _cells(ax, values)


def _name(artist: Any) -> str | None:
    label = artist.get_label()
    return None if label is None or str(label).startswith("_") else str(label)


def _array(values: Any) -> Floats:
    return np.asarray(np.ma.filled(np.ma.asarray(values, dtype=float), np.nan))


def _floats(values: Any) -> list[float]:
    found: list[float] = _array(values).tolist()
    return found


def _line(line: Line2D, ends: dict[float, tuple[float, float]]) -> Iterator[Row]:
    for x, y in zip(_floats(line.get_xdata(orig=False)), _floats(line.get_ydata(orig=False)), strict=True):
        low, high = ends.get(x, (None, None))
        yield {"series": _name(line), "x": x, "y": y, "low": low, "high": high}


def _errorbar(line: Line2D | None, bars: tuple[LineCollection, ...], name: str | None) -> Iterator[Row]:
    if line is None:
        return
    points = list(_line(line, {}))
    for bar in bars:
        segments = bar.get_segments()  # one a point, in their order; empty where there is no bar
        if any(s[0, 0] != s[1, 0] for s in segments if len(s) == 2):
            continue  # of the horizontal axis
        for point, s in zip(points, segments, strict=True):
            if len(s) == 2:
                point |= {"low": float(s[:, 1].min()), "high": float(s[:, 1].max())}
    yield from (point | {"series": name} for point in points)


def _band(band: FillBetweenPolyCollection) -> dict[float, tuple[float, float]]:
    at: dict[float, list[float]] = {}
    for path in band.get_paths():
        for x, y in _array(path.vertices).tolist():
            at.setdefault(x, []).append(y)
    return {x: (min(ys), max(ys)) for x, ys in at.items()}


def _bars(container: BarContainer) -> Iterator[Row]:
    for bar in container.patches:
        along, across = bar.get_x() + bar.get_width() / 2, bar.get_y() + bar.get_height() / 2
        place = (
            {"x": bar.get_width(), "y": across}
            if container.orientation == "horizontal"
            else {"x": along, "y": bar.get_height()}
        )
        yield {"series": _name(container)} | {k: float(v) for k, v in place.items()}


def _dots(dots: PathCollection) -> Iterator[Row]:
    offsets = _array(dots.get_offsets())
    sizes = _floats(dots.get_sizes())
    for i, (x, y) in enumerate(offsets.tolist()):
        size = sizes[i] if len(sizes) == len(offsets) > 1 else None
        yield {"series": _name(dots), "x": x, "y": y, "value": size}


def _cells(ax: Axes, values: Floats) -> Iterator[Row]:
    height, width = values.shape
    columns, rows = _labels(ax.xaxis, width), _labels(ax.yaxis, height)
    digits = 3 if values.size <= LARGE_MAP else 2
    symmetric = height == width > 1 and np.allclose(values, values.T, rtol=0, atol=1e-9, equal_nan=True)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value) and not (symmetric and row > column):
            yield {"x": columns[column], "y": rows[row], "value": float(f"{value:.{digits}g}")}


def _labels(axis: Any, count: int) -> list[Any]:
    texts = [text.get_text().split("\n")[0] for text in axis.get_ticklabels()]
    return texts if len(texts) == count and all(texts) else list(range(count))
