"""Trainings of a network, or of a fleet, and their records."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from wsnlib import custom, masks, sparse, specs, training
from wsnlib.data import Dataset, load_data
from wsnlib.experiments.machine import cpu_threads, environment, float32
from wsnlib.experiments.networks import build, check_fit, timed_as, weights_per_layer
from wsnlib.store import Record

FEWEST_COMPILED_STEPS = 1000
"""A step saves some tenths of a millisecond, and loading compiled code takes a process a second or two."""


def run_training(
    experiment: specs.Experiment,
    device: torch.device,
    *,
    threads: int,
    download: bool,
    deterministic: bool,
    file: training.StateFile | None = None,
) -> Record:
    """Train the network of an experiment, from the state in the file if there is one."""
    data = load_data(experiment.data, download=download)
    check_fit(experiment, data)
    start = time.perf_counter()
    found = None
    checkpoint = checkpoint_in(file, experiment, device, deterministic=deterministic)
    with cpu_threads(threads):
        with suppress(torch.OutOfMemoryError):  # its traceback holds tensors, and ends here with it
            found = trained(experiment, data, device, deterministic=deterministic, checkpoint=checkpoint)
        if found is None:
            raise torch.OutOfMemoryError(_what_fits(experiment, data, device))
    model, outcome = found
    made: dict[str, Any] = _compiler(is_compiled(experiment, model, data, device)) | {
        "threads": threads,
        "deterministic": deterministic,
        "seconds": round(time.perf_counter() - start, 2),
        "data_sha256": data.sha256,
    }
    if checkpoint is not None and checkpoint.resumed_after:
        made["resumed_after"] = checkpoint.resumed_after
        made["seconds"] = round(made["seconds"] + checkpoint.seconds_before, 2)
    return _record(experiment, model, outcome, environment(device) | made)


def checkpoint_in(
    file: training.StateFile | None,
    experiment: specs.Experiment,
    device: torch.device,
    *,
    deterministic: bool = False,
) -> training.Checkpoint | None:
    """Keeps a training in the file; one goes on from a state of its own, of the same versions and kind of
    device."""
    if file is None:
        return None
    made = environment(device)
    same = {"run": specs.spec_key(experiment), "device": device.type}
    same |= {"wsnlib": made["wsnlib"], "torch": made["torch"]}
    return training.Checkpoint(file, made_by=same | {"deterministic": str(deterministic)})


def _record(
    experiment: specs.Experiment, model: nn.Module, outcome: training.Outcome, made: dict[str, Any]
) -> Record:
    if isinstance(experiment.model, specs.CustomModelSpec):
        made["network"] = custom.origin(experiment.model)
    if native := [name for name, m in model.named_modules() if isinstance(m, sparse.SparseLayer)]:
        made["native_layers"] = native
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
            "weights_per_layer": weights_per_layer(experiment.model),
        },
        environment=made,
    )


def _compiler(compiled: bool) -> dict[str, str]:
    return {"compiled": f"numba {version('numba')}"} if compiled else {}


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
    return specs.spec_key(replace(run, model=shape, seed=0, training=replace(protocol, learning_rate=1.0)))


def hidden_values(run: specs.Experiment) -> int:
    """Numbers in the hidden layers of a fully connected network for one batch."""
    net = run.model.base if isinstance(run.model, specs.WidenedSpec) else run.model
    assert isinstance(net, specs.MLPSpec)
    width = run.model.width if isinstance(run.model, specs.WidenedSpec) else net.width
    return width * net.hidden_layers * run.training.batch_size


@float32()
def run_fleet(
    experiments: Sequence[specs.Experiment], *, threads: int = 1, download: bool = False
) -> list[Record]:
    """Train runs of one [`fleet_key`][wsnlib.experiments.trainings.fleet_key] together on the CPU.

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
        models = [build(run.model, seed=run.seed) for run in experiments]
        protocols, seeds = [run.training for run in experiments], [run.seed for run in experiments]
        compiled = is_compiled(experiments[0], models[0], data, torch.device("cpu"))
        if not compiled:
            models = [with_native_layers(model, data, protocols[0]) for model in models]
        outcomes = training.train_fleet(models, data, protocols, seeds=seeds, compiled=compiled)
    made: dict[str, Any] = _compiler(compiled) | {
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


def trained(
    experiment: specs.Experiment,
    data: Dataset,
    device: torch.device,
    *,
    deterministic: bool,
    checkpoint: training.Checkpoint | None = None,
) -> tuple[nn.Module, training.Outcome]:
    """The network of an experiment after its training on that data, and how it went."""
    protocol, seed = experiment.training, experiment.seed
    model = build(experiment.model, seed=seed)
    if is_compiled(experiment, model, data, device):
        return model, training.train_fleet([model], data, [protocol], seeds=[seed], compiled=True)[0]
    model = with_native_layers(model.to(device), data, protocol)
    outcome = training.train(
        model, data.to(device), protocol, seed=seed, deterministic=deterministic, checkpoint=checkpoint
    )
    return model, outcome


def is_compiled(experiment: specs.Experiment, model: nn.Module, data: Dataset, device: torch.device) -> bool:
    """Whether compiled code trains a run: a fully connected network on a CPU with numba, and steps enough
    that loading the code pays."""
    protocol = experiment.training
    steps = protocol.epochs * math.ceil(len(data.train.labels) / protocol.batch_size)
    return (
        device.type == "cpu"
        and steps >= FEWEST_COMPILED_STEPS
        and fleet_key(experiment) is not None
        and training.compiled_pays([model], batch_size=protocol.batch_size)
    )


def with_native_layers(model: nn.Module, data: Dataset, protocol: specs.Training) -> nn.Module:
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
