"""One step of gradient descent on a batch, eager or recorded as a CUDA graph.

A small network's step is hundreds of kernels of some microseconds each, and starting them one by one
takes the host longer than running them takes the GPU. A graph starts all of them at once. It holds
addresses and plain numbers, not Python: whatever changes from batch to batch (images, labels, learning
rate) has to lie in tensors that stay where they are. Compiling would fuse kernels as well, but takes the
better part of a minute for each of the many shapes of a sweep, where recording takes one step.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from wsnlib import masks, specs
from wsnlib.data import Dataset
from wsnlib.precision import computing

Step = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Images and labels of a batch to logits, with the network changed on the way."""

Record = Callable[[Callable[[], None]], Callable[[], None]]
"""Records the device's work of a function, without doing it; gives a function that does it again."""

EAGER_STEPS = 3
"""Steps before the one that is recorded; the optimiser makes its state in the first, and libraries
choose and allocate what they need."""

SYNCHRONISED = "called a synchronizing CUDA operation"
"""How PyTorch's warning begins where the host waits for a GPU and `set_sync_debug_mode` asks for it."""


def sgd(
    model: nn.Module, protocol: specs.Training, *, rate_on_device: bool | None = None
) -> torch.optim.Optimizer:
    """Stochastic gradient descent by the protocol's momentum, and weight decay on what it names.

    Args:
        model: Its parameters as they are now, and where.
        protocol: Learning rate, momentum and weight decay.
        rate_on_device: Whether the learning rate is a tensor beside the parameters and the update one
            kernel that reads it there, as a recorded step needs; by default so on a GPU.
    """
    groups = masks.decay_groups(model, weight_decay=protocol.weight_decay)
    if protocol.weight_decay_on == "all":
        groups = [{"params": list(model.parameters()), "weight_decay": protocol.weight_decay}]
    device = next(model.parameters()).device
    if device.type == "cuda" if rate_on_device is None else rate_on_device:
        rate = torch.tensor(protocol.learning_rate, dtype=torch.float32, device=device)
        return torch.optim.SGD(groups, lr=rate, momentum=protocol.momentum, fused=True)
    return torch.optim.SGD(groups, lr=protocol.learning_rate, momentum=protocol.momentum)


def check_float32(model: nn.Module) -> None:
    """Refuse a network that images, which are normalised in float32, cannot go through."""
    for name, parameter in model.named_parameters():
        if parameter.dtype != torch.float32:
            raise ValueError(
                f"parameters must be torch.float32, got {parameter.dtype} in {name}; call model.float(), or "
                "torch.set_default_dtype(torch.float32) before the network is made"
            )


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set the learning rate of all parameters; a tensor is filled, so that a recorded step sees it."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(value)
        else:
            group["lr"] = value


def check_outputs(logits: object, num_classes: int) -> None:
    """Refuse what a network gives for a batch unless it is one number a class for each image."""
    if isinstance(logits, torch.Tensor) and logits.shape[1:] == (num_classes,):
        return
    got = f"a {type(logits).__name__}"
    if isinstance(logits, torch.Tensor):
        got = " x ".join(map(str, logits.shape[1:])) or "1"
    raise ValueError(
        f"the network must give {num_classes} numbers for an image, one for each class, got {got}; "
        "change its last layer"
    )


