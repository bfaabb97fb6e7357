"""The matched pair, places between populations, gains, and populations from records."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import optimize, special, stats

import wsnlib as wsn
from wsnlib import book, experiments
from wsnlib.book import wide_vs_deep_errors
from wsnlib.plot import _errors as errors
from wsnlib.predictions import inference

PARAMS = Path(__file__).parent.parent / "params"


def simulated(
    p, *, networks: int, seed: int, name: str = "p", **spreads: float
) -> wsn.predictions.Population:
    options = {"labels": np.zeros(len(p), int), "num_classes": 2, "name": name, **spreads}
    return wsn.predictions.simulate_population(np.asarray(p), networks=networks, seed=seed, **options)


# -- the pair --


def test_of_equal_bounds_the_pair_that_was_given_first_comes_first():
    a, b = [0.1, 0.2, 0.3], [0.3, 0.2, 0.1]  # whose means differ by rounding
    for order in (("a", "b"), ("b", "a")):
        candidates = {name: {"a": a, "b": b}[name] for name in order}
        table = wsn.predictions.matched_pairs(candidates, {"x": [0.1, 0.2, 0.0]})
        assert table["first"].tolist() == list(order)


def test_the_interval_of_a_pair_is_students_where_it_is_the_only_one():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.7, 0.01, 5), rng.normal(0.71, 0.01, 7)
    (row,) = wsn.predictions.matched_pairs({14: a}, {2.0: b}).to_dict("records")
    expected = stats.ttest_ind(a, b).confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))
    assert row["difference"] == pytest.approx(a.mean() - b.mean())
    assert row["bound"] == max(abs(row["low"]), abs(row["high"]))


def test_pairs_share_a_deviation_and_are_sidak_intervals_ordered_by_their_bound():
    deep = {8: [0.60, 0.62], 14: [0.70, 0.73], 20: [0.75, 0.76, 0.77]}
    wide = {1.0: [0.65, 0.66], 2.0: [0.80, 0.81]}
    table = wsn.predictions.matched_pairs(deep, wide)
    every = [np.array(v) for v in (*deep.values(), *wide.values())]
    df = sum(len(v) - 1 for v in every)
    s = math.sqrt(sum(((v - v.mean()) ** 2).sum() for v in every) / df)
    t = stats.t.isf((1 - 0.95 ** (1 / 6)) / 2, df)
    for _, row in table.iterrows():
        m, n = len(deep[row["first"]]), len(wide[row["second"]])
        assert row["high"] - row["low"] == pytest.approx(2 * t * s * math.sqrt(1 / m + 1 / n))
    assert table["bound"].is_monotonic_increasing and len(table) == 6
    assert (table["first"][0], table["second"][0]) == (20, 2.0)
    assert table["matched"].tolist() == ((table["low"] <= 0) & (table["high"] >= 0)).tolist()
    assert not table["matched"].all() and table["matched"].any()


def test_a_pair_of_too_few_networks_is_not_better_for_its_wide_interval():
    """The largest p-value would choose the pair that is known worst."""
    good = [0.701, 0.702] * 8
    table = wsn.predictions.matched_pairs({"many": good, "one": [0.7020]}, {"x": [0.7015, 0.7025] * 8})
    assert table["first"].tolist() == ["many", "one"]
    assert table["matched"].tolist() == [False, True]


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({}, {1: [0.5, 0.6]}, "first must have one or more candidates, got none"),
        ({1: [0.5, 0.6]}, {}, "second must have one or more candidates, got none"),
        ({1: [0.5, math.nan]}, {1: [0.5]}, "accuracies of 1 must be one or more finite numbers, got .*nan"),
        ({1: []}, {1: [0.5]}, r"accuracies of 1 must be one or more finite numbers, got \[\]"),
        ({1: [0.5]}, {1: [0.5]}, "one candidate must have at least 2 networks"),
    ],
)
def test_candidates_that_cannot_be_compared_are_refused(first, second, message):
    with pytest.raises(ValueError, match=message):
        wsn.predictions.matched_pairs(first, second)


def test_only_allowed_pairs_are_candidates_and_count_in_the_correction():
    deep = {4: [0.60, 0.62], 6: [0.70, 0.73]}
    wide = {5: [0.65, 0.66], 7: [0.80, 0.81]}
    allowed = wsn.predictions.matched_pairs(deep, wide, allowed=lambda one, other: one < other)
    assert sorted(zip(allowed["first"], allowed["second"], strict=True)) == [(4, 5), (4, 7), (6, 7)]
    every = wsn.predictions.matched_pairs(deep, wide)
    both = allowed.merge(every, on=["first", "second"])
    share = (both["high_x"] - both["low_x"]) / (both["high_y"] - both["low_y"])
    quantiles = [stats.t.isf((1 - 0.95 ** (1 / pairs)) / 2, 4) for pairs in (3, 4)]
    assert share.tolist() == pytest.approx([quantiles[0] / quantiles[1]] * 3)
    with pytest.raises(ValueError, match="at least one pair must be allowed, got none of 4"):
        wsn.predictions.matched_pairs(deep, wide, allowed=lambda one, other: one > other + 2)


def test_the_wide_network_of_a_pair_has_more_channels_than_the_deep_one(tmp_path, monkeypatch):
    p = wide_vs_deep_errors.Parameters.read(
        {"deep_depths": [14], "deep_multipliers": [0.125, 0.25], "wide_multipliers": [0.1875, 0.3125]}
    )
    plan = wide_vs_deep_errors.Runs(p)

    def table(runs, *, store):
        accuracy = {2: 0.5, 3: 0.6, 4: 0.6, 5: 0.8}[runs[0].model.width]
        return pd.DataFrame({"test_accuracy": [accuracy + 0.01 * run.seed for run in runs]})

    monkeypatch.setattr("wsnlib.sweeps.table", table)
    pairs = plan.pairs(wsn.Store(tmp_path))
    assert list(zip(pairs["first"], pairs["second"], strict=True)) == [
        ("ResNet-14 (0.125×)", "ResNet-8 (0.1875×)"),
        ("ResNet-14 (0.25×)", "ResNet-8 (0.3125×)"),
        ("ResNet-14 (0.125×)", "ResNet-8 (0.3125×)"),
    ]


def accurate(counts: list[int], *, name: str = "p", examples: int = 41) -> wsn.predictions.Population:
    """Networks that are right on so many examples."""
    wrong = np.arange(examples) >= np.array(counts)[:, None]
    return wsn.predictions.Population(
        wrong.astype(np.uint8), labels=np.zeros(examples, int), num_classes=2, name=name
    )


def test_paired_networks_are_within_the_caliper_and_no_choice_has_more_pairs():
    rng = np.random.default_rng(0)
    for _ in range(30):
        a, b = (rng.integers(5, 30, n).tolist() for n in (7, 6))
        caliper = rng.integers(0, 4) / 41
        near = np.abs(np.subtract.outer(a, b)) <= round(caliper * 41)
        most = near[optimize.linear_sum_assignment(near, maximize=True)].sum()
        if most < 2:
            continue
        one, other = wsn.predictions.matched_networks(accurate(a), accurate(b), caliper=caliper)
        assert len(one) == len(other) == most
        apart = np.abs(one.network_accuracy - other.network_accuracy)
        assert apart.max() <= caliper + 1e-12
        for found, given in ((one, a), (other, b)):
            counts = np.rint(41 * found.network_accuracy).astype(int)
            assert (np.diff(counts) >= 0).all() and not Counter(counts.tolist()) - Counter(given)


def test_too_few_pairs_are_none_and_what_cannot_be_paired_is_refused():
    low, high = accurate([5, 6, 7], name="low"), accurate([20, 7, 30], name="high")
    assert wsn.predictions.matched_networks(low, high, caliper=0.0) is None
    for fewest, found in ((2, True), (3, True), (4, False)):
        paired = wsn.predictions.matched_networks(low, accurate([5, 6, 7]), caliper=0.0, fewest=fewest)
        assert (paired is not None) == found
    with pytest.raises(ValueError, match="fewest must be an integer ≥ 2, got 1"):
        wsn.predictions.matched_networks(low, high, fewest=1)
    for caliper in (-0.1, math.nan, 2):
        with pytest.raises(ValueError, match=f"caliper must be 0 to 1, got {caliper}; 0.02 is"):
            wsn.predictions.matched_networks(low, high, caliper=caliper)
    with pytest.raises(ValueError, match="examples"):
        wsn.predictions.matched_networks(low, accurate([5, 6], examples=43))


def test_at_equal_accuracy_the_test_sees_other_errors_and_only_these():
    p = np.linspace(0.2, 0.9, 500)
    same = (
        simulated(p, networks=40, seed=1, name="a", spread=0.3),
        simulated(p, networks=40, seed=2, name="b", spread=0.3),
    )
    better = simulated(special.expit(special.logit(p) + 0.4), networks=40, seed=3, name="c", spread=0.3)
    others = simulated(p[::-1], networks=40, seed=4, name="d", spread=0.3)
    for second, differs in ((same[1], False), (better, False), (others, True)):
        pair = wsn.predictions.matched_networks(same[0], second, caliper=0.004)
        assert len(pair[0]) >= 10
        found = wsn.predictions.dispersion(*pair, permutations=499)
        assert (found.p_value < 0.05) == differs
    assert (
        wsn.predictions.dispersion(same[0], better, permutations=499).p_value < 0.05
    )  # all networks: another accuracy


# -- places --


def test_jackknife_of_three_samples_adds_their_variances():
    rng = np.random.default_rng(2)
    samples = [rng.normal(size=n) for n in (4, 6, 9)]
    z = np.concatenate(samples)
    low, high = inference.jackknife(
        lambda a, b, c: a @ z / a.sum(1) - 2 * (b @ z) / b.sum(1) + c @ z / c.sum(1), 4, 6, 9, confidence=0.8
    )
    variances = [s.var(ddof=1) / len(s) for s in samples]
    half = stats.t.ppf(0.9, 3) * math.sqrt(variances[0] + 4 * variances[1] + variances[2])
    assert (high - low) / 2 == pytest.approx(half)
    a, b, c = (s.mean() for s in samples)
    assert (low + high) / 2 == pytest.approx(a - 2 * b + c)


def test_a_place_is_the_geometry_of_the_accuracies_without_chance():
    """With as many networks as make chance small, it is the projection of the true accuracies."""
    rng = np.random.default_rng(3)
    p, q, own = rng.uniform(0.3, 0.7, (3, 20_000))
    x = 0.6 * p + 0.4 * q + 0.5 * (own - 0.5)
    found = wsn.predictions.position_between(
        *(simulated(v, networks=60, seed=s) for s, v in enumerate((x, p, q)))
    )
    d = q - p
    along = (x - p) @ d / (d @ d)
    aside = np.mean((x - p - along * d) ** 2)
    assert found.along == pytest.approx(along, abs=0.01)
    assert found.aside == pytest.approx(aside, rel=0.1)
    assert found.length == pytest.approx(np.mean(d**2), rel=0.05)
    assert found.aside_low > 0
    assert found.distance == pytest.approx(math.sqrt(found.aside))


def test_the_excess_dispersions_are_the_sides_of_the_triangle():
    x, a, b = (simulated(np.linspace(0.2 + s / 10, 0.9, 60), networks=5 + s, seed=s) for s in range(3))
    xa, xb, ab = (
        wsn.predictions.dispersion(*pair, permutations=1).excess for pair in ((x, a), (x, b), (a, b))
    )
    found = wsn.predictions.position_between(x, a, b)
    assert found.length == pytest.approx(ab)
    assert found.along == pytest.approx((xa + ab - xb) / (2 * ab))
    assert found.aside == pytest.approx(xa - found.along**2 * ab)


def test_intervals_of_places_cover_what_is_true():
    """A population like the first lies at 0 and not aside, in at least the promised share of trials."""
    p, q = np.linspace(0.2, 0.8, 300), np.linspace(0.8, 0.2, 300)
    hits = 0
    for trial in range(200):
        seeds = range(3 * trial, 3 * trial + 3)
        found = wsn.predictions.position_between(
            *(simulated(v, networks=12, seed=s) for s, v in zip(seeds, (p, p, q), strict=True))
        )
        hits += found.along_low < 0 < found.along_high and found.aside_low < 0 < found.aside_high
    assert hits >= 186  # 95 % of 200, less 4 σ of a share that is a little above


def test_two_networks_give_a_place_without_intervals():
    three = [simulated(np.linspace(0, 1, 40), networks=2, seed=s) for s in range(3)]
    found = wsn.predictions.position_between(*three)
    assert (found.along_low, found.aside_high) == (-math.inf, math.inf)


# -- gains --


def test_gains_are_welchs_tests_on_the_half_that_did_not_sort():
    rng = np.random.default_rng(5)
    p = rng.uniform(0.2, 1.0, 200)
    small, large = simulated(p, networks=11, seed=0), simulated(np.minimum(p + 0.05, 1), networks=9, seed=1)
    table = wsn.predictions.gains_by_difficulty(small, large, seed=4).set_index("where")
    sorting, compared = small.split(seed=4)
    often = (sorting.accuracy >= 0.5) & (sorting.accuracy < 1)
    for where, members in (
        ("often", often),
        ("always", sorting.accuracy == 1),
        ("rarely", sorting.accuracy < 0.5),
    ):
        one, other = (x.correct[:, members].mean(1) for x in (large, compared))
        assert table.loc[where, "difference"] == pytest.approx(one.mean() - other.mean())
        assert table.loc[where, "p_value"] == pytest.approx(
            stats.ttest_ind(one, other, equal_var=False).pvalue
        )
        assert table.loc[where, "examples"] == members.sum()
    rarely = sorting.accuracy < 0.5
    one, other = (x.correct[:, often].mean(1) - x.correct[:, rarely].mean(1) for x in (large, compared))
    assert table.loc["often less rarely", "examples"] == (often | rarely).sum()
    assert table.loc["often less rarely", "difference"] == pytest.approx(one.mean() - other.mean())


def test_there_is_no_gain_where_the_larger_architecture_is_the_same():
    """Sorting by luck and comparing with the same networks would show a loss on the lucky examples."""
    p = np.full(3000, 0.7)
    table = wsn.predictions.gains_by_difficulty(
        simulated(p, networks=20, seed=0), simulated(p, networks=20, seed=1)
    )
    assert (table["low"] < 0).all() and (table["high"] > 0).all()
    assert table["where"].tolist() == ["rarely", "often", "always", "often less rarely"]


def test_the_interval_of_a_contrast_of_gains_may_be_longer_than_that_of_a_gain():
    table = wsn.predictions.gains_by_difficulty(
        simulated(np.repeat([0.6, 0.4], 6), networks=4, seed=0),
        simulated(np.repeat([1.0, 0.0], 6), networks=4, seed=1),
    ).set_index("where")
    contrast = table.loc["often less rarely"]
    assert 1 < contrast["high"] <= 2
    assert table["high"].drop("often less rarely").max() <= 1


def test_gains_have_no_contrast_where_no_example_is_rarely_right():
    table = wsn.predictions.gains_by_difficulty(
        *(simulated(np.repeat([0.9, 1.0], 40), networks=12, seed=s) for s in (0, 1))
    )
    assert table["where"].tolist() == ["often", "always"]


def test_gains_leave_out_what_no_example_is():
    for always, where in ((1, "always"), (0, "rarely")):
        found = np.full((4, 8), always)
        one, other = (
            wsn.predictions.Population(found, labels=np.ones(8, int), num_classes=2, name=name)
            for name in ("one", "other")
        )
        assert wsn.predictions.gains_by_difficulty(one, other)["where"].tolist() == [where]


def test_examples_are_reported_by_the_half_that_did_not_choose_them():
    p = np.full(400, 0.5)
    a, b = simulated(p, networks=12, seed=2), simulated(p, networks=10, seed=3)
    found = wsn.predictions.chosen_difference(a, b, count=9, seed=3)
    (a1, a2), (b1, b2) = a.split(seed=3), b.split(seed=4)
    chosen = np.argsort(b1.accuracy - a1.accuracy, kind="stable")[:9]
    one, other = (x.correct[:, chosen].mean(1) for x in (a2, b2))
    assert found["p_value"] == pytest.approx(stats.ttest_ind(one, other, equal_var=False).pvalue)
    assert found["low"] < 0 < found["high"]  # on the half that chose it is far above 0
    with pytest.raises(ValueError, match="count must be 1 to 400, got 401"):
        wsn.predictions.chosen_difference(a, b, count=401)


def test_scatters_show_the_networks_of_the_dispersion_table():
    populations = [simulated(np.linspace(0.1, 1, 50), networks=n, seed=n, name=f"{n}") for n in (8, 11)]
    scatters = wsn.predictions.accuracy_scatters(populations, seed=2)
    table = wsn.predictions.dispersion_table(populations, seed=2, permutations=1).set_index(
        ["first", "second"]
    )
    assert list(scatters) == list(table.index)
    for pair, points in scatters.items():
        observed = ((points["first"] - points["second"]) ** 2 * points["examples"]).sum() / 50
        assert observed == pytest.approx(table.loc[pair, "observed"])


# -- records --


def trainings(**changes) -> list[wsn.Experiment]:
    run = wsn.Experiment(
        model=wsn.MLPSpec(width=3, inputs=64),
        data=wsn.Digits(train_size=100),
        training=wsn.Training(epochs=1),
    )
    return [replace(run, seed=s, **changes) for s in range(3)]


def test_a_population_is_read_from_records_alone(tmp_path, monkeypatch):
    runs, store = trainings(), wsn.Store(tmp_path / "store")
    labels = wsn.ExampleLabels(data=runs[0].data)
    wsn.run_missing([labels, *runs], store=store, progress=False)
    data = wsn.load_data(runs[0].data)
    for module in (experiments.trainings, experiments.measurements):
        monkeypatch.setattr(module, "load_data", None)
    found = wsn.read_population(runs, store=store, name="narrow")
    assert (len(found), found.name, found.num_classes) == (3, "narrow", 10)
    assert found.labels.tolist() == data.test.labels.tolist()
    accuracy = wsn.table(runs, store=store)["test_accuracy"]
    assert found.network_accuracy == pytest.approx(accuracy.to_numpy(), abs=1e-6)


def test_networks_that_are_no_population_are_refused(tmp_path):
    runs, store = trainings(), wsn.Store(tmp_path)
    with pytest.raises(
        KeyError, match=r"no record .*; wsn.run_missing\(\[ExampleLabels\(data=Digits\(.*makes it"
    ):
        wsn.read_population(runs, store=store)
    with pytest.raises(ValueError, match="the runs of 'p' must be at least 2, got none"):
        wsn.read_population([], store=store, name="p")
    message = "the runs of 'p' must be one experiment with different seeds, got some that differ"
    for bad in ([*runs, replace(runs[0], data=wsn.Digits(), seed=9)], [runs[0], runs[0]]):
        with pytest.raises(ValueError, match=message):
            wsn.read_population(bad, store=store, name="p")
    wsn.run_missing([wsn.ExampleLabels(data=runs[0].data), *runs[:2]], store=store, progress=False)
    store.save(wsn.Record(experiment=runs[2], status="diverged", history={}))
    with pytest.raises(ValueError, match="'p' must have predictions, got none of network 2"):
        wsn.read_population(runs, store=store, name="p")


def test_labels_and_images_of_examples_survive_the_store(tmp_path):
    store, digits = wsn.Store(tmp_path), wsn.load_data(wsn.Digits())
    labels, images = (
        wsn.ExampleLabels(data=wsn.Digits()),
        wsn.ExampleImages(data=wsn.Digits(), examples=[7, 2]),
    )
    assert wsn.run_missing([labels, images], store=store, progress=False) == 2
    read = store.load(images)
    assert read.arrays["images"].tolist() == digits.test.images[[7, 2]].tolist()
    assert read.arrays["images"].dtype == np.uint8
    assert store.load(labels).arrays["labels"].tolist() == digits.test.labels.tolist()
    assert read.environment["data_sha256"] == digits.sha256
    assert read.experiment == images


def test_examples_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match=r"ExampleImages.examples must be 0 to 359, got 360"):
        wsn.run(wsn.ExampleImages(data=wsn.Digits(), examples=(3, 360)))
    for bad in ((), (-1,), (1.0,), (True,)):
        with pytest.raises(ValueError, match=r"ExampleImages.examples must be a sequence of integers ≥ 0"):
            wsn.ExampleImages(data=wsn.Digits(), examples=bad)
    with pytest.raises(ValueError, match="ExampleLabels.data must be a DataSpec, got 'digits'"):
        wsn.ExampleLabels(data="digits")


def test_images_that_stay_on_the_disk_are_refused_and_their_labels_read(small_imagenet, monkeypatch):
    monkeypatch.setenv("WSN_DATA", str(small_imagenet.parent))
    spec = wsn.ImageNet(normalisation="imagenet", image_size=32)
    assert wsn.run(wsn.ExampleLabels(data=spec)).arrays["labels"].tolist() == [0] * 3 + [1] * 3 + [2] * 3
    with pytest.raises(
        ValueError, match="ExampleImages.data must be a data set that lies in memory, got ImageNet"
    ):
        wsn.run(wsn.ExampleImages(data=spec, examples=(0,)))


# -- parameters --


@pytest.mark.parametrize("profile", ["smoke", "cpu", "gpu", "paper"])
def test_every_parameter_file_of_the_chapter_is_valid(profile):
    values = yaml.safe_load((PARAMS / f"wide_vs_deep_errors.{profile}.yml").read_text())
    p = wide_vs_deep_errors.Parameters.read(values)
    assert p.profile == profile
    assert (p.same_data, p.full_protocol) == (profile != "smoke", profile == "paper")
    assert p.networks >= {"smoke": 12, "cpu": 50, "gpu": 20, "paper": 200}[profile]
    assert set(p.search_seeds).isdisjoint(p.seeds(p.networks)) and len(p.seeds(p.networks)) == p.networks


def test_the_paper_profile_of_the_chapter_is_the_papers_protocol():
    p = wide_vs_deep_errors.Parameters.read(
        yaml.safe_load((PARAMS / "wide_vs_deep_errors.paper.yml").read_text())
    )
    assert p.training == wsn.Training(
        epochs=300, batch_size=128, learning_rate=0.01, momentum=0.9, weight_decay=2e-4, weight_decay_on="weights",
        schedule=wsn.Cosine(), augmentation=wsn.CropAndFlip(padding_mode="reflect"), report="best_test",
    )  # fmt: skip
    assert p.data_spec == wsn.CIFAR10(normalisation="unit")
    deeper = wsn.ResNetImageNetSpec(third_stage_blocks=17)
    runs = p.on_imagenet(deeper)
    assert len(set(runs)) == 100 and {run.model for run in runs} == {deeper}
    assert runs[0].data == wsn.ImageNet(normalisation="imagenet") and runs[0].training == wsn.Training(
        epochs=120, batch_size=256, learning_rate=0.1, momentum=0.9, weight_decay=1e-4, schedule=wsn.Cosine(),
        augmentation=wsn.ResizedCropAndFlip(scale=(0.08, 1.0)), report="last",
    )  # fmt: skip
    assert wide_vs_deep_errors.Parameters.read({}).on_imagenet(deeper) == []
    assert list(book.printed_table("N21", "Figure F.2").index) == p.depths
    assert list(book.printed_table("N21", "Figure F.3").index) == p.multipliers
    for change in (
        {"epochs": 299}, {"batch_size": 64}, {"learning_rate": 0.1}, {"schedule": "one_cycle"}, {"networks": 199},
        {"augmentation": False}, {"norm_momentum": 0.1}, {"train_size": 50_000}, {"weight_decay": 1e-4},
    ):  # fmt: skip
        assert not p.model_copy(update=change).full_protocol, change


def test_what_the_chapter_s_parameters_pass_on():
    p = wide_vs_deep_errors.Parameters.read(
        {
            "preset": "clean", "validation_size": 30, "train_size": 200, "epochs": 7, "batch_size": 13,
            "learning_rate": 0.3, "weight_decay": 0.2, "schedule": "cosine", "augmentation": True,
            "precision": "bfloat16", "evaluate_every": 3, "search_networks": 5, "networks": 8,
        }
    )  # fmt: skip
    assert p.data_spec == wsn.Digits(train_size=200, validation_size=30)
    assert p.training == wsn.Training(
        epochs=7, batch_size=13, learning_rate=0.3, momentum=0.9, weight_decay=0.2, weight_decay_on="weights",
        schedule=wsn.Cosine(), augmentation=wsn.CropAndFlip(padding_mode="reflect"), precision="bfloat16",
        evaluate_every=3, report="best_validation",
    )  # fmt: skip
    assert list(p.search_seeds) == [1000, 1001, 1002, 1003, 1004] and list(p.seeds(2)) == [0, 1]
    default = wide_vs_deep_errors.Parameters.read({})
    assert (default.training.schedule, default.training.augmentation) == (wsn.OneCycle(), None)
    assert default.data_spec == wsn.Digits(normalisation="unit")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"deep_depths": [14, 15]}, "deep_depths must be depths 6n + 2, such as 8, 14, 20, got [14, 15]"),
        ({"wide_depth": 9}, "wide_depth must be depths 6n + 2"),
        ({"depths": [14, 8]}, "depths must be a rising list, got [14, 8]"),
        ({"multipliers": [0.25, 0.25]}, "multipliers must be a rising list, got [0.25, 0.25]"),
        ({"deep_depths": [14, 8]}, "deep_depths must be depths above wide_depth 8, got 8"),
        ({"wide_multipliers": [0.25, 0.125]}, "wide_multipliers must be numbers > 0.125, the smallest of"),
        ({"deep_multipliers": [0.25, 0.1875]}, "wide_multipliers must be numbers > 0.1875, the smallest of"),
        ({"networks": 1001}, "networks must be an integer of 6 to 1,000, got 1001"),
        ({"deep_multipliers": [0.15, 0.1]}, "deep_multipliers must be numbers ≥ base_multiplier 0.125"),
        ({"deep_multipliers": []}, "deep_multipliers must be a list of numbers of at least base_multiplier, got []"),
        ({"sparse_multiplier": 0.125}, "sparse_multiplier must be > base_multiplier 0.125"),
        ({"other_networks": 21}, "other_networks must be 0, or 6 to networks 20, got 21"),
        ({"family_networks": 5}, "family_networks must be 0, or 6 to networks 20, got 5"),
        ({"other_networks": 0, "other_rate_epochs": [2]}, "other_networks must be ≥ 6 with other_rate_epochs or"),
        ({"networks": 5}, "networks must be an integer of 6 to 1,000, got 5"),
        ({"control_networks": 5}, "control_networks must be 0 or an integer of 6 to 1,000, got 5"),
        ({"control_networks": 1001}, "control_networks must be 0 or an integer of 6 to 1,000, got 1001"),
        ({"imagenet_networks": 5}, "imagenet_networks must be 0 or an integer ≥ 6, got 5"),
        ({"imagenet_networks": -1}, "imagenet_networks must be 0, or an integer ≥ 6, got -1"),
        ({"caliper": 0.0}, "caliper must be a number > 0 and ≤ 1, got 0.0"),
        ({"norm_momentum": 0.0}, "norm_momentum must be a number > 0 and ≤ 1, got 0.0"),
        ({"preset": "clean"}, "validation_size must be ≥ 1 with preset 'clean', got 0"),
    ],
    ids=str,
)  # fmt: skip
def test_mistakes_in_the_chapter_s_parameters_are_named(given, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        wide_vs_deep_errors.Parameters.read(given)
    assert str(caught.value).startswith(message)


# -- claims --


def test_the_papers_numbers_on_errors():
    reported = {
        n: c.reported for n, c in book.claims_of("wide_vs_deep_errors").items() if c.reported is not None
    }
    assert reported == {
        "matched": 0.01, "class-share": 0.11, "aic-class": 4478, "aic-example": 37479,
        "structure": 0.42, "consumer-goods": -0.41, "accuracy-62-1": 94.09, "accuracy-14-2": 94.08,
        "accuracy-14-1": 92.0,
    }  # fmt: skip
    for claim in book.claims_of("wide_vs_deep_errors").values():
        assert claim.source.startswith(("N21", "later work"))
        assert claim.reported is None or claim.low <= claim.reported <= claim.high
    ranges = {
        n: (c.low, c.high)
        for n, c in book.claims_of("wide_vs_deep_errors").items()
        if n in ("matched", "excess", "control-deep", "control-wide", "classes", "class-share")
    }
    assert ranges == {
        "matched": (-0.5, 0.5), "excess": (3, math.inf), "control-deep": (-math.inf, 3), "control-wide": (-math.inf, 3),
        "classes": (math.nextafter(0, 1), math.inf), "class-share": (-math.inf, 0.5),
    }  # fmt: skip
    b1, f2 = (book.printed_table("N21", name) for name in ("Table B.1", "Table F.2"))
    assert len(b1) == 25
    assert [b1.loc[at].tolist() for at in ((14, 10), (164, 1))] == [[96.0, 80.2], [94.4, 73.9]]
    assert len(f2) == 29 and f2.loc["structure"].tolist() == [58, 75.9, 75.5, 0.42, 5.7e-5]
    for classes, wide, deep, difference, p in f2.to_numpy().tolist():
        assert wide - deep == pytest.approx(difference, abs=0.11) and 50 <= classes <= 1000 and 0 < p <= 1


# -- drawings --


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_points_are_drawn_where_they_lie_between_lines_of_95_percent_of_a_control():
    points = pd.DataFrame({"first": [0.2, 0.4], "second": [0.6, 1.0], "examples": [1, 9]})
    control = pd.DataFrame({"first": [0.2] * 100, "second": np.arange(100)[::-1] / 100, "examples": 1})
    at_once = pd.DataFrame({"first": [0.4, 0.4], "second": [0.5, 0.1], "examples": [98, 1]})
    ax = wsn.plot.accuracy_scatter(points, ax=plt.subplots()[1], control=pd.concat([control, at_once]))
    (both,) = ax.collections
    assert both.get_offsets().tolist() == [[20, 60], [40, 100]]
    assert both.get_sizes().tolist() == pytest.approx([2, 6])
    assert matplotlib.colors.to_hex(both.get_facecolor()[0]).upper() == errors.DIFFERENT
    below, above = (line.get_xydata().ravel() for line in ax.lines[:2])
    assert below == pytest.approx([20, 2, 40, 50]) and above == pytest.approx([20, 97, 40, 50])
    same = wsn.plot.accuracy_scatter(points, ax=plt.subplots()[1], same=True)
    assert matplotlib.colors.to_hex(same.collections[0].get_facecolor()[0]).upper() == errors.SAME


def test_the_control_of_a_panel_is_the_population_at_its_foot():
    def at(x):
        return pd.DataFrame({"first": [x], "second": [x], "examples": [1]})

    pairs = {("a", "a"): at(0.1), ("b", "b"): at(0.2), ("a", "b"): at(0.3)}
    axes = wsn.plot.scatter_matrix(pairs, ["a", "b"], axes=plt.subplots(2, 2)[1])
    assert [c.get_offsets()[0, 0] for c in axes[1, 0].collections] == pytest.approx([30])
    assert [line.get_xdata()[0] for line in axes[1, 0].lines[:2]] == pytest.approx([10, 10])
    assert (axes[1, 0].get_xlabel(), axes[1, 0].get_ylabel()) == ("a (%)", "b (%)")
    assert not axes[0, 1].axison


def test_classes_that_differ_are_named_and_bars_are_intervals():
    labels = np.arange(90) % 3
    p = np.full(90, 0.6)
    options = {"networks": 40, "labels": labels, "num_classes": 3}
    a = wsn.predictions.simulate_population(p + 0.3 * (labels == 2), **options)
    b = wsn.predictions.simulate_population(p, seed=1, **options)
    tests = wsn.predictions.class_tests(a, b)
    ax = wsn.plot.class_differences(tests, ax=plt.subplots()[1], control=tests, names=["x", "y", "z"])
    assert [t.get_text() for t in ax.texts] == ["z"]
    bars = ax.containers[1].lines[2][0].get_segments()
    assert bars[2][:, 1] == pytest.approx(100 * tests.loc[2, ["low", "high"]].to_numpy(dtype=float))


def test_an_image_keeps_its_colours():
    image = np.random.default_rng(0).integers(0, 256, (3, 5, 7), dtype=np.uint8)
    ax = wsn.plot.example(image, ax=plt.subplots()[1])
    assert ax.images[0].get_array().tolist() == image.transpose(1, 2, 0).tolist()


def test_places_are_drawn_in_points_to_one_scale():
    row = {"along": 0.5, "along_low": 0.25, "along_high": 0.75, "length": 0.04}
    row |= {"aside": 0.0025, "aside_low": -0.01, "aside_high": 0.01}
    ax = wsn.plot.positions(pd.DataFrame([row], index=["s"]), ends=("n", "w"), ax=plt.subplots()[1])
    assert ax.lines[0].get_xdata() == pytest.approx([0, 20])
    across, up = (bar.get_segments()[0] for bar in ax.containers[0].lines[2])
    assert across == pytest.approx(np.array([[5, 5], [15, 5]]))
    assert up == pytest.approx(np.array([[10, 0], [10, 10]]))
    assert ax.get_aspect() == 1


@pytest.mark.parametrize("augmentation", [True, False])
def test_another_training_changes_what_it_says_and_no_more(augmentation):
    p = wide_vs_deep_errors.Parameters.read(
        {"augmentation": augmentation, "other_rate_epochs": [3, 4], "other_augmentation_epochs": [5]}
    )
    both = wsn.CropAndFlip(padding_mode="reflect")
    slower = replace(p.training, learning_rate=p.other_learning_rate)
    assert p.other_trainings == {
        "rate": [replace(slower, epochs=n, evaluate_every=n) for n in (3, 4)],
        "augmentation": [
            replace(
                p.training,
                augmentation=replace(both, flip=False) if augmentation else both,
                epochs=5,
                evaluate_every=5,
            )
        ],
    }
    assert wide_vs_deep_errors.Parameters.read({}).other_trainings == {}
    with pytest.raises(ValueError, match="other_learning_rate must be another than learning_rate, got 0.1"):
        wide_vs_deep_errors.Parameters.read({"other_learning_rate": 0.1, "other_rate_epochs": [3]})
