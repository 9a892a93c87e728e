"""Links of the pages that are right on GitHub, made right on the site."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sphinx.addnodes import download_reference, pending_xref
from sphinx.transforms import SphinxTransform

HERE = Path(__file__).parent


class SiteLinks(SphinxTransform):
    """A script of the gallery is its page; a folder, or a page that the site does not hold, is its name alone.

    Files of the repository need nothing: the site holds a copy of each one that a page links to.
    """

    default_priority = 500

    def apply(self, **kwargs: Any) -> None:
        """Sphinx calls it for each page."""
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
            if node["reftype"] == "myst" and (target.is_absolute() or (HERE / target).is_dir()):
                node.replace_self(node.children)
