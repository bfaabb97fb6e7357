"""How alike two representations are: HSIC, linear CKA, blocks in a matrix of it. Matrices in, numbers out."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
