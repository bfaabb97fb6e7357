"""The best ranges of layers in thousands of rolled matrices, compiled; see `wsnlib.similarity.blocks`."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def rolled(diagonals, offsets):  # type: ignore[no-untyped-def]
    """Each off-diagonal, of length n − k, rolled round by an offset of its own.

    Examples:
        >>> rolled(np.array([[0.0, 0, 0], [1, 2, 0], [3, 0, 0]]), np.array([0, 1, 0])).tolist()
        [[0.0, 0.0, 0.0], [2.0, 1.0, 0.0], [3.0, 0.0, 0.0]]
    """
    n = len(diagonals)
    made = np.zeros((n, n))
    for k in range(1, n):
        length = n - k
        for j in range(length):
            made[k, j] = diagonals[k, (j + offsets[k]) % length]
    return made


@njit(cache=True)
def highest_ranks(diagonals, offsets, start, stop, far_weight, near_weight):  # type: ignore[no-untyped-def]
    """The largest strength · √length of any range, for each row of offsets.

    Args:
        diagonals: At [k, j] the entry (j, j + k), (n, n).
        offsets: (matrices, n).
        start, stop: Of the ranges.
        far_weight, near_weight: 1 / the number of pairs that similarity and surroundings are the means of.
    """
    n = len(diagonals)
    root = np.sqrt(np.arange(n + 1))
    # first[k, i] adds up pairs (j, j + d) with d <= k and j < i, second[k, i] those with j + d < i
    first, second = np.zeros((n, n + 1)), np.zeros((n, n + 1))
    found = np.empty(len(offsets))
    for row in range(len(offsets)):
        made = rolled(diagonals, offsets[row])
        for k in range(1, n):
            before = 0.0
            for i in range(n + 1):
                first[k, i] = first[k - 1, i] + before
                if i + k <= n:
                    second[k, i + k] = second[k - 1, i + k] + before
                if i < n:
                    before += made[k, i]
            for i in range(k):
                second[k, i] = second[k - 1, i]
        highest = -np.inf
        for at in range(len(start)):
            a, b = start[at], stop[at]
            most, half = b - a - 1, (b - a) // 2
            far = second[most, b] - second[half, b] - first[most, a] + first[half, a]
            near = first[half, a] - second[half, a] + first[half, b] - second[half, b]
            rank = (far * far_weight[at] - near * near_weight[at]) * root[b - a]
            highest = max(highest, rank)
        found[row] = highest
    return found
