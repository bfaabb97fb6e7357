"""The estimates of the chapter `wide_vs_deep_errors` find what was planted in simulated populations."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import special, stats

import wsnlib as wsn
from wsnlib import book
from wsnlib.book import wide_vs_deep_errors

P = wide_vs_deep_errors.Parameters.read({"networks": 60, "other_networks": 40})
LABELS = np.arange(600) % 10
EVEN = np.full(600, 0.6)
TWO_GROUPS = [["structure", "consumer goods"][c % 2] for c in range(100)]


def population(p, *, name: str, networks: int = 40, seed: int, labels=LABELS, classes: int = 10):
    return wsn.predictions.simulate_population(
        p, networks=networks, labels=labels, num_classes=classes, name=name, seed=seed
    )


def family(*probabilities, seed: int) -> list[wsn.predictions.Population]:
    return [population(p, name=str(i), seed=seed + i) for i, p in enumerate(probabilities)]


def simulated(*, deep=EVEN, wide=EVEN, otherwise=None, by_depth=None, by_width=None, models=None):
    """Populations whose networks are right on each image with given probabilities."""
    plain = dict.fromkeys(("deep", "wide", "narrow", "0"), wsn.ResNetCifarSpec(depth=8))
    steps = np.repeat([0.2, 0.8, 1.0], 200)  # right rarely, often, always
    return wide_vs_deep_errors.Results(
        models=models or plain,
        deep=population(deep, name="deep", networks=60, seed=101),
        wide=population(wide, name="wide", networks=60, seed=102),
        again={
            "deep": population(deep, name="deep", networks=20, seed=111),
            "wide": population(wide, name="wide", networks=20, seed=112),
        },
        others={},
        otherwise=otherwise or {},
        by_depth=by_depth or family(steps, steps, seed=107),
        by_width=by_width or family(steps, steps, seed=109),
    )


def changed(p: np.ndarray, where, by: float) -> np.ndarray:
    made = p.copy()
    made[where] += by
    return made


DEEP_BETTER = changed(changed(EVEN, slice(0, 30), 0.4), slice(30, 90), 0.1)
WIDE_BETTER = changed(EVEN, slice(300, 320), 0.25)


@pytest.fixture(scope="module")
def found() -> dict[str, wsn.Estimate]:
    """Of a pair that differs on single images, and of families that gain on some and lose on others."""
    steps = np.repeat([0.2, 0.8, 1.0], 200)
    deeper = changed(changed(steps, slice(200, 400), 0.15), slice(400, 440), -0.5)
    wider = changed(changed(steps, slice(200, 400), -0.2), slice(0, 200), 0.3)
    return wide_vs_deep_errors.estimates(
        simulated(
            deep=DEEP_BETTER,
            wide=WIDE_BETTER,
            by_depth=family(steps, (steps + deeper) / 2, deeper, seed=7),
            by_width=family(steps, wider, (steps + wider) / 2, wider, seed=17),
        ),
        P,
    )


@pytest.mark.parametrize(
    ("claim", "planted", "within", "n"),
    [
        ("matched", 100 * (30 * 0.4 + 60 * 0.1 - 20 * 0.25) / 600, 1.5, 60),
        ("examples-deep", 40, 8, 60),
        ("examples-wide", 30, 12, 60),
        ("deeper-better", 100 * (200 * 0.15 - 40 * 0.5) / 600, 1.5, 40),
        ("wider-better", 100 * (200 * 0.3 - 200 * 0.2) / 600, 1.5, 40),
        ("gain-depth", 15, 3, 40),
        ("gain-width", -20 - 30, 3, 40),
        ("loss-depth", 50, 6, 40),
        ("loss-width", 20, 12, 40),
    ],
)
def test_what_was_planted_is_found_in_points(found, claim, planted, within, n):
    assert found[claim].mean == pytest.approx(planted, abs=within)
    assert found[claim].low <= planted + within / 2 and found[claim].high >= planted - within / 2
    assert found[claim].n == n


def test_the_excess_is_the_typical_difference_in_points_and_not_a_share(found):
    """√mean (p − q)², whatever the number of networks; the share beside it grows with that number."""
    p, q = DEEP_BETTER, WIDE_BETTER
    truth = 100 * np.sqrt(np.mean((p - q) ** 2))
    assert found["excess"].low < truth < found["excess"].high
    assert found["excess"].high - found["excess"].low < 4
    assert found["excess"].n == 60
    whole = wsn.predictions.dispersion(
        *(population(x, name="", networks=400, seed=s) for s, x in ((1, p), (2, q)))
    )
    few = wsn.predictions.dispersion(
        *(population(x, name="", networks=20, seed=s) for s, x in ((1, p), (2, q)))
    )
    assert 100 * whole.difference == pytest.approx(truth, abs=1) and whole.share > few.share + 0.2
    assert few.share_low < few.share < few.share_high


def test_a_control_is_of_other_seeds_and_can_fail():
    """Networks of one kind differ by chance; a search that trained another kind does not pass for it."""
    pair = simulated()
    ours = wide_vs_deep_errors.estimates(pair, P)
    for control in ("control-deep", "control-wide"):
        assert ours[control].low < 0 < ours[control].high
        assert (ours[control].n, ours[control].confidence) == (20, 0.95)
    other = population(EVEN + 0.2, name="wide", networks=20, seed=9)
    wrong = replace(pair, again={**pair.again, "wide": other})
    ours = wide_vs_deep_errors.estimates(wrong, P)
    assert ours["control-wide"].low > 15 and ours["control-deep"].low < 0


@pytest.mark.parametrize("of", ["classes", "examples"])
def test_classes_and_examples_are_told_apart(of):
    """The difference of the pair is the class's alone, or the example's alone."""
    odd = (LABELS if of == "classes" else np.arange(600) // 10) % 2  # as many of every class
    ours = wide_vs_deep_errors.estimates(simulated(deep=EVEN + 0.3 * odd, wide=EVEN + 0.3 * (1 - odd)), P)
    assert {ours[name].n for name in ("classes", "class-share")} == {60}
    assert ours["aic-class"].n == ours["aic-example"].n == 60
    if of == "classes":
        assert ours["classes"].low > 100 and ours["class-share"].mean > 0.9
        assert ours["aic-class"].mean > 500 > ours["aic-example"].mean
    else:
        assert ours["class-share"].high < 0.2 and ours["classes"].low < 0 and ours["classes"].mean < 20
        assert ours["aic-example"].mean > 500 > ours["aic-class"].mean
        assert ours["class-share"].low < ours["class-share"].mean < ours["class-share"].high


def test_neighbours_are_more_alike_than_extremes_where_order_is_likeness():
    """Which images are hard changes from the first kind of network to the last; of widths, they are in disorder."""
    first = np.where(np.arange(600) < 200, 0.1, 0.9)
    last = np.where((np.arange(600) >= 100) & (np.arange(600) < 300), 0.1, 0.9)
    kinds = [first, (first + last) / 2, last]
    by_depth, by_width = (family(*(kinds[i] for i in order), seed=3) for order in ((0, 1, 2), (0, 2, 1)))
    ours = wide_vs_deep_errors.estimates(simulated(by_depth=by_depth, by_width=by_width), P)
    assert ours["similar-depth"].low > 0.05 and ours["similar-width"].high < -0.05
    assert ours["similar-depth"].n == ours["similar-width"].n == 40


def test_all_pairs_of_networks_are_compared_whatever_their_seeds():
    """The order of the networks of a population changes nothing."""
    family_ = family(EVEN, EVEN + 0.1, EVEN - 0.1, seed=5)
    turned = [x[np.roll(np.arange(len(x)), 3 * k)] for k, x in enumerate(family_)]
    ours, again = (wide_vs_deep_errors.neighbours_less_extremes(f) for f in (family_, turned))
    assert ours.mean == pytest.approx(again.mean) and ours.low == pytest.approx(again.low, abs=5e-3)
    values = wsn.predictions.error_consistency(family_)
    n = len(family_[0])
    block = [[values[n * i : n * (i + 1), n * j : n * (j + 1)].mean() for j in range(3)] for i in range(3)]
    assert ours.mean == pytest.approx((block[0][1] + block[1][2]) / 2 - block[0][2])
    assert ours.n == 40


def test_an_architecture_is_compared_with_other_trainings_of_one(found):
    """In mean squares: 25 of the wide network, 100 and 0 of the others, a third of the images each."""
    third = np.where(np.arange(600) % 3 == 0, np.sqrt(3), 0)
    wide, far = EVEN + 0.05 * third, EVEN + 0.1 * third
    others = {
        "rate": population(far, name="other rate", seed=121),
        "augmentation": population(EVEN, name="other augmentation", seed=122),
    }
    results = simulated(wide=wide, otherwise=others)
    ours = wide_vs_deep_errors.estimates(results, P)
    for name, planted in (("rate", -75), ("augmentation", 25)):
        one = ours[f"architecture-{name}"]
        assert one.low < planted < one.high and one.low * one.high > 0 and one.n == 40
        assert (ours[f"matched-{name}"].n, ours[f"matched-{name}"].confidence) == (40, 0.9)
    assert ours["matched-rate"].mean == pytest.approx(10 / np.sqrt(3), abs=1)
    beside = wide_vs_deep_errors.beside_deep(results)
    assert list(beside.index) == ["deep", "other seeds", "wide", "other rate", "other augmentation"]
    assert beside.loc["other rate", "excess"].low < 10 < beside.loc["other rate", "excess"].high
    zero = beside.loc["other seeds", "excess"]
    assert zero.low < 0 < zero.high and zero.n == 20
    for name, gap in (("wide", 5 / np.sqrt(3)), ("other rate", 10 / np.sqrt(3)), ("other augmentation", 0)):
        assert beside.loc[name, "accuracy"].low < gap < beside.loc[name, "accuracy"].high
    assert math.isnan(beside.loc["deep", "excess"].mean)
    assert (
        beside.loc["deep", "consistency"].low < 0 < beside.loc["deep", "consistency"].high
    )  # all images alike
    assert beside.loc["other rate", "deficit"].low > 0
    assert (
        beside.loc["other augmentation", "deficit"].low < 0 < beside.loc["other augmentation", "deficit"].high
    )
    assert not [name for name in found if name.startswith(("architecture-", "matched-"))]


@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_independent_errors_have_the_spread_of_coin_flips_and_networks_of_other_quality_more(spread):
    """Two parts of the variance: of images given the quality z of a network, and of their mean over z."""
    p, options = np.linspace(0.05, 0.95, 600), {"networks": 80, "labels": LABELS, "num_classes": 10}
    populations = [wsn.predictions.simulate_population(p, spread=spread, seed=i, **options) for i in range(2)]
    ours = wide_vs_deep_errors.spread_of_accuracy(populations)
    z = stats.norm.ppf((np.arange(2000) + 0.5) / 2000)[:, None]
    given = special.expit(special.logit(p) + spread * z)
    independent = given.mean(0) * (1 - given.mean(0))
    seen = np.mean(given * (1 - given)) / 600 + given.mean(1).var()
    truth = np.sqrt(seen / (independent.mean() / 600))
    assert ours.low < truth < ours.high and ours.high / ours.low < 1.4 and ours.n == 80


@pytest.mark.parametrize("calibrated", [True, False])
def test_agreement_predicts_the_spread_of_independent_errors_where_classes_are_calibrated(calibrated):
    """Ten classes with shares of votes q; right is one drawn by q, or always the one with most votes."""
    rng, images = np.random.default_rng(3), 3000
    q = rng.dirichlet(np.full(10, 0.4), images)
    labels = (q.cumsum(1) > rng.random((images, 1))).argmax(1) if calibrated else q.argmax(1)
    votes = [(q.cumsum(1) > rng.random((40, images, 1))).argmax(2) for _ in range(2)]
    options = {"labels": labels, "num_classes": 10}
    ours = wide_vs_deep_errors.predicted_spread([wsn.predictions.Population(v, **options) for v in votes])
    p = q[np.arange(images), labels]
    truth = np.sqrt((p * (1 - p)).mean() / (q**2 * (1 - q)).sum(1).mean())
    assert ours.low < truth < ours.high < ours.low + 0.02 and ours.n == 40
    assert (0.95 < truth < 1.05) == calibrated


def test_what_is_judged_of_trained_networks_asks_for_the_less_accurate_ones():
    ours = wide_vs_deep_errors.estimates(simulated(deep=EVEN + 0.3, wide=EVEN + 0.2), P)
    assert ours["trained"].mean == pytest.approx(80, abs=1) and ours["trained"].n == 60


def on_imagenet(tmp_path) -> tuple[wide_vs_deep_errors.Parameters, list[wsn.predictions.Population]]:
    """100 classes; the wider networks are 10 points better on structures and 5 worse on goods."""
    labels = np.arange(1000) % 100
    groups = tmp_path / "groups.txt"
    groups.write_text("\n".join(f"{group},entity" for group in TWO_GROUPS))
    p = wide_vs_deep_errors.Parameters.read({"imagenet_networks": 30, "imagenet_groups": str(groups)})
    level = np.full(1000, 0.5)
    probabilities = (level, level, level + np.where(labels % 2 == 0, 0.1, -0.05))
    return p, [
        population(q, name=name, networks=30, seed=s, labels=labels, classes=100)
        for s, (name, q) in enumerate(zip(wide_vs_deep_errors.IMAGENET, probabilities, strict=True))
    ]


def test_groups_of_imagenet_are_wider_less_deeper_in_points(tmp_path):
    p, populations = on_imagenet(tmp_path)
    ours = wide_vs_deep_errors.estimates(simulated(), p, imagenet=populations)
    for claim, planted in (("structure", 10), ("consumer-goods", -5)):
        assert ours[claim].mean == pytest.approx(planted, abs=2) and ours[claim].n == 30
        assert ours[claim].low < planted < ours[claim].high
    assert not {"similar-depth", "similar-width"} & set(ours)  # two networks have no neighbours
    assert wide_vs_deep_errors.synset_tests([], p).empty
    assert wide_vs_deep_errors.synset_tests(populations, P).empty


def papers_networks() -> dict[str, wsn.ModelSpec]:
    shapes = {"deep": (62, 1), "wide": (14, 2), "0": (14, 1)}
    return {n: wsn.ResNetCifarSpec(depth=d, width_multiplier=k) for n, (d, k) in shapes.items()}


def test_accuracies_are_those_of_the_papers_networks_by_their_shape():
    depths = family(EVEN, EVEN, seed=7)
    pair = simulated(deep=EVEN + 0.3, wide=EVEN + 0.2, by_depth=depths, models=papers_networks())
    ours = wide_vs_deep_errors.estimates(pair, P)
    for claim, percent, n in (("62-1", 90, 60), ("14-2", 80, 60), ("14-1", 60, 40)):
        assert ours[f"accuracy-{claim}"].mean == pytest.approx(percent, abs=1)
        assert ours[f"accuracy-{claim}"].n == n


def test_every_claim_of_the_chapter_has_an_estimate_and_networks_not_trained_none(tmp_path, found):
    three = family(*[np.repeat([0.2, 0.8, 1.0], 200)] * 3, seed=1)
    p, populations = on_imagenet(tmp_path)
    others = {n: population(EVEN, name=n, seed=i) for i, n in enumerate(("rate", "augmentation"))}
    pair = simulated(by_depth=three, by_width=three, otherwise=others, models=papers_networks())
    claims = {n for n, c in book.claims_of("wide_vs_deep_errors").items() if not c.untested}
    assert set(wide_vs_deep_errors.estimates(pair, p, imagenet=populations)) == claims
    elsewhere = {"structure", "consumer-goods"}
    elsewhere |= {n for n in claims if n.startswith(("accuracy-", "architecture-", "matched-"))}
    assert set(found) == claims - elsewhere
