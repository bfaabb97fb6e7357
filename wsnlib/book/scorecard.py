"""The scorecard: it trains nothing, reads the other chapters, and computes what specs alone give."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from wsnlib import experiments, specs
from wsnlib.book.engine import published
from wsnlib.book.engine.claims import printed_table
from wsnlib.book.engine.parameters import ChapterParameters
from wsnlib.book.resnet_sweep import layer_sparsity
from wsnlib.estimates import Estimate, exact


class Parameters(ChapterParameters):
    """Parameters of the chapter `scorecard`, which trains nothing and reads the other chapters."""

    pages: str = Field("book", min_length=1, description="a folder of executed chapters")


def trained_whole(pages: Mapping[str, published.Notebook]) -> list[str]:
    """The pages whose networks had their paper's whole training on its data, by name."""
    held = {name: published.verdicts_of(page) or {} for name, page in pages.items()}
    return [name for name, page in held.items() if page.get("full_protocol") and page.get("same_data")]


def estimates() -> dict[str, Estimate]:
    """Those of the papers' printed numbers that specs alone give, exactly, by their names.

    These are numbers of weights, and the sparsity of each layer in G21's Figure 10.
    """
    appendix, table_1, figure_10 = (
        printed_table("G21", name) for name in ("Appendix A", "Table 1", "Figure 10")
    )
    found: dict[str, float] = {f"weights-{width}": _weights(_resnet(width)) for width in appendix.index}
    for width in table_1.index:
        network = specs.ResNet18Spec(width=width, num_classes=1000, stem="imagenet")
        found[f"imagenet-weights-{width}"] = _weights(network) / 1e6
    found["mlp-weights"] = _weights(specs.MLPSpec(width=8, bias=False))
    for width in figure_10.index:
        sparsity = layer_sparsity(_resnet(8), int(width))
        found |= {f"sparsity-{width}-{layer}": sparsity[layer] for layer in figure_10.columns}
    return {name: exact(value) for name, value in found.items()}


def _resnet(width: int) -> specs.ResNet18Spec:
    return specs.ResNet18Spec(width=width, num_classes=100)


def _weights(model: specs.ModelSpec) -> int:
    return sum(experiments.weights_per_layer(model).values())
