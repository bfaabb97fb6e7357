"""First principal components of layers, and networks without their last residual blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from wsnlib.representations.batches import Prepare, as_images
from wsnlib.representations.reading import device_of, layer_names, read
from wsnlib.similarity import first_component, read_centred_gram
from wsnlib.similarity.hsic import Array


@dataclass(frozen=True, kw_only=True)
class Components:
    """The first principal component of each layer over n images.

    Args:
        layers: Names, in order of computation.
        shares: σ₁² / Σσ² of the centred representation, (layers,) in (0, 1]; NaN if it does not vary.
        projections: The images' coordinates along the component, σ₁ u₁, (layers, n), whose largest
            absolute value is positive. Sorted, they show the images at the two ends.
    """

    layers: tuple[str, ...]
    shares: npt.NDArray[np.float64]
    projections: npt.NDArray[np.float64]

    @property
    def dominance(self) -> npt.NDArray[np.float64]:
        """How much of the layers' first components is each image's (see `dominance_of`), (n,)."""
        lengths = np.linalg.norm(self.projections, axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):
            return dominance_of(self.projections / lengths, self.shares)


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


def first_components(
    model: nn.Module,
    images: Array,
    *,
    layers: Sequence[str] | None = None,
    prepare: Prepare | None = None,
) -> Components:
    """The first principal component of each layer over these images, and its share of the variance.

    Found from the n x n Gram matrix of the centred representation, whose eigenvalues are σ². All images go
    through the network at once: some hundreds to two thousand are meant.

    Args:
        model: Any module.
        images: (n, …), at least 2.
        layers: All leaf modules if not given.
        prepare: Turns images into what the model takes.

    References:
        N21, Section 5.1, equation (4), Figures 3, D.5 and D.7. The share in the released code
        (`TruncatedSVD.explained_variance_ratio_` of the transposed matrix) is another number; this is the
        one that equation (4) and its text speak of.

    Examples:
        >>> x = torch.outer(torch.tensor([1.0, -1, 2, -2]), torch.tensor([3.0, 4.0]))
        >>> found = first_components(nn.Sequential(nn.Identity()), x)
        >>> found.shares.round(6), found.projections.round(4)
        (array([1.]), array([[  5.,  -5.,  10., -10.]]))
    """
    images = as_images(images)
    names = layer_names(model, images, layers=layers, prepare=prepare)
    shares: dict[str, float] = {}
    projections: dict[str, npt.NDArray[np.float64]] = {}

    def reduce(name: str, x: torch.Tensor) -> None:
        shares[name], projections[name] = _component(read_centred_gram(x).cpu().double())

    with read(model, names, reduce):
        batch = images.to(device_of(model))
        model(batch if prepare is None else prepare(batch))
    return Components(
        layers=tuple(names),
        shares=np.array([shares[name] for name in names]),
        projections=np.stack([projections[name] for name in names]),
    )


def _component(gram: torch.Tensor) -> tuple[float, npt.NDArray[np.float64]]:
    whole = gram.trace()
    if whole <= 0:
        return float("nan"), np.full(len(gram), np.nan)
    value, direction = first_component(gram)
    return float(value / whole), (direction * value.sqrt()).numpy()


def logits_without_ends(model: nn.Module, images: torch.Tensor) -> dict[tuple[str, ...], torch.Tensor]:
    """What a network gives without the last blocks of one stage, for every stage and number of them.

    Without its last blocks a stage gives what the block before them gave, whose shortcuts are identities:
    what comes before is computed once.

    Args:
        model: Children in a row, of which the stages are `nn.Sequential`s of residual blocks, as in
            [`ResNetCifar`][wsnlib.models.resnet_cifar.ResNetCifar]; there is nothing to delete if a block
            has no residual connection.
        images: As the model takes them.

    Returns:
        Outputs (n, classes) by the names of the deleted blocks: of each stage the last, the last two, …, all
        but the first.

    References:
        N21, Section 5.2 and Figure 5.

    Examples:
        >>> from wsnlib.models import ResNetCifar
        >>> net = ResNetCifar(14).eval()
        >>> list(logits_without_ends(net, torch.rand(2, 3, 8, 8)))
        [('stage1.block2',), ('stage2.block2',), ('stage3.block2',)]
    """
    children = list(model.named_children())
    found: dict[tuple[str, ...], torch.Tensor] = {}
    with read(model, [], lambda name, x: None):
        x = images
        for position, (stage, child) in enumerate(children):
            blocks = list(child.named_children()) if isinstance(child, nn.Sequential) else []
            if not all(getattr(block, "residual", False) for _, block in blocks):
                return {}
            shorter = {}
            for number, (_, block) in enumerate(blocks, start=1):
                x = block(x)
                if number < len(blocks):
                    shortened = x
                    for _, later in children[position + 1 :]:
                        shortened = later(shortened)
                    shorter[tuple(f"{stage}.{name}" for name, _ in blocks[number:])] = shortened
            found |= dict(reversed(shorter.items()))
            if not blocks:
                x = child(x)
    return found
