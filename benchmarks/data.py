"""Our data path against the usual script: images per second from memory to normalised batches.

    python benchmarks/data.py [--images 50000] [--batch-size 128] [--workers 2] [--rounds 3]

Both take the same random images of CIFAR-10's form in a random order, crop them with padding 4,
mirror half of them and normalise them. The usual script is torchvision's: a data set object that
hands out one image, `RandomCrop`, `RandomHorizontalFlip`, `ToTensor`, `Normalize`, and a
`DataLoader` with processes. Rounds alternate; the ratio is that of the best rounds. The floor is
what moving the bytes alone takes: each batch gathered once and written once as float32. All times
are of this run, on this machine; where something else runs beside it, the ratio of CPU time (of all
threads and processes) is the safer one.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterable

import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms

import wsnlib as wsn

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class UsualDataset(torch.utils.data.Dataset):
    """As torchvision's CIFAR10: arrays in memory, one image at a time through Pillow."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.images, self.labels = images.permute(0, 2, 3, 1).contiguous().numpy(), labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def usual(split: wsn.data.Split, batch_size: int, workers: int) -> Iterable[torch.Tensor]:
    """Batches of the usual script."""
    dataset = UsualDataset(*split)
    return (images for images, _ in DataLoader(dataset, batch_size, shuffle=True, num_workers=workers))


def ours(data: wsn.data.Dataset, batch_size: int) -> Iterable[torch.Tensor]:
    """Batches as `wsn.train` makes them."""
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(data.train.labels), generator=generator)
    batches = data.train.batches(
        order, batch_size=batch_size, augmentation=wsn.CropAndFlip(), generator=generator
    )
    return (data.normalise(images) for images, _ in batches)


def floor(data: wsn.data.Dataset, batch_size: int) -> Iterable[torch.Tensor]:
    """Batches gathered and written as float32, and nothing else."""
    order = torch.randperm(len(data.train.labels))
    return (data.train.images.index_select(0, index).float() for index in order.split(batch_size))


def measure(batches: Iterable[torch.Tensor]) -> tuple[float, float]:
    """Images per second, and per second of CPU time, from the first call to the last batch."""
    start, before, seen = time.perf_counter(), cpu_time(), 0
    for images in batches:
        seen += len(images)
    return seen / (time.perf_counter() - start), seen / (cpu_time() - before)


def cpu_time() -> float:
    """Seconds that this process and those it has waited for have computed."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def main() -> None:
    """Print images per second and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (given.images, 3, 32, 32), dtype=torch.uint8, generator=generator)
    split = wsn.data.Split(images, torch.randint(0, 10, (given.images,), generator=generator))
    data = wsn.data.Dataset(
        split, split, split, tuple(map(str, range(10))), torch.tensor(MEAN), torch.tensor(STD)
    )
    paths = {
        "usual script": lambda: usual(split, given.batch_size, given.workers),
        "wsnlib": lambda: ours(data, given.batch_size),
        "floor": lambda: floor(data, given.batch_size),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in paths}
    for _ in range(given.rounds):
        for name, make in paths.items():
            found[name].append(measure(make()))
    best = {name: [max(column) for column in zip(*rows, strict=True)] for name, rows in found.items()}
    print(
        f"{given.images:,} images of 3 x 32 x 32, batch {given.batch_size}, {given.workers} processes of the "
        f"usual script, {torch.get_num_threads()} threads of ours, best of {given.rounds} rounds"
    )
    for name, (by_clock, by_cpu) in best.items():
        print(f"{name:12} {by_clock:12,.0f} images a second {by_cpu:12,.0f} a second of CPU time")
    for one, other in (("wsnlib", "usual script"), ("floor", "wsnlib")):
        by_clock, by_cpu = (a / b for a, b in zip(best[one], best[other], strict=True))
        print(f"{one} / {other}: {by_clock:.1f} by the clock, {by_cpu:.1f} by CPU time")


if __name__ == "__main__":
    main()
