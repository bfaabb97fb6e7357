"""Steps of a derivation, the arc-cosine integrals, and the proof of Theorem 1, in sympy (G21, Section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Literal, TypeAlias

import numpy as np
import sympy as sp
from sympy.simplify.fu import TR8

a, b, d, m, n, p, sigma = sp.symbols("a b d m n p sigma", positive=True)
"""|x|², |y|², input dimension, base width m = n p, width, connectivity, scale of a weight."""
c, theta = sp.symbols("c theta", real=True)
"""x·y and the angle of x and y."""
xi = sp.Symbol("xi", real=True)
"""The random sign of (11), ξ² = 1."""
S40, S04, S22 = sp.symbols("S40 S04 S22", positive=True)
S31, S13 = sp.symbols("S31 S13", real=True)
FOURTH_MOMENTS = sp.Matrix([[S40, S22, S31], [S22, S04, S13], [S31, S13, S22]])
"""Σ v vᵀ over coordinates, v = (x², y², xy), where S31 is Σ x³y, and so on."""

K1, K2 = sp.symbols("K1 K2", positive=True)
B1, B2 = sp.symbols("B1 B2", real=True)
"""The dense kernels of a pair, and their first corrections, where they are not written out."""


Kind: TypeAlias = Literal["exact", "heuristic", "differs"]


@dataclass(frozen=True)
class Step:
    """One step of a derivation: what sympy derives beside what the paper prints.

    Attributes:
        name: The paper's equation number where it has one, and what the step says.
        derived: What follows from the steps before.
        printed: What the paper (or, outside the paper, the text) puts there.
        kind: `"exact"`: the two are equal, for a series to the order printed. `"differs"`: they are
            not, at an order that is printed. `"heuristic"`: the paper replaces `derived` by
            `printed`, knowing that it is not equal.
        note: What was used, or what is lost.
    """

    name: str
    derived: sp.Expr
    printed: sp.Expr
    kind: Kind
    note: str = ""

    @property
    def difference(self) -> sp.Expr:
        """derived − printed, simplified; 0 if and only if the step is exact."""
        return sp.simplify(sp.expand(self.derived - self.printed))

    @property
    def holds(self) -> bool:
        """Whether sympy finds derived − printed to be 0."""
        return bool(self.difference == 0)


LONGEST = 240
"""Characters of LaTeX that still fit into a cell of a table."""


def steps_table(steps: Sequence[Step]) -> str:
    """Steps as a Markdown table with LaTeX formulas; a formula too long for a page is only named so.

    Examples:
        >>> print(steps_table([Step("half", p / 2, p / 2, "exact", "by hand")]))
        | step | derived | in the paper |
        |---|---|---|
        | **half**, *exact*: by hand | $\\frac{p}{2}$ | the same |
    """
    rows = ["| step | derived | in the paper |", "|---|---|---|"]
    for step in steps:
        derived, printed = (latex(_shortest(side)) for side in (step.derived, step.printed))
        formulas = [f"${f}$" if len(f) <= LONGEST else "(long)" for f in (derived, printed)]
        if derived == printed:
            formulas[1] = "the same"
        name = step.name.replace("*", r"\*")
        cells = (f"**{name}**, *{step.kind}*: {step.note}", *formulas)
        rows.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(rows)


def _shortest(expression: sp.Expr) -> sp.Expr:
    forms = (expression, sp.factor(expression), sp.expand(expression))
    return min(forms, key=lambda form: len(latex(form)))


def latex(expression: sp.Expr) -> str:
    """LaTeX without vertical bars, which would end a cell of a table.

    Examples:
        >>> latex(sp.Abs(c))
        '\\\\lvert{c}\\\\rvert'
    """
    text = str(sp.latex(expression))
    return text.replace(r"\left|", r"\lvert").replace(r"\right|", r"\rvert")


# -- the integrals ----------------------------------------------------------------------------


@dataclass(frozen=True)
class ArcCosine:
    """J_l and the two integrals whose product it is.

    Attributes:
        order: l.
        radial: ∫₀^∞ r^(2l+1) exp(−r²/2) dr.
        angular: ∫ cosˡα cosˡ(α−θ) dα over the wedge θ − π/2 < α < π/2.
        J: radial · angular = `outside` + (π − θ) · `wedge`.
        outside: Function of sin θ and cos θ.
        wedge: Polynomial in cos θ.
    """

    order: int
    radial: sp.Expr
    angular: sp.Expr
    J: sp.Expr
    outside: sp.Expr
    wedge: sp.Expr


def radial_integral(order: int | sp.Expr, *, scale: sp.Expr = sp.S.One) -> sp.Expr:
    """Radial part ∫₀^∞ r^(2l+1) exp(−r²/2σ²)/σ² dr of a plane Gaussian integral of scale σ.

    Examples:
        >>> radial_integral(3)
        48
        >>> radial_integral(2, scale=sigma)
        8*sigma**4
    """
    r = sp.Symbol("r", positive=True)
    integrand = r ** (2 * order + 1) * sp.exp(-(r**2) / (2 * scale**2)) / scale**2
    return sp.simplify(sp.integrate(integrand, (r, 0, sp.oo)))


@cache
def arc_cosine_integral(order: int) -> ArcCosine:
    """Reduce K_l(x, y) of (3) to |x|ˡ |y|ˡ J_l(θ)/2π, and find J_l by two elementary integrals.

    The integrand depends on w through its projection on the plane of x and y only; the other
    d − 2 coordinates integrate to 1. With x along the first axis and polar coordinates (r, α),
    w·x = r|x| cos α and w·y = r|y| cos(α − θ). Both are positive for θ − π/2 < α < π/2.

    Args:
        order: l, at least 0; 0 to 3 take well under a second.

    Raises:
        ValueError: If `order` is not an integer from 0.

    References:
        G21, (12)-(16).

    Examples:
        >>> found = arc_cosine_integral(1)
        >>> found.radial, found.J
        (2, (pi - theta)*cos(theta) + sin(theta))
    """
    if isinstance(order, bool) or not isinstance(order, int | np.integer) or order < 0:
        raise ValueError(f"order must be an integer ≥ 0, got {order!r}")
    alpha, sine, cosine = sp.symbols("alpha s c", real=True)
    integrand = TR8((sp.cos(alpha) * sp.cos(alpha - theta)) ** order)  # a sum of cosines
    angular = sp.integrate(integrand, (alpha, theta - sp.pi / 2, sp.pi / 2))
    radial = radial_integral(order)

    # J = outside + (pi - theta) wedge, each written with sin(theta) to the first power at most
    J = sp.expand(sp.expand_trig(radial * angular)).subs({sp.sin(theta): sine, sp.cos(theta): cosine})
    wedge = -sp.expand(J).coeff(theta, 1)
    outside = sp.expand(J - (sp.pi - theta) * wedge)
    circle = sine**2 + cosine**2 - 1
    back = {sine: sp.sin(theta), cosine: sp.cos(theta)}
    outside, wedge = (sp.rem(part, circle, sine).subs(back) for part in (outside, wedge))
    return ArcCosine(order, radial, angular, outside + (sp.pi - theta) * wedge, outside, wedge)


def J(order: int, angle: sp.Expr = theta) -> sp.Expr:
    """Arc-cosine function J_l at an angle.

    Examples:
        >>> J(2)
        (pi - theta)*(2*cos(theta)**2 + 1) + 3*sin(theta)*cos(theta)
        >>> J(3, sp.pi / 2)
        4
    """
    return arc_cosine_integral(order).J.subs(theta, angle)


def K(order: int, xx: sp.Expr = a, yy: sp.Expr = b, xy: sp.Expr = c) -> sp.Expr:
    """Kernel K_l as a function of the three inner products |x|², |y|², x·y.

    Examples:
        >>> K(1)
        (c*(pi - acos(c/(sqrt(a)*sqrt(b)))) + sqrt(a*b - c**2))/(2*pi)
        >>> K(2, 3, 3, 3)
        27/2
    """
    found, norms = arc_cosine_integral(order), sp.sqrt(a) * sp.sqrt(b)
    outside, wedge = (sp.expand(norms**order * _by_products(part)) for part in (found.outside, found.wedge))
    kernel = (outside + (sp.pi - sp.acos(c / norms)) * wedge) / (2 * sp.pi)
    return kernel.subs({a: xx, b: yy, c: xy}, simultaneous=True)


def _by_products(expression: sp.Expr) -> sp.Expr:
    """Write θ, sin θ and cos θ in terms of a = |x|², b = |y|², c = x·y."""
    norms = sp.sqrt(a) * sp.sqrt(b)
    sine, cosine = sp.sqrt(a * b - c**2) / norms, c / norms
    values = {sp.sin(theta): sine, sp.cos(theta): cosine, theta: sp.acos(cosine)}
    return sp.expand(sp.expand_trig(expression)).subs(values, simultaneous=True)


# -- Theorem 1 --------------------------------------------------------------------------------


def mask_average(order: int, x: Sequence[sp.Expr], y: Sequence[sp.Expr], density: sp.Expr = p) -> sp.Expr:
    """Sparse kernel K̃_l,p(x, y) of (2): K_l(x_s, y_s)/pˡ averaged over all 2ᵈ masks.

    Args:
        order: l, at least 1.
        x: d coordinates, symbols or exact numbers.
        y: d coordinates.
        density: Probability p that a coordinate is kept.

    Raises:
        ValueError: If x and y differ in length.

    Examples:
        >>> mask_average(1, [2], [3])
        3
        >>> sp.expand(mask_average(2, [1, 1], [1, 1]))
        3 + 3/p
    """
    if len(x) != len(y):
        raise ValueError(f"x and y must have as many coordinates, got {len(x)} and {len(y)}")
    total = sp.S.Zero
    for mask in product((0, 1), repeat=len(x)):
        kept = [(sp.sympify(u), sp.sympify(v)) for u, v, s in zip(x, y, mask, strict=True) if s]
        xx, yy, xy = sum(u**2 for u, _ in kept), sum(v**2 for _, v in kept), sum(u * v for u, v in kept)
        if xx != 0 and yy != 0:
            weight = density ** sum(mask) * (1 - density) ** (len(x) - sum(mask))
            total += weight * K(order, xx, yy, xy)
    return total / density**order


def _spike_and_slab_integral(order: int, x: Sequence[sp.Expr], y: Sequence[sp.Expr]) -> sp.Expr:
    """(5) for d = 2 and positive coordinates: the density multiplied out, each term integrated."""
    (x1, x2), (y1, y2) = x, y
    w, f = sp.Symbol("w", real=True), sp.Function("f")
    assert sp.integrate(sp.DiracDelta(w) * f(w), (w, -sp.oo, sp.oo)) == f(0)  # a spike puts w = 0

    def one(u: sp.Expr, v: sp.Expr) -> sp.Expr:  # only this coordinate is left
        t = sp.Symbol("t", positive=True)  # the weight; a negative one is cut off by both ReLUs
        gauss = sp.exp(-(t**2) / (2 * sigma**2)) / sp.sqrt(2 * sp.pi * sigma**2)
        return sp.integrate(gauss * (t * u) ** order * (t * v) ** order, (t, 0, sp.oo))

    xx, yy, xy = x1**2 + x2**2, y1**2 + y2**2, x1 * y1 + x2 * y2
    angular = sp.expand(sp.sqrt(a * b) ** order * _by_products(arc_cosine_integral(order).angular))
    both = radial_integral(order, scale=sigma) * angular / (2 * sp.pi)
    both = both.subs({a: xx, b: yy, c: xy}, simultaneous=True)
    return p**2 * both + p * (1 - p) * (one(x1, y1) + one(x2, y2))


def theorem_1_steps() -> list[Step]:
    """Theorem 1's proof, every step checked; (6) and (7) written out for d = 2, x and y positive.

    The theorem is exact. It takes the gradient in all n output weights, those removed included:
    with them left out, the mean (8) would be p times as large.

    References:
        G21, Section 3 and (5)-(10).

    Examples:
        >>> all(step.holds for step in theorem_1_steps())
        True
    """
    steps = []

    def exact(name: str, derived: sp.Expr, printed: sp.Expr, note: str) -> None:
        steps.append(Step(name, derived, printed, "exact", note))

    # the kernel of a net, and one neuron's contribution t = [u·x]+ [u·y]+
    v1, v2, tx1, tx2, ty1, ty2 = sp.symbols("v1 v2 t_x1 t_x2 t_y1 t_y2")
    width = sp.Integer(2)
    f_x, f_y = ((v1 * t1 + v2 * t2) / sp.sqrt(width * d) for t1, t2 in ((tx1, tx2), (ty1, ty2)))
    gradient = sum(sp.diff(f_x, v) * sp.diff(f_y, v) for v in (v1, v2))
    neurons = (tx1 * ty1 + tx2 * ty2) / (width * d)
    exact("kernel of a net", gradient, neurons, "n = 2 written out: a mean over neurons, divided by d")
    u, v = sp.symbols("u v", real=True)
    active = (u > 0) & (v > 0)
    neuron, squared = (sp.Piecewise(((u * v) ** k, active), (0, True)) for k in (1, 2))
    note = "u = w·x, v = w·y: the square of one neuron's contribution is the integrand of order 2"
    exact("one neuron, squared", sp.piecewise_fold(neuron**2), squared, note)

    # the expectation over one neuron's weights
    order = sp.Symbol("l", integer=True, nonnegative=True)
    ratio = sp.simplify(radial_integral(order, scale=sigma) / radial_integral(order))
    note = "conditional on a mask; σ enters the radial integral only, here for every order l"
    exact("scale of the weights", ratio, sigma ** (2 * order), note)
    x, y = sp.symbols("x1:3", positive=True), sp.symbols("y1:3", positive=True)
    for k in (1, 2):
        derived = _spike_and_slab_integral(k, x, y).subs(sigma, 1 / sp.sqrt(p))
        note = "each product of spikes and slabs integrated: a mask's probability times σ^(2l) K_l(x_s, y_s)"
        exact(f"(5)-(7), order {k}", derived, mask_average(k, x, y), note)
        exact(f"(7) at p = 1, order {k}", mask_average(k, x, y, sp.S.One), _kernel_of(k, x, y), "dense")

    # mean and variance of the average of n independent neurons, K̃_1 and K̃_2 their moments
    K1p, K2p = sp.symbols(r"\tilde{K}_1 \tilde{K}_2", positive=True)
    mean = sp.summation(K1p, (sp.Symbol("i"), 1, n)) / (n * d)
    square = over_pairs(K2p, K1p**2, n) / (n * d) ** 2
    variance = (K2p - K1p**2) / (d**2 * n)
    exact("(8)", mean, K1p / d, "mean over n neurons; with σ² = 1/p it does not depend on n")
    exact("(9)", square - mean**2, variance, "pairs of equal and of different neurons")
    note = "at p = 1, K̃_l is K_l: the infinite dense kernel is the number K_1/d"
    exact("variance of the infinite kernel", sp.limit(square - mean**2, n, sp.oo), sp.S.Zero, note)
    distance = square - 2 * mean * K1 / d + (K1 / d) ** 2
    note = "E(Θ − Θ∞)² = E Θ² − 2 Θ∞ E Θ + Θ∞²: square of the bias, and variance"
    exact("(10) = (1)", distance, (K1p - K1) ** 2 / d**2 + variance, note)
    return steps


def _kernel_of(order: int, x: Sequence[sp.Expr], y: Sequence[sp.Expr]) -> sp.Expr:
    xy = sum(u * v for u, v in zip(x, y, strict=True))
    return K(order, sum(u**2 for u in x), sum(v**2 for v in y), xy)


def over_pairs(equal: sp.Expr, different: sp.Expr, count: sp.Expr) -> sp.Expr:
    """Sum over all pairs (i, j) of `equal` where i = j and `different` elsewhere."""
    i, j, size = sp.symbols("i j N", integer=True, positive=True)
    diagonal = sp.summation(equal, (i, 1, size))
    return (diagonal + 2 * sp.summation(different, (j, 1, i - 1), (i, 1, size))).subs(size, count)
