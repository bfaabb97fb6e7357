"""What a training is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from wsnlib.specs.checks import choice, flag, instance, integer, number, refuse


@dataclass(frozen=True, kw_only=True)
class Constant:
    """The learning rate stays what it is."""


@dataclass(frozen=True, kw_only=True)
class MultiStep:
    """Multiply the learning rate by `factor` at each milestone, a fraction of the run in (0, 1)."""

    milestones: tuple[float, ...]
    factor: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "milestones", tuple(float(m) for m in self.milestones))
        rising = list(self.milestones) == sorted(set(self.milestones))
        if not self.milestones or not rising or not all(0 < m < 1 for m in self.milestones):
            raise refuse(self, "milestones", "a rising sequence of fractions between 0 and 1")
        number(self, "factor", above=0, at_most=1)


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Let the learning rate fall to 0 along half a cosine, epoch by epoch."""


@dataclass(frozen=True, kw_only=True)
class CropAndFlip:
    """Pad each image by `padding` pixels, crop at random, mirror left-right half of the time."""

    padding: int = 4
    padding_mode: Literal["zeros", "reflect"] = "zeros"
    flip: bool = True

    def __post_init__(self) -> None:
        integer(self, "padding", at_least=0)
        choice(self, "padding_mode", ("zeros", "reflect"))
        flag(self, "flip")


@dataclass(frozen=True, kw_only=True)
class Training:
    """Stochastic gradient descent on the cross-entropy.

    Args:
        epochs: Passes over the training images.
        batch_size: Images in a step; the last, smaller batch of an epoch is used too.
        learning_rate, momentum, weight_decay: As in `torch.optim.SGD`, on all parameters.
        schedule: How the learning rate changes over the run, in fractions of it.
        augmentation: Random changes of the training images, or `None`.
        precision: `"bfloat16"` computes the forward pass under autocast.
        report: The epoch whose test accuracy and predictions count: `"last"`,
            `"best_validation"` (needs a validation split) or `"best_test"` (what G21 reports;
            it looks at the test set while choosing, so it is biased upwards).
    """

    epochs: int
    batch_size: int = 100
    learning_rate: float = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: Constant | MultiStep | Cosine = Constant()
    augmentation: CropAndFlip | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    report: Literal["last", "best_validation", "best_test"] = "last"

    def __post_init__(self) -> None:
        integer(self, "epochs", "batch_size", at_least=1)
        number(self, "learning_rate", above=0)
        number(self, "momentum", at_least=0, below=1)
        number(self, "weight_decay", at_least=0)
        instance(self, "schedule", (Constant, MultiStep, Cosine))
        if self.augmentation is not None:
            instance(self, "augmentation", (CropAndFlip,))
        choice(self, "precision", ("float32", "bfloat16"))
        choice(self, "report", ("last", "best_validation", "best_test"))
