"""What pages say of their figures and verdicts, and what the scorecard makes of it."""

import base64
import gzip
import io
import json
import math
import re
from html import escape
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

import wsnlib as wsn
from wsnlib import book, sweeps
from wsnlib.book import sparse_mlp
from wsnlib.book.engine import page as page_module
from wsnlib.book.engine import provenance, published, scores, verdicts
from wsnlib.store import MeasurementRecord, Record

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "book").glob("*.ipynb"))


def experiment(seed: int) -> wsn.Experiment:
    return wsn.Experiment(
        model=wsn.MLPSpec(width=3, inputs=64), data=wsn.Digits(), training=wsn.Training(epochs=1), seed=seed
    )


@pytest.fixture
def store(tmp_path):
    store = wsn.Store(tmp_path / "records")
    for seed in (0, 1, 2, 5, 7, 8):
        made = {"device": f"cpu: {'AB'[seed % 2]}", "commit": "abc", "seconds": 60.25}
        store.save(Record(experiment=experiment(seed), status="finished", history={}, environment=made))
    return store


@pytest.fixture
def shown(monkeypatch):
    """What a page displays, in order."""
    display = pytest.importorskip("IPython.display")
    seen: list = []
    monkeypatch.setattr(display, "display", lambda value, **_: seen.append(value))
    return seen


WORDS = {"name": "fig-line", "caption": "A line.", "alt": 'A line that "rises" from left to right.'}


def line(points: int = 3) -> Figure:
    figure = Figure()
    figure.subplots().plot(range(points), np.linspace(0.123456789, 1, points), label="a, b")
    return figure


def test_what_made_a_figure_counts_a_training_of_several_measurements_once():
    def training(run, seconds):
        return {"run": run, "device": "cpu: B", "commit": "b", "resumed_from": ["c"], "seconds": seconds}

    def measured(*trainings):
        made = {"device": "cpu: A", "commit": "a", "seconds_measuring": 1.0, "trainings": list(trainings)}
        return SimpleNamespace(
            environment=made | {"seconds": 1.0 + sum(each["seconds"] for each in trainings)}
        )

    plain = SimpleNamespace(environment={"device": "cpu: A", "commit": "a", "seconds": 7.0})
    records = [measured(training("x", 100.0)), measured(training("x", 100.0), training("y", 50.0)), plain]
    made = provenance.made_by(records)
    assert sorted(each["seconds"] for each in made) == [1.0, 1.0, 7.0, 50.0, 100.0]
    assert {each["device"] for each in made} == {"cpu: A", "cpu: B"}


def made_page(store) -> book.Page:
    published = book.read_parameters(ROOT / "params" / "sparse_mlp.cpu.yml")
    changed = published.model_copy(update={"preset": "clean", "validation_size": 7})
    return book.Page(changed, store=store)


def test_a_figure_is_shown_with_what_made_it_under_it(store, shown):
    page, runs = made_page(store), [experiment(seed) for seed in (8, 0, 1, 2, 5, 7)]
    page.show(line(), [*runs, runs[0]], **WORDS)
    picture, caption, made = shown
    assert picture["image/svg+xml"].startswith("<?xml")
    assert 'aria-label="A line that &quot;rises&quot; from left to right."' in picture["image/svg+xml"]
    assert base64.b64decode(picture["image/png"]).startswith(b"\x89PNG")
    assert picture["text/plain"] == WORDS["alt"]
    assert caption["text/markdown"] == "**Figure 1.** A line."
    bundle = made._repr_mimebundle_()
    content = bundle[provenance.PROVENANCE_TYPE]
    assert content["keys"] == sorted(map(wsn.spec_key, runs))
    assert (content["chapter"], content["name"], content["preset"]) == ("sparse_mlp", "fig-line", "clean")
    assert (content["seeds"], content["seconds"]) == ([0, 1, 2, 5, 7, 8], 6 * 60.25)
    assert (content["devices"], content["commits"]) == (["cpu: A", "cpu: B"], ["abc"])
    assert content["profile"] == "cpu (but preset = 'clean', validation_size = 7)"
    assert content["command"] == (
        "papermill book/sparse_mlp.ipynb out.ipynb -f params/sparse_mlp.cpu.yml "
        "-p preset clean -p validation_size 7"
    )
    html = bundle["text/html"]
    assert "Drawn from 6 records, seeds 0 to 2, 5, 7, 8, 6.0 minutes of one process" in html
    assert all(key in html for key in content["keys"])
    json.dumps(content)


