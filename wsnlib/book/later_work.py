"""The chapter on what later papers found: its parameters, trainings and estimates, part by part."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from math import log, prod
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import nn

from wsnlib import data, experiments, masks, similarity, specs, sweeps
from wsnlib.book.engine import parameters as fields
from wsnlib.estimates import Estimate, estimate, exact_range
from wsnlib.models import MLP
from wsnlib.store import Store

Part = Literal["rate", "smu", "data", "allocation", "pattern", "moving", "ensemble", "split"]
PARTS: tuple[Part, ...] = get_args(Part)


class Parameters(fields.ChapterParameters):
    """Parameters of the chapter `later_work`: networks, and which parts of the page have runs."""

    preset: Literal["clean"] = Field(
        "clean", description="'clean': validation images choose epochs and rates"
    )
    validation_size: fields.PositiveInt = 100
    parts: list[Part] = Field(
        ["rate"], description=f"a list of {', '.join(PARTS[:-1])} and {PARTS[-1]}, or of some of them"
    )
    base_width: fields.PositiveInt = 5
    widths: list[fields.PositiveInt] = Field(
        [5, 10, 20, 40], min_length=2, description="a list of 2 or more integers of at least the base width"
    )
    seeds: fields.Seeds = Field([0])
    batch_size: fields.PositiveInt = 100
    learning_rate: fields.PositiveFloat = 0.1
    learning_rates: list[fields.PositiveFloat] = Field(
        [0.05, 0.1, 0.2], min_length=1, description="a list of numbers > 0"
    )
    rate_epochs: fields.PositiveInt = 10
    smu_seeds: fields.Seeds = Field([0])
    train_sizes: list[fields.PositiveInt] = Field(
        [100, 1000], min_length=2, description="a list of 2 or more integers ≥ 1"
    )
    data_steps: fields.PositiveInt = 200
    part_epochs: fields.PositiveInt = 10
    moving_every: fields.PositiveInt = 100
    deep_width: fields.PositiveInt = 32
    deep_base_widths: list[fields.PositiveInt] = Field(
        [16, 4], min_length=2, description="a falling list of 2 or more integers ≥ 1"
    )
    pattern_width: fields.PositiveInt = 40
    pattern_seeds: fields.Seeds = Field([0])
    members: fields.PositiveInt = 4
    split_base_widths: list[fields.PositiveInt] = Field(
        [3, 6], min_length=2, description="a rising list of 2 or more integers ≥ 1"
    )
    cka_steps: fields.PositiveInt = 100

    def model_post_init(self, context: Any) -> None:
        """Check what concerns several parameters at once."""
        self._check_widths(self.widths, self.base_width)
        if "rate" not in self.parts:
            raise ValueError(f"parts must be a list that holds rate, the key figure's, got {self.parts}")
        if not set(self.smu_seeds) <= set(self.seeds):
            raise ValueError(f"smu_seeds must be some of the seeds {self.seeds}, got {self.smu_seeds}")
        if self.learning_rate not in self.learning_rates:
            raise ValueError(
                f"learning_rates must be a list that holds learning_rate {self.learning_rate:g}, got "
                f"{self.learning_rates}"
            )
        if self.deep_base_widths != sorted(set(self.deep_base_widths), reverse=True):
            raise ValueError(
                "deep_base_widths must be a falling list of 2 or more integers ≥ 1, got "
                f"{self.deep_base_widths}"
            )
        if self.split_base_widths != sorted(self.split_base_widths):
            raise ValueError(
                "split_base_widths must be a rising list of 2 or more integers ≥ 1, got "
                f"{self.split_base_widths}"
            )
        _ = self.data_spec

    @property
    def data_spec(self) -> specs.DataSpec:
        """The data set, with validation images, by which epochs and learning rates are chosen."""
        return self._data_spec()

    @property
    def same_data(self) -> bool:
        """Whether the data are those for which the claims are stated."""
        return self.data == "mnist"

    def dense(self, width: int, **changes: Any) -> specs.MLPSpec:
        """The dense network of a width for the data."""
        inputs, classes = prod(data.image_shape(self.data_spec)), data.num_classes(self.data_spec)
        return specs.MLPSpec(width=width, inputs=inputs, outputs=classes, **changes)

    def wide(self, width: int) -> specs.StaticSparsity:
        """The network of G21 at a width, with as many weights as the dense one of the base width."""
        return specs.StaticSparsity(self.dense(self.base_width), width=width)

    def training(self, epochs: int, **changes: Any) -> specs.Training:
        """G21's training of these networks, for so many epochs; the best on validation images counts."""
        given: dict[str, Any] = {"learning_rate": self.learning_rate, "report": "best_validation"} | changes
        return specs.Training(epochs=epochs, batch_size=self.batch_size, **given)

    def run(self, model: specs.ModelSpec, seed: int) -> specs.Experiment:
        """The training of one network of the smaller parts."""
        protocol = self.training(self.part_epochs)
        return specs.Experiment(model=model, data=self.data_spec, training=protocol, seed=seed)


