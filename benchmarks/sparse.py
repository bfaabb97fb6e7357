"""Sparse layers against the masked dense ones, and against other ways to compute them.

    python benchmarks/sparse.py [--part linear|memory|layers|roofline|resnet] [--repetitions 5]

All contenders take their turn in every repetition, in one process, on one thread, and what counts is that
thread's time; shown are medians of the ratios over repetitions with their least and greatest, and the medians
themselves. The data are random: no part depends on them. Peers: `torch.sparse` (CSR products and
`sampled_addmm`), gather and scatter in plain PyTorch. `layers` compares the rate of each convolution of
ResNet-18 8 -> 64, in operations of the weights that are there, with that of the dense convolution of 64
channels at 32 x 32; `roofline` shows what keeps it lower: an output with few weights reads much for few
operations, and a tile of many input channels lies beyond the nearest cache. The form of all layers is chosen
together, since a change of layout between two takes time, too: a layer can be sparse that would be faster
dense if it were alone.
"""

from __future__ import annotations

import argparse
import copy
import time
import warnings
from collections.abc import Callable
from statistics import median

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._pytree import tree_leaves
from turns import Work, compare, row, title

import wsnlib as wsn
from wsnlib import masks
from wsnlib.precision import computing
from wsnlib.sparse import tiles
from wsnlib.sparse.functions import Conv2dFunction, Images, product, values_gradient
from wsnlib.sparse.geometry import conv_places
from wsnlib.sparse.layers import SparseLayer, geometry_of
from wsnlib.sparse.packed import empty_images, packed
from wsnlib.timings import reused_memory

GOAL = 0.35


