"""A spec's network: made, its weights counted, and whether it fits the data."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from wsnlib import custom, masks, models, specs, widening
from wsnlib.data import Dataset


def build(spec: specs.ModelSpec, *, seed: int = 0) -> nn.Module:
    """The network of a spec, on the CPU; initialisation, mask and bottlenecks derive from the seed.

    A [`CustomSpec`][wsnlib.specs.networks.CustomSpec] is imported and called here, whatever it names.

    Raises:
        ValueError: If the base's number of weights cannot be had at that width, or a custom network
            cannot be made.

    Examples:
        >>> wide = specs.StaticSparsity(specs.MLPSpec(width=5), width=80)
        >>> masks.num_weights(build(wide, seed=0))
        3970
    """
    kept = weights_per_layer(spec)  # what cannot be had is refused before anything large is made

    def generator(purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(specs.derive_seed(seed, purpose))

    if isinstance(spec, specs.CustomModelSpec):
        dense = spec.wide if isinstance(spec, specs.CustomSparsity) else spec
        model = custom.network(dense, seed=specs.derive_seed(seed, "initialisation"))
        if isinstance(spec, specs.CustomSparsity):
            rule = spec.initialisation
            masks.sparsify(model, allocation=kept, initialisation=rule, generator=generator("mask"))
        return model
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(specs.derive_seed(seed, "initialisation"))
        if isinstance(spec, specs.LinearBottleneck | specs.NonlinearBottleneck):
            return _narrowed(spec, generator("bottleneck"))
        model = _dense(spec.base, spec.width) if isinstance(spec, specs.StaticSparsity) else _dense(spec)
    if isinstance(spec, specs.StaticSparsity):
        masks.sparsify(
            model,
            allocation=kept,
            initialisation=spec.initialisation,
            pattern=_pattern(spec),
            generator=generator("mask"),
        )
        if isinstance(spec.base, specs.MLPSpec) and spec.base.parametrisation == "sparse_mu":
            models.scale_updates(model, fan_in=_fan_in(spec), base_fan_in=_fan_in(spec.base))
    return model


def _fan_in(spec: specs.ModelSpec) -> list[float]:
    """Inputs of a unit that are present, mean over the units, layer by layer."""
    base, width = (spec.base, spec.width) if isinstance(spec, specs.StaticSparsity) else (spec, None)
    shapes = _layer_shapes(base, width)
    return [kept / shapes[name][0] for name, kept in weights_per_layer(spec).items()]


_KINDS: dict[type, type[nn.Module]] = {
    specs.MLPSpec: models.MLP,
    specs.ResNet18Spec: models.ResNet18,
    specs.ResNetCifarSpec: models.ResNetCifar,
    specs.ResNetImageNetSpec: models.ResNetImageNet,
}


def _dense(spec: specs.DenseSpec, width: int | None = None, **changes: Any) -> nn.Module:
    """The dense network of a spec, of another width if one is given."""
    spec = replace(specs.at_width(spec, width) if width else spec, **changes)
    return _KINDS[type(spec)](**asdict(spec))


def _narrowed(
    spec: specs.LinearBottleneck | specs.NonlinearBottleneck, generator: torch.Generator
) -> nn.Module:
    if not isinstance(spec.base, specs.ResNet18Spec):
        model = _dense(spec.base, spec.width)
    else:  # what is drawn by fan-out is drawn once the layers have their size
        model = _dense(spec.base, spec.width, initialisation="default")
    if isinstance(spec, specs.LinearBottleneck):
        widening.linear_bottleneck(model, sizes=bottleneck_sizes(spec), generator=generator)
    else:
        widening.nonlinear_bottleneck(model, sizes=bottleneck_sizes(spec), generator=generator)
    if isinstance(spec.base, specs.ResNet18Spec) and spec.base.initialisation == "fan_out":
        models.initialise_fan_out(model)
    return model


class _Undrawn(TorchFunctionMode):
    """Nothing is drawn from a normal distribution; for shapes alone torch would import its compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (nn.init.normal_, torch.Tensor.normal_):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


