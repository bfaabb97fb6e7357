"""Static masks: golden allocations, exact counts, persistence, identity at density 1."""

import copy
import io
import pickle
from fractions import Fraction
from typing import get_args

import pytest
import safetensors.torch
import torch
import torch.distributed
import torch.multiprocessing
from torch import nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrizations, parametrize
from torch.optim import swa_utils

from wsnlib import masks
from wsnlib.models import MLP, ResNet18
from wsnlib.sparse import SparseLayer, to_sparse


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def layer_sizes(width: int, classes: int) -> dict[str, int]:
    """Weights of each layer of the ResNet-18 of G21, without making them."""
    with torch.device("meta"):
        net = ResNet18(width, num_classes=classes)
    return {name: layer.weight.numel() for name, layer in masks.weight_layers(net).items()}


# -- allocation: the numbers of G21 --


@pytest.mark.parametrize(
    ("width", "ten", "hundred"),
    [
        (8, 175_192, 180_952),
        (12, 393_540, 402_180),
        (18, 884_502, 897_462),
        (40, 4_362_680, 4_391_480),
        (64, 11_164_352, 11_210_432),
    ],
)
def test_resnet18_has_the_published_number_of_weights(width, ten, hundred):
    assert sum(layer_sizes(width, 10).values()) == ten
    assert sum(layer_sizes(width, 100).values()) == hundred


FIGURE_10 = {  # width: network and layers, sparsity in %
    18: (79.84, 0, 0, 0, 45.5, 72.8, 86.4, 93.2, 0, 11.8),
    27: (90.99, 0, 20.1, 60.1, 80.0, 90.0, 95.0, 97.5, 55.1, 51.5),
    40: (95.88, 35.4, 67.7, 83.9, 91.9, 96.0, 98.0, 99.0, 81.8, 70.9),
    60: (98.16, 72.0, 86.0, 93.0, 96.5, 98.3, 99.1, 99.6, 92.1, 81.1),
    91: (99.20, 88.0, 94.0, 97.0, 98.5, 99.3, 99.6, 99.8, 96.6, 87.7),
}
FIGURE_10_LAYERS = (
    "layer1.0.conv1",
    "layer2.0.conv1",
    "layer2.0.conv2",
    "layer3.0.conv1",
    "layer3.0.conv2",
    "layer4.0.conv1",
    "layer4.0.conv2",
    "layer4.0.shortcut.0",
    "linear",
)


@pytest.mark.parametrize("width", FIGURE_10)
def test_allocation_equals_figure_10(width):
    sizes = layer_sizes(width, 100)
    kept = masks.allocate(sizes, num_weights=180_952)
    network, *layers = FIGURE_10[width]
    assert round(100 * (1 - 180_952 / sum(sizes.values())), 2) == network
    found = [f"{100 * (1 - kept[name] / sizes[name]):.1f}" for name in FIGURE_10_LAYERS]
    assert found == [f"{sparsity:.1f}" for sparsity in layers]
    first_stage = {f"{kept[name] / sizes[name]:.3f}" for name in sizes if name.startswith("layer1.")}
    assert len(first_stage) == 1
    assert sum(kept.values()) == 180_952


@pytest.mark.parametrize(
    ("base", "width", "sparse", "level", "largest"),
    [(8, 18, 8, 13_397, 13_391), (8, 64, 18, 8_898, 8_886), (18, 64, 13, 53_019, 53_010)],
)
def test_sparse_layers_end_with_the_same_number_of_weights(base, width, sparse, level, largest):
    sizes = layer_sizes(width, 10)
    kept = masks.allocate(sizes, num_weights=sum(layer_sizes(base, 10).values()))
    given = {name: kept[name] for name in kept if kept[name] < sizes[name]}
    assert len(sizes) == 21
    assert len(given) == sparse
    assert sorted(given.values()) == [largest] + [level] * (sparse - 1)
    assert sizes[min(given, key=given.__getitem__)] == max(sizes.values())


