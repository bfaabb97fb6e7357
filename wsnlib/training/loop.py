"""The loop over epochs, and what comes of it: outcome, evaluation, predictions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from wsnlib import specs
from wsnlib.data import Dataset, Split, StreamedSplit
from wsnlib.training.schedules import learning_rate_factors
from wsnlib.training.steps import (
    RecordedStep,
    Step,
    deterministic_algorithms,
    set_learning_rate,
    sgd,
    sgd_step,
    training_stream,
)


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


def train(
    model: nn.Module,
    data: Dataset,
    protocol: specs.Training,
    *,
    seed: int,
    on_epoch: Callable[[int, dict[str, list[float]]], None] | None = None,
    deterministic: bool = False,
    cuda_graph: bool = True,
) -> Outcome:
    """Train a model in place by the protocol, and say how it went.

    Args:
        model: On the device of the data.
        data: Where `data.train` lies is where everything is computed.
        protocol: Epochs, batch size, optimiser, schedule, augmentation, what to report.
        seed: Draws the order of the images and their augmentation.
        on_epoch: Called after each evaluated epoch with its number, from 1, and the history so far.
        deterministic: Use only operations that give the same bits each time on one device. On a GPU
            this needs the environment variable CUBLAS_WORKSPACE_CONFIG, and costs some time. On a CPU
            the same number of threads gives the same bits anyway.
        cuda_graph: On a GPU, record the step once and replay it. `False` is for a network of one's own
            whose forward pass reads values on the host, branches on them, or has hooks that are to run
            in every step.

    Raises:
        ValueError: If the protocol reports by validation accuracy and there is no validation split, or
            if `deterministic` cannot be had.
        RuntimeError: If the step cannot be recorded, or an operation is not deterministic.

    Examples:
        >>> from wsnlib.data import load_data
        >>> digits = load_data(specs.Digits())
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        >>> outcome = train(net, digits, specs.Training(epochs=5), seed=0)
        >>> outcome.status, outcome.reported_epoch, outcome.history["test_accuracy"][-1] > 0.8
        ('finished', 5, True)
    """
    if protocol.report == "best_validation" and len(data.validation.labels) == 0:
        raise ValueError("Training.report is 'best_validation' and there is no validation split")
    device = data.train.labels.device
    with ExitStack() as stack:
        if deterministic:
            stack.enter_context(deterministic_algorithms(device))
        stack.enter_context(training_stream(device))
        return _train(model, data, protocol, seed, on_epoch, recorded=cuda_graph and device.type == "cuda")


def _train(
    model: nn.Module,
    data: Dataset,
    protocol: specs.Training,
    seed: int,
    on_epoch: Callable[[int, dict[str, list[float]]], None] | None,
    *,
    recorded: bool,
) -> Outcome:
    if any(isinstance(layer, nn.Conv2d) for layer in model.modules()) and not _crashes(data):
        model.to(memory_format=torch.channels_last)
    optimizer = sgd(model, protocol)
    step: Step = sgd_step(model, optimizer, normalise=data.normalise, precision=protocol.precision)
    if recorded:
        step = RecordedStep(step, batch_size=protocol.batch_size)
    order = torch.Generator().manual_seed(specs.derive_seed(seed, "order"))
    course = Course(protocol, data)
    for epoch in range(1, protocol.epochs + 1):
        model.train()
        if not course.trained(*train_epoch(step, data, protocol, optimizer, order, epoch=epoch)):
            return course.diverged()
        if not course.is_evaluated(epoch):
            continue
        precision = protocol.precision
        validation = evaluate(model, data, data.validation, precision=precision) if course.validates else None
        course.evaluated(epoch, validation, evaluate(model, data, data.test, precision=precision))
        if on_epoch is not None:
            on_epoch(epoch, course.history)
    return course.finished(evaluate(model, data, data.train, precision=protocol.precision).accuracy)


def _crashes(data: Dataset) -> bool:
    """On a CPU with several threads torch 2.15 ends the process in the backward pass of a channels-last
    1x1 convolution of stride 2 when the number of images is odd, as that of a last batch can be."""
    return data.train.labels.device.type == "cpu" and torch.get_num_threads() > 1


class Course:
    """How one training goes, epoch by epoch, and what of it is reported."""

    def __init__(self, protocol: specs.Training, data: Dataset) -> None:
        self.protocol = protocol
        self.validates = len(data.validation.labels) > 0
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
            "best_validation": self.history.get("validation_accuracy", [0.0])[-1],
            "best_test": test.accuracy,
        }[self.protocol.report]
        if score > self.best:
            self.reported, self.best, self.predictions = epoch, score, test.predictions

    def diverged(self) -> Outcome:
        """The outcome of a training that stopped."""
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


def train_epoch(
    step: Step,
    data: Dataset,
    protocol: specs.Training,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    *,
    epoch: int,
) -> tuple[float, float]:
    """One pass in a new order; mean loss and accuracy over it, which the host reads at its end."""
    device = data.train.labels.device
    n = len(data.train.labels)
    order = torch.randperm(n, generator=generator)
    outputs = torch.empty(n, data.num_classes, device=device)
    batches = data.train.batches(
        order, batch_size=protocol.batch_size, augmentation=protocol.augmentation, generator=generator
    )
    factors = learning_rate_factors(protocol, epoch=epoch, steps=-(-n // protocol.batch_size))
    done = 0
    for factor, (images, labels) in zip(factors, batches, strict=True):
        set_learning_rate(optimizer, protocol.learning_rate * factor)
        outputs[done : done + len(labels)] = step(images, labels)
        done += len(labels)
    seen = data.train.labels[order.to(device)]
    loss, correct = F.cross_entropy(outputs, seen), outputs.argmax(1) == seen
    mean_loss, accuracy = torch.stack([loss.double(), correct.double().mean()]).tolist()
    return mean_loss, accuracy


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
    return evaluation(_logits(model, data, (batch.images for batch in batches), precision), split.labels)


def evaluation(logits: torch.Tensor, labels: torch.Tensor) -> Evaluation:
    """What logits (n, classes) say of images with these labels."""
    predictions = logits.argmax(1)
    return Evaluation(
        loss=F.cross_entropy(logits, labels).item(),
        accuracy=(predictions == labels).double().mean().item(),
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
