"""The chapter on the Gaussian-process kernel: its parameters, measurements, trainings and estimates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from math import prod
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from wsnlib import data, experiments, specs, sweeps
from wsnlib.book.engine import parameters as fields
from wsnlib.estimates import (
    CellsAndSeeds,
    Estimate,
    correlation_of_means,
    estimate,
    exact,
    held_out_best,
    median_and_range,
)
from wsnlib.kernels.theory import (
    lowest_point,
    measured_distance,
    paper_distance,
    paper_distance_minimiser,
    paper_minimiser,
)
from wsnlib.store import Store


class Parameters(fields.ChapterParameters):
    """Parameters of the chapter `gp_kernel`: Theorem 1, simulated kernels, the networks of G21, Figure 8."""

    train_size: fields.TrainSize = None
    base_width: fields.PositiveInt = 8
    widths: list[fields.PositiveInt] = Field(
        [8, 16, 32, 64], min_length=2, description="a list of 2 or more integers of at least the base width"
    )
    learning_rates: list[fields.PositiveFloat] = Field(
        [0.1], min_length=1, description="a list of numbers > 0"
    )
    tuning_seeds: fields.Seeds = Field([0])
    seeds: fields.Seeds = Field([0, 1])
    epochs: fields.PositiveInt = 10
    batch_size: fields.PositiveInt = 256
    normalisation: Literal["standardise", "pixelwise"] = Field(
        "standardise", description="'standardise' or 'pixelwise'"
    )
    num_pairs: Annotated[int, Field(ge=2)] = Field(50, description="an integer ≥ 2")
    num_networks: Annotated[int, Field(ge=2)] = Field(10, description="an integer ≥ 2")

    def model_post_init(self, context: Any) -> None:
        """Check what concerns several parameters at once."""
        self._check_widths(self.widths, self.base_width)
        _ = self.data_spec

    @property
    def data_spec(self) -> specs.DataSpec:
        """The data set; only the clean preset sets validation images aside."""
        return self._data_spec(train_size=self.train_size, normalisation=self.normalisation)

    def training(self, learning_rate: float) -> specs.Training:
        """The protocol at one learning rate."""
        return self._training(learning_rate=learning_rate, report=self._report)

    @property
    def same_data(self) -> bool:
        """Whether networks and data are those of G21, Figure 8 (2,048 images of MNIST, base width 8)."""
        return self.data == "mnist" and self.train_size == 2048 and self.base_width == 8

    @property
    def full_protocol(self) -> bool:
        """Whether the training is that of G21, Appendix A (300 epochs or more, batch 256, 10 seeds)."""
        return self.epochs >= 300 and self.batch_size == 256 and len(self.seeds) >= 10


Cell = tuple[str, int]
"""`"dense"` or `"sparse"`, and a width."""

Reading = tuple[dict[int, float], dict[int, float], Literal["normal", "uniform"]]
"""Density of the mask and density in the variance by width, and the distribution of the weights."""


class Runs:
    """Kernels by theory and simulation, learning rates tried, and networks trained with the best.

    Attributes:
        dense: The base network.
        grid: Densities of the theory's curves.
        sources: Inputs by name: the test images and Gaussian ones.
        connectivity, allocated, released: Densities of the first layer by width, in three readings.
        theory: Kernels by Theorem 1 on each source, one for each seed.
        scaling: The same over the dimension of Gaussian inputs.
        readings: Readings of Theorem 1 by name: density of the mask, density in the variance, distribution.
        simulated: Simulated kernels by reading, width and seed.
        deep: Simulated kernels by number of hidden layers and width.
        models: Networks by cell.
        tuning: Trainings by cell, learning rate and seed, from which the rates are chosen.
    """

    def __init__(self, p: Parameters) -> None:
        self.p = p
        self.inputs, self.classes = prod(data.image_shape(p.data_spec)), data.num_classes(p.data_spec)
        self.dense = specs.MLPSpec(
            width=p.base_width,
            parametrisation="ntk",
            inputs=self.inputs,
            outputs=self.classes,
            bias=False,
        )
        self.num_weights = (self.inputs + self.classes) * p.base_width
        images = replace(p.data_spec, validation_size=0)
        gaussian = specs.GaussianInputs(dimension=self.inputs)
        self.sources: dict[str, Any] = {type(images).__name__: images, "Gaussian": gaussian}
        self.grid = np.geomspace(1, 0.1 / self.inputs, 31).round(7)
        self._densities()
        self._draws: dict[str, Any] = {"num_pairs": p.num_pairs, "num_networks": p.num_networks}
        self.theory, self.scaling = self._theory(), self._scaling()
        self.readings: dict[str, Reading] = {
            "Theorem 1": (self.connectivity, self.connectivity, "normal"),
            "allocation": (self.allocated, self.allocated, "normal"),
            "allocation, σ² by connectivity": (self.allocated, self.connectivity, "normal"),
            "released code": (self.released, self.released, "uniform"),
        }
        self.simulated = self._simulated()
        self.deep = {(depth, n): self._deep(depth, n) for depth, n in product((1, 2, 3), p.widths)}
        self.models: dict[Cell, specs.ModelSpec] = {
            ("dense", n): replace(self.dense, width=n) for n in p.widths
        }
        self.models |= {
            ("sparse", n): specs.StaticSparsity(self.dense, width=n) for n in p.widths if n > p.base_width
        }
        self.tuning = {
            (cell, rate, seed): self._training(model, rate, seed)
            for (cell, model), rate, seed in product(self.models.items(), p.learning_rates, p.tuning_seeds)
        }

    def _densities(self) -> None:
        p = self.p
        self.connectivity = {n: round(p.base_width / n, 7) for n in p.widths}
        kept = {n: experiments.weights_per_layer(specs.StaticSparsity(self.dense, width=n)) for n in p.widths}
        self.allocated = {n: round(kept[n]["hidden1"] / (self.inputs * n), 7) for n in p.widths}
        self.released = {
            n: round((self.num_weights - self.classes * n) / (self.inputs * n), 7) for n in p.widths
        }

    def _theory(self) -> list[specs.KernelDistances]:
        used = {*self.connectivity.values(), *self.allocated.values(), *self.released.values()}
        densities = tuple(sorted({*self.grid, *(v for v in used if v > 0)}))
        return [
            specs.KernelDistances(inputs=source, densities=densities, num_pairs=self.p.num_pairs, seed=seed)
            for source, seed in product(self.sources.values(), self.p.seeds)
        ]

    def _scaling(self) -> list[specs.KernelDistances]:
        return [
            specs.KernelDistances(
                inputs=specs.GaussianInputs(dimension=d),
                densities=tuple(np.geomspace(1, 0.1 / d, 25).round(7)),
                num_pairs=self.p.num_pairs,
            )
            for d in (49, 98, 196, 392, 784, 1568)
        ]

    def _simulated(self) -> dict[tuple[str, int, int], specs.KernelSimulation]:
        images, gaussian = self.sources.values()
        found = {
            (name, n, seed): specs.KernelSimulation(
                inputs=images,
                widths=(n,),
                densities=(masks[n],),
                scaled_by=(scale[n],),
                distribution=law,
                exact_count=name != "Theorem 1",
                seed=seed,
                **self._draws,
            )
            for name, (masks, scale, law) in self.readings.items()
            for n, seed in product(self.p.widths, self.p.seeds)
            if masks[n] > 0
        }
        found |= {
            ("Gaussian", n, seed): specs.KernelSimulation(
                inputs=gaussian, widths=(n,), densities=(self.connectivity[n],), seed=seed, **self._draws
            )
            for n, seed in product(self.p.widths, self.p.seeds)
        }
        return found

    def _deep(self, depth: int, width: int) -> specs.KernelSimulation:
        base = replace(self.dense, hidden_layers=depth)
        kept = experiments.weights_per_layer(specs.StaticSparsity(base, width=width))
        sizes = experiments.weights_per_layer(replace(base, width=width))
        densities = tuple(kept[name] / sizes[name] for name in (f"hidden{i + 1}" for i in range(depth)))
        images, _ = self.sources.values()
        return specs.KernelSimulation(
            inputs=images, widths=(width,) * depth, densities=densities, **self._draws
        )

    def _training(self, model: specs.ModelSpec, rate: float, seed: int) -> specs.Experiment:
        return specs.Experiment(model=model, data=self.p.data_spec, training=self.p.training(rate), seed=seed)

    @property
    def first(self) -> list[specs.Run]:
        """What depends on no other run."""
        return [
            *self.tuning.values(),
            *self.theory,
            *self.scaling,
            *self.simulated.values(),
            *self.deep.values(),
        ]

    def rates(self, store: Store) -> dict[Cell, float]:
        """The rate that is best for each cell on average over the tuning seeds; of equal ones the least."""
        criterion = "validation_accuracy" if self.p.preset == "clean" else "test_accuracy"
        tried = sweeps.table(self.tuning.values(), store=store)
        tried["cell"] = [cell for cell, *_ in self.tuning]
        grouped = tried.groupby(["cell", "training.learning_rate"])[criterion]
        scores = grouped.apply(lambda v: v.mean(skipna=False))  # diverged: NaN
        behind = {cell: (scores[cell] - scores[cell].max()).round(12) for cell in self.models}
        return {cell: float(rates.idxmax()) for cell, rates in behind.items()}

    def trained(self, store: Store) -> dict[tuple[Cell, int], specs.Experiment]:
        """Trainings by cell and seed, with the best rate of the cell."""
        rates = self.rates(store)
        return {
            (cell, seed): self._training(model, rates[cell], seed)
            for (cell, model), seed in product(self.models.items(), self.p.seeds)
        }

    def distances(self, store: Store) -> pd.DataFrame:
        """Kernels by Theorem 1, one row a density and seed, with the name of its inputs as `source`."""
        measured = sweeps.read_measurements(self.theory, store=store)
        images, gaussian = self.sources
        gauss = measured["inputs"] == "GaussianInputs"
        return measured.assign(source=np.where(gauss, gaussian, images))

    def simulated_distances(self, store: Store) -> pd.Series[float]:
        """Mean-square distance of simulated networks, by reading, width and seed."""
        means = {
            key: sweeps.read_measurements([run], store=store)["gp"].mean()
            for key, run in self.simulated.items()
        }
        return pd.Series(means).rename_axis(["reading", "width", "seed"])

    def accuracies(self, store: Store) -> pd.DataFrame:
        """One row a trained network, with its `kind`, `"dense"` or `"sparse"`, and `width`."""
        trained = self.trained(store)
        kinds, widths = zip(*(cell for cell, _ in trained), strict=True)
        table = sweeps.table(trained.values(), store=store, environment=True)
        return table.assign(kind=kinds, width=widths)


def stages(p: Parameters, store: Store) -> Iterator[list[specs.Run]]:
    """All runs, those that depend on others after them."""
    runs = Runs(p)
    yield runs.first
    yield list(runs.trained(store).values())


def theorem_ratios(distances: pd.DataFrame, simulated: pd.Series[float], plan: Runs) -> pd.Series[float]:
    """Simulated distance over that of Theorem 1 on the same pairs of images, mean over widths, by seed.

    Args:
        distances: As `Runs.distances` gives it.
        simulated: As `Runs.simulated_distances` gives it.
        plan: The runs of both.
    """
    images, _ = plan.sources
    exact = distances[distances["source"] == images]
    by_width = simulated.xs("Theorem 1", level="reading")

    def ratios(n: int) -> pd.Series[float]:
        rows = exact[exact["density"] == plan.connectivity[n]].set_index("seed")
        return by_width.xs(n, level="width") / distance_by_theorem(rows, n)

    return pd.concat([ratios(n) for n in plan.p.widths], axis=1).mean(axis=1, skipna=False)


def eq_4_ratios(distances: pd.DataFrame, plan: Runs) -> pd.DataFrame:
    """G21's eq. (4) over Theorem 1 on Gaussian inputs: a row a seed, a column a density, rising."""
    gaussian = distances[(distances["source"] == "Gaussian") & distances["density"].isin(plan.grid)]

    def ratios(density: float, rows: pd.DataFrame) -> pd.Series[float]:
        width = plan.p.base_width / density
        printed = float(paper_distance(width=width, density=density, dimension=plan.inputs))
        return printed / distance_by_theorem(rows.set_index("seed"), width)

    densities: list[float] = sorted(set(gaussian["density"].tolist()))
    return pd.DataFrame({q: ratios(q, gaussian[gaussian["density"] == q]) for q in densities})


