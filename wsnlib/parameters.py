"""The parameters of each chapter: one schema a chapter, checked before any work."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wsnlib import specs

PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Density = Annotated[float, Field(gt=0, le=1)]

_IPYTHON_NAMES = {"In", "Out", "exit", "quit", "get_ipython", "open"}
_PLAIN = (bool, int, float, str, list, tuple, dict, type(None))


class Parameters(BaseModel):
    """What all chapters share; checked strictly: no unknown name, no silent conversion."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    profile: Literal["smoke", "cpu", "gpu", "paper"] = Field(
        "smoke", description="'smoke', 'cpu', 'gpu' or 'paper'"
    )
    preset: Literal["faithful", "clean"] = Field("faithful", description="'faithful' or 'clean'")
    data: str = Field(
        "digits", min_length=1, description="'digits', 'mnist', 'fashion_mnist' or a packed name"
    )
    data_sha256: str | None = Field(None, description="the checksum of data packed by wsn.pack_data, or null")
    validation_size: NonNegativeInt = Field(0, description="an integer of at least 0")
    device: str = Field("auto", description="'auto', 'cpu' or 'cuda'")
    budget_minutes: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        5.0, description="a number of minutes of at least 0"
    )
    download: bool = Field(False, description="true or false")

    @classmethod
    def read(cls, namespace: Mapping[str, Any]) -> Self:
        """The parameters among the variables of a notebook, `read(globals())`.

        Called first in a notebook, when its only plain variables are parameters, it refuses
        unknown ones; called again later it reads those it knows.

        Raises:
            ValueError: In one sentence, with the value and what is allowed.

        Examples:
            >>> SparseMLPParameters.read({"epochs": 3, "widths": [5, 10]}).widths
            [5, 10]
            >>> SparseMLPParameters.read({"epoch": 3})
            Traceback (most recent call last):
            ValueError: 'epoch' is not a parameter of this chapter; did you mean 'epochs'?
        """
        again = any(isinstance(value, Parameters) for value in namespace.values())
        given = {
            name: value
            for name, value in namespace.items()
            if isinstance(value, _PLAIN) and not name.startswith("_") and name not in _IPYTHON_NAMES
        }
        unknown = [name for name in given if name not in cls.model_fields]
        if unknown and not again:
            near = difflib.get_close_matches(unknown[0], cls.model_fields, n=1)
            hint = (
                f"did you mean {near[0]!r}?" if near else f"the parameters are {', '.join(cls.model_fields)}"
            )
            raise ValueError(f"{unknown[0]!r} is not a parameter of this chapter; {hint}")
        try:
            return cls.model_validate({name: given[name] for name in given if name in cls.model_fields})
        except ValidationError as error:
            raise ValueError(cls._sentence(error)) from None

    @classmethod
    def _sentence(cls, error: ValidationError) -> str:
        first = error.errors()[0]
        if not first["loc"]:  # raised below, as a sentence already
            return str(first["ctx"]["error"])
        name, *place = first["loc"]
        allowed = cls.model_fields[str(name)].description
        position = "".join(f"[{p}]" for p in place if isinstance(p, int))
        hint = ""
        if isinstance(first["input"], str) and _is_number(first["input"]):
            hint = (
                f" (it is text; in YAML write {float(first['input'])!r} without quotes, and 1.0e-3, not 1e-3)"
            )
        return f"{name}{position} is {first['input']!r}; {allowed} is allowed{hint}"

    def _data_spec(self, *, name: str | None = None, **size: Any) -> specs.DataSpec:
        """The data set; only the clean preset sets validation images aside."""
        name = self.data if name is None else name
        if self.preset == "clean" and self.validation_size == 0:
            raise ValueError("validation_size is 0; at least 1 is allowed with preset 'clean'")
        size["validation_size"] = self.validation_size if self.preset == "clean" else 0
        known = {
            "digits": specs.Digits,
            "mnist": specs.MNIST,
            "fashion_mnist": specs.FashionMNIST,
            "cifar10": specs.CIFAR10,
            "cifar100": specs.CIFAR100,
            "svhn": specs.SVHN,
            "imagenet": specs.ImageNet,
        }
        if name in known:
            return known[name](**size)
        if self.data_sha256 is None:
            raise ValueError(
                f"data is {name!r}; one of {', '.join(map(repr, known))} is allowed, or the name of "
                "packed data together with data_sha256"
            )
        return specs.PackedData(name=name, sha256=self.data_sha256, **size)

    @property
    def _report(self) -> Literal["best_test", "best_validation"]:
        """The epoch whose accuracy counts, which is what the presets differ in."""
        return "best_test" if self.preset == "faithful" else "best_validation"

    def _check_widths(self, widths: list[int], base_width: int) -> None:
        if base_width not in widths:
            raise ValueError(f"widths is {widths}; a list that holds the base width {base_width} is allowed")
        if min(widths) < base_width:
            raise ValueError(
                f"widths holds {min(widths)}; integers of at least the base width {base_width} are allowed"
            )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class SparseMLPParameters(Parameters):
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


