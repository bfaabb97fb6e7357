"""Each gate before publishing refuses what it is for, and lets a clean page pass."""

import copy
import importlib.util
import json
from pathlib import Path

import pytest

import wsnlib as wsn
from wsnlib.store import Record

ROOT = Path(__file__).parent.parent


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "book" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


gates = load("gates")

RUN = wsn.Experiment(
    model=wsn.MLPSpec(width=3, inputs=64), data=wsn.Digits(), training=wsn.Training(epochs=1), seed=5
)
ALT = "A line of test accuracy that rises with the width of the network and then stays where it is."


def shown(**data) -> dict:
    return {"output_type": "display_data", "data": data}


def page() -> dict:
    """A clean page with one figure, drawn from one record."""
    picture = shown(**{"image/png": "aGVsbG8=", "text/plain": "<Figure>"})
    picture["metadata"] = {"image/png": {"alt": ALT}}
    made = shown(**{gates.PROVENANCE_TYPE: {"keys": [wsn.spec_key(RUN)]}})
    return {
        "metadata": {},
        "cells": [
            {
                "cell_type": "markdown",
                "metadata": {},
                "source": "# Page\n\nIs width *64* best?",
            },
            {
                "cell_type": "code",
                "execution_count": 1,
                "metadata": {"tags": ["parameters"]},
                "source": "width = 64",
                "outputs": [],
            },
            {
                "cell_type": "code",
                "execution_count": 2,
                "metadata": {},
                "source": "page.show(fig, runs)",
                "outputs": [picture, shown(**{"text/markdown": "**Figure 1.** What is seen."}), made],
            },
            {
                "cell_type": "code",
                "execution_count": 3,
                "metadata": {},
                "source": 'text("Width {{width}} is best.")',
                "outputs": [shown(**{"text/markdown": "Width 64 is best."})],
            },
        ],
    }


@pytest.fixture
def records(tmp_path):
    folder = tmp_path / "records"
    wsn.Store(folder).save(Record(experiment=RUN, status="finished", history={}))
    return folder


def refused(notebook: dict, folder: Path) -> list[str]:
    file = folder.parent / "page.ipynb"
    file.write_text(json.dumps(notebook))
    return gates.breaches(file, records_folder=folder)


def test_a_clean_page_passes(records):
    assert refused(page(), records) == []


def changed(change) -> dict:
    notebook = copy.deepcopy(page())
    change(notebook["cells"][0], notebook["cells"][2], notebook)
    return notebook