def agrees_from(ratios: pd.DataFrame, plan: Runs) -> pd.Series[float]:
    """The least number of weights a unit, dp, from which on eq. (4) is within 25 % of Theorem 1, by seed.

    Infinite if it is not within 25 % at the density 1.
    """
    near = (ratios >= 0.8) & (ratios <= 1.25)
    from_here_on = near.to_numpy(dtype=bool)[:, ::-1].cumprod(axis=1).astype(bool)
    weights = ratios.columns.to_numpy(dtype=float)[::-1] * plan.inputs
    return pd.Series(np.where(from_here_on, weights, math.inf).min(axis=1), index=ratios.index)


def eq_4_at_minimiser(ratios: pd.DataFrame, plan: Runs) -> pd.Series[float]:
    """The ratio of `eq_4_ratios` at the density of the grid next to the paper's p*, by seed."""
    p_star = paper_minimiser(base_width=plan.p.base_width, dimension=plan.inputs)
    return ratios.iloc[:, int(np.abs(ratios.columns.to_numpy(float) - p_star).argmin())]


def eq_4_in_experiment(simulated: pd.Series[float], plan: Runs) -> pd.Series[float]:
    """G21's eq. (4) over the distance as the released code draws and scales the weights, by seed.

    The mean over the widths with at least as many weights a unit as at the paper's p*.
    """
    p_star = paper_minimiser(base_width=plan.p.base_width, dimension=plan.inputs)
    distances = simulated.xs("released code", level="reading").unstack("width")
    widths = [n for n in plan.p.widths if n in distances.columns and plan.connectivity[n] >= p_star]
    densities = {n: plan.connectivity[n] for n in widths}
    printed = {n: paper_distance(width=n, density=q, dimension=plan.inputs) for n, q in densities.items()}
    return (pd.Series(printed, dtype=float) / distances[list(printed)]).mean(axis=1, skipna=False)


