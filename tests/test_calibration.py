"""Every estimator that decides a verdict, simulated at the sizes of the pages: coverage 93 to 97 %, levels at most 5 %.

Exact binomial intervals, sets of best cells and the largest contrast are conservative by construction; so are
differences of populations, and shares of them, where nothing differs: their coverage is at least 95 %.
All draws are seeded.
"""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import wsnlib as wsn
from wsnlib.book import wide_vs_deep_errors
from wsnlib.book.engine.rule import holm
from wsnlib.estimates import CellsAndSeeds, correlation_of_means, proportion
from wsnlib.predictions import inference
from wsnlib.predictions.excess import _without_second_order, mean_squares

FROM, TO = 0.93, 0.97
TRIES = 800


def most(tries: int, level: float) -> int:
    """So many rejections of a test of that level are passed with a probability of 10⁻⁴ only."""
    return int(stats.binom.isf(1e-4, tries, level))


# -- means, contrasts and ratios over few seeds -------------------------------------------------


@pytest.mark.parametrize(("confidence", "seeds"), [(0.95, 3), (0.95, 10), (0.9, 3), (0.9, 5)])
def test_a_mean_over_seeds(confidence, seeds):
    values = np.random.default_rng(1).normal(3, 2, (2000, seeds))
    found = [wsn.estimate(v, confidence=confidence) for v in values]
    covered = np.mean([e.low <= 3 <= e.high for e in found])
    assert confidence - 0.02 < covered < confidence + 0.02


def pages(cells: int, seeds: int, tries: int, *, noise: float = 1.8, seed: int = 0) -> np.ndarray:
    """Test accuracies of a page: cells of 40 to 60 %, seeds that move all cells, noise of one size."""
    rng = np.random.default_rng(seed)
    of_cell = np.linspace(0, 4, cells)[:, None]
    return of_cell + rng.normal(0, 2, (tries, 1, seeds)) + rng.normal(0, noise, (tries, cells, seeds))


SIZES = [(18, 3), (14, 5), (7, 10)]
"""Cells and seeds of the pages on bottlenecks, ResNet-18 and the kernel."""


@pytest.mark.parametrize(("cells", "seeds"), SIZES)
def test_a_contrast_with_the_spread_of_all_runs(cells, seeds):
    """The model's own tests are part of the estimator: where they refuse it, pairs of seeds decide."""
    weights = {cells - 1: 0.5, cells - 2: 0.5, 0: -1.0}
    truth = sum(w * np.linspace(0, 4, cells)[c] for c, w in weights.items())
    covered, held, lengths = 0, 0, []
    for values in pages(cells, seeds, TRIES):
        model = CellsAndSeeds(pd.DataFrame(values))
        found = model.contrast(weights)
        covered += found.low <= truth <= found.high
        held += model.holds
        pairs = wsn.estimate(sum(w * values[c] for c, w in weights.items()))
        lengths.append((found.high - found.low) / (pairs.high - pairs.low))
    assert FROM < covered / TRIES < TO
    assert 0.92 < held / TRIES < 0.98  # all three tests together at 5 %
    if seeds == 3:
        assert np.median(lengths) < 0.6  # about twice as narrow as pairs of three seeds


@pytest.mark.parametrize("how", ["one wild cell", "heavy tails"])
def test_a_contrast_keeps_its_level_where_the_model_does_not_hold(how):
    """Contrasts of the cells that are noisier than the rest, which one spread of all would underrate."""
    rng, tries, seeds, wrong = np.random.default_rng(2), 400, 5, 0
    for _ in range(tries):
        values = rng.normal(0, 1, (14, seeds))
        if how == "one wild cell":
            values[0] *= 6
        else:
            values = rng.standard_t(2, (14, seeds))
        found = CellsAndSeeds(pd.DataFrame(values)).contrast({0: 1.0, 1: -1.0})
        wrong += not found.low <= 0 <= found.high
    assert wrong <= most(tries, 0.07)


@pytest.mark.parametrize("ahead", [0.0, 5.0])
def test_the_largest_of_four_contrasts(ahead):
    """Four wider networks alike, or one far ahead; the one contrast's own interval covers 92 % of the first."""
    sides, tries = np.zeros(2, int), 400
    for values in pages(18, 3, tries, seed=5) - np.linspace(0, 4, 18)[:, None]:
        values[1] += ahead
        found = CellsAndSeeds(pd.DataFrame(values)).largest([{cell: 1.0, 0: -1.0} for cell in (1, 2, 3, 4)])
        sides += found.low > ahead, found.high < ahead
    assert sides.max() <= most(tries, 0.025)


