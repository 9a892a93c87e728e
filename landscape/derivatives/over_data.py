"""A term's mean over all examples, its gradient and its curvature's products, summed over the batches."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from landscape.batches import Reader, size_of
from landscape.derivatives.copies import chosen, copied, twice_attention
from landscape.derivatives.kinds import KINDS, Graph, Kind, check_functions, output_of
from landscape.derivatives.standing import Standing
from landscape.isolation import preserve_rng
from landscape.problem import NotReached, PerToken, Problem, check_piece, differentiable, float64, per_example, reached

_UNSTEADY = 1e4
"""So many times the rounding of the weights' precision, means of two passes differ by more than their sums' order."""


class NotFinite(ValueError):
    """The term, or a derivative of it, is not finite where the copy stands."""


class Slope(NamedTuple):
    """The mean of a term, and its gradient ``[D]`` in float64."""

    value: float
    gradient: Tensor


class Derivatives(Standing):
    """Mean, gradient and curvature products of one term over all the examples of a problem, in eval mode.

    A vector ``[D]`` holds the parameters one after the other, see `split`. Sums over batches are in float64, and no
    graph outlives its batch: memory does not grow with their number. A private copy of the model is worked on.
    ``products`` counts those made so far; ``examples`` says what the mean is over, once a pass was made.

    A ``torch.autograd.Function`` whose backward pass leaves the graph (through NumPy, say) without being marked as
    ``once_differentiable`` may go unnoticed, its part of the curvature missing: use ``differences=True`` with such.

    Args:
        problem: Model, objective and data. Parameters that do not require gradients are left out.
        term: A differentiable term; the objective's first one by default.
        parameters: Names of those that count; the others are held fixed. All by default. For the diagonal block of a
            layer, give its parameters.
        kind: Which matrix stands for the curvature, see `Kind`.
        precision: ``"float64"`` casts the copy and the batches to double precision.
        differences: Whether products are central differences of gradients, for networks with operations that have no
            second derivative (``kind="hessian"`` only).

    Raises:
        ValueError: An argument is not one of those named, a parameter is unknown or complex, none requires gradients,
            or a batch norm has no running statistics: its loss would not be a mean over examples.
    """

    def __init__(
        self,
        problem: Problem,
        term: str | None = None,
        *,
        parameters: Collection[str] | None = None,
        kind: Kind = "hessian",
        precision: Literal["as given", "float64"] = "as given",
        differences: bool = False,
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}. Got {kind!r}.")
        if precision not in ("as given", "float64"):
            raise ValueError(f"precision must be 'as given' or 'float64'. Got {precision!r}.")
        if differences and kind != "hessian":
            raise ValueError(f"differences=True goes with kind='hessian'. Got {kind!r}.")
        self.problem, self.term, self.kind, self.differences = problem, term, kind, differences
        self.products = self.examples = 0
        self._dtype = torch.float64 if precision == "float64" else None
        self._given = parameters
        self._max_batch: int | None = None
        self._largest = 0
        self._seen: tuple[int, float, int] | None = None
        names = chosen(problem.model, parameters)
        with torch.inference_mode(mode=False):
            super().__init__(copied(problem, self._dtype), names)

    def slope(self) -> Slope:
        """Mean and gradient where the copy stands: one forward and one backward pass over the data.

        Raises:
            ValueError: The term is missing, not of shape ``[N]``, has no gradient, is not finite (`NotFinite`, with the
                batch), or another one than in the pass before.
            RuntimeError: The device has no memory for a single example.
        """

        def of(graph: Graph, totals: Tensor, weight: int) -> None:
            gradients = torch.autograd.grad(graph.mean, graph.parameters, allow_unused=True)
            reached(gradients, graph.name)
            self._add(totals[0], gradients, weight)

        value, totals = self._over_batches(1, of)
        return Slope(value, totals[0])

    def multiply(self, vectors: Tensor) -> Tensor:
        """Products of the curvature where the copy stands with vectors, ``[K, D]`` to ``[K, D]``, float64.

        Several vectors share each batch's forward pass and first derivative. Counted in ``products``.

        Raises:
            ValueError: As `slope`; or an operation has no second derivative (torch's message says which).
            RuntimeError: The device has no memory for a single example.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.size:
            raise ValueError(f"vectors must be of shape [K, {self.size}]. Got {list(vectors.shape)}.")
        self.products += len(vectors)
        if self.differences:
            return torch.stack([self._difference(vector) for vector in vectors])
        rows = [list(self.split(vector).values()) for vector in vectors]

        def of(graph: Graph, totals: Tensor, weight: int) -> None:
            check_functions(graph)
            multiply = KINDS[self.kind](graph)
            for i, (row, total) in enumerate(zip(rows, totals, strict=True)):
                row = [v.to(p) for v, p in zip(row, graph.parameters, strict=True)]
                self._add(total, multiply(row, i + 1 == len(rows)), weight)

        return self._over_batches(len(vectors), of)[1]

    def _difference(self, vector: Tensor) -> Tensor:
        """(g(w + h v) - g(w - h v)) / 2 h, with the step of least error of central differences."""
        length = float(vector.norm())
        if length == 0:
            return torch.zeros_like(vector)
        standing = self._standing()
        eps = torch.finfo(standing[0].dtype).eps
        step = eps ** (1 / 3) * max(1.0, float(self._flat(standing).norm())) / length
        try:
            ends = []
            for sign in (1, -1):
                self._go_to(standing, sign * step * vector)
                ends.append(self.slope().gradient)
        finally:
            self._go_to(standing)
        return (ends[0] - ends[1]) / (2 * step)

    def _over_batches(self, rows: int, of: Callable[[Graph, Tensor, int], None]) -> tuple[float, Tensor]:
        """Sum over the batches, each weighted by its examples; smaller ones where the memory does not do."""
        while True:
            try:
                return self._pass(rows, of)
            except torch.OutOfMemoryError as error:
                limit = self._max_batch or self._largest
                if limit <= 1:
                    raise RuntimeError(
                        "the device must have memory for a single example and its graph. Got too little: free some, or "
                        "take a smaller model."
                    ) from error
                self._max_batch = -(-limit // 2)
            # Here, not in the handler: the error holds every tensor of the pass that failed.
            if self.problem.device.type == "cuda":
                torch.cuda.empty_cache()
            warnings.warn(f"out of memory: batches of {self._max_batch} examples from here on", stacklevel=4)

    @torch.inference_mode(mode=False)
    def _pass(self, rows: int, of: Callable[[Graph, Tensor, int], None]) -> tuple[float, Tensor]:
        reader = Reader(self.problem.batches, self.problem.device, dtype=self._dtype, max_batch=self._max_batch)
        totals = torch.zeros(rows, self.size, dtype=torch.float64, device=self.device)
        value, examples = 0.0, 0
        try:
            with (
                preserve_rng(0, self.problem.device),
                torch.enable_grad(),
                twice_attention(),
                closing(reader.read()) as source,
            ):
                for number, batch in enumerate(source):
                    graph = self._graph(batch, in_pieces=reader.in_pieces)
                    size = int(graph.term.counted.sum()) if isinstance(graph.term, PerToken) else len(graph.term)
                    if not size:
                        continue
                    value += size * float(graph.mean.detach())
                    of(graph, totals, size)
                    del graph  # before the next batch's is built
                    examples += size
                    if not (math.isfinite(value) and totals.isfinite().all()):
                        raise NotFinite(
                            f"term {self._name!r} and its derivatives must be finite. Got one that is not, in batch "
                            f"{number}."
                        )
        finally:
            self._largest = reader.largest
        if not examples:
            raise ValueError("the terms must have at least one example. Got none: are all batches empty?")
        self.examples = examples
        self._refuse_another(value / examples, examples)
        return value / examples, totals / examples

    def _graph(self, batch: Any, *, in_pieces: bool) -> Graph:
        self.model.eval()  # an objective may have left it in another mode
        outputs: list[Tensor] = []
        hook = output_of(self.model, outputs)
        try:
            terms = per_example(self.problem.objective(self.model, batch), batch)
        finally:
            hook.remove()
        if in_pieces:
            check_piece(terms, size_of(batch))
        self._name = next(iter(terms)) if self.term is None else self.term
        try:
            term = differentiable(terms, self._name)
        except NotReached as error:
            if self._given is None:
                raise
            raise NotReached(
                f"term {self._name!r} must depend on the parameters {', '.join(self.names)}. Got one without a "
                "gradient by them."
            ) from error
        mean = term.mean() if isinstance(term, PerToken) else float64(term).mean()
        return Graph(term, mean, outputs, list(self._named.values()), self._name)

    def _refuse_another(self, mean: float, examples: int) -> None:
        """Products are of one matrix only where nothing changes from pass to pass."""
        if self._seen is None or self._seen[0] != self._place:
            self._seen = (self._place, mean, examples)
        _, first, count = self._seen
        rounding = _UNSTEADY * torch.finfo(self._base[0].dtype).eps * max(1.0, abs(first))
        if examples != count or abs(mean - first) > rounding:
            raise ValueError(
                f"batches and objective must be the same at every pass. Got a mean of {first:.9g} over {count}, then "
                f"{mean:.9g} over {examples}: take random augmentation out, or seed it anew in each pass."
            )

    @torch.no_grad()
    def _add(self, total: Tensor, found: Sequence[Tensor | None], weight: int) -> None:
        for part, tensor in zip(total.split([p.numel() for p in self._base]), found, strict=True):
            if tensor is not None:
                part.add_(tensor.reshape(-1).to(part.device), alpha=weight)
