"""CKA of all pairs of layers: this library against pytorch-cka and torch_cka, side by side in one run.

    pip install --group bench
    python benchmarks/cka.py [--batches 4] [--networks resnet20 resnet56 resnet38x4]

Every method sees one network, one loader and the layers between input and classifier (69 in a ResNet-20), and
takes its turn batch by batch. Peak memory is that of a process of its own, above one that has loaded network
and images. torch_cka computes every pair in a Python loop; it is timed on few layers and scaled by the number
of pairs (`--whole` times all of them), in one turn. Ratios are medians over the turns, not ratios of the
seconds beside them. Errors are against a float64 computation from the same activations.
Half of each Gram matrix, which is symmetric, has to be computed: these products alone are timed, too. "Beyond
both" is what a `DataLoader` costs above the time of loading and that of the same images as one tensor.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import os
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.profiler import profile
from torch.utils.data import DataLoader, TensorDataset

import wsnlib as wsn
from wsnlib.models import ResNetCifar
from wsnlib.representations import read

sys.path = [p for p in sys.path if Path(p).resolve() != Path(__file__).resolve().parent]  # `cka` is the peer

BATCH = 256
NETWORKS = {"resnet20": (20, 1), "resnet56": (56, 1), "resnet38x4": (38, 4)}
WORKERS = (0, 2)
LOADED_TURNS = 3
FEW = 8  # layers on which torch_cka is timed


def build(name: str, *, seed: int = 0, residual: bool = True) -> nn.Module:
    """The network with N21's initialisation."""
    depth, width = NETWORKS[name]
    torch.manual_seed(seed)
    return ResNetCifar(depth, width_multiplier=width, residual=residual).eval()


def images(batches: int) -> torch.Tensor:
    """Scikit-learn's digits, 32x32 in three channels, in [0, 1], repeated with a little noise."""
    digits = torch.from_numpy(load_digits().images).float().unsqueeze(1) / 16
    digits = F.interpolate(digits, size=32, mode="bilinear").expand(-1, 3, -1, -1)
    index = torch.arange(batches * BATCH) % len(digits)
    return digits[index] + 0.05 * torch.randn(
        len(index), 3, 32, 32, generator=torch.Generator().manual_seed(0)
    )


def loader(x: torch.Tensor) -> DataLoader:
    """What the peers take."""
    return DataLoader(TensorDataset(x), batch_size=BATCH)


def layers(model: nn.Module) -> list[str]:
    """All layers between input and classifier."""
    return wsn.layer_names(model, torch.zeros(4, 3, 32, 32))[1:-1]


def ours(model: nn.Module, x: torch.Tensor, names: list[str]) -> np.ndarray:
    """One pass of this library."""
    return wsn.cka_matrix(model, x, layers=names, batch_size=BATCH, passes=1).values


def pytorch_cka(model: nn.Module, x: torch.Tensor | DataLoader, names: list[str]) -> np.ndarray:
    """One pass of pytorch-cka."""
    import cka

    batches = x if isinstance(x, DataLoader) else loader(x)
    return cka.compute_cka(model, model, batches, layers=names, device="cpu", progress=False)[0].numpy()


def torch_cka(model: nn.Module, x: torch.Tensor, names: list[str]) -> np.ndarray:
    """One pass of torch_cka."""
    from torch_cka import CKA

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = CKA(model, model, model1_layers=names, model2_layers=names, device="cpu")
        peer.compare(loader(x))
        found = peer.export()["CKA"].numpy()
    for module in model.modules():
        module._forward_hooks.clear()
    return found


def forward(model: nn.Module, x: torch.Tensor, names: list[str]) -> None:
    """What no method can do without."""
    with torch.no_grad():
        for batch in x.split(BATCH):
            model(batch)


METHODS = {"ours": ours, "pytorch-cka": pytorch_cka, "torch_cka": torch_cka, "forward": forward}


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
clock = CLOCKS["wall"]


def seconds(call) -> float:
    """Of one call."""
    start = clock()
    call()
    return clock() - start


def peak(method: str, network: str) -> float:
    """Peak memory of a child process in MB."""
    command = [sys.executable, __file__, "--child", method, "--networks", network]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(found.stdout.splitlines()[-1])


def child(method: str, network: str) -> None:
    """Run one method on two batches and print the peak."""
    kind, _, count = method.partition(" ")
    if kind == "stream":
        stream(int(count))
        print(peak_of_this_process())
        return
    model, x = build(network), images(2)
    names = layers(model)
    if method != "nothing":
        METHODS[method](model, x, names[:FEW] if method == "torch_cka" else names)
    print(peak_of_this_process())


def peak_of_this_process() -> float:
    """Peak memory in MB; on Linux that of the program alone, where `getrusage` counts its parent's, too."""
    if (status := Path("/proc/self/status")).exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts in bytes


