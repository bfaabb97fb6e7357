"""The chapter on later work: from records whose effects are known its estimates, its networks, and CKA's closed form."""

import numpy as np
import pandas as pd
import pytest
import torch

import wsnlib as wsn
from wsnlib import book, masks
from wsnlib.book import later_work as chapter
from wsnlib.data import load_data
from wsnlib.models import MLP

P = chapter.Parameters(
    widths=[5, 20, 80],
    seeds=[0, 1, 2],
    learning_rates=[0.1, 0.4],
    pattern_seeds=[0, 1, 2],
    split_base_widths=[3, 6],
    preset="clean",
    validation_size=100,
)
OF_SEED = {0: 0.0, 1: 11.0, 2: -5.0}
"""Points that a seed adds to every network: much noise, unless differences are paired."""


def rates(points: dict[tuple[int, float], tuple[float, float]]) -> pd.DataFrame:
    """Runs with these validation and test accuracies, in points, by width and rate."""
    rows = [
        {
            "width": width,
            "rate": rate,
            "seed": seed,
            "validation_accuracy": (val + noise) / 100,
            "test_accuracy": (test + noise) / 100,
        }
        for (width, rate), (val, test) in points.items()
        for seed, noise in OF_SEED.items()
    ]
    return pd.DataFrame(rows)


STANDARD = rates(
    {
        (5, 0.1): (60, 61), (5, 0.4): (50, 70),  # better on test images, which do not choose
        (20, 0.1): (62, 64), (20, 0.4): (64, 67),
        (80, 0.1): (55, 60), (80, 0.4): (66, 68),
    }
)  # fmt: skip
SCALED = rates(
    {
        (5, 0.1): (60, 61), (5, 0.4): (50, 50),
        (20, 0.1): (66, 66), (20, 0.4): (65, 65),
        (80, 0.1): (69, 69), (80, 0.4): (70, 69.5),
    }
)  # fmt: skip


def shows(found, mean, *, confidence=0.95):
    assert (found.mean, found.low, found.high) == pytest.approx((mean,) * 3, abs=1e-6)
    assert (found.n, found.confidence) == (3, confidence)


def test_rates_are_chosen_on_validation_images_and_differences_paired_by_seed():
    found = chapter.estimates({"rate": STANDARD, "smu": SCALED}, P)
    assert chapter.own_rates(STANDARD) == {5: 0.1, 20: 0.4, 80: 0.4}
    shows(found["gain-own-rate"], 68 - 61)
    shows(found["gain-own-rate/mean over widths"], (67 + 68) / 2 - 61)
    shows(found["gain-own-rate/one rate"], 60 - 61)
    shows(found["rates-differ"], 68 - 60)
    shows(found["rates-differ/mean over widths"], (8 + 3) / 2)
    shows(found["smu-one-rate"], (0 + 0.5) / 2, confidence=0.9)
    shows(found["smu-better"], 69 - 60)
    shows(found["smu-better/mean over widths"], (9 + 2) / 2)
    assert "smu-better" not in chapter.estimates({"smu": SCALED}, P)


def test_a_rate_at_which_a_run_diverged_is_never_the_best():
    diverged = STANDARD.copy()
    diverged.loc[(diverged["rate"] == 0.4) & (diverged["seed"] == 1), "validation_accuracy"] = np.nan
    assert chapter.own_rates(diverged) == {5: 0.1, 20: 0.1, 80: 0.1}


def test_the_best_width_s_slope_is_in_doublings_for_ten_times_the_images():
    best = {100: 5, 1000: 10, 10000: 20}
    rows = [
        {"seed": s, "train_size": n, "width": w, "test_accuracy": 0.9 if w == best[n] else 0.1 * s}
        for s in range(3) for n in best for w in (5, 10, 20)
    ]  # fmt: skip
    shows(chapter.data_estimates(pd.DataFrame(rows))["more-data-wider"], 1.0)


def by_columns(**points: float) -> dict:
    return {name: [value + noise for noise in OF_SEED.values()] for name, value in points.items()}


