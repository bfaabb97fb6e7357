"""Experiments and sweeps: equal weights, resuming, faults, one table."""

import math
import os
import pickle
import re
import signal
import subprocess
import sys
import time
import weakref
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import datasets

import wsnlib as wsn
from wsnlib import experiments, masks, models, specs, training
from wsnlib.data import streaming
from wsnlib.experiments import durations, networks, plans, trainings
from wsnlib.experiments import machine as machine_of
from wsnlib.experiments.machine import float32
from wsnlib.sparse import costs
from wsnlib.store import Failure
from wsnlib.sweeps import clusters
from wsnlib.sweeps import missing as sweeps
from wsnlib.sweeps.watching import Watch
from wsnlib.sweeps.work import work_on

BASE = wsn.MLPSpec(width=5, inputs=64)


def experiment(width: int = 5, seed: int = 0, epochs: int = 2, **training) -> wsn.Experiment:
    return wsn.Experiment(
        model=wsn.StaticSparsity(BASE, width=width),
        data=wsn.Digits(),
        training=wsn.Training(epochs=epochs, **training),
        seed=seed,
    )


# -- building --

RULES = [wsn.LargestFirst(), wsn.UniformDensity(), wsn.LastLayerDensity(density=0.3)]


@pytest.mark.parametrize("rule", RULES, ids=lambda r: type(r).__name__)
@pytest.mark.parametrize("width", [10, 40, 160, 640])
@pytest.mark.parametrize("hidden_layers", [1, 3])
def test_every_width_has_the_bases_number_of_weights(rule, width, hidden_layers):
    base = wsn.MLPSpec(width=5, hidden_layers=hidden_layers)
    spec = wsn.StaticSparsity(base, width=width, allocation=rule)
    if not wsn.is_reachable(spec):
        with pytest.raises(ValueError, match="num_weights must"):
            wsn.build(spec)
        return
    net = wsn.build(spec)
    assert (
        wsn.num_weights(net) == wsn.num_weights(wsn.build(base)) == (784 + 10) * 5 + 25 * (hidden_layers - 1)
    )
    assert wsn.weights_per_layer(spec) == {
        n: int((net.get_submodule(n).weight != 0).sum()) for n in wsn.weights_per_layer(spec)
    }


def test_the_base_width_is_the_dense_network_bit_for_bit():
    dense, same = wsn.build(BASE, seed=3), wsn.build(wsn.StaticSparsity(BASE, width=5), seed=3)
    assert list(dense.state_dict()) == list(same.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(dense.parameters(), same.parameters(), strict=True))


def test_the_cells_of_figure_5_that_exist():
    base, densities = wsn.MLPSpec(width=5), [d / 10 for d in range(1, 11)]
    count = {
        width: sum(
            wsn.is_reachable(
                wsn.StaticSparsity(base, width=width, allocation=wsn.LastLayerDensity(density=d))
            )
            for d in densities
        )
        for width in (5, 10, 20, 40, 80, 160, 320, 640)
    }
    assert count == {5: 1, 10: 10, 20: 10, 40: 10, 80: 10, 160: 10, 320: 10, 640: 6}
    with pytest.raises(
        ValueError, match="must leave 1 to 3920 for hidden1, got 3970, which leaves 3925 beside 45 in output"
    ):
        wsn.weights_per_layer(wsn.StaticSparsity(base, width=5, allocation=wsn.LastLayerDensity(density=0.9)))


def test_building_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    a = wsn.build(wsn.StaticSparsity(BASE, width=20), seed=1)
    assert torch.equal(torch.rand(3), expected)
    b = wsn.build(wsn.StaticSparsity(BASE, width=20), seed=1)
    c = wsn.build(wsn.StaticSparsity(BASE, width=20), seed=2)
    assert torch.equal(a.hidden1.weight, b.hidden1.weight)
    assert not torch.equal(a.hidden1.weight, c.hidden1.weight)


@pytest.mark.parametrize(
    ("rule", "hidden1", "output"), [(RULES[0], 185, 185), (RULES[1], 320, 50), (RULES[2], 310, 60)], ids=str
)
def test_each_rule_allocates_in_its_own_way(rule, hidden1, output):
    spec = wsn.StaticSparsity(BASE, width=20, allocation=rule)
    assert wsn.weights_per_layer(spec) == {"hidden1": hidden1, "output": output}


def test_initialisation_and_mask_each_have_a_seed_of_their_own():
    wide, dense = wsn.StaticSparsity(BASE, width=20, initialisation="unscaled"), replace(BASE, width=20)
    initialised = set()
    for seed in (1, 2):
        rng = torch.Generator().manual_seed(specs.derive_seed(seed, "mask"))
        mask = masks.draw_mask((20, 64), num_weights=185, generator=rng)
        weight = wsn.build(dense, seed=seed).hidden1.weight
        assert torch.equal(wsn.build(wide, seed=seed).hidden1.weight, weight * mask)
        initialised.add(weight[0, 0].item())
    assert len(initialised) == 2


# -- running --


def test_a_run_that_does_not_fit_its_data_is_named(tmp_path):
    wrong = replace(experiment(), model=wsn.MLPSpec(width=5))
    with pytest.raises(ValueError, match="must have 64 inputs and 10 outputs for Digits, got 784 and 10"):
        wsn.run(wrong)
    with pytest.raises(ValueError, match="64 inputs and 10 outputs for Digits, got 784"):
        wsn.run_missing([wrong], store=wsn.Store(tmp_path), progress=False)


RESNET = wsn.ResNet18Spec(width=2, input_channels=1)


def test_a_resnet_that_does_not_fit_its_data_is_named():
    for channels, classes in ((3, 10), (1, 7)):
        net = wsn.ResNet18Spec(width=2, num_classes=classes, input_channels=channels)
        for model in (net, wsn.StaticSparsity(net, width=3), wsn.NonlinearBottleneck(net, width=3)):
            with pytest.raises(
                ValueError,
                match=f"must have 1 input channels and 10 classes for Digits, got {channels} and {classes}",
            ):
                wsn.run(replace(experiment(), model=model))


WIDENED = [
    wsn.StaticSparsity(RESNET, width=4),
    wsn.ChannelSparsity(RESNET, width=4),
    wsn.LinearBottleneck(RESNET, width=4),
    wsn.NonlinearBottleneck(RESNET, width=4),
]


@pytest.mark.parametrize("model", WIDENED, ids=lambda m: type(m).__name__)
def test_every_way_to_widen_trains_and_says_what_it_kept(model):
    record = wsn.run(replace(experiment(epochs=3, momentum=0.9), model=model), device="cpu")
    assert record.history["train_loss"][-1] < record.history["train_loss"][0] - 0.1
    assert record.network["weights_per_layer"] == wsn.weights_per_layer(model)
    assert record.network["num_weights"] == sum(wsn.weights_per_layer(model).values())


