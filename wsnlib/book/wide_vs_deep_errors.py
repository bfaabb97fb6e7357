"""The chapter on the errors of wide and deep networks: its parameters, populations and estimates."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field
from scipy import stats

from wsnlib import data, predictions, specs, sweeps
from wsnlib.book.engine import parameters as fields
from wsnlib.book.engine.claims import claims_of
from wsnlib.estimates import Estimate, estimate
from wsnlib.predictions import Dispersion, LogisticModels, Population, inference
from wsnlib.predictions.excess import inner_products, mean_squares, signed_root
from wsnlib.store import Store

Depth = Annotated[int, Field(ge=8)]
Multiplier = Annotated[float, Field(ge=1 / 16, allow_inf_nan=False)]

FIRST_SEARCH_SEED = 1000
"""Of the networks that choose the pair, which are in no population."""

FIRST_OTHERWISE = 100
"""Number of the first population that is trained otherwise, beyond those of all architectures."""

FIRST_CONTROL_SEED = 1_000_000
"""Of the second populations of the pair's architectures, beyond the seeds of all others."""

_AUGMENTATION = specs.CropAndFlip(padding_mode="reflect")


class Parameters(fields.ChapterParameters):
    """Parameters of the chapter `wide_vs_deep_errors`: populations of N21's CIFAR ResNets."""

    train_size: fields.TrainSize = None
    base_multiplier: Multiplier = Field(0.125, description="a number ≥ 1/16")
    deep_depths: list[Depth] = Field([14, 20], min_length=1, description="a list of depths 6n + 2")
    deep_multipliers: list[Multiplier] = Field(
        [0.125], min_length=1, description="a list of numbers of at least base_multiplier"
    )
    wide_depth: Depth = Field(8, description="a depth 6n + 2")
    wide_multipliers: list[Multiplier] = Field(
        [0.1875, 0.25], min_length=1, description="a list of numbers, each above one of deep_multipliers"
    )
    sparse_depth: Depth = Field(8, description="a depth 6n + 2")
    sparse_multiplier: Multiplier = Field(0.25, description="a number above base_multiplier")
    depths: list[Depth] = Field([8, 14], min_length=2, description="a rising list of 2 or more depths 6n + 2")
    width_depth: Depth = Field(8, description="a depth 6n + 2")
    multipliers: list[Multiplier] = Field(
        [0.125, 0.25], min_length=2, description="a rising list of 2 or more numbers ≥ 1/16"
    )
    search_networks: Annotated[int, Field(ge=2)] = Field(4, description="an integer ≥ 2")
    networks: Annotated[int, Field(ge=6, le=FIRST_SEARCH_SEED)] = Field(
        20, description="an integer of 6 to 1,000"
    )
    other_networks: fields.NonNegativeInt = Field(6, description="0, or an integer of 6 to networks")
    family_networks: fields.NonNegativeInt = Field(6, description="0, or an integer of 6 to networks")
    control_networks: fields.NonNegativeInt = Field(0, description="0, or an integer of 6 to 1,000")
    caliper: fields.Density = 0.05
    imagenet_networks: fields.NonNegativeInt = Field(0, description="0, or an integer ≥ 6")
    imagenet_groups: str | None = Field(
        None, description="the path of a text file with the groups of each ImageNet class, or null"
    )
    epochs: fields.PositiveInt = 2
    batch_size: fields.PositiveInt = 32
    learning_rate: fields.PositiveFloat = 0.1
    weight_decay: fields.NonNegativeFloat = 2e-4
    schedule: Literal["cosine", "one_cycle"] = Field("one_cycle", description="'cosine' or 'one_cycle'")
    augmentation: fields.Flag = False
    norm_momentum: fields.Density = 0.1
    precision: fields.Precision = "float32"
    evaluate_every: fields.PositiveInt = 2
    shared_seeds: fields.Flag = Field(False, description="true or false")
    other_learning_rate: fields.PositiveFloat = 0.025
    other_rate_epochs: list[fields.PositiveInt] = Field([], description="a list of integers ≥ 1")
    other_augmentation_epochs: list[fields.PositiveInt] = Field([], description="a list of integers ≥ 1")

    def model_post_init(self, context: Any) -> None:
        """Check what concerns several parameters at once."""
        for name in ("deep_depths", "wide_depth", "sparse_depth", "depths", "width_depth"):
            value = getattr(self, name)
            if any(depth % 6 != 2 for depth in (value if isinstance(value, list) else [value])):
                raise ValueError(f"{name} must be depths 6n + 2, such as 8, 14, 20, got {value}")
        for name in ("depths", "multipliers"):
            value = getattr(self, name)
            if value != sorted(set(value)):
                raise ValueError(f"{name} must be a rising list, got {value}")
        if min(self.deep_depths) <= self.wide_depth:
            raise ValueError(
                f"deep_depths must be depths above wide_depth {self.wide_depth}, got {min(self.deep_depths)}"
            )
        if min(self.deep_multipliers) < self.base_multiplier:
            raise ValueError(
                f"deep_multipliers must be numbers ≥ base_multiplier {self.base_multiplier}, "
                f"got {self.deep_multipliers}"
            )
        if min(self.wide_multipliers) <= min(self.deep_multipliers):
            raise ValueError(
                f"wide_multipliers must be numbers > {min(self.deep_multipliers)}, the smallest of "
                f"deep_multipliers, got {self.wide_multipliers}"
            )
        if self.sparse_multiplier <= self.base_multiplier:
            raise ValueError(
                f"sparse_multiplier must be > base_multiplier {self.base_multiplier}, "
                f"got {self.sparse_multiplier}"
            )
        for name in ("other_networks", "family_networks"):
            value = getattr(self, name)
            if value and not 6 <= value <= self.networks:
                raise ValueError(f"{name} must be 0, or 6 to networks {self.networks}, got {value}")
        if self.other_trainings and not self.other_networks:
            raise ValueError(
                "other_networks must be ≥ 6 with other_rate_epochs or other_augmentation_epochs, got 0"
            )
        if self.other_rate_epochs and self.other_learning_rate == self.learning_rate:
            raise ValueError(
                f"other_learning_rate must be another than learning_rate, got {self.learning_rate:g} for both"
            )
        if self.control_networks and not 6 <= self.control_networks <= FIRST_SEARCH_SEED:
            raise ValueError(
                f"control_networks must be 0 or an integer of 6 to 1,000, got {self.control_networks}"
            )
        if 0 < self.imagenet_networks < 6:
            raise ValueError(f"imagenet_networks must be 0 or an integer ≥ 6, got {self.imagenet_networks}")
        _ = self.data_spec

    @property
    def data_spec(self) -> specs.DataSpec:
        """The data set; the faithful preset scales images to [0, 1], as N21's code does."""
        normalisation = "unit" if self.preset == "faithful" else "standardise"
        return self._data_spec(train_size=self.train_size, normalisation=normalisation)

    @property
    def training(self) -> specs.Training:
        """N21's protocol but for what the parameters change (decay of weights alone, reflected borders)."""
        return self._training(
            momentum=0.9,
            weight_decay_on="weights",
            schedule=specs.Cosine() if self.schedule == "cosine" else specs.OneCycle(),
            augmentation=_AUGMENTATION if self.augmentation else None,
            report=self._report,
        )

    @property
    def other_trainings(self) -> dict[str, list[specs.Training]]:
        """By what they change, for as many epochs as may make them as accurate; none where none are given."""
        augmentation = replace(_AUGMENTATION, flip=False) if self.augmentation else _AUGMENTATION
        changes: dict[str, tuple[dict[str, Any], list[int]]] = {
            "rate": ({"learning_rate": self.other_learning_rate}, self.other_rate_epochs),
            "augmentation": ({"augmentation": augmentation}, self.other_augmentation_epochs),
        }
        return {
            name: [replace(self.training, epochs=n, evaluate_every=n, **change) for n in candidates]
            for name, (change, candidates) in changes.items()
            if candidates
        }

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

    def seeds(self, networks: int, *, kind: int = 0, again: bool = False) -> range:
        """Seeds of the networks of a population, none of which chose the pair.

        Args:
            networks: How many.
            kind: Number of the population. Networks of one seed see the images in one order, and may begin
                alike, so that a difference of their populations is understated; with `shared_seeds` it is.
            again: Whether of its second population, which shares no seed with any first one.
        """
        first = 0 if self.shared_seeds else 2 * FIRST_SEARCH_SEED * kind
        first += FIRST_CONTROL_SEED if again else 0
        return range(first, first + networks)

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


