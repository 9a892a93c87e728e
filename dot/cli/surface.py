"""Measure a loss surface around trained weights, along filter-normalised random directions.

Of a run folder, or of your own network through a function that returns a landscape.Problem. What is finished is in the
file at once; the same command goes on after an interruption. On several machines or devices, start it by torchrun, in a
Slurm array, or with --shard: each process measures its part.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dot.cli._shared import Measured, Output, Reply, UsageError, find_problem, own_name

if TYPE_CHECKING:
    from landscape import Problem
    from landscape.batches import Batches
    from landscape.directions import Directions
    from landscape.grid import Axis, Grid

EXAMPLES = (
    "surface runs/kd-dot-convnet8-* --x -1 1 11 --y -1 1 11",
    "surface --problem my_network:problem --lines 10 -o lines.h5",
)


@dataclass(frozen=True)
class Options(Measured):
    """Options of ``surface``."""

    output: Output = None
    """HDF5 file; surface.h5 or lines.h5 in the run folder (or here, for --problem) by default; surface-test.h5 of test
    images, surface-epoch-0005.h5 of an epoch."""
    x: tuple[float, float, int] = (-1.0, 1.0, 21)
    """First and last coordinate, and how many."""
    y: tuple[float, float, int] = (-1.0, 1.0, 21)
    """Likewise, of a plane."""
    log_from: float = 0.0
    """Space the points logarithmically on both sides of 0, from this magnitude to the last coordinate."""
    lines: int = 0
    """Measure so many lines along x instead of a plane."""
    normalize: Literal["filter", "layer", "model", "none"] = "filter"
    """What the directions are scaled to."""
    ignore: Literal["biasbn", "none"] = "biasbn"
    """Whether biases and normalisation layers stay put."""
    orthogonal: bool = False
    """Make the directions orthogonal."""
    seed: int = 0
    """Of the directions."""
    directions: Path | None = None
    """Instead of random ones: a file of directions, also one of the original loss-landscape tool."""
    coarse_to_fine: bool = False
    """Measure a coarse picture of the whole first, then refine it; the values are the same in the end."""
    extend: Path | None = None
    """Take the cells that coincide from this surface, which is narrower or coarser."""
    bn_mode: Literal["eval", "recalibrate"] = "eval"
    """Whether batch norms keep their running statistics or re-estimate them at every cell."""
    bn_batches: int = 0
    """Re-estimate them on so many batches; on all by default."""
    precision: Literal["as given", "float32", "float64", "tf32", "bf16", "fp16"] = "as given"
    """In float64, to check with; in float32, for weights in half precision; in a lower one, for speed."""
    plain: bool = False
    """Evaluate the network as it is, on the batches as they come, without any shortcut."""
    rel_error: str = ""
    """Estimate each cell from as few examples as this relative standard error needs, such as 1% or 0.01."""
    abs_error: tuple[str, ...] = ()
    """Likewise, in units of the terms: a number for all, or such as ce=0.001 error=0.01; of both the larger counts."""
    preview: bool = False
    """A picture first: --rel-error 10%. The same command with a smaller error refines it."""
    keep_samples: Literal["yes", "no"] = "yes"
    """Whether the losses of the samples stay in the file, to be refined later."""
    nondeterministic: Literal["refuse", "allow"] = "refuse"
    """Whether an objective may differ from pass to pass."""
    shard: str = ""
    """Measure part i of n of the cells: i/n. Under torchrun and in a Slurm array it is known."""
    data_shard: str = "0/1"
    """Measure on part j of m of the batches: j/m."""
    workers: int = 1
    """Measure in so many processes on this machine, and merge."""


def run(options: Options) -> Reply:
    """Run the verb."""
    from landscape import parallel

    if options.workers == 1:
        return measure(options)
    if options.shard or parallel.together():
        raise UsageError("--workers starts its own shards. Got --shard, or torchrun around it: use one of them.")
    _grid(options), _relative(options), _absolute(options)  # what is wrong with them is wrong in every worker
    return parallel.launch(options.workers, measure, options)


def measure(options: Options) -> Reply:
    """Measure the part of this process; the first rank of torchrun merges them in the end."""
    import landscape as ls
    from landscape import describing, identity, parallel, store
    from landscape.parts import Part, part_path

    problem, folder = find_problem(options)
    out = options.output or folder / own_name(options, "lines" if options.lines else "surface")
    data = Part.parse(options.data_shard)
    whole = part_path(out, Part(), data)
    known = store.load_surface(whole) if whole.exists() else None
    merged = known is not None and known.complete
    part = Part() if merged else Part.parse(options.shard) if options.shard else parallel.detect()
    if known is not None and not part.whole:
        identity.refuse_another(known, {}, _grid(options), str(whole))
    sampled = known is not None and known.sampled is not None
    surface = ls.evaluate(
        problem,
        _directions(options, problem),
        _grid(options),
        out=out,
        reuse=options.extend if known is None or not data.whole or part.whole or sampled else known,
        coarse_to_fine=options.coarse_to_fine,
        bn_mode=options.bn_mode,
        bn_sample=_sample(options, problem),
        precision=options.precision,
        plain=options.plain,
        rel_error=_relative(options),
        abs_error=_absolute(options),
        keep_samples=options.keep_samples == "yes",
        nondeterministic=options.nondeterministic,
        shard=str(part),
        data_shard=options.data_shard,
    )
    path = part_path(out, part, data)
    if not (merged or options.shard) and parallel.together():
        parallel.gather(out, part, data)
        path, surface = whole, store.load_surface(whole)
    done = int((surface.status != 0).sum())
    origin = ", ".join(f"{name} {mean:.4g} ± {sem:.2g}" for name, (mean, sem) in surface.origin.items())
    return Reply(
        f"{path}: {done} of {surface.status.size} cells done; at the origin {origin}", describing.describe(path)
    )


def _relative(options: Options) -> float | None:
    if options.preview and options.rel_error:
        raise UsageError(f"--preview is --rel-error 10%. Got --rel-error {options.rel_error} too: use one of them.")
    text = "10%" if options.preview else options.rel_error
    try:
        found = float(text.removesuffix("%")) * (0.01 if text.endswith("%") else 1.0) if text else None
    except ValueError:
        found = 0.0
    if found is not None and not 0 < found < 1:
        raise UsageError(f"--rel-error must be between 0 and 100%, such as 1% or 0.01. Got {text}.")
    return found


def _absolute(options: Options) -> float | dict[str, float] | None:
    pairs = [text.rpartition("=") for text in options.abs_error]
    try:
        found = {name: float(number) for name, _, number in pairs}
    except ValueError:
        found = {}
    alone = "" in found and len(found) == 1
    if options.abs_error and (not found or not (alone or "" not in found) or not all(v > 0 for v in found.values())):
        got = " ".join(options.abs_error)
        raise UsageError(f"--abs-error must be a number, or such as ce=0.001 error=0.01, above 0. Got {got}.")
    return found[""] if alone else found or None


def _directions(options: Options, problem: Problem) -> Directions:
    import landscape as ls

    if options.directions is not None:
        return ls.directions.load(options.directions, problem.model)
    return ls.directions.random(
        problem.model,
        n=options.lines or 2,
        normalize=options.normalize,
        ignore=options.ignore,
        orthogonal=options.orthogonal,
        seed=options.seed,
    )


def _grid(options: Options) -> Grid:
    import landscape as ls

    def axis(given: tuple[float, float, int]) -> Axis:
        first, last, points = given
        if not options.log_from:
            return given
        if first != -last or points % 2 == 0:
            raise UsageError(f"--log-from needs -L L and an odd number of points. Got {first:g} {last:g} {points}.")
        return ls.LogAxis(options.log_from, last, points // 2)

    return ls.Grid1D(axis(options.x)) if options.lines else ls.Grid2D(axis(options.x), axis(options.y))


def _sample(options: Options, problem: Problem) -> Batches | None:
    from landscape.batches import iterate

    if options.bn_batches < 0 or (options.bn_batches and options.bn_mode == "eval"):
        got = f"{options.bn_mode} and {options.bn_batches}"
        raise UsageError(f"--bn-batches needs --bn-mode recalibrate, and a number above 0. Got {got}.")
    if not options.bn_batches:
        return None
    return lambda: islice(iterate(problem.batches), options.bn_batches)
