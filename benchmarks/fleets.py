"""Fleets of MLPs with 3,970 weights against training each network alone.

    python benchmarks/fleets.py [--images 2000] [--members 8] [--repetitions 5]

All contenders take their turn in every repetition, in one process, on one thread; shown are medians of the
ratios of seconds per network, with their least and greatest. Both train one epoch with the layers that
sweeps choose. The images are random: no time depends on them.
"""

from __future__ import annotations

import argparse
import platform
import time
from statistics import median

import numpy as np
import torch
from torch import nn

import wsnlib as wsn
from wsnlib import sparse

BASE = wsn.MLPSpec(width=5)
PROTOCOL = wsn.Training(epochs=1)


def random_data(num_images: int) -> wsn.Dataset:
    """Random images of MNIST's shape."""
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (num_images, 1, 28, 28), dtype=np.uint8))
    split = wsn.Split(images, torch.from_numpy(rng.integers(0, 10, num_images)))
    return wsn.Dataset(
        train=split,
        validation=split.take(torch.arange(0)),
        test=split.take(torch.arange(100)),
        classes=tuple("0123456789"),
        mean=torch.tensor([0.13]),
        std=torch.tensor([0.31]),
        sha256="",
    )


def networks(width: int, count: int) -> list[nn.Module]:
    """Networks of a width, with the layers that trainings on a CPU choose."""
    spec = BASE if width == BASE.width else wsn.StaticSparsity(BASE, width=width)
    found = [wsn.build(spec, seed=seed) for seed in range(count)]
    for net in found:
        sparse.take(net, wsn.estimated_costs(net, torch.zeros(1, 1, 28, 28), batch_size=PROTOCOL.batch_size))
    return found


def seconds_per_network(width: int, data: wsn.Dataset, seeds: list[int], *, together: bool) -> float:
    """One epoch, with its evaluations, of one network for each seed."""
    nets = networks(width, len(seeds))
    start = time.perf_counter()
    if together:
        wsn.train_fleet(nets, data, [PROTOCOL] * len(seeds), seeds=seeds)
    else:
        for net, seed in zip(nets, seeds, strict=True):
            wsn.train(net, data, PROTOCOL, seed=seed)
    return (time.perf_counter() - start) / len(seeds)


def main() -> None:
    """Print the comparison as a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data, n = random_data(options.images), options.members
    print(f"{platform.machine()}, 1 thread, torch {torch.__version__}, Python {platform.python_version()}")
    print(f"{n} members, {options.images} images, {options.repetitions} repetitions: alone / fleet [spread]")
    contenders = {"alone": ([0, 1], False), "one seed": ([0] * n, True), "seeds": (list(range(n)), True)}
    for width in (5, 20, 80, 640):
        took: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(options.repetitions):
            for name, (seeds, together) in contenders.items():
                took[name].append(seconds_per_network(width, data, seeds, together=together))
        for name in ("one seed", "seeds"):
            ratios = [a / b for a, b in zip(took["alone"], took[name], strict=True)]
            print(
                f"width {width:4d}, {'one seed' if name == 'one seed' else 'a seed each':12s} "
                f"{median(ratios):6.2f} [{min(ratios):.2f}, {max(ratios):.2f}]   "
                f"{1e3 * median(took['alone']):.1f} / {1e3 * median(took[name]):.1f} ms per network",
                flush=True,
            )


if __name__ == "__main__":
    main()
