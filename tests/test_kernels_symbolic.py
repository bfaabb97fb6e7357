"""Symbolic kernels against numbers found without sympy: quadrature, enumeration, simulation."""

from functools import cache
from itertools import product

import numpy as np
import pytest
import sympy as sp
from scipy.integrate import dblquad, quad
from scipy.optimize import minimize_scalar
from scipy.special import gammaln
from scipy.stats import binom

from wsnlib.kernels import numeric, symbolic, theory
from wsnlib.kernels.symbolic import B1, B2, K1, K2, a, b, c, d, m, n, p, theta, xi

X = np.array([1.3, 0.4, -0.7, 0.2, 0.9])
Y = np.array([0.5, -0.3, 1.1, 0.6, 0.8])
EXACT_X, EXACT_Y = ([sp.Rational(str(value)) for value in values] for values in (X, Y))


def kernel(order: int, xx, yy, xy):
    """K_1 or K_2 of (13)-(16) in NumPy, from inner products."""
    norms = np.sqrt(xx * yy)
    cosine = np.clip(np.divide(xy, norms, out=np.zeros_like(norms), where=norms > 0), -1, 1)
    angle = np.arccos(cosine)
    if order == 1:
        return norms * (np.sin(angle) + (np.pi - angle) * cosine) / (2 * np.pi)
    J2 = 3 * np.sin(angle) * cosine + (np.pi - angle) * (1 + 2 * cosine**2)
    return norms**2 * J2 / (2 * np.pi)


def masked_kernel(order: int, x, y, density: float) -> float:
    """K̃_l,p of (2) by enumeration in NumPy."""
    masks = np.array(list(product((0, 1), repeat=len(x))))
    weights = np.prod(np.where(masks == 1, density, 1 - density), axis=1)
    return weights @ kernel(order, masks @ x**2, masks @ y**2, masks @ (x * y)) / density**order


def repeated_masked_kernel(order: int, x, y, copies: int, density: float) -> float:
    """The same with three coordinates repeated: of each, a binomial number is kept."""
    kept = np.array(list(product(range(copies + 1), repeat=3)))
    weights = np.prod(binom.pmf(kept, copies, density), axis=1)
    return weights @ kernel(order, kept @ x**2, kept @ y**2, kept @ (x * y)) / density**order


def moments(x, y, copies: int = 1) -> dict:
    powers = {a: (2, 0), b: (0, 2), c: (1, 1), symbolic.S40: (4, 0), symbolic.S04: (0, 4)}
    powers |= {symbolic.S22: (2, 2), symbolic.S31: (3, 1), symbolic.S13: (1, 3)}
    return {name: copies * float(np.sum(x**i * y**j)) for name, (i, j) in powers.items()}


def number(expression, **values) -> float:
    return float(expression.subs({getattr(symbolic, name): value for name, value in values.items()}))


@cache
def steps() -> dict[str, symbolic.Step]:
    return {step.name: step for step in symbolic.paper_steps() + symbolic.correction_steps()}


# -- the integrals --


def test_arc_cosine_functions_are_those_printed():
    s, co, t = sp.sin(theta), sp.cos(theta), theta
    assert symbolic.J(0) == sp.pi - t
    assert sp.simplify(symbolic.J(1) - (s + (sp.pi - t) * co)) == 0
    assert sp.simplify(symbolic.J(2) - (3 * s * co + (sp.pi - t) * (1 + 2 * co**2))) == 0


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_radial_and_angular_parts_are_the_integrals_they_name(order):
    found = symbolic.arc_cosine_integral(order)
    radial = quad(lambda r: r ** (2 * order + 1) * np.exp(-r * r / 2), 0, np.inf)[0]
    assert float(found.radial) == pytest.approx(radial, rel=1e-9)
    for angle in (0.3, 1.1, 2.9):
        wedge = (angle - np.pi / 2, np.pi / 2)
        angular = quad(lambda t, shift=angle: (np.cos(t) * np.cos(t - shift)) ** order, *wedge)[0]
        assert float(found.angular.subs(theta, angle)) == pytest.approx(angular, rel=1e-9)
        assert float(found.J.subs(theta, angle)) == pytest.approx(radial * angular, rel=1e-9)
        assert float(found.outside.subs(theta, angle)) == pytest.approx(
            radial * angular - (np.pi - angle) * float(found.wedge.subs(theta, angle)), abs=1e-9
        )


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_kernel_is_the_gaussian_integral_that_defines_it(order):
    x, y = np.array([1.3, 0.4]), np.array([-0.2, 1.1])

    def integrand(w2, w1):
        u, v = w1 * x[0] + w2 * x[1], w1 * y[0] + w2 * y[1]
        return (u * v) ** order * np.exp(-(w1**2 + w2**2) / 2) / (2 * np.pi)

    def lowest(w1):  # where both products turn positive
        return min(max(-w1 * x[0] / x[1], -w1 * y[0] / y[1]), 11)

    defined = sum(dblquad(integrand, *ends, lowest, 11)[0] for ends in ((-11, 0), (0, 11)))
    found = symbolic.K(order, x @ x, y @ y, x @ y)
    assert float(found) == pytest.approx(defined, rel=1e-7)


