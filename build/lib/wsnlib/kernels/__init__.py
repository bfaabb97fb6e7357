"""Gaussian-process kernels of sparse finite and of infinite networks; needs no torch.

Names are loaded when they are first used, so that the numeric half does not import sympy.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
