"""What is in a folder of records, in one file that can always be made again from them.

An entry counts only as long as the record has the stamp that it was read with. So an index that is old,
damaged or lost costs time and is never wrong, and writers need not know of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from contextlib import suppress
from typing import Any

from wsnlib import specs
from wsnlib.store.folders import Folder
from wsnlib.store.records import Summary

NAME = ".index"

PAYS_FROM = 100
"""Records that had to be read from which on the index is written anew."""

_VERSION = [1, specs.SPEC_VERSION]


def seal(data: bytes) -> bytes:
    """The data after a line with their SHA-256."""
    return hashlib.sha256(data).hexdigest().encode() + b"\n" + data


def unseal(sealed: bytes) -> bytes:
    """What was sealed.

    Raises:
        ValueError: If it is cut off or changed.
    """
    checksum, _, data = sealed.partition(b"\n")
    if hashlib.sha256(data).hexdigest().encode() != checksum:
        raise ValueError("its content does not match its checksum")
    return data


def summaries(
    folder: Folder, keys: Collection[str], stamps: dict[str, str]
) -> tuple[dict[str, Summary], dict[str, str]]:
    """Summaries of the records of a folder, and why those that are damaged cannot be used.

    Args:
        folder: Holds `<key>.json`.
        keys: Of the records that are wanted, all of them in the folder.
        stamps: Of every file of the folder.
    """
    entries = _entries(folder)
    found, stale = {}, []
    for key in keys:
        entry = entries.get(key)
        if entry is not None and entry[0] == stamps[f"{key}.json"]:
            found[key] = Summary.from_dict(entry[1])
        else:
            stale.append(key)
    fresh, damaged = read(folder, stale)
    found |= fresh
    if len(stale) >= PAYS_FROM:
        kept = {key: entry for key, entry in entries.items() if f"{key}.json" in stamps}
        new = {key: [stamps[f"{key}.json"], summary.to_dict()] for key, summary in fresh.items()}
        _write(folder, kept | new)
    return found, damaged


def read(folder: Folder, keys: Collection[str]) -> tuple[dict[str, Summary], dict[str, str]]:
    """Summaries of records and why others cannot be used, from the records alone."""
    found, damaged = {}, {}
    for name, data in folder.read_many(f"{key}.json" for key in keys):
        key = name.removesuffix(".json")
        try:
            summary = Summary.of_text(data.decode())
            if summary.key != key:
                raise ValueError(f"it was made by another spec, of key {summary.key}")
            found[key] = summary
        except ValueError as error:
            damaged[key] = str(error)
    return found, damaged


def _entries(folder: Folder) -> dict[str, Any]:
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        content = json.loads(unseal(folder.read(NAME)))
        if content["version"] == _VERSION:
            return dict(content["entries"])
    return {}


def _write(folder: Folder, entries: dict[str, Any]) -> None:
    data = json.dumps({"version": _VERSION, "entries": entries}, separators=(",", ":"), allow_nan=False)
    with suppress(OSError):  # a store that is only read has no index of its own
        folder.publish(NAME, seal(data.encode()))
