"""Runs a bundle on a machine without a network: this file lies beside the parts that `wsn bundle` wrote.

    python run.py                          unpack, make the runs, pack their records
    python run.py --minutes 9              the same, stopped in time; the same command goes on

Parts may come one after the other, and be gone at the next call: they are kept in the working folder until
all are there. What was trained is kept there, too. Only Python's own library is needed to begin. Options that
it does not know, such as --workers 4, are those of `wsn run`.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

MANIFEST = "bundle.json"
BUNDLE = "bundle.tar"
RECORDS = "records.tar"
STOPPING = 30
"""Seconds in which a sweep that is told to stop may end."""


class _Parts(io.RawIOBase):
    """A file that is written as numbered files of a given size."""

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size, self.left = path, size, 0
        self.files: list[Path] = []
        self.file: BinaryIO | None = None

    def write(self, data) -> int:  # type: ignore[no-untyped-def]
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            if self.left == 0:
                self._next()
            assert self.file is not None
            written = self.file.write(view[done : done + self.left])
            done, self.left = done + written, self.left - written
        return done

    def _next(self) -> None:
        if self.file is not None:
            self.file.close()
        self.files.append(self.path.with_name(f"{self.path.name}.{len(self.files):02}"))
        self.file, self.left = self.files[-1].open("wb"), self.size

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
        super().close()


class _Joined(io.RawIOBase):
    """Files read as one."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths, self.file = list(paths), io.BytesIO()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        while not (count := self.file.readinto(buffer)) and self.paths:
            self.file.close()
            self.file = self.paths.pop(0).open("rb")  # type: ignore[assignment]
        return count

    def close(self) -> None:
        self.file.close()
        super().close()


@contextmanager
def tar_in_parts(path: Path, size: int) -> Iterator[tuple[tarfile.TarFile, list[Path]]]:
    """A new archive in files `path.00`, `path.01`, … of `size` bytes at most, and the list that they join.

    Those that were there before are removed.
    """
    for old in path.parent.glob(f"{path.name}.[0-9]*"):
        old.unlink()
    parts = _Parts(path, size)
    with parts, tarfile.open(fileobj=parts, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        yield archive, parts.files


def unpack(paths: list[Path], folder: Path) -> None:
    """Unpack the parts of an archive; names that lead out of the folder, links and devices are refused."""
    with io.BufferedReader(_Joined(paths)) as file, tarfile.open(fileobj=file, mode="r|") as archive:
        archive.extractall(folder, filter="data")


def sha256(path: Path) -> str:
    """The checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(arguments: list[str] | None = None) -> int:
    """Return 0 if all runs are made, 1 if not, 2 if a part is damaged, 3 if parts are missing."""
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=here / "work", help="where all is unpacked and kept")
    parser.add_argument("--to", type=Path, default=here / "made", help="where the records are packed")
    parser.add_argument("--minutes", type=float, help="after which the sweep is stopped and packed")
    parser.add_argument("--part-mb", type=float, default=64.0, help="size of the parts of the records")
    parser.add_argument("--only", action="append", metavar="FILE", help="parameter file; by default all")
    given, options = parser.parse_known_args(arguments)
    manifest = json.loads((here / MANIFEST).read_text())
    work = given.work.resolve()
    if code := _unpack(here, work, manifest["parts"]):
        return code
    done = _sweep(work, given.only or manifest["parameters"], options, given.minutes)
    given.to.mkdir(parents=True, exist_ok=True)
    with tar_in_parts(given.to / RECORDS, int(given.part_mb * 2**20)) as (archive, files):
        records = sorted((work / "store").glob("*.json"))
        for record in records:
            archive.add(record, record.name)
        archive.add(work / "log", "log")
    print(f"{len(records)} records in {len(files)} file(s) {given.to / RECORDS}.*", flush=True)
    return int(not done)


def _unpack(here: Path, work: Path, parts: list[dict[str, str | int]]) -> int:
    """Unpack this bundle over an earlier one, whose records stay, once all parts are there: 0, or why not."""
    wanted, unpacked = json.dumps(parts), work / "unpacked"
    if unpacked.exists() and unpacked.read_text() == wanted:
        return 0
    (work / "parts").mkdir(parents=True, exist_ok=True)
    there: list[Path] = []
    missing: list[Path] = []
    for part in parts:
        name = str(part["name"])
        kept, came = work / "parts" / name, here / name
        whole = kept.exists() and sha256(kept) == part["sha256"]
        if came.exists() and not whole:
            shutil.copyfile(came, kept)
            if sha256(kept) != part["sha256"]:
                print(f"{came} is damaged; copy it again", file=sys.stderr)
                return 2
            whole = True
        (there if whole else missing).append(kept)
    if missing:
        print(f"{len(there)} of {len(parts)} parts are there; bring {', '.join(p.name for p in missing)}")
        return 3
    for name in ("library", "wheels", "site"):
        shutil.rmtree(work / name, ignore_errors=True)
    unpack(there, work)
    wheels = sorted(map(str, (work / "wheels").glob("*.whl")))
    if wheels:
        words = ["--no-index", "--no-deps", "--no-compile", "--disable-pip-version-check", "--quiet"]
        site = str(work / "site")
        subprocess.run(
            [sys.executable, "-m", "pip", "install", *words, "--target", site, *wheels], check=True
        )
    for kept in there:
        kept.unlink()
    unpacked.write_text(wanted)
    return 0


def _sweep(work: Path, files: list[str], options: list[str], minutes: float | None) -> bool:
    """Make the runs, at most for so long; whether all are made."""
    places = {"WSN_DATA": str(work / "data"), "WSN_STORE": str(work / "store"), "PYTHONUNBUFFERED": "1"}
    path = [str(work / "site"), str(work / "library"), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-m", "wsnlib.cli", "run", *files, *options]
    with (work / "log").open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=work,
            env=os.environ | places | {"PYTHONPATH": os.pathsep.join(path)},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(None if minutes is None else 60 * minutes)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOPPING)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    print((work / "log").read_text(errors="replace")[-2000:], flush=True)
    return process.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
