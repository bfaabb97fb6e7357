"""What two executions of a notebook show, compared: words, counts and verdicts exactly, numbers as numbers.

Another processor adds in another order, fuses products into sums or not, and has other exponentials, so
that the last bits of what is computed differ. Two numbers are therefore alike if they differ by no more than

- `RELATIVE` of the larger one. Everything that a page computes from records is in double precision, whose unit
  is 1e-16; a sum of the 1e7 terms of the largest population is off by at most 1e-9, and what is a small
  difference of large means (an excess dispersion, a share of two of them) loses three digits more. Nine
  numbers of the pages differ by 1e-12 between processors. 1e-6 is far above that, and below what any table,
  figure or sentence shows;
- `ABSOLUTE`, for what would be 0 but for rounding: quantities here are of order one, up to 100 in percent;
- one unit in the last digit that is printed, as a number that lies at a tie is rounded either way: 0.125 ± 1e-17
  is 0.12 or 0.13. Estimates and what figures draw are held in more digits besides, and to `RELATIVE`.

A number without a decimal point is a count, and the same on every machine.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from itertools import zip_longest
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import nbformat

from wsnlib.book.engine.page import SESSION

RELATIVE = Decimal("1e-6")
ABSOLUTE = Decimal("1e-12")

NUMBER = re.compile(r"((?<![\w.])[-+]?\d+(?:\.\d+)?(?:e[-+]\d+)?(?!\w|\.\d))")
"""Of its own: digits in a name, a version or a key are parts of words."""

Shown = list[tuple[str, str]]


def outputs(path: Path) -> Shown:
    """Where and what a notebook shows: all text, and of pictures in pixels that they are there.

    Left out is what is about one session, as messages and widgets are, and cells that papermill injects. What a cell prints is one output, in however many pieces it came.
    """
    found: Shown = []
    cells = [
        cell
        for cell in nbformat.read(path, as_version=4).cells
        if "injected-parameters" not in cell.metadata.get("tags", [])
    ]
    for number, cell in enumerate(cells):
        made = [
            o
            for o in cell.get("outputs", [])
            if o.get("name") != "stderr" and o.get("metadata") != SESSION
        ]
        if printed := "".join(
            o.text for o in made if o.output_type == "stream"
        ):
            found.append((f"cell {number}, printed", printed))
        parts = [
            part for o in made for part in sorted(o.get("data", {}).items())
        ]
        found += [
            (f"cell {number}, {kind}", text_of(kind, content))
            for kind, content in parts
            if content and "widget" not in kind
        ]
    return found


def text_of(kind: str, content: Any) -> str:
    """The words and numbers of one output: tables that it links are read, pixels and made-up names are not."""
    if kind == "image/png":
        return "a picture"
    if not isinstance(content, str):
        return json.dumps(content, sort_keys=True)
    if kind == "image/svg+xml":
        # Letters stand in a comment beside their shapes; names of clips and markers are hashes of numbers.
        content = re.sub(
            r'<(?:path id|use xlink:href)="#?DejaVu[^>]*>', "", content
        )
        names: dict[str, str] = {}
        content = re.sub(
            r"(?<=[\"#])(?:[mpCh]|image)[0-9a-f]{10}\b",
            lambda name: names.setdefault(name[0], f"name{len(names)}"),
            content,
        )
    content = re.sub(r"data:image/png;base64,[\w+/=\s]+", "", content)
    content = re.sub(
        r"data:application/gzip;base64,([\w+/=]+)", _unpacked, content
    )
    content = re.sub(
        r"data:text/csv[^\"]+", lambda table: unquote(table[0]), content
    )
    return re.sub(" at 0x[0-9a-f]+", "", content).replace("−", "-")


def _unpacked(table: re.Match[str]) -> str:
    return gzip.decompress(base64.b64decode(table[1])).decode()


def differences(one: Shown, other: Shown) -> list[str]:
    """Where two executions do not show the same, in words; empty if they do."""
    places = [[where for where, _ in shown] for shown in (one, other)]
    if places[0] != places[1]:
        first, second = next(
            pair
            for pair in zip_longest(*places, fillvalue="nothing")
            if len(set(pair)) > 1
        )
        return [f"{first}: shown where the other shows {second}"]
    return [
        f"{where}: {difference}"
        for (where, text), (_, wanted) in zip(one, other, strict=True)
        if text != wanted
        for difference in _differences(text, wanted)
    ]


def _differences(text: str, wanted: str) -> Iterator[str]:
    pieces = (
        NUMBER.split(each) for each in (text, wanted)
    )  # words and numbers in turn
    for at, (one, other) in enumerate(zip_longest(*pieces, fillvalue="")):
        if at % 2 and not alike(one, other):
            yield f"{one} where the other has {other}"
        if at % 2 == 0 and one.split() != other.split():
            yield f"{one[:200]!r} where the other has {other[:200]!r}"
            return  # what follows is shifted


def alike(one: str, other: str) -> bool:
    """Whether two printed numbers may come from one computation on two machines."""
    whole = one.lstrip("+-").isdigit() and other.lstrip("+-").isdigit()
    if whole or not (
        one and other
    ):  # a text that ends before a number has none
        return one == other
    a, b = Decimal(one), Decimal(other)
    unit = min(Decimal(1).scaleb(int(x.as_tuple().exponent)) for x in (a, b))
    return abs(a - b) <= max(unit, ABSOLUTE, RELATIVE * max(abs(a), abs(b)))
