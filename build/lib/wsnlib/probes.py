"""Linear probes: how well a linear classifier reads the classes off one layer.

A probe is multinomial logistic regression with an L2 penalty, on the pooled output of a layer:

    minimise  mean cross-entropy + λ/2 · ‖W‖²  over the training images,

with λ chosen by accuracy on the validation images and the accuracy reported on the test images, once. It is
convex and solved to a gradient as good as 0, so that a probe has no learning rate, schedule or seed.

What makes it quick is a change of coordinates. Along the right singular vectors of X, each scaled by
(σ²/(2n) + λ)^(−1/2), the Hessian is at most the identity (½ XᵀX/n bounds that of the cross-entropy, Böhning
1992), so that conjugate gradients find a Newton step in few products with it, whatever the layer;
features beyond the number of images cost nothing. Features are centred and scaled by one number a layer,
never one by one: a probe is then invariant to what CKA is invariant to, and λ means the same in every layer.

References:
    N21, Section 5.2 and Figure 4, which does not describe its probes. The released code's `linear_probe.py`
    trains on all activations, or those max-pooled over 2x2 positions, of the layer before and after each
    addition, by SGD for 300 epochs without a guarantee of convergence, and keeps the best accuracy over
    epochs and penalties on the test images. Böhning, *Multinomial logistic regression algorithm* (1992).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from wsnlib.data import Dataset, Split, StreamedSplit
from wsnlib.representations import layer_names, read_representations

__all__ = ["Probe", "around_additions", "fit_probe", "linear_probes"]

STRENGTHS = (1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5)
"""Penalties λ to choose from, for features of variance 1 on average over the layer's principal axes."""

_STEPS = 200
_TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One layer's probe.

    Args:
        strength: The penalty λ, chosen on the validation images.
        train_accuracy: In [0, 1], and so are the others.
        validation_accuracy: At that strength; the largest over strengths.
        test_accuracy: At that strength; the number to report.
        gradient: Largest entry of the gradient where the solver stopped, in the scaled coordinates.
        features: Of a pooled image.
    """

    strength: float
    train_accuracy: float
    validation_accuracy: float
    test_accuracy: float
    gradient: float
    features: int


Examples = tuple[torch.Tensor, torch.Tensor]
"""Features (n, …) and labels (n,)."""


def fit_probe(
    train: Examples, validation: Examples, test: Examples, *, strengths: Sequence[float] = STRENGTHS
) -> Probe:
    """The linear probe of one representation, in float64 on the device of the features.

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
                f"the {name} split has {len(x)} examples and {len(y)} labels; as many are allowed, above 0"
            )
    if not strengths or min(strengths) <= 0:
        raise ValueError(f"strengths are {tuple(strengths)}; at least one, all above 0, are allowed")
    labels = [y.long().to(train[0].device) for _, y in (train, validation, test)]
    axes = _PrincipalAxes(train[0])
    features = [axes.coordinates(x) for x, _ in (train, validation, test)]
    classes = int(max(y.max() for y in labels)) + 1
    weights = features[0].new_zeros(features[0].shape[1], classes)
    bias = features[0].new_zeros(classes)
    best: Probe | None = None
    for strength in sorted(strengths, reverse=True):
        weights, bias, gradient = _solve(features[0], labels[0], weights, bias, strength)
        accuracies = [
            ((x @ weights + bias).argmax(1) == y).double().mean().item()
            for x, y in zip(features, labels, strict=True)
        ]
        if best is None or accuracies[1] > best.validation_accuracy:
            best = Probe(
                strength=strength,
                train_accuracy=accuracies[0],
                validation_accuracy=accuracies[1],
                test_accuracy=accuracies[2],
                gradient=gradient,
                features=train[0][0].numel(),
            )
    assert best is not None
    return best


