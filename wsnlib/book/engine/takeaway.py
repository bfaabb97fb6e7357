"""A chapter as one notebook that needs nothing beside it, for Colab or any Jupyter.

Its first cell holds the library, the parameters and the records of the chapter, and installs what the library
needs, so that the chapter runs in seconds without training. The built book links it from the chapter's page.
"""

from __future__ import annotations

import base64
import copy
import io
import json
import sys
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from wsnlib import specs
from wsnlib.book.engine import published
from wsnlib.book.engine.chapters import chapter_stages, read_parameters
from wsnlib.book.engine.verdicts import VERDICTS_TYPE
from wsnlib.store import AnyRecord, Record, Store, default_store

LIBRARY = ("pyproject.toml", "README.md", "LICENSE", "_toc.yml", "wsnlib/**/*")
FOLDER = "what-width-does"

COLUMNS = 1000
"""Of what is packed in a line, since an editor is slow at a line of megabytes."""

FIRST_CELL = f"""# @title Install the library and unpack this chapter's records
import base64
import importlib.util
import io
import os
import subprocess
import sys
import tarfile

BUNDLE = '''
{{bundle}}'''
if os.path.basename(os.getcwd()) != "{FOLDER}":
    with tarfile.open(fileobj=io.BytesIO(base64.b85decode("".join(BUNDLE.split())))) as packed:
        packed.extraction_filter = getattr(tarfile, "data_filter", None)  # from Python 3.11.4 on
        packed.extractall("{FOLDER}")
    os.chdir("{FOLDER}")
del BUNDLE
if not all(map(importlib.util.find_spec, ("lazy_loader", "numba", "pydantic", "safetensors"))):
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "."], check=True)
"""


def take_away(chapter: Path, *, root: Path, store: Store) -> dict[str, Any]:
    """A published chapter, with all that it needs in its first cell.

    Args:
        chapter: The notebook.
        root: Of the repository.
        store: Holds the records of the chapter's profile.

    Raises:
        KeyError: If a record is missing.
    """
    notebook = copy.deepcopy(dict(published.read_notebook(chapter)))
    profile = notebook["metadata"]["wsnlib"]["profile"]
    packed = base64.b85encode(bundled(chapter, profile, root=root, store=store)).decode("ascii")
    bundle = "".join(f"{packed[start : start + COLUMNS]}\n" for start in range(0, len(packed), COLUMNS))
    first: dict[str, Any] = {
        "cell_type": "code",
        "execution_count": None,
        "id": "take-away",
        "metadata": {"jupyter": {"source_hidden": True}},
        "outputs": [],
        "source": FIRST_CELL.format(bundle=bundle),
    }
    notebook["cells"].insert(0, first)
    for cell in notebook["cells"]:
        for data in (o["data"] for o in cell.get("outputs", ()) if "image/png" in o.get("data", {})):
            data.pop("image/svg+xml", None)  # the same picture once more
        if cell["metadata"].get("jupyter", {}).get("source_hidden"):
            cell["metadata"]["cellView"] = "form"  # as Colab folds a source
    return notebook


def bundled(chapter: Path, profile: str, *, root: Path, store: Store) -> bytes:
    """The files that a chapter needs, as an archive; the same files give the same bytes."""
    parameters = Path("params") / f"{chapter.stem}.{profile}.yml"
    found = [path for pattern in LIBRARY for path in sorted(root.glob(pattern))]
    files = {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in [*found, root / parameters]
        if path.is_file() and "__pycache__" not in path.parts
    }
    stages = chapter_stages(read_parameters(root / parameters), store=store)
    runs = {specs.spec_key(run): run for stage in stages for run in stage}
    files |= {
        f"records/{record.key}.json": record.to_json().encode()
        for record in without_unread(runs, store=store)
    }
    if chapter.stem == published.SCORECARD:
        pages = sorted(chapter.parent.glob("*.ipynb"))
        files |= {f"book/{path.name}": verdicts_alone(published.read_notebook(path)) for path in pages}
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:xz", preset=2) as packed:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))
    return archive.getvalue()


def without_unread(runs: Mapping[str, specs.Run], *, store: Store) -> Iterator[AnyRecord]:
    """Records by rising key, without predictions unless there are right classes to compare them with."""
    compared = any(isinstance(run, specs.ExampleLabels) for run in runs.values())
    for key in sorted(runs):
        record = store.load(runs[key])
        yield replace(record, predictions=None) if isinstance(record, Record) and not compared else record


def verdicts_alone(notebook: published.Notebook) -> bytes:
    """A notebook that holds nothing but its verdicts, which is all that the scorecard reads."""
    held = published.verdicts_of(notebook)
    cells = [] if held is None else [{"cell_type": "code", "outputs": [{"data": {VERDICTS_TYPE: held}}]}]
    return json.dumps({"metadata": {}, "cells": cells}).encode()


def main(*words: str) -> None:
    """Write chapters to take away: the paths of notebooks, then the folder that they go to."""
    *chapters, folder = map(Path, words)
    folder.mkdir(exist_ok=True)
    for chapter in chapters:
        made = take_away(chapter, root=Path.cwd(), store=default_store())
        (folder / chapter.name).write_text(json.dumps(made, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
