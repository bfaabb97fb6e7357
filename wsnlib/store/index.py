"""What is in a folder of records, in one file that can always be made again from them.

An entry counts only as long as the record has the stamp that it was read with. So an index that is old,
damaged or lost costs time and is never wrong, and writers need not know of it. Records without a stamp are
in none.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Collection
from contextlib import suppress
from functools import lru_cache
from typing import Any

from wsnlib import specs
from wsnlib.store.folders import Folder
from wsnlib.store.records import Summary

NAME = ".index"

PAYS_FROM = 100
"""Records that had to be read from which on the index is written anew."""

_VERSION = [2, specs.SPEC_VERSION]


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
        keys: Keys of the records that are wanted, all of them in the folder.
        stamps: Stamp of every file of the folder.
    """
    indexed = _entries(folder, stamps.get(NAME))
    entries = {k: entry for k, entry in indexed.items() if entry[0] == stamps.get(f"{k}.json")}
    found = {key: Summary(**copy.deepcopy(entries[key][1])) for key in keys if key in entries}
    fresh, damaged = read(folder, [key for key in keys if key not in found])
    new = {k: [stamp, vars(summary)] for k, summary in fresh.items() if (stamp := stamps[f"{k}.json"])}
    if len(new) >= PAYS_FROM:
        _write(folder, entries | new)
    return found | fresh, damaged


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


@lru_cache(maxsize=8)
def _entries(folder: Folder, stamp: str | None) -> dict[str, Any]:
    """What the index says, read again when it has another stamp."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        nan = {"NaN": math.nan}  # one object, so that equal summaries are equal
        content = json.loads(unseal(folder.read(NAME)), parse_constant=nan.get)
        if content["version"] == _VERSION:
            return dict(content["entries"])
    return {}


def _write(folder: Folder, entries: dict[str, Any]) -> None:
    data = json.dumps({"version": _VERSION, "entries": entries}, separators=(",", ":"))
    with suppress(OSError):  # a store that is only read has no index of its own
        folder.publish(NAME, seal(data.encode()))