def test_every_budget_is_met_exactly_and_no_layer_is_emptied():
    sizes = {"a": 7, "b": 31, "c": 31, "d": 2, "e": 13}
    shapes = {"a": (7,), "b": (31, 1), "c": (31, 1), "d": (2, 1), "e": (13, 1)}
    for rule in get_args(masks.Rule):
        for budget in range(5, sum(sizes.values()) + 1):
            try:
                kept = masks.allocate(shapes, num_weights=budget, rule=rule)
            except ValueError:
                assert rule not in ("largest_first", "balanced")
                assert rule != "uniform" or budget < -(-84 // 2)
                continue
            assert sum(kept.values()) == budget
            assert all(1 <= kept[name] <= sizes[name] for name in sizes)
            assert list(kept) == list(sizes)


def test_uniform_allocation_is_within_one_weight_of_the_share():
    sizes = {"hidden1": 784 * 80, "output": 800}
    kept = masks.allocate(sizes, num_weights=3970, rule="uniform")
    assert all(abs(kept[name] - sizes[name] * 3970 / 63_520) < 1 for name in sizes)


def random_sizes(seed: int) -> dict[str, int]:
    sizes = torch.randint(1, 24, (1 + seed % 5,), generator=generator(seed)).tolist()
    return dict(zip("abcde", sizes, strict=False))


@pytest.mark.parametrize("seed", range(25))
def test_the_largest_first_is_a_level_that_no_layer_exceeds(seed):
    """The lowest level whose layers, cut there, hold the budget; what is too much the largest give."""
    sizes = random_sizes(seed)
    largest = sorted(sizes, key=sizes.__getitem__, reverse=True)  # stable: of equal ones the first
    for budget in range(len(sizes), sum(sizes.values()) + 1):
        level = min(n for n in range(1, 25) if sum(min(n, size) for size in sizes.values()) >= budget)
        expected = {name: min(level, size) for name, size in sizes.items()}
        excess = sum(expected.values()) - budget
        if excess < level:
            expected[largest[0]] -= excess
        else:
            for name in largest[:excess]:
                expected[name] -= 1
        assert masks.allocate(sizes, num_weights=budget) == expected


@pytest.mark.parametrize("seed", range(25))
def test_uniform_density_is_apportioned_by_the_largest_remainder(seed):
    sizes = {"fixed": 16} | random_sizes(seed)
    free = sum(sizes.values()) - 16
    for budget in range(4 + len(sizes) - 1, 4 + free + 1):
        shares = {
            name: Fraction(size * (budget - 4), free) for name, size in sizes.items() if name != "fixed"
        }
        by_remainder = sorted(shares, key=lambda name: shares[name] % 1, reverse=True)
        more = by_remainder[: budget - 4 - sum(int(share) for share in shares.values())]
        expected = {"fixed": 4} | {name: int(share) + (name in more) for name, share in shares.items()}
        if all(expected.values()):
            kept = masks.allocate(sizes, num_weights=budget, rule="uniform", density={"fixed": 0.25})
            assert kept == expected
            assert list(kept) == list(sizes)
        else:
            said = f"^num_weights must be larger for the rule 'uniform', got {budget}, which leaves none in "
            with pytest.raises(ValueError, match=said):
                masks.allocate(sizes, num_weights=budget, rule="uniform", density={"fixed": 0.25})
            assert budget < 4 + -(-free // min(sizes[name] for name in shares))


@pytest.mark.parametrize("seed", range(40))
def test_whole_kernels_change_little_and_only_what_may_change(seed):
    draw = generator(seed)
    shapes = {"a": (4, 3, 3), "b": (2, 3, 3, 3), "c": (5, 3, 1), "d": (3, 7), "e": (3, 2, 3)}
    sizes = {name: torch.Size(shape).numel() for name, shape in shapes.items()}
    kernels = {name: torch.Size(shape[2:]).numel() for name, shape in shapes.items()}
    asked = {name: int(torch.randint(1, size + 1, (), generator=draw)) for name, size in sizes.items()}
    kept = masks.whole_kernels(asked, layer_shapes=shapes)
    assert list(kept) == list(asked)
    assert sum(kept.values()) == sum(asked.values())
    for name in shapes:
        assert kernels[name] <= kept[name] <= sizes[name]
        assert kept[name] % kernels[name] == 0
    held = {name: asked[name] - asked[name] % kernels[name] or kernels[name] for name in ("a", "b")}
    kept = masks.whole_kernels(asked | held, layer_shapes=shapes, fixed=["b", "a"])
    assert {name: kept[name] for name in held} == held


def test_a_given_density_is_kept_and_the_rest_shared():
    sizes = {"a": 1000, "b": 600, "c": 100}
    kept = masks.allocate(sizes, num_weights=900, density={"c": 0.37})
    assert kept == {"a": 431, "b": 432, "c": 37}


@pytest.mark.parametrize(("density", "weights"), [(0.01, 1), (0.14, 1), (0.5, 4), (0.79, 6), (1, 7)])
def test_a_given_density_is_rounded_and_keeps_at_least_one_weight(density, weights):
    kept = masks.allocate({"a": 31, "b": 7}, num_weights=20, density={"b": density})
    assert kept == {"a": 20 - weights, "b": weights}


def test_of_equally_large_layers_the_first_gives_what_is_left_over():
    assert masks.allocate({"a": 2, "b": 31, "c": 31}, num_weights=43) == {"a": 2, "b": 20, "c": 21}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_weights": 4000}, "num_weights must be 2 to 3970, got 4000; "),
        ({"num_weights": 1}, "num_weights must be 2 to 3970, got 1; "),
        (
            {"num_weights": 100, "density": {"output": 1.5}},
            "the density of output must be > 0 and ≤ 1, got 1.5",
        ),
        (
            {"num_weights": 100, "density": {"last": 0.5}},
            "density must name layers, got 'last'; choose from hidden1, output",
        ),
        (
            {"num_weights": 3970, "density": {"output": 0.9}},
            "num_weights must leave 1 to 3920 for hidden1, got 3970, which leaves 3925 beside 45 in output; ",
        ),
    ],
)
def test_impossible_allocations_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        masks.allocate({"hidden1": 3920, "output": 50}, **arguments)


def test_a_fraction_of_a_weight_is_refused():
    with pytest.raises(TypeError, match=r"num_weights must be an integer, got 3\.5; round it"):
        masks.allocate({"a": 7}, num_weights=3.5)
    with pytest.raises(
        ValueError, match="must be larger for the rule 'uniform', got 20, which leaves none in b; "
    ):
        masks.allocate({"a": 100, "b": 2}, num_weights=20, rule="uniform")
    with pytest.raises(ValueError, match="must have Linear or Conv layers"):
        masks.allocate({}, num_weights=1)


# -- masks --


def test_masks_have_exact_counts_and_are_pinned_by_the_seed():
    mask = masks.draw_mask((3, 5, 7), num_weights=11, generator=generator(1))
    assert mask.dtype == torch.bool
    assert mask.sum() == 11
    assert torch.equal(mask, masks.draw_mask((3, 5, 7), num_weights=11, generator=generator(1)))
    assert not torch.equal(mask, masks.draw_mask((3, 5, 7), num_weights=11, generator=generator(2)))
    assert mask.flatten().nonzero().squeeze(1).tolist() == [6, 9, 11, 17, 18, 36, 40, 44, 70, 78, 104]


def test_masks_are_uniform_over_positions():
    draws, rng = 4000, generator(3)
    share = sum(masks.draw_mask((2, 3), num_weights=2, generator=rng).float() for _ in range(draws)) / draws
    standard_error = (1 / 3 * 2 / 3 / draws) ** 0.5
    assert (share - 1 / 3).abs().max() < 4 * standard_error


def test_a_mask_may_be_empty_or_full():
    assert not masks.draw_mask((3, 5), num_weights=0, generator=generator()).any()
    assert masks.draw_mask((3, 5), num_weights=15, generator=generator()).all()


