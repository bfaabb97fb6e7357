"""Training of ResNet-18 against the usual script, against the bare model, and what masks cost.

    python benchmarks/training.py [--images 512] [--repetitions 3] [--device auto]

The usual script reads images from an array as torchvision's CIFAR-10 does, transforms them one by one,
loads them with two workers, multiplies weights by masks in every forward pass, and reads the loss in
every step. Precision, batch size and threads are the same for both; the script's workers are running
before the clock does. Every repetition measures all contenders one after the other; shown are medians
of the ratios over repetitions, with their least and greatest. The data are CIFAR-10 if it is in the data
root, else random bytes of its shape.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torch.nn.functional as F
from masked import masked_dense
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

import wsnlib as wsn
from wsnlib import specs
from wsnlib.precision import computing
from wsnlib.training import loop, steps

Work = Callable[[], object]


# -- what is measured -------------------------------------------------------------------------


class OneByOne(TorchDataset):
    """Images in memory that are turned into PIL images and transformed one at a time."""

    def __init__(self, data: wsn.data.Dataset) -> None:
        self.images = data.train.images.permute(0, 2, 3, 1).cpu().numpy()
        self.labels = data.train.labels.tolist()
        crop = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
        scale = transforms.Normalize(data.mean.tolist(), data.std.tolist())
        self.transform = transforms.Compose([*crop, transforms.ToTensor(), scale])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def usual_epoch(net: nn.Module, loader: DataLoader, protocol: wsn.Training, device: torch.device) -> Work:
    """An epoch of the usual script."""
    optimizer = torch.optim.SGD(net.parameters(), lr=protocol.learning_rate, momentum=protocol.momentum)
    criterion = nn.CrossEntropyLoss()
    net.to(device).train()

    def epoch() -> float:
        total = 0.0
        for images, labels in loader:
            images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            with torch.autocast(device.type, torch.bfloat16, enabled=protocol.precision == "bfloat16"):
                logits = net(images)
            loss = criterion(logits.float(), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        return total

    return epoch


def our_epoch(
    net: nn.Module, data: wsn.data.Dataset, protocol: wsn.Training, *, recorded: bool = True
) -> Work:
    """An epoch of the library's loop."""
    device = data.train.labels.device
    net.to(device, memory_format=torch.channels_last).train()
    optimizer = steps.sgd(net, protocol)
    step: steps.Step = steps.sgd_step(net, optimizer, data, precision=protocol.precision)
    if recorded and device.type == "cuda":
        step = steps.RecordedStep(step, batch_size=protocol.batch_size)
    order = torch.Generator().manual_seed(0)

    def epoch() -> tuple[float, float]:
        with steps.training_stream(device):
            return loop.train_epoch(step, data, protocol, optimizer, order, epoch=1)

    return epoch


def bare_epoch(net: nn.Module, data: wsn.data.Dataset, protocol: wsn.Training) -> Work:
    """As many forward passes, backward passes and updates as an epoch has, all on the same batch."""
    device = data.train.labels.device
    net.to(device, memory_format=torch.channels_last).train()
    optimizer = steps.sgd(net, protocol)
    batches = [
        data.train.take(torch.arange(min(protocol.batch_size, len(data.train.labels) - start)))
        for start in range(0, len(data.train.labels), protocol.batch_size)
    ]
    inputs = [(data.normalise(images), labels) for images, labels in batches[:1] + batches[-1:]]

    def epoch() -> None:
        for index in range(len(batches)):
            images, labels = inputs[index == len(batches) - 1]
            with computing(protocol.precision, device):
                logits = net(images)
            loss = F.cross_entropy(logits.float(), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return epoch


def upkeep(net: nn.Module, data: wsn.data.Dataset, protocol: wsn.Training) -> Work:
    """What masks add to the steps of an epoch: weights from values, gradients of values from weights."""
    count = -(-len(data.train.labels) // protocol.batch_size)
    net.to(data.train.labels.device, memory_format=torch.channels_last)
    layers = [net.get_submodule(name) for name in wsn.layer_masks(net)]
    dtype = torch.bfloat16 if protocol.precision == "bfloat16" else torch.float32

    def used(layer: nn.Module) -> torch.Tensor:
        weight = layer.weight.to(dtype)
        return weight.contiguous(memory_format=torch.channels_last) if weight.ndim == 4 else weight

    gradients = [torch.randn_like(used(layer)) for layer in layers]

    def epoch() -> None:
        for _ in range(count):
            torch.autograd.backward([used(layer) for layer in layers], gradients)
            net.zero_grad(set_to_none=True)

    return epoch


def data_epoch(data: wsn.data.Dataset, protocol: wsn.Training) -> Work:
    """The library's images of an epoch: in a new order, augmented, normalised."""
    generator = torch.Generator().manual_seed(0)

    def epoch() -> None:
        order = torch.randperm(len(data.train.labels), generator=generator)
        options = {"batch_size": protocol.batch_size, "augmentation": protocol.augmentation}
        for images, _ in data.train.batches(order, generator=generator, **options):
            data.normalise(images)

    return epoch


# -- how it is measured -----------------------------------------------------------------------


def seconds(work: Work, device: torch.device) -> float:
    """Until the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def compare(contenders: dict[str, Work], *, repetitions: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each contender in each repetition, after one that does not count."""
    for work in contenders.values():
        seconds(work, device)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repetitions):
        for name, work in contenders.items():
            times[name].append(seconds(work, device))
    return times


def ratio(above: list[float], below: list[float]) -> str:
    """Median of the ratios, with the least and the greatest."""
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    return f"{median(ratios):7.3f}  [{min(ratios):.3f}, {max(ratios):.3f}]"


def row(what: str, value: str, goal: str = "") -> None:
    """One line of the table."""
    print(f"{what:<62} {value:<26} {goal}", flush=True)


def matrix_rate(device: torch.device) -> float:
    """Operations per second of a large bfloat16 matrix product."""
    a, b = (torch.randn(8192, 8192, device=device, dtype=torch.bfloat16) for _ in range(2))

    def products() -> None:
        for _ in range(20):
            a @ b

    seconds(products, device)
    return 20 * 2 * 8192**3 / median(seconds(products, device) for _ in range(5))


def operations(spec: specs.ModelSpec) -> float:
    """Multiplications and additions of a training step for each image."""
    net = wsn.build(spec)
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(2, 3, 32, 32)).sum().backward()
    return counter.get_total_flops() / 2


