"""Trainings that are interrupted: resumed bit for bit, and no state is used that should not be."""

import time
import warnings
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from reliability import fault
from torch import nn

import wsnlib as wsn
from wsnlib import experiments, training
from wsnlib.experiments import plans, trainings
from wsnlib.experiments.kept import keep
from wsnlib.sparse import costs
from wsnlib.training import checkpoints

BASE = wsn.MLPSpec(width=5, inputs=64)
CNN = wsn.ResNetCifarSpec(depth=8, width_multiplier=0.125, num_classes=10, input_channels=1)


class Interrupted(Exception):
    """The training is stopped here, as a kill would."""


class File:
    """A file in memory that counts, and stops the training after a number of writes."""

    def __init__(self, most: int = 10**9) -> None:
        self.state, self.writes, self.most, self.aside = None, 0, most, []

    def read(self):
        return self.state

    def write(self, state):
        self.state, self.writes = state, self.writes + 1
        if self.writes == self.most:
            raise Interrupted

    def set_aside(self):
        self.aside.append(self.state)
        self.state = None
        return "damaged/it"


@pytest.fixture(autouse=True)
def every_epoch(monkeypatch):
    """Every epoch is kept, however fast the machine is."""
    monkeypatch.setattr(
        checkpoints.Checkpoint.__init__, "__kwdefaults__", {"commit": "", "seconds_between": 0.0}
    )


def run(model=BASE, *, epochs=5, **changes) -> wsn.Experiment:
    protocol = {"epochs": epochs, "momentum": 0.9, "schedule": wsn.Cosine(), "report": "best_validation"}
    data = wsn.Digits(validation_size=100, train_size=307)
    return wsn.Experiment(model=model, data=data, training=wsn.Training(**protocol | changes), seed=3)


def interrupted(experiment, *, after, **options):
    """The record of a training that was stopped after each of the numbers of epochs, and resumed."""
    file = File()
    for most in after:
        file.most, file.writes = most, 0
        with pytest.raises(Interrupted):
            wsn.run(experiment, device="cpu", file=lambda _: file, **options)
    file.most = 10**9
    return wsn.run(experiment, device="cpu", file=lambda _: file, **options)


CASES = {
    "dense": run(),
    "no momentum": run(momentum=0.0),
    "masked": run(wsn.StaticSparsity(BASE, width=10)),
    "native": run(wsn.StaticSparsity(wsn.ResNet18Spec(width=2, input_channels=1), width=8), epochs=4),
    "batch norm, augmented": run(CNN, augmentation=wsn.CropAndFlip(padding=1), batch_size=50, epochs=4),
    "bfloat16": run(CNN, precision="bfloat16", epochs=3),
    "evaluated now and then": run(evaluate_every=2, report="last"),
    "best on test": run(report="best_test", learning_rate=0.5),
}


@pytest.mark.parametrize("name", CASES)
def test_a_resumed_training_has_the_bits_of_one_that_was_not_interrupted(name, monkeypatch):
    monkeypatch.setattr(costs, "layer_ms", lambda timed, form: float(form != "sparse"))
    monkeypatch.setattr(costs, "elementwise_ns", lambda: costs.Elementwise(0.0, 0.0, 0.0))
    monkeypatch.setattr(plans, "FEWEST_OPERATIONS", 0.0)
    whole = wsn.run(CASES[name], device="cpu")
    assert (whole.environment["engine"] == "sparse") == (name == "native")
    resumed = interrupted(CASES[name], after=[2, 1] if CASES[name].training.epochs > 3 else [1])
    assert repr(resumed.history) == repr(whole.history)  # also where it is NaN
    assert np.array_equal(resumed.predictions, whole.predictions)
    assert (resumed.reported_epoch, resumed.train_accuracy, resumed.network) == (
        whole.reported_epoch,
        whole.train_accuracy,
        whole.network,
    )
    assert resumed.environment["resumed_after"] == ([2, 3] if CASES[name].training.epochs > 3 else [1])
    assert resumed.environment["resumed_from"] == [whole.environment["commit"]]
    assert {"resumed_after", "resumed_from"}.isdisjoint(whole.environment)


