"""What the built book needs beyond jupyter-book: it works offline, and some of its parts are computed.

- Nothing is loaded from a network: MathJax comes from an installed package, and scripts that serve a
  live kernel are left out. No page shows a widget that would need one.
- `{verdict}`, `{measured}`, `{status}`, `{exhibits}`, `{scorecard-summary}`, `{front-explorer}` are written from the
  notebooks at every build; the reference is what autodoc makes of the docstrings.
- `wsn.name` in text links to the reference.
- Code is folded, but for what is part of the lesson; a button on the page shows all (`_static/code.js`).
"""

from __future__ import annotations

import base64
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import nbformat
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective, SphinxRole

import wsnlib as wsn
from wsnlib.book.engine import claims, published, scores
from wsnlib.book.engine.provenance import PROVENANCE_TYPE
from wsnlib.book.engine.verdicts import VERDICTS_TYPE, sorting_script

MATHJAX = "tex-svg.js"
"""One file with its fonts, so that a page from a folder asks for no other."""


def work_offline(app: Sphinx, _config: Any) -> None:
    """MathJax from beside the pages, no widget manager, and launch buttons only where a repository is known.

    Figures have their numbers in the notebooks.
    """
    app.config.numfig = False
    app.config.mathjax_path = MATHJAX
    app.config.nb_ipywidgets_js = {}
    if repository := os.environ.get("BOOK_REPOSITORY"):
        options = app.config.html_theme_options
        options["repository_url"] = f"https://github.com/{repository}"
        options["repository_branch"] = "main"
        options["path_to_docs"] = "book"
        options["launch_buttons"] = {
            "notebook_interface": "jupyterlab",
            "binderhub_url": "https://mybinder.org",
            "colab_url": "https://colab.research.google.com",
        }


def copy_mathjax(app: Sphinx, error: Exception | None) -> None:
    """Put MathJax beside the pages of a finished book, and leave out what only debuggers of its scripts read."""
    if error is None and app.builder.format == "html":
        for file in Path(app.outdir, "_static").rglob("*.map"):
            file.unlink()
        (package,) = importlib.util.find_spec(
            "sphinx-mathjax-offline"
        ).submodule_search_locations
        shutil.copy(
            Path(package, "static", "mathjax", MATHJAX),
            Path(app.outdir, "_static", MATHJAX),
        )


