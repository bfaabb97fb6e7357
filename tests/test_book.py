"""The commands of the README, run as a reader runs them."""

import re
from pathlib import Path

import pytest
from conftest import BUILT, command, tracked_changes
from outputs import differences, outputs

ROOT = Path(__file__).parent.parent
CHAPTERS = sorted(path.stem for path in (ROOT / "book").glob("*.ipynb"))
RECORDS = {"bottlenecks": 24, "cka_blocks": 17, "resnet_sweep": 18, "scorecard": 0, "your_network": 8}
"""Trainings and measurements of the smoke profile, at least; 51 where nothing is said."""


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_smoke_profile_runs_from_the_root_and_trains_once(chapter, tmp_path):
    store, before = tmp_path / "store", tracked_changes()
    places = {"WSN_STORE": str(store), "WSN_DATA": str(tmp_path / "data")}
    words = (
        "papermill",
        f"book/{chapter}.ipynb",
        str(tmp_path / "out.ipynb"),
        "-f",
        f"params/{chapter}.smoke.yml",
    )
    assert command(*words, **places).returncode == 0
    stamps = {p: p.stat().st_mtime_ns for p in store.glob("*")}
    assert len(stamps) >= RECORDS.get(chapter, 51)
    first = [shown for shown in outputs(tmp_path / "out.ipynb") if "printed" not in shown[0]]
    assert command(*words, **places).returncode == 0
    assert {p: p.stat().st_mtime_ns for p in store.glob("*")} == stamps
    second = [shown for shown in outputs(tmp_path / "out.ipynb") if "printed" not in shown[0]]
    assert differences(second, first) == []
    assert tracked_changes() == before


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
    wsn = names["wsn"]
    assert (wsn.num_weights(wsn.build(names["wide"])), wsn.num_weights(names["model"])) == (3970, 5000)
    assert len(list((tmp_path / "store").glob("*.json"))) == 3
