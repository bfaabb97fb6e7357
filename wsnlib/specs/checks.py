"""Checks of the fields of a spec: a refusal names the field, its value and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from types import UnionType
from typing import Any, get_args


def plain(value: Any) -> Any:
    """A number or an array of numpy as Python's own, so that equal values have equal keys."""
    return value.tolist() if hasattr(value, "tolist") else value


def _made_plain(spec: object, name: str) -> Any:
    value = plain(getattr(spec, name))
    object.__setattr__(spec, name, value)
    return value


def refuse(spec: object, name: str, allowed: str) -> ValueError:
    value = getattr(spec, name)
    return ValueError(f"{type(spec).__name__}.{name} must be {allowed}, got {value!r}")


def integer(spec: object, *names: str, at_least: int) -> None:
    for name in names:
        value = _made_plain(spec, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
            raise refuse(spec, name, f"an integer ≥ {at_least}")


def number(
    spec: object,
    name: str,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> None:
    """Check a real number and store it as a float, so that 1 and 1.0 have the same key."""
    limits = {">": above, "≥": at_least, "≤": at_most, "<": below}
    allowed = "a number " + " and ".join(f"{k} {v:g}" for k, v in limits.items() if v is not None)
    value = _made_plain(spec, name)
    fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if (
        not fits
        or (above is not None and not value > above)
        or (at_least is not None and not value >= at_least)
        or (at_most is not None and not value <= at_most)
        or (below is not None and not value < below)
    ):
        raise refuse(spec, name, allowed)
    object.__setattr__(spec, name, float(value))


def choice(spec: object, name: str, choices: Iterable[object]) -> None:
    options, value = tuple(choices), _made_plain(spec, name)
    if not any(value is c or value == c for c in options):
        raise refuse(spec, name, "one of " + ", ".join(map(repr, options)))


def flag(spec: object, *names: str) -> None:
    for name in names:
        if not isinstance(_made_plain(spec, name), bool):
            raise refuse(spec, name, "True or False")


def instance(spec: object, name: str, kind: type | UnionType) -> None:
    if not isinstance(getattr(spec, name), kind):
        raise refuse(spec, name, "a " + " or ".join(c.__name__ for c in get_args(kind) or (kind,)))


def densities(spec: object, name: str) -> None:
    values = tuple(float(v) for v in getattr(spec, name))
    object.__setattr__(spec, name, values)
    if not values or not all(0 < v <= 1 for v in values):
        raise refuse(spec, name, "a sequence of numbers > 0 and ≤ 1")
