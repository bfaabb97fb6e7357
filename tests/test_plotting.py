"""Figures say what they are given."""

import math
from itertools import pairwise

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from matplotlib.patches import Rectangle

import wsnlib as wsn
from wsnlib.plot import _allocation as allocation
from wsnlib.plot import _tensors as tensors


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
    assert wsn.plot.connectivity_grid(grid, baseline=0.9, ax=ax) is ax
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
    ax = plt.subplots()[1]
    wsn.plot.connectivity_grid(grid, baseline=0.9, ax=ax)
    assert list(ax.collections[0].norm([90.0, 80.0])) == pytest.approx([0.5, 0.0])
    flat = pd.DataFrame({5: [0.9]}, index=pd.Index([1.0], name="density"))
    wsn.plot.connectivity_grid(flat, baseline=0.9, ax=plt.subplots()[1])


def test_widening_curves_have_means_bands_and_a_baseline():
    curve = pd.DataFrame({"mean": [0.9, 0.95], "low": [0.85, 0.94], "high": [0.95, 0.96]}, index=[5, 10])
    ax = wsn.plot.widening(
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
    wide = pd.DataFrame({"mean": [0.5, 0.6], "low": [0.0, 0.6], "high": [1.0, 0.6]}, index=[2, 1])
    curves = {40: wide, 10: pd.DataFrame({"mean": [0.1, 0.2]}, index=[1, 2])}
    ax = wsn.plot.curves(curves, ax=plt.subplots()[1], label="width")
    assert [line.get_color() for line in ax.lines] == [wsn.plot.width_color(10), wsn.plot.width_color(40)]
    assert ax.lines[1].get_xdata().tolist() == [1, 2]
    assert ax.lines[1].get_ydata().tolist() == [60, 50]
    assert len(ax.collections) == 1  # a band where there is an interval, cut off at the frame
    assert ax.get_ylim() == pytest.approx((0, 60 + 0.3 * 50 + 0.5))
    assert len({wsn.plot.width_color(w) for w in (4, 8, 16, 32, 64, 128, 256, 512, 1024)}) == 9


def test_a_mask_is_drawn_as_it_is():
    mask = np.array([[True, False, True], [False, False, True]])
    ax = wsn.plot.mask(mask, ax=plt.subplots()[1])
    assert np.array_equal(ax.images[0].get_array(), mask)


def test_the_lowest_point_of_a_distance_is_marked_unless_it_is_an_end():
    valley = pd.DataFrame({"mean": [3.0, 1.0, 2.0]}, index=[8, 16, 32])
    falling = pd.DataFrame({"mean": [3.0, 2.0, 1.0]}, index=[32, 16, 8]).sort_index(ascending=False)
    points = valley.assign(low=valley["mean"] - 0.5, high=valley["mean"] + 0.25)
    ax = wsn.plot.distance(
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
    wsn.plot.families(families, ax=ax)
    bars = [c for c in ax.containers if isinstance(c, ErrorbarContainer)]
    assert [list(c.lines[0].get_xdata()) for c in bars] == [[8, 16], [12, 24]]
    assert list(bars[0].lines[0].get_ydata()) == [50, 75]
    assert bars[0].lines[2][0].get_segments()[0].tolist() == [[8, 25], [8, 62.5]]
    assert bars[0].lines[2][0].get_segments()[1].tolist() == []
    starts = [line for line in ax.lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in starts] == [8, 12]
    assert starts[0].get_color() != starts[1].get_color()
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["8", "12"]
    assert ax.get_ylim()[0] < 25
    assert ax.get_ylim()[1] > 75


def test_a_family_of_one_seed_has_no_bars():
    _, ax = plt.subplots()
    family = pd.DataFrame([vars(wsn.estimate([value])) for value in (0.5, 0.6)], index=[1, 2])
    wsn.plot.families({8: family}, ax=ax)
    low, high = ax.get_ylim()
    assert 48 < low < 50
    assert 60 < high < 62


def test_a_bar_longer_than_the_means_spread_is_cut_off():
    _, ax = plt.subplots()
    family = pd.DataFrame({"mean": [0.5, 0.6], "low": [0.1, 0.55], "high": [0.9, 0.65]}, index=[1, 2])
    wsn.plot.families({8: family}, ax=ax)
    low, high = ax.get_ylim()
    assert 35 < low < 40
    assert 70 < high < 75


def test_a_baseline_is_drawn_over_the_range_of_its_family():
    _, ax = plt.subplots()
    family = pd.DataFrame({"mean": [0.5, 0.75], "low": [0.5, 0.75], "high": [0.5, 0.75]}, index=[1, 2])
    wsn.plot.families({8: family}, ax=ax, baselines={8: 0.9})
    (level,) = [line for line in ax.lines if line.get_linestyle() == "--"]
    assert (list(level.get_xdata()), list(level.get_ydata())) == ([1, 2], [90, 90])
    assert not [line for line in ax.lines if line.get_marker() == "o"]
    assert ax.get_legend() is None
    assert ax.get_ylim()[1] > 90


# -- layers ------------------------------------------------------------------------------------

LAYERS = ["conv", *(f"stage{i}.block{j}.add" for i in (1, 2) for j in (1, 2, 3)), "pool", "dense"]


def test_dense_networks_are_drawn_beside_and_the_frame_holds_them():
    _, ax = plt.subplots()
    family = pd.DataFrame({"mean": [0.8, 0.82], "low": [0.79, 0.81], "high": [0.81, 0.83]}, index=[8, 16])
    ends = {"low": [0.79, 0.83, -np.inf], "high": [0.81, 0.85, np.inf]}
    dense = pd.DataFrame({"mean": [0.8, 0.84, 0.9]} | ends, index=[8, 12, 16])
    wsn.plot.families({8: family}, ax=ax, dense=dense)
    assert ax.get_ylim()[1] > 90
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["8", "dense, with more weights"]
    beside, bars = ax.containers[-1].lines[0], ax.containers[-1].lines[2][0].get_segments()
    assert beside.get_marker() == "D" and beside.get_xydata().tolist() == [[8, 80], [12, 84], [16, 90]]
    assert np.ptp(bars[1][:, 1]) == pytest.approx(2) and not bars[2].size  # no bar without an end


def test_a_heat_map_has_the_first_layers_below_and_its_stages_named():
    _, ax = plt.subplots()
    values = np.linspace(0, 1, 81).reshape(9, 9)
    values[2, 5] = np.nan
    wsn.plot.cka(values, ax=ax, rows=LAYERS, blocks=[(1, 4), (5, 8)])
    (image,) = ax.images
    assert (image.origin, image.get_clim()) == ("lower", (0, 1))
    assert np.ma.getmaskarray(image.get_array()).sum() == 1
    for axis in (ax.xaxis, ax.yaxis):
        assert [
            (t.get_text(), at) for t, at in zip(axis.get_ticklabels(), axis.get_ticklocs(), strict=True)
        ] == [
            ("stage 1", 2),
            ("stage 2", 5),
        ]
    assert [(b.get_x(), b.get_y(), b.get_width(), b.get_height()) for b in ax.patches] == [
        (0.5, 0.5, 3, 3),
        (4.5, 4.5, 3, 3),
    ]
    assert sorted({line.get_xdata()[0] for line in ax.lines if line.get_ydata() == [0, 1]}) == [0.5, 3.5, 6.5]


def test_a_heat_map_of_two_networks_has_the_layers_of_each():
    _, ax = plt.subplots()
    wsn.plot.cka(np.zeros((9, 4)), ax=ax, rows=LAYERS, columns=["conv", "stage1.a", "stage1.b", "dense"])
    assert [t.get_text() for t in ax.get_xticklabels()] == ["stage 1"]
    assert len(ax.get_yticklabels()) == 2
    with pytest.raises(
        ValueError, match=r"values must be of shape \(9, 9\), the numbers of names, got \(4, 9\)"
    ):
        wsn.plot.cka(np.zeros((4, 9)), ax=ax, rows=LAYERS)


def ticks_of(axis) -> dict[str, float]:
    return dict(zip((t.get_text() for t in axis.get_ticklabels()), axis.get_ticklocs(), strict=True))


@pytest.mark.parametrize(
    ("layers", "wanted"),
    [
        (["conv1", "layer1.0.conv1", "layer1.0.bn1", "layer2.0.conv1", "fc"], {"layer 1": 1.5, "layer 2": 3}),
        (
            [f"encoder.layers.encoder_layer_{i}.{part}" for i in (0, 1) for part in ("ln", "mlp")]
            + ["encoder.ln"],
            {"encoder layer 0": 0.5, "encoder layer 1": 2.5},
        ),
        (
            ["features.0.0", *["features.1.0.norm"] * 3, "features.1.1.norm", "features.2.norm", "head"],
            {"features 0": 0, "features 1": 2.5, "features 2": 5},
        ),
        (["features.0", "features.1", "features.2", "features.3", "fc"], {"features": 1.5}),
        (["0", "1", "relu"], {"0": 0, "1": 1, "relu": 2}),
    ],
)
def test_stages_of_other_networks_have_names_that_can_be_read(layers, wanted):
    _, ax = plt.subplots()
    wsn.plot.cka(np.zeros((len(layers), len(layers))), ax=ax, rows=layers)
    assert ticks_of(ax.xaxis) == ticks_of(ax.yaxis) == wanted


def test_names_of_many_layers_do_not_overlap():
    fig, ax = plt.subplots(figsize=(4, 4))
    layers = [f"encoder.layers.encoder_layer_{i}.{part}" for i in range(24) for part in ("mlp", "norm")]
    wsn.plot.cka(np.zeros((48, 48)), ax=ax, rows=layers)
    fig.draw_without_rendering()
    boxes = [label.get_window_extent() for label in ax.get_xticklabels()]
    assert len(boxes) > 1
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_a_matrix_draws_itself_with_its_blocks():
    values = np.random.default_rng(0).uniform(0, 1, (9, 9))
    found = wsn.similarity.CKAMatrix(
        rows=tuple(LAYERS), columns=tuple(LAYERS), values=values, standard_errors=0 * values
    )
    block = wsn.similarity.Block(start=1, stop=4, similarity=1, strength=1, p_value=0)
    own = found.plot(blocks=[block])
    assert np.array_equal(own.images[0].get_array(), values)
    assert [each.get_bbox().bounds for each in own.patches] == [(0.5, 0.5, 3, 3)]
    assert [ax.get_ylabel() for ax in own.figure.axes] == ["", "CKA"]
    _, ax = plt.subplots()
    assert found.select(LAYERS[:3], LAYERS[3:]).plot(ax=ax) is ax
    assert ax.images[0].get_array().shape == (3, 6)
    assert len(ax.figure.axes) == 1


def test_curves_by_layer_lie_at_their_layers():
    _, ax = plt.subplots()
    curves = {"before the addition": {"stage2.block1.add": 0.5, "dense": 0.75}}
    wsn.plot.by_layer(curves, ax=ax, layers=LAYERS, styles=wsn.plot.RESIDUAL_STYLES)
    line = ax.lines[0]
    assert (line.get_xdata().tolist(), list(line.get_ydata())) == ([4, 8], [0.5, 0.75])
    assert (line.get_label(), line.get_color()) == ("before the addition", "#E69F00")
    with pytest.raises(ValueError, match="x must have layers among the 9 given, got 'conv9'"):
        wsn.plot.by_layer({"x": {"conv9": 1.0}}, ax=ax, layers=LAYERS)


# -- weight tensors to scale ------------------------------------------------------------------

BASE = wsn.ResNet18Spec(width=8)
BLOCK = ("layer2.1.conv2", "layer3.0.conv1")


def chain(spec, names):
    model, kept = wsn.build(spec), wsn.weights_per_layer(spec)
    return [
        wsn.plot.WeightTensor(
            tuple(model.get_submodule(name).weight.shape),
            kept=kept[name],
            activation=not name.endswith("reduce"),
        )
        for name in names
    ]


@pytest.fixture(scope="module")
def chains():
    """Two convolutions of ResNet-18 at base width 8, and what each method makes of them at width 16."""
    halves = [f"{name}.{half}" for name in BLOCK for half in ("reduce", "expand")]
    return {
        "base": chain(BASE, BLOCK),
        "(a) linear": chain(wsn.LinearBottleneck(BASE, width=16), halves),
        "(b) nonlinear": chain(wsn.NonlinearBottleneck(BASE, width=16), ["layer3.0.conv1", "layer3.0.conv2"]),
        "(c) static": chain(wsn.StaticSparsity(BASE, width=16), BLOCK),
    }


def rectangles(ax, color) -> list[Rectangle]:
    return [patch for patch in ax.patches if to_hex(patch.get_facecolor()) == color.lower()]


@pytest.mark.parametrize(("columns", "size"), [(None, (11, 2.8)), (2, (7.2, 4.6)), (1, (5.6, 9))])
def test_tensors_are_drawn_to_one_scale_and_letters_do_not_meet(chains, columns, size):
    fig, ax = plt.subplots(figsize=size, layout="constrained")
    assert wsn.plot.weight_chains(chains, ax=ax, columns=columns) is ax
    drawn = [tensor for chain in chains.values() for tensor in chain]
    boxes = rectangles(ax, tensors.TENSOR)
    assert [tensor.shape for tensor in drawn] == [
        (16, 16, 3, 3), (32, 16, 3, 3),
        (7, 32, 3, 3), (32, 7, 1, 1), (14, 32, 3, 3), (64, 14, 1, 1),
        (15, 32, 3, 3), (64, 15, 3, 3),
        (32, 32, 3, 3), (64, 32, 3, 3),
    ]  # fmt: skip
    scales = [box.get_height() / t.shape[0] for box, t in zip(boxes, drawn, strict=True)]
    scales += [box.get_width() / t.shape[1] for box, t in zip(boxes, drawn, strict=True)]
    assert scales == pytest.approx([scales[0]] * 20)
    assert ax.get_aspect() == 1 and not ax.axison
    fig.draw_without_rendering()
    frames = [box.get_window_extent() for box in boxes]
    assert max(frame.height for frame in frames) * 72 / fig.dpi > 65
    words = [text.get_window_extent() for text in ax.texts]
    words.append(ax.get_legend().get_window_extent())
    for i, one in enumerate(words):
        assert not any(one.overlaps(other) for other in [*words[:i], *frames])
        assert fig.bbox.x0 <= one.x0 and one.x1 <= fig.bbox.x1
        assert fig.bbox.y0 <= one.y0 and one.y1 <= fig.bbox.y1
    for i, frame in enumerate(frames):
        assert not any(frame.overlaps(other) for other in frames[:i])


def test_long_titles_do_not_meet():
    one = [wsn.plot.WeightTensor((8, 8))]
    titles = [f"a long title of a short chain, number {i}" for i in range(3)]
    fig, ax = plt.subplots(figsize=(11, 3), layout="constrained")
    wsn.plot.weight_chains(dict.fromkeys(titles, one), ax=ax)
    fig.draw_without_rendering()
    words = [text.get_window_extent() for text in ax.texts if text.get_text() in titles]
    assert words[0].x1 < words[1].x0 and words[1].x1 < words[2].x0 and words[2].x1 < fig.bbox.x1


def test_a_nonlinearity_is_as_high_as_what_it_acts_on_and_missing_inside_a_linear_bottleneck(chains):
    ax = wsn.plot.weight_chains(chains, ax=plt.subplots(figsize=(11, 3))[1])
    boxes = iter(rectangles(ax, tensors.TENSOR))
    stripes = iter(rectangles(ax, tensors.ACTIVATION))
    active = [(t.activation, next(boxes)) for chain in chains.values() for t in chain]
    assert [activation for activation, _ in active] == [True, True, *[False, True] * 2, *[True] * 4]
    after = [box for activation, box in active if activation]
    for (_, box), following in zip(active, [*active[1:], (None, None)], strict=True):
        if box not in after:
            assert following[1].get_x() - box.get_x() - box.get_width() > 0
    for box in after:
        stripe = next(stripes)
        assert stripe.get_height() == pytest.approx(box.get_height())
        assert stripe.get_y() == pytest.approx(box.get_y())
        assert stripe.get_x() >= box.get_x() + box.get_width()
    assert next(stripes, None) is None


def test_labels_say_shape_kernel_weights_and_density(chains):
    ax = wsn.plot.weight_chains(chains, ax=plt.subplots(figsize=(11, 3))[1])
    said = [text.get_text() for text in ax.texts]
    assert said[:4] == ["outputs × inputs", "kernel", "weights", "density"]
    assert said[4:14] == [
        "6,912 weights", "base",
        "16 × 16", "3 × 3", "2,304", "1", "32 × 16", "3 × 3", "4,608", "1",
    ]  # fmt: skip
    assert said[-10:] == [
        "24,373 weights", "(c) static",
        "32 × 32", "3 × 3", "9,216", "1", "64 × 32", "3 × 3", "15,157", "0.82",
    ]  # fmt: skip
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == [
        "weights (height: outputs, width: inputs)",
        "white share: weights removed",
        "nonlinearity",
    ]
    dense = {"one": [wsn.plot.WeightTensor((5, 7))]}
    ax = wsn.plot.weight_chains(dense, ax=plt.subplots()[1])
    assert [text.get_text() for text in ax.texts] == [
        "outputs × inputs", "weights", "35 weights", "one", "5 × 7", "35",
    ]  # fmt: skip
    assert len(ax.get_legend().get_texts()) == 2
    mixed = [wsn.plot.WeightTensor((5, 7, 3)), wsn.plot.WeightTensor((2, 5))]
    ax = wsn.plot.weight_chains({"": mixed}, ax=plt.subplots()[1])
    assert [text.get_text() for text in ax.texts][6:] == ["3", "105", "2 × 5", "–", "10"]


@pytest.mark.parametrize("kept", [0, 10_000, 15_157, 30_000, 36_864])
def test_the_blue_share_of_a_sparse_tensor_is_its_density(kept):
    tensor = wsn.plot.WeightTensor((64, 64, 3, 3), kept=kept)
    fig, ax = plt.subplots(figsize=(5, 5), dpi=200)
    wsn.plot.weight_chains({"": [tensor]}, ax=ax)
    fig.canvas.draw()
    (box,) = rectangles(ax, tensors.TENSOR)
    x0, y0, x1, y1 = box.get_window_extent().padded(-4).extents.astype(int)
    whole = np.asarray(fig.canvas.buffer_rgba())[::-1]
    red = whole[y0:y1, x0:x1, 0].astype(float)
    blue = (255 - red) / (255 - int(tensors.TENSOR[1:3], 16))
    line = abs(np.arange(len(blue)) - len(blue) / 2) < 3  # what flows through lies behind
    assert blue[~line].mean() == pytest.approx(kept / 36_864, abs=0.02)
    stripes = [c for c in ax.collections if isinstance(c, PolyCollection)]
    assert len(stripes) == (kept < 36_864)
    for found in stripes:  # they end with their tensor
        assert found.get_clip_box().extents == pytest.approx(box.get_window_extent().extents)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (5,)}, r"the shape of a weight must be two or more sides ≥ 1, got \(5,\)"),
        ({"shape": (5, 0)}, r"the shape of a weight must be two or more sides ≥ 1, got \(5, 0\)"),
        ({"shape": (5, 7), "kept": 36}, "kept must be 0 to 35, got 36"),
        ({"shape": (5, 7), "kept": -1}, "kept must be 0 to 35, got -1"),
    ],
)
def test_what_is_no_weight_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        wsn.plot.WeightTensor(**arguments)


