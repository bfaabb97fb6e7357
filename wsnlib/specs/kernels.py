"""What a measurement of kernels is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from wsnlib.specs.checks import NonNegativeInt, PositiveInt, Spec, densities, plain, refuse
from wsnlib.specs.data import DataSpec


@dataclass(frozen=True, kw_only=True)
class GaussianInputs(Spec):
    """Independent inputs from N(0, 1) in each of `dimension` coordinates."""

    dimension: PositiveInt


@dataclass(frozen=True, kw_only=True)
class KernelDistances(Spec):
    """Theorem 1 of G21 on random pairs of inputs: `wsn.kernels.kernel_distance`, averaged over them.

    Args:
        inputs: Gaussian vectors, or the test images of a data set, normalised.
        densities: Densities of the first layer, in (0, 1].
        num_pairs: Pairs of different inputs.
        seed: Random seed for the pairs.

    Examples:
        >>> KernelDistances(inputs=GaussianInputs(dimension=7), densities=(1, 0.5), num_pairs=10).seed
        0
    """

    inputs: GaussianInputs | DataSpec
    densities: tuple[float, ...]
    num_pairs: PositiveInt
    seed: NonNegativeInt = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        densities(self, "densities")


@dataclass(frozen=True, kw_only=True)
class KernelSimulation(Spec):
    """Distances of random networks' kernels from the infinite one; `wsn.kernels.simulate_kernels` draws them.

    Args:
        inputs, num_pairs, seed: As in `KernelDistances`; the seed is that of the networks, too.
        widths: Units of each hidden layer.
        densities: Density of each hidden layer, in (0, 1].
        scaled_by: Densities that the variance of each hidden layer is read from; `None` for its own.
        distribution: Distribution of the weights.
        exact_count: Whether each layer keeps exactly `round(density · size)` weights.
        num_networks: Networks drawn.
    """

    inputs: GaussianInputs | DataSpec
    widths: tuple[int, ...]
    densities: tuple[float, ...]
    scaled_by: tuple[float, ...] | None = None
    distribution: Literal["normal", "uniform"] = "normal"
    exact_count: bool = False
    num_pairs: PositiveInt
    num_networks: PositiveInt
    seed: NonNegativeInt = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "widths", tuple(map(plain, self.widths)))
        if not self.widths or not all(type(w) is int and w >= 1 for w in self.widths):
            raise refuse(self, "widths", "a sequence of integers ≥ 1")
        for name in ("densities", "scaled_by") if self.scaled_by is not None else ("densities",):
            densities(self, name)
            if len(getattr(self, name)) != len(self.widths):
                raise refuse(self, name, f"a sequence of {len(self.widths)} numbers, one for each width")
