"""A bundle: what a machine without a network lacks to make the records of chapters, and the way back.

It is one archive in files of a given size, a manifest, and a program that needs nothing but Python and pip
(`wsnlib.book.engine.offline`): the library, wheels that the machine lacks, packed data, parameter files, and
the records that are there, so that only what is missing is made.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import torch
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from wsnlib import data, specs
from wsnlib.book.engine import offline
from wsnlib.experiments import environment
from wsnlib.store import Store, StoreError

PACKAGE = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What is known of the machine that a bundle is for.

    Args:
        python: Its Python, as in `"3.12"`; by default this one's.
        platforms: Tags of wheels that it takes.
        packages: Lines of its `pip freeze`: what it has is not bundled, and the rest must go with it.
    """

    python: str = f"{sys.version_info.major}.{sys.version_info.minor}"
    platforms: tuple[str, ...] = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
    packages: tuple[str, ...] = ()

    @property
    def versions(self) -> dict[str, str]:
        """Versions of its packages by name, without local labels; empty where none is said."""
        found: dict[str, str] = {}
        for line in self.packages:
            if name := re.match(r"\s*([A-Za-z0-9][\w.-]*)", line):
                version = re.search(r"==\s*([^\s;+]+)", line)
                found[canonicalize_name(name[1])] = version[1] if version else ""
        return found

    @property
    def markers(self) -> dict[str, str]:
        """What requirements may depend on."""
        tag = self.platforms[0]
        machines = ("x86_64", "aarch64", "arm64", "amd64", "")
        return {
            "python_version": self.python,
            "python_full_version": f"{self.python}.0",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
            "sys_platform": "linux" if "linux" in tag else "darwin" if "macos" in tag else "win32",
            "platform_system": "Linux" if "linux" in tag else "Darwin" if "macos" in tag else "Windows",
            "os_name": "nt" if tag.startswith("win") else "posix",
            "platform_machine": next(filter(tag.endswith, machines)),
            "extra": "",
        }


def bundle(
    files: Sequence[Path],
    folder: Path,
    *,
    stages: Iterable[list[specs.Run]],
    store: Store,
    machine: Machine,
    beside: Sequence[Path] = (),
    part_bytes: int = 64 * 2**20,
) -> dict[str, int]:
    """Write a bundle of the runs of parameter files, and return the bytes of each of its contents.

    Args:
        files: Parameter files, in the order in which their runs are made.
        folder: Where it is written; parts of an earlier bundle there are replaced.
        stages: Their runs, as far as they are known: the data that these need are bundled, and their records.
        store: Where records are looked for.
        machine: The machine that it is for.
        beside: Files of your own that the runs need, such as modules of networks.
        part_bytes: Size of its parts at most.

    Raises:
        ValueError: If there is no wheel of a package for that machine, or runs need ImageNet.
        DataError: If data are missing.
    """
    runs = [run for stage in stages for run in stage]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        root = Path(place)
        _code(root / "library")
        _data(root / "data", runs)
        _wheels(root / "wheels", machine)
        (root / "store").mkdir()
        store.export([run for run in runs if run in store], Store(root / "store"))
        placed = ["params/" + "planned/" * (f.resolve().parent.name == "planned") + f.name for f in files]
        for file, name in zip(files, placed, strict=True):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, root / name)
        for file in beside:
            shutil.copyfile(file, root / file.name)
        sizes = {
            each.name: sum(f.stat().st_size for f in (each, *each.rglob("*")) if f.is_file())
            for each in sorted(root.iterdir())
        }
        with offline.tar_in_parts(folder / offline.BUNDLE, part_bytes) as (archive, parts):
            for each in sorted(root.iterdir()):
                archive.add(each, each.name)
    manifest = {
        "python": machine.python,
        "parameters": placed,
        "parts": [{"name": p.name, "bytes": p.stat().st_size, "sha256": offline.sha256(p)} for p in parts],
    }
    (folder / offline.MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    shutil.copyfile(offline.__file__, folder / "run.py")
    return sizes


def import_records(places: Iterable[Path], store: Store) -> tuple[int, int]:
    """Take records from folders or from the parts of archives; how many there were, and how many were new.

    A folder holds records, or the parts of one archive.

    Raises:
        StoreError: If some are damaged; the others have been taken.
        ValueError: If a place is neither a folder nor a part of an archive that is there as a whole.
    """
    there = new = 0
    damaged: list[str] = []
    for source, parts in _sources(places):
        with tempfile.TemporaryDirectory() as folder:
            if parts:
                offline.unpack(parts, Path(folder))
            records = Store(Path(folder) if parts else source)
            whole, bad = records.readable()
            there += len(whole)
            new += records.export(whole, store)
            damaged += [f"{source}: {each}" for each in bad]
    if damaged:
        raise StoreError(
            f"{len(damaged)} records cannot be used, and {new} of the {there} others were new and are taken; "
            f"the first is {damaged[0]}"
        )
    return there, new


def _sources(places: Iterable[Path]) -> Iterator[tuple[Path, list[Path]]]:
    """Folders of records, and folders with the parts of the archive in them that is to be unpacked."""
    archives: dict[tuple[Path, str], list[Path]] = {}
    for place in places:
        files = [place]
        if place.is_dir():
            files = sorted(place.glob(f"{offline.RECORDS}.[0-9]*"))
            if not files:
                yield place, []
        elif not place.is_file():
            raise ValueError(f"records must be a folder or the parts of an archive, got {place}")
        for each in files:
            archives.setdefault((each.parent, each.stem), []).append(each)
    for (folder, name), parts in archives.items():
        parts.sort(key=lambda part: (len(part.name), part.name))  # part 100 after part 11
        numbers = [part.suffix for part in parts]
        if len(parts) > 1 and numbers != [f".{i:02}" for i in range(len(parts))]:
            raise ValueError(
                f"parts of {folder / name} must be .00, .01, …, got {', '.join(numbers[:9])}; bring all"
            )
        yield folder, parts


def _code(folder: Path) -> None:
    """The library as it is here, with its version and commit."""
    shutil.copytree(PACKAGE, folder / "wsnlib", ignore=shutil.ignore_patterns("__pycache__"))
    known = distribution("wsnlib")
    info = folder / f"wsnlib-{known.version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(known.read_text("METADATA") or known.read_text("PKG-INFO") or "")
    (folder / "wsnlib" / "COMMIT").write_text(environment(torch.device("cpu"))["commit"])


def _wheels(folder: Path, machine: Machine) -> None:
    """Wheels of what the library requires and the machine does not have."""
    folder.mkdir()
    needed = _requirements(distribution("wsnlib").requires or (), machine)
    lacking = [str(r) for r in needed if canonicalize_name(r.name) not in machine.versions]
    if not lacking:
        return
    tags = ["--only-binary=:all:", "--implementation=cp", f"--python-version={machine.python}"]
    tags += [f"--platform={tag}" for tag in machine.platforms]
    pins = [f"{name}=={version}" for name, version in machine.versions.items() if version]
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(pins))
    report = _pip(
        "install",
        *("--dry-run", "--ignore-installed", "--quiet", "--report=-", f"--target={folder}"),
        *(f"--constraint={constraints}", *tags, *lacking),
    )
    constraints.unlink()
    found = [item["metadata"] for item in json.loads(report)["install"]]
    chosen: dict[str, Any] = {canonicalize_name(each["name"]): each for each in found}
    wanted = sorted(_closure(lacking, chosen, machine))
    _pip(
        "download",
        *("--no-deps", "--quiet", f"--dest={folder}", *tags),
        *(f"{name}=={chosen[name]['version']}" for name in wanted),
    )