@pytest.mark.parametrize("chains", [{}, {"base": []}])
def test_chains_without_tensors_are_refused(chains):
    with pytest.raises(ValueError, match="every chain must have one or more tensors, got an empty one"):
        wsn.plot.weight_chains(chains, ax=plt.subplots()[1])


def test_a_line_of_no_chains_is_refused(chains):
    with pytest.raises(ValueError, match="columns must be ≥ 1, got 0"):
        wsn.plot.weight_chains(chains, ax=plt.subplots()[1], columns=0)


# -- where the weights are --------------------------------------------------------------------

FAMILY = (8, 18, 91)
SIZES = {w: wsn.weights_per_layer(wsn.ResNet18Spec(width=w, num_classes=100)) for w in FAMILY}
KEPT = {
    w: wsn.weights_per_layer(wsn.StaticSparsity(wsn.ResNet18Spec(width=8, num_classes=100), width=w))
    for w in FAMILY
}


def bars(ax, color) -> dict[str, float]:
    found = {round(bar.get_y() + bar.get_height() / 2): bar.get_width() for bar in rectangles(ax, color)}
    name = ax.yaxis.get_major_formatter()
    return {name(place, place): width for place, width in found.items()}


@pytest.mark.parametrize("scale", ["log", "linear"])
def test_bars_are_what_layers_have_and_keep_in_order_of_size(scale):
    ax = wsn.plot.allocation(KEPT[18], SIZES[18], ax=plt.subplots()[1], scale=scale)
    assert bars(ax, allocation.DENSE) == SIZES[18]
    assert bars(ax, allocation.KEPT) == KEPT[18]
    assert list(bars(ax, allocation.DENSE).values()) == sorted(SIZES[18].values(), reverse=True)
    (level,) = ax.lines
    assert set(level.get_xdata()) == {12_708} == {max(n for w, n in KEPT[18].items() if n < SIZES[18][w])}
    assert [text.get_text() for text in ax.texts] == ["level 12,708"]
    assert ax.get_xscale() == scale
    thousand = ax.xaxis.get_major_formatter()(100_000)
    assert thousand == ("100,000" if scale == "linear" else r"$\mathdefault{10^{5}}$")
    left, right = ax.get_xlim()
    assert left == (100 if scale == "log" else 0) and right > max(SIZES[18].values())
    bottom, top = ax.get_ylim()
    assert bottom > len(SIZES[18]) - 1 and top < 0  # the largest is on top


