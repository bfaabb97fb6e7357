"""Data sets as packed uint8 tensors with named splits, small enough to stay on the device.

A data set lies in the data root as `<name>.npz` or, for those of torchvision, as torchvision
downloads it. Whatever the source, images are put into one canonical order (by a hash of image and
label) and compared with a checksum, so that every copy gives the same tensors or is refused.

The data root is the environment variable `WSN_DATA`, else `wsnlib/data` in the user's cache folder.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import platformdirs
import torch

from wsnlib import specs

Bytes = npt.NDArray[np.uint8]

CHECKSUMS = {
    "digits": "69d19798978653be5b7861115d4d77797678c3c5c340002141993dfe99e9a424",
    "mnist": "0ec1104c26b8903d7393213598eefd2c33f2fa9995ed72cf9e8261dc7650ef93",
    "cifar10": "90070c6b0844cc54cc10a04a7aae402ba33bc2e86ee0e083782ec4c7221b3a2e",
    "fashion_mnist": "f2dbd6250a0e3a3e3fdb04b5c43c9e4d99ac9f132147cfc167d98eeac002a253",
}
"""SHA-256 of each known data set's arrays in canonical order."""


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Per channel (red, green, blue) on the scale 0 to 1."""


class DataError(RuntimeError):
    """A data set is missing, damaged or of the wrong form; the message says what to do."""


class Split(NamedTuple):
    """Images (n, channels, height, width) as uint8 and labels (n,) as int64."""

    images: torch.Tensor
    labels: torch.Tensor

    def take(self, index: torch.Tensor) -> Split:
        """The examples at these positions."""
        return Split(self.images[index], self.labels[index])

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
        """
        order = order.to(self.labels.device, non_blocking=True)
        for index in order.split(batch_size):
            images, labels = self.take(index)
            if isinstance(augmentation, specs.CropAndFlip):
                assert generator is not None
                images = augment(images, augmentation, generator=generator)
            yield Split(images, labels)


@dataclass(frozen=True)
class Dataset:
    """Train, validation and test split of one data set, and how to turn its bytes into numbers.

    `mean` and `std` (one per channel, on the scale 0 to 1) are those of the training images used,
    or 0 and 1, as the spec's normalisation says.
    """

    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    mean: torch.Tensor
    std: torch.Tensor

    @property
    def num_inputs(self) -> int:
        """Numbers in one image."""
        return self.train.images[0].numel()

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
        """(images / 255 − mean) / std as float32, per channel."""
        return images.float().sub_(self._shift).div_(self._scale)

    @cached_property
    def _shift(self) -> torch.Tensor:
        return (255 * self.mean).view(-1, 1, 1)

    @cached_property
    def _scale(self) -> torch.Tensor:
        return (255 * self.std).view(-1, 1, 1)


def data_root() -> Path:
    """The folder of the data sets: `$WSN_DATA`, else `wsnlib/data` in the user's cache folder."""
    given = os.environ.get("WSN_DATA")
    return Path(given) if given else Path(platformdirs.user_cache_dir("wsnlib")) / "data"


