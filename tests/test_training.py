"""Training: it learns, it is reproducible, it reports what the protocol says."""

import copy
import gc
import math
import random
import re
import warnings
import weakref
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import wsnlib as wsn
from wsnlib import training
from wsnlib.training import log, loop, schedules, steps


@pytest.fixture(scope="module")
def digits() -> wsn.data.Dataset:
    return wsn.load_data(wsn.Digits(validation_size=200))


def classifier(seed: int = 0) -> nn.Module:
    return wsn.build(wsn.MLPSpec(width=16, inputs=64), seed=seed)


def protocol(**changes) -> wsn.Training:
    return wsn.Training(**({"epochs": 3} | changes))


def test_one_step_of_a_whole_batch_is_gradient_descent(digits):
    n = len(digits.train.labels)
    net, reference = classifier(), classifier()
    training.train(net, digits, protocol(epochs=1, batch_size=n, learning_rate=0.3), seed=0)
    x, y = digits.normalise(digits.train.images), digits.train.labels
    F.cross_entropy(reference(x), y).backward()
    for trained, start in zip(net.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(trained, start - 0.3 * start.grad, rtol=1e-4, atol=1e-6)


def test_momentum_and_weight_decay_are_those_of_plain_sgd(digits):
    n = len(digits.train.labels)
    net, reference = classifier(), classifier()
    changes = {"batch_size": n, "momentum": 0.7, "weight_decay": 0.03}
    training.train(net, digits, protocol(**changes), seed=0)
    x, y = digits.normalise(digits.train.images), digits.train.labels
    velocity = [torch.zeros_like(p) for p in reference.parameters()]
    for _ in range(3):
        gradients = torch.autograd.grad(F.cross_entropy(reference(x), y), list(reference.parameters()))
        with torch.no_grad():
            for p, v, g in zip(reference.parameters(), velocity, gradients, strict=True):
                v.mul_(0.7).add_(g + 0.03 * p)
                p -= 0.1 * v
    for trained, expected in zip(net.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(trained, expected, rtol=1e-4, atol=1e-6)


def test_every_image_is_seen_once_an_epoch_the_last_batch_too(digits):
    seen = []

    class Recorder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(64, 10)

        def forward(self, x):
            if self.training:
                seen.append(x.detach().clone())
            return self.linear(x.flatten(1))

    training.train(Recorder(), digits, protocol(epochs=1, batch_size=113), seed=0)
    n = len(digits.train.labels)
    assert [len(b) for b in seen] == [113] * (n // 113) + [n % 113]
    expected = digits.normalise(digits.train.images).flatten(1)
    found = torch.cat(seen).flatten(1)
    assert torch.equal(found.sum(1).sort().values, expected.sum(1).sort().values)
    assert not torch.equal(found, expected)


def inputs_of_whole_epochs(data: wsn.data.Dataset, seed: int, **changes) -> list[torch.Tensor]:
    """What the network sees in training, one batch an epoch."""
    seen, net = [], classifier()
    net.register_forward_pre_hook(lambda net, x: seen.append(x[0]) if net.training else None)
    training.train(net, data, protocol(batch_size=len(data.train.labels), **changes), seed=seed)
    return seen


def test_every_epoch_has_its_own_order(digits):
    a, b, c = (x.flatten(1).sum(1) for x in inputs_of_whole_epochs(digits, seed=0))
    assert torch.equal(a.sort().values, b.sort().values)
    assert len({tuple(x.tolist()) for x in (a, b, c)}) == 3


def test_every_epoch_and_seed_has_its_own_augmentation(digits):
    one_image = replace(digits, train=digits.train.take(torch.zeros(101, dtype=torch.int64)))
    changes = {"augmentation": wsn.CropAndFlip(padding=2)}
    batches = [x for seed in (0, 1) for x in inputs_of_whole_epochs(one_image, seed=seed, **changes)]
    assert len({tuple(x.flatten().tolist()) for x in batches}) == 6


def test_training_mode_and_gradients_are_for_training_only(digits):
    modes, net = [], classifier()
    net.register_forward_pre_hook(lambda net, _: modes.append((net.training, torch.is_grad_enabled())))
    training.train(net, digits, protocol(epochs=2, batch_size=len(digits.train.labels)), seed=0)
    splits = (digits.validation, digits.test, digits.train)
    validation, test, train = ([(False, False)] * -(-len(split.labels) // 500) for split in splits)
    epoch = [(True, True), *validation, *test]
    assert modes == [*epoch, *epoch, *train]


def test_the_same_seed_gives_the_same_bits_and_another_does_not(digits):
    a, b, c = (training.train(classifier(), digits, protocol(), seed=s) for s in (0, 0, 1))
    assert a.history == b.history
    assert torch.equal(a.predictions, b.predictions)
    assert a.history != c.history


def test_learning_improves_and_the_history_is_complete(digits):
    outcome = training.train(classifier(), digits, protocol(epochs=20), seed=0)
    assert set(outcome.history) == {
        "train_loss", "train_accuracy", "validation_accuracy", "test_loss", "test_accuracy",
    }  # fmt: skip
    assert all(len(values) == 20 for values in outcome.history.values())
    assert outcome.history["train_loss"][-1] < outcome.history["train_loss"][0] / 3
    assert outcome.history["test_accuracy"][-1] > 0.9
    assert outcome.train_accuracy > 0.95


@pytest.mark.parametrize("report", ["last", "best_test", "best_validation"])
@pytest.mark.parametrize("accuracy", ["rises", "falls"])
def test_the_reported_epoch_and_its_predictions_belong_together(digits, report, accuracy):
    """It falls where a trained network is trained on with wrong labels: the last epoch is not the best one."""
    net, data = classifier(), digits
    if accuracy == "falls":
        training.train(net, digits, protocol(epochs=10), seed=0)
        data = replace(digits, train=digits.train._replace(labels=(digits.train.labels + 1) % 10))
    outcome = training.train(net, data, protocol(epochs=6, report=report), seed=0)
    history = outcome.history
    expected = {
        "last": 6,
        "best_test": 1 + history["test_accuracy"].index(max(history["test_accuracy"])),
        "best_validation": 1 + history["validation_accuracy"].index(max(history["validation_accuracy"])),
    }[report]
    assert outcome.reported_epoch == expected
    found = (outcome.predictions == digits.test.labels).double().mean().item()
    assert found == history["test_accuracy"][expected - 1]
    assert outcome.predictions.dtype == torch.uint8
    assert expected < 6 or report == "last" or accuracy == "rises"


@pytest.mark.parametrize("report", ["best_test", "best_validation"])
def test_of_equally_good_epochs_the_first_is_reported_even_if_all_is_wrong(digits, report):
    net = classifier()
    wrong = {
        name: split._replace(labels=(training.predict(net, digits, split.images) + 1) % 10)
        for name, split in (("validation", digits.validation), ("test", digits.test))
    }
    outcome = training.train(
        net, replace(digits, **wrong), protocol(learning_rate=1e-9, report=report), seed=0
    )
    assert outcome.history["test_accuracy"] == outcome.history["validation_accuracy"] == [0, 0, 0]
    assert outcome.reported_epoch == 1


def test_the_last_metrics_are_those_of_the_trained_network_on_each_split(digits):
    net = classifier()
    outcome = training.train(net, digits, protocol(), seed=0)
    train, validation, test = (
        training.evaluate(net, digits, split) for split in (digits.train, digits.validation, digits.test)
    )
    assert len({train.accuracy, validation.accuracy, test.accuracy}) == 3
    assert outcome.train_accuracy == train.accuracy
    assert outcome.history["validation_accuracy"][-1] == validation.accuracy
    assert outcome.history["test_accuracy"][-1] == test.accuracy
    assert outcome.history["test_loss"][-1] == test.loss


@pytest.mark.parametrize(("classes", "dtype"), [(256, torch.uint8), (257, torch.int16)])
def test_the_last_of_many_classes_can_be_predicted(digits, classes, dtype):
    many = replace(digits, classes=tuple(map(str, range(classes))))
    net = wsn.build(wsn.MLPSpec(width=7, inputs=64, outputs=classes))
    nn.init.constant_(net.output.bias[-1:], 100.0)
    outcome = training.train(net, many, protocol(epochs=1, learning_rate=1e-9), seed=0)
    assert outcome.predictions.dtype == dtype
    assert (outcome.predictions == classes - 1).all()


def test_a_diverged_run_stops_and_says_so(digits):
    outcome = training.train(classifier(), digits, protocol(epochs=9, learning_rate=1e20), seed=0)
    assert outcome.status == "diverged"
    assert outcome.reported_epoch is None
    assert outcome.predictions is None
    assert len(outcome.history["train_loss"]) < 9
    assert not math.isfinite(outcome.history["train_loss"][-1])


def test_a_diverged_network_keeps_no_gradients_and_is_in_evaluation_mode(digits):
    net = classifier()
    training.train(net, digits, protocol(epochs=9, learning_rate=1e20), seed=0)
    assert [p.grad for p in net.parameters()] == [None] * 4 and not net.training


def test_autocast_around_a_training_changes_nothing_of_it(digits):
    histories = []
    for outside in (nullcontext(), torch.autocast("cpu", torch.bfloat16)):
        with outside:
            outcome = training.train(classifier(), digits, protocol(precision="bfloat16"), seed=0)
        histories.append(outcome.history)
    assert histories[0] == histories[1]


def test_validation_choice_needs_validation_images():
    digits = wsn.load_data(wsn.Digits())
    with pytest.raises(ValueError, match="there is no validation split"):
        training.train(classifier(), digits, protocol(report="best_validation"), seed=0)


def test_what_layers_draw_is_of_the_seed_and_leaves_the_callers_numbers_alone(digits):
    def trained(seed: int) -> list[float]:
        net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10, bias=False))
        nn.init.zeros_(net[2].weight)
        state = torch.get_rng_state()
        losses = training.train(net, digits, protocol(), seed=seed).history["train_loss"]
        assert torch.equal(torch.get_rng_state(), state)
        return losses

    first = trained(0)
    torch.manual_seed(2)
    assert trained(0) == first
    assert trained(1) != first


def test_on_a_cpu_the_random_numbers_of_gpus_go_on(digits, monkeypatch):
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("GPUs are seeded"))
    for spec in (
        wsn.MLPSpec(width=5, inputs=64),
        wsn.NonlinearBottleneck(wsn.ResNet18Spec(width=2), width=3),
    ):
        wsn.build(spec)
    training.train(classifier(), digits, protocol(epochs=1), seed=0)


def test_schedules_are_fractions_of_the_run():
    factor = training.learning_rate_factor
    steps = wsn.MultiStep(milestones=(0.5, 0.75), factor=0.1)
    assert [factor(steps, t) for t in (0, 0.49, 0.5, 0.74, 0.75)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert [factor(wsn.Cosine(), t) for t in (0, 0.5)] == pytest.approx([1, 0.5])
    assert factor(wsn.Cosine(), 0.999) < 1e-5
    assert factor(wsn.Constant(), 0.7) == 1


@pytest.mark.parametrize("warmup", [0.3, 0.1])
def test_one_cycle_is_that_of_torch(warmup):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    steps = 1009
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=steps, pct_start=warmup)
    expected = []
    for _ in range(steps):
        expected.append(cycle.get_last_lr()[0])
        optimizer.step()
        cycle.step() if len(expected) < steps else None
    schedule = wsn.OneCycle(warmup=warmup)
    found = [training.learning_rate_factor(schedule, step / steps) for step in range(steps)]
    assert found == pytest.approx(expected, abs=0.01)
    assert training.learning_rate_factor(schedule, 1) == pytest.approx(4e-6)


def test_one_cycle_moves_within_an_epoch_and_cosine_between_epochs(digits, monkeypatch):
    asked = []
    monkeypatch.setattr(schedules, "learning_rate_factor", lambda schedule, t: asked.append(t) or 1.0)
    n = len(digits.train.labels)
    halves = {"epochs": 2, "batch_size": -(-n // 2)}
    training.train(classifier(), digits, protocol(schedule=wsn.OneCycle(), **halves), seed=0)
    training.train(classifier(), digits, protocol(schedule=wsn.Cosine(), **halves), seed=0)
    assert asked == [0, 0.25, 0.5, 0.75, 0, 0, 0.5, 0.5]


def test_what_is_not_decayed_does_not_shrink(digits):
    nets = {}
    for decayed in ("all", "weights"):
        nets[decayed] = net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10))
        torch.manual_seed(0)
        nn.init.normal_(net[1].weight), nn.init.normal_(net[2].weight), nn.init.ones_(net[2].bias)
        before = {name: p.detach().clone() for name, p in net.named_parameters()}
        changes = {"learning_rate": 1e-9, "weight_decay": 1e8, "epochs": 1, "batch_size": 10**4}
        training.train(net, digits, protocol(weight_decay_on=decayed, **changes), seed=0)
        ratio = {name: (p / before[name]).mean().item() for name, p in net.named_parameters()}
        assert ratio["2.weight"] == pytest.approx(0.9, abs=1e-4)
        left = 0.9 if decayed == "all" else 1.0
        assert ratio["1.weight"] == pytest.approx(left, abs=1e-4)
        assert ratio["2.bias"] == pytest.approx(left, abs=1e-4)


def test_the_weights_of_a_masked_layer_are_decayed_like_others():
    net = wsn.sparsify(nn.Linear(8, 4), num_weights=9, generator=torch.Generator().manual_seed(0))
    decay = {
        id(p): group["weight_decay"]
        for group in steps.sgd(net, protocol(weight_decay_on="weights", weight_decay=0.1)).param_groups
        for p in group["params"]
    }
    assert decay == {id(net.parametrizations.weight.original): 0.1, id(net.bias): 0.0}


def test_epochs_without_evaluation_are_nan_and_the_last_is_evaluated(digits):
    always = training.train(classifier(), digits, protocol(epochs=5), seed=0)
    seldom = training.train(classifier(), digits, protocol(epochs=5, evaluate_every=2), seed=0)
    assert always.history["train_loss"] == seldom.history["train_loss"]
    for name in ("test_loss", "test_accuracy", "validation_accuracy"):
        expected = [math.nan, always.history[name][1], math.nan, *always.history[name][3:]]
        assert seldom.history[name] == pytest.approx(expected, nan_ok=True)
    best = training.train(
        classifier(), digits, protocol(epochs=5, evaluate_every=2, report="best_test"), seed=0
    )
    assert best.reported_epoch in (2, 4, 5)


def test_the_schedule_changes_the_training(digits):
    results = {
        schedule: training.train(classifier(), digits, protocol(schedule=schedule), seed=0).history[
            "train_loss"
        ]
        for schedule in (wsn.Constant(), wsn.Cosine(), wsn.MultiStep(milestones=(0.5,)))
    }
    assert len({losses[0] for losses in results.values()}) == 1
    assert len({losses[-1] for losses in results.values()}) == 3


def test_momentum_decay_augmentation_and_precision_take_effect(digits):
    changes = [
        {},
        {"momentum": 0.9},
        {"weight_decay": 0.01},
        {"augmentation": wsn.CropAndFlip(padding=1)},
        {"precision": "bfloat16"},
    ]
    losses = {
        training.train(classifier(), digits, protocol(**c), seed=0).history["train_loss"][-1] for c in changes
    }
    assert len(losses) == len(changes)
    assert all(math.isfinite(loss) for loss in losses)


def test_evaluation_does_not_depend_on_the_batches_and_changes_nothing(digits):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))
    state = {k: v.clone() for k, v in net.state_dict().items()}
    a, b = (training.evaluate(net, digits, digits.test, batch_size=s) for s in (17, 2000))
    assert a.accuracy == b.accuracy
    assert a.loss == pytest.approx(b.loss, rel=1e-5)
    assert torch.equal(a.predictions, training.predict(net, digits, digits.test.images))
    assert all(torch.equal(net.state_dict()[k], v) for k, v in state.items())


