"""N21's CIFAR ResNets: depth, width, the layers in order of computation, the released code's details."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from wsnlib import masks
from wsnlib.models import ResNetCifar
from wsnlib.models.resnet_cifar import CifarBlock, SameConv2d


def calls(model: nn.Module, images: torch.Tensor) -> list[str]:
    """Leaf modules in the order in which they are called."""
    seen: list[str] = []
    for name, module in model.named_modules():
        if not list(module.children()):
            module.register_forward_hook(lambda *_, name=name: seen.append(name))
    model(images)
    return seen


@pytest.mark.parametrize("depth", [8, 14, 20, 38, 224])
def test_depth_counts_convolutions_and_the_classifier(depth):
    with torch.device("meta"):
        net = ResNetCifar(depth)
    layers = [name for name in masks.weight_layers(net) if "projection" not in name]
    assert len(layers) == depth
    assert sum(isinstance(module, CifarBlock) for module in net.modules()) == (depth - 2) // 2


@pytest.mark.parametrize(
    ("multiplier", "channels"),
    [(1, 16), (10, 160), (1.4, 22), (1.7, 27), (0.1, 2), (1.53125, 24), (0.0625, 1)],
)
def test_stages_double_the_rounded_channels_of_the_first(multiplier, channels):
    with torch.device("meta"):
        net = ResNetCifar(14, width_multiplier=multiplier)
    assert net.conv.out_channels == channels
    for stage in (1, 2, 3):
        block = net.get_submodule(f"stage{stage}.block2")
        assert block.conv1.in_channels == block.conv2.out_channels == channels * 2 ** (stage - 1)
    assert net.dense.in_features == 4 * channels


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("details", ["released", "torchvision"])
def test_every_intermediate_is_called_once_in_the_order_of_the_modules(residual, details):
    net = ResNetCifar(14, width_multiplier=0.25, residual=residual, details=details).eval()
    seen = calls(net, torch.randn(2, 3, 16, 16))
    leaves = [name for name, module in net.named_modules() if not list(module.children())]
    assert seen == leaves
    block = ["conv1", "norm1", "relu1", "conv2", "norm2"] + ["add"] * residual + ["relu2"]
    assert seen[:4] == ["input", "conv", "norm", "relu"]
    assert seen[4 : 4 + len(block)] == [f"stage1.block1.{name}" for name in block]
    assert seen[-2:] == ["pool", "dense"]
    if details == "released":  # input, convolution, batch norm, ReLU, add, pooling, dense
        assert len(seen) == 1 + 3 + 6 * len(block) + 2 * residual + 2


def test_resnet20_has_69_layers_between_input_and_classifier():
    net = ResNetCifar(20, width_multiplier=0.125).eval()
    assert len(calls(net, torch.zeros(1, 3, 8, 8))) == 69 + len(["input", "dense"])


def test_a_block_adds_what_its_name_says():
    torch.manual_seed(0)
    block = CifarBlock(3, 5, stride=2, residual=True, details="released", norm_momentum=0.1).eval()
    x = torch.randn(2, 3, 7, 8)
    inner = block.norm2(block.conv2(F.relu(block.norm1(block.conv1(x)))))
    assert torch.equal(block(x), F.relu(block.projection(x) + inner))
    plain = CifarBlock(3, 5, stride=2, residual=False, details="released", norm_momentum=0.1).eval()
    plain.load_state_dict({k: v for k, v in block.state_dict().items() if "projection" not in k})
    assert torch.equal(plain(x), F.relu(inner))
    same = CifarBlock(3, 3, stride=1, residual=True, details="released", norm_momentum=0.1).eval()
    nn.init.zeros_(same.norm2.weight)
    assert torch.equal(same(x), F.relu(x))


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (8, 5), (2, 3)])
def test_same_padding_is_one_sided_on_even_sizes(size):
    conv = SameConv2d(2, 3, 3, stride=2).double()
    x = torch.randn(1, 2, *size, dtype=torch.float64)
    bottom, right = (1 - s % 2 for s in size)
    # windows of an odd size start one before the image, of an even size on it
    padded = F.pad(x, (1 - right, 1, 1 - bottom, 1))
    expected = F.conv2d(padded, conv.weight, conv.bias, stride=2)
    assert conv(x).shape[2:] == tuple(math.ceil(s / 2) for s in size)
    assert torch.allclose(conv(x), expected)


def test_released_details():
    torch.manual_seed(0)
    net = ResNetCifar(14, width_multiplier=2)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            std = math.sqrt(2 / layer.weight[0].numel())
            assert not layer.bias.any()
            assert layer.weight.abs().max() <= 2 * std / 0.8796
            if layer.weight.numel() > 3000:
                assert layer.weight.std().item() == pytest.approx(std, rel=0.05)
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.eps == 1e-3 and layer.momentum == 0.01
    projections = [name for name, module in net.named_modules() if name.endswith("projection")]
    assert projections == ["stage2.block1.projection", "stage3.block1.projection"]
    assert all(isinstance(net.get_submodule(name), nn.Conv2d) for name in projections)
    strided = [name for name, module in net.named_modules() if isinstance(module, SameConv2d)]
    assert strided == ["stage2.block1.conv1", "stage3.block1.conv1"]


def test_torchvision_details():
    net = ResNetCifar(14, details="torchvision", norm_momentum=0.1)
    convolutions = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    assert all(conv.bias is None and type(conv) is nn.Conv2d for conv in convolutions)
    assert isinstance(net.stage2.block1.projection[1], nn.BatchNorm2d)
    assert {(m.eps, m.momentum) for m in net.modules() if isinstance(m, nn.BatchNorm2d)} == {(1e-5, 0.1)}
    weight = net.stage3.block1.conv1.weight  # fan-out 64 · 9, fan-in 32 · 9
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.05)


def test_published_number_of_weights():
    # He et al. (2015), Table 6: ResNet-20 has 0.27, ResNet-56 0.85 and ResNet-110 1.7 million parameters
    for depth, millions in [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)]:
        with torch.device("meta"):
            net = ResNetCifar(depth)
        assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(millions, rel=0.03)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"depth": 21}, r"depth must be 6n \+ 2, got 21; take 20"),
        ({"depth": 2}, r"depth must be 6n \+ 2, got 2; take 8"),
        ({"depth": 14, "width_multiplier": 0.03}, "width_multiplier must be ≥ 0.0625, got 0.03"),
    ],
)
def test_networks_that_do_not_exist_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ResNetCifar(**kwargs)


def test_it_learns():
    torch.manual_seed(0)
    net = ResNetCifar(8, width_multiplier=0.5, num_classes=2, input_channels=1, norm_momentum=0.1)
    images, labels = torch.randn(64, 1, 8, 8), torch.arange(64) % 2
    images[labels == 1] += 0.5
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(15):
        loss = F.cross_entropy(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
