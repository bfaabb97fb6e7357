"""The paper's approximation re-derived by series expansion, and its correction (G21, Appendix F.1)."""

from __future__ import annotations

from functools import cache
from itertools import product

import sympy as sp

from wsnlib.kernels.symbolic.integrals import (
    B1,
    B2,
    FOURTH_MOMENTS,
    K1,
    K2,
    S04,
    S13,
    S22,
    S31,
    S40,
    J,
    K,
    Kind,
    Step,
    a,
    b,
    c,
    d,
    m,
    n,
    over_pairs,
    p,
    theta,
    xi,
)

_eps = sp.Symbol("epsilon", positive=True)  # 1/sqrt(d p)


# -- the paper's approximation ----------------------------------------------------------------

_NOTES = {
    "mask concentration": "E (Σs)²; without the spread of Σs, every mask keeps dp coordinates",
    "(11) |x_s|": "mean norm of dp Gaussian coordinates, by Stirling",
    "(11) x_s·y_s": "root mean square, signed; the rest of (11) uses this value, so the printed dp is a typo",
    "(11) cos θ_s": "to leading order, |x_s| = |y_s| = √(dp)",
    "|ξ| = 1": "mean |cos θ_s|; the paper replaces a random magnitude by its root mean square",
    "one ξ for all masks": "the mean of x_s·y_s = Σ s_i x_i y_i over masks is p x·y, smaller by √p than "
    "the value substituted: a masked pair is given the sign of the whole pair",
    "(11) sin θ_s": "series of √(1 − cos²)",
    "(11) θ_s": "series of arccos",
    "(17)": "no term 1/(dp): +1/2 from J_1 and −1/2 from the two norms cancel",
    "(18)": "E|x_s|² = dp, so the norms add nothing; the last term has 2/3, not 1/2",
    "(18) with θ_s cut": "the 1/2 results from (11), whose θ_s omits the cubic term",
    "(19)": "σ² times (17) has no term 1/(2dp)",
    "(19) with |x_s| = √(dp)": "1/(2dp) is that of J_1 alone, without the −1/(4dp) of either norm",
    "(20)": "σ⁴ times (18): again 2/3, not 1/2",
    "(21)": "θ = 0 and E|x_s|² = dp",
    "(22)": "θ = 0 and E|x_s|⁴ = dp (dp + 2), for a mask that keeps dp coordinates",
    "(22) over all masks": "2 becomes 3 − p, as the number of kept coordinates varies",
    "(23) = (4), bias": "leading order in 1/√d",
    "(23) = (4), variance": "leading order in 1/√d; with the bias this is (23)",
    "(23), dropped from the bias": "next term, if (19) is taken as printed",
    "(23), dropped from the variance": "next term, smaller than the one kept by 1/√(dp)",
    "(24)": "from (21) and (22); there is no bias",
    "(24) over all masks": "over Gaussian inputs and Bernoulli masks, nothing neglected",
    "(25) for small √p": "left side of the stationarity p²/(1 − √p) = m/(4d(1 − 1/π²)) of (4)",
    "(25)": "root of that for small √p; the factor 1/√(1 − 1/π²) = 1.055 is dropped",
    "covariance of masked products": "of any combination of |x_s|², |y_s|², x_s·y_s over masks, d = 2",
    "bias of (23)": "for independent Gaussian inputs and large d, B_1 = 0: the terms of Σx⁴ and of Σx²y² "
    "cancel; the printed bias comes of the one sign for all masks",
    "growth of (20)": "K̃_2 less its value at p = 1, for the same inputs, without terms in ξ; 3/4 is 1/2 "
    "from the inputs' norms and angle and 1/4 from the number of kept coordinates",
    "p* when d grows": "by a factor t; inner products and moments grow with d, B_1 does not",
    "p* when m grows": "by a factor t",
}


def _step(name: str, derived: sp.Expr, printed: sp.Expr, kind: Kind) -> Step:
    return Step(name, derived, printed, kind, _NOTES[name])


