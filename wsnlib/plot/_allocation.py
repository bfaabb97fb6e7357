"""Where the weights are: what each layer has and keeps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.ticker import StrMethodFormatter

from wsnlib.plot._curves import write_cell

KEPT, DENSE, LEVEL = "#0072B2", "#C6DCEC", "#B84A00"

Counts = Mapping[str, int]


def allocation(
    kept: Counts,
    sizes: Counts,
    *,
    ax: Axes,
    order: Sequence[str] | None = None,
    scale: Literal["log", "linear"] = "log",
) -> Axes:
    """Weights of each dense layer (light) and weights kept (dark), as in G21, Figure 4.

    Where weights were removed from the largest layer first, all sparse layers keep the same number: a
    line marks this level. It is drawn only where the numbers say so.

    Args:
        kept: Weights kept, by layer.
        sizes: Weights of the dense layer, by layer.
        ax: Axes to draw on. Above its frame stands the level: a title needs a `pad` of some 14 points. Axes
            that share the axis of weights are widened to hold what each of them shows.
        order: Layers from top to bottom; by default the largest first. Axes that share their vertical
            axis need the same order.
        scale: Scale of the axis of weights.

    Raises:
        ValueError: If the layers are not the same, or one keeps more weights than it has.

    References:
        G21, Figure 4 and Appendix B.

    Examples:
        >>> from matplotlib.figure import Figure
        >>> sizes = {"conv1": 216, "conv2": 2304, "linear": 640}
        >>> kept = {"conv1": 216, "conv2": 472, "linear": 472}
        >>> ax = allocation(kept, sizes, ax=Figure().subplots())
        >>> [text.get_text() for text in ax.get_yticklabels()], ax.texts[0].get_text()
        (['conv2', 'linear', 'conv1'], 'level 472')
    """
    _check(kept, sizes)
    names = sorted(sizes, key=lambda name: -sizes[name]) if order is None else list(order)
    if sorted(names) != sorted(sizes):
        raise ValueError(f"order must hold each of {_listed(sizes)} once, got {_listed(names)}")
    places = range(len(names))
    ax.barh(places, [sizes[name] for name in names], color=DENSE, height=0.8, label="dense layer")
    ax.barh(places, [kept[name] for name in names], color=KEPT, height=0.8, label="weights kept")
    ax.set_xscale(scale)
    left = 10.0 ** (math.ceil(math.log10(min(kept.values()))) - 1) if scale == "log" else 0
    limits = [left, 1.1 * max(sizes.values())]
    siblings = ax.get_shared_x_axes().get_siblings(ax)
    if any(other.has_data() for other in siblings if other is not ax):
        limits += ax.get_xlim()
    ax.set_xlim(min(limits), max(limits))
    if scale == "linear":
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    if (level := _level(kept, sizes)) is not None:
        ax.axvline(level, color=LEVEL, linewidth=1.2, label="level")
        ax.annotate(
            f"level {level:,}",
            (level, 1),
            (0, 2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            va="bottom",
            color=LEVEL,
            fontsize=7,
        )
    ax.set_yticks(places, names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlabel("weights")
    return ax


def _level(kept: Counts, sizes: Counts) -> int | None:
    """What each sparse layer keeps, to within the remainder of the division among them."""
    sparse = [kept[name] for name in sizes if kept[name] < sizes[name]]
    dense = [kept[name] for name in sizes if kept[name] == sizes[name]]
    if not sparse or max(sparse) - min(sparse) >= len(sparse) or max(dense, default=0) > max(sparse):
        return None
    return max(sparse)


def sparsity(kept: Mapping[float, Counts], sizes: Mapping[float, Counts], *, ax: Axes) -> Axes:
    """Sparsity (%) of the network and of each of its layers over widths, as in G21, Figure 10.

    Colours follow the logarithm of the density, so that 99 % and 99.9 % differ as 0 % and 90 % do.

    Args:
        kept: Weights kept by layer, for each width.
        sizes: Weights of the dense layers, for each width.
        ax: Axes to draw on; a colour bar is added beside it.

    Raises:
        ValueError: If the widths or the layers are not the same, or a layer keeps more than it has.

    References:
        G21, Figure 10.

    Examples:
        >>> from matplotlib.figure import Figure
        >>> sizes = {8: {"conv": 576, "linear": 640}, 16: {"conv": 2304, "linear": 1280}}
        >>> kept = {8: sizes[8], 16: {"conv": 608, "linear": 608}}
        >>> ax = sparsity(kept, sizes, ax=Figure().subplots())
        >>> [text.get_text() for text in ax.texts]
        ['0', '66.1', '0', '73.6', '0', '52.5']
    """
    if sorted(kept) != sorted(sizes) or not sizes:
        raise ValueError(f"kept must have the widths of sizes, {_listed(sizes)}, got {_listed(kept)}")
    widths = sorted(sizes)
    layers = list(sizes[widths[0]])
    for width in widths:
        _check(kept[width], sizes[width])
        if set(sizes[width]) != set(layers):
            raise ValueError(
                f"sizes of width {width} must have the layers of width {widths[0]}, {_listed(layers)}, got "
                f"{_listed(sizes[width])}"
            )
    density = np.array(
        [[sum(kept[w].values()) / sum(sizes[w].values()) for w in widths]]
        + [[kept[w][layer] / sizes[w][layer] for w in widths] for layer in layers]
    )
    decades = max(1, math.ceil(-math.log10(density.min())))
    norm = LogNorm(10.0**-decades, 1)
    mesh = ax.pcolormesh(density, cmap="cividis", norm=norm, edgecolors="white", linewidth=0.5)
    for cell, value in np.ndenumerate(density):
        write_cell(ax, mesh, cell, value, _percent(1 - value), bold=cell[0] == 0)
    ax.axhline(1, color="white", linewidth=3)
    ax.set_xticks(np.arange(len(widths)) + 0.5, [f"{width:g}" for width in widths])
    ax.set_yticks(np.arange(len(layers) + 1) + 0.5, ["network", *layers])
    ax.tick_params(length=0)
    ax.invert_yaxis()
    ax.set_xlabel("width")
    bar = ax.figure.colorbar(mesh, ax=ax)
    ticks = [10.0**-decade for decade in range(decades, -1, -1)]
    bar.set_ticks(ticks, labels=[f"{100 - 100 * tick:.10g}" for tick in ticks])
    bar.minorticks_off()
    bar.set_label("sparsity: weights removed (%)")
    return ax


def _percent(share: float) -> str:
    """With one digit after the point, or as many as tell it from 0 and 100 %."""
    least = 100 * min(share, 1 - share)
    return "0" if least == 0 else f"{100 * share:.{max(1, -math.floor(math.log10(least)))}f}"


def _check(kept: Counts, sizes: Counts) -> None:
    if set(kept) != set(sizes) or not sizes:
        raise ValueError(f"kept must have the layers of sizes, {_listed(sizes)}, got {_listed(kept)}")
    for name, size in sizes.items():
        if not 1 <= kept[name] <= size:
            raise ValueError(f"the weights kept in {name} must be 1 to {size}, got {kept[name]}")


def _listed(names: Iterable[object]) -> str:
    return ", ".join(map(str, names)) or "none"
