"""Data of one's own: what images, folders and arrays are taken for, and what is refused."""

import functools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import small_arrays
from PIL import Image
from torchvision.datasets.folder import default_loader

import wsnlib as wsn
from wsnlib.data import archives


def test_an_archive_of_ones_own_is_packed_once_and_known_by_its_checksum(tmp_path):
    np.savez(tmp_path / "raw.npz", **small_arrays(3))
    spec = wsn.pack_data(tmp_path / "raw.npz", name="mine", root=tmp_path)
    loaded = wsn.load_data(replace(spec, validation_size=10), root=tmp_path)
    assert [len(s.labels) for s in (loaded.train, loaded.validation, loaded.test)] == [50, 10, 20]
    np.savez(tmp_path / "raw.npz", **small_arrays(4))
    assert wsn.pack_data(tmp_path / "raw.npz", name="mine", root=tmp_path) != spec
    with pytest.raises(
        wsn.DataError, match=r"mine\.npz is not the mine data set .* got (\w+); take that"
    ) as caught:
        wsn.load_data(spec, root=tmp_path)
    advised = replace(spec, sha256=str(caught.value).split("got ")[1][:64])
    assert len(wsn.load_data(advised, root=tmp_path).test.labels) == 20


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


def test_the_source_is_not_replaced(tmp_path):
    np.savez(tmp_path / "mine.npz", **small_arrays(3))
    before = (tmp_path / "mine.npz").read_bytes()
    with pytest.raises(ValueError, match="name must be another than that of the source, got 'mine'"):
        wsn.pack_data(tmp_path / "mine.npz", name="mine", root=tmp_path)
    assert (tmp_path / "mine.npz").read_bytes() == before


def test_several_threads_may_pack_the_same(tmp_path):
    arrays = archives.canonical(small_arrays(3), "mine")
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            list(pool.map(lambda _: archives.write_archive(arrays, tmp_path / "mine.npz"), range(4)))
    assert archives.read_archive(tmp_path / "mine.npz").sha256 == arrays.sha256


def test_without_a_test_split_a_balanced_part_is_set_aside(tmp_path):
    arrays = {k: v for k, v in small_arrays().items() if k.startswith("train")}
    np.savez(tmp_path / "raw.npz", **arrays)
    loaded = wsn.load_data(wsn.pack_data(tmp_path / "raw.npz", name="mine", root=tmp_path), root=tmp_path)
    assert loaded.test.labels.bincount().tolist() == [1] * 10
    assert len(loaded.train.labels) == 50
    larger = wsn.pack_data(tmp_path / "raw.npz", name="larger", test_fraction=0.3, root=tmp_path)
    assert wsn.load_data(larger, root=tmp_path).test.labels.bincount().tolist() == [2] * 10
    most = wsn.pack_data(tmp_path / "raw.npz", name="most", test_fraction=0.95, root=tmp_path)
    assert wsn.load_data(most, root=tmp_path).train.labels.bincount().tolist() == [1] * 10


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
        wsn.DataError,
        match=r"train/cat/1\.png must be of 9 x 11 pixels .*, got 10 x 11; give size=\(height, width\)",
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


def test_gray_images_of_16_bits_keep_their_upper_8(tmp_path):
    pixels = np.array([[0, 255, 256], [1000, 32768, 65535]], dtype=np.uint16)
    (tmp_path / "gray" / "one").mkdir(parents=True)
    for i in range(3):
        Image.fromarray(pixels + np.uint16(i)).save(tmp_path / "gray" / "one" / f"{i}.png")
    spec = wsn.pack_data(tmp_path / "gray", name="gray", root=tmp_path)
    images = wsn.load_data(spec, root=tmp_path).train.images
    assert images[:, 0, 1, :2].tolist() == [[3, 128]] * 2


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (
            ("train/a", "train/b", "test/a", "test/c"),
            r"every split must have classes of .*train only, got 'c' in .*test",
        ),
        (("a", "b"), r"pets must have at least 2 images of each class, .*, got 1 of one"),
    ],
)
def test_folders_that_would_lose_a_class_are_refused(folders, message, tmp_path):
    for folder in folders:
        (tmp_path / "pets" / folder).mkdir(parents=True)
        Image.new("L", (4, 4)).save(tmp_path / "pets" / folder / "0.png")
    with pytest.raises(wsn.DataError, match=message):
        wsn.pack_data(tmp_path / "pets", name="pets", root=tmp_path)


