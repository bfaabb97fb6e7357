"""How alike two representations are: HSIC, linear CKA, blocks in a matrix of it. Matrices in, numbers out."""

from wsnlib.similarity.blocks import Block, BlockStructure, block_strength, block_structure
from wsnlib.similarity.hsic import (
    Gram,
    centred,
    cka,
    full_precision,
    hsic0,
    hsic1,
    read_centred_gram,
    read_gram,
    u_centred,
)
from wsnlib.similarity.minibatch import CKAMatrix, MinibatchCKA, Weighting, full_cka

__all__ = [
    "Block",
    "BlockStructure",
    "CKAMatrix",
    "Gram",
    "MinibatchCKA",
    "Weighting",
    "block_strength",
    "block_structure",
    "centred",
    "cka",
    "full_cka",
    "full_precision",
    "hsic0",
    "hsic1",
    "read_centred_gram",
    "read_gram",
    "u_centred",
]
