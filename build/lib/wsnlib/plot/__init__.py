"""Figures: finished numbers and axes in, axes out. Knows neither torch nor files."""

from wsnlib.plot._allocation import allocation, sparsity
from wsnlib.plot._curves import (
    KERNEL_STYLES,
    METHOD_STYLES,
    connectivity_grid,
    curves,
    distance,
    families,
    log_axis,
    mask,
    set_style,
    widening,
    width_color,
)
from wsnlib.plot._drawn import drawn_data
from wsnlib.plot._errors import (
    accuracy_scatter,
    class_differences,
    example,
    positions,
    scatter_matrix,
)
from wsnlib.plot._layers import RESIDUAL_STYLES, by_layer, cka
from wsnlib.plot._tensors import WeightTensor, weight_chains

__all__ = [
    "KERNEL_STYLES",
    "METHOD_STYLES",
    "RESIDUAL_STYLES",
    "WeightTensor",
    "accuracy_scatter",
    "allocation",
    "by_layer",
    "cka",
    "class_differences",
    "connectivity_grid",
    "curves",
    "distance",
    "drawn_data",
    "example",
    "families",
    "log_axis",
    "mask",
    "positions",
    "scatter_matrix",
    "set_style",
    "sparsity",
    "weight_chains",
    "widening",
    "width_color",
]
