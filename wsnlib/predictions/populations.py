"""Populations of networks by what they predict, and the accuracy of single examples."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.integer[Any]]


class Population:
    """Predicted classes of networks that differ in nothing but their seed, on the same examples.

    The networks are independent draws from all that the training could give; the examples are fixed.
    Every interval and test of this package is over networks, and says nothing of other examples, but for
    the intervals of `consistency_table`, which are over networks and examples.

    Args:
        predictions: Class of each example, (networks, examples), or one array of (examples,) for
            each network, such as the predictions of records. Integers; uint8 or int16 save memory.
        labels: Right class of each example, (examples,).
        num_classes: Classes of the data set, numbered from 0.
        name: Name of the architecture, for tables and errors.

    Raises:
        ValueError: If there are fewer than two networks, predictions are missing or of other
            examples, or a class is not one of the data set's.

    Examples:
        >>> wide = Population([[0, 1, 1], [0, 1, 0]], labels=[0, 1, 1], num_classes=2, name="wide")
        >>> wide.accuracy.tolist(), wide.network_accuracy.round(2).tolist()
        ([1.0, 1.0, 0.5], [1.0, 0.67])
        >>> Population([[0, 1, 1], None], labels=[0, 1, 1], num_classes=2)
        Traceback (most recent call last):
        ...
        ValueError: every network of 'population' must have predictions, got none of network 1; leave it \