MOST_DIFFERENT = 16
"""Number of images that are shown, those on which the pair differs most."""

HARDER = 20
"""Images that one half of the networks finds harder for the larger architecture; the other half reports."""

IMAGENET = {
    "ResNet-50": specs.ResNetImageNetSpec(),
    "ResNet-83": specs.ResNetImageNetSpec(third_stage_blocks=17),
    "ResNet-50 (2.8×)": specs.ResNetImageNetSpec(third_stage_width_multiplier=2.8),
}
"""N21's networks on ImageNet (Section 7), as it is, deeper and wider."""


class Runs:
    """Candidates, of which the best matched pair becomes two populations, and others beside them (N21, 7).

    Attributes:
        deep, wide: Candidates by name. In a pair the wide one has more channels than the deep one.
        search: Trainings of a few networks of each candidate.
        labels: The right classes of the test images.
        others: Networks of the other populations by name.
        by_depth, by_width: Networks of the families by name.
        imagenet: Trainings of ResNet-50 and its deeper and wider forms by name; empty lists where the
            parameters ask for none.
    """

    def __init__(self, p: Parameters) -> None:
        self.p = p
        self.deep = self._candidates(p.deep_depths, p.deep_multipliers)
        self.wide = self._candidates([p.wide_depth], p.wide_multipliers)
        candidates = [*self.deep.values(), *self.wide.values()]
        self.search = [run for model in candidates for run in self.trainings(model, p.search_seeds)]
        self.labels = specs.ExampleLabels(data=p.data_spec)
        narrow = self.network(p.sparse_depth, p.base_multiplier)
        as_wide = self.network(p.sparse_depth, p.sparse_multiplier)
        sparse = specs.StaticSparsity(narrow, width=as_wide.width)
        self.others: dict[str, specs.ModelSpec] = {
            "narrow": narrow,
            "sparse": sparse,
            "dense": as_wide,
        }
        self.by_depth = {f"ResNet-{d}": self.network(d, p.base_multiplier) for d in p.depths}
        self.by_width = {f"{x:g}×": self.network(p.width_depth, x) for x in p.multipliers}
        self.imagenet = {name: p.on_imagenet(model) for name, model in IMAGENET.items()}

    def _candidates(
        self, depths: Sequence[int], multipliers: Sequence[float]
    ) -> dict[str, specs.ResNetCifarSpec]:
        shapes = product(depths, multipliers)
        return {f"ResNet-{depth} ({k:g}×)": self.network(depth, k) for depth, k in shapes}

    def network(self, depth: int, width_multiplier: float) -> specs.ResNetCifarSpec:
        """A dense network for the data."""
        return specs.ResNetCifarSpec(
            depth=depth,
            width_multiplier=width_multiplier,
            num_classes=data.num_classes(self.p.data_spec),
            input_channels=data.image_shape(self.p.data_spec)[0],
            norm_momentum=self.p.norm_momentum,
        )

    def trainings(
        self, model: specs.ModelSpec, seeds: range, training: specs.Training | None = None
    ) -> list[specs.Experiment]:
        """One run for each seed, by the chapter's training if no other is given."""
        data, training = self.p.data_spec, training or self.p.training
        return [specs.Experiment(model=model, data=data, training=training, seed=seed) for seed in seeds]

    def pairs(self, store: Store) -> pd.DataFrame:
        """The candidates' pairs, the best matched first, as `wsn.predictions.matched_pairs` orders them."""

        deep, wide = (
            {name: self._accuracies(model, store) for name, model in models.items()}
            for models in (self.deep, self.wide)
        )
        return predictions.matched_pairs(
            deep, wide, allowed=lambda one, other: self.deep[one].width < self.wide[other].width
        )

    def _accuracies(
        self, model: specs.ModelSpec, store: Store, training: specs.Training | None = None
    ) -> list[float]:
        """Of the networks of the search."""
        table = sweeps.table(self.trainings(model, self.p.search_seeds, training), store=store)
        return [float(accuracy) for accuracy in table["test_accuracy"]]

    def pair(self, store: Store) -> dict[str, specs.ModelSpec]:
        """The best matched pair, `"deep"` and `"wide"`."""
        best = self.pairs(store).iloc[0]
        return {"deep": self.deep[best["first"]], "wide": self.wide[best["second"]]}

    def other_search(self, store: Store) -> list[specs.Experiment]:
        """A few runs of the deep network by each candidate of another training."""
        deep, seeds = self.pair(store)["deep"], self.p.search_seeds
        return [
            r
            for part in self.p.other_trainings.values()
            for t in part
            for r in self.trainings(deep, seeds, t)
        ]

    def other_trainings(self, store: Store) -> dict[str, specs.Training]:
        """Of each kind the candidate whose accuracy matches that of the deep network best."""
        deep = self.pair(store)["deep"]
        chosen = {}
        for name, candidates in self.p.other_trainings.items():
            accuracies = {i: self._accuracies(deep, store, t) for i, t in enumerate(candidates)}
            pairs = predictions.matched_pairs({"deep": self._accuracies(deep, store)}, accuracies)
            chosen[name] = candidates[int(pairs["second"][0])]
        return chosen

    def pair_runs(self, store: Store) -> dict[str, list[specs.Experiment]]:
        """Runs of the pair's populations, `"deep"` and `"wide"`, the first that have numbers of their own."""
        p = self.p
        return {
            name: self.trainings(model, p.seeds(p.networks, kind=kind))
            for kind, (name, model) in enumerate(self.pair(store).items())
        }

    def again(self, store: Store) -> dict[str, list[specs.Experiment]]:
        """Runs of the pair's architectures with other seeds: further ones, or those of the search."""
        p = self.p
        return {
            name: self.trainings(
                model,
                p.seeds(p.control_networks, kind=kind, again=True) if p.control_networks else p.search_seeds,
            )
            for kind, (name, model) in enumerate(self.pair(store).items())
        }

    def populations(self, store: Store) -> dict[str, list[specs.Experiment]]:
        """Runs of all populations of the chapter's training by name: the pair, others, families.

        The number of a population, and so the seeds of its networks, is the same whether those before it
        are trained or not.
        """
        p, pair = self.p, self.pair(store)
        families = self.by_depth | self.by_width
        kinds: dict[str, tuple[specs.ModelSpec, int]] = {
            **{name: (model, p.networks) for name, model in pair.items()},
            **{name: (model, p.other_networks) for name, model in self.others.items()},
            **{name: (model, p.family_networks) for name, model in families.items()},
        }
        numbers = {model: i for i, model in enumerate(dict.fromkeys(model for model, _ in kinds.values()))}
        return {
            name: self.trainings(model, p.seeds(networks, kind=numbers[model]))
            for name, (model, networks) in kinds.items()
            if networks
        }

    def otherwise(self, store: Store) -> dict[str, list[specs.Experiment]]:
        """Runs of the deep network trained otherwise, by what was changed."""
        p, deep = self.p, self.pair(store)["deep"]
        return {
            name: self.trainings(deep, p.seeds(p.other_networks, kind=FIRST_OTHERWISE + i), training)
            for i, (name, training) in enumerate(self.other_trainings(store).items())
        }

    def examples(self, store: Store) -> specs.ExampleImages:
        """The images on which the pair's populations differ most."""
        deep, wide = (
            sweeps.read_population(runs, store=store, name=name)
            for name, runs in self.pair_runs(store).items()
        )
        found = predictions.largest_differences(deep, wide, count=MOST_DIFFERENT)
        return specs.ExampleImages(data=self.p.data_spec, examples=tuple(sorted(found["example"].tolist())))

    def stages(self, store: Store) -> Iterator[list[specs.Run]]:
        """All runs, those that depend on others after them, and each comparison before the next begins.

        The search; the pair; its images; depths; widths; the sparse network and what it lies between; the
        pair again; the deep network trained otherwise; ImageNet.
        """
        yield [self.labels, *self.search]
        yield _all(self.pair_runs(store).values())
        yield [self.examples(store)]
        populations = self.populations(store)
        for names in (self.by_depth, self.by_width, self.others):
            yield _all(populations[name] for name in names if name in populations)
        yield _all(self.again(store).values())
        yield list(self.other_search(store))
        yield _all(self.otherwise(store).values())
        on_imagenet = [run for part in self.imagenet.values() for run in part]
        if on_imagenet:
            yield [specs.ExampleLabels(data=on_imagenet[0].data), *on_imagenet]


