"""Every estimator that decides a verdict, simulated at the sizes of the pages: coverage 93 to 97 %, levels at most 5 %.

Exact binomial intervals, sets of best cells and the largest contrast are conservative by construction; so are
differences of populations, and shares of them, where nothing differs: their coverage is at least 95 %.
All draws are seeded.
"""

import ast
import importlib
import inspect
import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import wsnlib as wsn
from wsnlib import estimates
from wsnlib.book import cka_blocks, gp_kernel
from wsnlib.book import wide_vs_deep_errors as errors
from wsnlib.book.engine.claims import claims_of, judging_chapters
from wsnlib.book.engine.rule import holm
from wsnlib.estimates import CellsAndSeeds, correlation_of_means, proportion

FROM, TO = 0.93, 0.97
TRIES = 800

SIMULATED = set()
"""Names of the estimators that tests of this module simulate."""


def simulates(*estimators):
    SIMULATED.update(f"{each.__module__}.{each.__qualname__}" for each in estimators)
    return lambda test: test


def most(tries: int, level: float) -> int:
    """So many rejections of a test of that level are passed with a probability of 10⁻⁴ only."""
    return int(stats.binom.isf(1e-4, tries, level))


# -- means, contrasts and ratios over few seeds -------------------------------------------------


@simulates(wsn.estimate)
@pytest.mark.parametrize(("confidence", "seeds"), [(0.95, 3), (0.95, 10), (0.95, 50), (0.9, 3), (0.9, 5)])
def test_a_mean_over_seeds(confidence, seeds):
    values = np.random.default_rng(1).normal(3, 2, (2000, seeds))
    found = [wsn.estimate(v, confidence=confidence) for v in values]
    covered = np.mean([e.low <= 3 <= e.high for e in found])
    assert confidence - 0.02 < covered < confidence + 0.02


@simulates(cka_blocks.correlation_within)
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8])
@pytest.mark.parametrize("groups", [(3, 3), (5, 5, 3, 3, 3, 3)])
def test_a_correlation_within_architectures(rho, groups):
    rng, covered = np.random.default_rng(2), 0
    for _ in range(TRIES):
        made = [
            rng.normal(0, 5, 2) + rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], n) for n in groups
        ]
        found = cka_blocks.correlation_within([[tuple(pair) for pair in group] for group in made])
        covered += found.low <= rho <= found.high
    assert FROM < covered / TRIES < TO + 0.01


@simulates(cka_blocks._over_pairs)
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("own", [0.0, 0.3, 1.0])
def test_a_mean_over_pairs_of_seeds(seeds, own):
    """A pair is what its seeds bring and noise of its own: exact without noise, else at least so often."""
    rng, tries, covered, alone = np.random.default_rng(15), 1500, 0, 0
    pairs = list(itertools.combinations(range(seeds), 2))
    for _ in range(tries):
        brought, noise = rng.normal(0, 1 - own, seeds), rng.normal(0, own, len(pairs))
        values = {(i, j): [3 + brought[i] + brought[j] + e] for (i, j), e in zip(pairs, noise, strict=True)}
        found, each = cka_blocks._over_pairs(values), wsn.estimate([v for (v,) in values.values()])
        covered += found.low <= 3 <= found.high
        alone += each.low <= 3 <= each.high
    assert FROM < covered / tries <= (TO if own == 0 else 1)
    assert own == 1 or alone < covered  # where each pair is a unit, though pairs share seeds


def pages(cells: int, seeds: int, tries: int, *, noise: float = 1.8, seed: int = 0) -> np.ndarray:
    """Test accuracies of a page: cells of 40 to 60 %, seeds that move all cells, noise of one size."""
    rng = np.random.default_rng(seed)
    of_cell = np.linspace(0, 4, cells)[:, None]
    return of_cell + rng.normal(0, 2, (tries, 1, seeds)) + rng.normal(0, noise, (tries, cells, seeds))


SIZES = [(18, 3), (14, 5), (7, 10)]
"""Cells and seeds of the pages on bottlenecks, ResNet-18 and the kernel."""


