"""The page of benchmarks is made of what the scripts print, part by part."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "table.py"


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """The script in a folder with two benchmarks."""
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "book").mkdir()
    for name, number in (("one", 1.5), ("two", 2.5)):
        code = f'"""About {name}. More.\n\nand more"""\nprint("ratio {number}")\n'
        (tmp_path / "benchmarks" / f"{name}.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location("benchmarks_table", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(bench, monkeypatch, *names: str) -> str:
    monkeypatch.setattr(sys, "argv", ["table.py", *names])
    bench.main()
    return bench.PAGE.read_text()


def test_every_benchmark_has_a_part_and_parts_that_are_not_measured_stay(bench, monkeypatch):
    page = write(bench, monkeypatch)
    assert page.startswith(bench.HEAD)
    assert page.index("ratio 1.5") < page.index("ratio 2.5")
    assert page.count("## ") == 2 and "torch" in page
    two = Path("benchmarks/two.py")
    two.write_text(two.read_text().replace("2.5", "2.75"))
    page = write(bench, monkeypatch, "two")
    assert "ratio 1.5" in page and "ratio 2.75" in page and "ratio 2.5\n" not in page
    assert page.count("## ") == 2 and page == write(bench, monkeypatch, "one")


def test_targets_that_are_missed_are_named(bench, monkeypatch):
    printed = "a / b  1.50 [1.2, 1.9]  at most 1.4\nc / d   2.5  at least 2\n    kept: 2.97, at most 3\nfast  7 at least 8"
    Path("benchmarks/two.py").write_text(f'"Two."\nprint({printed!r})\n')
    page = write(bench, monkeypatch)
    assert "missed:\n\n- `two`: a / b: 1.50, at most 1.4\n- `two`: fast: 7, at least 8\n\n## " in page


def test_a_page_of_its_own_is_what_a_benchmark_prints(bench, monkeypatch):
    before = write(bench, monkeypatch)
    Path("benchmarks/two.py").rename("benchmarks/conformance.py")
    assert write(bench, monkeypatch, "conformance") == before
    page = Path("book/conformance.md").read_text()
    assert page.startswith("# About two. More\n\n`benchmarks/conformance.py`, ") and page.endswith(
        "\n\nratio 2.5\n"
    )


def test_a_benchmark_that_fails_leaves_the_page(bench, monkeypatch):
    before = write(bench, monkeypatch)
    Path("benchmarks/one.py").write_text("raise SystemExit(3)")
    with pytest.raises(SystemExit, match=r"benchmarks/one.py ended with 3; its part of .* stays"):
        write(bench, monkeypatch, "one")
    assert bench.PAGE.read_text() == before


def test_an_unknown_benchmark_is_named(bench, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        write(bench, monkeypatch, "three")
    assert "a benchmark must be one of one, two, got 'three'" in capsys.readouterr().err


def test_every_script_of_the_folder_can_be_started():
    for path in SCRIPT.parent.glob("*.py"):
        compile(path.read_text(), str(path), "exec")
    found = subprocess.run(
        [sys.executable, str(SCRIPT), "--help"], capture_output=True, text=True, check=True
    )
    assert "by default all" in " ".join(found.stdout.split())


def test_the_page_says_of_each_benchmark_what_its_docstring_says(bench, monkeypatch):
    monkeypatch.chdir(SCRIPT.parent.parent)
    page = bench.PAGE.read_text()
    found = bench.parts(page)
    assert set(found) == set(bench.names()) - set(bench.OWN)
    assert [name for name, part in found.items() if bench.with_words(part, name) != part] == []
    assert bench.words("sparse").startswith("All contenders take their turn")
