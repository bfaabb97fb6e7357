"""A fleet trained by compiled code, member after member on each batch, at a cost that follows the weights."""

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
from wsnlib.sparse.compiled import Floats, Positions, backward, cross_entropy, descend, forward, jit, load
from wsnlib.training.batched import layer_scale, layer_values
from wsnlib.training.course import Evaluation, evaluation
from wsnlib.training.schedules import learning_rate_factors

Entries = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]

ENTRIES, LANES = 4, 8
"""Bags are filled to a multiple of so many entries, and rows to one of so many numbers."""


@jit
def train_steps(
    images, labels, order, batch_size, factors, table, members, x, h, g, batch, first, hidden,
    reads, row, at, feeds, target, via, value, gradient, velocity, begin, floor, scale,
    rates, momentum, decay, loss, right,
):  # fmt: skip
    """Batch after batch in this order, every one of these members; adds to `loss` and `right`."""
    units = uint64(reads.shape[1] - 1)
    for step in range(len(factors)):
        index = order[step * batch_size : (step + 1) * batch_size]
        load(x, images, index, batch, table)
        answers = labels[index]
        for m in members:
            forward(x, h, batch, first, hidden, reads[m], row, at, value, floor, scale)
            found = cross_entropy(h, g, hidden, units, batch, answers)
            loss[m] += found[0]
            right[m] += found[1]
            backward(
                gradient, x, h, g, batch, first, hidden, reads[m], row, at, feeds[m], target, via,
                value, floor, scale,
            )  # fmt: skip
            rate = rates[m] * factors[step]
            descend(value, velocity, gradient, begin[m], begin[m + 1], rate, momentum, decay)


@jit
def fill_logits(
    logits, images, batch_size, table, x, h, batch, first, hidden, reads, row, at, value, floor, scale
):
    """Logits (members, images, classes) of all members."""
    units = uint64(reads.shape[1] - 1)
    for start in range(0, len(images), batch_size):
        index = np.arange(start, min(start + batch_size, len(images)))
        load(x, images, index, batch, table)
        for m in range(len(reads)):
            forward(x, h, batch, first, hidden, reads[m], row, at, value, floor, scale)
            for i in range(hidden, units):
                for t in range(len(index)):
                    logits[m, start + t, i - hidden] = h[i * batch + uint64(t)]


