"""The built book in a browser, opened from a folder with no network; skipped where there is no browser."""

import json
import re
from html.parser import HTMLParser
from importlib import resources, util
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

ROOT = Path(__file__).parent.parent
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text())
CHAPTERS = sorted(path.stem for path in (ROOT / "book").glob("*.ipynb"))
NAMES = [TOC["root"], *(entry["file"] for part in TOC["parts"] for entry in part["chapters"])]
LARGEST_BOOK = 60_000_000
"""Bytes of all files of the built book."""

LARGEST_PAGE = 4_000_000
"""Bytes of one page without its pictures."""

REFERENCE = "api_kernels"
"""On which axe-core is run; the other pages of the reference are made of the same template."""

PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}

HIDDEN = """formulas => formulas.filter(formula => {
    const box = formula.parentElement, { left, width } = formula.getBoundingClientRect();
    return width && (left < 0 || (box.scrollWidth > box.clientWidth && getComputedStyle(box).overflowX !== "auto"));
}).length"""
"""How many displayed formulas are cut off where nothing scrolls to the rest."""


@pytest.fixture(scope="module")
def opened(built, browser):
    """Opens a page of the book; what went wrong while it was open is in `trouble`."""
    context = browser.new_context(viewport=DESKTOP, reduced_motion="reduce")
    trouble: list[str] = []

    def guard(route):
        trouble.append(f"request to {route.request.url}")
        route.abort()

    context.route(re.compile("^(https?|wss?):"), guard)
    page = context.new_page()
    page.on("console", lambda m: trouble.append(f"{m.type}: {m.text}") if m.type == "error" else None)
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("requestfailed", lambda request: trouble.append(f"failed: {request.url}"))

    def open_page(name: str, query: str = ""):
        trouble.clear()
        page.set_viewport_size(DESKTOP)
        page.goto(f"{(built / name).as_uri()}.html{query}", wait_until="load")
        return page

    open_page.trouble = trouble
    yield open_page
    context.close()


def typeset(page) -> None:
    """Wait until all formulas are drawn."""
    if page.locator(".math").count():
        page.wait_for_function("window.MathJax?.startup?.promise")
        page.evaluate("() => MathJax.startup.promise")


@pytest.fixture(scope="module")
def axe() -> str:
    if util.find_spec("axe_playwright_python") is None:
        pytest.skip("axe-core comes with axe-playwright-python, which is not installed")
    return resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


def findings(page, *only: str) -> list[str]:
    """What axe-core calls serious or critical, with the first places of each; of some rules only."""
    options = {"resultTypes": ["violations"], "elementRef": False, "iframes": False}
    if only:
        options["runOnly"] = list(only)
    violations = page.evaluate("async o => (await axe.run(document, o)).violations", options)
    return [
        f"{v['id']}: {node['html'][:120]} {node.get('failureSummary', '')[:200]}"
        for v in violations
        if v["impact"] in ("serious", "critical")
        for node in v["nodes"][:3]
    ]


def test_the_published_book_has_its_pages(built):
    for page in ("index", *CHAPTERS):
        assert (built / f"{page}.html").stat().st_size > 10_000
    for chapter in CHAPTERS:
        page = (built / f"{chapter}.html").read_text()
        assert "<img alt=" in page
        assert not re.findall(r'<img alt="[^"]*/[^"]*\.png"', page)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_opens_from_a_folder_without_a_network(name, opened, axe):
    page = opened(name)
    typeset(page)
    assert opened.trouble == []
    assert page.locator("article h1").count() == 1
    assert page.locator("[data-mjx-error]").all_inner_texts() == []
    assert [image for image in page.locator("main img").all() if image.evaluate("i => !i.naturalWidth")] == []
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.locator("article mjx-container[display]").evaluate_all(HIDDEN) == 0
    page.set_viewport_size(DESKTOP)
    if name.startswith("api_") and name != REFERENCE:
        return
    page.evaluate(axe)
    found = findings(page)
    page.add_style_tag(content="* { transition: none !important; }")  # colours are compared at rest
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    found += [f"in the dark: {finding}" for finding in findings(page, "color-contrast")]
    assert found == []


EXPLORERS = {
    "index": ".wsn-widening",
    "sparse_mlp": ".wsn-widening",
    "gp_kernel": ".wsn-distance",
    "resnet_sweep": ".wsn-allocation",
    "cka_blocks": ".wsn-cka",
}


@pytest.mark.parametrize("name", EXPLORERS)
def test_an_explorer_is_alive_by_keyboard_and_mouse(name, opened):
    page = opened(name)
    typeset(page)  # what is typeset below the mouse would move the slider
    explorer = page.locator(EXPLORERS[name])
    slider, readout = explorer.locator('input[type="range"]').first, explorer.locator(".readout")
    slider.scroll_into_view_if_needed()
    slider.focus()
    seen = {readout.inner_text()}
    for key in ("End", "Home"):
        page.keyboard.press(key)
        seen.add(readout.inner_text())
    assert len(seen) >= 2
    box = slider.bounding_box()
    before = readout.inner_text()
    page.mouse.click(box["x"] + 0.9 * box["width"], box["y"] + box["height"] / 2)
    assert readout.inner_text() != before
    assert opened.trouble == []


