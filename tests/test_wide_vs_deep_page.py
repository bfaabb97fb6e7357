"""The chapter `wide_vs_deep_errors`, executed on simulated populations, those on ImageNet included."""

import itertools
import re
import zlib
from dataclasses import replace
from pathlib import Path

import IPython.display
import nbformat
import numpy as np
import papermill
import pytest
import yaml
from matplotlib import pyplot as plt
from test_odd_parameters import NOTHING, Reader, words_of

import wsnlib as wsn
from wsnlib import book
from wsnlib.book import wide_vs_deep_errors
from wsnlib.book.engine import page as pages
from wsnlib.book.engine.verdicts import VERDICTS_TYPE
from wsnlib.store import MeasurementRecord, Record

ROOT = Path(__file__).parent.parent
PARAMS = ROOT / "params" / "wide_vs_deep_errors.smoke.yml"
GROUPS = ["entity, " + ["structure", "consumer goods"][c % 2] for c in range(1000)]


def record(run: wsn.Experiment, population: wsn.predictions.Population, member: int) -> Record:
    accuracy = float(population.network_accuracy[member])
    return Record(
        experiment=run, status="finished", reported_epoch=1, train_accuracy=accuracy,
        history={"test_accuracy": [accuracy]}, predictions=population.predictions[member],
        network={"num_weights": 1, "connectivity": 1.0, "weights_per_layer": {}},
        environment={"seconds": 1.0, "device": "simulated", "commit": "none"},
    )  # fmt: skip


