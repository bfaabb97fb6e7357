"""One run of any kind, and its record."""

from __future__ import annotations

from collections.abc import Callable

from wsnlib import specs
from wsnlib.experiments.machine import float32, resolve_device
from wsnlib.experiments.measurements import measure_kernels, measure_layers, read_examples
from wsnlib.experiments.trainings import run_training
from wsnlib.store import Record
from wsnlib.training import StateFile


@float32()
def run(
    experiment: specs.Run,
    *,
    device: str = "auto",
    threads: int = 1,
    download: bool = False,
    deterministic: bool = False,
    file: Callable[[int], StateFile] | None = None,
) -> Record:
    """Train the network of an experiment, or measure layers or kernels, or read examples; the record.

    `wsn.run_missing` keeps it.

    Args:
        experiment: What to run; kernels are measured on the CPU.
        device: `"auto"`, `"cpu"`, `"cuda"`, `"cuda:1"`, …
        threads: CPU threads while it runs; the same number gives the same bits on one machine.
        download: Whether a missing data set may be fetched.
        deterministic: Whether a GPU, too, is to give the same bits each time (see `wsn.train`).
        file: Where each of its trainings, numbered from 0, keeps its state from time to time and goes on
            from; by default nowhere.

    Raises:
        ValueError: If the network does not fit the data, or `deterministic` cannot be had.
        torch.OutOfMemoryError: If the GPU's memory does not suffice; the message says for which batch
            size it does.
    """
    if isinstance(experiment, specs.ExampleLabels | specs.ExampleImages):
        return read_examples(experiment, download=download)
    if isinstance(experiment, specs.NetworkMeasurement):
        where = resolve_device(device)
        return measure_layers(experiment, where, threads=threads, download=download, file=file)
    if isinstance(experiment, specs.KernelDistances | specs.KernelSimulation):
        return measure_kernels(experiment, download=download)
    return run_training(
        experiment,
        resolve_device(device),
        threads=threads,
        download=download,
        deterministic=deterministic,
        file=None if file is None else file(0),
    )
