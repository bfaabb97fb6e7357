"""Theorem 1 by four routes, its limits, and the closed forms."""

import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from scipy import integrate

import wsnlib as wsn
from wsnlib.kernels import numeric, simulation, theory

RNG = np.random.default_rng(0)


def gaussian_pairs(pairs: int, d: int, seed: int = 0):
    return np.random.default_rng(seed).normal(size=(2, pairs, d))


def image_pairs(pairs: int, d: int, seed: int = 0):
    """Like digits after standardisation: most coordinates are one negative constant."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random((2, pairs, d)) < 0.25, rng.uniform(0.5, 2.8, (2, pairs, d)), -0.42)


# -- dense kernels ----------------------------------------------------------------------------


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("cosine", [-0.7, 0.0, 0.3, 0.95])
def test_arc_cosine_is_its_integral(order, cosine):
    x, y = np.array([1.3, 0.0]), 0.7 * np.array([cosine, np.sqrt(1 - cosine**2)])

    def angular(t):  # polar coordinates; the radial integral of r^(2l+1) exp(−r²/2) is 2^l l!
        ux, uy = x @ [np.cos(t), np.sin(t)], y @ [np.cos(t), np.sin(t)]
        return (ux * uy) ** order * (ux > 0) * (uy > 0)

    corners = np.sort(
        [(np.arctan2(v[1], v[0]) + s * np.pi / 2) % (2 * np.pi) for v in (x, y) for s in (-1, 1)]
    )
    whole, _ = integrate.quad(angular, 0, 2 * np.pi, points=corners, epsabs=1e-12)
    radial = 2**order * {0: 1, 1: 1, 2: 2}[order]
    assert wsn.kernels.arc_cosine(x, y, order=order) == pytest.approx(whole * radial / (2 * np.pi), rel=1e-9)


def test_the_kernel_of_a_zero_vector_is_zero():
    x = RNG.normal(size=7)
    assert [float(wsn.kernels.arc_cosine(np.zeros(7), x, order=order)) for order in (0, 1, 2)] == [0, 0, 0]
    found = wsn.kernels.kernel_distance(np.zeros(7), x, width=5, density=0.3)
    assert (float(found.squared_bias), float(found.variance)) == (0, 0)


# -- Theorem 1 --------------------------------------------------------------------------------


def test_enumeration_is_the_sum_over_masks():
    x, y, p = *RNG.normal(size=(2, 5)), 0.3
    found = wsn.kernels.masked_kernels(x, y, density=p, method="enumeration")
    for order, value in ((1, found.first), (2, found.second)):
        total = sum(
            p ** sum(s)
            * (1 - p) ** (5 - sum(s))
            * wsn.kernels.arc_cosine(np.array(s) * x, np.array(s) * y, order=order)
            for s in product((0, 1), repeat=5)
        )
        assert value.item() == pytest.approx(total / p**order, rel=1e-12)


@pytest.mark.parametrize("pairs", [gaussian_pairs, image_pairs])
@pytest.mark.parametrize("d", [5, 11, 14])
def test_quadrature_is_enumeration_within_its_stated_error(pairs, d):
    x, y = pairs(5, d)
    p = np.array([1.0, 0.7, 0.3, 0.1, 0.02])
    exact = wsn.kernels.masked_kernels(x, y, density=p, method="enumeration")
    for directions in (64, 512):
        found = wsn.kernels.masked_kernels(x, y, density=p, directions=directions)
        assert np.all(abs(found.first - exact.first) <= 2 * found.first_error + 1e-12)
        assert np.all(abs(found.second - exact.second) <= 2 * found.second_error + 1e-12)
        assert np.all(abs(found.first_bias - exact.first_bias) <= 2 * found.first_error + 1e-12)
    scale = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    assert (found.first_error / scale[:, None]).max() < 1e-3
    assert np.all(found.first_error[:, 0] == 0)


@pytest.mark.parametrize("pairs", [gaussian_pairs, image_pairs])
def test_quadrature_is_sampling_within_its_standard_error(pairs):
    x, y = pairs(7, 97)
    p = np.array([0.4, 0.1, 0.03])
    sampled = wsn.kernels.masked_kernels(x, y, density=p, method="sampling", num_masks=5000)
    found = wsn.kernels.masked_kernels(x, y, density=p)
    for a, b, error in (
        (found.first, sampled.first, sampled.first_error),
        (found.second, sampled.second, sampled.second_error),
    ):
        z = (a - b) / error
        assert abs(z).max() < 4.5
        assert 0.3 < np.sqrt(np.mean(z**2)) < 2


def digit_pairs(pairs: int, d: int):
    data = wsn.load_data(wsn.Digits())
    return wsn.kernels.take_pairs(data.normalise(data.test.images).numpy(), num_pairs=pairs)


@pytest.mark.parametrize(("pairs", "d"), [(gaussian_pairs, 784), (image_pairs, 784), (digit_pairs, 64)])
def test_quadrature_sampling_and_simulation_agree_down_to_a_few_weights_a_unit(pairs, d):
    """Densities from 1 to 0.004; Theorem 1's mean and distance against masks and against networks."""
    x, y = pairs(3, d)
    p = np.array([1.0, 0.25, 0.06, 0.015, 0.004])
    found = wsn.kernels.masked_kernels(x, y, density=p)
    sampled = wsn.kernels.masked_kernels(x, y, density=p, method="sampling", num_masks=4000)
    for name in ("first", "second"):
        stated = getattr(found, f"{name}_error") + 4.5 * getattr(sampled, f"{name}_error")
        value = getattr(found, name)
        assert np.all(abs(value - getattr(sampled, name)) <= stated + 1e-9 * abs(value))
    dense = wsn.kernels.arc_cosine(x, y, order=1) / d
    for density in p:
        width, n = 16, 300
        kernels, _ = wsn.kernels.simulate_kernels(x, y, widths=[width], density=[density], num_networks=n)
        squared = ((kernels - dense) ** 2).mean(axis=1)
        expected = wsn.kernels.kernel_distance(x, y, width=width, density=density).total.mean()
        assert abs(squared.mean() - expected) < 4.5 * squared.std() / np.sqrt(n)


