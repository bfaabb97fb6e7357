"""The chapter on representations and block structure: its parameters, measurements and estimates.

A network that does not fit its images decides nothing. A network is *with a block* if `block_structure` finds
one, and what is inside of a block is measured in the highest-ranked one. *Strength* is that of the
highest-ranked range of layers, which need not be a block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, count
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, Field
from scipy.stats import norm, rankdata
from torch import Tensor

from wsnlib import data, specs
from wsnlib.book.engine import parameters as fields
from wsnlib.book.engine.claims import EVERY, claims_of
from wsnlib.estimates import Estimate, estimate, proportion
from wsnlib.layers import NetworkResults, OriginResults, OutputMap, origin_results, output_results
from wsnlib.similarity import Block, BlockStructure, block_strength, block_structure
from wsnlib.store import Store

Array = npt.NDArray[np.float64]

TOP = 10
"""Images that are called dominant in a layer or a network."""

FEWEST = 3
"""Networks that fit which a width needs to be compared; fewer give no interval that is short enough."""


class Network(BaseModel, extra="forbid", strict=True, frozen=True):
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

    name: str = Field(min_length=1)
    depth: fields.PositiveInt
    width_multiplier: fields.PositiveFloat = 1.0
    part: fields.PositiveInt = 16
    residual: bool = True
    epochs: fields.PositiveInt
    seeds: list[fields.NonNegativeInt] = Field(min_length=1)

    @property
    def title(self) -> str:
        """Such as `ResNet-38 (2×)`, without images and epochs (see `Runs.titles`)."""
        return f"ResNet-{self.depth} ({self.width_multiplier:g}×)" + ("" if self.residual else ", plain")


class Comparison(BaseModel, extra="forbid", strict=True, frozen=True):
    """Networks of all these names and seeds, every two of which are compared.

    Args:
        networks: Names.
        seeds: Of each.
    """

    networks: list[str] = Field(min_length=1)
    seeds: list[fields.NonNegativeInt] = Field(min_length=1)

    @property
    def keys(self) -> tuple[Key, ...]:
        """Name and seed of each network."""
        return tuple((name, seed) for name in self.networks for seed in self.seeds)


Key = tuple[str, int]
"""A network's name and a seed."""

DIGITS = [
    Network(name="deep", depth=14, width_multiplier=0.25, part=2, epochs=8, seeds=[0, 1]),
    Network(name="shallow", depth=8, width_multiplier=0.25, part=2, epochs=8, seeds=[0, 1]),
]