def _all(parts: Iterable[Sequence[specs.Experiment]]) -> list[specs.Run]:
    return list(dict.fromkeys(itertools.chain.from_iterable(parts)))


def stages(p: Parameters, store: Store) -> Iterator[list[specs.Run]]:
    """All runs, those that depend on others after them."""
    return Runs(p).stages(store)


# -- the populations, and tests of them -------------------------------------------------------

Ends = tuple[Population, Population]


@dataclass(frozen=True, kw_only=True)
class Results:
    """The populations but for ImageNet's, every one read once, and the tests that tables and estimates share.

    Args:
        models: Networks of the pair and of the others, by the populations' names.
        deep, wide: The best matched pair.
        again: Networks of the same two architectures with other seeds, by name; see `Runs.again`.
        others: `"narrow"`, `"sparse"`, of as many weights, and `"dense"`, as wide as that; or none.
        otherwise: The deep network, trained otherwise, by what was changed.
        by_depth, by_width: Families, the smallest network first; or none.
    """

    models: Mapping[str, specs.ModelSpec]
    deep: Population
    wide: Population
    again: Mapping[str, Population]
    others: Mapping[str, Population]
    otherwise: Mapping[str, Population]
    by_depth: Sequence[Population]
    by_width: Sequence[Population]

    @classmethod
    def read(cls, runs: Runs, store: Store) -> Results:
        """From the records of all runs.

        Raises:
            KeyError: If a record is missing.
        """

        def read(parts: Mapping[str, list[specs.Experiment]], prefix: str = "") -> dict[str, Population]:
            return {
                name: sweeps.read_population(part, store=store, name=prefix + name)
                for name, part in parts.items()
            }

        pair, found = runs.pair(store), read(runs.populations(store))
        others = {
            name: found["deep" if model == pair["deep"] else name]
            for name, model in runs.others.items()
            if name in found
        }
        return cls(
            models={**pair, **runs.others, **runs.by_depth, **runs.by_width},
            deep=found["deep"],
            wide=found["wide"],
            again=read(runs.again(store)),
            others=others,
            otherwise=read(runs.otherwise(store), "other "),
            by_depth=[found[name] for name in runs.by_depth if name in found],
            by_width=[found[name] for name in runs.by_width if name in found],
        )

    @cached_property
    def matched(self) -> pd.Series[float]:
        """Welch's test of the pair's accuracies, deep less wide."""
        return predictions.accuracy_test(self.deep, self.wide)

    @cached_property
    def pair(self) -> pd.DataFrame:
        """`beyond_chance` of the pair's populations, and of each population against itself."""
        return beyond_chance([self.deep, self.wide])

    @cached_property
    def logistic(self) -> LogisticModels:
        """Three nested models of right and wrong (N21, Appendix F.3)."""
        return predictions.logistic_models(self.deep, self.wide)

    @cached_property
    def ends(self) -> dict[str, Ends]:
        """The smallest and the largest network of each family, by what they differ in."""
        families = {"depth": self.by_depth, "width": self.by_width}
        return {over: (family[0], family[-1]) for over, family in families.items() if family}

    @cached_property
    def gained(self) -> dict[str, pd.DataFrame]:
        """`gains_by_difficulty` of the largest network over the smallest, by what they differ in."""
        return {over: predictions.gains_by_difficulty(*ends) for over, ends in self.ends.items()}

    @cached_property
    def lost(self) -> dict[str, pd.Series[float]]:
        """Smallest less largest network on `HARDER` images that look harder for the largest."""
        return {over: predictions.chosen_difference(*ends, count=HARDER) for over, ends in self.ends.items()}

    @cached_property
    def similar(self) -> dict[str, Estimate]:
        """`neighbours_less_extremes` of each family of at least three."""
        families = {"depth": self.by_depth, "width": self.by_width}
        return {over: neighbours_less_extremes(f) for over, f in families.items() if len(f) > 2}


