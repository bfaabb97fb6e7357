"""Is there a block in a matrix of CKA, where does it start and end, and how strong is it?

N21 sees a block structure: "a considerable range of hidden layers that have very high representation
similarity", a bright square on the diagonal of the heat map. This is a number for it.

Neighbouring layers are alike in any network, so that high values near the diagonal say nothing. What makes a
square is that similarity does *not* decay within it and drops where it ends. For a range of m layers let

- *similarity* be the mean CKA of its pairs of layers more than m/2 apart (the far corners of the square),
- *surroundings* be the mean CKA of pairs at most m/2 apart of which one layer lies in the range and the other
  outside (the strips beside it, as far as those near the diagonal go),
- *strength* = similarity − surroundings, in [−1, 1].

So the strength asks whether layers at opposite ends of the range are more alike than a layer in it and a
nearer one beyond its border. If CKA decays with the distance along depth, at one pace, the answer is no: the
nearer pair is more alike and the strength is negative for every range. If the pace changes along depth, the
answer remains no until layers within the range change about three times more slowly than those around it; six
times more slowly gives a strength of about 0.2, ten times 0.3. A range that stands still is a perfect block.

Ranges are ranked by strength · √m, so that a long block counts for more than a short one of nearly the same
strength. Noise alone makes the best of many ranges positive. The null is the same matrix with each of its
off-diagonals rolled round by an offset of its own: the values at every distance remain, and with them the
decay, but what lies beside what along depth is lost, and with it every square. The p-value is the share of
such matrices whose best range ranks as high. It takes the distances for independent of one another; where CKA
is smooth along depth, neighbouring diagonals move together, small p are more frequent than that, and the two
thresholds below carry the definition.

A layer that does not vary has no CKA; it is left out, and layers before and after it are neighbours.

A range of layers is a block if p is at most 0.05, its strength at least 0.15 and its similarity at least 0.7
("very high"; the checkerboard of layers inside and after residual blocks lowers it, so that one kind of
layer, such as the additions, gives the clearest answer). Of those that overlap, the highest in rank counts,
and of equal ones the first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]

LEAST_LAYERS = 8

ROUNDING = 1e-9
"""Sums in another order differ by less; what is that near to a threshold or to the highest rank is at it."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A range of layers `start, …, stop − 1`, and how much of a block it is (see the module's head).

    Args:
        start: The first layer.
        stop: One past the last.
        similarity: Mean CKA of its pairs of layers more than half its length apart.
        strength: `similarity` minus the mean CKA across its borders at up to half its length.
        p_value: Share of matrices without blocks whose best range ranks as high; a level only where the
            distances are independent (see the module's head).
    """

    start: int
    stop: int
    similarity: float
    strength: float
    p_value: float


@dataclass(frozen=True, kw_only=True)
class BlockStructure:
    """The blocks of a matrix, in order of depth, and the range that comes nearest to one.

    Args:
        blocks: None, one or several, which do not overlap.
        best: The range that ranks highest, whether or not it is a block; for curves over width or depth.
        left_out: Layers without CKA, which are in no block, though they may lie between its ends.
    """

    blocks: tuple[Block, ...]
    best: Block
    left_out: tuple[int, ...] = ()


def block_structure(
    values: npt.ArrayLike,
    *,
    least_length: int | None = None,
    least_similarity: float = 0.7,
    least_strength: float = 0.15,
    level: float = 0.05,
    surrogates: int = 9_999,
    seed: int = 0,
) -> BlockStructure:
    """The blocks in a matrix of CKA between the layers of one network, defined at the head of this module.

    Args:
        values: (layers, layers), symmetric, in order of depth; at least 8 layers that vary. The diagonal is
            not used. A layer whose CKA with every other is NaN does not vary, and is left out.
        least_length: Layers in the shortest block; an eighth of them, at least 4, if not given.
        least_similarity: Of a block.
        least_strength: Of a block.
        level: The largest p-value of a block.
        surrogates: Matrices without blocks from which p-values come; the least p-value is
            1 / (surrogates + 1), and one of 0.05 is known to 0.002 (one standard error).
        seed: Random seed for the surrogates.

    Raises:
        ValueError: If the matrix is not square and symmetric, has entries that are not finite in other
            layers than those that do not vary, or has too few layers.

    References:
        N21, Section 4.1 and Figure 1, which show block structures and give no measure of them.

    Examples:
        >>> depth = np.arange(40)
        >>> smooth = np.exp(-abs(depth[:, None] - depth) / 10)
        >>> block_structure(smooth).blocks
        ()
        >>> planted = smooth.copy()
        >>> planted[15:30, 15:30] = 0.95
        >>> [(block.start, block.stop) for block in block_structure(planted).blocks]
        [(15, 30)]
    """
    matrix, kept = _varying(values)
    n = len(matrix)
    shortest = max(4, math.ceil(n / 8)) if least_length is None else least_length
    _check(matrix, shortest, surrogates)
    ranges = _Ranges(n, shortest)
    diagonals = _diagonals(matrix)
    similarity, strength, rank = ranges.measure(diagonals)
    offsets = np.random.default_rng(seed).integers(np.arange(n, 0, -1), size=(surrogates, n))
    null = ranges.highest(diagonals, offsets)

    def block(at: int) -> Block:
        return Block(
            start=int(kept[ranges.start[at]]),
            stop=int(kept[ranges.stop[at] - 1]) + 1,
            similarity=float(similarity[at]),
            strength=float(strength[at]),
            # a matrix without noise is its own surrogate
            p_value=float((1 + (null >= rank[at] - ROUNDING).sum()) / (1 + surrogates)),
        )

    best = block(_first_highest(rank))
    blocks: list[Block] = []
    left = (similarity >= least_similarity - ROUNDING) & (strength >= least_strength - ROUNDING)
    while left.any():
        at = _first_highest(np.where(left, rank, -np.inf))
        found = block(at)
        if found.p_value > level:
            break  # nor does anything of lower rank pass
        blocks.append(found)
        left &= (ranges.start >= ranges.stop[at]) | (ranges.stop <= ranges.start[at])
    blocks.sort(key=lambda block: block.start)
    left_out = np.setdiff1d(np.arange(len(np.asarray(values))), kept)
    return BlockStructure(blocks=tuple(blocks), best=best, left_out=tuple(left_out.tolist()))


def block_strength(values: npt.ArrayLike, *, start: int, stop: int) -> float:
    """The strength of the range `start, …, stop − 1` of layers, whether or not it is a block.

    For what becomes of a block found in one matrix in another, such as CKA without principal components.

    Args:
        values: (layers, layers), symmetric, in order of depth. Layers that do not vary are left out.
        start: The first layer.
        stop: One past the last; the range has at least 3 layers that vary and is not all of them.

    Raises:
        ValueError: If there is no such range.

    Examples:
        >>> planted = np.full((9, 9), 0.25)
        >>> planted[2:6, 2:6] = 1
        >>> block_strength(planted, start=2, stop=6)
        0.75
    """
    matrix, kept = _varying(values)
    first, last = np.searchsorted(kept, (start, stop))
    n, length = len(matrix), int(last - first)
    if not (start >= 0 and stop <= len(np.asarray(values)) and 3 <= length < n):
        raise ValueError(
            f"start and stop must span 3 to {n - 1} of the {n} layers that vary, got {start} to {stop}"
        )
    i, j = np.triu_indices(n, 1)
    one, other = (i >= first) & (i < last), (j >= first) & (j < last)
    far = one & other & (j - i > length // 2)
    beside = (one ^ other) & (j - i <= length // 2)
    return float(matrix[i[far], j[far]].mean() - matrix[i[beside], j[beside]].mean())


def _first_highest(rank: Matrix) -> int:
    return int((rank >= rank.max() - ROUNDING).argmax())


def _varying(values: npt.ArrayLike) -> tuple[Matrix, npt.NDArray[np.intp]]:
    """The matrix of the layers that have CKA with another, and which these are."""
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2 or len(set(matrix.shape)) > 1:
        raise ValueError(f"the matrix must be of shape (n, n), got {matrix.shape}")
    constant = (np.isnan(matrix) | np.eye(len(matrix), dtype=bool)).all(axis=1)
    kept = np.flatnonzero(~constant)
    return matrix[np.ix_(kept, kept)], kept


def _check(matrix: Matrix, least_length: int, surrogates: int) -> None:
    n = len(matrix)
    if n < LEAST_LAYERS:
        raise ValueError(f"the matrix must have {LEAST_LAYERS} or more layers that vary, got {n}")
    if not np.isfinite(matrix).all():
        raise ValueError(
            "the matrix must be finite but for whole rows of NaN, got others; leave such layers out"
        )
    if np.abs(matrix - matrix.T).max() > 1e-6:
        raise ValueError(
            "the matrix must be symmetric, got differences above 1e-6; give the CKA of a network with itself"
        )
    if not 4 <= least_length < n:
        raise ValueError(f"least_length must be an integer of 4 to {n - 1}, got {least_length}")
    if surrogates < 1:
        raise ValueError(f"surrogates must be an integer ≥ 1, got {surrogates}")


class _Ranges:
    """All ranges start, …, stop − 1 of some length, except that of all layers, which has no surroundings."""

    def __init__(self, n: int, shortest: int) -> None:
        start, stop = np.triu_indices(n + 1, shortest)
        inside = stop - start < n
        self.start, self.stop = start[inside], stop[inside]
        self._half, self._most = (self.stop - self.start) // 2, self.stop - self.start - 1
        self._pairs = self._far_and_near(_diagonals(np.ones((n, n))))

    def measure(self, diagonals: Matrix) -> tuple[Matrix, Matrix, Matrix]:
        """Similarity, strength and rank of each range."""
        far, near = self._far_and_near(diagonals)
        similarity = far / self._pairs[0]
        strength = similarity - near / self._pairs[1]
        return similarity, strength, strength * np.sqrt(self.stop - self.start)

    def highest(self, diagonals: Matrix, offsets: npt.NDArray[np.int64]) -> Matrix:
        """Rank of the best range where each diagonal is rolled round by an offset, by rows of offsets."""
        from wsnlib.similarity.rolled import highest_ranks  # loads numba, which takes a second

        weights = np.zeros((2, len(diagonals) + 1, len(diagonals) + 1))
        weights[:, self.stop - self.start, self.start] = 1 / np.array(self._pairs)
        shortest = (self.stop - self.start).min()
        return np.asarray(highest_ranks(_summed(diagonals), offsets, shortest, *weights))

    def _far_and_near(self, diagonals: Matrix) -> tuple[Matrix, Matrix]:
        """Sums over far pairs in each range, and over near pairs of which one layer lies outside."""
        # first[d, i] adds up pairs (j, j + k) with k <= d and j < i, second[d, i] those with j + k < i
        n = len(diagonals)
        sums = _summed(diagonals)
        earlier = np.arange(n + 1) - np.arange(n)[:, None]
        second = np.take_along_axis(sums, np.maximum(earlier, 0), 1).cumsum(0)
        first = sums.cumsum(0)
        start, stop, half, most = self.start, self.stop, self._half, self._most
        far = second[most, stop] - second[half, stop] - first[most, start] + first[half, start]
        crossing = first - second
        return far, crossing[half, start] + crossing[half, stop]


def _diagonals(matrix: Matrix) -> Matrix:
    """At [k, j] the entry (j, j + k), for k of at least 1; 0 where there is none."""
    n = len(matrix)
    k, j = np.arange(n)[:, None], np.arange(n)
    return np.where((k > 0) & (j + k < n), matrix[j, np.minimum(j + k, n - 1)], 0.0)


def _summed(diagonals: Matrix) -> Matrix:
    """At [k, i] the sum of the pairs (j, j + k) with j < i."""
    return np.concatenate([np.zeros((len(diagonals), 1)), diagonals.cumsum(1)], axis=1)
