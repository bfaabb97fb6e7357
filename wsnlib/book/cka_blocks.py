"""The chapter on representations and block structure: its parameters, measurements and estimates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from itertools import product
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field
from torch import Tensor

from wsnlib import data, specs
from wsnlib.book import fitted
from wsnlib.book.engine import parameters as fields
from wsnlib.estimates import Estimate, estimate, proportion
from wsnlib.layers import LayerResults, NetworkResults, layer_results, network_results
from wsnlib.similarity import BlockStructure, block_strength, block_structure
from wsnlib.store import Store

Array = npt.NDArray[np.float64]

PlannedParameters = fitted.Parameters
"""Of the runs in `params/planned`, which the page will read once they are made."""


class Parameters(fields.ChapterParameters):
    """Parameters of the chapter `cka_blocks`: the networks of N21, Figures 1 to 6, and what is measured.

    Nothing is chosen on the test images: the last epoch counts. The presets differ in the weights of the
    batches of CKA: `faithful` weighs them as the released code does, `clean` as N21's equation (2) says.
    """

    validation_size: fields.PositiveInt = 200
    train_size: fields.PositiveInt = 400
    data_parts: list[fields.PositiveInt] = Field(
        [1, 4],
        min_length=2,
        description="a rising list of 2 or more integers from 1: 4 is a quarter of the training images",
    )
    depth: fields.PositiveInt = Field(14, description="6n + 2")
    depths: list[fields.PositiveInt] = Field(
        [14, 20], min_length=2, description="a rising list of 2 or more depths 6n + 2"
    )
    width_multiplier: fields.PositiveFloat = 0.25
    width_multipliers: list[fields.PositiveFloat] = Field(
        [0.25, 1.0], min_length=2, description="a rising list of 2 or more numbers > 0"
    )
    seeds: list[fields.NonNegativeInt] = Field(
        [0, 1], min_length=2, description="a list of 2 or more integers ≥ 0"
    )
    compared_seeds: Annotated[int, Field(ge=2)] = Field(
        2, description="an integer ≥ 2, and at most the number of seeds"
    )
    epochs: fields.PositiveInt = 8
    batch_size: fields.PositiveInt = 64
    learning_rate: fields.PositiveFloat = 0.01
    weight_decay: fields.NonNegativeFloat = 2e-4
    augmentation: fields.Flag = True
    norm_momentum: fields.Density = 0.1
    precision: fields.Precision = "float32"
    num_images: Annotated[int, Field(ge=4)] | None = Field(
        256, description="an integer ≥ 4, or null for all test images"
    )
    num_component_images: Annotated[int, Field(ge=4)] = Field(256, description="an integer ≥ 4")
    cka_batch_size: Annotated[int, Field(ge=4)] = Field(256, description="an integer ≥ 4")
    passes: fields.PositiveInt = 2

    def model_post_init(self, context: Any) -> None:
        """Check what concerns several parameters at once."""
        for name in ("data_parts", "depths", "width_multipliers"):
            values = getattr(self, name)
            if values != sorted(set(values)):
                allowed = type(self).model_fields[name].description
                raise ValueError(f"{name} must be {allowed}, got {values}")
        if self.data_parts[0] != 1:
            raise ValueError(f"data_parts must be a list that begins with 1, got {self.data_parts}")
        if self.compared_seeds > len(self.seeds):
            raise ValueError(
                f"compared_seeds must be at most the {len(self.seeds)} seeds, got {self.compared_seeds}"
            )
        for depth in (self.depth, *self.depths):
            specs.ResNetCifarSpec(depth=depth)
        for width_multiplier in (self.width_multiplier, *self.width_multipliers):
            specs.ResNetCifarSpec(depth=8, width_multiplier=width_multiplier)
        if self.train_size < self.data_parts[-1]:
            raise ValueError(
                f"train_size must be ≥ {self.data_parts[-1]}, the last of data_parts, got {self.train_size}"
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
            weight_decay_on="weights",
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


Cell = tuple[str, float]
"""`"wider"` and a width multiplier, or `"deeper"` and a depth."""


class Runs:
    """Networks of several widths and depths, measured layer by layer (N21, Figures 1 to 6).

    Attributes:
        cells: Depth and width multiplier of each cell.
        narrow, wide, deep: The cells at the ends.
        runs: Measurements by cell, part of the images and seed.
        plain: Measurements without residual connections by width multiplier and seed.
        few: Seeds of the networks on less data, without residual connections and in comparisons.
        compared: Cells and seeds of the networks that are compared with one another.
        between: That comparison.
        projected: Images along the first component of the deepest network, in the last block of each stage.
    """

    def __init__(self, p: Parameters) -> None:
        self.p = p
        self.cells: dict[Cell, tuple[int, float]] = {("wider", k): (p.depth, k) for k in p.width_multipliers}
        self.cells |= {("deeper", d): (d, p.width_multiplier) for d in p.depths}
        self.narrow: Cell = ("wider", p.width_multipliers[0])
        self.wide: Cell = ("wider", p.width_multipliers[-1])
        self.deep: Cell = ("deeper", p.depths[-1])
        self.few = p.seeds[: p.compared_seeds]
        self.runs = {
            (cell, 1, seed): self._measured(*shape, seed=seed)
            for (cell, shape), seed in product(self.cells.items(), p.seeds)
        }
        self.runs |= {
            (cell, part, seed): self._measured(*shape, part=part, seed=seed)
            for (cell, shape), part, seed in product(self.cells.items(), p.data_parts[1:], self.few)
        }
        self.plain = {
            (k, seed): self._measured(p.depth, k, residual=False, seed=seed)
            for k, seed in product((p.width_multipliers[0], p.width_multipliers[-1]), self.few)
        }
        self.compared = list(product((self.narrow, self.wide, self.deep), self.few))
        self.between = specs.NetworkSimilarity(
            tuple(self._training(*self.cells[cell], seed=seed) for cell, seed in self.compared),
            **p.measurement,
        )
        block = f"block{(self.cells[self.deep][0] - 2) // 6}"
        self.projected = specs.ComponentProjections(
            self._training(*self.cells[self.deep], seed=p.seeds[0]),
            layers=tuple(f"stage{stage}.{block}.add" for stage in (1, 2, 3)),
            num_images=p.num_component_images,
        )

    def _training(
        self, depth: int, width_multiplier: float, *, seed: int, part: int = 1, residual: bool = True
    ) -> specs.Experiment:
        images = self.p.data_spec()
        net = specs.ResNetCifarSpec(
            depth=depth,
            width_multiplier=width_multiplier,
            num_classes=data.num_classes(images),
            input_channels=data.image_shape(images)[0],
            residual=residual,
            norm_momentum=self.p.norm_momentum,
        )
        return specs.Experiment(
            model=net, data=self.p.data_spec(part=part), training=self.p.training, seed=seed
        )

    def _measured(
        self, depth: int, width_multiplier: float, *, seed: int, part: int = 1, residual: bool = True
    ) -> specs.LayerSimilarity:
        probed = {self.cells[cell] for cell in (self.narrow, self.wide, self.deep)}
        return specs.LayerSimilarity(
            self._training(depth, width_multiplier, seed=seed, part=part, residual=residual),
            num_component_images=self.p.num_component_images,
            probes=(depth, width_multiplier) in probed and part == 1 and residual,
            **self.p.measurement,
        )

    @property
    def everything(self) -> list[specs.Run]:
        """All runs."""
        return [*self.runs.values(), *self.plain.values(), self.between, self.projected]

    def stages(self, store: Store) -> Iterator[list[specs.Run]]:
        """All runs; none depends on another."""
        yield self.everything


def stages(p: Parameters | PlannedParameters, store: Store) -> Iterator[list[specs.Run]]:
    """All runs, those that depend on others after them."""
    return fitted.stages(p, store) if isinstance(p, PlannedParameters) else Runs(p).stages(store)


# -- what was measured ------------------------------------------------------------------------

Network = tuple[Cell, int, int]
"""A cell, the part of the images trained on (4 for a quarter) and a seed."""


@dataclass(frozen=True, kw_only=True)
class Results:
    """What was measured, every record read once.

    Args:
        runs: All runs of the chapter.
        networks: Layers of each network.
        plain: The same without residual connections, by width multiplier and seed.
        between: Comparison of the networks of `runs.compared`.
    """

    runs: Runs
    networks: Mapping[Network, LayerResults]
    plain: Mapping[tuple[float, int], LayerResults]
    between: NetworkResults

    @classmethod
    def read(cls, runs: Runs, store: Store) -> Results:
        """From the records of all runs.

        Raises:
            KeyError: If a record is missing.
        """
        layers = cache(partial(layer_results, store=store))
        return cls(
            runs=runs,
            networks={key: layers(run) for key, run in runs.runs.items()},
            plain={key: layers(run) for key, run in runs.plain.items()},
            between=network_results(runs.between, store=store),
        )

    @cached_property
    def structures(self) -> dict[Network, BlockStructure]:
        """Block structure of each network."""
        return {key: block_structure(found.cka, surrogates=199) for key, found in self.networks.items()}

    @cached_property
    def plain_structures(self) -> dict[tuple[float, int], BlockStructure]:
        """Block structure of each network without residual connections."""
        return {key: block_structure(found.cka, surrogates=199) for key, found in self.plain.items()}

    @property
    def distinct(self) -> list[Network]:
        """Networks, each once, as one that lies on both axes, of width and of depth, is in two cells."""
        keys = {(self.runs.cells[cell], part, seed): (cell, part, seed) for cell, part, seed in self.networks}
        return list(keys.values())

    def has_block(self, key: Network) -> bool:
        """Whether a network has a block."""
        return bool(self.structures[key].blocks)

    def strength(self, key: Network) -> float:
        """Strength of a network's highest-ranked range of layers, which need not be a block, in [−2, 2]."""
        return self.structures[key].best.strength

    def strength_left(self, key: Network) -> float:
        """Strength of the same range in CKA without each layer's first principal component."""
        best = self.structures[key].best
        rest = self.networks[key].cka_without_component
        return block_strength(rest, start=best.start, stop=best.stop)

    def in_blocks(self, key: Network) -> npt.NDArray[np.bool_]:
        """Which layers of a network lie in blocks."""
        flags = np.zeros(len(self.networks[key].layers), dtype=bool)
        for start, stop in edges(self.structures[key]):
            flags[start:stop] = True
        return flags


