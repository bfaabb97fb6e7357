"""A data set: its splits, its classes, how its bytes become numbers, and the way to it from a spec."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from wsnlib import specs
from wsnlib.data.archives import Bytes
from wsnlib.data.imagenet import check_complete, check_readable, class_names, list_folder
from wsnlib.data.sources import KNOWN, data_root, read_arrays
from wsnlib.data.splits import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    DataError,
    Split,
    balanced_subset,
    channel_statistics,
    pixel_statistics,
)
from wsnlib.data.streaming import StreamedSplit, default_workers


@dataclass(frozen=True)
class Dataset:
    """Train, validation and test split of one data set, and how to turn its bytes into numbers.

    `mean` and `std` (one per channel, or one per pixel in the shape of an image, on the scale 0 to 1) are
    those of the training images used, of ImageNet, or 0 and 1, as the spec's normalisation says.
    `sha256` says which data were read: the checksum of all images and labels in canonical order, for
    images on the disk of the names and sizes of the files; empty for data made elsewhere.
    """

    train: Split | StreamedSplit
    validation: Split | StreamedSplit
    test: Split | StreamedSplit
    classes: tuple[str, ...]
    mean: torch.Tensor
    std: torch.Tensor
    sha256: str = ""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image as the network sees it."""
        return self.train.image_shape

    @property
    def num_inputs(self) -> int:
        """Numbers in one image."""
        return math.prod(self.image_shape)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    def to(self, device: torch.device | str) -> Dataset:
        """The same data set on another device."""
        return replace(
            self,
            train=self.train.to(device),
            validation=self.validation.to(device),
            test=self.test.to(device),
            mean=self.mean.to(device),
            std=self.std.to(device),
        )

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """(images / 255 − mean) / std as float32, per channel or pixel."""
        return images.float().sub(self._shift).div_(self._scale)

    @cached_property
    def _shift(self) -> torch.Tensor:
        return 255 * _per_channel(self.mean)

    @cached_property
    def _scale(self) -> torch.Tensor:
        return 255 * _per_channel(self.std)


def _per_channel(values: torch.Tensor) -> torch.Tensor:
    return values if values.ndim == 3 else values.view(-1, 1, 1)


def load_data(spec: specs.DataSpec, *, root: Path | str | None = None, download: bool = False) -> Dataset:
    """The data set of a spec, split and ready to be moved to a device.

    The images of ImageNet and of an `ImageFolder` stay where they are, and the splits are
    [`StreamedSplit`][wsnlib.data.streaming.StreamedSplit]s, read by as many processes as there are CPUs
    (16 at most) or as the environment variable `WSN_WORKERS` says; all others are read as a whole.

    Args:
        spec: Which data set, and how it is split.
        root: The data root, by default [`data_root`][wsnlib.data.sources.data_root]`()`.
        download: Whether torchvision may fetch a missing data set (it shows a progress bar).

    Raises:
        DataError: If the data set is missing, damaged or incomplete, or has too few images for the
            splits.

    Examples:
        >>> digits = load_data(specs.Digits(validation_size=100))
        >>> digits.train.images.shape, len(digits.validation.labels), len(digits.test.labels)
        (torch.Size([1337, 1, 8, 8]), 100, 360)
    """
    folder = data_root(root)
    if isinstance(spec, specs.StreamedData):
        return _streamed(spec, folder)
    return _in_memory(spec, folder, download)


def _in_memory(spec: specs.DataSpec, root: Path, download: bool) -> Dataset:
    arrays = read_arrays(spec, root, download=download)
    pool = Split(_image_tensor(arrays.train_x), torch.from_numpy(arrays.train_y.astype(np.int64)))
    test = Split(_image_tensor(arrays.test_x), torch.from_numpy(arrays.test_y.astype(np.int64)))
    train, validation = _divided(pool.labels, spec)
    used = pool.take(train)
    channels = used.image_shape[0]
    if spec.normalisation == "imagenet" and channels != 3:
        raise DataError(
            f"images must have 3 channels for normalisation 'imagenet', got {channels}; take 'standardise' "
            "or 'unit'"
        )
    measured = pixel_statistics if spec.normalisation == "pixelwise" else channel_statistics
    statistics = _fixed_statistics(spec, channels) or measured(used.images)
    return Dataset(used, pool.take(validation), test, arrays.classes, *statistics, arrays.sha256)


