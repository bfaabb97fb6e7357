"""How alike the predictions of networks are, within an architecture and between two."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wsnlib.predictions import inference
from wsnlib.predictions.populations import Population, check_same_examples

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Every network against every other, (networks, networks) each, of all populations one after another.

    Args:
        agreement: Share of examples with the same predicted class.
        kappa: Cohen's (a − e)/(1 − e): a the agreement, e = Σ_c s_c t_c that of independent networks
            which predict class c as often as these do.
        error_consistency: The same of being right or wrong: e = pq + (1 − p)(1 − q), with p, q the
            two accuracies. 0 where errors fall together as often as by chance; NaN where both
            networks are always right. A network agrees with itself by 1.
    """

    agreement: Array
    kappa: Array
    error_consistency: Array


def network_agreement(populations: Sequence[Population]) -> Agreement:
    """Agreement, Cohen's kappa and error consistency of every pair of networks.

    References:
        Cohen, *A coefficient of agreement for nominal scales* (1960). Geirhos, Meding,
        Wichmann, *Beyond accuracy: quantifying trial-by-trial behaviour of CNNs and humans by
        measuring error consistency* (2020).

    Examples:
        >>> one = Population([[0, 1, 1, 0], [0, 1, 0, 0]], labels=[0, 1, 1, 1], num_classes=2)
        >>> pairs = network_agreement([one])
        >>> [v[0, 1].round(3).item() for v in (pairs.agreement, pairs.kappa, pairs.error_consistency)]
        [0.75, 0.5, 0.5]
    """
    check_same_examples(populations)
    predictions = np.concatenate([p.predictions for p in populations])
    networks, examples = predictions.shape
    same = np.eye(networks)
    for i in range(1, networks):
        same[i, :i] = same[:i, i] = (predictions[:i] == predictions[i]).mean(1)
    classes = populations[0].num_classes
    shares = np.array([np.bincount(row, minlength=classes) for row in predictions]) / examples
    accuracy = np.concatenate([p.network_accuracy for p in populations])
    correct = np.concatenate([p.correct for p in populations]).astype(np.float32)
    both_right = (correct @ correct.T).astype(float) / examples
    alike = 1 - accuracy[:, None] - accuracy + 2 * both_right
    by_chance = np.outer(accuracy, accuracy) + np.outer(1 - accuracy, 1 - accuracy)
    return Agreement(
        agreement=same,
        kappa=_beyond_chance(same, shares @ shares.T),
        error_consistency=_beyond_chance(alike, by_chance),
    )


def _beyond_chance(observed: Array, chance: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.where(chance < 1, (observed - chance) / (1 - chance), np.nan)
    np.fill_diagonal(values, 1.0)
    return values


def agreement_table(
    populations: Sequence[Population],
    *,
    confidence: float = 0.95,
    permutations: int = 9999,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean agreement within each population and between each two, and whether between is less.

    Args:
        populations: Of different names, over the same examples.
        confidence: With which all intervals hold together (Šidák); each is a jackknife over networks.
        permutations, seed: Of the test, which assigns the networks of two populations to them at random.

    Returns:
        One row a pair of populations and `measure` (the fields of `Agreement`): `first`, `second`,
        `measure`, `mean` over pairs of different networks, `low`, `high`; for two populations,
        `deficit`, the mean of the two within less that between, its one-sided `p_value`, and that
        `adjusted` over the table (Holm and Šidák). NaN where a test or a measure does not exist.

    References:
        N21, Section 7: similar architectures have similar predictions.

    Examples:
        >>> from wsnlib.predictions import simulate_population
        >>> options = dict(networks=20, labels=np.zeros(400, int), num_classes=2)
        >>> p = np.linspace(0, 1, 400)
        >>> a = simulate_population(p, name="a", **options)
        >>> b = simulate_population(p[::-1], name="b", seed=1, **options)
        >>> table = agreement_table([a, b]).set_index(["first", "second", "measure"])
        >>> table.loc[("a", "a", "error_consistency"), "mean"].round(2).item()
        0.33
        >>> table.loc[("a", "b", "error_consistency"), "adjusted"].item() < 0.001
        True
    """
    names = [population.name for population in populations]
    if len(set(names)) < len(names):
        raise ValueError(f"the populations are named {names}; different names are allowed")
    measures = vars(network_agreement(populations))
    ends = np.cumsum([0] + [len(p) for p in populations])
    members = [np.arange(a, b) for a, b in itertools.pairwise(ends)]
    pairs = list(itertools.combinations_with_replacement(range(len(populations)), 2))
    each = inference.sidak_confidence(confidence, len(measures) * len(pairs))
    rows = []
    for i, j in pairs:
        chosen = members[i] if i == j else np.concatenate([members[i], members[j]])
        m, n = len(members[i]), 0 if i == j else len(members[j])
        for measure, matrix in measures.items():
            values = matrix[np.ix_(chosen, chosen)]
            row = {"first": names[i], "second": names[j], "measure": measure}
            rows.append(row | _row(values, m, n, each, permutations, seed))
    table = pd.DataFrame(rows)
    tested = table["p_value"].notna()
    table["adjusted"] = np.nan
    table.loc[tested, "adjusted"] = inference.holm_sidak(table.loc[tested, "p_value"].to_numpy())
    return table


def _row(values: Array, m: int, n: int, confidence: float, permutations: int, seed: int) -> dict[str, float]:
    """Mean, interval and test of the (m + n, m + n) values of two populations, or of one if n is 0."""
    whole = (np.arange(m + n) < m)[None].astype(float)

    between = np.array(values)
    between[:m, :m] = between[m:, m:] = 0.0  # not used, and NaN · 0 is not 0

    def mean(one: Array, other: Array) -> Array:
        return _mean_between(between, one, other) if n else _mean_within(values, one)

    low, high = inference.jackknife(mean, m, n, confidence=confidence)
    row = {"mean": float(mean(whole, 1 - whole)[0]), "low": low, "high": high}
    if n == 0 or np.isnan(values).any():
        return row | {"deficit": np.nan, "p_value": np.nan}

    def deficit(one: Array, other: Array) -> Array:
        within = (_mean_within(values, one) + _mean_within(values, other)) / 2
        return within - _mean_between(values, one, other)

    chosen = inference.assignments(m, n, permutations=permutations, seed=seed).astype(float)
    observed = float(deficit(whole, 1 - whole)[0])
    p_value = inference.permutation_p_value(observed, deficit(chosen, 1 - chosen))
    return row | {"deficit": observed, "p_value": p_value}


def _mean_within(values: Array, members: Array) -> Array:
    size = members.sum(1)
    pairs = ((members @ values) * members).sum(1) - members @ np.diag(values)
    return np.asarray(pairs / (size * (size - 1)))


def _mean_between(values: Array, first: Array, second: Array) -> Array:
    return np.asarray(((first @ values) * second).sum(1) / (first.sum(1) * second.sum(1)))
