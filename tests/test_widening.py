"""Widening at a fixed number of weights: conservation, identity at the base, rank, structure, errors."""

import copy
import itertools
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

import wsnlib as wsn
from wsnlib import masks, specs, widening
from wsnlib.models import MLP, ResNet18
from wsnlib.models.mlp import NTKLinear

MLP_BASE = wsn.MLPSpec(width=50, inputs=64, hidden_layers=4)
BASES = [wsn.ResNet18Spec(width=w, num_classes=c) for w in (8, 18) for c in (10, 100)] + [
    wsn.ResNet18Spec(width=64, num_classes=1000, stem="imagenet"),
    MLP_BASE,
]
FACTORS = (1, 1.5, 2, 2.25, 3, 5, 8, 11.4)
METHODS = {
    "all dimensions": wsn.StaticSparsity,
    "channels": wsn.ChannelSparsity,
    "linear": wsn.LinearBottleneck,
    "nonlinear": wsn.NonlinearBottleneck,
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def num_weights(spec) -> int:
    return sum(wsn.weights_per_layer(spec).values())


def equal_bits(a: nn.Module, b: nn.Module) -> bool:
    one, other = a.state_dict(), b.state_dict()
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def label(spec) -> str:
    return f"{type(spec).__name__}-{spec.width}-{wsn.weights_per_layer(spec)[list(wsn.weights_per_layer(spec))[-1]]}"


# -- conservation --


@pytest.mark.parametrize("base", BASES, ids=label)
@pytest.mark.parametrize("method", ["all dimensions", "channels"])
def test_static_sparsity_has_the_bases_number_of_weights_at_every_width(base, method):
    for width in wsn.specs.widths(base, widening_factors=FACTORS):
        spec = METHODS[method](base, width=width)
        kept = wsn.weights_per_layer(spec)
        assert sum(kept.values()) == num_weights(base)
        dense = wsn.weights_per_layer(wsn.StaticSparsity(spec.base, width=width))
        assert all(abs(kept[name] - dense[name]) < 49 for name in kept)  # of whole kernels, up to 7x7


@pytest.mark.parametrize("rule", [wsn.UniformDensity(), wsn.LastLayerDensity(density=0.5)], ids=str)
@pytest.mark.parametrize("width", [12, 21])
def test_whole_kernels_hold_under_every_rule(rule, width):
    base = wsn.ResNet18Spec(width=8, num_classes=100)
    spec = wsn.ChannelSparsity(base, width=width, allocation=rule)
    kept = wsn.weights_per_layer(spec)
    assert sum(kept.values()) == num_weights(base)
    assert all(n % 9 == 0 for name, n in kept.items() if "shortcut" not in name and name != "linear")
    if isinstance(rule, wsn.LastLayerDensity):
        assert kept["linear"] == width * 8 * 100 // 2


def cheapest_unit(spec) -> int:
    """Weights that the smallest change of one bottleneck adds, read off the wide network's shapes."""
    with torch.device("meta"):
        wide = wsn.build(type(spec.base)(**{**vars(spec.base), "width": spec.width}))
    layers = masks.weight_layers(wide)
    units = []
    for name, size in wsn.bottleneck_sizes(spec).items():
        weight = layers[name].weight
        if isinstance(spec, wsn.LinearBottleneck):
            unit, most = weight[0].numel() + len(weight), min(weight[0].numel(), len(weight))
        else:
            second = layers[name.replace("conv1", "conv2") if "conv1" in name else follower(name, layers)]
            unit, most = weight[0].numel() + second.weight[:, 0].numel(), len(weight)
        if size < most:
            units.append(unit)
    return min(units, default=0)


def follower(name: str, layers) -> str:
    return dict(itertools.pairwise(layers))[name]


@pytest.mark.parametrize("base", BASES, ids=label)
@pytest.mark.parametrize("method", ["linear", "nonlinear"])
def test_bottlenecks_come_as_near_as_half_the_cheapest_unit(base, method):
    reached = {}
    for width in wsn.specs.widths(base, widening_factors=FACTORS):
        spec = METHODS[method](base, width=width)
        if not wsn.is_reachable(spec):
            continue
        reached[width] = num_weights(spec)
        assert 2 * abs(reached[width] - num_weights(base)) <= cheapest_unit(spec)
        if base is not MLP_BASE:
            assert reached[width] == pytest.approx(num_weights(base), rel=0.003)
    assert len(reached) >= 4 - (base is MLP_BASE and method == "nonlinear")
    if method == "nonlinear":
        assert reached[base.width] == num_weights(base)


def test_the_factorised_base_is_kept_and_exact_at_the_base_width():
    base = wsn.ResNet18Spec(width=8)
    shapes = {n: layer.weight.shape for n, layer in masks.weight_layers(ResNet18(8)).items() if n != "linear"}
    full = 640 + sum((s[1:].numel() + s[0]) * min(s[1:].numel(), s[0]) for s in shapes.values())
    assert full == 198_360
    for width in wsn.specs.widths(base, widening_factors=FACTORS):
        spec = wsn.LinearBottleneck(base, width=width, keeps="factorised_base")
        assert 2 * abs(num_weights(spec) - full) <= (width > 8) * cheapest_unit(spec)
    assert wsn.bottleneck_sizes(wsn.LinearBottleneck(base, width=8, keeps="factorised_base")) == {
        name: min(shape[1:].numel(), shape[0]) for name, shape in shapes.items()
    }


def test_where_nothing_else_grows_the_bottleneck_falls_as_the_width_rises():
    """Figure 2(a): d_i × d_o becomes f·d_i × d_b and d_b × f·d_o."""
    layers = nn.Sequential(nn.Linear(240, 240, bias=False), nn.Linear(240, 240, bias=False))
    for factor in (2, 3, 4, 5):
        wide = nn.Sequential(*(nn.Linear(240 * factor, 240 * factor, bias=False) for _ in layers))
        sizes = widening.linear_bottleneck_sizes(wide, num_weights=2 * (480 * 240))
        assert sizes == {"0": 240 // factor, "1": 240 // factor}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("base", [wsn.ResNet18Spec(width=8), MLP_BASE], ids=label)
def test_what_is_built_has_the_weights_that_were_said(base, method):
    spec = METHODS[method](base, width=base.width * 5 // 4)
    net = wsn.build(spec, seed=1)
    assert wsn.num_weights(net) == num_weights(spec)
    counted = {name: int((m.weight != 0).sum()) for name, m in masks.weight_layers(net).items()}
    assert counted == wsn.weights_per_layer(spec)
    if method == "channels":
        for mask in wsn.layer_masks(net).values():
            assert mask.ndim == 2 or torch.equal(mask.flatten(2).all(2), mask.flatten(2).any(2))
    shape = (2, 3, 16, 16) if isinstance(base, wsn.ResNet18Spec) else (2, 64)
    net(torch.randn(shape)).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in net.parameters() if p.ndim > 1)


# -- bottleneck sizes --


def test_a_unit_that_costs_just_what_is_left_is_given_out():
    two = {"a": widening.Bottleneck(unit=3, most=10), "b": widening.Bottleneck(unit=2, most=10)}
    assert widening.bottleneck_sizes(two, num_weights=10, proportions={"a": 1, "b": 1}) == {"a": 2, "b": 2}


@pytest.mark.parametrize("num_weights", [3, 29, 57, 100, 131, 200, 258])
@pytest.mark.parametrize("proportions", [(1, 1, 1), (17, 1, 1), (1, 100, 3)])
def test_sizes_reach_every_number_to_half_a_unit(num_weights, proportions):
    units, most = (17, 11, 2), (7, 11, 9)
    bottlenecks = {n: widening.Bottleneck(u, m) for n, u, m in zip("abc", units, most, strict=True)}
    shares = dict(zip("abc", proportions, strict=True))
    if not 30 <= num_weights <= 258:
        with pytest.raises(
            ValueError, match=r"bottlenecks must hold 30 \(one unit each\) to 258 weights, got"
        ):
            widening.bottleneck_sizes(bottlenecks, num_weights=num_weights, proportions=shares)
        return
    sizes = widening.bottleneck_sizes(bottlenecks, num_weights=num_weights, proportions=shares)
    assert list(sizes) == ["a", "b", "c"]
    assert all(1 <= sizes[n] <= bottlenecks[n].most for n in sizes)
    error = abs(sum(sizes[n] * bottlenecks[n].unit for n in sizes) - num_weights)
    assert 2 * error <= min((b.unit for n, b in bottlenecks.items() if sizes[n] < b.most), default=0)


def test_sizes_follow_their_shares():
    bottlenecks = {"a": widening.Bottleneck(10, 99), "b": widening.Bottleneck(30, 99)}
    sizes = widening.bottleneck_sizes(bottlenecks, num_weights=1200, proportions={"a": 1, "b": 2})
    assert sizes == {"a": 42, "b": 26}  # the whole units in 400 and 800, and two for what is left


# -- identity --


@pytest.mark.parametrize("method", ["all dimensions", "channels", "nonlinear"])
@pytest.mark.parametrize(
    "base",
    [wsn.ResNet18Spec(width=3), wsn.ResNet18Spec(width=3, initialisation="fan_out"), MLP_BASE],
    ids=label,
)
def test_at_the_base_width_the_network_is_the_dense_one_bit_for_bit(base, method):
    dense, same = wsn.build(base, seed=3), wsn.build(METHODS[method](base, width=base.width), seed=3)
    assert equal_bits(dense, same)
    x = torch.randn(2, 3, 8, 8) if isinstance(base, wsn.ResNet18Spec) else torch.randn(2, 64)
    assert torch.equal(dense(x), same(x))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("initialisation", ["default", "fan_out"])
def test_one_seed_gives_one_network(method, initialisation):
    spec = METHODS[method](wsn.ResNet18Spec(width=5, initialisation=initialisation), width=7)
    state = torch.random.get_rng_state()
    one, other, third = (wsn.build(spec, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert equal_bits(one, other)
    weights = [[layer.weight for layer in masks.weight_layers(net).values()] for net in (one, third)]
    assert not any(torch.equal(a, b) for a, b in zip(*weights, strict=True))


# -- linear bottleneck --


def matrix(layer: nn.Module) -> torch.Tensor:
    return layer.weight.detach().double().flatten(1)


def test_a_split_layer_is_the_product_of_limited_rank():
    layer = nn.Conv2d(5, 11, 3, stride=2, padding=1, padding_mode="reflect").double()
    net = nn.Sequential(copy.deepcopy(layer))
    wsn.linear_bottleneck(net, sizes={"0": 4}, generator=generator())
    product = matrix(net[0].expand) @ matrix(net[0].reduce)
    assert torch.linalg.matrix_rank(product) == 4
    with torch.no_grad():
        layer.weight.copy_(product.view_as(layer.weight))
        layer.bias.copy_(net[0].expand.bias)
    x = torch.randn(2, 5, 9, 7, dtype=torch.float64)
    torch.testing.assert_close(net(x), layer(x))


def test_every_split_layer_of_a_network_has_its_rank_and_place():
    spec = wsn.LinearBottleneck(wsn.ResNet18Spec(width=8), width=16)
    net, sizes = wsn.build(spec), wsn.bottleneck_sizes(spec)
    layers = masks.weight_layers(net)
    assert set(layers) == {f"{name}.{part}" for name in sizes for part in ("reduce", "expand")} | {"linear"}
    for name, size in sizes.items():
        reduce, expand = layers[f"{name}.reduce"], layers[f"{name}.expand"]
        assert torch.linalg.matrix_rank(matrix(expand) @ matrix(reduce)) == size == reduce.out_channels
        dense = ResNet18(16).get_submodule(name)
        assert (reduce.kernel_size, reduce.stride) == (dense.kernel_size, dense.stride)
        assert (expand.kernel_size, expand.stride) == ((1, 1), (1, 1))
        assert (reduce.in_channels, expand.out_channels) == (dense.in_channels, dense.out_channels)
    kinds = [type(m) for m in net.layer2[0].conv1.modules()]
    assert kinds == [nn.Sequential, nn.Conv2d, nn.Conv2d]
    assert {name for name, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)} == {
        name for name, m in ResNet18(2).named_modules() if isinstance(m, nn.BatchNorm2d)
    }


def test_full_rank_splits_can_be_any_dense_layer():
    net = MLP(7, inputs=11, outputs=5, hidden_layers=2).double()
    split = wsn.linear_bottleneck(
        copy.deepcopy(net), sizes=wsn.widening.linear_bottleneck_sizes(net), generator=generator()
    )
    with torch.no_grad():
        for name, layer in masks.weight_layers(net).items():
            u, s, v = torch.linalg.svd(layer.weight, full_matrices=False)
            split.get_submodule(name).reduce.weight.copy_(v)
            split.get_submodule(name).expand.weight.copy_(u * s)
            split.get_submodule(name).expand.bias.copy_(layer.bias)
    x = torch.randn(3, 11, dtype=torch.float64)
    torch.testing.assert_close(split(x), net(x))


def test_new_layers_are_drawn_as_pytorch_draws_them():
    net = wsn.linear_bottleneck(MLP(2000, inputs=7), sizes={"hidden1": 5}, generator=generator())
    for layer, fan_in in ((net.hidden1.reduce, 7), (net.hidden1.expand, 5)):
        assert layer.weight.abs().max().item() <= fan_in**-0.5
    weight, bias = net.hidden1.expand.weight.detach(), net.hidden1.expand.bias.detach()
    for values in (weight.flatten(), bias):
        assert values.abs().max().item() == pytest.approx(5**-0.5, rel=1e-2)
        error = (values**2).std().item() / len(values) ** 0.5
        assert (values**2).mean().item() == pytest.approx(1 / 15, abs=4 * error)
    assert net.hidden1.reduce.bias is None


def test_fan_out_holds_for_the_layers_of_a_bottleneck():
    base = wsn.ResNet18Spec(width=8, initialisation="fan_out")
    net = wsn.build(wsn.LinearBottleneck(base, width=16), seed=1)
    weight = net.layer4[0].conv2.expand.weight.detach()
    assert weight.std().item() == pytest.approx((2 / 128) ** 0.5, rel=0.1)
    narrow = wsn.build(wsn.NonlinearBottleneck(base, width=16), seed=1).layer4[0].conv1.weight.detach()
    assert narrow.std().item() == pytest.approx((2 / (9 * len(narrow))) ** 0.5, rel=0.1)


# -- nonlinear bottleneck --


def test_resnets_are_narrow_inside_their_blocks_only():
    spec = wsn.NonlinearBottleneck(wsn.ResNet18Spec(width=8), width=16)
    net, sizes, dense = wsn.build(spec), wsn.bottleneck_sizes(spec), ResNet18(16)
    blocks = [f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]
    assert list(sizes) == [f"{block}.conv1" for block in blocks]
    for block in blocks:
        narrow, wide, size = net.get_submodule(block), dense.get_submodule(block), sizes[f"{block}.conv1"]
        assert 1 <= size < wide.conv1.out_channels / 2 + 1
        assert narrow.conv1.weight.shape == (size, wide.conv1.in_channels, 3, 3)
        assert narrow.bn1.weight.shape == narrow.bn1.running_var.shape == (size,)
        assert narrow.conv2.weight.shape == (wide.conv2.out_channels, size, 3, 3)
        assert narrow.conv1.stride == wide.conv1.stride
        assert narrow.conv1.bias is None is narrow.conv2.bias
    same = [
        n for n in dense.state_dict() if not any(f"{b}.{m}" in n for b in blocks for m in ("conv", "bn1"))
    ]
    assert all(net.state_dict()[name].shape == dense.state_dict()[name].shape for name in same)
    assert list(net.state_dict()) == list(dense.state_dict())


@pytest.mark.parametrize(
    ("hidden_layers", "widths"), [(2, [7, 3]), (3, [7, 3, 7]), (4, [7, 3, 7, 3]), (5, [7, 3, 7, 3, 7])]
)
def test_every_other_hidden_layer_is_narrowed(hidden_layers, widths):
    net = MLP(7, inputs=5, hidden_layers=hidden_layers)
    sizes = {pair.first: 3 for pair in wsn.widening.layer_pairs(net)}
    wsn.nonlinear_bottleneck(net, sizes=sizes, generator=generator())
    shapes = [tuple(layer.weight.shape) for layer in masks.weight_layers(net).values()]
    assert shapes == list(zip([*widths, 10], [5, *widths], strict=True))
    assert net(torch.randn(2, 5)).shape == (2, 10)


def test_layers_of_ones_own_are_paired_by_name():
    net = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3)).eval()
    pairs = [wsn.widening.LayerPair("0", "3", ("1",))]
    sizes = wsn.widening.nonlinear_bottleneck_sizes(net, num_weights=31, pairs=pairs)
    assert sizes == {"0": 4}
    wsn.nonlinear_bottleneck(net, sizes=sizes, pairs=pairs, generator=generator())
    assert [tuple(p.shape) for p in net.parameters()] == [(4, 5), (4,), (4,), (4,), (3, 4), (3,)]
    assert not any(m.training for m in net)


# -- errors --


def test_a_width_that_no_bottleneck_reaches_is_named():
    base = wsn.ResNet18Spec(width=8)
    for spec, message in (
        (
            wsn.NonlinearBottleneck(base, width=64),
            "NonlinearBottleneck of base width 8 at width 64: num_weights must be 209408 to 11164352 "
            "with inner widths of 1 to full, 178880 of them outside the pairs, got 175192; ",
        ),
        (
            wsn.LinearBottleneck(base, width=2000),
            "LinearBottleneck of base width 8 at width 2000: num_weights must be .* with linear bottlenecks of "
            "1 unit to full rank, got 175192; ",
        ),
        (
            wsn.NonlinearBottleneck(wsn.MLPSpec(width=5), width=10),
            "must have at least 2 hidden layers for a pair of layers, got 1",
        ),
        (
            wsn.LinearBottleneck(wsn.MLPSpec(width=50, parametrisation="ntk"), width=90),
            "hidden1 must be a plain Linear or Conv layer, got a NTKLinear",
        ),
    ):
        assert not wsn.is_reachable(spec)
        for verb in (wsn.build, wsn.weights_per_layer, wsn.bottleneck_sizes):
            with pytest.raises(ValueError, match=message):
                verb(spec)


class Odd(nn.Module):
    """Layers that cannot be replaced, and some that can."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Linear(5, 7)
        self.next = nn.Linear(7, 3)
        self.far = nn.Linear(5, 3)
        self.norm = nn.LayerNorm(7)
        self.grouped = nn.Conv1d(4, 4, 3, groups=2)
        self.ntk = NTKLinear(5, 7)
        self.sparse = masks.sparsify(nn.Linear(5, 7), num_weights=11, generator=generator())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda n: wsn.linear_bottleneck(n, sizes={"norm": 2}, generator=generator()),
            "norm must be a layer, got none; choose from",
        ),
        (
            lambda n: wsn.linear_bottleneck(n, sizes={"plain": 2, "far": 4}, generator=generator()),
            "the bottleneck of far must be an integer of 1 to 3, got 4",
        ),
        (
            lambda n: wsn.linear_bottleneck(n, sizes={"plain": 0}, generator=generator()),
            "plain must be an integer of 1 to 5, got 0",
        ),
        (
            lambda n: wsn.linear_bottleneck(n, sizes={"plain": True}, generator=generator()),
            "plain must be an integer of 1 to 5, got True",
        ),
        (
            lambda n: wsn.linear_bottleneck(n, sizes={"plain": 2, "grouped": 2}, generator=generator()),
            "grouped must be a convolution in 1 group, got one in 2",
        ),
        (
            lambda n: wsn.linear_bottleneck(n, sizes={"ntk": 2}, generator=generator()),
            "ntk must be a plain Linear or Conv layer, got a NTKLinear",
        ),
        (
            lambda n: wsn.linear_bottleneck(n, sizes={"sparse": 2}, generator=generator()),
            "the weight of sparse must be a parameter, got one that is computed already",
        ),
        (
            lambda n: wsn.widening.linear_bottleneck_sizes(n, num_weights=50, exclude=["norm"]),
            "exclude must name layers, got norm; choose from far, grouped, next",
        ),
        (
            lambda n: wsn.widening.linear_bottleneck_sizes(
                n, num_weights=70, exclude=["grouped", "ntk", "sparse", "next"], like={"plain": 3}
            ),
            "like must have the weights of each layer, got none of far",
        ),
        (
            lambda n: wsn.widening.linear_bottleneck_sizes(
                n, num_weights=90, exclude=["grouped", "ntk", "sparse", "next"]
            ),
            "num_weights must be 111 to 175 with linear bottlenecks of 1 unit to full rank, got 90",
        ),
        (
            lambda n: wsn.nonlinear_bottleneck(n, sizes={"plain": 2}, generator=generator()),
            "other than MLP and ResNet18, got a Odd; give pairs",
        ),
        (
            lambda n: wsn.nonlinear_bottleneck(n, sizes={"next": 2}, pairs=PAIRS[:1], generator=generator()),
            "sizes must name the first layers of pairs, got next; choose from plain",
        ),
        (
            lambda n: wsn.nonlinear_bottleneck(n, sizes={"plain": 8}, pairs=PAIRS[:1], generator=generator()),
            "the bottleneck of plain must be an integer of 1 to 7, got 8",
        ),
        (
            lambda n: wsn.nonlinear_bottleneck(
                n, sizes={"plain": 2}, pairs=PAIRS[1:2], generator=generator()
            ),
            "far must read the 7 outputs of plain",
        ),
        (
            lambda n: wsn.nonlinear_bottleneck(n, sizes={"plain": 2}, pairs=PAIRS[2:], generator=generator()),
            "norm must be a batch norm layer, got another",
        ),
    ],
)
def test_what_cannot_be_changed_is_named_and_left_alone(change, message):
    net = Odd()
    before = copy.deepcopy(net)
    with pytest.raises(ValueError, match=message):
        change(net)
    assert equal_bits(net, before)


PAIRS = [
    wsn.widening.LayerPair("plain", "next"),
    wsn.widening.LayerPair("plain", "far"),
    wsn.widening.LayerPair("plain", "next", ("norm",)),
]


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_between_a_pair_keeps_its_settings(affine):
    settings = {"eps": 0.25, "momentum": 0.75, "affine": affine, "track_running_stats": not affine}
    net = nn.Sequential(
        nn.Conv2d(3, 7, 1), nn.BatchNorm2d(7, **settings, dtype=torch.float64), nn.Conv2d(7, 5, 1)
    )
    pairs = [wsn.widening.LayerPair("0", "2", ("1",))]
    wsn.nonlinear_bottleneck(net, sizes={"0": 2}, pairs=pairs, generator=generator())
    norm = net[1]
    assert {name: getattr(norm, name) for name in settings} == settings
    held = [t for t in (*norm.parameters(), *norm.buffers()) if t.ndim]
    assert len(held) == 2
    assert all((t.shape, t.dtype) == ((2,), torch.float64) for t in held)


@pytest.mark.parametrize("way", ["linear", "nonlinear"])
def test_new_layers_draw_from_the_generator_alone(way):
    def made(seed: int) -> nn.Module:
        net = MLP(11, inputs=7, hidden_layers=2)
        change = getattr(wsn, f"{way}_bottleneck")
        return change(net, sizes={"hidden2": 3}, generator=generator(seed)).hidden2

    one, other, third = (made(seed) for seed in (1, 1, 2))
    assert equal_bits(one, other)
    for a, b in zip(one.parameters(), third.parameters(), strict=True):
        assert (a != b).all()


def test_specs_and_functions_agree():
    spec = wsn.LinearBottleneck(wsn.MLPSpec(width=20, inputs=64), width=40)
    with torch.device("meta"):
        wide = MLP(40, inputs=64)
    sizes = wsn.widening.linear_bottleneck_sizes(
        wide, num_weights=20 * 74, like={"hidden1": 64 * 20, "output": 200}
    )
    assert sizes == wsn.bottleneck_sizes(spec) == {"hidden1": 12, "output": 5}
    assert specs.from_dict(specs.to_dict(spec)) == spec


@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_whole_numbers_of_numpy_are_whole_numbers(kind):
    sizes, net = widening.linear_bottleneck_sizes, MLP(3000, hidden_layers=2)
    like = {"hidden1": 784 * 3000, "hidden2": 3000**2, "output": 30_000}
    expected = sizes(net, num_weights=1_000_000)
    assert sizes(net, num_weights=kind(1_000_000)) == expected
    assert sizes(net, num_weights=kind(1_000_000), like={n: kind(k) for n, k in like.items()}) == expected
    layers = {"a": 313_600, "b": 4000}
    for rule in get_args(masks.allocation.Rule):
        shapes = {"a": (400, 784), "b": (10, 400)} if rule == "erdos_renyi" else layers
        found = wsn.allocate(shapes, num_weights=kind(39_700), rule=rule)
        assert found == wsn.allocate(shapes, num_weights=39_700, rule=rule)
