"""The data sets that are known by name: scikit-learn's digits and torchvision's files.

CIFAR-100 and SVHN are known by their form alone, since torchvision, which compares the MD5 of
their files whenever it reads them, vouches for the source. The packed file that is made of them
carries a SHA-256, so that damage to it is seen, and the same SHA-256 goes into every record, so
that two runs can be said to have used the same data. For the others it is fixed in `CHECKSUMS`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import platformdirs

from wsnlib import specs
from wsnlib.addresses import local_path
from wsnlib.data.archives import Arrays, canonical, checksum, in_canonical_order, read_archive, write_archive
from wsnlib.data.splits import DataError

CHECKSUMS = {
    "digits": "69d19798978653be5b7861115d4d77797678c3c5c340002141993dfe99e9a424",
    "mnist": "0ec1104c26b8903d7393213598eefd2c33f2fa9995ed72cf9e8261dc7650ef93",
    "cifar10": "90070c6b0844cc54cc10a04a7aae402ba33bc2e86ee0e083782ec4c7221b3a2e",
    "fashion_mnist": "f2dbd6250a0e3a3e3fdb04b5c43c9e4d99ac9f132147cfc167d98eeac002a253",
}
"""SHA-256 of a data set's arrays in canonical order, by name; other arrays are refused."""


class Known(NamedTuple):
    """What is known of a data set before it is read; `name` is that of its file or folder."""

    name: str
    image_shape: tuple[int, int, int]
    num_classes: int
    num_train: int
    num_test: int


KNOWN: dict[type[specs.DataSpec], Known] = {
    specs.Digits: Known("digits", (1, 8, 8), 10, 1437, 360),
    specs.MNIST: Known("mnist", (1, 28, 28), 10, 60_000, 10_000),
    specs.FashionMNIST: Known("fashion_mnist", (1, 28, 28), 10, 60_000, 10_000),
    specs.CIFAR10: Known("cifar10", (3, 32, 32), 10, 50_000, 10_000),
    specs.CIFAR100: Known("cifar100", (3, 32, 32), 100, 50_000, 10_000),
    specs.SVHN: Known("svhn", (3, 32, 32), 10, 73_257, 26_032),
    specs.ImageNet: Known("imagenet", (3, 224, 224), 1000, 1_281_167, 50_000),
}
"""Channels, height and width, classes and images of each data set, by the class of its spec."""

DIGITS = "datasets/data/digits.csv.gz"
"""Where scikit-learn has its digits."""

_TORCHVISION = {
    specs.MNIST: ("MNIST", ("MNIST/raw",)),
    specs.FashionMNIST: ("FashionMNIST", ("FashionMNIST/raw",)),
    specs.CIFAR10: ("CIFAR10", ("cifar-10-batches-py",)),
    specs.CIFAR100: ("CIFAR100", ("cifar-100-python",)),
    specs.SVHN: ("SVHN", ("train_32x32.mat", "test_32x32.mat")),
}
"""Torchvision's name, and the files or folders that it keeps in the data root."""


def data_root(given: Path | str | None = None) -> Path:
    """The folder of the data sets: the one given, else `$WSN_DATA`, else `wsnlib/data` in the user's cache
    folder.

    Raises:
        ValueError: If it is not on this machine.
    """
    root = given or os.environ.get("WSN_DATA") or Path(platformdirs.user_cache_dir("wsnlib"), "data")
    return local_path(root, what="the data root")


def read_arrays(spec: specs.DataSpec, root: Path, *, download: bool = False) -> Arrays:
    """The arrays of any data set that lies in memory.

    Raises:
        DataError: If it is missing, damaged or not the data set of that name.
    """
    if isinstance(spec, specs.Digits):
        return _digits()
    if isinstance(spec, specs.PackedData):
        path = root / f"{spec.name}.npz"
        if not path.exists():
            raise DataError(
                f"{path} is not there; make it with wsn.pack_data(…, name={spec.name!r}) or set WSN_DATA"
            )
        arrays = read_archive(path)
        if arrays.sha256 != spec.sha256:
            raise DataError(
                f"{path} is not the {spec.name} data set of checksum {spec.sha256}, got {arrays.sha256}; "
                f"take that as data_sha256 (PackedData.sha256), or pack the other data as {spec.name} again"
            )
        return arrays
    path = root / f"{KNOWN[type(spec)].name}.npz"
    if not path.exists():
        arrays = _fetched(type(spec), path, download)
        try:
            write_archive(arrays, path)
        except OSError as error:
            raise DataError(
                f"{path} must be written once, from torchvision's files, and cannot be ({error}); call "
                "load_data as somebody who may, or set WSN_DATA to a folder of your own with links to them"
            ) from error
    arrays = read_archive(path)
    _check_known(type(spec), arrays, str(path))
    return arrays


