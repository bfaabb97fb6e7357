"""Explorers of the kernel distance: one that lives in a static page, one that needs a kernel.

At a fixed number of weights, density p and width n of the first layer go together: n p = m, where m is
the base width. The mean-square distance of Theorem 1 is then

    D(n) = squared bias(p) + spread(p) / n,        p = m/n,

whose two functions of p depend on the inputs alone. They are tabulated once and interpolated: the root
of the squared bias and the logarithm of the spread, by cubic splines in log p.
"""

from __future__ import annotations

import asyncio
import html
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline
from scipy.optimize import minimize_scalar

from wsnlib.kernels.numeric import KernelDistance, masked_kernels
from wsnlib.kernels.theory import paper_distance, paper_minimiser
from wsnlib.widgets.page import ExplorerPage, fill_template

if TYPE_CHECKING:
    import ipywidgets

Array = NDArray[np.float64]
Pair = tuple[ArrayLike, ArrayLike]
Pairs = Mapping[str, Pair | Sequence[Pair]]

BASE_WIDTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Base widths m the explorers offer."""

WIDTHS = tuple(2**k for k in range(21))
"""Ends of the range of widths the explorers offer."""

START = {"base_width": 8, "dimension": 784, "narrowest": 1, "widest": 16384}

COLUMNS = ("inputs", "dimension", "density", "squared_bias", "spread")


# -- the table --------------------------------------------------------------------------------


def distance_table(pairs: Pairs, *, density: ArrayLike | None = None) -> pd.DataFrame:
    """The two functions of density in Theorem 1, means over pairs of inputs,

        squared_bias = ⟨[K̃_{1,p} − K_1]²⟩ / d²,        spread = ⟨K̃_{2,p} − K̃_{1,p}²⟩ / d² = n ⟨variance⟩.

    Args:
        pairs: By name of the inputs ("Gaussian", "MNIST"): a tuple (x, y) of arrays (pairs, d), or a
            list of such tuples of different dimensions d.
        density: Probabilities in (0, 1]; by default 25 from 0.05/d to 1, evenly spaced in log p.

    Returns:
        One row per inputs, dimension and density: columns `inputs`, `dimension`, `density`,
        `squared_bias`, `spread`.

    References:
        G21, Theorem 1, eqs. (1) and (10).

    Examples:
        >>> x, y = np.random.default_rng(0).normal(size=(2, 4, 5))
        >>> distance_table({"Gaussian": (x, y)}, density=[0.5, 1.0]).round(4)
             inputs  dimension  density  squared_bias  spread
        0  Gaussian          5      0.5        0.0001  0.1554
        1  Gaussian          5      1.0        0.0000  0.1042
    """
    tables = []
    for (name, d), (x, y) in _by_dimension(pairs).items():
        p = (
            np.geomspace(0.05 / d, 1, 25)
            if density is None
            else np.atleast_1d(np.asarray(density, dtype=float))
        )
        estimates = masked_kernels(x, y, density=p)
        columns = {
            "inputs": name,
            "dimension": d,
            "density": p,
            "squared_bias": np.mean((estimates.first_bias / d) ** 2, axis=0),
            "spread": np.mean(estimates.second - estimates.first**2, axis=0) / d**2,
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def _by_dimension(pairs: Pairs) -> dict[tuple[str, int], Pair]:
    found: dict[tuple[str, int], Pair] = {}
    for name, several in pairs.items():
        for x, y in [several] if isinstance(several, tuple) else several:
            d = int(np.shape(x)[-1])
            if (name, d) in found:
                raise ValueError(f"the inputs {name!r} must hold dimension {d} once, got it twice; join them")
            found[name, d] = x, y
    if not found:
        raise ValueError("pairs must be at least one pair of inputs, got none")
    return found


# -- the distance along n p = m ---------------------------------------------------------------


class _Theorem:
    """Theorem 1 for one kind of inputs, from the table's rows, by cubic splines in log p."""

    def __init__(self, rows: pd.DataFrame) -> None:
        rows = rows.sort_values("density", kind="stable")
        self.density = rows["density"].to_numpy(dtype=float)
        self.root_bias = np.sqrt(rows["squared_bias"].to_numpy(dtype=float))
        self.log_spread = np.log(rows["spread"].to_numpy(dtype=float))
        self.splines = [CubicSpline(np.log(self.density), v) for v in (self.root_bias, self.log_spread)]

    def __call__(self, width: Array, density: Array) -> KernelDistance:
        root_bias, log_spread = (spline(np.log(density)) for spline in self.splines)
        return KernelDistance(squared_bias=root_bias**2, variance=np.exp(log_spread) / width)