def test_impossible_masks_are_named():
    with pytest.raises(ValueError, match=r"num_weights must be 0 to 6 for shape \(2, 3\), got 7; "):
        masks.draw_mask((2, 3), num_weights=7, generator=generator())


# -- masks over channels (G21, Appendix C) --


def test_channel_masks_are_whole_kernels_with_exact_counts():
    shape = (7, 5, 3, 2)
    mask = masks.draw_mask(shape, num_weights=66, pattern="channels", generator=generator(1))
    assert mask.sum() == 66
    assert mask.flatten(2).all(2).sum() == mask.flatten(2).any(2).sum() == 11
    mask[0, 0, 0, 0] ^= True  # a tensor of its own, not a view of one channel pair
    assert mask.sum() in (65, 67)
    with pytest.raises(
        ValueError, match=r"num_weights must be a multiple of 6 for whole kernels of .*, got 64; "
    ):
        masks.draw_mask(shape, num_weights=64, pattern="channels", generator=generator())


def test_channel_masks_are_uniform_over_channel_pairs():
    draws, rng = 4000, generator(3)
    options = {"num_weights": 8, "pattern": "channels", "generator": rng}
    share = sum(masks.draw_mask((2, 3, 4), **options).float() for _ in range(draws)) / draws
    assert (share - 1 / 3).abs().max() < 4 * (1 / 3 * 2 / 3 / draws) ** 0.5


def test_for_linear_layers_channel_masks_are_the_usual_ones():
    one, other = (
        masks.draw_mask((5, 7), num_weights=11, pattern=d, generator=generator(2))
        for d in ("random", "channels")
    )
    assert torch.equal(one, other)


@pytest.mark.parametrize("num_weights", [30, 97, 200, 301, 369])
def test_channel_sparsity_keeps_exactly_the_weights_asked_for(num_weights):
    net = masks.sparsify(conv_net(), num_weights=num_weights, pattern="channels", generator=generator())
    assert masks.num_weights(net) == num_weights
    for mask in masks.layer_masks(net).values():
        kernels = mask.flatten(2) if mask.ndim > 2 else mask[:, :, None]
        assert torch.equal(kernels.all(2), kernels.any(2))
    assert net(torch.randn(2, 3, 17)).shape == (2, 13)


@pytest.mark.parametrize(
    ("allocation", "rounded"),
    [
        ({"a": 100, "b": 50, "c": 10}, {"a": 99, "b": 54, "c": 7}),  # c is full and gives
        ({"a": 94, "b": 50, "c": 5}, {"a": 90, "b": 54, "c": 5}),
        ({"a": 92, "b": 46, "c": 5}, {"a": 90, "b": 45, "c": 8}),  # c takes what is less than a kernel
        ({"a": 90, "b": 4, "c": 3}, {"a": 81, "b": 9, "c": 7}),  # b keeps a kernel at least, a gives
        ({"a": 108, "b": 54, "c": 10}, {"a": 108, "b": 54, "c": 10}),
        ({"a": 90, "b": 27, "c": 4}, {"a": 90, "b": 27, "c": 4}),  # whole kernels stay as they are
        ({"a": 13, "b": 14}, {"a": 9, "b": 18}),  # b lost more
        ({"a": 14, "b": 13}, {"a": 18, "b": 9}),
        ({"a": 93, "d": 50, "b": 1}, {"a": 90, "d": 45, "b": 9}),  # nothing is missing, nothing moves
        ({"a": 14, "f": 10}, {"a": 9, "f": 15}),  # without fine layers the smaller kernels take the rest
        ({"a": 90, "d": 45, "b": 4, "c": 1}, {"a": 81, "d": 45, "b": 9, "c": 5}),  # the largest gives
        ({"a": 9, "b": 4, "c": 7}, {"a": 9, "b": 9, "c": 2}),  # a has one kernel only
        ({"a": 13, "c": 6}, {"a": 9, "c": 10}),  # c has just room enough
        ({"a": 18, "b": 4, "g": 50}, {"a": 9, "b": 9, "g": 54}),  # of whole kernels, though g is larger
        ({"e": 3, "a": 9, "b": 4, "c": 5}, {"e": 2, "a": 9, "b": 9, "c": 1}),  # c gives all but one, then e
        ({"h": 29, "a": 30}, {"h": 50, "a": 9}),  # the one sum of 25s and 9s that is 59
    ],
)
def test_an_allocation_is_rounded_to_whole_kernels(allocation, rounded):
    shapes = {
        "a": (4, 3, 3, 3),
        "b": (2, 3, 3, 3),
        "c": (2, 5),
        "d": (4, 3, 3, 3),
        "e": (3, 1),
        "f": (5, 3, 3),
        "g": (10, 10),
        "h": (6, 1, 5, 5),
    }
    assert sum(allocation.values()) == sum(rounded.values())
    assert masks.whole_kernels(allocation, layer_shapes=shapes) == rounded


@pytest.mark.parametrize("seed", range(40))
def test_whole_kernels_are_found_wherever_there_are_any(seed):
    shapes = {"a": (4, 1, 3, 3), "b": (3, 1, 5, 5), "c": (5, 1, 2, 2)}
    sums = {9 * a + 25 * b + 4 * c for a in range(1, 5) for b in range(1, 4) for c in range(1, 6)}
    sizes = {name: torch.Size(shape).numel() for name, shape in shapes.items()}
    for total in torch.randint(3, 132, (20,), generator=generator(seed)).tolist():
        allocation = masks.allocate(sizes, num_weights=total)
        if total in sums:
            kept = masks.whole_kernels(allocation, layer_shapes=shapes)
            assert sum(kept.values()) == total
            assert all(kept[n] in range(k, sizes[n] + 1, k) for n, k in {"a": 9, "b": 25, "c": 4}.items())
        else:
            with pytest.raises(ValueError, match=f"whole kernels must add up to {total} weights, got "):
                masks.whole_kernels(allocation, layer_shapes=shapes)


