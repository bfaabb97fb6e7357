"""Populations of predictions: definitions, two routes to one number, scipy, scikit-learn and statsmodels."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep

import wsnlib as wsn
from wsnlib import predictions
from wsnlib.predictions import inference

CLASSES = 3


def population(
    networks: int, *, seed: int = 0, examples: int = 31, name: str = "wide"
) -> wsn.predictions.Population:
    """Predictions without structure, right about half of the time."""
    rng = np.random.default_rng(seed)
    labels = np.arange(examples) % CLASSES
    wrong = rng.random((networks, examples)) < 0.5
    predictions = (labels + wrong * rng.integers(1, CLASSES, wrong.shape)) % CLASSES
    return wsn.predictions.Population(predictions, labels=labels, num_classes=CLASSES, name=name)


def of_correct(correct, *, labels=None, num_classes: int = 2, name: str = "p") -> wsn.predictions.Population:
    correct = np.asarray(correct, dtype=int)
    labels = np.zeros(correct.shape[1], int) if labels is None else np.asarray(labels)
    predictions = (labels + 1 - correct) % num_classes
    return wsn.predictions.Population(predictions, labels=labels, num_classes=num_classes, name=name)


def reordered(
    p: wsn.predictions.Population, networks=slice(None), examples=slice(None)
) -> wsn.predictions.Population:
    return wsn.predictions.Population(
        p.predictions[networks][:, examples],
        labels=p.labels[examples],
        num_classes=p.num_classes,
        name=p.name,
    )


# -- populations --


def test_accuracies_are_means_over_networks_examples_and_classes():
    p = population(7)
    right = np.array([[a == b for a, b in zip(row, p.labels, strict=True)] for row in p.predictions])
    np.testing.assert_array_equal(p.correct, right)
    np.testing.assert_allclose(p.accuracy, right.mean(0))
    np.testing.assert_allclose(p.network_accuracy, right.mean(1))
    of_classes = np.stack([right[:, p.labels == c].mean(1) for c in range(CLASSES)], axis=1)
    np.testing.assert_allclose(wsn.predictions.class_accuracy(p), of_classes)
    assert len(p) == 7 and p.num_examples == 31 and p.counts.dtype == np.int64


def test_rows_of_records_and_an_array_are_one_population():
    p = population(5)
    rows = [row.astype(np.uint8) for row in p.predictions]
    again = wsn.predictions.Population(rows, labels=p.labels.astype(np.uint8), num_classes=CLASSES)
    assert again.predictions.dtype == np.uint8
    np.testing.assert_array_equal(again.correct, p.correct)


def test_halves_are_disjoint_whole_and_drawn_by_the_seed():
    p = population(11, examples=101)
    first, second = p.split(seed=3)
    assert (len(first), len(second), first.name) == (6, 5, "wide")
    rows = {tuple(r) for r in first.predictions} | {tuple(r) for r in second.predictions}
    assert rows == {tuple(r) for r in p.predictions} and len(rows) == 11
    np.testing.assert_array_equal(first.predictions, p.split(seed=3)[0].predictions)
    assert not np.array_equal(first.predictions, p.split(seed=4)[0].predictions)
    assert not np.array_equal(first.predictions, p.predictions[:6])


def test_simulated_networks_have_the_probabilities_and_the_spread_asked_for():
    labels = np.repeat(np.arange(3), 40)
    p = np.tile(np.linspace(0, 1, 40), 3)
    options = {"networks": 2000, "labels": labels, "num_classes": 3}
    plain = wsn.predictions.simulate_population(p, **options)
    error = np.sqrt(p * (1 - p) / 2000)
    assert np.all(np.abs(plain.accuracy - p) <= 4.5 * error)
    missed = plain.predictions[:, (p == 0) & (labels == 1)]
    assert set(np.unique(missed)) == {0, 2} and abs((missed == 0).mean() - 0.5) < 4.5 / math.sqrt(8000)
    # variance of the networks' accuracies: binomial, more with a spread; and classes go together or not
    binomial = np.sum(p * (1 - p)) / 120**2
    assert plain.network_accuracy.var() == pytest.approx(binomial, rel=5 * math.sqrt(2 / 2000))
    spread = wsn.predictions.class_accuracy(wsn.predictions.simulate_population(p, spread=1.0, **options))
    by_class = wsn.predictions.class_accuracy(
        wsn.predictions.simulate_population(p, class_spread=1.0, **options)
    )
    assert np.corrcoef(spread.T)[0, 1] > 0.7 and abs(np.corrcoef(by_class.T)[0, 1]) < 4.5 / math.sqrt(2000)
    assert by_class.var(0).min() > 5 * plain.correct[:, :40].mean(1).var()


# -- many tests, looks, permutations --


def test_holm_sidak_is_statsmodels():
    rng = np.random.default_rng(0)
    for n in (1, 2, 17):
        p = rng.random(n) ** 3
        p[0] = 0.0
        expected = multipletests(p, method="holm-sidak")[1]
        np.testing.assert_allclose(wsn.predictions.holm_sidak(p), expected, rtol=1e-12)
    np.testing.assert_array_equal(wsn.predictions.holm_sidak([1.0, 1.0]), [1, 1])
    np.testing.assert_allclose(wsn.predictions.holm_sidak([1e-20, 1.0]), [2e-20, 1.0])  # no digits lost


def test_assignments_choose_every_subset_equally_often():
    chosen = inference.assignments(2, 3, permutations=20_000, seed=0)
    assert np.all(chosen.sum(1) == 2)
    _, counts = np.unique(chosen, axis=0, return_counts=True)
    assert len(counts) == math.comb(5, 2)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_permutation_p_values_count_ties_and_the_observed_order():
    permuted = np.array([1.0, 2.0, 3.0 * (1 - 1e-15), 4.0])
    assert inference.permutation_p_value(3.0, permuted) == 3 / 5
    assert inference.permutation_p_value(5.0, permuted) == 1 / 5


def test_jackknife_of_a_mean_is_students_interval():
    x = np.random.default_rng(0).normal(size=9)
    low, high = inference.jackknife(lambda a, b: (a @ x[:, None])[:, 0] / a.sum(1), 9, 0, confidence=0.9)
    half = stats.t.ppf(0.95, 8) * x.std(ddof=1) / 3
    assert (low, high) == pytest.approx((x.mean() - half, x.mean() + half))


def test_jackknife_of_a_difference_adds_the_variances_of_both_samples():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=5), rng.normal(size=7)
    z = np.concatenate([x, y])
    low, high = inference.jackknife(lambda a, b: a @ z / a.sum(1) - b @ z / b.sum(1), 5, 7, confidence=0.9)
    half = stats.t.ppf(0.95, 4) * math.sqrt(x.var(ddof=1) / 5 + y.var(ddof=1) / 7)
    gap = x.mean() - y.mean()
    assert (low, high) == pytest.approx((gap - half, gap + half))
    assert inference.jackknife(lambda a, b: a @ z, 2, 10, confidence=0.9) == (-np.inf, np.inf)


# -- dispersion --


def test_excess_is_the_mean_over_examples_of_its_definition():
    a, b = population(5), population(7, seed=1)
    p, q = a.accuracy, b.accuracy
    found = wsn.predictions.dispersion(a, b, permutations=1)
    chance = np.mean(p * (1 - p) / 4 + q * (1 - q) / 6)
    assert found.observed == pytest.approx(np.mean((p - q) ** 2), rel=1e-12)
    assert found.chance == pytest.approx(chance, rel=1e-12)
    assert found.excess == pytest.approx(found.observed - chance, rel=1e-9)
    assert found.ratio == pytest.approx(found.observed / chance)


def test_excess_of_classes_weighs_them_by_their_examples():
    a, b = population(5), population(7, seed=1)
    weights = np.bincount(a.labels) / a.num_examples
    x, y = wsn.predictions.class_accuracy(a), wsn.predictions.class_accuracy(b)
    found = wsn.predictions.dispersion(a, b, level="class", permutations=1)
    assert found.observed == pytest.approx(weights @ (x.mean(0) - y.mean(0)) ** 2)
    assert found.chance == pytest.approx(weights @ (x.var(0, ddof=1) / 5 + y.var(0, ddof=1) / 7))
    x, y = a.network_accuracy, b.network_accuracy
    found = wsn.predictions.dispersion(a, b, level="network", permutations=1)
    assert found.observed == pytest.approx((x.mean() - y.mean()) ** 2)
    assert found.chance == pytest.approx(x.var(ddof=1) / 5 + y.var(ddof=1) / 7)


def test_excess_is_without_bias_however_few_the_networks():
    """Sum over all outcomes of 2 and 3 networks, each with its probability."""
    p, q, expectation = 0.3, 0.8, 0.0
    for outcome in itertools.product((0, 1), repeat=5):
        x, y = np.array(outcome[:2])[:, None], np.array(outcome[2:])[:, None]
        probability = np.prod(np.where(x, p, 1 - p)) * np.prod(np.where(y, q, 1 - q))
        expectation += (
            probability * wsn.predictions.dispersion(of_correct(x), of_correct(y), permutations=1).excess
        )
    assert expectation == pytest.approx((p - q) ** 2)


def test_permutation_test_is_the_exact_one_in_the_limit():
    a, b = population(3, examples=7), population(4, seed=5, examples=7)
    joined = np.concatenate([a.correct, b.correct])
    values = []
    for chosen in itertools.combinations(range(7), 3):
        rest = [i for i in range(7) if i not in chosen]
        p, q = joined[list(chosen)].mean(0), joined[rest].mean(0)
        values.append(np.mean((p - q) ** 2 - p * (1 - p) / 2 - q * (1 - q) / 3))
    exact = np.mean(np.array(values) >= values[0] - 1e-12)
    assert 0.05 < exact < 0.95
    found = wsn.predictions.dispersion(a, b, permutations=20_000).p_value
    assert found == pytest.approx(exact, abs=4.5 * math.sqrt(exact * (1 - exact) / 20_000))


def test_interval_of_the_excess_leaves_one_network_out_at_a_time():
    a, b = population(4), population(5, seed=1)
    parts = []
    for left, right in ((a, None), (None, b)):
        leave = left or right
        values = []
        for i in range(len(leave)):
            rest = leave[np.delete(np.arange(len(leave)), i)]
            values.append(
                wsn.predictions.dispersion(rest if left else a, b if left else rest, permutations=1).excess
            )
        parts.append((len(values) - 1) * np.var(values))
    found = wsn.predictions.dispersion(a, b, confidence=0.8, permutations=1)
    second = 2 * squared(a, a) / (4 * 3) + 2 * squared(b, b) / (5 * 4) + 4 * squared(a, b) / (4 * 5)
    half = stats.t.ppf(0.9, 3) * math.sqrt(max(sum(parts) - second, second))
    assert (found.low, found.high) == pytest.approx((found.excess - half, found.excess + half))


def squared(a, b) -> float:
    """tr ΣT over networks without bias: mean of ((x − x′)·(y − y′))² / 4 over distinct networks."""
    x, y = a.correct.astype(float), b.correct.astype(float)
    values = [
        ((x[i] - x[j]) @ (y[k] - y[m]) / x.shape[1]) ** 2 / 4
        for i, j in itertools.permutations(range(len(x)), 2)
        for k, m in itertools.permutations(range(len(y)), 2)
        if a is not b or len({i, j, k, m}) == 4
    ]
    return float(np.mean(values))


def test_dispersion_does_not_know_the_order_of_networks_examples_or_populations():
    a, b = population(6), population(5, seed=1)
    order = np.random.default_rng(0).permutation(31)
    base = wsn.predictions.dispersion(a, b, permutations=1)
    moved = wsn.predictions.dispersion(
        reordered(a, slice(None, None, -1), order), reordered(b, [2, 0, 1, 4, 3], order), permutations=1
    )
    turned = wsn.predictions.dispersion(b, a, permutations=1)
    for other in (moved, turned):
        assert other.excess == pytest.approx(base.excess)
        assert (other.low, other.high) == pytest.approx((base.low, base.high))


def test_many_examples_are_added_up_in_parts():
    a, b = population(3, examples=20_011), population(4, seed=1, examples=20_011)
    found = wsn.predictions.dispersion(a, b, permutations=1)
    assert found.observed == pytest.approx(np.mean((a.accuracy - b.accuracy) ** 2), rel=1e-12)


def test_difference_and_ratio_have_a_sign_and_limits():
    perfect, alike = (of_correct(np.ones((3, 5))) for _ in range(2))
    wrong = of_correct(np.zeros((3, 5)))
    none = wsn.predictions.dispersion(perfect, alike, permutations=9)
    assert none.excess == 0 and math.isnan(none.ratio) and none.p_value == 1
    whole = wsn.predictions.dispersion(perfect, wrong, permutations=9)
    assert whole.excess == whole.difference == 1 and whole.ratio == math.inf
    same = [of_correct([[0, 1], [1, 0], [0, 0]]) for _ in range(2)]
    assert wsn.predictions.dispersion(*same, permutations=9).difference == -math.sqrt(1 / 3 * 2 / 3)


def test_shares_of_classes_and_of_the_accuracy_add_up():
    a, b = population(8), population(9, seed=1)
    fine = wsn.predictions.dispersion(a, b, permutations=1).excess
    for level in ("class", "network"):
        coarse = wsn.predictions.dispersion(a, b, level=level, permutations=1).excess
        share, low, high = wsn.predictions.explained_share(a, b, level=level)
        assert share == pytest.approx(coarse / fine) and low < share < high
    with np.errstate(all="raise"):
        perfect = [of_correct(np.ones((3, 5)), labels=[0, 1, 0, 1, 1]) for _ in range(2)]
        assert math.isnan(wsn.predictions.explained_share(*perfect)[0])


def test_table_compares_halves_of_one_size_and_corrects_for_all_pairs():
    populations = [population(n, seed=n, name=str(n)) for n in (9, 8, 12)]
    table = wsn.predictions.dispersion_table(populations, permutations=99, confidence=0.9)
    pairs = list(zip(table["first"], table["second"], strict=True))
    assert pairs == [("9", "9"), ("9", "8"), ("9", "12"), ("8", "8"), ("8", "12"), ("12", "12")]
    assert set(table["networks"]) == {4}
    np.testing.assert_allclose(table["adjusted"], multipletests(table["p_value"], method="holm-sidak")[1])
    first, second = (p.split(seed=i)[0][:4] for i, p in enumerate(populations[:2]))
    row = wsn.predictions.dispersion(first, second, confidence=0.9 ** (1 / 6), permutations=99, seed=1)
    assert table.loc[1, ["excess", "low", "p_value"]].tolist() == [row.excess, row.low, row.p_value]
    own = wsn.predictions.dispersion(*(h[:4] for h in populations[0].split(seed=0)), permutations=1)
    assert table.loc[0, "excess"] == own.excess


def test_scatter_counts_every_example_once():
    a, b = population(3), population(4, seed=1)
    table = wsn.predictions.accuracy_scatter(a, b)
    assert table["examples"].sum() == 31 and not table.duplicated(["first", "second"]).any()
    expected = pd.Series(zip(a.accuracy, b.accuracy, strict=True)).value_counts()
    for row in table.itertuples():
        assert expected[(row.first, row.second)] == row.examples


def test_largest_differences_are_chosen_and_reported_on_different_networks():
    a, b = population(20), population(15, seed=1)
    table = wsn.predictions.largest_differences(a, b, count=6, confidence=0.9, seed=4)
    choosing, reporting = zip(a.split(seed=4), b.split(seed=5), strict=True)
    gaps = choosing[0].accuracy - choosing[1].accuracy
    assert np.abs(gaps[table["example"]]).min() >= np.sort(np.abs(gaps))[-6]
    np.testing.assert_allclose(table["chosen_by"], gaps[table["example"]])
    assert (np.diff(table["chosen_by"].abs()) <= 0).all()
    np.testing.assert_array_equal(table["label"], a.labels[table["example"]])
    (k1, n1), (k2, n2) = ((p.counts[table["example"]], len(p)) for p in reporting)
    np.testing.assert_allclose(table["first"], k1 / n1)
    np.testing.assert_allclose(table["difference"], k1 / n1 - k2 / n2)
    for row, x, y in zip(table.itertuples(), k1, k2, strict=True):
        low, high = confint_proportions_2indep(x, n1, y, n2, method="newcomb", alpha=1 - 0.9 ** (1 / 6))
        assert (row.low, row.high) == pytest.approx((low, high))
        assert row.p_value == pytest.approx(stats.fisher_exact([[x, n1 - x], [y, n2 - y]]).pvalue)
    np.testing.assert_array_equal(table["adjusted"], wsn.predictions.holm_sidak(table["p_value"]))


# -- agreement --


def test_error_consistency_is_cohens_kappa_of_being_right():
    a, b = population(4, examples=53), population(3, seed=1, examples=53)
    values = wsn.predictions.error_consistency([a, b])
    right = np.concatenate([a.predictions, b.predictions]) == a.labels
    for i, j in itertools.product(range(7), repeat=2):
        assert values[i, j] == pytest.approx(cohen_kappa_score(right[i], right[j]))


def test_perfect_networks_have_no_error_consistency():
    perfect, other = of_correct(np.ones((3, 4))), of_correct(np.eye(4)[:3], name="q")
    with np.errstate(all="raise"):
        values = wsn.predictions.error_consistency([perfect, other])
        table = wsn.predictions.consistency_table([perfect, other], permutations=9, resamples=9)
    assert math.isnan(values[0, 1]) and values[0, 0] == 1 and values[0, 3] == 0
    within, between, _ = table.set_index(["first", "second"]).itertuples()
    assert math.isnan(within.mean) and math.isnan(within.low) and math.isnan(within.p_value)
    assert between.mean == 0 and math.isnan(between.deficit) and math.isnan(between.adjusted)


def test_consistency_is_averaged_over_pairs_of_different_networks():
    a, b, c = population(4), population(5, seed=1, name="deep"), population(3, seed=2, name="other")
    table = wsn.predictions.consistency_table([a, b, c], permutations=99).set_index(["first", "second"])
    assert len(table) == 6
    values = wsn.predictions.error_consistency([a, b, c])
    of_a, of_b, between = values[:4, :4], values[4:9, 4:9], values[:4, 4:9]
    within = [np.mean(v[~np.eye(len(v), dtype=bool)]) for v in (of_a, of_b)]
    assert table.loc[("wide", "wide"), "mean"] == pytest.approx(within[0])
    assert table.loc[("deep", "deep"), "mean"] == pytest.approx(within[1])
    row = table.loc[("wide", "deep")]
    assert row["mean"] == pytest.approx(between.mean())
    assert row["deficit"] == pytest.approx(np.mean(within) - between.mean())
    assert (row["deficit_low"] + row["deficit_high"]) / 2 == pytest.approx(row["deficit"])
    tested = table["p_value"].notna()
    assert tested.tolist() == [False, True, True, False, True, False]
    adjusted = multipletests(table.loc[tested, "p_value"], method="holm-sidak")[1]
    np.testing.assert_allclose(table.loc[tested, "adjusted"], adjusted)


def test_resamples_are_of_networks_within_populations_and_of_the_same_images_for_all():
    """By hand, with kappas of scikit-learn, of the draws that the generator gives."""
    a, b = population(4, examples=53), population(3, seed=1, examples=53)
    means, resampled = wsn.predictions.resampled_consistency([a, b], resamples=3, seed=5)
    rng = np.random.default_rng(5)
    for each in resampled:
        images = rng.integers(53, size=53)
        drawn = [rng.integers(n, size=n) for n in (4, 3)]
        right = [p.correct[:, images] for p in (a, b)]
        for i, j in itertools.product(range(2), repeat=2):
            pairs = [
                cohen_kappa_score(right[i][x], right[j][y])
                for x, y in itertools.product(drawn[i], drawn[j])
                if i != j or x != y
            ]
            assert each[i, j] == pytest.approx(np.mean(pairs))
    assert means[0, 1] == pytest.approx(wsn.predictions.error_consistency([a, b])[:4, 4:].mean())


def test_an_interval_of_a_bootstrap_is_students_and_of_two_networks_infinite():
    from wsnlib.predictions import inference

    values = np.array([1.0, 2.0, 4.0, np.nan])
    low, high = inference.bootstrap(7.0, values, networks=5, confidence=0.9)
    assert (low + high) / 2 == pytest.approx(7)
    assert high - 7 == pytest.approx(stats.t.ppf(0.95, 4) * np.std(values[:3], ddof=1))
    assert inference.bootstrap(7.0, values, networks=2, confidence=0.9) == (-math.inf, math.inf)
    assert inference.bootstrap(7.0, values[2:], networks=5, confidence=0.9) == (-math.inf, math.inf)
    assert all(map(math.isnan, inference.bootstrap(math.nan, values, networks=5, confidence=0.9)))


def test_error_consistency_of_independent_errors_is_zero_and_of_equal_ones_one():
    rng = np.random.default_rng(0)
    correct = rng.random((2, 100_003)) < np.array([[0.7], [0.9]])
    values = wsn.predictions.error_consistency([of_correct(correct)])
    assert abs(values[0, 1]) < 4.5 / math.sqrt(100_003)
    same = wsn.predictions.error_consistency([of_correct(np.stack([correct[0], correct[0]]))])
    assert same[0, 1] == 1


# -- classes and groups --


def test_class_tests_are_scipys_welch_tests():
    a, b = population(9, examples=61), population(13, seed=1, examples=61)
    table = wsn.predictions.class_tests(a, b, confidence=0.9)
    x, y = wsn.predictions.class_accuracy(a), wsn.predictions.class_accuracy(b)
    for row in table.itertuples(index=False):
        c = row[0]
        expected = stats.ttest_ind(x[:, c], y[:, c], equal_var=False)
        interval = expected.confidence_interval(0.9 ** (1 / 3))
        assert (row.t, row.df, row.p_value) == pytest.approx(
            (expected.statistic, expected.df, expected.pvalue)
        )
        assert (row.low, row.high) == pytest.approx((interval.low, interval.high))
        assert row.first_error == pytest.approx(stats.sem(x[:, c]))
        assert (row.first, row.second) == pytest.approx((x[:, c].mean(), y[:, c].mean()))
        assert row.second_error == pytest.approx(stats.sem(y[:, c]))
        assert row.examples == np.sum(a.labels == c)
    np.testing.assert_allclose(table["adjusted"], multipletests(table["p_value"], method="holm-sidak")[1])
    np.testing.assert_allclose(table["difference"], table["first"] - table["second"])


def test_classes_without_variation_get_the_exact_permutation_p_value():
    labels = [0, 0, 1, 1, 1]
    a = of_correct([[1, 1, 1, 0, 0]] * 3, labels=labels)
    b = of_correct([[1, 1, 1, 1, 0]] * 4, labels=labels)
    with np.errstate(all="raise"):
        table = wsn.predictions.class_tests(a, b)
    assert table["p_value"].tolist() == [1.0, 1 / math.comb(7, 3)]
    even = wsn.predictions.class_tests(a, of_correct([[1, 1, 1, 1, 0]] * 3, labels=labels))
    assert even["p_value"].tolist() == [1.0, 2 / math.comb(6, 3)]
    assert table["t"].isna().all() and table["low"].tolist() == [-1, -1] and table["high"].tolist() == [1, 1]


def test_accuracy_test_is_scipys():
    a, b = population(9), population(13, seed=1)
    expected = stats.ttest_ind(a.network_accuracy, b.network_accuracy, equal_var=False)
    found = wsn.predictions.accuracy_test(a, b, confidence=0.8)
    assert found["p_value"] == pytest.approx(expected.pvalue)
    assert found["high"] == pytest.approx(expected.confidence_interval(0.8).high)
    assert "adjusted" not in found


def test_groups_are_unions_of_classes_weighted_by_examples():
    labels = np.array([0, 1, 1, 2, 2, 2, 3])
    rng = np.random.default_rng(0)
    a, b = (of_correct(rng.random((n, 7)) < 0.6, labels=labels, num_classes=4) for n in (6, 8))
    groups = [("x", "y", "x"), "y", {"x", "z"}, ()]
    table = wsn.predictions.group_tests(a, b, groups=groups)
    assert table[["group", "classes", "examples"]].to_numpy().tolist() == [
        ["x", 2, 4],
        ["y", 2, 3],
        ["z", 1, 3],
    ]
    members = {"x": [0, 3, 4, 5], "y": [0, 1, 2], "z": [3, 4, 5]}
    for row in table.itertuples():
        x, y = (p.correct[:, members[row.group]].mean(1) for p in (a, b))
        assert row.first == pytest.approx(x.mean())
        assert row.p_value == pytest.approx(stats.ttest_ind(x, y, equal_var=False).pvalue)
    np.testing.assert_allclose(table["adjusted"], multipletests(table["p_value"], method="holm-sidak")[1])
    large = wsn.predictions.group_tests(a, b, groups=groups, min_classes=2)
    assert large["group"].tolist() == ["x", "y"]
    np.testing.assert_allclose(large["adjusted"], multipletests(large["p_value"], method="holm-sidak")[1])


def test_one_group_of_each_class_gives_the_class_tests():
    a, b = population(9), population(13, seed=1)
    by_group = wsn.predictions.group_tests(a, b, groups=["0", "1", "2"]).sort_values(
        "group", ignore_index=True
    )
    by_class = wsn.predictions.class_tests(a, b)
    shared = by_class.columns[1:]
    pd.testing.assert_frame_equal(by_group[shared], by_class[shared])
    whole = wsn.predictions.group_tests(a, b, groups=["all"] * 3).iloc[0]
    assert whole["p_value"] == pytest.approx(wsn.predictions.accuracy_test(a, b)["p_value"])


def test_superclasses_of_cifar_100_are_those_of_the_data_set():
    """The coarse label of each fine label, as the data set's files have them."""
    coarse = [
        *(4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7),
        *(6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10),
        *(16, 4, 17, 4, 2, 0, 17, 4, 18, 17, 10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16),
        *(12, 9, 13, 15, 13, 16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13),
    ]  # fmt: skip
    names = list(wsn.predictions.CIFAR100_GROUPS)
    assert names == sorted(names) and len(names) == 20
    assert [names.index(group) for group in wsn.predictions.CIFAR100_SUPERCLASSES] == coarse
    assert len(set(wsn.predictions.CIFAR100_CLASSES)) == 100
    assert all(len(five) == 5 for five in wsn.predictions.CIFAR100_GROUPS.values())


