"""What N21 reports of the errors of wide and of deep networks (Section 7, Appendices B and F)."""

from __future__ import annotations

import math

from wsnlib.claims.rule import ABOVE_0, Claim

TABLE_B1: dict[tuple[int, int], tuple[float, float]] = {
    (32, 1): (93.5, 71.2),
    (44, 1): (94.0, 72.0),
    (56, 1): (94.2, 73.3),
    (110, 1): (94.3, 74.0),
    (164, 1): (94.4, 73.9),
    (14, 1): (92.0, 67.8),
    (14, 2): (94.1, 72.9),
    (14, 4): (95.4, 77.0),
    (14, 8): (95.9, 80.0),
    (14, 10): (96.0, 80.2),
    (20, 1): (92.8, 69.4),
    (20, 2): (94.6, 74.4),
    (20, 4): (95.4, 77.6),
    (20, 8): (96.0, 80.2),
    (20, 10): (95.8, 80.8),
    (26, 1): (93.3, 70.5),
    (26, 2): (94.9, 75.8),
    (26, 4): (95.6, 79.3),
    (26, 8): (95.9, 80.9),
    (26, 10): (95.8, 81.0),
    (38, 1): (93.8, 72.3),
    (38, 2): (95.1, 75.9),
    (38, 4): (95.5, 78.6),
    (38, 8): (95.7, 79.8),
    (38, 10): (95.7, 80.5),
}
"""N21, Table B.1: test accuracy (%) on CIFAR-10 and CIFAR-100 by depth and width multiplier."""

FIGURE_F2: dict[int, float] = {
    14: 91.69, 20: 92.61, 26: 93.09, 32: 93.44, 38: 93.67, 56: 94.02, 110: 94.33, 164: 94.37,
}  # fmt: skip
"""N21, Figure F.2: mean accuracy (%) on CIFAR-10 by depth, width multiplier 1."""

FIGURE_F3: dict[float, float] = {
    1.0: 93.09, 1.4: 94.10, 1.7: 94.53, 2.2: 94.94, 2.4: 95.05, 3.0: 95.30, 4.0: 95.53, 8.0: 95.81,
}  # fmt: skip
"""N21, Figure F.3: mean accuracy (%) of ResNet-26 on CIFAR-10 by width multiplier."""

TABLE_F1: dict[str, int] = {"A": 3_011_367, "B": 3_006_889, "C": 2_969_410}
"""N21, Table F.1: AIC of the three logistic models, 50 networks a side on ImageNet."""

TABLE_F2: dict[str, tuple[int, float, float, float, float]] = {
    "entity": (1000, 78.0, 78.0, -0.03, 0.89),
    "physical entity": (997, 78.0, 78.0, -0.03, 0.89),
    "object": (958, 78.1, 78.1, -0.04, 0.76),
    "whole": (949, 78.2, 78.2, -0.05, 0.48),
    "artifact": (522, 73.8, 73.8, -0.01, 1),
    "living thing": (410, 83.5, 83.6, -0.10, 0.023),
    "organism": (410, 83.5, 83.6, -0.10, 0.023),
    "animal": (398, 83.3, 83.4, -0.09, 0.032),
    "instrumentality": (358, 73.9, 74.0, -0.02, 1),
    "vertebrate": (337, 83.3, 83.3, -0.08, 0.22),
    "chordate": (337, 83.3, 83.3, -0.08, 0.22),
    "mammal": (218, 82.0, 82.1, -0.09, 0.47),
    "placental": (212, 81.9, 81.9, -0.08, 0.66),
    "carnivore": (158, 81.1, 81.2, -0.09, 0.73),
    "device": (130, 72.9, 72.9, -0.00, 1),
    "canine": (130, 81.3, 81.4, -0.04, 1),
    "domestic animal": (123, 81.0, 81.0, -0.00, 1),
    "dog": (118, 81.6, 81.6, -0.01, 1),
    "container": (100, 72.7, 72.7, 0.00, 1),
    "covering": (90, 72.0, 72.2, -0.19, 0.13),
    "conveyance": (72, 83.5, 83.4, 0.13, 0.65),
    "vehicle": (67, 83.2, 83.1, 0.11, 0.76),
    "hunting dog": (63, 81.2, 81.2, 0.01, 1),
    "commodity": (63, 72.2, 72.6, -0.42, 5.1e-5),
    "consumer goods": (62, 72.3, 72.7, -0.41, 6.7e-5),
    "invertebrate": (61, 83.6, 83.8, -0.16, 0.37),
    "bird": (59, 92.5, 92.7, -0.21, 0.0018),
    "structure": (58, 75.9, 75.5, 0.42, 5.7e-5),
    "matter": (50, 77.6, 77.4, 0.17, 0.74),
}
"""N21, Table F.2, by synset of ImageNet: classes, accuracy (%) wide and deep, difference, p-value."""


def _claim(
    name: str,
    source: str,
    statement: str,
    low: float,
    high: float,
    unit: str,
    reported: float | None = None,
    full_protocol_only: bool = False,
) -> Claim:
    return Claim(
        name=name,
        source=f"N21, {source}",
        statement=statement,
        reported=reported,
        low=low,
        high=high,
        unit=unit,
        full_protocol_only=full_protocol_only,
    )