def floor(model: nn.Module, x: torch.Tensor, names: list[str]) -> float:
    """Seconds for the inevitable products: one half of XXᵀ of every layer, one of layers by n²/2."""
    sizes = {}
    with read(model, names, lambda name, y: sizes.__setitem__(name, y[0].numel())):
        model(x[:4])
    total = 0.0
    for size in sorted(set(sizes.values())):
        features = torch.randn(BATCH, size)
        once = min(seconds(lambda features=features: features @ features.T) for _ in range(3))
        total += once * sum(s == size for s in sizes.values())
    grams = torch.randn(len(names), BATCH * (BATCH - 1) // 2)
    return total / 2 + min(seconds(lambda: grams @ grams.T) for _ in range(3))


def product_share(model: nn.Module, x: torch.Tensor, names: list[str]) -> tuple[float, float]:
    """Shares of our time inside matrix products, and inside convolutions."""
    ours(model, x[:BATCH], names)
    with profile() as found:
        ours(model, x[:BATCH], names)
    own = {event.key: event.self_cpu_time_total for event in found.key_averages()}
    total = sum(own.values())
    products = sum(own.get(f"aten::{name}", 0) for name in ("addmm_", "addmm", "mm"))
    return products / total, own.get("aten::mkldnn_convolution", 0) / total


def compare(network: str, batches: int, *, whole: bool) -> None:
    """Time, memory and the share of the products for one network."""
    model, x = build(network), images(batches)
    names = layers(model)
    few = names if whole else names[:: max(1, len(names) // FEW)]
    slow = (len(names) / len(few)) ** 2
    times: dict[str, list[float]] = {method: [] for method in METHODS}
    for batch in (x[:BATCH], *x.split(BATCH)):
        for method in METHODS:
            if method == "torch_cka":
                if len(times[method]) < 2:
                    times[method].append(slow * seconds(lambda b=batch: torch_cka(model, b, few)))
            else:
                run = METHODS[method]
                times[method].append(seconds(lambda b=batch, run=run: run(model, b, names)))
    # the first round warms up; ratios are medians over rounds, in which methods ran one after the other
    median = {method: float(np.median(values[1:])) for method, values in times.items()}
    base = peak("nothing", network)
    memory = {method: peak(method, network) - base for method in ("ours", "pytorch-cka", "forward")}
    bound = floor(model, x, names)
    products, convolutions = product_share(model, x, names)
    print(f"\n{network}: {len(names)} layers, {batches} batches of {BATCH}")
    print(f"{'':12} s / batch   ratio to ours   peak MB")
    for method in METHODS:
        mb = f"{memory[method]:8.0f}" if method in memory else "       -"
        rounds = zip(times[method][1:], times["ours"][1:], strict=False)
        print(f"{method:12} {median[method]:9.3f} {np.median([a / b for a, b in rounds]):15.2f}  {mb}")
    print(f"products of the inevitable size alone, one half of each Gram matrix: {bound:.3f} s")
    print(f"ours: {products:.0%} in matrix products, {convolutions:.0%} in the network's convolutions")
    least = median["forward"] + bound
    print(f"forward pass and products: {least / median['ours']:.2f} of our time, ", end="")
    print(f"{least / median['pytorch-cka']:.2f} of pytorch-cka's")


def loaded(network: str, batches: int) -> None:
    """The same batches from a tensor, and through a `DataLoader` with and without workers of its own."""
    model, x = build(network), images(batches)
    names = layers(model)
    took: dict[str, list[float]] = {}

    def turn(name: str, run: Callable[[], object]) -> None:
        took.setdefault(name, []).append(seconds(run))

    for _ in range(LOADED_TURNS):
        turn("tensor", lambda: ours(model, x, names))
        for workers in WORKERS:
            batched = DataLoader(TensorDataset(x), batch_size=BATCH, num_workers=workers)
            turn(f"alone {workers}", lambda batched=batched: [len(each) for each in batched])
            turn(f"ours {workers}", lambda batched=batched: wsn.cka_matrix(model, batched, layers=names))
            turn(f"peer {workers}", lambda batched=batched: pytorch_cka(model, batched, names))
    print(f"\n{network}, {batches} batches of {BATCH} through a DataLoader")
    for workers in WORKERS:
        own = [
            (through - alone) / tensor - 1
            for through, alone, tensor in zip(
                took[f"ours {workers}"], took[f"alone {workers}"], took["tensor"], strict=True
            )
        ]
        peer = np.divide(took[f"peer {workers}"], took[f"ours {workers}"])
        print(
            f"{workers} workers: loading alone {np.median(took[f'alone {workers}']):.2f} s, a tensor "
            f"{np.median(took['tensor']):.2f} s, ours beyond both {np.median(own):+.1%} (at most 5%), "
            f"pytorch-cka / ours {np.median(peer):.2f}"
        )


def streamed() -> None:
    """Peak memory of a process that reads few batches and of one that reads many."""
    found = [peak(f"stream {count}", "resnet20") - peak("stream 10", "resnet20") for count in (100, 10_000)]
    print(f"\nmemory of 100 and of 10,000 batches of 16, above 10: {found[0]:.1f} and {found[1]:.1f} MB")


def stream(count: int) -> None:
    """CKA over a generator of small batches."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(32, 16), nn.ReLU())
    wsn.cka_matrix(net, (torch.randn(16, 32) for _ in range(count)))


def many(network: str) -> None:
    """Five models in one pass against their pairs in passes of two."""
    models = {f"model{i}": build(network, seed=i) for i in range(5)}
    x = images(1)
    one = seconds(lambda: wsn.cka_matrices(models, x, batch_size=BATCH, passes=1))
    pairs = itertools.combinations(models, 2)
    apart = sum(
        seconds(lambda p=p: wsn.cka_matrices({n: models[n] for n in p}, x, batch_size=BATCH, passes=1))
        for p in pairs
    )
    print(
        f"\nfive {network}, 15 pairs with selves: {one:.2f} s in one pass, {apart:.2f} s in ten passes of two"
    )
    print(f"ratio {one / apart:.2f}")


def trained(steps: int) -> nn.Module:
    """A ResNet-20 after some steps on the digits."""
    model, x = build("resnet20"), images(2)
    labels = torch.from_numpy(load_digits().target)[torch.arange(len(x)) % 1797]
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for step in range(steps):
        part = slice(64 * step % len(x), 64 * step % len(x) + 64)
        loss = F.cross_entropy(model(x[part]), labels[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


class Shifted(nn.Module):
    """ReLU layers whose activations lie far from 0."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.shift = shift
        self.layers = nn.ModuleList(nn.Linear(256, 256) for _ in range(6))
        self.relus = nn.ModuleList(nn.ReLU() for _ in range(6))
        self.outputs = nn.ModuleList(nn.Identity() for _ in range(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1)[:, :256]
        for layer, relu, output in zip(self.layers, self.relus, self.outputs, strict=True):
            x = relu(layer(x))
            output(x + self.shift)
        return x


def accuracy(steps: int) -> None:
    """Largest error of any entry against float64."""
    x = images(1)
    random = build("resnet20")
    settings = {
        "trained": (trained(steps), None),
        "random": (random, None),
        "in-place ReLU": (in_place(build("resnet20")), None),
        "shift 3": (Shifted(3.0), [f"outputs.{i}" for i in range(6)]),
        "shift 100": (Shifted(100.0), [f"outputs.{i}" for i in range(6)]),
    }
    print("\nlargest error            " + "  ".join(f"{m:>12}" for m in ("ours", "pytorch-cka", "torch_cka")))
    for name, (model, chosen) in settings.items():
        chosen = chosen or [layer for layer in layers(model) if layer.startswith(("stage1", "stage3"))][::2]
        found = wsn.representations.read_representations(model, x, layers=chosen, batch_size=BATCH)
        sums = wsn.similarity.MinibatchCKA(chosen)
        sums.update({layer: each.double() for layer, each in found.items()})
        exact = sums.matrix().values
        errors = []
        for method in (ours, pytorch_cka, torch_cka):
            names = chosen[:6] if method is torch_cka else chosen
            try:
                errors.append(np.abs(method(model, x, names) - exact[: len(names), : len(names)]).max())
            except AssertionError:  # torch_cka met NaN
                errors.append(np.nan)
        print(f"{name:24} " + "  ".join(f"{error:12.1e}" for error in errors))


def in_place(model: nn.Module) -> nn.Module:
    """The network with ReLU layers that overwrite their inputs."""
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = True
    return model


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="cpu on a loaded machine")
    parser.add_argument("--skip-accuracy", action="store_true")
    parser.add_argument("--train-steps", type=int, default=20)
    parser.add_argument("--whole", action="store_true", help="time torch_cka on all layers")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    global clock
    clock = CLOCKS[given.clock]
    torch.set_num_threads(given.threads)
    if given.child:
        child(given.child, given.networks[0])
        return
    versions = {name: importlib.metadata.version(name) for name in ("torch", "pytorch-cka", "torch-cka")}
    print(json.dumps(versions))
    print(f"{given.threads} threads, {given.clock} time, load {os.getloadavg()[0]:.1f} at the start")
    for network in given.networks:
        compare(network, given.batches, whole=given.whole)
    print(flush=True)
    loaded(given.networks[0], 2 * given.batches)
    streamed()
    many(given.networks[0])
    if not given.skip_accuracy:
        accuracy(given.train_steps)


if __name__ == "__main__":
    main()
