"""The chapter `cka_blocks`: its runs, and estimates that find what was planted in simulated networks; nothing is trained."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

import wsnlib as wsn
from wsnlib import book, specs
from wsnlib.book import cka_blocks
from wsnlib.layers import NetworkResults, OriginResults, OutputMap
from wsnlib.layers.origins import output_names

ROOT = Path(__file__).parent.parent
FILES = [*sorted((ROOT / "params").glob("cka_blocks.*.yml")), ROOT / "params/planned/cka_blocks.cpu.yml"]

SEEDS = [3, 5, 7]
NETWORKS = [
    {"name": "shallow", "depth": 14, "epochs": 10, "seeds": SEEDS},
    {"name": "deep", "depth": 20, "epochs": 10, "seeds": [3, 5]},
    {"name": "narrow", "depth": 20, "width_multiplier": 0.5, "epochs": 10, "seeds": SEEDS},
    {"name": "wide", "depth": 20, "width_multiplier": 2.0, "epochs": 10, "seeds": SEEDS},
    {"name": "deep", "depth": 20, "epochs": 10, "seeds": [7]},
    {"name": "shallow on more", "depth": 14, "part": 1, "epochs": 3, "seeds": SEEDS},
    {"name": "deep on more", "depth": 20, "part": 4, "epochs": 3, "seeds": [3, 5]},
    {"name": "deep on most", "depth": 20, "part": 1, "epochs": 3, "seeds": [3]},
    {"name": "plain", "depth": 20, "residual": False, "epochs": 10, "seeds": SEEDS},
]
GIVEN = {
    "data": "cifar10",
    "images": 50_000,
    "validation_size": 500,
    "networks": NETWORKS,
    "compared": [
        {"networks": ["deep"], "seeds": SEEDS},
        {"networks": ["narrow"], "seeds": SEEDS},
        {"networks": ["deep", "wide", "shallow", "narrow"], "seeds": [3]},
        {"networks": ["deep", "wide", "shallow", "narrow"], "seeds": [5]},
    ],
    "num_images": 100,
    "moments": [0.0, 0.2, 0.9],
}
P = cka_blocks.Parameters.read(GIVEN)
PLAN = cka_blocks.Runs(P)


# -- the runs ---------------------------------------------------------------------------------


def checked(stages: list[list[specs.Run]]) -> None:
    """Whether every run comes once, and a comparison after the networks that it is of."""
    made: set[str] = set()
    for stage in stages:
        keys = [wsn.spec_key(run) for run in stage]
        assert len(set(keys)) == len(keys) and not made & set(keys)
        for run in stage:
            if isinstance(run, wsn.OutputSimilarity):
                assert {wsn.spec_key(one) for one in run.experiments} <= made
        made |= {*keys, *(wsn.spec_key(run.experiment) for run in stage if isinstance(run, wsn.BlockOrigins))}


@pytest.mark.parametrize("file", FILES, ids=lambda file: "-".join(file.parts[-2:]))
def test_the_runs_of_every_profile_come_once_and_comparisons_after_their_networks(file):
    p = book.read_parameters(file)
    runs = cka_blocks.Runs(p)
    stages = list(runs.stages())
    checked(stages)
    assert {*runs.everything} == {run for stage in stages for run in stage}
    assert len(FILES) == 5 and type(p) is cka_blocks.Parameters


def test_the_images_that_the_page_shows_come_last():
    p, store = book.read_parameters(ROOT / "params" / "cka_blocks.cpu.yml"), wsn.Store(ROOT / "records")
    *stages, (images,) = book.chapter_stages(p, store=store)
    assert stages == list(cka_blocks.Runs(p).stages())
    assert isinstance(images, wsn.ExampleImages) and store.has_made(images)


def test_a_comparison_follows_as_soon_as_its_networks_are_trained():
    stages = list(PLAN.stages())
    checked(stages)
    named = [[key for key, run in PLAN.origins.items() if run in stage] for stage in stages]
    first = [("shallow", 3), ("shallow", 5), ("shallow", 7), ("deep", 3), ("deep", 5), ("narrow", 3)]
    assert named[0][:6] == first and named[0][-1] == ("deep", 7) and len(named[0]) == 12
    assert stages[1:5] == [[each] for each in PLAN.compared.values()]
    assert len(stages) == 6 and len(named[5]) == 9


def test_a_name_that_comes_twice_is_one_network_with_all_of_its_seeds():
    assert [key for key in PLAN.origins if key[0] == "deep"] == [("deep", 3), ("deep", 5), ("deep", 7)]
    assert len(PLAN.networks) == 8
    twice = cka_blocks.Runs(cka_blocks.Parameters.read(GIVEN | {"networks": [*NETWORKS, NETWORKS[1]]}))
    assert [run for stage in twice.stages() for run in stage] == [
        run for stage in PLAN.stages() for run in stage
    ]


def test_what_is_planned_holds_what_the_page_has():
    """Nothing that the page shows would be trained again for what is to follow."""
    page, planned = (
        {*map(wsn.spec_key, cka_blocks.Runs(book.read_parameters(file)).everything)}
        for file in (ROOT / "params/cka_blocks.cpu.yml", FILES[-1])
    )
    assert page < planned


def test_a_network_is_measured_at_the_moments_of_its_own_training():
    for name, epochs in (("deep", (0, 2, 9)), ("deep on more", (0, 2))):  # 0.9 of 3 epochs: after the second
        run = PLAN.origins[name, 3]
        assert run.epochs == epochs
        assert (run.num_images, run.num_removed, run.num_rotated, run.probes) == (100, 10, 50, True)
        assert run.experiment == P.experiment(PLAN.networks[name], 3)
    for keys, run in PLAN.compared.items():
        assert run.experiments == tuple(P.experiment(PLAN.networks[name], seed) for name, seed in keys)
        assert run.num_images == 100


def test_networks_have_titles_that_tell_them_apart():
    titles = [PLAN.networks[name].title for name in ("shallow", "narrow", "plain")]
    assert titles == ["ResNet-14 (1×)", "ResNet-20 (0.5×)", "ResNet-20 (1×), plain"]


def test_titles_say_images_and_epochs_where_networks_differ_in_them():
    longer = {"name": "deep for long", "depth": 20, "epochs": 30, "seeds": [3]}
    titles = cka_blocks.Runs(cka_blocks.Parameters.read(GIVEN | {"networks": [*NETWORKS, longer]})).titles
    assert titles["deep"] == "ResNet-20 (1×), 10 epochs"
    assert titles["deep for long"] == "ResNet-20 (1×), 30 epochs"
    assert titles["deep on more"] == "ResNet-20 (1×), 1/4 of the images"
    assert titles["deep on most"] == "ResNet-20 (1×), all images"
    assert titles["plain"] == "ResNet-20 (1×), plain"
    assert len({*titles.values()}) == len(titles)


# -- simulated networks -----------------------------------------------------------------------

IMAGES = 100
BLOCK, WITHIN, AROUND = slice(11, 39), 0.95, 0.4
"""Layers of a planted block, which begins in stage 1 and ends in stage 2; CKA in it and around it."""

KEPT, OWN = 6, 4
"""Images on which the components of all outputs of a block lie, and those of one output alone."""


def layer_names(network) -> list[str]:
    of_block = ["conv1", "norm1", "relu1", "conv2", "norm2", *(["add"] if network.residual else []), "relu2"]
    blocks = [f"stage{s}.block{b + 1}" for s in (1, 2, 3) for b in range((network.depth - 2) // 6)]
    return ["input", "conv", "norm", "relu", *(f"{b}.{name}" for b in blocks for name in of_block)]


def checkerboard(names: list[str]) -> np.ndarray:
    """Additions are 0.2 more alike than the rest."""
    added = [name.endswith(".add") for name in names]
    values = AROUND + 0.2 * np.outer(added, added)
    np.fill_diagonal(values, 1)
    return values


def cka_map(names: list[str], inside: np.ndarray, within: float) -> np.ndarray:
    """Constant in a block and around it; without one half of its layers are 0.15 more alike, and additions 0.2."""
    values = np.where(np.outer(inside, inside), within, AROUND)
    if not inside.any():
        values[len(names) // 4 : -len(names) // 4, len(names) // 4 : -len(names) // 4] += 0.15
        added = [name.endswith(".add") for name in names]
        values[np.ix_(added, added)] += 0.2
    np.fill_diagonal(values, 1)
    return values


def most_dominant(first: int) -> np.ndarray:
    """A part of 0.09 for each of ten images from the first on."""
    values = np.full(IMAGES, 0.1 / (IMAGES - 10))
    values[(first + np.arange(10)) % IMAGES] = 0.09
    return values


def probes_of(names: list[str], inside: np.ndarray, shift: float) -> dict[str, float]:
    """In a block 3 points and the shift above what is before the addition, outside 9 below; without one rising."""
    added = [name for name in names if name.endswith(".add")]
    probes = {name.replace(".add", ".norm2"): 0.5 for name in added}
    if inside.any():
        return probes | {n: 0.53 + shift if inside[names.index(n)] else 0.41 for n in added}
    rising = [0.32, 0.3, *(0.4 + 0.02 * i for i in range(len(added) - 2))]
    middle = [i for i, name in enumerate(added) if name.startswith("stage2.")]
    rising[middle[-1] :] = [rising[middle[0]] + 0.23 + 0.01 * i for i in range(len(added) - middle[-1])]
    return probes | dict(zip(added, rising, strict=True))


def deletions_of(names: list[str], *, accuracy: float, lost: float) -> dict[tuple[str, ...], float]:
    last = max(int(name.partition(".")[0][5:]) for n in names if (name := n.partition(".")[2]))
    found = {}
    for stage, at_all in ((1, 0.51), (2, lost), (3, 0.61)):
        blocks = [f"stage{stage}.block{b}" for b in range(last, 1, -1)]
        for i in range(len(blocks)):
            found[tuple(reversed(blocks[: i + 1]))] = accuracy - at_all * (i + 1) / len(blocks)
    return found


def simulated_origins(
    network, seed: int, *, block: bool, within=WITHIN, shift=0.0, accuracy=0.97, where=BLOCK
) -> OriginResults:
    """A network whose every number is known; those of the inside of a block grow with `shift`."""
    names = layer_names(network)
    outputs = output_names(names)
    at = [names.index(name) for name in outputs]
    inside = np.zeros(len(names), bool)
    inside[where] = block

    def map_of(strength: float) -> np.ndarray:
        values = np.where(np.outer(inside, inside), AROUND + strength, AROUND)
        np.fill_diagonal(values, 1)
        return values

    directions = np.eye(IMAGES)[50 + np.arange(len(outputs)) // 2]
    for own, row in enumerate(np.flatnonzero(inside[at])):
        directions[row] = 0
        directions[row, :KEPT] = -np.sqrt(0.9 / KEPT)
        directions[row, KEPT + OWN * own :][:OWN] = np.sqrt(0.1 / OWN)
    strength = within - AROUND
    early = OutputMap(cka=map_of(0.8 * strength)[np.ix_(at, at)], dominance=most_dominant(3 * seed + 7))
    other = OutputMap(cka=map_of(0.11)[np.ix_(at, at)], dominance=most_dominant(3 * seed))
    border = np.zeros(IMAGES)
    border[(3 * seed + np.arange(10)) % IMAGES] = 1
    lost = 0.1 if block else 0.35
    return OriginResults(
        layers=tuple(names),
        outputs=tuple(outputs),
        cka=cka_map(names, inside, within),
        cka_without_component=map_of(0.2 * strength) if block else checkerboard(names),
        explained_variance_ratio=np.where(inside, 0.6 + shift, 0.2),
        joint_explained_variance_ratio=0.47 + shift if block else 0.35,
        top_shares={top: np.where(inside, 0.8 + shift, 0.3) * top / 10 for top in (1, 5, 10, 50)},
        directions=directions,
        dominance=most_dominant(3 * seed),
        removed=tuple((3 * seed + np.arange(10)) % IMAGES),
        cka_without_dominant=map_of(0.1 * strength)[np.ix_(at, at)],
        cka_without_others=map_of(0.95 * strength)[np.ix_(at, at)],
        bures=np.eye(len(at)),
        epochs={0: other, network.epochs // 5: early, 2 * network.epochs // 5: other},
        examples=np.arange(IMAGES),
        labels=np.arange(IMAGES) % 10,
        brightness=1 - border,
        border=border,
        sparsity={
            n: 0.52 + shift if flag else 0.45 for n, flag in zip(names, inside, strict=True) if "relu" in n
        },
        test_accuracy=0.8,
        train_accuracy=accuracy,
        deletions=deletions_of(names, accuracy=0.8, lost=lost) if network.residual else {},
        probes=probes_of(names, inside, shift) if network.residual else {},
        num_weights=1,
    )


NEAREST = [0, 2, 3, 5, 6, 8, 9], [0, 6, 1, 2, 0, 3, 4, 3, 5, 6]
"""Of each output of `shallow` the one of `narrow` that is most like it, and the other way round."""


def between(one: cka_blocks.Measured, other: cka_blocks.Measured) -> np.ndarray:
    """Across seeds 0.4 less in a block, or 0.1 without; across architectures 0.2 in blocks, and as `NEAREST`."""
    inside = np.outer(one.inside_outputs, other.inside_outputs)
    if one.network == other.network:
        own = one.origins.output_cka
        one_way = 0.1 * np.triu(np.ones_like(own), 1)
        return own - np.where(inside, 0.4, 0.9) + one_way - one_way.T if one.has_block else own - 0.1
    if one.has_block and other.has_block:
        return np.where(inside, 0.2, 0.9)
    found = np.eye(*inside.shape)
    if inside.shape == (7, 10):
        found[:] = 0
        found[NEAREST[1], range(10)] = 0.9
        found[range(7), NEAREST[0]] = 1
    return found


def simulated(blocks, *, within=None, shift=None, unfit=(), across=between) -> cka_blocks.Results:
    """Results of all networks, of which some have a block, and some do not fit."""
    networks = {}
    for key in PLAN.origins:
        network = PLAN.networks[key[0]]
        origins = simulated_origins(
            network,
            key[1],
            block=key in blocks,
            within=(within or {}).get(key, WITHIN),
            shift=(shift or {}).get(key, 0.0),
        )
        networks[key] = cka_blocks.Measured(
            network=network, seed=key[1], origins=origins, fits=key not in unfit, title=key[0]
        )
    compared = {}
    for keys in PLAN.compared:
        own = [networks[key] for key in keys]
        cka = {(i, i): m.origins.output_cka for i, m in enumerate(own)}
        for i, one in enumerate(own):
            for j in range(i + 1, len(own)):
                cka[i, j] = across(one, own[j])
                cka[j, i] = cka[i, j].T
        compared[keys] = NetworkResults(layers=(), cka=cka, test_accuracies=())
    return cka_blocks.Results(runs=PLAN, networks=networks, compared=compared)


def of(results: cka_blocks.Results) -> dict[str, wsn.Estimate]:
    return cka_blocks.estimates(results, ratios=np.array([0.99, 1.0, 1.01]))


@cache
def structure(values: bytes, n: int) -> wsn.similarity.BlockStructure:
    return wsn.similarity.block_structure(np.frombuffer(values).reshape(n, n))


@pytest.fixture(scope="module", autouse=True)
def _each_map_is_looked_at_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cka_blocks, "block_structure", lambda cka: structure(cka.tobytes(), len(cka)))
        yield


def keys_of(*names: str) -> set[cka_blocks.Key]:
    return {key for key in PLAN.origins if key[0] in names}


EXPOSED = {*keys_of("deep", "wide"), ("deep on more", 3), ("plain", 5)}
"""Networks with a block: of `deep on more` one of two seeds, of `plain` one of three."""


@pytest.fixture(scope="module")
def found() -> dict[str, wsn.Estimate]:
    return of(simulated(EXPOSED))


def test_blocks_are_found_where_they_were_put():
    for key, each in simulated(EXPOSED).networks.items():
        assert each.has_block == (key in EXPOSED)
        if each.has_block:
            assert cka_blocks.edges(each.structure) == [(BLOCK.start, BLOCK.stop)]
            assert each.strength == pytest.approx(WITHIN - AROUND)
            assert np.flatnonzero(each.inside).tolist() == [*range(BLOCK.start, BLOCK.stop)]
            assert each.inside_outputs.sum() == 4
        else:
            assert cka_blocks.edges(each.structure) == []


def test_the_inside_is_that_of_the_highest_ranked_block_where_a_range_that_is_none_ranks_higher():
    origins = simulated_origins(PLAN.networks["deep"], 3, block=True)
    values = np.full_like(origins.cka, 0.1)
    values[8:60, 8:60] = 0.55
    values[14:34, 14:34] = 0.95
    np.fill_diagonal(values, 1)
    without = np.where(values == 0.95, 0.6, values)
    one = cka_blocks.Measured(
        network=PLAN.networks["deep"], seed=3, fits=True, title="deep",
        origins=replace(origins, cka=values, cka_without_component=without),
    )  # fmt: skip
    assert (one.structure.best.start, one.structure.best.stop) == (8, 60)
    assert np.flatnonzero(one.inside).tolist() == [*range(14, 34)]
    assert one.strength == pytest.approx(0.45) and one.block.strength > 0.4
    assert one.block.strength - one.strength_without_component == pytest.approx(0.35)


def test_every_claim_of_the_chapter_has_an_estimate_and_no_other_name_has_one(found):
    claims = {name: claim for name, claim in book.claims_of("cka_blocks").items() if not claim.untested}
    controls = {f"{name}/control" for name, claim in claims.items() if claim.control}
    readings = {f"{name}/{each}" for name, claim in claims.items() for each in claim.readings}
    del claims["deletion-clarity"]  # nothing differs over seeds here
    assert found.keys() == claims.keys() | controls | readings
    for name, claim in claims.items():
        assert found[name].confidence == claim.confidence
    judged = book.judge_page(claims, found, same_data=True, full_protocol=False)
    assert judged.keys() == claims.keys()


IN_BLOCK = 28 / 67
"""Of the layers of a network of depth 20."""


@pytest.mark.parametrize(
    ("claim", "planted", "n"),
    [
        ("every-seed", 1.0, 3),
        ("every-seed/control", 0.0, 3),
        ("no-residuals", 1 / 3, 3),
        ("late", 0.5 - 42 / 67, 3),
        ("component", 0.6, 3),
        ("component-inside", 0.4, 3),
        ("component-without", 0.4, 3),
        ("component-seeds", 0.12, 2),
        ("component-small", 0.2, 3),
        ("component-small/control", 0.2 + 0.4 * IN_BLOCK, 3),
        ("component-kept", 0.9**2, 3),
        ("component-removed", 0.2, 3),
        ("component-removed/networks", 0.2, 6),
        ("sparsity", 0.07, 3),
        ("probes", 23.0 + 12.0, 3),
        ("additions", 3.0, 3),
        ("deletion", 25.0, 3),
        ("resembles", 1.0, 3),
        ("unique", 0.4, 3),
        ("unique-contrast", 0.3, 3),
        ("outside", (1 - 0.9) - (1 - 0.4), 3),
        ("unique-architectures", WITHIN - 0.2, 2),
        ("proposition-1", 1.0, 3),
        ("few-images", 0.8, 3),
        ("dominant-removed", 0.1, 3),
        ("others-removed", -0.05, 3),
        ("dominant-shared", 0.6, 3),
        ("dominant-alike", 3.0, 3),
        ("early", 0.8, 3),
        ("dominant-change", 0.3, 3),
    ],
)
def test_what_was_planted_is_found(found, claim, planted, n):
    assert found[claim].mean == pytest.approx(planted, abs=1e-9)
    assert found[claim].n == n


def test_a_checkerboard_is_what_additions_have_among_them_and_not_with_what_is_inside(found):
    differences = []
    for name in ("shallow", "narrow"):
        o = simulated(EXPOSED).networks[name, 3].origins
        added = [i for i, layer in enumerate(o.layers) if layer.endswith(".add")]
        inside = [
            i for i, layer in enumerate(o.layers) if layer.endswith(("conv1", "conv2", "norm1", "norm2"))
        ]
        among = [o.cka[i, j] for i in added for j in added if i < j]
        differences.append(np.mean(among) - np.mean([o.cka[i, j] for i in added for j in inside]))
    assert found["checkerboard"].mean == pytest.approx(np.mean(differences)) != 0
    assert found["checkerboard"].n == 3


def test_probes_rise_by_the_ranks_of_those_after_additions(found):
    """Of six and of nine additions the first two are exchanged: 1 − 6 Σd² / (n³ − n)."""
    ours = np.mean([1 - 6 * 2 / (n**3 - n) for n in (6, 9)])
    assert (found["probes-rise"].mean, found["probes-rise"].n) == (pytest.approx(ours), 3)


def correlation_of_pairs(one: np.ndarray, other: np.ndarray) -> float:
    pairs = [(one[i, j], other[i, j]) for i in range(len(one)) for j in range(i)]
    return stats.pearsonr(*np.transpose(pairs)).statistic


def test_maps_of_components_and_without_them_are_compared_with_cka(found):
    networks = simulated(EXPOSED).networks
    for names, (component, without) in (
        (("deep", "wide"), ("component-map", "unchanged/control")),
        (("shallow", "narrow"), ("component-apart", "unchanged")),
    ):
        origins = [networks[name, 3].origins for name in names]
        cos = [np.square(o.directions @ o.directions.T) for o in origins]
        maps = [correlation_of_pairs(o.output_cka, c) for o, c in zip(origins, cos, strict=True)]
        rest = [correlation_of_pairs(o.cka, o.cka_without_component) for o in origins]
        for claim, ours in ((component, maps), (without, rest)):
            assert (found[claim].mean, found[claim].n) == (pytest.approx(np.mean(ours)), 3)
            assert abs(found[claim].mean) > 0.05
    assert found["unchanged/control"].mean == pytest.approx(1) and found["unchanged"].mean < 0.9
    assert found["component-map/control"] == found["component-apart"]


def test_the_control_of_a_kept_component_is_that_of_highest_ranked_ranges(found):
    kept = []
    for name in ("shallow", "narrow"):
        m = simulated(EXPOSED).networks[name, 3]
        directions = m.origins.directions[m.inside_outputs]
        squares = np.square(directions @ directions.T)
        kept.append(squares[np.triu_indices(len(squares), 1)].mean())
    ours = found["component-kept/control"]
    assert (ours.mean, ours.n) == (pytest.approx(np.mean(kept)), 3) and 0 < ours.mean < 0.5


@pytest.mark.parametrize(
    ("last", "ends"),
    [("stage3.block1.add", True), ("stage2.block1.conv1", True), ("stage3.block2.add", False)],
)
def test_a_block_may_end_with_a_stage(last, ends):
    one = simulated(EXPOSED).networks["deep", 3]
    where = slice(3, one.origins.layers.index(last) + 1)
    moved = replace(one, origins=simulated_origins(one.network, 3, block=True, where=where))
    assert moved.block.stop == where.stop and moved.ends_with_stage == ends


def test_outside_is_outside_of_both_blocks_and_inside_inside_of_both():
    results = simulated(EXPOSED)
    one, other = results.networks["deep", 3], results.networks["wide", 3]
    same = np.arange(10) / 10
    moved = replace(other, origins=simulated_origins(one.network, 3, block=True, where=slice(25, 60)))
    both = one.inside_outputs & moved.inside_outputs, ~(one.inside_outputs | moved.inside_outputs)
    assert [flags.sum() for flags in both] == [2, 3]
    found = cka_blocks._outside_more_alike(one, moved, np.diag(same))
    assert found == pytest.approx(same[both[1]].mean() - same[both[0]].mean())


def test_outputs_are_aligned_by_the_most_similar_of_the_other_network(found):
    both = [stats.pearsonr(range(len(nearest)), nearest).statistic for nearest in NEAREST]
    assert found["aligned"].mean == pytest.approx(np.mean(both))
    assert (found["aligned"].n, round(both[0], 2), round(both[1], 2)) == (2, 1.0, 0.54)


def test_a_strength_is_compared_with_that_of_the_same_seed():
    """Seeds differ by more than the effect does: only a paired interval is short."""
    more = {"shallow": 0.05, "deep": 0.13, "wide": 0.24, "deep on most": 0.02, "deep on more": 0.09}
    within = {(name, seed): 0.5 + 0.1 * SEEDS.index(seed) + more.get(name, 0) for name, seed in PLAN.origins}
    ours = of(simulated(PLAN.origins, within=within))
    for claim, effect in (("depth", 0.08), ("width", 0.24)):
        assert ours[claim].mean == pytest.approx(effect)
        assert ours[claim].high - ours[claim].low < 1e-9
        assert ours[claim].n == 3
    # from the least to the most images: 1/16 to all of them, or to a quarter where there are no more; by seed
    close(ours["less-data"], wsn.estimate([(0.05 + 0.11) / 2, (0.05 + 0.04) / 2, 0.05]))


def close(found: wsn.Estimate, expected: wsn.Estimate) -> None:
    numbers = [(e.mean, e.low, e.high, e.n, e.confidence) for e in (found, expected)]
    assert numbers[0] == pytest.approx(numbers[1])


SHIFT = {("deep", 3): 0.02, ("wide", 3): 0.04, ("deep", 5): 0.06, ("wide", 5): 0.04, ("deep", 7): 0.01, ("wide", 7): 0.09}  # fmt: skip


def test_the_networks_of_a_seed_are_one_number_and_seeds_the_sample():
    ours, by_seed = of(simulated(EXPOSED, shift=SHIFT)), np.array([0.03, 0.05, 0.05])
    for claim, values in (
        ("component", 0.6 + by_seed),
        ("component-inside", 0.4 + by_seed),
        ("component-without", 0.4 + by_seed),
        ("component-small/control", 0.2 + (0.4 + by_seed) * IN_BLOCK),
        ("additions", 3 + 100 * by_seed),
        ("few-images", 0.8 + by_seed),
        ("probes", 35 + 100 * by_seed),
    ):
        close(ours[claim], wsn.estimate(values.tolist()))
    close(ours["sparsity"], wsn.estimate((0.07 + by_seed).tolist(), confidence=0.9))


def test_two_one_sided_tests_have_intervals_of_ninety_per_cent(found):
    equal = {name for name, e in found.items() if e.confidence == 0.9}
    assert equal == {n for n, c in book.claims_of("cka_blocks").items() if c.equivalence} != set()


def test_shares_of_seeds_are_exact_binomials():
    blocks = {("deep", 3), ("deep", 7), ("shallow", 3), ("plain", 3), ("plain", 5), *keys_of("wide")}
    ours = of(simulated(blocks))
    assert ours["every-seed"] == wsn.estimates.proportion([True, False, True])
    assert ours["every-seed/control"] == wsn.estimates.proportion([True, False, False])
    assert ours["no-residuals"] == wsn.estimates.proportion([True, True, False])


def test_of_networks_without_residual_connections_the_widest_decide():
    results = simulated({("plain", 3)})
    one = results.networks["plain", 5]
    narrow = replace(one, network=one.network.model_copy(update={"width_multiplier": 0.5}))
    results = replace(results, networks={**results.networks, ("plain", 5): narrow})
    assert of(results)["no-residuals"] == wsn.estimates.proportion([True, False])


def test_a_network_without_a_block_is_left_out_and_the_other_counts_alone():
    shift = {key: {"deep": 0.06, "wide": 0.02}.get(key[0], 0) for key in PLAN.origins}
    ours = of(simulated(EXPOSED - {("deep", 5), ("deep", 7), ("wide", 7)}, shift=shift))
    close(ours["component"], wsn.estimate([0.64, 0.62]))
    assert (ours["probes"].n, ours["deletion"].n, ours["component-without"].n) == (2, 2, 2)
    assert (ours["checkerboard"].n, ours["unique-architectures"].n) == (3, 1)
    assert "unique" not in ours and "dominant-seeds" not in ours and "unique-contrast" not in ours


def test_claims_about_what_is_not_there_have_no_estimate():
    nowhere, everywhere = set(of(simulated(()))), set(of(simulated(PLAN.origins)))
    of_blocks = {"late", "component", "component-inside", "component-kept", "component-removed", "sparsity", "additions"}  # fmt: skip
    of_blocks |= {"component-removed/networks"}
    of_blocks |= {"few-images", "dominant-removed", "others-removed", "dominant-shared", "dominant-alike"}
    of_blocks |= {"early", "dominant-change", "unique", "unique-architectures", "dominant-seeds"}
    of_blocks |= {"component-small/control", "probes-rise/control", "unchanged/control"}
    of_blocks |= {"component-map", "outside"}
    without = {"checkerboard", "component-small", "probes-rise", "aligned", "resembles"}
    without |= {"component-apart", "unchanged", "component-map/control", "component-kept/control"}
    both = {"component-without", "component-seeds", "probes", "deletion", "unique-contrast"}
    rest = {"depth", "width", "less-data", "every-seed", "every-seed/control", "no-residuals", "proposition-1"}  # fmt: skip
    assert nowhere == without | rest
    assert everywhere == of_blocks | rest
    assert set(of(simulated(EXPOSED))) == nowhere | everywhere | both


def test_the_component_is_compared_within_a_network_of_one_depth_width_and_part():
    """Only whoever has seeds of both kinds counts, without residual connections or on more images, too."""
    shift = {key: {"plain": 0.02, "deep on more": 0.06}.get(key[0], 0.4) for key in PLAN.origins}
    close(of(simulated(EXPOSED, shift=shift))["component-seeds"], wsn.estimate([0.14, 0.18]))
    both = of(simulated({*EXPOSED, ("narrow", 3), ("narrow", 5)}, shift=shift))
    close(both["component-seeds"], wsn.estimate([0.14, 0.18, 0.52]))


def test_what_is_not_trained_on_the_usual_part_or_has_no_residual_connections_decides_nothing_else():
    """Their numbers may be anything: only the claims of more data, of seeds and of such networks change."""
    others = keys_of("shallow on more", "deep on more", "deep on most", "plain")
    one = of(simulated(EXPOSED - others))
    shift = dict.fromkeys(others, 0.3)
    other = of(simulated(EXPOSED | others, shift=shift, within=dict.fromkeys(others, 0.8)))
    changed = {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}
    assert changed == {"less-data", "no-residuals"}


def test_networks_that_do_not_fit_decide_nothing():
    assert set(of(simulated(EXPOSED, unfit=PLAN.origins))) == {"proposition-1"}
    fit = of(simulated(EXPOSED))
    for key, gone in {
        ("shallow", 5): {"depth": 2, "every-seed/control": 2, "aligned": 1},
        ("deep", 5): {
            "depth": 2, "every-seed": 2, "unique": 1, "unique-contrast": 1, "dominant-seeds": 1, "outside": 1,
            "unique-architectures": 1, "component-removed/networks": 5,
        },
        ("narrow", 5): {"resembles": 1, "unique-contrast": 1, "aligned": 1},
        ("plain", 5): {"no-residuals": 2, "component-seeds": 1},
        ("deep on more", 5): {"component-seeds": 1},
    }.items():  # fmt: skip
        ours = of(simulated(EXPOSED, unfit={key}))
        changed = {n: ours[n].n for n in fit if ours[n].n != fit[n].n}
        assert changed == gone


def test_widths_are_compared_of_which_three_seeds_fit():
    more = {"narrow": 0.0, "deep": 0.05, "wide": 0.25}
    within = {key: 0.5 + more.get(key[0], 0) for key in PLAN.origins}
    for unfit, effect in ({("narrow", 5)}, 0.2), ({("wide", 7)}, 0.05), (set(), 0.25):
        ours = of(simulated(PLAN.origins, within=within, unfit=unfit))["width"]
        assert (ours.mean, ours.n) == (pytest.approx(effect), 3)
    assert "width" not in of(simulated(PLAN.origins, unfit={("narrow", 5), ("wide", 7)}))


def test_what_a_deletion_costs_goes_with_strength_over_the_seeds_of_an_architecture():
    """Between architectures it goes the other way; networks that do not fit, or without residuals, do not count."""
    shift = {3: 0.0, 5: 0.1, 7: 0.3}
    within = {
        (name, seed): 0.5 + shift[seed] + 0.1 * (name in ("deep", "wide")) for name, seed in PLAN.origins
    }
    results = simulated(PLAN.origins, within=within)
    for (name, seed), each in results.networks.items():
        if each.network.residual:
            kept = 0.2 + shift[seed] - 0.15 * (name in ("deep", "wide"))
            lost = deletions_of(list(each.origins.layers), accuracy=0.8, lost=0.8 * (1 - kept))
            results = changed(results, (name, seed), deletions=lost)
    ours = of(results)["deletion-clarity"]
    assert (ours.mean, ours.n) == (pytest.approx(1), 12)
    fewer = cka_blocks.correlation_within(
        [[(0, 0), (1, 1), (2, 1)], [(9, 3), (8, 3.5), (5, np.nan)], [(7, 7)]]
    )
    r = stats.pearsonr([-1, 0, 1, 0.5, -0.5], [-2 / 3, 1 / 3, 1 / 3, -0.25, 0.25]).statistic
    half = stats.norm.isf(0.025) / np.sqrt(5 - 2 - 2)
    assert (fewer.mean, fewer.n) == (pytest.approx(r), 5)
    assert (fewer.low, fewer.high) == pytest.approx((np.tanh(np.arctanh(r) - half), np.tanh(np.arctanh(r) + half)))  # fmt: skip
    assert cka_blocks.correlation_within([[(0, 0), (1, 1), (2, 1)], [(9, 3)]]) is None
    assert cka_blocks.correlation_within([[(0, 5), (1, 5), (2, 5), (3, 5)]]) is None


def test_the_deepest_network_is_the_deepest_that_fits():
    ours = of(simulated(EXPOSED | {("shallow", 3)}, unfit=keys_of("deep")))
    assert ours["every-seed"] == wsn.estimates.proportion([True, False, False])
    assert "every-seed/control" not in ours and "depth" not in ours


def changed(results: cka_blocks.Results, key: cka_blocks.Key, **fields) -> cka_blocks.Results:
    """Results with another number in one network."""
    each = results.networks[key]
    other = cka_blocks.Measured(
        network=each.network,
        seed=each.seed,
        origins=replace(each.origins, **fields),
        fits=each.fits,
        title=each.title,
    )
    return replace(results, networks={**results.networks, key: other})


def test_a_layer_that_does_not_vary_is_left_out_and_no_more_than_it():
    shift = {("deep", 3): 0.2}
    results = simulated(EXPOSED, shift=shift)
    for key in (("deep", 3), ("shallow", 5)):
        o = results.networks[key].origins
        at = o.layers.index("stage2.block1.conv2")
        maps = {
            name: getattr(o, name).copy()
            for name in ("cka", "cka_without_component", "explained_variance_ratio")
        }
        maps["cka"][at] = maps["cka"][:, at] = maps["explained_variance_ratio"][at] = np.nan
        maps["cka_without_component"][at] = maps["cka_without_component"][:, at] = np.nan
        tops = {top: np.where(np.arange(len(o.layers)) == at, np.nan, v) for top, v in o.top_shares.items()}
        results = changed(results, key, top_shares=tops, **maps)
    ours, whole = of(results), of(simulated(EXPOSED, shift=shift))
    assert ours.keys() == whole.keys()
    for name, e in whole.items():
        assert (ours[name].mean, ours[name].n) == (pytest.approx(e.mean, abs=0.01), e.n), name


def test_a_block_in_which_no_two_outputs_lie_has_no_number_between_outputs():
    """Six layers of one residual block of `shallow`, of which no output is one."""
    results = simulated(EXPOSED)
    for seed in SEEDS:
        o = results.networks["shallow", seed].origins
        at = o.layers.index("stage2.block1.conv1")
        inside = (np.arange(len(o.layers)) >= at) & (np.arange(len(o.layers)) < at + 6)
        cka = np.where(np.outer(inside, inside), 0.95, 0.4)
        np.fill_diagonal(cka, 1)
        results = changed(results, ("shallow", seed), cka=cka)
        assert cka_blocks.edges(results.networks["shallow", seed].structure) == [(at, at + 6)]
    ours, without = of(results), of(simulated(EXPOSED))
    assert ours["late"].mean != without["late"].mean
    for name in ("component-kept", "dominant-removed", "dominant-shared", "unique-architectures", "early"):
        close(ours[name], without[name])


@pytest.mark.parametrize("claim", ["aligned", "resembles", "probes-rise", "dominant-alike"])
def test_what_does_not_vary_has_no_correlation_and_no_deviation(claim):
    def across(one, other):
        constant = one.network != other.network and not one.has_block
        return np.full((len(one.origins.outputs), len(other.origins.outputs)), 0.5) if constant else between(one, other)  # fmt: skip

    results = simulated(EXPOSED, across=across if claim == "aligned" else between)
    for key, each in results.networks.items():
        if claim == "probes-rise":
            results = changed(results, key, probes=dict.fromkeys(each.origins.probes, 0.5))
        if claim == "dominant-alike":
            results = changed(results, key, border=np.full(IMAGES, 0.5))
    if claim == "resembles":
        maps = {keys: replace(m, cka={ij: 0 * v for ij, v in m.cka.items()}) for keys, m in results.compared.items()}  # fmt: skip
        results = replace(results, compared=maps)
    ours = of(results)
    assert claim not in ours and "component" in ours


def test_what_is_left_between_outputs_is_a_share_of_what_was_between_them():
    """In a network whose outputs are 0.04 more alike within their block than its other layers are."""
    results = simulated(EXPOSED)
    for key in keys_of("deep", "wide"):
        each = results.networks[key]
        inside = np.isin(np.arange(len(each.origins.layers)), each.origins.positions) & each.inside
        cka = each.origins.cka + 0.04 * np.outer(inside, inside) * ~np.eye(len(inside), dtype=bool)
        results = changed(results, key, cka=cka)
    ours, share = of(results), (WITHIN - AROUND) / (WITHIN + 0.04 - AROUND)
    assert ours["dominant-removed"].mean == pytest.approx(0.1 * share)
    assert ours["others-removed"].mean == pytest.approx(0.95 * share - 1)
    assert ours["early"].mean == pytest.approx(0.8 * share)


def test_two_architectures_are_compared_at_one_seed_and_by_what_is_within_both():
    ours = of(simulated(EXPOSED, within=dict.fromkeys(keys_of("wide"), 0.85)))
    assert ours["unique-architectures"].mean == pytest.approx((WITHIN + 0.85) / 2 - 0.2)
    results, more = simulated(EXPOSED), {}
    for keys in ((("deep", 3), ("wide", 5)), (("shallow", 3), ("narrow", 5))):
        own = [results.networks[key].origins.output_cka for key in keys]
        across = np.random.default_rng(0).random((len(own[0]), len(own[1])))
        cka = {(0, 0): own[0], (1, 1): own[1], (0, 1): across, (1, 0): across.T}
        more[keys] = NetworkResults(layers=(), cka=cka, test_accuracies=())
    assert of(replace(results, compared={**results.compared, **more})) == of(results)


# -- pairs of seeds ---------------------------------------------------------------------------


def test_pairs_of_seeds_are_units_as_the_jackknife_has_them():
    """Ten dominant images of neighbouring seeds have four in common: pairs of 0.4, 0.4 and 0, and so by hand."""
    ours = of(simulated(EXPOSED))["dominant-seeds"]
    mean = (0.4 + 0.0 + 0.4) / 3
    without_one = [0.4, 0.0, 0.4]  # the pair that is left without the first, the second, the third seed
    error = (2 / 3 * sum((left - mean) ** 2 for left in without_one)) ** 0.5
    half = stats.t.isf(0.025, 2) * error
    assert ours.n == 3
    assert (ours.mean, ours.low, ours.high) == pytest.approx((mean, mean - half, mean + half))


@pytest.mark.parametrize("seeds", [3, 4, 7])
def test_the_error_over_pairs_is_that_of_leaving_a_seed_out(seeds):
    rng = np.random.default_rng(seeds)
    values = {(i, j): rng.normal(size=2).tolist() for i in range(seeds) for j in range(i + 1, seeds)}
    ours = cka_blocks._over_pairs(values)
    of_pairs = {pair: np.mean(both) for pair, both in values.items()}
    left = [np.mean([v for pair, v in of_pairs.items() if seed not in pair]) for seed in range(seeds)]
    error = ((seeds - 1) / seeds * sum((each - np.mean(left)) ** 2 for each in left)) ** 0.5
    half = stats.t.isf(0.025, seeds - 1) * error
    mean = np.mean([*of_pairs.values()])
    assert ours.n == seeds
    assert (ours.mean, ours.low, ours.high) == pytest.approx((mean, mean - half, mean + half))


def test_what_pairs_share_with_a_seed_is_no_news():
    """Where a pair is the sum of what its two seeds bring, the interval is that of the seeds themselves."""
    brought = np.random.default_rng(0).normal(size=5)
    values = {(i, j): [brought[i] + brought[j]] for i in range(5) for j in range(i + 1, 5)}
    close(cka_blocks._over_pairs(values), wsn.estimate(2 * brought))


def test_two_seeds_are_one_pair_and_one_unit():
    one = cka_blocks._over_pairs({(3, 5): [0.5, 0.7]})
    assert (one.mean, one.n, one.low, one.high) == (pytest.approx(0.6), 1, -np.inf, np.inf)
    star = cka_blocks._over_pairs({(3, 5): [0.5], (3, 7): [0.7]})  # nothing is left without the first
    assert (star.mean, star.n) == (pytest.approx(0.6), 1)
    assert cka_blocks._over_pairs({}) is None


def test_a_pair_without_a_number_leaves_the_others_and_so_does_a_network_of_a_pair():
    nan, others = np.nan, {(0, 2): [0.5], (0, 3): [0.1], (1, 2): [0.2], (1, 3): [0.4], (2, 3): [0.7]}
    assert cka_blocks._over_pairs({(0, 1): [nan], **others}) == cka_blocks._over_pairs(others)
    one = cka_blocks._over_pairs({(0, 1): [nan, 0.9], **others})
    assert one == cka_blocks._over_pairs({(0, 1): [0.9], **others})
    assert cka_blocks._over_pairs({(0, 1): [nan]}) is None


def test_networks_that_are_compared_over_the_same_seeds_are_one_number_a_pair():
    """Two networks with a block, of which one has its seeds 0.2 more alike."""
    results = simulated(EXPOSED)
    deep, wide = (tuple((name, seed) for seed in SEEDS) for name in ("deep", "wide"))
    made = results.compared[deep]
    nearer = {(i, j): values + 0.2 * (i != j) for (i, j), values in made.cka.items()}
    ours = of(replace(results, compared={**results.compared, wide: replace(made, cka=nearer)}))
    assert (ours["unique"].mean, ours["unique"].n) == (pytest.approx((0.4 + 0.2) / 2), 3)


def test_maps_across_seeds_resemble_those_within_by_correlation():
    """Without the diagonals, on which every map within a network is 1."""

    def across(one, other):
        return correlated(one.origins.output_cka, 0.6) if one.network == other.network else between(one, other)  # fmt: skip

    ours = of(simulated(EXPOSED, across=across))
    assert ours["resembles"].mean == pytest.approx(0.6) and ours["resembles"].n == 3


def correlated(values: np.ndarray, r: float) -> np.ndarray:
    """A matrix whose correlation with another is r, without the diagonals."""
    apart = ~np.eye(len(values), dtype=bool)
    z = values[apart] - values[apart].mean()
    noise = np.random.default_rng(0).normal(size=len(z))
    noise -= noise.mean() + z * (noise @ z) / (z @ z)
    made = np.zeros_like(values)
    made[apart] = r * z / np.linalg.norm(z) + (1 - r**2) ** 0.5 * noise / np.linalg.norm(noise)
    return made


def test_a_pair_of_every_kind_is_shown_the_deepest_first():
    results = simulated(EXPOSED)
    shown = {
        kind.replace("\n", " "): (keys[i], keys[j])
        for kind, (keys, i, j) in cka_blocks.example_pairs(results).items()
    }
    assert shown == {
        "two seeds, with a block": (("deep", 3), ("deep", 5)),
        "two seeds, without a block": (("narrow", 3), ("narrow", 5)),
        "two architectures, with a block": (("deep", 3), ("wide", 3)),
        "two architectures, without a block": (("shallow", 3), ("narrow", 3)),
        "two widths": (("deep", 3), ("wide", 3)),
    }
    unfit = cka_blocks.example_pairs(simulated(EXPOSED, unfit={("deep", 3)}))
    assert unfit["two seeds,\nwith a block"] == (tuple(("deep", seed) for seed in SEEDS), 1, 2)
    mixed = replace(results, compared={(("deep", 3), ("shallow", 3)): None})
    assert cka_blocks.example_pairs(mixed) == {"two networks": ((("deep", 3), ("shallow", 3)), 0, 1)}


# -- families, records, images ----------------------------------------------------------------


def test_families_hold_what_their_claims_compare():
    results = simulated(EXPOSED)
    names = [[seeds[0].network.name for seeds in family] for family in (results.deeper, results.wider)]
    assert names == [["shallow", "deep"], ["narrow", "deep", "wide"]]
    assert results.part == 16
    assert [[m.seed for m in seeds] for seeds in results.deeper] == [SEEDS, SEEDS]
    pairs = [(a.network.name, b.network.name, a.seed, b.seed) for a, b in results.on_more_data]
    assert pairs == [
        *(("shallow", "shallow on more", seed, seed) for seed in SEEDS),
        ("deep", "deep on most", 3, 3),
        ("deep", "deep on more", 5, 5),
    ]


def test_of_as_many_parts_the_smallest_is_judged_and_of_as_many_widths_the_narrowest():
    networks = [
        {"name": "a", "depth": 14, "part": 1, "epochs": 2, "seeds": [0]},
        {"name": "b", "depth": 20, "part": 4, "epochs": 2, "seeds": [0]},
        {"name": "c", "depth": 26, "part": 4, "width_multiplier": 0.5, "epochs": 2, "seeds": [0]},
        {"name": "d", "depth": 26, "part": 1, "width_multiplier": 0.5, "epochs": 2, "seeds": [0]},
        {
            "name": "e",
            "depth": 20,
            "part": 1,
            "width_multiplier": 2.0,
            "residual": False,
            "epochs": 2,
            "seeds": [0],
        },
        {
            "name": "f",
            "depth": 20,
            "part": 4,
            "width_multiplier": 3.0,
            "residual": False,
            "epochs": 2,
            "seeds": [0],
        },
    ]
    p = cka_blocks.Parameters.read(
        {"networks": networks, "compared": [{"networks": ["a", "b"], "seeds": [0]}]}
    )
    runs = cka_blocks.Runs(p)
    made = {
        key: cka_blocks.Measured(
            network=runs.networks[key[0]],
            seed=0,
            origins=simulated_origins(runs.networks[key[0]], 0, block=True),
            fits=True,
            title=key[0],
        )
        for key in runs.origins
    }
    results = cka_blocks.Results(runs=runs, networks=made, compared={})
    assert results.part == 4
    assert [[m.network.name for m in seeds] for seeds in results.deeper] == [["c"]]
    assert results.wider == []


def test_every_record_is_read_once_and_none_may_be_missing(tmp_path, monkeypatch):
    read: list[specs.Run] = []
    store, accuracies = wsn.Store(tmp_path), dict(zip(PLAN.origins, (0.899, 0.9), strict=False))

    def origin_results(run, *, store):
        read.append(run)
        key = next(key for key, each in PLAN.origins.items() if each == run)
        network = PLAN.networks[key[0]]
        return simulated_origins(network, key[1], block=True, accuracy=accuracies.get(key, 0.95))

    def output_results(run, *, store):
        read.append(run)
        return NetworkResults(layers=(), cka={}, test_accuracies=())

    for missing, found in (("origin_results", origin_results), ("output_results", output_results)):
        with pytest.raises(KeyError):
            cka_blocks.Results.read(PLAN, store)
        monkeypatch.setattr(cka_blocks, missing, found)
    read.clear()
    results = cka_blocks.Results.read(PLAN, store)
    assert read == [*PLAN.origins.values(), *PLAN.compared.values()] == PLAN.everything
    assert (results.networks.keys(), results.compared.keys()) == (PLAN.origins.keys(), PLAN.compared.keys())
    fits = [each.fits for each in results.networks.values()]
    assert fits == [False, *[True] * (len(fits) - 1)] and len(results.fitting) == len(fits) - 1
    for key, each in results.networks.items():
        assert (each.network.name, each.seed) == key and each.network == PLAN.networks[key[0]]


def test_dominant_images_lie_farthest_on_either_side():
    values = np.zeros(50)
    values[[7, 3, 41]] = 0.5, -0.9, 0.5
    assert cka_blocks.top_images(values) == [3, 7, 41, 0, 1, 2, 4, 5, 6, 8]


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


def unmeasured(networks: list[dict[str, object]]) -> cka_blocks.Results:
    """Networks of one seed that fit, of which nothing was measured."""
    compared = [{"networks": [each["name"] for each in networks[:2]], "seeds": [0]}]
    given = [{"epochs": 2, "seeds": [0]} | each for each in networks]
    runs = cka_blocks.Runs(cka_blocks.Parameters.read(GIVEN | {"networks": given, "compared": compared}))
    measured = {
        key: cka_blocks.Measured(network=runs.networks[key[0]], seed=0, origins=None, fits=True, title=key[0])
        for key in runs.origins
    }
    return cka_blocks.Results(runs=runs, networks=measured, compared={})


def test_networks_of_one_part_are_no_pair_of_less_and_more_images():
    both = [{"name": f"{epochs}", "depth": 14, "part": 4, "epochs": epochs} for epochs in (2, 5)]
    assert unmeasured(both).on_more_data == []


def test_width_is_that_of_the_depth_with_most_widths():
    shapes = [(14, 0.5), (14, 1.0), (20, 0.25), (20, 1.0), (20, 2.0)]
    results = unmeasured(
        [{"name": f"{depth} {k}", "depth": depth, "width_multiplier": k} for depth, k in shapes]
    )
    found = [(seeds[0].network.depth, seeds[0].network.width_multiplier) for seeds in results.wider]
    assert found == [(20, 0.25), (20, 1.0), (20, 2.0)]


def test_what_was_not_seen_early_is_not_measured(found):
    """The nearest moment may be the initialisation, which says nothing of the first fifth of the epochs."""
    results = simulated(EXPOSED)
    for each in results.networks.values():
        object.__setattr__(each.origins, "epochs", {0: next(iter(each.origins.epochs.values()))})
    assert found.keys() - of(results).keys() == {"early", "dominant-change"}