def test_wordnet_groups_follow_every_path_up(tmp_path):
    file = tmp_path / "is_a.txt"
    file.write_text("n1 n2\nn1 n3\n\nn2\tn4\nn3 n4\nn3 n5\nn9 n8\nn6 n7\nn7 n6\n")
    groups = wsn.predictions.wordnet_groups(
        ["n4", "n5", "n1", "n6"], is_a=file, names={"n1": "entity", "n5": "dog"}
    )
    assert groups == [("n4", "entity", "n2", "n3"), ("dog", "entity", "n3"), ("entity",), ("n6", "n7")]
    a, b = (
        of_correct(np.random.default_rng(s).random((4, 8)) < 0.5, labels=np.arange(8) % 4, num_classes=4)
        for s in (0, 1)
    )
    assert wsn.predictions.group_tests(a, b, groups=groups).loc[0, ["group", "classes"]].tolist() == [
        "entity",
        3,
    ]


# -- bad input --

LABELS = [0, 1, 2, 0]


def small(predictions=((0, 1, 2, 0), (0, 1, 1, 0)), labels=LABELS, num_classes=3, name="deep"):
    return wsn.predictions.Population(
        np.array(predictions), labels=labels, num_classes=num_classes, name=name
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"predictions": [[0, 1, 2, 0]]}, "'deep' must have at least 2 networks, got 1"),
        ({"predictions": np.zeros((0, 4), int)}, "'deep' must have at least 2 networks, got 0"),
        ({"predictions": [[0, 1, 2], [0, 1, 2]]}, r"network 0 of 'deep' must be of shape \(4,\), one for each label, got \(3,\)"),
        ({"predictions": np.zeros((2, 4, 1), int)}, r"must be of shape \(4,\), one for each label, got \(4, 1\)"),
        ({"predictions": [[0, 1, 3, 0], [0, 1, 1, 0]]}, "predictions of 'deep' must be classes of 0 to 2, got 3"),
        ({"predictions": [[0, 1, -1, 0], [0, 1, 1, 0]]}, "predictions of 'deep' must be classes of 0 to 2, got -1"),
        ({"predictions": np.zeros((2, 4))}, "predictions of 'deep' must be integers, got float64"),
        ({"labels": [0, 1, 2, 3]}, "labels of 'deep' must be classes of 0 to 2, got 3"),
        ({"labels": [0.0, 1.0, 2.0, 0.0]}, "labels of 'deep' must be integers, got float64"),
        ({"labels": np.zeros(0, int), "predictions": np.zeros((2, 0), int)}, r"labels of 'deep' must be of shape \(examples,\), at least one, got \(0,\)"),
        ({"num_classes": 1}, "num_classes must be ≥ 2, got 1"),
    ],
)  # fmt: skip
def test_a_population_that_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_labels_of_two_dimensions_are_refused():
    with pytest.raises(
        ValueError, match=r"labels of 'deep' must be of shape \(examples,\), at least one, got \(2, 4\)"
    ):
        small(labels=np.zeros((2, 4), int))


