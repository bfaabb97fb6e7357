"""Tests over populations reject at their level without a difference, and find a planted one.

Every rate is over seeded simulations; its tolerance is the range that a binomial number leaves with
probability 10⁻⁴.
"""

import numpy as np
import pytest
from scipy import special, stats

import wsnlib as wsn
from wsnlib.predictions.populations import Population

LEVEL = 0.05
CLASSES = 4
EXAMPLES = 60
LABELS = np.arange(EXAMPLES) % CLASSES
# networks alike but for chance; of different quality; of different quality class by class
SPREADS = [(0.0, 0.0), (0.7, 0.0), (0.0, 0.5)]


def most_rejections(runs: int, level: float = LEVEL) -> int:
    return int(stats.binom.isf(1e-4, runs, level))


def fewest_rejections(runs: int, level: float = LEVEL) -> int:
    return int(stats.binom.ppf(1e-4, runs, level))


def pair(
    seed: int, *, spread: float = 0.0, class_spread: float = 0.0, networks=(9, 11), shift=0.0
) -> tuple[Population, Population]:
    """Two populations with `shift` (log-odds, of each example) between them; accuracies from 0 to 1."""
    rng = np.random.default_rng([seed, 7])
    p = rng.beta(3, 1, EXAMPLES)
    q = special.expit(special.logit(p) + shift)
    options = {"labels": LABELS, "num_classes": CLASSES, "spread": spread, "class_spread": class_spread}
    first = wsn.predictions.simulate_population(
        p, networks=networks[0], seed=2 * seed, name="wide", **options
    )
    second = wsn.predictions.simulate_population(
        q, networks=networks[1], seed=2 * seed + 1, name="deep", **options
    )
    return first, second


@pytest.mark.parametrize(("spread", "class_spread"), SPREADS)
def test_permutation_tests_reject_at_their_level(spread, class_spread):
    """Of the excess at all three levels, of less agreement between than within."""
    runs, values = 200, []
    for seed in range(runs):
        a, b = pair(seed, spread=spread, class_spread=class_spread)
        options = {"permutations": 39, "seed": seed}
        p = [
            wsn.predictions.dispersion(a, b, level=level, **options).p_value
            for level in ("example", "class", "network")
        ]
        table = wsn.predictions.consistency_table([a, b], resamples=1, **options)
        values.append(p + table["p_value"].dropna().tolist())
    rejected = (np.array(values) <= LEVEL).sum(0)
    assert rejected.max() <= most_rejections(runs)
    assert rejected[:3].min() >= fewest_rejections(runs)  # exact, not merely below the level


def test_permutations_of_the_logistic_models_hold_the_level_where_chi_squared_does_not():
    """Networks that differ by class: χ² takes that for an effect of the class (B in A) five times too often."""
    runs, permutation, chi_squared, v_squared = 100, [], [], []
    for seed in range(runs):
        a, b = pair(seed, class_spread=0.5)
        found = wsn.predictions.logistic_models(a, b, permutations=19, seed=seed)
        permutation.append(found.tests["p_permutation"])
        chi_squared.append(found.tests["p_value"])
        v_squared.append(found.v_squared_p)
    permutation, chi_squared = np.array(permutation) <= LEVEL, np.array(chi_squared) <= LEVEL
    assert permutation.sum(0).max() <= most_rejections(runs)
    assert permutation.sum(0).min() >= fewest_rejections(runs)
    assert np.sum(np.array(v_squared) <= LEVEL) <= most_rejections(runs)
    assert chi_squared[:, 0].sum() > most_rejections(runs)


@pytest.mark.parametrize(("spread", "class_spread"), SPREADS)
def test_adjusted_tests_reject_anything_at_most_at_their_level(spread, class_spread):
    runs, values = 200, []
    groups = [("x", "y"), ("x",), ("x", "z"), ("z",)]
    for seed in range(runs):
        a, b = pair(seed, spread=spread, class_spread=class_spread)
        values.append(
            [
                wsn.predictions.accuracy_test(a, b)["p_value"],
                wsn.predictions.class_tests(a, b)["adjusted"].min(),
                wsn.predictions.group_tests(a, b, groups=groups)["adjusted"].min(),
                wsn.predictions.largest_differences(a, b, count=5, seed=seed)["adjusted"].min(),
            ]
        )
    rejected = (np.array(values) <= LEVEL).sum(0)
    assert rejected.max() <= most_rejections(runs)
    assert rejected[1] >= fewest_rejections(runs, LEVEL / 2)


