"""Make the records that are missing, in this process, in others on this machine, or on a cluster."""

from __future__ import annotations

import math
import multiprocessing
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, cast

import torch

from wsnlib import experiments, specs
from wsnlib.addresses import import_beside
from wsnlib.data import load_data, usable_cpus
from wsnlib.specs.checks import plain
from wsnlib.store import Failure, Store
from wsnlib.sweeps.clusters import on_cluster, places_of
from wsnlib.sweeps.watching import Bar, Progress, Watch
from wsnlib.sweeps.work import SweepError, Work, forget_stdin, work_on

if TYPE_CHECKING:
    from distributed import Client

MOST_PER_GPU = 4
"""Trainings that share a GPU at most, unless told otherwise: more wait for one another."""

PROCESS_BYTES = 2**30
"""Memory of a GPU set aside for each process beside its tensors: context, kernels, workspaces."""


MOST_IN_FLEET = 16
"""Networks that are trained at once in one process at most."""

FLEET_VALUES = 2**19
"""Hidden units of a whole batch of a fleet at most: more leave the processor's cache."""

LONGEST_FLEET = 900.0
"""Seconds that a fleet would take one by one at most: what is stopped loses no more than that."""

SHORTEST_IN_FLEET = 2.0
"""Seconds of a run below which it trains alone: what a fleet saves is little then."""


