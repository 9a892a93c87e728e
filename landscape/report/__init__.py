"""A report: what was asked and found, with tables and figures, as a page of its own or as Markdown.

from landscape import report
found = report.Report("A title", ["What was asked."], [report.Section("Numbers", [report.Table(...)])])
report.write("report.html", found)
report.write_markdown("report.md", found)
"""

from landscape.report.html import make_folder, page, write
from landscape.report.markdown import markdown, write_markdown
from landscape.report.parts import Code, Folded, Link, Part, Picture, Point, Points, Report, Section, Table

__all__ = [
    "Code",
    "Folded",
    "Link",
    "Part",
    "Picture",
    "Point",
    "Points",
    "Report",
    "Section",
    "Table",
    "make_folder",
    "markdown",
    "page",
    "write",
    "write_markdown",
]
