"""Fully connected networks and ResNet-18: shapes, counts, parametrisations, torchvision's network."""

import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from wsnlib.models import MLP, ResNet18, from_torchvision
from wsnlib.models.mlp import NTKLinear


@pytest.mark.parametrize("hidden_layers", [1, 2, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_shapes_names_and_counts(hidden_layers, bias):
    net = MLP(7, inputs=12, outputs=5, hidden_layers=hidden_layers, bias=bias)
    linear = {name: m for name, m in net.named_modules() if isinstance(m, nn.Linear)}
    assert list(linear) == [f"hidden{i + 1}" for i in range(hidden_layers)] + ["output"]
    weights = 12 * 7 + (hidden_layers - 1) * 49 + 35
    assert sum(m.weight.numel() for m in linear.values()) == weights
    assert sum(p.numel() for p in net.parameters()) == weights + bias * (7 * hidden_layers + 5)
    assert net(torch.randn(3, 1, 3, 4)).shape == (3, 5)


def test_linear_activation_is_the_product_of_the_matrices():
    net = MLP(7, inputs=12, outputs=5, hidden_layers=2, activation="linear", bias=False).double()
    x = torch.randn(3, 12, dtype=torch.float64)
    product = x @ net.hidden1.weight.T @ net.hidden2.weight.T @ net.output.weight.T
    torch.testing.assert_close(net(x), product)
    relu = MLP(7, inputs=12, outputs=5, hidden_layers=2, bias=False).double()
    relu.load_state_dict(net.state_dict())
    assert not torch.allclose(relu(x), product)


def test_relu_follows_every_hidden_layer_and_no_other():
    net = MLP(7, inputs=11, outputs=5, hidden_layers=3).double()
    x = torch.randn(13, 11, dtype=torch.float64)
    expected = net.output(net.hidden3(net.hidden2(net.hidden1(x).relu()).relu()).relu())
    torch.testing.assert_close(net(x), expected)


def test_every_layer_has_the_parametrisation_asked_for():
    for parametrisation, kind in (("standard", nn.Linear), ("ntk", NTKLinear)):
        net = MLP(7, inputs=11, outputs=5, hidden_layers=2, parametrisation=parametrisation)
        assert [type(m) for m in (net.hidden1, net.hidden2, net.output)] == [kind] * 3


def test_standard_parametrisation_is_pytorchs():
    torch.manual_seed(0)
    net = MLP(7, inputs=12, outputs=5)
    torch.manual_seed(0)
    assert torch.equal(net.hidden1.weight, nn.Linear(12, 7).weight)


def test_ntk_layers_keep_the_second_moment_at_every_width():
    torch.manual_seed(0)
    for inputs in (16, 256):
        layer, x = NTKLinear(inputs, 20_000, bias=False), torch.randn(inputs)
        moment = layer(x).square().mean()
        expected = x.square().mean()
        assert abs(moment - expected) < 4 * expected * math.sqrt(2 / 20_000)


def test_ntk_equals_a_scaled_standard_layer():
    layer = NTKLinear(9, 4).double()
    x = torch.randn(5, 9, dtype=torch.float64)
    assert (layer.bias == 0).all()
    nn.init.normal_(layer.bias)
    torch.testing.assert_close(layer(x), x @ layer.weight.T / 3 + layer.bias)


# -- ResNet-18 --


def resnet_on_meta(width: int, **options) -> ResNet18:
    with torch.device("meta"):
        return ResNet18(width, **options)


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize("width", [1, 7, 8])
def test_resnet18_layers_have_their_names_shapes_and_strides(width, stem):
    net = resnet_on_meta(width, num_classes=11, stem=stem)
    kernel, stride = (3, 1) if stem == "cifar" else (7, 2)
    expected = {"conv1": ((width, 3, kernel, kernel), stride)}
    before = width
    for stage, factor in enumerate((1, 2, 4, 8), start=1):
        c, stride = factor * width, 1 if stage == 1 else 2
        expected[f"layer{stage}.0.conv1"] = ((c, before, 3, 3), stride)
        expected[f"layer{stage}.0.conv2"] = ((c, c, 3, 3), 1)
        if stage > 1:
            expected[f"layer{stage}.0.shortcut.0"] = ((c, before, 1, 1), 2)
        expected[f"layer{stage}.1.conv1"] = ((c, c, 3, 3), 1)
        expected[f"layer{stage}.1.conv2"] = ((c, c, 3, 3), 1)
        before = c
    convolutions = {name: m for name, m in net.named_modules() if isinstance(m, nn.Conv2d)}
    assert {n: (tuple(m.weight.shape), m.stride[0]) for n, m in convolutions.items()} == expected
    assert list(convolutions) == list(expected)
    assert all(m.bias is None for m in convolutions.values())
    assert net.linear.weight.shape == (11, 8 * width) and net.linear.bias.shape == (11,)


def test_resnet18_is_what_its_formula_says():
    torch.manual_seed(0)
    net = ResNet18(3, num_classes=5).double().eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                for values in (module.weight, module.running_var):
                    values.uniform_(0.5, 1.5)
                for values in (module.bias, module.running_mean):
                    values.normal_()
    p, x = net.state_dict(), torch.randn(2, 3, 32, 32, dtype=torch.float64)

    def norm(h, name):
        mean, var, weight, bias = (
            p[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(h, mean, var, weight, bias)

    h = norm(F.conv2d(x, p["conv1.weight"], padding=1), "bn1").relu()
    for block in (f"layer{stage}.{i}" for stage in (1, 2, 3, 4) for i in (0, 1)):
        stride = 2 if block in ("layer2.0", "layer3.0", "layer4.0") else 1
        inner = norm(F.conv2d(h, p[f"{block}.conv1.weight"], stride=stride, padding=1), f"{block}.bn1").relu()
        if stride == 2:
            h = norm(F.conv2d(h, p[f"{block}.shortcut.0.weight"], stride=2), f"{block}.shortcut.1")
        h = (norm(F.conv2d(inner, p[f"{block}.conv2.weight"], padding=1), f"{block}.bn2") + h).relu()
    assert h.shape == (2, 24, 4, 4)
    expected = F.linear(F.avg_pool2d(h, 4).flatten(1), p["linear.weight"], p["linear.bias"])
    torch.testing.assert_close(net(x), expected)


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 32), (4, 11)])
def test_resnet18_takes_images_of_any_size(channels, size):
    net = ResNet18(2, num_classes=7, input_channels=channels)
    assert net(torch.randn(3, channels, size, size)).shape == (3, 7)


def torchvision_net() -> nn.Module:
    torch.manual_seed(3)
    return torchvision.models.resnet18(weights=None)


def test_resnet18_is_torchvisions_bit_for_bit():
    theirs = torchvision_net()
    net = ResNet18(64, num_classes=1000, stem="imagenet")
    net.load_state_dict(from_torchvision(theirs.state_dict()))
    x = torch.randn(2, 3, 65, 65, generator=torch.Generator().manual_seed(1))
    for training in (True, False):  # training first: evaluation then uses statistics that it changed
        assert torch.equal(theirs.train(training)(x), net.train(training)(x))
    assert not torch.equal(net(x)[0], net(x)[1])


def test_fan_out_draws_what_torchvision_draws_and_the_default_what_pytorch_draws():
    theirs = from_torchvision(torchvision_net().state_dict())
    torch.manual_seed(3)
    ours = ResNet18(64, num_classes=1000, stem="imagenet", initialisation="fan_out").state_dict()
    assert set(ours) == set(theirs)
    assert all(torch.equal(values, theirs[name]) for name, values in ours.items())
    torch.manual_seed(3)
    default = ResNet18(4)
    torch.manual_seed(3)
    assert torch.equal(default.conv1.weight, nn.Conv2d(3, 4, 3, bias=False).weight)
    assert default.layer4[1].conv2.weight.abs().max().item() == pytest.approx((9 * 32) ** -0.5, rel=1e-2)
