"""The measurements of the chapter on representations and block structure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from wsnlib import data, parameters, specs
from wsnlib.store import Store

Cell = tuple[str, float]
"""`"wider"` and a width multiplier, or `"deeper"` and a depth."""


class CKABlocksRuns:
    """Networks of several widths and depths, measured layer by layer (N21, Figures 1 to 6).

    Attributes:
        cells: Depth and width multiplier of each cell.
        narrow, wide, deep: The cells at the ends.
        runs: Measurements by cell, part of the images and seed.
        plain: Measurements without residual connections by width multiplier and seed.
        compared: Cells and seeds of the networks that are compared with one another.
        between: That comparison.
        projected: Images along the first component of the deepest network, in the last block of each stage.
    """

    def __init__(self, p: parameters.CKABlocksParameters) -> None:
        self.p = p
        self.cells: dict[Cell, tuple[int, float]] = {("wider", k): (p.depth, k) for k in p.width_multipliers}
        self.cells |= {("deeper", d): (d, p.width_multiplier) for d in p.depths}
        self.narrow: Cell = ("wider", p.width_multipliers[0])
        self.wide: Cell = ("wider", p.width_multipliers[-1])
        self.deep: Cell = ("deeper", p.depths[-1])
        few = p.seeds[: p.compared_seeds]
        self.runs = {
            (cell, 1, seed): self._measured(*shape, seed=seed)
            for (cell, shape), seed in product(self.cells.items(), p.seeds)
        }
        self.runs |= {
            (cell, part, seed): self._measured(*shape, part=part, seed=seed)
            for (cell, shape), part, seed in product(self.cells.items(), p.data_parts[1:], few)
        }
        self.plain = {
            (k, seed): self._measured(p.depth, k, residual=False, seed=seed)
            for k, seed in product((p.width_multipliers[0], p.width_multipliers[-1]), few)
        }
        self.compared = list(product((self.narrow, self.wide, self.deep), few))
        self.between = specs.NetworkSimilarity(
            tuple(self._training(*self.cells[cell], seed=seed) for cell, seed in self.compared),
            **p.measurement,
        )
        block = f"block{(self.cells[self.deep][0] - 2) // 6}"
        self.projected = specs.ComponentProjections(
            self._training(*self.cells[self.deep], seed=p.seeds[0]),
            layers=tuple(f"stage{stage}.{block}.add" for stage in (1, 2, 3)),
            num_images=p.num_component_images,
        )

    def _training(
        self, depth: int, width_multiplier: float, *, seed: int, part: int = 1, residual: bool = True
    ) -> specs.Experiment:
        images = self.p.data_spec()
        net = specs.ResNetCifarSpec(
            depth=depth,
            width_multiplier=width_multiplier,
            num_classes=data.num_classes(images),
            input_channels=data.image_shape(images)[0],
            residual=residual,
            norm_momentum=self.p.norm_momentum,
        )
        return specs.Experiment(
            model=net, data=self.p.data_spec(part=part), training=self.p.training, seed=seed
        )

    def _measured(
        self, depth: int, width_multiplier: float, *, seed: int, part: int = 1, residual: bool = True
    ) -> specs.LayerSimilarity:
        probed = {self.cells[cell] for cell in (self.narrow, self.wide, self.deep)}
        return specs.LayerSimilarity(
            self._training(depth, width_multiplier, seed=seed, part=part, residual=residual),
            num_component_images=self.p.num_component_images,
            probes=(depth, width_multiplier) in probed and part == 1 and residual,
            **self.p.measurement,
        )

    @property
    def everything(self) -> list[specs.Run]:
        """All runs."""
        return [*self.runs.values(), *self.plain.values(), self.between, self.projected]

    def stages(self, store: Store) -> Iterator[list[specs.Run]]:
        """All runs; none depends on another."""
        yield self.everything
