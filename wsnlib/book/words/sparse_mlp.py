"""What the page on sparse MLPs says of its results."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from wsnlib import book, experiments
from wsnlib.book import sparse_mlp as chapter
from wsnlib.book.sparse_mlp import Parameters
from wsnlib.estimates import Estimate

KINDS = {"relu": "ReLU", "linear": "linear"}
"""What activations are called in text."""

RULES = {
    "last layer thinned most": "a last layer at its smallest density",
    "uniform density": "a uniform density",
}
"""What rules of allocation are called in text."""


def summary(table: pd.DataFrame, p: Parameters, ours: Mapping[str, Estimate]) -> dict[str, str]:
    """The answer, the sentences of the summary and those of the grid, by their names in the text.

    Args:
        table: As `chapter.results` gives it.
        p: The parameters of the runs.
        ours: The estimates.
    """
    means = _of_cells(table)
    best = means.groupby("activation").idxmax().loc[p.activations]
    gains = {rule: chapter.rule_gains(table, p, over=rule) for rule in RULES}
    medians = dict.fromkeys(chapter.median_width(gain) for gain in gains.values() if len(gain.columns))
    at_median = f"{'width' if len(medians) == 1 else 'widths'} {book.listed(medians)}, the median"
    return {
        "answer": _answer(p, ours),
        "best_words": " ".join(
            f"The best {KINDS[a]} cell has width {w} and density {q:g}, with {means[a, w, q]:.1f} %."
            for a, w, q in best
        ),
        "lead_words": _lead(gains, at_median),
        "rule_words": _rules(ours, at_median),
        "epoch_words": _last_epoch(p, ours),
    }


def _of_cells(table: pd.DataFrame) -> pd.Series[float]:
    """Mean test accuracy in % by activation, width and density of the last layer."""
    cells = chapter.figure_5(table)
    return 100 * cells.groupby(["activation", "width", "density"])["test_accuracy"].mean()


def _answer(p: Parameters, ours: Mapping[str, Estimate]) -> str:
    """Whether wider networks with as many weights are better, by activation."""
    if max(p.widths) == p.base_width:
        return "No network wider than the dense one was trained here."
    by_sign = ("improves on", "falls short of", "does not measurably differ from")
    found = [
        book.said(
            f"A {kind} network of width {chapter.papers_width(p, activation)} "
            f"{book.by_sign(ours.get(f'{activation}-gain'), *by_sign)} the dense one of width "
            f"{p.base_width} with as many weights, a difference of {{}} points.",
            ours.get(f"{activation}-gain"),
            otherwise="",
        )
        for activation, kind in KINDS.items()
    ]
    return " ".join(filter(None, found))


def _lead(gains: Mapping[str, pd.DataFrame], at_median: str) -> str:
    """Where largest layer first leads most."""
    lead = {rule: points.mean() for rule, points in gains.items()}
    furthest = [
        f"at width {points.idxmax()} over {RULES[rule]} ({points.max():.2f} points)"
        for rule, points in lead.items()
        if points.notna().any()
    ]
    if not furthest:
        return "Without wider networks, rules cannot be compared."
    return (
        f"The advantage is largest {book.listed(furthest)}. One width can dominate a mean over widths, so "
        f"the claims are decided at {at_median}."
    )


def _rules(ours: Mapping[str, Estimate], at_median: str) -> str:
    """By how much largest layer first leads where the claims are decided."""
    thinnest, uniform = RULES.values()
    advantage = f"At {at_median}, the advantage of largest layer first is {{}} points over"
    return book.said(
        f"{advantage} {thinnest} and {{}} points over {uniform}.",
        ours.get("first-layer"),
        ours.get("allocation-best"),
        otherwise=book.said(
            f"{advantage} {uniform}.",
            ours.get("allocation-best"),
            otherwise="Without wider networks, rules cannot be compared.",
        ),
    )


def _last_epoch(p: Parameters, ours: Mapping[str, Estimate]) -> str:
    """The gains without a choice of the epoch."""
    found = [
        book.said(
            f"{{}} points ({KINDS[activation]})", ours.get(f"{activation}-gain/last epoch"), otherwise=""
        )
        for activation in p.activations
    ]
    if not any(found):
        return "No gain was measured here."
    chosen_on = "test" if p.preset == "faithful" else "validation"
    return (
        f"At the last epoch instead of the best one on the {chosen_on} images, the gains are "
        f"{book.listed(filter(None, found))}."
    )


def of_moments(means: pd.Series[float], p: Parameters) -> dict[str, str]:
    """Where the best width lies early and late in the training.

    Args:
        means: Test accuracy by activation, epoch and width.
        p: The parameters of the runs.
    """
    epochs = means.index.get_level_values("epoch")
    early, late = (
        {a: int(means[a, epoch].idxmax()) for a in p.activations} for epoch in (epochs.min(), epochs.max())
    )
    then, at_last = (
        book.listed(f"{width} ({KINDS[a]})" for a, width in best.items()) for best in (early, late)
    )
    rising = ": it rises in the course of training" if all(early[a] < late[a] for a in p.activations) else ""
    return {
        "moments_words": f"After the first epoch the best width is {then}, after the last {at_last}{rising}."
    }


def of_paths(at_width: pd.DataFrame) -> dict[str, str]:
    """Whether more paths from inputs to outputs mean a higher accuracy.

    Args:
        at_width: By activation and width: `rank`, the rank correlation of accuracy and paths over the
            densities of the last layer; `of density`, that of accuracy and density; `lacks`, by how many
            points the density with most paths falls short of the best; `apart`, whether the order by paths
            is another than that by density.
    """
    if not len(at_width):
        return {"paths_words": "Without wider networks there is nothing to correlate."}
    pairs, positive = book.counted(len(at_width), "pair"), int((at_width["rank"] > 0).sum())
    found = (
        "The rank correlation (Spearman) between accuracy and the number of paths, over the densities of "
        f"the last layer, is positive for {positive} of {pairs} of width and activation. The density with "
        f"the most paths is the best one for {int((at_width['lacks'] == 0).sum())} of them; elsewhere it is "
        f"within {at_width['lacks'].max():.2f} points of the best. "
    )
    apart = at_width[at_width["apart"] > 0]
    where = sorted(set(apart.index.get_level_values("width")))
    if not where:
        stays = (
            "The order by paths is that by the density of the last layer, which G21 finds should stay dense."
        )
        return {"paths_words": found + stays}
    by_paths, by_density = ((apart[each] > 0).sum() for each in ("rank", "of density"))
    found += (
        f"Only at width{'s' * (len(where) > 1)} {book.listed(where)} is the order by paths not that by the "
        "density of the last layer, which G21 finds should stay dense: there the correlation with paths is "
        f"positive for {by_paths} of {book.counted(len(apart), 'pair')}, that with the density for "
        f"{by_density}."
    )
    return {"paths_words": found}


def scope(table: pd.DataFrame, p: Parameters) -> dict[str, str]:
    """What was trained, and what limits the comparison; arguments as those of `summary`."""
    means, cells = _of_cells(table), chapter.figure_5(table)
    shown = cells[cells["test_accuracy"].notna()]
    above = 100 * (shown["test_accuracy"] - shown["test_accuracy_last"])
    optimistic = (
        f" On average that is {above.mean():.2f} points (at most {above.max():.2f}) above the last epoch."
    )
    noise = 100 * shown.groupby(["activation", "width", "density"])["test_accuracy"].std()
    return {
        "dense_accuracy": f"{means.xs(p.base_width, level='width').mean():.1f}",
        "best_accuracy": f"{means.max():.1f}",
        "num_weights": f"{sum(experiments.weights_per_layer(chapter.base(p)).values()):,}",
        "widths": book.listed(p.widths),
        "num_runs": book.counted(len(table), "training"),
        "num_seeds": book.counted(len(p.seeds), "seed"),
        "epochs": book.counted(p.epochs, "epoch"),
        "data_name": book.data_name(p.data_spec),
        "num_diverged": book.counted(int((table["status"] == "diverged").sum()), "run"),
        "of_faithful": optimistic * (p.preset == "faithful"),
        "of_clean": optimistic * (p.preset == "clean"),
        "seed_noise": "not known" if noise.isna().all() else f"{noise.mean():.2f} points",
    }
