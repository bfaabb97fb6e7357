"""What a folder of images means: which files are images, which folders are splits, and which classes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

from wsnlib.data.splits import DataError

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".jp2", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff"}
    | {".pbm", ".pgm", ".ppm", ".pnm"}
)
"""Names that end so, in any case, are images; what format a file has, its content says."""

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
"""What a folder of that name, in any case, holds."""

Parts = tuple[str, ...]
"""The folders from a given one to a file, and the file's name."""


def is_hidden(name: str) -> bool:
    """Whether a file or folder of that name is there for the system and not for its user.

    Examples:
        >>> is_hidden(".ipynb_checkpoints"), is_hidden("__MACOSX"), is_hidden("cat")
        (True, True, False)
    """
    return name.startswith(".") or name in ("__MACOSX", "@eaDir")


def is_image(name: str) -> bool:
    """Whether a file of that name is taken for an image.

    Examples:
        >>> is_image("n01440764_18.JPEG"), is_image("notes.txt"), is_image("._n01440764_18.JPEG")
        (True, False, False)
    """
    return not is_hidden(name) and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def split_folders(names: Iterable[str], folder: Path) -> dict[str, str]:
    """Those of the names of folders in a folder that name a split, by split: train, validation, test.

    Raises:
        DataError: If two name the same split.

    Examples:
        >>> split_folders(["VALID", "cat", "Train"], Path("photos"))
        {'train': 'Train', 'validation': 'VALID'}
    """
    found: dict[str, list[str]] = {split: [] for split in SPLIT_NAMES.values()}
    for name in filter(_is_split, sorted(names)):
        found[SPLIT_NAMES[name.lower()]].append(name)
    for split, given in found.items():
        if len(given) > 1:
            raise DataError(
                f"{folder} must have one folder for {split} images, got {' and '.join(map(repr, given))}; "
                "join them, or move one away"
            )
    return {split: given[0] for split, given in found.items() if given}


class Layout(NamedTuple):
    """A folder's images by split and class, sorted; where each split lies; what is left out, by reason."""

    images: dict[str, dict[str, list[Path]]]
    places: dict[str, Path]
    left_out: dict[str, list[str]]


def read_layout(folder: Path) -> Layout:
    """The images of `<split>/<class>/…` or `<class>/…`, in the folder or in the only folder that it holds.

    A class is a folder with images, at any depth. Without folders of splits, all are for training.

    Raises:
        DataError: If it can be read in more than one way, or has no images in folders for training.
    """
    paths, left_out = _walk(folder)
    above, inner = _inner(paths)
    place = folder.joinpath(*above)
    names = {parts[0] for parts in inner if len(parts) > 1}
    tops = split_folders(names, place)
    if tops and (others := sorted(names - set(tops.values()))):
        raise DataError(
            f"{place} must hold folders of splits or of classes, got {', '.join(sorted(tops.values()))} "
            f"beside {others[0]!r}; move {others[0]!r} away, or rename a class that is called like a split"
        )
    images, places = {}, {}
    for split, top in tops.items() or (("train", ""),):
        within = [parts[1:] for parts in inner if parts[0] == top] if top else inner
        if classes := _classes(place / top, within):
            images[split], places[split] = classes, place / top
    if "train" not in images:
        found = f"{len(paths)} images in {', '.join(sorted(names)) or 'no folder'}"
        raise DataError(
            f"{place} must hold images to train on in one folder per class (train/cat/… or cat/…), got "
            f"{found}; names that end in {', '.join(sorted(IMAGE_SUFFIXES))} are images"
        )
    used = {path for classes in images.values() for files in classes.values() for path in files}
    left_out["in no folder of a class"] = [
        "/".join(parts) for parts in paths if folder.joinpath(*parts) not in used
    ]
    return Layout(images, places, left_out)


def _walk(folder: Path) -> tuple[list[Parts], dict[str, list[str]]]:
    """All images below a folder, sorted, and what else is there."""
    images: list[Parts] = []
    repeated: list[str] = []
    hidden, others, folders = [], [], []
    for here, files, not_seen in walked(folder, repeated):
        folders.append(here)
        hidden += ["/".join((*here, name)) for name in not_seen]
        images += [(*here, name) for name in files if is_image(name)]
        others += [(*here, name) for name in files if not is_image(name)]
    folders += [tuple(each.split("/")) for each in repeated]
    full = {parts[:depth] for parts in images for depth in range(len(parts))}
    left_out = {
        "hidden": sorted(hidden),
        "a link to a folder that is read already": repeated,
        "no image by its name": sorted("/".join(parts) for parts in others if parts[:-1] in full),
        "without images": sorted(
            "/".join(parts) for parts in folders if parts not in full and parts[:-1] in full
        ),
    }
    return sorted(images), left_out


def walked(folder: Path, repeated: list[str] | None = None) -> Iterator[tuple[Parts, list[str], list[str]]]:
    """Every folder in one, through links and in torchvision's order, with its files and what is hidden in it.

    Links that lead to a folder once more are listed in `repeated`.

    Raises:
        OSError: If one cannot be read.
    """
    seen = set()
    for at, below, files in os.walk(folder, followlinks=True, onerror=_raise):
        here, state = Path(at).relative_to(folder).parts, os.stat(at)
        if (state.st_dev, state.st_ino) in seen:  # links may lead round in a circle
            below.clear()
            if repeated is not None:
                repeated.append("/".join(here))
            continue
        seen.add((state.st_dev, state.st_ino))
        hidden = [name for name in (*below, *files) if is_hidden(name)]
        below[:] = sorted(name for name in below if not is_hidden(name))
        yield here, sorted(name for name in files if not is_hidden(name)), hidden


def _raise(error: OSError) -> NoReturn:
    raise error


def _inner(paths: list[Parts]) -> tuple[Parts, list[Parts]]:
    """The way down to splits, to more than one folder, or to one with images in it; the paths from there."""
    above: Parts = ()
    while True:
        deeper = [parts for parts in paths if len(parts) > 1]
        names = {parts[0] for parts in deeper}
        if len(names) != 1 or any(len(parts) == 2 or _is_split(parts[0]) for parts in deeper):
            return above, paths
        above, paths = (*above, *names), [parts[1:] for parts in deeper]


def _classes(place: Path, paths: list[Parts]) -> dict[str, list[Path]]:
    """Images by class; those in no folder are of none."""
    above, inner = _inner(paths)
    place = place.joinpath(*above)
    classes: dict[str, list[Path]] = {}
    for parts in inner:
        if len(parts) > 2 and any(map(_is_split, parts[:-1])):
            raise DataError(
                f"{place} must have no split inside of a class, got {'/'.join(parts[:-1])!r}; put splits "
                "outside (test/cat), or give the folder that holds them"
            )
        if len(parts) > 1:
            classes.setdefault(parts[0], []).append(place.joinpath(*parts))
    return classes


def _is_split(name: str) -> bool:
    return name.lower() in SPLIT_NAMES
