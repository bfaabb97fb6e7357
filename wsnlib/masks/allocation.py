"""How many weights each layer keeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from math import prod
from typing import Literal, cast

import numpy as np
import scipy

from wsnlib.choices import check_choice

Rule = Literal["largest_first", "uniform", "erdos_renyi", "balanced", "pyramidal"]
"""How layers share the weights that a network keeps."""

LayerSize = int | Sequence[int]
"""Weights of a dense layer, or the shape of its weight."""


def allocate(
    layer_sizes: Mapping[str, LayerSize],
    *,
    num_weights: int,
    rule: Rule = "largest_first",
    density: Mapping[str, float] | None = None,
) -> dict[str, int]:
    """Weights kept per layer, by a rule.

    - `"largest_first"`: the largest layer gives until it equals the next, and so on. Every layer that gives
      ends with the same number of weights; what is left over in the integer division comes off the largest.
      Layers smaller than that stay dense.
    - `"uniform"`: one density, to within one weight.
    - `"erdos_renyi"`: in proportion to the sum of the weight's dimensions, that is a density of
      (inputs + outputs + kernel's height + its width) / their product times a constant.
    - `"balanced"`: the same number of weights each, which is `"largest_first"` to within one weight a layer.
    - `"pyramidal"`: a density of q, q², q³, … from the first layer to the last, q being the same.

    In all of them a layer keeps at most what it has, and the others share the rest. Whole parts are kept
    first; the weights still missing go to the largest fractions.

    Args:
        layer_sizes: Weights of each dense layer, or the shapes of the weights, which `"erdos_renyi"` needs;
            in the order of the layers.
        num_weights: Weights to keep in all, from one per layer to all there are.
        rule: One of these five.
        density: Layers whose density in (0, 1] is given; they keep `round(density * size)`
            weights, at least one, and the others share the rest by the rule.

    Returns:
        Weights kept, in the order of `layer_sizes`; they sum to `num_weights`.

    Raises:
        ValueError: If no allocation has that many weights, or a layer would keep none.

    References:
        G21, Section 2.3 and Appendix B (`get_ntf`), Figure 4, for the largest first. Evci et al., *Rigging
        the lottery* (2020), for Erdős–Rényi-kernel ratios, and Gadhikar et al., *Why random pruning is all
        we need to start sparse* (2023), for balanced and pyramidal ones; that these are powers is our
        reading.

    Examples:
        >>> allocate({"conv1": 216, "linear": 6400}, num_weights=3000)
        {'conv1': 216, 'linear': 2784}
        >>> allocate({"hidden1": 31360, "output": 400}, num_weights=3970, density={"output": 0.5})
        {'hidden1': 3770, 'output': 200}
        >>> allocate({"hidden1": 31360, "output": 400}, num_weights=3970, rule="uniform")
        {'hidden1': 3920, 'output': 50}
        >>> allocate({"hidden1": (40, 784), "output": (10, 40)}, num_weights=874, rule="erdos_renyi")
        {'hidden1': 824, 'output': 50}
    """
    check_choice("rule", rule, Rule)
    sizes = {name: prod(size) if isinstance(size, Sequence) else size for name, size in layer_sizes.items()}
    fixed, free, rest = _given(sizes, num_weights, density or {})
    if rule == "largest_first":
        kept = _largest_first(free, rest)
    else:
        kept = _in_proportion(free, rest, _shares(rule, free, layer_sizes, rest))
        if empty := [name for name in kept if kept[name] == 0]:
            raise ValueError(
                f"num_weights must be larger for the rule {rule!r}, got {num_weights}, which leaves none in "
                f"{listed(empty)}; give it a density, or allocate the largest first"
            )
    kept |= fixed
    return {name: kept[name] for name in sizes}


def _shares(
    rule: Rule, sizes: Mapping[str, int], layer_sizes: Mapping[str, LayerSize], num_weights: int
) -> dict[str, Fraction]:
    """What layers keep is proportional to these, unless it is all that they have."""
    if rule == "balanced":
        return dict.fromkeys(sizes, Fraction(1))
    if rule == "pyramidal":
        powers = {name: i + 1 for i, name in enumerate(sizes)}

        def excess(q: float) -> float:
            return sum(size * q ** powers[name] for name, size in sizes.items()) - num_weights

        q = Fraction(scipy.optimize.brentq(excess, 0.0, 1.0, xtol=1e-15))
        return {name: size * q ** powers[name] for name, size in sizes.items()}
    if rule == "erdos_renyi":
        shapes = {name: layer_sizes[name] for name in sizes}
        if numbers := [name for name, shape in shapes.items() if not isinstance(shape, Sequence)]:
            raise ValueError(
                f"layer_sizes must be the shapes of weights for the rule 'erdos_renyi', got a number for "
                f"{listed(numbers)}; give (outputs, inputs, …)"
            )
        return {name: Fraction(sum(cast(Sequence[int], shape))) for name, shape in shapes.items()}
    return {name: Fraction(size) for name, size in sizes.items()}


def _in_proportion(
    sizes: Mapping[str, int], num_weights: int, shares: Mapping[str, Fraction]
) -> dict[str, int]:
    full: dict[str, int] = {}
    while free := {name: shares[name] for name in sizes if name not in full}:
        factor = Fraction(num_weights - sum(full.values())) / sum(free.values())
        over = {name: sizes[name] for name, share in free.items() if factor * share > sizes[name]}
        if not over:
            break
        full |= over
    exact = {name: factor * share for name, share in free.items()}
    kept = full | {name: int(value) for name, value in exact.items()}
    by_fraction = sorted(exact, key=lambda name: -(exact[name] - kept[name]))
    for name in by_fraction[: num_weights - sum(kept.values())]:
        kept[name] += 1
    return kept


def _largest_first(layer_sizes: Mapping[str, int], num_weights: int) -> dict[str, int]:
    names = sorted(layer_sizes, key=lambda name: -layer_sizes[name])  # equal sizes: as they come
    sizes = [layer_sizes[name] for name in names] + [0]
    for sparse in range(1, len(names) + 1):
        dense = sum(sizes[sparse:])
        if sparse * sizes[sparse] + dense <= num_weights:
            break
    else:
        return {}
    level = -((dense - num_weights) // sparse)
    excess = sparse * level - (num_weights - dense)
    kept = dict(layer_sizes) | dict.fromkeys(names[:sparse], level)
    if excess < level:
        kept[names[0]] -= excess
    else:  # so few weights that the largest layer alone would be emptied
        kept |= dict.fromkeys(names[:excess], level - 1)
    return kept


def _given(
    layer_sizes: Mapping[str, int], num_weights: int, density: Mapping[str, float]
) -> tuple[dict[str, int], dict[str, int], int]:
    """Weights kept by layers of a given density, sizes of the others, and the weights left for these."""
    if not layer_sizes:
        raise ValueError("a network must have Linear or Conv layers to keep weights in, got none; add one")
    if isinstance(num_weights, bool) or not isinstance(num_weights, int | np.integer):
        raise TypeError(f"num_weights must be an integer, got {num_weights!r}; round it")
    low, high = len(layer_sizes), sum(layer_sizes.values())
    if not low <= num_weights <= high:
        raise ValueError(f"num_weights must be {low} to {high}, got {num_weights}; change it, or the width")
    fixed = {}
    for name, value in density.items():
        if name not in layer_sizes:
            raise ValueError(f"density must name layers, got {name!r}; choose from {listed(layer_sizes)}")
        if not 0 < value <= 1:
            raise ValueError(f"the density of {name} must be > 0 and ≤ 1, got {value!r}; give such a number")
        fixed[name] = max(1, round(value * layer_sizes[name]))
    free = {name: size for name, size in layer_sizes.items() if name not in fixed}
    rest = int(num_weights) - sum(fixed.values())
    if not len(free) <= rest <= sum(free.values()):
        others = listed(free) or "no other layer"
        asked = ", ".join(f"{count} in {name}" for name, count in fixed.items())
        raise ValueError(
            f"num_weights must leave {len(free)} to {sum(free.values())} for {others}, got {num_weights}, "
            f"which leaves {rest} beside {asked}; change it, or fix fewer layers"
        )
    return fixed, free, rest


def whole_kernels(
    allocation: Mapping[str, int],
    *,
    layer_shapes: Mapping[str, tuple[int, ...]],
    fixed: Iterable[str] = (),
) -> dict[str, int]:
    """An allocation changed as little as it takes for every layer to keep whole kernels.

    A kernel is all weights between one input and one output channel: 9 in a 3x3 convolution, 1 in
    a Linear layer or a 1x1 convolution. Layers keep the whole kernels of their share, the largest
    kernels first get one back where that fits, and layers whose kernel is one weight take the rest. Where
    some is left over, one layer after the other, the largest kernels first, keeps what is nearest to that and
    lets the others make up the sum.

    Args:
        allocation: Weights kept per layer.
        layer_shapes: Shapes of the weights, (output channels, input channels, …).
        fixed: Layers whose number of weights is not to change.

    Returns:
        Weights kept, multiples of each layer's kernel, with the sum of `allocation`.

    Raises:
        ValueError: If whole kernels cannot have that sum, or a fixed layer keeps a part of one.

    References:
        G21, Appendix C, which does not say how counts are rounded; the released code leaves the sum
        wrong by up to a kernel.

    Examples:
        >>> shapes = {"conv": (16, 3, 3, 3), "linear": (10, 16)}
        >>> whole_kernels({"conv": 85, "linear": 85}, layer_shapes=shapes)
        {'conv': 81, 'linear': 89}
    """
    kernels = {name: prod(layer_shapes[name][2:]) for name in allocation}
    sizes = {name: prod(layer_shapes[name]) for name in allocation}
    held = set(fixed)
    for name in allocation:
        if name in held and allocation[name] % kernels[name]:
            raise ValueError(
                f"the weights kept in {name} must be a multiple of {kernels[name]} for whole kernels, got "
                f"{allocation[name]}; round its density"
            )
    kept = {name: max(kernels[name], n - n % kernels[name]) for name, n in allocation.items()}
    rest = sum(allocation.values()) - sum(kept.values())
    free = sorted((name for name in kept if name not in held), key=lambda n: (-kernels[n], -kept[n]))
    lost = {name: n - kept[name] for name, n in allocation.items()}
    coarse = [name for name in free if kernels[name] > 1]
    fine = [name for name in free if kernels[name] == 1]

    # a layer with less than a kernel was given one: the largest give
    while rest < 0 and (givers := [name for name in coarse if kept[name] > kernels[name]]):
        name = max(givers, key=kept.__getitem__)
        kept[name] -= kernels[name]
        rest += kernels[name]
    # what rounding took away comes back, the largest kernels first, and where most was lost
    for name in sorted(coarse, key=lambda n: (-kernels[n], -lost[n])):
        if kept[name] < allocation[name] and kernels[name] <= rest:
            kept[name] += kernels[name]
            rest -= kernels[name]
    room = sum(sizes[name] - kept[name] for name in fine)
    for name in reversed(coarse):  # no layer has room for the rest: a kernel more, and fine layers give
        if room < rest and kept[name] < sizes[name]:
            kept[name] += kernels[name]
            rest -= kernels[name]
    for name in fine:
        change = max(1 - kept[name], min(rest, sizes[name] - kept[name]))
        kept[name] += change
        rest -= change
    if rest == 0:
        return kept
    found = _summing(sum(kept[name] for name in free) + rest, kept, kernels, sizes, free)
    if not found:
        raise ValueError(
            f"whole kernels must add up to {sum(allocation.values())} weights, got {rest} left over; leave "
            "the number of weights free of a layer with kernels of one weight, such as a Linear layer"
        )
    return kept | found


def _summing(
    total: int,
    wanted: Mapping[str, int],
    kernels: Mapping[str, int],
    sizes: Mapping[str, int],
    names: list[str],
) -> dict[str, int]:
    """Whole kernels that sum to a total, each layer's in turn as near as can be to what is wanted."""
    sums = [1]  # bit n: the last layers, one more each time, can keep n weights
    for name in reversed(names):
        reached, left, step = sums[-1] << kernels[name], sizes[name] // kernels[name] - 1, 1
        while left > 0:
            reached |= reached << min(step, left) * kernels[name]
            left, step = left - step, 2 * step
        sums.append(reached)
    if total < 0 or not sums.pop() >> total & 1:
        return {}
    found = {}
    for name in names:
        after, near = sums.pop(), range(kernels[name], min(total, sizes[name]) + 1, kernels[name])
        by_distance = sorted(near, key=lambda n: abs(n - wanted[name]))
        found[name] = next(n for n in by_distance if after >> (total - n) & 1)
        total -= found[name]
    return found


def listed(names: Iterable[str], most: int = 6) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
