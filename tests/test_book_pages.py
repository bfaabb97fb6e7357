"""The pages that are made of what ran: they show what their commands give, and their commands run."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from wsnlib.book.engine import scores
from wsnlib.book.engine.provenance import PROVENANCE_TYPE

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "book"
SPEC = importlib.util.spec_from_file_location("pages", PAGES / "pages.py")
pages = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(pages)


def test_the_page_shows_the_script_that_slurm_gets():
    script = pages.slurm_script()
    assert script == pages.part(PAGES / "clusters.md", "slurm")
    assert "#SBATCH --gres=gpu:1" in script and "--resources GPU=1" in script
    assert str(Path.home()) not in script and "tcp://1" not in script


def test_the_table_counts_tries_and_what_was_lost(tmp_path):
    notes = [{"fault": "b", "lost": 0, "how": "x"}, {"fault": "a", "lost": 0, "how": "y"}]
    table = pages.fault_table(map(json.dumps, [*notes, notes[0], {"fault": "c", "lost": 2, "how": "z"}]))
    assert table.splitlines()[2:5] == [
        "| a | 1 | nothing | y |",
        "| b | 2 | nothing | x |",
        "| c | 1 | 2 | z |",
    ]
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- one -->\nold\n<!-- end -->\nafter\n<!-- two -->\nkept\n<!-- end -->\n")
    pages.write(page, "one", "new\nlines")
    assert pages.part(page, "one") == "new\nlines"
    assert pages.part(page, "two") == "kept"
    assert page.read_text().startswith("before\n") and "\nafter\n" in page.read_text()
    with pytest.raises(SystemExit, match="has no part three"):
        pages.write(page, "three", "")


def test_the_page_on_reliability_has_every_fault_that_is_tested():
    named = set()
    for file in pages.TESTS:
        for name in re.findall(r"fault\(f?\"(.*?)\"\)", (ROOT / file).read_text()):
            kinds = {"{kind": ("torn", "bit-flipped"), "{damage": ("torn", "bit-flipped", "meaningless")}
            each = next((kinds[start] for start in kinds if start in name), ("",))
            named |= {re.sub(r"\{.*?\}", kind, name) for kind in each}
    shown = re.findall(r"(?m)^\| (.*?) \| \d+ \| nothing \|", pages.part(PAGES / "reliability.md", "faults"))
    assert set(shown) == named
    assert len(named) >= 12


def test_the_page_on_reliability_shows_what_the_mutants_showed():
    assert pages.part(PAGES / "reliability.md", "mutants") == pages.mutant_table()
    assert pages.mutant_table().endswith("|\n\n</details>")
    found = json.loads((PAGES / "mutants.json").read_text())
    reasons = tomllib.loads((PAGES / "mutants_left.toml").read_text())
    survivors = {mutant for each in found.values() for mutant in each["survivors"]}
    assert set(reasons["equivalent"]) | set(reasons["left"]) <= survivors
    assert not set(reasons["equivalent"]) & set(reasons["left"])


def test_the_page_on_reliability_shows_what_other_machines_showed():
    assert pages.part(PAGES / "reliability.md", "machines") == pages.machine_table()
    found = json.loads((PAGES / "machines.json").read_text())
    assert {(each["result"], each["failed"]) for each in found.values()} == {("passed", "0")}
    assert not [each for each in found.values() if each["commit"].endswith("+")]  # of a tree that was changed


def test_the_name_of_a_mutant_is_that_of_its_function():
    names = {
        "wsnlib.masks.conversion.x_densify__mutmut_7": "masks.conversion.densify",
        "wsnlib.similarity.hsic.x__gram__mutmut_1": "similarity.hsic._gram",
        "wsnlib.masks.static.xǁStaticMaskǁ_check__mutmut_2": "masks.static.StaticMask._check",
        "wsnlib.sparse.tiles.xǁ_Vectorsǁ__init____mutmut_12": "sparse.tiles._Vectors.__init__",
    }
    assert {mutant: pages.readable(mutant) for mutant in names} == names


def test_the_status_counts_the_time_of_all_records_of_a_page_once(tmp_path):
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "sparse_mlp.cpu.yml").write_text("profile: cpu\n")
    (tmp_path / "records").mkdir()
    for key, seconds in (("a", 3600), ("b", 7200), ("c", 1800)):
        record = {"content": {"environment": {"seconds": seconds}}}
        (tmp_path / "records" / f"{key}.json").write_text(json.dumps(record))
    figures = [
        {"keys": ["a", "b"], "seconds": 10800, "devices": []},
        {"keys": ["b", "c"], "seconds": 9000, "devices": []},
    ]
    outputs = [{"data": {PROVENANCE_TYPE: figure}} for figure in figures]
    page = {"metadata": {"wsnlib": {"profile": "cpu"}}, "cells": [{"source": "", "outputs": outputs}]}
    assert scores.status_row("sparse_mlp", page, root=tmp_path)[-1] == "3.5 hours"


def test_the_code_of_the_page_on_clusters_runs(tmp_path):
    """Its Python blocks as one script; the one for Slurm, which needs Slurm, is a code-block."""
    blocks = re.findall(r"(?m)^```python\n(.*?)^```", (PAGES / "clusters.md").read_text(), flags=re.DOTALL)
    assert len(blocks) == 2
    body = "".join(f"    {line}\n" if line else "\n" for line in "".join(blocks).splitlines())
    script = tmp_path / "page.py"
    script.write_text(f"if __name__ == '__main__':\n{body}    print(sum(map(store.has_made, runs)))\n")
    places = {"WSN_STORE": str(tmp_path / "store"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(script)], cwd=ROOT, env=os.environ | places, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "8\n"


def test_the_commands_of_the_page_are_commands():
    text = "\n".join(re.findall(r"(?m)^```bash\n(.*?)^```", (PAGES / "clusters.md").read_text(), re.DOTALL))
    from typer.main import get_command

    from wsnlib import cli

    root = get_command(cli.app)
    for words in re.findall(r"(?m)^wsn ([a-z ]+?)(?= [a-z_]*/| my_|\s|$)", text):
        first = words.split()[0]
        assert first in root.commands
    for option in re.findall(r"(?m)^wsn run .*?(--[a-z]+)", text):
        assert option in {o for parameter in root.commands["run"].params for o in parameter.opts}