def beyond_chance(populations: Sequence[Population]) -> pd.DataFrame:
    """The dispersion table, its excess and interval in points: signed root mean squares beyond chance."""
    found = predictions.dispersion_table(populations)
    return found.assign(**{c: 100 * found[c].map(signed_root) for c in ("excess", "low", "high")})


def neighbours_less_extremes(family: Sequence[Population]) -> Estimate:
    """Error consistency of neighbours, mean over them, less that of the two ends, over all pairs of networks.

    The interval is the bootstrap's over networks and images.
    """
    means, resampled = predictions.resampled_consistency(family)
    neighbours = np.arange(len(family) - 1)
    value, of_each = (v[..., neighbours, neighbours + 1].mean(-1) - v[..., 0, -1] for v in (means, resampled))
    return _bootstrapped(value, of_each, min(map(len, family)))


def beside_deep(results: Results) -> pd.DataFrame:
    """The deep population against itself, other seeds, the wide one, and the deep network trained otherwise.

    Returns:
        One row a population, of estimates: `accuracy`, its own less the deep one's in points (Welch's
        interval); `excess`, root mean square beyond chance in points (jackknife); `consistency`, mean error
        consistency with deep networks, and `deficit`, by how much it is less than the mean of that within
        the two populations (both with a bootstrap over networks and images). Against itself only
        `consistency` is known.
    """
    deep, others = results.deep, [results.again["deep"], results.wide, *results.otherwise.values()]
    names = [deep.name, "other seeds", *(population.name for population in others[1:])]
    means, resampled = predictions.resampled_consistency([deep, *others])
    within = [(v[..., 0, 0, None] + np.diagonal(v, axis1=-2, axis2=-1)) / 2 for v in (means, resampled)]
    deficits = [inside - v[..., 0, :] for inside, v in zip(within, (means, resampled), strict=True)]
    unknown, rows = estimate([math.nan]), {}
    for i, (name, population) in enumerate(zip(names, [deep, *others], strict=True)):
        n, own = min(len(deep), len(population)), population is deep
        rows[name] = {
            "accuracy": unknown if own else _points(predictions.accuracy_test(population, deep), n),
            "excess": unknown if own else _root_mean_square(predictions.dispersion(deep, population), n),
            "consistency": _bootstrapped(means[0, i], resampled[:, 0, i], n),
            "deficit": unknown if own else _bootstrapped(deficits[0][i], deficits[1][:, i], n),
        }
    return pd.DataFrame(rows).T


