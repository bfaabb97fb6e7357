"""What several tests share."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import build
import numpy as np
import pytest
import torch
from PIL import Image

from wsnlib import data, specs
from wsnlib.data import archives


def small_arrays(seed: int = 0, num_train: int = 60, num_test: int = 20) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "train_x": rng.integers(0, 256, (num_train, 28, 28), dtype=np.uint8),
        "train_y": (np.arange(num_train) % 10).astype(np.uint8),
        "test_x": rng.integers(0, 256, (num_test, 28, 28), dtype=np.uint8),
        "test_y": (np.arange(num_test) % 10).astype(np.uint8),
    }


@pytest.fixture
def small_mnist(monkeypatch):
    """MNIST, but with 80 random images: the arrays, whose checksum the loader now expects."""
    arrays = small_arrays()
    monkeypatch.setitem(data.CHECKSUMS, "mnist", archives.canonical(arrays, "").sha256)
    return arrays


@pytest.fixture(autouse=True, scope="session")
def times_of_layers(tmp_path_factory):
    """What layers take is kept in a file of the tests."""
    os.environ["WSN_TIMES"] = str(tmp_path_factory.mktemp("times") / "layers.json")


@pytest.fixture(autouse=True)
def nothing_compiled():
    """torch compiles eight networks in a process, and refuses the ninth; every test starts with none."""
    yield
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()


SYNSETS = ("n01440764", "n01443537", "n02123045")


def write_jpegs(folder, seed: int = 0, per_class: tuple[int, int] = (7, 3)) -> None:
    """Smooth random images of several sizes in torchvision's folder layout of ImageNet."""
    rng = np.random.default_rng(seed)
    for split, count in zip(("train", "val"), per_class, strict=True):
        for synset in reversed(SYNSETS):  # what is listed is sorted, not as it was made
            (folder / split / synset).mkdir(parents=True)
            for i in reversed(range(count)):
                size = tuple(rng.integers(37, 61, 2).tolist())
                image = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize(size)
                image.save(folder / split / synset / f"{synset}_{i}.JPEG", quality=95)


@pytest.fixture
def small_imagenet(tmp_path, monkeypatch):
    """ImageNet, but with 3 classes, 21 training and 9 test images: its folder in the data root `tmp_path`."""
    write_jpegs(tmp_path / "imagenet")
    known = data.KNOWN[specs.ImageNet]._replace(num_classes=3, num_train=21, num_test=9)
    monkeypatch.setitem(data.KNOWN, specs.ImageNet, known)
    return tmp_path / "imagenet"


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium; where it or playwright is missing, the test is skipped."""
    executable = next(filter(None, map(shutil.which, build.BROWSERS)), None)
    if executable is None or importlib.util.find_spec("playwright") is None:
        pytest.skip("pages are tried with playwright and an installed Chromium or Chrome")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


ROOT = Path(__file__).parent.parent


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run an installed command from the repository's root."""
    return subprocess.run(
        [str(Path(sys.executable).parent / words[0]), *words[1:]],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=840,
    )


def tracked_changes() -> str:
    return subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True).stdout


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The published book, built from the root without flags except for where and how strictly."""
    folder = tmp_path_factory.mktemp("book")
    before = tracked_changes()
    done = command("jupyter-book", "build", "book/", "--path-output", str(folder), "-n", "-W", "--keep-going")
    assert done.returncode == 0, done.stderr[-3000:]
    assert tracked_changes() == before
    return folder / "_build" / "html"
