"""Three nested logistic models of right and wrong: by example, by class and architecture, by both.

For two populations of m and n networks, π the probability that a network is right:

    A: logit π = αᵢ + δ · [second]           an effect of each example, one of the architecture
    B: logit π = αᵢ + δ_c(i) · [second]      … one of the architecture for every class
    C: logit π = αᵢ + δᵢ · [second]          … one of the architecture for every example

As a regression on single predictions B has networks · examples rows and examples + classes columns.
None of that is needed. The numbers kᵢ, lᵢ of networks of either population that are right on example i
are sufficient; given δ, the equation of αᵢ, m σ(αᵢ) + n σ(αᵢ + δ) = kᵢ + lᵢ, is quadratic in exp αᵢ;
and what is left is concave in every δ_c separately. So a fit is a few Newton steps in as many single
numbers as there are classes, in memory that grows with the examples.

*Separation.* Where every network of both populations is right on an example (or every one is wrong), its
likelihood has no maximum, but a supremum, 1, as αᵢ → ±∞. Where on every other example of a class
no network of the first is right or every one of the second is, δ_c → ∞ (and likewise −∞ ), and the
supremum is reached by the accuracies themselves, as in C. Log-likelihoods here are these suprema, to
which iterations of other programs creep. The effects count as in any program: AIC and `df` use the
columns of the design, N + 1, N + classes and 2N. Examples without a failure or without a success
cannot tell the models apart, though, and make the χ² tests with `df` conservative; `df_informative`
leaves them out.

*What the χ² tests assume.* That all predictions are independent. Those of one network are not if
networks differ in the classes they do well, which makes the test of B in A reject too often; and with the
few failures that most examples have, a statistic with an effect for every example is far from χ². The
permutation test over networks assumes neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy
from numpy.typing import ArrayLike, NDArray

from wsnlib.predictions import inference
from wsnlib.predictions.populations import Population, check_same_examples, class_accuracy

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

REFITS_AT_ONCE = 64
"""Permutations whose counts are in memory together."""


@dataclass(frozen=True, kw_only=True)
class LogisticFit:
    """A model of type A or B at the supremum of its likelihood.

    Args:
        log_likelihood: Log-likelihood of all single predictions.
        squares: Σ (y − π)² over all single predictions.
        effects: δ of every group: log-odds of the second population over the first. ±∞ where
            separated, NaN where no example of the group is informative. With few networks the
            effect is too large in absolute value, as the effects of examples are estimated, too:
            twice in the limit of one network each.
        first, second: π of every example and either population.
        informative: Groups with at least one example on which some network, not every one, is right.
    """

    log_likelihood: float
    squares: float
    effects: Array
    first: Array
    second: Array
    informative: int


@dataclass(frozen=True, kw_only=True)
class LogisticModels:
    """The three models, and how they compare.

    Args:
        models: One row a model, A, B, C: `effects` (columns of the design), `log_likelihood`, `aic`,
            `residual_variance` = mean (y − π)².
        tests: One row a likelihood-ratio test, (A, B), (A, C), (B, C): `smaller`, `larger`,
            `statistic` with its jackknife interval over networks, `low` and `high` (less 2 `df` it is the
            gain in AIC); `df` and `p_value` of χ² as any program has them; `df_informative` and
            `p_informative` without the examples that cannot tell; `p_permutation`, and that
            `adjusted` for three tests (Holm and Šidák). Permutations test that the two populations are of one
            kind; where classes differ, (B, C) is an approximation.
        v_squared: V² = (Var_A − Var_B)/(Var_A − Var_C), NaN if A and C are the same.
        v_squared_low, v_squared_high: Its jackknife interval, over networks. Of what the networks at
            hand have on average; chance is in it (see `explained_share`). Where classes are alike, what is
            left are squares of noise, of which the jackknife counts the variance twice: 95 % cover 99 %.
        v_squared_chance: Mean of V² over the permutations: what as many classes explain if
            there is nothing to explain.
        v_squared_p: Permutation p-value of V².
        class_effects: δ of every class in B.
    """

    models: pd.DataFrame
    tests: pd.DataFrame
    v_squared: float
    v_squared_low: float
    v_squared_high: float
    v_squared_chance: float
    v_squared_p: float
    class_effects: Array


def fit_logistic(
    first: ArrayLike, second: ArrayLike, *, networks: tuple[int, int], groups: ArrayLike
) -> LogisticFit:
    """Fit logit π = α_example + δ_group · [second] to numbers of networks that are right.

    Args:
        first, second: Networks of either population that are right, (examples,).
        networks: Number of networks of either.
        groups: Group of each example, numbered from 0: its class for model B, 0 for model A.

    References:
        N21, Appendix F.3. Albert and Anderson, *On the existence of maximum likelihood estimates in
        logistic regression models* (1984), for separation.

    Examples:
        >>> zeros = np.zeros(3, int)
        >>> fit = fit_logistic(np.array([1, 2, 9]), np.array([4, 6, 9]), networks=(9, 9), groups=zeros)
        >>> fit.effects.round(2).tolist(), (9 * (fit.first + fit.second)).round(6).tolist()
        ([1.91], [5.0, 8.0, 18.0])
        >>> fit_logistic(zeros, np.array([4, 6, 9]), networks=(9, 9), groups=zeros).effects.item()
        inf
    """
    first, second, groups = np.asarray(first), np.asarray(second), np.asarray(groups)
    m, n = networks
    total = first + second
    count = int(groups.max()) + 1
    pi_first, pi_second = first / m, second / n  # of concordant examples and separated groups
    informative = (total > 0) & (total < m + n)
    groups_in = groups[informative]
    k, t = second[informative], total[informative]
    holds = np.bincount(groups_in, minlength=count)
    up = np.bincount(groups_in, (t == k) | (k == n), minlength=count) == holds
    down = np.bincount(groups_in, (t - k == m) | (k == 0), minlength=count) == holds
    effects = np.where(holds == 0, np.nan, np.where(up, np.inf, np.where(down, -np.inf, 0.0)))

    finite = np.isfinite(effects)
    used = np.flatnonzero(informative)[finite[groups_in]]
    if used.size:
        number = np.cumsum(finite) - 1
        effects[finite], pi_first[used], pi_second[used] = _newton(
            second[used], total[used], m, n, number[groups[used]]
        )
    return LogisticFit(
        log_likelihood=_log_likelihood(first, pi_first, m) + _log_likelihood(second, pi_second, n),
        squares=_squares(first, pi_first, m) + _squares(second, pi_second, n),
        effects=effects,
        first=pi_first,
        second=pi_second,
        informative=int(np.sum(holds > 0)),
    )


def logistic_models(
    first: Population, second: Population, *, permutations: int = 199, confidence: float = 0.95, seed: int = 0
) -> LogisticModels:
    """Fit the three models of N21, F.3, and test each in the next.

    Args:
        first, second: Populations over the same examples, with at least one of every class.
        permutations: Number of permutations of the networks; A and B are fitted again for each.
        confidence: Confidence level of the interval of V², for which they are fitted again without each
            network.
        seed: Random seed for the permutations.

    References:
        N21, Appendix F.3, eq. (10) and Table F.1. Efron, *Regression and ANOVA with zero-one data:
        measures of residual variation* (1978).

    Examples:
        >>> from wsnlib.predictions import simulate_population
        >>> labels, p = np.arange(300) % 3, np.linspace(0.1, 0.9, 300)
        >>> q = p + 0.1 * (labels == 0) - 0.1 * (labels == 1)
        >>> a = simulate_population(p, networks=40, labels=labels, num_classes=3)
        >>> b = simulate_population(q, networks=40, labels=labels, num_classes=3, seed=1)
        >>> result = logistic_models(a, b)
        >>> result.models["aic"].idxmin(), result.tests["p_permutation"].tolist()[0]
        ('B', 0.005)
        >>> result.v_squared > 3 * result.v_squared_chance
        True
    """
    check_same_examples([first, second])
    class_accuracy(first)  # which stops if a class is absent
    m, n, examples = len(first), len(second), first.num_examples
    labels = first.labels.astype(np.int64)
    correct = np.concatenate([first.correct, second.correct])
    fits = _three_fits(first.counts, second.counts, (m, n), labels)
    columns = np.array([examples + 1, examples + first.num_classes, 2 * examples])
    models = pd.DataFrame(
        {
            "effects": columns,
            "log_likelihood": fits.log_likelihoods,
            "aic": 2 * columns - 2 * fits.log_likelihoods,
            "residual_variance": fits.squares / (examples * (m + n)),
        },
        index=pd.Index(["A", "B", "C"], name="model"),
    )

    def compared(one: NDArray[Any], other: NDArray[Any]) -> Array:
        return np.array([[again.v_squared, *again.ratios] for again in _refits(one, other, correct, labels)])

    each = inference.sidak_confidence(confidence, 1)
    low, high = (np.broadcast_to(end, 4) for end in inference.jackknife(compared, m, n, confidence=each))
    chosen = inference.assignments(m, n, permutations=permutations, seed=seed)
    permuted = list(_refits(chosen, ~chosen, correct, labels))
    chance = np.array([again.v_squared for again in permuted if np.isfinite(again.v_squared)])
    return LogisticModels(
        models=models,
        tests=_tests(fits, columns, np.array([again.ratios for again in permuted]), (low[1:], high[1:])),
        v_squared=fits.v_squared,
        v_squared_low=float(low[0]),
        v_squared_high=float(high[0]),
        v_squared_chance=float(chance.mean()) if chance.size else float("nan"),
        v_squared_p=inference.permutation_p_value(fits.v_squared, chance)
        if np.isfinite(fits.v_squared)
        else 1.0,
        class_effects=fits.class_effects,
    )


# -- private ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _ThreeFits:
    log_likelihoods: Array
    squares: Array
    informative: int
    informative_classes: int
    class_effects: Array

    @property
    def ratios(self) -> Array:
        """Likelihood-ratio statistics of B in A, C in A, C in B; 0 where only rounding is left."""
        a, b, c = self.log_likelihoods
        return np.asarray(np.maximum(2 * np.array([b - a, c - a, c - b]), 0.0))

    @property
    def v_squared(self) -> float:
        a, b, c = self.squares
        return float((a - b) / (a - c)) if a - c > 1e-12 * max(a, 1) else float("nan")


def _three_fits(first: Counts, second: Counts, networks: tuple[int, int], labels: Counts) -> _ThreeFits:
    m, n = networks
    by_architecture = fit_logistic(first, second, networks=networks, groups=np.zeros_like(labels))
    by_class = fit_logistic(first, second, networks=networks, groups=labels)
    total = first + second
    return _ThreeFits(
        log_likelihoods=np.array(
            [
                by_architecture.log_likelihood,
                by_class.log_likelihood,
                _log_likelihood(first, first / m, m) + _log_likelihood(second, second / n, n),
            ]
        ),
        squares=np.array(
            [
                by_architecture.squares,
                by_class.squares,
                _squares(first, first / m, m) + _squares(second, second / n, n),
            ]
        ),
        informative=int(np.sum((total > 0) & (total < m + n))),
        informative_classes=by_class.informative,
        class_effects=by_class.effects,
    )


def _refits(
    first: NDArray[Any], second: NDArray[Any], correct: NDArray[np.bool_], labels: Counts
) -> Iterator[_ThreeFits]:
    """Fits for each row of indicators of the networks of either population."""
    for start in range(0, len(first), REFITS_AT_ONCE):
        rows = slice(start, start + REFITS_AT_ONCE)
        one, other = (_right_counts(chosen[rows], correct) for chosen in (first, second))
        sizes = zip(first[rows].sum(1).tolist(), second[rows].sum(1).tolist(), strict=True)
        for row, (m, n) in enumerate(sizes):
            yield _three_fits(one[row], other[row], (int(m), int(n)), labels)


def _right_counts(chosen: NDArray[Any], correct: NDArray[np.bool_]) -> Counts:
    """Chosen networks that are right, (choices, examples)."""
    counts = np.empty((len(chosen), correct.shape[1]), dtype=np.int64)
    for start in range(0, correct.shape[1], 8192):
        part = slice(start, start + 8192)
        counts[:, part] = chosen.astype(np.float32) @ correct[:, part].astype(np.float32)
    return counts


def _tests(
    fits: _ThreeFits, columns: NDArray[np.int64], permuted: Array, interval: tuple[Array, Array]
) -> pd.DataFrame:
    df = np.array([columns[1] - columns[0], columns[2] - columns[0], columns[2] - columns[1]])
    examples, classes = fits.informative, fits.informative_classes
    free = np.maximum([classes - 1, examples - 1, examples - classes], 0)
    p_permutation = [
        inference.permutation_p_value(o, p) for o, p in zip(fits.ratios, permuted.T, strict=True)
    ]
    return pd.DataFrame(
        {
            "smaller": ["A", "A", "B"],
            "larger": ["B", "C", "C"],
            "statistic": fits.ratios,
            "low": interval[0],
            "high": interval[1],
            "df": df,
            "p_value": _chi_squared_p(fits.ratios, df),
            "df_informative": free,
            "p_informative": _chi_squared_p(fits.ratios, free),
            "p_permutation": p_permutation,
            "adjusted": inference.holm_sidak(p_permutation),
        }
    )


def _chi_squared_p(statistics: Array, df: NDArray[np.int64]) -> Array:
    """1 where there is no degree of freedom, as the models are the same."""
    return np.where(df > 0, scipy.stats.chi2.sf(statistics, np.maximum(df, 1)), 1.0)


def _newton(k: Counts, t: Counts, m: int, n: int, groups: Counts) -> tuple[Array, Array, Array]:
    """δ of every group, and π of both populations for every example, none of which is separated.

    The score Σ (k − n π₂) falls in δ; Newton's step is taken where it stays between the last values
    on either side of the root, else the middle.
    """
    delta = np.zeros(int(groups.max()) + 1)
    low, high = np.full_like(delta, -np.inf), np.full_like(delta, np.inf)
    for _ in range(200):
        first, second = _given_effect(t, m, n, delta[groups])
        score = np.bincount(groups, k - n * second)
        w1, w2 = m * first * (1 - first), n * second * (1 - second)
        information = np.bincount(groups, w1 * w2 / (w1 + w2))
        low, high = np.where(score > 0, delta, low), np.where(score < 0, delta, high)
        step = np.clip(score / information, -4, 4)
        inside = (low <= delta + step) & (delta + step <= high)
        with np.errstate(invalid="ignore"):
            middle = (low + high) / 2
        new = np.where(inside | ~np.isfinite(middle), delta + step, middle)
        moved = np.abs(new - delta)
        delta = new
        if np.all(moved < 1e-9 * (1 + np.abs(delta))):
            break
    return delta, *_given_effect(t, m, n, delta[groups])


def _given_effect(t: Counts, m: int, n: int, delta: Array) -> tuple[Array, Array]:
    """π of both populations with log-odds δ apart and m π₁ + n π₂ = t, 0 < t < m + n.

    With u = exp(α + δ/2): (m + n − t) u² + b u − t = 0, b = (m − t) exp(−δ/2) + (n − t) exp(δ/2); of the two
    forms of the positive root the one without cancellation is taken.
    """
    up = np.exp(delta / 2)
    b = (m - t) / up + (n - t) * up
    root = np.sqrt(b * b + 4 * (m + n - t) * t)
    u = np.where(b > 0, 2 * t / (root + np.abs(b)), (root + np.abs(b)) / (2 * (m + n - t)))
    return u / (u + up), u / (u + 1 / up)


def _log_likelihood(right: Counts, pi: Array, networks: int) -> float:
    return float(np.sum(scipy.special.xlogy(right, pi) + scipy.special.xlogy(networks - right, 1 - pi)))


def _squares(right: Counts, pi: Array, networks: int) -> float:
    return float(np.sum(right * (1 - pi) ** 2 + (networks - right) * pi**2))
