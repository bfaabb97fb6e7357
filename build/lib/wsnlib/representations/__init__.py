"""What layers of any `nn.Module` compute: read through hooks, compared, decomposed, deleted."""

from wsnlib.representations.cka import cka_matrices, cka_matrix, cka_sums
from wsnlib.representations.components import (
    Components,
    activation_sparsity,
    deleted_blocks,
    deletion_order,
    first_components,
)
from wsnlib.representations.reading import layer_names, read, read_representations

__all__ = [
    "Components",
    "activation_sparsity",
    "cka_matrices",
    "cka_matrix",
    "cka_sums",
    "deleted_blocks",
    "deletion_order",
    "first_components",
    "layer_names",
    "read",
    "read_representations",
]
