"""Read the representations of named layers of any `nn.Module` while it runs, through hooks.

A layer's output is reduced (to a Gram matrix, a sum, a few features) inside the hook, before the next layer
can change it in place, and no reference to it is kept.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any

import torch
from torch import nn

from wsnlib.representations.batches import (
    Images,
    Prepare,
    as_inputs,
    batches_of,
    few,
    first_tensor,
    moved,
    num_examples,
    run,
)
from wsnlib.similarity import full_precision
from wsnlib.similarity.hsic import LEAST_EXAMPLES

Reduce = Callable[[str, torch.Tensor], None]

Layers = Sequence[str | type[nn.Module]]
"""Names of modules, or patterns of names (`"layer1.*"`, where `*` takes points, too), or types of modules."""


@contextmanager
def read(model: nn.Module, layers: Layers | None, reduce: Reduce) -> Iterator[None]:
    """Within it, every forward pass of the model calls `reduce(name, output)` for each of the layers.

    The model is in evaluation mode, without gradients, in the precision of its weights. Afterwards, also
    after an error, its mode is what it was and the hooks are gone.

    Args:
        model: Any module.
        layers: Names as `layer_names` gives them, or of any submodule, patterns of names, or types; all leaf
            modules if not given.
        reduce: Gets the name of the layer and its output, which it must not keep; of a tuple, mapping or
            dataclass, the first tensor in it.

    Examples:
        >>> net = nn.Sequential(nn.Linear(3, 2), nn.ReLU(inplace=True))
        >>> with read(net, None, lambda name, x: print(name, tuple(x.shape))):
        ...     _ = net(torch.ones(5, 3))
        0 (5, 2)
        1 (5, 2)
    """
    modules, named = (dict(_leaves(model)), None) if layers is None else _modules(model, layers)
    known = dict(model.named_modules())
    only = {module_name(label, known) for label in named or ()}
    calls: dict[str, int] = {}

    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def record(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            calls[name] = calls.get(name, 0) + 1
            label = name if calls[name] == 1 else f"{name}:{calls[name]}"
            if calls[name] > 1 and label in known:
                raise ValueError(
                    f"names must differ, got {label!r} for a module and for call {calls[name]} of {name!r}; "
                    "give the module another name"
                )
            found = first_tensor(output)
            if found is not None:
                if named is None or label in named or name not in only:
                    reduce(label, found.detach())
            elif named is not None and label in named:
                raise ValueError(
                    f"{label} must give a tensor, or something that holds one, got a "
                    f"{type(output).__name__}; leave it out"
                )

        return record

    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        stack.callback(model.register_forward_pre_hook(lambda *_: calls.clear(), prepend=True).remove)
        for name, module in modules.items():
            stack.callback(module.register_forward_hook(hook(name)).remove)
        stack.enter_context(torch.no_grad())
        stack.enter_context(full_precision(device_of(model)))
        yield


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within it, a model is in evaluation mode; afterwards each of its modules is in the mode that it was in.

    Examples:
        >>> net = nn.Dropout()
        >>> with evaluating(net):
        ...     net.training
        False
        >>> net.training
        True
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _leaves(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules without children; a layer whose weight is computed (a static mask) counts as one."""
    for name, module in model.named_modules():
        inside = "parametrizations" in name.split(".")
        if (
            name
            and not inside
            and not [child for child, _ in module.named_children() if child != "parametrizations"]
        ):
            yield name, module


def module_name(label: str, modules: Container[str]) -> str:
    """The module of a layer that `layer_names` names: `relu` of `relu:2`, unless a module is named `relu:2`.

    Examples:
        >>> module_name("relu:2", ["relu"]), module_name("relu:2", ["relu", "relu:2"])
        ('relu', 'relu:2')
    """
    name, _, call = label.rpartition(":")
    return name if label not in modules and call.isdigit() and int(call) > 1 else label


def _modules(model: nn.Module, layers: Layers) -> tuple[dict[str, nn.Module], set[str]]:
    """The modules that are meant, and the layers that are meant by their names; of others all calls are."""
    known = {
        name: module
        for name, module in model.named_modules()
        if name and "parametrizations" not in name.split(".")
    }
    if isinstance(layers, str):
        raise ValueError(f"layers must be a sequence of names, got {layers!r}; write [{layers!r}]")
    found: dict[str, nn.Module] = {}
    named = set()
    for each in layers:
        if not isinstance(each, str | type):
            raise ValueError(
                f"layers must be names or types, got a {type(each).__name__}; layer_names lists the names"
            )
        if isinstance(each, str) and (name := module_name(each, known)) in known:
            named.add(each)
            matching = [name]
        elif isinstance(each, str):
            matching = fnmatch.filter(known, each) if set(each) & set("*?[") else []
        else:
            matching = [name for name, module in known.items() if isinstance(module, each)]
        if not matching:
            raise ValueError(_unknown(model, each, known))
        found |= {name: known[name] for name in matching}
    return found, named


def _unknown(model: nn.Module, layer: str | type[nn.Module], known: Iterable[str]) -> str:
    kind = type(model).__name__
    if not isinstance(layer, str):
        return (
            f"layers must be of types that the {kind} has, got {layer.__name__}; layer_names lists its layers"
        )
    near = difflib.get_close_matches(module_name(layer, ()), known, n=3, cutoff=0.5)
    advice = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(list(known)[:6])}, …"
    return f"{layer!r} is not a layer of the {kind}; {advice}"


