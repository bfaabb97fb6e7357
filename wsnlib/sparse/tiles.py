"""Products of a sparse matrix with shifted images, tile by tile in registers; needs numba.

Images lie in groups of `LANES`, one image a lane of a vector: (group, plane, row, column, lane). A tile is
some rows times some columns of one plane of the output; its sums stay in registers while the weights of that
plane pass by. A weight is a value and an offset, where from a position its input lies: one broadcast, then
one multiply-add for each position, whose second operand comes straight from memory. Nothing branches and
nothing is stored until the tile is done. Zeros around the images make every offset valid at every position.

Numba cannot keep an array of vectors in registers, so the loop over the weights is written in LLVM's
intermediate code. It is the same for every processor: LLVM splits the vectors into the processor's own, and
`MOST` positions fit its registers.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

INT32, INT64 = ir.IntType(32), ir.IntType(64)
CHAINS = 4
"""Sums of one weight's gradient that do not wait for each other."""
NEAR = 2**18
"""Numbers of a group of images that stay in the second cache or close by."""
ROWS = (1, 2, 4)
"""Rows that a tile may have."""


def registers() -> tuple[int, int]:
    """Vector registers of the processor that numba compiles for, and how many float32 one holds."""
    triple, _, features = cpu_target.target_context.codegen().magic_tuple()
    found = features.split(",")
    if not triple.startswith("x86"):
        return 32, 4
    return (32, 16) if "+avx512f" in found else (16, 8) if "+avx2" in found else (16, 4)


_COUNT, _WIDTH = registers()
LANES = max(8, _WIDTH)
"""Images in a group."""
MOST = min(16, _COUNT * _WIDTH // LANES - max(2, 2 * _WIDTH // LANES))
"""Positions in a tile of a product at most; the others hold a weight and what comes from memory."""
MOST_HELD = max(1, min(16, _COUNT * _WIDTH // LANES - CHAINS - 1))
"""Positions in a tile of the weights' gradient at most, whose sums take registers, too."""


class _Vectors:
    """Vectors of `LANES` numbers of one type in the code that a builder makes."""

    def __init__(self, context: Any, builder: Any, dtype: Any) -> None:
        self.b = builder
        self.number = context.get_data_type(dtype)
        self.kind = ir.VectorType(self.number, LANES)
        self.zero = ir.Constant(self.kind, [0.0] * LANES)
        self.bytes = 8 if dtype == types.float64 else 4
        name = f"llvm.fmuladd.v{LANES}f{8 * self.bytes}"
        self._fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(self.kind, [self.kind] * 3), name
        )

    def _at(self, base: Any, index: int) -> Any:
        place = self.b.gep(base, [ir.Constant(INT64, index)])
        return self.b.bitcast(place, self.kind.as_pointer())

    def load(self, base: Any, index: int = 0) -> Any:
        value = self.b.load(self._at(base, index))
        value.align = self.bytes
        return value

    def store(self, value: Any, base: Any, index: int = 0) -> None:
        self.b.store(value, self._at(base, index)).align = self.bytes

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        return self.b.call(self._fma, [a, b, c])

    def broadcast(self, value: Any) -> Any:
        nothing = ir.Constant(self.kind, ir.Undefined)
        one = self.b.insert_element(nothing, value, ir.Constant(INT32, 0))
        return self.b.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(INT32, LANES), [0] * LANES))

    def rows(self, base: Any, stride: Any, count: int) -> list[Any]:
        """Where each row of a tile starts."""
        return [self.b.gep(base, [self.b.mul(stride, ir.Constant(INT64, r))]) for r in range(count)]