def test_the_ratio_of_two_gains():
    """As the share of width alone: 0.75, five seeds, fourteen cells, gains of three to five points."""
    covered, tries = 0, 800
    for values in pages(14, 5, tries, seed=3):
        values = values - np.linspace(0, 4, 14)[:, None]
        values[1] += 3.75
        values[2] += 5.0
        found = CellsAndSeeds(pd.DataFrame(values)).ratio({1: 1.0, 0: -1.0}, {2: 1.0, 0: -1.0})
        covered += found.low <= 0.75 <= found.high
    assert FROM < covered / tries < TO


@pytest.mark.parametrize(("cells", "seeds"), [(8, 3), (5, 5), (7, 10)])
def test_the_best_cell_is_in_the_set(cells, seeds):
    means = np.concatenate([np.linspace(-1, 0, cells - 2), [0.0, -0.1]])
    covered, rng, tries = 0, np.random.default_rng(4), 120
    for _ in range(tries):
        values = means[:, None] + rng.normal(0, 1, seeds) + rng.normal(0, 0.2, (cells, seeds))
        found = CellsAndSeeds(pd.DataFrame(values)).not_below_best({i: float(i) for i in range(cells)})
        covered += found.low <= means.argmax() <= found.high
    assert tries - covered <= most(tries, 0.05)


def test_the_width_that_is_best_on_other_seeds_has_no_calibrated_interval():
    """Why it is a listed reading and decides nothing: mean ± t·s/√n of it covers too seldom."""
    rng, tries, seeds = np.random.default_rng(5), 1500, 5
    values = rng.normal(0, 1.9, (tries, 5, seeds))  # a reference and four widths that are alike
    covered = 0
    for reference, *wider in values:
        rows = np.array(wider)
        chosen = [np.delete(rows, s, axis=1).mean(1).argmax() for s in range(seeds)]
        found = wsn.estimate([rows[c, s] - reference[s] for s, c in enumerate(chosen)])
        covered += found.low <= 0 <= found.high
    assert covered / tries < FROM


# -- correlations over widths -------------------------------------------------------------------

TRAINED = [53.74, 56.56, 59.56, 60.54, 59.30], [51.27, 53.05, 55.46, 56.29, 55.52]
"""Training and test accuracy of ResNet-18 at five widths, as measured: a correlation of 0.997."""

KERNEL = [2.78, 3.50, 4.20, 4.90, 5.56, 6.10, 6.60], [13.2, 11.5, 11.3, 10.8, 10.8, 10.4, 11.6]
"""Minus the logarithm of the distance and test error at seven widths, as measured."""

NOISE = [0.20, 0.25, 0.08, 0.14, 0.13, 0.16, 0.14]


@pytest.mark.parametrize(
    ("seeds", "means", "noise", "together"),
    [
        (10, KERNEL, (NOISE, 0.4), 0),  # distance and test error are independent
        (5, TRAINED, (2.3, 2.0), 0.96),  # of one run
        (5, ([53.7, 56.6, 59.6, 60.5, 61.0], [51.3, 54.0, 55.5, 56.3, 55.0]), (2.2, 2.0), 0.95),
    ],
    ids=["kernel", "0.997", "0.93"],
)
def test_a_correlation_over_widths(seeds, means, noise, together):
    first, second = map(np.array, means)
    rng, tries, covered = np.random.default_rng(3), 300, 0
    truth = np.corrcoef(first, second)[0, 1]
    for _ in range(tries):
        a, b = rng.normal(size=(2, seeds, len(first)))
        b = together * a + math.sqrt(1 - together**2) * b
        found = correlation_of_means(first + noise[0] * a, second + noise[1] * b, samples=399)
        covered += found.low <= truth <= found.high
    assert FROM <= covered / tries <= TO


# -- populations of networks --------------------------------------------------------------------

QUALITIES = stats.norm.ppf((np.arange(101) + 0.5) / 101)
"""Of networks, as `simulate_population` draws them."""


def inner(p, q, m, n, rng, spread=0.07) -> np.ndarray:
    """Inner products of two populations whose networks differ in quality."""
    rows = [
        rng.random((k, len(x))) < special.expit(special.logit(x) + spread * rng.normal(size=(k, 1)))
        for x, k in ((p, m), (q, n))
    ]
    both = np.concatenate(rows).astype(np.float32)
    return (both @ both.T).astype(float) / len(p)


