"""One page of the book."""

from __future__ import annotations

import base64
import io
import math
import re
import shlex
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, Literal

import matplotlib as mpl
import pandas as pd
import yaml
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from wsnlib import specs, sweeps
from wsnlib.book.engine.claims import claims_of
from wsnlib.book.engine.parameters import ChapterParameters
from wsnlib.book.engine.provenance import Provenance, core_time, made_by
from wsnlib.book.engine.text import listed
from wsnlib.book.engine.verdicts import PageVerdicts
from wsnlib.estimates import Estimate, with_minus
from wsnlib.plot import drawn_data
from wsnlib.store import Store, default_store, repository

LARGEST_SVG = 150_000
"""Characters of a figure as SVG; a larger one is a PNG alone."""

SESSION = {"wsnlib": "session"}
"""Metadata of outputs that are about one execution and no part of a page."""

ELSEWHERE = (
    "This notebook lies outside of the book's repository, so its published results are not here. To read "
    "them in place of training, open it in a copy of the repository, whose folder records/ holds them, or "
    "set WSN_STORE to a copy of that folder."
)


class Interrupted(KeyboardInterrupt):
    """A sweep was interrupted; a notebook shows its sentence alone."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


class Line:
    """A line of output that is written anew."""

    def __init__(self) -> None:
        self._shown: Any = None

    def say(self, sentence: str) -> None:
        """Put a sentence in place of the last one."""
        from IPython.display import display

        bundle = {"text/plain": sentence}
        if self._shown is None:
            self._shown = display(bundle, raw=True, display_id=True, metadata=SESSION)
        else:
            self._shown.update(bundle, raw=True, metadata=SESSION)


class Page:
    """What a chapter shows of its runs: figures with what made them under them, and verdicts.

    Args:
        parameters: Of the chapter.
        store: Holds the records; by default `wsn.default_store()`.
    """

    def __init__(self, parameters: ChapterParameters, *, store: Store | None = None) -> None:
        self.parameters = parameters
        self.store = default_store() if store is None else store
        self.changed = parameters.changed()
        self._shown = 0

    @property
    def profile(self) -> str:
        """The profile in words, its name alone only if all values are those of its file."""
        if self.changed is None:
            return f"{self.parameters.profile} (its file is not here to compare with)"
        but = ", ".join(f"{name} = {value!r}" for name, value in self.changed.items())
        return f"{self.parameters.profile} (but {but})" if but else self.parameters.profile

    def run_missing(self, runs: Iterable[specs.Run]) -> None:
        """Read what has a record and make the rest, within the parameters' budget; a line says how far it is.

        Raises:
            Interrupted: If the reader interrupts; what was finished is stored, and the same call goes on.
            BudgetError: If the rest would take longer than the budget; nothing is made.
            StoreError, SweepError: As `wsn.run_missing`.
        """
        p, store, unique = self.parameters, self.store, {specs.spec_key(run): run for run in runs}
        limits: dict[str, Any] = {name: getattr(p, name) for name in ("device", "budget_minutes", "download")}
        line, total = Line(), len(unique)

        def tell(progress: sweeps.Progress) -> None:
            left = progress.seconds_left
            time = f", about {left / 60:.0f} minutes left" if left and left > 90 else ""
            line.say(f"{progress.done} of {progress.total} trained{time} …")

        if repository() is None and unique.keys() - store.keys():
            Line().say(ELSEWHERE)
        try:
            made = sweeps.run_missing(unique.values(), store=store, progress=tell, **limits)
        except KeyboardInterrupt:
            stored = len(unique.keys() & store.keys())
            raise Interrupted(f"{stored} of {total} results are stored; run again to go on") from None
        line.say(f"{total - made} results read, {made} trained")

    def facts(self, runs: Iterable[specs.Run]) -> dict[str, str]:
        """What a page says of its own scale: profile, preset, and of the records their time and devices.

        Args:
            runs: All that stand behind the page, each with a record.
        """
        records = {record.key: record for record in map(self.store.load, runs)}
        made = made_by(records.values())
        devices = sorted({_short(str(each["device"])) for each in made if "device" in each})
        return {
            "profile": self.profile,
            "preset": self.parameters.preset,
            "core_time": core_time(sum(float(each.get("seconds", 0)) for each in made)),
            "device": listed(devices),
        }

    def show(
        self,
        figure: Figure,
        runs: Iterable[specs.Run] = (),
        *,
        name: str,
        caption: str,
        alt: str,
        data: pd.DataFrame | None = None,
    ) -> None:
        """Show a figure, under it its number and caption, and what made it: records, profile, data, command.

        Args:
            figure: A finished one; it is closed.
            runs: All whose records the figure rests on; none if it is drawn from specs alone.
            name: What links lead to, such as `"fig-distance"`.
            caption: Markdown that says what is drawn, without the number.
            alt: What a reader who cannot see the figure should know, in a sentence.
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
            name=name,
            profile=self.profile,
            command=command(p, self.changed or {}),
            preset=p.preset,
        )
        display(_pictures(figure, alt), raw=True, metadata={"image/png": {"alt": alt}})
        plt.close(figure)
        under = f"**Figure {self._shown}.** {with_minus(caption)}"
        display({"text/markdown": under, "text/plain": under}, raw=True)
        display(provenance)

    def verdicts(self, ours: Mapping[str, Estimate]) -> PageVerdicts:
        """The verdicts on the claims that the chapter judges, as a table that the scorecard reads, too.

        Args:
            ours: Our estimates by the claims' names, listed readings and controls by `name/reading` and
                `name/control`; a claim without one is not tested.
        """
        p = self.parameters
        return PageVerdicts(
            claims=claims_of(p.chapter),
            ours=ours,
            same_data=p.same_data,
            full_protocol=p.full_protocol,
            chapter=p.chapter,
            profile=self.profile,
            preset=p.preset,
        )


def command(parameters: ChapterParameters, changed: Mapping[str, object]) -> str:
    """What executes a chapter's notebook again, from the repository's root, with values that were changed.

    Examples:
        >>> from wsnlib.book import sparse_mlp
        >>> command(sparse_mlp.Parameters(), {"epochs": 5, "seeds": [0, 1]})[32:]
        "out.ipynb -f params/sparse_mlp.smoke.yml -p epochs 5 -y 'seeds: [0, 1]'"
    """
    name = parameters.chapter
    words = ["papermill", f"book/{name}.ipynb", "out.ipynb", "-f", f"params/{name}.{parameters.profile}.yml"]
    for key, value in changed.items():
        if isinstance(value, list):
            words += ["-y", yaml.safe_dump({key: value}, default_flow_style=None, width=math.inf).strip()]
        else:
            words += ["-p", key, str(value)]
    return shlex.join(words)


def _pictures(figure: Figure, alt: str) -> dict[str, str]:
    """The figure as PNG, which shows everywhere, and as SVG if small; the same figure, the same bytes."""
    described = {"text/plain": alt, "image/png": base64.b64encode(_saved(figure, "png")).decode("ascii")}
    svg = _saved(figure, "svg").decode()
    if len(svg) <= LARGEST_SVG:
        described["image/svg+xml"] = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(alt)}" ', 1)
    return described


def _saved(figure: Figure, kind: Literal["svg", "png"]) -> bytes:
    file = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "wsnlib", "savefig.bbox": "tight"}):
        figure.savefig(file, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return file.getvalue()


def _short(device: str) -> str:
    """A device without its kind, trademarks and clock."""
    return re.sub(r"^cpu: |\(R\)|\(TM\)|( CPU| Processor)? @ .*", "", device)
