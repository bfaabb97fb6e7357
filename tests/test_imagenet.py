"""ImageNet's folder: what is listed, how it is split, what streams from it, and what is refused."""

import multiprocessing
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SYNSETS, write_jpegs
from PIL import Image
from torchvision import datasets
from torchvision.transforms import v2

import wsnlib as wsn
from wsnlib import data, experiments
from wsnlib.data import imagenet, streaming
from wsnlib.experiments import durations

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),  # more processes than CPUs
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),  # Python 3.12
]

SPEC = wsn.ImageNet(image_size=29, normalisation="imagenet")


@pytest.fixture
def folder(small_imagenet, monkeypatch):
    monkeypatch.setenv("WSN_DATA", str(small_imagenet.parent))
    monkeypatch.setenv("WSN_WORKERS", "0")
    return small_imagenet


def batches(split, order=None, **options):
    order = torch.arange(len(split.labels)) if order is None else order
    return list(split.batches(order, **{"batch_size": 5} | options))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# -- what is there --


def test_files_labels_and_classes_are_those_of_torchvision(folder):
    loaded = wsn.load_data(SPEC)
    for name, split in (("train", loaded.train), ("val", loaded.test)):
        reference = datasets.ImageFolder(folder / name)
        paths = [str(split.files.path(i)) for i in range(len(split.labels))]
        assert list(zip(paths, split.labels.tolist(), strict=True)) == reference.imgs
    assert loaded.classes == SYNSETS
    assert loaded.image_shape == (3, 29, 29)
    assert loaded.num_inputs == 3 * 29 * 29
    assert len(loaded.validation.labels) == 0


def test_classes_are_called_what_torchvisions_meta_file_says(folder):
    names = {SYNSETS[2]: ("tabby", "tabby cat"), SYNSETS[0]: ("tench",), "n00000000": ("nothing",)}
    torch.save((names, []), folder / "meta.bin")
    assert wsn.load_data(SPEC).classes == ("tench", SYNSETS[1], "tabby, tabby cat")
    (folder / "meta.bin").write_bytes(b"broken")
    with pytest.raises(wsn.DataError, match=r"meta\.bin cannot be read .*; delete it$"):
        wsn.load_data(SPEC)


def test_what_is_no_image_and_no_class_is_not_listed_and_splits_are_found_in_any_case(folder):
    before = wsn.load_data(SPEC)
    for name in (".DS_Store", "._hidden.JPEG", "notes.txt"):
        (folder / "train" / SYNSETS[0] / name).write_text("no image")
    for name in (".hidden", "__MACOSX"):
        (folder / "train" / name).mkdir()
        Image.new("RGB", (5, 7)).save(folder / "train" / name / "0.JPEG")
    (folder / "train" / "n00000001").mkdir()
    (folder / "test").mkdir()  # ILSVRC's, without labels
    for split, name in (("train", "Train"), ("val", "VALID")):
        (folder / split).rename(folder / name)
    after = wsn.load_data(SPEC)
    assert after.sha256 == before.sha256
    assert np.array_equal(after.train.files.names, before.train.files.names)


def test_the_fingerprint_is_that_of_names_and_sizes(folder):
    found = [wsn.load_data(SPEC).sha256]
    first = folder / "train" / SYNSETS[1] / f"{SYNSETS[1]}_3.JPEG"
    first.rename(first.with_name("other.JPEG"))
    found.append(wsn.load_data(SPEC).sha256)
    content = first.with_name("other.JPEG").read_bytes()
    first.with_name("other.JPEG").unlink()
    first.write_bytes(content + b"x")
    found.append(wsn.load_data(SPEC).sha256)
    first.unlink()
    first.write_bytes(content)
    found.append(wsn.load_data(SPEC).sha256)
    assert found[0] == found[3]
    assert len(set(found)) == 3
    assert len(found[0]) == 64


