"""Execute the chapters and build the book.

    python book/build.py book [--profile smoke]      execute copies in _build, build the book there
    python book/build.py publish --profile cpu       execute the chapters in place
    python book/build.py prepare --profile smoke     write copies with parameters, for nbval

Run from the repository root. Records are looked for and written where WSN_STORE says.
"""

from __future__ import annotations

import argparse
import base64
import importlib.metadata
import io
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import papermill
import yaml
from PIL import Image

BOOK = Path("book")
BUILD = Path("_build")
COLORS = 96  # of a picture in a stored notebook
SOURCES = ("*.md", "*.ipynb", "_static", "images")


def chapters() -> list[Path]:
    """The notebooks of the book, by name."""
    return sorted(BOOK.glob("*.ipynb"))


def parameters_of(chapter: Path, profile: str) -> Path:
    """The parameter file of a chapter and profile, which must exist."""
    file = Path("params") / f"{chapter.stem}.{profile}.yml"
    if not file.exists():
        there = sorted(
            p.name.split(".")[1]
            for p in file.parent.glob(f"{chapter.stem}.*.yml")
        )
        sys.exit(
            f"there is no {file}; the profiles of {chapter.stem} are {', '.join(there)}"
        )
    return file


def execute(chapter: Path, target: Path, profile: str) -> None:
    """Run a chapter with a profile's parameters, and write it, tidied, to the target."""
    start = time.perf_counter()
    print(f"{chapter} with profile {profile} …", flush=True)
    part = BUILD / "running" / target.name
    part.parent.mkdir(parents=True, exist_ok=True)
    papermill.execute_notebook(
        chapter,
        part,
        parameters=yaml.safe_load(parameters_of(chapter, profile).read_text()),
        progress_bar=False,
        stderr_file=sys.stderr,
        kernel_name="python3",
    )
    tidy(part)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(part, target)
    print(f"{target} done in {time.perf_counter() - start:.0f} s", flush=True)


def with_palette(png: str) -> str:
    """A picture (base64) in the colours of a palette, a third of the size.

    Where that shows, as in photographs, it keeps all colours: if pixels move by more than 2 of 255 on
    average (their channel that moves most).
    """
    whole = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGBA")
    white = Image.new("RGBA", whole.size, "white")
    flat = Image.alpha_composite(white, whole).convert("RGB")
    small = flat.quantize(COLORS, kmeans=3, dither=Image.Dither.NONE)
    moved = np.abs(
        np.asarray(flat, dtype=int) - np.asarray(small.convert("RGB"))
    )
    kept = small if moved.max(axis=2).mean() <= 2 else flat
    packed = io.BytesIO()
    kept.save(packed, "PNG", optimize=True)
    return base64.b64encode(packed.getvalue()).decode("ascii")


def tidy(path: Path) -> None:
    """Remove times, paths and messages on standard error; shrink pictures."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.pop("papermill", None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if cell.cell_type == "code":
            cell.source = cell.source.rstrip()
            cell.outputs = [
                o for o in cell.outputs if o.get("name") != "stderr"
            ]
            for data in (o.data for o in cell.outputs if "data" in o):
                data["text/plain"] = re.sub(
                    " at 0x[0-9a-f]+", "", data.get("text/plain", "")
                )
                if "image/png" in data:
                    data["image/png"] = with_palette(data["image/png"])
    nbformat.write(notebook, path)


def build_html(source: Path, output: Path) -> Path:
    """Build the book from a folder with jupyter-book 1, warnings being errors; the first page."""
    major = importlib.metadata.version("jupyter-book").split(".")[0]
    if major != "1":
        sys.exit(
            f"jupyter-book {major} is installed; version 1 is needed (2 ignores _toc.yml)"
        )
    start = time.time()
    command = [
        str(Path(sys.executable).with_name("jupyter-book")),
        "build",
        str(source),
        "--path-output",
        str(output),
    ]
    subprocess.run([*command, "-n", "-W", "--keep-going", "-q"], check=True)
    index = output / "_build" / "html" / "index.html"
    if not index.exists() or index.stat().st_mtime < start:
        sys.exit(f"{index} was not written; the book is not built")
    return index


def book(profile: str) -> None:
    """Execute copies of the chapters and build the book from them; no tracked file changes."""
    source = BUILD / "book"
    for chapter in chapters():
        execute(chapter, source / "executed" / chapter.name, profile)
    pages = [p for pattern in SOURCES for p in BOOK.glob(pattern)]
    for path in (*pages, Path("_toc.yml"), Path("_config.yml")):
        if path.is_dir():
            shutil.copytree(path, source / path.name, dirs_exist_ok=True)
        else:
            shutil.copy(path, source / path.name)
    for chapter in chapters():
        shutil.move(source / "executed" / chapter.name, source / chapter.name)
    index = build_html(source, BUILD / "site")
    print(f"The book is built. Open {index}")


def publish(profile: str) -> None:
    """Execute the chapters in place, and keep the picture that each shows in the README."""
    for chapter in chapters():
        execute(chapter, chapter, profile)
        for cell in nbformat.read(chapter, as_version=4).cells:
            if "picture" in cell.metadata.get("tags", []):
                picture = BOOK / "images" / f"{chapter.stem}.png"
                picture.parent.mkdir(exist_ok=True)
                png = next(
                    o.data["image/png"]
                    for o in cell.outputs
                    if "image/png" in o.get("data", {})
                )
                picture.write_bytes(base64.b64decode(png))


def prepare(profile: str) -> None:
    """Write the chapters with a profile's parameters but without executing them."""
    for chapter in chapters():
        target = BUILD / "prepared" / chapter.name
        target.parent.mkdir(parents=True, exist_ok=True)
        values = yaml.safe_load(parameters_of(chapter, profile).read_text())
        papermill.execute_notebook(
            chapter, target, parameters=values, prepare_only=True
        )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=["book", "publish", "prepare"])
    parser.add_argument("--profile", default="smoke")
    arguments = parser.parse_args()
    if not Path("_toc.yml").exists():
        sys.exit(
            f"{os.path.relpath(__file__)} must be run from the repository root, where _toc.yml lies"
        )
    {"book": book, "publish": publish, "prepare": prepare}[arguments.command](
        arguments.profile
    )


if __name__ == "__main__":
    main()