def edges(structure: BlockStructure) -> list[tuple[int, int]]:
    """The first layer of each block, and one past the last."""
    return [(block.start, block.stop) for block in structure.blocks]


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


# -- our estimates of what the paper claims ---------------------------------------------------


def estimates(results: Results, p: Parameters, *, ratios: Array) -> dict[str, Estimate]:
    """Our estimates by the claims' names.

    What concerns the inside of a block is measured in the widest and the deepest network, where they have
    one, and averaged over the two for each seed. Claims that compare networks without and with a block
    compare the narrowest, for seeds where it has none, with that average.

    Args:
        results: What was measured.
        p: The chapter's parameters.
        ratios: Ratios of HSIC₁, as `hsic_ratios` gives them.

    Returns:
        No estimate where no network has, or none lacks, the block that a claim is about.
    """
    narrow, wide, deep = results.runs.narrow, results.runs.wide, results.runs.deep
    shallow: Cell = ("deeper", p.depths[0])
    few, least = results.runs.few, p.data_parts[-1]

    def stronger(first: tuple[Cell, int], second: tuple[Cell, int], seeds: Sequence[int]) -> Estimate:
        return estimate([results.strength((*first, s)) - results.strength((*second, s)) for s in seeds])

    def of_blocks(value: Value, confidence: float = 0.95) -> Estimate | None:
        found = [_of_blocks(results, value, seed) for seed in p.seeds]
        return _estimate([v for v in found if not math.isnan(v)], confidence=confidence)

    def of_pairs(value: Callable[[int], float]) -> Estimate | None:
        """One number a pair of seeds, of which no other pair has one: both are in one comparison."""
        pairs = [few[i : i + 2] for i in range(0, len(few) - 1, 2)]
        found = [float(np.mean([value(seed) for seed in pair])) for pair in pairs]
        return _estimate([v for v in found if not math.isnan(v)])

    def fitted(seed: int) -> float:
        return float(np.mean([100 * results.networks[cell, 1, seed].train_accuracy for cell in (wide, deep)]))

    blockless = [key for key in results.distinct if not results.has_block(key)]
    plain = [bool(s.blocks) for (k, _), s in results.plain_structures.items() if k == wide[1]]
    both = [s for s in few if results.has_block((wide, 1, s)) and results.has_block((deep, 1, s))]
    having = [key for key in results.distinct if results.has_block(key)]
    alike = not any(results.has_block((narrow, 1, s)) for s in few)
    found: dict[str, Estimate | None] = {
        "fit": estimate([fitted(s) for s in p.seeds]),
        "width": stronger((wide, 1), (narrow, 1), p.seeds),
        "depth": stronger((deep, 1), (shallow, 1), p.seeds),
        "less-data": stronger((narrow, least), (narrow, 1), few),
        "less-data-depth": stronger((shallow, least), (shallow, 1), few),
        "every-seed": proportion([results.has_block((wide, 1, s)) for s in p.seeds]),
        "every-seed/control": proportion([results.has_block((narrow, 1, s)) for s in p.seeds]),
        "no-residuals": proportion(plain),
        "late": of_blocks(_late_share),
        "component": of_blocks(_component_share),
        "component-kept": of_blocks(_component_kept),
        "component-removed": of_blocks(_strength_kept),
        "sparsity": of_blocks(_sparsity_difference, 0.9),
        "additions": of_blocks(_addition_gain),
        "probes": _estimate(_without_less_with(results, _middle_gain, p.seeds)),
        "deletion": _estimate(_without_less_with(results, _middle_loss, p.seeds)),
        "resembles": of_pairs(lambda s: _resemblance(results, (narrow, 1, s))) if alike else None,
        "unique": of_pairs(lambda s: _of_blocks(results, _own_less_other, s)),
        "unique-architectures": _estimate([_within_less_between(results, s) for s in both]),
        "checkerboard": _estimate([_additions_apart(results, key) for key in blockless]),
        "component-seeds": _estimate(_shares_with_less_without(results)),
        "component-small": _estimate([results.networks[key].shares.mean() for key in blockless]),
        "component-small/control": _estimate([results.networks[key].shares.mean() for key in having]),
        "proposition-1": estimate(ratios.tolist()),
    }
    return {name: e for name, e in found.items() if e is not None}


