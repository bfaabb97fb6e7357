"""One page of the book."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from wsnlib import specs
from wsnlib.book.engine.claims import claims_of
from wsnlib.book.engine.parameters import ChapterParameters
from wsnlib.book.engine.provenance import Provenance
from wsnlib.book.engine.verdicts import Verdicts
from wsnlib.estimates import Estimate
from wsnlib.plot import drawn_data
from wsnlib.store import Store, default_store

LARGEST_SVG = 150_000
"""Characters of a figure as SVG; a larger one is a PNG."""


class Page:
    """What a chapter shows of its runs: figures with what made them under them, and verdicts.

    Args:
        parameters: Of the chapter.
        store: Holds the records; by default `wsn.default_store()`.
    """

    def __init__(self, parameters: ChapterParameters, *, store: Store | None = None) -> None:
        self.parameters = parameters
        self.store = default_store() if store is None else store
        self._shown = 0

    def show(
        self, figure: Figure, runs: Iterable[specs.Run] = (), *, data: pd.DataFrame | None = None
    ) -> None:
        """Show a figure and under it what made it: records, profile, device, commit, data, command.

        A figure of few marks is shown as SVG, one of many as PNG.

        Args:
            figure: A finished one; it is closed.
            runs: All whose records the figure rests on; none if it is drawn from specs alone.
            data: What it shows, one row a point; by default read back from the figure.

        Raises:
            KeyError: If a record is missing.
        """
        from IPython.display import display

        p, self._shown = self.parameters, self._shown + 1
        provenance = Provenance.of(
            runs,
            store=self.store,
            data=drawn_data(figure) if data is None else data,
            chapter=p.chapter,
            number=self._shown,
            profile=p.profile,
            preset=p.preset,
        )
        display(_picture(figure), raw=True)
        plt.close(figure)
        display(provenance)

    def verdicts(self, ours: Mapping[str, Estimate]) -> Verdicts:
        """The verdicts on the claims that the chapter judges, as a table that the scorecard reads, too.

        Args:
            ours: Our estimates by the claims' names; a claim without one is not tested.
        """
        p = self.parameters
        return Verdicts(
            claims=claims_of(p.chapter),
            ours=ours,
            same_data=p.same_data,
            full_protocol=p.full_protocol,
            chapter=p.chapter,
            profile=p.profile,
            preset=p.preset,
        )


def _picture(figure: Figure) -> dict[str, Any]:
    """The figure as SVG if that is small, else as PNG; the same figure gives the same bytes."""
    svg = _saved(figure, "svg").decode()
    described = {"text/plain": repr(figure)}
    if len(svg) <= LARGEST_SVG:
        return described | {"image/svg+xml": svg}
    return described | {"image/png": base64.b64encode(_saved(figure, "png")).decode("ascii")}


def _saved(figure: Figure, kind: Literal["svg", "png"]) -> bytes:
    file = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "wsnlib", "savefig.bbox": "tight"}):
        figure.savefig(file, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return file.getvalue()
