"""Which batch fits into the memory of a device, found by trying a few steps."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import torch
from torch import nn

from wsnlib import specs
from wsnlib.data import Dataset
from wsnlib.training.loop import train
from wsnlib.training.steps import EAGER_STEPS


def fitting_batch_size(
    make: Callable[[], nn.Module], data: Dataset, protocol: specs.Training, *, device: torch.device
) -> int:
    """The first of a half, a quarter, … of the protocol's batch size that fits into the device's memory.

    Tried are a few steps, one of them recorded if the device is a GPU, and an evaluation, with the whole
    data set on the device.

    Args:
        make: Gives a new network each time, on any device.
        data: On any device.
        protocol: Its batch size is known not to fit.
        device: Where to try.

    Returns:
        0 if nothing fits.

    Examples:
        >>> from wsnlib.data import load_data
        >>> digits, protocol = load_data(specs.Digits()), specs.Training(epochs=30, batch_size=100)
        >>> make = lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        >>> fitting_batch_size(make, digits, protocol, device=torch.device("cpu"))
        50
    """
    batch_size = protocol.batch_size
    while batch_size := batch_size // 2:
        torch.cuda.empty_cache()
        with suppress(torch.OutOfMemoryError):  # its traceback holds tensors, and ends here with it
            few = replace(protocol, epochs=1, batch_size=batch_size, report="last")
            # the eager steps, two recorded ones and a smaller last batch
            images = (EAGER_STEPS + 2) * batch_size + len(data.train.labels) % batch_size
            train(make().to(device), excerpt(data.to(device), images, tested=500), few, seed=0)
            return batch_size
    return 0


def excerpt(data: Dataset, images: int, *, tested: int = 1) -> Dataset:
    """So many training images, with repetitions, and at most `tested` to evaluate."""
    index = torch.arange(images) % len(data.train.labels)
    test = data.test.take(torch.arange(min(tested, len(data.test.labels))))
    return replace(data, train=data.train.take(index), validation=data.validation.take(index[:0]), test=test)