# -- is it the learning rate? ------------------------------------------------------------------


def rate_runs(
    p: Parameters,
    *,
    parametrisation: Literal["standard", "sparse_mu"] = "standard",
    seeds: Sequence[int] | None = None,
) -> list[specs.Experiment]:
    """Every width at every learning rate; validation images choose rate and epoch (of every third)."""
    dense = p.dense(p.base_width, parametrisation=parametrisation)
    return [
        specs.Experiment(
            model=specs.StaticSparsity(dense, width=width),
            data=p.data_spec,
            training=p.training(p.rate_epochs, learning_rate=rate, evaluate_every=3),
            seed=seed,
        )
        for seed, width, rate in product(p.seeds if seeds is None else seeds, p.widths, p.learning_rates)
    ]


def own_rates(table: pd.DataFrame) -> dict[int, float]:
    """By width, the learning rate with the best mean validation accuracy; one that diverged is never it."""
    means = table.groupby(["width", "rate"])["validation_accuracy"].apply(lambda v: v.mean(skipna=False))
    best = means.unstack("rate").idxmax(axis=1)
    return dict(zip(best.index.tolist(), best.tolist(), strict=True))


def at_rates(table: pd.DataFrame, rates: Mapping[int, float]) -> pd.DataFrame:
    """Test accuracy in % by seed (rows) and width, each width at the rate that is given for it."""
    chosen = table[table["rate"] == table["width"].map(rates)]
    return 100 * chosen.pivot(index="seed", columns="width", values="test_accuracy")


def middle_width(p: Parameters) -> int:
    """The width that G21 finds best, or the nearest wider than the base."""
    wider = [w for w in p.widths if w > p.base_width] or p.widths
    return min(wider, key=lambda w: abs(log(w / 80)))


def rate_estimates(table: pd.DataFrame, p: Parameters) -> dict[str, Estimate]:
    """Of the claims on learning rates, in the standard parametrisation."""
    widths, base, middle = sorted(p.widths), p.base_width, middle_width(p)
    wider, own = widths[1:], own_rates(table)
    best, shared = at_rates(table, own), at_rates(table, dict.fromkeys(widths, own[base]))
    one = at_rates(table, dict.fromkeys(widths, p.learning_rate))
    lost = best[wider] - shared[wider]
    return {
        "gain-own-rate": _mean(best[middle] - best[base]),
        "gain-own-rate/mean over widths": _mean(_across(best[wider]) - best[base]),
        "gain-own-rate/one rate": _mean(one[middle] - one[base]),
        "rates-differ": _mean(lost[widths[-1]]),
        "rates-differ/mean over widths": _mean(_across(lost)),
    }


def smu_estimates(
    table: pd.DataFrame, p: Parameters, *, standard: pd.DataFrame | None = None
) -> dict[str, Estimate]:
    """Of the claims on SμPar; that it is better than the standard parametrisation needs the runs of that."""
    widths = sorted(p.widths)
    wider, own = widths[1:], own_rates(table)
    best, shared = at_rates(table, own), at_rates(table, dict.fromkeys(widths, own[p.base_width]))
    found = {"smu-one-rate": _mean(_across(best[wider] - shared[wider]), confidence=0.9)}
    if standard is not None:
        rate = own_rates(standard)[p.base_width]
        plain, scaled = (at_rates(t, dict.fromkeys(widths, rate)) for t in (standard, table))
        plain = plain.loc[scaled.index]
        found["smu-better"] = _mean(scaled[widths[-1]] - plain[widths[-1]])
        found["smu-better/mean over widths"] = _mean(_across(scaled[wider] - plain[wider]))
    return found


