"""What G21 claims of the Gaussian-process kernel (Section 3, Figure 8)."""

from __future__ import annotations

import math

from wsnlib.claims.rule import ABOVE_0, Claim


def _kernel(
    name: str, source: str, statement: str, low: float, high: float, unit: str, reported: float | None = None
) -> Claim:
    return Claim(
        name=name,
        source=f"G21, {source}",
        statement=statement,
        reported=reported,
        low=low,
        high=high,
        unit=unit,
    )


GP_KERNEL: dict[str, Claim] = {
    claim.name: claim
    for claim in (
        # "Exact" statements get 10 % for the noise of simulation, "good agreement" 25 %, a minimum a
        # factor of 2 on either side ("similar width"), a "strong" correlation 0.7.
        _kernel(
            "theorem-1",
            "Theorem 1",
            "Theorem 1 gives the mean-square distance of masked networks' kernels.",
            0.9,
            1.1,
            "simulated / Theorem 1",
        ),
        _kernel(
            "approximation",
            "Section 3, eq. (4)",
            "For independent Gaussian inputs eq. (4) agrees with Theorem 1 where dp ≫ 1.",
            0.8,
            1.25,
            "eq. (4) / Theorem 1 at the paper's p*",
        ),
        _kernel(
            "minimiser",
            "Section 3, eq. (25)",
            "At 6,352 weights the distance is smallest at p* ≈ √(np/4d) = 0.05, width 158.",
            79,
            317,
            "width of the smallest distance",
            reported=158,
        ),
        _kernel(
            "sparse-gain",
            "Section 3, Figure 8(a)",
            "Sparse, wide networks outperform the dense one with as many weights.",
            ABOVE_0,
            math.inf,
            "points above the dense network",
        ),
        _kernel(
            "similar-width",
            "Section 3, Figure 8(b)",
            "The smallest distance and the best test accuracy lie at a similar width.",
            -1,
            1,
            "octaves between the two widths",
        ),
        _kernel(
            "correlation",
            "Section 4",
            "Test error and kernel distance are strongly correlated over width.",
            0.7,
            1,
            "Pearson correlation",
        ),
        _kernel(
            "distance-falls",
            "Section 3",
            "Widening at a fixed number of weights reduces the distance to the infinite kernel.",
            ABOVE_0,
            1,
            "share by which it falls, narrowest to closest",
        ),
    )
}
"""What G21 claims of the Gaussian-process kernel (Section 3, Figure 8), by name."""
