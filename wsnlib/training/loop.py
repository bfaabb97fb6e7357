"""The loop over epochs, evaluation and predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parameter import is_lazy

from wsnlib import specs
from wsnlib.choices import check_choice
from wsnlib.data import Dataset, Split, StreamedSplit, check_bytes, check_data
from wsnlib.masks.allocation import listed
from wsnlib.precision import Precision, computing
from wsnlib.representations.reading import evaluating, read
from wsnlib.timings import reused_memory
from wsnlib.training.checkpoints import Checkpoint
from wsnlib.training.log import Evaluation, Outcome, TrainingLog, evaluation
from wsnlib.training.moving import MovingMasks
from wsnlib.training.schedules import learning_rate_factors
from wsnlib.training.steps import (
    RecordedStep,
    Step,
    check_float32,
    check_outputs,
    set_learning_rate,
    sgd,
    sgd_step,
    training_stream,
)

Observe = Callable[[int, nn.Module], None]


def train(
    model: nn.Module,
    data: Dataset,
    protocol: specs.Training,
    *,
    seed: int,
    cuda_graph: bool = True,
    checkpoint: Checkpoint | None = None,
    observe: Observe | None = None,
) -> Outcome:
    """Train a model in place by the protocol, and say how it went.

    On a CPU the same number of threads gives the same bits each time. On a GPU
    `torch.use_deterministic_algorithms(True)` before does, which needs the environment variable
    CUBLAS_WORKSPACE_CONFIG and costs some time.

    Args:
        model: On the device of the data.
        data: Where `data.train` lies is where everything is computed.
        protocol: Epochs, batch size, optimiser, schedule, augmentation, what to report.
        seed: Draws the order of the images, their augmentation and what layers draw, such as dropout. The
            caller's own random numbers go on as if nothing had been trained.
        cuda_graph: On a GPU, record the step once and replay it. `False` is for a network of one's own
            that has hooks which are to run in every step. One that reads values on the host, branches on
            them or draws random numbers there cannot be recorded, and is trained step by step with a
            warning; what else changes in Python from step to step is not noticed, and stays as it was.
        checkpoint: Where the state is kept between epochs; if one is there, the training goes on from it.
        observe: Called with the number of epochs that are over and the model in evaluation mode, from 0 on.
            It may run the model, not change it.

    Raises:
        DataError: If images are no bytes, or labels not one class number for each.
        ValueError: If the protocol reports by validation accuracy and there is no validation split, or the
            network does not give one number a class, has no parameters, or has lazy ones.

    Examples:
        >>> from wsnlib.data import load_data
        >>> digits = load_data(specs.Digits())
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        >>> outcome = train(net, digits, specs.Training(epochs=5), seed=0)
        >>> outcome.status, outcome.reported_epoch, outcome.history["test_accuracy"][-1] > 0.8
        ('finished', 5, True)
    """
    check_data(data)
    device = data.train.labels.device
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))
        drawn = specs.derive_seed(seed, "training")  # by layers such as dropout
        torch.default_generator.manual_seed(drawn)
        if device.type == "cuda":  # this one alone: nothing brings the others back
            with torch.cuda.device(device):
                torch.cuda.manual_seed(drawn)
        stack.enter_context(training_stream(device))
        if device.type == "cpu":
            stack.enter_context(reused_memory())
        moving = isinstance(protocol, specs.DynamicSparseTraining)
        recorded = cuda_graph and device.type == "cuda" and not moving
        return _train(model, data, protocol, seed, recorded=recorded, checkpoint=checkpoint, observe=observe)


def _train(
    model: nn.Module,
    data: Dataset,
    protocol: specs.Training,
    seed: int,
    *,
    recorded: bool,
    checkpoint: Checkpoint | None = None,
    observe: Observe | None = None,
) -> Outcome:
    parameters = dict(model.named_parameters())
    if not parameters:
        raise ValueError("the network must have parameters to train, got none; add a layer that has some")
    if lazy := [name for name, parameter in parameters.items() if is_lazy(parameter)]:
        raise ValueError(
            f"parameters must have their sizes, got {listed(lazy)} of lazy layers; call the model on a batch "
            "first"
        )
    check_float32(model)
    of_images = any(isinstance(layer, nn.Conv2d) for layer in model.modules())
    of_volumes = any(tensor.ndim == 5 for tensor in (*model.parameters(), *model.buffers()))
    if of_images and not of_volumes and not _crashes(model, data):  # five dimensions have no such layout
        model.to(memory_format=torch.channels_last)
        if not _runs(model, data):
            model.to(memory_format=torch.contiguous_format)
    optimizer = sgd(model, protocol)
    step: Step = sgd_step(model, optimizer, data, precision=protocol.precision)
    if recorded:
        step = RecordedStep(step, batch_size=min(protocol.batch_size, len(data.train.labels)))
    move, steps = None, -(-len(data.train.labels) // protocol.batch_size)
    if isinstance(protocol, specs.DynamicSparseTraining):
        move = MovingMasks(
            model,
            optimizer,
            method=protocol.method,
            steps=steps * protocol.epochs,
            every=protocol.every,
            fraction=protocol.fraction,
            until=protocol.until,
            seed=seed,
        )
        step = _moving(step, move, model, data, protocol.precision)
    order = torch.Generator().manual_seed(specs.derive_seed(seed, "order"))
    log = TrainingLog(protocol, data)
    precision = protocol.precision
    done = 0 if checkpoint is None else checkpoint.restore(model, optimizer, order, log)
    if move is not None:
        move.done = done * steps
    if observe is not None and done == 0:
        with evaluating(model):
            observe(0, model)
    diverged = False
    for epoch in range(done + 1, protocol.epochs + 1):
        model.train()
        diverged = not log.trained(*train_epoch(step, data, protocol, optimizer, order, epoch=epoch))
        if diverged:
            break
        if log.is_evaluated(epoch):
            found = evaluate(model, data, data.validation, precision=precision) if log.validates else None
            log.evaluated(epoch, found, evaluate(model, data, data.test, precision=precision))
        if observe is not None:
            with evaluating(model):
                observe(epoch, model)
        if checkpoint is not None:
            checkpoint.epoch_ended(epoch, model, optimizer, order, log)
    optimizer.zero_grad(set_to_none=True)  # gradients in the memory of a graph would keep it
    model.eval()
    if diverged:
        return log.diverged()
    return log.finished(evaluate(model, data, data.train, precision=precision).accuracy)


def _moving(step: Step, move: MovingMasks, model: nn.Module, data: Dataset, precision: str) -> Step:
    """A step after which masks move, if it is time to."""

    def moved(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        def loss() -> torch.Tensor:
            with computing(precision, labels.device):
                logits = model(data.normalise(images))
            return F.cross_entropy(logits.float(), labels)

        logits = step(images, labels)
        move(loss)
        return logits

    return moved


def _crashes(model: nn.Module, data: Dataset) -> bool:
    """Whether torch 2.15 ends the process in the backward pass of a channels-last, strided 1x1 convolution.

    On a CPU with several threads it does where the number of images is odd, as that of a last batch can be;
    on one without AVX-512 it writes beyond an array where there are 2 to 6 input channels.
    """
    strided = (m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1) != m.stride)
    few = any(layer.in_channels < 8 for layer in strided)
    return data.train.labels.device.type == "cpu" and (few or torch.get_num_threads() > 1)


def _runs(model: nn.Module, data: Dataset) -> bool:
    """Whether a model takes images; one that takes views of its activations needs them contiguous."""
    images = torch.zeros(4, *data.image_shape, device=data.train.labels.device)
    with read(model, [], lambda name, x: None):
        try:
            model(images)
        except RuntimeError:
            return False
    return True


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
    n = len(data.train.labels)
    order = torch.randperm(n, generator=generator)
    batches = data.train.batches(
        order, batch_size=protocol.batch_size, augmentation=protocol.augmentation, generator=generator
    )
    factors = learning_rate_factors(protocol, epoch=epoch, steps=-(-n // protocol.batch_size))

    def logits() -> Iterator[torch.Tensor]:
        for factor, (images, labels) in zip(factors, batches, strict=True):
            set_learning_rate(optimizer, protocol.learning_rate * factor)
            yield step(images, labels).to(torch.float32, copy=True)  # the next step may write there

    found = evaluation(logits(), data.train.labels[order.to(data.train.labels.device)])
    return found.loss, found.accuracy


def evaluate(
    model: nn.Module,
    data: Dataset,
    split: Split | StreamedSplit,
    *,
    batch_size: int = 500,
    precision: Precision = "float32",
) -> Evaluation:
    """Loss, accuracy and predictions on a split, in evaluation mode and without gradients.

    The mode of the model is afterwards what it was.
    """
    check_data(data, split)
    check_choice("precision", precision, Precision)
    batches = split.batches(torch.arange(len(split.labels)), batch_size=batch_size)
    with evaluating(model), torch.no_grad():
        return evaluation(_logits(model, data, (b.images for b in batches), precision), split.labels)


def predict(model: nn.Module, data: Dataset, images: torch.Tensor, *, batch_size: int = 500) -> torch.Tensor:
    """Predicted class of every image, (n,) int64; `images` are uint8, normalised as in `data`."""
    check_bytes(images)
    with evaluating(model), torch.no_grad():
        batches = _logits(model, data, images.split(batch_size), "float32")
        return torch.cat([logits.argmax(1) for logits in batches])


def _logits(
    model: nn.Module, data: Dataset, batches: Iterable[torch.Tensor], precision: str
) -> Iterator[torch.Tensor]:
    check_float32(model)
    for images in batches:
        with computing(precision, images.device):
            logits = model(data.normalise(images))
        check_outputs(logits, data.num_classes)
        yield logits.float()
