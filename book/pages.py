"""Write the parts of the pages on clusters and reliability that are made, not typed.

    python book/pages.py clusters                the script that dask-jobqueue submits to Slurm
    python book/pages.py reliability [--tries 20] [--quick] every test of a fault, and the table of what they found
    python book/pages.py mutants                 what tests/mutants.py found, and why survivors are left
    python book/pages.py machines                what tests/machines.py found

Run from the repository root. A part stands between the lines `<!-- NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

PAGES = Path(__file__).parent
TESTS = (
    "tests/test_faults.py",
    "tests/test_checkpoints.py",
    "tests/test_clusters.py",
)
NOTES = Path("_build/faults.jsonl")
QUICK = "full_disk or damaged or clock_that_jumps or nan_loss"
SLOW = "killed_notebook or killed_worker or killed_scheduler or in_a_hundred or another_version"


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
        "| fault | tries | results lost | how it was checked |",
        "|---|---|---|---|",
    ]
    for fault, each in sorted(tries.items()):
        lost = sum(int(str(found["lost"])) for found in each)
        rows.append(
            f"| {fault} | {len(each)} | {lost or 'nothing'} | {each[-1]['how']} |"
        )
    machine = f"{platform.system()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return "\n".join([*rows, "", f"Measured on {machine}."])


class Again:
    """A plugin of pytest: every test is run so many times."""

    def __init__(self, tries: int) -> None:
        self.tries = tries

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        metafunc.fixturenames.append("again")
        metafunc.parametrize("again", range(self.tries))


def run_faults(tries: int, *, slow: bool) -> str:
    """The table of so many tries of each fault that takes seconds, and a few of those that take minutes.

    Without `slow` the rows of these stay as they are on the page.
    """
    NOTES.parent.mkdir(exist_ok=True)
    NOTES.unlink(missing_ok=True)
    os.environ["WSN_FAULTS"] = str(NOTES.resolve())
    for chosen, times in [(QUICK, tries), (SLOW, min(tries, 3))][: 1 + slow]:
        again = Again(times)
        if pytest.main(["-q", "-k", chosen, *TESTS], plugins=[again]):
            sys.exit("every fault must be survived, got one that is not")
    made = fault_table(NOTES.read_text(encoding="utf-8").splitlines())
    if slow:
        return made
    rows = {
        line.split(" | ")[0]: line
        for text in (part(PAGES / "reliability.md", "faults"), made)
        for line in text.splitlines()[2:-2]
    }
    lines = made.splitlines()
    return "\n".join(
        [*lines[:2], *(rows[name] for name in sorted(rows)), *lines[-2:]]
    )


def mutant_table() -> str:
    """One row an area, and every survivor with its change and the reason why it is left."""
    found = json.loads((PAGES / "mutants.json").read_text(encoding="utf-8"))
    reasons = tomllib.loads(
        (PAGES / "mutants_left.toml").read_text(encoding="utf-8")
    )
    rows = [
        "| code | mutants | tried | equivalent | killed | of these out of time | score | commit |",
        "|---|---|---|---|---|---|---|---|",
    ]
    left = []
    for area, each in found.items():
        survivors = each["survivors"]
        same = [m for m in survivors if m in reasons["equivalent"]]
        killed, tried = (
            each["tried"] - len(survivors),
            each["tried"] - len(same),
        )
        rows.append(
            f"| {area} | {each['mutants']:,} | {each['tried']} | {len(same)} | {killed} | "
            f"{each['out of time']} | {100 * killed / tried:.0f} % | `{each['commit']}` |"
        )
        for mutant, change in survivors.items():
            kind = "equivalent" if mutant in same else "left"
            why = reasons[kind].get(mutant, "no test yet")
            code = change.replace("|", "\\|").replace("`", "'")
            name = readable(mutant)
            left.append(f"| `{name}` | `{code}` | {kind}: {why} |")
    head = [
        f"<details><summary>All {len(left)} survivors</summary>",
        "",
        "| survivor | change | why |",
        "|---|---|---|",
    ]
    end = ["", "</details>"]
    return "\n".join([*rows, "", *(head + left + end if left else [])]).strip()


def machine_table() -> str:
    """One row a machine that the tests ran on."""
    found = json.loads((PAGES / "machines.json").read_text(encoding="utf-8"))
    rows = [
        "| variables | Python | torch | result | passed | failed | skipped | minutes | commit |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for each in found.values():
        names = (
            "Python",
            "torch",
            "result",
            "passed",
            "failed",
            "skipped",
            "minutes",
        )
        variables = f"`{each['variables']}`" if each["variables"] else "none"
        cells = [
            variables,
            *(each[n] for n in names),
            f"`{each['commit'][:7]}`",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    processors = sorted({each["processor"] for each in found.values()})
    return "\n".join([*rows, "", f"Measured on {' and '.join(processors)}."])


def readable(mutant: str) -> str:
    """The function or method that a mutant changes, as one writes it; mutmut's names are `x_function__mutmut_1`."""
    module, _, name = (
        mutant.removeprefix("wsnlib.").partition("__mutmut")[0].rpartition(".")
    )
    if name.startswith("xǁ"):
        return ".".join([module, *name.split("ǁ")[1:]])
    return f"{module}.{name.removeprefix('x_')}"


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
    parser.add_argument(
        "page", choices=["clusters", "reliability", "mutants", "machines"]
    )
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument(
        "--quick", action="store_true", help="only faults that take seconds"
    )
    arguments = parser.parse_args()
    if arguments.page == "clusters":
        write(PAGES / "clusters.md", "slurm", slurm_script())
    elif arguments.page == "mutants":
        write(PAGES / "reliability.md", "mutants", mutant_table())
    elif arguments.page == "machines":
        write(PAGES / "reliability.md", "machines", machine_table())
    else:
        write(
            PAGES / "reliability.md",
            "faults",
            run_faults(arguments.tries, slow=not arguments.quick),
        )


if __name__ == "__main__":
    main()
