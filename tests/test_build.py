"""How the book's chapters are stored."""

import base64
import importlib.util
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import yaml
from matplotlib.figure import Figure
from PIL import Image

import wsnlib as wsn

BOOK = Path(__file__).parent.parent / "book"


@pytest.fixture(scope="module")
def build():
    sys.path.insert(0, str(BOOK))  # as when the script is run
    spec = importlib.util.spec_from_file_location("book_build", BOOK / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def png(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")


def pixels(picture: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")).astype(int)


def test_a_figure_is_stored_in_few_colours_and_looks_the_same(build):
    layers = np.arange(67)
    values = np.exp(-np.abs(layers[:, None] - layers) / 18) + 0.1 * np.sin(layers)
    figure = Figure(figsize=(4, 4), dpi=100)
    names = [f"stage{1 + i // 23}.layer{i}" for i in range(67)]
    wsn.plot.cka((values + values.T) / 2, ax=figure.subplots(), rows=names, blocks=[(5, 30)])
    file = io.BytesIO()
    figure.savefig(file)
    whole = base64.b64encode(file.getvalue()).decode("ascii")
    small = build.with_palette(whole)
    assert len(small) < 0.6 * len(whole) and len(np.unique(pixels(small).reshape(-1, 3), axis=0)) <= 96
    moved = np.abs(pixels(small) - pixels(whole)).max(axis=2)
    assert moved.mean() <= 2 and np.mean(moved > 24) <= 1 / 100
    assert build.with_palette(whole) == small  # the same bytes each time


def test_what_is_transparent_becomes_white(build):
    clear = np.zeros((7, 5, 4), dtype=np.uint8)
    clear[3] = (255, 0, 0, 255)
    found = pixels(build.with_palette(png(clear)))
    assert (found[3] == (255, 0, 0)).all() and (np.delete(found, 3, axis=0) == 255).all()


def test_a_photograph_keeps_its_colours(build):
    photograph = png(np.random.default_rng(0).integers(0, 256, (53, 53, 3), dtype=np.uint8))
    assert np.array_equal(pixels(build.with_palette(photograph)), pixels(photograph))


def test_a_profile_s_values_stand_in_the_cell_of_parameters_with_its_comments(build):
    source = """profile = "smoke"  # ä name
data_sha256 = None  # checksum
# one each
seeds = [
    0,
]  # ü
networks = []  # each
rate = 0.1  # constant"""
    networks = [{"name": "ä", "depth": 14, "residual": False, "seeds": [0, 1]}, {}]
    values = {"profile": "cpu", "data_sha256": "5ü", "seeds": [2, 3], "networks": networks, "rate": 0.1}
    assert (
        build.with_values(source, values)
        == """profile = "cpu"  # ä name
data_sha256 = "5ü"  # checksum
# one each
seeds = [2, 3]  # ü
networks = [{"name": "ä", "depth": 14, "residual": False, "seeds": [0, 1]}, {}]  # each
rate = 0.1  # constant"""
    )
    assert build.with_values(source, {}) == source
    with pytest.raises(ValueError, match="'*epochs'* must be a name in the cell of parameters"):
        build.with_values(source, {"epochs": 3})


@pytest.mark.parametrize("chapter", sorted(path.stem for path in BOOK.glob("*.ipynb")))
def test_the_cell_of_parameters_holds_the_published_values(build, chapter):
    cells = nbformat.read(BOOK / f"{chapter}.ipynb", as_version=4).cells
    (cell,) = (c for c in cells if "parameters" in c.metadata.get("tags", []))
    values = yaml.safe_load((BOOK.parent / "params" / f"{chapter}.cpu.yml").read_text())
    assert build.with_values(cell.source, values) == cell.source


def test_launch_buttons_lead_to_the_notebook_in_the_repository(tmp_path):
    book = tmp_path / "book"
    shutil.copytree(BOOK / "_ext", book / "_ext")
    for name in ("_config.yml", "references.bib"):
        shutil.copy(BOOK / name, book / name)
    (book / "_toc.yml").write_text(
        "format: jb-book\nroot: index\nparts:\n  - caption: Chapters\n    chapters:\n      - file: chapter\n"
    )
    (book / "index.md").write_text("# Index\n")
    cells = [nbformat.v4.new_markdown_cell("# Chapter"), nbformat.v4.new_code_cell("1 + 1")]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), book / "chapter.ipynb")
    program = Path(sys.executable).with_name("jupyter-book")
    environment = os.environ | {"BOOK_REPOSITORY": "owner/name", "PYTHONPATH": str(BOOK.parent)}
    done = subprocess.run(
        [program, "build", str(book), "-q"], capture_output=True, text=True, env=environment, timeout=840
    )
    assert done.returncode == 0, done.stderr
    page = (book / "_build" / "html" / "chapter.html").read_text()
    assert "https://colab.research.google.com/github/owner/name/blob/main/book/chapter.ipynb" in page
    assert "https://mybinder.org/v2/gh/owner/name/main?urlpath=lab/tree/book/chapter.ipynb" in page
