"""A term's mean over all examples, its gradient and its curvature's products, summed over the batches."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from landscape import modules
from landscape.batches import Reader
from landscape.derivatives.kinds import KINDS, Graph, Kind, output_of
from landscape.isolation import preserve_rng
from landscape.problem import PerToken, Problem, Term, differentiable, per_example, reached

R = TypeVar("R")


class Slope(NamedTuple):
    """The mean of a term, and its gradient ``[D]`` in float64."""

    value: float
    gradient: Tensor


class Derivatives:
    """Mean, gradient and curvature products of one term over all the examples of a problem, in eval mode.

    A vector ``[D]`` holds the parameters one after the other, see `split`. Sums over batches are in float64, and no
    graph outlives its batch: memory does not grow with their number. A private copy of the model is worked on.

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
        with torch.inference_mode(mode=False):
            self.model = problem.private_copy()
            dtype = torch.float64 if precision == "float64" else None
            if dtype is not None:
                self.model._apply(lambda t: modules.cast(t, dtype))
        self._dtype = dtype
        _check_norms(self.model)
        chosen = _chosen(problem.model, parameters)
        for name, p in self.model.named_parameters():
            p.requires_grad_(name in chosen)
        self._named = {name: p for name, p in self.model.named_parameters() if name in chosen}
        self._base = [p.detach().clone() for p in self._named.values()]
        self._max_batch: int | None = None
        self._checked = False
        self.products = 0

    @property
    def names(self) -> list[str]:
        """Of the parameters, in the order of a vector."""
        return list(self._named)

    @property
    def size(self) -> int:
        """D, how many numbers a vector has."""
        return sum(p.numel() for p in self._base)

    @property
    def device(self) -> torch.device:
        """Of the vectors: the model's; the CPU for MPS, which has no float64."""
        at = self.problem.device
        return torch.device("cpu") if at.type == "mps" else at

    def split(self, vector: Tensor) -> dict[str, Tensor]:
        """``{parameter name: tensor}`` of a vector ``[D]``, each in the parameter's shape."""
        parts = vector.split([p.numel() for p in self._base])
        return {name: part.reshape(p.shape) for part, (name, p) in zip(parts, self._named.items(), strict=True)}

    def join(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The vector ``[D]`` of ``{parameter name: tensor}``, float64."""
        return self._flat([tensors[name] for name in self._named])

    def weights(self) -> Tensor:
        """The problem's own weights ``[D]``, float64."""
        return self._flat(self._base)

    @torch.no_grad()
    def move(self, offset: Tensor | None = None) -> None:
        """Go to the problem's weights plus an offset ``[D]``; without one, back to them."""
        torch._foreach_copy_(list(self._named.values()), self._base)
        if offset is not None:
            for p, part in zip(self._named.values(), self.split(offset).values(), strict=True):
                p.add_(part.to(p))

    def slope(self) -> Slope:
        """Mean and gradient where the copy stands: one forward and one backward pass over the data.

        Raises:
            ValueError: The term is missing, not of shape ``[N]``, has no gradient, or is not finite (the batch is
                named).
            RuntimeError: The device has no memory for a single example.
        """

        def of(graph: Graph, totals: Tensor, weight: float) -> float:
            mean = graph.term.mean()
            gradients = torch.autograd.grad(mean, graph.parameters, allow_unused=True)
            reached(gradients, graph.name)
            self._add(
                totals[0],
                [g if g is not None else torch.zeros_like(p) for g, p in zip(gradients, graph.parameters, strict=True)],
                weight,
            )
            return float(mean.detach())

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

        def of(graph: Graph, totals: Tensor, weight: float) -> float:
            multiply = KINDS[self.kind](graph)
            for i, (row, total) in enumerate(zip(rows, totals, strict=True)):
                row = [v.to(p) for v, p in zip(row, graph.parameters, strict=True)]
                self._add(total, multiply(row, i + 1 == len(rows)), weight)
            return 0.0

        return self._over_batches(len(vectors), of)[1]

    def _difference(self, vector: Tensor) -> Tensor:
        """(g(w + h v) - g(w - h v)) / 2 h, with the step of least error of central differences."""
        length = float(vector.norm())
        if length == 0:
            return torch.zeros_like(vector)
        standing = self._flat([p.detach() for p in self._named.values()]) - self.weights()
        eps = torch.finfo(next(iter(self._named.values())).dtype).eps
        step = eps ** (1 / 3) * max(1.0, float(self.weights().norm())) / length
        try:
            ends = []
            for sign in (1, -1):
                self.move(standing + sign * step * vector)
                ends.append(self.slope().gradient)
        finally:
            self.move(standing)
        return (ends[0] - ends[1]) / (2 * step)

    def _over_batches(self, rows: int, of: Callable[[Graph, Tensor, float], float]) -> tuple[float, Tensor]:
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
                warnings.warn(f"out of memory: batches of {self._max_batch} examples from here on", stacklevel=4)

    @torch.inference_mode(mode=False)
    def _pass(self, rows: int, of: Callable[[Graph, Tensor, float], float]) -> tuple[float, Tensor]:
        reader = Reader(self.problem.batches, self.problem.device, dtype=self._dtype, max_batch=self._max_batch)
        totals = torch.zeros(rows, self.size, dtype=torch.float64, device=self.device)
        value, examples = 0.0, 0
        outputs: list[Tensor] = []
        hook = output_of(self.model, outputs)
        try:
            with (
                preserve_rng(0, self.problem.device),
                torch.enable_grad(),
                twice_attention(),
                closing(reader.read()) as source,
            ):
                for number, batch in enumerate(source):
                    self.model.eval()  # an objective may have left it in another mode
                    outputs.clear()
                    term, name = self._term(batch)
                    size = int(term.counted.sum()) if isinstance(term, PerToken) else len(term)
                    if not size:
                        continue
                    value += size * of(
                        Graph(term, outputs, list(self._named.values()), name, not self._checked), totals, size
                    )
                    self._checked = True
                    examples += size
                    if not (math.isfinite(value) and totals.isfinite().all()):
                        raise ValueError(
                            f"term {name!r} and its derivatives must be finite. Got one that is not, in batch {number}."
                        )
        finally:
            self._largest = reader.largest
            hook.remove()
        if not examples:
            raise ValueError("the terms must have at least one example. Got none: are all batches empty?")
        return value / examples, totals / examples

    def _term(self, batch: Any) -> tuple[Term, str]:
        terms = per_example(self.problem.objective(self.model, batch), batch)
        _check_modes(self.model)
        name = next(iter(terms)) if self.term is None else self.term
        return differentiable(terms, name), name

    @torch.no_grad()
    def _add(self, total: Tensor, found: Sequence[Tensor], weight: float) -> None:
        start = 0
        for tensor in found:
            total[start : start + tensor.numel()].add_(tensor.reshape(-1).to(total.device), alpha=weight)
            start += tensor.numel()

    def _flat(self, tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat([t.detach().reshape(-1).to(self.device, torch.float64) for t in tensors])


@contextmanager
def twice_attention() -> Iterator[None]:
    """Attention by its formula: the fused kernels have no second derivative."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


def _chosen(model: nn.Module, parameters: Collection[str] | None) -> set[str]:
    known = {name: p for name, p in model.named_parameters() if p.requires_grad}
    chosen = set(known) if parameters is None else set(parameters)
    for name in chosen - known.keys():
        raise ValueError(f"parameters must be names of the model's that require gradients. Got {name!r}.")
    if not chosen:
        raise ValueError("model must have parameters that require gradients. Got none: all are frozen.")
    for name in chosen:
        if known[name].is_complex():
            raise ValueError(f"parameters must be real to have a curvature. Got {name!r} of {known[name].dtype}.")
    return chosen


def _check_norms(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise ValueError(
                f"batch norm must have running statistics, for the loss to be a mean over examples. Got {name!r} "
                "without any, which norms by the batch: make it with track_running_stats=True."
            )


def _check_modes(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if module.training and isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise ValueError(
                f"batch norm must be in eval mode, for the loss to be a mean over examples. Got {name!r} in train "
                "mode: the objective must leave the model in the mode that it comes in."
            )
