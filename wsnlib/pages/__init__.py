"""What a page of the book shows of its runs: figures with what made them, verdicts, and the scorecard."""

from wsnlib.pages.page import Page
from wsnlib.pages.provenance import Provenance
from wsnlib.pages.scores import exhibits_table, printed_numbers, read_pages, scorecard, summary
from wsnlib.pages.verdicts import Verdicts, table_html

__all__ = [
    "Page",
    "Provenance",
    "Verdicts",
    "exhibits_table",
    "printed_numbers",
    "read_pages",
    "scorecard",
    "summary",
    "table_html",
]
