"""Native sparse layers: the same numbers as the masked dense ones, from the weights present alone."""

import copy
import io
import itertools
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import wsnlib as wsn
from wsnlib import masks, sparse, timings, training
from wsnlib.models.mlp import NTKLinear
from wsnlib.sparse import SparseConv2d, costs, geometry, layers, tiles

BASE = wsn.MLPSpec(width=5, inputs=64)
WIDE = wsn.StaticSparsity(BASE, width=37)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def masked_linear(kind=nn.Linear, *, num_weights=29, bias=True, dtype=torch.float64) -> nn.Module:
    torch.manual_seed(3)
    layer = kind(13, 11, bias=bias, dtype=dtype)
    if bias:
        nn.init.normal_(layer.bias)
    return wsn.sparsify(layer, num_weights=num_weights, generator=generator())


def outputs_and_gradients(layer: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    y = layer(x)
    weights = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view(y.shape)
    return [y, *torch.autograd.grad((y * weights).sum(), [x, *layer.parameters()])]


def assert_equals_masked(masked: nn.Module, x: torch.Tensor, **tolerance) -> None:
    native = wsn.to_sparse(copy.deepcopy(masked))
    assert isinstance(native, sparse.layers.SparseLayer)
    for found, expected in zip(
        outputs_and_gradients(native, x), outputs_and_gradients(masked, x), strict=True
    ):
        torch.testing.assert_close(found, expected, **tolerance)


def assert_gradients(layer: nn.Module, x: torch.Tensor) -> None:
    names, parameters = zip(*layer.named_parameters(), strict=True)

    def function(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(function, (x.requires_grad_(), *parameters))


def inputs(*shape: int, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(1), dtype=dtype)


# -- the same numbers --


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("num_weights", [1, 29, 142])
@pytest.mark.parametrize("kind", [nn.Linear, NTKLinear])
def test_linear_equals_masked_dense_in_output_and_gradients(kind, num_weights, bias):
    assert_equals_masked(masked_linear(kind, num_weights=num_weights, bias=bias), inputs(7, 13))


@pytest.mark.parametrize("shape", [(13,), (1, 13), (0, 13), (5, 3, 13)])
def test_linear_takes_every_shape_that_a_dense_one_takes(shape):
    assert_equals_masked(masked_linear(), inputs(*shape))


@pytest.mark.parametrize("batch", [0, 1, 7])
def test_linear_in_single_precision(batch):
    x = inputs(batch, 13, dtype=torch.float32)
    assert_equals_masked(masked_linear(dtype=torch.float32), x)


@pytest.mark.parametrize("bias", [True, False])
def test_linear_gradients_are_those_of_finite_differences(bias):
    assert_gradients(wsn.to_sparse(masked_linear(bias=bias)), inputs(7, 13))


CONVOLUTIONS = [
    {},
    {"padding": 1},
    {"padding": (1, 2)},
    {"stride": 2, "padding": 1},
    {"stride": (3, 2), "padding": 2},
    {"kernel_size": 1},
    {"kernel_size": 1, "stride": 2},
    {"kernel_size": (2, 5), "padding": (0, 3), "stride": (1, 3)},
    {"dilation": 2, "padding": 2},
    {"dilation": (1, 3), "stride": 2, "padding": 3},
    {"padding": 1, "bias": False},
]


def masked_convolution(num_weights=23, dtype=torch.float64, **options) -> nn.Module:
    torch.manual_seed(3)
    layer = nn.Conv2d(5, 7, **({"kernel_size": 3} | options), dtype=dtype)
    num_weights = min(num_weights, layer.weight.numel() - 1)
    return wsn.sparsify(layer, num_weights=num_weights, generator=generator())


@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("num_weights", [1, 23])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_convolution_equals_masked_dense_in_output_and_gradients(options, num_weights, dtype):
    masked = masked_convolution(num_weights, dtype, **options)
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {}
    assert_equals_masked(masked, inputs(3, 5, 11, 8, dtype=dtype), **tolerance)


def test_outputs_can_be_changed_in_place():
    for masked, x in ((masked_linear(), inputs(3, 13)), (masked_convolution(), inputs(2, 5, 7, 7))):
        net = nn.Sequential(masked, nn.ReLU(inplace=True))
        expected = outputs_and_gradients(net, x)
        torch.testing.assert_close(outputs_and_gradients(wsn.to_sparse(net), x), expected)


@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
def test_convolution_gradients_are_those_of_finite_differences(options):
    assert_gradients(wsn.to_sparse(masked_convolution(**options)), inputs(2, 5, 7, 6))


@pytest.mark.parametrize("size", [(7, 7), (8, 5), (3, 3)])
def test_one_layer_takes_inputs_of_many_sizes_in_either_memory_format(size):
    masked = masked_convolution(dtype=torch.float32, stride=2, padding=1)
    native = wsn.to_sparse(copy.deepcopy(masked))
    native(inputs(2, 5, 9, 9, dtype=torch.float32))
    x = inputs(2, 5, *size, dtype=torch.float32)
    for given in (x, x.to(memory_format=torch.channels_last), x[0]):
        torch.testing.assert_close(native(given), masked(given))


def test_what_a_convolution_refuses():
    native = wsn.to_sparse(masked_convolution())
    with pytest.raises(ValueError, match=r"must be of shape \(batch, 5, height, width\), got \(2, 4, 9, 9\)"):
        native(inputs(2, 4, 9, 9))
    with pytest.raises(ValueError, match="the input is 2 x 9 with its zeros around; a kernel of 3 x 3"):
        native(inputs(2, 5, 2, 9))
    x = inputs(2, 5, 4, 4).requires_grad_()
    with pytest.raises(RuntimeError, match="create_graph must be False for a sparse layer"):
        torch.autograd.grad(native(x).square().sum(), x, create_graph=True)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"groups": 5, "out_channels": 10}, "5 groups"),
        ({"padding": "same"}, "padding 'same' in the mode 'zeros'"),
        ({"padding": 1, "padding_mode": "reflect"}, r"padding \(1, 1\) in the mode 'reflect'"),
    ],
    ids=str,
)
def test_convolutions_without_native_form_stay_dense(options, reason):
    layer = nn.Conv2d(**({"in_channels": 5, "out_channels": 7, "kernel_size": 3} | options))
    net = wsn.sparsify(layer, num_weights=9, generator=generator())
    with pytest.warns(UserWarning, match=reason):
        assert not isinstance(wsn.to_sparse(net), sparse.layers.SparseLayer)


