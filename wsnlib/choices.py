"""The one refusal of an argument that names one of a few ways."""

from __future__ import annotations

from typing import Any, get_args


def check_choice(name: str, value: object, allowed: Any) -> None:
    """Refuse what is not one of a `Literal`'s values.

    Raises:
        ValueError: It names the argument, its values and what was given.

    Examples:
        >>> from typing import Literal
        >>> check_choice("rule", "even", Literal["uniform", "balanced"])
        Traceback (most recent call last):
        ValueError: rule must be one of 'uniform', 'balanced', got 'even'
    """
    if value not in get_args(allowed):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, get_args(allowed)))}, got {value!r}")