def test_more_than_256_class_folders_are_refused(tmp_path):
    for label in range(257):
        (tmp_path / "many" / f"{label:03}").mkdir(parents=True)
        for i in range(2):
            Image.new("L", (1, 1)).save(tmp_path / "many" / f"{label:03}" / f"{i}.png")
    with pytest.raises(wsn.DataError, match="must be .* integers of 0 to 255, got"):
        wsn.pack_data(tmp_path / "many", name="many", root=tmp_path)


def test_a_known_data_set_is_not_written_over(tmp_path):
    np.savez(tmp_path / "raw.npz", **small_arrays())
    with pytest.raises(ValueError, match="name must be a word other than cifar10, .*, got 'mnist'"):
        wsn.pack_data(tmp_path / "raw.npz", name="mnist", root=tmp_path)


def test_an_archive_without_labels_is_refused(tmp_path):
    np.savez(tmp_path / "raw.npz", train_x=small_arrays()["train_x"])
    with pytest.raises(wsn.DataError, match="must have an array 'train_y', got train_x"):
        wsn.pack_data(tmp_path / "raw.npz", name="mine", root=tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"train_x": np.zeros((60, 784), np.uint8)},
            r"train_x of .* must be uint8 \(0 to 255\) of shape .*, got uint8 of shape \(60, 784\)",
        ),
        (
            {"train_y": np.zeros(59, int)},
            r"train_y of .* must be 60 integers of 0 to 255, got int64 of shape \(59,\)",
        ),
        (
            {"train_y": np.zeros(60)},
            "train_y of .* must be 60 integers of 0 to 255, got float64 .* from 0.0 to 0.0",
        ),
        ({"classes": np.array(["a"])}, "must name a class for each label of 0 to 9, got 1 names"),
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
    with pytest.raises(
        wsn.DataError,
        match="must be an .npz file or a folder of images, got .*nothing', where there is nothing",
    ):
        wsn.pack_data(tmp_path / "nothing", name="mine", root=tmp_path)


def test_imagenets_statistics_are_taken_for_colour_images_only(tmp_path):
    pixels = np.arange(40 * 5 * 7 * 3, dtype=np.uint8).reshape(40, 5, 7, 3)
    labels = np.arange(40) % 2
    np.savez(tmp_path / "a.npz", train_x=pixels, train_y=labels)
    spec = replace(wsn.pack_data(tmp_path / "a.npz", name="colour", root=tmp_path), normalisation="imagenet")
    loaded = wsn.load_data(spec, root=tmp_path)
    found = loaded.normalise(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)).flatten()
    assert found.tolist() == pytest.approx([0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225], rel=1e-5)
    with pytest.raises(wsn.DataError, match="must have 3 channels for normalisation 'imagenet', got 1"):
        wsn.load_data(wsn.Digits(normalisation="imagenet"))


# -- what a folder means --


def fill(folder, *names: str, images: int = 3) -> None:
    """Images of 7 x 5 pixels, each of its own colour, in folders that are made."""
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(images):
            colour = tuple(np.random.default_rng([i, *name.encode()]).integers(0, 256, 3).tolist())
            Image.new("RGB", (7, 5), colour).save(folder / name / f"{i}.png")


def packed(folder, **options) -> wsn.data.Dataset:
    spec = wsn.pack_data(folder, name="mine", root=folder.parent, **options)
    return wsn.load_data(spec, root=folder.parent)


