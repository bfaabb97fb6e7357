"""What an implementation of CKA must satisfy: ours does, and a fault fails what it should and nothing else."""

import functools
import importlib
import itertools
import math
import re
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))
conformance, suite = map(importlib.import_module, ("conformance", "cka_requirements"))
sys.path.pop(0)

VALUES = {"definition", "float32", "float64"}  # held against the definition
BATCHES = {"mini-batches", "mini-batches, full data", "odd last batch", "last batch too small"}


def unbiased(x, y):
    return suite.reference(x, y, "unbiased")


# -- the reference --


def test_the_reference_is_the_mean_of_its_kernel_over_all_4_tuples():
    x, y = suite.alike(7, 5, 3)
    k, other = (v.double() @ v.double().T for v in (x, y))

    def mean(a, b):  # Song et al. (2012), Theorem 3
        tuples = list(itertools.permutations(range(7), 4))
        return sum(float(a[i, j] * (b[i, j] + b[q, r] - 2 * b[i, q])) for i, j, q, r in tuples) / len(tuples)

    expected = [mean(k, other), mean(k, k), mean(other, other)]
    assert suite.sums(x, y, "unbiased").tolist() == pytest.approx(expected, rel=1e-10)
    assert unbiased(x, y) == pytest.approx(expected[0] / math.sqrt(expected[1] * expected[2]), rel=1e-10)


def test_the_biased_reference_is_that_of_centring_matrices():
    x, y = suite.alike(7, 5, 3)
    h = torch.eye(7, dtype=torch.float64) - 1 / 7
    k, other = (v.double() @ v.double().T for v in (x, y))
    hsic = [torch.trace(a @ h @ b @ h) / 36 for a, b in ((k, other), (k, k), (other, other))]
    assert torch.allclose(suite.sums(x, y, "biased"), torch.stack(hsic))


def test_the_biased_estimator_reads_near_p_by_n_and_p_of_independent_gaussians():
    for n in suite.SIZES:
        assert suite.of_independent(n, "biased") == pytest.approx(suite.WIDTH / (n + suite.WIDTH), rel=0.02)
    assert suite.of_independent(64, "unbiased") == 0


# -- ours --


@pytest.mark.parametrize(
    ("call", "not_offered", "short"),
    [
        ("similarity.cka", BATCHES | {"in-place ReLU"}, set()),
        ("cka_matrices", set(), set()),
    ],
)
def test_ours(call, not_offered, short):
    cka = next(c for c in conformance.ADAPTERS if (c.package, c.call) == ("wsnlib", call))
    outcomes = {name: suite.outcome(cka, name).satisfied for name in suite.REQUIREMENTS}
    assert {name for name, satisfied in outcomes.items() if satisfied is None} == not_offered
    assert {name for name, satisfied in outcomes.items() if satisfied is False} == short


# -- faults --


def failed(function, **options) -> set[str]:
    cka = suite.Adapter("a package", "a function", function, **options)
    return {name for name in suite.REQUIREMENTS if suite.outcome(cka, name).satisfied is False}


def test_what_is_right_fails_nothing():
    assert failed(unbiased) == set()
    assert failed(lambda x, y: suite.reference(x, y, "biased"), estimator="biased") == set()
    assert failed(through_hooks, networks=True) == set()


def of_grams(k, other):
    hsic = [suite.unbiased_hsic(a, b) for a, b in ((k, other), (k, k), (other, other))]
    return suite.ratio(torch.stack(hsic))


def uncentred(x, y):
    k, other = (v.double() @ v.double().T for v in (x, y))
    return (k * other).sum() / (k.norm() * other.norm())


def with_epsilon(x, y):
    hsic = suite.sums(x, y, "unbiased")
    return hsic[0] / (hsic[1] * hsic[2] + 1e-4).sqrt()