@simulates(CellsAndSeeds.contrast)
@pytest.mark.parametrize(("cells", "seeds"), SIZES)
@pytest.mark.parametrize("base", [1.0, 2.0])
def test_a_contrast_paired_by_seed_where_a_cell_is_noisier_than_the_rest(cells, seeds, base):
    """One spread of all runs would cover 95 % where all are alike, and 73 to 83 % where the base is not."""
    weights = {0: -1.0} | dict.fromkeys(range(1, cells), 1 / (cells - 1))
    truth = sum(w * np.linspace(0, 4, cells)[c] for c, w in weights.items())
    rng, covered, pooled = np.random.default_rng(16), 0, 0
    for values in pages(cells, seeds, TRIES):
        values[0] += rng.normal(0, 1.8 * math.sqrt(base**2 - 1), seeds)
        found = CellsAndSeeds(pd.DataFrame(values)).contrast(weights)
        covered += found.low <= truth <= found.high
        rest = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
        df = (cells - 1) * (seeds - 1)
        error = math.sqrt((rest**2).sum() / df * sum(w * w for w in weights.values()) / seeds)
        pooled += abs(found.mean - truth) <= stats.t.isf(0.025, df) * error
    assert FROM < covered / TRIES < TO
    assert FROM < pooled / TRIES < TO if base == 1 else pooled / TRIES < 0.86


@simulates(estimates.difference)
@pytest.mark.parametrize("ratio", [1.0, 3.0])
def test_a_difference_of_two_data_sets_each_with_noise_of_its_own(ratio):
    """As gains on harder tasks: five cells on one, three on the other, three seeds, means of two wider cells."""
    rng, covered, gain = np.random.default_rng(11), 0, {1: 0.5, 2: 0.5, 0: -1.0}
    for _ in range(TRIES):
        parts = [rng.normal(0, s, (cells, 3)) + rng.normal(0, 1, 3) for cells, s in ((5, 1.0), (3, ratio))]
        easier, harder = (CellsAndSeeds(pd.DataFrame(part)).contrast(gain) for part in parts)
        found = estimates.difference(harder, easier)
        covered += found.low <= 0 <= found.high
    assert FROM < covered / TRIES <= 1


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_largest_of_contrasts_whose_noise_differs_is_seldom_below_all(seeds):
    """One noisy contrast of 0 beside quiet ones of −1: which of them is the largest is a matter of luck."""
    rng, below = np.random.default_rng(12), 0
    for _ in range(TRIES):
        values = rng.normal(0, 0.05, (5, seeds)) + np.array([0, 0, -1, -1, -1])[:, None]
        values[1] += rng.normal(0, 3, seeds)
        found = CellsAndSeeds(pd.DataFrame(values)).largest([{cell: 1.0, 0: -1.0} for cell in (1, 2, 3, 4)])
        below += found.high < 0
    assert below <= most(TRIES, 0.05)


@simulates(CellsAndSeeds.largest)
@pytest.mark.parametrize("ahead", [0.0, 5.0])
def test_the_largest_of_four_contrasts(ahead):
    """Four wider networks alike, or one far ahead; the one contrast's own interval covers 92 % of the first."""
    sides, tries = np.zeros(2, int), 400
    for values in pages(18, 3, tries, seed=5) - np.linspace(0, 4, 18)[:, None]:
        values[1] += ahead
        found = CellsAndSeeds(pd.DataFrame(values)).largest([{cell: 1.0, 0: -1.0} for cell in (1, 2, 3, 4)])
        sides += found.low > ahead, found.high < ahead
    assert sides.max() <= most(tries, 0.025)


@simulates(CellsAndSeeds.ratio)
def test_the_ratio_of_two_gains():
    """As the share of width alone: 0.75, five seeds, fourteen cells, gains of three to five points."""
    covered, tries = 0, 800
    for values in pages(14, 5, tries, seed=3):
        values = values - np.linspace(0, 4, 14)[:, None]
        values[1] += 3.75
        values[2] += 5.0
        found = CellsAndSeeds(pd.DataFrame(values)).ratio({1: 1.0, 0: -1.0}, {2: 1.0, 0: -1.0})
        covered += found.low <= 0.75 <= found.high
    assert FROM < covered / tries < TO + 0.01