def test_seeds_of_measured_trainings_count(store, shown):
    measured = wsn.OutputSimilarity([experiment(3), experiment(4)])
    store.save(MeasurementRecord(experiment=measured, status="finished"))
    made_page(store).show(line(), [measured], **WORDS)
    assert {3, 4} <= set(shown[2].seeds)


def table_in(html: str) -> pd.DataFrame:
    address = re.search(r'href="data:([^"]*)"', html)[1]
    kind, _, data = address.partition(",")
    text = unquote(data) if kind.startswith("text/csv") else gzip.decompress(base64.b64decode(data)).decode()
    return pd.read_csv(io.StringIO(text))


@pytest.mark.parametrize(("points", "compressed"), [(3, False), (20_011, True)])
def test_the_data_under_a_figure_are_those_that_it_shows(points, compressed, store, shown):
    made_page(store).show(line(points), **WORDS)
    html = shown[2]._html()
    assert ('download="sparse_mlp-figure-1.csv.gz"' in html) is compressed
    table = table_in(html)
    assert table["series"].unique().tolist() == ["a, b"]
    np.testing.assert_allclose(table["y"], np.linspace(0.123456789, 1, points), rtol=1e-5)
    if compressed:  # no time in it, so that the same data are the same bytes
        packed = base64.b64decode(re.search(r"base64,([^\"]*)", html)[1])
        assert packed[4:8] == bytes(4)
    assert "no stored run is behind it" in html
    assert "Keys of the records" not in html


def test_given_data_replace_those_read_from_the_figure(store, shown):
    made_page(store).show(line(), data=pd.DataFrame({"class": ["<cat>"], "share": [0.5]}), **WORDS)
    assert table_in(shown[2]._html()).to_dict("list") == {"class": ["<cat>"], "share": [0.5]}
    made_page(store).show(line(), data=pd.DataFrame(), **WORDS)
    assert "download" not in shown[5]._html()


def test_figures_are_numbered_and_the_same_figure_gives_the_same_bytes(store, shown):
    page = made_page(store)
    page.show(line(), **WORDS)
    page.show(line(), **WORDS)
    assert [made.number for made in shown[2::3]] == [1, 2]
    assert [caption["text/markdown"][:13] for caption in shown[1::3]] == ["**Figure 1.**", "**Figure 2.**"]
    assert shown[0] == shown[3]


def test_a_shown_figure_is_closed_and_not_shown_again(store, shown):
    figure, ax = plt.subplots()
    ax.plot([1, 2])
    made_page(store).show(figure, **WORDS)
    assert not plt.fignum_exists(figure.number)


def test_a_figure_of_many_marks_is_a_png_alone(store, shown, monkeypatch):
    monkeypatch.setattr(page_module, "LARGEST_SVG", 1000)
    made_page(store).show(line(), **WORDS)
    assert base64.b64decode(shown[0]["image/png"]).startswith(b"\x89PNG")
    assert "image/svg+xml" not in shown[0]


def test_a_figure_without_its_record_is_not_shown(store, shown):
    with pytest.raises(KeyError, match="no record"):
        made_page(store).show(line(), [experiment(3)], **WORDS)
    assert shown == []


def profile_of(tmp_path, monkeypatch, **values) -> book.Page:
    """A page in a repository with a profile of its own."""
    (tmp_path / "params").mkdir()
    (tmp_path / "_toc.yml").touch()
    (tmp_path / "params" / "sparse_mlp.smoke.yml").write_text("widths: [5, 7]")
    monkeypatch.chdir(tmp_path)
    return book.Page(sparse_mlp.Parameters(**values), store=wsn.Store(tmp_path / "records"))


