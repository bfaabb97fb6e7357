"""Notebooks as a reader meets them: in JupyterLab and in Notebook, in a browser, and where others render them.

One server serves three notebooks of a copy of the repository: a published one, which nobody trusts yet, a small
one that trains in seconds, and one of explorers.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
ROLES = "glue:text|paper|given|eq|ref|numref|doc|term|cite:?[tp]?"
MARKUP = re.compile(rf"\{{(?:{ROLES})\}}|:::|\(eq-|\{{\{{\w+\}}\}}|<Figure size|⋯")
"""What a notebook shows whose text needs an extension, a trusted output or a run."""

NEVER = 600_000
"""Milliseconds after which what is waited for will not come."""


# -- where others render them -----------------------------------------------------------------


def markdown_of(path: Path) -> list[str]:
    """All Markdown that a notebook holds, in cells and outputs."""
    cells = nbformat.read(path, as_version=4).cells
    shown = [o.get("data", {}).get("text/markdown", "") for c in cells for o in c.get("outputs", [])]
    return [c.source for c in cells if c.cell_type == "markdown"] + shown


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_commonmark_alone_renders_all_text(path):
    render = MarkdownIt("commonmark").enable("table").render
    assert [MARKUP.findall(render(text)) for text in markdown_of(path) if MARKUP.search(render(text))] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_outputs_show_where_no_script_runs_and_no_source_but_a_solution_s_is_folded(path):
    """On GitHub, in VS Code, in Colab: pictures are PNG, HTML says something in words, what is folded is text."""
    for cell in nbformat.read(path, as_version=4).cells:
        shown = [output.get("data", {"text/plain": output.get("text")}) for output in cell.get("outputs", [])]
        for data in shown:
            assert "image/png" in data or not any(kind.startswith("image/") for kind in data)
            words = re.sub(
                r"<(script|style)\b.*?</\1>|<[^>]*>", " ", data.get("text/html", "x"), flags=re.DOTALL
            )
            assert words.strip()
        solves = "solution" in cell.metadata.get("tags", [])  # of an exercise
        if cell.metadata.get("jupyter", {}).get("source_hidden") and not solves:
            assert all("text/markdown" in data for data in shown)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_nbconvert_shows_text_and_figures_with_their_words(path):
    nbconvert = pytest.importorskip("nbconvert", reason="a test of nbconvert needs it")
    html, _ = nbconvert.HTMLExporter(template_name="basic", exclude_input=True).from_filename(str(path))
    prose = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    figures = re.findall(r"<strong>Figure (\d+)\.</strong>", prose)
    assert MARKUP.findall(prose) == []
    assert figures == [str(n) for n in range(1, len(figures) + 1)] != []


# -- in JupyterLab and in Notebook ------------------------------------------------------------

SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # else cells out of sight are not there
    "apputils-extension/notification": {"fetchNews": "false"},
}

EXPLORERS = [
    'import numpy as np\nimport wsnlib as wsn\nx, y = np.random.default_rng(0).normal(size=(2, 4, 49))\n'
    'table = wsn.widgets.distance_table({"Gaussian": (x, y)})\nwsn.widgets.distance_explorer_page(table)',
    "wsn.widgets.distance_explorer(table)",
]  # fmt: skip


def small_notebook(target: Path) -> None:
    """A chapter that trains in seconds."""
    build = importlib.import_module("build")
    values = {"widths": [5, 10], "last_layer_densities": [0.5, 1.0], "seeds": [0, 1, 2], "epochs": 2}
    build.prepared(Path("book/sparse_mlp.ipynb"), target, "smoke", **values)
    notebook = nbformat.read(target, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, target)


def notebook_of_explorers(target: Path) -> None:
    cells = [nbformat.v4.new_code_cell(source) for source in EXPLORERS]
    title = nbformat.v4.new_markdown_cell("# Explorers")
    notebook = nbformat.v4.new_notebook(cells=[title, *cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, target)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A repository with its parameters, its records and three notebooks."""
    folder = tmp_path_factory.mktemp("repository")
    for name in ("params", "records"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "_toc.yml", folder / "_toc.yml")
    (folder / "book").mkdir()
    shutil.copy(ROOT / "book" / "gp_kernel.ipynb", folder / "book" / "gp_kernel.ipynb")
    small_notebook(folder / "book" / "small.ipynb")
    notebook_of_explorers(folder / "book" / "explorers.ipynb")
    return folder