def _bootstrapped(value: float, resampled: Any, n: int) -> Estimate:
    low, high = inference.bootstrap(float(value), resampled, networks=n, confidence=0.95)
    return Estimate(mean=float(value), low=low, high=high, n=n)


def excess_difference(deep: Population, wide: Population, other: Population) -> Estimate:
    """Mean square, beyond chance, of deep against wide networks less that of deep ones trained otherwise.

    In squared points; the interval is the jackknife's over the networks of all three.
    """
    gram = inner_products([deep, wide, other])

    def statistic(*samples: Any) -> Any:
        one, others = samples[0], samples[1:]
        between = [np.subtract(*mean_squares(gram, one, each)) for each in others]
        return 1e4 * (between[0] - between[1])

    return _jackknifed(statistic, [deep, wide, other])


def spread_of_accuracy(populations: Sequence[Population]) -> Estimate:
    """Standard deviation of the networks' accuracy over that of independent errors, √(Σ V / Σ I).

    V is the variance within a population, and I = Σᵢ pᵢ(1 − pᵢ)/N² over its N images, estimated without bias:
    1 where being right on one image says nothing of being right on another (Jordan 2024, abstract). The
    interval is the jackknife's of the logarithm, over networks.
    """
    gram = inner_products(populations)
    accuracy = np.concatenate([p.network_accuracy for p in populations])
    examples, norms = populations[0].num_examples, np.diag(gram)

    def logarithm(*samples: Any) -> Any:
        seen: Any = 0.0
        independent: Any = 0.0
        for chosen in samples:
            n = chosen.sum(1)
            mean = chosen @ accuracy / n
            seen = seen + (chosen @ accuracy**2 - n * mean**2) / (n - 1)
            squares = ((chosen @ gram) * chosen).sum(1) / n
            independent = independent + (chosen @ norms - squares) / (n - 1) / examples
        return np.log(seen / independent) / 2

    return _exponential(_jackknifed(logarithm, populations))