def _paper(dimension: int, width: Array, density: Array) -> KernelDistance:
    """Eq. (4) in its two parts: at infinite width only the squared bias is left."""
    total = paper_distance(width=width, density=density, dimension=dimension)
    squared_bias = paper_distance(width=np.inf, density=density, dimension=dimension)
    return KernelDistance(squared_bias=squared_bias, variance=total - squared_bias)


@dataclass(frozen=True, kw_only=True)
class _Minimum:
    width: float
    distance: float
    place: Literal["left", "inside", "right"]


def _minimum(widths: Array, total: Callable[[Array], Array]) -> _Minimum:
    """The lowest point between the first and the last width, and whether it is one of these."""
    lowest = int(np.argmin(total(widths)))
    bounds = np.log(widths[[max(lowest - 1, 0), min(lowest + 1, len(widths) - 1)]])
    found = minimize_scalar(
        lambda u: float(total(np.exp(u))), bounds=bounds, method="bounded", options={"xatol": 1e-9}
    )
    width = float(np.exp(found.x))
    place: Literal["left", "inside", "right"] = "inside"
    edges: tuple[tuple[float, Literal["left", "right"]], ...] = ((widths[0], "left"), (widths[-1], "right"))
    for edge, name in edges:
        if abs(np.log(width / edge)) < 1e-3:
            width, place = float(edge), name
    return _Minimum(width=width, distance=float(total(np.asarray(width))), place=place)


# -- words ------------------------------------------------------------------------------------


def _number(value: float) -> str:
    """Three significant digits, never in powers of ten."""
    value = float(f"{value:.3g}")
    return f"{value:,.0f}" if value >= 100 else np.format_float_positional(value, trim="-")


def _in_words(minimum: _Minimum, m: float) -> str:
    density, width = m / minimum.width, f"{minimum.width:,.0f}"
    if minimum.place == "right":
        return f"is still falling at width {width} (p = {_number(density)}), the widest shown"
    if minimum.place == "inside":
        return f"is smallest at width {_number(minimum.width)}, p* = {_number(density)}"
    if density > 1 - 1e-9:
        return f"is smallest at width {width}, p* = 1, the dense network"
    return f"is already rising at width {width} (p = {_number(density)}), the narrowest shown"


def _setting(inputs: str, d: int, m: int) -> str:
    return f"{inputs} inputs, d = {d:,}, m = {m:,} ({m * d:,} first-layer weights)"


def _readout(inputs: str, d: int, m: int, minima: Mapping[str, _Minimum]) -> str:
    simple = paper_minimiser(base_width=m, dimension=d)
    formula = f"p* = min(1, √(m/4d)) = {_number(simple)}, width {_number(m / simple)}"
    return (
        f"{_setting(inputs, d, m)}: by Theorem 1 the distance {_in_words(minima['exact'], m)}; "
        f"by the paper's eq. (4) it {_in_words(minima['paper'], m)}; "
        f"the paper's formula (25) gives {formula}."
    )


# -- the explorer in a static page ------------------------------------------------------------


class DistanceExplorerPage(ExplorerPage):
    """The kernel distance against width, to explore in a static page."""


