"""Data sets: canonical order, checksums, splits, torchvision's files and downloads, packing."""

import gzip
import hashlib
import struct
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from conftest import small_arrays
from PIL import Image
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


def same(a: wsn.Dataset, b: wsn.Dataset) -> bool:
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


# -- splits --


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


def test_too_large_a_subset_is_named():
    with pytest.raises(
        wsn.DataError, match="a class-balanced subset of 5000 images .*; at most 13.0 are there"
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


# -- augmentation --


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_crops_are_those_of_the_padded_image(mode):
    images = torch.arange(1, 5 * 7 * 6 * 2 + 1).view(2, 5, 7, 6).float()
    images = images.repeat(50, 1, 1, 1)
    crop = wsn.CropAndFlip(padding=2, padding_mode=mode)
    out = data.augment(images, crop, generator=torch.Generator().manual_seed(0))
    padding = {"zeros": "constant", "reflect": "reflect"}[mode]
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2), mode=padding)
    seen = set()
    for before, after in zip(padded, out, strict=True):
        places = [
            (dy, dx, flip)
            for dy in range(5)
            for dx in range(5)
            for flip in (False, True)
            for window in [before[:, dy : dy + 7, dx : dx + 6]]
            if torch.equal(after, window.flip(2) if flip else window)
        ]
        assert places
        seen.update(places)
    assert len(seen) > 30


def test_every_crop_is_equally_likely_and_half_are_mirrored():
    draws = 5000
    images = torch.arange(35).view(1, 1, 5, 7).expand(draws, -1, -1, -1)
    out = data.augment(images, wsn.CropAndFlip(padding=2), generator=torch.Generator().manual_seed(0))
    share = out[:, 0, 2, 3].bincount(minlength=35).view(5, 7)[:, 1:6] / draws
    assert (share - 1 / 25).abs().max() < 4 * (1 / 25 * 24 / 25 / draws) ** 0.5
    mirrored = (out[:, 0, 2, 2] > out[:, 0, 2, 4]).double().mean()
    assert abs(mirrored - 1 / 2) < 4 * (1 / 4 / draws) ** 0.5


def test_augmentation_keeps_bytes_and_is_fixed_by_the_seed():
    images = torch.randint(0, 256, (9, 3, 8, 8), dtype=torch.uint8)
    a, b, c = (
        data.augment(images, wsn.CropAndFlip(), generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1)
    )
    assert a.dtype == torch.uint8
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


# -- packing --


def test_an_archive_of_ones_own_is_packed_once_and_known_by_its_checksum(tmp_path):
    np.savez(tmp_path / "raw.npz", **small_arrays(3))
    spec = wsn.pack_data(tmp_path / "raw.npz", name="mine", root=tmp_path)
    loaded = wsn.load_data(replace(spec, validation_size=10), root=tmp_path)
    assert [len(s.labels) for s in (loaded.train, loaded.validation, loaded.test)] == [50, 10, 20]
    np.savez(tmp_path / "raw.npz", **small_arrays(4))
    assert wsn.pack_data(tmp_path / "raw.npz", name="mine", root=tmp_path) != spec
    with pytest.raises(wsn.DataError, match=r"mine\.npz is not the mine data set"):
        wsn.load_data(spec, root=tmp_path)


def test_a_failed_write_leaves_the_old_file_and_no_remains(tmp_path, monkeypatch):
    np.savez(tmp_path / "raw.npz", **small_arrays(3))
    wsn.pack_data(tmp_path / "raw.npz", name="mine", root=tmp_path / "root")
    before = (tmp_path / "root" / "mine.npz").read_bytes()
    np.savez(tmp_path / "raw.npz", **small_arrays(4))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archives.os, "replace", full)
    with pytest.raises(OSError, match="No space left on device"):
        wsn.pack_data(tmp_path / "raw.npz", name="mine", root=tmp_path / "root")
    assert {p.name: p.read_bytes() for p in (tmp_path / "root").iterdir()} == {"mine.npz": before}


def test_without_a_test_split_a_balanced_part_is_set_aside(tmp_path):
    arrays = {k: v for k, v in small_arrays().items() if k.startswith("train")}
    np.savez(tmp_path / "raw.npz", **arrays)
    loaded = wsn.load_data(wsn.pack_data(tmp_path / "raw.npz", name="mine", root=tmp_path), root=tmp_path)
    assert loaded.test.labels.bincount().tolist() == [1] * 10
    assert len(loaded.train.labels) == 50
    larger = wsn.pack_data(tmp_path / "raw.npz", name="larger", test_fraction=0.3, root=tmp_path)
    assert wsn.load_data(larger, root=tmp_path).test.labels.bincount().tolist() == [2] * 10


