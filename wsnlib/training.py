"""Train, evaluate, predict: one loop, for a CPU and a GPU.

The data lie on the device; the loop has no loader, no worker and no host synchronisation within
an epoch. Everything random (order, augmentation) is drawn on the CPU from the seed, so that a GPU
sees the same batches as a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from wsnlib import specs
from wsnlib.data import Dataset, Split, StreamedSplit


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


def learning_rate_factor(schedule: specs.Schedule, progress: float) -> float:
    """Learning rate divided by its greatest value after a fraction `progress` in [0, 1] of the run.

    Examples:
        >>> learning_rate_factor(specs.Cosine(), 0.5)
        0.5
        >>> learning_rate_factor(specs.MultiStep(milestones=(0.5, 0.75)), 0.5)
        0.1
        >>> learning_rate_factor(specs.OneCycle(warmup=0.25), 0.25)
        1.0
    """
    if isinstance(schedule, specs.Cosine):
        return _half_cosine(1, 0, progress)
    if isinstance(schedule, specs.OneCycle):
        if progress < schedule.warmup:
            return _half_cosine(schedule.start, 1, progress / schedule.warmup)
        return _half_cosine(1, schedule.end, (progress - schedule.warmup) / (1 - schedule.warmup))
    if isinstance(schedule, specs.MultiStep):
        passed = sum(progress >= milestone for milestone in schedule.milestones)
        return float(schedule.factor**passed)
    return 1.0


def _half_cosine(first: float, last: float, progress: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * progress)) / 2


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
    if any(isinstance(layer, nn.Conv2d) for layer in model.modules()):
        model.to(memory_format=torch.channels_last)
    optimizer = _optimizer(model, protocol)
    order = torch.Generator().manual_seed(specs.derive_seed(seed, "order"))
    history: dict[str, list[float]] = {"train_loss": [], "train_accuracy": []}
    history |= {"validation_accuracy": []} if has_validation else {}
    history |= {"test_loss": [], "test_accuracy": []}
    reported, best, predictions = 0, -1.0, None

    for epoch in range(1, protocol.epochs + 1):
        loss, accuracy = _train_epoch(model, data, protocol, optimizer, order, epoch=epoch)
        history["train_loss"].append(loss)
        history["train_accuracy"].append(accuracy)
        if not math.isfinite(loss):
            return Outcome(status="diverged", history=history)
        if epoch % protocol.evaluate_every and epoch < protocol.epochs:
            for name in history.keys() - {"train_loss", "train_accuracy"}:
                history[name].append(math.nan)
            continue
        if has_validation:
            validation = evaluate(model, data, data.validation, precision=protocol.precision)
            history["validation_accuracy"].append(validation.accuracy)
        test = evaluate(model, data, data.test, precision=protocol.precision)
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
        train_accuracy=evaluate(model, data, data.train, precision=protocol.precision).accuracy,
        predictions=predictions.to("cpu", torch.uint8 if len(data.classes) <= 256 else torch.int16),
    )


def _optimizer(model: nn.Module, protocol: specs.Training) -> torch.optim.Optimizer:
    weights: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for parameter in model.parameters():
        (weights if protocol.decayed == "all" or parameter.ndim > 1 else rest).append(parameter)
    groups = [
        {"params": weights, "weight_decay": protocol.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    return torch.optim.SGD(
        [group for group in groups if group["params"]],
        lr=protocol.learning_rate,
        momentum=protocol.momentum,
    )


def _train_epoch(
    model: nn.Module,
    data: Dataset,
    protocol: specs.Training,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    *,
    epoch: int,
) -> tuple[float, float]:
    """One pass in a new order; mean loss and accuracy over it."""
    device = data.train.labels.device
    n = len(data.train.labels)
    steps = -(-n // protocol.batch_size)
    order = torch.randperm(n, generator=generator)
    outputs = torch.empty(n, data.num_classes, device=device)
    batches = data.train.batches(
        order, batch_size=protocol.batch_size, augmentation=protocol.augmentation, generator=generator
    )
    model.train()
    done = 0
    for step, (images, labels) in enumerate(batches):
        by_step = isinstance(protocol.schedule, specs.OneCycle)
        progress = (epoch - 1 + (step / steps if by_step else 0)) / protocol.epochs
        for group in optimizer.param_groups:
            group["lr"] = protocol.learning_rate * learning_rate_factor(protocol.schedule, progress)
        with torch.autocast(device.type, torch.bfloat16, enabled=protocol.precision == "bfloat16"):
            logits = model(data.normalise(images))
        loss = F.cross_entropy(logits.float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        outputs[done : done + len(labels)] = logits.detach()
        done += len(labels)
    seen = data.train.labels[order.to(device)]
    return F.cross_entropy(outputs, seen).item(), (outputs.argmax(1) == seen).double().mean().item()


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Mean cross-entropy (nats), accuracy in [0, 1] and predicted classes (n,) on one split."""

    loss: float
    accuracy: float
    predictions: torch.Tensor


def evaluate(
    model: nn.Module,
    data: Dataset,
    split: Split | StreamedSplit,
    *,
    batch_size: int = 500,
    precision: Literal["float32", "bfloat16"] = "float32",
) -> Evaluation:
    """Loss, accuracy and predictions on a split, in evaluation mode and without gradients."""
    batches = split.batches(torch.arange(len(split.labels)), batch_size=batch_size)
    outputs = _logits(model, data, (batch.images for batch in batches), precision)
    predictions = outputs.argmax(1)
    return Evaluation(
        loss=F.cross_entropy(outputs, split.labels).item(),
        accuracy=(predictions == split.labels).double().mean().item(),
        predictions=predictions,
    )


def predict(model: nn.Module, data: Dataset, images: torch.Tensor, *, batch_size: int = 500) -> torch.Tensor:
    """Predicted class of every image, (n,) int64; `images` are uint8, normalised as in `data`."""
    return _logits(model, data, images.split(batch_size), "float32").argmax(1)


@torch.no_grad()
def _logits(model: nn.Module, data: Dataset, batches: Iterable[torch.Tensor], precision: str) -> torch.Tensor:
    model.eval()
    outputs = []
    for images in batches:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            outputs.append(model(data.normalise(images)).float())
    return torch.cat(outputs)
