"""The chapter on sparse MLPs: its parameters, trainings and estimates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from math import log, prod
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from wsnlib import data, experiments, specs, sweeps
from wsnlib.book.engine import parameters as fields
from wsnlib.estimates import CellsAndSeeds, Estimate, estimate, exact_range, held_out_best
from wsnlib.store import Store


class Parameters(fields.ChapterParameters):
    """Parameters of the chapter `sparse_mlp`: the networks of G21, Figure 5, and their training."""

    base_width: fields.PositiveInt = 5
    widths: list[fields.PositiveInt] = Field(
        [5, 10, 20, 40], min_length=1, description="a list of integers of at least the base width"
    )
    last_layer_densities: list[fields.Density] = Field(
        [0.5, 1.0], min_length=1, description="a list of numbers > 0 and ≤ 1"
    )
    activations: list[Literal["relu", "linear"]] = Field(
        ["relu", "linear"], min_length=1, description="a list of 'relu' and 'linear'"
    )
    seeds: fields.Seeds = Field([0])
    epochs: fields.PositiveInt = 10
    batch_size: fields.PositiveInt = 100
    learning_rate: fields.PositiveFloat = 0.1

    def model_post_init(self, context: Any) -> None:
        """Check what concerns several parameters at once."""
        self._check_widths(self.widths, self.base_width)
        if 1.0 not in self.last_layer_densities:
            raise ValueError(
                f"last_layer_densities must be a list that holds 1.0, got {self.last_layer_densities}"
            )
        _ = self.data_spec

    @property
    def data_spec(self) -> specs.DataSpec:
        """The data set; only the clean preset sets validation images aside."""
        return self._data_spec()

    @property
    def training(self) -> specs.Training:
        """The protocol; the presets differ in the epoch they report, best on test or on validation."""
        return self._training(report=self._report)

    @property
    def same_data(self) -> bool:
        """Whether networks and data are those of G21, Figure 5 (MNIST, base width 5)."""
        return self.data == "mnist" and self.base_width == 5

    @property
    def full_protocol(self) -> bool:
        """Whether the training is that of G21, Appendix A (300 epochs or more, batch 100, rate 0.1)."""
        return self.epochs >= 300 and self.batch_size == 100 and self.learning_rate == 0.1


def base(p: Parameters) -> specs.MLPSpec:
    """The dense network, whose number of weights all have."""
    inputs, classes = prod(data.image_shape(p.data_spec)), data.num_classes(p.data_spec)
    return specs.MLPSpec(width=p.base_width, inputs=inputs, outputs=classes)


def runs(p: Parameters) -> list[specs.Experiment]:
    """Every activation, width, rule of allocation and seed for which there is a network.

    Examples:
        >>> len(runs(Parameters(widths=[5, 10], seeds=[0, 1])))
        28
    """
    dense = base(p)
    rules: list[specs.LastLayerDensity | specs.LargestFirst | specs.UniformDensity] = [
        *(specs.LastLayerDensity(density=q) for q in p.last_layer_densities),
        specs.LargestFirst(),
        specs.UniformDensity(),
    ]
    models = [
        specs.StaticSparsity(replace(dense, activation=activation), width=width, allocation=rule)
        for activation, width, rule in product(p.activations, p.widths, rules)
    ]
    return [
        specs.Experiment(model=model, data=p.data_spec, training=p.training, seed=seed)
        for seed, model in product(p.seeds, models)
        if experiments.is_reachable(model)
    ]


def stages(p: Parameters, store: Store) -> Iterator[list[specs.Run]]:
    """All runs; none depends on another."""
    yield list(runs(p))


def results(p: Parameters, store: Store) -> pd.DataFrame:
    """One row a run with its `width`, `activation`, `rule` and, by that, `density` of the last layer.

    Raises:
        ValueError: If all networks of an activation diverged.
    """
    names = {
        "model.width": "width",
        "model.base.activation": "activation",
        "model.allocation": "rule",
        "model.allocation.density": "density",
    }
    table = sweeps.table(runs(p), store=store, environment=True).rename(columns=names)
    for activation, finished in (table["status"] == "finished").groupby(table["activation"]):
        if not finished.any():
            raise ValueError(
                f"learning_rate must be one at which networks train, got {p.learning_rate:g}, at which all "
                f"{activation} ones diverged; lower it"
            )
    return table


def figure_5(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of Figure 5: those with a given density of the last layer."""
    return table[table["rule"] == "LastLayerDensity"]


