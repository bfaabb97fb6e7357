"""Many runs: make what is missing, here or on a cluster, and read all of it as one table."""

from wsnlib.sweeps.clusters import local_cluster
from wsnlib.sweeps.missing import BudgetError, run_missing
from wsnlib.sweeps.tables import (
    read_measurements,
    read_population,
    runs_behind,
    summarise,
    table,
    training_history,
)
from wsnlib.sweeps.watching import Progress
from wsnlib.sweeps.work import SweepError

__all__ = [
    "BudgetError",
    "Progress",
    "SweepError",
    "local_cluster",
    "read_measurements",
    "read_population",
    "run_missing",
    "runs_behind",
    "summarise",
    "table",
    "training_history",
]
