"""What the page on kernels says of its results."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from wsnlib import book
from wsnlib.book import gp_kernel as chapter
from wsnlib.book.gp_kernel import Runs
from wsnlib.estimates import estimate, median_and_range, shown
from wsnlib.kernels import paper_minimiser


def summary(
    measured: pd.DataFrame,
    drawn: pd.Series[float],
    trained: pd.DataFrame,
    plan: Runs,
    verdicts: book.PageVerdicts,
) -> dict[str, str]:
    """The answer and the sentences of the summary, by their names in the text.

    Args:
        measured: As `Runs.distances` gives it.
        drawn: As `Runs.simulated_distances` gives it.
        trained: As `Runs.accuracies` gives it.
        plan: The runs of all.
        verdicts: Of the page, with its estimates.
    """
    ours, smallest, simulated = verdicts.ours, _smallest(measured, trained, plan), _simulated(drawn, plan)
    return {
        "answer": f"{_conclusion(measured, trained, plan)} {smallest} {simulated}",
        "minimum_words": smallest,
        "scaling_words": simulated,
        "theory_words": book.said(
            "Simulated networks have {} times the mean-square distance of Theorem 1.",
            ours.get("theorem-1"),
            otherwise="",
        ),
        "correlation_words": book.said(
            "The correlation over widths between distance and test error is {} with the logarithm of the "
            "distance as the released code draws, {} with that of *allocation*, as the trained networks "
            "are drawn, {} with the distance of the released code itself, and {} with the logarithm of "
            "Theorem 1's.",
            ours.get("correlation"),
            ours.get("correlation/allocation"),
            ours.get("correlation/linear"),
            ours.get("correlation/Theorem 1"),
            otherwise="With so few widths there is no correlation to compute.",
        ),
        **{f"{name.replace('-', '_')}_verdict": str(verdicts[name]) for name in verdicts.claims},
    }


def _width_by_theorem(measured: pd.DataFrame, plan: Runs) -> tuple[float, bool]:
    """The width at which Theorem 1's distance is smallest on images, and whether the scan ends there."""
    images, _ = plan.sources
    best = float(chapter.minimisers(measured, plan).loc[images]["exact"].median())
    return plan.p.base_width / best, best < 1.01 * plan.grid.min()


def _error(trained: pd.DataFrame, plan: Runs) -> pd.Series[float]:
    """Mean test error in % of the sparse networks and the dense base, by width."""
    return 100 - 100 * chapter.sparse_family(trained, plan.p).groupby("width")["test_accuracy"].mean()


def _conclusion(measured: pd.DataFrame, trained: pd.DataFrame, plan: Runs) -> str:
    """Whether Theorem 1's smallest distance and the smallest test error are at similar widths."""
    (width, _), may_be_best = _width_by_theorem(measured, plan), chapter.accurate_widths(trained, plan.p)
    ends = np.array([may_be_best.low, may_be_best.high])
    near = abs(np.log2(width / ends)) <= 1
    if near.all():
        return "Theorem 1 does not contradict this."
    outside = width < ends[0] or width > ends[1]
    if outside and not near.any() and ends[1] < _error(trained, plan).index.max():
        return (
            "Theorem 1 does not support this: its smallest distance and the smallest test error are not at "
            "similar widths."
        )
    return (
        "Whether Theorem 1 supports this is open: these runs do not tell well enough which width is the "
        "most accurate."
    )


def _smallest(measured: pd.DataFrame, trained: pd.DataFrame, plan: Runs) -> str:
    """Where Theorem 1's distance and where the test error is smallest."""
    (width, at_end), error = _width_by_theorem(measured, plan), _error(trained, plan)
    lowest = (
        f"still falls at width {width:,.0f}, the end of the scan"
        if at_end
        else f"is smallest at width {width:,.0f}"
    )
    images, _ = plan.sources
    end = ", the widest trained" if error.idxmin() == error.index.max() else ""
    return (
        f"By Theorem 1 the distance on {images} {lowest}, and the trained networks have their smallest test "
        f"error at width {error.idxmin():g}{end}."
    )


def _simulated(drawn: pd.Series[float], plan: Runs) -> str:
    """Where the distance of simulated networks is smallest, by how they are drawn."""
    by_reading = drawn.groupby(["reading", "width"]).mean().unstack("reading")
    lows = {name: by_reading[name].idxmin() for name in plan.readings}
    return (
        f"The distance of simulated networks is smallest at width {lows['released code']} if they are drawn "
        f"as the released code does, at width {lows['allocation']} with largest layer first, as those "
        f"trained here, and at width {lows['allocation, σ² by connectivity']} with the same masks if the "
        "weights are scaled by the connectivity of the whole network; the widest simulated is "
        f"{max(plan.p.widths)}."
    )


