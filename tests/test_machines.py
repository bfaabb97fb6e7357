"""The table of the tests on many machines."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import machines

ROOT = Path(__file__).parent.parent
SUITE = """
suite:
\t@echo "3 passed, 2 skipped in 1.50s"; env; "$(BIN)/python" -c "import sys; print(sys.executable)"
\t@if [ "$$NUMBA_CPU_NAME" = generic ]; then echo "= 4 passed, 1 failed, 1 error in 0.20s (0:00:00) ="; exit 1; fi
"""


def table(folder: Path, *words: str) -> tuple[int, list[list[str]]]:
    (folder / "Makefile").write_text(SUITE)
    (folder / "book").mkdir(exist_ok=True)
    command = [sys.executable, str(ROOT / "tests" / "machines.py"), *words]
    places = {name: value for name, value in os.environ.items() if name not in machines.MACHINES["another"]}
    done = subprocess.run(command, cwd=folder, env=places, capture_output=True, text=True)
    rows = [re.findall(r"[^|]+", line.strip("|")) for line in done.stdout.splitlines()]
    return done.returncode, [[cell.strip() for cell in row] for row in rows]


def test_every_machine_is_tried_and_a_failure_is_one(tmp_path):
    failed, (head, _, mine, numba) = table(tmp_path, "mkl", "numba")
    assert failed == 1 and tuple(head) == machines.COLUMNS
    assert mine[0] == "mkl" and mine[3:7] == ["passed", "3", "0", "2"]
    assert numba[0] == "numba" and numba[3:7] == ["failed", "7", "2", "2"]
    (log,) = (tmp_path / machines.LOGS).glob("mkl-*")
    assert "MKL_CBWR=COMPATIBLE" in log.read_text() and sys.executable in log.read_text()
    found = json.loads((tmp_path / machines.RECORD).read_text())
    assert [(row["machine"], row["result"], row["variables"]) for row in found.values()] == [
        ("mkl", "passed", "MKL_CBWR=COMPATIBLE"),
        ("numba", "failed", "NUMBA_CPU_NAME=generic"),
    ]
    assert all(row["commit"] and row["processor"] for row in found.values())
    assert table(tmp_path, "mkl")[0] == 0
    assert set(json.loads((tmp_path / machines.RECORD).read_text())) == set(found)  # one in place of another


def test_another_environment_is_tried_beside_this_one(tmp_path):
    failed, rows = table(tmp_path, "this", "--python", sys.executable)
    assert failed == 0 and len(rows) == 4 and rows[2][:7] == rows[3][:7]


def test_another_machine_has_the_least_of_everything(tmp_path):
    another = machines.MACHINES["another"]
    assert set(another) == {name for v in machines.VARIABLES.values() for name in v}
    assert table(tmp_path, "another")[1][2][3] == "failed"
    assert table(tmp_path, "nowhere")[0] == 2


def test_the_tests_end_on_another_machine():
    recipe = (ROOT / "Makefile").read_text().partition("\ntest: env\n")[2].partition("\n\n")[0]
    assert "tests/machines.py another --target pages" in recipe
