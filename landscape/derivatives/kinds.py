"""Products of a batch's curvature with vectors: what each kind of curvature is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from landscape.problem import PerToken, Term

Kind = Literal["hessian", "gauss-newton", "empirical-fisher"]
"""Which matrix of second order stands for the curvature of a term's mean L over the N examples.

``"hessian"``: the second derivative of L by the weights. ``"gauss-newton"``: J^T (d^2 L / dz^2) J, with z the network's
outputs and J their derivative by the weights; for the cross-entropy of logits it is the Fisher information matrix
(Martens, "New insights and perspectives on the natural gradient method", JMLR 2020, section 9). ``"empirical-fisher"``:
the mean of g g^T over the gradients g of the term at each example (each token, of a `PerToken`); not a curvature, named
so (Kunstner et al., "Limitations of the empirical Fisher approximation", NeurIPS 2019).
"""

Vector = Sequence[Tensor]
"""A tensor for each parameter, in their shapes."""


class Graph(NamedTuple):
    """A batch's forward pass, whose curvature is multiplied with vectors.

    Attributes:
        term: Of the objective.
        outputs: What the network gave on the way, each time it was called.
        parameters: What is differentiated by.
        name: The term's.
        check: Whether what the kind assumes of the term is to be looked at.
    """

    term: Term
    outputs: Sequence[Tensor]
    parameters: Sequence[Tensor]
    name: str
    check: bool = True


Multiply = Callable[[Vector, bool], list[Tensor]]
"""``multiply(vector, last)``: the product; the graph is freed with the last one."""


def hessian(graph: Graph) -> Multiply:
    """Second derivative of the batch's mean: reverse mode over reverse mode (Pearlmutter, 1994)."""
    with twice(graph.name):
        gradients = torch.autograd.grad(_mean(graph.term), graph.parameters, create_graph=True, allow_unused=True)
    reached = [g for g in gradients if g is not None]
    if not any(g.requires_grad for g in reached):
        raise ValueError(
            f"term {graph.name!r} must be twice differentiable. Got one whose gradient does not change with the "
            "weights: is it piecewise linear in the outputs of a linear network?"
        )

    def multiply(vector: Vector, last: bool) -> list[Tensor]:
        pairs = [(g, v) for g, v in zip(gradients, vector, strict=True) if g is not None and g.requires_grad]
        with twice(graph.name):
            return _filled(_pull([g for g, _ in pairs], graph.parameters, [v for _, v in pairs], last), graph)

    return multiply


def gauss_newton(graph: Graph) -> Multiply:
    """J^T H_z J: forward through the outputs by the derivative of a product with J^T, then back.

    Raises:
        ValueError: The term does not depend on the weights through the network's outputs alone.
    """
    outputs = [z for z in graph.outputs if z.requires_grad]
    mean = _mean(graph.term)
    with twice(graph.name):
        by_output = torch.autograd.grad(mean, outputs, create_graph=True, allow_unused=True) if outputs else ()
    used = [(z, g) for z, g in zip(outputs, by_output, strict=True) if g is not None]
    if graph.check:
        _check_path(graph, mean, used)
    outputs, slopes = [z for z, _ in used], [g for _, g in used]
    forward = _forward(outputs, graph)
    curved = [i for i, slope in enumerate(slopes) if slope.requires_grad]
    if not curved:
        raise ValueError(
            f"term {graph.name!r} must be curved in the network's outputs. Got one that is linear in them."
        )

    def multiply(vector: Vector, last: bool) -> list[Tensor]:
        with twice(graph.name):
            moved = forward(vector)
            pulled = torch.autograd.grad(
                [slopes[i] for i in curved], outputs, [moved[i] for i in curved], retain_graph=True, allow_unused=True
            )
            known = [(z, p) for z, p in zip(outputs, pulled, strict=True) if p is not None]
            return _filled(_pull([z for z, _ in known], graph.parameters, [p for _, p in known], last), graph)

    return multiply