# -- data and networks ------------------------------------------------------------------------


def data_spec(folder: Path, num_images: int) -> tuple[specs.DataSpec, str]:
    """CIFAR-10 if it is there, else random bytes of its shape, packed into a folder."""
    try:
        wsn.load_data(wsn.CIFAR10())
    except wsn.DataError:
        rng = np.random.default_rng(0)
        content = {"classes": np.array(list("0123456789"))}
        for split, n in (("train", num_images), ("test", 500)):
            content[f"{split}_x"] = rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
            content[f"{split}_y"] = rng.integers(0, 10, n, dtype=np.uint8)
        np.savez(folder / "source.npz", **content)
        os.environ["WSN_DATA"] = str(folder)
        return wsn.pack_data(folder / "source.npz", name="random", root=folder), "random bytes"
    return wsn.CIFAR10(), "CIFAR-10"


def networks() -> Iterator[tuple[str, specs.ModelSpec, specs.ModelSpec]]:
    """Name, network, and the dense network of its width."""
    base, wide = wsn.ResNet18Spec(width=8), wsn.ResNet18Spec(width=18)
    yield "width 18", wide, wide
    yield "8 -> 18", wsn.StaticSparsity(base, width=18), wide


def against_the_script(data: wsn.data.Dataset, protocol: wsn.Training, repetitions: int) -> None:
    """Images per second of an epoch and of the data alone."""
    device = data.train.labels.device
    options = {"shuffle": True, "num_workers": 2, "persistent_workers": True}
    options |= {"pin_memory": device.type == "cuda"}
    loader = DataLoader(OneByOne(data), batch_size=protocol.batch_size, **options)
    contenders = {"ours": data_epoch(data, protocol), "script": lambda: [None for _ in loader]}
    times = compare(contenders, repetitions=repetitions, device=device)
    row("data alone: script / ours", ratio(times["script"], times["ours"]), "at least 10 on 2 cores")
    for name, spec, _ in networks():
        contenders = {
            "ours": our_epoch(wsn.build(spec), data, protocol),
            "script": usual_epoch(masked_dense(wsn.build(spec)), loader, protocol, device),
        }
        times = compare(contenders, repetitions=repetitions, device=device)
        goal = "at least 5 on a GPU" if device.type == "cuda" else ""
        row(f"epoch, {name}: script / ours", ratio(times["script"], times["ours"]), goal)
        for who, values in times.items():
            row(f"    images per second, {who}", f"{len(data.train.labels) / median(values):9.0f}")


def against_the_bare_model(data: wsn.data.Dataset, protocol: wsn.Training, repetitions: int) -> None:
    """Steps with data, masks and metrics against the dense network's on one batch."""
    for name, spec, dense in networks():
        contenders = {
            "ours": our_epoch(wsn.build(spec), data, protocol, recorded=False),
            "bare": bare_epoch(wsn.build(dense), data, protocol),
        }
        times = compare(contenders, repetitions=repetitions, device=data.train.labels.device)
        row(f"step, {name}: ours / bare dense model", ratio(times["ours"], times["bare"]), "at most 1.05")


