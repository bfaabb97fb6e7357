"""Many fully connected networks of one shape trained at once.

Nothing is shared but the images of members with the same seed. Compiled code trains the members one after
the other on each batch, with a cost that follows their weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import nn
from torch.nn.utils import parametrize

from wsnlib import masks, specs
from wsnlib.data import DataError, Dataset, check_data
from wsnlib.models import MLP
from wsnlib.models.mlp import NTKLinear, ScaledLinear
from wsnlib.sparse import SparseLinear
from wsnlib.training.log import Evaluation, Outcome, TrainingLog
from wsnlib.training.steps import check_float32
from wsnlib.widening import HOOKS

LINEAR = (nn.Linear, NTKLinear, ScaledLinear, SparseLinear)
"""What compiled code knows the forward pass of."""


def train_jointly(
    models: Sequence[nn.Module],
    data: Dataset,
    protocols: Sequence[specs.Training],
    *,
    seeds: Sequence[int],
) -> list[Outcome]:
    """Train `MLP`s of one shape in place, each by its protocol and seed, and say how each went.

    Args:
        models: `wsnlib.models.MLP` on the CPU, with dense, masked or sparse layers and no hooks. Masks,
            densities and values may differ.
        data: Data set on the CPU.
        protocols: A protocol for each; they may differ in the learning rate.
        seeds: A random seed for each, for the order of the images and their augmentation.

    Returns:
        What [`train`][wsnlib.training.train] gives for each, up to rounding: after 5 epochs of the digits
        data losses agree to 1e-4 of their value. It does not depend on the others, to the last bit.

    Raises:
        DataError: If images are no bytes, labels not one class number for each, or splits of more than one
            shape.
        ValueError: If the networks do not have one shape, which fits the data, or compute anything else, or
            the protocols differ in more.

    Examples:
        >>> from wsnlib.data import load_data
        >>> digits = load_data(specs.Digits())
        >>> nets = [MLP(16, inputs=64) for _ in range(3)]
        >>> rates = [specs.Training(epochs=10, learning_rate=rate) for rate in (0.1, 0.2, 0.3)]
        >>> outcomes = train_jointly(nets, digits, rates, seeds=[0, 0, 1])
        >>> [outcome.history["test_accuracy"][-1] > 0.8 for outcome in outcomes]
        [True, True, True]
    """
    _check(models, protocols, seeds)
    _check_fit(cast(MLP, models[0]), data)
    for model in models:
        check_float32(model)
        _check_trained(model)
    from wsnlib.training.compiled import CompiledNetworks  # loads numba, which takes a second

    networks = CompiledNetworks([cast(MLP, model) for model in models], data, protocols, seeds)
    generators = {s: torch.Generator().manual_seed(specs.derive_seed(s, "order")) for s in set(seeds)}
    logs = [TrainingLog(p, data) for p in protocols]
    ended: dict[int, Outcome] = {}
    for epoch in range(1, protocols[0].epochs + 1):
        epoch_metrics = networks.train_epoch(generators, epoch=epoch)
        for member, (log, metrics) in enumerate(zip(logs, epoch_metrics, strict=True)):
            if member not in ended and not log.trained(*metrics):
                ended[member] = log.diverged()
        left = [member for member in range(len(models)) if member not in ended]
        if not left:
            break
        evaluated = [logs[member].is_evaluated(epoch) for member in left]
        if not all(evaluated):
            continue
        validations: list[Evaluation | None] = [None] * len(models)
        if logs[0].validates:
            validations = list(networks.evaluate(data.validation))
        tests = networks.evaluate(data.test)
        for member in left:
            logs[member].evaluated(epoch, validations[member], tests[member])
    networks.write_back()
    for model in models:
        model.eval()
    train = networks.evaluate(data.train) if len(ended) < len(models) else []
    return [
        ended[member] if member in ended else logs[member].finished(train[member].accuracy)
        for member in range(len(models))
    ]


def layer_scale(layer: nn.Linear) -> float:
    """Factor of the layer's input."""
    if isinstance(layer, SparseLinear):
        return layer.input_scale
    if isinstance(layer, ScaledLinear):
        return layer.scale
    return float(layer.in_features**-0.5) if isinstance(layer, NTKLinear) else 1.0


