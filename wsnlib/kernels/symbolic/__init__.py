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

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
