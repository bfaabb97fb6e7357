"""The command `wsn`: the same runs as the notebooks, and what it says."""

import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

import wsnlib as wsn
from wsnlib import book, cli, specs
from wsnlib.book import your_network
from wsnlib.sweeps import missing

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "params").glob("*.yml"))
SMOKE = [file for file in FILES if ".smoke." in file.name]
SMALL = """
widths: [5, 10]
last_layer_densities: [1.0]
activations: [relu]
seeds: [0, 1]
epochs: 1
"""


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A parameter file of 12 short trainings, and an empty store beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WSN_STORE", str(tmp_path / "store"))
    (tmp_path / "params").mkdir()
    file = tmp_path / "params" / "sparse_mlp.smoke.yml"
    file.write_text(SMALL)
    return file


def wsn_command(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, [str(word) for word in words])
    return done.exit_code, done.output


def runs_of(file: Path) -> list[wsn.Experiment]:
    p = book.read_parameters(file)
    return [run for stage in book.chapter_stages(p, store=wsn.default_store()) for run in stage]


def test_run_makes_what_is_missing_and_says_so(small):
    code, said = wsn_command("run", small, "--workers", "1")
    assert code == 0, said
    assert "sparse_mlp.smoke.yml" in said
    runs = runs_of(small)
    assert len(runs) == len(set(runs)) == 12
    assert wsn.default_store().keys() == set(map(wsn.spec_key, runs))
    assert re.search(r"12\s+12\s+0\s+0\s+0:00:00", said), said
    assert wsn_command("run", small) == (0, "")


def test_status_counts_and_names_what_failed(small, monkeypatch):
    run, (bad, *_) = missing.experiments.run_planned, runs_of(small)

    def fails_once(plan, **options):
        if plan.runs == (bad,):
            raise ArithmeticError("seven is not eight")
        return run(plan, **options)

    monkeypatch.setattr(missing.experiments, "run_planned", fails_once)
    code, said = wsn_command("run", small, "--workers", "1")
    assert code == 1
    assert "1 of 12 runs failed" in said.replace("\n", " ")
    for part in (wsn.spec_key(bad), "ArithmeticError: seven is not eight", "fails_once", "LastLayerDensity"):
        assert part in said
    monkeypatch.undo()
    monkeypatch.chdir(small.parent.parent)
    monkeypatch.setenv("WSN_STORE", str(small.parent.parent / "store"))
    store = wsn.default_store()
    store.checkpoint(bad).write(b"state")
    code, said = wsn_command("status")
    assert code == 0
    assert re.search(r"sparse_mlp\.smoke\s+12\s+11\s+1\s+1\s+1 *\n", said), said
    assert f"{wsn.spec_key(bad)} failed: ArithmeticError: seven is not eight" in said
    store.checkpoint(bad).remove()
    assert wsn_command("run", small, "--workers", "1")[0] == 0
    assert re.search(r"sparse_mlp\.smoke\s+12\s+12\s+0\s+0\s+0 *\n", wsn_command("status", small)[1])
    path = store.path / f"{wsn.spec_key(bad)}.json"
    path.write_text(path.read_text()[:50])
    assert re.search(r"sparse_mlp\.smoke\s+12\s+11\s+0\s+0\s+1 *\n", wsn_command("status", small)[1])


def test_stages_that_do_not_wait_for_others_are_known_before_these_are_done(tmp_path):
    """Of `cka_blocks` all but the images; of `resnet_sweep` those before the learning rates that others read."""
    for chapter in ("cka_blocks", "resnet_sweep"):
        p = book.read_parameters(ROOT / "params" / f"{chapter}.cpu.yml")
        published = list(book.chapter_stages(p, store=wsn.Store(ROOT / "records")))
        known = list(cli._known_stages(p, wsn.Store(tmp_path)))
        assert known == published[:-1], chapter


def test_records_of_a_stage_that_is_not_finished_are_exported(small):
    (first, *_) = runs_of(small)
    wsn.run_missing([first], store=wsn.default_store(), workers=1, progress=False)
    assert wsn_command("records", "export", "there", small) == (
        0,
        "1 records copied to there, 0 were there\n",
    )


