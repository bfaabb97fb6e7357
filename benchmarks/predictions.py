"""Three logistic models of populations of networks: without a design matrix against statsmodels.

    python benchmarks/predictions.py [--networks 200] [--examples 10000]

statsmodels gets two forms at a size that it can do: a row for every prediction, as in the paper's
formulas, and its best, a row for every example and architecture (grouped binomials, whose AIC lacks a
constant that is added here). Both get the design matrix ready-made. All times are of this run, on
this machine; peak memory is that of Python's allocator.
"""

from __future__ import annotations

import argparse
import os
import time
import tracemalloc
import warnings
from collections.abc import Callable

import numpy as np
import statsmodels.api as sm
from scipy import special

import wsnlib as wsn
from wsnlib.predictions import logistic

CLASSES = 10
SMALL = {"networks": 20, "examples": 100}


def populations(
    networks: int, examples: int
) -> tuple[wsn.predictions.Population, wsn.predictions.Population]:
    """Two populations, half of the networks each, of accuracies as on CIFAR-10: most examples are certain."""
    rng = np.random.default_rng(0)
    labels = np.arange(examples) % CLASSES
    p = rng.beta(6, 0.5, examples)
    q = special.expit(special.logit(p) + rng.normal(0, 0.3, examples) + 0.2 * (labels < 3))
    options = {"networks": networks // 2, "labels": labels, "num_classes": CLASSES, "spread": 0.05}
    return (
        wsn.predictions.simulate_population(p, name="wide", **options),
        wsn.predictions.simulate_population(q, name="deep", seed=1, **options),
    )


def fits(a: wsn.predictions.Population, b: wsn.predictions.Population) -> np.ndarray:
    """AIC of the three models."""
    labels, n = a.labels, a.num_examples
    found = logistic._three_fits(a.counts, b.counts, (len(a), len(b)), labels)
    return 2 * np.array([n + 1, n + CLASSES, 2 * n]) - 2 * found.log_likelihoods


def designs(a: wsn.predictions.Population) -> list[np.ndarray]:
    """Columns of A, B and C for a row an example and architecture."""
    examples = np.tile(np.eye(a.num_examples), (2, 1))
    second = np.repeat([0.0, 1.0], a.num_examples)[:, None]
    by_class = np.tile(np.eye(CLASSES)[a.labels], (2, 1)) * second
    return [np.hstack([examples, effects]) for effects in (second, by_class, examples * second)]


def by_statsmodels(
    a: wsn.predictions.Population, b: wsn.predictions.Population, *, grouped: bool
) -> np.ndarray:
    """AIC of the three models from statsmodels."""
    counts = np.concatenate([a.counts, b.counts])
    totals = np.repeat([len(a), len(b)], a.num_examples)
    single = np.concatenate([a.correct.T.ravel(), b.correct.T.ravel()]).astype(float)
    constant = 0.0 if not grouped else 2 * np.sum(np.log(special.binom(totals, counts)))
    found = []
    for design in designs(a):
        rows = (np.column_stack([counts, totals - counts]), design)
        if not grouped:
            rows = (single, np.repeat(design, totals, axis=0))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # perfect separation
            fit = sm.GLM(*rows, family=sm.families.Binomial()).fit(maxiter=40, tol=1e-10)
        found.append(fit.aic + constant)
    return np.array(found)


def timed(call: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    """Seconds and result of a call."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=200)
    parser.add_argument("--examples", type=int, default=10_000)
    options = parser.parse_args()

    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    a, b = populations(**SMALL)
    fits(a, b)
    repeats = 20
    ours, aic = timed(lambda: [fits(a, b) for _ in range(repeats)][-1])
    print(f"{SMALL['networks']} networks, {SMALL['examples']} examples: {1000 * ours / repeats:.2f} ms")
    for grouped in (False, True):
        seconds, theirs = timed(lambda grouped=grouped: by_statsmodels(a, b, grouped=grouped))
        error = np.max(np.abs(theirs / aic - 1))
        rows = "a row an example and architecture" if grouped else "a row a prediction"
        ratio = seconds / (ours / repeats)
        print(f"  statsmodels, {rows}: {seconds:.2f} s, {ratio:,.0f} times ours; AIC differs by {error:.0e}")

    a, b = populations(options.networks, options.examples)
    start = time.perf_counter()
    fits(a, b)
    print(f"{options.networks} networks, {options.examples:,} examples, three models:", end=" ")
    print(f"{time.perf_counter() - start:.2f} s with counting")
    tracemalloc.start()
    fits(a, b)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(
        f"  peak memory of the fits: {peak / 2**20:.1f} MiB, {peak / options.examples:.0f} bytes an example"
    )
    for name, call in {
        "logistic_models, 199 permutations, jackknife": lambda: wsn.predictions.logistic_models(a, b),
        "dispersion, 9,999 permutations": lambda: wsn.predictions.dispersion(a, b),
        "error consistency, 199 resamples, 9,999 permutations": lambda: wsn.predictions.consistency_table(
            [a, b]
        ),
    }.items():
        print(f"  {name}: {timed(call)[0]:.2f} s")


if __name__ == "__main__":
    main()
