"""Run the benchmarks and keep what they print as a page of the book.

    python benchmarks/table.py [NAME …]

Every benchmark of this folder, or those named, runs with its own defaults, one after the other; its part
of `book/benchmarks.md` is written anew, with the date, the machine and the versions, and the parts of the
others stay; `conformance` prints a page of its own. Run from the repository root, on a machine with nothing
else to do.
"""

from __future__ import annotations

import argparse
import ast
import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

FOLDER, PAGE = Path("benchmarks"), Path("book/benchmarks.md")
PARTS = ("cka_requirements", "masked", "table", "turns")  # of others
OWN = {"conformance": Path("book/conformance.md")}
HEAD = """# What it costs

Each section is the output of one script in `benchmarks/`. The implementations that are compared alternate
within one run, so that ratios are meaningful even though seconds depend on the machine. `make bench`
repeats all measurements.

*a / b* is the ratio of two times: above 1, *a* is slower. Next to it are the smallest and the largest ratio
over the repetitions (in brackets), the target (*at least*, *at most*), and both median times. Cost as a
function of width is measured in `mlp` (one hidden layer) and `sparse` (ResNet-18, layer by layer), as a
function of the number of networks in `mlp` and `joint_resnets`, of layers and images in `cka`, and of the
number of runs in `sweeps`.
"""
TARGET = re.compile(
    r"(?m)^(?P<what>.+?)[:,]?  *(?P<found>[\d.]+)(?: +\[.*?\])?,? +"
    r"(?P<way>at least|at most) (?P<target>[\d.]+)"
)
"""A line of a ratio, or of another number, and what it is to be."""


def names() -> list[str]:
    """Every benchmark, by name."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in PARTS)


def title(name: str) -> str:
    """The first line of a benchmark's docstring."""
    docstring = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text())) or name
    return docstring.splitlines()[0].rstrip(".")


def words(name: str) -> str:
    """What a benchmark's docstring says after its title and how it is called."""
    docstring = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text())) or name
    _, *rest = docstring.split("\n\n")
    return "\n\n".join(paragraph for paragraph in rest if not paragraph.startswith("    "))


def with_words(part: str, name: str) -> str:
    """A part of the page with what its benchmark's docstring says now, whenever it was measured."""
    before, printed = part.split("```text\n", 1)
    head, measured, *_ = before.split("\n\n")
    return "\n\n".join([head, measured, *filter(None, [words(name)]), f"```text\n{printed}"])


def machine() -> str:
    """Processor, cores and versions; no host name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.machine()
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("torch", "numpy")]
    return f"{processor}, {os.cpu_count()} cores, Python {platform.python_version()}, {', '.join(versions)}"


def measure(name: str) -> str:
    """The part of the page that a benchmark makes, or its own page."""
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py")], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        page = OWN.get(name, PAGE)
        sys.exit(f"benchmarks/{name}.py ended with {done.returncode}; its part of {page} stays as it was")
    date = datetime.date.today().isoformat()
    head = f"# {title(name)}\n\n`benchmarks/{name}.py`, {date}; {machine()}\n\n"
    if name in OWN:
        return f"{head}{done.stdout.rstrip()}\n"
    return f"#{head}```text\n{done.stdout.rstrip()}\n```\n"


def parts(page: str) -> dict[str, str]:
    """The parts of a page by the name of their benchmark."""
    found = re.split(r"(?m)^(?=## )", page)[1:]
    return {re.findall(r"`benchmarks/(\w+)\.py`", part)[0]: part.rstrip() + "\n" for part in found}


def missed(parts: dict[str, str]) -> str:
    """Which of the numbers in parts of the page are not what they are to be; empty if none."""
    lines = [
        f"- `{name}`: {each['what'].strip()}: {each['found']}, {each['way']} {each['target']}\n"
        for name, part in sorted(parts.items())
        for each in TARGET.finditer(part)
        if (float(each["found"]) - float(each["target"])) * (-1 if each["way"] == "at least" else 1) > 0
    ]
    return "These targets are missed:\n\n" + "".join(lines) if lines else ""


def page(parts: dict[str, str]) -> str:
    """The page of all parts, with what their benchmarks say now."""
    return "\n".join(
        [*filter(None, [HEAD, missed(parts)]), *(with_words(parts[name], name) for name in sorted(parts))]
    )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names())}; by default all")
    asked = parser.parse_args().names or names()
    if unknown := set(asked) - set(names()):
        parser.error(
            f"a benchmark must be one of {', '.join(names())}, got {', '.join(map(repr, sorted(unknown)))}"
        )
    for name in asked:
        print(f"benchmarks/{name}.py …", flush=True)
        made = measure(name)
        if name in OWN:
            OWN[name].write_text(made)
            continue
        found = parts(PAGE.read_text()) if PAGE.exists() else {}
        found[name] = made
        PAGE.write_text(page(found))


if __name__ == "__main__":
    main()
