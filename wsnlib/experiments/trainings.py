"""Trainings of networks by their plan, and their records."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from wsnlib import custom, masks, sparse, specs, training
from wsnlib.data import Dataset, load_data
from wsnlib.experiments.machine import environment
from wsnlib.experiments.networks import build, weights_per_layer
from wsnlib.experiments.plans import Plan
from wsnlib.store import Record
from wsnlib.timings import cpu_threads


def run_trainings(
    plan: Plan,
    device: torch.device,
    *,
    threads: int,
    data: Dataset | None = None,
    file: training.StateFile | None = None,
) -> list[Record]:
    """Train the networks of a plan, one that is alone from the state in the file if there is one.

    The `seconds` of a record are its run's share.
    """
    first = plan.trainings[0]
    data = data or load_data(first.data)
    start = time.perf_counter()
    found = None
    checkpoint = checkpoint_in(file, plan, device, threads)
    with cpu_threads(threads):
        with suppress(torch.OutOfMemoryError):  # its traceback holds tensors, and ends here with it
            found = trained(plan, data, device, checkpoint=checkpoint)
        if found is None:
            raise torch.OutOfMemoryError(_what_fits(first, data, device))
    seconds = (time.perf_counter() - start) / len(found)
    made = how_trained(plan, device, threads=threads, seconds=seconds, checkpoint=checkpoint)
    made |= {"data_sha256": data.sha256}
    return [_record(run, *each, made) for run, each in zip(plan.trainings, found, strict=True)]


def how_trained(
    plan: Plan,
    device: torch.device,
    *,
    threads: int,
    seconds: float,
    checkpoint: training.Checkpoint | None,
) -> dict[str, Any]:
    """What a record says of the training of a network: versions, commits, device, engine, seconds."""
    made: dict[str, Any] = environment(device) | plan.recorded()
    made |= {"threads": threads, "deterministic": _deterministic()}
    if checkpoint is not None and checkpoint.resumed_after:
        made |= {"resumed_after": checkpoint.resumed_after, "resumed_from": checkpoint.commits}
        seconds += checkpoint.seconds_before
    return made | {"seconds": round(seconds, 2)}


def checkpoint_in(
    file: training.StateFile | None, plan: Plan, device: torch.device, threads: int
) -> training.Checkpoint | None:
    """Keeps the training of a plan in the file; one goes on from a state of its own, of the same versions,
    kind of device, engine and number of threads."""
    if file is None:
        return None
    same = same_training(plan.trainings[0], device) | {
        "deterministic": str(_deterministic()),
        "engine": plan.engine,
        "sparse_layers": " ".join(plan.sparse_layers),
        "threads": str(threads),
    }
    return training.Checkpoint(file, made_by=same, commit=environment(device)["commit"])


def _deterministic() -> bool:
    """Whether torch refuses operations that may give other bits another time."""
    return torch.get_deterministic_debug_mode() == 2


def same_training(experiment: specs.Experiment, device: torch.device) -> dict[str, str]:
    """What has to be the same for what one training left to be of use to another."""
    made = environment(device)
    same = {"run": specs.spec_key(experiment), "device": device.type}
    names = (
        "wsnlib",
        "torch",
        "float32_convolutions",
        "float32_products",
    )
    return same | {name: made[name] for name in names if name in made}


def _record(
    experiment: specs.Experiment, model: nn.Module, outcome: training.Outcome, made: dict[str, Any]
) -> Record:
    if isinstance(experiment.model, specs.CustomModelSpec):
        made = made | {"network": custom.origin(experiment.model)}
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


def trained(
    plan: Plan,
    data: Dataset,
    device: torch.device,
    *,
    checkpoint: training.Checkpoint | None = None,
    observe: Callable[[int, nn.Module], None] | None = None,
) -> list[tuple[nn.Module, training.Outcome]]:
    """The networks of a plan after their training on that data, and how it went.

    A network that trains alone in PyTorch can be observed (see `wsn.train`).
    """
    models = [build(run.model, seed=run.seed) for run in plan.trainings]
    protocols, seeds = [run.training for run in plan.trainings], [run.seed for run in plan.trainings]
    for model in models if plan.sparse_layers else ():
        sparse.to_sparse(model, layers=plan.sparse_layers)
    if plan.engine == "compiled":
        outcomes = training.train_jointly(models, data, protocols, seeds=seeds)
        return list(zip(models, outcomes, strict=True))
    (model,), (protocol,), (seed,) = models, protocols, seeds
    outcome = training.train(
        model.to(device),
        data.to(device),
        protocol,
        seed=seed,
        checkpoint=checkpoint,
        observe=observe,
    )
    return [(model, outcome)]


def _what_fits(experiment: specs.Experiment, data: Dataset, device: torch.device) -> str:
    found = training.fitting_batch_size(
        lambda: build(experiment.model), data, experiment.training, device=device
    )
    fits = f"a batch_size of {found} fits" if found else "no batch_size fits"
    asked = experiment.training.batch_size
    return f"training with a batch_size of {asked} needs more memory than {device} has free; {fits}"
