"""Data of your own: packed once, or photographs that stay where they are."""

from __future__ import annotations

import math
import os
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from wsnlib import specs
from wsnlib.addresses import local_path
from wsnlib.data.archives import Arrays, Bytes, canonical, open_archive, write_archive
from wsnlib.data.arrays import LEAST_LEVELS, Array, Given, read_given
from wsnlib.data.folders import Layout, read_layout
from wsnlib.data.imagenet import check_readable, list_folder
from wsnlib.data.images import decode
from wsnlib.data.sources import KNOWN, data_root
from wsnlib.data.splits import DataError, balanced_subset

SHOWN = 5
"""Names that a line of the report lists at most."""


def pack_data(
    source: Path | str,
    *,
    name: str,
    size: tuple[int, int] | None = None,
    test_fraction: float = 0.2,
    root: Path | str | None = None,
) -> specs.PackedData:
    """Pack your own data into the data root once, and return the spec that names it.

    What the source was taken for is printed: classes with their numbers of images, splits, sizes, and
    what was changed or left out, and why. Validation images are for testing where there are no test
    images, and else join those to train on, of which the spec's `validation_size` sets some aside.

    Args:
        source: A folder of images `train/<class>/…` and `test/<class>/…`, or `<class>/…`; the splits
            may also be called val, valid, validation, training or testing, in any case, and all may lie
            one level down. Gray images among colour ones become RGB. Or an `.npz` with `train_x`,
            `train_y`, `test_x`, `test_y` and optionally `classes`: images (n, height, width), or with
            channels last or first, in uint8, or in floats from 0 to 1 or to 255; labels that are
            integers or words, (n,), or rows with a single 1.
        name: A word, and not that of a known data set such as `mnist`; the file becomes `<name>.npz`.
        size: Height and width to which the images of a folder are resized; needed if they differ.
        test_fraction: The part set aside where there is no test split, class-balanced, in (0, 1).
        root: The data root, by default [`data_root`][wsnlib.data.data_root]`()`.

    Returns:
        A spec that holds the name and the checksum; `dataclasses.replace` changes its splits.

    Raises:
        DataError: If the source is missing, cannot be read, has the wrong form or can be read in more
            than one way; the message names the file.
        ValueError: If the name is that of a data set that the library knows, no word, or that of the source.

    Examples:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> x, y = np.linspace(0, 1, 7 * 13 * 11).reshape(7, 1, 13, 11), np.array([1, 1, 1, 1, 2, 2, 2])
        >>> np.savez(f"{folder.name}/raw.npz", train_x=x, train_y=y)
        >>> mine = pack_data(f"{folder.name}/raw.npz", name="mine", root=folder.name)
        raw.npz is packed as mine: 5 images to train on, 2 to test, 13 x 11 pixels, 1 channel(s), 2 classes
          of each class, to train on + to test: 1: 3 + 1, 2: 2 + 1
          arrays of shape (7, 1, 13, 11) were read as (n, channels, height, width)
          float64 from 0 to 1 became uint8, times 255
          labels from 1 to 2 became 0 to 1
          no images to test: 2 were set aside, equally many of each class
        >>> folder.cleanup()
    """
    _check_free(name)
    specs.PackedData(name=name, sha256="0" * 64)  # refuses a name before anything is read
    if size is not None and np.shape(size) != (2,):
        raise ValueError(f"size must be (height, width), got {size!r}; give two integers")
    if not isinstance(source, str | os.PathLike):
        raise DataError(
            f"source must be a path, got a {type(source).__name__}; write arrays with np.savez first"
        )
    source = local_path(source, what="source")
    if source.is_dir():
        given = _image_folder(source, size)
    elif source.suffix == ".npz" and source.exists():
        if size is not None:
            raise ValueError(
                f"size must be None for arrays, got {size}; resize them, or give a folder of images"
            )
        given = read_given(open_archive(source), str(source))
    elif source.exists():
        raise DataError(
            f"{source} must be an .npz file or a folder of images, got a {source.suffix} file; convert it"
        )
    else:
        raise DataError(
            f"source must be an .npz file or a folder of images, got {str(source)!r}, where there is "
            "nothing; correct the path"
        )
    arrays = _to_train_and_test(given, test_fraction, str(source))
    spec, target = specs.PackedData(name=name, sha256=arrays.sha256), data_root(root) / f"{name}.npz"
    if target.exists() and target.samefile(source):
        raise ValueError(f"name must be another than that of the source, got {name!r}; choose one")
    write_archive(arrays, target)
    height, width, channels = arrays.train_x.shape[1:]
    form = f"{height} x {width} pixels, {channels} channel(s)"
    title = f"{source.resolve().name} is packed as {name}"
    print(_report(title, (arrays.train_y, arrays.test_y), form, arrays.classes, given.notes))
    return spec


