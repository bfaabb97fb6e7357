"""Which networks are trained, on how many images, and in which order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from wsnlib import data, specs
from wsnlib.book.engine.parameters import ChapterParameters, NonNegativeInt, PositiveFloat, PositiveInt
from wsnlib.store import Store


class Network(BaseModel):
    """Trainings of one network, one a seed.

    Args:
        name: What comparisons call it.
        depth: 6n + 2.
        width_multiplier: 1 for stages of 16, 32 and 64 channels.
        part: 16: trained on a sixteenth of the images; 1: on all but those of the validation.
        residual: Whether it has residual connections.
        epochs: Over these images.
        seeds: One training each.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str = Field(min_length=1)
    depth: PositiveInt
    width_multiplier: PositiveFloat = 1.0
    part: PositiveInt = 16
    residual: bool = True
    epochs: PositiveInt
    seeds: list[NonNegativeInt] = Field(min_length=1)


class Comparison(BaseModel):
    """Networks of all these names and seeds, every two of which are compared.

    Args:
        networks: Names.
        seeds: Of each.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    networks: list[str] = Field(min_length=1)
    seeds: list[NonNegativeInt] = Field(min_length=1)


class Parameters(ChapterParameters):
    """Parameters of the runs; each step of `steps` leaves a comparison behind that is whole."""

    images: PositiveInt = Field(50_000, description="an integer ≥ 1, the images whose parts are trained on")
    networks: list[list[Network]] = Field(
        min_length=1,
        description="a list of steps, each a list of networks with name, depth, epochs and seeds",
    )
    compared: list[list[Comparison]] = Field(
        min_length=1, description="for each step of networks a list of comparisons with networks and seeds"
    )
    batch_size: PositiveInt = Field(128, description="an integer ≥ 1")
    learning_rate: PositiveFloat = Field(0.01, description="a number > 0")
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(2e-4, description="a number ≥ 0")
    augmentation: bool = Field(True, description="true or false")
    norm_momentum: Annotated[float, Field(gt=0, le=1)] = Field(0.01, description="a number > 0 and ≤ 1")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="'float32' or 'bfloat16'")
    num_images: Annotated[int, Field(ge=8)] = Field(1000, description="an integer ≥ 8")
    num_removed: PositiveInt = Field(10, description="an integer ≥ 1")
    num_rotated: Annotated[int, Field(ge=4)] = Field(250, description="an integer ≥ 4")
    moments: list[Annotated[float, Field(ge=0, lt=1)]] = Field(
        [0.0, 0.05, 0.2, 0.5], description="a rising list of shares of the epochs, from 0 to below 1"
    )
    least_fit: Annotated[float, Field(gt=0, le=1)] = Field(0.95, description="a training accuracy in (0, 1]")

    @property
    def chapter(self) -> str:
        """The chapter whose page will read these runs."""
        return "cka_blocks"

    def model_post_init(self, context: Any) -> None:
        """Check what concerns several parameters at once."""
        if len(self.compared) != len(self.networks):
            raise ValueError(
                f"compared must have a list for each of the {len(self.networks)} steps of networks, "
                f"got {len(self.compared)}"
            )
        seeds: dict[str, set[int]] = {}
        known: dict[str, Network] = {}
        for networks, comparisons in zip(self.networks, self.compared, strict=True):
            for each in networks:
                meant = known.setdefault(each.name, each)
                if meant.model_copy(update={"seeds": each.seeds}) != each:
                    raise ValueError(f"a name must mean one network in all steps, got two for {each.name!r}")
                seeds[each.name] = seeds.get(each.name, set()) | set(each.seeds)
                specs.ResNetCifarSpec(depth=each.depth, width_multiplier=each.width_multiplier)
            for comparison in comparisons:
                for name in comparison.networks:
                    if not set(comparison.seeds) <= seeds.get(name, set()):
                        raise ValueError(
                            f"compared must be of networks and seeds that were trained by then, got {name!r} "
                            f"with seeds {comparison.seeds}"
                        )
        if self.moments != sorted(set(self.moments)):
            raise ValueError(
                f"moments must be {type(self).model_fields['moments'].description}, got {self.moments}"
            )

    def experiment(self, network: Network, seed: int) -> specs.Experiment:
        """N21's protocol for one network and seed; images are evaluated once, after the last epoch."""
        images = replace(
            self._data_spec(
                train_size=min(self.images // network.part, self.images - self.validation_size),
                normalisation="unit",
            ),
            validation_size=self.validation_size,
        )
        model = specs.ResNetCifarSpec(
            depth=network.depth,
            width_multiplier=network.width_multiplier,
            num_classes=data.num_classes(images),
            input_channels=data.image_shape(images)[0],
            residual=network.residual,
            norm_momentum=self.norm_momentum,
        )
        protocol = specs.Training(
            epochs=network.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            momentum=0.9,
            weight_decay=self.weight_decay,
            weight_decay_on="weights",
            schedule=specs.Cosine(),
            augmentation=specs.CropAndFlip(padding_mode="reflect") if self.augmentation else None,
            precision=self.precision,
            evaluate_every=network.epochs,
        )
        return specs.Experiment(model=model, data=images, training=protocol, seed=seed)


Key = tuple[str, int]
"""A network's name and a seed."""


class Runs:
    """The measurements of a plan.

    Attributes:
        networks: What each name means.
        origins: Of each network and seed, in the order of the plan.
        compared: Comparisons, and the networks and seeds that each is of.
    """

    def __init__(self, p: Parameters) -> None:
        self.p = p
        self.networks: dict[str, Network] = {}
        self.origins: dict[Key, specs.BlockOrigins] = {}
        self.compared: list[tuple[tuple[Key, ...], specs.OutputSimilarity]] = []
        self._steps: list[list[specs.Run]] = []
        for networks, comparisons in zip(p.networks, p.compared, strict=True):
            here: list[specs.Run] = []
            for network in networks:
                self.networks[network.name] = network
                for seed in network.seeds:
                    self.origins[network.name, seed] = self._origins(network, seed)
                    here.append(self.origins[network.name, seed])
            then: list[specs.Run] = []
            for comparison in comparisons:
                keys = tuple((name, seed) for name in comparison.networks for seed in comparison.seeds)
                trained = tuple(p.experiment(self.networks[name], seed) for name, seed in keys)
                made = specs.OutputSimilarity(trained, num_images=p.num_images)
                then.append(made)
                self.compared.append((keys, made))
            self._steps += [step for step in (here, then) if step]

    def _origins(self, network: Network, seed: int) -> specs.BlockOrigins:
        return specs.BlockOrigins(
            self.p.experiment(network, seed),
            epochs=tuple(sorted({int(moment * network.epochs) for moment in self.p.moments})),
            num_images=self.p.num_images,
            num_removed=self.p.num_removed,
            num_rotated=self.p.num_rotated,
            probes=self.p.validation_size > 0,
        )

    @property
    def everything(self) -> list[specs.Run]:
        """All runs."""
        return [run for step in self._steps for run in step]

    def stages(self) -> Iterator[list[specs.Run]]:
        """The runs step by step; comparisons follow the networks that they are of."""
        yield from self._steps


def stages(p: Parameters, store: Store) -> Iterator[list[specs.Run]]:
    """All runs, step by step."""
    return Runs(p).stages()
