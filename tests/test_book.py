"""The commands of the README, run as a reader runs them."""

import os
import re
from pathlib import Path

import pytest
from conftest import command, tracked_changes
from outputs import differences, outputs

import wsnlib as wsn
from wsnlib.book.engine import chapters, published

ROOT = Path(__file__).parent.parent
CHAPTERS = sorted(path.stem for path in (ROOT / "book").glob("*.ipynb"))


def test_the_smoke_profile_runs_from_the_root_and_trains_once(tmp_path):
    store, unchanged = tmp_path / "store", tracked_changes()
    places = {"WSN_STORE": str(store), "WSN_DATA": str(tmp_path / "data")}

    def executed() -> tuple[list[tuple[str, str]], dict[Path, int]]:
        words = (
            "book/sparse_mlp.ipynb",
            str(tmp_path / "out.ipynb"),
            "-f",
            "params/sparse_mlp.smoke.yml",
            "-y",
            "widths: [5, 10]",
        )
        done = command("papermill", *words, **places)
        assert done.returncode == 0, done.stderr[-2000:]
        shown = [each for each in outputs(tmp_path / "out.ipynb") if "printed" not in each[0]]
        return shown, {path: path.stat().st_mtime_ns for path in store.glob("*.json")}

    (first, made), (second, there) = executed(), executed()
    assert differences(second, first) == []
    assert there == made != {}
    assert tracked_changes() == unchanged


@pytest.mark.parametrize("chapter", CHAPTERS)
@pytest.mark.skipif("WSN_STORE" not in os.environ, reason="make suite says where nbval has trained")
def test_the_runs_of_a_chapter_are_those_that_its_notebook_trains(chapter):
    """What `wsn run` would make of the smoke profile is what nbval has left, in `make suite`."""
    store, p = wsn.default_store(), chapters.read_parameters(ROOT / f"params/{chapter}.smoke.yml")
    runs = [run for stage in chapters.chapter_stages(p, store=store) for run in stage]
    assert bool(runs) == (chapter not in (published.SCORECARD, "your_layers"))
    assert [run for run in runs if not store.has_made(run)] == []


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