@lru_cache(maxsize=64)
def _outline(spec: specs.DenseSpec, width: int | None = None) -> nn.Module:
    """The dense network with shapes in place of weights; it is shared and stays as it is."""
    with torch.device("meta"), _Undrawn():
        return _dense(spec, width)


@lru_cache(maxsize=1024)
def _layer_shapes(spec: specs.DenseSpec, width: int | None = None) -> dict[str, tuple[int, ...]]:
    layers = masks.weight_layers(_outline(spec, width))
    return {name: tuple(layer.weight.shape) for name, layer in layers.items()}


def _layer_sizes(spec: specs.DenseSpec) -> dict[str, int]:
    return {name: math.prod(shape) for name, shape in _layer_shapes(spec).items()}


def _pattern(spec: specs.StaticSparsity) -> masks.Pattern:
    if isinstance(spec, specs.PatternedSparsity):
        return spec.pattern
    return "channels" if isinstance(spec, specs.ChannelSparsity) else "random"


def weights_per_layer(spec: specs.ModelSpec) -> dict[str, int]:
    """Weights that each layer of a spec's network keeps, by layer name.

    Their sum is the base's number of weights for `StaticSparsity`, `ChannelSparsity` and
    `CustomSparsity`, and the number that was reached for bottlenecks.

    Raises:
        ValueError: If the base's number of weights cannot be had at that width and allocation.

    Examples:
        >>> base = specs.MLPSpec(width=5)
        >>> half = specs.LastLayerDensity(density=0.5)
        >>> weights_per_layer(specs.StaticSparsity(base, width=40, allocation=half))
        {'hidden1': 3770, 'output': 200}
        >>> base = specs.ResNet18Spec(width=8)
        >>> sum(weights_per_layer(base).values())
        175192
        >>> sum(weights_per_layer(specs.LinearBottleneck(base, width=16)).values())
        175202
    """
    if isinstance(spec, specs.CustomModelSpec):
        return custom.allocation(spec)
    if isinstance(spec, specs.LinearBottleneck | specs.NonlinearBottleneck):
        return dict(_narrowed_sizes(spec))
    if not isinstance(spec, specs.StaticSparsity):
        return _layer_sizes(spec)
    shapes, density = _layer_shapes(spec.base, spec.width), {}
    if isinstance(spec.allocation, specs.LastLayerDensity):
        density = {list(shapes)[-1]: spec.allocation.density}
    num_weights = sum(_layer_sizes(spec.base).values())
    kept = masks.allocate(shapes, num_weights=num_weights, rule=spec.allocation.rule, density=density)
    if _pattern(spec) == "channels":
        kept = masks.whole_kernels(kept, layer_shapes=shapes, fixed=density)
    return kept


@lru_cache(maxsize=1024)
def _narrowed_sizes(spec: specs.LinearBottleneck | specs.NonlinearBottleneck) -> dict[str, int]:
    with torch.device("meta"), _Undrawn():
        layers = masks.weight_layers(_narrowed(spec, torch.Generator(device="cpu")))
    return {name: layer.weight.numel() for name, layer in layers.items()}


def bottleneck_sizes(spec: specs.LinearBottleneck | specs.NonlinearBottleneck) -> dict[str, int]:
    """The size of each bottleneck of a spec's network, by the name of the (first) layer it narrows.

    Raises:
        ValueError: If no bottlenecks reach the number of weights at that width.

    Examples:
        >>> base = specs.MLPSpec(width=50, inputs=64, hidden_layers=3)
        >>> bottleneck_sizes(specs.NonlinearBottleneck(base, width=60))
        {'hidden2': 35}
        >>> bottleneck_sizes(specs.LinearBottleneck(base, width=100))
        {'hidden1': 19, 'hidden2': 13, 'hidden3': 12, 'output': 5}
    """
    return dict(_bottleneck_sizes(spec))