CATS_DOGS = ("cat", "dog")
SPLITS = [
    *((a, b) for a in ("train", "Train", "TRAINING") for b in ("test", "Test", "TESTING")),
    *(("train", b) for b in ("val", "Valid", "VALIDATION")),
]


@pytest.mark.parametrize("above", ["", "photos/", "a/b/"])
@pytest.mark.parametrize(("train", "test"), SPLITS)
def test_splits_are_found_in_any_case_and_one_level_down(train, test, above, tmp_path):
    for name in CATS_DOGS:
        fill(tmp_path / "x", f"{above}{train}/{name}", images=5)
        fill(tmp_path / "x", f"{above}{test}/{name}", images=2)
    loaded = packed(tmp_path / "x")
    assert loaded.classes == CATS_DOGS
    assert loaded.train.labels.bincount().tolist() == [5, 5]
    assert loaded.test.labels.bincount().tolist() == [2, 2]


def test_images_for_validation_join_those_to_train_on_where_there_is_a_test(tmp_path, capsys):
    for split, count in (("train", 5), ("val", 3), ("test", 2)):
        fill(tmp_path / "x", *(f"{split}/{name}" for name in CATS_DOGS), images=count)
    loaded = packed(tmp_path / "x")
    assert [len(s.labels) for s in (loaded.train, loaded.test)] == [16, 4]
    assert "for validation joined those to train on" in capsys.readouterr().out


@pytest.mark.parametrize(
    "folders",
    [
        ("cat", "dog"),
        ("photos/cat", "photos/dog"),
        ("cat/small", "cat/large", "dog/1/2"),
        ("train/images/cat", "train/images/dog"),
        ("cat", "dog", ".cache/train", "__MACOSX/train", "@eaDir/cat", "cat/.ipynb_checkpoints"),
        ("photos/train/cat", "photos/train/dog", "__MACOSX/photos/train/cat"),
        ("train/cat", "train/dog", "train/.ipynb_checkpoints"),
    ],
)
def test_a_class_is_a_folder_with_images(folders, tmp_path, capsys):
    fill(tmp_path / "x", *folders, images=2)
    for name in ("fish", "train/fish", "notes/old"):
        if name != "train/fish" or (tmp_path / "x" / "train").is_dir():
            (tmp_path / "x" / name).mkdir(parents=True)
    (tmp_path / "x" / "notes" / "a.txt").write_text("no image")
    loaded = packed(tmp_path / "x")
    assert loaded.classes == CATS_DOGS
    seen = [f for f in folders if not any(part.startswith((".", "_", "@")) for part in f.split("/"))]
    assert len(loaded.train.labels) + len(loaded.test.labels) == 2 * len(seen)
    said = capsys.readouterr().out
    assert "left out, without images: fish, notes" in said
    assert ("left out, hidden: " in said) == (len(seen) < len(folders))


def test_a_class_may_be_called_like_a_split_where_there_are_splits(tmp_path):
    fill(tmp_path / "x", *(f"{s}/{c}" for s in ("train", "test") for c in ("bus", "test", "train")))
    assert packed(tmp_path / "x").classes == ("bus", "test", "train")


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("bus", "car", "train"), "must hold folders of splits or of classes, got train beside 'bus'; move"),
        (("train/cat", "test/cat", "more/cat"), "got test, train beside 'more'; move 'more' away"),
        (
            ("train", "test"),
            "must hold images to train on in one folder per class .*got 6 images in test, tr",
        ),
        (("val/cat", "test/cat"), "must hold images to train on .*, got 6 images in test, val; names that"),
        (("train/cat", "Train/dog"), "must have one folder for train images, got 'Train' and 'train'; join"),
        (("train/cat", "val/cat", "valid/cat"), "one folder for validation images, got 'val' and 'valid'"),
        (
            ("cat/train", "cat/test", "dog/train"),
            "no split inside of a class, got 'cat/test'; put splits outside",
        ),
        (
            ("a/train/cat", "b/train/cat"),
            "no split inside of a class, got 'a/train/cat'; put .* or give the fo",
        ),
        (
            ("train/train/cat", "train/train/dog"),
            "no split inside of a class, got 'train/cat'; put splits outs",
        ),
        ((), "must hold images to train on .*, got 0 images in no folder; names that end in .*jpg.* are im"),
        (("",), r"must hold images to train on in .*, got 3 images in no folder"),
    ],
)
def test_folders_that_can_be_read_in_two_ways_or_none_are_refused(folders, message, tmp_path):
    (tmp_path / "x").mkdir()
    fill(tmp_path / "x", *folders)
    with pytest.raises(wsn.DataError, match=message):
        packed(tmp_path / "x")
    assert not (tmp_path / "mine.npz").exists()


