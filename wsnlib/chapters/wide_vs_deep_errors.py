"""The populations of the chapter on the errors of wide and deep networks."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import product

import pandas as pd

from wsnlib import data, parameters, predictions, specs, sweeps
from wsnlib.store import Store

MOST_DIFFERENT = 16
"""Images that are shown: those on which the pair differs most."""

IMAGENET = {
    "ResNet-50": specs.ResNetImageNetSpec(),
    "ResNet-83": specs.ResNetImageNetSpec(third_stage_blocks=17),
    "ResNet-50 (2.8×)": specs.ResNetImageNetSpec(third_stage_width_multiplier=2.8),
}
"""N21's networks on ImageNet (Section 7): as it is, deeper, wider."""


class WideVsDeepRuns:
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

    def __init__(self, p: parameters.WideVsDeepErrorsParameters) -> None:
        self.p = p
        self.deep = self._candidates(p.deep_depths, p.deep_multipliers)
        self.wide = self._candidates([p.wide_depth], p.wide_multipliers)
        candidates = [*self.deep.values(), *self.wide.values()]
        self.search = [run for model in candidates for run in self.trainings(model, p.search_seeds)]
        self.labels = specs.ExampleLabels(data=p.data_spec)
        narrow = self.network(p.wide_depth, p.base_multiplier)
        as_wide = self.network(p.wide_depth, p.sparse_multiplier)
        sparse = specs.StaticSparsity(narrow, width=as_wide.width)
        self.others: dict[str, specs.ModelSpec] = {
            "narrow": narrow,
            "sparse": sparse,
            "dense, as wide": as_wide,
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

    def trainings(self, model: specs.ModelSpec, seeds: range) -> list[specs.Experiment]:
        """One training for each seed."""
        p = self.p
        return [
            specs.Experiment(model=model, data=p.data_spec, training=p.training, seed=seed) for seed in seeds
        ]

    def pairs(self, store: Store) -> pd.DataFrame:
        """The candidates' pairs, the best matched first, as `wsn.matched_pairs` orders them."""

        def accuracies(models: Mapping[str, specs.ModelSpec]) -> dict[Hashable, list[float]]:
            tables: dict[Hashable, pd.DataFrame] = {
                name: sweeps.table(self.trainings(model, self.p.search_seeds), store=store)
                for name, model in models.items()
            }
            return {name: table["test_accuracy"].tolist() for name, table in tables.items()}

        return predictions.matched_pairs(
            accuracies(self.deep),
            accuracies(self.wide),
            allowed=lambda one, other: self.deep[str(one)].width < self.wide[str(other)].width,
        )

    def pair(self, store: Store) -> dict[str, specs.ModelSpec]:
        """The best matched pair, `"deep"` and `"wide"`."""
        best = self.pairs(store).iloc[0]
        return {"deep": self.deep[best["first"]], "wide": self.wide[best["second"]]}

    def populations(self, store: Store) -> list[specs.Experiment]:
        """Trainings of the pair's populations and of all others, each once."""
        p = self.p
        others = [*self.others.values(), *self.by_depth.values(), *self.by_width.values()]
        runs = [r for m in self.pair(store).values() for r in self.trainings(m, p.seeds(p.networks))]
        runs += [r for m in others for r in self.trainings(m, p.seeds(p.other_networks))]
        return list(dict.fromkeys(runs))

    def examples(self, store: Store) -> specs.ExampleImages:
        """The images on which the pair's populations differ most."""
        deep, wide = (
            sweeps.population(self.trainings(model, self.p.seeds(self.p.networks)), store=store, name=name)
            for name, model in self.pair(store).items()
        )
        found = predictions.largest_differences(deep, wide, count=MOST_DIFFERENT)
        return specs.ExampleImages(data=self.p.data_spec, examples=tuple(sorted(found["example"].tolist())))

    def stages(self, store: Store) -> Iterator[list[specs.Run]]:
        """All runs, those that depend on others after them."""
        yield [self.labels, *self.search]
        yield list(self.populations(store))
        yield [self.examples(store)]
        on_imagenet = [run for part in self.imagenet.values() for run in part]
        if on_imagenet:
            yield [specs.ExampleLabels(data=on_imagenet[0].data), *on_imagenet]
