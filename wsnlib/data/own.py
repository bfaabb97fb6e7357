"""Data of your own, packed once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wsnlib import specs
from wsnlib.data.archives import Bytes, canonical, open_archive, write_archive
from wsnlib.data.images import IMAGE_SUFFIXES, is_image, read_image
from wsnlib.data.sources import KNOWN, data_root
from wsnlib.data.splits import DataError, balanced_subset


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
        name: A word, and not that of a known data set such as `mnist`; the file becomes `<name>.npz`.
        size: Height and width to which the images of a folder are resized; needed if they differ.
        test_fraction: The part set aside where there is no test split, in (0, 1).
        root: The data root, by default [`data_root`][wsnlib.data.data_root]`()`.

    Returns:
        A spec that holds the name and the checksum; `dataclasses.replace` changes its splits.

    Raises:
        DataError: If the source is missing, cannot be read or has the wrong form; the message
            names the file.
        ValueError: If the name is that of a data set that the library knows, or no word.
    """
    if name in (known := sorted(each.name for each in KNOWN.values())):
        raise ValueError(f"name is {name!r}; any word but {', '.join(known)} is allowed")
    source = Path(source)
    if source.is_dir():
        content = _image_folder(source, size)
    elif source.suffix == ".npz" and source.exists():
        content = open_archive(source)
    else:
        raise DataError(f"{source} is not there; an .npz file or a folder of images is allowed")
    if {"train_x", "train_y"} <= set(content) and "test_x" not in content:
        content = _with_test_split(content, test_fraction, str(source))
    arrays = canonical(content, str(source))
    spec = specs.PackedData(name=name, sha256=arrays.sha256)
    write_archive(arrays, (Path(root) if root is not None else data_root()) / f"{name}.npz")
    return spec


def _with_test_split(content: dict[str, Any], fraction: float, source: str) -> dict[str, Any]:
    if not 0 < fraction < 1:
        raise ValueError(f"test_fraction is {fraction!r}; a number above 0 and below 1 is allowed")
    whole = canonical(content | {"test_x": content["train_x"][:0], "test_y": content["train_y"][:0]}, source)
    labels = torch.from_numpy(whole.train_y.astype(np.int64))
    smallest = int(labels.unique(return_counts=True)[1].min()) if len(labels) else 0
    if smallest < 2:
        raise DataError(
            f"{source} has a class with {smallest} of the images; at least 2 of each are needed, as some are "
            "set aside for the test"
        )
    num_test = max(1, round(fraction * smallest)) * len(labels.unique())
    generator = torch.Generator().manual_seed(specs.derive_seed(0, "test"))
    test = np.zeros(len(labels), dtype=bool)
    test[balanced_subset(labels, num_test, generator=generator).numpy()] = True
    parts = {"train_x": whole.train_x[~test], "train_y": whole.train_y[~test]}
    return parts | {"test_x": whole.train_x[test], "test_y": whole.train_y[test], "classes": whole.classes}


def _image_folder(folder: Path, size: tuple[int, int] | None) -> dict[str, Any]:
    split = (folder / "train").is_dir()
    train = folder / "train" if split else folder
    classes = _class_folders(train)
    if not classes:
        raise DataError(f"{train} has no folders; one folder of images per class is expected")
    content: dict[str, Any] = {"classes": classes}
    content["train_x"], content["train_y"] = _images(train, classes, size)
    if split and (folder / "test").is_dir():
        unknown = sorted(set(_class_folders(folder / "test")) - set(classes))
        if unknown:
            raise DataError(f"{folder / 'test'} has the class {unknown[0]!r}, which {train} has not")
        content["test_x"], content["test_y"] = _images(folder / "test", classes, size)
    return content


def _class_folders(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _images(folder: Path, classes: Sequence[str], size: tuple[int, int] | None) -> tuple[Bytes, Bytes]:
    from PIL import Image

    images: list[Bytes] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        for path in sorted((folder / name).rglob("*")):
            if not is_image(path.name):
                continue
            image = read_image(path, keep_gray=True)
            if size is not None:
                image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
            pixels = np.asarray(image, dtype=np.uint8)
            pixels = pixels.reshape(*pixels.shape[:2], -1)
            if images and pixels.shape != images[0].shape:
                raise DataError(
                    f"{path} is of shape {pixels.shape} and the first image of shape {images[0].shape}; "
                    "give size=(height, width) and one colour mode"
                )
            images.append(pixels)
            labels.append(label)
    if not images:
        raise DataError(f"{folder} has no image; {', '.join(sorted(IMAGE_SUFFIXES))} are read")
    return np.stack(images), np.array(labels)
