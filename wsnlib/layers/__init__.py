"""What the layers of trained networks compute: measured, written to a record, and read back from it."""

from wsnlib.layers.origins import (
    NetworkResults,
    OriginResults,
    OutputMap,
    measure_origins,
    measure_outputs,
    measured_examples,
    observe_outputs,
    origin_results,
    output_names,
    output_results,
)

__all__ = [
    "NetworkResults",
    "OriginResults",
    "OutputMap",
    "measure_origins",
    "measure_outputs",
    "measured_examples",
    "observe_outputs",
    "origin_results",
    "output_names",
    "output_results",
]
