"""Folders of small files, on a disk or, through fsspec, on an object store or another machine.

A file appears whole or not at all. Nothing is ever locked, so nothing that dies can hold a lock: of two
writers of one name the last one wins, and whoever reads sees one or the other, never a mixture. Where
fsspec cannot rename, but copies, a reader may see a part of a file; checksums tell.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from wsnlib.addresses import OBJECT_STORES, located

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*|\.[A-Za-z0-9][A-Za-z0-9._-]*")

TEMPORARY = ".tmp"
"""Ending of files that are being written."""

_READ = ("time", "atime", "accessTime", "last_accessed_on")
"""What fsspec's file systems call the time at which a file was read last."""


def open_folder(place: str | os.PathLike[str]) -> Folder:
    """The folder at a path or an address such as `s3://bucket/records`; nothing is read or made.

    Raises:
        ValueError: If it is neither, or fsspec cannot open addresses of this scheme here.
    """
    where = located(place)
    return LocalFolder(where) if isinstance(where, Path) else RemoteFolder(where)


def is_plain(name: str) -> bool:
    """Whether a name is one that a store gives to a file.

    Examples:
        >>> is_plain("a.json"), is_plain("a (copy).json")
        (True, False)
    """
    return _PLAIN_NAME.fullmatch(name) is not None


def plain_name(name: str) -> str:
    """The name, which must be that of a file in a folder, and lead nowhere else.

    Raises:
        ValueError: If it is a path.

    Examples:
        >>> plain_name("../records")
        Traceback (most recent call last):
        ValueError: the name of a file must be letters, digits, '.', '-' and '_', got '../records'; a path \
is none
    """
    if not is_plain(name):
        raise ValueError(
            f"the name of a file must be letters, digits, '.', '-' and '_', got {name!r}; a path is none"
        )
    return name


class LocalFolder:
    """A folder on a disk, or on a file system that several machines mount.

    Its files have names, which are never paths; `location` says where it is.
    """

    def __init__(self, path: Path) -> None:
        self.location = path

    def __truediv__(self, name: str) -> LocalFolder:
        """A folder in it."""
        return LocalFolder(self.location / plain_name(name))

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self.location / plain_name(name)).is_file()

    def read(self, name: str) -> bytes:
        """A file; FileNotFoundError if there is none."""
        return (self.location / plain_name(name)).read_bytes()

    def read_many(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Those of the files that are there."""
        for name in names:
            with suppress(FileNotFoundError):
                yield name, self.read(name)

    def stamps(self) -> dict[str, str]:
        """Every file, with a word that changes whenever the file is written; empty if there is no folder.

        The word is empty where nothing tells when a file was written.
        """
        found = {}
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.location) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # removed meanwhile
                    about = entry.stat()
                    if not entry.is_dir():
                        found[entry.name] = f"{about.st_ino}.{about.st_size}.{about.st_mtime_ns}"
        return found

    def publish(self, name: str, data: bytes) -> None:
        """Write a file, whole or not at all: under a temporary name, flushed to the disk and renamed."""
        target = self.location / plain_name(name)
        temporary = self.location / f".{name.lstrip('.')}.{uuid.uuid4().hex}{TEMPORARY}"
        self.location.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            with suppress(OSError):  # the first error is the one to report
                temporary.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        (self.location / plain_name(name)).unlink(missing_ok=True)


class RemoteFolder:
    """The same behind any of fsspec's file systems; credentials come from their usual places."""

    def __init__(self, address: str) -> None:
        from fsspec import get_filesystem_class  # a second that a store on a disk need not wait

        try:
            get_filesystem_class(address.partition("://")[0])
        except (ValueError, ImportError) as error:
            raise ValueError(
                f"a store must be at an address that fsspec can open here, got {address!r} ({error}); "
                "install what is missing, or write another scheme"
            ) from error
        self.location = address

    def __truediv__(self, name: str) -> RemoteFolder:
        return RemoteFolder(f"{self.location}/{plain_name(name)}")

    def _path(self, name: str) -> str:
        return f"{_file_system(self.location)[1]}/{plain_name(name)}"

    def has(self, name: str) -> bool:
        with _as_os_errors():
            return bool(_file_system(self.location)[0].exists(self._path(name)))

    def read(self, name: str) -> bytes:
        with _as_os_errors():
            data: bytes = _file_system(self.location)[0].cat_file(self._path(name))
            return data

    def read_many(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        wanted = list(names)
        for start in range(0, len(wanted), 256):
            paths = {self._path(name): name for name in wanted[start : start + 256]}
            with _as_os_errors():
                found = _file_system(self.location)[0].cat(list(paths), on_error="return")
                for path, data in found.items():
                    if isinstance(data, bytes):
                        yield paths[path], data
                    elif not isinstance(data, FileNotFoundError):
                        raise data

    def stamps(self) -> dict[str, str]:
        files, path = _file_system(self.location)
        with _as_os_errors():
            files.invalidate_cache()
            try:
                entries = files.ls(path, detail=True)
            except FileNotFoundError:
                return {}
        return {
            entry["name"].rpartition("/")[2]: _stamp(entry)
            for entry in entries
            if entry["type"] == "file" and entry["name"].rpartition("/")[2]
        }

    def publish(self, name: str, data: bytes) -> None:
        files, path = _file_system(self.location)
        with _as_os_errors():
            if self.location.partition("://")[0] in OBJECT_STORES:
                files.pipe_file(self._path(name), data)
                return
            files.makedirs(path, exist_ok=True)
            temporary = f"{path}/.{name.lstrip('.')}.{uuid.uuid4().hex}{TEMPORARY}"
            try:
                files.pipe_file(temporary, data)
                files.mv(temporary, self._path(name))
            finally:
                with suppress(FileNotFoundError):
                    files.rm_file(temporary)

    def remove(self, name: str) -> None:
        with _as_os_errors(), suppress(FileNotFoundError):
            _file_system(self.location)[0].rm_file(self._path(name))


Folder = LocalFolder | RemoteFolder


def _stamp(entry: dict[str, Any]) -> str:
    """All that a file system tells of a file, but for its name and when it was read."""
    told = sorted(entry.keys() - {"name", "type", *_READ})
    return "" if told in ([], ["size"]) else ".".join(str(entry[key]) for key in told)


@cache
def _file_system(address: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    files, path = url_to_fs(address, use_listings_cache=False)
    return files, path.rstrip("/")


@contextmanager
def _as_os_errors() -> Iterator[None]:
    """Clients of stores have exceptions of their own for what is an OSError everywhere else."""
    try:
        yield
    except (OSError, ValueError):  # a ValueError is a name that is none
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
