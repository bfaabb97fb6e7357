"""What layers of any `nn.Module` compute: read through hooks, compared, decomposed, deleted."""

from wsnlib.representations.cka import cka_matrices, cka_matrix, cka_sums
from wsnlib.representations.decomposed import DecomposedLayers, decompose_layers, dominance_of
from wsnlib.representations.deleted import logits_without_ends
from wsnlib.representations.reading import layer_names, read, read_representations

__all__ = [
    "DecomposedLayers",
    "cka_matrices",
    "cka_matrix",
    "cka_sums",
    "decompose_layers",
    "dominance_of",
    "layer_names",
    "logits_without_ends",
    "read",
    "read_representations",
]
