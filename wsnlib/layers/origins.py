"""Where the block structure of one network comes from: its dominant images, components and epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from wsnlib import specs
from wsnlib.data import DataError, Dataset, Split
from wsnlib.data.splits import balanced_subset
from wsnlib.layers.packing import packed, packed_symmetric, unpacked, unpacked_symmetric
from wsnlib.probes import around_additions, linear_probes
from wsnlib.representations import cka_matrices, decompose_layers, dominance_of, logits_without_ends
from wsnlib.similarity import bures_of_grams, centred, cka_of_grams
from wsnlib.store import Store

Array = npt.NDArray[np.float64]
Columns = dict[str, list[float]]
Arrays = dict[str, npt.NDArray[np.integer[Any]]]

TOPS = (1, 5, 10, 50)
"""Of how many images the part of a component's variance is kept, for every layer."""


@dataclass(frozen=True, kw_only=True)
class OutputMap:
    """The outputs of residual blocks at one moment of a training.

    Args:
        cka: Between outputs, (outputs, outputs).
        dominance: Of each image (see `OriginResults`).
    """

    cka: Array
    dominance: Array


@dataclass(frozen=True, kw_only=True)
class OriginResults:
    """What a [`BlockOrigins`][wsnlib.specs.experiments.BlockOrigins] measured of one network.

    An image's *dominance* is its part of the variance along the outputs' first principal components, each
    output weighted by its explained variance ratio: Σₗ sₗ uₗᵢ² / Σₗ sₗ. It adds up to 1 over images.

    Args:
        layers: Every leaf module that the forward pass calls, in order of computation.
        outputs: Of them, the stem's and the residual blocks' last ReLUs.
        cka: Linear CKA between all layers, (layers, layers), by HSIC₁ of all images at once; NaN for a layer
            that does not vary.
        cka_without_component: The same with each layer's first principal component removed.
        explained_variance_ratio: σ₁²/Σσ² of each layer: of its first principal component.
        joint_explained_variance_ratio: The same of all layers of the last two stages side by side.
        top_shares: What part of the component's variance the 1, 5, 10 and 50 images that lie farthest along
            it carry, by that number, for each layer.
        directions: Images along each output's component, (outputs, images), of length 1.
        dominance: Of each image, (images,).
        removed: Positions of the most dominant images.
        cka_without_dominant, cka_without_others: Between outputs, without those images, and without as many
            that were drawn from all others.
        bures: Normalised Bures similarity between outputs (see `bures_of_grams`).
        epochs: Maps of outputs after some epochs, rising; the last weights are not among them.
        examples: Positions of the images in the test set.
        labels: Of the images.
        brightness: Mean of each image, 0 to 1.
        border: The same of its outermost pixels.
        sparsity: The fraction of activations that are 0, by ReLU layer.
        test_accuracy: Of the last weights on the measured images, in [0, 1].
        train_accuracy: Of the last weights on the training images.
        deletions: Accuracy without some blocks, by their names: from the end of each stage (N21, Figure 5);
            empty for a network without residual connections.
        probes: Test accuracy of each linear probe, by layer; empty if none were fitted.
        num_weights: Of the network.
    """

    layers: tuple[str, ...]
    outputs: tuple[str, ...]
    cka: Array
    cka_without_component: Array
    explained_variance_ratio: Array
    joint_explained_variance_ratio: float
    top_shares: Mapping[int, Array]
    directions: Array
    dominance: Array
    removed: tuple[int, ...]
    cka_without_dominant: Array
    cka_without_others: Array
    bures: Array
    epochs: Mapping[int, OutputMap]
    examples: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    brightness: Array
    border: Array
    sparsity: Mapping[str, float]
    test_accuracy: float
    train_accuracy: float
    deletions: Mapping[tuple[str, ...], float]
    probes: Mapping[str, float]
    num_weights: int

    @property
    def positions(self) -> list[int]:
        """Where the outputs stand among the layers."""
        return [self.layers.index(name) for name in self.outputs]

    @property
    def output_cka(self) -> Array:
        """CKA between outputs."""
        return np.asarray(self.cka[np.ix_(self.positions, self.positions)])

    @property
    def component_similarity(self) -> Array:
        """cos² of the angle between the outputs' first principal components."""
        return np.asarray((self.directions @ self.directions.T) ** 2)


@dataclass(frozen=True, kw_only=True)
class NetworkResults:
    """What an [`OutputSimilarity`][wsnlib.specs.experiments.OutputSimilarity] measured.

    Args:
        layers: The outputs of each network, in order of computation.
        cka: Linear CKA for each pair of positions in `experiments`: (outputs of the first, of the second).
        test_accuracies: Of each network on the measured images.
    """

    layers: tuple[tuple[str, ...], ...]
    cka: Mapping[tuple[int, int], Array]
    test_accuracies: tuple[float, ...]


