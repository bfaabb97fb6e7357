"""Linear probes: how well a linear classifier reads the classes off one layer.

A probe is multinomial logistic regression with an L2 penalty, on the pooled output of a layer:

    minimise  mean cross-entropy + λ/2 · ‖W‖²  over the training images,

(of two classes λ · ‖W‖², as scikit-learn then fits the difference of the two rows of W alone) with λ chosen
by accuracy on the validation images and the accuracy reported on the test images, once. It is convex and
solved by scikit-learn to a gradient as good as 0, so that a probe has no learning rate, schedule or seed.
Features are centred and scaled by one number a layer, never one by one: a probe is then invariant to what CKA
is invariant to, and λ means the same in every layer.

References:
    N21, Section 5.2 and Figure 4, which does not describe its probes. The released code's `linear_probe.py`
    trains on all activations, or those max-pooled over 2x2 positions, of the layer before and after each
    addition, by SGD for 300 epochs without a guarantee of convergence, and keeps the best accuracy over
    epochs and penalties on the test images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from wsnlib.data import Dataset, Split, StreamedSplit
from wsnlib.representations import layer_names, read_representations

__all__ = ["Probe", "around_additions", "fit_probe", "linear_probes"]

STRENGTHS = (1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5)
"""Penalties λ to choose from, for features of variance 1 on average over the layer's principal axes."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One layer's probe.

    Args:
        strength: The penalty λ, chosen on the validation images.
        train_accuracy: In [0, 1], and so are the others.
        validation_accuracy: At that strength; the largest over strengths.
        test_accuracy: At that strength; the number to report.
        features: Number of features of a pooled image.
    """

    strength: float
    train_accuracy: float
    validation_accuracy: float
    test_accuracy: float
    features: int


Examples = tuple[torch.Tensor, torch.Tensor]
"""Features (n, …) and labels (n,)."""


def fit_probe(
    train: Examples, validation: Examples, test: Examples, *, strengths: Sequence[float] = STRENGTHS
) -> Probe:
    """The linear probe of one representation, in float64 on the CPU.

    Args:
        train: Features (n, …), flattened, and labels (n,) from 0.
        validation: Others, on which the strength is chosen (of equals, the largest).
        test: Others, for the accuracy that is reported.
        strengths: Penalties, all above 0.

    Raises:
        ValueError: If a split is empty or its sizes do not match, or a strength is not above 0.

    Examples:
        >>> generator = torch.Generator().manual_seed(0)
        >>> labels = torch.arange(90) % 3
        >>> x = torch.eye(3)[labels] + 0.1 * torch.randn(90, 3, generator=generator)
        >>> splits = [(x[part], labels[part]) for part in (slice(0, 30), slice(30, 60), slice(60, 90))]
        >>> fit_probe(*splits).test_accuracy
        1.0
    """
    for name, (x, y) in (("training", train), ("validation", validation), ("test", test)):
        if len(x) != len(y) or not len(x):
            raise ValueError(
                f"examples and labels of the {name} split must be as many, at least 1, got {len(x)} and "
                f"{len(y)}"
            )
    strengths = tuple(strengths)
    if not strengths or min(strengths) <= 0:
        raise ValueError(f"strengths must be one or more numbers > 0, got {strengths}")
    from sklearn.linear_model import LogisticRegression

    labels = [y.cpu().numpy() for _, y in (train, validation, test)]
    features = _centred_and_scaled(
        [x.detach().cpu().double().flatten(1) for x, _ in (train, validation, test)]
    )
    model = LogisticRegression(tol=1e-7, max_iter=10_000, warm_start=True)
    best: Probe | None = None
    for strength in sorted(strengths, reverse=True):
        model.set_params(C=1 / (strength * len(labels[0]))).fit(features[0], labels[0])
        accuracies = [float(model.score(x, y)) for x, y in zip(features, labels, strict=True)]
        if best is None or accuracies[1] > best.validation_accuracy:
            best = Probe(
                strength=strength,
                train_accuracy=accuracies[0],
                validation_accuracy=accuracies[1],
                test_accuracy=accuracies[2],
                features=train[0][0].numel(),
            )
    assert best is not None
    return best


def _centred_and_scaled(splits: Sequence[torch.Tensor]) -> list[npt.NDArray[np.float64]]:
    """Features less their mean on the first split, by the root of its mean variance along principal axes."""
    mean = splits[0].mean(0)
    x = splits[0] - mean
    gram = x @ x.T if len(x) < x.shape[1] else x.T @ x
    rank = int(torch.linalg.matrix_rank(gram, rtol=len(gram) * torch.finfo(x.dtype).eps, hermitian=True))
    scale = float(x.square().sum() / (len(x) * rank)) ** 0.5 if rank else 1.0
    return [((each - mean) / scale).numpy() for each in splits]


def linear_probes(
    model: nn.Module,
    data: Dataset,
    *,
    layers: Sequence[str] | None = None,
    pool: int | None = 2,
    strengths: Sequence[float] = STRENGTHS,
    batch_size: int = 256,
) -> dict[str, Probe]:
    """A linear probe on each layer, in order of computation.

    Args:
        model: Any module, run in evaluation mode.
        data: Its training, validation and test images are used for what their names say, normalised and
            without augmentation.
        layers: Names. If not given, the layers before and after every addition, as in N21: with
            [`ResNetCifar`][wsnlib.models.resnet_cifar.ResNetCifar] the last batch norm of each block and
            its `add`.
        pool: Outputs that are images are averaged to `pool` x `pool` positions. All layers of a stage then
            have equally many features, some hundreds rather than the ten thousands with which any layer
            separates the training images; hundreds of layers fit into memory and take seconds each. `None`
            keeps all features, as N21's code does by default.
        strengths: Penalties to choose from.
        batch_size: Images in one forward pass.

    Raises:
        ValueError: If there is no validation split, the images are read from the disk, a layer is unknown,
            or none is given and the model has no residual additions.

    References:
        N21, Section 5.2 and Figure 4.
    """
    if not len(data.validation.labels):
        raise ValueError(
            "data must have validation images to choose the strength on, got none; set validation_size"
        )
    splits = [_in_memory(split) for split in (data.train, data.validation, data.test)]
    if pool is not None and pool < 1:
        raise ValueError(f"pool must be ≥ 1 or None, got {pool}")
    if layers is None:
        layers = around_additions(model)
    names = layer_names(model, splits[0].images, layers=layers, prepare=data.normalise)

    def pooled(x: torch.Tensor) -> torch.Tensor:
        if pool is None or x.dim() != 4:
            return x
        return F.adaptive_avg_pool2d(x, pool)

    read = [
        (
            read_representations(
                model, s.images, layers=names, batch_size=batch_size, prepare=data.normalise, reduce=pooled
            ),
            s.labels.cpu(),
        )
        for s in splits
    ]
    return {name: fit_probe(*((x.pop(name), y) for x, y in read), strengths=strengths) for name in names}


def _in_memory(split: Split | StreamedSplit) -> Split:
    if not isinstance(split, Split):
        raise ValueError(
            "images must lie in memory for probes, got a split that is read from the disk; pack a part of it"
        )
    return split


def around_additions(model: nn.Module) -> list[str]:
    """The layer before and the one after each residual addition: of a block with `norm2` and `add`, these.

    Raises:
        ValueError: If the model has no such block.

    References:
        N21, Figure 4: orange and blue.

    Examples:
        >>> from wsnlib.models import ResNetCifar
        >>> around_additions(ResNetCifar(14))[:2]
        ['stage1.block1.norm2', 'stage1.block1.add']
    """
    blocks = [name for name, m in model.named_modules() if hasattr(m, "norm2") and hasattr(m, "add")]
    if not blocks:
        raise ValueError(
            f"a network must have blocks with norm2 and add, got none in a {type(model).__name__}; give "
            "layers"
        )
    return [f"{block}.{layer}" for block in blocks for layer in ("norm2", "add")]
