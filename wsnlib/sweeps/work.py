"""Work of a sweep in the process that does it: one run or a fleet, from specs to stored records."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress

import torch

from wsnlib import experiments, specs
from wsnlib.store import CheckpointFile, Failure, Store, StoreError

Work = tuple[tuple[specs.Run, ...], float]
"""Runs that are trained at once, most often one, and the seconds that they are estimated to take."""


class SweepError(RuntimeError):
    """Some runs of a sweep failed, or it was stopped; the others are in the store.

    Args:
        message: In one sentence.
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


def work_on(runs: tuple[specs.Run, ...], store: Store, device: str) -> list[Failure]:
    """Make and store the records of runs; one that raises is noted in the store and returned.

    A run that another process made meanwhile is not made again.

    Raises:
        StoreError: If the store cannot be written: no other run could be kept either.
    """
    runs = tuple(run for run in runs if not store.has_made(run))
    try:
        if len(runs) == 1:
            _run(runs[0], store, device)
        elif runs:
            trainings = [run for run in runs if isinstance(run, specs.Experiment)]
            for record in experiments.run_fleet(trainings):
                store.save(record)
    except StoreError:
        raise
    except Exception as error:  # one run of a hundred may fail; the others go on
        failures = [_failure(run, error) for run in runs]
        traceback.clear_frames(error.__traceback__)  # they hold the memory of the run
        for failure in failures:
            with suppress(StoreError):
                store.note_failure(failure)
        return failures
    finally:
        torch.cuda.empty_cache()  # another process may need what this one would keep
    return []


def _run(run: specs.Run, store: Store, device: str) -> None:
    files: list[CheckpointFile] = []

    def file(part: int) -> CheckpointFile:
        files.append(store.checkpoint(run, part=part))
        return files[-1]

    store.save(experiments.run(run, device=device, file=file))
    for each in files:
        each.remove()


def _failure(run: specs.Run, error: Exception) -> Failure:
    return Failure(
        experiment=run,
        error=f"{type(error).__name__}: {error}",
        traceback="".join(traceback.format_exception(error)),
    )
