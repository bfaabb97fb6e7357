"""Data sets: canonical order, checksums, splits, torchvision's files and downloads."""

import gzip
import hashlib
import io
import pickle
import struct
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import scipy.io
import torch
from conftest import small_arrays
from torchvision import datasets

import wsnlib as wsn
from wsnlib import data
from wsnlib.data import archives, sources


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


IDX_NAMES = {
    "train_x": "train-images-idx3-ubyte",
    "train_y": "train-labels-idx1-ubyte",
    "test_x": "t10k-images-idx3-ubyte",
    "test_y": "t10k-labels-idx1-ubyte",
}


def write_idx(arrays, root):
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for key, name in IDX_NAMES.items():
        (raw / name).write_bytes(idx_bytes(arrays[key]))
    return raw


def same(a: wsn.data.Dataset, b: wsn.data.Dataset) -> bool:
    return all(
        torch.equal(x, y)
        for s in ("train", "test")
        for x, y in zip(getattr(a, s), getattr(b, s), strict=True)
    )


def test_torchvisions_files_and_a_packed_file_in_any_order_give_the_same_tensors(small_mnist, tmp_path):
    write_idx(small_mnist, tmp_path / "a")
    (tmp_path / "b").mkdir()
    order = np.random.default_rng(1).permutation(60)
    shuffled = small_mnist | {
        "train_x": small_mnist["train_x"][order],
        "train_y": small_mnist["train_y"][order],
    }
    np.savez(tmp_path / "b" / "mnist.npz", **shuffled)
    a, b = (wsn.load_data(wsn.MNIST(), root=tmp_path / r) for r in "ab")
    assert same(a, b)
    assert a.train.images.shape == (60, 1, 28, 28)
    assert a.train.images.dtype == torch.uint8
    assert a.classes == tuple("0123456789")
    original = {x.tobytes(): y for x, y in zip(small_mnist["train_x"], small_mnist["train_y"], strict=True)}
    assert all(original[x.numpy().tobytes()] == y for x, y in zip(*a.train, strict=True))
    assert (tmp_path / "a" / "mnist.npz").exists()
    assert same(a, wsn.load_data(wsn.MNIST(), root=tmp_path / "a"))


def test_a_cut_off_or_changed_file_is_never_used(small_mnist, tmp_path):
    raw = write_idx(small_mnist, tmp_path)
    good = (raw / IDX_NAMES["train_x"]).read_bytes()
    (raw / IDX_NAMES["train_x"]).write_bytes(good[: len(good) // 2])
    with pytest.raises(wsn.DataError, match=r"MNIST/raw in .* is incomplete or damaged"):
        wsn.load_data(wsn.MNIST(), root=tmp_path)
    changed = bytearray(good)
    changed[500] ^= 1
    (raw / IDX_NAMES["train_x"]).write_bytes(bytes(changed))
    with pytest.raises(wsn.DataError, match="is not the MNIST data set \\(its checksum differs\\)"):
        wsn.load_data(wsn.MNIST(), root=tmp_path)
    assert not (tmp_path / "mnist.npz").exists()

    (raw / IDX_NAMES["train_x"]).write_bytes(good)
    wsn.load_data(wsn.MNIST(), root=tmp_path)
    packed = tmp_path / "mnist.npz"
    packed.write_bytes(packed.read_bytes()[:-500])
    with pytest.raises(wsn.DataError, match=r"mnist\.npz cannot be read .* delete it and fetch it again"):
        wsn.load_data(wsn.MNIST(), root=tmp_path)
    np.savez(packed, **(small_mnist | {"train_y": small_mnist["train_y"][::-1]}))
    with pytest.raises(wsn.DataError, match="is not the MNIST data set"):
        wsn.load_data(wsn.MNIST(), root=tmp_path)


def test_other_digits_than_the_known_ones_are_refused(monkeypatch):
    monkeypatch.setitem(data.CHECKSUMS, "digits", "0" * 64)
    with pytest.raises(wsn.DataError, match="the digits of this scikit-learn are not the known ones"):
        sources._digits.__wrapped__()


def test_digits_are_those_of_scikit_learn_wherever_it_keeps_them(monkeypatch):
    from sklearn.datasets import load_digits

    found = sources._rows_of_digits()
    assert (found == np.column_stack(load_digits(return_X_y=True))).all()
    monkeypatch.setattr(sources, "DIGITS", "nowhere.csv.gz")
    assert (sources._rows_of_digits() == found).all()


def test_missing_data_say_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(wsn.DataError, match=r"MNIST is not in .*; allow the download .* or set WSN_DATA"):
        wsn.load_data(wsn.MNIST(), root=tmp_path)
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])  # nobody answers there
    with pytest.raises(wsn.DataError, match=r"MNIST could not be downloaded .*; connect to the network"):
        wsn.load_data(wsn.MNIST(), root=tmp_path, download=True)
    with pytest.raises(wsn.DataError, match=r"mine\.npz is not there; make it with wsn\.pack_data"):
        wsn.load_data(wsn.PackedData(name="mine", sha256="a" * 64), root=tmp_path)