def test_the_standard_error_of_sampling_is_that_of_a_mean_over_masks():
    x, y = image_pairs(1, 7)
    p, n = 0.4, 20_000
    masks = np.array(list(product((0, 1), repeat=7)))
    weights = p ** masks.sum(1) * (1 - p) ** (7 - masks.sum(1))
    sampled = wsn.kernels.masked_kernels(x, y, density=p, method="sampling", num_masks=n)
    for order, error in ((1, sampled.first_error), (2, sampled.second_error)):
        values = wsn.kernels.arc_cosine(masks * x, masks * y, order=order) / p**order
        deviation = np.sqrt(weights @ values**2 - (weights @ values) ** 2)
        assert error.item() == pytest.approx(deviation / np.sqrt(n), rel=0.05)


def test_near_parallel_and_parallel_inputs():
    x = np.abs(gaussian_pairs(1, 11)[0])
    p = np.array([0.6, 0.1])
    for y in (x * 2, x + 1e-3 * gaussian_pairs(1, 11, seed=3)[1], x + 0.1 * gaussian_pairs(1, 11, seed=4)[1]):
        exact = wsn.kernels.masked_kernels(x, y, density=p, method="enumeration")
        found = wsn.kernels.masked_kernels(x, y, density=p)
        assert np.all(abs(found.first - exact.first) <= 2 * found.first_error + 1e-12)
        assert np.allclose(found.first, exact.first, rtol=3e-4)
        assert np.allclose(found.second, exact.second, rtol=3e-4)
    opposite = wsn.kernels.masked_kernels(x, -x, density=p)
    assert np.allclose(opposite.first, 0, atol=1e-12)
    assert np.allclose(opposite.second, 0, atol=1e-12)


def test_at_density_1_the_distance_is_the_dense_variance():
    x, y = gaussian_pairs(3, 13)
    found = wsn.kernels.kernel_distance(x, y, width=29, density=1.0)
    k1, k2 = (wsn.kernels.arc_cosine(x, y, order=order) for order in (1, 2))
    assert np.all(found.squared_bias == 0)
    assert np.allclose(found.variance, (k2 - k1**2) / (13**2 * 29))
    assert np.array_equal(found.total, found.variance)


