"""What an implementation of linear CKA must satisfy.

A requirement is a generator of readings of one adapter: what was found, and what must be. An adapter is a
function of two representations (n, p) and (n, q) of the same n examples that gives one number; where a
package reads only networks, of two networks, a loader of (input, label) and the names of a layer of each.
Such a one is also asked for representations: those of networks that look them up.
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

Estimator = Literal["unbiased", "biased"]
TOLERANCE = 1e-4  # of numbers that are read to three digits
SIZES, WIDTH, DRAWS = (32, 64, 128, 256), 8, 100  # of independent Gaussians


class NotOffered(Exception):
    """The interface has no way to say this."""


# -- what must be ---------------------------------------------------------------------------------


def unbiased_hsic(k: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Song et al. (2012), equation 5."""
    n = len(k)
    k, other = (gram - gram.diagonal().diag() for gram in (k, other))
    cross = k.sum() * other.sum() / ((n - 1) * (n - 2)) - 2 * (k.sum(0) @ other.sum(0)) / (n - 2)
    return ((k * other).sum() + cross) / (n * (n - 3))


def biased_hsic(k: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Kornblith et al. (2019), equation 3, of Gram matrices of centred features."""
    return (k * other).sum() / (len(k) - 1) ** 2


def sums(x: torch.Tensor, y: torch.Tensor, estimator: Estimator) -> torch.Tensor:
    """HSIC(K, L), HSIC(K, K) and HSIC(L, L) by their textbook formulas in float64, from centred features."""
    k, other = (z @ z.T for z in (v.double() - v.double().mean(0) for v in (x, y)))
    hsic = unbiased_hsic if estimator == "unbiased" else biased_hsic
    return torch.stack([hsic(k, other), hsic(k, k), hsic(other, other)])


def ratio(hsic: torch.Tensor) -> float:
    """CKA of such sums."""
    return float(hsic[0] / (hsic[1] * hsic[2]).sqrt())


def reference(x: torch.Tensor, y: torch.Tensor, estimator: Estimator) -> float:
    """CKA of two representations of all examples."""
    return ratio(sums(x, y, estimator))


def of_batches(
    x: torch.Tensor, y: torch.Tensor, batches: Iterable[torch.Tensor], estimator: Estimator
) -> list[float]:
    """N21, equation 2, over these batches: weighed equally, and by n(n − 3) as in its released code."""
    parts = [(len(rows), sums(x[rows], y[rows], estimator)) for rows in batches]
    return [ratio(sum(h for _, h in parts)), ratio(sum(n * (n - 3) * h for n, h in parts))]


@functools.cache
def of_independent(n: int, estimator: Estimator, width: int = WIDTH) -> float:
    """E[CKA] of independent Gaussian representations (n, width).

    Unbiased: 0, since permuting the examples of one changes nothing. Biased: (E[tr K / ‖K‖])² / (n − 1) for
    centred Gram matrices K, since rotating them changes nothing; here the mean over 4,000 draws.
    """
    if estimator == "unbiased":
        return 0.0
    x = torch.randn(4000, n - 1, width, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    gram = x.mT @ x
    means = gram.diagonal(dim1=1, dim2=2).sum(1) / gram.square().sum((1, 2)).sqrt()
    return float(means.mean() ** 2 / (n - 1))


# -- an adapter -------------------------------------------------------------------------------------


class Lookup(nn.Module):
    """A network whose one layer gives row i of a table for input i, and which notes the rows asked for."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(table, requires_grad=False)
        self.layer = nn.Identity()
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x[..., 0].long()
        self.seen += rows.reshape(-1, rows.shape[-1])
        return self.layer(self.table[rows])


def loader(inputs: torch.Tensor, batch_size: int) -> DataLoader:
    """Batches of (input, label) in order."""
    return DataLoader(TensorDataset(inputs, torch.zeros(len(inputs))), batch_size=batch_size)


@dataclass(frozen=True)
class Adapter:
    """One function of a package, as its documentation calls it."""

    package: str
    call: str
    function: Callable[..., float]
    networks: bool = False
    estimator: Estimator = "unbiased"

    def __call__(self, x: torch.Tensor, y: torch.Tensor) -> float:
        """CKA of two representations."""
        if not self.networks:
            return float(self.function(x, y))
        return self.over(x, y, len(x))[0]

    def over(self, x: torch.Tensor, y: torch.Tensor, batch_size: int) -> tuple[float, list[torch.Tensor]]:
        """CKA by batches, and the rows in each of the last pass."""
        first = Lookup(x)
        second = first if y is x else Lookup(y)
        batches = loader(torch.arange(float(len(x)))[:, None], batch_size)
        return self.of_networks(first, second, batches, "layer", "layer"), first.seen[-len(batches) :]

    def of_networks(self, *arguments: Any) -> float:
        """CKA of a layer of one network with one of another."""
        if not self.networks:
            raise NotOffered
        return float(self.function(*arguments))


# -- requirements ---------------------------------------------------------------------------------


class Reading(NamedTuple):
    """One number and what it must be; NaN stands for undefined, and for a refusal to answer."""

    found: float
    must: float
    tolerance: float = TOLERANCE

    @property
    def holds(self) -> bool:
        if math.isnan(self.must):
            return math.isnan(self.found)
        return abs(self.found - self.must) <= self.tolerance


Requirement = Callable[[Adapter], Iterator[Reading]]
REQUIREMENTS: dict[str, Requirement] = {}


def requirement(name: str) -> Callable[[Requirement], Requirement]:
    """Add a generator to the requirements."""

    def add(function: Requirement) -> Requirement:
        REQUIREMENTS[name] = function
        return function

    return add


def normal(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def alike(n: int = 61, p: int = 13, q: int = 13) -> tuple[torch.Tensor, torch.Tensor]:
    """Two representations with something in common: what is one of the other, plus noise."""
    x = normal(0, n, p)
    return x, x @ normal(1, p, q) / p**0.5 + 0.5 * normal(2, n, q)


def rotation(p: int, seed: int) -> torch.Tensor:
    return torch.linalg.qr(normal(seed, p, p, dtype=torch.float64))[0].float()


def or_refused(call: Callable[[], float]) -> float:
    try:
        return call()
    except NotOffered:
        raise
    except Exception:
        return math.nan


@requirement("definition")
def definition(cka: Adapter) -> Iterator[Reading]:
    """The value of the definition, computed term by term in float64, for 61 examples with 13 features each,
    and for 7 examples with 5 and 3.
    """
    for x, y in (alike(), alike(7, 5, 3)):
        yield Reading(cka(x, y), reference(x, y, cka.estimator))


@requirement("orthogonal maps")
def orthogonal(cka: Adapter) -> Iterator[Reading]:
    """CKA(XQ, YR) = CKA(X, Y) for orthogonal Q and R."""
    x, y = alike()
    yield Reading(cka(x @ rotation(13, 3), y @ rotation(13, 4)), cka(x, y))


@requirement("isotropic scale")
def scale(cka: Adapter) -> Iterator[Reading]:
    """CKA(aX, Y) = CKA(aX, aY) = CKA(X, Y) for a = 0.001 and 1000."""
    x, y = alike()
    for a in (1e-3, 1e3):
        yield Reading(cka(a * x, y), cka(x, y))
        yield Reading(cka(a * x, a * y), cka(x, y))


@requirement("translation")
def translation(cka: Adapter) -> Iterator[Reading]:
    """CKA(X + 1cᵀ, Y + 1dᵀ) = CKA(X, Y) for arbitrary vectors c and d."""
    x, y = alike()
    yield Reading(cka(x + normal(3, 13), y + normal(4, 13)), cka(x, y))


@requirement("order of examples")
def order(cka: Adapter) -> Iterator[Reading]:
    """Another order of the examples, the same in both, changes nothing."""
    x, y = alike()
    rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(3))
    yield Reading(cka(x[rows], y[rows]), cka(x, y))


@requirement("symmetry")
def symmetry(cka: Adapter) -> Iterator[Reading]:
    """CKA(X, Y) = CKA(Y, X), for equal and for different widths."""
    for x, y in (alike(), alike(61, 13, 5)):
        yield Reading(cka(x, y), cka(y, x))


@requirement("diagonal")
def diagonal(cka: Adapter) -> Iterator[Reading]:
    """CKA(X, X) = 1, of one network with itself and of two that give the same."""
    x, _ = alike()
    yield Reading(cka(x, x), 1)
    yield Reading(cka(x, x.clone()), 1)


@requirement("independent Gaussians")
def independent(cka: Adapter) -> Iterator[Reading]:
    """E[CKA] of independent Gaussians, of 8 features each and n = 32, 64, 128 and 256 examples: 0, or what
    the biased estimator gives. The mean of 100 draws, within four of its standard errors.
    """
    for n in SIZES:
        draws = [normal(10_000 * n + seed, 2, n, WIDTH) for seed in range(DRAWS)]
        found = torch.tensor([cka(x, y) for x, y in draws], dtype=torch.float64)
        yield Reading(
            float(found.mean()), of_independent(n, cka.estimator), 4 * float(found.std()) / DRAWS**0.5
        )


@requirement("dead layer")
def dead(cka: Adapter) -> Iterator[Reading]:
    """CKA with a layer that is 0 for every example is 0/0: NaN, or refused."""
    x, y = alike()
    yield Reading(or_refused(lambda: cka(torch.zeros_like(x), y)), math.nan)


@requirement("constant layer")
def constant(cka: Adapter) -> Iterator[Reading]:
    """The same for a layer that gives every example the same row, whose differences from its mean are
    rounding.
    """
    x, y = alike()
    yield Reading(or_refused(lambda: cka(normal(3, 13).expand_as(x).contiguous(), y)), math.nan)


@requirement("far from 0")
def far(cka: Adapter) -> Iterator[Reading]:
    """Activations 100 standard deviations from 0, in float32: the value of the same ones moved back to 0."""
    x, y = (v + 100 for v in alike())
    yield Reading(cka(x, y), cka(x - 100, y - 100))  # which is exact


def deep(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Layers 1 and 10 of a random ReLU network of width 256, of 256 examples: positive, and far from 0."""
    found = [normal(0, 256, 256, dtype=dtype)]
    for layer in range(1, 11):
        found.append((found[-1] @ normal(layer, 256, 256, dtype=dtype) * (2 / 256) ** 0.5).relu())
    return found[1], found[10]


@requirement("float32")
def single(cka: Adapter) -> Iterator[Reading]:
    """Layers 1 and 10 of a random ReLU network of width 256 in float32: the value that float64 gives for the
    same numbers, to 10⁻⁵, a hundred roundings. (Gram matrices in float16 are off by 6 · 10⁻⁵.)
    """
    x, y = deep(torch.float32)
    yield Reading(cka(x, y), reference(x, y, cka.estimator), 1e-5)


@requirement("float64")
def double(cka: Adapter) -> Iterator[Reading]:
    """The same in float64, to 10⁻⁹. (A result that is kept in float32 is off by up to 4 · 10⁻⁸.)"""
    x, y = deep(torch.float64)
    yield Reading(cka(x, y), reference(x, y, cka.estimator), 1e-9)


@requirement("mini-batches")
def batches(cka: Adapter) -> Iterator[Reading]:
    """1,024 examples in batches of 16: equation 2 of N21 over the batches that the network saw."""
    x, y = alike(1024)
    found, seen = cka.over(x, y, 16)
    yield Reading(found, of_batches(x, y, seen, cka.estimator)[0])


@requirement("mini-batches, full data")
def full(cka: Adapter) -> Iterator[Reading]:
    """The same is near CKA of all 1,024 at once, within 0.02."""
    x, y = alike(1024)
    yield Reading(cka.over(x, y, 16)[0], cka.over(x, y, len(x))[0], 0.02)


def nearest(found: float, candidates: list[float]) -> Reading:
    return min((Reading(found, must) for must in candidates), key=lambda reading: not reading.holds)


@requirement("odd last batch")
def odd(cka: Adapter) -> Iterator[Reading]:
    """37 examples in batches of 16, the last of 5: equation 2, or as its released code weighs it, by n(n −
    3).
    """
    x, y = alike(37)
    found, seen = cka.over(x, y, 16)
    yield nearest(found, of_batches(x, y, seen, cka.estimator))


@requirement("last batch too small")
def small(cka: Adapter) -> Iterator[Reading]:
    """33 or 35 examples in batches of 16, the last of 1 or 3, of which HSIC₁ is undefined: refused, NaN, or
    left out.
    """
    for n in (33, 35):
        x, y = alike(n)
        found = or_refused(lambda x=x, y=y: cka.over(x, y, 16)[0])
        whole = torch.arange(32).split(16)
        yield nearest(found, [math.nan, *of_batches(x, y, whole, cka.estimator)])


@requirement("in-place ReLU")
def in_place(cka: Adapter) -> Iterator[Reading]:
    """A layer whose output is overwritten by an in-place ReLU, and the layer after it: the value of what each
    gave when it ran.
    """
    inputs = normal(0, 64, 16)
    first, last = nn.Linear(16, 32), nn.Linear(32, 8)
    with torch.no_grad():
        for seed, weight in enumerate((first.weight, first.bias, last.weight, last.bias)):
            weight.copy_(normal(seed, *weight.shape))
        before = first(inputs)
        after = last(before.relu())
    network = nn.Sequential(first, nn.ReLU(inplace=True), last)
    found = cka.of_networks(network, network, loader(inputs, 64), "0", "2")
    yield Reading(found, reference(before, after, cka.estimator))


# -- who satisfies what ---------------------------------------------------------------------------


class Outcome(NamedTuple):
    """Of one requirement for one adapter."""

    satisfied: bool | None  # None if it cannot be asked
    readings: list[Reading]
    error: str = ""

    @property
    def shown(self) -> str:
        if self.satisfied is None:
            return "–"
        if self.error:
            return "error"
        if self.satisfied:
            return "✓"
        bad = [r for r in self.readings if not r.holds]
        if any(math.isnan(r.must) for r in bad):
            return f"reads {round(bad[0].found, 3) + 0:g}"
        if any(math.isnan(r.found) for r in bad):
            return "NaN"
        return f"{max(abs(r.found - r.must) for r in bad):.2g}"


def outcome(cka: Adapter, name: str) -> Outcome:
    """Hold an adapter against one requirement."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            readings = list(REQUIREMENTS[name](cka))
        except NotOffered:
            return Outcome(None, [])
        except Exception as error:
            words = " ".join(str(error).split())
            return Outcome(False, [], f"{type(error).__name__}: {words[:120]}")
    return Outcome(all(reading.holds for reading in readings), readings)