def test_a_record_without_predictions_is_named():
    rows = [np.array([0, 1, 2, 0]), np.array([0, 1, 2, 0]), None]
    with pytest.raises(ValueError, match="'deep' must have predictions, got none of network 2"):
        wsn.predictions.Population(rows, labels=LABELS, num_classes=3, name="deep")
    rows[2] = np.array([0, 1, 2])
    with pytest.raises(ValueError, match=r"network 2 of 'deep' must be of shape .*, got \(3,\)"):
        wsn.predictions.Population(rows, labels=LABELS, num_classes=3, name="deep")


PAIRWISE = [
    wsn.predictions.dispersion,
    wsn.predictions.explained_share,
    wsn.predictions.accuracy_scatter,
    wsn.predictions.largest_differences,
    wsn.predictions.accuracy_test,
    wsn.predictions.class_tests,
    wsn.predictions.logistic_models,
    lambda a, b: wsn.predictions.group_tests(a, b, groups=["x"] * 3),
    lambda a, b: wsn.predictions.consistency_table([a, b]),
    lambda a, b: wsn.predictions.error_consistency([a, b]),
    lambda a, b: wsn.predictions.resampled_consistency([a, b]),
    lambda a, b: wsn.predictions.dispersion_table([a, b]),
]


@pytest.mark.parametrize("function", PAIRWISE)
def test_populations_over_other_examples_or_classes_are_refused(function):
    a = small(name="wide")
    with pytest.raises(ValueError, match="'wide' and 'deep' must have as many examples, got 4 and 3"):
        function(a, small([[0, 1, 2], [0, 1, 1]], [0, 1, 2]))
    with pytest.raises(
        ValueError, match="'wide' and 'deep' must be of the same examples .*, got labels 2 and 1 at example 2"
    ):
        function(a, small(labels=[0, 1, 1, 0]))
    with pytest.raises(ValueError, match="'wide' and 'deep' must have as many classes, got 3 and 4"):
        function(a, small(num_classes=4))
    with pytest.raises(ValueError, match="populations must be of different networks, got 'wide' twice"):
        function(a, a)


