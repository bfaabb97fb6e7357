"""The tests as other machines run them, as far as variables and environments make another machine of this one.

    python tests/machines.py                              the suite on every machine, one after the other
    python tests/machines.py another --target pages       the published pages on one that has little
    python tests/machines.py --python old/bin/python      … and on this one with that environment, too

Prints a table with what passed and how long it took, and exits with 1 where something failed. What a
machine printed is kept in `_build/machines/`; what was found of the whole suite goes into `book/machines.json`, and
`python book/pages.py machines` puts it on the page.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

LOGS, RECORD = Path("_build/machines"), Path("book/machines.json")

VARIABLES = {
    "this": {},
    "torch-default": {"ATEN_CPU_CAPABILITY": "default"},  # no vector units in torch
    "avx2": {  # in every library, as most laptops have it
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_CBWR": "AVX2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "NUMBA_CPU_NAME": "haswell",
        "OPENBLAS_CORETYPE": "Haswell",
    },
    "mkl": {"MKL_CBWR": "COMPATIBLE"},
    "onednn": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    "numba": {"NUMBA_CPU_NAME": "generic"},
    "numpy": {"NPY_DISABLE_CPU_FEATURES": "all"},  # those that this numpy chooses among
    "sandybridge": {"OPENBLAS_CORETYPE": "Sandybridge"},
    "prescott": {"OPENBLAS_CORETYPE": "Prescott"},
    # more threads than cores; those that wait leave these to the others
    "threads": {"OMP_NUM_THREADS": "4", "OMP_WAIT_POLICY": "passive"},
}
FEWEST = ("torch-default", "mkl", "onednn", "numba", "numpy", "prescott", "threads")
MACHINES = VARIABLES | {"another": {k: v for name in FEWEST for k, v in VARIABLES[name].items()}}
"""Names of machines and the variables that make them; `another` has the least of everything at once."""

COLUMNS = ("machine", "Python", "torch", "result", "passed", "failed", "skipped", "minutes")


def asked(python: str, code: str) -> str:
    """What an interpreter prints."""
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def tried(machine: str, *, python: str, target: str) -> dict[str, str]:
    """A row of the table: a target of the Makefile made on a machine with an interpreter."""
    variables = dict(MACHINES[machine])
    if "NPY_DISABLE_CPU_FEATURES" in variables:
        code = "import numpy; print(*numpy.show_config('dicts')['SIMD Extensions'].get('found', ()))"
        variables["NPY_DISABLE_CPU_FEATURES"] = asked(python, code)
    code = "from importlib.metadata import version; import platform as p; print(p.python_version(), version('torch'))"
    versions = asked(python, code)
    log = LOGS / f"{machine}-{'-'.join(versions.split())}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with log.open("w") as file:
        words = ["make", target, f"BIN={Path(python).absolute().parent}"]
        places = {"PYTHONPATH": os.getcwd()}  # whatever library the other environment has
        done = subprocess.run(
            words, env=os.environ | places | variables, stdout=file, stderr=subprocess.STDOUT
        )
    if done.returncode:
        print(log.read_text()[-3000:], f"all of it is in {log}", sep="\n", file=sys.stderr)
    counts: Counter[str] = Counter()
    for line in log.read_text().splitlines():
        if re.search(r" in [\d.]+s\b.*=*$", line):  # of pytest, at the end
            for number, what in re.findall(r"(\d+) (passed|failed|skipped|error)", line):
                counts["failed" if what == "error" else what] += int(number)
    python_version, torch_version = versions.split()
    row = [machine, python_version, torch_version, "failed" if done.returncode else "passed"]
    row += [str(counts[name]) for name in COLUMNS[4:7]]
    return dict(zip(COLUMNS, [*row, f"{(time.perf_counter() - start) / 60:.1f}"], strict=True))


def here() -> dict[str, str]:
    """The commit and the processor."""
    code = (
        "import json, torch; from wsnlib.experiments.machine import environment;"
        "print(json.dumps(environment(torch.device('cpu'))))"
    )
    found = json.loads(asked(sys.executable, code))
    return {"commit": found["commit"], "processor": found["device"].removeprefix("cpu: ")}


def record(found: list[dict[str, str]]) -> None:
    """Keep rows in place of those of the same machines."""
    rows = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    rows |= {f"{row['machine']}, Python {row['Python']}, torch {row['torch']}": row for row in found}
    RECORD.write_text(json.dumps(rows, indent=1) + "\n")


def main() -> None:
    """Read the command line and print the table, row by row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "machines", nargs="*", metavar="machine", help=f"of {', '.join(MACHINES)}; all of them"
    )
    parser.add_argument("--target", default="suite", help="of the Makefile")
    parser.add_argument(
        "--python", action="append", default=[], help="of another environment, with all packages"
    )
    given = parser.parse_args()
    if unknown := set(given.machines) - set(MACHINES):
        parser.error(f"machine must be one of {', '.join(MACHINES)}, got {min(unknown)}")
    runs = [("this", python) for python in given.python]
    runs += [(machine, sys.executable) for machine in given.machines or MACHINES]
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    found, where = [], here()
    for machine, python in runs:
        row = tried(machine, python=python, target=given.target)
        print(f"| {' | '.join(row.values())} |", flush=True)
        variables = " ".join(f"{name}={value}" for name, value in MACHINES[machine].items())
        found.append(row | where | {"variables": variables})
    if given.target == "suite":
        record(found)  # after the last, whose tests compare the page with it
    sys.exit(any(row["result"] == "failed" for row in found))


if __name__ == "__main__":
    main()