def test_links_are_followed_once(tmp_path, capsys):
    fill(tmp_path / "elsewhere", "cat")
    fill(tmp_path / "x", "dog")
    (tmp_path / "x" / "cat").symlink_to(tmp_path / "elsewhere" / "cat")
    (tmp_path / "x" / "dog" / "round").symlink_to(tmp_path / "x")
    loaded = packed(tmp_path / "x")
    assert loaded.classes == CATS_DOGS
    assert len(loaded.train.labels) + len(loaded.test.labels) == 6
    assert "left out, a link to a folder that is read already: dog/round" in capsys.readouterr().out


def test_images_in_a_split_but_in_no_class_are_left_out_by_name(tmp_path, capsys):
    fill(tmp_path / "x", "train/cat", "train/dog", "test", ".", images=7)
    loaded = packed(tmp_path / "x")
    assert len(loaded.train.labels) + len(loaded.test.labels) == 14
    said = " ".join(capsys.readouterr().out.split())
    assert "left out, in no folder of a class: 0.png, 1.png, 2.png, 3.png, 4.png, … (14 in all)" in said


# -- which images go together --


def test_gray_colour_palette_and_alpha_become_what_torchvision_makes_of_them(tmp_path, capsys):
    pixels = Image.fromarray(np.random.default_rng(0).integers(0, 256, (11, 13, 4), dtype=np.uint8))
    kinds = {"RGB": "JPEG", "L": "JPEG", "CMYK": "JPEG", "P": "GIF", "1": "PNG", "LA": "PNG", "RGBA": "PNG"}
    for split in ("train", "test"):
        (tmp_path / "x" / split / "cat").mkdir(parents=True)
        for mode, kind in kinds.items():
            path = tmp_path / "x" / split / "cat" / f"{mode}.{kind.lower()}"
            (pixels if mode.endswith("A") else pixels.convert("RGB")).convert(mode).save(path)
    loaded = packed(tmp_path / "x")
    for split in ("train", "test"):
        files = [p for p in (tmp_path / "x" / split).rglob("*") if p.is_file()]
        right = {np.asarray(default_loader(str(path))).tobytes() for path in files}
        found = getattr(loaded, split).images.permute(0, 2, 3, 1)
        assert {x.contiguous().numpy().tobytes() for x in found} == right
        assert len(right) == len(found) == len(kinds)
    said = capsys.readouterr().out
    assert "6 gray image(s) became RGB" in said
    assert "dropped: transparency of 4 image(s)" in said


def test_a_folder_that_is_gray_throughout_stays_gray(tmp_path):
    pixels = Image.fromarray(np.random.default_rng(0).integers(0, 256, (11, 13, 4), dtype=np.uint8))
    for name, mode in (("a", "L"), ("b", "LA"), ("c", "1")):
        (tmp_path / "x" / "train" / name).mkdir(parents=True)
        for i in range(2):
            pixels.rotate(180 * i).convert(mode).save(tmp_path / "x" / "train" / name / f"{i}.png")
    assert packed(tmp_path / "x").image_shape == (1, 11, 13)


