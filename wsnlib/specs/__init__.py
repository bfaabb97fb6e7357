"""What an experiment is: frozen dataclasses, nested by composition, and their key.

Two specs with equal content have equal keys, on every machine and in every version of Python:
the key is a hash of canonical JSON that holds every field (defaults included), the class names
and [`SPEC_VERSION`][wsnlib.specs.experiments.SPEC_VERSION]. Device, paths and worker counts are not part of
a spec. Its modules need the standard library only; names are loaded when they are first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
