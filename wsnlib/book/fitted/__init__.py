"""Block structure in networks that fit their data: what the chapter `cka_blocks` will be made of."""

from wsnlib.book.fitted.plan import Comparison, Network, Parameters, Runs, stages
from wsnlib.book.fitted.results import Measured, Results, estimates

__all__ = ["Comparison", "Measured", "Network", "Parameters", "Results", "Runs", "estimates", "stages"]
