"""What a data set is, how it is split and normalised, and what is read of its test set.

What is read has a record, so that errors can be told and shown where the data are not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from wsnlib.specs.checks import NonNegativeInt, PositiveInt, Range, Spec, numbers, refuse


@dataclass(frozen=True, kw_only=True)
class DataSpec(Spec):
    """What every data set shares: how its training images are split and normalised.

    Args:
        train_size: Images used for training, class-balanced; `None` takes all that are left.
        validation_size: Images set aside from the training images, class-balanced.
        split_seed: Random seed for choosing both.
        normalisation: `"standardise"` subtracts the mean and divides by the standard deviation
            per channel over the training images used, `"pixelwise"` those of every pixel (G21,
            Appendix A, Figure 8); `"unit"` scales to [0, 1]; `"imagenet"` takes ImageNet's mean and
            standard deviation whatever the images are, as G21's code does.
    """

    train_size: PositiveInt | None = None
    validation_size: NonNegativeInt = 0
    split_seed: NonNegativeInt = 0
    normalisation: Literal["standardise", "pixelwise", "unit", "imagenet"] = "standardise"


@dataclass(frozen=True, kw_only=True)
class Digits(DataSpec):
    """scikit-learn's digits: 1,797 images of 8 x 8 pixels, 10 classes, 360 of them the test set."""


@dataclass(frozen=True, kw_only=True)
class MNIST(DataSpec):
    """MNIST: 60,000 training and 10,000 test images of 28 x 28 pixels, 10 classes."""


@dataclass(frozen=True, kw_only=True)
class FashionMNIST(DataSpec):
    """Fashion-MNIST: 60,000 training and 10,000 test images of 28 x 28 pixels, 10 classes."""


@dataclass(frozen=True, kw_only=True)
class CIFAR10(DataSpec):
    """CIFAR-10: 50,000 training and 10,000 test images of 32 x 32 pixels in colour, 10 classes."""


@dataclass(frozen=True, kw_only=True)
class CIFAR100(DataSpec):
    """CIFAR-100: 50,000 training and 10,000 test images of 32 x 32 pixels in colour, 100 classes."""


@dataclass(frozen=True, kw_only=True)
class SVHN(DataSpec):
    """SVHN: 73,257 training and 26,032 test images of 32 x 32 pixels in colour, 10 digits."""


@dataclass(frozen=True, kw_only=True)
class StreamedData(DataSpec):
    """What images share that stay on the disk and are read as they are needed.

    Test images are resized to 8/7 of `image_size` at their smaller side, and their centre is taken.

    Args:
        image_size: Height and width of the images that the network sees.
    """

    image_size: Annotated[int, Range(at_least=8)] = 224


@dataclass(frozen=True, kw_only=True)
class ImageNet(StreamedData):
    """ImageNet (ILSVRC 2012): 1,281,167 training and 50,000 test images in colour, 1,000 classes."""


@dataclass(frozen=True, kw_only=True)
class ImageFolder(StreamedData):
    """Photographs of your own in torchvision's layout, seen once by `wsn.image_folder`.

    They lie in the data root as `<name>/train/<class>/…` and `<name>/val/<class>/…`; the latter are the test
    images. `sha256` is that of all file names and sizes.
    """

    name: str
    sha256: str

    def __post_init__(self) -> None:
        super().__post_init__()
        _named(self)


@dataclass(frozen=True, kw_only=True)
class PackedData(DataSpec):
    """Data of your own, packed once by `wsn.pack_data`, known by name and checksum."""

    name: str
    sha256: str

    def __post_init__(self) -> None:
        super().__post_init__()
        _named(self)


def _named(spec: ImageFolder | PackedData) -> None:
    if not isinstance(spec.name, str) or not spec.name.isidentifier():
        raise refuse(spec, "name", "a word of letters, digits and underscores")
    if not isinstance(spec.sha256, str) or not re.fullmatch("[0-9a-f]{64}", spec.sha256):
        raise refuse(spec, "sha256", "a checksum of 64 hexadecimal digits")


@dataclass(frozen=True, kw_only=True)
class ExampleLabels(Spec):
    """The right class of every test example of a data set, in order.

    Examples:
        >>> ExampleLabels(data=DataSpec())
        ExampleLabels(data=DataSpec(train_size=None, validation_size=0, split_seed=0, \
normalisation='standardise'))
    """

    data: DataSpec


@dataclass(frozen=True, kw_only=True)
class ExampleImages(Spec):
    """Some images of the test set of a data set.

    Args:
        data: Data set, which must lie in memory.
        examples: Their positions in the test set, from 0.
    """

    data: DataSpec
    examples: tuple[int, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        numbers(self, "examples", int, "a sequence of integers ≥ 0", lambda examples: min(examples) >= 0)