def error(prose, code, notebook):
    code["outputs"].append({"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []})


def message(prose, code, notebook):
    code["outputs"].append({"output_type": "stream", "name": "stderr", "text": "careful"})


def not_executed(prose, code, notebook):
    code["execution_count"] = None


def executed_twice(prose, code, notebook):
    code["execution_count"] = 4


def no_alt(prose, code, notebook):
    del code["outputs"][0]["metadata"]


def file_name_as_alt(prose, code, notebook):
    code["outputs"][0]["metadata"]["image/png"]["alt"] = "images/figure.png"


def no_png(prose, code, notebook):
    code["outputs"][0]["data"] = {"image/svg+xml": "<svg/>"}


def no_alt_in_prose(prose, code, notebook):
    prose["source"] += "\n\n![](figure.png)"


def no_caption(prose, code, notebook):
    code["outputs"][1]["data"]["text/markdown"] = "**Figure 1.** "


def wrong_number(prose, code, notebook):
    code["outputs"][1]["data"]["text/markdown"] = "**Figure 2.** What is seen."


def injected(prose, code, notebook):
    code["metadata"]["tags"] = ["injected-parameters"]


def no_parameters(prose, code, notebook):
    notebook["cells"][1]["metadata"] = {}


def role(prose, code, notebook):
    prose["source"] += " {glue:text}`width`"


def role_in_a_template(prose, code, notebook):
    notebook["cells"][3]["outputs"][0]["data"]["text/markdown"] = "See {eq}`eq-x`."


def directive(prose, code, notebook):
    prose["source"] += "\n\n:::{note}\nCareful.\n:::"


def fenced_directive(prose, code, notebook):
    prose["source"] += "\n\n```{note}\nCareful.\n```"


def target(prose, code, notebook):
    prose["source"] = "(here)=\n" + prose["source"]


def labelled_equation(prose, code, notebook):
    prose["source"] += "\n\n$$\nx\n$$ (eq-x)"


def number_that_never_came(prose, code, notebook):
    notebook["cells"][3]["outputs"][0]["data"]["text/markdown"] = f"Width {gates.UNKNOWN} is best."


def name_for_a_number(prose, code, notebook):
    prose["source"] += " {{width}}"


def link_to_a_page(prose, code, notebook):
    prose["source"] += " [there](sparse_mlp.html#figure)"


def link_to_a_page_in_html(prose, code, notebook):
    code["outputs"].append(shown(**{"text/html": '<a href="sparse_mlp.html">sparse_mlp</a>'}))


def typed_in_a_template(prose, code, notebook):
    notebook["cells"][3]["source"] = 'text("Width 64 is best.")'


def nothing_made_it(prose, code, notebook):
    code["outputs"].pop()


def path_in_output(prose, code, notebook):
    code["outputs"].append({"output_type": "stream", "name": "stdout", "text": "saved to /home/ada/x.npz"})


def path_in_source(prose, code, notebook):
    code["source"] += "\nopen('/Users/ada/x')"


def path_in_html(prose, code, notebook):
    code["outputs"].append({"output_type": "display_data", "data": {"text/html": "<p>C:\\ada</p>"}})


def dead_widget(prose, code, notebook):
    code["outputs"].append({"output_type": "display_data", "data": {gates.WIDGET_VIEW: {"model_id": "a1"}}})


def long_hidden(prose, code, notebook):
    notebook["cells"][3]["metadata"] = {"tags": ["remove-cell"]}
    notebook["cells"][3]["source"] = "x = 0\n" * (gates.LONGEST_HIDDEN + 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (error, "cell 2 ended in ValueError: no"),
        (message, "cell 2 holds a message on standard error"),
        (not_executed, "code cell 2 has the execution count None"),
        (executed_twice, "code cell 2 has the execution count 4"),
        (no_alt, "the picture of cell 2 has the alt text ''"),
        (file_name_as_alt, "the picture of cell 2 has the alt text 'images/figure.png'"),
        (no_alt_in_prose, "an image of cell 0 has the alt text ''"),
        (no_caption, "the picture of cell 2 has no caption with a number"),
        (wrong_number, "its figures have the numbers [2]"),
        (nothing_made_it, "the picture of cell 2 does not say what made it"),
        (injected, "a cell that papermill injected overrides the one that a reader edits"),
        (no_parameters, "0 cells are tagged parameters; one is needed"),
        (role, "cell 0 has a role in '"),
        (role_in_a_template, "cell 3 has a role in 'See {eq}`eq-x`.'"),
        (directive, "cell 0 has a directive in '"),
        (fenced_directive, "cell 0 has a directive in '"),
        (target, "cell 0 has a target in '(here)="),
        (labelled_equation, "cell 0 has the label of an equation in '"),
        (number_that_never_came, "cell 3 has a number that never came in '"),
        (name_for_a_number, "cell 0 has a name in place of a number in '"),
        (link_to_a_page, "cell 0 has a link that only the built book knows in '"),
        (link_to_a_page_in_html, "cell 2 has a link to sparse_mlp.html"),
        (typed_in_a_template, "cell 3 has a typed number, '64'"),
        (path_in_output, "cell 2 holds the absolute path /home/ada"),
        (path_in_source, "cell 2 holds the absolute path /Users/ada"),
        (path_in_html, "cell 2 holds the absolute path C:\\ada"),
        (dead_widget, "cell 2 shows a widget without its state"),
        (long_hidden, "cell 3 is left out of the page and has 41 lines"),
    ],
)
def test_a_breach_is_named(change, said, records):
    (sentence,) = refused(changed(change), records)
    assert sentence.startswith(f"page: {said}")


def test_a_picture_that_is_no_png_shows_only_where_it_is_trusted(records):
    sentences = refused(changed(no_png), records)
    assert sentences[0].startswith("page: the picture of cell 2 is no PNG")


def test_a_widget_with_its_state_passes(records):
    def alive(prose, code, notebook):
        dead_widget(prose, code, notebook)
        notebook["metadata"]["widgets"] = {gates.WIDGET_STATE: {"state": {"a1": {}}}}

    assert refused(changed(alive), records) == []


def test_a_record_that_is_missing_damaged_or_of_another_spec_is_refused(records):
    (file,) = records.glob("*.json")
    other = wsn.Experiment(model=RUN.model, data=RUN.data, training=RUN.training, seed=6)
    good = file.read_text()
    file.write_text(Record(experiment=other, status="finished", history={}).to_json())
    (sentence,) = refused(page(), records)
    assert f"was made by another spec, of key {wsn.spec_key(other)}" in sentence
    file.write_text(good.replace("finished", "diverged"))
    assert "does not match its checksum" in refused(page(), records)[0]
    file.unlink()
    assert (
        f"the record {wsn.spec_key(RUN)} behind a figure is missing from records"
        in refused(page(), records)[0]
    )


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("It is 3.7 points better.", ["3.7"]),
        ("With 12,345 weights and 20 seeds.", ["12,345", "20"]),
        ("It is {{gain}} points better than *96.3 %*, with *16* networks.", []),
        ("**It is 3.7 points better.**", ["3.7"]),
        ("a p* of 2.5, and another p* of 3", ["2.5", "3"]),
        ("G21, Section 2.3, Figures 1, 6 and 9 to 14, Table 1, Appendix F.1, Figure 8(b).", []),
        ("ResNet-18 on CIFAR-10 with 3x3 kernels, `width = 8`, $f^2 = 4$, 95 % intervals, in 2021.", []),
        ("$$\nx = 12\n\\tag{3}\n$$\n\nSee equation (3).", []),
        ("From 0 to 1 along the line.", []),
        ("1. First\n2. Second\n", []),
        ("```python\nwidth = 64\n```\n", []),
        ("[a link](page.ipynb#fig-12)", []),
        ("at 0.5 or 1.5", ["0.5", "1.5"]),
    ],
)
def test_numbers_in_prose_are_filled_in_or_say_whose_they_are(text, numbers):
    notebook = {"cells": [{"cell_type": "markdown", "metadata": {}, "source": text}]}
    found = list(gates.typed_numbers(notebook))
    assert [sentence.split("'")[1].rstrip(".,") for sentence in found] == numbers


def test_a_page_over_its_limit_is_refused(records, monkeypatch):
    size = len(json.dumps(page()))
    monkeypatch.setattr(gates, "LARGEST_NOTEBOOK", size)
    assert refused(page(), records) == []
    monkeypatch.setattr(gates, "LARGEST_NOTEBOOK", size - 1)
    assert refused(page(), records) == [f"page: it must have at most {size - 1:,} bytes, got {size:,}"]


@pytest.mark.parametrize("path", sorted((ROOT / "book").glob("*.ipynb")), ids=lambda p: p.stem)
def test_the_published_chapters_may_be_published(path):
    assert gates.breaches(path, records_folder=ROOT / "records") == []
