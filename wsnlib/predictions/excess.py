"""Differences between two populations example by example, beyond what chance gives.

With true accuracies pᵢ, qᵢ of example i and their estimates from m and n networks,

    E (p̂ᵢ − q̂ᵢ)² = (pᵢ − qᵢ)² + pᵢ(1 − pᵢ)/m + qᵢ(1 − qᵢ)/n,

the scatter of one population against the other is the sum of a real difference and of chance. The
mean of (p̂ᵢ − q̂ᵢ)² − p̂ᵢ(1 − p̂ᵢ)/(m − 1) − q̂ᵢ(1 − q̂ᵢ)/(n − 1) over the examples, the *excess
dispersion*, has expectation mean (pᵢ − qᵢ)², however the examples depend on one another within a
network. It is a function of the inner products of the networks' vectors of right and wrong alone, so
that ten thousand permutations of the networks cost no more than one look at the predictions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray

from wsnlib.choices import check_choice
from wsnlib.predictions import inference
from wsnlib.predictions.populations import Population, check_same_examples, class_accuracy

Array = NDArray[np.float64]
Level = Literal["example", "class", "network"]


@dataclass(frozen=True, kw_only=True)
class Dispersion:
    """How far two populations' accuracies lie apart, as mean squares over the examples.

    Args:
        observed: Mean of (p̂ᵢ − q̂ᵢ)².
        chance: What it would be by chance alone, estimated without bias.
        excess: Observed − chance: estimates mean (pᵢ − qᵢ)² without bias, so it may be negative.
        low, high: Interval of the excess, over networks.
        share: Excess / observed; it grows with the number of networks, as chance falls.
        share_low, share_high: Its interval, by the jackknife of the ratio.
        p_value: P-value of the excess, by permutation over networks.
    """

    observed: float
    chance: float
    excess: float
    low: float
    high: float
    share: float
    share_low: float
    share_high: float
    p_value: float

    @property
    def ratio(self) -> float:
        """Observed / chance, 1 where there is no difference; NaN if no network ever differs."""
        if self.chance == 0:
            return math.nan if self.observed == 0 else math.inf
        return self.observed / self.chance

    @property
    def difference(self) -> float:
        """√excess, the typical difference of accuracies; −√−excess if the excess is negative."""
        return signed_root(self.excess)

    @property
    def interval(self) -> tuple[float, float]:
        """The signed roots of `low` and `high`, between which `difference` lies."""
        return signed_root(self.low), signed_root(self.high)


def dispersion(
    first: Population,
    second: Population,
    *,
    level: Level = "example",
    confidence: float = 0.95,
    permutations: int = 9999,
    seed: int = 0,
) -> Dispersion:
    """Dispersion of one population against another, beyond chance, with a permutation test.

    The test asks whether the two are samples of networks of one kind: networks are assigned to the
    populations at random. It holds its level whatever the accuracies and their dependence.

    Args:
        first, second: Disjoint populations over the same examples. To compare a population with
            itself, give the halves of its `split`.
        level: What has an accuracy: every example; every class, or the whole test
            set (`"network"`), both weighted by their examples. A difference of populations at one level is
            a part of that at the finer ones.
        confidence: Confidence level of the interval, excess ± t · error. The excess is a U-statistic, of
            whose variance a jackknife counts the second-order part 2 tr Σ²/(m(m − 1)) + 2 tr T²/(n(n − 1)) +
            4 tr ΣT/(mn) twice (Σ and T are the covariances over networks); it is estimated without bias and
            taken off once. No narrower than the spread of the permuted excess, the larger of two estimates
            where nothing differs: there it covers more than its level (see `tests/test_calibration.py`).
        permutations: Number of assignments; the smallest p-value is 1/(permutations + 1).
        seed: Random seed for the assignments.

    References:
        N21, Section 7 and Figures 7(a), 7(b) and F.1, which show the scatter. As a test, the
        two-sample statistic of Gretton et al., *A kernel two-sample test* (2012), with the linear
        kernel.

    Examples:
        >>> from wsnlib.predictions import simulate_population
        >>> options = dict(networks=50, labels=np.zeros(300, int), num_classes=2)
        >>> p = np.linspace(0.1, 0.8, 300)
        >>> wide, deep = (simulate_population(p + d, seed=s, **options) for s, d in enumerate((0, 0.1)))
        >>> found = dispersion(wide, deep)
        >>> round(found.difference, 2), found.p_value
        (0.1, 0.0001)
        >>> dispersion(*wide.split(seed=0)).p_value > 0.05
        True
    """
    check_same_examples([first, second])
    inference.sidak_confidence(confidence, 1)
    m, n = len(first), len(second)
    gram = inner_products([first, second], level)
    whole = (np.arange(m + n) < m)[None]
    observed, chance = (float(v[0]) for v in mean_squares(gram, whole, ~whole))

    def excess(one: NDArray[Any], other: NDArray[Any]) -> Array:
        return np.subtract(*mean_squares(gram, one, other))

    chosen = inference.assignments(m, n, permutations=permutations, seed=seed)
    permuted = excess(chosen, ~chosen)
    least = float(scipy.stats.norm.isf((1 - confidence) / 2) * permuted.std())
    low, high = inference.jackknife(excess, m, n, confidence=confidence)
    found, jackknifed = observed - chance, (high - low) / 2
    narrower = _without_second_order(jackknifed, gram, m, n, confidence=confidence)
    half = max(narrower, least)

    def share(one: NDArray[Any], other: NDArray[Any]) -> Array:
        seen, by_chance = mean_squares(gram, one, other)
        return np.asarray((seen - by_chance) / seen)

    with np.errstate(divide="ignore", invalid="ignore"):  # without any difference there is no share
        share_low, share_high = inference.jackknife(share, m, n, confidence=confidence)
        shared = float(share(whole, ~whole)[0])
    return Dispersion(
        observed=observed,
        chance=chance,
        excess=found,
        low=found - half,
        high=found + half,
        share=shared,
        share_low=share_low,
        share_high=share_high,
        p_value=inference.permutation_p_value(found, permuted),
    )


def explained_share(
    first: Population, second: Population, *, level: Level = "class", confidence: float = 0.95
) -> tuple[float, float, float]:
    """Excess dispersion at a coarser level / that of the examples, with its jackknife interval.

    The part of the real differences between examples that lies in differences between classes (or
    in the accuracy as a whole). Unlike V² of N21, chance is neither in numerator nor denominator.

    Args:
        first, second, confidence: As in `dispersion`.
        level: `"class"` or `"network"`.

    Returns:
        The share, low, high. Of use only where `dispersion` finds an excess at both levels: near 0 the
        interval is too narrow, of `"network"` above all (95 % cover 80 to 90 % there).

    References:
        N21, eq. (10), whose numerator and denominator contain chance.

    Examples:
        >>> from wsnlib.predictions import simulate_population
        >>> options = dict(networks=200, labels=np.arange(600) % 3, num_classes=3)
        >>> p = np.full(600, 0.5)
        >>> of_class = np.array([0.1, 0.0, -0.1])[np.arange(600) % 3]
        >>> a, b = (simulate_population(p + s * of_class, seed=s, **options) for s in (0, 1))
        >>> round(explained_share(a, b)[0], 1)
        1.0
    """
    check_same_examples([first, second])
    m, n = len(first), len(second)
    coarse, fine = (inner_products([first, second], where) for where in (level, "example"))

    def share(one: NDArray[Any], other: NDArray[Any]) -> Array:
        parts, wholes = (np.subtract(*mean_squares(gram, one, other)) for gram in (coarse, fine))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(parts / wholes)

    whole = (np.arange(m + n) < m)[None]
    low, high = inference.jackknife(share, m, n, confidence=inference.sidak_confidence(confidence, 1))
    return float(share(whole, ~whole)[0]), low, high


def dispersion_table(
    populations: Sequence[Population],
    *,
    confidence: float = 0.95,
    permutations: int = 9999,
    seed: int = 0,
) -> pd.DataFrame:
    """Every population against every other and against itself, half of the networks of each.

    Every comparison uses as many networks of either side as half the smallest population has, so
    that chance is alike in all of them.

    Args:
        populations: Populations of different names over the same examples.
        permutations: As in `dispersion`.
        confidence: Joint confidence level of all intervals (Šidák).
        seed: Random seed for the halves and the assignments.

    Returns:
        One row a pair: `first`, `second`, `networks` of each, the fields of `Dispersion`, `ratio`, and
        `adjusted` p-values (Holm and Šidák over the table).

    References:
        N21, Figures F.2 to F.4.
    """
    halves = _halves(populations, seed)
    names, size = [p.name for p in populations], len(halves[0][0])
    pairs = list(itertools.combinations_with_replacement(range(len(populations)), 2))
    rows = []
    for number, (i, j) in enumerate(pairs):
        found = dispersion(
            halves[i][0],
            halves[j][i == j],
            confidence=inference.sidak_confidence(confidence, len(pairs)),
            permutations=permutations,
            seed=seed + number,
        )
        rows.append(
            {"first": names[i], "second": names[j], "networks": size, **vars(found), "ratio": found.ratio}
        )
    table = pd.DataFrame(rows)
    return table.assign(adjusted=inference.holm_sidak(table["p_value"].to_numpy()))


def accuracy_scatter(first: Population, second: Population) -> pd.DataFrame:
    """The points of a scatter plot: pairs of accuracies that occur, and how many examples have each.

    Returns:
        One row a point: `first`, `second`, `examples`.

    References:
        N21, Figures 7, F.1 to F.4.

    Examples:
        >>> rows = [[0, 0, 1], [0, 0, 0]]
        >>> a, b = (Population(rows, labels=[0, 0, 0], num_classes=2) for _ in range(2))
        >>> accuracy_scatter(a, b).to_numpy().tolist()
        [[0.5, 0.5, 1.0], [1.0, 1.0, 2.0]]
    """
    check_same_examples([first, second])
    points, examples = np.unique(np.column_stack([first.counts, second.counts]), axis=0, return_counts=True)
    return pd.DataFrame(
        {"first": points[:, 0] / len(first), "second": points[:, 1] / len(second), "examples": examples}
    )


def accuracy_scatters(
    populations: Sequence[Population], *, seed: int = 0
) -> dict[tuple[str, str], pd.DataFrame]:
    """The points of a matrix of scatter plots, of the same halves of networks as in `dispersion_table`.

    Returns:
        `accuracy_scatter` of each pair of names, one architecture against itself included.

    References:
        N21, Figures F.2 to F.4.

    Examples:
        >>> from wsnlib.predictions import simulate_population
        >>> options = dict(networks=6, labels=np.zeros(9, int), num_classes=2)
        >>> a, b = (simulate_population(np.full(9, 0.5), name=name, **options) for name in "ab")
        >>> list(accuracy_scatters([a, b]))
        [('a', 'a'), ('a', 'b'), ('b', 'b')]
    """
    halves = _halves(populations, seed)
    pairs = itertools.combinations_with_replacement(range(len(populations)), 2)
    return {
        (populations[i].name, populations[j].name): accuracy_scatter(halves[i][0], halves[j][i == j])
        for i, j in pairs
    }


def largest_differences(
    first: Population, second: Population, *, count: int = 10, confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Examples whose accuracies differ most, chosen on one half of the networks, reported on the other.

    The largest of many noisy differences is too large. The halves are independent, so that what is
    reported is without that bias, and only `count` tests are made.

    Args:
        first, second: Populations over the same examples, of at least four networks each.
        count: Examples to choose, those of the largest absolute difference.
        confidence: Joint confidence level of all intervals (Šidák).
        seed: Random seed for splitting the networks.

    Returns:
        One row an example, the largest chosen difference first: `example`, `label`,
        `chosen_by` (difference on the choosing half), and on the other half `first`, `second`,
        `difference`, its interval `low`, `high` (Newcombe's hybrid score), Fisher's exact `p_value`
        and that `adjusted` for `count` tests (Holm and Šidák).

    References:
        N21, Figure F.1(b). Newcombe, *Interval estimation for the difference between independent
        proportions* (1998), method 10.

    Examples:
        >>> from wsnlib.predictions import simulate_population
        >>> p = np.full(50, 0.5)
        >>> q = p.copy()
        >>> q[17] = 0.95
        >>> options = dict(networks=100, labels=np.zeros(50, int), num_classes=2)
        >>> a, b = simulate_population(p, **options), simulate_population(q, seed=1, **options)
        >>> largest_differences(a, b, count=3)["example"][0].item()
        17
    """
    check_same_examples([first, second])
    if not 1 <= count <= first.num_examples:
        raise ValueError(f"count must be 1 to {first.num_examples}, got {count}")
    choosing, reporting = zip(first.split(seed=seed), second.split(seed=seed + 1), strict=True)
    gaps = choosing[0].accuracy - choosing[1].accuracy
    chosen = np.argsort(-np.abs(gaps), kind="stable")[:count]
    (k1, n1), (k2, n2) = ((p.counts[chosen], len(p)) for p in reporting)
    low, high = _newcombe(k1, n1, k2, n2, inference.sidak_confidence(confidence, count))
    tables = zip(k1.tolist(), k2.tolist(), strict=True)
    p_values = [float(scipy.stats.fisher_exact([[a, n1 - a], [b, n2 - b]]).pvalue) for a, b in tables]
    return pd.DataFrame(
        {
            "example": chosen,
            "label": first.labels[chosen],
            "chosen_by": gaps[chosen],
            "first": k1 / n1,
            "second": k2 / n2,
            "difference": k1 / n1 - k2 / n2,
            "low": low,
            "high": high,
            "p_value": p_values,
            "adjusted": inference.holm_sidak(np.minimum(p_values, 1.0)),
        }
    )