@simulates(CellsAndSeeds.not_below_best)
@pytest.mark.parametrize(("cells", "seeds"), [(8, 3), (5, 5), (7, 10)])
def test_the_best_cell_is_in_the_set(cells, seeds):
    means = np.concatenate([np.linspace(-1, 0, cells - 2), [0.0, -0.1]])
    covered, rng, tries = 0, np.random.default_rng(4), 120
    for _ in range(tries):
        values = means[:, None] + rng.normal(0, 1, seeds) + rng.normal(0, 0.2, (cells, seeds))
        best = CellsAndSeeds(pd.DataFrame(values)).not_below_best({i: 2.0**i for i in range(cells)})
        covered += best.low <= 2.0 ** means.argmax() <= best.high
    assert tries - covered <= most(tries, 0.05)


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_best_width_is_in_the_set_if_each_other_is_the_best_of_ten_cells(seeds):
    """As in Figure 5 of G21, where all 61 cells are alike: a level shared by seven widths would be passed."""
    rng, tries, lost, lost_by_seven = np.random.default_rng(17), 250, 0, 0
    for _ in range(tries):
        values = pd.DataFrame(rng.normal(0, 0.3, seeds) + rng.normal(0, 0.2, (61, seeds)))
        means = values.mean(axis=1)
        best = {0: 1.0} | {means[at : at + 10].idxmax(): 2.0 + at for at in range(1, 61, 10)}
        of = CellsAndSeeds(values)
        lost += of.not_below_best(best, chosen_from=61).low > 1
        lost_by_seven += of.not_below_best(best).low > 1
    assert lost <= most(tries, 0.05)
    assert lost < lost_by_seven


@simulates(gp_kernel.octaves)
def test_octaves_between_the_best_width_and_that_of_the_smallest_distance():
    """Seven widths, ten seeds; two widths are all but alike in accuracy, and two in distance."""
    rng, tries, outside, widths = np.random.default_rng(6), 120, 0, {i: 2.0**i for i in range(7)}
    accuracy, distance = np.array([-2.0, -1, 0, -0.1, -1, -2, -2]), np.array([5.0, 4, 3, 2, 1, 0.9, 2])
    for _ in range(tries):
        best, closest = (
            CellsAndSeeds(
                pd.DataFrame(means[:, None] + rng.normal(0, 0.3, (7, 10)) + rng.normal(0, 1, 10))
            ).not_below_best(widths, level=0.025)
            for means in (accuracy, -distance)
        )
        found = gp_kernel.octaves(best, closest)
        outside += not found.low <= 3 <= found.high
    assert outside <= most(tries, 0.05)


def test_the_width_that_is_best_on_other_seeds_has_no_calibrated_interval():
    """Why it is a listed reading and decides nothing: mean ± t·s/√n of it covers too seldom."""
    rng, tries, seeds = np.random.default_rng(5), 600, 5
    runs = pd.DataFrame(
        [(width, seed) for width in range(4) for seed in range(seeds)], columns=["width", "seed"]
    )
    covered = 0
    for reference in rng.normal(0, 1.9, (tries, seeds)):
        runs["test_accuracy"] = rng.normal(0, 1.9, len(runs))  # four widths that are as the reference
        chosen = wsn.held_out_best(runs, cell=["width"]).set_index("seed")["test_accuracy"]
        found = wsn.estimate(chosen.sort_index().to_numpy() - reference)
        covered += found.low <= 0 <= found.high
    assert 0.85 < covered / tries < FROM


# -- correlations over widths -------------------------------------------------------------------

TRAINED = [53.74, 56.56, 59.56, 60.54, 59.30], [51.27, 53.05, 55.46, 56.29, 55.52]
"""Training and test accuracy of ResNet-18 at five widths, as measured: a correlation of 0.997."""

KERNEL = [2.78, 3.50, 4.20, 4.90, 5.56, 6.10, 6.60], [13.2, 11.5, 11.3, 10.8, 10.8, 10.4, 11.6]
"""Minus the logarithm of the distance and test error at seven widths, as measured."""

