"""wsnlib: wide, sparse nets. What does width do at a fixed number of weights?

Names are loaded when they are first used, so that `import wsnlib` imports neither torch nor pandas.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
