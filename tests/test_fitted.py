"""The planned runs of the chapter on block structure, and what is read from them: nothing is trained."""

from dataclasses import replace

import numpy as np
import pytest
import yaml

import wsnlib as wsn
from wsnlib.book import cka_blocks, fitted
from wsnlib.book.engine.chapters import chapter_stages, read_parameters
from wsnlib.book.fitted import results as judged
from wsnlib.layers import NetworkResults, OriginResults
from wsnlib.layers.origins import OutputMap, output_names
from wsnlib.representations import dominance_of

FILES = [f"params/planned/cka_blocks.{profile}.yml" for profile in ("cpu", "gpu", "smoke")]
DEEP = {"name": "deep", "depth": 32, "epochs": 10, "seeds": [0, 1, 2]}
SHALLOW = {"name": "shallow", "depth": 26, "epochs": 10, "seeds": [0, 1, 2]}
PLAN = {
    "profile": "cpu",
    "preset": "clean",
    "data": "cifar10",
    "validation_size": 500,
    "networks": [
        [DEEP, SHALLOW],
        [
            {"name": "wide", "depth": 32, "width_multiplier": 2.0, "epochs": 5, "seeds": [0, 1]},
            {"name": "deep on more", "depth": 32, "part": 4, "epochs": 3, "seeds": [0, 1]},
            {"name": "plain", "depth": 32, "residual": False, "epochs": 3, "seeds": [0, 1]},
        ],
    ],
    "compared": [
        [{"networks": ["deep"], "seeds": [0, 1, 2]}, {"networks": ["shallow"], "seeds": [0, 1, 2]}],
        [{"networks": ["deep", "wide"], "seeds": [1]}],
    ],
}


@pytest.mark.parametrize("file", FILES)
def test_planned_files_have_their_own_schema_and_the_pages_files_theirs(file):
    p = read_parameters(file)
    assert type(p) is fitted.Parameters and p.chapter == "cka_blocks"
    assert type(read_parameters("params/cka_blocks.cpu.yml")) is cka_blocks.Parameters
    stages = list(chapter_stages(p, store=None))
    made = [run for stage in stages for run in stage]
    assert len(set(map(wsn.spec_key, made))) == len(made)
    known = set()  # comparisons are of networks that were trained in an earlier stage
    for stage in stages:
        for run in stage:
            if isinstance(run, wsn.OutputSimilarity):
                assert set(map(wsn.spec_key, run.experiments)) <= known
        known |= {wsn.spec_key(run.experiment) for run in stage if isinstance(run, wsn.BlockOrigins)}


def test_the_first_planned_step_is_a_network_with_a_block_and_one_without():
    p = read_parameters(FILES[0])
    deep, middle = next(fitted.stages(p, None))
    for run, depth in ((deep, 56), (middle, 38)):
        assert run.experiment.model == wsn.ResNetCifarSpec(depth=depth)
        assert run.experiment.data.train_size == 3125
        training = run.experiment.training
        assert (training.epochs, training.batch_size, training.learning_rate) == (100, 128, 0.01)
        assert (training.weight_decay_on, training.weight_decay, training.precision) == (
            "weights",
            2e-4,
            "bfloat16",
        )
        assert run.epochs == (0, 5, 20, 50)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"compared": [[]]}, "compared must have a list for each of the 2 steps of networks, got 1"),
        (
            {"compared": [[{"networks": ["wide"], "seeds": [0, 1]}], []]},
            "compared must be of networks and seeds that were trained by then, got 'wide' with seeds",
        ),
        (
            {"networks": [[DEEP], [DEEP | {"depth": 38, "seeds": [5]}]], "compared": [[], []]},
            "a name must mean one network in all steps, got two for 'deep'",
        ),
        ({"moments": [0.5, 0.2]}, r"moments must be a rising list .*, got \[0.5, 0.2\]"),
        ({"networks": [[{"name": "x"}], []]}, "networks.* must be a list of steps"),
    ],
)
def test_mistakes_in_a_plan_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        fitted.Parameters.read(PLAN | change)


# -- what is found in simulated networks ------------------------------------------------------

IMAGES = 100
BLOCK = slice(20, 60)


