"""A chapter and a claim are added as CONTRIBUTING says, and nowhere else; the page is made and built."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

from wsnlib.book.engine import published

ROOT = Path(__file__).parent.parent

MODULE = '''
"""Whether 5 epochs are better than 1."""
from collections.abc import Iterator

import wsnlib as wsn
from wsnlib import specs
from wsnlib.book.engine.parameters import ChapterParameters
from wsnlib.estimates import Estimate, estimate
from wsnlib.store import Store


class Parameters(ChapterParameters):
    seeds: list[int] = [0, 1]

    @property
    def same_data(self) -> bool:
        return True


def runs(p: Parameters) -> list[specs.Experiment]:
    net = specs.MLPSpec(width=3, inputs=64)
    return [
        specs.Experiment(model=net, data=specs.Digits(), training=specs.Training(epochs=e), seed=s)
        for e in (1, 5) for s in p.seeds
    ]


def stages(p: Parameters, store: Store) -> Iterator[list[specs.Run]]:
    yield list(runs(p))


def estimates(table, p: Parameters) -> dict[str, Estimate]:
    accuracy = 100 * table.set_index(["training.epochs", "seed"])["test_accuracy"]
    return {"patience": estimate((accuracy[5] - accuracy[1]).tolist())}
'''

CLAIM = """
[[claim]]
chapter = "patience"
name = "patience"
type = "empirical"
where = "Section 9"
statement = "Five epochs are better than one."
above = -100
unit = "points"
estimator = "mean over seeds"
"""

CELLS = [
    v4.new_markdown_cell("# Patience"),
    v4.new_code_cell('profile = "smoke"  # name', metadata={"tags": ["parameters"]}),
    v4.new_code_cell(
        "import wsnlib as wsn\nfrom wsnlib import book\nfrom wsnlib.book import patience as chapter\n"
        "p = chapter.Parameters.read(globals())\npage = book.Page(p)\nstore = wsn.default_store()"
    ),
    v4.new_code_cell("runs = chapter.runs(p)\n_ = wsn.run_missing(runs, store=store)"),
    v4.new_code_cell("page.verdicts(chapter.estimates(wsn.table(runs, store=store), p))"),
]


@pytest.fixture
def repository(tmp_path):
    """What a page needs of the repository, with one chapter and one claim more."""
    shutil.copytree(ROOT / "wsnlib", tmp_path / "wsnlib", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "wsnlib" / "book" / "patience.py").write_text(MODULE)
    with (tmp_path / "wsnlib" / "book" / "papers" / "g21.toml").open("a") as file:
        file.write(CLAIM)
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "patience.smoke.yml").write_text("profile: smoke\nseeds: [0, 1, 2]\n")
    (tmp_path / "book").mkdir()
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(v4.new_notebook(cells=CELLS, metadata=metadata), tmp_path / "book" / "patience.ipynb")
    return tmp_path


def test_a_chapter_and_a_claim_are_added_each_in_its_place(repository):
    def run(*words: str) -> None:
        places = {"PYTHONPATH": str(repository), "WSN_STORE": str(repository / "store")}
        found = Path(sys.executable).with_name(words[0])
        done = subprocess.run(
            [found, *words[1:]], cwd=repository, env=os.environ | places, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-2000:]

    page = "book/patience.ipynb"
    run("python", "-m", "wsnlib.cli", "run", "params/patience.smoke.yml")
    assert len(list((repository / "store").glob("*.json"))) == 6
    run("papermill", page, page, "-f", "params/patience.smoke.yml", "--no-progress-bar")
    held = published.verdicts_of(published.read_notebook(repository / page))
    assert (held["chapter"], held["ours"]["patience"]["n"]) == ("patience", 3)
    assert held["verdicts"] == {"patience": "reproduced"}
    for name in ("_ext", "references.bib"):
        copy = shutil.copytree if name == "_ext" else shutil.copy
        copy(ROOT / "book" / name, repository / "book" / name)
    shutil.copy(ROOT / "_config.yml", repository / "book" / "_config.yml")
    (repository / "book" / "_toc.yml").write_text("format: jb-book\nroot: patience\n")
    run("jupyter-book", "build", "book/", "-n", "-W", "--keep-going", "-q")
    built = repository / "book" / "_build" / "html" / "patience.html"
    assert "Five epochs are better than one." in built.read_text()
