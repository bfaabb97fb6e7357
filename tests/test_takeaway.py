"""A chapter to take away runs where there is nothing of the repository."""

import base64
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import nbformat
from outputs import differences, outputs

import wsnlib as wsn
from wsnlib.book.engine import takeaway

ROOT = Path(__file__).parent.parent


def test_a_chapter_taken_away_runs_from_its_own_records(tmp_path, monkeypatch):
    monkeypatch.setenv("WSN_DATA", str(tmp_path / "no data yet"))
    chapter = ROOT / "book" / "your_network.ipynb"
    made = takeaway.take_away(chapter, root=ROOT, store=wsn.Store(ROOT / "records"))
    first = "".join(made["cells"][0]["source"])
    packed = base64.b85decode(first.split("'''")[1].replace("\n", ""))
    assert takeaway.bundled(chapter, "cpu", root=ROOT, store=wsn.Store(ROOT / "records")) == packed
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        names = archive.getnames()
    assert {"pyproject.toml", "_toc.yml", "params/your_network.cpu.yml", "wsnlib/__init__.py"} <= set(names)
    assert sum(name.startswith("records/") for name in names) == 21
    assert not any(name.endswith((".pyc", ".ipynb")) for name in names)
    pictures = [
        o["data"] for c in made["cells"] for o in c.get("outputs", ()) if "image/png" in o.get("data", {})
    ]
    assert pictures and not any("image/svg+xml" in data for data in pictures)
    file = tmp_path / "your_network.ipynb"
    nbformat.write(nbformat.from_dict(made), file)
    places = {"WSN_STORE": str(tmp_path / "store"), "WSN_DATA": str(tmp_path / "data")}
    elsewhere = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | places
    done = subprocess.run(
        [str(Path(sys.executable).with_name("papermill")), str(file), str(tmp_path / "out.ipynb")],
        cwd=tmp_path, env=elsewhere, capture_output=True, text=True, timeout=840,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert not (tmp_path / "store").exists()
    shown = [(what.split(", ", 1)[1], text) for what, text in outputs(tmp_path / "out.ipynb")]
    published = [(what.split(", ", 1)[1], text) for what, text in outputs(chapter)]
    assert differences(shown, published) == []


def test_predictions_are_taken_along_only_with_the_right_classes(tmp_path):
    store = wsn.Store(tmp_path)
    run = wsn.Experiment(
        model=wsn.MLPSpec(width=3, inputs=64), data=wsn.Digits(), training=wsn.Training(epochs=1)
    )
    labels = wsn.ExampleLabels(data=wsn.Digits())
    wsn.run_missing([run, labels], store=store)
    runs = {wsn.spec_key(each): each for each in (run, labels)}
    (alone,) = takeaway.without_unread({wsn.spec_key(run): run}, store=store)
    assert alone.predictions is None and alone.history == store.load(run).history
    both = list(takeaway.without_unread(runs, store=store))
    assert [each.key for each in both] == sorted(runs)
    assert [each.to_json() for each in both] == [store.load(runs[key]).to_json() for key in sorted(runs)]


def test_the_scorecard_to_take_away_holds_the_verdicts_of_all_pages():
    chapter = ROOT / "book" / "scorecard.ipynb"
    packed = takeaway.bundled(chapter, "cpu", root=ROOT, store=wsn.Store(ROOT / "records"))
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        pages = [name for name in archive.getnames() if name.endswith(".ipynb")]
    assert len(pages) == len(list((ROOT / "book").glob("*.ipynb")))
    assert len(packed) < 1_000_000