def test_intervals_cover_what_is_true():
    """The excess, the difference of classes (together), and of chosen examples (together)."""
    runs, covered = 200, []
    rng = np.random.default_rng(0)
    shift = rng.normal(0, 1, EXAMPLES)
    for seed in range(runs):
        a, b = pair(0, networks=(2, 2))  # only for the labels; probabilities are drawn below
        p = np.random.default_rng([0, 7]).beta(3, 1, EXAMPLES)
        q = special.expit(special.logit(p) + shift)
        options = {"labels": a.labels, "num_classes": CLASSES}
        a = wsn.predictions.simulate_population(p, networks=25, seed=2 * seed, **options)
        b = wsn.predictions.simulate_population(q, networks=30, seed=2 * seed + 1, **options)
        excess = wsn.predictions.dispersion(a, b, permutations=1)
        classes = wsn.predictions.class_tests(a, b)
        gaps = [np.mean((p - q)[c == LABELS]) for c in range(CLASSES)]
        chosen = wsn.predictions.largest_differences(a, b, count=5, seed=seed)
        of_chosen = (p - q)[chosen["example"]]
        covered.append(
            [
                excess.low <= np.mean((p - q) ** 2) <= excess.high,
                np.all((classes["low"] <= gaps) & (gaps <= classes["high"])),
                np.all((chosen["low"] <= of_chosen) & (of_chosen <= chosen["high"])),
            ]
        )
    missed = runs - np.sum(covered, 0)
    assert missed.max() <= most_rejections(runs)


@pytest.mark.parametrize("networks", [6, 30])
def test_intervals_of_error_consistency_cover_that_of_all_networks_and_images(networks):
    """Images are drawn anew each time, too; intervals over (many) networks alone would miss."""
    runs, examples, missed, by_networks = 200, 80, np.zeros(3), 0

    def drawn(seed: int, networks: int, examples: int) -> list[Population]:
        rng = np.random.default_rng([seed, 11])
        p = rng.beta(3, 1, examples)
        q = special.expit(special.logit(p) + rng.normal(0, 1.5, examples))
        options = {"networks": networks, "labels": np.zeros(examples, int), "num_classes": 2, "spread": 0.3}
        return [
            wsn.predictions.simulate_population(x, seed=2 * seed + i, name=str(i), **options)
            for i, x in enumerate((p, q))
        ]

    truth, _ = wsn.predictions.resampled_consistency(drawn(10**6, 200, 50_000), resamples=1)
    deficit = (truth[0, 0] + truth[1, 1]) / 2 - truth[0, 1]
    for seed in range(runs):
        options = {"confidence": 0.95**4, "permutations": 1}  # 0.95 for each of the four
        table = wsn.predictions.consistency_table(drawn(seed, networks, examples), **options)
        within, between, _ = table.itertuples()
        missed += [
            not low <= true <= high
            for low, true, high in (
                (within.low, truth[0, 0], within.high),
                (between.low, truth[0, 1], between.high),
                (between.deficit_low, deficit, between.deficit_high),
            )
        ]
        values = wsn.predictions.error_consistency(drawn(seed, networks, examples)[:1])
        left_out = [np.delete(np.delete(values, i, 0), i, 1) for i in range(networks)]
        means = [(v.sum() - len(v)) / (len(v) * (len(v) - 1)) for v in left_out]
        half = stats.t.ppf(0.975, networks - 1) * np.sqrt((networks - 1) * np.var(means))
        by_networks += abs(within.mean - truth[0, 0]) > half
    assert missed.max() <= most_rejections(runs)
    assert networks == 6 or by_networks > most_rejections(runs)


@pytest.mark.parametrize("networks", [10, 40])
def test_intervals_of_one_dimension_cover_0_where_there_is_no_difference(networks):
    runs, options = 200, {"networks": networks, "labels": LABELS, "num_classes": CLASSES, "spread": 0.3}
    p = np.full(EXAMPLES, 0.7)
    covered = 0
    for seed in range(runs):
        a, b = (wsn.predictions.simulate_population(p, seed=2 * seed + i, **options) for i in (0, 1))
        found = wsn.predictions.dispersion(a, b, level="network", permutations=99)
        covered += found.low <= 0 <= found.high
    assert runs - covered <= most_rejections(runs)