def test_whole_kernels_that_cannot_be_had_are_named():
    shapes = {"a": (4, 3, 3, 3), "b": (2, 3, 3, 3), "c": (2, 5)}
    with pytest.raises(ValueError, match="must add up to 18 weights, got -1 left over; "):  # c keeps one
        masks.whole_kernels({"a": 9, "b": 4, "c": 5}, layer_shapes=shapes)
    with pytest.raises(ValueError, match="whole kernels must add up to 97 weights, got -?[0-9]+ left over; "):
        masks.whole_kernels({"a": 96, "c": 1}, layer_shapes=shapes, fixed=["c"])
    with pytest.raises(
        ValueError, match="weights kept in a must be a multiple of 9 for whole kernels, got 95; "
    ):
        masks.whole_kernels({"a": 95, "c": 5}, layer_shapes=shapes, fixed=["a"])
    net = nn.Sequential(nn.Conv1d(5, 7, 3), nn.Linear(11, 13))
    with pytest.raises(
        ValueError, match="weights kept in 0 must be a multiple of 3 for whole kernels, got 10; "
    ):
        masks.sparsify(net, allocation={"0": 10}, pattern="channels", generator=generator())
    assert masks.layer_masks(net) == {}


# -- sparsify --


class ConvNet(nn.Module):
    """Every kind of layer that is counted, and some that are not."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(3, 5, 3, padding=1)
        self.norm = nn.BatchNorm1d(5)
        self.conv2 = nn.Conv2d(5, 7, (1, 3), bias=False)
        self.conv3 = nn.Conv3d(7, 11, 1)
        self.linear = nn.Linear(11, 13)

    def forward(self, x):
        x = self.norm(self.conv1(x)).relu()
        x = self.conv2(x[:, :, None]).relu()
        x = self.conv3(x[:, :, None]).relu()
        return self.linear(x.mean((2, 3, 4)))


def conv_net(seed: int = 0) -> ConvNet:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ConvNet()


@pytest.mark.parametrize("num_weights", [4, 97, 300, 369])
def test_any_module_keeps_exactly_the_weights_asked_for(num_weights):
    net = masks.sparsify(conv_net(), num_weights=num_weights, generator=generator())
    total = 3 * 5 * 3 + 5 * 7 * 3 + 7 * 11 + 11 * 13
    assert total == 370
    assert masks.num_weights(net) == num_weights
    assert masks.connectivity(net) == num_weights / total
    assert sum(int((layer.weight != 0).sum()) for layer in masks.weight_layers(net).values()) == num_weights
    assert net(torch.randn(2, 3, 17)).shape == (2, 13)


def test_density_one_is_the_dense_network_bit_for_bit():
    dense, same = conv_net(), masks.sparsify(conv_net(), num_weights=370, generator=generator())
    x = torch.randn(2, 3, 17)
    assert list(same.state_dict()) == list(dense.state_dict())
    assert torch.equal(same(x), dense(x))


def test_the_same_seed_gives_the_same_network():
    a, b = (masks.sparsify(conv_net(), num_weights=100, generator=generator(5)) for _ in range(2))
    assert all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )
    assert {n: int(m.sum()) for n, m in masks.layer_masks(a).items()} == masks.allocate(
        {n: layer.weight.numel() for n, layer in masks.weight_layers(conv_net()).items()}, num_weights=100
    )


OPTIMISERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1, momentum=0.9),
    "rprop": lambda p: torch.optim.Rprop(p, lr=0.1),
}


def train_steps(net: nn.Module, optimiser: torch.optim.Optimizer, steps: int = 3) -> None:
    for seed in range(steps):
        x = torch.randn(5, 3, 17, generator=generator(seed))
        optimiser.zero_grad()
        net(x).square().mean().backward()
        optimiser.step()


@pytest.mark.parametrize("name", OPTIMISERS)
def test_removed_weights_stay_zero_whatever_happens(name, tmp_path):
    net = masks.sparsify(conv_net(), num_weights=100, generator=generator())
    before = masks.layer_masks(net)
    start = {n: layer.weight.clone() for n, layer in masks.weight_layers(net).items()}
    train_steps(net, OPTIMISERS[name](net.parameters()))

    torch.save(net.state_dict(), tmp_path / "net.pt")
    other = masks.sparsify(conv_net(1), num_weights=100, generator=generator(1))
    assert not torch.equal(masks.layer_masks(other)["linear"], before["linear"])
    other.load_state_dict(torch.load(tmp_path / "net.pt", weights_only=True))
    copied = copy.deepcopy(net)
    train_steps(copied, OPTIMISERS[name](copied.parameters()))

    for changed in (net, other, copied):
        for layer_name, mask in masks.layer_masks(changed).items():
            weight = changed.get_submodule(layer_name).weight
            assert torch.equal(mask, before[layer_name])
            assert (weight[~mask] == 0).all()
            assert not torch.equal(weight[mask], start[layer_name][mask])
    x = torch.randn(2, 3, 17)
    net.eval(), other.eval()
    assert torch.equal(net(x), other(x))


def test_optimiser_state_follows_the_weights_present():
    net = masks.sparsify(MLP(640), num_weights=3970, generator=generator())
    optimiser = torch.optim.Adam(net.parameters())
    net(torch.randn(2, 784)).sum().backward()
    optimiser.step()
    entries = sum(state["exp_avg"].numel() for state in optimiser.state.values())
    assert entries == 3970 + 640 + 10
    assert sum(p.numel() for p in net.parameters()) == entries


def test_gradients_are_those_of_the_masked_dense_network():
    sparse = masks.sparsify(conv_net().double(), num_weights=150, generator=generator())
    dense = masks.densify(copy.deepcopy(sparse))
    x = torch.randn(3, 3, 17, dtype=torch.float64)
    assert torch.equal(sparse(x), dense(x))
    sparse(x).square().sum().backward()
    dense(x).square().sum().backward()
    assert masks.layer_masks(dense) == {}
    for name, mask in masks.layer_masks(sparse).items():
        values = sparse.get_submodule(f"{name}.parametrizations.weight").original
        torch.testing.assert_close(values.grad, dense.get_submodule(name).weight.grad[mask])


def test_a_frozen_layer_stays_frozen_when_made_dense():
    net = masks.sparsify(conv_net(), num_weights=100, generator=generator()).requires_grad_(False)
    assert not any(p.requires_grad for p in masks.densify(net).parameters())


def test_released_initialisation_divides_by_the_root_of_the_density():
    net, dense = MLP(100), MLP(100)
    dense.load_state_dict(net.state_dict())
    masks.sparsify(net, allocation={"hidden1": 784 * 25}, generator=generator())
    mask = masks.layer_masks(net)["hidden1"]
    assert torch.equal(net.hidden1.weight[mask], dense.hidden1.weight[mask] * 2)
    assert torch.equal(net.hidden1.bias, dense.hidden1.bias * 2)
    assert torch.equal(net.output.weight, dense.output.weight)
    assert net.hidden1.weight.abs().max().item() == pytest.approx((784 * 0.25) ** -0.5, rel=1e-3)


def test_unscaled_initialisation_keeps_the_values():
    net = MLP(11)
    weight, bias = net.hidden1.weight.detach().clone(), net.hidden1.bias.detach().clone()
    masks.sparsify(net, num_weights=500, initialisation="unscaled", generator=generator())
    mask = masks.layer_masks(net)["hidden1"]
    assert torch.equal(net.hidden1.weight[mask], weight[mask])
    assert torch.equal(net.hidden1.bias, bias)


def test_excluded_layers_stay_dense_and_count():
    net = masks.sparsify(conv_net(), num_weights=200, exclude=["conv1", "linear"], generator=generator())
    assert masks.num_weights(net) == 200
    assert set(masks.layer_masks(net)) == {"conv2", "conv3"}
    assert masks.density(net)["linear"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_weights": 371}, "num_weights must be 4 to 370, got 371"),
        (
            {"num_weights": 100, "exclude": ["norm"]},
            "norm must be a layer, got none; choose from conv1, conv2, conv3, linear",
        ),
        (
            {"num_weights": 140, "exclude": ["linear"]},
            "must leave 3 to 227 for conv1, conv2, conv3, got 140, which leaves -3 beside 143 in linear",
        ),
        ({"allocation": {"conv1": 46}}, "weights kept in conv1 must be an integer of 1 to 45, got 46; "),
        ({"allocation": {"conv1": 0}}, "weights kept in conv1 must be an integer of 1 to 45, got 0; "),
        ({"allocation": {"conv1": 7.0}}, r"weights kept in conv1 must be an integer of 1 to 45, got 7\.0; "),
        ({"allocation": {"conv1": True}}, "weights kept in conv1 must be an integer of 1 to 45, got True; "),
        ({"allocation": {"conv1": 3}, "exclude": ["conv1"]}, "must not be in the allocation, got conv1"),
        ({}, "one of num_weights and allocation must be given, got neither"),
    ],
)
def test_bad_requests_are_named_and_change_nothing(arguments, message):
    net = conv_net()
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match=message):
        masks.sparsify(net, **arguments, generator=generator())
    assert list(net.state_dict()) == list(before)
    assert all(torch.equal(net.state_dict()[k], v) for k, v in before.items())


def test_shared_and_parametrised_weights_are_refused():
    tied = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5))
    tied[1].weight = tied[0].weight
    assert masks.num_weights(tied) == 25
    with pytest.raises(
        ValueError, match=r"must be its own, got one tensor for 0\.weight and 1\.weight; exclude 0"
    ):
        masks.sparsify(tied, num_weights=20, generator=generator())
    net = masks.sparsify(conv_net(), num_weights=100, generator=generator())
    with pytest.raises(
        ValueError, match="the weight of conv1 must be a parameter, got one that is computed already"
    ):
        masks.sparsify(net, num_weights=50, generator=generator())


@pytest.mark.parametrize("asked", [{"num_weights": 1000}, {"allocation": {"1": 100}}])
def test_a_sparse_layer_that_is_to_keep_all_its_weights_is_refused(asked):
    net = nn.Sequential(nn.Linear(100, 100), nn.Linear(100, 1))
    masks.sparsify(net, allocation={"1": 50}, generator=generator())
    before = masks.num_weights(net)
    with pytest.raises(ValueError, match="the weight of 1 must be a parameter, got one that is computed"):
        masks.sparsify(net, **asked, generator=generator())
    assert masks.num_weights(net) == before
    assert (
        masks.num_weights(masks.sparsify(net, num_weights=550, exclude=["1"], generator=generator())) == 550
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_same_seed_gives_the_same_mask_on_a_gpu():
    cpu = masks.sparsify(conv_net(), num_weights=100, generator=generator())
    gpu = masks.sparsify(conv_net().cuda(), num_weights=100, generator=generator())
    for name, mask in masks.layer_masks(cpu).items():
        assert torch.equal(mask, masks.layer_masks(gpu)[name].cpu())


# -- where the weights are stays what it is --

BOTH_FORMS = pytest.mark.parametrize("native", [False, True], ids=["masked", "native"])
KEY = "0.parametrizations.weight.0."
X = torch.randn(3, 67, generator=generator())


def mlp(native: bool, *, seed: int = 0, width: int = 47, num_weights: int = 997) -> nn.Sequential:
    """Two sparse layers in either form; the seed draws values and masks."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(67, width), nn.BatchNorm1d(width), nn.Linear(width, 53, bias=False))
    masks.sparsify(net, num_weights=num_weights, generator=generator(seed))
    return to_sparse(net.eval()) if native else net.eval()