Value = Callable[[Results, Network], float]
"""A number of one network."""


def _estimate(values: Sequence[float], *, confidence: float = 0.95) -> Estimate | None:
    return estimate(values, confidence=confidence) if values else None


def _of_blocks(results: Results, value: Value, seed: int) -> float:
    """Mean over the widest and the deepest network, where they have a block; NaN if there is no number."""
    keys = [(cell, 1, seed) for cell in (results.runs.wide, results.runs.deep)]
    values = [value(results, key) for key in keys if results.has_block(key)]
    values = [v for v in values if np.isfinite(v)]
    return float(np.mean(values)) if values else math.nan


def _without_less_with(results: Results, value: Value, seeds: Sequence[int]) -> list[float]:
    """The narrowest network, for seeds where it has no block, less those that have one."""
    found = []
    for key in [(results.runs.narrow, 1, seed) for seed in seeds]:
        with_block = _of_blocks(results, value, key[-1])
        if not (results.has_block(key) or math.isnan(with_block)):
            found.append(value(results, key) - with_block)
    return found


def _mean_within(results: Results, key: Network, values: Array) -> float:
    """Mean over pairs of layers of one block, over all blocks."""
    squares = [values[start:stop, start:stop] for start, stop in edges(results.structures[key])]
    pairs = [square[np.triu_indices(len(square), 1)] for square in squares]
    return float(np.nanmean(np.concatenate(pairs)))


