"""Compiled forward and backward passes of a sparse, fully connected network; needs numba.

A unit is a row: its activation for every image of a batch. What it computes is a bag, a sum of other rows
times weights, and its derivative is a bag of the rows of the units that read it. Both passes go over the
weights that are there and nothing else, a unit at a time, so that what is touched is still in the cache.

Rows lie one after another in flat arrays and are named by where they start. Two rows at the end are
constant: ones, whose weights are the biases, and zeros, which fill bags to a multiple of four entries with
value 0. So four products are summed for each row that is read and written, and there is no remainder.
Positions are unsigned: numba then needs no test for negative ones, and the loops over images become
vector instructions. Sums may be reordered; NaN and infinity keep their meaning.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, uint64
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Positions = NDArray[np.uint64]

ZERO, ONE, TWO, THREE, FOUR = (uint64(i) for i in range(5))
LOWEST = np.float32(-np.inf)
OPTIONS: dict[str, Any] = {
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},
    "error_model": "numpy",
    "nogil": True,
    "cache": True,
}

jit = njit(**OPTIONS)


@jit
def weighted_sum(y, to, x, batch, start, stop, row, at, value, floor, scale):
    """y[to] = scale · max(floor, Σ value · x[row]) over the entries of a bag."""
    for k in range(start, stop, FOUR):
        a, b, c, d = value[at[k]], value[at[k + ONE]], value[at[k + TWO]], value[at[k + THREE]]
        p, q, r, s = row[k], row[k + ONE], row[k + TWO], row[k + THREE]
        last = k + FOUR == stop
        low, factor = (floor, scale) if last else (LOWEST, np.float32(1))
        if k == start:
            for t in range(batch):
                e = (a * x[p + t] + b * x[q + t]) + (c * x[r + t] + d * x[s + t])
                y[to + t] = factor * (low if low > e else e)
        else:
            for t in range(batch):
                e = y[to + t] + ((a * x[p + t] + b * x[q + t]) + (c * x[r + t] + d * x[s + t]))
                y[to + t] = factor * (low if low > e else e)


@jit
def dot_products(gradient, g, of, x, batch, start, stop, row, at):
    """gradient = g[of] · x[row] for every entry of a bag."""
    for k in range(start, stop, FOUR):
        p, q, r, s = row[k], row[k + ONE], row[k + TWO], row[k + THREE]
        a = b = c = d = np.float32(0)
        for t in range(batch):
            e = g[of + t]
            a += e * x[p + t]
            b += e * x[q + t]
            c += e * x[r + t]
            d += e * x[s + t]
        gradient[at[k]], gradient[at[k + ONE]] = a, b
        gradient[at[k + TWO]], gradient[at[k + THREE]] = c, d


@jit
def go_back(gradient, g, to, h, unit, batch, start, stop, row, at, value, floor, scale):
    """g[to] = scale · Σ value · g[row] where h[unit] > floor, else 0; and gradient = h[unit] · g[row]."""
    for k in range(start, stop, FOUR):
        v, w, y, z = value[at[k]], value[at[k + ONE]], value[at[k + TWO]], value[at[k + THREE]]
        p, q, r, s = row[k], row[k + ONE], row[k + TWO], row[k + THREE]
        a = b = c = d = np.float32(0)
        last = k + FOUR == stop
        low, factor = (floor, scale) if last else (LOWEST, np.float32(1))
        if k == start:
            for t in range(batch):
                e, i, j, m, n = h[unit + t], g[p + t], g[q + t], g[r + t], g[s + t]
                a += e * i
                b += e * j
                c += e * m
                d += e * n
                o = (v * i + w * j) + (y * m + z * n)
                g[to + t] = factor * o if not e <= low else np.float32(0)
        else:
            for t in range(batch):
                e, i, j, m, n = h[unit + t], g[p + t], g[q + t], g[r + t], g[s + t]
                a += e * i
                b += e * j
                c += e * m
                d += e * n
                o = g[to + t] + ((v * i + w * j) + (y * m + z * n))
                g[to + t] = factor * o if not e <= low else np.float32(0)
        gradient[at[k]], gradient[at[k + ONE]] = a, b
        gradient[at[k + TWO]], gradient[at[k + THREE]] = c, d


@jit
def load(x, images, index, batch, table):
    """Rows of the pixels of the images at these positions; `table` (channels, 256) says what a byte is."""
    channels = uint64(len(table))
    plane = uint64(images.shape[1]) // channels
    for t in range(uint64(len(index))):
        image = images[index[t]]
        for c in range(channels):
            for f in range(c * plane, (c + ONE) * plane):
                x[f * batch + t] = table[c, image[f]]


@jit
def forward(x, h, batch, first, hidden, reads, row, at, value, floor, scale):
    """Fill the rows of all units, layer after layer; `first` of them read the images."""
    units = uint64(len(reads) - 1)
    for i in range(units):
        source = x if i < first else h
        last = i >= hidden
        low, factor = (LOWEST, np.float32(1)) if last else (floor, scale[i])
        weighted_sum(h, i * batch, source, batch, reads[i], reads[i + ONE], row, at, value, low, factor)


@jit
def cross_entropy(h, g, outputs, units, batch, labels):
    """Sum of the losses and number of right answers; rows of the logits' gradients of the mean loss."""
    loss, right = 0.0, 0
    count = len(labels)
    for t in range(count):
        best, highest = outputs, h[outputs * batch + uint64(t)]
        for i in range(outputs + ONE, units):
            e = h[i * batch + uint64(t)]
            if e > highest or (np.isnan(e) and not np.isnan(highest)):  # as torch.argmax has it
                best, highest = i, e
        total = np.float32(0)
        for i in range(outputs, units):
            e = np.exp(h[i * batch + uint64(t)] - highest)
            g[i * batch + uint64(t)] = e
            total += e
        label = outputs + uint64(labels[t])
        loss += np.log(total) - (h[label * batch + uint64(t)] - highest)
        right += best == label
        for i in range(outputs, units):
            share = g[i * batch + uint64(t)] / total
            g[i * batch + uint64(t)] = (share - np.float32(i == label)) / np.float32(count)
    for i in range(outputs, units):
        for t in range(uint64(count), batch):
            g[i * batch + t] = np.float32(0)
    return loss, right


@jit
def backward(
    gradient, x, h, g, batch, first, hidden, reads, row, at, feeds, target, via, value, floor, scale
):
    """Gradients of all weights from those of the logits; each unit once, the last first."""
    units = uint64(len(reads) - 1)
    for back in range(hidden):
        i = hidden - ONE - back
        to = ZERO if i < first else i * batch  # what is needed at once only stays in the cache
        go_back(
            gradient,
            g,
            to,
            h,
            i * batch,
            batch,
            feeds[i],
            feeds[i + ONE],
            target,
            via,
            value,
            floor,
            scale[i],
        )
        if i < first:
            dot_products(gradient, g, to, x, batch, reads[i], reads[i + ONE], row, at)
    dot_products(gradient, h, units * batch, g, batch, feeds[hidden], feeds[hidden + ONE], target, via)


@jit
def descend(value, velocity, gradient, start, stop, rate, momentum, decay):
    """One step of gradient descent of the values from `start` to `stop`."""
    for i in range(start, stop):
        gradient[i] += decay * value[i]
    if momentum > 0:
        for i in range(start, stop):
            velocity[i] = gradient[i] = momentum * velocity[i] + gradient[i]
    for i in range(start, stop):
        value[i] -= rate * gradient[i]