def test_axes_that_share_their_weights_hold_them_all():
    axes = plt.subplots(1, 3, sharex=True, sharey=True)[1]
    order = list(SIZES[8])
    for ax, width in zip(axes, (18, 91, 8), strict=True):
        wsn.plot.allocation(KEPT[width], SIZES[width], ax=ax, order=order)
        assert list(bars(ax, allocation.KEPT)) == order
    left, right = axes[0].get_xlim()
    assert left == 100 and right > max(SIZES[91].values())
    ten = wsn.plot.allocation({"a": 100}, {"a": 7840}, ax=plt.subplots()[1])
    assert ten.get_xlim()[0] == 10  # a whole power of ten has a bar
    alone = wsn.plot.allocation(KEPT[8], SIZES[8], ax=plt.subplots()[1])
    wsn.plot.allocation(KEPT[8], SIZES[8], ax=alone)
    assert alone.get_xlim()[1] < 1.2 * max(SIZES[8].values())


def test_a_level_is_drawn_only_where_there_is_one():
    sizes = {"a": 100, "b": 90, "c": 20}

    def levels(kept):
        ax = wsn.plot.allocation(dict(zip("abc", kept, strict=True)), sizes, ax=plt.subplots()[1])
        return [line.get_xdata()[0] for line in ax.lines]

    assert levels((100, 90, 20)) == []  # dense
    assert levels((40, 40, 20)) == [40]
    assert levels((39, 40, 20)) == [40]  # the remainder of the division
    assert levels((38, 40, 20)) == []
    assert levels((50, 45, 10)) == []  # uniform density
    assert levels((19, 90, 20)) == []  # a dense layer above it
    assert levels((9, 10, 10)) == [10]


