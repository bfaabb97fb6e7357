"""What a reader of a chapter meets first, and how its code is folded in the built book."""

import base64
import importlib.util
import io
from pathlib import Path

import nbformat
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
SPEC = importlib.util.spec_from_file_location("wsn_book", ROOT / "book" / "_ext" / "wsn_book.py")
wsn_book = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(wsn_book)

NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))


def code(source: str, *tags: str, shows: bool = False):
    outputs = [nbformat.v4.new_output("stream", text="3")] if shows else []
    return nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)}, outputs=outputs)


def shown(*cells) -> list[tuple[str, list[str], str]]:
    """Source, tags and the line that it unfolds from, of each cell that the book shows."""
    notebook = nbformat.v4.new_notebook(cells=list(cells))
    read = wsn_book.read_notebook(nbformat.writes(notebook)).cells
    return [
        (cell.source, cell.metadata.tags, cell.metadata.get("mystnb", {}).get("code_prompt_show", ""))
        for cell in read
    ]


def test_code_is_one_line_that_unfolds_and_a_lesson_is_open():
    found = shown(
        code("a = 1", "parameters"),
        code("b = 2"),
        code("hidden = 3", "remove-cell"),
        code("print(3)", shows=True),
        code("c = 4"),
        nbformat.v4.new_markdown_cell("By hand:"),
        code("d = 5", "lesson"),
        code("text()", "remove-input", shows=True),
        code("print(3)", "solution", shows=True),
    )
    assert found == [
        ("a = 1", ["parameters", "hide-input"], "Parameters"),
        ("hidden = 3", ["remove-cell"], ""),
        ("b = 2\n\nprint(3)", ["hide-input"], "Code"),
        ("c = 4", ["hide-input"], "Code"),
        ("By hand:", [], ""),
        ("d = 5", ["lesson"], ""),
        ("text()", ["remove-input"], ""),
        ("print(3)", ["solution", "hide-cell"], "Solution"),
    ]


def test_code_that_is_equal_to_another_cell_s_is_not_lost():
    assert [
        source for source, *_ in shown(code("f()", shows=True), code("f()"), code("g()", shows=True))
    ] == [
        "f()",
        "f()\n\ng()",
    ]


@pytest.mark.parametrize(("size", "wide"), [((23, 11), True), ((23, 12), False), ((300, 701), False)])
def test_a_picture_of_more_than_twice_its_height_scrolls_on_a_phone(size, wide):
    file = io.BytesIO()
    Image.new("RGB", size).save(file, "PNG")
    assert wsn_book._is_wide(base64.b64encode(file.getvalue()).decode()) == wide


def places(cells, *words: str) -> list[int]:
    """The first cell that holds each of some words."""
    return [next((i for i, cell in enumerate(cells) if each in cell.source), -1) for each in words]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_chapter_answers_before_it_explains(path):
    cells = nbformat.read(path, as_version=4).cells
    title, _, question = cells[0].source.partition("\n\n")
    assert title.startswith("# ") and question.startswith("**Question.** ") and question.count("?") == 1
    assert "**Answer.** " in cells[1].source and "**Scale.** " in cells[1].source
    figure, goals = places(cells, "page.show(", "**In this chapter**")
    assert 0 < figure < goals
    assert all(cell.cell_type == "code" for cell in cells[1:goals])
    assert cells[goals].source.split("\n\n")[1].count("- ") in (3, 4)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_chapter_teaches_by_hand_and_ends_with_a_summary_and_three_exercises(path):
    cells = nbformat.read(path, as_version=4).cells
    tagged = {
        tag: [cell for cell in cells if tag in cell.metadata.get("tags", [])]
        for tag in ("lesson", "solution")
    }
    assert tagged["lesson"]
    assert [cell.metadata.jupyter.source_hidden for cell in tagged["solution"]] == [True] * 3
    assert all(cell.outputs for cell in tagged["solution"])
    order = places(cells, "## Summary", "## Exercises", "## Run it yourself")
    assert order == sorted(order) and -1 not in order
    first, last = order[1:]
    assert all(f"**{n}.** " in "".join(cell.source for cell in cells[first:last]) for n in (1, 2, 3))
    verdicts = places(cells, "page.verdicts(")[0]
    assert verdicts == -1 or order[0] < verdicts < order[1]
