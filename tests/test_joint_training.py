"""Joint training: many networks at once, each as it would be alone."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import wsnlib as wsn
from wsnlib import experiments, masks, training
from wsnlib.experiments import durations, plans
from wsnlib.models import MLP
from wsnlib.sparse.tiles import LANES
from wsnlib.training.compiled import CompiledNetworks

BASE = wsn.MLPSpec(width=5, inputs=64)
WIDE = wsn.StaticSparsity(BASE, width=37)
RESNET = wsn.ResNet18Spec(width=2, input_channels=1)
DENSITIES = (0.2, 0.5, 0.9)


@pytest.fixture(scope="module")
def digits() -> wsn.data.Dataset:
    return wsn.load_data(wsn.Digits(validation_size=200))


def protocol(**changes) -> wsn.Training:
    return wsn.Training(**({"epochs": 4, "batch_size": 113} | changes))


def assert_as_alone(models, data, protocols, seeds) -> list:
    alone = [copy.deepcopy(model) for model in models]
    expected = [
        training.train(net, data, p, seed=s) for net, p, s in zip(alone, protocols, seeds, strict=True)
    ]
    found = wsn.training.train_jointly(models, data, protocols, seeds=seeds)
    for a, b in zip(found, expected, strict=True):
        assert (a.status, a.reported_epoch) == (b.status, b.reported_epoch)
        assert list(a.history) == list(b.history)
        if b.status == "diverged":  # what overflows first depends on the order of sums
            assert [len(v) for v in a.history.values()] == [len(v) for v in b.history.values()]
            assert not np.isfinite(a.history["train_loss"][-1])
            continue
        for name in a.history:
            tolerance = (
                {"rel": 1e-4, "nan_ok": True} if name.endswith("loss") else {"abs": 0.003, "nan_ok": True}
            )
            assert a.history[name] == pytest.approx(b.history[name], **tolerance), name
        assert a.train_accuracy == pytest.approx(b.train_accuracy, abs=0.003)
        assert (a.predictions == b.predictions).double().mean() > 0.99
        assert a.predictions.dtype == b.predictions.dtype
    for net, reference, outcome in zip(models, alone, found, strict=True):
        for p, q in zip(net.parameters(), reference.parameters(), strict=True):
            if outcome.status == "finished":
                torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-4)
    return found


@pytest.mark.parametrize(
    "changes",
    [{}, {"hidden_layers": 3}, {"activation": "linear", "bias": False}, {"parametrisation": "ntk"}],
    ids=str,
)
@pytest.mark.parametrize("width", [5, 37, 300])
def test_a_compiled_step_is_the_gradient_in_double_precision(digits, changes, width):
    base = replace(BASE, **changes)
    spec = base if width == 5 else wsn.StaticSparsity(base, width=width)
    net, rate, size = wsn.build(spec, seed=1), 0.25, 43
    exact = copy.deepcopy(net).double()
    data = replace(digits, train=digits.train.take(torch.arange(size)))
    wsn.training.train_jointly(
        [net], data, [protocol(epochs=1, batch_size=50, learning_rate=rate)], seeds=[0]
    )
    x = digits.normalise(data.train.images).double()
    F.cross_entropy(exact(x), data.train.labels).backward()
    for found, start in zip(net.parameters(), exact.parameters(), strict=True):
        step = (start.detach() - found.double()) / rate
        torch.testing.assert_close(step, start.grad, rtol=1e-4, atol=1e-5 * float(start.grad.abs().max() + 1))


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("seeds", [[0, 0, 0], [0, 1, 2], [5, 3, 5]])
def test_seeds_masks_and_rates_train_as_they_do_alone(digits, seeds, native):
    rates = [0.05, 0.1, 0.3]
    specs = [replace(WIDE, allocation=wsn.LastLayerDensity(density=d)) for d in DENSITIES]
    models = [wsn.build(spec, seed=s) for spec, s in zip(specs, (0, 1, 2), strict=True)]
    if native:
        models = [wsn.to_sparse(model) for model in models]
    protocols = [protocol(learning_rate=r, momentum=0.9, weight_decay=1e-3) for r in rates]
    found = assert_as_alone(models, digits, protocols, seeds)
    assert len({tuple(outcome.history["train_loss"]) for outcome in found}) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_layers": 3},
        {"activation": "linear", "bias": False},
        {"parametrisation": "ntk"},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["dense", "masked", "native", "mixed"])
def test_every_kind_of_mlp_trains_as_it_does_alone(digits, changes, kind):
    base = replace(BASE, **changes)
    spec = replace(base, width=11) if kind == "dense" else wsn.StaticSparsity(base, width=37)
    models = [wsn.build(spec, seed=seed) for seed in range(2)]
    if kind in ("native", "mixed"):
        wsn.to_sparse(models[0])
    if kind == "native":
        wsn.to_sparse(models[1])
    rate = 1.0 if "parametrisation" in changes else 0.1
    assert_as_alone(models, digits, [protocol(learning_rate=rate)] * 2, [0, 1])


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": wsn.OneCycle()},
        {"schedule": wsn.Cosine(), "evaluate_every": 3},
        {"report": "best_validation"},
        {"report": "best_test", "augmentation": wsn.CropAndFlip(padding=1)},
    ],
    ids=str,
)
def test_schedules_reports_and_augmentation_are_those_of_training_alone(digits, changes):
    models = [wsn.build(WIDE, seed=seed) for seed in range(3)]
    assert_as_alone(models, digits, [protocol(**changes)] * 3, [0, 1, 1])


def test_no_batch_is_larger_than_the_training_set(digits):
    whole, larger = ([protocol(batch_size=size)] for size in (len(digits.train.labels), 100_000))
    first, second = (wsn.build(WIDE) for _ in range(2))
    members = CompiledNetworks([first], digits, larger, [0])
    assert members.h.shape[1] == members.g.shape[1] < len(digits.train.labels) + LANES
    (one,) = wsn.training.train_jointly([first], digits, whole, seeds=[0])
    (other,) = wsn.training.train_jointly([second], digits, larger, seeds=[0])
    assert one.history == other.history
    assert all(torch.equal(p, q) for p, q in zip(first.parameters(), second.parameters(), strict=True))


def test_each_pixel_may_have_its_own_mean_and_deviation():
    data = wsn.load_data(wsn.Digits(normalisation="pixelwise"))
    assert data.std.unique().numel() > 30
    assert_as_alone([wsn.build(WIDE, seed=seed) for seed in range(2)], data, [protocol()] * 2, [0, 1])


def test_a_member_that_diverges_leaves_the_others_alone(digits):
    models = [wsn.to_sparse(wsn.build(WIDE, seed=seed)) for seed in range(3)]
    protocols = [protocol(learning_rate=rate) for rate in (0.1, 1e20, 0.2)]
    found = assert_as_alone(models, digits, protocols, [0, 0, 1])
    assert [outcome.status for outcome in found] == ["finished", "diverged", "finished"]
    assert len(found[1].history["train_loss"]) < 4
    assert len({len(values) for values in found[1].history.values()}) == 1
    assert np.isnan(found[1].history["test_accuracy"][-1])
    alone = wsn.training.train_jointly([wsn.build(WIDE)], digits, [protocol(learning_rate=1e20)], seeds=[0])
    assert alone[0].status == "diverged"


def test_choosing_on_validation_needs_validation_images():
    data, protocols = wsn.load_data(wsn.Digits()), [protocol(report="best_validation")]
    with pytest.raises(ValueError, match="there is no validation split"):
        wsn.training.train_jointly([wsn.build(WIDE)], data, protocols, seeds=[0])


def test_a_member_does_not_depend_on_the_others(digits):
    def trained(seeds, *, rate=0.1):
        models = [wsn.to_sparse(wsn.build(WIDE, seed=s)) for s in seeds]
        protocols = [protocol(), *(protocol(learning_rate=rate) for _ in seeds[1:])]
        return wsn.training.train_jointly(models, digits, protocols, seeds=seeds)

    first, second = trained([0, 1]), trained([0, 0, 8], rate=1e20)
    assert second[1].status == "diverged"
    assert first[0].history == second[0].history
    assert (first[0].predictions == second[0].predictions).all()


def test_unequal_members_are_refused(digits):
    net, other = wsn.build(WIDE), wsn.build(replace(WIDE, width=41))
    for models, protocols, seeds, message in (
        ([net, other], [protocol()] * 2, [0, 1], "the networks must have one shape, got 2"),
        ([net], [protocol()], [0, 1], "one of each for every network, got 1, 1 and 2"),
        ([], [], [], "one of each for every network, got 0, 0 and 0"),
        ([nn.Linear(64, 10)], [protocol()], [0], "networks must be MLPs, got a Linear"),
        ([net] * 2, [protocol(), protocol(epochs=5)], [0, 1], "must differ in the learning rate alone"),
        (
            [net],
            [protocol(weight_decay_on="weights")],
            [0],
            "weight_decay_on must be 'all' .*, got 'weights' and 'float32'",
        ),
        ([net], [protocol(precision="bfloat16")], [0], "got 'all' and 'bfloat16'"),
    ):
        with pytest.raises(ValueError, match=message):
            wsn.training.train_jointly(models, digits, protocols, seeds=seeds)


def test_what_does_not_fit_the_data_is_refused(digits):
    x, y = digits.test
    flat, shifted = wsn.data.Split(x.view(-1, 1, 4, 16), y), wsn.data.Split(x, y + 5)
    bottleneck = wsn.linear_bottleneck(wsn.build(BASE), sizes={"hidden1": 2}, generator=torch.Generator())
    for net, data, message in (
        (MLP(16, inputs=784), digits, "must take 64 numbers and give 10, .*, got 784 and 10; make"),
        (MLP(16, inputs=60), digits, "must take 64 numbers and give 10, .*, got 60 and 10; make"),
        (MLP(16, inputs=64, outputs=5), digits, "must take 64 numbers and give 10, .*, got 64 and 5; make"),
        (wsn.build(BASE), replace(digits, train=shifted), "labels must be torch.int64 of 0 to 9"),
        (wsn.build(BASE), replace(digits, test=flat), r"of one shape, got .*\(1, 4, 16\).*; resize"),
        (bottleneck, digits, "must be Linear, ReLU and Identity .*, got a Sequential in hidden1; train"),
    ):
        with pytest.raises((ValueError, wsn.DataError), match=message):
            wsn.training.train_jointly([net], data, [protocol(epochs=1)], seeds=[0])


class Centred(MLP):
    def forward(self, x):
        hidden = self.activation1(self.hidden1(x.flatten(1)))
        return self.output(hidden - hidden.mean(1, keepdim=True))


class Squared(nn.Linear):
    def forward(self, x):
        return F.linear(x, self.weight**2, self.bias)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda net: setattr(net, "__class__", Centred), "must be MLPs, got a Centred; train it alone"),
        (lambda net: setattr(net, "output", Squared(16, 10)), "ReLU and .*, got a Squared in output; train"),
        (
            lambda net: parametrizations.weight_norm(net.output),
            "and nothing else, .* in output; train it alo",
        ),
        (
            lambda net: parametrize.register_parametrization(net.hidden1, "bias", nn.Identity()),
            "weights must be parameters or masked, .*, got others that are computed in hidden1; train",
        ),
        (
            lambda net: parametrize.register_parametrization(
                masks.sparsify(net, num_weights=99, generator=torch.Generator()).output, "weight", nn.ReLU()
            ),
            "weights must be parameters or masked, .*, got others that are computed in output; train",
        ),
        (
            lambda net: prune.random_unstructured(net.hidden2, "weight", amount=0.9),
            "networks must have no hooks for joint training, got some in hidden2; train it alone",
        ),
        (lambda net: net.register_forward_hook(print), "must have no hooks .*, got some in the network; tra"),
        (
            lambda net: setattr(net, "activation1", nn.Identity()),
            "one activation between them, .*, got Linear, Identity, Linear, ReLU, Linear; train it alone",
        ),
        (
            lambda net: net.add_module("last", nn.ReLU()),
            "got Linear, ReLU, Linear, ReLU, Linear, ReLU; train",
        ),
    ],
)
def test_what_computes_anything_else_is_refused(digits, change, message):
    net = MLP(16, inputs=64, hidden_layers=2)
    change(net)
    with pytest.raises(ValueError, match=message):
        wsn.training.train_jointly([net], digits, [protocol(epochs=1)], seeds=[0])


def test_weights_are_trained_however_they_lie_in_memory(digits):
    nets = [wsn.build(BASE), wsn.build(BASE)]
    nets[1].output.weight.data = nets[1].output.weight.data.t().contiguous().t()
    wsn.training.train_jointly(nets, digits, [protocol(epochs=1)] * 2, seeds=[0, 0])
    assert torch.equal(nets[0].output.weight, nets[1].output.weight)


def test_frozen_parameters_are_refused_and_networks_left_in_evaluation_mode(digits):
    net = wsn.to_sparse(wsn.build(WIDE))
    wsn.training.train_jointly([net], digits, [protocol(epochs=1)], seeds=[0])
    assert not any(module.training for module in net.modules())
    net.output.bias.requires_grad_(False)
    with pytest.raises(ValueError, match="must be trained .*, got output.bias frozen; train it alone"):
        wsn.training.train_jointly([net], digits, [protocol(epochs=1)], seeds=[0])


# -- in sweeps --


def run(width: int = 37, seed: int = 0, rate: float = 0.1, **changes) -> wsn.Experiment:
    model = wsn.StaticSparsity(BASE, width=width)
    training = protocol(learning_rate=rate, **changes)
    return wsn.Experiment(model=model, data=wsn.Digits(validation_size=200), training=training, seed=seed)


def test_a_sweep_trains_jointly_and_every_run_has_the_record_it_would_have_alone(tmp_path, monkeypatch):
    runs = [run(width=w, seed=s, rate=r) for w in (10, 37) for s in (0, 1) for r in (0.1, 0.2)]
    runs.append(replace(run(), model=replace(WIDE, allocation=wsn.LastLayerDensity(density=0.2))))
    runs.append(replace(run(), model=wsn.LinearBottleneck(BASE, width=37)))
    alone, together = wsn.Store(tmp_path / "alone"), wsn.Store(tmp_path / "together")
    monkeypatch.setattr(plans, "FEWEST_COMPILED_STEPS", 1)
    monkeypatch.setattr(durations, "seconds_per_run", lambda *_: 0.1)
    wsn.run_missing(runs, store=alone, workers=1, progress=False)
    monkeypatch.setattr(durations, "seconds_per_run", lambda *_: 20.0)
    assert wsn.run_missing(runs, store=together, workers=1, progress=False) == len(runs)
    sizes = [together.load(r).environment.get("fleet", 1) for r in runs]
    assert sizes == [4] * 4 + [5] * 5 + [1]
    for each in runs:
        a, b = alone.load(each), together.load(each)
        assert (a.key, a.status, a.reported_epoch, a.network) == (
            b.key,
            b.status,
            b.reported_epoch,
            b.network,
        )
        assert a.history == b.history
        assert (a.predictions == b.predictions).all()
        assert set(b.environment) - set(a.environment) <= {"fleet"}


def test_long_runs_are_compiled_and_the_record_says_so(tmp_path, monkeypatch):
    runs = [run(seed=s, rate=r) for s in (0, 1) for r in (0.1, 0.2)]
    assert "compiled" not in wsn.run(runs[0], device="cpu").environment
    monkeypatch.setattr(plans, "FEWEST_COMPILED_STEPS", 1)
    monkeypatch.setattr(durations, "seconds_per_run", lambda *_: 20.0)
    store = wsn.Store(tmp_path)
    wsn.run_missing(runs, store=store, workers=1, progress=False)
    for each in runs:
        alone, together = wsn.run(each, device="cpu"), store.load(each)
        assert alone.environment["compiled"] == together.environment["compiled"]
        assert alone.environment["compiled"].startswith("numba ")
        assert wsn.store.record_from_json(alone.to_json()).history == together.history
        assert (alone.predictions == together.predictions).all()
    for other in (
        replace(runs[0], model=RESNET),
        replace(runs[0], training=protocol(weight_decay_on="weights")),
    ):
        assert "compiled" not in wsn.run(other, device="cpu").environment


def test_what_a_compiled_run_takes_is_estimated(digits, monkeypatch):
    """From 200 steps, without what comes once: here 5 seconds, and 0.25 for a step; the second try is held up."""
    now, really, held_up = [0.0], training.train_jointly, iter([0, 1000])

    def train_jointly(models, data, protocols, **given):
        now[0] += next(held_up, 0) + 5 + 0.25 * -(-len(data.train.labels) // protocols[0].batch_size)
        return really(models, data, protocols, **given)

    monkeypatch.setattr(plans, "FEWEST_COMPILED_STEPS", 1)
    monkeypatch.setattr(training, "train", None)
    monkeypatch.setattr(training, "train_jointly", train_jointly)
    monkeypatch.setattr(durations.time, "perf_counter", lambda: now[0])
    spec = replace(run(), training=protocol(epochs=1000, batch_size=100, evaluate_every=10))
    plan = experiments.plan(spec, device="cpu")
    train, others = len(digits.train.labels), len(digits.test.labels) + len(digits.validation.labels)
    assert (train, others) == (1237, 560)
    expected = 1000 * 13 * 0.25 + (100 * others + train) * 0.25 / 100
    assert durations.seconds_per_run(plan, digits) == pytest.approx(expected)


def alone(runs, **changes) -> list[experiments.Plan]:
    given = {"device": "cpu", "engine": "compiled", "why": "", "seconds": 20.0} | changes
    return [experiments.Plan(runs=(each,), **given) for each in runs]


@pytest.mark.parametrize(
    ("runs", "options", "sizes"),
    [
        ([run(seed=s) for s in range(5)], {}, [5]),
        ([run(seed=s) for s in range(5)], {"workers": 2}, [3, 2]),
        ([run(seed=s) for s in range(5)], {"seconds": 1.9}, [1] * 5),
        ([run(seed=s) for s in range(5)], {"engine": "masked"}, [1] * 5),
        ([run(seed=s) for s in range(5)], {"seconds": 400.0}, [2, 2, 1]),
        ([run(seed=s) for s in range(40)], {}, [16, 16, 8]),
        ([run(width=1500, seed=s) for s in range(7)], {}, [3, 3, 1]),
        ([run(width=w) for w in (5, 37, 5, 41)], {}, [2, 1, 1]),
        ([run(), run(epochs=5), run(seed=1, rate=0.7)], {}, [2, 1]),
        ([run(weight_decay_on="weights"), run(weight_decay_on="weights", seed=1)], {}, [1, 1]),
    ],
)
def test_runs_of_one_shape_and_protocol_are_together_and_others_are_split(runs, options, sizes):
    workers = options.pop("workers", 1)
    work = experiments.planned_jointly(alone(runs, **options), workers=workers)
    assert [len(plan.runs) for plan in work] == sizes
    assert sorted(wsn.spec_key(r) for plan in work for r in plan.runs) == sorted(map(wsn.spec_key, runs))
    assert sum(plan.seconds for plan in work) == pytest.approx(len(runs) * options.get("seconds", 20.0))


def test_members_with_one_seed_are_together():
    runs = [run(seed=s, rate=r) for r in (0.1, 0.2) for s in (0, 1)]
    work = experiments.planned_jointly(alone(runs), workers=2)
    assert [[r.seed for r in plan.runs] for plan in work] == [[0, 0], [1, 1]]


def test_joint_training_that_fails_fails_for_each_of_its_runs(tmp_path, monkeypatch):
    def fail(plan, **options):
        if len(plan.runs) > 1:
            raise RuntimeError("no more")
        return run_planned(plan, **options)

    run_planned = experiments.run_planned
    monkeypatch.setattr(plans, "FEWEST_COMPILED_STEPS", 1)
    monkeypatch.setattr(experiments, "run_planned", fail)
    monkeypatch.setattr(durations, "seconds_per_run", lambda *_: 20.0)
    runs = [*(run(seed=s) for s in range(3)), run(width=41)]
    with pytest.raises(wsn.SweepError, match="3 of 4 runs failed, the others are stored; .* no more"):
        wsn.run_missing(runs, store=wsn.Store(tmp_path), workers=1, progress=False)
    with pytest.raises(wsn.SweepError, match="3 of 3 runs failed"):
        wsn.run_missing(runs, store=wsn.Store(tmp_path), workers=1, progress=False)


def test_runs_that_are_not_alike_are_not_trained_jointly():
    for other, keys in (
        (run(width=41), 2),
        (replace(run(), model=RESNET), 2),
        (wsn.ExampleLabels(data=wsn.Digits()), 2),
    ):
        with pytest.raises(
            ValueError, match=f"one shape and protocol, got 2 with {keys} shapes or protocols; make a"
        ):
            experiments.Plan(runs=(run(), other), device="cpu", engine="dense", why="")
    with pytest.raises(ValueError, match="engine of several runs must be 'compiled', got 'masked'; make a"):
        experiments.Plan(runs=(run(), run(seed=1)), device="cpu", engine="masked", why="")
