"""Records: whole or not there, checked on reading, never run."""

import hashlib
import json
import os
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import wsnlib as wsn
from wsnlib import specs

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
        wsn.Record.from_json(text)


def test_a_record_made_before_a_field_was_added_means_its_default():
    content = json.loads(record().to_json())["content"]
    content["spec_version"] = 1
    del content["spec"]["training"]["decayed"], content["spec"]["training"]["evaluate_every"]
    checksum = hashlib.sha256(specs.canonical_json(content).encode()).hexdigest()
    old = wsn.Record.from_json(json.dumps({"sha256": checksum, "content": content}))
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
    assert [r.status for r in store] == ["diverged"]


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
