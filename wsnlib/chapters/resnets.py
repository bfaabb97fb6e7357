"""The trainings of the chapters on widened ResNet-18s."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

from wsnlib import data, experiments, parameters, specs


def _dense(width: int, source: specs.DataSpec) -> specs.ResNet18Spec:
    channels, classes = data.image_shape(source)[0], data.num_classes(source)
    return specs.ResNet18Spec(width=width, input_channels=channels, num_classes=classes)


def _runs(
    p: parameters.ResNetParameters, networks: Callable[[specs.DataSpec], list[specs.ModelSpec]]
) -> list[specs.Experiment]:
    """On every data set, with every seed, the networks that there are; each once."""
    found = [
        specs.Experiment(model=model, data=source, training=p.training, seed=seed)
        for source in p.data_specs.values()
        for seed, model in product(p.seeds, networks(source))
        if experiments.is_reachable(model)
    ]
    return list(dict.fromkeys(found))


def bottleneck_runs(p: parameters.BottlenecksParameters) -> list[specs.Experiment]:
    """Original networks and those with linear and nonlinear bottlenecks (G21, Figure 3)."""

    def networks(source: specs.DataSpec) -> list[specs.ModelSpec]:
        found: list[specs.ModelSpec] = []
        for base_width in p.base_widths:
            base, widths = _dense(base_width, source), p.widths(base_width)
            full = specs.LinearBottleneck(base, width=base_width, keeps="factorised_base")
            found += [base, full]
            found += [specs.LinearBottleneck(base, width=w) for w in widths]
            found += [specs.NonlinearBottleneck(base, width=w) for w in widths[1:]]
        return found

    return _runs(p, networks)


def resnet_runs(p: parameters.ResNetSweepParameters) -> list[specs.Experiment]:
    """Sparse and dense families of widths, and masks over channels only (G21, Figures 6, 7 and 9)."""

    def networks(source: specs.DataSpec) -> list[specs.ModelSpec]:
        found: list[specs.ModelSpec] = []
        for base_width in p.base_widths:
            base, widths = _dense(base_width, source), p.widths(base_width)
            found += [specs.StaticSparsity(base, width=w) for w in widths[1:]]
            most = p.largest_dense_width or max(widths)
            found += [_dense(w, source) for w in widths if w <= most]
        for base_width in p.channel_base_widths:
            base = _dense(base_width, source)
            for width in specs.widths(base, widening_factors=p.channel_factors):
                found += [specs.StaticSparsity(base, width=width), specs.ChannelSparsity(base, width=width)]
        return found

    return _runs(p, networks)


def imagenet_runs(p: parameters.ResNetSweepParameters) -> dict[tuple[str, int], specs.Experiment]:
    """G21's Table 1 by `"dense"` or `"sparse"` and width; empty if no widths are asked for."""
    models: dict[tuple[str, int], specs.ModelSpec] = {}
    for width in p.imagenet_widths:
        base = specs.ResNet18Spec(
            width=p.imagenet_widths[0], num_classes=1000, stem="imagenet", initialisation="fan_out"
        )
        models["dense", width] = replace(base, width=width)
        if width > base.width:
            models["sparse", width] = specs.StaticSparsity(base, width=width)
    source = specs.ImageNet(normalisation="imagenet")
    return {
        name: specs.Experiment(model=model, data=source, training=p.imagenet_training, seed=p.seeds[0])
        for name, model in models.items()
    }