PAPERS_WIDTHS = {"relu": (80, 160), "linear": (40,)}
"""The best widths by activation, as G21 prints them (Section 2.3 and Appendix A)."""


def papers_width(p: Parameters, activation: str) -> int:
    """G21's first best width, or the nearest of those that are wider than the base and trained."""
    wider = [w for w in p.widths if w > p.base_width] or p.widths
    return min(wider, key=lambda w: abs(log(w / PAPERS_WIDTHS[activation][0])))


def papers_best(
    table: pd.DataFrame, p: Parameters, *, activation: str, last_epoch: bool = False
) -> pd.DataFrame:
    """Test accuracy in % by seed of the dense network, and at G21's best width, largest layer first.

    Where that width was not trained, the nearest that is wider than the base stands for it.

    Args:
        table: As `results` gives it.
        p: The parameters of the runs.
        activation: `"relu"` or `"linear"`.
        last_epoch: Whether the last epoch is read instead of the one that is best on test.

    Returns:
        The columns `dense`, `wide` and `gain`, one row a seed.
    """
    width = papers_width(p, activation)
    part = table[(table["activation"] == activation) & (table["rule"] == "LargestFirst")]
    value = "test_accuracy_last" if last_epoch else "test_accuracy"
    accuracy = 100 * part.pivot(index="seed", columns="width", values=value)
    found = pd.DataFrame({"dense": accuracy[p.base_width], "wide": accuracy[width]})
    return found.assign(gain=found["wide"] - found["dense"])


def widened(table: pd.DataFrame, p: Parameters) -> dict[str, pd.DataFrame]:
    """Test accuracy and weights of each layer against width, largest layer first, by activation.

    As `wsn.widgets.widening_explorer_page` takes them.
    """
    found: dict[str, pd.DataFrame] = {}
    for activation in p.activations:
        part = table[(table["activation"] == activation) & (table["rule"] == "LargestFirst")]
        kept = part.groupby("width")[["weights.hidden1", "weights.output"]].first()
        curve = sweeps.summarise(part, by="width")[["mean", "low", "high"]]
        found[activation] = curve.assign(first=kept["weights.hidden1"], last=kept["weights.output"])
    return found


def held_out_cells(table: pd.DataFrame, *, activation: str) -> pd.Series[float]:
    """Test accuracy in % of each seed in the cell of Figure 5 that is best on the other seeds."""
    cells = figure_5(table)
    chosen = held_out_best(cells[cells["activation"] == activation], cell=["width", "density"])
    return 100 * chosen.set_index("seed")["test_accuracy"]


def not_below_best(table: pd.DataFrame, *, activation: str, by: str) -> Estimate:
    """Which widths, or last layer's densities, may be best in Figure 5, each with its best of the other.

    Args:
        table: As `results` gives it.
        activation: `"relu"` or `"linear"`.
        by: `"width"` or `"density"`.
    """
    cells = figure_5(table)
    part = cells[cells["activation"] == activation]
    accuracy = 100 * part.pivot(index=["width", "density"], columns="seed", values="test_accuracy")
    means = accuracy.mean(axis=1, skipna=False).fillna(-np.inf)
    values = means.index.get_level_values(by)
    best = {means[values == value].idxmax(): value for value in values.unique()}
    return CellsAndSeeds(accuracy).not_below_best(best, chosen_from=len(means))


