"""Train, evaluate, predict: one loop, for a CPU and a GPU.

The data lie on the device; the loop has no loader, no worker and no host synchronisation within
an epoch. Everything random (order, augmentation) is drawn on the CPU from the seed, so that a GPU
sees the same batches as a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from wsnlib import specs
from wsnlib.data import Dataset, Split, augment


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a training gives.

    Args:
        status: `"diverged"` if the training loss was not finite after some epoch; training then
            stops there, and there is no reported epoch.
        history: One number per epoch under each name: `train_loss` and `train_accuracy` (means
            over the epoch, while the weights change), `test_loss`, `test_accuracy`, and
            `validation_accuracy` if there is a validation split. Accuracies lie in [0, 1].
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


def learning_rate_factor(schedule: specs.Constant | specs.MultiStep | specs.Cosine, progress: float) -> float:
    """Learning rate divided by its first value after a fraction `progress` in [0, 1) of the run.

    Examples:
        >>> learning_rate_factor(specs.Cosine(), 0.5)
        0.5
        >>> learning_rate_factor(specs.MultiStep(milestones=(0.5, 0.75)), 0.5)
        0.1
    """
    if isinstance(schedule, specs.Cosine):
        return (1 + math.cos(math.pi * progress)) / 2
    if isinstance(schedule, specs.MultiStep):
        passed = sum(progress >= milestone for milestone in schedule.milestones)
        return float(schedule.factor**passed)
    return 1.0


def train(
    model: nn.Module,
    data: Dataset,
    protocol: specs.Training,
    *,
    seed: int,
    on_epoch: Callable[[int, dict[str, list[float]]], None] | None = None,
) -> Outcome:
    """Train a model in place by the protocol, and say how it went.

    Args:
        model: On the device of the data.
        data: Where `data.train` lies is where everything is computed.
        protocol: Epochs, batch size, optimiser, schedule, augmentation, what to report.
        seed: Draws the order of the images and their augmentation.
        on_epoch: Called after each epoch with its number, from 1, and the history so far.

    Raises:
        ValueError: If the protocol reports by validation accuracy and there is no validation split.

    Examples:
        >>> from wsnlib.data import load_data
        >>> digits = load_data(specs.Digits())
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        >>> outcome = train(net, digits, specs.Training(epochs=5), seed=0)
        >>> outcome.status, outcome.reported_epoch, outcome.history["test_accuracy"][-1] > 0.8
        ('finished', 5, True)
    """
    has_validation = len(data.validation.labels) > 0
    if protocol.report == "best_validation" and not has_validation:
        raise ValueError("Training.report is 'best_validation' and there is no validation split")
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=protocol.learning_rate,
        momentum=protocol.momentum,
        weight_decay=protocol.weight_decay,
    )
    order = torch.Generator().manual_seed(specs.derive_seed(seed, "order"))
    history: dict[str, list[float]] = {"train_loss": [], "train_accuracy": []}
    history |= {"validation_accuracy": []} if has_validation else {}
    history |= {"test_loss": [], "test_accuracy": []}
    reported, best, predictions = 0, -1.0, None

    for epoch in range(1, protocol.epochs + 1):
        factor = learning_rate_factor(protocol.schedule, (epoch - 1) / protocol.epochs)
        for group in optimizer.param_groups:
            group["lr"] = protocol.learning_rate * factor
        loss, accuracy = _train_epoch(model, data, protocol, optimizer, order)
        history["train_loss"].append(loss)
        history["train_accuracy"].append(accuracy)
        if not math.isfinite(loss):
            return Outcome(status="diverged", history=history)
        if has_validation:
            history["validation_accuracy"].append(evaluate(model, data, data.validation).accuracy)
        test = evaluate(model, data, data.test)
        history["test_loss"].append(test.loss)
        history["test_accuracy"].append(test.accuracy)
        score = {
            "last": float(epoch),
            "best_validation": history.get("validation_accuracy", [0.0])[-1],
            "best_test": test.accuracy,
        }[protocol.report]
        if score > best:
            reported, best, predictions = epoch, score, test.predictions
        if on_epoch is not None:
            on_epoch(epoch, history)

    assert predictions is not None
    return Outcome(
        status="finished",
        history=history,
        reported_epoch=reported,
        train_accuracy=evaluate(model, data, data.train).accuracy,
        predictions=predictions.to("cpu", torch.uint8 if len(data.classes) <= 256 else torch.int16),
    )


def _train_epoch(
    model: nn.Module,
    data: Dataset,
    protocol: specs.Training,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
) -> tuple[float, float]:
    """One pass in a new order; mean loss and accuracy over it."""
    device = data.train.labels.device
    n = len(data.train.labels)
    images, labels = data.train.take(torch.randperm(n, generator=generator).to(device))
    outputs = torch.empty(n, data.num_classes, device=device)
    model.train()
    for start in range(0, n, protocol.batch_size):
        batch = slice(start, start + protocol.batch_size)
        x = images[batch]
        if protocol.augmentation is not None:
            x = augment(x, protocol.augmentation, generator=generator)
        with torch.autocast(device.type, torch.bfloat16, enabled=protocol.precision == "bfloat16"):
            logits = model(data.normalise(x))
        loss = F.cross_entropy(logits.float(), labels[batch])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        outputs[batch] = logits.detach()
    accuracy = (outputs.argmax(1) == labels).double().mean()
    return F.cross_entropy(outputs, labels).item(), accuracy.item()


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Mean cross-entropy (nats), accuracy in [0, 1] and predicted classes (n,) on one split."""

    loss: float
    accuracy: float
    predictions: torch.Tensor


def evaluate(model: nn.Module, data: Dataset, split: Split, *, batch_size: int = 2000) -> Evaluation:
    """Loss, accuracy and predictions on a split, in evaluation mode and without gradients."""
    outputs = _logits(model, data, split.images, batch_size)
    predictions = outputs.argmax(1)
    return Evaluation(
        loss=F.cross_entropy(outputs, split.labels).item(),
        accuracy=(predictions == split.labels).double().mean().item(),
        predictions=predictions,
    )


def predict(model: nn.Module, data: Dataset, images: torch.Tensor, *, batch_size: int = 2000) -> torch.Tensor:
    """Predicted class of every image, (n,) int64; `images` are uint8, normalised as in `data`."""
    return _logits(model, data, images, batch_size).argmax(1)


@torch.no_grad()
def _logits(model: nn.Module, data: Dataset, images: torch.Tensor, batch_size: int) -> torch.Tensor:
    model.eval()
    return torch.cat([model(data.normalise(batch)) for batch in images.split(batch_size)])