def empirical_fisher(graph: Graph) -> Multiply:
    """J^T J / n, with J the derivative of each value of the term by the weights."""
    values = graph.term.values[graph.term.counted] if isinstance(graph.term, PerToken) else graph.term
    forward = _forward([values], graph)

    def multiply(vector: Vector, last: bool) -> list[Tensor]:
        with twice(graph.name):
            (along,) = forward(vector)
            return _filled(_pull([values], graph.parameters, [along / len(values)], last), graph)

    return multiply


KINDS: dict[Kind, Callable[[Graph], Multiply]] = {
    "hessian": hessian,
    "gauss-newton": gauss_newton,
    "empirical-fisher": empirical_fisher,
}


@contextmanager
def twice(term: str) -> Iterator[None]:
    """Name the operation that has no second derivative.

    Raises:
        ValueError: In place of torch's error.
    """
    try:
        yield
    except NotImplementedError as error:
        raise _no_second_derivative(term, error) from error
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or not re.search(
            r"not implemented|twice|double.?back|does not support", str(error), re.I
        ):
            raise
        raise _no_second_derivative(term, error) from error


def _no_second_derivative(term: str, error: Exception) -> ValueError:
    said = str(error).strip().splitlines()[0]
    return ValueError(
        f"term {term!r} must be twice differentiable. Got an operation that is not ({said}). Use another "
        "implementation of it, or differences=True, which takes differences of gradients instead."
    )


def output_of(module: nn.Module, kept: list[Tensor]) -> Any:
    """Keep what a network gives each time it is called, until the handle that is returned is removed."""

    def keep(_: nn.Module, __: Any, output: Any) -> None:
        found = output.logits if hasattr(output, "logits") else output
        found = found["logits"] if isinstance(found, dict) else found[0] if isinstance(found, tuple) else found
        if isinstance(found, Tensor):
            kept.append(found)

    return module.register_forward_hook(keep)


def _mean(term: Term) -> Tensor:
    return term.mean()


def _check_path(graph: Graph, mean: Tensor, used: Sequence[tuple[Tensor, Tensor]]) -> None:
    whole = torch.autograd.grad(mean, graph.parameters, retain_graph=True, allow_unused=True)
    through: Sequence[Tensor | None] = [None] * len(whole)
    if used:
        through = _pull([z for z, _ in used], graph.parameters, [g.detach() for _, g in used], last=False)
    for a, b in zip(_filled(whole, graph), _filled(through, graph), strict=True):
        if not torch.allclose(a, b, rtol=1e-3, atol=1e-4 * float(a.abs().max()) + torch.finfo(a.dtype).tiny):
            raise ValueError(
                f"term {graph.name!r} must depend on the weights through the network's outputs (its logits) alone, for "
                "a Gauss-Newton matrix. Got one that has another way, such as hidden features or a weight penalty: "
                "take kind='hessian'."
            )


def _forward(outputs: Sequence[Tensor], graph: Graph) -> Callable[[Vector], tuple[Tensor, ...]]:
    """Products of the outputs' derivative with vectors: J^T u is linear in u, and its derivative by u is J."""
    zeros = [torch.zeros_like(z, requires_grad=True) for z in outputs]
    with twice(graph.name):
        back = torch.autograd.grad(outputs, graph.parameters, zeros, create_graph=True, allow_unused=True)

    def forward(vector: Vector) -> tuple[Tensor, ...]:
        pairs = [(b, v) for b, v in zip(back, vector, strict=True) if b is not None]
        return torch.autograd.grad([b for b, _ in pairs], zeros, [v for _, v in pairs], retain_graph=True)

    return forward


def _pull(
    outputs: Sequence[Tensor], parameters: Sequence[Tensor], weights: Sequence[Tensor], last: bool
) -> Sequence[Tensor | None]:
    return torch.autograd.grad(outputs, parameters, weights, retain_graph=not last, allow_unused=True)


def _filled(found: Sequence[Tensor | None], graph: Graph) -> list[Tensor]:
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, graph.parameters, strict=True)]
