"""From a spec to objects to a result: the only module that knows description and science both."""

from __future__ import annotations

import math
import os
import platform
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from wsnlib import custom, kernels, layers, masks, models, sparse, specs, training, widening
from wsnlib.data import Dataset, StreamedSplit, load_data
from wsnlib.representations import cka_sums
from wsnlib.store import Record

Array = NDArray[np.float64]


def build(spec: specs.ModelSpec, *, seed: int = 0) -> nn.Module:
    """The network of a spec, on the CPU; initialisation, mask and bottlenecks derive from the seed.

    A [`CustomSpec`][wsnlib.specs.networks.CustomSpec] is imported and called here, whatever it names.

    Raises:
        ValueError: If the base's number of weights cannot be had at that width, or a custom network
            cannot be made.

    Examples:
        >>> wide = specs.StaticSparsity(specs.MLPSpec(width=5), width=80)
        >>> masks.num_weights(build(wide, seed=0))
        3970
    """
    kept = allocation(spec)  # what cannot be had is refused before anything large is made

    def generator(purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(specs.derive_seed(seed, purpose))

    if isinstance(spec, specs.CustomModelSpec):
        dense = spec.wide if isinstance(spec, specs.CustomSparsity) else spec
        model = custom.network(dense, seed=specs.derive_seed(seed, "initialisation"))
        if isinstance(spec, specs.CustomSparsity):
            rule = spec.initialisation
            masks.sparsify(model, allocation=kept, initialisation=rule, generator=generator("mask"))
        return model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(specs.derive_seed(seed, "initialisation"))
        if isinstance(spec, specs.LinearBottleneck | specs.NonlinearBottleneck):
            return _narrowed(spec, generator("bottleneck"))
        model = _dense(spec.base, spec.width) if isinstance(spec, specs.StaticSparsity) else _dense(spec)
    if isinstance(spec, specs.StaticSparsity):
        masks.sparsify(
            model,
            allocation=kept,
            initialisation=spec.initialisation,
            dimensions=_dimensions(spec),
            generator=generator("mask"),
        )
    return model


def _dense(spec: specs.DenseSpec, width: int | None = None, **changes: Any) -> nn.Module:
    """The dense network of a spec, of another width if one is given."""
    spec = replace(specs.at_width(spec, width) if width else spec, **changes)
    if isinstance(spec, specs.ResNetCifarSpec):
        return models.ResNetCifar(**asdict(spec))
    kind = models.MLP if isinstance(spec, specs.MLPSpec) else models.ResNet18
    return kind(**asdict(spec))


def _narrowed(
    spec: specs.LinearBottleneck | specs.NonlinearBottleneck, generator: torch.Generator
) -> nn.Module:
    if not isinstance(spec.base, specs.ResNet18Spec):
        model = _dense(spec.base, spec.width)
    else:  # what is drawn by fan-out is drawn once the layers have their size
        model = _dense(spec.base, spec.width, initialisation="default")
    if isinstance(spec, specs.LinearBottleneck):
        widening.linear_bottleneck(model, sizes=bottleneck_sizes(spec), generator=generator)
    else:
        widening.nonlinear_bottleneck(model, sizes=bottleneck_sizes(spec), generator=generator)
    if isinstance(spec.base, specs.ResNet18Spec) and spec.base.initialisation == "fan_out":
        models.initialise_fan_out(model)
    return model


@lru_cache(maxsize=1024)
def _layer_shapes(spec: specs.DenseSpec, width: int | None = None) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        layers = masks.weight_layers(_dense(spec, width))
    return {name: tuple(layer.weight.shape) for name, layer in layers.items()}


def _layer_sizes(spec: specs.DenseSpec, width: int | None = None) -> dict[str, int]:
    return {name: math.prod(shape) for name, shape in _layer_shapes(spec, width).items()}


def _dimensions(spec: specs.StaticSparsity) -> masks.Dimensions:
    return "channels" if isinstance(spec, specs.ChannelSparsity) else "all"


def allocation(spec: specs.ModelSpec) -> dict[str, int]:
    """Weights that each layer of a spec's network keeps, by layer name.

    Their sum is the base's number of weights for `StaticSparsity`, `ChannelSparsity` and
    `CustomSparsity`, and the number that was reached for bottlenecks.

    Raises:
        ValueError: If the base's number of weights cannot be had at that width and allocation.

    Examples:
        >>> base = specs.MLPSpec(width=5)
        >>> half = specs.LastLayerDensity(density=0.5)
        >>> allocation(specs.StaticSparsity(base, width=40, allocation=half))
        {'hidden1': 3770, 'output': 200}
        >>> base = specs.ResNet18Spec(width=8)
        >>> sum(allocation(base).values())
        175192
        >>> sum(allocation(specs.LinearBottleneck(base, width=16)).values())
        175202
    """
    if isinstance(spec, specs.CustomModelSpec):
        return custom.allocation(spec)
    if isinstance(spec, specs.LinearBottleneck | specs.NonlinearBottleneck):
        return dict(_narrowed_sizes(spec))
    if not isinstance(spec, specs.StaticSparsity):
        return _layer_sizes(spec)
    sizes, fixed = _layer_sizes(spec.base, spec.width), []
    num_weights = sum(_layer_sizes(spec.base).values())
    if isinstance(spec.allocation, specs.UniformDensity):
        kept = masks.allocate_uniform(sizes, num_weights=num_weights)
    elif isinstance(spec.allocation, specs.LastLayerDensity):
        fixed = [list(sizes)[-1]]
        density = {fixed[0]: spec.allocation.density}
        kept = masks.allocate(sizes, num_weights=num_weights, density=density)
    else:
        kept = masks.allocate(sizes, num_weights=num_weights)
    if _dimensions(spec) == "channels":
        shapes = _layer_shapes(spec.base, spec.width)
        kept = masks.whole_kernels(kept, layer_shapes=shapes, fixed=fixed)
    return kept


@lru_cache(maxsize=1024)
def _narrowed_sizes(spec: specs.LinearBottleneck | specs.NonlinearBottleneck) -> dict[str, int]:
    with torch.device("meta"):
        layers = masks.weight_layers(_narrowed(spec, torch.Generator(device="cpu")))
    return {name: layer.weight.numel() for name, layer in layers.items()}


def bottleneck_sizes(spec: specs.LinearBottleneck | specs.NonlinearBottleneck) -> dict[str, int]:
    """The size of each bottleneck of a spec's network, by the name of the (first) layer it narrows.

    Raises:
        ValueError: If no bottlenecks reach the number of weights at that width.

    Examples:
        >>> base = specs.MLPSpec(width=50, inputs=64, hidden_layers=3)
        >>> bottleneck_sizes(specs.NonlinearBottleneck(base, width=60))
        {'hidden2': 35}
        >>> bottleneck_sizes(specs.LinearBottleneck(base, width=100))
        {'hidden1': 19, 'hidden2': 13, 'hidden3': 12, 'output': 5}
    """
    return dict(_bottleneck_sizes(spec))


def _dense_layers(spec: specs.LinearBottleneck) -> tuple[str, ...]:
    """In a ResNet-18 G21 splits convolutions (footnote 2), in other networks every layer."""
    return ("linear",) if isinstance(spec.base, specs.ResNet18Spec) else ()


@lru_cache(maxsize=1024)
def _bottleneck_sizes(spec: specs.LinearBottleneck | specs.NonlinearBottleneck) -> dict[str, int]:
    with torch.device("meta"):
        base, wide = _dense(spec.base), _dense(spec.base, spec.width)
    like = _layer_sizes(spec.base)
    try:
        if isinstance(spec, specs.NonlinearBottleneck):
            return widening.nonlinear_bottleneck_sizes(wide, num_weights=sum(like.values()), like=like)
        exclude = _dense_layers(spec)
        if spec.keeps == "factorised_base":
            shapes = _layer_shapes(spec.base)
            full = widening.linear_bottleneck_sizes(base, exclude=exclude)
            like |= {
                name: size * (shapes[name][0] + math.prod(shapes[name][1:])) for name, size in full.items()
            }
        num_weights = sum(like.values())
        return widening.linear_bottleneck_sizes(wide, num_weights=num_weights, like=like, exclude=exclude)
    except ValueError as error:
        raise ValueError(
            f"{type(spec).__name__} of base width {spec.base.width} at width {spec.width}: {error}"
        ) from None


def is_reachable(spec: specs.ModelSpec) -> bool:
    """Whether a network of that width and allocation can have the base's number of weights.

    Examples:
        >>> base = specs.MLPSpec(width=5)
        >>> most = specs.LastLayerDensity(density=0.7)
        >>> [is_reachable(specs.StaticSparsity(base, width=w, allocation=most)) for w in (5, 10, 640)]
        [False, True, False]
    """
    if isinstance(spec, specs.CustomSparsity):  # one that cannot be made is a mistake, not a no
        allocation(spec.base), allocation(spec.wide)
    try:
        allocation(spec)
    except ValueError:
        return False
    return True


def resolve_device(device: str = "auto") -> torch.device:
    """`"auto"` is the first GPU if there is one, else the CPU."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    resolved = torch.device(device)
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device is {device!r} and there is no CUDA device; 'cpu' and 'auto' are allowed")
    return resolved


def run(
    experiment: specs.Run,
    *,
    device: str = "auto",
    threads: int = 1,
    download: bool = False,
    deterministic: bool = False,
) -> Record:
    """Train the network of an experiment, or measure layers or kernels, or read examples; the record.

    `wsn.run_missing` keeps it.

    Args:
        experiment: What to run; kernels are measured on the CPU.
        device: `"auto"`, `"cpu"`, `"cuda"`, `"cuda:1"`, …
        threads: CPU threads while it runs; the same number gives the same bits on one machine.
        download: Whether a missing data set may be fetched.
        deterministic: Whether a GPU, too, is to give the same bits each time (see `wsn.train`).

    Raises:
        ValueError: If the network does not fit the data, or `deterministic` cannot be had.
        torch.OutOfMemoryError: If the GPU's memory does not suffice; the message says for which batch
            size it does.
    """
    if isinstance(experiment, specs.ExampleLabels | specs.ExampleImages):
        return _read_examples(experiment, download=download)
    if isinstance(experiment, specs.LayerSimilarity | specs.NetworkSimilarity):
        return _measure_layers(experiment, resolve_device(device), threads=threads, download=download)
    if not isinstance(experiment, specs.Experiment):
        return _measure(experiment, download=download)
    target = resolve_device(device)
    data = load_data(experiment.data, download=download)
    check_fit(experiment, data)
    start = time.perf_counter()
    trained = None
    with cpu_threads(threads):
        with suppress(torch.OutOfMemoryError):  # its traceback holds tensors, and ends here with it
            trained = _trained(experiment, data, target, deterministic=deterministic)
        if trained is None:
            raise torch.OutOfMemoryError(_what_fits(experiment, data, target))
    model, outcome = trained
    made: dict[str, Any] = {
        "threads": threads,
        "deterministic": deterministic,
        "seconds": round(time.perf_counter() - start, 2),
        "data_sha256": data.sha256,
    }
    return _record(experiment, model, outcome, environment(target) | made)


def _record(
    experiment: specs.Experiment, model: nn.Module, outcome: training.Outcome, made: dict[str, Any]
) -> Record:
    if isinstance(experiment.model, specs.CustomModelSpec):
        made["network"] = custom.origin(experiment.model)
    return Record(
        experiment=experiment,
        status=outcome.status,
        history=outcome.history,
        reported_epoch=outcome.reported_epoch,
        train_accuracy=outcome.train_accuracy,
        predictions=None if outcome.predictions is None else outcome.predictions.numpy(),
        network={
            "num_weights": masks.num_weights(model),
            "connectivity": masks.connectivity(model),
            "weights_per_layer": allocation(experiment.model),
        },
        environment=made,
    )


def fleet_key(run: specs.Run) -> str | None:
    """What runs have in common that can train as one fleet on a CPU; None if a run trains alone.

    They are fully connected networks of one shape on the same data by the same protocol, but for the
    learning rate, the seed and which weights are there.

    Examples:
        >>> base, data = specs.MLPSpec(width=5), specs.MNIST()
        >>> runs = [
        ...     specs.Experiment(
        ...         model=specs.StaticSparsity(base, width=w),
        ...         data=data,
        ...         training=specs.Training(epochs=3, learning_rate=rate),
        ...         seed=seed,
        ...     )
        ...     for w, rate, seed in ((20, 0.1, 0), (20, 0.3, 1), (40, 0.1, 0))
        ... ]
        >>> first, second, third = map(fleet_key, runs)
        >>> first == second, first == third
        (True, False)
    """
    if not isinstance(run, specs.Experiment):
        return None
    shape = timed_as(run.model) if isinstance(run.model, specs.StaticSparsity) else run.model
    protocol = run.training
    if not isinstance(shape, specs.MLPSpec) or protocol.decayed != "all" or protocol.precision != "float32":
        return None
    return specs.key(replace(run, model=shape, seed=0, training=replace(protocol, learning_rate=1.0)))


def hidden_values(run: specs.Experiment) -> int:
    """Numbers in the hidden layers of a fully connected network for one batch."""
    net = run.model.base if isinstance(run.model, specs.WidenedSpec) else run.model
    assert isinstance(net, specs.MLPSpec)
    width = run.model.width if isinstance(run.model, specs.WidenedSpec) else net.width
    return width * net.hidden_layers * run.training.batch_size


def run_fleet(
    experiments: Sequence[specs.Experiment], *, threads: int = 1, download: bool = False
) -> list[Record]:
    """Train runs with one [`fleet_key`][wsnlib.experiments.fleet_key] at once on the CPU; a record of each.

    A record says in `environment.fleet` how many were trained at once, and its `seconds` are its share.

    Raises:
        ValueError: If the runs are not alike, or the networks do not fit the data.
    """
    keys = {fleet_key(run) for run in experiments}
    if len(keys) != 1 or None in keys:
        raise ValueError(
            f"the {len(experiments)} runs have {len(keys)} shapes or protocols; "
            "one that fleets can train is allowed"
        )
    data = load_data(experiments[0].data, download=download)
    for run in experiments:
        check_fit(run, data)
    start = time.perf_counter()
    with cpu_threads(threads):
        models = [_faster(build(run.model, seed=run.seed), data, run.training) for run in experiments]
        protocols, seeds = [run.training for run in experiments], [run.seed for run in experiments]
        outcomes = training.train_fleet(models, data, protocols, seeds=seeds)
    made: dict[str, Any] = {
        "threads": threads,
        "deterministic": False,
        "fleet": len(experiments),
        "seconds": round((time.perf_counter() - start) / len(experiments), 2),
        "data_sha256": data.sha256,
    }
    where = environment(torch.device("cpu"))
    return [
        _record(run, model, outcome, where | made)
        for run, model, outcome in zip(experiments, models, outcomes, strict=True)
    ]


def _trained(
    experiment: specs.Experiment, data: Dataset, device: torch.device, *, deterministic: bool
) -> tuple[nn.Module, training.Outcome]:
    model = _faster(build(experiment.model, seed=experiment.seed).to(device), data, experiment.training)
    outcome = training.train(
        model, data.to(device), experiment.training, seed=experiment.seed, deterministic=deterministic
    )
    return model, outcome


def _faster(model: nn.Module, data: Dataset, protocol: specs.Training) -> nn.Module:
    """The model, its masked layers native where that is estimated to pay: on a CPU, in single precision."""
    on_cpu = next(model.parameters()).device.type == "cpu"
    if on_cpu and protocol.precision == "float32" and masks.layer_masks(model):
        one = torch.zeros(1, *data.image_shape)
        sparse.take(model, sparse.estimated_costs(model, one, batch_size=protocol.batch_size))
    return model


def _what_fits(experiment: specs.Experiment, data: Dataset, device: torch.device) -> str:
    found = training.fitting_batch_size(
        lambda: build(experiment.model), data, experiment.training, device=device
    )
    fits = f"a batch_size of {found} fits" if found else "no batch_size fits"
    asked = experiment.training.batch_size
    return f"training with a batch_size of {asked} needs more memory than {device} has free; {fits}"


def _read_examples(spec: specs.ExampleLabels | specs.ExampleImages, *, download: bool = False) -> Record:
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


def _measure_layers(
    spec: specs.LayerSimilarity | specs.NetworkSimilarity,
    device: torch.device,
    *,
    threads: int,
    download: bool,
) -> Record:
    """Train, on the images to be measured as test set, and measure the last weights."""
    start = time.perf_counter()
    trainings = spec.experiments if isinstance(spec, specs.NetworkSimilarity) else (spec.experiment,)
    found = [_measured_data(spec, run, download=download) for run in trainings]
    data, images = [d.to(device) for d, _ in found], found[0][1].to(device)
    networks, outcomes = [], []
    columns: dict[str, list[float]] = {}
    names: dict[str, Any] = {}
    with cpu_threads(threads):
        for run, d in zip(trainings, data, strict=True):
            model, outcome = _trained(run, d, device, deterministic=False)
            networks.append(model)
            outcomes.append(outcome)
        status = "finished" if all(o.status == "finished" for o in outcomes) else "diverged"
        if status == "finished":
            if isinstance(spec, specs.NetworkSimilarity):
                columns, names = layers.measure_networks(networks, data, images, spec)
            else:
                columns, names = layers.measure_layers(networks[0], data[0], images, spec)
            columns["test_accuracy"] = [o.history["test_accuracy"][-1] for o in outcomes]
            columns["train_accuracy"] = [o.train_accuracy or 0.0 for o in outcomes]
    names["num_weights"] = [masks.num_weights(model) for model in networks]
    made = {"threads": threads, "seconds": round(time.perf_counter() - start, 2)}
    return Record(
        experiment=spec,
        status=status,
        history=columns,
        network=names,
        environment=environment(device) | made | {"data_sha256": data[0].sha256},
    )


def _measured_data(
    spec: specs.LayerSimilarity | specs.NetworkSimilarity, run: specs.Experiment, *, download: bool = False
) -> tuple[Dataset, torch.Tensor]:
    """The data of a training with the images to be measured as test set, and these images."""
    data = load_data(run.data, download=download)
    check_fit(run, data)
    if isinstance(data.test, StreamedSplit):
        raise ValueError(
            f"{type(spec).__name__} is of {type(run.data).__name__}; data sets that lie in memory are allowed"
        )
    test = layers.measured_images(data.test, spec)
    return replace(data, test=test), test.images


def _measure(spec: specs.KernelDistances | specs.KernelSimulation, *, download: bool = False) -> Record:
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


def check_fit(experiment: specs.Experiment, data: Dataset) -> None:
    """Raise ValueError if the network's inputs or outputs are not those of the data."""
    spec = experiment.model
    if isinstance(spec, specs.CustomModelSpec):
        batch_size = experiment.training.batch_size
        smallest = len(data.train.labels) % batch_size or batch_size
        images = (min(smallest, 2), *data.image_shape)
        custom.check_fit(spec, images=images, num_classes=data.num_classes)
        return
    net = spec.base if isinstance(spec, specs.WidenedSpec) else spec
    name = type(experiment.data).__name__
    if isinstance(net, specs.ResNet18Spec | specs.ResNetCifarSpec):
        channels = data.image_shape[0]
        if (net.input_channels, net.num_classes) != (channels, data.num_classes):
            raise ValueError(
                f"the network has {net.input_channels} input channels and {net.num_classes} classes; "
                f"{channels} and {data.num_classes} are allowed for {name}"
            )
    elif (net.inputs, net.outputs) != (data.num_inputs, data.num_classes):
        raise ValueError(
            f"the network has {net.inputs} inputs and {net.outputs} outputs; "
            f"{data.num_inputs} and {data.num_classes} are allowed for {name}"
        )


def timed_as(spec: specs.ModelSpec) -> specs.ModelSpec:
    """The network whose time a run of the spec takes: for static sparsity the dense one of its width,
    for what cannot be built the base.

    Examples:
        >>> timed_as(specs.StaticSparsity(specs.MLPSpec(width=5), width=40)).width
        40
    """
    if not isinstance(spec, specs.WidenedSpec | specs.CustomSparsity):
        return spec
    if not is_reachable(spec):
        return spec.base
    if isinstance(spec, specs.CustomSparsity):
        return spec.wide
    return specs.at_width(spec.base, spec.width) if isinstance(spec, specs.StaticSparsity) else spec


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Use that many CPU threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def environment(device: torch.device) -> dict[str, str]:
    """Versions, commit and device name, for a record; no path and no host name."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()
    return {
        "wsnlib": version("wsnlib"),
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "device": f"{device.type}: {name}",
        "cpu_count": str(os.cpu_count()),
    }


@lru_cache(maxsize=1)
def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


@lru_cache(maxsize=1)
def _commit() -> str:
    """The commit of the working tree that the library lies in; "+" if the library was changed since."""
    package = Path(__file__).parent
    try:
        git = ["git", "-C", str(package)]
        head = subprocess.run(
            [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, check=True, text=True
        )
        diff = subprocess.run(
            [*git, "status", "--porcelain", "."], capture_output=True, check=True, text=True
        )
        return head.stdout.strip() + ("+" if diff.stdout.strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def seconds_per_run(experiment: specs.Experiment, data: Dataset, *, device: str = "auto") -> float:
    """How long a run would take here, from timing up to 12 steps of it on one CPU thread.

    The timing itself takes about a second: fewer steps of a network whose steps are slow.
    """
    target = resolve_device(device)
    batch = experiment.training.batch_size
    protocol = replace(experiment.training, epochs=1, augmentation=None, report="last")
    data = data.to(target)  # all of it, so that the memory used is that of a run

    def seconds(steps: int) -> float:
        index = torch.arange(steps * batch) % len(data.train.labels)
        sample = replace(data, train=data.train.take(index), validation=data.validation.take(index[:0]))
        start = time.perf_counter()
        training.train(model, replace(sample, test=sample.train.take(index[:1])), protocol, seed=0)
        return time.perf_counter() - start

    with cpu_threads(1):
        model = _faster(build(experiment.model).to(target), data, protocol)
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


def timed_alike(spec: specs.Measurement) -> specs.Measurement:
    """A measurement that takes as long and is the same for every seed."""
    if isinstance(spec, specs.LayerSimilarity):
        return replace(spec, seed=0, experiment=replace(spec.experiment, seed=0))
    if isinstance(spec, specs.NetworkSimilarity):
        return replace(spec, seed=0, experiments=tuple(replace(run, seed=0) for run in spec.experiments))
    if isinstance(spec, specs.ExampleLabels | specs.ExampleImages):
        return spec
    return replace(spec, seed=0)


def seconds_per_measurement(
    spec: specs.Measurement, *, device: str = "auto", download: bool = False
) -> float:
    """How long a measurement would take here, from timing two pairs, one network or one batch of it."""
    if isinstance(spec, specs.LayerSimilarity):
        return _seconds_per_network(spec, spec.experiment, device, 2, download=download)
    if isinstance(spec, specs.NetworkSimilarity):
        return sum(_seconds_per_network(spec, run, device, 1, download=download) for run in spec.experiments)
    if isinstance(spec, specs.ExampleLabels | specs.ExampleImages):
        return 0.1
    start = time.perf_counter()
    if isinstance(spec, specs.KernelDistances):
        _measure(replace(spec, num_pairs=2))
        return (time.perf_counter() - start) * spec.num_pairs / 2
    _measure(replace(spec, num_networks=1))
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
    data, images = _measured_data(spec, run, download=download)
    images = images[: spec.batch_size].to(resolve_device(device))
    with cpu_threads(1):
        model = build(run.model).to(images.device)
        start = time.perf_counter()
        cka_sums(model, images, batch_size=len(images), passes=1, prepare=data.to(images.device).normalise)
        per_batch = time.perf_counter() - start
    batches = matrices * spec.passes * math.ceil(len(data.test.labels) / spec.batch_size)
    return seconds_per_run(run, data, device=device) + batches * per_batch