def of_theory(measured: pd.DataFrame, drawn: pd.Series[float], plan: Runs) -> dict[str, str]:
    """How well Theorem 1 and its closed forms hold; arguments as those of `summary`."""
    p_star = paper_minimiser(base_width=plan.p.base_width, dimension=plan.inputs)
    images, _ = plan.sources
    in_experiment = shown(estimate(chapter.eq_4_in_experiment(drawn, plan).tolist()))
    return {
        "theorem_ratio": shown(estimate(chapter.theorem_ratios(measured, drawn, plan).tolist())),
        "breakdown_words": _breakdown(measured, plan, p_star),
        "experiment_words": f"On {images}, at widths with at least as many weights per unit as at $p^*$ "
        f"({p_star * plan.inputs:.0f}), equation (4) gives {in_experiment} times the distance as the "
        "released code draws the networks: it is derived for independent Gaussian inputs.",
        "range_words": _corrected(measured, plan),
    }


def _breakdown(measured: pd.DataFrame, plan: Runs, p_star: float) -> str:
    """How far equation (4) is off at the paper's p*, and from where on it is accurate."""
    ratios, gaussian = chapter.eq_4_ratios(measured, plan), _on_grid(measured, plan, "Gaussian")
    off = float(chapter.eq_4_at_minimiser(ratios, plan).mean())
    at = gaussian.iloc[int((gaussian["density"] - p_star).abs().argmin())]
    bias = (at["density"] ** -0.5 - 1) ** 2 / (16 * plan.inputs)
    because = ""
    if off > 1.25 and bias > 10 * at["squared_bias"] > 0:
        least = 10 ** int(math.log10(bias / at["squared_bias"]))
        because = (
            f", because its squared bias is more than {least:,} times too large there: it gives the cosine "
            "of the angle the same sign under every mask"
        )
    said = (
        f"At the paper's own $p^*$, {p_star * plan.inputs:.0f} weights per unit, its equation (4) gives "
        f"{off:.2f} times the distance of Theorem 1 on Gaussian inputs{because}."
    )
    accurate = median_and_range(chapter.agrees_from(ratios, plan).tolist())
    if not math.isfinite(accurate.high):
        return said
    return (
        f"{said} Equation (4) is within *25 %* from {shown(accurate)} weights per unit on (median and range "
        "over seeds, on the grid of densities)."
    )


def _corrected(measured: pd.DataFrame, plan: Runs) -> str:
    """Down to which density the corrected closed form is accurate."""
    found = {}
    for source in plan.sources:
        rows = _on_grid(measured, plan, source)
        width = plan.p.base_width / rows["density"]
        exact = chapter.distance_by_theorem(rows, width)
        corrected = chapter.distance_by_theorem(rows, width, corrected=True)
        found[source] = float(rows["density"][abs(corrected / exact - 1) <= 0.1].min())
    ends = [f"{q:.2g} ({source}, {q * plan.inputs:.2g} weights per unit)" for source, q in found.items()]
    return (
        "The corrected closed form, equation (2) of the appendix, is within *10 %* of Theorem 1 down to a "
        f"density of {book.listed(ends)}."
    )


def _on_grid(measured: pd.DataFrame, plan: Runs, source: str) -> pd.DataFrame:
    """Means over seeds at the densities of the curves, on one source of inputs."""
    rows = measured[measured["density"].isin(plan.grid) & (measured["source"] == source)]
    return rows.groupby("density").mean(numeric_only=True).reset_index()


def scope(trained: pd.DataFrame, plan: Runs) -> dict[str, str]:
    """What was trained and simulated; arguments as those of `summary`."""
    p = plan.p
    differ = [width for width in p.widths if plan.allocated[width] != plan.released[width]]
    images, _ = plan.sources
    return {
        "accuracy": book.span(100 - _error(trained, plan), "{:.1f}"),
        "data_name": images,
        "num_train": f"{p.train_size:,}" if p.train_size else "all",
        "epochs": book.counted(p.epochs, "epoch"),
        "num_seeds": book.counted(len(p.seeds), "seed"),
        "batch_size": str(p.batch_size),
        "differ_from": f"from width {min(differ)} on" if differ else "at no width here",
        "normalised": "by pixel" if p.normalisation == "pixelwise" else "as a whole",
        "num_pairs": f"{p.num_pairs * len(p.seeds):,}",
    }