@pytest.fixture
def mirror(small_mnist, tmp_path, monkeypatch):
    """A server on this machine with the four files of the small MNIST, as torchvision expects them."""
    folder = tmp_path / "served"
    folder.mkdir()
    resources = []
    for key, name in IDX_NAMES.items():
        content = gzip.compress(idx_bytes(small_mnist[key]))
        (folder / f"{name}.gz").write_bytes(content)
        resources.append((f"{name}.gz", hashlib.md5(content).hexdigest()))
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(datasets.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        monkeypatch.setattr(datasets.MNIST, "resources", resources)
        yield folder
        server.shutdown()


def test_a_download_is_checked_and_a_broken_one_refused(mirror, tmp_path):
    good = (mirror / "train-images-idx3-ubyte.gz").read_bytes()
    (mirror / "train-images-idx3-ubyte.gz").write_bytes(good[:-7])
    with pytest.raises(wsn.DataError, match="MNIST could not be downloaded"):
        wsn.load_data(wsn.MNIST(), root=tmp_path / "root", download=True)
    (mirror / "train-images-idx3-ubyte.gz").write_bytes(good)
    loaded = wsn.load_data(wsn.MNIST(), root=tmp_path / "root", download=True)
    assert len(loaded.train.labels) == 60


# -- torchvision's files --


def colour_arrays(num_classes: int, num_train: int = 110, num_test: int = 30) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(num_classes)
    return {
        "train_x": rng.integers(0, 256, (num_train, 32, 32, 3), dtype=np.uint8),
        "train_y": (np.arange(num_train) % num_classes).astype(np.uint8),
        "test_x": rng.integers(0, 256, (num_test, 32, 32, 3), dtype=np.uint8),
        "test_y": (np.arange(num_test) % num_classes).astype(np.uint8),
    }


def put(path, content: bytes) -> str:
    """Write a file, and say what its MD5 is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return hashlib.md5(content).hexdigest()


def write_cifar(kind, arrays, names, root, monkeypatch):
    """Pickled batches as torchvision reads them, (n, 3072) with one channel after the other."""
    folder = root / kind.base_folder
    labels = "labels" if kind is datasets.CIFAR10 else "fine_labels"
    for split in ("train", "test"):
        listed = getattr(kind, f"{split}_list")
        x = np.array_split(arrays[f"{split}_x"].transpose(0, 3, 1, 2).reshape(-1, 3072), len(listed))
        y = np.array_split(arrays[f"{split}_y"], len(listed))
        sums = [
            [name, put(folder / name, pickle.dumps({"data": part, labels: part_y.tolist()}, protocol=2))]
            for (name, _), part, part_y in zip(listed, x, y, strict=True)
        ]
        monkeypatch.setattr(kind, f"{split}_list", sums)
    content = pickle.dumps({kind.meta["key"]: names}, protocol=2)
    md5 = put(folder / kind.meta["filename"], content)
    monkeypatch.setattr(kind, "meta", kind.meta | {"md5": md5})
    return folder


def write_svhn(arrays, root, monkeypatch):
    """MATLAB files as torchvision reads them, (32, 32, 3, n), where the digit 0 has the label 10."""
    listed = {}
    for split in ("train", "test"):
        labels = np.where(arrays[f"{split}_y"] == 0, 10, arrays[f"{split}_y"])[:, None]
        content = io.BytesIO()
        scipy.io.savemat(content, {"X": arrays[f"{split}_x"].transpose(1, 2, 3, 0), "y": labels})
        name = f"{split}_32x32.mat"
        listed[split] = ["", name, put(root / name, content.getvalue())]
    monkeypatch.setattr(datasets.SVHN, "split_list", listed)


SETS = {
    "cifar10": (wsn.CIFAR10, 10, "cifar-10-batches-py/data_batch_3"),
    "cifar100": (wsn.CIFAR100, 100, "cifar-100-python/train"),
    "svhn": (wsn.SVHN, 10, "train_32x32.mat"),
}


@pytest.fixture(params=SETS)
def small_set(request, tmp_path, monkeypatch):
    """A spec, its arrays, its class names, and one of torchvision's files in the data root `files`."""
    name = request.param
    kind, classes, file = SETS[name]
    arrays = colour_arrays(classes)
    names = [f"thing {c}" if name != "svhn" else str(c) for c in range(classes)]
    if name == "svhn":
        write_svhn(arrays, tmp_path / "files", monkeypatch)
    else:
        write_cifar(getattr(datasets, kind.__name__), arrays, names, tmp_path / "files", monkeypatch)
    known = data.KNOWN[kind]._replace(num_train=110, num_test=30)
    monkeypatch.setitem(data.KNOWN, kind, known)
    if name in data.CHECKSUMS:
        monkeypatch.setitem(data.CHECKSUMS, name, archives.canonical(arrays, "").sha256)
    return kind(), arrays, names, tmp_path / "files" / file


def test_colour_images_are_those_in_torchvisions_files(small_set, tmp_path):
    spec, arrays, names, _ = small_set
    loaded = wsn.load_data(spec, root=tmp_path / "files")
    assert loaded.classes == tuple(names)
    assert loaded.image_shape == wsn.image_shape(spec) == (3, 32, 32)
    assert loaded.num_classes == wsn.num_classes(spec)
    for split in ("train", "test"):
        found = getattr(loaded, split)
        expected = {
            x.transpose(2, 0, 1).tobytes(): y
            for x, y in zip(arrays[f"{split}_x"], arrays[f"{split}_y"], strict=True)
        }
        assert {x.numpy().tobytes(): int(y) for x, y in zip(*found, strict=True)} == expected


def test_a_packed_file_of_the_same_layout_gives_the_same_tensors(small_set, tmp_path):
    spec, arrays, names, _ = small_set
    (tmp_path / "packed").mkdir()
    packed = {split: values[::-1] for split, values in arrays.items()}
    np.savez(tmp_path / "packed" / f"{data.KNOWN[type(spec)].name}.npz", **packed, classes=names)
    a, b = (wsn.load_data(spec, root=tmp_path / r) for r in ("files", "packed"))
    assert same(a, b)
    assert a.sha256 == b.sha256 == archives.canonical(arrays, "").sha256
    assert a.classes == b.classes


def test_torchvisions_damaged_or_missing_files_are_named(small_set, tmp_path):
    spec, _, _, file = small_set
    name = type(spec).__name__
    with pytest.raises(wsn.DataError, match=f"^{name} is not in .*; allow the download .* or set WSN_DATA"):
        wsn.load_data(spec, root=tmp_path / "empty")
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(wsn.DataError, match=rf"in {tmp_path}.* is incomplete or damaged .*; delete it"):
        wsn.load_data(spec, root=tmp_path / "files")
    file.unlink()
    with pytest.raises(wsn.DataError, match=rf"in {tmp_path}.* is incomplete or damaged .*; delete it"):
        wsn.load_data(spec, root=tmp_path / "files")
    assert not list((tmp_path / "files").glob("*.npz"))


def test_a_packed_file_carries_its_checksum(small_set, tmp_path):
    spec, *_ = small_set
    path = tmp_path / "files" / f"{data.KNOWN[type(spec)].name}.npz"
    wsn.load_data(spec, root=path.parent)
    with np.load(path) as content:
        stored = dict(content)
    changed = stored["train_x"].copy()
    changed[7, 3, 5, 1] ^= 1
    np.savez(path, **(stored | {"train_x": changed}))
    with pytest.raises(wsn.DataError, match="is damaged .its content does not match its checksum"):
        wsn.load_data(spec, root=path.parent)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: {k: v[:-1] for k, v in a.items()}, "109 training and 29 test images"),
        (
            lambda a: {k: v[:, :31] if v.ndim == 4 else v for k, v in a.items()},
            r"it has .* of 31 x 32 pixels in 3 channel.*, and .* of 32 x 32 pixels .* are expected",
        ),
        (lambda a: {k: v % 99 if v.ndim == 1 else v for k, v in a.items()}, "and 99 classes, and"),
        (
            lambda a: a | {"test_x": a["test_x"][:, :, 1:]},
            r"must be of one shape, got \(32, 32, 3\) in train_x and \(32, 31, 3\) in test_x",
        ),
    ],
)
def test_a_packed_file_of_another_form_is_not_cifar100(change, message, tmp_path, monkeypatch):
    known = data.KNOWN[wsn.CIFAR100]._replace(num_train=110, num_test=30)
    monkeypatch.setitem(data.KNOWN, wsn.CIFAR100, known)
    np.savez(tmp_path / "cifar100.npz", **colour_arrays(100))
    assert len(wsn.load_data(wsn.CIFAR100(), root=tmp_path).classes) == 100
    np.savez(tmp_path / "cifar100.npz", **change(colour_arrays(100)))
    with pytest.raises(wsn.DataError, match=message):
        wsn.load_data(wsn.CIFAR100(), root=tmp_path)


