"""Errors of populations of networks: example by example, class by class, and as images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes

DIFFERENT, SAME = "#0072B2", "#E69F00"
"""Two architectures against each other (blue); one against itself, other seeds (orange), as in N21."""


def accuracy_scatter(
    points: pd.DataFrame, *, ax: Axes, control: pd.DataFrame | None = None, same: bool = False
) -> Axes:
    """Accuracy (%) of every example in one population against that in another, as in N21, Figure 7.

    Points that coincide are one dot, of an area that grows with the square root of their number.

    Args:
        points: As `accuracy_scatter` gives them: `first` (horizontal), `second`, `examples`.
        ax: Axes to draw on; it becomes square.
        control: Points of one architecture against itself: two orange lines enclose the central 95 % of them.
        same: Whether `points` are of one architecture, and orange themselves.

    References:
        N21, Figures 7(a), 7(b) and F.1 to F.4.

    Examples:
        >>> from matplotlib.figure import Figure
        >>> points = pd.DataFrame({"first": [0.5, 1.0], "second": [0.25, 1.0], "examples": [1, 100]})
        >>> ax = accuracy_scatter(points, ax=Figure().subplots())
        >>> ax.collections[0].get_offsets().tolist(), ax.get_xlim()
        ([[50.0, 25.0], [100.0, 100.0]], (np.float64(-4.0), np.float64(104.0)))
    """
    ax.scatter(
        100 * points["first"],
        100 * points["second"],
        s=2 * np.sqrt(points["examples"].to_numpy(dtype=float)),
        color=SAME if same else DIFFERENT,
        alpha=0.5,
        linewidths=0,
        rasterized=True,
    )
    if control is not None:
        places = np.unique(control["first"].to_numpy(dtype=float))
        ends = [_central(control[control["first"] == place]) for place in places]
        ax.plot(100 * places, np.array(ends), color="#B36B00", linewidth=1.2)
    ax.plot([0, 100], [0, 100], color="#444444", linewidth=0.5)
    ax.set(xlim=(-4, 104), ylim=(-4, 104), aspect="equal", xticks=(0, 50, 100), yticks=(0, 50, 100))
    return ax


def _central(points: pd.DataFrame, share: float = 0.95) -> list[float]:
    """Between which values of `second` (%) a share of the examples lies, with as many below as above."""
    ordered = points.sort_values("second", kind="stable")
    below = ordered["examples"].cumsum() / ordered["examples"].sum()
    ends = np.searchsorted(below, [(1 - share) / 2, (1 + share) / 2])
    found: list[float] = (100 * ordered["second"].to_numpy()[ends.clip(max=len(ordered) - 1)]).tolist()
    return found


def scatter_matrix(
    points: Mapping[tuple[str, str], pd.DataFrame], names: Sequence[str], *, axes: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    """Every population against every other (blue), and each against itself (orange), as in N21, F.2.

    Panels above the diagonal stay empty. The orange lines of a panel below it enclose the central 95 % of the
    points of the population at its foot, which the diagonal shows.

    Args:
        points: Points by pair of names, the first horizontal; a pair of equal names stands for the halves
            of one population.
        names: Names of the populations, from left to right and from top to bottom.
        axes: (names, names).

    References:
        N21, Figures F.2 to F.4.

    Examples:
        >>> from matplotlib.figure import Figure
        >>> one = pd.DataFrame({"first": [0.5], "second": [0.5], "examples": [9]})
        >>> pairs = {("a", "a"): one, ("a", "b"): one, ("b", "b"): one}
        >>> axes = scatter_matrix(pairs, ["a", "b"], axes=Figure().subplots(2, 2))
        >>> [[len(ax.collections) for ax in row] for row in axes]
        [[1, 0], [1, 1]]
    """
    for row, second in enumerate(names):
        for column, first in enumerate(names):
            ax = axes[row, column]
            if column > row:
                ax.set_axis_off()
                continue
            same = row == column
            control = None if same else points[first, first]
            accuracy_scatter(points[first, second], ax=ax, control=control, same=same)
            if row == len(names) - 1:
                ax.set_xlabel(f"{first} (%)")
            if column == 0:
                ax.set_ylabel(f"{second} (%)")
    return axes


def class_differences(
    tests: pd.DataFrame,
    *,
    ax: Axes,
    control: pd.DataFrame | None = None,
    names: Sequence[str] = (),
) -> Axes:
    """Difference of two populations (points) on every class, against the second's accuracy there (%).

    Bars are the intervals of the tests. Classes are named where the adjusted p-value is below 0.05.

    Args:
        tests: As `class_tests` gives them.
        ax: Axes to draw on.
        control: The tests of one architecture against itself, in orange.
        names: Names of the classes, by number.

    References:
        N21, Figure 7(c).

    Examples:
        >>> from matplotlib.figure import Figure
        >>> tests = pd.DataFrame(
        ...     {
        ...         "class": [0, 1], "second": [0.5, 0.7], "difference": [0.1, 0.0],
        ...         "low": [0.05, -0.05], "high": [0.15, 0.05], "adjusted": [0.001, 1.0],
        ...     }
        ... )
        >>> ax = class_differences(tests, ax=Figure().subplots(), names=["cat", "dog"])
        >>> [text.get_text() for text in ax.texts]
        ['cat']
    """
    ax.axhline(0, color="#444444", linewidth=0.5)
    layers = [] if control is None else [(control, SAME, "one architecture, other seeds")]
    for part, color, label in [*layers, (tests, DIFFERENT, "two architectures")]:
        bars = [part["difference"] - part["low"], part["high"] - part["difference"]]
        ax.errorbar(
            100 * part["second"],
            100 * part["difference"],
            yerr=[100 * bar.clip(upper=1) for bar in bars],
            color=color,
            marker="o",
            markersize=4,
            linestyle="none",
            elinewidth=1,
            label=label,
        )
    for _, row in tests[tests["adjusted"] < 0.05].iterrows():
        number = int(row["class"])
        place = (100 * row["second"], 100 * row["difference"])
        name = names[number] if len(names) else str(number)
        ax.annotate(name, place, (4, 3), textcoords="offset points", fontsize=7)
    ax.legend(frameon=False, fontsize=8)
    return ax


def example(image: npt.ArrayLike, *, ax: Axes, title: str = "") -> Axes:
    """One image, (channels, height, width) of bytes, with one or three channels.

    Examples:
        >>> from matplotlib.figure import Figure
        >>> ax = example(np.zeros((1, 8, 8), np.uint8), ax=Figure().subplots(), title="cat")
        >>> ax.images[0].get_array().shape, ax.get_title()
        ((8, 8), 'cat')
    """
    pixels = np.moveaxis(np.asarray(image), 0, -1)
    shown = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    ax.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    ax.set_title(title, fontsize=7)
    ax.set_axis_off()
    return ax


def positions(positions: pd.DataFrame, *, ends: tuple[str, str], ax: Axes) -> Axes:
    """Where populations lie, seen from the line through two others, in points of accuracy.

    Distances are root mean squares over the examples, to one scale in both directions. Bars are
    intervals; where the one from the line reaches 0, the population may lie on it.

    Args:
        positions: One row a population; index: its name; columns: the fields of `Position`.
        ends: Names of the first and of the second of the others.
        ax: Axes to draw on.

    Examples:
        >>> from matplotlib.figure import Figure
        >>> row = {"along": 0.5, "along_low": 0.4, "along_high": 0.6, "length": 0.01}
        >>> row |= {"aside": 0.0009, "aside_low": 0.0004, "aside_high": 0.0016}
        >>> table = pd.DataFrame([row], index=["sparse"])
        >>> ax = positions(table, ends=("narrow", "wide"), ax=Figure().subplots())
        >>> [text.get_text() for text in ax.texts]
        ['narrow', 'wide', 'sparse']
    """
    unit = 100 * np.sqrt(max(positions["length"].iloc[0], 0))
    ax.plot([0, unit], [0, 0], color="#444444", marker="o", linewidth=1)
    for end, x in zip(ends, (0, unit), strict=True):
        ax.annotate(end, (x, 0), (0, -12), textcoords="offset points", ha="center", fontsize=8)
    for name, row in positions.iterrows():
        x, left, right = (unit * row[f"along{part}"] for part in ("", "_low", "_high"))
        y, below, above = (100 * np.sqrt(max(row[f"aside{part}"], 0)) for part in ("", "_low", "_high"))
        bars = np.array([[x - left, right - x], [y - below, above - y]])
        across, up = np.where(np.isfinite(bars), bars, 0)[..., None]
        ax.errorbar(x, y, xerr=across, yerr=up, marker="s", color=DIFFERENT, elinewidth=1)
        ax.annotate(str(name), (x, y), (5, 5), textcoords="offset points", fontsize=8)
    ax.set(xlabel="along the line (points of accuracy, root mean square)", ylabel="from the line (points)")
    ax.margins(y=0.15)
    ax.set_aspect("equal", adjustable="datalim")
    return ax
