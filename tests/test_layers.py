"""What is measured of trained networks' layers, through a record and back."""

import copy
import json
import zlib
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch

import wsnlib as wsn
from wsnlib import experiments, layers
from wsnlib.experiments import durations
from wsnlib.layers import packing
from wsnlib.store import MeasurementRecord
from wsnlib.training import Checkpoint

TRAINING = wsn.Training(epochs=4, batch_size=30, learning_rate=0.05, momentum=0.9)
NET = wsn.ResNetCifarSpec(depth=14, width_multiplier=0.25, input_channels=1, norm_momentum=0.1)
DATA = wsn.Digits(train_size=60, validation_size=20, normalisation="unit")
RUN = wsn.Experiment(model=NET, data=DATA, training=TRAINING, seed=3)
ORIGINS = wsn.BlockOrigins(
    RUN,
    epochs=(0, 2),
    num_images=90,
    num_removed=7,
    num_rotated=41,
    probes=True,
    seed=1,
)
PAIR = wsn.OutputSimilarity([RUN, replace(RUN, seed=4)], num_images=90, seed=1)
OUTPUTS = ["relu", *(f"stage{s}.block{b}.relu2" for s in (1, 2, 3) for b in (1, 2))]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return wsn.Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def moments():
    """The data with the measured images as test images, and the network after 0, 2 and all epochs."""
    data = wsn.load_data(DATA)
    data = replace(data, test=data.test.take(layers.measured_examples(data.test, ORIGINS)))
    found = {}

    def observe(epoch, model):
        found[epoch] = copy.deepcopy(model)

    with experiments.cpu_threads(1):
        wsn.train(wsn.build(NET, seed=3), data, TRAINING, seed=3, observe=observe)
    assert list(found) == [0, 1, 2, 3, 4]
    return data, found


@pytest.fixture(scope="module")
def origins(store):
    wsn.run_missing([ORIGINS], store=store, progress=False, workers=1)
    return wsn.origin_results(ORIGINS, store=store)


def at_once(moments, epoch, **options):
    data, found = moments
    options |= {"batch_size": 90, "passes": 1, "prepare": data.normalise}
    return wsn.cka_matrix(found[epoch], data.test.images, **options)


def test_origins_hold_the_maps_of_all_images_at_once(origins, moments):
    expected = at_once(moments, 4)
    assert origins.layers == expected.rows and list(origins.outputs) == OUTPUTS
    np.testing.assert_allclose(origins.cka, expected.values, atol=6e-4)
    rest = at_once(moments, 4, without_component=True)
    np.testing.assert_allclose(origins.cka_without_component, rest.values, atol=6e-4)
    for epoch in (0, 2):
        np.testing.assert_allclose(
            origins.epochs[epoch].cka, at_once(moments, epoch).select(OUTPUTS).values, atol=6e-4
        )
    np.testing.assert_allclose(origins.output_cka, expected.select(OUTPUTS).values, atol=6e-4)
    assert abs(origins.epochs[0].cka - origins.output_cka).max() > 0.05


