"""What G21 reports for ResNet-18 with static sparsity (Section 2.3, Appendices C, D and E)."""

from __future__ import annotations

import math

from wsnlib.claims.rule import ABOVE_0, Claim

TABLE_1: dict[int, dict[str, float]] = {
    64: {"dense": 68.03},
    90: {"dense": 69.11, "sparse": 69.56},
    128: {"dense": 70.22, "sparse": 70.02},
    181: {"dense": 70.91, "sparse": 70.66},
    256: {"dense": 71.89, "sparse": 70.53},
}
"""G21, Table 1: top-1 test accuracy on ImageNet (%) by width; sparse ones have the weights of width 64."""

_FIGURE_10_LAYERS = (
    *("network", "layer1.0.conv1", "layer2.0.conv1", "layer2.0.conv2", "layer3.0.conv1"),
    *("layer3.0.conv2", "layer4.0.conv1", "layer4.0.conv2", "layer4.0.shortcut.0", "linear"),
)

FIGURE_10: dict[int, dict[str, float]] = {
    width: dict(zip(_FIGURE_10_LAYERS, sparsities, strict=True))
    for width, sparsities in {
        18: (79.84, 0, 0, 0, 45.5, 72.8, 86.4, 93.2, 0, 11.8),
        27: (90.99, 0, 20.1, 60.1, 80.0, 90.0, 95.0, 97.5, 55.1, 51.5),
        40: (95.88, 35.4, 67.7, 83.9, 91.9, 96.0, 98.0, 99.0, 81.8, 70.9),
        60: (98.16, 72.0, 86.0, 93.0, 96.5, 98.3, 99.1, 99.6, 92.1, 81.1),
        91: (99.20, 88.0, 94.0, 97.0, 98.5, 99.3, 99.6, 99.8, 96.6, 87.7),
    }.items()
}
"""G21, Figure 10: sparsity (%) of network and layers by width; 100 classes, the weights of base width 8.

Layers of one shape share a value, and one of each is listed, but for the shortcuts of the second and third stage.
"""


def _claim(name: str, source: str, statement: str, low: float, high: float, unit: str) -> Claim:
    return Claim(
        name=name,
        source=f"G21, {source}",
        statement=statement,
        low=low,
        high=high,
        unit=unit,
    )


def _table_1(width: int, method: str, accuracy: float) -> Claim:
    return Claim(
        name=f"imagenet-{method}-{width}",
        source="G21, Table 1",
        statement=f"ImageNet, width {width}, {method}: {accuracy:.2f} % top-1.",
        reported=accuracy,
        low=accuracy - 0.5,  # seeds differ by less than 0.1 point (Appendix A); other images sizes by more
        high=accuracy + 0.5,
        unit="% top-1",
        full_protocol_only=True,
    )


# "Most" is more than half; "strongly" and "similar behaviour" are given a correlation of 0.7.
RESNET_SWEEP: dict[str, Claim] = {
    claim.name: claim
    for claim in (
        _claim(
            "figure-10",
            "Appendix D, Figures 4 and 10",
            "Largest layer first gives each layer the sparsity that Figure 10 prints.",
            0,
            0.051,  # printed to 0.1
            "points of sparsity, the largest difference",
        ),
        _claim(
            "num-weights",
            "Section 2.3",
            "Every sparse network has exactly the number of weights of its dense base.",
            0,
            0,
            "weights of difference",
        ),
        _claim(
            "gain",
            "Section 2.3, Figures 1, 6 and 11",
            "Accuracy rises with width at a fixed number of weights.",
            ABOVE_0,
            math.inf,
            "points above the dense base",
        ),
        Claim(
            name="best-factor",
            source="G21, Section 4",
            statement="Convolutional networks are best at a widening factor of 3 to 10.",
            low=3,
            high=10,
            unit="widening factor",
            full_protocol_only=True,
        ),
        _claim(
            "smaller-gains-more",
            "Section 2.3, Figure 6",
            "Smaller networks gain more.",
            ABOVE_0,
            math.inf,
            "points of gain, smallest less next base",
        ),
        _claim(
            "width-share",
            "Section 2.3, Figure 7",
            "Most of what a wider dense network gains is due to width alone.",
            0.5,
            1.5,
            "gain of the sparse / gain of the dense network as wide",
        ),
        _claim(
            "training-accuracy",
            "Appendix E, Figure 14",
            "Over width, training accuracy behaves like test accuracy.",
            0.7,
            1,
            "Pearson correlation over widths",
        ),
        _claim(
            "channels",
            "Appendix C, Figure 9",
            "In small networks masks over all dimensions are better than over channels, by up to 3 points.",
            0,
            3,
            "points, all dimensions less channels",
        ),
        _claim(
            "masks-similar",
            "Appendix C, Figure 9",
            "Masks over all dimensions and over channels give very similar results in general.",
            -1,
            1,
            "points of difference, mean over widening factors",
        ),
        *(
            _table_1(width, method, accuracy)
            for width, row in TABLE_1.items()
            for method, accuracy in row.items()
        ),
    )
}
"""What G21 reports for ResNet-18 with static sparsity, by name."""