# -- what this module shares ------------------------------------------------------------------


def inner_products(populations: Sequence[Population], level: Level = "example") -> Array:
    """Inner products of all networks' accuracies, whose squared norm is a mean over the examples."""
    check_choice("level", level, Level)
    first = populations[0]
    if level == "network":
        accuracy = np.concatenate([p.network_accuracy for p in populations])
        return np.outer(accuracy, accuracy)
    if level == "class":
        weights = np.bincount(first.labels, minlength=first.num_classes) / first.num_examples
        rows = np.concatenate([class_accuracy(p) for p in populations])
        return np.asarray((rows * weights) @ rows.T)
    networks = sum(map(len, populations))
    total = np.zeros((networks, networks))
    for start in range(0, first.num_examples, 8192):
        part = slice(start, start + 8192)
        rows = np.concatenate([p.correct[:, part] for p in populations]).astype(np.float32)
        total += rows @ rows.T  # whole numbers below 2²⁴, exact
    return total / first.num_examples


def mean_squares(gram: Array, first: NDArray[Any], second: NDArray[Any]) -> tuple[Array, Array]:
    """Mean (p̂ᵢ − q̂ᵢ)², and its expectation by chance, for each row of indicators of the networks."""
    one, other = first.astype(float), second.astype(float)
    m, n = one.sum(1), other.sum(1)
    from_one, from_other = one @ gram, other @ gram
    s11, s12, s22 = ((a * b).sum(1) for a, b in ((from_one, one), (from_one, other), (from_other, other)))
    observed = s11 / m**2 - 2 * s12 / (m * n) + s22 / n**2
    norms = np.diag(gram)
    chance = (one @ norms - s11 / m) / (m * (m - 1)) + (other @ norms - s22 / n) / (n * (n - 1))
    return observed, chance


