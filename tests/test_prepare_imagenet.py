"""Resizing ImageNet: what is written, what is done when it is killed, and what cannot be read."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest import SYNSETS, write_jpegs
from PIL import Image
from torchvision.transforms import v2

import wsnlib as wsn
from wsnlib.data import prepare_imagenet
from wsnlib.data.prepare_imagenet import main, prepare

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),  # more processes than CPUs
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),  # Python 3.12
]

SPEC = wsn.ImageNet(image_size=29, normalisation="imagenet")


def contents(folder):
    """Every file below a folder, hidden ones too."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def images(folder):
    return {name: content for name, content in contents(folder).items() if name.endswith(".JPEG")}


def damage(path):
    path.write_bytes(path.read_bytes()[:-300])


def test_the_smaller_side_is_resized_and_proportions_are_kept(small_imagenet, tmp_path):
    (tmp_path / "new").mkdir()
    assert prepare(small_imagenet, tmp_path / "new", size=23) == []
    assert images(tmp_path / "new").keys() == images(small_imagenet).keys()
    assert len(images(tmp_path / "new")) == 30
    for name in images(small_imagenet):
        with Image.open(small_imagenet / name) as before, Image.open(tmp_path / "new" / name) as after:
            assert min(after.size) == 23
            assert after.format == "JPEG" and after.mode == "RGB"
            width, height = before.size
            assert after.width / after.height == pytest.approx(width / height, rel=1 / 23)
            exact = np.asarray(v2.functional.resize(before.convert("RGB"), [23]), dtype=float)
            assert np.abs(np.asarray(after, dtype=float) - exact).mean() < 3


def test_small_images_grow_to_256_pixels_by_default(small_imagenet, tmp_path):
    assert main([str(small_imagenet), str(tmp_path / "new"), "--workers", "0"]) == 0
    for name in images(tmp_path / "new"):
        with Image.open(tmp_path / "new" / name) as image:
            assert min(image.size) == 256


def test_what_is_prepared_loads_under_the_same_labels_and_says_that_it_is_other_data(
    small_imagenet, tmp_path
):
    torch.save(({SYNSETS[0]: ("tench",)}, []), small_imagenet / "meta.bin")
    prepare(small_imagenet, tmp_path / "root" / "imagenet", size=31)
    before, after = (wsn.load_data(SPEC, root=root) for root in (tmp_path, tmp_path / "root"))
    for a, b in ((before.train, after.train), (before.test, after.test)):
        assert np.array_equal(a.files.names, b.files.names)
        assert torch.equal(a.labels, b.labels)
    assert after.classes == before.classes == ("tench", *SYNSETS[1:])
    assert before.sha256 != after.sha256


def test_what_lies_deeper_in_a_class_is_prepared_at_its_place_and_once(small_imagenet, tmp_path):
    deeper = small_imagenet / "train" / SYNSETS[0] / "more"
    deeper.mkdir()
    Image.new("RGB", (50, 40)).save(deeper / "a.JPEG")
    assert prepare(small_imagenet, tmp_path / "new", size=23) == []
    assert images(tmp_path / "new").keys() == images(small_imagenet).keys()
    written = tmp_path / "new" / "train" / SYNSETS[0] / "more" / "a.JPEG"
    before = written.stat().st_mtime_ns
    prepare(small_imagenet, tmp_path / "new", size=23)
    assert written.stat().st_mtime_ns == before  # what is there is kept


def test_quality_and_size_of_one_folder_are_fixed(small_imagenet, tmp_path):
    finest, coarse = (tmp_path / name for name in ("finest", "coarse"))
    prepare(small_imagenet, finest, size=23)
    prepare(small_imagenet, coarse, size=23, quality=40)
    assert sum(map(len, images(coarse).values())) < 0.8 * sum(map(len, images(finest).values()))
    for changes in ({"size": 24}, {"size": 23, "quality": 94}):
        with pytest.raises(wsn.DataError, match=r"was prepared with .*'size': 23.* needs another folder"):
            prepare(small_imagenet, finest, **changes)