@pytest.mark.parametrize(
    ("values", "profile", "words"),
    [
        ({"widths": [5, 7]}, "smoke", ""),
        ({"widths": [5, 7], "device": "cpu", "budget_minutes": 1.0, "download": True}, "smoke", ""),
        ({"widths": [5, 11]}, "smoke (but widths = [5, 11])", " -y 'widths: [5, 11]'"),
        (
            {"widths": [5, 7], "epochs": 3, "preset": "clean", "validation_size": 11},
            "smoke (but preset = 'clean', validation_size = 11, epochs = 3)",
            " -p preset clean -p validation_size 11 -p epochs 3",
        ),
    ],
)
def test_a_page_has_its_profile_s_name_only_with_its_values(
    values, profile, words, tmp_path, monkeypatch, shown
):
    page = profile_of(tmp_path, monkeypatch, **values)
    assert page.profile == page.verdicts({}).profile == profile
    page.show(line(), **WORDS)
    assert (
        shown[2].command == f"papermill book/sparse_mlp.ipynb out.ipynb -f params/sparse_mlp.smoke.yml{words}"
    )
    assert f"Profile <i>{escape(profile)}</i>" in shown[2]._html()


def test_a_page_outside_of_the_repository_does_not_vouch_for_its_profile(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = book.Page(sparse_mlp.Parameters(), store=wsn.Store(tmp_path / "records"))
    assert page.profile == "smoke (its file is not here to compare with)"


def test_what_made_a_figure_says_where_its_records_are(tmp_path, monkeypatch, shown):
    page = profile_of(tmp_path, monkeypatch)
    here, there = wsn.Store(tmp_path / "records"), wsn.Store(Path("/") / tmp_path.relative_to("/") / "far")
    here.save(Record(experiment=experiment(3), status="finished", history={}))
    page.show(line(), [experiment(3)], **WORDS)
    assert "files in <code>records/</code>" in shown[2]._html()
    there.save(Record(experiment=experiment(7), status="finished", history={}))
    page.store = wsn.Store(tmp_path / "far", also=[tmp_path / "records"])
    page.show(line(), [experiment(3), experiment(7)], **WORDS)
    assert "files in <code>far/</code> and <code>records/</code>" in shown[5]._html()
    monkeypatch.setattr(Path, "home", lambda: tmp_path.parent)
    (tmp_path / "_toc.yml").unlink()
    page.show(line(), [experiment(7)], **WORDS)
    assert f"files in <code>~/{tmp_path.name}/far/</code>" in shown[8]._html()


class Outputs:
    """Displays that remember what they show now, and what metadata they have."""

    def __init__(self) -> None:
        self.now: list[str] = []
        self.about: list[dict | None] = []

    def display(self, bundle, *, raw, display_id, metadata=None):
        assert raw and display_id
        self.now.append(bundle["text/plain"])
        self.about.append(metadata)
        place = len(self.now) - 1
        return type("Handle", (), {"update": lambda _, new, raw, **more: self.change(place, new)})()

    def change(self, place, new):
        self.now[place] = new["text/plain"]


@pytest.fixture
def displayed(monkeypatch):
    outputs = Outputs()
    monkeypatch.setattr("IPython.display.display", outputs.display)
    return outputs


def test_text_changes_when_its_numbers_do(displayed):
    text = book.Text()
    text.fill(width=64)
    text("The verdict, from the end: {{verdict}}.")
    text(r"Width {{width}} is best, $\frac{1}{2}$ of {{num_runs}}.")
    assert displayed.now == ["The verdict, from the end: ⋯.", r"Width 64 is best, $\frac{1}{2}$ of ⋯."]
    text.fill(num_runs=7, verdict="mixed")
    assert displayed.now == ["The verdict, from the end: mixed.", r"Width 64 is best, $\frac{1}{2}$ of 7."]
    text.fill(width=128)
    assert displayed.now[1] == r"Width 128 is best, $\frac{1}{2}$ of 7."


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 seconds"),
        (119.9, "119.9 seconds"),
        (120, "2.0 minutes"),
        (7199, "120.0 minutes"),
        (7200, "2.0 hours"),
    ],
)
def test_durations_in_words(seconds, words):
    assert provenance.core_time(seconds) == words


