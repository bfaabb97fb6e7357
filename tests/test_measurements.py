"""Measurements of kernels as runs: specs, records and tables."""

import numpy as np
import pytest

import wsnlib as wsn
from wsnlib import experiments
from wsnlib.experiments import durations
from wsnlib.specs import derive_seed

GAUSSIAN = wsn.GaussianInputs(dimension=13)


def test_a_measured_distance_is_kernel_distance_averaged(tmp_path):
    run = wsn.KernelDistances(inputs=GAUSSIAN, densities=(0.5, 0.2), num_pairs=7, seed=3)
    store = wsn.Store(tmp_path)
    assert wsn.run_missing([run, run], store=store, progress=False) == 1
    rows = wsn.read_measurements([run], store=store)
    x, y = np.random.default_rng(derive_seed(3, "inputs")).standard_normal((2, 7, 13))
    for ratio in (1, 1.25):
        expected = wsn.kernels.kernel_distance(
            x, y, width=11, density=[0.5, 0.2], scaled_by=[0.5 / ratio, 0.2 / ratio]
        )
        total, bias = (wsn.kernels.measured_distance(rows, n, ratio=ratio) for n in (11, np.inf))
        assert np.allclose(total, expected.total.mean(axis=0), rtol=1e-5)
        assert np.allclose(bias, expected.squared_bias.mean(axis=0), rtol=1e-5)
    corrected = wsn.kernels.corrected_distance(x, y, width=11, density=[0.5, 0.2]).mean(axis=0)
    assert np.allclose(wsn.kernels.measured_distance(rows, 11, corrected=True), corrected, rtol=1e-5)
    assert rows["density"].tolist() == [0.5, 0.2]
    assert rows["inputs.dimension"].tolist() == [13, 13]


def test_a_simulation_agrees_with_theorem_1_for_both_distributions(tmp_path):
    """At a large density and width, uniform weights of another variance have nearly the same kernel."""
    store = wsn.Store(tmp_path)
    options = {"inputs": GAUSSIAN, "widths": (23,), "densities": (0.5,), "num_pairs": 50, "num_networks": 400}
    runs = [wsn.KernelSimulation(**options, distribution=name) for name in ("normal", "uniform")]
    wsn.run_missing(runs, store=store, progress=False)
    rows = wsn.read_measurements(runs, store=store)
    assert len(rows) == 800
    exact = wsn.KernelDistances(inputs=GAUSSIAN, densities=(0.5,), num_pairs=50)
    wsn.run_missing([exact], store=store, progress=False)
    (theory,) = wsn.read_measurements([exact], store=store).to_dict("records")
    expected = theory["squared_bias"] + theory["spread"] / 23
    normal = rows[rows["distribution"] == "normal"]["gp"]
    assert abs(normal.mean() - expected) < 4 * normal.sem()
    uniform = rows[rows["distribution"] == "uniform"]["gp"]
    assert 0.3 * expected < uniform.mean() < expected  # lighter tails, smaller variance
    assert np.allclose(rows["gp_infinite"], theory["squared_kernel"])


def test_a_measurement_reads_the_images_of_a_data_set(tmp_path):
    run = wsn.KernelDistances(inputs=wsn.Digits(), densities=(1.0, 0.3), num_pairs=5)
    record = wsn.run(run)
    data = wsn.load_data(wsn.Digits())
    images = data.normalise(data.test.images).flatten(1).double().numpy()
    x, y = wsn.kernels.take_pairs(images, num_pairs=5, seed=derive_seed(0, "inputs"))
    expected = wsn.kernels.masked_kernels(x, y, density=0.3)
    assert record.columns["squared_bias"] == pytest.approx([0, np.mean(expected.first_bias**2) / 64**2])
    wsn.Store(tmp_path).save(record)
    again = wsn.Store(tmp_path).load(run)
    assert again.experiment == run
    assert again.columns["spread"] == pytest.approx(record.columns["spread"], rel=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"densities": (0.5, 0.0)},
            r"densities must be a sequence of numbers > 0 and ≤ 1.*got \(0.5, 0.0\)",
        ),
        ({"num_pairs": 0}, "num_pairs must be an integer ≥ 1.*got 0"),
        ({"inputs": "digits"}, "inputs must be a GaussianInputs or DataSpec, got 'digits'"),
        ({"widths": (0,)}, r"widths must be a sequence of integers ≥ 1.*got \(0,\)"),
        (
            {"widths": (3, 4)},
            r"densities must be a sequence of 2 numbers, one for each width, got \(0.5,\)",
        ),
        ({"distribution": "cauchy"}, "distribution must be one of 'normal', 'uniform'.*got 'cauchy'"),
    ],
)
def test_bad_specs_are_named(change, message):
    good = {"inputs": GAUSSIAN, "densities": (0.5,), "num_pairs": 3}
    if set(change) & {"widths", "distribution"}:
        good |= {"widths": (3,), "num_networks": 2}
        with pytest.raises(ValueError, match=message):
            wsn.KernelSimulation(**(good | change))
    else:
        with pytest.raises(ValueError, match=message):
            wsn.KernelDistances(**(good | change))


def test_a_measurement_is_timed_once_whatever_its_seed(monkeypatch):
    timed = []
    monkeypatch.setattr(durations, "seconds_per_measurement", lambda run, **_: timed.append(run) or 17.0)
    runs = [
        wsn.KernelDistances(inputs=GAUSSIAN, densities=(0.5,), num_pairs=pairs, seed=seed)
        for pairs in (3, 5)
        for seed in (0, 1)
    ]
    assert [plan.seconds for plan in experiments.plan_all(runs, device="cpu")] == [17.0] * 4
    assert [run.num_pairs for run in timed] == [3, 5]


def test_the_time_of_a_measurement_grows_with_it():
    small = wsn.KernelDistances(inputs=GAUSSIAN, densities=(0.5,), num_pairs=2)
    large = wsn.KernelDistances(inputs=GAUSSIAN, densities=(0.5,), num_pairs=2_000_000)
    assert durations.seconds_per_measurement(large) > 1000 * durations.seconds_per_measurement(small)
    networks = wsn.KernelSimulation(
        inputs=GAUSSIAN, widths=(3,), densities=(0.5,), num_pairs=2, num_networks=10_000_000
    )
    assert durations.seconds_per_measurement(networks) > 10
