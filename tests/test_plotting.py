"""Figures say what they are given."""

import math

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.container import ErrorbarContainer

import wsnlib as wsn


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def texts(ax) -> dict[tuple[float, float], str]:
    return {(t.get_position()[0] - 0.5, t.get_position()[1] - 0.5): t.get_text() for t in ax.texts}


def test_the_grid_shows_every_value_star_and_gap():
    grid = pd.DataFrame(
        {10: [0.75, 0.9634], 5: [np.nan, 0.9], 20: [0.9631, 0.5]}, index=pd.Index([0.5, 1.0], name="density")
    )
    fig, ax = plt.subplots()
    assert wsn.plot_connectivity_grid(grid, baseline=0.9, ax=ax) is ax
    assert texts(ax) == {
        (0, 1): "90.0", (1, 0): "75.0", (1, 1): "★\n96.3", (2, 0): "★\n96.3", (2, 1): "50.0",
    }  # fmt: skip
    assert [t.get_text() for t in ax.get_xticklabels()] == ["5\n1", "10\n0.5", "20\n0.25"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["0.5", "1"]
    (mesh,) = ax.collections
    colors = mesh.cmap(mesh.norm([90.0, 96.34, 50.0]))
    assert colors[0][:3] == pytest.approx(
        [0.966, 0.968, 0.969], abs=0.01
    )  # white where it equals the dense network
    assert colors[1][2] > 2 * colors[1][0]  # blue is better
    assert colors[2][0] > 2 * colors[2][2]  # red is worse
    assert "dense 90.0" in [t.get_text() for t in fig.axes[1].get_yticklabels()]
    assert ax.get_xlabel() and ax.get_ylabel()


def test_a_grid_where_nothing_beats_the_baseline_can_be_drawn():
    grid = pd.DataFrame({5: [0.9], 10: [0.8]}, index=pd.Index([1.0], name="density"))
    wsn.plot_connectivity_grid(grid, baseline=0.9, ax=plt.subplots()[1])
    flat = pd.DataFrame({5: [0.9]}, index=pd.Index([1.0], name="density"))
    wsn.plot_connectivity_grid(flat, baseline=0.9, ax=plt.subplots()[1])


def test_widening_curves_have_means_bands_and_a_baseline():
    curve = pd.DataFrame({"mean": [0.9, 0.95], "low": [0.85, 0.94], "high": [0.95, 0.96]}, index=[5, 10])
    ax = wsn.plot_widening(
        {"uniform density": curve, "something": curve - 0.1}, ax=plt.subplots()[1], baseline=0.9
    )
    assert [line.get_label() for line in ax.lines] == ["dense network", "uniform density", "something"]
    assert ax.lines[1].get_ydata().tolist() == pytest.approx([90, 95])
    assert len(ax.collections) == 2
    assert ax.get_xscale() == "log"
    low, high = ax.get_ylim()
    assert low < 80
    assert 95 < high <= 100


def test_curves_are_coloured_by_width_everywhere_alike():
    curves = {40: pd.Series([0.5, 0.6], index=[2, 1]), 10: pd.Series([0.1, 0.2], index=[1, 2])}
    ax = wsn.plot_curves(curves, ax=plt.subplots()[1], label="width")
    assert [line.get_color() for line in ax.lines] == [wsn.width_color(10), wsn.width_color(40)]
    assert ax.lines[1].get_xdata().tolist() == [1, 2]
    assert ax.lines[1].get_ydata().tolist() == [60, 50]
    assert len({wsn.width_color(w) for w in (4, 8, 16, 32, 64, 128, 256, 512, 1024)}) == 9


def test_a_mask_is_drawn_as_it_is():
    mask = np.array([[True, False, True], [False, False, True]])
    ax = wsn.plot_mask(mask, ax=plt.subplots()[1])
    assert np.array_equal(ax.images[0].get_array(), mask)


def test_the_lowest_point_of_a_distance_is_marked_unless_it_is_an_end():
    valley = pd.DataFrame({"mean": [3.0, 1.0, 2.0]}, index=[8, 16, 32])
    falling = pd.DataFrame({"mean": [3.0, 2.0, 1.0]}, index=[32, 16, 8]).sort_index(ascending=False)
    points = valley.assign(low=valley["mean"] - 0.5, high=valley["mean"] + 0.25)
    ax = wsn.plot_distance(
        {"eq. (4)": valley, "_Theorem 1": falling, "simulated networks": points}, ax=plt.subplots()[1]
    )
    marks = [line for line in ax.lines if line.get_marker() == "v"]
    assert [(mark.get_xdata()[0], mark.get_ydata()[0]) for mark in marks] == [(16, 1.0)]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["eq. (4)", "simulated networks"]
    assert ax.get_xscale() == ax.get_yscale() == "log"
    (bars,) = ax.containers
    heights = [segment[:, 1].tolist() for segment in bars.lines[2][0].get_segments()]
    assert heights[0] == [2.5, 3.25]


def test_a_family_starts_at_its_dense_network_and_infinite_intervals_have_no_bar():
    _, ax = plt.subplots()
    rows = {"mean": [0.5, 0.75], "low": [0.25, -math.inf], "high": [0.625, math.inf]}
    families = {8: pd.DataFrame(rows, index=[8, 16]), 12: pd.DataFrame(rows, index=[12, 24])}
    wsn.plot_families(families, ax=ax)
    bars = [c for c in ax.containers if isinstance(c, ErrorbarContainer)]
    assert [list(c.lines[0].get_xdata()) for c in bars] == [[8, 16], [12, 24]]
    assert list(bars[0].lines[0].get_ydata()) == [50, 75]
    assert bars[0].lines[2][0].get_segments()[0].tolist() == [[8, 25], [8, 62.5]]
    assert bars[0].lines[2][0].get_segments()[1].tolist() == [[16, 75], [16, 75]]
    starts = [line for line in ax.lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in starts] == [8, 12]
    assert starts[0].get_color() != starts[1].get_color()
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["8", "12"]
    assert ax.get_ylim()[0] < 50
    assert ax.get_ylim()[1] > 75


def test_a_baseline_is_drawn_over_the_range_of_its_family():
    _, ax = plt.subplots()
    family = pd.DataFrame({"mean": [0.5, 0.75], "low": [0.5, 0.75], "high": [0.5, 0.75]}, index=[1, 2])
    wsn.plot_families({8: family}, ax=ax, baselines={8: 0.9})
    (level,) = [line for line in ax.lines if line.get_linestyle() == "--"]
    assert (list(level.get_xdata()), list(level.get_ydata())) == ([1, 2], [90, 90])
    assert not [line for line in ax.lines if line.get_marker() == "o"]
    assert ax.get_legend() is None
    assert ax.get_ylim()[1] > 90
