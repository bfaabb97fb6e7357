"""How one training goes, and what comes of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F

from wsnlib import specs
from wsnlib.data import Dataset


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a training gives.

    Args:
        status: `"diverged"` if the training loss was not finite after some epoch; training then
            stops there, and there is no reported epoch.
        history: One number per epoch under each name: `train_loss` and `train_accuracy` (means
            over the epoch, while the weights change), `test_loss`, `test_accuracy`, and
            `validation_accuracy` if there is a validation split, NaN where an epoch was not
            evaluated. Accuracies lie in [0, 1].
        reported_epoch: The epoch, counted from 1, that the protocol reports.
        train_accuracy: Of the last weights on all training images, without augmentation.
        predictions: Predicted class of every test image at the reported epoch, (n,) uint8 (int16
            above 256 classes).
    """

    status: Literal["finished", "diverged"]
    history: dict[str, list[float]]
    reported_epoch: int | None = None
    train_accuracy: float | None = None
    predictions: torch.Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Mean cross-entropy (nats), accuracy in [0, 1] and predicted classes (n,) on one split."""

    loss: float
    accuracy: float
    predictions: torch.Tensor


MOST_LOGITS = 2**25
"""How many of a pass over images are kept at once, those of 33,554 images of ImageNet (128 MiB)."""


def evaluation(batches: Iterable[torch.Tensor], labels: torch.Tensor) -> Evaluation:
    """What logits say of n images with these labels; they come batch by batch, (images, classes) float32.

    No value is read by the host before the end.
    """
    done = 0
    losses, predictions = [], []
    for logits in _joined(batches):
        seen = labels[done : done + len(logits)]
        losses.append(F.cross_entropy(logits, seen).double() * (len(seen) / len(labels)))
        predictions.append(logits.argmax(1))
        done += len(logits)
    classes = torch.cat(predictions)
    loss, accuracy = torch.stack([torch.stack(losses).sum(), (classes == labels).double().mean()]).tolist()
    return Evaluation(loss=loss, accuracy=accuracy, predictions=classes)


def _joined(batches: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    """As few batches as may be, of `MOST_LOGITS` numbers and a batch at most."""
    kept: list[torch.Tensor] = []
    numbers = 0
    for logits in batches:
        kept.append(logits)
        numbers += logits.numel()
        if numbers >= MOST_LOGITS:
            yield torch.cat(kept)
            kept, numbers = [], 0
    if kept:
        yield torch.cat(kept)


class TrainingLog:
    """How one training goes, epoch by epoch, and what of it is reported."""

    def __init__(self, protocol: specs.Training, data: Dataset) -> None:
        self.protocol = protocol
        self.validates = len(data.validation.labels) > 0
        if protocol.report == "best_validation" and not self.validates:
            raise ValueError("Training.report is 'best_validation' and there is no validation split")
        self.dtype = torch.uint8 if len(data.classes) <= 256 else torch.int16
        self.history: dict[str, list[float]] = {"train_loss": [], "train_accuracy": []}
        self.history |= {"validation_accuracy": []} if self.validates else {}
        self.history |= {"test_loss": [], "test_accuracy": []}
        self.reported, self.best = 0, -1.0
        self.predictions: torch.Tensor | None = None

    def trained(self, loss: float, accuracy: float) -> bool:
        """Note an epoch's training; whether its loss is finite."""
        self.history["train_loss"].append(loss)
        self.history["train_accuracy"].append(accuracy)
        return math.isfinite(loss)

    def is_evaluated(self, epoch: int) -> bool:
        """Whether the network is evaluated after this epoch; if not, that is noted."""
        if epoch % self.protocol.evaluate_every == 0 or epoch == self.protocol.epochs:
            return True
        for name in self.history.keys() - {"train_loss", "train_accuracy"}:
            self.history[name].append(math.nan)
        return False

    def evaluated(self, epoch: int, validation: Evaluation | None, test: Evaluation) -> None:
        """Note an evaluation, and its predictions if the protocol reports it rather than earlier ones."""
        if validation is not None:
            self.history["validation_accuracy"].append(validation.accuracy)
        self.history["test_loss"].append(test.loss)
        self.history["test_accuracy"].append(test.accuracy)
        score = {
            "last": float(epoch),
            "best_validation": 0.0 if validation is None else validation.accuracy,
            "best_test": test.accuracy,
        }[self.protocol.report]
        if score > self.best:
            self.reported, self.best, self.predictions = epoch, score, test.predictions

    def state(self) -> dict[str, Any]:
        """As plain values, all but the predictions."""
        return {"history": self.history, "reported": self.reported, "best": self.best}

    def restore(self, state: dict[str, Any], predictions: torch.Tensor | None) -> None:
        """Go on from a state."""
        self.history, self.reported, self.best = state["history"], state["reported"], state["best"]
        self.predictions = predictions

    def diverged(self) -> Outcome:
        """The outcome of a training that stopped; of its last epoch there is no evaluation."""
        epochs = len(self.history["train_loss"])
        for values in self.history.values():
            values += [math.nan] * (epochs - len(values))
        return Outcome(status="diverged", history=self.history)

    def finished(self, train_accuracy: float) -> Outcome:
        """The outcome of a training that came to its end."""
        assert self.predictions is not None
        return Outcome(
            status="finished",
            history=self.history,
            reported_epoch=self.reported,
            train_accuracy=train_accuracy,
            predictions=self.predictions.to("cpu", self.dtype),
        )
