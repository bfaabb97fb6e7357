"""What layers of any `nn.Module` compute: read through hooks, compared, decomposed, deleted."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