def signed_root(excess: float) -> float:
    """√excess, and −√−excess if it is negative."""
    return math.copysign(math.sqrt(abs(excess)), excess)


# -- private ----------------------------------------------------------------------------------


def _without_second_order(half: float, gram: Array, m: int, n: int, *, confidence: float) -> float:
    """Half an interval by the jackknife, whose variance has the second-order part of the excess once."""
    if not math.isfinite(half) or min(m, n) < 4:
        return half
    quantile = float(scipy.stats.t.isf((1 - confidence) / 2, min(m, n) - 1))
    first, second, between = gram[:m, :m], gram[m:, m:], gram[:m, m:]
    centred = between - between.mean(0) - between.mean(1, keepdims=True) + between.mean()
    across = float((centred**2).sum()) / ((m - 1) * (n - 1))
    parts = (2 * _squared_covariance(g) / (k * (k - 1)) for g, k in ((first, m), (second, n)))
    second_order = sum(parts) + 4 * across / (m * n)
    variance = (half / quantile) ** 2
    return quantile * math.sqrt(max(variance - second_order, second_order, 0.0))


def _squared_covariance(gram: Array) -> float:
    """tr Σ² without bias, from the U-centred inner products of k networks."""
    k = len(gram)
    return float((u_centred(gram) ** 2).sum()) / (k * (k - 3))


