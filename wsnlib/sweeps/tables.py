"""Records as tables: one row a run, an epoch or a row of a measurement."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, fields, replace
from typing import Any

import pandas as pd

from wsnlib import predictions, specs
from wsnlib.data import num_classes
from wsnlib.estimates import Estimate, estimate
from wsnlib.store import Store, Summary


def table(runs: Iterable[specs.Experiment], *, store: Store, environment: bool = False) -> pd.DataFrame:
    """One row a run: every field of its spec under a dotted name, and what came of it.

    The names are those of the records, in which `training.weight_decay_on` is `training.decayed`. A nested
    spec also gives a column with its class, such as `model.allocation`. Results are `status`, `num_weights`,
    `connectivity`, `weights.<layer>`, `reported_epoch`, `test_accuracy` and `validation_accuracy` (at the
    reported epoch), `test_accuracy_last`, `train_accuracy` (of the last weights) and `key`; accuracies lie in
    [0, 1] and are NaN for a run that diverged, or where there are no validation images.

    Args:
        runs: Experiments, in the order of the rows.
        store: Holds a record of each.
        environment: Whether to add where each was made (`seconds`, `device`, `commit`, …), which
            differs from one making to the next.

    Raises:
        KeyError: If a record is missing.
        ValueError: If one of the runs is no training.
    """
    runs = list(runs)
    for run in runs:
        if not isinstance(run, specs.Experiment):
            raise ValueError(f"runs must be experiments, got one {type(run).__name__}; leave it out")
    rows = [
        _flat(summary.spec)
        | _results(summary)
        | ({f"environment.{k}": v for k, v in summary.environment.items()} if environment else {})
        for summary in store.summaries(runs)
    ]
    return pd.DataFrame(rows)


def runs_behind(rows: pd.DataFrame, runs: Iterable[specs.Experiment]) -> list[specs.Experiment]:
    """The runs that some rows of a table are of, in the order given, such as those that a figure draws.

    Args:
        rows: With the column `key`, as `table` makes it.
        runs: Those of the whole table, or more.

    Raises:
        ValueError: If a row is of none of the runs.
    """
    by_key = {specs.spec_key(run): run for run in runs}
    wanted = set(rows["key"])
    if unknown := sorted(wanted - set(by_key)):
        raise ValueError(
            f"every row must be of one of the {len(by_key)} runs, got one of key {unknown[0]!r}; give all "
            "runs of the table"
        )
    return [run for key, run in by_key.items() if key in wanted]


def training_history(runs: Iterable[specs.Experiment], *, store: Store) -> pd.DataFrame:
    """One row for each run and epoch: `key`, `epoch` (from 1) and the metrics of that epoch.

    In the last epoch of a run that diverged they are NaN but for those of training.

    `training_history(…).merge(table(…), on="key")` adds what was run.

    Raises:
        KeyError: If a record is missing.
    """
    parts = []
    for run in runs:
        record = store.load(run)
        part = pd.DataFrame({name: pd.Series(values, dtype=float) for name, values in record.history.items()})
        part.insert(0, "epoch", range(1, len(part) + 1))
        part.insert(0, "key", record.key)
        parts.append(part)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def read_measurements(
    runs: Iterable[specs.KernelDistances | specs.KernelSimulation], *, store: Store
) -> pd.DataFrame:
    """One row for each run and row of its measurement: every field of its spec that is one value, and
    the measured columns.

    Raises:
        KeyError: If a record is missing.
    """
    parts = []
    for run in runs:
        record = store.load(run)
        part = pd.DataFrame(record.columns)
        spec = {k: v for k, v in _flat(specs.to_dict(run)).items() if not isinstance(v, list)}
        parts.append(pd.concat([pd.DataFrame([spec] * len(part)), part], axis=1))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def read_population(
    runs: Iterable[specs.Experiment], *, store: Store, name: str = "population"
) -> predictions.Population:
    """The predictions of networks that differ in nothing but their seed, against the right classes.

    The right classes are read from the record of `ExampleLabels(data=…)`, so that no data are needed
    but your own, whose number of classes is read from them.

    Args:
        runs: Experiments, alike but for the seed.
        store: Holds a record of each, and of the labels.
        name: Name of the architecture.

    Raises:
        KeyError: If a record is missing.
        ValueError: If the runs differ in more than their seed or share one, if one of them diverged, or
            as in `Population`.
    """
    runs = list(runs)
    if not runs:
        raise ValueError(f"the runs of {name!r} must be at least 2, got none; give experiments")
    if len({replace(run, seed=0) for run in runs}) != 1 or len({run.seed for run in runs}) < len(runs):
        raise ValueError(
            f"the runs of {name!r} must be one experiment with different seeds, got some that differ in "
            "more, or share one; leave these out"
        )
    data = runs[0].data
    of_examples = specs.ExampleLabels(data=data)
    if of_examples not in store:
        raise KeyError(
            f"no record of the right classes in {store.path}; "
            f"wsn.run_missing([{of_examples}], store=store) makes it"
        )
    labels = store.load(of_examples).arrays["labels"]
    return predictions.Population(
        [store.load(run).predictions for run in runs],
        labels=labels,
        num_classes=num_classes(data),
        name=name,
    )


def summarise(table: pd.DataFrame, *, by: str | list[str], value: str = "test_accuracy") -> pd.DataFrame:
    """Mean, 95 % interval (`low`, `high`) and `n` of a column within each group, most often over seeds.

    Rows without a value in a column of `by`, such as a `data.train_size` of None, are groups, too, of NaN in
    the index.

    Examples:
        >>> runs = pd.DataFrame({"width": [5, 5, 10], "test_accuracy": [0.5, 1.0, 0.25]})
        >>> summarise(runs, by="width")[["mean", "n"]].to_dict("list")
        {'mean': [0.75, 0.25], 'n': [2, 1]}
    """
    groups = table.groupby(by, dropna=False)[value]
    found = [asdict(estimate(part.tolist())) for _, part in groups]
    names, numbers = [each.name for each in fields(Estimate)], None if found else float
    return pd.DataFrame(found, groups.size().index, columns=names, dtype=numbers)


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in content.items():
        if name == "class":
            if prefix:
                flat[prefix.removesuffix(".")] = value
        elif isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _results(record: Summary) -> dict[str, Any]:
    finished = record.status == "finished"
    return {
        "status": record.status,
        "num_weights": record.network["num_weights"],
        "connectivity": record.network["connectivity"],
        **{f"weights.{k}": v for k, v in record.network["weights_per_layer"].items()},
        "reported_epoch": record.reported_epoch,
        "test_accuracy": record.reported.get("test_accuracy", math.nan),
        "validation_accuracy": record.reported.get("validation_accuracy", math.nan),
        "test_accuracy_last": record.last["test_accuracy"] if finished else math.nan,
        "train_accuracy": record.train_accuracy if finished else math.nan,
        "key": record.key,
    }