def test_dominant_images_are_those_that_lie_far_along_the_components(origins, moments):
    data, found = moments
    late = [name for name in origins.layers if name[:6] in ("stage2", "stage3")]
    apart = wsn.representations.read_representations(found[4], data.test.images, prepare=data.normalise)
    rows = {name: x.double().flatten(1) for name, x in apart.items()}
    at, components = [list(rows).index(name) for name in OUTPUTS], []
    for x in rows.values():
        left, values, _ = torch.linalg.svd(x - x.mean(0), full_matrices=False)
        u = left[:, 0] * left[left[:, 0].abs().argmax(), 0].sign()
        components.append((values[0] ** 2 / values.square().sum(), u))
    shares, u = (np.stack(each) for each in zip(*components, strict=True))
    np.testing.assert_allclose(origins.explained_variance_ratio, shares, atol=6e-4)
    side_by_side = torch.cat([rows[name] for name in late], dim=1)
    squares = torch.linalg.svdvals(side_by_side - side_by_side.mean(0)) ** 2
    assert origins.joint_explained_variance_ratio == pytest.approx(
        float(squares[0] / squares.sum()), rel=1e-4
    )
    np.testing.assert_allclose(origins.directions, u[at], atol=6e-4)
    np.testing.assert_allclose(origins.component_similarity, (u[at] @ u[at].T) ** 2, atol=5e-3)
    dominance = shares[at] @ u[at] ** 2 / shares[at].sum()
    np.testing.assert_allclose(origins.dominance, dominance, atol=1e-3)
    assert sorted(origins.removed) == sorted(np.argsort(-dominance)[:7])
    for top, values in origins.top_shares.items():
        np.testing.assert_allclose(values, np.sort(u**2, 1)[:, ::-1][:, :top].sum(1), atol=6e-4)
    assert origins.epochs[0].dominance.sum() == pytest.approx(1, abs=0.02)


def test_maps_without_images_are_those_of_the_others(origins, moments):
    data, found = moments
    left = np.setdiff1d(np.arange(90), origins.removed)
    options = {"layers": OUTPUTS, "batch_size": 83, "passes": 1, "prepare": data.normalise}
    expected = wsn.cka_matrix(found[4], data.test.images[left], **options)
    np.testing.assert_allclose(origins.cka_without_dominant, expected.values, atol=6e-4)
    again = at_once(moments, 4).select(OUTPUTS).values
    moved, others = (
        abs(m - again).mean() for m in (origins.cka_without_dominant, origins.cka_without_others)
    )
    assert 0 < others < moved


def test_bures_similarity_is_of_the_first_images(origins, moments):
    data, found = moments
    x, y = (
        (z - z.mean(0)).double().flatten(1)
        for z in wsn.representations.read_representations(
            found[4], data.test.images[:41], layers=OUTPUTS[2:4], prepare=data.normalise
        ).values()
    )
    x, y = x - x.mean(0), y - y.mean(0)
    expected = torch.linalg.svdvals(x.T @ y).sum() / (x.norm() * y.norm())
    assert origins.bures[2, 3] == pytest.approx(float(expected), abs=6e-4)


def test_origins_hold_the_images_and_the_zeros_of_relus(origins, moments):
    data, found = moments
    whole = wsn.load_data(DATA).test
    assert torch.equal(whole.images[origins.examples], data.test.images)
    assert origins.labels.tolist() == data.test.labels.tolist()
    pixels = data.test.images.double() / 255
    np.testing.assert_allclose(origins.brightness, pixels.mean((1, 2, 3)), atol=6e-4)
    inside = torch.zeros(pixels.shape[2:], dtype=bool)
    inside[1:-1, 1:-1] = True
    np.testing.assert_allclose(origins.border, pixels[:, :, ~inside].mean((1, 2)), atol=6e-4)
    relu = wsn.representations.read_representations(
        found[4], data.test.images, layers=[torch.nn.ReLU], prepare=data.normalise
    )
    sparsity = {name: float((x == 0).double().mean()) for name, x in relu.items()}
    assert origins.sparsity == pytest.approx(sparsity, abs=6e-4)


@contextmanager
def shortcuts_alone(model, blocks):
    """Within it, what these blocks add to their shortcuts is 0."""
    with ExitStack() as stack:
        for block in blocks:
            last = model.get_submodule(f"{block}.norm2")
            stack.callback(last.register_forward_hook(lambda m, i, x: torch.zeros_like(x)).remove)
        yield


