"""What the page on bottlenecks says of its results."""

from __future__ import annotations

import math

import pandas as pd

from wsnlib import book
from wsnlib.book.bottlenecks import Parameters
from wsnlib.book.resnet_sweep import cells_and_seeds, on_first_data

EFFECT = ("raises", "lowers", "has an undecided effect on")
"""By the sign of a difference in accuracy."""


def summary(table: pd.DataFrame, p: Parameters, verdicts: book.PageVerdicts) -> dict[str, str]:
    """The answer and the sentences of the summary, by their names in the text.

    Args:
        table: As `chapter.results` gives it.
        p: The parameters of the runs.
        verdicts: Of the page, with its estimates.
    """
    said = {**_linear(table, p, verdicts), **_nonlinear(p, verdicts)}
    answer = (said[name] for name in ("linear", "linear_best", "nonlinear"))
    return said | {
        "answer": " ".join(filter(None, answer)),
        "noise_words": _noise(table),
        "exploratory_words": _exploratory(verdicts),
    }


def _linear(table: pd.DataFrame, p: Parameters, verdicts: book.PageVerdicts) -> dict[str, str]:
    """Factorising, and widening what is factorised."""
    ours, base, first = verdicts.ours, min(p.base_widths), on_first_data(table)
    narrow = first[(first["base"] == base) & (first["factor"] == 1)]
    weights = narrow.groupby("method")["num_weights"].first()
    more = 100 * (weights["linear"] / weights["original"] - 1)
    cost, gain, best = (
        ours.get(name) for name in ("reparametrisation", "linear-gain", "linear-against-original")
    )
    return {
        "reparametrisation": book.said(
            "Replacing each convolution by a product of two at full rank, before any widening, "
            f"{book.by_sign(cost, *EFFECT)} test accuracy (base width {base}): {{}} points.",
            cost,
            otherwise="The cost of factorising was not measured.",
        ),
        "linear": book.said(
            f"From base width {base}, factorised at full rank, widening with linear bottlenecks at a "
            f"constant {weights['linear']:,.0f} weights {book.by_sign(gain, *EFFECT)} test accuracy: {{}} "
            "points on average.",
            gain,
            otherwise="No wider network was trained here with linear bottlenecks.",
        ),
        "equal_weights": book.said(
            f"That is {more:.0f} % more weights than the original has; with its {weights['original']:,.0f} "
            "weights, widening changes accuracy by {} points, and the best width with "
            f"{weights['linear']:,.0f}, chosen on other seeds, by {{}}. That accuracy rises with width: "
            f"{verdicts['linear-gain']}.",
            ours.get("linear-gain/equal weights"),
            ours.get("linear-gain/held-out best"),
            otherwise="",
        ),
        "linear_best": book.said(
            f"The best of the wider ones is {book.by_sign(best, 'above', 'below', 'not told from')} the "
            "original network: {} points.",
            best,
            otherwise="",
        ),
    }


def _nonlinear(p: Parameters, verdicts: book.PageVerdicts) -> dict[str, str]:
    """Widening with nonlinear bottlenecks, by the size of the network."""
    base, *others = sorted(p.base_widths)
    small = verdicts.ours.get("nonlinear-smallest")
    return {
        "nonlinear": book.said(
            "Widening with nonlinear bottlenecks "
            f"{book.by_sign(small, 'improves', 'harms', 'has an undecided effect on')} the smallest network "
            f"(base width {base}): {{}} points.",
            small,
            otherwise="No wider network was trained here with nonlinear bottlenecks.",
        ),
        "nonlinear_larger": book.said(
            f"The next larger one (base width {book.listed(others[:1])}) changes by {{}} points.",
            verdicts.ours.get("nonlinear-larger"),
            otherwise="",
        ),
    }


def _noise(table: pd.DataFrame) -> str:
    noise = cells_and_seeds(on_first_data(table)).deviation
    if math.isnan(noise):
        return "The noise between seeds is not known here."
    return (
        f"The standard deviation of a single run is {noise:.2f} points, so differences of a few points "
        "between single runs cannot be told from noise; means over several runs are known more precisely."
    )


def _exploratory(verdicts: book.PageVerdicts) -> str:
    """How many claims were fixed or changed after a result had been seen."""
    flagged = sum(bool(claim.exploratory) for claim in verdicts.claims.values())
    if not flagged:
        return (
            "Ranges, quantities, intervals and data were fixed before a result of these networks was seen; "
            "smaller ones, of 5,000 images, had been seen."
        )
    return (
        f"Of the {book.counted(len(verdicts.claims), 'claim')} of this page, {flagged} "
        f"{'is' if flagged == 1 else 'are'} *exploratory*: range, quantity, interval or data were fixed or "
        "changed after a result of these networks had been seen (the appendix of the scorecard says what)."
    )


def scope(table: pd.DataFrame, p: Parameters) -> dict[str, str]:
    """What was trained, and what is planned; arguments as those of `summary`."""
    first = on_first_data(table)
    reached = 100 * first[first["method"] == "original"].groupby("base")["test_accuracy"].mean()
    taken = "all" if p.train_size is None else f"{p.train_size:,}"
    sets = book.listed(map(book.data_name, p.data_specs.values()))
    return {
        "num_runs": book.counted(len(table), "training"),
        "base_widths": f"base width{'s' * (len(p.base_widths) > 1)} {book.listed(p.base_widths)}",
        "images": f"{taken} training images of {sets}",
        "epochs": book.counted(p.epochs, "epoch"),
        "accuracy": book.span(reached, "{:.1f}"),
        "num_seeds": book.counted(len(p.seeds), "seed"),
        "planned": _planned(p),
        "num_diverged": book.counted(int((table["status"] == "diverged").sum()), "run"),
    }


def _planned(p: Parameters) -> str:
    trained = {
        "five seeds": len(p.seeds) > 4,
        "a widening factor of 4": max(p.widening_factors) > 3,
        "a base width of 12": len(p.base_widths) > 1,
    }
    left = [name for name, there in trained.items() if not there]
    if not left or p.profile != "cpu":
        return ""
    return f"\n- What is planned next stands in `params/planned/bottlenecks.cpu.yml`: {book.listed(left)}."
