"""Fully connected networks (G21, Sections 2.3 and 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from wsnlib.choices import check_choice

Activation = Literal["relu", "linear"]
Parametrisation = Literal["standard", "ntk", "sparse_mu"]


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


class ScaledLinear(nn.Linear):
    """y = scale · x Wᵀ + b, with a fixed `scale`, 1 at first.

    Gradient descent on W at a rate η moves the product scale · W as it would at the rate scale² · η.
    """

    scale: float = 1.0

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return F.linear(input * self.scale, self.weight, self.bias)


class MLP(nn.Module):
    """`hidden_layers` hidden layers of `width` units; layers are named hidden1, hidden2, …, output.

    Args:
        width: Units of each hidden layer.
        inputs: Numbers in one example; images are flattened.
        outputs: Classes.
        hidden_layers: Number of hidden layers, ≥ 1.
        activation: `"relu"`, or `"linear"` for none (a deep linear network).
        bias: Whether each layer has a bias.
        parametrisation: `"standard"` is `torch.nn.Linear` with PyTorch's initialisation
            U(±1/√fan_in); `"ntk"` is [`NTKLinear`][wsnlib.models.mlp.NTKLinear]; `"sparse_mu"` is the
            standard one with layers that [`scale_updates`][wsnlib.models.mlp.scale_updates] can scale.

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
        activation: Activation = "relu",
        bias: bool = True,
        parametrisation: Parametrisation = "standard",
    ) -> None:
        check_choice("activation", activation, Activation)
        check_choice("parametrisation", parametrisation, Parametrisation)
        super().__init__()
        linear = {"standard": nn.Linear, "ntk": NTKLinear, "sparse_mu": ScaledLinear}[parametrisation]
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


@torch.no_grad()
def scale_updates(model: nn.Module, *, fan_in: Sequence[float], base_fan_in: Sequence[float]) -> None:
    """Let one learning rate fit all widths and densities (SμPar): a step changes as much as one at the base.

    With nₗ inputs of each unit of layer l that are present, n⁰ₗ at the base, and as many outputs, the
    weights of layer l move at (nₗ₊₁ / n⁰ₗ₊₁) · (n⁰ₗ / nₗ) times the rate, and those of the last layer start
    √(n⁰ / n) times as large. This is maximal-update parametrisation for gradient descent without momentum or
    with it, with inputs that are present in place of all; at the base it is the standard parametrisation.
    Biases move at the rate itself. The factors are not in the state dict: a network that is to load one is
    scaled first.

    Args:
        model: An `MLP` of the parametrisation `"sparse_mu"`, with weights drawn for these numbers of inputs;
            changed in place.
        fan_in: Inputs of a unit that are present, mean over the units, layer by layer.
        base_fan_in: The same of the base.

    References:
        Dey, Bergsma, Hestness, *Sparse maximal update parameterization* (2024), for Adam; Yang et al.,
        *Tensor programs V* (2022), Table 3, for gradient descent and dense layers.

    Examples:
        >>> net = MLP(20, parametrisation="sparse_mu")
        >>> scale_updates(net, fan_in=[196, 20], base_fan_in=[784, 5])
        >>> net.hidden1.scale, net.output.scale
        (4.0, 0.5)
    """
    layers = [layer for layer in model.children() if isinstance(layer, ScaledLinear)]
    growth = [n / base for n, base in zip(fan_in, base_fan_in, strict=True)]
    for i, layer in enumerate(layers):
        last = i == len(layers) - 1
        layer.scale = ((1 if last else growth[i + 1]) / growth[i]) ** 0.5
        first = growth[i] ** -0.5 if last else 1.0
        for name, values in layer.named_parameters():
            if name != "bias":
                values.mul_(first / layer.scale)
