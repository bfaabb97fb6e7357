"""Static random masks: how many weights each layer keeps, which ones, and counting them.

A mask is bool, True = weight present; it is drawn once and kept. A sparse layer stores the values
of its present weights as one vector, of which its `weight` is computed. A removed weight is
therefore not a parameter that happens to be 0: it does not exist, and no optimiser, weight decay,
copy or state dict can bring it back. Parameters, gradients and optimiser state take memory in
proportion to the weights present. Code that tells weights from biases by `parameter.ndim > 1` takes
this vector for a bias; [`decay_groups`][wsnlib.masks.decay_groups] gives an optimiser both kinds apart.

Weights are the entries of the `weight` of Linear and Conv1d, Conv2d and Conv3d layers. Biases and
normalisation layers are neither counted nor masked (G21, Appendix A).
"""

from wsnlib.masks.allocation import Rule as Rule
from wsnlib.masks.allocation import allocate, whole_kernels
from wsnlib.masks.conversion import check_own as check_own
from wsnlib.masks.conversion import densify, sparsify
from wsnlib.masks.counting import LAYER_TYPES, connectivity, decay_groups, density, layer_masks, num_weights
from wsnlib.masks.counting import names_of as names_of
from wsnlib.masks.counting import static_mask as static_mask
from wsnlib.masks.counting import weight_layers as weight_layers
from wsnlib.masks.static import Pattern as Pattern
from wsnlib.masks.static import StaticMask, draw_mask
from wsnlib.masks.static import check_generator as check_generator
from wsnlib.masks.static import reattach_mask as reattach_mask

__all__ = [
    "LAYER_TYPES",
    "StaticMask",
    "allocate",
    "connectivity",
    "decay_groups",
    "densify",
    "density",
    "draw_mask",
    "layer_masks",
    "num_weights",
    "sparsify",
    "whole_kernels",
]
