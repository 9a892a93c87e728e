"""Mode connectivity: a curve of low loss between two networks.

Garipov et al., "Loss Surfaces, Mode Connectivity, and Fast Ensembling of DNNs" (NeurIPS 2018, arXiv 1802.10026).
"""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from landscape import modules
from landscape.directions import Directions
from landscape.directions.weights import read
from landscape.grid import Path
from landscape.isolation import preserve_rng
from landscape.problem import Problem, differentiable, per_example, reached
from landscape.progress import bar
from landscape.results import Array


@dataclass(frozen=True, eq=False)
class Curve:
    """A quadratic Bezier curve between two networks, and how it was found.

    Attributes:
        directions: Two, from the start of the curve: to its control point and to its end. ``points`` are the places of
            ``"start"``, ``"control"`` and ``"end"``, each ``[1, 2]``. Only parameters move: buffers are the start's.
        losses: Mean of the term over the batch of each training step, ``[steps]``, at the point drawn for that step.
    """

    directions: Directions
    losses: Array

    def path(self, points: int = 51) -> Path:
        """The curve at evenly spaced parameters t from 0 (the start) to 1 (the end), for `evaluate`.

        Args:
            points: How many, at least 2.
        """
        t = np.linspace(0, 1, points)
        return Path(t, np.stack([2 * t * (1 - t), t**2], axis=1))


def bezier(
    problem: Problem,
    end: modules.Weights,
    *,
    term: str,
    steps: int,
    lr: float,
    momentum: float = 0.9,
    seed: int = 0,
) -> Curve:
    """Train a Bezier curve of low loss from the problem's model to another network.

    The curve is ``phi(t) = (1 - t)^2 w_start + 2 t (1 - t) theta + t^2 w_end`` (section 3.2). Its control point theta
    starts halfway between the ends. Each step draws t from U(0, 1) (numpy's ``default_rng(seed)``), takes the next
    batch, and follows the gradient of the term's mean at phi(t) with respect to theta by ``torch.optim.SGD``: this
    minimises the loss averaged over t (section 3.1, equation 2).

    As in the paper the network is in train mode: dropout draws, and batch norm uses the batch. The running statistics
    of the start belong to no other point of the curve, so a network with batch norm is measured with
    ``ls.evaluate(problem, curve.directions, curve.path(), bn_mode="recalibrate")``.

    Args:
        problem: The network that the curve starts at, objective and data; neither the model nor a random state is
            written to. Frozen parameters (``requires_grad=False``) keep to the straight line.
        end: The network that it ends at, of the same kind, or its state dict; its buffers are not used.
        term: Name of a differentiable term.
        steps: How many, at least 1; the batches start over as often as needed.
        lr: Learning rate.
        momentum: At least 0, below 1.
        seed: Of all that is drawn.

    Raises:
        TypeError: ``end`` is neither a module nor a state dict.
        ValueError: A number is out of its range; the networks differ in a name or a shape; or the term is missing, not
            of shape ``[N]``, has no gradient, or is not finite (the step is named).
    """
    _check(steps, lr, momentum)
    bend = _Bend(problem, end)
    optimizer = torch.optim.SGD([bend.control[name] for name in bend.trained], lr=lr, momentum=momentum)
    losses = np.zeros(steps)
    batches, progress = _forever(problem), bar(steps, "bezier", "step")
    with (
        preserve_rng(seed, problem.device),
        torch.inference_mode(mode=False),
        torch.enable_grad(),
        closing(batches),
        progress,
    ):
        for step, t in enumerate(np.random.default_rng(seed).random(steps).tolist()):
            batch = next(batches)
            terms = per_example(problem.objective(bend.at(t), batch), batch)
            loss = differentiable(terms, term).mean()
            losses[step] = float(loss.detach())
            if not math.isfinite(losses[step]):
                raise ValueError(f"term {term!r} must be finite. Got {losses[step]} in step {step}. Use a smaller lr.")
            reached(bend.differentiate(loss, t), term)
            optimizer.step()
            progress.update()
    return Curve(bend.directions(seed), losses)


def _check(steps: int, lr: float, momentum: float) -> None:
    if steps < 1:
        raise ValueError(f"steps must be at least 1. Got {steps}.")
    if not 0 < lr < math.inf:
        raise ValueError(f"lr must be finite and above 0. Got {lr}.")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be at least 0 and below 1. Got {momentum}.")


class _Bend:
    """A curve with its control point, and a private copy of the network that takes the weights of any of its points."""

    def __init__(self, problem: Problem, end: modules.Weights) -> None:
        self._start = {name: p.clone() for name, p in modules.parameters(problem.model).items()}
        there = read(problem.model, end, "end", self._start)
        self._end = {name: there[name].to(p) for name, p in self._start.items()}
        self.control = {name: (p + self._end[name]) / 2 for name, p in self._start.items()}
        self._model = problem.private_copy()
        self._parameters = {name: p for name, p in self._model.named_parameters() if name in self._start}
        self.trained = [name for name, p in problem.model.named_parameters() if name in self._start and p.requires_grad]
        if not self.trained:
            raise ValueError("model must have parameters that require gradients. Got none: all are frozen.")
        for name in self.trained:
            self._parameters[name].requires_grad_()

    def at(self, t: float) -> nn.Module:
        """The copy at phi(t), in train mode."""
        for name, start in self._start.items():
            point = (1 - t) ** 2 * start + 2 * t * (1 - t) * self.control[name] + t**2 * self._end[name]
            self._parameters[name].detach().copy_(point)
        return self._model.train()  # an objective may have left it in another mode

    def differentiate(self, loss: Tensor, t: float) -> tuple[Tensor | None, ...]:
        """Give the control point the gradient of a loss at phi(t); the gradients of the copy's parameters."""
        inputs = [self._parameters[name] for name in self.trained]
        gradients = torch.autograd.grad(loss, inputs, allow_unused=True)
        for name, g in zip(self.trained, gradients, strict=True):
            self.control[name].grad = None if g is None else 2 * t * (1 - t) * g
        return gradients

    def directions(self, seed: int) -> Directions:
        axes = tuple({name: to[name] - p for name, p in self._start.items()} for to in (self.control, self._end))
        points = {"start": np.zeros((1, 2)), "control": np.array([[1.0, 0.0]]), "end": np.array([[0.0, 1.0]])}
        return Directions(axes, normalize="none", ignore="none", seed=seed, kind="bezier", points=points)


def _forever(problem: Problem) -> Generator[Any]:
    while True:
        yield from problem.iterate()