def test_a_residual_network_is_trained_as_its_masked_form_is():
    """In float64: each step multiplies what rounding leaves by ten or more."""
    spec = wsn.StaticSparsity(wsn.ResNet18Spec(width=2), width=6)
    x, labels = inputs(5, 3, 32, 32), torch.tensor([1, 0, 9, 4, 4])
    losses = []
    for net in (wsn.build(spec).double(), wsn.to_sparse(wsn.build(spec).double())):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
        found = []
        for _ in range(4):
            loss = F.cross_entropy(net(x), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.detach())
        losses.append(torch.stack(found))
    assert sum(isinstance(m, wsn.sparse.SparseConv2d) for m in net.modules()) > 5
    torch.testing.assert_close(*losses, rtol=1e-9, atol=0)
    assert losses[0][-1] < losses[0][0]
    assert wsn.to_dense(net) is net and not any(isinstance(m, wsn.sparse.SparseConv2d) for m in net.modules())


def test_training_follows_the_masked_dense_path():
    digits = wsn.load_data(wsn.Digits())
    protocol = wsn.Training(epochs=5, momentum=0.9, weight_decay=5e-4)
    dense, native = wsn.build(WIDE), wsn.to_sparse(wsn.build(WIDE))
    a, b = (training.train(net, digits, protocol, seed=0) for net in (dense, native))
    torch.testing.assert_close(torch.tensor(a.history["train_loss"]), torch.tensor(b.history["train_loss"]), rtol=1e-4, atol=1e-5)  # fmt: skip
    assert a.history["train_loss"][-1] < a.history["train_loss"][0] / 2
    for p, q in zip(dense.parameters(), native.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-4)


def test_nothing_of_the_size_of_the_dense_weight_is_made():
    net = wsn.to_sparse(wsn.sparsify(nn.Linear(97, 89), num_weights=101, generator=generator()))
    largest = 0

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            made = function(*args, **(kwargs or {}))
            for value in made if isinstance(made, tuple | list) else [made]:
                largest = max(largest, value.numel() if isinstance(value, torch.Tensor) else 0)
            return made

    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    x = torch.randn(3, 97, requires_grad=True)
    with Sizes():
        net(x).square().sum().backward()
        optimizer.step()
    from wsnlib.sparse.tiles import LANES

    assert largest == LANES * 101  # the gradient of a weight is summed lane by lane
    state = [b for s in optimizer.state.values() for b in s.values() if isinstance(b, torch.Tensor)]
    assert sum(b.numel() for b in state) == 101 + 89


# -- there and back --


def test_to_sparse_keeps_parameters_names_masks_and_counts_and_to_dense_brings_it_back():
    net = wsn.build(WIDE)
    names, parameters, found = list(net.state_dict()), list(net.parameters()), wsn.layer_masks(net)
    weights = {name: layer.weight.detach().clone() for name, layer in masks.weight_layers(net).items()}
    x = torch.randn(4, 64)
    expected = net(x)
    for change in (wsn.to_sparse, wsn.to_sparse, wsn.to_dense, wsn.to_dense, wsn.to_sparse):
        assert change(net) is net
        native = [isinstance(layer, wsn.sparse.SparseLinear) for layer in masks.weight_layers(net).values()]
        assert native == [change is wsn.to_sparse] * 2
        assert list(net.state_dict()) == names
        assert all(a is b for a, b in zip(net.parameters(), parameters, strict=True))
        assert wsn.num_weights(net) == 370
        for name, layer in masks.weight_layers(net).items():
            assert torch.equal(layer.weight, weights[name])
            assert torch.equal(wsn.layer_masks(net)[name], found[name])
        torch.testing.assert_close(net(x), expected)


def test_ntk_layers_come_back_as_they_were():
    net = wsn.to_dense(wsn.to_sparse(masked_linear(NTKLinear)))
    assert isinstance(net, NTKLinear) and not hasattr(net, "input_scale")
    assert torch.equal(net(inputs(3, 13)), masked_linear(NTKLinear)(inputs(3, 13)))


@pytest.mark.parametrize("scale", [1.0, 2.0, 0.25])
def test_the_scale_of_the_input_is_a_factor_whatever_it_is(scale):
    layer = wsn.to_sparse(masked_linear(NTKLinear))
    plain = wsn.to_sparse(masked_linear(nn.Linear))
    plain.load_state_dict(layer.state_dict())
    layer.input_scale = scale
    torch.testing.assert_close(layer(inputs(3, 13)), plain(scale * inputs(3, 13)))


@pytest.mark.parametrize("inputs", [1, 13])
def test_what_a_native_layer_holds_is_there_when_it_is_masked_again(inputs):
    layer = wsn.sparsify(NTKLinear(inputs, 11), num_weights=7, generator=generator())
    native = wsn.to_sparse(copy.deepcopy(layer))
    native.parametrizations.weight.append(nn.Hardtanh(0, 0.1))
    held = native.parametrizations
    assert type(wsn.to_dense(native)).__bases__ == (NTKLinear,) and native.parametrizations is held
    assert torch.equal(native.weight, F.hardtanh(layer.weight, 0, 0.1))
    assert wsn.to_dense(wsn.to_sparse(layer.to("meta"))).weight.is_meta


def test_copies_and_pickles_are_whole_and_apart():
    net = wsn.to_sparse(wsn.build(WIDE))
    x = torch.randn(4, 64)
    expected = net(x)
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    for other in (copy.deepcopy(net), torch.load(file, weights_only=False)):
        assert torch.equal(other(x), expected)
        other.hidden1.parametrizations.weight.original.data.zero_()
        assert torch.equal(net(x), expected) and not torch.equal(other(x), expected)


def test_a_state_dict_brings_its_mask_with_it_to_either_kind_of_layer():
    first, second = wsn.build(WIDE, seed=1), wsn.build(WIDE, seed=2)
    x = torch.randn(4, 64)
    native, masked = wsn.to_sparse(wsn.build(WIDE, seed=3)), wsn.build(WIDE, seed=3)
    for source in (first, second, wsn.to_sparse(copy.deepcopy(first))):
        for target in (native, masked):
            target(x)
            target.load_state_dict(source.state_dict())
            torch.testing.assert_close(target(x), source(x))


def test_layers_can_be_named_and_dense_ones_are_left_alone():
    net = wsn.to_sparse(wsn.build(WIDE), layers=["output"])
    assert isinstance(net.output, wsn.sparse.SparseLinear) and not isinstance(
        net.hidden1, wsn.sparse.SparseLinear
    )
    dense = wsn.build(BASE)
    assert type(wsn.to_sparse(dense).hidden1) is nn.Linear
    with pytest.raises(ValueError, match=r"a layer must be one of hidden1, output, got 'activation1'"):
        wsn.to_sparse(net, layers=["activation1"])


def test_an_image_without_a_batch_calls_hooks_once():
    native, calls = wsn.to_sparse(masked_convolution()), []
    native.register_forward_hook(lambda layer, given, made: calls.append(made.shape))
    made = native(inputs(5, 9, 9))
    assert calls == [made.shape]