def test_a_class_without_examples_is_refused_where_classes_count():
    a, b = small(num_classes=4, name="wide"), small(num_classes=4)
    message = "the labels of 'wide' must hold each of the 4 classes, got no example of class 3"
    for function in (
        wsn.predictions.class_tests,
        wsn.predictions.logistic_models,
        wsn.predictions.explained_share,
        lambda x, y: wsn.predictions.dispersion(x, y, level="class"),
        lambda x, y: wsn.predictions.group_tests(x, y, groups=["x"] * 4),
    ):
        with pytest.raises(ValueError, match=message):
            function(a, b)
    assert wsn.predictions.dispersion(a, b, permutations=1).chance > 0


def test_arguments_out_of_range_are_named():
    a, b = population(4), population(5, seed=1)
    with pytest.raises(ValueError, match="'wide' must have at least 4 networks to be split in two, got 3"):
        a[:3].split(seed=0)
    with pytest.raises(ValueError, match="'wide' must have at least 2 networks, got 1"):
        _ = a[:1]
    with pytest.raises(ValueError, match="count must be 1 to 31, got 32"):
        wsn.predictions.largest_differences(a, b, count=32)
    with pytest.raises(ValueError, match="level must be one of 'example', 'class', 'network', got 'all'"):
        wsn.predictions.dispersion(a, b, level="all")
    with pytest.raises(ValueError, match="permutations must be ≥ 1, got 0"):
        wsn.predictions.dispersion(a, b, permutations=0)
    with pytest.raises(ValueError, match="confidence must be > 0 and < 1, got 95"):
        wsn.predictions.dispersion(a, b, confidence=95)
    with pytest.raises(ValueError, match="resamples must be ≥ 1, got 0"):
        wsn.predictions.resampled_consistency([a], resamples=0)
    for function in (wsn.predictions.consistency_table, wsn.predictions.dispersion_table):
        with pytest.raises(ValueError, match=r"must have different names, got \['wide', 'wide'\]"):
            function([a, b])
    with pytest.raises(ValueError, match="groups must have 3 entries, one for each class, got 2"):
        wsn.predictions.group_tests(a, b, groups=["x", "y"])
    with pytest.raises(
        ValueError, match="min_classes must be at most 2, the size of the largest group, got 3"
    ):
        wsn.predictions.group_tests(a, b, groups=["x", "x", "y"], min_classes=3)
    with pytest.raises(
        ValueError, match=r"p_values must be a sequence of numbers of 0 to 1, got \[0.1 nan\]"
    ):
        wsn.predictions.holm_sidak([0.1, np.nan])
    with pytest.raises(ValueError, match=r"must be of one shape \(examples,\), got \(2,\) and \(1,\)"):
        wsn.predictions.simulate_population([0.1, 0.2], networks=2, labels=[0], num_classes=2)
    with pytest.raises(ValueError, match="probabilities must be 0 to 1, got 0.1 to 1.2"):
        wsn.predictions.simulate_population([0.1, 1.2], networks=2, labels=[0, 1], num_classes=2)