def test_patterns_methods_ensembles_and_splits_are_paired_by_seed():
    patterns = pd.DataFrame(
        [{"pattern": p if p != "random" else np.nan, "seed": s, "test_accuracy": (v + n) / 100}
         for p, v in {"random": 70, "constant_fan_in": 71, "balanced": 69, "blocks": 60}.items()
         for s, n in OF_SEED.items()]
    )  # fmt: skip
    found = chapter.pattern_estimates(patterns)
    for claim, points in {"constant-fan-in": 1, "balanced-mask": -1, "block-mask": -10}.items():
        shows(found[claim], points, confidence=0.9)
    methods = pd.DataFrame(
        [{"method": m, "connectivity": d, "seed": s, "test_accuracy": (v + n) / 100}
         for (m, d), v in {(np.nan, 0.5): 80, (np.nan, 0.1): 70, ("set", 0.5): 80.5, ("set", 0.1): 72,
                           ("rigl", 0.5): 81, ("rigl", 0.1): 75}.items()
         for s, n in OF_SEED.items()]
    )  # fmt: skip
    found = chapter.moving_estimates(methods)
    shows(found["set-better"], 2)
    shows(found["rigl-better"], 5)
    shows(found["rigl-gap-grows"], 4)
    kinds = pd.DataFrame(
        [{"model": k, "seed": s, "test_accuracy": (v + n) / 100}
         for k, v in {"CustomSpec": 80, "MLPSpec": 82, "StaticSparsity": 85}.items() for s, n in OF_SEED.items()]
    )  # fmt: skip
    found = chapter.ensemble_estimates(kinds)
    shows(found["wide-beats-ensemble"], 2)
    shows(found["sparse-beats-ensemble"], 5)
    splits = pd.DataFrame(
        [{"model.options.width": w, "model.options.parts": k, "seed": s, "test_accuracy": (v + n) / 100}
         for (w, k), v in {(3, 1): 60, (3, 2): 64, (3, 4): 67, (6, 1): 70, (6, 2): 71, (6, 4): 72}.items()
         for s, n in OF_SEED.items()]
    )  # fmt: skip
    found = chapter.split_estimates(splits, P)
    shows(found["split-gain"], 7)
    shows(found["split-gain/split in two"], 4)
    shows(found["split-interference"], 5)


def test_rules_are_compared_at_the_lowest_density():
    points = {"LargestFirst": 70, "UniformDensity": 50, "ErdosRenyi": 65, "Pyramidal": 60}
    table = pd.DataFrame(
        [{"rule": r, "connectivity": d, "seed": s, "test_accuracy": (v + n + (20 if d == 0.5 else 0)) / 100}
         for r, v in points.items() for d in (0.5, 0.1) for s, n in OF_SEED.items()]
    )  # fmt: skip
    table.loc[(table["rule"] == "UniformDensity") & (table["connectivity"] == 0.5), "test_accuracy"] += 0.05
    found = chapter.allocation_estimates(table, P)
    shows(found["erk-better"], 15)
    shows(found["erk-better/mean over densities"], 12.5)
    shows(found["balanced-better"], 5)
    shows(found["pyramidal-better"], -5)
    assert 0 <= found["balanced-is-water-filling"].low <= found["balanced-is-water-filling"].high <= 1


def test_a_rule_that_leaves_a_layer_nothing_has_no_estimate():
    table = pd.DataFrame(
        [{"rule": r, "connectivity": d, "seed": s, "test_accuracy": 0.7}
         for r in ("LargestFirst", "UniformDensity", "ErdosRenyi") for d in (0.5, 0.1) for s in range(3)]
    )  # fmt: skip
    assert "pyramidal-better" not in chapter.allocation_estimates(table, P)


def test_the_output_layer_keeps_what_the_smallest_network_of_a_rule_leaves_it():
    found = chapter.output_weights(
        P.model_copy(update={"data": "mnist", "deep_width": 64, "deep_base_widths": [8, 1]})
    )
    # 6,416 weights of 64 × (784 + 64 + 10); 795 weights, of which pyramidal ratios leave a layer none
    assert found == {
        "largest layer first": 795 // 3,
        "uniform density": round(640 * 795 / (64 * (784 + 64 + 10))),
        "Erdős–Rényi-kernel": 56,
        "pyramidal": 1,
    }


def test_intervals_without_an_end_are_not_drawn():
    found = chapter.over_seeds(pd.DataFrame({5: [60.0], 10: [62.0]}))
    assert found["mean"].tolist() == [60.0, 62.0] and found[["low", "high"]].isna().all(axis=None)


