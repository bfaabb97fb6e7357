"""Resize ImageNet so that the smaller side of every image is 256 pixels (G21, A.1), or check it.

    python -m wsnlib.data.prepare_imagenet SOURCE DEST [--size 256] [--quality 95] [--workers N]
    python -m wsnlib.data.prepare_imagenet SOURCE

SOURCE is torchvision's folder (`train/<synset>/*.JPEG`, `val/<synset>/*.JPEG`), DEST becomes one of
the same file names: RGB, proportions kept, JPEG of quality 95 with full colour resolution. Name it
`imagenet` in the data root. Smaller images grow; what a file holds is found in its content, so
that PNG and CMYK under the name .JPEG become plain JPEG; EXIF's orientation is ignored, as it is by
torchvision, and not copied.

Every image is written under a temporary name and renamed. A run that was interrupted, however hard,
goes on where it stopped when it is started again. Images that cannot be read are left out, counted
and named in DEST/damaged.txt, the others are done, and the exit status is 1; as long as that file
is there, DEST is refused for training. Without DEST, every image is read and nothing is written.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch.utils.data import DataLoader
from torch.utils.data import Dataset as Items
from torchvision.transforms.v2 import functional
from tqdm import tqdm

from wsnlib.data.imagenet import DAMAGED, Files, list_folder
from wsnlib.data.images import read_image
from wsnlib.data.splits import DataError
from wsnlib.data.streaming import usable_cpus

if TYPE_CHECKING:
    from PIL.Image import Image

SETTINGS = "prepared.json"
PARTS = ".parts"
CHUNK = 16
"""Images that a process takes at a time."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command: 0 if every image was read, 1 if some cannot be, 2 if it could not go on."""
    summary, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m wsnlib.data.prepare_imagenet",
        description=summary,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, help="folder with train/<synset> and val/<synset>")
    parser.add_argument("dest", type=Path, nargs="?", help="folder to be made; without it, only check")
    parser.add_argument("--size", type=int, default=256, help="smaller side in pixels")
    parser.add_argument("--quality", type=int, default=95, help="of the JPEGs, 1 to 95")
    parser.add_argument("--workers", type=int, default=usable_cpus(), help="processes")
    given = parser.parse_args(arguments)
    for name, least, most in (("size", 1, 2**15), ("quality", 1, 95), ("workers", 0, 2**10)):
        value = getattr(given, name)
        if not least <= value <= most:
            parser.error(f"--{name} must be an integer of {least} to {most}, got {value}")
    try:
        if given.dest is None:
            damaged = check(given.source, workers=given.workers)
        else:
            damaged = prepare(
                given.source, given.dest, size=given.size, quality=given.quality, workers=given.workers
            )
    except (DataError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    for line in damaged:
        print(line, file=sys.stderr)
    if damaged:
        print(f"{len(damaged)} image(s) of {given.source} cannot be read", file=sys.stderr)
    return 1 if damaged else 0


def check(source: Path, *, workers: int = 0) -> list[str]:
    """Read every image; for each that cannot be read its name, a tab, and why."""
    found = list_folder(source)
    return [line for files in (found.train, found.val) for line in _work(files, None, workers)]


def prepare(source: Path, dest: Path, *, size: int = 256, quality: int = 95, workers: int = 0) -> list[str]:
    """Write every image of a folder into another, its smaller side resized; what is there is kept.

    Args:
        source: torchvision's folder.
        dest: Folder for the images, under the same names.
        size: Smaller side, in pixels.
        quality: Quality of the JPEGs, 1 to 95.
        workers: Processes; 0 works in this one.

    Returns:
        For each image that cannot be read its name, a tab, and why.

    Raises:
        DataError: If the source is no such folder, or there is something else at the destination.
    """
    started = time.time()
    source, dest = source.resolve(), dest.resolve()
    if dest == source or source in dest.parents:
        raise DataError(f"dest must lie outside of {source}, got {dest}; give another folder")
    found = list_folder(source)
    _settle(dest, {"size": size, "quality": quality})
    parts = dest / PARTS
    damaged = []
    own = uuid.uuid4().hex
    try:
        for files in (found.train, found.val):
            save = _Saving(dest / files.folder.name, parts / own, size, quality)
            damaged += _work(files, save, workers)
    finally:  # what processes had begun when another one failed, or when they were killed
        for part in parts.iterdir():
            with suppress(FileNotFoundError):
                if part.name.startswith(own) or part.stat().st_mtime < started:  # another run's are newer
                    part.unlink()
    if (source / "meta.bin").exists():
        _replace(parts, dest / "meta.bin", (source / "meta.bin").read_bytes())
    if damaged:
        _replace(parts, dest / DAMAGED, os.fsencode("".join(f"{line}\n" for line in damaged)))
    else:
        (dest / DAMAGED).unlink(missing_ok=True)
    with suppress(OSError):  # another run's parts are there
        parts.rmdir()
    return damaged


def _settle(dest: Path, settings: dict[str, int]) -> None:
    """Make the destination, or go on with one that was made with the same settings."""
    file = dest / SETTINGS
    if file.exists():
        before = json.loads(file.read_text())
        if before != settings:
            raise DataError(f"{dest} was prepared with {before}; {settings} needs another folder")
    elif dest.exists() and any(path.name != PARTS for path in dest.iterdir()):
        raise DataError(
            f"{dest} must be a new folder, or one prepared before, got one with something else in it; give "
            "another"
        )
    (dest / PARTS).mkdir(parents=True, exist_ok=True)
    _replace(dest / PARTS, file, json.dumps(settings).encode())


def _replace(parts: Path, path: Path, content: bytes) -> None:
    part = parts / uuid.uuid4().hex
    part.write_bytes(content)
    os.replace(part, path)


@dataclass(frozen=True)
class _Saving:
    """Where and how images are saved: in the split's `folder`; until they are whole, at `part` and a name."""

    folder: Path
    part: Path
    size: int
    quality: int

    def __call__(self, image: Image, name: str) -> None:
        part, path = self.part.with_name(self.part.name + uuid.uuid4().hex), self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            resized = functional.resize(image, [self.size])
            resized.save(part, format="JPEG", quality=self.quality, subsampling=0)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


class _Images(Items[tuple[int, list[str], OSError | None]]):
    """Images of several positions, read and saved: how many, a line for each damaged one, what failed."""

    def __init__(self, files: Files, save: _Saving | None) -> None:
        self.files, self.save = files, save

    def __getitem__(self, positions: Sequence[int]) -> tuple[int, list[str], OSError | None]:
        damaged: list[str] = []
        for position in positions:
            path = self.files.path(position)
            name = path.relative_to(self.files.folder)
            try:
                image = read_image(path)
            except DataError as error:
                reason = " ".join(str(error.__cause__).split())
                damaged.append(f"{self.files.folder.name}/{name}\t{reason}")
                continue
            try:
                if self.save is not None:
                    self.save(image, str(name))
            except OSError as error:
                return 0, damaged, error
        return len(positions), damaged, None


def _work(files: Files, save: _Saving | None, workers: int) -> list[str]:
    """Go through the files that are left, with a progress bar; a line for each damaged one."""
    total, made = len(files.names), None if save is None else files._replace(folder=save.folder)
    left = [i for i in range(total) if made is None or not made.path(i).exists()]
    chunks = [left[start : start + CHUNK] for start in range(0, len(left), CHUNK)]
    # the loader's processes end when this one is killed
    loader = DataLoader(
        _Images(files, save), batch_size=None, sampler=chunks, num_workers=min(workers, len(chunks))
    )
    damaged, failed = [], None
    with tqdm(total=total, initial=total - len(left), desc=files.folder.name, unit="image") as bar:
        for count, lines, failed in loader:
            bar.update(count)
            damaged += lines
            if failed is not None:
                break  # which ends the other processes, before this one removes what they had begun
    if failed is not None:
        raise failed
    return damaged


if __name__ == "__main__":
    sys.exit(main())
