"""The explorers show Theorem 1, eq. (4) and the allocation of weights, in Python and in a browser alike."""

import io
import json
import re
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import colormaps
from PIL import Image
from torch import nn

import wsnlib as wsn
from wsnlib import widgets
from wsnlib.book import printed_table
from wsnlib.kernels import kernel_distance, masked_kernels
from wsnlib.kernels.theory import lowest_point, paper_distance, paper_distance_minimiser
from wsnlib.widgets import distance

DIMENSIONS = (7, 61)


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(0)
    return {
        "Gaussian": [tuple(rng.normal(size=(2, 3, d))) for d in DIMENSIONS],
        'Uniform, </script><b class="x">': tuple(rng.uniform(size=(2, 5, 31))),
    }


@pytest.fixture(scope="module")
def table(pairs):
    return widgets.distance_table(pairs)


@pytest.fixture(scope="module")
def page(table):
    return widgets.distance_explorer_page(table)


def data_of(page) -> dict:
    (text,) = re.findall(r'<script type="application/json">(.*?)</script>', page.html, flags=re.DOTALL)
    return json.loads(text)


# -- the table --------------------------------------------------------------------------------


def test_the_table_holds_the_two_parts_of_theorem_1(pairs, table):
    x, y = pairs["Gaussian"][0]
    rows = table.query("inputs == 'Gaussian' and dimension == 7")
    assert rows["density"].min() == pytest.approx(0.05 / 7) and rows["density"].max() == 1
    exact = kernel_distance(x, y, width=13, density=rows["density"].to_numpy())
    assert rows["squared_bias"].to_numpy() == pytest.approx(exact.squared_bias.mean(axis=0))
    assert rows["spread"].to_numpy() == pytest.approx(13 * exact.variance.mean(axis=0))
    assert list(table.groupby(["inputs", "dimension"]).size()) == [25, 25, 25]


def test_a_dimension_given_twice_is_refused(pairs):
    with pytest.raises(ValueError, match="the inputs 'A' must hold dimension 7 once, got it twice"):
        widgets.distance_table({"A": [pairs["Gaussian"][0]] * 2})
    with pytest.raises(ValueError, match="pairs must be at least one pair of inputs, got none"):
        widgets.distance_table({})


# -- minimisers -------------------------------------------------------------------------------


@pytest.mark.parametrize("m", [32, 128])
def test_minimisers_agree_with_the_theory(pairs, m):
    x, y = pairs["Gaussian"][1]
    theorem = distance._Theorem(widgets.distance_table({"Gaussian": (x, y)}))
    widths = np.geomspace(m, m / theorem.density[0], 241)
    exact = distance._minimum(widths, lambda n: theorem(n, m / n).total)
    p = np.geomspace(0.05 / 61, 1, 65)
    kernels = masked_kernels(x, y, density=p)
    distances = kernels.first_bias**2 + p / m * (kernels.second - kernels.first**2)
    expected, _ = lowest_point(p, distances.mean(axis=0))
    assert exact.place == "inside"
    assert m / exact.width == pytest.approx(expected, rel=0.01)
    paper = distance._minimum(widths, lambda n: distance._paper(61, n, m / n).total)
    assert m / paper.width == pytest.approx(paper_distance_minimiser(base_width=m, dimension=61), rel=1e-6)


def test_a_minimum_at_the_edge_is_said_to_be_one():
    widths = np.geomspace(8, 64, 31)
    falling = distance._minimum(widths, lambda n: 1 / n)
    rising = distance._minimum(widths, lambda n: n)
    assert (falling.place, falling.width, rising.place, rising.width) == ("right", 64, "left", 8)
    assert distance._in_words(falling, 4) == "is still falling at width 64 (p = 0.0625), the widest shown"
    assert distance._in_words(rising, 4) == "is already rising at width 8 (p = 0.5), the narrowest shown"
    assert distance._in_words(rising, 8) == "is smallest at width 8, p* = 1, the dense network"


@pytest.mark.parametrize(
    ("value", "text"),
    [(1, "1"), (90.51, "90.5"), (1234.5, "1,230"), (99.96, "100"), (0.00006378, "0.0000638")],
)
def test_numbers_have_three_digits(value, text):
    assert distance._number(value) == text


# -- the page ---------------------------------------------------------------------------------


def test_the_same_table_gives_the_same_bytes(table, page):
    again = widgets.distance_explorer_page(
        table.sample(frac=1, random_state=0).sort_values("inputs", kind="stable")
    )
    assert page == widgets.distance_explorer_page(table.copy())
    assert data_of(page) == data_of(again)
    assert page._repr_html_() == page.html and repr(page) == "DistanceExplorerPage()"


def test_the_page_holds_the_table_to_five_digits(table, page):
    for (name, d), rows in table.groupby(["inputs", "dimension"]):
        kernels = data_of(page)["inputs"][name][str(d)]
        assert kernels["density"] == pytest.approx(rows["density"].to_list(), rel=1e-4)
        assert np.square(kernels["root_bias"]) == pytest.approx(rows["squared_bias"].to_list(), rel=2e-4)
        assert np.exp(kernels["log_spread"]) == pytest.approx(rows["spread"].to_list(), rel=3e-4)
    assert len(page.html) < 30_000


def test_names_cannot_end_the_script(page):
    assert page.html.count("</script>") == 2
    assert "<b class=" not in page.html.split('<script type="application/json">')[1].split("</script>")[0]
    assert 'Uniform, </script><b class="x">' in data_of(page)["inputs"]


