"""Pages for the browser, in which measured results are turned, compared and read; each is one file without a network."""

from landscape.explorer.page import Page
from landscape.explorer.scenes import explore

__all__ = ["Page", "explore"]
