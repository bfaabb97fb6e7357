"""The chapter on widened ResNet-18s, and what it shares with the one on bottlenecks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import product
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import Field

from wsnlib import data, experiments, specs, sweeps
from wsnlib.book.engine.claims import printed_table
from wsnlib.book.engine.parameters import ChapterParameters, NonNegativeInt, PositiveFloat, PositiveInt
from wsnlib.estimates import Estimate, correlation, estimate, held_out_best, median_and_range, ratio_of_means
from wsnlib.store import Store

METHODS = {"ResNet18Spec": "dense", "StaticSparsity": "sparse", "ChannelSparsity": "over channels"}
"""Name of each method by the class of the network."""


class ResNetParameters(ChapterParameters):
    """What the chapters that train ResNet-18 share: data, families of widths and the protocol."""

    more_data: list[str] = Field([], description="a list of names of further data sets")
    train_size: PositiveInt | None = Field(
        None, description="an integer ≥ 1, or null for all training images"
    )
    base_widths: list[PositiveInt] = Field([8], min_length=1, description="a list of integers ≥ 1")
    widening_factors: list[Annotated[float, Field(ge=1, allow_inf_nan=False)]] = Field(
        [1.0, 2.0], min_length=2, description="a list of 2 or more numbers ≥ 1"
    )
    largest_width: PositiveInt | None = Field(
        None, description="an integer of at least every base width, or null"
    )
    seeds: list[NonNegativeInt] = Field([0], min_length=1, description="a list of integers ≥ 0")
    epochs: PositiveInt = Field(4, description="an integer ≥ 1")
    batch_size: PositiveInt = Field(128, description="an integer ≥ 1")
    learning_rate: PositiveFloat = Field(0.1, description="a number > 0")
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(5e-4, description="a number ≥ 0")
    schedule: Literal["multi_step", "cosine", "one_cycle"] = Field(
        "multi_step", description="'multi_step', 'cosine' or 'one_cycle'"
    )
    augmentation: bool = Field(True, description="true or false")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="'float32' or 'bfloat16'")
    evaluate_every: PositiveInt = Field(1, description="an integer ≥ 1")

    def model_post_init(self, context: Any) -> None:
        """Check what concerns several parameters at once."""
        if 1.0 not in self.widening_factors:
            raise ValueError(f"widening_factors must be a list that holds 1.0, got {self.widening_factors}")
        if self.largest_width is not None and self.largest_width < max(self.base_widths):
            raise ValueError(
                f"largest_width must be ≥ the greatest base width {max(self.base_widths)}, or null, "
                f"got {self.largest_width}"
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


class Parameters(ResNetParameters):
    """Parameters of the chapter `resnet_sweep`: the networks of G21, Figures 6, 7 and 9."""

    largest_dense_width: PositiveInt | None = Field(
        None, description="an integer ≥ 1, or null, up to which widths are trained dense, too"
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
                f"imagenet_widths must be widths of at least the first, got {self.imagenet_widths}"
            )

    def channel_widths(self, base_width: int) -> list[int]:
        """The width for each of `channel_factors`, at which masks of both kinds are compared."""
        return specs.widths(specs.ResNet18Spec(width=base_width), widening_factors=self.channel_factors)

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


def dense(width: int, source: specs.DataSpec) -> specs.ResNet18Spec:
    channels, classes = data.image_shape(source)[0], data.num_classes(source)
    return specs.ResNet18Spec(width=width, input_channels=channels, num_classes=classes)


def runs_on(
    p: ResNetParameters, networks: Callable[[specs.DataSpec], list[specs.ModelSpec]]
) -> list[specs.Experiment]:
    """On every data set, with every seed, the networks that there are; each once."""
    found = [
        specs.Experiment(model=model, data=source, training=p.training, seed=seed)
        for source in p.data_specs.values()
        for seed, model in product(p.seeds, networks(source))
        if experiments.is_reachable(model)
    ]
    return list(dict.fromkeys(found))


def runs(p: Parameters) -> list[specs.Experiment]:
    """Sparse and dense families of widths, and masks over channels only (G21, Figures 6, 7 and 9)."""

    def networks(source: specs.DataSpec) -> list[specs.ModelSpec]:
        found: list[specs.ModelSpec] = []
        for base_width in p.base_widths:
            base, widths = dense(base_width, source), p.widths(base_width)
            found += [specs.StaticSparsity(base, width=w) for w in widths[1:]]
            most = p.largest_dense_width or max(widths)
            found += [dense(w, source) for w in widths if w <= most]
        for base_width in p.channel_base_widths:
            base = dense(base_width, source)
            for width in p.channel_widths(base_width):
                found += [specs.StaticSparsity(base, width=width), specs.ChannelSparsity(base, width=width)]
        return found

    return runs_on(p, networks)


def imagenet_runs(p: Parameters) -> dict[tuple[str, int], specs.Experiment]:
    """G21's Table 1 by `"dense"` or `"sparse"` and width; empty if no widths are asked for."""
    models: dict[tuple[str, int], specs.ModelSpec] = {}
    for width in p.imagenet_widths:
        base = specs.ResNet18Spec(
            width=p.imagenet_widths[0], num_classes=1000, stem="imagenet", initialisation="fan_out"
        )
        models["dense", width] = replace(base, width=width)
        if width > base.width:
            models["sparse", width] = specs.StaticSparsity(base, width=width)
    source = specs.ImageNet(normalisation="imagenet")
    return {
        name: specs.Experiment(model=model, data=source, training=p.imagenet_training, seed=p.seeds[0])
        for name, model in models.items()
    }


