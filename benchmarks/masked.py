"""Sparsity as it is usually trained: a dense weight, multiplied by its mask in every forward pass."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import parametrize

import wsnlib as wsn


class Multiplied(nn.Module):
    """A dense weight times its mask."""

    def __init__(self, mask: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask.float())

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * self.mask


def masked_dense(model: nn.Module) -> nn.Module:
    """The model with each of its masks multiplied in the forward pass, in place."""
    found = wsn.layer_masks(model)
    wsn.densify(model)
    for name, mask in found.items():
        parametrize.register_parametrization(model.get_submodule(name), "weight", Multiplied(mask))
    return model
