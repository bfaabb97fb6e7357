"""Parameters of the scorecard."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from wsnlib.parameters.base import Parameters


class ScorecardParameters(Parameters):
    """Parameters of the chapter `scorecard`, which trains nothing and reads the other chapters."""

    chapter: ClassVar[str] = "scorecard"

    pages: str = Field("book", min_length=1, description="a folder of executed chapters")