# -- more data, wider? -------------------------------------------------------------------------


def data_runs(p: Parameters) -> list[specs.Experiment]:
    """Every width on every number of training images, for as many steps; the last epoch counts."""
    runs = []
    for seed, size, width in product(p.seeds, p.train_sizes, p.widths):
        epochs = max(1, round(p.data_steps * p.batch_size / size))
        runs.append(
            specs.Experiment(
                model=p.wide(width),
                data=replace(p.data_spec, train_size=size, validation_size=0),
                training=p.training(epochs, evaluate_every=epochs, report="last"),
                seed=seed,
            )
        )
    return runs


def best_widths(table: pd.DataFrame) -> pd.DataFrame:
    """The width with the best test accuracy, by seed (rows) and number of training images."""
    accuracy = table.pivot(index=["seed", "train_size"], columns="width", values="test_accuracy")
    return accuracy.idxmax(axis=1).unstack("train_size")


def data_estimates(table: pd.DataFrame) -> dict[str, Estimate]:
    """Of the claim on the amount of data: doublings of the best width for ten times the images."""
    widths = best_widths(table)
    images = np.log10(widths.columns.to_numpy(dtype=float))
    slopes = np.polyfit(images, np.log2(widths.to_numpy(dtype=float)).T, 1)[0]
    return {"more-data-wider": estimate(slopes.tolist())}


# -- which layers should give? -----------------------------------------------------------------

RULES: dict[str, specs.Allocation] = {
    "largest layer first": specs.LargestFirst(),
    "uniform density": specs.UniformDensity(),
    "Erdős–Rényi-kernel": specs.ErdosRenyi(),
    "pyramidal": specs.Pyramidal(),
}
"""Rules of allocation by name; balanced ratios are the first of them."""


def deep(p: Parameters, base_width: int, rule: specs.Allocation) -> specs.StaticSparsity:
    """A network with two hidden layers that has as many weights as the dense one of the base width."""
    return specs.StaticSparsity(p.dense(base_width, hidden_layers=2), width=p.deep_width, allocation=rule)


def allocation_runs(p: Parameters) -> list[specs.Experiment]:
    """Every rule at every number of weights that it leaves one for every layer."""
    models = [deep(p, base, rule) for base, rule in product(p.deep_base_widths, RULES.values())]
    reachable = [model for model in models if experiments.is_reachable(model)]
    return [p.run(model, seed) for seed, model in product(p.seeds, reachable)]


def balanced_differs(p: Parameters) -> list[int]:
    """Weights by which a layer differs at most between balanced ratios and the largest first, by network."""
    found = []
    for base in p.deep_base_widths:
        one, other = (
            experiments.weights_per_layer(deep(p, base, rule))
            for rule in (specs.Balanced(), specs.LargestFirst())
        )
        found.append(max(abs(one[name] - other[name]) for name in one))
    return found


def output_weights(p: Parameters) -> dict[str, int]:
    """Weights of the output layer under each rule, in the smallest network in which every layer keeps one."""
    models = {(rule, base): deep(p, base, RULES[rule]) for base, rule in product(p.deep_base_widths, RULES)}
    reachable = {rule: model for (rule, _), model in models.items() if experiments.is_reachable(model)}
    return {rule: experiments.weights_per_layer(model)["output"] for rule, model in reachable.items()}