CLAIMS = {
    name: book.Claim(name=name, source="G21, Figure 5", statement=f"<{name}>", low=1, high=2, unit="points")
    for name in ("held", "part", "never", "missing")
}
OURS = {
    "held": wsn.Estimate(mean=1.5, low=1.25, high=1.75, n=3),
    "part": wsn.Estimate(mean=0.5, low=-0.5, high=1.5, n=3),
    "never": wsn.Estimate(mean=5, low=math.inf, high=math.inf, n=1),
}


def made_verdicts(**scale) -> book.PageVerdicts:
    at = {"same_data": True, "full_protocol": False, "chapter": "c", "profile": "cpu", "preset": "clean"}
    return book.PageVerdicts(claims=CLAIMS, ours=OURS, **(at | scale))


def test_verdicts_survive_the_notebook():
    made = made_verdicts()
    content = json.loads(json.dumps(made._repr_mimebundle_()[verdicts.VERDICTS_TYPE], allow_nan=False))
    assert verdicts.estimates_of(content) == OURS
    assert content["verdicts"] == {
        "held": "reproduced", "part": "inconclusive", "never": "inconclusive", "missing": "not tested",
    }  # fmt: skip
    assert [made[name] for name in CLAIMS] == list(content["verdicts"].values())
    assert made.table["verdict"].tolist() == list(content["verdicts"].values())
    assert "part inconclusive" in repr(made)


def test_the_table_of_verdicts_escapes_and_marks_its_rows():
    html = made_verdicts()._repr_mimebundle_()["text/html"]
    assert "&lt;held&gt;" in html
    assert "<held>" not in html
    assert html.count('<tr class="verdict-') == len(CLAIMS)
    short, whole = html.split("<details>")
    heads = [re.findall(r'<th scope="col">(.*?)</th>', part) for part in (short, whole)]
    assert heads[0][:2] == ["claim", "verdict"]  # on a phone, too
    assert sorted({*heads[0], *heads[1]}) == sorted(made_verdicts().table.columns)
    assert set(heads[0]) & set(heads[1]) == {"claim"}
    signs = re.findall(r'<td class="verdict"><span aria-hidden="true">(.)</span> ([a-z ]+)</td>', short)
    assert signs == [("✓", "reproduced"), ("?", "inconclusive"), ("?", "inconclusive"), ("–", "not tested")]


def test_an_estimate_without_a_claim_is_refused():
    with pytest.raises(ValueError, match="estimates must be of claims, one of other, got 'held'"):
        book.PageVerdicts(claims={"other": CLAIMS["part"]}, ours=OURS, same_data=True, full_protocol=False,
                     chapter="c", profile="cpu", preset="clean")  # fmt: skip


@pytest.mark.parametrize(
    ("ours", "scale", "words"),
    [
        (OURS["held"], {}, "the whole interval lies in the range"),
        (OURS["part"], {}, "the interval meets the range and what contradicts it"),
        (wsn.Estimate(mean=0, low=-1, high=0.9, n=3), {}, "the whole interval lies below the range"),
        (wsn.Estimate(mean=3, low=2.1, high=4, n=3), {}, "the whole interval lies above the range"),
        (OURS["never"], {}, "fewer than 3 independent units"),
        (OURS["held"], {"same_data": False}, "measured on other data than the paper's"),
        (None, {}, "not measured with this profile"),
    ],
)
def test_why_a_verdict_is_what_it_is(ours, scale, words):
    found = book.judge(CLAIMS["held"], ours, **({"same_data": True, "full_protocol": False} | scale))
    assert found.why == words


def test_why_a_number_of_the_whole_training_is_not_judged():
    claim, ours = book.claims_of("sparse_mlp")["relu-best"], wsn.Estimate(mean=96, low=95, high=97, n=3)
    scale = {"same_data": True, "full_protocol": False}
    assert book.judge(claim, ours, **scale).why == "only the paper's data and its whole training can tell"
    assert book.judge(book.claims_of("")["resized"], None, **scale).why == "no page trains on ImageNet"


