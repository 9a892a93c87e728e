"""What pages and docstrings say in their own way, said in the way of the site."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sphinx.addnodes import download_reference, pending_xref
from sphinx.transforms import SphinxTransform


class SiteLinks(SphinxTransform):
    """A script of the gallery is its page; a folder, or a page that the site does not hold, is its name alone.

    Files of the repository need nothing: the site holds a copy of each one that a page links to.
    """

    default_priority = 500

    def apply(self, **kwargs: Any) -> None:
        """Sphinx calls it for each page."""
        here = (Path(self.env.srcdir) / self.env.docname).parent
        for node in list(self.document.findall(download_reference)):
            script = Path(node["reftarget"])
            if script.parts[0] == "gallery" and script.name != "small.py":
                page = f"/auto_gallery/{script.relative_to('gallery').with_suffix('').as_posix()}"
                to = pending_xref(
                    "", *node.children, refdomain="std", reftype="doc", reftarget=page, refexplicit=True,
                    refdoc=self.env.docname,
                )  # fmt: skip
                node.replace_self(to)
        for node in list(self.document.findall(pending_xref)):
            target = Path(node["reftarget"])  # of a page outside of this folder, its whole path
            if node["reftype"] == "myst" and (target.is_absolute() or (here / target).is_dir()):
                node.replace_self(node.children)


def as_docstring(app: Any, what: str, name: str, of: object, options: Any, lines: list[str]) -> None:
    """A module says nothing before its names; ``|a|`` is the length of a, not a place for Sphinx to fill in."""
    if what == "module":
        lines.clear()
    for i, line in enumerate(lines):
        parts = re.split(r"(``.*?``)", line)
        lines[i] = "".join(part if part.startswith("``") else part.replace("|", r"\|") for part in parts)
