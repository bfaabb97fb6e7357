"""Explorers: some live in a static page, where nothing but a browser is needed, some need a kernel."""

from wsnlib.widgets.allocation import AllocationExplorerPage, allocation_explorer_page
from wsnlib.widgets.cka import CKAExplorerPage, CKAMap, cka_explorer_page
from wsnlib.widgets.distance import (
    DistanceExplorerPage,
    distance_explorer,
    distance_explorer_page,
    distance_table,
)
from wsnlib.widgets.widening import WideningExplorerPage, widening_explorer_page

__all__ = [
    "AllocationExplorerPage",
    "CKAExplorerPage",
    "CKAMap",
    "DistanceExplorerPage",
    "WideningExplorerPage",
    "allocation_explorer_page",
    "cka_explorer_page",
    "distance_explorer",
    "distance_explorer_page",
    "distance_table",
    "widening_explorer_page",
]
