"""Arrays of one's own: which are meant, which axis holds the channels, on which scale, and which labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wsnlib.data.archives import Bytes
from wsnlib.data.folders import SPLIT_NAMES
from wsnlib.data.splits import DataError

MOST_CHANNELS = 4
"""An axis of at most so many is taken for the channels (gray or RGB, with or without alpha)."""

LEAST_LEVELS = 16
"""Of the 256 that 8 bits have, those that the brightest image of 16 bits, or of floats, must reach."""

Array = npt.NDArray[Any]


class Given(NamedTuple):
    """Images (n, height, width[, channels]) and labels (n,) by split, class names, and what was done."""

    images: dict[str, Bytes]
    labels: dict[str, Array]
    classes: tuple[str, ...] | None
    notes: list[str]


def read_given(content: Mapping[str, Any], source: str) -> Given:
    """Arrays as they come, in the form of those that are packed.

    Args:
        content: Arrays `<split>_x` and `<split>_y` (or `x_<split>`), with the splits' names as for
            folders, and optionally `classes`.
        source: What the arrays are called in errors.

    Raises:
        DataError: If an array is missing, or can be read in more than one way.

    Examples:
        >>> x, y = np.linspace(0, 1, 30).reshape(2, 3, 1, 5), np.array([1, 2])
        >>> given = read_given({"train_x": x, "train_y": y}, "raw.npz")
        >>> given.images["train"].shape, given.labels["train"], given.classes
        ((2, 1, 5, 3), array([0, 1]), ('1', '2'))
    """
    found: dict[str, dict[str, Array]] = {"x": {}, "y": {}}
    others = []
    for name, array in content.items():
        part, split = _meaning(name)
        if split in found.get(part, ()):
            raise DataError(f"{source} must have one array {split}_{part}, got a second one, {name!r}")
        if part:
            found[part][split] = array
        elif name not in ("classes", "sha256"):
            others.append(name)
    for split in ("train", *found["x"], *found["y"]):
        for part in "xy":
            if split not in found[part]:
                raise DataError(
                    f"{source} must have an array '{split}_{part}', got {', '.join(sorted(content))}; add it"
                )
    notes = [f"arrays not read: {', '.join(others)}"] if others else []
    images = _in_bytes(_channels_last(found["x"], source, notes), source, notes)
    labels = {split: _one_per_image(y) for split, y in found["y"].items()}
    names = content.get("classes")
    classes = None if names is None else tuple(map(str, names))
    if all(y.shape == images[s].shape[:1] and y.dtype.kind in "biuU" for s, y in labels.items()):
        labels, classes = _numbered(labels, classes, source, notes)
    return Given(images, labels, classes, notes)


def _meaning(name: str) -> tuple[str, str]:
    """Whether an array holds images (x) or labels (y), and of which split."""
    words = name.lower().split("_")
    for split, part in (words, words[::-1]) if len(words) == 2 else ():
        if part in ("x", "y") and split in SPLIT_NAMES:
            return part, SPLIT_NAMES[split]
    return "", ""


def _channels_last(images: dict[str, Array], source: str, notes: list[str]) -> dict[str, Array]:
    shape = images["train"].shape
    if len(shape) != 4 or shape[3] <= MOST_CHANNELS:
        return images
    if shape[1] <= MOST_CHANNELS:
        notes.append(f"arrays of shape {shape} were read as (n, channels, height, width)")
        return {split: x.transpose(0, 2, 3, 1) if x.ndim == 4 else x for split, x in images.items()}
    if shape[3] < min(shape[1:3]):
        return images
    raise DataError(
        f"train_x of {source} must be of shape (n, height, width, channels), got {shape}, where no "
        "axis can be said to hold the channels; transpose it"
    )


def _in_bytes(images: dict[str, Array], source: str, notes: list[str]) -> dict[str, Bytes]:
    """All splits on one scale, which their type and values decide together."""
    types = sorted({str(x.dtype) for x in images.values()})
    if types == ["uint8"]:
        return images
    kind = images["train"].dtype.kind
    got = " and ".join(types)
    if len(types) == 1 and kind in "biuf":
        low = min(float(x.min(initial=0)) for x in images.values())
        highs = [float(x.max(initial=0)) for x in images.values()]
        got = f"{got} from {low:g} to {max(highs):g}"
        scale = None
        if kind in "bf" and low == 0 and max(highs) <= 1:
            scale = 255
        elif low == 0 and max(highs) <= 255 and (kind in "iu" or _is_byte_like(images, highs)):
            scale = 1
        if scale == 255 and 255 * max(highs) < LEAST_LEVELS:
            raise DataError(
                f"the brightest image of {source} must be near 1 where images are floats from 0 to 1, got "
                f"{got}, of which 8 bits would keep next to nothing; scale them once"
            )
        if scale is not None:
            notes.append(f"{got} became uint8" + ", times 255" * (scale == 255))
            return {split: np.rint(scale * x.astype(float)).astype(np.uint8) for split, x in images.items()}
    raise DataError(
        f"train_x of {source}, and all its images, must be on one scale, integers from 0 to 255 or floats "
        f"from 0 to 1 or from 0 to 255, got {got}; scale them"
    )


def _is_byte_like(images: dict[str, Array], highs: list[float]) -> bool:
    """Whether floats lose little when they are rounded: each split goes far, or all are whole."""
    return min(highs) > 127 or (
        min(highs) > 1 and all(np.array_equal(x, np.rint(x)) for x in images.values())
    )


def _numbered(
    labels: dict[str, Array], classes: tuple[str, ...] | None, source: str, notes: list[str]
) -> tuple[dict[str, Array], tuple[str, ...] | None]:
    """Labels from 0 without a gap, and the names of their classes; what cannot be numbered stays."""
    present = np.unique(labels["train"]).tolist()
    for split, y in labels.items():
        if unknown := sorted({*y.tolist()} - {*present}):
            raise DataError(
                f"{split}_y of {source} must have labels of train_y, got {unknown[0]!r} besides; "
                "take these images out, or add some to train on"
            )
    order, words = present, labels["train"].dtype.kind == "U"
    if classes is not None:
        from_1 = len(classes) in present and 0 not in present
        order = list(classes) if words else [*range(from_1, len(classes) + from_1)]
        if words and (unnamed := sorted({*present} - {*order})):
            raise DataError(f"classes of {source} must hold every label, got {unnamed[0]!r} besides; add it")
    if not {*present} <= {*order} or not (words or min(present, default=0) >= 0):
        return labels, classes
    if not words and order != [*range(len(order))]:
        notes.append(f"labels from {order[0]} to {order[-1]} became 0 to {len(order) - 1}")
    number = {label: position for position, label in enumerate(order)}
    numbered = {split: np.array([number[label] for label in y.tolist()], int) for split, y in labels.items()}
    return numbered, classes or tuple(map(str, order))


def _one_per_image(y: Array) -> Array:
    """Labels (n,) of a column, or of rows with a single 1."""
    if y.ndim != 2 or y.dtype.kind not in "biuf":
        return y
    if y.shape[1] == 1:
        return y[:, 0]
    return y.argmax(axis=1) if np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all() else y
