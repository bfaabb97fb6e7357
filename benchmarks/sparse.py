"""Native sparse layers against the masked dense ones, and against other ways to compute them.

    python benchmarks/sparse.py [--part mlp|layers|epoch|resnet|memory] [--repetitions 20]

All contenders take their turn in every repetition, in one process, on one thread; shown are medians of the
ratios over repetitions with their least and greatest, and the medians themselves. The data are random: no
part depends on them. Peers: `torch.sparse` (CSR products and `sampled_addmm`), gather and scatter in plain
PyTorch. The script of the epoch loads images one by one through a DataLoader, transforms them, and
multiplies weights by masks.
"""

from __future__ import annotations

import argparse
import platform
import time
import warnings
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms

import wsnlib as wsn
from wsnlib import masks, sparse
from wsnlib.sparse.layers import SparseLayer, linear_weight
from wsnlib.training import loop, steps

BASE = wsn.MLPSpec(width=5)
WIDTHS = (5, 20, 80, 640)
Work = Callable[[], object]


def compare(contenders: dict[str, Work], repetitions: int) -> dict[str, list[float]]:
    """Seconds of every contender, one after the other in each repetition; the first is not counted."""
    took: dict[str, list[float]] = {name: [] for name in contenders}
    for repetition in range(repetitions + 1):
        for name, work in contenders.items():
            start = time.perf_counter()
            work()
            if repetition:
                took[name].append(time.perf_counter() - start)
    return took


def row(name: str, first: list[float], second: list[float], goal: str = "") -> None:
    """Print the ratio of two contenders, its spread, both medians in milliseconds, and what is aimed at."""
    ratios = [a / b for a, b in zip(first, second, strict=True)]
    spread = f"[{min(ratios):.2f}, {max(ratios):.2f}]"
    medians = f"{1e3 * median(first):9.3f} / {1e3 * median(second):9.3f} ms"
    print(f"{name:52s} {median(ratios):7.2f} {spread:18s} {medians}  {goal}", flush=True)


class Multiplied(nn.Module):
    """A dense weight times its mask in every forward pass."""

    def __init__(self, mask: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask.float())

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * self.mask


def masked_dense(model: nn.Module) -> nn.Module:
    """The usual way: every mask multiplied in the forward pass."""
    found = wsn.layer_masks(model)
    wsn.densify(model)
    for name, mask in found.items():
        parametrize.register_parametrization(model.get_submodule(name), "weight", Multiplied(mask))
    return model


def wide(width: int) -> nn.Module:
    """The MLP with 3,970 weights of a width, its layers masked."""
    return wsn.build(BASE if width == BASE.width else wsn.StaticSparsity(BASE, width=width))


def chosen(model: nn.Module, images: torch.Tensor) -> nn.Module:
    """The model as trainings on a CPU take it."""
    sparse.take(model, wsn.estimated_costs(model, images[:1], batch_size=len(images)))
    return model


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
    w = linear_weight(static)

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


def mlp(repetitions: int) -> None:
    """Training steps of MLPs with 3,970 weights, batch 100."""
    x, labels = torch.randn(100, 784), torch.randint(10, (100,))
    contenders: dict[str, Work] = {}
    for width in WIDTHS:
        contenders[f"native {width}"] = step_of(chosen(wide(width), x), x, labels)
        contenders[f"masked {width}"] = step_of(masked_dense(wide(width)), x, labels)
    contenders["all native 640"] = step_of(wsn.to_sparse(wide(640)), x, labels)
    took = compare(contenders, repetitions)
    for width in WIDTHS[1:]:
        goal = "at most 1.5" if width == 640 else ""
        row(f"MLP step, width {width} / width 5", took[f"native {width}"], took["native 5"], goal)
        row(f"    masked dense {width} / width 5", took[f"masked {width}"], took["native 5"])
        goal = "at least 6" if width == 640 else ""
        row(f"    masked dense {width} / native", took[f"masked {width}"], took[f"native {width}"], goal)
    row("width 640: every layer native / as chosen", took["all native 640"], took["native 640"])


class OneByOne(TorchDataset):
    """Images in memory that are turned into tensors and normalised one at a time."""

    def __init__(self, images: np.ndarray, labels: list[int]) -> None:
        self.images, self.labels = images, labels
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.13,), (0.31,))])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def epoch(repetitions: int, images: int = 4000) -> None:
    """Images per second of an epoch at width 640 against the usual script, data path included."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (images, 28, 28, 1), dtype=np.uint8)
    labels = rng.integers(0, 10, images)
    split = wsn.Split(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels))
    data = wsn.Dataset(
        train=split,
        validation=split.take(torch.arange(0)),
        test=split.take(torch.arange(100)),
        classes=tuple("0123456789"),
        mean=torch.tensor([0.13]),
        std=torch.tensor([0.31]),
        sha256="",
    )
    protocol = wsn.Training(epochs=1)
    net = chosen(wide(640), torch.zeros(100, 1, 28, 28))
    optimizer = steps.sgd(net, protocol)
    step = steps.sgd_step(net, optimizer, normalise=data.normalise, precision="float32")
    order = torch.Generator().manual_seed(0)
    usual = masked_dense(wide(640))
    loader = DataLoader(OneByOne(pixels, labels.tolist()), batch_size=100, shuffle=True)
    usual_optimizer = torch.optim.SGD(usual.parameters(), lr=0.1)

    def script() -> None:
        for x, y in loader:
            loss = F.cross_entropy(usual(x), y)
            usual_optimizer.zero_grad()
            loss.backward()
            usual_optimizer.step()
            loss.item()

    contenders = {
        "ours": lambda: loop.train_epoch(step, data, protocol, optimizer, order, epoch=1),
        "script": script,
    }
    took = compare(contenders, repetitions)
    row(f"epoch of {images} images, width 640: script / native", took["script"], took["ours"], "at least 10")


def resnet(repetitions: int, batch_size: int) -> None:
    """A training step of ResNet-18 8 -> 64, density 0.016, and what each layer costs."""
    x = torch.randn(batch_size, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (batch_size,))
    spec = wsn.StaticSparsity(wsn.ResNet18Spec(width=8), width=64)
    nets = {name: wsn.build(spec).to(memory_format=torch.channels_last) for name in ("auto", "dense")}
    costs = wsn.layer_costs(nets["auto"], x, repetitions=1)
    sparse.take(nets["auto"], wsn.estimated_costs(nets["auto"], x[:1], batch_size=batch_size))
    print(f"{'layer':22s} density  dense ms  sparse ms  measured  estimated")
    for cost in costs:
        form = type(nets["auto"].get_submodule(cost.layer)).__name__.startswith("Sparse")
        print(
            f"{cost.layer:22s} {cost.density:7.4f} {cost.dense_ms:9.1f} {cost.sparse_ms:10.1f}  "
            f"{cost.chosen:9s} {'sparse' if form else 'dense'}"
        )
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
    parser.add_argument("--part", choices=("layers", "mlp", "epoch", "resnet", "memory"))
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64, help="of the ResNet-18")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{platform.machine()}, 1 thread, torch {torch.__version__}, Python {platform.python_version()}")
    few = max(3, options.repetitions // 5)
    parts: dict[str, Work] = {
        "layers": lambda: layers(5 * options.repetitions),
        "mlp": lambda: mlp(5 * options.repetitions),
        "epoch": lambda: epoch(few),
        "memory": memory,
        "resnet": lambda: resnet(few, options.batch_size),
    }
    for name, part in parts.items():
        if options.part in (None, name):
            part()


if __name__ == "__main__":
    main()
