"""What layers have in common: heat maps of their similarity, and curves along the depth."""

from __future__ import annotations

import math
import re
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

    A stage is what names of neighbouring layers have before their first point; layers without one belong to
    none. A stage of more than three quarters of the layers is parted at its next point: `features` of a Swin
    transformer, `encoder` and `encoder.layers` of a vision transformer.

    Examples:
        >>> stages(["conv", "stage1.block1.conv1", "stage1.block1.relu2", "stage2.block1.conv1", "dense"])
        [('stage1', 1, 3), ('stage2', 3, 4)]
        >>> stages(["features.0", "features.1.0.norm", "features.1.0.mlp", "features.3.0.norm", "head"])
        [('features.1', 1, 3), ('features.3', 3, 4)]
    """
    return _stages(list(layers), 0, 1, most=0.75 * len(layers))


def _stages(layers: list[str], start: int, depth: int, *, most: float) -> list[tuple[str, int, int]]:
    found = []
    parts = (name.split(".") for name in layers)
    for name, group in groupby(".".join(part[:depth]) if len(part) > depth else "" for part in parts):
        size = len(list(group))
        if name:
            inside = layers[:size] if size > most else []
            found += _stages(inside, start, depth + 1, most=most) or [(name, start, start + size)]
        start, layers = start + size, layers[size:]
    return found


def ticks(layers: Sequence[str], room: float) -> list[tuple[float, str]]:
    """Positions and names of stages (of layers, where there are no stages), as many as room has letters.

    Examples:
        >>> ticks(["conv", "stage1.block1.conv1", "stage1.block1.relu2", "stage2.block1.conv1"], room=20)
        [(1.5, 'stage 1'), (3.0, 'stage 2')]
        >>> ticks(["0", "1", "2", "3"], room=7)
        [(0.0, '0'), (2.0, '2')]
    """
    found = stages(layers) or [(name, at, at + 1) for at, name in enumerate(layers)]
    named = [((start + stop - 1) / 2, _label(name)) for name, start, stop in found]
    return named[:: max(1, math.ceil(sum(len(label) + 1 for _, label in named) / room))]


def _label(name: str) -> str:
    """What a figure says of `encoder.layers.encoder_layer_1`: "encoder layer 1"."""
    parts = name.split(".")
    own = " ".join(parts[-2:]) if parts[-1].isdigit() else parts[-1]
    return re.sub(r"(?<=[a-z])(?=[0-9])", " ", own.replace("_", " "))


def edges(layers: Sequence[str]) -> list[int]:
    """Where stages begin or end, as positions between layers.

    Examples:
        >>> edges(["conv", "stage1.block1.conv1", "stage1.block1.relu2", "stage2.block1.conv1"])
        [1, 3, 4]
    """
    return sorted({edge for _, start, stop in stages(layers) for edge in (start, stop)})


def _room(ax: Axes) -> tuple[float, float]:
    """Letters of size 7 that fit across the axes, and upwards."""
    box, letter = ax.get_window_extent(), 3.8 / 72 * ax.figure.dpi
    return box.width / letter, box.height / letter


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
        ax: Axes to draw on. Its last image is the heat map, for a colour bar.
        rows: Names of the layers from bottom to top.
        columns: Names of the layers from left to right; the rows if not given.
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
            f"values must be of shape {(len(rows), len(columns))}, the numbers of names, got {matrix.shape}"
        )
    ax.set_facecolor("#999999")
    ax.imshow(
        np.ma.masked_invalid(matrix), vmin=0, vmax=1, cmap="magma", origin="lower", interpolation="nearest"
    )
    across, upwards = _room(ax)
    sides = ((ax.yaxis, rows, ax.axhline, upwards), (ax.xaxis, columns, ax.axvline, across))
    for axis, layers, line, room in sides:
        for edge in edges(layers):
            line(edge - 0.5, color="white", linewidth=0.4, alpha=0.7)
        axis.set_ticks(*zip(*ticks(layers, room), strict=True))
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
        ax: Axes to draw on.
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
                raise ValueError(f"{name} must have layers among the {len(place)} given, got {layer!r}")
        style = {"linewidth": 1.2, "markersize": 3.5, **(styles or {}).get(name, {})}
        ax.plot(np.array([place[layer] for layer in curve]), list(curve.values()), label=name, **style)
    for edge in edges(layers):
        ax.axvline(edge - 0.5, color="#999999", linewidth=0.5)
    ax.set_xlim(-0.5, len(layers) - 0.5)
    ax.set_xticks(*zip(*ticks(layers, _room(ax)[0]), strict=True))
    ax.tick_params(axis="x", length=0)
    return ax
