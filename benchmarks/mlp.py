"""Training fully connected networks: what a step costs at 3,970 weights, by width and by method.

    python benchmarks/mlp.py [--part steps|epoch|joint|sweep] [--repetitions 20]

All contenders take their turn in every repetition, in one process, on one thread; shown are medians of the
ratios over repetitions with their least and greatest, and the medians themselves. A step takes 100 images
as bytes, normalises them, and ends with the weights changed. The data are random: no time depends on them.
Peers: masked dense PyTorch, and sparselab (`pip install --group bench`) and sparseprop (which compiles itself
when it is installed) where they are there. The usual script loads images one by one through a DataLoader,
transforms them, and multiplies weights by masks. The sweep uses two processes, and the script then two
threads.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from masked import masked_dense
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms
from turns import Work, compare, row, title

import wsnlib as wsn
from wsnlib import models, training
from wsnlib.training.compiled import CompiledNetworks

BASE = wsn.MLPSpec(width=5)
WIDTHS = (5, 20, 80, 640)
PROTOCOL = wsn.Training(epochs=1)
STEPS = 20
"""Steps that are timed together."""


def random_data(num_images: int) -> wsn.data.Dataset:
    """Random images of MNIST's shape."""
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (num_images, 1, 28, 28), dtype=np.uint8))
    split = wsn.data.Split(images, torch.from_numpy(rng.integers(0, 10, num_images)))
    return wsn.data.Dataset(
        train=split,
        validation=split.take(torch.arange(0)),
        test=split.take(torch.arange(100)),
        classes=tuple("0123456789"),
        mean=torch.tensor([0.13]),
        std=torch.tensor([0.31]),
        sha256="",
    )


def wide(width: int, seed: int = 0) -> models.MLP:
    """The MLP with 3,970 weights of a width, its layers masked."""
    return wsn.build(BASE if width == BASE.width else wsn.StaticSparsity(BASE, width=width), seed=seed)


def peer(name: str, model: nn.Module) -> nn.Module:
    """The model with the Linear layers of another package, of the same densities."""
    masks = {n: float(mask.float().mean()) for n, mask in wsn.layer_masks(model).items()}
    wsn.densify(model)
    for layer, density in masks.items():
        linear = model.get_submodule(layer)
        if name == "sparseprop":
            from sparseprop.modules import SparseLinear

            new: nn.Module = SparseLinear.from_dense(linear)
        else:
            import sparselab

            new = sparselab.SparseLinear(linear.in_features, linear.out_features, sparsity=1 - density)
        model.set_submodule(layer, new)
    return model


