"""Where a run runs: device, threads, and what a record says of them."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

import wsnlib
from wsnlib.timings import cpu_name


def resolve_device(device: str = "auto") -> torch.device:
    """`"auto"` is the first GPU if there is one, else the CPU."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        resolved = torch.device(device)
        if resolved.type not in ("cpu", "cuda"):
            raise RuntimeError
    except RuntimeError:
        raise ValueError(
            f"device must be 'auto', 'cpu', 'cuda' or a GPU such as 'cuda:1', got {device!r}; change it"
        ) from None
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device must be 'cpu' or 'auto' where there is no CUDA device, got {device!r}; change it"
        )
    if resolved.type == "cuda" and (resolved.index or 0) >= (gpus := torch.cuda.device_count()):
        raise ValueError(
            f"device must be below 'cuda:{gpus}', as many GPUs as are here, got {device!r}; change it"
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


class Numerics(NamedTuple):
    """How torch computes in float32 in this process; other processes of a sweep are told.

    Args:
        deterministic: Mode of `torch.set_deterministic_debug_mode`.
        convolutions: On a GPU, `"tf32"`, torch's default, or `"ieee"`.
        products: The same of products of matrices, by default `"ieee"`.
        chosen_by_time: `torch.backends.cudnn.benchmark`.
        same_bits: `torch.backends.cudnn.deterministic`.
    """

    deterministic: int
    convolutions: str
    products: str
    chosen_by_time: bool = False
    same_bits: bool = False
    cpu_convolutions: str = "ieee"
    """On a CPU, or `"tf32"` or `"bf16"`, as by `torch.set_float32_matmul_precision`; so the next."""
    cpu_products: str = "ieee"


def numerics() -> Numerics:
    """How this process computes.

    Examples:
        >>> numerics()[:3]
        (0, 'tf32', 'ieee')
    """
    backends: Any = torch.backends
    units = backends.cudnn.conv, backends.cuda.matmul, backends.mkldnn.conv, backends.mkldnn.matmul
    convolutions, products, *on_cpu = (unit.fp32_precision.replace("none", "ieee") for unit in units)
    return Numerics(
        torch.get_deterministic_debug_mode(),
        convolutions,
        products,
        backends.cudnn.benchmark,
        backends.cudnn.deterministic,
        *on_cpu,
    )


def set_numerics(computing: Numerics) -> None:
    """Compute as another process does."""
    torch.set_deterministic_debug_mode(computing.deterministic)
    backends: Any = torch.backends
    if computing.convolutions != numerics().convolutions:
        backends.cudnn.allow_tf32 = computing.convolutions == "tf32"  # of recurrent layers, too
    if computing.products != numerics().products:
        backends.cuda.matmul.allow_tf32 = computing.products == "tf32"
    if computing[-2:] != numerics()[-2:]:
        backends.mkldnn.conv.fp32_precision, backends.mkldnn.matmul.fp32_precision = computing[-2:]
    backends.cudnn.benchmark, backends.cudnn.deterministic = computing.chosen_by_time, computing.same_bits


def environment(device: torch.device) -> dict[str, str]:
    """Versions, commit and device name, for a record; no path and no host name.

    Also the precision in which float32 is multiplied: of a GPU, by default TF32 in convolutions, and of a CPU
    that was told to take less than float32.
    """
    on_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_gpu else cpu_name()
    computing = numerics()
    units = computing[1:3] if on_gpu else computing[-2:]
    precision = dict(zip(("float32_convolutions", "float32_products"), units, strict=True))
    return (precision if on_gpu or set(units) != {"ieee"} else {}) | {
        "wsnlib": wsnlib.__version__,
        "commit": _COMMIT,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "device": f"{device.type}: {name}",
        "cpu_count": str(os.cpu_count()),
    }


def _commit() -> str:
    """The commit of the library's own working tree or, in a bundle, of the one that it was taken from.

    "+" if the library was changed since; "unknown" if no commit holds it, as in an environment.
    """
    package = Path(__file__).parents[1]
    if (bundled := package / "COMMIT").exists():
        return bundled.read_text()
    try:
        _git(package, "ls-files", "--error-unmatch", "__init__.py")  # else it lies in another project's tree
        head = _git(package, "rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git(package, "status", "--porcelain", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(folder: Path, *words: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(folder), *words]  # somebody may be committing
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()


_COMMIT = _commit()  # before the work, during which somebody may commit