def test_impossible_plans_are_refused():
    for name, value in (("difference", 0), ("deviation", -1), ("networks", 1), ("tests", 0), ("level", 1)):
        options = {"difference": 0.1, "deviation": 0.1, "networks": 5, name: value}
        with pytest.raises(ValueError, match=f"{name} must be .*, got {value}"):
            wsn.predictions.class_test_power(options.pop("difference"), **options)
    with pytest.raises(ValueError, match="power must be > 0 and < 1, got 1"):
        wsn.predictions.networks_for_class_test(0.1, deviation=0.1, power=1)
    with pytest.raises(
        ValueError, match="must be at most 16,777,216, got more; plan for a larger difference"
    ):
        wsn.predictions.networks_for_class_test(1e-6, deviation=0.1)
    with pytest.raises(ValueError, match="'wide' must have at least 4 networks to be a pilot, got 3"):
        wsn.predictions.dispersion_power(population(3), difference=0.1, networks=5)
    perfect = of_correct(np.ones((5, 7)))
    with pytest.raises(ValueError, match="the networks of 'p' must differ enough to plan with"):
        wsn.predictions.dispersion_power(perfect, difference=0.1, networks=5)


def test_a_damaged_hierarchy_is_refused(tmp_path):
    file = tmp_path / "is_a.txt"
    file.write_text("n1 n2\nn1 n2 n3\n")
    with pytest.raises(ValueError, match="must be 'parent child', got 'n1 n2 n3' in line 2"):
        wsn.predictions.wordnet_groups(["n2"], is_a=file)
    file.write_text("n1 n2\n")
    with pytest.raises(ValueError, match="synsets must occur in is_a.txt, got 'n3'"):
        wsn.predictions.wordnet_groups(["n2", "n3"], is_a=file)


