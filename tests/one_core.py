"""A plugin of pytest: each process of pytest-xdist keeps to a core, and the kernels of its notebooks with it.

They then train in one process each; several on one core would wait for one another.
"""

import os

import pytest


def pytest_configure(config: pytest.Config) -> None:
    worker = getattr(config, "workerinput", None)
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker["workerid"].removeprefix("gw")) % len(cores)]})
