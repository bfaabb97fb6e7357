"""What is measured of trained networks' layers, through a record and back."""

import copy
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch

import wsnlib as wsn
from wsnlib import experiments, layers
from wsnlib.experiments import durations
from wsnlib.layers import packing
from wsnlib.training import Checkpoint

TRAINING = wsn.Training(epochs=4, batch_size=30, learning_rate=0.05, momentum=0.9)
NET = wsn.ResNetCifarSpec(depth=8, width_multiplier=0.25, input_channels=1, norm_momentum=0.1)
DATA = wsn.Digits(train_size=60, validation_size=20, normalisation="unit")
RUN = wsn.Experiment(model=NET, data=DATA, training=TRAINING, seed=3)
SIZE = {"num_images": 90, "batch_size": 45, "passes": 2}
SPEC = wsn.LayerSimilarity(RUN, **SIZE, num_component_images=60, probes=True, seed=1)
OTHERS = wsn.NetworkSimilarity(
    [RUN, replace(RUN, model=replace(NET, residual=False), data=replace(DATA, normalisation="standardise"))],
    **SIZE,
    seed=1,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = wsn.Store(tmp_path_factory.mktemp("store"))
    wsn.run_missing([SPEC, OTHERS], store=store, progress=False, workers=1)
    return store


@pytest.fixture(scope="module")
def found(store):
    return wsn.layer_results(SPEC, store=store)


@pytest.fixture(scope="module")
def trained():
    """The network and its data, with the measured images as test images."""
    data = wsn.load_data(DATA)
    data = replace(data, test=data.test.take(layers.measured_examples(data.test, SPEC)))
    model = wsn.build(NET, seed=3)
    with experiments.cpu_threads(1):
        wsn.train(model, data, TRAINING, seed=3)
    return model, data


def test_the_matrices_are_those_of_the_trained_network(found, trained):
    model, data = trained
    options = {"batch_size": 45, "passes": 2, "seed": 1, "prepare": data.normalise}
    expected = wsn.cka_matrix(model, data.test.images, **options)
    rest = wsn.cka_matrix(model, data.test.images, without_component=True, **options)
    assert found.layers == expected.rows
    assert np.allclose(found.cka, expected.values, atol=1e-4)
    assert np.allclose(found.cka_without_component, rest.values, atol=1e-4)
    off_diagonal = ~np.eye(len(found.layers), dtype=bool)
    assert found.standard_error == pytest.approx(expected.standard_errors[off_diagonal].max(), rel=1e-2)
    weighted = wsn.cka_matrix(model, data.test.images, weighting="paper", **options)
    assert np.allclose(weighted.values, expected.values)  # all batches have one size


def test_components_are_those_of_the_trained_network(found, trained):
    model, data = trained
    late = [name for name in found.layers if name[:6] in ("stage2", "stage3")]
    c = wsn.representations.first_components(model, data.test.images[:60], joint=late, prepare=data.normalise)
    assert np.allclose(found.shares, c.shares, atol=1e-4)
    assert found.joint_share == pytest.approx(c.joint_share, rel=1e-4)
    i, j = found.layers.index("stage1.block1.add"), found.layers.index("stage3.block1.norm2")
    assert found.component_similarity[i, j] == pytest.approx(
        np.corrcoef(c.projections[i], c.projections[j])[0, 1] ** 2, abs=2e-4
    )
    sparsity = wsn.representations.activation_sparsity(model, data.test.images, prepare=data.normalise)
    assert found.sparsity == pytest.approx(sparsity, abs=1e-4)


def test_deletions_and_probes_are_those_of_the_trained_network(trained, found):
    model, data = trained
    assert found.test_accuracy == pytest.approx(wsn.evaluate(model, data, data.test).accuracy)
    assert found.train_accuracy == pytest.approx(wsn.evaluate(model, data, data.train).accuracy)
    assert found.deletions == {}  # one block a stage: none can go
    with experiments.cpu_threads(1):
        probes = wsn.probes.linear_probes(model, data)
    assert found.probes == pytest.approx({name: probe.test_accuracy for name, probe in probes.items()})
    assert found.num_weights == wsn.num_weights(model)


def test_blocks_are_deleted_from_the_end_of_each_stage():
    data = wsn.load_data(wsn.Digits(train_size=100, normalisation="unit"))
    model = wsn.build(replace(NET, depth=20))
    deleted, accuracies = layers.similarity.deletion_accuracies(model, data)
    first = ["stage1.block3"], ["stage1.block2", "stage1.block3"]
    assert (len(deleted), *deleted[:2]) == (6, *first)
    with wsn.representations.deleted_blocks(model, first[1]):
        assert accuracies[1] == wsn.evaluate(model, data, data.test).accuracy
    assert layers.similarity.deletion_accuracies(wsn.build(replace(NET, residual=False)), data) == ([], [])


def test_networks_without_residual_connections_are_probed_before_where_the_addition_would_be():
    data = wsn.load_data(replace(DATA, train_size=50))
    data = replace(data, test=data.test.take(torch.arange(50)))
    with experiments.cpu_threads(1):
        found = layers.similarity.probe_accuracies(wsn.build(replace(NET, residual=False)), data)
    assert list(found) == [f"stage{i}.block1.norm2" for i in (1, 2, 3)]


def test_layers_are_found_by_the_end_of_their_name(found):
    assert [found.layers[i] for i in found.index("add")] == [f"stage{i}.block1.add" for i in (1, 2, 3)]
    assert found.index("relu") == [found.layers.index("relu")]


def test_projections_are_those_of_the_trained_network_image_by_image(store, trained):
    model, data = trained
    spec = wsn.ComponentProjections(RUN, layers=["pool", "stage1.block1.add"], num_images=90, seed=1)
    wsn.run_missing([spec], store=store, progress=False, workers=1)
    table = wsn.component_projections(spec, store=store)
    assert list(table) == ["example", "label", "brightness", "stage1.block1.add", "pool"]
    assert table.dtypes["example"].kind == table.dtypes["label"].kind == "i"
    whole = wsn.load_data(DATA).test
    assert torch.equal(whole.images[table["example"].tolist()], data.test.images)
    assert table["label"].tolist() == data.test.labels.tolist()
    brightness = whole.images[table["example"].tolist()].double().mean((1, 2, 3)) / 255
    np.testing.assert_allclose(table["brightness"], brightness, atol=1e-4)
    found = wsn.representations.first_components(
        model, data.test.images, layers=spec.layers, prepare=data.normalise
    )
    for name, values in zip(found.layers, found.projections, strict=True):
        np.testing.assert_allclose(table[name], values / values.std(), atol=1e-3)
    assert store.load(spec).names["shares"] == pytest.approx(found.shares.tolist(), abs=1e-3)
    assert store.load(spec).names["num_weights"] == [wsn.num_weights(model)]


def test_a_layer_that_is_not_there_is_named_before_the_training(monkeypatch):
    monkeypatch.setattr(experiments.measurements, "trained", lambda *given, **_: pytest.fail("trained"))
    with pytest.raises(ValueError, match=r"'stage1.block1.plus' is not a layer .*; did you mean"):
        wsn.run(wsn.ComponentProjections(RUN, layers=["stage1.block1.plus"], num_images=90))


def test_projections_of_a_layer_that_does_not_vary_are_not_numbers():
    class Constant(torch.nn.Module):
        def forward(self, x):
            return torch.ones(len(x), 3)

    net = torch.nn.Sequential(Constant(), torch.nn.Linear(3, 2))
    data = wsn.load_data(DATA)
    spec = wsn.ComponentProjections(RUN, layers=["0"])
    columns, names = layers.measure_projections(net, data, data.test.images, torch.arange(360), spec)
    assert np.isnan(columns["0"]).all() and np.isnan(names["shares"]).all()


def test_every_pair_of_networks_is_compared_on_the_same_images(store, found):
    result = wsn.network_results(OTHERS, store=store)
    assert set(result.cka) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert result.layers[0] == found.layers
    assert np.allclose(result.cka[0, 0], found.cka, atol=2e-4)
    assert result.cka[0, 1].shape == (len(result.layers[0]), len(result.layers[1]))
    assert np.array_equal(result.cka[0, 1], result.cka[1, 0].T)
    assert result.test_accuracies[0] == found.test_accuracy
    # the input of the second is that of the first, shifted and scaled: one representation
    assert result.cka[0, 1][0, 0] == pytest.approx(1, abs=1e-4)


def test_measured_images_are_balanced_and_drawn_by_the_seed():
    test = wsn.load_data(DATA).test
    one, again, other = (layers.measured_examples(test, replace(SPEC, seed=s)) for s in (1, 1, 2))
    assert test.labels[one].bincount().tolist() == [9] * 10
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(layers.measured_examples(test, replace(SPEC, num_images=None)), torch.arange(360))
    with pytest.raises(wsn.DataError, match="num_images must be at most the 360 test images, got 361"):
        layers.measured_examples(test, replace(SPEC, num_images=361))


def test_a_layer_that_does_not_vary_is_nan_in_its_row_and_column_only():
    values = layers.similarity._symmetric([0.5, np.nan, 0.25, np.nan, 0.75, np.nan], 4)
    assert np.isnan(values[2]).all()
    assert np.isnan(values[:, 2]).all()
    kept = np.ix_([0, 1, 3], [0, 1, 3])
    assert values[kept].tolist() == [[1, 0.5, 0.25], [0.5, 1, 0.75], [0.25, 0.75, 1]]
    assert layers.similarity._upper(values[kept]) == [0.5, 0.25, 0.75]


# -- the origins of blocks --

SMALL = replace(NET, depth=14)
ORIGINS = wsn.BlockOrigins(
    replace(RUN, model=SMALL),
    epochs=(0, 2),
    num_images=90,
    num_removed=7,
    num_rotated=41,
    probes=True,
    seed=1,
)
PAIR = wsn.OutputSimilarity([ORIGINS.experiment, replace(RUN, model=SMALL, seed=4)], num_images=90, seed=1)
OUTPUTS = ["relu", *(f"stage{s}.block{b}.relu2" for s in (1, 2, 3) for b in (1, 2))]


@pytest.fixture(scope="module")
def moments():
    """The data with the measured images as test images, and the network after 0, 2 and all epochs."""
    data = wsn.load_data(DATA)
    data = replace(data, test=data.test.take(layers.measured_examples(data.test, ORIGINS)))
    found = {}

    def observe(epoch, model):
        found[epoch] = copy.deepcopy(model)

    with experiments.cpu_threads(1):
        wsn.train(wsn.build(SMALL, seed=3), data, TRAINING, seed=3, observe=observe)
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
    c = wsn.representations.first_components(found[4], data.test.images, joint=late, prepare=data.normalise)
    at = [c.layers.index(name) for name in OUTPUTS]
    u = c.projections / np.linalg.norm(c.projections, axis=1, keepdims=True)
    np.testing.assert_allclose(origins.shares, c.shares, atol=6e-4)
    assert origins.joint_share == pytest.approx(c.joint_share, rel=1e-4)
    np.testing.assert_allclose(origins.directions, u[at], atol=6e-4)
    np.testing.assert_allclose(origins.component_similarity, c.cosines[np.ix_(at, at)], atol=5e-3)
    dominance = c.shares[at] @ u[at] ** 2 / c.shares[at].sum()
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


def test_origins_hold_the_images_and_how_well_the_network_does(origins, moments):
    data, found = moments
    whole = wsn.load_data(DATA).test
    assert torch.equal(whole.images[origins.examples], data.test.images)
    assert origins.labels.tolist() == data.test.labels.tolist()
    pixels = data.test.images.double() / 255
    np.testing.assert_allclose(origins.brightness, pixels.mean((1, 2, 3)), atol=6e-4)
    inside = torch.zeros(pixels.shape[2:], dtype=bool)
    inside[1:-1, 1:-1] = True
    np.testing.assert_allclose(origins.border, pixels[:, :, ~inside].mean((1, 2)), atol=6e-4)
    assert origins.train_accuracy == pytest.approx(wsn.evaluate(found[4], data, data.train).accuracy)
    sparsity = wsn.representations.activation_sparsity(found[4], data.test.images, prepare=data.normalise)
    assert origins.sparsity == pytest.approx(sparsity, abs=6e-4)
    assert len(origins.probes) == 12
    with wsn.representations.deleted_blocks(found[4], ["stage2.block2"]):
        expected = wsn.evaluate(found[4], data, data.test).accuracy
    assert origins.deletions["stage2.block2",] == pytest.approx(expected)


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
        (wsn.LayerSimilarity(wild, **SIZE), wsn.layer_results),
        (wsn.NetworkSimilarity([RUN, wild], **SIZE), wsn.network_results),
        (wsn.ComponentProjections(wild, layers=["pool"]), wsn.component_projections),
    ):
        store.save(wsn.run(run))
        with pytest.raises(
            ValueError, match=f"the measurement {wsn.spec_key(run)} is 'diverged'; one whose tr"
        ):
            read(run, store=store)


