"""The commands of the README, run as a reader runs them."""

import os
import re
from pathlib import Path

import pytest
from conftest import BUILT, command, tracked_changes
from outputs import differences, outputs

import wsnlib as wsn
from wsnlib.book.engine import chapters, published

ROOT = Path(__file__).parent.parent
CHAPTERS = sorted(path.stem for path in (ROOT / "book").glob("*.ipynb"))


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_smoke_profile_runs_from_the_root_and_trains_once(chapter, tmp_path):
    """In the store that WSN_STORE names, where nbval has trained it in `make suite`; else it is run twice."""
    file, page = f"params/{chapter}.smoke.yml", tmp_path / "out.ipynb"
    folder, unchanged = Path(os.environ.get("WSN_STORE", tmp_path / "store")), tracked_changes()

    def records() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.json")}

    def executed() -> list[tuple[str, str]]:
        places = {"WSN_STORE": str(folder), "WSN_DATA": str(tmp_path / "data")}
        done = command("papermill", f"book/{chapter}.ipynb", str(page), "-f", file, **places)
        assert done.returncode == 0, done.stderr[-2000:]
        return [shown for shown in outputs(page) if "printed" not in shown[0]]

    before, first, after = records(), executed(), records()
    if after != before:
        assert differences(executed(), first) == []
        assert records() == after
    if chapter != published.SCORECARD:
        store = wsn.Store(folder)
        runs = [
            run
            for stage in chapters.chapter_stages(chapters.read_parameters(ROOT / file), store=store)
            for run in stage
        ]
        assert runs
        assert all(map(store.has_made, runs))
    assert tracked_changes() == unchanged


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_published_page_is_what_its_records_give(chapter, tmp_path):
    """Executed again from records/ alone, without data and without training, on any machine."""
    words = (f"book/{chapter}.ipynb", str(tmp_path / "out.ipynb"), "-f", f"params/{chapter}.cpu.yml")
    done = command(
        "papermill",
        *words,
        "-p",
        "budget_minutes",
        "0",
        WSN_STORE=str(tmp_path / "empty"),
        WSN_DATA=str(tmp_path / "no data"),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert not (tmp_path / "empty").exists()
    assert differences(outputs(tmp_path / "out.ipynb"), outputs(ROOT / "book" / f"{chapter}.ipynb")) == []


@BUILT
def test_the_published_book_has_its_pages(built):
    for page in ("index", *CHAPTERS):
        assert (built / f"{page}.html").stat().st_size > 10_000
    for chapter in CHAPTERS:
        page = (built / f"{chapter}.html").read_text()
        assert "<img alt=" in page
        assert not re.findall(r'<img alt="[^"]*/[^"]*\.png"', page)


def test_the_readme_s_code_runs(small_mnist, tmp_path, monkeypatch):
    import numpy as np

    np.savez(tmp_path / "mnist.npz", **small_mnist)
    monkeypatch.setenv("WSN_DATA", str(tmp_path))
    monkeypatch.setenv("WSN_STORE", str(tmp_path / "store"))
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    names: dict = {}
    exec(block, names)
    assert (wsn.num_weights(wsn.build(names["wide"])), wsn.num_weights(names["model"])) == (3970, 5000)
    assert len(list((tmp_path / "store").glob("*.json"))) == 3
