"""How many networks are needed to see an effect of a given size.

Choose the number before the first test, and test once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

import numpy as np
import scipy

from wsnlib.predictions.excess import inner_products, u_centred
from wsnlib.predictions.populations import Population

MOST_NETWORKS = 2**24
"""Populations that would have to be larger are not searched."""


def class_test_power(
    difference: float, *, deviation: float, networks: int, tests: int = 1, level: float = 0.05
) -> float:
    """Probability that Welch's test finds a difference of mean accuracies between two populations.

    P(|T| > t*), T noncentral t with 2n − 2 degrees of freedom and shift (difference/deviation) · √(n/2);
    t* is the two-sided quantile of level 1 − (1 − level)^(1/tests), the first and hardest of Holm and
    Šidák, so that an effect alone among many tests is found with this probability at least.

    Args:
        difference: Difference of the mean accuracies, in the unit of `deviation`.
        deviation: Standard deviation of the accuracy over networks of one population, as a pilot
            shows it (on a class, `class_tests` gives deviation/√n as the standard error).
        networks: n, of each population.
        tests: Classes or groups that are tested together.
        level: Significance level of all tests together.

    References:
        Cohen, *Statistical power analysis for the behavioral sciences* (1988), Chapter 2.

    Examples:
        >>> round(class_test_power(0.5, deviation=1.0, networks=64), 2)
        0.8
        >>> round(class_test_power(0.5, deviation=1.0, networks=64, tests=1000), 2)
        0.09
    """
    _check(difference=difference, deviation=deviation)
    _check_counts(networks, tests, level)
    each = -np.expm1(np.log1p(-level) / tests)
    df, shift = 2 * networks - 2, difference / deviation * np.sqrt(networks / 2)
    quantile = scipy.stats.t.isf(each / 2, df)
    # by symmetry: scipy's cdf is NaN far below the mean
    return float(scipy.stats.nct.sf(quantile, df, shift) + scipy.stats.nct.sf(quantile, df, -shift))


def networks_for_class_test(
    difference: float, *, deviation: float, tests: int = 1, level: float = 0.05, power: float = 0.8
) -> int:
    """Smallest number of networks in each population for which `class_test_power` reaches `power`.

    Examples:
        >>> [networks_for_class_test(0.5, deviation=1.0, tests=tests) for tests in (1, 100)]
        [64, 153]
    """
    return _smallest(
        lambda n: class_test_power(difference, deviation=deviation, networks=n, tests=tests, level=level),
        power,
    )


def dispersion_power(pilot: Population, *, difference: float, networks: int, level: float = 0.05) -> float:
    """Probability that `dispersion` finds a typical difference (root mean square) of accuracies.

    With Σ the covariance of right and wrong on the N examples over networks, the excess of two like
    populations of n networks has variance τ(4/n² + 4/(n(n − 1))), τ = tr Σ²/N², and the skewness
    2√2 tr Σ³/(tr Σ²)^(3/2) of a weighted sum of χ². A difference d adds its mean square, and
    a normal number of variance 8 dᵀΣd/(nN²). Pearson III distributions of these moments give critical
    value and power; dᵀΣd is taken as that of a difference in the directions in which the networks of
    the pilot differ, |d|² tr Σ²/tr Σ, which is rough where they differ in quality above all. The number of
    examples and their dependence are those of the pilot. With fewer than about ten networks a permutation
    test has few values to take, and finds less than this says.

    Args:
        pilot: A population of at least four networks; it estimates tr Σ, tr Σ² without bias, and tr Σ³ where
            the networks' answers have no third moments.
        difference: √mean (pᵢ − qᵢ)², in the unit of accuracies, such as 0.03.
        networks: n, of each population.
        level: Significance level of the test.

    Raises:
        ValueError: If the pilot's networks do not differ, or too few of them are to tell how.

    References:
        Gretton et al., *A kernel two-sample test* (2012), for the null distribution.

    Examples:
        >>> from wsnlib.predictions import simulate_population
        >>> p = np.linspace(0.5, 1.0, 500)
        >>> pilot = simulate_population(p, networks=30, labels=np.zeros(500, int), num_classes=2)
        >>> [round(dispersion_power(pilot, difference=0.05, networks=n), 1) for n in (5, 10, 20)]
        [0.1, 0.3, 0.7]
    """
    _check(difference=difference)
    if difference > 1:
        raise ValueError(f"difference must be at most 1, got {difference}; 0.02 is 2 points")
    _check_counts(networks, 1, level)
    variation, tau, skewness = _pilot_moments(pilot)
    null = tau * (4 / networks**2 + 4 / (networks * (networks - 1)))
    effect = difference**2
    critical = float(scipy.stats.pearson3.isf(level, skewness)) * np.sqrt(null)
    whole = null + 8 * effect * tau / variation / networks
    remaining = skewness * (null / whole) ** 1.5
    return float(scipy.stats.pearson3.sf((critical - effect) / np.sqrt(whole), remaining))


def networks_for_dispersion(
    pilot: Population, *, difference: float, level: float = 0.05, power: float = 0.8
) -> int:
    """Smallest number of networks in each population for which `dispersion_power` reaches `power`.

    Examples:
        >>> from wsnlib.predictions import simulate_population
        >>> p = np.linspace(0.5, 1.0, 500)
        >>> pilot = simulate_population(p, networks=30, labels=np.zeros(500, int), num_classes=2)
        >>> networks_for_dispersion(pilot, difference=0.1) < networks_for_dispersion(pilot, difference=0.05)
        True
    """
    return _smallest(lambda n: dispersion_power(pilot, difference=difference, networks=n, level=level), power)


def _pilot_moments(pilot: Population) -> tuple[float, float, float]:
    """tr Σ/N, tr Σ²/N² and the skewness, from the U-centred inner products of the networks."""
    n = len(pilot)
    if n < 4:
        raise ValueError(f"{pilot.name!r} must have at least 4 networks to be a pilot, got {n}; train more")
    gram = inner_products([pilot])
    variation = float((np.trace(gram) - gram.sum() / n) / (n - 1))
    centred = u_centred(gram)
    square = centred @ centred
    tau = float(np.trace(square) / (n * (n - 3)))
    if variation <= 0 or tau <= 0:
        raise ValueError(
            f"the networks of {pilot.name!r} must differ enough to plan with, got less; train more"
        )
    cube = float(np.sum(square * centred) / (n * (n - 1) * (n - 2))) / _centred_triangles(n)
    return variation, tau, float(np.clip(2 * np.sqrt(2) * cube / tau**1.5, 0.0, 2 * np.sqrt(2)))


def _centred_triangles(n: int) -> float:
    """What U-centring leaves of the mean ⟨a, b⟩⟨b, c⟩⟨c, a⟩ over n vectors without third moments."""
    return (n**5 - 11 * n**4 + 43 * n**3 - 61 * n**2 - 4 * n + 48) / ((n - 1) ** 2 * (n - 2) ** 3)


def _smallest(power_of: Callable[[int], float], power: float) -> int:
    if not 0 < power < 1:
        raise ValueError(f"power must be > 0 and < 1, got {power}; 0.8 is 80 %")
    high = 2
    while power_of(high) < power:
        high *= 2
        if high > MOST_NETWORKS:
            raise ValueError(
                f"the networks needed must be at most {MOST_NETWORKS:,}, got more; plan for a larger "
                "difference"
            )
    low = high // 2 + 1
    return low + bisect_left(range(low, high), True, key=lambda n: power_of(n) >= power)


def _check(**positive: float) -> None:
    for name, value in positive.items():
        if not value > 0 or not np.isfinite(value):
            raise ValueError(f"{name} must be a finite number > 0, got {value}")


def _check_counts(networks: int, tests: int, level: float) -> None:
    if not isinstance(networks, int | np.integer) or networks < 2:
        raise ValueError(f"networks must be an integer ≥ 2, got {networks}")
    if tests < 1:
        raise ValueError(f"tests must be ≥ 1, got {tests}")
    if not 0 < level < 1:
        raise ValueError(f"level must be > 0 and < 1, got {level}; 0.05 is 5 %")
