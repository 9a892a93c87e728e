"""The report of runs: what was asked, what was found, what was not measured, and how to repeat it, from their files."""

from dot.reporting.interactive import write_pages
from dot.reporting.page import compose, students

__all__ = ["compose", "students", "write_pages"]