NOISE = [0.20, 0.25, 0.08, 0.14, 0.13, 0.16, 0.14]


@simulates(correlation_of_means)
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
    rng, tries, covered = np.random.default_rng(3), TRIES, 0
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

CLASSES = np.arange(400) % 10


def populations(one, other, sizes, seed: int, *, spread=0.07, class_spread=0.0) -> list:
    """Two populations that are right on 400 images of 10 classes with these probabilities."""
    return [
        wsn.predictions.simulate_population(
            p, networks=n, labels=CLASSES, num_classes=10, spread=spread, class_spread=class_spread, seed=s
        )
        for p, n, s in zip((one, other), sizes, (2 * seed, 2 * seed + 1), strict=True)
    ]


@simulates(errors._root_mean_square, errors._squared_points)
@pytest.mark.parametrize(
    ("sizes", "difference", "level"),
    [
        ((50, 50), 0.09, "example"),
        ((25, 25), 0.09, "example"),
        ((50, 50), 0.09, "class"),
        ((50, 50), 0.0, "example"),
        ((50, 20), 0.0, "example"),
        ((50, 50), 0.0, "class"),
    ],
)
def test_the_excess_of_two_populations(sizes, difference, level):
    """Its truth is the mean over the simulation, as it is unbiased.

    Where nothing differs, the larger of two estimates of its error is taken, so that it covers more.
    """
    rng, tries = np.random.default_rng(7), 400
    p = rng.beta(0.8, 1, 400).clip(0.1, 0.9)
    signs = (CLASSES % 2 if level == "class" else rng.integers(0, 2, 400)) * 2 - 1
    q, n = p + difference * signs, min(sizes)
    values = []
    for i in range(tries):
        found = wsn.predictions.dispersion(*populations(p, q, sizes, i), permutations=199, level=level)
        points = errors._root_mean_square(found, n)
        squared = errors._squared_points(found, n)
        roots = [points.mean, points.low, points.high]
        assert [x * abs(x) for x in roots] == pytest.approx([squared.mean, squared.low, squared.high])
        values.append((squared.mean, squared.low, squared.high))
    mean, low, high = np.array(values).T
    covered = ((low <= mean.mean()) & (mean.mean() <= high)).mean()
    assert FROM < covered <= (TO if difference else 1)


@simulates(errors.neighbours_less_extremes, errors.beside_deep, errors._bootstrapped)
def test_neighbours_less_extremes_over_all_pairs():
    """Three populations of 50, other images each time: at least 95 %, as networks and images are drawn apart."""
    rng, tries = np.random.default_rng(8), 150

    def drawn(seed: int, networks: int, images: int) -> list:
        p = rng.uniform(0.2, 0.9, images)
        q = rng.uniform(0.2, 0.9, images)
        return [
            wsn.predictions.simulate_population(
                x, networks=networks, labels=np.zeros(images, int), num_classes=2, seed=3 * seed + k,
                spread=0.1, name=str(k),
            )
            for k, x in enumerate((p, (p + q) / 2 + 0.02, q))
        ]  # fmt: skip

    means, _ = wsn.predictions.resampled_consistency(drawn(tries, 100, 40_000), resamples=1)
    truth = (means[0, 1] + means[1, 2]) / 2 - means[0, 2]
    found = [errors.neighbours_less_extremes(drawn(i, 50, 200)) for i in range(tries)]
    assert sum(not e.low <= truth <= e.high for e in found) <= most(tries, 0.05)
    half = stats.t.isf(0.025, 49) * np.std([e.mean for e in found])
    assert np.median([(e.high - e.low) / 2 for e in found]) < 1.5 * half


