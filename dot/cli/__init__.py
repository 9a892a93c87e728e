"""The command line: ``dot-landscape VERB ...``, a file for each verb."""

from dot.cli.main import main

__all__ = ["main"]