def _series(expression: sp.Expr, order: int) -> sp.Expr:
    """Expand in ε = 1/√(dp) through the given power, reduce by ξ² = 1, and put √(dp) back."""
    expanded = sp.expand(sp.series(expression, _eps, 0, order + 1).removeO())
    return sp.expand(sp.rem(expanded, xi**2 - 1, xi)).subs(_eps, 1 / sp.sqrt(d * p))


@cache
def norm_moment(order: int) -> sp.Expr:
    """E|x|ˡ/kˡᐟ² of k standard Gaussian coordinates, in ε = 1/√k, by Stirling's series to ε⁴.

    References:
        G21, footnote 4.

    Examples:
        >>> norm_moment(1), norm_moment(2), norm_moment(4)
        (epsilon**4/32 - epsilon**2/4 + 1, 1, 2*epsilon**2 + 1)
    """
    z = sp.Symbol("z", positive=True)  # 1/k
    logs = [sp.series(sp.loggamma(g / (2 * z)), z, 0, 3).removeO() for g in (1, 1 + order * z)]
    ratio = sp.expand_log(logs[1] - logs[0] + sp.Rational(order, 2) * sp.log(2 * z))
    return sp.series(sp.exp(sp.expand(ratio)), z, 0, 3).removeO().subs(z, _eps**2)


def _gaussian_mean(function: sp.Expr, z: sp.Symbol) -> sp.Expr:
    return sp.integrate(function * sp.exp(-(z**2) / 2) / sp.sqrt(2 * sp.pi), (z, -sp.oo, sp.oo))


def paper_steps() -> list[Step]:
    """(11) and (17)-(25) re-derived by series in 1/√(dp), each beside the printed one.

    A step starts from what was derived before, not from what was printed, under the paper's own
    assumptions: Gaussian inputs, Σs = dp kept coordinates, cos θ_s = ξ/√(dp). The steps of kind
    `"heuristic"` say what these cost.

    References:
        G21, Appendix F.1.

    Examples:
        >>> [step.name for step in paper_steps() if step.kind == "differs"]
        ['(11) x_s·y_s', '(18)', '(19)', '(20)']
    """
    return _angle_steps() + _kernel_steps() + _distance_steps()


def _angle_steps() -> list[Step]:
    z, root = sp.Symbol("z", real=True), sp.sqrt(d * p)
    norm = root * _series(norm_moment(1), 2)
    inner = xi * sp.sqrt(over_pairs(_gaussian_mean(z**2, z) ** 2, sp.S.Zero, d * p))
    magnitude = _series(_gaussian_mean(sp.Abs(z), z) * _eps / norm_moment(1), 1)
    whole = xi * sp.sqrt(d)  # x·y, by the same rule at p = 1
    return [
        _step("mask concentration", over_pairs(p, p**2, d), (d * p) ** 2, "heuristic"),
        _step("(11) |x_s|", norm, root * (1 - 1 / (4 * d * p)), "exact"),
        _step("(11) x_s·y_s", inner, d * p, "differs"),
        _step("(11) cos θ_s", inner / root**2, xi / root, "exact"),
        _step("|ξ| = 1", magnitude, 1 / root, "heuristic"),
        _step("one ξ for all masks", p * whole, xi * root, "heuristic"),
        _step("(11) sin θ_s", _series(sp.sqrt(1 - (xi * _eps) ** 2), 3), 1 - 1 / (2 * d * p), "exact"),
        _step("(11) θ_s", _series(sp.acos(xi * _eps), 2), sp.pi / 2 - xi / root, "exact"),
    ]


@cache
def _masked_kernel(order: int) -> sp.Expr:
    """K_l(x_s, y_s) to the order that (17) and (18) print: ε² for l = 1, ε³ for l = 2."""
    bracket = norm_moment(order) ** 2 * J(order, sp.acos(xi * _eps))
    return (d * p) ** order / (2 * sp.pi) * _series(bracket, order + 1)


