"""A folder of records by key, and beside them what is under way, what failed and what is damaged."""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import platformdirs

from wsnlib import specs
from wsnlib.store import index
from wsnlib.store.folders import TEMPORARY, Folder, is_plain, open_folder
from wsnlib.store.records import AnyRecord, MeasurementRecord, Record, Summary, record_from_json

_RECORD = re.compile(rf"([0-9a-f]{{{specs.KEY_LENGTH}}})\.json")

CHECKPOINTS, FAILURES, DAMAGED, NETWORKS = "checkpoints", "failures", "damaged", "networks"
"""Folders in a store, of trainings under way, runs that failed, files that do not match their checksum, and
networks that were trained to be measured."""


PROBE_BYTES = 2**18
"""What is written before a sweep to see whether a store has room; a record is smaller."""


class StoreError(RuntimeError):
    """A record is damaged or of another spec, or the store cannot be read or written."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A run that ended with an exception.

    Args:
        experiment: What was run.
        error: The class of the exception and what it says.
        traceback: Where it came from, as text.
    """

    experiment: specs.Run
    error: str
    traceback: str


@dataclass(frozen=True, kw_only=True)
class Remains:
    """What a store holds that no sweep needs any more; names of files, as in the store.

    Args:
        temporary: Files whose writers died.
        checkpoints: Checkpoints of runs that have a record.
        failures: Notes of failures of runs that have a record since.
        damaged: Files that did not match their checksum and were set aside.
    """

    temporary: tuple[str, ...]
    checkpoints: tuple[str, ...]
    failures: tuple[str, ...]
    damaged: tuple[str, ...]