class Parameters(fields.ChapterParameters):
    """Parameters of the chapter `cka_blocks`: N21's protocol on parts of the images, and what is measured.

    Nothing is chosen on the test images: the last epoch counts. CKA is by HSIC₁ of all measured images at
    once, so that the presets do not differ.
    """

    preset: Literal["faithful", "clean"] = Field("clean", description="'faithful' or 'clean'")
    validation_size: fields.PositiveInt = 50
    images: fields.PositiveInt = Field(
        256, description="an integer ≥ 1, the images whose parts are trained on"
    )
    networks: list[Network] = Field(
        DIGITS,
        min_length=1,
        description="a list of networks with name, depth, epochs and seeds",
    )
    compared: list[Comparison] = Field(
        [Comparison(networks=["deep"], seeds=[0, 1])],
        min_length=1,
        description="a list of comparisons with networks and seeds",
    )
    batch_size: fields.PositiveInt = 32
    learning_rate: fields.PositiveFloat = 0.01
    weight_decay: fields.NonNegativeFloat = 2e-4
    augmentation: fields.Flag = True
    norm_momentum: fields.Density = 0.01
    precision: fields.Precision = "float32"
    num_images: Annotated[int, Field(ge=24)] = Field(100, description="an integer ≥ 24")
    num_removed: Annotated[int, Field(ge=1, le=10)] = Field(10, description="an integer of 1 to 10")
    num_rotated: Annotated[int, Field(ge=4)] = Field(50, description="an integer ≥ 4")
    moments: list[Annotated[float, Field(ge=0, lt=1)]] = Field(
        [0.0, 0.2], min_length=1, description="a rising list of shares of the epochs, from 0 to below 1"
    )
    least_fit: Annotated[float, Field(gt=0, le=1)] = Field(0.9, description="a training accuracy in (0, 1]")

    def model_post_init(self, context: Any) -> None:
        """Check what concerns several parameters at once."""
        seeds: dict[str, set[int]] = {}
        known: dict[str, Network] = {}
        for each in self.networks:
            meant = known.setdefault(each.name, each)
            if meant.model_copy(update={"seeds": each.seeds}) != each:
                raise ValueError(f"a name must mean one network, got two for {each.name!r}")
            seeds[each.name] = seeds.get(each.name, set()) | set(each.seeds)
            specs.ResNetCifarSpec(depth=each.depth, width_multiplier=each.width_multiplier)
        for comparison in self.compared:
            for name, seed in comparison.keys:
                if seed not in seeds.get(name, set()):
                    raise ValueError(
                        f"compared must be of networks and seeds that are trained, "
                        f"got {name!r} and seed {seed}"
                    )
            if len(set(comparison.keys)) < max(2, len(comparison.keys)):
                raise ValueError(f"compared must be of two different networks or more, got {comparison.keys}")
        if self.num_rotated > self.num_images:
            raise ValueError(
                f"num_rotated must be at most num_images {self.num_images}, got {self.num_rotated}; lower it"
            )
        if self.moments != sorted(set(self.moments)):
            allowed = type(self).model_fields["moments"].description
            raise ValueError(f"moments must be {allowed}, got {self.moments}")
        _ = self.data_spec()

    def data_spec(self, *, part: int = 1) -> specs.DataSpec:
        """The data set scaled to [0, 1], with one of so many class-balanced parts of the training images."""
        found = self._data_spec(train_size=self.train_size(part), normalisation="unit")
        return replace(found, validation_size=self.validation_size)

    def train_size(self, part: int) -> int:
        """Training images of one such part, none of which is for validation."""
        return min(self.images // part, self.images - self.validation_size)

    def experiment(self, network: Network, seed: int) -> specs.Experiment:
        """N21's protocol for one network and seed; images are evaluated once, after the last epoch."""
        images = self.data_spec(part=network.part)
        model = specs.ResNetCifarSpec(
            depth=network.depth,
            width_multiplier=network.width_multiplier,
            num_classes=data.num_classes(images),
            input_channels=data.image_shape(images)[0],
            residual=network.residual,
            norm_momentum=self.norm_momentum,
        )
        protocol = self._training(
            epochs=network.epochs,
            momentum=0.9,
            weight_decay_on="weights",
            schedule=specs.Cosine(),
            augmentation=specs.CropAndFlip(padding_mode="reflect") if self.augmentation else None,
            evaluate_every=network.epochs,
        )
        return specs.Experiment(model=model, data=images, training=protocol, seed=seed)

    @property
    def same_data(self) -> bool:
        """Whether the images are those of a data set of N21, all of them or a part."""
        return self.data in ("cifar10", "cifar100")

    @property
    def full_protocol(self) -> bool:
        """Whether N21's training (Appendix B) is followed."""
        return (
            min(network.epochs for network in self.networks) >= 300
            and self.batch_size == 128
            and self.learning_rate == 0.01
            and self.weight_decay == 2e-4
            and self.augmentation
        )


class Runs:
    """The measurements of a chapter.

    Attributes:
        networks: What each name means.
        origins: Of each network and seed, in the order of the parameters.
        compared: Comparisons, by the networks and seeds that each is of.
    """

    def __init__(self, p: Parameters) -> None:
        self.p = p
        self.networks = {each.name: each.model_copy(update={"seeds": []}) for each in p.networks}
        keys = [(network.name, seed) for network in p.networks for seed in network.seeds]
        self.origins = {key: self._origins(key) for key in keys}
        self.compared = {
            each.keys: specs.OutputSimilarity(
                tuple(self.origins[key].experiment for key in each.keys), num_images=p.num_images
            )
            for each in p.compared
        }

    def _origins(self, key: Key) -> specs.BlockOrigins:
        name, seed = key
        network = self.networks[name]
        return specs.BlockOrigins(
            self.p.experiment(network, seed),
            epochs=tuple(sorted({int(moment * network.epochs + 1e-9) for moment in self.p.moments})),
            num_images=self.p.num_images,
            num_removed=self.p.num_removed,
            num_rotated=self.p.num_rotated,
            probes=True,
        )

    @cached_property
    def part(self) -> int:
        """The part of the images that most networks are trained on, of equal ones the smallest."""
        parts = [network.part for network in self.networks.values()]
        return max(parts, key=lambda part: (parts.count(part), part))

    @cached_property
    def titles(self) -> dict[str, str]:
        """Of each name the network, its images if not the usual part, its epochs if others differ in them."""
        epochs: dict[tuple[str, int], set[int]] = {}
        for each in self.networks.values():
            epochs.setdefault((each.title, each.part), set()).add(each.epochs)
        found = {}
        for name, each in self.networks.items():
            images = f"1/{each.part} of the images" if each.part > 1 else "all images"
            said = [each.title, *([images] if each.part != self.part else [])]
            if len(epochs[each.title, each.part]) > 1:
                said.append(f"{each.epochs} epochs")
            found[name] = ", ".join(said)
        return found

    @property
    def everything(self) -> list[specs.Run]:
        """All runs."""
        return [*self.origins.values(), *self.compared.values()]

    def stages(self) -> Iterator[list[specs.Run]]:
        """The runs in their order; a comparison follows as soon as all that it is of are trained."""
        left, made = dict(self.origins), set[Key]()
        for keys, comparison in self.compared.items():
            stage: list[specs.Run] = []
            while not made.issuperset(keys):
                key = next(iter(left))
                stage.append(left.pop(key))
                made.add(key)
            if stage:
                yield stage
            yield [comparison]
        if left:
            yield list(left.values())


def stages(p: Parameters, store: Store) -> Iterator[list[specs.Run]]:
    """All runs, those that depend on others after them; last the images that the page shows."""
    runs = Runs(p)
    yield from runs.stages()
    yield [Results.read(runs, store).examples]


# -- what was measured ------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One network, its block structure, and whether it fits its images.

    Args:
        network: Of the plan.
        seed: Of its training.
        origins: What was measured.
        fits: Whether its training accuracy is high enough to say anything about networks that fit.
        title: Of the network, as the page has it.
    """

    network: Network
    seed: int
    origins: OriginResults
    fits: bool
    title: str

    @property
    def name(self) -> str:
        """Title and seed."""
        return f"{self.title}, seed {self.seed}"

    @property
    def fit(self) -> str:
        """Its training accuracy in words."""
        fits = "" if self.fits else ", does not fit"
        return f"training accuracy {100 * self.origins.train_accuracy:.0f} %{fits}"

    @property
    def marks(self) -> dict[str, Any]:
        """What `wsn.plot.cka` marks in a map of all layers."""
        return {"rows": self.origins.layers, "blocks": edges(self.structure)}

    @cached_property
    def structure(self) -> BlockStructure:
        """Of all layers."""
        return block_structure(self.origins.cka)

    @property
    def has_block(self) -> bool:
        """Whether there is a block of layers."""
        return bool(self.structure.blocks)

    @property
    def strength(self) -> float:
        """Of the highest-ranked range of layers, which need not be a block, in [−2, 2]."""
        return self.structure.best.strength

    @cached_property
    def block(self) -> Block:
        """The highest-ranked block; where there is none, the highest-ranked range."""
        return max(
            self.structure.blocks,
            key=lambda block: block.strength * math.sqrt(block.stop - block.start),
            default=self.structure.best,
        )

    @property
    def ends_with_stage(self) -> bool:
        """Whether `block` ends in the first residual block of a stage, where CKA drops in any network."""
        return self.origins.layers[self.block.stop - 1].startswith(("stage2.block1.", "stage3.block1."))

    @property
    def strength_without_component(self) -> float:
        """Strength of `block` in CKA without each layer's first principal component."""
        return block_strength(
            self.origins.cka_without_component, start=self.block.start, stop=self.block.stop
        )

    @property
    def left_without_component(self) -> float:
        """That strength as a share of the strength of `block`."""
        return self.strength_without_component / self.block.strength

    @property
    def ratio_inside(self) -> float:
        """Explained variance ratio of the first component, mean over the layers of `block`."""
        return float(np.nanmean(self.origins.explained_variance_ratio[self.inside]))

    @property
    def top_share_inside(self) -> float:
        """Share of the variance along the first component that ten images carry, mean over these layers."""
        return float(np.nanmean(self.origins.top_shares[TOP][self.inside]))

    @cached_property
    def inside(self) -> npt.NDArray[np.bool_]:
        """Which layers lie in `block`."""
        at = np.arange(len(self.origins.layers))
        return np.asarray((at >= self.block.start) & (at < self.block.stop))

    @property
    def inside_outputs(self) -> npt.NDArray[np.bool_]:
        """The same of the outputs."""
        return np.asarray(self.inside[self.origins.positions])

    def mean_inside(self, values: Array) -> float:
        """Mean of a map of the outputs over pairs inside `block`; NaN if it holds under 2."""
        square = values[np.ix_(self.inside_outputs, self.inside_outputs)]
        return _mean(square[np.triu_indices(len(square), 1)])

    def output_strength(self, values: Array) -> float:
        """Strength of `block` in a map of the outputs; NaN if it holds under 3, or all."""
        at = np.flatnonzero(self.inside_outputs)
        if not 3 <= len(at) < len(self.inside_outputs):
            return math.nan
        return block_strength(values, start=int(at[0]), stop=int(at[-1]) + 1)

    def strength_left(self, values: Array) -> float:
        """Strength of `block` in another map of the outputs over that in their own."""
        return self.output_strength(values) / self.output_strength(self.origins.output_cka)


@dataclass(frozen=True, kw_only=True)
class Results:
    """What was measured, every record read once.

    Args:
        runs: Of the plan.
        networks: By name and seed.
        compared: Comparisons, by the networks and seeds that they are of.
    """

    runs: Runs
    networks: Mapping[Key, Measured]
    compared: Mapping[tuple[Key, ...], NetworkResults]

    @classmethod
    def read(cls, runs: Runs, store: Store) -> Results:
        """From the records of all runs.

        Raises:
            KeyError: If a record is missing.
        """
        networks = {}
        for (name, seed), run in runs.origins.items():
            found = origin_results(run, store=store)
            fits = found.train_accuracy >= runs.p.least_fit
            networks[name, seed] = Measured(
                network=runs.networks[name], seed=seed, origins=found, fits=fits, title=runs.titles[name]
            )
        compared = {keys: output_results(run, store=store) for keys, run in runs.compared.items()}
        return cls(runs=runs, networks=networks, compared=compared)

    @property
    def fitting(self) -> list[Measured]:
        """Networks that fit their images."""
        return [each for each in self.networks.values() if each.fits]

    @property
    def part(self) -> int:
        """The part of the images that most networks are trained on, of equal ones the smallest."""
        return self.runs.part

    @property
    def deeper(self) -> list[list[Measured]]:
        """Networks on that part of the width that most networks have, by depth."""
        widths = [n.width_multiplier for n in self.runs.networks.values()]
        usual = max(widths, key=lambda k: (widths.count(k), -k))
        return self._family(lambda n: n.width_multiplier == usual, lambda n: n.depth)

    @property
    def wider(self) -> list[list[Measured]]:
        """Networks on that part of the depth that has most widths, if that is more than one, by width."""
        shapes = {(n.depth, n.width_multiplier) for n in self.runs.networks.values() if n.residual}
        depths = [depth for depth, _ in shapes]
        depth = max(depths, key=lambda depth: (depths.count(depth), -depth), default=0)
        found = self._family(lambda n: n.depth == depth, lambda n: n.width_multiplier)
        return found if depths.count(depth) > 1 else []

    @property
    def residual(self) -> list[list[Measured]]:
        """Networks with residual connections on that part, by depth and width."""
        return self._family(lambda n: True, lambda n: (n.depth, n.width_multiplier))

    @property
    def on_more_data(self) -> list[tuple[Measured, Measured]]:
        """Fitting networks on the least images, each with the same network and seed on the most."""
        alike: dict[tuple[object, ...], list[Measured]] = {}
        for m in self.fitting:
            n = m.network
            alike.setdefault((n.depth, n.width_multiplier, n.residual, m.seed), []).append(m)
        ordered = [sorted(each, key=lambda m: -m.network.part) for each in alike.values()]
        return [(each[0], each[-1]) for each in ordered if each[0].network.part > each[-1].network.part]

    def judged(self, *, block: bool) -> list[Measured]:
        """Fitting networks with residual connections on that part, with or without a block."""
        return [m for m in self._judged if m.has_block == block]

    @property
    def _judged(self) -> list[Measured]:
        return [m for m in self.fitting if m.network.residual and m.network.part == self.part]

    @property
    def ordered(self) -> list[Measured]:
        """All networks as the page shows them, those with residual connections on that part first."""

        def place(m: Measured) -> tuple[Any, ...]:
            n = m.network
            other = not n.residual, n.part != self.part
            return *other, n.depth, n.width_multiplier, n.epochs, m.seed

        return sorted(self.networks.values(), key=place)

    def example(self, *, block: bool) -> Measured:
        """The deepest network that is judged, with or without a block; of all where there is none."""

        def deepest(found: list[Measured]) -> list[Measured]:
            return sorted(found, key=lambda m: (-m.network.depth, m.seed))

        having = (m for m in deepest(self._judged) if m.has_block == block)
        return next(having, deepest(self.ordered)[0])

    @property
    def shown(self) -> list[Measured]:
        """The examples with and without a block; one network if it is both."""
        having, without = (self.example(block=block) for block in (True, False))
        return [having] if having is without else [having, without]

    def some(self, name: str, most: int) -> list[Measured]:
        """Seeds of a network: the first with and without a block, then others."""
        found = [m for m in self.ordered if m.network.name == name]
        first = {m.has_block: m.seed for m in reversed(found)}
        found.sort(key=lambda m: m.seed != first[m.has_block])
        return sorted(found[:most], key=lambda m: m.seed)

    def runs_of(self, networks: Iterable[Measured]) -> list[specs.BlockOrigins]:
        """The runs behind some networks."""
        return [self.runs.origins[m.network.name, m.seed] for m in networks]

    @property
    def examples(self) -> specs.ExampleImages:
        """The dominant images of every seed of the network that is the example with a block."""
        example = self.example(block=True)
        alike = [m for m in self.networks.values() if m.network == example.network]
        dominant = {i for m in alike for i in top_images(m.origins.dominance)}
        places = example.origins.examples  # the same images for all networks
        found = sorted(int(places[i]) for i in dominant)
        return specs.ExampleImages(data=self.runs.p.data_spec(), examples=tuple(found))

    def _family(
        self, wanted: Callable[[Network], bool], order: Callable[[Network], Any]
    ) -> list[list[Measured]]:
        """Fitting networks of a kind, one list over seeds for each name, in an order."""
        networks = [
            n for n in self.runs.networks.values() if n.residual and n.part == self.part and wanted(n)
        ]
        found = [[m for m in self.fitting if m.network == n] for n in sorted(networks, key=order)]
        return [seeds for seeds in found if seeds]


def entries(maps: Mapping[str, tuple[Sequence[str], Array]]) -> pd.DataFrame:
    """Numbers of symmetric maps by name, each with its layers: one row a pair, to two decimals."""
    parts = []
    for name, (layers, values) in maps.items():
        i, j = np.triu_indices(len(layers), 1)
        pairs = {"layer": np.array(layers)[i], "other": np.array(layers)[j]}
        parts.append(pd.DataFrame({"map": name, **pairs, "similarity": np.round(values[i, j], 2)}))
    return pd.concat(parts)


def edges(structure: BlockStructure) -> list[tuple[int, int]]:
    """The first layer of each block, and one past the last."""
    return [(block.start, block.stop) for block in structure.blocks]


def example_pairs(results: Results) -> dict[str, tuple[tuple[Key, ...], int, int]]:
    """Compared networks of every kind of pair, by the kind: the comparison, and which two of its networks.

    Of several the deepest that fit; if none is of a kind, any pair.
    """

    def both(pair: tuple[tuple[Key, ...], int, int]) -> tuple[Measured, Measured]:
        keys, i, j = pair
        return results.networks[keys[i]], results.networks[keys[j]]

    def order(pair: tuple[tuple[Key, ...], int, int]) -> tuple[bool, int]:
        a, b = both(pair)
        return not (a.fits and b.fits), -a.network.depth - b.network.depth

    every = [(keys, i, j) for keys in results.compared for i, j in combinations(range(len(keys)), 2)]
    found: dict[str, tuple[tuple[Key, ...], int, int]] = {}
    for pair in sorted(every, key=order):
        a, b = both(pair)
        if a.has_block == b.has_block:
            what = "two seeds" if a.network == b.network else "two architectures"
            found.setdefault(f"{what},\n{'with' if a.has_block else 'without'} a block", pair)
        if a.network.width_multiplier != b.network.width_multiplier:
            found.setdefault("two widths", pair)
    return found or {"two networks": min(every, key=order)}


def top_images(directions: Array) -> list[int]:
    """The images that lie farthest along a component, or the most dominant, the first of all first."""
    ordered: list[int] = np.argsort(-abs(directions), kind="stable")[:TOP].tolist()
    return ordered


def hsic_ratios(hsic: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor, *, batches: Tensor) -> Array:
    """HSIC over minibatches, averaged over each pass, divided by its value on all examples (Proposition 1).

    Args:
        hsic: Function of two stacks of Gram matrices, such as `wsn.similarity.hsic1`.
        x, y: Representations of the same examples, (examples, units).
        batches: Positions of the examples of each batch, (passes, batches, examples of a batch).

    Returns:
        One ratio a pass.
    """
    grams = (z[batches] @ z[batches].mT for z in (x, y))
    ratios: Array = (hsic(*grams).mean(1) / hsic(x @ x.mT, y @ y.mT)).numpy()
    return ratios


# -- our estimates of what the papers claim ---------------------------------------------------


def estimates(results: Results, *, ratios: Array) -> dict[str, Estimate]:
    """Our estimates by the claims' names; none where no network decides a claim.

    What concerns the inside of blocks is measured in the highest-ranked block of the networks that have one,
    and averaged over them for each seed; contrasts are the mean over networks without a block, in their
    highest-ranked range, less that, for each seed.

    Args:
        results: What was measured.
        ratios: Ratios of HSIC₁, as `hsic_ratios` gives them.
    """
    deepest = results.deeper[-1] if results.deeper else []
    shallowest = results.deeper[0] if len(results.deeper) > 1 else []
    plain = [m for m in results.fitting if not m.network.residual]
    widest = max((m.network.width_multiplier for m in plain), default=None)
    found = {
        "depth": _ends(results.deeper),
        "width": _ends([seeds for seeds in results.wider if len(seeds) >= FEWEST]),
        "less-data": _less_data(results),
        "every-seed": _choices(m.has_block for m in deepest),
        "every-seed/control": _choices(m.has_block for m in shallowest),
        "no-residuals": _choices(m.has_block for m in plain if m.network.width_multiplier == widest),
        "component-without": _contrast(results, lambda m: m.ratio_inside, sign=-1),
        "component-seeds": _estimate(_ratios_with_less_without(results)),
        "probes": _contrast(results, _middle_gain),
        "deletion": _contrast(results, _middle_loss),
        "deletion-clarity": correlation_within(
            [[(m.strength, _middle_kept(m)) for m in seeds] for seeds in results.residual]
        ),
        "proposition-1": estimate(ratios.tolist()),
    }
    of_blocks: dict[str, Value] = {
        "late": _late,
        "component": lambda m: m.ratio_inside,
        "component-inside": _ratio_difference,
        "component-kept": _component_kept,
        "component-map": _component_map,
        "component-removed": lambda m: m.left_without_component,
        "sparsity": _sparsity_difference,
        "additions": _addition_gain,
        "few-images": lambda m: m.top_share_inside,
        "dominant-removed": lambda m: m.strength_left(m.origins.cka_without_dominant),
        "others-removed": lambda m: m.strength_left(m.origins.cka_without_others) - 1,
        "dominant-shared": _shared_in_block,
        "dominant-alike": _alike,
        "early": _early_strength,
        "dominant-change": _early_images,
        "component-small/control": _mean_ratio,
        "unchanged/control": _unchanged,
        "probes-rise/control": _probes_rise,
    }
    without_blocks: dict[str, Value] = {
        "checkerboard": _additions_apart,
        "component-small": _mean_ratio,
        "component-apart": _component_map,
        "component-map/control": _component_map,
        "component-kept/control": _component_kept,
        "unchanged": _unchanged,
        "probes-rise": _probes_rise,
    }
    for block, values in ((True, of_blocks), (False, without_blocks)):
        for name, value in values.items():
            values_of = _means(results.judged(block=block), value).values()
            confidence = claims_of("cka_blocks")[name.partition("/")[0]].confidence
            found[name] = _estimate(values_of, confidence)
    left = [m.left_without_component for m in results.judged(block=True)]
    found["component-removed/networks"] = _estimate(left)
    return {name: e for name, e in (found | _between(results)).items() if e is not None}


Value = Callable[[Measured], float]


def _estimate(values: Iterable[float], confidence: float = 0.95) -> Estimate | None:
    listed = [value for value in values if not math.isnan(value)]
    return estimate(listed, confidence=confidence) if listed else None


def seeds_of_every() -> int:
    """The fewest seeds, each with a block, by which an exact interval says that nearly every seed has one.

    Examples:
        >>> seeds_of_every()
        36
    """
    return next(n for n in count(1) if proportion([True] * n).low >= EVERY)


def _choices(values: Iterable[bool]) -> Estimate | None:
    listed = list(values)
    return proportion(listed) if listed else None


def _ends(family: Sequence[Sequence[Measured]]) -> Estimate | None:
    """Strength of the last less that of the first, for the seeds of both."""
    if len(family) < 2:
        return None
    first, last = ({m.seed: m.strength for m in family[end]} for end in (0, -1))
    return _estimate(last[seed] - first[seed] for seed in sorted(first.keys() & last.keys()))


def _less_data(results: Results) -> Estimate | None:
    """Strength on the least data less that on the most, mean over the networks of each seed."""
    found: dict[int, list[float]] = {}
    for least, most in results.on_more_data:
        found.setdefault(least.seed, []).append(least.strength - most.strength)
    return _estimate(float(np.mean(each)) for each in found.values())


def _means(networks: Iterable[Measured], value: Value) -> dict[int, float]:
    """Mean over the networks of each seed that have a number."""
    found: dict[int, list[float]] = {}
    for each in networks:
        if not math.isnan(number := value(each)):
            found.setdefault(each.seed, []).append(number)
    return {seed: float(np.mean(numbers)) for seed, numbers in sorted(found.items())}


def _contrast(results: Results, value: Value, *, sign: int = 1) -> Estimate | None:
    """Without less with a block, or with less without where the sign is −1."""
    without, having = (_means(results.judged(block=block), value) for block in (False, True))
    return _estimate(sign * (without[s] - having[s]) for s in without if s in having)


def _late(m: Measured) -> float:
    late = np.array([name.startswith(("stage2.", "stage3.")) for name in m.origins.layers])
    return float(late[m.inside].mean() - late.mean())


def _ratio_difference(m: Measured) -> float:
    return m.ratio_inside - float(np.nanmean(m.origins.explained_variance_ratio[~m.inside]))


def _mean_ratio(m: Measured) -> float:
    return float(np.nanmean(m.origins.explained_variance_ratio))


def _ratios_with_less_without(results: Results) -> list[float]:
    """Joint explained variance ratio, seeds with a block less the others, where a network has both."""
    differences = []
    for name in results.runs.networks:
        seeds = [m for m in results.fitting if m.network.name == name]
        having, without = (
            [m.origins.joint_explained_variance_ratio for m in seeds if m.has_block == b]
            for b in (True, False)
        )
        if having and without:
            differences.append(float(np.mean(having) - np.mean(without)))
    return differences


def _component_kept(m: Measured) -> float:
    return m.mean_inside(m.origins.component_similarity)


def _component_map(m: Measured) -> float:
    return _map_correlation(m.origins.output_cka, m.origins.component_similarity)


def _unchanged(m: Measured) -> float:
    return _map_correlation(m.origins.cka, m.origins.cka_without_component)


def _additions_apart(m: Measured) -> float:
    """CKA among representations after additions, less that with those inside residual blocks."""
    added = np.array([name.endswith(".add") for name in m.origins.layers])
    inside = np.array([".norm" in name or ".conv" in name for name in m.origins.layers])
    after = m.origins.cka[np.ix_(added, added)]
    return _mean(after[np.triu_indices(len(after), 1)]) - _mean(m.origins.cka[np.ix_(added, inside)])


def _probes_rise(m: Measured) -> float:
    """Rank correlation of the accuracy of probes after additions with their depth."""
    added = [accuracy for name, accuracy in m.origins.probes.items() if name.endswith(".add")]
    return _correlation(range(len(added)), rankdata(added))


def _mean(values: npt.ArrayLike) -> float:
    """Of those that are numbers; NaN if none is."""
    known = np.asarray(values)[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


def _correlation(one: Sequence[float] | npt.NDArray[Any], other: Sequence[float] | npt.NDArray[Any]) -> float:
    """NaN if either does not vary."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return math.nan
    return float(np.corrcoef(one, other)[0, 1])


def _sparsity_difference(m: Measured) -> float:
    zeros = np.array(list(m.origins.sparsity.values()))
    within = np.array([m.inside[m.origins.layers.index(name)] for name in m.origins.sparsity])
    if within.all() or not within.any():
        return math.nan
    return float(zeros[within].mean() - zeros[~within].mean())


def _addition_gain(m: Measured) -> float:
    """Points that a probe after an addition in the block is above the one before it."""
    gained = [
        after - m.origins.probes[name.replace(".add", ".norm2")]
        for name, after in m.origins.probes.items()
        if name.endswith(".add") and m.inside[m.origins.layers.index(name)]
    ]
    return 100 * float(np.mean(gained)) if gained else math.nan


def _middle_gain(m: Measured) -> float:
    """Points that probes gain from the first to the last addition of stage 2."""
    added = [v for n, v in m.origins.probes.items() if n.startswith("stage2.") and n.endswith(".add")]
    return 100 * (added[-1] - added[0]) if added else math.nan


def _middle_loss(m: Measured) -> float:
    """Points of accuracy lost without all blocks of stage 2 but the first."""
    return 100 * m.origins.test_accuracy * (1 - _middle_kept(m))


def _middle_kept(m: Measured) -> float:
    """Part of the accuracy that is left without them."""
    rest = [v for deleted, v in m.origins.deletions.items() if deleted[0].startswith("stage2.")]
    return rest[-1] / m.origins.test_accuracy if rest else math.nan


def correlation_within(groups: Iterable[Sequence[tuple[float, float]]]) -> Estimate | None:
    """Correlation of two numbers of the members of groups, each less its mean over the group.

    It is the partial correlation given the groups, with Fisher's interval: atanh r has the standard error
    1/√(members − groups − 2).

    Args:
        groups: The two numbers of every member; pairs with a NaN and groups of one are left out.

    Returns:
        None if nothing is left that varies, or too few for an interval.

    Examples:
        >>> found = correlation_within([[(0, 1), (1, 2), (2, 4)], [(10, 3), (11, 4), (12, 6)]])
        >>> round(found.mean, 2), found.n
        (0.98, 6)
    """
    known = [[pair for pair in group if not math.isnan(sum(pair))] for group in groups]
    arrays = [np.array(group, dtype=float) for group in known if len(group) > 1]
    n, freedom = sum(map(len, arrays)), sum(len(each) - 1 for each in arrays) - 2
    if freedom < 1:
        return None
    first, second = np.concatenate([each - each.mean(0) for each in arrays]).T
    r = _correlation(first, second)
    half = float(norm.isf(0.025)) / math.sqrt(freedom)
    z = math.atanh(r) if abs(r) < 1 else math.copysign(math.inf, r)
    return None if math.isnan(r) else Estimate(mean=r, low=math.tanh(z - half), high=math.tanh(z + half), n=n)


def _overlap(one: Array, other: Array) -> float:
    return len({*top_images(one)} & {*top_images(other)}) / TOP


def _shared_in_block(m: Measured) -> float:
    inside = m.origins.directions[m.inside_outputs]
    return _mean([_overlap(a, b) for a, b in combinations(inside, 2)])


def _alike(m: Measured) -> float:
    border = m.origins.border
    dominant = border[top_images(m.origins.dominance)]
    return float(abs(dominant.mean() - border.mean()) / border.std()) if np.ptp(border) else math.nan


def _early(m: Measured) -> OutputMap | None:
    """The outputs after a fifth of the epochs, if they were seen then."""
    return m.origins.epochs.get(m.network.epochs // 5)


def _early_strength(m: Measured) -> float:
    early = _early(m)
    return math.nan if early is None else m.strength_left(early.cka)


def _early_images(m: Measured) -> float:
    early = _early(m)
    return math.nan if early is None else _overlap(m.origins.dominance, early.dominance)


def _between(results: Results) -> dict[str, Estimate | None]:
    """What compares seeds of one network, and networks of one seed: two with blocks, or two without."""
    judged = {(m.network.name, m.seed) for block in (True, False) for m in results.judged(block=block)}
    unique: dict[bool, PairValues] = {True: {}, False: {}}
    resembles: PairValues = {}
    dominant: PairValues = {}
    outside: PairValues = {}
    architectures: dict[int, list[float]] = {}
    aligned: dict[int, list[float]] = {}
    for keys, found in results.compared.items():
        for (i, one), (j, other) in combinations(enumerate(keys), 2):
            a, b = results.networks[one], results.networks[other]
            if a.has_block != b.has_block or not {one, other} <= judged:
                continue
            own, across = (found.cka[i, i], found.cka[j, j]), found.cka[i, j]
            if a.network == b.network:
                pair = (min(a.seed, b.seed), max(a.seed, b.seed))
                less = [a.mean_inside(own[0] - across), b.mean_inside(own[1] - across.T)]
                unique[a.has_block].setdefault(pair, []).append(float(np.mean(less)))
                if a.has_block:
                    shared = _overlap(a.origins.dominance, b.origins.dominance)
                    dominant.setdefault(pair, []).append(shared)
                    outside.setdefault(pair, []).append(_outside_more_alike(a, b, across))
                else:
                    alike = [_map_correlation(cka, across) for cka in own]
                    resembles.setdefault(pair, []).append(float(np.mean(alike)))
            elif a.seed == b.seed and a.has_block:
                within = [m.mean_inside(cka) for m, cka in zip((a, b), own, strict=True)]
                between = _mean(across[np.ix_(a.inside_outputs, b.inside_outputs)])
                architectures.setdefault(a.seed, []).append(float(np.mean(within) - between))
            elif a.seed == b.seed:
                aligned.setdefault(a.seed, []).append(_aligned(across))
    both = unique[True].keys() & unique[False].keys()
    contrast = {pair: [_mean(unique[True][pair]) - _mean(unique[False][pair])] for pair in both}
    return {
        "unique": _over_pairs(unique[True]),
        "unique-contrast": _over_pairs(contrast),
        "resembles": _over_pairs(resembles),
        "outside": _over_pairs(outside),
        "dominant-seeds": _over_pairs(dominant),
        "unique-architectures": _estimate(map(_mean, architectures.values())),
        "aligned": _estimate(map(_mean, aligned.values())),
    }


PairValues = dict[tuple[int, int], list[float]]
"""Numbers of networks by two seeds of each, the lower one first."""


def _over_pairs(values: Mapping[tuple[int, int], Sequence[float]]) -> Estimate | None:
    """Mean over pairs of seeds; as these share seeds, the units are the jackknife's pseudo-values."""
    means = {pair: m for pair, each in sorted(values.items()) if not math.isnan(m := _mean(each))}
    seeds = sorted({seed for pair in means for seed in pair})
    rest = [[mean for pair, mean in means.items() if seed not in pair] for seed in seeds]
    if not rest or not all(rest):
        return _estimate([_mean(list(means.values()))])
    n, mean = len(seeds), _mean(list(means.values()))
    left_out = np.array([np.mean(each) for each in rest])
    return estimate(mean - (n - 1) * (left_out - left_out.mean()))


def _map_correlation(one: Array, other: Array) -> float:
    """Correlation of two maps of the same layers, without the diagonal and layers that do not vary."""
    pairs = ~(np.eye(len(one), dtype=bool) | np.isnan(one) | np.isnan(other))
    return _correlation(one[pairs], other[pairs]) if pairs.any() else math.nan


def _outside_more_alike(one: Measured, other: Measured, across: Array) -> float:
    """CKA of an output with itself in another seed: mean outside of both blocks, less that inside of both."""
    inside, outside = one.inside_outputs & other.inside_outputs, ~(one.inside_outputs | other.inside_outputs)
    same = np.diagonal(across)
    return _mean(same[outside]) - _mean(same[inside])


def _aligned(across: Array) -> float:
    """Correlation of an output's relative depth with that of the output of the other network most like it."""
    nearest = [across.argmax(axis=1), across.argmax(axis=0)]
    return float(np.mean([_correlation(np.arange(len(n)), n) for n in nearest]))
