"""Specs that check their fields: a refusal names the field, its value and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints


class Range(NamedTuple):
    """The limits of a number, as an annotation."""

    above: float = -math.inf
    at_least: float = -math.inf
    at_most: float = math.inf
    below: float = math.inf

    def __repr__(self) -> str:  # as signatures show it
        given = {name: limit for name, limit in self._asdict().items() if math.isfinite(limit)}
        return f"Range({', '.join(f'{name}={limit:g}' for name, limit in given.items())})"

    def __str__(self) -> str:
        limits = zip((">", "≥", "≤", "<"), self, strict=True)
        return " and ".join(f"{sign} {limit:g}" for sign, limit in limits if math.isfinite(limit))

    def holds(self, value: float) -> bool:
        """Whether a number is within the limits."""
        return self.above < value < self.below and self.at_least <= value <= self.at_most


PositiveInt = Annotated[int, Range(at_least=1)]
NonNegativeInt = Annotated[int, Range(at_least=0)]
Share = Annotated[float, Range(above=0, at_most=1)]


class Spec:
    """What checks its fields by their annotations when it is made, as a dataclass.

    Checked are other specs, flags, literals and numbers with a range; None is allowed where it is annotated.
    Numbers of numpy become Python's own, and a float is stored as one, so that 1 and 1.0 have the same key.
    Texts, sequences and mappings are left to each class.
    """

    def __post_init__(self) -> None:
        for name, (kinds, optional) in _annotated(type(self)).items():  # type: ignore[arg-type]
            if not optional or getattr(self, name) is not None:
                _check(self, name, kinds)


@cache
def _annotated(spec: type) -> dict[str, tuple[tuple[Any, ...], bool]]:
    """What each field may be, one annotation or several classes, and whether it may be None."""
    hints, found = get_type_hints(spec, include_extras=True), {}
    for name in (each.name for each in fields(spec)):
        union = get_origin(hints[name]) in (Union, UnionType)
        kinds = get_args(hints[name]) if union else (hints[name],)
        found[name] = tuple(kind for kind in kinds if kind is not NoneType), NoneType in kinds
    return found


def _check(spec: Spec, name: str, kinds: tuple[Any, ...]) -> None:
    kind, origin = kinds[0], get_origin(kinds[0])
    if is_dataclass(kind):
        if not isinstance(getattr(spec, name), kinds):
            raise refuse(spec, name, "a " + " or ".join(each.__name__ for each in kinds))
    elif kind is bool:
        if not isinstance(_made_plain(spec, name), bool):
            raise refuse(spec, name, "True or False")
    elif origin is Literal:
        if _made_plain(spec, name) not in get_args(kind):
            raise refuse(spec, name, "one of " + ", ".join(map(repr, get_args(kind))))
    elif origin is Annotated:
        number, limits = get_args(kind)
        value = _made_plain(spec, name)
        whole = isinstance(value, int) and not isinstance(value, bool)
        real = number is float and isinstance(value, float) and math.isfinite(value)
        if not (whole or real) or not limits.holds(value):
            raise refuse(spec, name, f"{'an integer' if number is int else 'a number'} {limits}")
        object.__setattr__(spec, name, number(value + 0))  # -0.0 is 0.0


def plain(value: Any) -> Any:
    """A number or an array of numpy as Python's own, so that equal values have equal keys."""
    return value.tolist() if hasattr(value, "tolist") else value


def _made_plain(spec: Spec, name: str) -> Any:
    value = plain(getattr(spec, name))
    object.__setattr__(spec, name, value)
    return value


def refuse(spec: object, name: str, allowed: str) -> ValueError:
    value = getattr(spec, name)
    return ValueError(f"{type(spec).__name__}.{name} must be {allowed}, got {value!r}")


def numbers(
    spec: object, name: str, number: type[float], allowed: str, holds: Callable[[tuple[Any, ...]], bool]
) -> None:
    """Make the numbers of a field a tuple of Python's own, or refuse them; none are refused, too."""
    values = plain(getattr(spec, name))
    given = [plain(value) for value in values] if isinstance(values, Sequence) else []
    found = tuple(map(number, given)) if all(type(value) in (int, number) for value in given) else ()
    if not found or not holds(found):
        raise refuse(spec, name, allowed)
    object.__setattr__(spec, name, found)


def densities(spec: object, name: str) -> None:
    allowed = "a sequence of numbers > 0 and ≤ 1"
    numbers(spec, name, float, allowed, lambda values: all(0 < v <= 1 for v in values))
