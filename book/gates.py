"""What must hold of every chapter before the book is built; each rule names what breaks it.

A rule takes a notebook as its file holds it and returns one sentence for each breach.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from wsnlib.book.engine import published
from wsnlib.book.engine.provenance import PROVENANCE_TYPE
from wsnlib.book.engine.text import UNKNOWN
from wsnlib.store import record_from_json

LARGEST_NOTEBOOK = 4_000_000
"""Bytes of a chapter's file."""

FEWEST_WORDS = 8
"""Words of an alt text: fewer do not say what a figure shows."""

LONGEST_HIDDEN = 40
"""Lines of a cell that pages leave out, and that some readers of notebooks see all the same."""

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"

Cell = dict[str, Any]


def _code(notebook: published.Notebook) -> Iterator[tuple[int, Cell]]:
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            yield number, cell


def _prose(notebook: published.Notebook) -> Iterator[tuple[int, str]]:
    """What an author wrote for a reader: Markdown cells, and templates of text with numbers."""
    for number, cell in enumerate(notebook["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            yield number, source
        else:
            yield from ((number, text) for text in _templates(source))


def _templates(source: str) -> Iterator[str]:
    for call in ast.walk(ast.parse(source)):
        match call:
            case ast.Call(
                func=ast.Name("text"), args=[ast.Constant(str(template))]
            ):
                yield template


def _markdown(notebook: published.Notebook) -> Iterator[tuple[int, str]]:
    """All Markdown that a reader sees: cells, and what cells show."""
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "markdown":
            yield number, "".join(cell["source"])
        for output in cell.get("outputs", []):
            if text := output.get("data", {}).get("text/markdown"):
                yield number, "".join(text)


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
    """Every picture is a PNG, has alt text in words, and under it number, caption and what made it."""
    numbers = []
    for number, cell in _code(notebook):
        data = [output.get("data", {}) for output in cell["outputs"]]
        for place, shown in enumerate(data):
            if not any(kind.startswith("image/") for kind in shown):
                continue
            picture = f"the picture of cell {number}"
            if "image/png" not in shown:
                yield f"{picture} is no PNG, which shows where nothing is trusted; page.show makes both"
            given = cell["outputs"][place].get("metadata", {})
            alt = str(given.get("image/png", {}).get("alt", ""))
            if len(alt.split()) < FEWEST_WORDS:
                yield f"{picture} has the alt text {alt!r}; a sentence that says what it shows is needed"
            below = data[place + 1 : place + 3]
            caption = next(
                (d["text/markdown"] for d in below if "text/markdown" in d), ""
            )
            under = re.match(r"\*\*Figure (\d+)\.\*\* \S", "".join(caption))
            if under is None:
                yield f"{picture} has no caption with a number"
            else:
                numbers.append(int(under[1]))
            if not any(PROVENANCE_TYPE in d for d in below):
                yield f"{picture} does not say what made it; page.show does"
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"its figures have the numbers {numbers}"
    for number, text in _prose(notebook):
        for alt in re.findall(r"!\[([^\]]*)\]\(", text):
            if len(alt.split()) < FEWEST_WORDS:
                yield f"an image of cell {number} has the alt text {alt!r}; a sentence is needed"


MARKUP = {
    r"\{[\w:.+-]+\}`": "a role",
    r"^\s*(?:(?:`{3,}|~{3,})\s*\{|:{3,})": "a directive",
    r"^\([\w-]+\)=": "a target",
    r"\$\$\s*\([\w-]+\)": "the label of an equation",
    r"^\+\+\+|^% ": "a break or comment",
    r"\{\{\w+\}\}": "a name in place of a number",
    UNKNOWN: "a number that never came",
    r"\]\([\w/.-]+\.html": "a link that only the built book knows",
}
"""What only MyST or this book understands, and what it is."""


def plain_markdown(notebook: published.Notebook) -> Iterator[str]:
    """Text reads well wherever notebooks are read: no markup that needs an extension or the built book."""
    for number, text in _markdown(notebook):
        prose = re.sub(
            r"^```\w*\n.*?^```", "", text, flags=re.DOTALL | re.MULTILINE
        )
        for pattern, kind in MARKUP.items():
            if found := re.search(pattern, prose, flags=re.MULTILINE):
                around = prose[max(0, found.start() - 20) : found.end() + 20]
                yield f"cell {number} has {kind} in {' '.join(around.split())!r}; Jupyter shows it as it is typed"
    for number, cell in _code(notebook):
        for output in cell["outputs"]:
            html = "".join(output.get("data", {}).get("text/html", ""))
            for link in re.findall(r'href="([\w/.-]+\.html)', html):
                yield f"cell {number} has a link to {link}; one to the notebook leads to both"


def parameters(notebook: published.Notebook) -> Iterator[str]:
    """One cell holds the parameters; none overrides it in silence."""
    tags = [
        tag
        for cell in notebook["cells"]
        for tag in cell["metadata"].get("tags", [])
    ]
    if tags.count("parameters") != 1:
        yield f"{tags.count('parameters')} cells are tagged parameters; one is needed"
    if "injected-parameters" in tags:
        yield "a cell that papermill injected overrides the one that a reader edits; make publish makes none"


def records(notebook: published.Notebook, folder: Path) -> Iterator[str]:
    """Every record behind a figure is there, whole, and made by the spec that its name says."""
    for key in published.record_keys(notebook):
        file = folder / f"{key}.json"
        try:
            record = record_from_json(file.read_text(encoding="utf-8"))
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
    r"\$\$.*?\$\$",
    r"\$[^$]+\$",
    r"\{\{\w+\}\}",  # numbers of the run
    r"`[^`]*`",
    r"(?<!\*)\*(?![*\s])[^*]+\*(?!\*)",  # in italics: a paper's own, or given
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
    r"^\*\*\d\.\*\*\s",  # exercises
    r"[A-Za-z]\.\d+\b",
]
"""What numbers in prose may be part of: markup, formulas, names, references, definitions."""


def typed_numbers(notebook: published.Notebook) -> Iterator[str]:
    r"""A number in prose comes from the run, or says whose it is.

    What was measured comes by `text.fill`; a number that a paper prints, or that the text or the code sets,
    stands in italics. Names, references and formulas are no such numbers.
    """
    for number, text in _prose(notebook):
        for pattern in ALLOWED:
            text = re.sub(pattern, " ", text, flags=re.DOTALL | re.MULTILINE)
        for found in re.finditer(r"\d[\d,.]*", text):
            around = " ".join(
                text[max(0, found.start() - 25) : found.end() + 15].split()
            )
            yield f"cell {number} has a typed number, {found.group()!r} in {around!r}; fill it in or mark it"


def hidden(notebook: published.Notebook) -> Iterator[str]:
    """What pages leave out is short: sentences are built in `wsnlib.book.words`, not in a notebook."""
    for number, cell in _code(notebook):
        lines = len("".join(cell["source"]).splitlines())
        if (
            "remove-cell" in cell["metadata"].get("tags", [])
            and lines > LONGEST_HIDDEN
        ):
            yield f"cell {number} is left out of the page and has {lines} lines; wsnlib.book.words is the place for them"


def size(path: Path) -> Iterator[str]:
    """The file of a chapter is not larger than a reader's browser or a review can take."""
    if (found := path.stat().st_size) > LARGEST_NOTEBOOK:
        yield f"it must have at most {LARGEST_NOTEBOOK:,} bytes, got {found:,}"


RULES: tuple[Callable[[published.Notebook], Iterator[str]], ...] = (
    errors,
    order,
    parameters,
    plain_markdown,
    figures,
    paths,
    widgets,
    typed_numbers,
    hidden,
)


def breaches(path: Path, *, records_folder: Path) -> list[str]:
    """Every sentence that some rule has to say of a chapter; none if it may be published."""
    notebook = published.read_notebook(path)
    found = [sentence for rule in RULES for sentence in rule(notebook)]
    found += records(notebook, records_folder)
    return [f"{path.stem}: {sentence}" for sentence in (*found, *size(path))]
