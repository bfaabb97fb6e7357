"""The book's own machinery: one module a chapter, what its page says in `words`, what all share in `engine`.

A chapter's notebook imports `wsnlib`, this package and its own two modules, nothing deeper. The library knows
nothing of it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