def planted(seed: int, *, networks: int = 100) -> tuple[Population, Population]:
    """Examples 3, 17 and 40 are 0.5 apart, the class 2 a little; all else is equal."""
    p = np.full(EXAMPLES, 0.7)
    q = p + 0.08 * (LABELS == 2)
    q[[3, 17, 40]] = 0.2
    options = {"networks": networks, "labels": LABELS, "num_classes": CLASSES}
    return (
        wsn.predictions.simulate_population(p, seed=2 * seed, name="wide", **options),
        wsn.predictions.simulate_population(q, seed=2 * seed + 1, name="deep", **options),
    )


def test_planted_differences_are_found_where_they_are():
    for seed in range(5):
        a, b = planted(seed)
        assert wsn.predictions.dispersion(a, b, permutations=199).p_value == 1 / 200
        largest = wsn.predictions.largest_differences(a, b, count=6, seed=seed)
        assert set(largest["example"][:3]) == {3, 17, 40}
        assert (largest["adjusted"][:3] < 0.02).all() and (largest["low"][:3] > 0).all()
        table = wsn.predictions.consistency_table([a, b], permutations=199)
        between = table[table["first"] != table["second"]]
        assert between["adjusted"].item() <= 3 / 200
        # class 0 holds example 40, class 1 example 17, class 3 example 3: each loses 0.5/15
        difference = wsn.predictions.class_tests(a, b)["difference"].to_numpy()
        np.testing.assert_allclose(difference, [0.5 / 15, 0.5 / 15, -0.08, 0.5 / 15], atol=0.07)
        assert wsn.predictions.class_tests(a, b)["adjusted"][2] < LEVEL


def test_a_control_of_one_architecture_shows_no_excess_and_two_architectures_do():
    table = wsn.predictions.dispersion_table(planted(0), permutations=199).set_index(["first", "second"])
    assert table.loc[("wide", "deep"), "adjusted"] <= 3 / 200 and table.loc[("wide", "deep"), "ratio"] > 2
    for name in ("wide", "deep"):
        assert table.loc[(name, name), "adjusted"] > LEVEL and abs(table.loc[(name, name), "ratio"] - 1) < 0.5


def test_what_is_reported_of_chosen_examples_is_without_bias():
    """Chosen for the largest difference where there is none: the choosing half shows one, the other none."""
    chosen_by, reported = [], []
    for seed in range(100):
        a, b = pair(seed, networks=(40, 40))
        row = wsn.predictions.largest_differences(a, b, count=1, seed=seed).iloc[0]
        chosen_by.append(abs(row["chosen_by"]))
        reported.append(row["difference"] * np.sign(row["chosen_by"]))
    assert min(chosen_by) > 0.1
    assert abs(np.mean(reported)) < 4 * np.std(reported) / 10