def distance_explorer_page(table: pd.DataFrame) -> DistanceExplorerPage:
    """The kernel distance against width at a fixed number of weights, to explore without a kernel.

    Controls: inputs, input dimension d, base width m, range of widths, logarithmic axis. Shown: squared
    bias, variance and total by Theorem 1 (from the table) and by the paper's eq. (4), with their minimisers,
    also in words. The same table gives the same bytes.

    Args:
        table: As [`distance_table`][wsnlib.widgets.distance.distance_table] returns it; at least two
            densities for each inputs and dimension. Nothing is drawn outside its densities.

    Examples:
        >>> x, y = np.random.default_rng(0).normal(size=(2, 4, 5))
        >>> page = distance_explorer_page(distance_table({"Gaussian": (x, y)}))
        >>> page
        DistanceExplorerPage()
        >>> page.html.startswith("<div")
        True
    """
    _check(table)
    inputs: dict[str, dict[str, dict[str, list[float]]]] = {}
    for (name, d), rows in table.groupby(["inputs", "dimension"], sort=False):
        theorem = _Theorem(rows)
        slopes = [spline(np.log(theorem.density), 1) for spline in theorem.splines]
        inputs.setdefault(str(name), {})[str(d)] = {
            "density": _rounded(theorem.density),
            "root_bias": _rounded(theorem.root_bias),
            "root_bias_slope": _rounded(slopes[0]),
            "log_spread": _rounded(theorem.log_spread),
            "log_spread_slope": _rounded(slopes[1]),
        }
    data = {"inputs": inputs, "base_widths": BASE_WIDTHS, "widths": WIDTHS, "start": START}
    return DistanceExplorerPage(fill_template("distance.html", data))


def _rounded(values: Array) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


def _check(table: pd.DataFrame) -> None:
    if missing := [column for column in COLUMNS if column not in table]:
        raise ValueError(
            f"the table must have the columns {', '.join(COLUMNS)}, got none of {', '.join(missing)}"
        )
    if table.empty:
        raise ValueError("the table must have at least two densities, got no rows")
    numbers = table[["density", "squared_bias", "spread"]].to_numpy(dtype=float)
    low, high = [0, 0, 0], [1, np.inf, np.inf]
    fine = np.isfinite(numbers) & (numbers >= low) & (numbers <= high)
    fine[:, [0, 2]] &= numbers[:, [0, 2]] > 0
    if not fine.all():
        row, column = np.argwhere(~fine)[0]
        allowed = ("> 0 and ≤ 1", "a finite number ≥ 0", "a finite number > 0")[column]
        name = ("density", "squared_bias", "spread")[column]
        raise ValueError(f"{name} must be {allowed}, got {numbers[row, column]:g} in row {row}")
    for (inputs, d), rows in table.groupby(["inputs", "dimension"], sort=False):
        if len(rows) < 2 or rows["density"].duplicated().any():
            raise ValueError(
                f"{inputs}, dimension {d}, must have at least two densities, each once, got {len(rows)} "
                f"rows and {rows['density'].nunique()} densities"
            )


# -- the live explorer ------------------------------------------------------------------------

PARTS = {
    "squared_bias": ("squared bias", "#B84A00", 1.2),
    "variance": ("variance", "#0072B2", 1.2),
    "total": ("total", "#1A1A1A", 2.2),
}
SOURCES = {"exact": ("Theorem 1", "o", "#1A1A1A"), "paper": ("eq. (4)", "D", "white")}
DASHES = {"squared_bias": ":", "variance": "-.", "total": "--"}


NEEDS_KERNEL = (
    "These sliders need a running kernel: run this cell. If nothing moves then, the front end lacks the "
    "widget manager: <code>pip install ipywidgets</code> where Jupyter runs, and open the notebook again."
)
"""Shown in place of the live explorer where there is no widget manager, and in a stored page."""

KEEPS_KEYS = """<script>
document.currentScript.closest(".wsn-live")?.addEventListener("focusin", ({ target }) => {
  target.dataset.lmSuppressShortcuts = "";
});
</script>"""
"""Else Jupyter takes keys that are meant for a control; m makes Markdown of a cell. An output inside of a
widget is trusted, and attributes of what has the focus are all that Jupyter asks."""


