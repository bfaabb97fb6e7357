"""Error statistics over populations of networks: arrays of predicted classes in, numbers out; no torch.

Names are loaded when they are first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
