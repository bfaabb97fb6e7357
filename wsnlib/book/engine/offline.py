"""Runs a bundle on a machine without a network: this file lies beside the parts that `wsn bundle` wrote.

    python run.py                          unpack, make the runs, pack their records
    python run.py --minutes 9              the same, stopped in time; the same command goes on

Parts may come one after the other, and be gone at the next call: they are kept in the working folder until
all are there. What was trained is kept there, too. Python with pip is all that is needed to begin. Options
that it does not know, such as --workers 4, are those of `wsn run`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

MANIFEST = "bundle.json"
BUNDLE = "bundle.tar"
RECORDS = "records.tar"
STOPPING = 30
"""Seconds in which a sweep that is told to stop may end."""


@contextmanager
def tar_in_parts(path: Path, size: int) -> Iterator[tuple[tarfile.TarFile, list[Path]]]:
    """An archive in files `path.00`, `path.01`, … of `size` bytes at most, and their list, filled in the end.

    Those that were there before are removed.
    """
    for old in path.parent.glob(f"{path.name}.[0-9]*"):
        old.unlink()
    parts: list[Path] = []
    try:
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
            yield archive, parts
        with path.open("rb") as whole:
            while piece := whole.read(size):
                parts.append(path.with_name(f"{path.name}.{len(parts):02}"))
                parts[-1].write_bytes(piece)
    finally:
        path.unlink(missing_ok=True)


def unpack(paths: list[Path], folder: Path) -> None:
    """Unpack the parts of an archive; names that lead out of the folder, links and devices are refused.

    Raises:
        ValueError: If they are not all of one archive.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as whole:
        for path in paths:
            with path.open("rb") as part:
                shutil.copyfileobj(part, whole)
        end = whole.tell()
        whole.seek(max(0, end - 1024))
        if whole.read() != bytes(1024):
            raise ValueError(f"{paths[0].parent} must hold all parts of an archive, got one without its end")
        whole.seek(0)
        try:
            with tarfile.open(fileobj=whole) as archive:
                for each in archive:
                    inside = (folder / each.name).resolve().is_relative_to(folder.resolve())
                    if not inside or not (each.isfile() or each.isdir()):
                        raise ValueError(f"an archive must hold files and folders alone, got {each.name}")
                archive.extraction_filter = getattr(tarfile, "data_filter", None)  # from Python 3.11.4 on
                archive.extractall(folder)
        except tarfile.ReadError as error:
            raise ValueError(
                f"{paths[0]} must be part of an archive, got something else; bring it"
            ) from error


def sha256(path: Path) -> str:
    """The checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(arguments: list[str] | None = None) -> int:
    """Return 0 if all runs are made, 1 if not, 2 if a part is damaged, 3 if parts are missing.

    With another Python than the bundle's, or without pip, it ends with 2.
    """
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
    python = ".".join(map(str, sys.version_info[:2]))
    if python != manifest["python"]:
        parser.error(f"Python must be {manifest['python']}, as in the bundle, got {python}; run it with that")
    if find_spec("pip") is None:
        parser.error(f"{sys.executable} must have pip, got none; install it, or take an environment with it")
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
        # what the shell starts in the background ignores interrupts, and so would what it starts
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for ending in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
            signal.signal(ending, lambda number, _: sys.exit(128 + number))  # the sweep ends, too
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
