"""Where the weights of a convolution read and write: offsets for `wsnlib.sparse.tiles`.

A convolution of stride 1 whose padding the frame of the images suffices for reads them as they lie. Any other
reads a copy, in which the positions of each residue modulo the stride are a plane of their own: on that copy
every convolution has stride 1.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wsnlib.sparse import tiles
from wsnlib.sparse.layers import Geometry

Ints = NDArray[np.int32]

NEAREST_CACHE = 24_000
"""Bytes of what a tile reads that are to stay in the processor's nearest cache."""
FEWEST = 10
"""Weights of one output plane that are worth loading and storing a tile once more."""
TOGETHER = 4096
"""Weights whose gradients are summed before those of the next ones, for the sums stay in the next cache."""


class Terms(NamedTuple):
    """The weights in the order in which a product takes them.

    Args:
        order: Of the values, int32, or None if it is theirs.
        offsets: From a position of the output to what the weight reads, int32, in numbers.
        segments: (n, 4), int16 where that suffices: output plane, first weight, the one after the last,
            whether the plane was begun.
        blocks: First segments of what is summed together, with the number of all.
    """

    order: Ints | None
    offsets: Ints
    segments: NDArray[Any]
    blocks: Ints


def terms(
    plane: NDArray[np.int64],
    source: NDArray[np.int64],
    place: NDArray[np.int64],
    *,
    planes: int,
    sources: int,
    patch: int,
) -> Terms:
    """Weights sorted by blocks of the planes that they read, then by the plane that they write.

    Args:
        plane: Written by each weight.
        source: Read by each.
        place: Offset of each, in vectors.
        planes: Number of those written.
        sources: Number of those read.
        patch: Positions of one plane that a tile reads.
    """
    check_offsets(tiles.LANES * int(np.abs(place).max(initial=0)))
    fitting = max(1, NEAREST_CACHE // (4 * tiles.LANES * patch))
    count = min(math.ceil(sources / fitting), len(plane) // (FEWEST * planes))
    block = source // math.ceil(sources / max(1, count))
    owner = block * planes + plane
    order = np.argsort(owner, kind="stable")
    owners, first = np.unique(owner[order], return_index=True)
    last = np.append(first[1:], len(order)) if len(order) else first
    # a plane that no weight of the first block writes begins with zeros all the same
    begun = np.zeros(planes, bool)
    rows = []
    for who, start, stop in zip(owners.tolist(), first.tolist(), last.tolist(), strict=True):
        rows.append((who % planes, start, stop, int(begun[who % planes])))
        begun[who % planes] = True
    rows = [(int(each), 0, 0, 0) for each in np.flatnonzero(~begun)] + rows
    segments = np.array(rows, np.int32).reshape(-1, 4)
    together = np.cumsum(segments[:, 2] - segments[:, 1]) // TOGETHER
    blocks = np.append(np.flatnonzero(np.diff(together, prepend=-1)), len(segments))
    return Terms(
        None if np.array_equal(order, np.arange(len(order))) else order.astype(np.int32),
        (place[order] * tiles.LANES).astype(np.int32),
        segments.astype(np.int16) if max(len(plane), planes) < 2**15 else segments,
        blocks.astype(np.int32),
    )


def check_offsets(most: int) -> None:
    """Refuse offsets that int32 does not hold."""
    if most >= 2**31:
        raise ValueError(
            f"the numbers that sparse weights read must be fewer than {2**31:,}, got {most:,}; take smaller "
            "batches, or smaller images"
        )


class Places(NamedTuple):
    """A layer's weights for the forward pass, and those for the gradient of its input."""

    forward: Terms
    backward: Terms


def conv_places(index: NDArray[np.int64], shape: tuple[int, int, int, int], geometry: Geometry) -> Places:
    """The weights at these positions of (outputs, inputs, height, width)."""
    outputs, inputs, height, width = shape
    rest, x = index // width, index % width * geometry.dilation[1]
    rest, y = rest // height, rest % height * geometry.dilation[0]
    output, source = rest // inputs, rest % inputs
    (sy, sx), (py, px) = geometry.stride, geometry.padding
    if geometry.in_place:
        wide, (h, w) = geometry.images[1] + 2, geometry.images
        forward_place = (source * (h + 2) + y - py) * wide + x - px
        (h, w), sources = geometry.outputs, inputs
        backward_place = (output * (h + 2) + py - y) * (w + 2) + px - x
    else:
        down, across = (np.array(each) for each in geometry.phases)
        source = (source * len(down) + np.searchsorted(down, y % sy)) * len(across)
        source += np.searchsorted(across, x % sx)
        sources = inputs * len(down) * len(across)
        (h, w), (my, mx) = geometry.copied, geometry.margin
        forward_place = (source * h + y // sy) * w + x // sx
        backward_place = (output * (h + my) + my - y // sy) * (w + mx) + mx - x // sx
    rows, columns = tiles.tile_shape(*geometry.outputs, tiles.MOST)
    patch = (rows + geometry.margin[0]) * (columns + geometry.margin[1])
    return Places(
        terms(output, source, forward_place, planes=outputs, sources=sources, patch=patch),
        terms(source, output, backward_place, planes=sources, sources=outputs, patch=patch),
    )


def linear_places(index: NDArray[np.int64], shape: tuple[int, int]) -> Places:
    """The weights at these positions of (outputs, inputs), as if one vector held the batch."""
    outputs, inputs = shape
    output, source = index // inputs, index % inputs
    return Places(
        terms(output, source, source, planes=outputs, sources=inputs, patch=tiles.MOST),
        terms(source, output, output, planes=inputs, sources=outputs, patch=tiles.MOST),
    )