ANSWERED = sorted(path.stem for path in (ROOT / "book").glob("*.ipynb"))
LONGEST_CHAPTER = 12_000
"""Pixels of a chapter at the width of a desktop."""


@pytest.mark.parametrize("name", ANSWERED)
def test_the_first_screen_of_a_chapter_answers(name, opened):
    page = opened(name)
    typeset(page)

    def top(words: str) -> float:
        return page.locator("article p", has_text=words).first.bounding_box()["y"]

    assert top("Question.") < top("Answer.") < top("Scale.") < 0.55 * DESKTOP["height"]
    figure = page.locator("article figure img").first.bounding_box()
    assert figure["y"] < 0.75 * DESKTOP["height"]
    assert page.evaluate("document.documentElement.scrollHeight") < LONGEST_CHAPTER


def test_no_percent_sign_begins_a_line(opened):
    text = "\n".join(opened("resnet_sweep").locator("article p").all_text_contents())
    assert len(re.findall(r"\d\N{NO-BREAK SPACE}%", text)) > 9
    assert re.findall(r".{9}\d[ \n]%", text) == []


@pytest.mark.parametrize("keys", [False, True], ids=["mouse", "keyboard"])
def test_a_button_shows_all_code_and_hides_it_again(keys, opened):
    page = opened("bottlenecks")
    button = page.get_by_role("button", name="Show all code")
    code = page.locator("article .cell.tag_hide-input .cell_input:not(details.wsn-appendix *)")
    solutions = page.locator("article .cell.tag_solution .cell_input")
    lessons = page.locator("article .cell.tag_lesson .cell_input")
    assert code.count() > 3 and solutions.count() == 3 and lessons.first.is_visible()
    for shown in (True, False):
        if keys:
            button.focus()
            page.keyboard.press("Enter")
        else:
            button.click()
        button = page.get_by_role("button", name="Hide all code" if shown else "Show all code")
        assert button.get_attribute("aria-pressed") == str(shown).lower()
        assert {each.is_visible() for each in code.all()} == {shown}
        assert {each.is_visible() for each in solutions.all()} == {False}


def test_a_table_sorts_by_mouse_and_by_keyboard(opened):
    page = opened("scorecard")
    table = page.locator("table.wsn-table").first
    head = table.locator("th", has_text="claim").first

    def column() -> list[str]:
        return table.locator("tbody tr td:nth-child(1)").all_inner_texts()

    at_first = column()
    head.locator("button").click()
    assert column() == sorted(at_first, key=str.casefold) != at_first
    assert head.get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Enter")
    assert column() == sorted(at_first, key=str.casefold, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"


def test_the_data_of_a_figure_come_with_the_page(opened, tmp_path):
    page = opened("sparse_mlp")
    made = page.locator("details.wsn-provenance").nth(2)
    made.locator("summary").first.click()
    with page.expect_download() as download:
        made.locator("a[download]").click()
    download.value.save_as(tmp_path / "data.csv")
    lines = (tmp_path / "data.csv").read_text().splitlines()
    assert lines[0].startswith("panel,")
    assert len(lines) > 100
    assert opened.trouble == []


GLOSSARY = re.findall(r"^(\w[\w -]*)\n  ", (ROOT / "book" / "glossary.md").read_text(), flags=re.MULTILINE)


def test_search_finds_the_words_of_the_glossary(opened):
    assert len(GLOSSARY) > 25
    page = opened("search", f"?q={GLOSSARY[0]}")
    assert page.locator("#search-results li a").first.inner_text()
    assert opened.trouble == []
    pages = "word => Search._performSearch(...Search._parseQuery(word)).map(found => found[0])"
    assert [word for word in GLOSSARY if "glossary" not in page.evaluate(pages, word)] == []


class Addresses(HTMLParser):
    """Anchors and links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids |= {value for name in ("id", "name") if (value := given.get(name))}
        self.links += [value for name in ("href", "src") if (value := given.get(name))]


def addresses(path: Path) -> Addresses:
    parser = Addresses()
    parser.feed(path.read_text(encoding="utf-8"))
    return parser


def test_every_internal_link_leads_somewhere(built):
    pages = {path.resolve(): addresses(path) for path in built.rglob("*.html") if "_static" not in path.parts}
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or link.startswith("//"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = target not in pages or parts.fragment in {"", *pages[target].ids}
            if not target.exists() or not known:
                broken.append(f"{path.name}: {link}")
    assert broken == []


def test_the_book_is_small_enough_to_carry(built):
    files = [path for path in built.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < LARGEST_BOOK
    assert [path.name for path in files if path.suffix == ".map"] == []
    assert [p.name for p in files if p.suffix == ".html" and p.stat().st_size > LARGEST_PAGE] == []


def test_the_front_page_s_summary_is_the_scorecard_s(opened):
    from wsnlib import book

    counts = book.verdict_counts(book.scorecard_table(book.read_pages(ROOT / "book")))
    page = opened("index")
    rows = page.locator("table", has_text="not tested").first.locator("tbody tr").all()
    shown = [[int(n) for n in row.locator("td").all_inner_texts()[1:]] for row in rows]
    assert shown == counts.to_numpy().tolist()
    assert json.dumps(shown) != "[]"
