"""Make the records that are missing, in this process, in others on this machine, or on a cluster."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

import torch

from wsnlib import experiments, specs
from wsnlib.addresses import import_beside
from wsnlib.data import usable_cpus
from wsnlib.data.streaming import readers
from wsnlib.experiments.machine import Numerics, numerics, set_numerics
from wsnlib.specs.checks import plain
from wsnlib.store import Failure, Store
from wsnlib.sweeps.clusters import on_cluster, places_of
from wsnlib.sweeps.watching import Bar, Progress, Watch
from wsnlib.sweeps.work import GPU_FAILED, SweepError, ended_from_outside, forget_stdin, work_on

if TYPE_CHECKING:
    from distributed import Client

MOST_PER_GPU = 4
"""Trainings that share a GPU at most, unless told otherwise; more wait for one another."""

PROCESS_BYTES = 2**30
"""Memory of a GPU set aside for each process beside its tensors, for context, kernels, workspaces."""

ENDED = "its process was ended from outside, or by the operating system where memory ran out"

FOR_GOOD = (ENDED, GPU_FAILED)
"""How errors begin after which a process can train nothing more."""


class BudgetError(RuntimeError):
    """Records are missing and would take longer than allowed; notebooks show its sentence alone."""

    def _render_traceback_(self) -> list[str]:
        return [f"BudgetError: {self}"]


def run_missing(
    runs: Iterable[specs.Run],
    *,
    store: Store,
    device: str = "auto",
    workers: int | None = None,
    executor: Client | None = None,
    resources: Mapping[str, float] | None = None,
    budget_minutes: float | None = None,
    download: bool = False,
    progress: bool | Callable[[Progress], None] = True,
) -> int:
    """Train the runs that have no record yet, and return how many those were.

    Each run is stored by the process that trained it, as soon as it is done, and a long training keeps its
    state from time to time: whatever stops the sweep, the same call goes on where it was. Fully connected
    networks in compiled code keep none, and start anew if they had not finished. A record that
    is damaged is set aside with a warning and made again. Every run that trains alone does so on one CPU
    thread, so that its record does not depend on how many processes there are.

    Processes take the GPUs in turn; several share one if there are more of them than GPUs. A GPU runs
    the kernels of several processes at the same time only under NVIDIA's MPS; without it they take
    turns, which still fills the gaps that a small network leaves.

    Which engine trains a run is planned before anything is trained (`wsnlib.experiments.Plan`), and its
    record says it. On a CPU, masked layers are sparse-compute ones where that is estimated to pay, and fully
    connected networks of one shape that compiled code trains are trained jointly, up to 16 at once, those
    with the same seed together (`wsn.training.train_jointly`). Each has its own record, to the last bit the
    one of training alone. Other networks train side by side in processes of one thread, which
    `benchmarks/joint_resnets.py` finds faster than one batched program.

    Args:
        runs: Trainings and measurements; equal ones are run once.
        store: Store in which records are looked for and written.
        device: As in `wsn.run`; `"auto"` and `"cuda"` are all GPUs that there are.
        workers: Processes; by default one per CPU core that this process may use, as far as there is work
            for them to pay for their start, and on GPUs not more than the memory holds of the largest
            training and `MOST_PER_GPU` on each. A script that uses several must be guarded by
            `if __name__ == "__main__":`.
        executor: A client of a Dask cluster (`distributed.Client`), whose workers then make the records
            instead of processes here; they need the same version of this library, a store that they share
            with this process, and one thread each. See the book's page on clusters.
        resources: With an executor, what a run takes of its worker, such as `{"GPU": 1}`; workers say what
            they have when they are started.
        budget_minutes: Refuse to start if a short measurement says that it would take longer.
        download: Whether missing data sets may be fetched.
        progress: Show one bar with the time left on standard error; or a function that is called with
            each [`Progress`][wsnlib.sweeps.watching.Progress].

    Raises:
        BudgetError: If the runs would take longer than the budget; nothing is trained.
        StoreError: If the store cannot be read or written.
        SweepError: If runs failed (`failures` says which, and why), or a process, the scheduler or this
            process's GPU died, or every GPU failed two runs in succession; what was finished is kept.

    Examples:
        >>> import tempfile
        >>> run = specs.Experiment(
        ...     model=specs.MLPSpec(width=5, inputs=64),
        ...     data=specs.Digits(),
        ...     training=specs.Training(epochs=1),
        ... )
        >>> store = Store(tempfile.mkdtemp())
        >>> run_missing([run], store=store, progress=False), run_missing([run], store=store)
        (1, 0)
    """
    if isinstance(runs, specs.Run):
        raise ValueError(f"runs must be a list, got one {type(runs).__name__}; give [run]")
    if isinstance(store, str | os.PathLike):
        raise ValueError(f"store must be a Store, got {str(store)!r}; give wsn.Store({str(store)!r})")
    if executor is not None and not hasattr(executor, "run"):
        raise ValueError(f"executor must be a distributed.Client, got a {type(executor).__name__}; give one")
    workers = plain(workers)
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise ValueError(f"workers must be an integer ≥ 1 or None, got {workers!r}")
    budget_minutes = plain(budget_minutes)
    if budget_minutes is not None and (
        isinstance(budget_minutes, bool)
        or not isinstance(budget_minutes, int | float)
        or math.isnan(budget_minutes)
    ):
        raise ValueError(f"budget_minutes must be a number or None, got {budget_minutes!r}; give one")
    if workers is not None and executor is not None:
        raise ValueError(f"workers must be None with an executor, got {workers}; leave it out")
    if resources is not None and executor is None:
        raise ValueError(
            f"resources must be None without an executor, got {dict(resources)!r}; give a client of a cluster"
        )
    unique = {specs.spec_key(run): run for run in runs}
    unusable = _set_damaged_aside(unique, store)
    finished = store.keys() - unusable
    missing = [run for key, run in unique.items() if key not in finished]
    if not missing:
        return 0
    store.check_writable()
    places: list[str] = []
    if executor is None:
        plans, places, at_once = _places(missing, device, workers, download)
    else:
        at_once = places_of(executor, resources)
        needs = dict(resources or {}) or None
        there = executor.submit(
            _plans_there, os.getcwd(), missing, device, download, resources=needs, pure=False
        )
        plans = there.result()
    seconds = sum(plan.seconds for plan in plans)
    minutes = max([seconds / at_once, *(plan.seconds for plan in plans)]) / 60
    if budget_minutes is not None and minutes > budget_minutes:
        raise BudgetError(
            f"{len(missing)} of {len(unique)} runs have no record in {store.path} and would take about "
            f"{minutes:.1f} minutes here; budget_minutes is {budget_minutes:g}: raise it, or run the "
            "chapter with a smaller profile"
        )
    if executor is None or device == "cpu":
        plans = experiments.planned_jointly(plans, workers=at_once)
    show = progress if callable(progress) else Bar() if progress else _silent
    with Watch(len(missing), seconds, show) as watch:
        if executor is not None:
            failures = on_cluster(plans, store, executor, device, watch, resources=resources)
        elif len(places) == 1:
            failures = _here(plans, store, places[0], watch)
        else:
            failures = _in_processes(plans, store, places, watch)
    if failures:
        raise SweepError(
            f"{len(failures)} of {len(missing)} runs failed, the others are stored; the first is "
            f"{specs.spec_key(failures[0].experiment)} with {failures[0].error}",
            failures,
        )
    return len(missing)


def _silent(progress: Progress) -> None:
    pass


def _set_damaged_aside(runs: Mapping[str, specs.Run], store: Store) -> set[str]:
    """Move damaged records away with a warning; the keys of those in folders that are only read."""
    damaged = store.damaged(runs.values())
    if not damaged:
        return set()
    moved = {key: store.set_aside(runs[key]) for key in damaged}
    unusable = set(store.damaged([runs[key] for key in damaged]))
    others = store.keys() - unusable
    for key, sentence in damaged.items():
        kept = f"it was moved to {moved[key]}" if moved[key] else "it stays where it is"
        instead = (
            f"the one in {store.place(runs[key])} is taken" if key in others else "its run is made again"
        )
        warnings.warn(f"{sentence}; {kept}, and {instead}", RuntimeWarning, stacklevel=3)
    return unusable


def _places(
    runs: Sequence[specs.Run], device: str, workers: int | None, download: bool
) -> tuple[list[experiments.Plan], list[str], int]:
    """A plan of each run, the device of each process, and how many runs at once are counted on."""
    devices = _devices(device)
    if not any(isinstance(run, specs.Experiment | specs.NetworkMeasurement) for run in runs):
        devices = ["cpu"]  # what is measured of kernels and data never touches a GPU
    on_gpu = devices[0].startswith("cuda")
    if on_gpu:
        torch.cuda.init()
        torch.cuda.reset_peak_memory_stats(devices[0])
    plans = experiments.plan_all(runs, device=devices[0], download=download)
    if on_gpu:
        torch.cuda.empty_cache()  # what the timing left is free for the others
    if workers is None:
        pays = math.ceil(sum(plan.seconds for plan in plans) / 20)  # starting a process costs some seconds
        workers = max(1, min(usable_cpus(), pays))
        if on_gpu:
            workers = min(workers, _trainings_on(devices))
    workers = min(workers, len(runs))
    places = [devices[i % len(devices)] for i in range(workers)]
    return plans, places, len(set(places)) if on_gpu else workers  # sharing a GPU is not counted on


def _devices(device: str) -> list[str]:
    """The devices that a sweep may use: for a GPU without a number, all GPUs."""
    target = str(experiments.resolve_device(device))
    return [f"cuda:{i}" for i in range(torch.cuda.device_count())] if target == "cuda" else [target]


def _trainings_on(gpus: Sequence[str]) -> int:
    """How many trainings run at once, by the memory that the largest took when it was timed on the first."""
    needed = torch.cuda.max_memory_reserved(gpus[0]) + PROCESS_BYTES
    least = min(torch.cuda.mem_get_info(gpu)[0] for gpu in gpus)
    return len(gpus) * max(1, min(MOST_PER_GPU, least // needed))


def _plans_there(
    beside: str, runs: Sequence[specs.Run], device: str, download: bool
) -> list[experiments.Plan]:
    import_beside(beside)
    plans = experiments.plan_all(runs, device=device, download=download)
    torch.cuda.empty_cache()  # what the timing left is free for the others
    return plans


def _here(work: Sequence[experiments.Plan], store: Store, device: str, watch: Watch) -> list[Failure]:
    failures: list[Failure] = []
    for plan in work:
        watch.started([plan])
        failures += (bad := work_on(plan, store, device))
        watch.ended(plan, bad)
        for failure in bad:
            if failure.error.startswith(FOR_GOOD):
                raise SweepError(
                    f"the GPU has failed this process in {specs.spec_key(failure.experiment)} with "
                    f"{failure.error}; what was finished is stored, call again in a new process to go on",
                    failures,
                )
    return failures


def _in_processes(
    work: Sequence[experiments.Plan], store: Store, places: Sequence[str], watch: Watch
) -> list[Failure]:
    """One process for each place, the device that it keeps; the next run goes where one has ended.

    A GPU that fails two runs in succession, each in a process of its own, is given no more.
    """
    failures: list[Failure] = []
    in_succession = dict.fromkeys(places, 0)
    forget_stdin()
    context = multiprocessing.get_context("spawn")
    given = (numerics(), readers(len(places)))

    def process() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=given)

    processes = [process() for _ in places]
    left = iter(work)
    under_way: dict[Future[list[Failure]], tuple[int, experiments.Plan]] = {}

    def start(place: int) -> None:
        for plan in islice(left, 1):
            with _interrupts_held():
                try:
                    future = processes[place].submit(_work_on, plan, store, places[place])
                except BrokenProcessPool:  # it was ended while it waited
                    processes[place] = process()
                    future = processes[place].submit(_work_on, plan, store, places[place])
            under_way[future] = (place, plan)
            watch.started([plan])

    try:
        with _interrupts_held():
            begun = [each.submit(os.getpid) for each in processes]
        try:
            for beginning in begun:
                beginning.result()
        except BrokenProcessPool as error:
            wait(begun)  # the others first say why they could not start
            raise SweepError(
                "no training process could be started; in a script, call run_missing below "
                '`if __name__ == "__main__":`, which processes need'
            ) from error
        for place in range(len(places)):
            start(place)
        while under_way:
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                place, plan = under_way.pop(future)
                try:
                    bad = future.result()
                except BrokenProcessPool:
                    bad = ended_from_outside(plan, store, ENDED)
                if any(failure.error.startswith(FOR_GOOD) for failure in bad):
                    processes[place].shutdown(wait=False)
                    processes[place] = process()
                failures += bad
                device, by_gpu = places[place], any(each.error.startswith(GPU_FAILED) for each in bad)
                in_succession[device] = in_succession[device] + 1 if by_gpu else 0
                if in_succession[device] < 2:
                    start(place)
                watch.ended(plan, bad)
        if never_begun := sum(len(plan.runs) for plan in left):
            raise SweepError(
                f"every GPU has failed two runs in succession, and {never_begun} were not begun; the last "
                f"one failed with {failures[-1].error}; what was finished is stored, call again to go on",
                failures,
            )
    finally:
        for each in processes:  # runs under way are still finished and stored
            each.shutdown(wait=False)
    return failures


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """An interrupt waits; processes that are started meanwhile hold theirs until they work."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work_on(plan: experiments.Plan, store: Store, device: str) -> list[Failure]:
    """The work of a process: an interrupt ends what it works on, and never a process that starts or waits."""
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        return work_on(plan, store, device)
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _begin(computing: Numerics, num_readers: int) -> None:
    """Compute as the process that started this one does, and end when it is gone, even if killed."""
    set_numerics(computing)
    os.environ.setdefault("WSN_WORKERS", str(num_readers))
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