@pytest.mark.parametrize("pairs", [gaussian_pairs, image_pairs])
def test_near_density_1_the_kernels_are_those_of_the_corrections(pairs):
    x, y = abs(pairs(3, 784))
    p = np.array([0.9, 0.99, 0.999, 0.9999, 0.99999])
    found = wsn.kernels.masked_kernels(x, y, density=p)
    first, second = (v[:, None] * (1 - p) / p for v in theory.corrections(x, y))
    assert np.allclose(found.first_bias, first, rtol=0.02)
    assert np.allclose(found.second - wsn.kernels.arc_cosine(x, y, order=2)[:, None], second, rtol=0.1)


@pytest.mark.parametrize(("density", "scaled_by"), [(1.0, None), (0.3, None), (0.05, None), (0.3, 0.4)])
def test_simulated_networks_have_the_distance_of_theorem_1(density, scaled_by):
    x, y = image_pairs(40, 47)
    width, n = 11, 3000
    kernels, _ = wsn.kernels.simulate_kernels(
        x,
        y,
        widths=[width],
        density=[density],
        num_networks=n,
        scaled_by=None if scaled_by is None else [scaled_by],
    )
    squared = ((kernels - wsn.kernels.arc_cosine(x, y, order=1) / 47) ** 2).mean(axis=1)
    expected = wsn.kernels.kernel_distance(
        x, y, width=width, density=density, scaled_by=scaled_by
    ).total.mean()
    assert abs(squared.mean() - expected) < 4 * squared.std() / np.sqrt(n)
    assert squared.std() / np.sqrt(n) < 0.05 * expected


def test_shapes_follow_the_arguments():
    x, y = gaussian_pairs(3, 7)
    assert wsn.kernels.kernel_distance(x[0], y[0], width=5, density=0.5).total.shape == ()
    assert wsn.kernels.kernel_distance(x, y, width=5, density=0.5).total.shape == (3,)
    assert wsn.kernels.kernel_distance(x[0], y[0], width=[5, 10], density=[0.5, 0.25]).total.shape == (2,)
    assert wsn.kernels.kernel_distance(
        x, y, width=[5, 10], density=[0.5, 0.25], scaled_by=0.5
    ).total.shape == (3, 2)
    assert wsn.kernels.kernel_distance(x, y, width=5, density=0.5, scaled_by=0.5).total.shape == (3,)
    several = wsn.kernels.kernel_distance(x, y, width=5, density=0.5, scaled_by=[0.25, 1.0]).total
    for i, q in enumerate((0.25, 1.0)):
        alone = wsn.kernels.kernel_distance(x, y, width=5, density=0.5, scaled_by=q).total
        assert np.array_equal(several[:, i], alone)
    one = wsn.kernels.kernel_distance(x[1], y[1], width=10, density=0.25).total
    assert one == pytest.approx(
        wsn.kernels.kernel_distance(x, y, width=[5, 10], density=[0.5, 0.25]).total[1, 1]
    )


# -- closed forms -----------------------------------------------------------------------------


def test_eq_4_and_25_by_hand():
    assert wsn.kernels.paper_distance(width=100, density=0.25, dimension=784) == pytest.approx(
        (0.25 + 7.84 * (1 - 1 / np.pi**2)) / 3136
    )
    assert wsn.kernels.paper_minimiser(base_width=8, dimension=784) == pytest.approx(np.sqrt(8 / 3136))


@pytest.mark.parametrize(("base_width", "dimension"), [(1, 17), (8, 784), (64, 3072)])
def test_the_minimiser_of_eq_4(base_width, dimension):
    best = wsn.kernels.paper_distance_minimiser(base_width=base_width, dimension=dimension)

    def distance(p):
        return wsn.kernels.paper_distance(width=base_width / p, density=p, dimension=dimension)

    assert distance(best) < min(distance(best * 1.01), distance(best * 0.99))
    grid = np.geomspace(0.001, 1, 400)
    assert wsn.kernels.lowest_point(grid, distance(grid))[0] == pytest.approx(best, rel=1e-2)


@pytest.mark.parametrize("pairs", [gaussian_pairs, image_pairs])
def test_corrections_are_the_first_order_in_the_odds_of_absence(pairs):
    x, y = pairs(4, 1999)
    p = 0.5
    exact = wsn.kernels.masked_kernels(x, y, density=p)
    first, second = theory.corrections(x, y)
    scale = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1) / 1999
    difference = exact.second[:, 0] - wsn.kernels.arc_cosine(x, y, order=2)
    assert np.allclose(exact.first_bias[:, 0] / scale, first / scale, rtol=0.03, atol=2e-3)
    assert np.allclose(difference, second, rtol=0.01)
    parallel, _ = theory.corrections(x, 3 * x)
    assert np.array_equal(parallel, np.zeros(4))


