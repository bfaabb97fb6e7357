"""What the layers of trained networks compute: measured, written to a record, and read back from it."""

from wsnlib.layers.origins import (
    OriginResults,
    OutputMap,
    measure_origins,
    measure_outputs,
    observe_outputs,
    origin_results,
    output_results,
)
from wsnlib.layers.similarity import (
    LayerResults,
    NetworkResults,
    component_projections,
    layer_results,
    measure_layers,
    measure_networks,
    measure_projections,
    measured_examples,
    network_results,
)

__all__ = [
    "LayerResults",
    "NetworkResults",
    "OriginResults",
    "OutputMap",
    "component_projections",
    "layer_results",
    "measure_layers",
    "measure_networks",
    "measure_origins",
    "measure_outputs",
    "measure_projections",
    "measured_examples",
    "network_results",
    "observe_outputs",
    "origin_results",
    "output_results",
]
