"""Bundles: what a machine without a network is given, what it makes of it, and what comes back."""

import dataclasses
import io
import json
import signal
import subprocess
import sys
import sysconfig
import tarfile
import venv
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_jpegs

import wsnlib as wsn
from wsnlib import book, cli, specs
from wsnlib.book.engine import bundles, offline
from wsnlib.data import archives

SMALL = """
widths: [5, 7]
last_layer_densities: [1.0]
activations: [relu]
seeds: [0]
epochs: 1
"""

NO_NETWORK = """
import socket

def refused(self, address):
    raise OSError("there is no network")

socket.socket.connect = refused
"""


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A parameter file of a few short trainings, and an empty store beside it."""
    monkeypatch.setenv("WSN_STORE", str(tmp_path / "store"))
    file = tmp_path / "sparse_mlp.smoke.yml"
    file.write_text(SMALL)
    return file


HERE = bundles.Machine(packages=tuple(f"{each.name}=={each.version}" for each in metadata.distributions()))
"""A machine that has all that is installed here."""


def runs_of(file: Path) -> list[wsn.Experiment]:
    p = book.read_parameters(file)
    return [run for stage in book.chapter_stages(p, store=wsn.default_store()) for run in stage]


def another_python(folder: Path) -> Path:
    """An interpreter that has this one's packages, but not this library, and no network."""
    venv.create(folder, with_pip=True, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "packages.pth").write_text(sysconfig.get_path("purelib"))
    (site / "sitecustomize.py").write_text(NO_NETWORK)
    return folder / "bin" / "python"