def test_a_pass_on_no_device_leaves_those_on_others_alone():
    net = nn.Sequential(nn.Conv2d(3, 13, 3), nn.Conv2d(13, 13, 1), nn.Flatten())
    wsn.to_sparse(wsn.sparsify(net, allocation={"0": 200}, generator=generator()))
    with torch.device("meta"):
        copy.deepcopy(net).to("meta")(torch.empty(2, 3, 8, 8))
    assert net(torch.ones(2, 3, 8, 8)).shape == (2, 468)


def test_hooks_and_frozen_values_stay():
    net = wsn.build(WIDE)
    calls = []
    net.hidden1.register_forward_hook(lambda *_: calls.append(1))
    net.hidden1.parametrizations.weight.original.requires_grad_(False)
    for change in (wsn.to_sparse, wsn.to_dense):
        change(net)(torch.randn(2, 64)).sum().backward()
        assert net.hidden1.parametrizations.weight.original.grad is None
    assert calls == [1, 1]


# -- what is refused --


def test_unsupported_layers_stay_dense_and_are_named_once():
    net = nn.Sequential(nn.Conv1d(3, 5, 3), nn.Flatten(), nn.Linear(30, 7), nn.Linear(7, 3))
    wsn.sparsify(net, allocation={"0": 17, "2": 40, "3": 5}, generator=generator())
    parametrize.register_parametrization(net[2], "bias", nn.Identity())
    expected = net(torch.ones(2, 3, 8))
    with pytest.warns(UserWarning, match="stay dense") as caught:
        wsn.to_sparse(net)
    assert [str(w.message) for w in caught] == [
        "these layers stay dense: 0 has the type Conv1d; 2 has another parametrisation (bias)"
    ]
    assert isinstance(net[3], wsn.sparse.SparseLinear)
    torch.testing.assert_close(net(torch.ones(2, 3, 8)), expected)
    with pytest.raises(ValueError, match="must be masked Linear ones .*, got 0 has the type Conv1d"):
        wsn.to_sparse(net, layers=["0"])


def test_a_second_derivative_is_refused():
    layer = wsn.to_sparse(masked_linear())
    x = inputs(3, 13).requires_grad_()
    with pytest.raises(RuntimeError, match="create_graph must be False for a sparse layer, got True"):
        torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    torch.autograd.grad(wsn.to_dense(layer)(x).square().sum(), x, create_graph=True)


def test_a_mask_that_changes_counts_at_once():
    layer = wsn.to_sparse(masked_linear(num_weights=3))
    layer(inputs(2, 13))
    mask = torch.zeros(143, dtype=torch.bool)
    mask[[1, 44, 100]] = True
    layer.parametrizations.weight[0].mask = mask.view(11, 13)
    torch.testing.assert_close(layer(inputs(2, 13)), F.linear(inputs(2, 13), layer.weight, layer.bias))


def test_a_density_that_changes_counts_if_values_and_mask_agree():
    layer = wsn.to_sparse(masked_linear())
    layer(inputs(2, 13))
    stored = layer.parametrizations.weight
    kept = stored.original.abs().argsort()[5:].sort().values
    mask = torch.zeros(143, dtype=torch.bool)
    mask[stored[0].index[kept]] = True
    stored[0].mask = mask.view(11, 13)
    with pytest.raises(ValueError, match=r"a mask of 24 weights must have as many values, got \(29,\)"):
        layer(inputs(2, 13))
    stored.original = nn.Parameter(stored.original.detach()[kept])
    assert wsn.num_weights(layer) == 24
    torch.testing.assert_close(layer(inputs(2, 13)), F.linear(inputs(2, 13), layer.weight, layer.bias))


def test_pruning_by_another_library_is_refused():
    layer = wsn.to_sparse(masked_linear())
    with pytest.raises(TypeError, match="cannot assign"):
        prune.random_unstructured(layer, "weight", amount=3)
    other = wsn.to_sparse(masked_linear())
    other.parametrizations.weight.append(nn.Identity())
    with pytest.raises(ValueError, match="the parametrisation StaticMask alone, got StaticMask, Identity"):
        other(inputs(2, 13))


def test_an_assigned_weight_is_masked():
    layer = wsn.to_sparse(masked_linear())
    mask = wsn.layer_masks(layer)[""]
    layer.weight = torch.ones(11, 13, dtype=torch.float64)
    assert torch.equal(layer.weight, mask.double())


def test_wrong_inputs_and_gradients_are_refused():
    layer = wsn.to_sparse(masked_linear())
    with pytest.raises(ValueError, match="the input must have 13 features, got 12"):
        layer(inputs(2, 12))
    y = layer(inputs(2, 13))
    with pytest.raises(RuntimeError, match="[Mm]ismatch in shape"):
        y.backward(inputs(2, 10))
    with pytest.raises(RuntimeError, match="attempting to assign a gradient of size"):
        layer.parametrizations.weight.original.grad = torch.ones(11, 13, dtype=torch.float64)


def test_nothing_beyond_the_input_is_read_whatever_the_layer_says_of_itself():
    layer, x = wsn.to_sparse(masked_linear()), inputs(2, 13)
    expected = layer(x)
    layer.in_features = 5
    with pytest.raises(ValueError, match="the input must have 13 features, got 5"):
        layer(inputs(2, 5))
    assert torch.equal(layer(x), expected)
    layer, x = wsn.to_sparse(masked_convolution()), inputs(2, 5, 7, 7)
    expected = layer(x)
    layer.in_channels, layer.kernel_size = 2, (1, 1)
    with pytest.raises(ValueError, match=r"must be of shape \(batch, 5, height, width\), got \(2, 2, 7, 7\)"):
        layer(inputs(2, 2, 7, 7))
    assert torch.equal(layer(x), expected)


def test_densify_asks_for_to_dense():
    layer = wsn.to_sparse(masked_linear())
    with pytest.raises(
        ValueError, match=r"must be a masked layer, got a sparse-compute layer; call wsn.to_dense first"
    ):
        wsn.densify(layer)
    assert wsn.num_weights(wsn.densify(wsn.to_dense(layer))) == 143


def test_autocast_computes_in_the_precision_of_the_values():
    layer = wsn.to_sparse(masked_linear(dtype=torch.float32))
    x = inputs(3, 13, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16), warnings.catch_warnings():
        found = layer(x.bfloat16())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, layer(x.bfloat16().float()))


# -- the layout between layers --