def test_a_state_of_a_network_that_has_changed_is_set_aside():
    digits, file = wsn.load_data(run().data), File(2)
    for width in (7, 9):
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, 10))
        before = net[1].weight.clone()
        checkpoint = wsn.training.Checkpoint(file, made_by={}, commit=f"at {width}")
        if width == 7:
            with pytest.raises(Interrupted):
                wsn.train(net, digits, run().training, seed=1, checkpoint=checkpoint)
            continue
        file.most = 10**9
        with pytest.warns(RuntimeWarning, match="a checkpoint cannot be used: it is of a network with other"):
            wsn.train(net, digits, run(epochs=1).training, seed=1, checkpoint=checkpoint)
        assert (
            len(file.aside) == 1 and checkpoint.resumed_after == [] and not torch.equal(net[1].weight, before)
        )


def test_the_weights_the_momenta_and_the_generators_are_put_back_bit_for_bit():
    digits = wsn.load_data(run().data)
    states = []
    for stops in ([], [1, 2]):
        file = File()
        for most in [*stops, 10**9]:
            file.most, file.writes = most, 0
            net = nn.Sequential(nn.Dropout(0.2), wsn.build(wsn.StaticSparsity(BASE, width=10), seed=1))
            checkpoint = wsn.training.Checkpoint(file, made_by={})
            try:
                wsn.train(net, digits, run().training, seed=1, checkpoint=checkpoint)
            except Interrupted:
                continue
        states.append(net.state_dict())
    whole, resumed = states
    assert list(whole) == list(resumed)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_state_with_positions_in_place_of_masks_is_resumed_bit_for_bit():
    experiment = CASES["masked"]
    file = File(2)
    with pytest.raises(Interrupted):
        wsn.run(experiment, device="cpu", file=lambda _: file)
    tensors = safetensors.torch.load(file.state)
    held = [name for name in tensors if name.endswith(".mask")]
    assert held == ["model.hidden1.parametrizations.weight.0.mask"]
    for name in held:
        positions = tensors.pop(name).flatten().nonzero().squeeze(1)
        tensors[name.replace(".mask", ".index")] = positions
    file.state, file.most = safetensors.torch.save(tensors), 10**9
    resumed = wsn.run(experiment, device="cpu", file=lambda _: file)
    assert resumed.environment["resumed_after"] == [2]
    assert resumed.history == wsn.run(experiment, device="cpu").history


def test_a_measurement_resumes_each_of_its_trainings():
    net = wsn.Experiment(
        model=CNN,
        data=wsn.Digits(train_size=103, normalisation="unit"),
        training=wsn.Training(epochs=3, batch_size=50, momentum=0.9),
    )
    both = wsn.OutputSimilarity([net, replace(net, seed=1)], num_images=53)
    whole = wsn.run(both, device="cpu")
    files = {0: File(), 1: File(2)}
    with pytest.raises(Interrupted):
        wsn.run(both, device="cpu", file=files.__getitem__)
    files[1].most = 10**9
    resumed = wsn.run(both, device="cpu", file=files.__getitem__)
    assert (files[0].writes, files[1].writes) == (3, 3)
    assert resumed.columns == whole.columns
    assert resumed.arrays.keys() == whole.arrays.keys() != set()
    assert all(np.array_equal(resumed.arrays[name], whole.arrays[name]) for name in whole.arrays)


