"""What a sweep costs beside its trainings: 10,000 stub runs over 8 workers, and a table of their records.

    python benchmarks/sweeps.py [--runs 10000] [--workers 8]

A stub is a real run of a few milliseconds, a measurement of two pairs of inputs, stored like any other. The
overhead is the time that all processes of the sweep together spend on a processor for each run, less that of
the stub itself: it depends little on what else the machine does, where seconds on the clock do. All
numbers at the end that are not measured follow from those that are.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import psutil
from distributed import Client

import wsnlib as wsn
from wsnlib import experiments, specs
from wsnlib.store import index

MILLION, GPUS = 1_000_000, 1_000


def stubs(count: int) -> list[specs.KernelDistances]:
    """So many runs of a few milliseconds."""
    inputs = specs.GaussianInputs(dimension=5)
    return [
        specs.KernelDistances(inputs=inputs, densities=(0.5,), num_pairs=2, seed=seed)
        for seed in range(count)
    ]


def trainings(count: int) -> Iterable[wsn.Record]:
    """Records as a training on CIFAR-10 leaves them, with 30 epochs and 10,000 predictions."""
    made = wsn.run(
        wsn.Experiment(
            model=wsn.MLPSpec(width=5, inputs=64), data=wsn.Digits(), training=wsn.Training(epochs=30)
        )
    )
    predictions = made.predictions.repeat(10_000 // len(made.predictions) + 1)[:10_000]
    for seed in range(count):
        experiment = specs.Experiment(
            model=made.experiment.model,
            data=made.experiment.data,
            training=made.experiment.training,
            seed=seed,
        )
        yield wsn.Record(
            experiment=experiment,
            status=made.status,
            history=made.history,
            reported_epoch=made.reported_epoch,
            train_accuracy=made.train_accuracy,
            predictions=predictions,
            network=made.network,
            environment=made.environment,
        )


def megabytes() -> float:
    """Of this process, in which client and scheduler are."""
    return psutil.Process().memory_info().rss / 2**20


def processor_seconds(process: psutil.Process) -> float:
    """That a process and its children have spent so far."""
    family = [process, *process.children(recursive=True)]
    return sum(each.cpu_times().user + each.cpu_times().system for each in family)


def sweep(count: int, workers: int, folder: Path) -> tuple[float, float, float, list[float]]:
    """Seconds of a sweep on the clock, on processors, and of those in client and scheduler; and the memory of
    client and scheduler at each tenth of it."""
    memory: list[float] = []

    def watch(progress: wsn.Progress) -> None:
        if progress.done * 10 >= (len(memory) + 1) * count:
            memory.append(megabytes())

    with wsn.local_cluster(workers) as cluster, Client(cluster) as client:
        client.wait_for_workers(workers)
        wsn.run_missing(
            stubs(count + 2 * workers)[count:], store=wsn.Store(folder), executor=client, progress=False
        )
        before, own = processor_seconds(psutil.Process()), time.process_time()
        start = time.perf_counter()
        wsn.run_missing(stubs(count), store=wsn.Store(folder), executor=client, progress=watch)
        wall = time.perf_counter() - start
        own = time.process_time() - own
        return wall, processor_seconds(psutil.Process()) - before, own, memory


def seconds(function, *arguments, **options) -> float:
    """Of one call, on a processor."""
    start = time.process_time()
    function(*arguments, **options)
    return time.process_time() - start


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=8)
    arguments = parser.parse_args()
    count, workers = arguments.runs, arguments.workers
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        few = stubs(50)
        experiments.run(few[0])
        stub = seconds(lambda: [experiments.run(run) for run in few]) / len(few)
        store = wsn.Store(Path(folder) / "alone")
        record = experiments.run(few[0])
        save = seconds(lambda: [store.save(record) for _ in range(50)]) / 50
        wall, busy, own, memory = sweep(count, workers, Path(folder) / "sweep")
        overhead = busy / count - stub
        print(f"{count:,} stub runs over {workers} local workers on {cores} cores")
        print(f"  a stub alone               {1000 * stub:8.2f} ms of a processor")
        print(f"  its record saved           {1000 * save:8.2f} ms of a processor")
        print(f"  the sweep                  {wall:8.1f} s, {1000 * wall / count:.2f} ms a run")
        print(f"  overhead                   {1000 * overhead:8.2f} ms of a processor a run")
        print(f"  in client and scheduler    {1000 * own / count:8.2f} ms of it")
        print(f"  client and scheduler, MB   {', '.join(f'{m:.0f}' for m in memory)} (each tenth)")

        store = wsn.Store(Path(folder) / "table")
        for record in trainings(count):
            store.save(record)
        runs = [record.experiment for record in trainings(count)]
        size = sum(path.stat().st_size for path in store.path.glob("*.json"))
        first = seconds(wsn.table, runs, store=store)
        again = seconds(wsn.table, runs, store=store)
        keys = seconds(store.keys)
        index_size = (store.path / index.NAME).stat().st_size
        print(f"wsn.table over {count:,} records ({size / 2**20:.0f} MB)")
        print(f"  from the records           {first:8.2f} s of a processor")
        print(f"  the index that it leaves   {index_size / 2**20:8.2f} MB")
        print(f"  from the index             {again:8.2f} s of a processor")
        print(f"  the names alone            {keys:8.3f} s of a processor")

    scale = MILLION / count
    print(f"{MILLION:,} runs over {GPUS:,} GPUs, from these figures")
    print(f"  client and scheduler       {MILLION * own / count / 3600:8.1f} hours of a processor")
    print(f"  so a run must last         {GPUS * own / count:8.1f} s or more, or GPUs wait for the scheduler")
    print(f"  records                    {size * scale / 2**30:8.1f} GB; their names {keys * scale:.0f} s")
    print(f"  the index                  {index_size * scale / 2**30:8.1f} GB, read in {again * scale:.0f} s")
    days = MILLION * 600 / GPUS / 86400
    print(f"  at 10 minutes a run        {days:8.1f} days, {GPUS / 600:.1f} records a second")


if __name__ == "__main__":
    main()
