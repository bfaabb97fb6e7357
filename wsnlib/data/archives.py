"""The packed file of a data set: uint8 arrays in canonical order, with their checksum."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wsnlib.data.splits import DataError

Bytes = npt.NDArray[np.uint8]


class Arrays(NamedTuple):
    """Images (n, height, width, channels) and labels (n,) in canonical order, and their SHA-256."""

    train_x: Bytes
    train_y: Bytes
    test_x: Bytes
    test_y: Bytes
    classes: tuple[str, ...]
    sha256: str


def in_canonical_order(x: Bytes, y: Bytes) -> tuple[Bytes, Bytes]:
    """Images and labels sorted by the SHA-256 of both."""
    order = sorted(range(len(x)), key=lambda i: hashlib.sha256(x[i].tobytes() + bytes([y[i]])).digest())
    return x[order], y[order]


def checksum(*arrays: Bytes) -> str:
    """SHA-256 of the shapes and bytes of arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def canonical(content: Mapping[str, Any], source: str) -> Arrays:
    """Check the form of arrays from anywhere and put them into canonical order."""
    for key in ("train_x", "train_y", "test_x", "test_y"):
        if key not in content:
            raise DataError(f"{source} must have an array {key!r}, got {', '.join(sorted(content))}; add it")
    parts: list[Bytes] = []
    for split in ("train", "test"):
        x, y = content[f"{split}_x"], content[f"{split}_y"]
        if x.dtype != np.uint8 or x.ndim not in (3, 4):
            raise DataError(
                f"{split}_x of {source} must be uint8 (0 to 255) of shape (n, height, width) or (n, "
                f"height, width, channels), got {x.dtype} of shape {x.shape}; convert it"
            )
        if y.shape != (len(x),) or y.dtype.kind not in "iu" or y.min(initial=0) < 0 or y.max(initial=0) > 255:
            values = f" from {y.min()} to {y.max()}" if y.size and y.dtype.kind in "biuf" else ""
            raise DataError(
                f"{split}_y of {source} must be {len(x)} integers of 0 to 255, got {y.dtype} of shape "
                f"{y.shape}{values}; convert it"
            )
        parts += in_canonical_order(x if x.ndim == 4 else x[..., None], y.astype(np.uint8))
    if parts[0].shape[1:] != parts[2].shape[1:]:
        raise DataError(
            f"images of {source} must be of one shape, got {parts[0].shape[1:]} in train_x and "
            f"{parts[2].shape[1:]} in test_x; resize them"
        )
    num_classes = int(max(parts[1].max(initial=0), parts[3].max(initial=0))) + 1
    names = content.get("classes")
    classes = tuple(map(str, range(num_classes) if names is None else names))
    if len(classes) < num_classes:
        raise DataError(
            f"{source} must name a class for each label of 0 to {num_classes - 1}, got {len(classes)} "
            "names; add the others"
        )
    return Arrays(parts[0], parts[1], parts[2], parts[3], classes, checksum(*parts))


def read_archive(path: Path) -> Arrays:
    """The arrays of a packed file, read once as long as it does not change.

    Raises:
        DataError: If it cannot be read, or its arrays are not those whose checksum it carries.
    """
    state = path.stat()
    return _read(path, (state.st_mtime_ns, state.st_size))


@lru_cache(maxsize=4)
def _read(path: Path, stamp: tuple[int, int]) -> Arrays:
    content = open_archive(path, advice="; delete it and fetch it again")
    arrays = canonical(content, path.name)
    if "sha256" in content and str(content["sha256"]) != arrays.sha256:
        raise DataError(
            f"{path} is damaged (its content does not match its checksum); delete it and fetch it again"
        )
    return arrays


def open_archive(path: Path, *, advice: str = "") -> dict[str, Any]:
    """The content of an `.npz` file; nothing in it is executed."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            return dict(content)
    except Exception as error:  # a cut-off or overwritten archive fails in many ways
        raise DataError(f"{path} cannot be read ({error}){advice}") from error


def write_archive(arrays: Arrays, path: Path) -> None:
    """Write a packed file under a temporary name and rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part.npz")
    try:
        content: dict[str, Any] = arrays._asdict()
        np.savez_compressed(part, **content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
