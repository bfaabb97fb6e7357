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
from functools import lru_cache
from importlib.metadata import packages_distributions, version
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
        raise ValueError(f"{spec.factory!r} is {found!r}; a function or class is allowed")
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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = make(**options)
        except Exception as error:  # somebody else's code may raise anything
            raise ValueError(
                f"{spec.factory!r} fails with the options {spec.options} ({_sentence(error)})"
            ) from error
    if not isinstance(model, nn.Module):
        raise ValueError(f"{spec.factory!r} returns a {type(model).__name__}; a torch.nn.Module is allowed")
    if any(isinstance(parameter, UninitializedParameter) for parameter in model.parameters()):
        raise ValueError(f"{spec.factory!r} has lazy layers; layers whose size is given are allowed")
    return model


def origin(spec: specs.CustomModelSpec) -> str:
    """The installed package and version that the factory comes from, or its module for a plain file.

    Examples:
        >>> origin(specs.CustomSpec("torch.nn.Linear")) == f"torch {version('torch')}"
        True
    """
    name = (spec if isinstance(spec, specs.CustomSpec) else spec.wide).factory.split(".")[0]
    packages = packages_distributions().get(name)
    return f"{packages[0]} {version(packages[0])}" if packages else name


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(".")


@lru_cache(maxsize=256)
def _shapes(spec: specs.CustomSpec) -> tuple[dict[str, int], dict[str, tuple[int, ...]]]:
    """Weights of each layer that counts (a shared one once), and the shapes of all other parameters."""
    model = network(spec)
    layers = masks.weight_layers(model)
    counted = {name: layers[name].weight for name in masks.density(model)}
    seen = {id(weight) for weight in counted.values()}
    others = {name: tuple(p.shape) for name, p in model.named_parameters() if id(p) not in seen}
    return {name: weight.numel() for name, weight in counted.items()}, others


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
        return dict(_shapes(spec)[0])
    sizes, num_weights = _shapes(spec.wide)[0], sum(_shapes(spec.base)[0].values())
    _check_counted(spec)
    if unknown := [name for name in spec.exclude if name not in sizes]:
        near = difflib.get_close_matches(unknown[0], sizes, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(list(sizes)[:6])}, … is allowed"
        raise ValueError(f"{unknown[0]!r} is excluded and is no Linear or Conv layer; {hint}")
    if sum(sizes.values()) < num_weights:
        raise ValueError(
            f"the wide network has {sum(sizes.values())} weights; at least the {num_weights} of the base "
            "are allowed"
        )
    dense = {name: sizes[name] for name in spec.exclude}
    free = {name: size for name, size in sizes.items() if name not in dense}
    rest = num_weights - sum(dense.values())
    if not len(free) <= rest <= sum(free.values()):
        raise ValueError(
            f"the excluded layers hold {sum(dense.values())} of {num_weights} weights, which leaves {rest} "
            f"for {len(free)} others; {len(free)} to {sum(free.values())} are allowed"
        )
    if isinstance(spec.allocation, specs.UniformDensity):
        kept = masks.allocate_uniform(free, num_weights=rest)
    else:
        given = {}
        if isinstance(spec.allocation, specs.LastLayerDensity):
            last = list(sizes)[-1]
            if last in dense:
                raise ValueError(f"the last layer {last} is excluded and has a density; one is allowed")
            given[last] = spec.allocation.density
        kept = masks.allocate(free, num_weights=rest, density=given)
    kept |= dense
    return {name: kept[name] for name in sizes}


def _check_counted(spec: specs.CustomSparsity) -> None:
    """Refuse weights that grow with width on both sides, as a matrix does, and are in no layer that counts.

    Biases, normalisation, embeddings and positions grow with width once.
    """
    base, wide = _shapes(spec.base)[1], _shapes(spec.wide)[1]
    for name, shape in wide.items():
        before = base.get(name, (1,) * len(shape))
        if sum(new > old for new, old in zip(shape, before, strict=False)) > 1:
            raise ValueError(
                f"{name} grows from {_times(before)} to {_times(shape)} and is not the weight of a Linear "
                "or Conv layer, so the number of weights would not be kept; a network that has such "
                "weights in Linear or Conv layers is allowed"
            )


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def check_fit(spec: specs.CustomModelSpec, *, images: tuple[int, ...], num_classes: int) -> None:
    """Raise ValueError unless the network gives one number a class for images of that shape.

    Args:
        spec: The network; both of `CustomSparsity` are tried, dense.
        images: (n, channels, height, width); n is 1 if it will meet a batch of one image, which batch
            normalisation may refuse.
        num_classes: Of the data.
    """
    for net in (spec,) if isinstance(spec, specs.CustomSpec) else (spec.base, spec.wide):
        shape = _output_shape(net, images)
        if shape != (images[0], num_classes):
            raise ValueError(
                f"{net.factory!r} with the options {net.options} gives {_times(shape)} numbers for a batch "
                f"of {images[0]}; {images[0]} x {num_classes} (one a class) are allowed"
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
            f"{spec.factory!r} with the options {spec.options} gives a {type(outputs).__name__} while it "
            "trains; a tensor is allowed"
        )
    return tuple(outputs.shape)
