"""Trained networks that a store keeps beside its records, for other measurements of the same training."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from wsnlib.training import Outcome, StateFile

_MODEL, _ALSO = "model.", "also."


def keep(
    file: StateFile,
    model: nn.Module,
    outcome: Outcome,
    *,
    also: Mapping[str, torch.Tensor],
    made_by: Mapping[str, str],
) -> None:
    """Keep a finished network, how its training went and what was observed; a full disk stops nothing."""
    about = {
        "made_by": dict(made_by),
        "history": outcome.history,
        "reported_epoch": outcome.reported_epoch,
        "train_accuracy": outcome.train_accuracy,
    }
    tensors = {_MODEL + name: tensor for name, tensor in model.state_dict().items()}
    tensors |= {_ALSO + name: tensor for name, tensor in also.items()}
    tensors["about"] = torch.tensor(list(json.dumps(about).encode()), dtype=torch.uint8)
    plain = {n: t.detach().cpu().clone(memory_format=torch.contiguous_format) for n, t in tensors.items()}
    try:
        file.write(save(plain))
    except RuntimeError as error:
        warnings.warn(f"a trained network was not kept: {error}", RuntimeWarning, stacklevel=2)


def kept(
    file: StateFile, model: nn.Module, *, made_by: Mapping[str, str]
) -> tuple[Outcome, dict[str, torch.Tensor]] | None:
    """Put the weights that `keep` kept into a model; None if there are none of the same training.

    A damaged file is set aside with a warning that names it.
    """
    try:
        state = file.read()
        tensors = None if state is None else load(state)
    except (ValueError, SafetensorError) as error:
        where = file.set_aside()
        warnings.warn(
            f"a kept network cannot be used: {error}; it was moved to {where}, and is trained anew",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    if tensors is None:
        return None
    about = json.loads(bytes(tensors.pop("about").tolist()))
    if about["made_by"] != dict(made_by):
        return None
    model.load_state_dict({n[len(_MODEL) :]: t for n, t in tensors.items() if n.startswith(_MODEL)})
    outcome = Outcome(
        status="finished",
        history=about["history"],
        reported_epoch=about["reported_epoch"],
        train_accuracy=about["train_accuracy"],
    )
    return outcome, {n[len(_ALSO) :]: t for n, t in tensors.items() if n.startswith(_ALSO)}
