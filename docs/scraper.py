"""What the examples of the gallery show: figures as pictures, pages for the browser as frames."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

import landscape as ls

PAGES = Path(__file__).parent / "auto_gallery" / "site" / "pages"
"""Pages that the site holds beside its own, as ``pages/<name>.html``."""

_PICTURE = """
.. image:: /{path}
   :alt: {alt}
   :class: sphx-glr-single-img
   :width: {width:.0f}px

"""
_FRAME = """
.. raw:: html

   <p><a href="../../pages/{name}.html">Open the page alone</a></p>
   <div class="shown-page">
   <iframe src="../../pages/{name}.html" title="The page of {name}" loading="lazy"></iframe>
   </div>

"""


def shown(block: Any, block_vars: dict[str, Any], conf: Mapping[str, Any]) -> str:
    """Save every figure and page that an example has made, and say where they are, in reStructuredText."""
    before = block_vars.setdefault("shown", [])
    parts = []
    for made in list(block_vars["example_globals"].values()):
        if any(made is one for one in before):
            continue
        if isinstance(made, Figure):
            parts.append(_picture(made, block_vars, conf))
        elif hasattr(made, "write_html"):
            parts.append(_page(made, block_vars, conf))
        else:
            continue
        before.append(made)
    return "\n".join(parts)


def _picture(figure: Figure, block_vars: Mapping[str, Any], conf: Mapping[str, Any]) -> str:
    path = Path(block_vars["image_path_iterator"].next())
    ls.plot.save(figure, path)
    inside = path.relative_to(conf["src_dir"]).as_posix()
    alt = " ".join(ls.plot.alt_text(figure).split())
    return _PICTURE.format(path=inside, alt=alt, width=96 * figure.get_figwidth())


def _page(page: Any, block_vars: Mapping[str, Any], conf: Mapping[str, Any]) -> str:
    name = Path(block_vars["src_file"]).stem
    PAGES.mkdir(parents=True, exist_ok=True)
    page.write_html(PAGES / f"{name}.html")
    still = _picture(page.picture(), block_vars, conf) if hasattr(page, "picture") else ""
    return still + _FRAME.format(name=name)
