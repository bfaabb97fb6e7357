"""CKA between all layers of one or many networks, in one stream of minibatches."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, Literal, TypedDict, Unpack

import torch
from torch import nn
from tqdm.auto import tqdm

from wsnlib import specs
from wsnlib.choices import check_choice
from wsnlib.representations.batches import (
    Batches,
    Images,
    Prepare,
    as_images,
    as_inputs,
    in_memory,
    moved,
    num_examples,
    run,
    targets,
)
from wsnlib.representations.reading import (
    Layers,
    check_all_ran,
    check_rows,
    device_of,
    layers_of,
    quick_layout,
    read,
)
from wsnlib.similarity import CKAMatrix, Gram, MinibatchCKA, Weighting, read_gram
from wsnlib.similarity.hsic import LEAST_EXAMPLES
from wsnlib.specs.checks import plain

Tokens = Literal["all", "mean", "first"]
"""What counts of an output (n, tokens, channels), be it all as a vector, the mean of tokens or the first."""


class CKAOptions(TypedDict, total=False):
    """What `cka_sums` takes by keyword; it says what each means."""

    layers: Layers | Mapping[str, Layers] | None
    batch_size: int
    passes: int | Iterable[int] | None
    seed: int
    prepare: Prepare | Mapping[str, Prepare] | None
    tokens: Tokens
    without_component: bool
    progress: bool


def cka_matrix(
    model: nn.Module,
    images: Images,
    *,
    weighting: Weighting = "released",
    **options: Unpack[CKAOptions],
) -> CKAMatrix:
    """Linear CKA of every pair of layers, by minibatches, with its standard error over passes.

    Args:
        model: Any module.
        images: (n, …), or an iterable of batches such as a `DataLoader`.
        weighting: Of the batches in the mean of HSIC₁, `"released"` or `"paper"` (see `MinibatchCKA`).
        options: Those of [`cka_sums`][wsnlib.representations.cka.cka_sums], with its defaults.

    References:
        N21, Section 3.1 (256 images a batch, 10 passes), Figures 1 to 3, D.1 to D.6.

    Examples:
        >>> net = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
        >>> found = cka_matrix(net, torch.randn(40, 3), batch_size=20, passes=3)
        >>> found.rows, found.values.shape, bool(found.values[0, 0] == 1)
        (('0', '1', '2'), (3, 3), True)
    """
    return cka_sums(model, images, **options).matrix(weighting=weighting)


def cka_matrices(
    models: Mapping[str, nn.Module],
    images: Images | Mapping[str, Iterable[Any]],
    *,
    weighting: Weighting = "released",
    **options: Unpack[CKAOptions],
) -> dict[tuple[str, str], CKAMatrix]:
    """Linear CKA of every layer with every layer of several networks, all pairs in one pass.

    Args:
        models: By name. Each sees the same images, and runs once for each batch.
        images: (n, …), or an iterable of batches, or one for each network by its name.
        weighting: As in `cka_matrix`, and so are the options.

    Returns:
        A matrix for each ordered pair of names, selves included: rows are layers of the first, columns of the
        second.

    References:
        N21, Figures 6 and E.1.

    Examples:
        >>> nets = {name: nn.Sequential(nn.Linear(3, 5), nn.ReLU()) for name in ("one", "other")}
        >>> found = cka_matrices(nets, torch.randn(40, 3), batch_size=20, passes=3)
        >>> list(found), found["one", "other"].values.shape
        ([('one', 'one'), ('one', 'other'), ('other', 'one'), ('other', 'other')], (2, 2))
    """
    whole = cka_sums(models, images, **options).matrix(weighting=weighting)
    return {(first, second): _between(whole, first, second) for first in models for second in models}


def _between(whole: CKAMatrix, first: str, second: str) -> CKAMatrix:
    rows, columns = (
        [name for name in whole.rows if name.partition("/")[0] == model] for model in (first, second)
    )
    return replace(
        whole.select(rows, columns),
        rows=tuple(name.partition("/")[2] for name in rows),
        columns=tuple(name.partition("/")[2] for name in columns),
    )


def cka_sums(
    model: nn.Module | Mapping[str, nn.Module],
    images: Images | Mapping[str, Iterable[Any]],
    *,
    layers: Layers | Mapping[str, Layers] | None = None,
    batch_size: int = 256,
    passes: int | Iterable[int] | None = None,
    seed: int = 0,
    prepare: Prepare | Mapping[str, Prepare] | None = None,
    tokens: Tokens = "all",
    without_component: bool = False,
    progress: bool = False,
) -> MinibatchCKA:
    """The sums over minibatches from which the CKA of every pair of layers follows.

    Each layer's output becomes a U-centred Gram matrix inside its hook; nothing else of it is kept: memory is
    4 · n(n − 1)/2 bytes a layer (8 of a network in double precision) beside one forward pass. All pairs are
    then one product of matrices.

    Sums of disjoint passes (`passes=[0, 1]` here, `passes=[2, 3]` on another machine or another day) are
    added with `merge`: the order of images in a pass depends on the seed and its number alone. What their
    `state` gives can be saved.

    Args:
        model: A network, or several by name (without "/"). Their layers are then named "name/layer".
        images: (n, …), not yet prepared, on any device; or an iterable of batches (a `DataLoader`, a list, a
            generator), larger than memory if need be. Several networks see the same batches; where they
            need different ones, give an iterable for each by its name, whose labels are compared.
        layers: Names of submodules, patterns (`"layer1.*"`) or types, by network if they differ; all leaf
            modules if not given. `wsn.layer_names` lists what is found.
        batch_size: Images in a batch, at least 4, if they are in memory; what is left over makes a smaller
            last one. With n of them and one pass the estimate is that of the whole data set.
        passes: How often the images are gone through in a new order, or the numbers of the passes; by
            default 10 in memory, and 1 of an iterable, which has to shuffle if it is gone through again.
        seed: Random seed for the orders of images in memory.
        prepare: Turns a batch into what the network is called with (a tensor, a tuple of arguments, a
            mapping of keywords), such as `Dataset.normalise`; by network, if they differ. If not given, a
            tensor is itself, the first entry of a tuple counts, and a mapping gives keywords less labels.
        tokens: What counts of outputs (n, tokens, channels): `"all"`, their `"mean"`, or the `"first"`. In
            the mean, what the batch's `attention_mask` leaves out does not count; all are refused then.
        without_component: Whether each layer's first principal component within a batch is removed
            first (N21, Figure 3, bottom right).
        progress: Whether a bar shows batches and the time left.

    Raises:
        ValueError: Before any work: if a layer is unknown or never runs, or a batch would have fewer than 4
            images. During it: if a representation is not finite, a shuffling iterable gives the same batches
            again, or networks get different examples.

    Warns:
        RuntimeWarning: If the last batch of an iterable has fewer than 4 examples, and is left out.

    Examples:
        >>> net = nn.Sequential(nn.Linear(3, 5), nn.ReLU())
        >>> images = torch.randn(40, 3)
        >>> here, there = (cka_sums(net, images, batch_size=20, passes=[number]) for number in (0, 1))
        >>> here.merge(there)
        >>> here.num_batches
        4
        >>> loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images), batch_size=20)
        >>> cka_sums(net, loader).num_batches
        2
    """
    models = {"": model} if isinstance(model, nn.Module) else dict(model)
    _check_names(models)
    if isinstance(layers, Mapping) and (unknown := [key for key in layers if key not in models]):
        raise ValueError(f"layers must be of the networks {', '.join(models)}, got {unknown[0]!r}")
    source = _InMemory if in_memory(images) else _Streams
    numbers = _numbers(source.PASSES if passes is None else plain(passes))
    batches = source(images, numbers, models, plain(batch_size), plain(seed))
    networks = {
        name: _network(m, batches.first[name], _of(layers, name), _of(prepare, name), tokens)
        for name, m in models.items()
    }
    labels = [f"{name}/{layer}" if name else layer for name, net in networks.items() for layer in net.layers]
    sums = MinibatchCKA(labels, examples=batches.examples)
    for number, batch in tqdm(batches, total=batches.count, unit="batch", desc="CKA", disable=not progress):
        grams, count = _grams(networks, batch, without_component)
        sums.update_grams(grams, num_examples=count, pass_index=number)
    return sums


def _of(given: Any, name: str) -> Any:
    return given.get(name) if isinstance(given, Mapping) else given


def _numbers(passes: int | Iterable[int]) -> list[int]:
    numbers = list(range(passes)) if isinstance(passes, int) else [plain(number) for number in passes]
    if not numbers or len(set(numbers)) < len(numbers) or min(numbers) < 0:
        raise ValueError(f"passes must be one or more different integers ≥ 0, got {numbers}")
    return numbers


def _check_names(models: Mapping[str, nn.Module]) -> None:
    if not models:
        raise ValueError("models must be at least one, got none")
    for name in models:
        if "/" in name:
            raise ValueError(f"names of models must be without '/', got {name!r}; rename it")


class _InMemory:
    """Images cut into batches in an order that depends on the seed and the number of the pass."""

    PASSES = 10

    def __init__(
        self, images: Any, numbers: list[int], models: Mapping[str, nn.Module], batch_size: int, seed: int
    ) -> None:
        self.images, self.names = as_images(images), list(models)
        n = len(self.images)
        last = n % batch_size if batch_size > 0 else 0
        if batch_size < LEAST_EXAMPLES or n < LEAST_EXAMPLES or 0 < last < LEAST_EXAMPLES:
            raise ValueError(
                f"batches must have at least {LEAST_EXAMPLES} images each, got one of "
                f"{last or min(n, batch_size)} from {n} in batches of {batch_size}; change batch_size"
            )
        self.chosen = [
            (number, part) for number in numbers for part in _order(n, seed, number).split(batch_size)
        ]
        self.first = dict.fromkeys(models, self.images)
        self.examples, self.count = _fingerprint(self.images), len(self.chosen)

    def __iter__(self) -> Iterator[tuple[int, dict[str, torch.Tensor]]]:
        for number, part in self.chosen:
            yield number, dict.fromkeys(self.names, self.images[part.to(self.images.device)])


class _Streams:
    """Batches as they come: the same for every network, or for each its own of the same examples."""

    PASSES = 1

    def __init__(
        self, images: Any, numbers: list[int], models: Mapping[str, nn.Module], batch_size: int, seed: int
    ) -> None:
        apart = isinstance(images, Mapping)
        if apart and images.keys() != models.keys():
            raise ValueError(
                f"batches must be given for the networks {', '.join(models)}, got {', '.join(images)}"
            )
        streams = images.values() if apart else [images]
        self.streams = [Batches(stream, numbers) for stream in streams]
        firsts = [stream.first for stream in self.streams]
        self.names, self.examples, self.count = list(models), "", self.streams[0].count
        self.first = dict(zip(models, firsts if apart else firsts * len(models), strict=True))

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for found in zip_longest(*self.streams):
            if None in found:
                raise ValueError("networks must see the same examples, got fewer batches for one of them")
            batches = [batch for _, batch in found]
            if len(batches) > 1:
                _check_same(batches)
            if (count := num_examples(batches[0])) < LEAST_EXAMPLES:
                warnings.warn(
                    f"a batch of {count} examples is left out: at least {LEAST_EXAMPLES} are needed",
                    RuntimeWarning,
                    stacklevel=5,
                )
                continue
            repeated = batches if len(batches) > 1 else batches * len(self.names)
            yield found[0][0], dict(zip(self.names, repeated, strict=True))


def _check_same(batches: list[Any]) -> None:
    """Refuse batches of different networks that are not of the same examples, as far as labels tell."""
    told = [targets(batch) for batch in batches]
    for one in told:
        if one is None:
            raise ValueError("batches of each network must have labels by which examples are told, got none")
        if told[0] is None or one.shape != told[0].shape or not torch.equal(one, told[0]):
            raise ValueError("networks must see the same examples, got batches with different labels")


@dataclass(frozen=True)
class _Network:
    """A network, its layers, and how it is shown a batch."""

    model: nn.Module
    layers: list[str]
    prepare: Prepare
    layout: torch.memory_format
    tokens: Tokens


def _network(
    model: nn.Module, batch: Any, layers: Layers | None, prepare: Prepare | None, tokens: Tokens
) -> _Network:
    found = layers_of(model, batch, layers=layers, prepare=prepare)
    if not found:
        raise ValueError(f"the {type(model).__name__} has no layer to read: give modules with submodules")
    check_choice("tokens", tokens, Tokens)
    layout = quick_layout(model, batch, prepare=prepare)
    return _Network(model, found, prepare or as_inputs, layout, tokens)


def _order(n: int, seed: int, number: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(specs.derive_seed(seed, f"cka pass {number}"))
    return torch.randperm(n, generator=generator)


def _grams(
    networks: Mapping[str, _Network], batches: Mapping[str, Any], without_component: bool
) -> tuple[Gram, int]:
    """Vectors (layers, m) and norms (layers,) of one batch, layers of all networks in order; its examples."""
    n = num_examples(next(iter(batches.values())))
    home = device_of(next(iter(networks.values())).model)
    count = sum(len(net.layers) for net in networks.values())
    dtypes = {p.dtype for net in networks.values() for p in net.model.parameters()}
    precision = torch.float64 if torch.float64 in dtypes else torch.float32
    vectors = torch.empty(count, n * (n - 1) // 2, dtype=precision, device=home)
    norms = torch.empty(count, dtype=torch.float32 if home.type == "mps" else torch.float64, device=home)
    start = 0
    for name, net in networks.items():
        index = {layer: start + i for i, layer in enumerate(net.layers)}
        start += len(index)
        missing = set(index)
        inputs = net.prepare(moved(batches[name], device_of(net.model), net.layout))
        mask = inputs.get("attention_mask") if isinstance(inputs, Mapping) else None

        def reduce(
            layer: str,
            x: torch.Tensor,
            index: dict[str, int] = index,
            missing: set[str] = missing,
            tokens: Tokens = net.tokens,
            mask: torch.Tensor | None = mask,
        ) -> None:
            check_rows(layer, len(x), n)
            gram = read_gram(_counted(x, tokens, mask), without_component=without_component)
            vectors[index[layer]] = gram.vector
            norms[index[layer]] = gram.norm
            missing.discard(layer)

        with read(net.model, net.layers, reduce):
            run(net.model, inputs)
        check_all_ran(missing)
    return Gram(vectors, norms), n


def _counted(x: torch.Tensor, tokens: Tokens, mask: torch.Tensor | None) -> torch.Tensor:
    """What counts of an output: of (n, tokens, channels) all, the mean over those there, or the first."""
    if x.dim() != 3:
        return x
    if mask is not None and mask.shape != x.shape[:2]:
        mask = None  # of other tokens than these
    if tokens == "first":
        return x[:, 0]
    if tokens == "mean":
        if mask is None:
            return x.mean(1)
        there = mask.unsqueeze(-1).to(x.dtype)
        return (x * there).sum(1) / there.sum(1).clamp(min=1)
    if mask is not None and not bool(mask.all()):
        raise ValueError("tokens must be 'mean' or 'first' for sequences with an attention_mask, got 'all'")
    return x


def _fingerprint(images: torch.Tensor) -> str:
    digest = hashlib.sha256(f"{images.dtype}{tuple(images.shape)}".encode())
    digest.update(images.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
