"""Accuracy of two populations on classes and on groups of classes, with Welch's tests over networks."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray

from wsnlib.predictions import inference
from wsnlib.predictions.populations import Population, check_same_examples, class_accuracy

Array = NDArray[np.float64]


def accuracy_test(first: Population, second: Population, *, confidence: float = 0.95) -> pd.Series[float]:
    """Welch's t-test of the accuracy on all examples: whether two populations are matched.

    A large p-value does not make them equal; the interval says by how much they may differ.

    Args:
        first, second: Populations over the same examples.
        confidence: Confidence level of the interval of the difference.

    Returns:
        The columns of `class_tests` from `first` to `p_value`.

    References:
        N21, Figure F.1: 94.09 ± 0.01 against 94.08 ± 0.01 %, p = 0.47.

    Examples:
        >>> from wsnlib.predictions import simulate_population
        >>> options = dict(networks=30, labels=np.zeros(400, int), num_classes=2)
        >>> a, b = (simulate_population(np.full(400, 0.5), seed=s, **options) for s in (0, 1))
        >>> test = accuracy_test(a, b)
        >>> bool(test["low"] < 0 < test["high"]), bool(test["p_value"] > 0.05)
        (True, True)
    """
    check_same_examples([first, second])
    columns = _welch(first.network_accuracy[:, None], second.network_accuracy[:, None], confidence)
    return pd.Series({name: float(column[0]) for name, column in columns.items() if name != "adjusted"})


def class_tests(first: Population, second: Population, *, confidence: float = 0.95) -> pd.DataFrame:
    """Welch's t-test of the accuracy on every class, adjusted for as many tests as there are classes.

    Each network gives one number for a class, its accuracy there: networks are independent, its
    predictions are not.

    Args:
        first, second: Populations over the same examples, with at least one of every class.
        confidence: Joint confidence level of all intervals (Šidák).

    Returns:
        One row a class: `class`, `examples`; `first`, `second`, the mean accuracies over networks;
        `first_error`, `second_error`, their standard errors; `difference` with the interval `low`,
        `high`; `t`, `df` of Welch and Satterthwaite; `p_value` and `adjusted` (Holm and Šidák).
        Where neither population varies t does not exist, and the p-value is that of the exact
        permutation test: 1 without a difference, else 1/C(m + n, m), twice that if m = n.

    References:
        N21, Section 7 and Figure 7(c). Welch, *The generalization of "Student's" problem when
        several different population variances are involved* (1947).

    Examples:
        >>> from wsnlib.predictions import simulate_population
        >>> labels, p, q = np.arange(200) % 2, np.full(200, 0.5), np.array([0.5, 0.7] * 100)
        >>> a = simulate_population(p, networks=30, labels=labels, num_classes=2)
        >>> b = simulate_population(q, networks=30, labels=labels, num_classes=2, seed=1)
        >>> (class_tests(a, b)["adjusted"] < 0.05).tolist()
        [False, True]
    """
    check_same_examples([first, second])
    sizes = np.bincount(first.labels, minlength=first.num_classes)
    tests = _welch(class_accuracy(first), class_accuracy(second), confidence)
    return pd.DataFrame({"class": np.arange(first.num_classes), "examples": sizes, **tests})


def group_tests(
    first: Population,
    second: Population,
    *,
    groups: Sequence[str | Collection[str]],
    min_classes: int = 1,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Welch's t-test of the accuracy on every group of classes, adjusted for as many tests as groups.

    Args:
        first, second: As in `class_tests`.
        groups: For each class, in order: the name of its group, such as `CIFAR100_SUPERCLASSES`, or
            the names of all of its groups, which may overlap, such as `wordnet_groups` gives; an
            empty collection where it has none.
        min_classes: Groups with fewer are left out, and not counted as tests. Choose it before
            looking at the results.
        confidence: Joint confidence level of all intervals (Šidák).

    Returns:
        One row a group, the largest first: `group`, `classes`, `examples`, and the columns of
        `class_tests`. The accuracy on a group is that on its examples.

    Raises:
        ValueError: If there is not one entry a class, or no group is large enough.

    References:
        N21, Section 7 and Table F.2.

    Examples:
        >>> from wsnlib.predictions import simulate_population
        >>> labels, p = np.arange(300) % 3, np.full(300, 0.5)
        >>> a, b = (
        ...     simulate_population(p, networks=9, labels=labels, num_classes=3, seed=s) for s in (0, 1)
        ... )
        >>> table = group_tests(a, b, groups=[("animal", "dog"), "animal", "plant"])
        >>> table[["group", "classes", "examples"]].to_numpy().tolist()
        [['animal', 2, 200], ['dog', 1, 100], ['plant', 1, 100]]
    """
    check_same_examples([first, second])
    if len(groups) != first.num_classes:
        raise ValueError(
            f"groups must have {first.num_classes} entries, one for each class, got {len(groups)}"
        )
    members: dict[str, list[int]] = {}
    for number, names in enumerate(groups):
        for name in [names] if isinstance(names, str) else sorted(set(names)):
            members.setdefault(name, []).append(number)
    large = {name: m for name, m in members.items() if len(m) >= min_classes}
    if not large:
        most = max(map(len, members.values()), default=0)
        raise ValueError(
            f"min_classes must be at most {most}, the size of the largest group, got {min_classes}; lower it"
        )
    large = dict(sorted(large.items(), key=lambda item: (-len(item[1]), item[0])))
    belongs = np.array([np.isin(np.arange(first.num_classes), m) for m in large.values()])
    sizes = np.bincount(first.labels, minlength=first.num_classes)
    weights = belongs * sizes / (belongs * sizes).sum(1, keepdims=True)
    tests = _welch(class_accuracy(first) @ weights.T, class_accuracy(second) @ weights.T, confidence)
    counts = {"group": list(large), "classes": belongs.sum(1), "examples": belongs @ sizes}
    return pd.DataFrame({**counts, **tests})


