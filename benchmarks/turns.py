"""Contenders that take turns, so that ratios can be trusted where seconds depend on the machine."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from statistics import median

import torch

Work = Callable[[], object]


def compare(
    contenders: dict[str, Work], repetitions: int, *, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of every contender, one after the other in each repetition; the first is not counted."""
    took: dict[str, list[float]] = {name: [] for name in contenders}
    for repetition in range(repetitions + 1):
        for name, work in contenders.items():
            start = clock()
            work()
            if repetition:
                took[name].append(clock() - start)
    return took


def row(name: str, first: list[float], second: list[float], goal: str = "", *, per: int = 1) -> None:
    """Print the ratio of two contenders, its spread, what is aimed at, and both medians in milliseconds."""
    ratios = [a / b for a, b in zip(first, second, strict=True)]
    spread = f"[{min(ratios):.2f}, {max(ratios):.2f}]"
    medians = " / ".join(f"{1e3 * median(times) / per:.4g}" for times in (first, second))
    print(f"{name:51s} {median(ratios):6.2f} {spread:15s} {goal:12s} {medians} ms", flush=True)


def title(threads: int) -> None:
    """Use that many threads, and print what the numbers were measured with."""
    torch.set_num_threads(threads)
    used = f"{threads} thread{'s' if threads > 1 else ''}"
    print(f"{platform.machine()}, {used}, torch {torch.__version__}, Python {platform.python_version()}")
