"""All layers of a network on the same images at once, with and without their first principal components."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from wsnlib.representations.batches import Prepare, as_images, as_inputs, run
from wsnlib.representations.reading import (
    check_all_ran,
    check_rows,
    device_of,
    layer_names,
    quick_layout,
    read,
)
from wsnlib.similarity import Gram, cka_of_units, decompose, first_component
from wsnlib.similarity.hsic import Array

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class DecomposedLayers:
    """How alike layers are, and along what, from one forward pass of n images.

    Args:
        layers: Names, in order of computation.
        cka: Linear CKA between them by HSIC₁ of all images, (layers, layers); NaN for one that does not vary.
        cka_without_component: The same with each layer's first principal component removed.
        shares: σ₁²/Σσ² of each layer, (layers,) in (0, 1]; NaN if it does not vary.
        directions: u₁ of each layer, the images along its component, (layers, n); each of length 1, its
            largest absolute value positive. Sorted, they show the images at the two ends.
        zeros: The share of activations that are exactly 0, (layers,).
        joint_share: σ₁²/Σσ² of the layers asked for side by side; NaN if none are.
        grams: Centred Gram matrices of the layers that were to be kept, (kept, n, n).
    """

    layers: tuple[str, ...]
    cka: Matrix
    cka_without_component: Matrix
    shares: Matrix
    directions: Matrix
    zeros: Matrix
    joint_share: float
    grams: torch.Tensor


def decompose_layers(
    model: nn.Module,
    images: Array,
    *,
    layers: Sequence[str] | None = None,
    kept: Sequence[str] = (),
    joint: Sequence[str] = (),
    prepare: Prepare | None = None,
) -> DecomposedLayers:
    """CKA of every two layers, and the first principal component of each, in one forward pass.

    All images go through the network together, some hundreds to two thousand: HSIC₁ of all of them is what
    the estimate over minibatches converges to (N21, Proposition 1). Memory is 4 · n² bytes a layer.

    Args:
        model: Any module.
        images: (n, …), at least 4.
        layers: All leaf modules if not given.
        kept: Layers whose Gram matrices are given back.
        joint: Layers whose representations are also taken together, for `joint_share`.
        prepare: Turns images into what the model takes.

    Raises:
        ValueError: If a layer is unknown, does not run, gives no row for each image, or numbers that are not
            finite.

    References:
        N21, Sections 3.1 and 5.1, equation (4), Figures 1, 3, D.5 to D.8. The share in the released code
        (`TruncatedSVD.explained_variance_ratio_` of the transposed matrix) is another number; this is the
        one that equation (4) and its text speak of.

    Examples:
        >>> net = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
        >>> found = decompose_layers(net, torch.randn(40, 3), kept=["1"])
        >>> found.layers, found.cka.shape, found.directions.shape, found.grams.shape
        (('0', '1', '2'), (3, 3), (3, 40), torch.Size([1, 40, 40]))
    """
    images = as_images(images)
    names = layer_names(model, images, layers=layers, prepare=prepare)
    for asked, given in (("kept", kept), ("joint", joint)):
        if unknown := [name for name in given if name not in names]:
            raise ValueError(
                f"{asked} must be among the layers {', '.join(names[:6])}, …, got {unknown[0]!r}"
            )
    whole: list[Gram] = []
    rest: list[Gram] = []
    shares, directions, zeros, read_so_far = [], [], [], []
    grams: dict[str, torch.Tensor] = {}
    together = torch.zeros(len(images), len(images), dtype=torch.float64)

    def reduce(name: str, x: torch.Tensor) -> None:
        check_rows(name, len(x), len(images))
        found = decompose(x)
        if not found.whole.norm.isfinite():
            raise ValueError(
                f"the representation of {name} must be finite, got NaN or infinity; leave it out"
            )
        read_so_far.append(name)
        whole.append(found.whole)
        rest.append(found.rest)
        shares.append(found.share)
        directions.append(found.direction.numpy())
        zeros.append(1 - int(x.count_nonzero()) / x.numel())
        if name in joint:
            together.add_(found.gram.cpu())
        if name in kept:
            grams[name] = found.gram

    batch = images.to(device_of(model), memory_format=quick_layout(model, images, prepare=prepare))
    with read(model, names, reduce):
        run(model, (prepare or as_inputs)(batch))
    check_all_ran(set(names) - set(read_so_far))
    joint_share = float("nan")
    if together.trace() > 0:
        joint_share = float(first_component(together)[0] / together.trace())
    return DecomposedLayers(
        layers=tuple(names),
        cka=cka_of_units(whole),
        cka_without_component=cka_of_units(rest),
        shares=np.array(shares),
        directions=np.stack(directions),
        zeros=np.array(zeros),
        joint_share=joint_share,
        grams=torch.stack([grams[name] for name in kept]) if kept else torch.empty(0),
    )


def dominance_of(
    directions: npt.NDArray[np.float64], shares: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Σₗ sₗ uₗᵢ² / Σₗ sₗ of each image, over layers that vary: its part of their first components.

    It adds up to 1. Where a few images have most of it, a block of alike layers may be theirs alone; compute
    CKA without them and see.

    Args:
        directions: u, unit vectors (layers, n); NaN for layers that do not vary.
        shares: s, (layers,), each component's share of its layer's variance.

    References:
        Nguyen, Raghu, Kornblith, *On the origins of the block structure phenomenon* (2022), which speaks of
        dominant examples; the measure is ours.

    Examples:
        >>> dominance_of(np.array([[1.0, 0.0], [0.6, 0.8]]), np.array([0.75, 0.25])).round(2)
        array([0.84, 0.16])
    """
    weights = np.nan_to_num(shares)
    return np.asarray(weights @ np.nan_to_num(directions) ** 2 / weights.sum())
