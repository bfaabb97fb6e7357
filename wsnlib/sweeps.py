"""Many runs: train what is missing, and read all of it as one table."""

from __future__ import annotations

import math
import multiprocessing
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, replace
from itertools import islice
from typing import Any, cast

import pandas as pd
import torch
from tqdm import tqdm

from wsnlib import experiments, predictions, specs
from wsnlib.claims import estimate
from wsnlib.data import load_data, num_classes
from wsnlib.store import Store, Summary

Progress = Callable[[int, float], None]

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

SHORTEST_IN_FLEET = 20.0
"""Seconds of a run below which it trains alone: what a fleet saves is little then."""

Work = tuple[tuple[specs.Run, ...], float]
"""Runs that are trained at once, most often one, and the seconds that they are estimated to take."""


class BudgetError(RuntimeError):
    """Records are missing and making them would take longer than allowed."""


class SweepError(RuntimeError):
    """Some runs of a sweep failed; the others are in the store."""


def run_missing(
    runs: Iterable[specs.Run],
    *,
    store: Store,
    device: str = "auto",
    workers: int | None = None,
    budget_minutes: float | None = None,
    download: bool = False,
    progress: bool = True,
    fleets: bool = True,
) -> int:
    """Train the runs that have no record yet, and return how many those were.

    Each run is stored by the process that trained it, as soon as it is done: whatever stops the
    sweep, the same call goes on where it was. Every run that trains alone does so on one CPU thread, so
    that its record does not depend on how many processes there are.

    Processes take the GPUs in turn; several share one if there are more of them than GPUs. A GPU runs
    the kernels of several processes at the same time only under NVIDIA's MPS; without it they take
    turns, which still fills the gaps that a small network leaves.

    On a CPU, masked layers are native where that is estimated to pay, and fully connected networks of one
    shape that would take 20 seconds or more are trained as fleets of up to `MOST_IN_FLEET`, those with the
    same seed together (`wsn.train_fleet`). Each has its own record, equal to that of training alone but
    for rounding, which depends on how many were together.

    Args:
        runs: Trainings and measurements; equal ones are run once.
        store: Where records are looked for and written.
        device: As in `wsn.run`; `"auto"` and `"cuda"` are all GPUs that there are.
        workers: Processes; by default one per CPU core, as far as there is work for them to pay
            for their start, and on GPUs not more than the memory holds of the largest training and
            `MOST_PER_GPU` on each. A script that uses several must be guarded by
            `if __name__ == "__main__":`.
        budget_minutes: Refuse to start if a short measurement says that it would take longer.
        download: Whether missing data sets may be fetched.
        progress: Show one bar with the time left on standard error.
        fleets: Whether runs may be trained together; `False` gives every bit of training alone.

    Raises:
        BudgetError: If the runs would take longer than the budget; nothing is trained.
        StoreError: If the store cannot be written, or a record that is there is damaged.
        SweepError: If a run failed or a process died; what was finished is kept.

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
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise ValueError(f"workers is {workers!r}; an integer of at least 1 is allowed")
    unique = {specs.key(run): run for run in runs}
    for run in unique.values():
        if run in store:
            store.load(run)  # a damaged record is reported before any work
    missing = [run for run in unique.values() if run not in store]
    if not missing:
        return 0
    store.check_writable()
    devices = _devices(device)
    on_gpu = devices[0].startswith("cuda")
    if on_gpu:
        torch.cuda.init()
        torch.cuda.reset_peak_memory_stats(devices[0])
    seconds = _estimates(missing, devices[0], download)
    if workers is None:
        pays = math.ceil(sum(seconds) / 20)  # starting a process costs some seconds
        workers = max(1, min(os.cpu_count() or 1, pays))
        if on_gpu:
            workers = min(workers, _trainings_on(devices))
    workers = min(workers, len(missing))
    places = [devices[i % len(devices)] for i in range(workers)]
    at_once = len(set(places)) if on_gpu else workers  # what sharing a GPU saves is not counted on
    minutes = sum(seconds) / at_once / 60
    if budget_minutes is not None and minutes > budget_minutes:
        raise BudgetError(
            f"{len(missing)} of {len(unique)} runs have no record in {store.path} and would take about "
            f"{minutes:.1f} minutes here; budget_minutes is {budget_minutes:g}: raise it, or run the "
            "chapter with a smaller profile"
        )

    done = 0
    with tqdm(
        total=sum(seconds),
        desc=f"0/{len(missing)} runs",
        bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}, {remaining} left",
        file=sys.stderr,
        mininterval=1,
        disable=not progress,
    ) as bar:

        def advance(count: int, estimate: float) -> None:
            nonlocal done
            done += count
            bar.set_description_str(f"{done}/{len(missing)} runs", refresh=False)
            bar.update(estimate)

        work = _fleets(missing, seconds, workers=workers, together=fleets and not on_gpu)
        if workers == 1:
            failures = _here(work, store, places[0], advance)
        else:
            failures = _in_processes(work, store, places, advance)
    if failures:
        run, error = failures[0]
        raise SweepError(
            f"{len(failures)} of {len(missing)} runs failed, the others are stored; the first is "
            f"{specs.key(run)} with {type(error).__name__}: {error}"
        ) from error
    return len(missing)


def _fleets(
    runs: Sequence[specs.Run], seconds: Sequence[float], *, workers: int, together: bool
) -> list[Work]:
    """The runs in their order, those together that are trained at once, with work left for every process."""
    groups: dict[str, list[tuple[specs.Run, float]]] = {}
    for run, estimated in zip(runs, seconds, strict=True):
        pays = together and estimated >= SHORTEST_IN_FLEET
        key = experiments.fleet_key(run) if pays else None
        groups.setdefault(key or specs.key(run), []).append((run, estimated))
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
    """Seconds per run, timed once for each network shape, data set and batch size, or measurement."""
    timed: dict[str, float] = {}
    seconds = []
    for run in runs:
        if not isinstance(run, specs.Experiment):
            key = specs.key(experiments.timed_alike(run))
            if key not in timed:
                timed[key] = experiments.seconds_per_measurement(run, device=device, download=download)
            seconds.append(timed[key])
            continue
        alike = replace(run, model=experiments.timed_as(run.model), seed=0)
        key = specs.key(alike)
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


Failures = list[tuple[specs.Run, BaseException]]


def _here(work: Sequence[Work], store: Store, device: str, advance: Progress) -> Failures:
    failures: Failures = []
    for runs, seconds in work:
        try:
            _work(runs, store, device)
        except Exception as error:  # one run of a hundred may fail; the others go on
            traceback.clear_frames(error.__traceback__)  # they hold the memory of the run
            failures.extend((run, error) for run in runs)
        advance(len(runs), seconds)
    return failures


def _in_processes(work: Sequence[Work], store: Store, places: Sequence[str], advance: Progress) -> Failures:
    """One process for each place, the device that it keeps; the next run goes where one has ended."""
    failures: Failures = []
    context = multiprocessing.get_context("spawn")
    processes = [ProcessPoolExecutor(1, mp_context=context, initializer=_die_with_parent) for _ in places]
    left = iter(work)
    under_way: dict[Future[None], tuple[int, tuple[specs.Run, ...], float]] = {}

    def start(place: int) -> None:
        for runs, seconds in islice(left, 1):
            future = processes[place].submit(_work, runs, store, places[place])
            under_way[future] = (place, runs, seconds)

    try:
        for place in range(len(places)):
            start(place)
        while under_way:
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                place, runs, seconds = under_way.pop(future)
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    raise SweepError(
                        "a training process was ended from outside; finished runs are stored, "
                        "call again to go on"
                    ) from error
                if error is not None:
                    failures.extend((run, error) for run in runs)
                start(place)
                advance(len(runs), seconds)
    finally:
        for process in processes:  # runs under way are still finished and stored
            process.shutdown(wait=False)
    return failures


def _work(runs: tuple[specs.Run, ...], store: Store, device: str) -> None:
    try:
        if len(runs) == 1:
            store.save(experiments.run(runs[0], device=device))
            return
        for record in experiments.run_fleet([run for run in runs if isinstance(run, specs.Experiment)]):
            store.save(record)
    finally:
        torch.cuda.empty_cache()  # another process may need what this one would keep


def _die_with_parent() -> None:
    """End this process as soon as the one that started it is gone, even if it was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def table(runs: Iterable[specs.Experiment], *, store: Store, environment: bool = False) -> pd.DataFrame:
    """One row a run: every field of its spec under a dotted name, and what came of it.

    A nested spec also gives a column with its class, such as `model.allocation`. Results are
    `status`, `num_weights`, `connectivity`, `weights.<layer>`, `reported_epoch`, `test_accuracy` and
    `validation_accuracy` (at the reported epoch), `test_accuracy_last`, `train_accuracy` (of the last
    weights) and `key`; accuracies lie in [0, 1] and are NaN for a run that diverged, or where there
    are no validation images.

    Args:
        runs: Experiments, in the order of the rows.
        store: Holds a record of each.
        environment: Whether to add where each was made (`seconds`, `device`, `commit`, …), which
            differs from one making to the next.

    Raises:
        KeyError: If a record is missing.
    """
    runs = list(runs)
    rows = [
        _flat(specs.to_dict(run))
        | _results(summary)
        | ({f"environment.{k}": v for k, v in summary.environment.items()} if environment else {})
        for run, summary in zip(runs, store.summaries(runs), strict=True)
    ]
    return pd.DataFrame(rows)