CIFAR_NET = wsn.ResNetCifarSpec(
    depth=8,
    width_multiplier=0.125,
    num_classes=10,
    input_channels=1,
    residual=False,
    details="torchvision",
    norm_momentum=0.2,
)


def test_a_cifar_resnet_is_built_as_its_spec_says():
    net = wsn.build(CIFAR_NET, seed=3)
    fields = asdict(CIFAR_NET)
    with torch.random.fork_rng():
        torch.manual_seed(specs.derive_seed(3, "initialisation"))
        expected = models.ResNetCifar(**fields)
    assert str(net) == str(expected)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), expected.parameters(), strict=True))
    assert sum(wsn.weights_per_layer(CIFAR_NET).values()) == masks.num_weights(net)
    assert networks.timed_as(CIFAR_NET) == CIFAR_NET


def test_a_sparse_wide_cifar_resnet_has_the_weights_of_its_base():
    wide = wsn.StaticSparsity(CIFAR_NET, width=5)
    net, base = wsn.build(wide, seed=3), wsn.build(CIFAR_NET)
    dense = wsn.build(replace(CIFAR_NET, width_multiplier=5 / 16))
    assert masks.num_weights(net) == masks.num_weights(base) == sum(wsn.weights_per_layer(wide).values())
    assert net.conv.out_channels == dense.conv.out_channels == 5
    assert masks.connectivity(net) == masks.num_weights(base) / masks.num_weights(dense) < 1
    assert networks.timed_as(wide) == replace(CIFAR_NET, width_multiplier=5 / 16)
    same = wsn.StaticSparsity(CIFAR_NET, width=2)
    pairs = zip(wsn.build(same, seed=3).parameters(), wsn.build(CIFAR_NET, seed=3).parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    record = wsn.run(replace(experiment(), model=wide, data=wsn.Digits(train_size=65)))
    assert record.network["num_weights"] == masks.num_weights(base)


def test_a_cifar_resnet_trains_on_a_class_balanced_subset():
    data = wsn.Digits(train_size=65, normalisation="unit")
    counts = wsn.load_data(data).train.labels.bincount().tolist()
    assert sorted(counts) == [6] * 5 + [7] * 5
    record = wsn.run(replace(experiment(), model=CIFAR_NET, data=data))
    assert record.network["num_weights"] == sum(record.network["weights_per_layer"].values())
    assert list(record.network["weights_per_layer"])[:2] == ["conv", "stage1.block1.conv1"]
    three = replace(experiment(), model=replace(CIFAR_NET, input_channels=3))
    with pytest.raises(
        ValueError, match=r"must have 1 input channels and 10 classes for Digits, got 3 and 10"
    ):
        wsn.run(three)


def test_a_plan_says_which_engine_trains_a_run_and_why_and_the_record_says_so_too(monkeypatch):
    net = wsn.StaticSparsity(wsn.ResNet18Spec(width=2, input_channels=1), width=8)
    wide = replace(experiment(), model=net, data=wsn.Digits(train_size=50))
    narrow = replace(experiment(), model=wsn.StaticSparsity(BASE, width=10))
    ms = {"sparse": 1.0, "float32": 2.0, "bfloat16": 0.5}
    monkeypatch.setattr(costs, "layer_ms", lambda timed, form: ms[form])
    monkeypatch.setattr(costs, "elementwise_ns", lambda: costs.Elementwise(0.0, 0.0, 0.0))
    monkeypatch.setattr(plans, "FEWEST_OPERATIONS", 1e8)
    expected = {
        wide: ("sparse", "layers with a sparse form take about"),
        replace(wide, training=replace(wide.training, precision="bfloat16")): (
            "masked",
            "no layer is faster",
        ),
        replace(wide, data=replace(wide.data, train_size=10)): ("masked", "operations are too few"),
        narrow: ("masked", "compiled code pays from 1,000 steps"),
        replace(narrow, model=wsn.StaticSparsity(BASE, width=BASE.width)): ("dense", "pays from 1,000 steps"),
        replace(experiment(), model=RESNET): ("dense", "for fully connected networks and masked layers"),
        experiment(epochs=1000): ("compiled", "ms in PyTorch"),
        replace(experiment(epochs=1000), model=replace(BASE, width=640)): ("dense", "a compiled step takes"),
        replace(
            narrow, model=wsn.StaticSparsity(BASE, width=640, allocation=wsn.LastLayerDensity(density=1.0))
        ): (
            "dense",
            "no such network",
        ),
        wsn.ExampleLabels(data=wsn.Digits()): ("none", "no training"),
    }
    for run, (engine, why) in expected.items():
        plan = experiments.plan(run, device="cpu")
        assert (plan.runs, plan.device, plan.engine) == ((run,), "cpu", engine)
        assert why in plan.why
        assert ("layer4.1.conv2" in plan.sparse_layers) == (engine == "sparse")
    said = wsn.run(wide, device="cpu")
    plan = experiments.plan(wide, device="cpu")
    assert plan.recorded().items() <= said.environment.items()
    assert said.environment["native_layers"] == list(plan.sparse_layers)
    masked = replace(plan, engine="masked", sparse_layers=())
    (dense,) = experiments.run_planned(masked, device="cpu")  # what is planned is done, not decided again
    assert dense.environment["engine"] == "masked"
    assert dense.history["train_loss"] == pytest.approx(said.history["train_loss"], rel=1e-3)
    assert dense.network == said.network


def test_times_in_a_plan_leave_out_layers_without_a_sparse_form(monkeypatch):
    net = wsn.StaticSparsity(replace(CIFAR_NET, details="released"), width=8)  # strided ones pad
    monkeypatch.setattr(costs, "layer_ms", lambda timed, form: 1.0 if form == "sparse" else 2.0)
    monkeypatch.setattr(costs, "elementwise_ns", lambda: costs.Elementwise(0.0, 0.0, 0.0))
    monkeypatch.setattr(plans, "FEWEST_OPERATIONS", 1e6)
    run = replace(experiment(), model=net, data=wsn.Digits(train_size=costs.IMAGES))
    plan = experiments.plan(replace(run, training=replace(run.training, batch_size=costs.IMAGES)))
    assert set(wsn.weights_per_layer(net)) - set(plan.sparse_layers) == {
        "stage2.block1.conv1",
        "stage3.block1.conv1",
    }
    count = len(plan.sparse_layers)
    assert f"form take about {count:.2g} ms a step, and {2 * count:.2g} ms as masked ones" in plan.why


def test_a_batch_larger_than_the_training_set_is_planned_and_timed_as_the_training_set(monkeypatch):
    asked, trained = [], []

    def costs(model, images, *, batch_size, precision):
        asked.append(batch_size)
        return []

    monkeypatch.setattr(plans.sparse, "estimated_costs", costs)
    monkeypatch.setattr(plans, "FEWEST_OPERATIONS", 1e8)
    net = wsn.StaticSparsity(wsn.ResNet18Spec(width=2, input_channels=1), width=8)
    small = replace(experiment(), model=net, data=wsn.Digits(train_size=50))
    for batch_size in (50, 10**6):
        experiments.plan(replace(small, training=wsn.Training(epochs=2, batch_size=batch_size)), device="cpu")
    assert asked == [50, 50]
    whole, larger = (
        experiments.plan(experiment(epochs=2000, batch_size=size), device="cpu") for size in (1437, 10**6)
    )
    assert (larger.engine, larger.why) == (whole.engine, whole.why)

    def train(models, data, protocols, *, seeds):
        trained.append((len(data.train.labels), protocols[0].batch_size))

    monkeypatch.setattr(training, "train_jointly", train)
    for each in (whole, larger):
        durations.seconds_per_run(each, wsn.load_data(wsn.Digits()))
    assert trained == [(1437, 1437)] * 3 + [(201 * 1437, 1437)] + [(1437, 1437)] * 3 + [(201 * 1437, 1437)]


def test_a_plan_for_another_kind_of_device_is_made_anew():
    elsewhere = replace(experiments.plan(experiment(), device="cpu"), device="cuda", engine="masked")
    (record,) = experiments.run_planned(elsewhere, device="cpu")
    assert (record.experiment, record.environment["engine"]) == (experiment(), "dense")


def seconds_of(runs) -> list[float]:
    return [plan.seconds for plan in experiments.plan_all(runs, device="cpu")]


def test_widths_are_timed_once_and_ways_to_widen_each(monkeypatch):
    timed = []

    def seconds(plan, data):
        (run,) = plan.runs
        wsn.build(run.model)
        timed.append(run.model)
        return float(len(timed))

    monkeypatch.setattr(durations, "seconds_per_run", seconds)
    unreachable = wsn.NonlinearBottleneck(RESNET, width=400)
    models = [*WIDENED, unreachable, RESNET, wsn.NonlinearBottleneck(RESNET, width=4)]
    runs = [replace(experiment(seed=seed), model=model) for seed in (0, 1) for model in models]
    assert seconds_of(runs) == [1, 1, 2, 3, 4, 4, 3] * 2
    assert timed == [WIDENED[0], WIDENED[2], WIDENED[3], RESNET]


def test_a_width_that_cannot_be_reached_makes_no_large_network(monkeypatch):
    monkeypatch.setattr(models, "ResNet18", small_or_meta(models.ResNet18))
    for method in (wsn.LinearBottleneck, wsn.NonlinearBottleneck, wsn.StaticSparsity):
        spec = method(RESNET, width=10_000)
        if method is wsn.StaticSparsity:
            spec = replace(spec, allocation=wsn.LastLayerDensity(density=1))
        with pytest.raises(ValueError, match="num_weights must"):
            wsn.build(spec)


def small_or_meta(kind):
    def make(**options):
        assert options["width"] < 100 or torch.get_default_device().type == "meta", "a large network is made"
        return kind(**options)

    return make


def test_a_process_that_trains_loads_no_tables_no_statistics_and_to_count_weights_no_compiler():
    code = (
        "import sys; from wsnlib import specs; from wsnlib.experiments import weights_per_layer;"
        "from wsnlib.sweeps import missing;"
        "base = specs.ResNet18Spec(width=4, initialisation='fan_out');"
        "weights_per_layer(specs.StaticSparsity(base, width=8));"
        "weights_per_layer(specs.MLPSpec(width=5, parametrisation='ntk'));"
        "print({'pandas', 'scipy.optimize', 'torch._dynamo'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "set()\n"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_missing_gpu_is_named():
    with pytest.raises(
        ValueError, match="device must be 'cpu' or 'auto' where there is no CUDA device, got 'cuda'"
    ):
        wsn.run(experiment(), device="cuda")


@pytest.mark.parametrize("device", ["gpu", "meta", "mps", "xpu:0"])
def test_a_device_of_a_kind_that_trains_nothing_is_named(device):
    with pytest.raises(
        ValueError, match=f"device must be 'auto', 'cpu', .* such as 'cuda:1', got '{device}'; change"
    ):
        wsn.run(experiment(), device=device)


def test_a_number_that_no_gpu_has_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert experiments.resolve_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(ValueError, match="device must be below 'cuda:2', as many GPUs as .*, got 'cuda:9'"):
        experiments.resolve_device("cuda:9")


def test_a_record_says_where_it_was_made():
    record = wsn.run(experiment(width=20), device="cpu")
    assert record.network["num_weights"] == 370
    assert record.network["weights_per_layer"] == {"hidden1": 185, "output": 185}
    assert set(record.environment) >= {"wsnlib", "commit", "python", "torch", "device", "threads", "seconds"}
    assert not any(os.sep in str(v) for k, v in record.environment.items() if k not in ("device",))


ASKED_AFTER_THE_IMPORT = """
import subprocess, torch
from wsnlib import experiments
subprocess.run = None
print(experiments.environment(torch.device("cpu"))["commit"])
"""


def test_the_commit_of_a_record_is_that_of_the_time_when_the_library_was_loaded():
    said = subprocess.run([sys.executable, "-c", ASKED_AFTER_THE_IMPORT], capture_output=True, text=True)
    assert said.stdout.strip() == experiments.environment(torch.device("cpu"))["commit"], said.stderr


def test_the_commit_of_a_record_is_never_that_of_a_project_whose_environment_holds_the_library(
    tmp_path, monkeypatch
):
    package = tmp_path / ".venv" / "wsnlib"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (tmp_path / ".gitignore").write_text(".venv\n")
    own = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "theirs"]):
        subprocess.run([*own, *words], check=True)
    monkeypatch.setattr(machine_of, "__file__", str(package / "experiments" / "machine.py"))
    assert machine_of._commit() == "unknown"
    for words in (["add", "-f", "."], ["commit", "-q", "-m", "ours"]):
        subprocess.run([*own, *words], check=True)
    head = subprocess.run([*own, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    assert machine_of._commit() == head.stdout[:12]


def test_a_record_says_the_version_of_a_library_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    assert experiments.environment(torch.device("cpu"))["wsnlib"] == wsn.__version__
    assert clusters.versions.__wrapped__()["wsnlib"] == wsn.__version__


def test_a_record_of_a_gpu_says_how_precise_its_convolutions_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    made = experiments.environment(torch.device("cuda"))
    assert (made["device"], made["float32_convolutions"]) == ("cuda: a GPU", "tf32")
    monkeypatch.setattr(torch.backends.cudnn, "conv", SimpleNamespace(fp32_precision="ieee"))
    assert experiments.environment(torch.device("cuda"))["float32_convolutions"] == "ieee"
    assert "float32_convolutions" not in experiments.environment(torch.device("cpu"))


@pytest.mark.parametrize("mode", ["default", "warn", "error"])
def test_a_record_says_whether_torch_was_deterministic(mode):
    torch.set_deterministic_debug_mode(mode)
    try:
        record = wsn.run(experiment(), device="cpu")
    finally:
        torch.set_deterministic_debug_mode("default")
    assert record.environment["deterministic"] is (mode == "error")


def test_processes_compute_in_the_precision_of_the_one_that_starts_them():
    """What they are told sets it; torch reads a setting of its older interface as none."""
    before = machine_of.numerics()
    assert before[1:] == ("tf32", "ieee", False, False, "ieee", "ieee")
    code = (
        "import sys, torch; from wsnlib.experiments.machine import Numerics, numerics, set_numerics;"
        "torch.backends.cudnn.allow_tf32 = sys.argv[1] == 'tf32'; print(*numerics()[1:]);"
        "set_numerics(Numerics(0, 'tf32', 'tf32', True, False, 'ieee', 'bf16')); print(*numerics()[1:]);"
        "set_numerics(Numerics(0, 'ieee', 'ieee', False, True)); print(*numerics()[1:])"
    )
    for precision in ("tf32", "ieee"):
        words = [sys.executable, "-c", code, precision]
        said = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split("\n")
        assert said == [
            f"{precision} ieee False False ieee ieee",
            "tf32 tf32 True False ieee bf16",
            "ieee ieee False True ieee ieee",
            "",
        ]


def test_a_record_says_where_a_cpu_multiplies_in_less_than_float32():
    """In a process of its own, as torch does not take back what was set."""
    code = (
        "import torch; from wsnlib.experiments import environment;"
        "cpu = torch.device('cpu'); print('float32_products' in environment(cpu));"
        "torch.set_float32_matmul_precision('medium'); print(environment(cpu)['float32_products'])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["False", "bf16"]


def test_processes_are_as_deterministic_as_the_one_that_starts_them(tmp_path):
    store, runs = wsn.Store(tmp_path), [experiment(seed=seed) for seed in range(2)]
    torch.use_deterministic_algorithms(True)
    try:
        wsn.run_missing(runs, store=store, workers=2, progress=False)
    finally:
        torch.use_deterministic_algorithms(False)
    assert [store.load(run).environment["deterministic"] for run in runs] == [True, True]


def test_a_run_is_its_network_trained_with_its_seed():
    run = experiment(width=20, seed=3)
    net = wsn.build(run.model, seed=3)
    outcome = training.train(net, wsn.load_data(run.data), run.training, seed=3)
    record = wsn.run(run, device="cpu")
    assert record.history == outcome.history
    assert record.predictions.tolist() == outcome.predictions.tolist()
    assert record.train_accuracy == outcome.train_accuracy


def test_threads_are_set_inside_the_block_only():
    before = torch.get_num_threads()
    with experiments.cpu_threads(before + 2):
        assert torch.get_num_threads() == before + 2
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(("every", "evaluations"), [(1, 7), (3, 3), (7, 1)])
def test_the_estimate_counts_every_step_and_every_evaluation(every, evaluations, device, monkeypatch):
    now, trained, evaluated = [0.0], [], []
    # a warm-up, one step of 0.04 s (so that 7 are timed), 7 steps of 1 s each
    last_epoch = iter([50.0, 0.04, 7.0])

    def train(model, data, protocol, *, seed, observe):
        trained.append(len(data.train.labels))
        for took in [30.0] * protocol.epochs + [next(last_epoch)]:  # before the first and in the others
            now[0] += took
            observe(0, model)
        now[0] += 30.0

    def evaluate(model, data, split, *, precision):
        assert precision == "bfloat16"
        evaluated.append(len(split.labels))
        now[0] += 1.0

    monkeypatch.setattr(durations.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(training, "evaluate", evaluate)
    monkeypatch.setattr(durations, "resolve_device", torch.device)
    monkeypatch.setattr(wsn.data.Dataset, "to", lambda self, _: self)
    monkeypatch.setattr(nn.Module, "to", lambda self, _: self)
    digits = wsn.load_data(wsn.Digits())
    run = experiment(epochs=7)
    protocol = replace(run.training, evaluate_every=every, batch_size=100, precision="bfloat16")
    plan = experiments.plan(replace(run, training=protocol), device="cpu")
    seconds = durations.seconds_per_run(replace(plan, device=device), digits)
    assert (len(digits.train.labels), len(digits.test.labels)) == (1437, 360)
    warm_up = {"cpu": 100, "cuda": 437}[device]
    assert (trained, evaluated) == ([warm_up, 100, 700], [100])
    assert seconds == pytest.approx(7 * 15 + (evaluations * 360 + 1437) * 0.01)


def test_what_is_there_is_not_trained_again(tmp_path, monkeypatch):
    store, runs = wsn.Store(tmp_path), [experiment(width=w) for w in (5, 10, 10)]
    assert wsn.run_missing(runs, store=store, progress=False) == 2
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    monkeypatch.setattr(experiments, "run_planned", lambda *_, **__: pytest.fail("trained again"))
    assert wsn.run_missing(runs, store=store, progress=False) == 0
    assert {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == stamps


def test_processes_give_the_bits_of_one_process(tmp_path):
    runs = [experiment(width=w, seed=s) for w in (5, 20) for s in (0, 1)]
    stores = [wsn.Store(tmp_path / name) for name in ("one", "two")]
    for workers, store in zip((1, 2), stores, strict=True):
        wsn.run_missing(runs, store=store, workers=workers, progress=False)
    one, two = (wsn.table(runs, store=store) for store in stores)
    assert one.equals(two)
    for run in runs:
        a, b = (store.load(run) for store in stores)
        assert a.history == b.history
        assert np.array_equal(a.predictions, b.predictions)


def test_too_long_a_sweep_is_refused_before_it_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(durations, "seconds_per_run", lambda *_: 60.0)
    runs = [experiment(width=w, epochs=10_000) for w in (5, 10)]
    with pytest.raises(
        wsn.BudgetError, match=r"2 of 2 runs have no record .* about .* minutes here; budget_minutes is 0\.1"
    ):
        wsn.run_missing(runs, store=wsn.Store(tmp_path), budget_minutes=0.1, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_more_workers_need_a_smaller_budget(tmp_path, monkeypatch):
    monkeypatch.setattr(durations, "seconds_per_run", lambda *_: 60.0)
    runs = [experiment(seed=s) for s in range(7)]
    for workers, minutes in ((1, "7.0"), (2, "3.5"), (11, "1.0")):
        with pytest.raises(wsn.BudgetError, match=f"7 of 7 runs .* about {minutes} minutes here"):
            wsn.run_missing(runs, store=wsn.Store(tmp_path), workers=workers, budget_minutes=0.9)


def test_runs_go_to_the_device_asked_for(tmp_path, monkeypatch):
    run, devices = experiments.run_planned, []
    monkeypatch.setattr(
        experiments, "run_planned", lambda x, *, device, **_: devices.append(device) or run(x, device=device)
    )
    wsn.run_missing([experiment()], store=wsn.Store(tmp_path), device="cpu", progress=False)
    assert devices == ["cpu"]


def end_at_seed_0(plan, store, device):
    if plan.runs[0].seed == 0:
        os._exit(9)
    return work_on(plan, store, device)


def test_a_run_that_ends_its_process_is_named_and_the_others_are_made(tmp_path, monkeypatch):
    monkeypatch.setattr(sweeps, "_work_on", end_at_seed_0)
    runs, store = [experiment(seed=s) for s in range(4)], wsn.Store(tmp_path)
    message = (
        f"1 of 4 runs failed, .* first is {wsn.spec_key(runs[0])} with its process was ended from outside"
    )
    with pytest.raises(wsn.SweepError, match=message):
        wsn.run_missing(runs, store=store, workers=2, progress=False)
    assert [run in store for run in runs] == [False, True, True, True]
    assert set(store.failures()) == {wsn.spec_key(runs[0])}


@pytest.mark.parametrize("workers", [1, 2])
def test_one_failing_run_does_not_stop_the_others(tmp_path, workers):
    impossible = replace(
        experiment(), model=wsn.StaticSparsity(BASE, width=80, allocation=wsn.LastLayerDensity(density=1.0))
    )
    runs = [experiment(), impossible, experiment(width=10)]
    store = wsn.Store(tmp_path)
    with pytest.raises(
        wsn.SweepError,
        match=f"1 of 3 runs failed, .* the first is {wsn.spec_key(impossible)} with ValueError",
    ):
        wsn.run_missing(runs, store=store, workers=workers, progress=False)
    assert [run in store for run in runs] == [True, False, True]


def test_no_run_alone_is_beyond_the_budget(tmp_path, monkeypatch):
    runs, store = [experiment(width=w) for w in (5, 10, 20, 37)], wsn.Store(tmp_path)
    hours = [replace(experiments.plan(run, device="cpu"), seconds=3600.0 * (run is runs[0])) for run in runs]
    monkeypatch.setattr(experiments, "plan_all", lambda *_, **__: hours)
    with pytest.raises(wsn.BudgetError, match="about 60.0 minutes here; budget_minutes is 20"):
        wsn.run_missing(runs, store=store, workers=4, budget_minutes=20)
    for wrong in (math.nan, "5", True):
        with pytest.raises(ValueError, match=f"budget_minutes must be a number or None, got {wrong!r}; give"):
            wsn.run_missing(runs, store=store, budget_minutes=wrong)


def test_what_failed_is_not_counted_as_done():
    shown: list = []
    hour, other = (
        replace(experiments.plan(experiment(seed=s), device="cpu"), seconds=3600.0) for s in (0, 1)
    )
    with Watch(2, 7200.0, shown.append) as watch:
        watch.ended(hour, [wsn.store.Failure(experiment=hour.runs[0], error="", traceback="")])
        assert (shown[-1].share, shown[-1].seconds_left) == (0.0, None)
        watch.ended(other, [])
        assert (shown[-1].share, shown[-1].done) == (1.0, 1)


def test_bad_workers_are_named(tmp_path):
    with pytest.raises(ValueError, match="workers must be an integer ≥ 1 or None, got 0"):
        wsn.run_missing([experiment()], store=wsn.Store(tmp_path), workers=0)


def test_what_is_no_list_no_store_and_no_client_is_named(tmp_path):
    store = wsn.Store(tmp_path)
    with pytest.raises(ValueError, match=r"runs must be a list, got one Experiment; give \[run\]"):
        wsn.run_missing(experiment(), store=store)
    with pytest.raises(
        ValueError, match=r"store must be a Store, got 'records'; give wsn.Store\('records'\)"
    ):
        wsn.run_missing([experiment()], store="records")
    with (
        ThreadPoolExecutor(1) as pool,
        pytest.raises(ValueError, match="must be a distributed.Client, got a ThreadPoolExecutor"),
    ):
        wsn.run_missing([experiment()], store=store, executor=pool)


def test_a_diverged_run_is_recorded_as_such(tmp_path):
    store, runs = wsn.Store(tmp_path), [experiment(learning_rate=1e20), experiment(seed=1)]
    wsn.run_missing(runs, store=store, progress=False)
    table = wsn.table(runs, store=store)
    assert table["status"].tolist() == ["diverged", "finished"]
    assert np.isnan(table["test_accuracy"][0])
    assert np.isnan(table["test_accuracy_last"][0])
    assert table["test_accuracy"][1] > 0.3
    assert wsn.run_missing(runs, store=store, progress=False) == 0


# -- out of memory --


def limited(monkeypatch, most: int) -> None:
    """From now on more than `most` images in a training step are too many for a network."""
    build = trainings.build

    def check(net, inputs):
        if net.training and len(inputs[0]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def build_limited(spec, *, seed=0):
        net = build(spec, seed=seed)
        net.register_forward_pre_hook(check)
        return net

    monkeypatch.setattr(trainings, "build", build_limited)


@pytest.mark.parametrize(
    ("most", "advice"),
    [(99, "a batch_size of 50 fits"), (30, "a batch_size of 25 fits"), (0, "no batch_size fits")],
)
def test_a_batch_too_large_for_the_memory_is_named_with_one_that_fits(monkeypatch, most, advice):
    limited(monkeypatch, most)
    sentence = f"^training with a batch_size of 100 needs more memory than cpu has free; {advice}$"
    with pytest.raises(torch.OutOfMemoryError, match=sentence) as caught:
        wsn.run(experiment(), device="cpu")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_what_ran_out_of_memory_is_let_go_before_less_is_tried(monkeypatch):
    limited(monkeypatch, 3)
    build, alive = trainings.build, weakref.WeakSet()

    def counted(spec, *, seed=0):
        assert len(alive) == 0
        net = build(spec, seed=seed)
        alive.add(net)
        return net

    monkeypatch.setattr(trainings, "build", counted)
    with pytest.raises(torch.OutOfMemoryError, match="a batch_size of 3 fits"):
        wsn.run(experiment(), device="cpu")


def test_a_run_without_memory_does_not_stop_the_others(tmp_path, monkeypatch):
    limited(monkeypatch, 60)
    store, large = wsn.Store(tmp_path), experiment(batch_size=101)
    runs = [experiment(batch_size=60), large, experiment(batch_size=50)]
    with pytest.raises(
        wsn.SweepError,
        match=f"1 of 3 runs failed, .* {wsn.spec_key(large)} with OutOfMemoryError: .* batch_size of 50 fits",
    ):
        wsn.run_missing(runs, store=store, workers=1, progress=False)
    assert [run in store for run in runs] == [True, False, True]


def test_a_failed_run_holds_no_memory_while_the_others_go_on(tmp_path, monkeypatch):
    alive, counts = weakref.WeakSet(), []

    def fail(run):
        net = wsn.build(run.model)
        alive.add(net)
        raise ValueError("no")

    def run_or_fail(plan, **_):
        counts.append(len(alive))
        return fail(plan.runs[0])

    monkeypatch.setattr(experiments, "run_planned", run_or_fail)
    with pytest.raises(wsn.SweepError, match="3 of 3 runs failed"):
        wsn.run_missing(
            [experiment(seed=s) for s in range(3)],
            store=wsn.Store(tmp_path),
            workers=1,
            progress=False,
        )
    assert counts == [0, 0, 0]


# -- processes and their devices --


def note_place(plan, store, device) -> list:
    with open(store.path / f"{os.getpid()}.{plan.runs[0].seed}", "w") as file:
        file.write(device)
    time.sleep(0.05)
    return []


def test_a_process_keeps_its_device_and_every_run_is_done_once(tmp_path, monkeypatch):
    monkeypatch.setattr(sweeps, "_work_on", note_place)
    plan = experiments.plan(experiment(), device="cpu")
    work = [replace(plan, runs=(experiment(seed=seed),), seconds=1.0) for seed in range(7)]
    seen = []
    with Watch(7, 7.0, seen.append) as watch:
        assert sweeps._in_processes(work, wsn.Store(tmp_path), ["a", "b"], watch) == []
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert 2 <= max(len(progress.under_way) for progress in seen) <= 3
    assert (seen[-1].done, seen[-1].under_way, seen[-1].share) == (7, (), 1.0)
    notes = [(*path.name.split("."), path.read_text()) for path in tmp_path.iterdir()]
    assert sorted(int(seed) for _, seed, _ in notes) == list(range(7))
    processes = {(process, device) for process, _, device in notes}
    assert sorted(device for _, device in processes) == ["a", "b"]
    assert len({process for process, _ in processes}) == 2


def fail_at_seed_0(plan, store, device) -> list[Failure]:
    """What a process whose GPU has failed gives: nothing, ever."""
    seed = plan.runs[0].seed
    (store.path / f"{os.getpid()}.{seed}").write_text(os.environ["WSN_WORKERS"])
    error = "AcceleratorError: CUDA error: device-side assert triggered"
    return [] if seed else [Failure(experiment=plan.runs[0], error=error, traceback=error)]


def test_a_process_whose_gpu_has_failed_gives_its_place_to_another(tmp_path, monkeypatch):
    monkeypatch.setattr(sweeps, "_work_on", fail_at_seed_0)
    monkeypatch.setattr(streaming, "usable_cpus", lambda: 7)
    plan = experiments.plan(experiment(), device="cpu")
    work = [replace(plan, runs=(experiment(seed=seed),), seconds=1.0) for seed in (0, 1, 2)]
    with Watch(3, 3.0, lambda _: None) as watch:
        (failure,) = sweeps._in_processes(work, wsn.Store(tmp_path), ["a"], watch)
    assert failure.experiment.seed == 0
    process = {seed: path.name.split(".")[0] for path in tmp_path.iterdir() for seed in path.suffix[1:]}
    assert len(process) == 3 and process["0"] != process["1"] == process["2"]
    assert {path.read_text() for path in tmp_path.iterdir()} == {"7"}  # all CPUs read for one training


def fail_on_b(plan, store, device) -> list[Failure]:
    """What a GPU that is broken gives, and sooner than the other one its results."""
    error = "AcceleratorError: CUDA error: uncorrectable ECC error encountered"
    while device == "a" and len(list(store.path.glob("b.*"))) < 2:
        time.sleep(0.01)
    (store.path / f"{device}.{plan.runs[0].seed}").touch()
    return [Failure(experiment=plan.runs[0], error=error, traceback=error)] if device == "b" else []


def on_gpus(places: str, tmp_path, monkeypatch) -> list[Failure]:
    monkeypatch.setattr(sweeps, "_work_on", fail_on_b)
    plan = experiments.plan(experiment(), device="cpu")
    work = [replace(plan, runs=(experiment(seed=seed),), seconds=1.0) for seed in range(8)]
    with Watch(8, 8.0, lambda _: None) as watch:
        return sweeps._in_processes(work, wsn.Store(tmp_path), list(places), watch)


def test_a_gpu_that_fails_two_runs_in_succession_is_given_no_more(tmp_path, monkeypatch):
    """Else it would fail all runs of a sweep while the others are busy."""
    failures = on_gpus("ab", tmp_path, monkeypatch)
    assert len(failures) == 2 == len(list(tmp_path.glob("b.*")))
    assert len(list(tmp_path.glob("a.*"))) == 6


def test_a_sweep_stops_when_all_gpus_fail_again(tmp_path, monkeypatch):
    """Of two processes that share one, the other has begun a third run by then."""
    words = "every GPU has failed two runs in succession, and 5 were not begun; .* with AcceleratorError"
    with pytest.raises(wsn.SweepError, match=words) as caught:
        on_gpus("bb", tmp_path, monkeypatch)
    assert len(caught.value.failures) == 3 == len(list(tmp_path.glob("b.*")))


def test_work_in_a_process_whose_gpu_has_failed_is_reported_as_it_failed(tmp_path, monkeypatch):
    def fails(*_, **__):
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(experiments, "run_planned", fails)
    monkeypatch.setattr(torch.cuda, "empty_cache", fails)
    plan = experiments.plan(experiment(), device="cpu")
    (failure,) = work_on(plan, wsn.Store(tmp_path), "cpu")
    assert failure.error == "AcceleratorError: CUDA error: device-side assert triggered"


def test_a_sweep_in_this_process_stops_when_its_gpu_has_failed(tmp_path, monkeypatch):
    run_planned, runs = experiments.run_planned, [experiment(seed=seed) for seed in range(3)]

    def fails_from_seed_1(plan, **options):
        if plan.runs[0].seed:
            raise torch.AcceleratorError("CUDA error: device-side assert triggered")
        return run_planned(plan, **options)

    monkeypatch.setattr(experiments, "run_planned", fails_from_seed_1)
    monkeypatch.setattr(experiments, "planned_jointly", lambda plans, workers: plans)
    store, key = wsn.Store(tmp_path), wsn.spec_key(runs[1])
    with pytest.raises(
        wsn.SweepError, match=f"the GPU has failed this process in {key} with .*; .* in a new process"
    ) as caught:
        wsn.run_missing(runs, store=store, workers=1, progress=False)
    assert [each.experiment for each in caught.value.failures] == [runs[1]]
    assert (store.keys(), set(store.failures())) == ({wsn.spec_key(runs[0])}, {key})


GIB = 2**30


@pytest.fixture
def machine(monkeypatch):
    """A machine with GPUs, as far as a sweep sees one: where the runs of a sweep go."""

    def sweep(tmp_path, *, free, peak=GIB, cores=64, seconds=100.0, runs=40, make=experiment, **options):
        places = []

        def note(kind):
            return lambda work, store, where, advance: places.append((kind, where)) or []

        cuda = {
            "init": lambda: None,
            "reset_peak_memory_stats": lambda device: None,
            "max_memory_reserved": lambda device: peak,
            "mem_get_info": lambda device: (free[int(device.removeprefix("cuda:"))], 141 * GIB),
            "device_count": lambda: len(free),
            "is_available": lambda: True,
        }
        for name, fake in cuda.items():
            monkeypatch.setattr(torch.cuda, name, fake)
        monkeypatch.setattr(sweeps, "usable_cpus", lambda cores=cores: cores)
        monkeypatch.setattr(durations, "seconds_per_run", lambda *_: seconds)
        monkeypatch.setattr(sweeps, "_here", note("here"))
        monkeypatch.setattr(sweeps, "_in_processes", note("processes"))
        monkeypatch.setattr(durations, "seconds_per_measurement", lambda *_, **__: seconds)
        work = [make(seed=seed) for seed in range(runs)]
        wsn.run_missing(work, store=wsn.Store(tmp_path), progress=False, **options)
        return places[0]

    return sweep


@pytest.mark.parametrize(
    ("options", "places"),
    [
        ({"free": [7 * GIB]}, ["cuda:0"] * 3),  # 1 GiB of tensors and 1 of the process each
        ({"free": [80 * GIB]}, ["cuda:0"] * 4),
        ({"free": [80 * GIB, 5 * GIB]}, ["cuda:0", "cuda:1"] * 2),
        ({"free": [80 * GIB, 5 * GIB], "device": "cuda"}, ["cuda:0", "cuda:1"] * 2),
        ({"free": [80 * GIB] * 3, "cores": 5}, ["cuda:0", "cuda:1", "cuda:2", "cuda:0", "cuda:1"]),
        ({"free": [80 * GIB] * 2, "runs": 3}, ["cuda:0", "cuda:1", "cuda:0"]),
        ({"free": [80 * GIB] * 2, "seconds": 1.0}, ["cuda:0", "cuda:1"]),  # 40 s pay for two processes
        ({"free": [5 * GIB] * 2, "workers": 5}, ["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0"]),
        ({"free": [80 * GIB] * 2, "device": "cuda:1"}, ["cuda:1"] * 4),
        ({"free": [80 * GIB], "device": "cpu", "cores": 6}, ["cpu"] * 6),
    ],
    ids=str,
)
def test_trainings_share_gpus_by_their_memory(tmp_path, machine, options, places):
    assert machine(tmp_path, **options) == ("processes", places)


def test_kernels_take_all_cpus_of_a_machine_with_a_gpu(tmp_path, machine):
    kernels = partial(
        wsn.KernelSimulation,
        inputs=specs.GaussianInputs(dimension=4),
        widths=(3,),
        densities=(0.5,),
        num_pairs=2,
        num_networks=2,
    )
    assert machine(tmp_path, free=[80 * GIB], cores=6, make=kernels) == ("processes", ["cpu"] * 6)


@pytest.mark.parametrize("options", [{"free": [GIB]}, {"free": [80 * GIB] * 2, "workers": 1}], ids=str)
def test_a_training_alone_runs_in_this_process_on_the_first_gpu(tmp_path, machine, options):
    assert machine(tmp_path, **options) == ("here", "cuda:0")


@pytest.mark.parametrize("workers", [None, 2])
def test_the_timing_leaves_no_memory_of_a_gpu_taken(tmp_path, machine, monkeypatch, workers):
    emptied = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    machine(tmp_path, free=[80 * GIB], workers=workers)
    assert emptied == [True]


@pytest.mark.parametrize(("free", "minutes"), [([80 * GIB], "12.0"), ([80 * GIB] * 3, "4.0")])
def test_a_budget_counts_gpus_not_the_processes_on_them(tmp_path, machine, free, minutes):
    with pytest.raises(wsn.BudgetError, match=f"about {minutes} minutes here"):
        machine(tmp_path, free=free, seconds=18.0, budget_minutes=1)


# -- kill -9 --

SWEEP = """
import sys
sys.path.insert(0, "tests")
import wsnlib as wsn
from test_sweeps import killed_runs
if __name__ == "__main__":
    wsn.run_missing(killed_runs(), store=wsn.Store(sys.argv[1]), workers=2)
"""


def killed_runs() -> list[wsn.Experiment]:
    return [experiment(width=w, seed=s, epochs=20) for s in range(4) for w in (5, 10, 20)]


def processes_with(word: str) -> list[int]:
    """Processes whose command line or parent's has this word; Linux only."""
    found = []
    for pid in (p for p in os.listdir("/proc") if p.isdigit()):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if word.encode() in file.read():
                    found.append(int(pid))
        except OSError:
            continue
    return found


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="looks for processes in /proc")
def test_a_process_that_is_ended_while_it_waits_is_replaced(tmp_path, monkeypatch):
    class Ended(ProcessPoolExecutor):
        broken = 1

        def submit(self, work, *given):
            if work is sweeps._work_on and Ended.broken:
                Ended.broken -= 1
                raise BrokenProcessPool
            return super().submit(work, *given)

    monkeypatch.setattr(sweeps, "ProcessPoolExecutor", Ended)
    runs = [experiment(seed=seed) for seed in range(3)]
    assert wsn.run_missing(runs, store=wsn.Store(tmp_path), workers=2, progress=False) == 3
    assert Ended.broken == 0


def test_a_killed_sweep_goes_on_where_it_was(tmp_path):
    script, folder, runs = tmp_path / "sweep.py", tmp_path / "store", killed_runs()
    script.write_text(SWEEP)
    marker = f"WSN_TEST_{tmp_path.name}_{os.getpid()}"
    command = [sys.executable, str(script), str(folder)]
    process = subprocess.Popen(command, env=os.environ | {"WSN_TEST": marker}, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 600
    while len(list(folder.glob("*.json"))) < 3:
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    while processes_with(marker):  # the workers end by themselves
        assert time.monotonic() < deadline
        time.sleep(0.05)

    store = wsn.Store(folder)
    stamps = {p: p.stat().st_mtime_ns for p in folder.glob("*.json")}
    assert 3 <= len(stamps) < len(runs)
    assert all(record.status == "finished" for record in store)
    trained = wsn.run_missing(runs, store=store, progress=False)
    assert trained == len(runs) - len(stamps)
    assert all(p.stat().st_mtime_ns == stamp for p, stamp in stamps.items())

    whole = wsn.Store(tmp_path / "whole")
    wsn.run_missing(runs, store=whole, progress=False)
    assert wsn.table(runs, store=store).equals(wsn.table(runs, store=whole))
    for run in runs:
        a, b = store.load(run), whole.load(run)
        assert a.history == b.history
        assert a.predictions.tobytes() == b.predictions.tobytes()


# -- time --


def test_estimates_are_made_once_for_each_shape(monkeypatch):
    calls = []
    monkeypatch.setattr(durations, "seconds_per_run", lambda plan, _: calls.append(plan) or 1.0)
    runs = [experiment(width=w, seed=s) for w in (5, 10, 20) for s in range(4)]
    assert seconds_of(runs) == [1.0] * 12
    assert len(calls) == 3
    rules = [replace(r, model=replace(r.model, allocation=rule)) for r in runs[:1] for rule in RULES[:2]]
    assert seconds_of(rules) == [1.0, 1.0]
    assert len(calls) == 4


def test_time_is_that_of_the_weights_and_not_of_the_learning_rate(monkeypatch):
    timed = []
    monkeypatch.setattr(
        durations, "seconds_per_run", lambda plan, _: timed.extend(plan.runs) or float(len(timed))
    )
    narrow, wide = (wsn.StaticSparsity(wsn.MLPSpec(width=w, inputs=64), width=40) for w in (5, 20))
    runs = [replace(experiment(), model=model) for model in (narrow, wide)]
    runs += [replace(r, training=replace(r.training, learning_rate=0.3)) for r in runs]
    assert seconds_of(runs) == [1, 2, 1, 2]
    assert timed == runs[:2]


@pytest.mark.parametrize(
    "run",
    [
        wsn.ExampleLabels(data=wsn.MNIST()),
        wsn.KernelDistances(inputs=wsn.MNIST(), densities=[0.5], num_pairs=2),
        wsn.OutputSimilarity(
            [replace(experiment(seed=s), model=wsn.MLPSpec(width=5), data=wsn.MNIST()) for s in (0, 1)]
        ),
    ],
    ids=lambda run: type(run).__name__,
)
def test_a_download_is_for_measurements_too(run, tmp_path, monkeypatch):
    monkeypatch.setenv("WSN_DATA", str(tmp_path))
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])  # nobody answers there
    with pytest.raises(wsn.DataError, match="MNIST could not be downloaded"):
        wsn.run_missing([run], store=wsn.Store(tmp_path / "store"), download=True, progress=False)


FROM_STDIN = """
import sys
import wsnlib as wsn
from distributed import Client
from wsnlib import specs
runs = [
    specs.KernelDistances(inputs=specs.GaussianInputs(dimension=3), densities=(0.5,), num_pairs=2, seed=s)
    for s in range(2)
]
print(wsn.run_missing(runs, store=wsn.Store(sys.argv[1] + "/processes"), workers=2, progress=False))
with wsn.local_cluster(1) as cluster, Client(cluster) as client:
    print(wsn.run_missing(runs, store=wsn.Store(sys.argv[1] + "/cluster"), executor=client, progress=False))
"""


def test_a_program_that_is_piped_into_python_starts_processes(tmp_path):
    said = subprocess.run(
        [sys.executable, "-", str(tmp_path)], input=FROM_STDIN, capture_output=True, text=True, timeout=840
    )
    assert said.stdout == "2\n2\n", said.stderr[-2000:]


@pytest.fixture
def double_by_default():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Float32(nn.Sequential):
    """Takes float32 whatever the default is, as its data are."""

    def __init__(self, width):
        super().__init__(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))

    def forward(self, images):
        return super().forward(images.float())


PLAIN = wsn.Experiment(
    model=wsn.CustomSpec("test_sweeps.Float32", options={"width": 3}),
    data=wsn.Digits(train_size=100),
    training=wsn.Training(epochs=1),
)


def test_a_record_does_not_depend_on_torchs_default_precision(tmp_path, double_by_default):
    def made() -> list[wsn.Record]:
        jointly = replace(
            experiments.plan(experiment(), device="cpu"),
            runs=(experiment(), experiment(seed=1)),
            engine="compiled",
        )
        return [wsn.run(PLAIN), *experiments.run_planned(jointly, device="cpu")]

    found = made()
    with float32():
        expected = made()
    kept, store = wsn.Store(tmp_path / "kept"), wsn.Store(tmp_path / "made")
    kept.save(expected[0])
    wsn.run_missing([PLAIN], store=store, progress=False, workers=1)
    for one, other in zip([*found, store.load(PLAIN)], [*expected, kept.load(PLAIN)], strict=True):
        assert one.history == other.history
        np.testing.assert_array_equal(one.predictions, other.predictions)
    assert torch.get_default_dtype() == torch.float64


def test_a_network_in_double_precision_is_refused_and_the_advice_helps(double_by_default):
    data = wsn.load_data(wsn.Digits(train_size=100))
    protocol = wsn.Training(epochs=1)
    uses = [
        lambda net: wsn.train(net, data, protocol, seed=0),
        lambda net: wsn.predict(net, data, data.test.images),
        lambda net: wsn.training.train_jointly([net], data, [protocol], seeds=[0]),
    ]
    for use in uses:
        with pytest.raises(
            ValueError, match=r"must be torch.float32, got torch.float64 in .*; call model.float\(\)"
        ):
            use(wsn.build(BASE))
        use(wsn.build(BASE).float())


UNGUARDED = """
import wsnlib as wsn
from wsnlib import specs
inputs = specs.GaussianInputs(dimension=3)
runs = [specs.KernelDistances(inputs=inputs, densities=(0.5,), num_pairs=2, seed=s) for s in range(2)]
"""
CALL = 'print(wsn.run_missing(runs, store=wsn.Store("here"), workers=2, progress=False))\n'


def test_a_script_that_is_not_guarded_is_told_how(tmp_path):
    def said(script: str) -> subprocess.CompletedProcess:
        (tmp_path / "script.py").write_text(UNGUARDED + script)
        return subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True)

    sentence = said(CALL).stderr.strip().splitlines()[-1]
    assert (
        "no training process could be started; in a script, call run_missing below `if __name__" in sentence
    )
    advised = re.search("below `(.*)`", sentence)[1]
    assert said(f"{advised}\n    {CALL}").stdout == "2\n"


INTERRUPTED = """
import os, signal, sys
import wsnlib as wsn


def interrupt(progress):
    if len(progress.under_way) == 2:
        os.killpg(os.getpgrp(), signal.SIGINT)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    model, data = wsn.MLPSpec(width=5, inputs=64), wsn.Digits()
    runs = [
        wsn.Experiment(model=model, data=data, training=wsn.Training(epochs=100_000, batch_size=1), seed=s)
        for s in (0, 1)
    ]
    try:
        wsn.run_missing(runs, store=wsn.Store(sys.argv[1]), workers=2, progress=interrupt)
    except KeyboardInterrupt:
        print("interrupted")
"""


def test_an_interrupt_ends_processes_that_start_without_a_word_from_them(tmp_path):
    """As Jupyter and a terminal interrupt: all processes of a group at once, while some import what they need."""
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED)
    command = [sys.executable, str(script), str(tmp_path / "store")]
    done = subprocess.run(command, capture_output=True, text=True, start_new_session=True, timeout=840)
    assert (done.stdout, done.stderr) == ("interrupted\n", "")
