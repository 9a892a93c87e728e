"""Evaluating a problem on a grid around its weights."""

from __future__ import annotations

import hashlib
import warnings
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch

from landscape import averages, batchnorm, identity, store
from landscape import grid as grids
from landscape.allocation import allocate
from landscape.averages import Moments
from landscape.batches import Batches, Reader
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
from landscape.problem import Problem
from landscape.results import PENDING, Surface
from landscape.reuse import take
from landscape.walker import Walker

Precision = Literal["as given", "float32", "float64"]
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
            weights in half precision, which a small step would hardly move: their own rounding swallows it.
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
    options = _Options(
        bn_sample=None if bn_mode == "eval" else problem.batches if bn_sample is None else bn_sample,
        dtype=None if precision == "as given" else getattr(torch, precision),
        steady=nondeterministic == "refuse",
        order="coarse-to-fine" if coarse_to_fine else "rows",
        shard=Part.parse(shard),
        data_shard=Part.parse(data_shard),
        label=label,
    )
    base = store.load_surface(reuse) if isinstance(reuse, (str, Path)) else reuse
    target = None if out is None else Path(out)
    work = _Work(problem, directions, grid, target, base, options)
    with preserve_rng(None, problem.device), torch.inference_mode(mode=False):
        return work.run()


class _Options(NamedTuple):
    bn_sample: Batches | None
    dtype: torch.dtype | None
    steady: bool
    order: Order
    shard: Part
    data_shard: Part
    label: str