class GPKernelParameters(Parameters):
    """Parameters of the chapter `gp_kernel`: Theorem 1, simulated kernels, the networks of G21, Figure 8."""

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


class ResNetParameters(Parameters):
    """What the chapters that train ResNet-18 share: data, families of widths and the protocol."""

    more_data: list[str] = Field([], description="a list of names of further data sets")
    train_size: PositiveInt | None = Field(
        None, description="an integer of at least 1, or null for all training images"
    )
    base_widths: list[PositiveInt] = Field([8], min_length=1, description="a list of integers of at least 1")
    widening_factors: list[Annotated[float, Field(ge=1, allow_inf_nan=False)]] = Field(
        [1.0, 2.0], min_length=2, description="a list of at least 2 numbers of at least 1"
    )
    largest_width: PositiveInt | None = Field(
        None, description="an integer of at least every base width, or null"
    )
    seeds: list[NonNegativeInt] = Field([0], min_length=1, description="a list of integers of at least 0")
    epochs: PositiveInt = Field(4, description="an integer of at least 1")
    batch_size: PositiveInt = Field(128, description="an integer of at least 1")
    learning_rate: PositiveFloat = Field(0.1, description="a number above 0")
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        5e-4, description="a number of at least 0"
    )
    schedule: Literal["multi_step", "cosine", "one_cycle"] = Field(
        "multi_step", description="'multi_step', 'cosine' or 'one_cycle'"
    )
    augmentation: bool = Field(True, description="true or false")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="'float32' or 'bfloat16'")
    evaluate_every: PositiveInt = Field(1, description="an integer of at least 1")

    def model_post_init(self, context: Any) -> None:
        """Check what concerns several parameters at once."""
        if 1.0 not in self.widening_factors:
            raise ValueError(f"widening_factors is {self.widening_factors}; a list that holds 1.0 is allowed")
        if self.largest_width is not None and self.largest_width < max(self.base_widths):
            raise ValueError(
                f"largest_width is {self.largest_width}; an integer of at least the greatest base width "
                f"{max(self.base_widths)} is allowed, or null"
            )
        _ = self.data_specs

    @property
    def data_specs(self) -> dict[str, specs.DataSpec]:
        """The data sets by name; the faithful preset takes ImageNet's statistics, as G21's code does."""
        found = {}
        for name in (self.data, *self.more_data):
            size: dict[str, Any] = {"train_size": self.train_size}
            if self.preset == "faithful" and name in ("cifar10", "cifar100", "svhn"):
                size["normalisation"] = "imagenet"
            found[name] = self._data_spec(name=name, **size)
        return found

    @property
    def training(self) -> specs.Training:
        """The protocol; milestones and cycles are fractions of the run, so that a short one decays too."""
        schedules: dict[str, specs.Schedule] = {
            "multi_step": specs.MultiStep(milestones=(50 / 300, 120 / 300, 200 / 300)),
            "cosine": specs.Cosine(),
            "one_cycle": specs.OneCycle(),
        }
        return specs.Training(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            momentum=0.9,
            weight_decay=self.weight_decay,
            schedule=schedules[self.schedule],
            augmentation=specs.CropAndFlip() if self.augmentation else None,
            precision=self.precision,
            evaluate_every=self.evaluate_every,
            report=self._report,
        )

    def widths(self, base_width: int) -> list[int]:
        """The widths of one family up to `largest_width`, rounded down as in G21; the first is the base's."""
        base = specs.ResNet18Spec(width=base_width)
        widths = set(specs.widths(base, widening_factors=self.widening_factors))
        return sorted(w for w in widths if self.largest_width is None or w <= self.largest_width)

    @property
    def same_data(self) -> bool:
        """Whether the images are those of a data set of G21, all of them or a part."""
        return {self.data, *self.more_data} <= {"cifar10", "cifar100", "svhn"}

    @property
    def full_protocol(self) -> bool:
        """Whether all images and the whole training of G21, Appendix A are used."""
        return (
            self.train_size is None
            and self.epochs >= 300
            and self.batch_size == 128
            and self.learning_rate == 0.1
            and self.schedule == "multi_step"
        )


