"""What a reader sees while a notebook reads and makes its results: one line, and no traceback."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from wsnlib import specs, sweeps
from wsnlib.store import Store, repository

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


def run_missing(runs: Iterable[specs.Run], *, store: Store, **limits: Any) -> None:
    """Read the results of runs, make those that are missing, and say how far that is in one line.

    Args:
        runs: As for [`run_missing`][wsnlib.sweeps.missing.run_missing].
        store: Where results are.
        limits: Its other arguments.

    Raises:
        Interrupted: If the reader interrupts; what was finished is stored.
        BudgetError, StoreError, SweepError: As it does.
    """
    unique = {specs.spec_key(run): run for run in runs}
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
