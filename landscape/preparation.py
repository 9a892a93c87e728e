"""Getting ready to measure: how the data are read, how cells are computed, and whether both can be trusted."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from landscape import averages, fastpath, identity
from landscape.agreement import CHECKED, compare, corners
from landscape.averages import Moments, PerExample
from landscape.batches import Batches, Reader, size_of
from landscape.directions import Directions
from landscape.examples import Kept, keep
from landscape.fastpath import Shortcuts, batch_size, has_convolutions
from landscape.grid import Grid
from landscape.parts import Part
from landscape.plan import Plan
from landscape.problem import Problem
from landscape.walker import Walker

Precision = Literal["as given", "float32", "float64", "tf32", "bf16", "fp16"]

_LOG = logging.getLogger(__name__)


class Ready(NamedTuple):
    """What cells are measured with.

    Attributes:
        plan: How.
        walker: Measures them.
        digests: Of all the examples, and of those that batch-norm statistics are re-estimated on.
        origin: The moments at the unperturbed weights.
        errors: How far the walker is off a plain one, see `landscape.agreement.Agreement`; None where it is one.
        examples: All of them, in one batch; None where not asked for.
        losses: The terms at each of them at the unperturbed weights; likewise.
    """

    plan: Plan
    walker: Walker
    digests: dict[str, str]
    origin: dict[str, Moments]
    errors: dict[str, dict[str, float]] | None = None
    examples: Any = None
    losses: dict[str, PerExample] | None = None


class Preparation:
    """Makes walkers that measure a problem along directions.

    Args:
        problem: What is measured.
        directions: Along which.
        grid: Whose corners a faster path is tried at.
        bn_sample: What batch-norm statistics are re-estimated on at each point; None leaves them.
        precision: That of `landscape.evaluate`.
        steady: Whether the objective must give the same values twice.
        data_shard: The part of the batches that is measured.
        one_by_one: Whether examples are asked for by their numbers.
    """

    def __init__(
        self,
        problem: Problem,
        directions: Directions,
        grid: Grid,
        *,
        bn_sample: Batches | None,
        precision: Precision,
        steady: bool,
        data_shard: Part,
        one_by_one: bool = False,
    ) -> None:
        self.problem, self.directions, self.bn_sample, self.precision = problem, directions, bn_sample, precision
        self.steady, self.data_shard, self.one_by_one = steady, data_shard, one_by_one
        self.corners = corners(grid, len(directions))
        self._dtype = {"float32": torch.float32, "float64": torch.float64}.get(precision)
        self._readers: list[Reader] = []

    @property
    def largest(self) -> int:
        """Examples in the largest batch that was read so far; 0 where nobody knows."""
        return max((reader.largest for reader in self._readers), default=0)

    def forget(self) -> None:
        """Let go of the examples."""
        self._readers.clear()

    def walker(self, plan: Plan) -> tuple[Walker, dict[str, str]]:
        """Measures by a plan that was decided before; and the digests, for which all data are read.

        Raises:
            ValueError: There is no longer room to keep the examples.
        """
        if not plan.kept:
            walker = self._walker(plan, self._reader(plan.max_batch))
            return walker, self._digests(walker, walker.reader.sha256())
        kept = self._kept()
        walker = self._walker_of(plan, kept)
        return walker, self._digests(walker, kept.sha256)

    def by(self, plan: Plan) -> Ready:
        """Ready to go on by a plan that was decided before.

        Raises:
            ValueError: There is no longer room to keep the examples, or a term is not finite at the origin.
        """
        if plan.kept:
            return self._with_kept(plan, self._kept(), None)
        digest = hashlib.sha256()
        walker = self._walker(plan, self._reader(plan.max_batch))
        origin = self._finite(walker.at(self._zero, digest))
        return Ready(plan, walker, self._digests(walker, digest.hexdigest()), origin)

    def decide(self, plan: Plan) -> Ready:
        """Decide how to measure, and refuse what cannot be measured.

        Args:
            plan: ``path`` says whether shortcuts may be taken, ``max_batch`` how many examples fit into memory.

        Raises:
            ValueError: The data, or the objective, change from pass to pass; or a term is not finite at the origin.
        """
        # Statistics that are re-estimated depend on the batches, and are most of the work.
        ready = None if plan.path == "plain" or self.bn_sample is not None else self._fast(plan, given=False)
        return self._plain(replace(plan, path="plain")) if ready is None else ready

    def check(self, plan: Plan) -> Ready:
        """Refuse what cannot be measured, by a plan that another part, or a surface to go on from, has decided.

        Raises:
            ValueError: As `decide`.
        """
        ready = self._fast(plan, given=True) if plan.path == "fast" else self._plain(plan)
        assert ready is not None
        return ready

    def _digests(self, walker: Walker, data_sha256: str) -> dict[str, str]:
        own = self.bn_sample is self.problem.batches
        sample = "" if walker.bn_reader is None else data_sha256 if own else walker.bn_reader.sha256()
        return {"data_sha256": data_sha256, "bn_sample_sha256": sample}

    def _finite(self, moments: dict[str, Moments]) -> dict[str, Moments]:
        for name, of in moments.items():
            if not np.isfinite(of.mean):
                hint = identity.first_not_finite(self.problem.model)
                raise ValueError(f"term {name!r} must be finite at the unperturbed weights. Got {of.mean}.{hint}")
        return moments

    @property
    def _zero(self) -> list[float]:
        return [0.0] * len(self.directions)

    def _plain(self, plan: Plan) -> Ready:
        digest, again = hashlib.sha256(), hashlib.sha256()
        walker = self._walker(plan, self._reader(plan.max_batch))
        origin = self._finite(walker.at(self._zero, digest))
        second = walker.at(self._zero, again)
        _refuse_other_data(digest.hexdigest(), again.hexdigest())
        self._refuse_unsteady(origin, second)
        if not (self._low or self.one_by_one):
            return Ready(plan, walker, self._digests(walker, digest.hexdigest()), origin)
        kept, errors = self._kept(), None
        if self._low:
            head = self._reader_of(kept.head, plan)
            errors = compare(self._walker(plan, head, exact=True), self._walker(plan, head), self.corners).errors
        if self.one_by_one:
            plan = plan if plan.max_batch else replace(plan, max_batch=size_of(kept.head[0]))
            return self._with_kept(replace(plan, kept=True), kept, errors)
        return Ready(plan, walker, self._digests(walker, digest.hexdigest()), origin, errors)

    def _with_kept(self, plan: Plan, kept: Kept, errors: dict[str, dict[str, float]] | None) -> Ready:
        walker = self._walker_of(plan, kept)
        plan, digests = replace(plan, folded=walker.folded), self._digests(walker, kept.sha256)
        if not self.one_by_one:
            return Ready(plan, walker, digests, self._finite(walker.at(self._zero)), errors)
        if not kept.whole:
            raise ValueError(
                "examples must be alike, to be chosen one by one: batches of tensors with a row for each, of one "
                "shape. Got others: pad them to one length, or measure without rel_error and abs_error."
            )
        losses = walker.losses(self._zero, kept.batches[0])
        origin = self._finite({name: of.moments() for name, of in losses.items()})
        return Ready(plan, walker, digests, origin, errors, kept.batches[0], losses)

    def _walker_of(self, plan: Plan, kept: Kept) -> Walker:
        if not kept.batches:
            raise ValueError(
                "the examples must fit into a quarter of the free memory, to be chosen one by one or to go on with a "
                "file for which they did. Got too little of it: free some, or write to another file without rel_error."
            )
        return self._walker(plan, self._reader_of(kept.batches, plan))

    def _fast(self, plan: Plan, *, given: bool) -> Ready | None:
        """By shortcuts; None where they do not agree with the plain path, unless the plan is given."""
        kept = self._kept()
        _refuse_other_data(kept.sha256, self._unread(0).sha256())
        plain = self._walker(
            replace(plan, path="plain", layout="as given"), self._reader_of(kept.head, plan), exact=True
        )
        self._refuse_unsteady(self._finite(plain.at(self._zero)), plain.at(self._zero))
        plan = plan if given else self._proposed(plan, kept, plain.model)
        try:
            agreement = compare(plain, self._walker(plan, self._reader_of(kept.first, plan), exact=True), self.corners)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # what the plain path has just done, this one cannot: whatever that may be
            if given:
                raise
            _LOG.warning("measuring without shortcuts: with them, %s", error)
            return None
        if not (agreement.holds or given):
            _LOG.warning("measuring without shortcuts: with them, means differ by more than rounding: %s", agreement)
            return None
        if self._low:
            agreement = compare(plain, self._walker(plan, self._reader_of(kept.first, plan)), self.corners)
        del plain  # a copy of the model
        if plan.kept or self.one_by_one:
            return self._with_kept(plan, kept, agreement.errors)
        walker = self._walker(plan, self._reader(plan.max_batch))
        plan, origin = replace(plan, folded=walker.folded), self._finite(walker.at(self._zero))
        return Ready(plan, walker, self._digests(walker, kept.sha256), origin, agreement.errors)

    def _proposed(self, plan: Plan, kept: Kept, model: nn.Module) -> Plan:
        first, batch = next(self._reader_of(kept.head[:1], plan).read()), plan.max_batch
        size = size_of(first)
        if size:
            inside = fastpath.LOW.get(self.precision)
            found = batch_size(model, lambda m: self.problem.objective(m, first), size, inside)
            batch = min(found or batch, batch or found)
        return replace(
            plan,
            max_batch=batch,
            layout="channels last" if has_convolutions(model) else "as given",
            kept=bool(kept.batches),
        )

    def _kept(self) -> Kept:
        return keep(self._unread(0), CHECKED)

    def _unread(self, max_batch: int) -> Reader:
        part = (self.data_shard.index, self.data_shard.count)
        limit = max_batch or None
        return Reader(self.problem.batches, self.problem.device, dtype=self._dtype, max_batch=limit, part=part)

    def _reader(self, max_batch: int) -> Reader:
        """Of all the data, as they come."""
        return self._noted(self._unread(max_batch))

    def _reader_of(self, batches: list[Any], plan: Plan) -> Reader:
        """Of batches that are kept."""
        return self._noted(Reader(batches, self.problem.device, max_batch=plan.max_batch or None))

    def _noted(self, reader: Reader) -> Reader:
        self._readers.append(reader)
        return reader

    def _walker(self, plan: Plan, reader: Reader, *, exact: bool = False) -> Walker:
        """Measures by a plan; ``exact``: not in the lower precision asked for."""
        low = None if exact else fastpath.LOW.get(self.precision)
        sample = None
        if self.bn_sample is not None:
            limit = plan.max_batch or None
            sample = self._noted(Reader(self.bn_sample, self.problem.device, dtype=self._dtype, max_batch=limit))
        shortcuts = Shortcuts(
            fold=plan.path == "fast",
            channels_last=plan.layout == "channels last",
            inside=low,
            tf32=self.precision == "tf32" and not exact,
        )
        return Walker(self.problem, self.directions, reader, sample, shortcuts, self._dtype)

    @property
    def _low(self) -> bool:
        return self.precision == "tf32" or self.precision in fastpath.LOW

    def _refuse_unsteady(self, first: dict[str, Moments], again: dict[str, Moments]) -> None:
        """Cells are only comparable where nothing but the weights differs between them."""
        pairs = averages.as_pairs(first), averages.as_pairs(again)
        if self.steady and not identity.same_values(*pairs):
            raise ValueError(
                f"objective must give the same values for the same weights and data. Got {pairs[0]}, then {pairs[1]}: "
                "does it keep a state, or draw at random? Where that is meant, use nondeterministic='allow'."
            )


def _refuse_other_data(first: str, again: str) -> None:
    if first != again:
        raise ValueError(
            "batches must be the same at every pass. Got other data the second time: take random augmentation out, "
            "seed it anew in each pass, or use persistent_workers=False."
        )
