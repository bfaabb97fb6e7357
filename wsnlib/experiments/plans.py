"""Which engine makes a run, and which runs are trained jointly: decided here and nowhere else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, Literal

import torch
from torch import nn

from wsnlib import sparse, specs
from wsnlib.data import Dataset, load_data
from wsnlib.experiments.machine import resolve_device
from wsnlib.experiments.networks import build, check_fit, is_reachable, timed_as, weights_per_layer

Engine = Literal["dense", "masked", "sparse", "compiled", "none"]

FEWEST_COMPILED_STEPS = 1000
"""A step saves some tenths of a millisecond, and loading compiled code takes a process a second or two."""

COMPILED_NS = 0.12
"""Nanoseconds of compiled code on one CPU core for each weight that is there and image of a batch, forward
and backward. `benchmarks/mlp.py` shows what was measured beside these four."""
UNIT_NS = 0.8
"""The same of each unit of a hidden layer."""
DENSE_NS = 0.055
"""Of PyTorch for each weight of the dense network."""
STEP_NS = 150_000.0
"""Of PyTorch for each step of a network, however small it is."""

FEWEST_OPERATIONS = 1e12
"""Operations of a dense training from which on its layers are timed; it takes some 20 s, and timing 10."""

MOST_TOGETHER = 16
"""Networks that are trained jointly in one process at most."""

VALUES_TOGETHER = 2**19
"""Hidden units of a whole batch of all of them at most; more leave the processor's cache."""

LONGEST_TOGETHER = 900.0
"""Seconds that they would take one by one at most; what is stopped loses no more than that."""

SHORTEST_TOGETHER = 2.0
"""Seconds of a run below which it trains alone, as training jointly saves little then."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How runs are made, decided once; the budget, the sweep, the training and the record read it.

    Args:
        runs: Most often one; several are trained jointly by compiled code.
        device: `"cpu"`, `"cuda"` or `"cuda:1"`.
        engine: What trains: PyTorch with every weight present (`"dense"`), with masked weights
            (`"masked"`) or with sparse-compute layers (`"sparse"`), or compiled code that goes over the
            weights present (`"compiled"`). Nothing trains examples and kernels, and each training of a
            measurement has a plan of its own (`"none"`).
        why: The reason, in words.
        sparse_layers: Names of the layers that are sparse-compute ones.
        seconds: Estimated for all of the runs; 0 where nothing was timed.

    Raises:
        ValueError: If several runs cannot be trained jointly.
    """

    runs: tuple[specs.Run, ...]
    device: str
    engine: Engine
    why: str
    sparse_layers: tuple[str, ...] = ()
    seconds: float = 0.0

    def __post_init__(self) -> None:
        keys = {joint_key(run) for run in self.runs} if len(self.runs) > 1 else set()
        if len(keys) > 1 or None in keys:
            raise ValueError(
                "the runs of a plan must be one, or fully connected networks of one shape and protocol, got "
                f"{len(self.runs)} with {len(keys)} shapes or protocols; make a plan for each"
            )
        if keys and self.engine != "compiled":
            raise ValueError(
                f"the engine of several runs must be 'compiled', got {self.engine!r}; make a plan for each"
            )

    @property
    def trainings(self) -> list[specs.Experiment]:
        """The runs, if they are trainings."""
        return [run for run in self.runs if isinstance(run, specs.Experiment)]

    def recorded(self) -> dict[str, Any]:
        """What the environment of a record says of the engine: `fleet` is the number trained jointly."""
        return (
            {"engine": self.engine, "engine_chosen": self.why}
            | ({"compiled": f"numba {version('numba')}"} if self.engine in ("compiled", "sparse") else {})
            | ({"native_layers": list(self.sparse_layers)} if self.sparse_layers else {})
            | ({"fleet": len(self.runs)} if len(self.runs) > 1 else {})
        )


def plan(run: specs.Run, *, device: str = "auto", data: Dataset | None = None) -> Plan:
    """The plan of one run, without its time. What is decided follows from the run and the kind of device.

    Args:
        run: What is to be made.
        device: As in [`run`][wsnlib.experiments.runs.run].
        data: The data set of a training, if it is there already.

    Raises:
        ValueError: If the network does not fit the data.

    Examples:
        >>> mlp = specs.MLPSpec(width=5, inputs=64)
        >>> long = specs.Experiment(model=mlp, data=specs.Digits(), training=specs.Training(epochs=100))
        >>> plan(long, device="cpu").engine
        'compiled'
        >>> plan(replace(long, training=specs.Training(epochs=1)), device="cpu").why
        'compiled code pays from 1,000 steps, and these are 15'
    """
    target = str(resolve_device(device))
    if not isinstance(run, specs.Experiment):
        return Plan(runs=(run,), device=target, engine="none", why="it is no training of one network")
    data = data or load_data(run.data)
    check_fit(run, data)
    engine, why, layers = _decided(run, data, on_cpu=target == "cpu")
    return Plan(runs=(run,), device=target, engine=engine, why=why, sparse_layers=layers)


