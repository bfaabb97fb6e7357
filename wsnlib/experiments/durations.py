"""How long runs would take here, from timing a little of each kind."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch

from wsnlib import sparse, specs, training
from wsnlib.data import Dataset, load_data
from wsnlib.experiments.machine import float32, resolve_device
from wsnlib.experiments.measurements import measure_kernels, measured_data
from wsnlib.experiments.networks import build, is_reachable, timed_as, weights_per_layer
from wsnlib.experiments.plans import Plan, plan
from wsnlib.representations import decompose_layers
from wsnlib.timings import cpu_threads
from wsnlib.training.memory import excerpt
from wsnlib.training.steps import EAGER_STEPS


@float32()
def plan_all(runs: Iterable[specs.Run], *, device: str = "auto", download: bool = False) -> list[Plan]:
    """A plan of each run with the seconds that it would take here.

    What is alike but for the seed and the learning rate is planned once. Timed once is each network shape
    with its number of weights, data set and protocol, and each measurement.

    Args:
        runs: Any; a width that a base cannot reach is taken for the base, as its training will be refused.
        device: As in [`run`][wsnlib.experiments.runs.run].
        download: Whether missing data sets may be fetched.
    """
    seconds: dict[str, float] = {}
    known: dict[str, Plan] = {}
    data: dict[specs.DataSpec, Dataset] = {}
    plans = []
    for run in runs:
        if not isinstance(run, specs.Experiment):
            key = specs.spec_key(timed_alike(run))
            if key not in seconds:
                seconds[key] = seconds_per_measurement(run, device=device, download=download)
            plans.append(replace(plan(run, device=device), seconds=seconds[key]))
            continue
        alike = replace(run, seed=0, training=replace(run.training, learning_rate=1.0))
        if (same := specs.spec_key(alike)) not in known:
            if run.data not in data:
                data[run.data] = load_data(run.data, download=download)
            known[same] = plan(run, device=device, data=data[run.data])
            key = specs.spec_key(replace(alike, model=timed_as(run.model)))
            if isinstance(run.model, specs.StaticSparsity) and is_reachable(run.model):
                key += f" {sum(weights_per_layer(run.model).values())}"
            if key not in seconds:
                seconds[key] = _seconds_or_none(known[same], data[run.data])
            known[same] = replace(known[same], seconds=seconds[key])
        plans.append(replace(known[same], runs=(run,)))
    return plans


def _seconds_or_none(plan: Plan, data: Dataset) -> float:
    (run,) = plan.trainings
    if not is_reachable(run.model):
        plan = replace(plan, runs=(replace(run, model=timed_as(run.model)),))
    try:
        return seconds_per_run(plan, data)
    except torch.OutOfMemoryError:  # as the run will, which then says what fits
        return 0.0


def seconds_per_run(plan: Plan, data: Dataset) -> float:
    """How long the training of a plan would take here, from timing some steps of it on one CPU thread.

    The timing itself takes about a second: fewer steps of a network whose steps are slow.
    """
    (run,) = plan.trainings
    protocol = replace(run.training, batch_size=min(run.training.batch_size, len(data.train.labels)))
    run = replace(run, training=protocol)
    with cpu_threads(1):
        per_step, per_image = (_compiled if plan.engine == "compiled" else _in_torch)(plan, run, data)
    steps = protocol.epochs * -(-len(data.train.labels) // protocol.batch_size)
    evaluated = len(data.test.labels) + len(data.validation.labels)
    evaluations = -(-protocol.epochs // protocol.evaluate_every)
    return steps * per_step + (evaluations * evaluated + len(data.train.labels)) * per_image


def _in_torch(plan: Plan, run: specs.Experiment, data: Dataset) -> tuple[float, float]:
    """Seconds of a step and of evaluating an image, from up to 12 steps.

    On a GPU they are those of a second epoch, for the first begins with steps that are not recorded.
    """
    target, batch = resolve_device(plan.device), run.training.batch_size
    data = data.to(target)  # all of it, so that the memory used is that of a run
    model = build(run.model)
    if plan.sparse_layers:
        sparse.to_sparse(model, layers=plan.sparse_layers)
    model = model.to(target)

    on_gpu = target.type == "cuda"
    least, epochs = (EAGER_STEPS + 1, 2) if on_gpu else (1, 1)
    protocol = replace(_one_epoch(run.training), epochs=epochs, learning_rate=1e-6)  # lest it diverges

    def seconds(images: int) -> float:
        torch.cuda.empty_cache()  # a graph that is gone would count as memory of the next
        ends = [time.perf_counter()]
        sample = excerpt(data, images)
        training.train(model, sample, protocol, seed=0, observe=lambda *_: ends.append(time.perf_counter()))
        return ends[-1] - ends[-2]

    # a smaller last batch takes memory beside that of recorded steps
    seconds(least * batch + (len(data.train.labels) % batch if on_gpu else 0))
    steps = int(min(12, max(2, least, 0.3 / seconds(batch))))
    per_step = seconds(steps * batch) / steps
    few = min(1000, len(data.test.labels), max(batch, int(0.3 * batch / per_step)))
    start = time.perf_counter()
    training.evaluate(model, data, data.test.take(torch.arange(few)), precision=protocol.precision)
    return per_step, (time.perf_counter() - start) / few


def _compiled(plan: Plan, run: specs.Experiment, data: Dataset) -> tuple[float, float]:
    """The same of compiled code, from 200 steps, of which an evaluation of as many images takes no more."""
    model, batch = build(run.model), run.training.batch_size

    def seconds(steps: int) -> float:
        sample = excerpt(data, steps * batch)
        start = time.perf_counter()
        training.train_jointly([model], sample, [_one_epoch(run.training)], seeds=[0])
        return time.perf_counter() - start

    once = min(seconds(1) for _ in range(3))  # the first compiles, another may be held up
    per_step = max(0.0, seconds(201) - once) / 200
    return per_step, per_step / batch


def _one_epoch(protocol: specs.Training) -> specs.Training:
    return replace(protocol, epochs=1, augmentation=None, report="last")


def timed_alike(spec: Any) -> Any:
    """A spec that takes as long and is the same for every seed."""

    def alike(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(alike, value))
        return timed_alike(value) if is_dataclass(value) else value

    return replace(
        spec, **{f.name: 0 if f.name == "seed" else alike(getattr(spec, f.name)) for f in fields(spec)}
    )


def seconds_per_measurement(
    spec: specs.Measurement, *, device: str = "auto", download: bool = False
) -> float:
    """How long a measurement would take here, from timing two pairs, one network or one batch of it.

    It is 0 of a kind that is not timed, and where the memory does not hold it.
    """
    seconds = 0.0
    if isinstance(spec, specs.BlockOrigins):
        with suppress(torch.OutOfMemoryError):  # in which the run will fail, too, and alone
            seconds = _seconds_at_once(spec, device, download=download)
    elif isinstance(spec, specs.OutputSimilarity):  # most often their networks were kept
        load_data(spec.experiments[0].data, download=download)
        seconds = 10.0 * len(spec.experiments)
    elif isinstance(spec, specs.ExampleLabels | specs.ExampleImages):
        load_data(spec.data, download=download)
        seconds = 0.1
    elif isinstance(spec, specs.KernelDistances):
        start = time.perf_counter()
        measure_kernels(replace(spec, num_pairs=2), download=download)
        seconds = (time.perf_counter() - start) * spec.num_pairs / 2
    elif isinstance(spec, specs.KernelSimulation):
        start = time.perf_counter()
        measure_kernels(replace(spec, num_networks=1), download=download)
        seconds = (time.perf_counter() - start) * spec.num_networks
    return seconds


def _seconds_at_once(spec: specs.BlockOrigins, device: str, *, download: bool) -> float:
    """Of a training and twice one pass of all images, from timing one of a part of them."""
    data, images, _ = measured_data(spec, spec.experiment, download=download)
    data = data.to(resolve_device(device))
    on_gpu = resolve_device(device).type == "cuda"  # where its memory is measured, too
    few = images[: len(images) if on_gpu else max(4, len(images) // 8)].to(resolve_device(device))
    with cpu_threads(1):
        model = build(spec.experiment.model).to(few.device)
        start = time.perf_counter()
        decompose_layers(model, few, prepare=data.normalise)
        once: float = (time.perf_counter() - start) * (len(images) / len(few)) ** 1.5
    return seconds_per_run(plan(spec.experiment, device=device, data=data), data) + 2 * once