def save(runs, labels, num_classes, store, *, seed):
    """Records of a population: how hard an image is depends on the image and, less, on the architecture."""
    hard = np.random.default_rng(0).normal(1, 1.5, len(labels))
    own = np.random.default_rng(seed).normal(0, 0.7, len(labels))
    p = 1 / (1 + np.exp(-(hard + own)))
    simulated = wsn.predictions.simulate_population(
        p, networks=len(runs), labels=labels, num_classes=num_classes, spread=0.1, seed=seed
    )
    for member, run in enumerate(runs):
        store.save(record(run, simulated, member))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The chapter and its ImageNet populations of six networks each, executed."""
    folder = tmp_path_factory.mktemp("page")
    groups = folder / "groups.txt"
    groups.write_text("\n".join(GROUPS))
    values = yaml.safe_load(PARAMS.read_text()) | {"imagenet_networks": 6, "imagenet_groups": str(groups)}
    p = wide_vs_deep_errors.Parameters.read(values)
    store, plan = wsn.Store(folder / "store"), wide_vs_deep_errors.Runs(p)
    labels = wsn.run(plan.labels).arrays["labels"]
    store.save(wsn.run(plan.labels))
    for stage in itertools.islice(plan.stages(store), 9):
        by_kind: dict[tuple[wsn.ModelSpec, wsn.Training], list[wsn.Experiment]] = {}
        for run in (each for each in stage if isinstance(each, wsn.Experiment)):
            by_kind.setdefault((run.model, run.training), []).append(run)
        for seed, runs in enumerate(by_kind.values()):
            save(runs, labels, 10, store, seed=seed)
    store.save(wsn.run(plan.examples(store)))
    on_imagenet = np.arange(3000) % 1000
    answers = wsn.ExampleLabels(data=plan.imagenet["ResNet-50"][0].data)
    store.save(
        MeasurementRecord(
            experiment=answers, status="finished", arrays={"labels": on_imagenet.astype("int16")}
        )
    )
    for seed, runs in enumerate(plan.imagenet.values()):
        save(runs, on_imagenet, 1000, store, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WSN_STORE", str(folder / "store"))
        return papermill.execute_notebook(
            ROOT / "book" / "wide_vs_deep_errors.ipynb", folder / "out.ipynb", parameters=values,
            cwd=ROOT / "book", progress_bar=False,
        )  # fmt: skip


def printed(page, words: str) -> str:
    (cell,) = [c for c in page["cells"] if words in "".join(c["source"]) and c["cell_type"] == "code"]
    return "".join(o.get("text", "") for o in cell["outputs"])


def test_the_imagenet_section_reads_the_populations_it_is_given(page):
    assert re.search(r"classes that differ: \d+\.\d ?%.*AIC", printed(page, "matrix(on_imagenet)"), re.DOTALL)
    groups = printed(page, "synsets = ")
    assert "structure" in groups and "consumer goods" in groups and " 500 " in groups


def test_claims_on_imagenet_get_an_estimate_of_as_many_networks(page):
    (held,) = [
        o["data"]["application/vnd.wsnlib.verdicts+json"]
        for c in page["cells"] for o in c.get("outputs", [])
        if "application/vnd.wsnlib.verdicts+json" in o.get("data", {})
    ]  # fmt: skip
    assert {held["ours"][name]["n"] for name in ("structure", "consumer-goods")} == {6}
    assert held["ours"]["excess"]["mean"] > 0.3  # the simulated architectures differ


# -- with what is planned --

PLANNED = ROOT / "params" / "planned" / "wide_vs_deep_errors.cpu.yml"
FEW = {
    "networks": 12,
    "other_networks": 8,
    "family_networks": 8,
    "control_networks": 10,
    "search_networks": 6,
}
IMAGES = np.arange(600) % 10


def simulated(run: wsn.specs.Run) -> Record | MeasurementRecord:
    """Its record: the deeper and the wider, the more accurate; every kind of network has its own hard images."""
    if not isinstance(run, wsn.Experiment):
        made = {"labels": IMAGES.astype("int16")}
        if isinstance(run, wsn.ExampleImages):
            made = {"images": np.zeros((len(run.examples), 3, 32, 32), np.uint8)}
        return MeasurementRecord(experiment=run, status="finished", arrays=made)
    base = getattr(run.model, "base", run.model)
    easy = np.random.default_rng(0).normal(1 + 0.25 * np.log2(base.depth * run.model.width / 128), 1.5, 600)
    kind = zlib.crc32(repr((run.model, run.training)).encode())
    own = np.random.default_rng(kind).normal(0, 0.6, 600)
    p = 1 / (1 + np.exp(own.mean() - easy - own))
    two = wsn.predictions.simulate_population(
        p, networks=2, labels=IMAGES, num_classes=10, spread=0.1, seed=kind + run.seed
    )
    return record(run, two, 0)


def executed(folder: Path, **changed) -> tuple[str, dict, dict]:
    """What the page says with the planned parameters but for these, as its own profile; its verdicts; its names."""
    reader, store = Reader(), wsn.Store(folder)

    def run_missing(_, runs):
        for run in runs:
            if run not in store:
                store.save(simulated(run))

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setenv("WSN_STORE", str(folder))
        patch.setattr(IPython.display, "display", reader.display)
        patch.setattr(pages, "_pictures", words_of)
        patch.setattr(pages.Page, "run_missing", run_missing)
        patch.setattr(wide_vs_deep_errors.Parameters, "changed", lambda _: {})
        names = {"__name__": "notebook"}
        for cell in nbformat.read(ROOT / "book" / "wide_vs_deep_errors.ipynb", as_version=4).cells:
            if cell.cell_type == "code" and "solution" not in cell.metadata.get("tags", []):
                reader.execute(cell.source, names)
                if "parameters" in cell.metadata.get("tags", []):
                    names |= yaml.safe_load(PLANNED.read_text()) | changed
    plt.close("all")
    held = next(each[VERDICTS_TYPE] for each in reader.shown if VERDICTS_TYPE in each)
    return reader.text(), held, names


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """The planned page with fewer networks."""
    return executed(tmp_path_factory.mktemp("planned"), **FEW)


def test_a_page_of_the_pair_alone_says_what_is_not_trained_and_judges_the_pair(planned, tmp_path):
    none = {"other_rate_epochs": [], "other_augmentation_epochs": []}
    none |= dict.fromkeys(("other_networks", "family_networks", "control_networks"), 0)
    text, held, names = executed(tmp_path, **FEW | none)
    lacking = re.search(r"- Not trained for this page: (.*)\.", text)[1]
    for what in (
        "other depths and widths",
        "the sparse network",
        "further networks",
        "another learning rate",
    ):
        assert what in lacking
    everything, every, _ = planned
    assert "Not trained for this page" not in everything
    of_others = {
        name for name in every["ours"] if re.search("(-better|-depth|-width|-rate|-augmentation)$", name)
    }
    assert len(of_others) == 12 and {held["verdicts"][name] for name in of_others} == {"not tested"}
    of_pair = every["ours"].keys() - of_others - {"control-deep", "control-wide"}
    assert {name: held["ours"][name] for name in of_pair} == {name: every["ours"][name] for name in of_pair}
    assert NOTHING.findall(text) == []
    assert names["table"]["seed"].isin([*range(12), *range(2000, 2012), *range(1000, 1006)]).all()


def test_a_population_has_its_seeds_whatever_else_is_trained(planned):
    _, _, names = planned
    plan, store = names["plan"], names["store"]
    fewer = plan.p.model_copy(
        update={"other_networks": 0, "other_rate_epochs": [], "other_augmentation_epochs": []}
    )
    left = wide_vs_deep_errors.Runs(fewer).populations(store)
    every = plan.populations(store)
    assert set(every) - set(left) == set(plan.others) and all(every[name] == left[name] for name in left)
    runs = {run for part in (every | plan.otherwise(store)).values() for run in part}
    assert len(runs) == len({run.seed for run in runs})


def test_the_planned_page_begins_with_accuracies_and_channels(planned):
    text, _, names = planned
    accuracies = [100 * names[side].network_accuracy.mean() for side in "DW"]
    words = re.search(r"\*\*Answer\.\*\* ResNet-14 with 16 channels and ResNet-8 with 30 reach (.*?) %", text)
    assert words[1] == "{:.1f} and {:.1f}".format(*accuracies)
    assert NOTHING.findall(text) == []


def test_the_planned_controls_have_networks_of_their_own(planned):
    text, held, names = planned
    again, plan = names["again"], names["plan"]
    for side, control in (("deep", "control-deep"), ("wide", "control-wide")):
        assert held["ours"][control]["n"] == len(again[side]) == 10
        others = {run for name, part in names["populations"].items() for run in part} | set(plan.search)
        assert others.isdisjoint(again[side])
        assert {run.seed for run in others}.isdisjoint(run.seed for run in again[side])
    assert "and 10 others of the same architecture with other seeds should" in text


def test_the_planned_page_has_the_zero_of_the_scale_and_judges_what_agreement_predicts(planned):
    _, held, names = planned
    assert list(names["beside"].index) == ["deep", "other seeds", "wide", "other rate", "other augmentation"]
    zero = names["beside"].loc["other seeds", "excess"]
    assert zero.low < 0 < zero.high and zero.n == 10
    assert held["verdicts"]["trained"] == "verified"
    assert held["verdicts"]["predicted-spread"] not in ("not tested", "inconclusive")
    assert held["verdicts"]["independent-errors"] == "not tested"


def multiply_adds(model: wsn.ModelSpec) -> int:
    """Of an image of 32 by 32, of the dense network of that width."""
    dense = replace(model.base, width_multiplier=model.width / 16) if hasattr(model, "base") else model
    places = {"conv": 32**2, "stage1": 32**2, "stage2": 16**2, "stage3": 8**2, "dense": 1}
    return sum(n * places[layer.split(".")[0]] for layer, n in wsn.weights_per_layer(dense).items())


def test_the_planned_file_says_what_each_part_costs(monkeypatch):
    """Stages in its order, with the pair and the other trainings that its head assumes."""
    p = book.read_parameters(PLANNED)
    plan = wide_vs_deep_errors.Runs(p)
    pair = {"deep": plan.network(14, 1.0), "wide": plan.network(8, 1.875)}
    longest = {name: trainings[-1] for name, trainings in p.other_trainings.items()}
    for name, value in (("pair", pair), ("other_trainings", longest), ("examples", plan.labels)):
        monkeypatch.setattr(plan, name, lambda _, value=value: value)
    seen, parts = set(), []
    for stage in plan.stages(None):
        new = {run for run in stage if isinstance(run, wsn.Experiment)} - seen
        seen |= new
        steps = [
            98 * run.training.epochs * multiply_adds(run.model) / multiply_adds(pair["deep"]) for run in new
        ]
        parts += [(len(new), round(sum(steps) * 0.2 / 60))] if new else []
    said = re.findall(r"(\d+) trainings +(\d+) core-minutes", PLANNED.read_text())
    assert parts == [(int(trainings), int(minutes)) for trainings, minutes in said]
