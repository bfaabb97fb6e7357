"""Fully connected networks: shapes, counts, parametrisations."""

import math

import pytest
import torch
from torch import nn

from wsnlib.models import MLP
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
