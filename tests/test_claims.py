"""Estimates and verdicts."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import wsnlib as wsn
from wsnlib import book, estimates
from wsnlib.book.engine import claims

RANGE = book.Claim(name="x", source="s", statement="t", reported=5, low=4, high=6, unit="points")


def test_the_interval_is_students():
    values = np.random.default_rng(0).normal(size=7)
    interval = stats.t.interval(0.95, 6, loc=values.mean(), scale=stats.sem(values))
    found = wsn.estimate(values)
    assert (found.low, found.high) == pytest.approx(interval)
    assert found.n == 7


def test_decimals_do_not_hang_on_the_last_bit():
    for high in (0.3, 0.1 + 0.2):
        assert estimates.shown(wsn.Estimate(mean=0.2, low=0.1, high=high, n=3)) == "0.20 (0.10 to 0.30)"
    for three in (3, 3 - 1e-15, 3 + 1e-15):
        assert estimates.shown(wsn.Estimate(mean=three, low=1, high=5, n=3)) == "3 (1 to 5)"
    for count in range(2, 12):  # the mean of equal numbers is not always one of them
        assert estimates.shown(wsn.estimate([0.1] * count)) == "0.1"


def test_the_papers_numbers():
    reported = {
        name: claim.reported
        for name, claim in book.claims_of("sparse_mlp").items()
        if claim.reported is not None
    }
    assert reported == {
        "num-weights": 3970, "relu-baseline": 90.0, "linear-baseline": 90.0, "relu-best": 96.3,
        "linear-best": 92.7, "relu-best-width": 80, "linear-best-width": 40, "relu-best-density": 0.8,
    }  # fmt: skip
    assert all(c.low <= c.high for c in book.claims_of("sparse_mlp").values())
    assert all(c.source.startswith("G21") for c in book.claims_of("sparse_mlp").values())
    directions = ("relu-gain", "linear-gain", "first-layer", "allocation-best")
    above_0 = (math.nextafter(0, 1), math.inf)
    assert all(
        (book.claims_of("sparse_mlp")[name].low, book.claims_of("sparse_mlp")[name].high) == above_0
        for name in directions
    )
    rest = {name: claim for name, claim in book.claims_of("sparse_mlp").items() if name not in directions}
    ranges = {name: (claim.low, claim.high) for name, claim in rest.items()}
    assert ranges == {
        "num-weights": (3970, 3970), "relu-baseline": (88.5, 91.5), "linear-baseline": (88.5, 91.5),
        "relu-best": (95.8, 96.8), "linear-best": (92.2, 93.2), "relu-best-width": (80, 160),
        "linear-best-width": (40, 40), "relu-best-density": (0.8, 1.0),
    }  # fmt: skip


def noise(cells: int, seeds: int, rng: np.random.Generator) -> pd.DataFrame:
    index = pd.MultiIndex.from_product([range(cells), range(seeds)], names=["width", "seed"])
    return pd.DataFrame({"test_accuracy": rng.normal(size=len(index))}, index=index).reset_index()


def test_the_held_out_best_of_pure_noise_is_not_above_its_mean():
    rng, tries = np.random.default_rng(2), 300
    held, best = [], []
    for _ in range(tries):
        table = noise(30, 3, rng)
        held.append(estimates.held_out_best(table, cell=["width"])["test_accuracy"].mean())
        best.append(table.groupby("width")["test_accuracy"].mean().max())
    assert abs(np.mean(held)) < 4 * np.std(held) / math.sqrt(tries)
    assert np.mean(best) > 0.8


def test_of_cells_that_are_equally_good_the_last_is_held_out():
    accuracy = {5: [0.3, 0.2, 0.1], 9: [0.1, 0.2, 0.3], 17: [0.2, 0.2, 0.2]}  # whose means differ by rounding
    rows = [{"width": w, "seed": s, "test_accuracy": a[s % 3]} for w, a in accuracy.items() for s in range(4)]
    last = estimates.held_out_best(pd.DataFrame(rows), cell=["width"]).iloc[-1]
    assert (last["seed"], last["width"]) == (3, 17)


def test_a_cell_is_known_by_all_its_columns():
    index = pd.MultiIndex.from_product([(0, 1), (5, 9), (0.5, 1.0)], names=["seed", "width", "density"])
    table = pd.DataFrame({"test_accuracy": [0.1, 0.2, 0.7, 0.3] * 2}, index=index).reset_index()
    found = estimates.held_out_best(table, cell=["width", "density"])
    assert found["test_accuracy"].tolist() == [0.7, 0.7]
    assert found[["width", "density"]].to_numpy().tolist() == [[9, 0.5]] * 2


def test_a_cell_with_a_diverged_run_is_never_chosen():
    table = pd.DataFrame(
        {"width": [5, 9] * 3, "seed": [0, 0, 1, 1, 2, 2], "test_accuracy": [0.5, 0.9, 0.5, np.nan, 0.5, 0.9]}
    )
    assert estimates.held_out_best(table, cell=["width"])["width"].tolist() == [5, 9, 5]
    runs = pd.DataFrame({"width": [5, 5, 9], "seed": [0, 1, 1], "test_accuracy": [0.5, 0.5, 0.9]})
    with pytest.raises(ValueError, match="got none of seed 0 where width is 9"):
        estimates.held_out_best(runs, cell=["width"])
    found = book.judge(RANGE, estimates.estimate([np.nan, 5]), same_data=True, full_protocol=True)
    assert found.why == "a run gave no number"


def test_a_cell_may_be_known_by_what_it_lacks():
    table = pd.DataFrame(
        {"density": [np.nan, 0.1] * 2, "seed": [0, 0, 1, 1], "test_accuracy": [0.9, 0.6] * 2}
    )
    assert estimates.held_out_best(table, cell=["density"])["test_accuracy"].tolist() == [0.9, 0.9]


def test_a_single_seed_gives_the_best_cell():
    table = pd.DataFrame({"width": [5, 9], "seed": [0, 0], "test_accuracy": [0.5, 0.9]})
    assert estimates.held_out_best(table, cell=["width"])["width"].tolist() == [9]
    assert wsn.estimate([0.9]).high == math.inf
    with pytest.raises(ValueError, match="values must be a sequence of one or more numbers, got shape"):
        wsn.estimate([])
    with pytest.raises(ValueError, match="values must be a sequence of one or more numbers, got none"):
        wsn.estimates.median_and_range([])


def test_the_ends_of_fiellers_interval_are_where_students_test_turns():
    rng = np.random.default_rng(3)
    a, b = rng.normal(1.3, 0.4, 7), rng.normal(2.1, 0.3, 7)
    found = wsn.estimates.ratio_of_means(a, b)
    for end in (found.low, found.high):
        assert stats.ttest_1samp(a - end * b, 0).pvalue == pytest.approx(0.05, rel=1e-6)
    assert found.low < found.mean < found.high
    assert found.mean == pytest.approx(a.mean() / b.mean())


def test_fiellers_interval_covers_the_true_ratio_nineteen_times_in_twenty():
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(2000):
        common = rng.normal(0, 0.5, 5)
        found = wsn.estimates.ratio_of_means(
            rng.normal(1.5, 0.3, 5) + common, rng.normal(3.0, 0.3, 5) + common
        )
        hits += found.low <= 0.5 <= found.high
    assert hits / 2000 == pytest.approx(0.95, abs=0.02)


def test_a_ratio_without_a_denominator_has_no_bounds():
    for a, b in (([1.0], [2.0]), ([1.0, 2.0, 3.0], [0.1, -0.1, 0.05])):
        found = wsn.estimates.ratio_of_means(a, b)
        assert (found.low, found.high) == (-math.inf, math.inf)
    with pytest.raises(ValueError, match=r"must be as many, at least 1, got shapes \(2,\) and \(3,\)"):
        wsn.estimates.ratio_of_means([1.0, 2.0], [1.0, 2.0, 3.0])


def test_numbers_of_the_whole_training_are_not_judged_by_a_shorter_one():
    claim, ours = book.claims_of("sparse_mlp")["relu-best"], wsn.Estimate(mean=96.3, low=96.2, high=96.4, n=3)
    for whole, expected in ((False, "not tested"), (True, "reproduced")):
        assert str(book.judge(claim, ours, same_data=True, full_protocol=whole).verdict) == expected


def test_the_ranges_of_the_kernel_s_claims():
    ranges = {name: (claim.low, claim.high) for name, claim in book.claims_of("gp_kernel").items()}
    assert ranges == {
        "theorem-1": (0.9, 1.1), "approximation": (1, 100), "approximation-experiment": (0.8, 1.25),
        "minimiser": (0.8, 1.25), "theorem-minimiser": (79, 317), "sparse-gain": (math.nextafter(0, 1), math.inf),
        "similar-width": (-1, 1), "correlation": (0.7, math.inf),
        "distance-falls": (math.nextafter(0, 1), 1),
    }  # fmt: skip
    p_star = wsn.kernels.paper_minimiser(base_width=8, dimension=784)
    assert ranges["theorem-minimiser"] == (round(8 / p_star / 2), round(8 / p_star * 2))
    assert f"is width {8 / p_star:.0f}." in book.claims_of("gp_kernel")["theorem-minimiser"].statement


@pytest.mark.parametrize(
    ("low", "high", "said", "against"),
    [
        (math.nextafter(0, 1), math.inf, "above 0 points", "at most 0"),
        (-math.inf, math.nextafter(0, -1), "below 0 points", "at least 0"),
        (math.nextafter(0, 1), 2, "above 0, at most 2 points", "at most 0, above 2"),
        (-math.inf, 0, "at most 0 points", "above 0"),
        (1000, math.inf, "at least 1,000 points", "below 1,000"),
        (0.5, 0.5, "0.5 points", "below 0.5, above 0.5"),
    ],
)
def test_the_range_of_a_claim_in_words(low, high, said, against):
    claim = book.Claim(name="c", source="", statement="", low=low, high=high, unit="points")
    assert (claims.holds_in(claim), claims.contradicted_by(claim)) == (said, against)


# -- cells and seeds --------------------------------------------------------------------------


def runs(cells: int, seeds: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    index = pd.MultiIndex.from_tuples([("m", i) for i in range(cells)])
    noise = rng.normal(0, 2, (cells, seeds)) + rng.normal(0, 5, seeds)
    return pd.DataFrame(noise + 3 * np.arange(cells)[:, None], index=index)


def test_contrasts_of_cells_are_paired_by_seed():
    table = runs(7, 5)
    cells = wsn.estimates.CellsAndSeeds(table)
    found = cells.contrast({("m", 6): 1.0, ("m", 1): -0.5, ("m", 0): -0.5})
    paired = stats.ttest_rel(table.iloc[6], (table.iloc[1] + table.iloc[0]) / 2)
    interval = paired.confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p_value(0.0) == pytest.approx(paired.pvalue)
    ninety = cells.contrast({("m", 6): 1.0, ("m", 0): -1.0}, confidence=0.9)
    interval = stats.ttest_rel(table.iloc[6], table.iloc[0]).confidence_interval(0.9)
    assert (ninety.low, ninety.high, ninety.confidence) == pytest.approx((interval.low, interval.high, 0.9))
    ratio = cells.ratio({("m", 4): 1, ("m", 2): -1}, {("m", 5): 1, ("m", 2): -1})
    assert ratio == wsn.estimates.ratio_of_means(table.iloc[4] - table.iloc[2], table.iloc[5] - table.iloc[2])
    assert cells.deviation == pytest.approx(math.sqrt(table.var(axis=1).mean()))
    assert math.isnan(wsn.estimates.CellsAndSeeds(table[[0]]).deviation)


def test_a_diverged_run_is_no_number():
    table = runs(9, 4)
    whole = wsn.estimates.CellsAndSeeds(table.drop(index=[("m", 3)]))
    table.iloc[3, 1] = np.nan
    with_nan = wsn.estimates.CellsAndSeeds(table)
    weights = {("m", 4): 1.0, ("m", 2): -1.0}
    assert with_nan.contrast(weights) == whole.contrast(weights)
    assert with_nan.deviation == whole.deviation
    assert math.isnan(with_nan.contrast({("m", 3): 1.0, ("m", 2): -1.0}).mean)
    assert math.isnan(with_nan.contrast({("m", 99): 1.0, ("m", 2): -1.0}).mean)
    assert math.isnan(with_nan.not_below_best({("m", 3): 1.0, ("m", 2): 2.0}).mean)


def test_the_ends_of_the_ratio_of_contrasts_are_where_the_test_turns():
    cells = wsn.estimates.CellsAndSeeds(runs(9, 4))
    a, b = {("m", 5): 1.0, ("m", 0): -1.0}, {("m", 8): 1.0, ("m", 0): -1.0}
    found = cells.ratio(a, b)
    for end in (found.low, found.high):
        joint = {cell: a.get(cell, 0) - end * b.get(cell, 0) for cell in {*a, *b}}
        assert cells.contrast(joint).p_value(0.0) == pytest.approx(0.05, rel=1e-6)


def test_cells_that_are_not_below_the_best_are_told_by_one_sided_tests():
    table = pd.DataFrame(
        np.random.default_rng(4).normal(0, 0.3, (8, 5)) + np.array([[0, 3, 5, 6, 6.2, 5.9, 5, 1]]).T
    )
    widths = {i: 10.0 * 2**i for i in range(8)}
    found = wsn.estimates.CellsAndSeeds(table).not_below_best(widths)
    level = 1 - 0.95 ** (1 / 7)

    def below(i: int, other: int) -> bool:
        return stats.ttest_rel(table.iloc[i], table.iloc[other], alternative="less").pvalue < level

    left = [widths[i] for i in range(8) if not any(below(i, other) for other in range(8) if other != i)]
    assert (found.low, found.high) == (min(left), max(left))
    assert found.mean == widths[int(table.mean(axis=1).idxmax())]
    assert 1 < len(left) < 8 and found.later[-1][1:] == (found.mean, found.mean)
    assert [n for n, *_ in found.later] == sorted(n for n, *_ in found.later)


def test_the_largest_of_contrasts_has_the_p_value_of_the_one_that_decides():
    """Below 0, all must be: the largest p; above 0, one must be: Šidák's of the smallest."""
    base = np.array([0.0, 0.3, -0.2, 0.1])
    noise = np.array([[0.1, -0.1, 0.2, -0.2], [1.5, -1.5, 1.0, -1.0]])
    lower = wsn.estimates.CellsAndSeeds(pd.DataFrame([base, base - 1 + noise[0], base - 2 + noise[1]]))
    one, other = ({cell: 1.0, 0: -1.0} for cell in (1, 2))
    apart = [lower.contrast(each).p_value(0.0) for each in (one, other)]
    assert lower.largest([one, other]).p_value(0.0) == max(apart) == apart[1]
    higher = wsn.estimates.CellsAndSeeds(pd.DataFrame([base, base + 1 + noise[0], base + 2 + noise[1]]))
    assert higher.largest([one, other]).p_value(0.0) == pytest.approx(2 * (1 - (1 - min(apart) / 2) ** 2))


