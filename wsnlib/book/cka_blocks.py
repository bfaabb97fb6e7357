"""The chapter on representations and block structure: its parameters and measurements."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import Field

from wsnlib import data, specs
from wsnlib.book.engine.parameters import ChapterParameters, NonNegativeInt, PositiveFloat, PositiveInt
from wsnlib.store import Store


class Parameters(ChapterParameters):
    """Parameters of the chapter `cka_blocks`: the networks of N21, Figures 1 to 6, and what is measured.

    Nothing is chosen on the test images: the last epoch counts. The presets differ in the weights of the
    batches of CKA: `faithful` weighs them as the released code does, `clean` as N21's equation (2) says.
    """

    validation_size: PositiveInt = Field(200, description="an integer of at least 1")
    train_size: PositiveInt = Field(400, description="an integer of at least 1")
    data_parts: list[PositiveInt] = Field(
        [1, 4],
        min_length=2,
        description="a rising list of at least 2 integers from 1: 4 is a quarter of the training images",
    )
    depth: PositiveInt = Field(14, description="6n + 2")
    depths: list[PositiveInt] = Field(
        [14, 20], min_length=2, description="a rising list of at least 2 depths 6n + 2"
    )
    width_multiplier: PositiveFloat = Field(0.25, description="a number above 0")
    width_multipliers: list[PositiveFloat] = Field(
        [0.25, 1.0], min_length=2, description="a rising list of at least 2 numbers above 0"
    )
    seeds: list[NonNegativeInt] = Field(
        [0, 1], min_length=2, description="a list of at least 2 integers of at least 0"
    )
    compared_seeds: Annotated[int, Field(ge=2)] = Field(
        2, description="an integer of at least 2, and at most the number of seeds"
    )
    epochs: PositiveInt = Field(8, description="an integer of at least 1")
    batch_size: PositiveInt = Field(64, description="an integer of at least 1")
    learning_rate: PositiveFloat = Field(0.01, description="a number above 0")
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        2e-4, description="a number of at least 0"
    )
    augmentation: bool = Field(True, description="true or false")
    norm_momentum: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1, description="a number above 0 and at most 1"
    )
    precision: Literal["float32", "bfloat16"] = Field("float32", description="'float32' or 'bfloat16'")
    num_images: Annotated[int, Field(ge=4)] | None = Field(
        256, description="an integer of at least 4, or null for all test images"
    )
    num_component_images: Annotated[int, Field(ge=4)] = Field(256, description="an integer of at least 4")
    cka_batch_size: Annotated[int, Field(ge=4)] = Field(256, description="an integer of at least 4")
    passes: PositiveInt = Field(2, description="an integer of at least 1")

    def model_post_init(self, context: Any) -> None:
        """Check what concerns several parameters at once."""
        for name in ("data_parts", "depths", "width_multipliers"):
            values = getattr(self, name)
            if values != sorted(set(values)):
                allowed = type(self).model_fields[name].description
                raise ValueError(f"{name} is {values}; {allowed} is allowed")
        if self.data_parts[0] != 1:
            raise ValueError(f"data_parts is {self.data_parts}; a list that begins with 1 is allowed")
        if self.compared_seeds > len(self.seeds):
            raise ValueError(
                f"compared_seeds is {self.compared_seeds}; at most the {len(self.seeds)} seeds are allowed"
            )
        for depth in (self.depth, *self.depths):
            specs.ResNetCifarSpec(depth=depth)
        for width_multiplier in (self.width_multiplier, *self.width_multipliers):
            specs.ResNetCifarSpec(depth=8, width_multiplier=width_multiplier)
        if self.train_size < self.data_parts[-1]:
            raise ValueError(
                f"train_size is {self.train_size}; at least {self.data_parts[-1]}, the last of data_parts, "
                "is allowed"
            )
        _ = self.data_spec()

    def data_spec(self, *, part: int = 1) -> specs.DataSpec:
        """The data set scaled to [0, 1], with one of so many class-balanced parts of the training images."""
        data = self._data_spec(train_size=self.train_size // part, normalisation="unit")
        return replace(data, validation_size=self.validation_size)

    @property
    def training(self) -> specs.Training:
        """N21's protocol with these numbers; images are evaluated once, after the last epoch."""
        return specs.Training(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            momentum=0.9,
            weight_decay=self.weight_decay,
            decayed="weights",
            schedule=specs.Cosine(),
            augmentation=specs.CropAndFlip(padding_mode="reflect") if self.augmentation else None,
            precision=self.precision,
            evaluate_every=self.epochs,
        )

    @property
    def measurement(self) -> dict[str, Any]:
        """How CKA is estimated, for `wsn.LayerSimilarity` and `wsn.NetworkSimilarity`."""
        return {
            "num_images": self.num_images,
            "batch_size": self.cka_batch_size,
            "passes": self.passes,
            "weighting": "released" if self.preset == "faithful" else "paper",
        }

    @property
    def same_data(self) -> bool:
        """Whether the images are those of a data set of N21, all of them or a part."""
        return self.data in ("cifar10", "cifar100")

    @property
    def full_protocol(self) -> bool:
        """Whether all images (and those for validation) and N21's training (Appendix B) are used."""
        return (
            self.train_size + self.validation_size == 50_000
            and self.epochs >= 300
            and self.batch_size == 128
            and self.learning_rate == 0.01
            and self.weight_decay == 2e-4
            and self.augmentation
        )