def test_a_folder_of_images_is_packed(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 5), ("test", 2)):
        for name in ("cat", "dog"):
            folder = tmp_path / "pets" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (9 + i, 11, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    (tmp_path / "pets" / "train" / "cat" / "notes.txt").write_text("no image")
    with pytest.raises(
        wsn.DataError, match=r"1\.png is of shape \(10, 11, 3\) .* give size=\(height, width\)"
    ):
        wsn.pack_data(tmp_path / "pets", name="pets", root=tmp_path)
    spec = wsn.pack_data(tmp_path / "pets", name="pets", size=(8, 6), root=tmp_path)
    loaded = wsn.load_data(spec, root=tmp_path)
    assert loaded.train.images.shape == (10, 3, 8, 6)
    assert loaded.test.labels.bincount().tolist() == [2, 2]
    assert loaded.classes == ("cat", "dog")
    (tmp_path / "pets" / "train" / "dog" / "9.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(wsn.DataError, match=r"9\.png cannot be read as an image"):
        wsn.pack_data(tmp_path / "pets", name="pets", size=(8, 6), root=tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_x": np.zeros((60, 28, 28))}, r"train_x of .* is float64 of shape .*; uint8 \(0 to 255\)"),
        ({"train_y": np.zeros(59, int)}, r"train_y of .* is int64 of shape \(59,\); 60 integers"),
        ({"train_y": np.zeros(60)}, "train_y of .* is float64"),
        ({"classes": np.array(["a"])}, "names 1 classes and has labels up to 9"),
    ],
)
def test_arrays_of_the_wrong_form_are_named(change, message, tmp_path):
    np.savez(tmp_path / "raw.npz", **(small_arrays() | change))
    with pytest.raises(wsn.DataError, match=message):
        wsn.pack_data(tmp_path / "raw.npz", name="mine", root=tmp_path)
    assert not (tmp_path / "mine.npz").exists()


def test_archives_with_code_in_them_are_refused(tmp_path):
    np.savez(tmp_path / "raw.npz", **(small_arrays() | {"classes": np.array([{"a": 1}], dtype=object)}))
    with pytest.raises(wsn.DataError, match="cannot be read .*allow_pickle"):
        wsn.pack_data(tmp_path / "raw.npz", name="mine", root=tmp_path)
    with pytest.raises(wsn.DataError, match="nothing is not there; an .npz file or a folder of images"):
        wsn.pack_data(tmp_path / "nothing", name="mine", root=tmp_path)


def test_imagenets_statistics_are_taken_for_colour_images_only(tmp_path):
    pixels = np.arange(40 * 5 * 7 * 3, dtype=np.uint8).reshape(40, 5, 7, 3)
    labels = np.arange(40) % 2
    np.savez(tmp_path / "a.npz", train_x=pixels, train_y=labels)
    spec = replace(wsn.pack_data(tmp_path / "a.npz", name="colour", root=tmp_path), normalisation="imagenet")
    loaded = wsn.load_data(spec, root=tmp_path)
    found = loaded.normalise(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)).flatten()
    assert found.tolist() == pytest.approx([0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225], rel=1e-5)
    with pytest.raises(wsn.DataError, match="normalisation is 'imagenet' and the images have 1 channel"):
        wsn.load_data(wsn.Digits(normalisation="imagenet"))


def test_batches_follow_the_order_and_draw_an_augmentation_each():
    split = wsn.load_data(wsn.Digits(train_size=53)).train
    order = torch.randperm(len(split.labels), generator=torch.Generator().manual_seed(1))
    batches = list(split.batches(order, batch_size=7))
    assert torch.equal(torch.cat([b.images for b in batches]), split.images[order])
    assert torch.equal(torch.cat([b.labels for b in batches]), split.labels[order])
    crop = wsn.CropAndFlip(padding=3)
    found = torch.cat(
        [
            b.images
            for b in split.batches(
                order, batch_size=7, augmentation=crop, generator=torch.Generator().manual_seed(2)
            )
        ]
    )
    generator = torch.Generator().manual_seed(2)
    expected = [data.augment(split.images[i], crop, generator=generator) for i in order.split(7)]
    assert torch.equal(found, torch.cat(expected))
