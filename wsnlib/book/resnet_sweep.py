"""The chapter on widened ResNet-18s, and what it shares with the one on bottlenecks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
    difference,
    estimate,
    exact,
    exact_range,
    held_out_best,
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
        return self._training(
            momentum=0.9,
            schedule=schedules[self.schedule],
            augmentation=specs.CropAndFlip() if self.augmentation else None,
            report=self._report,
        )

    def widths_by_factor(self, base_width: int) -> dict[float, int]:
        """The width for each widening factor, rounded down as in G21; none above `largest_width`."""
        base = specs.ResNet18Spec(width=base_width)
        widths = specs.widths(base, widening_factors=self.widening_factors)
        most = math.inf if self.largest_width is None else self.largest_width
        return {f: w for f, w in zip(self.widening_factors, widths, strict=True) if w <= most}

    def widths(self, base_width: int) -> list[int]:
        """The widths of one family, each once; the first is the base's."""
        return sorted(set(self.widths_by_factor(base_width).values()))

    def common_factors(self, base_widths: Sequence[int]) -> list[float]:
        """The widening factors that make a network of each of these base widths wider, in order.

        Examples:
            >>> p = ResNetParameters(profile="cpu", widening_factors=[1.0, 1.1, 2.25, 4.0], largest_width=60)
            >>> p.common_factors([8, 18])  # of which 1.1 leaves width 8 as it is
            [2.25]
        """
        wider = [{f for f, w in self.widths_by_factor(base).items() if w > base} for base in base_widths]
        return sorted(set.intersection(*wider))

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
        None, description="an integer ≥ 1, or null, up to which wider networks are trained dense, too"
    )
    more_factors: list[Annotated[float, Field(gt=1, allow_inf_nan=False)]] = Field(
        [],
        description="a list of widening factors > 1 of the smallest base on further data sets, or [] for all",
    )
    learning_rates: list[fields.PositiveFloat] = Field(
        [], description="a list of numbers > 0 that holds learning_rate, or []"
    )
    largest_tuned_width: fields.PositiveInt | None = Field(
        None, description="an integer ≥ 1, or null, up to which widths take the best of learning_rates, too"
    )
    rate_epochs: fields.PositiveInt = 1
    rate_seed: fields.NonNegativeInt = 900_000
    channel_factors: list[Annotated[float, Field(ge=1, allow_inf_nan=False)]] = Field(
        [], description="a list of widening factors, for masks over channels only"
    )
    channel_base_widths: list[fields.PositiveInt] = Field(
        [], description="a list of base widths, for masks over channels only"
    )
    imagenet_widths: list[fields.PositiveInt] = Field(
        [], description="a list of widths of at least the first, which is the base's, or []"
    )
    imagenet_folder: str | None = Field(
        None,
        description="the name of a folder of photographs in the data root, in place of ImageNet, or null",
    )
    imagenet_sha256: str | None = Field(
        None, description="the checksum that wsn.image_folder gives that folder, or null"
    )
    imagenet_classes: fields.PositiveInt = Field(
        1000, description="the number of classes of ImageNet, or of that folder, an integer ≥ 1"
    )
    imagenet_size: fields.PositiveInt = 224
    imagenet_epochs: fields.PositiveInt = 150
    imagenet_batch_size: fields.PositiveInt = 256
    imagenet_seeds: fields.Seeds = Field([0])

    def model_post_init(self, context: Any) -> None:
        """Check what concerns several parameters at once."""
        super().model_post_init(context)
        if bool(self.channel_base_widths) != bool(self.channel_factors):
            raise ValueError(
                "channel_base_widths and channel_factors must both be lists of numbers, or both [], got "
                f"{self.channel_base_widths} and {self.channel_factors}"
            )
        for base in sorted({*self.base_widths} & {*self.channel_base_widths}):
            if not set(self.channel_widths(base)) <= set(self.widths(base)):
                raise ValueError(
                    f"channel_factors must be some of widening_factors {self.widening_factors}, up to "
                    f"largest_width, got {self.channel_factors}; add them, or raise largest_width"
                )
        if self.learning_rates and self.learning_rate not in self.learning_rates:
            raise ValueError(
                f"learning_rates must be a list that holds learning_rate {self.learning_rate:g}, or [], got "
                f"{self.learning_rates}"
            )
        if self.learning_rates and self.preset != "clean":
            raise ValueError(
                "preset must be 'clean' where learning_rates are chosen on validation images, got "
                f"{self.preset!r}"
            )
        if self.learning_rates and self.rate_seed in self.seeds:
            raise ValueError(f"rate_seed must be none of the seeds {self.seeds}, got {self.rate_seed}")
        if self.imagenet_widths and min(self.imagenet_widths) < self.imagenet_widths[0]:
            raise ValueError(
                f"imagenet_widths must be widths of at least the first, got {self.imagenet_widths}"
            )
        if (self.imagenet_folder is None) != (self.imagenet_sha256 is None):
            raise ValueError(
                "imagenet_folder and imagenet_sha256 must both be given, or both null, got "
                f"{self.imagenet_folder!r} and {self.imagenet_sha256!r}"
            )

    def channel_widths(self, base_width: int) -> list[int]:
        """The width for each of `channel_factors`, at which masks of both kinds are compared."""
        return specs.widths(specs.ResNet18Spec(width=base_width), widening_factors=self.channel_factors)

    @property
    def photographs(self) -> specs.StreamedData:
        """ImageNet, or the folder that stands in its place."""
        if self.imagenet_folder is None or self.imagenet_sha256 is None:
            return specs.ImageNet(normalisation="imagenet", image_size=self.imagenet_size)
        return specs.ImageFolder(
            name=self.imagenet_folder,
            sha256=self.imagenet_sha256,
            normalisation="imagenet",
            image_size=self.imagenet_size,
        )

    @property
    def imagenet_training(self) -> specs.Training:
        """G21's protocol for ImageNet (Appendix A and A.1); its batch size is unsaid, ours 256.

        No photographs are set aside for validation: with the clean preset the last epoch counts.
        """
        return specs.Training(
            epochs=self.imagenet_epochs,
            batch_size=self.imagenet_batch_size,
            learning_rate=0.1,
            momentum=0.9,
            weight_decay=1e-4,
            schedule=specs.Cosine(),
            augmentation=specs.ResizedCropAndFlip(),
            precision=self.precision,
            evaluate_every=1 if self.preset == "faithful" else self.imagenet_epochs,
            report="best_test" if self.preset == "faithful" else "last",
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
    """Sparse and dense families of widths, and masks over channels only (G21, Figures 6, 7 and 9).

    On further data sets all of it, or with `more_factors` the family of the smallest base at these.
    """
    first, most = p.data_specs[p.data], p.largest_dense_width

    def networks(source: specs.DataSpec) -> list[specs.ModelSpec]:
        found: list[specs.ModelSpec] = []
        few = source != first and p.more_factors
        for base_width in [min(p.base_widths)] if few else p.base_widths:
            base = dense(base_width, source)
            widths = (
                specs.widths(base, widening_factors=[1.0, *p.more_factors]) if few else p.widths(base_width)
            )
            found += [specs.StaticSparsity(base, width=w) for w in widths[1:]]
            found += [dense(w, source) for w in widths if most is None or w <= max(base_width, most)]
        for base_width in [] if few else p.channel_base_widths:
            base = dense(base_width, source)
            for width in p.channel_widths(base_width):
                found += [specs.StaticSparsity(base, width=width), specs.ChannelSparsity(base, width=width)]
        return found

    return runs_on(p, networks)


def family_runs(p: Parameters, seeds: Sequence[int], **changes: Any) -> list[specs.Experiment]:
    """The family of the smallest base on the first data set, with changes of its training."""
    source, (base, *wider) = p.data_specs[p.data], p.widths(min(p.base_widths))
    narrow = dense(base, source)
    family: list[specs.ModelSpec] = [narrow, *(specs.StaticSparsity(narrow, width=w) for w in wider)]
    training = replace(p.training, **changes)
    return [
        specs.Experiment(model=model, data=source, training=training, seed=seed)
        for seed, model in product(seeds, family)
    ]


def tuned_runs(p: Parameters, seeds: Sequence[int], **changes: Any) -> list[specs.Experiment]:
    """That family up to `largest_tuned_width`, and the base in any case."""
    base, most = min(p.base_widths), p.largest_tuned_width
    family = family_runs(p, seeds, **changes)
    return [run for run in family if most is None or width_of(run) <= max(base, most)]


def rate_runs(p: Parameters) -> list[specs.Experiment]:
    """Those at every learning rate, for fewer epochs and with a seed of its own."""
    return [
        run
        for rate in p.learning_rates
        for run in tuned_runs(p, [p.rate_seed], epochs=p.rate_epochs, learning_rate=rate)
    ]


def width_of(run: specs.Experiment) -> int:
    assert isinstance(run.model, specs.ResNet18Spec | specs.StaticSparsity)
    return run.model.width


def tried_rates(p: Parameters, store: Store) -> pd.DataFrame:
    """Validation accuracy in % by width (rows) and learning rate, NaN where a training diverged."""
    table = by_family(sweeps.table(rate_runs(p), store=store), METHODS)
    return 100 * table.pivot(index="width", columns="training.learning_rate", values="validation_accuracy")


def own_rate_runs(p: Parameters, store: Store) -> list[specs.Experiment]:
    """Their whole trainings, each width at the learning rate that was best for it.

    Raises:
        ValueError: If a width diverged at every rate.
    """
    if not p.learning_rates:
        return []
    tried = tried_rates(p, store)
    if diverged := tried.index[tried.isna().all(axis=1)].tolist():
        raise ValueError(
            f"learning_rates must hold one at which every width trains; widths {diverged} diverged at all of "
            f"{p.learning_rates}: add smaller ones"
        )
    best = tried.idxmax(axis=1)
    by_rate = {rate: tuned_runs(p, p.seeds, learning_rate=rate) for rate in p.learning_rates}
    return [run for rate, runs in by_rate.items() for run in runs if best[width_of(run)] == rate]


def imagenet_runs(p: Parameters) -> list[specs.Experiment]:
    """Dense and sparse networks on ImageNet (G21's Table 1), or on other photographs; none without widths."""
    if not p.imagenet_widths:
        return []
    models = list[specs.ModelSpec]()
    base = specs.ResNet18Spec(
        width=p.imagenet_widths[0],
        num_classes=p.imagenet_classes,
        stem="imagenet",
        initialisation="fan_out",
    )
    for width in p.imagenet_widths:
        models.append(replace(base, width=width))
        if width > base.width:
            models.append(specs.StaticSparsity(base, width=width))
    return [
        specs.Experiment(model=model, data=p.photographs, training=p.imagenet_training, seed=seed)
        for seed, model in product(p.imagenet_seeds, models)
    ]


def stages(p: Parameters, store: Store) -> Iterator[list[specs.Run]]:
    """All runs at one learning rate, those that choose one for each width, and those at the chosen ones."""
    yield [*runs(p), *imagenet_runs(p), *rate_runs(p)]
    yield list(own_rate_runs(p, store))


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
    base = table.get("base", table["width"]).fillna(table["width"]).astype(int)
    return table.assign(method=table["model"].map(methods), base=base, factor=table["width"] / base)


def results(p: Parameters, store: Store) -> pd.DataFrame:
    """One row a run of the figures, with the columns of `by_family` and where it was made."""
    return by_family(sweeps.table(runs(p), store=store, environment=True), METHODS)


def at_own_rates(p: Parameters, store: Store) -> pd.DataFrame:
    """Test accuracy in % by seed (rows) and width, each width at the learning rate that was best for it."""
    table = by_family(sweeps.table(own_rate_runs(p, store), store=store), METHODS)
    return 100 * table.pivot(index="seed", columns="width", values="test_accuracy")


def rate_table(first: pd.DataFrame, p: Parameters, store: Store) -> pd.DataFrame:
    """By width: validation accuracy at every rate tried, the best rate, test accuracy at one and at it."""
    tried, base = tried_rates(p, store), min(p.base_widths)
    one = 100 * family_of(first, base).groupby("width")["test_accuracy"].mean()
    found = tried.rename(columns=lambda rate: f"validation at {rate:g} (%)").rename_axis(columns=None)
    return found.assign(
        **{
            "its own rate": tried.idxmax(axis=1),
            f"test at {p.learning_rate:g} (%)": one,
            "test at its own (%)": at_own_rates(p, store).mean(),
        }
    )


def gains_by_epoch(p: Parameters, store: Store) -> pd.DataFrame:
    """Points of test accuracy above the dense base of the same seed, by epoch and seed (rows) and width."""
    family = {specs.spec_key(run): run for run in family_runs(p, p.seeds)}
    history = sweeps.training_history(family.values(), store=store).dropna(subset="test_accuracy")
    history["width"] = [width_of(family[key]) for key in history["key"]]
    history["seed"] = [family[key].seed for key in history["key"]]
    accuracy = 100 * history.pivot(index=["epoch", "seed"], columns="width", values="test_accuracy")
    base = min(p.base_widths)
    return accuracy.sub(accuracy[base], axis=0).drop(columns=base)


def gains_by_length(first: pd.DataFrame, p: Parameters, store: Store) -> pd.Series[float]:
    """Mean points of validation accuracy above the dense base after whole trainings, by epochs and rate.

    The short trainings are those that try the learning rates of the long ones, and have one seed. Means are
    over the widths that have both. NaN at a rate at which one of them diverged.
    """
    base = min(p.base_widths)
    long = 100 * family_of(first, base).groupby("width")["validation_accuracy"].mean()
    of_long = pd.DataFrame({p.learning_rate: long})
    accuracy = pd.concat({p.rate_epochs: tried_rates(p, store), p.epochs: of_long}, axis=1, join="inner").T
    return accuracy.sub(accuracy[base], axis=0).drop(columns=base).mean(axis=1, skipna=False)


def photograph_accuracy(p: Parameters, store: Store) -> pd.DataFrame:
    """Test accuracy in % on ImageNet or other photographs, by method, width (rows) and seed."""
    table = by_family(sweeps.table(imagenet_runs(p), store=store), METHODS)
    return 100 * table.pivot(index=["method", "width"], columns="seed", values="test_accuracy")


def gains_on_photographs(photographs: pd.DataFrame, p: Parameters) -> dict[tuple[str, int], Estimate]:
    """Points of each network above the dense one of the first width, by method and width."""
    cells, start = CellsAndSeeds(photographs), ("dense", p.imagenet_widths[0])
    return {
        cell: cells.contrast(less({cell: 1.0}, {start: 1.0})) for cell in photographs.index if cell != start
    }


def on_first_data(table: pd.DataFrame) -> pd.DataFrame:
    """The rows on the first data set, from which the claims are judged."""
    return table[table["data"] == str(table["data"].iloc[0])]


Cell = tuple[str, int, int]
"""Method, base width and width."""

Weights = dict[Any, float]
"""Weights of a contrast of cells."""


def cells_and_seeds(part: pd.DataFrame) -> CellsAndSeeds:
    """Test accuracy in % of all runs, by `Cell` and seed."""
    by = ["method", "base", "width"]
    cells = part.pivot_table(index=by, columns="seed", values="test_accuracy", dropna=False)
    return CellsAndSeeds(100 * cells.dropna(how="all"))


def mean_of(cells: Iterable[Any]) -> Weights:
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
    cells = cells_and_seeds(part)
    widths = both.index.unique("width").sort_values().tolist()
    return {width: cells.ratio(*width_gains(base, width)) for width in widths}


def judged_share(part: pd.DataFrame, base: int) -> tuple[int, Estimate] | None:
    """The width, of those trained dense, too, that fits its training images best, and its share of width."""
    shares = width_shares(part, base)
    fitting = family_of(part, base).groupby("width")["train_accuracy"].mean()
    if not shares:
        return None
    best_fit = int(fitting.index.to_numpy()[fitting.to_numpy().argmax()])
    width = min(max(best_fit, min(shares)), max(shares))
    return width, shares[width]


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
    if not p.channel_base_widths:
        return {}
    base = min(p.channel_base_widths)
    return {
        factor: less({("sparse", base, width): 1.0}, {("over channels", base, width): 1.0})
        for factor, width in zip(p.channel_factors, p.channel_widths(base), strict=True)
    }


def gains_by_data(table: pd.DataFrame, p: Parameters) -> dict[str, Estimate]:
    """Points that width brings the smallest base on each data set, mean over the widths that all have.

    Data sets are named by the class of their spec; `"harder less easier"` is the gain on that on which the
    dense base reaches least, less the gain on that on which it reaches most, if there are several. The noise
    of each data set is its own. Empty if the data sets have no wider width in common.
    """
    base = min(p.base_widths)
    sparse = table[(table["method"] == "sparse") & (table["base"] == base)]
    common = sorted(set.intersection(*(set(part["width"]) for _, part in sparse.groupby("data"))))
    if not common:
        return {}
    of_data = {str(name): cells_and_seeds(part) for name, part in table.groupby("data")}
    start = table[(table["method"] == "dense") & (table["width"] == base)]
    reached = start.groupby("data")["test_accuracy"].mean().sort_values()
    gain = less(mean_of(("sparse", base, w) for w in common), {("dense", base, base): 1.0})
    found = {name: of_data[name].contrast(gain) for name in map(str, reached.index)}
    if len(found) > 1:
        harder, *_, easier = found.values()
        found["harder less easier"] = difference(harder, easier)
    return found


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
    table: pd.DataFrame,
    p: Parameters,
    *,
    own: pd.DataFrame | None = None,
    photographs: pd.DataFrame | None = None,
) -> dict[str, Estimate]:
    """Our estimate for each claim that the runs can decide.

    Args:
        table: As `results` gives it.
        p: The parameters of the runs.
        own: As `at_own_rates` gives it.
        photographs: As `photograph_accuracy` gives it.
    """
    first, bases = on_first_data(table), sorted(p.base_widths)
    cells, base = cells_and_seeds(first), bases[0]
    family = family_of(first, base)
    start: Weights = {("dense", base, base): 1.0}
    wider = [("sparse", base, w) for w in p.widths(base)[1:]]
    shares, masks = width_shares(first, base), mask_contrasts(p)
    by_seed = {
        of: family.pivot(index="seed", columns="width", values=f"{of}_accuracy").to_numpy()
        for of in ("train", "test")
    }
    found = {"figure-10": exact(figure_10_error())}
    if masks:
        found |= {
            "channels": cells.contrast(masks[max(masks)]),
            "masks-similar": cells.contrast(_total(masks.values(), share=1 / len(masks)), confidence=0.9),
        }
    if excess := _excess_weights(first).tolist():
        found["num-weights"] = exact_range(excess)
    if wider:
        found |= {
            "gain": cells.contrast(less(mean_of(wider), start)),
            "gain/held-out best": estimate(held_out_gain(first, base).tolist()),
            "best-factor": cells.not_below_best({cell: cell[-1] / base for cell in (*start, *wider)}),
        }
        gains = gains_by_data(table, p)
        judged = {"CIFAR100": "gain-cifar100", "SVHN": "gain-svhn", "harder less easier": "harder-tasks"}
        found |= {name: gains[of] for of, name in judged.items() if of in gains}
    if own is not None and len(own.columns) > 1:
        tuned, of_one_rate = own.columns[1:], [("sparse", base, w) for w in own.columns[1:]]
        found |= {
            "resnet-gain-own-rate": CellsAndSeeds(own.T).contrast(less(mean_of(tuned), {base: 1.0})),
            "resnet-gain-own-rate/one rate": cells.contrast(less(mean_of(of_one_rate), start)),
        }
    if shares:
        both = [width_gains(base, width) for width in shares]
        total = [_total(parts) for parts in zip(*both, strict=True)]
        found["width-share/mean over widths"] = cells.ratio(*total)
        for data, reading in ((first["data"].iloc[0], ""), ("CIFAR100", "/CIFAR-100")):
            part = table[table["data"] == data]
            if (judged_on := judged_share(part, base) if len(part) else None) is not None:
                found[f"width-share{reading}"] = judged_on[1]
    if len(bases) > 1 and (common := p.common_factors(bases[:2])):
        each = [width_gains(b, p.widths_by_factor(b)[common[-1]])[0] for b in bases[:2]]
        found["smaller-gains-more"] = cells.contrast(less(each[0], each[1]))
    if by_seed["test"].shape[1] > 3:  # three means that rise correlate, whatever else they do
        found["training-accuracy"] = correlation_of_means(by_seed["train"], by_seed["test"])
    if photographs is not None and p.imagenet_folder is None:
        for method, width in photographs.index.tolist():
            top_1 = photographs.loc[(method, width)].tolist()
            found[f"imagenet-{method}-{width}"] = estimate(top_1)
    return found


def _total(contrasts: Iterable[Weights], *, share: float = 1.0) -> Weights:
    return less({}, *({cell: -share * weight for cell, weight in each.items()} for each in contrasts))


def _excess_weights(part: pd.DataFrame) -> pd.Series[float]:
    """Difference of each sparse network's number of weights from that of its dense base."""
    sparse = part[part["method"] == "sparse"]
    of_base = part[part["method"] == "dense"].groupby("width")["num_weights"].first()
    return (sparse["num_weights"] - sparse["base"].map(of_base)).abs()
