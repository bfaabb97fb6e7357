"""Experiments and sweeps: equal weights, resuming, faults, one table."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

import wsnlib as wsn
from wsnlib import experiments, sweeps

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
        with pytest.raises(ValueError, match="allowed"):
            wsn.build(spec)
        return
    net = wsn.build(spec)
    assert (
        wsn.num_weights(net) == wsn.num_weights(wsn.build(base)) == (784 + 10) * 5 + 25 * (hidden_layers - 1)
    )
    assert wsn.allocation(spec) == {
        n: int((net.get_submodule(n).weight != 0).sum()) for n in wsn.allocation(spec)
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
        ValueError, match="3970 weights with 45 in output leave 3925 for hidden1, where 1 to 3920"
    ):
        wsn.allocation(wsn.StaticSparsity(base, width=5, allocation=wsn.LastLayerDensity(density=0.9)))


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


# -- running --


def test_a_run_that_does_not_fit_its_data_is_named():
    wrong = replace(experiment(), model=wsn.MLPSpec(width=5))
    with pytest.raises(ValueError, match="784 inputs and 10 outputs; 64 and 10 are allowed for Digits"):
        wsn.run(wrong)
    with pytest.raises(ValueError, match="784 inputs"):
        wsn.run_missing([wrong], store=wsn.Store("unused"), progress=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_missing_gpu_is_named():
    with pytest.raises(ValueError, match="device is 'cuda' and there is no CUDA device; 'cpu' and 'auto'"):
        wsn.run(experiment(), device="cuda")


def test_a_record_says_where_it_was_made():
    record = wsn.run(experiment(width=20), device="cpu")
    assert record.network["num_weights"] == 370
    assert record.network["weights_per_layer"] == {"hidden1": 185, "output": 185}
    assert set(record.environment) >= {"wsnlib", "commit", "python", "torch", "device", "threads", "seconds"}
    assert not any(os.sep in str(v) for k, v in record.environment.items() if k not in ("device",))


def test_what_is_there_is_not_trained_again(tmp_path, monkeypatch):
    store, runs = wsn.Store(tmp_path), [experiment(width=w) for w in (5, 10, 10)]
    assert wsn.run_missing(runs, store=store, progress=False) == 2
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    monkeypatch.setattr(experiments, "run", lambda *_, **__: pytest.fail("trained again"))
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


def test_too_long_a_sweep_is_refused_before_it_starts(tmp_path):
    runs = [experiment(width=w, epochs=10_000) for w in (5, 10)]
    with pytest.raises(
        wsn.BudgetError, match=r"2 of 2 runs have no record .* about .* minutes here; budget_minutes is 0\.1"
    ):
        wsn.run_missing(runs, store=wsn.Store(tmp_path), budget_minutes=0.1, progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_one_failing_run_does_not_stop_the_others(tmp_path, workers):
    impossible = replace(
        experiment(), model=wsn.StaticSparsity(BASE, width=80, allocation=wsn.LastLayerDensity(density=1.0))
    )
    runs = [experiment(), impossible, experiment(width=10)]
    store = wsn.Store(tmp_path)
    with pytest.raises(
        wsn.SweepError, match=f"1 of 3 runs failed, .* the first is {wsn.key(impossible)} with ValueError"
    ):
        wsn.run_missing(runs, store=store, workers=workers, progress=False)
    assert [run in store for run in runs] == [True, False, True]


def test_bad_workers_are_named(tmp_path):
    with pytest.raises(ValueError, match="workers is 0; an integer of at least 1"):
        wsn.run_missing([experiment()], store=wsn.Store(tmp_path), workers=0)


def test_a_diverged_run_is_recorded_as_such(tmp_path):
    store, runs = wsn.Store(tmp_path), [experiment(learning_rate=1e20), experiment(seed=1)]
    wsn.run_missing(runs, store=store, progress=False)
    table = wsn.table(runs, store=store)
    assert table["status"].tolist() == ["diverged", "finished"]
    assert np.isnan(table["test_accuracy"][0])
    assert np.isnan(table["test_accuracy_last"][0])
    assert table["test_accuracy"][1] > 0.3
    assert wsn.run_missing(runs, store=store, progress=False) == 0


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
    return [experiment(width=w, seed=s, epochs=40) for s in range(4) for w in (5, 10, 20)]


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
def test_a_killed_sweep_goes_on_where_it_was(tmp_path):
    script, folder, runs = tmp_path / "sweep.py", tmp_path / "store", killed_runs()
    script.write_text(SWEEP)
    marker = f"WSN_TEST_{tmp_path.name}_{os.getpid()}"
    command = [sys.executable, str(script), str(folder)]
    process = subprocess.Popen(command, env=os.environ | {"WSN_TEST": marker}, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
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


# -- tables --


def test_the_table_has_every_field_and_result(tmp_path):
    store = wsn.Store(tmp_path)
    runs = [
        replace(experiment(width=w), model=wsn.StaticSparsity(BASE, width=w, allocation=r))
        for w in (5, 10)
        for r in RULES[:2]
    ]
    wsn.run_missing(runs, store=store, progress=False)
    table = wsn.table(runs, store=store)
    assert table["model.width"].tolist() == [5, 5, 10, 10]
    assert table["model.allocation"].tolist() == ["LargestFirst", "UniformDensity"] * 2
    assert (table["num_weights"] == 370).all()
    assert table["connectivity"].tolist() == [1, 1, 0.5, 0.5]
    assert (table["weights.hidden1"] + table["weights.output"] == 370).all()
    assert table["key"].tolist() == [wsn.key(r) for r in runs]
    assert "environment.seconds" not in table
    assert "environment.seconds" in wsn.table(runs, store=store, environment=True)

    history = wsn.history(runs, store=store)
    assert history["epoch"].tolist() == [1, 2] * 4
    last = history.groupby("key", sort=False)["test_accuracy"].last()
    assert last.tolist() == table["test_accuracy_last"].tolist()
    with pytest.raises(KeyError, match="no record"):
        wsn.table([experiment(seed=9)], store=store)


def test_estimates_are_made_once_for_each_shape(monkeypatch):
    calls = []
    monkeypatch.setattr(experiments, "seconds_per_run", lambda run, *_, **__: calls.append(run) or 1.0)
    runs = [experiment(width=w, seed=s) for w in (5, 10, 20) for s in range(4)]
    assert sweeps._estimates(runs, "cpu", False) == [1.0] * 12
    assert len(calls) == 3