def test_the_forms_are_the_published_ones():
    forms = {
        name: (wsn.image_shape(spec), wsn.num_classes(spec))
        for name, spec in {
            "cifar10": wsn.CIFAR10(),
            "cifar100": wsn.CIFAR100(),
            "svhn": wsn.SVHN(),
            "imagenet": wsn.ImageNet(image_size=96),
        }.items()
    }
    assert forms == {
        "cifar10": ((3, 32, 32), 10),
        "cifar100": ((3, 32, 32), 100),
        "svhn": ((3, 32, 32), 10),
        "imagenet": ((3, 96, 96), 1000),
    }
    sizes = {known.name: (known.num_train, known.num_test) for known in data.KNOWN.values()}
    assert sizes == {
        "digits": (1437, 360),
        "mnist": (60000, 10000),
        "fashion_mnist": (60000, 10000),
        "cifar10": (50000, 10000),
        "cifar100": (50000, 10000),
        "svhn": (73257, 26032),
        "imagenet": (1281167, 50000),
    }


def test_a_record_says_which_data_it_is_of():
    spec = wsn.Digits(train_size=100)
    run = wsn.Experiment(model=wsn.MLPSpec(width=3, inputs=64), data=spec, training=wsn.Training(epochs=1))
    assert wsn.run(run, device="cpu").environment["data_sha256"] == data.CHECKSUMS["digits"]
    found = wsn.load_data(spec)
    assert found.sha256 == found.to("cpu").sha256 == data.CHECKSUMS["digits"]
    distances = wsn.KernelDistances(inputs=spec, densities=(0.5,), num_pairs=2)
    assert wsn.run(distances).environment["data_sha256"] == data.CHECKSUMS["digits"]
    gaussian = wsn.KernelDistances(inputs=wsn.GaussianInputs(dimension=5), densities=(0.5,), num_pairs=2)
    assert "data_sha256" not in wsn.run(gaussian).environment


