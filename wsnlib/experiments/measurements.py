"""Measurements of layers and of kernels, and examples read from data sets, and their records."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from wsnlib import kernels, layers, masks, specs
from wsnlib.data import Dataset, Split, StreamedSplit, load_data
from wsnlib.experiments.kept import keep, kept
from wsnlib.experiments.machine import environment
from wsnlib.experiments.networks import build, check_fit
from wsnlib.experiments.plans import Plan, plan
from wsnlib.experiments.trainings import checkpoint_in, how_trained, same_training, trained
from wsnlib.store import MeasurementRecord
from wsnlib.timings import cpu_threads
from wsnlib.training import Checkpoint, Outcome, StateFile

Array = NDArray[np.float64]


def measure(
    spec: specs.Measurement,
    device: torch.device,
    *,
    threads: int = 1,
    download: bool = False,
    file: Callable[[int], StateFile] | None = None,
    network: Callable[[specs.Experiment], StateFile] | None = None,
) -> MeasurementRecord:
    """The record of a measurement, of whichever kind.

    Args:
        file, network: As in `measure_layers`, of measurements that train.
    """
    if isinstance(spec, specs.NetworkMeasurement):
        return measure_layers(spec, device, threads=threads, download=download, file=file, network=network)
    if isinstance(spec, specs.ExampleLabels | specs.ExampleImages):
        return read_examples(spec, download=download)
    return measure_kernels(spec, download=download)


def read_examples(
    spec: specs.ExampleLabels | specs.ExampleImages, *, download: bool = False
) -> MeasurementRecord:
    """Labels or images of a test set, as they are."""
    data = load_data(spec.data, download=download)
    if isinstance(spec, specs.ExampleLabels):
        labels = data.test.labels.numpy()
        arrays: dict[str, Any] = {"labels": labels.astype(np.uint8 if data.num_classes <= 256 else np.int16)}
    else:
        test = _test_in_memory(data, spec.data, "ExampleImages.data must be")
        if (last := max(spec.examples)) >= len(test.labels):
            raise ValueError(
                f"ExampleImages.examples must be 0 to {len(test.labels) - 1}, got {last}; leave it out"
            )
        arrays = {"images": test.images[list(spec.examples)].numpy()}
    made = environment(torch.device("cpu")) | {"data_sha256": data.sha256}
    return MeasurementRecord(experiment=spec, status="finished", arrays=arrays, environment=made)


def _test_in_memory(data: Dataset, spec: specs.DataSpec, must: str) -> Split:
    """The test set of a data set that has to lie in memory."""
    if isinstance(data.test, StreamedSplit):
        raise ValueError(
            f"{must} a data set that lies in memory, got {type(spec).__name__}; pack a part of it"
        )
    return data.test


def measure_layers(
    spec: specs.NetworkMeasurement,
    device: torch.device,
    *,
    threads: int,
    download: bool,
    file: Callable[[int], StateFile] | None = None,
    network: Callable[[specs.Experiment], StateFile] | None = None,
) -> MeasurementRecord:
    """Train, on the images to be measured as test set, and measure the last weights.

    Args:
        file: Where each training, numbered from 0, keeps its state; by default nowhere.
        network: Where each trained network is kept for other measurements; one that is there is not trained.
    """
    trainings = spec.experiments if isinstance(spec, specs.OutputSimilarity) else (spec.experiment,)
    parts = [measured_data(spec, run, download=download) for run in trainings]
    data, (_, images, examples) = [d.to(device) for d, *_ in parts], parts[0]
    images = images.to(device)
    plans = [plan(run, device=str(device), data=d) for run, d in zip(trainings, data, strict=True)]
    networks, outcomes, made = [], [], []
    columns: dict[str, list[float]] = {}
    names: dict[str, Any] = {}
    arrays: dict[str, Any] = {}
    observed: dict[str, torch.Tensor] = {}
    with cpu_threads(threads):
        for number, (each, d) in enumerate(zip(plans, data, strict=True)):
            checkpoint = checkpoint_in(None if file is None else file(number), each, device, threads)
            where = None if network is None else network(each.trainings[0])
            model, outcome, also, how = _network(spec, each, d, images, device, threads, checkpoint, where)
            networks.append(model)
            outcomes.append(outcome)
            observed |= also
            made.append({"run": specs.spec_key(each.trainings[0])} | how)
        status = "finished" if all(o.status == "finished" for o in outcomes) else "diverged"
        start = time.perf_counter()
        if device.type == "cuda":
            torch.cuda.empty_cache()  # what the training's graph held
        if status == "finished":
            if isinstance(spec, specs.OutputSimilarity):
                columns, names, arrays = layers.measure_outputs(networks, data, images)
            else:
                epochs = {epoch: _seen(observed, epoch) for epoch in spec.epochs}
                columns, names, arrays = layers.measure_origins(
                    networks[0], data[0], images, examples, epochs, spec
                )
            columns["test_accuracy"] = [o.history["test_accuracy"][-1] for o in outcomes]
            columns["train_accuracy"] = [o.train_accuracy or 0.0 for o in outcomes]
    names["num_weights"] = [masks.num_weights(model) for model in networks]
    seconds = time.perf_counter() - start
    here: dict[str, Any] = environment(device) | {"threads": threads, "trainings": made}
    here["data_sha256"] = data[0].sha256
    here["seconds_measuring"] = round(seconds, 2)
    here["seconds"] = round(seconds + sum(each["seconds"] for each in made), 2)
    return MeasurementRecord(
        experiment=spec,
        status=status,
        columns=columns,
        names=names,
        arrays=arrays,
        environment=here,
    )


def _network(
    spec: specs.NetworkMeasurement,
    plan: Plan,
    data: Dataset,
    images: torch.Tensor,
    device: torch.device,
    threads: int,
    checkpoint: Checkpoint | None,
    where: StateFile | None,
) -> tuple[nn.Module, Outcome, dict[str, torch.Tensor], dict[str, Any]]:
    """A network, kept by another measurement or trained here, its outcome, what was seen, how it was made."""
    (run,) = plan.trainings
    epochs = spec.epochs if isinstance(spec, specs.BlockOrigins) else ()
    made_by = {"measured": f"{spec.num_images} of seed {spec.seed}"} | same_training(run, device)
    model = build(run.model).to(device)
    before = None if where is None else kept(where, model, made_by=made_by)
    if before is not None and all(f"cka {epoch}" in before[1] for epoch in epochs):
        return model, *before
    also: dict[str, torch.Tensor] = {} if checkpoint is None else checkpoint.also

    def observe(epoch: int, model: nn.Module) -> None:
        if epoch in epochs:
            found = layers.observe_outputs(model, data, images)
            also[f"cka {epoch}"] = torch.from_numpy(found.cka)
            also[f"dominance {epoch}"] = torch.from_numpy(found.dominance)

    start = time.perf_counter()
    [(model, outcome)] = trained(
        plan, data, device, checkpoint=checkpoint, observe=observe if epochs else None
    )
    seconds = time.perf_counter() - start
    how = how_trained(plan, device, threads=threads, seconds=seconds, checkpoint=checkpoint)
    if where is not None and outcome.status == "finished":
        keep(where, model, outcome, also=also, made_by=made_by, how_trained=how)
    return model, outcome, also, how


def _seen(observed: Mapping[str, torch.Tensor], epoch: int) -> layers.OutputMap:
    return layers.OutputMap(
        cka=observed[f"cka {epoch}"].numpy(), dominance=observed[f"dominance {epoch}"].numpy()
    )


def measured_data(
    spec: specs.NetworkMeasurement, run: specs.Experiment, *, download: bool = False
) -> tuple[Dataset, torch.Tensor, torch.Tensor]:
    """The data of a training with the images to be measured as test set, these, and their positions in it."""
    data = load_data(run.data, download=download)
    check_fit(run, data)
    if not layers.output_names([name for name, _ in build(run.model).named_modules()]):
        raise ValueError(
            f"{type(spec).__name__} must be of networks with layers called relu or ….relu2, the outputs of a "
            f"ResNetCifarSpec, got a {type(run.model).__name__}; give such"
        )
    test = _test_in_memory(data, run.data, f"{type(spec).__name__} must be of")
    examples = layers.measured_examples(test, spec)
    test = test.take(examples)
    return replace(data, test=test), test.images, examples


def measure_kernels(
    spec: specs.KernelDistances | specs.KernelSimulation, *, download: bool = False
) -> MeasurementRecord:
    """Distances of kernels, from the theory or from simulated networks."""
    start = time.perf_counter()
    x, y, data_sha256 = _pairs(spec, download=download)
    columns = _distances(spec, x, y) if isinstance(spec, specs.KernelDistances) else _simulated(spec, x, y)
    seconds = round(time.perf_counter() - start, 2)
    return MeasurementRecord(
        experiment=spec,
        status="finished",
        columns={name: np.asarray(values, dtype=float).tolist() for name, values in columns.items()},
        environment=environment(torch.device("cpu")) | {"seconds": seconds} | data_sha256,
    )


def _pairs(
    spec: specs.KernelDistances | specs.KernelSimulation, *, download: bool = False
) -> tuple[Array, Array, dict[str, str]]:
    """Two sets of inputs and, of images, the checksum of the data set they are from."""
    if isinstance(spec.inputs, specs.GaussianInputs):
        rng = np.random.default_rng(specs.derive_seed(spec.seed, "inputs"))
        x, y = rng.standard_normal((2, spec.num_pairs, spec.inputs.dimension))
        return x, y, {}
    data = load_data(spec.inputs, download=download)
    test = _test_in_memory(data, spec.inputs, f"{type(spec).__name__}.inputs must be GaussianInputs or")
    images = data.normalise(test.images).double().numpy()
    seed = specs.derive_seed(spec.seed, "inputs")
    x, y = kernels.take_pairs(images, num_pairs=spec.num_pairs, seed=seed)
    return x, y, {"data_sha256": data.sha256}


def _distances(spec: specs.KernelDistances, x: Array, y: Array) -> dict[str, Array]:
    """Means over pairs; the distance at width n is squared_bias + spread / n."""
    p = np.array(spec.densities)
    d2 = x.shape[1] ** 2
    found = kernels.masked_kernels(x, y, density=p)
    dense = kernels.arc_cosine(x, y, order=1)[:, None]
    spread = (found.second - found.first**2) / d2
    corrected_bias = kernels.corrected_distance(x, y, width=np.inf, density=p)
    corrected_spread = kernels.corrected_distance(x, y, width=1, density=p) - corrected_bias
    per_pair = {
        "squared_bias": found.first_bias**2 / d2,
        "spread": spread,
        "bias_times_kernel": found.first_bias * dense / d2,
        "squared_kernel": np.broadcast_to(dense**2 / d2, spread.shape),
        "corrected_squared_bias": corrected_bias,
        "corrected_spread": corrected_spread,
        "relative_error": found.first_error / np.maximum(dense, 1e-300),
    }
    return {"density": p} | {name: values.mean(axis=0) for name, values in per_pair.items()}


def _simulated(spec: specs.KernelSimulation, x: Array, y: Array) -> dict[str, Array]:
    """Mean-square distances over pairs, one row a network, on the scale of variance 1."""
    found = kernels.simulate_kernels(
        x,
        y,
        widths=spec.widths,
        density=spec.densities,
        scaled_by=spec.scaled_by,
        distribution=spec.distribution,
        exact_count=spec.exact_count,
        num_networks=spec.num_networks,
        seed=specs.derive_seed(spec.seed, "initialisation"),
    )
    depth = len(spec.widths)
    scale = 3.0**depth if spec.distribution == "uniform" else 1.0  # U(±1) has variance 1/3 in each layer
    infinite = kernels.infinite_kernels(x, y, hidden_layers=depth)
    columns = {}
    for name, kernel, limit in zip(("gp", "ntk"), found, infinite, strict=True):
        columns[name] = np.mean((scale * kernel - limit) ** 2, axis=1)
        columns[f"{name}_infinite"] = np.full(len(kernel), np.mean(limit**2))
    return columns
