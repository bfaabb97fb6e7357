"""What the page on a network of one's own says of its results."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from wsnlib import book
from wsnlib.book.your_network import Parameters
from wsnlib.estimates import Estimate


def summary(
    results: pd.DataFrame, p: Parameters, *, gains: Mapping[str, Estimate], layers: pd.DataFrame
) -> dict[str, str]:
    """The answer and what layers keep, by their names in the text.

    Args:
        results: One row a run, with its `kind` and `width`.
        p: The parameters of the runs.
        gains: Points of test accuracy of the widest network above the base, by kind.
        layers: By kind of layer, `density`, `share of dense` and `share of kept` of the widest network.
    """
    widest, wide = results[results["width"] == p.widths[-1]], f"{p.width_option} {p.widths[-1]:g}"
    ways = {
        "largest layer first": f"Widening to {wide} at the base's number of weights",
        "dense, as wide": "The same widening without a limit on the weights",
    }
    effects = (_effect(way, gains[kind], widest[widest["kind"] == kind]) for kind, way in ways.items())
    depthwise = layers.reindex(["depthwise"]).fillna(0).iloc[0]
    return {
        "answer": book.said(
            " ".join(effects), *(gains[kind] for kind in ways), otherwise="The networks were not measured."
        ),
        "linear_density": f"{100 * layers['density'].get('linear', 1.0):.1f}",
        "depthwise_dense": f"{100 * depthwise['share of dense']:.0f}",
        "depthwise_kept": f"{100 * depthwise['share of kept']:.0f}",
    }


def _effect(way: str, gain: Estimate, part: pd.DataFrame) -> str:
    """What a way of widening does to the test accuracy, if the seeds say it."""
    if verb := book.by_sign(gain, "improves", "harms", ""):
        return f"{way} {verb} test accuracy: {{}} points."
    reached = 100 * part["test_accuracy"]
    single = f"; single runs reach {reached.min():.1f} to {reached.max():.1f} %" if len(part) > 1 else ""
    seeds = book.counted(len(part), "seed")
    return f"{way} has an effect on test accuracy that {seeds} cannot resolve: {{}} points{single}."


def scope(results: pd.DataFrame, p: Parameters) -> dict[str, str]:
    """What was trained; arguments as those of `summary`."""
    narrow = results[results["width"] == p.base_width]
    return {
        "num_runs": book.counted(len(results), "training"),
        "network": p.factory.rpartition(".")[2],
        "data_name": p.data,
        "epochs": book.counted(p.epochs, "epoch"),
        "base_accuracy": f"{100 * narrow['test_accuracy'].mean():.1f}",
        "base_weights": f"{narrow['num_weights'].iloc[0]:,}",
        "num_seeds": book.counted(len(p.seeds), "seed"),
        "learning_rate": f"{p.learning_rate:g}",
    }