def distance_explorer(inputs: pd.DataFrame | Pairs) -> ipywidgets.VBox:
    """The kernel distance against width at a fixed number of weights, for your own inputs; needs a kernel.

    The same controls, curves and sentence as
    [`distance_explorer_page`][wsnlib.widgets.distance.distance_explorer_page]. For pairs of inputs Theorem 1
    is evaluated when a dimension is first chosen, and kept; in a notebook the explorer is there meanwhile.

    Args:
        inputs: A table or pairs, as [`distance_table`][wsnlib.widgets.distance.distance_table] returns and
            takes them.

    Returns:
        A container to display. Its `figure` is the matplotlib figure shown, its `controls` are the widgets
        by name: `inputs`, `dimension`, `base_width`, `narrowest`, `widest`, `logarithmic`; its `readout`
        holds the sentence.

    Raises:
        ImportError: If ipywidgets is not installed.

    Examples:
        >>> x, y = np.random.default_rng(0).normal(size=(2, 4, 5))
        >>> explorer = distance_explorer({"Gaussian": (x, y)})
        >>> explorer.controls["base_width"].value = 16
        >>> explorer.readout.value[:55]
        'Gaussian inputs, d = 5, m = 16 (80 first-layer weights)'
    """
    try:
        import ipywidgets as ipw
    except ImportError as error:
        raise ImportError("ipywidgets is not installed; `pip install ipywidgets` brings it") from error

    theorems, known = _theorems(inputs)
    names = list(dict.fromkeys(name for name, _ in known))
    figure = Figure(figsize=(8, 4.8), dpi=100)
    whole = {"width": "100%", "max_width": "52rem"}
    image, readout = ipw.Image(format="png", layout=whole), ipw.HTML(layout=whole)
    readout.value = "Theorem 1 is being evaluated …"

    def labelled(control: Any, label: str) -> Any:
        control.description, control.style.description_width = label, "11rem"
        control.layout = whole
        return control

    def slider(label: str, values: Sequence[int], start: int) -> Any:
        options = [(f"{value:,}", value) for value in values]
        return labelled(ipw.SelectionSlider(options=options, value=start), label)

    controls = {
        "inputs": labelled(ipw.Dropdown(options=names), "Inputs"),
        "dimension": labelled(ipw.Dropdown(), "Input dimension d"),
        "base_width": slider("Base width m", BASE_WIDTHS, START["base_width"]),
        "narrowest": slider("Narrowest width shown", WIDTHS[:-1], START["narrowest"]),
        "widest": slider("Widest width shown", WIDTHS[1:], START["widest"]),
        "logarithmic": labelled(ipw.Checkbox(value=True), "logarithmic distance axis"),
    }
    controls["logarithmic"].style.description_width = "initial"

    def offer_dimensions(wanted: int) -> None:
        dimensions = [d for name, d in known if name == controls["inputs"].value]
        controls["dimension"].options = dimensions
        controls["dimension"].value = min(dimensions, key=lambda d: abs(np.log(d / wanted)))

    def update() -> None:
        name, d, m, *limits, logarithmic = (control.value for control in controls.values())
        if (name, d) not in theorems:
            theorems[name, d] = _Theorem(distance_table({name: known[name, d]}))
        theorem = theorems[name, d]
        figure.clear()
        readout.value = html.escape(_explore(figure, theorem, name, d, m, limits, logarithmic), quote=False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        image.value = buffer.getvalue()

    settled = True

    def change(event: dict[str, Any]) -> None:
        nonlocal settled
        if not settled:  # a change made below, on the way to the next update
            return
        settled = False
        narrowest, widest = controls["narrowest"], controls["widest"]
        if event["owner"] is controls["inputs"]:
            offer_dimensions(controls["dimension"].value)
        elif event["owner"] is narrowest and widest.value <= narrowest.value:
            widest.value = 2 * narrowest.value
        elif event["owner"] is widest and widest.value <= narrowest.value:
            narrowest.value = widest.value // 2
        settled = True
        update()

    offer_dimensions(START["dimension"])
    for control in controls.values():
        control.observe(change, names="value")
    script = {"output_type": "display_data", "data": {"text/html": KEEPS_KEYS}, "metadata": {}}
    keys = ipw.Output(outputs=(script,), layout={"display": "none"})
    box = ipw.VBox([*controls.values(), readout, keys, image]).add_class("wsn-live")
    box.figure, box.controls, box.readout = figure, controls, readout
    box._repr_mimebundle_ = lambda **_: {
        **ipw.VBox._repr_mimebundle_(box),
        "text/html": f"<p>{NEEDS_KERNEL}</p>",
    }
    _soon(update)
    return box


def _theorems(
    inputs: pd.DataFrame | Pairs,
) -> tuple[dict[tuple[str, int], _Theorem], Mapping[tuple[str, int], Any]]:
    """What is evaluated already, and all that can be, by inputs and dimension."""
    if not isinstance(inputs, pd.DataFrame):
        return {}, _by_dimension(inputs)
    _check(inputs)
    groups = inputs.groupby(["inputs", "dimension"], sort=False)
    found = {
        (str(rows["inputs"].iloc[0]), int(rows["dimension"].iloc[0])): _Theorem(rows) for _, rows in groups
    }
    return found, found


def _soon(update: Callable[[], None]) -> None:
    """After what a kernel is executing, so that it is displayed first; at once outside of one."""
    from IPython import get_ipython

    if getattr(get_ipython(), "kernel", None) is None:
        update()
    else:
        asyncio.get_running_loop().call_soon(update)


def _explore(
    figure: Figure, theorem: _Theorem, inputs: str, d: int, m: int, limits: Sequence[int], logarithmic: bool
) -> str:
    """Draw one setting and return its sentence."""
    shown = m / theorem.density[-1], m / theorem.density[0]
    first, last = max(limits[0], shown[0]), min(limits[1], shown[1])
    if not first < last:
        return (
            f"{_setting(inputs, d, m)}: no width from {limits[0]:,} to {limits[1]:,} can be shown; "
            f"the table holds widths {shown[0]:,.0f} to {shown[1]:,.0f}."
        )
    widths = np.geomspace(first, last, 241)
    curves = {"exact": theorem(widths, m / widths), "paper": _paper(d, widths, m / widths)}
    minima = {
        "exact": _minimum(widths, lambda n: theorem(n, m / n).total),
        "paper": _minimum(widths, lambda n: _paper(d, n, m / n).total),
    }
    ax = figure.subplots(gridspec_kw={"left": 0.09, "right": 0.87, "top": 0.87, "bottom": 0.31})
    for source, (name, marker, fill) in SOURCES.items():
        for part, (label, color, line) in PARTS.items():
            dash = "-" if source == "exact" else DASHES[part]
            values = getattr(curves[source], part)
            ax.plot(widths, values, ls=dash, color=color, linewidth=line, label=f"{label}, {name}")
        minimum = minima[source]
        place = {
            "right": "still falling",
            "left": "lowest at the left",
            "inside": f"width {minimum.width:,.0f}",
        }
        label = f"minimum, {name}: {place[minimum.place]}"
        point = [minimum.width], [minimum.distance]
        ax.plot(*point, marker, color="#1A1A1A", mfc=fill, ls="", clip_on=False, zorder=3, label=label)
    distances = [minimum.distance for minimum in minima.values()]
    ax.set_xscale("log")
    ax.set_xlim(first, last)
    ax.set_xlabel("width n")
    ax.set_ylabel("squared kernel distance")
    if logarithmic:
        ax.set_yscale("log")
        ax.set_ylim(min(distances) / 30, 1.5 * max(float(curve.total.max()) for curve in curves.values()))
    else:
        ax.set_ylim(0, 4 * max(distances))
    _name_curves(ax, last, {part: float(getattr(curves["exact"], part)[-1]) for part in PARTS})
    upper = ax.secondary_xaxis("top", functions=(lambda n: m / np.maximum(n, 1e-300),) * 2)
    upper.set_xlabel("density of the first layer p = m/n")
    figure.legend(loc="lower center", frameon=False, fontsize=8, ncols=2)
    return _readout(inputs, d, m, minima)


def _name_curves(ax: Axes, last: float, ends: Mapping[str, float]) -> None:
    """The name of each part beside the right end of its curve, none over another."""
    to_frame = ax.transData + ax.transAxes.inverted()
    heights = {part: float(to_frame.transform((last, max(end, 1e-300)))[1]) for part, end in ends.items()}
    floor = np.inf
    for part, height in sorted(heights.items(), key=lambda each: -each[1]):
        if 0 <= height <= 1:
            floor = min(height, floor - 0.06)
            name, color, _ = PARTS[part]
            ax.text(1.012, floor, name, color=color, va="center", transform=ax.transAxes)
