"""CKA of all pairs of layers from minibatches: sums that can be added up, and the matrix they give."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy
import torch

from wsnlib.addresses import local_path
from wsnlib.choices import check_choice
from wsnlib.similarity.blocks import Block
from wsnlib.similarity.hsic import (
    Array,
    Gram,
    full_precision,
    inner_products,
    read_gram,
    real,
    warn_constant,
)

if TYPE_CHECKING:  # drawing is loaded where something is drawn
    from matplotlib.axes import Axes

    from wsnlib.widgets import CKAExplorerPage

Weighting = Literal["released", "paper"]
"""How batches are weighted, `"released"` by n(n − 3), `"paper"` equally."""


@dataclass(frozen=True, kw_only=True)
class CKAMatrix:
    """CKA of every row layer with every column layer.

    Args:
        rows: Names of the layers along the first axis.
        columns: Along the second.
        values: (rows, columns) float64; not cut off at 0 or 1; NaN where a layer does not vary.
        standard_errors: Of `values`, from the spread over passes; NaN with one pass. They say how far the
            reshuffling moves the estimate, not what other images would give.

    Examples:
        >>> CKAMatrix(rows=("a",), columns=("a",), values=np.ones((1, 1)), standard_errors=np.zeros((1, 1)))
        CKAMatrix(rows=('a',), columns=('a',), values=array([[1.]]), standard_errors=array([[0.]]))
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: npt.NDArray[np.float64]
    standard_errors: npt.NDArray[np.float64]

    def select(self, rows: Sequence[str], columns: Sequence[str] | None = None) -> CKAMatrix:
        """The part for some layers, in their order; the columns are the rows if they are not given.

        Raises:
            ValueError: If a name is not among the layers.

        Examples:
            >>> values = np.array([[1.0, 0.5], [0.5, 1.0]])
            >>> both = CKAMatrix(
            ...     rows=("a", "b"), columns=("a", "b"), values=values, standard_errors=0 * values
            ... )
            >>> both.select(["b"], ["a", "b"]).values
            array([[0.5, 1. ]])
        """
        columns = rows if columns is None else columns
        for name in (*rows, *columns):
            if name not in (*self.rows, *self.columns):
                raise ValueError(
                    f"{name!r} is not a layer of this matrix; it has {', '.join(self.rows[:6])}, …"
                )
        for these, there, what in ((rows, self.rows, "row"), (columns, self.columns, "column")):
            if missing := [name for name in these if name not in there]:
                raise ValueError(
                    f"{missing[0]!r} must be a {what} of this matrix, got another layer; name both of them"
                )
        index = np.ix_([self.rows.index(r) for r in rows], [self.columns.index(c) for c in columns])
        return CKAMatrix(
            rows=tuple(rows),
            columns=tuple(columns),
            values=self.values[index],
            standard_errors=self.standard_errors[index],
        )

    def plot(self, *, ax: Axes | None = None, blocks: Iterable[Block] = ()) -> Axes:
        """The heat map, with a colour bar if it is a figure of its own, the first layers at the lower left.

        Args:
            ax: Axes to draw on; a new figure if not given.
            blocks: Those of `block_structure(result.values)`, drawn as dashed squares.

        References:
            N21, Figures 1 to 3 and 6.

        Examples:
            >>> values = np.array([[1.0, 0.5], [0.5, 1.0]])
            >>> names = ("a", "b")
            >>> found = CKAMatrix(rows=names, columns=names, values=values, standard_errors=0 * values)
            >>> [label.get_text() for label in found.plot().get_yticklabels()]
            ['a', 'b']
        """
        import matplotlib.pyplot as plt

        from wsnlib import plot

        own = plt.subplots(figsize=(6, 5))[1] if ax is None else ax
        edges = [(block.start, block.stop) for block in blocks]
        plot.cka(self.values, ax=own, rows=self.rows, columns=self.columns, blocks=edges)
        if ax is None:
            own.figure.colorbar(own.images[-1], ax=own, label="CKA")
        return own

    def explorer(
        self,
        file: Path | str | None = None,
        *,
        blocks: Iterable[Block] | None = None,
        without_component: CKAMatrix | None = None,
    ) -> CKAExplorerPage:
        """The heat map to explore, in a notebook or as one HTML file that a browser opens without a network.

        Args:
            file: Where it is written, if it is.
            blocks: Those of `block_structure(result.values)`, drawn as dashed squares.
            without_component: The same without the first principal component of each layer
                (`without_component=True` in `cka_matrix`), to switch to.

        Raises:
            ValueError: If the matrix without components is of other layers.

        Examples:
            >>> values = np.array([[1.0, 0.5], [0.5, 1.0]])
            >>> names = ("a", "b")
            >>> found = CKAMatrix(rows=names, columns=names, values=values, standard_errors=0 * values)
            >>> found.explorer()
            CKAExplorerPage()
        """
        from wsnlib import widgets

        other = without_component
        if other is not None and (other.rows, other.columns) != (self.rows, self.columns):
            raise ValueError("without_component must be of the same layers, got others; select them first")
        page = widgets.cka_explorer_page(
            widgets.CKAMap(
                layers=self.rows,
                columns=None if self._symmetric() else self.columns,
                cka=self.values,
                without_component=None if other is None else other.values,
                blocks=None if blocks is None else [(block.start, block.stop) for block in blocks],
            )
        )
        if file is not None:
            page.save(local_path(file, what="the explorer"), title="CKA of every pair of layers")
        return page

    def _symmetric(self) -> bool:
        """Whether it compares a network with itself; two may have layers of the same names."""
        return self.rows == self.columns and np.allclose(
            self.values, self.values.T, rtol=0, atol=1e-9, equal_nan=True
        )