def step_of(model: nn.Module, x: torch.Tensor, labels: torch.Tensor, *, precision: str = "float32") -> Work:
    """A step of gradient descent on one batch, already normalised."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step() -> None:
        with computing(precision, x.device):
            y = model(x)
        loss = F.cross_entropy(y.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def passes_of(layer: nn.Module, x: torch.Tensor) -> Work:
    """A forward and a backward pass."""
    x = x.clone().requires_grad_()

    def work() -> None:
        layer(x).sum().backward()

    return work


def linear(repetitions: int) -> None:
    """Forward and both backward passes of 784 x 640 with 3,970 weights, in several ways."""
    layer = masks.sparsify(nn.Linear(784, 640, bias=False), num_weights=3970, generator=torch.Generator())
    sparse = wsn.to_sparse(copy.deepcopy(layer))
    mask, values = masks.layer_masks(layer)[""], layer.parametrizations.weight.original.detach()
    x, g = torch.randn(100, 784), torch.randn(100, 640)
    row_of, column = mask.nonzero().unbind(1)
    dense = layer.weight.detach()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that CSR tensors are in beta
        csr, transposed = dense.to_sparse_csr(), dense.t().contiguous().to_sparse_csr()

    def csr_kernels() -> object:
        xt, gt = x.t().contiguous(), g.t().contiguous()
        return csr @ xt, transposed @ gt, torch.sparse.sampled_addmm(csr, gt, x, beta=0.0)

    def gathered() -> object:
        xt, gt = x.t().contiguous(), g.t().contiguous()
        y = torch.zeros(640, 100).index_add_(0, row_of, xt[column] * values[:, None])
        back = torch.zeros(784, 100).index_add_(0, column, gt[row_of] * values[:, None])
        return y, back, (gt[row_of] * xt[column]).sum(1)

    took = compare(
        {
            "dense": passes_of(layer, x),
            "csr": csr_kernels,
            "gather": gathered,
            "sparse": passes_of(sparse, x),
        },
        20 * repetitions,
        clock=time.thread_time,
    )
    row("784 x 640, 3,970 weights: dense / sparse", took["dense"], took["sparse"])
    row("    torch.sparse CSR, products alone / sparse", took["csr"], took["sparse"])
    row("    gather and scatter, products alone / sparse", took["gather"], took["sparse"])


def passes(layer: nn.Conv2d, x: torch.Tensor) -> tuple[dict[str, Work], float]:
    """The three products of a sparse convolution on these images, and the operations of one of them."""
    sparse = wsn.to_sparse(copy.deepcopy(layer), layers=[""])
    values, index, shape = sparse._weights()
    geometry, values = geometry_of(layer, x), values.detach()
    found = conv_places(index.numpy(), tuple(shape), geometry)
    inner = packed(x)
    y = packed(torch.randn(len(x), shape[0], *geometry.outputs))
    if not geometry.in_place:
        operations = 2.0 * len(values) * len(x) * geometry.outputs[0] * geometry.outputs[1]
        sparse.keeps_layout = True

        def whole() -> None:
            given = inner.requires_grad_(), sparse._weights()[0], None, found, geometry, len(x), shape[0]
            Conv2dFunction.apply(*given).backward(y)

        return {"all three": whole}, 3 * operations
    out, back = empty_images(y, shape[0], *geometry.outputs), empty_images(inner, shape[1], *geometry.images)
    operations = 2.0 * len(values) * len(x) * geometry.outputs[0] * geometry.outputs[1]
    framed = Images.framed
    return {
        "forward": lambda: product(
            framed(inner), framed(out), found.forward, values, geometry.outputs, len(inner)
        ),
        "at the input": lambda: product(
            framed(y), framed(back), found.backward, values, geometry.images, len(inner)
        ),
        "at the weights": lambda: values_gradient(
            framed(inner), framed(y), found.forward, values, geometry.outputs, len(inner)
        ),
    }, operations


def layers(repetitions: int, batch_size: int) -> None:
    """The rate of every convolution of ResNet-18 8 -> 64 beside that of a dense one."""
    x = torch.randn(batch_size, 64, 32, 32).contiguous(memory_format=torch.channels_last)
    dense = nn.Conv2d(64, 64, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
    with torch.no_grad():
        reference = {"dense": lambda: dense(x)}
        took = compare(reference, repetitions, clock=time.thread_time)["dense"]
    operations = 2e-9 * 64 * 64 * 9 * 1024 * batch_size
    print(f"dense, 64 channels at 32 x 32, forward: {operations / median(took):.0f} GFLOP/s")
    net = wsn.build(wsn.StaticSparsity(wsn.ResNet18Spec(width=8), width=64))
    inputs: dict[str, torch.Tensor] = {}
    hooks = [
        layer.register_forward_pre_hook(lambda _, given, name=name: inputs.setdefault(name, given[0]))
        for name, layer in net.named_modules()
        if isinstance(layer, nn.Conv2d)
    ]
    with torch.no_grad():
        net(torch.randn(batch_size, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    print("weights: of an output; KB: what a tile of it reads; forward, at the input, at the weights")
    print(f"{'layer':20s} density weights    KB  GFLOP/s               share of dense, at least {GOAL}")
    seen = set()
    for name, given in inputs.items():
        layer = net.get_submodule(name)
        alike = (layer.extra_repr(), wsn.num_weights(layer), given.shape)
        if alike in seen or name == "conv1":
            continue
        seen.add(alike)
        works, operations = passes(layer, given)
        shares, rates = [], []
        dense_too: dict[str, Work] = {"dense": reference["dense"]}
        with torch.no_grad() if len(works) > 1 else torch.enable_grad():
            took = compare(dense_too | works, repetitions, clock=time.thread_time)
        for work in works:
            rates.append(1e-9 * operations / median(took[work]))
            full = 2.0 * 64 * 64 * 9 * 1024 * batch_size
            shares.append(
                median(operations / full * d / s for d, s in zip(took["dense"], took[work], strict=True))
            )
        density = wsn.connectivity(layer)
        print(
            f"{name:20s} {density:7.4f} {wsn.num_weights(layer) / layer.out_channels:7.0f} "
            f"{_read(layer, given):5.0f}  {' '.join(f'{r:6.1f}' for r in rates):20s}"
            f" {' '.join(f'{s:5.2f}' for s in shares)}",
            flush=True,
        )


def roofline(repetitions: int) -> None:
    """The rate of one product by what limits it: weights an output, and how far what they read lies."""
    planes, each = (16, 64, 256, 1024), (4, 16, 64, 256)
    print("1x1 convolutions of 16 images of 14 x 14, forward, GFLOP/s; 64 bytes are read for 32 operations")
    reads = " ".join(f"{read_by_tile(n, 1, (14, 14)):6.0f} KB" for n in planes)
    print(f"weights an output   a tile reads {reads}")
    for weights in each:
        rates = []
        for inputs in planes:
            if weights > inputs:
                rates.append("        -")
                continue
            layer = masks.sparsify(
                nn.Conv2d(inputs, 64, 1, bias=False),
                num_weights=64 * weights,
                generator=torch.Generator().manual_seed(0),
            )
            works, operations = passes(layer, torch.randn(16, inputs, 14, 14))
            with torch.no_grad():
                took = compare({"forward": works["forward"]}, 5 * repetitions, clock=time.thread_time)
            rates.append(f"{1e-9 * operations / median(took['forward']):9.1f}")
        print(f"{weights:17d}                {' '.join(rates)}")


def _read(layer: nn.Conv2d, x: torch.Tensor) -> float:
    return read_by_tile(layer.in_channels, layer.kernel_size[0], geometry_of(layer, x).outputs)


def read_by_tile(planes: int, kernel: int, size: tuple[int, int]) -> float:
    """KB of all planes that a tile of the output sees, 16 images each."""
    rows, columns = tiles.tile_shape(*size, tiles.MOST)
    return planes * (rows + kernel - 1) * (columns + kernel - 1) * 64 / 1024


def resnet(repetitions: int, batch_size: int) -> None:
    """Whole training steps, in the ways that a sweep may choose from, and what each layer costs."""
    x = torch.randn(batch_size, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (batch_size,))
    for base, width, goals in (
        (wsn.ResNet18Spec(width=8), 64, (3, 2)),
        (wsn.ResNet18Spec(width=8), 27, (None, 1.3)),
        (wsn.ResNet18Spec(width=18), 64, (None, 1.3)),
        (wsn.ResNetCifarSpec(depth=14), 24, (None, 1)),
    ):
        spec = wsn.StaticSparsity(base, width=width)
        made: dict[str, Callable[[], nn.Module]] = {
            "base": lambda base=base: wsn.build(base),
            "float32": lambda spec=spec: wsn.build(spec),
            "bfloat16": lambda spec=spec: wsn.build(spec),
            "chosen": lambda spec=spec: wsn.build(spec),
        }
        nets = {name: build().to(memory_format=torch.channels_last) for name, build in made.items()}
        costs = wsn.sparse.estimated_costs(nets["chosen"], x[:1], batch_size=batch_size)
        wsn.to_sparse(nets["chosen"], layers=[cost.layer for cost in costs if cost.chosen == "sparse"])
        if goals[0]:
            print(f"{'layer':22s} density  dense ms  sparse ms  chosen")
            for cost in costs:
                sparse = f"{cost.dense_ms:9.1f} {cost.sparse_ms:10.1f}  {cost.chosen}"
                print(f"{cost.layer:22s} {cost.density:7.4f} {sparse}")
        steps = {
            name: step_of(net, x, labels, precision="bfloat16" if name == "bfloat16" else "float32")
            for name, net in nets.items()
        }
        took = compare(steps, repetitions, clock=time.thread_time)
        best = min(took["float32"], took["bfloat16"], key=median)
        depth = getattr(base, "depth", 18)
        said = f"ResNet-{depth} {base.width} -> {width}, batch {batch_size}"
        goal = f"at least {goals[0]}" if goals[0] else ""
        row(f"{said}: masked dense float32 / chosen", took["float32"], took["chosen"], goal)
        row("    best masked dense / chosen", best, took["chosen"], f"at least {goals[1]}")
        goal = "at most 7" if goals[0] else ""
        row("    chosen / the base network", took["chosen"], took["base"], goal)


def memory() -> None:
    """Bytes of weights, gradients and optimiser state, and of the positions that sparse layers keep."""
    spec = wsn.ResNet18Spec(width=8)
    base, sparse = wsn.build(spec), wsn.build(wsn.StaticSparsity(spec, width=64))
    wsn.to_sparse(sparse)
    with torch.no_grad():
        sparse(torch.zeros(1, 3, 32, 32))
    held = [sum(3 * p.numel() * p.element_size() for p in net.parameters()) for net in (base, sparse)]
    kept = sum(
        each.nbytes
        for module in sparse.modules()
        if isinstance(module, SparseLayer)
        for each in tree_leaves(module._known)
        if hasattr(each, "nbytes")
    )
    print(f"memory of weights, gradients, momentum: {held[1] / held[0]:.2f} times the base network's")
    print(f"    with the positions that sparse layers keep: {(held[1] + kept) / held[0]:.2f}, at most 3")


def main() -> None:
    """Print the comparison as a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("linear", "layers", "memory", "roofline", "resnet"))
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=128, help="of the ResNet-18")
    options = parser.parse_args()
    title(threads=1)
    parts: dict[str, Work] = {
        "linear": lambda: linear(options.repetitions),
        "memory": memory,
        "layers": lambda: layers(options.repetitions, options.batch_size),
        "roofline": lambda: roofline(options.repetitions),
        "resnet": lambda: resnet(options.repetitions, options.batch_size),
    }
    for name, part in parts.items():
        if options.part in (None, name):
            with reused_memory():  # as in a training
                part()


if __name__ == "__main__":
    main()
