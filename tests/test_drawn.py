"""The numbers that a figure shows are those that went into it."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import wsnlib as wsn
from wsnlib import book

RNG = np.random.default_rng(3)


def axes(*shape: int):
    return Figure().subplots(*shape)


def drawn(ax) -> pd.DataFrame:
    return wsn.plot.drawn_data(ax.figure)


def summary(widths: list[int]) -> pd.DataFrame:
    mean = RNG.uniform(0.5, 0.9, len(widths))
    return pd.DataFrame({"mean": mean, "low": mean - 0.03, "high": mean + 0.05}, index=widths)


def test_lines_with_bands():
    curves = {"largest layer first": summary([5, 11, 23]), "uniform density": summary([5, 11])}
    ax = axes()
    wsn.plot.widening(curves, ax=ax, baseline=0.7)
    table = drawn(ax)
    assert "value" not in table
    assert set(table["series"]) == set(curves)  # the baseline is a guide
    for name, curve in curves.items():
        part = table[table["series"] == name].set_index("x")
        assert part.index.tolist() == curve.index.tolist()
        np.testing.assert_allclose(part[["y", "low", "high"]], 100 * curve[["mean", "low", "high"]])


def test_a_band_is_of_one_line_of_its_colour():
    one, other = summary([8, 16]), summary([8, 16])
    runs = {"uniform density": pd.Series([0.4, 0.9], index=[8, 16])}
    ax, beside = axes(1, 2)
    wsn.plot.curves({1024: one, 2048: other}, ax=ax, label="width")
    wsn.plot.widening({"uniform density": one}, ax=beside, runs=runs)
    ends = drawn(ax)[["low", "high"]].to_numpy()
    np.testing.assert_allclose(ends[:6], 100 * pd.concat([one, other, one])[["low", "high"]])
    assert np.isnan(ends[6:]).all() and len(ends) == 8


def test_lines_with_bars():
    families = {8: summary([8, 12, 27]), 12: summary([12, 27])}
    ax = axes()
    wsn.plot.families(families, ax=ax)
    table = drawn(ax)
    bars = table[table["series"].notna()]
    assert len(table) - len(bars) == 2  # the filled circles of the dense networks
    for name, curve in families.items():
        part = bars[bars["series"] == str(name)].set_index("x")
        np.testing.assert_allclose(part[["y", "low", "high"]], 100 * curve[["mean", "low", "high"]])


def test_points_at_one_place_keep_their_own_bars():
    ax = axes()
    ax.errorbar([1, 1], [0, 5], yerr=[[0.1, 2], [0.2, 3]], label="a")
    ax.errorbar([1, 1], [0, 5], xerr=[1, 1], label="b")
    table = drawn(ax).set_index("series")
    assert table.loc["a", ["low", "high"]].to_numpy().tolist() == [[-0.1, 0.2], [3, 8]]
    assert table.loc["b", ["low", "high"]].isna().all(axis=None)


def test_places_may_have_names():
    ax = axes()
    ax.plot(["a", "b"], [3, 4])
    assert drawn(ax)[["x", "y"]].to_numpy().tolist() == [[0, 3], [1, 4]]


def test_an_interval_without_an_end_has_no_bar():
    family = pd.DataFrame({"mean": [0.5, 0.6], "low": [0.4, -np.inf], "high": [0.7, np.inf]}, index=[1, 2])
    ax = axes()
    wsn.plot.families({8: family}, ax=ax)
    bars = drawn(ax).dropna(subset="series").set_index("x")
    assert bars["y"].tolist() == [50, 60]
    assert bars.loc[1, ["low", "high"]].tolist() == [40, 70]
    assert bars.loc[2, ["low", "high"]].isna().all()


def test_a_grid_of_cells_is_named_by_its_ticks():
    grid = pd.DataFrame([[0.9, np.nan], [0.75, 0.5]], index=[0.2, 1.0], columns=[5, 10])
    ax = axes()
    wsn.plot.connectivity_grid(grid, baseline=0.75, ax=ax)
    table = drawn(ax)
    assert table.to_dict("list") == {
        "panel": ["1"] * 3, "x": ["5", "5", "10"], "y": ["0.2", "1", "1"], "value": [90, 75, 50]
    }  # fmt: skip


def test_a_map_and_one_half_of_a_symmetric_one():
    symmetric = np.array([[1, 0.25 + 1e-12, 0.12345], [0.25, 1, np.nan], [0.12345, np.nan, 1]])
    left, right = axes(1, 2)
    left.imshow(symmetric)
    left.set_title("whole")
    right.imshow(symmetric[:2])
    table = drawn(left)
    half = table[table["panel"] == "whole"]
    assert half[["x", "y", "value"]].to_numpy().tolist() == [
        [0, 0, 1], [1, 0, 0.25], [2, 0, 0.123], [1, 1, 1], [2, 2, 1]
    ]  # fmt: skip
    assert len(table[table["panel"] == "2"]) == 5


def test_a_large_map_has_two_digits():
    ax = axes()
    ax.imshow(np.full((2, 1001), 0.12345))
    assert set(drawn(ax)["value"]) == {0.12}


def test_colour_bars_and_pictures_hold_no_data():
    ax = axes()
    image = ax.imshow([[1.0, 2.0]])
    ax.figure.colorbar(image, ax=ax)
    assert len(drawn(ax)) == 2
    picture = axes()
    picture.imshow(np.zeros((4, 4, 3), dtype=np.uint8))
    assert drawn(picture).empty


def test_dots_with_sizes_and_without():
    ax = axes()
    ax.scatter([1, 2], [3, 4], s=[7, 9], label="a")
    ax.scatter([5, 6], [7, 8], label="_b")
    table = drawn(ax)
    assert table["value"].tolist()[:2] == [7, 9]
    assert table["value"].isna().tolist()[2:] == [True, True]
    assert table["series"].tolist()[:2] == ["a", "a"]
    assert table["series"].isna().tolist()[2:] == [True, True]
    one = axes()
    one.scatter([1], [2])
    assert "value" not in drawn(one)


@pytest.mark.parametrize("upright", [True, False])
def test_bars_by_place_and_length(upright):
    ax = axes()
    (ax.bar if upright else ax.barh)([1, 2], [5.0, 7.0], label="kept")
    table = drawn(ax)
    place, length = ("x", "y") if upright else ("y", "x")
    assert (table[place].tolist(), table[length].tolist()) == ([1, 2], [5, 7])
    assert table["series"].tolist() == ["kept", "kept"]


def test_error_bars_across_are_no_ends():
    ax = axes()
    ax.errorbar([1, 2], [3, 4], xerr=1, label="a")  # the bar of 2 begins above 1
    assert drawn(ax).to_dict("list") == {"panel": ["1"] * 2, "series": ["a"] * 2, "x": [1, 2], "y": [3, 4]}
    none = axes()
    none.errorbar([1, 2], [3, 4], yerr=0.5, fmt="none")
    assert drawn(none).empty


def test_guides_are_left_out_and_panels_named():
    first, second = axes(2, 1)
    first.axhline(1)
    first.axvline(1)
    first.plot([1, 2], [3, 4])
    second.plot([5], [6], label="b")
    second.set_title("below")
    table = drawn(first)
    assert table["panel"].tolist() == ["1", "1", "below"]
    assert table["x"].tolist() == [1, 2, 5]


def test_verdicts_are_bars_in_the_order_of_the_rows():
    counts = pd.DataFrame({"reproduced": [2, 1], "not reproduced": [0, 3]}, index=["G21", "N21"])
    ax = axes()
    book.plot_verdicts(counts, ax=ax)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["G21", "N21"]
    assert ax.yaxis_inverted()
    last = next(bar for bar in ax.patches if bar.get_width() == 3)
    assert last.get_x() == 1
    assert [t.get_text() for t in ax.get_legend().get_texts()] == list(counts.columns)
