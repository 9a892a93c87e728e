"""What an autograd graph is made of: which ways lead from a result to the weights, and over which operations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor

Edge = tuple[Any, int]
"""A node, and which of its results is meant."""


def has_another_way(result: Tensor, outputs: Sequence[Tensor], parameters: Sequence[Tensor]) -> bool:
    """Whether ``result`` depends on one of the parameters other than through ``outputs``."""
    through = {(z.grad_fn, z.output_nr) for z in outputs}
    leaves = {id(p) for p in parameters}
    return any(id(getattr(node, "variable", None)) in leaves for node in _nodes(result, through.__contains__))


def once_differentiable(result: Tensor) -> list[str]:
    """Names of the ``torch.autograd.Function`` that ``result`` comes from whose backward pass is marked so."""
    forward = {getattr(type(node), "_forward_cls", type(node)) for node in _nodes(result)}
    return sorted(of.__name__ for of in forward if hasattr(getattr(of, "backward", None), "__wrapped__"))


def _nodes(result: Tensor, is_end: Callable[[Edge], bool] = lambda edge: False) -> Iterator[Any]:
    """Each node that ``result`` comes from once, not beyond those edges that are an end."""
    seen = set()
    waiting = [(result.grad_fn, result.output_nr)]
    while waiting:
        edge = waiting.pop()
        node = edge[0]
        if node is None or node in seen or is_end(edge):
            continue
        seen.add(node)
        yield node
        waiting.extend(node.next_functions)
