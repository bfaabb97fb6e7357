"""Maps that are made up, with and without a block, and how often `block_structure` finds one in them.

In 400 maps of each kind, of 71 layers (those of a ResNet-20) with noise of standard deviation 0.01, `alarms`
and `detections` give, with 999 surrogates:

======================================================= ==================
without a block                                         share with a block
======================================================= ==================
smooth                                                  0.00
staged, CKA falls by 5, 10, 15 % across a border        0.00
staged, by 20 %                                         0.01
staged, by 30 %                                         0.29
checkered                                               0.11
======================================================= ==================

======================================================= ==== ==== ==== ==== ====
share of planted blocks that are found, by strength     0.10 0.15 0.20 0.30 0.40
======================================================= ==== ==== ==== ==== ====
an eighth of the layers long                            0.00 0.52 1.00 1.00 1.00
a quarter                                               0.00 0.51 1.00 1.00 1.00
a half                                                  0.00 0.50 1.00 1.00 1.00
three quarters                                          0.00 0.51 0.98 1.00 1.00
======================================================= ==== ==== ==== ==== ====

So no block means no strength of 0.2 or more, whatever the length. A block may be a stage with a border
across which CKA falls by a third, or a side of a checkerboard: compare it with the map of one kind of layers,
such as the outputs of residual blocks.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from wsnlib.similarity.blocks import block_strength, block_structure

Matrix = npt.NDArray[np.float64]
Draw = Callable[[int, np.random.Generator], Matrix]
"""A map of so many layers."""


def smooth(layers: int, rng: np.random.Generator) -> Matrix:
    """CKA that falls off with the distance along depth, to a floor, at a pace that varies along it.

    Examples:
        >>> smooth(5, np.random.default_rng(0)).shape
        (5, 5)
    """
    pace = rng.gamma(2, 0.5, layers) / (layers * rng.uniform(0.1, 0.6))
    depth, floor = np.cumsum(pace), rng.uniform(0, 0.4)
    return np.asarray(floor + (1 - floor) * np.exp(-abs(depth[:, None] - depth)))


def staged(drop: float) -> Draw:
    """Smooth maps of three stages of equal length, CKA falling to 1 − drop of itself across each border."""

    def draw(layers: int, rng: np.random.Generator) -> Matrix:
        stage = 3 * np.arange(layers) // layers
        return np.asarray(smooth(layers, rng) * (1 - drop) ** abs(stage[:, None] - stage))

    return draw


def checkered(layers: int, rng: np.random.Generator) -> Matrix:
    """Smooth maps in which two of seven layers are like one another and less like the rest.

    Examples:
        >>> board = checkered(9, np.random.default_rng(0))
        >>> bool(board[5, 6] > board[4, 5])
        True
    """
    after = np.arange(layers) % 7 >= 5
    other = after[:, None] != after
    return np.asarray(smooth(layers, rng) * np.where(other, rng.uniform(0.4, 0.95), 1))


def planted(values: Matrix, *, start: int, stop: int, strength: float) -> Matrix:
    """The map with 0.9 within a range, and all else multiplied so that its strength is as given.

    Examples:
        >>> made = planted(np.full((9, 9), 0.5), start=2, stop=6, strength=0.3)
        >>> round(block_strength(made, start=2, stop=6), 6)
        0.3
    """
    made = values.copy()
    made[start:stop, start:stop] = 0.9
    surroundings = 0.9 - block_strength(made, start=start, stop=stop)
    made = values * (0.9 - strength) / surroundings
    made[start:stop, start:stop] = 0.9
    return made


def noisy(values: Matrix, rng: np.random.Generator, *, noise: float) -> Matrix:
    """The map with symmetric, normal noise of that standard deviation."""
    drawn = rng.normal(0, noise, values.shape)
    return np.asarray(values + np.triu(drawn, 1) + np.triu(drawn, 1).T)


def alarms(
    draw: Draw, *, layers: int = 71, noise: float = 0.01, maps: int = 400, surrogates: int = 999
) -> float:
    """Share of maps without a block in which one is found."""
    rng, found = np.random.default_rng(0), 0
    for _ in range(maps):
        values = noisy(draw(layers, rng), rng, noise=noise)
        found += bool(block_structure(values, surrogates=surrogates).blocks)
    return found / maps


def detections(
    *,
    length: float,
    strength: float,
    layers: int = 71,
    noise: float = 0.01,
    maps: int = 400,
    surrogates: int = 999,
) -> float:
    """Share of smooth maps with a planted block in which it is found.

    It is found if more than half of the layers that are in it or in a block that is found are in both.

    Args:
        length: Of the planted block, as a part of the layers; it lies anywhere.
        strength: Of it, before the noise.
        layers, noise, maps, surrogates: As in `alarms`.
    """
    rng, found = np.random.default_rng(0), 0
    size = round(length * layers)
    for _ in range(maps):
        start = int(rng.integers(layers - size + 1))
        values = planted(smooth(layers, rng), start=start, stop=start + size, strength=strength)
        structure = block_structure(noisy(values, rng, noise=noise), surrogates=surrogates)
        for block in structure.blocks:
            both = min(block.stop, start + size) - max(block.start, start)
            found += 2 * both > block.stop - block.start + size - both
    return found / maps
