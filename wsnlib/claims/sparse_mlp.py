"""What G21 reports for its MLP experiment (Section 2.3 "MLP", Figure 5, Appendix A)."""

from __future__ import annotations

import math

from wsnlib.claims.rule import ABOVE_0, Claim


def _accuracy(name: str, statement: str, reported: float, tolerance: float) -> Claim:
    return Claim(
        name=name,
        source="G21, Appendix A (Figure 5)",
        statement=statement,
        reported=reported,
        low=reported - tolerance,
        high=reported + tolerance,
        unit="% test accuracy",
        full_protocol_only=True,
    )


SPARSE_MLP: dict[str, Claim] = {
    claim.name: claim
    for claim in (
        Claim(
            name="num-weights",
            source="G21, Section 2.3 and Figure 5",
            statement="All networks have 3,970 weights, those of the dense one of width 5.",
            reported=3970,
            low=3970,
            high=3970,
            unit="weights",
        ),
        # The dense network and the best cells are read off one run or few, to 0.1 point; half a
        # point covers the seed noise of a network this small, "approximately 90 %" gets one and a half.
        _accuracy("relu-baseline", "ReLU: the dense network reaches approximately 90 %.", 90.0, 1.5),
        _accuracy("linear-baseline", "Linear: the dense network reaches approximately 90 %.", 90.0, 1.5),
        _accuracy("relu-best", "ReLU: the best sparse network reaches 96.3 %.", 96.3, 0.5),
        _accuracy("linear-best", "Linear: the best sparse network reaches 92.7 %.", 92.7, 0.5),
        Claim(
            name="relu-gain",
            source="G21, Section 2.3",
            statement="ReLU: sparse, wide networks can outperform the dense one.",
            low=ABOVE_0,
            high=math.inf,
            unit="points above the dense network",
        ),
        Claim(
            name="linear-gain",
            source="G21, Section 2.3",
            statement="Linear: sparse, wide networks can outperform the dense one.",
            low=ABOVE_0,
            high=math.inf,
            unit="points above the dense network",
        ),
        Claim(
            name="relu-best-width",
            source="G21, Section 2.3 and Appendix A",
            statement="ReLU: the best width is 80 or 160 (widening factor 16 or 32).",
            reported=80,
            low=80,
            high=160,
            unit="width",
        ),
        Claim(
            name="linear-best-width",
            source="G21, Appendix A",
            statement="Linear: the best width is 40 (connectivity 0.13).",
            reported=40,
            low=40,
            high=40,
            unit="width",
        ),
        Claim(
            name="relu-best-density",
            source="G21, Section 2.3",
            statement="ReLU: at the best cell the last layer keeps more than 80 % of its weights.",
            reported=0.8,
            low=0.8,
            high=1.0,
            unit="density of the last layer",
        ),
        Claim(
            name="first-layer",
            source="G21, Section 2.3",
            statement="It is better to take weights from the first layer, the larger one, than from the last.",
            low=ABOVE_0,
            high=math.inf,
            unit="points, largest layer first less last layer thinned most, mean over widths",
        ),
        Claim(
            name="allocation-best",
            source="G21, Section 2.3 and Appendix C",
            statement="Of the ways to share out weights that were tried, largest layer first is best.",
            low=ABOVE_0,
            high=math.inf,
            unit="points above the same density everywhere, mean over widths",
        ),
    )
}
"""The numbers that G21 reports for its MLP experiment (Figure 5), by name."""