class CompiledFleet:
    """The members' weights as bags of the rows of their units (see `wsnlib.sparse.compiled`).

    A bag's entries say where in `value` their weights are; a member's first value stays 0 and fills its
    bags up.
    """

    def __init__(
        self, models: Sequence[MLP], data: Dataset, protocols: Sequence[specs.Training], seeds: Sequence[int]
    ) -> None:
        self.data, self.protocol = data, protocols[0]
        self.rates = np.array([p.learning_rate for p in protocols], np.float32)
        self.of_seed = {s: np.flatnonzero(np.array(seeds) == s) for s in dict.fromkeys(seeds)}
        self.members = [[m for m in model.children() if isinstance(m, nn.Linear)] for model in models]
        layers = self.members[0]
        sizes = [layer.out_features for layer in layers]
        self.first, self.hidden, self.units = sizes[0], sum(sizes[:-1]), sum(sizes)
        self.batch = -(-self.protocol.batch_size // LANES) * LANES
        scales = [layer_scale(layer) for layer in layers]
        self.scale = np.repeat(np.array(scales[1:], np.float32), sizes[:-1])
        relu = any(isinstance(module, nn.ReLU) for module in models[0].children())
        self.floor = np.float32(0 if relu else -np.inf)
        levels = torch.arange(256, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, data.image_shape[0], 1, 1)
        self.table = (data.normalise(levels).flatten(1).t() * scales[0]).contiguous().numpy()
        self._find_bags()
        inputs = layers[0].in_features
        self.x = self._rows(inputs, 1, 0)
        self.h, self.g = self._rows(self.units, 1, 0), self._rows(self.units, 0, 0)

    def _rows(self, count: int, *constant: float) -> Floats:
        """Rows of zeros, followed by constant ones."""
        rows = torch.zeros(count + len(constant), self.batch)  # torch's memory starts at a multiple of 64
        rows[count:] = torch.tensor(constant)[:, None]
        return rows.flatten().numpy()

    def _find_bags(self) -> None:
        """What each unit reads, and what reads it; a row of ones and one of zeros come after the others."""
        inputs, units, hidden = self.members[0][0].in_features, self.units, self.hidden
        no_input = np.where(np.arange(units) < self.first, inputs + 1, units + 1)
        no_reader = np.full(hidden + 1, units + 1)
        values: list[Floats] = []
        reads, feeds, begin, done = [], [], [], 0
        for layers in self.members:
            values.append(np.zeros(1, np.float32))
            begin.append(done)
            nothing, done, below, above = done, done + 1, 0, 0
            entries: list[Entries] = []
            for layer in layers:
                ones = units if entries else inputs
                entries.append(_entries(layer, below=below, above=above, ones=ones, done=done))
                values += _trained(layer)
                done += len(entries[-1][0])
                below, above = above, above + layer.out_features
            unit, row, at = (np.concatenate(each) for each in zip(*entries, strict=True))
            reads.append(_bags(unit, row, at, no_input, nothing))
            unit, row, at = (np.concatenate(each) for each in zip(*entries[1:], strict=True))
            feeder = np.where(row == units, hidden, row)  # the row of ones comes after the hidden units
            feeds.append(_bags(feeder, unit, at, no_reader, nothing))
        self.value = np.concatenate(values)
        self.gradient, self.velocity = np.zeros_like(self.value), np.zeros_like(self.value)
        self.begin = np.array([*begin, done], np.uint64)
        self.reads, self.row, self.at = _joined(reads, self.batch)
        self.feeds, self.target, self.via = _joined(feeds, self.batch)

    def train_epoch(self, generators: dict[int, torch.Generator], *, epoch: int) -> list[tuple[float, float]]:
        """One pass of every member in its own new order; mean loss and accuracy of each."""
        split, batch_size = self.data.train, self.protocol.batch_size
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
                    self.x, self.h, self.g,
                    np.uint64(self.batch), np.uint64(self.first), np.uint64(self.hidden),
                    self.reads, self.row, self.at, self.feeds, self.target, self.via,
                    self.value, self.gradient, self.velocity, self.begin, self.floor, self.scale, self.rates,
                    np.float32(self.protocol.momentum), np.float32(self.protocol.weight_decay), loss, right,
                )  # fmt: skip
        return list(zip((loss / n).tolist(), (right / n).tolist(), strict=True))

    def _pieces(
        self, split: Split | StreamedSplit, order: torch.Tensor, generator: torch.Generator
    ) -> Iterator[tuple[tuple[NDArray[np.uint8], NDArray[np.int64]], NDArray[np.int64], slice]]:
        """Images and labels, the positions in them, and the steps that go over these: all at once if
        the images lie in memory and stay as they are, else batch by batch."""
        augmentation = self.protocol.augmentation
        if isinstance(split, Split) and augmentation is None:
            yield _arrays(split), order.numpy(), slice(None)
            return
        batches = split.batches(
            order, batch_size=self.protocol.batch_size, augmentation=augmentation, generator=generator
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
            logits = np.empty((len(self.members), len(piece.labels), self.units - self.hidden), np.float32)
            fill_logits(
                logits, _arrays(piece)[0], self.protocol.batch_size, self.table, self.x, self.h,
                np.uint64(self.batch), np.uint64(self.first), np.uint64(self.hidden),
                self.reads, self.row, self.at, self.value, self.floor, self.scale,
            )  # fmt: skip
            found.append(torch.from_numpy(logits))
        return [evaluation(logits, split.labels) for logits in torch.cat(found, 1)]

    @torch.no_grad()
    def write_back(self) -> None:
        """Give the members what was trained."""
        left = torch.from_numpy(self.value)
        for layers in self.members:
            left = left[1:]
            for stored in (each for layer in layers for each in _trained(layer)):
                torch.from_numpy(stored).copy_(left[: len(stored)])
                left = left[len(stored) :]


def _trained(layer: nn.Linear) -> list[Floats]:
    """The weights that are there, in order of the outputs, and the biases, in the memory they have."""
    parameters = [layer_values(layer), *(p for name, p in layer.named_parameters() if name == "bias")]
    return [parameter.detach().view(-1).numpy() for parameter in parameters]


def _entries(layer: nn.Linear, *, below: int, above: int, ones: int, done: int) -> Entries:
    """The unit, the row it reads and the place of the value of each weight; a bias is one of a row of ones.

    Args:
        layer: Of one member.
        below, above: Units before those it reads and before its own.
        ones: The row of ones.
        done: Values before its own.
    """
    everywhere = torch.ones(layer.out_features, layer.in_features)
    output, source = masks.layer_masks(layer).get("", everywhere).nonzero(as_tuple=True)
    biases = np.arange(layer.out_features if len(_trained(layer)) > 1 else 0)
    unit = above + np.concatenate([output.numpy(), biases])
    row = np.concatenate([below + source.numpy(), np.full(len(biases), ones)])
    return unit, row, done + np.arange(len(unit))


def _arrays(split: Split) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    return split.images.flatten(1).numpy(), split.labels.numpy()


def _bags(
    owner: NDArray[np.int64],
    row: NDArray[np.int64],
    at: NDArray[np.int64],
    zeros: NDArray[np.int64],
    nothing: int,
) -> Entries:
    """Entries in order of their owners; each owner's are filled up with its row of zeros and value `nothing`.

    Returns:
        Where each owner's entries start, with their number at the end; their rows; where their values are.
    """
    count = np.bincount(owner, minlength=len(zeros))
    size = ENTRIES * np.maximum(1, -(-count // ENTRIES))
    start = np.concatenate([[0], np.cumsum(size)])
    order = np.argsort(owner, kind="stable")
    rank = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    place = start[owner[order]] + rank
    rows, values = np.repeat(zeros, size), np.full(start[-1], nothing)
    rows[place], values[place] = row[order], at[order]
    return start, rows, values


def _joined(members: Sequence[Entries], batch: int) -> tuple[Positions, Positions, Positions]:
    """The bags of all members one after the other: (members, owners + 1), and where rows and values lie."""
    offsets = np.cumsum([0] + [start[-1] for start, _, _ in members[:-1]])
    starts = np.stack([start + offset for (start, _, _), offset in zip(members, offsets, strict=True)])
    row = np.concatenate([rows for _, rows, _ in members]) * batch
    at = np.concatenate([values for _, _, values in members])
    return starts.astype(np.uint64), row.astype(np.uint64), at.astype(np.uint64)