class Store:
    """A folder of records; experiments are its keys.

    Any number of processes on any number of machines may use one store at the same time. Nothing is
    locked: two that make one record cost time, and the later one stays.

    Args:
        path: Where records are written and looked for first; made when the first one is saved. A folder,
            or an address that fsspec knows, such as `s3://bucket/records` (see the book's page on
            clusters).
        also: Folders that are only read, such as the records published with the book.

    Examples:
        >>> import tempfile
        >>> store = Store(tempfile.mkdtemp())
        >>> run = specs.Experiment(
        ...     model=specs.MLPSpec(width=5), data=specs.MNIST(), training=specs.Training(epochs=1)
        ... )
        >>> run in store
        False
        >>> store.save(Record(experiment=run, status="diverged", history={}))
        >>> store.load(run).status, len(list(store))
        ('diverged', 1)
    """

    def __init__(self, path: Path | str, *, also: Sequence[Path | str] = ()) -> None:
        if isinstance(also, str | os.PathLike):
            raise ValueError(f"also must be a list of folders, got {str(also)!r}; give [{str(also)!r}]")
        self._folder: Folder = open_folder(path)
        self._also = tuple(open_folder(place) for place in also)

    @property
    def path(self) -> Path | str:
        """Where records are written, a path or an address."""
        return self._folder.location

    @property
    def also(self) -> tuple[Path | str, ...]:
        """Where records are only read."""
        return tuple(folder.location for folder in self._also)

    def __contains__(self, experiment: specs.Run) -> bool:
        return self._find(specs.spec_key(experiment)) is not None

    def __iter__(self) -> Iterator[AnyRecord]:
        """All records, in order of their keys."""
        for key in sorted(self.keys()):
            yield self._load(key)

    def readable(self) -> tuple[list[specs.Run], list[str]]:
        """The runs whose records can be used, in order of their keys, and why others cannot."""
        found, damaged = [], []
        for key in sorted(self.keys()):
            try:
                found.append(self._load(key).experiment)
            except StoreError as error:
                damaged.append(str(error).removesuffix(f"; {_ADVICE}"))
        return found, damaged

    def has_made(self, experiment: specs.Run) -> bool:
        """Whether there is a record in the folder that is written, whatever the others have."""
        with _reading(self._folder):
            return self._folder.has(f"{specs.spec_key(experiment)}.json")

    def keys(self) -> set[str]:
        """The keys of all records, from one look at each folder."""
        return {key for folder in (self._folder, *self._also) for key in _keys(self._stamps(folder))}

    @overload
    def load(self, experiment: specs.Experiment) -> Record: ...

    @overload
    def load(self, experiment: specs.Measurement) -> MeasurementRecord: ...

    @overload
    def load(self, experiment: specs.Run) -> AnyRecord: ...

    def load(self, experiment: specs.Run) -> AnyRecord:
        """The record of a training or a measurement.

        Raises:
            KeyError: If there is none.
            StoreError: If the file is damaged or was made by another spec.
        """
        return self._load(specs.spec_key(experiment))

    def place(self, experiment: specs.Run) -> Path | str:
        """The folder or address that the record of an experiment is read from.

        Raises:
            KeyError: If there is none.
        """
        name = f"{specs.spec_key(experiment)}.json"
        for folder in (self._folder, *self._also):
            with _reading(folder):
                if folder.has(name):
                    return folder.location
        raise KeyError(f"no record {name} in {self.path}; wsn.run_missing makes it")

    def _find(self, key: str) -> tuple[Folder, bytes] | None:
        for folder in (self._folder, *self._also):
            with _reading(folder), suppress(FileNotFoundError, NotADirectoryError):
                return folder, folder.read(f"{key}.json")
        return None

    def _load(self, key: str) -> AnyRecord:
        found = self._find(key)
        if found is None:
            raise KeyError(f"no record {key} in {self.path}; wsn.run_missing makes it")
        folder, data = found
        try:
            record = record_from_json(data.decode())
        except ValueError as error:
            raise StoreError(f"{_unusable(folder, key, str(error))}; {_ADVICE}") from error
        if record.key != key:
            why = _unusable(folder, key, f"it was made by another spec, of key {record.key}")
            raise StoreError(f"{why}; {_ADVICE}")
        return record

    def summaries(self, experiments: Iterable[specs.Run]) -> list[Summary]:
        """The summaries of the experiments' records, in their order; thousands in a second.

        They come from an index that the store keeps, as far as the records have not changed since.

        Raises:
            KeyError: If one is missing.
            StoreError: If one is damaged.
        """
        keys = [specs.spec_key(experiment) for experiment in experiments]
        found, damaged = self._survey(set(keys))
        for key in keys:
            if key in damaged:
                raise StoreError(f"{damaged[key]}; {_ADVICE}")
            if key not in found:
                raise KeyError(f"no record {key} in {self.path}; wsn.run_missing makes it")
        return [found[key] for key in keys]

    def damaged(self, experiments: Iterable[specs.Run]) -> dict[str, str]:
        """Why records that are there cannot be used, by key."""
        return self._survey({specs.spec_key(experiment) for experiment in experiments})[1]

    def _survey(self, wanted: set[str]) -> tuple[dict[str, Summary], dict[str, str]]:
        found: dict[str, Summary] = {}
        damaged: dict[str, str] = {}
        for folder in (self._folder, *self._also):
            stamps = self._stamps(folder)
            here = [key for key in _keys(stamps) if key in wanted and key not in found and key not in damaged]
            with _reading(folder):
                if folder is self._folder:
                    summaries, unusable = index.summaries(folder, here, stamps)
                else:
                    summaries, unusable = index.read(folder, here)
            found |= summaries
            damaged |= {key: _unusable(folder, key, why) for key, why in unusable.items()}
        return found, damaged

    def _stamps(self, folder: Folder) -> dict[str, str]:
        with _reading(folder):
            return folder.stamps()

    def save(self, record: AnyRecord) -> None:
        """Write a record, whole or not at all; one of the same key is replaced.

        Raises:
            StoreError: If the folder cannot be written.
        """
        self._publish(self._folder, f"{record.key}.json", record.to_json().encode())

    def _publish(self, folder: Folder, name: str, data: bytes) -> None:
        with self._writing():
            folder.publish(name, data)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"the store {self.path} cannot be written ({error.strerror or error}); "
                "give wsn.Store, --store or WSN_STORE a folder that can"
            ) from error

    def set_aside(self, experiment: specs.Run) -> str | None:
        """Move a damaged record out of the way, and say where it is.

        None if there is none in this store's own folder, or a good one meanwhile.
        """
        key = specs.spec_key(experiment)
        return self._set_aside(self._folder, f"{key}.json", lambda data: _is_record(data, key))

    def _set_aside(
        self, folder: Folder, name: str, good: Callable[[bytes], bool] | None = None
    ) -> str | None:
        with _reading(folder):
            try:
                data = folder.read(name)
            except FileNotFoundError:
                return None
        if good is not None and good(data):  # another process made it again
            return None
        kept = f"{hashlib.sha256(data).hexdigest()[:8]}.{name}"
        with self._writing():
            (self._folder / DAMAGED).publish(kept, data)
            folder.remove(name)
        return f"{self.path}/{DAMAGED}/{kept}"

    def check_writable(self) -> None:
        """Raise StoreError if a record could not be written, before hours go into making one."""
        probe = f".{uuid.uuid4().hex}{TEMPORARY}"
        with self._writing():
            self._folder.publish(probe, bytes(PROBE_BYTES))
            self._folder.remove(probe)

    def checkpoint(self, experiment: specs.Run, *, part: int = 0) -> CheckpointFile:
        """Where a run under way keeps what it needs to go on; one of several trainings has several parts."""
        return CheckpointFile(self, f"{specs.spec_key(experiment)}.{part}.safetensors")

    def network(self, experiment: specs.Experiment) -> CheckpointFile:
        """Where a network that was trained to be measured is kept for other measurements.

        The folder `networks` may be emptied at any time: what is missing is trained again.
        """
        return CheckpointFile(self, f"{specs.spec_key(experiment)}.safetensors", folder=NETWORKS)

    def note_failure(self, failure: Failure) -> None:
        """Keep why a run failed until it has a record.

        Raises:
            StoreError: If the folder cannot be written.
        """
        content = {
            "spec": specs.to_dict(failure.experiment),
            "error": failure.error,
            "traceback": failure.traceback,
        }
        name = f"{specs.spec_key(failure.experiment)}.json"
        self._publish(self._folder / FAILURES, name, json.dumps(content, indent=1).encode())

    def failures(self) -> dict[str, Failure]:
        """Why runs failed that have no record since, by key."""
        folder, finished = self._folder / FAILURES, self._finished()
        found = {}
        names = [f"{key}.json" for key in _keys(self._stamps(folder)) if key not in finished]
        with _reading(folder):
            notes = list(folder.read_many(names))
        for name, data in notes:
            with suppress(ValueError, KeyError, TypeError):  # a note that is torn is no note
                content = json.loads(data)
                found[name.removesuffix(".json")] = Failure(
                    experiment=specs.from_dict(content["spec"]),
                    error=str(content["error"]),
                    traceback=str(content["traceback"]),
                )
        return found

    def under_way(self) -> set[str]:
        """Keys of runs without a record that have a checkpoint."""
        names = self._stamps(self._folder / CHECKPOINTS)
        return {name.partition(".")[0] for name in names if not name.startswith(".")} - self._finished()

    def _finished(self) -> set[str]:
        """Keys of runs that no sweep is making: whose record in a folder that is only read is not damaged."""
        places = (self._folder / CHECKPOINTS, self._folder / FAILURES)
        began = {name.partition(".")[0] for place in places for name in self._stamps(place)}
        own, there = {*_keys(self._stamps(self._folder))}, self.keys()
        return there - set(self._survey(began & there - own)[1])

    def remains(self) -> Remains:
        """What is left of sweeps that died, and of what was repaired since."""
        finished = self._finished()

        def names(folder: str, of: set[str] | None) -> tuple[str, ...]:
            there = sorted(self._stamps(self._folder / folder))
            return tuple(
                f"{folder}/{n}" for n in there if is_plain(n) and (of is None or n.partition(".")[0] in of)
            )

        places = ("", f"{CHECKPOINTS}/", f"{FAILURES}/", f"{NETWORKS}/")
        return Remains(
            temporary=tuple(
                place + name
                for place in places
                for name in sorted(self._stamps(self._in(place)))
                if name.startswith(".") and name.endswith(TEMPORARY)
            ),
            checkpoints=names(CHECKPOINTS, finished),
            failures=names(FAILURES, finished),
            damaged=names(DAMAGED, None),
        )

    def remove(self, remains: Iterable[str]) -> None:
        """Remove files of [`Remains`][wsnlib.store.stores.Remains] by their names."""
        for name in remains:
            folder, _, file = name.rpartition("/")
            with self._writing():
                self._in(folder).remove(file)

    def _in(self, place: str) -> Folder:
        return self._folder / place.rstrip("/") if place else self._folder

    def export(self, experiments: Iterable[specs.Run], target: Store) -> int:
        """Copy the records of experiments to another store, whole and checked; how many it lacked.

        Raises:
            KeyError: If one is missing.
            StoreError: If one is damaged, or the target cannot be written.
        """
        wanted = dict.fromkeys(specs.spec_key(experiment) for experiment in experiments)
        for key in wanted:
            self._load(key)
        stamps = target._stamps(target._folder)
        there = [key for key in _keys(stamps) if key in wanted]
        with _reading(target._folder):
            whole, _ = index.summaries(target._folder, there, stamps)  # a damaged one is replaced
        lacking = [key for key in wanted if key not in whole]
        for key in lacking:
            target.save(self._load(key))
        return len(lacking)


