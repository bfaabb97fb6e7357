"""What a training is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from wsnlib.specs.checks import NonNegativeInt, PositiveInt, Range, Share, Spec, numbers


@dataclass(frozen=True, kw_only=True)
class Constant:
    """The learning rate stays what it is."""


@dataclass(frozen=True, kw_only=True)
class MultiStep(Spec):
    """Multiply the learning rate by `factor` at each milestone, a fraction of the run in (0, 1)."""

    milestones: tuple[float, ...]
    factor: Share = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = "a rising sequence of fractions between 0 and 1"
        numbers(
            self, "milestones", float, allowed, lambda m: 0 < m[0] <= m[-1] < 1 and list(m) == sorted(set(m))
        )


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Let the learning rate fall to 0 along half a cosine, epoch by epoch."""


@dataclass(frozen=True, kw_only=True)
class OneCycle(Spec):
    """Let the learning rate rise from `start` times its peak and fall to `end` times it, step by step.

    Both along half a cosine; the peak is at the fraction `warmup` of the run.

    References:
        Smith and Topin, *Super-convergence* (2017); the defaults are those of
        `torch.optim.lr_scheduler.OneCycleLR`.
    """

    warmup: Annotated[float, Range(above=0, below=1)] = 0.3
    start: Annotated[float, Range(at_least=0, at_most=1)] = 0.04
    end: Annotated[float, Range(at_least=0, at_most=1)] = 4e-6


Schedule = Constant | MultiStep | Cosine | OneCycle


@dataclass(frozen=True, kw_only=True)
class CropAndFlip(Spec):
    """Pad each image by `padding` pixels, crop at random, mirror left-right half of the time."""

    padding: NonNegativeInt = 4
    padding_mode: Literal["zeros", "reflect"] = "zeros"
    flip: bool = True


@dataclass(frozen=True, kw_only=True)
class ResizedCropAndFlip(Spec):
    """Crop a part of each image at random, resize it to the image size, mirror half of the time.

    For images that are read from the disk (`ImageNet`, `ImageFolder`).

    Args:
        scale: Least and greatest area of the crop as a share of the image (G21, A.1: 0.2 to 1).
        flip: Whether to mirror left-right.
    """

    scale: tuple[float, float] = (0.2, 1.0)
    flip: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = "two rising numbers > 0 and ≤ 1"
        numbers(self, "scale", float, allowed, lambda s: len(s) == 2 and 0 < s[0] <= s[1] <= 1)


@dataclass(frozen=True, kw_only=True)
class Training(Spec):
    """Stochastic gradient descent on the cross-entropy.

    Args:
        epochs: Passes over the training images.
        batch_size: Images in a step; the last, smaller batch of an epoch is used too.
        learning_rate, momentum, weight_decay: As in `torch.optim.SGD`.
        weight_decay_on: What weight decay acts on: `"all"` parameters (G21), or `"weights"` only, without
            biases and normalisation (N21).
        schedule: Learning-rate schedule, in fractions of the run.
        augmentation: Random changes of the training images, or `None`.
        precision: `"bfloat16"` computes forward passes under autocast, on a CPU without instructions for it
            in about float32's time.
        evaluate_every: Epochs between two evaluations on the validation and test images; the last
            epoch is always evaluated.
        report: The epoch whose test accuracy and predictions count: `"last"`,
            `"best_validation"` (needs a validation split) or `"best_test"` (what G21 reports;
            it looks at the test set while choosing, so it is biased upwards).
    """

    epochs: PositiveInt
    batch_size: PositiveInt = 100
    learning_rate: Annotated[float, Range(above=0)] = 0.1
    momentum: Annotated[float, Range(at_least=0, below=1)] = 0.0
    weight_decay: Annotated[float, Range(at_least=0)] = 0.0
    weight_decay_on: Literal["all", "weights"] = field(default="all", metadata={"recorded": "decayed"})
    schedule: Schedule = Constant()
    augmentation: CropAndFlip | ResizedCropAndFlip | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    evaluate_every: PositiveInt = 1
    report: Literal["last", "best_validation", "best_test"] = "last"


@dataclass(frozen=True, kw_only=True)
class DynamicSparseTraining(Training):
    """A training in which masks move; `wsnlib.training.MovingMasks` says how, and what each field does.

    The other fields are those of `Training`.

    Examples:
        >>> DynamicSparseTraining(epochs=5, method="rigl").every
        100
    """

    method: Literal["set", "rigl"]
    every: PositiveInt = 100
    fraction: Share = 0.3
    until: Share = 0.75