def predicted_spread(populations: Sequence[Population]) -> Estimate:
    """Standard deviation of accuracy with independent errors over what agreement predicts, √(Σ I / Σ J).

    I is that of `spread_of_accuracy`. J asks no label: where a share q of the networks votes for a class, it
    is right on a share q of the images (class-calibration), and then the mean of pᵢ(1 − pᵢ) is that of
    Σ q²(1 − q) over the classes: how often two networks agree, less how often three do. For two classes that
    is half of the mean error (after Jordan 2024, abstract; for more classes it is our reading). Both are
    estimated without bias, from at least three networks; the interval is the jackknife's of the logarithm,
    over networks.
    """
    predicted = np.concatenate([p.predictions for p in populations])
    votes = [(predicted == k).astype(float) for k in range(populations[0].num_classes)]
    correct = (predicted == populations[0].labels).astype(float)

    def logarithm(*samples: Any) -> Any:
        independent: Any = 0.0
        agreement: Any = 0.0
        for chosen in samples:
            n = chosen.sum(1, keepdims=True)
            right = chosen @ correct
            independent = independent + (right * (n - right) / (n * (n - 1))).mean(1)
            for of_class in votes:
                c = chosen @ of_class
                agreement = agreement + (c * (c - 1) * (n - c) / (n * (n - 1) * (n - 2))).mean(1)
        return np.log(independent / agreement) / 2

    return _exponential(_jackknifed(logarithm, populations))


