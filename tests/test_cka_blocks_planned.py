"""The page of `cka_blocks` as it will be: its notebook, executed with the planned parameters on made-up records.

The networks have their depths, and so their numbers of layers; which have a block is planted.
"""

import json
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import IPython.display
import nbformat
import numpy as np
import pytest
import yaml
from matplotlib import pyplot as plt
from test_cka_blocks_estimates import between, layer_names, simulated_origins
from test_odd_parameters import NOTHING, Reader, words_of

import wsnlib as wsn
from wsnlib.book import cka_blocks
from wsnlib.book.engine import page as pages
from wsnlib.book.engine.provenance import PROVENANCE_TYPE
from wsnlib.book.engine.verdicts import VERDICTS_TYPE
from wsnlib.layers import NetworkResults

ROOT = Path(__file__).parent.parent
PLANNED = yaml.safe_load((ROOT / "params/planned/cka_blocks.cpu.yml").read_text())
BLOCKS = {"deepest": {0, 1, 2}, "deeper": {0, 1, 2}, "deep": {1, 2, 4}, "plain": {0}}
UNFIT = {("shallow", 0), ("plain", 2)}


class MadeUp:
    """A store that has a record of everything."""

    def load(self, run):
        environment = {"seconds": 1620.0, "device": "cpu: EPYC", "commit": "0" * 8}
        images = np.zeros((len(getattr(run, "examples", ())), 3, 32, 32), np.uint8)
        key = wsn.spec_key(run)
        return SimpleNamespace(key=key, experiment=run, environment=environment, arrays={"images": images})

    def place(self, run):
        return Path("records")


def measured(network, seed: int, title: str) -> cka_blocks.Measured:
    layers, key = len(layer_names(network)), (network.name, seed)
    origins = simulated_origins(
        network,
        seed,
        block=seed in BLOCKS.get(network.name, ()),
        within=0.9 + 0.01 * seed,
        shift=0.01 * seed,
        accuracy=0.87 if key in UNFIT else 0.95 + 0.01 * seed,
        where=slice(layers // 6, layers * 3 // 5),
    )
    return cka_blocks.Measured(
        network=network, seed=seed, origins=origins, fits=key not in UNFIT, title=title
    )


def made_up(runs: cka_blocks.Runs, store) -> cka_blocks.Results:
    networks = {key: measured(runs.networks[key[0]], key[1], runs.titles[key[0]]) for key in runs.origins}
    compared = {}
    for keys in runs.compared:
        own = [networks[key] for key in keys]
        cka = {(i, i): m.origins.output_cka for i, m in enumerate(own)}
        for i, one in enumerate(own):
            for j in range(i + 1, len(own)):
                cka[i, j] = between(one, own[j])
                cka[j, i] = cka[i, j].T
        compared[keys] = NetworkResults(layers=(), cka=cka, test_accuracies=())
    return cka_blocks.Results(runs=runs, networks=networks, compared=compared)


@cache
def structure(values: bytes, n: int) -> wsn.similarity.BlockStructure:
    return wsn.similarity.block_structure(np.frombuffer(values).reshape(n, n), surrogates=99)


@pytest.fixture(scope="module")
def page():
    """What is shown, with the width of every figure in inches."""
    reader, widths, names = Reader(), [], {"__name__": "notebook"}

    def pictures(figure, alt):
        widths.append(figure.get_figwidth())
        return words_of(figure, alt)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(pages, "default_store", MadeUp)
        patch.setattr(pages.Page, "profile", "cpu")  # as when these are its parameters
        patch.setattr(pages.Page, "run_missing", lambda self, runs: None)
        patch.setattr(pages, "_pictures", pictures)
        patch.setattr(cka_blocks.Results, "read", made_up)
        patch.setattr(cka_blocks, "block_structure", lambda cka: structure(cka.tobytes(), len(cka)))
        patch.setattr(wsn.similarity.constructed, "alarms", lambda *_, **__: 0.5)
        patch.setattr(wsn.similarity.constructed, "detections", lambda *_, **__: 0.5)
        patch.setattr(IPython.display, "display", reader.display)
        for cell in nbformat.read(ROOT / "book/cka_blocks.ipynb", as_version=4).cells:
            if cell.cell_type == "code" and "solution" not in cell.metadata.get("tags", []):
                reader.execute(cell.source, names)
                if "parameters" in cell.metadata.get("tags", []):
                    names.update(PLANNED)
    plt.close("all")
    return SimpleNamespace(shown=reader.shown, text=reader.text(), widths=widths, names=names)


def test_it_says_nothing_that_is_none_or_that_held_before(page):
    assert NOTHING.findall(page.text) == []
    for past in ("planned next", "No two widths", "from ResNet-38", "are not trained"):
        assert past not in page.text
    answer = next(words for s in page.shown if "**Answer." in (words := s.get("text/markdown", "")))
    assert len(answer) < 1500
    assert "3 of 3 ResNet-110 (1×)" in answer and "From the narrowest to the widest" in answer


def test_every_claim_is_tested(page):
    verdicts = next(each[VERDICTS_TYPE]["verdicts"] for each in page.shown if VERDICTS_TYPE in each)
    assert [name for name, verdict in verdicts.items() if verdict == "not tested"] == []
    ours = page.names["ours"]
    assert {ours[name].n for name in ("width", "depth", "unique-architectures", "aligned")} == {3}


def test_no_network_is_shown_in_place_of_another(page):
    runs = page.names["plan"]
    titles = [runs.titles[name] for name in runs.networks]
    assert len({*titles}) == len(titles)
    assert {"ResNet-20 (1×), 100 epochs", "ResNet-20 (1×), 200 epochs"} <= {*titles}
    explorer = next(html for s in page.shown if "wsn-cka" in (html := s.get("text/html", "")))
    held = json.loads(explorer.partition('<script type="application/json">')[2].partition("</script>")[0])
    assert list(held["networks"]) == titles
    assert {len(seeds) for seeds in held["networks"].values()} == {1, 2}
    deep = held["networks"]["ResNet-56 (1×)"]
    assert [len(each["blocks"]) for each in deep.values()] == [0, 1]
    assert deep["1"]["note"] == "training accuracy 96 %"


def test_pairs_of_every_kind_are_shown_with_the_records_of_those_drawn(page):
    figure = next(s for s in page.shown if s.get(PROVENANCE_TYPE, {}).get("name") == "fig-across")
    assert len(figure[PROVENANCE_TYPE]["keys"]) == 5
    kinds = [
        "two seeds,\nwith a block", "two seeds,\nwithout a block", "two architectures,\nwith a block",
        "two architectures,\nwithout a block", "two widths",
    ]  # fmt: skip
    assert sorted(page.names["pairs"]) == sorted(kinds)


def test_what_is_no_picture_leaves_room_for_the_pictures(page):
    """Three million characters are the bar of the page."""
    sizes = [len(v if isinstance(v, str) else json.dumps(v)) for s in page.shown for v in s.values()]
    assert sum(sizes) < 1_700_000
    assert max(page.widths) < 11.5