def test_splits_are_disjoint_balanced_and_fixed_by_their_seed(folder):
    spec = replace(SPEC, validation_size=6, train_size=9)
    a, b, c = (wsn.load_data(s) for s in (spec, spec, replace(spec, split_seed=1)))
    names = [set(split.files.names.tolist()) for split in (a.train, a.validation)]
    assert [len(n) for n in names] == [9, 6]
    assert not names[0] & names[1]
    assert a.train.labels.bincount().tolist() == [3] * 3
    assert a.validation.labels.bincount().tolist() == [2] * 3
    for split in (a.train, a.validation):
        assert all(
            name.decode().startswith(SYNSETS[y])
            for name, y in zip(split.files.names, split.labels.tolist(), strict=True)
        )
    assert np.array_equal(a.train.files.names, b.train.files.names)
    assert not np.array_equal(a.train.files.names, c.train.files.names)


# -- what streams --


def test_images_for_evaluation_are_resized_to_eight_sevenths_and_cropped_at_the_centre(folder):
    loaded = wsn.load_data(replace(SPEC, image_size=28))
    transform = v2.Compose([v2.Resize(32), v2.CenterCrop(28), v2.PILToTensor()])
    reference = datasets.ImageFolder(folder / "val", transform=transform)
    order = torch.tensor([8, 0, 3, 5, 1, 7, 2])
    found = batches(loaded.test, order)
    assert [len(b.labels) for b in found] == [5, 2]
    images, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
    assert images.dtype == torch.uint8
    assert torch.equal(images, torch.stack([reference[i][0] for i in order]))
    assert labels.tolist() == [reference[i][1] for i in order]


def test_at_224_pixels_the_smaller_side_becomes_256(folder):
    path = folder / "val" / SYNSETS[0] / f"{SYNSETS[0]}_0.JPEG"
    expected = v2.Compose([v2.Resize(256), v2.CenterCrop(224), v2.PILToTensor()])(Image.open(path))
    assert torch.equal(streaming._centre(224)(Image.open(path)), expected)


def test_training_images_are_torchvisions_random_resized_crops(folder):
    train = wsn.load_data(SPEC).train
    crop = wsn.ResizedCropAndFlip(scale=(0.3, 0.6))
    found = torch.cat([b.images for b in batches(train, augmentation=crop, generator=seeded())])
    seeds = torch.randint(2**63 - 1, (21,), generator=seeded())
    transform = v2.Compose(
        [v2.RandomResizedCrop(29, scale=(0.3, 0.6)), v2.RandomHorizontalFlip(), v2.PILToTensor()]
    )
    expected = []
    with torch.random.fork_rng(devices=[]):
        for i, seed in enumerate(seeds.tolist()):
            torch.manual_seed(seed)
            expected.append(transform(Image.open(train.files.path(i))))
    assert torch.equal(found, torch.stack(expected))


def test_neither_the_number_of_processes_nor_the_batches_change_the_images(folder):
    train = wsn.load_data(SPEC).train
    order = torch.randperm(21, generator=seeded(3))
    state = torch.get_rng_state()
    found = []
    for workers, size in ((0, 5), (1, 5), (3, 2)):
        split = replace(train, num_workers=workers)
        parts = batches(
            split, order, batch_size=size, augmentation=wsn.ResizedCropAndFlip(), generator=seeded(1)
        )
        found.append([torch.cat(x) for x in zip(*parts, strict=True)])
    for images, labels in found[1:]:
        assert torch.equal(images, found[0][0])
        assert torch.equal(labels, train.labels[order])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no safe copies of a process")
def test_processes_that_read_are_copies_in_a_process_that_would_start_them_anew(folder, monkeypatch):
    red = Image.new("RGB", (29, 29), "red")
    monkeypatch.setattr(streaming, "read_image", lambda path: red)  # a new process would not know it
    train = replace(wsn.load_data(SPEC).train, num_workers=2)
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)  # as in a training process of run_missing
    try:
        images = torch.cat([batch.images for batch in batches(train)])
    finally:
        multiprocessing.set_start_method(before, force=True)
    assert images.amin((0, 2, 3)).tolist() == images.amax((0, 2, 3)).tolist() == [255, 0, 0]


def test_a_process_that_may_start_none_reads_images_itself(folder, monkeypatch):
    train = replace(wsn.load_data(SPEC).train, num_workers=2)
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)  # as workers of Dask are
    assert sum(len(batch.images) for batch in batches(train)) == 21