def same_masks(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(masks.layer_masks(a).values(), masks.layer_masks(b).values(), strict=True)
    return [torch.equal(x, y) for x, y in pairs] == [True] * 2


AVERAGES = {
    "default": {},
    "swa": {"avg_fn": swa_utils.get_swa_avg_fn()},
    "swa, many at once": {"multi_avg_fn": swa_utils.get_swa_multi_avg_fn()},
    "ema": {"avg_fn": swa_utils.get_ema_avg_fn(0.9999)},
    "ema, many at once": {"multi_avg_fn": swa_utils.get_ema_multi_avg_fn(0.9999)},
    "ema of half": {"avg_fn": swa_utils.get_ema_avg_fn(0.5)},
    "own": {"avg_fn": lambda averaged, current, _: 0.9 * averaged + 0.1 * current},
}


@BOTH_FORMS
@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize("name", AVERAGES)
def test_averages_of_a_network_keep_its_masks(name, use_buffers, native):
    net = mlp(native)
    del net[1]  # the counter of batch norm is what some of these averages cannot take
    average = swa_utils.AveragedModel(net, use_buffers=use_buffers, **AVERAGES[name])
    other = copy.deepcopy(net)
    for parameter in other.parameters():
        parameter.data += 1
    for source in (net, net, other, net):
        average.update_parameters(source)
    assert same_masks(average, net)
    difference = (average.module[0].weight - net[0].weight)[masks.layer_masks(net)["0"]]
    assert difference.min() >= -1e-6 and difference.max() < 1
    torch.testing.assert_close(difference, difference.mean().expand_as(difference), rtol=1e-3, atol=1e-5)
    assert average(X).isfinite().all()


@BOTH_FORMS
def test_averages_over_the_tensors_of_a_state_dict_keep_the_masks(native):
    net, average = mlp(native), mlp(native)
    for mean, now in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
        mean.copy_(0.9999 * mean + 0.0001 * now)
    assert same_masks(average, net)
    torch.testing.assert_close(average(X), net(X))


@BOTH_FORMS
@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16, torch.float64, torch.float8_e4m3fn], ids=str)
def test_casts_of_a_network_or_its_state_keep_the_masks(dtype, native):
    net, other = mlp(native), mlp(native, seed=1)
    other.load_state_dict({name: tensor.to(dtype) for name, tensor in net.state_dict().items()})
    assert same_masks(other, net)
    if dtype.itemsize > 1:
        assert same_masks(copy.deepcopy(net).to(dtype), net)
        assert same_masks(copy.deepcopy(net).to(dtype).float(), net)


