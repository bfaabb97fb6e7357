"""Where a run runs: device, threads, and what a record says of them."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

import wsnlib
from wsnlib.timings import cpu_name


def resolve_device(device: str = "auto") -> torch.device:
    """`"auto"` is the first GPU if there is one, else the CPU."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    resolved = torch.device(device)
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device must be 'cpu' or 'auto' where there is no CUDA device, got {device!r}; change it"
        )
    return resolved


@contextmanager
def float32() -> Iterator[None]:
    """Within it, new tensors are float32 whatever the default is: a record follows from its spec alone."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def environment(device: torch.device) -> dict[str, str]:
    """Versions, commit and device name, for a record; no path and no host name.

    Of a GPU also the precision in which it multiplies in float32 convolutions, which is TF32 by default.
    """
    on_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_gpu else cpu_name()
    conv = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    return ({"float32_convolutions": conv.fp32_precision} if on_gpu else {}) | {
        "wsnlib": wsnlib.__version__,
        "commit": _COMMIT,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "device": f"{device.type}: {name}",
        "cpu_count": str(os.cpu_count()),
    }


def _commit() -> str:
    """The commit of the working tree that the library lies in or, in a bundle, was taken from.

    "+" if the library was changed since.
    """
    package = Path(__file__).parents[1]
    if (bundled := package / "COMMIT").exists():
        return bundled.read_text()
    try:
        git = ["git", "--no-optional-locks", "-C", str(package)]  # somebody may be committing
        head = subprocess.run(
            [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, check=True, text=True
        )
        diff = subprocess.run(
            [*git, "status", "--porcelain", "."], capture_output=True, check=True, text=True
        )
        return head.stdout.strip() + ("+" if diff.stdout.strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


_COMMIT = _commit()  # before the work, during which somebody may commit
