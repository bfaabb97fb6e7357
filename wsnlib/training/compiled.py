"""Fully connected networks trained by compiled code, in turn on each batch, by `wsnlib.sparse.tiles`.

Inputs and units are rows of one array with the batch along them, one row of ones whose weights are the biases
among them. Layers are products of tiles from rows to rows, forward and backward, so that time and memory
follow the weights present; a step leaves compiled code only where images do not lie in memory as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numba import uint64
from numpy.typing import NDArray
from torch import nn

from wsnlib import masks, specs
from wsnlib.data import Dataset, Split, StreamedSplit
from wsnlib.models import MLP
from wsnlib.sparse.elementwise import jit
from wsnlib.sparse.geometry import Terms, terms
from wsnlib.sparse.tiles import LANES, MOST, MOST_HELD, gradients, products
from wsnlib.training.joint import layer_scale
from wsnlib.training.log import Evaluation, evaluation
from wsnlib.training.schedules import learning_rate_factors

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

TOGETHER = 16
"""Images that are read together; what they fill of one row is a line of the processor's cache."""


@jit
def load(h, images, index, batch, table):
    """Rows of the pixels of images at these positions; `table` (channels or pixels, 256) has their values."""
    pixels, plane = uint64(images.shape[1]), uint64(images.shape[1] // len(table))
    flat = images.reshape(images.size)
    starts = np.zeros(TOGETHER, np.uint64)
    for first in range(0, len(index), TOGETHER):
        count = uint64(min(TOGETHER, len(index) - first))
        for t in range(count):
            starts[t] = uint64(index[uint64(first) + t]) * pixels
        for f in range(pixels):
            values, row = table[f // plane], f * uint64(batch) + uint64(first)
            for t in range(count):
                h[row + t] = values[flat[starts[t] + f]]


@jit
def forward(h, batch, rows, begin, segments, offsets, value, floor, scale):
    """Fill the rows of all units, layer after layer."""
    across, columns = batch // LANES, tile_columns(batch // LANES, MOST)
    for layer in range(len(rows) - 1):
        own = segments[begin[layer] : begin[layer + 1]]
        products(h, 0, 0, h, 0, batch, 0, 1, across, 1, columns, 0, 1, own, offsets, value)
        if layer < len(rows) - 2:
            factor = scale[layer]
            units = h[rows[layer] * batch : rows[layer + 1] * batch]
            for k in range(len(units)):
                units[k] = factor * (floor if floor > units[k] else units[k])


@jit
def tile_columns(across, most):
    """Positions of a tile where a row is `across` positions long."""
    count = -(-across // most)
    return -(-across // count)


@jit
def backward(h, g, batch, rows, begin, segments, offsets, turned, floor, scale):
    """Fill the rows of the derivatives of the hidden units from those of the logits, the last layer first."""
    across, columns = batch // LANES, tile_columns(batch // LANES, MOST)
    for layer in range(len(rows) - 3, -1, -1):
        own = segments[begin[layer] : begin[layer + 1]]
        products(g, 0, 0, g, 0, batch, 0, 1, across, 1, columns, 0, 1, own, offsets, turned)
        factor = scale[layer]
        place = slice(rows[layer] * batch, rows[layer + 1] * batch)
        derivatives, units = g[place], h[place]
        for k in range(len(units)):
            derivatives[k] = factor * derivatives[k] if not units[k] <= floor else np.float32(0)


@jit
def cross_entropy(h, g, batch, first, last, labels):
    """Sum of the losses and number of right answers; rows of the logits' gradients of the mean loss."""
    loss, right = 0.0, 0
    count = len(labels)
    for t in range(count):
        best, highest = first, h[first * batch + t]
        for i in range(first + 1, last):
            e = h[i * batch + t]
            if e > highest or (np.isnan(e) and not np.isnan(highest)):  # as torch.argmax has it
                best, highest = i, e
        total = np.float32(0)
        for i in range(first, last):
            e = np.exp(h[i * batch + t] - highest)
            g[i * batch + t] = e
            total += e
        label = first + labels[t]
        loss += np.log(total) - (h[label * batch + t] - highest)
        right += best == label
        for i in range(first, last):
            share = g[i * batch + t] / total
            g[i * batch + t] = (share - np.float32(i == label)) / np.float32(count)
    for i in range(first, last):
        for t in range(count, batch):
            g[i * batch + t] = np.float32(0)
    return loss, right


@jit
def descend(value, velocity, total, rate, momentum, decay):
    """One step of gradient descent; the gradient of a weight is the sum of its lanes of `total`."""
    for i in range(len(value)):
        change = decay * value[i]
        for t in range(LANES):
            change += total[i * LANES + t]
        if momentum > 0:
            change += momentum * velocity[i]
            velocity[i] = change
        value[i] -= rate * change


@jit
def train_steps(
    images, labels, order, batch_size, factors, table, members, h, g, batch, rows,
    weights, begin, segments, offsets, back_weights, back_begin, back_segments, back_offsets, via,
    value, velocity, floor, scale, rates, momentum, decay, loss, right,
):  # fmt: skip
    """Batch after batch in this order, every one of these members; adds to `loss` and `right`."""
    across, columns = batch // LANES, tile_columns(batch // LANES, MOST_HELD)
    layers = len(rows) - 1
    for step in range(len(factors)):
        index = order[step * batch_size : (step + 1) * batch_size]
        load(h, images, index, batch, table)
        answers = labels[index]
        for m in members:
            here, back = slice(weights[m], weights[m + 1]), slice(back_weights[m], back_weights[m + 1])
            own, reads = value[here], offsets[here]
            forward(h, batch, rows, begin[m], segments, reads, own, floor, scale)
            found = cross_entropy(h, g, batch, rows[layers - 1], rows[layers], answers)
            loss[m] += found[0]
            right[m] += found[1]
            turned = own[via[back]]
            backward(
                h, g, batch, rows, back_begin[m], back_segments, back_offsets[back], turned, floor, scale
            )
            total = np.zeros(len(own) * LANES, np.float32)
            every = segments[begin[m, 0] : begin[m, layers]]
            block = np.array([0, len(every)])
            gradients(h, 0, 0, g, 0, batch, 0, 1, across, 1, columns, 0, 1, every, block, reads, total)
            descend(own, velocity[here], total, rates[m] * factors[step], momentum, decay)


@jit
def fill_logits(
    logits, images, batch_size, table, h, batch, rows, weights, begin, segments, offsets, value, floor, scale
):
    """Logits (members, images, classes) of all members."""
    first, last = rows[len(rows) - 2], rows[len(rows) - 1]
    for start in range(0, len(images), batch_size):
        index = np.arange(start, min(start + batch_size, len(images)))
        load(h, images, index, batch, table)
        for m in range(len(begin)):
            here = slice(weights[m], weights[m + 1])
            forward(h, batch, rows, begin[m], segments, offsets[here], value[here], floor, scale)
            for i in range(first, last):
                for t in range(len(index)):
                    logits[m, start + t, i - first] = h[i * batch + t]


class CompiledNetworks:
    """The members' weights in the order in which tiles take them (see `wsnlib.sparse.geometry.terms`)."""

    def __init__(
        self, models: Sequence[MLP], data: Dataset, protocols: Sequence[specs.Training], seeds: Sequence[int]
    ) -> None:
        self.data, self.protocol = data, protocols[0]
        self.rates = np.array([p.learning_rate for p in protocols], np.float32)
        self.of_seed = {s: np.flatnonzero(np.array(seeds) == s) for s in dict.fromkeys(seeds)}
        self.members = [[m for m in model.children() if isinstance(m, nn.Linear)] for model in models]
        layers = self.members[0]
        self.batch_size = min(self.protocol.batch_size, len(data.train.labels))
        self.batch = -(-self.batch_size // LANES) * LANES
        sizes = [layer.out_features for layer in layers]
        self.inputs = layers[0].in_features
        self.rows = self.inputs + 1 + np.cumsum([0, *sizes])  # a row of ones comes after the inputs
        scales = [layer_scale(layer) for layer in layers]
        self.scale = np.array(scales[1:], np.float32)
        relu = any(isinstance(module, nn.ReLU) for module in models[0].children())
        self.floor = np.float32(0 if relu else -np.inf)
        normalised_alike = data.image_shape if data.mean.ndim == 3 else (data.image_shape[0], 1, 1)
        levels = torch.arange(256, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, *normalised_alike)
        self.table = (data.normalise(levels).flatten(1).t() * scales[0]).contiguous().numpy()
        self.h = torch.zeros(
            int(self.rows[-1]), self.batch, dtype=torch.float32
        )  # torch's memory starts at a multiple of 64
        self.h[self.inputs] = 1
        self.g = torch.zeros_like(self.h)
        self._order_weights()

    def _order_weights(self) -> None:
        """Values and terms of all members, one after the other; what is counted is counted in each member."""
        self.orders: list[NDArray[np.int32]] = []
        values: list[Floats] = []
        forward, backward, via = _Joined(), _Joined(), []
        for layers in self.members:
            done, turned = 0, 0
            for i, layer in enumerate(layers):
                below, above = (0 if i == 0 else int(self.rows[i - 1])), int(self.rows[i])
                output, source = _present(layer)
                trained = np.concatenate([stored.reshape(-1).numpy() for stored in _trained(layer)])
                bias = np.arange(len(trained) - len(output))
                plane = np.concatenate([output, bias])
                read = np.concatenate([below + source, np.full(len(bias), self.inputs)])
                column = np.concatenate([source, np.full(len(bias), layer.in_features)])
                across, outputs, inputs = self.batch // LANES, layer.out_features, layer.in_features
                found = terms(plane, column, read * across, planes=outputs, sources=inputs + 1, patch=MOST)
                order = np.arange(len(plane), dtype=np.int32) if found.order is None else found.order
                self.orders.append(order)
                values.append(trained[order])
                forward.add(found, above, done)
                if i:
                    found = terms(
                        source, output, (above + output) * across, planes=inputs, sources=outputs, patch=MOST
                    )
                    place = np.argsort(order)[: len(output)]
                    via.append(done + (place if found.order is None else place[found.order]))
                    backward.add(found, below, turned)
                    turned += len(output)
                done += len(plane)
            forward.end_member(done)
            backward.end_member(turned)
        self.value = np.concatenate(values)
        self.velocity = np.zeros_like(self.value)
        self.forward = forward.arrays(len(self.members))
        self.backward = *backward.arrays(len(self.members)), np.concatenate([*via, np.zeros(0, np.int64)])

    def train_epoch(self, generators: dict[int, torch.Generator], *, epoch: int) -> list[tuple[float, float]]:
        """One pass of every member in its own new order; mean loss and accuracy of each."""
        split, batch_size = self.data.train, self.batch_size
        n = len(split.labels)
        factors = np.array(
            learning_rate_factors(self.protocol, epoch=epoch, steps=-(-n // batch_size)), np.float32
        )
        loss, right = np.zeros(len(self.members)), np.zeros(len(self.members), np.int64)
        for seed, members in self.of_seed.items():
            order = torch.randperm(n, generator=generators[seed])
            for piece, positions, steps in self._pieces(split, order, generators[seed]):
                train_steps(
                    *piece, positions, batch_size, factors[steps], self.table, members,
                    self.h.view(-1).numpy(), self.g.view(-1).numpy(), self.batch, self.rows,
                    *self.forward, *self.backward, self.value, self.velocity, self.floor, self.scale,
                    self.rates, np.float32(self.protocol.momentum), np.float32(self.protocol.weight_decay),
                    loss, right,
                )  # fmt: skip
        return list(zip((loss / n).tolist(), (right / n).tolist(), strict=True))

    def _pieces(
        self, split: Split | StreamedSplit, order: torch.Tensor, generator: torch.Generator
    ) -> Iterator[tuple[tuple[NDArray[np.uint8], Ints], Ints, slice]]:
        """Images and labels, the positions in them, and the steps that go over these: all at once if
        the images lie in memory and stay as they are, else batch by batch."""
        augmentation = self.protocol.augmentation
        if isinstance(split, Split) and augmentation is None:
            yield _arrays(split), order.numpy(), slice(None)
            return
        batches = split.batches(
            order, batch_size=self.batch_size, augmentation=augmentation, generator=generator
        )
        for step, batch in enumerate(batches):
            yield _arrays(batch), np.arange(len(batch.labels)), slice(step, step + 1)

    def evaluate(self, split: Split | StreamedSplit) -> list[Evaluation]:
        """Loss, accuracy and predictions of every member on a split."""
        pieces: Iterable[Split] = (
            [split]
            if isinstance(split, Split)
            else split.batches(torch.arange(len(split.labels)), batch_size=500)
        )
        found = []
        for piece in pieces:
            classes = self.members[0][-1].out_features
            logits = np.empty((len(self.members), len(piece.labels), classes), np.float32)
            fill_logits(
                logits, _arrays(piece)[0], self.batch_size, self.table, self.h.view(-1).numpy(),
                self.batch, self.rows, *self.forward, self.value, self.floor, self.scale,
            )  # fmt: skip
            found.append(torch.from_numpy(logits))
        return [evaluation([logits], split.labels) for logits in torch.cat(found, 1)]

    @torch.no_grad()
    def write_back(self) -> None:
        """Give the members what was trained."""
        left = torch.from_numpy(self.value)
        layers = [layer for member in self.members for layer in member]
        for layer, order in zip(layers, self.orders, strict=True):
            found = left.new_empty(len(order)).index_copy_(
                0, torch.from_numpy(order).long(), left[: len(order)]
            )
            left = left[len(order) :]
            for stored in _trained(layer):
                stored.copy_(found[: stored.numel()].view(stored.shape))
                found = found[stored.numel() :]


class _Joined:
    """Terms of all layers of all members, one after the other."""

    def __init__(self) -> None:
        self.begin, self.weights = [0], [0]
        self.segments, self.offsets = [np.zeros((0, 4), np.int32)], [np.zeros(0, np.int32)]

    def add(self, found: Terms, row: int, weight: int) -> None:
        """Those of one layer, whose units begin at this row and whose weights at this one of its member."""
        self.segments.append(found.segments + np.array([row, weight, weight, 0], np.int32))
        self.offsets.append(found.offsets)
        self.begin.append(self.begin[-1] + len(found.segments))

    def end_member(self, weights: int) -> None:
        """After so many weights."""
        self.weights.append(self.weights[-1] + weights)

    def arrays(self, members: int) -> tuple[Ints, Ints, NDArray[np.int32], NDArray[np.int32]]:
        """First weights of members, first segments of layers (members, layers + 1), segments and offsets."""
        layers = (len(self.begin) - 1) // members
        begin = np.array([self.begin[m * layers : (m + 1) * layers + 1] for m in range(members)])
        return np.array(self.weights), begin, np.concatenate(self.segments), np.concatenate(self.offsets)


def _trained(layer: nn.Linear) -> list[torch.Tensor]:
    """The weights that are there, in order of the outputs, and the biases, in the memory they have."""
    masked = bool(masks.layer_masks(layer))
    values = layer.get_parameter("parametrizations.weight.original") if masked else layer.weight
    parameters = [values, *(p for name, p in layer.named_parameters() if name == "bias")]
    return [parameter.detach() for parameter in parameters]


def _present(layer: nn.Linear) -> tuple[Ints, Ints]:
    """Output and input of every weight that is there."""
    everywhere = torch.ones(layer.out_features, layer.in_features)
    output, source = masks.layer_masks(layer).get("", everywhere).nonzero(as_tuple=True)
    return output.numpy(), source.numpy()


def _arrays(split: Split) -> tuple[NDArray[np.uint8], Ints]:
    return split.images.flatten(1).numpy(), split.labels.numpy()
