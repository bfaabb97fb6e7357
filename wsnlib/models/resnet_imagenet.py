"""ResNet-50, 83, 101 and their like: bottleneck blocks, scaled in the third stage (N21, Section 7)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from wsnlib.choices import check_choice
from wsnlib.models.resnet18 import CHANNEL_FACTORS, Initialisation, initialise_fan_out

EXPANSION = 4
"""Output channels of a bottleneck block / channels of its 3x3 convolution."""


class BottleneckBlock(nn.Module):
    """relu(conv3(relu(conv2(relu(conv1(x))))) + shortcut(x)); kernels 1x1, 3x3, 1x1, each with batch norm.

    The 3x3 convolution carries the stride (as in torchvision; He et al. have it in the first 1x1).
    `shortcut` is a 1x1 convolution and batch norm where the shape changes, else the identity.

    Args:
        input_channels: Channels that the block reads.
        channels: Channels of the 3x3 convolution; the block has four times as many outputs.
        stride: Stride of the 3x3 convolution and of the shortcut.

    References:
        He, Zhang, Ren, Sun, *Deep residual learning for image recognition* (2015), Figure 5, right.

    Examples:
        >>> BottleneckBlock(3, 5, stride=2)(torch.ones(2, 3, 8, 8)).shape
        torch.Size([2, 20, 4, 4])
    """

    def __init__(self, input_channels: int, channels: int, *, stride: int) -> None:
        super().__init__()
        outputs = EXPANSION * channels
        self.conv1 = nn.Conv2d(input_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or input_channels != outputs:
            self.shortcut.append(nn.Conv2d(input_channels, outputs, 1, stride=stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return F.relu(out + self.shortcut(x))


class ResNetImageNet(nn.Module):
    """A 7x7 convolution, max-pooling, four stages of bottleneck blocks, a classifier.

    The stages have 3, 4, `third_stage_blocks` and 3 blocks, whose 3x3 convolutions have width ·
    (1, 2, 4, 8) channels, those of the third stage times the multiplier. The depth is 32 + 3 ·
    `third_stage_blocks`: 6 blocks are ResNet-50, 17 ResNet-83, 23 ResNet-101. At width 64 and
    multiplier 1, 6 and 23 blocks are torchvision's `resnet50` and `resnet101` bit for bit.

    Layers are named conv1, layer1.0.conv1, …, layer1.0.shortcut.0, …, linear; the names of
    torchvision's weights are translated by `from_torchvision`.

    Args:
        width: Output channels of the first convolution.
        third_stage_blocks: Depth of the third stage.
        third_stage_width_multiplier: Scales all channels of the third stage, inside its blocks and
            at their outputs; 4 · width · multiplier is rounded to a whole number (the 2.8 of N21
            gives 717 for 716.8; the paper does not say how it rounds).
        num_classes: Outputs.
        input_channels: Channels of the images.
        initialisation: `"fan_out"` is torchvision's: convolutions from N(0, 2/fan_out), the
            classifier as PyTorch has it; with one seed both draw the same numbers. `"default"` is
            PyTorch's, U(±1/√fan_in), throughout.

    Raises:
        ValueError: If a stage would have no block or no channel.

    References:
        N21, Appendix B (only the third stage is scaled) and Figure F.4 (6 to 17 blocks; 2.8 times
        the width). He, Zhang, Ren, Sun, *Deep residual learning for image recognition* (2015),
        Table 1.

    Examples:
        >>> with torch.device("meta"):
        ...     deep, wide = ResNetImageNet(third_stage_blocks=17), ResNetImageNet(
        ...         third_stage_width_multiplier=2.8
        ...     )
        >>> [sum(1 for p in net.parameters() if p.ndim > 1) - 4 for net in (deep, wide)]
        [83, 50]
        >>> wide.layer3[0].conv2.weight.shape
        torch.Size([717, 717, 3, 3])
    """

    def __init__(
        self,
        width: int = 64,
        *,
        third_stage_blocks: int = 6,
        third_stage_width_multiplier: float = 1.0,
        num_classes: int = 1000,
        input_channels: int = 3,
        initialisation: Initialisation = "fan_out",
    ) -> None:
        check_choice("initialisation", initialisation, Initialisation)
        super().__init__()
        channels = [factor * width for factor in CHANNEL_FACTORS]
        channels[2] = round(channels[2] * third_stage_width_multiplier)
        if third_stage_blocks < 1:
            raise ValueError(f"third_stage_blocks must be ≥ 1, got {third_stage_blocks}")
        if min(channels) < 1:
            raise ValueError(
                f"stages must have at least 1 channel each, got {channels} by width {width} and "
                f"third_stage_width_multiplier {third_stage_width_multiplier}; raise one of them"
            )
        self.conv1 = nn.Conv2d(input_channels, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        before = width
        for stage, blocks in enumerate((3, 4, third_stage_blocks, 3), start=1):
            inner = channels[stage - 1]
            layers = nn.Sequential()
            for block in range(blocks):
                layers.append(BottleneckBlock(before, inner, stride=2 if stage > 1 and block == 0 else 1))
                before = EXPANSION * inner
            self.add_module(f"layer{stage}", layers)
        self.linear = nn.Linear(before, num_classes)
        if initialisation == "fan_out":
            initialise_fan_out(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        for stage in range(1, len(CHANNEL_FACTORS) + 1):
            x = self.get_submodule(f"layer{stage}")(x)
        logits: torch.Tensor = self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits
