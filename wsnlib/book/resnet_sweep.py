"""The chapter on widened ResNet-18s, and what it shares with the one on bottlenecks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import product
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import Field

from wsnlib import data, experiments, specs, sweeps
from wsnlib.book.engine import parameters as fields
from wsnlib.book.engine.claims import printed_table
from wsnlib.estimates import (
    CellsAndSeeds,
    Estimate,
    correlation_of_means,
    estimate,
    exact,
    held_out_best,
    median_and_range,
    shown,
    with_minus,
)
from wsnlib.store import Store

METHODS = {"ResNet18Spec": "dense", "StaticSparsity": "sparse", "ChannelSparsity": "over channels"}
"""Name of each method by the class of the network."""


class ResNetParameters(fields.ChapterParameters):
    """What the chapters that train ResNet-18 share: data, families of widths and the protocol."""

    more_data: list[str] = Field([], description="a list of names of further data sets")
    train_size: fields.TrainSize = None
    base_widths: list[fields.PositiveInt] = Field([8], min_length=1, description="a list of integers ≥ 1")
    widening_factors: list[Annotated[float, Field(ge=1, allow_inf_nan=False)]] = Field(
        [1.0, 2.0], min_length=2, description="a list of 2 or more numbers ≥ 1"
    )
    largest_width: fields.PositiveInt | None = Field(
        None, description="an integer of at least every base width, or null"
    )
    seeds: fields.Seeds = Field([0])
    epochs: fields.PositiveInt = 4
    batch_size: fields.PositiveInt = 128
    learning_rate: fields.PositiveFloat = 0.1
    weight_decay: fields.NonNegativeFloat = 5e-4
    schedule: Literal["multi_step", "cosine", "one_cycle"] = Field(
        "multi_step", description="'multi_step', 'cosine' or 'one_cycle'"
    )
    augmentation: fields.Flag = True
    precision: fields.Precision = "float32"
    evaluate_every: fields.PositiveInt = 1

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

    largest_dense_width: fields.PositiveInt | None = Field(
        None, description="an integer ≥ 1, or null, up to which widths are trained dense, too"
    )
    channel_factors: list[Annotated[float, Field(ge=1, allow_inf_nan=False)]] = Field(
        [2.0], description="a list of widening factors, for masks over channels only"
    )
    channel_base_widths: list[fields.PositiveInt] = Field(
        [8], description="a list of base widths, for masks over channels only"
    )
    imagenet_widths: list[fields.PositiveInt] = Field(
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


Cell = tuple[str, int, int]
"""Method, base width and width."""

Weights = dict[Cell, float]
"""Weights of a contrast of cells."""


def accuracy_model(part: pd.DataFrame) -> CellsAndSeeds:
    """Test accuracy in % of all runs, by `Cell` and seed."""
    cells = part.pivot_table(
        index=["method", "base", "width"], columns="seed", values="test_accuracy", dropna=False
    )
    return CellsAndSeeds(100 * cells.dropna(how="all"))


def mean_of(cells: Iterable[Cell]) -> Weights:
    """The weights of the mean of some cells."""
    each = list(cells)
    return dict.fromkeys(each, 1 / len(each)) if each else {}


def less(first: Weights, *others: Weights) -> Weights:
    """The first less the others."""
    found = dict(first)
    for weights in others:
        for cell, weight in weights.items():
            found[cell] = found.get(cell, 0.0) - weight
    return found


def family_of(part: pd.DataFrame, base: int) -> pd.DataFrame:
    """The dense network of a base width and the sparse, wider ones with as many weights."""
    sparse = (part["method"] == "sparse") & (part["base"] == base) & (part["width"] > base)
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
    wider = (part["base"] == base) & (part["width"] > base)
    is_sparse = ((part["method"] == "sparse") & wider).to_numpy()
    start = accuracy[is_dense].loc[base]
    sparse, wide = (accuracy[rows].sub(start, level="seed") for rows in (is_sparse, is_dense))
    return pd.DataFrame({"sparse": sparse, "dense": wide.reindex(sparse.index)})


def width_gains(base: int, width: int) -> tuple[Weights, Weights]:
    """Contrasts: the gain of a sparse network over its base, and that of the dense one as wide."""
    start: Weights = {("dense", base, base): 1.0}
    return less({("sparse", base, width): 1.0}, start), less({("dense", width, width): 1.0}, start)


def width_shares(part: pd.DataFrame, base: int) -> dict[int, Estimate]:
    """Gain of the sparse network over that of the dense one as wide, by width (G21, Figure 7)."""
    both = gains_over_base(part, base).dropna()
    model = accuracy_model(part)
    widths = both.index.unique("width").sort_values().tolist()
    return {width: model.ratio(*width_gains(base, width)) for width in widths}


def share_in_words(share: Estimate) -> str:
    """A share of width with its interval, in words; one that no number bounds is called so.

    Examples:
        >>> share_in_words(Estimate(mean=0.9164, low=-math.inf, high=math.inf, n=5))
        '0.92 (unbounded)'
        >>> share_in_words(Estimate(mean=-0.9164, low=-math.inf, high=math.inf, n=1))
        '−0.92 (no interval)'
        >>> share_in_words(Estimate(mean=0.99, low=0.56, high=1.71, n=5))
        '0.99 (0.56 to 1.71)'
    """
    if math.isnan(share.mean) or math.isfinite(share.low) or math.isfinite(share.high):
        return shown(share)
    return with_minus(f"{share.mean:,.2f} ({'unbounded' if share.n > 1 else 'no interval'})")


def mask_contrasts(p: Parameters) -> dict[float, Weights]:
    """Masks over all dimensions less masks over channels, by factor, of the smallest base that has both."""
    base = min(p.channel_base_widths)
    return {
        factor: less({("sparse", base, width): 1.0}, {("over channels", base, width): 1.0})
        for factor, width in zip(p.channel_factors, p.channel_widths(base), strict=True)
    }


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
    model, base, factor = accuracy_model(first), bases[0], max(p.channel_factors)
    family = family_of(first, base)
    start: Weights = {("dense", base, base): 1.0}
    wider = [("sparse", base, w) for w in p.widths(base)[1:]]
    shares, masks = width_shares(first, base), mask_contrasts(p)
    by_seed = {
        of: family.pivot(index="seed", columns="width", values=f"{of}_accuracy").to_numpy()
        for of in ("train", "test")
    }
    found = {
        "figure-10": exact(figure_10_error()),
        "channels": model.contrast(masks[factor]),
        "masks-similar": model.contrast(_total(masks.values(), share=1 / len(masks)), confidence=0.9),
    }
    if excess := _excess_weights(first).tolist():
        found["num-weights"] = median_and_range(excess)
    if wider:
        found |= {
            "gain": model.contrast(less(mean_of(wider), start)),
            "gain/held-out best": estimate(held_out_gain(first, base).tolist()),
            "best-factor": model.not_below_best({cell: cell[2] / base for cell in (*start, *wider)}),
        }
    if shares:
        fitting = family.groupby("width")["train_accuracy"].mean()
        best_fit = int(fitting.index.to_numpy()[fitting.to_numpy().argmax()])
        fitted = min(max(best_fit, min(shares)), max(shares))
        gains = [width_gains(base, width) for width in shares]
        total = [_total(parts) for parts in zip(*gains, strict=True)]
        found |= {"width-share": shares[fitted], "width-share/mean over widths": model.ratio(*total)}
    if len(bases) > 1 and wider:
        common = max(set.intersection(*(set(family_of(first, b)["factor"]) for b in bases)))
        each = [width_gains(b, round(b * common))[0] for b in bases[:2]]
        found["smaller-gains-more"] = model.contrast(less(each[0], each[1]))
    if by_seed["test"].shape[1] > 2:
        found["training-accuracy"] = correlation_of_means(by_seed["train"], by_seed["test"])
    return found | {f"imagenet-{kind}-{w}": exact(top_1) for (kind, w), top_1 in imagenet.items()}


def _total(contrasts: Iterable[Weights], *, share: float = 1.0) -> Weights:
    return less({}, *({cell: -share * weight for cell, weight in each.items()} for each in contrasts))


def _excess_weights(part: pd.DataFrame) -> pd.Series[float]:
    """Difference of each sparse network's number of weights from that of its dense base."""
    sparse = part[part["method"] == "sparse"]
    of_base = part[part["method"] == "dense"].groupby("width")["num_weights"].first()
    return (sparse["num_weights"] - sparse["base"].map(of_base)).abs()