def test_of_a_pass_over_many_images_only_some_of_the_logits_are_kept(digits, monkeypatch):
    """Those of all images of ImageNet would be 5 GB."""
    sizes = []

    def cross_entropy(logits, labels):
        sizes.append(len(logits))
        return F.cross_entropy(logits, labels)

    def trained():
        sizes.clear()
        net = classifier()
        history = training.train(net, digits, protocol(epochs=2, batch_size=30), seed=0).history
        return history, training.predict(net, digits, digits.test.images)

    monkeypatch.setattr(log, "F", SimpleNamespace(cross_entropy=cross_entropy))
    whole, predictions = trained()
    assert max(sizes) == len(digits.train.labels)
    monkeypatch.setattr(log, "MOST_LOGITS", 1000)
    in_pieces, same = trained()
    assert max(sizes) <= 500  # a batch of an evaluation
    assert torch.equal(predictions, same)
    for name, values in whole.items():
        assert in_pieces[name] == pytest.approx(values, rel=1e-6), name


# -- the recorded step --


def test_a_whole_training_set_is_recorded_however_large_the_batch_may_be(digits, monkeypatch):
    recorded = []

    def record(function):
        recorded.append(function)
        return record_on_cpu(function)

    monkeypatch.setattr(loop, "RecordedStep", partial(steps.RecordedStep, record=record))
    whole = protocol(epochs=5, batch_size=10**6)
    histories = [
        loop._train(classifier(), digits, whole, 0, recorded=as_graph).history for as_graph in (True, False)
    ]
    assert len(recorded) == 1 and histories[0] == histories[1]