def test_statistics_of_predictions_need_no_torch():
    code = (
        "import sys, numpy as np, wsnlib as wsn;"
        "p, q = (wsn.predictions.Population(np.eye(4, dtype=int), labels=[0, 1, 0, 1], num_classes=2) for _ in range(2));"
        "wsn.predictions.dispersion(p, q); wsn.predictions.logistic_models(p, q, permutations=1); wsn.predictions.consistency_table([p]);"
        "print('torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"


def test_tensors_and_lists_are_welcome_where_arrays_are():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=29)
    drawn = np.where(rng.random((5, 29)) < 0.7, labels, rng.integers(3, size=(5, 29)))
    expected = predictions.Population(drawn, labels=labels, num_classes=3)
    counts = [rng.integers(6, size=29) for _ in range(2)]
    groups = np.arange(29) % 3
    levels, shares = [0.01, 0.2, 0.03], rng.random(29)
    for change in (torch.tensor, list, lambda x: [torch.tensor(row) for row in x]):
        found = predictions.Population(change(drawn), labels=torch.tensor(labels), num_classes=np.int64(3))
        np.testing.assert_array_equal(found.accuracy, expected.accuracy)
        np.testing.assert_array_equal(found[torch.tensor([0, 2])].counts, expected[np.array([0, 2])].counts)
    for change in (lambda x: torch.as_tensor(np.array(x)), list):
        np.testing.assert_array_equal(predictions.holm_sidak(change(levels)), predictions.holm_sidak(levels))
        first, second = (
            predictions.fit_logistic(*map(c, counts), networks=(5, 5), groups=c(groups))
            for c in (change, np.array)
        )
        assert (first.log_likelihood, first.squares) == (second.log_likelihood, second.squares)
        first, second = (
            predictions.simulate_population(c(shares), networks=5, labels=c(labels), num_classes=3)
            for c in (change, np.array)
        )
        np.testing.assert_array_equal(first.predictions, second.predictions)
        pairs = [
            predictions.matched_pairs({"a": c(shares[:3])}, {"b": c(shares[3:6])}) for c in (change, np.array)
        ]
        assert pairs[0].equals(pairs[1])


def test_what_is_no_list_of_populations_is_named():
    a = population(5)
    for given, got in (
        ([], "none"),
        (a, "Population"),
        ({"a": a}, "dict"),
        ([a, a.predictions], "Population, ndarray"),
    ):
        for function in (
            wsn.predictions.error_consistency,
            wsn.predictions.consistency_table,
            wsn.predictions.dispersion_table,
            wsn.predictions.accuracy_scatters,
        ):
            with pytest.raises(
                ValueError, match=f"must be a list of at least one Population, got {got}; give"
            ):
                function(given)
    with pytest.raises(
        ValueError, match="must be integers, got bool; give the classes, not whether they are right"
    ):
        wsn.predictions.Population(a.correct, labels=a.labels, num_classes=a.num_classes)