class BudgetError(RuntimeError):
    """Records are missing and making them would take longer than allowed."""


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
    fleets: bool = True,
) -> int:
    """Train the runs that have no record yet, and return how many those were.

    Each run is stored by the process that trained it, as soon as it is done, and a long training keeps its
    state from time to time: whatever stops the sweep, the same call goes on where it was. Fully connected
    networks in compiled code or in a fleet keep none, and start anew if they had not finished. A record that
    is damaged is set aside with a warning and made again. Every run that trains alone does so on one CPU
    thread, so that its record does not depend on how many processes there are.

    Processes take the GPUs in turn; several share one if there are more of them than GPUs. A GPU runs
    the kernels of several processes at the same time only under NVIDIA's MPS; without it they take
    turns, which still fills the gaps that a small network leaves.

    On a CPU, masked layers are native where that is estimated to pay, and fully connected networks of one
    shape that would take 2 seconds or more are trained as fleets of up to `MOST_IN_FLEET`, those with the
    same seed together (`wsn.training.train_fleet`). Each has its own record, the one of training alone;
    without numba it differs in rounding, which then depends on how many were together. Other networks
    train side by side in processes of one thread, which `benchmarks/resnet_fleets.py` finds faster than one
    batched program.

    Args:
        runs: Trainings and measurements; equal ones are run once.
        store: Where records are looked for and written.
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
        fleets: Whether runs may be trained together; `False` gives every bit of training alone.

    Raises:
        BudgetError: If the runs would take longer than the budget; nothing is trained.
        StoreError: If the store cannot be read or written.
        SweepError: If runs failed (`failures` says which, and why), or a process or the scheduler died;
            what was finished is kept.

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
    workers = plain(workers)
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise ValueError(f"workers is {workers!r}; an integer of at least 1 is allowed")
    if resources is not None and executor is None:
        raise ValueError(f"resources is {dict(resources)!r} without an executor; None is allowed")
    unique = {specs.spec_key(run): run for run in runs}
    unusable = _set_damaged_aside(unique, store)
    finished = store.keys() - unusable
    missing = [run for key, run in unique.items() if key not in finished]
    if not missing:
        return 0
    store.check_writable()
    places: list[str] = []
    if executor is None:
        seconds, places, at_once = _places(missing, device, workers, download)
    else:
        at_once = places_of(executor, resources)
        needs = dict(resources or {}) or None
        estimates = executor.submit(
            _estimates_there, os.getcwd(), missing, device, download, resources=needs, pure=False
        )
        seconds = estimates.result()
    minutes = sum(seconds) / at_once / 60
    if budget_minutes is not None and minutes > budget_minutes:
        raise BudgetError(
            f"{len(missing)} of {len(unique)} runs have no record in {store.path} and would take about "
            f"{minutes:.1f} minutes here; budget_minutes is {budget_minutes:g}: raise it, or run the "
            "chapter with a smaller profile"
        )
    together = fleets and (places[0] == "cpu" if places else device == "cpu")
    work = _fleets(missing, seconds, workers=at_once, together=together)
    show = progress if callable(progress) else Bar() if progress else _silent
    with Watch(len(missing), sum(seconds), show) as watch:
        if executor is not None:
            failures = on_cluster(work, store, executor, device, watch, resources=resources)
        elif len(places) == 1:
            failures = _here(work, store, places[0], watch)
        else:
            failures = _in_processes(work, store, places, watch)
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
    left = set()
    for key, sentence in store.damaged(runs.values()).items():
        where = store.set_aside(runs[key])
        if where is None:
            left.add(key)
        kept = f"it was moved to {where}" if where else "it stays where it is"
        warnings.warn(f"{sentence}; {kept}, and its run is made again", RuntimeWarning, stacklevel=3)
    return left


def _places(
    runs: Sequence[specs.Run], device: str, workers: int | None, download: bool
) -> tuple[list[float], list[str], int]:
    """Seconds of each run, the device of each process, and how many runs at once are counted on."""
    devices = _devices(device)
    on_gpu = devices[0].startswith("cuda")
    if on_gpu:
        torch.cuda.init()
        torch.cuda.reset_peak_memory_stats(devices[0])
    seconds = _estimates(runs, devices[0], download)
    if workers is None:
        pays = math.ceil(sum(seconds) / 20)  # starting a process costs some seconds
        workers = max(1, min(usable_cpus(), pays))
        if on_gpu:
            workers = min(workers, _trainings_on(devices))
    workers = min(workers, len(runs))
    places = [devices[i % len(devices)] for i in range(workers)]
    return seconds, places, len(set(places)) if on_gpu else workers  # sharing a GPU is not counted on


def _fleets(
    runs: Sequence[specs.Run], seconds: Sequence[float], *, workers: int, together: bool
) -> list[Work]:
    """The runs in their order, those together that are trained at once, with work left for every process."""
    groups: dict[str, list[tuple[specs.Run, float]]] = {}
    for run, estimated in zip(runs, seconds, strict=True):
        pays = together and estimated >= SHORTEST_IN_FLEET
        key = experiments.fleet_key(run) if pays else None
        groups.setdefault(key or specs.spec_key(run), []).append((run, estimated))
    work: list[Work] = []
    for group in groups.values():
        most = math.ceil(len(group) / workers)
        if len(group) > 1:  # those of one seed side by side: they see the same images, prepared once
            group.sort(key=lambda each: cast(specs.Experiment, each[0]).seed)
            values = experiments.hidden_values(cast(specs.Experiment, group[0][0]))
            limits = (MOST_IN_FLEET, FLEET_VALUES // values, int(LONGEST_FLEET // group[0][1]))
            most = max(1, min(most, *limits))
        for start in range(0, len(group), most):
            part = group[start : start + most]
            work.append((tuple(run for run, _ in part), sum(each for _, each in part)))
    return work


def _devices(device: str) -> list[str]:
    """The devices that a sweep may use: for a GPU without a number, all GPUs."""
    target = str(experiments.resolve_device(device))
    return [f"cuda:{i}" for i in range(torch.cuda.device_count())] if target == "cuda" else [target]


def _trainings_on(gpus: Sequence[str]) -> int:
    """How many trainings run at once, by the memory that the largest took when it was timed on the first."""
    needed = torch.cuda.max_memory_reserved(gpus[0]) + PROCESS_BYTES
    torch.cuda.empty_cache()  # what the timing left is free for the others
    least = min(torch.cuda.mem_get_info(gpu)[0] for gpu in gpus)
    return len(gpus) * max(1, min(MOST_PER_GPU, least // needed))


def _estimates(runs: Sequence[specs.Run], device: str, download: bool) -> list[float]:
    """Seconds per run, timed once for each network shape with its number of weights, data set and protocol
    but for the learning rate, or for each measurement."""
    timed: dict[str, float] = {}
    seconds = []
    for run in runs:
        if not isinstance(run, specs.Experiment):
            key = specs.spec_key(experiments.timed_alike(run))
            if key not in timed:
                timed[key] = experiments.seconds_per_measurement(run, device=device, download=download)
            seconds.append(timed[key])
            continue
        alike = replace(run, model=experiments.timed_as(run.model), seed=0)
        key = specs.spec_key(replace(alike, training=replace(run.training, learning_rate=1.0)))
        if isinstance(run.model, specs.StaticSparsity) and experiments.is_reachable(run.model):
            key += f" {sum(experiments.weights_per_layer(run.model).values())}"
        if key not in timed:
            data = load_data(run.data, download=download)
            experiments.check_fit(run, data)
            sample = run if experiments.is_reachable(run.model) else alike
            try:
                timed[key] = experiments.seconds_per_run(sample, data, device=device)
            except torch.OutOfMemoryError:  # as the run will, which then says what fits
                timed[key] = 0.0
        seconds.append(timed[key])
    return seconds


def _estimates_there(beside: str, runs: Sequence[specs.Run], device: str, download: bool) -> list[float]:
    import_beside(beside)
    return _estimates(runs, device, download)


def _here(work: Sequence[Work], store: Store, device: str, watch: Watch) -> list[Failure]:
    failures: list[Failure] = []
    for runs, seconds in work:
        watch.started([runs])
        failures += (bad := work_on(runs, store, device))
        watch.ended(runs, seconds, bad)
    return failures


def _in_processes(work: Sequence[Work], store: Store, places: Sequence[str], watch: Watch) -> list[Failure]:
    """One process for each place, the device that it keeps; the next run goes where one has ended."""
    failures: list[Failure] = []
    forget_stdin()
    context = multiprocessing.get_context("spawn")
    processes = [ProcessPoolExecutor(1, mp_context=context, initializer=_die_with_parent) for _ in places]
    left = iter(work)
    under_way: dict[Future[list[Failure]], tuple[int, tuple[specs.Run, ...], float]] = {}

    def start(place: int) -> None:
        for runs, seconds in islice(left, 1):
            future = processes[place].submit(work_on, runs, store, places[place])
            under_way[future] = (place, runs, seconds)
            watch.started([runs])

    try:
        for place in range(len(places)):
            start(place)
        while under_way:
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                place, runs, seconds = under_way.pop(future)
                try:
                    failures += (bad := future.result())
                except BrokenProcessPool as error:
                    raise SweepError(
                        "a training process was ended from outside; finished runs are stored, call again to "
                        'go on; in a script below `if __name__ == "__main__":`, which processes need'
                    ) from error
                start(place)
                watch.ended(runs, seconds, bad)
    finally:
        for process in processes:  # runs under way are still finished and stored
            process.shutdown(wait=False)
    return failures


def _die_with_parent() -> None:
    """End this process as soon as the one that started it is gone, even if it was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
