"""What is read of a test set, so that errors can be told and shown where the data are not."""

from __future__ import annotations

from dataclasses import dataclass

from wsnlib.specs.checks import instance, plain, refuse
from wsnlib.specs.data import DataSpec


@dataclass(frozen=True, kw_only=True)
class ExampleLabels:
    """The right class of every test example of a data set, in order.

    Examples:
        >>> ExampleLabels(data=DataSpec())
        ExampleLabels(data=DataSpec(train_size=None, validation_size=0, split_seed=0, \
normalisation='standardise'))
    """

    data: DataSpec

    def __post_init__(self) -> None:
        instance(self, "data", (DataSpec,))


@dataclass(frozen=True, kw_only=True)
class ExampleImages:
    """Some images of the test set of a data set.

    Args:
        data: Whose; it must lie in memory.
        examples: Their positions in the test set, from 0.
    """

    data: DataSpec
    examples: tuple[int, ...]

    def __post_init__(self) -> None:
        instance(self, "data", (DataSpec,))
        examples = tuple(map(plain, self.examples))
        if not examples or not all(type(e) is int and e >= 0 for e in examples):
            raise refuse(self, "examples", "a sequence of integers ≥ 0")
        object.__setattr__(self, "examples", examples)
