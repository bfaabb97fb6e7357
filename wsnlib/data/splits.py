"""Images in memory with their labels, in batches and in parts; what the other modules of data share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from wsnlib import specs
from wsnlib.data.augmentation import augment

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Per channel (red, green, blue) on the scale 0 to 1."""


class DataError(RuntimeError):
    """A data set is missing, damaged or of the wrong form; the message says what to do."""


class Split(NamedTuple):
    """Images (n, channels, height, width) as uint8 and labels (n,) as int64."""

    images: torch.Tensor
    labels: torch.Tensor

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def take(self, index: torch.Tensor) -> Split:
        """The examples at these positions, (n,) int64."""
        index = index.to(self.labels.device, non_blocking=True)
        return Split(self.images.index_select(0, index), self.labels.index_select(0, index))

    def to(self, device: torch.device | str) -> Split:
        """The same examples on another device."""
        return Split(self.images.to(device), self.labels.to(device))

    def batches(
        self,
        order: torch.Tensor,
        *,
        batch_size: int,
        augmentation: specs.CropAndFlip | specs.ResizedCropAndFlip | None = None,
        generator: torch.Generator | None = None,
    ) -> Iterator[Split]:
        """The examples at these positions batch by batch, augmented; the last batch may be smaller.

        Nothing waits for the device: the order is moved there once, and batches are gathered there.

        Raises:
            ValueError: If the augmentation is for images that are read from the disk.
        """
        if isinstance(augmentation, specs.ResizedCropAndFlip):
            raise ValueError(
                "augmentation must be CropAndFlip or None for images in memory, got ResizedCropAndFlip; "
                "take one of these"
            )
        pieces = order.to(self.labels.device, non_blocking=True).split(batch_size)
        return (augmented(self.take(index), augmentation, generator) for index in pieces)


def augmented(
    batch: Split, augmentation: specs.CropAndFlip | None, generator: torch.Generator | None
) -> Split:
    """The batch with each of its images cropped and mirrored at random, if that is asked for."""
    if augmentation is None:
        return batch
    assert generator is not None
    return Split(augment(batch.images, augmentation, generator=generator), batch.labels)


def balanced_subset(labels: torch.Tensor, size: int, *, generator: torch.Generator) -> torch.Tensor:
    """Positions of `size` random examples with equally many of each class, to within one.

    Args:
        labels: (n,) int64.
        size: 0 to the number of classes times the size of the smallest.
        generator: Random generator on the CPU.

    Returns:
        Sorted positions, (size,).

    Examples:
        >>> labels = torch.tensor([0, 1, 0, 1, 1, 0])
        >>> labels[balanced_subset(labels, 4, generator=torch.Generator())].bincount()
        tensor([2, 2])
    """
    if size < 0:
        raise DataError(f"a class-balanced subset must be of 0 or more images, got {size}; take more")
    if size == 0:
        return torch.empty(0, dtype=torch.int64)
    classes, counts = labels.unique(return_counts=True)
    most = len(classes) * int(counts.min())
    if size > most:
        raise DataError(
            f"a class-balanced subset must be of at most {most} images ({len(classes)} classes, "
            f"{int(counts.min())} images in the smallest), got {size}; take fewer"
        )
    share = torch.full((len(classes),), size // len(classes))
    share[torch.randperm(len(classes), generator=generator)[: size % len(classes)]] += 1
    chosen = []
    for label, count in zip(classes, share, strict=True):
        members = (labels == label).nonzero().squeeze(1)
        chosen.append(members[torch.randperm(len(members), generator=generator)[: int(count)]])
    return torch.cat(chosen).sort().values


def channel_statistics(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation per channel on the scale 0 to 1, from the shares of the 256 levels.

    Shares are rounded to float32: published trainings rest on the last bit of what comes of it.
    """
    levels = torch.arange(256, dtype=torch.float64) / 255
    share = torch.stack(
        [
            images[:, c].flatten().bincount(minlength=256) / images[:, c].numel()
            for c in range(images.shape[1])
        ]
    ).double()
    mean = share @ levels
    std = (share @ levels**2 - mean**2).clamp(min=0).sqrt()
    return mean.float(), torch.where(std > 0, std, 1.0).float()


def pixel_statistics(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of every pixel on the scale 0 to 1, from sums that are exact.

    The standard deviation of a constant pixel is 1.
    """
    parts = [part.long() for part in images.split(4096)]
    total, squares = (torch.stack([(part**k).sum(0) for part in parts]).sum(0) for k in (1, 2))
    n = len(images)
    std = (n * squares - total**2).double().sqrt() / (255 * n)
    return (total.double() / (255 * n)).float(), torch.where(std > 0, std, 1.0).float()
