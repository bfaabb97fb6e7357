"""How many networks are needed: statsmodels' numbers, moments of a pilot."""

import itertools
import math

import numpy as np
import pytest
from statsmodels.stats.power import TTestIndPower
from test_predictions import of_correct, population

import wsnlib as wsn
from wsnlib.predictions.power import _centred_triangles, _pilot_moments


@pytest.mark.parametrize(("effect", "networks", "tests"), [(0.5, 20, 1), (0.8, 33, 100), (1.7, 5, 10)])
def test_power_of_class_tests_is_statsmodels(effect, networks, tests):
    level = 1 - 0.95 ** (1 / tests)
    expected = TTestIndPower().power(effect, networks, level)
    found = wsn.predictions.class_test_power(0.02 * effect, deviation=0.02, networks=networks, tests=tests)
    assert found == pytest.approx(expected, rel=1e-6)


def test_large_differences_are_found_by_few_networks():
    """scipy's noncentral t has no lower tail far from its mean."""
    power = wsn.predictions.class_test_power
    assert power(2.0, deviation=1.0, networks=64, tests=1000) == pytest.approx(1)
    for effect, networks in ((0.3, 536), (0.8, 79), (20.0, 3)):
        n = wsn.predictions.networks_for_class_test(effect, deviation=1.0, tests=1000)
        assert n == networks
        below, above = (power(effect, deviation=1.0, networks=k, tests=1000) for k in (n - 1, n))
        assert below < 0.8 <= above


def test_the_number_of_networks_is_the_smallest_that_will_do():
    pilot = population(20, examples=300)
    for power in (0.05, 0.5, 0.99):
        n = wsn.predictions.networks_for_class_test(0.01, deviation=0.03, tests=10, power=power)
        powers = [
            wsn.predictions.class_test_power(0.01, deviation=0.03, networks=k, tests=10)
            for k in (max(n - 1, 2), n)
        ]
        assert powers[1] >= power and (powers[0] < power or n == 2)
        n = wsn.predictions.networks_for_dispersion(pilot, difference=0.05, power=power)
        powers = [
            wsn.predictions.dispersion_power(pilot, difference=0.05, networks=k) for k in (max(n - 1, 2), n)
        ]
        assert powers[1] >= power and (powers[0] < power or n == 2)


def test_moments_of_a_pilot_are_averages_over_different_networks():
    """tr Σ² = E ((x₁ − x₂)·(x₃ − x₄))²/4, averaged over all ordered 4-tuples."""
    p = population(6, examples=7)
    x = p.correct.astype(float)
    squares = [((x[i] - x[j]) @ (x[k] - x[m])) ** 2 / 4 for i, j, k, m in itertools.permutations(range(6), 4)]
    variation, tau, _ = _pilot_moments(p)
    assert variation == pytest.approx(np.mean(x.var(0, ddof=1)))
    assert tau == pytest.approx(np.mean(squares) / 49)


@pytest.mark.parametrize("n", [4, 5, 8])
def test_triangles_of_a_pilot_are_without_bias(n):
    x = np.random.default_rng(n).normal(size=(40_000, n, 3))
    gram = (x @ x.transpose(0, 2, 1)) * (1 - np.eye(n))
    sums = gram.sum(2) / (n - 2)
    centred = gram - sums[:, :, None] - sums[:, None] + gram.sum((1, 2))[:, None, None] / ((n - 1) * (n - 2))
    centred *= 1 - np.eye(n)
    cubes = np.einsum("tij,tjk,tki->t", centred, centred, centred) / (n * (n - 1) * (n - 2))
    cubes /= _centred_triangles(n)
    assert abs(cubes.mean() - 3) < 4 * cubes.std() / 200  # tr Σ³ of Σ = 1 in 3 dimensions


def test_skewness_is_that_of_one_direction_if_networks_differ_in_one():
    rng = np.random.default_rng(0)
    one = of_correct(np.repeat(rng.random((400, 1)) < 0.5, 50, axis=1))
    many = population(400, examples=300)
    assert _pilot_moments(one)[2] == pytest.approx(2 * math.sqrt(2), rel=0.05)
    assert _pilot_moments(many)[2] < 0.6


def test_a_difference_in_percent_and_a_part_of_a_network_are_refused():
    pilot = wsn.predictions.simulate_population(
        np.linspace(0.2, 0.9, 50), networks=8, labels=np.zeros(50, int), num_classes=2
    )
    with pytest.raises(ValueError, match="difference must be at most 1, got 3; 0.02 is 2 points"):
        wsn.predictions.networks_for_dispersion(pilot, difference=3)
    with pytest.raises(ValueError, match="networks must be an integer ≥ 2, got 7.5"):
        wsn.predictions.dispersion_power(pilot, difference=0.03, networks=7.5)
