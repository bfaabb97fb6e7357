"""Networks that this library does not know: import, call, count, share out, and try on data.

The only place where the name in a [`CustomSpec`][wsnlib.specs.networks.CustomSpec] becomes code. All
functions here import what the spec names and call it, on the CPU and without a trace in the global
generator.
"""

from __future__ import annotations

import difflib
import importlib
import os
from collections.abc import Callable
from functools import cache, lru_cache
from importlib.metadata import packages_distributions, version
from math import prod
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from wsnlib import masks, specs


def factory(spec: specs.CustomSpec) -> Callable[..., Any]:
    """The function or class that a spec names.

    Raises:
        ValueError: If there is no such module, no such name in it, or it cannot be called.
    """
    path, _, name = spec.factory.rpartition(".")
    importlib.invalidate_caches()  # the file may have been written a moment ago
    try:
        module = importlib.import_module(path)
    except Exception as error:  # importing runs code, which may raise anything
        top = path.partition(".")[0]
        advice = "mend the module"
        if isinstance(error, ModuleNotFoundError):
            advice = f"install {error.name}"
            if error.name == top:
                advice = f"put {top}.py into {os.getcwd()} and start wsn or the notebook there, or {advice}"
        raise ValueError(
            f"the module of {spec.factory!r} cannot be imported ({_sentence(error)}); {advice}"
        ) from error
    if not hasattr(module, name):
        near = difflib.get_close_matches(name, dir(module), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"the module {path} has no {name!r}{hint}")
    found: Callable[..., Any] = getattr(module, name)
    if not callable(found):
        raise ValueError(
            f"{spec.factory!r} must be a function or class, got {found!r}; name what makes the network"
        )
    return found


def network(spec: specs.CustomSpec, *, seed: int = 0) -> nn.Module:
    """What the factory returns for the options; what it draws from torch's generator, by the seed.

    Raises:
        ValueError: If it cannot be called so, does not return a `torch.nn.Module`, or returns one
            with lazy layers.

    Examples:
        >>> spec = specs.CustomSpec("torch.nn.Linear", options={"in_features": 3, "out_features": 2})
        >>> network(spec)
        Linear(in_features=3, out_features=2, bias=True)
    """
    make = factory(spec)
    options = {name: list(v) if isinstance(v, tuple) else v for name, v in spec.options.items()}
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=gpus):
        torch.manual_seed(seed)  # of GPUs, too: it may make layers there
        try:
            model = make(**options)
        except Exception as error:  # somebody else's code may raise anything
            raise ValueError(
                f"{spec.factory!r} fails with the options {spec.options} ({_sentence(error)})"
            ) from error
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"{spec.factory!r} must return a torch.nn.Module, got a {type(model).__name__}; wrap it in one"
        )
    if any(isinstance(parameter, UninitializedParameter) for parameter in model.parameters()):
        raise ValueError(
            f"{spec.factory!r} must return layers of known size, got lazy ones; give their numbers of inputs"
        )
    return model


def origin(spec: specs.CustomModelSpec) -> str:
    """The installed package and version that the factory comes from, or its module for a plain file.

    Examples:
        >>> origin(specs.CustomSpec("torch.nn.Linear")) == f"torch {version('torch')}"
        True
    """
    return _package((spec if isinstance(spec, specs.CustomSpec) else spec.wide).factory.split(".")[0])


@cache  # to read what is installed takes seconds, and a module that is imported stays what it was
def _package(module: str) -> str:
    packages = packages_distributions().get(module)
    return f"{packages[0]} {version(packages[0])}" if packages else module


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(".")


@lru_cache(maxsize=256)
def _shapes(spec: specs.CustomSpec) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """Shapes of the weight of each layer that counts (a shared one once), and of all other parameters."""
    model = network(spec)
    layers = masks.weight_layers(model)
    counted = {name: layers[name].weight for name in masks.density(model)}
    seen = {id(weight) for weight in counted.values()}
    others = {name: tuple(p.shape) for name, p in model.named_parameters() if id(p) not in seen}
    return {name: tuple(weight.shape) for name, weight in counted.items()}, others


