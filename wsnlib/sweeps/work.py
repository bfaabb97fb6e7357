"""Work of a sweep in the process that does it: from a plan to stored records."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import torch

from wsnlib import experiments
from wsnlib.store import CheckpointFile, Failure, Store, StoreError

GPU_FAILED = "AcceleratorError"
"""How an error begins after which every call to a GPU fails in that process; another one takes its place."""


class SweepError(RuntimeError):
    """Some runs of a sweep failed, or it was stopped; the others are in the store.

    Args:
        message: What happened, in one sentence.
        failures: The runs that failed, each with its spec and the traceback of its exception.
    """

    def __init__(self, message: str, failures: Sequence[Failure] = ()) -> None:
        super().__init__(message)
        self.failures = tuple(failures)
        if failures:
            self.add_note(f"{failures[0].experiment}\n{failures[0].traceback}")


def forget_stdin() -> None:
    """Let processes start from `python -`, which calls its program a file that they would look for."""
    main = sys.modules["__main__"]
    if getattr(main, "__file__", None) == "<stdin>":
        del main.__file__


def work_on(plan: experiments.Plan, store: Store, device: str) -> list[Failure]:
    """Make and store the records of a plan's runs; one that raises is noted in the store and returned.

    A run that another process made meanwhile is not made again.

    Raises:
        StoreError: If the store cannot be written: no other run could be kept either.
    """
    runs = tuple(run for run in plan.runs if not store.has_made(run))
    try:
        if runs:
            _make(replace(plan, runs=runs), store, device)
    except StoreError:
        raise
    except Exception as error:  # one run of a hundred may fail; the others go on
        what, trace = f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error))
        failures = [Failure(experiment=run, error=what, traceback=trace) for run in runs]
        traceback.clear_frames(error.__traceback__)  # they hold the memory of the run
        for failure in failures:
            with suppress(StoreError):
                store.note_failure(failure)
        return failures
    finally:
        with suppress(RuntimeError):  # of a GPU that has failed, for which every call raises
            torch.cuda.empty_cache()  # another process may need what this one would keep
    return []


def ended_from_outside(plan: experiments.Plan, store: Store, text: str) -> list[Failure]:
    """What failed with a process or a worker that is gone, noted, as it no longer can."""
    failures = [Failure(experiment=run, error=text, traceback=text) for run in plan.runs]
    for failure in failures:
        store.note_failure(failure)
    return failures


def _make(plan: experiments.Plan, store: Store, device: str) -> None:
    files: list[CheckpointFile] = []

    def file(part: int) -> CheckpointFile:
        files.append(store.checkpoint(plan.runs[0], part=part))
        return files[-1]

    for record in experiments.run_planned(plan, device=device, file=file, network=store.network):
        store.save(record)
    for each in files:
        with suppress(OSError):  # wsn gc takes it later
            each.remove()
