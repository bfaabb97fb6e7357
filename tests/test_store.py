"""Records: whole or not there, checked on reading, never run."""

import base64
import hashlib
import json
import os
import tempfile
import zlib
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import platformdirs
import pytest

import wsnlib as wsn
from wsnlib import specs
from wsnlib.store import folders

RUN = wsn.Experiment(model=wsn.MLPSpec(width=5), data=wsn.MNIST(), training=wsn.Training(epochs=3))


def record(run: wsn.Experiment = RUN) -> wsn.Record:
    return wsn.Record(
        experiment=run,
        status="finished",
        history={"train_loss": [1.5, 0.25, float("nan")], "test_accuracy": [0.5, 0.75, 0.625]},
        reported_epoch=2,
        train_accuracy=0.875,
        predictions=np.arange(10_000, dtype=np.uint8) % 10,
        network={
            "num_weights": 3970,
            "connectivity": 1.0,
            "weights_per_layer": {"hidden1": 3920, "output": 50},
        },
        environment={"torch": "2", "seconds": 1.25},
    )


def test_a_record_survives_the_store(tmp_path):
    store = wsn.Store(tmp_path / "new" / "store")
    assert RUN not in store
    store.save(record())
    assert RUN in store
    loaded = store.load(RUN)
    assert loaded.experiment == RUN
    assert loaded.history["test_accuracy"] == [0.5, 0.75, 0.625]
    assert np.isnan(loaded.history["train_loss"][2])
    assert np.array_equal(loaded.predictions, record().predictions)
    assert loaded.predictions.dtype == np.uint8
    assert (loaded.reported_epoch, loaded.train_accuracy) == (2, 0.875)
    assert (loaded.network, loaded.environment) == (record().network, record().environment)
    assert loaded.reported("test_accuracy") == 0.75
    assert [p.name for p in store.path.iterdir()] == [f"{wsn.spec_key(RUN)}.json"]
    assert (store.path / f"{wsn.spec_key(RUN)}.json").stat().st_size < 12_000
    assert [r.key for r in store] == [wsn.spec_key(RUN)]


def test_numbers_are_kept_to_a_millionth_and_predictions_whole(tmp_path):
    store, values = wsn.Store(tmp_path), [1 / 3, 2 / 3, 2 / 7]
    predictions = np.array([0, 255, 256, 307], dtype=np.int16)
    store.save(replace(record(), history={"test_accuracy": values}, predictions=predictions))
    loaded = store.load(RUN)
    assert loaded.history["test_accuracy"] == pytest.approx(values, rel=0, abs=5.1e-7)
    assert loaded.predictions.dtype == np.int16
    assert loaded.predictions.tolist() == [0, 255, 256, 307]
    assert loaded.predictions.flags.writeable


def test_records_come_in_order_of_their_keys(tmp_path):
    store, runs = wsn.Store(tmp_path), [replace(RUN, seed=s) for s in range(13)]
    for run in runs:
        store.save(record(run))
    assert [r.key for r in store] == sorted(map(wsn.spec_key, runs))


def test_a_missing_record_is_named(tmp_path):
    with pytest.raises(KeyError, match=f"no record {wsn.spec_key(RUN)} in .*; wsn.run_missing makes it"):
        wsn.Store(tmp_path).load(RUN)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2], "it is cut off or is no record"),
        (lambda text: "", "it is cut off or is no record"),
        (lambda text: text.replace("0.75", "0.85"), "its content does not match its checksum"),
        (lambda text: json.dumps({"content": {}, "sha256": 3}), "its content does not match its checksum"),
    ],
)
def test_a_damaged_record_is_named_and_never_used(damage, message, tmp_path):
    store = wsn.Store(tmp_path)
    store.save(record())
    file = tmp_path / f"{wsn.spec_key(RUN)}.json"
    file.write_text(damage(file.read_text()))
    advice = "wsn.run_missing sets it aside and makes it again"
    for read in (lambda: store.load(RUN), lambda: list(store), lambda: store.summaries([RUN])):
        with pytest.raises(wsn.StoreError, match=f"{file.name} cannot be used: {message}; {advice}"):
            read()
    assert file.exists()


