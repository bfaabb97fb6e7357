"""What the two papers say beyond the claims that chapters judge, so that the scorecard lists all of it.

No page estimates any of it; `untested` says why.
"""

from __future__ import annotations

import math

from wsnlib.claims.rule import ABOVE_0, BELOW_0, Claim

_WITHOUT_BLOCK = "every network that the profile probes or compares has a block"
_IMAGENET = "no page trains on ImageNet"
_OTHER_DATA = "the pages train on one data set; the profiles gpu and paper name the others"
_WIDER = "needs wider networks than the profile has"


def _claim(
    name: str,
    source: str,
    statement: str,
    untested: str,
    unit: str,
    low: float = ABOVE_0,
    high: float = math.inf,
) -> Claim:
    return Claim(
        name=name,
        source=source,
        statement=statement,
        low=low,
        high=high,
        unit=unit,
        untested=untested,
    )


FURTHER: dict[str, Claim] = {
    claim.name: claim
    for claim in (
        _claim(
            "bottleneck-data",
            "G21, Section 2.2 and Figure 3",
            "What holds of bottlenecks on CIFAR-10 holds on CIFAR-100.",
            _OTHER_DATA,
            "points",
        ),
        _claim(
            "nonlinear-degrades",
            "G21, Section 1.1",
            "The nonlinear bottleneck only degrades performance (Section 2.2 grants the smallest network a mild gain).",
            "Section 2.2 says otherwise of the smallest network, and is judged instead",
            "points against the original",
            low=-math.inf,
            high=BELOW_0,
        ),
        _claim(
            "data-sets",
            "G21, Section 1.1 and Figures 1 and 6",
            "Wider at a fixed number of weights is better on CIFAR-100, SVHN and ImageNet, too.",
            _OTHER_DATA,
            "points above the dense base",
        ),
        _claim(
            "imagenet-identical",
            "G21, Section 1.1, Table 1 and Figure 13",
            "On ImageNet widening brings almost as much without more weights as with them.",
            _IMAGENET,
            "points, sparse less dense",
            low=-1,
            high=1,
        ),
        _claim(
            "imagenet-decline",
            "G21, Section 2.3",
            "On ImageNet test accuracy declines at about the width at which training accuracy does.",
            _IMAGENET,
            "octaves between the widths",
            low=-1,
            high=1,
        ),
        _claim(
            "decline",
            "G21, Section 2.3 and Figure 6",
            "At very large widths accuracy falls, since sparsity harms the optimisation.",
            _WIDER,
            "points, best less widest",
        ),
        _claim(
            "harder-tasks",
            "G21, Section 2.3 and Figure 6",
            "More difficult tasks gain more.",
            _OTHER_DATA,
            "points of gain, harder less easier",
        ),
        _claim(
            "fitted-gain",
            "G21, Section 2.3 and Figure 6",
            "Networks that fit their training images gain, too.",
            "no network of the profile fits them",
            "points above the dense base",
        ),
        _claim(
            "peak-connectivity",
            "G21, Appendix E and Figure 12",
            "Small networks (up to 9e5 weights) are best at similar connectivities.",
            _WIDER,
            "octaves between the connectivities",
            low=-1,
            high=1,
        ),
        _claim(
            "larger-fit",
            "G21, Appendix E and Figure 14",
            "Larger networks reach 100 % on the training images.",
            "needs the whole training",
            "% of training images",
            low=99.95,
            high=100,
        ),
        _claim(
            "seed-variance",
            "G21, Appendix A",
            "On ImageNet accuracies of seeds differ by less than 0.1 point.",
            _IMAGENET,
            "points",
            low=0,
            high=0.1,
        ),
        _claim(
            "resized",
            "G21, Appendix A.1",
            "Resizing ImageNet beforehand costs about 1 to 2 points.",
            _IMAGENET,
            "points",
            low=1,
            high=2,
        ),
        _claim(
            "less-data-cifar100",
            "N21, Figures D.3 and D.4",
            "So it does on CIFAR-100, with depth and with width.",
            _OTHER_DATA,
            "strength, least − most data",
        ),
        _claim(
            "imagenet-block",
            "N21, Figure 1",
            "Networks on CIFAR-100 and on a sixteenth of ImageNet have the block, too.",
            _OTHER_DATA,
            "share of seeds with a block",
            low=1,
            high=1,
        ),
        _claim(
            "probes-monotonic",
            "N21, Section 5.2 and Figure 4",
            "Without a block the accuracy of linear probes rises from layer to layer.",
            _WITHOUT_BLOCK,
            "rank correlation with depth",
            low=0.9,
            high=1,
        ),
        _claim(
            "deletion-clarity",
            "N21, Section 5.2",
            "The larger and clearer the block, the less a deletion costs.",
            "needs more networks than the profile has",
            "correlation of strength and accuracy kept",
            low=0.5,
            high=1,
        ),
        _claim(
            "aligned",
            "N21, Section 6 and Figure E.1",
            "Without a block, layers at the same relative depth of wide and deep networks are alike.",
            _WITHOUT_BLOCK,
            "correlation of relative depths",
            low=0.8,
            high=1,
        ),
        _claim(
            "scenes",
            "N21, Section 7 and Figure 7(c)",
            "Of the five classes that wide networks are better on, three are scenes.",
            _IMAGENET,
            "classes",
            low=3,
            high=3,
        ),
        _claim(
            "imagenet-examples",
            "N21, Section 7 and Figure F.4",
            "Deeper and wider ResNet-50s on ImageNet differ in single images as those on CIFAR-10 do.",
            _IMAGENET,
            "share beyond chance",
            low=0.1,
            high=1,
        ),
    )
}
"""What the papers say that no chapter judges, by name."""
