"""Write the parts of the pages on clusters and reliability that are made, not typed.

    python book/pages.py clusters                the script that dask-jobqueue submits to Slurm
    python book/pages.py reliability [--tries 3] every test of a fault, and the table of what they found
    python book/pages.py load                    what benchmarks/sweeps.py prints

Run from the repository root. A part stands between the lines `<!-- NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

PAGES = Path(__file__).parent
TESTS = (
    "tests/test_faults.py",
    "tests/test_checkpoints.py",
    "tests/test_clusters.py",
)
NOTES = Path("_build/faults.jsonl")


def slurm_script() -> str:
    """What dask-jobqueue submits for one worker with one GPU; the scheduler's address is a name."""
    from dask_jobqueue.slurm import SLURMCluster

    with SLURMCluster(
        cores=1,
        processes=1,
        memory="16GB",
        walltime="12:00:00",
        job_extra_directives=["--gres=gpu:1"],
        worker_extra_args=["--resources", "GPU=1"],
        python="python",
        scheduler_options={
            "host": "127.0.0.1",
            "dashboard_address": "127.0.0.1:0",
        },
    ) as cluster:
        script = cluster.job_script()
    return f"```bash\n{re.sub('tcp://[0-9.:]+', 'tcp://SCHEDULER', script).strip()}\n```"


def fault_table(notes: Iterable[str]) -> str:
    """One row a fault of what its tests noted, line by line."""
    tries: dict[str, list[dict[str, object]]] = defaultdict(list)
    for line in notes:
        found = json.loads(line)
        tries[found["fault"]].append(found)
    rows = [
        "| fault | tries | lost | how it was checked |",
        "|---|---|---|---|",
    ]
    for fault, each in sorted(tries.items()):
        lost = sum(int(str(found["lost"])) for found in each)
        rows.append(
            f"| {fault} | {len(each)} | {lost or 'nothing'} | {each[-1]['how']} |"
        )
    machine = f"{platform.system()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return "\n".join([*rows, "", f"Measured on {machine}."])


def run_faults(tries: int) -> str:
    """The table of so many tries of every fault; a test that fails ends it."""
    NOTES.parent.mkdir(exist_ok=True)
    NOTES.unlink(missing_ok=True)
    environment = os.environ | {"WSN_FAULTS": str(NOTES.resolve())}
    for _ in range(tries):
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *TESTS],
            env=environment,
            check=True,
        )
    return fault_table(NOTES.read_text(encoding="utf-8").splitlines())


def load() -> str:
    """What the benchmark prints, on this machine."""
    command = [sys.executable, "benchmarks/sweeps.py"]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True
    )
    return f"```text\n{done.stdout.rstrip()}\n```"


def part(page: Path, name: str) -> str:
    """A part of a page that was made."""
    pattern = rf"<!-- {name} -->\n(.*?)\n<!-- end -->"
    found = re.search(
        pattern, page.read_text(encoding="utf-8"), flags=re.DOTALL
    )
    if found is None:
        sys.exit(f"{page} has no part {name}")
    return found[1]


def write(page: Path, name: str, text: str) -> None:
    """Put a part that was made into its page."""
    old = f"<!-- {name} -->\n{part(page, name)}\n<!-- end -->"
    new = f"<!-- {name} -->\n{text}\n<!-- end -->"
    page.write_text(
        page.read_text(encoding="utf-8").replace(old, new), encoding="utf-8"
    )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("page", choices=["clusters", "reliability", "load"])
    parser.add_argument("--tries", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.page == "clusters":
        write(PAGES / "clusters.md", "slurm", slurm_script())
    elif arguments.page == "load":
        write(PAGES / "reliability.md", "load", load())
    else:
        write(PAGES / "reliability.md", "faults", run_faults(arguments.tries))


if __name__ == "__main__":
    main()