def notebook(chapter: str, ours: dict[str, wsn.Estimate], **scale) -> dict:
    at = {"same_data": True, "full_protocol": False, "profile": "cpu", "preset": "clean"} | scale
    made = book.PageVerdicts(claims=book.claims_of(chapter), ours=ours, chapter=chapter, **at)
    return {"metadata": {}, "cells": [{"outputs": [{"data": made._repr_mimebundle_()}]}]}


def test_the_scorecard_has_every_claim_once_with_the_verdict_of_the_rule():
    ours = {
        "relu-gain": wsn.Estimate(mean=5, low=4, high=6, n=3),
        "linear-gain": wsn.Estimate(mean=0, low=-1, high=1, n=3),
    }
    table = book.scorecard_table({"sparse_mlp": notebook("sparse_mlp", ours)})
    every = [c for chapter in ("", *book.judging_chapters()) for c in book.claims_of(chapter).values()]
    assert len(table) == sum(claim.type != "premise" for claim in every)
    assert table["paper"].tolist() == sorted(table["paper"])
    by_claim = table.set_index("claim")
    gain = by_claim.loc[book.claims_of("sparse_mlp")["relu-gain"].statement]
    assert (gain["verdict"], gain["n"], gain["page"], gain["profile"]) == (
        "reproduced",
        3,
        "sparse_mlp",
        "cpu",
    )
    open_ = by_claim.loc[book.claims_of("sparse_mlp")["linear-gain"].statement]
    assert (open_["verdict"], open_["seeds to decide"]) == ("inconclusive", "more than 1,000")
    counts = book.verdict_counts(table)
    assert counts.loc["both", ["reproduced", "inconclusive"]].tolist() == [1, 1]
    assert (counts.loc["arithmetic"] + counts.loc["confirmatory"] + counts.loc["exploratory"]).equals(
        counts.loc["both"]
    )
    assert counts.loc["exploratory", ["reproduced", "inconclusive"]].tolist() == [1, 1]
    of_papers = table[table["paper"] != book.LATER]
    arithmetic, exploratory = counts.loc[["arithmetic", "exploratory"], "claims"]
    headline = book.headline(table)
    assert f"Of {len(of_papers)} claims of the two papers, 2 are tested. Of {arithmetic} *arith" in headline
    own = [claim for claim in every if claim.statement in set(of_papers["claim"])]
    late = sum(claim.type == "arithmetic" and bool(claim.exploratory) for claim in own)
    assert late and f"decided without training ({late} of them exploratory), 0 are tested. Of" in headline
    assert f"Of {exploratory} *exploratory* ones" in headline
    assert "changed later, 2 are tested: 1 reproduced and 1 inconclusive. Of" in headline
    assert counts.loc["both", "claims"] == len(of_papers)
    later = counts.loc[[book.LATER, scores.OWN], "claims"].tolist()
    assert sum(later) == len(table) - len(of_papers)
    assert later[1] == sum("question of this book" in claim.source for claim in every) > 0
    assert later[0] > 20
    assert f"Of {later[0]} claims of later work, 0 are tested." in headline
    assert headline.endswith(f"Of {later[1]} questions of this book's own, 0 are tested.")
    assert (counts.loc["G21"] + counts.loc["N21"]).equals(counts.loc["both"])
    assert "| G21 |" in scores.verdict_counts_markdown(table)
    page = notebook("sparse_mlp", ours)
    assert scores.verdict_on(page, book.claims_of("sparse_mlp")["relu-gain"]) == "reproduced"
    assert scores.verdict_on(page, book.claims_of("sparse_mlp")["relu-best"]) == "not tested"
    assert scores.measured_on(page, book.claims_of("sparse_mlp")["linear-gain"]) == "0 (−1 to 1)"
    with pytest.raises(KeyError, match="an estimate for, relu-gain, linear-gain, got 'relu-best'"):
        scores.measured_on(page, book.claims_of("sparse_mlp")["relu-best"])
    elsewhere = book.scorecard_table({"sparse_mlp": notebook("sparse_mlp", ours, same_data=False)})
    assert set(elsewhere["verdict"]) == {"not tested"}


