"""Published notebooks: what they hold of their runs, and whether they are still what would be made now."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from wsnlib.book.engine.claims import claims_of
from wsnlib.book.engine.provenance import PROVENANCE_TYPE
from wsnlib.book.engine.verdicts import VERDICTS_TYPE

Notebook = Mapping[str, Any]
"""A notebook as its file holds it."""

SCORECARD = "scorecard"
"""The chapter that reads the verdicts of the others."""

VERSIONS = ("torch", "numpy", "scipy", "matplotlib", "pandas")


def read_notebook(path: Path | str) -> Notebook:
    """The notebook in a file."""
    content: Notebook = json.loads(Path(path).read_text(encoding="utf-8"))
    return content


def notebooks_of(toc: Path, folder: Path) -> list[Path]:
    """The notebooks of a folder that a table of contents names, in its order."""
    parts = yaml.safe_load(toc.read_text()).get("parts", ())
    files = [folder / f"{entry['file']}.ipynb" for part in parts for entry in part["chapters"]]
    return [file for file in files if file.exists()]


def outputs_of(notebook: Notebook, media_type: str) -> Iterator[dict[str, Any]]:
    """What the cells show under a media type, in order."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if media_type in output.get("data", {}):
                yield output["data"][media_type]


def provenances(notebook: Notebook) -> list[dict[str, Any]]:
    """What made each figure of a notebook, in order."""
    return list(outputs_of(notebook, PROVENANCE_TYPE))


def verdicts_of(notebook: Notebook) -> dict[str, Any] | None:
    """The estimates and verdicts of a notebook; `None` if it judges no claim."""
    return next(outputs_of(notebook, VERDICTS_TYPE), None)


def record_keys(notebook: Notebook) -> list[str]:
    """The keys of all records behind the figures of a notebook, sorted."""
    return sorted({key for made in provenances(notebook) for key in made["keys"]})


def stamp(notebook: Notebook, *, chapter: str, profile: str, root: Path | str = ".") -> dict[str, Any]:
    """What a page rests on: hashes of its cells, parameters, claims and records.

    A page whose stamp is not what this function gives now is stale, and so is one that the library would
    give other outputs, which executing it tells (`make publish` does).

    Args:
        notebook: Executed.
        chapter, profile: Which it is.
        root: Of the repository.
    """
    root = Path(root)
    stamped = {
        "profile": profile,
        "cells": _hash("".join(cell["source"]) for cell in notebook["cells"]),
        "parameters": _hash([(root / "params" / f"{chapter}.{profile}.yml").read_text(encoding="utf-8")]),
        "claims": _hash(map(repr, claims_of(chapter).values())),
        "records": _hash(_contents(root / "records", record_keys(notebook))),
    }
    if chapter == SCORECARD:
        pages = (read_notebook(path) for path in sorted((root / "book").glob("*.ipynb")))
        stamped["verdicts"] = _hash(_to_nine_digits(verdicts_of(page)) for page in pages)
    return stamped


def why_stale(notebook: Notebook, *, chapter: str, profile: str, root: Path | str = ".") -> list[str]:
    """What has changed since a page was made: names of parts of its stamp; empty if it is fresh."""
    had = notebook["metadata"].get("wsnlib", {})
    now = stamp(notebook, chapter=chapter, profile=profile, root=root)
    return [name for name, value in now.items() if had.get(name) != value]


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers and figures come from."""
    return {"python": platform.python_version()} | {name: version(name) for name in VERSIONS}


def _to_nine_digits(content: Any) -> str:
    """As JSON, in which numbers of two machines that differ in their last bits are the same."""
    text = json.dumps(content, sort_keys=True)
    return json.dumps(json.loads(text, parse_float=lambda digits: f"{float(digits):.9g}"), sort_keys=True)


def _contents(folder: Path, keys: Iterable[str]) -> Iterator[str]:
    for key in keys:
        file = folder / f"{key}.json"
        yield file.read_text(encoding="utf-8") if file.exists() else f"no {key}"


def _hash(parts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:12]