def _decided(run: specs.Experiment, data: Dataset, *, on_cpu: bool) -> tuple[Engine, str, tuple[str, ...]]:
    if not is_reachable(run.model):
        return "dense", "there is no such network, as its training will say", ()
    wide = timed_as(run.model)
    full = wide == run.model or weights_per_layer(wide) == weights_per_layer(run.model)
    torch_engine: Engine = "dense" if full else "masked"
    if not on_cpu:
        return torch_engine, "on a GPU a step of PyTorch is recorded and replayed", ()
    protocol, batch_size = run.training, min(run.training.batch_size, len(data.train.labels))
    if isinstance(protocol, specs.DynamicSparseTraining):
        return torch_engine, "masks that move are masked layers'", ()
    why = "other engines are for fully connected networks and masked layers"
    if joint_key(run) is not None:
        steps = protocol.epochs * math.ceil(len(data.train.labels) / batch_size)
        compiled, dense = _step_ms(run, batch_size)
        if steps >= FEWEST_COMPILED_STEPS and compiled < dense:
            return "compiled", f"a step takes about {compiled:.2g} ms, and {dense:.2g} ms in PyTorch", ()
        few = f"compiled code pays from {FEWEST_COMPILED_STEPS:,} steps, and these are {steps:,}"
        slow = f"a compiled step takes about {compiled:.2g} ms, and {dense:.2g} ms in PyTorch"
        return torch_engine, few if compiled < dense else slow, ()
    if full:
        return torch_engine, why, ()
    model, one = build(run.model), torch.zeros(1, *data.image_shape)
    operations = 3 * protocol.epochs * len(data.train.labels) * _operations(model, one)
    if operations < FEWEST_OPERATIONS:
        return torch_engine, f"{why}; {operations:.2g} operations are too few to time layers", ()
    costs = sparse.estimated_costs(model, one, batch_size=batch_size, precision=protocol.precision)
    layers = tuple(cost.layer for cost in costs if cost.chosen == "sparse")
    if not layers:
        return torch_engine, f"{why}; no layer is faster as a sparse-compute one here", ()
    either = [cost for cost in costs if not math.isnan(cost.sparse_ms)]
    before, after = (
        sum(cost.dense_ms if cost.layer not in chosen else cost.sparse_ms for cost in either)
        for chosen in ((), layers)
    )
    forms = f"{after:.2g} ms a step, and {before:.2g} ms as masked ones"
    why = f"{why}; layers with a sparse form take about {forms}"
    return "sparse", why, layers


def _operations(model: nn.Module, images: torch.Tensor) -> int:
    """Floating-point operations of a forward pass with every weight present."""
    from torch.utils.flop_counter import FlopCounterMode  # loads all of torch's decompositions

    model.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(images)
    model.train()
    return int(counter.get_total_flops())


def _step_ms(run: specs.Experiment, batch: int) -> tuple[float, float]:
    """Estimated milliseconds of a step of a fully connected network, compiled and in PyTorch."""
    net = timed_as(run.model)
    assert isinstance(net, specs.MLPSpec)
    units = net.width * net.hidden_layers + net.outputs
    compiled = batch * (COMPILED_NS * sum(weights_per_layer(run.model).values()) + UNIT_NS * units)
    return compiled / 1e6, (STEP_NS + batch * DENSE_NS * sum(weights_per_layer(net).values())) / 1e6


def joint_key(run: specs.Run) -> str | None:
    """What runs have in common that compiled code can train jointly; None if it cannot train a run.

    They are fully connected networks of one shape on the same data by the same protocol, but for the
    learning rate, the seed and which weights are there.

    Examples:
        >>> base, data = specs.MLPSpec(width=5), specs.MNIST()
        >>> runs = [
        ...     specs.Experiment(
        ...         model=specs.StaticSparsity(base, width=w),
        ...         data=data,
        ...         training=specs.Training(epochs=3, learning_rate=rate),
        ...         seed=seed,
        ...     )
        ...     for w, rate, seed in ((20, 0.1, 0), (20, 0.3, 1), (40, 0.1, 0))
        ... ]
        >>> first, second, third = map(joint_key, runs)
        >>> first == second, first == third
        (True, False)
    """
    if not isinstance(run, specs.Experiment):
        return None
    shape = timed_as(run.model) if isinstance(run.model, specs.StaticSparsity) else run.model
    protocol = run.training
    plain = protocol.weight_decay_on == "all" and protocol.precision == "float32"
    plain = plain and not isinstance(protocol, specs.DynamicSparseTraining)
    if not (isinstance(shape, specs.MLPSpec) and plain):
        return None
    if shape.parametrisation == "sparse_mu":  # scales follow from the base and the densities
        shape = run.model
    return specs.spec_key(replace(run, model=shape, seed=0, training=replace(protocol, learning_rate=1.0)))


def planned_jointly(plans: Sequence[Plan], *, workers: int) -> list[Plan]:
    """Plans of one run each, in their order, with compiled ones of the same `joint_key` as one.

    Each has at most `MOST_TOGETHER` runs, those with the same seed together, and there is work left for every
    one of the workers. Runs that take less than 2 seconds train alone.
    """
    groups: dict[object, list[Plan]] = {}
    for each in plans:
        pays = each.engine == "compiled" and each.seconds >= SHORTEST_TOGETHER
        groups.setdefault((pays and joint_key(each.runs[0])) or specs.spec_key(each.runs[0]), []).append(each)
    found = []
    for group in groups.values():
        group.sort(key=lambda each: sum(run.seed for run in each.trainings))  # they see the same images
        most = min(math.ceil(len(group) / workers), MOST_TOGETHER)
        if len(group) > 1:
            values = _hidden_values(group[0].trainings[0])
            most = max(1, min(most, VALUES_TOGETHER // values, int(LONGEST_TOGETHER // group[0].seconds)))
        for start in range(0, len(group), most):
            part = group[start : start + most]
            runs = tuple(run for each in part for run in each.runs)
            found.append(replace(part[0], runs=runs, seconds=sum(each.seconds for each in part)))
    return found


def _hidden_values(run: specs.Experiment) -> int:
    """Numbers in the hidden layers of a fully connected network for one batch."""
    net = timed_as(run.model)
    assert isinstance(net, specs.MLPSpec)
    return net.width * net.hidden_layers * run.training.batch_size