def test_the_history_has_every_exploratory_claim_with_what_was_changed():
    table = book.history_table()
    flagged = [c for ch in book.judging_chapters() for c in book.claims_of(ch).values() if c.exploratory]
    assert table["claim"].tolist() == [c.statement for c in flagged]
    starts = ("range", "quantity", "data", "interval", "units", "readings", "premise")
    assert all(text.startswith(starts) for text in table.iloc[:, -1])


def test_a_typed_verdict_does_not_count():
    page = notebook("sparse_mlp", {"relu-gain": wsn.Estimate(mean=-5, low=-6, high=-4, n=3)})
    page["cells"][0]["outputs"][0]["data"][verdicts.VERDICTS_TYPE]["verdicts"]["relu-gain"] = "reproduced"
    table = book.scorecard_table({"sparse_mlp": page}).set_index("claim")
    assert table.loc[book.claims_of("sparse_mlp")["relu-gain"].statement, "verdict"] == "not reproduced"


def test_no_figure_table_or_theorem_of_the_papers_is_missing():
    names = {paper: [e.name for e in book.exhibits() if e.paper == paper] for paper in ("G21", "N21")}
    appendix = ["C.1", *(f"D.{i}" for i in range(1, 9)), "E.1", *(f"F.{i}" for i in range(1, 5))]
    expected = {
        "G21": [*(f"Figure {i}" for i in range(1, 15)), "Table 1", "Theorem 1"],
        "N21": [*(f"Figure {i}" for i in (*range(1, 8), *appendix)), "Table B.1", "Table F.1", "Table F.2", "Proposition 1"],
    }  # fmt: skip
    assert {paper: sorted(found) for paper, found in names.items()} == {
        p: sorted(e) for p, e in expected.items()
    }


def test_every_exhibit_has_a_figure_of_ours_a_table_or_a_reason():
    labels = {
        path.stem: {made["name"] for made in published.provenances(published.read_notebook(path))}
        for path in PAGES
    }
    for exhibit in book.exhibits():
        assert set(exhibit.figures) <= labels[exhibit.chapter] or exhibit.planned, exhibit
    table = book.exhibits_table(book.scorecard_table({}))
    assert len(table) == len(book.exhibits())
    judged = table["verdicts"] != ""
    assert table.loc[~judged, "exhibit"].tolist() == ["Figure 2"]


def test_names_of_claims_are_unique_and_every_source_names_a_paper():
    judged = [book.claims_of(c) for c in ("", *book.judging_chapters())]
    every = [c for of in (*judged, book.printed_claims()) for c in of.values()]
    statements = [c.statement for c in every if c.name not in book.printed_claims()]
    assert len(set(statements)) == len(statements)
    assert {c.source.partition(", ")[0] for c in every} == {"G21", "N21", book.LATER}
    assert all(c.low <= c.high for c in every)
    assert all(c.untested for c in book.claims_of("").values())


def test_every_number_of_the_papers_tables_is_on_the_scorecard():
    table = book.printed_numbers({})
    per = table["where"].value_counts()
    assert per["Table B.1"] == book.printed_table("N21", "Table B.1").size == 50
    assert per["Table F.2"] == len(book.printed_table("N21", "Table F.2")) == 29
    assert (per["Figure F.2"], per["Figure F.3"], per["Table F.1"]) == (8, 8, 3)
    assert per["Figure 10"] == book.printed_table("G21", "Figure 10").size == 50
    assert per["Table 1"] == len(book.printed_table("G21", "Table 1"))
    accuracies = book.printed_table("G21", "Table 1")[["dense", "sparse"]].count().sum()
    assert sum(name.startswith("imagenet-") for name in book.claims_of("resnet_sweep")) == accuracies == 9
    computed = book.printed_numbers(
        {
            "weights-8": wsn.estimates.exact(175_192),
            "weights-12": wsn.estimates.exact(500_000),
        }
    )
    assert computed["verdict"].value_counts()[["verified", "refuted"]].tolist() == [1, 1]