# -- splits --


def test_images_that_are_changed_in_place_are_as_they_were_when_they_are_loaded_again():
    first = wsn.load_data(wsn.Digits())
    before = {name: getattr(first, name).images.clone() for name in ("train", "test")}
    for name in before:
        getattr(first, name).images.zero_()
    again = wsn.load_data(wsn.Digits())
    assert all(torch.equal(getattr(again, name).images, images) for name, images in before.items())


def test_splits_are_disjoint_balanced_and_fixed_by_their_seed():
    spec = wsn.Digits(validation_size=203, train_size=507)
    a, b = wsn.load_data(spec), wsn.load_data(spec)
    assert same(a, b)
    sets = [{x.numpy().tobytes() for x in split.images} for split in (a.train, a.validation, a.test)]
    assert [len(s.labels) for s in (a.train, a.validation, a.test)] == [507, 203, 360]
    assert not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])
    for split, size in ((a.train, 507), (a.validation, 203), (a.test, 360)):
        counts = split.labels.bincount()
        assert counts.max() - counts.min() <= (size % 10 > 0)
    assert not same(a, wsn.load_data(replace(spec, split_seed=1)))


def test_validation_that_leaves_nothing_is_named(tmp_path):
    np.savez(tmp_path / "raw.npz", **small_arrays())
    spec = wsn.pack_data(tmp_path / "raw.npz", name="mine", root=tmp_path)
    with pytest.raises(wsn.DataError, match="validation_size must leave images to train on, got 60"):
        wsn.load_data(replace(spec, validation_size=60, train_size=3), root=tmp_path)