def _exponential(found: Estimate) -> Estimate:
    mean, low, high = (math.exp(v) for v in (found.mean, found.low, found.high))
    return Estimate(mean=mean, low=low, high=high, n=found.n)


def _jackknifed(statistic: Any, populations: Sequence[Population]) -> Estimate:
    """A statistic of indicators of the networks of each population, with its interval."""
    sizes = [len(population) for population in populations]
    low, high = inference.jackknife(statistic, *sizes, confidence=0.95)
    return Estimate(mean=float((low + high) / 2), low=float(low), high=float(high), n=min(sizes))


def synset_tests(imagenet: Sequence[Population], p: Parameters) -> pd.DataFrame:
    """Welch's tests of wider less deeper on groups of at least 50 classes of ImageNet, by group.

    Args:
        imagenet: Populations in the order of `IMAGENET`, or none.
        p: Names the file of groups: one line a class, its groups by commas.

    Returns:
        Empty without populations or groups.
    """
    if not (imagenet and p.imagenet_groups):
        return pd.DataFrame()
    _, deeper, wider = imagenet
    lines = Path(p.imagenet_groups).read_text().splitlines()
    groups = [[name for each in line.split(",") if (name := each.strip())] for line in lines]
    return predictions.group_tests(wider, deeper, groups=groups, min_classes=50).set_index("group")


# -- our estimates of what the paper claims ---------------------------------------------------


