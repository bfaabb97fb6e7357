"""Which two architectures are equally accurate: what a comparison of their errors rests on."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from wsnlib.predictions import inference


def matched_pairs(
    first: Mapping[Hashable, Sequence[float]],
    second: Mapping[Hashable, Sequence[float]],
    *,
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
        confidence: With which the intervals of all pairs hold together (Šidák).

    Returns:
        One row a pair: the candidates `first` and `second`, their mean accuracies `first_accuracy` and
        `second_accuracy`, their `difference` with `low` and `high`, `bound`, and `matched`, whether the
        interval holds 0. Of equal bounds the pair that was given first comes first.

    Raises:
        ValueError: If there is no candidate on a side, or one without an accuracy or with one that is not
            finite, or no candidate with two networks.

    References:
        N21, Figure F.1: 200 networks each of ResNet-62 (1×) and ResNet-14 (2×), 94.09 and 94.08 %.

    Examples:
        >>> deep = {14: [0.70, 0.71, 0.72], 20: [0.74, 0.75, 0.76]}
        >>> wide = {1.5: [0.72, 0.73, 0.74], 2.0: [0.75, 0.76, 0.75]}
        >>> matched_pairs(deep, wide)[["first", "second"]].iloc[0].tolist()
        [20.0, 2.0]
    """
    for side, candidates in (("first", first), ("second", second)):
        if not candidates:
            raise ValueError(f"{side} has no candidates; at least one is needed")
        for name, values in candidates.items():
            if len(values) == 0 or not np.all(np.isfinite(values)):
                raise ValueError(
                    f"the accuracies of {name!r} are {list(values)}; at least one, all finite, is allowed"
                )
    every = [np.asarray(values, dtype=float) for values in (*first.values(), *second.values())]
    df = sum(len(values) - 1 for values in every)
    if df == 0:
        raise ValueError("every candidate has one network; at least 2 of one are needed to know their spread")
    deviation = np.sqrt(sum(((values - values.mean()) ** 2).sum() for values in every) / df)
    each = inference.sidak_confidence(confidence, len(first) * len(second))
    quantile = float(stats.t.isf((1 - each) / 2, df))
    rows = []
    for one, other in itertools.product(first, second):
        p, q = np.mean(first[one]), np.mean(second[other])
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
    return pd.DataFrame(rows).sort_values("bound", kind="stable", ignore_index=True)