def test_a_short_training_writes_nothing_and_a_long_one_at_the_end_of_an_epoch(monkeypatch):
    monkeypatch.setattr(checkpoints.Checkpoint.__init__, "__kwdefaults__", {"seconds_between": 60.0})
    file, clock = File(), iter([0.0, 30.0, 61.0, 62.0, 90.0, 123.0, 124.0, 130.0])
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: next(clock))
    wsn.run(run(), device="cpu", file=lambda _: file)
    assert file.writes == 2  # kept at 62 and 124, after epochs 2 and 4 of 5
    *_, epoch = [5]
    monkeypatch.undo()
    checkpoint = trainings.checkpoint_in(file, plans.plan(run(), device="cpu"), torch.device("cpu"), 1)
    net = wsn.build(BASE)
    digits = wsn.load_data(run().data)
    order, log = torch.Generator(), training.log.TrainingLog(run().training, digits)
    optimizer = training.steps.sgd(net, run().training)
    assert checkpoint.restore(net, optimizer, order, log) == 4 < epoch
    assert checkpoint.seconds_before == 123.0


@pytest.mark.parametrize("damage", ["torn", "bit-flipped", "meaningless"])
def test_a_damaged_state_is_named_set_aside_and_never_used(damage, tmp_path):
    experiment, store = run(), wsn.Store(tmp_path)
    file = store.checkpoint(experiment)
    with pytest.raises(Interrupted):
        wsn.run(experiment, device="cpu", file=lambda _: Stopping(file))
    path = next((tmp_path / "checkpoints").iterdir())
    data = bytearray(path.read_bytes())
    if damage == "torn":
        data = data[: len(data) // 2]
    elif damage == "bit-flipped":
        data[len(data) // 2] ^= 1
    else:
        file.write(b"something else")
        data = path.read_bytes()
    path.write_bytes(data)
    with fault(f"a {damage} checkpoint") as noted:
        with pytest.warns(RuntimeWarning, match=r"a checkpoint cannot be used: .*moved to .*damaged/.*anew"):
            record = wsn.run(experiment, device="cpu", file=lambda _: file)
        assert "resumed_after" not in record.environment
        whole = wsn.run(experiment, device="cpu")
        assert [p.read_bytes() for p in (tmp_path / "damaged").iterdir()] == [bytes(data)]
        noted(lost=int(record.history != whole.history), how="never used; trained anew to the same bits")


class Stopping:
    """Stops the training once its state is kept."""

    def __init__(self, file) -> None:
        self.read, self.set_aside, self.file = file.read, file.set_aside, file

    def write(self, state):
        self.file.write(state)
        raise Interrupted


@pytest.mark.parametrize("other", ["version", "torch", "deterministic", "run"])
def test_a_state_of_another_version_or_run_is_not_used(other, monkeypatch):
    file, experiment = File(2), run()
    with pytest.raises(Interrupted):
        wsn.run(experiment, device="cpu", file=lambda _: file)
    file.most = 10**9
    made = experiments.environment(torch.device("cpu"))
    changed = {"version": {"wsnlib": "0.0.1"}, "torch": {"torch": "1.0"}}.get(other, {})
    monkeypatch.setattr(trainings, "environment", lambda _: made | changed)
    if other == "run":
        experiment = replace(experiment, seed=4)
    torch.use_deterministic_algorithms(other == "deterministic")
    try:
        record = wsn.run(experiment, device="cpu", file=lambda _: file)
    finally:
        torch.use_deterministic_algorithms(False)
    assert "resumed_after" not in record.environment


@pytest.mark.parametrize("other", ["engine", "sparse layers", "threads"])
def test_a_state_of_another_engine_or_number_of_threads_is_not_used(other):
    experiment = run(wsn.StaticSparsity(BASE, width=10))
    plan = plans.plan(experiment, device="cpu")
    sparse = replace(plan, engine="sparse", sparse_layers=("hidden1",))
    first = sparse if other == "sparse layers" else plan
    then = {"engine": sparse, "sparse layers": replace(sparse, sparse_layers=())}.get(other, plan)
    file = File(2)
    with pytest.raises(Interrupted):
        experiments.run_planned(first, device="cpu", file=lambda _: file)
    file.most = 10**9
    threads = 2 if other == "threads" else 1
    (record,) = experiments.run_planned(then, device="cpu", file=lambda _: file, threads=threads)
    (whole,) = experiments.run_planned(then, device="cpu", threads=threads)
    assert "resumed_after" not in record.environment
    assert record.history == whole.history


@pytest.mark.parametrize("pair", [False, True])
def test_a_resumed_measurement_says_so_and_counts_the_seconds_of_both_parts(pair, monkeypatch):
    net = run(CNN, epochs=3, report="last")
    spec = wsn.BlockOrigins(net, num_images=53, epochs=(1,))
    if pair:
        spec = wsn.OutputSimilarity([net, replace(net, seed=1)], num_images=53)
    files = {0: File(), 1: File(2)} if pair else {0: File(2)}
    with pytest.raises(Interrupted):
        wsn.run(spec, device="cpu", file=files.__getitem__)
    files[max(files)].most = 10**9
    restore = checkpoints.Checkpoint.restore

    def after_an_hour(self, *state):
        done = restore(self, *state)
        self.seconds_before += 3600
        return done

    monkeypatch.setattr(checkpoints.Checkpoint, "restore", after_an_hour)
    made = wsn.run(spec, device="cpu", file=files.__getitem__).environment
    trainings = made["trainings"]
    assert [each["resumed_after"] for each in trainings] == ([[3], [2]] if pair else [[2]])
    assert [each["resumed_from"] for each in trainings] == [[made["commit"]]] * len(files)
    assert all(3600 <= each["seconds"] < 7200 for each in trainings)
    assert made["seconds"] == pytest.approx(
        sum(each["seconds"] for each in trainings) + made["seconds_measuring"], abs=0.02
    )
    assert 0 <= made["seconds_measuring"] < 3600
    assert "resumed_after" not in wsn.run(spec, device="cpu").environment["trainings"][0]


def test_seconds_of_both_parts_are_counted(monkeypatch):
    started = time.monotonic()
    record = interrupted(run(epochs=40), after=[30])
    alone = min(wsn.run(run(epochs=10), device="cpu").environment["seconds"] for _ in range(3))
    assert alone < record.environment["seconds"] <= time.monotonic() - started


def test_a_store_that_is_full_does_not_stop_a_training():
    class Full(File):
        def write(self, state):
            raise wsn.StoreError("the store cannot be written (No space left on device)")

    with pytest.warns(RuntimeWarning, match="a checkpoint was not kept: .*No space left"):
        record = wsn.run(run(epochs=2), device="cpu", file=lambda _: Full())
    assert record.status == "finished"


class Counting(nn.Linear):
    """A layer whose state is more than tensors."""

    def get_extra_state(self):
        return {"calls": 3}

    def set_extra_state(self, state):
        raise AssertionError


def test_a_network_whose_state_is_more_than_tensors_is_trained_and_not_kept():
    net, file = nn.Sequential(nn.Flatten(), Counting(64, 10)), File()
    said = "was not kept: the state of a network must be tensors, got a dict as 1._extra_state; give a tensor"
    checkpoint = wsn.training.Checkpoint(file, made_by={})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        outcome = wsn.train(net, wsn.load_data(run().data), run().training, seed=0, checkpoint=checkpoint)
    assert len(caught) == 1 and said in str(caught[0].message)
    assert outcome.status == "finished"
    with pytest.warns(RuntimeWarning, match=said):
        keep(file, net, outcome, also={}, made_by={}, how_trained={})
    assert file.state is None


def test_a_sweep_keeps_and_removes_checkpoints_on_its_own(tmp_path):
    store, experiment = wsn.Store(tmp_path), run()
    with pytest.raises(Interrupted):
        wsn.run(experiment, device="cpu", file=lambda part: Stopping(store.checkpoint(experiment, part=part)))
    assert store.under_way() == {wsn.spec_key(experiment)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert wsn.run_missing([experiment], store=store, progress=False, workers=1) == 1
    assert store.load(experiment).environment["resumed_after"] == [1]
    assert store.under_way() == set()
    assert list((tmp_path / "checkpoints").iterdir()) == []
