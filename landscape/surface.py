"""Evaluating a problem on a grid around its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch

from landscape import batchnorm, store
from landscape import grid as grids
from landscape.batches import Batches
from landscape.batchnorm import BnMode
from landscape.directions import Directions
from landscape.directions.normalisation import one_of
from landscape.directions.weights import check_fit
from landscape.grid import Grid
from landscape.isolation import preserve_rng
from landscape.parts import Part
from landscape.preparation import Precision, Preparation
from landscape.problem import Problem
from landscape.results import Surface
from landscape.sampling import Goal
from landscape.work import Options, Work

Nondeterministic = Literal["refuse", "allow"]


def evaluate(
    problem: Problem,
    directions: Directions,
    grid: Grid,
    *,
    out: str | Path | None = None,
    reuse: str | Path | Surface | None = None,
    coarse_to_fine: bool = False,
    bn_mode: BnMode = "eval",
    bn_sample: Batches | None = None,
    precision: Precision = "as given",
    plain: bool = False,
    rel_error: float | None = None,
    abs_error: float | Mapping[str, float] | None = None,
    keep_samples: bool = True,
    nondeterministic: Nondeterministic = "refuse",
    shard: str = "0/1",
    data_shard: str = "0/1",
    label: str = "surface",
) -> Surface:
    """Average each term over all the examples at every point of ``grid`` around the problem's weights.

    The problem's model is never written to. The unperturbed weights are always evaluated, on the grid or beside it.
    With ``out`` finished cells are in the file within a quarter of a second: called again after an interruption, it
    goes on where it was, and (on a CPU) the values are the same to the last bit; called again after the end, it
    returns what is there. Weights, data, directions, grid and options are compared with the file's first; the objective
    is by its values at the origin.

    Out of memory on an accelerator, batches are halved, with a warning, and the file is begun anew; cells of the larger
    batches are kept in a file beside it. Statistics that are re-estimated are then those of the smaller batches.

    Args:
        problem: Model, objective and data; measured in eval mode.
        directions: Two for a `Grid2D`; for a `Grid1D` one, or several that give a bundle of lines; for a `Path` as many
            as its points have coordinates.
        grid: Coordinates in units of the directions.
        out: HDF5 file to write, and to resume; without it the surface is in memory only.
        reuse: A surface of the same measurement on another grid, narrower or coarser say: every cell that coincides is
            taken from it.
        coarse_to_fine: Whether a coarse picture of the whole comes first, and sharpens; the values are the same.
        bn_mode: ``"eval"``: running statistics as they are; ``"recalibrate"``: batch norms' statistics are
            re-estimated at every point, the origin included, as plain averages over ``bn_sample``.
        bn_sample: What statistics are re-estimated on; the problem's own batches by default.
        precision: ``"float64"`` casts model and batches to double precision, to check with; ``"float32"`` is for
            weights in half precision, which a small step would hardly move: their own rounding swallows it. With
            ``"bf16"``, ``"fp16"`` or, on CUDA, ``"tf32"`` the network computes in lower precision, and its weights stay
            as they are; the errors, at the origin and at the corners, are in ``attrs["errors"]``.
        plain: Whether the module is evaluated as it is, on the batches as they come: then the origin is the
            unperturbed loss to the last bit. Else batch norms are folded, and the examples kept on the device in
            batches that fit its caches, as long as that agrees with the plain path on the first examples.
        rel_error: The standard error that each cell's mean is wanted to, as a share of its magnitude; with as few
            examples as that needs, chosen at random. What was measured is kept beside ``out``, and in it at the end:
            called again with a smaller error, or a denser or wider grid, the same file is refined.
        abs_error: The same in units of the term, for all or by ``{term: error}``; of both the larger one counts.
        keep_samples: Whether the losses stay in the file once it is finished, to be refined later.
        nondeterministic: Whether an objective may differ between two passes over the same data at the same weights.
            ``"allow"`` skips the comparisons that would find it: cells then hold its noise.
        shard: ``"i/n"`` evaluates the i-th of n parts of the cells, counted from 0, into a file of its own beside
            ``out`` (``surface.shard-0-of-4.h5``), for `landscape.merge`.
        data_shard: ``"j/m"`` likewise takes the batches whose number is j modulo m.
        label: Name on the progress bar.

    Returns:
        Values ``[ny, nx]`` for a plane, ``[nx]`` for a line or path, ``[direction, nx]`` for a bundle, float64.

    Raises:
        ValueError: The directions do not fit the model or the grid, a term is not of shape ``[N]`` or not finite at the
            origin, the data or the objective change from pass to pass, there is no batch norm to recalibrate, or the
            file is of another measurement (what differs is named).
        RuntimeError: The device has no memory for a single example.
        OSError: The file cannot be written, or another process writes it.
    """
    one_of("bn_mode", bn_mode, BnMode)
    one_of("precision", precision, Precision)
    one_of("nondeterministic", nondeterministic, Nondeterministic)
    check_fit(problem.model, directions.axes)
    if bn_mode == "recalibrate" and not batchnorm.norms(problem.model):
        raise ValueError("bn_mode='recalibrate' needs batch norms with running statistics. Got a model without any.")
    if bn_mode == "eval" and bn_sample is not None:
        raise ValueError("bn_sample goes with bn_mode='recalibrate'. Got bn_mode='eval'.")
    if precision == "tf32" and problem.device.type != "cuda":
        raise ValueError(f"precision='tf32' needs a CUDA device. Got a model on {problem.device.type}.")
    goal = None if rel_error is None and abs_error is None else Goal(rel_error, abs_error)
    _refuse_unsampled(goal, grid, reuse, Part.parse(data_shard))
    grids.shape(grid, len(directions))  # refused at once where they do not fit
    preparation = Preparation(
        problem,
        directions,
        grid,
        bn_sample=None if bn_mode == "eval" else problem.batches if bn_sample is None else bn_sample,
        precision=precision,
        steady=nondeterministic == "refuse",
        data_shard=Part.parse(data_shard),
        one_by_one=goal is not None,
    )
    options = Options(
        plain=plain,
        steady=preparation.steady,
        order="coarse-to-fine" if coarse_to_fine else "rows",
        shard=Part.parse(shard),
        data_shard=preparation.data_shard,
        label=label,
        goal=goal,
        keep_samples=keep_samples,
    )
    base = store.load_surface(reuse) if isinstance(reuse, (str, Path)) else reuse
    target = None if out is None else Path(out)
    work = Work(preparation, grid, target, base, options)
    with preserve_rng(None, problem.device), torch.inference_mode(mode=False):
        return work.run()


def _refuse_unsampled(goal: Goal | None, grid: Grid, reuse: object, data_shard: Part) -> None:
    """Refuse what does not go with samples of the examples."""
    if goal is None:
        return
    if isinstance(grid, grids.Path):
        raise ValueError("rel_error and abs_error are for planes, lines and bundles of lines. Got a Path.")
    if reuse is not None or not data_shard.whole:
        raise ValueError(
            "rel_error and abs_error choose the examples themselves. Got reuse or data_shard too: give the same out to "
            "refine a sampled surface, and shard to share its cells."
        )
