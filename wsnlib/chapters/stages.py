"""From a parameter file to the runs of its chapter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from wsnlib import parameters, specs
from wsnlib.chapters.cka_blocks import CKABlocksRuns
from wsnlib.chapters.gp_kernel import GPKernelRuns
from wsnlib.chapters.resnets import bottleneck_runs, imagenet_runs, resnet_runs
from wsnlib.chapters.sparse_mlp import sparse_mlp_runs
from wsnlib.chapters.wide_vs_deep_errors import WideVsDeepRuns
from wsnlib.chapters.your_network import YourNetworkRuns
from wsnlib.parameters.base import Parameters
from wsnlib.store import Store

Stages = Iterator[list[specs.Run]]


def _one(*runs: specs.Run) -> Stages:
    yield list(runs)


_CHAPTERS: dict[type[Parameters], tuple[str, Callable[[Any, Store], Stages]]] = {
    parameters.BottlenecksParameters: ("bottlenecks", lambda p, _: _one(*bottleneck_runs(p))),
    parameters.SparseMLPParameters: ("sparse_mlp", lambda p, _: _one(*sparse_mlp_runs(p))),
    parameters.ResNetSweepParameters: (
        "resnet_sweep",
        lambda p, _: _one(*resnet_runs(p), *imagenet_runs(p).values()),
    ),
    parameters.GPKernelParameters: ("gp_kernel", lambda p, store: GPKernelRuns(p).stages(store)),
    parameters.CKABlocksParameters: ("cka_blocks", lambda p, store: CKABlocksRuns(p).stages(store)),
    parameters.WideVsDeepErrorsParameters: (
        "wide_vs_deep_errors",
        lambda p, store: WideVsDeepRuns(p).stages(store),
    ),
    parameters.ScorecardParameters: ("scorecard", lambda *_: iter(())),  # reads what the others measured
    parameters.YourNetworkParameters: ("your_network", lambda p, store: YourNetworkRuns(p).stages(store)),
}


def read_parameters(file: Path | str) -> Parameters:
    """The parameters in a file `<chapter>.<profile>.yml`, checked; reading it runs no code.

    Raises:
        ValueError: If the file is of no chapter, is no mapping, or a parameter is not allowed.

    Examples:
        >>> read_parameters("params/sparse_mlp.smoke.yml").data
        'digits'
    """
    path = Path(file)
    schemas = {name: schema for schema, (name, _) in _CHAPTERS.items()}
    chapter = path.name.partition(".")[0]
    if chapter not in schemas:
        raise ValueError(f"{path} is of no chapter; {', '.join(sorted(schemas))}.<profile>.yml are allowed")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds {type(values).__name__}; a mapping of parameters is allowed")
    return schemas[chapter].read(values)


def chapter_stages(p: Parameters, *, store: Store) -> Stages:
    """The runs of a chapter, stage by stage: a stage may read what the runs before it left in the store."""
    _, stages = _CHAPTERS[type(p)]
    return stages(p, store)
