"""The similarity of all layers of a network, or of two, to explore."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.colors import to_hex

from wsnlib.plot._layers import edges, ticks
from wsnlib.widgets.page import ExplorerPage, fill_template


class CKAExplorerPage(ExplorerPage):
    """Heat maps of CKA, to explore in a static page."""


@dataclass(frozen=True, kw_only=True)
class CKAMap:
    """What the explorer shows of one network, or of two.

    Args:
        layers: Names in order of computation, upwards in the map.
        cka: (layers, columns); symmetric if there are no columns.
        without_component: The same with each layer's first principal component removed, if it is known.
        blocks: Start and stop of each block in `cka`; None if they were not looked for.
        columns: Names of the layers of another network, from left to right.
        note: What else is said of it, such as its accuracy.
    """

    layers: Sequence[str]
    cka: npt.NDArray[np.float64]
    without_component: npt.NDArray[np.float64] | None = None
    blocks: Sequence[tuple[int, int]] | None = None
    columns: Sequence[str] | None = None
    note: str = ""


def cka_explorer_page(networks: Mapping[str, Mapping[int, CKAMap]] | CKAMap) -> CKAExplorerPage:
    """A heat map of CKA between layers, of a network that is chosen in the page, without a kernel.

    Controls: network, seed, with or without the first principal component, and two layers, which the
    pointer chooses in the map, too. Shown: the map with its stages and blocks, and in words the two layers
    and their CKA, to two decimals (from −0.50 to 2.04). The same matrices give the same bytes.

    Args:
        networks: By name ("ResNet-38 (4×)") and seed; or one map, where there is nothing to choose.

    Raises:
        ValueError: If there is no network, or a matrix does not fit its layers.

    References:
        N21, Figures 1, 3, D.1 and D.6.

    Examples:
        >>> one = CKAMap(layers=["a", "b"], cka=np.eye(2), without_component=np.eye(2))
        >>> cka_explorer_page({"net": {0: one}})
        CKAExplorerPage()
        >>> cka_explorer_page(CKAMap(layers=["a", "b"], columns=["c"], cka=np.ones((2, 1))))
        CKAExplorerPage()
    """
    if isinstance(networks, CKAMap):
        shown = {"": {"": _content("the map", networks)}}
    elif networks and all(networks.values()):
        shown = {
            name: {str(seed): _content(f"{name}, seed {seed}", found) for seed, found in seeds.items()}
            for name, seeds in networks.items()
        }
    else:
        raise ValueError("networks must have one seed or more, got one without; leave it out")
    data = {
        "networks": shown,
        "least": LEAST,
        "none": NONE,
        "colors": [to_hex(colormaps["magma"](i / 100)) for i in range(101)],
    }
    return CKAExplorerPage(fill_template("cka.html", data))


ROOM = 90
"""Letters along a side of the map."""


def _content(name: str, found: CKAMap) -> dict[str, object]:
    sides = [found.layers] if found.columns is None else [found.columns, found.layers]
    shape = len(sides[-1]), len(sides[0])
    matrices = [m for m in (found.cka, found.without_component) if m is not None]
    for matrix in matrices:
        if matrix.shape != shape:
            layers = " and ".join(str(len(side)) for side in reversed(sides))
            raise ValueError(f"{name} must have a matrix {shape} for {layers} layers, got {matrix.shape}")
    return {
        "sides": [{"layers": list(s), "edges": edges(s), "ticks": ticks(s, ROOM)} for s in sides],
        "cka": [_packed(matrix, symmetric=found.columns is None) for matrix in matrices],
        "note": found.note,
        "blocks": None if found.blocks is None else [list(block) for block in found.blocks],
    }


LEAST, NONE = -50, 255
"""In hundredths, the value that byte 0 stands for; the byte where there is no value."""


def _packed(values: npt.NDArray[np.float64], *, symmetric: bool) -> str:
    """Row by row, in hundredths, base64 of a byte each; of a symmetric matrix what is above the diagonal."""
    held = values[np.triu_indices(len(values), 1)] if symmetric else values.ravel()
    hundredths = np.rint(100 * np.where(np.isnan(held), 0, held)) - LEAST
    packed = np.where(np.isnan(held), NONE, np.clip(hundredths, 0, NONE - 1))
    return base64.b64encode(packed.astype(np.uint8).tobytes()).decode("ascii")