def load_data(spec: specs.DataSpec, *, root: Path | str | None = None, download: bool = False) -> Dataset:
    """The data set of a spec, split and ready to be moved to a device.

    Args:
        spec: Which data set, and how it is split.
        root: The data root, by default [`data_root`][wsnlib.data.data_root]`()`.
        download: Whether torchvision may fetch a missing data set (it shows a progress bar).

    Raises:
        DataError: If the data set is missing or damaged, or has too few images for the splits.

    Examples:
        >>> digits = load_data(specs.Digits(validation_size=100))
        >>> digits.train.images.shape, len(digits.validation.labels), len(digits.test.labels)
        (torch.Size([1337, 1, 8, 8]), 100, 360)
    """
    arrays = _read(spec, Path(root) if root is not None else data_root(), download)
    pool = Split(_image_tensor(arrays.train_x), torch.from_numpy(arrays.train_y.astype(np.int64)))
    test = Split(_image_tensor(arrays.test_x), torch.from_numpy(arrays.test_y.astype(np.int64)))

    generator = torch.Generator().manual_seed(specs.derive_seed(spec.split_seed, "split"))
    validation = balanced_subset(pool.labels, spec.validation_size, generator=generator)
    left = torch.ones(len(pool.labels), dtype=torch.bool)
    left[validation] = False
    train = left.nonzero().squeeze(1)
    if spec.train_size is not None:
        train = train[balanced_subset(pool.labels[train], spec.train_size, generator=generator)]
    if len(train) == 0:
        raise DataError(f"validation_size {spec.validation_size} leaves no image to train on")

    used = pool.take(train)
    channels = used.images.shape[1]
    if spec.normalisation == "unit":
        mean, std = torch.zeros(channels), torch.ones(channels)
    elif spec.normalisation == "imagenet":
        if channels != 3:
            raise DataError(
                f"normalisation is 'imagenet' and the images have {channels} channel(s); 3 are allowed"
            )
        mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    else:
        mean, std = _channel_statistics(used.images)
    return Dataset(used, pool.take(validation), test, arrays.classes, mean, std)


