"""Pages for the browser, in which measured results are turned, compared and read: each one file, without a network."""

from landscape.explorer.exploring import explore
from landscape.explorer.page import Page

__all__ = ["Page", "explore"]
