"""How alike the layers of one or several networks are: measured over minibatches, and read from a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import nn

from wsnlib import specs
from wsnlib.data import DataError, Dataset, Split
from wsnlib.data.splits import balanced_subset
from wsnlib.probes import around_additions, linear_probes
from wsnlib.representations import (
    activation_sparsity,
    cka_matrices,
    cka_matrix,
    first_components,
    logits_without_ends,
)
from wsnlib.similarity import CKAMatrix
from wsnlib.store import Store

Array = npt.NDArray[np.float64]
Columns = dict[str, list[float]]

DIGITS = 4
"""Decimals of CKA that a record keeps; the standard error over passes is most often larger."""


@dataclass(frozen=True, kw_only=True)
class LayerResults:
    """What a [`LayerSimilarity`][wsnlib.specs.experiments.LayerSimilarity] measured of one network.

    Args:
        layers: Every leaf module that the forward pass calls, in order of computation.
        cka: Linear CKA between them, (layers, layers), NaN for a layer that does not vary.
        cka_without_component: The same with each layer's first principal component removed.
        component_similarity: cos² of the angle between the layers' first principal components, which
            are directions in the space of images.
        shares: σ₁²/Σσ² of each layer, (layers,).
        joint_share: The same of all layers of the last two stages side by side.
        standard_error: Largest standard error over passes in `cka`; NaN with one pass.
        sparsity: The share of activations that are 0, by ReLU layer.
        test_accuracy: Of the last weights on the measured images, in [0, 1].
        train_accuracy: Of the last weights on the training images.
        deletions: Accuracy without some blocks, by their names: from the end of each stage (N21, Figure
            5); empty for a network without residual connections.
        probes: Test accuracy of each linear probe, by layer; empty if none were fitted.
        num_weights: Of the network.
    """

    layers: tuple[str, ...]
    cka: Array
    cka_without_component: Array
    component_similarity: Array
    shares: Array
    joint_share: float
    standard_error: float
    sparsity: Mapping[str, float]
    test_accuracy: float
    train_accuracy: float
    deletions: Mapping[tuple[str, ...], float]
    probes: Mapping[str, float]
    num_weights: int

    def index(self, last: str) -> list[int]:
        """Positions of the layers whose name ends so: "add", "relu2", "norm2"."""
        return [i for i, name in enumerate(self.layers) if name.rpartition(".")[2] == last]


@dataclass(frozen=True, kw_only=True)
class NetworkResults:
    """What a [`NetworkSimilarity`][wsnlib.specs.experiments.NetworkSimilarity] measured.

    Args:
        layers: Of each network, in order of computation.
        cka: Linear CKA for each pair of positions in `experiments`: (layers of the first, of the second).
        test_accuracies: Of each network on the measured images.
    """

    layers: tuple[tuple[str, ...], ...]
    cka: Mapping[tuple[int, int], Array]
    test_accuracies: tuple[float, ...]


def measured_examples(test: Split, spec: specs.NetworkMeasurement) -> torch.Tensor:
    """Positions of the test images that a measurement looks at, class-balanced and drawn by its seed."""
    if spec.num_images is None:
        return torch.arange(len(test.labels))
    if spec.num_images > len(test.labels):
        raise DataError(
            f"{type(spec).__name__}.num_images must be at most the {len(test.labels)} test images, got "
            f"{spec.num_images}; measure fewer"
        )
    generator = torch.Generator().manual_seed(specs.derive_seed(spec.seed, "images"))
    return balanced_subset(test.labels.cpu(), spec.num_images, generator=generator)


def measure_layers(
    model: nn.Module, data: Dataset, images: torch.Tensor, spec: specs.LayerSimilarity
) -> tuple[Columns, dict[str, Any]]:
    """Columns and names for a record of one network; the images are those of `data.test`."""
    prepare = data.normalise
    options: Any = {"batch_size": spec.batch_size, "passes": spec.passes, "seed": spec.seed}
    options |= {"prepare": prepare, "weighting": spec.weighting}
    found = cka_matrix(model, images, **options)
    rest = cka_matrix(model, images, without_component=True, **options)
    late = [name for name in found.rows if name.startswith(("stage2.", "stage3."))]
    components = first_components(
        model, images[: spec.num_component_images], layers=found.rows, joint=late, prepare=prepare
    )
    sparsity = activation_sparsity(model, images, batch_size=spec.batch_size, prepare=prepare)
    deletions, accuracies = deletion_accuracies(model, data)
    probes = probe_accuracies(model, data) if spec.probes else {}
    errors = found.standard_errors[np.triu_indices(len(found.rows), 1)]
    columns = {
        "cka": _upper(found.values),
        "cka_without_component": _upper(rest.values),
        "component_similarity": _upper(_squared_cosines(components.projections)),
        "shares": components.shares.round(DIGITS).tolist(),
        "joint_share": [components.joint_share],
        "standard_error": [float(np.nanmax(errors)) if np.isfinite(errors).any() else float("nan")],
        "sparsity": np.round(list(sparsity.values()), DIGITS).tolist(),
        "deletions": accuracies,
        "probes": list(probes.values()),
    }
    names = {
        "layers": list(found.rows),
        "relu_layers": list(sparsity),
        "deleted": deletions,
        "probed": list(probes),
    }
    return columns, names


def measure_projections(
    model: nn.Module,
    data: Dataset,
    images: torch.Tensor,
    examples: torch.Tensor,
    spec: specs.ComponentProjections,
) -> tuple[Columns, dict[str, Any]]:
    """Columns, one row an image, and names for a record; the images are those of `data.test`."""
    found = first_components(model, images, layers=spec.layers, prepare=data.normalise)
    columns = {
        "example": examples.tolist(),
        "label": data.test.labels.tolist(),
        "brightness": (images.double().flatten(1).mean(1) / 255).cpu().numpy().round(DIGITS).tolist(),
    }
    columns |= {
        name: (values / values.std()).round(DIGITS).tolist()
        for name, values in zip(found.layers, found.projections, strict=True)
    }
    return columns, {"layers": list(found.layers), "shares": found.shares.round(DIGITS).tolist()}


def deletion_accuracies(model: nn.Module, data: Dataset) -> tuple[list[list[str]], list[float]]:
    """Which blocks are deleted, from the end of each stage, and the test accuracy without them."""
    counts: dict[tuple[str, ...], int] = {}
    split = data.test
    assert isinstance(split, Split)
    for images, labels in zip(split.images.split(250), split.labels.split(250), strict=True):
        for deleted, logits in logits_without_ends(model, data.normalise(images)).items():
            counts[deleted] = counts.get(deleted, 0) + int((logits.argmax(1) == labels).sum())
    return list(map(list, counts)), [count / len(split.labels) for count in counts.values()]


def probe_accuracies(model: nn.Module, data: Dataset) -> dict[str, float]:
    """Test accuracy of a linear probe before and after every addition, by layer."""
    blocks = [name for name, m in model.named_modules() if hasattr(m, "norm2")]
    residual = any(getattr(m, "residual", False) for m in model.modules())
    layers = around_additions(model) if residual else [f"{block}.norm2" for block in blocks]
    return {name: probe.test_accuracy for name, probe in linear_probes(model, data, layers=layers).items()}


def _squared_cosines(projections: Array) -> Array:
    norms = np.linalg.norm(projections, axis=1, keepdims=True)
    directions = projections / np.where(norms > 0, norms, np.nan)
    cosines: Array = (directions @ directions.T) ** 2
    return cosines


def measure_networks(
    models: Sequence[nn.Module],
    data: Sequence[Dataset],
    images: torch.Tensor,
    spec: specs.NetworkSimilarity,
) -> tuple[Columns, dict[str, Any]]:
    """Columns and names for a record of several networks; the images are those of each `test`."""
    found = cka_matrices(
        {str(i): model for i, model in enumerate(models)},
        images,
        batch_size=spec.batch_size,
        passes=spec.passes,
        seed=spec.seed,
        prepare={str(i): d.normalise for i, d in enumerate(data)},
        weighting=spec.weighting,
    )
    pairs = [(i, j) for i in range(len(models)) for j in range(i, len(models))]
    columns = {f"cka {i} {j}": _rounded(found[str(i), str(j)]).ravel().tolist() for i, j in pairs}
    names = {"layers": [list(found[str(i), str(i)].rows) for i in range(len(models))]}
    return columns, names


def _rounded(matrix: CKAMatrix) -> Array:
    rounded: Array = matrix.values.round(DIGITS)
    return rounded


def _upper(values: Array) -> list[float]:
    """What stands above the diagonal of a symmetric matrix, row by row."""
    found: list[float] = values[np.triu_indices(len(values), 1)].round(DIGITS).tolist()
    return found


def _symmetric(upper: Sequence[float], n: int) -> Array:
    """The matrix of which `_upper` is, with 1 on the diagonal, NaN where all the rest of its row is."""
    values, above = np.ones((n, n)), np.triu_indices(n, 1)
    values[above] = upper
    values.T[above] = upper
    constant = np.isnan(values).sum(axis=1) == n - 1
    values[constant, constant] = np.nan
    return values


def layer_results(run: specs.LayerSimilarity, *, store: Store) -> LayerResults:
    """What was measured of one network.

    Raises:
        KeyError: If the record is missing.
        ValueError: If the training diverged.
    """
    record = store.load(run)
    refuse_diverged(record.status, record.key)
    columns, names = record.columns, record.names
    n = len(names["layers"])
    return LayerResults(
        layers=tuple(names["layers"]),
        cka=_symmetric(columns["cka"], n),
        cka_without_component=_symmetric(columns["cka_without_component"], n),
        component_similarity=_symmetric(columns["component_similarity"], n),
        shares=np.array(columns["shares"]),
        joint_share=columns["joint_share"][0],
        standard_error=columns["standard_error"][0],
        sparsity=dict(zip(names["relu_layers"], columns["sparsity"], strict=True)),
        test_accuracy=columns["test_accuracy"][0],
        train_accuracy=columns["train_accuracy"][0],
        deletions=dict(zip(map(tuple, names["deleted"]), columns["deletions"], strict=True)),
        probes=dict(zip(names["probed"], columns["probes"], strict=True)),
        num_weights=names["num_weights"][0],
    )


def component_projections(run: specs.ComponentProjections, *, store: Store) -> pd.DataFrame:
    """Where images lie along the first principal component of each layer, one row an image.

    Returns:
        Columns `example` (the position in the test set), `label`, `brightness` (the mean of the image, 0 to
        1), and one for each layer in order of computation: the image's coordinate, of mean 0 and standard
        deviation 1 over these images, the one farthest from 0 positive. NaN if the layer does not vary.

    Raises:
        KeyError: If the record is missing.
        ValueError: If the training diverged.
    """
    record = store.load(run)
    refuse_diverged(record.status, record.key)
    columns = ["example", "label", "brightness", *record.names["layers"]]
    table = pd.DataFrame({name: record.columns[name] for name in columns})
    return table.astype({"example": int, "label": int})


def network_results(run: specs.NetworkSimilarity, *, store: Store) -> NetworkResults:
    """What was measured of several networks.

    Raises:
        KeyError: If the record is missing.
        ValueError: If a training diverged.
    """
    record = store.load(run)
    refuse_diverged(record.status, record.key)
    layers = tuple(map(tuple, record.names["layers"]))
    cka: dict[tuple[int, int], Array] = {}
    for i in range(len(layers)):
        for j in range(i, len(layers)):
            values = np.array(record.columns[f"cka {i} {j}"]).reshape(len(layers[i]), len(layers[j]))
            cka[i, j], cka[j, i] = values, values.T
    return NetworkResults(layers=layers, cka=cka, test_accuracies=tuple(record.columns["test_accuracy"]))


def refuse_diverged(status: str, key: str) -> None:
    """Refuse a record of trainings that did not all finish."""
    if status != "finished":
        raise ValueError(f"the measurement {key} is {status!r}; one whose trainings finished can be read")
