"""A mask, and the weight that it leaves: drawn, attached to a layer, and taken up again after pickling."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Literal, SupportsIndex, cast

import torch
from torch import nn
from torch.nn.utils import parametrize

from wsnlib.choices import check_choice

Pattern = Literal["random", "channels", "constant_fan_in", "balanced", "blocks"]
"""Where in a weight the entries lie that are present."""

BLOCK = 4
"""Outputs and inputs of a block."""


def draw_mask(
    shape: tuple[int, ...] | torch.Size,
    *,
    num_weights: int,
    pattern: Pattern = "random",
    generator: torch.Generator,
) -> torch.Tensor:
    """A bool tensor with exactly `num_weights` True entries, drawn at random among those of a pattern.

    A row is all weights into one output, a column all out of one input (in a convolution, one input channel
    at one position of the kernel).

    - `"random"`: any entries; uniform over all such tensors.
    - `"channels"`: all positions of a kernel are present or absent together; uniform over these.
    - `"constant_fan_in"`: rows have as many entries, or one more; uniform over these.
    - `"balanced"`: so have rows and columns. Rows, in a random order, take of the emptiest columns.
    - `"blocks"`: blocks of 4 rows by 4 columns (smaller at the edges) are present or absent together, uniform
      over these, but for one of which a part is present where that is needed for the number of entries.

    Args:
        shape: Shape of the weight.
        num_weights: 0 to the number of entries.
        pattern: One of these five.
        generator: Random generator on the CPU, so that one seed gives one mask on every device.

    References:
        G21, Section 2.3 (random) and Appendix C (channels); Lasby et al., *Dynamic sparse training with
        structured sparsity* (2024), for a constant fan-in.

    Examples:
        >>> int(draw_mask((3, 5), num_weights=7, generator=torch.Generator()).sum())
        7
        >>> mask = draw_mask((3, 5, 2), num_weights=14, pattern="channels", generator=torch.Generator())
        >>> torch.equal(mask[..., 0], mask[..., 1]), int(mask.sum())
        (True, 14)
        >>> mask = draw_mask((3, 5), num_weights=7, pattern="constant_fan_in", generator=torch.Generator())
        >>> sorted(mask.sum(1).tolist())
        [2, 2, 3]
    """
    size = torch.Size(shape).numel()
    if not 0 <= num_weights <= size:
        raise ValueError(
            f"num_weights must be 0 to {size} for shape {tuple(shape)}, got {num_weights}; change it"
        )
    check_choice("pattern", pattern, Pattern)
    if pattern == "channels" and (kernel := torch.Size(shape[2:]).numel()) > 1:
        if num_weights % kernel:
            raise ValueError(
                f"num_weights must be a multiple of {kernel} for whole kernels of shape {tuple(shape)}, got "
                f"{num_weights}; round it"
            )
        pairs = draw_mask(shape[:2], num_weights=num_weights // kernel, generator=generator)
        return pairs.view(*shape[:2], *[1] * len(shape[2:])).expand(shape).clone()
    check_generator(generator)
    mask = torch.zeros(size, dtype=torch.bool, device="cpu")
    if pattern in ("random", "channels"):
        mask[torch.randperm(size, generator=generator, device="cpu")[:num_weights]] = True
        return mask.view(shape)
    rows, columns = shape[0], size // shape[0]
    if pattern == "blocks":
        row, column = (torch.arange(n, device="cpu") // BLOCK for n in (rows, columns))
        block = row[:, None] * -(-columns // BLOCK) + column
        rank = torch.randperm(int(block.max()) + 1, generator=generator, device="cpu")[block].flatten()
        mask[rank.argsort(stable=True)[:num_weights]] = True
        return mask.view(shape)
    fan_in = torch.full((rows,), num_weights // rows, device="cpu")
    fan_in[torch.randperm(rows, generator=generator, device="cpu")[: num_weights % rows]] += 1
    taken = torch.zeros(columns, device="cpu")
    for i in torch.randperm(rows, generator=generator, device="cpu").tolist():
        # below 1, so that among columns taken as often the order is random
        order = torch.rand(columns, generator=generator, device="cpu")
        order += taken if pattern == "balanced" else 0
        chosen = order.argsort()[: int(fan_in[i])]
        mask[i * columns + chosen] = True
        taken[chosen] += 1
    return mask.view(shape)


def check_generator(generator: torch.Generator) -> None:
    """Raise ValueError unless the generator is on the CPU."""
    if generator.device.type != "cpu":
        raise ValueError(
            f"the generator must be on the CPU, got one on {generator.device}; write torch.Generator()"
        )


_DATA: Any = torch.Tensor.data


class ComputedWeight(torch.Tensor):
    """The weight of a sparse layer, computed from its values: a copy, so that changing it is refused.

    What `reset_parameters`, `torch.nn.init` and `weight.data.normal_()` would change is this copy.
    """

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs, name = kwargs or {}, function.__name__
        changed = kwargs.get("out", args[0] if args else next(iter(kwargs.values()), None))
        in_place = (name[-1] == "_" and name[-2] != "_") or name == "__setitem__" or function == _DATA.__set__
        if isinstance(changed, cls) and (in_place or "out" in kwargs):
            raise RuntimeError(
                f"the weight of a sparse layer must be assigned as a whole, got {name} on a copy of it; "
                "write layer.weight = …, or initialise the layers before wsn.sparsify"
            )
        with torch._C.DisableTorchFunctionSubclass():
            if isinstance(
                function, torch._ops.OpOverload
            ):  # of a compiler; that of torch 2.11 knows tensors only
                args = [arg.as_subclass(torch.Tensor) if isinstance(arg, cls) else arg for arg in args]
            result = function(*args, **kwargs)
        if function == _DATA.__get__:
            result.__class__ = cls
        return result

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.clone().__reduce_ex__(protocol)


class StaticMask(nn.Module):
    """Parametrisation of a weight by the vector of its present values, in row-major order.

    `index` (n,) holds the positions present, rising. It is no buffer, so that nothing which averages,
    casts or blends those of a network moves a weight; it goes with the network to another device. A state
    dict holds `mask` instead: 0 and 1, which every cast keeps, in the shape of the weight.

    What copies all buffers of another network (`DistributedDataParallel`, `AveragedModel`) brings its
    values along, but not where they belong. `witness`, signs that tell masks apart, is the buffer that
    gives away a copy from a network with another mask: `index` then refuses.

    Examples:
        >>> layer = nn.Linear(3, 2)
        >>> mask = torch.tensor([[True, False, False], [False, True, True]])
        >>> _ = parametrize.register_parametrization(layer, "weight", StaticMask(mask))
        >>> layer.parametrizations.weight.original.shape, int((layer.weight != 0).sum())
        (torch.Size([3]), 3)
        >>> layer.state_dict()["parametrizations.weight.0.mask"].half().tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]
    """

    witness: torch.Tensor
    _seen: tuple[torch.Tensor, int] | None = None

    def __init__(self, mask: torch.Tensor) -> None:
        super().__init__()
        self.shape = mask.shape
        self.mask = mask

    @property
    def mask(self) -> torch.Tensor:
        """Bool tensor of the weight's shape, True = weight present; assign another to move the weights."""
        flat = torch.zeros(self.shape.numel(), dtype=torch.bool, device=self.index.device)
        flat[self.index] = True
        return flat.view(self.shape)

    @mask.setter
    def mask(self, mask: torch.Tensor) -> None:
        if mask.shape != self.shape:
            raise ValueError(
                f"a mask must be of the weight's shape {tuple(self.shape)}, got {tuple(mask.shape)}; "
                "make a network of that width"
            )
        self._index = mask.flatten().nonzero().squeeze(1)
        positions = self._index.cpu().numpy().tobytes()
        digest = blake2b(repr(tuple(self.shape)).encode() + positions, digest_size=8).digest()
        self._signs = [1.0 if byte >> bit & 1 else -1.0 for byte in digest for bit in range(8)]
        signs = torch.tensor(self._signs, device=mask.device)
        self.register_buffer("witness", signs, persistent=False)

    @property
    def index(self) -> torch.Tensor:
        """Positions present in the flattened weight, int64, rising.

        Raises:
            RuntimeError: If the buffers are those of a network with another mask.
        """
        witness = self.witness
        if torch.compiler.is_compiling() or witness.is_meta:
            return self._index
        # to look at it costs a transfer from a GPU, where it is done once
        version = witness._version if witness.is_cpu and not witness.is_inference() else 0
        if self._seen is None or self._seen[0] is not witness or self._seen[1] != version:
            self._check(witness)
            self._seen = (witness, version)
        return self._index

    def _check(self, witness: torch.Tensor) -> None:
        try:
            known = [1.0 if sign > 0 else -1.0 for sign in witness.tolist()] == self._signs
        except RuntimeError:  # several at once, in torch.func.vmap
            known = False
        if not known:
            raise RuntimeError(
                "the buffers of a sparse layer must be those of its own mask, got those of other masks, "
                "copied or stacked without them; draw the masks of all processes and copies from one seed, "
                "load a state dict, or call wsn.densify on each network before they are stacked"
            )

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        index = self.index.to(values.device)
        weight = values.new_zeros(self.shape.numel()).scatter_(0, index, values).view(self.shape)
        if type(weight) is torch.Tensor and not torch.compiler.is_compiling():
            weight.__class__ = ComputedWeight
        return weight

    def right_inverse(self, weight: torch.Tensor) -> torch.Tensor:
        if weight.shape != self.shape:
            raise ValueError(
                f"the weight of this layer must be of shape {tuple(self.shape)}, got {tuple(weight.shape)}; "
                "give one entry for each of the dense layer, removed ones included"
            )
        return weight.flatten()[self.index.to(weight.device)]

    def _apply(self, fn: Any, recurse: bool = True) -> StaticMask:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if not self.witness.is_meta:
            self._index = self._index.to(self.witness.device)
        return self

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "mask"] = self.mask

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        mask, positions = (state_dict.pop(prefix + name, None) for name in ("mask", "index"))
        if mask is not None:
            assign = local_metadata.get("assign_to_params_buffers", False)
            found = torch.as_tensor(mask, device=None if assign else self._index.device).bool()
            present, n = int(found.sum()), len(self._index)
            if found.shape != self.shape or present != n:
                error_msgs.append(
                    f"{prefix}mask must have {n} weights in the shape {tuple(self.shape)}, got {present} in "
                    f"{tuple(found.shape)}; load the state of a network of this width, or one that was not "
                    "averaged with those of other masks"
                )
            else:
                self.mask = found
        elif positions is None:
            missing_keys += [prefix + "mask"] * strict
        elif not torch.equal(torch.as_tensor(positions).to(self._index), self._index):
            error_msgs.append(
                f"{prefix}index must be the positions of this layer's own mask, got others, which do not say "
                f"of what shape; put the bool mask of shape {tuple(self.shape)} there as {prefix}mask"
            )
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_seen"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        if (positions := self._buffers.pop("index", None)) is not None:  # saved when they were one
            mask = torch.zeros(self.shape.numel(), dtype=torch.bool, device=positions.device)
            self.mask = mask.index_fill(0, positions, True).view(self.shape)


