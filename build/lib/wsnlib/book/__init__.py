"""The book's own machinery: one module a chapter, and what chapters share, in `engine`.

A chapter's notebook imports `wsnlib`, this package and its own module, nothing deeper. The library knows
nothing of it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