def masks_alone(data: wsn.data.Dataset, protocol: wsn.Training, repetitions: int) -> None:
    """Upkeep of masks against the whole step, where most is to be kept up."""
    device = data.train.labels.device
    spec = wsn.StaticSparsity(wsn.ResNet18Spec(width=8), width=64)
    batches = 20 if device.type == "cuda" else 1  # on a GPU the first four steps are not yet replayed
    images = torch.arange(batches * protocol.batch_size) % len(data.train.labels)
    few = replace(data, train=data.train.take(images))
    for precision in ("bfloat16", "float32"):
        changed = replace(protocol, precision=precision)
        contenders = {
            "upkeep": upkeep(wsn.build(spec), few, changed),
            "step": our_epoch(wsn.build(spec), few, changed),
        }
        times = compare(contenders, repetitions=repetitions, device=device)
        row(
            f"masks, 8 -> 64, {precision}: upkeep / step",
            ratio(times["upkeep"], times["step"]),
            "at most 0.02",
        )


def on_a_gpu(data: wsn.data.Dataset, spec: specs.DataSpec, protocol: wsn.Training, repetitions: int) -> None:
    """Graph against single steps, the card's matrix rate, and seeds that share the card."""
    device = data.train.labels.device
    for name, model, _ in networks():
        contenders = {
            "graph": our_epoch(wsn.build(model), data, protocol),
            "eager": our_epoch(wsn.build(model), data, protocol, recorded=False),
        }
        times = compare(contenders, repetitions=repetitions, device=device)
        row(f"epoch, {name}: single steps / graph", ratio(times["eager"], times["graph"]))

    wide, rate = wsn.ResNet18Spec(width=64), matrix_rate(device)
    work = operations(wide) * len(data.train.labels)
    times = compare(
        {"ours": our_epoch(wsn.build(wide), data, protocol)}, repetitions=repetitions, device=device
    )
    row("measured bfloat16 matrix rate, 10^12 operations per second", f"{rate / 1e12:9.0f}")
    row("width 64: rate of the epoch / matrix rate", ratio([work / rate] * repetitions, times["ours"]))

    run = wsn.Experiment(
        model=wsn.StaticSparsity(wsn.ResNet18Spec(width=8), width=18),
        data=spec,
        training=replace(protocol, epochs=5),
    )
    took: dict[int, list[float]] = {1: [], 2: [], 4: []}
    for repetition in range(repetitions):
        runs = [replace(run, seed=4 * repetition + seed) for seed in range(4)]
        for workers in took:
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                wsn.run_missing(
                    runs, store=wsn.Store(folder), device=str(device), workers=workers, progress=False
                )
                took[workers].append(time.perf_counter() - start)
    for workers in (2, 4):
        row(
            f"4 seeds, 5 epochs: one by one / {workers} at once",
            ratio(took[1], took[workers]),
            "starts included",
        )


def main() -> None:
    """Print the comparison as a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, help="training images (512 on a CPU, 50000 on a GPU)")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name if options.device == "auto" else options.device)
    on_gpu = device.type == "cuda"
    num_images = options.images or (50_000 if on_gpu else 512)
    protocol = wsn.Training(
        epochs=1,
        batch_size=options.batch_size,
        momentum=0.9,
        augmentation=wsn.CropAndFlip(),
        precision=options.precision,
    )
    with tempfile.TemporaryDirectory() as folder:
        spec, source = data_spec(Path(folder), num_images)
        data = wsn.load_data(spec)
        data = replace(data, train=data.train.take(torch.arange(num_images) % len(data.train.labels)))
        data = data.to(device)
        print(
            f"{device}, {torch.cuda.get_device_name(device) if on_gpu else platform.machine()}, "
            f"{os.cpu_count()} cores, {torch.get_num_threads()} thread(s), "
            f"torch {torch.__version__}, Python {platform.python_version()}"
        )
        print(
            f"{num_images} images ({source}), batches of {protocol.batch_size}, {protocol.precision}, "
            f"{options.repetitions} repetitions: median [least, greatest]"
        )
        against_the_script(data, protocol, options.repetitions)
        against_the_bare_model(data, protocol, options.repetitions)
        masks_alone(data, protocol, options.repetitions)
        if on_gpu:
            on_a_gpu(data, spec, protocol, options.repetitions)
        else:
            row("graph, matrix rate at width 64, seeds that share a card", "not run: no GPU")


if __name__ == "__main__":
    main()