def test_one_image_in_colour_among_those_to_test_makes_all_of_them_rgb(tmp_path):
    fill(tmp_path / "x", "train/cat", "test/cat")
    for path in (tmp_path / "x" / "train" / "cat").iterdir():
        Image.new("L", (7, 5), 77).save(path)
    loaded = packed(tmp_path / "x")
    assert loaded.train.images.shape == (3, 3, 5, 7)
    assert loaded.train.images.unique().tolist() == [77]


def test_images_of_16_bits_that_use_10_of_them_are_refused_together(tmp_path):
    values = np.random.default_rng(0).integers(0, 1024, (6, 5, 7), dtype=np.uint16)
    (tmp_path / "x" / "cat").mkdir(parents=True)
    for i, image in enumerate(values):
        Image.fromarray(image).save(tmp_path / "x" / "cat" / f"{i}.png")
    with pytest.raises(
        wsn.DataError, match=rf"0\.png and .*, got at most {values.max()} of 65535, .*; scale"
    ):
        packed(tmp_path / "x")
    values[3, 2, 1] = 4096  # a dark image is one among brighter ones
    Image.fromarray(values[3]).save(tmp_path / "x" / "cat" / "3.png")
    assert packed(tmp_path / "x").image_shape == (1, 5, 7)


# -- what arrays mean --


def arrays_of(shape=(11, 13, 3), classes: int = 5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "train_x": rng.integers(0, 256, (23, *shape), dtype=np.uint8),
        "train_y": np.arange(23) % classes,
        "test_x": rng.integers(0, 256, (7, *shape), dtype=np.uint8),
        "test_y": np.arange(7) % classes,
    }


def each(ending: str, change):
    """All arrays whose name ends so, changed."""
    return lambda arrays: {k: change(v) if k.endswith(ending) else v for k, v in arrays.items()}


WORDS = np.array(["ant", "bee", "cat", "dog", "eel"])
SAME = {
    "channels first": each("_x", lambda x: x.transpose(0, 3, 1, 2)),
    "integers": each("_x", lambda x: x.astype(np.int64)),
    "floats to 255": each("_x", lambda x: x.astype(np.float32)),
    "floats near whole numbers": each("_x", lambda x: np.clip(x + 0.3, 0, 255)),
    "floats to 1": each("_x", lambda x: x / 255),
    "half precision to 1": each("_x", lambda x: (x / 255).astype(np.float16)),
    "a column of labels": each("_y", lambda y: y[:, None]),
    "rows with a single 1": each("_y", lambda y: np.eye(5)[y]),
    "labels from 1": each("_y", lambda y: y + 1),
    "labels with gaps": each("_y", lambda y: np.array([3, 7, 300, 301, 999])[y]),
    "words": each("_y", lambda y: WORDS[y]),
    "labels from 1 with names": lambda a: each("_y", lambda y: y + 1)(a) | {"classes": WORDS},
    "words in an order": lambda a: (
        a | {"classes": WORDS[::-1]} | {f"{s}_y": WORDS[::-1][a[f"{s}_y"]] for s in ("train", "test")}
    ),
    "other names of arrays": lambda a: {"_".join(k.split("_")[::-1]).upper(): v for k, v in a.items()},
    "validation": lambda a: {k.replace("test", "valid"): v for k, v in a.items()},
    "other arrays": lambda a: a | {"ids": np.arange(3)},
}


@pytest.mark.parametrize("form", SAME)
def test_arrays_in_another_form_are_the_same_data(form, tmp_path, capsys):
    np.savez(tmp_path / "a.npz", **arrays_of())
    spec = wsn.pack_data(tmp_path / "a.npz", name="mine", root=tmp_path)
    plain = capsys.readouterr().out
    np.savez(tmp_path / "a.npz", **SAME[form](arrays_of()))
    assert wsn.pack_data(tmp_path / "a.npz", name="mine", root=tmp_path) == spec
    quiet = (
        "a column of labels",
        "rows with a single 1",
        "words",
        "words in an order",
        "other names of arrays",
    )
    assert (len(capsys.readouterr().out.splitlines()) > len(plain.splitlines())) == (form not in quiet)


