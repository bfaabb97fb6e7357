"""From a chapter's name to its module, and from a parameter file to the runs of its chapter.

A chapter is a module of `wsnlib.book` with a schema `Parameters` and, if it trains, a function
`stages(p, store)` that gives the runs that its page reads, stage by stage: a stage may read what the runs
before it left in the store.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import yaml

from wsnlib import specs
from wsnlib.book.engine.parameters import ChapterParameters
from wsnlib.store import Store


def chapter_names() -> list[str]:
    """All chapters, sorted: the modules of `wsnlib.book`.

    Examples:
        >>> "resnet_sweep" in chapter_names()
        True
    """
    package = importlib.import_module("wsnlib.book")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.ispkg)


def chapter_module(name: str) -> ModuleType:
    """The module of a chapter.

    Raises:
        ValueError: If there is no chapter of that name.
    """
    if name not in chapter_names():
        raise ValueError(f"{name!r} is no chapter; {', '.join(chapter_names())} are")
    return importlib.import_module(f"wsnlib.book.{name}")


def read_parameters(file: Path | str) -> ChapterParameters:
    """The parameters in a file `<chapter>.<profile>.yml`, checked; reading it runs no code.

    Raises:
        ValueError: If the file is of no chapter, is no mapping, or a parameter is not allowed.

    Examples:
        >>> read_parameters("params/sparse_mlp.smoke.yml").data
        'digits'
    """
    path = Path(file)
    chapter, names = path.name.partition(".")[0], chapter_names()
    if chapter not in names:
        raise ValueError(
            f"a file of parameters must be {', '.join(names)}.<profile>.yml, got {path}; rename it"
        )
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ValueError(
            f"{path} must hold a mapping of parameters, got {type(values).__name__}; write names and values"
        )
    found: ChapterParameters = chapter_module(chapter).Parameters.read(values)
    return found


def chapter_stages(p: ChapterParameters, *, store: Store) -> Iterator[list[specs.Run]]:
    """The runs of a chapter, stage by stage: a stage may read what the runs before it left in the store."""
    stages: Callable[[ChapterParameters, Store], Iterator[list[specs.Run]]] | None
    stages = getattr(chapter_module(p.chapter), "stages", None)
    return iter(()) if stages is None else stages(p, store)
