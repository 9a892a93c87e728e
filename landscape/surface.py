"""Evaluating a problem on a grid around its weights."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from landscape import averages, batchnorm, estimating, identity, store
from landscape import grid as grids
from landscape.allocation import allocate
from landscape.batches import Batches
from landscape.batchnorm import BnMode
from landscape.cells import fill, warn_if_flat
from landscape.directions import Directions
from landscape.directions.normalisation import one_of
from landscape.directions.weights import check_fit
from landscape.files import claim
from landscape.grid import Grid
from landscape.isolation import preserve_rng, thread_count
from landscape.parts import Part, part_path, plan_path
from landscape.plan import Order, Plan, agreed, lowered
from landscape.preparation import Precision, Preparation, Ready
from landscape.problem import Problem
from landscape.results import PENDING, Array, Surface
from landscape.reuse import take
from landscape.sampling import Goal, Sampler

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
    options = _Options(
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
    work = _Work(preparation, grid, target, base, options)
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


class _Options(NamedTuple):
    plain: bool
    steady: bool
    order: Order
    shard: Part
    data_shard: Part
    label: str
    goal: Goal | None
    keep_samples: bool


class _Work:
    """One call of `evaluate`: what is measured, where it goes, and what is known of it so far."""

    def __init__(
        self,
        preparation: Preparation,
        grid: Grid,
        out: Path | None,
        reuse: Surface | None,
        options: _Options,
    ) -> None:
        self.preparation, self.grid, self.reuse, self.options = preparation, grid, reuse, options
        self.problem, self.directions = preparation.problem, preparation.directions
        self.out = out
        self.path = None if out is None else part_path(out, options.shard, options.data_shard)
        self.shared_plan = None if out is None or self.path == out else plan_path(out)
        self.name = "reuse" if self.path is None else str(self.path)
        self.aside: Path | None = None
        self.base: list[Sampler] | None = None
        self.identity = identity.of(
            self.problem,
            self.directions,
            bn_mode="eval" if preparation.bn_sample is None else "recalibrate",
            precision=preparation.precision,
            shard=options.shard,
            data_shard=options.data_shard,
        )

    def run(self) -> Surface:
        found = self._found()
        if found is not None and self._is_done(found):
            self._refuse_other_data(found)
            return found
        with claim(self.path) if self.path is not None else nullcontext():
            return self._measure(self._found())

    def _found(self) -> Surface | None:
        """What the file holds; None where there is none, or where the other parts have had to change their plan."""
        if self.path is None or not self.path.exists():
            return None
        found = store.load_surface(self.path)
        identity.refuse_another(found, self.identity, None if self.options.goal else self.grid, self.name)
        if (found.sampled is None) != (self.options.goal is None):
            was, is_ = ("sampled", "full") if found.sampled else ("full", "sampled")
            raise ValueError(f"{self.name} holds a {was} surface. Got a call for a {is_} one: write to another file.")
        plan = Plan.of(found.attrs)
        if self.options.plain and plan.path != "plain":
            raise ValueError(f"{self.name} was begun with shortcuts. Got plain: write to another file.")
        self._refuse_another_device(plan)
        if self.shared_plan is None or agreed(self.shared_plan, plan) == plan:
            return found
        warnings.warn(
            f"{self.path} is begun anew: another part has changed the plan in {self.shared_plan} that all share."
            f"{self._put_aside(plan)}",
            stacklevel=4,
        )
        return None

    def _refuse_another_device(self, plan: Plan) -> None:
        here = self.problem.device.type
        if plan.device != here:
            whose = self.name if self.shared_plan is None else self.shared_plan
            raise ValueError(
                f"{whose} plans to compute on {plan.device}, whose last bits are its own. Got a model on {here}: move "
                "it there, or write to another file."
            )

    def _units(self, surface: Surface) -> list[list[grids.Cell]]:
        """All cells, in the order of the plan."""
        order = Plan.of(surface.attrs).order
        return grids.units(self.grid, len(self.directions), coarse_to_fine=order == "coarse-to-fine")

    def _todo(self, surface: Surface) -> list[grids.Cell]:
        """The cells of this part that are pending, in the order of the plan."""
        mine = self.options.shard.of(self._units(surface))
        return [cell for unit in mine for cell in unit if surface.status[cell[0]] == PENDING]

    def _is_done(self, found: Surface) -> bool:
        goal = self.options.goal
        return (goal is None or estimating.is_enough(found, goal, self._axes)) and not self._todo(found)

    @property
    def _axes(self) -> tuple[Array, ...]:
        """What samplers work on."""
        return (self.grid.ys, self.grid.xs) if isinstance(self.grid, grids.Grid2D) else (self.grid.xs,)

    def _refuse_other_data(self, found: Surface) -> None:
        """Compare data and objective with those of a finished file: all data are read, one batch is evaluated."""
        plan = Plan.of(found.attrs)
        with thread_count(plan.threads):
            walker, digests = self.preparation.walker(plan)
            identity.refuse_another(found, digests, None, self.name)
            if self.options.steady:
                identity.refuse_another_objective(found, walker.probe(), self.name)

    def _measure(self, found: Surface | None) -> Surface:
        self.plan, self.decided = self._plan() if found is None else (Plan.of(found.attrs), True)
        if found is not None and self.options.goal and not estimating.is_same(found, self.options.goal, self._axes):
            self._refine(found)
            found = None
        while True:
            try:
                with thread_count(self.plan.threads):
                    return self._begin() if found is None else self._resume(found)
            except torch.OutOfMemoryError as error:
                said = str(error).partition("\n")[0] or "nothing more was said"
            # Here, not in the handler: the error holds every tensor of the pass that failed, and its copy of the model.
            largest = self.preparation.largest
            self.preparation.forget()
            self._smaller(largest, said)
            found = None

    def _refine(self, found: Surface) -> None:
        """Take what was measured to another error, or on another grid, for the start of a new file."""
        assert self.path is not None
        if not self.options.shard.whole:
            raise ValueError(f"{self.name} is refined in one process. Got part {self.options.shard}.")
        self.base = estimating.begun(self.path, found)

    def _plan(self) -> tuple[Plan, bool]:
        """What is known before anything is read, and whether that is all: another part may have decided."""
        plan = Plan.new(self.problem.device, self.options.order)
        plan = plan if self.options.plain else replace(plan, path="fast")
        decided = self.reuse is not None
        if self.reuse is not None:
            plan = replace(Plan.of(self.reuse.attrs), order=self.options.order)
        if self.shared_plan is not None and self.shared_plan.exists():
            plan, decided = agreed(self.shared_plan, plan), True
        self._refuse_another_device(plan)
        return plan, decided

    def _smaller(self, largest: int, said: str) -> None:
        if self.problem.device.type == "cuda":
            torch.cuda.empty_cache()
        kept, self.plan = self._put_aside(self.plan), self.plan.halved(largest)
        warnings.warn(
            f"out of memory ({said}): going on with at most {self.plan.max_batch} examples at a time, from the start."
            f"{kept}",
            stacklevel=5,
        )
        self.reuse = None  # its bits are those of larger batches
        if self.decided and self.shared_plan is not None:
            self.plan = lowered(self.shared_plan, self.plan)

    def _put_aside(self, plan: Plan) -> str:
        """Have the cells of ``plan``, whose last bits are its own, kept when the file is begun anew; says where."""
        if self.path is None or not self.path.exists():
            return ""
        batches = plan.max_batch or "as-given"
        self.aside = self.path.with_name(f"{self.path.name}.batches-{batches}")  # no .h5: a pattern of parts leaves it
        return f" The cells so far are kept in {self.aside}."

    def _begin(self) -> Surface:
        ready = self.preparation.check(self.plan) if self.decided else self.preparation.decide(self.plan)
        if self.shared_plan is not None and (theirs := agreed(self.shared_plan, ready.plan)) != ready.plan:
            self._refuse_another_device(theirs)
            ready = self.preparation.check(theirs)
        self.plan, self.decided = ready.plan, True
        measured = self.identity | ready.digests
        measured |= {"probe": ready.walker.probe(), "nondeterministic": "refuse" if self.options.steady else "allow"}
        measured |= {"errors": ready.errors} if ready.errors else {}
        goal = self.options.goal
        if goal is not None:
            measured |= {"goal": estimating.describes(goal)}
            words = measured | {"plan": self.plan.as_attr()}
            measured["session"] = estimating.session(words, goal, self._axes, self.base)
        found = allocate(
            self.problem.device, self.directions, self.grid, self.plan, ready.origin, measured, sampled=goal is not None
        )
        if self.reuse is not None:
            take(found, self.reuse, self._todo(found), steady=self.options.steady)
        if self.path is not None and self.aside is not None:
            self.path.replace(self.aside)
        if goal is not None:
            estimating.start(self.path, found, ready, goal, self.base, self.options.keep_samples)
        elif self.path is not None:
            store.create_surface(self.path, found)
        return self._fill(found, ready)

    def _resume(self, found: Surface) -> Surface:
        ready = self.preparation.by(self.plan)
        identity.refuse_another(found, ready.digests, None, self.name)
        if self.options.steady:
            identity.refuse_another_origin(found, averages.as_pairs(ready.origin), self.name)
        return self._fill(found, ready)

    def _fill(self, found: Surface, ready: Ready) -> Surface:
        if self.options.goal is not None:
            return estimating.finish(
                self.path,
                self.out,
                found,
                ready,
                self._units(found),
                part=self.options.shard,
                keep=self.options.keep_samples,
                label=self.options.label,
            )
        with store.SurfaceWriter(self.path, found) if self.path is not None else nullcontext() as writer:
            fill(found, ready.walker, self._todo(found), ready.origin, writer, self.options.label)
        warn_if_flat(found)
        return found