def _kernel_steps() -> list[Step]:
    z, root, half = sp.Symbol("z", real=True), sp.sqrt(d * p), sp.pi / 2
    bracket = half + 4 * xi / root + sp.pi / root**2 + xi / (2 * root**3)
    print_17 = d * p / (2 * sp.pi) * (1 + sp.pi * xi / (2 * root))
    print_18 = (d * p) ** 2 / (2 * sp.pi) * bracket
    print_19 = d / (2 * sp.pi) * (1 + sp.pi * xi / (2 * root) + 1 / (2 * d * p))
    print_20 = d**2 / (2 * sp.pi) * bracket
    cut = {  # (11) as printed, in J_2
        sp.sin(theta): 1 - _eps**2 / 2,
        sp.cos(theta): xi * _eps,
        theta: half - xi * _eps,
    }
    cut_18 = (d * p) ** 2 / (2 * sp.pi) * _series(J(2).subs(cut, simultaneous=True), 3)
    alone_19 = d / (2 * sp.pi) * _series(J(1, sp.acos(xi * _eps)), 2)
    diagonal = [
        d**k / (2 * sp.pi) * _series(norm_moment(2 * k), 2) * J(k, sp.S.Zero) for k in (1, 2)
    ]  # |x_s|^(2l) J_l(0), over inputs with dp coordinates
    fourth_norm = over_pairs(p * _gaussian_mean(z**4, z), p**2, d)  # E|x_s|⁴, masks and inputs
    return [
        _step("(17)", _masked_kernel(1), print_17, "exact"),
        _step("(18)", _masked_kernel(2), print_18, "differs"),
        _step("(18) with θ_s cut", cut_18, print_18, "exact"),
        _step("(19)", _masked_kernel(1) / p, print_19, "differs"),
        _step("(19) with |x_s| = √(dp)", alone_19, print_19, "exact"),
        _step("(20)", _masked_kernel(2) / p**2, print_20, "differs"),
        _step("(21)", diagonal[0], d / 2, "exact"),
        _step("(22)", diagonal[1], sp.Rational(3, 2) * d**2 * (1 + 2 / (d * p)), "exact"),
        _step("(22) over all masks", K(2, 1, 1, 1) * fourth_norm / p**2, diagonal[1], "heuristic"),
    ]


@cache
def paper_distance() -> sp.Expr:
    """The paper's approximate distance (4) = (23), as printed."""
    return ((1 / sp.sqrt(p) - 1) ** 2 / 4 + d / n * (1 - 1 / sp.pi**2)) / (4 * d)


def _distance_steps() -> list[Step]:
    t, z = sp.Symbol("t", positive=True), sp.Symbol("z", real=True)  # t = 1/sqrt(d)
    steps = {step.name: step for step in _kernel_steps()}
    first, print_19, second = steps["(19)"].derived, steps["(19)"].printed, steps["(20)"].derived
    bias, print_bias, variance = (
        sp.expand(sp.rem(sp.expand(part.subs(d, 1 / t**2)), xi**2 - 1, xi))
        for part in (
            (first - first.subs(p, 1)) ** 2 / d**2,
            (print_19 - print_19.subs(p, 1)) ** 2 / d**2,
            (second - first**2) / (d**2 * n),
        )
    )
    print_4, zero = paper_distance(), sp.S.Zero
    diagonal = (steps["(22)"].derived - steps["(21)"].derived ** 2) / (d**2 * n)
    square = K(1, 1, 1, 1) ** 2 * over_pairs(_gaussian_mean(z**4, z), sp.S.One, d)  # E K_1²
    all_masks = (steps["(22) over all masks"].derived - square) / (d**2 * n)
    print_24 = (sp.Rational(5, 4) + 3 / (d * p)) / n
    return [
        _step("(23) = (4), bias", bias.coeff(t, 2) / d, sp.limit(print_4, n, sp.oo), "exact"),
        _step("(23) = (4), variance", variance.coeff(t, 0), print_4.subs(p, 1), "exact"),
        _step("(23), dropped from the bias", print_bias.coeff(t, 3) / sp.sqrt(d) ** 3, zero, "heuristic"),
        _step("(23), dropped from the variance", variance.coeff(t, 1) / sp.sqrt(d), zero, "heuristic"),
        _step("(24)", diagonal, print_24, "exact"),
        _step("(24) over all masks", all_masks, print_24, "heuristic"),
        _step("(25) for small √p", paper_stationarity().lhs, p**2, "heuristic"),
        _step("(25)", paper_minimiser(), sp.sqrt(m / (4 * d)), "heuristic"),
    ]


