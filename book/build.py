"""Execute the chapters and build the book.

    python book/build.py book [--profile smoke]      execute copies in _build, build the book there
    python book/build.py publish --profile cpu       execute all, replace what is stale, check, build
    python book/build.py check                       check the published chapters
    python book/build.py site                        build the book from them
    python book/build.py pdf                         print the built book into _build/book.pdf
    python book/build.py prepare --profile smoke     write copies with parameters, for nbval

Run from the repository root. Records are looked for and written where WSN_STORE says. Names of
chapters after the command restrict `publish` to them.
"""

from __future__ import annotations

import argparse
import ast
import base64
import importlib.metadata
import io
import json
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

import gates
import outputs
from wsnlib.book.engine import published
from wsnlib.book.engine.page import SESSION

BOOK = Path("book")
BUILD = Path("_build")
COLORS = 96  # of a picture in a stored notebook
SOURCES = ("*.md", "*.ipynb", "*.bib", "_ext", "_static")
BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)


def chapters() -> list[Path]:
    """The notebooks of the book, in its order; the scorecard, which reads the others, last."""
    notebooks = published.notebooks_of(Path("_toc.yml"), BOOK)
    return sorted(notebooks, key=lambda path: path.stem == published.SCORECARD)


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


def execute(
    chapter: Path, target: Path, profile: str, **changes: object
) -> None:
    """Run a chapter with a profile's parameters, and write it, tidied and stamped, to the target."""
    start = time.perf_counter()
    print(f"{chapter} with profile {profile} …", flush=True)
    part = BUILD / "running" / target.name
    prepared(chapter, part, profile, **changes)
    papermill.execute_notebook(
        part,
        part,
        progress_bar=False,
        stderr_file=sys.stderr,
        kernel_name="python3",
        coalesce_streams=True,  # how they were cut depends on the moment
    )
    notebook = nbformat.read(part, as_version=4)
    tidy(notebook)
    rests_on = published.stamp(notebook, chapter=chapter.stem, profile=profile)
    notebook.metadata["wsnlib"] = rests_on | {"versions": published.versions()}
    nbformat.write(notebook, part)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(part, target)
    print(f"{target} done in {time.perf_counter() - start:.0f} s", flush=True)


def prepared(
    chapter: Path, target: Path, profile: str, **changes: object
) -> None:
    """Write a chapter with a profile's values in its one cell of parameters."""
    values = yaml.safe_load(parameters_of(chapter, profile).read_text())
    notebook = nbformat.read(chapter, as_version=4)
    (cell,) = (
        cell
        for cell in notebook.cells
        if "parameters" in cell.metadata.get("tags", [])
    )
    cell.source = with_values(cell.source, values | changes)
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, target)


def with_values(source: str, values: dict[str, object]) -> str:
    """The source of a cell of parameters with other values and the same comments.

    Raises:
        ValueError: If a name is not assigned there.
    """
    lines = source.encode().splitlines()  # as ast counts
    found = {
        ast.unparse(line.targets[0]): line.value
        for line in ast.parse(source).body
        if isinstance(line, ast.Assign)
    }
    if unknown := sorted(values.keys() - found):
        raise ValueError(
            f"{unknown[0]} must be a name in the cell of parameters; {', '.join(found)} are"
        )
    for name, old in reversed(found.items()):
        if name in values and values[name] != ast.literal_eval(old):
            first, last = old.lineno - 1, old.end_lineno or old.lineno
            start = lines[first][: old.col_offset]
            end = lines[last - 1][old.end_col_offset :]
            lines[first:last] = [start + in_python(values[name]).encode() + end]
    return b"\n".join(lines).decode()


