"""What several tests share."""

import importlib.util
import shutil

import numpy as np
import pytest

from wsnlib import data
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


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium; where it or playwright is missing, the test is skipped."""
    names = ("chromium", "chromium-browser", "google-chrome")
    executable = next(filter(None, map(shutil.which, names)), None)
    if executable is None or importlib.util.find_spec("playwright") is None:
        pytest.skip("pages are tried with playwright and an installed Chromium or Chrome")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()