class _Work:
    """One call of `evaluate`: what is measured, where it goes, and what is known of it so far."""

    def __init__(
        self,
        problem: Problem,
        directions: Directions,
        grid: Grid,
        out: Path | None,
        reuse: Surface | None,
        options: _Options,
    ) -> None:
        self.problem, self.directions, self.grid, self.reuse, self.options = problem, directions, grid, reuse, options
        self.path = None if out is None else part_path(out, options.shard, options.data_shard)
        self.shared_plan = None if out is None or self.path == out else plan_path(out)
        self.name = "reuse" if self.path is None else str(self.path)
        self.aside: Path | None = None
        grids.shape(grid, len(directions))  # refused at once where they do not fit
        self.identity = identity.of(
            problem,
            directions,
            bn_mode="eval" if options.bn_sample is None else "recalibrate",
            precision="as given" if options.dtype is None else str(options.dtype).removeprefix("torch."),
            shard=options.shard,
            data_shard=options.data_shard,
        )

    def run(self) -> Surface:
        found = self._found()
        if found is not None and not self._todo(found):
            self._refuse_other_data(found)
            return found
        with claim(self.path) if self.path is not None else nullcontext():
            return self._measure(self._found())

    def _found(self) -> Surface | None:
        """What the file holds; None where there is none, or where the other parts have had to change their plan."""
        if self.path is None or not self.path.exists():
            return None
        found = store.load_surface(self.path)
        identity.refuse_another(found, self.identity, self.grid, self.name)
        plan = Plan.of(found.attrs)
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

    def _todo(self, surface: Surface) -> list[grids.Cell]:
        """The cells of this part that are pending, in the order of the plan."""
        order = Plan.of(surface.attrs).order
        units = grids.units(self.grid, len(self.directions), coarse_to_fine=order == "coarse-to-fine")
        mine = self.options.shard.of(units)
        return [cell for unit in mine for cell in unit if surface.status[cell[0]] == PENDING]

    def _refuse_other_data(self, found: Surface) -> None:
        """Compare data and objective with those of a finished file: all data are read, one batch is evaluated."""
        plan = Plan.of(found.attrs)
        with thread_count(plan.threads):
            walker = self._walker(plan)
            identity.refuse_another(found, self._digests(walker, walker.reader.sha256()), None, self.name)
            if self.options.steady:
                identity.refuse_another_objective(found, walker.probe(), self.name)

    def _measure(self, found: Surface | None) -> Surface:
        plan = self._plan() if found is None else Plan.of(found.attrs)
        while True:
            walker = self._walker(plan)
            try:
                with thread_count(plan.threads):
                    return self._walk(plan, walker, found)
            except torch.OutOfMemoryError as error:
                said, largest = str(error).partition("\n")[0] or "nothing more was said", walker.largest
            # Here, not in the handler: the error holds every tensor of the pass that failed, the walker its copy.
            del walker
            plan, found = self._smaller(plan, largest, said), None

    def _plan(self) -> Plan:
        plan = Plan.new(self.problem.device, self.options.order)
        if self.reuse is not None:
            plan = replace(Plan.of(self.reuse.attrs), order=self.options.order)
        plan = plan if self.shared_plan is None else agreed(self.shared_plan, plan)
        self._refuse_another_device(plan)
        return plan

    def _smaller(self, plan: Plan, largest: int, said: str) -> Plan:
        if self.problem.device.type == "cuda":
            torch.cuda.empty_cache()
        kept, plan = self._put_aside(plan), plan.halved(largest)
        warnings.warn(
            f"out of memory ({said}): going on with at most {plan.max_batch} examples at a time, from the start.{kept}",
            stacklevel=5,
        )
        self.reuse = None  # its bits are those of larger batches
        return plan if self.shared_plan is None else lowered(self.shared_plan, plan)

    def _put_aside(self, plan: Plan) -> str:
        """Have the cells of ``plan``, whose last bits are its own, kept when the file is begun anew; says where."""
        if self.path is None or not self.path.exists():
            return ""
        batches = plan.max_batch or "as-given"
        self.aside = self.path.with_name(f"{self.path.name}.batches-{batches}")  # no .h5: a pattern of parts leaves it
        return f" The cells so far are kept in {self.aside}."

    def _walker(self, plan: Plan) -> Walker:
        def reader(batches: Batches, part: Part) -> Reader:
            limit = plan.max_batch or None
            numbers = (part.index, part.count)
            return Reader(batches, self.problem.device, dtype=self.options.dtype, max_batch=limit, part=numbers)

        sample = self.options.bn_sample
        return Walker(
            self.problem,
            self.directions,
            reader(self.problem.batches, self.options.data_shard),
            None if sample is None else reader(sample, Part()),
        )

    def _digests(self, walker: Walker, data_sha256: str) -> dict[str, str]:
        if walker.bn_reader is None:
            sample = ""
        else:
            own = self.options.bn_sample is self.problem.batches
            sample = data_sha256 if own else walker.bn_reader.sha256()
        return {"data_sha256": data_sha256, "bn_sample_sha256": sample}

    def _walk(self, plan: Plan, walker: Walker, found: Surface | None) -> Surface:
        digest = hashlib.sha256()
        origin = walker.at([0.0] * len(self.directions), digest)
        digests = self._digests(walker, digest.hexdigest())
        if found is None:
            self._refuse_changing(walker, origin, digests["data_sha256"])
            steady = "refuse" if self.options.steady else "allow"
            measured = self.identity | digests | {"probe": walker.probe(), "nondeterministic": steady}
            found = allocate(self.problem.device, self.directions, self.grid, plan, origin, measured)
            if self.reuse is not None:
                take(found, self.reuse, self._todo(found), steady=self.options.steady)
            if self.path is not None:
                if self.aside is not None:
                    self.path.replace(self.aside)
                store.create_surface(self.path, found)
        else:
            identity.refuse_another(found, digests, None, self.name)
            if self.options.steady:
                identity.refuse_another_origin(found, averages.as_pairs(origin), self.name)
        with store.SurfaceWriter(self.path, found) if self.path is not None else nullcontext() as writer:
            fill(found, walker, self._todo(found), origin, writer, self.options.label)
        warn_if_flat(found)
        return found

    def _refuse_changing(self, walker: Walker, origin: dict[str, Moments], data_sha256: str) -> None:
        """A second pass at the origin: cells are only comparable where nothing but the weights differs between them."""
        for name, moments in origin.items():
            if not np.isfinite(moments.mean):
                hint = identity.first_not_finite(self.problem.model)
                raise ValueError(f"term {name!r} must be finite at the unperturbed weights. Got {moments.mean}.{hint}")
        digest = hashlib.sha256()
        again = walker.at([0.0] * len(self.directions), digest)
        if digest.hexdigest() != data_sha256:
            raise ValueError(
                "batches must be the same at every pass. Got other data the second time: take random augmentation out, "
                "seed it anew in each pass, or use persistent_workers=False."
            )
        first, second = averages.as_pairs(origin), averages.as_pairs(again)
        if self.options.steady and not identity.same_values(first, second):
            raise ValueError(
                f"objective must give the same values for the same weights and data. Got {first}, then {second}: does "
                "it keep a state, or draw at random? Where that is meant, use nondeterministic='allow'."
            )