def test_a_measurement_is_timed_once_whatever_its_seeds(monkeypatch):
    timed = []
    monkeypatch.setattr(durations, "_seconds_per_network", lambda *given, **_: timed.append(given) or 7.0)
    runs = [replace(SPEC, seed=s, experiment=replace(RUN, seed=t)) for s in (0, 1) for t in (0, 5)]
    plans = experiments.plan_all([*runs, OTHERS, replace(OTHERS, seed=3)], device="cpu")
    assert [plan.seconds for plan in plans] == [7.0] * 4 + [14.0] * 2
    assert len(timed) == 3


def test_projections_take_as_long_as_their_training(monkeypatch):
    monkeypatch.setattr(durations, "seconds_per_run", lambda plan, data: plan.runs[0].training.epochs)
    runs = [wsn.ComponentProjections(replace(RUN, seed=s), layers=["pool"], seed=s) for s in (0, 1)]
    assert [plan.seconds for plan in experiments.plan_all(runs, device="cpu")] == [4, 4]


def test_the_time_of_a_measurement_grows_with_its_training_and_its_passes():
    short = durations.seconds_per_measurement(SPEC, device="cpu")
    long = replace(SPEC, experiment=replace(RUN, training=replace(TRAINING, epochs=20_000)))
    assert durations.seconds_per_measurement(long, device="cpu") > 100 * short
    assert durations.seconds_per_measurement(replace(SPEC, passes=20_000), device="cpu") > 100 * short
