"""Whose errors a population makes: where it lies between two others, and how far aside.

The accuracies of the examples are the coordinates of a population, and the excess dispersion D of two
populations estimates their mean squared distance without bias. Three distances make a triangle:
seen from the line through the populations a and b, x lies

    along = ⟨x − a, b − a⟩ / |b − a|² = (D_xa + D_ab − D_xb) / (2 D_ab),

which is 0 where a lies and 1 where b lies, and at the distance √aside from it,

    aside = |x − a|² − along² |b − a|² = D_xa − along² D_ab.

Errors like those of a give along = 0 and aside = 0; a mixture of both populations lies between them;
errors of its own put x aside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsnlib.predictions import inference
from wsnlib.predictions.excess import inner_products, mean_squares, signed_root
from wsnlib.predictions.populations import Population, check_same_examples

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a population lies, seen from the line through two others.

    Args:
        along: 0 at the first, 1 at the second; below 0 or above 1 it lies beyond them.
        along_low, along_high: Jackknife interval over the networks of all three.
        aside: Squared distance from the line, a mean over examples; an estimate, so it may be negative.
        aside_low, aside_high: Its interval. The two intervals hold together.
        length: Squared distance of the two others, D.
    """

    along: float
    along_low: float
    along_high: float
    aside: float
    aside_low: float
    aside_high: float
    length: float

    @property
    def distance(self) -> float:
        """√aside, the typical difference of accuracies from the line; −√−aside if that is negative."""
        return signed_root(self.aside)


def position_between(
    population: Population, first: Population, second: Population, *, confidence: float = 0.95
) -> Position:
    """Where the accuracies of a population lie on the way from one population to another.

    Of use only where `dispersion` finds the two others different.

    Args:
        population, first, second: Disjoint populations over the same examples, of at least two networks.
        confidence: With which both intervals hold together (Šidák); infinite below three networks.

    Examples:
        >>> from wsnlib.predictions import simulate_population
        >>> options = dict(networks=40, labels=np.zeros(900, int), num_classes=2)
        >>> p, q = np.linspace(0.1, 0.9, 900), np.linspace(0.3, 0.7, 900)
        >>> a, b, x = (
        ...     simulate_population(values, seed=s, **options) for s, values in enumerate((p, q, (p + q) / 2))
        ... )
        >>> found = position_between(x, a, b)
        >>> round(found.along, 1), bool(found.aside_low < 0 < found.aside_high)
        (0.5, True)
    """
    three = [population, first, second]
    check_same_examples(three)
    gram = inner_products(three)

    def squared(one: NDArray[Any], other: NDArray[Any]) -> Array:
        return np.subtract(*mean_squares(gram, one, other))

    def along(x: Array, a: Array, b: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((squared(x, a) + squared(a, b) - squared(x, b)) / (2 * squared(a, b)))

    def aside(x: Array, a: Array, b: Array) -> Array:
        with np.errstate(invalid="ignore"):
            return np.asarray(squared(x, a) - along(x, a, b) ** 2 * squared(a, b))

    sizes = [len(p) for p in three]
    whole = [(np.repeat(range(3), sizes) == k)[None].astype(float) for k in range(3)]
    each = inference.sidak_confidence(confidence, 2)
    intervals = [inference.jackknife(of, *sizes, confidence=each) for of in (along, aside)]
    return Position(
        along=float(along(*whole)[0]),
        along_low=intervals[0][0],
        along_high=intervals[0][1],
        aside=float(aside(*whole)[0]),
        aside_low=intervals[1][0],
        aside_high=intervals[1][1],
        length=float(squared(*whole[1:])[0]),
    )