def _requirements(lines: Iterable[str], machine: Machine) -> Iterator[Requirement]:
    for line in lines:
        requirement = Requirement(line)
        marker: Marker | None = requirement.marker
        if marker is None or marker.evaluate(dict(machine.markers)):
            requirement.marker = None
            yield requirement


def _closure(lines: Iterable[str], chosen: dict[str, Any], machine: Machine) -> set[str]:
    """Names of what requirements need that the machine does not have."""
    found: set[str] = set()
    left = list(lines)
    while left:
        name = canonicalize_name(Requirement(left.pop()).name)
        if name not in machine.versions and name not in found:
            found.add(name)
            left += map(str, _requirements(chosen[name].get("requires_dist", ()), machine))
    return found


def _pip(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
        raise ValueError(f"every wheel must be had for that machine, got: {' '.join(last)}")
    return done.stdout


def _data(folder: Path, runs: Iterable[specs.Run]) -> None:
    """The packed files of the data sets that runs name, and folders of photographs as they are."""
    folder.mkdir()
    for spec in sorted({each for run in runs for each in _data_specs(run)}, key=repr):
        if isinstance(spec, specs.ImageNet):
            raise ValueError(
                "data of a bundle must be packed or photographs of your own, got ImageNet, which is 150 GB; "
                "take a parameter file without it"
            )
        if isinstance(spec, specs.Digits):
            continue
        data.load_data(spec)
        yours = spec.name if isinstance(spec, specs.PackedData | specs.ImageFolder) else None
        name = yours or data.KNOWN[type(spec)].name
        photographs = isinstance(spec, specs.ImageFolder)
        source = data.data_root() / (name if photographs else f"{name}.npz")
        if (folder / source.name).exists():
            continue
        if photographs:
            shutil.copytree(source, folder / source.name)
        else:
            shutil.copyfile(source, folder / source.name)


def _data_specs(value: Any) -> Iterator[specs.DataSpec]:
    if isinstance(value, specs.DataSpec):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from _data_specs(getattr(value, field.name))
    elif isinstance(value, tuple):
        for each in value:
            yield from _data_specs(each)