def drawn(seed: int) -> tuple[nn.Module, torch.Tensor]:
    """A masked convolution of any geometry, and images that it takes."""
    rng = np.random.default_rng(seed)

    def pair(low: int, high: int) -> tuple[int, int]:
        return tuple(rng.integers(low, high, 2).tolist())

    kernel, dilation, padding, stride = pair(1, 6), pair(1, 4), pair(0, 5), pair(1, 4)
    if seed % 4 < 2:  # such as are read in place, without a copy
        kernel, dilation, padding, stride = pair(2, 4), (1, 1), (1, 1), (1, 1)
    least = [d * (k - 1) + 1 - 2 * p for k, d, p in zip(kernel, dilation, padding, strict=True)]
    height, width = (max(1, n) + int(rng.integers(0, 40)) for n in least)
    inputs, outputs = rng.integers(1, 40, 2).tolist()
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=bool(seed % 2))
    layer = layer.to([torch.float32, torch.float64][seed % 3 == 0])
    torch.nn.init.normal_(layer.weight, generator=generator(seed))
    weights = int(rng.integers(1, max(2, layer.weight.numel())))
    if weights < layer.weight.numel():
        wsn.sparsify(layer, num_weights=weights, generator=generator(seed))
    x = torch.randn(int(rng.integers(1, 20)), inputs, height, width, generator=generator(seed))
    return layer, x.to(layer.weight.dtype)


@pytest.mark.parametrize("seed", range(60))
def test_a_convolution_of_any_geometry_equals_masked_dense(seed):
    layer, x = drawn(seed)
    native = wsn.to_sparse(copy.deepcopy(layer), layers=[""])
    for found, expected in zip(
        outputs_and_gradients(native, x), outputs_and_gradients(layer, x), strict=True
    ):
        rounding = 1e-9 if x.dtype == torch.float64 else 2e-5
        torch.testing.assert_close(
            found, expected, rtol=0, atol=rounding * float(expected.detach().abs().max() + 1e-6)
        )


class Residual(nn.Module):
    """Everything that works in groups, and what does not."""

    def __init__(self, *, in_place: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(8, affine=False, momentum=None)
        self.conv3 = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.short = nn.Conv2d(8, 12, 1, stride=2)
        self.pool, self.mean = nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2)
        self.relu = nn.ReLU(inplace=in_place)
        self.last = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.relu(self.bn1(self.conv1(x))))
        y = self.bn2(self.conv2(x))
        if self.relu.inplace:
            y += x
        else:
            y = y + x
        y = self.relu(y)
        y = self.mean(self.conv3(y) + self.short(y)).sigmoid()
        return self.last(F.adaptive_avg_pool2d(y, 1).flatten(1))


def residual(**options) -> nn.Module:
    torch.manual_seed(5)
    sizes = {"conv1": 100, "conv2": 150, "conv3": 200, "short": 60}
    return wsn.sparsify(Residual(**options), allocation=sizes, generator=generator()).double()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("batch", [3, 8, 19])
def test_a_residual_network_stays_in_groups_and_gives_the_same(batch, in_place, training):
    net = residual(in_place=in_place).train(training)
    native = wsn.to_sparse(copy.deepcopy(net))
    assert all(layer.keeps_layout for layer in native.modules() if isinstance(layer, SparseConv2d))
    x = inputs(batch, 3, 21, 18)
    for found, expected in zip(outputs_and_gradients(native, x), outputs_and_gradients(net, x), strict=True):
        torch.testing.assert_close(found, expected)
    for found, expected in zip(native.buffers(), net.buffers(), strict=True):
        torch.testing.assert_close(found, expected)


def counting(function, calls: list):
    def counted(*args):
        calls.append(function)
        return function(*args)

    return counted


def test_images_are_converted_at_the_ends_only(monkeypatch):
    from wsnlib.sparse import packed

    calls = []
    for name in ("pack", "unpack"):
        monkeypatch.setattr(packed, name, counting(getattr(packed, name), calls))
    net = wsn.to_sparse(wsn.build(wsn.StaticSparsity(wsn.ResNet18Spec(width=2), width=6)))
    net(torch.randn(3, 3, 32, 32)).sum().backward()
    assert [function.__name__ for function in calls] == [
        "pack"
    ]  # the mean over all positions is a plain tensor by itself


@pytest.mark.parametrize("details", ["released", "torchvision"])
def test_images_of_a_cifar_network_stay_in_groups(details):
    base = wsn.ResNetCifarSpec(depth=8, width_multiplier=0.125, details=details)
    net = wsn.build(wsn.StaticSparsity(base, width=3)).double()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # strided convolutions of the released code stay dense
        native = wsn.to_sparse(copy.deepcopy(net))
    kept = [layer.keeps_layout for layer in native.modules() if isinstance(layer, SparseConv2d)]
    assert kept and all(kept)
    x = inputs(5, 3, 32, 32)
    for found, expected in zip(outputs_and_gradients(native, x), outputs_and_gradients(net, x), strict=True):
        torch.testing.assert_close(found, expected)


def test_what_leaves_a_traced_network_is_an_ordinary_tensor():
    conv = wsn.sparsify(nn.Conv2d(3, 5, 3), num_weights=50, generator=generator())
    relu = nn.Sequential(copy.deepcopy(conv), nn.ReLU(), nn.Conv2d(5, 5, 1), nn.BatchNorm2d(5))
    assert type(wsn.to_sparse(conv)(torch.randn(2, 3, 7, 7))) is torch.Tensor
    assert type(wsn.to_sparse(relu)(torch.randn(2, 3, 7, 7))) is torch.Tensor
    assert [relu[0].keeps_layout, relu[2].keeps_layout] == [True, False]