def history(runs: Iterable[specs.Experiment], *, store: Store) -> pd.DataFrame:
    """One row for each run and epoch: `key`, `epoch` (from 1) and the metrics of that epoch.

    `history(…).merge(table(…), on="key")` adds what was run.

    Raises:
        KeyError: If a record is missing.
    """
    parts = []
    for run in runs:
        record = store.load(run)
        part = pd.DataFrame(record.history)
        part.insert(0, "epoch", range(1, len(part) + 1))
        part.insert(0, "key", record.key)
        parts.append(part)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def measured(runs: Iterable[specs.KernelDistances | specs.KernelSimulation], *, store: Store) -> pd.DataFrame:
    """One row for each run and row of its measurement: every field of its spec that is one value, and
    the measured columns.

    Raises:
        KeyError: If a record is missing.
    """
    parts = []
    for run in runs:
        record = store.load(run)
        part = pd.DataFrame(record.history)
        spec = {k: v for k, v in _flat(specs.to_dict(run)).items() if not isinstance(v, list)}
        parts.append(pd.concat([pd.DataFrame([spec] * len(part)), part], axis=1))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def population(
    runs: Iterable[specs.Experiment], *, store: Store, name: str = "population"
) -> predictions.Population:
    """The predictions of networks that differ in nothing but their seed, against the right classes.

    The right classes are read from the record of `ExampleLabels(data=…)`, so that no data are needed.

    Args:
        runs: Experiments, alike but for the seed.
        store: Holds a record of each, and of the labels.
        name: Of the architecture.

    Raises:
        KeyError: If a record is missing.
        ValueError: If the runs differ in more than their seed or share one, if one of them diverged, or
            as in `Population`.
    """
    runs = list(runs)
    if len({replace(run, seed=0) for run in runs}) != 1 or len({run.seed for run in runs}) < len(runs):
        raise ValueError(
            f"the runs of {name!r} differ in more than their seed, or share one; one experiment with "
            "different seeds is allowed"
        )
    data = runs[0].data
    labels = store.load(specs.ExampleLabels(data=data)).arrays["labels"]
    return predictions.Population(
        [store.load(run).predictions for run in runs],
        labels=labels,
        num_classes=num_classes(data),
        name=name,
    )