def test_a_record_of_another_spec_version_is_refused(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(specs, "SPEC_VERSION", 7)
        text = record().to_json()
    with pytest.raises(ValueError, match="it is of spec version 7; 1, 2 are read here"):
        wsn.store.record_from_json(text)


def test_a_record_made_before_a_field_was_added_means_its_default():
    content = json.loads(record().to_json())["content"]
    content["spec_version"] = 1
    del content["spec"]["training"]["decayed"], content["spec"]["training"]["evaluate_every"]
    checksum = hashlib.sha256(specs.canonical_json(content).encode()).hexdigest()
    old = wsn.store.record_from_json(json.dumps({"sha256": checksum, "content": content}))
    assert old.experiment == record().experiment
    assert np.array_equal(old.predictions, record().predictions)


def test_a_record_under_another_key_is_refused(tmp_path):
    store = wsn.Store(tmp_path)
    store.save(record())
    other = replace(RUN, seed=1)
    (tmp_path / f"{wsn.spec_key(RUN)}.json").rename(tmp_path / f"{wsn.spec_key(other)}.json")
    for read in (store.load, lambda run: store.summaries([run])):
        with pytest.raises(wsn.StoreError, match=f"was made by another spec, of key {wsn.spec_key(RUN)}"):
            read(other)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_record_and_no_remains(step, tmp_path, monkeypatch):
    store = wsn.Store(tmp_path)
    store.save(record())

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(
        wsn.StoreError,
        match="cannot be written \\(No space left on device\\); give wsn.Store, --store or WSN_STORE",
    ):
        store.save(replace(record(), status="diverged"))
    assert store.load(RUN).status == "finished"
    assert len(list(tmp_path.iterdir())) == 1


@contextmanager
def as_nobody():
    """Without the rights of root, which may write anywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_read_only_store_is_noticed_before_any_training():
    run_missing = wsn.run_missing  # imported while all files can be read
    new = replace(RUN, data=wsn.Digits(), model=wsn.MLPSpec(width=5, inputs=64))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store"
        wsn.Store(path).save(record())
        path.parent.chmod(0o755)
        path.chmod(0o555)
        with as_nobody():
            store = wsn.Store(path)
            assert store.load(RUN).status == "finished"
            for write in (lambda: store.save(record(new)), lambda: run_missing([new], store=store)):
                with pytest.raises(
                    wsn.StoreError, match="the store .* cannot be written \\(Permission denied\\)"
                ):
                    write()
        assert len(list(path.iterdir())) == 1
        path.chmod(0o755)


def test_published_records_are_read_and_never_written(tmp_path):
    wsn.Store(tmp_path / "published").save(record())
    before = sorted((tmp_path / "published").iterdir())
    store = wsn.Store(tmp_path / "mine", also=[tmp_path / "published"])
    other = replace(RUN, seed=1)
    store.save(record(other))
    assert RUN in store
    assert store.load(RUN).experiment == RUN
    assert len(list(store)) == 2
    assert sorted((tmp_path / "published").iterdir()) == before


def test_a_record_of_ones_own_goes_before_a_published_one(tmp_path):
    wsn.Store(tmp_path / "published").save(record())
    store = wsn.Store(tmp_path / "mine", also=[tmp_path / "published"])
    store.save(replace(record(), status="diverged"))
    assert store.load(RUN).status == "diverged"
    assert [r.status for r in store] == [s.status for s in store.summaries([RUN])] == ["diverged"]


def test_the_default_store_is_set_by_the_environment_and_finds_the_book(tmp_path, monkeypatch):
    (tmp_path / "book").mkdir()
    (tmp_path / "_toc.yml").write_text("")
    (tmp_path / "book" / "_toc.yml").symlink_to("../_toc.yml")  # where Jupyter opens a chapter
    monkeypatch.setenv("WSN_STORE", str(tmp_path / "s"))
    for folder in (tmp_path, tmp_path / "book"):
        monkeypatch.chdir(folder)
        store = wsn.default_store()
        assert store.path == tmp_path / "s"
        assert store.also == (tmp_path / "records",)


# -- what is in a store beside its records --------------------------------------------------------

OTHER = replace(RUN, seed=1)


def test_a_failure_is_known_until_the_run_has_a_record(tmp_path):
    store = wsn.Store(tmp_path)
    assert store.failures() == {}
    notes = {
        wsn.spec_key(run): wsn.store.Failure(experiment=run, error="E: é", traceback="at 1\nat 2")
        for run in (RUN, OTHER)
    }
    for note in notes.values():
        store.note_failure(note)
    (tmp_path / "failures" / f"{'0' * specs.KEY_LENGTH}.json").write_text('{"spec": ')  # torn
    (tmp_path / "failures" / f"{'1' * specs.KEY_LENGTH}.json").write_text("{}")
    (tmp_path / "failures" / f"{'2' * specs.KEY_LENGTH}.json").write_text("[]")
    (tmp_path / "failures" / "notes.json").write_text("of somebody else")
    assert store.failures() == notes
    content = {"spec": specs.to_dict(RUN), "error": "E: é", "traceback": "at 1\nat 2"}
    written = (tmp_path / "failures" / f"{wsn.spec_key(RUN)}.json").read_text()
    assert written == json.dumps(content, indent=1)  # for people, too
    store.save(record())
    assert store.failures() == {wsn.spec_key(OTHER): notes[wsn.spec_key(OTHER)]}


@pytest.mark.parametrize(
    ("folder", "name", "opened"),
    [
        ("checkpoints", "{}.0.safetensors", lambda s: s.checkpoint(RUN)),
        ("checkpoints", "{}.2.safetensors", lambda s: s.checkpoint(RUN, part=2)),
        ("networks", "{}.safetensors", lambda s: s.network(RUN)),
    ],
)
def test_a_state_is_kept_whole_or_named_as_damaged(folder, name, opened, tmp_path):
    store = wsn.Store(tmp_path)
    file, path = opened(store), tmp_path / folder / name.format(wsn.spec_key(RUN))
    assert file.read() is None
    assert file.set_aside() is None
    for state in (b"one\nand more", b""):
        file.write(state)
        assert file.read() == state
        assert path.read_bytes() == hashlib.sha256(state).hexdigest().encode() + b"\n" + state
    assert list(path.parent.iterdir()) == [path]
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ValueError, match="^its content does not match its checksum$"):
        file.read()
    data = path.read_bytes()
    kept = f"damaged/{hashlib.sha256(data).hexdigest()[:8]}.{path.name}"
    assert file.set_aside() == f"{tmp_path}/{kept}"
    assert (file.read(), (tmp_path / kept).read_bytes()) == (None, data)
    file.write(b"new")
    file.remove()
    assert file.read() is None
    file.remove()


def test_what_no_sweep_needs_is_named_and_removed_and_nothing_else(tmp_path):
    store, done, open_ = wsn.Store(tmp_path), wsn.spec_key(RUN), wsn.spec_key(OTHER)
    assert store.remains() == wsn.store.Remains(temporary=(), checkpoints=(), failures=(), damaged=())
    for run in (RUN, OTHER):
        store.checkpoint(run).write(b"state")
        store.checkpoint(run, part=1).write(b"state")
        store.note_failure(wsn.store.Failure(experiment=run, error="", traceback=""))
    assert store.under_way() == {done, open_}
    store.save(record())
    assert store.under_way() == {open_}
    written = [".b.tmp", ".a.tmp", "checkpoints/.c.tmp", "failures/.d.tmp", "networks/.n.tmp"]
    (tmp_path / "checkpoints" / f"{done}.0.safetensors (copy)").write_bytes(b"")  # somebody else's
    for name in (*written, "e.tmp", ".index", "damaged/z", "damaged/y"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert store.under_way() == {open_}
    remains = store.remains()
    assert remains == wsn.store.Remains(
        temporary=(".a.tmp", ".b.tmp", "checkpoints/.c.tmp", "failures/.d.tmp", "networks/.n.tmp"),
        checkpoints=(f"checkpoints/{done}.0.safetensors", f"checkpoints/{done}.1.safetensors"),
        failures=(f"failures/{done}.json",),
        damaged=("damaged/y", "damaged/z"),
    )
    store.remove([*remains.temporary, *remains.checkpoints, *remains.failures, *remains.damaged])
    assert store.remains() == wsn.store.Remains(temporary=(), checkpoints=(), failures=(), damaged=())
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == sorted(
        [".index", "e.tmp", f"{done}.json", f"failures/{open_}.json"]
        + [f"checkpoints/{open_}.{part}.safetensors" for part in (0, 1)]
        + [f"checkpoints/{done}.0.safetensors (copy)"]
    )  # fmt: skip


def test_what_is_left_of_a_hidden_file_after_a_kill_can_be_removed(tmp_path, monkeypatch):
    store, seen = wsn.Store(tmp_path), []
    monkeypatch.setattr(folders.os, "fsync", lambda _: seen.extend(os.listdir(tmp_path)))
    store.check_writable()
    (name,) = seen
    (tmp_path / name).write_bytes(b"half")
    assert store.remains().temporary == (name,)
    store.remove([name])
    assert os.listdir(tmp_path) == []


def test_one_folder_is_no_list_of_folders(tmp_path):
    with pytest.raises(
        ValueError, match=r"also must be a list of folders, got 'records'; give \['records'\]"
    ):
        wsn.Store(tmp_path, also="records")


def test_a_record_is_found_in_every_folder_and_made_in_ones_own(tmp_path):
    wsn.Store(tmp_path / "published").save(record())
    store = wsn.Store(tmp_path / "mine", also=[tmp_path / "none", tmp_path / "published"])
    store.save(record(OTHER))
    assert [store.has_made(run) for run in (RUN, OTHER)] == [False, True]
    assert [store.place(run) for run in (RUN, OTHER)] == [tmp_path / "published", tmp_path / "mine"]
    third, key = replace(RUN, seed=2), wsn.spec_key(replace(RUN, seed=2))
    for read, name in (
        (store.load, key),
        (store.place, f"{key}.json"),
        (lambda r: store.summaries([r]), key),
    ):
        with pytest.raises(KeyError) as caught:
            read(third)
        assert caught.value.args == (f"no record {name} in {tmp_path / 'mine'}; wsn.run_missing makes it",)
    assert store.set_aside(RUN) is None  # of somebody else
    assert store.keys() == {wsn.spec_key(run) for run in (RUN, OTHER)}
    assert [s.key for s in store.summaries([OTHER, RUN, OTHER])] == [
        wsn.spec_key(r) for r in (OTHER, RUN, OTHER)
    ]


def test_records_are_copied_that_the_target_lacks_and_none_if_one_is_missing(tmp_path):
    store, target = wsn.Store(tmp_path / "a", also=[tmp_path / "c"]), wsn.Store(tmp_path / "b")
    runs = [replace(RUN, seed=seed) for seed in range(5)]
    for run in runs[:4]:
        (store if run.seed else wsn.Store(tmp_path / "c")).save(record(run))
    with pytest.raises(KeyError, match=wsn.spec_key(runs[4])):
        store.export(runs, target)
    assert target.keys() == set()
    assert store.export(runs[:2] * 2, target) == 2
    assert store.export(runs[:4], target) == 2
    assert store.export(runs[:4], target) == 0
    assert target.keys() == set(map(wsn.spec_key, runs[:4]))
    assert target.load(runs[0]).to_json() == record(runs[0]).to_json()


def test_a_store_that_cannot_be_read_or_written_is_named_in_these_words(tmp_path, monkeypatch):
    store = wsn.Store(tmp_path)
    store.save(record())
    store.check_writable()
    assert [path.name for path in tmp_path.iterdir()] == [f"{wsn.spec_key(RUN)}.json"]
    for error, said in (
        (PermissionError(13, "Permission denied"), "Permission denied"),
        (OSError("gone"), "gone"),
    ):

        def fails(*_, error=error):
            raise error

        for part in ("has", "read", "stamps", "publish", "remove"):
            monkeypatch.setattr(wsn.store.folders.LocalFolder, part, fails)
        looks = [getattr(store, name) for name in ("load", "has_made", "place", "set_aside", "__contains__")]
        for read in (*(partial(look, RUN) for look in looks), store.keys):
            with pytest.raises(wsn.StoreError) as caught:
                read()
            assert str(caught.value) == f"the store {tmp_path} cannot be read ({said})"
        for write in (
            lambda: store.save(record()),
            store.check_writable,
            lambda: store.remove(["damaged/a"]),
            lambda: store.network(RUN).write(b""),
        ):
            with pytest.raises(wsn.StoreError) as caught:
                write()
            assert str(caught.value) == (
                f"the store {tmp_path} cannot be written ({said}); "
                "give wsn.Store, --store or WSN_STORE a folder that can"
            )


def test_notes_that_cannot_be_read_are_an_unreadable_store(tmp_path, monkeypatch):
    store = wsn.Store(tmp_path)
    store.note_failure(wsn.store.Failure(experiment=RUN, error="", traceback=""))

    def fails(*_):
        raise OSError("503")

    monkeypatch.setattr(wsn.store.folders.LocalFolder, "read", fails)
    with pytest.raises(wsn.StoreError, match=rf"the store {tmp_path}/failures cannot be read \(503\)"):
        store.failures()


def test_damage_is_said_in_these_words(tmp_path):
    store, key = wsn.Store(tmp_path), wsn.spec_key(RUN)
    (tmp_path / f"{key}.json").write_text(record(OTHER).to_json())
    why = f"the record {tmp_path}/{key}.json cannot be used: it was made by another spec, of key {wsn.spec_key(OTHER)}"
    for read in (lambda: store.load(RUN), lambda: store.summaries([RUN])):
        with pytest.raises(wsn.StoreError) as caught:
            read()
        assert str(caught.value) == f"{why}; wsn.run_missing sets it aside and makes it again"
    assert store.damaged([RUN, OTHER]) == {key: why}
    kept = store.set_aside(RUN)
    data = record(OTHER).to_json().encode()
    assert kept == f"{tmp_path}/damaged/{hashlib.sha256(data).hexdigest()[:8]}.{key}.json"
    assert Path(kept).read_bytes() == data
    assert RUN not in store
    assert store.damaged([RUN]) == {}


def test_a_folder_lists_its_files_alone(tmp_path):
    folder = wsn.store.folders.open_folder(tmp_path / "new")
    assert folder.stamps() == {}
    (tmp_path / "new" / "inner").mkdir(parents=True)
    (tmp_path / "new" / "gone").symlink_to("nowhere")
    folder.publish("a", b"12")
    assert list(folder.stamps()) == ["a"]
    assert [folder.has(name) for name in ("a", "b", "inner")] == [True, False, False]
    assert folder.read("a") == b"12"
    assert (tmp_path / "new" / "a").stat().st_size == 2
    (tmp_path / "file").write_text("")
    assert wsn.store.folders.open_folder(tmp_path / "file").stamps() == {}


# -- what a record keeps ----------------------------------------------------------------------


def test_a_record_keeps_arrays_of_any_shape():
    arrays = {"a": np.arange(30, dtype=np.int16).reshape(2, 3, 5), "b": np.array(7, dtype=np.uint8)}
    arrays["c"] = np.arange(12, dtype=np.uint8).reshape(3, 4).T
    arrays["d"] = np.array([40_000, 7], dtype=np.int32)
    labels = wsn.ExampleLabels(data=wsn.MNIST())
    made = wsn.store.MeasurementRecord(experiment=labels, status="finished", arrays=arrays)
    loaded = wsn.store.record_from_json(made.to_json())
    assert set(loaded.arrays) == set("abcd")
    for name, array in made.arrays.items():
        assert loaded.arrays[name].dtype == array.dtype
        assert np.array_equal(loaded.arrays[name], array)
        assert loaded.arrays[name].shape == array.shape
    assert "arrays" not in json.loads(record().to_json())["content"]
    assert loaded.to_json() == made.to_json()


def test_what_is_no_training_is_read_as_what_it_is_and_has_no_epochs():
    inputs = wsn.GaussianInputs(dimension=3)
    spec = wsn.KernelSimulation(inputs=inputs, widths=(5,), densities=(0.5,), num_pairs=2, num_networks=2)
    made = wsn.store.MeasurementRecord(
        experiment=spec, status="finished", columns={"gp": [0.25, 0.5]}, names={"of": "kernels"}
    )
    made = replace(made, environment={"seconds": 1.25})
    loaded = wsn.store.record_from_json(made.to_json())
    assert loaded == made
    of_training = json.loads(made.to_json())["content"]
    assert of_training.keys() == json.loads(record().to_json())["content"].keys()
    assert of_training["history"] == made.columns and of_training["network"] == made.names
    assert (
        of_training["reported_epoch"] is of_training["train_accuracy"] is of_training["predictions"] is None
    )


@pytest.mark.parametrize("kind", [wsn.store.Record, wsn.store.MeasurementRecord])
def test_published_records_are_written_as_they_were_read(kind):
    texts = [path.read_text() for path in sorted(Path("records").glob("*.json"))[::23]]
    found = [(wsn.store.record_from_json(text), text) for text in texts]
    of_kind = [(one, text) for one, text in found if isinstance(one, kind)]
    for one, text in of_kind:
        version = json.loads(text)["content"]["spec_version"]
        assert version < specs.SPEC_VERSION or one.to_json() == text
    assert len(of_kind) >= 3


def sealed(**changed) -> str:
    content = json.loads(record().to_json())["content"] | changed
    text = specs.canonical_json(content)
    return json.dumps({"sha256": hashlib.sha256(text.encode()).hexdigest(), "content": content}, indent=1)


def test_a_record_that_is_laid_out_anew_is_read_and_one_that_lacks_something_is_named():
    assert wsn.store.record_from_json(sealed()).to_json() == record().to_json()
    for read in (wsn.store.record_from_json, wsn.store.records.Summary.of_text):
        with pytest.raises(ValueError, match=r"^it lacks what a record has \(AttributeError: .*'items'\)$"):
            read(sealed(history=3))
    with pytest.raises(ValueError, match=r"^it lacks what a record has \(KeyError: 'float64'\)$"):
        wsn.store.record_from_json(sealed(predictions={"dtype": "float64", "zlib": "eJwDAAAAAAE="}))
    with pytest.raises(ValueError, match="^it is cut off or is no record$"):
        wsn.store.record_from_json("[1]")
    for nothing in ({}, [], 3, None):
        text = specs.canonical_json(nothing)
        whole = json.dumps({"sha256": hashlib.sha256(text.encode()).hexdigest(), "content": nothing})
        with pytest.raises(ValueError, match="^it is of spec version None; 1, 2 are read here$"):
            wsn.store.record_from_json(whole)


def test_an_array_that_claims_too_much_is_refused_before_it_fills_the_memory(monkeypatch):
    monkeypatch.setattr(wsn.store.records, "MOST_UNPACKED", 10_000)
    assert len(wsn.store.record_from_json(record().to_json()).predictions) == 10_000
    large = replace(record(), predictions=np.zeros(10_001, dtype=np.uint8))
    with pytest.raises(ValueError, match="^an array of it is cut off, or larger than a record's may be$"):
        wsn.store.record_from_json(large.to_json())


def test_a_run_that_diverged_reports_no_number(tmp_path):
    store = wsn.Store(tmp_path)
    store.save(replace(record(), status="diverged", reported_epoch=None, predictions=None))
    assert np.isnan(store.load(RUN).reported("test_accuracy"))
    (summary,) = store.summaries([RUN])
    assert (summary.reported_epoch, summary.reported) == (None, {})
    assert summary.last["test_accuracy"] == 0.625
    assert np.isnan(summary.last["train_loss"])


# -- the index --------------------------------------------------------------------------------


def test_the_index_is_written_when_it_pays_and_keeps_what_is_still_there(tmp_path, monkeypatch):
    index = wsn.store.index
    monkeypatch.setattr(index, "PAYS_FROM", 3)
    store, runs = wsn.Store(tmp_path), [replace(RUN, seed=seed) for seed in range(9)]
    keys = [wsn.spec_key(run) for run in runs]

    def indexed():
        content = json.loads(index.unseal((tmp_path / ".index").read_bytes()))
        assert content["version"] == [2, specs.SPEC_VERSION]
        return content["entries"]

    for run in runs[:2]:
        store.save(record(run))
    store.summaries(runs[:2])
    assert not (tmp_path / ".index").exists()
    store.save(record(runs[2]))
    store.summaries(runs[:3])
    stamps = wsn.store.folders.open_folder(tmp_path).stamps()
    expected = {
        wsn.spec_key(run): [stamps[f"{wsn.spec_key(run)}.json"], vars(store.summaries([run])[0])]
        for run in runs[:3]
    }
    assert json.dumps(indexed(), sort_keys=True) == json.dumps(expected, sort_keys=True)  # of NaN, too
    for run in runs[3:5]:
        store.save(record(run))
    store.summaries(runs[:5])
    assert set(indexed()) == set(keys[:3])  # two more do not pay
    (tmp_path / f"{keys[0]}.json").unlink()
    store.save(record(runs[5]))
    store.summaries(runs[3:6])
    assert set(indexed()) == set(keys[1:6])
    store.save(replace(record(runs[1]), status="diverged"))  # its entry is old and is not used
    assert [s.status for s in store.summaries(runs[1:6])] == ["diverged"] + ["finished"] * 4
    content = json.dumps({"version": [0, specs.SPEC_VERSION], "entries": {keys[1]: 3}})
    (tmp_path / ".index").write_bytes(index.seal(content.encode()))
    assert [s.key for s in store.summaries(runs[1:3])] == keys[1:3]  # of another version: not used


# -- folders elsewhere ------------------------------------------------------------------------


class Elsewhere:
    """A file system of fsspec's that does nothing and notes what is asked of it."""

    def __init__(self, entries=()):
        self.entries, self.asked = entries, []

    def ls(self, path, detail):
        return [{"name": f"{path}/{name}", "type": "file"} | entry for name, entry in self.entries]

    def __getattr__(self, name):
        return lambda *given, **_: self.asked.append((name, *given))


def elsewhere(monkeypatch, files, address="memory://x"):
    monkeypatch.setattr(wsn.store.folders, "_file_system", lambda _: (files, "x"))
    return wsn.store.folders.RemoteFolder(address)


@pytest.mark.parametrize(
    "told", ["ETag", "etag", "md5Hash", "mtime", "created", "LastModified", "modify", "modificationTime"]
)
def test_whatever_a_file_system_tells_of_a_file_is_in_its_stamp(told, monkeypatch):
    files = Elsewhere([("a", {told: 1}), ("b", {told: 2}), ("c", {"type": "directory", told: 3}), ("", {})])
    assert elsewhere(monkeypatch, files).stamps() == {"a": "1", "b": "2"}
    assert files.asked == [("invalidate_cache",)]


def test_sizes_and_times_of_reading_are_no_stamp(monkeypatch):
    files = Elsewhere([("a", {"size": 7}), ("b", {"size": 7, "accessTime": 1}), ("c", {"size": 7, "m": 1})])
    assert elsewhere(monkeypatch, files).stamps() == {"a": "", "b": "", "c": "1.7"}


def test_where_files_have_no_stamp_there_is_no_index(tmp_path, monkeypatch):
    monkeypatch.setattr(wsn.store.index, "PAYS_FROM", 1)
    stamps = wsn.store.folders.LocalFolder.stamps
    monkeypatch.setattr(
        wsn.store.folders.LocalFolder, "stamps", lambda folder: dict.fromkeys(stamps(folder), "")
    )
    store = wsn.Store(tmp_path)
    for status in ("finished", "diverged"):
        store.save(replace(record(), status=status))
        assert [each.status for each in store.summaries([RUN])] == [status]
    assert not (tmp_path / ".index").exists()


@pytest.mark.parametrize("address", ["s3://bucket", "gs://bucket"])
def test_where_a_file_is_written_whole_it_is_written_under_its_name(address, monkeypatch):
    monkeypatch.setattr("fsspec.get_filesystem_class", lambda _: Elsewhere)
    files = Elsewhere()
    elsewhere(monkeypatch, files, address).publish("a", b"1")
    assert files.asked == [("pipe_file", "x/a", b"1")]


def test_elsewhere_a_file_is_renamed_when_it_is_whole(monkeypatch):
    files = Elsewhere()
    elsewhere(monkeypatch, files, "file://x").publish("a", b"1")
    made, written, moved, removed = files.asked
    assert made == ("makedirs", "x")
    temporary = written[1]
    assert temporary.startswith("x/.a.")
    assert temporary.endswith(".tmp")
    assert (written, moved, removed) == (
        ("pipe_file", temporary, b"1"), ("mv", temporary, "x/a"), ("rm_file", temporary),
    )  # fmt: skip


def test_of_many_files_each_is_read_once():
    folder = wsn.store.folders.open_folder(f"memory://{os.urandom(8).hex()}")
    names = [f"f{i}" for i in range(2 * 256 + 3)]
    for name in names[1:]:
        folder.publish(name, name.encode())
    assert sorted(name for name, _ in folder.read_many(names)) == sorted(names[1:])
    assert dict(folder.read_many(names)) == {name: name.encode() for name in names[1:]}


def test_outside_of_a_book_only_ones_own_records_are_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert wsn.store.repository() is None
    assert wsn.default_store().also == ()
    monkeypatch.delenv("WSN_STORE", raising=False)
    assert wsn.default_store().path == Path(platformdirs.user_cache_dir("wsnlib")) / "records"
    (tmp_path / "_toc.yml").write_text("")
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert wsn.store.repository() == tmp_path


def test_predictions_are_packed_as_small_as_zlib_can():
    packed = json.loads(record().to_json())["content"]["predictions"]
    assert packed["dtype"] == "uint8"
    assert base64.b64decode(packed["zlib"]) == zlib.compress(record().predictions.tobytes(), 9)


def test_what_another_process_made_again_is_not_set_aside(tmp_path):
    store = wsn.Store(tmp_path)
    store.save(record())
    assert store.set_aside(RUN) is None
    assert RUN in store and not (tmp_path / "damaged").exists()


def test_a_run_whose_published_record_is_damaged_is_under_way_when_it_is_made_again(tmp_path):
    published = wsn.Store(tmp_path / "published")
    published.save(record())
    path = tmp_path / "published" / f"{wsn.spec_key(RUN)}.json"
    store = wsn.Store(tmp_path / "own", also=[tmp_path / "published"])
    store.checkpoint(RUN).write(b"state")
    store.note_failure(wsn.store.Failure(experiment=RUN, error="", traceback=""))
    assert (store.under_way(), set(store.failures())) == (set(), set())
    assert len(store.remains().checkpoints) == 1
    path.write_bytes(path.read_bytes()[:-9])
    key = wsn.spec_key(RUN)
    assert (store.under_way(), set(store.failures()), store.remains().checkpoints) == ({key}, {key}, ())


def test_a_damaged_record_of_the_target_is_replaced(tmp_path):
    store, target = wsn.Store(tmp_path / "a"), wsn.Store(tmp_path / "b")
    for each in (store, target):
        each.save(record())
    (tmp_path / "b" / f"{wsn.spec_key(RUN)}.json").write_bytes(b"{")
    assert store.export([RUN], target) == 1
    assert target.load(RUN).status == record().status


def test_a_store_without_room_for_a_record_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    store, written = wsn.Store(tmp_path), []
    publish = type(store._folder).publish
    monkeypatch.setattr(
        type(store._folder),
        "publish",
        lambda self, name, data: written.append(len(data)) or publish(self, name, data),
    )
    store.check_writable()
    assert written[0] > 100_000 and list(tmp_path.iterdir()) == []
