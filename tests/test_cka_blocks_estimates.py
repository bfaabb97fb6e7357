"""The estimates of the chapter `cka_blocks` find what was planted in simulated results; nothing is trained."""

from functools import cache

import numpy as np
import pytest
import torch

import wsnlib as wsn
from wsnlib import book
from wsnlib.book import cka_blocks
from wsnlib.layers import LayerResults, NetworkResults

P = cka_blocks.Parameters.read(
    {
        "depth": 14,
        "depths": [14, 20],
        "width_multipliers": [0.25, 0.5, 1.0],
        "width_multiplier": 0.5,
        "data_parts": [1, 4],
        "seeds": [3, 5, 7],
        "compared_seeds": 2,
    }
)
PLAN = cka_blocks.Runs(P)
NARROW, WIDE, DEEP, SHALLOW = PLAN.narrow, PLAN.wide, PLAN.deep, ("deeper", 14)
BLOCK, WITHIN, AROUND = slice(11, 35), 0.9, 0.3
"""Layers of a planted block, CKA in it and around it; it begins in stage 1, later in it if the net is deep."""

ABOUT_BLOCKS = {"late", "component", "component-kept", "component-removed", "sparsity", "additions"}
ABOUT_BLOCKS |= {"unique", "unique-architectures"}
WITHOUT_BLOCKS = {"resembles", "checkerboard", "component-small"}
CONTRASTS = {"probes", "deletion"}


