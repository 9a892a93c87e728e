"""Read a surface file of the original loss-landscape tool (Li et al. 2018) into one that can be drawn and compared.

Its loss becomes the term ce, its accuracy the term correct. What the tool does not keep (standard errors, directions,
digests) stays unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from dot.cli._shared import Common, Reply, Written, another_file

EXAMPLES = (
    "import original.h5 -o imported.h5",
    "import original.h5 -o imported.h5 --split train --json",
)


@dataclass(frozen=True)
class Options(Common):
    """Options of ``import``."""

    original: Annotated[Path, tyro.conf.Positional]
    """A surface file of the original tool."""
    output: Written
    """Surface file to write."""
    split: Literal["train", "test", ""] = ""
    """Which losses to read, where the file holds both."""


def run(options: Options) -> Reply:
    """Run the verb."""
    another_file(options.output, options.original)
    from landscape import describing, formats, store

    surface = formats.read_original(options.original, split=options.split or None)
    store.create_surface(options.output, surface)
    return Reply(f"{options.output}: {surface!r}", describing.describe(options.output))
