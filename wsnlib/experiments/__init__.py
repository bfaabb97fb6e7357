"""From a spec to objects to a result: the only modules that know description and science both."""

from wsnlib.experiments.durations import seconds_per_measurement, seconds_per_run, timed_alike
from wsnlib.experiments.machine import cpu_threads, environment, resolve_device
from wsnlib.experiments.networks import (
    bottleneck_sizes,
    build,
    check_fit,
    is_reachable,
    timed_as,
    weights_per_layer,
)
from wsnlib.experiments.runs import run
from wsnlib.experiments.trainings import fleet_key, hidden_values, run_fleet

__all__ = [
    "bottleneck_sizes",
    "build",
    "check_fit",
    "cpu_threads",
    "environment",
    "fleet_key",
    "hidden_values",
    "is_reachable",
    "resolve_device",
    "run",
    "run_fleet",
    "seconds_per_measurement",
    "seconds_per_run",
    "timed_alike",
    "timed_as",
    "weights_per_layer",
]
