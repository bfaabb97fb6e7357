"""The chapter on linear and nonlinear bottlenecks: its parameters and trainings."""

from __future__ import annotations

from collections.abc import Iterator

from wsnlib import specs
from wsnlib.book.resnet_sweep import ResNetParameters, dense, runs_on
from wsnlib.store import Store


class Parameters(ResNetParameters):
    """Parameters of the chapter `bottlenecks`: the networks of G21, Figure 3."""


def runs(p: Parameters) -> list[specs.Experiment]:
    """Original networks and those with linear and nonlinear bottlenecks (G21, Figure 3)."""

    def networks(source: specs.DataSpec) -> list[specs.ModelSpec]:
        found: list[specs.ModelSpec] = []
        for base_width in p.base_widths:
            base, widths = dense(base_width, source), p.widths(base_width)
            full = specs.LinearBottleneck(base, width=base_width, keeps="factorised_base")
            found += [base, full]
            found += [specs.LinearBottleneck(base, width=w) for w in widths]
            found += [specs.NonlinearBottleneck(base, width=w) for w in widths[1:]]
        return found

    return runs_on(p, networks)


def stages(p: Parameters, store: Store) -> Iterator[list[specs.Run]]:
    """All runs; none depends on another."""
    yield list(runs(p))
