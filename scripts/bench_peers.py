"""The public tools for loss surfaces, at the same work as ours: ``pip install loss-landscapes landscaper``.

Each is called as its documentation does, with a function that evaluates all batches; one that is not installed is said
to be so. What is timed is the walk over the cells, along directions of the tool's own kind: ``filter_normalize_`` of
loss-landscapes divides by zero at a parameter that is zero, as a new norm's bias is, so that the model's norm is taken.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

STEPS = 3
"""Points along each axis: 9 cells."""

Timed = Callable[[], float]
"""Seconds a cell."""


def loss_landscapes(bench: Any) -> Timed:
    from loss_landscapes import random_plane
    from loss_landscapes.metrics.metric import Metric

    class Everything(Metric):
        def __call__(self, wrapped: Any) -> float:
            return mean(bench, wrapped.forward)

    model = copy.deepcopy(bench.model)
    return lambda: bench.timed(lambda: random_plane(model, Everything(), 1, STEPS, "model", True)) / STEPS**2


def landscaper(bench: Any) -> Timed:
    from landscaper.compute import compute_loss_landscape

    model = copy.deepcopy(bench.model)
    directions = [[torch.randn_like(p) for p in model.parameters()] for _ in range(2)]

    def run() -> None:
        compute_loss_landscape(
            model,
            bench.batches,
            directions,
            lambda network, batches: mean(bench, network),
            steps=STEPS,
            dim=2,
            device=bench.device.type,
        )

    return lambda: bench.timed(run) / STEPS**2


@torch.no_grad()
def mean(bench: Any, network: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """The loss over all batches."""
    losses = [nn.functional.cross_entropy(network(x), y, reduction="sum") for x, y in bench.batches]
    return float(sum(losses)) / len(bench.data[0])


def installed() -> dict[str, Callable[[Any], Timed]]:
    """Those that can be imported."""
    found = {}
    for name, module, make in (
        ("loss-landscapes", "loss_landscapes", loss_landscapes),
        ("landscaper", "landscaper", landscaper),
    ):
        try:
            __import__(module)
            found[name] = make
        except ImportError as error:
            print(f"{name} is left out ({error}): pip install {name}", file=sys.stderr)
    return found
