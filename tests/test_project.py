"""The project's files agree with one another."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import wsnlib as wsn

ROOT = Path(__file__).parent.parent
CONDA_NAMES = {"torch": "pytorch", "lazy-loader": "lazy_loader", "types-PyYAML": "types-pyyaml"}


def requirement(text: str) -> tuple[str, str]:
    name, limits = re.fullmatch(r"([A-Za-z0-9_.-]+)\s*(.*)", text).groups()
    return name, limits.replace(" ", "")


def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def required() -> dict[str, str]:
    project = pyproject()
    extras = [r for group in project["optional-dependencies"].values() for r in group]
    return dict(map(requirement, project["dependencies"] + extras))


def test_conda_and_pip_users_get_the_same():
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (pip,) = (entry["pip"] for entry in entries if isinstance(entry, dict))
    assert pip.pop() == "--editable ."  # a file of requirements allows no other option on the line
    conda = dict(requirement(e) for e in [*(e for e in entries if isinstance(e, str)), *pip])
    assert conda.pop("python") == pyproject()["requires-python"]
    assert conda.pop("pip") == ""
    assert conda == {CONDA_NAMES.get(name, name): limits for name, limits in required().items()}


def test_every_requirement_is_pinned_without_an_address():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9_.]*", line) for line in lines)
    pinned = {canonical(line.split("==")[0]) for line in lines}
    assert {canonical(name) for name in required()} <= pinned


def test_every_package_of_the_environment_is_pinned_and_fits_the_others():
    """The audit that needs no network: it knows nothing of vulnerabilities that were found since."""
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines())
    pinned = {canonical(name): version for name, version in pinned.items()}
    if (torch := metadata.version("torch").partition("+")[0]) != pinned["torch"]:
        pytest.skip(f"this environment is another one, with torch {torch}")
    todo, needed = [canonical(name) for name in required()], set()
    while todo:
        name = todo.pop()
        if name in needed:
            continue
        needed.add(name)
        for text in metadata.requires(name) or []:
            requirement = Requirement(text)
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if wanted and canonical(requirement.name) not in ("setuptools", "wheel"):  # pip leaves them out
                todo.append(canonical(requirement.name))
                assert requirement.specifier.contains(pinned[todo[-1]], prereleases=True), (name, text)
    assert needed <= pinned.keys()
    assert len(needed) > 100


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_library_opens_without_torch_or_pandas():
    code = "import sys, wsnlib; print({'torch', 'pandas', 'matplotlib', 'distributed', 'fsspec'} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "set()\n"
    )


def test_every_public_name_exists_and_is_explained():
    import wsnlib as wsn
    from wsnlib import book

    for place in (wsn, book):
        for name in place.__all__:
            value = getattr(place, name)
            if callable(value):
                assert value.__doc__, name
        assert len(place.__all__) == len(set(place.__all__))
    with pytest.raises(AttributeError, match="No wsnlib attribute nothing"):
        _ = wsn.nothing


NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_use_the_library_s_public_names_only(path):
    """What else must hold of a published notebook is in book/gates.py."""
    notebook = json.loads(path.read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert "papermill" not in notebook["metadata"]
    opening = "from wsnlib import book\n\ntext = book.Text()\ntext("
    assert "".join(code[0]["source"]).startswith(opening)
    said = [cell for cell in code if "remove-input" in cell["metadata"].get("tags", [])]  # text with numbers
    source = "".join("".join(cell["source"]) for cell in code if cell not in said)
    own = f"import wsnlib as wsn\nfrom wsnlib import book\nfrom wsnlib.book import {path.stem} as chapter\n"
    if (ROOT / f"wsnlib/book/words/{path.stem}.py").exists():
        own += f"from wsnlib.book.words import {path.stem} as words\n"
    assert source.count(own) == 1
    assert not re.search(r"wsnlib\.\w|from wsnlib|sys\.path|!pip|except", source.replace(own, ""))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_every_chapter_is_in_the_book_and_has_its_profiles(path):
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    assert path.stem in [entry["file"] for part in toc["parts"] for entry in part["chapters"]]
    profiles = {file.name.split(".")[1] for file in (ROOT / "params").glob(f"{path.stem}.*.yml")}
    assert profiles == {"smoke", "cpu", "gpu", "paper"}
    assert path.stem in (ROOT / "README.md").read_text()
    assert f"{path.stem}.ipynb" in (ROOT / "book" / "index.md").read_text()


def test_tables_are_sorted_alike_on_every_machine():
    """By one column pandas sorts with the processor's fastest method, which orders equal rows as it likes."""
    cells = [cell for path in NOTEBOOKS for cell in json.loads(path.read_text())["cells"]]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    sources += [path.read_text() for path in (ROOT / "wsnlib").rglob("*.py")]
    sorts = [sort for source in sources for sort in re.findall(r"\.sort_values\(.*", source)]
    by_one = [
        sort
        for sort in sorts
        if not sort.startswith((".sort_values([", ".sort_values(by,", ".sort_values()"))
    ]
    assert len(by_one) > 3 and [sort for sort in by_one if 'kind="stable"' not in sort] == []


def test_versions_agree():
    version = wsn.__version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


def first_lines(body: list[ast.stmt]) -> Iterator[str]:
    """Of the docstrings of data and properties in a module or class."""
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.ClassDef):
            yield from first_lines(node.body)
        elif isinstance(node, ast.FunctionDef):
            if any("property" in ast.unparse(decorator) for decorator in node.decorator_list):
                yield (ast.get_docstring(node) or "").partition("\n")[0]
        elif isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(after, ast.Expr):
            yield str(getattr(after.value, "value", "")).partition("\n")[0]


def test_no_docstring_of_data_or_a_property_is_read_as_its_type():
    """Napoleon takes what stands before a colon in its first line for the type."""
    for path in sorted((ROOT / "wsnlib").rglob("*.py")):
        typed = [
            line for line in first_lines(ast.parse(path.read_text(encoding="utf-8")).body) if ":" in line
        ]
        assert typed == [], path.relative_to(ROOT)
