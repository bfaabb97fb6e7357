"""Which two architectures are equally accurate: what a comparison of their errors rests on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import scipy
from numpy.typing import ArrayLike

from wsnlib.predictions import inference
from wsnlib.predictions.populations import Population, check_same_examples


def matched_pairs(
    first: Mapping[Any, ArrayLike],
    second: Mapping[Any, ArrayLike],
    *,
    allowed: Callable[[Any, Any], bool] | None = None,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Pairs of candidates by how far their mean accuracies may lie apart, the best matched pair first.

    A few networks of each candidate are trained. The interval of a difference is Student's, with one
    standard deviation s pooled over all candidates, since a few networks say little of their own:

        p̄ − q̄ ± t · s · √(1/m + 1/n),    s² = Σ (networks − 1) s²_candidate / df,    df = Σ (networks − 1).

    Pairs are ordered by `bound`, the end of the interval that is farther from 0. It is small only if the
    difference is small and known well, where a large p-value would be had from too few networks, too.
    Networks that chose a pair are not to test it: train populations of others.

    Args:
        first, second: Accuracies of the networks of each candidate, such as depths and widths.
        allowed: Whether two candidates may be a pair, for instance only if the second is wider; by default
            any two.
        confidence: Joint confidence level of the intervals of all pairs (Šidák).

    Returns:
        One row a pair: the candidates `first` and `second`, their mean accuracies `first_accuracy` and
        `second_accuracy`, their `difference` with `low` and `high`, `bound`, and `matched`, whether the
        interval holds 0. Of equal bounds the pair that was given first comes first.

    Raises:
        ValueError: If there is no candidate on a side, or one without an accuracy or with one that is not
            finite, or no candidate with two networks, or no pair that is allowed.

    References:
        N21, Figure F.1: 200 networks each of ResNet-62 (1×) and ResNet-14 (2×), 94.09 and 94.08 %.

    Examples:
        >>> deep = {14: [0.70, 0.71, 0.72], 20: [0.74, 0.75, 0.76]}
        >>> wide = {1.5: [0.72, 0.73, 0.74], 2.0: [0.75, 0.76, 0.75]}
        >>> matched_pairs(deep, wide)[["first", "second"]].iloc[0].tolist()
        [20.0, 2.0]
    """
    first, second = (
        {name: np.asarray(values, dtype=float) for name, values in side.items()} for side in (first, second)
    )
    for side, candidates in (("first", first), ("second", second)):
        if not candidates:
            raise ValueError(f"{side} must have one or more candidates, got none")
        for name, values in candidates.items():
            if len(values) == 0 or not np.all(np.isfinite(values)):
                raise ValueError(
                    f"the accuracies of {name!r} must be one or more finite numbers, got "
                    f"{values.tolist()}; leave the candidate out"
                )
    every = [*first.values(), *second.values()]
    df = sum(len(values) - 1 for values in every)
    if df == 0:
        raise ValueError(
            "one candidate must have at least 2 networks to estimate their spread, got 1 of each; train more"
        )
    pairs = [pair for pair in itertools.product(first, second) if allowed is None or allowed(*pair)]
    if not pairs:
        raise ValueError(
            f"at least one pair must be allowed, got none of {len(first) * len(second)}; change allowed, "
            "or add candidates"
        )
    deviation = np.sqrt(sum(((values - values.mean()) ** 2).sum() for values in every) / df)
    each = inference.sidak_confidence(confidence, len(pairs))
    quantile = float(scipy.stats.t.isf((1 - each) / 2, df))
    rows = []
    for one, other in pairs:
        p, q = (np.asarray(values, dtype=float).mean() for values in (first[one], second[other]))
        half = quantile * deviation * np.sqrt(1 / len(first[one]) + 1 / len(second[other]))
        low, high = p - q - half, p - q + half
        rows.append(
            {
                "first": one,
                "second": other,
                "first_accuracy": p,
                "second_accuracy": q,
                "difference": p - q,
                "low": low,
                "high": high,
                "bound": max(-low, high),
                "matched": bool(low <= 0 <= high),
            }
        )
    table = pd.DataFrame(rows)  # whose equal bounds may differ by rounding
    return table.sort_values("bound", key=lambda bounds: bounds.round(12), kind="stable", ignore_index=True)


def matched_networks(
    first: Population, second: Population, *, caliper: float = 0.002, fewest: int = 2
) -> tuple[Population, Population] | None:
    """As many networks of each as can be paired with |accuracy − accuracy of its partner| ≤ caliper.

    Where no two architectures are equally accurate, these networks of them are: their mean accuracies differ
    by at most the caliper. What is compared are then not the architectures but those of their networks that
    have a counterpart; it says whether their errors differ at equal accuracy.

    Args:
        first, second: Disjoint populations over the same examples.
        caliper: Largest difference of accuracies in [0, 1] within a pair.
        fewest: Pairs, at least 2, with which a comparison is worth something.

    Returns:
        The pairs, the least accurate first: networks of `first` and, in the same order, their partners. No
        other choice has more pairs. `None` if fewer than `fewest` can be made.

    Raises:
        ValueError: If the examples differ, the caliper is not 0 to 1, or `fewest` below 2.

    References:
        Rosenbaum, Rubin, *Constructing a control group using multivariate matched sampling methods* (1985),
        for calipers.

    Examples:
        >>> options = {"labels": [0] * 5, "num_classes": 2}
        >>> better = Population([[0] * 5, [0] * 4 + [1], [0] * 3 + [1] * 2], **options)
        >>> worse = Population([[0] * 4 + [1], [1, 1] + [0] * 3, [1] * 5], **options)
        >>> [part.network_accuracy.tolist() for part in matched_networks(better, worse)]
        [[0.6, 0.8], [0.6, 0.8]]
    """
    check_same_examples([first, second])
    if not 0 <= caliper <= 1:
        raise ValueError(f"caliper must be 0 to 1, got {caliper}; 0.02 is 2 points")
    if fewest < 2:
        raise ValueError(f"fewest must be an integer ≥ 2, got {fewest}")
    one, other = (p.correct.sum(axis=1) for p in (first, second))
    most = caliper * first.num_examples * (1 + 1e-12)  # 0.3 * 10 is 3 and not a little less
    order, partners = np.argsort(one, kind="stable"), np.argsort(other, kind="stable")
    pairs: list[tuple[int, int]] = []
    i = j = 0
    while i < len(order) and j < len(partners):
        ahead = int(one[order[i]]) - int(other[partners[j]])
        if abs(ahead) <= most:
            pairs.append((int(order[i]), int(partners[j])))
        i, j = i + (ahead <= most), j + (ahead >= -most)
    if len(pairs) < fewest:
        return None
    return first[np.array([a for a, _ in pairs])], second[np.array([b for _, b in pairs])]
