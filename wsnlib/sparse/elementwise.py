"""Batch norm with what follows it, and copies, of images in groups (`wsnlib.sparse.packed`); needs numba.

Arrays are flat, (group, plane, row, column, lane) with one row and column of zeros around each image. All
that is computed leaves zeros there, and in the lanes of images that are not there.
"""

from __future__ import annotations

import numpy as np
from numba import njit, uint64

from wsnlib.sparse.tiles import LANES

jit = njit(
    fastmath={"reassoc", "contract", "nsz", "arcp"},
    error_model="numpy",
    nogil=True,
    cache=True,
    boundscheck=False,
)  # sums may be reordered; NaN and infinity keep their meaning


@jit
def clear(y, at, count):
    """Zeros from a place on."""
    for t in range(uint64(count)):
        y[uint64(at) + t] = 0


@jit
def clear_frame(y, at, rows, row, lanes):
    """Zeros around one image."""
    clear(y, at, row)
    clear(y, at + (rows - 1) * row, row)
    for i in range(1, rows - 1):
        clear(y, at + i * row, lanes)
        clear(y, at + (i + 1) * row - lanes, lanes)


@jit
def clear_lanes(y, at, rows, row, lanes, there):
    """Zeros for the images that are not there."""
    for place in range(at, at + rows * row, lanes):
        clear(y, place + there, lanes - there)


@jit
def finish(y, shape, bias, images, first, last):
    """Frames of these groups, and a number added to each plane if there is one for each."""
    _, planes, rows, columns, lanes = shape
    row = columns * lanes
    for group in range(first, last):
        for plane in range(planes):
            at = (group * planes + plane) * rows * row
            if len(bias):
                added = bias[plane]
                for i in range(1, rows - 1):
                    start = uint64(at + i * row)
                    for t in range(uint64(row)):
                        y[start + t] += added
                if images < (group + 1) * lanes:
                    clear_lanes(y, at, rows, row, lanes, images - group * lanes)
            clear_frame(y, at, rows, row, lanes)


@jit
def moments(x, shape, images, mean, variance, first, last):
    """Mean and biased variance of these planes over images and positions."""
    groups, planes, rows, columns, lanes = shape
    row, inside = columns * lanes, uint64((columns - 2) * lanes)
    count = images * (rows - 2) * (columns - 2)
    for plane in range(first, last):
        total = 0.0
        for group in range(groups):
            for i in range(1, rows - 1):
                start = uint64(((group * planes + plane) * rows + i) * row + lanes)
                part = x.dtype.type(0)
                for t in range(inside):
                    part += x[start + t]
                total += part
        middle = x.dtype.type(total / count)
        squares = 0.0
        for group in range(groups):
            there = images - group * lanes
            pieces, length = (1, inside) if there >= lanes else (columns - 2, uint64(there))
            for i in range(1, rows - 1):
                for j in range(pieces):
                    start = uint64(((group * planes + plane) * rows + i) * row + (1 + j) * lanes)
                    part = x.dtype.type(0)
                    for t in range(length):
                        d = x[start + t] - middle
                        part += d * d
                    squares += part
        off = total / count - middle
        mean[plane] = middle
        variance[plane] = max(0.0, squares / count - off * off)


@jit
def normalise(x, shape, scale, shift, other, relu, images, y, first, last):
    """y = scale · x + shift, plus `other` if it is not empty, cut off at 0 if relu, for these planes."""
    groups, planes, rows, columns, lanes = shape
    row, inside = columns * lanes, uint64((columns - 2) * lanes)
    floor = x.dtype.type(0) if relu else x.dtype.type(-np.inf)
    for plane in range(first, last):
        a, b = scale[plane], shift[plane]
        for group in range(groups):
            at = (group * planes + plane) * rows * row
            for i in range(1, rows - 1):
                start = uint64(at + i * row + lanes)
                if len(other):
                    for t in range(inside):
                        e = a * x[start + t] + b + other[start + t]
                        y[start + t] = floor if e < floor else e
                else:
                    for t in range(inside):
                        e = a * x[start + t] + b
                        y[start + t] = floor if e < floor else e
            if images < (group + 1) * lanes:
                clear_lanes(y, at, rows, row, lanes, images - group * lanes)
            clear_frame(y, at, rows, row, lanes)