def test_gc_removes_what_no_sweep_needs_and_never_a_record(small):
    wsn_command("run", small, "--workers", "1")
    store, (first, second, *_) = wsn.default_store(), runs_of(small)
    before = store.keys()
    store.checkpoint(first).write(b"state")
    store.note_failure(wsn.store.Failure(experiment=first, error="e", traceback="t"))
    other = specs.ExampleLabels(data=wsn.Digits())
    store.checkpoint(other).write(b"state")
    store.note_failure(wsn.store.Failure(experiment=other, error="e", traceback="t"))
    (store.path / ".x.json.0.tmp").write_text("half")
    path = store.path / f"{wsn.spec_key(second)}.json"
    path.write_text(path.read_text()[:100])
    store.set_aside(second)
    removed = f"checkpoints/{wsn.spec_key(first)}.0.safetensors\nfailures/{wsn.spec_key(first)}.json\n"
    assert wsn_command("gc", "--dry-run") == (0, f"{removed}2 files would be removed, 2 left for --all\n")
    assert wsn_command("gc") == (0, f"{removed}2 files removed, 2 left for --all\n")
    code, said = wsn_command("gc", "--all")
    assert (code, said.splitlines()[0]) == (0, ".x.json.0.tmp")
    assert said.endswith("2 files removed, 0 left for --all\n")
    assert store.keys() == before - {wsn.spec_key(second)}
    assert store.under_way() == set(store.failures()) == {wsn.spec_key(other)}
    assert wsn_command("gc", "--all") == (0, "0 files removed, 0 left for --all\n")


def test_records_are_exported_whole_and_checked(small, tmp_path):
    wsn_command("run", small, "--workers", "1")
    assert wsn_command("records", "export", "there", small) == (
        0,
        "12 records copied to there, 0 were there\n",
    )
    assert wsn_command("records", "export", "there") == (0, "0 records copied to there, 12 were there\n")
    here, there = (
        {p.name: p.read_bytes() for p in (tmp_path / f).glob("*.json")} for f in ("store", "there")
    )
    assert here == there
    path = next((tmp_path / "store").glob("*.json"))
    path.write_text(path.read_text().replace("Digits", "MNIST"))
    code, said = wsn_command("records", "export", "elsewhere")
    assert code == 1
    assert "does not match its checksum" in said.replace("\n", " ")
    assert not (tmp_path / "elsewhere").exists()


def test_pack_says_what_it_took_the_images_for_and_how_they_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("WSN_DATA", str(tmp_path / "data"))
    for name in ("cat", "dog"):
        (tmp_path / "photos" / "Train" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("L", (7 + i, 5), 40 * i).save(tmp_path / "photos" / "Train" / name / f"{i}.png")
    words = ("pack", tmp_path / "photos", "--name", "pets")
    code, said = wsn_command(*words)
    assert code == 1
    assert "must be of 5 x 7 pixels as the images before it, got 5 x 8; give size" in " ".join(said.split())
    code, said = wsn_command(*words, "--size", "5", "7", "--test-fraction", "0.5")
    assert code == 0, said
    first, counts, *_, name, checksum = said.splitlines()
    assert first.startswith(
        "photos is packed as pets: 2 images to train on, 4 to test, 5 x 7 pixels, 1 channel"
    )
    assert counts == "  of each class, to train on + to test: cat: 1 + 2, dog: 1 + 2"
    given = yaml.safe_load(f"{name}\n{checksum}")
    spec = wsn.PackedData(name=given["data"], sha256=given["data_sha256"])
    assert wsn.load_data(spec).classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("pack", "nothing", "--name", "mine"),
            "must be an .npz file or a folder of images, got",
        ),
        (("pack", "{file}", "--name", "mine"), "must be an .npz file or a folder of images, got a .yml file"),
        (
            ("run", "{file}", "--resource", "GPU", "--scheduler", "tcp://127.0.0.1:1"),
            "resource must be a name and a number, got 'GPU'; write GPU=1",
        ),
        (
            ("run", "{file}", "--resource", "GPU=1"),
            "--resource must be left out without --scheduler, got {'GPU': 1.0}",
        ),
        (
            ("run", "{file}", "--scheduler", "nothing.json"),
            "scheduler must be an address or a file that is there, got",
        ),
        (("run", "{file}", "--workers", "0"), "workers must be an integer ≥ 1 or None, got 0"),
        (("run", "{other}"), "a file of parameters must be"),
        (("run", "{bad}"), "'epoch' is not a parameter of this chapter; did you mean 'epochs'?"),
    ],
)
def test_mistakes_are_named_in_one_sentence(words, sentence, small):
    other, bad = small.with_name("mine.yml"), small.with_name("sparse_mlp.bad.yml")
    other.write_text("{}")
    bad.write_text("epoch: 3")
    code, said = wsn_command(*(word.format(file=small, other=other, bad=bad) for word in words))
    assert code == 1
    assert sentence in " ".join(said.split())
    assert "Traceback" not in said


