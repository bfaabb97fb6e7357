"""Conformance: what an implementation of linear CKA must satisfy, and which packages do.

    pip install --group bench
    python benchmarks/table.py conformance                          # makes book/conformance.md anew
    python benchmarks/conformance.py my_module:my_cka               # a function of two tensors of one's own
    python benchmarks/conformance.py my_module:my_cka --networks    # of two networks, a loader and two layers
    python benchmarks/conformance.py my_module:my_cka --biased      # that documents the biased estimator

For a function of one's own it ends with 1 if a requirement (`cka_requirements.py`) is not satisfied.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from cka_requirements import (
    DRAWS,
    REQUIREMENTS,
    SIZES,
    WIDTH,
    Adapter,
    Estimator,
    NotOffered,
    Outcome,
    of_independent,
    outcome,
)
from torch.utils.data import DataLoader, TensorDataset

INTRODUCTION = """
Rows are requirements and columns are functions (listed below). ✓: the requirement is satisfied; a number:
the largest deviation from the required value; *reads*: what is returned where CKA is undefined; *error*:
the call fails; –: the interface does not allow the test. Returning 0 instead of 0/0 is a convention, but it
cannot be distinguished from unrelated layers.

Each function is called on a CPU as documented, with default options except for those listed below, and
compared with the estimator of {term}`HSIC` that is listed there: the unbiased HSIC₁ (N21, equation 3) or the
biased HSIC₀, with which linear CKA was originally defined {cite}`kornblith2019`. That is the one that its
documentation states or, where this names none, that its code takes. Included are the packages on PyPI that
compute linear CKA of arbitrary representations or PyTorch networks and had a release within two years (as
of 2026-11-27), and torch-cka of 2021. Not included: thingsvision 2.7.3, which requires NumPy 1 and
torchvision 0.15, and cka-analyzer and treplina, which support only one kind of language model.