out, or run it again
    """

    def __init__(
        self,
        predictions: Integers | Sequence[ArrayLike | None],
        *,
        labels: ArrayLike,
        num_classes: int,
        name: str = "population",
    ) -> None:
        if num_classes < 2:
            raise ValueError(f"num_classes must be ≥ 2, got {num_classes}")
        self.name = name
        self.num_classes = num_classes
        right = np.asarray(labels)
        if right.ndim != 1 or right.size == 0:
            raise ValueError(
                f"labels of {name!r} must be of shape (examples,), at least one, got {right.shape}"
            )
        self.labels = _classes(right, num_classes, f"labels of {name!r}")
        self.predictions = _classes(
            _stacked(predictions, name, len(self.labels)), num_classes, f"predictions of {name!r}"
        )

    def __len__(self) -> int:
        """Number of networks."""
        return len(self.predictions)

    def __getitem__(self, networks: slice | Integers) -> Population:
        """The population of some of the networks, at least two."""
        return Population(
            self.predictions[networks], labels=self.labels, num_classes=self.num_classes, name=self.name
        )

    def split(self, *, seed: int) -> tuple[Population, Population]:
        """Two disjoint halves, drawn at random; the first has a network more if there is an odd number.

        Examples:
            >>> p = Population(np.zeros((5, 3), int), labels=[0, 1, 1], num_classes=2)
            >>> [len(half) for half in p.split(seed=0)]
            [3, 2]
        """
        if len(self) < 4:
            raise ValueError(
                f"{self.name!r} must have at least 4 networks to be split in two, got {len(self)}; train more"
            )
        order = np.random.default_rng(seed).permutation(len(self))
        middle = (len(self) + 1) // 2
        return self[order[:middle]], self[order[middle:]]

    @property
    def num_examples(self) -> int:
        """Number of examples."""
        return len(self.labels)

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each prediction is right, (networks, examples)."""
        return np.asarray(self.predictions == self.labels)

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Networks that are right, of each example."""
        return np.asarray(self.correct.sum(0, dtype=np.int64))

    @property
    def accuracy(self) -> Array:
        """Share of networks that are right, of each example."""
        return np.asarray(self.counts / len(self))

    @property
    def network_accuracy(self) -> Array:
        """Share of examples that are right, of each network."""
        return np.asarray(self.correct.mean(1))


def _stacked(predictions: Integers | Sequence[ArrayLike | None], name: str, examples: int) -> Integers:
    rows = []
    for number, row in enumerate(predictions):
        if row is None:
            raise ValueError(
                f"every network of {name!r} must have predictions, got none of network {number}; leave it "
                "out, or run it again"
            )
        rows.append(np.asarray(row))
        if rows[-1].shape != (examples,):
            raise ValueError(
                f"the predictions of network {number} of {name!r} must be of shape ({examples},), one for "
                f"each label, got {rows[-1].shape}"
            )
    if len(rows) < 2:
        raise ValueError(f"{name!r} must have at least 2 networks, got {len(rows)}; train more")
    return predictions if isinstance(predictions, np.ndarray) else np.stack(rows)


def _classes(values: Integers, num_classes: int, what: str) -> Integers:
    if not np.issubdtype(values.dtype, np.integer):
        advice = "give the classes, not whether they are right" if values.dtype == bool else "round them"
        raise ValueError(f"{what} must be integers, got {values.dtype}; {advice}")
    for worst in (values.min(), values.max()):
        if not 0 <= worst < num_classes:
            raise ValueError(f"{what} must be classes of 0 to {num_classes - 1}, got {worst}")
    return values


def check_same_examples(populations: Sequence[Population]) -> None:
    """Stop if one comes twice or is of other examples or classes; labels tell examples apart."""
    given = populations if isinstance(populations, list | tuple) else [populations]
    if given is not populations or not given or not all(isinstance(each, Population) for each in given):
        got = ", ".join(sorted({type(each).__name__ for each in given})) or "none"
        raise ValueError(
            f"populations must be a list of at least one Population, got {got}; give [population, …]"
        )
    first = populations[0]
    for i, other in enumerate(populations[1:], 1):
        if any(other is each for each in populations[:i]):
            raise ValueError(
                f"populations must be of different networks, got {other.name!r} twice; "
                "give the halves of its split"
            )
        names = f"{first.name!r} and {other.name!r}"
        if first.num_classes != other.num_classes:
            raise ValueError(
                f"{names} must have as many classes, got {first.num_classes} and {other.num_classes}; "
                "compare them on one data set"
            )
        if first.num_examples != other.num_examples:
            raise ValueError(
                f"{names} must have as many examples, got {first.num_examples} and {other.num_examples}; "
                "compare them on one test set"
            )
        if (differ := np.flatnonzero(first.labels != other.labels)).size:
            at = int(differ[0])
            raise ValueError(
                f"{names} must be of the same examples in the same order, got labels {first.labels[at]} "
                f"and {other.labels[at]} at example {at}; compare them on one test set"
            )


def class_accuracy(population: Population) -> Array:
    """Accuracy of each network on each class, (networks, classes).

    Raises:
        ValueError: If a class has no example.

    Examples:
        >>> class_accuracy(Population([[0, 1, 1], [0, 1, 0]], labels=[0, 1, 0], num_classes=2)).tolist()
        [[0.5, 1.0], [1.0, 1.0]]
    """
    sizes = np.bincount(population.labels, minlength=population.num_classes)
    if (absent := np.flatnonzero(sizes == 0)).size:
        raise ValueError(
            f"the labels of {population.name!r} must hold each of the {population.num_classes} classes, "
            f"got no example of class {absent[0]}; take a larger test set"
        )
    order = np.argsort(population.labels, kind="stable")
    starts = np.cumsum(sizes) - sizes
    right = np.add.reduceat(population.correct[:, order], starts, axis=1, dtype=np.int64)
    return np.asarray(right / sizes)


def simulate_population(
    probabilities: ArrayLike,
    *,
    networks: int,
    labels: ArrayLike,
    num_classes: int,
    spread: float = 0.0,
    class_spread: float = 0.0,
    name: str = "population",
    seed: int = 0,
) -> Population:
    """Networks that are right on example i of class c with probability σ(logit pᵢ + s z + s′ z_c).

    z and z_c are standard normal, drawn for each network. Wrong predictions are uniform over the other
    classes. For planning, and for checking tests.

    Args:
        probabilities: p of each example, (examples,), in [0, 1].
        networks: Number of networks.
        labels, num_classes, name: As in `Population`.
        spread: s, how much networks differ in quality, in log-odds.
        class_spread: s′, how much they differ in quality class by class.
        seed: Random seed.

    Examples:
        >>> p = simulate_population([0.0, 0.5, 1.0], networks=1000, labels=[0, 1, 2], num_classes=3)
        >>> p.accuracy.round(1).tolist()
        [0.0, 0.5, 1.0]
    """
    p = np.asarray(probabilities, dtype=float)
    right = np.asarray(labels)
    if p.shape != right.shape or p.ndim != 1:
        raise ValueError(
            f"probabilities and labels must be of one shape (examples,), got {p.shape} and {right.shape}"
        )
    if not np.all((p >= 0) & (p <= 1)):
        raise ValueError(f"probabilities must be 0 to 1, got {p.min():g} to {p.max():g}")
    rng = np.random.default_rng(seed)
    quality = spread * rng.standard_normal((networks, 1))
    quality = quality + class_spread * rng.standard_normal((networks, num_classes))[:, right]
    correct = rng.random((networks, len(p))) < scipy.special.expit(scipy.special.logit(p) + quality)
    others = (right + rng.integers(1, num_classes, correct.shape)) % num_classes
    predictions: Integers = np.where(correct, right, others)
    predictions = predictions.astype(np.uint8 if num_classes <= 256 else np.int16)
    return Population(predictions, labels=right, num_classes=num_classes, name=name)
