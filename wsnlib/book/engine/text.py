"""Text with numbers of a run in it, which change when the run does."""

from __future__ import annotations

import re
from typing import Any

UNKNOWN = "⋯"
"""Stands for a number that is not known yet."""

_NAME = re.compile(r"\{\{(\w+)\}\}")


class Text:
    """Markdown that a cell shows, with numbers that may come later in the run.

    A template holds names of numbers in doubled braces. What a number is says `fill`, before or after the
    text is shown: text that stands above its numbers is shown again when they come.

    Examples:
        >>> text = Text()
        >>> text.fill(num_runs=402)
        >>> text.filled("{{num_runs}} trainings, {{core_time}} of one core")
        '402 trainings, ⋯ of one core'
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
        self._numbers |= {name: str(number) for name, number in numbers.items()}
        for template, shown in self._shown:
            if shown is not None and not numbers.keys().isdisjoint(_NAME.findall(template)):
                shown.update(self._bundle(template), raw=True)

    def filled(self, template: str) -> str:
        """A text with the numbers that are known, and `⋯` for the others."""
        return _NAME.sub(lambda found: self._numbers.get(found[1], UNKNOWN), template)

    def _bundle(self, template: str) -> dict[str, str]:
        text = self.filled(template)
        return {"text/markdown": text, "text/plain": text}