def chosen_difference(
    first: Population, second: Population, *, count: int = 8, confidence: float = 0.95, seed: int = 0
) -> pd.Series[float]:
    """Welch's test of the accuracy on the examples that one half of the networks finds easier for the first.

    The halves are those of `largest_differences`: what chose the examples does not report them.

    Args:
        first, second: Populations over the same examples, of at least four networks each.
        count: Examples to choose, those with the largest accuracy of the first less that of the second.
        confidence: Confidence level of the interval.
        seed: Random seed for splitting the networks.

    Returns:
        The columns of `accuracy_test`, on these examples.

    References:
        N21, Figure F.1(b).

    Examples:
        >>> from wsnlib.predictions import simulate_population
        >>> p = np.repeat([0.5, 0.9], [90, 10])
        >>> options = dict(networks=40, labels=np.zeros(100, int), num_classes=2)
        >>> a = simulate_population(p, **options)
        >>> b = simulate_population(np.full(100, 0.5), seed=1, **options)
        >>> bool(chosen_difference(a, b)["low"] > 0.1), bool(chosen_difference(b, a)["low"] > 0)
        (True, False)
    """
    check_same_examples([first, second])
    if not 1 <= count <= first.num_examples:
        raise ValueError(f"count must be 1 to {first.num_examples}, got {count}")
    choosing, reporting = zip(first.split(seed=seed), second.split(seed=seed + 1), strict=True)
    chosen = np.argsort(choosing[1].accuracy - choosing[0].accuracy, kind="stable")[:count]
    one, other = (p.correct[:, chosen].mean(1, keepdims=True) for p in reporting)
    columns = _welch(one, other, confidence)
    return pd.Series({name: float(column[0]) for name, column in columns.items() if name != "adjusted"})


