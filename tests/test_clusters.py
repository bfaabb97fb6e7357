"""Sweeps on a Dask cluster: what is done, what is refused, and what is left when something dies."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import dask
import psutil
import pytest
import torch
from distributed import CancelledError, Client
from reliability import fault

import wsnlib as wsn
from wsnlib import book, experiments, specs
from wsnlib.store import Failure
from wsnlib.sweeps import clusters

ROOT = Path(__file__).parent.parent
COMMAND = Path(sys.executable).with_name("wsn")


def stub(seed: int, pairs: int = 2) -> specs.KernelDistances:
    """A run of a few milliseconds."""
    inputs = specs.GaussianInputs(dimension=5)
    return specs.KernelDistances(inputs=inputs, densities=(0.5,), num_pairs=pairs, seed=seed)


def training(seed: int = 0, **changes) -> wsn.Experiment:
    protocol = wsn.Training(**{"epochs": 2} | changes)
    return wsn.Experiment(
        model=wsn.MLPSpec(width=5, inputs=64), data=wsn.Digits(), training=protocol, seed=seed
    )


IMPOSSIBLE = wsn.Experiment(
    model=wsn.StaticSparsity(
        wsn.MLPSpec(width=5, inputs=64), width=80, allocation=wsn.LastLayerDensity(density=1.0)
    ),
    data=wsn.Digits(),
    training=wsn.Training(epochs=1),
)


@pytest.fixture(scope="module")
def client():
    """Two workers of one thread each, with half a GPU each as they say."""
    with wsn.local_cluster(2, resources={"GPU": 0.5}) as cluster, Client(cluster) as client:
        yield client


def sweep(runs, store, client, **options) -> int:
    return wsn.run_missing(runs, store=store, executor=client, progress=False, device="cpu", **options)


def test_a_cluster_gives_the_bits_of_this_process(client, tmp_path):
    runs = [training(seed) for seed in range(3)]
    here, there = wsn.Store(tmp_path / "here"), wsn.Store(tmp_path / "there")
    seen = []
    assert wsn.run_missing(runs, store=there, executor=client, device="cpu", progress=seen.append) == 3
    assert wsn.run_missing(runs, store=here, workers=1, progress=False) == 3
    assert sweep(runs, there, client) == 0
    assert wsn.table(runs, store=here).equals(wsn.table(runs, store=there))
    assert (seen[-1].total, seen[-1].done, seen[-1].share, seen[-1].under_way) == (3, 3, 1.0, ())
    assert len(seen[1].under_way) == 3
    assert not (tmp_path / "there" / "checkpoints").exists()


def test_workers_are_as_deterministic_as_the_client(client, tmp_path):
    store = wsn.Store(tmp_path)
    for seed, mode in enumerate((True, False)):
        torch.use_deterministic_algorithms(mode)
        try:
            sweep([training(seed)], store, client)
        finally:
            torch.use_deterministic_algorithms(False)
        assert store.load(training(seed)).environment["deterministic"] is mode


def test_a_worker_finds_a_network_beside_the_client(client, tmp_path, monkeypatch):
    (tmp_path / "nets_beside.py").write_text(
        "from torch import nn\ndef net(width=3): return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    model = wsn.CustomSpec("nets_beside.net", options={"width": 5})
    run = wsn.Experiment(model=model, data=wsn.Digits(), training=wsn.Training(epochs=1))
    assert sweep([run], wsn.Store("records"), client) == 1


def test_one_exception_in_a_hundred_is_reported_with_its_traceback_and_its_spec(client, tmp_path):
    store, runs = wsn.Store(tmp_path), [*(stub(seed) for seed in range(99)), IMPOSSIBLE]
    with fault("an exception in one run of a hundred") as noted:
        with pytest.raises(wsn.SweepError, match="1 of 100 runs failed, the others are stored") as caught:
            sweep(runs, store, client)
        (failure,) = caught.value.failures
        assert failure.experiment == IMPOSSIBLE
        assert failure.error.startswith("ValueError: num_weights must leave")
        assert "in allocate" in failure.traceback
        assert failure.traceback in caught.value.__notes__[0]
        assert repr(IMPOSSIBLE) in caught.value.__notes__[0]
        assert store.failures() == {wsn.spec_key(IMPOSSIBLE): failure}
        noted(lost=99 - len(store.keys()), how="99 records; the failure has its spec and its traceback")


def test_only_so_many_runs_are_with_the_scheduler_at_once(client, tmp_path, monkeypatch):
    monkeypatch.setattr(clusters, "WINDOW", 5)
    seen = []
    runs, store = [stub(seed) for seed in range(17)], wsn.Store(tmp_path)
    wsn.run_missing(runs, store=store, executor=client, progress=seen.append)
    assert max(len(p.under_way) for p in seen) == 5
    assert seen[-1].done == 17
    assert store.keys() == set(map(wsn.spec_key, runs))


@pytest.mark.parametrize(("resources", "places"), [(None, 2), ({"GPU": 0.5}, 2), ({"GPU": 0.25}, 2)])
def test_runs_take_resources_that_workers_offer(client, tmp_path, resources, places):
    assert clusters.places_of(client, resources) == places
    assert sweep([stub(0)], wsn.Store(tmp_path), client, resources=resources) == 1


def test_a_worker_of_several_threads_is_one_place():
    found = {"nthreads": 4, "resources": {"GPU": 2}}
    client = SimpleNamespace(
        run=lambda *_, **__: {"a": clusters.versions()},
        scheduler_info=lambda **_: {"workers": {"a": found, "b": found}},
    )
    assert clusters.places_of(client, None) == clusters.places_of(client, {"GPU": 1}) == 2


def test_a_cluster_has_its_own_workers(tmp_path):
    with pytest.raises(ValueError, match="workers must be None with an executor, got 3"):
        sweep([stub(0)], wsn.Store(tmp_path), SimpleNamespace(run=None), workers=3)


def test_resources_that_no_worker_has_are_refused_before_any_work(client, tmp_path):
    for resources in ({"GPU": 1}, {"TPU": 1}):
        with pytest.raises(ValueError, match="must be what one of the workers has, .*'GPU': 0.5.*, got "):
            sweep([stub(0)], wsn.Store(tmp_path), client, resources=resources)
    with pytest.raises(ValueError, match="resources must be None without an executor, got {'GPU': 1}"):
        wsn.run_missing([stub(0)], store=wsn.Store(tmp_path), resources={"GPU": 1})


def test_a_budget_is_measured_on_the_cluster(client, tmp_path):
    with pytest.raises(wsn.BudgetError, match="1 of 1 runs have no record"):
        sweep([stub(0, pairs=10**7)], wsn.Store(tmp_path), client, budget_minutes=0.01)


def test_a_store_that_the_workers_do_not_share_is_named(client):
    with pytest.raises(
        wsn.SweepError, match="must be shared by all machines, got memory://mine, where the first"
    ):
        sweep([stub(0), stub(1)], wsn.Store("memory://mine"), client)


def test_nothing_listens_but_on_the_loopback_device(client):
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    listening = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            listening += [c.laddr.ip for c in process.net_connections("inet") if c.status == "LISTEN"]
    assert len(listening) >= 4
    assert set(listening) <= {"127.0.0.1", "::1"}


def workers_of(client) -> list[int]:
    return [client.run(os.getpid, workers=[w])[w] for w in client.scheduler_info()["workers"]]


def test_a_killed_worker_is_replaced_and_its_run_made_elsewhere(client, tmp_path):
    store, runs = wsn.Store(tmp_path), [stub(seed, pairs=200) for seed in range(40)]
    killed = []

    def kill(progress):
        if progress.done >= 3 and not killed:
            killed.append(workers_of(client)[0])
            os.kill(killed[0], signal.SIGKILL)

    with fault("kill -9 of a worker") as noted:
        assert wsn.run_missing(runs, store=store, executor=client, progress=kill) == 40
        assert len(killed) == 1
        noted(lost=40 - len(store.summaries(runs)), how="40 records with their checksums; the sweep went on")


def deadly(plan, store, *arguments):
    """The work, but the run of seed 0 ends the process, once the others are made and the scheduler knows."""
    if plan.runs[0].seed == 0:
        deadline = time.monotonic() + 600
        while len(store.keys()) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1)  # in which this worker, too, tells the scheduler what it finished
        os._exit(9)
    return clusters._work_here(plan, store, *arguments)


def test_a_run_that_kills_its_worker_is_reported_and_the_others_are_made(client, tmp_path, monkeypatch):
    monkeypatch.setattr(client.cluster.scheduler, "allowed_failures", 0)
    store, runs = wsn.Store(tmp_path), [stub(1), stub(2), stub(0)]
    with monkeypatch.context() as patch:
        patch.setattr(clusters, "_work_here", deadly)
        with pytest.raises(
            wsn.SweepError, match=f"1 of 3 runs failed, .* {wsn.spec_key(runs[2])} with KilledWork"
        ):
            sweep(runs, store, client)
    assert [run in store for run in runs] == [True, True, False]
    assert list(store.failures()) == [wsn.spec_key(runs[2])]


def on_failed_gpu(plan, store, *arguments):
    """The work, of which the first process to have some fails whatever it is given, and at once."""
    first = store.path / "first"
    with suppress(FileExistsError), first.open("x") as file:
        file.write(str(os.getpid()))
    if first.read_text() == str(os.getpid()):
        error = "AcceleratorError: CUDA error: uncorrectable ECC error encountered"
        clusters.work_on = lambda plan, store, device: [
            Failure(experiment=run, error=error, traceback=error) for run in plan.runs
        ]
    return clusters._work_here(plan, store, *arguments)


def test_a_worker_whose_gpu_has_failed_reports_one_run_and_gives_its_place_to_another(tmp_path, monkeypatch):
    """Else it would fail one after the other, faster than the others make theirs."""
    monkeypatch.setattr(clusters, "_work_here", on_failed_gpu)
    store, runs = wsn.Store(tmp_path), [stub(seed, pairs=200) for seed in range(40)]
    with wsn.local_cluster(2) as cluster, Client(cluster) as own:
        before = workers_of(own)
        with pytest.raises(wsn.SweepError, match="1 of 40 runs failed, .* with AcceleratorError"):
            sweep(runs, store, own)
        own.wait_for_workers(2, timeout=600)
        (failed,) = set(before) - set(workers_of(own))
    assert (tmp_path / "first").read_text() == str(failed)
    assert len(store.keys()) == 39


@contextmanager
def processes(folder: Path, *, worker_path: str = str(ROOT)):
    """A scheduler and a worker of their own, as their commands start them; what is left of them is ended."""
    address_file, log = folder / "scheduler.json", (folder / "log").open("w")
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    quiet = {"cwd": folder, "stdout": log, "stderr": log}
    options = ["--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(address_file), "--no-dashboard"]
    scheduler = subprocess.Popen([*dask, *options], **quiet)
    dask = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(address_file)]
    environment = os.environ | {"PYTHONPATH": f"{worker_path}{os.pathsep}{ROOT / 'tests'}"}
    options = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--death-timeout", "600"]
    worker = subprocess.Popen([*dask, *options], env=environment, **quiet)
    try:
        yield scheduler, worker, str(address_file)
    finally:
        for process in (worker, scheduler):
            process.kill()
            process.wait()
        log.close()


def connected(address_file: str) -> Client:
    deadline = time.monotonic() + 600
    while not os.path.exists(address_file):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    client = Client(scheduler_file=address_file, timeout=15)  # after which a lost scheduler is given up
    client.wait_for_workers(1, timeout=600)
    return client


def test_the_command_hands_its_runs_to_the_scheduler_that_it_is_told_of(tmp_path):
    file = tmp_path / "params" / "sparse_mlp.smoke.yml"
    file.parent.mkdir()
    file.write_text(
        "{widths: [5, 10], last_layer_densities: [1.0], activations: [relu], seeds: [0], epochs: 1}"
    )
    place = tmp_path / "store"
    with processes(tmp_path) as (_, _, address), connected(address) as own:
        words = ["run", str(file), "--store", str(place), "--scheduler", address]
        done = subprocess.run([COMMAND, *words], capture_output=True, text=True, timeout=840)
        executed = own.run(lambda dask_worker: dask_worker.state.executed_count)
    assert done.returncode == 0, done.stderr
    (stage,) = book.chapter_stages(book.read_parameters(file), store=wsn.Store(place))
    assert wsn.Store(place).keys() == set(map(wsn.spec_key, stage))
    assert len(stage) == 6 and sum(executed.values()) >= 6


def test_a_killed_scheduler_is_named_and_the_same_call_goes_on(client, tmp_path):
    store, runs = wsn.Store(tmp_path / "store"), [stub(seed, pairs=300) for seed in range(20)]
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "3s"}),
        fault("kill -9 of the scheduler") as noted,
        processes(tmp_path) as (scheduler, _, file),
        connected(file) as own,
    ):

        def kill(progress):
            if progress.done >= 3:
                scheduler.kill()

        with pytest.raises(wsn.SweepError, match="the scheduler is gone .* call again to go on"):
            wsn.run_missing(runs, store=store, executor=own, progress=kill)
        stamps = store._stamps(store._folder)
        kept = {name: stamps[name] for name in stamps if name.endswith(".json")}
        assert 3 <= len(kept) < 20
        assert sweep(runs, store, client) == 20 - len(kept)
        stamps = store._stamps(store._folder)
        changed = kept.items() - stamps.items()
        noted(
            lost=len(changed) + 20 - len(store.summaries(runs)),
            how="what was finished is unchanged; the same call made the rest",
        )


@pytest.mark.parametrize("error", [OSError("closed"), CancelledError()])
def test_a_scheduler_that_dies_before_results_are_fetched_is_named(client, tmp_path, monkeypatch, error):
    def lost(futures):
        raise error

    monkeypatch.setattr(client, "gather", lost)
    with pytest.raises(wsn.SweepError, match="the scheduler is gone .* call again to go on"):
        sweep([stub(0)], wsn.Store(tmp_path), client)


def test_a_worker_of_another_version_is_refused(tmp_path, client):
    shutil.copytree(
        ROOT / "wsnlib", tmp_path / "old" / "wsnlib", ignore=shutil.ignore_patterns("__pycache__")
    )
    file = tmp_path / "old" / "wsnlib" / "specs" / "experiments.py"
    file.write_text(file.read_text().replace("SPEC_VERSION = 2", "SPEC_VERSION = 1"))
    store = wsn.Store(tmp_path / "store")
    with (
        fault("a worker with another version of the library") as noted,
        processes(tmp_path, worker_path=str(tmp_path / "old")) as (_, _, address),
        connected(address) as own,
    ):
        with pytest.raises(
            clusters.VersionError, match="the worker tcp://.* must have .*'spec': '2'.*, got .*'spec': '1'"
        ):
            sweep([stub(0)], store, own)
        expected = clusters.versions()
        late = own.submit(
            clusters._work_here,
            experiments.plan(stub(0), device="cpu"),
            store,
            "cpu",
            expected,
            str(tmp_path),
            0,
            pure=False,
        )
        assert isinstance(late.exception(), clusters.VersionError)
        assert store.keys() == set()
        assert sweep([stub(0)], store, client) == 1
        noted(lost=0, how="refused before any work, and by a worker that comes later; nothing was stored")