class BottlenecksParameters(ResNetParameters):
    """Parameters of the chapter `bottlenecks`: the networks of G21, Figure 3."""


class ResNetSweepParameters(ResNetParameters):
    """Parameters of the chapter `resnet_sweep`: the networks of G21, Figures 6, 7 and 9."""

    largest_dense_width: PositiveInt | None = Field(
        None, description="an integer of at least 1, or null, up to which widths are trained dense, too"
    )
    channel_factors: list[Annotated[float, Field(ge=1, allow_inf_nan=False)]] = Field(
        [2.0], description="a list of widening factors, for masks over channels only"
    )
    channel_base_widths: list[PositiveInt] = Field(
        [8], description="a list of base widths, for masks over channels only"
    )
    imagenet_widths: list[PositiveInt] = Field(
        [], description="a list of widths of at least the first, which is the base's, or []"
    )

    def model_post_init(self, context: Any) -> None:
        """Check what concerns several parameters at once."""
        super().model_post_init(context)
        if self.imagenet_widths and min(self.imagenet_widths) < self.imagenet_widths[0]:
            raise ValueError(
                f"imagenet_widths is {self.imagenet_widths}; widths of at least the first are allowed"
            )

    @property
    def imagenet_training(self) -> specs.Training:
        """G21's protocol for ImageNet (Appendix A and A.1); its batch size is unsaid, ours 256."""
        return specs.Training(
            epochs=150,
            batch_size=256,
            learning_rate=0.1,
            momentum=0.9,
            weight_decay=1e-4,
            schedule=specs.Cosine(),
            augmentation=specs.ResizedCropAndFlip(),
            precision=self.precision,
            report=self._report,
        )


class CKABlocksParameters(Parameters):
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


class YourNetworkParameters(Parameters):
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


Depth = Annotated[int, Field(ge=8)]
Multiplier = Annotated[float, Field(ge=1 / 16, allow_inf_nan=False)]


class WideVsDeepErrorsParameters(Parameters):
    """Parameters of the chapter `wide_vs_deep_errors`: populations of N21's CIFAR ResNets."""

    train_size: PositiveInt | None = Field(
        None, description="an integer of at least 1, or null for all training images"
    )
    base_multiplier: Multiplier = Field(0.125, description="a number of at least 1/16")
    deep_depths: list[Depth] = Field([14, 20], min_length=1, description="a list of depths 6n + 2")
    wide_depth: Depth = Field(8, description="a depth 6n + 2")
    wide_multipliers: list[Multiplier] = Field(
        [0.1875, 0.25], min_length=1, description="a list of numbers of at least base_multiplier"
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
    networks: Annotated[int, Field(ge=6)] = Field(20, description="an integer of at least 6")
    other_networks: Annotated[int, Field(ge=6)] = Field(6, description="an integer of 6 to networks")
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
        for name, lowest in (
            ("wide_multipliers", min(self.wide_multipliers)),
            ("sparse_multiplier", self.sparse_multiplier),
        ):
            if lowest <= self.base_multiplier:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; numbers above base_multiplier {self.base_multiplier} "
                    "are allowed"
                )
        if self.other_networks > self.networks:
            raise ValueError(
                f"other_networks is {self.other_networks}; 6 to networks {self.networks} are allowed"
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

    @property
    def search_seeds(self) -> range:
        """Seeds of the networks that choose the pair."""
        return range(self.search_networks)

    def seeds(self, networks: int) -> range:
        """Seeds of the networks of a population, none of which chose the pair."""
        return range(self.search_networks, self.search_networks + networks)

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