def test_the_corrected_distance_is_good_while_many_inputs_are_left():
    x, y = image_pairs(20, 499)
    p = np.array([0.5, 0.1])
    exact = wsn.kernels.kernel_distance(x, y, width=8 / p, density=p).total
    assert np.allclose(wsn.kernels.corrected_distance(x, y, width=8 / p, density=p), exact, rtol=0.05)


def test_the_corrected_variance_is_right_to_first_order():
    x, y = image_pairs(20, 97)
    exact = wsn.kernels.kernel_distance(x, y, width=1, density=0.8).variance
    bias = wsn.kernels.corrected_distance(x, y, width=np.inf, density=0.8)[:, 0]
    corrected = wsn.kernels.corrected_distance(x, y, width=1, density=0.8)[:, 0] - bias
    dense = wsn.kernels.kernel_distance(x, y, width=1, density=1.0).variance
    assert np.allclose(corrected / dense, exact / dense, rtol=0, atol=2e-4)


def test_the_bias_of_gaussian_inputs_vanishes_to_first_order():
    """The paper's squared bias, (p^(−1/2) − 1)²/16d, is larger by far more than a factor of 100."""
    d, p = 784, 0.1
    x, y = gaussian_pairs(20, d)
    exact = wsn.kernels.kernel_distance(x, y, width=80, density=p).squared_bias.mean()
    assert 100 * exact < (p**-0.5 - 1) ** 2 / (16 * d)


def test_the_corrected_minimiser_scales_with_the_cube_root():
    x, y = image_pairs(20, 97)
    one, eight = (wsn.kernels.corrected_minimiser(x, y, base_width=m) for m in (1, 8))
    assert eight / one == pytest.approx(2)
    twice = wsn.kernels.corrected_minimiser(np.tile(x, 8), np.tile(y, 8), base_width=1)
    assert one / twice == pytest.approx(8 ** (2 / 3))


# -- infinite and simulated networks ------------------------------------------------------------


@pytest.mark.parametrize("hidden_layers", [1, 2, 3])
def test_wide_networks_approach_the_infinite_kernels(hidden_layers):
    x, y = gaussian_pairs(7, 13)
    gp, ntk = wsn.kernels.infinite_kernels(x, y, hidden_layers=hidden_layers)
    density = [1.0, 0.5, 0.5][:hidden_layers]
    found = wsn.kernels.simulate_kernels(x, y, widths=[900] * hidden_layers, density=density, num_networks=12)
    for values, expected in zip(found, (gp, ntk), strict=True):
        error = values.std(axis=0, ddof=1) / np.sqrt(12)
        assert np.all(abs(values.mean(axis=0) - expected) < 5 * error + 0.01 * expected)


def test_kernels_of_one_network_are_products_of_gradients():
    import torch

    rng = np.random.default_rng(0)
    shapes = [(7, 5), (11, 7), (3, 11)]
    masks = [(rng.random(shape) < 0.6).astype(float) for shape in shapes]
    weights = [rng.normal(size=shape) * mask for shape, mask in zip(shapes, masks, strict=True)]
    v, rates = rng.normal(size=3), np.array([1.0, 2.0, 0.5])
    x, y = rng.normal(size=(2, 2, 5))
    gradients = []
    for batch in (x, y):
        parameters = [torch.tensor(w, requires_grad=True) for w in weights] + [
            torch.tensor(v, requires_grad=True)
        ]
        rows = []
        for example in torch.tensor(batch):
            h = example
            for u in parameters[:-1]:
                h = torch.relu(u @ h / u.shape[1] ** 0.5)
            rows.append(torch.autograd.grad(parameters[-1] @ h / 3**0.5, parameters))
        gradients.append(rows)
    gp, ntk = simulation.network_kernels(
        x, y, layers=list(zip(weights, masks, strict=True)), output=v, rates=rates
    )
    for i, (one, other) in enumerate(zip(*gradients, strict=True)):
        parts = [(a * b) for a, b in zip(one, other, strict=True)]
        assert gp[i] == pytest.approx(parts[-1].sum().item())
        tangent = sum(
            r * (part * torch.tensor(m)).sum().item()
            for r, part, m in zip(rates, parts[:-1], masks, strict=True)
        )
        assert ntk[i] == pytest.approx(gp[i] + tangent)


