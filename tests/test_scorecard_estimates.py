"""The numbers that the scorecard computes from specs alone."""

import pytest

import wsnlib as wsn
from wsnlib import book
from wsnlib.book import scorecard


@pytest.fixture(scope="module")
def found() -> dict[str, wsn.Estimate]:
    return scorecard.estimates()


def test_numbers_that_specs_give_are_exact_and_those_that_the_paper_prints(found):
    """A perceptron of 784, 8 and 10 units; weights of a built network; the share that a mask takes away."""
    assert found["mlp-weights"] == wsn.estimates.exact(784 * 8 + 8 * 10)
    network = wsn.build(wsn.ResNet18Spec(width=64, num_classes=1000, stem="imagenet"))
    assert found["imagenet-weights-64"].mean == pytest.approx(wsn.num_weights(network) / 1e6, rel=1e-12)
    base = wsn.ResNet18Spec(width=8, num_classes=100)
    for width in book.printed_table("G21", "Appendix A").index[:2]:
        wider = wsn.build(wsn.ResNet18Spec(width=width, num_classes=100))
        assert found[f"weights-{width}"].mean == wsn.num_weights(wider)
    width = int(book.printed_table("G21", "Figure 10").index[0])
    sparse = wsn.build(wsn.StaticSparsity(base, width=width), seed=0)
    assert found[f"sparsity-{width}-network"].mean == pytest.approx(100 * (1 - wsn.connectivity(sparse)))
    mask = wsn.layer_masks(sparse)["layer4.0.conv2"]
    zeros = 100 * (1 - mask.double().mean().item())
    assert found[f"sparsity-{width}-layer4.0.conv2"].mean == pytest.approx(zeros)


def test_every_number_is_printed_and_every_one_of_weights_and_sparsity_is_computed(found):
    kinds = ("weights-", "imagenet-weights-", "mlp-weights", "sparsity-")
    assert set(found) == {n for n in book.printed_claims() if n.startswith(kinds)}
    assert {(e.n, e.low, e.high) for e in found.values()} == {(1, e.mean, e.mean) for e in found.values()}
