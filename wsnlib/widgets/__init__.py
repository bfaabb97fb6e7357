"""Explorers: some live in a static page, where nothing but a browser is needed, some need a kernel."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
