"""Many fully connected networks of one shape trained at once, as one network with a block for each.

Most of a small network's step is the start of its operations, which a fleet pays once for all. Side by
side the layers of the members are one layer with a block-diagonal weight. Nothing is shared but the images
of members with the same seed: each member is trained as it would be alone, up to the order in which sums
are rounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from wsnlib import masks, specs
from wsnlib.data import Dataset, Split, StreamedSplit
from wsnlib.models import MLP
from wsnlib.models.mlp import NTKLinear
from wsnlib.sparse import SparseLinear
from wsnlib.sparse.layers import LinearFunction, LinearWeight, located
from wsnlib.training.course import Course, Evaluation, Outcome
from wsnlib.training.schedules import learning_rate_factor


def train_fleet(
    models: Sequence[nn.Module],
    data: Dataset,
    protocols: Sequence[specs.Training],
    *,
    seeds: Sequence[int],
) -> list[Outcome]:
    """Train `MLP`s of one shape in place, each by its protocol and seed, and say how each went.

    Args:
        models: `wsnlib.models.MLP` on the CPU, dense, masked or native; a layer is computed natively if it
            is native in all of them. Masks, densities and values may differ.
        data: On the CPU.
        protocols: One for each; they may differ in the learning rate.
        seeds: One for each; draws the order of the images and their augmentation.

    Returns:
        What [`train`][wsnlib.training.train] gives for each, up to rounding: after 5 epochs of the digits
        data losses agree to 1e-4 of their value.

    Raises:
        ValueError: If the networks do not have one shape, or the protocols differ in more.

    Examples:
        >>> from wsnlib.data import load_data
        >>> digits = load_data(specs.Digits())
        >>> fleet = [MLP(16, inputs=64) for _ in range(3)]
        >>> rates = [specs.Training(epochs=5, learning_rate=rate) for rate in (0.1, 0.2, 0.3)]
        >>> outcomes = train_fleet(fleet, digits, rates, seeds=[0, 0, 1])
        >>> [outcome.history["test_accuracy"][-1] > 0.8 for outcome in outcomes]
        [True, True, True]
    """
    _check(models, protocols, seeds)
    fleet = Fleet([cast(MLP, model) for model in models], seeds)
    protocol = protocols[0]
    step = fleet.sgd_step([p.learning_rate for p in protocols], protocol, data)
    orders = {s: torch.Generator().manual_seed(specs.derive_seed(s, "order")) for s in fleet.seeds}
    courses = [Course(p, data) for p in protocols]
    ended: dict[int, Outcome] = {}
    for epoch in range(1, protocol.epochs + 1):
        epoch_metrics = _train_epoch(fleet, step, data, protocol, orders, epoch=epoch)
        for member, (course, metrics) in enumerate(zip(courses, epoch_metrics, strict=True)):
            if member not in ended and not course.trained(*metrics):
                ended[member] = course.diverged()
        left = [member for member in range(len(models)) if member not in ended]
        if not left:
            break
        evaluated = [courses[member].is_evaluated(epoch) for member in left]
        if not all(evaluated):
            continue
        validations: list[Evaluation | None] = [None] * len(models)
        if courses[0].validates:
            validations = list(fleet.evaluate(data, data.validation))
        tests = fleet.evaluate(data, data.test)
        for member in left:
            courses[member].evaluated(epoch, validations[member], tests[member])
    fleet.write_back()
    train = fleet.evaluate(data, data.train) if len(ended) < len(models) else []
    return [
        ended[member] if member in ended else courses[member].finished(train[member].accuracy)
        for member in range(len(models))
    ]


def _check(models: Sequence[nn.Module], protocols: Sequence[specs.Training], seeds: Sequence[int]) -> None:
    if not len(models) == len(protocols) == len(seeds) > 0:
        raise ValueError(
            f"there are {len(models)} models, {len(protocols)} protocols and {len(seeds)} seeds; "
            "one of each for every member is allowed"
        )
    shapes = {_shape(model) for model in models}
    if len(shapes) > 1:
        raise ValueError(
            f"the networks have {len(shapes)} shapes; one is allowed: train each shape as its own fleet"
        )
    alike = {replace(protocol, learning_rate=1.0) for protocol in protocols}
    if len(alike) > 1:
        raise ValueError("the protocols differ in more than the learning rate, which alone is allowed to")
    if protocols[0].decayed != "all" or protocols[0].precision != "float32":
        raise ValueError(
            f"decayed is {protocols[0].decayed!r} and precision {protocols[0].precision!r}; "
            "'all' and 'float32' are allowed in a fleet"
        )


def _shape(model: nn.Module) -> tuple[object, ...]:
    if not isinstance(model, MLP):
        raise ValueError(f"a network is a {type(model).__name__}; MLPs are allowed in a fleet")
    return tuple(
        (m.in_features, m.out_features, m.bias is None, _scale(m)) if isinstance(m, nn.Linear) else type(m)
        for m in model.children()
    )


def _scale(layer: nn.Linear) -> float:
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
        native: The block-diagonal weight, if the layer is native in all members.
        positions: Else where the values are in the weight (members, outputs, inputs), None if it is full.
        shape: Of that weight.
        source: The block of the input that each member reads, (members,).
        scale: Factor of the input.
    """

    values: torch.Tensor
    bias: torch.Tensor | None
    owner: torch.Tensor
    native: LinearWeight | None
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
        native = None
        if all(isinstance(layer, SparseLinear) for layer in layers):
            column = positions % shape[2] + source[owner] * shape[2]
            columns = shape[2] * (int(source.max()) + 1)
            native = located(positions // shape[2], column, (shape[0] * shape[1], columns))
        bias = None
        if first.bias is not None:
            bias = torch.cat([layer.bias.detach() for layer in layers]).requires_grad_()
        return cls(
            values=torch.cat([_values(layer).detach().flatten() for layer in layers]).requires_grad_(),
            bias=bias,
            owner=owner,
            native=native,
            positions=positions if found else None,
            shape=shape,
            source=source,
            scale=_scale(first),
        )

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, blocks · inputs) to (batch, members · outputs), with the batch last in memory."""
        if self.scale != 1:
            x = x * self.scale
        if self.native is not None:
            return cast(torch.Tensor, LinearFunction.apply(x, self.values, self.bias, self.native)).t()
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
            stored = _values(layer)
            stored.copy_(values.view(stored.shape))
        if self.bias is not None:
            for layer, bias in zip(layers, self.bias.detach().chunk(len(layers)), strict=True):
                layer.bias.copy_(bias)


def _values(layer: nn.Linear) -> torch.Tensor:
    """The parameter that holds the weights of a layer, masked or not."""
    if masks.layer_masks(layer):
        return layer.get_parameter("parametrizations.weight.original")
    return layer.weight


class Fleet:
    """The members as one network, whose first layer reads one block of inputs for each distinct seed."""

    def __init__(self, models: Sequence[MLP], seeds: Sequence[int]) -> None:
        self.models = models
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

    def __call__(self, images: Sequence[torch.Tensor]) -> torch.Tensor:
        """Logits (batch, members, classes) of one batch of images for each distinct seed."""
        x = torch.cat([batch.flatten(1).t() for batch in images]).t()
        for layer in self.layers:
            x = layer(x)
        return x.view(len(x), len(self.models), -1)

    def sgd_step(
        self, rates: Sequence[float], protocol: specs.Training, data: Dataset
    ) -> Callable[[Sequence[Split], float], torch.Tensor]:
        """Images, labels and the factor of the learning rates to logits, with all members changed."""
        rate = torch.tensor(rates)
        updates: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        for blocks, _ in self.linear:
            updates.append((blocks.values, rate[blocks.owner], torch.zeros_like(blocks.values)))
            if blocks.bias is not None:
                each = rate.repeat_interleave(blocks.shape[1])
                updates.append((blocks.bias, each, torch.zeros_like(blocks.bias)))
        parameters = [parameter for parameter, _, _ in updates]

        def step(batches: Sequence[Split], factor: float) -> torch.Tensor:
            logits = self([data.normalise(batch.images) for batch in batches])
            labels = torch.stack([batch.labels for batch in batches], 1)[:, self.source]
            loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / len(labels)
            gradients = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                for (parameter, rates, velocity), gradient in zip(updates, gradients, strict=True):
                    change = gradient
                    if protocol.weight_decay:
                        change = change.add(parameter, alpha=protocol.weight_decay)
                    if protocol.momentum:
                        change = velocity.mul_(protocol.momentum).add_(change)
                    parameter.addcmul_(rates, change, value=-factor)
            return logits.detach()

        return step

    @torch.no_grad()
    def evaluate(
        self, data: Dataset, split: Split | StreamedSplit, *, batch_size: int = 500
    ) -> list[Evaluation]:
        """Loss, accuracy and predictions of every member on a split."""
        batches = split.batches(torch.arange(len(split.labels)), batch_size=batch_size)
        outputs = [self([data.normalise(batch.images)] * len(self.seeds)) for batch in batches]
        found = []
        for logits in torch.cat(outputs).unbind(1):
            predictions = logits.argmax(1)
            loss = F.cross_entropy(logits, split.labels).item()
            accuracy = (predictions == split.labels).double().mean().item()
            found.append(Evaluation(loss=loss, accuracy=accuracy, predictions=predictions))
        return found

    @torch.no_grad()
    def write_back(self) -> None:
        """Give the members what was trained."""
        for blocks, layers in self.linear:
            blocks.write_back(layers)


def _train_epoch(
    fleet: Fleet,
    step: Callable[[Sequence[Split], float], torch.Tensor],
    data: Dataset,
    protocol: specs.Training,
    generators: dict[int, torch.Generator],
    *,
    epoch: int,
) -> list[tuple[float, float]]:
    """One pass of every member in its own new order; mean loss and accuracy of each."""
    n = len(data.train.labels)
    steps = -(-n // protocol.batch_size)
    orders = {seed: torch.randperm(n, generator=generators[seed]) for seed in fleet.seeds}
    streams = [
        data.train.batches(
            orders[seed],
            batch_size=protocol.batch_size,
            augmentation=protocol.augmentation,
            generator=generators[seed],
        )
        for seed in fleet.seeds
    ]
    by_step = isinstance(protocol.schedule, specs.OneCycle)
    outputs = torch.empty(n, len(fleet.models), data.num_classes)
    done = 0
    for index, batches in enumerate(zip(*streams, strict=True)):
        progress = (epoch - 1 + (index / steps if by_step else 0)) / protocol.epochs
        count = len(batches[0].labels)
        factor = learning_rate_factor(protocol.schedule, progress)
        outputs[done : done + count] = step(cast(Sequence[Split], batches), factor)
        done += count
    metrics = []
    for logits, source in zip(outputs.unbind(1), fleet.source.tolist(), strict=True):
        seen = data.train.labels[orders[fleet.seeds[source]]]
        correct = (logits.argmax(1) == seen).double().mean()
        metrics.append((F.cross_entropy(logits, seen).item(), correct.item()))
    return metrics
