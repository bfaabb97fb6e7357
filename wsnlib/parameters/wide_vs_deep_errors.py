"""Parameters of the chapter on the errors of wide and deep networks."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from wsnlib import specs
from wsnlib.parameters.base import Density, NonNegativeInt, Parameters, PositiveFloat, PositiveInt

Depth = Annotated[int, Field(ge=8)]
Multiplier = Annotated[float, Field(ge=1 / 16, allow_inf_nan=False)]

FIRST_SEARCH_SEED = 1000
"""Of the networks that choose the pair; populations have smaller ones."""


class WideVsDeepErrorsParameters(Parameters):
    """Parameters of the chapter `wide_vs_deep_errors`: populations of N21's CIFAR ResNets."""

    chapter: ClassVar[str] = "wide_vs_deep_errors"

    train_size: PositiveInt | None = Field(
        None, description="an integer of at least 1, or null for all training images"
    )
    base_multiplier: Multiplier = Field(0.125, description="a number of at least 1/16")
    deep_depths: list[Depth] = Field([14, 20], min_length=1, description="a list of depths 6n + 2")
    deep_multipliers: list[Multiplier] = Field(
        [0.125], min_length=1, description="a list of numbers of at least base_multiplier"
    )
    wide_depth: Depth = Field(8, description="a depth 6n + 2")
    wide_multipliers: list[Multiplier] = Field(
        [0.1875, 0.25], min_length=1, description="a list of numbers, each above one of deep_multipliers"
    )
    sparse_multiplier: Multiplier = Field(0.25, description="a number above base_multiplier")
    depths: list[Depth] = Field(
        [8, 14], min_length=2, description="a rising list of at least 2 depths 6n + 2"
    )
    width_depth: Depth = Field(8, description="a depth 6n + 2")
    multipliers: list[Multiplier] = Field(
        [0.125, 0.25], min_length=2, description="a rising list of at least 2 numbers of at least 1/16"
    )
    search_networks: Annotated[int, Field(ge=2)] = Field(4, description="an integer of at least 2")
    networks: Annotated[int, Field(ge=6, le=FIRST_SEARCH_SEED)] = Field(
        20, description="an integer of 6 to 1,000"
    )
    other_networks: Annotated[int, Field(ge=6)] = Field(6, description="an integer of 6 to networks")
    caliper: Density = Field(0.05, description="a number above 0 and at most 1")
    imagenet_networks: NonNegativeInt = Field(0, description="0, or an integer of at least 6")
    imagenet_groups: str | None = Field(
        None, description="the path of a text file with the groups of each ImageNet class, or null"
    )
    epochs: PositiveInt = Field(2, description="an integer of at least 1")
    batch_size: PositiveInt = Field(32, description="an integer of at least 1")
    learning_rate: PositiveFloat = Field(0.1, description="a number above 0")
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        2e-4, description="a number of at least 0"
    )
    schedule: Literal["cosine", "one_cycle"] = Field("one_cycle", description="'cosine' or 'one_cycle'")
    augmentation: bool = Field(False, description="true or false")
    norm_momentum: Density = Field(0.1, description="a number above 0 and at most 1")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="'float32' or 'bfloat16'")
    evaluate_every: PositiveInt = Field(2, description="an integer of at least 1")

    def model_post_init(self, context: Any) -> None:
        """Check what concerns several parameters at once."""
        for name in ("deep_depths", "wide_depth", "depths", "width_depth"):
            value = getattr(self, name)
            if any(depth % 6 != 2 for depth in (value if isinstance(value, list) else [value])):
                raise ValueError(f"{name} is {value}; depths 6n + 2, such as 8, 14, 20, are allowed")
        for name in ("depths", "multipliers"):
            value = getattr(self, name)
            if value != sorted(set(value)):
                raise ValueError(f"{name} is {value}; a rising list is allowed")
        if min(self.deep_depths) <= self.wide_depth:
            raise ValueError(
                f"deep_depths holds {min(self.deep_depths)}; depths above wide_depth {self.wide_depth} are "
                "allowed"
            )
        if min(self.deep_multipliers) < self.base_multiplier:
            raise ValueError(
                f"deep_multipliers is {self.deep_multipliers}; numbers of at least base_multiplier "
                f"{self.base_multiplier} are allowed"
            )
        if min(self.wide_multipliers) <= min(self.deep_multipliers):
            raise ValueError(
                f"wide_multipliers is {self.wide_multipliers}; numbers above {min(self.deep_multipliers)}, "
                "the smallest of deep_multipliers, are allowed"
            )
        if self.sparse_multiplier <= self.base_multiplier:
            raise ValueError(
                f"sparse_multiplier is {self.sparse_multiplier}; a number above base_multiplier "
                f"{self.base_multiplier} is allowed"
            )
        if self.other_networks > self.networks:
            raise ValueError(
                f"other_networks is {self.other_networks}; 6 to networks {self.networks} are allowed"
            )
        if 0 < self.imagenet_networks < 6:
            raise ValueError(
                f"imagenet_networks is {self.imagenet_networks}; 0 or an integer of at least 6 is allowed"
            )
        _ = self.data_spec

    @property
    def data_spec(self) -> specs.DataSpec:
        """The data set; the faithful preset scales images to [0, 1], as N21's code does."""
        normalisation = "unit" if self.preset == "faithful" else "standardise"
        return self._data_spec(train_size=self.train_size, normalisation=normalisation)

    @property
    def training(self) -> specs.Training:
        """N21's protocol but for what the parameters change: decay of weights alone, reflected borders."""
        return specs.Training(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            momentum=0.9,
            weight_decay=self.weight_decay,
            decayed="weights",
            schedule=specs.Cosine() if self.schedule == "cosine" else specs.OneCycle(),
            augmentation=specs.CropAndFlip(padding_mode="reflect") if self.augmentation else None,
            precision=self.precision,
            evaluate_every=self.evaluate_every,
            report=self._report,
        )

    def on_imagenet(self, model: specs.ResNetImageNetSpec) -> list[specs.Experiment]:
        """The population of a network on ImageNet, by N21's protocol (Appendix B).

        120 epochs in batches of 256; learning rate, weight decay and augmentation, which N21 does not say,
        are those of torchvision's ResNet-50.
        """
        training = specs.Training(
            epochs=120,
            batch_size=256,
            learning_rate=0.1,
            momentum=0.9,
            weight_decay=1e-4,
            schedule=specs.Cosine(),
            augmentation=specs.ResizedCropAndFlip(scale=(0.08, 1.0)),
            precision=self.precision,
            report="last",
        )
        data = specs.ImageNet(normalisation="imagenet")
        return [
            specs.Experiment(model=model, data=data, training=training, seed=seed)
            for seed in range(self.imagenet_networks)
        ]

    @property
    def search_seeds(self) -> range:
        """Seeds of the networks that choose the pair, from 1,000 on."""
        return range(FIRST_SEARCH_SEED, FIRST_SEARCH_SEED + self.search_networks)

    def seeds(self, networks: int) -> range:
        """Seeds of the networks of a population, from 0 on; none of them chose the pair."""
        return range(networks)

    @property
    def same_data(self) -> bool:
        """Whether the images are CIFAR-10's, all of them or a part."""
        return self.data == "cifar10"

    @property
    def full_protocol(self) -> bool:
        """Whether all images and the whole training of N21, Appendix B are used, and 200 networks."""
        return (
            self.train_size is None
            and self.epochs >= 300
            and self.batch_size == 128
            and self.learning_rate == 0.01
            and self.weight_decay == 2e-4
            and self.schedule == "cosine"
            and self.augmentation
            and self.norm_momentum == 0.01
            and self.networks >= 200
        )