def test_kernel_of_parallel_and_opposite_inputs():
    assert symbolic.K(1, 4, 9, 6) == 3
    assert symbolic.K(2, 4, 9, 6) == 54
    assert symbolic.K(1, 4, 9, -6) == symbolic.K(2, 4, 9, -6) == 0


@pytest.mark.parametrize("order", [-1, 1.0, True])
def test_impossible_orders_are_named(order):
    with pytest.raises(ValueError, match=f"order must be an integer ≥ 0, got {order}"):
        symbolic.arc_cosine_integral(order)


# -- Theorem 1 --


def test_every_step_of_the_proof_holds():
    found = symbolic.theorem_1_steps()
    assert [step.name for step in found if not step.holds or step.kind != "exact"] == []
    assert {"(8)", "(9)", "(10) = (1)", "(5)-(7), order 1", "(5)-(7), order 2"} <= {s.name for s in found}


def test_a_wrong_step_does_not_hold():
    step = symbolic.Step("norms", d**2, d, "exact")
    assert not step.holds
    assert step.difference == d * (d - 1)


@pytest.mark.parametrize("order", [1, 2])
def test_average_over_masks_equals_enumeration(order):
    found = sp.lambdify(p, symbolic.mask_average(order, EXACT_X, EXACT_Y))
    for density in (0.2, 0.7, 1.0):
        assert found(density) == pytest.approx(masked_kernel(order, X, Y, density), rel=1e-12)


def test_average_over_masks_with_symbols():
    x, y = sp.symbols("x1:4", positive=True), sp.symbols("y1:4", positive=True)
    found = sp.lambdify([*x, *y, p], symbolic.mask_average(1, x, y))
    assert found(*X[[0, 1, 3]], *Y[[0, 2, 3]], 0.4) == pytest.approx(
        masked_kernel(1, X[[0, 1, 3]], Y[[0, 2, 3]], 0.4), rel=1e-12
    )
    with pytest.raises(ValueError, match="x and y must have as many coordinates, got 3 and 2"):
        symbolic.mask_average(1, x, y[:2])


def test_kernel_distance_of_simulated_nets():
    nets, width, density = 400_000, 3, 0.6
    rng = np.random.default_rng(7)
    weights = rng.normal(scale=density**-0.5, size=(nets, width, 5)) * (
        rng.random((nets, width, 5)) < density
    )
    kernels = (np.maximum(weights @ X, 0) * np.maximum(weights @ Y, 0)).mean(1) / 5
    first, second = (symbolic.mask_average(k, EXACT_X, EXACT_Y).subs(p, density) for k in (1, 2))
    dense = float(symbolic.mask_average(1, EXACT_X, EXACT_Y).subs(p, 1))
    squares = (kernels - dense / 5) ** 2
    theory = ((first - dense) ** 2 + (second - first**2) / width) / 25
    assert abs(squares.mean() - float(theory)) < 4 * squares.std() / nets**0.5
    assert 4 * squares.std() / nets**0.5 < 0.05 * float(theory)


# -- the paper's approximation --


def test_kinds_say_whether_a_step_holds():
    found = list(steps().values())
    assert [step.name for step in found if step.holds != (step.kind == "exact")] == []
    assert len(found) == 32  # by name
    assert all(step.note for step in found)