def shapes(most: int) -> list[tuple[int, int]]:
    """Rows and columns of all tiles."""
    return [(r, c) for r in ROWS for c in range(1, most // r + 1)]


def _data(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    return context.make_array(kind)(context, builder, value).data


def _for_each_shape(b: Any, most: int, rows: Any, columns: Any, body: Any) -> None:
    """Code that does `body(rows, columns)` for the shape that is asked for."""
    done = b.append_basic_block("done")
    switch = b.switch(b.add(b.mul(rows, ir.Constant(INT64, 64)), columns), done)
    for r, c in shapes(most):
        block = b.append_basic_block(f"tile{r}x{c}")
        switch.add_case(ir.Constant(INT64, 64 * r + c), block)
        b.position_at_end(block)
        body(r, c)
        b.branch(done)
    b.position_at_end(done)


@intrinsic
def product_tile(_, x, at, x_row, offsets, values, first, last, y, to, y_row, rows, columns, add):
    """y[to + tile] = Σ values[k] · x[at + offsets[k] + tile], plus what is there if add."""

    def generate(context, b, signature, given):
        kinds = signature.args
        x, offsets, values, y = (_data(context, b, kinds[i], given[i]) for i in (0, 3, 4, 7))
        at, x_row, first, last, to, y_row, rows, columns, add = (
            given[i] for i in (1, 2, 5, 6, 8, 9, 10, 11, 12)
        )
        v = _Vectors(context, b, kinds[0].dtype)
        x, y = b.gep(x, [at]), b.gep(y, [to])

        def body(r, c):
            targets = v.rows(y, y_row, r)
            places = [(i, j) for i in range(r) for j in range(c)]
            fresh = b.block
            more, ready = b.append_basic_block(), b.append_basic_block()
            b.cbranch(b.icmp_signed("!=", add, ir.Constant(INT64, 0)), more, ready)
            b.position_at_end(more)
            before = [v.load(targets[i], j * LANES) for i, j in places]
            b.branch(ready)
            b.position_at_end(ready)
            begun = [b.phi(v.kind) for _ in places]
            for each, value in zip(begun, before, strict=True):
                each.add_incoming(v.zero, fresh)
                each.add_incoming(value, more)
            loop, end = b.append_basic_block(), b.append_basic_block()
            b.cbranch(b.icmp_signed("<", first, last), loop, end)
            b.position_at_end(loop)
            k = b.phi(INT64)
            k.add_incoming(first, ready)
            sums = [b.phi(v.kind) for _ in places]
            source = b.gep(x, [b.sext(b.load(b.gep(offsets, [k])), INT64)])
            weight = v.broadcast(b.load(b.gep(values, [k])))
            sources = v.rows(source, x_row, r)
            added = [
                v.fma(weight, v.load(sources[i], j * LANES), each)
                for (i, j), each in zip(places, sums, strict=True)
            ]
            for each, start, result in zip(sums, begun, added, strict=True):
                each.add_incoming(start, ready)
                each.add_incoming(result, loop)
            after = b.add(k, ir.Constant(INT64, 1))
            k.add_incoming(after, loop)
            b.cbranch(b.icmp_signed("<", after, last), loop, end)
            b.position_at_end(end)
            for (i, j), start, result in zip(places, begun, added, strict=True):
                found = b.phi(v.kind)
                found.add_incoming(start, ready)
                found.add_incoming(result, loop)
                sums[i * c + j] = found
            for (i, j), found in zip(places, sums, strict=True):
                v.store(found, targets[i], j * LANES)

        _for_each_shape(b, MOST, rows, columns, body)
        return context.get_dummy_value()

    n = types.intp
    return types.void(x, n, n, offsets, values, n, n, y, n, n, n, n, n), generate


@intrinsic
def gradient_tile(_, x, at, x_row, offsets, first, last, g, of, g_row, total, rows, columns):
    """total[k, :] += Σ g[of + tile] · x[at + offsets[k] + tile] over the tile, for k from first to last."""

    def generate(context, b, signature, given):
        kinds = signature.args
        x, at, x_row, offsets, first, last, g, of, g_row, total, rows, columns = given
        x, offsets, g, total = (
            _data(context, b, kinds[i], array) for i, array in ((0, x), (3, offsets), (6, g), (9, total))
        )
        v = _Vectors(context, b, kinds[0].dtype)
        x, g = b.gep(x, [at]), b.gep(g, [of])

        def body(r, c):
            places = [(i, j) for i in range(r) for j in range(c)]
            starts = v.rows(g, g_row, r)
            held = [v.load(starts[i], j * LANES) for i, j in places]
            entry, loop, end = b.block, b.append_basic_block(), b.append_basic_block()
            b.cbranch(b.icmp_signed("<", first, last), loop, end)
            b.position_at_end(loop)
            k = b.phi(INT64)
            k.add_incoming(first, entry)
            sources = v.rows(b.gep(x, [b.sext(b.load(b.gep(offsets, [k])), INT64)]), x_row, r)
            own = b.gep(total, [b.mul(k, ir.Constant(INT64, LANES))])
            sums = [v.load(own), *[None] * (CHAINS - 1)]
            for n, ((i, j), given) in enumerate(zip(places, held, strict=True)):
                value, chain = v.load(sources[i], j * LANES), n % CHAINS
                so_far = sums[chain]
                sums[chain] = b.fmul(given, value) if so_far is None else v.fma(given, value, so_far)
            made = [each for each in sums if each is not None]
            v.store(reduce(b.fadd, made), own)
            after = b.add(k, ir.Constant(INT64, 1))
            k.add_incoming(after, loop)
            b.cbranch(b.icmp_signed("<", after, last), loop, end)
            b.position_at_end(end)

        _for_each_shape(b, MOST_HELD, rows, columns, body)
        return context.get_dummy_value()

    n = types.intp
    return types.void(x, n, n, offsets, n, n, g, n, n, total, n, n), generate


jit = njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")


@jit
def rows_of_tile(most, left):
    """Rows of the next tile: at most so many, and so many are left."""
    rows = most
    while rows > left:
        rows //= 2
    return rows


@jit
def read_through(x, group, size):
    """A sum of a number of each line of a group, if the group is small enough to stay near.

    Read in order it comes from memory several times sooner than by tiles, which hop about in it.
    """
    total = x.dtype.type(0)
    if size <= NEAR:
        for k in range(group * size, min((group + 1) * size, len(x)), 16):
            total += x[k]
    return total


@jit
def products(
    x, x_group, x_row, y, y_group, y_plane, y_row, height, width, rows, columns,
    first_group, last_group, segments, offsets, values,
):  # fmt: skip
    """Planes of the output, tile by tile, for these groups of images.

    `x` and `y` start at the first position of the first group. A row of `segments` is an output plane, its
    first weight, the one after its last, and whether they are added to what is there.
    """
    read = x.dtype.type(0)
    for group in range(first_group, last_group):
        read += read_through(x, group, x_group)
        i = 0
        while i < height:
            r = rows_of_tile(rows, height - i)
            for j in range(0, width, columns):
                c = min(columns, width - j)
                at = group * x_group + i * x_row + j * LANES
                to = group * y_group + i * y_row + j * LANES
                for s in range(len(segments)):
                    product_tile(
                        x, at, x_row, offsets, values, segments[s, 1], segments[s, 2],
                        y, to + segments[s, 0] * y_plane, y_row, r, c, segments[s, 3],
                    )  # fmt: skip
            i += r
    return read  # or the compiler would leave the reading out


@jit
def gradients(
    x, x_group, x_row, g, g_group, g_plane, g_row, height, width, rows, columns,
    first_group, last_group, segments, blocks, offsets, total,
):  # fmt: skip
    """Add to total (weights, lanes) the gradients of these groups of images; segments block by block."""
    read = x.dtype.type(0)
    for group in range(first_group, last_group):
        read += read_through(x, group, x_group)
        for block in range(len(blocks) - 1):
            i = 0
            while i < height:
                r = rows_of_tile(rows, height - i)
                for j in range(0, width, columns):
                    c = min(columns, width - j)
                    at = group * x_group + i * x_row + j * LANES
                    of = group * g_group + i * g_row + j * LANES
                    for s in range(blocks[block], blocks[block + 1]):
                        gradient_tile(
                            x, at, x_row, offsets, segments[s, 1], segments[s, 2],
                            g, of + segments[s, 0] * g_plane, g_row, total, r, c,
                        )  # fmt: skip
                i += r
    return read


def tile_shape(height: int, width: int, most: int) -> tuple[int, int]:
    """Rows and columns of tiles that cover an image with little left over.

    A tile costs a multiply-add for each position and about three more operations, however large it is.

    Examples:
        >>> tile_shape(4, 4, 14), tile_shape(32, 32, 14), tile_shape(7, 7, 14)
        ((2, 4), (2, 7), (2, 7))
    """

    def cost(shape: tuple[int, int]) -> float:
        rows, columns = shape
        across = math.ceil(width / columns)
        down = height // rows + bin(height % rows).count("1")
        return height * width + 3 * across * down

    found = []
    for rows in ROWS:
        widest = most // rows
        if rows <= height and widest:
            found.append((rows, math.ceil(width / math.ceil(width / widest))))
    return min(found, key=cost)
