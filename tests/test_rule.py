"""The rule that gives every verdict: intervals against two ranges, units, controls, premises, readings, Holm."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import wsnlib as wsn
from wsnlib import book
from wsnlib.book import gp_kernel
from wsnlib.book.engine import claims, rule
from wsnlib.estimates import exact, proportion, units_that_see

NUMBER = book.Claim(name="x", source="s", statement="t", low=4, high=6, against=(3, 7), unit="points")
RISES = replace(NUMBER, low=claims.ABOVE_0, high=math.inf, against=(math.nan, math.nan))
ARITHMETIC = replace(NUMBER, type="arithmetic")
SCALE = {"same_data": True, "full_protocol": False}


def estimate(low, high, *, n=5, **more):
    mean = 5.0 if math.inf in (high, -low) else (low + high) / 2
    return wsn.Estimate(mean=mean, low=low, high=high, n=n, **more)


def judged(claim, ours, **more):
    return str(book.judge(claim, ours, **SCALE | more).verdict)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (4.5, 5.5, "reproduced"),
        (4, 6, "reproduced"),
        (3.9, 5, "mixed"),
        (3.1, 6.9, "mixed"),
        (3, 5, "inconclusive"),
        (5, 7, "inconclusive"),
        (3, 7, "inconclusive"),
        (-math.inf, math.inf, "inconclusive"),
        (4.5, math.inf, "inconclusive"),
        (6.1, 6.9, "not reproduced"),
        (6.1, 8, "not reproduced"),
        (1, 3.9, "not reproduced"),
        (2, 3, "not reproduced"),
        (math.nan, math.nan, "not tested"),
    ],
)
def test_an_interval_against_the_range_and_what_contradicts_it(low, high, expected):
    assert judged(NUMBER, estimate(low, high)) == expected
    assert judged(NUMBER, estimate(low, high), same_data=False) == "not tested"
    of_number = {"reproduced": "verified", "not reproduced": "refuted"}
    assert judged(ARITHMETIC, estimate(low, high)) == of_number.get(expected, expected)


@pytest.mark.parametrize(
    ("claim", "ours", "more", "why"),
    [
        (NUMBER, (4.5, 5.5), {}, "the whole interval lies in the range"),
        (NUMBER, (1, 2), {}, "the whole interval lies below the range"),
        (NUMBER, (7, 8), {}, "the whole interval lies above the range"),
        (NUMBER, (3.5, 5), {}, "nothing contradicts it, but the interval is not all in the range"),
        (NUMBER, (2, 5), {}, "the interval meets the range and what contradicts it"),
        (NUMBER, None, {}, "not measured with this profile"),
        (replace(NUMBER, untested="too large"), None, {}, "too large"),
        (NUMBER, (4, 6), {"same_data": False}, "measured on other data than the paper's"),
        (
            replace(NUMBER, full_protocol_only=True), (4, 6), {},
            "only the paper's data and its whole training can tell",
        ),
        (NUMBER, (math.nan, math.nan), {}, "a run gave no number"),
        (NUMBER, (4.5, 5.5), {"n": 2}, "fewer than 3 independent units"),
        (
            replace(NUMBER, control="narrow"), (4.5, 5.5), {"control": estimate(4.5, 5.5)},
            "it holds for the control group, too: narrow",
        ),
        (
            NUMBER, (4.5, 5.5), {"readings": {"a": estimate(1, 2), "b": estimate(4, 5), "c": estimate(7, 8)}},
            "listed readings disagree: a, c",
        ),
        (RISES, (0.1, 2), {"adjusted_p": 0.0512}, "p = 0.051 after Holm's correction for the directions of the page"),
    ],
)  # fmt: skip
def test_a_judgement_says_what_decided_it(claim, ours, more, why):
    made = None if ours is None else estimate(*ours, n=more.get("n", 5))
    given = {name: value for name, value in more.items() if name != "n"}
    assert book.judge(claim, made, **SCALE | given).why == why


def test_every_interval_has_one_verdict_that_only_its_place_decides():
    """By brute force: what lies in H, what touches C, for all intervals with ends on a grid."""
    grid = np.arange(1, 9.25, 0.25)
    for low, high in itertools.combinations_with_replacement(grid.tolist(), 2):
        inside, apart = low >= 4 and high <= 6, high < 4 or low > 6
        against = low <= 3 or high >= 7
        expected = (
            "reproduced" if inside else "not reproduced" if apart else "inconclusive" if against else "mixed"
        )
        assert judged(NUMBER, estimate(low, high)) == expected


@pytest.mark.parametrize("machine", [-math.inf, 0, math.inf])
def test_a_verdict_does_not_hang_on_the_last_bit(machine):
    def moved(low, high):
        return estimate(*(math.nextafter(end, machine) if machine else end for end in (low, high)))

    assert judged(NUMBER, moved(4, 6)) == "reproduced"
    assert judged(NUMBER, moved(3, 5)) == judged(NUMBER, moved(5, 7)) == "inconclusive"
    rounding = 0.1 + 0.2 - 0.3  # 0 on no machine with doubles
    for zero in (0.0, rounding, -rounding):
        assert judged(RISES, moved(zero, 1)) == "inconclusive"
        assert judged(RISES, moved(-1, zero)) == "inconclusive"  # p = 0.05 on a single direction
        assert judged(RISES, moved(zero, 1), adjusted_p=0.01) == "inconclusive"  # 0 is not left out


def test_what_needs_the_whole_training_is_judged_after_it():
    claim = replace(NUMBER, full_protocol_only=True)
    for full, expected in ((False, "not tested"), (True, "reproduced")):
        assert judged(claim, estimate(4.5, 5.5), full_protocol=full) == expected
        page = book.judge_page({"x": claim}, {"x": estimate(4.5, 5.5)}, same_data=True, full_protocol=full)
        assert str(page["x"].verdict) == expected


def test_less_than_three_units_conclude_nothing_but_for_arithmetic():
    for n, expected in ((1, "inconclusive"), (2, "inconclusive"), (3, "reproduced")):
        assert judged(NUMBER, estimate(4.5, 5.5, n=n)) == expected
    assert judged(ARITHMETIC, exact(5)) == "verified"
    assert judged(ARITHMETIC, exact(7)) == "refuted"


def test_what_holds_for_the_control_group_too_is_no_finding():
    claim = replace(NUMBER, control="the narrow ones")
    ours = estimate(4.5, 5.5)
    assert judged(claim, ours, control=estimate(4.4, 5.6)) == "inconclusive"
    for low, high in ((1, 2), (9, 10)):
        assert judged(claim, ours, control=estimate(low, high)) == "reproduced"
    for low, high, seeds in ((3.5, 5.5, None), (1, 4.5, None), (-math.inf, math.inf, "at least 6")):
        found = book.judge(claim, ours, control=estimate(low, high), **SCALE)
        assert str(found.verdict) == "inconclusive"
        assert found.why == "it may hold for the control group, too: the narrow ones"
        assert found.seeds == seeds if seeds else int(found.seeds) > 5
    assert judged(claim, estimate(1, 2), control=ours) == "not reproduced"
    assert "the narrow ones" in book.judge(claim, ours, control=ours, **SCALE).why
    assert book.judge(claim, ours, control=ours, **SCALE).seeds == "no number"


def test_a_control_group_of_two_is_none():
    claim, ours, few = replace(NUMBER, control="the narrow ones"), estimate(4.5, 5.5), estimate(1, 2, n=2)
    found = book.judge(claim, ours, control=few, **SCALE)
    assert (str(found.verdict), found.seeds) == ("inconclusive", "at least 3")
    assert "fewer than 3 independent units in its control group: the narrow ones" in found.why
    assert judged(claim, estimate(1, 2), control=few) == "not reproduced"


def test_nothing_is_concluded_where_the_premise_is_not_met():
    for low, high in ((4.5, 5.5), (1, 2), (3.5, 5)):
        found = book.judge(NUMBER, estimate(low, high), unmet="They fit.", **SCALE)
        assert (str(found.verdict), found.seeds) == ("inconclusive", "no number")
        assert found.why == "its premise is not met, that they fit"


def test_listed_readings_that_disagree_decisively_are_mixed():
    claim = replace(NUMBER, readings={"other": "another reading"})
    held, failed, open_ = estimate(4.5, 5.5), estimate(1, 2), estimate(2, 8)
    verdicts = {
        (a, b): judged(claim, ours, readings={"other": reading})
        for (a, ours), (b, reading) in itertools.product(
            (("held", held), ("failed", failed), ("open", open_)), repeat=2
        )
    }
    assert verdicts == {
        ("held", "held"): "reproduced", ("held", "failed"): "mixed", ("held", "open"): "reproduced",
        ("failed", "held"): "mixed", ("failed", "failed"): "not reproduced", ("failed", "open"): "not reproduced",
        ("open", "held"): "inconclusive", ("open", "failed"): "inconclusive", ("open", "open"): "inconclusive",
    }  # fmt: skip


def test_readings_of_two_units_say_nothing_and_so_do_those_beside_two_units():
    claim = replace(NUMBER, readings={"other": "another reading"})
    held, failed = estimate(4.5, 5.5), estimate(1, 2)
    two = {n: estimate(4.5 if n else 1, 5.5 if n else 2, n=2) for n in (0, 1)}
    assert judged(claim, held, readings={"other": two[0]}) == "reproduced"
    assert judged(claim, two[1], readings={"other": failed}) == "inconclusive"


def test_an_interval_that_is_no_number_is_not_judged():
    ours = replace(estimate(4.5, 5.5), low=math.nan)
    assert judged(NUMBER, ours) == "not tested"


def test_an_equivalence_needs_an_interval_of_ninety_per_cent():
    """Two one-sided tests at 5 % each, which a 95 % interval would be at 2.5 %."""
    same = replace(NUMBER, low=-1, high=1, against=(math.nan, math.nan), equivalence=True)
    values = [0.2, -0.5, 0.4, -0.1, 0.45]
    t = [
        stats.ttest_1samp(values, end, alternative=side).pvalue
        for end, side in ((-1, "greater"), (1, "less"))
    ]
    assert max(t) < 0.05
    assert judged(same, wsn.estimate(values, confidence=0.9)) == "reproduced"
    with pytest.raises(ValueError, match="the interval for 'x' must be one of 90 %, got 95 %"):
        book.judge(same, wsn.estimate(values), **SCALE)
    with pytest.raises(ValueError, match="the interval for 'x' must be one of 95 %, got 90 %"):
        book.judge(NUMBER, wsn.estimate(values, confidence=0.9), **SCALE)


def test_a_range_of_few_values_decides_nothing():
    for n, expected in ((1, "inconclusive"), (5, "inconclusive"), (6, "verified")):
        assert judged(ARITHMETIC, wsn.estimates.median_and_range([5.0] * n)) == expected
    found = book.judge(ARITHMETIC, wsn.estimates.median_and_range([5.0] * 3), **SCALE)
    assert found.why == "the interval is one of 75 % only"
    assert judged(ARITHMETIC, wsn.estimates.exact_range([5.0])) == "verified"


# -- directions of a page ---------------------------------------------------------------------


def test_holm_is_that_of_a_search_over_all_subsets():
    """Closed testing: a hypothesis is rejected if every intersection with it is, by Bonferroni."""
    rng = np.random.default_rng(0)
    for _ in range(40):
        p = rng.uniform(0, 0.2, 4).tolist()
        sets = [s for k in range(1, 5) for s in itertools.combinations(range(4), k)]
        closed = [max(len(s) * min(p[i] for i in s) for s in sets if j in s) for j in range(4)]
        assert rule.holm(p) == pytest.approx(closed)
    assert rule.holm([]) == []


def directions(count: int, p: float):
    """That many directions, the first of that p-value, the others hopeless."""
    quantile = stats.t.isf(p / 2, 4)
    own = wsn.Estimate(
        mean=1, low=1 - stats.t.isf(0.025, 4) / quantile, high=1 + stats.t.isf(0.025, 4) / quantile, n=5
    )
    assert own.p_value(0.0) == pytest.approx(p)
    named = {f"c{i}": replace(RISES, name=f"c{i}") for i in range(count)}
    return named, {name: own if name == "c0" else estimate(-1, 1.1) for name in named}


def test_a_direction_holds_its_level_over_its_page():
    for count, expected in ((1, "reproduced"), (2, "reproduced"), (3, "inconclusive")):
        of_page, ours = directions(count, 0.02)
        found = book.judge_page(of_page, ours, **SCALE)
        assert str(found["c0"].verdict) == expected
    assert found["c0"].why == "p = 0.06 after Holm's correction for the directions of the page"
    downwards = {
        name: replace(claim, low=-math.inf, high=claims.BELOW_0, against=(math.nan, math.nan))
        for name, claim in of_page.items()
    }
    assert str(book.judge_page(downwards, ours, **SCALE)["c0"].verdict) == "inconclusive"  # nor against it


def test_only_directions_that_are_tested_count_for_holm():
    of_page, ours = directions(3, 0.02)
    of_page["c1"] = replace(of_page["c1"], full_protocol_only=True)
    assert str(book.judge_page(of_page, ours, **SCALE)["c0"].verdict) == "reproduced"
    of_page, ours = directions(3, 0.02)
    del ours["c2"]
    assert str(book.judge_page(of_page, ours, **SCALE)["c0"].verdict) == "reproduced"
    of_page, ours = directions(3, 0.02)
    of_page |= {name: replace(NUMBER, name=name) for name in ("c1", "c2")}  # numbers are no directions
    assert str(book.judge_page(of_page, ours, **SCALE)["c0"].verdict) == "reproduced"


def test_all_directions_of_a_page_together_hold_their_level():
    """Five directions without an effect, 3 seeds: anything is decided in at most 5 % of the pages."""
    rng, pages, wrong = np.random.default_rng(1), 1000, 0
    named = {f"c{i}": replace(RISES, name=f"c{i}") for i in range(5)}
    for values in rng.normal(size=(pages, 5, 3)):
        found = book.judge_page(named, {f"c{i}": wsn.estimate(v) for i, v in enumerate(values)}, **SCALE)
        wrong += any(str(j.verdict) != "inconclusive" for j in found.values())
    assert wrong <= stats.binom.isf(1e-4, pages, 0.05)


def test_a_page_knows_its_claims_readings_controls_and_premises():
    fit = replace(NUMBER, name="fit", type="premise", statement="They fit.")
    big = replace(NUMBER, name="big", premise="fit", control="c", readings={"r": "r"})
    page = {"big": big, "fit": fit}
    good, bad = estimate(4.5, 5.5), estimate(1, 2)
    small = estimate(-5.5, -4.5)
    both = book.judge_page(page, {"big": good, "fit": good, "big/control": small}, **SCALE)
    assert (str(both["big"].verdict), str(both["fit"].verdict)) == ("reproduced", "verified")
    unmet = "its premise is not met, that they fit"
    assert book.judge_page(page, {"big": good, "fit": bad}, **SCALE)["big"].why == unmet
    assert book.judge_page(page, {"big": good}, **SCALE)["big"].why == unmet
    for control in ({"big/control": good}, {}):
        held = book.judge_page(page, {"big": good, "fit": good} | control, **SCALE)
        assert str(held["big"].verdict) == "inconclusive"
    read = book.judge_page(page, {"big": good, "fit": good, "big/control": small, "big/r": bad}, **SCALE)
    assert str(read["big"].verdict) == "mixed"
    aside = {"big": replace(big, readings={"held-out best": "r"}), "fit": fit}
    shown = {"big": good, "fit": good, "big/control": small, "big/held-out best": bad}
    assert str(book.judge_page(aside, shown, **SCALE)["big"].verdict) == "reproduced"
    for name in ("bog", "big/q", "fit/control"):
        with pytest.raises(ValueError, match=f"estimates must be of claims, one of big, fit, got '{name}'"):
            book.judge_page(page, {name: good}, **SCALE)


# -- how many seeds ---------------------------------------------------------------------------


@pytest.mark.parametrize(("effect", "seeds"), [(1.0, 3), (0.5, 5), (0.3, 4)])
def test_with_the_seeds_that_are_named_four_studies_in_five_decide(effect, seeds):
    ours = wsn.Estimate(mean=effect, low=effect - 2, high=effect + 2, n=seeds)
    deviation = 2 / ours.quantile * math.sqrt(seeds)
    n = int(book.judge(RISES, ours, **SCALE).seeds)
    rng, tries = np.random.default_rng(2), 1500
    decided = sum(wsn.estimate(rng.normal(effect, deviation, n)).low > 0 for _ in range(tries)) / tries
    assert decided == pytest.approx(0.8, abs=0.06)


def test_a_direction_among_others_needs_more_seeds_by_its_share_of_the_level():
    ours = estimate(-0.5, 1.5)
    own = ours.p_value(0.0)

    def seeds(adjusted_p):
        return int(book.judge(RISES, ours, adjusted_p=adjusted_p, **SCALE).seeds)

    assert seeds(own) == seeds(None) < seeds(2 * own) < seeds(4 * own) < seeds(20 * own)
    assert 4 * own < 1 < 20 * own
    page = {name: replace(RISES, name=name) for name in "abc"}
    alone = book.judge_page({"a": page["a"]}, {"a": ours}, **SCALE)["a"]
    of_three = book.judge_page(page, dict.fromkeys(page, ours), **SCALE)["a"]
    assert (int(alone.seeds), int(of_three.seeds)) == (seeds(None), seeds(3 * own))
    for p, expected in ((0.05, "reproduced"), (math.nextafter(0.05, 1), "inconclusive")):
        assert judged(RISES, estimate(0.1, 2), adjusted_p=p) == expected


@pytest.mark.parametrize(
    ("mean", "near", "far", "needs"),
    [
        (5.5, 1.5, 2.75, (1.5, 0.5)),  # 2.75 to 7: both borders are crossed, and the nearest needs most
        (5.5, 0.75, 2.75, (2.75, 1.5)),  # 2.75 to 6.25: here the other needs more
        (5.5, 0.25, 4.0, (4.0, 1.5)),  # 1.5 to 5.75: the nearest border is not crossed
        (5.0, 0.0, 2.0, (2.0, 1.0)),  # 3 to 5: both are as near
        (6.5, 2.0, 0.9, (0.9, 0.5)),  # 5.6 to 8.5: outside, the border between
    ],
)
def test_seeds_are_those_by_which_borders_that_the_interval_crosses_are_told_from_the_mean(
    mean, near, far, needs
):
    """By the part of the interval that faces a border; which side is which does not matter."""
    part, distance = needs
    facing = wsn.Estimate(mean=0, low=-part, high=9, n=5)
    expected = str(units_that_see(facing, distance, 0.05))
    above = wsn.Estimate(mean=mean, low=mean - far, high=mean + near, n=5)
    below = wsn.Estimate(mean=10 - mean, low=10 - above.high, high=10 - above.low, n=5)
    assert book.judge(NUMBER, above, **SCALE).seeds == expected
    assert book.judge(NUMBER, below, **SCALE).seeds == expected


def test_what_is_open_with_the_units_there_are_is_not_decided_by_as_many():
    grid = np.arange(0.5, 9.75, 0.5).tolist()
    for n, (low, mean, high) in itertools.product(
        (1, 2, 5, 40), itertools.combinations_with_replacement(grid, 3)
    ):
        ours = wsn.Estimate(mean=mean, low=low, high=high, n=n)
        found = book.judge(NUMBER, ours, **SCALE)
        if str(found.verdict) == "inconclusive" and not found.seeds.startswith("more than"):
            assert int(found.seeds.removeprefix("at least ")) > n
    unbounded = wsn.Estimate(mean=5, low=-math.inf, high=6, n=5)
    assert book.judge(NUMBER, unbounded, **SCALE).seeds == "at least 6"
    of_very_many = book.judge(RISES, estimate(0.9, 1.1), adjusted_p=1.0, **SCALE)
    assert int(of_very_many.seeds) > 5


def test_seeds_are_counted_up_to_a_thousand(monkeypatch):
    ours = estimate(2, 7)
    for n, said in ((3, "6"), (1000, "1000"), (1001, "more than 1,000")):
        monkeypatch.setattr(rule, "units_that_see", lambda *_, n=n: n)
        assert book.judge(NUMBER, ours, **SCALE).seeds == said


def test_every_inconclusive_claim_names_its_seeds_and_no_other_does():
    for low, high in itertools.combinations(np.arange(-3.0, 9.5, 0.75).tolist(), 2):
        for claim in (NUMBER, RISES):
            found = book.judge(claim, estimate(low, high), **SCALE)
            assert bool(found.seeds) == (str(found.verdict) == "inconclusive")
    one_seed = wsn.estimates.correlation_of_means([[1, 2, 4]], [[2, 2, 3]])
    for alone in (wsn.estimate([1.0]), one_seed):
        assert book.judge(RISES, alone, **SCALE).seeds == "at least 3"
    assert book.judge(RISES, estimate(-5.01, 5), **SCALE).seeds == "more than 1,000"


def test_every_network_needs_as_many_as_the_exact_binomial_says():
    every = replace(NUMBER, low=0.9, high=1, against=(0.5, math.inf), universal=True)
    ours = proportion([True] * 3)
    assert book.judge(every, ours, **SCALE).seeds == "36"
    assert proportion([True] * 36).low >= 0.9 > proportion([True] * 35).low
    few = proportion([True] * 4 + [False] * 3)
    assert int(book.judge(every, few, **SCALE).seeds) > 7  # 3 of 6 would decide, a smaller share
    assert judged(every, proportion([True] * 36)) == "reproduced"
    assert judged(every, proportion([False] * 3)) == "not reproduced"  # at most 0.71 of them
    assert judged(every, proportion([True, False, False, False])) == "not reproduced"
    assert judged(every, proportion([True] * 18 + [False])) == "mixed"


def test_a_set_of_widths_shrinks_in_steps():
    width = replace(NUMBER, low=40, high=80, against=(10, 320))
    ours = wsn.Estimate(mean=80, low=40, high=320, n=3, later=((4, 40, 160), (9, 40, 80)))
    assert book.judge(width, ours, **SCALE).seeds == "4"  # then mixed
    assert book.judge(width, replace(ours, later=((4, 40, 320),)), **SCALE).seeds == "more than 1,000"


def test_a_set_of_widths_in_octaves_shrinks_in_the_same_steps():
    best = wsn.Estimate(mean=256, low=64, high=256, n=10, later=((25, 128, 256), (26, 256, 256)))
    found = gp_kernel.octaves(best, wsn.Estimate(mean=256, low=256, high=256, n=10))
    assert (found.low, found.mean, found.high) == (0, 0, 2)
    assert found.later == ((25, 0, 1), (26, 0, 0))
    similar = book.claims_of("gp_kernel")["similar-width"]
    assert book.judge(similar, found, **SCALE).seeds == "25"


# -- the claims -------------------------------------------------------------------------------

ALL = [claim for chapter in (*book.judging_chapters(), "") for claim in book.claims_of(chapter).values()]

WIDER = [("cka_blocks", "others-removed")]
"""Equivalences that are contradicted from twice their margin on, as was fixed with the range."""


@pytest.mark.parametrize("claim", ALL, ids=lambda claim: f"{claim.chapter}/{claim.name}")
def test_what_contradicts_a_claim_lies_outside_its_range(claim):
    below, above = claim.against
    assert below < claim.low or claim.low == -math.inf
    assert above > claim.high or claim.high == math.inf
    if (claim.chapter, claim.name) in WIDER:
        assert claim.equivalence and (below, above) == (2 * claim.low, 2 * claim.high)
    elif claim.equivalence or claim.is_direction:  # nothing lies between
        assert below in (-math.inf, math.nextafter(claim.low, -math.inf))
        assert above in (math.inf, math.nextafter(claim.high, math.inf))
    if claim.chapter:
        assert claim.estimator
        assert not claim.premise or book.claims_of(claim.chapter)[claim.premise].type == "premise"
    assert set(claim.readings) == {name.replace("/", "") for name in claim.readings}


def test_numbers_of_a_paper_are_contradicted_by_twice_their_tolerance():
    best = book.claims_of("sparse_mlp")["relu-best"]
    assert (best.low, best.high) == pytest.approx((95.8, 96.8))
    assert best.against == pytest.approx((95.3, 97.3))
    with pytest.raises(ValueError, match="against of 'x' must lie outside 4 to 6"):
        replace(NUMBER, against=(5, 7))


def test_what_needs_no_scale_is_judged_in_every_profile():
    need_none = {(c.chapter, c.name) for c in ALL if c.any_scale}
    assert need_none == {
        ("sparse_mlp", "num-weights"), ("resnet_sweep", "figure-10"), ("resnet_sweep", "num-weights"),
        ("gp_kernel", "theorem-1"), ("gp_kernel", "distance-falls"), ("cka_blocks", "proposition-1"),
        ("later_work", "balanced-is-water-filling"), ("later_work", "cka-moved"),
        ("later_work", "cka-few-directions"),
    }  # fmt: skip
    assert all(c.type == "arithmetic" for c in ALL if c.any_scale)
    claim = book.claims_of("resnet_sweep")["num-weights"]
    assert judged(claim, exact(0), same_data=False) == "verified"
