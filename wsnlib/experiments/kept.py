"""Trained networks that a store keeps beside its records, for other measurements of the same training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from wsnlib.training import Outcome, StateFile
from wsnlib.training.checkpoints import ALSO, MODEL, read_tensors, under, write_tensors


def keep(
    file: StateFile,
    model: nn.Module,
    outcome: Outcome,
    *,
    also: Mapping[str, torch.Tensor],
    made_by: Mapping[str, str],
    how_trained: Mapping[str, Any],
) -> None:
    """Keep a finished network, how it was trained and what was observed; a full disk stops nothing."""
    about = {
        "made_by": dict(made_by),
        "how_trained": dict(how_trained),
        "history": outcome.history,
        "reported_epoch": outcome.reported_epoch,
        "train_accuracy": outcome.train_accuracy,
    }
    tensors = {MODEL + name: tensor for name, tensor in model.state_dict().items()}
    tensors |= {ALSO + name: tensor for name, tensor in also.items()}
    write_tensors(file, tensors, about, what="a trained network")


def kept(
    file: StateFile, model: nn.Module, *, made_by: Mapping[str, str]
) -> tuple[Outcome, dict[str, torch.Tensor], dict[str, Any]] | None:
    """Put the weights that `keep` kept into a model; None if there are none of the same training.

    Returns: How the training went, what was observed, and how the network was trained.

    A damaged file is set aside with a warning that names it.
    """
    found = read_tensors(file, made_by, model, what="a kept network", then="and is trained anew")
    if found is None or "how_trained" not in found[1]:  # kept by version 0.1.0
        return None
    tensors, about = found
    model.load_state_dict(under(MODEL, tensors))
    outcome = Outcome(
        status="finished",
        history=about["history"],
        reported_epoch=about["reported_epoch"],
        train_accuracy=about["train_accuracy"],
    )
    return outcome, under(ALSO, tensors), about["how_trained"]
