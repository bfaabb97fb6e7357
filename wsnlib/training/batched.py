"""Networks trained jointly as one PyTorch network with a block for each.

Most of a small network's step is the start of its operations, which joint training pays once for all. Side by
side the layers of the members are one layer with a block-diagonal weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from wsnlib import masks, specs
from wsnlib.data import Dataset, Split, StreamedSplit
from wsnlib.models import MLP
from wsnlib.models.mlp import NTKLinear
from wsnlib.sparse import SparseLinear
from wsnlib.training.log import Evaluation, evaluation
from wsnlib.training.schedules import learning_rate_factors


def layer_scale(layer: nn.Linear) -> float:
    """Factor of the layer's input."""
    if isinstance(layer, SparseLinear):
        return layer.input_scale
    return float(layer.in_features**-0.5) if isinstance(layer, NTKLinear) else 1.0


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """One layer of all members: their values and biases one after the other, and how to multiply with them.

    Args:
        values: Of the weights of all members, (n,).
        bias: (members · outputs,), or None.
        owner: The member of every value, (n,).
        positions: Where the values are in the weight (members, outputs, inputs), None if it is full.
        shape: Of that weight.
        source: The block of the input that each member reads, (members,).
        scale: Factor of the input.
    """

    values: torch.Tensor
    bias: torch.Tensor | None
    owner: torch.Tensor
    positions: torch.Tensor | None
    shape: tuple[int, int, int]
    source: torch.Tensor
    scale: float

    @classmethod
    def of(cls, layers: Sequence[nn.Linear], source: torch.Tensor) -> Blocks:
        """The layers of all members as one."""
        first = layers[0]
        shape = (len(layers), first.out_features, first.in_features)
        size = first.out_features * first.in_features
        found = masks.layer_masks(nn.ModuleList(layers))
        everywhere = torch.ones(size, dtype=torch.bool)
        present = [found.get(str(i), everywhere).flatten().nonzero().squeeze(1) for i in range(len(layers))]
        owner = torch.arange(len(layers)).repeat_interleave(torch.tensor([len(p) for p in present]))
        positions = torch.cat(present) + owner * size
        bias = None
        if first.bias is not None:
            bias = torch.cat([layer.bias.detach() for layer in layers]).requires_grad_()
        return cls(
            values=torch.cat([layer_values(layer).detach().flatten() for layer in layers]).requires_grad_(),
            bias=bias,
            owner=owner,
            positions=positions if found else None,
            shape=shape,
            source=source,
            scale=layer_scale(first),
        )

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, blocks · inputs) to (batch, members · outputs), with the batch last in memory."""
        if self.scale != 1:
            x = x * self.scale
        members, outputs, inputs = self.shape
        weight = self.values
        if self.positions is not None:
            weight = weight.new_zeros(math.prod(self.shape)).scatter(0, self.positions, weight)
        blocks = x.t().reshape(-1, inputs, len(x))
        if len(blocks) == 1:
            y = weight.view(-1, inputs) @ blocks[0]
        elif len(blocks) == members:
            y = (weight.view(self.shape) @ blocks).view(members * outputs, -1)
        else:
            y = (weight.view(self.shape) @ blocks[self.source]).view(members * outputs, -1)
        return (y if self.bias is None else y + self.bias[:, None]).t()

    def write_back(self, layers: Sequence[nn.Linear]) -> None:
        """Give the members' layers their values and biases."""
        counts = torch.bincount(self.owner, minlength=len(layers)).tolist()
        for layer, values in zip(layers, self.values.detach().split(counts), strict=True):
            stored = layer_values(layer)
            stored.copy_(values.view(stored.shape))
        if self.bias is not None:
            for layer, bias in zip(layers, self.bias.detach().chunk(len(layers)), strict=True):
                layer.bias.copy_(bias)


def layer_values(layer: nn.Linear) -> torch.Tensor:
    """The parameter that holds the weights of a layer, masked or not."""
    if masks.layer_masks(layer):
        return layer.get_parameter("parametrizations.weight.original")
    return layer.weight


