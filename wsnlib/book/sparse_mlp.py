"""The chapter on sparse MLPs: its parameters and trainings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from math import prod
from typing import Any, Literal

from pydantic import Field

from wsnlib import data, experiments, specs
from wsnlib.book.engine.parameters import (
    ChapterParameters,
    Density,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)
from wsnlib.store import Store


class Parameters(ChapterParameters):
    """Parameters of the chapter `sparse_mlp`: the networks of G21, Figure 5, and their training."""

    base_width: PositiveInt = Field(5, description="an integer of at least 1")
    widths: list[PositiveInt] = Field(
        [5, 10, 20, 40], min_length=1, description="a list of integers of at least the base width"
    )
    last_layer_densities: list[Density] = Field(
        [0.5, 1.0], min_length=1, description="a list of numbers above 0 and at most 1"
    )
    activations: list[Literal["relu", "linear"]] = Field(
        ["relu", "linear"], min_length=1, description="a list of 'relu' and 'linear'"
    )
    seeds: list[NonNegativeInt] = Field([0], min_length=1, description="a list of integers of at least 0")
    epochs: PositiveInt = Field(10, description="an integer of at least 1")
    batch_size: PositiveInt = Field(100, description="an integer of at least 1")
    learning_rate: PositiveFloat = Field(0.1, description="a number above 0")

    def model_post_init(self, context: Any) -> None:
        """Check what concerns several parameters at once."""
        self._check_widths(self.widths, self.base_width)
        if 1.0 not in self.last_layer_densities:
            raise ValueError(
                f"last_layer_densities is {self.last_layer_densities}; a list that holds 1.0 is allowed"
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