@pytest.mark.parametrize(
    ("name", "difference"),
    [
        ("mask concentration", d * p * (1 - p)),
        ("one ξ for all masks", xi * sp.sqrt(d) * (p - sp.sqrt(p))),
        ("(18)", sp.sqrt(d * p) * xi / (12 * sp.pi)),
        ("(19)", -1 / (4 * sp.pi * p)),
        ("(20)", sp.sqrt(d) * xi / (12 * sp.pi * p ** sp.Rational(3, 2))),
        ("(22) over all masks", 3 * d * (1 - p) / (2 * p)),
        (
            "(23), dropped from the bias",
            xi * (1 / p - 1) * (1 / sp.sqrt(p) - 1) / (8 * sp.pi * sp.sqrt(d) ** 3),
        ),
        ("(23), dropped from the variance", 7 * xi / (4 * sp.pi * n * sp.sqrt(d * p))),
        ("(24) over all masks", (3 - 4 * p) / (2 * d * n * p)),
    ],
)
def test_what_the_paper_neglects_or_misprints(name, difference):
    assert sp.simplify(steps()[name].difference - difference) == 0


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_moments_of_the_norm(order):
    k = 101
    exact = np.exp(gammaln((k + order) / 2) - gammaln(k / 2) + order / 2 * np.log(2 / k))
    found = symbolic.norm_moment(order).subs(sp.Symbol("epsilon", positive=True), k**-0.5)
    assert float(found) == pytest.approx(exact, abs=2 * k**-3)


def test_last_printed_terms_of_the_kernels_by_numbers():
    k = 1e4  # coordinates kept, at the cosine of (11) with both signs
    norm = np.exp(gammaln((k + 1) / 2) - gammaln(k / 2)) * 2**0.5
    for sign in (1, -1):
        one = 2 * np.pi * kernel(1, norm**2, norm**2, sign * norm**2 / k**0.5) / k
        two = 2 * np.pi * kernel(2, k, k, sign * k**0.5) / k**2
        two -= np.pi / 2 + 4 * sign / k**0.5 + np.pi / k
        assert (one - 1 - np.pi * sign / (2 * k**0.5)) * k == pytest.approx(0, abs=0.02)
        assert two * k**1.5 == pytest.approx(sign * 2 / 3, abs=0.02)
        for name, value in (("(17)", one * k), ("(19)", one * k)):
            assert number(steps()[name].derived * 2 * sp.pi, d=k, p=1, xi=sign) == pytest.approx(
                value, rel=2e-6
            )
        derived = number(steps()["(20)"].derived, d=4 * k, p=0.25, xi=sign)  # σ⁴ = 16
        assert derived == pytest.approx(16 * kernel(2, k, k, sign * k**0.5), rel=1e-7)


def test_bias_and_variance_of_the_printed_distance():
    k, density, nets = 1e6, 0.25, 7
    values = {"d": k / density, "p": density, "n": nets, "xi": 1}
    one = 1 / density * kernel(1, k, k, k**0.5)
    two = 1 / density**2 * kernel(2, k, k, k**0.5)
    variance = (two - one**2) / (values["d"] ** 2 * nets)
    leading = number(steps()["(23) = (4), variance"].derived, **values)
    dropped = number(steps()["(23), dropped from the variance"].derived, **values)
    assert variance == pytest.approx(leading, rel=0.01)
    assert variance - leading == pytest.approx(dropped, rel=0.01)
    bias = one - kernel(1, values["d"], values["d"], values["d"] ** 0.5)
    assert bias**2 / values["d"] ** 2 == pytest.approx(
        number(steps()["(23) = (4), bias"].derived, **values), rel=0.01
    )


def test_diagonal_over_simulated_inputs_and_nets():
    count, width, dimension, density = 400_000, 3, 7, 0.4
    rng = np.random.default_rng(11)
    inputs = rng.normal(size=(count, dimension))
    kept = rng.random((count, width, dimension)) < density
    norms = (kept * inputs[:, None] ** 2).sum(2)  # u·x is Gaussian given mask and input
    outputs = np.maximum(rng.normal(size=norms.shape) * np.sqrt(norms / density), 0)
    squares = ((outputs**2).mean(1) / dimension - (inputs**2).sum(1) / (2 * dimension)) ** 2
    values = {"d": dimension, "p": density, "n": width}
    error = squares.std() / count**0.5
    assert abs(squares.mean() - number(steps()["(24) over all masks"].derived, **values)) < 4 * error
    assert abs(squares.mean() - number(steps()["(24) over all masks"].printed, **values)) > 4 * error
    fourth = 1.5 * norms[:, 0] ** 2 / density**2
    second = number(steps()["(22) over all masks"].derived, **values)
    assert abs(fourth.mean() - second) < 4 * fourth.std() / count**0.5