def steps_of(model: nn.Module, data: wsn.data.Dataset) -> Work:
    """As many steps as there are batches, in plain PyTorch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)

    def work() -> None:
        for batch in data.train.batches(torch.arange(len(data.train.labels)), batch_size=100):
            loss = F.cross_entropy(model(data.normalise(batch.images)), batch.labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return work


def epoch_of(width: int, data: wsn.data.Dataset, *, members: int = 1) -> Work:
    """An epoch of networks that see the same images, in new orders."""
    nets = [wide(width, s) for s in range(members)]
    networks = CompiledNetworks(nets, data, [PROTOCOL] * members, [0] * members)
    generators = {0: torch.Generator().manual_seed(0)}
    return lambda: networks.train_epoch(generators, epoch=1)


def steps(repetitions: int) -> None:
    """Single steps, by width."""
    data = random_data(100 * STEPS)
    contenders: dict[str, Work] = {}
    for width in WIDTHS:
        contenders[f"compiled {width}"] = epoch_of(width, data)
        contenders[f"masked {width}"] = steps_of(masked_dense(wide(width)), data)
    contenders["layers 640"] = steps_of(wsn.to_sparse(wide(640)), data)
    peers = [name for name in ("sparseprop", "sparselab") if find_spec(name)]
    contenders |= {name: steps_of(peer(name, wide(640)), data) for name in peers}
    took = compare(contenders, repetitions)
    goals = {640: ("at most 1.5", "at least 6")}
    for width in WIDTHS[1:]:
        ours, usual = took[f"compiled {width}"], took[f"masked {width}"]
        most, least = goals.get(width, ("", ""))
        row(f"step, width {width} / width 5", ours, took["compiled 5"], most, per=STEPS)
        row(f"    masked dense {width} / 5", usual, took["masked 5"], per=STEPS)
        row(f"    masked dense {width} / compiled", usual, ours, least, per=STEPS)
    row("width 640: sparse layers / compiled", took["layers 640"], took["compiled 640"], per=STEPS)
    for name in peers:
        row(f"width 640: {name} / compiled", took[name], took["compiled 640"], "at least 1", per=STEPS)
        row(f"    {name} / sparse layers", took[name], took["layers 640"], per=STEPS)


class OneByOne(TorchDataset):
    """Images in memory that are turned into tensors and normalised one at a time."""

    def __init__(self, images: np.ndarray, labels: list[int]) -> None:
        self.images, self.labels = images, labels
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.13,), (0.31,))])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def script(data: wsn.data.Dataset) -> Work:
    """An epoch of the usual script at width 640."""
    pixels = data.train.images.permute(0, 2, 3, 1).contiguous().numpy()
    net = masked_dense(wide(640))
    loader = DataLoader(OneByOne(pixels, data.train.labels.tolist()), batch_size=100, shuffle=True)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.001)

    def work() -> None:
        for x, y in loader:
            loss = F.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()

    return work


def epoch(repetitions: int) -> None:
    """An epoch of one network against the usual script, data path included."""
    data = random_data(4000)
    took = compare({"ours": epoch_of(640, data), "script": script(data)}, repetitions)
    row("epoch of 4,000 images, width 640: script / compiled", took["script"], took["ours"], "at least 10")


def joint(repetitions: int, members: int = 8) -> None:
    """Joint training against training each network alone."""
    data = random_data(100 * STEPS)
    for width in WIDTHS:
        contenders = {
            "alone": epoch_of(width, data),
            "joint": epoch_of(width, data, members=members),
            "PyTorch": steps_of(wide(width), data),
        }
        took = compare(contenders, repetitions)
        took["joint"] = [seconds / members for seconds in took["joint"]]
        row(f"width {width}: alone / one of {members} with a seed", took["alone"], took["joint"], per=STEPS)
        row("    PyTorch alone / compiled, jointly", took["PyTorch"], took["joint"], per=STEPS)


def trained(work: tuple[int, int]) -> int:
    """Train networks jointly in a process; the images it saw."""
    members, images = work
    torch.set_num_threads(1)
    nets = [wide(640, seed) for seed in range(members)]
    protocols, seeds = [PROTOCOL] * members, [0] * members
    training.train_jointly(nets, random_data(images), protocols, seeds=seeds)
    return members * images


def sweep(repetitions: int, members: int = 8, images: int = 20_000) -> None:
    """Images per second of a sweep in two processes against the usual script, one network after the other."""
    torch.set_num_threads(2)
    data = random_data(4000)
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        pool.map(trained, [(1, 1000)] * 2)  # starts the processes and loads the code
        work = [(members, images)] * 2
        contenders: dict[str, Any] = {"sweep": lambda: pool.map(trained, work), "script": script(data)}
        took = compare(contenders, repetitions)
    per_image = {"sweep": 2 * members * images, "script": len(data.train.labels)}
    each = {name: [1000 * t / per_image[name] for t in took[name]] for name in took}
    row("1,000 images of a sweep on 2 cores: script / ours", each["script"], each["sweep"], "at least 20")


def parts(repetitions: int) -> Iterator[tuple[str, Work]]:
    """The parts by name."""
    few = max(3, repetitions // 5)
    yield "steps", lambda: steps(repetitions)
    yield "epoch", lambda: epoch(few)
    yield "joint", lambda: joint(repetitions)
    yield "sweep", lambda: sweep(few)


def main() -> None:
    """Print the comparison as a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=[name for name, _ in parts(0)])
    parser.add_argument("--repetitions", type=int, default=20)
    options = parser.parse_args()
    title(threads=1)
    for name, part in parts(options.repetitions):
        if options.part in (None, name):
            part()


if __name__ == "__main__":
    main()