def test_neither_processes_nor_repetition_change_anything(small_imagenet, tmp_path):
    prepare(small_imagenet, tmp_path / "one", size=23)
    assert main([str(small_imagenet), str(tmp_path / "two"), "--size", "23", "--workers", "2"]) == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert not (tmp_path / "two" / ".parts").exists()
    stamps = {name: (tmp_path / "two" / name).stat().st_mtime_ns for name in images(tmp_path / "two")}
    lost = f"train/{SYNSETS[2]}/{SYNSETS[2]}_4.JPEG"
    (tmp_path / "two" / lost).unlink()
    prepare(small_imagenet, tmp_path / "two", size=23)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    again = {name: (tmp_path / "two" / name).stat().st_mtime_ns for name in images(tmp_path / "two")}
    assert {name for name in stamps if stamps[name] != again[name]} == {lost}


def test_odd_files_become_plain_jpegs_with_the_same_pixels_upright(small_imagenet, tmp_path):
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize((46, 62))
    orientation = Image.Exif()
    orientation[0x0112] = 6
    folder = small_imagenet / "train" / SYNSETS[0]
    odd = {
        "png": smooth.convert("RGBA"),
        "cmyk": smooth.convert("CMYK"),
        "gray": smooth.convert("L"),
        "palette": smooth.convert("P"),
        "turned": smooth,
    }
    for name, image in odd.items():
        kind = "PNG" if name in ("png", "palette") else "JPEG"
        exif = {"exif": orientation} if name == "turned" else {}
        image.save(folder / f"{name}.JPEG", format=kind, **exif)
    assert prepare(small_imagenet, tmp_path / "new", size=46) == []
    for name in odd:
        with Image.open(folder / f"{name}.JPEG") as before:
            expected = np.asarray(before.convert("RGB"), dtype=float)
        with Image.open(tmp_path / "new" / "train" / SYNSETS[0] / f"{name}.JPEG") as after:
            assert (after.format, after.mode, after.size) == ("JPEG", "RGB", (46, 62))
            assert not after.getexif()
            assert np.abs(np.asarray(after, dtype=float) - expected).mean() < 5