class Difference(NamedTuple):
    """How far the CKA of one pair of layers lies above that of another, over images like these.

    Args:
        value: The difference.
        standard_error: Of `value`, by the jackknife over groups of batches.
        low: Of the confidence interval.
        high: Of the confidence interval.
    """

    value: float
    standard_error: float
    low: float
    high: float


GROUPS = 32
"""Groups of batches at most of which sums are kept apart for intervals, whatever the number of batches."""

LEAST_GROUPS = 8
"""Groups that an interval takes."""


class MinibatchCKA:
    """Sums of ⟨K̃, L̃⟩ over minibatches for every pair of layers, by pass and by batch size.

    All else follows from these sums: both weightings, the estimate and its standard error. They are added up
    in float64, and adding the sums of other batches, passes, processes or machines is exact.

    CKA = S(K, L) / √(S(K, K) S(L, L)), where S adds up HSIC₁ over batches: with equal weights in N21's
    equation (2), weighed by n(n − 3) in the released code, which leaves that division out. They differ only
    where the last batch of a pass is smaller; of 10,000 images in batches of 256 that one has 16, and 0.3 %
    of the weight of another batch in the code, 100 % in the paper.

    Args:
        layers: Names, in the order of rows and columns. Several networks are several groups of layers.
        examples: Says which examples these sums are of (a checksum); sums of others cannot be added.

    References:
        N21, equations (1) to (3) and Proposition 1; the released code's `efficient_CKA.py`.

    Examples:
        >>> generator = torch.Generator().manual_seed(0)
        >>> sums = MinibatchCKA(["a", "b"])
        >>> for _ in range(5):
        ...     a = torch.randn(16, 3, generator=generator)
        ...     sums.update({"a": a, "b": 2 * a + 1})
        >>> sums.matrix().values.round(6)
        array([[1., 1.],
               [1., 1.]])
    """

    def __init__(self, layers: Sequence[str], *, examples: str = "") -> None:
        self.layers = tuple(layers)
        self.examples = examples
        self._sums: dict[tuple[int, int], torch.Tensor] = {}
        self._batches: dict[tuple[int, int], int] = {}
        self._groups: dict[int, torch.Tensor] = {}
        self._grouped: tuple[int, int] = (-1, 0)  # the pass whose batches are grouped, and how many they are

    def update(self, representations: Mapping[str, Array], *, pass_index: int = 0) -> None:
        """Add one batch: each layer's representation (n, …) of the same n examples.

        Raises:
            ValueError: If layers are missing or new, have other numbers of examples or fewer than 4, or
                are complex or not finite.
        """
        if set(representations) != set(self.layers):
            odd = sorted(set(representations) ^ set(self.layers))
            raise ValueError(
                f"{odd[0]!r} is not in both the batch and the layers {', '.join(self.layers[:6])}"
            )
        features = {name: real(representations[name]).detach() for name in self.layers}
        sizes = {name: len(x) for name, x in features.items()}
        first = self.layers[0]
        for name, size in sizes.items():
            if size != sizes[first]:
                raise ValueError(
                    f"{name} must be of the same examples as {first}, got {size} in place of {sizes[first]}"
                )
        with full_precision(features[first].device):
            grams = [read_gram(features[name]) for name in self.layers]
            vectors = torch.stack([g.vector.to(grams[0].vector.device) for g in grams])
            self.update_grams(
                Gram(vectors, torch.stack([g.norm.cpu() for g in grams])),
                num_examples=sizes[first],
                pass_index=pass_index,
            )

    def update_grams(self, grams: Gram, *, num_examples: int, pass_index: int = 0) -> None:
        """Add one batch by its Gram matrices in the order of layers: vectors (layers, m), norms (layers,)."""
        norms = grams.norm.double().cpu()
        if not norms.isfinite().all():
            name = self.layers[int((~norms.isfinite()).nonzero()[0])]
            raise ValueError(f"the representation of {name} or its Gram matrix is not finite")
        product = inner_products(grams.vector) * (2 * torch.outer(norms, norms))
        self._add((pass_index, num_examples), product, 1)
        number, batches = self._grouped if self._groups else (pass_index, 0)
        if pass_index == number:  # images are in one batch of a pass
            group = batches % GROUPS
            self._groups[group] = self._groups[group] + product if group in self._groups else product
            self._grouped = number, batches + 1

    def _add(self, key: tuple[int, int], sums: torch.Tensor, batches: int) -> None:
        self._sums[key] = self._sums[key] + sums if key in self._sums else sums.clone()
        self._batches[key] = self._batches.get(key, 0) + batches

    def merge(self, other: MinibatchCKA) -> None:
        """Add the sums of other batches.

        Raises:
            ValueError: If they are of other layers or other examples.
        """
        if other.layers != self.layers:
            odd = [
                name
                for name in (*other.layers, *self.layers)
                if name not in self.layers or name not in other.layers
            ]
            raise ValueError(
                f"the sums are of other layers, such as {odd[0]}"
                if odd
                else "the layers are in another order"
            )
        if other.examples != self.examples:
            raise ValueError(f"the sums must be of the examples {self.examples!r}, got {other.examples!r}")
        for key, sums in other._sums.items():
            self._add(key, sums, other._batches[key])
        number, batches = self._grouped
        if not self._groups:
            self._groups, self._grouped = dict(other._groups), other._grouped
        elif other._groups and other._grouped[0] == number:
            for at, sums in other._groups.items():
                group = (batches + at) % GROUPS
                self._groups[group] = self._groups[group] + sums if group in self._groups else sums
            self._grouped = number, batches + other._grouped[1]

    def state(self) -> dict[str, Any]:
        """All there is, as plain values and tensors: `torch.load(weights_only=True)` reads it back."""
        return {
            "layers": list(self.layers),
            "examples": self.examples,
            "keys": [list(key) for key in self._sums],
            "batches": [self._batches[key] for key in self._sums],
            "sums": [sums.clone() for sums in self._sums.values()],
            "groups": [sums.clone() for sums in self._groups.values()],
            "grouped": list(self._grouped),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> MinibatchCKA:
        """The sums that `state` described."""
        made = cls(state["layers"], examples=state["examples"])
        for (pass_index, size), batches, sums in zip(
            state["keys"], state["batches"], state["sums"], strict=True
        ):
            made._add((pass_index, size), sums, batches)
        number, batches = state["grouped"]
        made._groups, made._grouped = dict(enumerate(state["groups"])), (number, batches)
        return made

    @property
    def num_batches(self) -> int:
        """Batches added so far, over all passes."""
        return sum(self._batches.values())

    def difference(
        self, one: tuple[str, str], other: tuple[str, str], *, confidence: float = 0.95
    ) -> Difference:
        """CKA of one pair of layers less that of another, with an interval for other images of the kind.

        The batches of a pass hold different images, so that the jackknife over groups of them says what other
        images would give: each group is left out in turn, and the interval is that of Student's t. What
        `standard_errors` of a matrix say is less: how far reshuffling moves the estimate.

        Args:
            one: Two layers.
            other: Two layers, which may be in both pairs.
            confidence: Of the interval, above 0 and below 1.

        Raises:
            ValueError: If a layer is unknown, or a pass has fewer than 8 batches.

        Examples:
            >>> generator = torch.Generator().manual_seed(0)
            >>> sums = MinibatchCKA(["a", "b", "c"])
            >>> for _ in range(20):
            ...     a, noise = torch.randn(2, 32, 5, generator=generator)
            ...     sums.update({"a": a, "b": a + noise / 2, "c": a + noise})
            >>> found = sums.difference(("a", "b"), ("a", "c"))
            >>> found.low < found.value < found.high, found.low > 0
            (True, True)
        """
        if not 0 < confidence < 1:
            raise ValueError(f"confidence must be above 0 and below 1, got {confidence}")
        for name in (*one, *other):
            if name not in self.layers:
                raise ValueError(f"layers must be among {', '.join(self.layers[:6])}, …, got {name!r}")
        if len(self._groups) < LEAST_GROUPS:
            raise ValueError(
                f"a pass must have {LEAST_GROUPS} batches or more, got {len(self._groups)}; lower batch_size"
            )
        pairs = [(self.layers.index(a), self.layers.index(b)) for a, b in (one, other)]

        def of(sums: torch.Tensor) -> torch.Tensor:
            first, second = (sums[..., a, b] / (sums[..., a, a] * sums[..., b, b]).sqrt() for a, b in pairs)
            return first - second

        value = float(of(torch.stack(list(self._sums.values())).sum(0)))
        groups = torch.stack(list(self._groups.values()))
        left_out = of(groups.sum(0) - groups)
        n = len(groups)
        error = float(((n - 1) / n * (left_out - left_out.mean()).square().sum()).sqrt())
        half = error * float(scipy.special.stdtrit(n - 1, (1 + confidence) / 2))
        return Difference(value, error, value - half, value + half)

    def matrix(self, *, weighting: Weighting = "released") -> CKAMatrix:
        """CKA of every layer with every other, and its standard error over passes.

        Raises:
            ValueError: If no batch was added.

        Warns:
            RuntimeWarning: Names the layers that do not vary; their CKA is NaN.
        """
        if not self._sums:
            raise ValueError("at least one batch must be added before, got none")
        check_choice("weighting", weighting, Weighting)
        by_pass: dict[int, torch.Tensor] = {}
        for (pass_index, size), sums in self._sums.items():
            term = sums if weighting == "released" else sums / (size * (size - 3))
            by_pass[pass_index] = by_pass[pass_index] + term if pass_index in by_pass else term
        passes = torch.stack(list(by_pass.values()))
        total = passes.sum(0)
        constant = [name for name, own in zip(self.layers, total.diagonal(), strict=True) if own == 0]
        if constant:
            warn_constant(constant)
        values = _normalised(total)
        errors = torch.full_like(values, math.nan)
        if len(passes) > 1:
            errors = _normalised(passes).std(0) / math.sqrt(len(passes))
        return CKAMatrix(
            rows=self.layers, columns=self.layers, values=values.numpy(), standard_errors=errors.numpy()
        )


def _normalised(hsic: torch.Tensor) -> torch.Tensor:
    own = hsic.diagonal(dim1=-2, dim2=-1).sqrt()
    values = hsic / (own.unsqueeze(-1) * own.unsqueeze(-2))
    values.diagonal(dim1=-2, dim2=-1).copy_(own / own)
    return values
