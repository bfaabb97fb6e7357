"""What defines each rule of allocation and each pattern of masks that later papers propose."""

from typing import get_args

import pytest
import torch
from torch import nn

import wsnlib as wsn
from wsnlib import masks

SHAPES = {"a": (7, 5, 3, 3), "b": (11, 7, 3, 3), "c": (13, 11), "d": (10, 13)}
SIZES = {name: torch.Size(shape).numel() for name, shape in SHAPES.items()}
BUDGETS = (61, 127, 241, 483, 907, sum(SIZES.values()))
LINEAR = (23, 31)
CONV = (11, 5, 3, 2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("budget", BUDGETS)
def test_erdos_renyi_kernel_densities_are_sum_over_product_of_the_dimensions(budget):
    kept = masks.allocate(SHAPES, num_weights=budget, rule="erdos_renyi")
    assert sum(kept.values()) == budget
    sparse = [name for name in SHAPES if kept[name] < SIZES[name]]
    constants = [kept[n] / SIZES[n] / (sum(SHAPES[n]) / SIZES[n]) for n in sparse]
    for name, constant in zip(sparse, constants, strict=True):
        assert abs(kept[name] - constants[0] * sum(SHAPES[name])) <= 1 + sum(SHAPES[name]) / sum(
            SHAPES[sparse[0]]
        )
        assert constant > 0
    # the layers that are full would have had more than all
    for name in set(SHAPES) - set(sparse):
        assert not constants or constants[0] * sum(SHAPES[name]) >= SIZES[name] - 1


@pytest.mark.parametrize("budget", BUDGETS)
def test_balanced_ratios_are_the_largest_first_to_within_a_weight(budget):
    balanced = masks.allocate(SIZES, num_weights=budget, rule="balanced")
    sparse = {kept for name, kept in balanced.items() if kept < SIZES[name]}
    assert not sparse or max(sparse) - min(sparse) <= 1
    largest_first = masks.allocate(SIZES, num_weights=budget)
    remainder = len(sparse) and max(len(SIZES), 1)  # comes off the largest layer at once, or off one by one
    assert all(abs(balanced[n] - largest_first[n]) <= max(1, remainder) for n in SIZES)


@pytest.mark.parametrize("budget", BUDGETS[1:])
def test_pyramidal_densities_are_powers_of_the_first(budget):
    kept = masks.allocate(SIZES, num_weights=budget, rule="pyramidal")
    q = kept["a"] / SIZES["a"]
    for power, name in enumerate(SIZES, start=1):
        error = power * q ** (power - 1) / SIZES["a"] * SIZES[name]
        assert abs(kept[name] - SIZES[name] * q**power) <= 1 + error


def test_rules_that_cannot_be_had_are_named():
    with pytest.raises(ValueError, match=r"rule must be one of 'largest_first', .*, got 'erk'"):
        masks.allocate(SIZES, num_weights=100, rule="erk")
    with pytest.raises(
        ValueError, match=r"must be the shapes of weights .* got a number for a, b, c, d; give"
    ):
        masks.allocate(SIZES, num_weights=100, rule="erdos_renyi")
    with pytest.raises(
        ValueError, match=r"must be larger for the rule 'pyramidal', got 4, which leaves none"
    ):
        masks.allocate(SIZES, num_weights=4, rule="pyramidal")


@pytest.mark.parametrize("pattern", ["constant_fan_in", "balanced"])
def test_no_unit_is_preferred_for_the_weights_that_are_left_over(pattern):
    draws, rows, over = 600, 7, 3
    masks_drawn = [
        masks.draw_mask((rows, 13), num_weights=2 * rows + over, pattern=pattern, generator=generator(seed))
        for seed in range(draws)
    ]
    more = sum((mask.sum(1) == 3).int() for mask in masks_drawn)
    expected, deviation = draws * over / rows, (draws * over / rows * (1 - over / rows)) ** 0.5
    assert (more - expected).abs().max() < 4 * deviation


@pytest.mark.parametrize("shape", [LINEAR, CONV])
@pytest.mark.parametrize("count", [0, 1, 97, 211, 329])
@pytest.mark.parametrize("pattern", ["constant_fan_in", "balanced"])
def test_every_unit_reads_as_many_inputs_or_one_more(shape, count, pattern):
    mask = masks.draw_mask(shape, num_weights=count, pattern=pattern, generator=generator(3)).flatten(1)
    assert mask.sum() == count
    assert mask.sum(1).max() - mask.sum(1).min() <= 1
    if pattern == "balanced":
        assert mask.sum(0).max() - mask.sum(0).min() <= 1


def test_a_constant_fan_in_is_uniform_over_the_inputs():
    draws, rng = 3000, generator(5)
    options = {"num_weights": 6, "pattern": "constant_fan_in", "generator": rng}
    share = sum(masks.draw_mask((3, 5), **options).float() for _ in range(draws)) / draws
    assert (share - 2 / 5).abs().max() < 4 * (2 / 5 * 3 / 5 / draws) ** 0.5


@pytest.mark.parametrize("count", [1, 16, 97, 640, LINEAR[0] * LINEAR[1]])
def test_blocks_are_whole_but_for_one(count):
    mask = masks.draw_mask(LINEAR, num_weights=count, pattern="blocks", generator=generator(7))
    assert mask.sum() == count
    blocks = [b for rows in mask.split(4) for b in rows.split(4, 1)]
    assert sum(bool(b.any()) and not bool(b.all()) for b in blocks) <= 1


@pytest.mark.parametrize("pattern", get_args(masks.Pattern))
def test_one_seed_gives_one_mask_of_a_pattern(pattern):
    def draw(seed):
        return masks.draw_mask(CONV, num_weights=60, pattern=pattern, generator=generator(seed))

    with torch.device("meta"):  # whatever the default device is
        other = draw(1)
    assert torch.equal(draw(1), other) and not torch.equal(draw(1), draw(2))


@pytest.mark.parametrize("allocation", get_args(masks.Rule))
@pytest.mark.parametrize("pattern", ["random", "constant_fan_in", "balanced", "blocks"])
def test_sparsify_shares_by_a_rule_and_draws_a_pattern(allocation, pattern):
    net = nn.Sequential(nn.Conv2d(5, 7, 3), nn.Conv2d(7, 11, 3), nn.Flatten(), nn.Linear(11, 13))
    shapes = {name: tuple(layer.weight.shape) for name, layer in masks.weight_layers(net).items()}
    wsn.sparsify(net, num_weights=400, allocation=allocation, pattern=pattern, generator=generator())
    kept = masks.allocate(shapes, num_weights=400, rule=allocation)
    found = {
        name: round(value * torch.Size(shapes[name]).numel()) for name, value in wsn.density(net).items()
    }
    assert found == kept
    for mask in masks.layer_masks(net).values():
        fan_in = mask.flatten(1).sum(1)
        assert pattern not in ("constant_fan_in", "balanced") or fan_in.max() - fan_in.min() <= 1


def test_a_rule_leaves_excluded_layers_dense():
    net = nn.Sequential(nn.Linear(31, 7), nn.Linear(7, 11))
    wsn.sparsify(net, num_weights=177, allocation="erdos_renyi", exclude=["1"], generator=generator())
    assert wsn.density(net) == {"0": 100 / 217, "1": 1.0}


@pytest.mark.parametrize("rule", [wsn.ErdosRenyi(), wsn.Balanced(), wsn.Pyramidal()])
def test_a_spec_names_a_rule(rule):
    spec = wsn.StaticSparsity(wsn.MLPSpec(width=5, inputs=31, outputs=7), width=17, allocation=rule)
    kept = masks.allocate({"hidden1": (17, 31), "output": (7, 17)}, num_weights=190, rule=rule.rule)
    assert wsn.weights_per_layer(spec) == kept
    assert wsn.num_weights(wsn.build(spec)) == 190


def test_a_spec_names_a_pattern_and_the_random_one_has_no_other_key():
    base = wsn.MLPSpec(width=5, inputs=31, outputs=7)
    spec = wsn.PatternedSparsity(base, width=17, pattern="constant_fan_in")
    fan_in = masks.layer_masks(wsn.build(spec))["hidden1"].sum(1)
    assert set(fan_in.tolist()) == {5, 6}
    assert wsn.spec_key(spec) != wsn.spec_key(wsn.StaticSparsity(base, width=17))
    with pytest.raises(
        ValueError, match=r"PatternedSparsity.pattern must be one of 'constant_fan_in', .* got 'x'"
    ):
        wsn.PatternedSparsity(base, width=17, pattern="x")


def test_a_custom_network_takes_the_rules_that_need_shapes():
    base, wide = (
        wsn.CustomSpec("torch.nn.Linear", options={"in_features": 31, "out_features": n}) for n in (5, 17)
    )
    spec = wsn.CustomSparsity(base, wide, allocation=wsn.ErdosRenyi())
    assert wsn.weights_per_layer(spec) == {"": 155}