def test_too_large_a_subset_is_named():
    with pytest.raises(
        wsn.DataError, match="a class-balanced subset must be of at most 13.0 images .*, got 5000"
    ):
        wsn.load_data(wsn.Digits(train_size=5000))


def test_standardised_training_images_have_mean_0_and_deviation_1():
    loaded = wsn.load_data(wsn.Digits(train_size=500))
    x = loaded.normalise(loaded.train.images)
    assert x.dtype == torch.float32
    assert x.mean().abs() < 1e-5
    assert abs(x.std(correction=0) - 1) < 1e-5
    unit = wsn.load_data(wsn.Digits(normalisation="unit"))
    x = unit.normalise(unit.test.images)
    assert (x.min(), x.max()) == (0, 1)


def test_each_channel_is_standardised_and_a_constant_one_is_0(tmp_path):
    images = np.random.default_rng(0).integers(0, 100, (23, 5, 7, 3), dtype=np.uint8)
    images[..., 1] += 100
    images[..., 2] = 17
    labels = np.arange(23) % 2
    np.savez(tmp_path / "raw.npz", train_x=images, train_y=labels, test_x=images[:3], test_y=labels[:3])
    loaded = wsn.load_data(wsn.pack_data(tmp_path / "raw.npz", name="mine", root=tmp_path), root=tmp_path)
    x = loaded.normalise(loaded.train.images)
    assert x.mean((0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    assert x.std((0, 2, 3), correction=0).tolist() == pytest.approx([1, 1, 0], abs=1e-5)


def test_each_pixel_is_standardised_and_a_constant_one_is_0(tmp_path):
    images = np.random.default_rng(0).integers(0, 100, (5003, 4, 5, 1), dtype=np.uint8)
    images[:, 1] += 100
    images[:, 2, 3] = 17
    labels = np.arange(len(images)) % 2
    np.savez(tmp_path / "raw.npz", train_x=images, train_y=labels, test_x=images[:3], test_y=labels[:3])
    spec = wsn.pack_data(tmp_path / "raw.npz", name="mine", root=tmp_path)
    loaded = wsn.load_data(replace(spec, normalisation="pixelwise"), root=tmp_path)
    x = loaded.normalise(loaded.train.images)
    varies = torch.ones(4, 5, dtype=torch.bool)
    varies[2, 3] = False
    assert x.shape == loaded.train.images.shape and x.dtype == torch.float32
    assert x.mean(0)[0].abs().max() < 1e-5
    assert torch.equal(x.std(0, correction=0)[0] > 0, varies)
    assert torch.allclose(x.std(0, correction=0)[0], varies.float(), atol=1e-5)


def test_subsets_are_sorted_and_chance_says_which_classes_have_one_more():
    labels = torch.arange(70) % 7
    subsets = [
        data.balanced_subset(labels, 10, generator=torch.Generator().manual_seed(s)) for s in range(50)
    ]
    assert all(torch.equal(subset, subset.unique(sorted=True)) for subset in subsets)
    assert all(0 < sum(labels[subset].bincount()[c] - 1 for subset in subsets) < 50 for c in range(7))


def test_forms_known_without_reading_are_right():
    loaded = wsn.load_data(wsn.Digits())
    assert loaded.train.images.shape[1:] == wsn.image_shape(wsn.Digits())
    assert loaded.num_classes == wsn.num_classes(wsn.Digits())
    assert loaded.num_inputs == 64
