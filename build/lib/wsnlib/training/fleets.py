"""Many fully connected networks of one shape trained at once.

Nothing is shared but the images of members with the same seed. Compiled code trains the members one after
the other on each batch, with a cost that follows their weights; where nearly all weights are present, the
members are better the blocks of one PyTorch network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from wsnlib import specs
from wsnlib.data import Dataset
from wsnlib.models import MLP
from wsnlib.training.batched import BatchedFleet, layer_scale
from wsnlib.training.course import Course, Evaluation, Outcome
from wsnlib.training.steps import check_float32

if TYPE_CHECKING:
    from wsnlib.training.compiled import CompiledFleet


def train_fleet(
    models: Sequence[nn.Module],
    data: Dataset,
    protocols: Sequence[specs.Training],
    *,
    seeds: Sequence[int],
    compiled: bool = True,
) -> list[Outcome]:
    """Train `MLP`s of one shape in place, each by its protocol and seed, and say how each went.

    Args:
        models: `wsnlib.models.MLP` on the CPU, dense, masked or native. Masks, densities and values may
            differ.
        data: On the CPU.
        protocols: One for each; they may differ in the learning rate.
        seeds: One for each; draws the order of the images and their augmentation.
        compiled: Whether compiled code trains them, or PyTorch as one network of blocks. What compiled code
            gives for a member does not depend on the others, to the last bit.

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
    for model in models:
        check_float32(model)
    fleet = _kind(compiled)([cast(MLP, model) for model in models], data, protocols, seeds)
    generators = {s: torch.Generator().manual_seed(specs.derive_seed(s, "order")) for s in set(seeds)}
    courses = [Course(p, data) for p in protocols]
    ended: dict[int, Outcome] = {}
    for epoch in range(1, protocols[0].epochs + 1):
        epoch_metrics = fleet.train_epoch(generators, epoch=epoch)
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
            validations = list(fleet.evaluate(data.validation))
        tests = fleet.evaluate(data.test)
        for member in left:
            courses[member].evaluated(epoch, validations[member], tests[member])
    fleet.write_back()
    train = fleet.evaluate(data.train) if len(ended) < len(models) else []
    return [
        ended[member] if member in ended else courses[member].finished(train[member].accuracy)
        for member in range(len(models))
    ]


def _kind(compiled: bool) -> type[CompiledFleet] | type[BatchedFleet]:
    if not compiled:
        return BatchedFleet
    from wsnlib.training.compiled import CompiledFleet  # loads numba, which takes a second

    return CompiledFleet


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
        (m.in_features, m.out_features, m.bias is None, layer_scale(m))
        if isinstance(m, nn.Linear)
        else type(m)
        for m in model.children()
    )