def in_python(value: object) -> str:
    """A plain value as a literal, text in double quotes."""
    if isinstance(value, list):
        return f"[{', '.join(map(in_python, value))}]"
    if isinstance(value, dict):
        items = (
            f"{in_python(k)}: {in_python(each)}" for k, each in value.items()
        )
        return f"{{{', '.join(items)}}}"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return repr(value)


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


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Remove what is about one session: times, paths, messages, widgets of its kernel; shrink pictures."""
    for key in ("papermill", "widgets"):
        notebook.metadata.pop(key, None)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if cell.cell_type == "code":
            cell.source = cell.source.rstrip()
            cell.outputs = [
                o
                for o in cell.outputs
                if o.get("name") != "stderr" and o.get("metadata") != SESSION
            ]
            for data in (o.data for o in cell.outputs if "data" in o):
                data.pop(gates.WIDGET_VIEW, None)
                data["text/plain"] = re.sub(
                    " at 0x[0-9a-f]+", "", data.get("text/plain", "")
                )
                if "image/png" in data:
                    data["image/png"] = with_palette(data["image/png"])


def build_html(source: Path, output: Path, *, builder: str = "html") -> Path:
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
        "--builder",
        builder,
    ]
    subprocess.run([*command, "-n", "-W", "--keep-going", "-q"], check=True)
    index = output / "_build" / builder / "index.html"
    if not index.exists() or index.stat().st_mtime < start:
        sys.exit(f"{index} was not written; the book is not built")
    return index


def keep_picture(chapter: Path) -> None:
    """Keep the picture of the cell with the tag `picture`, if a chapter has one, as a file that the README shows."""
    for cell in nbformat.read(chapter, as_version=4).cells:
        if "picture" in cell.metadata.get("tags", []):
            png = base64.b64decode(cell.outputs[0].data["image/png"])
            (BOOK / "images" / f"{chapter.stem}.png").write_bytes(png)


def book(profile: str) -> None:
    """Execute copies of the chapters and build the book from them; no tracked file changes."""
    source = BUILD / "book"
    executed = source / "executed"
    for chapter in chapters():
        changes = (
            {"pages": str(executed)}
            if chapter.stem == published.SCORECARD
            else {}
        )
        execute(chapter, executed / chapter.name, profile, **changes)
    pages = [p for pattern in SOURCES for p in BOOK.glob(pattern)]
    for path in (*pages, Path("_toc.yml"), Path("_config.yml")):
        if path.is_dir():
            shutil.copytree(path, source / path.name, dirs_exist_ok=True)
        else:
            shutil.copy(path, source / path.name)
    for chapter in chapters():
        shutil.move(executed / chapter.name, source / chapter.name)
    index = build_html(source, BUILD / "site")
    print(f"The book is built. Open {index}")


def why_replaced(chapter: Path, made: Path, profile: str) -> list[str]:
    """What has changed of a published page, and the first outputs that differ in one executed now."""
    notebook = published.read_notebook(chapter)
    stale = published.why_stale(notebook, chapter=chapter.stem, profile=profile)
    shown = outputs.differences(outputs.outputs(made), outputs.outputs(chapter))
    return [f"its {name} changed" for name in stale] + shown[:3]


def publish(profile: str, only: list[str]) -> None:
    """Execute the chapters, all or those that are named, and put what differs in place; check; build the book."""
    for chapter in chapters():
        if only and chapter.stem not in only:
            continue
        made = BUILD / "publishing" / chapter.name
        execute(chapter, made, profile)
        if reasons := why_replaced(chapter, made, profile):
            shutil.move(made, chapter)
            keep_picture(chapter)
            print(f"{chapter} was stale: {'; '.join(reasons)}")
        else:
            print(f"{chapter} is fresh")
    check()
    site()


def site() -> None:
    """Build the book from the chapters as they are."""
    print(f"The book is built. Open {build_html(BOOK, BUILD / 'published')}")


def check() -> None:
    """Refuse, with every reason, chapters that must not be published as they are."""
    found = [
        breach
        for chapter in chapters()
        for breach in gates.breaches(chapter, records_folder=Path("records"))
    ]
    if found:
        sys.exit("\n".join([*found, f"{len(found)} reasons not to publish"]))
    print(f"{len(chapters())} chapters may be published")


def pdf() -> None:
    """Print the published book, built as one page, with a browser."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(
            f"no browser was found to print with; one of {', '.join(BROWSERS)} is needed"
        )
    page = build_html(BOOK, BUILD / "single", builder="singlehtml")
    target = BUILD / "book.pdf"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    options += ["--no-pdf-header-footer", "--virtual-time-budget=60000"]
    subprocess.run(
        [
            browser,
            *options,
            f"--print-to-pdf={target.resolve()}",
            page.resolve().as_uri(),
        ],
        check=True,
    )
    print(f"{target} has {target.stat().st_size / 1e6:.1f} MB")


def prepare(profile: str) -> None:
    """Write the chapters with a profile's parameters but without executing them."""
    for chapter in chapters():
        prepared(chapter, BUILD / "prepared" / chapter.name, profile)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = ["book", "publish", "check", "site", "pdf", "prepare"]
    parser.add_argument("command", choices=commands)
    parser.add_argument("chapters", nargs="*", metavar="chapter")
    parser.add_argument("--profile", default="smoke")
    arguments = parser.parse_args()
    if not Path("_toc.yml").exists():
        sys.exit(
            f"{os.path.relpath(__file__)} must be run from the repository root, where _toc.yml lies"
        )
    names = [chapter.stem for chapter in chapters()]
    if unknown := set(arguments.chapters) - set(names):
        sys.exit(
            f"{min(unknown)} is no chapter; the chapters are {', '.join(names)}"
        )
    match arguments.command:
        case "book":
            book(arguments.profile)
        case "publish":
            publish(arguments.profile, arguments.chapters)
        case "prepare":
            prepare(arguments.profile)
        case "check":
            check()
        case "site":
            site()
        case "pdf":
            pdf()


if __name__ == "__main__":
    main()