@pytest.mark.parametrize(
    "path", [p for p in PAGES if p.stem in book.judging_chapters()], ids=lambda p: p.stem
)
def test_a_published_page_holds_its_verdicts_and_they_follow_from_its_estimates(path):
    held = published.verdicts_of(published.read_notebook(path))
    assert held["chapter"] == path.stem
    ours, of_chapter = verdicts.estimates_of(held), book.claims_of(path.stem)
    scale = {"same_data": held["same_data"], "full_protocol": held["full_protocol"]}
    again = book.judge_page(of_chapter, ours, **scale)
    assert held["verdicts"] == {name: str(found.verdict) for name, found in again.items()}


def test_the_scorecard_says_what_the_pages_say():
    """Its page shows the table that the other pages give now."""
    page = published.read_notebook(ROOT / "book" / "scorecard.ipynb")
    html = next(h for h in published.outputs_of(page, "text/html") if "Claims of G21" in "".join(h))
    table = book.scorecard_table(book.read_pages(ROOT / "book"))
    rows = re.findall(r'<tr class="verdict-([\w-]+)">', "".join(html))
    expected = table.loc[table["paper"] == "G21", "verdict"].str.replace(" ", "-")
    assert rows == expected.tolist()


def test_missing_pages_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"there is no bottlenecks.ipynb in nowhere"):
        book.read_pages("nowhere")