MINE = """
from torch import nn
def Net(width=8, num_classes=10):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, num_classes))
"""
MY_RUNS = """
data: digits
factory: nets_of_mine.Net
width_option: width
widths: [3, 5]
seeds: [0]
epochs: 1
batch_size: 100
"""


def test_a_network_beside_the_command_is_found_here_and_in_its_processes(tmp_path):
    (tmp_path / "your_network.mine.yml").write_text(MY_RUNS)
    command = [
        Path(sys.executable).with_name("wsn"),
        "run",
        "your_network.mine.yml",
        "--store=here",
        "--workers=2",
    ]

    def said() -> tuple[int, str]:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    code, sentence = said()
    assert code == 1
    assert "the module of 'nets_of_mine.Net' cannot be imported (ModuleNotFoundError" in sentence
    assert f"; put nets_of_mine.py into {tmp_path} and start wsn or the notebook there" in sentence
    (tmp_path / "nets_of_mine.py").write_text(MINE)  # the advice is taken
    code, sentence = said()
    assert code == 0, sentence
    assert len(wsn.Store(tmp_path / "here").keys()) == 3


def test_a_scheduler_s_file_may_lie_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "scheduler.json").write_text("{}")
    asked = []

    class Client:
        def __init__(self, **options):
            asked.append(options)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

    monkeypatch.setattr("distributed.Client", Client)
    for scheduler in ("~/scheduler.json", "tcp://127.0.0.1:8786", "127.0.0.1:8786"):
        with cli._client(scheduler):
            pass
    assert asked == [
        {"scheduler_file": str(tmp_path / "scheduler.json")},
        {"address": "tcp://127.0.0.1:8786"},
        {"address": "127.0.0.1:8786"},
    ]


def test_help_needs_no_torch():
    code = "import sys; from wsnlib import cli; print({'torch', 'pandas', 'distributed'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout == "set()\n"
    for words in (["--help"], ["run", "--help"], ["pack", "--help"], ["records", "export", "--help"]):
        assert wsn_command(*words)[0] == 0


# -- the chapters' runs --


WITHOUT_RUNS = ("scorecard", "your_layers")
"""Chapters that read what others measured, or train nothing."""


@pytest.mark.parametrize(
    "file", [f for f in FILES if not f.name.startswith(WITHOUT_RUNS)], ids=lambda p: p.stem
)
def test_every_profile_has_its_runs_and_they_are_specs(file, tmp_path, monkeypatch):
    p = book.read_parameters(file)
    assert isinstance(p, book.ChapterParameters)
    if file.stem.startswith("your_network") and file.stem != "your_network.gpu":
        monkeypatch.setattr(your_network.data, "num_classes", lambda _: 10)
    stages, runs = book.chapter_stages(p, store=wsn.Store(tmp_path)), []
    while len(runs) < 5:  # later stages of some chapters read what is in the store
        runs += next(stages)
    assert len({specs.spec_key(run) for run in runs}) > 4
    assert all(run.training.epochs >= 1 for run in runs if isinstance(run, wsn.Experiment))


def test_the_published_records_are_those_of_the_profiles_they_were_made_with(monkeypatch):
    monkeypatch.chdir(ROOT)
    known = your_network.data.num_classes
    monkeypatch.setattr(
        your_network.data,
        "num_classes",
        lambda spec: 10 if isinstance(spec, specs.PackedData) else known(spec),
    )
    store = wsn.Store(ROOT / "records")
    finished = store.keys()
    for file in (ROOT / "params").glob("*.cpu.yml"):
        stages = list(book.chapter_stages(book.read_parameters(file), store=store))
        assert {specs.spec_key(run) for runs in stages for run in runs} <= finished, file.name


def test_a_chapter_asks_for_no_run_that_wsn_run_does_not_make():
    """Whatever builds a spec that has a record does so in `wsnlib.book`, not in a page."""
    for path in sorted((ROOT / "book").glob("*.ipynb")):
        if path.stem in WITHOUT_RUNS:
            continue
        code = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
        text = "\n".join(code)
        assert re.search(r"chapter\.[rR]uns\(p\)", text), path.name
        for name in ("Experiment", "BlockOrigins", "OutputSimilarity", "KernelDistances", "ExampleImages"):
            assert f"wsn.{name}(" not in text, path.name


def test_parameters_of_the_command_are_those_of_the_page():
    for file in SMOKE:
        values = yaml.safe_load(file.read_text())
        read = json.loads(book.read_parameters(file).model_dump_json())
        assert {name: read[name] for name in values} == values