def test_accuracies_deletions_and_probes_are_those_of_the_trained_network(origins, moments):
    data, found = moments
    model = found[4]
    assert origins.test_accuracy == pytest.approx(wsn.evaluate(model, data, data.test).accuracy)
    assert origins.train_accuracy == pytest.approx(wsn.evaluate(model, data, data.train).accuracy)
    assert origins.num_weights == wsn.num_weights(model)
    assert list(origins.deletions) == [(f"stage{i}.block2",) for i in (1, 2, 3)]
    for deleted, accuracy in origins.deletions.items():
        with shortcuts_alone(model, deleted):
            assert accuracy == pytest.approx(wsn.evaluate(model, data, data.test).accuracy)
    with experiments.cpu_threads(1):
        probes = wsn.probes.linear_probes(model, data)
    assert origins.probes == pytest.approx({name: probe.test_accuracy for name, probe in probes.items()})
    assert len(origins.probes) == 12


def test_blocks_are_deleted_from_the_end_of_each_stage():
    data = wsn.load_data(wsn.Digits(train_size=100, normalisation="unit"))
    model = wsn.build(replace(NET, depth=20))
    deleted, accuracies = layers.origins.deletion_accuracies(model, data)
    first = ["stage1.block3"], ["stage1.block2", "stage1.block3"]
    assert (len(deleted), *deleted[:2]) == (6, *first)
    with shortcuts_alone(model, first[1]):
        assert accuracies[1] == wsn.evaluate(model, data, data.test).accuracy
    assert layers.origins.deletion_accuracies(wsn.build(replace(NET, residual=False)), data) == ([], [])


def test_networks_without_residual_connections_are_probed_before_where_the_addition_would_be():
    data = wsn.load_data(replace(DATA, train_size=50))
    data = replace(data, test=data.test.take(torch.arange(50)))
    with experiments.cpu_threads(1):
        found = layers.origins.probe_accuracies(wsn.build(replace(NET, depth=8, residual=False)), data)
    assert list(found) == [f"stage{i}.block1.norm2" for i in (1, 2, 3)]


@pytest.mark.parametrize("spec", [ORIGINS, PAIR], ids=lambda spec: type(spec).__name__)
def test_measured_images_are_balanced_and_drawn_by_the_seed(spec):
    test = wsn.load_data(DATA).test
    one, again, other = (layers.measured_examples(test, replace(spec, seed=s)) for s in (1, 1, 2))
    assert test.labels[one].bincount().tolist() == [9] * 10
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(layers.measured_examples(test, replace(spec, num_images=None)), torch.arange(360))
    with pytest.raises(wsn.DataError) as refused:
        layers.measured_examples(test, replace(spec, num_images=361))
    assert str(refused.value) == (
        f"{type(spec).__name__}.num_images must be at most the 360 test images, got 361; measure fewer"
    )


def test_what_does_not_vary_has_no_number_and_takes_none_from_the_rest(tmp_path, moments):
    """The last output but one is 0 for every image, and so is the sum of its block."""
    data, found = moments
    spec, model = replace(ORIGINS, epochs=(), probes=False), copy.deepcopy(found[4])
    dead = "stage3.block1"
    with torch.no_grad():
        model.get_submodule(f"{dead}.norm2").bias.fill_(-1e3)
    images, examples = data.test.images, layers.measured_examples(wsn.load_data(DATA).test, spec)
    columns, names, arrays = layers.measure_origins(model, data, images, examples, {}, spec)
    assert columns["probes"] == names["probed"] == []
    columns |= {"test_accuracy": [0.1], "train_accuracy": [0.1]}
    names |= {"num_weights": [1]}
    store = wsn.Store(tmp_path)
    store.save(
        MeasurementRecord(experiment=spec, status="finished", columns=columns, names=names, arrays=arrays)
    )
    ours = wsn.origin_results(spec, store=store)
    after = ours.layers.index(f"{dead}.relu2")
    constant = np.isnan(ours.explained_variance_ratio)
    assert constant[after:].all() and np.flatnonzero(constant)[0] == after
    for values in (ours.cka, ours.cka_without_component):
        assert np.isnan(values[constant]).all() and np.isnan(values[:, constant]).all()
        assert np.isfinite(values[np.ix_(~constant, ~constant)]).all()
    output = [constant[at] for at in ours.positions]
    assert output == [False] * 5 + [True] * 2
    for values in (ours.cka_without_dominant, ours.cka_without_others, ours.bures):
        assert np.isnan(values[5:]).all() and np.isfinite(values[:5, :5]).all()
    assert np.isnan(ours.directions[5:]).all()
    assert ours.dominance.sum() == pytest.approx(1, abs=0.02) and np.isfinite(ours.dominance).all()
    assert sorted(ours.removed) == sorted(np.argsort(-ours.dominance, kind="stable")[:7])
    assert ours.sparsity[f"{dead}.relu2"] == 1