@lru_cache(maxsize=1024)
def _bottleneck_sizes(spec: specs.LinearBottleneck | specs.NonlinearBottleneck) -> dict[str, int]:
    wide, like = _outline(spec.base, spec.width), _layer_sizes(spec.base)
    try:
        if isinstance(spec, specs.NonlinearBottleneck):
            return widening.nonlinear_bottleneck_sizes(wide, num_weights=sum(like.values()), like=like)
        exclude = ("linear",) if isinstance(spec.base, specs.ResNet18Spec) else ()  # G21, footnote 2
        if spec.keeps == "factorised_base":
            shapes = _layer_shapes(spec.base)
            full = widening.linear_bottleneck_sizes(_outline(spec.base), exclude=exclude)
            like |= {
                name: size * (shapes[name][0] + math.prod(shapes[name][1:])) for name, size in full.items()
            }
        num_weights = sum(like.values())
        return widening.linear_bottleneck_sizes(wide, num_weights=num_weights, like=like, exclude=exclude)
    except ValueError as error:
        raise ValueError(
            f"{type(spec).__name__} of base width {spec.base.width} at width {spec.width}: {error}"
        ) from None


def is_reachable(spec: specs.ModelSpec) -> bool:
    """Whether a network of that width and allocation can have the base's number of weights.

    Examples:
        >>> base = specs.MLPSpec(width=5)
        >>> most = specs.LastLayerDensity(density=0.7)
        >>> [is_reachable(specs.StaticSparsity(base, width=w, allocation=most)) for w in (5, 10, 640)]
        [False, True, False]
    """
    if isinstance(spec, specs.CustomSparsity):  # one that cannot be made is a mistake, not a no
        weights_per_layer(spec.base), weights_per_layer(spec.wide)
    try:
        if isinstance(spec, specs.LinearBottleneck | specs.NonlinearBottleneck):
            bottleneck_sizes(spec)
        else:
            weights_per_layer(spec)
    except ValueError:
        return False
    return True


def check_fit(experiment: specs.Experiment, data: Dataset) -> None:
    """Raise ValueError if the network's inputs or outputs are not those of the data."""
    spec = experiment.model
    if isinstance(spec, specs.CustomModelSpec):
        batch_size = experiment.training.batch_size
        smallest = len(data.train.labels) % batch_size or batch_size
        images = (min(smallest, 2), *data.image_shape)
        custom.check_fit(spec, images=images, num_classes=data.num_classes)
        return
    net = spec.base if isinstance(spec, specs.WidenedSpec) else spec
    name = type(experiment.data).__name__
    if not isinstance(net, specs.MLPSpec):
        channels = data.image_shape[0]
        if (net.input_channels, net.num_classes) != (channels, data.num_classes):
            raise ValueError(
                f"the network must have {channels} input channels and {data.num_classes} classes for "
                f"{name}, got {net.input_channels} and {net.num_classes}; change its spec"
            )
    elif (net.inputs, net.outputs) != (data.num_inputs, data.num_classes):
        raise ValueError(
            f"the network must have {data.num_inputs} inputs and {data.num_classes} outputs for {name}, "
            f"got {net.inputs} and {net.outputs}; change its spec"
        )


def timed_as(spec: specs.ModelSpec) -> specs.ModelSpec:
    """The network whose time a run of the spec takes: for static sparsity the dense one of its width,
    for what cannot be built the base.

    Examples:
        >>> timed_as(specs.StaticSparsity(specs.MLPSpec(width=5), width=40)).width
        40
    """
    if not isinstance(spec, specs.WidenedSpec | specs.CustomSparsity):
        return spec
    if not is_reachable(spec):
        return spec.base
    if isinstance(spec, specs.CustomSparsity):
        return spec.wide
    return specs.at_width(spec.base, spec.width) if isinstance(spec, specs.StaticSparsity) else spec