def summarise(table: pd.DataFrame, *, by: str | list[str], value: str = "test_accuracy") -> pd.DataFrame:
    """Mean, 95 % interval (`low`, `high`) and `n` of a column within each group, most often over seeds.

    Examples:
        >>> runs = pd.DataFrame({"width": [5, 5, 10], "test_accuracy": [0.5, 1.0, 0.25]})
        >>> summarise(runs, by="width")[["mean", "n"]].to_dict("list")
        {'mean': [0.75, 0.25], 'n': [2, 1]}
    """
    rows = {group: asdict(estimate(part.tolist())) for group, part in table.groupby(by)[value]}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(by)


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in content.items():
        if name == "class":
            if prefix:
                flat[prefix.removesuffix(".")] = value
        elif isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _results(record: Summary) -> dict[str, Any]:
    finished = record.status == "finished"
    return {
        "status": record.status,
        "num_weights": record.network["num_weights"],
        "connectivity": record.network["connectivity"],
        **{f"weights.{k}": v for k, v in record.network["weights_per_layer"].items()},
        "reported_epoch": record.reported_epoch,
        "test_accuracy": record.reported.get("test_accuracy", math.nan),
        "validation_accuracy": record.reported.get("validation_accuracy", math.nan),
        "test_accuracy_last": record.last["test_accuracy"] if finished else math.nan,
        "train_accuracy": record.train_accuracy if finished else math.nan,
        "key": record.key,
    }