def _check(models: Sequence[nn.Module], protocols: Sequence[specs.Training], seeds: Sequence[int]) -> None:
    if not len(models) == len(protocols) == len(seeds) > 0:
        raise ValueError(
            "models, protocols and seeds must be as many, one of each for every network, got "
            f"{len(models)}, {len(protocols)} and {len(seeds)}"
        )
    shapes = {_shape(model) for model in models}
    if len(shapes) > 1:
        raise ValueError(
            f"the networks must have one shape, got {len(shapes)}; train those of each shape by themselves"
        )
    if any(isinstance(protocol, specs.DynamicSparseTraining) for protocol in protocols):
        raise ValueError("masks must stay in joint training, got DynamicSparseTraining; train it alone")
    alike = {replace(protocol, learning_rate=1.0) for protocol in protocols}
    if len(alike) > 1:
        raise ValueError("protocols must differ in the learning rate alone, got others; train those apart")
    if protocols[0].weight_decay_on != "all" or protocols[0].precision != "float32":
        raise ValueError(
            "weight_decay_on must be 'all' and precision 'float32' for joint training, got "
            f"{protocols[0].weight_decay_on!r} and {protocols[0].precision!r}; train it alone"
        )


def _check_trained(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            raise ValueError(
                f"parameters must be trained in joint training, got {name} frozen; train it alone"
            )


def _check_fit(model: MLP, data: Dataset) -> None:
    """Refuse what compiled code would read or write beyond its arrays."""
    check_data(data)
    splits = [split for split in (data.train, data.validation, data.test) if len(split.labels)]
    if len(shapes := {split.image_shape for split in splits}) > 1:
        raise DataError(f"images must be of one shape, got {', '.join(map(str, shapes))}; resize them")
    layers = [layer for layer in model.children() if isinstance(layer, nn.Linear)]
    given, asked = (layers[0].in_features, layers[-1].out_features), (data.num_inputs, data.num_classes)
    if given != asked:
        raise ValueError(
            f"networks must take {asked[0]} numbers and give {asked[1]}, the pixels and classes of the data, "
            f"got {given[0]} and {given[1]}; make MLPs with these inputs and outputs"
        )


def _shape(model: nn.Module) -> tuple[object, ...]:
    if type(model) is not MLP:
        raise ValueError(f"networks must be MLPs, got a {type(model).__name__}; train it alone")
    for name, layer in model.named_children():
        kind = _kind(layer)
        if kind not in (*LINEAR, nn.ReLU, nn.Identity):
            raise ValueError(
                f"layers must be Linear, ReLU and Identity for joint training, got a {kind.__name__} "
                f"in {name}; train it alone"
            )
        if kind in LINEAR and len(list(layer.modules())) != (1 if masks.static_mask(layer) is None else 4):
            raise ValueError(
                f"weights must be parameters or masked, and nothing else, for joint training, got others "
                f"that are computed in {name}; train it alone"
            )
    for name, module in model.named_modules():
        if any(getattr(module, kind) for kind in HOOKS):
            raise ValueError(
                f"networks must have no hooks for joint training, got some in {name or 'the network'}; "
                "train it alone"
            )
    kinds = [_kind(layer) for layer in model.children()]
    n = (len(kinds) - 1) // 2
    if not set(kinds[::2]) <= set(LINEAR) or kinds[1::2] not in ([nn.ReLU] * n, [nn.Identity] * n):
        raise ValueError(
            "Linear layers must have one activation between them, ReLU or Identity, for joint training, got "
            f"{', '.join(kind.__name__ for kind in kinds)}; train it alone"
        )
    return tuple(
        (m.in_features, m.out_features, m.bias is None, layer_scale(m))
        if isinstance(m, nn.Linear)
        else type(m)
        for m in model.children()
    )


def _kind(layer: nn.Module) -> type[nn.Module]:
    """The class of a layer, masked or not."""
    return type(layer) if isinstance(layer, SparseLinear) else parametrize.type_before_parametrizations(layer)
