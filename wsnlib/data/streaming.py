"""Images that are read from the disk as they are needed, by processes beside the training.

An image that cannot be read stops the training with a sentence that names it; none is left out.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as Items

from wsnlib import specs
from wsnlib.data.imagenet import Files
from wsnlib.data.images import read_image
from wsnlib.data.splits import DataError, Split, augmented

MOST_WORKERS = 16
"""Processes that read at most, unless `WSN_WORKERS` says otherwise."""

START_METHOD = "fork" if sys.platform == "linux" else None
"""Of processes that read; each epoch starts its own, and a spawned one imports torch for seconds."""


def default_workers() -> int:
    """Processes that read images: `$WSN_WORKERS`, else one for each CPU that may be used, 16 at most."""
    given = os.environ.get("WSN_WORKERS")
    if given is None:
        return readers(1)
    if not given.isdecimal():
        raise DataError(f"WSN_WORKERS must be an integer ≥ 0, got {given!r}; set it to one, or unset it")
    return int(given)


def readers(trainings: int) -> int:
    """Processes that read for each of so many trainings at once, 1 to 16."""
    return max(1, min(usable_cpus() // trainings, MOST_WORKERS))


def usable_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamedSplit:
    """Images that lie on the disk, to be used like a [`Split`][wsnlib.data.splits.Split].

    Args:
        files: Image files.
        labels: (n,) int64; where they are, batches are brought.
        image_size: Height and width of the images in a batch.
        num_workers: Processes that read images; 0 reads them in this one, as does a daemonic process (such
            as a worker of Dask), which may start none.
    """

    files: Files
    labels: torch.Tensor
    image_size: int
    num_workers: int

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images in a batch."""
        return 3, self.image_size, self.image_size

    def take(self, index: torch.Tensor) -> StreamedSplit:
        """The examples at these positions, (n,) int64."""
        labels = self.labels.index_select(0, index.to(self.labels.device))
        return replace(self, files=self.files.take(index.cpu().numpy()), labels=labels)

    def to(self, device: torch.device | str) -> StreamedSplit:
        """The same examples, with batches on another device."""
        return replace(self, labels=self.labels.to(device))

    def batches(
        self,
        order: torch.Tensor,
        *,
        batch_size: int,
        augmentation: specs.CropAndFlip | specs.ResizedCropAndFlip | None = None,
        generator: torch.Generator | None = None,
    ) -> Iterator[Split]:
        """The examples at these positions batch by batch, augmented; the last batch may be smaller.

        With `ResizedCropAndFlip`, a random part of each image, resized; else the image resized to
        8/7 of `image_size` at its smaller side, and its centre. Each image has a seed of its own,
        drawn from the generator here, so that the number of processes changes nothing. Images are
        bytes until they are on the device; the host does not wait for copies to a GPU.

        Raises:
            DataError: If an image cannot be read.
        """
        if isinstance(augmentation, specs.ResizedCropAndFlip):
            assert generator is not None
            seeds = torch.randint(2**63 - 1, (len(order),), generator=generator)
            transform, on_device = _random_part(self.image_size, augmentation), None
        else:
            seeds, transform, on_device = None, _centre(self.image_size), augmentation
        files = self.files.take(order.cpu().numpy())
        reader = _Reader(files, seeds=seeds, transform=transform, batch_size=batch_size)
        labels = self.labels.index_select(0, order.to(self.labels.device, non_blocking=True))
        pieces = zip(
            _read(reader, self.num_workers, labels.device), labels.split(batch_size), strict=False
        )  # of no label there is one empty piece
        return (augmented(Split(images, y), on_device, generator) for images, y in pieces)


def _read(reader: _Reader, num_workers: int, device: torch.device) -> Iterator[torch.Tensor]:
    num_workers = 0 if multiprocessing.current_process().daemon else min(num_workers, len(reader))
    loader = DataLoader(
        reader,
        batch_size=None,
        num_workers=num_workers,
        multiprocessing_context=START_METHOD if num_workers else None,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # else it would draw from the global one
    )
    for images in loader:
        if isinstance(images, str):
            raise DataError(
                f"{images}; `python -m wsnlib.data.prepare_imagenet {reader.files.folder.parent}` "
                "names all that cannot be read"
            )
        yield images.to(device, non_blocking=True)


def _centre(image_size: int) -> Any:
    from torchvision.transforms import v2

    return v2.Compose([v2.Resize(round(image_size * 8 / 7)), v2.CenterCrop(image_size), v2.PILToTensor()])


def _random_part(image_size: int, augmentation: specs.ResizedCropAndFlip) -> Any:
    from torchvision.transforms import v2

    flip = 0.5 if augmentation.flip else 0.0
    crop = v2.RandomResizedCrop(image_size, scale=augmentation.scale)
    return v2.Compose([crop, v2.RandomHorizontalFlip(flip), v2.PILToTensor()])


class _Reader(Items[torch.Tensor | str]):
    """Batches (n, 3, height, width) as uint8, each read at once; of one with a damaged image, why it is."""

    def __init__(self, files: Files, *, seeds: torch.Tensor | None, transform: Any, batch_size: int) -> None:
        self.files, self.seeds, self.transform, self.batch_size = files, seeds, transform, batch_size

    def __len__(self) -> int:
        return -(-len(self.files.names) // self.batch_size)

    def __getitem__(self, batch: int) -> torch.Tensor | str:
        first = batch * self.batch_size
        images = []
        with torch.random.fork_rng(devices=[]):
            for position in range(first, min(first + self.batch_size, len(self.files.names))):
                try:
                    image = read_image(self.files.path(position))
                except DataError as error:  # raised here, it would come with this process's traceback
                    return str(error)
                if self.seeds is not None:
                    torch.default_generator.manual_seed(int(self.seeds[position]))
                images.append(self.transform(image))
        return torch.stack(images)