def test_another_seed_and_the_next_epoch_give_other_crops(folder):
    train = wsn.load_data(SPEC).train
    generator = seeded()
    options = {"augmentation": wsn.ResizedCropAndFlip(), "batch_size": 21}
    first, second = (batches(train, generator=generator, **options)[0].images for _ in range(2))
    other = batches(train, generator=seeded(1), **options)[0].images
    again = batches(train, generator=seeded(0), **options)[0].images
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)


def test_half_of_the_images_are_mirrored_if_that_is_asked_for(folder):
    path = folder / "train" / SYNSETS[0] / f"{SYNSETS[0]}_0.JPEG"
    Image.fromarray(np.tile(np.linspace(0, 255, 64, dtype=np.uint8), (64, 1))).save(path)
    train = wsn.load_data(SPEC).train
    order = torch.zeros(200, dtype=torch.int64)
    for flip, share in ((True, 0.5), (False, 0.0)):
        crop = wsn.ResizedCropAndFlip(flip=flip)
        (batch,) = batches(train, order, batch_size=200, augmentation=crop, generator=seeded())
        mirrored = (batch.images[:, 0, 14, 0] > batch.images[:, 0, 14, -1]).double().mean()
        assert abs(mirrored - share) <= 4 * (share * (1 - share) / 200) ** 0.5


def test_padded_crops_are_cut_from_the_centre_crop(folder):
    train = wsn.load_data(SPEC).train
    crop = wsn.CropAndFlip(padding=3)
    found = torch.cat([b.images for b in batches(train, augmentation=crop, generator=seeded())])
    generator = seeded()
    expected = [data.augment(b.images, crop, generator=generator) for b in batches(train)]
    assert torch.equal(found, torch.cat(expected))


def test_a_part_of_a_split_streams_its_own_images(folder):
    train = wsn.load_data(SPEC).train
    index = torch.tensor([20, 4, 11])
    part = train.take(index).take(torch.tensor([2, 0])).to("cpu")
    expected = batches(train, torch.tensor([11, 20]))[0]
    (found,) = batches(part)
    assert torch.equal(found.images, expected.images)
    assert found.labels.tolist() == expected.labels.tolist() == [1, 2]
    assert batches(train.take(index[:0])) == []


