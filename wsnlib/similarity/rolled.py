"""The best ranges of layers in thousands of rolled matrices, compiled; see `wsnlib.similarity.blocks`."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def highest_ranks(sums, offsets, shortest, far_weight, near_weight):  # type: ignore[no-untyped-def]
    """The largest strength · √length of any range, for each row of offsets.

    Entry j of the rolled off-diagonal k, of length n − k, is the given one's (j + its offset) mod (n − k).

    Args:
        sums: At [k, i] the sum of the pairs (j, j + k) with j < i, (n, n + 1).
        offsets: (matrices, n).
        shortest: Length of the shortest range.
        far_weight, near_weight: 1 / the number of pairs that similarity and surroundings are the means of, at
            [length, start], (n + 1, n + 1).
    """
    n = len(sums)
    # first[k, i] adds up pairs (j, j + d) with d <= k and j < i, second[k, i] those with j + d < i
    first, second = np.zeros((n, n + 1)), np.zeros((n, n + 1))
    rolled, best, found = np.empty(n + 1), np.empty(n + 1), np.empty(len(offsets))
    for row in range(len(offsets)):
        for k in range(1, n):
            length, offset = n - k, offsets[row, k]
            total, before = sums[k, length], sums[k, offset]
            for i in range(length - offset):
                rolled[i] = sums[k, offset + i] - before
            for i in range(offset + 1):
                rolled[length - offset + i] = total - before + sums[k, i]
            for i in range(length):
                first[k, i] = first[k - 1, i] + rolled[i]
            for i in range(length, n + 1):
                first[k, i] = first[k - 1, i] + total
            for i in range(k):
                second[k, i] = second[k - 1, i]
            for i in range(length + 1):
                second[k, k + i] = second[k - 1, k + i] + rolled[i]
        best[:] = -np.inf
        for length in range(shortest, n):  # rows of length alone, read in the order of the start a
            half, most = length // 2, length - 1
            first_a, first_b = first[half], first[half, length:]
            second_a, second_b = second[half], second[half, length:]
            most_a, most_b = first[most], second[most, length:]
            of_far, of_near = far_weight[length], near_weight[length]
            for a in range(n - length + 1):
                far = most_b[a] - second_b[a] - most_a[a] + first_a[a]
                near = first_a[a] - second_a[a] + first_b[a] - second_b[a]
                best[a] = max(best[a], (far * of_far[a] - near * of_near[a]) * np.sqrt(length))
        found[row] = best.max()
    return found