@pytest.fixture(scope="module")
def server(folder, tmp_path_factory):
    """The address of a Jupyter server whose kernel is this Python, and which keeps its files to itself."""
    places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    program = shutil.which("jupyter-lab", path=places)
    if program is None:
        pytest.skip("notebooks are opened in JupyterLab where it is installed")
    home = tmp_path_factory.mktemp("jupyter")
    kernel = {"argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]}
    written = {"kernels/python3/kernel.json": kernel | {"display_name": "Python 3", "language": "python"}}
    written |= {f"settings/@jupyterlab/{name}.jupyterlab-settings": value for name, value in SETTINGS.items()}
    for name, value in written.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(json.dumps(value))
    environment = os.environ | {
        f"JUPYTER_{kind}_DIR": str(home / kind) for kind in ("DATA", "CONFIG", "RUNTIME")
    }
    environment |= {"JUPYTERLAB_SETTINGS_DIR": str(home / "settings"), "JUPYTER_PATH": str(home)}
    environment |= {"WSN_STORE": str(home / "store"), "PYTHONPATH": str(ROOT)}
    words = ["--no-browser", "--allow-root", "--port=0", "--IdentityProvider.token="]
    words += ["--ServerApp.disable_check_xsrf=True"]  # a test ends the kernels
    words += [f"--ServerApp.root_dir={folder}", "--ServerApp.log_level=CRITICAL"]
    process = subprocess.Popen([program, *words], env=environment, cwd=folder, stderr=subprocess.DEVNULL)
    said, address = home / "RUNTIME" / f"jpserver-{process.pid}.json", ""
    while process.poll() is None:
        try:
            address = f"http://127.0.0.1:{json.loads(said.read_text())['port']}"
            urllib.request.urlopen(f"{address}/api/status").close()
            break
        except (OSError, ValueError):  # not there, half written, or not yet listening
            time.sleep(0.2)
    yield address
    process.terminate()
    process.wait()


@pytest.fixture
def opened(browser, server):
    """Opens a notebook in JupyterLab or in Notebook."""
    tabs = []

    def opened(name: str, *, program: str = "lab"):
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        tab.set_default_timeout(NEVER)
        tabs.append(tab)
        place = "lab/tree" if program == "lab" else "notebooks"
        tab.goto(f"{server}/{place}/book/{name}.ipynb" + ("?reset" if program == "lab" else ""))
        tab.locator(".jp-Notebook h1").first.wait_for()
        return tab

    yield opened
    for tab in tabs:
        tab.close()
    with urllib.request.urlopen(f"{server}/api/kernels") as kernels:
        for kernel in json.load(kernels):  # else the kernels of all tests hold their memory
            of_one = urllib.request.Request(f"{server}/api/kernels/{kernel['id']}", method="DELETE")
            urllib.request.urlopen(of_one).close()


def cell_with(tab, words: str):
    return tab.locator(
        ".jp-Notebook .jp-CodeCell", has=tab.locator(".jp-InputArea-editor", has_text=words)
    ).first


def text_of(tab) -> str:
    """What a notebook says in its text and outputs."""
    return "\n".join(tab.locator(".jp-Notebook :is(.jp-MarkdownOutput, .jp-OutputArea)").all_inner_texts())


@pytest.mark.parametrize("program", ["lab", "notebook"])
def test_an_untrusted_notebook_shows_figures_and_no_markup_and_saving_changes_nothing(
    program, opened, folder
):
    file = folder / "book" / "gp_kernel.ipynb"
    before = nbformat.read(file, as_version=4)
    tab = opened("gp_kernel", program=program)
    tab.locator(".jp-Notebook h2", has_text="Run it yourself").wait_for()
    figures = tab.locator(".jp-OutputArea .jp-RenderedImage img")
    widths = figures.evaluate_all("images => images.map((image) => image.naturalWidth)")
    pictures = [o for c in before.cells for o in c.get("outputs", []) if "image/png" in o.get("data", {})]
    assert len(widths) == len(pictures) >= 5 and min(widths) > 300
    said = text_of(tab)
    assert MARKUP.findall(said) == []
    assert all(f"Figure {n}." in said for n in range(1, len(widths) + 1))
    assert "run this cell or trust this notebook" in said  # of the explorer, whose script does not run
    with tab.expect_response(lambda r: r.request.method == "PUT" and "/api/contents/" in r.url):
        tab.keyboard.press("Control+s")
    after = nbformat.read(file, as_version=4)
    for notebook in (before, after):
        notebook.metadata.language_info = {}  # the version of the reader's Python
    assert after == before


def run_all(tab) -> None:
    """Run All, once the notebook says that its kernel is connected and idle."""
    tab.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']").wait_for()
    tab.locator(".lm-MenuBar-item", has_text=re.compile("^Run$")).click()
    tab.locator(".lm-Menu-item[data-command='runmenu:run-all']").click()


def test_a_reader_edits_a_parameter_interrupts_and_goes_on(opened):
    tab = opened("small")
    line = cell_with(tab, 'profile = "smoke"').locator(".cm-line", has_text="epochs = 2")
    line.click()
    for keys in ("Home", "Shift+End"):
        tab.keyboard.press(keys)
    tab.keyboard.type("epochs = 150")
    run_all(tab)
    trains = cell_with(tab, "page.run_missing(runs)").locator(".jp-OutputArea").first
    trains.get_by_text(re.compile(r"\d+ of \d+ trained")).wait_for()
    tab.locator("[data-command='notebook:interrupt-kernel']").first.click()
    sentence = trains.get_by_text(re.compile(r"(\d+) of (\d+) results are stored; run again to go on"))
    sentence.wait_for()
    assert len(trains.inner_text().splitlines()) <= 4 and "Traceback" not in trains.inner_text()
    stored, total = map(int, re.findall(r"\d+", sentence.inner_text())[:2])
    run_all(tab)
    ended = trains.get_by_text(re.compile(r"\d+ results read, \d+ trained"))
    ended.wait_for()
    read, trained = map(int, re.findall(r"\d+", ended.inner_text()))
    assert read >= stored and read + trained == total
    tab.locator(".jp-OutputArea", has_text="150 epochs (300 in the paper)").first.wait_for()
    assert tab.locator(".wsn-table").count() and MARKUP.findall(text_of(tab)) == []
    whole = tab.locator(".jp-Notebook").text_content()
    assert re.search(r"Profile smoke \(but widths = \[5, 10\], .*, epochs = 150\)", whole)
    assert tab.locator("[data-mime-type='application/vnd.jupyter.stderr']").count() == 0


@pytest.mark.parametrize("program", ["lab", "notebook"])
def test_explorers_move_by_mouse_and_keys_and_keep_these_to_themselves(program, opened):
    tab = opened("explorers", program=program)
    run_all(tab)
    live = cell_with(tab, "distance_explorer(table)").locator(".jp-OutputArea").first
    eight = live.locator(".widget-readout", has_text=re.compile("^8$"))
    eight.or_(live.locator(".jp-RenderedText")).first.wait_for()
    assert eight.count() == 1, live.inner_text()

    static = tab.locator(".wsn-distance").first
    slider, readout = static.locator("input[type=range]").first, static.locator(".readout")
    slider.scroll_into_view_if_needed()
    height, seen = static.bounding_box()["height"], [readout.inner_text()]
    slider.focus()
    for key in ("ArrowRight", "m", "y", "Home"):
        tab.keyboard.press(key)
        seen.append(readout.inner_text())
    box = slider.bounding_box()
    tab.mouse.click(box["x"] + 0.6 * box["width"], box["y"] + box["height"] / 2)
    seen.append(readout.inner_text())
    assert len(set(seen)) == 4  # m and y change nothing
    assert static.bounding_box()["height"] == height and static.is_visible()

    handle = live.locator(".noUi-handle").first
    handle.scroll_into_view_if_needed()
    assert live.locator(".noUi-target").first.bounding_box()["width"] > 300
    for control in (live.locator("input[type=checkbox]"), live.locator("select").first, handle):
        control.focus()
        for key in ("m", "y", "r"):
            tab.keyboard.press(key)
            assert tab.locator(".jp-Notebook .jp-CodeCell").count() == len(EXPLORERS)
    tab.keyboard.press("ArrowRight")
    live.get_by_text("m = 12 (588 first-layer weights)").wait_for()
    at, track = handle.bounding_box(), live.locator(".noUi-target").first.bounding_box()
    tab.mouse.move(at["x"] + at["width"] / 2, at["y"] + at["height"] / 2)
    tab.mouse.down()
    tab.mouse.move(track["x"] + track["width"], at["y"] + at["height"] / 2, steps=5)
    live.get_by_text("m = 128 (6,272 first-layer weights)").wait_for()  # drawn while the mouse is down
    tab.mouse.up()
