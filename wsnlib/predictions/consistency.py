"""How alike the errors of networks are, within an architecture and between two."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wsnlib.predictions import inference
from wsnlib.predictions.populations import Population, check_same_examples

Array = NDArray[np.float64]


def error_consistency(populations: Sequence[Population]) -> Array:
    """Cohen's kappa of being right or wrong, of every two networks of all populations.

    With p, q the accuracies of two networks and a the share of examples on which both are right or both
    wrong, κ = (a − e)/(1 − e), e = pq + (1 − p)(1 − q): 0 where errors fall together as often as by
    chance, 1 where they always do.

    Returns:
        (networks, networks), of all populations one after another. A network agrees with itself by 1; NaN
        where both are always right, or both always wrong.

    References:
        Cohen, *A coefficient of agreement for nominal scales* (1960). Geirhos, Meding,
        Wichmann, *Beyond accuracy: quantifying trial-by-trial behaviour of CNNs and humans by
        measuring error consistency* (2020).

    Examples:
        >>> one = Population([[0, 1, 1, 0], [0, 1, 0, 0]], labels=[0, 1, 1, 1], num_classes=2)
        >>> error_consistency([one])[0, 1].round(3).item()
        0.5
    """
    correct = _correct(populations)
    return _kappa(correct @ correct.T, correct.shape[1])


def resampled_consistency(
    populations: Sequence[Population], *, resamples: int = 199, seed: int = 0
) -> tuple[Array, Array]:
    """Mean error consistency within and between populations, and that of resampled networks and images.

    Both are drawn with replacement, independently of one another: the networks within each population, and
    the examples, the same for all. For networks by examples that bootstrap is conservative (Owen).

    Args:
        populations: Over the same examples.
        resamples: Number of resamples.
        seed: Random seed.

    Returns:
        (populations, populations), the mean over all pairs of different networks, and the same of each
        resample, (resamples, populations, populations).

    References:
        Klein et al., *Quantifying uncertainty in error consistency* (2025), who resample examples.
        Owen, *The pigeonhole bootstrap* (2007).

    Examples:
        >>> from wsnlib.predictions import simulate_population
        >>> options = dict(networks=20, labels=np.zeros(400, int), num_classes=2)
        >>> p = np.linspace(0, 1, 400)
        >>> a, b = simulate_population(p, **options), simulate_population(p[::-1], seed=1, **options)
        >>> means, resampled = resampled_consistency([a, b], resamples=99)
        >>> means.round(1).tolist()
        [[0.3, -0.3], [-0.3, 0.3]]
        >>> resampled.std(0)[0, 1].round(2).item()
        0.02
    """
    if resamples < 1:
        raise ValueError(f"resamples must be ≥ 1, got {resamples}")
    correct = _correct(populations)
    examples = correct.shape[1]
    sizes = [len(population) for population in populations]
    members = np.repeat(np.eye(len(sizes)), sizes, axis=1)
    rng = np.random.default_rng(seed)

    def drawn(n: int) -> NDArray[np.int64]:
        return np.bincount(rng.integers(n, size=n), minlength=n)

    resampled = np.empty((resamples, len(sizes), len(sizes)))
    for each in resampled:
        weights = drawn(examples).astype(np.float32)
        both_right = (correct * weights) @ correct.T  # whole numbers below 2²⁴, exact
        counts = np.concatenate([drawn(n) for n in sizes])
        each[:] = _means(_kappa(both_right, examples), members * counts)
    return _means(_kappa(correct @ correct.T, examples), members), resampled


def consistency_table(
    populations: Sequence[Population],
    *,
    confidence: float = 0.95,
    resamples: int = 199,
    permutations: int = 9999,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean error consistency within each population and between each two, and whether between is less.

    Args:
        populations: Populations of different names over the same examples.
        confidence: Joint confidence level of all intervals (Šidák), value ± t · its standard deviation over
            the resamples, with one degree of freedom less than the smaller population has networks.
        resamples: As in `resampled_consistency`.
        permutations: Number of permutations, which assign the networks of two populations to them at random.
        seed: Random seed for resamples and permutations.

    Returns:
        One row a pair of populations: `first`, `second`, `mean` over pairs of different networks, `low`,
        `high`; for two populations `deficit`, the mean of the two within less that between, with
        `deficit_low`, `deficit_high`, its one-sided `p_value`, and that `adjusted` over the table (Holm and
        Šidák). NaN where a test or a value does not exist.

    References:
        N21, Section 7: similar architectures have similar predictions.

    Examples:
        >>> from wsnlib.predictions import simulate_population
        >>> options = dict(networks=20, labels=np.zeros(400, int), num_classes=2)
        >>> p = np.linspace(0, 1, 400)
        >>> a = simulate_population(p, name="a", **options)
        >>> b = simulate_population(p[::-1], name="b", seed=1, **options)
        >>> table = consistency_table([a, b], resamples=99).set_index(["first", "second"])
        >>> table.loc[("a", "a"), "mean"].round(2).item()
        0.33
        >>> table.loc[("a", "b"), "adjusted"].item() < 0.001
        True
    """
    values = error_consistency(populations)
    names = [population.name for population in populations]
    if len(set(names)) < len(names):
        raise ValueError(f"populations must have different names, got {names}; give each its own")
    means, resampled = resampled_consistency(populations, resamples=resamples, seed=seed)
    ends = np.cumsum([0] + [len(p) for p in populations])
    pairs = list(itertools.combinations_with_replacement(range(len(populations)), 2))
    each = inference.sidak_confidence(confidence, len(pairs) + sum(i != j for i, j in pairs))
    rows = []
    for i, j in pairs:
        sure: dict[str, Any] = {"networks": min(len(populations[k]) for k in (i, j)), "confidence": each}
        row = {"first": names[i], "second": names[j], "mean": means[i, j]}
        row["low"], row["high"] = inference.bootstrap(means[i, j], resampled[:, i, j], **sure)
        if i != j:
            deficit, of_each = ((v[..., i, i] + v[..., j, j]) / 2 - v[..., i, j] for v in (means, resampled))
            row["deficit"] = float(deficit)
            row["deficit_low"], row["deficit_high"] = inference.bootstrap(float(deficit), of_each, **sure)
            chosen = np.r_[ends[i] : ends[i + 1], ends[j] : ends[j + 1]]
            options = {"permutations": permutations, "seed": seed}
            row["p_value"] = _p_value(values[np.ix_(chosen, chosen)], len(populations[i]), **options)
        rows.append(row)
    columns = ["first", "second", "mean", "low", "high", "deficit", "deficit_low", "deficit_high", "p_value"]
    table = pd.DataFrame(rows, columns=columns)
    tested = table["p_value"].notna()
    table["adjusted"] = np.nan
    table.loc[tested, "adjusted"] = inference.holm_sidak(table.loc[tested, "p_value"].to_numpy())
    return table


