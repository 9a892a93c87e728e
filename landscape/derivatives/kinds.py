"""Products of a batch's curvature with vectors: what each kind of curvature is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from landscape.derivatives.graphs import has_another_way, once_differentiable
from landscape.problem import PerToken, Term, reached

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
        mean: Its mean over the batch, float64.
        outputs: What the network gave on the way, each time it was called.
        parameters: What is differentiated by.
        name: The term's.
    """

    term: Term
    mean: Tensor
    outputs: Sequence[Tensor]
    parameters: Sequence[Tensor]
    name: str


Multiply = Callable[[Vector, bool], list[Tensor]]
"""``multiply(vector, last)``: the product; the graph is freed with the last one."""


def hessian(graph: Graph) -> Multiply:
    """Second derivative of the batch's mean: reverse mode over reverse mode (Pearlmutter, 1994)."""
    with twice(graph):
        gradients = torch.autograd.grad(graph.mean, graph.parameters, create_graph=True, allow_unused=True)
    reached(gradients, graph.name)
    if not any(g is not None and g.requires_grad for g in gradients):
        raise ValueError(
            f"term {graph.name!r} must be twice differentiable. Got one whose gradient does not change with the "
            "weights: is it piecewise linear in the outputs of a linear network?"
        )

    def multiply(vector: Vector, last: bool) -> list[Tensor]:
        pairs = [(g, v) for g, v in zip(gradients, vector, strict=True) if g is not None and g.requires_grad]
        with twice(graph):
            return _filled(_pull([g for g, _ in pairs], graph.parameters, [v for _, v in pairs], last), graph)

    return multiply


def gauss_newton(graph: Graph) -> Multiply:
    """J^T H_z J: forward through the outputs by the derivative of a product with J^T, then back.

    Raises:
        ValueError: The term does not depend on the weights through the network's outputs alone.
    """
    outputs = [z for z in graph.outputs if z.requires_grad]
    if has_another_way(graph.mean, outputs, graph.parameters):
        raise ValueError(
            f"term {graph.name!r} must depend on the weights through the network's outputs (its logits) alone, for a "
            "Gauss-Newton matrix. Got one that has another way, such as hidden features or a weight penalty: take "
            "kind='hessian'."
        )
    with twice(graph):
        by_output = torch.autograd.grad(graph.mean, outputs, create_graph=True, allow_unused=True) if outputs else ()
    reached(by_output, graph.name)
    used = [(z, g) for z, g in zip(outputs, by_output, strict=True) if g is not None]
    outputs, slopes = [z for z, _ in used], [g for _, g in used]
    forward = _forward(outputs, graph)
    curved = [i for i, slope in enumerate(slopes) if slope.requires_grad]
    if not curved:
        raise ValueError(
            f"term {graph.name!r} must be curved in the network's outputs. Got one that is linear in them."
        )

    def multiply(vector: Vector, last: bool) -> list[Tensor]:
        with twice(graph):
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
        with twice(graph):
            (along,) = forward(vector)
            return _filled(_pull([values], graph.parameters, [along / len(values)], last), graph)

    return multiply


KINDS: dict[Kind, Callable[[Graph], Multiply]] = {
    "hessian": hessian,
    "gauss-newton": gauss_newton,
    "empirical-fisher": empirical_fisher,
}


@contextmanager
def twice(graph: Graph) -> Iterator[None]:
    """Name the operation that has no second derivative.

    Raises:
        ValueError: In place of torch's error.
    """
    try:
        yield
    except RuntimeError as error:  # NotImplementedError is one
        known = r"not implemented|twice|double.?back|does not support"
        if isinstance(error, torch.OutOfMemoryError) or not re.search(known, str(error), re.I):
            raise
        raise _no_second_derivative(graph, str(error).strip().splitlines()[0].rstrip(".")) from error


def check_functions(graph: Graph) -> None:
    """Refuse a ``torch.autograd.Function`` that is marked as differentiable once: torch would take it for a constant.

    Raises:
        ValueError: With its name.
    """
    values = graph.term.values if isinstance(graph.term, PerToken) else graph.term
    if names := once_differentiable(values):
        raise _no_second_derivative(graph, f"{', '.join(names)} is marked as once_differentiable")


def _no_second_derivative(graph: Graph, what: str) -> ValueError:
    return ValueError(
        f"term {graph.name!r} must be twice differentiable. Got an operation that is not ({what}). Use another "
        "implementation of it, or kind='hessian' with differences=True, which takes differences of gradients instead."
    )


def output_of(module: nn.Module, kept: list[Tensor]) -> Any:
    """Keep what a network gives each time it is called, until the handle that is returned is removed."""

    def keep(_: nn.Module, __: Any, output: Any) -> None:
        found = output.logits if hasattr(output, "logits") else output
        found = found["logits"] if isinstance(found, dict) else found[0] if isinstance(found, tuple) else found
        if isinstance(found, Tensor):
            kept.append(found)

    return module.register_forward_hook(keep)


def _forward(outputs: Sequence[Tensor], graph: Graph) -> Callable[[Vector], tuple[Tensor, ...]]:
    """Products of the outputs' derivative with vectors: J^T u is linear in u, and its derivative by u is J."""
    zeros = [torch.zeros_like(z, requires_grad=True) for z in outputs]
    with twice(graph):
        back = torch.autograd.grad(outputs, graph.parameters, zeros, create_graph=True, allow_unused=True)
    reached(back, graph.name)

    def forward(vector: Vector) -> tuple[Tensor, ...]:
        pairs = [(b, v) for b, v in zip(back, vector, strict=True) if b is not None and b.requires_grad]
        starts, weights = [b for b, _ in pairs], [v for _, v in pairs]
        moved = torch.autograd.grad(starts, zeros, weights, retain_graph=True, allow_unused=True)
        if any(m is None for m in moved):
            raise _no_second_derivative(graph, "its backward pass is cut off from the graph")
        return moved

    return forward


def _pull(
    outputs: Sequence[Tensor], parameters: Sequence[Tensor], weights: Sequence[Tensor], last: bool
) -> Sequence[Tensor | None]:
    return torch.autograd.grad(outputs, parameters, weights, retain_graph=not last, allow_unused=True)


def _filled(found: Sequence[Tensor | None], graph: Graph) -> list[Tensor]:
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, graph.parameters, strict=True)]
