"""N21's three logistic models: statsmodels' numbers, separation, memory."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import special, stats
from statsmodels.genmod.families import Binomial
from statsmodels.stats.multitest import multipletests
from test_predictions import CLASSES, of_correct, population, reordered

import wsnlib as wsn
from wsnlib.predictions import inference, logistic


def counts_without_separation(examples: int = 12, m: int = 9, n: int = 11, seed: int = 0):
    rng = np.random.default_rng(seed)
    return rng.integers(1, m, examples), rng.integers(1, n, examples), np.arange(examples) % CLASSES


def from_counts(counts, networks: int, labels, name: str = "p") -> wsn.predictions.Population:
    """Networks 0, 1, … are right until the count of the example is reached."""
    return of_correct(np.arange(networks)[:, None] < counts, labels=labels, num_classes=CLASSES, name=name)


FORMULAS = {  # the paper's models; in its own formulas columns depend on others, and fits on rounding
    "A": "y ~ C(example) + deep",
    "B": "y ~ C(example) + C(label):deep",
    "C": "y ~ C(example) + C(example):deep",
}


def statsmodels_fits(a: wsn.predictions.Population, b: wsn.predictions.Population) -> dict:
    rows = pd.DataFrame(
        {
            "y": np.concatenate([p.correct.ravel() for p in (a, b)]).astype(int),
            "example": np.concatenate([np.tile(np.arange(p.num_examples), len(p)) for p in (a, b)]),
            "label": np.concatenate([np.tile(p.labels, len(p)) for p in (a, b)]),
            "deep": np.repeat([0, 1], [a.correct.size, b.correct.size]),
        }
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # separation; so computed here, and kept by the fit
        fits = {
            k: smf.glm(f, rows, family=Binomial()).fit(tol=1e-12, maxiter=60) for k, f in FORMULAS.items()
        }
        assert all(np.isfinite([fit.llf, fit.aic]).all() for fit in fits.values())
    return fits


def test_the_three_models_are_statsmodels():
    k1, k2, labels = counts_without_separation()
    a, b = from_counts(k1, 9, labels), from_counts(k2, 11, labels)
    ours, theirs = wsn.predictions.logistic_models(a, b, permutations=1), statsmodels_fits(a, b)
    for name, fit in theirs.items():
        row = ours.models.loc[name]
        assert row["aic"] == pytest.approx(fit.aic, rel=1e-9)
        assert row["effects"] == fit.df_model + 1
        assert row["residual_variance"] == pytest.approx(np.mean(fit.resid_response**2), rel=1e-9)
    effects = theirs["B"].params.filter(regex="C.label.*:deep")
    np.testing.assert_allclose(ours.class_effects, effects, rtol=1e-5)
    a_fit = wsn.predictions.fit_logistic(k1, k2, networks=(9, 11), groups=np.zeros(12, int))
    assert a_fit.effects.item() == pytest.approx(theirs["A"].params["deep"], rel=1e-6)
    assert (a_fit.informative, ours.tests["df_informative"].tolist()) == (1, [2, 11, 9])
    variances = ours.models["residual_variance"]
    expected = (variances["A"] - variances["B"]) / (variances["A"] - variances["C"])
    assert ours.v_squared == pytest.approx(expected)


def test_the_tests_are_likelihood_ratio_tests():
    k1, k2, labels = counts_without_separation(seed=3)
    ours = wsn.predictions.logistic_models(
        from_counts(k1, 9, labels), from_counts(k2, 11, labels), permutations=19
    )
    likelihood = ours.models["log_likelihood"]
    for row, df in zip(ours.tests.itertuples(), (2, 11, 9), strict=True):
        statistic = 2 * (likelihood[row.larger] - likelihood[row.smaller])
        assert (row.statistic, row.df) == (pytest.approx(statistic), df)
        assert row.p_value == pytest.approx(stats.chi2.sf(statistic, df))
        assert row.p_informative == pytest.approx(row.p_value)
    expected = multipletests(ours.tests["p_permutation"], method="holm-sidak")[1]
    np.testing.assert_allclose(ours.tests["adjusted"], expected)


SEPARATED = {
    "an example always right": ([9, 3, 2, 5, 4, 4], [11, 5, 9, 6, 2, 7]),
    "an example never right": ([0, 3, 2, 5, 4, 4], [0, 5, 9, 6, 2, 7]),
    "a class always right in the second": ([3, 3, 2, 5, 4, 4], [11, 5, 9, 11, 2, 7]),
    "a class never right in the first": ([0, 3, 2, 0, 4, 4], [4, 5, 9, 6, 2, 7]),
    "one of each": ([0, 3, 2, 5, 4, 4], [4, 5, 9, 11, 2, 7]),
    "a class always right in the first": ([9, 3, 2, 9, 4, 4], [4, 5, 9, 6, 2, 7]),
    "a class never right in the second": ([3, 3, 2, 5, 4, 4], [0, 5, 9, 0, 2, 7]),
    "a class without information": ([9, 3, 2, 0, 4, 4], [11, 5, 9, 0, 2, 7]),
}


@pytest.mark.parametrize("case", SEPARATED)
def test_separated_data_have_the_supremum_to_which_statsmodels_creeps(case):
    k1, k2 = map(np.array, SEPARATED[case])
    labels = np.arange(6) % CLASSES
    a, b = from_counts(k1, 9, labels), from_counts(k2, 11, labels)
    ours, theirs = wsn.predictions.logistic_models(a, b, permutations=1), statsmodels_fits(a, b)
    for name, fit in theirs.items():
        assert ours.models.loc[name, "aic"] == pytest.approx(fit.aic, rel=1e-6)
        assert ours.models.loc[name, "log_likelihood"] >= fit.llf - 1e-9
    effect = ours.class_effects[0]
    if case.startswith("a class never right in the second") or case.endswith("always right in the first"):
        assert effect == -np.inf
    elif case.startswith("an example"):
        assert np.isfinite(effect)
    elif case == "a class without information":
        assert np.isnan(effect) and ours.tests["df_informative"].tolist() == [1, 3, 2]
        assert ours.tests["df"].tolist() == [2, 5, 3]
    else:
        assert effect == np.inf
    assert np.isfinite(ours.class_effects[1:]).all()


def test_all_right_and_all_alike_leave_nothing_to_explain():
    perfect = [from_counts(np.full(6, 9), 9, np.arange(6) % CLASSES) for _ in range(2)]
    with np.errstate(all="raise"):
        result = wsn.predictions.logistic_models(*perfect, permutations=3)
    assert (result.models["log_likelihood"] == 0).all() and np.isnan(result.class_effects).all()
    assert math.isnan(result.v_squared) and math.isnan(result.v_squared_chance) and result.v_squared_p == 1
    assert (result.tests[["p_value", "p_informative", "p_permutation"]] == 1).all(axis=None)
    assert (result.tests["df_informative"] == 0).all()


def test_fits_are_at_the_stationary_point_even_if_effects_are_large():
    rng = np.random.default_rng(0)
    k1, k2 = rng.integers(0, 3, 400), 200 - rng.integers(0, 3, 400)
    groups = np.arange(400) % 7
    fit = wsn.predictions.fit_logistic(k1, k2, networks=(150, 200), groups=groups)
    assert np.isfinite(fit.effects).all() and fit.effects.min() > 8
    np.testing.assert_allclose(150 * fit.first + 200 * fit.second, k1 + k2, rtol=1e-9)
    score = np.bincount(groups, k2 - 200 * fit.second)
    assert np.abs(score).max() < 1e-6
    both = (k1 + k2 > 0) & (k1 + k2 < 350)
    gaps = special.logit(fit.second[both]) - special.logit(fit.first[both])
    np.testing.assert_allclose(gaps, fit.effects[groups[both]], rtol=1e-6)


@pytest.mark.parametrize(
    ("networks", "first", "second"),
    [
        ((1000, 998), [1, *[0] * 99], [0, *[997] * 99]),  # one success that keeps the effect finite
        ((10**6, 10), [1], [9]),  # the first step would be 90,000
        ((10, 10**6), [9], [1]),
    ],
)
def test_newton_finds_the_root_where_its_steps_would_leave_for_good(networks, first, second):
    k1, k2 = np.array(first), np.array(second)
    with np.errstate(all="raise"):
        fit = wsn.predictions.fit_logistic(k1, k2, networks=networks, groups=np.zeros(len(k1), int))
    assert np.isfinite(fit.effects).all()
    assert abs(np.sum(k2 - networks[1] * fit.second)) < 1e-6 * np.sum(k2)


def test_models_do_not_know_orders_and_turn_with_the_populations():
    k1, k2, labels = counts_without_separation(seed=7)
    a, b = from_counts(k1, 9, labels), from_counts(k2, 11, labels)
    order = np.random.default_rng(0).permutation(12)
    base, turned = (wsn.predictions.logistic_models(x, y, permutations=1) for x, y in ((a, b), (b, a)))
    moved = wsn.predictions.logistic_models(
        reordered(a, slice(None, None, -1), order), reordered(b, examples=order), permutations=1
    )
    pd.testing.assert_frame_equal(base.models, turned.models)
    pd.testing.assert_frame_equal(base.models, moved.models)
    np.testing.assert_allclose(base.class_effects, -turned.class_effects)
    assert (base.v_squared_low, base.v_squared_high) == pytest.approx(
        (turned.v_squared_low, turned.v_squared_high)
    )


def test_v_squared_has_the_interval_of_networks_left_out():
    a, b = population(4), population(5, seed=1)

    def v(x, y):
        return wsn.predictions.logistic_models(x, y, permutations=1).v_squared

    of_a = [v(a[np.delete(np.arange(4), i)], b) for i in range(4)]
    of_b = [v(a, b[np.delete(np.arange(5), i)]) for i in range(5)]
    half = stats.t.ppf(0.9, 3) * math.sqrt(3 * np.var(of_a) + 4 * np.var(of_b))
    found = wsn.predictions.logistic_models(a, b, permutations=1, confidence=0.8)
    assert (found.v_squared_low, found.v_squared_high) == pytest.approx((v(a, b) - half, v(a, b) + half))


def test_permutations_fit_the_models_to_reassigned_networks():
    a, b = population(3), population(4, seed=1)
    chosen = inference.assignments(3, 4, permutations=70, seed=5)
    joined = np.concatenate([a.predictions, b.predictions])
    options = {"labels": a.labels, "num_classes": CLASSES}
    parts = [
        (wsn.predictions.Population(joined[c], **options), wsn.predictions.Population(joined[~c], **options))
        for c in chosen
    ]
    again = [wsn.predictions.logistic_models(x, y, permutations=1) for x, y in parts]
    found = wsn.predictions.logistic_models(a, b, permutations=70, seed=5)
    statistics = np.array([r.tests["statistic"] for r in again])
    exceed = (statistics >= found.tests["statistic"].to_numpy() - 1e-8).sum(0)
    np.testing.assert_allclose(found.tests["p_permutation"], (1 + exceed) / 71)
    explained = np.array([r.v_squared for r in again])
    assert found.v_squared_chance == pytest.approx(explained.mean())
    assert found.v_squared_p == (1 + np.sum(explained >= found.v_squared - 1e-12)) / 71


def test_memory_of_a_fit_grows_with_examples_not_with_their_number_times_effects():
    import tracemalloc

    rng = np.random.default_rng(0)
    peaks = []
    for examples in (5_000, 20_000):
        k1, k2 = rng.integers(0, 100, (2, examples))
        tracemalloc.start()
        logistic._three_fits(k1, k2, (99, 99), np.arange(examples) % 1000)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 5 * peaks[0] and peaks[1] < 500 * 20_000