def _accuracy(depth: int, multiplier: int, reported: float, source: str) -> Claim:
    return _claim(
        f"accuracy-{depth}-{multiplier}",
        source,
        f"CIFAR-10, ResNet-{depth} ({multiplier}×): {reported} %.",
        reported - 0.3,  # the networks of Table B.1 and of Figures F.1 to F.3 differ by as much
        reported + 0.3,
        "% of test images",
        reported,
        full_protocol_only=True,
    )


_SHARE = "share of the mean squared difference that is not chance"

# "Indistinguishable" is given half a point, "substantially larger than expected by chance" a tenth, and
# so is what a control may deviate; "small" is less than half.
WIDE_VS_DEEP_ERRORS: dict[str, Claim] = {
    claim.name: claim
    for claim in (
        _claim(
            "matched",
            "Figure F.1",
            "The mean accuracies of the wide and the deep networks cannot be told apart.",
            -0.5,
            0.5,
            "points, deep less wide",
            0.01,
        ),
        _claim(
            "excess",
            "Section 7, Figures 7(a) and F.1(a)",
            "Wide and deep networks make different errors, substantially more so than by chance.",
            0.1,
            1,
            _SHARE,
        ),
        _claim(
            "control-deep",
            "Figure 7(b)",
            "Deep networks against deep networks of other seeds: chance alone.",
            -0.1,
            0.1,
            _SHARE,
        ),
        _claim(
            "control-wide",
            "Figure F.1(a)",
            "Wide networks against wide networks of other seeds: chance alone.",
            -0.1,
            0.1,
            _SHARE,
        ),
        _claim(
            "examples-deep",
            "Figure F.1(b)",
            "Some examples are systematically easier for the deep networks.",
            ABOVE_0,
            100,
            "points above the wide networks, on images that others chose",
        ),
        _claim(
            "examples-wide",
            "Figure F.1(b)",
            "Some examples are systematically easier for the wide networks.",
            ABOVE_0,
            100,
            "points above the deep networks, on images that others chose",
        ),
        _claim(
            "wider-better",
            "Section 3 and Table B.1",
            "Wider networks are more accurate.",
            ABOVE_0,
            100,
            "points, widest less narrowest",
        ),
        _claim(
            "deeper-better",
            "Section 3 and Table B.1",
            "Deeper networks are more accurate.",
            ABOVE_0,
            100,
            "points, deepest less shallowest",
        ),
        _claim(
            "similar-depth",
            "Section 7",
            "Of networks of different depth, those more alike make more similar errors.",
            ABOVE_0,
            2,
            "error consistency, neighbours less extremes",
        ),
        _claim(
            "similar-width",
            "Section 7",
            "Of networks of different width, those more alike make more similar errors.",
            ABOVE_0,
            2,
            "error consistency, neighbours less extremes",
        ),
        _claim(
            "gain-depth",
            "Section 7, Figure F.2",
            "Depth helps most on examples that smaller networks often, but not always, get right.",
            ABOVE_0,
            100,
            "points of gain, on these less on the others",
        ),
        _claim(
            "gain-width",
            "Section 7, Figure F.3",
            "Width helps most on examples that smaller networks often, but not always, get right.",
            ABOVE_0,
            100,
            "points of gain, on these less on the others",
        ),
        _claim(
            "loss-depth",
            "Section 7, Figure F.2",
            "Some examples are harder for deeper networks than for shallower ones.",
            ABOVE_0,
            100,
            "points lost, on images that others chose",
        ),
        _claim(
            "loss-width",
            "Section 7, Figure F.3",
            "Some examples are harder for wider networks than for narrower ones.",
            ABOVE_0,
            100,
            "points lost, on images that others chose",
        ),
        _claim(
            "classes",
            "Section 7, Figure 7(c)",
            "Wide and deep networks differ in their accuracy on some classes (ImageNet: on 41.9 %).",
            ABOVE_0,
            1,
            "share of the classes' mean squared difference that is not chance",
        ),
        _claim(
            "class-share",
            "Appendix F.3, eq. (10)",
            "Classes explain a small part of the differences between examples (ImageNet: V² = 0.11).",
            0,
            0.5,
            "V²",
            0.11,
        ),
        _claim(
            "aic-class",
            "Table F.1",
            "A model with an effect of each class is better than one without.",
            ABOVE_0,
            math.inf,
            "AIC of A less that of B",
            TABLE_F1["A"] - TABLE_F1["B"],
            full_protocol_only=True,  # what an effect costs does not grow with the networks
        ),
        _claim(
            "aic-example",
            "Table F.1",
            "A model with an effect of each example is better still.",
            ABOVE_0,
            math.inf,
            "AIC of B less that of C",
            TABLE_F1["B"] - TABLE_F1["C"],
            full_protocol_only=True,
        ),
        _claim(
            "structure",
            "Table F.2",
            "ImageNet: wide networks are better on structures.",
            0.1,
            0.7,
            "points, wide less deep",
            0.42,
            full_protocol_only=True,
        ),
        _claim(
            "consumer-goods",
            "Table F.2",
            "ImageNet: deep networks are better on consumer goods.",
            -0.7,
            -0.1,
            "points, wide less deep",
            -0.41,
            full_protocol_only=True,
        ),
        _accuracy(62, 1, 94.09, "Figure F.1"),
        _accuracy(14, 2, 94.08, "Figure F.1"),
        _accuracy(14, 1, 92.0, "Table B.1"),
    )
}
"""What N21 reports of errors, by name."""