def _correct(populations: Sequence[Population]) -> NDArray[np.float32]:
    check_same_examples(populations)
    return np.concatenate([p.correct for p in populations]).astype(np.float32)


def _kappa(both_right: NDArray[np.floating[Any]], examples: int) -> Array:
    """Error consistency from the number of examples on which both networks are right."""
    share = both_right.astype(float) / examples
    accuracy = np.diag(share)
    alike = 1 - accuracy[:, None] - accuracy + 2 * share
    chance = np.outer(accuracy, accuracy) + np.outer(1 - accuracy, 1 - accuracy)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.where(chance < 1, (alike - chance) / (1 - chance), np.nan)
    np.fill_diagonal(values, 1.0)
    return values


def _means(values: Array, members: Array) -> Array:
    """Means of (networks, networks) values between and within groups, over pairs of different networks.

    Args:
        values: Of every two networks; those of one with itself are left out.
        members: How often each network belongs to each group, (groups, networks).
    """
    others = values.copy()
    np.fill_diagonal(others, 0.0)
    unknown = np.isnan(others)
    others[unknown] = 0.0
    size, twice = members.sum(1), (members**2).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):  # one network, drawn again and again, has no other
        means = (members @ others @ members.T) / (np.outer(size, size) - np.diag(twice))
    return np.where(members @ unknown @ members.T, np.nan, means)


def _p_value(values: Array, m: int, *, permutations: int, seed: int) -> float:
    """Of the deficit of the first m networks against the others, one-sided; NaN where it is none."""
    if np.isnan(values).any():
        return np.nan
    n = len(values) - m
    whole = (np.arange(m + n) < m)[None].astype(float)

    def deficit(one: Array, other: Array) -> Array:
        within = (_mean_within(values, one) + _mean_within(values, other)) / 2
        return np.asarray(within - ((one @ values) * other).sum(1) / (one.sum(1) * other.sum(1)))

    chosen = inference.assignments(m, n, permutations=permutations, seed=seed).astype(float)
    observed = float(deficit(whole, 1 - whole)[0])
    return inference.permutation_p_value(observed, deficit(chosen, 1 - chosen))


def _mean_within(values: Array, members: Array) -> Array:
    size = members.sum(1)
    pairs = ((members @ values) * members).sum(1) - members @ np.diag(values)
    return np.asarray(pairs / (size * (size - 1)))