@BOTH_FORMS
@pytest.mark.parametrize("share", [0.9999, 0.5, 0.1])
def test_states_of_one_mask_can_be_blended_and_of_two_are_refused(share, native):
    net, other, target = mlp(native), mlp(native, seed=1), mlp(native, seed=2)

    def blend(a, b):
        return {name: share * a[name] + (1 - share) * b[name] for name in a}

    target.load_state_dict(blend(net.state_dict(), net.state_dict()))
    assert same_masks(target, net)
    with pytest.raises(
        RuntimeError, match=r"0\.mask must have \d+ weights in the shape \(47, 67\), got \d+ in"
    ):
        target.load_state_dict(blend(net.state_dict(), other.state_dict()))
    assert same_masks(target, net)


@BOTH_FORMS
@pytest.mark.parametrize("shape", [(67, 47), (47 * 67,), (48, 67), (47, 67, 1)])
@pytest.mark.parametrize("strict", [True, False])
def test_a_mask_of_another_shape_is_refused(strict, shape, native):
    net, expected = mlp(native), mlp(native)
    present = int(masks.layer_masks(net)["0"].sum())
    state = net.state_dict()
    state[KEY + "mask"] = masks.draw_mask(shape, num_weights=present, generator=generator())
    with pytest.raises(RuntimeError, match=rf"{KEY}mask must have {present} weights in the shape \(47, 67\)"):
        net.load_state_dict(state, strict=strict)
    assert same_masks(net, expected) and torch.equal(net(X), expected(X))
    with pytest.raises(ValueError, match=r"a mask must be of the weight's shape \(47, 67\), got"):
        net[0].parametrizations.weight[0].mask = state[KEY + "mask"]
    with pytest.raises(ValueError, match=r"the weight of this layer must be of shape \(47, 67\), got"):
        net[0].weight = torch.zeros(shape)


@BOTH_FORMS
def test_a_state_of_another_width_or_number_of_weights_is_refused(native):
    def net(width, kept):
        layers = nn.Sequential(nn.Linear(67, width, bias=False), nn.Linear(width, 53, bias=False))
        masks.sparsify(layers, allocation={"0": kept, "1": 31}, generator=generator())
        return to_sparse(layers) if native else layers

    for width, kept in ((47, 31), (37, 31), (41, 29), (41, 37)):
        with pytest.raises(
            RuntimeError, match=r"0\.parametrizations\.weight\.0\.mask must have 31 weights in"
        ):
            net(41, 31).load_state_dict(net(width, kept).state_dict())


@BOTH_FORMS
def test_a_state_without_a_mask_is_incomplete(native):
    net = mlp(native)
    state = {name: tensor for name, tensor in net.state_dict().items() if not name.endswith("mask")}
    with pytest.raises(RuntimeError, match=rf"Missing key\(s\) in state_dict: .{KEY}mask"):
        net.load_state_dict(state)
    missing, unexpected = net.load_state_dict(state | {KEY + "masks": torch.ones(1)}, strict=False)
    assert missing == [KEY + "mask", KEY.replace("0", "2", 1) + "mask"] and unexpected == [KEY + "masks"]


def as_before(net: nn.Module) -> dict[str, torch.Tensor]:
    """The state dict with positions in place of masks."""
    return {
        name.replace(".mask", ".index"): tensor.flatten().nonzero().squeeze(1)
        if name.endswith("mask")
        else tensor
        for name, tensor in net.state_dict().items()
    }