def test_a_correlation_over_widths_has_an_interval_over_seeds():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 8, 5)) + np.arange(5.0)
    found = wsn.estimates.correlation_of_means(x, y)
    assert found.mean == pytest.approx(np.corrcoef(x.mean(0), y.mean(0))[0, 1])
    assert found == wsn.estimates.correlation_of_means(x, y)  # no draw of its own
    moved = wsn.estimates.correlation_of_means(3 * x + rng.normal(size=(8, 1)), 2 - y)
    assert (moved.low, moved.high) == pytest.approx((-found.high, -found.low), abs=0.01)
    none = wsn.estimates.correlation_of_means(x[:1] + 0 * x, y[:1] + 0 * y)  # no noise, no interval
    assert (none.low, none.high) == pytest.approx((none.mean, none.mean))
    lost = wsn.estimates.correlation_of_means(x - x.mean(0), y)  # nothing but noise
    assert (lost.low, lost.high) == (-1, 1)
    alone = wsn.estimates.correlation_of_means(x[:1], y[:1])
    assert (alone.low, alone.high, alone.n) == (-1, 1, 1)
    with pytest.raises(ValueError, match=r"at least 3 widths, got \(8, 2\)"):
        wsn.estimates.correlation_of_means(x[:, :2], y[:, :2])


def test_a_p_value_turns_where_the_interval_does():
    for values in ([0.3, 1.1, 0.9], [2.0, 2.5, 1.5, 2.2]):
        found = wsn.estimate(values)
        assert found.p_value(0.0) == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
        assert found.p_value(found.low) == found.p_value(found.high) == pytest.approx(0.05)
    one_seed = estimates.correlation_of_means([[1, 2, 4]], [[2, 2, 3]])
    for alone in (
        wsn.estimate([1.0]),
        estimates.median_and_range([80]),
        estimates.proportion([True]),
        one_seed,
    ):
        assert alone.p_value(0.0) == 1.0
    assert wsn.estimates.exact(3).p_value(0.0) == 0.0
    assert wsn.estimates.exact(0).p_value(0.0) == 1.0


def test_a_proportion_has_the_exact_binomial_s_interval():
    for k, n in ((0, 2), (3, 3), (18, 19), (5, 11)):
        found = wsn.estimates.proportion([True] * k + [False] * (n - k))
        assert found.n == n and found.mean == pytest.approx(k / n)
        if k:
            assert stats.binom.sf(k - 1, n, found.low) == pytest.approx(0.025)
        if k < n:
            assert stats.binom.cdf(k, n, found.high) == pytest.approx(0.025)