class Branching(nn.Module):
    """No tracer follows it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return y if float(y.detach().sum()) > 0 else -y


def test_a_network_that_cannot_be_traced_converts_at_every_layer():
    net = wsn.to_sparse(wsn.sparsify(Branching(), num_weights=50, generator=generator()))
    assert not net.conv.keeps_layout
    assert type(net(torch.randn(2, 3, 7, 7))) is torch.Tensor


@pytest.mark.parametrize(("kind", "chosen"), [(nn.Sequential, "sparse"), (Branching, "dense")])
def test_where_every_layer_converts_it_has_to_be_faster_by_the_conversions(kind, chosen, monkeypatch):
    monkeypatch.setattr(costs, "layer_ms", lambda timed, form: 1.0 if form == "sparse" else 2.0)
    x = torch.zeros(costs.IMAGES, 3, 7, 7)  # read once; what is written stays in groups if it may
    numbers = x.numel() + costs.IMAGES * 5 * 5 * 5
    change = 1e6 / numbers
    assert 1.0 + change * x.numel() / 1e6 < 0.9 * 2.0
    monkeypatch.setattr(costs, "elementwise_ns", lambda: costs.Elementwise(0.0, 0.0, change))
    net = Branching() if kind is Branching else nn.Sequential(nn.Conv2d(3, 5, 3))
    wsn.sparsify(net, num_weights=50, generator=generator())
    (cost,) = costs.estimated_costs(net, x)
    assert cost.chosen == chosen


def test_what_stands_for_images_in_groups_takes_every_function_of_torch():
    from wsnlib.sparse.packed import Pack, Packed

    x = torch.randn(5, 3, 7, 6, generator=generator())

    def images() -> torch.Tensor:
        return Packed(Pack.apply(x), 5)

    for function in (
        lambda t: t + 1, lambda t: 2 * t, lambda t: t[1], lambda t: t.flatten(1), torch.sigmoid, F.dropout2d,
        lambda t: t.mean(), lambda t: t.mean((2, 3), keepdim=True), lambda t: t + t[:1], lambda t: t.add(t, alpha=2),
        lambda t: F.max_pool2d(t, 2, ceil_mode=True), lambda t: F.avg_pool2d(t, 3, 2, 1, count_include_pad=False),
        lambda t: F.adaptive_avg_pool2d(t, 2), copy.deepcopy, lambda t: torch.cat([t, t], 1), F.relu6,
        lambda t: t.detach().numpy().copy(), lambda t: F.max_pool2d(t, 2, return_indices=True)[1],
        lambda t: t.mean(axis=(2, 3)), lambda t: t.mean((2, 3), keepdims=True), lambda t: t.add(other=t),
        lambda t: torch.add(input=t, other=t), lambda t: torch.relu_(input=t),
    ):  # fmt: skip
        torch.manual_seed(0)
        expected = function(x.clone())
        torch.manual_seed(0)
        found = function(images())
        found = found.plain() if isinstance(found, Packed) else found
        torch.testing.assert_close(found, expected)
    t, expected = images(), x.clone()
    for each in (t, expected):
        part = each[:, 1]
        part.mul_(3)  # a view changes what it is a view of
    torch.testing.assert_close(torch.relu(t).plain(), torch.relu(expected))
    with pytest.raises(RuntimeError, match="must be given to functions of torch"):
        Double.apply(Packed(Pack.apply(x.requires_grad_()), 5)).sum().backward()


@pytest.mark.parametrize("look", [False, True])
@pytest.mark.parametrize("end", [1, 2, 3, 4])
def test_a_checkpoint_that_would_lose_gradients_is_refused(end, look):
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 5, 3), nn.ReLU())
    net = wsn.to_sparse(wsn.sparsify(net.append(nn.Flatten()), num_weights=60, generator=generator()))
    if look:
        net[end - 1].register_forward_hook(lambda layer, given, made: made.abs().sum() and None)
    x = torch.randn(4, 3, 9, 9, generator=generator()).requires_grad_()
    expected = torch.autograd.grad(net(x).sum(), [x, *net.parameters()])
    made = net[end:](checkpoint(net[:end], x, use_reentrant=False)).sum()
    for found, gradient in zip(torch.autograd.grad(made, [x, *net.parameters()]), expected, strict=True):
        torch.testing.assert_close(found, gradient)
    with pytest.raises(RuntimeError, match="functions of torch, got .* or a reentrant checkpoint; call"):
        net[end:](checkpoint(net[:end], x, use_reentrant=True))


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, g):
        return 2 * g


def test_threads_share_the_work_and_give_the_same():
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            found.append(outputs_and_gradients(wsn.to_sparse(residual()), inputs(40, 3, 15, 15)))
    finally:
        torch.set_num_threads(threads)
    for one, three in zip(*found, strict=True):
        torch.testing.assert_close(one, three)


def test_a_network_is_saved_in_one_form_and_goes_on_in_the_other():
    masked, native = residual(), wsn.to_sparse(residual())
    x = inputs(9, 3, 15, 15)
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9) for net in (masked, native)]
    for step in range(4):
        if step == 2:  # each goes on from the other's state
            states = [
                copy.deepcopy((net.state_dict(), o.state_dict()))
                for net, o in zip((masked, native), optimizers, strict=True)
            ]
            for net, optimizer, (weights, momenta) in zip(
                (masked, native), optimizers, states[::-1], strict=True
            ):
                net.load_state_dict(weights)
                optimizer.load_state_dict(momenta)
        for net, optimizer in zip((masked, native), optimizers, strict=True):
            optimizer.zero_grad()
            net(x).square().sum().backward()
            optimizer.step()
    for p, q in zip(masked.parameters(), native.parameters(), strict=True):
        torch.testing.assert_close(p, q)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_other_precisions_and_devices_multiply_by_the_masked_weight(dtype):
    for masked, x in ((masked_linear(), inputs(3, 13)), (masked_convolution(), inputs(3, 5, 9, 9))):
        native = wsn.to_sparse(copy.deepcopy(masked)).to(dtype)
        torch.testing.assert_close(native(x.to(dtype)), masked.to(dtype)(x.to(dtype)))
        assert native.to("meta")(x.to("meta", dtype)).is_meta


# -- the choice --


def fake_times(monkeypatch, native: float = 1e-9, change: float = 0.0) -> None:
    """Milliseconds by the number of multiplications: one a million of dense weights, and of weights present."""

    def layer_ms(timed, form):
        full = timed.layer.weight.numel()
        return timed.images * (native * timed.weights if form == "sparse" else 1e-6 * full)

    monkeypatch.setattr(costs, "layer_ms", layer_ms)
    monkeypatch.setattr(costs, "elementwise_ns", lambda: costs.Elementwise(0.0, 0.0, change))


def two_layers() -> nn.Module:
    net = nn.Sequential(nn.Linear(64, 37), nn.ReLU(), nn.Dropout(), nn.Linear(37, 10), nn.Linear(10, 3))
    return wsn.sparsify(net, allocation={"0": 320, "3": 50}, generator=generator())


def test_the_model_stays_as_it_was_when_its_layers_are_estimated(monkeypatch):
    fake_times(monkeypatch)
    net = wsn.to_sparse(two_layers())
    net[2].eval()
    before = copy.deepcopy(net.state_dict())
    wsn.sparse.estimated_costs(net, torch.randn(5, 64))
    assert [m.training for m in net] == [True, True, False, True, True]
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), before.values(), strict=True))
    assert all(p.grad is None for p in net.parameters())


def test_a_layer_that_is_not_used_costs_nothing_and_stays_dense(monkeypatch):
    fake_times(monkeypatch)
    net = nn.ModuleDict({"idle": nn.Linear(13, 7), "used": nn.Linear(13, 7)})
    wsn.sparsify(net, allocation={"used": 9, "idle": 9}, generator=generator())
    net.forward = lambda x: net["used"](x)
    used, idle = wsn.sparse.estimated_costs(net, torch.randn(5, 13))
    assert used.dense_ms > 0 and used.chosen == "sparse"
    assert (idle.layer, idle.dense_ms, idle.sparse_ms, idle.chosen) == ("idle", 0, 0, "dense")


def test_a_layer_that_is_called_by_keyword_costs_as_much(monkeypatch):
    fake_times(monkeypatch)
    net = wsn.sparsify(nn.Sequential(nn.Linear(13, 7)), num_weights=9, generator=generator())
    expected = wsn.sparse.estimated_costs(net, torch.randn(5, 13))
    net.forward = lambda x: net[0](input=x)
    assert wsn.sparse.estimated_costs(net, torch.randn(5, 13)) == expected


def test_times_follow_weights_and_batch_and_convolutions_without_a_mask_are_chosen_with_the_others(
    monkeypatch,
):
    fake_times(monkeypatch, native=1.5e-6)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.Conv2d(4, 64, 3, padding=1), nn.Conv2d(64, 4, 1), nn.Conv1d(8, 5, 3)
    )
    wsn.sparsify(net, allocation={"1": 100, "3": 9}, generator=generator())
    net.forward = lambda x: net[2](net[1](net[0](x)))
    x = torch.randn(2, 3, 8, 8)
    found = {cost.layer: cost for cost in wsn.sparse.estimated_costs(net, x)}
    more = {cost.layer: cost for cost in wsn.sparse.estimated_costs(net, x, batch_size=20)}
    assert found["1"].dense_ms == pytest.approx(2 * 1e-6 * 2304)
    assert found["1"].sparse_ms == pytest.approx(2 * 1.5e-6 * 100)
    assert more["1"].dense_ms == pytest.approx(10 * found["1"].dense_ms)
    assert found["1"].density == pytest.approx(100 / 2304) and found["0"].density == 1
    assert {name for name, cost in found.items() if cost.chosen == "sparse"} == {"1"}
    assert found["3"].chosen == "dense"
    fake_times(monkeypatch, native=1.5e-6, change=2.0)  # dearer than what the full layers lose
    names = [cost.layer for cost in wsn.sparse.estimated_costs(net, x) if cost.chosen == "sparse"]
    assert names == ["0", "1", "2"]
    wsn.to_sparse(net, layers=names)
    assert [isinstance(layer, SparseConv2d) for layer in net] == [True, True, True, False]
    assert type(wsn.to_dense(net)[0]) is nn.Conv2d


def test_what_is_hardly_faster_stays_dense():
    around = costs.Elementwise(0.0, 0.0, 0.0)
    sizes = {"a": 0.0, "b": 0.0}
    assert costs.choose({"a": (10.0, 9.5), "b": (1.0, 1.0)}, sizes, sizes, around) == set()
    assert "a" in costs.choose({"a": (10.0, 8.5), "b": (1.0, 1.0)}, sizes, sizes, around)


def test_a_shape_is_timed_once_and_its_time_is_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("WSN_TIMES", str(tmp_path / "deep" / "times.json"))
    net = wsn.sparsify(nn.Conv2d(3, 5, 3), num_weights=50, generator=generator())
    calls = []
    monkeypatch.setattr(costs, "thread_ms", lambda work: (work(), calls.append(work), float(len(calls)))[2])
    first = wsn.sparse.estimated_costs(net, torch.zeros(1, 3, 6, 6))
    done = len(calls)
    assert done == 5 and first == wsn.sparse.estimated_costs(net, torch.zeros(1, 3, 6, 6))
    assert len(calls) == done
    wsn.sparse.estimated_costs(net, torch.zeros(1, 3, 6, 6), precision="bfloat16")
    assert len(calls) == done + 1
    monkeypatch.setenv("NUMBA_CPU_NAME", "another")
    timings._machine.cache_clear()
    wsn.sparse.estimated_costs(net, torch.zeros(1, 3, 6, 6))
    timings._machine.cache_clear()
    assert len(calls) == done + 6
    (tmp_path / "deep" / "times.json").write_text("{")  # as one that was cut off
    wsn.sparse.estimated_costs(net, torch.zeros(1, 3, 6, 6))
    assert len(calls) == done + 11


def test_the_choice_is_the_cheapest_of_all_or_none():
    """Over all sets of layers, in a row: what each costs, its batch norm, and every change of the layout."""
    names = "abcd"
    rng = np.random.default_rng(0)
    for _ in range(40):
        dense, native, out, into = rng.uniform(0.2, 3, (4, len(names)))
        around = costs.Elementwise(*rng.uniform(0, 0.5, 3))

        def total(chosen, dense=dense, native=native, out=out, into=into, around=around):
            spent, before = 0.0, False
            for i, name in enumerate(names):
                here = name in chosen
                spent += (native if here else dense)[i] + (around.sparse if here else around.dense) * out[i]
                spent += around.change * into[i] * (here != before)
                before = here
            return spent

        sets = [set(c) for k in range(len(names) + 1) for c in itertools.combinations(names, k)]
        best = min(sets, key=total)
        found = costs.choose(
            {name: (dense[i], native[i]) for i, name in enumerate(names)},
            {name: 1e6 * out[i] for i, name in enumerate(names)},
            {name: 1e6 * into[i] for i, name in enumerate(names)},
            around,
        )
        assert found == (best if total(best) < 0.9 * total(set()) else set())
    assert costs.choose({}, {}, {}, around) == set()


def test_what_is_timed_is_a_layer_of_these_sizes_on_such_a_batch():
    timed = costs.Timed("conv", (3, 5, 3, 2, 2, 1, 1, 0, 1, 2, 9, 8), 7, 4)
    layer, x = timed.layer, timed.input
    assert (layer.in_channels, layer.out_channels, layer.bias) == (3, 5, None)
    sizes = layer.kernel_size, layer.stride, layer.padding, layer.dilation
    assert sizes == ((3, 2), (2, 1), (1, 0), (1, 2))
    assert x.shape == (4, 3, 9, 8)
    assert x.is_contiguous(memory_format=torch.channels_last)
    linear = costs.Timed("linear", (13, 11), 7, 4)
    assert (linear.layer.weight.shape, linear.layer.bias, linear.input.shape) == ((11, 13), None, (4, 13))


def test_a_time_is_of_the_shape_the_weights_and_the_batch(monkeypatch):
    asked = []
    monkeypatch.setattr(costs, "kept", lambda key, _: asked.append(key) or float(len(asked)))
    monkeypatch.setattr(costs, "elementwise_ns", lambda: costs.Elementwise(0.0, 0.0, 0.0))
    net = nn.Sequential(nn.Conv2d(3, 5, (3, 2), stride=(2, 1)), nn.Flatten(), nn.Linear(5 * 4 * 7, 2))
    wsn.sparsify(net, allocation={"0": 50, "2": 29}, generator=generator())
    found = wsn.sparse.estimated_costs(net, torch.zeros(2, 3, 9, 8), batch_size=6, precision="bfloat16")
    conv = "conv 3 5 3 2 2 1 0 0 1 1 9 8 of 16"
    assert asked == [
        f"bfloat16 {conv}, 0", f"sparse {conv}, 50", "bfloat16 linear 140 2 of 6, 0", "sparse linear 140 2 of 6, 29",
    ]  # fmt: skip
    assert [cost.layer for cost in found] == ["0", "2"]
    share = 6 / 16
    assert [(cost.dense_ms, cost.sparse_ms) for cost in found] == [
        (pytest.approx(1 * share), pytest.approx(2 * share)), (3, 4),
    ]  # fmt: skip


@pytest.mark.parametrize("most", [4, 7, 14, 16])
def test_tiles_cover_an_image_with_the_fewest(most):
    for height, width in itertools.product(range(1, 20), repeat=2):
        rows, columns = tiles.tile_shape(height, width, most)
        assert rows in (1, 2, 4)
        assert rows <= height
        assert 1 <= columns <= width
        assert rows * columns <= most
        assert (rows, columns) in tiles.shapes(most)

        def count(rows, columns, height=height, width=width):
            return -(-width // columns) * (height // rows + bin(height % rows).count("1"))

        fewest = min(count(r, c) for r in (1, 2, 4) if r <= height for c in range(1, most // r + 1))
        assert count(rows, columns) == fewest
        assert all(
            -(-width // c) > -(-width // columns) for c in range(1, columns)
        )  # and none wider than it must


# -- images in groups, further --


def test_batch_norm_the_sum_and_the_relu_after_it_are_one_pass(monkeypatch):
    from wsnlib.sparse import elementwise
    from wsnlib.sparse.packed import Pack, Packed

    passes, planes = [], []
    kept = elementwise.normalise

    def noted(x, shape, scale, shift, added, relu, images, y, first, last):
        passes.append((len(added) > 0, relu))
        planes.extend(range(first, last))
        return kept(x, shape, scale, shift, added, relu, images, y, first, last)

    monkeypatch.setattr(elementwise, "normalise", noted)
    x, y = torch.randn(2, 5, 3, 7, 6, generator=generator())
    norm = nn.BatchNorm2d(3).train()
    found = torch.relu(norm(Packed(Pack.apply(x), 5)) + Packed(Pack.apply(y), 5)).plain()
    assert set(passes) == {(True, True)}
    assert sorted(planes) == [0, 1, 2]  # each once, however many threads share them
    torch.testing.assert_close(found, torch.relu(nn.BatchNorm2d(3)(x) + y))
    passes.clear()
    planes.clear()
    torch.testing.assert_close(norm(Packed(Pack.apply(x), 5)).relu().plain(), nn.BatchNorm2d(3)(x).relu())
    assert set(passes) == {(False, True)}
    assert sorted(planes) == [0, 1, 2]


@pytest.mark.parametrize("mean", [0, 1000])
@pytest.mark.parametrize("batch", [2, 3, 16, 17])
def test_the_variance_of_a_few_values_is_kept_as_batch_norm_keeps_it(batch, mean):
    from wsnlib.sparse.packed import Pack, Packed

    x = torch.randn(batch, 3, 1, 1, generator=generator()) + mean
    found, expected = nn.BatchNorm2d(3).train(), nn.BatchNorm2d(3).train()
    found(Packed(Pack.apply(x), batch)).plain()
    expected(x)
    torch.testing.assert_close(found.running_var, expected.running_var)
    torch.testing.assert_close(found.running_mean, expected.running_mean)


def test_batch_norm_refuses_one_value_per_channel_in_training():
    from wsnlib.sparse.packed import Pack, Packed

    x, norm = torch.ones(1, 3, 1, 1), nn.BatchNorm2d(3)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
        norm(Packed(Pack.apply(x), 1))
    torch.testing.assert_close(norm.eval()(Packed(Pack.apply(x), 1)).plain(), norm(x))


def test_sums_stay_in_groups_and_have_gradients_where_their_parts_do():
    from wsnlib.sparse.packed import Pack, Packed

    x, y = torch.randn(2, 5, 3, 7, 6, generator=generator())

    def images(values, needed=False):
        return Packed(Pack.apply(values.clone().requires_grad_(needed)), 5)

    for one, other in itertools.product((False, True), repeat=2):
        total = images(x, one) + images(y, other)
        assert type(total) is Packed
        assert total.requires_grad == (one or other)
        torch.testing.assert_close(total.plain(), x + y)
        with torch.no_grad():
            assert not (images(x, one) + images(y, other)).requires_grad
    total = images(x)
    total += images(y)
    assert type(total) is Packed
    assert total._plain is None  # not converted in between
    torch.testing.assert_close(total.plain(), x + y)
    total = images(x)
    assert type(total.add_(images(y), alpha=2)) is torch.Tensor
    torch.testing.assert_close(total.plain(), x + 2 * y)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("in_place", [True, False])
def test_whoever_looks_at_images_leaves_their_gradients(in_place, mode):
    net, seen = residual(in_place=in_place).train(), []
    native = wsn.to_sparse(copy.deepcopy(net))

    def look(layer, given, made):
        with mode():
            seen.append(float(made.abs().sum()))

    for layer in native.children():
        layer.register_forward_hook(look)
    x = inputs(3, 3, 21, 18)
    for found, expected in zip(outputs_and_gradients(native, x), outputs_and_gradients(net, x), strict=True):
        torch.testing.assert_close(found, expected)
    assert len(seen) == 11


def test_images_are_those_of_the_weights_there_were():
    net, seen = residual().train(), {}
    native = wsn.to_sparse(copy.deepcopy(net))
    for made in (net, native):
        made.bn1.register_forward_hook(lambda layer, given, images, made=made: seen.update({made: images}))
        made(inputs(3, 3, 21, 18)).sum().backward()
        torch.optim.SGD(made.parameters(), lr=1.0).step()
    torch.testing.assert_close(seen[native].clone(), seen[net])


def test_a_sum_is_recorded_as_when_it_was_made_whoever_looks_first():
    from wsnlib.sparse.packed import Pack, Packed

    x = torch.randn(5, 3, 7, 6, generator=generator()).requires_grad_()
    norm = nn.BatchNorm2d(3)
    for made in (lambda t: t + t, norm, lambda t: norm(t) + t, lambda t: norm(t).relu()):
        with torch.no_grad():
            unrecorded = made(Packed(Pack.apply(x), 5))
        assert not unrecorded.plain().requires_grad
        recorded = made(Packed(Pack.apply(x), 5))
        with torch.no_grad():
            assert not recorded.relu().plain().requires_grad
            assert recorded.plain().requires_grad
        assert recorded.grouped().requires_grad
    for made in (lambda t: t + t, norm, lambda t: norm(t) + t):
        with torch.no_grad():
            frozen = made(Packed(Pack.apply(x), 5))
        y = torch.randn(5, 3, 7, 6, generator=generator()).requires_grad_()
        for total in (frozen + Packed(Pack.apply(y), 5), Packed(Pack.apply(y), 5) + frozen, frozen + y):
            (found,) = torch.autograd.grad(total.relu().mean((2, 3)).sum(), y, retain_graph=True)
            (expected,) = torch.autograd.grad((frozen.plain() + y).relu().mean((2, 3)).sum(), y)
            torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("in_place", [True, False])
def test_images_in_groups_are_there_in_inference_mode(in_place, training):
    net = residual(in_place=in_place).train(training)
    native = wsn.to_sparse(copy.deepcopy(net))
    native.bn1.register_forward_hook(lambda layer, given, made: made.mul_(2))
    net.bn1.register_forward_hook(lambda layer, given, made: made.mul_(2))
    x = inputs(3, 3, 21, 18)
    with torch.inference_mode():
        torch.testing.assert_close(native(x), net(x))
    assert wsn.layer_names(native, x) == wsn.layer_names(net, x)


def test_hooks_on_the_gradient_of_images_in_groups_are_refused():
    native = wsn.to_sparse(residual(in_place=False))
    for watch in (lambda made: made.register_hook(print), lambda made: made.retain_grad()):
        handle = native.bn1.register_forward_hook(lambda layer, given, made, watch=watch: watch(made))
        with pytest.raises(RuntimeError, match="must have no hook on their gradient, got one by re"):
            native(inputs(3, 3, 21, 18))
        handle.remove()


def test_means_over_all_positions_have_the_shape_of_torchs():
    from wsnlib.sparse.packed import Pack, Packed

    x = torch.randn(5, 3, 7, 6, generator=generator())
    for mean in (
        lambda t: F.adaptive_avg_pool2d(t, 1), lambda t: F.adaptive_avg_pool2d(t, (1, 1)),
        lambda t: F.adaptive_avg_pool2d(t, (1, 2)), lambda t: t.mean((2, 3)), lambda t: t.mean([-1, -2], keepdim=True),
        lambda t: t.mean((1, 2)), lambda t: t.mean((2, 3), dtype=torch.float64), lambda t: t.mean(1),
    ):  # fmt: skip
        found = mean(Packed(Pack.apply(x), 5))
        assert type(found) is torch.Tensor
        torch.testing.assert_close(found, mean(x))


def test_where_there_is_no_kernel_a_convolution_keeps_its_geometry():
    options = {"stride": 2, "padding": (1, 2), "dilation": (2, 1)}
    net = wsn.sparsify(nn.Conv2d(5, 7, 3, **options), num_weights=50, generator=generator())
    native = wsn.to_sparse(copy.deepcopy(net)).to(torch.bfloat16)
    x = torch.randn(3, 5, 9, 8, dtype=torch.bfloat16)
    torch.testing.assert_close(native(x), net.to(torch.bfloat16)(x))


@pytest.mark.parametrize(
    ("triple", "features", "expected"),
    [
        ("aarch64-apple-darwin", "+neon", (32, 4)),
        ("x86_64-pc-linux", "+sse2,+avx2,+avx512f", (32, 16)),
        ("x86_64-pc-linux", "+avx2,-avx512f", (16, 8)),
        ("x86_64-pc-linux", "+sse2,-avx2", (16, 4)),
    ],
)
def test_registers_are_those_of_the_machine_that_kernels_are_made_for(
    monkeypatch, triple, features, expected
):
    class Target:
        def magic_tuple(self):
            return triple, "", features

        codegen = target_context = property(lambda self: self)

        def __call__(self):
            return self

    monkeypatch.setattr(tiles, "cpu_target", Target())
    assert tiles.registers() == expected


def test_weights_are_summed_together_in_blocks_of_a_bounded_size(monkeypatch):
    monkeypatch.setattr(geometry, "TOGETHER", 20)
    rng = np.random.default_rng(0)
    plane, source = rng.integers(0, (41, 5), (97, 2)).T
    found = geometry.terms(plane, source, source, planes=41, sources=5, patch=1)
    counts = found.segments[:, 2] - found.segments[:, 1]
    assert counts.sum() == 97
    assert found.blocks[0] == 0
    assert found.blocks[-1] == len(counts)
    assert (np.diff(found.blocks) > 0).all()
    assert len(found.blocks) - 1 <= 97 // 20 + 1
    for first, stop in itertools.pairwise(found.blocks):
        assert counts[first:stop].sum() < 20 + counts.max()


@pytest.mark.parametrize(("count", "dtype"), [(2**15 - 1, np.int16), (2**15, np.int32), (40_000, np.int32)])
def test_places_of_many_weights_are_whole_numbers_that_hold_them(count, dtype):
    nothing = np.zeros(count, np.int64)
    found = geometry.terms(nothing, nothing, np.arange(count), planes=1, sources=1, patch=1)
    assert found.segments.dtype == dtype
    assert found.segments.tolist() == [[0, 0, count, 0]]
    assert found.order is None


def test_offsets_that_are_too_large_are_refused():
    from wsnlib.sparse import functions

    one = np.zeros(1, np.int64)
    found = geometry.terms(one, one, one + 2**31 // tiles.LANES - 1, planes=1, sources=1, patch=1)
    assert found.offsets.tolist() == [2**31 - tiles.LANES]
    refusal = pytest.raises(ValueError, match="must be fewer than 2,147,483,648, got 2,[0-9,]*; take smaller")
    with refusal:
        geometry.terms(one, one, one + 2**31 // tiles.LANES, planes=1, sources=1, patch=1)
    with refusal:
        functions._spaced(found, torch.empty(784, 2_800_000, device="meta"))


@pytest.mark.parametrize(("threads", "count"), [(1, 7), (2, 7), (3, 7), (7, 3), (2, 1), (3, 0)])
def test_work_is_shared_among_as_many_threads_as_torch_uses(monkeypatch, threads, count):
    from wsnlib.sparse.packed import in_threads

    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    parts = []
    in_threads(lambda first, last: parts.append((first, last)), count)
    assert len(parts) == max(1, min(threads, count))
    assert sorted(i for first, last in parts for i in range(first, last)) == list(range(count))
    if count > 1 < threads:
        assert max(last - first for first, last in parts) <= -(-count // min(threads, count))
        with pytest.raises(ZeroDivisionError):  # of whichever thread
            in_threads(lambda first, last: 1 // (count - last), count)


def test_what_is_no_tensor_is_refused_in_these_words():
    for layer in (wsn.to_sparse(masked_linear()), layers.SparseConv2d(3, 5, 3)):
        with pytest.raises(RuntimeError) as refused:
            layer("x")
        assert str(refused.value) == (
            "a sparse layer must be run on tensors as it is, got a str; call wsn.to_dense(model) first"
        )
