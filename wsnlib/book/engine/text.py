"""Text with numbers of a run in it, which change when the run does."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from wsnlib import specs
from wsnlib.estimates import Estimate, shown, with_minus

UNKNOWN = "⋯"
"""Stands for a number that is not known yet."""

_NAME = re.compile(r"\{\{(\w+)\}\}")


class Text:
    """Markdown that a cell shows, with numbers that may come later in the run.

    A template holds names of numbers in doubled braces. What a number is says `fill`, before or after the
    text is shown: text that stands above its numbers is shown again when they come.

    Examples:
        >>> text = Text()
        >>> text.fill(num_runs=402, gain=-0.5)
        >>> text.filled("{{num_runs}} trainings, {{gain}} points, {{core_time}} of one core")
        '402 trainings, −0.5 points, ⋯ of one core'
    """

    def __init__(self) -> None:
        self._numbers: dict[str, str] = {}
        self._shown: list[tuple[str, Any]] = []

    def __call__(self, template: str) -> None:
        """Show a text here, now and again whenever one of its numbers comes."""
        from IPython.display import display

        self._shown.append((template, display(self._bundle(template), raw=True, display_id=True)))

    def fill(self, **numbers: object) -> None:
        """Say what numbers are, by name."""
        self._numbers |= {name: with_minus(str(number)) for name, number in numbers.items()}
        for template, place in self._shown:
            if place is not None and not numbers.keys().isdisjoint(_NAME.findall(template)):
                place.update(self._bundle(template), raw=True)

    def filled(self, template: str) -> str:
        """A text with the numbers that are known, and `⋯` for the others."""
        return _NAME.sub(lambda found: self._numbers.get(found[1], UNKNOWN), template)

    def _bundle(self, template: str) -> dict[str, str]:
        text = self.filled(template)
        return {"text/markdown": text, "text/plain": text}


def said(sentence: str, *found: Estimate | None, otherwise: str) -> str:
    """A sentence with an estimate and its interval in each `{}`; another one where there is no estimate.

    Examples:
        >>> gain = Estimate(mean=0.5, low=-0.4, high=1.4, n=3)
        >>> said("Widening adds {} points.", gain, otherwise="No network is wider.")
        'Widening adds 0.50 (−0.40 to 1.40) points.'
        >>> said("Widening adds {} points.", None, otherwise="No network is wider.")
        'No network is wider.'
    """
    known = [each for each in found if each is not None and not math.isnan(each.mean)]
    return sentence.format(*map(shown, known)) if len(known) == len(found) else otherwise


def by_sign(found: Estimate | None, above: str, below: str, neither: str) -> str:
    """A word for an estimate whose interval lies above 0, below it, or neither.

    Examples:
        >>> by_sign(Estimate(mean=2.0, low=1.0, high=3.0, n=3), "raises", "lowers", "does not change")
        'raises'
    """
    if found is None or not (found.low > 0 or found.high < 0):
        return neither
    return above if found.low > 0 else below


def counted(number: int, thing: str, things: str | None = None) -> str:
    """How many there are of something, in the singular or the plural.

    Examples:
        >>> counted(1, "seed"), counted(5_000, "training image"), counted(0, "class", "classes")
        ('1 seed', '5,000 training images', '0 classes')
    """
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def listed(values: Iterable[object]) -> str:
    """Values in a row, the last one after "and".

    Examples:
        >>> listed([8, 12, 18]), listed([8]), listed([])
        ('8, 12 and 18', '8', 'none')
    """
    *first, last = [str(value) for value in values] or ["none"]
    return f"{', '.join(first)} and {last}" if first else last


def span(values: Iterable[float], form: str) -> str:
    """The least and the greatest of some numbers, or one of them where both read the same.

    Args:
        values: Numbers; those that are not known are left out.
        form: How a number is written, such as `"{:.1f}"`.

    Examples:
        >>> span([20, 110, 56], "{:d}"), span([99.6, 100.0, math.nan], "{:.0f}"), span([], "{:g}")
        ('20 to 110', '100', 'not known')
    """
    found = [value for value in values if not math.isnan(value)]
    ends = dict.fromkeys(form.format(end) for end in (min(found), max(found))) if found else ["not known"]
    return " to ".join(ends)


def data_name(data: specs.DataSpec) -> str:
    """What a data set is called in text.

    Examples:
        >>> data_name(specs.CIFAR10()), data_name(specs.MNIST())
        ('CIFAR-10', 'MNIST')
    """
    if isinstance(data, specs.PackedData):
        return data.name
    return re.sub(r"(?<=[A-Z])(?=\d)", "-", type(data).__name__)
