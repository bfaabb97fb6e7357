"""What layers have in common: heat maps of their similarity, and curves along the depth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

RESIDUAL_STYLES: dict[str, dict[str, Any]] = {
    "before the addition": {"color": "#E69F00", "marker": "o"},
    "after the addition": {"color": "#0072B2", "marker": "s"},
    "no residual connection": {"color": "#444444", "marker": "^"},
}
"""Colour (orange and blue as in N21, Figure 4) and marker of the layers that are probed."""


def stages(layers: Sequence[str]) -> list[tuple[str, int, int]]:
    """Where the stages of a network lie among its layers: name, first position, one past the last.

    A stage is what a name has before its first point; layers without one belong to none.

    Examples:
        >>> stages(["conv", "stage1.block1.conv1", "stage1.block1.relu2", "stage2.block1.conv1", "dense"])
        [('stage1', 1, 3), ('stage2', 3, 4)]
    """
    found, at = [], 0
    for name, group in groupby(name.partition(".")[0] if "." in name else "" for name in layers):
        size = len(list(group))
        if name:
            found.append((name, at, at + size))
        at += size
    return found


def cka(
    values: npt.ArrayLike,
    *,
    ax: Axes,
    rows: Sequence[str],
    columns: Sequence[str] | None = None,
    blocks: Iterable[tuple[int, int]] = (),
) -> Axes:
    """CKA of every row layer with every column layer as a heat map, the first layers at the lower left.

    Colours go from 0 (dark) to 1 (bright), the same in every figure; grey has no value (a layer that does
    not vary). Thin lines part the stages, and dashed squares mark the blocks.

    Args:
        values: (rows, columns).
        ax: Where to draw. Its last image is the heat map, for a colour bar.
        rows: Names of the layers from bottom to top.
        columns: From left to right; the rows if not given.
        blocks: Start and stop of each (`Block.start`, `Block.stop`), for a network with itself.

    Raises:
        ValueError: If the matrix has another shape than the names.

    References:
        N21, Figures 1 to 3 and 6.

    Examples:
        >>> from matplotlib.figure import Figure
        >>> ax = cka(
        ...     np.eye(3), ax=Figure().subplots(), rows=["conv", "stage1.a", "stage1.b"], blocks=[(1, 3)]
        ... )
        >>> [text.get_text() for text in ax.get_xticklabels()], len(ax.patches)
        (['stage 1'], 1)
    """
    matrix = np.asarray(values, dtype=float)
    columns = rows if columns is None else columns
    if matrix.shape != (len(rows), len(columns)):
        raise ValueError(
            f"the matrix is {matrix.shape}; {(len(rows), len(columns))}, the numbers of names, is allowed"
        )
    ax.set_facecolor("#999999")
    ax.imshow(
        np.ma.masked_invalid(matrix), vmin=0, vmax=1, cmap="magma", origin="lower", interpolation="nearest"
    )
    for axis, layers, line in ((ax.yaxis, rows, ax.axhline), (ax.xaxis, columns, ax.axvline)):
        found = stages(layers)
        for edge in sorted({e for _, start, stop in found for e in (start, stop)}):
            line(edge - 0.5, color="white", linewidth=0.4, alpha=0.7)
        labels = [name.replace("stage", "stage ") for name, *_ in found]
        axis.set_ticks([(start + stop - 1) / 2 for _, start, stop in found], labels)
        axis.set_tick_params(length=0, labelsize=7)
    for label in ax.get_yticklabels():
        label.set(rotation=90, va="center")
    for start, stop in blocks:
        square = Rectangle((start - 0.5, start - 0.5), stop - start, stop - start)
        square.set(fill=False, edgecolor="#56E0FF", linewidth=1.4, linestyle="--")
        ax.add_patch(square)
    ax.grid(visible=False)
    return ax


def by_layer(
    curves: Mapping[str, Mapping[str, float]],
    *,
    ax: Axes,
    layers: Sequence[str],
    styles: Mapping[str, Mapping[str, Any]] | None = None,
) -> Axes:
    """One number a layer along the depth, one curve a name; thin lines part the stages.

    Args:
        curves: For each name, values by layer; layers may be missing.
        ax: Where to draw.
        layers: All layers in order of computation, which give the places.
        styles: Colour, marker, … by the name of the curve.

    Raises:
        ValueError: If a curve has a layer that is not among them.

    Examples:
        >>> from matplotlib.figure import Figure
        >>> ax = by_layer({"a": {"y": 0.5}}, ax=Figure().subplots(), layers=["x", "y"])
        >>> ax.lines[0].get_xdata().tolist()
        [1]
    """
    place = {name: i for i, name in enumerate(layers)}
    for name, curve in curves.items():
        for layer in curve:
            if layer not in place:
                raise ValueError(
                    f"{name} has the layer {layer!r}, which is not among the {len(place)} layers"
                )
        style = {"linewidth": 1.2, "markersize": 3.5, **(styles or {}).get(name, {})}
        ax.plot(np.array([place[layer] for layer in curve]), list(curve.values()), label=name, **style)
    found = stages(layers)
    for edge in sorted({e for _, start, stop in found for e in (start, stop)}):
        ax.axvline(edge - 0.5, color="#999999", linewidth=0.5)
    ax.set_xlim(-0.5, len(layers) - 0.5)
    ax.set_xticks(
        [(start + stop - 1) / 2 for _, start, stop in found],
        [name.replace("stage", "stage ") for name, *_ in found],
    )
    ax.tick_params(axis="x", length=0)
    return ax