def device_of(model: nn.Module) -> torch.device:
    """Where the first parameter or buffer of a model lies; the CPU if there is none.

    Examples:
        >>> device_of(nn.Linear(2, 3))
        device(type='cpu')
    """
    for tensor in chain(model.parameters(), model.buffers()):
        return tensor.device
    return torch.device("cpu")


def quick_layout(model: nn.Module, images: Any, *, prepare: Prepare | None = None) -> torch.memory_format:
    """`torch.channels_last` where a model on a CPU takes images so: its convolutions are then faster.

    A model that takes views of its activations needs them contiguous, and gets its images as they are; four
    images tell.

    Examples:
        >>> class Flat(nn.Module):
        ...     def forward(self, x):
        ...         return x.view(len(x), -1)
        >>> images = torch.zeros(4, 3, 8, 8)
        >>> convolution = nn.Conv2d(3, 2, 3)
        >>> quick_layout(convolution, images), quick_layout(nn.Sequential(convolution, Flat()), images)
        (torch.channels_last, torch.preserve_format)
    """
    first = first_tensor(images)
    if first is None or first.dim() != 4 or device_of(model).type != "cpu":
        return torch.preserve_format
    sample = moved(few(images), torch.device("cpu"), torch.channels_last)
    try:
        with read(model, [], lambda name, x: None):
            run(model, (prepare or as_inputs)(sample))
    except RuntimeError:
        return torch.preserve_format
    return torch.channels_last


def layer_names(
    model: nn.Module,
    images: Images,
    *,
    layers: Layers | None = None,
    prepare: Prepare | None = None,
) -> list[str]:
    """The layers that a forward pass calls, in order of computation, found by running it on four images.

    By default these are the leaf modules whose output has one row for each image. A module called more than
    once (as torchvision's blocks call their ReLU) is several layers: `relu`, `relu:2`, …. A module that is
    itself named `relu:2` beside them is refused.

    Args:
        model: Any module.
        images: At least one, or an iterable of batches, of which the first is looked at.
        layers: If given, these are checked to be called, and ordered; of patterns and types those count that
            are called and have a row for each image.
        prepare: Turns images into what the model takes.

    Raises:
        ValueError: If a layer is unknown (near names are suggested), never ran, or gives no tensor with
            one row for each image.

    Examples:
        >>> layer_names(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), torch.ones(5, 3))
        ['0', '1']
        >>> layer_names(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), torch.ones(5, 3), layers=[nn.ReLU])
        ['1']
    """
    return layers_of(model, batches_of(images, LEAST_EXAMPLES).first, layers=layers, prepare=prepare)


def layers_of(
    model: nn.Module, batch: Any, *, layers: Layers | None = None, prepare: Prepare | None = None
) -> list[str]:
    """The same, found by running a batch's first four examples."""
    found: dict[str, int] = {}
    sample = (prepare or as_inputs)(moved(few(batch), device_of(model)))
    count = num_examples(sample)

    def reduce(name: str, x: torch.Tensor) -> None:
        found[name] = len(x) if x.dim() else 0

    with read(model, layers, reduce):
        run(model, sample)
    for name in _modules(model, layers)[1] if layers else ():
        if name not in found:
            raise ValueError(
                f"{name} never ran: the forward pass of the {type(model).__name__} does not call it"
            )
        check_rows(name, found[name], count)
    return [name for name, rows in found.items() if rows == count]


def check_rows(layer: str, rows: int, count: int) -> None:
    """Refuse a layer that sees a part of the images alone."""
    if rows != count:
        raise ValueError(f"{layer} must give one row for each image, got {rows} for {count}; leave it out")


def check_all_ran(missing: Iterable[str]) -> None:
    """Refuse layers that a batch goes around."""
    for layer in sorted(missing)[:1]:
        raise ValueError(f"{layer} did not run on this batch; it must run on every one")


def read_representations(
    model: nn.Module,
    images: Images,
    *,
    layers: Layers | None = None,
    batch_size: int = 256,
    prepare: Prepare | None = None,
    reduce: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> dict[str, torch.Tensor]:
    """The output of each layer on all images, (n, …) on the CPU, in order of computation.

    Args:
        model: Any module; run in evaluation mode.
        images: (n, …), cut into batches, or an iterable of batches; on any device.
        layers: All leaf modules if not given.
        batch_size: Images in one forward pass.
        prepare: Turns a batch of images into what the model takes, such as `Dataset.normalise`.
        reduce: Applied to each layer's output of one batch, such as a pooling; the outputs of wide
            networks fill any memory.

    Raises:
        ValueError: If a layer is unknown, does not run on every batch, or gives no row for each image.

    Examples:
        >>> found = read_representations(nn.Sequential(nn.Linear(3, 2)), torch.ones(5, 3), batch_size=2)
        >>> {name: tuple(x.shape) for name, x in found.items()}
        {'0': (5, 2)}
    """
    batches = batches_of(images, batch_size)
    names = layers_of(model, batches.first, layers=layers, prepare=prepare)
    parts: dict[str, list[torch.Tensor]] = {name: [] for name in names}

    def keep(name: str, x: torch.Tensor) -> None:
        check_rows(name, len(x), count)
        parts[name].append((x if reduce is None else reduce(x)).to("cpu", copy=True))

    device = device_of(model)
    with read(model, names, keep):
        for done, (_, batch) in enumerate(batches, start=1):
            inputs = (prepare or as_inputs)(moved(batch, device))
            count = num_examples(inputs)
            run(model, inputs)
            check_all_ran(name for name in names if len(parts[name]) < done)
    return {name: torch.cat(values) for name, values in parts.items()}
