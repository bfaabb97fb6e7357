"""Masks that move while a network trains, with as many weights in every layer at every moment."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Literal

import torch
from torch import nn

from wsnlib import masks, specs
from wsnlib.choices import check_choice
from wsnlib.masks import StaticMask
from wsnlib.masks.allocation import listed
from wsnlib.sparse import SparseLayer

Method = Literal["set", "rigl"]
"""Whether weights grow anywhere, or where the gradient of the loss is largest."""


_VALUES = "parametrizations.weight.original"
"""Where a sparse layer has the values of its weights."""


class MovingMasks:
    """Dynamic sparse training, as a callback after each step of an optimiser.

    At every `every`-th of the first `until` · `steps` steps, each layer with a mask gives up the fraction

        f(t) = fraction / 2 · (1 + cos(π t / (until · steps)))

    of its weights, those nearest to 0, and takes as many of those that were absent: any of them (SET), or
    the ones with the largest gradients of the loss on the batch (RigL). Weights that are new are 0, and so
    is what the optimiser remembers of them; all others keep both. A layer's number of weights never changes.

    Args:
        model: With layers made sparse by [`sparsify`][wsnlib.masks.sparsify]; frozen ones stay as they are.
            RigL needs masked ones, not those of [`to_sparse`][wsnlib.sparse.to_sparse] or `torch.compile`.
        optimizer: Of its parameters.
        method: `"set"` or `"rigl"`.
        steps: Of the whole training.
        every: Steps between two moves.
        fraction: Of the weights of a layer that move at first, in (0, 1].
        until: Share of the steps after which masks stay, in (0, 1].
        seed: Draws where weights grow by SET.

    References:
        Mocanu et al., *Scalable training of artificial neural networks with adaptive sparse connectivity*
        (2018), for SET, here with the schedule and the choice of what is given up of RigL, Evci et al.,
        *Rigging the lottery* (2020), Section 3. There a weight just given up may come back at once, here at
        the next move.

    Examples:
        >>> net = masks.sparsify(nn.Linear(8, 4), num_weights=10, generator=torch.Generator())
        >>> sgd = torch.optim.SGD(net.parameters(), lr=0.1)
        >>> move = MovingMasks(net, sgd, method="rigl", steps=20, every=5)
        >>> def loss():
        ...     return net(torch.ones(3, 8)).square().mean()
        >>> moved = []
        >>> for _ in range(20):
        ...     sgd.zero_grad()
        ...     loss().backward()
        ...     sgd.step()
        ...     moved.append(move(loss))
        >>> sum(map(bool, moved)), masks.num_weights(net)
        (2, 10)
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        method: Method,
        steps: int,
        every: int = 100,
        fraction: float = 0.3,
        until: float = 0.75,
        seed: int = 0,
    ) -> None:
        check_choice("method", method, Method)
        for name, share in (("fraction", fraction), ("until", until)):
            if not 0 < share <= 1:
                raise ValueError(f"{name} must be > 0 and ≤ 1, got {share!r}; give such a number")
        if every < 1:
            raise ValueError(f"every must be an integer ≥ 1, got {every!r}; give one")
        self._model, self._optimizer, self._method = model, optimizer, method
        self._every, self._fraction, self._seed = every, fraction, seed
        self._last = until * steps
        self._check_masked()
        self.done = 0
        """Steps so far; set it where a training goes on."""

    def __call__(self, loss: Callable[[], torch.Tensor]) -> int:
        """Count a step, and move masks if it is time to.

        Args:
            loss: Computes the loss on the batch of the step; called only where RigL moves masks. Buffers of
                the model and random numbers are afterwards as if it had not been called.

        Returns:
            Weights that moved.
        """
        self.done += 1
        if self.done % self._every or self.done >= self._last:
            return 0
        fraction = self._fraction / 2 * (1 + math.cos(math.pi * self.done / self._last))
        found = masks.weight_layers(self._model)
        static = {n: masks.static_mask(layer) for n, layer in found.items()}
        values = {n: found[n].get_parameter(_VALUES) for n, mask in static.items() if mask is not None}
        held = {n: mask for n, mask in static.items() if mask is not None and values[n].requires_grad}
        if not held:
            return 0
        if self._method == "rigl":
            self._check_masked()
            with _undone(self._model):
                scores = dense_gradients(held, loss)
        else:
            scores = self._drawn(held)
        moved = 0
        for name, mask in held.items():
            moved += self._move(mask, values[name], scores[name].abs(), fraction)
        return moved

    def _check_masked(self) -> None:
        """Refuse RigL where weights that are absent have no gradient."""
        names = [name for name, layer in self._model.named_modules() if isinstance(layer, SparseLayer)]
        if names and self._method == "rigl":
            raise ValueError(
                f"layers must be masked for RigL, got a sparse-compute one in {names[0]!r}; "
                "call wsn.to_dense(model) first"
            )

    def _drawn(self, held: Mapping[str, StaticMask]) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(specs.derive_seed(self._seed, f"moving {self.done}"))
        return {
            name: torch.rand(mask.shape, generator=generator, device="cpu") for name, mask in held.items()
        }

    @torch.no_grad()
    def _move(self, mask: StaticMask, values: nn.Parameter, scores: torch.Tensor, fraction: float) -> int:
        """Move weights of one layer to the positions that are absent and have the largest scores."""
        present, absent = mask.mask.flatten(), ~mask.mask.flatten()
        count = min(round(fraction * len(values)), int(absent.sum()))
        before = mask.index.clone()
        lost = before[values.abs().argsort(stable=True)[:count]]
        ranked = (
            scores.to(values.device).flatten().masked_fill(present, -1).argsort(descending=True, stable=True)
        )
        present[lost], present[ranked[:count]] = False, True
        mask.mask = present.view(mask.shape)
        for stored in (values, *self._optimizer.state.get(values, {}).values()):
            if isinstance(stored, torch.Tensor) and stored.shape == values.shape:
                full = stored.new_zeros(mask.shape.numel()).index_copy_(0, before, stored)
                stored.copy_(full[mask.index])
        return count


def dense_gradients(
    held: Mapping[str, StaticMask], loss: Callable[[], torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Gradients of the loss with respect to all weights of layers with a mask, absent ones included."""
    computed: dict[str, list[torch.Tensor]] = {name: [] for name in held}
    with ExitStack() as stack:
        for name, mask in held.items():
            notes = computed[name]
            handle = mask.register_forward_hook(lambda _, __, weight, notes=notes: notes.append(weight))
            stack.callback(handle.remove)
        value = loss()
    if unseen := [name for name, weights in computed.items() if not weights]:
        raise ValueError(
            f"masked layers must be called uncompiled for RigL, got no such call of {listed(unseen)}; give "
            "the model as it was before torch.compile, or freeze what is not called"
        )
    read = [(name, weight) for name, weights in computed.items() for weight in weights]
    gradients = torch.autograd.grad(value, [weight for _, weight in read], allow_unused=True)
    found = {name: torch.zeros(mask.shape, device=mask.index.device) for name, mask in held.items()}
    for (name, _), gradient in zip(read, gradients, strict=True):
        if gradient is not None:
            found[name] += gradient
    return found


@contextmanager
def _undone(model: nn.Module) -> Iterator[None]:
    """Afterwards buffers, such as means of batch normalisation, and random numbers are what they were."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    device = next(model.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
    with torch.no_grad():
        for buffer, was in before:
            buffer.copy_(was)