def _sizes(spec: specs.CustomSpec) -> dict[str, int]:
    return {name: prod(shape) for name, shape in _shapes(spec)[0].items()}


def allocation(spec: specs.CustomModelSpec) -> dict[str, int]:
    """Weights that each layer of a spec's network keeps, by layer name.

    Raises:
        ValueError: If the base's number of weights cannot be had, or would not be what is kept.

    Examples:
        >>> linear = "torch.nn.Linear"
        >>> base = specs.CustomSpec(linear, options={"in_features": 3, "out_features": 5})
        >>> wide = specs.CustomSpec(linear, options={"in_features": 3, "out_features": 50})
        >>> allocation(wide), allocation(specs.CustomSparsity(base, wide))
        ({'': 150}, {'': 15})
    """
    if isinstance(spec, specs.CustomSpec):
        return _sizes(spec)
    sizes, num_weights = _sizes(spec.wide), sum(_sizes(spec.base).values())
    _check_counted(spec)
    if unknown := [name for name in spec.exclude if name not in sizes]:
        near = difflib.get_close_matches(unknown[0], sizes, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(list(sizes)[:6])}, …"
        raise ValueError(f"exclude must name Linear or Conv layers, got {unknown[0]!r}; {hint}")
    if sum(sizes.values()) < num_weights:
        raise ValueError(
            f"the wide network must have at least the {num_weights} weights of the base, got "
            f"{sum(sizes.values())}; make it wider"
        )
    given = dict.fromkeys(spec.exclude, 1.0)
    if isinstance(spec.allocation, specs.LastLayerDensity):
        last = list(sizes)[-1]
        if last in given:
            raise ValueError(
                f"the last layer must not be excluded where it has a density, got {last}; drop one"
            )
        given[last] = spec.allocation.density
    shapes, rule = _shapes(spec.wide)[0], spec.allocation.rule
    return masks.allocate(shapes, num_weights=num_weights, rule=rule, density=given)


def _check_counted(spec: specs.CustomSparsity) -> None:
    """Refuse weights that grow with width on both sides, as a matrix does, and are in no layer that counts.

    Biases, normalisation, embeddings and positions grow with width once.
    """
    base, wide = _shapes(spec.base)[1], _shapes(spec.wide)[1]
    for name, shape in wide.items():
        before = base.get(name, (1,) * len(shape))
        if sum(new > old for new, old in zip(shape, before, strict=False)) > 1:
            raise ValueError(
                "weights that grow with width on both sides must be those of Linear or Conv layers, got "
                f"{name}, which grows from {_times(before)} to {_times(shape)}, and the number of weights "
                "would not be kept; write it as such a layer"
            )


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def check_fit(spec: specs.CustomModelSpec, *, images: tuple[int, ...], num_classes: int) -> None:
    """Raise ValueError unless the network gives one number a class for images of that shape.

    Args:
        spec: The network; both of `CustomSparsity` are tried, dense.
        images: (n, channels, height, width); n is 1 if it will meet a batch of one image, which batch
            normalisation may refuse.
        num_classes: Classes of the data set.
    """
    for net in (spec,) if isinstance(spec, specs.CustomSpec) else (spec.base, spec.wide):
        shape = _output_shape(net, images)
        if shape != (images[0], num_classes):
            raise ValueError(
                f"{net.factory!r} with the options {net.options} must give {images[0]} x {num_classes} "
                f"numbers (one a class) for a batch of {images[0]}, got {_times(shape)}; change its options"
            )


@lru_cache(maxsize=256)
def _output_shape(spec: specs.CustomSpec, images: tuple[int, ...]) -> tuple[int, ...]:
    model = network(spec).train()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            outputs = model(torch.zeros(images))
        except Exception as error:  # somebody else's code may raise anything
            raise ValueError(
                f"{spec.factory!r} with the options {spec.options} cannot be trained on a batch of "
                f"{_times(images)} ({_sentence(error)})"
            ) from error
    if not isinstance(outputs, torch.Tensor):
        raise ValueError(
            f"{spec.factory!r} with the options {spec.options} must give a tensor while it trains, got a "
            f"{type(outputs).__name__}; wrap it in a module that does"
        )
    return tuple(outputs.shape)
