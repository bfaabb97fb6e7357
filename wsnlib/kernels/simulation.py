"""Kernels of random finite networks, drawn one after the other, and of infinitely wide ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsnlib.choices import check_choice
from wsnlib.kernels.numeric import densities, inputs, of_products

Distribution = Literal["normal", "uniform"]

Array = NDArray[np.float64]


def infinite_kernels(x: ArrayLike, y: ArrayLike, *, hidden_layers: int = 1) -> tuple[Array, Array]:
    """GP kernel and NTK of the infinitely wide dense ReLU network, by recursion over its layers,

        Σ_{l+1} = K_1 of Σ_l,   Θ_{l+1} = Σ_{l+1} + Θ_l · K_0 of Σ_l,   Σ_0 = Θ_0 = x·y / d,

    in the NTK parametrisation with prefactor 1/√fan_in and variance 1.

    Args:
        x, y: Inputs (..., d).
        hidden_layers: Number of hidden layers, ≥ 1. For 1 the GP kernel is K_1(x, y)/d.

    Returns:
        GP kernel of the last layer and NTK, each (...).

    References:
        G21, Section 3; Jacot, Gabriel, Hongler (2018), Theorem 1; Cho and Saul (2009), Section 2.3.

    Examples:
        >>> gp, ntk = infinite_kernels([1.0, 0.0], [0.0, 1.0])
        >>> bool(np.isclose(gp, 1 / (4 * np.pi))), bool(gp == ntk)
        (True, True)
    """
    if hidden_layers < 1:
        raise ValueError(f"hidden_layers must be ≥ 1, got {hidden_layers}")
    x, y = inputs(x, y)
    d = x.shape[-1]
    a, b, c = np.sum(x * x, -1) / d, np.sum(y * y, -1) / d, np.sum(x * y, -1) / d
    tangent = c
    for _ in range(hidden_layers):
        slope = of_products(a, b, c, order=0)
        a, b, c = a / 2, b / 2, of_products(a, b, c, order=1)
        tangent = c + tangent * slope
    return c, tangent


def simulate_kernels(
    x: ArrayLike,
    y: ArrayLike,
    *,
    widths: Sequence[int],
    density: Sequence[float],
    num_networks: int,
    seed: int = 0,
    distribution: Distribution = "normal",
    scaled_by: Sequence[float] | None = None,
    exact_count: bool = False,
) -> tuple[Array, Array]:
    """GP kernel and NTK of random sparse ReLU networks with one output, one row for each network.

    Layer l computes [u h / √fan_in]₊; the output layer is dense, of that distribution with density 1.

    Args:
        x, y: Inputs (pairs, d).
        widths: Units of each hidden layer.
        density: Probability that a weight is present, one for each hidden layer.
        num_networks: Networks drawn.
        seed: One seed gives one set of networks.
        distribution: `"normal"` has variance 1/density (the text of G21); `"uniform"` is
            U(±density^(−1/2)), variance 1/(3 density) (the released code).
        scaled_by: Densities used in the variance in place of `density`, one for each hidden layer.
        exact_count: Keep exactly `round(density · size)` weights, as networks that are trained do,
            in place of each with its probability, as Theorem 1 does.

    Returns:
        GP kernels ∇ᵥf·∇ᵥf and NTKs, each (num_networks, pairs). Each sparse layer's part of the NTK is
        divided by its density, which is the learning rate at which sparse and dense layers move alike.

    Examples:
        >>> x, y = np.eye(2, 5)
        >>> gp, ntk = simulate_kernels(x, y, widths=[64], density=[0.5], num_networks=3)
        >>> gp.shape, ntk.shape
        ((3, 1), (3, 1))
    """
    x, y = (np.atleast_2d(v) for v in inputs(x, y))
    p = densities(density)
    variances = p if scaled_by is None else densities(scaled_by)
    if not len(widths) == len(p) == len(variances):
        raise ValueError(
            f"widths and density must be as many, one for each hidden layer, got {len(widths)} and {len(p)}"
        )
    if min(widths, default=0) < 1:
        raise ValueError(f"widths must be one or more integers ≥ 1, got {list(widths)}")
    check_choice("distribution", distribution, Distribution)
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> Array:
        return rng.standard_normal(shape) if distribution == "normal" else rng.uniform(-1, 1, shape)

    def weight(shape: tuple[int, int], density: float, variance: float) -> tuple[Array, Array]:
        values = draw(*shape)
        if exact_count:
            mask = np.zeros(values.size)
            mask[rng.permutation(values.size)[: round(density * values.size)]] = 1
            mask = mask.reshape(shape)
        else:
            mask = (rng.random(shape) < density).astype(float)
        return values * mask / np.sqrt(variance), mask

    gaussian, tangent = np.empty((2, num_networks, len(x)))
    for k in range(num_networks):
        layers = []
        for width, fan_in, one, other in zip(widths, [x.shape[1], *widths], p, variances, strict=False):
            layers.append(weight((width, fan_in), float(one), float(other)))
        gaussian[k], tangent[k] = network_kernels(x, y, layers=layers, output=draw(widths[-1]), rates=1 / p)
    return gaussian, tangent


def network_kernels(
    x: Array, y: Array, *, layers: Sequence[tuple[Array, Array]], output: Array, rates: Array
) -> tuple[Array, Array]:
    """GP kernel and NTK of one ReLU network, (pairs,) each.

    Args:
        x, y: Inputs (pairs, d).
        layers: Weights (units, fan_in), with prefactor 1/√fan_in, and the mask of each hidden layer.
        output: Output weights (units,), all present, with prefactor 1/√units.
        rates: Factor of each hidden layer's part of the NTK.
    """
    hx, hy = x, y
    passed = []
    for u, _ in layers:
        scale = u.shape[1] ** -0.5
        zx, zy = scale * (hx @ u.T), scale * (hy @ u.T)
        passed.append((hx * hy, zx > 0, zy > 0))
        hx, hy = np.maximum(zx, 0), np.maximum(zy, 0)
    gaussian = np.mean(hx * hy, axis=1)
    tangent = gaussian.copy()
    gx = gy = np.broadcast_to(output * output.size**-0.5, hx.shape)  # gradient with respect to h
    for (u, mask), (product, active_x, active_y), rate in zip(
        layers[::-1], passed[::-1], rates[::-1], strict=True
    ):
        scale = u.shape[1] ** -0.5
        gx, gy = gx * active_x, gy * active_y
        tangent += rate * scale**2 * np.sum(((gx * gy) @ mask) * product, axis=1)
        gx, gy = scale * (gx @ u), scale * (gy @ u)
    return gaussian, tangent
