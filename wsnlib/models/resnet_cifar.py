"""ResNets for CIFAR of any depth 6n + 2 and any width, with and without residual connections (N21)."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from wsnlib.choices import check_choice
from wsnlib.models.resnet18 import initialise_fan_out

STAGES = 3
BASE_CHANNELS = 16
"""Output channels of the first stage at width multiplier 1; each further stage doubles them."""

Details = Literal["released", "torchvision"]


class Add(nn.Module):
    """x + y, as a module, so that the sum is a layer like any other.

    Examples:
        >>> Add()(torch.ones(2), torch.ones(2))
        tensor([2., 2.])
    """

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y


class GlobalPool(nn.Module):
    """The mean over all positions, (n, channels, height, width) to (n, channels).

    Examples:
        >>> GlobalPool()(torch.ones(2, 3, 5, 7)).shape
        torch.Size([2, 3])
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


class SameConv2d(nn.Conv2d):
    """A convolution padded to ⌈size / stride⌉ outputs, an odd row of zeros after the image.

    That is TensorFlow's `padding="same"`. At stride 2 on images of even size it pads one side only,
    where `padding=1` pads both and so samples positions one pixel away.

    Examples:
        >>> SameConv2d(1, 1, 3, stride=2)(torch.zeros(1, 1, 8, 8)).shape
        torch.Size([1, 1, 4, 4])
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        missing = [
            max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
            for size, stride, kernel in zip(input.shape[2:], self.stride, self.kernel_size, strict=True)
        ]
        height, width = missing
        sides = (width // 2, width - width // 2, height // 2, height - height // 2)
        return super().forward(F.pad(input, sides))


class CifarBlock(nn.Module):
    """relu2(norm2(conv2(relu1(norm1(conv1(x))))) + shortcut(x)); every intermediate is a submodule's output.

    The shortcut is the identity, or `projection` where the shape changes. Without residual connection
    there is neither `projection` nor `add`.

    Examples:
        >>> block = CifarBlock(3, 5, stride=2, residual=True, details="released", norm_momentum=0.1)
        >>> [name for name, _ in block.named_children()]
        ['conv1', 'norm1', 'relu1', 'conv2', 'norm2', 'projection', 'add', 'relu2']
        >>> block(torch.ones(2, 3, 8, 8)).shape
        torch.Size([2, 5, 4, 4])
    """

    def __init__(
        self,
        input_channels: int,
        channels: int,
        *,
        stride: int,
        residual: bool,
        details: Details,
        norm_momentum: float,
    ) -> None:
        check_choice("details", details, Details)
        super().__init__()
        self.residual = residual
        self.conv1 = _convolution(input_channels, channels, stride=stride, details=details)
        self.norm1 = _norm(channels, details, norm_momentum)
        self.relu1 = nn.ReLU()
        self.conv2 = _convolution(channels, channels, stride=1, details=details)
        self.norm2 = _norm(channels, details, norm_momentum)
        changes = stride != 1 or input_channels != channels
        if residual and changes:
            released = details == "released"
            projection = nn.Conv2d(input_channels, channels, 1, stride=stride, bias=released)
            self.projection: nn.Module = projection
            if not released:
                self.projection = nn.Sequential(projection, _norm(channels, details, norm_momentum))
        if residual:
            self.add = Add()
        self.relu2 = nn.ReLU()
        self.projects = residual and changes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(x)))))
        if self.residual:
            y = self.add(self.projection(x) if self.projects else x, y)
        out: torch.Tensor = self.relu2(y)
        return out


class ResNetCifar(nn.Module):
    """A convolution, three stages of n residual blocks of two 3x3 convolutions, a classifier: depth 6n + 2.

    Layers are named input, conv, norm, relu, stage1.block1.conv1, …, stage2.block1.projection,
    stage2.block1.add, …, pool, dense, and `named_modules` yields them in order of computation. Each is
    called once in a forward pass; hooks therefore see every intermediate, once.

    Args:
        depth: 6n + 2 for n of at least 1, such as 14, 20, 26, 32, 38, 44, 56, 110, 164, 218, 224.
        width_multiplier: The stages have c, 2c and 4c channels, c = 16 · width_multiplier rounded to
            the nearest integer (halves to even ones), so that fractions may be given.
        num_classes: Outputs.
        input_channels: Channels of the images, which may be of any size from 4x4.
        residual: Whether each block adds its input to its output. Without, the projections go, too.
        details: `"released"` is what N21's code does, in TensorFlow: convolutions with bias, stride-2
            ones padded on one side (see `SameConv2d`); a 1x1 projection without batch norm where stages
            2 and 3 begin; batch-norm eps 1e-3; weights from N(0, 2/fan_in) cut off at two standard
            deviations and stretched to that variance, biases 0. `"torchvision"` is what torchvision's
            ResNets do: convolutions without bias, padding 1, batch norm after the projection, eps
            1e-5, weights of convolutions from N(0, 2/fan_out).
        norm_momentum: Weight of the new batch in the running statistics of batch norm; 0.01 is the
            default of TensorFlow (which calls it 0.99) and so N21's. Trainings of fewer than some 500
            steps need more.

    Raises:
        ValueError: If no network has that depth or width.

    References:
        N21, Section 3 and Appendix B; the released code's `resnet_cifar.py`. He, Zhang, Ren, Sun, *Deep
        residual learning for image recognition* (2015), Section 4.2.

    Examples:
        >>> net = ResNetCifar(20, width_multiplier=0.25)
        >>> net(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
        >>> net.stage3.block1.conv1.out_channels
        16
    """

    def __init__(
        self,
        depth: int,
        *,
        width_multiplier: float = 1.0,
        num_classes: int = 10,
        input_channels: int = 3,
        residual: bool = True,
        details: Details = "released",
        norm_momentum: float = 0.01,
    ) -> None:
        check_choice("details", details, Details)
        super().__init__()
        if depth < 8 or depth % 6 != 2:
            near = max(8, 6 * round((depth - 2) / 6) + 2)
            raise ValueError(f"depth must be 6n + 2, got {depth}; take {near}")
        channels = round(BASE_CHANNELS * width_multiplier)
        if channels < 1:
            raise ValueError(
                f"width_multiplier must be ≥ {1 / BASE_CHANNELS}, got {width_multiplier}; a stage needs a "
                "channel"
            )
        self.input = nn.Identity()
        self.conv = _convolution(input_channels, channels, stride=1, details=details)
        self.norm = _norm(channels, details, norm_momentum)
        self.relu = nn.ReLU()
        before = channels
        for stage in range(1, STAGES + 1):
            blocks: OrderedDict[str, nn.Module] = OrderedDict()
            for number in range(1, (depth - 2) // 6 + 1):
                blocks[f"block{number}"] = CifarBlock(
                    before,
                    channels,
                    stride=2 if stage > 1 and number == 1 else 1,
                    residual=residual,
                    details=details,
                    norm_momentum=norm_momentum,
                )
                before = channels
            self.add_module(f"stage{stage}", nn.Sequential(blocks))
            channels *= 2
        self.pool = GlobalPool()
        self.dense = nn.Linear(before, num_classes)
        if details == "released":
            initialise_truncated(self)
        else:
            initialise_fan_out(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.children():
            x = layer(x)
        return x


def _convolution(input_channels: int, channels: int, *, stride: int, details: Details) -> nn.Conv2d:
    if stride > 1 and details == "released":
        return SameConv2d(input_channels, channels, 3, stride=stride)
    return nn.Conv2d(input_channels, channels, 3, stride=stride, padding=1, bias=details == "released")


def _norm(channels: int, details: Details, momentum: float) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3 if details == "released" else 1e-5, momentum=momentum)


_TRUNCATED_STD = 0.87962566103423978
"""Standard deviation of N(0, 1) cut off at ±2."""


def initialise_truncated(model: nn.Module) -> None:
    """Draw weights of convolutions and linear layers anew with variance 2/fan_in, cut off at 2σ; biases 0.

    This is Keras's `he_normal`. Draws from PyTorch's global generator, as the constructors do.

    References:
        He, Zhang, Ren, Sun, *Delving deep into rectifiers* (2015), Section 2.2, forward case.

    Examples:
        >>> layer = nn.Linear(800, 1000)
        >>> initialise_truncated(layer)
        >>> abs(layer.weight.std().item() - 0.05) < 1e-3, layer.weight.abs().max().item() < 0.114
        (True, True)
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            fan_in = layer.weight[0].numel()
            std = math.sqrt(2 / fan_in) / _TRUNCATED_STD
            nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