@pytest.mark.parametrize(
    ("form", "classes"),
    [
        ("labels from 1", tuple("12345")),
        ("labels with gaps", ("3", "7", "300", "301", "999")),
        ("words", tuple(WORDS)),
        ("labels from 1 with names", tuple(WORDS)),
        ("words in an order", tuple(WORDS[::-1])),
        ("rows with a single 1", tuple("01234")),
    ],
)
def test_classes_are_called_as_their_labels_were(form, classes, tmp_path):
    np.savez(tmp_path / "a.npz", **SAME[form](arrays_of()))
    spec = wsn.pack_data(tmp_path / "a.npz", name="mine", root=tmp_path)
    assert wsn.load_data(spec, root=tmp_path).classes == classes


def test_named_classes_may_have_no_image_and_false_and_true_are_classes(tmp_path):
    np.savez(tmp_path / "a.npz", **arrays_of(classes=3), classes=WORDS)
    spec = wsn.pack_data(tmp_path / "a.npz", name="mine", root=tmp_path)
    assert wsn.load_data(spec, root=tmp_path).classes == tuple(WORDS)
    np.savez(tmp_path / "a.npz", **each("", lambda a: a > 0)(arrays_of((11, 13), classes=2)))
    loaded = wsn.load_data(wsn.pack_data(tmp_path / "a.npz", name="b", root=tmp_path), root=tmp_path)
    assert loaded.classes == ("False", "True")
    assert loaded.train.images.unique().tolist() == [0, 255]


def test_the_last_axis_holds_the_channels_if_it_can(tmp_path):
    for shape, right in {
        (3, 11, 4): (4, 3, 11),
        (11, 13, 5): (5, 11, 13),
        (2, 11, 13): (2, 11, 13),
        (1, 11, 13): (1, 11, 13),
    }.items():
        np.savez(tmp_path / "a.npz", **arrays_of(shape))
        spec = wsn.pack_data(tmp_path / "a.npz", name="mine", root=tmp_path)
        assert wsn.load_data(spec, root=tmp_path).image_shape == right


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            each("_x", lambda x: x / 127.5 - 1),
            "must be on one scale, .*, got float64 from -1 to 1; scale them",
        ),
        (each("_x", lambda x: x / 100), "got float64 from 0 to 2.55; scale them"),
        (each("_x", lambda x: x.astype(int) + 1), "got int64 from 0 to 256; scale them"),
        (each("_x", lambda x: x.astype(np.uint16) << 8), "got uint16 from 0 to 65280; scale them"),
        (each("_x", lambda x: np.where(x == 7, np.nan, x)), "got float64 from nan to nan; scale them"),
        (each("_x", lambda x: x.astype(complex)), "got complex128; scale them"),
        (each("train_x", lambda x: x / 255), "got float64 and uint8; scale them"),
        (
            lambda a: a | {"train_x": a["train_x"] / 255, "test_x": a["test_x"] / 1},
            "got float64 from 0 to 255",
        ),
        (
            each("_x", lambda x: np.tile(x, (1, 1, 1, 5))),
            r"got \(23, 11, 13, 15\), where no axis can be said",
        ),
        (each("test_y", lambda y: y + 1), "test_y of .* must have labels of train_y, got 5 besides; take"),
        (
            each("_y", lambda y: np.array(WORDS)[y] if len(y) < 9 else y),
            "must have labels of train_y, got 'ant'",
        ),
        (
            each("_y", lambda y: np.eye(5)[y] + np.eye(5)[0]),
            r"train_y of .* must be 23 integers of 0 to 255, got float64 of shape \(23, 5\)",
        ),
        (
            each("_y", lambda y: y - 1),
            "train_y of .* must be 23 integers of 0 to 255, got int64 of shape .* from -1 to",
        ),
        (each("_y", lambda y: y / 2), "train_y of .* must be 23 integers of 0 to 255, got float64 of shape"),
        (lambda a: a | {"classes": WORDS[:3]}, "must name a class for each label of 0 to 4, got 3 names"),
        (
            lambda a: each("_y", lambda y: WORDS[y])(a) | {"classes": WORDS[1:]},
            "must hold every label, got 'ant'",
        ),
        (lambda a: a | {"x_train": a["train_x"]}, "must have one array train_x, got a second one, 'x_train'"),
        (
            lambda a: {k: v for k, v in a.items() if k != "test_x"},
            "must have an array 'test_x', got test_y, train",
        ),
        (lambda a: a | {"val_x": a["test_x"]}, "must have an array 'validation_y', got test_x, test_y"),
        (
            lambda a: a | {"val_x": a["test_x"][:, 1:], "val_y": a["test_y"]},
            r"must be of one shape, got \(11, 13, 3\) to train on and \(10, 13, 3\) for validation; resize",
        ),
    ],
)
def test_arrays_that_can_be_read_in_two_ways_or_none_are_refused(change, message, tmp_path):
    np.savez(tmp_path / "a.npz", **change(arrays_of()))
    with pytest.raises(wsn.DataError, match=message):
        wsn.pack_data(tmp_path / "a.npz", name="mine", root=tmp_path)
    assert not (tmp_path / "mine.npz").exists()


