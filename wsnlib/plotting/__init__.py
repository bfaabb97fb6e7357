"""Figures: finished numbers and axes in, axes out. Knows neither torch nor files."""

from wsnlib.plotting.allocation import plot_allocation, plot_sparsity
from wsnlib.plotting.curves import (
    KERNEL_STYLES,
    METHOD_STYLES,
    log_axis,
    plot_connectivity_grid,
    plot_curves,
    plot_distance,
    plot_families,
    plot_mask,
    plot_widening,
    set_style,
    width_color,
)
from wsnlib.plotting.drawn import drawn_data
from wsnlib.plotting.errors import (
    plot_accuracy_scatter,
    plot_class_differences,
    plot_example,
    plot_positions,
    plot_scatter_matrix,
)
from wsnlib.plotting.layers import RESIDUAL_STYLES, plot_by_layer, plot_cka
from wsnlib.plotting.tensors import WeightTensor, plot_weight_chains

__all__ = [
    "KERNEL_STYLES",
    "METHOD_STYLES",
    "RESIDUAL_STYLES",
    "WeightTensor",
    "drawn_data",
    "log_axis",
    "plot_accuracy_scatter",
    "plot_allocation",
    "plot_by_layer",
    "plot_cka",
    "plot_class_differences",
    "plot_connectivity_grid",
    "plot_curves",
    "plot_distance",
    "plot_example",
    "plot_families",
    "plot_mask",
    "plot_positions",
    "plot_scatter_matrix",
    "plot_sparsity",
    "plot_weight_chains",
    "plot_widening",
    "set_style",
    "width_color",
]
