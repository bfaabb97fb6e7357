"""What N21 claims of the block structure in the representations of one network and of several."""

from __future__ import annotations

from wsnlib.claims.rule import ABOVE_0, Claim


def _layers(name: str, source: str, statement: str, low: float, high: float, unit: str) -> Claim:
    return Claim(name=name, source=f"N21, {source}", statement=statement, low=low, high=high, unit=unit)


CKA_BLOCKS: dict[str, Claim] = {
    claim.name: claim
    for claim in (
        # The paper gives directions, no numbers. "Dominant" is read as more than half of the variance,
        # "nearly eliminates" as at most a quarter left, "similar" as within 0.1, "closely resembles" as
        # a correlation of at least 0.8.
        _layers(
            "width",
            "Figure 1",
            "Block structure emerges with width.",
            ABOVE_0,
            2,
            "strength, widest − narrowest",
        ),
        _layers(
            "depth",
            "Figure 1",
            "Block structure emerges with depth.",
            ABOVE_0,
            2,
            "strength, deepest − shallowest",
        ),
        _layers(
            "less-data",
            "Figure 2",
            "With less training data it emerges in narrower networks.",
            ABOVE_0,
            2,
            "strength, least − most data",
        ),
        _layers(
            "every-seed",
            "Figure D.1",
            "In a wide network it is there in every training run.",
            1,
            1,
            "share of seeds with a block",
        ),
        _layers(
            "late",
            "Section 4.1",
            "It lies mostly in the last two stages.",
            0.5,
            1,
            "share of the blocks' layers",
        ),
        _layers(
            "no-residuals",
            "Figure C.1",
            "Wide networks without residual connections have it, too.",
            1,
            1,
            "share of seeds with a block",
        ),
        _layers(
            "component",
            "Section 5.1, Figure 3",
            "The first principal component dominates the layers of the block.",
            0.5,
            1,
            "share of variance, mean over the block",
        ),
        _layers(
            "component-kept",
            "Section 5.1, Figure 3",
            "It is preserved throughout the block.",
            0.5,
            1,
            "cos² between the block's layers, mean",
        ),
        _layers(
            "component-removed",
            "Section 5.1, Figures 3 and D.6",
            "Without the first component the block structure is nearly gone.",
            -2,
            0.25,
            "strength without / with the component",
        ),
        _layers(
            "sparsity",
            "Figure D.8",
            "Activations are as sparse in the block as outside.",
            -0.1,
            0.1,
            "share of zeros, inside − outside",
        ),
        _layers(
            "probes",
            "Section 5.2, Figure 4",
            "Linear probes improve less along the middle stage of a network with a block.",
            ABOVE_0,
            100,
            "points of gain, without − with a block",
        ),
        _layers(
            "additions",
            "Section 5.2, Figure 4",
            "Within the block a probe reads more after the residual addition than before.",
            ABOVE_0,
            100,
            "points, after − before",
        ),
        _layers(
            "deletion",
            "Section 5.2, Figure 5",
            "Middle-stage blocks can be deleted at less cost where there is a block structure.",
            ABOVE_0,
            100,
            "points of accuracy lost, without − with a block",
        ),
        _layers(
            "resembles",
            "Section 6, Figure 6",
            "Without a block, CKA across seeds closely resembles CKA within one network.",
            0.8,
            1,
            "correlation of the two matrices",
        ),
        _layers(
            "unique",
            "Section 6, Figure 6",
            "The block of one network is not that of another seed.",
            ABOVE_0,
            2,
            "CKA in the block, within − across seeds",
        ),
        _layers(
            "unique-architectures",
            "Section 6 and Figure E.1",
            "The block of one architecture is not that of another.",
            ABOVE_0,
            2,
            "CKA in the blocks, within − between architectures",
        ),
        _layers(
            "less-data-depth",
            "Figure D.2",
            "With less training data the block emerges in shallower networks.",
            ABOVE_0,
            2,
            "strength, least − most data",
        ),
        _layers(
            "checkerboard",
            "Section 4.1 and Figure 1",
            "Without a block, representations after residual additions are more alike than those inside.",
            ABOVE_0,
            2,
            "CKA, among additions − with layers inside",
        ),
        _layers(
            "component-seeds",
            "Figure D.5",
            "The first component explains more in the seeds that have a block (0.22 to 0.58 are printed).",
            ABOVE_0,
            1,
            "share of variance, with − without a block",
        ),
        _layers(
            "component-small",
            "Figures D.6 and D.7",
            "Without a block the first component is small.",
            0,
            0.5,
            "share of variance, mean over layers",
        ),
        _layers(
            "proposition-1",
            "Appendix A, Proposition 1",
            "The mean of HSIC over minibatches converges to its value on all examples.",
            0.99,
            1.01,
            "mean over batches / value of all",
        ),
    )
}
"""What N21 claims of the block structure (Sections 4 to 6), by name."""