def test_wrong_sizes_and_names_are_refused_before_anything_is_read(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"no archive")
    for options, message in (
        ({"size": 32}, r"size must be \(height, width\), got 32; give two integers"),
        ({"size": (3, 5)}, r"size must be None for arrays, got \(3, 5\); resize them"),
        ({"name": "my data"}, "name must be a word of letters, .*, got 'my data'"),
    ):
        with pytest.raises(ValueError, match=message):
            wsn.pack_data(tmp_path / "a.npz", **{"name": "mine"} | options, root=tmp_path)


def test_the_report_says_what_the_folder_was_taken_for(tmp_path, capsys):
    fill(tmp_path / "x", "Train/cat", "Train/dog", "val/cat", "val/dog")
    Image.new("L", (9, 9)).save(tmp_path / "x" / "Train" / "dog" / "0.png")
    (tmp_path / "x" / "Train" / "dog" / "notes.txt").write_text("no image")
    (tmp_path / "x" / ".DS_Store").write_text("no image")
    (tmp_path / "x" / "fish").mkdir()
    packed(tmp_path / "x", size=(5, 5))
    assert capsys.readouterr().out.splitlines() == [
        "x is packed as mine: 6 images to train on, 6 to test, 5 x 5 pixels, 3 channel(s), 2 classes",
        "  of each class, to train on + to test: cat: 3 + 3, dog: 3 + 3",
        "  images found: train in x/Train, validation in x/val",
        "  left out, hidden: .DS_Store",
        "  left out, no image by its name: Train/dog/notes.txt",
        "  left out, without images: fish",
        "  1 gray image(s) became RGB, as the others are",
        "  resized from 2 size(s), 5 x 7 to 9 x 9 pixels",
        "  no images to test: those for validation are taken",
    ]


def test_floats_that_were_scaled_twice_are_refused(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (12, 5, 5)) / 255
    save = functools.partial(np.savez, tmp_path / "raw.npz", train_y=np.arange(12) % 2)
    save(train_x=x / 255)
    with pytest.raises(
        wsn.DataError, match="must be near 1 .*, got float64 from 0 to 0.0039.*, of which 8 bits"
    ):
        wsn.pack_data(tmp_path / "raw.npz", name="mine", root=tmp_path)
    save(train_x=x / 8)
    wsn.pack_data(tmp_path / "raw.npz", name="mine", root=tmp_path)


def test_arrays_are_no_path(tmp_path):
    with pytest.raises(
        wsn.DataError, match="source must be a path, got a ndarray; write arrays with np.savez first"
    ):
        wsn.pack_data(np.zeros((4, 5, 5)), name="mine", root=tmp_path)