@cache
def paper_stationarity() -> sp.Equality:
    """Where (4) is stationary in p at a fixed number of weights, n = m/p.

    Examples:
        >>> paper_stationarity()
        Eq(p**2/(1 - sqrt(p)), m/(4*d*(1 - 1/pi**2)))
    """
    (balanced,) = sp.solve(sp.diff(paper_distance().subs(n, m / p), p), m)
    scale = sp.factor(sp.limit(balanced / p**2, p, 0))
    tidy = 4 * d * (1 - 1 / sp.pi**2)
    assert sp.simplify(scale - tidy) == 0
    return sp.Eq(p**2 / sp.expand(sp.simplify(scale * p**2 / balanced)), m / tidy)


@cache
def paper_minimiser() -> sp.Expr:
    """Root of (4)'s stationarity to leading order in √p; (25) prints √(m/4d).

    Examples:
        >>> sp.simplify(paper_minimiser() ** 2 * (1 - 1 / sp.pi**2))
        m/(4*d)
    """
    root = sp.Symbol("root", positive=True)  # sqrt(p)
    leading = sp.series(paper_stationarity().lhs.subs(p, root**2), root, 0, 5).removeO()
    (found,) = sp.solve(leading.subs(root, sp.sqrt(p)) - paper_stationarity().rhs, p)
    return found


# -- the correction ---------------------------------------------------------------------------


@cache
def delta_correction(order: int) -> sp.Expr:
    """B_l with K̃_l,p = K_l + B_l (1 − p)/p + …: half the trace of K_l's Hessian times the moments.

    Σ s_i (x_i², y_i², x_i y_i)/p over masks has mean (a, b, c) and covariance (1 − p)/p times
    `FOURTH_MOMENTS`; K_l of the three is expanded to second order about the mean. What is left out
    is smaller by another factor of the order of 1/(dp). The sign of x·y needs no assumption.

    Examples:
        >>> delta_correction(1).subs({S40: 3 * d, S04: 3 * d, S22: d, a: d, b: d, c: 0})
        0
    """
    curvature = sp.hessian(K(order), (a, b, c))
    phi = sp.Symbol("phi", positive=True)  # the angle pi - acos(...), kept whole
    trace = (curvature * FOURTH_MOMENTS).trace() / 2
    parts = sp.expand(trace.subs(sp.acos(c / (sp.sqrt(a) * sp.sqrt(b))), sp.pi - phi))
    collected = sp.collect(parts, phi, evaluate=False)
    tidy = sum(power * sp.factor(sp.radsimp(sp.simplify(part))) for power, part in collected.items())
    return tidy.subs(phi, sp.pi - sp.acos(c / (sp.sqrt(a) * sp.sqrt(b))))


@cache
def corrected_distance() -> sp.Expr:
    """Theorem 1 with K̃_l = K_l + B_l (1 − p)/p at n = m/p, the variance to first order in B.

    Examples:
        >>> corrected_distance().subs(p, 1)
        (-K1**2 + K2)/(d**2*m)
    """
    odds, small = (1 - p) / p, sp.Symbol("small")
    first, second = K1 + small * B1, K2 + small * B2
    bias = (first - K1) ** 2 / d**2
    variance = sp.series(second - first**2, small, 0, 2).removeO() * p / (m * d**2)
    return (bias + variance).subs(small, odds)