def without_kernel_scripts(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Leave out what loads Thebe, which needs a network and a server."""

    def serves_a_kernel(script: Any) -> bool:
        text = f"{getattr(script, 'filename', script)} {getattr(script, 'attributes', {}).get('body', '')}"
        return "thebe" in text.lower()

    for kind in ("script_files", "css_files"):
        context[kind] = [
            file for file in context.get(kind, []) if not serves_a_kernel(file)
        ]


def sound_lists(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Take the role of a list from bibliographies, whose entries are no items of one."""
    if "body" in context:
        context["body"] = context["body"].replace(
            'role="list" class="citation-list"', 'class="citation-list"'
        )


def read_notebook(text: str) -> nbformat.NotebookNode:
    """A notebook as the book shows it: pictures are figures, links lead to pages.

    `page.show` leaves a picture, a caption and what made it. myst-nb takes every output of a cell with a
    figure for one, so what made it goes into a cell of its own.
    """
    notebook = nbformat.reads(text, as_version=4)
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        outputs = cell.get("outputs", [])
        made = [o for o in outputs if PROVENANCE_TYPE in o.get("data", {})]
        if made:
            picture, caption, below = outputs[-3:]
            cell.metadata["mystnb"] = {
                "image": {"alt": picture.metadata["image/png"]["alt"]}
                | (
                    {"classes": "wide"}
                    if _is_wide(picture.data["image/png"])
                    else {}
                ),
                "figure": {
                    "caption": caption.data["text/markdown"],
                    "name": below.data[PROVENANCE_TYPE]["name"],
                },
            }
            cell.outputs = [picture]
            hidden = {"tags": ["remove-input", "below-figure"]}
            source = (
                "# what made the figure"  # a cell without a source is skipped
            )
            cells.append(
                nbformat.v4.new_code_cell(
                    source,
                    metadata=hidden,
                    outputs=[*outputs[:-3], below],
                    execution_count=1,
                )
            )
        if any(VERDICTS_TYPE in o.get("data", {}) for o in outputs):
            cell.metadata.setdefault("tags", []).append("full-width")
        for data in (o.data for o in outputs if "data" in o):
            for kind in [kind for kind in data if "vnd.wsnlib" in kind]:
                del data[kind]
            if "text/html" in data:
                data["text/html"] = re.sub(
                    r'href="(\w+)\.ipynb', r'href="\1.html', data["text/html"]
                )
    notebook.cells = folded(cells)
    return notebook


def _is_wide(png: str) -> bool:
    """Whether a picture (base64) is so wide that it scrolls on a phone: more than twice its height."""
    size = base64.b64decode(png[:32])[16:24]
    return int.from_bytes(size[:4], "big") > 2 * int.from_bytes(size[4:], "big")


FOLDED = {
    "parameters": ("hide-input", "Parameters"),
    "solution": ("hide-cell", "Solution"),
}
"""What unfolds of a cell with a tag, and what the line says that it unfolds from."""

UNFOLDED = {"lesson", "remove-input", "remove-cell"}
"""Tags of cells whose code is to be read, and of those whose code is not shown at all."""


def folded(cells: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Cells whose code is one line that unfolds, but for those with the tag `lesson`.

    Code that shows nothing is joined to the code that follows it, so that one line stands between two
    paragraphs or figures.
    """
    found: list[nbformat.NotebookNode] = []
    before = None  # the code that shows nothing so far
    for cell in cells:
        tags = cell.metadata.setdefault("tags", [])
        own = FOLDED.keys() & set(tags)
        found.append(cell)
        if cell.cell_type == "code" and not UNFOLDED & set(tags):
            how, name = FOLDED[own.pop()] if own else ("hide-input", "Code")
            if name == "Code" and before is not None:
                cell.source = f"{before.source}\n\n{cell.source}"
                found = [each for each in found if each is not before]
            before = None if cell.outputs or name != "Code" else cell
            tags.append(how)
            prompts = {"code_prompt_show": name, "code_prompt_hide": name}
            cell.metadata["mystnb"] = cell.metadata.get("mystnb", {}) | prompts
        elif "remove-cell" not in tags:
            before = None
    return found


def notebooks_of(env: BuildEnvironment) -> dict[str, published.Notebook]:
    """The notebooks that a book is built from, in its order."""
    source = Path(env.srcdir)
    files = published.notebooks_of(source / "_toc.yml", source)
    return {file.stem: published.read_notebook(file) for file in files}


def stamped(env: BuildEnvironment) -> Iterator[Path]:
    """The published chapters that a book is built from."""
    for name, notebook in notebooks_of(env).items():
        if "wsnlib" in notebook["metadata"]:
            yield Path(env.srcdir, f"{name}.ipynb")


def write_take_aways(app: Sphinx, error: Exception | None) -> None:
    """Every published chapter as one notebook with all that it needs, beside the pages of a finished book.

    In a process of its own: autodoc imports modules as type checkers see them, which is not how they run.
    """
    if error is None and app.builder.format == "html":
        chapters = [str(path) for path in stamped(app.env)]
        if chapters:
            words = ["-m", "wsnlib.book.engine.takeaway", *chapters]
            subprocess.run(
                [sys.executable, *words, str(Path(app.outdir, "take-away"))],
                cwd=root_of(app.env),
                check=True,
            )


def link_take_away(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """A published chapter ends with a link to itself as one notebook."""
    if page in {chapter.stem for chapter in stamped(app.env)}:
        context["body"] += (
            f'<p class="take-away"><a href="take-away/{page}.ipynb" download>This chapter as one notebook</a>, with '
            "the library and its records, for Colab or any Jupyter: it runs in seconds, without training.</p>"
        )


def root_of(env: BuildEnvironment) -> Path:
    """The repository, of whose folder `book`, or of a copy of it in `_build`, a book is built."""
    above = Path(env.srcdir).resolve().parents
    return next(folder for folder in above if (folder / "params").exists())


class OnClaim(SphinxRole):
    """What is said of a claim, `chapter/name`, computed from the estimates that the chapter holds."""

    def __init__(self, say: Callable[..., object], node: Any, **style: Any):
        self.say, self.node, self.style = say, node, style

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        self.env.note_reread()
        chapter, _, name = self.text.partition("/")
        claim = claims.claims_of(chapter)[name]
        said = self.say(notebooks_of(self.env)[chapter], claim)
        return [self.node(self.rawtext, str(said), **self.style)], []


class Computed(SphinxDirective):
    """A directive whose content is Markdown that is computed."""

    def markdown(self) -> str:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()
        return self.parse_text_to_nodes(
            self.markdown(), allow_section_headings=True
        )


class Status(Computed):
    """Chapter, profile, versions, device, duration, and whether it is stale."""

    def markdown(self) -> str:
        return scores.status_markdown(
            notebooks_of(self.env), root=root_of(self.env)
        )


class ScorecardSummary(Computed):
    """How many claims of each paper have which verdict."""

    def markdown(self) -> str:
        return scores.verdict_counts_markdown(
            scores.scorecard_table(notebooks_of(self.env))
        )


class FrontExplorer(SphinxDirective):
    """The explorer that a chapter shows in its cell with the tag `front-page`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()
        for cell in notebooks_of(self.env)[self.arguments[0]]["cells"]:
            if "front-page" in cell["metadata"].get("tags", []):
                for data in (o["data"] for o in cell["outputs"] if "data" in o):
                    html = "".join(data.get("text/html", ""))
                    return [nodes.raw("", html, format="html")]
        return []


class Exhibits(Computed):
    """Every figure, table and theorem of the papers, and ours beside it."""

    def markdown(self) -> str:
        rows = []
        numbers = {
            made["name"]: made["number"]
            for notebook in notebooks_of(self.env).values()
            for made in published.provenances(notebook)
        }
        for e in claims.exhibits():
            ours = (
                ", ".join(
                    f"{{ref}}`Figure {numbers[label]} <{label}>`"
                    for label in e.figures
                    if label in numbers
                )
                or e.planned
                or e.note
                or "a table"
            )
            rows.append(
                [
                    e.paper,
                    e.name,
                    e.shows,
                    f"[{e.chapter}]({e.chapter}.ipynb)",
                    ours,
                ]
            )
        head = ["paper", "figure or table", "shows", "page", "ours"]
        return scores.markdown_table(head, rows)


MARKDOWN = r"\[`([^`]+)`\]\[wsnlib\.([\w.]+)\](?=(\w)?)|`([^`]+)`(?=(\w)?)|\|"
"""A link to a name, code, and a bar, which reStructuredText would take for a substitution."""


def as_restructured_text(
    _app: Sphinx,
    _what: str,
    _name: str,
    _value: Any,
    _options: Any,
    lines: list[str],
) -> None:
    """Docstrings are Markdown; autodoc reads them as reStructuredText."""

    def written(found: re.Match[str]) -> str:
        link, path, in_word, code, in_word_too = found.groups()
        end = "\\ " if in_word or in_word_too else ""
        if link:
            return f":py:obj:`{link} <{_documented(path)}>`{end}"
        return f"``{code}``{end}" if code else "\\|"

    prose, examples = "\n".join(lines), ""
    if (start := prose.find("Examples:")) >= 0:
        prose, examples = prose[:start], prose[start:]
    lines[:] = (re.sub(MARKDOWN, written, prose) + examples).split("\n")


def _documented(path: str) -> str:
    """The place in the reference of a name: its namespace and its own name."""
    namespace, *_, name = path.split(".") if "." in path else ("", path)
    return ".".join(filter(None, ("wsnlib", namespace, name)))


def _place(name: str) -> str:
    """Where the reference has `wsn.name`: the namespace that defines it."""
    value = getattr(wsn, name, None) if "." not in name else None
    module = getattr(value, "__module__", None) or ""
    namespace = module.split(".")[1:2] if module.startswith("wsnlib.") else []
    return ".".join(["wsnlib", *namespace, name])


AS_THEY_ARE = (
    nodes.literal,
    nodes.literal_block,
    nodes.math,
    nodes.math_block,
    nodes.raw,
)
"""What holds no text of an author's."""


class LinkNames(SphinxPostTransform):
    """`wsn.name` in text leads to its entry in the reference."""

    default_priority = 5
    formats: ClassVar[tuple[str, ...]] = ("html",)

    def run(self, **_: Any) -> None:
        known = self.env.get_domain("py").objects
        for literal in list(self.document.findall(nodes.literal)):
            found = re.fullmatch(r"wsn\.([\w.]+)(\(.*\))?", literal.astext())
            entry = known.get(_place(found[1])) if found else None
            if entry is None or isinstance(literal.parent, nodes.reference):
                continue
            address = self.app.builder.get_relative_uri(
                self.env.docname, entry.docname
            )
            reference = nodes.reference(
                "", "", refuri=f"{address}#{entry.node_id}", internal=True
            )
            literal.replace_self(reference)
            reference += literal


class KeepPercent(SphinxPostTransform):
    """A number and its percent sign stay on one line."""

    default_priority = 6
    formats: ClassVar[tuple[str, ...]] = ("html",)

    def run(self, **_: Any) -> None:
        for text in list(self.document.findall(nodes.Text)):
            kept = re.sub(r"(?<=\d)\s%", "\N{NO-BREAK SPACE}%", text)
            if kept != text and not isinstance(text.parent, AS_THEY_ARE):
                text.parent.replace(text, nodes.Text(kept))


class FoldAppendices(SphinxPostTransform):
    """Every part of a section that is called Appendix unfolds from its heading."""

    default_priority = 6
    formats: ClassVar[tuple[str, ...]] = ("html",)

    def run(self, **_: Any) -> None:
        for appendix in list(self.document.findall(nodes.section)):
            if appendix.next_node(nodes.title).astext() != "Appendix":
                continue
            for part in (
                p for p in appendix.children if isinstance(p, nodes.section)
            ):
                start, head, end = (
                    nodes.raw("", html, format="html")
                    for html in (
                        '<details class="wsn-appendix"><summary>',
                        "</summary>",
                        "</details>",
                    )
                )
                title, *rest = part.children
                part.children = []
                part += [start, title, head, *rest, end]


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("config-inited", work_offline, priority=900)
    app.connect("autodoc-process-docstring", as_restructured_text, priority=400)
    app.connect("build-finished", copy_mathjax)
    app.connect("build-finished", write_take_aways)
    app.connect("html-page-context", link_take_away)
    app.connect("html-page-context", without_kernel_scripts, priority=900)
    app.connect("html-page-context", sound_lists)
    app.add_role("verdict", OnClaim(scores.verdict_on, nodes.strong))
    measured = OnClaim(scores.measured_on, nodes.inline, classes=["number"])
    app.add_role("measured", measured)
    app.add_directive("status", Status)
    app.add_directive("scorecard-summary", ScorecardSummary)
    app.add_directive("exhibits", Exhibits)
    app.add_directive("front-explorer", FrontExplorer)
    app.add_post_transform(LinkNames)
    app.add_post_transform(KeepPercent)
    app.add_post_transform(FoldAppendices)
    app.add_js_file(None, body=sorting_script())
    return {"parallel_read_safe": True, "parallel_write_safe": True}