class CPUGraph(TorchDispatchMode):
    """A CUDA graph's semantics on a CPU: operations with the tensors and numbers that they had.

    While it records nothing is done (what was changed is put back) and no value may be read; a replay
    does every operation on the same memory, whatever Python has changed since.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.before = [], {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self.before.setdefault(storage._cdata, (storage, storage.clone()))
        result = function(*args, **(kwargs or {}))
        self.calls.append((function, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        with torch.no_grad():
            for function, args, kwargs, result in self.calls:
                again = function(*args, **kwargs)
                for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                    if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


def record_on_cpu(function: Callable[[], None]) -> Callable[[], None]:
    graph = CPUGraph()
    with torch.random.fork_rng(devices=[]):
        with graph:
            function()
        for storage, content in graph.before.values():
            storage.copy_(content)
    return graph.replay


def network_of_every_kind() -> nn.Module:
    """Convolution, batch norm, dropout, a mask."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 5, 3),
            nn.BatchNorm2d(5),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(180, 10),
        )
    return wsn.sparsify(net, num_weights=301, generator=torch.Generator())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_recorded_training_is_the_eager_one_bit_for_bit(digits, monkeypatch, precision, momentum):
    monkeypatch.setattr(loop, "sgd", partial(steps.sgd, rate_on_device=True))
    recorded = []

    def record(function):
        recorded.append(function)
        return record_on_cpu(function)

    monkeypatch.setattr(loop, "RecordedStep", partial(steps.RecordedStep, record=record))
    train = protocol(
        batch_size=113, momentum=momentum, weight_decay=0.01, precision=precision, schedule=wsn.OneCycle(),
        weight_decay_on="weights", augmentation=wsn.CropAndFlip(padding=1), learning_rate=0.03,
    )  # fmt: skip
    nets, outcomes, after = [], [], []
    for as_graph in (False, True):
        nets.append(network_of_every_kind())
        torch.manual_seed(7)  # of dropout
        outcomes.append(loop._train(nets[-1], digits, train, 0, recorded=as_graph))
        after.append(torch.rand(3))
    assert len(recorded) == 1
    assert outcomes[0].history == outcomes[1].history
    assert torch.equal(outcomes[0].predictions, outcomes[1].predictions)
    assert torch.equal(*after)
    for a, b in zip(nets[0].state_dict().values(), nets[1].state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert nets[1][1].num_batches_tracked == 3 * -(-len(digits.train.labels) // 113)
    for name, mask in wsn.layer_masks(nets[1]).items():
        assert (nets[1].get_submodule(name).weight[~mask] == 0).all()


def test_only_whole_batches_are_replayed_and_the_first_ones_run_eagerly():
    calls = []

    def step(images, labels):
        calls.append(len(labels))
        return images + 1

    def record(function):
        function()
        calls.append("recorded")
        return lambda: calls.append("replayed")

    recorded = steps.RecordedStep(step, batch_size=5, record=record)
    for n in (5, 3, 5, 5, 5, 3, 5):
        assert len(recorded(torch.zeros(n), torch.zeros(n))) == n
    assert calls == [5, 3, 5, 5, 5, "recorded", "replayed", 3, "replayed"]


def test_a_batch_is_copied_and_stays_what_it_was():
    recorded = steps.RecordedStep(lambda images, labels: images + labels, batch_size=2, record=record_on_cpu)
    batches = [(torch.full((2,), float(i)), torch.full((2,), 10 * i)) for i in range(7)]
    before = copy.deepcopy(batches)
    assert [recorded(*batch)[0].item() for batch in batches] == [11.0 * i for i in range(7)]
    assert all(
        torch.equal(a, b) for x, y in zip(batches, before, strict=True) for a, b in zip(x, y, strict=True)
    )


def test_a_network_that_reads_values_is_not_recorded_but_trained_with_a_warning(digits, monkeypatch):
    class Reader(nn.Linear):
        def forward(self, x):
            return F.dropout(super().forward(x.flatten(1)), 0.2) * (1 + self.bias[0].item())

    monkeypatch.setattr(loop, "RecordedStep", partial(steps.RecordedStep, record=record_on_cpu))
    found = []
    for recorded in (True, False):
        torch.manual_seed(0)  # of dropout, too
        net = Reader(64, 10)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found.append(loop._train(net, digits, protocol(), 0, recorded=recorded).history)
        refusal = (
            r"cannot be recorded as a CUDA graph \(operation not permitted when stream is capturing\) and"
        )
        assert [bool(re.search(refusal, str(each.message))) for each in said] == [True] * recorded
    assert found[0] == found[1]


def warned(net, digits, monkeypatch, **options) -> tuple[dict, list[str]]:
    """The history of a training whose steps would be recorded, and the warnings about them."""
    monkeypatch.setattr(loop, "RecordedStep", partial(steps.RecordedStep, record=record_on_cpu))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        history = loop._train(net, digits, protocol(), 0, **options).history
    return history, [str(each.message) for each in said]


@pytest.mark.parametrize("draw", [random.random, lambda: np.random.rand()])  # noqa: NPY002
def test_a_network_that_draws_on_the_host_is_not_recorded_but_trained_with_a_warning(
    draw, digits, monkeypatch
):
    class Deep(nn.Linear):
        def forward(self, x):
            return super().forward(x.flatten(1)) * (1 if draw() < 0.5 else 0.5)

    histories = []
    for recorded in (True, False):
        torch.manual_seed(0)
        random.seed(0), np.random.seed(0)  # noqa: NPY002
        history, said = warned(Deep(64, 10), digits, monkeypatch, recorded=recorded)
        assert [re.search(r"graph \((.*)\) and runs", each)[1] for each in said] == [
            "it draws random numbers on the host"
        ] * recorded
        histories.append(history)
    assert histories[0] == histories[1]


def test_random_numbers_of_torch_on_the_host_are_seen_beside_those_of_a_gpu():
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    with torch.random.fork_rng(devices=[]):
        before = [steps._drawn_on_host(device) for device in (gpu, cpu)]
        torch.rand(1)
        assert [steps._drawn_on_host(device) == b for device, b in zip((gpu, cpu), before, strict=True)] == [
            False,
            True,
        ]


def test_a_network_for_which_the_host_waits_is_not_recorded_and_its_warnings_are_shown(digits, monkeypatch):
    class Waits(nn.Linear):
        def forward(self, x):
            warnings.warn(f"{steps.SYNCHRONISED} (Triggered internally)", UserWarning, stacklevel=2)
            warnings.warn("mine", UserWarning, stacklevel=2)
            return super().forward(x.flatten(1))

    _, said = warned(Waits(64, 10), digits, monkeypatch, recorded=True)
    refusals = [each for each in said if "cannot be recorded" in each]
    assert len(refusals) == 1 and "(it waits for values on the host)" in refusals[0]
    assert sum(each.startswith(steps.SYNCHRONISED) for each in said) == said.count("mine") - 1 > 9


def test_memory_that_a_recording_lacked_is_free_once_the_error_is_dealt_with():
    class Held:
        pass

    def step(images, labels):
        held = Held()
        if recording:
            kept.append(weakref.ref(held))
            raise torch.OutOfMemoryError("full")
        return images

    def record(function):
        recording.append(True)
        function()

    recording, kept = [], []
    recorded = steps.RecordedStep(step, batch_size=2, record=record)
    gc.disable()
    try:
        with suppress(torch.OutOfMemoryError):
            [recorded(torch.zeros(2), torch.zeros(2)) for _ in range(9)]
        assert kept[0]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize("failure", [torch.OutOfMemoryError, ValueError])
def test_what_ends_a_recording_is_reported_as_such(failure, hidden):
    def step(images, labels):
        if recording:
            raise failure("full")
        return images

    def record(function):
        recording.append(True)
        try:
            function()
        finally:
            if hidden:
                raise RuntimeError("operation failed due to a previous error during capture")

    recording: list[bool] = []
    recorded = steps.RecordedStep(step, batch_size=2, record=record)
    with pytest.raises(failure, match="full"):
        [recorded(torch.zeros(2), torch.zeros(2)) for _ in range(9)]


def test_the_host_reads_as_often_in_an_epoch_of_many_batches_as_of_few(digits):
    class Reads(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.count += function is torch.ops.aten._local_scalar_dense.default
            return function(*args, **(kwargs or {}))

    counts = []
    for batch_size in (500, 50, 5):
        with Reads() as reads:
            train = protocol(epochs=1, batch_size=batch_size, momentum=0.9, schedule=wsn.OneCycle())
            training.train(network_of_every_kind(), digits, train, seed=0)
        counts.append(reads.count)
    assert counts[0] > 0
    assert len(set(counts)) == 1


def test_the_update_that_reads_the_learning_rate_on_the_device_is_the_same(digits):
    train = protocol(momentum=0.9, weight_decay=0.1, weight_decay_on="weights")
    nets = [classifier(), classifier()]
    for net, on_device in zip(nets, (False, True), strict=True):
        optimizer = steps.sgd(net, train, rate_on_device=on_device)
        step = steps.sgd_step(net, optimizer, digits, precision="float32")
        for rate in (0.1, 0.3, 0.05):
            steps.set_learning_rate(optimizer, rate)
            step(digits.train.images, digits.train.labels)
    for a, b in zip(*(net.parameters() for net in nets), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_on_a_cpu_the_learning_rate_is_a_number_unless_asked_for():
    for given, on_device in ((None, False), (True, True), (False, False)):
        optimizer = steps.sgd(classifier(), protocol(weight_decay_on="weights"), rate_on_device=given)
        rates = [group["lr"] for group in optimizer.param_groups]
        assert all(isinstance(rate, torch.Tensor) == on_device for rate in rates)


def test_what_comes_after_a_training_that_fails_waits_for_its_stream(monkeypatch):
    waits = []

    class Stream:
        def wait_stream(self, other):
            waits.append((self, other))

    outside, inside = Stream(), Stream()
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: outside)
    monkeypatch.setattr(torch.cuda, "stream", nullcontext)
    monkeypatch.setattr(steps, "_stream_of", lambda _: inside)
    with pytest.raises(RuntimeError), steps.training_stream(torch.device("cuda")):
        raise RuntimeError
    assert waits == [(inside, outside), (outside, inside)]


def test_the_learning_rate_on_the_device_is_float32_whatever_the_default():
    network = classifier()
    torch.set_default_dtype(torch.float64)
    try:
        optimizer = steps.sgd(network, protocol(), rate_on_device=True)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {group["lr"].dtype for group in optimizer.param_groups} == {torch.float32}


# -- memory --


class Limited(nn.Module):
    """A network for which more than `most` images in training are too many, and in evaluation `evaluated`."""

    def __init__(self, most: int, evaluated: int = 500) -> None:
        super().__init__()
        self.linear, self.most, self.evaluated = nn.Linear(64, 10), most, evaluated

    def forward(self, x):
        if len(x) > (self.most if self.training else self.evaluated):
            raise torch.OutOfMemoryError(f"{len(x)} images")
        return self.linear(x.flatten(1))


@pytest.mark.parametrize(("most", "found"), [(99, 50), (50, 50), (49, 25), (12, 12), (1, 1), (0, 0)])
def test_the_largest_half_of_the_batch_that_fits_is_found(digits, most, found):
    fitting = partial(training.fitting_batch_size, data=digits, device=torch.device("cpu"))
    assert fitting(lambda: Limited(most), protocol=protocol(batch_size=100)) == found
    assert fitting(lambda: Limited(most, evaluated=359), protocol=protocol(batch_size=100)) == 0


def test_a_batch_fits_only_if_recording_it_does(digits, monkeypatch):
    sizes = []
    train = training.memory.train

    def seen(model, data, protocol, *, seed):
        model.register_forward_pre_hook(lambda net, x: sizes.append(len(x[0])) if net.training else None)
        return train(model, data, protocol, seed=seed)

    monkeypatch.setattr(training.memory, "train", seen)
    training.fitting_batch_size(
        classifier, digits, protocol(batch_size=15, report="best_validation"), device=torch.device("cpu")
    )
    assert sizes == [7] * (steps.EAGER_STEPS + 2) + [1237 % 7]


def test_a_network_that_did_not_fit_is_gone_when_the_next_is_tried(digits):
    alive = weakref.WeakSet()

    def make():
        assert len(alive) == 0
        net = Limited(6)
        alive.add(net)
        return net

    assert training.fitting_batch_size(make, digits, protocol(), device=torch.device("cpu")) == 6


# -- on a GPU --


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_results_of_a_cpu_to_tolerance(digits):
    cpu = training.train(classifier(), digits, protocol(), seed=0)
    gpu = training.train(classifier().cuda(), digits.to("cuda"), protocol(), seed=0)
    assert gpu.history["train_loss"] == pytest.approx(cpu.history["train_loss"], rel=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_cuda_graph_gives_the_results_of_single_steps(digits, precision):
    train = protocol(batch_size=113, momentum=0.9, precision=precision, schedule=wsn.OneCycle())
    nets = [network_of_every_kind().cuda() for _ in range(2)]
    for net in nets:
        net[4].p = 0.0
    outcomes = [
        training.train(net, digits.to("cuda"), train, seed=0, cuda_graph=graph)
        for net, graph in zip(nets, (False, True), strict=True)
    ]
    a, b = (outcome.history["train_loss"] for outcome in outcomes)
    assert a == pytest.approx(b, rel=1e-2 if precision == "bfloat16" else 1e-4)
    for name, mask in wsn.layer_masks(nets[1]).items():
        assert (nets[1].get_submodule(name).weight[~mask] == 0).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("recorded", [False, True])
def test_no_step_waits_for_the_gpu(digits, recorded):
    data, train = digits.to("cuda"), protocol(epochs=1, batch_size=53, momentum=0.9, schedule=wsn.OneCycle())
    net = network_of_every_kind().cuda()
    optimizer = steps.sgd(net, train)
    step = steps.sgd_step(net, optimizer, data, precision="float32")
    if recorded:
        step = steps.RecordedStep(step, batch_size=53)
    with steps.training_stream(torch.device("cuda")):
        for index in range(steps.EAGER_STEPS + 1):  # recording itself waits
            step(*data.train.take(torch.arange(53, device="cuda") + index))
        torch.cuda.set_sync_debug_mode("error")
        try:
            for index in range(7):
                steps.set_learning_rate(optimizer, 0.1 / (1 + index))
                step(*data.train.take(torch.arange(53, device="cuda") + index))
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_deterministic_training_on_a_gpu_gives_the_same_bits(digits, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        a, b = (
            training.train(
                wsn.build(wsn.ResNet18Spec(width=3, input_channels=1)).cuda(),
                digits.to("cuda"), protocol(momentum=0.9), seed=0,
            )
            for _ in range(2)
        )  # fmt: skip
    finally:
        torch.use_deterministic_algorithms(False)
    assert a.history == b.history
    assert torch.equal(a.predictions, b.predictions)


@pytest.mark.parametrize(("threads", "width"), [(1, 8), (2, 8), (1, 3)])
def test_what_would_end_the_process_is_trained_in_torch_s_own_layout(digits, threads, width):
    net, before = wsn.build(wsn.ResNet18Spec(width=width, input_channels=1), seed=0), torch.get_num_threads()
    few = replace(digits, train=digits.train.take(torch.arange(15)))
    torch.set_num_threads(threads)
    try:
        training.train(net, few, protocol(epochs=1, batch_size=5), seed=0)
    finally:
        torch.set_num_threads(before)
    weight = net.get_parameter("layer2.0.conv1.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last) is (threads == 1 and width == 8)


class Views(nn.Module):
    """A network that takes a view of its activations."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.2), nn.ReLU(), nn.Conv2d(8, 4, 3)
        )
        self.last = nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.features(images)
        return self.last(hidden.view(len(hidden), -1))


def test_a_network_that_takes_views_is_trained_in_torch_s_own_layout(digits):
    torch.manual_seed(0)
    net = Views()
    outcome = training.train(net, digits, protocol(epochs=2, batch_size=100), seed=0)
    assert outcome.status == "finished"
    assert net.features[4].weight.is_contiguous()
    assert net.features[1].num_batches_tracked == 2 * 13  # what was tried before counts nowhere


def test_a_network_with_weights_of_five_dimensions_is_trained_in_torch_s_own_layout(digits):
    class Volumes(Views):
        def __init__(self) -> None:
            super().__init__()
            self.volumes = nn.Conv3d(1, 1, 3, padding=1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(self.volumes(images[:, None])[:, 0])

    net = Volumes()
    assert training.train(net, digits, protocol(epochs=1, batch_size=100), seed=0).status == "finished"
    assert net.features[4].weight.is_contiguous()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda x, y: (x / 255, y),
            r"images must be torch.uint8 .*, got torch.float32 of \(30, 1, 8, 8\); multiply",
        ),
        (
            lambda x, y: (x[:, 0], y),
            r"of shape \(n, channels, height, width\), got torch.uint8 of \(30, 8, 8\)",
        ),
        (lambda x, y: (x, y[:20]), r"labels must be of shape \(30,\), one for each image, got \(20,\)"),
        (
            lambda x, y: (x, y + 1),
            "labels must be torch.int64 of 0 to 9, .*, got torch.int64 of 1 to 10; number",
        ),
        (
            lambda x, y: (x, y.float()),
            "labels must be torch.int64 of 0 to 9, .*, got torch.float32 of 0 to 9",
        ),
    ],
)
def test_data_made_by_hand_are_of_the_form_that_is_trained_on(digits, change, message):
    given = wsn.data.Split(*change(digits.test.images[:30], digits.test.labels[:30]))
    for split in ("train", "validation", "test"):
        with pytest.raises(wsn.DataError, match=message):
            wsn.train(classifier(), replace(digits, **{split: given}), protocol(), seed=0)
    with pytest.raises(wsn.DataError, match=message):
        wsn.evaluate(classifier(), digits, given)
    if given.images.dtype != torch.uint8:
        with pytest.raises(wsn.DataError, match=message):
            wsn.predict(classifier(), digits, given.images)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (nn.Flatten(), "the network must have parameters to train, got none; add a layer that has some"),
        (
            nn.LazyConv2d(3, 3),
            "must have their sizes, got weight, bias of lazy layers; call the model on a ba",
        ),
        (
            nn.Sequential(nn.LazyBatchNorm2d()),
            "got 0.weight, 0.bias of lazy layers; call the model on a batch",
        ),
    ],
)
def test_a_network_without_parameters_or_their_sizes_is_refused(digits, net, message):
    with pytest.raises(ValueError, match=message):
        training.train(net, digits, protocol(epochs=1), seed=0)


def test_what_is_no_data_set_and_outputs_of_another_width_are_named(digits):
    pairs = torch.utils.data.TensorDataset(*digits.train)
    with pytest.raises(wsn.DataError, match="data must be a Dataset of wsn.data, got a TensorDataset; take"):
        wsn.train(classifier(), pairs, protocol(), seed=0)
    with pytest.raises(wsn.DataError, match="a split must be a Split of wsn.data, got a TensorDataset"):
        wsn.evaluate(classifier(), digits, pairs)
    refusal = "must give 10 numbers for an image, .*, got {}; change"
    for width in (1, 9, 11):
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, width))
        with pytest.raises(ValueError, match=refusal.format(width)):
            wsn.evaluate(net, digits, digits.test)
        with pytest.raises(ValueError, match=refusal.format(width)):
            wsn.train(net, digits, protocol(), seed=0)
    for net, got in ((nn.Identity(), "1 x 8 x 8"), (Pair(), "a tuple")):
        net = nn.Sequential(nn.Conv2d(1, 1, 1), net)
        with pytest.raises(ValueError, match=refusal.format(got)):
            wsn.train(net, digits, protocol(), seed=0)


class Pair(nn.Module):
    def forward(self, x):
        return x, x


def test_a_model_is_evaluated_in_evaluation_mode_and_is_then_in_its_own(digits):
    net = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(64, 10), nn.BatchNorm1d(10)).train()
    net[1].eval()
    before = [module.training for module in net.modules()]
    wsn.evaluate(net, digits, digits.test)
    wsn.predict(net, digits, digits.test.images)
    with pytest.raises(ValueError, match="precision must be one of 'float32', 'bfloat16', got 'half'"):
        wsn.evaluate(net, digits, digits.test, precision="half")
    assert [module.training for module in net.modules()] == before
    seen = []
    wsn.train(
        net,
        digits,
        protocol(epochs=3, evaluate_every=2),
        seed=0,
        observe=lambda _, m: seen.append(m.training),
    )
    assert seen == [False] * 4 and not net.training
    assert [p.grad for p in net.parameters()] == [None] * len(list(net.parameters()))


def test_normalising_changes_no_images(digits):
    images = digits.test.images.float()
    before = images.clone()
    assert torch.equal(digits.normalise(images), digits.normalise(digits.test.images))
    assert torch.equal(images, before)