def test_every_claim_of_the_chapter_has_an_estimate_and_no_other():
    names = {name.partition("/")[0] for name in chapter.estimates({"rate": STANDARD, "smu": SCALED}, P)}
    x = [(torch.randn(60, 16).double(), torch.randn(60, 16).double()) for _ in range(3)]
    names |= set(chapter.cka_estimates(x))
    claims = set(book.claims_of("later_work"))
    assert names <= claims
    rest = {
        "more-data-wider", "balanced-is-water-filling", "erk-better", "balanced-better", "pyramidal-better",
        "constant-fan-in", "balanced-mask", "block-mask", "set-better", "rigl-better", "rigl-gap-grows",
        "wide-beats-ensemble", "sparse-beats-ensemble", "split-gain", "split-interference",
    }  # fmt: skip
    assert names | rest == claims and not names & rest


def test_the_members_of_an_ensemble_train_as_they_do_alone_and_their_probabilities_are_averaged():
    digits, protocol = load_data(wsn.Digits()), wsn.Training(epochs=2, learning_rate=0.1)
    torch.manual_seed(0)
    together = chapter.Ensemble(members=3, width=7, inputs=64, outputs=10)
    alone = [MLP(7, inputs=64) for _ in range(3)]
    for one, member in zip(alone, together.members, strict=True):
        one.load_state_dict(member.state_dict())
        wsn.train(one, digits, protocol, seed=5)
    wsn.train(together, digits, protocol, seed=5)
    for one, member in zip(alone, together.members, strict=True):
        torch.testing.assert_close(member.hidden1.weight, one.hidden1.weight, rtol=1e-4, atol=1e-5)
    images = digits.normalise(digits.test.images)
    mean = torch.stack([one(images).softmax(1) for one in alone]).mean(0)
    torch.testing.assert_close(together(images).exp(), mean, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_split_units_share_out_the_weights_of_one(parts):
    torch.manual_seed(parts)
    net = chapter.split_mlp(width=5, parts=parts, inputs=67, outputs=11)
    assert wsn.num_weights(net) == 5 * (67 + 11)
    hidden = (net.hidden1.weight != 0).view(5, parts, 67)
    output = (net.output.weight != 0).view(11, 5, parts)
    assert (hidden.sum(1) == 1).all() and (output.sum(2) == 1).all()
    reads = hidden.sum(2)
    assert reads.max() - reads.min() <= 1
    assert masks.connectivity(net) == pytest.approx(1 / parts)


@pytest.mark.parametrize("share", chapter.SHARES)
def test_points_that_are_far_away_leave_the_closed_form_of_cka(share):
    x = torch.randn(200, 13, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) @ torch.diag(
        torch.linspace(0.3, 2, 13, dtype=torch.float64)
    )
    far = wsn.cka(x, chapter.moved(x, share, 1e6), estimator="biased")
    assert far == pytest.approx(chapter.moved_far(x, share), rel=1e-3)


def test_angular_procrustes_of_a_layer_and_its_components_follows_from_their_variances():
    x = torch.randn(90, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    variances = torch.linalg.svdvals(x - x.mean(0)).square()
    kept = chapter.principal(x, 2)
    share = (variances[:2].sum() / variances.sum()).sqrt()
    assert chapter.angular_procrustes(x, kept) == pytest.approx(1 - 2 / np.pi * float(share.acos()), abs=1e-6)
    squares = variances.square()
    biased = wsn.cka(x, kept, estimator="biased")
    assert biased == pytest.approx(float((squares[:2].sum() / squares.sum()).sqrt()))
    assert chapter.angular_procrustes(
        x, 3 * x @ torch.linalg.qr(torch.randn(7, 7).double())[0]
    ) == pytest.approx(1, abs=1e-5)


def test_parameters_that_do_not_fit_are_named():
    with pytest.raises(
        ValueError, match=r"learning_rates must be a list that holds learning_rate 0.1, got \[0.2\]"
    ):
        chapter.Parameters.read({"learning_rates": [0.2], "preset": "clean", "validation_size": 9})
    for odd in ([4, 8], [8, 8]):
        with pytest.raises(ValueError, match=r"deep_base_widths must be a falling list .*, got \[."):
            chapter.Parameters.read({"deep_base_widths": odd, "preset": "clean", "validation_size": 9})
    with pytest.raises(
        ValueError, match=r"parts must be a list that holds rate, the key figure's, got \['data'\]"
    ):
        chapter.Parameters.read({"parts": ["data"], "preset": "clean", "validation_size": 9})
    with pytest.raises(ValueError, match=r"smu_seeds must be some of the seeds \[0\], got \[1\]"):
        chapter.Parameters.read({"smu_seeds": [1], "preset": "clean", "validation_size": 9})