def minimisers(distances: pd.DataFrame, plan: Runs) -> pd.DataFrame:
    """Density at which the distance is smallest, one row for each source of inputs and seed.

    The columns are `exact` (Theorem 1, among densities down to a tenth of a weight for each hidden
    unit), `corrected` (its corrected closed form), and what the paper's `eq. (4)` and `eq. (25)` give.
    """
    base_width = plan.p.base_width
    paper = {
        "eq. (4)": paper_distance_minimiser(base_width=base_width, dimension=plan.inputs),
        "eq. (25)": paper_minimiser(base_width=base_width, dimension=plan.inputs),
    }

    def lowest(rows: pd.DataFrame, *, corrected: bool) -> float:
        curve = distance_by_theorem(rows, base_width / rows["density"], corrected=corrected)
        return lowest_point(rows["density"], curve)[0]

    groups = distances[distances["density"].isin(plan.grid)].groupby(["source", "seed"])
    found = {
        key: {"exact": lowest(rows, corrected=False), "corrected": lowest(rows, corrected=True)} | paper
        for key, rows in groups
    }
    return pd.DataFrame(found).T


def distance_curve(simulated: pd.Series[float], reading: str) -> pd.DataFrame:
    """Mean and interval over seeds of the simulated distance under one reading, by width."""
    return sweeps.summarise(
        simulated.xs(reading, level="reading").reset_index(name="gp"), by="width", value="gp"
    )