@pytest.fixture
def repository(tmp_path):
    for name, text in {
        "wsnlib/a.py": "x = 1", "wsnlib/a.txt": "", "params/sparse_mlp.cpu.yml": "profile: cpu",
        "params/scorecard.cpu.yml": "", "records/k1.json": "one",
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def stamped(root: Path, chapter: str = "sparse_mlp") -> dict:
    made = {"data": {provenance.PROVENANCE_TYPE: {"keys": ["k1", "k2"]}}}
    cells = [{"cell_type": "code", "metadata": {}, "source": ["a = 1"], "outputs": [made]}]
    page = {"metadata": {}, "cells": cells}
    page["metadata"]["wsnlib"] = published.stamp(page, chapter=chapter, profile="cpu", root=root)
    return page


def why(page: dict, root: Path, chapter: str = "sparse_mlp", profile: str = "cpu") -> list[str]:
    return published.why_stale(page, chapter=chapter, profile=profile, root=root)


def test_a_page_is_fresh_until_something_it_rests_on_changes(repository, monkeypatch):
    page = stamped(repository)
    assert why(page, repository) == []
    (repository / "wsnlib" / "a.txt").write_text("not the library")
    assert why(page, repository) == []
    page["cells"][0]["source"] = ["a = 2"]
    assert why(page, repository) == ["cells"]
    page = stamped(repository)
    (repository / "params" / "sparse_mlp.cpu.yml").write_text("profile: cpu\nepochs: 2")
    assert why(page, repository) == ["parameters"]
    page = stamped(repository)
    (repository / "wsnlib" / "a.py").write_text("x = 2")
    assert why(page, repository) == []  # what the library changes of a page is told by executing it
    with monkeypatch.context() as patch:
        fewer = dict(list(book.claims_of("sparse_mlp").items())[1:])
        patch.setattr(published, "claims_of", lambda chapter: fewer)
        assert why(page, repository) == ["claims"]
    page = stamped(repository)
    (repository / "records" / "k2.json").write_text("two")
    assert why(page, repository) == ["records"]
    page = stamped(repository)
    (repository / "records" / "k1.json").write_text("onet")
    (repository / "records" / "k2.json").write_text("wo")
    assert why(page, repository) == ["records"]
    (repository / "params" / "sparse_mlp.gpu.yml").write_text("profile: cpu\nepochs: 2")
    assert "profile" in why(page, repository, profile="gpu")
    del page["metadata"]["wsnlib"]
    assert why(page, repository) == ["profile", "cells", "parameters", "claims", "records"]


def test_the_scorecard_is_stale_when_a_verdict_changes(repository):
    (repository / "book").mkdir()
    file = repository / "book" / "sparse_mlp.ipynb"
    file.write_text(
        json.dumps(notebook("sparse_mlp", {"relu-gain": wsn.Estimate(mean=5, low=4, high=6.0, n=3)}))
    )
    page = stamped(repository, "scorecard")
    assert why(page, repository, "scorecard") == []
    file.write_text(  # on another machine
        json.dumps(notebook("sparse_mlp", {"relu-gain": wsn.Estimate(mean=5, low=4, high=6 + 1e-12, n=3)}))
    )
    assert why(page, repository, "scorecard") == []
    file.write_text(
        json.dumps(notebook("sparse_mlp", {"relu-gain": wsn.Estimate(mean=5, low=4, high=7, n=3)}))
    )
    assert why(page, repository, "scorecard") == ["verdicts"]


def test_a_row_of_the_status_page(repository):
    page = stamped(repository)
    made = page["cells"][0]["outputs"][0]["data"][provenance.PROVENANCE_TYPE]
    made |= {"seconds": 7200.0, "devices": ["cpu: A"]}
    page["metadata"]["wsnlib"]["versions"] = {"torch": "2"}
    row = scores.status_row("sparse_mlp", page, root=repository)
    assert row == ["[sparse_mlp](sparse_mlp.ipynb)", "cpu", "fresh", "2", "cpu: A", "2.0 hours"]
    assert len(row) == len(scores.STATUS_COLUMNS)
    assert scores.versions_list({"a": page, "b": page, "c": {"metadata": {}}}) == ["a, b: torch 2"]
    written = scores.status_markdown({"sparse_mlp": page}, root=repository).split("\n")
    assert {line.count("|") for line in written[:3]} == {1 + len(scores.STATUS_COLUMNS)}
    assert written[3:] == ["", "- sparse_mlp: torch 2"]
    (repository / "records" / "k1.json").write_text("three")
    assert scores.status_row("sparse_mlp", page, root=repository)[2] == "stale: records"
    del page["metadata"]["wsnlib"]
    row = scores.status_row("sparse_mlp", page, root=repository)
    assert (row[2], len(row)) == ("not stamped", len(scores.STATUS_COLUMNS))


def test_a_page_says_in_one_line_what_it_read_and_what_it_made(tmp_path, monkeypatch, displayed):
    page = profile_of(tmp_path, monkeypatch)
    page.run_missing([experiment(3), experiment(5), experiment(3)])
    assert displayed.now == ["0 results read, 2 trained"]
    page.run_missing([experiment(3), experiment(5), experiment(7)])
    page.run_missing([experiment(7)])
    assert displayed.now[1:] == ["2 results read, 1 trained", "1 results read, 0 trained"]
    assert displayed.about == [page_module.SESSION] * 3  # no part of a published page


def test_an_interrupt_is_one_sentence(tmp_path, monkeypatch, displayed):
    page = profile_of(tmp_path, monkeypatch)

    def interrupted(runs, *, store, progress, **_):
        first = next(iter(runs))
        store.save(Record(experiment=first, status="finished", history={}))
        progress(wsn.Progress(total=3, done=1, failures=(), under_way=(), share=0.25, seconds=60))
        assert displayed.now == ["1 of 3 trained, about 3 minutes left …"]
        raise KeyboardInterrupt

    monkeypatch.setattr(sweeps, "run_missing", interrupted)
    with pytest.raises(page_module.Interrupted) as stopped:
        page.run_missing([experiment(seed) for seed in (3, 5, 7)])
    sentence = "1 of 3 results are stored; run again to go on"
    assert stopped.value._render_traceback_() == [str(stopped.value)] == [sentence]
    assert stopped.value.__cause__ is None


def test_a_notebook_outside_of_the_repository_says_where_its_results_are(tmp_path, monkeypatch, displayed):
    monkeypatch.chdir(tmp_path)
    page = book.Page(sparse_mlp.Parameters(), store=wsn.Store(tmp_path / "store"))
    page.run_missing([experiment(3)])
    assert displayed.now == [page_module.ELSEWHERE, "0 results read, 1 trained"]
    assert "records/" in page_module.ELSEWHERE and "WSN_STORE" in page_module.ELSEWHERE
    page.run_missing([experiment(3)])
    assert displayed.now[2:] == ["1 results read, 0 trained"]
