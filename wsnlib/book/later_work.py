"""The chapter on what later papers found: its parameters, trainings and estimates, part by part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from math import log, prod
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from wsnlib import data, specs, sweeps
from wsnlib.book.engine import parameters as fields
from wsnlib.estimates import Estimate, estimate
from wsnlib.store import Store

Part = Literal["rate", "smu", "data"]


class Parameters(fields.ChapterParameters):
    """Parameters of the chapter `later_work`: fully connected networks, and which parts of the page have runs."""

    parts: list[Part] = Field(["rate", "data"], description="a list of parts of the page")
    base_width: fields.PositiveInt = 5
    widths: list[fields.PositiveInt] = Field(
        [5, 10, 20, 40], min_length=1, description="a list of integers of at least the base width"
    )
    seeds: fields.Seeds = Field([0])
    batch_size: fields.PositiveInt = 100
    learning_rate: fields.PositiveFloat = 0.1
    learning_rates: list[fields.PositiveFloat] = Field(
        [0.05, 0.1, 0.2], min_length=1, description="a list of numbers > 0"
    )
    rate_epochs: fields.PositiveInt = 10
    train_sizes: list[fields.PositiveInt] = Field(
        [100, 1000], min_length=2, description="a list of 2 or more integers ≥ 1"
    )
    data_steps: fields.PositiveInt = 200

    def model_post_init(self, context: Any) -> None:
        """Check what concerns several parameters at once."""
        self._check_widths(self.widths, self.base_width)
        if self.learning_rate not in self.learning_rates:
            raise ValueError(
                f"learning_rates must be a list that holds learning_rate {self.learning_rate:g}, got "
                f"{self.learning_rates}"
            )
        _ = self.data_spec

    @property
    def data_spec(self) -> specs.DataSpec:
        """The data set, with validation images, by which learning rates are chosen."""
        return self._data_spec()

    @property
    def same_data(self) -> bool:
        """Whether the data are those for which the claims are stated."""
        return self.data == "mnist"

    def dense(self, width: int, **changes: Any) -> specs.MLPSpec:
        """The dense network of a width for the data."""
        inputs, classes = prod(data.image_shape(self.data_spec)), data.num_classes(self.data_spec)
        return specs.MLPSpec(width=width, inputs=inputs, outputs=classes, **changes)

    def training(self, epochs: int, **changes: Any) -> specs.Training:
        """G21's training of these networks, for so many epochs."""
        return specs.Training(
            epochs=epochs, batch_size=self.batch_size, **({"learning_rate": self.learning_rate} | changes)
        )


# -- is it the learning rate? ------------------------------------------------------------------


def rate_runs(
    p: Parameters, *, parametrisation: Literal["standard", "sparse_mu"] = "standard"
) -> list[specs.Experiment]:
    """Every width at every learning rate; the epoch (of every fifth) and the rate are chosen on validation images."""
    dense = p.dense(p.base_width, parametrisation=parametrisation)
    return [
        specs.Experiment(
            model=specs.StaticSparsity(dense, width=width),
            data=p.data_spec,
            training=p.training(
                p.rate_epochs, learning_rate=rate, report="best_validation", evaluate_every=5
            ),
            seed=seed,
        )
        for seed, width, rate in product(p.seeds, p.widths, p.learning_rates)
    ]


def own_rates(table: pd.DataFrame) -> pd.Series[float]:
    """By width, the learning rate with the best mean validation accuracy; one that diverged is never it."""
    means = table.pivot_table(
        index="width", columns="rate", values="validation_accuracy", aggfunc=lambda v: v.mean(skipna=False)
    )
    return means.idxmax(axis=1)


def at_rates(table: pd.DataFrame, rates: Mapping[int, float]) -> pd.DataFrame:
    """Test accuracy in % by seed (rows) and width, each width at the rate that is given for it."""
    chosen = table[table["rate"] == table["width"].map(rates)]
    return 100 * chosen.pivot(index="seed", columns="width", values="test_accuracy")


def rate_estimates(table: pd.DataFrame, p: Parameters) -> dict[str, Estimate]:
    """Of the claims on learning rates, in the standard parametrisation."""
    widths, base = sorted(p.widths), p.base_width
    wider = widths[1:] or widths
    middle = min(wider, key=lambda w: abs(log(w / 80)))
    own = own_rates(table)
    best, shared = at_rates(table, own), at_rates(table, dict.fromkeys(widths, own[base]))
    one = at_rates(table, dict.fromkeys(widths, p.learning_rate))
    lost = best[wider] - shared[wider]
    return {
        "gain-own-rate": _mean(best[middle] - best[base]),
        "gain-own-rate/mean over widths": _mean(_across(best[wider]) - best[base]),
        "gain-own-rate/one rate": _mean(one[middle] - one[base]),
        "rates-differ": _mean(lost[widths[-1]]),
        "rates-differ/mean over widths": _mean(_across(lost)),
    }