def image_folder(
    name: str, *, image_size: int = 224, validation_size: int = 0, root: Path | str | None = None
) -> specs.ImageFolder:
    """Look at a folder of photographs in the data root once, and return the spec that names it.

    Nothing is copied: the images are read as training needs them, of any size, gray ones as RGB. What the
    folder was taken for is printed: classes with their numbers of images, splits, and what is left out.
    `python -m wsnlib.data.prepare_imagenet SOURCE DEST` makes a folder whose images are resized as ImageNet's
    are in G21, Appendix A.1, which makes training on large ones several times faster.

    Args:
        name: Of a folder in the data root with images `train/<class>/…` and `val/<class>/…` of the same
            classes, as torchvision has them for ImageNet; the latter are the test images. Where there is no
            `val`, `test` is taken for it.
        image_size: Height and width of the images that the network sees.
        validation_size: Training images set aside, class-balanced.
        root: The data root, by default [`data_root`][wsnlib.data.data_root]`()`.

    Returns:
        A spec that holds the name and a checksum of all names and sizes, normalised by ImageNet's statistics.

    Raises:
        DataError: If the folder is missing, or has no such images; the message names it.
        ValueError: If the name is that of a data set that the library knows, or no word.

    Examples:
        >>> import tempfile
        >>> from PIL import Image
        >>> folder = tempfile.TemporaryDirectory()
        >>> for place in ("train/cat", "train/dog", "val/cat", "val/dog"):
        ...     Path(folder.name, "pets", place).mkdir(parents=True)
        ...     Image.new("RGB", (40, 30)).save(f"{folder.name}/pets/{place}/1.png")
        >>> pets = image_folder("pets", image_size=32, root=folder.name)
        pets is streamed: 2 images to train on, 2 to test, cut to 32 x 32 pixels, 2 classes
          of each class, to train on + to test: cat: 1 + 1, dog: 1 + 1
          images found: train in pets/train, test in pets/val
        >>> folder.cleanup()
    """
    _check_free(name)
    spec = specs.ImageFolder(
        name=name,
        sha256="0" * 64,
        image_size=image_size,
        validation_size=validation_size,
        normalisation="imagenet",
    )
    folder = data_root(root) / name
    found = list_folder(folder)
    check_readable(folder)
    layout = read_layout(folder)
    used = {each.folder for each in (found.train, found.val)}
    layout.left_out["not used"] = [
        f"{len([*chain.from_iterable(layout.images[split].values())])} images in {place.name}"
        for split, place in layout.places.items()
        if place not in used
    ]
    places = (
        f"images found: train in {name}/{found.train.folder.name}, test in {name}/{found.val.folder.name}"
    )
    labels = (found.train_labels, found.val_labels)
    form, notes = f"cut to {image_size} x {image_size} pixels", [places, *_left_out(layout)]
    print(_report(f"{name} is streamed", labels, form, found.classes, notes))
    return replace(spec, sha256=found.sha256)


def _check_free(name: str) -> None:
    if name in (known := sorted(each.name for each in KNOWN.values())):
        raise ValueError(f"name must be a word other than {', '.join(known)}, got {name!r}; choose another")


def _report(
    title: str, labels: Sequence[npt.NDArray[Any]], form: str, classes: Sequence[str], notes: list[str]
) -> str:
    """What was found, from the labels to train on and to test."""
    counts = zip(classes, *(np.bincount(y, minlength=len(classes)) for y in labels), strict=True)
    of_each = ", ".join(f"{name}: {train} + {test}" for name, train, test in counts)
    train, test = map(len, labels)
    lines = [
        f"{title}: {train} images to train on, {test} to test, {form}, {len(classes)} classes",
        f"of each class, to train on + to test: {of_each}",
        *notes,
    ]
    wrapper = textwrap.TextWrapper(110, break_long_words=False, break_on_hyphens=False)
    return "\n  ".join("\n    ".join(wrapper.wrap(line)) for line in lines)


def _to_train_and_test(given: Given, test_fraction: float, source: str) -> Arrays:
    """What is packed: validation images have no place of their own there."""
    images, labels, classes, notes = given
    if "test" not in images and "validation" in images:
        images["test"], labels["test"] = images.pop("validation"), labels.pop("validation")
        notes.append("no images to test: those for validation are taken")
    elif "validation" in images:
        for parts in (images, labels):
            parts["train"] = _joined(parts["train"], parts.pop("validation"), source)
        notes.append("images for validation joined those to train on; validation_size sets some aside")
    content: dict[str, Any] = {} if classes is None else {"classes": classes}
    for split in images:
        content |= {f"{split}_x": images[split], f"{split}_y": labels[split]}
    if "test" in images:
        return canonical(content, source)
    arrays = canonical(_with_test_split(content, test_fraction, source), source)
    notes.append(f"no images to test: {len(arrays.test_y)} were set aside, equally many of each class")
    return arrays