def output_names(layers: Sequence[str]) -> list[str]:
    """The outputs among layers of a ResNet: the stem's ReLU and each residual block's last.

    Examples:
        >>> output_names(["conv", "relu", "stage1.block1.relu1", "stage1.block1.relu2", "pool"])
        ['relu', 'stage1.block1.relu2']
    """
    return [name for name in layers if name == "relu" or name.endswith(".relu2")]


def measured_examples(test: Split, spec: specs.NetworkMeasurement) -> torch.Tensor:
    """Positions of the test images that a measurement looks at, class-balanced and drawn by its seed."""
    if spec.num_images is None:
        most = (len(test.labels) - 4) // 2
        if isinstance(spec, specs.BlockOrigins) and spec.num_removed > most:
            raise DataError(
                f"BlockOrigins.num_removed must be at most {most} of the {len(test.labels)} test images, got "
                f"{spec.num_removed}; remove fewer"
            )
        return torch.arange(len(test.labels))
    if spec.num_images > len(test.labels):
        raise DataError(
            f"{type(spec).__name__}.num_images must be at most the {len(test.labels)} test images, got "
            f"{spec.num_images}; measure fewer"
        )
    generator = torch.Generator().manual_seed(specs.derive_seed(spec.seed, "images"))
    return balanced_subset(test.labels.cpu(), spec.num_images, generator=generator)


def observe_outputs(model: nn.Module, data: Dataset, images: torch.Tensor) -> OutputMap:
    """The outputs of a network between two epochs of its training."""
    names = output_names(list(dict(model.named_modules())))
    found = decompose_layers(model, images, layers=names, prepare=data.normalise)
    return OutputMap(cka=found.cka, dominance=dominance_of(found.directions, found.shares))


def measure_origins(
    model: nn.Module,
    data: Dataset,
    images: torch.Tensor,
    examples: torch.Tensor,
    epochs: Mapping[int, OutputMap],
    spec: specs.BlockOrigins,
) -> tuple[Columns, dict[str, Any], Arrays]:
    """Columns, names and arrays for a record of one network; the images are those of `data.test`."""
    modules = dict(model.named_modules())
    outputs = output_names(list(modules))
    late = [n for n, m in modules.items() if n.startswith(("stage2.", "stage3.")) and not [*m.children()]]
    found = decompose_layers(model, images, kept=outputs, joint=late, prepare=data.normalise)
    at = [found.layers.index(name) for name in outputs]
    directions, shares = found.directions[at], found.shares[at]
    ordered = np.argsort(-dominance_of(directions, shares), kind="stable")
    removed, others = ordered[: spec.num_removed], _drawn(ordered[spec.num_removed :], spec)
    squares = -np.sort(-(found.directions**2), axis=1)
    rotated = found.grams[:, : spec.num_rotated, : spec.num_rotated]
    deletions, deleted = deletion_accuracies(model, data)
    probes = probe_accuracies(model, data) if spec.probes else {}
    relu = [i for i, name in enumerate(found.layers) if isinstance(modules[name], nn.ReLU)]
    pixels = images.double().cpu() / 255
    columns = {"joint_share": [found.joint_share], "deletions": deleted, "probes": [*probes.values()]}
    names = {
        "layers": list(found.layers),
        "relu_layers": [found.layers[i] for i in relu],
        "deleted": deletions,
        "probed": list(probes),
        "removed": removed.tolist(),
        "epochs": list(epochs),
    }
    arrays: Arrays = {
        "cka": packed_symmetric(found.cka),
        "cka_without_component": packed_symmetric(found.cka_without_component),
        "shares": packed([found.shares]),
        "top_shares": packed([squares[:, :top].sum(1) for top in TOPS]),
        "zeros": packed([found.zeros[relu]]),
        "directions": packed(directions),
        "cka_without_dominant": packed_symmetric(cka_of_grams(_without(found.grams, removed))),
        "cka_without_others": packed_symmetric(cka_of_grams(_without(found.grams, others))),
        "bures": packed_symmetric(bures_of_grams(centred(rotated))),
        "examples": examples.numpy().astype(np.int16 if examples.max() < 2**15 else np.int32),
        "labels": data.test.labels.cpu().numpy().astype(np.int16),
        "brightness": packed([pixels.flatten(1).mean(1).numpy()]),
        "border": packed([_border(pixels).mean(1).numpy()]),
    }
    for epoch, each in epochs.items():
        arrays[f"cka {epoch}"] = packed_symmetric(each.cka)
        arrays[f"dominance {epoch}"] = packed([each.dominance**0.5])  # most are below a thousandth
    return columns, names, arrays


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


