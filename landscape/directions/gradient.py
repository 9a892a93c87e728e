"""The direction in which a term of the objective grows fastest."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing

import torch
from torch import Tensor

from landscape import modules
from landscape.directions.axes import Directions
from landscape.directions.normalisation import Ignore, Normalize, Units, one_of
from landscape.directions.weights import like, moving
from landscape.isolation import preserve_rng
from landscape.problem import PerToken, Problem, differentiable, per_example, reached


def gradient(problem: Problem, term: str, *, normalize: Normalize = "model", ignore: Ignore = "none") -> Directions:
    """The gradient of a term's mean over all examples (or tokens), in eval mode: uphill at positive coordinates.

    Args:
        problem: Model, objective and data; its model is never written to.
        term: Name of a differentiable term.
        normalize: How it is scaled to the weights that it moves, see `random`; ``"none"``: the gradient itself.
        ignore: Which parameters stay put, see `random`. Frozen ones (``requires_grad=False``) always do.

    Returns:
        One direction, summed in float64; zero for a parameter that the term does not depend on.

    Raises:
        ValueError: An argument is not one of those named, no parameter requires gradients, or the term is missing, not
            of shape ``[N]``, has no gradient or one that is not finite (the batch is named).
    """
    one_of("normalize", normalize, Normalize)
    one_of("ignore", ignore, Ignore)
    trainable = {name for name, p in problem.model.named_parameters() if p.requires_grad}
    moved = {name: p for name, p in moving(problem.model, ignore).items() if name in trainable}
    if not moved:
        raise ValueError("model must have parameters that require gradients. Got none: all are frozen.")
    weights = {name: modules.wide(p) for name, p in moved.items()}
    uphill = Units(weights, normalize, modules.filter_layouts(problem.model)).normalized(_mean(problem, term, moved))
    return Directions((like(uphill, moved),), normalize, ignore, kind="gradient")


def _mean(problem: Problem, term: str, moved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The gradient of the mean over all examples with respect to ``moved``, double precision on the CPU."""
    model = problem.private_copy()
    parameters = [model.get_parameter(name).requires_grad_() for name in moved]
    totals, examples = [_zeros(p) for p in parameters], 0
    source = problem.iterate()
    with preserve_rng(0, problem.device), torch.inference_mode(mode=False), torch.enable_grad(), closing(source):
        for number, batch in enumerate(source):
            model.eval()  # an objective may have left it in another mode
            found = differentiable(per_example(problem.objective(model, batch), batch), term)
            size = int(found.counts().sum()) if isinstance(found, PerToken) else len(found)
            if not size:
                continue
            gradients = torch.autograd.grad(found.mean(), parameters, allow_unused=True)
            reached(gradients, term)
            for total, g in zip(totals, gradients, strict=True):
                if g is not None:
                    total.add_(g.to(total.device), alpha=size)
            examples += size
            if not torch.stack([total.isfinite().all() for total in totals]).all():
                raise ValueError(
                    f"the gradient of term {term!r} must be finite. Got one that is not, in batch {number}."
                )
    if not examples:
        raise ValueError("the terms must have at least one example. Got none: are all batches empty?")
    return {name: modules.wide(total) / examples for name, total in zip(moved, totals, strict=True)}


def _zeros(parameter: Tensor) -> Tensor:
    """In double precision where the parameter is, or on the CPU for MPS, which has none."""
    at = parameter.detach().cpu() if parameter.device.type == "mps" else parameter.detach()
    return torch.zeros_like(at, dtype=torch.complex128 if at.is_complex() else torch.float64)