def _late_share(results: Results, key: Network) -> float:
    """Share of the blocks' layers in the last two stages, less that of all layers."""
    late = np.array([name.startswith(("stage2", "stage3")) for name in results.networks[key].layers])
    return float(late[results.in_blocks(key)].mean() - late.mean())


def _component_share(results: Results, key: Network) -> float:
    return float(results.networks[key].shares[results.in_blocks(key)].mean())


def _component_kept(results: Results, key: Network) -> float:
    return _mean_within(results, key, results.networks[key].component_similarity)


def _strength_kept(results: Results, key: Network) -> float:
    return results.strength_left(key) / results.strength(key)


def _sparsity_difference(results: Results, key: Network) -> float:
    """Mean share of zeros of the ReLU layers inside blocks less that of those outside."""
    found, flags = results.networks[key], results.in_blocks(key)
    within = np.array([flags[found.layers.index(name)] for name in found.sparsity])
    zeros = np.array(list(found.sparsity.values()))
    if within.all() or not within.any():
        return math.nan
    return float(zeros[within].mean() - zeros[~within].mean())


def _addition_gain(results: Results, key: Network) -> float:
    """Points that a probe after a residual addition in a block is above the one before it."""
    found, flags = results.networks[key], results.in_blocks(key)
    gained = [
        after - found.probes[name.replace(".add", ".norm2")]
        for name, after in found.probes.items()
        if name.endswith(".add") and flags[found.layers.index(name)]
    ]
    return float(100 * np.mean(gained)) if gained else math.nan