def sparse_family(trained: pd.DataFrame, p: Parameters) -> pd.DataFrame:
    """The sparse networks and the dense one with as many weights, of those that `Runs.accuracies` gives."""
    narrow = (trained["kind"] == "dense") & (trained["width"] == p.base_width)
    return pd.concat([trained[trained["kind"] == "sparse"], trained[narrow]])


def accurate_widths(trained: pd.DataFrame, p: Parameters) -> Estimate:
    """The sparse width of best mean test accuracy, and from which to which width it may lie (97.5 %)."""
    accuracy = sparse_family(trained, p).pivot(index="width", columns="seed", values="test_accuracy")
    widths = {width: float(width) for width in accuracy.index}
    return CellsAndSeeds(100 * accuracy).not_below_best(widths, level=0.025)


def estimates(
    distances: pd.DataFrame, simulated: pd.Series[float], trained: pd.DataFrame, p: Parameters
) -> dict[str, Estimate]:
    """Our estimate for each claim that the runs can decide.

    Args:
        distances: As `Runs.distances` gives it.
        simulated: As `Runs.simulated_distances` gives it.
        trained: As `Runs.accuracies` gives it.
        p: The parameters of the runs.
    """
    plan, family = Runs(p), sparse_family(trained, p)
    images, _ = plan.sources
    is_dense = family["kind"] == "dense"
    start = family[is_dense].set_index("seed")["test_accuracy"]
    held_out = held_out_best(family[~is_dense], cell=["width"]).set_index("seed")["test_accuracy"]
    accuracy = 100 * family.pivot(index="width", columns="seed", values="test_accuracy")
    cells, best = CellsAndSeeds(accuracy), accurate_widths(trained, p)
    by_reading = {
        reading: rows.droplevel("reading").unstack("width") for reading, rows in simulated.groupby("reading")
    }
    theorem = by_reading["Theorem 1"]
    widened = [width for width in p.widths if width in theorem.columns and width > p.base_width]
    wider = [width for width in accuracy.index if width > p.base_width]
    at = minimisers(distances, plan).loc[images]

    def correlation(reading: str, scale: Callable[[Any], Any] = np.log) -> Estimate | None:
        """Of the distance, means over seeds, with the test error; none with less than three widths."""
        distance = by_reading[reading]
        common = [width for width in accuracy.index if width in distance.columns]
        error = 100 - accuracy.loc[common].T
        if len(common) < 3:
            return None
        return correlation_of_means(scale(distance.loc[error.index, common]).to_numpy(), error.to_numpy())

    def closest(reading: str) -> Estimate:
        """The widths that may have the smallest distance."""
        by_width = by_reading[reading].dropna(axis=1, how="all")
        widths = {width: float(width) for width in by_width.columns}
        return CellsAndSeeds(-by_width.T.apply(np.log)).not_below_best(widths, level=0.025)

    found = {
        "theorem-1": estimate(theorem_ratios(distances, simulated, plan).tolist()),
        "approximation": median_and_range(agrees_from(eq_4_ratios(distances, plan), plan).tolist()),
        "minimiser": exact(at["eq. (25)"].iloc[0] / at["eq. (4)"].iloc[0]),
        "theorem-minimiser": median_and_range((p.base_width / at["exact"]).tolist()),
        "distance-falls": estimate((1 - theorem[widened].mean(axis=1) / theorem[p.base_width]).tolist()),
        "sparse-gain": cells.contrast(dict.fromkeys(wider, 1 / len(wider)) | {p.base_width: -1.0}),
        "sparse-gain/held-out best": estimate((100 * (held_out - start)).tolist()),
        "similar-width": octaves(best, closest("released code")),
        "similar-width/allocation": octaves(best, closest("allocation")),
        "similar-width/connectivity": octaves(best, closest("allocation, σ² by connectivity")),
    }
    if p.normalisation == "pixelwise":
        found["approximation-experiment"] = estimate(eq_4_in_experiment(simulated, plan).tolist())
    correlations = {
        "correlation": correlation("released code"),
        "correlation/allocation": correlation("allocation"),
        "correlation/linear": correlation("released code", lambda distance: distance),
        "correlation/Theorem 1": correlation("Theorem 1"),
    }
    return found | {name: each for name, each in correlations.items() if each is not None}


