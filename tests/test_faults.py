"""Faults that are really there: a killed kernel, a full disk, flipped bits, a clock that jumps, a NaN loss."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from reliability import fault

import wsnlib as wsn
from wsnlib import book, experiments, specs
from wsnlib.store import records

ROOT = Path(__file__).parent.parent


def training(seed: int = 0, **changes) -> wsn.Experiment:
    protocol = wsn.Training(**{"epochs": 3} | changes)
    return wsn.Experiment(
        model=wsn.MLPSpec(width=5, inputs=64), data=wsn.Digits(train_size=307), training=protocol, seed=seed
    )


RUNS = [training(seed) for seed in range(3)]


def sweep(store: wsn.Store, runs=RUNS) -> int:
    return wsn.run_missing(runs, store=store, workers=1, progress=False)


def stamps(store: wsn.Store) -> dict[str, str]:
    """When each record was written."""
    return {name: stamp for name, stamp in store._stamps(store._folder).items() if name.endswith(".json")}


KERNEL = """
import sys
sys.path.insert(0, "tests")
import wsnlib as wsn
from wsnlib.training import checkpoints
from test_faults import long_runs
checkpoints.Checkpoint.__init__.__kwdefaults__["seconds_between"] = 0.0
wsn.run_missing(long_runs(), store=wsn.Store({folder!r}), workers=1, progress=False)
"""


def long_runs() -> list[wsn.Experiment]:
    return [training(), training(seed=1, epochs=400, weight_decay_on="weights")]  # the second is not compiled


def test_a_killed_notebook_kernel_loses_no_record_and_no_epoch_that_was_kept(tmp_path):
    from jupyter_client.manager import KernelManager

    store, folder = wsn.Store(tmp_path / "store"), tmp_path / "store"
    short, long = long_runs()
    kernel = KernelManager(kernel_name="python3")
    with fault("kill -9 of the notebook kernel") as noted:
        kernel.start_kernel(cwd=str(ROOT), env=os.environ | {"PYTHONPATH": str(ROOT)})
        client = kernel.blocking_client()
        try:
            client.start_channels()
            client.wait_for_ready(timeout=600)
            client.execute(KERNEL.format(folder=str(folder)))
            deadline = time.monotonic() + 600
            while wsn.spec_key(long) not in store.under_way():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            os.kill(kernel.provisioner.pid, signal.SIGKILL)
        finally:
            client.stop_channels()
            kernel.shutdown_kernel(now=True)
        before = stamps(store)
        assert short in store and long not in store
        shorter = replace(long, training=replace(long.training, epochs=20))
        assert sweep(store, [short, shorter]) == 1  # the same command goes on
        state = store.checkpoint(long).read()
        record = wsn.run(long, device="cpu", file=lambda part: store.checkpoint(long, part=part))
        (epoch,) = record.environment["resumed_after"]
        noted(
            lost=sum(stamps(store)[name] != stamp for name, stamp in before.items()),
            how="the record is unchanged; the training went on from its last epoch that was kept",
        )
    assert state is not None and 1 <= epoch < 400
    whole = wsn.run(long, device="cpu")
    assert record.history == whole.history


FULL = """
import resource, sys
sys.path.insert(0, "tests")
import wsnlib as wsn
from test_faults import RUNS, sweep
wsn.load_data(RUNS[0].data)
resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))
try:
    sweep(wsn.Store(sys.argv[1]))
except wsn.StoreError as error:
    print(error)
