"""The chapter on networks of one's own: its parameters and trainings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from torch import nn

from wsnlib import data, experiments, specs
from wsnlib.book.engine import parameters as fields
from wsnlib.store import Store


class Parameters(fields.ChapterParameters):
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
    train_size: fields.TrainSize = None
    factory: str = Field(
        "torchvision.models.mobilenet_v3_small", description="the name of a function or class, 'module.name'"
    )
    width_option: str = Field("width_mult", description="the name of the factory's option for its width")
    classes_option: str = Field("num_classes", description="the name of the factory's option for its classes")
    options: dict[str, Any] = Field({}, description="a mapping of further options to plain values")
    widths: list[fields.PositiveFloat] = Field(
        [0.25, 0.5], min_length=2, description="a rising list of 2 or more numbers > 0"
    )
    seeds: fields.Seeds = Field([0])
    epochs: fields.PositiveInt = 4
    batch_size: fields.PositiveInt = 32
    learning_rate: fields.PositiveFloat = 0.05
    weight_decay: fields.NonNegativeFloat = 5e-4
    schedule: Literal["cosine", "one_cycle"] = Field("one_cycle", description="'cosine' or 'one_cycle'")
    augmentation: fields.Flag = False
    precision: fields.Precision = "float32"

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
        return self._training(
            momentum=0.9,
            schedule=specs.Cosine() if self.schedule == "cosine" else specs.OneCycle(),
            augmentation=specs.CropAndFlip() if self.augmentation else None,
            evaluate_every=self.epochs,
        )


def colour_digits() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """scikit-learn's digits, enlarged to 32 by 32 pixels with three colour channels, and their labels.

    Examples:
        >>> pixels, labels = colour_digits()
        >>> pixels.shape, int(pixels.max()), labels.shape
        ((1797, 32, 32, 3), 240, (1797,))
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = (15 * digits.images).astype(np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    return pixels[..., None].repeat(3, axis=3), digits.target


def pack_digits() -> None:
    """Pack `colour_digits` into the data root, as the page shows, where they are not there; say nothing."""
    if (data.data_root() / "colour_digits.npz").exists():
        return
    pixels, labels = colour_digits()
    with TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        file = Path(folder) / "digits.npz"
        np.savez(file, train_x=pixels, train_y=labels)
        data.pack_data(file, name="colour_digits")


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


def depthwise_layers(spec: specs.CustomSpec) -> tuple[str, ...]:
    """Names of the convolutions in groups, in the order of the weights."""
    modules = dict(experiments.build(spec).named_modules())
    names = experiments.weights_per_layer(spec)
    found = {name: modules[name] for name in names}
    return tuple(name for name, layer in found.items() if isinstance(layer, nn.Conv2d) and layer.groups > 1)


def stages(p: Parameters, store: Store) -> Iterator[list[specs.Run]]:
    """All runs, of one stage; the data set that the page packs is there then."""
    if p.data == "colour_digits":
        pack_digits()
    yield list(Runs(p).runs.values())