def layer_names(depth: int) -> list[str]:
    of_block = ("conv1", "norm1", "relu1", "conv2", "norm2", "add", "relu2")
    blocks = [f"stage{stage}.block{b + 1}" for stage in (1, 2, 3) for b in range((depth - 2) // 6)]
    return ["conv", "norm", *(f"{block}.{name}" for block in blocks for name in of_block)]


def cka_map(names: list[str], *, block: bool, within: float = WITHIN) -> np.ndarray:
    """Constant in a block and around it; without a block additions are 0.2 more alike than the rest."""
    values = np.full((len(names), len(names)), AROUND)
    if block:
        values[BLOCK, BLOCK] = within
    else:
        added = [name.endswith(".add") for name in names]
        values[np.ix_(added, added)] = AROUND + 0.2
    np.fill_diagonal(values, 1)
    return values


def layers(depth: int, *, block: bool, within: float = WITHIN, shift: float = 0.0) -> LayerResults:
    """A network whose every number is known; those inside a block grow with `shift`."""
    names = layer_names(depth)
    inside = np.zeros(len(names), bool)
    inside[BLOCK] = block
    pairs = np.where(np.outer(inside, inside), 0.7 + shift, 0.05)
    probes = {n: 0.5 for n in names if n.endswith(".norm2")}
    probes |= {n: 0.53 + shift if flag else 0.41 for n, flag in zip(names, inside, strict=True) if n.endswith(".add")}  # fmt: skip
    last = (depth - 2) // 6
    first_add, last_add = "stage2.block1.add", f"stage2.block{last}.add"
    if not block:
        probes[last_add] = probes[first_add] + 0.23
    whole, lost = 0.8, 0.1 if block else 0.35
    deleted = [f"stage2.block{b}" for b in range(last, 1, -1)]
    deletions = {tuple(deleted[: i + 1]): whole - lost * (i + 1) / len(deleted) for i in range(len(deleted))}
    deletions[("stage3.block2",)] = 0.11
    return LayerResults(
        layers=tuple(names),
        cka=cka_map(names, block=block, within=within),
        cka_without_component=cka_map(names, block=block, within=AROUND + 0.15),
        component_similarity=pairs,
        shares=np.where(inside, 0.6 + shift, 0.2),
        joint_share=0.47 + shift if block else 0.35,
        standard_error=0.0,
        sparsity={
            n: 0.5 + shift if flag else 0.45
            for n, flag in zip(names, inside, strict=True)
            if n.rpartition(".")[2].startswith("relu")
        },
        test_accuracy=whole,
        train_accuracy=1.0,
        deletions=deletions,
        probes=probes,
        num_weights=1,
    )


def similar_networks(blocks) -> NetworkResults:
    """Own maps; across seeds 0.4 less in the block, or a correlation of 0.6; across architectures 0.2."""
    names = [layer_names(PLAN.cells[cell][0]) for cell, _ in PLAN.compared]
    own = [
        cka_map(n, block=(cell, 1, seed) in blocks)
        for n, (cell, seed) in zip(names, PLAN.compared, strict=True)
    ]
    cka = {}
    for i, (cell, _) in enumerate(PLAN.compared):
        for j, (other, _) in enumerate(PLAN.compared):
            if i == j:
                cka[i, i] = own[i]
            elif cell != other:
                cka[i, j] = np.full((len(names[i]), len(names[j])), 0.2)
            elif cell == NARROW:
                cka[i, j] = correlated(own[i], 0.6)
            else:
                cka[i, j] = own[i] - 0.4
    return NetworkResults(layers=tuple(map(tuple, names)), cka=cka, test_accuracies=(0.8,) * len(names))


def correlated(values: np.ndarray, r: float) -> np.ndarray:
    """A matrix whose correlation with another is r, without the diagonals."""
    apart = ~np.eye(len(values), dtype=bool)
    z = values[apart] - values[apart].mean()
    noise = np.random.default_rng(0).normal(size=len(z))
    noise -= noise.mean() + z * (noise @ z) / (z @ z)
    made = np.ones_like(values)
    made[apart] = r * z / np.linalg.norm(z) + (1 - r**2) ** 0.5 * noise / np.linalg.norm(noise)
    return made


def simulated(blocks, *, within=lambda key: WITHIN, shift=lambda key: 0.0, plain=()) -> cka_blocks.Results:
    """Results of all networks, of which some have a block."""
    return cka_blocks.Results(
        runs=PLAN,
        networks={
            key: layers(PLAN.cells[key[0]][0], block=key in blocks, within=within(key), shift=shift(key))
            for key in PLAN.runs
        },
        plain={key: layers(14, block=key in plain) for key in PLAN.plain},
        between=similar_networks(blocks),
    )


def of(results: cka_blocks.Results) -> dict[str, wsn.Estimate]:
    return cka_blocks.estimates(results, P, ratios=np.array([0.99, 1.0, 1.01]))


@cache
def structure(values: bytes, n: int) -> wsn.similarity.BlockStructure:
    return wsn.similarity.block_structure(np.frombuffer(values).reshape(n, n))


@pytest.fixture(scope="module", autouse=True)
def _each_map_is_measured_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cka_blocks, "block_structure", lambda cka, **_: structure(cka.tobytes(), len(cka)))
        yield


EXPOSED = {(cell, 1, seed) for cell in (WIDE, DEEP) for seed in P.seeds}


@pytest.fixture(scope="module")
def found() -> dict[str, wsn.Estimate]:
    """Of results in which the widest and the deepest networks have blocks."""
    return of(simulated(EXPOSED))


def test_every_claim_of_the_chapter_has_an_estimate():
    some = EXPOSED - {(DEEP, 1, 5)}
    claims = {n for n, c in book.claims_of("cka_blocks").items() if not c.untested}
    assert set(of(simulated(some))) - claims == {"every-seed/control", "component-small/control"}
    assert claims <= set(of(simulated(some)))


@pytest.mark.parametrize(
    ("claim", "planted", "n"),
    [
        ("late", ((19 / 24 - 28 / 44) + (12 / 24 - 42 / 65)) / 2, 3),
        ("fit", 100.0, 3),
        ("component", 0.6, 3),
        ("component-kept", 0.7, 3),
        ("component-removed", 0.15 / 0.6, 3),
        ("sparsity", 0.05, 3),
        ("additions", 3.0, 3),
        ("probes", 23.0 - (0 - 12) / 2, 3),
        ("deletion", 25.0, 3),
        ("resembles", 0.6, 1),
        ("unique", 0.4, 1),
        ("unique-architectures", 0.9 - 0.2, 2),
        ("checkerboard", 0.2, 20 - 6),
        ("component-small", 0.2, 20 - 6),
        ("proposition-1", 1.0, 3),
    ],
)
def test_what_was_planted_is_found(found, claim, planted, n):
    assert found[claim].mean == pytest.approx(planted, abs=1e-9)
    assert found[claim].n == n


def close(found, expected):
    numbers = [(e.mean, e.low, e.high, e.n, e.confidence) for e in (found, expected)]
    assert numbers[0] == pytest.approx(numbers[1])


def test_a_strength_is_compared_with_that_of_the_same_seed():
    """Seeds differ by more than the effect does: only a paired interval is short."""
    all_have = {key: 0.4 + 0.1 * P.seeds.index(key[2]) for key in PLAN.runs}
    more = {(WIDE, 1): 0.11, (DEEP, 1): 0.13, (NARROW, 4): 0.05, (SHALLOW, 4): 0.07}
    ours = of(simulated(all_have, within=lambda key: all_have[key] + more.get(key[:2], 0)))
    for claim, effect, n in (("width", 0.11, 3), ("depth", 0.13, 3), ("less-data", 0.05, 2), ("less-data-depth", 0.07, 2)):  # fmt: skip
        assert ours[claim].mean == pytest.approx(effect, abs=1e-9)
        assert ours[claim].high - ours[claim].low < 1e-9
        assert ours[claim].n == n


def test_the_two_networks_of_a_seed_are_one_number_and_seeds_the_sample():
    shift = {(WIDE, 3): 0.02, (DEEP, 3): 0.04, (WIDE, 5): 0.06, (DEEP, 5): 0.04, (WIDE, 7): 0.01, (DEEP, 7): 0.09}  # fmt: skip
    ours = of(simulated(EXPOSED, shift=lambda key: shift.get((key[0], key[2]), 0)))
    by_seed = np.array([0.03, 0.05, 0.05])
    for claim, scale, base in (("component", 1, 0.6), ("additions", 100, 0.03), ("sparsity", 1, 0.05)):
        confidence = 0.9 if claim == "sparsity" else 0.95
        expected = wsn.estimate((scale * (base + by_seed)).tolist(), confidence=confidence)
        close(ours[claim], expected)


def test_shares_of_seeds_are_exact_binomials():
    wide, plain = {(WIDE, 1, 3), (WIDE, 1, 7)}, {(PLAN.p.width_multipliers[-1], 5), (0.25, 3), (0.25, 5)}
    ours = of(simulated(wide, plain=plain))
    assert ours["every-seed"] == wsn.estimates.proportion([True, False, True])
    assert ours["every-seed/control"] == wsn.estimates.proportion([False] * 3)
    assert ours["no-residuals"] == wsn.estimates.proportion([False, True])


def test_a_network_without_a_block_is_left_out_and_the_other_counts_alone():
    shift = {WIDE: 0.02, DEEP: 0.06}
    results = simulated(EXPOSED - {(DEEP, 1, 5), (WIDE, 1, 7), (DEEP, 1, 7)}, shift=lambda key: shift.get(key[0], 0))  # fmt: skip
    ours = of(results)
    close(ours["component"], wsn.estimate([0.64, 0.62]))
    assert (ours["unique"].n, ours["unique-architectures"].n) == (1, 1)
    assert (ours["probes"].n, ours["deletion"].n) == (2, 2)


def test_claims_about_what_is_not_there_have_no_estimate():
    nowhere, everywhere = set(of(simulated(()))), set(of(simulated(PLAN.runs)))
    about = ABOUT_BLOCKS | CONTRASTS | {"component-seeds", "component-small/control"}
    assert not nowhere & about and nowhere >= WITHOUT_BLOCKS
    assert not everywhere & (WITHOUT_BLOCKS | CONTRASTS | {"component-seeds"}) and everywhere >= ABOUT_BLOCKS


def test_seeds_whose_narrowest_network_has_a_block_are_no_contrast():
    ours = of(simulated({*EXPOSED, (NARROW, 1, 7)}))
    assert (ours["probes"].n, ours["deletion"].n, ours["resembles"].n) == (2, 2, 1)
    assert "resembles" not in of(simulated({*EXPOSED, (NARROW, 1, 5)}))


def test_the_component_is_compared_within_an_architecture_and_its_data():
    """Two groups of networks have seeds with and without a block; whoever has only one kind does not count."""
    blocks = {(WIDE, 1, 3), (DEEP, 1, 3), (DEEP, 1, 5), *((NARROW, 1, seed) for seed in P.seeds)}
    shift = {WIDE: 0.02, DEEP: 0.06, NARROW: 0.4}
    ours = of(simulated(blocks, shift=lambda key: shift.get(key[0], 0)))
    close(ours["component-seeds"], wsn.estimate([0.14, 0.18]))


def test_a_network_on_both_axes_counts_once():
    both = [("wider", 0.5), ("deeper", 14)]
    assert len({PLAN.cells[cell] for cell in both}) == 1
    distinct = simulated(EXPOSED).distinct
    assert len(distinct) == len(set(PLAN.runs.values())) == 20


def test_a_record_is_read_once(tmp_path, monkeypatch):
    read: list[wsn.Run] = []

    def layer_results(run, *, store):
        read.append(run)
        return layers(run.experiment.model.depth, block=False)

    monkeypatch.setattr(cka_blocks, "layer_results", layer_results)
    monkeypatch.setattr(cka_blocks, "network_results", lambda run, *, store: similar_networks(()))
    results = cka_blocks.Results.read(PLAN, wsn.Store(tmp_path))
    assert len(read) == len(set(read)) == len({*PLAN.runs.values(), *PLAN.plain.values()})
    assert results.networks.keys() == PLAN.runs.keys() and results.plain.keys() == PLAN.plain.keys()


@pytest.mark.parametrize(("batch", "batches"), [(61, 1), (11, 5)])
def test_ratios_are_the_mean_over_the_batches_of_each_pass_by_the_value_of_all(batch, batches):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(61, d, generator=generator, dtype=torch.float64) for d in (3, 5))
    passes = torch.stack([torch.randperm(61, generator=generator)[: batch * batches] for _ in range(7)])
    passes = passes.view(7, batches, batch)
    ratios = cka_blocks.hsic_ratios(wsn.similarity.hsic1, x, y, batches=passes)
    whole = wsn.similarity.hsic1(x @ x.mT, y @ y.mT)
    for ratio, of_pass in zip(ratios, passes, strict=True):
        parts = [wsn.similarity.hsic1(x[b] @ x[b].mT, y[b] @ y[b].mT) for b in of_pass]
        assert ratio == pytest.approx(float(sum(parts) / batches / whole))
    assert batches > 1 or ratios == pytest.approx(1)
