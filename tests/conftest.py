"""What several tests share."""

import numpy as np
import pytest

from wsnlib import data


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
    monkeypatch.setitem(data.CHECKSUMS, "mnist", data._checksum(data._canonical(arrays, "")))
    return arrays