def balanced_subset(labels: torch.Tensor, size: int, *, generator: torch.Generator) -> torch.Tensor:
    """Positions of `size` random examples with equally many of each class, to within one.

    Args:
        labels: (n,) int64.
        size: 0 to the number of classes times the size of the smallest.
        generator: On the CPU.

    Returns:
        Sorted positions, (size,).

    Examples:
        >>> labels = torch.tensor([0, 1, 0, 1, 1, 0])
        >>> labels[balanced_subset(labels, 4, generator=torch.Generator())].bincount()
        tensor([2, 2])
    """
    if size == 0:
        return torch.empty(0, dtype=torch.int64)
    classes, counts = labels.unique(return_counts=True)
    most = len(classes) * int(counts.min())
    if size > most:
        raise DataError(
            f"a class-balanced subset of {size} images is asked for; at most {most} are there "
            f"({len(classes)} classes, {int(counts.min())} images in the smallest)"
        )
    share = torch.full((len(classes),), size // len(classes))
    share[torch.randperm(len(classes), generator=generator)[: size % len(classes)]] += 1
    chosen = []
    for label, count in zip(classes, share, strict=True):
        members = (labels == label).nonzero().squeeze(1)
        chosen.append(members[torch.randperm(len(members), generator=generator)[: int(count)]])
    return torch.cat(chosen).sort().values


def augment(
    images: torch.Tensor, augmentation: specs.CropAndFlip, *, generator: torch.Generator
) -> torch.Tensor:
    """A random crop of each padded image, mirrored half of the time, on the images' device.

    Args:
        images: (n, channels, height, width), any type.
        augmentation: Padding, its mode, and whether to mirror.
        generator: On the CPU, so that one seed gives the same crops on every device.

    Examples:
        >>> crop = specs.CropAndFlip(padding=0, flip=False)
        >>> x = torch.arange(9).view(1, 1, 3, 3)
        >>> torch.equal(augment(x, crop, generator=torch.Generator()), x)
        True
    """
    n, _, height, width = images.shape
    pad, device = augmentation.padding, images.device
    offset = torch.randint(-pad, pad + 1, (2, n, 1), generator=generator)
    flip = torch.rand(n, 1, generator=generator) < 0.5
    rows = torch.arange(height) + offset[0]
    columns = torch.arange(width) + offset[1]
    if augmentation.flip:
        columns = torch.where(flip, columns.flip(1), columns)
    outside = ((rows < 0) | (rows >= height))[:, :, None] | ((columns < 0) | (columns >= width))[:, None]
    # mirrored at the border pixel; the clamp only matters where zeros go in below
    rows = (height - 1 - (height - 1 - rows.abs()).abs()).clamp(0)
    columns = (width - 1 - (width - 1 - columns.abs()).abs()).clamp(0)
    flat = (rows[:, :, None] * width + columns[:, None]).to(device, non_blocking=True)
    taken = images.flatten(2).gather(2, flat.flatten(1)[:, None].expand(-1, images.shape[1], -1))
    taken = taken.view_as(images)
    if augmentation.padding_mode == "zeros":
        taken = taken.masked_fill(outside[:, None].to(device, non_blocking=True), 0)
    return taken


# -- reading ----------------------------------------------------------------------------------


class _Arrays(NamedTuple):
    """Images (n, height, width, channels) and labels (n,), in canonical order."""

    train_x: Bytes
    train_y: Bytes
    test_x: Bytes
    test_y: Bytes
    classes: tuple[str, ...]


def _image_tensor(images: Bytes) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def _channel_statistics(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation per channel on the scale 0 to 1, exact from the histogram."""
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


def _in_canonical_order(x: Bytes, y: Bytes) -> tuple[Bytes, Bytes]:
    order = sorted(range(len(x)), key=lambda i: hashlib.sha256(x[i].tobytes() + bytes([y[i]])).digest())
    return x[order], y[order]


def _checksum(arrays: _Arrays) -> str:
    digest = hashlib.sha256()
    for array in arrays[:4]:
        digest.update(f"{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _canonical(content: dict[str, Any], source: str) -> _Arrays:
    """Check the form of arrays from anywhere and put them into canonical order."""
    for key in ("train_x", "train_y", "test_x", "test_y"):
        if key not in content:
            raise DataError(f"{source} has no array {key!r}; it has {', '.join(sorted(content))}")
    parts: list[Bytes] = []
    for split in ("train", "test"):
        x, y = content[f"{split}_x"], content[f"{split}_y"]
        if x.dtype != np.uint8 or x.ndim not in (3, 4):
            raise DataError(
                f"{split}_x of {source} is {x.dtype} of shape {x.shape}; uint8 (0 to 255) of shape "
                "(n, height, width) or (n, height, width, channels) is allowed"
            )
        if y.shape != (len(x),) or y.dtype.kind not in "iu" or y.min(initial=0) < 0 or y.max(initial=0) > 255:
            raise DataError(
                f"{split}_y of {source} is {y.dtype} of shape {y.shape}; {len(x)} integers from 0 "
                "to 255 are allowed"
            )
        parts += _in_canonical_order(x if x.ndim == 4 else x[..., None], y.astype(np.uint8))
    num_classes = int(max(parts[1].max(initial=0), parts[3].max(initial=0))) + 1
    names = content.get("classes")
    classes = tuple(map(str, range(num_classes) if names is None else names))
    if len(classes) < num_classes:
        raise DataError(f"{source} names {len(classes)} classes and has labels up to {num_classes - 1}")
    return _Arrays(parts[0], parts[1], parts[2], parts[3], classes)


_TORCHVISION = {
    specs.MNIST: ("mnist", "MNIST"),
    specs.FashionMNIST: ("fashion_mnist", "FashionMNIST"),
    specs.CIFAR10: ("cifar10", "CIFAR10"),
}


@lru_cache(maxsize=4)
def _read_cached(name: str, path: Path, stamp: tuple[int, int], expected: str) -> _Arrays:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            arrays = _canonical(dict(content), path.name)
    except DataError:
        raise
    except Exception as error:  # a cut-off or overwritten archive fails in many ways
        raise DataError(f"{path} cannot be read ({error}); delete it and fetch it again") from error
    if _checksum(arrays) != expected:
        raise DataError(
            f"{path} is not the {name} data set (its checksum differs); delete it and fetch it again"
        )
    return arrays


def _read(spec: specs.DataSpec, root: Path, download: bool) -> _Arrays:
    if isinstance(spec, specs.Digits):
        return _digits()
    if isinstance(spec, specs.PackedData):
        name, expected = spec.name, spec.sha256
    else:
        name, expected = _TORCHVISION[type(spec)][0], CHECKSUMS[_TORCHVISION[type(spec)][0]]
    path = root / f"{name}.npz"
    if not path.exists():
        if isinstance(spec, specs.PackedData):
            raise DataError(
                f"{path} is not there; make it with wsn.pack_data(…, name={name!r}) or set WSN_DATA"
            )
        _fetch(spec, path, download)
    state = path.stat()
    return _read_cached(name, path, (state.st_mtime_ns, state.st_size), expected)


@lru_cache(maxsize=1)
def _digits() -> _Arrays:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    x, y = _in_canonical_order(x, bunch.target.astype(np.uint8))
    rank = np.array([np.count_nonzero(y[:i] == y[i]) for i in range(len(y))])
    test = rank < 36
    arrays = _Arrays(x[~test], y[~test], x[test], y[test], tuple(map(str, range(10))))
    if _checksum(arrays) != CHECKSUMS["digits"]:
        raise DataError(
            "the digits of this scikit-learn are not the known ones (their checksum differs); "
            "install another release"
        )
    return arrays


def _fetch(spec: specs.DataSpec, path: Path, download: bool) -> None:
    """Turn torchvision's files in the data root, downloaded if allowed, into the packed file."""
    from torchvision import datasets

    name, class_name = _TORCHVISION[type(spec)]
    advice = (
        f"put {path.name} or torchvision's folder {class_name}/raw into {path.parent}, or set WSN_DATA "
        "to the folder that holds one of them"
    )
    kind = getattr(datasets, class_name)
    try:
        content: dict[str, Any] = {}
        for split in ("train", "test"):
            files = kind(path.parent, train=split == "train", download=download)
            content[f"{split}_x"], content[f"{split}_y"] = files.data.numpy(), files.targets.numpy()
    except Exception as error:  # torchvision raises what the network or the file system raises
        reason = " ".join(str(error).split())
        if (path.parent / class_name / "raw").exists() and not download:
            problem = f"{class_name}/raw in {path.parent} is incomplete or damaged ({reason}); delete it, or"
        elif download:
            problem = f"{class_name} could not be downloaded ({reason}); connect to the network, or"
        else:
            problem = f"{class_name} is not in {path.parent}; allow the download (download=True), or"
        raise DataError(f"{problem} {advice}") from error
    classes = [label.split(" - ")[0] for label in kind.classes]
    arrays = _canonical(content | {"classes": classes}, class_name)
    if _checksum(arrays) != CHECKSUMS[name]:
        raise DataError(
            f"{class_name}/raw in {path.parent} is not the {class_name} data set (its checksum differs); "
            "delete it and fetch it again"
        )
    _write(arrays, path)


def _write(arrays: _Arrays, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part.npz")
    try:
        content: dict[str, Any] = arrays._asdict()
        np.savez_compressed(part, **content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def pack_data(
    source: Path | str,
    *,
    name: str,
    size: tuple[int, int] | None = None,
    test_fraction: float = 0.2,
    root: Path | str | None = None,
) -> specs.PackedData:
    """Pack your own data into the data root once, and return the spec that names it.

    Args:
        source: An `.npz` with `train_x`, `train_y`, `test_x`, `test_y` and optionally `classes`
            (without the test arrays a class-balanced part is set aside); or a folder of images
            `train/<class>/…` and `test/<class>/…`, or `<class>/…`.
        name: A word; the file becomes `<name>.npz`.
        size: Height and width to which the images of a folder are resized; needed if they differ.
        test_fraction: The part set aside where there is no test split, in (0, 1).
        root: The data root, by default [`data_root`][wsnlib.data.data_root]`()`.

    Returns:
        A spec that holds the name and the checksum; `dataclasses.replace` changes its splits.

    Raises:
        DataError: If the source is missing, cannot be read or has the wrong form; the message
            names the file.
    """
    source = Path(source)
    if source.is_dir():
        content = _image_folder(source, size)
    elif source.suffix == ".npz" and source.exists():
        try:
            with source.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                content = dict(archive)
        except Exception as error:  # a cut-off archive fails in many ways
            raise DataError(f"{source} cannot be read ({error})") from error
    else:
        raise DataError(f"{source} is not there; an .npz file or a folder of images is allowed")
    if "train_x" in content and "test_x" not in content:
        content = _with_test_split(content, test_fraction, str(source))
    arrays = _canonical(content, str(source))
    spec = specs.PackedData(name=name, sha256=_checksum(arrays))
    _write(arrays, (Path(root) if root is not None else data_root()) / f"{name}.npz")
    return spec


def _with_test_split(content: dict[str, Any], fraction: float, source: str) -> dict[str, Any]:
    if not 0 < fraction < 1:
        raise ValueError(f"test_fraction is {fraction!r}; a number above 0 and below 1 is allowed")
    whole = _canonical(content | {"test_x": content["train_x"][:0], "test_y": content["train_y"][:0]}, source)
    labels = torch.from_numpy(whole.train_y.astype(np.int64))
    smallest = int(labels.unique(return_counts=True)[1].min())
    num_test = max(1, round(fraction * smallest)) * len(labels.unique())
    generator = torch.Generator().manual_seed(specs.derive_seed(0, "test"))
    test = np.zeros(len(labels), dtype=bool)
    test[balanced_subset(labels, num_test, generator=generator).numpy()] = True
    parts = {"train_x": whole.train_x[~test], "train_y": whole.train_y[~test]}
    return parts | {"test_x": whole.train_x[test], "test_y": whole.train_y[test], "classes": whole.classes}


_IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".pgm", ".ppm"}


def _image_folder(folder: Path, size: tuple[int, int] | None) -> dict[str, Any]:
    split = (folder / "train").is_dir()
    train = folder / "train" if split else folder
    classes = sorted(p.name for p in train.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not classes:
        raise DataError(f"{train} has no folders; one folder of images per class is expected")
    content: dict[str, Any] = {"classes": classes}
    content["train_x"], content["train_y"] = _images(train, classes, size)
    if split and (folder / "test").is_dir():
        content["test_x"], content["test_y"] = _images(folder / "test", classes, size)
    return content


def _images(folder: Path, classes: Sequence[str], size: tuple[int, int] | None) -> tuple[Bytes, Bytes]:
    from PIL import Image

    images: list[Bytes] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        for path in sorted((folder / name).rglob("*")):
            if path.suffix.lower() not in _IMAGE_SUFFIXES:
                continue
            try:
                with Image.open(path) as file:
                    image = file.convert("L" if file.mode in ("1", "L", "I;16") else "RGB")
                    if size is not None:
                        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
                    pixels = np.asarray(image, dtype=np.uint8)
            except Exception as error:  # Pillow raises what the decoder raises
                raise DataError(f"{path} cannot be read as an image ({error})") from error
            pixels = pixels.reshape(*pixels.shape[:2], -1)
            if images and pixels.shape != images[0].shape:
                raise DataError(
                    f"{path} is of shape {pixels.shape} and the first image of shape {images[0].shape}; "
                    "give size=(height, width) and one colour mode"
                )
            images.append(pixels)
            labels.append(label)
    if not images:
        raise DataError(f"{folder} has no image; {', '.join(sorted(_IMAGE_SUFFIXES))} are read")
    return np.stack(images), np.array(labels, dtype=np.uint8)


# -- form, known without reading --------------------------------------------------------------

_FORMS = {
    specs.Digits: ((1, 8, 8), 10),
    specs.MNIST: ((1, 28, 28), 10),
    specs.FashionMNIST: ((1, 28, 28), 10),
    specs.CIFAR10: ((3, 32, 32), 10),
}


def image_shape(spec: specs.DataSpec) -> tuple[int, int, int]:
    """Channels, height and width of the images; only packed data are read for it.

    Examples:
        >>> image_shape(specs.MNIST())
        (1, 28, 28)
    """
    if type(spec) in _FORMS:
        return _FORMS[type(spec)][0]
    channels, height, width = load_data(spec).train.images.shape[1:]
    return channels, height, width


def num_classes(spec: specs.DataSpec) -> int:
    """Number of classes; only packed data are read for it.

    Examples:
        >>> num_classes(specs.Digits())
        10
    """
    return _FORMS[type(spec)][1] if type(spec) in _FORMS else load_data(spec).num_classes
