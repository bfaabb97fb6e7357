"""Parameters of the chapter on the Gaussian-process kernel."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from wsnlib import specs
from wsnlib.parameters.base import NonNegativeInt, Parameters, PositiveFloat, PositiveInt


class GPKernelParameters(Parameters):
    """Parameters of the chapter `gp_kernel`: Theorem 1, simulated kernels, the networks of G21, Figure 8."""

    chapter: ClassVar[str] = "gp_kernel"

    train_size: PositiveInt | None = Field(
        None, description="an integer of at least 1, or null for all training images"
    )
    base_width: PositiveInt = Field(8, description="an integer of at least 1")
    widths: list[PositiveInt] = Field(
        [8, 16, 32, 64], min_length=2, description="a list of at least 2 integers of at least the base width"
    )
    learning_rates: list[PositiveFloat] = Field([0.1], min_length=1, description="a list of numbers above 0")
    tuning_seeds: list[NonNegativeInt] = Field(
        [0], min_length=1, description="a list of integers of at least 0"
    )
    seeds: list[NonNegativeInt] = Field([0, 1], min_length=1, description="a list of integers of at least 0")
    epochs: PositiveInt = Field(10, description="an integer of at least 1")
    batch_size: PositiveInt = Field(256, description="an integer of at least 1")
    num_pairs: Annotated[int, Field(ge=2)] = Field(50, description="an integer of at least 2")
    num_networks: Annotated[int, Field(ge=2)] = Field(10, description="an integer of at least 2")

    def model_post_init(self, context: Any) -> None:
        """Check what concerns several parameters at once."""
        self._check_widths(self.widths, self.base_width)
        _ = self.data_spec

    @property
    def data_spec(self) -> specs.DataSpec:
        """The data set; only the clean preset sets validation images aside."""
        return self._data_spec(train_size=self.train_size)

    def training(self, learning_rate: float) -> specs.Training:
        """The protocol at one learning rate."""
        return specs.Training(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=learning_rate,
            report=self._report,
        )

    @property
    def same_data(self) -> bool:
        """Whether networks and data are those of G21, Figure 8: 2,048 images of MNIST, base width 8."""
        return self.data == "mnist" and self.train_size == 2048 and self.base_width == 8

    @property
    def full_protocol(self) -> bool:
        """Whether the training is that of G21, Appendix A: 300 epochs or more, batch 256, 10 seeds."""
        return self.epochs >= 300 and self.batch_size == 256 and len(self.seeds) >= 10