def _streamed(spec: specs.StreamedData, root: Path) -> Dataset:
    statistics = _fixed_statistics(spec, 3)
    if statistics is None:
        raise DataError(
            "normalisation must be 'imagenet' or 'unit' for images that are read from the disk as they "
            f"are used, got {spec.normalisation!r}; take one of these"
        )
    workers = default_workers()
    folder = root / (spec.name if isinstance(spec, specs.ImageFolder) else KNOWN[type(spec)].name)
    found = list_folder(folder)
    check_readable(folder)
    if not isinstance(spec, specs.ImageFolder):
        check_complete(folder, found, KNOWN[type(spec)])
    elif found.sha256 != spec.sha256:
        raise DataError(
            f"{folder} is not the folder of checksum {spec.sha256}, got {found.sha256} of its names and "
            f"sizes; look at it again with wsn.image_folder({spec.name!r})"
        )
    pool, test = (
        StreamedSplit(
            files=files, labels=torch.from_numpy(labels), image_size=spec.image_size, num_workers=workers
        )
        for files, labels in ((found.train, found.train_labels), (found.val, found.val_labels))
    )
    train, validation = _divided(pool.labels, spec)
    classes = class_names(folder, found.classes)
    return Dataset(pool.take(train), pool.take(validation), test, classes, *statistics, found.sha256)


def _image_tensor(images: Bytes) -> torch.Tensor:
    """A copy: the arrays are kept for the next who reads them."""
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def _divided(labels: torch.Tensor, spec: specs.DataSpec) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions of the training and of the validation images."""
    generator = torch.Generator().manual_seed(specs.derive_seed(spec.split_seed, "split"))
    validation = balanced_subset(labels, spec.validation_size, generator=generator)
    left = torch.ones(len(labels), dtype=torch.bool)
    left[validation] = False
    train = left.nonzero().squeeze(1)
    if len(train) == 0:
        raise DataError(
            f"validation_size must leave images to train on, got {spec.validation_size}, which leaves "
            "none; lower it"
        )
    if spec.train_size is not None:
        train = train[balanced_subset(labels[train], spec.train_size, generator=generator)]
    return train, validation


def _fixed_statistics(spec: specs.DataSpec, channels: int) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Mean and standard deviation that do not depend on the images, if the spec asks for such."""
    if spec.normalisation == "unit":
        return torch.zeros(channels), torch.ones(channels)
    if spec.normalisation == "imagenet":
        return torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return None


def check_data(data: Dataset, *splits: Split | StreamedSplit) -> None:
    """Raise DataError unless these splits, by default all, can be trained on; no image is looked at."""
    if not isinstance(data, Dataset):
        raise DataError(
            f"data must be a Dataset of wsn.data, got a {type(data).__name__}; take that of wsn.load_data, "
            "after wsn.pack_data for data of your own"
        )
    for split in splits or (data.train, data.validation, data.test):
        if not isinstance(split, Split | StreamedSplit):
            raise DataError(f"a split must be a Split of wsn.data, got a {type(split).__name__}; make it one")
        labels = split.labels
        if isinstance(split, Split):
            check_bytes(split.images)
            if labels.shape != split.images.shape[:1]:
                raise DataError(
                    f"labels must be of shape ({len(split.images)},), one for each image, got "
                    f"{tuple(labels.shape)}; add or leave out some"
                )
        low, high = map(int, labels.aminmax()) if labels.numel() else (0, 0)
        if labels.dtype != torch.int64 or not 0 <= low <= high < data.num_classes:
            raise DataError(
                f"labels must be torch.int64 of 0 to {data.num_classes - 1}, a number for each class, got "
                f"{labels.dtype} of {low} to {high}; number them from 0"
            )


def check_bytes(images: torch.Tensor) -> None:
    """Raise DataError unless images are bytes of shape (n, channels, height, width)."""
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise DataError(
            "images must be torch.uint8 (0 to 255) of shape (n, channels, height, width), got "
            f"{images.dtype} of {tuple(images.shape)}; multiply those of 0 to 1 by 255 and round"
        )


def image_shape(spec: specs.DataSpec) -> tuple[int, int, int]:
    """Channels, height and width of the images; only packed data are read for it.

    Examples:
        >>> image_shape(specs.MNIST()), image_shape(specs.ImageNet(image_size=64))
        ((1, 28, 28), (3, 64, 64))
    """
    if isinstance(spec, specs.StreamedData):
        return 3, spec.image_size, spec.image_size
    return KNOWN[type(spec)].image_shape if type(spec) in KNOWN else load_data(spec).image_shape


def num_classes(spec: specs.DataSpec) -> int:
    """Number of classes; only data of your own are read for it.

    Examples:
        >>> num_classes(specs.Digits())
        10
    """
    return KNOWN[type(spec)].num_classes if type(spec) in KNOWN else load_data(spec).num_classes
