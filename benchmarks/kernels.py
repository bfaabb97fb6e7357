"""Masked kernels: deterministic quadrature against sampling masks to the same accuracy.

    python benchmarks/kernels.py [--pairs 1000]

Inputs are as images are after standardisation: most coordinates are one negative constant. The
error of the quadrature is measured against itself with 16 times the directions, that of sampling
follows from the standard deviation over masks. All times are of this run, on this machine.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

import numpy as np

import wsnlib as wsn

BASE_WIDTH, DIMENSION = 8, 784
WIDTHS = np.geomspace(8, 2000, 12)


def pairs(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of `count` vectors with a quarter of the coordinates drawn from U(0.5, 2.8)."""
    rng = np.random.default_rng(0)
    drawn = rng.random((2, count, DIMENSION)) < 0.25
    x, y = np.where(drawn, rng.uniform(0.5, 2.8, (2, count, DIMENSION)), -0.42)
    return x, y


def timed(call) -> tuple[float, object]:
    """Seconds and result of a call."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def main() -> None:
    """Print the comparison as a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1000)
    count = parser.parse_args().pairs
    density = BASE_WIDTH / WIDTHS
    x, y = pairs(count)
    wsn.kernels.masked_kernels(x[:2], y[:2], density=density)

    seconds, _ = timed(lambda: wsn.kernels.masked_kernels(x, y, density=density))
    few = slice(0, 8)
    found = wsn.kernels.masked_kernels(x[few], y[few], density=density)
    reference = wsn.kernels.masked_kernels(x[few], y[few], density=density, directions=1024)
    masks = 20_000
    sampling, sampled = timed(
        lambda: wsn.kernels.masked_kernels(
            x[few], y[few], density=density, method="sampling", num_masks=masks
        )
    )
    per_pair = sampling / 8

    print(f"{count} pairs, d = {DIMENSION}, {len(WIDTHS)} densities, {os.cpu_count()} cores")
    print(f"quadrature: {seconds:.1f} s, {1000 * seconds / count:.1f} ms for each pair")
    print(f"sampling {masks:,} masks: {1000 * per_pair:.0f} ms for each pair")
    print("density  relative error  masks for the same  sampling / quadrature")
    share = seconds / count / len(density)
    ratios = []
    for j, p in enumerate(density):
        error = np.sqrt(np.mean((found.first[:, j] / reference.first[:, j] - 1) ** 2))
        one_mask = np.mean(sampled.first_error[:, j] / sampled.first[:, j]) * np.sqrt(masks)
        if p == 1:
            continue
        needed = (one_mask / max(error, 1e-9)) ** 2
        ratios.append(needed / masks * per_pair / len(density) / share)
        print(f"{p:7.4f}  {error:14.1e}  {needed:18.1e}  {ratios[-1]:21.1e}")
    print(f"smallest ratio: {min(ratios):,.0f}")

    code = "import time; t = time.perf_counter(); from wsnlib.kernels import kernel_distance; "
    code += "print(time.perf_counter() - t)"
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(5)
    ]
    print(f"from wsnlib.kernels import kernel_distance: {np.median(times):.2f} s")


if __name__ == "__main__":
    main()