def test_stationary_connectivity_of_the_printed_distance():
    ratios = []
    for weights in (1e-2, 1e-4):  # per input, at d = 1: the smaller, the smaller p*
        curve = sp.lambdify(p, symbolic.paper_distance().subs({n: weights / p, d: 1}))
        lowest = minimize_scalar(curve, bounds=(weights / 9, 0.5), options={"xatol": 1e-10}).x
        left, right = symbolic.paper_stationarity().args
        assert number(left, p=lowest) == pytest.approx(number(right, m=weights, d=1), rel=1e-4)
        ratios.append(number(symbolic.paper_minimiser(), m=weights, d=1) / lowest)
    assert ratios[1] == pytest.approx(1 + (1e-4 / 4 / (1 - np.pi**-2)) ** 0.25 / 2, rel=2e-3)
    assert 1 < ratios[1] < ratios[0]
    assert float(symbolic.paper_minimiser() / sp.sqrt(m / (4 * d))) == pytest.approx((1 - np.pi**-2) ** -0.5)


# -- the correction --


@pytest.mark.parametrize("density", [0.7, 0.9])
@pytest.mark.parametrize("order", [1, 2])
def test_correction_leaves_an_error_of_second_order(order, density):
    x, y = X[:3], np.array([0.9, -0.3, 0.2])
    errors, sizes = [], []
    for copies in (13, 26, 52):
        values = moments(x, y, copies)
        dense = float(symbolic.K(order).subs(values))
        change = repeated_masked_kernel(order, x, y, copies, density) / dense - 1
        correction = (1 - density) / density * float(symbolic.delta_correction(order).subs(values))
        errors.append(abs(change - correction / dense))
        sizes.append(abs(change))
    assert sizes[1] / sizes[2] == pytest.approx(2, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.05)
    assert errors[2] < 0.02 * sizes[2]


def test_correction_of_equal_inputs_is_exact():
    # K_2(x, x) is quadratic in |x|², so nothing is left out
    equal = dict.fromkeys((symbolic.S04, symbolic.S22, symbolic.S31, symbolic.S13), symbolic.S40)
    limit = sp.limit(symbolic.delta_correction(2).subs(equal | {b: a}), c, a, "-")
    change = masked_kernel(2, X, X, 0.3) - masked_kernel(2, X, X, 1.0)
    assert 0.7 / 0.3 * float(limit.subs(moments(X, X))) == pytest.approx(change, rel=1e-9)


def test_bias_of_gaussian_inputs_vanishes_at_first_order():
    gauss = symbolic.gaussian_inputs()
    assert symbolic.delta_correction(1).subs(gauss) == 0
    assert symbolic.delta_correction(2).subs(gauss) == 3 * d / 4
    # by numbers: the mean over masks of simulated pairs, beside the paper's bias
    dimension, density, pairs, masks = 211, 0.31, 53, 4001
    rng = np.random.default_rng(13)
    x, y = rng.normal(size=(2, dimension, pairs))
    kept = (rng.random((masks, dimension)) < density).astype(float)
    sparse = kernel(1, kept @ x**2, kept @ y**2, kept @ (x * y)) / density
    biases = (sparse.mean(0) - kernel(1, (x**2).sum(0), (y**2).sum(0), (x * y).sum(0))) / dimension
    error = sparse.std() / masks**0.5 / dimension
    paper = number(steps()["bias of (23)"].printed, d=dimension, p=density) ** 0.5
    assert (biases**2).mean() ** 0.5 < 2 * error < 0.2 * paper


def test_corrected_distance_approaches_theorem_1():
    x, y, density, weights = X[:3], Y[[0, 2, 4]], 0.4, 5.0
    errors = []
    for copies in (7, 14):
        values = moments(x, y, copies)
        one, two = (repeated_masked_kernel(k, x, y, copies, density) for k in (1, 2))
        dense = float(symbolic.K(1).subs(values))
        exact = ((one - dense) ** 2 + (two - one**2) * density / weights) / (3 * copies) ** 2
        terms = {K1: symbolic.K(1), K2: symbolic.K(2)}
        terms |= {B1: symbolic.delta_correction(1), B2: symbolic.delta_correction(2)}
        found = symbolic.corrected_distance().subs(terms).subs(values)
        errors.append(abs(number(found, d=3 * copies, p=density, m=weights) / exact - 1))
    assert errors[1] < 0.02
    assert errors[0] / errors[1] > 3


