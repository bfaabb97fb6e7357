"""Estimates and verdicts."""

import math
from dataclasses import replace

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


def test_the_interval_covers_as_often_as_it_says():
    rng, tries = np.random.default_rng(1), 4000
    hits = sum(e.low <= 3 <= e.high for e in (wsn.estimate(rng.normal(3, 2, 4)) for _ in range(tries)))
    assert abs(hits / tries - 0.95) < 4 * math.sqrt(0.95 * 0.05 / tries)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (4.5, 5.5, "reproduced"),
        (4, 6, "reproduced"),
        (3.9, 5, "partly"),
        (3, 9, "partly"),
        (3, 4, "partly"),
        (6, 7, "partly"),
        (6.1, 7, "not reproduced"),
        (1, 3.9, "not reproduced"),
        (-math.inf, math.inf, "not tested at this scale"),
        (4.5, math.inf, "not tested at this scale"),
        (math.nan, math.nan, "not tested at this scale"),
    ],
)
def test_one_rule_gives_every_verdict(low, high, expected):
    ours = wsn.Estimate(mean=(low + high) / 2, low=low, high=high, n=3)
    assert book.verdict(RANGE, ours, same_data=True, full_protocol=False) == expected
    assert book.verdict(RANGE, ours, same_data=False, full_protocol=True) == "not tested at this scale"


@pytest.mark.parametrize("machine", [-math.inf, 0, math.inf])
def test_a_verdict_does_not_hang_on_the_last_bit(machine):
    def judged(claim, low, high):
        low, high = (
            math.nextafter(end, math.copysign(math.inf, machine)) if machine else end for end in (low, high)
        )
        ours = wsn.Estimate(mean=(low + high) / 2, low=low, high=high, n=3)
        scale = {"same_data": True, "full_protocol": False}
        return str(claims.verdict(claim, ours, **scale)), claims.why(claim, ours, **scale)

    assert judged(RANGE, 4, 6)[0] == "reproduced"
    assert judged(RANGE, 6, 7)[0] == judged(RANGE, 3, 4)[0] == "partly"
    rises = replace(RANGE, low=claims.ABOVE_0, high=math.inf)
    rounding = 0.1 + 0.2 - 0.3  # 0 on no machine with doubles
    for zero in (0.0, rounding, -rounding):
        assert judged(rises, zero, 1) == ("partly", "the interval lies in the range only in part")
        assert judged(rises, -1, zero) == ("not reproduced", "the whole interval lies below the range")
        assert judged(rises, zero, zero) == ("not reproduced", "the whole interval lies below the range")


def test_decimals_do_not_hang_on_the_last_bit():
    for high in (0.3, 0.1 + 0.2):
        assert estimates.shown(wsn.Estimate(mean=0.2, low=0.1, high=high, n=3)) == "0.20 (0.10 to 0.30)"
    for three in (3, 3 - 1e-15, 3 + 1e-15):
        assert estimates.shown(wsn.Estimate(mean=three, low=1, high=5, n=3)) == "3 (1 to 5)"
    for count in range(2, 12):  # the mean of equal numbers is not always one of them
        assert estimates.shown(wsn.estimate([0.1] * count)) == "0.1"


def test_numbers_of_the_whole_training_are_not_judged_by_a_shorter_one():
    claim, ours = book.claims_of("sparse_mlp")["relu-best"], wsn.Estimate(mean=96.3, low=96.2, high=96.4, n=3)
    assert book.verdict(claim, ours, same_data=True, full_protocol=False) == "not tested at this scale"
    assert book.verdict(claim, ours, same_data=True, full_protocol=True) == "reproduced"


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


@pytest.mark.parametrize("name", ["relu-gain", "linear-gain"])
def test_no_gain_is_not_a_gain(name):
    for gain, expected in ((0.0, "not reproduced"), (1e-9, "reproduced")):
        ours = wsn.Estimate(mean=gain, low=gain, high=gain, n=3)
        assert (
            book.verdict(book.claims_of("sparse_mlp")[name], ours, same_data=True, full_protocol=False)
            == expected
        )


def test_the_table_has_every_claim_and_its_verdict():
    ours = {
        "relu-gain": wsn.estimate([5.0, 5.1, 4.9]),
        "relu-best-width": wsn.estimates.median_and_range([80, 80, 320]),
    }
    table = book.claims_table(book.claims_of("sparse_mlp"), ours, same_data=True, full_protocol=False)
    assert len(table) == len(book.claims_of("sparse_mlp"))
    by_claim = table.set_index("claim")["verdict"]
    assert by_claim[book.claims_of("sparse_mlp")["relu-gain"].statement] == "reproduced"
    assert by_claim[book.claims_of("sparse_mlp")["relu-best-width"].statement] == "partly"
    assert (by_claim == "not tested at this scale").sum() == len(table) - 2
    with pytest.raises(ValueError, match="'relu-gian' is not a claim; one of num-weights"):
        book.claims_table(
            book.claims_of("sparse_mlp"),
            {"relu-gian": ours["relu-gain"]},
            same_data=True,
            full_protocol=False,
        )


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
    assert claims.why(RANGE, estimates.estimate([np.nan, 5]), same_data=True, full_protocol=True) == (
        "a run gave no number"
    )


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


def test_the_interval_of_a_correlation_is_fishers():
    rng = np.random.default_rng(3)
    x = rng.normal(size=11)
    y = x + rng.normal(size=11)
    found, expected = wsn.estimates.correlation(x, y), stats.pearsonr(x, y)
    interval = expected.confidence_interval(0.95)
    assert (found.mean, found.low, found.high) == pytest.approx((expected.statistic, *interval))
    assert found.n == 11
    assert (wsn.estimates.correlation(x[:3], y[:3]).low, wsn.estimates.correlation(x[:3], y[:3]).high) == (
        -1,
        1,
    )
    with pytest.raises(ValueError, match=r"must be as many, at least 3, got shapes \(2,\) and \(2,\)"):
        wsn.estimates.correlation(x[:2], y[:2])


def test_the_ranges_of_the_kernel_s_claims():
    ranges = {name: (claim.low, claim.high) for name, claim in book.claims_of("gp_kernel").items()}
    assert ranges == {
        "theorem-1": (0.9, 1.1), "approximation": (0.8, 1.25), "minimiser": (79, 317),
        "sparse-gain": (math.nextafter(0, 1), math.inf), "similar-width": (-1, 1), "correlation": (0.7, 1),
        "distance-falls": (math.nextafter(0, 1), 1),
    }  # fmt: skip
    p_star = wsn.kernels.paper_minimiser(base_width=8, dimension=784)
    assert book.claims_of("gp_kernel")["minimiser"].reported == round(8 / p_star)


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


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (math.nextafter(0, 1), math.inf, "above 0 points"),
        (-math.inf, math.nextafter(0, -1), "below 0 points"),
        (math.nextafter(0, 1), 2, "above 0, at most 2 points"),
        (-2, math.nextafter(0, -1), "below 0, at least -2 points"),
        (-math.inf, 0, "at most 0 points"),
        (1000, math.inf, "at least 1,000 points"),
        (0.5, 0.5, "0.5 points"),
    ],
)
def test_the_range_of_a_claim_in_words(low, high, said):
    claim = book.Claim(name="c", source="", statement="", low=low, high=high, unit="points")
    table = book.claims_table({"c": claim}, {}, same_data=True, full_protocol=True)
    assert table["holds in"].tolist() == [said]