def octaves(best: Estimate, closest: Estimate) -> Estimate:
    """From the widths that may be the best to those that may have the smallest distance, in factors of 2.

    Args:
        best, closest: As `CellsAndSeeds.not_below_best` gives them, each at half the level.

    Examples:
        >>> best = Estimate(mean=128.0, low=64.0, high=512.0, n=10, later=((25, 128.0, 512.0),))
        >>> found = octaves(best, Estimate(mean=128.0, low=128.0, high=256.0, n=10))
        >>> found.mean, found.low, found.high, found.later
        (0.0, -2.0, 2.0, ((25, -2.0, 1.0),))
    """

    def off(one: float, other: float) -> float:
        return float(np.log2(other / one))

    later = tuple((n, off(high, closest.low), off(low, closest.high)) for n, low, high in best.later)
    low, high = off(best.high, closest.low), off(best.low, closest.high)
    return Estimate(mean=off(best.mean, closest.mean), low=low, high=high, n=best.n, later=later)


def distance_by_theorem(
    rows: pd.DataFrame, width: float | pd.Series[float], *, corrected: bool = False
) -> pd.Series[float]:
    """Mean-square distance at a width by Theorem 1, or by its corrected closed form, row by row."""
    columns = {str(name): rows[name].to_numpy() for name in rows.columns}
    return pd.Series(measured_distance(columns, width, corrected=corrected), index=rows.index)