def follows_rule(table: pd.DataFrame, p: Parameters) -> dict[str, pd.Series[bool]]:
    """Which rows follow each rule of allocation that is compared; the dense network once each."""
    largest, thinnest = table["rule"] == "LargestFirst", table["density"] == min(p.last_layer_densities)
    return {
        "largest layer first": largest,
        "uniform density": table["rule"] == "UniformDensity",
        "last layer thinned most": thinnest.where(table["width"] > p.base_width, largest),
    }


def rule_gains(table: pd.DataFrame, p: Parameters, *, over: str) -> pd.DataFrame:
    """Points of *largest layer first* above another rule, mean over activations, by seed and width.

    Only widths that have both rules have a column.
    """
    wider = table[table["width"] > p.base_width]
    first, other = (
        wider[follows_rule(wider, p)[rule]].set_index(["seed", "activation", "width"])["test_accuracy"]
        for rule in ("largest layer first", over)
    )
    points = 100 * first.sub(other).dropna()
    return points.groupby(["seed", "width"]).mean().unstack("width")


def median_width(gains: pd.DataFrame) -> int:
    """The width at which the claims on rules are decided: the middle one, of two the lower.

    Args:
        gains: As `rule_gains` gives it, with one column or more.
    """
    return int(gains.columns[(len(gains.columns) - 1) // 2])


def papers_weights(p: Parameters) -> list[int]:
    """Weights of the networks of Figure 5 in a profile's widths: base width 5, MNIST."""
    dense = specs.MLPSpec(width=5, inputs=784, outputs=10)
    rules: list[specs.LastLayerDensity | specs.LargestFirst] = [specs.LargestFirst()]
    rules += [specs.LastLayerDensity(density=q) for q in p.last_layer_densities]
    models: list[specs.ModelSpec] = [dense]
    for width, rule in product(p.widths, rules):
        if width >= dense.width:
            models.append(specs.StaticSparsity(dense, width=width, allocation=rule))
    reachable = [m for m in models if experiments.is_reachable(m)]
    return [sum(experiments.weights_per_layer(m).values()) for m in reachable]


def estimates(table: pd.DataFrame, p: Parameters) -> dict[str, Estimate]:
    """Our estimate for each claim that the runs can decide.

    Args:
        table: As `results` gives it.
        p: The parameters of the runs.
    """
    found = {"num-weights": exact_range(papers_weights(p))}
    rules = {"first-layer": "last layer thinned most", "allocation-best": "uniform density"}
    for name, rule in rules.items():
        points = rule_gains(table, p, over=rule)
        if points.columns.empty or (name == "first-layer" and min(p.last_layer_densities) == 1):
            continue
        found[name] = estimate(points[median_width(points)].tolist())
        found[f"{name}/mean over widths"] = estimate(points.mean(axis=1, skipna=False).tolist())
    for activation in p.activations:
        best = papers_best(table, p, activation=activation)
        last = papers_best(table, p, activation=activation, last_epoch=True)
        chosen = held_out_cells(table, activation=activation)
        found[f"{activation}-baseline"] = estimate(best["dense"].tolist())
        if max(p.widths) == p.base_width:
            continue
        found |= {
            f"{activation}-best": estimate(best["wide"].tolist()),
            f"{activation}-best/held-out best": estimate(chosen.tolist()),
            f"{activation}-gain": estimate(best["gain"].tolist()),
            f"{activation}-gain/held-out best": estimate((chosen - best["dense"]).tolist()),
            f"{activation}-gain/last epoch": estimate(last["gain"].tolist()),
        }
        if set(PAPERS_WIDTHS[activation]) <= set(p.widths):
            found[f"{activation}-best-width"] = not_below_best(table, activation=activation, by="width")
        if activation == "relu" and min(p.last_layer_densities) < 0.8:
            found["relu-best-density"] = not_below_best(table, activation=activation, by="density")
    return found