def test_every_pair_of_networks_is_compared_on_the_same_images(store, origins, moments):
    """Each network takes them as its own data are scaled, and has its own outputs."""
    data, found = moments
    plain = replace(
        RUN, model=replace(NET, depth=8, residual=False), data=replace(DATA, normalisation="standardise")
    )
    spec = wsn.OutputSimilarity([RUN, plain], num_images=90, seed=1)
    wsn.run_missing([spec], store=store, progress=False, workers=1)
    result = wsn.output_results(spec, store=store)
    assert set(result.cka) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    names = tuple(OUTPUTS), ("relu", *(f"stage{i}.block1.relu2" for i in (1, 2, 3)))
    assert result.layers == names
    np.testing.assert_allclose(result.cka[0, 0], origins.output_cka, atol=2e-3)
    assert np.array_equal(result.cka[0, 1], result.cka[1, 0].T) and result.cka[0, 1].shape == (7, 4)
    assert result.test_accuracies[0] == origins.test_accuracy
    other = replace(wsn.load_data(plain.data), test=data.test)
    model = wsn.build(plain.model, seed=3)
    with experiments.cpu_threads(1):
        wsn.train(model, other, TRAINING, seed=3)
    assert result.test_accuracies[1] == pytest.approx(wsn.evaluate(model, other, other.test).accuracy)
    expected = wsn.representations.cka_matrices(
        {"a": found[4], "b": model},
        data.test.images,
        layers={"a": names[0], "b": names[1]},
        batch_size=90,
        passes=1,
        prepare={"a": data.normalise, "b": other.normalise},
    )
    for i, j in ((0, 1), (1, 1)):
        np.testing.assert_allclose(result.cka[i, j], expected["ab"[i], "ab"[j]].values, atol=6e-4)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            wsn.OutputSimilarity([RUN, replace(RUN, model=wsn.MLPSpec(width=5, inputs=64))], num_images=90),
            r"OutputSimilarity must be of networks with layers called relu or ….relu2, .* got a MLPSpec",
        ),
        (
            replace(ORIGINS, num_images=None, num_removed=200),
            "BlockOrigins.num_removed must be at most 178 of the 360 test images, got 200; remove fewer",
        ),
    ],
    ids=lambda each: type(each).__name__,
)
def test_what_cannot_be_measured_is_not_trained(spec, message, monkeypatch):
    monkeypatch.setattr(experiments.measurements, "trained", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises((ValueError, wsn.DataError), match=message):
        experiments.run_planned(experiments.plan(spec, device="cpu"), device="cpu")


def test_a_measurement_without_memory_stops_no_plan(monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(experiments.durations, "decompose_layers", full)
    (plan,) = experiments.plan_all([ORIGINS], device="cpu")
    assert plan.seconds == 0


def test_a_network_that_was_measured_is_not_trained_again(store, origins, monkeypatch):
    # the second network of the pair alone is new
    trained, made = experiments.measurements.trained, []

    def counted(plan, *given, **options):
        made.append(plan.trainings[0].seed)
        return trained(plan, *given, **options)

    monkeypatch.setattr(experiments.measurements, "trained", counted)
    wsn.run_missing([PAIR], store=store, progress=False, workers=1)
    assert made == [4]
    result = wsn.output_results(PAIR, store=store)
    np.testing.assert_allclose(result.cka[0, 0], origins.output_cka, atol=2e-3)
    assert np.array_equal(result.cka[0, 1], result.cka[1, 0].T)
    assert result.test_accuracies[0] == origins.test_accuracy
    # one without the epochs that are asked for, or measured on other images, is
    for other in (
        replace(ORIGINS, experiment=PAIR.experiments[1]),
        replace(ORIGINS, experiment=PAIR.experiments[1], seed=2, epochs=()),
    ):
        experiments.run_planned(experiments.plan(other, device="cpu"), device="cpu", network=store.network)
    assert made == [4, 4, 4]


def test_a_measurement_says_how_its_networks_were_trained_wherever_that_was(tmp_path, monkeypatch):
    store, first = wsn.Store(tmp_path), replace(ORIGINS, epochs=(), probes=False)

    def made(spec, commit):
        monkeypatch.setattr(experiments.machine, "_COMMIT", commit)
        plan = experiments.plan(spec, device="cpu")
        (record,) = experiments.run_planned(plan, device="cpu", network=store.network)
        return record

    here = made(first, "a").environment
    (training,) = here["trainings"]
    assert training["run"] == wsn.spec_key(first.experiment)
    assert {"commit", "device", "torch", "engine", "threads", "deterministic"} < training.keys()
    pair = replace(PAIR, experiments=[first.experiment, PAIR.experiments[1]])
    there = made(pair, "b").environment
    assert there["trainings"][0] == training
    assert [there["commit"], *(each["commit"] for each in there["trainings"])] == ["b", "a", "b"]
    whole = there["seconds_measuring"] + sum(each["seconds"] for each in there["trainings"])
    assert there["seconds"] == pytest.approx(whole, abs=0.02)


def test_a_network_kept_without_how_it_was_trained_is_trained_again(tmp_path):
    store, spec = wsn.Store(tmp_path), replace(ORIGINS, epochs=(), probes=False)
    run = {"plan": experiments.plan(spec, device="cpu"), "device": "cpu", "network": store.network}
    experiments.run_planned(**run)
    file = store.network(spec.experiment)
    tensors = safetensors.torch.load(file.read())
    about = json.loads(bytes(tensors.pop("about").tolist()))
    about["how_trained"]["commit"] = "another"
    for how in (about["how_trained"], None):
        said = {name: value for name, value in about.items() if name != "how_trained" or how}
        tensors["about"] = torch.tensor(list(json.dumps(said).encode()), dtype=torch.uint8)
        file.write(safetensors.torch.save(tensors))
        (record,) = experiments.run_planned(**run)
        assert (record.environment["trainings"][0]["commit"] == "another") is (how is not None)


def test_a_kept_network_that_is_damaged_is_set_aside_and_trained_again(tmp_path):
    store, spec = wsn.Store(tmp_path), replace(ORIGINS, epochs=(), probes=False)
    run = {"plan": experiments.plan(spec, device="cpu"), "device": "cpu", "network": store.network}
    experiments.run_planned(**run)
    (file,) = (tmp_path / "networks").iterdir()
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.warns(RuntimeWarning, match="a kept network cannot be used: .*it was moved to"):
        experiments.run_planned(**run)
    assert [each.name for each in (tmp_path / "networks").iterdir()] == [file.name]


def test_an_interrupted_measurement_goes_on_with_what_it_has_seen(store, origins, tmp_path, monkeypatch):
    monkeypatch.setattr(Checkpoint.__init__, "__kwdefaults__", {"seconds_between": 0.0})
    other = wsn.Store(tmp_path)
    run = {"plan": experiments.plan(ORIGINS, device="cpu"), "device": "cpu"}
    observe, seen = layers.observe_outputs, []

    def stopped(model, data, images):
        seen.append(1)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return observe(model, data, images)

    monkeypatch.setattr(layers, "observe_outputs", stopped)
    file = {"file": lambda part: other.checkpoint(ORIGINS, part=part)}
    with pytest.raises(KeyboardInterrupt):
        experiments.run_planned(**run, **file)
    [record] = experiments.run_planned(**run, **file)
    assert len(seen) == 3  # the initialisation is not seen twice
    expected = store.load(ORIGINS)
    for name in ("cka 0", "cka 2", "cka"):
        assert np.array_equal(record.arrays[name], expected.arrays[name])


def test_packed_maps_are_exact_to_three_decimals_and_small():
    rng = np.random.default_rng(0)
    values = rng.uniform(-1, 1, (13, 13))
    values = (values + values.T) / 2
    values[2, 3] = values[3, 2] = 0
    values[5], values[:, 5] = np.nan, np.nan
    again = packing.unpacked_symmetric(packing.packed_symmetric(values))
    np.testing.assert_allclose(again, values, atol=5.001e-4)
    again = packing.unpacked(packing.packed(values[:7]), 7, 13)
    np.testing.assert_allclose(again, values[:7], atol=5.001e-4)
    with pytest.raises(ValueError, match="values must lie from −32 to 32, got 33"):
        packing.packed([[33.0]])
    # as smooth along depth as the maps of trained networks: 386 layers, whose neighbours differ by some 0.01
    depth = np.cumsum(rng.gamma(1, 0.01, 386))
    values = np.exp(-abs(np.subtract.outer(depth, depth)))
    noise = rng.normal(0, 0.002, values.shape)
    made = packing.packed_symmetric(values + noise + noise.T)
    assert len(zlib.compress(made.tobytes(), 9)) < 60_000


def test_a_diverged_training_cannot_be_read(tmp_path):
    store = wsn.Store(tmp_path)
    wild = replace(RUN, training=replace(TRAINING, learning_rate=1e30))
    for run, read in (
        (replace(ORIGINS, experiment=wild), wsn.origin_results),
        (replace(PAIR, experiments=(RUN, wild)), wsn.output_results),
    ):
        with pytest.raises(KeyError):
            read(run, store=store)
        store.save(wsn.run(run))
        with pytest.raises(
            ValueError, match=f"the measurement {wsn.spec_key(run)} is 'diverged'; one whose tr"
        ):
            read(run, store=store)


def test_a_measurement_is_timed_once_whatever_its_seeds(monkeypatch):
    timed = []
    monkeypatch.setattr(durations, "_seconds_at_once", lambda *given, **_: timed.append(given) or 7.0)
    runs = [replace(ORIGINS, seed=s, experiment=replace(RUN, seed=t)) for s in (0, 1) for t in (0, 5)]
    longer = replace(ORIGINS, epochs=())
    three = replace(PAIR, experiments=(*PAIR.experiments, RUN))
    plans = experiments.plan_all([*runs, longer, PAIR, replace(PAIR, seed=3), three], device="cpu")
    assert [plan.seconds for plan in plans] == [7.0] * 5 + [20.0, 20.0, 30.0]
    assert len(timed) == 2


def test_the_time_of_a_measurement_is_its_training_s_and_twice_one_pass_of_all_images(monkeypatch):
    """Of 90 images 11 are timed; what there is to do with them grows as their number to the power of 1.5."""
    seen, clock = [], iter([100.0, 103.0])
    monkeypatch.setattr(durations, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(
        durations, "decompose_layers", lambda model, images, **_: seen.append(tuple(images.shape))
    )
    monkeypatch.setattr(durations, "seconds_per_run", lambda plan, data: 5.0 * len(data.test.labels))
    found = durations.seconds_per_measurement(ORIGINS, device="cpu")
    assert found == pytest.approx(5 * 90 + 2 * 3 * (90 / 11) ** 1.5)
    assert seen == [(11, 1, 8, 8)]


def test_the_time_of_a_measurement_grows_with_its_training():
    short = durations.seconds_per_measurement(ORIGINS, device="cpu")
    long = replace(ORIGINS, experiment=replace(RUN, training=replace(TRAINING, epochs=2_000_000)))
    assert durations.seconds_per_measurement(long, device="cpu") > 100 * short