def smu_runs(p: Parameters) -> list[specs.Experiment]:
    """The same with the rates of layers and the first weights scaled by SμPar."""
    return rate_runs(p, parametrisation="sparse_mu")


def smu_estimates(
    table: pd.DataFrame, p: Parameters, *, standard: pd.DataFrame | None = None
) -> dict[str, Estimate]:
    """Of the claims on SμPar; that it is better than the standard parametrisation needs the runs of that."""
    widths = sorted(p.widths)
    wider = widths[1:] or widths
    own = own_rates(table)
    best, shared = (at_rates(table, rates) for rates in (own, dict.fromkeys(widths, own[p.base_width])))
    lost = _across(best[wider] - shared[wider])
    found = {"smu-one-rate": _mean(lost, confidence=0.9)}
    if standard is not None:
        rate = own_rates(standard)[p.base_width]
        plain, scaled = (at_rates(t, dict.fromkeys(widths, rate)) for t in (standard, table))
        found["smu-better"] = _mean(scaled[widths[-1]] - plain[widths[-1]])
        found["smu-better/mean over widths"] = _mean(_across(scaled[wider] - plain[wider]))
    return found


# -- more data, wider? -------------------------------------------------------------------------


def data_runs(p: Parameters) -> list[specs.Experiment]:
    """Every width on every number of training images, for as many steps; the last epoch counts."""
    dense = p.dense(p.base_width)
    runs = []
    for seed, size, width in product(p.seeds, p.train_sizes, p.widths):
        epochs = max(1, round(p.data_steps * p.batch_size / size))
        runs.append(
            specs.Experiment(
                model=specs.StaticSparsity(dense, width=width),
                data=replace(p.data_spec, train_size=size, validation_size=0),
                training=p.training(epochs, evaluate_every=epochs),
                seed=seed,
            )
        )
    return runs


def best_widths(table: pd.DataFrame) -> pd.DataFrame:
    """The width with the best test accuracy, by seed (rows) and number of training images."""
    accuracy = table.pivot(index=["seed", "train_size"], columns="width", values="test_accuracy")
    return accuracy.idxmax(axis=1).unstack("train_size")


def data_estimates(table: pd.DataFrame, p: Parameters) -> dict[str, Estimate]:
    """Of the claim on the amount of data: doublings of the best width for ten times the images."""
    widths = np.log2(best_widths(table))
    slopes = np.polyfit(np.log10(widths.columns.astype(float)), widths.to_numpy().T, 1)[0]
    return {"more-data-wider": estimate(slopes.tolist())}


# -- all parts ---------------------------------------------------------------------------------

RUNS = {"rate": rate_runs, "smu": smu_runs, "data": data_runs}
"""The runs of each part, which no other part has."""


def stages(p: Parameters, store: Store) -> Iterator[list[specs.Run]]:
    """The runs of every part, one part after the other."""
    for part in p.parts:
        yield list(RUNS[part](p))


def results(part: Part, p: Parameters, store: Store) -> pd.DataFrame:
    """One row a run of a part, with its `width`, `rate` and `train_size`."""
    names = {
        "model.width": "width",
        "training.learning_rate": "rate",
        "data.train_size": "train_size",
    }
    return sweeps.table(RUNS[part](p), store=store, environment=True).rename(columns=names)


def estimates(tables: Mapping[str, pd.DataFrame], p: Parameters) -> dict[str, Estimate]:
    """Our estimate for each claim of the parts whose tables are given."""
    found: dict[str, Estimate] = {}
    if "rate" in tables:
        found |= rate_estimates(tables["rate"], p)
    if "smu" in tables:
        found |= smu_estimates(tables["smu"], p, standard=tables.get("rate"))
    if "data" in tables:
        found |= data_estimates(tables["data"], p)
    return found


def _mean(points: pd.Series[float], *, confidence: float = 0.95) -> Estimate:
    return estimate(points.tolist(), confidence=confidence)


def _across(points: pd.DataFrame) -> pd.Series[float]:
    return points.mean(axis=1, skipna=False)
