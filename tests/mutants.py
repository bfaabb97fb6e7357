"""How many changes of the code do the tests notice? Needs mutmut: `pip install --group mutants`.

    python tests/mutants.py                     every area, a random sample of 150 mutants each
    python tests/mutants.py masks --sample 0    all mutants of one area
    python tests/mutants.py --write             … and the table into book/reliability.md

Works on a copy of the tracked files in `_build/mutants/AREA`, where `mutmut results` lists the survivors
and `mutmut show NAME` shows one; a second call goes on where the first was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

FOLDER = Path("_build/mutants")
SEED = 0


class Area(NamedTuple):
    """Code whose mutants are tried, and the tests that are to notice them."""

    code: tuple[str, ...]
    tests: tuple[str, ...]


AREAS = {
    "masks": Area(("wsnlib/masks/*",), ("test_masks.py", "test_refusals.py")),
    "widening": Area(("wsnlib/widening.py",), ("test_widening.py", "test_refusals.py")),
    "sparse": Area(("wsnlib/sparse/*",), ("test_sparse.py", "test_refusals.py")),
    "similarity": Area(("wsnlib/similarity/*",), ("test_similarity.py",)),
    "store": Area(("wsnlib/store/*",), ("test_store.py", "test_tables.py")),
    "specs": Area(("wsnlib/specs/*",), ("test_specs.py", "test_refusals.py")),
    "verdicts": Area(("wsnlib/book/engine/rule.py",), ("test_rule.py", "test_claims.py")),
}
TRACED = "not compiled and not export and not fullgraph"
"""torch.compile and torch.export do not go through the switch that mutmut puts into every function."""

SETTINGS = """
[tool.mutmut]
source_paths = ["wsnlib"]
only_mutate = {code}
also_copy = ["params", "records", "book", "benchmarks", "README.md", "CONTRIBUTING.md", "Makefile", "constraints.txt", "environment.yml"]
pytest_add_cli_args_test_selection = {tests}
pytest_add_cli_args = ["-q", "-x", "-p", "no:cacheprovider", "-k", "{traced}"]
process_isolation = "forkserver"
"""
KILLED = {1, 3, -24, 24, 36, 152, 255}  # a test fails, pytest breaks off, or the mutant runs out of time


def copy(area: Area, folder: Path) -> None:
    """The tracked files, with mutmut's settings for this area."""
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout
    for name in filter(os.path.exists, tracked.splitlines()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(name, folder / name)
    tests = [str(path) for pattern in area.tests for path in sorted(Path("tests").glob(pattern))]
    documented = [
        str(path) for pattern in area.code for path in sorted(Path().glob(pattern)) if path.suffix == ".py"
    ]
    values = SETTINGS.format(code=json.dumps(area.code), tests=json.dumps(tests + documented), traced=TRACED)
    with (folder / "pyproject.toml").open("a") as file:
        file.write(values)


def mutmut(folder: Path, *names: str) -> None:
    """Try mutants by name; without a name only generate them."""
    subprocess.run(
        [sys.executable, "-m", "mutmut", "run", *(names or ("none",))],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
        stdout=(folder / "log").open("a"), stderr=subprocess.STDOUT,
    )


def outcomes(folder: Path) -> dict[str, int | None]:
    """The exit code of the tests under each mutant; None where it was not tried."""
    found: dict[str, int | None] = {}
    for path in sorted(folder.glob("mutants/wsnlib/**/*.meta")):
        found |= json.loads(path.read_text())["exit_code_by_key"]
    return found


def tried(name: str, *, sample: int) -> str:
    """A row of the table: how many of an area's mutants were killed."""
    folder = FOLDER / name
    if not (folder / "pyproject.toml").exists():
        copy(AREAS[name], folder)
        mutmut(folder)
    every = sorted(outcomes(folder))
    chosen = random.Random(SEED).sample(every, min(sample or len(every), len(every)))
    left = [mutant for mutant in chosen if outcomes(folder)[mutant] is None]
    for start in range(0, len(left), 50):
        mutmut(folder, *left[start : start + 50])
    codes = outcomes(folder)
    survivors = [mutant for mutant in chosen if codes[mutant] not in KILLED]
    for mutant in sorted(survivors):
        print(mutant, codes[mutant], file=sys.stderr)
    killed = len(chosen) - len(survivors)
    return f"| {name} | {len(every)} | {len(chosen)} | {killed} | {100 * killed / len(chosen):.0f} % |"


def main() -> None:
    """Read the command line and print the table, row by row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("areas", nargs="*", metavar="area", help=f"of {', '.join(AREAS)}; all of them")
    parser.add_argument("--sample", type=int, default=150, help="mutants drawn of each area; 0 for all")
    given = parser.parse_args()
    if unknown := set(given.areas) - set(AREAS):
        parser.error(f"area must be one of {', '.join(AREAS)}, got {min(unknown)}")
    print("| code | mutants | tried | killed | |\n|---|---|---|---|---|", flush=True)
    for name in given.areas or AREAS:
        print(tried(name, sample=given.sample), flush=True)


if __name__ == "__main__":
    main()
