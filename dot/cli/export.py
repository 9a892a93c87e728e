"""Write a surface for another program; the ending of the output says for which.

.csv: a table of every cell. .npz: NumPy arrays. .vtp: a mesh for ParaView. .h5: the file of the original loss-landscape
tool (Li et al. 2018), which holds one loss and the accuracy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dot.cli._shared import Common, Reply, Written, another_file

EXAMPLES = (
    "export surface.h5 -o surface.vtp --term kd",
    "export surface.h5 -o original.h5",
)


@dataclass(frozen=True)
class Options(Common):
    """Options of ``export``."""

    surface: Annotated[Path, tyro.conf.Positional]
    """A surface file."""
    output: Written
    """File to write, in .csv, .npz, .vtp or .h5."""
    term: str = ""
    """The height of a mesh, or the loss of the original tool; the first term by default. Tables hold them all."""


def run(options: Options) -> Reply:
    """Run the verb."""
    another_file(options.output, options.surface)
    from landscape import formats, store

    formats.export(store.load_surface(options.surface), options.output, term=options.term or None)
    return Reply(str(options.output), {"surface": str(options.surface), "file": str(options.output)})
