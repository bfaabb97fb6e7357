"""Every figure, table, theorem and proposition of the two papers, and where this book has it."""

from __future__ import annotations

from dataclasses import dataclass

from wsnlib.claims.bottlenecks import BOTTLENECKS
from wsnlib.claims.cka_blocks import CKA_BLOCKS
from wsnlib.claims.gp_kernel import GP_KERNEL
from wsnlib.claims.resnet_sweep import RESNET_SWEEP
from wsnlib.claims.rule import Claim
from wsnlib.claims.sparse_mlp import SPARSE_MLP
from wsnlib.claims.wide_vs_deep_errors import WIDE_VS_DEEP_ERRORS

CHAPTER_CLAIMS: dict[str, dict[str, Claim]] = {
    "bottlenecks": BOTTLENECKS,
    "sparse_mlp": SPARSE_MLP,
    "resnet_sweep": RESNET_SWEEP,
    "gp_kernel": GP_KERNEL,
    "cka_blocks": CKA_BLOCKS,
    "wide_vs_deep_errors": WIDE_VS_DEEP_ERRORS,
}
"""The claims that each chapter judges."""


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """A figure, table or theorem of a paper.

    Args:
        paper: `"G21"` or `"N21"`.
        name: As the paper numbers it.
        shows: In our words.
        chapter: The page that has ours.
        figures: Labels of our figures there; empty if the page has it as a table or as formulas.
        note: Why nothing of ours stands beside it, where nothing does.
    """

    paper: str
    name: str
    shows: str
    chapter: str
    figures: tuple[str, ...] = ()
    note: str = ""


_DATA = "CIFAR-100 and ImageNet are not trained here"


def _g(name: str, shows: str, chapter: str, *figures: str, note: str = "") -> Exhibit:
    return Exhibit(paper="G21", name=name, shows=shows, chapter=chapter, figures=figures, note=note)


def _n(name: str, shows: str, chapter: str, *figures: str, note: str = "") -> Exhibit:
    return Exhibit(paper="N21", name=name, shows=shows, chapter=chapter, figures=figures, note=note)


EXHIBITS: tuple[Exhibit, ...] = (
    _g("Figure 1", "accuracy against width at a fixed number of weights, four data sets", "resnet_sweep", "fig-resnet-width"),
    _g("Figure 2", "the three ways to widen", "bottlenecks", "fig-methods", note="a drawing, in which nothing is to be judged"),
    _g("Figure 3", "linear and nonlinear bottlenecks", "bottlenecks", "fig-bottlenecks"),
    _g("Figure 4", "how sparsity is shared out over layers", "resnet_sweep", "fig-allocation"),
    _g("Figure 5", "MLPs over connectivity and last-layer density", "sparse_mlp", "fig-grid"),
    _g("Table 1", "ImageNet accuracy and number of weights by width", "resnet_sweep", "fig-imagenet", note="the page shows the paper's numbers; none is measured here"),
    _g("Figure 6", "accuracy against width for five base widths", "resnet_sweep", "fig-resnet-width"),
    _g("Figure 7", "share of the gain that is due to width alone", "resnet_sweep", "fig-share"),
    _g("Theorem 1", "mean-square distance of the kernels", "gp_kernel", "fig-distance"),
    _g("Figure 8", "test accuracy, test error and kernel distance of MLPs", "gp_kernel", "fig-trained", "fig-both", "fig-readings"),
    _g("Figure 9", "masks over all dimensions against masks over channels", "resnet_sweep", "fig-channels"),
    _g("Figure 10", "sparsity of every layer", "resnet_sweep", "fig-sparsity"),
    _g("Figure 11", "Figure 6 with error bars", "resnet_sweep", "fig-resnet-width"),
    _g("Figure 12", "accuracy against connectivity", "resnet_sweep", "fig-resnet-connectivity"),
    _g("Figure 13", "what widening brings on ImageNet", "resnet_sweep", "fig-imagenet", note="the page shows the paper's numbers; none is measured here"),
    _g("Figure 14", "training accuracy", "resnet_sweep", "fig-resnet-connectivity"),
    _n("Proposition 1", "minibatch HSIC converges", "cka_blocks", "fig-proposition"),
    _n("Figure 1", "CKA over depth and over width", "cka_blocks", "fig-width-depth", note="the panes of CIFAR-100 and ImageNet are missing"),
    _n("Figure 2", "block structure with less data, over width", "cka_blocks", "fig-data"),
    _n("Figure 3", "block structure and first component", "cka_blocks", "fig-component"),
    _n("Figure 4", "linear probes", "cka_blocks", "fig-probes"),
    _n("Figure 5", "deleted residual blocks", "cka_blocks", "fig-deletion"),
    _n("Figure 6", "CKA across seeds", "cka_blocks", "fig-across"),
    _n("Figure 7", "accuracy on single images and on classes", "wide_vs_deep_errors", "fig-pair", "fig-classes"),
    _n("Table B.1", "accuracy by depth and width", "wide_vs_deep_errors"),
    _n("Figure C.1", "block structure without residual connections", "cka_blocks", "fig-plain"),
    _n("Figure D.1", "block structure over seeds", "cka_blocks", "fig-seeds"),
    _n("Figure D.2", "block structure with less data, over depth", "cka_blocks", "fig-data-depth"),
    _n("Figure D.3", "the same on CIFAR-100, over depth", "cka_blocks", note=_DATA),
    _n("Figure D.4", "the same on CIFAR-100, over width", "cka_blocks", note=_DATA),
    _n("Figure D.5", "variance explained by the first component, over seeds", "cka_blocks", "fig-without"),
    _n("Figure D.6", "CKA without the first component", "cka_blocks", "fig-without"),
    _n("Figure D.7", "first component without a block", "cka_blocks", "fig-component-narrow"),
    _n("Figure D.8", "sparsity of activations", "cka_blocks", "fig-activation-sparsity"),
    _n("Figure E.1", "CKA between architectures", "cka_blocks", "fig-across"),
    _n("Figure F.1", "errors of wide and deep networks on CIFAR-10", "wide_vs_deep_errors", "fig-pair", "fig-images"),
    _n("Figure F.2", "accuracy on single images over depth", "wide_vs_deep_errors", "fig-depth"),
    _n("Figure F.3", "accuracy on single images over width", "wide_vs_deep_errors", "fig-width"),
    _n("Figure F.4", "the same on ImageNet", "wide_vs_deep_errors", "fig-triple", note="the page has the design with networks for CIFAR-10"),
    _n("Table F.1", "AIC of three logistic models", "wide_vs_deep_errors"),
    _n("Table F.2", "accuracy on groups of ImageNet's classes", "wide_vs_deep_errors"),
)  # fmt: skip
"""All figures, tables, theorems and propositions of G21 and N21, in their order."""
