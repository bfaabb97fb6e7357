"""What each layer keeps at a fixed number of weights, to explore."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise

import numpy as np

from wsnlib.widgets.page import ExplorerPage, fill_template

Family = Mapping[int, Mapping[str, int]]
"""Weights of each dense layer, for each width."""


class AllocationExplorerPage(ExplorerPage):
    """The weights of each layer at a width and a number of weights, to explore in a static page."""


def allocation_explorer_page(
    networks: Mapping[str, Family],
    *,
    base_widths: Iterable[int] | None = None,
    start: tuple[int, int] | None = None,
) -> AllocationExplorerPage:
    """Layers drain to one level as the width grows at a fixed number of weights, without a kernel.

    Controls: network, base width m (the number of weights is that of the dense network of this width),
    width n, logarithmic axis, order of the layers. Shown: weights that each layer has and keeps, the
    level of the sparse ones, and all of it in a table and in words. The page itself allocates, largest
    layer first as [`allocate`][wsnlib.masks.allocate] does. The same sizes give the same bytes.

    Args:
        networks: By name ("ResNet-18, 10 classes"): for each width the weights of each dense layer, as
            `{width: wsn.weights_per_layer(wsn.ResNet18Spec(width=width))}` has them. All networks have
            the same widths.
        base_widths: Base widths that are offered, each one of the widths; by default all. Smaller widths
            than the smallest are not shown.
        start: Base width and width shown at first; by default the smallest base width and the middle
            one of the widths.

    Raises:
        ValueError: If networks, widths or layers do not belong together, or the weights do not grow
            with the width.

    References:
        G21, Figures 4 and 10, Appendix B.

    Examples:
        >>> family = {n: {"hidden1": 784 * n, "output": 10 * n} for n in (5, 10, 20, 40)}
        >>> page = allocation_explorer_page({"MLP": family}, base_widths=(5, 10))
        >>> page
        AllocationExplorerPage()
        >>> page.html.startswith("<div")
        True
    """
    if not networks or not all(networks.values()):
        raise ValueError(
            "a network without widths cannot be shown; networks of one width or more are allowed"
        )
    name, first = next(iter(networks.items()))
    for other, family in networks.items():
        if set(family) != set(first):
            raise ValueError(
                f"{other} has the widths {_listed(family)}; those of {name}, {_listed(first)}, are allowed"
            )
        _check(other, family)
    bases = sorted(set(first if base_widths is None else base_widths))
    if not bases or not set(bases) <= set(first):
        raise ValueError(f"base_widths holds {_listed(bases)}; some of {_listed(first)} are allowed")
    widths = [width for width in sorted(first) if width >= bases[0]]
    base, width = (bases[0], widths[len(widths) // 2]) if start is None else start
    if base not in bases or width not in widths or width < base:
        raise ValueError(
            f"start is ({base}, {width}); a base width of {_listed(bases)} and a width from it up, of "
            f"{_listed(widths)}, are allowed"
        )
    data = {
        "networks": {
            name: {
                "layers": list(family[widths[0]]),
                "sizes": [[family[width][layer] for layer in family[widths[0]]] for width in widths],
            }
            for name, family in networks.items()
        },
        "widths": widths,
        "base_widths": bases,
        "start": {"base_width": base, "width": width},
    }
    return AllocationExplorerPage(fill_template("allocation.html", data))


def _check(name: str, family: Family) -> None:
    widths = sorted(family)
    layers = family[widths[0]]
    for width in widths:
        if not family[width]:
            raise ValueError(f"{name} of width {width} has no layers; at least one layer is allowed")
        if set(family[width]) != set(layers):
            raise ValueError(
                f"{name} of width {width} has the layers {_listed(family[width])}; "
                f"those of width {widths[0]}, {_listed(layers)}, are allowed"
            )
        for layer, size in family[width].items():
            if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
                raise ValueError(
                    f"{layer} of {name} at width {width} has {size!r} weights; integers above 0 are allowed"
                )
    totals = {width: sum(family[width].values()) for width in widths}
    for narrow, wide in pairwise(widths):
        if totals[wide] < totals[narrow]:
            raise ValueError(
                f"{name} has {totals[wide]} weights at width {wide}; at least {totals[narrow]}, as at width "
                f"{narrow}, are allowed"
            )


def _listed(names: Iterable[object]) -> str:
    return ", ".join(map(str, names)) or "none"
