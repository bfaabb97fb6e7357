"""How many changes of the code do the tests notice? Needs mutmut: `pip install --group mutants`.

    python tests/mutants.py                     every area, a random sample of 150 mutants each
    python tests/mutants.py masks --sample 0    all mutants of one area
    python book/pages.py mutants                the table on the page, of what book/mutants.json holds

Writes what it found into `book/mutants.json`, survivors with their change. Works on a copy of the tracked files in
`_build/mutants/AREA`, where `mutmut show NAME` shows a mutant. A second call goes on where the first was stopped:
delete the folder when the code has changed. `book/mutants_left.toml` says why a survivor is left; one that no test could
notice, as it computes the same, is *equivalent* there and not counted.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path("_build/mutants")
RECORD, REASONS = Path("book/mutants.json"), Path("book/mutants_left.toml")
SEED = 0


class Area(NamedTuple):
    """Code whose mutants are tried, and the tests that are to notice them."""

    code: tuple[str, ...]
    tests: tuple[str, ...]


AREAS = {
    "masks": Area(("wsnlib/masks/*",), ("test_masks.py", "test_wording.py")),
    "widening": Area(("wsnlib/widening.py",), ("test_widening.py", "test_wording.py")),
    "sparse": Area(("wsnlib/sparse/*",), ("test_sparse.py", "test_refusals.py")),
    "similarity": Area(("wsnlib/similarity/*",), ("test_similarity.py", "test_wording.py")),
    "store": Area(("wsnlib/store/*",), ("test_store.py", "test_object_store.py")),
    "specs": Area(("wsnlib/specs/*",), ("test_specs.py", "test_wording.py")),
    "verdicts": Area(("wsnlib/book/engine/rule.py",), ("test_rule.py",)),
}
TRACED = "not compil and not export and not fullgraph and not process and not gpu and not s3 and not published_records"
"""torch.compile and torch.export do not go through the switch that mutmut puts into every function, tests that
start processes or a server would take minutes a mutant, and records are not copied."""

SETTINGS = """
[tool.mutmut]
source_paths = ["wsnlib"]
only_mutate = {code}
also_copy = ["params", "book", "benchmarks", "README.md", "CONTRIBUTING.md", "Makefile", "constraints.txt", "environment.yml"]
pytest_add_cli_args_test_selection = {tests}
pytest_add_cli_args = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:unraisableexception", "-k", "{traced}"]
process_isolation = "forkserver"
timeout_multiplier = 3
timeout_constant = 10
"""
HOOK = '''

def pytest_collection_modifyitems(items):
    """The fastest tests first, which kill most mutants, and kernels compiled anew for mutants of what makes them."""
    import json

    stats = Path("mutmut-stats.json")
    took = json.loads(stats.read_text())["duration_by_test"] if stats.exists() else {}
    items[:] = [item for item in items if "__mutmut_" not in item.nodeid]  # examples of a function, once a mutant
    items.sort(key=lambda item: took.get(item.nodeid, 0))
    if "sparse.tiles" in os.environ["MUTANT_UNDER_TEST"]:
        from numba.core.caching import NullCache

        from wsnlib.sparse import elementwise, tiles

        for module in (elementwise, tiles):
            for each in vars(module).values():
                if hasattr(each, "_cache"):
                    each._cache = NullCache()
'''
PRELOADED = "import numba, pytest, torch, torch.export; from mutmut.__main__ import cli; cli()"
"""mutmut forks itself for all it does, so that what takes seconds to import is imported once."""

OUT_OF_TIME = {-24, -9, 24, 36, 152, 255}
SURVIVED = {0, 5, 33}  # no test fails, or none runs the code
KILLED = {1, 3, -4, -6, -7, -8, -11} | OUT_OF_TIME  # a test fails, or pytest, Python or time runs out


def copy(name: str, folder: Path) -> None:
    """The tracked files, with mutmut's settings for this area, and the commit that they are of."""
    area = AREAS[name]
    for file in git("ls-files").splitlines():
        if os.path.exists(file) and not file.startswith("records/"):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder / file)
    tests = [f"tests/{file}" for file in area.tests]
    tests += [
        str(path) for pattern in area.code for path in sorted(Path().glob(pattern)) if path.suffix == ".py"
    ]
    values = SETTINGS.format(code=json.dumps(area.code), tests=json.dumps(tests), traced=TRACED)
    for file, more in (("pyproject.toml", values), ("tests/conftest.py", HOOK)):
        with (folder / file).open("a") as end:
            end.write(more)
    (folder / "commit").write_text(git("rev-parse", "--short", "HEAD").strip())


