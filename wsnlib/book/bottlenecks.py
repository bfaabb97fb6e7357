"""The chapter on linear and nonlinear bottlenecks: its parameters, trainings and estimates."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pandas as pd

from wsnlib import experiments, specs, sweeps
from wsnlib.book.resnet_sweep import (
    Cell,
    ResNetParameters,
    Weights,
    best_wider,
    by_family,
    cells_and_seeds,
    dense,
    less,
    mean_of,
    on_first_data,
    runs_on,
)
from wsnlib.estimates import Estimate, estimate
from wsnlib.store import Store

METHODS = {"ResNet18Spec": "original", "LinearBottleneck": "linear", "NonlinearBottleneck": "nonlinear"}
"""Name of each method by the class of the network."""

EQUAL = "linear, equal weights"
"""Linear bottlenecks with as many weights as the base; `"linear"` has those of the base at full rank."""

WIDENED: dict[str, Callable[[specs.ResNet18Spec, int], specs.ModelSpec]] = {
    "linear": lambda base, width: specs.LinearBottleneck(base, width=width, keeps="factorised_base"),
    EQUAL: lambda base, width: specs.LinearBottleneck(base, width=width),
    "nonlinear": lambda base, width: specs.NonlinearBottleneck(base, width=width),
}
"""The network of a base and a width, by method."""


class Parameters(ResNetParameters):
    """Parameters of the chapter `bottlenecks`: the networks of G21, Figure 3."""


def runs(p: Parameters) -> list[specs.Experiment]:
    """Original networks and those with linear and nonlinear bottlenecks (G21, Figure 3).

    Linear bottlenecks keep the number of weights of the base factorised at full rank, where the curves
    of the paper begin, and once more that of the base itself.
    """

    def networks(source: specs.DataSpec) -> list[specs.ModelSpec]:
        found: list[specs.ModelSpec] = []
        for base_width in p.base_widths:
            base, widths = dense(base_width, source), p.widths(base_width)
            found += [base]
            for method, network in WIDENED.items():
                found += [network(base, w) for w in widths if w > base_width or method != "nonlinear"]
        return found

    return runs_on(p, networks)


def stages(p: Parameters, store: Store) -> Iterator[list[specs.Run]]:
    """All runs; none depends on another."""
    yield list(runs(p))


def results(p: Parameters, store: Store) -> pd.DataFrame:
    """One row a run, with the columns of `resnet_sweep.by_family` and where it was made.

    The method of linear bottlenecks with as many weights as the base is `EQUAL`.
    """
    table = by_family(sweeps.table(runs(p), store=store, environment=True), METHODS)
    equal = (table["method"] == "linear") & (table["model.keeps"] == "base")
    table.loc[equal, "method"] = EQUAL
    return table


def estimates(table: pd.DataFrame, p: Parameters) -> dict[str, Estimate]:
    """Our estimate for each claim that the runs can decide, in points.

    Args:
        table: As `results` gives it.
        p: The parameters of the runs.
    """
    first = on_first_data(table)
    cells = cells_and_seeds(first)
    smallest, *larger = sorted(p.base_widths)

    def narrowest(method: str, base: int) -> Weights:
        return {(method, base, base): 1.0}

    def wider(method: str, base: int) -> list[Cell]:
        narrow, networks = dense(base, p.data_specs[p.data]), WIDENED[method]
        widths = [w for w in p.widths(base)[1:] if experiments.is_reachable(networks(narrow, w))]
        return [(method, base, width) for width in widths]

    def held_out(method: str, reference: str, base: int) -> Estimate:
        """The width that is best on the other seeds, less another method at the base width."""
        part = first[first["base"] == base]
        best = best_wider(part[(part["method"] == method) & (part["factor"] > 1)])
        start = part[(part["method"] == reference) & (part["factor"] == 1)].set_index("seed")["test_accuracy"]
        return estimate((100 * (best - start)).tolist())

    full, original = narrowest("linear", smallest), narrowest("original", smallest)
    found = {"reparametrisation": cells.contrast(less(full, original))}
    if linear := wider("linear", smallest):
        found |= {
            "linear-gain": cells.contrast(less(mean_of(linear), full)),
            "linear-gain/held-out best": held_out("linear", "linear", smallest),
            "linear-against-original": cells.largest([less({cell: 1.0}, original) for cell in linear]),
        }
    if equal := wider(EQUAL, smallest):
        found |= {
            "linear-gain/equal weights": cells.contrast(less(mean_of(equal), narrowest(EQUAL, smallest))),
            "linear-against-original/equal weights": cells.largest(
                [less({cell: 1.0}, original) for cell in equal]
            ),
        }
    for name, base in zip(("nonlinear-smallest", "nonlinear-larger"), [smallest, *larger], strict=False):
        if nonlinear := wider("nonlinear", base):
            found |= {
                name: cells.contrast(less(mean_of(nonlinear), narrowest("original", base))),
                f"{name}/held-out best": held_out("nonlinear", "original", base),
            }
    if larger:
        bases = (smallest, larger[0])
        there = {*linear, *wider("linear", larger[0])}
        pairs = [[("linear", b, p.widths_by_factor(b)[f]) for b in bases] for f in p.common_factors(bases)]
        if both := [pair for pair in pairs if there.issuperset(pair)]:
            wide = map(mean_of, zip(*both, strict=True))
            gains = [less(w, narrowest("linear", b)) for w, b in zip(wide, bases, strict=True)]
            found["linear-smaller-more"] = cells.contrast(less(*gains))
    return found