@simulates(errors._jackknifed)
@pytest.mark.parametrize("sizes", [(50, 50, 50), (50, 50, 20)])
@pytest.mark.parametrize("other", [0.09, 0.0])
def test_two_excesses_over_one_population(sizes, other):
    """Of a wide network that differs by 9 points, less that of another training, by as many or by none."""
    rng, tries, images = np.random.default_rng(11), 400, 400
    p = rng.beta(0.8, 1, images).clip(0.1, 0.9)
    kinds = [p, *(p + by * rng.choice([-1, 1], images) for by in (0.09, other))]
    values = []
    for i in range(tries):
        populations = [
            wsn.predictions.simulate_population(
                x, networks=n, labels=CLASSES, num_classes=10, spread=0.07, seed=3 * i + k, name=str(k)
            )
            for k, (x, n) in enumerate(zip(kinds, sizes, strict=True))
        ]
        e = errors.excess_difference(*populations)
        values.append((e.mean, e.low, e.high))
    mean, low, high = np.array(values).T
    covered = np.mean((low <= mean.mean()) & (mean.mean() <= high))
    assert (
        FROM <= covered <= (TO + 0.02 if other else 1)
    )  # the second order counts twice where nothing differs


@simulates(errors.spread_of_accuracy)
@pytest.mark.parametrize("spread", [0.0, 0.35])
def test_the_spread_of_accuracy_of_two_populations_of_fifty(spread):
    """Of independent errors, and about four times that."""
    p, values = np.linspace(0.05, 0.95, 400), []
    for i in range(400):
        e = errors.spread_of_accuracy(populations(p, p, (50, 50), i, spread=spread))
        values.append((e.mean, e.low, e.high))
    mean, low, high = np.array(values).T
    truth = np.sqrt(np.mean(mean**2))
    assert (3 if spread else 0.9) < truth < (5 if spread else 1.1)
    assert FROM - 0.01 <= np.mean((low <= truth) & (truth <= high)) <= TO + 0.01


@simulates(errors.predicted_spread, errors._exponential)
@pytest.mark.parametrize("spread", [0.0, 0.35])
def test_the_spread_that_agreement_predicts(spread):
    """Its truth is the mean of the simulation; the jackknife may be wide of it where it is within 1 %."""
    p, values = np.linspace(0.05, 0.95, 400), []
    for i in range(100):
        e = errors.predicted_spread(populations(p, p, (20, 20), i, spread=spread))
        values.append((e.mean, e.low, e.high))
    mean, low, high = np.array(values).T
    assert np.mean((low <= mean.mean()) & (mean.mean() <= high)) >= 0.9
    half = stats.t.isf(0.025, 19) * mean.std()
    assert np.median(high - low) / 2 == pytest.approx(half, rel=0.3)


@simulates(errors._share_of_classes, errors._gain_in_aic)
def test_models_of_classes_and_of_examples():
    """Truths are means over the simulation, of as many networks: V² has chance in it, AIC grows with them."""
    rng, tries, n = np.random.default_rng(12), 40, 50
    logits = special.logit(rng.beta(1, 1.2, 400).clip(0.05, 0.95))
    effects, values = rng.normal(0, 0.35, 400) + 0.25 * np.linspace(-1, 1, 10)[CLASSES], []
    p, q = (special.expit(logits + sign * effects) for sign in (1, -1))
    for i in range(tries):
        pair = populations(p, q, (n, n), i, spread=0.05, class_spread=0.15)
        models = wsn.predictions.logistic_models(*pair, permutations=1)
        aic = [errors._gain_in_aic(models, *of, n) for of in ("AB", "BC")]
        found = [errors._share_of_classes(models, n), *aic]
        assert [e.mean for e in aic] == pytest.approx(-np.diff(models.models["aic"]))
        values.append([(e.mean, e.low, e.high) for e in found])
    mean, low, high = np.array(values).transpose(2, 1, 0)
    truth = mean.mean(1, keepdims=True)
    assert ((low > truth) | (truth > high)).sum(1).max() <= most(tries, 0.05)
    found_by_said = mean.std(1) / ((high - low).mean(1) / 2 / stats.t.isf(0.025, n - 1))
    assert (found_by_said > 0.7).all() and (found_by_said < 1.3).all()