def test_the_page_loads_nothing(page):
    assert not re.search(r"https?:|src=|href=|@import|url\(| id=", page.html)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.drop(columns="spread"),
            "the table must have the columns inputs, dimension, density, squared_bias, spread, got none of spread",
        ),
        (lambda t: t[:0], "the table must have at least two densities, got no rows"),
        (
            lambda t: t[:1],
            "Gaussian, dimension 7, must have at least two densities, each once, got 1 rows and 1 densities",
        ),
        (lambda t: t.assign(density=1.5), "density must be > 0 and ≤ 1, got 1.5 in row 0"),
        (lambda t: t.assign(spread=0.0), "spread must be a finite number > 0, got 0 in row 0"),
        (
            lambda t: t.assign(squared_bias=np.nan),
            "squared_bias must be a finite number ≥ 0, got nan in row 0",
        ),
    ],
)
def test_wrong_tables_are_refused(table, change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        widgets.distance_explorer_page(change(table))


# -- the live explorer ------------------------------------------------------------------------


@pytest.fixture
def explorer(pairs):
    pytest.importorskip("ipywidgets", reason="the live explorer needs ipywidgets")
    return widgets.distance_explorer(pairs)


def lines_of(explorer) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {line.get_label(): line.get_data() for line in explorer.figure.axes[0].lines}


@pytest.mark.parametrize("m", [2, 48])
def test_the_live_curves_are_theorem_1_and_eq_4(pairs, explorer, m):
    before = explorer.children[-1].value
    explorer.controls["base_width"].value = m
    assert explorer.children[-1].value != before
    x, y = pairs["Gaussian"][1]
    lines = lines_of(explorer)
    widths, total = lines["total, Theorem 1"]
    exact = kernel_distance(x, y, width=widths, density=m / widths)
    assert total == pytest.approx(exact.total.mean(axis=0), rel=2e-3)
    assert lines["variance, Theorem 1"][1] == pytest.approx(exact.variance.mean(axis=0), rel=2e-3)
    assert lines["squared bias, Theorem 1"][1] == pytest.approx(
        exact.squared_bias.mean(axis=0), rel=0.02, abs=1e-9
    )
    paper = paper_distance(width=widths, density=m / widths, dimension=61)
    assert lines["total, eq. (4)"][1] == pytest.approx(paper)
    assert lines["squared bias, eq. (4)"][1] == pytest.approx(((widths / m) ** 0.5 - 1) ** 2 / (16 * 61))
    assert lines["variance, eq. (4)"][1] == pytest.approx((1 - np.pi**-2) / (4 * widths))
    (point,) = (data for label, data in lines.items() if label.startswith("minimum, eq. (4)"))
    assert m / point[0][0] == pytest.approx(paper_distance_minimiser(base_width=m, dimension=61), rel=1e-6)


def test_the_live_controls_are_all_heard(explorer):
    controls = explorer.controls
    assert "Gaussian inputs, d = 61, m = 8 (488 first-layer weights)" in explorer.readout.value
    controls["dimension"].value = 7
    assert "d = 7" in explorer.readout.value
    controls["inputs"].value = controls["inputs"].options[1]
    assert "Uniform, &lt;/script&gt;" in explorer.readout.value and "d = 31" in explorer.readout.value
    controls["narrowest"].value, controls["widest"].value = 16, 32
    assert lines_of(explorer)["total, Theorem 1"][0][[0, -1]] == pytest.approx([16, 32])
    assert explorer.figure.axes[0].get_yscale() == "log"
    controls["logarithmic"].value = False
    assert explorer.figure.axes[0].get_yscale() == "linear"


def test_one_end_of_the_live_range_pushes_the_other(explorer):
    narrowest, widest = explorer.controls["narrowest"], explorer.controls["widest"]
    widest.value = 64
    narrowest.value = 256
    assert (narrowest.value, widest.value) == (256, 512)
    widest.value = 16
    assert (narrowest.value, widest.value) == (8, 16)
    assert "the widest shown" in explorer.readout.value


def test_a_live_range_without_widths_is_said_to_be_one(explorer):
    explorer.controls["base_width"].value = 128
    explorer.controls["widest"].value = 64
    assert "no width from 1 to 64 can be shown; the table holds widths 128 to" in explorer.readout.value
    assert not explorer.figure.axes


def test_the_live_figure_is_a_picture(explorer):
    with Image.open(io.BytesIO(explorer.children[-1].value)) as picture:
        assert picture.format == "PNG" and picture.width > 600


def test_without_ipywidgets_the_live_explorer_says_so(pairs, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(ImportError, match="ipywidgets is not installed; `pip install ipywidgets` brings it"):
        widgets.distance_explorer(pairs)


# -- the page in a browser --------------------------------------------------------------------


@pytest.fixture
def open_page(browser, tmp_path):
    """Opens a fragment, twice, in a bare page; afterwards: no error, and nothing else was loaded."""
    file = tmp_path / "page.html"
    problems, requests, tabs = [], [], []

    def open_page(page):
        head = '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Explorer</title></head>'
        file.write_text(f"{head}<body>{page.html}{page.html}</body></html>", encoding="utf-8")
        tab = browser.new_page(viewport={"width": 900, "height": 900})
        tab.on("console", lambda message: problems.append(message.text))
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(file.as_uri())
        tabs.append(tab)
        return tab

    yield open_page
    for tab in tabs:
        tab.close()
    assert problems == []
    assert set(requests) == {file.as_uri()}


@pytest.fixture
def opened(open_page, page):
    return open_page(page)


def control(tab, name):
    return tab.locator(f"[data-control={name}]").first


def readout(tab) -> str:
    return tab.locator(".readout").first.text_content().replace("\xa0", " ")


def curve(tab, which: str) -> str:
    return tab.locator(f"svg.plot path.{which}").first.get_attribute("d")


def press_until(tab, name: str, value: str) -> None:
    """Move a slider by keyboard until it shows a value."""
    slider = control(tab, name)
    slider.press("Home")
    for _ in range(30):
        if slider.get_attribute("aria-valuetext").split(" ")[0] == value:
            return
        slider.press("ArrowRight")
    raise AssertionError(f"{name} never shows {value}")


def split(sentence: str) -> tuple[str, list[float]]:
    """A sentence without its numbers, and the numbers."""
    number = r"\d[\d,]*\.?\d*(?<![,.])"
    return re.sub(number, "#", sentence), [float(n.replace(",", "")) for n in re.findall(number, sentence)]


def test_the_keyboard_moves_curves_and_words(opened):
    paths = [f"{source}.{part}" for source in ("exact", "paper") for part in ("bias", "variance", "total")]
    before = [curve(opened, path) for path in paths], readout(opened)
    assert all("NaN" not in d and len(d) > 1000 for d in before[0])
    assert "m = 8 (488 first-layer weights)" in before[1]
    control(opened, "base").press("ArrowRight")
    after = [curve(opened, path) for path in paths], readout(opened)
    assert "m = 12 (732 first-layer weights)" in after[1]
    assert control(opened, "base").get_attribute("aria-valuetext") == "12 (732 first-layer weights)"
    assert all(a != b for a, b in zip(before[0], after[0], strict=True))
    assert after[1] in opened.locator("svg.plot").first.get_attribute("aria-label")
    second = opened.locator(".readout").nth(1).text_content()  # explorers on one page are independent
    assert "m\xa0=\xa08 " in second


@pytest.mark.parametrize(("m", "d"), [(1, 61), (8, 7), (48, 61), (128, 7)])
def test_the_browser_says_what_python_says(opened, explorer, m, d):
    control(opened, "dimension").select_option(str(d))
    press_until(opened, "base", str(m))
    explorer.controls["dimension"].value, explorer.controls["base_width"].value = d, m
    words, numbers = split(readout(opened))
    expected_words, expected = split(explorer.readout.value)
    assert words == expected_words
    assert numbers == pytest.approx(expected, rel=5e-3)


def test_other_inputs_bring_their_dimensions(opened):
    control(opened, "inputs").select_option(index=1)
    assert readout(opened).startswith('Uniform, </script><b class="x"> inputs, d = 31, m = 8')
    assert control(opened, "dimension").locator("option").all_text_contents() == ["31"]
    control(opened, "inputs").select_option("Gaussian")
    assert control(opened, "dimension").locator("option").all_text_contents() == ["7", "61"]


def test_one_end_of_the_range_pushes_the_other(opened):
    press_until(opened, "widest", "64")
    press_until(opened, "narrowest", "256")
    assert control(opened, "widest").get_attribute("aria-valuetext") == "512"
    words = readout(opened)
    assert "still falling at width 512" in words and "already rising at width 256" in words
    press_until(opened, "base", "128")
    control(opened, "widest").press("Home")
    assert "width 256" in readout(opened)  # the first that can be drawn above the base width
    assert opened.locator("svg.plot").first.locator("path").count() == 8


def test_a_view_is_in_the_address_and_reset_takes_it_out(browser, tmp_path, page):
    file = tmp_path / "distance.html"
    page.save(file, title="Distance")
    one, other = browser.new_page(), browser.new_page()
    one.goto(file.as_uri())
    at_first = readout(one)
    control(one, "base").press("ArrowRight")
    one.wait_for_function("location.hash.includes('base=')")
    other.goto(one.url)
    assert readout(other) == readout(one) != at_first
    other.get_by_role("button", name="Reset").click()
    assert (readout(other), other.url) == (at_first, file.as_uri())
    for tab in (one, other):
        tab.close()


def test_the_values_at_a_width_are_said_where_the_plot_is_pointed_at(opened):
    box = opened.locator("svg.plot").first.bounding_box()
    opened.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    said = opened.locator(".values").first.text_content()
    assert re.match(r"Width [\d.,]+, p = [\d.]+\. Theorem 1: bias² .*; eq\. \(4\): .*total [\d.]+\.$", said)


def test_the_axis_can_be_linear(opened):
    before = curve(opened, "exact.total")
    control(opened, "log").press("Space")
    assert curve(opened, "exact.total") != before


def test_the_page_fits_a_phone(opened):
    opened.set_viewport_size({"width": 380, "height": 800})
    opened.wait_for_function("document.querySelector('svg.plot').viewBox.baseVal.width < 400")
    assert opened.evaluate("document.documentElement.scrollWidth") <= 380


# -- the allocation ---------------------------------------------------------------------------

BASES, WIDE = (8, 12, 18, 40, 64), (8, 12, 18, 27, 40, 60, 64, 91, 512)


def resnets(num_classes: int) -> dict[int, dict[str, int]]:
    return {w: wsn.weights_per_layer(wsn.ResNet18Spec(width=w, num_classes=num_classes)) for w in WIDE}


@pytest.fixture(scope="module")
def resnet_page():
    return wsn.widgets.allocation_explorer_page(
        {f"ResNet-18, {classes} classes": resnets(classes) for classes in (10, 100)},
        base_widths=BASES,
        start=(8, 64),
    )


def tabulated(tab, network: int, base: int, width: int) -> dict[str, tuple[int, int, str]]:
    """Layers as (dense, kept, sparsity), with the sliders at these places of their lists."""
    rows = tab.evaluate(
        """([network, base, width]) => {
            const root = document.querySelector(".wsn-allocation");
            const set = (name, key, value) => {
                const control = root.querySelector(`[data-control=${name}]`);
                control[key] = value;
                control.dispatchEvent(new Event("input", { bubbles: true }));
            };
            set("network", "selectedIndex", network);
            set("base", "value", base);
            set("width", "value", width);
            return [...root.querySelectorAll("tbody tr")].map((row) => [...row.children].map((c) => c.textContent));
        }""",
        [network, base, width],
    )
    count = [
        (name, int(size.replace(",", "")), int(kept.replace(",", "")), s) for name, size, kept, s in rows
    ]
    return {name: numbers for name, *numbers in count}


def test_the_browser_keeps_what_the_library_allocates(open_page, resnet_page):
    tab = open_page(resnet_page)
    points = 0
    for network, classes in enumerate((10, 100)):
        family = resnets(classes)
        for i, base in enumerate(BASES):
            num_weights = sum(family[base].values())
            for j, width in enumerate(WIDE):
                if width < base:
                    continue
                layers = tabulated(tab, network, i, j)
                whole = layers.pop("network")
                expected = wsn.allocate(family[width], num_weights=num_weights)
                assert {name: kept for name, (_, kept, _) in layers.items()} == expected
                assert {name: size for name, (size, _, _) in layers.items()} == family[width]
                assert list(layers) == sorted(family[width], key=lambda name: -family[width][name])
                assert whole[:2] == [sum(family[width].values()), num_weights]
                points += 1
    assert points == 2 * (9 + 8 + 7 + 5 + 3)


def test_the_browser_allocates_any_sizes_as_the_library_does(open_page):
    """Random networks: equal sizes, remainders, and budgets of hardly more than one weight a layer."""
    rng = np.random.default_rng(0)
    networks = {}
    for i in range(60):
        layers, most = int(rng.integers(1, 9)), int(rng.choice([2, 5, 40, 100_000]))
        wide = rng.integers(1, most + 1, layers)
        networks[f"network {i}"] = {
            n: {f"l{j}": int(v) for j, v in enumerate(np.maximum(1, wide * n // 11))}
            for n in (2, 3, 5, 7, 11)
        }
    tab = open_page(widgets.allocation_explorer_page(networks))
    uneven = 0
    for i, family in enumerate(networks.values()):
        for base, width in ((0, 4), (1, 4), (3, 4), (2, 3), (2, 2)):
            sizes, narrow = list(family.values())[width], list(family.values())[base]
            expected = wsn.allocate(sizes, num_weights=sum(narrow.values()))
            layers = tabulated(tab, i, base, width)
            assert {name: kept for name, (_, kept, _) in layers.items() if name != "network"} == expected
            uneven += len({n for name, n in expected.items() if n < sizes[name]}) > 1
    assert uneven > 20


@pytest.mark.parametrize(
    ("network", "base", "width", "said"),
    [
        (0, 8, 18, "175,192 of 884,502 weights, connectivity 0.198. 8 of 21 layers are sparse and keep 13,397 weights each, except for layer4.0.conv2 with 13,391."),
        (0, 8, 64, "175,192 of 11,164,352 weights, connectivity 0.0157. 18 of 21 layers are sparse and keep 8,898 weights each, except for layer4.0.conv2 with 8,886."),
        (0, 18, 64, "884,502 of 11,164,352 weights, connectivity 0.0792. 13 of 21 layers are sparse and keep 53,019 weights each, except for layer4.0.conv2 with 53,010."),
        (1, 40, 40, "4,391,480 of 4,391,480 weights, connectivity 1. All 21 layers are dense."),
    ],
)  # fmt: skip
def test_the_page_says_the_golden_values(open_page, resnet_page, network, base, width, said):
    tab = open_page(resnet_page)
    tabulated(tab, network, BASES.index(base), WIDE.index(width))
    assert readout(tab).endswith(said)
    f = f"{width / base:.3g}"
    start = f"ResNet-18, {(10, 100)[network]} classes, base width {base}, width {width} (widening factor f = {f}): "
    assert readout(tab).startswith(start)
    assert readout(tab) in tab.locator("svg.plot").first.get_attribute("aria-label").replace("\xa0", " ")
    drawn = tab.locator("svg.plot").first.locator("text").all_text_contents()
    level = re.findall(r"keep ([\d,]+) weights each", said)
    assert [text for text in drawn if "level" in text] == [f"level {number}" for number in level]
    rows = list(tabulated(tab, network, BASES.index(base), WIDE.index(width)).values())[1:]
    shown = [text for text in drawn if text == "dense" or text.endswith(" %")]
    assert shown == ["dense" if size == kept else f"{sparsity} %" for size, kept, sparsity in rows]


def test_the_page_shows_the_sparsities_of_figure_10(open_page, resnet_page):
    tab = open_page(resnet_page)
    figure_10 = printed_table("G21", "Figure 10")
    for width in figure_10.index:
        layers = tabulated(tab, 1, 0, WIDE.index(width))
        for name, sparsity in figure_10.loc[width].items():
            assert float(layers[name][2]) == pytest.approx(sparsity, abs=0.051)


def widths_of(tab, kind: str) -> list[float]:
    return [
        float(bar.get_attribute("width")) for bar in tab.locator(f"svg.plot >> nth=0 >> rect.{kind}").all()
    ]


def test_bars_and_level_are_drawn_to_scale(open_page, resnet_page):
    tab = open_page(resnet_page)
    control(tab, "log").press("Space")
    layers = tabulated(tab, 0, 1, 3)
    del layers["network"]
    sizes, kept = ([numbers[k] for numbers in layers.values()] for k in (0, 1))
    scale = widths_of(tab, "dense")[0] / sizes[0]
    assert widths_of(tab, "dense") == pytest.approx([scale * size for size in sizes], abs=0.01)
    assert widths_of(tab, "kept") == pytest.approx([scale * size for size in kept], abs=0.01)
    axis = tab.locator("svg.plot >> nth=0 >> line.frame")
    room = 800 - 58 - float(axis.get_attribute("x1"))
    assert tab.locator("svg.plot").first.get_attribute("viewBox").startswith("0 0 800 ")
    assert 0.9 * room < widths_of(tab, "dense")[0] <= room
    control(tab, "log").press("Space")
    assert 0.5 * room < widths_of(tab, "dense")[0] <= room
    decades = widths_of(tab, "dense")[0] / np.log10(sizes[0] / 100)
    assert widths_of(tab, "kept") == pytest.approx([decades * np.log10(n / 100) for n in kept], abs=0.01)
    level = tab.locator("svg.plot >> nth=0 >> line.level")
    bar = tab.locator("svg.plot >> nth=0 >> rect.kept").first
    place = float(level.get_attribute("x1")) - float(bar.get_attribute("x"))
    highest = max(k for k, s in zip(kept, sizes, strict=True) if k < s)
    assert place == pytest.approx(decades * np.log10(highest / 100), abs=0.01)
    heights = [float(level.get_attribute(end)) for end in ("y1", "y2")]
    assert heights[0] < float(axis.get_attribute("y1")) and heights[1] == float(axis.get_attribute("y2"))
    tabulated(tab, 0, 1, 1)
    assert tab.locator("svg.plot >> nth=0 >> .level").count() == 0  # dense: there is no level


def test_the_order_of_the_network_can_be_had(open_page, resnet_page):
    tab = open_page(resnet_page)
    control(tab, "sorted").press("Space")
    assert list(tabulated(tab, 0, 0, 5))[1:] == list(resnets(10)[8])
    first = tab.locator("svg.plot").first
    names = [text for text in first.locator("text").all_text_contents() if text in resnets(10)[8]]
    assert names == list(resnets(10)[8])


def test_the_keyboard_drains_the_layers(open_page, resnet_page):
    tab = open_page(resnet_page)
    assert tab.locator("[data-ready]").count() == 2
    assert control(tab, "width").get_attribute("aria-valuetext") == "64 (f = 8)"
    assert control(tab, "base").get_attribute("aria-valuetext") == "8 (175,192 weights)"
    before = widths_of(tab, "kept")
    control(tab, "width").press("ArrowRight")
    assert "width 91 (widening factor f = 11.4)" in readout(tab)
    assert all(after <= b for after, b in zip(widths_of(tab, "kept")[:16], before, strict=False))
    assert "width 64 " in tab.locator(".readout").nth(1).text_content()
    press_until(tab, "width", "12")
    control(tab, "base").press("End")  # the base width pushes the width along, and the width the base width
    assert control(tab, "width").get_attribute("aria-valuetext") == "64 (f = 1)"
    press_until(tab, "width", "27")  # the base comes back as far as the width allows
    assert control(tab, "base").get_attribute("aria-valuetext") == "18 (884,502 weights)"
    control(tab, "base").press("End")
    control(tab, "width").press("ArrowLeft")
    assert control(tab, "base").get_attribute("aria-valuetext") == "40 (4,362,680 weights)"
    assert "base width 40, width 60" in readout(tab)


def test_a_slider_and_its_words_stay_on_their_lines(open_page, resnet_page):
    """What is dragged does not move under the hand."""
    tab = open_page(resnet_page)
    for size in (900, 700, 380):
        tab.set_viewport_size({"width": size, "height": 800})
        tops = set()
        for base, width in ((0, 0), (4, 8)):
            tabulated(tab, 0, base, width)
            tops |= {control(tab, name).bounding_box()["y"] for name in ("base", "width")}
        assert len(tops) <= 2


def test_many_or_strangely_named_layers_fit_a_phone(open_page):
    layers = {f'<b class="x">&amp;{i}': 3 + i for i in range(70)} | {
        f"features.block{i}.</script>": 99 for i in "ab"
    }
    family = {n: {name: n * size for name, size in layers.items()} for n in (1, 2)}
    page = widgets.allocation_explorer_page({"a </script> net": family}, start=(1, 2))
    assert page.html.count("</script>") == 2
    tab = open_page(page)
    tab.set_viewport_size({"width": 380, "height": 800})
    tab.wait_for_function("document.querySelector('svg.plot').viewBox.baseVal.width < 400")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 380
    plot = tab.locator("svg.plot").first
    assert plot.locator("rect.kept").count() == 72
    names = sorted(layers, key=lambda name: -layers[name])
    assert list(tabulated(tab, 0, 0, 1))[1:] == names
    drawn = [text for text in plot.locator("text").all_text_contents() if text[0] in "<…"]
    assert drawn[2:] == names[2:]
    for name, short in zip(names[:2], drawn, strict=False):
        assert short[0] == "…" and name.endswith(short[1:]) and len(short) <= 22
    assert not control(tab, "network").is_visible()
    assert left_of_texts(tab) >= 0


def left_of_texts(tab) -> float:
    return tab.evaluate(
        "Math.min(...[...document.querySelector('svg.plot').children].filter((e) => e.tagName === 'text')"
        ".map((e) => e.getBoundingClientRect().left))"
    )


def test_a_network_of_few_weights_is_told_and_drawn(open_page):
    family = {1: {"a": 2, "b": 1, "c": 1}, 2: {"a": 1000, "b": 90, "c": 80}}
    tab = open_page(widgets.allocation_explorer_page({"net": family}, start=(1, 2)))
    assert readout(tab).endswith(
        "3 of 3 layers are sparse and keep 2 weights each, except for 2 of them with 1."
    )
    assert min(widths_of(tab, "kept")) > 0  # a whole power of ten, too, has a bar
    control(tab, "log").press("Space")
    assert "level 2" in tab.locator("svg.plot").first.locator("text").all_text_contents()
    assert left_of_texts(tab) >= tab.locator("svg.plot").first.bounding_box()["x"]


def test_the_allocation_page_loads_nothing_and_is_the_same_each_time(resnet_page):
    assert not re.search(r"https?:|src=|href=|@import|url\(| id=", resnet_page.html)
    assert "__" not in resnet_page.html
    networks = {f"ResNet-18, {classes} classes": resnets(classes) for classes in (10, 100)}
    again = wsn.widgets.allocation_explorer_page(networks, base_widths=reversed(BASES), start=(8, 64))
    assert again == resnet_page and repr(again) == "AllocationExplorerPage()"
    assert len(resnet_page.html) < 25_000


def test_widths_below_the_base_widths_are_left_out():
    family = {n: {"a": n, "b": 2 * n} for n in (5, 3, 2, 7)}
    data = data_of(widgets.allocation_explorer_page({"net": family}, base_widths=[3, 7]))
    assert (data["widths"], data["base_widths"]) == ([3, 5, 7], [3, 7])
    assert data["networks"] == {"net": {"layers": ["a", "b"], "sizes": [[3, 6], [5, 10], [7, 14]]}}
    assert data["start"] == {"base_width": 3, "width": 5}
    data = data_of(widgets.allocation_explorer_page({"net": family}))
    assert data["base_widths"] == [2, 3, 5, 7] and data["start"] == {"base_width": 2, "width": 5}


@pytest.mark.parametrize(
    ("networks", "options", "message"),
    [
        ({}, {}, "networks must have one width or more, got one without"),
        ({"A": {}}, {}, "networks must have one width or more, got one without"),
        ({"A": {1: {}}}, {}, "A of width 1 must have at least one layer, got none"),
        ({"A": {1: {"a": 1}}, "B": {2: {"a": 1}}}, {}, "B must have the widths of A, 1, got 2"),
        ({"A": {1: {"a": 1}, 2: {"b": 2}}}, {}, "A of width 2 must have the layers of width 1, a, got b"),
        ({"A": {1: {"a": 0}}}, {}, "weights in a of A at width 1 must be an integer ≥ 1, got 0"),
        ({"A": {1: {"a": True}}}, {}, "weights in a of A at width 1 must be an integer ≥ 1, got True"),
        ({"A": {1: {"a": 1.5}}}, {}, "weights in a of A at width 1 must be an integer ≥ 1, got 1.5"),
        (
            {"A": {1: {"a": 2}, 2: {"a": 1}}},
            {},
            "A must have at least 2 weights at width 2, as at width 1, got 1",
        ),
        ({"A": {1: {"a": 1}}}, {"base_widths": [2]}, "base_widths must be some of 1, got 2"),
        ({"A": {1: {"a": 1}}}, {"base_widths": []}, "base_widths must be some of 1, got none"),
        (
            {"A": {1: {"a": 1}, 2: {"a": 2}}},
            {"start": (2, 1)},
            "start must be a base width of 1, 2 and a width from it up, of 1, 2, got (2, 1)",
        ),
        (
            {"A": {1: {"a": 1}}},
            {"start": (1, 3)},
            "a base width of 1 and a width from it up, of 1, got (1, 3)",
        ),
        (
            {"A": {1: {"a": 1}, 2: {"a": 2}}},
            {"start": (2, 2), "base_widths": [1]},
            "a base width of 1 and a width from it up, of 1, 2, got (2, 2)",
        ),
    ],
)
def test_networks_that_cannot_be_shown_are_refused(networks, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        widgets.allocation_explorer_page(networks, **options)


# -- similarity of layers ---------------------------------------------------------------------

LAYERS = ["conv", *(f"stage{i}.block{j}.add" for i in (1, 2) for j in (1, 2, 3)), 'den<b>"se']


def cka_map(seed: int, n: int = len(LAYERS)) -> wsn.widgets.CKAMap:
    rng = np.random.default_rng(seed)
    cka, without = ((v + v.T) / 2 for v in rng.uniform(-0.05, 1.02, (2, n, n)))
    np.fill_diagonal(cka, 1)
    np.fill_diagonal(without, 1)
    maps = {"cka": cka, "without_component": without, "blocks": [(1, 4)]}
    return wsn.widgets.CKAMap(layers=LAYERS[:n], **maps, note=f"training accuracy {90 + seed} %")


@pytest.fixture(scope="module")
def cka_networks():
    return {"ResNet <1×>": {seed: cka_map(seed) for seed in (3, 5)}, "short": {5: cka_map(7, n=5)}}


def said(tab, network: int, seed: int, row: int, column: int, *, without: bool) -> str:
    return tab.evaluate(
        """([network, seed, row, column, without]) => {
            const root = document.querySelector(".wsn-cka");
            const set = (name, key, value) => {
                const control = root.querySelector(`[data-control=${name}]`);
                control[key] = value;
                control.dispatchEvent(new Event("input", { bubbles: true }));
            };
            set("network", "selectedIndex", network);
            set("seed", "selectedIndex", seed);
            set("row", "value", row);
            set("column", "value", column);
            set("without", "checked", without);
            return root.querySelector(".readout").textContent.replaceAll("\u00a0", " ");
        }""",
        [network, seed, row, column, without],
    )


def test_the_browser_says_the_similarity_of_any_two_layers(open_page, cka_networks):
    tab = open_page(wsn.widgets.cka_explorer_page(cka_networks))
    for network, (name, seeds) in enumerate(cka_networks.items()):
        for at, (seed, found) in enumerate(seeds.items()):
            for row, column, without in (
                (0, 1, False),
                (4, 2, True),
                (2, 4, True),
                (3, 3, False),
                (1, 4, False),
            ):
                text = said(tab, network, at, row, column, without=without)
                matrix = found.without_component if without else found.cka
                assert text.startswith(
                    f"{name}, seed {seed}, {found.note}, {len(found.layers)} layers, 1 block. CKA"
                )
                assert ("without the first principal component" in text) == without
                assert f"{found.layers[column]} and {found.layers[row]}: " in text
                assert float(text.rpartition(": ")[2].removesuffix(".")) == pytest.approx(
                    matrix[row, column], abs=0.005001
                )


def test_the_pointer_chooses_the_two_layers_from_the_lower_left(open_page, cka_networks):
    tab = open_page(wsn.widgets.cka_explorer_page(cka_networks))
    box = tab.locator(".wsn-cka svg.plot image").first.bounding_box()
    for row, column in ((0, 0), (6, 1), (2, 7)):
        x = box["x"] + box["width"] * (column + 0.5) / len(LAYERS)
        y = box["y"] + box["height"] * (1 - (row + 0.5) / len(LAYERS))
        tab.mouse.move(x, y)
        assert (control(tab, "row").input_value(), control(tab, "column").input_value()) == (
            str(row),
            str(column),
        )
        assert f"{LAYERS[column]} and {LAYERS[row]}: " in readout(tab)


def test_a_tap_chooses_the_two_layers(browser, tmp_path, cka_networks):
    file = tmp_path / "map.html"
    wsn.widgets.cka_explorer_page(cka_networks).save(file, title="Map")
    context = browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True)
    tab = context.new_page()
    tab.goto(file.as_uri())
    image = tab.locator(".wsn-cka svg.plot image").first
    image.scroll_into_view_if_needed()
    box = image.bounding_box()
    x, y = (box[side] + 0.5 / len(LAYERS) * box[size] for side, size in (("x", "width"), ("y", "height")))
    tab.touchscreen.tap(x, y)
    assert f"{LAYERS[0]} and {LAYERS[-1]}: " in readout(tab)
    context.close()


@pytest.mark.parametrize("activation", ["relu", "linear"])
def test_the_widened_network_says_its_weights_and_accuracy(open_page, activation):
    widths = [3, 7, 19]
    curves = {
        name: pd.DataFrame(
            {
                "mean": [0.6, 0.7 + i / 10, 0.65],
                "low": [-np.inf, 0.6, 0.5],
                "high": [np.inf, 0.9, np.inf],
                "first": [60, 53, 41],
                "last": [15, 22, 34],
            },
            index=widths,
        )
        for i, name in enumerate(("relu", "linear"))
    }
    tab = open_page(wsn.widgets.widening_explorer_page(curves, image=(4, 5)))
    control(tab, "activation").select_option(activation)
    assert control(tab, "width").get_attribute("aria-valuetext") == "7 (2.33×)"
    said = readout(tab)
    assert (
        "still 75 weights" in said and "sees 7.57 of 20 pixels" in said and "3.14 of 5 output weights" in said
    )
    mean = {"relu": 70, "linear": 80}[activation]
    assert f"{mean}.0 % (60.0 to 90.0): {mean - 60}.0 points above the dense network" in said
    control(tab, "width").press("Home")
    assert "60.0 %: this is the dense network" in readout(tab)
    dark = "canvas => [...canvas.getContext('2d').getImageData(0, 0, 480, 480).data].filter((v, i) => i % 4 === 3 && v > 200).length"
    assert tab.locator("canvas").first.evaluate(dark) > 1000  # the units of the dense network see all
    box = tab.locator(".wsn-widening svg.plot").first.bounding_box()
    tab.mouse.move(box["x"] + box["width"] - 5, box["y"] + box["height"] / 2)
    assert "19 hidden units" in readout(tab) and "65.0 %: " in readout(tab)
    assert tab.locator(".wsn-widening svg .band").count() == 0


def test_a_widened_network_without_a_column_is_refused():
    curve = pd.DataFrame({"mean": [0.5]}, index=[3])
    with pytest.raises(ValueError, match="relu must have the columns .* got no low; add it"):
        wsn.widgets.widening_explorer_page({"relu": curve}, image=(2, 2))
    with pytest.raises(ValueError, match="one activation or more, got none"):
        wsn.widgets.widening_explorer_page({}, image=(2, 2))


def test_the_map_has_the_colours_of_the_figures_and_grey_where_there_is_no_value(open_page):
    values, beyond = np.full((2, 4, 4), np.nan)  # the last layer does not vary
    values[:3, :3] = [[1, 0.5, np.nan], [0.5, 1, 0.0], [np.nan, 0.0, 1]]
    beyond[:3, :3] = [[1, -0.7, 3.0], [-0.7, 1, -0.3], [3.0, -0.3, 1]]
    found = wsn.widgets.CKAMap(layers=["a", "b", "c", "d"], cka=values, without_component=beyond)
    tab = open_page(wsn.widgets.cka_explorer_page({"net": {0: found}}))
    pixels = tab.evaluate(
        """async () => {
            const image = new Image();
            image.src = document.querySelector(".wsn-cka svg image").getAttribute("href");
            await image.decode();
            const canvas = document.createElement("canvas");
            canvas.width = canvas.height = 4;
            const context = canvas.getContext("2d");
            context.drawImage(image, 0, 0);
            return [...context.getImageData(0, 0, 4, 4).data];
        }"""
    )
    drawn = np.array(pixels).reshape(4, 4, 4)[::-1]
    magma = {v: tuple(round(255 * c) for c in colormaps["magma"](v)[:3]) for v in (0.0, 0.5, 1.0)}
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value):
            assert drawn[row, column, 3] == 0
        else:
            assert tuple(drawn[row, column, :3]) == magma[value]
    for row, column in ((2, 0), (3, 3)):
        assert "not defined: a layer does not vary" in said(tab, 0, 0, row, column, without=False)
    for row, column, text in (
        (1, 0, "−0.50"),
        (0, 2, "2.04"),
        (2, 1, "−0.30"),
    ):  # cut off at what a byte holds
        assert said(tab, 0, 0, row, column, without=True).endswith(f": {text}.")


def test_a_map_of_two_networks_has_the_layers_of_both_and_nothing_to_choose(open_page):
    rows, columns = LAYERS[:5], ["features.0", "features.1", "head"]
    values = np.random.default_rng(0).uniform(0, 1, (5, 3))
    values[2, 1] = np.nan
    tab = open_page(
        wsn.widgets.cka_explorer_page(wsn.widgets.CKAMap(layers=rows, columns=columns, cka=values))
    )
    for name in ("network", "seed", "without"):
        assert not control(tab, name).is_visible()
    assert not tab.locator(".of-blocks").first.is_visible()
    box = tab.locator(".wsn-cka svg.plot image").first.bounding_box()
    for row, column in ((4, 0), (0, 2), (3, 1), (2, 1)):
        x = box["x"] + box["width"] * (column + 0.5) / len(columns)
        tab.mouse.move(x, box["y"] + box["height"] * (1 - (row + 0.5) / len(rows)))
        text = readout(tab).replace("\u00a0", " ")
        assert text.startswith(f"3 by 5 layers. CKA of {columns[column]} and {rows[row]}: ")
        wanted = (
            "not defined: a layer does not vary" if (row, column) == (2, 1) else f"{values[row, column]:.2f}"
        )
        assert text.endswith(f": {wanted}.")
    assert tab.locator(".wsn-cka").first.locator("svg text").all_text_contents() == [
        "features",
        "stage 1",
        "stage 2",
    ]


def test_a_result_is_explored_in_one_file(tmp_path, browser):
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3))
    x = torch.randn(40, 7, generator=generator)
    found, without = (
        wsn.cka_matrix(net, x, batch_size=20, passes=3, without_component=less) for less in (False, True)
    )
    block = wsn.similarity.Block(start=1, stop=3, similarity=1, strength=1, p_value=0)
    found.explorer(tmp_path / "layers.html", blocks=[block], without_component=without)
    tab = browser.new_page(java_script_enabled=True)
    asked = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto((tmp_path / "layers.html").as_uri())
    assert asked[0] == (tmp_path / "layers.html").as_uri() and all(u.startswith("data:") for u in asked[1:])
    assert tab.title() == "CKA of every pair of layers"
    assert tab.locator(".wsn-cka svg .block").count() == 1
    assert readout(tab).replace("\u00a0", " ").endswith(f"1 and 2: {found.values[2, 1]:.2f}.")
    control(tab, "without").check()
    assert readout(tab).replace("\u00a0", " ").endswith(f"1 and 2: {without.values[2, 1]:.2f}.")
    tab.close()
    with pytest.raises(ValueError, match="without_component must be of the same layers, got others"):
        found.explorer(without_component=without.select(["0", "1"]))


def test_maps_that_cannot_be_shown_are_refused():
    with pytest.raises(ValueError, match="networks must have one seed or more, got one without"):
        wsn.widgets.cka_explorer_page({"net": {}})
    odd = wsn.widgets.CKAMap(layers=["a"], cka=np.eye(2), without_component=np.eye(1))
    with pytest.raises(
        ValueError, match=r"net, seed 3 must have a matrix \(1, 1\) for 1 layers, got \(2, 2\)"
    ):
        wsn.widgets.cka_explorer_page({"net": {3: odd}})