def by_rule(table: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy in % by seed (rows), rule and density."""
    names = {type(rule).__name__: name for name, rule in RULES.items()}
    named = table.assign(rule=table["rule"].map(names), density=table["connectivity"])
    return 100 * named.pivot(index="seed", columns=["rule", "density"], values="test_accuracy")


def allocation_estimates(table: pd.DataFrame, p: Parameters) -> dict[str, Estimate]:
    """Of the claims on how layers share the weights."""
    accuracy = by_rule(table)
    pairs = {
        "erk-better": ("Erdős–Rényi-kernel", "uniform density"),
        "balanced-better": ("largest layer first", "Erdős–Rényi-kernel"),
        "pyramidal-better": ("pyramidal", "Erdős–Rényi-kernel"),
    }
    found = {"balanced-is-water-filling": exact_range(balanced_differs(p))}
    for name, (rule, other) in pairs.items():
        if not {rule, other} <= set(accuracy.columns.unique("rule")):
            continue
        points = pd.DataFrame(accuracy[rule] - accuracy[other]).dropna(axis=1, how="all")
        if points.empty:
            continue
        found[name] = _mean(points[min(points.columns)])
        found[f"{name}/mean over densities"] = _mean(_across(points))
    return found


# -- does it matter where in a layer? ----------------------------------------------------------

PATTERNS = {"constant-fan-in": "constant_fan_in", "balanced-mask": "balanced", "block-mask": "blocks"}
"""Patterns of masks by the claim on each."""


def pattern_runs(p: Parameters) -> list[specs.Experiment]:
    """Every pattern, and random masks, at one width."""
    dense = p.dense(p.base_width)
    models: list[specs.StaticSparsity] = [specs.StaticSparsity(dense, width=p.pattern_width)]
    for pattern in ("constant_fan_in", "balanced", "blocks"):
        models.append(specs.PatternedSparsity(dense, width=p.pattern_width, pattern=pattern))
    return [p.run(model, seed) for seed, model in product(p.pattern_seeds, models)]


def by_pattern(table: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy in % by seed (rows) and pattern."""
    named = table.assign(pattern=table["pattern"].fillna("random"))
    return 100 * named.pivot(index="seed", columns="pattern", values="test_accuracy")


def pattern_estimates(table: pd.DataFrame) -> dict[str, Estimate]:
    """Of the equivalences of patterns with random masks."""
    accuracy = by_pattern(table)
    return {
        claim: _mean(accuracy[pattern] - accuracy["random"], confidence=0.9)
        for claim, pattern in PATTERNS.items()
    }


# -- static or moving? -------------------------------------------------------------------------


def moving_runs(p: Parameters) -> list[specs.Experiment]:
    """SET and RigL at every number of weights, and the same without moves."""
    runs = []
    for seed, base in product(p.seeds, p.deep_base_widths):
        static = p.run(deep(p, base, specs.ErdosRenyi()), seed)
        runs.append(static)
        for method in ("set", "rigl"):
            moving = specs.DynamicSparseTraining(method=method, every=p.moving_every, **vars(static.training))
            runs.append(replace(static, training=moving))
    return runs


def by_method(table: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy in % by seed (rows), method and density."""
    named = table.assign(method=table["method"].fillna("static"), density=table["connectivity"])
    return 100 * named.pivot(index="seed", columns=["method", "density"], values="test_accuracy")


def moving_estimates(table: pd.DataFrame) -> dict[str, Estimate]:
    """Of the claims on masks that move."""
    accuracy = by_method(table)
    gaps = {method: accuracy[method] - accuracy["static"] for method in ("set", "rigl")}
    low, high = min(gaps["set"].columns), max(gaps["set"].columns)
    return {
        "set-better": _mean(gaps["set"][low]),
        "rigl-better": _mean(gaps["rigl"][low]),
        "rigl-gap-grows": _mean(gaps["rigl"][low] - gaps["rigl"][high]),
    }


# -- one wide or many narrow? ------------------------------------------------------------------


class Ensemble(nn.Module):
    """Networks whose class probabilities are averaged; each is trained by the gradient of its own loss.

    Returned are the logarithms of the mean probabilities. The gradient that reaches them from a mean
    cross-entropy over the batch is (mean probabilities − labels) / batch; each member gets
    (its own probabilities − labels) / batch instead, which is that of its own loss.

    Examples:
        >>> net = Ensemble(members=3, width=5, inputs=64, outputs=10)
        >>> net(torch.ones(2, 1, 8, 8)).exp().sum(1).round(decimals=4).tolist()
        [1.0, 1.0]
    """

    def __init__(self, *, members: int, width: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(MLP(width, inputs=inputs, outputs=outputs) for _ in range(members))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = torch.stack([member(x) for member in self.members])
        mixed: torch.Tensor = _MeanProbabilities.apply(logits)
        return mixed


class _MeanProbabilities(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor) -> torch.Tensor:
        mixed = logits.log_softmax(-1).logsumexp(0) - math.log(len(logits))
        ctx.save_for_backward(logits, mixed)
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        logits, mixed = ctx.saved_tensors
        found: torch.Tensor = gradients[0] + (logits.softmax(-1) - mixed.exp()) / logits.shape[1]
        return found


def ensemble_runs(p: Parameters) -> list[specs.Experiment]:
    """An ensemble, and a dense and a wide, sparse network of as many weights as it has in all."""
    dense = p.dense(p.base_width)
    options = {"members": p.members, "width": p.base_width, "inputs": dense.inputs, "outputs": dense.outputs}
    wide = p.dense(p.members * p.base_width)
    models: list[specs.ModelSpec] = [
        specs.CustomSpec("wsnlib.book.later_work.Ensemble", options=options),
        wide,
        specs.StaticSparsity(wide, width=p.members * middle_width(p)),
    ]
    return [p.run(model, seed) for seed, model in product(p.seeds, models)]


def by_kind(table: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy in % by seed (rows) of the ensemble, and of one network, dense and sparse."""
    kinds = {"CustomSpec": "ensemble", "MLPSpec": "dense", "StaticSparsity": "sparse"}
    named = table.assign(kind=table["model"].map(kinds))
    return 100 * named.pivot(index="seed", columns="kind", values="test_accuracy")


def ensemble_estimates(table: pd.DataFrame) -> dict[str, Estimate]:
    """Of the claims on ensembles."""
    accuracy = by_kind(table)
    return {
        "wide-beats-ensemble": _mean(accuracy["dense"] - accuracy["ensemble"]),
        "sparse-beats-ensemble": _mean(accuracy["sparse"] - accuracy["ensemble"]),
    }


# -- splitting units ---------------------------------------------------------------------------

SPLITS = (1, 2, 4)
"""Parts of a unit; 1 is the dense network."""


def split_mlp(*, width: int, parts: int, inputs: int, outputs: int) -> MLP:
    """An MLP of `width` units, each split into parts with disjoint inputs and outputs, drawn at random.

    It has width · parts units and the weights of the dense network of `width` units.

    Examples:
        >>> net = split_mlp(width=3, parts=4, inputs=64, outputs=10)
        >>> masks.num_weights(net), net.hidden1.out_features
        (222, 12)
    """
    net = MLP(width * parts, inputs=inputs, outputs=outputs)
    if parts == 1:
        return net
    generator = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
    kept = {"hidden1": inputs * width, "output": outputs * width}
    masks.sparsify(net, allocation=kept, generator=generator)
    hidden, output = torch.zeros(width, parts, inputs), torch.zeros(outputs, width, parts)
    for unit in range(width):
        reads = torch.randperm(inputs, generator=generator) % parts
        feeds = torch.randperm(outputs, generator=generator) % parts
        hidden[unit, reads, torch.arange(inputs)] = 1
        output[torch.arange(outputs), unit, feeds] = 1
    drawn = {"hidden1": hidden.view(-1, inputs), "output": output.view(outputs, -1)}
    for name, mask in drawn.items():
        held = masks.static_mask(masks.weight_layers(net)[name])
        assert held is not None
        held.mask = mask.bool()
    return net


def split_runs(p: Parameters) -> list[specs.Experiment]:
    """Every base width, whole and with its units split."""
    dense = p.dense(p.base_width)
    sizes = {"inputs": dense.inputs, "outputs": dense.outputs}
    models = [
        specs.CustomSpec("wsnlib.book.later_work.split_mlp", options={"width": width, "parts": parts} | sizes)
        for width, parts in product(p.split_base_widths, SPLITS)
    ]
    return [p.run(model, seed) for seed, model in product(p.seeds, models)]


def by_split(table: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy in % by seed (rows), base width and number of parts of a unit."""
    return 100 * table.pivot(
        index="seed", columns=["model.options.width", "model.options.parts"], values="test_accuracy"
    )


def split_estimates(table: pd.DataFrame, p: Parameters) -> dict[str, Estimate]:
    """Of the claims on splitting units."""
    accuracy = by_split(table)
    narrow, wide = min(p.split_base_widths), max(p.split_base_widths)
    gain = {w: accuracy[w].sub(accuracy[w][1], axis=0) for w in (narrow, wide)}
    return {
        "split-gain": _mean(gain[narrow][4]),
        "split-gain/split in two": _mean(gain[narrow][2]),
        "split-interference": _mean(gain[narrow][4] - gain[wide][4]),
    }


# -- is CKA to be trusted? ---------------------------------------------------------------------


def hidden_layers(p: Parameters) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The hidden layers of two small networks on the digits' test images, by seed.

    They are trained by gradient descent on all training images at once and in float64, which gives the same
    digits on every machine.
    """
    digits = data.load_data(specs.Digits())
    images, test = (
        digits.normalise(next(iter(split.batches(torch.arange(len(split.labels)), batch_size=2000))).images)
        .flatten(1)
        .double()
        for split in (digits.train, digits.test)
    )

    def layer(seed: int) -> torch.Tensor:
        net = experiments.build(specs.MLPSpec(width=64, inputs=digits.num_inputs), seed=seed).double()
        sgd = torch.optim.SGD(net.parameters(), lr=0.5)
        for _ in range(p.cka_steps):
            sgd.zero_grad()
            nn.functional.cross_entropy(net(images), digits.train.labels).backward()
            sgd.step()
        with torch.no_grad():
            found: torch.Tensor = net.get_submodule("hidden1")(test).relu()
        return found

    return [(layer(2 * seed), layer(2 * seed + 1)) for seed in p.seeds]


def moved(x: torch.Tensor, share: float, distance: float) -> torch.Tensor:
    """A representation (n, p) with the first share of its points moved by so many standard deviations."""
    direction = torch.ones(x.shape[1], dtype=x.dtype) / x.shape[1] ** 0.5
    away = torch.zeros(len(x), 1, dtype=x.dtype)
    away[: round(share * len(x))] = distance * x.std()
    found: torch.Tensor = x + away * direction
    return found


def moved_far(x: torch.Tensor, share: float) -> float:
    """CKA of a representation with itself after the first share ρ of its points went infinitely far away.

    ρ / (1 − ρ) · |m|² / |C|, with m the mean of the points that moved, from that of all, and C the
    covariance: linear CKA with points on one line.

    References:
        Davari et al., *Reliability of CKA as a similarity measure in deep learning* (2023), Theorem 1.
    """
    centred = x - x.mean(0)
    count = round(share * len(x))
    rho, mean = count / len(x), centred[:count].mean(0)
    covariance = centred.T @ centred / len(x)
    return float(rho / (1 - rho) * mean.square().sum() / covariance.norm())


def angular_procrustes(x: torch.Tensor, y: torch.Tensor) -> float:
    """1 − 2 / π · arccos(‖XᵀY‖_* / (‖X‖ ‖Y‖)) of centred X and Y, the angular Procrustes similarity.

    1 if they are equal up to rotation and scale, 0 if they are orthogonal.
    """
    x, y = x - x.mean(0), y - y.mean(0)
    bures = torch.linalg.svdvals(x.T @ y).sum() / (x.norm() * y.norm())
    return 1 - 2 / math.pi * math.acos(min(1.0, float(bures)))


def principal(x: torch.Tensor, components: int) -> torch.Tensor:
    """A representation (n, p) with its first principal components alone."""
    centred = x - x.mean(0)
    u, s, v = torch.linalg.svd(centred, full_matrices=False)
    found: torch.Tensor = (u[:, :components] * s[:components]) @ v[:components]
    return found


SHARES = (0.01, 0.05, 0.1, 0.25, 0.5)
"""Of the points that are moved."""

FAR = 1e5
"""Standard deviations, for the claim on the closed form."""


def few_features(x: torch.Tensor, y: torch.Tensor, *, keep: int, draws: int = 20) -> float:
    """Mean CKA of two representations on so many of the features of each, drawn at random."""
    rng = torch.Generator().manual_seed(0)
    found = []
    for _ in range(draws):
        one, other = (z[:, torch.randperm(z.shape[1], generator=rng)[:keep]] for z in (x, y))
        found.append(similarity.cka(one, other))
    return float(np.mean(found))


def cka_estimates(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, Estimate]:
    """Of the claims on CKA, on the hidden layers of pairs of networks that differ in their seed."""
    ratios = [
        similarity.cka(x, moved(x, share, FAR), estimator="biased") / moved_far(x, share)
        for (x, _), share in product(pairs, SHARES)
    ]
    falls = [few_features(x, y, keep=x.shape[1] // 8) - similarity.cka(x, y) for x, y in pairs]
    excess = [
        similarity.cka(x, part, estimator="biased") - angular_procrustes(x, part)
        for x, part in ((x, principal(x, 2)) for x, _ in pairs)
    ]
    return {
        "cka-moved": exact_range(ratios),
        "cka-few-features": estimate(falls),
        "cka-few-directions": estimate(excess),
    }


# -- all parts ---------------------------------------------------------------------------------

_RUNS: dict[Part, Callable[[Parameters], list[specs.Experiment]]] = {
    "rate": rate_runs,
    "smu": lambda p: rate_runs(p, parametrisation="sparse_mu", seeds=p.smu_seeds),
    "data": data_runs,
    "allocation": allocation_runs,
    "pattern": pattern_runs,
    "moving": moving_runs,
    "ensemble": ensemble_runs,
    "split": split_runs,
}


def runs(p: Parameters) -> dict[Part, list[specs.Experiment]]:
    """The runs of each part of the page, in the order of the parts."""
    return {part: _RUNS[part](p) for part in p.parts}


def stages(p: Parameters, store: Store) -> Iterator[list[specs.Run]]:
    """The runs of every part, one part after the other."""
    for part in runs(p).values():
        yield list(part)


def results(part: Part, p: Parameters, store: Store) -> pd.DataFrame:
    """One row a run of a part, with what it varies by names as short as `width`, `rate` and `rule`."""
    names = {
        "model.width": "width",
        "training.learning_rate": "rate",
        "data.train_size": "train_size",
        "model.allocation": "rule",
        "model.pattern": "pattern",
        "training.method": "method",
    }
    return sweeps.table(_RUNS[part](p), store=store, environment=True).rename(columns=names)


def estimates(tables: Mapping[str, pd.DataFrame], p: Parameters) -> dict[str, Estimate]:
    """Our estimate for each claim of the parts whose tables are given, by part."""
    of_part: dict[str, Callable[[pd.DataFrame], dict[str, Estimate]]] = {
        "rate": lambda table: rate_estimates(table, p),
        "smu": lambda table: smu_estimates(table, p, standard=tables.get("rate")),
        "data": data_estimates,
        "allocation": lambda table: allocation_estimates(table, p),
        "pattern": pattern_estimates,
        "moving": moving_estimates,
        "ensemble": ensemble_estimates,
        "split": lambda table: split_estimates(table, p),
    }
    return {name: e for part, table in tables.items() for name, e in of_part[part](table).items()}


def over_seeds(points: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds (rows) and its 95 % interval, `low` to `high`, of each column."""
    found = {column: estimate(points[column].tolist()) for column in points.columns}
    ends = pd.DataFrame({c: {"mean": e.mean, "low": e.low, "high": e.high} for c, e in found.items()}).T
    return ends.where(np.isfinite(ends))


def _mean(points: pd.Series[float], *, confidence: float = 0.95) -> Estimate:
    return estimate(points.tolist(), confidence=confidence)


def _across(points: pd.DataFrame) -> pd.Series[float]:
    return points.mean(axis=1, skipna=False)
