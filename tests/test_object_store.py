"""Stores through fsspec: the same promises on a disk, in memory, and on a real S3 server."""

import hashlib
import json
import os
import pickle
import threading
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from test_store import RUN, record

import wsnlib as wsn
from wsnlib import specs
from wsnlib.addresses import import_beside, local_path, located
from wsnlib.data import data_root, load_data
from wsnlib.store import folders, index


@pytest.fixture(scope="module")
def s3():
    """The address of a bucket on an S3 server of this machine, started here."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    before = dict(os.environ)
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().call_s3("create_bucket", Bucket="wsn")
    folders._file_system.cache_clear()
    yield "s3://wsn"
    os.environ.clear()
    os.environ.update(before)
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture(params=["path", "file", "memory", "s3"])
def place(request, tmp_path):
    """An address of a store that nobody used."""
    name = uuid.uuid4().hex
    if request.param == "s3":
        return f"{request.getfixturevalue('s3')}/{name}"
    return {
        "path": str(tmp_path / "store"),
        "file": f"file://{tmp_path}/store",
        "memory": f"memory://{name}/records",
    }[request.param]


def flip(store: wsn.Store, name: str, *, folder: str = "") -> None:
    place = store._in(folder)
    data = bytearray(place.read(name))
    data[len(data) // 2] ^= 1
    place.publish(name, bytes(data))


def test_a_store_keeps_its_promises_wherever_it_is(place):
    store = wsn.Store(place)
    assert (RUN in store, list(store), store.keys()) == (False, [], set())
    store.check_writable()
    runs = [replace(RUN, seed=seed) for seed in range(3)]
    for run in runs:
        store.save(record(run))
    store.save(replace(record(runs[1]), status="diverged"))  # replaced
    assert store.keys() == set(map(wsn.spec_key, runs))
    assert [store.load(run).status for run in runs] == ["finished", "diverged", "finished"]
    assert [s.status for s in store.summaries(runs)] == ["finished", "diverged", "finished"]
    assert store.load(runs[2]).to_json() == record(runs[2]).to_json()
    assert sorted(store._stamps(store._folder)) == sorted(f"{wsn.spec_key(run)}.json" for run in runs)
    with pytest.raises(KeyError, match="no record"):
        store.load(replace(RUN, seed=9))
    same = pickle.loads(pickle.dumps(store))
    assert (same.path, same.keys()) == (store.path, store.keys())


def test_a_stamp_changes_with_every_write_and_names_are_of_files_alone(place):
    folder = folders.open_folder(place)
    assert folder.stamps() == {}
    folder.publish("a", b"1")
    (folder / "sub").publish("b", b"2")
    first = folder.stamps()
    folder.publish("a", b"3")
    second = folder.stamps()
    assert first.keys() == second.keys() == {"a"}
    assert first["a"] != second["a"]
    assert dict(folder.read_many(["a", "none"])) == {"a": b"3"}
    folder.remove("a")
    folder.remove("a")
    assert folder.stamps() == {}
    assert (folder / "sub").read("b") == b"2"
    with pytest.raises(FileNotFoundError):
        folder.read("a")


def test_where_writing_takes_time_a_file_is_renamed_when_it_is_whole(tmp_path, monkeypatch):
    folder = folders.RemoteFolder(f"file://{tmp_path}/new")
    folder.publish("a", b"1")
    files, _ = folders._file_system(folder.location)
    pipe_file = files.pipe_file

    def torn(path, data):
        pipe_file(path, data[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "pipe_file", torn)
    with pytest.raises(OSError, match="No space left"):
        folder.publish("a", b"23")
    assert folder.read("a") == b"1"
    assert list(folder.stamps()) == ["a"]


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "a/b", "..", ".", "", "a\\b", "a\0b", "a\nb", "~"])
def test_no_name_leads_out_of_a_store(name, place, tmp_path):
    (tmp_path / "a").write_text("secret")
    folder = folders.open_folder(place)
    actions = [folder.read, folder.remove, folder.__truediv__, lambda n: folder.publish(n, b"")]
    for act in [*actions, lambda n: list(folder.read_many([n]))]:
        with pytest.raises(ValueError, match="the name of a file must be"):
            act(name)
    assert (tmp_path / "a").read_text() == "secret"


def test_two_writers_of_one_record_never_leave_a_mixture(place):
    store, reads = wsn.Store(place), []
    whole = {replace(record(), status=status).to_json() for status in ("finished", "diverged")}
    done = threading.Event()

    def write(status: str) -> None:
        for _ in range(15):
            store.save(replace(record(), status=status))

    def read() -> None:
        while not done.is_set():
            if RUN in store:
                reads.append(store.load(RUN).to_json())

    writers = [threading.Thread(target=write, args=(s,)) for s in ("finished", "diverged")]
    reader = threading.Thread(target=read)
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert set(reads) | {store.load(RUN).to_json()} <= whole
    assert len(reads) > 0
    assert list(store._stamps(store._folder)) == [f"{wsn.spec_key(RUN)}.json"]


def test_a_damaged_record_is_set_aside_wherever_it_is(place):
    store = wsn.Store(place)
    store.save(record())
    flip(store, f"{wsn.spec_key(RUN)}.json")
    assert list(store.damaged([RUN])) == [wsn.spec_key(RUN)]
    where = store.set_aside(RUN)
    assert where.startswith(f"{store.path}/damaged/")
    assert RUN not in store
    assert store.set_aside(RUN) is None
    assert store.remains().damaged == (f"damaged/{where.rpartition('/')[2]}",)
    store.remove(store.remains().damaged)
    assert store.remains().damaged == ()


@pytest.fixture
def many(place, monkeypatch):
    """A store of 7 records, in which the index pays from 5."""
    monkeypatch.setattr(index, "PAYS_FROM", 5)
    store, runs = wsn.Store(place), [replace(RUN, seed=seed) for seed in range(7)]
    for run in runs:
        store.save(record(run))
    return store, runs


def counted(store: wsn.Store, monkeypatch) -> list[str]:
    """Names of the records that are read from now on."""
    names, read_many = [], type(store._folder).read_many

    def noted(folder, wanted):
        wanted = list(wanted)
        names.extend(wanted)
        return read_many(folder, wanted)

    monkeypatch.setattr(type(store._folder), "read_many", noted)
    return names


def test_the_index_of_a_run_that_diverged_grows(many, monkeypatch):
    store, runs = many
    gone = replace(record(runs[3]), status="diverged", reported_epoch=None)
    store.save(replace(gone, history={"train_loss": [float("nan")]}))
    assert len(store.summaries(runs)) == 7
    more = [replace(RUN, seed=seed) for seed in range(7, 14)]
    for run in more:
        store.save(record(run))
    assert [s.status for s in store.summaries(runs + more)].count("diverged") == 1
    names = counted(store, monkeypatch)
    assert len(store.summaries(runs + more)) == 14
    assert names == []


def test_an_export_lists_its_target_once(many, tmp_path, monkeypatch):
    store, runs = many
    target, listed = wsn.Store(tmp_path / "target"), []
    stamps = type(target)._stamps
    monkeypatch.setattr(
        type(target), "_stamps", lambda self, folder: listed.append(self) or stamps(self, folder)
    )
    assert store.export(runs, target) == 7
    assert listed.count(target) == 1


def test_the_index_saves_reading_and_follows_every_change(many, monkeypatch):
    store, runs = many
    names = counted(store, monkeypatch)
    first = store.summaries(runs)
    assert sorted(names) == sorted(f"{wsn.spec_key(run)}.json" for run in runs)
    names.clear()
    store.summaries(runs)[0].spec["model"]["width"] = "changed by whoever asked"
    assert store.summaries(runs) == first
    assert names == []
    store.save(replace(record(runs[3]), status="diverged", reported_epoch=None))
    assert [s.status for s in store.summaries(runs)] == ["finished"] * 3 + ["diverged"] + ["finished"] * 3
    assert names == [f"{wsn.spec_key(runs[3])}.json"]
    store._folder.remove(f"{wsn.spec_key(runs[0])}.json")
    with pytest.raises(KeyError, match=wsn.spec_key(runs[0])):
        store.summaries(runs)
    assert wsn.Store(store.path).keys() == set(map(wsn.spec_key, runs[1:]))


@pytest.mark.parametrize("damage", [b"", b"no index", None])
def test_an_index_that_is_damaged_is_made_again_from_the_records(many, damage, monkeypatch):
    store, runs = many
    first = store.summaries(runs)
    if damage is None:
        flip(store, ".index")
    else:
        store._folder.publish(".index", damage)
    names = counted(store, monkeypatch)
    assert store.summaries(runs) == first
    assert len(names) == 7
    names.clear()
    assert store.summaries(runs) == first
    assert names == []


def test_an_index_never_hides_that_a_record_is_damaged(many):
    store, runs = many
    store.summaries(runs)
    flip(store, f"{wsn.spec_key(runs[2])}.json")
    with pytest.raises(wsn.StoreError, match=f"{wsn.spec_key(runs[2])}.json cannot be used"):
        store.summaries(runs)


def test_a_summary_has_what_the_record_has(tmp_path):
    store = wsn.Store(tmp_path)
    store.save(record())
    for _ in range(2):
        (summary,) = store.summaries([RUN])
        loaded = store.load(RUN)
        assert summary.spec == specs.to_dict(RUN)
        for name in ("key", "status", "reported_epoch", "train_accuracy", "network", "environment"):
            assert getattr(summary, name) == getattr(loaded, name)
        assert summary.reported["test_accuracy"] == loaded.reported("test_accuracy") == 0.75
        assert summary.last["test_accuracy"] == loaded.history["test_accuracy"][-1]
        assert summary.last["train_loss"] != summary.last["train_loss"]  # NaN
        index.PAYS_FROM, before = 1, index.PAYS_FROM
        store.summaries([RUN])
        index.PAYS_FROM = before
    assert (tmp_path / ".index").exists()


def test_a_summary_of_an_older_record_has_the_fields_that_were_added(tmp_path):
    content = json.loads(record().to_json())["content"]
    content["spec_version"] = 1
    del content["spec"]["training"]["decayed"], content["spec"]["training"]["evaluate_every"]
    text = specs.canonical_json(content)
    checksum = hashlib.sha256(text.encode()).hexdigest()
    (tmp_path / f"{wsn.spec_key(RUN)}.json").write_text(json.dumps({"sha256": checksum, "content": content}))
    (summary,) = wsn.Store(tmp_path).summaries([RUN])
    assert summary.spec == specs.to_dict(RUN)


def test_a_sweep_writes_to_an_object_store_and_resumes_there(s3):
    store = wsn.Store(f"{s3}/{uuid.uuid4().hex}")
    runs = [
        specs.KernelDistances(inputs=specs.GaussianInputs(dimension=5), densities=(0.5,), num_pairs=2, seed=s)
        for s in range(3)
    ]
    assert wsn.run_missing(runs[:2], store=store, progress=False) == 2
    assert wsn.run_missing(runs, store=store, progress=False) == 1
    assert len(wsn.read_measurements(runs, store=store)) == 3
    file = store.checkpoint(RUN, part=1)
    assert file.read() is None
    file.write(b"state")
    assert (file.read(), store.under_way()) == (b"state", {wsn.spec_key(RUN)})
    flip(store, f"{wsn.spec_key(RUN)}.1.safetensors", folder="checkpoints")
    with pytest.raises(ValueError, match="does not match its checksum"):
        file.read()


def test_a_server_that_is_not_there_is_named(s3, monkeypatch):
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    s3fs.S3FileSystem.clear_instance_cache()
    folders._file_system.cache_clear()
    store = wsn.Store("s3://wsn/other")
    with pytest.raises(wsn.StoreError, match="the store s3://wsn/other cannot be written"):
        store.check_writable()
    with pytest.raises(wsn.StoreError, match="the store s3://wsn/other cannot be read"):
        store.keys()
    s3fs.S3FileSystem.clear_instance_cache()
    folders._file_system.cache_clear()


def test_the_default_store_may_be_an_address(monkeypatch):
    monkeypatch.setenv("WSN_STORE", "memory://default")
    assert wsn.default_store().path == "memory://default"


# -- what an address means --

ADDRESSES = {
    "s3://bucket/records": "s3://bucket/records",
    "S3://Bucket/records/": "s3://Bucket/records",
    "s3:/bucket/records": "s3://bucket/records",
    "s3:///bucket//records//": "s3://bucket/records",
    "GS://bucket": "gs://bucket",
    "memory:/bucket/records": "memory://bucket/records",
    "hdfs:///records": "hdfs:///records",
    "sftp://user@host:22/records/": "sftp://user@host:22/records",
    "file:///disk/my%20records/": "/disk/my records",
    "FILE:///disk/records": "/disk/records",
    "file://localhost/disk": "/disk",
    "/disk//records/": "/disk/records",
    "~": "/home/me",
    "~/records": "/home/me/records",
    "records": "/here/records",
    "records/~": "/here/records/~",
    "run:1/records": "/here/run:1/records",
    "12:30/records": "/here/12:30/records",
}
"""What is written, and where it leads from the folder /here of a user whose home is /home/me."""


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(os, "getcwd", lambda: "/here")
    monkeypatch.setenv("HOME", "/home/me")


@pytest.mark.parametrize("written", ADDRESSES)
def test_every_address_leads_where_it_says(written, here):
    assert str(located(written)) == ADDRESSES[written]
    assert str(located(located(written))) == ADDRESSES[written]
    assert isinstance(located(written), str) == ("://" in ADDRESSES[written])
    if not written.startswith(
        ("hdfs", "sftp", "s3:///", "file", "FILE")
    ):  # of which pathlib takes what cannot be put back
        assert str(located(Path(written))) == ADDRESSES[written]


REFUSED = [
    *("", " s3://bucket", "records\n", b"records", "$HOME/records"),
    *("C:\\records", "c:/records", "\\\\server\\records", "s3:\\\\bucket", "~nobody-of-this-name/records"),
    *("s3://", "s3:bucket", "s3://bucket/../other", "s3://bucket/./records", "zip://a.zip::s3://bucket"),
    *(
        "simplecache::s3://bucket",
        "hdfs:/records",
        "file:records",
        "file:/records",
        Path("file:///records"),
        "file://records",
        "file://~/records",
    ),
]


@pytest.mark.parametrize("written", REFUSED, ids=repr)
def test_an_address_that_could_lead_elsewhere_is_refused_and_makes_nothing(written, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for open_at in (located, wsn.Store, lambda p: wsn.Store(tmp_path, also=[p]), folders.open_folder):
        with pytest.raises(ValueError, match="must be .*, got .*; ") as caught:
            open_at(written)
        assert repr(os.fspath(written)) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_one_rule_holds_for_stores_and_data(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WSN_STORE", "~/records")
    assert wsn.default_store().path == wsn.Store("~/records").path == tmp_path / "records"
    monkeypatch.setenv("WSN_STORE", "S3:/bucket/records")
    assert wsn.default_store().path == wsn.Store(Path("s3://bucket/records")).path == "s3://bucket/records"
    monkeypatch.setenv("WSN_DATA", "~/data")
    assert data_root() == data_root("~/data") == tmp_path / "data"
    for remote in ("s3://bucket/data", Path("s3://bucket/data")):
        monkeypatch.setenv("WSN_DATA", str(remote))
        for use in (
            data_root,
            lambda p=remote: load_data(wsn.MNIST(), root=p),
            lambda p=remote: wsn.pack_data(p, name="mine"),
        ):
            with pytest.raises(ValueError, match="must be on this machine, got 's3://bucket/data'; mount it"):
                use()
    assert local_path("~/x", what="x") == tmp_path / "x"


@pytest.mark.parametrize(
    ("address", "why"), [("s4://bucket/records", "Protocol not known"), ("gs://b", "gcsfs")]
)
def test_a_store_that_nothing_here_can_open_is_refused_at_once(address, why, monkeypatch):
    import fsspec

    known = fsspec.get_filesystem_class

    def without_gcsfs(scheme):
        if scheme == "gs":
            raise ImportError("Please install gcsfs to access Google Storage")
        return known(scheme)

    monkeypatch.setattr(fsspec, "get_filesystem_class", without_gcsfs)
    with pytest.raises(
        ValueError, match=f"must be at an address that fsspec can open here, got '{address}' .*{why}"
    ):
        wsn.Store(address)


def test_modules_beside_come_before_installed_ones_and_after_pythons_own(monkeypatch):
    monkeypatch.setattr("sys.path", ["/bin", "/lib/python3", "/lib/python3/site-packages", "/more"])
    import_beside("/here")
    import_beside("/here")
    assert __import__("sys").path == ["/bin", "/lib/python3", "/here", "/lib/python3/site-packages", "/more"]
