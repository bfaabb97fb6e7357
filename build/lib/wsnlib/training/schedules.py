"""How the learning rate changes over a run, as fractions of it, so that a shorter run keeps the shape."""

from __future__ import annotations

import math

from wsnlib import specs


def learning_rate_factor(schedule: specs.Schedule, progress: float) -> float:
    """Learning rate divided by its greatest value after a fraction `progress` in [0, 1] of the run.

    Examples:
        >>> learning_rate_factor(specs.Cosine(), 0.5)
        0.5
        >>> learning_rate_factor(specs.MultiStep(milestones=(0.5, 0.75)), 0.5)
        0.1
        >>> learning_rate_factor(specs.OneCycle(warmup=0.25), 0.25)
        1.0
    """
    if isinstance(schedule, specs.Cosine):
        return _half_cosine(1, 0, progress)
    if isinstance(schedule, specs.OneCycle):
        if progress < schedule.warmup:
            return _half_cosine(schedule.start, 1, progress / schedule.warmup)
        return _half_cosine(1, schedule.end, (progress - schedule.warmup) / (1 - schedule.warmup))
    if isinstance(schedule, specs.MultiStep):
        passed = sum(progress >= milestone for milestone in schedule.milestones)
        return float(schedule.factor**passed)
    return 1.0


def learning_rate_factors(protocol: specs.Training, *, epoch: int, steps: int) -> list[float]:
    """The factor of each step of an epoch, counted from 1; only `OneCycle` changes within one.

    Examples:
        >>> protocol = specs.Training(epochs=2, schedule=specs.Cosine())
        >>> learning_rate_factors(protocol, epoch=2, steps=3)
        [0.5, 0.5, 0.5]
    """
    by_step = isinstance(protocol.schedule, specs.OneCycle)
    passed = [epoch - 1 + (step / steps if by_step else 0) for step in range(steps)]
    return [learning_rate_factor(protocol.schedule, epochs / protocol.epochs) for epochs in passed]


def _half_cosine(first: float, last: float, progress: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * progress)) / 2