def attach_mask(layer: nn.Module, mask: nn.Module) -> None:
    """Compute the weight of a layer with a mask; the layer can be pickled, as torch's others cannot."""
    parametrize.register_parametrization(layer, "weight", mask)
    setattr(type(layer), "__reduce_ex__", _reduced)  # noqa: B010, mypy knows no methods of an instance


def _reduced(layer: nn.Module, protocol: SupportsIndex) -> Any:
    stored = cast(nn.ModuleDict, layer.parametrizations)
    if list(stored) != ["weight"] or len(cast(parametrize.ParametrizationList, stored["weight"])) > 1:
        return object.__reduce_ex__(layer, protocol)  # torch refuses
    return _unpickled, (type(layer).__bases__[0], dict(layer.__dict__))


def _unpickled(kind: type[nn.Module], state: dict[str, Any]) -> nn.Module:
    layer = kind.__new__(kind)
    layer.__setstate__(state)
    reattach_mask(layer)
    return layer


def reattach_mask(layer: nn.Module) -> None:
    """Compute the weight of a layer again with the mask and the values that it holds."""
    like = type(layer).__new__(type(layer))
    nn.Module.__init__(like)
    like.weight = nn.Parameter(torch.zeros(1))
    attach_mask(like, nn.Identity())  # torch makes the class that computes a weight
    layer.__class__ = type(like)
