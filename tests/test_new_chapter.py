"""Chapters, claims, data sets, models and measurements are added as CONTRIBUTING says, and nowhere else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

from wsnlib.book.engine import published

ROOT = Path(__file__).parent.parent

MODULE = '''
"""Whether 5 epochs are better than 1."""
from collections.abc import Iterator

import wsnlib as wsn
from wsnlib import specs
from wsnlib.book.engine.parameters import ChapterParameters
from wsnlib.estimates import Estimate, estimate
from wsnlib.store import Store


class Parameters(ChapterParameters):
    seeds: list[int] = [0, 1]

    @property
    def same_data(self) -> bool:
        return True


def runs(p: Parameters) -> list[specs.Experiment]:
    net = specs.MLPSpec(width=3, inputs=64)
    return [
        specs.Experiment(model=net, data=specs.Digits(), training=specs.Training(epochs=e), seed=s)
        for e in (1, 5) for s in p.seeds
    ]


def stages(p: Parameters, store: Store) -> Iterator[list[specs.Run]]:
    yield list(runs(p))


def estimates(table, p: Parameters) -> dict[str, Estimate]:
    accuracy = 100 * table.set_index(["training.epochs", "seed"])["test_accuracy"]
    return {"patience": estimate((accuracy[5] - accuracy[1]).tolist())}
'''

CLAIM = """
[[claim]]
chapter = "patience"
name = "patience"
type = "empirical"
where = "Section 9"
statement = "Five epochs are better than one."
above = -100
unit = "points"
estimator = "mean over seeds"
"""

CELLS = [
    v4.new_markdown_cell("# Patience"),
    v4.new_code_cell('profile = "smoke"  # name', metadata={"tags": ["parameters"]}),
    v4.new_code_cell(
        "import wsnlib as wsn\nfrom wsnlib import book\nfrom wsnlib.book import patience as chapter\n"
        "p = chapter.Parameters.read(globals())\npage = book.Page(p)\nstore = wsn.default_store()"
    ),
    v4.new_code_cell("runs = chapter.runs(p)\n_ = wsn.run_missing(runs, store=store)"),
    v4.new_code_cell("page.verdicts(chapter.estimates(wsn.table(runs, store=store), p))"),
]


@pytest.fixture
def repository(tmp_path):
    """What a page needs of the repository, with one chapter and one claim more."""
    shutil.copytree(ROOT / "wsnlib", tmp_path / "wsnlib", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "wsnlib" / "book" / "patience.py").write_text(MODULE)
    with (tmp_path / "wsnlib" / "book" / "papers" / "g21.toml").open("a") as file:
        file.write(CLAIM)
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "patience.smoke.yml").write_text("profile: smoke\nseeds: [0, 1, 2]\n")
    (tmp_path / "book").mkdir()
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(v4.new_notebook(cells=CELLS, metadata=metadata), tmp_path / "book" / "patience.ipynb")
    return tmp_path


def test_a_chapter_and_a_claim_are_added_each_in_its_place(repository):
    def run(*words: str) -> None:
        places = {"PYTHONPATH": str(repository), "WSN_STORE": str(repository / "store")}
        found = Path(sys.executable).with_name(words[0])
        done = subprocess.run(
            [found, *words[1:]], cwd=repository, env=os.environ | places, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-2000:]

    page = "book/patience.ipynb"
    run("python", "-m", "wsnlib.cli", "run", "params/patience.smoke.yml")
    assert len(list((repository / "store").glob("*.json"))) == 6
    run("papermill", page, page, "-f", "params/patience.smoke.yml", "--no-progress-bar")
    held = published.verdicts_of(published.read_notebook(repository / page))
    assert (held["chapter"], held["ours"]["patience"]["n"]) == ("patience", 3)
    assert held["verdicts"] == {"patience": "reproduced"}
    for name in ("_ext", "references.bib"):
        copy = shutil.copytree if name == "_ext" else shutil.copy
        copy(ROOT / "book" / name, repository / "book" / name)
    shutil.copy(ROOT / "_config.yml", repository / "book" / "_config.yml")
    (repository / "book" / "_toc.yml").write_text("format: jb-book\nroot: patience\n")
    run("jupyter-book", "build", "book/", "-n", "-W", "--keep-going", "-q")
    built = repository / "book" / "_build" / "html" / "patience.html"
    assert "Five epochs are better than one." in built.read_text()


ADDED = {
    "specs/data.py": """

@dataclass(frozen=True, kw_only=True)
class Stripes(DataSpec):
    \"\"\"Stripes: 80 training and 40 test images of 4 x 4 pixels, 2 classes.\"\"\"