def _middle_gain(results: Results, key: Network) -> float:
    """Points that probes gain from the first to the last addition of stage 2."""
    probes = results.networks[key].probes.items()
    added = [v for name, v in probes if name.startswith("stage2") and name.endswith(".add")]
    return 100 * (added[-1] - added[0])


def _middle_loss(results: Results, key: Network) -> float:
    """Points of accuracy lost without all blocks of stage 2 but the first."""
    found = results.networks[key]
    rest = [v for deleted, v in found.deletions.items() if deleted[0].startswith("stage2")]
    return 100 * (found.test_accuracy - rest[-1]) if rest else math.nan


def _additions_apart(results: Results, key: Network) -> float:
    """CKA among representations after additions, less that with those inside residual blocks."""
    found = results.networks[key]
    added = np.array([name.endswith(".add") for name in found.layers])
    inside = np.array([".norm" in name or ".conv" in name for name in found.layers])
    after = found.cka[np.ix_(added, added)]
    among = after[np.triu_indices(len(after), 1)].mean()
    return float(among - found.cka[np.ix_(added, inside)].mean())


def _shares_with_less_without(results: Results) -> list[float]:
    """Joint share of the first component: seeds with a block less the others, by architecture and data."""
    shares: dict[tuple[tuple[int, float], int], tuple[list[float], list[float]]] = {}
    for cell, part, seed in results.distinct:
        key = (cell, part, seed)
        without, having = shares.setdefault((results.runs.cells[cell], part), ([], []))
        (having if results.has_block(key) else without).append(results.networks[key].joint_share)
    ordered = [shares[group] for group in sorted(shares)]
    return [float(np.mean(having) - np.mean(without)) for without, having in ordered if having and without]


def _with_other_seed(results: Results, key: Network) -> tuple[int, int]:
    """Positions in the comparison of a network and of its architecture with the pair's other seed."""
    (cell, _, seed), few = key, results.runs.few
    at = few.index(seed)
    other = few[at + 1 if at % 2 == 0 else at - 1]
    compared = results.runs.compared
    return compared.index((cell, seed)), compared.index((cell, other))


def _own_less_other(results: Results, key: Network) -> float:
    """CKA in a network's blocks, with itself less with the other seed of its pair."""
    (i, j), cka = _with_other_seed(results, key), results.between.cka
    return _mean_within(results, key, cka[i, i] - (cka[i, j] + cka[j, i]) / 2)


def _resemblance(results: Results, key: Network) -> float:
    """Correlation of a network's CKA with itself and with its pair's other seed, without the diagonal."""
    (i, j), cka = _with_other_seed(results, key), results.between.cka
    apart = ~np.eye(len(cka[i, i]), dtype=bool)
    return float(np.corrcoef(cka[i, i][apart], cka[i, j][apart])[0, 1])


def _within_less_between(results: Results, seed: int) -> float:
    """CKA in the blocks of the widest and of the deepest network, less that between the two."""
    cells = (results.runs.wide, results.runs.deep)
    i, j = (results.runs.compared.index((cell, seed)) for cell in cells)
    keys = [(cell, 1, seed) for cell in cells]
    cka = results.between.cka
    within = [_mean_within(results, key, cka[n, n]) for key, n in zip(keys, (i, j), strict=True)]
    between = cka[i, j][np.ix_(*(results.in_blocks(key) for key in keys))]
    return float(np.mean(within) - between.mean())
