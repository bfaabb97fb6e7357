"""How alike two representations are: HSIC, linear CKA, blocks in a matrix of it. Matrices in, numbers out."""

from wsnlib.similarity import constructed
from wsnlib.similarity.blocks import Block, BlockStructure, block_strength, block_structure
from wsnlib.similarity.hsic import (
    Decomposition,
    Gram,
    bures_of_grams,
    centred,
    cka,
    cka_of_grams,
    cka_of_units,
    decompose,
    first_component,
    full_precision,
    hsic0,
    hsic1,
    read_gram,
    u_centred,
)
from wsnlib.similarity.minibatch import CKAMatrix, Difference, MinibatchCKA, Weighting

__all__ = [
    "Block",
    "BlockStructure",
    "CKAMatrix",
    "Decomposition",
    "Difference",
    "Gram",
    "MinibatchCKA",
    "Weighting",
    "block_strength",
    "block_structure",
    "bures_of_grams",
    "centred",
    "cka",
    "cka_of_grams",
    "cka_of_units",
    "constructed",
    "decompose",
    "first_component",
    "full_precision",
    "hsic0",
    "hsic1",
    "read_gram",
    "u_centred",
]