@pytest.mark.parametrize("workers", ["0", "2"])
def test_damaged_images_are_counted_and_named_and_the_rest_is_done(workers, small_imagenet, tmp_path, capsys):
    broken = [f"train/{SYNSETS[1]}/{SYNSETS[1]}_{i}.JPEG" for i in (0, 2)]
    broken.append(f"val/{SYNSETS[2]}/{SYNSETS[2]}_1.JPEG")
    good = contents(small_imagenet)
    damage(small_imagenet / broken[0])
    Image.new("F", (5, 7)).save(small_imagenet / broken[1], format="TIFF")
    (small_imagenet / broken[2]).write_bytes(b"")
    new = tmp_path / "root" / "imagenet"
    command = [str(small_imagenet), str(new), "--size", "23", "--workers", workers]

    assert main([str(small_imagenet), "--workers", workers]) == 1
    printed = capsys.readouterr().err
    assert [line.split("\t")[0] for line in printed.splitlines() if "\t" in line] == broken
    assert f"3 image(s) of {small_imagenet} cannot be read" in printed
    assert "got Pillow's mode F in the format TIFF" in printed
    assert not new.exists()

    assert main(command) == 1
    report = (new / "damaged.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in report] == broken
    assert all(line.split("\t")[1] for line in report)
    assert capsys.readouterr().err.splitlines()[-4:-1] == report
    assert images(new).keys() == images(small_imagenet).keys() - set(broken)
    with pytest.raises(
        wsn.DataError, match=f"^3 image.s. of {new} could not be read .* the first is {broken[0]} .*truncated"
    ) as caught:
        wsn.load_data(SPEC, root=tmp_path / "root")
    assert "\n" not in str(caught.value)

    for name in broken:
        (small_imagenet / name).write_bytes(good[name])
    assert main(command) == 0
    assert not (new / "damaged.txt").exists()
    assert len(wsn.load_data(SPEC, root=tmp_path / "root").train.labels) == 21


def test_killed_in_the_middle_it_goes_on_and_ends_as_if_it_had_not_been(tmp_path, capsys):
    source, whole, killed = (tmp_path / name for name in ("source", "whole", "killed"))
    write_jpegs(source, per_class=(30, 10))
    prepare(source, whole, size=300)
    reference = contents(whole)

    options = [str(source), str(killed), "--size", "300"]
    command = [sys.executable, "-m", "wsnlib.data.prepare_imagenet", *options, "--workers", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)
    while process.poll() is None and len(list(killed.rglob("*.JPEG"))) < 7:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    done = images(killed)
    assert 7 <= len(done) < 120
    assert all(reference[name] == content for name, content in done.items())
    stamps = {name: (killed / name).stat().st_mtime_ns for name in done}
    (killed / ".parts").mkdir(exist_ok=True)
    (killed / ".parts" / "left").write_bytes(b"half an image")

    capsys.readouterr()
    assert main([*options, "--workers", "0"]) == 0
    assert f"{len([n for n in done if n.startswith('train')])}/90" in capsys.readouterr().err
    assert contents(killed) == reference
    assert {name: (killed / name).stat().st_mtime_ns for name in done} == stamps


def test_a_full_disk_is_told_in_one_line_and_leaves_no_half_image(
    small_imagenet, tmp_path, monkeypatch, capsys
):
    rename = os.replace

    def full(source, target):
        alone = multiprocessing.parent_process() is None
        if str(target).endswith("_3.JPEG"):
            while not alone and len(list(source.parent.iterdir())) < 2:
                time.sleep(0.01)  # until the other process is in the middle of an image, where it stays
            raise OSError(28, "No space left on device")
        if str(target).endswith("n02123045_5.JPEG") and not alone:
            time.sleep(60)
        rename(source, target)

    monkeypatch.setattr(prepare_imagenet.os, "replace", full)
    for workers in ("0", "2"):
        assert main([str(small_imagenet), str(tmp_path / "new"), "--size", "23", "--workers", workers]) == 2
        assert "No space left on device" in capsys.readouterr().err.splitlines()[-1]
    assert not list((tmp_path / "new" / ".parts").iterdir())
    monkeypatch.undo()
    assert main([str(small_imagenet), str(tmp_path / "new"), "--size", "23", "--workers", "0"]) == 0
    prepare(small_imagenet, tmp_path / "other", size=23)
    assert images(tmp_path / "new") == images(tmp_path / "other")


def test_what_another_run_is_writing_stays(small_imagenet, tmp_path):
    prepare(small_imagenet, tmp_path / "new", size=23)
    part = tmp_path / "new" / ".parts" / "of another run"
    part.parent.mkdir()
    part.write_bytes(b"half an image")
    later = time.time() + 1000
    os.utime(part, (later, later))
    prepare(small_imagenet, tmp_path / "new", size=23)
    assert part.exists()


def test_wrong_places_and_numbers_are_refused_before_anything_is_written(small_imagenet, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.txt").write_text("mine")
    before = contents(tmp_path)
    new = str(tmp_path / "new")
    for source, dest, message in (
        (
            small_imagenet,
            tmp_path / "photos",
            "must be a new folder, or one prepared before, got one with something else",
        ),
        (small_imagenet, small_imagenet, "dest must lie outside of .*imagenet, got"),
        (small_imagenet, small_imagenet / "small", "dest must lie outside of .*imagenet, got"),
        (tmp_path / "photos", tmp_path / "new", "must have a folder 'train', got none"),
        (tmp_path / "nothing", tmp_path / "new", "nothing is not there"),
    ):
        with pytest.raises(wsn.DataError, match=message):
            prepare(source, dest)
        assert main([str(source), str(dest), "--workers", "0"]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    for option, wrong, allowed in (
        ("--size", "0", "1 to 32768"),
        ("--quality", "96", "1 to 95"),
        ("--quality", "0", "1 to 95"),
        ("--workers", "-1", "0 to 1024"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main([str(small_imagenet), new, option, wrong])
        assert f"{option} must be an integer of {allowed}, got {wrong}" in capsys.readouterr().err
    assert contents(tmp_path) == before