"""


def test_a_full_disk_stops_the_sweep_at_once_and_leaves_nothing_torn(tmp_path):
    store = wsn.Store(tmp_path)
    sweep(store, RUNS[:1])
    before = stamps(store)
    with fault("a full disk") as noted:
        done = subprocess.run(
            [sys.executable, "-c", FULL, str(tmp_path)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert f"the store {tmp_path} cannot be written (File too large)" in done.stdout
        assert stamps(store) == before
        assert [p.name for p in tmp_path.iterdir() if p.is_file()] == list(before)
        assert sweep(store) == 2
        noted(
            lost=len(before.items() - stamps(store).items()),
            how="nothing but whole records is there; with space again the same call made the rest",
        )


def damage(path: Path, kind: str) -> None:
    data = bytearray(path.read_bytes())
    if kind == "torn":
        path.write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 2] ^= 4
        path.write_bytes(data)


@pytest.mark.parametrize("kind", ["torn", "flipped"])
def test_a_damaged_record_is_named_set_aside_and_made_again(kind, tmp_path):
    store = wsn.Store(tmp_path)
    sweep(store)
    good = store.load(RUNS[1])
    path = tmp_path / f"{wsn.spec_key(RUNS[1])}.json"
    with fault(f"a {kind.replace('flipped', 'bit-flipped')} record") as noted:
        damage(path, kind)
        damaged = path.read_bytes()
        before = stamps(store)
        for use in (store.load, lambda run: wsn.table([run], store=store)):
            with pytest.raises(wsn.StoreError, match=f"{path.name} cannot be used"):
                use(RUNS[1])
        with pytest.warns(
            RuntimeWarning, match=f"{path.name} cannot be used: .*; it was moved to .*made again"
        ):
            assert sweep(store) == 1
        (aside,) = (tmp_path / "damaged").iterdir()
        assert aside.read_bytes() == damaged
        again = store.load(RUNS[1])
        assert again.history == good.history
        assert np.array_equal(again.predictions, good.predictions)
        changed = {name for name, stamp in before.items() if stamps(store)[name] != stamp}
        noted(lost=len(changed - {path.name}), how="never used; made again with the bits it had")


def test_a_published_record_that_is_damaged_is_made_again_beside_it(tmp_path):
    sweep(wsn.Store(tmp_path / "published"), RUNS[:1])
    path = tmp_path / "published" / f"{wsn.spec_key(RUNS[0])}.json"
    damage(path, "torn")
    damaged = path.read_bytes()
    store = wsn.Store(tmp_path / "own", also=[tmp_path / "published"])
    with pytest.warns(RuntimeWarning, match="cannot be used: .*; it stays where it is, and its run is made"):
        assert sweep(store, RUNS[:1]) == 1
    assert path.read_bytes() == damaged
    assert store.load(RUNS[0]).status == "finished"
    assert sweep(store, RUNS[:1]) == 0


def test_where_a_published_record_takes_the_place_of_a_damaged_one_nothing_is_said_to_be_made(tmp_path):
    published = wsn.Store(tmp_path / "published")
    sweep(published, RUNS[:1])
    store = wsn.Store(tmp_path / "own", also=[published.path])
    store.save(published.load(RUNS[0]))
    damage(tmp_path / "own" / f"{wsn.spec_key(RUNS[0])}.json", "torn")
    with pytest.warns(RuntimeWarning, match=f"it was moved to .*, and the one in {published.path} is taken$"):
        assert sweep(store, RUNS[:1]) == 0


@pytest.mark.parametrize("kind", ["torn", "flipped"])
def test_a_damaged_data_file_is_named_and_never_trained_on(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("WSN_DATA", str(tmp_path / "data"))
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (97, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "mine.npz", train_x=x, train_y=np.arange(97) % 10)
    with fault(f"a {kind.replace('flipped', 'bit-flipped')} data file") as noted:
        mine = wsn.pack_data(tmp_path / "mine.npz", name="mine")
        runs = [replace(run, data=mine) for run in RUNS[:2]]
        store = wsn.Store(tmp_path / "store")
        assert sweep(store, runs[:1]) == 1
        before = stamps(store)
        (path,) = (p for p in (tmp_path / "data").rglob("*") if p.is_file())
        damage(path, kind)
        with pytest.raises((wsn.DataError, wsn.SweepError), match="mine"):
            sweep(store, runs)
        assert runs[1] not in store
        wsn.pack_data(tmp_path / "mine.npz", name="mine")
        assert sweep(store, runs) == 1
        lost = len(before.items() - stamps(store).items())
        noted(lost=lost, how="named, nothing trained on it; packed again, the same call goes on")


def test_a_clock_that_jumps_changes_nothing(tmp_path, monkeypatch):
    plain, jumping = wsn.Store(tmp_path / "plain"), wsn.Store(tmp_path / "jumping")
    sweep(plain)
    with fault("a clock that jumps by years, back and forth") as noted:
        clock, years = time.time, [10, -20, 15, -5]

        def jump() -> float:
            years.append(years.pop(0))
            return clock() + years[0] * 365 * 86400

        with monkeypatch.context() as patch:
            patch.setattr(time, "time", jump)
            assert sweep(jumping, RUNS[:2]) == 2
            for number, path in enumerate((tmp_path / "jumping").glob("*.json")):
                os.utime(path, (1, 1) if number else (2**33, 2**33))
            assert sweep(jumping) == 1
            assert sweep(jumping) == 0
            table = wsn.table(RUNS, store=jumping)
        assert table.equals(wsn.table(RUNS, store=plain))
        assert all(0 <= record.environment["seconds"] < 3600 for record in jumping)
        noted(lost=3 - len(list(jumping)), how="the table is that of a sweep without jumps, bit for bit")


def test_a_nan_loss_is_recorded_as_such_and_stops_nothing_else(tmp_path):
    store, wild = wsn.Store(tmp_path), training(learning_rate=1e30)
    with fault("a NaN loss") as noted:
        assert sweep(store, [RUNS[0], wild, RUNS[1]]) == 3
        assert [store.load(run).status for run in (RUNS[0], wild, RUNS[1])] == [
            "finished", "diverged", "finished",
        ]  # fmt: skip
        assert np.isnan(wsn.table([wild], store=store)["test_accuracy"]).all()
        assert sweep(store, [wild]) == 0
        noted(lost=3 - len(store.keys()), how="recorded as diverged, with no accuracy; the others finished")


# -- files of somebody else's --


class Attack:
    """Unpickled, it runs code."""

    def __reduce__(self):
        return os.system, ("touch attacked",)


@pytest.fixture
def nothing_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / "attacked").exists()


def sealed(content) -> str:
    """The content with a checksum that is right."""
    text = specs.canonical_json(content)
    return f'{{"sha256":"{hashlib.sha256(text.encode()).hexdigest()}","content":{text}}}\n'


HOSTILE = [
    {"class": "os.system", "command": "touch attacked"},
    {"class": "__import__", "name": "os"},
    {"class": "MLPSpec", "width": {"class": "eval", "source": "1"}},
    {"class": "MLPSpec", "width": 5, "extra": 1},
    {"class": ["MLPSpec"]},
    [],
    "touch attacked",
]


@pytest.mark.parametrize("spec", HOSTILE, ids=str)
def test_a_record_with_a_hostile_spec_runs_no_code_and_is_refused(spec, tmp_path, nothing_runs):
    store = wsn.Store(tmp_path / "store")
    sweep(store, RUNS[:1])
    path = tmp_path / "store" / f"{wsn.spec_key(RUNS[0])}.json"
    content = json.loads(path.read_text())["content"]
    path.write_text(sealed(content | {"spec": spec}))
    for read in (store.load, lambda run: store.summaries([run])):
        with pytest.raises(wsn.StoreError, match="cannot be used"):
            read(RUNS[0])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("predictions", {"dtype": "object", "zlib": "eJwDAAAAAAE="}, "lacks what a record has"),
        ("predictions", {"dtype": "uint8", "zlib": "not base64"}, "padding|base64|lacks|cut off"),
        ("predictions", "bomb", "larger than a record's may be"),
        ("history", [1], "lacks what a record has"),
        ("status", None, None),
    ],
    ids=str,
)
def test_hostile_content_is_refused(field, value, message, tmp_path, monkeypatch, nothing_runs):
    import base64
    import zlib

    monkeypatch.setattr(records, "MOST_UNPACKED", 10_000)
    if value == "bomb":
        packed = base64.b64encode(zlib.compress(bytes(20_000))).decode()
        value = {"dtype": "uint8", "zlib": packed}
    record = experiments.run(RUNS[0])
    content = json.loads(record.to_json())["content"] | {field: value}
    if message is None:
        del content[field]
        message = "lacks what a record has"
    with pytest.raises(ValueError, match=message):
        wsn.store.record_from_json(sealed(content))


def test_deep_nesting_is_no_record():
    with pytest.raises(ValueError, match="cut off or is no record"):
        wsn.store.record_from_json('{"sha256":"' + "0" * 64 + '","content":' + "[" * 10**6 + "}\n")


def test_pickles_are_no_checkpoint_and_no_parameters(tmp_path, nothing_runs):
    import pickle

    import torch

    store = wsn.Store(tmp_path / "store")
    file = store.checkpoint(RUNS[0])
    torch.save({"attack": Attack()}, tmp_path / "zip")
    for state in (pickle.dumps(Attack()), (tmp_path / "zip").read_bytes()):
        file.write(state)
        with pytest.warns(RuntimeWarning, match="a checkpoint cannot be used"):
            record = wsn.run(RUNS[0], device="cpu", file=lambda _: file)
        assert "resumed_after" not in record.environment
    path = tmp_path / "sparse_mlp.x.yml"
    path.write_text("widths: !!python/object/apply:os.system ['touch attacked']\n")
    with pytest.raises(
        ValueError, match="sparse_mlp.x.yml cannot be read: could not determine a constructor"
    ):
        book.read_parameters(path)
    path.write_text("- 1\n")
    with pytest.raises(ValueError, match="must hold a mapping of parameters, got list"):
        book.read_parameters(path)
    with pytest.raises(ValueError, match="must be bottlenecks, cka_blocks, .*, got .*mine.yml"):
        book.read_parameters(tmp_path / "mine.yml")


def test_the_store_knows_no_pickle():
    for package in ("store", "specs", "training", "book"):
        for path in (ROOT / "wsnlib" / package).rglob("*.py"):
            text = path.read_text()
            assert not any(f"import {m}" in text for m in ("pickle", "marshal", "shelve", "dill")), path
            assert not re.search(r"torch\.load|yaml\.load|(?<![.\w])(eval|exec)\(", text), path
