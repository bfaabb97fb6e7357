"""The state of a training between two epochs, kept in a file so that a killed one goes on from there.

The state is whole: weights and buffers, the optimiser's momenta, the generators of random numbers, the
history so far and the best predictions. On a CPU a training that was resumed gives the bits of one that was
not interrupted. The file is in the safetensors format; reading it runs no code.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from wsnlib.training.log import TrainingLog

SECONDS_BETWEEN = 60.0
"""Seconds of training after which the end of an epoch is kept; what ends sooner never writes a file."""

MODEL, ALSO = "model.", "also."
"""What the names of a network's tensors and of what was observed begin with."""


class StateFile(Protocol):
    """Where one training keeps its state; `wsnlib.store.CheckpointFile` is one."""

    def read(self) -> bytes | None:
        """What was written last, None if nothing was; ValueError if it is damaged."""

    def write(self, state: bytes) -> None:
        """Replace what is there, whole or not at all."""

    def set_aside(self) -> str | None:
        """Move what is there out of the way, and say where it is."""


class Checkpoint:
    """Keeps the state of one training, and puts it back.

    Args:
        file: Where.
        made_by: What has to be the same for a training to go on from a state: versions, the kind of device.
            A state of others is not used.
        commit: Of the code that trains.
        seconds_between: Seconds of training between two states that are kept.
    """

    def __init__(
        self,
        file: StateFile,
        *,
        made_by: Mapping[str, str],
        commit: str = "",
        seconds_between: float = SECONDS_BETWEEN,
    ) -> None:
        self._commit = commit
        self._file, self._made_by, self._seconds_between = file, dict(made_by), seconds_between
        self._started = self._kept = time.monotonic()
        self.seconds_before = 0.0
        """Seconds of training before this one took over."""
        self.also: dict[str, torch.Tensor] = {}
        """What else is kept with the state, and put back with it."""
        self.resumed_after: list[int] = []
        """Epochs after which the training was interrupted and taken up again."""
        self.commits: list[str] = []
        """Of the code that trained before."""

    def restore(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, order: torch.Generator, log: TrainingLog
    ) -> int:
        """Put the state back, and return how many epochs it has behind it; 0 if there is none to be used.

        A damaged file is set aside with a warning that names it.
        """
        found = read_tensors(
            self._file, self._made_by, model, what="a checkpoint", then="and its training starts anew"
        )
        if found is None:
            return 0
        tensors, about = found
        _put_back(tensors, model, optimizer, order)
        self.also |= under(ALSO, tensors)
        log.restore(about["course"], tensors.get("predictions"))
        self.seconds_before = about["seconds"]
        self.resumed_after = [*about["resumed_after"], about["epoch"]]
        self.commits = about.get("commits", [])
        return int(about["epoch"])

    def epoch_ended(
        self,
        epoch: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        order: torch.Generator,
        log: TrainingLog,
    ) -> None:
        """Keep the state if it is time to; a store that cannot be written now does not stop the training."""
        now = time.monotonic()  # a clock that is set forward or back changes nothing
        if now - self._kept < self._seconds_between:
            return
        about = {
            "made_by": self._made_by,
            "epoch": epoch,
            "course": log.state(),
            "seconds": self.seconds_before + now - self._started,
            "resumed_after": self.resumed_after,
            "commits": list(dict.fromkeys([*self.commits, self._commit])),
        }
        tensors = _state(model, optimizer, order) | {ALSO + name: t for name, t in self.also.items()}
        if log.predictions is not None:
            tensors["predictions"] = log.predictions
        write_tensors(self._file, tensors, about, what="a checkpoint")
        self._kept = time.monotonic()


def write_tensors(
    file: StateFile, tensors: Mapping[str, Any], about: Mapping[str, Any], *, what: str
) -> None:
    """Write tensors and what is said about them; what cannot be written is warned of, no more."""
    for name, value in tensors.items():
        if not isinstance(value, torch.Tensor):
            warnings.warn(
                f"{what} was not kept: the state of a network must be tensors, got a "
                f"{type(value).__name__} as {name.removeprefix(MODEL)}; give a tensor there",
                RuntimeWarning,
                stacklevel=3,
            )
            return
    # a copy of its own in the order of its indices, as the format wants it
    plain = {n: t.detach().cpu().clone(memory_format=torch.contiguous_format) for n, t in tensors.items()}
    plain["about"] = torch.tensor(list(json.dumps(about).encode()), dtype=torch.uint8)
    try:
        file.write(save(plain))
    except RuntimeError as error:
        warnings.warn(f"{what} was not kept: {error}", RuntimeWarning, stacklevel=3)


def read_tensors(
    file: StateFile, made_by: Mapping[str, str], model: nn.Module, *, what: str, then: str
) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """The tensors that were written and what was said about them; None if there are none made by the same.

    A file that is damaged, or has other tensors than the network, is set aside with a warning that names it.
    """
    try:
        state = file.read()
        if state is None:
            return None
        tensors = load(state)
        about = json.loads(bytes(tensors.pop("about").tolist()))
        if about["made_by"] != made_by:
            return None
        if _shapes(under(MODEL, tensors)) != _shapes(model.state_dict()):
            raise ValueError("it is of a network with other weights")
    except (ValueError, SafetensorError) as error:
        where = file.set_aside()
        warnings.warn(
            f"{what} cannot be used: {error}; it was moved to {where}, {then}", RuntimeWarning, stacklevel=3
        )
        return None
    return tensors, about


def _shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    """Of what is trained; masks are kept in more than one form."""
    kept = {name: t for name, t in tensors.items() if not name.endswith((".mask", ".index"))}
    return {name: tensor.shape for name, tensor in kept.items() if isinstance(tensor, torch.Tensor)}


def under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors whose names begin so, by the rest of their names."""
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _state(
    model: nn.Module, optimizer: torch.optim.Optimizer, order: torch.Generator
) -> dict[str, torch.Tensor]:
    tensors = {MODEL + name: tensor for name, tensor in model.state_dict().items()}
    for number, parameter in enumerate(_parameters(optimizer)):
        momentum = optimizer.state[parameter].get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum.{number}"] = momentum
    tensors |= {"random.order": order.get_state(), "random.cpu": torch.get_rng_state()}
    device = next(model.parameters()).device
    if device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(device)
    return tensors


def _put_back(
    tensors: dict[str, torch.Tensor],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    order: torch.Generator,
) -> None:
    model.load_state_dict(under(MODEL, tensors))
    for number, parameter in enumerate(_parameters(optimizer)):
        momentum = tensors.get(f"momentum.{number}")
        if momentum is not None:
            optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(momentum)
    order.set_state(tensors["random.order"])
    torch.set_rng_state(tensors["random.cpu"])
    device = next(model.parameters()).device
    if device.type == "cuda":
        torch.cuda.set_rng_state(tensors["random.cuda"], device)