def excess_interval(gram, m, n, confidence):
    def excess(one, other):
        return np.subtract(*mean_squares(gram, one, other))

    whole = (np.arange(m + n) < m)[None]
    found = float(excess(whole, ~whole)[0])
    low, high = inference.jackknife(excess, m, n, confidence=confidence)
    return found, (high - low) / 2, _without_second_order((high - low) / 2, gram, m, n, confidence=confidence)


@pytest.mark.parametrize(
    ("m", "n", "difference", "confidence"), [(50, 50, 0.09, 0.95), (25, 25, 0.09, 0.95), (50, 20, 0.0, 0.9)]
)
def test_the_excess_of_two_populations(m, n, difference, confidence):
    """Its truth is the mean over the simulation, as it is unbiased; the jackknife alone covers too often."""
    rng, tries = np.random.default_rng(7), 400
    p = rng.beta(0.8, 1, 400).clip(0.1, 0.9)
    q = p + difference * rng.choice([-1, 1], 400)
    found, jackknifed, corrected = np.array(
        [excess_interval(inner(p, q, m, n, rng), m, n, confidence) for _ in range(tries)]
    ).T
    off = abs(found - found.mean())
    covered, before = (off <= corrected).mean(), (off <= jackknifed).mean()
    assert confidence - 0.02 < covered < confidence + (0.02 if difference else 0.05)  # of 0, conservative
    assert before > covered


def test_neighbours_less_extremes_over_all_pairs():
    """Three populations of 50: error consistency of neighbours less that of the ends, in the pairs' own truth."""
    rng, tries, labels = np.random.default_rng(8), 120, np.zeros(200, int)
    p = rng.uniform(0.2, 0.9, 200)
    kinds = [p, (p + p[::-1]) / 2 + 0.02, p[::-1]]
    values = []
    for i in range(tries):
        family = [
            wsn.predictions.simulate_population(
                x, networks=30, labels=labels, num_classes=2, seed=3 * i + k, spread=0.1, name=str(k)
            )
            for k, x in enumerate(kinds)
        ]
        e = wide_vs_deep_errors.neighbours_less_extremes(family)
        values.append((e.mean, e.low, e.high))
    mean, low, high = np.array(values).T
    covered = ((low <= mean.mean()) & (mean.mean() <= high)).mean()
    assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / tries)


def test_the_share_of_classes_in_the_effects_of_examples():
    """V²'s truth is its mean over the simulation: chance is in it, as the networks are as many.

    Where classes are alike, the jackknife counts what varies twice, and covers more: 99 % of 100 tries.
    """
    rng, tries, labels = np.random.default_rng(12), 40, np.arange(400) % 10
    logits = special.logit(rng.beta(1, 1.2, 400).clip(0.05, 0.95))
    effects, found = rng.normal(0, 0.35, 400) + 0.25 * np.linspace(-1, 1, 10)[labels], []
    options = {"networks": 50, "labels": labels, "num_classes": 10, "spread": 0.05, "class_spread": 0.15}
    for i in range(tries):
        first, second = (
            wsn.predictions.simulate_population(
                special.expit(logits + sign * effects), seed=2 * i + s, **options
            )
            for s, sign in enumerate((1, -1))
        )
        models = wsn.predictions.logistic_models(first, second, permutations=1)
        found.append((models.v_squared, models.v_squared_low, models.v_squared_high))
    value, low, high = np.array(found).T
    assert ((low > value.mean()) | (value.mean() > high)).sum() <= most(tries, 0.05)
    assert 0.7 < value.std() / ((high - low).mean() / 2 / stats.t.isf(0.025, 49)) < 1.3