def test_the_sparsities_of_figure_10_stand_in_their_cells():
    kept = dict(reversed(KEPT.items()))
    ax = wsn.plot.sparsity(kept, dict(reversed(SIZES.items())), ax=plt.subplots(figsize=(7, 5))[1])
    rows = [label.get_text() for label in ax.get_yticklabels()]
    assert rows == ["network", *SIZES[8]]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["8", "18", "91"]
    cells = {(rows[int(row)], FAMILY[int(column)]): text for (column, row), text in texts(ax).items()}
    assert len(cells) == 22 * 3
    published = {"network": 99.2, "layer1.0.conv1": 88.0, "layer3.0.conv1": 98.5, "layer4.0.shortcut.0": 96.6}
    for layer, sparsity in published.items():
        assert float(cells[layer, 91]) == sparsity
    assert cells["linear", 18] == "11.8" and cells["network", 18] == "79.8" and cells["conv1", 91] == "0"
    assert ax.yaxis_inverted()
    (mesh,) = ax.collections
    assert np.asarray(mesh.get_array())[0].tolist() == pytest.approx([1, 0.2016, 0.0080], abs=1e-4)
    assert {"0": "black", "99.2": "white", "99.8": "white"}.items() <= {
        text.get_text(): text.get_color() for text in ax.texts
    }.items()
    labels = [label.get_text() for label in ax.figure.axes[1].get_yticklabels()]
    assert labels == ["99.9", "99", "90", "0"]


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0"), (0.7984, "79.8"), (0.72, "72.0"), (0.9996, "99.96"), (0.9992, "99.92"), (0.0003, "0.03")],
)
def test_shares_have_digits_enough_to_tell_them_from_all_and_nothing(share, text):
    assert allocation._percent(share) == text


