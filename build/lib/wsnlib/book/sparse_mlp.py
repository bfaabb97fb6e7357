"""The chapter on sparse MLPs: its parameters, trainings and estimates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from math import prod
from typing import Any, Literal

import pandas as pd
from pydantic import Field

from wsnlib import data, experiments, specs, sweeps
from wsnlib.book.engine.parameters import (
    ChapterParameters,
    Density,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)
from wsnlib.estimates import Estimate, estimate, held_out_best, median_and_range
from wsnlib.store import Store


class Parameters(ChapterParameters):
    """Parameters of the chapter `sparse_mlp`: the networks of G21, Figure 5, and their training."""

    base_width: PositiveInt = Field(5, description="an integer ≥ 1")
    widths: list[PositiveInt] = Field(
        [5, 10, 20, 40], min_length=1, description="a list of integers of at least the base width"
    )
    last_layer_densities: list[Density] = Field(
        [0.5, 1.0], min_length=1, description="a list of numbers > 0 and ≤ 1"
    )
    activations: list[Literal["relu", "linear"]] = Field(
        ["relu", "linear"], min_length=1, description="a list of 'relu' and 'linear'"
    )
    seeds: list[NonNegativeInt] = Field([0], min_length=1, description="a list of integers ≥ 0")
    epochs: PositiveInt = Field(10, description="an integer ≥ 1")
    batch_size: PositiveInt = Field(100, description="an integer ≥ 1")
    learning_rate: PositiveFloat = Field(0.1, description="a number > 0")

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
        """The protocol; the presets differ in the epoch they report: best on test, or on validation."""
        return specs.Training(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            report=self._report,
        )

    @property
    def same_data(self) -> bool:
        """Whether networks and data are those of G21, Figure 5: MNIST, base width 5."""
        return self.data == "mnist" and self.base_width == 5

    @property
    def full_protocol(self) -> bool:
        """Whether the training is that of G21, Appendix A: 300 epochs or more, batch 100, rate 0.1."""
        return self.epochs >= 300 and self.batch_size == 100 and self.learning_rate == 0.1


def runs(p: Parameters) -> list[specs.Experiment]:
    """Every activation, width, rule of allocation and seed for which there is a network.

    Examples:
        >>> len(runs(Parameters(widths=[5, 10], seeds=[0, 1])))
        28
    """
    inputs, classes = prod(data.image_shape(p.data_spec)), data.num_classes(p.data_spec)
    dense = specs.MLPSpec(width=p.base_width, inputs=inputs, outputs=classes)
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
    """One row a run with its `width`, `activation`, `rule` and, by that, `density` of the last layer."""
    names = {
        "model.width": "width",
        "model.base.activation": "activation",
        "model.allocation": "rule",
        "model.allocation.density": "density",
    }
    return sweeps.table(runs(p), store=store, environment=True).rename(columns=names)


def figure_5(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of Figure 5: those with a given density of the last layer."""
    return table[table["rule"] == "LastLayerDensity"]


def best_cells(table: pd.DataFrame, p: Parameters, *, activation: str) -> pd.DataFrame:
    """What each seed says of Figure 5, one row a seed.

    The columns are `best width` and `best density`, of the seed's own best cell, and the test accuracy in
    % of the `dense` network and of the `held-out best`, the cell that is best on the other seeds.
    """
    cells = figure_5(table)
    part = cells[cells["activation"] == activation].set_index("seed", drop=False).rename_axis(None)
    accuracy = 100 * part["test_accuracy"]
    own = part[accuracy == accuracy.groupby(level=0).transform("max")].drop_duplicates("seed")
    chosen = held_out_best(part, cell=["width", "density"])
    return pd.DataFrame(
        {
            "best width": own["width"],
            "best density": own["density"],
            "dense": accuracy[part["width"] == p.base_width],
            "held-out best": 100 * chosen["test_accuracy"],
        }
    )


def follows_rule(table: pd.DataFrame, p: Parameters) -> dict[str, pd.Series[bool]]:
    """Which rows follow each rule of allocation that is compared; the dense network follows all."""
    thinnest = table["density"] == min(p.last_layer_densities)
    return {
        "largest layer first": table["rule"] == "LargestFirst",
        "uniform density": table["rule"] == "UniformDensity",
        "last layer thinned most": thinnest | (table["width"] == p.base_width),
    }


def rule_gain(table: pd.DataFrame, p: Parameters, *, over: str) -> pd.Series[float]:
    """Points of *largest layer first* above another rule, by seed: mean over widths that have both."""
    wider = table[table["width"] > p.base_width]
    first, other = (
        wider[follows_rule(wider, p)[rule]].set_index(["seed", "activation", "width"])["test_accuracy"]
        for rule in ("largest layer first", over)
    )
    return (100 * first.sub(other).dropna()).groupby("seed").mean()


def estimates(table: pd.DataFrame, p: Parameters) -> dict[str, Estimate]:
    """Our estimate for each claim that the runs can decide.

    Args:
        table: As `results` gives it.
        p: The parameters of the runs.
    """
    found = {
        "num-weights": median_and_range(table["num_weights"].tolist()),
        "first-layer": estimate(rule_gain(table, p, over="last layer thinned most").tolist()),
        "allocation-best": estimate(rule_gain(table, p, over="uniform density").tolist()),
    }
    for activation in p.activations:
        seen = best_cells(table, p, activation=activation)
        found |= {
            f"{activation}-baseline": estimate(seen["dense"].tolist()),
            f"{activation}-best": estimate(seen["held-out best"].tolist()),
            f"{activation}-gain": estimate((seen["held-out best"] - seen["dense"]).tolist()),
            f"{activation}-best-width": median_and_range(seen["best width"].tolist()),
        }
        if activation == "relu":
            found["relu-best-density"] = median_and_range(seen["best density"].tolist())
    return found