def test_share_of_the_classes_is_that_which_was_planted():
    """Half of the squared difference lies in the classes; V² counts chance, too, and says less."""
    of_class = np.array([0.1, -0.1, 0.1, -0.1])[LABELS]
    of_example = 0.1 * np.where(np.arange(EXAMPLES) // CLASSES % 2, 1, -1)
    of_example -= np.array([of_example[c == LABELS].mean() for c in range(CLASSES)])[LABELS]
    truth = np.mean(of_class**2) / np.mean((of_class + of_example) ** 2)
    options = {"labels": LABELS, "num_classes": CLASSES}
    p, q = np.full(EXAMPLES, 0.5), 0.5 + of_class + of_example
    a, b = (
        wsn.predictions.simulate_population(x, networks=300, seed=s, **options) for s, x in enumerate((p, q))
    )
    share, low, high = wsn.predictions.explained_share(a, b)
    assert low < truth < high and high - low < 0.2 and abs(share - truth) < 0.1
    few = (population[:20] for population in (a, b))
    assert wsn.predictions.logistic_models(*few, permutations=19).v_squared < truth - 0.1


# -- Table F.1 from known parameters --


def effects(kind: str) -> np.ndarray:
    """Log-odds of the second population over the first for each example, by the model that is true."""
    rng = np.random.default_rng(3)
    of_class = np.array([0.8, -0.6, 0.1, -0.4])[LABELS]
    return {"A": np.full(EXAMPLES, 0.3), "B": of_class, "C": of_class + rng.normal(0, 1, EXAMPLES)}[kind]


def two(kind: str, networks: int, seed: int = 0) -> tuple[Population, Population]:
    alpha = np.random.default_rng(5).normal(0.5, 1, EXAMPLES)
    options = {"networks": networks, "labels": LABELS, "num_classes": CLASSES}
    return (
        wsn.predictions.simulate_population(special.expit(alpha), seed=seed, **options),
        wsn.predictions.simulate_population(special.expit(alpha + effects(kind)), seed=seed + 1, **options),
    )


@pytest.mark.parametrize("kind", ["A", "B", "C"])
def test_aic_chooses_the_model_that_is_true(kind):
    models = wsn.predictions.logistic_models(*two(kind, 200, seed=8), permutations=1).models
    assert models["aic"].idxmin() == kind
    assert models["effects"].tolist() == [EXAMPLES + 1, EXAMPLES + CLASSES, 2 * EXAMPLES]
    assert (np.diff(models["log_likelihood"]) > 0).all() and (np.diff(models["residual_variance"]) < 0).all()


def test_the_order_of_table_f1_comes_with_effects_of_classes_and_of_examples():
    """N21, Table F.1: AIC of A > B > C, and every step significant."""
    result = wsn.predictions.logistic_models(*two("C", 200), permutations=99)
    assert result.models["aic"].is_monotonic_decreasing
    assert (result.tests["p_permutation"] == 1 / 100).all() and (result.tests["p_value"] < 1e-6).all()
    assert result.v_squared_low < result.v_squared < result.v_squared_high
    assert result.v_squared_p == 1 / 100 and result.v_squared_chance < result.v_squared / 2


def test_effects_of_classes_are_recovered():
    networks = 600
    result = wsn.predictions.logistic_models(*two("B", networks), permutations=1)
    # information on a class's effect ≥ 15 examples · 600 · p(1 − p)/2, p from 0.1 to 0.9
    tolerance = 4 / np.sqrt(15 * networks * 0.09 / 2)
    np.testing.assert_allclose(result.class_effects, [0.8, -0.6, 0.1, -0.4], atol=tolerance)


def test_v_squared_is_that_of_the_true_probabilities():
    """With ever more networks the residual variances are those of the models fitted to the truth."""
    first, second = two("C", 600)
    alpha = np.random.default_rng(5).normal(0.5, 1, EXAMPLES)
    p, q = special.expit(alpha), special.expit(alpha + effects("C"))
    n = 10**9
    counts = [np.rint(n * x).astype(np.int64) for x in (p, q)]
    squares = [
        wsn.predictions.fit_logistic(*counts, networks=(n, n), groups=groups).squares / n
        for groups in (np.zeros(EXAMPLES, int), LABELS)
    ]
    saturated = np.sum(p * (1 - p) + q * (1 - q))
    truth = (squares[0] - squares[1]) / (squares[0] - saturated)
    result = wsn.predictions.logistic_models(first, second, permutations=1)
    assert result.v_squared_low < truth < result.v_squared_high
    assert result.v_squared == pytest.approx(truth, rel=0.1)


# -- plans --


@pytest.mark.parametrize(("spread", "difference"), [(0.0, 0.08), (0.0, 0.12), (0.4, 0.12)])
def test_power_of_the_dispersion_test_is_what_simulation_gives(spread, difference):
    networks, runs, found = 12, 200, 0
    rng = np.random.default_rng(0)
    p = rng.uniform(0.3, 0.7, 200)
    q = p + difference * np.where(np.arange(200) % 2, 1, -1)
    options = {"labels": np.zeros(200, int), "num_classes": 2, "spread": spread}
    pilot = wsn.predictions.simulate_population(p, networks=100, seed=999, **options)
    planned = wsn.predictions.dispersion_power(pilot, difference=difference, networks=networks)
    assert 0.2 < planned < 0.97
    for seed in range(runs):
        a, b = (
            wsn.predictions.simulate_population(x, networks=networks, seed=2 * seed + i, **options)
            for i, x in enumerate((p, q))
        )
        found += wsn.predictions.dispersion(a, b, permutations=99, seed=seed).p_value <= LEVEL
    assert found / runs == pytest.approx(planned, abs=0.05 + 4 * np.sqrt(planned * (1 - planned) / runs))
