"""How far a sweep is: counts, what is under way, time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tqdm import tqdm

from wsnlib import specs
from wsnlib.experiments import Plan
from wsnlib.store import Failure


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a sweep is.

    Args:
        total: Runs that had no record when it began.
        done: Those that have one now.
        failures: Those that failed.
        under_way: Those that were started, on a cluster handed to it, and have not ended.
        share: Share of the estimated work that is done, without what failed, in [0, 1].
        seconds: Since it began.
    """

    total: int
    done: int
    failures: tuple[Failure, ...]
    under_way: tuple[specs.Run, ...]
    share: float
    seconds: float

    @property
    def seconds_left(self) -> float | None:
        """If the rest goes as fast as what has ended; None if nothing has."""
        return self.seconds * (1 - self.share) / self.share if self.share > 0 else None


class Watch:
    """Counts what a sweep starts and ends, and shows it."""

    def __init__(self, total: int, seconds: float, show: Callable[[Progress], None]) -> None:
        self._total, self._seconds, self._show = total, seconds, show
        self._done, self._ended = 0, 0.0
        self._failures: list[Failure] = []
        self._under_way: dict[Plan, None] = {}

    def __enter__(self) -> Self:
        self._start = time.monotonic()
        self._tell()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(self._show, Bar):
            self._show.close()

    def started(self, work: Iterable[Plan]) -> None:
        """What was handed out."""
        self._under_way.update(dict.fromkeys(work))
        self._tell()

    def ended(self, plan: Plan, failures: Sequence[Failure]) -> None:
        """It took the estimated seconds if it was done; what failed is no longer there to do."""
        self._under_way.pop(plan, None)
        self._done += len(plan.runs) - len(failures)
        if failures:
            self._seconds -= plan.seconds
        else:
            self._ended += plan.seconds
        self._failures += failures
        self._tell()

    def _tell(self) -> None:
        self._show(
            Progress(
                total=self._total,
                done=self._done,
                failures=tuple(self._failures),
                under_way=tuple(run for plan in self._under_way for run in plan.runs),
                share=min(1.0, self._ended / self._seconds) if self._seconds else 0.0,
                seconds=time.monotonic() - self._start,
            )
        )


class Bar:
    """One line on standard error."""

    def __init__(self) -> None:
        self._bar = tqdm(
            total=1.0,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}, {remaining} left",
            file=sys.stderr,
            mininterval=1,
        )

    def __call__(self, progress: Progress) -> None:
        ended = progress.done + len(progress.failures)
        self._bar.set_description_str(f"{ended}/{progress.total} runs", refresh=False)
        self._bar.update(progress.share - self._bar.n)

    def close(self) -> None:
        """Leave the line as it is."""
        self._bar.close()
