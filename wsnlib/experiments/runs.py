"""Runs of any kind, and their records."""

from __future__ import annotations

from collections.abc import Callable

import torch

from wsnlib import specs
from wsnlib.data import Dataset, load_data
from wsnlib.experiments.machine import float32, resolve_device
from wsnlib.experiments.measurements import measure
from wsnlib.experiments.plans import Plan, plan
from wsnlib.experiments.trainings import run_trainings
from wsnlib.store import AnyRecord
from wsnlib.training import StateFile


@float32()
def run(
    experiment: specs.Run,
    *,
    device: str = "auto",
    threads: int = 1,
    download: bool = False,
    file: Callable[[int], StateFile] | None = None,
) -> AnyRecord:
    """Train the network of an experiment, or measure layers or kernels, or read examples; the record.

    `wsn.run_missing` keeps it.

    Args:
        experiment: What to run; kernels are measured on the CPU.
        device: `"auto"`, `"cpu"`, `"cuda"`, `"cuda:1"`, …
        threads: CPU threads while it runs; the same number gives the same bits on one machine. For a GPU see
            `wsn.train`.
        download: Whether a missing data set may be fetched.
        file: Where each of its trainings, numbered from 0, keeps its state from time to time and goes on
            from; by default nowhere.

    Raises:
        ValueError: If the network does not fit the data.
        torch.OutOfMemoryError: If the GPU's memory does not suffice; the message says for which batch
            size it does.
    """
    data = load_data(experiment.data, download=download) if isinstance(experiment, specs.Experiment) else None
    (record,) = run_planned(
        plan(experiment, device=device, data=data),
        device=device,
        threads=threads,
        download=download,
        data=data,
        file=file,
    )
    return record


@float32()
def run_planned(
    plan: Plan,
    *,
    device: str,
    threads: int = 1,
    download: bool = False,
    data: Dataset | None = None,
    file: Callable[[int], StateFile] | None = None,
    network: Callable[[specs.Experiment], StateFile] | None = None,
) -> list[AnyRecord]:
    """The records of a plan's runs.

    Args:
        plan: Plan of one run, or of several that are trained jointly.
        device: Where; one of the kind that the plan is for, else each run is planned anew for it, as on a
            cluster whose workers differ.
        threads, download, file: As in [`run`][wsnlib.experiments.runs.run]; runs that are trained jointly
            keep no state.
        data: The data set of trainings, if it is there already.
        network: Where each network that is measured is kept for other measurements; by default nowhere.
    """
    one, target = plan.runs[0], resolve_device(device)
    if not isinstance(one, specs.Experiment):
        return [measure(one, target, threads=threads, download=download, file=file, network=network)]
    if len(plan.runs) > 1:
        file = None
    if target.type != torch.device(plan.device).type:
        return [run(each, device=device, threads=threads, download=download, file=file) for each in plan.runs]
    state = None if file is None else file(0)
    return [*run_trainings(plan, target, threads=threads, data=data, file=state)]
