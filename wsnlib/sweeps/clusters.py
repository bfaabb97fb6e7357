"""Sweeps on a Dask cluster: Dask schedules, places by resources, and starts again what a worker dropped.

A run is a function of its spec that leaves a record in the store. It may be run twice, stopped anywhere and
started elsewhere; so whatever dies, Dask may do what it does, and the next sweep makes what is missing.
"""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from wsnlib import __version__, specs
from wsnlib.addresses import import_beside
from wsnlib.experiments import Plan
from wsnlib.experiments.machine import Numerics, numerics, set_numerics
from wsnlib.store import Failure, Store
from wsnlib.sweeps.watching import Watch
from wsnlib.sweeps.work import GPU_FAILED, SweepError, ended_from_outside, forget_stdin, work_on

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster

WINDOW = 2000
"""Pieces of work that the scheduler knows at once at most; its memory does not grow with the sweep."""

_ONE_AT_A_TIME = threading.Lock()
"""Torch's random generator, its determinism and its number of threads are the process's, not the thread's."""

_LEAVING = threading.Event()
"""Set once the GPU has failed this worker's process, whose work then belongs to others."""


class VersionError(RuntimeError):
    """A worker has another version of this library, whose specs may mean something else."""


@cache
def versions() -> dict[str, str]:
    """What has to be the same for a spec to mean the same; records say all other versions."""
    return {"wsnlib": __version__, "spec": str(specs.SPEC_VERSION)}


def local_cluster(
    workers: int | None = None, *, resources: Mapping[str, float] | None = None
) -> LocalCluster:
    """A Dask cluster of processes on this machine, which nobody else can reach.

    Its dashboard, which tells everything to whoever can reach it, has a free port of the loopback device.

    Args:
        workers: Processes of one thread each; by default one for each core.
        resources: What each worker has, such as `{"GPU": 0.25}` for four that share a GPU.

    Examples:
        >>> from distributed import Client
        >>> with local_cluster(2) as cluster, Client(cluster) as client:  # doctest: +SKIP
        ...     run_missing(runs, store=store, executor=client)
    """
    from distributed import LocalCluster

    forget_stdin()
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        worker_dashboard_address="127.0.0.1:0",
        resources=dict(resources or {}),
    )


def places_of(client: Client, resources: Mapping[str, float] | None) -> int:
    """How many runs the cluster's workers can do at once; at least 1, for workers that are to come.

    Raises:
        ValueError: If there are workers and none has the resources.
        VersionError: If a worker has another version of this library.
    """
    expected = versions()
    for address, found in client.run(versions, on_error="return").items():
        if found != expected:
            raise VersionError(
                f"the worker {address} must have {expected!r}, as here, got {found!r}; install the same "
                "version everywhere"
            )
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    wanted = {name: amount for name, amount in (resources or {}).items() if amount > 0}
    places = sum(
        int(min([1, *(worker["resources"].get(n, 0) // a for n, a in wanted.items())]))  # _ONE_AT_A_TIME
        for worker in workers
    )
    if workers and places == 0:
        offered = [dict(worker["resources"]) for worker in workers]
        raise ValueError(
            f"resources must be what one of the workers has, {offered!r}, got {wanted!r}; ask for less, or "
            "start others"
        )
    return max(1, places)


def on_cluster(
    work: Sequence[Plan],
    store: Store,
    client: Client,
    device: str,
    watch: Watch,
    *,
    resources: Mapping[str, float] | None = None,
) -> list[Failure]:
    """Hand the work to a cluster, some at a time, and wait for all of it."""
    left, expected, failures = iter(work), versions(), list[Failure]()
    under_way: dict[Future[Any], Plan] = {}

    def submit(count: int) -> list[Future[Any]]:
        new = {
            client.submit(
                _work_here,
                plan,
                store,
                device,
                expected,
                os.getcwd(),
                numerics(),
                key=f"wsn-{specs.spec_key(plan.runs[0])}-{uuid.uuid4().hex[:8]}",
                resources=dict(resources or {}) or None,
                pure=False,
            ): plan
            for plan in islice(left, count)
        }
        under_way.update(new)
        watch.started(new.values())
        return list(new)

    checked = False
    try:
        for batch in _as_they_end(submit, client):
            for future, found in batch:
                plan = under_way.pop(future)
                failures += (bad := _failures(plan, found, store))
                watch.ended(plan, bad)
                if not checked and not bad:
                    _check_shared(plan.runs[0], store)
                    checked = True
    finally:
        client.cancel(list(under_way))
    return failures


def _work_here(
    plan: Plan, store: Store, device: str, expected: dict[str, str], beside: str, computing: Numerics
) -> list[Failure]:
    from distributed import Reschedule

    if (found := versions()) != expected:  # of a worker that came later
        raise VersionError(
            f"a worker must have {expected!r}, got {found!r}; install the same version everywhere"
        )
    import_beside(beside)
    with _ONE_AT_A_TIME:
        if _LEAVING.is_set():
            raise Reschedule
        set_numerics(computing)
        failures = work_on(plan, store, device)
        if any(failure.error.startswith(GPU_FAILED) for failure in failures):
            _leave()
    return failures


def _leave() -> None:
    """End this worker once the scheduler has its results; its nanny, if it has one, starts another."""
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    async def leave() -> None:
        while (await worker.scheduler.get_task_status(keys=[key]))[key] == "processing":
            await asyncio.sleep(0.1)
        await worker.close_gracefully(restart=True, reason="its GPU has failed")

    _LEAVING.set()
    worker.loop.add_callback(leave)


def _as_they_end(
    submit: Callable[[int], list[Future[Any]]], client: Client
) -> Iterator[list[tuple[Future[Any], Any]]]:
    """Batches of what has ended: what it returned, or the exception that it ended with."""
    from distributed import CancelledError, as_completed

    ended = as_completed(submit(WINDOW), loop=client.loop)
    for batch in ended.batches():
        futures = list(batch)
        try:
            if any(future.status not in ("finished", "error") for future in futures):
                raise CancelledError
            good = iter(client.gather([future for future in futures if future.status == "finished"]))
        except (CancelledError, OSError) as error:
            raise SweepError(
                "the scheduler is gone or was told to stop; finished runs are stored, call again to go on"
            ) from error
        yield [(f, next(good) if f.status == "finished" else f.exception()) for f in futures]
        ended.update(submit(len(futures)))


def _failures(plan: Plan, found: Any, store: Store) -> list[Failure]:
    from distributed import KilledWorker

    if isinstance(found, KilledWorker):
        return ended_from_outside(plan, store, f"KilledWorker: {found}")
    if isinstance(found, BaseException):
        raise found
    return list(found)


def _check_shared(run: specs.Run, store: Store) -> None:
    if run not in store:
        raise SweepError(
            f"the store must be shared by all machines, got {store.path}, where the first record of the "
            "cluster is not to be seen from here; give one such as s3://bucket/records"
        )
