"""HSIC and CKA: definitions, invariances, accuracy in float32, sums over batches, blocks, errors."""

import contextlib
import itertools
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import wsnlib as wsn
from wsnlib import similarity
from wsnlib.similarity import blocks, constructed, hsic, minibatch
from wsnlib.timings import cpu_threads


def normal(seed: int, *shape: int, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def textbook_hsic1(k: torch.Tensor, other: torch.Tensor) -> float:
    """N21, equation (3), term by term."""
    n = len(k)
    k, other = (m - torch.diag(m.diagonal()) for m in (k, other))
    one = torch.ones(n, dtype=k.dtype)
    whole = (one @ k @ one) * (one @ other @ one) / ((n - 1) * (n - 2))
    return float((torch.trace(k @ other) + whole - 2 * (one @ k @ other @ one) / (n - 2)) / (n * (n - 3)))


def textbook_cka(x: torch.Tensor, y: torch.Tensor) -> float:
    k, other = (v.double().flatten(1) - v.double().flatten(1).mean(0) for v in (x, y))
    k, other = k @ k.T, other @ other.T
    return textbook_hsic1(k, other) / math.sqrt(textbook_hsic1(k, k) * textbook_hsic1(other, other))


# -- definitions --


def test_hsic1_is_the_average_of_its_kernel_over_all_4_tuples():
    k, other = (x @ x.T for x in (normal(0, 6, 3), normal(1, 6, 2) ** 2))
    total = 0.0
    for i, j, q, r in itertools.permutations(range(6), 4):
        # Song et al. (2012), Theorem 3: the kernel, averaged over the orders of a 4-tuple
        total += k[i, j] * (other[i, j] + other[q, r] - 2 * other[i, q])
    assert wsn.similarity.hsic1(k, other).item() == pytest.approx(float(total) / (6 * 5 * 4 * 3), rel=1e-12)


@pytest.mark.parametrize("n", [4, 5, 17])
def test_hsic1_is_the_papers_equation_3(n):
    k, other = (x @ x.T for x in (normal(0, n, 3), normal(1, n, 7) ** 2))
    assert wsn.similarity.hsic1(k, other).item() == pytest.approx(textbook_hsic1(k, other), rel=1e-10)


def test_hsic0_is_the_trace_with_centring_matrices():
    n = 11
    k, other = (x @ x.T for x in (normal(0, n, 3), normal(1, n, 7)))
    h = torch.eye(n, dtype=torch.float64) - 1 / n
    expected = torch.trace(h @ k @ h @ h @ other @ h) / (n - 1) ** 2
    assert torch.allclose(wsn.similarity.hsic0(k, other), expected)


def test_hsic1_is_unbiased_and_hsic0_is_not():
    found = torch.zeros(400, 2, dtype=torch.float64)
    for trial in range(len(found)):
        k, other = (x @ x.T for x in (normal(2 * trial, 8, 5), normal(2 * trial + 1, 8, 5)))  # independent
        found[trial] = torch.stack([wsn.similarity.hsic1(k, other), wsn.similarity.hsic0(k, other)])
    error = found.std(0) / math.sqrt(len(found))
    assert abs(found[:, 0].mean()) < 3 * error[0]
    assert found[:, 1].mean() > 20 * error[1]


def test_a_u_centred_matrix_has_no_diagonal_and_rows_that_sum_to_0():
    gram = normal(0, 2, 3, 7, 5)
    centred = similarity.u_centred(gram @ gram.mT)
    assert not centred.diagonal(dim1=-2, dim2=-1).any()
    assert centred.sum(-1).abs().max() < 1e-12
    again = similarity.u_centred(centred)
    assert torch.allclose(again, centred)


def test_gram_matrices_are_not_changed():
    gram = normal(0, 5, 5)
    gram = gram @ gram.T
    before = gram.clone()
    wsn.similarity.hsic1(gram, gram), wsn.similarity.hsic0(gram, gram)
    assert torch.equal(gram, before)


# -- CKA --


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
def test_cka_is_invariant_to_rotation_scale_and_shift_and_sees_the_rest(estimator):
    x, y = normal(0, 23, 7), normal(1, 23, 5)
    rotation = torch.linalg.qr(normal(2, 7, 7))[0]
    value = wsn.cka(x, y, estimator=estimator)
    assert wsn.cka(x @ rotation, y, estimator=estimator) == pytest.approx(value, abs=1e-12)
    assert wsn.cka(-3 * x + 100 * normal(3, 7), y, estimator=estimator) == pytest.approx(value, abs=1e-11)
    assert wsn.cka(y, x, estimator=estimator) == pytest.approx(value, abs=1e-12)
    order = torch.randperm(23, generator=torch.Generator().manual_seed(4))
    assert wsn.cka(x[order], y[order], estimator=estimator) == pytest.approx(value, abs=1e-12)
    assert abs(wsn.cka(x[order], y, estimator=estimator) - value) > 1e-3  # other pairs of examples
    stretched = x * torch.tensor([9.0, 1, 1, 1, 1, 1, 1])  # not isotropic
    assert wsn.cka(x, stretched, estimator=estimator) < 0.9
    assert wsn.cka(x, x, estimator=estimator) == pytest.approx(1, abs=1e-12)


def test_cka_is_its_definition():
    x, y = normal(0, 19, 3, 5), normal(1, 19, 7) ** 2
    assert wsn.cka(x, y) == pytest.approx(textbook_cka(x, y), rel=1e-10)
    k, other = (v.flatten(1) @ v.flatten(1).T for v in (x, y))
    biased = (
        wsn.similarity.hsic0(k, other)
        / (wsn.similarity.hsic0(k, k) * wsn.similarity.hsic0(other, other)).sqrt()
    )
    assert wsn.cka(x, y, estimator="biased") == pytest.approx(biased.item(), rel=1e-10)


def test_only_the_biased_estimate_grows_with_the_number_of_features():
    unbiased = [wsn.cka(normal(i, 20, 900), normal(i + 50, 20, 900)) for i in range(20)]
    assert abs(np.mean(unbiased)) < 3 * np.std(unbiased) / math.sqrt(20)
    assert min(unbiased) < 0  # and is not cut off
    assert wsn.cka(normal(0, 20, 900), normal(50, 20, 900), estimator="biased") > 0.9


def test_cka_of_one_component_is_the_squared_cosine():
    u, v = (w - w.mean() for w in (normal(0, 31), normal(1, 31)))
    x, y = torch.outer(u, normal(2, 5)), torch.outer(v, normal(3, 7))
    cosine = torch.dot(u, v) / (u.norm() * v.norm())
    assert wsn.cka(x, y, estimator="biased") == pytest.approx(cosine.item() ** 2, rel=1e-9)  # N21, eq. (4)


# -- float32 --


def shifted_relu(seed: int, shift: float, n: int = 64) -> dict[str, torch.Tensor]:
    hidden = normal(seed, n, 40, dtype=torch.float32)
    layers = {}
    for layer in range(4):
        hidden = torch.relu(hidden @ normal(layer, 40, 40, dtype=torch.float32) / math.sqrt(20))
        layers[f"relu{layer}"] = (hidden + shift).unsqueeze(2).expand(-1, -1, 30).clone()
    return layers


@pytest.mark.parametrize("shift", [0, 3, 100, -3000])
def test_float32_is_accurate_where_activations_lie_far_from_0(shift):
    layers = shifted_relu(0, shift)
    sums = similarity.MinibatchCKA(list(layers))
    sums.update(layers)
    found = sums.matrix().values
    exact = np.array([[textbook_cka(x, y) for y in layers.values()] for x in layers.values()])
    assert np.abs(found - exact).max() < 1e-6


@pytest.mark.parametrize("scale", [1e-15, 1e12])
def test_no_scale_overflows_or_vanishes(scale):
    layers = shifted_relu(0, 1.0)
    sums, scaled = similarity.MinibatchCKA(list(layers)), similarity.MinibatchCKA(list(layers))
    sums.update(layers)
    scaled.update({name: x * scale for name, x in layers.items()})
    assert np.abs(sums.matrix().values - scaled.matrix().values).max() < 1e-5


def test_a_few_huge_examples_do_not_spoil_the_others():
    x = normal(0, 64, 300, dtype=torch.float32)
    x[3] *= 1000
    x[40] *= 300
    y = x + normal(1, 64, 300, dtype=torch.float32)
    sums = similarity.MinibatchCKA(["x", "y"])
    sums.update({"x": x, "y": y})
    assert sums.matrix().values[0, 1] == pytest.approx(textbook_cka(x, y), abs=1e-5)


@pytest.mark.parametrize("n", [4, 63, 64, 65, 130])
@pytest.mark.parametrize("p", [1, 4095, 4096, 8200])
def test_blocks_of_rows_and_columns_add_up(n, p):
    x = normal(0, n, p)
    gram = hsic._gram(x, x[:16].mean(0))
    moved = x - x[:16].mean(0)
    assert torch.allclose(gram, moved @ moved.T)
    assert torch.equal(gram, gram.T)


def test_the_layout_of_images_does_not_matter():
    x = normal(0, 9, 3, 5, 7, dtype=torch.float32)
    last = x.contiguous(memory_format=torch.channels_last)
    a, b = similarity.read_gram(x), similarity.read_gram(last)
    assert torch.allclose(a.vector, b.vector, atol=1e-6)


def test_half_precision_is_raised_and_autocast_is_off():
    layers = {name: x.bfloat16() for name, x in shifted_relu(0, 2.0).items()}
    exact = np.array([[textbook_cka(x, y) for y in layers.values()] for x in layers.values()])
    sums = similarity.MinibatchCKA(list(layers))
    single = similarity.MinibatchCKA(list(layers))
    with torch.autocast("cpu", torch.bfloat16):
        sums.update(layers)
        single.update({name: x.float() for name, x in layers.items()})
    assert np.abs(sums.matrix().values - exact).max() < 1e-6
    assert np.abs(single.matrix().values - exact).max() < 1e-6


@pytest.mark.parametrize("threads", [1, 2])
def test_representations_with_gradients_are_taken_without_them(threads):
    x = normal(0, 32, 5)
    layer = nn.Linear(5, 7)
    sums, detached = (similarity.MinibatchCKA(["a", "b"]) for _ in range(2))
    with cpu_threads(threads):
        sums.update({"a": x.float(), "b": layer(x.float())})
        detached.update({"a": x.float(), "b": layer(x.float()).detach()})
        assert (sums.matrix().values == detached.matrix().values).all()
        assert not any(kept.requires_grad for kept in sums._sums.values())


SETTINGS = """
pass
torch.set_float32_matmul_precision("medium")
b.cudnn.allow_tf32 = False
b.cuda.matmul.fp32_precision = "tf32"
b.cudnn.conv.fp32_precision = "ieee"
b.mkldnn.matmul.fp32_precision = "bf16"
b.fp32_precision = "tf32"
"""
EACH_IN_A_PROCESS = f"""
import os, torch, torch._dynamo, wsnlib as wsn  # what torch.optim would load in each of them
from torch import nn

b = torch.backends
units = [b.cuda.matmul, b.cudnn.conv, b.cudnn.rnn, b.mkldnn.matmul, b.mkldnn.conv, b.mkldnn.rnn]
digits = wsn.load_data(wsn.Digits(train_size=100))

class Flagged(nn.Flatten):
    def forward(self, x):
        if setting == "pass":
            with b.cudnn.flags(enabled=False):
                return super().forward(x)
        return super().forward(x)

for setting in {SETTINGS.strip().splitlines()}:
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0, setting
        continue
    exec(setting)
    before = [unit.fp32_precision for unit in units]
    try:
        with wsn.similarity.full_precision("cuda"):
            assert {{unit.fp32_precision for unit in units[:3]}} <= {{"ieee", "none"}}
            with wsn.similarity.full_precision("cpu"):
                assert {{unit.fp32_precision for unit in units}} <= {{"ieee", "none"}}
                if setting == "pass":
                    b.cudnn.flags(enabled=False).__enter__()
                raise KeyError
    except KeyError:
        assert [unit.fp32_precision for unit in units] == before
    net = nn.Sequential(nn.Conv2d(1, 16, 3), nn.Conv2d(16, 16, 3), Flagged(), nn.Linear(256, 10))
    assert wsn.layer_names(net, digits.train.images.float()) == ["0", "1", "2", "3"]
    wsn.train(net, digits, wsn.Training(epochs=1), seed=0)
    assert net[1].weight.is_contiguous(memory_format=torch.channels_last)
    os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="settings of a process are tried in a child each")
def test_full_precision_gives_back_what_was_set_by_either_interface_of_torch():
    done = subprocess.run(
        [sys.executable, "-c", EACH_IN_A_PROCESS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_without_its_first_component():
    u, v = normal(0, 21), normal(1, 13)
    rest = normal(2, 21, 13)
    x = rest + 50 * torch.outer(u, v)
    moved = x - x.mean(0)
    left, singular, right = torch.linalg.svd(moved, full_matrices=False)
    removed = moved - singular[0] * torch.outer(left[:, 0], right[0])
    found = similarity.read_gram(x, without_component=True)
    expected = similarity.read_gram(removed)
    assert torch.allclose(found.vector, expected.vector, atol=1e-9)
    assert torch.allclose(found.norm, expected.norm)


# -- sums over batches --


def batches(seed: int = 0, sizes=(16, 16, 7)) -> list[dict[str, torch.Tensor]]:
    made = []
    for i, n in enumerate(sizes):
        a = normal(seed + 10 * i, n, 5)
        made.append({"a": a, "b": a[:, :2] + normal(seed + 10 * i + 1, n, 2), "c": a.relu()})
    return made


def summed(given, *, pass_index: int = 0, **kwargs) -> similarity.MinibatchCKA:
    sums = similarity.MinibatchCKA(["a", "b", "c"], **kwargs)
    for batch in given:
        sums.update(batch, pass_index=pass_index)
    return sums


@pytest.mark.parametrize("weighting", ["released", "paper"])
def test_both_weightings_are_their_sums(weighting):
    def weigh(x, y, n):
        return textbook_hsic1(x @ x.T, y @ y.T) * (n * (n - 3) if weighting == "released" else 1)

    given = batches()
    hsic = np.array([[sum(weigh(g[a], g[b], len(g[a])) for g in given) for b in "abc"] for a in "abc"])
    expected = hsic / np.sqrt(np.outer(hsic.diagonal(), hsic.diagonal()))
    assert np.allclose(summed(given).matrix(weighting=weighting).values, expected, rtol=1e-10)


def test_the_last_batch_weighs_little_in_one_weighting():
    given = batches(sizes=(64, 64, 5))
    full, released, paper = (
        summed(given[:2]).matrix().values,
        summed(given).matrix().values,
        summed(given).matrix(weighting="paper").values,
    )
    assert np.abs(released - full).max() < 0.1 * np.abs(paper - full).max()


def test_sums_add_up_in_any_parts_and_survive_being_saved(tmp_path):
    given = batches()
    whole = summed(given).matrix()
    first, second = summed(given[:1]), summed(given[1:])
    torch.save(second.state(), tmp_path / "part.pt")
    second = similarity.MinibatchCKA.from_state(torch.load(tmp_path / "part.pt", weights_only=True))
    first.merge(second)
    assert first.num_batches == 3
    for weighting in ("released", "paper"):
        assert np.allclose(
            first.matrix(weighting=weighting).values,
            summed(given).matrix(weighting=weighting).values,
            rtol=1e-14,
        )
    assert np.allclose(first.matrix().values, whole.values, rtol=1e-14)
    assert second.num_batches == 2  # merging leaves the other as it was


def test_batches_of_one_pass_have_the_same_interval_in_any_parts():
    given = batches(sizes=(16,) * 37)
    pairs = ("a", "b"), ("a", "c")
    whole = summed(given)
    for first in (5, 12, 30):
        parts = summed(given[:first])
        parts.merge(summed(given[first:]))
        assert parts.difference(*pairs) == pytest.approx(whole.difference(*pairs), rel=1e-9)
        elsewhere = summed(given[:first])
        elsewhere.merge(summed(given[first:], pass_index=1))
        assert elsewhere.num_batches == 37 and len(elsewhere._groups) == min(first, len(whole._groups))


def test_a_state_is_a_copy():
    sums = summed(batches())
    state = sums.state()
    before = [s.clone() for s in state["sums"]]
    sums.update(batches()[0])
    assert all(torch.equal(a, b) for a, b in zip(state["sums"], before, strict=True))
    restored = similarity.MinibatchCKA.from_state(state)
    restored.update(batches()[0])
    assert all(torch.equal(a, b) for a, b in zip(state["sums"], before, strict=True))


def test_standard_errors_are_the_spread_over_passes():
    passes = [summed(batches(seed), pass_index=i) for i, seed in enumerate((0, 100, 200, 300))]
    each = np.array([p.matrix().values for p in passes])
    for other in passes[1:]:
        passes[0].merge(other)
    found = passes[0].matrix()
    assert np.allclose(found.standard_errors, each.std(0, ddof=1) / 2)
    assert np.isnan(summed(batches()).matrix().standard_errors).all()
    assert found.values.dtype == found.standard_errors.dtype == np.float64


def test_minibatches_converge_to_the_whole_data_set():
    """N21, Proposition 1."""
    n, size = 60, 12
    a = normal(0, n, 5)
    data = {"a": a, "b": a[:, :2] + 0.5 * normal(1, n, 2)}
    sums = similarity.MinibatchCKA(list(data))
    exact = textbook_cka(data["a"], data["b"])
    errors = []
    for index in range(400):
        order = torch.randperm(n, generator=torch.Generator().manual_seed(index))
        for part in order.split(size):
            sums.update({name: x[part] for name, x in data.items()}, pass_index=index)
        if index in (9, 399):
            found = sums.matrix()
            errors.append(found.standard_errors[0, 1])
            assert abs(found.values[0, 1] - exact) < 2.5 * errors[-1]
    assert errors[1] == pytest.approx(errors[0] / math.sqrt(40), rel=0.5)
    assert errors[1] < 0.005


def test_parts_of_a_matrix():
    whole = summed(batches()).matrix()
    part = whole.select(["c", "a"], ["b"])
    assert part.rows == ("c", "a") and part.columns == ("b",)
    assert part.values.tolist() == [[whole.values[2, 1]], [whole.values[0, 1]]]
    assert whole.select(["b", "c"]).values.tolist() == whole.values[1:, 1:].tolist()
    with pytest.raises(ValueError, match="'d' is not a layer of this matrix"):
        whole.select(["d"])


# -- what has no CKA --


CONSTANTS = {
    "zero": torch.zeros(20, 7),
    "dead bias": torch.full((20, 700), 0.1),
    "constant features": torch.linspace(-3, 100, 700).expand(20, 700),
    "rounding": 7.3 * (1 + 1e-7 * torch.randn(20, 700, generator=torch.Generator().manual_seed(0))),
    "equally far apart": torch.eye(20),
    "all but one alike": torch.eye(20)[:, :1],
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_constant_layer_is_named_and_has_no_number(name):
    x = normal(0, 20, 3, dtype=torch.float32)
    sums = similarity.MinibatchCKA(["moving", "still"])
    sums.update({"moving": x, "still": CONSTANTS[name]})
    with pytest.warns(RuntimeWarning, match="^still: constant over the examples .*, or all but one alike"):
        values = sums.matrix().values
    assert np.isnan(values[1]).all() and np.isnan(values[:, 1]).all() and values[0, 0] == 1
    if name != "rounding":  # which is real variation in float64
        with pytest.warns(RuntimeWarning, match="^y: constant"):
            assert math.isnan(wsn.cka(x, CONSTANTS[name]))
    if name not in ("rounding", "equally far apart", "all but one alike"):
        with pytest.warns(RuntimeWarning, match="^x: constant"):
            assert math.isnan(wsn.cka(CONSTANTS[name], x, estimator="biased"))


def test_a_layer_that_is_constant_in_one_batch_keeps_its_number():
    given = batches()
    given[1]["b"] = torch.full((16, 2), 0.3, dtype=torch.float64)
    values = summed(given).matrix().values
    assert np.isfinite(values).all()


def test_small_variation_on_a_large_constant_is_seen():
    x = normal(0, 30, 4, dtype=torch.float32)
    still = torch.cat([1e-3 * x, torch.full((30, 500), 1.0)], dim=1)
    sums = similarity.MinibatchCKA(["x", "still"])
    sums.update({"x": x, "still": still})
    assert sums.matrix().values[0, 1] == pytest.approx(1, abs=1e-5)


def test_a_layer_without_component_left_is_constant():
    x = torch.outer(normal(0, 9), normal(1, 4)).float()
    assert similarity.read_gram(x, without_component=True).norm == 0
    assert similarity.read_gram(x).norm > 0


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: wsn.cka(normal(0, 3, 2), normal(1, 3, 2)), "examples must be at least 4, got 3"),
        (
            lambda: wsn.cka(normal(0, 3, 2), normal(1, 3, 2), estimator="biased"),
            "examples must be at least 4, got 3",
        ),
        (
            lambda: wsn.cka(normal(0, 5, 2), normal(1, 6, 2)),
            "y must be of the examples of x, got 6 in place of 5",
        ),
        (
            lambda: wsn.similarity.hsic1(normal(0, 5, 5), normal(0, 6, 6)),
            r"must be of one size, got \(5, 5\) and \(6, 6\)",
        ),
        (
            lambda: wsn.similarity.hsic0(normal(0, 5, 5), normal(0, 6, 6)),
            r"must be of one size, got \(5, 5\) and \(6, 6\)",
        ),
        (
            lambda: wsn.similarity.hsic1(normal(0, 3, 3), normal(0, 3, 3)),
            "examples must be at least 4, got 3",
        ),
        (lambda: summed(batches(sizes=(3,))), "examples must be at least 4, got 3"),
        (
            lambda: wsn.cka(normal(0, 5, 2), normal(1, 5, 2), estimator="unbised"),
            "must be one of 'unbiased', 'biased', got 'unbised'",
        ),
        (
            lambda: summed([{"a": normal(0, 5, 2), "b": normal(1, 5, 2), "c": normal(0, 7, 2)}]),
            "c must be of the same examples as a, got 7 in place of 5",
        ),
        (lambda: summed([{"a": normal(0, 5, 2), "b": normal(1, 5, 2)}]), "'c' is not in both the batch"),
        (
            lambda: summed([{"a": normal(0, 5, 2), "b": normal(1, 5, 2) / 0, "c": normal(1, 5, 2)}]),
            "the representation of b or its Gram matrix is not finite",
        ),
        (lambda: summed([]).matrix(), "at least one batch must be added before"),
        (
            lambda: summed(batches()).matrix(weighting="equal"),
            "weighting must be one of 'released', 'paper', got 'equal'",
        ),
        (lambda: summed(batches()).merge(similarity.MinibatchCKA(["a", "d"])), "of other layers, such as d"),
        (lambda: summed(batches()).merge(similarity.MinibatchCKA("bac")), "the layers are in another order"),
        (
            lambda: summed(batches(), examples="one").merge(summed(batches(), examples="two")),
            "the sums must be of the examples 'one', got 'two'",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(act, message):
    with pytest.raises(ValueError, match=message):
        act()


# -- components and rotations --


def test_a_representation_is_taken_apart_into_its_component_and_the_rest():
    x = normal(0, 23, 5, 3, dtype=torch.float32) + 7
    found = similarity.decompose(x)
    flat = x.double().flatten(1)
    u, s, v = torch.linalg.svd(flat - flat.mean(0), full_matrices=False)
    assert found.share == pytest.approx(float(s[0] ** 2 / s.square().sum()), rel=1e-5)
    assert torch.allclose(found.direction.abs(), u[:, 0].abs(), atol=1e-5)
    assert found.direction[found.direction.abs().argmax()] > 0
    assert torch.allclose(found.whole.vector, similarity.read_gram(x).vector, atol=1e-6)
    without = (u[:, 1:] * s[1:]) @ v[1:]
    assert torch.allclose(found.rest.vector.double(), similarity.read_gram(without).vector, atol=1e-5)
    expected = similarity.read_gram(x, without_component=True)
    assert torch.allclose(found.rest.vector, expected.vector, atol=1e-5)
    assert torch.allclose(found.gram.double(), (flat - flat.mean(0)) @ (flat - flat.mean(0)).T, atol=1e-3)


def test_a_representation_that_does_not_vary_has_no_component():
    found = similarity.decompose(torch.full((7, 3), 5.0))
    assert found.whole.norm == 0 and math.isnan(found.share) and found.direction.isnan().all()


@pytest.mark.parametrize("n", [2, 3, 29])
def test_the_first_component_is_the_largest_eigenvector(n):
    x = normal(n, n, 41)
    value, vector = similarity.first_component(x @ x.T)
    assert float(value) == pytest.approx(float(torch.linalg.eigvalsh(x @ x.T)[-1]), rel=1e-12)
    assert torch.allclose(x @ x.T @ vector, value * vector, atol=1e-9)
    again = similarity.first_component(x @ x.T)
    assert torch.equal(vector, again[1])


def test_the_first_component_belongs_to_the_largest_eigenvalue_not_to_that_of_largest_magnitude():
    value, vector = similarity.first_component(torch.diag(torch.tensor([1.0, -3, 0.5, 0]).double()))
    assert float(value) == pytest.approx(1) and vector.abs().argmax() == 0


def test_a_matrix_of_zeros_and_one_that_is_not_finite_have_no_component():
    for gram in (torch.zeros(4, 4), torch.full((4, 4), math.nan)):
        value, vector = similarity.first_component(gram)
        assert value == 0 and vector.tolist() == [0] * 4


def test_tables_are_symmetric_where_a_product_of_matrices_is_not(monkeypatch):
    """As that of MKL with AVX2, whose sums have another order below the diagonal."""
    vectors = nn.functional.normalize(normal(0, 5, 40, dtype=torch.float32))
    odd = 1e-7 * normal(1, 5, 5, dtype=torch.float32)
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: torch.matmul(a, b) + odd)
    found = hsic.inner_products(vectors)
    assert torch.equal(found, found.T) and (found.diagonal() == 1).all()
    assert torch.allclose(found, torch.matmul(vectors.double(), vectors.double().T), atol=1e-6)


def test_cka_of_grams_is_hsic1_of_the_images_that_are_left():
    x, y = normal(0, 19, 5), normal(1, 19, 3) ** 2
    grams = torch.stack([similarity.centred(z @ z.T) for z in (x, y, torch.ones(19, 2))])
    left = torch.arange(4, 19)
    found = similarity.cka_of_grams(grams[:, left][:, :, left])
    assert found[0, 1] == pytest.approx(textbook_cka(x[left], y[left]), rel=1e-10)
    assert np.isnan(found[2]).all() and np.isnan(found[:, 2]).all() and found[1, 1] == 1


def test_bures_similarity_is_a_nuclear_norm_that_rotations_leave_as_it_is():
    x, y = (z - z.mean(0) for z in (normal(0, 17, 5), normal(1, 17, 3) ** 3))
    rotation = torch.linalg.qr(normal(2, 5, 5))[0]
    found = similarity.bures_of_grams(torch.stack([z @ z.T for z in (x, y, 3 * x @ rotation)]))
    expected = torch.linalg.svdvals(x.T @ y).sum() / (x.norm() * y.norm())
    assert found[0, 1] == found[1, 0] == pytest.approx(float(expected), rel=1e-6)
    assert found[0, 2] == pytest.approx(1, abs=1e-6)  # it adds up roots of rounding


# -- blocks --


def decay(layers: int, length: float) -> np.ndarray:
    depth = np.arange(layers)
    return np.exp(-np.abs(depth[:, None] - depth) / length)


def paced(pace: np.ndarray) -> np.ndarray:
    """CKA that decays with the distance along a depth whose pace changes."""
    depth = np.cumsum(pace)
    return np.exp(-np.abs(depth[:, None] - depth))


def noisy(values: np.ndarray, size: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, size, values.shape)
    made = values + (noise + noise.T) / 2**0.5
    np.fill_diagonal(made, 1)
    return made


def planted(*ranges: tuple[int, int], layers: int = 53, similarity: float = 0.93) -> np.ndarray:
    values = 0.3 + 0.4 * decay(layers, 9)
    for start, stop in ranges:
        values[start:stop, start:stop] = similarity
    return noisy(values, 0.02)


def found(values: np.ndarray, **kwargs) -> list[tuple[int, int]]:
    return [(block.start, block.stop) for block in wsn.similarity.block_structure(values, **kwargs).blocks]


@pytest.mark.parametrize(
    "blocks", [[(17, 41)], [(0, 20)], [(30, 53)], [(5, 17), (26, 47)], [(4, 16), (16, 40)]]
)
def test_planted_blocks_are_found_where_they_are(blocks):
    structure = wsn.similarity.block_structure(planted(*blocks))
    assert [(b.start, b.stop) for b in structure.blocks] == blocks
    for block in structure.blocks:
        assert block.similarity == pytest.approx(0.93, abs=0.02)
        assert block.p_value == 1 / 10_000
    assert structure.best in structure.blocks


def test_strength_is_similarity_minus_surroundings():
    values = planted((17, 41))
    block = wsn.similarity.block_structure(values).best
    inside, across = [], []
    for i, j in itertools.combinations(range(53), 2):
        members = (17 <= i < 41) + (17 <= j < 41)
        if members == 2 and j - i > 12:
            inside.append(values[i, j])
        if members == 1 and j - i <= 12:
            across.append(values[i, j])
    assert block.similarity == pytest.approx(np.mean(inside), rel=1e-12)
    assert block.strength == pytest.approx(np.mean(inside) - np.mean(across), rel=1e-10)


SMOOTH = {
    "fast": decay(53, 3),
    "slow": decay(53, 60),
    "linear": 1 - np.abs(np.subtract.outer(np.arange(53), np.arange(53))) / 53,
    "slower and slower": paced(1 / np.arange(4, 57)),
    "faster and faster": paced(np.linspace(0, 0.15, 53)),
    "slow in the middle": paced(0.1 - 0.06 * np.exp(-(((np.arange(53) - 26) / 8) ** 2))),
    "three times slower for a while": paced(np.where(abs(np.arange(53) - 26) < 10, 0.04, 0.12)),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_a_decay_along_depth_is_no_block(name):
    structure = wsn.similarity.block_structure(SMOOTH[name])
    assert structure.blocks == ()
    assert structure.best.strength < 0.06
    assert found(noisy(SMOOTH[name], 0.03)) == []


@pytest.mark.parametrize("name", ["fast", "slow", "linear"])
def test_a_decay_at_one_pace_has_no_range_of_positive_strength(name):
    best = wsn.similarity.block_structure(SMOOTH[name]).best
    assert best.strength < 0 and best.p_value == 1


def test_layers_that_hardly_change_among_others_that_do_are_a_block():
    values = paced(np.where(abs(np.arange(53) - 26) < 10, 0.004, 0.15))
    (block,) = wsn.similarity.block_structure(values).blocks
    assert abs(block.start - 17) <= 3 and abs(block.stop - 36) <= 3  # the next layers are at 0.86


def test_noise_is_no_block_in_all_but_a_few_of_many():
    alarms = blocks = 0
    for seed in range(40):
        noise = np.random.default_rng(seed).uniform(0, 1, (31, 31))
        structure = wsn.similarity.block_structure((noise + noise.T) / 2, surrogates=59)
        alarms += structure.best.p_value <= 0.05
        blocks += len(structure.blocks)
    assert alarms <= 6  # 2 expected
    assert blocks <= 1


def test_a_checkerboard_is_no_block_but_may_hold_one():
    after = np.arange(53) % 7 >= 5
    board = np.where(np.equal.outer(after, after), 0.85, 0.45) * decay(53, 80)
    assert found(noisy(board, 0.01)) == []
    board[20:42, 20:42] = 0.93
    assert found(noisy(board, 0.01)) == [(20, 42)]


def test_all_layers_alike_are_no_block_for_lack_of_surroundings():
    structure = wsn.similarity.block_structure(np.full((23, 23), 0.97))
    assert structure.blocks == () and structure.best.strength == pytest.approx(0, abs=1e-12)


def test_thresholds_are_kept():
    values = planted((17, 41), similarity=0.8)
    best = wsn.similarity.block_structure(values).best
    assert found(values) == [(17, 41)]
    assert found(values, least_similarity=best.similarity + 0.1) == []
    assert found(values, least_strength=best.strength + 0.1) == []
    assert found(values, level=0.00009) == []
    assert found(values, least_length=24) == [(17, 41)]
    assert found(values, least_length=25) != [(17, 41)]
    assert found(values, surrogates=10) == []  # the least p-value is 1 / 11
    assert found(values, surrogates=199, level=1 / 200) == [(17, 41)]


def test_what_rounding_puts_beside_a_threshold_is_at_it():
    values = planted((17, 41))
    best = wsn.similarity.block_structure(values).best
    for name, value in (("least_similarity", best.similarity), ("least_strength", best.strength)):
        for machine in (-np.inf, np.inf):
            assert found(values, **{name: np.nextafter(value, machine)}) == [(17, 41)]


def test_of_ranges_of_equal_rank_the_first_is_the_best():
    values = np.full((53, 53), 0.3)
    for start in (3, 19, 36):
        values[start : start + 13, start : start + 13] = 0.7
    for machine in (values, values[::-1, ::-1] + 1e-15, values * (1 + 1e-15), np.nextafter(values, 1)):
        structure = wsn.similarity.block_structure(machine, level=1)
        assert structure.best.start in (3, 4) and structure.best == structure.blocks[0]


def test_the_diagonal_is_not_used_and_the_seed_is():
    values = planted((17, 41))
    changed = values.copy()
    np.fill_diagonal(changed, -7)
    assert wsn.similarity.block_structure(values) == wsn.similarity.block_structure(changed)
    noise = noisy(decay(31, 5), 0.3)
    p = [
        wsn.similarity.block_structure(noise, seed=seed, surrogates=29).best.p_value
        for seed in (0, 0, 1, 2, 3)
    ]
    assert p[0] == p[1] and len(set(p)) > 1


def test_reversed_depth_reverses_the_blocks():
    values = planted((5, 17), (26, 47))
    assert found(values[::-1, ::-1]) == [(53 - 47, 53 - 26), (53 - 17, 53 - 5)]


def test_compiled_surrogates_rank_as_the_measure_does():
    diagonals = blocks._diagonals(planted((5, 17), (23, 29), layers=37))
    ranges = blocks._Ranges(37, 5)
    offsets = np.random.default_rng(3).integers(np.arange(37, 0, -1), size=(11, 37))
    rolled = np.zeros((11, 37, 37))
    for matrix, k in np.ndindex(11, 37):
        rolled[matrix, k, : 37 - k] = np.roll(diagonals[k, : 37 - k], -offsets[matrix, k])
    expected = [ranges.measure(matrix)[2].max() for matrix in rolled]
    np.testing.assert_allclose(ranges.highest(diagonals, offsets), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("values", "kwargs", "message"),
    [
        (np.ones((7, 7)), {}, "the matrix must have 8 or more layers that vary, got 7"),
        (np.ones((9, 8)), {}, r"the matrix must be of shape \(n, n\), got \(9, 8\)"),
        (np.ones(9), {}, r"the matrix must be of shape \(n, n\), got \(9,\)"),
        (np.triu(np.ones((9, 9))), {}, "the matrix must be symmetric, got differences above 1e-6"),
        (
            np.where(np.eye(9, k=1) + np.eye(9, k=-1) > 0, np.nan, 1),
            {},
            "the matrix must be finite but for whole rows of NaN",
        ),
        (np.ones((9, 9)), {"least_length": 3}, "least_length must be an integer of 4 to 8, got 3"),
        (np.ones((9, 9)), {"least_length": 9}, "least_length must be an integer of 4 to 8, got 9"),
        (np.ones((9, 9)), {"surrogates": 0}, "surrogates must be an integer ≥ 1, got 0"),
    ],
)
def test_matrices_that_cannot_be_measured(values, kwargs, message):
    with pytest.raises(ValueError, match=message):
        wsn.similarity.block_structure(values, **kwargs)


def with_constant(values: np.ndarray, *places: int) -> np.ndarray:
    """The matrix with layers that do not vary at these places of it."""
    kept = np.setdiff1d(np.arange(len(values) + len(places)), places)
    whole = np.full((len(values) + len(places),) * 2, np.nan)
    whole[np.ix_(kept, kept)] = values
    return whole


def test_layers_that_do_not_vary_are_left_out_and_named():
    values = planted((5, 17), (26, 47))
    expected, structure = (
        wsn.similarity.block_structure(values),
        wsn.similarity.block_structure(with_constant(values, 0, 12, 50)),
    )
    assert structure.left_out == (0, 12, 50) and expected.left_out == ()
    assert [(b.start, b.stop) for b in structure.blocks] == [(6, 19), (28, 49)]
    for one, other in zip(structure.blocks, expected.blocks, strict=True):
        assert (one.similarity, one.strength, one.p_value) == (
            other.similarity,
            other.strength,
            other.p_value,
        )
    assert structure.best.strength == expected.best.strength
    whole = with_constant(values, 0, 12, 50)
    np.fill_diagonal(whole, 1)  # the diagonal says nothing
    assert wsn.similarity.block_structure(whole) == structure
    assert found(with_constant(planted((4, 16), (16, 40)), 0, 1)) == [(6, 18), (18, 42)]


def test_the_strength_of_a_range_leaves_out_what_does_not_vary():
    values = planted((26, 47))
    whole = with_constant(values, 3, 30, 31)
    assert wsn.similarity.block_strength(whole, start=27, stop=50) == wsn.similarity.block_strength(
        values, start=26, stop=47
    )
    last = planted((30, 53))
    assert wsn.similarity.block_strength(with_constant(last, 3), start=31, stop=54) == (
        wsn.similarity.block_strength(last, start=30, stop=53)
    )
    with pytest.raises(
        ValueError, match="start and stop must span 3 to 52 of the 53 layers that vary, got 30 to 33"
    ):
        wsn.similarity.block_strength(whole, start=30, stop=33)


def test_too_few_layers_that_vary():
    with pytest.raises(ValueError, match="the matrix must have 8 or more layers that vary, got 7"):
        wsn.similarity.block_structure(with_constant(np.ones((7, 7)), 1, 2))


def test_the_strength_of_a_range_is_that_of_the_best_one_found():
    values = np.random.default_rng(4).normal(0.5, 0.1, (23, 23))
    values = (values + values.T) / 2
    for shortest in (4, 5, 9, 22):
        best = wsn.similarity.block_structure(values, least_length=shortest, surrogates=1).best
        assert wsn.similarity.block_strength(values, start=best.start, stop=best.stop) == pytest.approx(
            best.strength
        )
    for start, stop in ((0, 23), (3, 5), (-1, 5), (20, 24)):
        with pytest.raises(
            ValueError, match=f"must span 3 to 22 of the 23 layers that vary, got {start} to {stop}"
        ):
            wsn.similarity.block_strength(values, start=start, stop=stop)


ACCEPTED = {
    "float64": lambda x: x.numpy(),
    "float32": lambda x: x.float().numpy(),
    "in reverse": lambda x: np.ascontiguousarray(x.numpy()[::-1])[::-1],
    "columns first": lambda x: np.asfortranarray(x.numpy()),
    "big-endian": lambda x: x.numpy().astype(">f8"),
    "only read": lambda x: np.frombuffer(x.numpy().tobytes()).reshape(x.shape),
    "lists": lambda x: x.tolist(),
    "with gradient": lambda x: x.clone().requires_grad_(),
}


@pytest.mark.parametrize("form", ACCEPTED)
def test_arrays_are_welcome_where_tensors_are(form):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(11, p, generator=generator, dtype=torch.float64) for p in (3, 5))
    gram = x @ x.T
    change = ACCEPTED[form]
    if form == "float32":
        x, y, gram = (each.float().double() for each in (x, y, gram))
    tolerance = {"rtol": 1e-5, "atol": 1e-5 if form == "float32" else 1e-12, "check_dtype": False}
    for estimator in ("unbiased", "biased"):
        assert similarity.cka(change(x), change(y), estimator=estimator) == similarity.cka(
            x, y, estimator=estimator
        )
    for function in (similarity.u_centred, similarity.centred):
        torch.testing.assert_close(function(change(gram)).detach(), function(gram), **tolerance)
    for function in (similarity.hsic0, similarity.hsic1):
        torch.testing.assert_close(
            function(change(gram), change(gram)).detach(), function(gram, gram), **tolerance
        )
    if form == "with gradient":
        return
    torch.testing.assert_close(
        similarity.read_gram(change(x)).vector, similarity.read_gram(x).vector, **tolerance
    )
    sums = similarity.MinibatchCKA(["x", "y"])
    sums.update({"x": change(x), "y": change(y)})
    np.testing.assert_allclose(sums.matrix().values[0, 1], similarity.cka(x, y), rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.float16])
def test_integers_and_half_precision_are_computed_as_numbers(dtype):
    """Integers once were centred in integers, whose means are cut off."""
    x = torch.randint(
        0, 2 if dtype == torch.bool else 7, (7, 3), generator=torch.Generator().manual_seed(0)
    ).double()
    gram = torch.randint(0, 2, (7, 7), generator=torch.Generator().manual_seed(1)).double()
    gram = torch.maximum(gram, gram.T)
    for function in (similarity.u_centred, similarity.centred):
        torch.testing.assert_close(function(gram.to(dtype)).double(), function(gram), atol=1e-6, rtol=1e-6)
    assert similarity.hsic1(gram.to(dtype), gram) == pytest.approx(float(similarity.hsic1(gram, gram)))
    assert similarity.cka(x.to(dtype), x) == pytest.approx(1)


def test_complex_activations_are_refused_and_the_advice_is_their_real_gram_matrix():
    z = torch.randn(7, 3, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    gram = z @ z.mH
    uses = [
        lambda each: similarity.cka(each, each),
        lambda each: similarity.cka(each, each, estimator="biased"),
        lambda each: similarity.MinibatchCKA(["z"]).update({"z": each}),
        similarity.read_gram,
    ]
    for use in uses:
        for form in (z, z.numpy(), z.to(torch.complex64)):
            with pytest.raises(
                ValueError, match=r"must be real, got torch.complex.*; give torch.view_as_real\(x\)"
            ):
                use(form)
        use(torch.view_as_real(z))  # the advice
    for use in (similarity.u_centred, similarity.centred, lambda k: similarity.hsic1(k, k)):
        with pytest.raises(ValueError, match="must be real"):
            use(gram)
    torch.testing.assert_close(
        similarity.decompose(torch.view_as_real(z)).gram, similarity.centred(gram.real)
    )


# -- the map to explore --


def matrix_of(values, rows=("a", "b"), columns=("a", "b")):
    values = np.array(values)
    return similarity.CKAMatrix(rows=rows, columns=columns, values=values, standard_errors=0 * values)


def test_only_a_network_that_is_compared_with_itself_is_symmetric():
    symmetric = [[1.0, np.nan], [np.nan, 1.0]]
    assert matrix_of(symmetric)._symmetric()
    assert not matrix_of(symmetric, columns=("a", "c"))._symmetric()
    assert not matrix_of([[1.0, 0.25], [0.5, 1.0]])._symmetric()


def test_the_explorer_is_written_under_its_name_and_takes_the_same_layers_only(tmp_path):
    matrix = matrix_of([[1.0, 0.5], [0.5, 1.0]])
    matrix.explorer(tmp_path / "map.html")
    assert "<title>CKA of every pair of layers</title>" in (tmp_path / "map.html").read_text()
    other = matrix_of([[1.0, 0.5], [0.5, 1.0]], rows=("a", "c"))
    with pytest.raises(ValueError, match="^without_component must be of the same layers, got others; select"):
        matrix.explorer(without_component=other)


def test_six_layers_that_do_not_vary_are_named_and_the_others_counted():
    for number, said in ((6, "f: constant"), (8, "f and 2 more: constant")):
        with pytest.warns(RuntimeWarning, match=f"^a, b, c, d, e, {said} over the examples"):
            hsic.warn_constant(list("abcdefgh")[:number])


# -- how often a block is found in maps that are made up --


def test_a_planted_block_has_the_strength_that_was_asked_for():
    values = constructed.smooth(37, np.random.default_rng(0))
    made = constructed.planted(values, start=9, stop=20, strength=0.23)
    assert wsn.similarity.block_strength(made, start=9, stop=20) == pytest.approx(0.23, rel=1e-12)
    assert (made[9:20, 9:20] == 0.9).all() and made[0, 5] / made[0, 30] == pytest.approx(
        values[0, 5] / values[0, 30]
    )


def test_strong_blocks_are_found_and_smooth_or_checkered_maps_hold_none():
    few = {"layers": 43, "maps": 20, "surrogates": 99}
    assert constructed.alarms(constructed.smooth, **few) == 0
    assert constructed.alarms(constructed.checkered, **few) == 0
    assert constructed.detections(length=0.4, strength=0.35, **few) >= 0.95
    assert constructed.detections(length=0.4, strength=0.1, **few) <= 0.05


def test_noise_is_symmetric_and_has_the_mean_and_spread_that_were_asked_for():
    values = constructed.smooth(97, np.random.default_rng(0))
    noise = constructed.noisy(values, np.random.default_rng(1), noise=0.3) - values
    np.testing.assert_allclose(noise, noise.T, atol=1e-15)
    above = noise[np.triu_indices(97, 1)]
    assert (np.diag(noise) == 0).all()
    assert abs(above.mean()) < 4 * 0.3 / len(above) ** 0.5
    assert above.std() == pytest.approx(0.3, rel=4 / (2 * len(above)) ** 0.5)


def test_shares_are_of_the_maps_and_surrogates_that_were_asked_for(monkeypatch):
    asked = []
    kept = constructed.block_structure

    def noted(values, **options):
        asked.append((values.shape, options))
        maps.append(values)
        return kept(values, **options)

    maps = []
    monkeypatch.setattr(constructed, "block_structure", noted)
    few = {"layers": 31, "maps": 3, "surrogates": 19}
    constructed.alarms(constructed.smooth, **few)
    rng = np.random.default_rng(0)  # the same maps whenever it is called
    assert np.array_equal(maps[0], constructed.noisy(constructed.smooth(31, rng), rng, noise=0.01))
    constructed.detections(length=0.4, strength=0.3, **few)
    assert asked == [((31, 31), {"surrogates": 19})] * 6


def test_borders_of_stages_are_blocks_if_cka_falls_enough_across_them():
    few = {"layers": 43, "maps": 20, "surrogates": 99}
    assert constructed.alarms(constructed.staged(0.05), **few) <= 0.05
    assert 0.5 < constructed.alarms(constructed.staged(0.4), **few) <= 1


# -- the product of a Gram matrix --


@pytest.mark.parametrize("add", [hsic._add_whole, hsic._add_by_rows, hsic._add_by_numpy])
def test_every_product_of_a_gram_matrix_is_added_to_what_is_there(add):
    x = torch.randn(131, 67, generator=torch.Generator().manual_seed(0))
    gram = torch.ones(131, 131)
    add(gram, x)
    torch.testing.assert_close(gram.double(), 1 + x.double() @ x.double().T, rtol=1e-5, atol=1e-4)


def test_numpys_product_has_one_thread(monkeypatch):
    limits = []

    class Noted:
        def limit(self, **given):
            limits.append(given)
            return contextlib.nullcontext()

    monkeypatch.setattr(hsic, "_blas", Noted)
    hsic._add_by_numpy(torch.zeros(5, 5), torch.ones(5, 3))
    assert limits == [{"limits": 1}]


def test_examples_that_are_moved_are_copied_a_part_at_a_time(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    widths = []
    monkeypatch.setattr(hsic, "_add_by_numpy", lambda gram, x: widths.append(x.shape[1]))
    x = torch.randn(5, 2 * hsic._COLUMNS + 3, generator=torch.Generator().manual_seed(0))
    hsic._gram(x)
    hsic._gram(x, x.mean(0))
    assert widths == [x.shape[1], hsic._COLUMNS, hsic._COLUMNS, 3]


def test_what_little_differs_among_examples_that_are_equally_far_apart_is_not_rounding():
    """The threshold is a part of the mean square of an example, and not of the sum of all."""
    n = 64
    little = torch.linspace(-1, 1, n, dtype=torch.float64)
    x = torch.eye(n, dtype=torch.float64) + 1e-11 * torch.outer(little, little) / n
    found = similarity.decompose(x)
    assert found.whole.norm > 0 and found.share > 1 / n


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("n", "p"), [(4, 1), (67, 4099), (131, 8209)])
@pytest.mark.parametrize("far", [0.0, 30.0])
def test_a_gram_matrix_by_any_threads_is_that_of_double_precision(threads, n, p, far):
    x = far + torch.randn(n, p, generator=torch.Generator().manual_seed(0))
    above = hsic.u_centred(x.double() @ x.double().T)[tuple(torch.triu_indices(n, n, 1))]
    with cpu_threads(threads):
        found = hsic.read_gram(x)
        turned = x.T.contiguous().T  # in another order in memory
        torch.testing.assert_close(hsic.read_gram(turned).vector, found.vector, rtol=0.0, atol=1e-5)
        assert {each["num_threads"] for each in hsic._blas().info()} == {threads}  # given back
    torch.testing.assert_close(found.norm, above.norm(), rtol=1e-5, atol=0.0)
    assert float((found.vector.double() - above / above.norm()).norm()) < 1e-5


def linear_layers(generator: torch.Generator, n: int) -> dict[str, torch.Tensor]:
    """Layers y = x + noise of Gaussian images of 3 dimensions."""
    x, one, other = torch.randn(3, n, 3, generator=generator, dtype=torch.float64)
    return {"x": x, "one": x + 0.7 * one, "other": x + other}


def test_the_interval_of_a_difference_covers_what_all_images_would_give():
    generator = torch.Generator().manual_seed(11)
    # CKA of x and x + s · noise for Gaussian images: |I|² / (|I| |(1 + s²) I|)
    true = 1 / (1 + 0.7**2) - 1 / (1 + 1)
    simulations, batches, n = 400, 12, 24
    layers = linear_layers(generator, simulations * batches * n)
    x = torch.stack([each.view(simulations, batches, n, 3) for each in layers.values()], dim=2)
    i, j = torch.triu_indices(n, n, 1)
    vectors = similarity.u_centred(x @ x.mT)[..., i, j]  # all Gram matrices at once
    norms = vectors.norm(dim=-1)
    found = []
    for units, lengths in zip(vectors / norms.unsqueeze(-1), norms, strict=True):
        sums = similarity.MinibatchCKA(list(layers))
        for vector, norm in zip(units, lengths, strict=True):
            sums.update_grams(similarity.Gram(vector, norm), num_examples=n)
        found.append(sums.difference(("x", "one"), ("x", "other")))
    covered = np.mean([each.low <= true <= each.high for each in found])
    assert 0.93 <= covered <= 0.97
    values = np.array([each.value for each in found])
    errors = np.array([each.standard_error for each in found])
    assert abs(values.mean() - true) < 4 * values.std() / 20 + 0.01
    assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.1)


def test_an_interval_is_of_one_pass_whatever_is_merged_kept_or_added():
    generator = torch.Generator().manual_seed(12)
    names = ["x", "one", "other"]
    batches = [linear_layers(generator, 16) for _ in range(50)]
    one, second = similarity.MinibatchCKA(names), similarity.MinibatchCKA(names)
    for batch in batches:
        one.update(batch, pass_index=3)
        second.update(batch, pass_index=4)
    alone = one.difference(("x", "one"), ("one", "other"))
    assert similarity.MinibatchCKA.from_state(one.state()).difference(("x", "one"), ("one", "other")) == alone
    empty = similarity.MinibatchCKA(names)
    empty.merge(one)
    assert empty.difference(("x", "one"), ("one", "other")) == alone
    one.merge(second)
    both = one.difference(("x", "one"), ("one", "other"))
    assert both.standard_error == alone.standard_error  # the same images again tell nothing of others
    assert both.value == pytest.approx(alone.value)
    same = one.difference(("x", "one"), ("x", "one"))
    assert same == (0, 0, 0, 0)
    opposite = one.difference(("one", "other"), ("x", "one"))
    assert opposite[:2] == (-both.value, both.standard_error) and opposite.low == -both.high


def test_an_interval_needs_layers_batches_and_a_confidence():
    sums = similarity.MinibatchCKA(["x", "one", "other"])
    generator = torch.Generator().manual_seed(13)
    for _ in range(7):
        sums.update(linear_layers(generator, 8))
    pair = ("x", "one")
    with pytest.raises(ValueError, match="a pass must have 8 batches or more, got 7; lower batch_size"):
        sums.difference(pair, pair)
    sums.update(linear_layers(generator, 8))
    assert (
        sums.difference(pair, ("x", "other"), confidence=0.5).high
        < sums.difference(pair, ("x", "other")).high
    )
    with pytest.raises(ValueError, match="layers must be among x, one, other, …, got 'y'"):
        sums.difference(pair, ("x", "y"))
    with pytest.raises(ValueError, match="confidence must be above 0 and below 1, got 1"):
        sums.difference(pair, pair, confidence=1)


def test_a_centred_gram_matrix_is_accurate_where_activations_lie_far_from_0():
    x = 1000 + torch.randn(37, 5, generator=torch.Generator().manual_seed(0))
    exact = x.double() - x.double().mean(0)
    found = hsic.decompose(x).gram.double()
    torch.testing.assert_close(found, exact @ exact.T, rtol=0.0, atol=1e-3)


def test_small_variation_on_a_large_constant_is_seen_by_the_biased_estimate_too():
    x = normal(0, 30, 4)
    still = torch.cat([1e-6 * x, torch.full((30, 500), 1000.0, dtype=torch.float64)], dim=1)
    assert similarity.cka(x, still, estimator="biased") == pytest.approx(1, abs=1e-6)


def test_hsic1_of_many_matrices_is_that_of_each():
    x, y = normal(0, 3, 7, 5), normal(1, 3, 7, 5)
    found = similarity.hsic1(x @ x.mT, y @ y.mT)
    each = [similarity.hsic1(a @ a.T, b @ b.T) for a, b in zip(x, y, strict=True)]
    torch.testing.assert_close(found, torch.stack(each))


def test_an_interval_does_not_depend_on_where_a_pass_was_interrupted():
    batches = 2 * minibatch.GROUPS + 3
    given = [linear_layers(torch.Generator().manual_seed(i), 8) for i in range(batches)]
    whole, parts = (similarity.MinibatchCKA(["x", "one", "other"]) for _ in range(2))
    for i, batch in enumerate(given):
        whole.update(batch)
        parts.update(batch)
        if i == minibatch.GROUPS + 1:
            parts = similarity.MinibatchCKA.from_state(parts.state())
    assert parts.difference(("x", "one"), ("x", "other")) == whole.difference(("x", "one"), ("x", "other"))


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
def test_values_that_are_not_finite_are_refused(estimator):
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    for bad in (torch.nan, torch.inf):
        y = x.clone()
        y[3, 2] = bad
        with pytest.raises(ValueError, match="y or its Gram matrix must be finite, got NaN or infinity"):
            similarity.cka(x, y, estimator=estimator)