def sgd_step(model: nn.Module, optimizer: torch.optim.Optimizer, data: Dataset, *, precision: str) -> Step:
    """Forward pass, mean cross-entropy, backward pass and update; no value is read by the host."""

    def step(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with computing(precision, labels.device):
            logits: torch.Tensor = model(data.normalise(images))
        check_outputs(logits, data.num_classes)
        loss = F.cross_entropy(logits.float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return logits.detach()

    return step


def record_cuda_graph(function: Callable[[], None]) -> Callable[[], None]:
    """Record what a function does on the current stream, which must not be the default one."""
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.current_stream()
    # other threads go on meanwhile, for instance one that pins memory for the next batches
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        function()
    replay: Callable[[], None] = graph.replay
    return replay


class RecordedStep:
    """A step that runs as it is for a few batches, is then recorded once, and replayed from then on.

    The eager steps are the first ones of the training, not rehearsals: nothing has to be undone, and
    the network, the optimiser and the random numbers are where they would be without recording. A
    batch of another size than the recorded one (the last of an epoch) runs eagerly, too.

    A step that cannot be recorded, as it reads values on the host, goes on eagerly, with a warning; so does
    one that draws random numbers of torch on the host, of `random` or of `numpy.random`, as replays would
    repeat what was drawn. Other things that a network changes in Python from step to step are not noticed.

    Args:
        step: Images and labels to logits.
        batch_size: Of the batches that are recorded.
        record: Records a function.
    """

    def __init__(self, step: Step, *, batch_size: int, record: Record = record_cuda_graph) -> None:
        self._step = step
        self._batch_size = batch_size
        self._record = record
        self._eager_left: float = EAGER_STEPS
        self._replay: Callable[[], None] | None = None

    def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Logits of the batch; they are valid until the next call."""
        if len(labels) != self._batch_size:
            return self._step(images, labels)
        if self._eager_left > 0:
            self._eager_left -= 1
            return self._step(images, labels) if self._eager_left else self._last_eager(images, labels)
        if self._replay is None:
            self._images, self._labels = images.clone(), labels.clone()
            self._replay = self._recorded()
            if self._replay is None:
                return self._step(images, labels)
        else:
            self._images.copy_(images, non_blocking=True)
            self._labels.copy_(labels, non_blocking=True)
        self._replay()
        return self._logits

    def _last_eager(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """What it reads or draws on the host says that the next one cannot be recorded."""
        before = _drawn_on_host(labels.device)
        with _reads_noted(labels.device) as reads:
            logits = self._step(images, labels)
        if reads:
            self._stay_eager("it waits for values on the host")
        elif _drawn_on_host(labels.device) != before:
            self._stay_eager("it draws random numbers on the host")
        return logits

    def _stay_eager(self, reason: str) -> None:
        self._eager_left = math.inf
        warnings.warn(
            f"the training step cannot be recorded as a CUDA graph ({reason}) and runs as it is, slower: the "
            "network must not read values on the host, branch on them or draw random numbers there",
            RuntimeWarning,
            stacklevel=2,
        )

    def _recorded(self) -> Callable[[], None] | None:
        failures: list[Exception] = []

        def run() -> None:
            try:
                self._logits = self._step(self._images, self._labels)
            except Exception as error:
                failures.append(error)  # where it ends the recording, too, another one arrives
                raise

        state = torch.get_rng_state()
        try:
            return self._record(run)
        except RuntimeError as error:
            first = next(iter(failures), error)
        torch.set_rng_state(state)  # that of a GPU was not drawn from
        try:
            if isinstance(first, torch.OutOfMemoryError) or not isinstance(first, RuntimeError):
                raise first
            self._stay_eager(str(first).splitlines()[0])
            return None
        finally:
            failures.clear()  # its traceback holds this frame and those of the step, with their tensors
            del first


def _drawn_on_host(device: torch.device) -> tuple[object, ...]:
    """The state of the random numbers on the host, where those of the device are others."""
    of_torch = b"" if device.type == "cpu" else torch.get_rng_state().numpy().tobytes()
    return of_torch, random.getstate(), repr(np.random.get_state(legacy=False))  # noqa: NPY002


@contextmanager
def _reads_noted(device: torch.device) -> Iterator[list[Warning | str]]:
    """What PyTorch says where the host waits for a GPU; other warnings are shown as ever."""
    reads: list[Warning | str] = []
    with warnings.catch_warnings():
        show: Callable[..., None] = warnings.showwarning

        def note(message: Warning | str, *place: Any) -> None:
            if str(message).startswith(SYNCHRONISED):
                reads.append(message)
            else:
                show(message, *place)

        warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
        warnings.filterwarnings("always", SYNCHRONISED)
        warnings.showwarning = note  # type: ignore[assignment]
        before = torch.cuda.get_sync_debug_mode() if device.type == "cuda" else 0
        try:
            if device.type == "cuda":
                torch.cuda.set_sync_debug_mode("warn")
            yield reads
        finally:
            if device.type == "cuda":
                torch.cuda.set_sync_debug_mode(before)


@contextmanager
def training_stream(device: torch.device) -> Iterator[None]:
    """On a GPU, queue what is inside the block on a stream that is not the default one, as recording needs.

    It starts after what was queued before, and what comes after the block waits for it, after
    an exception, too.
    """
    if device.type != "cuda":
        yield
        return
    outside, inside = torch.cuda.current_stream(device), _stream_of(device)
    inside.wait_stream(outside)
    try:
        with torch.cuda.stream(inside):
            yield
    finally:
        outside.wait_stream(inside)


@cache
def _stream_of(device: torch.device) -> torch.cuda.Stream:
    """One stream for all trainings of a process, for memory is kept for the stream that used it."""
    return torch.cuda.Stream(device)