def _check_known(kind: type[specs.DataSpec], arrays: Arrays, source: str) -> None:
    """Refuse arrays that are not those of the data set, by checksum or, where none is known, by form."""
    known = KNOWN[kind]
    if known.name in CHECKSUMS:
        if arrays.sha256 != CHECKSUMS[known.name]:
            raise DataError(
                f"{source} is not the {kind.__name__} data set (its checksum differs); delete it and "
                "fetch it again"
            )
        return
    height, width, channels = arrays.train_x.shape[1:]
    found = known._replace(
        image_shape=(channels, height, width),
        num_classes=len(arrays.classes),
        num_train=len(arrays.train_x),
        num_test=len(arrays.test_x),
    )
    if found != known:
        raise DataError(
            f"{source} is not the {kind.__name__} data set: it has {_form(found)}, and {_form(known)} are "
            "expected; delete it and fetch it again"
        )


def _form(known: Known) -> str:
    channels, height, width = known.image_shape
    return (
        f"{known.num_train:,} training and {known.num_test:,} test images of {height} x {width} pixels "
        f"in {channels} channel(s) and {known.num_classes} classes"
    )


@lru_cache(maxsize=1)
def _digits() -> Arrays:
    rows = _rows_of_digits()
    x = np.round(rows[:, :-1].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    x, y = in_canonical_order(x, rows[:, -1])
    rank = np.array([np.count_nonzero(y[:i] == y[i]) for i in range(len(y))])
    test = rank < 36
    parts = (x[~test], y[~test], x[test], y[test])
    arrays = Arrays(*parts, tuple(map(str, range(10))), checksum(*parts))
    if arrays.sha256 != CHECKSUMS["digits"]:
        raise DataError(
            "the digits of this scikit-learn are not the known ones (their checksum differs); "
            "install another release"
        )
    return arrays


def _rows_of_digits() -> npt.NDArray[np.uint8]:
    """64 pixels from 0 to 16 and the class, from scikit-learn's file, as importing it takes 2 s."""
    for place in getattr(find_spec("sklearn"), "submodule_search_locations", None) or ():
        with suppress(OSError):
            return np.loadtxt(Path(place, DIGITS), delimiter=",", dtype=np.uint8)
    from sklearn.datasets import load_digits  # of a release that keeps it elsewhere

    return np.column_stack(load_digits(return_X_y=True)).astype(np.uint8)


def _fetched(kind: type[specs.DataSpec], path: Path, download: bool) -> Arrays:
    """The arrays in torchvision's files in the data root, downloaded if allowed."""
    class_name, files = _TORCHVISION[kind]
    place = f"{' and '.join(files)} in {path.parent}"
    try:
        content = _torchvision_content(class_name, path.parent, download)
    except Exception as error:  # torchvision raises what the network or the file system raises
        reason = " ".join(str(error).split())
        if any((path.parent / file).exists() for file in files) and not download:
            problem = f"{place} is incomplete or damaged ({reason}); delete it, or"
        elif download:
            problem = f"{class_name} could not be downloaded ({reason}); connect to the network, or"
        else:
            problem = f"{class_name} is not in {path.parent}; allow the download (download=True), or"
        raise DataError(
            f"{problem} put {path.name} or torchvision's {' and '.join(files)} into {path.parent}, or set "
            "WSN_DATA to the folder that holds one of them"
        ) from error
    arrays = canonical(content, class_name)
    _check_known(kind, arrays, place)
    return arrays


def _torchvision_content(class_name: str, root: Path, download: bool) -> dict[str, Any]:
    from torchvision import datasets

    kind = getattr(datasets, class_name)
    content: dict[str, Any] = {"classes": list(map(str, range(10)))}
    for split in ("train", "test"):
        if kind is datasets.SVHN:  # (n, channels, height, width), and its classes are the digits
            files = kind(root, split=split, download=download)
            x, y = files.data.transpose(0, 2, 3, 1), files.labels
        else:
            files = kind(root, train=split == "train", download=download)
            x, y = np.asarray(files.data), np.asarray(files.targets)
            content["classes"] = [label.split(" - ")[0] for label in files.classes]
        content[f"{split}_x"], content[f"{split}_y"] = x, y
    return content
