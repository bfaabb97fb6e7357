"""The chapter `wide_vs_deep_errors`, executed on simulated populations, those on ImageNet included."""

import itertools
import re
from pathlib import Path

import numpy as np
import papermill
import pytest
import yaml

import wsnlib as wsn
from wsnlib.book import wide_vs_deep_errors
from wsnlib.store import MeasurementRecord, Record

ROOT = Path(__file__).parent.parent
PARAMS = ROOT / "params" / "wide_vs_deep_errors.smoke.yml"
GROUPS = [["structure", "consumer goods"][c % 2] + ",entity" for c in range(1000)]


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
    for stage in itertools.islice(plan.stages(store), 3):
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
