"""What must hold of every chapter before the book is built; each rule names what breaks it.

A rule takes a notebook as its file holds it and returns one sentence for each breach.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from wsnlib.book.engine import published
from wsnlib.book.engine.provenance import PROVENANCE_TYPE
from wsnlib.store import Record

LARGEST_NOTEBOOK = 4_000_000
"""Bytes of a chapter's file."""

FEWEST_WORDS = 8
"""Words of an alt text: fewer do not say what a figure shows."""

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"

Cell = dict[str, Any]


def _code(notebook: published.Notebook) -> Iterator[tuple[int, Cell]]:
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            yield number, cell


def _prose(notebook: published.Notebook) -> Iterator[tuple[int, str]]:
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "markdown":
            yield number, "".join(cell["source"])


def _figure(cell: Cell) -> dict[str, Any] | None:
    figure: dict[str, Any] | None = (
        cell["metadata"].get("mystnb", {}).get("figure")
    )
    return figure


def errors(notebook: published.Notebook) -> Iterator[str]:
    """No cell ended in an error, and none left a message on standard error."""
    for number, cell in _code(notebook):
        for output in cell["outputs"]:
            if output["output_type"] == "error":
                yield f"cell {number} ended in {output['ename']}: {output['evalue']}"
            elif output.get("name") == "stderr":
                yield f"cell {number} holds a message on standard error"


def order(notebook: published.Notebook) -> Iterator[str]:
    """Every code cell was executed, once, from the first to the last."""
    counts = [cell["execution_count"] for _, cell in _code(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        first = next(i for i, count in enumerate(counts, 1) if count != i)
        yield f"code cell {first} has the execution count {counts[first - 1]}; it was not executed in order"


def figures(notebook: published.Notebook) -> Iterator[str]:
    """Every picture is a figure with a caption, with alt text in words, and with what made it."""
    for number, cell in _code(notebook):
        media = {
            kind
            for output in cell["outputs"]
            for kind in output.get("data", {})
        }
        if not media & {"image/png", "image/svg+xml", "image/jpeg"}:
            continue
        figure, image = (
            _figure(cell),
            cell["metadata"].get("mystnb", {}).get("image", {}),
        )
        if not figure or not figure.get("caption"):
            yield f"the picture of cell {number} has no caption"
        alt = str(image.get("alt", ""))
        if len(alt.split()) < FEWEST_WORDS:
            yield f"the picture of cell {number} has the alt text {alt!r}; a sentence that says what it shows is needed"
        if PROVENANCE_TYPE not in media:
            yield f"the picture of cell {number} does not say what made it; page.show(figure, runs) does"
    for number, text in _prose(notebook):
        for alt in re.findall(r"!\[([^\]]*)\]\(", text):
            if len(alt.split()) < FEWEST_WORDS:
                yield f"an image of cell {number} has the alt text {alt!r}; a sentence is needed"


def records(notebook: published.Notebook, folder: Path) -> Iterator[str]:
    """Every record behind a figure is there, whole, and made by the spec that its name says."""
    for key in published.record_keys(notebook):
        file = folder / f"{key}.json"
        try:
            record = Record.from_json(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            yield f"the record {key} behind a figure is missing from {folder.name}"
        except ValueError as error:
            yield f"the record {key} behind a figure cannot be used: {error}"
        else:
            if record.key != key:
                yield f"the record {key} behind a figure was made by another spec, of key {record.key}"


def paths(notebook: published.Notebook) -> Iterator[str]:
    """Nothing says where on some machine it was made."""
    for number, cell in enumerate(notebook["cells"]):
        parts = ["".join(cell["source"])]
        for output in cell.get("outputs", []):
            parts += [str(output.get("text", ""))]
            parts += [
                str(v)
                for kind, v in output.get("data", {}).items()
                if not kind.startswith("image/")
            ]
        for part in parts:
            found = re.search(
                r"(?<![\w.])/(?:home|root|tmp|work|Users|mnt|opt|var)/[\w.-]+",
                part,
            )
            found = found or re.search(r"\b[A-Z]:\\\\?[\w.-]+", part)
            if found:
                yield f"cell {number} holds the absolute path {found.group()}"


def widgets(notebook: published.Notebook) -> Iterator[str]:
    """Every widget that is shown has its state in the notebook; without it a page shows nothing."""
    state = (
        notebook["metadata"]
        .get("widgets", {})
        .get(WIDGET_STATE, {})
        .get("state", {})
    )
    for number, cell in _code(notebook):
        for output in cell["outputs"]:
            view = output.get("data", {}).get(WIDGET_VIEW)
            if view is not None and view["model_id"] not in state:
                yield f"cell {number} shows a widget without its state"


ALLOWED = [
    r"^(```|~~~|:::).*?^\1",  # code, directives
    r"\$\$.*?\$\$(\s*\(eq-[\w-]+\))?",
    r"\$[^$]+\$",
    r"\{[\w:]+\}`[^`]*`",  # roles: glue, and the paper's own or given numbers
    r"`[^`]*`",
    r"\]\([^)]*\)",
    r"https?://\S+",
    r"\b(?:Sections?|Figures?|Tables?|Appendix|Appendices|Theorems?|Propositions?|[Ee]quations?|[Ee]qs?\.)"
    r"(?:(?:,|\s|and|to|–|-)*\(?(?:[A-Z]\.)?\d+(?:\.\d+)*(?:\([a-z]\))?\)?)+",
    r"\b\d+x\d+\b",  # kernels
    r"[A-Za-z]+[-–]?\d+(?:\.\d+)*\b",  # names: G21, CIFAR-10, ResNet-18, uint8
    r"\(\d{4}\)|\b(?:19|20)\d\d\b",  # years
    r"\b95 %",  # every interval of the book
    r"(?<![\w.,])[01](?!\w|[.,]\d)",  # nothing, and all or one of it
    r"^\s*\d+\.\s",  # numbered lists
    r"[A-Za-z]\.\d+\b",
]
"""What numbers in prose may be part of: markup, formulas, names, references, definitions."""


def typed_numbers(notebook: published.Notebook) -> Iterator[str]:
    r"""A number in prose comes from the run, or says whose it is.

    What was measured comes by {glue}; a number that a paper prints stands in {paper}`…`, one that the
    text or the code sets in {given}`…`. Names, references and formulas are no such numbers.
    """
    for number, text in _prose(notebook):
        for pattern in ALLOWED:
            text = re.sub(pattern, " ", text, flags=re.DOTALL | re.MULTILINE)
        for found in re.finditer(r"\d[\d,.]*", text):
            around = " ".join(
                text[max(0, found.start() - 25) : found.end() + 15].split()
            )
            yield f"cell {number} has a typed number, {found.group()!r} in {around!r}; glue it or mark it"


def size(path: Path) -> Iterator[str]:
    """The file of a chapter is not larger than a reader's browser or a review can take."""
    if (found := path.stat().st_size) > LARGEST_NOTEBOOK:
        yield f"it has {found:,} bytes; at most {LARGEST_NOTEBOOK:,} are allowed"


RULES: tuple[Callable[[published.Notebook], Iterator[str]], ...] = (
    errors,
    order,
    figures,
    paths,
    widgets,
    typed_numbers,
)


def breaches(path: Path, *, records_folder: Path) -> list[str]:
    """Every sentence that some rule has to say of a chapter; none if it may be published."""
    notebook = published.read_notebook(path)
    found = [sentence for rule in RULES for sentence in rule(notebook)]
    found += records(notebook, records_folder)
    return [f"{path.stem}: {sentence}" for sentence in (*found, *size(path))]