def _joined(first: Array, second: Array, source: str) -> Array:
    if first.shape[1:] != second.shape[1:]:
        raise DataError(
            f"images of {source} must be of one shape, got {first.shape[1:]} to train on and "
            f"{second.shape[1:]} for validation; resize them"
        )
    return np.concatenate([first, second])


def _with_test_split(content: dict[str, Any], fraction: float, source: str) -> dict[str, Any]:
    if not 0 < fraction < 1:
        raise ValueError(f"test_fraction must be > 0 and < 1, got {fraction!r}; give such a number")
    whole = canonical(content | {"test_x": content["train_x"][:0], "test_y": content["train_y"][:0]}, source)
    labels = torch.from_numpy(whole.train_y.astype(np.int64))
    smallest = int(labels.unique(return_counts=True)[1].min()) if len(labels) else 0
    if smallest < 2:
        raise DataError(
            f"{source} must have at least 2 images of each class, as some are set aside for the test, got "
            f"{smallest} of one; add some, or leave the class out"
        )
    per_class = min(smallest - 1, max(1, round(fraction * smallest)))  # one at least is trained on
    num_test = per_class * len(labels.unique())
    generator = torch.Generator().manual_seed(specs.derive_seed(0, "test"))
    test = np.zeros(len(labels), dtype=bool)
    test[balanced_subset(labels, num_test, generator=generator).numpy()] = True
    parts = {"train_x": whole.train_x[~test], "train_y": whole.train_y[~test]}
    return parts | {"test_x": whole.train_x[test], "test_y": whole.train_y[test], "classes": whole.classes}


def _image_folder(folder: Path, size: tuple[int, int] | None) -> Given:
    layout = read_layout(folder)
    classes = tuple(layout.images["train"])
    for split, by_class in layout.images.items():
        if unknown := sorted({*by_class} - {*classes}):
            raise DataError(
                f"every split must have classes of {layout.places['train']} only, got {unknown[0]!r} in "
                f"{layout.places[split]}; move it"
            )
    files = {split: [*chain.from_iterable(each.values())] for split, each in layout.images.items()}
    images, done = _images(files, size)
    labels = {
        split: np.repeat([classes.index(name) for name in each], [*map(len, each.values())])
        for split, each in layout.images.items()
    }
    top = Path(folder.resolve().name)
    found = (f"{split} in {top / place.relative_to(folder)}" for split, place in layout.places.items())
    notes = [f"images found: {', '.join(found)}", *_left_out(layout)]
    return Given(images, labels, classes, notes + done)


def _left_out(layout: Layout) -> list[str]:
    """A line for every reason."""
    notes = []
    for reason, names in layout.left_out.items():
        if names:
            more = f", … ({len(names)} in all)" if len(names) > SHOWN else ""
            notes.append(f"left out, {reason}: {', '.join(names[:SHOWN])}{more}")
    return notes


def _images(files: dict[str, list[Path]], size: tuple[int, int] | None) -> tuple[dict[str, Bytes], list[str]]:
    """All images of a folder, of one shape: gray only if each of them is; and what was done to them."""
    from PIL import Image

    images: dict[str, list[Bytes]] = {}
    sizes, lost, highest = Counter[tuple[int, int]](), Counter[str](), dict[Path, int]()
    for split, path in ((split, path) for split, paths in files.items() for path in paths):
        found = decode(path)
        sizes[found.image.height, found.image.width] += 1
        lost.update(found.lost)
        if found.highest is not None:
            highest[path] = found.highest
        if size is None and len(sizes) > 1:
            one, other = ("{} x {}".format(*each) for each in sizes)
            raise DataError(
                f"{path} must be of {one} pixels as the images before it, got {other}; "
                "give size=(height, width)"
            )
        image = found.image if size is None else found.image.resize(size[::-1], Image.Resampling.BILINEAR)
        images.setdefault(split, []).append(np.asarray(image))
    if highest and max(highest.values()) < 256 * LEAST_LEVELS:
        raise DataError(
            f"{next(iter(highest))} and all other images of 16 bits must use them, got at most "
            f"{max(highest.values())} of 65535, of which 8 bits would keep next to nothing; scale them first"
        )
    grays = sum(each.ndim == 2 for parts in images.values() for each in parts)
    notes = [f"dropped: {what} of {count} image(s)" for what, count in lost.items()]
    if 0 < grays < sizes.total():
        notes.append(f"{grays} gray image(s) became RGB, as the others are")
    if size is not None:
        least, most = ("{} x {}".format(*each(sizes, key=math.prod)) for each in (min, max))
        notes.append(f"resized from {len(sizes)} size(s), {least} to {most} pixels")
    if grays < sizes.total():
        images = {
            s: [np.repeat(x[..., None], 3, 2) if x.ndim == 2 else x for x in each]
            for s, each in images.items()
        }
    return {split: np.stack(parts) for split, parts in images.items()}, notes