def in_background() -> None:
    """As a shell starts what is to run in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def program(python: Path | str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(python), str(folder / "run.py"), *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env={},
        preexec_fn=in_background,
    )


def test_a_machine_without_a_network_makes_what_is_missing_and_its_records_come_back(
    small, tmp_path, monkeypatch
):
    try:
        bundles._pip("download", "--no-deps", f"--dest={tmp_path / 'tried'}", "lazy-loader")
    except ValueError:
        pytest.skip("no package index can be reached")
    monkeypatch.setenv("PIP_RETRIES", "10")
    runs, store = runs_of(small), wsn.default_store()
    wsn.run_missing(runs[:1], store=store, progress=False)
    lacking = tuple(line for line in HERE.packages if not line.startswith("lazy"))
    machine = bundles.Machine(packages=lacking)
    sizes = bundles.bundle(
        [small], tmp_path / "out", stages=[runs], store=store, machine=machine, part_bytes=2**20
    )
    assert sizes["library"] > 500_000 > sizes["wheels"] > 5_000
    parts = sorted((tmp_path / "out").glob("bundle.tar.*"))
    assert [part.stat().st_size for part in parts[:-1]] == [2**20] * (len(parts) - 1)

    there, python = tmp_path / "there", another_python(tmp_path / "environment")
    there.mkdir()
    for name in ("run.py", "bundle.json"):
        (there / name).write_bytes((tmp_path / "out" / name).read_bytes())
    for part in parts:  # they come one by one, and do not stay
        done = program(python, there)
        assert done.returncode == 3 and part.name in done.stdout, done.stderr
        (there / part.name).write_bytes(part.read_bytes())
        if part != parts[-1]:
            assert program(python, there).returncode == 3
            (there / part.name).unlink()
    stopped = program(python, there, "--minutes", "0")
    assert stopped.returncode == 1, stopped.stderr
    assert [p.name for p in (there / "work" / "site").glob("lazy_loader")] == ["lazy_loader"]
    done = program(python, there, "--work", "work", "--workers", "1", "--part-mb", "0.004")
    assert done.returncode == 0, done.stdout + done.stderr
    made = sorted((there / "made").glob("records.tar.*"))
    assert len(made) > 1 and f"{len(runs)} records in {len(made)} file(s)" in done.stdout

    assert bundles.import_records(made, store) == (len(runs), len(runs) - 1)
    assert bundles.import_records([there / "work" / "store"], store) == (len(runs), 0)
    assert all(run in store for run in runs)
    commits = {store.load(run).environment["commit"] for run in runs}
    assert commits == {store.load(runs[0]).environment["commit"]}


@pytest.fixture
def out(small, tmp_path, monkeypatch):
    """A bundle without wheels in parts of 100 kB."""
    monkeypatch.setattr(bundles, "_wheels", lambda folder, machine: folder.mkdir())
    arguments = ["bundle", str(small), "--to", str(tmp_path / "out"), "--part-mb", "0.1"]
    from typer.testing import CliRunner

    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 0 and "MiB  library" in done.output, done.output
    return tmp_path / "out"


def test_a_damaged_part_is_named_and_nothing_is_unpacked(out):
    part = out / "bundle.tar.01"
    content = bytearray(part.read_bytes())
    content[5000] ^= 1
    part.write_bytes(content)
    done = program(sys.executable, out)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{part} is damaged; copy it again\n"
    assert not (out / "work" / "library").exists()


def test_another_bundle_in_the_same_place_is_unpacked_and_records_stay(out):
    work, parts = out / "work", json.loads((out / "bundle.json").read_text())["parts"]
    assert offline._unpack(out, work, parts) == 0
    (work / "store" / "mine.json").write_text("a record")
    (work / "library" / "old.py").write_text("")
    assert offline._unpack(out, work, parts) == 0
    assert (work / "library" / "old.py").exists()  # it is this bundle
    other = [part | {"bytes": 0} for part in parts]
    assert offline._unpack(out, work, other) == 0
    assert not (work / "library" / "old.py").exists()
    assert (work / "library" / "wsnlib" / "cli.py").exists()
    assert (work / "store" / "mine.json").read_text() == "a record"


def test_a_part_whose_copy_was_cut_off_is_copied_again(out):
    work, parts = out / "work", json.loads((out / "bundle.json").read_text())["parts"]
    (work / "parts").mkdir(parents=True)
    (work / "parts" / parts[0]["name"]).write_bytes(b"half")
    assert offline._unpack(out, work, parts) == 0


def test_a_second_bundle_replaces_the_parts_of_the_first(small, out, tmp_path):
    first = {path.name for path in out.iterdir()}
    bundles.bundle([small], out, stages=[], store=wsn.default_store(), machine=HERE, beside=[small])
    manifest = json.loads((out / "bundle.json").read_text())
    assert {p["name"] for p in manifest["parts"]} == {"bundle.tar.00"} < first
    assert {path.name for path in out.iterdir()} == {"bundle.tar.00", "bundle.json", "run.py"}
    offline.unpack([out / "bundle.tar.00"], tmp_path / "unpacked")
    assert (tmp_path / "unpacked" / small.name).read_text() == SMALL


def test_a_planned_file_takes_the_place_of_no_other(small, tmp_path):
    planned = tmp_path / "planned" / small.name
    planned.parent.mkdir()
    planned.write_text(SMALL.replace("epochs: 1", "epochs: 2"))
    out = tmp_path / "out"
    bundles.bundle([small, planned], out, stages=[], store=wsn.default_store(), machine=HERE)
    names = json.loads((out / "bundle.json").read_text())["parameters"]
    assert names == ["params/sparse_mlp.smoke.yml", "params/planned/sparse_mlp.smoke.yml"]
    offline.unpack([out / "bundle.tar.00"], tmp_path / "unpacked")
    read = [book.read_parameters(tmp_path / "unpacked" / name) for name in names]
    assert read == [book.read_parameters(file) for file in (small, planned)]
    assert [p.epochs for p in read] == [1, 2]


def test_data_are_those_that_the_runs_name(small_mnist, tmp_path, monkeypatch):
    monkeypatch.setenv("WSN_DATA", str(tmp_path))
    archives.write_archive(archives.canonical(small_mnist, ""), tmp_path / "mnist.npz")
    training = specs.Training(epochs=1)
    net = specs.MLPSpec(width=5)
    on_mnist = specs.Experiment(model=net, data=specs.MNIST(), training=training)
    others = specs.Experiment(model=net, data=specs.MNIST(train_size=20), training=training)
    digits = specs.Experiment(model=specs.MLPSpec(width=5, inputs=64), data=specs.Digits(), training=training)
    both = specs.OutputSimilarity(experiments=(on_mnist, others))
    bundles._data(tmp_path / "packed", [digits, both])
    assert [path.name for path in (tmp_path / "packed").iterdir()] == ["mnist.npz"]
    assert (tmp_path / "packed" / "mnist.npz").read_bytes() == (tmp_path / "mnist.npz").read_bytes()

    streamed = specs.Experiment(
        model=specs.ResNetImageNetSpec(), data=specs.ImageNet(normalisation="imagenet"), training=training
    )
    with pytest.raises(ValueError, match="must be packed or photographs of your own, got ImageNet"):
        bundles._data(tmp_path / "none", [streamed])


def test_photographs_go_as_they_are_and_once(tmp_path, monkeypatch):
    monkeypatch.setenv("WSN_DATA", str(tmp_path))
    write_jpegs(tmp_path / "pets")
    pets = wsn.image_folder("pets", image_size=32)
    training, net = specs.Training(epochs=1), specs.ResNetImageNetSpec()
    sizes = [dataclasses.replace(pets, image_size=size) for size in (32, 64)]
    runs = [specs.Experiment(model=net, data=each, training=training) for each in sizes]
    bundles._data(tmp_path / "bundled", runs)
    assert [path.name for path in (tmp_path / "bundled").iterdir()] == ["pets"]
    there = wsn.load_data(pets, root=tmp_path / "bundled").train
    (batch,), (expected,) = (
        [images for images, _ in each.batches(torch.arange(len(each.labels)), batch_size=99)]
        for each in (there, wsn.load_data(pets).train)
    )
    assert torch.equal(batch, expected)


def test_a_frozen_environment_is_read_as_pip_prints_it():
    lines = (
        "torch==2.11.0+cu130",
        "Scikit_Learn==1.5.2",
        "mine @ file:///somewhere/mine.whl",
        "-e git+https://x#y",
        "",
    )
    versions = bundles.Machine(packages=lines).versions
    assert versions == {"torch": "2.11.0", "scikit-learn": "1.5.2", "mine": ""}


def test_what_is_there_ends_the_search_and_markers_are_those_of_the_machine():
    chosen = {
        "a": {"requires_dist": ["b>=1", "c; python_version < '3.12'", "d; extra == 'more'"]},
        "b": {"requires_dist": ["e; sys_platform == 'win32'", "torch", "f; platform_machine == 'aarch64'"]},
        "c": {},
        "f": {"requires_dist": ["a"]},
    }
    machine = bundles.Machine(python="3.11", packages=("torch==2.11.0",))
    assert bundles._closure(["a"], chosen, machine) == {"a", "b", "c"}
    other = bundles.Machine(python="3.12", platforms=("manylinux_2_28_aarch64",), packages=("torch==2.11.0",))
    assert bundles._closure(["a"], chosen, other) == {"a", "b", "f"}


def test_a_package_that_has_no_wheel_is_named():
    with pytest.raises(ValueError, match="every wheel must be had for that machine, got: ERROR: .*nowhere"):
        bundles._pip("download", "--no-index", "--no-deps", "nowhere-to-be-had==1")


def test_parts_are_one_archive(tmp_path):
    content = np.random.default_rng(0).bytes(10_000)
    with offline.tar_in_parts(tmp_path / "x.tar", 3001) as (archive, parts):
        item = tarfile.TarInfo("folder/content")
        item.size = len(content)
        archive.addfile(item, io.BytesIO(content))
    assert len(parts) == 7 and {p.stat().st_size for p in parts[:-1]} == {3001}
    offline.unpack(parts, tmp_path / "out")
    assert (tmp_path / "out" / "folder" / "content").read_bytes() == content


def test_names_that_lead_out_of_the_folder_are_not_followed(tmp_path):
    with tarfile.open(tmp_path / "records.tar.00", "w") as archive:
        item = tarfile.TarInfo("../outside")
        item.size = 1
        archive.addfile(item, io.BytesIO(b"x"))
    with pytest.raises(ValueError, match="must hold files and folders alone, got ../outside"):
        offline.unpack([tmp_path / "records.tar.00"], tmp_path / "new")
    assert not (tmp_path / "outside").exists()


def test_links_in_an_archive_are_refused(tmp_path):
    with tarfile.open(tmp_path / "records.tar.00", "w") as archive:
        item = tarfile.TarInfo("link")
        item.type, item.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(item)
    with pytest.raises(ValueError, match="must hold files and folders alone, got link"):
        offline.unpack([tmp_path / "records.tar.00"], tmp_path / "new")


@pytest.mark.parametrize("lacks", ["python", "pip"])
def test_a_machine_that_cannot_run_a_bundle_says_so_first(lacks, tmp_path, monkeypatch, capsys):
    here = ".".join(map(str, sys.version_info[:2]))
    manifest = {"python": "3.99" if lacks == "python" else here, "parameters": [], "parts": []}
    (tmp_path / "bundle.json").write_text(json.dumps(manifest))
    monkeypatch.setattr(offline, "__file__", str(tmp_path / "run.py"))
    monkeypatch.setattr(offline, "find_spec", lambda _: None)
    with pytest.raises(SystemExit) as ended:
        offline.main([])
    wanted = {
        "python": f"Python must be 3.99, as in the bundle, got {here}",
        "pip": "must have pip, got none",
    }
    assert ended.value.code == 2 and wanted[lacks] in capsys.readouterr().err


def test_what_is_no_record_is_not_taken(small, tmp_path):
    store = wsn.default_store()
    wsn.run_missing(runs_of(small)[:1], store=store, progress=False)
    (record,) = Path(store.path).glob("*.json")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / record.name).write_text(
        record.read_text().replace('"status":"finished"', '"status":"diverged"')
    )
    good = wsn.Store(damaged)
    good.save(stub(1))
    with pytest.raises(wsn.StoreError, match="^1 records cannot be used, and 1 of the 1 others .* checksum$"):
        bundles.import_records([damaged], wsn.Store(tmp_path / "new"))
    assert wsn.Store(tmp_path / "new").keys() == {stub(1).key}
    with pytest.raises(
        ValueError, match="records must be a folder or the parts of an archive, got .*nowhere"
    ):
        bundles.import_records([tmp_path / "nowhere"], store)


def test_more_than_a_hundred_parts_are_read_in_their_order(tmp_path):
    source, new = wsn.Store(tmp_path / "made"), wsn.Store(tmp_path / "new")
    labels = wsn.ExampleLabels(data=wsn.MNIST())
    source.save(
        wsn.store.MeasurementRecord(
            experiment=labels, status="finished", arrays={"labels": np.arange(50, dtype=np.uint8)}
        )
    )
    with offline.tar_in_parts(tmp_path / "records.tar", 97) as (archive, parts):
        for file in sorted((tmp_path / "made").iterdir()):
            archive.add(file, file.name)
    assert len(parts) > 100
    assert bundles.import_records(parts, new) == (1, 1)
    assert labels in new


def stub(number: int) -> wsn.store.MeasurementRecord:
    return wsn.store.MeasurementRecord(
        experiment=wsn.ExampleLabels(data=wsn.MNIST(train_size=number)),
        status="finished",
        arrays={"labels": np.arange(50, dtype=np.uint8)},
    )


def packed(folder, numbers, size=2**20) -> list[Path]:
    store = wsn.Store(folder / "made")
    for number in numbers:
        store.save(stub(number))
    with offline.tar_in_parts(folder / "records.tar", size) as (archive, parts):
        for file in sorted((folder / "made").glob("*.json")):
            archive.add(file, file.name)
    return parts


def test_archives_of_two_machines_are_each_unpacked_and_a_folder_of_parts_is_one(tmp_path):
    first, second = packed(tmp_path / "a", (1, 2)), packed(tmp_path / "b", (3, 4, 5), size=3000)
    assert len(second) > 2
    for number, places in enumerate(([*first, *second], [tmp_path / "a", tmp_path / "b"])):
        store = wsn.Store(tmp_path / f"store{number}")
        assert bundles.import_records(places, store) == (5, 5)
        assert bundles.import_records(places, store) == (5, 0)
    (tmp_path / "none").mkdir()
    assert bundles.import_records([tmp_path / "none"], store) == (0, 0)


def test_an_archive_that_is_not_there_as_a_whole_is_refused(tmp_path):
    parts, store = packed(tmp_path, (1, 2, 3), size=512), wsn.Store(tmp_path / "store")
    with pytest.raises(ValueError, match=r"must be \.00, \.01, …, got \.01, \.02"):
        bundles.import_records(parts[1:], store)
    for some in (parts[:1], parts[:6]):
        with pytest.raises(ValueError, match="must hold all parts of an archive, got one without its end"):
            bundles.import_records(some, store)
    (tmp_path / "text").write_bytes(b"x" * 5000 + bytes(1024))
    with pytest.raises(ValueError, match="text must be part of an archive, got something else"):
        bundles.import_records([tmp_path / "text"], store)
    assert store.keys() == set()