```bash
pip install --group bench
python benchmarks/table.py conformance              # this page
python benchmarks/conformance.py my_module:my_cka   # a function of your own
```
"""

ADAPTERS: list[Adapter] = []


def adapter(package: str, call: str, **options: Any) -> Callable[[Callable[..., float]], Adapter]:
    """Add a function to the adapters."""

    def add(function: Callable[..., float]) -> Adapter:
        ADAPTERS.append(Adapter(package, call, function, **options))
        return ADAPTERS[-1]

    return add


@adapter("wsnlib", "similarity.cka")
def ours(x, y):
    """Its documentation says unbiased; the biased estimator is an option."""
    from wsnlib.similarity import cka

    return cka(x, y)


@adapter("wsnlib", "cka_matrices", networks=True)
def ours_of_networks(first, second, batches, layer, other):
    """Its documentation says unbiased."""
    from wsnlib import cka_matrices

    layers = {"first": [layer], "second": [other]}
    found = cka_matrices({"first": first, "second": second}, batches, layers=layers)
    return found["first", "second"].values[0, 0]


@adapter("pytorch-cka", "cka_from_features")
def pytorch_cka_of_features(x, y):
    """Its documentation names no estimator; the code takes the unbiased one and cuts the result to [0, 1],
    which moves the mean of values near 0.
    """
    from cka import cka_from_features

    return cka_from_features(x, y)


@adapter("pytorch-cka", "compute_cka", networks=True)
def pytorch_cka(first, second, batches, layer, other):
    """As `cka_from_features`, summed up over batches. Layers are kept by reference."""
    from cka import compute_cka

    options = {"layers": [layer], "model2_layers": [other], "device": "cpu", "progress": False}
    return compute_cka(first, second, batches, **options)[0]


@adapter("torch-cka", "CKA", networks=True)
def torch_cka(first, second, batches, layer, other):
    """Its documentation says unbiased (N21, equations 2 and 3). Layers are kept by reference, so that a
    later layer can overwrite them.
    """
    from torch_cka import CKA

    found = CKA(first, second, model1_layers=[layer], model2_layers=[other], device="cpu")
    with torch.no_grad():
        found.compare(batches)
    return found.export()["CKA"]


@adapter("cka-pytorch", "CKACalculator", networks=True)
def cka_pytorch(first, second, batches, layer, other):
    """Its documentation says unbiased. With its defaults: ten passes, and ε = 10⁻⁴ under the root of the
    denominator, which matters where activations are small.
    """
    from cka_pytorch.cka import CKACalculator

    found = CKACalculator(first, second, [layer], [other], device=torch.device("cpu"), verbose=False)
    return found.calculate_cka_matrix(batches)


@adapter("ckatorch", "cka_base")
def ckatorch_of_features(x, y):
    """Its documentation says biased by default; here with `unbiased=True`, which it offers."""
    from ckatorch import cka_base

    return cka_base(x, y, unbiased=True)


@adapter("ckatorch", "CKA", networks=True)
def ckatorch(first, second, batches, layer, other):
    """Its documentation says unbiased. An item of its loader is a minibatch of examples, so that all have
    one size; as in its example, eight items at a time, shuffled, and ten passes, of each of which the
    last eight count. Layers are kept by reference.
    """
    from ckatorch import CKA

    parts = [x for x, _ in batches]
    if len({len(x) for x in parts}) > 1:
        raise NotOffered
    shuffled = DataLoader(
        TensorDataset(torch.stack(parts)), 8, shuffle=True, generator=torch.Generator().manual_seed(0)
    )
    return CKA(first, second, layers=[layer], second_layers=[other])(shuffled)


@adapter("repsim", "cka, gretton", estimator="biased")
def repsim(x, y):
    """With its default, the biased estimator (`"gretton"`), and `kernel_type="linear"`."""
    from repsim import cka

    return cka([x.numpy(), y.numpy()], kernel_type="linear", estimator="gretton")[0, 1]


@adapter("repsim", "cka, song")
def repsim_song(x, y):
    """With the unbiased estimator of HSIC (`"song"`), which it offers; the code divides it by biased ones."""
    from repsim import cka

    return cka([x.numpy(), y.numpy()], kernel_type="linear", estimator="song")[0, 1]


@adapter("nngeom", "linear_cka", estimator="biased")
def nngeom(x, y):
    """Linear CKA as first defined (2019), which is the biased estimator; it reads arrays."""
    from nngeom.representations import linear_cka

    return linear_cka(x.numpy(), y.numpy())


@adapter("repralign", "linear_cka", estimator="biased")
def repralign(x, y):
    """Linear CKA as first defined (2019), which is the biased estimator."""
    from repralign.metrics.cka import linear_cka

    return linear_cka(x, y)


# -- the page --


def count(outcomes: Iterable[Outcome]) -> str:
    asked = [each.satisfied for each in outcomes if each.satisfied is not None]
    return f"{sum(asked)} of {len(asked)}"


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def page(found: dict[Adapter, dict[str, Outcome]]) -> Iterator[str]:
    """The parts of the page, by the outcomes of each adapter."""
    names = {cka: f"{cka.package} `{cka.call}`" for cka in found}
    for networks, title in ((False, "two tensors"), (True, "two networks and a loader")):
        chosen = {cka: outcomes for cka, outcomes in found.items() if cka.networks is networks}
        asked = [n for n in REQUIREMENTS if any(o[n].satisfied is not None for o in chosen.values())]
        if chosen:
            yield f"## Functions of {title}\n"
            yield table(
                ["requirement", *(" ".join([cka.package, *cka.call.split(", ")[1:]]) for cka in chosen)],
                [
                    ["version", *(version(cka) for cka in chosen)],
                    ["estimator", *("HSIC₁" if cka.estimator == "unbiased" else "HSIC₀" for cka in chosen)],
                    *([name, *(o[name].shown for o in chosen.values())] for name in asked),
                    ["**satisfied**", *(count(o.values()) for o in chosen.values())],
                ],
            )
    yield "## What they read on independent Gaussians\n"
    means = {cka: o["independent Gaussians"].readings for cka, o in found.items()}
    exact = [f"*{of_independent(n, 'biased'):.3f}*" for n in SIZES]
    yield table(
        [f"mean of {DRAWS} draws, {WIDTH} features", *(f"n = {n}" for n in SIZES)],
        [
            *(
                [names[cka], *(f"{round(r.found, 3) + 0:.3f}" for r in means[cka])]
                for cka in found
                if means[cka]
            ),
            ["*biased, exact*", *exact],
            ["*p / (n + p), of the expectations of HSIC₀*", *(f"*{WIDTH / (n + WIDTH):.3f}*" for n in SIZES)],
        ],
    )
    yield "## What is asked\n"
    for name, function in REQUIREMENTS.items():
        yield f"- **{name}**: {' '.join(function.__doc__.split())}"
    yield "\n## How each is called\n"
    for cka in found:
        yield f"- {names[cka]}: {' '.join((cka.function.__doc__ or 'it does not say').split())}"
    errors = [(cka, name, o.error) for cka in found for name, o in found[cka].items() if o.error]
    if errors:
        yield "\n## Errors\n"
    for cka, name, error in errors:
        yield f"- {names[cka]}, {name}: `{error}`"


def version(cka: Adapter) -> str:
    """Of its package, or nothing if none is installed under this name."""
    try:
        return importlib.metadata.version(cka.package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("own", nargs="?", metavar="MODULE:FUNCTION", help="by default, all packages")
    parser.add_argument(
        "--networks", action="store_true", help="it takes two networks, a loader and two layers"
    )
    parser.add_argument("--biased", action="store_true", help="it documents the biased estimator")
    given = parser.parse_args()
    here = Path(__file__).resolve().parent  # whose `cka.py` is not the package `cka`
    sys.path = [str(Path.cwd()), *(p for p in sys.path if Path(p).resolve() != here)]
    if given.own:
        module, _, name = given.own.partition(":")
        estimator: Estimator = "biased" if given.biased else "unbiased"
        function = getattr(importlib.import_module(module), name)
        adapters = [Adapter(module, name, function, given.networks, estimator)]
    else:
        print(INTRODUCTION.strip() + "\n")
        adapters = [cka for cka in ADAPTERS if version(cka)]
        if missing := {cka.package for cka in ADAPTERS} - {cka.package for cka in adapters}:
            print(f"Not installed, so not asked: {', '.join(sorted(missing))}.\n")
    found = {cka: {name: outcome(cka, name) for name in REQUIREMENTS} for cka in adapters}
    print("\n".join(page(found)))
    if given.own and any(each.satisfied is False for each in found[adapters[0]].values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
