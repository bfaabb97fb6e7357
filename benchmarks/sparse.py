"""Native sparse layers against the masked dense ones, and against other ways to compute them.

    python benchmarks/sparse.py [--part layers|memory|resnet] [--repetitions 20]

All contenders take their turn in every repetition, in one process, on one thread; shown are medians of the
ratios over repetitions with their least and greatest, and the medians themselves. The data are random: no
part depends on them. Peers: `torch.sparse` (CSR products and `sampled_addmm`), gather and scatter in plain
PyTorch.
"""

from __future__ import annotations

import argparse
import copy
import warnings
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._pytree import tree_leaves
from turns import Work, compare, row, title

import wsnlib as wsn
from wsnlib import masks
from wsnlib.sparse.convert import masked_layers
from wsnlib.sparse.costs import MARGIN
from wsnlib.sparse.layers import SparseLayer, linear_weight


def step_of(model: nn.Module, x: torch.Tensor, labels: torch.Tensor) -> Work:
    """A step of gradient descent on one batch, already normalised."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step() -> None:
        loss = F.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def layers(repetitions: int) -> None:
    """Forward and both backward passes of 784 x 640 with 3,970 weights, in several ways."""
    mask = masks.draw_mask((640, 784), num_weights=3970, generator=torch.Generator())
    static = masks.StaticMask(mask)
    values, x, g = torch.randn(3970), torch.randn(100, 784), torch.randn(100, 640)
    row_of, column = mask.nonzero().unbind(1)
    dense = torch.zeros(640, 784)
    dense[mask] = values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that CSR tensors are in beta
        csr, transposed = dense.to_sparse_csr(), dense.t().contiguous().to_sparse_csr()
    w = linear_weight(static.index, static.shape)

    def native() -> object:
        xt, gt = x.t().contiguous(), g.t().contiguous()
        return (
            w.by_output.times(values, xt),
            w.by_input.times(values[w.order], gt),
            w.by_output.dots(w.row, gt, xt),
        )

    def csr_kernels() -> object:
        xt, gt = x.t().contiguous(), g.t().contiguous()
        return csr @ xt, transposed @ gt, torch.sparse.sampled_addmm(csr, gt, x, beta=0.0)

    def gathered() -> object:
        xt, gt = x.t().contiguous(), g.t().contiguous()
        y = torch.zeros(640, 100).index_add_(0, row_of, xt[column] * values[:, None])
        back = torch.zeros(784, 100).index_add_(0, column, gt[row_of] * values[:, None])
        return y, back, (gt[row_of] * xt[column]).sum(1)

    def multiplied() -> object:
        weight = static(values)
        return F.linear(x, weight), g @ weight, (g.t() @ x).flatten()[static.index]

    took = compare(
        {"dense": multiplied, "csr": csr_kernels, "gather": gathered, "native": native}, repetitions
    )
    row("784 x 640, 3,970 weights: dense / native", took["dense"], took["native"])
    row("    torch.sparse CSR / native", took["csr"], took["native"])
    row("    gather and scatter / native", took["gather"], took["native"])


def layer_ms(model: nn.Module, images: torch.Tensor) -> dict[str, list[float]]:
    """Milliseconds of both passes of each masked layer, dense and native; those alike are timed once."""
    inputs: dict[str, torch.Tensor] = {}

    def note(name: str) -> Any:
        return lambda _, given: inputs.setdefault(name, given[0].detach().requires_grad_(name != "conv1"))

    layers = masked_layers(model)
    hooks = [layer.register_forward_pre_hook(note(name)) for name, layer in layers.items()]
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    timed: dict[object, list[float]] = {}
    found = {}
    for name, layer in layers.items():
        x, native = inputs[name], wsn.to_sparse(copy.deepcopy(layer))
        alike = (layer.extra_repr(), wsn.num_weights(layer), x.shape, x.requires_grad)
        if alike not in timed:
            took = compare({"dense": passes_of(layer, x), "native": passes_of(native, x)}, 1)
            timed[alike] = [1000 * median(times) for times in took.values()]
        found[name] = timed[alike]
    return found


def passes_of(layer: nn.Module, x: torch.Tensor) -> Work:
    """A forward and a backward pass."""

    def work() -> None:
        y = layer(x)
        y.backward(torch.ones_like(y))

    return work


def resnet(repetitions: int, batch_size: int) -> None:
    """A training step of ResNet-18 8 -> 64, density 0.016, and what each layer costs."""
    x = torch.randn(batch_size, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (batch_size,))
    spec = wsn.StaticSparsity(wsn.ResNet18Spec(width=8), width=64)
    nets = {name: wsn.build(spec).to(memory_format=torch.channels_last) for name in ("auto", "dense")}
    costs = wsn.sparse.estimated_costs(nets["auto"], x[:1], batch_size=batch_size)
    measured = layer_ms(nets["auto"], x)
    wsn.to_sparse(nets["auto"], layers=[cost.layer for cost in costs if cost.chosen == "sparse"])
    print(f"{'layer':22s} density  dense ms  sparse ms  measured  estimated")
    for cost in costs:
        dense, native = measured[cost.layer]
        chosen = "sparse" if native < MARGIN * dense else "dense"
        print(f"{cost.layer:22s} {cost.density:7.4f} {dense:9.1f} {native:10.1f}  {chosen:9s} {cost.chosen}")
    took = compare({name: step_of(net, x, labels) for name, net in nets.items()}, repetitions)
    row(
        f"ResNet-18 8 -> 64, batch {batch_size}: masked dense / chosen",
        took["dense"],
        took["auto"],
        "at least 1.5",
    )


def memory() -> None:
    """Bytes of weights, gradients and optimiser state, and of the positions that native layers keep."""
    spec = wsn.ResNet18Spec(width=8)
    base, native = wsn.build(spec), wsn.build(wsn.StaticSparsity(spec, width=64))
    wsn.to_sparse(native)
    with torch.no_grad():
        native(torch.zeros(1, 3, 32, 32))
    held = [sum(3 * p.numel() * p.element_size() for p in net.parameters()) for net in (base, native)]
    kept = {
        tensor.data_ptr(): tensor.numel() * tensor.element_size()
        for module in native.modules()
        if isinstance(module, SparseLayer)
        for tensor in tree_leaves(module._known)
        if isinstance(tensor, torch.Tensor)
    }
    print(f"memory of weights, gradients, momentum: {held[1] / held[0]:.2f} times the base network's")
    whole = (held[1] + sum(kept.values())) / held[0]
    print(f"    with the positions that native layers keep: {whole:.2f}, at most 3")


def main() -> None:
    """Print the comparison as a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("layers", "memory", "resnet"))
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64, help="of the ResNet-18")
    options = parser.parse_args()
    title(threads=1)
    few = max(3, options.repetitions // 5)
    parts: dict[str, Work] = {
        "layers": lambda: layers(5 * options.repetitions),
        "memory": memory,
        "resnet": lambda: resnet(few, options.batch_size),
    }
    for name, part in parts.items():
        if options.part in (None, name):
            part()


if __name__ == "__main__":
    main()
