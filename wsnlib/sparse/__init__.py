"""Sparse layers whose compute follows the weights present, not the width.

A masked layer multiplies by a dense weight that is mostly zeros; a sparse one reads only the weights that
are there, forward and backward. Both hold the same parameters under the same names: a state dict of one
loads into the other, and an optimiser goes on across the change.
"""

from wsnlib.sparse.convert import to_dense, to_sparse
from wsnlib.sparse.costs import LayerCost, estimated_costs
from wsnlib.sparse.layers import SparseConv2d, SparseLayer, SparseLinear

__all__ = [
    "LayerCost",
    "SparseConv2d",
    "SparseLayer",
    "SparseLinear",
    "estimated_costs",
    "to_dense",
    "to_sparse",
]