@cache
def corrected_minimiser() -> sp.Expr:
    """Stationary connectivity of the corrected distance for small p, B_l small beside K_l.

    Examples:
        >>> corrected_minimiser()
        2**(1/3)*m**(1/3)*Abs(B1)**(2/3)/(-K1**2 + K2)**(1/3)
    """
    small, spread, size = sp.symbols("small V B", positive=True)  # V = K2 - K1², B = |B1|
    marked = sp.expand(corrected_distance().subs({B1: small * size, B2: small * B2, K2: spread + K1**2}))
    leading = marked.coeff(small, 0) + marked.coeff(small, 2)  # of the variance, of the bias
    (balanced,) = sp.solve(sp.diff(leading, p), m)
    (found,) = sp.solve(p**3 * sp.limit(balanced / p**3, p, 0) - m, p)
    return found.subs({spread: K2 - K1**2, size: sp.Abs(B1)})


def correction_steps() -> list[Step]:
    """What the correction rests on, and where it leaves the paper's (20), (23) and (25).

    Examples:
        >>> [step.name for step in correction_steps() if step.kind == "exact"]
        ['covariance of masked products', 'order 1 is homogeneous', 'order 2 is homogeneous']
    """
    t = sp.Symbol("t", positive=True)
    x, y, along = sp.symbols("x1:3"), sp.symbols("y1:3"), sp.Matrix(sp.symbols("g1:4"))
    vectors = [sp.Matrix([u**2, v**2, u * v]) for u, v in zip(x, y, strict=True)]
    values = [
        (p ** sum(s) * (1 - p) ** (2 - sum(s)), sum(s[i] * along.dot(vectors[i]) for i in (0, 1)) / p)
        for s in product((0, 1), repeat=2)
    ]
    covariance = sum(w * q**2 for w, q in values) - sum(w * q for w, q in values) ** 2
    powers = {S40: (4, 0), S04: (0, 4), S22: (2, 2), S31: (3, 1), S13: (1, 3)}
    sums = {name: sum(u**i * v**j for u, v in zip(x, y, strict=True)) for name, (i, j) in powers.items()}
    moments = along.dot(FOURTH_MOMENTS * along).subs(sums)
    steps = [_step("covariance of masked products", covariance, (1 - p) / p * moments, "exact")]
    for order in (1, 2):
        scaled = K(order, t * a, t * b, t * c)
        note = "so K_l(x_s, y_s)/pˡ is K_l of the three products over p, whose means are a, b, c"
        steps.append(Step(f"order {order} is homogeneous", scaled, t**order * K(order), "exact", note))

    odds, gauss = (1 - p) / p, gaussian_inputs()
    bias = (odds * delta_correction(1).subs(gauss)) ** 2 / d**2
    growth = odds * delta_correction(2).subs(gauss)
    print_20 = d**2 / (2 * sp.pi) * (sp.pi / 2 + sp.pi / (d * p))
    like = {q: t * q for q in (S40, S04, S22, S31, S13, a, b, c)}
    ours = corrected_minimiser().subs({B1: delta_correction(1), K1: K(1), K2: K(2)})
    wider = sp.simplify(ours.subs(like, simultaneous=True) / ours)
    paper, heavier = paper_minimiser(), sp.simplify(ours.subs(m, t * m) / ours)
    return [
        *steps,
        _step("bias of (23)", bias, sp.limit(paper_distance(), n, sp.oo), "differs"),
        _step("growth of (20)", growth, print_20 - print_20.subs(p, 1), "differs"),
        _step("p* when d grows", wider, sp.simplify(paper.subs(d, t * d) / paper), "differs"),
        _step("p* when m grows", heavier, sp.simplify(paper.subs(m, t * m) / paper), "differs"),
    ]


def gaussian_inputs() -> dict[sp.Symbol, sp.Expr]:
    """Inner products and fourth moments of two independent N(0, 1)ᵈ inputs, to leading order in d."""
    z = sp.Symbol("z", real=True)
    first, second, third, fourth = (_gaussian_mean(z**k, z) for k in (1, 2, 3, 4))
    products = {a: second, b: second, c: first**2}
    moments = {S40: fourth, S04: fourth, S22: second**2, S31: third * first, S13: first * third}
    return {name: d * mean for name, mean in (products | moments).items()}