def gains_by_difficulty(
    smaller: Population, larger: Population, *, confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Where a larger architecture gains: on examples that the smaller gets right rarely, often or always.

    The examples are sorted by one half of the smaller networks and compared with the other half: the
    half that sorts them has had luck on the ones and not on the others.

    Args:
        smaller, larger: Populations over the same examples, of at least four and two networks.
        confidence: Joint confidence level of all intervals (Šidák).
        seed: Random seed for splitting the networks.

    Returns:
        One row for `rarely` (less than half of the networks are right), `often` (half or more, not all),
        `always`, and `often less rarely`, the contrast of two of them (what is always right cannot gain):
        `where`, `examples`, and the columns of `class_tests` from `first` (the larger) to `adjusted`.
        Differences are larger less smaller. Where there are no examples a row is left out.

    References:
        N21, Section 7: "most pronounced for examples where smaller networks were often but not always
        correct" (Figures F.2 and F.3).

    Examples:
        >>> from wsnlib.predictions import simulate_population
        >>> p = np.repeat([0.0, 0.75, 1.0], 100)
        >>> options = dict(networks=20, labels=np.zeros(300, int), num_classes=2)
        >>> a = simulate_population(p, **options)
        >>> b = simulate_population(p + 0.2 * (p == 0.75), seed=1, **options)
        >>> table = gains_by_difficulty(a, b).set_index("where")["difference"].round(1)
        >>> table.to_dict()
        {'rarely': 0.0, 'often': 0.2, 'always': 0.0, 'often less rarely': 0.2}
    """
    check_same_examples([smaller, larger])
    sorting, compared = smaller.split(seed=seed)
    accuracy = sorting.accuracy
    groups = {
        "rarely": accuracy < 0.5,
        "often": (accuracy >= 0.5) & (accuracy < 1),
        "always": accuracy == 1,
    }
    groups = {name: members for name, members in groups.items() if members.any()}
    counts = {name: int(members.sum()) for name, members in groups.items()}
    bounds = [1.0] * len(groups)
    if contrast := {"rarely", "often"} <= set(groups):
        counts["often less rarely"] = counts["often"] + counts["rarely"]
        bounds.append(2.0)

    def columns(population: Population) -> Array:
        means = {name: population.correct[:, members].mean(1) for name, members in groups.items()}
        return np.column_stack([*means.values(), *([means["often"] - means["rarely"]] if contrast else [])])

    tests = _welch(columns(larger), columns(compared), confidence, np.array(bounds))
    return pd.DataFrame({"where": [*counts], "examples": [*counts.values()], **tests})


def _welch(first: Array, second: Array, confidence: float, bounds: float | Array = 1.0) -> dict[str, Array]:
    """Columns of a table with one test for every column of (networks, tests), differences within bounds."""
    (m, tests), n = first.shape, len(second)
    each = inference.sidak_confidence(confidence, tests)
    means = [values.mean(0) for values in (first, second)]
    # a spread of rounding alone is none
    spreads = [np.where(np.ptp(v, axis=0) > 1e-12, v.var(0, ddof=1), 0.0) / len(v) for v in (first, second)]
    gap, error = means[0] - means[1], np.sqrt(spreads[0] + spreads[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        t = gap / error
        df = error**4 / (spreads[0] ** 2 / (m - 1) + spreads[1] ** 2 / (n - 1))
    exact = np.where(np.abs(gap) > 1e-12, (1 + (m == n)) / math.comb(m + n, m), 1.0)
    p_values = np.where(error > 0, 2 * scipy.stats.t.sf(np.abs(t), df), exact)
    half = np.where(error > 0, scipy.stats.t.isf((1 - each) / 2, df) * error, np.inf)
    return {
        "first": means[0],
        "first_error": np.sqrt(spreads[0]),
        "second": means[1],
        "second_error": np.sqrt(spreads[1]),
        "difference": gap,
        "low": np.maximum(gap - half, -bounds),
        "high": np.minimum(gap + half, bounds),
        "t": np.where(error > 0, t, np.nan),
        "df": df,
        "p_value": p_values,
        "adjusted": inference.holm_sidak(p_values),
    }