@BOTH_FORMS
def test_a_state_with_positions_is_read_where_they_are_those_of_the_layer_itself(native):
    net, trained = mlp(native), mlp(native)
    trained[0].bias.data += 1
    state = as_before(trained)
    assert KEY + "index" in state
    net.load_state_dict(state)
    assert torch.equal(net(X), trained(X))
    for changed in (state[KEY + "index"].half(), state[KEY + "index"] + 1, state[KEY + "index"][1:]):
        with pytest.raises(RuntimeError, match=rf"{KEY}index must be the positions of this layer's own mask"):
            net.load_state_dict(state | {KEY + "index": changed})
    with pytest.raises(RuntimeError, match=rf"put the bool mask of shape \(47, 67\) there as {KEY}mask"):
        mlp(native, seed=1).load_state_dict(state)


def test_a_mask_pickled_with_its_positions_as_a_buffer_is_read():
    mask = masks.draw_mask((5, 7), num_weights=11, generator=generator())
    saved = masks.StaticMask(mask)
    state = nn.Module().__dict__ | {"shape": mask.shape, "_buffers": {"index": saved.index}}
    old = masks.StaticMask.__new__(masks.StaticMask)
    old.__setstate__(state)
    assert torch.equal(old.mask, mask) and list(old.state_dict()) == ["mask"]
    assert [name for name, _ in old.named_buffers()] == ["witness"]
    assert torch.equal(old(torch.ones(11)), mask.float())


def pickled(net):
    return pickle.loads(pickle.dumps(net))


def saved(net):
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def through_safetensors(net):
    other = mlp(isinstance(net[0], SparseLayer), seed=1)
    other.load_state_dict(safetensors.torch.load(safetensors.torch.save(net.state_dict())))
    return other


def emptied_and_loaded(net):
    other = copy.deepcopy(net).to("meta").to_empty(device="cpu")
    other.load_state_dict(net.state_dict())
    return other


def assigned(net):
    other = copy.deepcopy(net).to("meta")
    other.load_state_dict(net.state_dict(), assign=True)
    return other


def copied_and_pickled(net):
    return pickled(copy.deepcopy(pickled(net)))


WAYS = [
    copy.deepcopy, pickled, saved, through_safetensors, emptied_and_loaded, assigned, copied_and_pickled,
    nn.DataParallel,
]  # fmt: skip


@BOTH_FORMS
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_however_a_network_travels_it_arrives_whole_and_in_its_form(way, native):
    net = mlp(native)
    expected = net(X)
    other = way(net)
    assert torch.equal(other(X), expected) and same_masks(other, net)
    inner = other.module if way is nn.DataParallel else other
    assert isinstance(inner[0], SparseLayer) == native
    assert [name for name, _ in inner.named_parameters()] == [name for name, _ in net.named_parameters()]
    assert list(inner.state_dict()) == list(net.state_dict())
    inner(X).sum().backward()
    assert all(p.grad is not None for p in inner.parameters())


def test_a_layer_that_has_more_than_a_mask_is_not_pickled():
    net = mlp(False)
    parametrize.register_parametrization(net[0], "bias", nn.Identity())
    with pytest.raises(RuntimeError, match="Serialization of parametrized modules is only supported through"):
        pickle.dumps(net)


@BOTH_FORMS
def test_a_state_dict_in_place_of_parameters_brings_its_masks_for_one_call(native):
    net, other = mlp(native), mlp(native, seed=1)
    expected = net(X), other(X)
    assert torch.equal(functional_call(net, other.state_dict(), (X,)), expected[1])
    assert torch.equal(net(X), expected[0])


REFUSED = pytest.raises(
    RuntimeError, match="the buffers of a sparse layer must be those of its own mask, got"
)


@BOTH_FORMS
def test_values_that_are_copied_without_their_mask_are_noticed(native):
    net, other = mlp(native), mlp(native, seed=1)
    average = swa_utils.AveragedModel(net)
    average(X)
    average.update_parameters(other)
    with REFUSED:
        average(X)
    average.module.load_state_dict(other.state_dict())
    assert torch.equal(average(X), other(X))
    with REFUSED:
        functional_call(net, dict(other.named_parameters()) | dict(other.named_buffers()), (X,))
    if not native:
        del net[1], other[1]
        stacked = stack_module_state([net, other])
        with REFUSED:
            vmap(lambda *state: functional_call(net, state, (X,)))(*stacked)
    empty = net.to("meta").to_empty(device="cpu")
    for buffer in empty.buffers():
        buffer.fill_(3)  # the memory may be what was given back, and hold what it held
    with REFUSED:
        empty(X)


@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf"
)  # torch.compile looks
@BOTH_FORMS
def test_compiled_and_exported_networks_have_the_same_masks(native):
    net = mlp(native)
    expected = net(X)
    exported = torch.export.export(mlp(native), (X,)).module()
    torch.testing.assert_close(exported(X), expected)
    compiled = torch.compile(copy.deepcopy(net), backend="aot_eager", fullgraph=not native)
    torch.testing.assert_close(compiled(X), expected)
    other = mlp(native, seed=1)
    compiled.load_state_dict({f"_orig_mod.{name}": tensor for name, tensor in other.state_dict().items()})
    torch.testing.assert_close(compiled(X), other(X))