def test_uniform_weights_have_a_third_of_the_variance_and_exact_counts_the_same_kernel():
    x, y = gaussian_pairs(11, 31)
    options = {"widths": [400], "density": [0.5], "num_networks": 40}
    dense = wsn.kernels.arc_cosine(x, y, order=1) / 31
    for extra, factor in (({"distribution": "uniform"}, 1 / 3), ({"exact_count": True}, 1)):
        kernels, _ = wsn.kernels.simulate_kernels(x, y, **options, **extra)
        error = kernels.std(axis=0) / np.sqrt(40)
        assert np.all(abs(kernels.mean(axis=0) - factor * dense) < 5 * error + 0.01 * dense)


def test_pairs_are_of_different_inputs():
    images = np.arange(6 * 4).reshape(6, 2, 2)
    x, y = wsn.kernels.take_pairs(images, num_pairs=200)
    assert x.shape == y.shape == (200, 4)
    assert not np.any(np.all(x == y, axis=1))
    assert np.array_equal(x, wsn.kernels.take_pairs(images, num_pairs=200)[0])
    assert not np.array_equal(x, wsn.kernels.take_pairs(images, num_pairs=200, seed=1)[0])


# -- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: wsn.kernels.kernel_distance(x, x[:3], width=5, density=0.5), r"the same last axis, of at least 1, got shapes \(7,\) and \(3,\)"),
        (lambda x: wsn.kernels.kernel_distance(x, x, width=0, density=0.5), "width must be ≥ 1, got 0"),
        (lambda x: wsn.kernels.kernel_distance(x, x, width=5, density=0.0), "density must be > 0 and ≤ 1, got 0"),
        (lambda x: wsn.kernels.kernel_distance(x, x, width=5, density=[0.5, 1.5]), "density must be > 0 and ≤ 1, got 1.5"),
        (lambda x: wsn.kernels.kernel_distance(x * np.nan, x, width=5, density=0.5), "x and y must be finite"),
        (lambda x: wsn.kernels.masked_kernels(np.ones(21), np.ones(21), density=0.5, method="enumeration"), r"at most 20 dimensions .*, got 21, with 2\^21 masks; use 'quadrature' or 'sampling'"),
        (lambda x: wsn.kernels.masked_kernels(x, x, density=0.5, method="guess"), "method must be one of 'quadrature', 'enumeration', 'sampling', got 'guess'"),
        (lambda x: wsn.kernels.masked_kernels(x, x, density=0.5, method="sampling", num_masks=1), "num_masks must be ≥ 2, got 1"),
        (lambda x: wsn.kernels.masked_kernels(x, x, density=0.5, directions=30), "directions must be a multiple of 16 and ≥ 32, got 30"),
        (lambda x: wsn.kernels.arc_cosine(x, x, order=3), "order must be one of 0, 1, 2, got 3"),
        (lambda x: wsn.kernels.paper_minimiser(base_width=0, dimension=5), "the width must be ≥ 1, got 0"),
        (lambda x: wsn.kernels.paper_distance(width=5, density=0.5, dimension=0), "dimension must be ≥ 1, got 0"),
        (lambda x: wsn.kernels.infinite_kernels(x, x, hidden_layers=0), "hidden_layers must be ≥ 1, got 0"),
        (lambda x: wsn.kernels.simulate_kernels(x, x, widths=[3, 4], density=[0.5], num_networks=1), "must be as many, one for each hidden layer, got 2 and 1"),
        (lambda x: wsn.kernels.simulate_kernels(x, x, widths=[0], density=[0.5], num_networks=1), r"widths must be one or more integers ≥ 1, got \[0\]"),
        (lambda x: wsn.kernels.take_pairs(x[None], num_pairs=1), "images must be at least 2, got 1"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(RNG.normal(size=7))


def test_the_numeric_half_needs_neither_torch_nor_sympy():
    code = (
        "import sys; from wsnlib.kernels import kernel_distance; "
        "print({'torch', 'sympy', 'pandas', 'matplotlib', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_numeric_names_are_the_public_ones():
    assert wsn.kernels.kernel_distance is numeric.kernel_distance