@pytest.mark.parametrize(
    ("function", "fails"),
    [
        pytest.param(
            lambda x, y: suite.reference(x, y, "biased"),
            VALUES | {"independent Gaussians"},
            id="biased, said to be unbiased",
        ),
        pytest.param(
            lambda x, y: max(unbiased(x, y), 0), {"independent Gaussians"}, id="negative values cut off"
        ),
        pytest.param(
            uncentred,
            VALUES | {"independent Gaussians", "translation", "constant layer", "far from 0"},
            id="not centred",
        ),
        pytest.param(  # 100 more in all features is the same for all of them
            lambda x, y: unbiased(x.T, y.T),
            VALUES | {"orthogonal maps", "translation", "symmetry", "constant layer"},
            id="transposed",
        ),
        pytest.param(
            lambda x, y: unbiased(x, y.roll(1, 0)),
            VALUES | {"order of examples", "symmetry", "diagonal"},
            id="other examples",
        ),
        pytest.param(  # which ends at 65,504
            lambda x, y: of_grams(*((v.half() @ v.half().T).double() for v in (x, y))),
            {"float32", "float64", "isotropic scale", "far from 0"},
            id="float16",
        ),
        pytest.param(lambda x, y: torch.tensor(unbiased(x, y)).float(), {"float64"}, id="float32"),
        pytest.param(
            with_epsilon, {"isotropic scale", "dead layer", "constant layer"}, id="an epsilon under the root"
        ),
    ],
)
def test_a_fault_fails_what_it_should(function, fails):
    assert failed(function) == fails


def through_hooks(first, second, batches, layer, other, *, keep=torch.Tensor.clone, combine=sum):
    """CKA of layers read by hooks that `keep` them, of the sums over batches that are to `combine`."""
    kept, parts = {}, []
    for key, network, name in (("first", first, layer), ("second", second, other)):
        network.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, key=key: kept.__setitem__(key, keep(output))
        )
    with torch.no_grad():
        for x, _ in batches:
            first(x), second(x)
            parts.append(suite.sums(kept["first"], kept["second"], "unbiased"))
    return suite.ratio(combine(parts))


def mean_of_ratios(parts):
    values = torch.tensor([suite.ratio(part) for part in parts], dtype=torch.float64)
    return torch.stack([values.mean(), torch.ones(()), torch.ones(())])


@pytest.mark.parametrize(
    ("options", "fails"),
    [
        pytest.param({"keep": torch.Tensor.detach}, {"in-place ReLU"}, id="layers kept by reference"),
        pytest.param(
            {"combine": mean_of_ratios}, {"mini-batches", "odd last batch"}, id="the mean of the batches' CKA"
        ),
        pytest.param(
            {"combine": lambda parts: parts[-1]},
            {"mini-batches", "mini-batches, full data", "odd last batch"},
            id="the last batch alone",
        ),
        pytest.param(
            {"combine": lambda parts: sum(parts[:-1] or parts)},
            {"mini-batches", "odd last batch"},
            id="without the last batch",
        ),
        pytest.param(
            {"combine": lambda parts: sum(map(torch.nan_to_num, parts[:-1])) + parts[-1].nan_to_num(1, 1, 1)},
            {"last batch too small"},
            id="0/0 taken for a number",
        ),
    ],
)
def test_a_fault_in_batches_or_hooks_fails_what_it_should(options, fails, monkeypatch):
    monkeypatch.setattr(suite, "DRAWS", 10)
    assert failed(functools.partial(through_hooks, **options), networks=True) == fails


# -- the command and the page --


def test_a_function_of_ones_own(tmp_path, monkeypatch, capsys):
    (tmp_path / "of_mine.py").write_text(
        "from wsnlib.similarity import cka\n\n\ndef biased(x, y):\n    return cka(x, y, estimator='biased')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", ["conformance.py", "of_mine:biased"])
    with pytest.raises(SystemExit, match="1"):
        conformance.main()
    page = capsys.readouterr().out
    assert re.search(r"\| definition \| 0\.\d+ \|", page) and "| orthogonal maps | ✓ |" in page
    assert "| **satisfied** | 9 of 13 |" in page
    sys.argv.append("--biased")
    conformance.main()
    assert "| **satisfied** | 13 of 13 |" in capsys.readouterr().out


def test_the_page_is_of_these_requirements_and_functions():
    page = (ROOT / "book" / "conformance.md").read_text()
    assert conformance.INTRODUCTION.strip() in page
    for name, function in suite.REQUIREMENTS.items():
        assert f"\n| {name} | " in page and f"\n- **{name}**: {' '.join(function.__doc__.split())}\n" in page
    for cka in conformance.ADAPTERS:
        assert f"\n- {cka.package} `{cka.call}`: {' '.join(cka.function.__doc__.split())}\n" in page
