"""What explorers that live in a static page share."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ExplorerPage:
    """A self-contained piece of HTML that a notebook shows and a static page keeps alive.

    Args:
        html: HTML with its style, its script and its data; it loads nothing.
    """

    html: str = field(repr=False)

    def _repr_html_(self) -> str:
        return self.html

    def save(self, file: Path | str, *, title: str) -> None:
        """Write one HTML file that a browser opens without a network.

        Examples:
            >>> from tempfile import TemporaryDirectory
            >>> with TemporaryDirectory() as folder:
            ...     file = Path(folder, "layers.html")
            ...     ExplorerPage("<p>3 layers</p>").save(file, title="Layers")
            ...     print(file.read_text(encoding="utf-8").rstrip())
            <!DOCTYPE html>
            <html lang="en">
            <meta charset="utf-8">
            <meta name="viewport" content="width=device-width">
            <title>Layers</title>
            <body class="wsn-page" style="font-family: sans-serif; margin: 1rem auto; max-width: 52rem">
            <p>3 layers</p>
            </body>
            </html>
        """
        Path(file).write_text(DOCUMENT.format(title=escape(title), html=self.html), encoding="utf-8")


DOCUMENT = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<body class="wsn-page" style="font-family: sans-serif; margin: 1rem auto; max-width: 52rem">
{html}
</body>
</html>
"""


def fill_template(template: str, data: Any) -> str:
    """The HTML of a template (a file beside this one) with the shared style and script, and with data.

    The same data gives the same bytes.
    """
    # A name that holds "</script>" or "<!--" must not end the script it is in.
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    page = _read(template).replace("__STYLE__", _read("explorer.css").strip())
    return page.replace("__SCRIPT__", _read("explorer.js").strip()).replace("__DATA__", text)


def _read(name: str) -> str:
    return resources.files("wsnlib.widgets").joinpath(name).read_text(encoding="utf-8")