def test_corrected_minimiser_is_where_the_distance_is_lowest():
    size = 1e5  # d; K_l ~ dˡ and B_l ~ d^(l-1)
    values = {K1: size / 6, K2: size**2 / 4, B1: -0.3, B2: 0.7 * size, d: size}
    ratios = []
    for weights in (1e5, 1e2):
        curve = sp.lambdify(p, sp.log(symbolic.corrected_distance().subs(values).subs(m, weights)))
        found = number(symbolic.corrected_minimiser().subs(values), m=weights)
        lowest = minimize_scalar(curve, bounds=(found / 5, 5 * found), options={"xatol": 1e-12}).x
        ratios.append(found / lowest)
    assert ratios == pytest.approx([1, 1], rel=0.01)
    assert abs(ratios[1] - 1) < abs(ratios[0] - 1)


def test_scaling_of_the_best_connectivity():
    t = sp.Symbol("t", positive=True)
    wider, heavier = steps()["p* when d grows"], steps()["p* when m grows"]
    assert (wider.derived, wider.printed) == (t ** sp.Rational(-2, 3), t ** sp.Rational(-1, 2))
    assert (heavier.derived, heavier.printed) == (t ** sp.Rational(1, 3), t ** sp.Rational(1, 2))
    assert r"| **p\* when d grows**, *differs*: by a factor t" in symbolic.steps_table([wider])


# -- against the numeric half -----------------------------------------------------------------


def _products(x, y):
    names = (
        symbolic.a,
        symbolic.b,
        symbolic.c,
        symbolic.S40,
        symbolic.S04,
        symbolic.S22,
        symbolic.S31,
        symbolic.S13,
    )
    values = (
        x @ x,
        y @ y,
        x @ y,
        (x**4).sum(),
        (y**4).sum(),
        (x**2 * y**2).sum(),
        (x**3 * y).sum(),
        (x * y**3).sum(),
    )
    return dict(zip(names, values, strict=True))


def test_symbols_and_numbers_agree():
    rng = np.random.default_rng(11)
    for x, y in rng.normal(size=(5, 2, 7)):
        values = _products(x, y)
        for order, correction in zip((1, 2), theory.corrections(x, y), strict=True):
            kernel = float(symbolic.K(order).subs(values))
            assert kernel == pytest.approx(float(numeric.arc_cosine(x, y, order=order)))
            derived = float(symbolic.delta_correction(order).subs(values))
            assert derived == pytest.approx(float(correction))


def test_the_sum_over_masks_is_enumeration():
    x, y, density = (2, -1, 3), (1, 4, 1), sp.Rational(1, 3)
    found = numeric.masked_kernels(x, y, density=1 / 3, method="enumeration")
    for order, value in ((1, found.first), (2, found.second)):
        assert float(symbolic.mask_average(order, x, y, density)) == pytest.approx(value.item())


def test_closed_forms_are_the_numeric_ones():
    at = {symbolic.p: 0.2, symbolic.n: 40, symbolic.d: 784, symbolic.m: 8}
    assert float(symbolic.paper_distance().subs(at)) == pytest.approx(
        float(theory.paper_distance(width=40, density=0.2, dimension=784))
    )
    root = theory.paper_distance_minimiser(base_width=8, dimension=784)
    balance = symbolic.paper_stationarity().subs({symbolic.m: 8, symbolic.d: 784})
    assert float(balance.lhs.subs(symbolic.p, root)) == pytest.approx(float(balance.rhs))
    x, y = np.random.default_rng(12).normal(size=(2, 17))
    first, second = theory.corrections(x, y)
    k1, k2 = (float(numeric.arc_cosine(x, y, order=order)) for order in (1, 2))
    pair = {symbolic.K1: k1, symbolic.K2: k2, symbolic.B1: float(first), symbolic.B2: float(second)}
    pair |= {symbolic.m: 8, symbolic.d: 17}
    assert float(symbolic.corrected_distance().subs(pair | {symbolic.p: 0.2})) == pytest.approx(
        float(theory.corrected_distance(x, y, width=40, density=0.2)[0, 0])
    )
    assert float(symbolic.corrected_minimiser().subs(pair)) == pytest.approx(
        theory.corrected_minimiser(x, y, base_width=8)
    )
