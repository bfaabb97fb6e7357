"""Fully connected networks (G21, Sections 2.3 and 3)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn


class NTKLinear(nn.Linear):
    """y = x Wᵀ / √in_features + b, with W drawn from N(0, 1) and b = 0 at first (NTK parametrisation).

    The factor stands in the forward pass, so that one learning rate fits every width.

    References:
        Jacot, Gabriel, Hongler, *Neural tangent kernel* (2018), Section 2; G21, Section 3.

    Examples:
        >>> NTKLinear(4, 3)(torch.ones(2, 4)).shape
        torch.Size([2, 3])
    """

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return F.linear(input * self.in_features**-0.5, self.weight, self.bias)


class MLP(nn.Module):
    """`hidden_layers` hidden layers of `width` units; layers are named hidden1, hidden2, …, output.

    Args:
        width: Units of each hidden layer.
        inputs: Numbers in one example; images are flattened.
        outputs: Classes.
        hidden_layers: At least 1.
        activation: `"relu"`, or `"linear"` for none (a deep linear network).
        bias: Whether each layer has a bias.
        parametrisation: `"standard"` is `torch.nn.Linear` with PyTorch's initialisation
            U(±1/√fan_in); `"ntk"` is [`NTKLinear`][wsnlib.models.mlp.NTKLinear].

    References:
        G21, Section 2.3 "MLP", Section 3, Appendix A (Figures 5 and 8).

    Examples:
        >>> sum(p.numel() for p in MLP(5, bias=False).parameters())
        3970
    """

    def __init__(
        self,
        width: int,
        *,
        inputs: int = 784,
        outputs: int = 10,
        hidden_layers: int = 1,
        activation: Literal["relu", "linear"] = "relu",
        bias: bool = True,
        parametrisation: Literal["standard", "ntk"] = "standard",
    ) -> None:
        super().__init__()
        linear = NTKLinear if parametrisation == "ntk" else nn.Linear
        layers: list[tuple[str, nn.Module]] = []
        for i in range(hidden_layers):
            layers.append((f"hidden{i + 1}", linear(inputs if i == 0 else width, width, bias=bias)))
            layers.append((f"activation{i + 1}", nn.ReLU() if activation == "relu" else nn.Identity()))
        layers.append(("output", linear(width, outputs, bias=bias)))
        for name, layer in layers:
            self.add_module(name, layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1)
        for layer in self.children():
            x = layer(x)
        return x
