"""What is another result and what is another machine."""

import gzip
from base64 import b64encode
from urllib.parse import quote

import nbformat
import pytest
from nbformat import v4
from outputs import alike, differences, outputs, text_of

VERDICTS = "application/vnd.wsnlib.verdicts+json"


def shown(path, **changed):
    """What a page of every kind of output shows, with some of its numbers or words changed."""
    put = {"mean": 0.24972661196073676, "verdict": "mixed", "n": 50, "p": "0.12", "at": "20.798438"}
    put |= {"rows": "5,0.25\n7,0.5\n", "clip": "p06b2c12e60", "picture": "iVBORw0KGgo="} | changed
    table = "".join(f"<tr><td>{row}</td></tr>" for row in put["rows"].split())
    packed = b64encode(gzip.compress(put["rows"].encode())).decode()
    html = f'<table>{table}</table><a href="data:text/csv;charset=utf-8,{quote(put["rows"])}">ResNet-14</a>'
    svg = f'<clipPath id="{put["clip"]}"/><!-- {put["p"]} --><path d="M {put["at"]} 7.2" clip="#{put["clip"]}"/>'
    estimate = {"ours": {"gain": {"mean": put["mean"], "n": put["n"]}}, "verdicts": {"gain": put["verdict"]}}
    cells = [
        v4.new_code_cell(
            outputs=[
                v4.new_output("stream", text=f"{put['n']} pairs; "),
                v4.new_output("stream", name="stderr", text=put["picture"]),
                v4.new_output("stream", text=f"p = {put['p']}\n"),
                v4.new_output("display_data", {"text/plain": "<Figure at 0x7f>", "image/svg+xml": svg}),
                v4.new_output("display_data", {"text/html": html, "image/png": put["picture"]}),
                v4.new_output("display_data", {"text/html": f'"data:application/gzip;base64,{packed}"'}),
                v4.new_output("execute_result", {VERDICTS: estimate}),
            ]
        )
    ]
    nbformat.write(v4.new_notebook(cells=cells), path)
    return outputs(path)


@pytest.fixture
def compared(tmp_path):
    return lambda **changed: differences(
        shown(tmp_path / "made.ipynb", **changed), shown(tmp_path / "had.ipynb")
    )


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"mean": 0.2497266119607351},
        {"mean": 0.24972661196073676 * (1 + 1e-9)},
        {"p": "0.13"},
        {"at": "20.798437"},
        {"at": "20.7984380"},
        {"rows": "5,0.25\n7,0.500000000001\n"},
        {"clip": "p1f1b1c3c09"},
        {"picture": "iVBORw0KGgpB"},
    ],
)
def test_another_machine_shows_the_same(compared, changed):
    assert compared(**changed) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"mean": 0.24972661196073676 * (1 + 3e-6)}, "0.249727"),
        ({"mean": -0.24972661196073676}, "-0.249"),
        ({"mean": "NaN"}, "NaN"),
        ({"verdict": "reproduced"}, "reproduced"),
        ({"n": 49}, "49 where the other has 50"),
        ({"p": "0.14"}, "0.14 where the other has 0.12"),
        ({"p": "0.1"}, "0.1 where the other has 0.12"),
        ({"p": "none"}, "none"),
        ({"at": "20.9"}, "image/svg"),
        ({"rows": "5,0.25\n"}, "text/html"),
        ({"rows": "5,0.25\n7,0.5\n11,0.75\n"}, "text/html"),
        ({"rows": "5,0.25\n7,0.52\n"}, "0.52 where the other has 0.5"),
        ({"rows": "7,0.5\n5,0.25\n"}, "7 where the other has 5"),
        ({"clip": "q06b2c12e60"}, "q06b2c12e60"),
    ],
)
def test_another_result_does_not(compared, changed, said):
    found = compared(**changed)
    assert found and any(said in sentence for sentence in found)


def test_packed_tables_are_read():
    def packed(table, level):
        return f"data:application/gzip;base64,{b64encode(gzip.compress(table, level)).decode()}"

    one, other = packed(b"x,y\n3,0.25\n" * 9, 9), packed(b"x,y\n3,0.25\n" * 9, 1)
    assert one != other and text_of("text/html", one) == text_of("text/html", other)
    changed = [("", text_of("text/html", packed(b"x,y\n3,0.26\n", 9)))]
    assert differences(changed, [("", text_of("text/html", packed(b"x,y\n3,0.24\n", 9)))])


def test_an_output_is_neither_lost_nor_gained(tmp_path):
    page = shown(tmp_path / "page.ipynb")
    for other in (page[:-1], page[1:], [*page, page[0]], [page[1], page[0], *page[2:]]):
        assert len(differences(other, page)) == len(differences(page, other)) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("0", "1.4e-17"),  # rounding is left of what is 0
        ("-0.00", "0.00"),
        ("1.3e-07", "1.4e-07"),
        ("1", "0.999999"),  # of six digits, without zeros at the end
        ("1234567.0", "1234567.9"),
    ],
)
def test_numbers_that_are_alike(one, other):
    assert alike(one, other) and alike(other, one)


@pytest.mark.parametrize(
    ("one", "other"), [("1", "2"), ("80", "-80"), ("0.3", "0.5"), ("1.3e-07", "1.3e-08"), ("1", "1.1e-05")]
)
def test_numbers_that_are_not(one, other):
    assert not alike(one, other) and not alike(other, one)


@pytest.mark.parametrize("words", ["G21", "3.11.2", "b31b489f8e-17", "ResNet-14", "uint8", "x1.5"])
def test_digits_in_names_are_words(words):
    changed = words.replace("1", "3").replace("8", "9")
    assert differences([("", f"a {changed} b")], [("", f"a {words} b")])


def test_a_text_that_ends_before_a_number_is_another():
    found = differences([("cell 1", "12 and 18 reach 85")], [("cell 1", "12 and")])
    assert found and all(each.startswith("cell 1: ") for each in found)
