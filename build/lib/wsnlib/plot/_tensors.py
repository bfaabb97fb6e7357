"""Weight tensors drawn to scale: the diagrams of the ways to widen a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.patches import Patch, Rectangle

TENSOR, STRIPES, ACTIVATION = "#4A90C2", "white", "#C8372D"

# In points, as all lengths that do not stand for channels.
LETTERS, TITLE_LETTERS = 7.0, 8.5
LINE = 1.35 * LETTERS
GAP, CHAIN_GAP = 5.0, 22.0
STRIPE_PERIOD, ACTIVATION_WIDTH = 6.0, 3.5
HEAD, FOOT = GAP + LINE + 1.35 * TITLE_LETTERS, 2.2 * LINE
LOWEST = 30.0
"""Height of the tallest tensor where there is no room for more."""

Rows = dict[str, Callable[["WeightTensor"], str]]
"""What is written under each tensor, by the name in front of the row."""

Lines = list[list[tuple[str, Sequence["WeightTensor"]]]]
"""Chains with their titles, by line."""


@dataclass(frozen=True)
class WeightTensor:
    """A weight as it is drawn: height = outputs, width = inputs, blue = the share of weights present.

    Args:
        shape: (outputs, inputs, sides of the kernel …), as `tuple(layer.weight.shape)` has it.
        kept: Weights present; by default all.
        activation: Whether a nonlinearity follows.

    Raises:
        ValueError: If that is not the shape of a weight, or more weights are kept than there are.

    Examples:
        >>> WeightTensor((64, 64, 3, 3), kept=15157).density.__round__(3)
        0.411
    """

    shape: tuple[int, ...]
    kept: int | None = None
    activation: bool = True

    def __post_init__(self) -> None:
        if len(self.shape) < 2 or min(self.shape) < 1:
            raise ValueError(f"the shape of a weight is {self.shape}; two or more sides above 0 are allowed")
        if not 0 <= self.num_weights <= math.prod(self.shape):
            raise ValueError(f"kept is {self.kept}; 0 to {math.prod(self.shape)} weights are allowed")

    @property
    def num_weights(self) -> int:
        """Weights present."""
        return math.prod(self.shape) if self.kept is None else self.kept

    @property
    def density(self) -> float:
        """Weights present / weights of the dense tensor."""
        return self.num_weights / math.prod(self.shape)


def weight_chains(
    chains: Mapping[str, Sequence[WeightTensor]], *, ax: Axes, columns: int | None = None
) -> Axes:
    """Chains of weight tensors side by side on one scale, as in G21, Figure 2.

    A blue rectangle is a weight tensor, as high as it has outputs and as wide as it has inputs. White
    stripes take the share of its area that its removed weights have. A red stripe is a nonlinearity, as
    high as the units it acts on.

    Args:
        chains: By title; the tensors of each in the order in which they act.
        ax: Where to draw; its frame is taken away. Too small axes make the tensors small, and at last the
            letters overlap: ten tensors on one line need 10 inches, on two lines 6.
        columns: Chains side by side before the next line begins; by default all.

    Raises:
        ValueError: If there is no tensor or no column to draw.

    References:
        G21, Figure 2.

    Examples:
        >>> from matplotlib.figure import Figure
        >>> dense = [WeightTensor((32, 32, 3, 3))] * 2
        >>> narrow = [WeightTensor((15, 64, 3, 3)), WeightTensor((64, 15, 3, 3))]
        >>> ax = weight_chains({"base": dense, "narrowed": narrow}, ax=Figure().subplots())
        >>> [text.get_text() for text in ax.texts if " weights" in text.get_text()]
        ['18,432 weights', '17,280 weights']
    """
    if not chains or not all(chains.values()):
        raise ValueError("a chain without tensors cannot be drawn; chains of one or more are allowed")
    if columns is not None and columns < 1:
        raise ValueError(f"columns is {columns}; 1 or more are allowed")
    tensors = [tensor for chain in chains.values() for tensor in chain]
    rows = _rows(tensors)
    columns = len(chains) if columns is None else columns
    ax.set_axis_off()
    lines = [list(chains.items())[i : i + columns] for i in range(0, len(chains), columns)]
    scale = _scale(lines, rows, ax)
    lengths = _column_lengths(lines, rows, scale)
    half = scale * max(tensor.shape[0] for tensor in tensors) / 2
    pitch = 2 * half + _letters(rows) + LINE
    first = max(map(_length, rows))
    for i, line in enumerate(lines):
        for j, name in enumerate(rows):
            y = -i * pitch - half - GAP - j * LINE
            ax.text(first, y, name, ha="right", va="top", fontsize=LETTERS, color="#555555")
        x = first
        for (title, chain), length in zip(line, lengths, strict=False):
            middle = x + CHAIN_GAP + length / 2, -i * pitch
            _draw_chain(title, chain, rows, middle=middle, half=half, scale=scale, ax=ax)
            x += CHAIN_GAP + length
    bottom = -(len(lines) - 1) * pitch - half - GAP - len(rows) * LINE - FOOT
    ax.set(xlim=(0, first + sum(CHAIN_GAP + length for length in lengths)), ylim=(bottom, half + HEAD))
    ax.set_aspect("equal")
    _explain(ax, sparse="density" in rows)
    return ax


def _explain(ax: Axes, *, sparse: bool) -> None:
    handles = [
        Patch(facecolor=TENSOR, linewidth=0, label="weights (height: outputs, width: inputs)"),
        Patch(facecolor=ACTIVATION, linewidth=0, label="nonlinearity"),
    ]
    if sparse:
        striped = Patch(facecolor=TENSOR, edgecolor=STRIPES, hatch="/////", linewidth=0)
        striped.set_label("white share: weights removed")
        handles.insert(1, striped)
    ax.legend(handles=handles, ncols=3, loc="lower center", frameon=False, fontsize=LETTERS, borderpad=0)


def _rows(tensors: Sequence[WeightTensor]) -> Rows:
    rows: Rows = {"outputs × inputs": lambda tensor: f"{tensor.shape[0]} × {tensor.shape[1]}"}
    if any(len(tensor.shape) > 2 for tensor in tensors):
        rows["kernel"] = lambda tensor: " × ".join(map(str, tensor.shape[2:])) or "–"
    rows["weights"] = lambda tensor: f"{tensor.num_weights:,}"
    if any(tensor.density < 1 for tensor in tensors):
        rows["density"] = lambda tensor: f"{tensor.density:.2g}"
    return rows


def _draw_chain(
    title: str,
    chain: Sequence[WeightTensor],
    rows: Rows,
    *,
    middle: tuple[float, float],
    half: float,
    scale: float,
    ax: Axes,
) -> None:
    centre, y = middle
    total = f"{sum(tensor.num_weights for tensor in chain):,} weights"
    ax.text(centre, y + half + GAP, total, ha="center", fontsize=LETTERS)
    ax.text(centre, y + half + GAP + LINE, title, ha="center", fontsize=TITLE_LETTERS, fontweight="bold")
    length = _tensors_length(chain, rows, scale)
    x = centre - length / 2
    ax.plot([x - GAP, x + length], [y, y], color="#999999", linewidth=0.8, zorder=0)
    for tensor in chain:
        slot = _slot(tensor, rows, scale)
        for i, label in enumerate(rows.values()):
            below = y - half - GAP - i * LINE
            ax.text(x + slot / 2, below, label(tensor), ha="center", va="top", fontsize=LETTERS)
        _draw_tensor(tensor, middle=(x + slot / 2, y), scale=scale, ax=ax)
        x += slot + _space(tensor)
        if tensor.activation:
            height = scale * tensor.shape[0]
            corner = x - GAP - ACTIVATION_WIDTH, y - height / 2
            ax.add_patch(Rectangle(corner, ACTIVATION_WIDTH, height, facecolor=ACTIVATION, linewidth=0))


def _draw_tensor(tensor: WeightTensor, *, middle: tuple[float, float], scale: float, ax: Axes) -> None:
    height, width = scale * tensor.shape[0], scale * tensor.shape[1]
    left, bottom = middle[0] - width / 2, middle[1] - height / 2
    area = ax.add_patch(Rectangle((left, bottom), width, height, facecolor=TENSOR, linewidth=0))
    removed = STRIPE_PERIOD * (1 - tensor.density)
    if removed:
        feet = np.arange(left - height, left + width, STRIPE_PERIOD)[:, None, None]
        corners = np.array([[0, 0], [removed, 0], [removed + height, height], [height, height]])
        stripes = PolyCollection(feet * [1, 0] + corners + [0, bottom], facecolors=STRIPES, linewidths=0)
        ax.add_collection(stripes, autolim=False)
        stripes.set_clip_path(area)
    ax.add_patch(Rectangle((left, bottom), width, height, facecolor="none", edgecolor=TENSOR, linewidth=0.8))


# -- lengths in points ------------------------------------------------------------------------


def _length(words: str, size: float = LETTERS) -> float:
    return 0.62 * size * len(words)


def _slot(tensor: WeightTensor, rows: Rows, scale: float) -> float:
    return max(scale * tensor.shape[1], *(_length(label(tensor)) for label in rows.values()))


def _space(tensor: WeightTensor) -> float:
    return 2 * GAP + ACTIVATION_WIDTH if tensor.activation else GAP


def _tensors_length(chain: Sequence[WeightTensor], rows: Rows, scale: float) -> float:
    return sum(_slot(tensor, rows, scale) + _space(tensor) for tensor in chain)


def _column_lengths(lines: Lines, rows: Rows, scale: float) -> list[float]:
    lengths = [
        [max(_tensors_length(chain, rows, scale), _length(title, TITLE_LETTERS)) for title, chain in line]
        for line in lines
    ]
    return [max(column) for column in zip_longest(*lengths, fillvalue=0.0)]


def _letters(rows: Rows) -> float:
    return HEAD + GAP + len(rows) * LINE


def _scale(lines: Lines, rows: Rows, ax: Axes) -> float:
    """Points per channel: the most at which tensors and letters fit the axes."""
    figure = ax.figure.get_figure(root=True)
    figure.draw_without_rendering()  # only now do the axes have the place that the layout gives them
    box, inch = ax.get_window_extent(), 72 / figure.dpi
    tallest = max(tensor.shape[0] for line in lines for _, chain in line for tensor in chain)
    letters = len(lines) * (_letters(rows) + LINE) + FOOT - LINE
    most = (box.height * inch - letters) / len(lines)
    scales = np.linspace(max(most, LOWEST), LOWEST, 200) / tallest

    def length(scale: float) -> float:
        columns = _column_lengths(lines, rows, scale)
        return max(map(_length, rows)) + sum(CHAIN_GAP + column for column in columns)

    return next((float(scale) for scale in scales if length(scale) <= box.width * inch), float(scales[-1]))