def git(*words: str) -> str:
    """What git prints."""
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout


def mutmut(folder: Path, *words: str) -> str:
    """What mutmut prints; it ends with an error where it is given no mutant to try."""
    done = subprocess.run(
        [sys.executable, "-c", PRELOADED, *words],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    (folder / "log").write_text(done.stdout)
    return done.stdout


def outcomes(folder: Path) -> dict[str, int | None]:
    """The exit code of the tests under each mutant; None where it was not tried."""
    found: dict[str, int | None] = {}
    for path in sorted(folder.glob("mutants/wsnlib/**/*.meta")):
        found |= json.loads(path.read_text())["exit_code_by_key"]
    return found


def change(folder: Path, mutant: str) -> str:
    """The lines that a mutant changes, before and after."""
    module, _, function = mutant.rpartition(".")
    path = folder / "mutants" / module.replace(".", "/")
    text = next(p for p in (path.with_suffix(".py"), path / "__init__.py") if p.exists()).read_text()
    names = (re.sub(r"\d+$", "orig", function), function)
    found = {node.name: node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)}
    before, after = (
        "\n".join(map(ast.unparse, (found[name].args, *found[name].body))).splitlines() for name in names
    )
    lines = [line for line in difflib.ndiff(before, after) if line[:2] in ("- ", "+ ")]
    return " → ".join(" ".join(line[1:].split()) for line in lines)


def tried(name: str, *, sample: int, again: bool) -> dict[str, Any]:
    """What became of a sample of an area's mutants."""
    folder = FOLDER / name
    if not (folder / "pyproject.toml").exists():
        copy(name, folder)
        mutmut(folder, "run", "--max-children", "1", "none")
    for file in AREAS[name].tests:
        for place in (folder, folder / "mutants"):
            shutil.copy(Path("tests", file), place / "tests" / file)
    every = sorted(outcomes(folder))
    chosen = random.Random(SEED).sample(every, min(sample or len(every), len(every)))
    given = tomllib.loads(REASONS.read_text()) if again else {}
    explained = {mutant for kind in given.values() for mutant in kind}
    codes = outcomes(folder)
    done = {
        m for m in chosen if codes[m] in KILLED or (codes[m] in SURVIVED and (not again or m in explained))
    }
    left = [mutant for mutant in chosen if mutant not in done]
    if left and "mutations/second" not in mutmut(folder, "run", "--max-children", "1", *left):
        sys.exit(f"mutmut must try {len(left)} mutants of {name}, got an error; see {folder / 'log'}")
    codes = outcomes(folder)
    if untried := sum(codes[mutant] not in {*SURVIVED, *KILLED} for mutant in chosen):
        sys.exit(
            f"{untried} mutants of {name} must be tried, got none of their results; see {folder / 'log'}"
        )
    survivors = sorted(mutant for mutant in chosen if codes[mutant] not in KILLED)
    return {
        "commit": (folder / "commit").read_text(),
        "mutants": len(every),
        "tried": len(chosen),
        "out of time": sum(codes[mutant] in OUT_OF_TIME for mutant in chosen),
        "survivors": {mutant: change(folder, mutant) for mutant in survivors},
    }


def main() -> None:
    """Read the command line, try the areas, and write what was found after each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("areas", nargs="*", metavar="area", help=f"of {', '.join(AREAS)}; all of them")
    parser.add_argument("--sample", type=int, default=150, help="mutants drawn of each area; 0 for all")
    parser.add_argument("--again", action="store_true", help="try survivors without a reason again")
    given = parser.parse_args()
    if unknown := set(given.areas) - set(AREAS):
        parser.error(f"area must be one of {', '.join(AREAS)}, got {min(unknown)}")
    for name in given.areas or AREAS:
        found = tried(name, sample=given.sample, again=given.again)
        record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
        record = {area: record[area] for area in record if area in AREAS} | {name: found}
        RECORD.write_text(json.dumps(record, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
        print(name, found["tried"] - len(found["survivors"]), "of", found["tried"], flush=True)


if __name__ == "__main__":
    main()