class _PrincipalAxes:
    """Coordinates along the principal axes of some examples, scaled so that the mean variance is 1."""

    def __init__(self, x: torch.Tensor) -> None:
        x = x.double().flatten(1)
        self._mean = x.mean(0)
        x = x - self._mean
        if len(x) >= x.shape[1]:
            squares, axes = torch.linalg.eigh(x.T @ x)
        else:
            squares, vectors = torch.linalg.eigh(x @ x.T)
            axes = x.T @ vectors / squares.clamp(min=torch.finfo(x.dtype).tiny).sqrt()
        kept = squares > squares[-1] * len(squares) * torch.finfo(x.dtype).eps
        variance = squares[kept].mean() / len(x) if kept.any() else squares.new_ones(())
        self._axes: torch.Tensor = axes[:, kept] / variance.sqrt()

    def coordinates(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = (x.double().flatten(1) - self._mean) @ self._axes
        return made


def _solve(
    x: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, bias: torch.Tensor, strength: float
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Weights and bias at the minimum, from the ones given, and the largest entry of the gradient there."""
    scale = (x.square().mean(0) / 2 + strength).rsqrt().unsqueeze(1)
    inputs = torch.cat([x * scale.squeeze(1), x.new_ones(len(x), 1)], dim=1)
    penalty = torch.cat([strength * scale.square(), scale.new_zeros(1, 1)])  # none on the bias
    scaled = torch.cat([weights / scale, bias.unsqueeze(0)])
    targets = F.one_hot(labels, len(bias)).to(x.dtype)

    def loss(at: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(inputs @ at, labels) + (penalty * at.square()).sum() / 2

    largest = math.inf
    for _ in range(_STEPS):
        shares = (inputs @ scaled).softmax(1)
        gradient = inputs.T @ (shares - targets) / len(x) + penalty * scaled
        largest = float(gradient.abs().max())
        if largest <= _TOLERANCE:
            break
        step = _newton_step(inputs, shares, penalty, gradient)
        slope, before, length = float((gradient * step).sum()), float(loss(scaled)), 1.0
        while float(loss(scaled + length * step)) > before + 1e-4 * length * slope and length > 1e-6:
            length /= 2
        scaled = scaled + length * step
    return scaled[:-1] * scale, scaled[-1], largest


def _newton_step(
    inputs: torch.Tensor, shares: torch.Tensor, penalty: torch.Tensor, gradient: torch.Tensor
) -> torch.Tensor:
    """−H⁻¹ · gradient by conjugate gradients, the closer the smaller the gradient is."""

    def curvature(along: torch.Tensor) -> torch.Tensor:
        moved = shares * (inputs @ along)
        moved -= shares * moved.sum(1, keepdim=True)
        return inputs.T @ moved / len(inputs) + penalty * along

    step, residual = torch.zeros_like(gradient), -gradient
    direction, squared = residual, float(residual.square().sum())
    enough = min(0.25, squared**0.5) * squared
    for _ in range(gradient.numel()):
        if squared <= enough:
            break
        bent = curvature(direction)
        length = squared / float((direction * bent).sum())
        step = step + length * direction
        residual = residual - length * bent
        before, squared = squared, float(residual.square().sum())
        direction = residual + squared / before * direction
    return step


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
        raise ValueError("there is no validation split to choose the strength on; the data need one")
    splits = [_in_memory(split) for split in (data.train, data.validation, data.test)]
    if pool is not None and pool < 1:
        raise ValueError(f"pool is {pool}; at least 1, or None, is allowed")
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
    device = data.train.labels.device
    found = {}
    for name in names:
        train, validation, test = ((x.pop(name).to(device), y.to(device)) for x, y in read)
        found[name] = fit_probe(train, validation, test, strengths=strengths)
    return found


def _in_memory(split: Split | StreamedSplit) -> Split:
    if not isinstance(split, Split):
        raise ValueError("the images are read from the disk as they are needed; images in memory are allowed")
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
        raise ValueError(f"the {type(model).__name__} has no blocks with norm2 and add; give layers")
    return [f"{block}.{layer}" for block in blocks for layer in ("norm2", "add")]