class BatchedNetworks:
    """The members as one network, whose first layer reads one block of inputs for each distinct seed."""

    def __init__(
        self, models: Sequence[MLP], data: Dataset, protocols: Sequence[specs.Training], seeds: Sequence[int]
    ) -> None:
        self.models, self.data, self.protocol = models, data, protocols[0]
        self.seeds = list(dict.fromkeys(seeds))
        self.source = torch.tensor([self.seeds.index(seed) for seed in seeds])
        own = torch.arange(len(models))
        self.layers: list[Blocks | Callable[[torch.Tensor], torch.Tensor]] = []
        self.linear: list[tuple[Blocks, list[nn.Linear]]] = []
        for members in zip(*(model.children() for model in models), strict=True):
            if not isinstance(members[0], nn.Linear):
                self.layers.append(members[0])
                continue
            layers = [cast(nn.Linear, layer) for layer in members]
            blocks = Blocks.of(layers, own if self.linear else self.source)
            self.linear.append((blocks, layers))
            self.layers.append(blocks)
        self.trained = list(self._parameters(torch.tensor([p.learning_rate for p in protocols])))

    def __call__(self, images: Sequence[torch.Tensor]) -> torch.Tensor:
        """Logits (batch, members, classes) of one batch of images for each distinct seed."""
        x = torch.cat([batch.flatten(1).t() for batch in images]).t()
        for layer in self.layers:
            x = layer(x)
        return x.view(len(x), len(self.models), -1)

    def _parameters(self, rates: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """What is trained, the learning rate of each number of it, and its velocity."""
        for blocks, _ in self.linear:
            yield blocks.values, rates[blocks.owner], torch.zeros_like(blocks.values)
            if blocks.bias is not None:
                each = rates.repeat_interleave(blocks.shape[1])
                yield blocks.bias, each, torch.zeros_like(blocks.bias)

    def _step(self, batches: Sequence[Split], factor: float) -> torch.Tensor:
        """Logits of a batch for each distinct seed, with all members changed."""
        logits = self([self.data.normalise(batch.images) for batch in batches])
        labels = torch.stack([batch.labels for batch in batches], 1)[:, self.source]
        loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / len(labels)
        gradients = torch.autograd.grad(loss, [parameter for parameter, _, _ in self.trained])
        with torch.no_grad():
            for (parameter, rates, velocity), change in zip(self.trained, gradients, strict=True):
                if self.protocol.weight_decay:
                    change = change.add(parameter, alpha=self.protocol.weight_decay)
                if self.protocol.momentum:
                    change = velocity.mul_(self.protocol.momentum).add_(change)
                parameter.addcmul_(rates, change, value=-factor)
        return logits.detach()

    def train_epoch(self, generators: dict[int, torch.Generator], *, epoch: int) -> list[tuple[float, float]]:
        """One pass of every member in its own new order; mean loss and accuracy of each."""
        split, protocol = self.data.train, self.protocol
        n, seeds = len(split.labels), self.seeds
        orders = {seed: torch.randperm(n, generator=generators[seed]) for seed in seeds}
        streams = [
            split.batches(
                orders[seed],
                batch_size=protocol.batch_size,
                augmentation=protocol.augmentation,
                generator=generators[seed],
            )
            for seed in seeds
        ]
        factors = learning_rate_factors(protocol, epoch=epoch, steps=-(-n // protocol.batch_size))
        outputs = torch.empty(n, len(self.models), self.data.num_classes)
        done = 0
        for factor, batches in zip(factors, zip(*streams, strict=True), strict=True):
            count = len(batches[0].labels)
            outputs[done : done + count] = self._step(cast(Sequence[Split], batches), factor)
            done += count
        metrics = []
        for logits, source in zip(outputs.unbind(1), self.source.tolist(), strict=True):
            seen = split.labels[orders[seeds[source]]]
            correct = (logits.argmax(1) == seen).double().mean()
            metrics.append((F.cross_entropy(logits, seen).item(), correct.item()))
        return metrics

    @torch.no_grad()
    def evaluate(self, split: Split | StreamedSplit) -> list[Evaluation]:
        """Loss, accuracy and predictions of every member on a split."""
        batches = split.batches(torch.arange(len(split.labels)), batch_size=500)
        outputs = [self([self.data.normalise(batch.images)] * len(self.seeds)) for batch in batches]
        return [evaluation(logits, split.labels) for logits in torch.cat(outputs).unbind(1)]

    @torch.no_grad()
    def write_back(self) -> None:
        """Give the members what was trained."""
        for blocks, layers in self.linear:
            blocks.write_back(layers)