def in_two_processes(rank: int, file: str, nets: list[nn.Module], results: list[torch.Tensor]) -> None:
    """Steps of each network on other inputs in each process; a network of another mask last."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    for given, result in zip(nets, results, strict=True):
        net = copy.deepcopy(given)  # what is given is memory of both processes
        together = DistributedDataParallel(net)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
        for step in range(3):
            optimizer.zero_grad()
            together(torch.randn(3, 67, generator=generator(2 * step + rank))).square().mean().backward()
            optimizer.step()
        result[rank] = net[0].weight.detach()
    other = DistributedDataParallel(mlp(False, seed=rank))
    try:
        other.module(X)
        noticed = False
    except RuntimeError:
        noticed = True
    assert noticed == (rank == 1)  # whose values are now those of the first
    torch.distributed.destroy_process_group()


def test_masks_are_the_same_in_other_processes_and_in_distributed_training(tmp_path):
    nets = [mlp(False), mlp(True)]
    expected = []
    for net in copy.deepcopy(nets):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
        for step in range(3):
            inputs = torch.cat([torch.randn(3, 67, generator=generator(2 * step + rank)) for rank in (0, 1)])
            optimizer.zero_grad()
            net(inputs).square().mean().backward()
            optimizer.step()
        expected.append(net[0].weight.detach())
    results = [torch.zeros(2, 47, 67).share_memory_() for _ in nets]
    arguments = (str(tmp_path / "meeting"), nets, results)
    torch.multiprocessing.spawn(in_two_processes, arguments, nprocs=2)
    for found, weight in zip(results, expected, strict=True):
        assert torch.equal(found[0], found[1])
        assert torch.equal(found[0] != 0, masks.layer_masks(nets[0])["0"])
        torch.testing.assert_close(found[0], weight)


@BOTH_FORMS
def test_networks_made_in_inference_mode_work(native):
    with torch.inference_mode():
        assert torch.equal(mlp(native)(X), mlp(native)(X))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@BOTH_FORMS
def test_masks_go_to_a_gpu_and_back(native):
    net = mlp(native)
    moved = copy.deepcopy(net).cuda()
    assert moved[0].parametrizations.weight[0].index.is_cuda
    torch.testing.assert_close(moved(X.cuda()).cpu(), net(X))
    torch.testing.assert_close(nn.DataParallel(moved)(X).cpu(), net(X))
    assert same_masks(moved.cpu(), net)


def test_counting_computes_no_weight():
    """That of a spectral norm takes a step of its iteration whenever it is read in training."""
    layers = [*(nn.Linear(7, 5) for _ in range(5)), nn.Conv2d(4, 6, (3, 2), groups=2), nn.Conv1d(5, 3, 2)]
    net = nn.Sequential(*map(parametrizations.spectral_norm, layers)).train()
    before = copy.deepcopy(net.state_dict())
    assert masks.num_weights(net) == 5 * 35 + 6 * 2 * 6 + 3 * 5 * 2
    assert masks.connectivity(net) == 1
    assert masks.density(net) == dict.fromkeys("0123456", 1)
    assert masks.layer_masks(net) == {}
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_layer_whose_bias_is_computed_has_a_weight_that_counts():
    net = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3))
    parametrize.register_parametrization(net[0], "bias", nn.Identity())
    assert masks.num_weights(net) == 56
    assert masks.layer_masks(net) == {}
    with pytest.raises(ValueError, match="the bias of 0 must be a parameter, got one that is computed"):
        masks.sparsify(net, num_weights=20, generator=generator())
    masks.sparsify(net, num_weights=20, initialisation="unscaled", generator=generator())
    assert masks.num_weights(net) == 20


def test_layers_with_weights_that_are_not_counted_are_named_once_a_model():
    net = nn.ModuleDict({"in": nn.Embedding(7, 5), "lstm": nn.LSTM(5, 3), "out": nn.Linear(5, 7)})
    with pytest.warns(UserWarning, match="the weights of in") as said:
        masks.num_weights(net)
    assert [str(warning.message) for warning in said] == [
        "the weights of in (Embedding), lstm (LSTM) are neither counted nor made sparse (of an attention, its "
        "input projections): Linear and Conv layers are"
    ]
    assert masks.num_weights(net) == 35  # a second warning would be an error
    with pytest.warns(UserWarning, match=r"the weights of the model \(Bilinear\) are neither"):
        masks.num_weights(nn.Bilinear(2, 3, 5))
    tied = nn.ModuleDict({"in": nn.Embedding(7, 5), "out": nn.Linear(5, 7)})
    tied["in"].weight = tied["out"].weight
    assert masks.num_weights(tied) == 35


def test_a_network_without_memory_is_made_sparse_where_it_is():
    with torch.device("meta"):
        net = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3))
    masks.sparsify(net, num_weights=20, generator=generator())
    assert masks.num_weights(net) == 20
    assert {t.device.type for t in (*net.parameters(), *net.buffers())} == {"meta"}
    assert net(torch.empty(2, 5, device="meta")).shape == (2, 3)
    with torch.device("meta"):
        tied = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5))
        mask = masks.draw_mask((5, 7), num_weights=11, generator=generator())
    assert torch.equal(mask, masks.draw_mask((5, 7), num_weights=11, generator=generator()))
    tied[1].weight = tied[0].weight
    with pytest.raises(
        ValueError, match="the weight of 0 must be its own, got one tensor for 0.weight and 1"
    ):
        masks.sparsify(tied, allocation={"0": 7}, generator=generator())


def test_weights_decay_and_biases_do_not():
    net = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Linear(7, 3), nn.Linear(3, 3))
    masks.sparsify(net, allocation={"0": 11}, generator=generator())
    for made in (net, to_sparse(copy.deepcopy(net))):
        weights = [made[0].parametrizations.weight.original, made[2].weight, made[3].weight]
        others = [made[0].bias, made[1].weight, made[1].bias, made[2].bias, made[3].bias]
        groups = masks.decay_groups(made, weight_decay=0.125)
        assert [set(group) for group in groups] == [{"params", "weight_decay"}] * 2
        assert [group["weight_decay"] for group in groups] == [0.125, 0.0]
        for group, expected in zip(groups, (weights, others), strict=True):
            assert {id(p) for p in group["params"]} == {id(p) for p in expected}
            assert len(group["params"]) == len(expected)
    (only,) = masks.decay_groups(nn.Linear(3, 2, bias=False), weight_decay=0.5)
    assert only["weight_decay"] == 0.5
    (only,) = masks.decay_groups(nn.BatchNorm1d(3), weight_decay=0.5)
    assert only["weight_decay"] == 0.0
