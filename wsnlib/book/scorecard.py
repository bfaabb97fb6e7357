"""The scorecard, which trains nothing and reads what the other chapters measured."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from wsnlib import specs
from wsnlib.book.engine.parameters import ChapterParameters
from wsnlib.store import Store


class Parameters(ChapterParameters):
    """Parameters of the chapter `scorecard`, which trains nothing and reads the other chapters."""

    pages: str = Field("book", min_length=1, description="a folder of executed chapters")


def stages(p: Parameters, store: Store) -> Iterator[list[specs.Run]]:
    """None."""
    return iter(())
