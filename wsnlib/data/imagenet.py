"""ImageNet as torchvision's folder: `train/<synset>/*.JPEG` and `val/<synset>/*.JPEG`.

The classes are the synsets in alphabetical order, as for torchvision, and are called what
torchvision's `meta.bin` calls them, if it is there.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from wsnlib.data.images import IMAGE_SUFFIXES, is_image
from wsnlib.data.sources import Known
from wsnlib.data.splits import DataError

SPLITS = ("train", "val")
DAMAGED = "damaged.txt"
"""In a prepared folder: the images that could not be read, one a line, and why, after a tab."""


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
    """What lies in a folder: images and labels (n,) of both splits, the synsets, the SHA-256 of it all.

    The SHA-256 is that of every file's name and size.
    """

    train: Files
    train_labels: npt.NDArray[np.int64]
    val: Files
    val_labels: npt.NDArray[np.int64]
    synsets: tuple[str, ...]
    sha256: str


def list_folder(folder: Path) -> Folder:
    """All images of a folder; it takes a look at every file.

    Raises:
        DataError: If `train` or `val` is missing, they have different class folders, or a class has
            no image.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not there; put ImageNet's folders train/<synset> and val/<synset>, as "
            "torchvision.datasets.ImageNet unpacks them, into it, or set WSN_DATA"
        )
    for split in SPLITS:
        if not (folder / split).is_dir():
            raise DataError(
                f"{folder} has no folder {split!r}; train/<synset>/*.JPEG and val/<synset>/*.JPEG are "
                "expected"
            )
    train, val = (_subfolders(folder / split) for split in SPLITS)
    if train != val:
        differing = sorted({*train} ^ {*val})
        split = "train" if differing[0] in train else "val"
        raise DataError(
            f"the class folders in train and val of {folder} differ: {differing[0]} is in {split} only "
            f"({len(differing)} such class(es)); both need the same"
        )
    if not train:
        raise DataError(f"train and val of {folder} have no class folders; train/<synset>/*.JPEG is expected")
    return _listed(folder, train)


def _subfolders(folder: Path) -> tuple[str, ...]:
    with os.scandir(folder) as entries:
        return tuple(sorted(e.name for e in entries if e.is_dir() and not e.name.startswith(".")))


def _listed(folder: Path, synsets: tuple[str, ...]) -> Folder:
    digest = hashlib.sha256()
    files, labels = [], []
    for split in SPLITS:
        names: list[bytes] = []
        counts: list[int] = []
        for synset in synsets:
            with os.scandir(folder / split / synset) as entries:
                images = sorted((e.name, e.stat().st_size) for e in entries if is_image(e.name))
            if not images:
                raise DataError(
                    f"{folder / split / synset} has no image; {', '.join(sorted(IMAGE_SUFFIXES))} are read"
                )
            for name, size in images:
                names.append(os.fsencode(f"{synset}/{name}"))
                digest.update(b"%s/%s %d\n" % (split.encode(), names[-1], size))
            counts.append(len(images))
        files.append(Files(folder / split, np.array(names)))
        labels.append(np.repeat(np.arange(len(synsets)), counts))
    return Folder(files[0], labels[0], files[1], labels[1], synsets, digest.hexdigest())


def check_complete(folder: Path, found: Folder, known: Known) -> None:
    """Refuse a folder that is not the whole of ImageNet, or says itself what could not be read.

    Raises:
        DataError: With the first of the damaged images and their number, or with the numbers found.
    """
    report = folder / DAMAGED
    if report.exists():
        damaged = os.fsdecode(report.read_bytes()).splitlines()
        name, _, reason = damaged[0].partition("\t")
        raise DataError(
            f"{len(damaged)} image(s) of {folder} could not be read when it was prepared and are missing, "
            f"the first is {name} ({reason}); replace them at the source and prepare it again"
        )
    numbers = (len(found.synsets), len(found.train.names), len(found.val.names))
    if numbers != (known.num_classes, known.num_train, known.num_test):
        raise DataError(
            f"{folder} has {numbers[0]:,} classes, {numbers[1]:,} images in train and {numbers[2]:,} in val; "
            f"{known.num_classes:,}, {known.num_train:,} and {known.num_test:,} are expected"
        )


def class_names(folder: Path, synsets: Iterable[str]) -> tuple[str, ...]:
    """What each synset is called in torchvision's `meta.bin`; without it, the synset itself.

    Raises:
        DataError: If `meta.bin` cannot be read.
    """
    meta, names = folder / "meta.bin", {}
    if meta.exists():
        try:
            names, _ = torch.load(meta, weights_only=True)
        except Exception as error:  # a cut-off file fails in many ways
            raise DataError(f"{meta} cannot be read ({' '.join(str(error).split())}); delete it") from error
    return tuple(", ".join(names[synset]) if synset in names else synset for synset in synsets)
