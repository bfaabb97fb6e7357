"""The theory of sparse kernels in sympy: G21's integrals, Theorem 1, (11)-(25), and a correction.

Nothing here is typed in and compared with itself: each function integrates, expands or solves and
puts the result beside what the paper prints, as a [`Step`][wsnlib.kernels.symbolic.integrals.Step]. The
paper's argument is followed under its own assumptions first; the heuristic ones are steps of their
own, with what they neglect.

With connectivity p, the weights have variance σ² = 1/p. x and y enter the kernels through
a = |x|², b = |y|², c = x·y only, and x_s, y_s are the inputs with the removed coordinates 0.

References:
    G21, Section 3 and Appendix F. Cho and Saul, *Kernel methods for deep learning*, NeurIPS 2009.
"""

from wsnlib.kernels.symbolic.expansions import (
    corrected_distance,
    corrected_minimiser,
    correction_steps,
    delta_correction,
    gaussian_inputs,
    norm_moment,
    paper_distance,
    paper_minimiser,
    paper_stationarity,
    paper_steps,
)  # fmt: skip
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
    ArcCosine,
    J,
    K,
    Kind,
    Step,
    a,
    arc_cosine_integral,
    b,
    c,
    d,
    latex,
    m,
    mask_average,
    n,
    over_pairs,
    p,
    radial_integral,
    sigma,
    steps_table,
    theorem_1_steps,
    theta,
    xi,
)  # fmt: skip

__all__ = [
    "B1",
    "B2",
    "FOURTH_MOMENTS",
    "K1",
    "K2",
    "S04",
    "S13",
    "S22",
    "S31",
    "S40",
    "ArcCosine",
    "J",
    "K",
    "Kind",
    "Step",
    "a",
    "arc_cosine_integral",
    "b",
    "c",
    "corrected_distance",
    "corrected_minimiser",
    "correction_steps",
    "d",
    "delta_correction",
    "gaussian_inputs",
    "latex",
    "m",
    "mask_average",
    "n",
    "norm_moment",
    "over_pairs",
    "p",
    "paper_distance",
    "paper_minimiser",
    "paper_stationarity",
    "paper_steps",
    "radial_integral",
    "sigma",
    "steps_table",
    "theorem_1_steps",
    "theta",
    "xi",
]  # fmt: skip
