"""bfloat16 on processors with and without instructions for it: torch's way against float32's instructions.

    python benchmarks/bfloat16.py [--repetitions 7]

A step of training on one batch of random images, on one thread, in float32, in bfloat16 by torch's autocast
alone, and with its products computed in float32 from rounded numbers, as `wsnlib.precision` does where a
processor has no such instructions. All three take their turn in every repetition; shown are medians of the
ratios. Then again in a process that takes this processor for one with AVX2, as most laptops are.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import nn
from turns import Work, compare, row, title

import wsnlib as wsn
from wsnlib.precision import Rounded, has_bfloat16

AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
NETWORKS = {
    "ResNet-14 (1x)": wsn.ResNetCifarSpec(depth=14),
    "ResNet-8 (1.875x)": wsn.ResNetCifarSpec(depth=8, width_multiplier=1.875),
    "ResNet-38 (2x)": wsn.ResNetCifarSpec(depth=38, width_multiplier=2.0),
    "ResNet-18 (18)": wsn.ResNet18Spec(width=18),
}
GOAL = 1.25
"""Times float32, at most: rounding reads and writes whatever a convolution does."""


def step_of(model: nn.Module, low: bool, how: AbstractContextManager) -> Work:
    """A step of gradient descent on one batch."""
    model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(128, 3, 32, 32, generator=generator).to(memory_format=torch.channels_last)
    labels = torch.randint(10, (128,), generator=generator)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=low, cache_enabled=False), how:
            logits = model(x)
        optimizer.zero_grad()
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()

    return step


def measure(networks: list[str], repetitions: int, goal: str) -> None:
    """The three contenders on each network."""
    for name in networks:
        took = compare(
            {
                "float32": step_of(wsn.build(NETWORKS[name]), False, nullcontext()),
                "torch": step_of(wsn.build(NETWORKS[name]), True, nullcontext()),
                "rounded": step_of(wsn.build(NETWORKS[name]), True, Rounded()),
            },
            repetitions,
            clock=time.thread_time,
        )
        row(f"{name}: rounded / float32", took["rounded"], took["float32"], goal)
        row("    bfloat16 by torch / rounded", took["torch"], took["rounded"])


def main() -> None:
    """On this processor, and as on an older one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    options = parser.parse_args()
    as_older = AVX2.items() <= os.environ.items()
    if as_older:
        torch.set_num_threads(1)
        print("\nas with AVX2")
    else:
        title(threads=1)
        print(f"this processor, {'with' if has_bfloat16() else 'without'} instructions for bfloat16")
    goal = "" if has_bfloat16() and not as_older else f"at most {GOAL}"
    measure(options.networks, options.repetitions, goal)
    if not as_older:
        words = ["--repetitions", "3", "--networks", *options.networks[:2]]
        subprocess.run([sys.executable, __file__, *words], env=os.environ | AVX2, check=True)


if __name__ == "__main__":
    main()
