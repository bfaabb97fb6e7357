"""ResNet-18 of any width, with a stem for small and one for large images (G21, Sections 2.1 and 2.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from wsnlib.choices import check_choice

Stem = Literal["cifar", "imagenet"]
Initialisation = Literal["default", "fan_out"]

CHANNEL_FACTORS = (1, 2, 4, 8)
"""Channels of each stage / width of the network."""


class ResidualBlock(nn.Module):
    """relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x)) with two 3x3 convolutions without bias.

    `shortcut` is a 1x1 convolution and batch norm where the shape changes, else the identity.

    Examples:
        >>> ResidualBlock(3, 5, stride=2)(torch.ones(2, 3, 8, 8)).shape
        torch.Size([2, 5, 4, 4])
    """

    def __init__(self, input_channels: int, channels: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(input_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or input_channels != channels:
            self.shortcut.append(nn.Conv2d(input_channels, channels, 1, stride=stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class ResNet18(nn.Module):
    """A convolution, four stages of two residual blocks with width · (1, 2, 4, 8) channels, a classifier.

    Layers are named conv1, layer1.0.conv1, …, layer2.0.shortcut.0, …, linear. Convolutions have no
    bias, the classifier has one; before it stands the mean over all positions.

    Args:
        width: Output channels of the first convolution.
        num_classes: Outputs.
        stem: `"cifar"` is a 3x3 convolution with stride 1 and no pooling, G21's network for
            CIFAR-10, CIFAR-100 and SVHN. `"imagenet"` is a 7x7 convolution with stride 2 and 3x3
            max-pooling with stride 2; at width 64 that is torchvision's `resnet18` bit for bit.
        input_channels: Channels of the images.
        initialisation: `"default"` is PyTorch's, U(±1/√fan_in), as in G21's released code (CIFAR
            and SVHN). `"fan_out"` is torchvision's: convolutions from N(0, 2/fan_out), the
            classifier as PyTorch has it; with one seed both draw the same numbers.

    References:
        G21, Section 2.3 "ResNet-18" and Appendices A and D. He, Zhang, Ren, Sun, *Deep residual
        learning for image recognition* (2015), Table 1.

    Examples:
        >>> net = ResNet18(8, num_classes=10)
        >>> net(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
        >>> sum(p.numel() for p in net.parameters() if p.ndim > 1)
        175192
    """

    def __init__(
        self,
        width: int,
        *,
        num_classes: int = 10,
        stem: Stem = "cifar",
        input_channels: int = 3,
        initialisation: Initialisation = "default",
    ) -> None:
        check_choice("stem", stem, Stem)
        check_choice("initialisation", initialisation, Initialisation)
        super().__init__()
        self.stem = stem
        if stem == "imagenet":
            self.conv1 = nn.Conv2d(input_channels, width, 7, stride=2, padding=3, bias=False)
        else:
            self.conv1 = nn.Conv2d(input_channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        before = width
        for stage, factor in enumerate(CHANNEL_FACTORS, start=1):
            channels = factor * width
            first = ResidualBlock(before, channels, stride=1 if stage == 1 else 2)
            second = ResidualBlock(channels, channels, stride=1)
            self.add_module(f"layer{stage}", nn.Sequential(first, second))
            before = channels
        self.linear = nn.Linear(before, num_classes)
        if initialisation == "fan_out":
            initialise_fan_out(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        if self.stem == "imagenet":
            x = F.max_pool2d(x, 3, stride=2, padding=1)
        for stage in range(1, len(CHANNEL_FACTORS) + 1):
            x = self.get_submodule(f"layer{stage}")(x)
        logits: torch.Tensor = self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


def initialise_fan_out(model: nn.Module) -> None:
    """Draw every convolution anew from N(0, 2/fan_out), in order of definition (torchvision's way).

    Draws from PyTorch's global generator, as the constructors do.

    References:
        He, Zhang, Ren, Sun, *Delving deep into rectifiers* (2015), Section 2.2, backward case.

    Examples:
        >>> layer = nn.Conv2d(7, 1000, 3)
        >>> initialise_fan_out(layer)
        >>> abs(layer.weight.std().item() - (2 / 9000) ** 0.5) < 1e-3
        True
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


def from_torchvision(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state dict of one of torchvision's ResNets under our names: downsample is shortcut, fc is linear.

    Examples:
        >>> list(from_torchvision({"layer2.0.downsample.0.weight": torch.ones(1), "fc.bias": torch.ones(1)}))
        ['layer2.0.shortcut.0.weight', 'linear.bias']
    """
    return {
        name.replace(".downsample.", ".shortcut.").replace("fc.", "linear."): value
        for name, value in state.items()
    }
