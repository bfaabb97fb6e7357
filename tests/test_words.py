"""What pages say follows from the numbers: each sentence that takes sides, on numbers of either side."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from wsnlib import book
from wsnlib.book import gp_kernel, resnet_sweep, sparse_mlp
from wsnlib.book.words import bottlenecks as on_bottlenecks
from wsnlib.book.words import cka_blocks as on_blocks
from wsnlib.book.words import gp_kernel as on_kernels
from wsnlib.book.words import later_work as on_later
from wsnlib.book.words import resnet_sweep as on_widths
from wsnlib.book.words import sparse_mlp as on_mlps
from wsnlib.book.words import wide_vs_deep_errors as on_errors
from wsnlib.book.words import your_network as on_yours
from wsnlib.estimates import Estimate


def between(low: float, high: float, n: int = 5) -> Estimate:
    return Estimate(mean=(low + high) / 2, low=low, high=high, n=n)


def verdicts(chapter: str, **ours: Estimate) -> book.PageVerdicts:
    names = {name.replace("_", "-"): estimate for name, estimate in ours.items()}
    scale = {"same_data": True, "full_protocol": False, "profile": "cpu", "preset": "clean"}
    return book.PageVerdicts(claims=book.claims_of(chapter), ours=names, chapter=chapter, **scale)


# -- errors of wide and deep networks ----------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (-0.4, 0.3, "lies within half a point"),
        (0.6, 0.9, "lies beyond half a point, so they are not equal"),
        (-0.9, -0.6, "lies beyond half a point, so they are not equal"),
        (0.3, 0.7, "reaches beyond half a point, so equality to that precision is undecided"),
        (-1.0, 1.0, "reaches beyond half a point"),
    ],
)
def test_equality_is_what_the_interval_says(low, high, said):
    matched = replace(between(low, high), confidence=0.9)
    found = on_errors._equality(verdicts("wide_vs_deep_errors", matched=matched))
    assert said in found


def test_a_difference_at_equal_accuracy_is_not_due_to_accuracy():
    equal = ([1, 2, 3], [4, 5, 6])
    table = pd.DataFrame({"excess": [0.0, 2.5], "low": [-1.0, 1.5], "high": [1.0, 3.5]})
    found = on_errors.at_equal_accuracy(equal, table)
    assert (
        found == "On 3 pairs the typical difference is 2.5 points (1.5 to 3.5), so it is not due to accuracy."
    )
    table["low"] = [-1.0, -0.5]
    assert "no difference remains that could not be chance" in on_errors.at_equal_accuracy(equal, table)
    assert on_errors.at_equal_accuracy(None, None).startswith("Fewer than six networks")


# -- widths of ResNet-18 ----------------------------------------------------------------------


def widths(accuracies: dict[tuple[str, int], float], data: str = "CIFAR10") -> pd.DataFrame:
    """Two seeds of dense and sparse networks of base width 8, by method and width."""
    rows = [
        {
            "data": data,
            "method": method,
            "base": width if method == "dense" else 8,
            "width": width,
            "factor": 1.0 if method == "dense" else width / 8,
            "seed": seed,
            "test_accuracy": accuracy + 0.001 * seed,
            "train_accuracy": accuracy,
            "num_weights": 1000,
        }
        for (method, width), accuracy in accuracies.items()
        for seed in (0, 1)
    ]
    return pd.DataFrame(rows)


ON_WIDTHS = resnet_sweep.Parameters(data="digits", base_widths=[8], widening_factors=[1.0, 1.5, 2.0])


@pytest.mark.parametrize(
    ("sparse", "dense", "said"),
    [
        (
            {12: 0.8, 16: 0.9},
            {12: 0.85, 16: 0.95},
            "At width 16, the widest trained, where the sparse network fits",
        ),
        ({12: 0.9, 16: 0.8}, {12: 0.95, 16: 0.9}, "At width 12, where networks with these weights fit"),
        (
            {12: 0.8, 16: 0.9},
            {12: 0.85},
            "width 16, which fits the training images best, was not trained dense",
        ),
        ({12: 0.8, 16: 0.9}, {}, "so the share of width is not known"),
    ],
)
def test_the_share_of_width_is_told_where_networks_fit(sparse, dense, said):
    reached = {("dense", 8): 0.7} | {("sparse", w): a for w, a in sparse.items()}
    table = widths(reached | {("dense", w): a for w, a in dense.items()})
    assert said in on_widths._share(table, ON_WIDTHS)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (1.5, 2.0, "those from factor 1.5 to 2 are not clearly below it; a decline at very large widths"),
        (2.0, 2.0, "all others are clearly below it; a decline"),
        (1.0, 1.5, "those from factor 1 to 1.5 are not clearly below it; the widest are clearly below it"),
    ],
)
def test_a_decline_is_seen_only_where_the_widest_is_below_the_best(low, high, said):
    ours = {"best_factor": Estimate(mean=low, low=low, high=high, n=5)}
    assert said in on_widths._limit(ON_WIDTHS, verdicts("resnet_sweep", **ours))


@pytest.mark.parametrize(
    ("sign", "said"), [(1, "are more accurate"), (-1, "are less accurate"), (0, "neither")]
)
def test_wider_networks_are_called_better_only_if_the_interval_says_so(sign, said):
    table = widths({("dense", 8): 0.7, ("sparse", 12): 0.7, ("sparse", 16): 0.7})
    gain = between(sign * 2.0 - 1, sign * 2.0 + 1)
    assert said in on_widths._gain(table, ON_WIDTHS, verdicts("resnet_sweep", gain=gain))


# -- kernels ----------------------------------------------------------------------------------


def kernels(monkeypatch, *, by_theorem: float, low: float, high: float) -> str:
    """The conclusion, where Theorem 1 is smallest at a width and the best of 64, 128, … 512 lies within ends."""
    errors = pd.Series(range(4), index=[64, 128, 256, 512], dtype=float)
    monkeypatch.setattr(on_kernels, "_width_by_theorem", lambda measured, plan: (by_theorem, False))
    monkeypatch.setattr(on_kernels, "_error", lambda trained, plan: errors)
    best = Estimate(mean=low, low=low, high=high, n=10)
    monkeypatch.setattr(gp_kernel, "accurate_widths", lambda trained, p: best)
    return on_kernels._conclusion(pd.DataFrame(), pd.DataFrame(), SimpleNamespace(p=None))


@pytest.mark.parametrize(
    ("by_theorem", "low", "high", "said"),
    [
        (100, 64, 128, "does not contradict"),
        (1000, 64, 128, "does not support"),
        (1000, 64, 512, "is open"),  # the best may be the widest, beyond which it was not looked for
        (100, 64, 512, "is open"),
        (10, 128, 512, "is open"),
        (10, 128, 256, "does not support"),
    ],
)
def test_theorem_1_is_contradicted_only_by_widths_that_are_known(by_theorem, low, high, said, monkeypatch):
    assert said in kernels(monkeypatch, by_theorem=by_theorem, low=low, high=high)


# -- sparse MLPs ------------------------------------------------------------------------------

ON_MLPS = sparse_mlp.Parameters(activations=["relu"])


@pytest.mark.parametrize(("later", "rises"), [((0.1, 0.3), True), ((0.3, 0.1), False)])
def test_the_best_width_rises_only_if_it_does(later, rises):
    means = pd.Series(
        [0.2, 0.1, *later],
        index=pd.MultiIndex.from_product(
            [["relu"], [1, 10], [5, 10]], names=["activation", "epoch", "width"]
        ),
    )
    said = on_mlps.of_moments(means, ON_MLPS)["moments_words"]
    assert said.startswith("After the first epoch the best width is 5 (ReLU), after the last")
    assert ("it rises in the course of training" in said) == rises


def test_paths_are_told_from_density_only_where_their_orders_differ():
    columns = {"rank": [1.0, -0.5], "lacks": [0.0, 0.4], "of density": [1.0, 0.5], "apart": [0.0, 0.0]}
    at_width = pd.DataFrame(columns, index=pd.MultiIndex.from_tuples([("relu", 10), ("relu", 20)]))
    at_width.index.names = ["activation", "width"]
    said = on_mlps.of_paths(at_width)["paths_words"]
    assert "is positive for 1 of 2 pairs" in said
    assert "The order by paths is that by the density of the last layer" in said
    at_width["apart"] = [0.0, 1.0]
    said = on_mlps.of_paths(at_width)["paths_words"]
    assert "Only at width 20 is the order by paths not that by the density" in said
    assert "positive for 0 of 1 pair, that with the density for 1" in said
    assert "nothing to correlate" in on_mlps.of_paths(at_width[:0])["paths_words"]


# -- blocks -----------------------------------------------------------------------------------


def network(title: str, *, block: bool, fits: bool = True) -> SimpleNamespace:
    inside = {"ratio_inside": 0.5, "left_without_component": 0.25, "top_share_inside": 0.125}
    return SimpleNamespace(title=title, has_block=block, fits=fits, **inside)


def measured(*networks: SimpleNamespace) -> SimpleNamespace:
    """Results, as far as sentences read them; the shallowest first."""
    return SimpleNamespace(
        ordered=list(networks),
        judged=lambda *, block: [m for m in networks if m.fits and m.has_block == block],
        runs=SimpleNamespace(p=SimpleNamespace(num_images=1000)),
    )


def test_networks_without_a_block_are_named_up_to_two_and_then_counted():
    deep, none = network("deep", block=True), [network(f"net {i}", block=False) for i in range(3)]
    some = on_blocks._found(measured(*none[:2], network("deep", block=False), deep))
    assert some == "A block was found in 1 of 2 deep, 0 of 1 net 1 and 0 of 1 net 0."
    many = on_blocks._found(measured(*none, deep, deep))
    assert many == "A block was found in 2 of 2 deep and none of 3 others."
    unfit = [network("deep", block=True, fits=False)]
    assert on_blocks._found(measured(*unfit)).startswith("No network fits its images")


def test_one_or_two_blocks_are_told_one_by_one_and_more_by_their_means():
    ours = {
        "component": between(0.4, 0.8),
        "component-removed": between(0.1, 0.3),
        "few-images": between(-0.1, 0.5),
    }
    say = on_blocks.Sentences(ours)
    one = on_blocks._few(measured(network("deep", block=True)), say)
    assert one.startswith("Inside blocks the first component explains 0.50 of the variance; without it, 0.25")
    three = on_blocks._few(measured(*[network("deep", block=True)] * 3), say)
    assert "0.60 (0.40 to 0.80)" in three and "0.20 (0.00 to 0.50) of it" in three  # a share is not below 0
    assert on_blocks._few(measured(network("deep", block=False)), say) == ""


# -- later work, bottlenecks, a network of one's own ------------------------------------------


def test_claims_are_listed_by_verdict_with_what_was_measured_if_it_was():
    found = on_later.Sentences(
        verdicts("later_work", set_better=between(1.0, 2.0), rigl_better=between(-2.0, 2.0))
    )
    said = found.judged(on_later.MOVES, sizes=True)
    assert "Reproduced: SET beats static masks at high sparsity (+1.50 points)." in said
    assert "Inconclusive: RigL beats static masks at high sparsity (0 points" in said
    assert "Not tested: RigL's advantage grows with sparsity." in said
    assert "(" not in found.judged(on_later.MOVES)
    assert found("{} points", "rigl-gap-grows") == on_later.NOT_RUN


def test_a_gain_has_a_sign_and_a_loss_none():
    found = on_later.Sentences(
        verdicts("later_work", rates_differ=between(1.0, 2.0), cka_moved=between(0.9, 1.1))
    )
    assert found.judged(on_later.RATES, sizes=True).endswith("(1.50 points lost).")
    unit = book.claims_of("later_work")["cka-moved"].unit
    assert f"({unit}: 1.00)" in found.judged(on_later.CKA, sizes=True)


def test_a_page_says_whether_its_claims_were_fixed_before():
    page = verdicts("bottlenecks")
    flagged = sum(bool(claim.exploratory) for claim in page.claims.values())
    assert (
        f"of this page, {flagged} {'is' if flagged == 1 else 'are'} *exploratory*"
        in on_bottlenecks._exploratory(page)
    )
    plain = replace(page, claims={n: replace(c, exploratory="") for n, c in page.claims.items()})
    assert "were fixed before a result of these networks was seen" in on_bottlenecks._exploratory(plain)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (1.0, 2.0, "widened improves test accuracy: {} points."),
        (-2.0, -1.0, "widened harms test accuracy: {} points."),
        (-1.0, 1.0, "cannot resolve: {} points; single runs reach 70.0 to 80.0 %."),
    ],
)
def test_an_effect_is_one_only_if_the_seeds_say_so(low, high, said):
    part = pd.DataFrame({"test_accuracy": [0.7, 0.8]})
    assert on_yours._effect("widened", between(low, high), part).endswith(said)
    alone = on_yours._effect("widened", between(-math.inf, math.inf), part[:1])
    assert alone.endswith("that 1 seed cannot resolve: {} points.")


def test_a_share_of_a_normal_variable_s_variance_is_that_of_its_extreme_values():
    values = np.sort(np.random.default_rng(0).normal(size=400_000) ** 2)
    for part in (0.01, 0.1, 0.5):
        simulated = values[-round(part * len(values)) :].sum() / values.sum()
        assert on_blocks._normal_share(part) == pytest.approx(simulated, rel=0.02)
