"""Parameters of the chapter on networks of one's own."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from wsnlib import specs
from wsnlib.parameters.base import NonNegativeInt, Parameters, PositiveFloat, PositiveInt


class YourNetworkParameters(Parameters):
    """Parameters of the chapter `your_network`: any importable network, and any data.

    The last epoch counts, so nothing is chosen and the presets train alike.
    """

    chapter: ClassVar[str] = "your_network"

    data: str = Field(
        "colour_digits", min_length=1, description="'cifar10' or another known name, or a packed name"
    )
    data_sha256: str | None = Field(
        "5c46496995576305e6d23fa232fb2c53c63e1d7ca1b338e9a2872fc72a1abc6a",
        description="the checksum of data packed by wsn.pack_data, or null",
    )
    train_size: PositiveInt | None = Field(
        None, description="an integer of at least 1, or null for all training images"
    )
    factory: str = Field(
        "torchvision.models.mobilenet_v3_small", description="the name of a function or class, 'module.name',"
    )
    width_option: str = Field("width_mult", description="the name of the factory's option for its width")
    classes_option: str = Field("num_classes", description="the name of the factory's option for its classes")
    options: dict[str, Any] = Field({}, description="a mapping of further options to plain values")
    widths: list[PositiveFloat] = Field(
        [0.25, 0.5], min_length=2, description="a rising list of at least 2 numbers above 0"
    )
    seeds: list[NonNegativeInt] = Field([0], min_length=1, description="a list of integers of at least 0")
    epochs: PositiveInt = Field(4, description="an integer of at least 1")
    batch_size: PositiveInt = Field(32, description="an integer of at least 1")
    learning_rate: PositiveFloat = Field(0.05, description="a number above 0")
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        5e-4, description="a number of at least 0"
    )
    schedule: Literal["cosine", "one_cycle"] = Field("one_cycle", description="'cosine' or 'one_cycle'")
    augmentation: bool = Field(False, description="true or false")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="'float32' or 'bfloat16'")

    def model_post_init(self, context: Any) -> None:
        """Check what concerns several parameters at once."""
        if self.widths != sorted(set(self.widths)):
            raise ValueError(
                f"widths is {self.widths}; a rising list of at least 2 numbers above 0 is allowed"
            )
        for name in (self.width_option, self.classes_option):
            if name in self.options:
                raise ValueError(f"options holds {name!r}, which the chapter sets; other options are allowed")
        _ = self.data_spec, self.network(self.base_width, num_classes=1)

    @property
    def base_width(self) -> float:
        """The width whose number of weights is kept."""
        return self.widths[0]

    def network(self, width: float, *, num_classes: int) -> specs.CustomSpec:
        """The dense network of a width."""
        set_here = {self.width_option: width, self.classes_option: num_classes}
        return specs.CustomSpec(self.factory, options=self.options | set_here)

    @property
    def data_spec(self) -> specs.DataSpec:
        """The data set; only the clean preset sets validation images aside."""
        return self._data_spec(train_size=self.train_size)

    @property
    def training(self) -> specs.Training:
        """The protocol; images are evaluated once, after the last epoch."""
        return specs.Training(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            momentum=0.9,
            weight_decay=self.weight_decay,
            schedule=specs.Cosine() if self.schedule == "cosine" else specs.OneCycle(),
            augmentation=specs.CropAndFlip() if self.augmentation else None,
            precision=self.precision,
            evaluate_every=self.epochs,
        )
