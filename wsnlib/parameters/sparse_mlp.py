"""Parameters of the chapter on sparse MLPs."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from wsnlib import specs
from wsnlib.parameters.base import Density, NonNegativeInt, Parameters, PositiveFloat, PositiveInt


class SparseMLPParameters(Parameters):
    """Parameters of the chapter `sparse_mlp`: the networks of G21, Figure 5, and their training."""

    chapter: ClassVar[str] = "sparse_mlp"

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
