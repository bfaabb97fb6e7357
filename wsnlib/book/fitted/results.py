"""What was measured of networks that fit their data, and our estimates of what the papers claim of them.

The claims and their ranges, fixed before any of these networks was trained (N21 is Nguyen, Raghu, Kornblith
2021; N22 the same authors' *On the origins of the block structure phenomenon*, 2022). A network that does not
fit its images decides nothing. A network is *with a block* if `block_structure` finds one. *Strength* is that
of the highest-ranked range, which need not be a block; what is inside of a block is measured in that range.

============================ ========================================================= ============ ==========
claim                        number                                                    reproduced   refuted by
============================ ========================================================= ============ ==========
depth (N21, Figure 1)        strength, deepest less shallowest, 1×                     above 0      ≤ 0
width (Figure 1)             strength, widest less narrowest, one depth                above 0      ≤ 0
less-data (Figure 2)         strength, least less most data, same network              above 0      ≤ 0
every-seed (Figure D.1)      share of the deepest network's seeds with a block         above 0.9    0.5
late (Section 4.1)           block's layers in stages 2 and 3, less their share of all above 0      ≤ 0
no-residuals (Figure C.1)    share of seeds with a block, without residual connections above 0.9    0.5
component (Figure 3)         share of the first component, mean over the block         0.5 to 1     0.22
component-inside (D.5)       the same inside less outside the block, same network      above 0      ≤ 0
component-without (D.5)      the same, with a block less networks without              above 0      ≤ 0
component-seeds (D.5)        joint share, seeds with a block less others, one network  above 0      ≤ 0
component-small (D.7)        share of the first component, mean over layers, no block  at most 0.5  1
component-kept (Figure 3)    cos² between the block's outputs                          0.5 to 1     0.25
component-removed (D.6)      strength without the component / with                     below 0.25   0.5
sparsity (Figure D.8)        share of zeros, inside less outside                       −0.1 to 0.1  outside
checkerboard (Section 4.1)   CKA among additions less with layers inside, no block     above 0      ≤ 0
probes (Figure 4)            points gained along stage 2, without less with a block    above 0      ≤ 0
probes-rise (Section 5.2)    rank correlation of probes after additions with depth     0.9 to 1     0
additions (Figure 4)         points, after less before an addition in the block        above 0      ≤ 0
deletion (Figure 5)          points lost without most of stage 2, without less with    above 0      ≤ 0
resembles (Section 6)        correlation of maps within and across seeds, no block     0.8 to 1     0.4
unique (Section 6)           CKA in the block, within less across seeds                above 0      ≤ 0
unique-contrast (Section 6)  that less the same without a block, over as many layers   above 0      ≤ 0
unique-architectures (E.1)   CKA in two networks' blocks, within less between them     above 0      ≤ 0
aligned (Section 6)          correlation of relative depths of most alike, no block    0.8 to 1     0.4
few-images (N22)             component's variance on 10 of 1,000 images, in the block  0.3 to 1     0.15
dominant-removed (N22)       strength without these images / with                      below 0.25   0.5
others-removed (N22)         strength without 10 others / with                         0.9 to 1.1   0.8, 1.2
dominant-shared (N22)        part of a layer's 10 images that another of the block has 0.5 to 1     0.25
dominant-seeds (N22)         the same of two seeds' 10 most dominant images            0 to 0.5     0.75
dominant-alike (N22)         distance of their borders' mean from all, in deviations   above 1      0.5
early (N22)                  strength after a fifth of the epochs / at the end         above 0.5    0.25
dominant-change (N22)        part of the 10 images after a fifth that stay so          0 to 0.5     0.75
============================ ========================================================= ============ ==========

Ten of 1,000 values of a normal component carry 0.08 of its variance, and the mean of ten random images lies
0.25 standard deviations from that of all on average.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
import numpy.typing as npt

from wsnlib.book.fitted.plan import Key, Network, Runs
from wsnlib.estimates import Estimate, estimate, proportion
from wsnlib.layers import NetworkResults, OriginResults, origin_results, output_results
from wsnlib.similarity import BlockStructure, block_strength, block_structure
from wsnlib.store import Store

Array = npt.NDArray[np.float64]

TOP = 10
"""Images that are called dominant in a layer or a network."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One network, its block structure, and whether it fits its images.

    Args:
        network: Of the plan.
        seed: Of its training.
        origins: What was measured.
        fits: Whether its training accuracy is high enough to say anything about networks that fit.
    """

    network: Network
    seed: int
    origins: OriginResults
    fits: bool

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
    def inside(self) -> npt.NDArray[np.bool_]:
        """Which layers lie in the highest-ranked range, which need not be a block."""
        best, at = self.structure.best, np.arange(len(self.origins.layers))
        return np.asarray((at >= best.start) & (at < best.stop))

    @property
    def inside_outputs(self) -> npt.NDArray[np.bool_]:
        """The same of the outputs."""
        return np.asarray(self.inside[self.origins.positions])

    def output_strength(self, values: Array) -> float:
        """Strength of the highest-ranked range in a map of the outputs; NaN if it holds under 3, or all."""
        at = np.flatnonzero(self.inside_outputs)
        if not 3 <= len(at) < len(self.inside_outputs):
            return math.nan
        return block_strength(values, start=int(at[0]), stop=int(at[-1]) + 1)


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
        """From the records that are there: a plan half done leaves whole comparisons behind."""
        networks = {}
        for (name, seed), run in runs.origins.items():
            if store.has_made(run):
                found = origin_results(run, store=store)
                fits = found.train_accuracy >= runs.p.least_fit
                networks[name, seed] = Measured(
                    network=runs.networks[name], seed=seed, origins=found, fits=fits
                )
        compared = {k: output_results(run, store=store) for k, run in runs.compared if store.has_made(run)}
        return cls(runs=runs, networks=networks, compared=compared)

    @property
    def fitting(self) -> list[Measured]:
        """Networks that fit their images."""
        return [each for each in self.networks.values() if each.fits]

    def family(
        self, wanted: Callable[[Network], bool], order: Callable[[Network], float]
    ) -> list[list[Measured]]:
        """Fitting networks of a kind, one list over seeds for each name, in an order."""
        names = sorted(
            (n for n in self.runs.networks.values() if wanted(n)), key=lambda network: order(network)
        )
        found = [[m for m in self.fitting if m.network.name == n.name] for n in names]
        return [seeds for seeds in found if seeds]

    @property
    def _least(self) -> int:
        return max(network.part for network in self.runs.networks.values())

    @property
    def deeper(self) -> list[list[Measured]]:
        """Networks of width 1 on the least data, by depth."""
        return self.family(
            lambda n: n.residual and n.width_multiplier == 1 and n.part == self._least, lambda n: n.depth
        )

    @property
    def wider(self) -> list[list[Measured]]:
        """Networks on the least data of the depth that has several widths, by width."""
        kinds = {(n.depth, n.width_multiplier) for n in self.runs.networks.values() if n.residual}
        depths = {depth for depth, k in kinds if k != 1}
        return self.family(
            lambda n: n.residual and n.depth in depths and n.part == self._least,
            lambda n: n.width_multiplier,
        )

    @property
    def on_more_data(self) -> list[tuple[Measured, Measured]]:
        """Fitting networks on the least data, each with the same network and seed on the most."""
        pairs = []
        for more in self.fitting:
            if more.network.part == self._least:
                continue
            for least in self.fitting:
                alike = {"name": "", "part": 1, "epochs": 1, "seeds": []}
                same = more.network.model_copy(update=alike) == least.network.model_copy(update=alike)
                if same and least.network.part == self._least and least.seed == more.seed:
                    pairs.append((least, more))
        return pairs

    def judged(self, *, block: bool) -> list[Measured]:
        """Fitting networks with residual connections on the least data, with or without a block."""
        return [
            m
            for m in self.fitting
            if m.network.residual and m.network.part == self._least and m.has_block == block
        ]


def top_images(directions: Array) -> set[int]:
    """The images that lie farthest along a component, or the most dominant."""
    return set(np.argsort(-abs(directions), kind="stable")[:TOP].tolist())


def estimates(results: Results) -> dict[str, Estimate]:
    """Our estimates by the claims' names, as the table above says; none where no network decides a claim.

    What concerns the inside of blocks is measured in the highest-ranked range of the networks that have a
    block, and averaged over them for each seed; contrasts are the mean over networks without a block less
    that, for each seed.
    """
    found = {
        "depth": _ends(results.deeper),
        "width": _ends(results.wider),
        "less-data": _estimate(a.strength - b.strength for a, b in results.on_more_data),
        "every-seed": _choices(m.has_block for m in results.deeper[-1]) if results.deeper else None,
        "no-residuals": _choices(m.has_block for m in results.fitting if not m.network.residual),
        "component-without": _contrast(results, _share_inside, sign=-1),
        "probes": _contrast(results, _middle_gain),
        "deletion": _contrast(results, _middle_loss),
    }
    of_blocks: dict[str, Value] = {
        "late": _late,
        "component": _share_inside,
        "component-inside": _share_difference,
        "component-kept": lambda m: _mean_of_pairs(m, m.origins.component_similarity),
        "component-removed": _left_without_component,
        "sparsity": _sparsity_difference,
        "additions": _addition_gain,
        "few-images": lambda m: float(m.origins.top_shares[TOP][m.inside].mean()),
        "dominant-removed": lambda m: _left(m, m.origins.cka_without_dominant),
        "others-removed": lambda m: _left(m, m.origins.cka_without_others),
        "dominant-shared": _shared_in_block,
        "dominant-alike": _alike,
        "early": lambda m: _left(m, m.origins.epochs[_early(m)].cka),
        "dominant-change": lambda m: _overlap(m.origins.dominance, m.origins.epochs[_early(m)].dominance),
    }
    found |= {name: _over_seeds(results.judged(block=True), value) for name, value in of_blocks.items()}
    return {name: e for name, e in (found | _between(results)).items() if e is not None}


Value = Callable[[Measured], float]


def _estimate(values: Iterable[float]) -> Estimate | None:
    listed = [value for value in values if not math.isnan(value)]
    return estimate(listed) if listed else None


def _choices(values: Iterable[bool]) -> Estimate | None:
    listed = list(values)
    return proportion(listed) if listed else None


def _ends(family: Sequence[Sequence[Measured]]) -> Estimate | None:
    """Strength of the last less that of the first, for the seeds of both."""
    if len(family) < 2:
        return None
    first, last = ({m.seed: m.strength for m in family[end]} for end in (0, -1))
    return _estimate(last[seed] - first[seed] for seed in sorted(first.keys() & last.keys()))


def _means(networks: Iterable[Measured], value: Value) -> dict[int, float]:
    """Mean over the networks of each seed that have a number."""
    found: dict[int, list[float]] = {}
    for each in networks:
        if not math.isnan(number := value(each)):
            found.setdefault(each.seed, []).append(number)
    return {seed: float(np.mean(numbers)) for seed, numbers in sorted(found.items())}


def _over_seeds(networks: Iterable[Measured], value: Value) -> Estimate | None:
    return _estimate(_means(networks, value).values())


def _contrast(results: Results, value: Value, *, sign: int = 1) -> Estimate | None:
    """Without less with a block, or with less without where the sign is −1."""
    without, having = (_means(results.judged(block=block), value) for block in (False, True))
    return _estimate(sign * (without[s] - having[s]) for s in without if s in having)


def _late(m: Measured) -> float:
    late = np.array([name.startswith(("stage2.", "stage3.")) for name in m.origins.layers])
    return float(late[m.inside].mean() - late.mean())


def _share_inside(m: Measured) -> float:
    return float(np.nanmean(m.origins.shares[m.inside]))


def _share_difference(m: Measured) -> float:
    return _share_inside(m) - float(np.nanmean(m.origins.shares[~m.inside]))


def _mean_of_pairs(m: Measured, values: Array) -> float:
    """Mean of a map of outputs over pairs inside the highest-ranked range."""
    square = values[np.ix_(m.inside_outputs, m.inside_outputs)]
    pairs = square[np.triu_indices(len(square), 1)]
    return float(np.nanmean(pairs)) if len(pairs) else math.nan


def _left_without_component(m: Measured) -> float:
    best = m.structure.best
    rest = block_strength(m.origins.cka_without_component, start=best.start, stop=best.stop)
    return rest / best.strength


def _left(m: Measured, values: Array) -> float:
    """Strength in another map of the outputs, divided by that in their own."""
    return m.output_strength(values) / m.output_strength(m.origins.output_cka)


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
    rest = [v for deleted, v in m.origins.deletions.items() if deleted[0].startswith("stage2.")]
    return 100 * (m.origins.test_accuracy - rest[-1]) if rest else math.nan


def _overlap(one: Array, other: Array) -> float:
    return len(top_images(one) & top_images(other)) / TOP


def _shared_in_block(m: Measured) -> float:
    inside = m.origins.directions[m.inside_outputs]
    pairs = [_overlap(a, b) for a, b in combinations(inside, 2)]
    return float(np.mean(pairs)) if pairs else math.nan


def _alike(m: Measured) -> float:
    border = m.origins.border
    dominant = border[sorted(top_images(m.origins.dominance))]
    return float(abs(dominant.mean() - border.mean()) / border.std())


def _early(m: Measured) -> int:
    """The moment that is nearest to a fifth of the epochs."""
    return min(m.origins.epochs, key=lambda epoch: abs(epoch - m.network.epochs / 5))


def _between(results: Results) -> dict[str, Estimate | None]:
    """What compares networks of one name across seeds, and networks of two names."""
    unique: dict[bool, list[float]] = {True: [], False: []}
    resembles, seeds, architectures = [], [], []
    for keys, found in results.compared.items():
        for (i, one), (j, other) in combinations(enumerate(keys), 2):
            a, b = (results.networks.get(key) for key in (one, other))
            if a is None or b is None or not (a.fits and b.fits):
                continue
            own, across = (found.cka[i, i], found.cka[j, j]), found.cka[i, j]
            if one[0] != other[0]:
                if a.has_block and b.has_block:
                    within = [_mean_of_pairs(m, cka) for m, cka in zip((a, b), own, strict=True)]
                    between = across[np.ix_(a.inside_outputs, b.inside_outputs)].mean()
                    architectures.append(float(np.mean(within) - between))
                continue
            if a.has_block == b.has_block:
                less = [_mean_of_pairs(a, own[0] - across), _mean_of_pairs(b, own[1] - across.T)]
                unique[a.has_block].append(float(np.mean(less)))
            if a.has_block and b.has_block:
                seeds.append(_overlap(a.origins.dominance, b.origins.dominance))
            if not (a.has_block or b.has_block):
                apart = ~np.eye(len(across), dtype=bool)
                alike = [np.corrcoef(cka[apart], across[apart])[0, 1] for cka in own]
                resembles.append(float(np.mean(alike)))
    contrast = None
    if unique[True] and unique[False]:
        contrast = _estimate(np.array(unique[True]) - np.mean(unique[False]))
    return {
        "unique": _estimate(unique[True]),
        "unique-contrast": contrast,
        "resembles": _estimate(resembles),
        "dominant-seeds": _estimate(seeds),
        "unique-architectures": _estimate(architectures),
    }