@pytest.mark.parametrize("reading", ["chosen images", "often less rest"])
def test_what_one_half_chooses_the_other_reports(reading):
    """Given the choice, the truth is known: the mean over the chosen images of what is simulated."""
    rng, tries, covered = np.random.default_rng(13), 400, 0
    p = rng.beta(0.8, 1, 300).clip(0.05, 0.95)
    q = (p + 0.09 * rng.choice([-1, 1], 300)).clip(0.05, 0.95)
    of_p, of_q = (special.expit(special.logit(x)[:, None] + 0.1 * QUALITIES).mean(1) for x in (p, q))
    for i in range(tries):
        first, second = (
            wsn.predictions.simulate_population(
                x, networks=50, labels=np.zeros(300, int), num_classes=2, spread=0.1, seed=2 * i + s
            )
            for s, x in enumerate((p, q))
        )
        if reading == "chosen images":
            halves = first.split(seed=0)[0], second.split(seed=1)[0]
            order = np.argsort(halves[1].accuracy - halves[0].accuracy, kind="stable")[:20]
            truth = (of_p - of_q)[order].mean()
            row = wsn.predictions.chosen_difference(first, second, count=20)
        else:
            accuracy = first.split(seed=0)[0].accuracy
            often = (accuracy >= 0.5) & (accuracy < 1)
            truth = (of_q - of_p)[often].mean() - (of_q - of_p)[~often].mean()
            row = wsn.predictions.gains_by_difficulty(first, second).set_index("where").loc["often less rest"]
        found = wide_vs_deep_errors._points(row, 50)
        covered += found.low <= 100 * truth <= found.high
    assert FROM <= covered / tries <= TO


@pytest.mark.parametrize(("deviations", "confidence"), [((1.5, 1.1), 0.95), ((1.5, 1.1), 0.9)])
def test_a_difference_of_two_populations_of_fifty(deviations, confidence):
    """Welch's interval, of its own level whatever table it stands in."""
    rng, tries, covered = np.random.default_rng(9), 1500, 0
    first, second = (rng.normal(0, d, (tries, 50)) for d in deviations)
    errors = [x.std(1, ddof=1) / math.sqrt(50) for x in (first, second)]
    squares = [e**2 for e in errors]
    df = (squares[0] + squares[1]) ** 2 / sum(s**2 / 49 for s in squares)
    for gap, one, other, of in zip(first.mean(1) - second.mean(1), *errors, df, strict=True):
        row = {"difference": gap, "first_error": one, "second_error": other, "df": of}
        found = wide_vs_deep_errors._points(row, 50, confidence=confidence)
        covered += found.low <= 0 <= found.high
    assert confidence - 0.02 < covered / tries < confidence + 0.02


# -- levels -------------------------------------------------------------------------------------


def test_two_one_sided_tests_at_the_edge_of_the_margin():
    """A true difference of exactly the margin is called equal in at most 5 % of the studies."""
    values = np.random.default_rng(10).normal(1.0, 0.4, (2000, 5))
    equal = sum(e.low >= -1 and e.high <= 1 for e in (wsn.estimate(v, confidence=0.9) for v in values))
    assert equal <= most(2000, 0.05)
    assert equal >= stats.binom.ppf(1e-4, 2000, 0.05)  # and no less often


@pytest.mark.parametrize("n", [3, 19, 36])
def test_every_network_is_said_too_often_in_at_most_one_study_in_forty(n):
    """Of networks of which 0.9 have it; the exact binomial's two-sided 95 %."""
    having = np.random.default_rng(11).binomial(n, 0.9 - 1e-9, 2000)
    lows = {k: proportion([True] * k + [False] * (n - k)).low for k in np.unique(having).tolist()}
    assert sum(lows[k] >= 0.9 for k in having.tolist()) <= most(2000, 0.025)


def test_directions_of_a_page_are_wrong_in_at_most_one_page_of_twenty():
    """Holm: of eight directions with few seeds, of which three are true, any false one counts."""
    rng, wrong, tries = np.random.default_rng(14), 0, 1500
    for _ in range(tries):
        values = rng.normal(0, 1, (8, 5)) + np.array([3.0, 3, 3, 0, 0, 0, 0, 0])[:, None]
        adjusted = holm([wsn.estimate(v).p_value(0.0) for v in values])
        wrong += min(adjusted[3:]) <= 0.05
    assert wrong <= most(tries, 0.05)
    assert wrong >= stats.binom.ppf(1e-4, tries, 0.04)  # five true hypotheses, all but exhausted


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_holm_against_its_definition(n):
    """The k-th smallest is rejected where all j ≤ k have p ≤ level / (n − j + 1)."""
    rng = np.random.default_rng(n)
    for p in rng.random((50, n)) ** 3:
        adjusted, order = np.array(holm(p.tolist())), np.argsort(p)
        assert adjusted.max() <= 1
        for level in (0.01, 0.05, 0.3):
            passed = np.logical_and.accumulate(p[order] <= level / np.arange(n, 0, -1))
            assert (adjusted[order] <= level).tolist() == passed.tolist()
