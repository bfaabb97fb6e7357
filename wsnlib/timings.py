"""What was timed once on this machine and is kept, and what a step may use of it: threads and memory."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import cast

import platformdirs
import torch
from threadpoolctl import threadpool_limits

TURNS = 3
"""Times that each contender is timed; the least counts."""


def thread_ms(work: Callable[[], None]) -> float:
    """The least milliseconds of one thread, after once without timing."""
    found = []
    with cpu_threads(1), reused_memory(), torch.enable_grad(), torch.random.fork_rng([]):
        for _ in range(TURNS + 1):
            start = time.thread_time()
            work()
            found.append(1e3 * (time.thread_time() - start))
    return min(found[1:])


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Use that many CPU threads inside the block, of torch and of numpy."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


MMAP_MAX, MMAP_THRESHOLD, TRIM_THRESHOLD = -4, -3, -1
"""Names of glibc's options in `mallopt(3)`."""


@contextmanager
def reused_memory() -> Iterator[None]:
    """Keep memory that a step frees for the next one; glibc would give back whatever is above 32 MiB.

    The pages of an activation of that size are otherwise handed out anew, and cleared, each time it is made:
    a fifth of a step of the sparse ResNet-18 of width 64. Elsewhere than on Linux nothing is done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        yield
        return
    mallopt(MMAP_MAX, 0)
    mallopt(TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        mallopt(MMAP_MAX, 2**16)
        mallopt(MMAP_THRESHOLD, 2**25)
        mallopt(TRIM_THRESHOLD, 2**26)
        ctypes.CDLL(None).malloc_trim(0)


def kept(key: str, measure: Callable[[], float]) -> float:
    """What was measured under this key on this machine, or is now; in `$WSN_TIMES`, or the user's cache.

    What was written first stays; what cannot be written is measured again.
    """
    path = Path(
        os.environ.get("WSN_TIMES") or Path(platformdirs.user_cache_dir("wsnlib"), "layer_times.json")
    )
    key = f"{_machine()}: {key}"
    known = _read(path)
    if key not in known:
        found = measure()
        known = {key: round(found, 6)} | _read(path)  # others may have measured meanwhile
        part = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(known, indent=0))
            part.replace(path)
    return float(known[key])


def _read(path: Path) -> dict[str, float]:
    try:
        return cast(dict[str, float], json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}


@cache
def cpu_name() -> str:
    """The processor of this machine."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


@cache
def _machine() -> str:
    """The processor, and what computes on it."""
    chosen = [
        os.environ.get(each, "") for each in ("ATEN_CPU_CAPABILITY", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")
    ]
    return f"{cpu_name()} torch {torch.__version__} {' '.join(chosen)}".strip()
