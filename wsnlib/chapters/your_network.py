"""The trainings of the chapter on networks of one's own."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from wsnlib import data, experiments, parameters, specs
from wsnlib.store import Store

Cell = tuple[str, float]
"""How the weights are spread, and a width."""


class YourNetworkRuns:
    """A network of somebody else's at several widths, dense and with the weights of the narrowest.

    Attributes:
        nets: Dense networks by width.
        depthwise: Names of the layers that are convolutions in groups.
        models: Networks by cell.
        runs: Trainings by cell and seed.
    """

    def __init__(self, p: parameters.YourNetworkParameters) -> None:
        classes = data.num_classes(p.data_spec)
        self.nets = {width: p.network(width, num_classes=classes) for width in p.widths}
        base, widest = self.nets[p.base_width], self.nets[p.widths[-1]]
        self.depthwise = depthwise_layers(widest)
        self.models: dict[Cell, specs.ModelSpec] = {("dense, as wide", w): n for w, n in self.nets.items()}
        for width in p.widths[1:]:
            self.models["largest layer first", width] = specs.CustomSparsity(base, self.nets[width])
            spared = specs.CustomSparsity(base, self.nets[width], exclude=self.depthwise)
            if self.depthwise and experiments.is_reachable(spared):
                self.models["depthwise kept dense", width] = spared
        self.runs = {
            (*cell, seed): specs.Experiment(model=model, data=p.data_spec, training=p.training, seed=seed)
            for cell, model in self.models.items()
            for seed in p.seeds
        }

    def stages(self, store: Store) -> Iterator[list[specs.Run]]:
        """All runs; none depends on another."""
        yield list(self.runs.values())


def depthwise_layers(spec: specs.CustomSpec) -> tuple[str, ...]:
    """Names of the convolutions in groups, in the order of the weights."""
    modules = dict(experiments.build(spec).named_modules())
    names = experiments.allocation(spec)
    found = {name: modules[name] for name in names}
    return tuple(name for name, layer in found.items() if isinstance(layer, nn.Conv2d) and layer.groups > 1)
