"""The documentation site: the pages of this folder and the gallery, built without a network."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "gallery")]  # for scraper and small

from scraper import PAGES
from wording import SiteLinks, as_docstring

PAGES.mkdir(parents=True, exist_ok=True)
logging.getLogger("landscape").setLevel(logging.WARNING)  # which a part of the theme turns on

project = "dot-landscape"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_gallery.gen_gallery"]
exclude_patterns = ["gallery", "auto_gallery/site"]
html_theme = "furo"
html_title = project
html_static_path = ["static"]
html_css_files = ["site.css"]
html_extra_path = [str(PAGES.parent)]
html_copy_source = False
html_show_copyright = False
myst_heading_anchors = 4
default_role = "py:obj"  # of names in docstrings
autodoc_member_order = "groupwise"
autodoc_typehints = "none"  # what each argument is stands in the text
napoleon_use_ivar = True
toc_object_entries_show_parents = "hide"

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "auto_gallery",
    "filename_pattern": r"\.py$",
    "ignore_pattern": r"small\.py$",
    "subsection_order": "order.of_section",
    "within_subsection_order": "order.of_example",
    "image_scrapers": "scraper.shown",
    "capture_repr": (),
    "notebook_extensions": set(),
    "reset_modules": (),
    "run_stale_examples": True,  # what a figure looks like depends on more than its script
    "show_signature": False,
    "write_computation_times": False,
    "min_reported_time": 10_000,
    "download_all_examples": False,
    "remove_config_comments": True,
}


def setup(app: Any) -> None:
    """Sphinx calls it."""
    app.add_transform(SiteLinks)
    app.connect("autodoc-process-docstring", as_docstring)
