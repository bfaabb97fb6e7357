"""Every estimator that decides a verdict, simulated at the sizes of the pages: coverage 93 to 97 %, levels at most 5 %.

Exact binomial intervals and sets of best cells are conservative by construction: their coverage is at least 95 %.
All draws are seeded.
"""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import wsnlib as wsn
from wsnlib.book import wide_vs_deep_errors
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


@pytest.mark.parametrize(
    ("seeds", "first", "second", "noise", "together"),
    [
        # seven widths and ten seeds of the kernel's page: distance and test error are independent
        (10, [2.76, 3.47, 4.20, 4.89, 5.55, 6.07, 6.57], [13.2, 11.5, 11.3, 10.8, 10.8, 10.4, 11.6], (0.05, 0.45), 0),
        # five widths and five seeds of ResNet-18: training and test accuracy of one run
        (5, [53.7, 56.6, 59.6, 60.5, 61.0], [51.3, 54.0, 55.5, 56.3, 55.0], (2.2, 2.0), 0.95),
    ],
)  # fmt: skip
def test_a_correlation_over_widths(seeds, first, second, noise, together):
    rng, tries, covered = np.random.default_rng(6), 600, 0
    truth = np.corrcoef(first, second)[0, 1]
    for _ in range(tries):
        a, b = rng.normal(size=(2, seeds, len(first)))
        b = together * a + math.sqrt(1 - together**2) * b
        found = correlation_of_means(first + noise[0] * a, second + noise[1] * b, samples=399)
        covered += found.low <= truth <= found.high
    assert FROM - 0.01 < covered / tries < TO + 0.01


# -- populations of networks --------------------------------------------------------------------


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
    assert confidence - 0.025 < covered < confidence + 0.035
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
