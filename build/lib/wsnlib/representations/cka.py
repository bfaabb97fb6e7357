"""CKA between all layers of one or many networks, in one stream of minibatches that can be resumed."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict, Unpack

import torch
from torch import nn

from wsnlib import specs
from wsnlib.addresses import local_path
from wsnlib.representations.reading import Prepare, as_images, device_of, layer_names, quick_layout, read
from wsnlib.similarity import CKAMatrix, Gram, MinibatchCKA, Weighting, read_gram
from wsnlib.similarity.hsic import LEAST_EXAMPLES, Array
from wsnlib.specs.checks import plain


class CKAOptions(TypedDict, total=False):
    """What `cka_sums` takes by keyword; it says what each means."""

    layers: Sequence[str] | Mapping[str, Sequence[str]] | None
    batch_size: int
    passes: int | Iterable[int]
    seed: int
    prepare: Prepare | Mapping[str, Prepare] | None
    without_component: bool
    checkpoint: Path | str | None
    save_every: int


def cka_matrix(
    model: nn.Module,
    images: Array,
    *,
    weighting: Weighting = "released",
    **options: Unpack[CKAOptions],
) -> CKAMatrix:
    """Linear CKA of every pair of layers, by minibatches, with its standard error over passes.

    Args:
        model: Any module.
        images: (n, …).
        weighting: Of the batches in the mean of HSIC₁, `"released"` or `"paper"` (see `MinibatchCKA`).
        options: `layers`, `batch_size`, `passes`, `seed`, `prepare`, `without_component`, `checkpoint` and
            `save_every` of [`cka_sums`][wsnlib.representations.cka.cka_sums], with its defaults.

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
    images: Array,
    *,
    weighting: Weighting = "released",
    **options: Unpack[CKAOptions],
) -> dict[tuple[str, str], CKAMatrix]:
    """Linear CKA of every layer with every layer of several networks, all pairs in one pass.

    Args:
        models: By name. Each sees the same images, and runs once for each batch.
        images: (n, …).
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
    part = whole.select(rows, columns)
    return CKAMatrix(
        rows=tuple(name.partition("/")[2] for name in rows),
        columns=tuple(name.partition("/")[2] for name in columns),
        values=part.values,
        standard_errors=part.standard_errors,
    )


def cka_sums(
    model: nn.Module | Mapping[str, nn.Module],
    images: Array,
    *,
    layers: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    batch_size: int = 256,
    passes: int | Iterable[int] = 10,
    seed: int = 0,
    prepare: Prepare | Mapping[str, Prepare] | None = None,
    without_component: bool = False,
    checkpoint: Path | str | None = None,
    save_every: int = 20,
) -> MinibatchCKA:
    """The sums over minibatches from which the CKA of every pair of layers follows.

    Each layer's output becomes a U-centred Gram matrix inside its hook; nothing else of it is kept: memory is
    4 · n(n − 1)/2 bytes a layer beside one forward pass. All pairs are then one product of matrices.

    Sums of disjoint passes (`passes=[0, 1]` here, `passes=[2, 3]` on another machine) are added with
    `merge`: the order of images in a pass depends on the seed and its number alone.

    Args:
        model: A network, or several by name (without "/"). Their layers are then named "name/layer".
        images: (n, …), not yet prepared; they may lie on another device than the network.
        layers: Names of submodules (by network, if there are several); all leaf modules if not given.
        batch_size: Images in a batch, at least 4; what is left over makes a smaller last one. With n of
            them and one pass the estimate is that of the whole data set.
        passes: How often the images are gone through in a new order, or the numbers of the passes.
        seed: Draws the orders.
        prepare: Turns a batch of images into what the network takes, such as `Dataset.normalise`; by
            network, if they differ.
        without_component: Whether each layer's first principal component within a batch is taken out
            first (N21, Figure 3, bottom right).
        checkpoint: A file from which an interrupted run goes on, written every `save_every` batches and
            at the end, whole or not at all. It is bound to the images, weights and arguments.
        save_every: Batches.

    Raises:
        ValueError: Before any work: if a layer is unknown or never runs, a batch would have fewer than 4
            images, or the checkpoint is of something else. During it: if a representation is not finite.

    Examples:
        >>> net = nn.Sequential(nn.Linear(3, 5), nn.ReLU())
        >>> images = torch.randn(40, 3)
        >>> here, there = (cka_sums(net, images, batch_size=20, passes=[number]) for number in (0, 1))
        >>> here.merge(there)
        >>> here.num_batches
        4
    """
    models = {"": model} if isinstance(model, nn.Module) else dict(model)
    images, passes, batch_size, seed = as_images(images), plain(passes), plain(batch_size), plain(seed)
    numbers = list(range(passes)) if isinstance(passes, int) else [plain(number) for number in passes]
    _check(models, len(images), batch_size, numbers)
    named = {name: _named(layers, name, models) for name in models}
    prepares = {name: prepare.get(name) if isinstance(prepare, Mapping) else prepare for name in models}
    found = {
        name: layer_names(m, images, layers=named[name], prepare=prepares[name]) for name, m in models.items()
    }
    for name, m in models.items():
        if not found[name]:
            raise ValueError(f"the {type(m).__name__} has no layer to read: give modules with submodules")
    labels = [f"{name}/{layer}" if name else layer for name in models for layer in found[name]]
    layouts = {name: quick_layout(m, images, prepare=prepares[name]) for name, m in models.items()}

    examples = _fingerprint([images])
    file = None
    if checkpoint is not None:
        arguments = repr((labels, batch_size, numbers, seed, without_component, examples))
        weights = [t for m in models.values() for t in m.state_dict().values() if isinstance(t, torch.Tensor)]
        file = _Checkpoint(
            local_path(checkpoint, what="the checkpoint"), f"{arguments} {_fingerprint(weights)}"
        )
    sums = file.load() if file is not None else None
    if sums is None:
        sums = MinibatchCKA(labels, examples=examples)

    done = sums.num_batches
    batches = [
        (number, batch) for number in numbers for batch in _order(len(images), seed, number).split(batch_size)
    ]
    for index, (number, chosen) in enumerate(batches):
        if index < done:
            continue
        batch = images[chosen.to(images.device)]
        grams = _grams(models, found, prepares, layouts, batch, without_component)
        sums.update_grams(grams, num_examples=len(batch), pass_index=number)
        if file is not None and ((index + 1) % save_every == 0 or index + 1 == len(batches)):
            file.save(sums)
    return sums


def _check(models: Mapping[str, nn.Module], num_images: int, batch_size: int, passes: list[int]) -> None:
    if not models:
        raise ValueError("there is no model; at least one is needed")
    for name in models:
        if "/" in name:
            raise ValueError(f"a model is named {name!r}; names without '/' are allowed")
    if not passes or len(set(passes)) < len(passes) or min(passes) < 0:
        raise ValueError(f"passes are {passes}; at least one, all different and from 0 are allowed")
    last = num_images % batch_size if batch_size > 0 else 0
    if batch_size < LEAST_EXAMPLES or num_images < LEAST_EXAMPLES or 0 < last < LEAST_EXAMPLES:
        raise ValueError(
            f"{num_images} images in batches of {batch_size} make one of "
            f"{last or min(num_images, batch_size)}; at least {LEAST_EXAMPLES} in each are allowed"
        )


def _named(
    layers: Sequence[str] | Mapping[str, Sequence[str]] | None, name: str, models: Mapping[str, nn.Module]
) -> Sequence[str] | None:
    if not isinstance(layers, Mapping):
        return layers
    unknown = [key for key in layers if key not in models]
    if unknown:
        raise ValueError(f"layers are given for {unknown[0]!r}, which is not among {', '.join(models)}")
    return layers.get(name)


def _order(n: int, seed: int, number: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(specs.derive_seed(seed, f"cka pass {number}"))
    return torch.randperm(n, generator=generator)


def _grams(
    models: Mapping[str, nn.Module],
    layers: Mapping[str, Sequence[str]],
    prepares: Mapping[str, Prepare | None],
    layouts: Mapping[str, torch.memory_format],
    batch: torch.Tensor,
    without_component: bool,
) -> Gram:
    """Vectors (layers, m) and norms (layers,) of one batch, layers of all networks in order."""
    n = len(batch)
    home = device_of(next(iter(models.values())))
    count = sum(map(len, layers.values()))
    vectors = torch.empty(count, n * (n - 1) // 2, dtype=torch.float32, device=home)
    norms = torch.empty(count, dtype=torch.float32 if home.type == "mps" else torch.float64, device=home)
    start = 0
    for name, model in models.items():
        index = {layer: start + i for i, layer in enumerate(layers[name])}
        start += len(index)
        missing = set(index)

        def reduce(
            layer: str, x: torch.Tensor, index: dict[str, int] = index, missing: set[str] = missing
        ) -> None:
            if len(x) != n:
                raise ValueError(f"{layer} gave {len(x)} rows for {n} images; one row for each is allowed")
            gram = read_gram(x, without_component=without_component)
            vectors[index[layer]] = gram.vector
            norms[index[layer]] = gram.norm
            missing.discard(layer)

        prepare = prepares[name]
        with read(model, layers[name], reduce):
            inputs = batch.to(device_of(model), memory_format=layouts[name])
            model(inputs if prepare is None else prepare(inputs))
        if missing:
            raise ValueError(f"{sorted(missing)[0]} did not run on this batch; it must run on every one")
    return Gram(vectors, norms)


# -- a run that can be resumed ----------------------------------------------------------------


def _fingerprint(tensors: Iterable[torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


class _Checkpoint:
    """The sums so far, in a file that is there whole or not, and what they are of."""

    def __init__(self, path: Path, identity: str) -> None:
        self.path = path
        self.identity = hashlib.sha256(identity.encode()).hexdigest()

    def load(self) -> MinibatchCKA | None:
        if not self.path.exists():
            return None
        try:
            content = torch.load(self.path, weights_only=True)
            identity, state = content["identity"], content["state"]
        except Exception as error:
            raise ValueError(
                f"the checkpoint {self.path} cannot be read; move it away to begin anew"
            ) from error
        if identity != self.identity:
            raise ValueError(
                f"the checkpoint {self.path} is of other images, weights or arguments; "
                "move it away to begin anew"
            )
        return MinibatchCKA.from_state(state)

    def save(self, sums: MinibatchCKA) -> None:
        temporary = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}.tmp")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                torch.save({"identity": self.identity, "state": sums.state()}, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        finally:
            temporary.unlink(missing_ok=True)
