"""A chapter with other parameters says what it has to say, and of what it has not that it has not.

Notebooks are executed here in one process, without a kernel, with profiles of one seed, one width, one pass and the
like, which train in seconds.
"""

import ast
import json
import re
from collections.abc import Callable
from functools import partial
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import IPython.display
import matplotlib as mpl
import nbformat
import numpy as np
import pytest
import torch
import yaml
from conftest import write_jpegs
from matplotlib import pyplot as plt

import wsnlib as wsn
from wsnlib.book import gp_kernel, resnet_sweep, sparse_mlp
from wsnlib.book.engine import claims
from wsnlib.book.engine import page as pages
from wsnlib.book.engine.verdicts import VERDICTS_TYPE
from wsnlib.experiments import durations
from wsnlib.layers import origins
from wsnlib.probes import linear_probes

ROOT = Path(__file__).parent.parent

THINGS = "seeds|epochs|trainings|runs|networks|images|blocks|widths|records|pairs|populations|classes"
NOTHING = re.compile(
    rf"(?<![\w.])(?:nan|NaN|[-+−]?inf|None(?! of)|NaT|[Uu]nknown)(?!\w)|(?<![\w.,])1 (?:training )?(?:{THINGS})\b|⋯|(?:points|not known) points|(?<![\\\w^_])\{{[a-z_]+\}}"
)
"""What a page says that has nothing to say, or counts one as many."""


PROOF = re.compile(r"kernels\.symbolic\.")
"""What algebra proves depends on no parameter, and takes as long as all else on its page."""


