"""Where things lie: one reading of paths and addresses for stores, data, checkpoints and the command line.

Nothing is looked up: what a text means does not depend on what is there.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from urllib.parse import unquote

_ADDRESS = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+):(/*)(.*)", re.DOTALL)

OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory")
"""Schemes that a bucket follows, whose files appear when they were written to the end."""

_LOCAL = ("file", "local")


def located(place: str | os.PathLike[str]) -> Path | str:
    """The path on this machine, or the address elsewhere, that is meant by a text or a path.

    `~` is the home folder. Schemes may be in capitals; the slash that pathlib takes from an address of an
    object store is put back; `file:///folder` is a path.

    Returns:
        An absolute path, or `scheme://…` without a slash at its end.

    Raises:
        ValueError: If it is neither, with what to write instead.

    Examples:
        >>> located(Path("s3://bucket/records")), located("S3://bucket//records/")
        ('s3://bucket/records', 's3://bucket/records')
        >>> located("file:///tmp/my%20records")
        PosixPath('/tmp/my records')
        >>> located("file://records")
        Traceback (most recent call last):
        ValueError: an address of a file must be file:///folder, got 'file://records'; leave out the scheme
    """
    text = os.fspath(place)
    if not isinstance(text, str) or not text or text != text.strip():
        raise _refused(text, "write it as text without spaces around it")
    if os.sep == "/" and ("\\" in text or re.match(r"[a-zA-Z]:", text)):
        raise _refused(text, "write a folder of this machine, with slashes")
    if text.startswith("$"):
        raise _refused(text, "write out what the variable holds")
    found = _ADDRESS.fullmatch(text)
    scheme = found[1].lower() if found else ""
    if found is None or not (found[2] or scheme in (*_LOCAL, *OBJECT_STORES) or "://" in text):
        path = os.path.expanduser(text)
        if path.startswith("~"):
            raise _refused(text, "nobody of that name has a home folder here")
        return Path(path).absolute()
    slashes, rest = found[2], found[3]
    if scheme in _LOCAL:
        return _local_path(text, slashes, rest)
    if scheme in OBJECT_STORES and slashes:
        slashes, rest = "//", re.sub("/+", "/", rest)
    rest = rest.rstrip("/")
    if not rest or {".", ".."} & set(rest.split("/")) or "::" in text or "://" in rest:
        raise _refused(text, "write one scheme, one bucket or machine, then plain names")
    if len(slashes) < 2:
        raise _refused(text, f"write '{scheme}://', as text (pathlib takes a slash away)")
    return f"{scheme}:{slashes}{rest}"


def _local_path(text: str, slashes: str, rest: str) -> Path:
    host, _, path = rest.partition("/") if len(slashes) == 2 else ("", "", rest)
    if len(slashes) < 2 or host not in ("", "localhost"):  # pathlib takes a slash; a host becomes a folder
        raise ValueError(f"an address of a file must be file:///folder, got {text!r}; leave out the scheme")
    return Path("/" + unquote(path))


def _refused(text: object, advice: str) -> ValueError:
    return ValueError(
        f"a place must be a folder or an address such as s3://bucket/records, got {text!r}; {advice}"
    )


def local_path(place: str | os.PathLike[str], *, what: str) -> Path:
    """The path that is meant, of what has to lie on a file system of this machine.

    Args:
        place: As in `located`.
        what: What lies there, for the refusal.

    Raises:
        ValueError: If it is none, or an address elsewhere.

    Examples:
        >>> local_path("s3://bucket/data", what="the data root")
        Traceback (most recent call last):
        ValueError: the data root must be on this machine, got 's3://bucket/data'; mount it, or copy it here
    """
    found = located(place)
    if isinstance(found, str):
        raise ValueError(f"{what} must be on this machine, got {found!r}; mount it, or copy it here")
    return found


def import_beside(folder: str) -> None:
    """Have Python find the modules in a folder, before installed ones and after its own, as in a notebook.

    Examples:
        >>> before = sys.path.copy()
        >>> import_beside("/networks")
        >>> set(sys.path) - set(before)
        {'/networks'}
        >>> sys.path[:] = before
    """
    if folder not in sys.path:
        installed = (i for i, path in enumerate(sys.path) if Path(path).name.endswith("-packages"))
        sys.path.insert(next(installed, 0), folder)
