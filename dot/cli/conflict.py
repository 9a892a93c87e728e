"""Measure how the gradients of two or more terms agree, batch by batch and over all examples, in eval mode.

Of a run folder, or of your own network through a function that returns a landscape.Problem. (What was recorded while
training is in the run folder already, as conflict.h5.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dot.cli._shared import Measured, Output, Reply, find_problem, own_name

EXAMPLES = (
    "conflict runs/kd-dot-convnet8-* --split test",
    "conflict --problem my_network:problem --terms ce kd --batches 50 --by block -o conflict.h5",
)


@dataclass(frozen=True)
class Options(Measured):
    """Options of ``conflict``."""

    output: Output = None
    """HDF5 file; conflict-measured.h5 in the run folder (or here, for --problem) by default;
    conflict-measured-test.h5 of test images, conflict-measured-epoch-0005.h5 of an epoch."""
    terms: tuple[str, ...] = ("ce", "kd")
    """Names of two or more differentiable terms."""
    batches: int | None = None
    """How many batches to read; all by default."""
    by: Literal["parameter", "layer", "block"] = "layer"
    """What is told apart besides the whole network."""


def run(options: Options) -> Reply:
    """Run the verb."""
    import landscape as ls
    from landscape import describing

    problem, folder = find_problem(options)
    out = options.output or folder / own_name(options, "conflict-measured")
    found = ls.conflict.measure(problem, options.terms, options.batches, by=options.by)
    found.save(out)
    return Reply(f"{out}: {found.summary()}", describing.describe(out))