def estimates(results: Results, p: Parameters, *, imagenet: Sequence[Population] = ()) -> dict[str, Estimate]:
    """Our estimates by the claims' names; none where the networks that a claim is about were not trained.

    Args:
        results: The populations.
        p: The chapter's parameters.
        imagenet: Populations in the order of `IMAGENET`, or none.
    """
    deep, wide = results.deep, results.wide
    n, logistic, again = len(deep), results.logistic, results.again
    found = {
        "matched": _points(results.matched, n, confidence=0.9),
        "excess": _root_mean_square(predictions.dispersion(deep, wide), n),
        "control-deep": _control(deep, again["deep"]),
        "control-wide": _control(wide, again["wide"]),
        "examples-deep": _points(predictions.chosen_difference(deep, wide), n),
        "examples-wide": _points(predictions.chosen_difference(wide, deep), n),
        "classes": _squared_points(predictions.dispersion(wide, deep, level="class"), n),
        "class-share": _share_of_classes(logistic, n),
        "aic-class": _gain_in_aic(logistic, "A", "B", n),
        "aic-example": _gain_in_aic(logistic, "B", "C", n),
    }
    for over, (smaller, larger) in results.ends.items():
        better = {"depth": "deeper-better", "width": "wider-better"}[over]
        found[better] = _points(predictions.accuracy_test(larger, smaller), len(larger))
        gained = results.gained[over].set_index("where")
        if "often less rarely" in gained.index:
            found[f"gain-{over}"] = _points(gained.loc["often less rarely"], len(larger))
        found[f"loss-{over}"] = _points(results.lost[over], len(larger))
    found |= {f"similar-{over}": e for over, e in results.similar.items()}
    for name, other in results.otherwise.items():
        found[f"architecture-{name}"] = excess_difference(deep, wide, other)
        found[f"matched-{name}"] = _points(
            predictions.accuracy_test(other, deep), min(n, len(other)), confidence=0.9
        )
    found["independent-errors"] = spread_of_accuracy([deep, wide])
    found["predicted-spread"] = predicted_spread([deep, wide])
    accuracies = min((x.network_accuracy for x in (deep, wide)), key=np.mean)
    found["trained"] = estimate((100 * accuracies).tolist())
    groups = synset_tests(imagenet, p)
    for name in ("structure", "consumer goods"):
        if name in groups.index:
            found[name.replace(" ", "-")] = _points(groups.loc[name], len(imagenet[0]))
    for population in (deep, wide, *results.by_depth[:1]):
        model: Any = results.models[population.name]
        name = f"accuracy-{model.depth}-{model.width / 16:g}"
        if name in claims_of(p.chapter):
            found[name] = estimate((100 * population.network_accuracy).tolist())
    return found


def _control(one: Population, other: Population) -> Estimate:
    """One architecture with two sets of seeds."""
    return _root_mean_square(predictions.dispersion(one, other), len(other))


def _root_mean_square(found: Dispersion, n: int) -> Estimate:
    low, high = found.interval
    return Estimate(mean=100 * found.difference, low=100 * low, high=100 * high, n=n)


def _squared_points(found: Dispersion, n: int) -> Estimate:
    return Estimate(mean=1e4 * found.excess, low=1e4 * found.low, high=1e4 * found.high, n=n)


def _share_of_classes(found: LogisticModels, n: int) -> Estimate:
    return Estimate(mean=found.v_squared, low=found.v_squared_low, high=found.v_squared_high, n=n)


def _gain_in_aic(found: LogisticModels, smaller: str, larger: str, n: int) -> Estimate:
    """AIC of the smaller model less that of the larger: twice the gain in log-likelihood less its price."""
    row: Any = found.tests.set_index(["smaller", "larger"]).loc[(smaller, larger)]
    mean, low, high = (float(row[end] - 2 * row["df"]) for end in ("statistic", "low", "high"))
    return Estimate(mean=mean, low=low, high=high, n=n)


def _points(test: Any, n: int, *, confidence: float = 0.95) -> Estimate:
    """The difference of Welch's test in points, with an interval of its own, whatever table it stands in."""
    mean, error = 100 * float(test["difference"]), float(np.hypot(test["first_error"], test["second_error"]))
    if error == 0:
        return Estimate(mean=mean, low=-math.inf, high=math.inf, n=n, confidence=confidence)
    half = 100 * error * float(stats.t.isf((1 - confidence) / 2, test["df"]))
    return Estimate(
        mean=mean, low=mean - half, high=mean + half, n=n, df=float(test["df"]), confidence=confidence
    )
