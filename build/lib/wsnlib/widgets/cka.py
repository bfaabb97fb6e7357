"""The similarity of all layers of a network, to explore."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.colors import to_hex

from wsnlib.widgets.page import ExplorerPage, fill_template


class CKAExplorerPage(ExplorerPage):
    """Heat maps of CKA, to explore in a static page."""


@dataclass(frozen=True, kw_only=True)
class CKAMap:
    """What the explorer shows of one network.

    Args:
        layers: Names in order of computation.
        cka: (layers, layers), symmetric.
        without_component: The same with each layer's first principal component taken out.
        blocks: Start and stop of each block in `cka`.
    """

    layers: Sequence[str]
    cka: npt.NDArray[np.float64]
    without_component: npt.NDArray[np.float64]
    blocks: Sequence[tuple[int, int]] = field(default=())


def cka_explorer_page(networks: Mapping[str, Mapping[int, CKAMap]]) -> CKAExplorerPage:
    """A heat map of CKA between the layers of a network that is chosen in the page, without a kernel.

    Controls: network, seed, with or without the first principal component, and two layers, which the
    pointer chooses in the map, too. Shown: the map with its stages and blocks, and in words the two layers
    and their CKA, to two decimals (from −0.50 to 2.04). The same matrices give the same bytes.

    Args:
        networks: By name ("ResNet-38 (4×)") and seed.

    Raises:
        ValueError: If there is no network, or a matrix does not fit its layers.

    References:
        N21, Figures 1, 3, D.1 and D.6.

    Examples:
        >>> one = CKAMap(layers=["a", "b"], cka=np.eye(2), without_component=np.eye(2))
        >>> cka_explorer_page({"net": {0: one}})
        CKAExplorerPage()
    """
    if not networks or not all(networks.values()):
        raise ValueError("a network without seeds cannot be shown; networks of one seed or more are allowed")
    data = {
        "networks": {
            name: {str(seed): _content(f"{name}, seed {seed}", found) for seed, found in seeds.items()}
            for name, seeds in networks.items()
        },
        "least": LEAST,
        "none": NONE,
        "colors": [to_hex(colormaps["magma"](i / 100)) for i in range(101)],
    }
    return CKAExplorerPage(fill_template("cka.html", data))


def _content(name: str, found: CKAMap) -> dict[str, object]:
    n = len(found.layers)
    for matrix in (found.cka, found.without_component):
        if matrix.shape != (n, n):
            raise ValueError(f"{name} has a matrix {matrix.shape} for {n} layers; {(n, n)} is allowed")
    return {
        "layers": list(found.layers),
        "cka": _packed(found.cka),
        "without": _packed(found.without_component),
        "blocks": [list(block) for block in found.blocks],
    }


LEAST, NONE = -50, 255
"""In hundredths, the value that byte 0 stands for; the byte where there is no value."""


def _packed(values: npt.NDArray[np.float64]) -> str:
    """What stands above the diagonal, row by row, in hundredths: base64 of a byte each."""
    upper = values[np.triu_indices(len(values), 1)]
    hundredths = np.rint(100 * np.where(np.isnan(upper), 0, upper)) - LEAST
    packed = np.where(np.isnan(upper), NONE, np.clip(hundredths, 0, NONE - 1))
    return base64.b64encode(packed.astype(np.uint8).tobytes()).decode("ascii")
