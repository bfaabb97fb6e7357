"""Measurements of layers and of kernels, and examples read from data sets, and their records."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wsnlib import kernels, layers, masks, specs
from wsnlib.data import Dataset, StreamedSplit, load_data
from wsnlib.experiments.machine import cpu_threads, environment
from wsnlib.experiments.networks import build, check_fit
from wsnlib.experiments.plans import plan
from wsnlib.experiments.trainings import checkpoint_in, trained
from wsnlib.representations import layer_names
from wsnlib.store import Record
from wsnlib.training import StateFile

Array = NDArray[np.float64]


def read_examples(spec: specs.ExampleLabels | specs.ExampleImages, *, download: bool = False) -> Record:
    """Labels or images of a test set, as they are."""
    data = load_data(spec.data, download=download)
    if isinstance(spec, specs.ExampleLabels):
        labels = data.test.labels.numpy()
        arrays: dict[str, Any] = {"labels": labels.astype(np.uint8 if data.num_classes <= 256 else np.int16)}
    else:
        if isinstance(data.test, StreamedSplit):
            raise ValueError(
                f"ExampleImages.data is {type(spec.data).__name__}; data sets that lie in memory are allowed"
            )
        if (last := max(spec.examples)) >= len(data.test.labels):
            raise ValueError(
                f"ExampleImages.examples holds {last}; 0 to {len(data.test.labels) - 1} are allowed"
            )
        arrays = {"images": data.test.images[list(spec.examples)].numpy()}
    made = environment(torch.device("cpu")) | {"data_sha256": data.sha256}
    return Record(experiment=spec, status="finished", history={}, arrays=arrays, environment=made)


def measure_layers(
    spec: specs.NetworkMeasurement,
    device: torch.device,
    *,
    threads: int,
    download: bool,
    file: Callable[[int], StateFile] | None = None,
) -> Record:
    """Train, on the images to be measured as test set, and measure the last weights."""
    start = time.perf_counter()
    trainings = spec.experiments if isinstance(spec, specs.NetworkSimilarity) else (spec.experiment,)
    parts = [measured_data(spec, run, download=download) for run in trainings]
    data, (_, images, examples) = [d.to(device) for d, *_ in parts], parts[0]
    images = images.to(device)
    if isinstance(spec, specs.ComponentProjections):  # a name that is wrong is told before the training
        layer_names(build(spec.experiment.model), images, layers=spec.layers, prepare=data[0].normalise)
    plans = [plan(run, device=str(device), data=d) for run, d in zip(trainings, data, strict=True)]
    networks, outcomes = [], []
    columns: dict[str, list[float]] = {}
    names: dict[str, Any] = {}
    with cpu_threads(threads):
        for number, (each, run, d) in enumerate(zip(plans, trainings, data, strict=True)):
            checkpoint = None if file is None else checkpoint_in(file(number), run, device)
            [(model, outcome)] = trained(each, d, device, deterministic=False, checkpoint=checkpoint)
            networks.append(model)
            outcomes.append(outcome)
        status = "finished" if all(o.status == "finished" for o in outcomes) else "diverged"
        if status == "finished":
            if isinstance(spec, specs.NetworkSimilarity):
                columns, names = layers.measure_networks(networks, data, images, spec)
            elif isinstance(spec, specs.ComponentProjections):
                columns, names = layers.measure_projections(networks[0], data[0], images, examples, spec)
            else:
                columns, names = layers.measure_layers(networks[0], data[0], images, spec)
            columns["test_accuracy"] = [o.history["test_accuracy"][-1] for o in outcomes]
            columns["train_accuracy"] = [o.train_accuracy or 0.0 for o in outcomes]
    names["num_weights"] = [masks.num_weights(model) for model in networks]
    made = {"engines": [each.engine for each in plans], "threads": threads}
    made["seconds"] = round(time.perf_counter() - start, 2)
    return Record(
        experiment=spec,
        status=status,
        history=columns,
        network=names,
        environment=environment(device) | made | {"data_sha256": data[0].sha256},
    )


def measured_data(
    spec: specs.NetworkMeasurement, run: specs.Experiment, *, download: bool = False
) -> tuple[Dataset, torch.Tensor, torch.Tensor]:
    """The data of a training with the images to be measured as test set, these, and their positions in it."""
    data = load_data(run.data, download=download)
    check_fit(run, data)
    if isinstance(data.test, StreamedSplit):
        raise ValueError(
            f"{type(spec).__name__} is of {type(run.data).__name__}; data sets that lie in memory are allowed"
        )
    examples = layers.measured_examples(data.test, spec)
    test = data.test.take(examples)
    return replace(data, test=test), test.images, examples


def measure_kernels(
    spec: specs.KernelDistances | specs.KernelSimulation, *, download: bool = False
) -> Record:
    """Distances of kernels, from the theory or from simulated networks."""
    start = time.perf_counter()
    x, y, data_sha256 = _pairs(spec, download=download)
    columns = _distances(spec, x, y) if isinstance(spec, specs.KernelDistances) else _simulated(spec, x, y)
    seconds = round(time.perf_counter() - start, 2)
    return Record(
        experiment=spec,
        status="finished",
        history={name: np.asarray(values, dtype=float).tolist() for name, values in columns.items()},
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
    if isinstance(data.test, StreamedSplit):
        raise ValueError(
            f"{type(spec).__name__}.inputs is {type(spec.inputs).__name__}; data sets that lie in memory and "
            "GaussianInputs are allowed"
        )
    images = data.normalise(data.test.images).double().numpy()
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