def stages(p: Parameters, store: Store) -> Iterator[list[specs.Run]]:
    """All runs; none depends on another."""
    yield [*runs(p), *imagenet_runs(p).values()]


def by_family(table: pd.DataFrame, methods: Mapping[str, str]) -> pd.DataFrame:
    """A table of `wsn.table` with the columns `method`, `width`, `base` and `factor`, which is width / base.

    Args:
        table: One row a run of a ResNet-18, whose own width is its base.
        methods: Name of the method by the class of the network.

    Examples:
        >>> rows = {"model": ["ResNet18Spec", "StaticSparsity"], "model.width": [8, 12]}
        >>> found = by_family(pd.DataFrame(rows | {"model.base.width": [None, 8]}), METHODS)
        >>> found[["method", "base", "width", "factor"]].values.tolist()
        [['dense', 8, 8, 1.0], ['sparse', 8, 12, 1.5]]
    """
    table = table.rename(columns={"model.width": "width", "model.base.width": "base"})
    base = table["base"].fillna(table["width"]).astype(int)
    return table.assign(method=table["model"].map(methods), base=base, factor=table["width"] / base)


def results(p: Parameters, store: Store) -> pd.DataFrame:
    """One row a run of the figures, with the columns of `by_family` and where it was made."""
    return by_family(sweeps.table(runs(p), store=store, environment=True), METHODS)


def imagenet_accuracy(p: Parameters, store: Store) -> dict[tuple[str, int], float]:
    """Test accuracy in % of the runs of Table 1, by `"dense"` or `"sparse"` and width."""
    return {name: 100 * store.load(run).reported("test_accuracy") for name, run in imagenet_runs(p).items()}


def on_first_data(table: pd.DataFrame) -> pd.DataFrame:
    """The rows on the first data set, from which the claims are judged."""
    return table[table["data"] == str(table["data"].iloc[0])]


def family_of(part: pd.DataFrame, base: int) -> pd.DataFrame:
    """The dense network of a base width and the sparse, wider ones with as many weights."""
    sparse = (part["method"] == "sparse") & (part["base"] == base)
    start = (part["method"] == "dense") & (part["width"] == base)
    return part[sparse | start].sort_values(["width", "seed"])


def best_wider(part: pd.DataFrame) -> pd.Series[float]:
    """Test accuracy of each seed at the width that is best on the other seeds."""
    return held_out_best(part, cell=["width"]).set_index("seed")["test_accuracy"]


def held_out_gain(part: pd.DataFrame, base: int) -> pd.Series[float]:
    """Points of the best sparse, wider network above the dense one with as many weights, by seed."""
    family = family_of(part, base)
    start = family[family["width"] == base].set_index("seed")["test_accuracy"]
    return 100 * (best_wider(family[family["width"] > base]) - start)


def gains_over_base(part: pd.DataFrame, base: int) -> pd.DataFrame:
    """Points above the dense base network of the same seed, by width and seed.

    The column `sparse` is of the networks with as many weights as the base, `dense` of the dense ones as
    wide, NaN where there are none.
    """
    accuracy = 100 * part.set_index(["width", "seed"])["test_accuracy"]
    is_dense = (part["method"] == "dense").to_numpy()
    is_sparse = ((part["method"] == "sparse") & (part["base"] == base)).to_numpy()
    start = accuracy[is_dense].loc[base]
    sparse, wide = (accuracy[rows].sub(start, level="seed") for rows in (is_sparse, is_dense))
    return pd.DataFrame({"sparse": sparse, "dense": wide.reindex(sparse.index)})