def simulated(network, seed: int, *, block: bool, accuracy: float = 0.97) -> OriginResults:
    """A network whose every number is known; those of the block are constants."""
    of_block = ["conv1", "norm1", "relu1", "conv2", "norm2", *(["add"] if network.residual else []), "relu2"]
    blocks = [f"stage{s}.block{b + 1}" for s in (1, 2, 3) for b in range((network.depth - 2) // 6)]
    layers = ["input", "conv", "norm", "relu", *(f"{b}.{name}" for b in blocks for name in of_block)]
    outputs = output_names(layers)
    inside = np.zeros(len(layers), bool)
    inside[BLOCK] = block
    at = [layers.index(name) for name in outputs]
    cka = np.where(np.outer(inside, inside), 0.95, 0.4)
    np.fill_diagonal(cka, 1)

    def weaker(strength: float) -> np.ndarray:
        values = np.where(np.outer(inside, inside), 0.4 + strength, 0.4)
        np.fill_diagonal(values, 1)
        return values

    # ten images carry 0.8 of the component inside the block, other ten for each seed
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(len(outputs), IMAGES))
    chosen = (10 * seed + np.arange(10)) % IMAGES
    for row in np.flatnonzero(inside[at]):
        directions[row] = 0.01
        directions[row, chosen] = 1.0
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    shares = np.where(inside, 0.6, 0.2)
    border = np.full(IMAGES, 0.5) + 0.1 * np.sin(np.arange(IMAGES))
    border[chosen] = 0.9
    late = 0.05 if block else 0.35
    probes = {f"{b}.{name}": 0.5 + 0.03 * (name == "add") for b in blocks for name in ("norm2", "add")}
    probes[f"{blocks[2 * len(blocks) // 3 - 1]}.add"] += late
    before = OutputMap(
        cka=weaker(0.44)[np.ix_(at, at)], dominance=np.roll(dominance_of(directions, shares[at]), 7)
    )
    return OriginResults(
        layers=tuple(layers),
        outputs=tuple(outputs),
        cka=cka,
        cka_without_component=weaker(0.11),
        shares=shares,
        joint_share=0.5,
        top_shares={top: np.where(inside, 0.8, 0.3) for top in (1, 5, 10, 50)},
        directions=directions,
        dominance=dominance_of(directions, shares[at]),
        removed=tuple(chosen.tolist()),
        cka_without_dominant=weaker(0.055)[np.ix_(at, at)],
        cka_without_others=weaker(0.55)[np.ix_(at, at)],
        bures=cka[np.ix_(at, at)],
        epochs={0: before, 2: before},
        examples=np.arange(IMAGES),
        labels=np.arange(IMAGES) % 10,
        brightness=border,
        border=border,
        sparsity={name: 0.45 + 0.02 * inside[layers.index(name)] for name in layers if "relu" in name},
        test_accuracy=0.6,
        train_accuracy=accuracy,
        deletions={("stage2.block2",): 0.55 if block else 0.2},
        probes=probes,
        num_weights=1,
    )


@pytest.fixture(scope="module")
def results():
    """A block in `deep` and in `wide`; seed 2 of `shallow` does not fit."""
    p = fitted.Parameters.read(PLAN)
    runs, networks, compared = fitted.Runs(p), {}, {}
    for (name, seed), _ in runs.origins.items():
        network = runs.networks[name]
        accuracy = 0.5 if (name, seed) == ("shallow", 2) else 0.97
        found = simulated(network, seed, block=name in ("deep", "wide"), accuracy=accuracy)
        networks[name, seed] = fitted.Measured(
            network=network, seed=seed, origins=found, fits=accuracy >= p.least_fit
        )
    for keys, _ in runs.compared:
        own = [networks[key].origins.output_cka for key in keys]
        cka = {}
        for i, a in enumerate(own):
            for j, b in enumerate(own):
                block = networks[keys[i]].has_block
                cka[i, j] = a if i == j else (a - 0.5 if block else a * 0.9) if a.shape == b.shape else None
        compared[keys] = NetworkResults(layers=(), cka=cka, test_accuracies=())
    return fitted.Results(runs=runs, networks=networks, compared=compared)


def test_blocks_are_found_where_they_were_put(results):
    for (name, _), each in results.networks.items():
        assert each.has_block == (name in ("deep", "wide"))
        if each.has_block:
            best = each.structure.best
            assert (best.start, best.stop) == (20, 60) and each.strength == pytest.approx(0.55)


def test_estimates_find_what_was_planted(results):
    found = fitted.estimates(results)
    means = {name: e.mean for name, e in found.items()}
    strength = results.networks["deep", 0].strength
    weak = results.networks["shallow", 0].strength
    assert means["depth"] == pytest.approx(strength - weak) and found["depth"].n == 2  # seed 2 does not fit
    assert means["width"] == pytest.approx(0, abs=1e-9)
    assert means["less-data"] == pytest.approx(strength - results.networks["deep on more", 0].strength)
    assert means["every-seed"] == 1 and means["no-residuals"] == 0
    assert 0 < found["every-seed"].low < 0.9  # so few seeds decide nothing about every one
    layers = np.array(
        [n.startswith(("stage2.", "stage3.")) for n in results.networks["deep", 0].origins.layers]
    )
    assert means["late"] == pytest.approx(layers[BLOCK].mean() - layers.mean())
    expected = {
        "component": 0.6,
        "component-inside": 0.4,
        "component-without": 0.4,
        "component-kept": 1.0,
        "component-removed": 0.2,
        "sparsity": 0.02,
        "probes": 30.0,
        "additions": 3.0,
        "deletion": 35.0,
        "unique": 0.5,
        "few-images": 0.8,
        "dominant-removed": 0.1,
        "others-removed": 1.0,
        "dominant-shared": 1.0,
        "dominant-seeds": 0.0,
        "early": 0.8,
        "dominant-change": 0.3,
        "resembles": 1.0,
    }
    assert {name: means[name] for name in expected} == pytest.approx(expected, abs=1e-3)
    assert means["dominant-alike"] > 2
    assert found["unique"].n == 3  # pairs of seeds
    assert found["resembles"].n == 1  # of two networks that fit
    assert 0 < means["unique-contrast"] < 0.5


def test_every_estimate_is_of_a_claim_whose_range_was_fixed(results):
    table = [line.partition(" ")[0] for line in judged.__doc__.splitlines() if "  " in line]
    assert set(fitted.estimates(results)) <= set(table)
    assert len(set(table)) == len(table)


def test_networks_that_do_not_fit_decide_nothing(results):
    networks = {key: replace(each, fits=False) for key, each in results.networks.items()}
    assert fitted.estimates(replace(results, networks=networks)) == {}


def test_a_plan_half_done_is_read_as_far_as_it_is(tmp_path):
    runs = fitted.Runs(fitted.Parameters.read(yaml.safe_load(yaml.safe_dump(PLAN))))
    found = fitted.Results.read(runs, wsn.Store(tmp_path))
    assert found.networks == {} and fitted.estimates(found) == {}
