"""Notes what a test of a fault found, for the table on the book's page on reliability.

With `WSN_FAULTS` set to a file, each fault is added to it as one line of JSON; `book/pages.py` makes
the table of it. Without it nothing is written.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def fault(name: str) -> Iterator[Callable[..., None]]:
    """A fault that the test inside the block injects; the block says what was lost, which must be nothing."""
    found: dict[str, object] = {}

    def noted(*, lost: int, how: str) -> None:
        found.update(fault=name, lost=lost, how=how)
        assert lost == 0

    yield noted
    assert found, f"the test of {name!r} says nothing of what was lost"
    if "WSN_FAULTS" in os.environ:
        with Path(os.environ["WSN_FAULTS"]).open("a", encoding="utf-8") as file:
            file.write(json.dumps(found) + "\n")
