"""The chapter on linear and nonlinear bottlenecks: its parameters, trainings and estimates."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from wsnlib import specs, sweeps
from wsnlib.book.resnet_sweep import (
    ResNetParameters,
    best_wider,
    by_family,
    dense,
    on_first_data,
    runs_on,
)
from wsnlib.estimates import Estimate, estimate
from wsnlib.store import Store

METHODS = {"ResNet18Spec": "original", "LinearBottleneck": "linear", "NonlinearBottleneck": "nonlinear"}
"""Name of each method by the class of the network."""


class Parameters(ResNetParameters):
    """Parameters of the chapter `bottlenecks`: the networks of G21, Figure 3."""


def runs(p: Parameters) -> list[specs.Experiment]:
    """Original networks and those with linear and nonlinear bottlenecks (G21, Figure 3)."""

    def networks(source: specs.DataSpec) -> list[specs.ModelSpec]:
        found: list[specs.ModelSpec] = []
        for base_width in p.base_widths:
            base, widths = dense(base_width, source), p.widths(base_width)
            full = specs.LinearBottleneck(base, width=base_width, keeps="factorised_base")
            found += [base, full]
            found += [specs.LinearBottleneck(base, width=w) for w in widths]
            found += [specs.NonlinearBottleneck(base, width=w) for w in widths[1:]]
        return found

    return runs_on(p, networks)


def stages(p: Parameters, store: Store) -> Iterator[list[specs.Run]]:
    """All runs; none depends on another."""
    yield list(runs(p))


def results(p: Parameters, store: Store) -> pd.DataFrame:
    """One row a run, with the columns of `resnet_sweep.by_family` and where it was made.

    The method of linear bottlenecks with the weights of the factorised base is `"linear, full rank"`.
    """
    table = by_family(sweeps.table(runs(p), store=store, environment=True), METHODS)
    table.loc[table["model.keeps"] == "factorised_base", "method"] = "linear, full rank"
    return table


def estimates(table: pd.DataFrame, p: Parameters) -> dict[str, Estimate]:
    """Our estimate for each claim that the runs can decide: differences in points, paired by seed.

    Args:
        table: As `results` gives it.
        p: The parameters of the runs.
    """
    first = on_first_data(table)

    def of(base: int, method: str) -> pd.DataFrame:
        return first[(first["base"] == base) & (first["method"] == method)]

    def narrowest(base: int, method: str) -> pd.Series[float]:
        part = of(base, method)
        return 100 * part[part["factor"] == 1].set_index("seed")["test_accuracy"]

    def best(base: int, method: str) -> pd.Series[float]:
        part = of(base, method)
        return 100 * best_wider(part[part["factor"] > 1])

    smallest, *larger = sorted(p.base_widths)
    original = narrowest(smallest, "original")
    gain = best(smallest, "linear") - narrowest(smallest, "linear")
    differences = {
        "linear-gain": gain,
        "reparametrisation": narrowest(smallest, "linear, full rank") - original,
        "linear-against-original": best(smallest, "linear") - original,
        "nonlinear-smallest": best(smallest, "nonlinear") - original,
    }
    if larger:
        next_base = larger[0]
        differences |= {
            "nonlinear-larger": best(next_base, "nonlinear") - narrowest(next_base, "original"),
            "linear-smaller-more": gain - (best(next_base, "linear") - narrowest(next_base, "linear")),
        }
    return {name: estimate(points.tolist()) for name, points in differences.items()}
