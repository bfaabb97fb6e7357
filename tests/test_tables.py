"""Records as tables: every field and result, histories, the runs behind rows."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from test_sweeps import BASE, RULES, experiment

import wsnlib as wsn


def test_the_table_has_every_field_and_result(tmp_path):
    store = wsn.Store(tmp_path)
    runs = [
        replace(experiment(width=w), model=wsn.StaticSparsity(BASE, width=w, allocation=r))
        for w in (5, 10)
        for r in RULES[:2]
    ]
    wsn.run_missing(runs, store=store, progress=False)
    table = wsn.table(runs, store=store)
    assert table["model.width"].tolist() == [5, 5, 10, 10]
    assert table["model.allocation"].tolist() == ["LargestFirst", "UniformDensity"] * 2
    assert (table["num_weights"] == 370).all()
    assert table["connectivity"].tolist() == [1, 1, 0.5, 0.5]
    assert (table["weights.hidden1"] + table["weights.output"] == 370).all()
    assert table["key"].tolist() == [wsn.spec_key(r) for r in runs]
    assert "environment.seconds" not in table
    assert "environment.seconds" in wsn.table(runs, store=store, environment=True)

    wide = table[table["model.width"] == 10]
    assert wsn.runs_behind(wide.iloc[::-1], runs) == runs[2:]
    with pytest.raises(ValueError, match="must be of one of the 2 runs, got one of key"):
        wsn.runs_behind(wide, runs[:2])

    history = wsn.training_history(runs, store=store)
    assert history["epoch"].tolist() == [1, 2] * 4
    last = history.groupby("key", sort=False)["test_accuracy"].last()
    assert last.tolist() == table["test_accuracy_last"].tolist()
    with pytest.raises(ValueError, match="runs must be experiments, got one ExampleLabels"):
        wsn.table([wsn.ExampleLabels(data=wsn.Digits())], store=wsn.Store(tmp_path))
    with pytest.raises(KeyError, match="no record"):
        wsn.table([experiment(seed=9)], store=store)


def test_the_history_of_a_run_that_diverged_ends_in_nan(tmp_path):
    store, run = wsn.Store(tmp_path), experiment()
    ragged = {"train_loss": [1.5, np.nan], "test_accuracy": [0.25]}  # as records were before
    store.save(wsn.Record(experiment=run, status="diverged", history=ragged, network={}))
    history = wsn.training_history([run], store=store)
    assert history["epoch"].tolist() == [1, 2]
    assert history["train_loss"][0] == 1.5
    assert history["test_accuracy"].isna().tolist() == [False, True]


def test_the_table_has_the_reported_epoch_and_the_last_one(tmp_path):
    store, run = wsn.Store(tmp_path), experiment(report="best_test")
    history = {"train_accuracy": [0.1, 0.2, 0.3], "test_accuracy": [0.5, 0.7, 0.6]}
    network = {"num_weights": 370, "connectivity": 1.0, "weights_per_layer": {"hidden1": 320, "output": 50}}
    store.save(
        wsn.Record(
            experiment=run,
            status="finished",
            history=history,
            reported_epoch=2,
            train_accuracy=0.8,
            network=network,
        )
    )
    row = wsn.table([run], store=store).iloc[0]
    assert row[["reported_epoch", "test_accuracy", "test_accuracy_last", "train_accuracy"]].tolist() == [
        2, 0.7, 0.6, 0.8,
    ]  # fmt: skip


def test_any_column_is_summarised_in_any_groups():
    runs = pd.DataFrame(
        {
            "width": [5, 5, 5, 9],
            "rule": list("aaba"),
            "train_accuracy": [0.25, 0.75, 0.7, 0.8],
            "test_accuracy": 0.1,
        }
    )
    found = wsn.summarise(runs, by=["width", "rule"], value="train_accuracy")
    assert found["mean"].to_dict() == {(5, "a"): 0.5, (5, "b"): 0.7, (9, "a"): 0.8}
    assert found["n"].tolist() == [2, 1, 1]
    assert found.index.names == ["width", "rule"]
    assert found["high"].iloc[0] == wsn.estimate([0.25, 0.75]).high


@pytest.mark.parametrize("by", ["width", ["width"], ["width", "rule"]])
def test_no_runs_have_no_groups_and_the_same_columns(by):
    runs = pd.DataFrame({"width": [5], "rule": ["a"], "test_accuracy": [0.1]})
    one, none = wsn.summarise(runs, by=by), wsn.summarise(runs[:0], by=by)
    assert (len(none), list(none.columns), none.index.names) == (0, list(one.columns), one.index.names)
    assert {none[each].dtype for each in ("mean", "low", "high")} == {np.dtype(float)}


def test_runs_without_a_value_are_a_group_of_their_own():
    sizes, rules = [100, None, None, 100], ["a", "a", None, "a"]
    runs = pd.DataFrame({"size": sizes, "rule": rules, "test_accuracy": [0.1, 0.2, 0.4, 0.3]})
    one, both = wsn.summarise(runs, by="size"), wsn.summarise(runs, by=["size", "rule"])
    assert one.index[0] == 100 and np.isnan(one.index[1])
    assert one["n"].tolist() == [2, 2] and np.allclose(one["mean"], [0.2, 0.3])
    assert both["n"].tolist() == [2, 1, 1] and np.allclose(both["mean"], [0.2, 0.2, 0.4])
    assert both.index.names == ["size", "rule"]
    assert both.index.to_frame()["rule"].isna().tolist() == [False, False, True]
