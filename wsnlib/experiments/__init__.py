"""From a spec to objects to a result: the only modules that know description and science both."""

from wsnlib.experiments.durations import plan_all
from wsnlib.experiments.machine import environment, resolve_device
from wsnlib.experiments.networks import (
    bottleneck_sizes,
    build,
    is_reachable,
    weights_per_layer,
)
from wsnlib.experiments.plans import Plan, plan, planned_jointly
from wsnlib.experiments.runs import run, run_planned
from wsnlib.timings import cpu_threads

__all__ = [
    "Plan",
    "bottleneck_sizes",
    "build",
    "cpu_threads",
    "environment",
    "is_reachable",
    "plan",
    "plan_all",
    "planned_jointly",
    "resolve_device",
    "run",
    "run_planned",
    "weights_per_layer",
]