class Reader:
    """What a notebook shows when it is executed here."""

    def __init__(self) -> None:
        self.shown: list[dict] = []

    def display(self, *values, raw=False, display_id=None, **_):
        places = [len(self.shown) + i for i in range(len(values))]
        self.shown += [value if raw else bundle(value) for value in values]
        return (
            SimpleNamespace(update=lambda value, **_: self.shown.__setitem__(places[0], value))
            if display_id
            else None
        )

    def execute(self, source: str, names: dict) -> None:
        body = ast.parse(source).body
        last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
        exec(compile(ast.Module(body, []), "<cell>", "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)
            if value is not None:
                self.display(value)

    def text(self) -> str:
        """All words that a reader sees."""
        return "\n".join(
            unescape(re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", words, flags=re.DOTALL))
            for each in self.shown
            for kind, words in each.items()
            if kind in ("text/markdown", "text/html") or (kind == "text/plain" and len(each) == 1)
        )


def bundle(value) -> dict:
    if hasattr(value, "_repr_mimebundle_"):
        return value._repr_mimebundle_()
    html = value._repr_html_() if hasattr(value, "_repr_html_") else None
    return {"text/html": html} if html else {"text/plain": repr(value)}


def words_of(figure, alt: str) -> dict[str, str]:
    """In place of a picture, which takes longer to draw than all else: the words in it."""
    return {"text/plain": "\n".join(text.get_text() for text in figure.findobj(mpl.text.Text))}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def read(monkeypatch, store, capsys):
    """Executes a chapter with the smoke profile and other values; the text that it shows, and its verdicts."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("WSN_STORE", str(store))
    monkeypatch.setenv("WSN_DATA", str(store / "data"))
    monkeypatch.setenv("WSN_WORKERS", "0")
    monkeypatch.setattr(pages, "_pictures", words_of)
    for timed in ("seconds_per_run", "seconds_per_measurement"):  # takes longer than so short a run
        monkeypatch.setattr(durations, timed, lambda *_, **__: 0.01)
    few = partial(linear_probes, strengths=(1.0,))  # weak penalties take most of the time
    monkeypatch.setattr(origins, "linear_probes", few)

    def read(chapter: str, changes: dict) -> tuple[str, dict[str, str]]:
        reader = Reader()
        monkeypatch.setattr(IPython.display, "display", reader.display)
        values = yaml.safe_load((ROOT / "params" / f"{chapter}.smoke.yml").read_text()) | changes
        names = {"__name__": "notebook"}
        for cell in nbformat.read(ROOT / "book" / f"{chapter}.ipynb", as_version=4).cells:
            if cell.cell_type == "code" and not PROOF.search(cell.source):
                reader.execute(cell.source, names)
                if "parameters" in cell.metadata.get("tags", []):
                    names.update(values)
        verdicts = next(
            (each[VERDICTS_TYPE]["verdicts"] for each in reader.shown if VERDICTS_TYPE in each), {}
        )
        return reader.text() + capsys.readouterr().out, verdicts

    yield read
    plt.close("all")
    torch.set_default_dtype(torch.float32)  # one chapter computes in float64


SMALL_RESNETS = {
    "base_widths": [2],
    "widening_factors": [1.0, 2.0],
    "seeds": [0],
    "epochs": 1,
    "train_size": 100,
}


def with_more_data(folder):
    """A second data set, on which another width is trained."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (100, 8, 8, 3), dtype=np.uint8), np.tile(np.arange(4), 25)
    np.savez(folder / "raw.npz", train_x=x, train_y=y)
    mine = wsn.pack_data(folder / "raw.npz", name="mine")
    return SMALL_RESNETS | {
        "preset": "clean", "validation_size": 20, "train_size": 32, "more_data": ["mine"], "data_sha256": mine.sha256,
        "more_factors": [1.5],
    }  # fmt: skip


def with_photographs(folder):
    """A grid of learning rates, a second data set, and photographs in place of ImageNet."""
    write_jpegs(wsn.data.data_root() / "pets")
    pets = wsn.image_folder("pets", image_size=32)
    return with_more_data(folder) | {
        "learning_rates": [0.1, 0.2], "seeds": [0, 1], "more_factors": [2.0], "imagenet_folder": "pets",
        "imagenet_sha256": pets.sha256, "imagenet_classes": 3, "imagenet_size": 32, "imagenet_widths": [2, 3], "imagenet_epochs": 1,
        "imagenet_seeds": [0, 1], "channel_base_widths": [2], "channel_factors": [2.0],
    }  # fmt: skip


DEEP = {"name": "deep", "depth": 14, "width_multiplier": 0.125, "part": 1, "epochs": 1, "seeds": [0]}
SHALLOW = DEEP | {"name": "shallow", "depth": 8}
THREE = [DEEP | {"seeds": [0, 1, 2]}, SHALLOW | {"seeds": [0, 1, 2]}]
SMALL_BLOCKS = {
    "images": 100, "validation_size": 40, "networks": [DEEP, SHALLOW], "compared": [{"networks": ["deep", "shallow"], "seeds": [0]}],
    "num_images": 32, "num_removed": 3, "num_rotated": 16, "moments": [0.0, 0.2], "least_fit": 0.01,
}  # fmt: skip
SMALL_MLPS = {
    "base_width": 3,
    "widths": [3, 6],
    "last_layer_densities": [0.5, 1.0],
    "seeds": [0],
    "epochs": 2,
}
SMALL_NETWORK = {"seeds": [0], "epochs": 1, "train_size": 40, "batch_size": 40}
SMALL_KERNELS = {
    "base_width": 4, "widths": [4, 8, 16], "learning_rates": [8.0], "tuning_seeds": [0], "seeds": [0], "epochs": 1,
    "num_pairs": 4, "num_networks": 3, "train_size": 100,
}  # fmt: skip
SMALL_POPULATIONS = {
    "train_size": 100, "epochs": 1, "evaluate_every": 1, "networks": 12, "other_networks": 12, "search_networks": 3, "caliper": 0.01,
}  # fmt: skip
SMALL_LATER = {
    "validation_size": 1100, "base_width": 2, "widths": [2, 3], "seeds": [0], "learning_rates": [0.1, 0.2], "rate_epochs": 1,
    "smu_seeds": [0], "train_sizes": [50, 100], "data_steps": 5, "part_epochs": 1, "moving_every": 1, "deep_width": 4,
    "deep_base_widths": [3, 2], "pattern_width": 3, "pattern_seeds": [0], "members": 2, "split_base_widths": [2, 3], "cka_steps": 3,
}  # fmt: skip


def held(change: Callable[[dict], dict | None]) -> Callable[[Path], dict]:
    """Writes pages as the scorecard reads them, with other verdicts or none, into a folder."""

    def write(folder: Path) -> dict:
        for path in (ROOT / "book").glob("*.ipynb"):
            page = json.loads(path.read_text())
            outputs = [o for cell in page["cells"] for o in cell.get("outputs", ()) if "data" in o]
            found = [change(o["data"][VERDICTS_TYPE]) for o in outputs if VERDICTS_TYPE in o["data"]]
            shown = [{"data": {VERDICTS_TYPE: each}} for each in found if each is not None]
            cells = [{"cell_type": "code", "outputs": shown}]
            (folder / path.name).write_text(json.dumps({"metadata": {}, "cells": cells}))
        return {"pages": str(folder)}

    return write


def one_seed(page: dict) -> dict:
    alone = {"n": 1, "low": "-inf", "high": "inf", "later": []}
    return page | {"ours": {name: each | alone for name, each in page["ours"].items()}}


ODD = {
    "scorecard": {
        "pages that were never executed": held(lambda page: None),
        "pages that measured nothing": held(lambda page: page | {"ours": {}}),
        "other data": held(lambda page: page | {"same_data": False}),
        "one seed": held(one_seed),
        "one page alone": held(lambda page: page if page["chapter"] == "sparse_mlp" else None),
    },
    "sparse_mlp": {
        "one seed": SMALL_MLPS,
        "no wider width": SMALL_MLPS | {"widths": [3]},
        "one density": SMALL_MLPS | {"last_layer_densities": [1.0]},
        "one activation": SMALL_MLPS | {"activations": ["linear"], "seeds": [0, 1]},
        "a validation set": SMALL_MLPS | {"preset": "clean", "validation_size": 50, "epochs": 1},
    },
    "resnet_sweep": {
        "one seed": SMALL_RESNETS | {"channel_base_widths": [2], "channel_factors": [2.0]},
        "no wider width": SMALL_RESNETS | {"largest_width": 2, "channel_base_widths": [2], "channel_factors": [1.0]},
        "no dense width": SMALL_RESNETS
        | {"largest_dense_width": 1, "channel_base_widths": [2], "channel_factors": [2.0]},
        "two seeds": SMALL_RESNETS | {"seeds": [3, 5], "channel_base_widths": [2], "channel_factors": [2.0]},
        "two base widths": SMALL_RESNETS
        | {"base_widths": [2, 3], "channel_base_widths": [2], "channel_factors": [2.0]},
        "no masks over channels": SMALL_RESNETS | {"channel_base_widths": [], "channel_factors": []},
        "learning rates, harder data and photographs": with_photographs,
        "a learning rate of its own for the base alone": SMALL_RESNETS
        | {"preset": "clean", "validation_size": 50, "learning_rates": [0.1, 0.2], "largest_tuned_width": 1, "epochs": 2},
        "data sets without a common width": with_more_data,
    },
    "gp_kernel": {
        "one seed": SMALL_KERNELS,
        "two seeds": SMALL_KERNELS | {"seeds": [0, 1]},
        "two widths": SMALL_KERNELS | {"widths": [4, 8]},
        "a validation set": SMALL_KERNELS | {"preset": "clean", "validation_size": 50},
        "two learning rates": SMALL_KERNELS | {"learning_rates": [4.0, 8.0]},
        "a width that is not drawn": SMALL_KERNELS | {"widths": [4, 12, 32]},
    },
    "wide_vs_deep_errors": {
        "small populations": SMALL_POPULATIONS,
        "no pair of equal accuracy": SMALL_POPULATIONS | {"caliper": 1e-9},
        "other populations smaller": SMALL_POPULATIONS | {"other_networks": 8, "other_rate_epochs": [1]},
        "networks for controls": SMALL_POPULATIONS | {"control_networks": 8, "shared_seeds": True},
        "another base": SMALL_POPULATIONS | {"base_multiplier": 0.125},
        "networks at chance": SMALL_POPULATIONS | {"batch_size": 100, "learning_rate": 1e-6},
        "a wide sparse network": SMALL_POPULATIONS | {"sparse_multiplier": 0.375},
    },
    "cka_blocks": {  # each trains little that the one before has not
        "one seed": SMALL_BLOCKS,
        "nothing fits": SMALL_BLOCKS | {"least_fit": 1.0},
        "three seeds": SMALL_BLOCKS | {
            "networks": THREE,
            "compared": [{"networks": [name], "seeds": [0, 1, 2]} for name in ("deep", "shallow")],
        },
        "one network": SMALL_BLOCKS | {"networks": THREE[:1], "compared": [{"networks": ["deep"], "seeds": [0, 2]}]},
        "every kind of network": SMALL_BLOCKS | {
            "networks": [
                DEEP, SHALLOW, DEEP | {"name": "wide", "width_multiplier": 0.25},
                DEEP | {"name": "deep on less", "part": 2}, DEEP | {"name": "plain", "residual": False},
            ],
            "compared": [{"networks": ["deep", "shallow", "wide", "deep on less", "plain"], "seeds": [0]}],
        },
        "no moment but the first": SMALL_BLOCKS | {"moments": [0.0], "num_removed": 10},
    },
    "later_work": {
        "one seed": SMALL_LATER,
        "the key figure alone": SMALL_LATER | {"parts": ["rate"]},
        "SμPar with one of two seeds": SMALL_LATER | {"parts": ["smu", "rate"], "seeds": [0, 1], "smu_seeds": [1]},
        "one learning rate": SMALL_LATER | {"parts": ["rate", "data", "split"], "learning_rates": [0.1]},
        "no pyramidal ratios": SMALL_LATER | {"parts": ["rate", "allocation", "moving"], "deep_width": 60, "deep_base_widths": [2, 1]},
    },
    "your_network": {
        "one seed": SMALL_NETWORK,
        "two seeds": SMALL_NETWORK | {"seeds": [0, 1]},
        "three widths": SMALL_NETWORK | {"widths": [0.25, 0.3, 0.5]},
        "a validation set": SMALL_NETWORK | {"preset": "clean", "validation_size": 20},
        "another schedule": SMALL_NETWORK | {"schedule": "cosine", "batch_size": 20},
    },
    "bottlenecks": {
        "one seed": SMALL_RESNETS,
        "no wider width": SMALL_RESNETS | {"largest_width": 2},
        "two seeds": SMALL_RESNETS | {"seeds": [3, 5]},
        "two base widths": SMALL_RESNETS | {"base_widths": [2, 3]},
        "a validation set": SMALL_RESNETS | {"preset": "clean", "validation_size": 20, "train_size": 120},
    },
    "your_layers": {
        "one pass": {"passes": 1, "num_images": 32},
        "few images": {"num_images": 32, "batch_size": 8},
        "one batch": {"num_images": 32, "batch_size": 32},
        "one network twice": {"networks": ["resnet18", "resnet34"], "num_images": 32},
        "another seed": {"seed": 7, "num_images": 48},
    },
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:the weights of encoder")  # the page shows a network that is refused
@pytest.mark.parametrize(
    ("chapter", "name"), [(chapter, name) for chapter, cases in ODD.items() for name in cases]
)
def test_a_chapter_with_odd_parameters_says_nothing_that_is_none(chapter, name, read, tmp_path):
    odd = ODD[chapter][name]
    odd = odd if isinstance(odd, dict) else odd(tmp_path)
    text, verdicts = read(chapter, odd)
    found = [text[max(0, each.start() - 60) : each.end() + 30] for each in NOTHING.finditer(text)]
    assert found == []
    assert "**Answer.**" in text and "**Scale.**" in text
    of_chapter = {} if "parts" in odd else claims.claims_of(chapter)  # a part that is left out judges nothing
    always = {name for name, claim in of_chapter.items() if claim.any_scale}
    assert [name for name in always if verdicts[name] == "not tested"] == []


def test_paths_are_told_from_the_density_only_where_their_orders_differ(read):
    """222 weights: at width 12 a dense last layer would hold more than half of them."""
    widths = SMALL_MLPS | {"widths": [3, 6, 12], "last_layer_densities": [0.5, 0.9, 1.0]}
    text, _ = read("sparse_mlp", widths)
    assert "Only at width 12 is the order by paths not that by the density of the last layer" in text
    assert re.search(r"there the correlation with paths is positive for \d of 2 pairs, that with", text)
    text, _ = read("sparse_mlp", SMALL_MLPS)
    assert "The order by paths is that by the density of the last layer" in text and "Only at" not in text


def test_the_best_width_is_said_to_rise_in_training_only_where_it_does(read):
    found = r"After the first epoch the best width is (\d+) \(ReLU\) and (\d+) \(linear\), after the last (\d+) \(ReLU\) and (\d+) \(linear\)(: it rises)?"
    for epochs in (1, 2, 20):
        text, _ = read("sparse_mlp", SMALL_MLPS | {"widths": [3, 6, 12], "epochs": epochs})
        *widths, rises = re.search(found, text).groups()
        first, last = (list(map(int, each)) for each in (widths[:2], widths[2:]))
        assert bool(rises) == all(a < b for a, b in zip(first, last, strict=True))
        assert epochs > 1 or first == last


@pytest.mark.parametrize(("preset", "images"), [("faithful", "test"), ("clean", "validation")])
def test_the_epoch_that_counts_is_that_of_the_preset(preset, images, read):
    values = {"preset": preset, "validation_size": 50, "activations": ["linear"]}
    text, _ = read("sparse_mlp", SMALL_MLPS | values)
    assert f"At the last epoch instead of the best one on the {images} images, the gains are" in text
    of_faithful, of_clean = re.search(
        r"The preset \*faithful\*(.*?)The preset \*clean\*(.*)", text, re.DOTALL
    ).groups()
    assert ("above the last epoch" in of_faithful, "above the last epoch" in of_clean) == (
        preset == "faithful",
        preset == "clean",
    )


def test_a_dense_network_that_diverged_leaves_the_page_of_the_others(read, monkeypatch):
    results = sparse_mlp.results

    def diverged(p, store):
        table = results(p, store)
        dense = (table["width"] == 3) & (table["activation"] == "relu")
        table.loc[dense, ["test_accuracy", "test_accuracy_last"]] = np.nan
        return table

    monkeypatch.setattr(sparse_mlp, "results", diverged)
    text, _ = read("sparse_mlp", SMALL_MLPS)
    assert "**Answer.** A linear network of width 6" in text
    assert NOTHING.search(text) is None


@pytest.mark.parametrize(
    ("best_fit", "said"),
    [
        (4, "At width 4, the widest trained, where the sparse network fits its training images to 40 % and the fit still rises with width, it has"),
        (3, "At width 3, where networks with these weights fit the training images best, the sparse network has"),
    ],
)  # fmt: skip
def test_the_widest_trained_is_not_said_to_fit_best_of_all(best_fit, said, read, monkeypatch):
    results = resnet_sweep.results

    def fitted(p, store):
        table = results(p, store)
        return table.assign(train_accuracy=0.4 - abs(table["width"] - best_fit) / 10)

    monkeypatch.setattr(resnet_sweep, "results", fitted)
    text, _ = read("resnet_sweep", SMALL_RESNETS | {"widening_factors": [1.0, 1.5, 2.0], "seeds": [0, 1]})
    assert said in text
    assert "other seeds, the best is not biased, but the seeds share their choices" in text


def test_widths_without_a_dense_network_or_a_learning_rate_of_their_own_are_told_apart(read, monkeypatch):
    results = resnet_sweep.results
    monkeypatch.setattr(
        resnet_sweep,
        "results",
        lambda p, store: (table := results(p, store)).assign(train_accuracy=table["width"] / 10),
    )
    widths = {"widening_factors": [1.0, 1.5, 2.0], "largest_dense_width": 3, "largest_tuned_width": 3}
    rates = {"preset": "clean", "validation_size": 50, "learning_rates": [0.1, 0.2], "epochs": 2}
    text, _ = read("resnet_sweep", SMALL_RESNETS | {"seeds": [0, 1]} | widths | rates)
    for words in (
        "width 4, which fits the training images best, was not trained dense.",
        "At a learning rate of each width's own, networks of widths up to 3 are",
        "On validation images, the mean gain of widths up to 3 is",
        "each width up to 3 of the family of sparse networks also took its best (4 further trainings of 1 epoch)",
    ):
        assert words in text, words
    assert re.search(r"All widths up to 3 took the same rate|From width 2 to 3, the best rates are", text)


def test_the_kernel_s_page_says_which_networks_are_trained_and_which_widths_compared(read):
    """296 weights: at width 16 a dense last layer would hold more than half of them."""
    text, _ = read("gp_kernel", SMALL_KERNELS)
    assert "those of *allocation*, whose masks differ from those of *released code* from width 16 on." in text
    assert "at widths with at least as many weights per unit as at $p^*$ (8), equation (4) gives" in text
    text, _ = read("gp_kernel", SMALL_KERNELS | {"widths": [4, 8]})
    assert "differ from those of *released code* at no width here." in text


@pytest.mark.parametrize(
    ("widths", "said"),
    [
        ((16.0, 16.0), "Theorem 1 does not support this"),
        ((512.0, 1024.0), "Theorem 1 does not contradict this"),
        ((16.0, 1024.0), "Whether Theorem 1 supports this is open"),
        ((4.0, 64.0), "Whether Theorem 1 supports this is open"),  # the widest that is trained
    ],
)
def test_where_accuracy_is_best_must_be_known_before_it_speaks_of_the_theorem(
    widths, said, read, monkeypatch
):
    ends = wsn.Estimate(mean=widths[0], low=widths[0], high=widths[1], n=9)
    minimisers = gp_kernel.minimisers
    monkeypatch.setattr(gp_kernel, "accurate_widths", lambda *_: ends)
    monkeypatch.setattr(gp_kernel, "minimisers", lambda *given: minimisers(*given).assign(exact=4 / 1000))
    text, _ = read("gp_kernel", SMALL_KERNELS | {"widths": [4, 16, 64]})
    assert f"**Answer.** {said}" in text


def test_the_page_on_blocks_names_the_networks_that_it_shows(read):
    """Two networks, of which one, both or none has a block."""
    text, _ = read("cka_blocks", SMALL_BLOCKS | {"learning_rate": 0.05})
    assert ("in the deepest networks with and without a block" in text) == (
        "1 of 1 " in text and "0 of 1 " in text
    )
    assert "The learning rate is 0.05, not the *0.01* of the authors' released code" in text
    assert "What is planned next" not in text
    text, _ = read("cka_blocks", SMALL_BLOCKS | {"least_fit": 1.0})
    assert "in the deepest networks with and" not in text and "the deepest network with a block" not in text
    assert "they do by" not in text


def test_the_page_on_later_work_says_the_rate_that_it_has(read):
    values = {"parts": ["rate", "moving"], "learning_rates": [0.1, 0.4], "learning_rate": 0.4}
    text, _ = read("later_work", SMALL_LATER | values)
    assert "all at the rate 0.4, and all at" in text and "at G21's rate" not in text
    assert re.search(r"rule a layer differs by [\d.]+ ", text)


def test_every_chapter_has_five_odd_cases():
    chapters = {path.stem for path in (ROOT / "book").glob("*.ipynb")}
    assert {chapter for chapter, cases in ODD.items() if len(cases) >= 5} == chapters


def test_the_words_that_say_nothing_are_found():
    for words in (
        "5 (-inf to inf)",
        "nan points",
        "1 seeds",
        "unknown to 3",
        "a {gain} b",
        "on None images",
        "1.2 points points",
    ):
        assert NOTHING.search(words)
    for words in ("1 seed", "11 seeds", "0.1 points", "information", "not known", "nanometre"):
        assert not NOTHING.search(words)
