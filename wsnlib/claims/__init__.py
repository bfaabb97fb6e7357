"""What the papers report, number by number, and the verdict on ours.

Every claim says in which range a measured quantity must lie for the claim to hold. One rule gives
every verdict: the claim is reproduced if the whole 95 % interval of our estimate lies in the
range, partly if only some of it does, and not reproduced if none of it does. The ranges were
chosen from the papers' text before anything was measured.
"""

from wsnlib.claims.bottlenecks import BOTTLENECKS
from wsnlib.claims.cka_blocks import CKA_BLOCKS
from wsnlib.claims.exhibits import CHAPTER_CLAIMS, EXHIBITS, Exhibit
from wsnlib.claims.further import FURTHER
from wsnlib.claims.gp_kernel import GP_KERNEL
from wsnlib.claims.printed import BASE_WEIGHTS, PRINTED, TABLE_1_MILLIONS
from wsnlib.claims.resnet_sweep import FIGURE_10, RESNET_SWEEP, TABLE_1
from wsnlib.claims.rule import (
    Claim,
    Estimate,
    Verdict,
    claims_table,
    correlation,
    estimate,
    held_out_best,
    holds_in,
    ratio,
    shown,
    spread,
    verdict,
    why,
)
from wsnlib.claims.sparse_mlp import SPARSE_MLP
from wsnlib.claims.wide_vs_deep_errors import (
    FIGURE_F2,
    FIGURE_F3,
    TABLE_B1,
    TABLE_F1,
    TABLE_F2,
    WIDE_VS_DEEP_ERRORS,
)

__all__ = [
    "BASE_WEIGHTS",
    "BOTTLENECKS",
    "CHAPTER_CLAIMS",
    "CKA_BLOCKS",
    "EXHIBITS",
    "FIGURE_10",
    "FIGURE_F2",
    "FIGURE_F3",
    "FURTHER",
    "GP_KERNEL",
    "PRINTED",
    "RESNET_SWEEP",
    "SPARSE_MLP",
    "TABLE_1",
    "TABLE_1_MILLIONS",
    "TABLE_B1",
    "TABLE_F1",
    "TABLE_F2",
    "WIDE_VS_DEEP_ERRORS",
    "Claim",
    "Estimate",
    "Exhibit",
    "Verdict",
    "claims_table",
    "correlation",
    "estimate",
    "held_out_best",
    "holds_in",
    "ratio",
    "shown",
    "spread",
    "verdict",
    "why",
]