def _drawn(others: npt.NDArray[np.intp], spec: specs.BlockOrigins) -> npt.NDArray[np.intp]:
    rng = np.random.default_rng(specs.derive_seed(spec.seed, "other images"))
    return rng.choice(others, spec.num_removed, replace=False)


def _without(grams: torch.Tensor, images: npt.NDArray[np.intp]) -> torch.Tensor:
    left = np.setdiff1d(np.arange(grams.shape[-1]), images)
    return grams[:, left][:, :, left]


def _border(pixels: torch.Tensor) -> torch.Tensor:
    """The outermost pixels of images (n, channels, height, width), (n, …)."""
    sides = (pixels[..., 0, :], pixels[..., -1, :], pixels[..., 1:-1, 0], pixels[..., 1:-1, -1])
    return torch.cat([side.flatten(1) for side in sides], dim=1)


def origin_results(run: specs.BlockOrigins, *, store: Store) -> OriginResults:
    """What was measured of one network.

    Raises:
        KeyError: If the record is missing.
        ValueError: If the training diverged.
    """
    record = store.load(run)
    refuse_diverged(record.status, record.key)
    names, arrays, columns = record.names, record.arrays, record.columns
    layers = tuple(names["layers"])
    outputs = output_names(layers)
    images, relu = len(arrays["labels"]), names["relu_layers"]

    def row(name: str, length: int) -> Array:
        return unpacked(arrays[name], 1, length).ravel()

    ratios = row("shares", len(layers))
    directions = unpacked(arrays["directions"], len(outputs), images)
    return OriginResults(
        layers=layers,
        outputs=tuple(outputs),
        cka=unpacked_symmetric(arrays["cka"]),
        cka_without_component=unpacked_symmetric(arrays["cka_without_component"]),
        explained_variance_ratio=ratios,
        joint_explained_variance_ratio=columns["joint_share"][0],
        top_shares=dict(zip(TOPS, unpacked(arrays["top_shares"], len(TOPS), len(layers)), strict=True)),
        directions=directions,
        dominance=dominance_of(directions, ratios[[layers.index(name) for name in outputs]]),
        removed=tuple(names["removed"]),
        cka_without_dominant=unpacked_symmetric(arrays["cka_without_dominant"]),
        cka_without_others=unpacked_symmetric(arrays["cka_without_others"]),
        bures=unpacked_symmetric(arrays["bures"]),
        epochs={
            epoch: OutputMap(
                cka=unpacked_symmetric(arrays[f"cka {epoch}"]),
                dominance=row(f"dominance {epoch}", images) ** 2,
            )
            for epoch in names["epochs"]
        },
        examples=arrays["examples"].astype(np.int64),
        labels=arrays["labels"].astype(np.int64),
        brightness=row("brightness", images),
        border=row("border", images),
        sparsity=dict(zip(relu, row("zeros", len(relu)).tolist(), strict=True)),
        test_accuracy=columns["test_accuracy"][0],
        train_accuracy=columns["train_accuracy"][0],
        deletions=dict(zip(map(tuple, names["deleted"]), columns["deletions"], strict=True)),
        probes=dict(zip(names["probed"], columns["probes"], strict=True)),
        num_weights=names["num_weights"][0],
    )


def measure_outputs(
    models: Sequence[nn.Module], data: Sequence[Dataset], images: torch.Tensor
) -> tuple[Columns, dict[str, Any], Arrays]:
    """Names and arrays for a record of several networks; the images are those of each `test`."""
    layers = {str(i): output_names(list(dict(model.named_modules()))) for i, model in enumerate(models)}
    found = cka_matrices(
        {str(i): model for i, model in enumerate(models)},
        images,
        layers=layers,
        batch_size=len(images),
        passes=1,
        prepare={str(i): d.normalise for i, d in enumerate(data)},
    )
    arrays: Arrays = {
        f"cka {i} {j}": packed(found[str(i), str(j)].values)
        for i in range(len(models))
        for j in range(i, len(models))
    }
    return {}, {"layers": list(layers.values())}, arrays


def output_results(run: specs.OutputSimilarity, *, store: Store) -> NetworkResults:
    """What was measured of several networks, between their outputs.

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
            values = unpacked(record.arrays[f"cka {i} {j}"], len(layers[i]), len(layers[j]))
            cka[i, j], cka[j, i] = values, values.T
    return NetworkResults(layers=layers, cka=cka, test_accuracies=tuple(record.columns["test_accuracy"]))


def refuse_diverged(status: str, key: str) -> None:
    """Refuse a record of trainings that did not all finish."""
    if status != "finished":
        raise ValueError(f"the measurement {key} is {status!r}; one whose trainings finished can be read")