class CheckpointFile:
    """One file of a store in which a training keeps its state, or a network that was trained."""

    def __init__(self, store: Store, name: str, *, folder: str = CHECKPOINTS) -> None:
        self._store, self._name, self._folder = store, name, store._folder / folder

    def read(self) -> bytes | None:
        """The state; None if there is none.

        Raises:
            ValueError: If it is cut off or changed.
        """
        try:
            return index.unseal(self._folder.read(self._name))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, state: bytes) -> None:
        """Replace the state, whole or not at all.

        Raises:
            StoreError: If the store cannot be written.
        """
        self._store._publish(self._folder, self._name, index.seal(state))

    def set_aside(self) -> str | None:
        """Move a damaged state out of the way, and say where it is."""
        return self._store._set_aside(self._folder, self._name)

    def remove(self) -> None:
        """Remove the state, if there is one."""
        self._folder.remove(self._name)


@contextmanager
def _reading(folder: Folder) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"the store {folder.location} cannot be read ({error.strerror or error})") from error


def _keys(stamps: Iterable[str]) -> list[str]:
    """Keys of the records among the names of files; every other file is none of the store's."""
    return [match[1] for name in stamps if (match := _RECORD.fullmatch(name))]


def _is_record(data: bytes, key: str) -> bool:
    try:
        return record_from_json(data.decode()).key == key
    except ValueError:
        return False


def _unusable(folder: Folder, key: str, why: str) -> str:
    return f"the record {folder.location}/{key}.json cannot be used: {why}"


_ADVICE = "wsn.run_missing sets it aside and makes it again"


def default_store() -> Store:
    """The store at `$WSN_STORE`, else in the user's cache folder; it also reads published records.

    `$WSN_STORE` is a folder or an address such as `s3://bucket/records`. Published records are those in
    the folder `records` beside the nearest `_toc.yml`, from the working folder upwards; `book/_toc.yml` is a
    link to the one that counts.
    """
    root = repository()
    return Store(
        os.environ.get("WSN_STORE") or Path(platformdirs.user_cache_dir("wsnlib")) / "records",
        also=[] if root is None else [root / "records"],
    )


def repository() -> Path | None:
    """The folder of the nearest `_toc.yml`, from the working folder upwards; None outside of the book's."""
    here = Path.cwd()
    toc = next((p / "_toc.yml" for p in (here, *here.parents) if (p / "_toc.yml").exists()), None)
    return None if toc is None else toc.resolve().parent
