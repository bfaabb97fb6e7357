"""Populations of networks by what they predict, and the accuracy of single examples."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Array = NDArray[np.float64]
Integers = NDArray[np.integer[Any]]


class Population:
    """Predicted classes of networks that differ in nothing but their seed, on the same examples.

    The networks are independent draws from all that the training could give; the examples are fixed.
    Every interval and test of this package is over networks, and says nothing of other examples.

    Args:
        predictions: Class of each example, (networks, examples), or one array of (examples,) for
            each network, such as the predictions of records. Integers; uint8 or int16 save memory.
        labels: Right class of each example, (examples,).
        num_classes: Of the data set; classes are numbered from 0.
        name: Of the architecture, for tables and errors.

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
        ValueError: network 1 of 'population' has no predictions; those of every network are needed
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
            raise ValueError(f"num_classes is {num_classes}; at least 2 are allowed")
        self.name = name
        self.num_classes = num_classes
        right = np.asarray(labels)
        if right.ndim != 1 or right.size == 0:
            raise ValueError(
                f"labels of {name!r} have shape {right.shape}; (examples,), at least one, is allowed"
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
            raise ValueError(f"{self.name!r} has {len(self)} networks; at least 4 can be split into halves")
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
                f"network {number} of {name!r} has no predictions; those of every network are needed"
            )
        rows.append(np.asarray(row))
        if rows[-1].shape != (examples,):
            raise ValueError(
                f"the predictions of network {number} of {name!r} have shape {rows[-1].shape}; "
                f"({examples},), one for each label, is allowed"
            )
    if len(rows) < 2:
        raise ValueError(f"{name!r} has {len(rows)} network{'s' * (len(rows) != 1)}; at least 2 are allowed")
    return predictions if isinstance(predictions, np.ndarray) else np.stack(rows)


def _classes(values: Integers, num_classes: int, what: str) -> Integers:
    if not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"{what} are of type {values.dtype}; integers are allowed")
    for worst in (values.min(), values.max()):
        if not 0 <= worst < num_classes:
            raise ValueError(f"{what} hold the class {worst}; 0 to {num_classes - 1} are allowed")
    return values


def check_same_examples(populations: Sequence[Population]) -> None:
    """Stop if populations have other examples or classes than the first; labels tell examples apart."""
    first = populations[0]
    for other in populations[1:]:
        names = f"{first.name!r} and {other.name!r}"
        if first.num_classes != other.num_classes:
            raise ValueError(
                f"{names} have {first.num_classes} and {other.num_classes} classes; the same classes "
                "are allowed"
            )
        if first.num_examples != other.num_examples:
            raise ValueError(
                f"{names} have {first.num_examples} and {other.num_examples} examples; the same examples "
                "are allowed"
            )
        if (differ := np.flatnonzero(first.labels != other.labels)).size:
            at = int(differ[0])
            raise ValueError(
                f"{names} have labels {first.labels[at]} and {other.labels[at]} at example {at}; the same "
                "examples in the same order are allowed"
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
            f"class {absent[0]} has no example in the labels of {population.name!r}; at least one of each "
            f"of the {population.num_classes} classes is needed"
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
        networks: How many.
        labels, num_classes, name: As in `Population`.
        spread: s, how much networks differ in quality, in log-odds.
        class_spread: s′, how much they differ in quality class by class.
        seed: Of all draws.

    Examples:
        >>> p = simulate_population([0.0, 0.5, 1.0], networks=1000, labels=[0, 1, 2], num_classes=3)
        >>> p.accuracy.round(1).tolist()
        [0.0, 0.5, 1.0]
    """
    p = np.asarray(probabilities, dtype=float)
    right = np.asarray(labels)
    if p.shape != right.shape or p.ndim != 1:
        raise ValueError(
            f"probabilities have shape {p.shape} and labels {right.shape}; (examples,) is allowed"
        )
    if not np.all((p >= 0) & (p <= 1)):
        raise ValueError(f"probabilities lie in {p.min():g} to {p.max():g}; 0 to 1 are allowed")
    rng = np.random.default_rng(seed)
    quality = spread * rng.standard_normal((networks, 1))
    quality = quality + class_spread * rng.standard_normal((networks, num_classes))[:, right]
    correct = rng.random((networks, len(p))) < special.expit(special.logit(p) + quality)
    others = (right + rng.integers(1, num_classes, correct.shape)) % num_classes
    predictions: Integers = np.where(correct, right, others)
    predictions = predictions.astype(np.uint8 if num_classes <= 256 else np.int16)
    return Population(predictions, labels=right, num_classes=num_classes, name=name)
