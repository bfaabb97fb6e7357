"""How long a run would take here, from timing a little of it."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import torch
from torch import nn

from wsnlib import specs, training
from wsnlib.data import Dataset, load_data
from wsnlib.experiments.machine import cpu_threads, float32, resolve_device
from wsnlib.experiments.measurements import measure_kernels, measured_data
from wsnlib.experiments.networks import build
from wsnlib.experiments.trainings import is_compiled, with_native_layers
from wsnlib.representations import cka_sums


@float32()
def seconds_per_run(experiment: specs.Experiment, data: Dataset, *, device: str = "auto") -> float:
    """How long a run would take here, from timing up to 12 steps of it on one CPU thread.

    The timing itself takes about a second: fewer steps of a network whose steps are slow.
    """
    target = resolve_device(device)
    batch = experiment.training.batch_size
    protocol = replace(experiment.training, epochs=1, augmentation=None, report="last")
    if is_compiled(experiment, model := build(experiment.model), data, target):
        return _compiled_seconds(experiment.training, model, data)
    data = data.to(target)  # all of it, so that the memory used is that of a run

    def seconds(steps: int) -> float:
        index = torch.arange(steps * batch) % len(data.train.labels)
        sample = replace(data, train=data.train.take(index), validation=data.validation.take(index[:0]))
        start = time.perf_counter()
        training.train(model, replace(sample, test=sample.train.take(index[:1])), protocol, seed=0)
        return time.perf_counter() - start

    with cpu_threads(1):
        model = with_native_layers(model.to(target), data, protocol)
        seconds(1)
        steps = int(min(12, max(2, 0.3 / seconds(1))))
        per_step = seconds(steps) / steps
        few = min(1000, len(data.test.labels), max(batch, int(0.3 * batch / per_step)))
        start = time.perf_counter()
        training.evaluate(model, data, data.test.take(torch.arange(few)))
        per_image = (time.perf_counter() - start) / few
    steps_per_epoch = -(-len(data.train.labels) // batch)
    evaluated = len(data.test.labels) + len(data.validation.labels)
    evaluations = -(-experiment.training.epochs // experiment.training.evaluate_every)
    return (
        experiment.training.epochs * per_step * steps_per_epoch
        + (evaluations * evaluated + len(data.train.labels)) * per_image
    )


def _compiled_seconds(protocol: specs.Training, model: nn.Module, data: Dataset) -> float:
    """Of a run that compiled code trains, from timing 200 batches of it."""

    def seconds(batches: int) -> float:
        index = torch.arange(batches * protocol.batch_size) % len(data.train.labels)
        train, one = data.train.take(index), data.train.take(index[:1])
        sample = replace(data, train=train, validation=data.validation.take(index[:0]), test=one)
        once = replace(protocol, epochs=1, augmentation=None, report="last")
        start = time.perf_counter()
        training.train_fleet([model], sample, [once], seeds=[0], compiled=True)
        return time.perf_counter() - start

    with cpu_threads(1):
        seconds(1)
        per_image = (seconds(201) - seconds(1)) / 200 / protocol.batch_size
    evaluations = -(-protocol.epochs // protocol.evaluate_every)
    evaluated = evaluations * (len(data.test.labels) + len(data.validation.labels)) + len(data.train.labels)
    return per_image * (protocol.epochs * len(data.train.labels) + evaluated)


def timed_alike(spec: specs.Measurement) -> specs.Measurement:
    """A measurement that takes as long and is the same for every seed."""
    if isinstance(spec, specs.LayerSimilarity | specs.ComponentProjections):
        return replace(spec, seed=0, experiment=replace(spec.experiment, seed=0))
    if isinstance(spec, specs.NetworkSimilarity):
        return replace(spec, seed=0, experiments=tuple(replace(run, seed=0) for run in spec.experiments))
    if isinstance(spec, specs.ExampleLabels | specs.ExampleImages):
        return spec
    return replace(spec, seed=0)


@float32()
def seconds_per_measurement(
    spec: specs.Measurement, *, device: str = "auto", download: bool = False
) -> float:
    """How long a measurement would take here, from timing two pairs, one network or one batch of it."""
    if isinstance(spec, specs.LayerSimilarity):
        return _seconds_per_network(spec, spec.experiment, device, 2, download=download)
    if isinstance(spec, specs.NetworkSimilarity):
        return sum(_seconds_per_network(spec, run, device, 1, download=download) for run in spec.experiments)
    if isinstance(spec, specs.ComponentProjections):  # some seconds beside the training
        data, *_ = measured_data(spec, spec.experiment, download=download)
        return seconds_per_run(spec.experiment, data, device=device)
    if isinstance(spec, specs.ExampleLabels | specs.ExampleImages):
        load_data(spec.data, download=download)
        return 0.1
    start = time.perf_counter()
    if isinstance(spec, specs.KernelDistances):
        measure_kernels(replace(spec, num_pairs=2), download=download)
        return (time.perf_counter() - start) * spec.num_pairs / 2
    measure_kernels(replace(spec, num_networks=1), download=download)
    return (time.perf_counter() - start) * spec.num_networks


def _seconds_per_network(
    spec: specs.LayerSimilarity | specs.NetworkSimilarity,
    run: specs.Experiment,
    device: str,
    matrices: int,
    *,
    download: bool,
) -> float:
    """Of a training and of so many matrices of CKA, from timing one batch of one."""
    data, images, _ = measured_data(spec, run, download=download)
    images = images[: spec.batch_size].to(resolve_device(device))
    with cpu_threads(1):
        model = build(run.model).to(images.device)
        start = time.perf_counter()
        cka_sums(model, images, batch_size=len(images), passes=1, prepare=data.to(images.device).normalise)
        per_batch = time.perf_counter() - start
    batches = matrices * spec.passes * math.ceil(len(data.test.labels) / spec.batch_size)
    return seconds_per_run(run, data, device=device) + batches * per_batch
