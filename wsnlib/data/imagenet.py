"""Photographs in torchvision's folders: `train/<class>/…` and `val/<class>/…`, such as ImageNet.

The classes are the folders in alphabetical order, as for torchvision, and are called what
torchvision's `meta.bin` calls them, if it is there.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from wsnlib.data.folders import is_hidden, is_image, split_folders, walked
from wsnlib.data.sources import Known
from wsnlib.data.splits import DataError

DAMAGED = "damaged.txt"
"""In a prepared folder, the images that could not be read, one a line, and why, after a tab."""


class Files(NamedTuple):
    """Image files of one folder: their names in it as bytes, (n,), sorted by class and name.

    One array, and no list of a million strings, so that processes can share it.
    """

    folder: Path
    names: npt.NDArray[np.bytes_]

    def take(self, index: npt.NDArray[np.int64]) -> Files:
        """The files at these positions."""
        return Files(self.folder, self.names[index])

    def path(self, position: int) -> Path:
        """Where a file lies."""
        return self.folder / os.fsdecode(self.names[position])


class Folder(NamedTuple):
    """What lies in a folder: images and labels (n,) of both splits, the classes, the SHA-256 of it all.

    The SHA-256 is that of every file's name and size.
    """

    train: Files
    train_labels: npt.NDArray[np.int64]
    val: Files
    val_labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    sha256: str


def list_folder(folder: Path) -> Folder:
    """All images of a folder; it takes a look at every file. Where there is no `val`, `test` is taken for it.

    Raises:
        DataError: If `train` or `val` is missing, or they have images of different classes.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not there; put folders train/<class> and val/<class>, as torchvision.datasets "
            "has them for ImageNet, into it, or set WSN_DATA"
        )
    given = split_folders(_subfolders(folder), folder)
    tops = {"train": given.get("train"), "val": given.get("validation", given.get("test"))}
    for name, top in tops.items():
        if top is None:
            raise DataError(
                f"{folder} must have a folder {name!r}, got none; put images into train/<class> and "
                "val/<class> there"
            )
    places = {name: folder / str(top) for name, top in tops.items()}
    images = {name: _by_class(place) for name, place in places.items()}
    if images["train"].keys() != images["val"].keys():
        differing = sorted(images["train"].keys() ^ images["val"].keys())
        split = "train" if differing[0] in images["train"] else "val"
        raise DataError(
            f"train and val of {folder} must have the same classes, got {differing[0]} in {split} only "
            f"({len(differing)} such class(es)); complete the other"
        )
    if not images["train"]:
        raise DataError(
            f"train and val of {folder} must have a folder for each class, got none; put images into "
            "train/<class> there"
        )
    digest = hashlib.sha256()
    files, labels = [], []
    for name, classes in images.items():
        listed = [*chain.from_iterable(classes.values())]
        for file, size in listed:
            digest.update(b"%s/%s %d\n" % (name.encode(), file, size))
        files.append(Files(places[name], np.array([file for file, _ in listed])))
        labels.append(np.repeat(np.arange(len(classes)), [*map(len, classes.values())]))
    return Folder(files[0], labels[0], files[1], labels[1], tuple(images["train"]), digest.hexdigest())


def _subfolders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not is_hidden(e.name))


def _by_class(folder: Path) -> dict[str, list[tuple[bytes, int]]]:
    """Name, from the folder on, and size of the images of each class; a folder without images is none."""
    found = {}
    for name in _subfolders(folder):
        images = []
        for here, files, _ in walked(folder / name):
            names = ["/".join((name, *here, each)) for each in files if is_image(each)]
            images += [(os.fsencode(each), os.stat(folder / each).st_size) for each in names]
        if images:
            found[name] = images
    return found


def check_readable(folder: Path) -> None:
    """Refuse a prepared folder that says itself what could not be read.

    Raises:
        DataError: With the first of the damaged images and their number.
    """
    report = folder / DAMAGED
    if report.exists():
        damaged = os.fsdecode(report.read_bytes()).splitlines()
        name, _, reason = damaged[0].partition("\t")
        raise DataError(
            f"{len(damaged)} image(s) of {folder} could not be read when it was prepared and are missing, "
            f"the first is {name} ({reason}); replace them at the source and prepare it again"
        )


def check_complete(folder: Path, found: Folder, known: Known) -> None:
    """Refuse a folder that is not the whole of ImageNet.

    Raises:
        DataError: With the numbers found.
    """
    numbers = (len(found.classes), len(found.train.names), len(found.val.names))
    if numbers != (known.num_classes, known.num_train, known.num_test):
        raise DataError(
            f"{folder} must have {known.num_classes:,} classes, {known.num_train:,} images in train and "
            f"{known.num_test:,} in val, got {numbers[0]:,}, {numbers[1]:,} and {numbers[2]:,}; complete it, "
            "or give it another name and take wsn.image_folder"
        )


def class_names(folder: Path, classes: Iterable[str]) -> tuple[str, ...]:
    """What each class is called in torchvision's `meta.bin`; without it, the folder's name.

    Raises:
        DataError: If `meta.bin` cannot be read.
    """
    meta, names = folder / "meta.bin", {}
    if meta.exists():
        try:
            names, _ = torch.load(meta, weights_only=True)
        except Exception as error:  # a cut-off file fails in many ways
            raise DataError(f"{meta} cannot be read ({' '.join(str(error).split())}); delete it") from error
    return tuple(", ".join(names[each]) if each in names else each for each in classes)