@jit
def normalise_backward(
    g, x, y, shape, mean, inverse, weight, relu, training, images, gx, kept, gweight, gbias, first, last
):
    """Gradients of `normalise` for these planes: at x, weight, bias, and at `other` in `kept`, if not empty.

    `y` decides what passed the cut-off; without it nothing was cut off. In training, mean and variance are
    those of x, and their derivatives count.
    """
    groups, planes, rows, columns, lanes = shape
    row, inside = columns * lanes, uint64((columns - 2) * lanes)
    count = images * (rows - 2) * (columns - 2)
    zero = x.dtype.type(0)
    for plane in range(first, last):
        m, r = mean[plane], inverse[plane]
        sums, products = 0.0, 0.0
        for group in range(groups):
            for i in range(1, rows - 1):
                start = uint64(((group * planes + plane) * rows + i) * row + lanes)
                s, p = zero, zero
                for t in range(inside):
                    e = g[start + t]
                    if relu:
                        e = zero if y[start + t] <= zero else e
                    s += e
                    p += e * (x[start + t] - m)
                sums += s
                products += p
        products *= r
        gweight[plane], gbias[plane] = products, sums
        a = weight[plane] * r
        slope = x.dtype.type(products / count) * r if training else zero
        middle = x.dtype.type(sums / count) if training else zero
        for group in range(groups):
            at = (group * planes + plane) * rows * row
            for i in range(1, rows - 1):
                start = uint64(at + i * row + lanes)
                for t in range(inside):
                    e = g[start + t]
                    if relu:
                        e = zero if y[start + t] <= zero else e
                    gx[start + t] = a * (e - middle - (x[start + t] - m) * slope)
                if len(kept):
                    for t in range(inside):
                        e = g[start + t]
                        if relu:
                            e = zero if y[start + t] <= zero else e
                        kept[start + t] = e
            if images < (group + 1) * lanes:
                clear_lanes(gx, at, rows, row, lanes, images - group * lanes)
            clear_frame(gx, at, rows, row, lanes)
            if len(kept):
                clear_frame(kept, at, rows, row, lanes)


@jit
def inside(columns, width, step, shift):
    """The first position j and the one after the last for which j · step + shift lies in an image."""
    begin = max(0, -(shift // step))
    return begin, max(begin, min(width, -((shift + 2 - columns) // step)))


@jit
def copy_columns(x, source, every, y, target, each, count):
    """So many vectors from every so many to each so many."""
    for j in range(uint64(count)):
        of, to = uint64(source) + j * uint64(every * LANES), uint64(target) + j * uint64(each * LANES)
        for t in range(uint64(LANES)):
            y[to + t] = x[of + t]


@jit
def spread(x, shape, y, target, step, phases, shift, first, last):
    """y[g, (c, a, b), i, j] = x[g, c, i · step + phases[0, a] − shift, …], or 0 outside.

    `x` has a frame and `y` none: `shape` and `target` are theirs; `phases` (2, most) and their numbers.
    """
    _, planes, rows, columns, _ = shape
    _, _, down, across, height, width, _ = target
    for plane in range(first * planes, last * planes):
        for a in range(down):
            for b in range(across):
                begin, end = inside(columns, width, step[1], phases[1, b] - shift[1])
                v = begin * step[1] + phases[1, b] - shift[1] + 1
                for i in range(height):
                    to = (((plane * down + a) * across + b) * height + i) * width * LANES
                    u = i * step[0] + phases[0, a] - shift[0] + 1
                    if u < 1 or u > rows - 2:
                        clear(y, to, width * LANES)
                        continue
                    clear(y, to, begin * LANES)
                    clear(y, to + end * LANES, (width - end) * LANES)
                    source = ((plane * rows + u) * columns + v) * LANES
                    copy_columns(x, source, step[1], y, to + begin * LANES, 1, end - begin)


@jit
def gather(x, shape, y, target, step, phases, shift, first, last):
    """The inverse of `spread`, from x without a frame to y with one; positions of no phase get 0."""
    _, _, down, across, height, width, _ = shape
    _, planes, rows, columns, _ = target
    for plane in range(first * planes, last * planes):
        for u in range(rows):
            row = (plane * rows + u) * columns * LANES
            clear(y, row, columns * LANES)
            i, residue = (u - 1 + shift[0]) // step[0], (u - 1 + shift[0]) % step[0]
            for a in range(down):
                if phases[0, a] != residue or u == 0 or u == rows - 1 or i >= height:
                    continue
                for b in range(across):
                    begin, end = inside(columns, width, step[1], phases[1, b] - shift[1])
                    v = begin * step[1] + phases[1, b] - shift[1] + 1
                    source = ((((plane * down + a) * across + b) * height + i) * width + begin) * LANES
                    copy_columns(x, source, 1, y, row + v * LANES, step[1], end - begin)