Cell = tuple[str, float]
"""`"wider"` and a width multiplier, or `"deeper"` and a depth."""


class Runs:
    """Networks of several widths and depths, measured layer by layer (N21, Figures 1 to 6).

    Attributes:
        cells: Depth and width multiplier of each cell.
        narrow, wide, deep: The cells at the ends.
        runs: Measurements by cell, part of the images and seed.
        plain: Measurements without residual connections by width multiplier and seed.
        compared: Cells and seeds of the networks that are compared with one another.
        between: That comparison.
        projected: Images along the first component of the deepest network, in the last block of each stage.
    """

    def __init__(self, p: Parameters) -> None:
        self.p = p
        self.cells: dict[Cell, tuple[int, float]] = {("wider", k): (p.depth, k) for k in p.width_multipliers}
        self.cells |= {("deeper", d): (d, p.width_multiplier) for d in p.depths}
        self.narrow: Cell = ("wider", p.width_multipliers[0])
        self.wide: Cell = ("wider", p.width_multipliers[-1])
        self.deep: Cell = ("deeper", p.depths[-1])
        few = p.seeds[: p.compared_seeds]
        self.runs = {
            (cell, 1, seed): self._measured(*shape, seed=seed)
            for (cell, shape), seed in product(self.cells.items(), p.seeds)
        }
        self.runs |= {
            (cell, part, seed): self._measured(*shape, part=part, seed=seed)
            for (cell, shape), part, seed in product(self.cells.items(), p.data_parts[1:], few)
        }
        self.plain = {
            (k, seed): self._measured(p.depth, k, residual=False, seed=seed)
            for k, seed in product((p.width_multipliers[0], p.width_multipliers[-1]), few)
        }
        self.compared = list(product((self.narrow, self.wide, self.deep), few))
        self.between = specs.NetworkSimilarity(
            tuple(self._training(*self.cells[cell], seed=seed) for cell, seed in self.compared),
            **p.measurement,
        )
        block = f"block{(self.cells[self.deep][0] - 2) // 6}"
        self.projected = specs.ComponentProjections(
            self._training(*self.cells[self.deep], seed=p.seeds[0]),
            layers=tuple(f"stage{stage}.{block}.add" for stage in (1, 2, 3)),
            num_images=p.num_component_images,
        )

    def _training(
        self, depth: int, width_multiplier: float, *, seed: int, part: int = 1, residual: bool = True
    ) -> specs.Experiment:
        images = self.p.data_spec()
        net = specs.ResNetCifarSpec(
            depth=depth,
            width_multiplier=width_multiplier,
            num_classes=data.num_classes(images),
            input_channels=data.image_shape(images)[0],
            residual=residual,
            norm_momentum=self.p.norm_momentum,
        )
        return specs.Experiment(
            model=net, data=self.p.data_spec(part=part), training=self.p.training, seed=seed
        )

    def _measured(
        self, depth: int, width_multiplier: float, *, seed: int, part: int = 1, residual: bool = True
    ) -> specs.LayerSimilarity:
        probed = {self.cells[cell] for cell in (self.narrow, self.wide, self.deep)}
        return specs.LayerSimilarity(
            self._training(depth, width_multiplier, seed=seed, part=part, residual=residual),
            num_component_images=self.p.num_component_images,
            probes=(depth, width_multiplier) in probed and part == 1 and residual,
            **self.p.measurement,
        )

    @property
    def everything(self) -> list[specs.Run]:
        """All runs."""
        return [*self.runs.values(), *self.plain.values(), self.between, self.projected]

    def stages(self, store: Store) -> Iterator[list[specs.Run]]:
        """All runs; none depends on another."""
        yield self.everything


def stages(p: Parameters, store: Store) -> Iterator[list[specs.Run]]:
    """All runs, those that depend on others after them."""
    return Runs(p).stages(store)
