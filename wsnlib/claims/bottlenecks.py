"""What G21 claims of linear and nonlinear bottlenecks (Section 2.2, Figure 3)."""

from __future__ import annotations

import math

from wsnlib.claims.rule import ABOVE_0, BELOW_0, Claim


def _claim(name: str, statement: str, low: float, high: float, unit: str) -> Claim:
    return Claim(
        name=name,
        source="G21, Section 2.2 and Figure 3",
        statement=statement,
        low=low,
        high=high,
        unit=unit,
    )


# Figure 3 prints no numbers; "mild" is given 2 points, "no improvement" none.
BOTTLENECKS: dict[str, Claim] = {
    claim.name: claim
    for claim in (
        _claim(
            "linear-gain",
            "Linear bottleneck: accuracy rises with width, from the narrowest transformed network on.",
            ABOVE_0,
            math.inf,
            "points above the narrowest",
        ),
        _claim(
            "reparametrisation",
            "Replacing each weight by a product of two harms by itself, before any widening.",
            -math.inf,
            BELOW_0,
            "points against the original",
        ),
        _claim(
            "linear-against-original",
            "Linear bottleneck: even the best width typically stays below the original network.",
            -math.inf,
            BELOW_0,
            "points against the original",
        ),
        _claim(
            "nonlinear-smallest",
            "Nonlinear bottleneck: widening mildly improves the smallest network (1.8e5 weights).",
            ABOVE_0,
            2,
            "points above the original",
        ),
        _claim(
            "nonlinear-larger",
            "Nonlinear bottleneck: widening does not improve larger networks (4.0e5 weights or more).",
            -math.inf,
            0,
            "points above the original",
        ),
        _claim(
            "linear-smaller-more",
            "The linear bottleneck brings more to smaller networks.",
            ABOVE_0,
            math.inf,
            "points of gain, smallest less next base",
        ),
    )
}
"""What G21 claims of bottlenecks, by name."""
