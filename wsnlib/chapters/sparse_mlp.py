"""The trainings of the chapter on sparse MLPs."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import prod

from wsnlib import data, experiments, parameters, specs


def sparse_mlp_runs(p: parameters.SparseMLPParameters) -> list[specs.Experiment]:
    """Every activation, width, rule of allocation and seed for which there is a network.

    Examples:
        >>> len(sparse_mlp_runs(parameters.SparseMLPParameters(widths=[5, 10], seeds=[0, 1])))
        28
    """
    inputs, classes = prod(data.image_shape(p.data_spec)), data.num_classes(p.data_spec)
    dense = specs.MLPSpec(width=p.base_width, inputs=inputs, outputs=classes)
    rules: list[specs.LastLayerDensity | specs.LargestFirst | specs.UniformDensity] = [
        *(specs.LastLayerDensity(density=q) for q in p.last_layer_densities),
        specs.LargestFirst(),
        specs.UniformDensity(),
    ]
    models = [
        specs.StaticSparsity(replace(dense, activation=activation), width=width, allocation=rule)
        for activation, width, rule in product(p.activations, p.widths, rules)
    ]
    return [
        specs.Experiment(model=model, data=p.data_spec, training=p.training, seed=seed)
        for seed, model in product(p.seeds, models)
        if experiments.is_reachable(model)
    ]