def test_counts_that_do_not_belong_together_are_refused():
    ax = plt.subplots()[1]
    sizes = {"a": 5, "b": 3}
    for function, wrap in ((wsn.plot.allocation, dict), (wsn.plot.sparsity, lambda counts: {7: counts})):
        with pytest.raises(ValueError, match="kept must have the layers of sizes, a, b, got a"):
            function(wrap({"a": 5}), wrap(sizes), ax=ax)
        with pytest.raises(ValueError, match="the weights kept in a must be 1 to 5, got 6"):
            function(wrap(sizes | {"a": 6}), wrap(sizes), ax=ax)
        with pytest.raises(ValueError, match="the weights kept in b must be 1 to 3, got 0"):
            function(wrap(sizes | {"b": 0}), wrap(sizes), ax=ax)
    with pytest.raises(ValueError, match="kept must have the layers of sizes, none, got none"):
        wsn.plot.allocation({}, {}, ax=ax)
    with pytest.raises(ValueError, match="order must hold each of a, b once, got a"):
        wsn.plot.allocation(sizes, sizes, ax=ax, order=["a"])
    with pytest.raises(ValueError, match="kept must have the widths of sizes, 7, 9, got 7"):
        wsn.plot.sparsity({7: sizes}, {7: sizes, 9: sizes}, ax=ax)
    other = {7: sizes, 9: {"a": 5, "c": 3}}
    with pytest.raises(ValueError, match="sizes of width 9 must have the layers of width 7, a, b, got a, c"):
        wsn.plot.sparsity(other, other, ax=ax)
