"""One call of `landscape.evaluate`: what is found in its file, what is left to do, and where that goes."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from landscape import averages, estimating, identity, store
from landscape import grid as grids
from landscape.allocation import allocate
from landscape.cells import fill, warn_if_flat
from landscape.files import claim
from landscape.grid import Grid
from landscape.isolation import thread_count
from landscape.parts import Part, part_path, plan_path
from landscape.plan import Order, Plan, agreed, lowered
from landscape.preparation import Preparation, Ready
from landscape.results import PENDING, Array, Surface
from landscape.reuse import take
from landscape.sampling import Goal, Sampler


class Options(NamedTuple):
    """Those of `landscape.evaluate` that say neither what is measured nor how exactly."""

    plain: bool
    steady: bool
    order: Order
    shard: Part
    data_shard: Part
    label: str
    goal: Goal | None
    keep_samples: bool


class Work:
    """What is measured, where it goes, and what is known of it so far.

    Args:
        preparation: Makes what measures.
        grid: Where.
        out: File of the whole; None in memory.
        reuse: A surface to take cells from.
        options: The others.
    """

    def __init__(
        self,
        preparation: Preparation,
        grid: Grid,
        out: Path | None,
        reuse: Surface | None,
        options: Options,
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
        """The surface, measured as far as it is not there."""
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
        measured = self.identity | self.problem.of_epoch | ready.digests
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