@simulates(errors._points)
@pytest.mark.parametrize("reading", ["chosen images", "often less rarely"])
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
            truth = (of_q - of_p)[often].mean() - (of_q - of_p)[accuracy < 0.5].mean()
            row = (
                wsn.predictions.gains_by_difficulty(first, second).set_index("where").loc["often less rarely"]
            )
        found = errors._points(row, 50)
        covered += found.low <= 100 * truth <= found.high
    assert FROM <= covered / tries <= TO


@simulates(errors._points)
@pytest.mark.parametrize(("deviations", "confidence"), [((1.5, 1.1), 0.95), ((1.5, 1.1), 0.9)])
def test_a_difference_of_two_populations_of_fifty(deviations, confidence):
    """Welch's interval, of its own level whatever table it stands in."""
    rng, tries, covered = np.random.default_rng(9), 1500, 0
    first, second = (rng.normal(0, d, (tries, 50)) for d in deviations)
    each = [x.std(1, ddof=1) / math.sqrt(50) for x in (first, second)]
    squares = [e**2 for e in each]
    df = (squares[0] + squares[1]) ** 2 / sum(s**2 / 49 for s in squares)
    for gap, one, other, of in zip(first.mean(1) - second.mean(1), *each, df, strict=True):
        row = {"difference": gap, "first_error": one, "second_error": other, "df": of}
        found = errors._points(row, 50, confidence=confidence)
        covered += found.low <= 0 <= found.high
    assert confidence - 0.02 < covered / tries < confidence + 0.02


# -- levels -------------------------------------------------------------------------------------


def test_two_one_sided_tests_at_the_edge_of_the_margin():
    """A true difference of exactly the margin is called equal in at most 5 % of the studies."""
    values = np.random.default_rng(10).normal(1.0, 0.4, (2000, 5))
    equal = sum(e.low >= -1 and e.high <= 1 for e in (wsn.estimate(v, confidence=0.9) for v in values))
    assert equal <= most(2000, 0.05)
    assert equal >= stats.binom.ppf(1e-4, 2000, 0.05)  # and no less often


@simulates(proportion)
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


# -- none is left out ---------------------------------------------------------------------------

MAKERS = {
    name: f"{made.__module__}.{made.__qualname__}"
    for owner in (estimates, CellsAndSeeds)
    for name, made in inspect.getmembers(owner, inspect.isfunction)
    if not name.startswith("_") and inspect.signature(made).return_annotation == "Estimate"
}
"""Functions of `wsnlib.estimates` that make an estimate."""

WITHOUT_ERROR = {MAKERS[name] for name in ("exact", "exact_range", "median_and_range")}


class Made(ast.NodeVisitor):
    """Where a chapter makes estimates: by functions of `wsnlib.estimates`, or in one of its own."""

    def __init__(self, chapter: str):
        module = importlib.import_module(f"wsnlib.book.{chapter}")
        self.inside, self.makers, self.without_error = [module.__name__], set(), []
        self.visit(ast.parse(inspect.getsource(module)))

    def visit_FunctionDef(self, node):
        self.inside.append(node.name)
        self.generic_visit(node)
        self.inside.pop()

    def visit_Call(self, node):
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if name in MAKERS:
            self.makers.add(MAKERS[name])
        elif name == "Estimate":
            self.makers.add(".".join(self.inside))
        self.generic_visit(node)

    def visit_Dict(self, node):
        self.named(node.keys, node.values)

    def visit_DictComp(self, node):
        self.named([node.key], [node.value])

    def named(self, keys, values):
        for key, value in zip(keys, values, strict=True):
            if isinstance(value, ast.Call) and MAKERS.get(getattr(value.func, "id", "")) in WITHOUT_ERROR:
                self.without_error.append((getattr(key, "value", ""), value))
            self.visit(value)


@pytest.mark.parametrize("chapter", judging_chapters())
def test_every_estimator_that_decides_a_verdict_is_simulated_here(chapter):
    made = Made(chapter)
    assert made.makers - WITHOUT_ERROR - SIMULATED == set() != made.makers
    for claim, call in made.without_error:  # of one unit nothing empirical is concluded
        one_unit = call.func.id == "exact" and not call.keywords
        assert one_unit or claims_of(chapter)[claim].type == "arithmetic"