""",
    "specs/__init__.pyi": "from .data import Stripes as Stripes\nfrom .networks import PooledSpec as PooledSpec\n",
    "models/pooled.py": """from torch import nn


class Pooled(nn.Module):
    \"\"\"A convolution, a mean over positions, a classifier.\"\"\"

    def __init__(self, *, width: int, input_channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(input_channels, width, 3)
        self.linear = nn.Linear(width, num_classes)

    def forward(self, images):
        return self.linear(self.conv(images).relu().mean((2, 3)))
""",
}
BEFORE = {
    (
        "data/sources.py",
        "    specs.MNIST: Known(",
    ): "    specs.Stripes: Known('stripes', (1, 4, 4), 2, 80, 40),\n",
    ("specs/networks.py", "DenseSpec = MLPSpec | "): """@dataclass(frozen=True, kw_only=True)
class PooledSpec:
    width: int
    input_channels: int = 1
    num_classes: int = 2


""",
    ("specs/networks.py", "MLPSpec | ResNet18Spec | "): "PooledSpec | ",
    ("experiments/networks.py", "    specs.MLPSpec: models"): "    specs.PooledSpec: Pooled,\n",
    ("experiments/networks.py", "from wsnlib.data import"): "from wsnlib.models.pooled import Pooled\n",
}
MEASURED_BEFORE = {
    ("specs/experiments.py", "NetworkMeasurement = BlockOrigins"): """@dataclass(frozen=True, kw_only=True)
class ClassCounts:
    \"\"\"How many test images there are of each class.\"\"\"

    data: DataSpec


""",
    ("specs/experiments.py", "NetworkMeasurement | KernelDistances"): "ClassCounts | ",
    (
        "experiments/measurements.py",
        "    if isinstance(spec, specs.NetworkMeasurement):\n        return measure",
    ): """    if isinstance(spec, specs.ClassCounts):
        counts = load_data(spec.data, download=download).test.labels.bincount().tolist()
        return MeasurementRecord(
            experiment=spec,
            status="finished",
            columns={"count": counts},
            environment=environment(device),
        )
""",
}
MEASURED = """
import wsnlib as wsn
from wsnlib import specs

spec = specs.ClassCounts(data=specs.Digits())
store = wsn.Store("store")
wsn.run_missing([spec], store=store, device="cpu")
print(int(sum(wsn.Store("store").load(spec).columns["count"])))
"""


def library(folder: Path, ends: dict[str, str], places: dict[tuple[str, str], str]) -> None:
    """A copy of the library with lines at the ends of files and before places in them."""
    shutil.copytree(ROOT / "wsnlib", folder / "wsnlib", ignore=shutil.ignore_patterns("__pycache__"))
    for name, lines in ends.items():
        with (folder / "wsnlib" / name).open("a") as file:
            file.write(lines)
    for (name, place), lines in places.items():
        text = (folder / "wsnlib" / name).read_text()
        assert text.count(place) == 1, (name, place)
        (folder / "wsnlib" / name).write_text(text.replace(place, lines + place))


def printed(folder: Path, code: str) -> list[str]:
    places = {"PYTHONPATH": ".", "WSN_DATA": "."}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, env=os.environ | places, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split()


USED = """
import numpy as np
import wsnlib as wsn
from wsnlib import specs

y = np.arange(120, dtype=np.uint8) % 2
x = np.random.default_rng(0).integers(0, 60, (120, 4, 4, 1), dtype=np.uint8)
x[y == 1, :, ::2] += 180
np.savez("stripes.npz", train_x=x[:80], train_y=y[:80], test_x=x[80:], test_y=y[80:])
wide = specs.StaticSparsity(specs.PooledSpec(width=8), width=12)
run = specs.Experiment(model=wide, data=specs.Stripes(), training=specs.Training(epochs=20, batch_size=10))
store = wsn.Store("store")
wsn.run_missing([run], store=store)
found = wsn.table([run], store=store).iloc[0]
print(found["num_weights"], found["test_accuracy"] > 0.9)
"""


def test_a_data_set_and_a_model_are_added_each_in_its_place(tmp_path):
    """Sparse and wide, the new network has as many weights as its base, and learns the new data."""
    library(tmp_path, ADDED, BEFORE)
    assert printed(tmp_path, USED) == [str(9 * 8 + 8 * 2), "True"]


def test_a_measurement_is_added_in_its_place(tmp_path):
    """It is made, stored and read back as others are, and has a key of its own."""
    name = {"specs/__init__.pyi": "from .experiments import ClassCounts as ClassCounts\n"}
    library(tmp_path, name, MEASURED_BEFORE)
    assert printed(tmp_path, MEASURED) == ["360"]