def test_gray_cmyk_and_disguised_images_become_rgb_and_exif_turns_nothing(folder):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (41, 53, 4), dtype=np.uint8)
    kinds = {
        "gray": ("L", "JPEG"),
        "cmyk": ("CMYK", "JPEG"),
        "png": ("RGBA", "PNG"),
        "turned": ("RGB", "JPEG"),
    }
    orientation = Image.Exif()
    orientation[0x0112] = 6
    for (name, (mode, kind)), old in zip(kinds.items(), range(4), strict=True):
        (folder / "train" / SYNSETS[0] / f"{SYNSETS[0]}_{old}.JPEG").unlink()
        shape = pixels[..., 0] if mode == "L" else pixels[..., : len(mode)]
        options = {"exif": orientation} if name == "turned" else {}
        Image.fromarray(np.ascontiguousarray(shape), mode=None if mode != "CMYK" else "CMYK").save(
            folder / "train" / SYNSETS[0] / f"{name}.JPEG", format=kind, **options
        )
    train = wsn.load_data(SPEC).train
    reference = datasets.ImageFolder(
        folder / "train", transform=v2.Compose([v2.Resize(33), v2.CenterCrop(29), v2.PILToTensor()])
    )
    found = torch.cat([b.images for b in batches(train)])
    assert torch.equal(found, torch.stack([image for image, _ in reference]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gets_the_same_bytes(folder):
    loaded = wsn.load_data(SPEC)
    options = {"augmentation": wsn.ResizedCropAndFlip(), "batch_size": 4}
    cpu = batches(loaded.train, generator=seeded(), **options)
    gpu = batches(loaded.to("cuda").train, generator=seeded(), **options)
    for a, b in zip(cpu, gpu, strict=True):
        assert b.images.device.type == b.labels.device.type == "cuda"
        assert torch.equal(a.images, b.images.cpu()) and torch.equal(a.labels, b.labels.cpu())


# -- a whole run --


def run_of(**changes):
    net = wsn.ResNet18Spec(width=2, num_classes=3, stem="imagenet")
    protocol = {"epochs": 2, "batch_size": 8, "augmentation": wsn.ResizedCropAndFlip()}
    return wsn.Experiment(
        model=net, data=replace(SPEC, validation_size=3), training=wsn.Training(**protocol | changes)
    )


def test_a_network_trains_on_streamed_images_and_repeats_itself(folder):
    a, b = (wsn.run(run_of(), device="cpu") for _ in range(2))
    assert a.history == b.history
    assert len(a.predictions) == 9
    assert a.environment["data_sha256"] == wsn.load_data(SPEC).sha256
    other = wsn.run(run_of(augmentation=None), device="cpu")
    assert other.history["train_loss"] != a.history["train_loss"]


def test_a_run_s_time_can_be_told_and_its_fit_is_checked(folder):
    run = run_of(batch_size=3)
    loaded = wsn.load_data(run.data)
    assert durations.seconds_per_run(experiments.plan(run, device="cpu", data=loaded), loaded) > 0
    wrong = replace(run, model=replace(run.model, num_classes=1000))
    with pytest.raises(
        ValueError, match="must have 3 input channels and 3 classes for ImageNet, got 3 and 1000"
    ):
        wsn.run(wrong)
    mlp = replace(run, model=wsn.MLPSpec(width=5))
    with pytest.raises(ValueError, match="must have 2523 inputs and 3 outputs for ImageNet, got 784 and 10"):
        wsn.run(mlp)


def test_kernels_are_not_measured_on_streamed_images(folder):
    spec = wsn.KernelDistances(inputs=SPEC, densities=(0.5,), num_pairs=2)
    with pytest.raises(ValueError, match=r"KernelDistances\.inputs must be .* lies in memory, got ImageNet"):
        wsn.run(spec)


# -- what is refused --


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("content", [b"no image", "cut"])
def test_a_damaged_image_stops_the_training_with_its_name(content, workers, folder):
    path = folder / "train" / SYNSETS[1] / f"{SYNSETS[1]}_2.JPEG"
    path.write_bytes(path.read_bytes()[:-300] if content == "cut" else content)
    train = replace(wsn.load_data(SPEC).train, num_workers=workers)
    command = f"`python -m wsnlib.data.prepare_imagenet {folder}` names all that cannot be read"
    found = train.batches(torch.arange(21), batch_size=4)
    assert [len(next(found).labels), len(next(found).labels)] == [4, 4]
    with pytest.raises(wsn.DataError, match=rf"^{path} cannot be read as an image .*; {command}$") as caught:
        next(found)
    assert "\n" not in str(caught.value)


def test_an_image_that_went_away_is_named(folder):
    train = wsn.load_data(SPEC).train
    train.files.path(3).unlink()
    with pytest.raises(wsn.DataError, match=f"{SYNSETS[0]}_3.JPEG cannot be read as an image .*No such file"):
        batches(train)


def remove(folder):
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


def test_folders_of_the_wrong_form_are_named(folder):
    one = next((folder / "train" / SYNSETS[0]).iterdir())
    one.unlink()
    with pytest.raises(
        wsn.DataError, match=r"must have 3 classes, 21 images in train and 9 in val, got 3, 20 and 9"
    ):
        wsn.load_data(SPEC)
    remove(folder / "val" / SYNSETS[1])
    for _ in range(2):
        with pytest.raises(
            wsn.DataError,
            match=f"must have the same classes, got {SYNSETS[1]} in train only .1 such class",
        ):
            wsn.load_data(SPEC)
        (folder / "val" / SYNSETS[1]).mkdir(exist_ok=True)  # an empty folder is no class
    other = folder / "val" / "n00000001"
    other.mkdir()
    Image.new("RGB", (5, 7)).save(other / "0.JPEG")
    with pytest.raises(
        wsn.DataError, match=r"must have the same classes, got n00000001 in val only \(2 such"
    ):
        wsn.load_data(SPEC)
    (folder / "Valid").mkdir()
    with pytest.raises(wsn.DataError, match="one folder for validation images, got 'Valid' and 'val'; join"):
        wsn.load_data(SPEC)
    (folder / "Valid").rmdir()
    remove(folder / "val")
    with pytest.raises(
        wsn.DataError,
        match="imagenet must have a folder 'val', got none; put images into train/<class> and val",
    ):
        wsn.load_data(SPEC)
    remove(folder)
    with pytest.raises(wsn.DataError, match=r"imagenet is not there; put .* or set WSN_DATA"):
        wsn.load_data(SPEC)
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True)
    with pytest.raises(wsn.DataError, match="must have a folder for each class, got none"):
        wsn.load_data(SPEC)


@pytest.mark.parametrize("key", ["num_classes", "num_train", "num_test"])
def test_a_part_of_imagenet_is_not_imagenet(key, folder, monkeypatch):
    known = data.KNOWN[wsn.ImageNet]
    more = known._replace(**{key: getattr(known, key) + 1})
    monkeypatch.setitem(data.KNOWN, wsn.ImageNet, more)
    with pytest.raises(wsn.DataError, match="must have .*, got 3, 21 and 9; "):
        wsn.load_data(SPEC)


# -- photographs of one's own --


@pytest.fixture
def pets(tmp_path, monkeypatch):
    monkeypatch.setenv("WSN_DATA", str(tmp_path))
    monkeypatch.setenv("WSN_WORKERS", "0")
    write_jpegs(tmp_path / "pets")
    return tmp_path / "pets"


def test_a_folder_of_your_own_is_looked_at_once_and_read_as_torchvision_reads_it(pets, capsys):
    deeper = pets / "train" / SYNSETS[0] / "more"  # torchvision takes what lies deeper in a class, too
    deeper.mkdir()
    Image.new("L", (50, 40), 77).save(deeper / "gray.jpeg")
    (pets / "train" / SYNSETS[1] / "notes.txt").write_text("no image")
    spec = wsn.image_folder("pets", image_size=28, validation_size=3)
    assert spec == wsn.ImageFolder(
        name="pets", sha256=spec.sha256, image_size=28, validation_size=3, normalisation="imagenet"
    )
    assert capsys.readouterr().out == (
        "pets is streamed: 22 images to train on, 9 to test, cut to 28 x 28 pixels, 3 classes\n"
        "  of each class, to train on + to test: n01440764: 8 + 3, n01443537: 7 + 3, n02123045: 7 + 3\n"
        "  images found: train in pets/train, test in pets/val\n"
        f"  left out, no image by its name: train/{SYNSETS[1]}/notes.txt\n"
    )
    loaded = wsn.load_data(replace(spec, validation_size=0))
    reference = datasets.ImageFolder(pets / "train")
    paths = [str(loaded.train.files.path(i)) for i in range(22)]
    assert list(zip(paths, loaded.train.labels.tolist(), strict=True)) == reference.imgs
    gray = batches(loaded.train, torch.tensor([paths.index(str(deeper / "gray.jpeg"))]))[0].images
    assert gray.shape == (1, 3, 28, 28) and (gray == 77).all()
    assert loaded.sha256 == spec.sha256
    assert [len(split.labels) for split in (wsn.load_data(spec).train, wsn.load_data(spec).validation)] == [
        19,
        3,
    ]
    assert (wsn.image_shape(spec), wsn.num_classes(spec)) == ((3, 28, 28), 3)


def test_a_link_in_a_class_is_followed_and_none_in_a_circle(pets, tmp_path, capsys):
    here = pets / "train" / SYNSETS[0]
    (tmp_path / "elsewhere").mkdir()
    Image.new("L", (50, 40), 77).save(tmp_path / "elsewhere" / "gray.jpeg")
    (here / "more").symlink_to(tmp_path / "elsewhere")
    (here / "round").symlink_to(here)
    wsn.image_folder("pets")
    said = capsys.readouterr().out
    assert "pets is streamed: 22 images to train on, 9 to test" in said
    assert f"left out, a link to a folder that is read already: train/{SYNSETS[0]}/round" in said


def test_a_folder_that_may_not_be_read_is_named(pets, monkeypatch):
    here, scandir = pets / "train" / SYNSETS[0] / "more", os.scandir
    here.mkdir()

    def refused(place):
        if Path(place) == here:
            raise PermissionError(13, "Permission denied", str(here))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(PermissionError, match="more"):
        imagenet.list_folder(pets)


def test_images_to_test_are_those_of_val_else_of_test(pets, capsys):
    write_jpegs(pets / "more", seed=1)
    (pets / "more" / "val").rename(pets / "Test")
    remove(pets / "more")
    both = wsn.image_folder("pets")
    assert "left out, not used: 9 images in Test" in capsys.readouterr().out
    remove(pets / "val")
    other = wsn.image_folder("pets")
    assert "test in pets/Test" in capsys.readouterr().out
    assert both.sha256 != other.sha256


def test_a_folder_that_has_changed_or_is_no_name_of_ones_own_is_refused(pets):
    spec = wsn.image_folder("pets")
    (pets / "val" / SYNSETS[0] / f"{SYNSETS[0]}_0.JPEG").unlink()
    with pytest.raises(wsn.DataError, match=r"pets is not the folder of checksum .*; look at it again with"):
        wsn.load_data(spec)
    (pets / "damaged.txt").write_text("val/x.JPEG\tcut off\n")
    for look in (lambda: wsn.image_folder("pets"), lambda: wsn.load_data(spec)):
        with pytest.raises(wsn.DataError, match="could not be read when it was prepared"):
            look()
    with pytest.raises(ValueError, match="name must be a word other than .*, got 'imagenet'; choose another"):
        wsn.image_folder("imagenet")
    with pytest.raises(ValueError, match="name must be a word of letters, digits and underscores, got 'a b'"):
        wsn.image_folder("a b")
    with pytest.raises(wsn.DataError, match="cats is not there"):
        wsn.image_folder("cats")


def test_a_sparse_network_is_trained_on_photographs(pets):
    base = wsn.ResNet18Spec(width=2, num_classes=3, stem="imagenet", initialisation="fan_out")
    run = wsn.Experiment(
        model=wsn.StaticSparsity(base, width=3),
        data=wsn.image_folder("pets", image_size=32, validation_size=3),
        training=wsn.Training(
            epochs=2, batch_size=8, augmentation=wsn.ResizedCropAndFlip(), report="best_validation"
        ),
        seed=0,
    )
    store = wsn.Store(pets.parent / "store")
    wsn.run_missing([run], store=store, progress=False)
    record = store.load(run)
    assert record.status == "finished"
    assert record.network["num_weights"] == wsn.num_weights(wsn.build(base))


def test_statistics_of_the_training_images_are_refused_before_anything_is_read(tmp_path):
    with pytest.raises(
        wsn.DataError,
        match="normalisation must be 'imagenet' or 'unit' for images .*, got 'standardise'",
    ):
        wsn.load_data(wsn.ImageNet(), root=tmp_path / "nothing")


def test_bytes_become_numbers_on_either_scale(folder):
    white = torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)
    imagenet = wsn.load_data(SPEC).normalise(white).flatten()
    assert imagenet.tolist() == pytest.approx([0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225], rel=1e-5)
    unit = wsn.load_data(replace(SPEC, normalisation="unit")).normalise(white).flatten()
    assert unit.tolist() == [1, 1, 1]


def test_the_number_of_processes_is_that_of_the_cpus_or_as_given(monkeypatch):
    monkeypatch.delenv("WSN_WORKERS", raising=False)
    for cpus, workers in ((7, 7), (16, 16), (99, 16)):
        monkeypatch.setattr(streaming, "usable_cpus", lambda cpus=cpus: cpus)
        assert streaming.default_workers() == workers
        assert [streaming.readers(trainings) for trainings in (1, 3, 200)] == [workers, min(cpus // 3, 16), 1]
    monkeypatch.setenv("WSN_WORKERS", "23")
    assert streaming.default_workers() == 23
    for wrong in ("-1", "two", ""):
        monkeypatch.setenv("WSN_WORKERS", wrong)
        with pytest.raises(wsn.DataError, match=f"WSN_WORKERS must be an integer ≥ 0, got '{wrong}'"):
            streaming.default_workers()
    monkeypatch.undo()
    assert 1 <= streaming.usable_cpus() <= os.cpu_count()
