"""Several small ResNets on one machine: one after the other, as one batched network, or in processes.

    python benchmarks/joint_resnets.py [--members 4] [--repetitions 5]

Training steps of ResNet-18 of base width 8, batch 64, all contenders in turn: `vmap` over the members'
weights, which PyTorch computes as grouped convolutions, against one network after the other, on one thread;
then two processes of one thread each, as sweeps do it, against one process of two threads.
"""

from __future__ import annotations

import argparse
import multiprocessing

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap
from turns import Work, compare, row, title

import wsnlib as wsn

SPEC = wsn.ResNet18Spec(width=8)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Random images and labels."""
    return torch.randn(64, 3, 32, 32), torch.randint(10, (64,))


def network(seed: int) -> nn.Module:
    """A network whose batch norm keeps no running statistics, which `vmap` cannot change in place."""
    net = wsn.build(SPEC, seed=seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
    return net


def one_by_one(members: int) -> Work:
    """Forward and backward pass of each network, channels last."""
    nets = [network(seed).to(memory_format=torch.channels_last) for seed in range(members)]
    x, y = batch()
    x = x.to(memory_format=torch.channels_last)

    def work() -> None:
        for net in nets:
            net.zero_grad()
            F.cross_entropy(net(x), y).backward()

    return work


def batched(members: int) -> Work:
    """The same of all networks at once."""
    nets = [network(seed) for seed in range(members)]
    params, buffers = stack_module_state(nets)
    x, y = batch()

    def loss(params: dict, buffers: dict) -> torch.Tensor:
        return F.cross_entropy(functional_call(nets[0], (params, buffers), (x,)), y)

    return lambda: vmap(grad(loss))(params, buffers)


def in_process(steps: int) -> None:
    """Steps of one network on one thread."""
    torch.set_num_threads(1)
    work = one_by_one(1)
    for _ in range(steps):
        work()


def main() -> None:
    """Print the comparison as a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    title(threads=1)
    n = options.members
    took = compare({"alone": one_by_one(n), "vmap": batched(n)}, options.repetitions)
    row(f"{n} networks: vmap / one by one, 1 thread", took["vmap"], took["alone"])
    torch.set_num_threads(2)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(in_process, [1, 1])
        work = {"processes": lambda: pool.map(in_process, [20, 20]), "threads": one_by_one(40)}
        took = compare(work, options.repetitions)
    row("40 steps: 1 process of 2 threads / 2 processes", took["threads"], took["processes"])


if __name__ == "__main__":
    main()