def u_centred(gram: Array) -> Array:
    """Inner products of k networks, centred without their diagonal, so that sums of products have no bias."""
    k = len(gram)
    values = gram - np.diag(np.diag(gram))
    sums = values.sum(1) / (k - 2)
    centred: Array = values - sums[:, None] - sums + values.sum() / ((k - 1) * (k - 2))
    np.fill_diagonal(centred, 0.0)
    return centred


def _halves(populations: Sequence[Population], seed: int) -> list[tuple[Population, Population]]:
    """Two halves of each population, all as large as half of the smallest population."""
    check_same_examples(populations)
    names = [population.name for population in populations]
    if len(set(names)) < len(names):
        raise ValueError(f"populations must have different names, got {names}; give each its own")
    size = min(len(population) for population in populations) // 2
    split = [p.split(seed=seed + i) for i, p in enumerate(populations)]
    return [(first[:size], second[:size]) for first, second in split]


def _newcombe(
    k1: NDArray[np.int64], n1: int, k2: NDArray[np.int64], n2: int, confidence: float
) -> tuple[Array, Array]:
    z = float(scipy.stats.norm.isf((1 - confidence) / 2))

    def wilson(k: NDArray[np.int64], n: int) -> tuple[Array, Array, Array]:
        p = k / n
        centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        return p, centre - half, centre + half

    p, low_p, high_p = wilson(k1, n1)
    q, low_q, high_q = wilson(k2, n2)
    gap = p - q
    return gap - np.hypot(p - low_p, high_q - q), gap + np.hypot(high_p - p, q - low_q)
