"""Put the parts of a surface together that shards, or parts of the data, were measured into.

Digests of weights, directions and data are compared; a cell that is there twice, or missing, is refused with the parts
concerned.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dot.cli._shared import Common, Reply, at_least_one

EXAMPLES = (
    "merge surface.shard-*.h5",
    "merge surface.data-0-of-2.h5 surface.data-1-of-2.h5 -o whole.h5",
)


@dataclass(frozen=True)
class Options(Common):
    """Options of ``merge``."""

    parts: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Files of the parts, in any order."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="PATH")] = None
    """HDF5 file to write; by default the name that the parts were measured for, such as surface.h5."""


def run(options: Options) -> Reply:
    """Run the verb."""
    import landscape as ls
    from landscape import describing
    from landscape.parts import whole_path

    at_least_one(options.parts, "part of a surface")
    out = options.output or whole_path(options.parts)
    surface = ls.merge(options.parts, out)
    return Reply(f"{out}: {surface.status.size} cells from {len(options.parts)} parts", describing.describe(out))
