"""The chapter on networks of one's own: its parameters and trainings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import nn

from wsnlib import data, experiments, specs
from wsnlib.book.engine.parameters import ChapterParameters, NonNegativeInt, PositiveFloat, PositiveInt
from wsnlib.store import Store


class Parameters(ChapterParameters):
    """Parameters of the chapter `your_network`: any importable network, and any data.

    The last epoch counts, so nothing is chosen and the presets train alike.
    """

    data: str = Field(
        "colour_digits", min_length=1, description="'cifar10' or another known name, or a packed name"
    )
    data_sha256: str | None = Field(
        "5c46496995576305e6d23fa232fb2c53c63e1d7ca1b338e9a2872fc72a1abc6a",
        description="the checksum of data packed by wsn.pack_data, or null",
    )
    train_size: PositiveInt | None = Field(
        None, description="an integer ≥ 1, or null for all training images"
    )
    factory: str = Field(
        "torchvision.models.mobilenet_v3_small", description="the name of a function or class, 'module.name'"
    )
    width_option: str = Field("width_mult", description="the name of the factory's option for its width")
    classes_option: str = Field("num_classes", description="the name of the factory's option for its classes")
    options: dict[str, Any] = Field({}, description="a mapping of further options to plain values")
    widths: list[PositiveFloat] = Field(
        [0.25, 0.5], min_length=2, description="a rising list of 2 or more numbers > 0"
    )
    seeds: list[NonNegativeInt] = Field([0], min_length=1, description="a list of integers ≥ 0")
    epochs: PositiveInt = Field(4, description="an integer ≥ 1")
    batch_size: PositiveInt = Field(32, description="an integer ≥ 1")
    learning_rate: PositiveFloat = Field(0.05, description="a number > 0")
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(5e-4, description="a number ≥ 0")
    schedule: Literal["cosine", "one_cycle"] = Field("one_cycle", description="'cosine' or 'one_cycle'")
    augmentation: bool = Field(False, description="true or false")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="'float32' or 'bfloat16'")

    def model_post_init(self, context: Any) -> None:
        """Check what concerns several parameters at once."""
        if self.widths != sorted(set(self.widths)):
            raise ValueError(f"widths must be a rising list of 2 or more numbers > 0, got {self.widths}")
        for name in (self.width_option, self.classes_option):
            if name in self.options:
                raise ValueError(f"options must be other than what the chapter sets, got {name!r}")
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


Cell = tuple[str, float]
"""How the weights are spread, and a width."""


class Runs:
    """A network of somebody else's at several widths, dense and with the weights of the narrowest.

    Attributes:
        nets: Dense networks by width.
        depthwise: Names of the layers that are convolutions in groups.
        models: Networks by cell.
        runs: Trainings by cell and seed.
    """

    def __init__(self, p: Parameters) -> None:
        classes = data.num_classes(p.data_spec)
        self.nets = {width: p.network(width, num_classes=classes) for width in p.widths}
        base, widest = self.nets[p.base_width], self.nets[p.widths[-1]]
        self.depthwise = depthwise_layers(widest)
        self.models: dict[Cell, specs.ModelSpec] = {("dense, as wide", w): n for w, n in self.nets.items()}
        for width in p.widths[1:]:
            self.models["largest layer first", width] = specs.CustomSparsity(base, self.nets[width])
            spared = specs.CustomSparsity(base, self.nets[width], exclude=self.depthwise)
            if self.depthwise and experiments.is_reachable(spared):
                self.models["depthwise kept dense", width] = spared
        self.runs = {
            (*cell, seed): specs.Experiment(model=model, data=p.data_spec, training=p.training, seed=seed)
            for cell, model in self.models.items()
            for seed in p.seeds
        }

    def stages(self, store: Store) -> Iterator[list[specs.Run]]:
        """All runs; none depends on another."""
        yield list(self.runs.values())


def depthwise_layers(spec: specs.CustomSpec) -> tuple[str, ...]:
    """Names of the convolutions in groups, in the order of the weights."""
    modules = dict(experiments.build(spec).named_modules())
    names = experiments.weights_per_layer(spec)
    found = {name: modules[name] for name in names}
    return tuple(name for name, layer in found.items() if isinstance(layer, nn.Conv2d) and layer.groups > 1)


def stages(p: Parameters, store: Store) -> Iterator[list[specs.Run]]:
    """All runs, those that depend on others after them."""
    return Runs(p).stages(store)
