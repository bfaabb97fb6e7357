"""SμPar: what a step changes is the same at every width and density, and at the base it is the standard training."""

import pytest
import torch
import torch.nn.functional as F

import wsnlib as wsn
from wsnlib import training
from wsnlib.data import load_data
from wsnlib.training import train_jointly

BASE = {"width": 7, "inputs": 211, "outputs": 11}


def wide(width: int, seed: int, parametrisation: str = "sparse_mu", base=BASE):
    dense = wsn.MLPSpec(**base, parametrisation=parametrisation)
    return wsn.build(wsn.StaticSparsity(dense, width=width), seed=seed)


def effective(layer) -> torch.Tensor:
    return layer.scale * layer.weight


def test_at_the_base_it_is_the_standard_network_bit_for_bit():
    x = torch.randn(5, BASE["inputs"])
    assert torch.equal(wide(7, 3)(x), wide(7, 3, "standard")(x))


@pytest.mark.parametrize("width", [13, 61, 307])
def test_layers_move_at_their_own_rates(width):
    net, rate = wide(width, 0), 0.01
    before = {name: effective(getattr(net, name)).clone() for name in ("hidden1", "output")}
    x, y = torch.randn(17, BASE["inputs"]), torch.arange(17) % 11
    plain = {name: before[name].detach().requires_grad_() for name in before}
    hidden = F.linear(x, plain["hidden1"], net.hidden1.bias).relu()
    F.cross_entropy(F.linear(hidden, plain["output"], net.output.bias), y).backward()
    optimiser = torch.optim.SGD(net.parameters(), lr=rate)
    F.cross_entropy(net(x), y).backward()
    optimiser.step()
    kept = wsn.weights_per_layer(wsn.StaticSparsity(wsn.MLPSpec(**BASE), width=width))
    growth = {"hidden1": kept["hidden1"] / width / 211, "output": kept["output"] / 11 / 7}
    factor = {"hidden1": growth["output"] / growth["hidden1"], "output": 1 / growth["output"]}
    for name in before:
        present = before[name] != 0
        moved = effective(getattr(net, name)) - before[name]
        expected = -rate * factor[name] * plain[name].grad
        torch.testing.assert_close(moved[present], expected[present], rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("layer", ["hidden1", "output"])
def test_a_step_of_a_layer_lowers_the_loss_as_much_at_every_width(layer):
    """One small step of one layer, mean over networks, against the base."""
    x, y = torch.randn(64, BASE["inputs"], generator=torch.Generator().manual_seed(1)), torch.arange(64) % 11

    def changes(width: int, parametrisation: str) -> torch.Tensor:
        found = []
        for seed in range(60):
            net = wide(width, seed, parametrisation)
            moving = [p for n, p in net.named_parameters() if n.startswith(layer) and not n.endswith("bias")]
            before = F.cross_entropy(net(x), y)
            before.backward()
            torch.optim.SGD(moving, lr=1e-3).step()
            found.append((before - F.cross_entropy(net(x), y)).item())
        return torch.tensor(found)

    base = changes(7, "sparse_mu")
    for width in (31, 127):  # the output stays dense in the first, and is thinned in the second
        found = changes(width, "sparse_mu")
        ratio = found.mean() / base.mean()
        error = ratio * ((found.std() / found.mean()) ** 2 / 60 + (base.std() / base.mean()) ** 2 / 60) ** 0.5
        assert abs(ratio - 1) < 0.15 + 4 * error
    assert abs(changes(127, "standard").mean() / base.mean() - 1) > 0.5


def test_compiled_training_knows_the_scales():
    digits, protocol = load_data(wsn.Digits()), wsn.Training(epochs=3, learning_rate=0.1)
    sizes = {"width": 5, "inputs": 64, "outputs": 10}
    one, other = (wide(40, 2, base=sizes) for _ in range(2))
    alone = training.train(one, digits, protocol, seed=2)
    (jointly,) = train_jointly([other], digits, [protocol], seeds=[2])
    assert jointly.history["train_loss"] == pytest.approx(alone.history["train_loss"], rel=1e-4)
    torch.testing.assert_close(one(torch.ones(3, 64)), other(torch.ones(3, 64)), rtol=1e-3, atol=1e-4)
