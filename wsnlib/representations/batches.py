"""What networks are shown: images in memory, or any iterable of batches, such as a `DataLoader`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from wsnlib.similarity.hsic import LEAST_EXAMPLES, Array, as_tensor

Prepare = Callable[[Any], Any]
"""Turns a batch into what a network is called with, be it a tensor, a tuple of arguments or keywords."""

Images = Array | Iterable[Any]
"""(n, …) in memory, or an iterable of batches."""

TARGETS = ("label", "labels", "target", "targets")
"""Entries of a batch by which examples are told apart, and which no network is called with."""


def in_memory(images: Any) -> bool:
    """Whether images are one tensor, array or nested sequence of numbers, and no iterable of batches.

    Examples:
        >>> in_memory(torch.ones(3, 2)), in_memory([[0.5, 1]]), in_memory([torch.ones(3, 2)])
        (True, True, False)
    """
    while isinstance(images, list | tuple) and images:
        images = images[0]
        if isinstance(images, torch.Tensor | np.ndarray | Mapping):
            return False
    return isinstance(images, torch.Tensor) or hasattr(images, "__array__") or isinstance(images, int | float)


def as_images(images: Array) -> torch.Tensor:
    """A tensor as it is; an array as one, in torch's default precision if it holds no integers.

    Examples:
        >>> as_images([[0.5]]).dtype
        torch.float32
    """
    found = as_tensor(images)
    if isinstance(images, torch.Tensor) or not found.is_floating_point():
        return found
    return found.to(torch.get_default_dtype())


def as_inputs(batch: Any) -> Any:
    """What a network is called with, of a batch as the field has it.

    A tensor is itself; of a tuple or list the first entry counts, for the others are targets; a mapping gives
    the keywords, less targets and what is no tensor.

    Examples:
        >>> x, y = torch.ones(2, 3), torch.zeros(2)
        >>> as_inputs((x, y)) is x, list(as_inputs({"input_ids": x, "labels": y}))
        (True, ['input_ids'])
    """
    if isinstance(batch, Mapping):
        return {k: v for k, v in batch.items() if k not in TARGETS and isinstance(v, torch.Tensor)}
    if isinstance(batch, tuple | list) and batch:
        return as_inputs(batch[0])
    if not isinstance(batch, torch.Tensor):
        raise ValueError(
            f"a batch must be a tensor, a tuple that begins with one, or a mapping of tensors, got a "
            f"{type(batch).__name__}; give prepare, which turns it into one"
        )
    return batch


def run(model: nn.Module, inputs: Any) -> Any:
    """Call a network with what a batch was turned into."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def each_tensor(function: Callable[[torch.Tensor], torch.Tensor], batch: Any) -> Any:
    """A batch with a function applied to its tensors; a mapping becomes a dict, others stay what they are."""
    if isinstance(batch, torch.Tensor):
        return function(batch)
    if isinstance(batch, Mapping):
        return {name: each_tensor(function, each) for name, each in batch.items()}
    if isinstance(batch, tuple | list):
        found = [each_tensor(function, each) for each in batch]
        return type(batch)(*found) if hasattr(batch, "_fields") else type(batch)(found)
    return batch


def moved(
    batch: Any, device: torch.device, memory_format: torch.memory_format = torch.preserve_format
) -> Any:
    """A batch on another device, images of four dimensions in a layout."""

    def placed(x: torch.Tensor) -> torch.Tensor:
        return x.to(device, memory_format=memory_format if x.dim() == 4 else torch.preserve_format)

    return each_tensor(placed, batch)


def few(batch: Any, count: int = LEAST_EXAMPLES) -> Any:
    """The first examples of a batch."""
    return each_tensor(lambda x: x[:count] if x.dim() else x, batch)


def first_tensor(batch: Any) -> torch.Tensor | None:
    """The first tensor in a batch or in what a module gave (a tuple, mapping, dataclass); `None` if none."""
    if isinstance(batch, torch.Tensor):
        return batch
    if isinstance(batch, Mapping):
        batch = list(batch.values())
    elif is_dataclass(batch):
        batch = [getattr(batch, field.name) for field in fields(batch)]
    if not isinstance(batch, tuple | list):
        return None
    return next((found for each in batch if (found := first_tensor(each)) is not None), None)


def num_examples(batch: Any) -> int:
    """Length of the first tensor in a batch."""
    found = first_tensor(batch)
    if found is None or not found.dim():
        raise ValueError(
            f"a batch must hold a tensor with a row for each example, got {type(batch).__name__}"
        )
    return len(found)


def targets(batch: Any) -> torch.Tensor | None:
    """By what the examples of a batch can be told: its labels, if it has them."""
    if isinstance(batch, Mapping):
        found = next((batch[name] for name in TARGETS if name in batch), None)
    else:
        found = batch[1] if isinstance(batch, tuple | list) and len(batch) > 1 else None
    return found if isinstance(found, torch.Tensor) else None


class Batches:
    """An iterable of batches, gone through several times; the first batch can be looked at before.

    Args:
        source: An iterable. One that can be iterated once only, such as a generator, is good for one pass.
        passes: Numbers of the passes.

    Examples:
        >>> found = Batches([torch.zeros(5, 2), torch.ones(5, 2)])
        >>> found.first.shape, [(number, len(batch)) for number, batch in found]
        (torch.Size([5, 2]), [(0, 5), (0, 5)])
    """

    def __init__(self, source: Iterable[Any], passes: Sequence[int] = (0,)) -> None:
        self.source, self.passes = source, list(passes)
        self._left = iter(source)
        if self._left is source and len(self.passes) > 1:
            raise ValueError(
                f"passes must be 1 for batches that can be gone through once, got {len(self.passes)}; give "
                "a DataLoader or a list"
            )
        try:
            self.first = next(self._left)
        except StopIteration:
            raise ValueError("there must be one or more batches, got none") from None

    @property
    def count(self) -> int | None:
        """Batches of all passes; `None` if they cannot be known before."""
        return len(self.source) * len(self.passes) if isinstance(self.source, Sized) else None

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        yield self.passes[0], self.first
        for batch in self._left:
            yield self.passes[0], batch
        for number in self.passes[1:]:
            for index, batch in enumerate(self.source):
                if index == 0 and _same(batch, self.first):
                    raise ValueError(
                        "batches must differ from pass to pass, got the first one again; shuffle them, or "
                        "take passes=1"
                    )
                yield number, batch


def _same(one: Any, other: Any) -> bool:
    a, b = first_tensor(one), first_tensor(other)
    return a is not None and b is not None and a.shape == b.shape and bool(torch.equal(a, b))


def batches_of(images: Any, batch_size: int) -> Batches:
    """Images in memory cut into batches, or the batches that there are."""
    return Batches(as_images(images).split(batch_size) if in_memory(images) else images)