def width_shares(part: pd.DataFrame, base: int) -> dict[int, Estimate]:
    """Gain of the sparse network over that of the dense one as wide, by width (G21, Figure 7)."""
    gained = gains_over_base(part, base).dropna()
    found = {}
    for width in gained.index.unique("width").sort_values().tolist():
        rows = gained.xs(width, level="width")
        found[width] = ratio_of_means(rows["sparse"].tolist(), rows["dense"].tolist())
    return found


def mask_differences(part: pd.DataFrame, p: Parameters) -> pd.DataFrame:
    """Points of masks over all dimensions less masks over channels, one row a seed, one column a factor.

    They are of the smallest of the base widths that have both.
    """
    base = min(p.channel_base_widths)
    rows = part[part["base"] == base]
    points = 100 * rows.pivot(index="seed", columns=["method", "width"], values="test_accuracy")
    widths = zip(p.channel_factors, p.channel_widths(base), strict=True)
    return pd.DataFrame({f: points["sparse", w] - points["over channels", w] for f, w in widths})


def layer_sparsity(base: specs.ResNet18Spec, width: int) -> pd.Series[float]:
    """Sparsity in % of the base network widened, under `"network"`, and of each of its layers."""
    full = pd.Series(experiments.weights_per_layer(replace(base, width=width)))
    kept = pd.Series(experiments.weights_per_layer(specs.StaticSparsity(base, width=width)))
    network = pd.Series({"network": kept.sum() / full.sum()})
    return 100 * (1 - pd.concat([network, kept / full]))


def figure_10_error() -> float:
    """Largest difference of the sparsity of a layer from what G21 prints in Figure 10, in points.

    Examples:
        >>> round(figure_10_error(), 3)
        0.05
    """
    printed = printed_table("G21", "Figure 10").T
    base = specs.ResNet18Spec(width=8, num_classes=100)
    ours = pd.DataFrame({width: layer_sparsity(base, int(width)) for width in printed.columns.tolist()})
    return float((ours.loc[printed.index] - printed).abs().max().max())


def estimates(
    table: pd.DataFrame, p: Parameters, *, imagenet: Mapping[tuple[str, int], float] = {}
) -> dict[str, Estimate]:
    """Our estimate for each claim that the runs can decide.

    Args:
        table: As `results` gives it.
        p: The parameters of the runs.
        imagenet: As `imagenet_accuracy` gives it.
    """
    first, bases = on_first_data(table), sorted(p.base_widths)
    family = family_of(first, bases[0])
    trained = sweeps.summarise(family, by="width", value="train_accuracy")["mean"]
    tested = sweeps.summarise(family, by="width")["mean"]
    shares, masks = width_shares(first, bases[0]), mask_differences(first, p)
    fitted = min(max(int(trained.index[int(trained.argmax())]), min(shares)), max(shares))
    best_factors = family.set_index("factor").groupby("seed")["test_accuracy"].idxmax()
    found = {
        "figure-10": median_and_range([figure_10_error()]),
        "num-weights": median_and_range(_excess_weights(first).tolist()),
        "gain": estimate(held_out_gain(first, bases[0]).tolist()),
        "best-factor": median_and_range(best_factors.tolist()),
        "width-share": shares[fitted],
        "channels": estimate(masks[max(p.channel_factors)].tolist()),
        "masks-similar": estimate(masks.mean(axis=1, skipna=False).tolist()),
    }
    if len(bases) > 1:
        common = max(set.intersection(*(set(family_of(first, base)["factor"]) for base in bases)))
        gains = [gains_over_base(first, b)["sparse"].loc[round(b * common)] for b in bases[:2]]
        found["smaller-gains-more"] = estimate((gains[0] - gains[1]).tolist())
    if len(tested) > 2:
        found["training-accuracy"] = correlation(trained.tolist(), tested.tolist())
    return found | {
        f"imagenet-{kind}-{w}": median_and_range([top_1]) for (kind, w), top_1 in imagenet.items()
    }


def _excess_weights(part: pd.DataFrame) -> pd.Series[float]:
    """Difference of each sparse network's number of weights from that of its dense base."""
    sparse = part[part["method"] == "sparse"]
    of_base = part[part["method"] == "dense"].groupby("width")["num_weights"].first()
    return (sparse["num_weights"] - sparse["base"].map(of_base)).abs()
