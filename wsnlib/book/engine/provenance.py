"""What made a figure: its records, its data and the command that makes it again."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from wsnlib import specs
from wsnlib.store import AnyRecord, Store, repository

PROVENANCE_TYPE = "application/vnd.wsnlib.provenance+json"
"""Media type under which a notebook keeps what made a figure."""

LARGEST_PLAIN = 100_000
"""Characters of a table that a page holds as plain CSV; a larger one is compressed."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What made one figure; shown in a page as a line that unfolds.

    Args:
        chapter: Name of the notebook.
        number: Of the figure in the page, from 1.
        name: What links to the figure lead to.
        profile, preset: Of the page; the profile with what was changed of it.
        command: Makes the figure again, from the repository's root.
        keys: Of the records behind the figure, sorted; empty if it is drawn from specs alone.
        places: Folders or addresses that hold these records.
        seeds: Of these records, sorted.
        seconds: All of them together took, of one process; a training that several measured counts once.
        devices, commits: That made them, sorted.
        data: What the figure shows, one row a point.
    """

    chapter: str
    number: int
    name: str
    profile: str
    preset: str
    command: str
    keys: Sequence[str] = ()
    places: Sequence[str] = ()
    seeds: Sequence[int] = ()
    seconds: float = 0.0
    devices: Sequence[str] = ()
    commits: Sequence[str] = ()
    data: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)

    @classmethod
    def of(cls, runs: Iterable[specs.Run], *, store: Store, **page: Any) -> Provenance:
        """Read from the records of the runs behind a figure.

        Args:
            runs: All whose records the figure rests on.
            store: Holds the records.
            page: What no record tells: chapter, number, name, profile, preset, command and data.

        Raises:
            KeyError: If a record is missing.
            StoreError: If a record is damaged or was made by another spec.
        """
        runs = list(runs)
        records = {record.key: record for record in map(store.load, runs)}
        made = made_by(records.values())
        seeds = {seed for record in records.values() for seed in _seeds(specs.to_dict(record.experiment))}
        return cls(
            **page,
            keys=sorted(records),
            places=sorted({_shortened(store.place(run)) for run in runs}),
            seeds=sorted(seeds),
            seconds=round(sum(float(e.get("seconds", 0)) for e in made), 1),
            devices=sorted({str(e["device"]) for e in made if "device" in e}),
            commits=sorted({c for e in made for c in [*e.get("resumed_from", ()), e.get("commit")] if c}),
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it, without the data and the places of the records."""
        return {name: value for name, value in vars(self).items() if name not in ("data", "places")}

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {"text/html": self._html(), "text/plain": repr(self), PROVENANCE_TYPE: self.to_dict()}

    def __repr__(self) -> str:
        return f"Figure {self.number} of {self.chapter}: {self._origin()}"

    def _origin(self) -> str:
        if not self.keys:
            return "computed on this page or taken from another; no stored run is behind it"
        n, seeds = len(self.keys), _listed(self.seeds)
        with_seeds = f", seeds {seeds}" if seeds else ""
        records = f"{n:,} {'record' if n == 1 else 'records'}"
        return f"drawn from {records}{with_seeds}, {core_time(self.seconds)} of one process"

    def _html(self) -> str:
        facts = [f"Profile <i>{escape(self.profile)}</i>, preset <i>{escape(self.preset)}</i>"]
        if self.keys:
            facts.append(f"made on {escape('; '.join(self.devices))}")
            facts.append("at " + ", ".join(f"<code>{escape(c)}</code>" for c in self.commits))
        keys = " ".join(self.keys)
        places = " and ".join(f"<code>{escape(place)}</code>" for place in self.places)
        records = (
            f"<details><summary>Keys of the records (files in {places})</summary>"
            f'<p class="keys">{keys}</p></details>'
            if self.keys
            else ""
        )
        return (
            '<details class="wsn-provenance">'
            f"<summary>{escape(self._origin().capitalize())}</summary>"
            f"<p>{', '.join(facts)}.</p>{self._download()}"
            f"<p>Made again by <code>{escape(self.command)}</code></p>{records}</details>"
        )

    def _download(self) -> str:
        if not len(self.data):
            return ""
        name = f"{self.chapter}-figure-{self.number}.csv"
        text = self.data.to_csv(index=False, float_format="%.6g")
        address = f"data:text/csv;charset=utf-8,{quote(text, safe=',.:-+')}"
        if len(text) > LARGEST_PLAIN:
            name += ".gz"
            packed = base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode("ascii")
            address = f"data:application/gzip;base64,{packed}"
        rows = f"{len(self.data):,} rows of {', '.join(self.data.columns)}"
        return f'<p>Its data: <a download="{name}" href="{address}">{name}</a> ({escape(rows)})</p>'


def made_by(records: Iterable[AnyRecord]) -> list[Mapping[str, Any]]:
    """What records say of how they were made, and the trainings that measurements among them list, once each.

    The `seconds` are those of each alone.
    """
    made = [record.environment for record in records]
    trainings = {each["run"]: each for e in made for each in e.get("trainings", ())}
    alone = [e | {"seconds": e["seconds_measuring"]} if "trainings" in e else e for e in made]
    return [*alone, *trainings.values()]


def _shortened(place: Path | str) -> str:
    """A folder as seen from the repository or from home, with a slash at its end; an address as it is."""
    if isinstance(place, str):
        return place
    root = repository()
    if root is not None and place.resolve().is_relative_to(root):
        return f"{place.resolve().relative_to(root).as_posix()}/"
    home = Path.home()
    return (
        f"~/{place.relative_to(home).as_posix()}/" if place.is_relative_to(home) else f"{place.as_posix()}/"
    )


def _seeds(content: Any) -> Iterator[int]:
    """Every seed in a spec, however deep: a measurement holds the trainings that it is of."""
    if isinstance(content, dict):
        if isinstance(seed := content.get("seed"), int):
            yield seed
        for part in content.values():
            yield from _seeds(part)
    elif isinstance(content, list):
        for part in content:
            yield from _seeds(part)


def core_time(seconds: float) -> str:
    """A duration in words, in the largest unit that keeps two digits.

    Examples:
        >>> core_time(7.26), core_time(420), core_time(9000)
        ('7.3 seconds', '7.0 minutes', '2.5 hours')
    """
    if seconds < 120:
        return f"{seconds:.1f} seconds"
    minutes = seconds / 60
    return f"{minutes:.1f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"


def _listed(numbers: Sequence[int]) -> str:
    """Numbers with runs of three or more shortened: 0 to 4, 9."""
    parts: list[str] = []
    start = 0
    for i in range(1, len(numbers) + 1):
        if i == len(numbers) or numbers[i] != numbers[i - 1] + 1:
            run = numbers[start:i]
            parts += [f"{run[0]} to {run[-1]}"] if len(run) > 2 else [str(x) for x in run]
            start = i
    return ", ".join(parts)
