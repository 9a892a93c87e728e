"""Pairs of groups of minima of which one is known to be flatter, or neither: what a measure of flatness must see.

Beside the runs of a study there are twins of some of them: the same function, its layers rescaled.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count, pairwise, takewhile
from typing import Literal

import torch
from torch import nn

Expected = Literal["flatter", "sharper", "same", "no difference"]
BASELINE = "sgd"
"""The arm that the others are compared with."""
TWINS = "rescaled"


@dataclass(frozen=True)
class Case:
    """Two groups and what is known of them.

    Attributes:
        name: As the head of a column.
        one: The group that is spoken of.
        other: What it is compared with.
        expected: Of ``one`` against ``other``. ``"same"``: not by a thousandth, for each pair is one function twice;
            ``"no difference"``: none that is found, for both are draws of one kind.
        source: Where it is known from.
    """

    name: str
    one: str
    other: str
    expected: Expected
    source: str

    def right(self, outcome: str) -> bool | None:
        """Whether an outcome of `landscape.sharpness.compare` is what is known; None where it is neither."""
        if outcome in ("too few pairs", "undefined"):
            return None
        if self.expected == "no difference":
            return outcome not in ("flatter", "sharper")
        return None if outcome == "not told apart" else outcome == self.expected


@dataclass(frozen=True)
class Member:
    """A minimum: a run, or its rescaled twin."""

    run: str
    seed: int
    twin: bool = False


CASES = (
    Case("SAM", "sam", BASELINE, "flatter", "Foret et al., 2021"),
    Case("large batch, equal epochs", "large-batch", BASELINE, "sharper", "Keskar et al., 2017"),
    Case("large batch, equal steps", "large-batch-longer", BASELINE, "sharper", "Keskar et al., 2017"),
    Case("rescaled", TWINS, BASELINE, "same", "the same function (Dinh et al., 2017)"),
    Case("A/A", "second half", "first half", "no difference", "one method, two groups of seeds"),
)


def groups(runs: Mapping[str, Mapping[int, str]], twins: int) -> dict[str, list[Member]]:
    """The minima of each group, those of one position to be paired.

    Args:
        runs: ``{arm: {seed: run}}``, each arm with the same seeds in the same order.
        twins: How many of the baseline's runs have one.
    """
    found = {arm: [Member(run, seed) for seed, run in of.items()] for arm, of in runs.items()}
    ours = found[BASELINE]
    half = len(ours) // 2
    found[TWINS] = [Member(member.run, member.seed, twin=True) for member in ours[:twins]]
    return found | {"first half": ours[:half], "second half": ours[half : 2 * half]}


def cases(known: Sequence[str]) -> list[Case]:
    """Those whose groups are there."""
    return [case for case in CASES if case.one in known and case.other in known]


@torch.no_grad()
def rescaled(model: nn.Module, gain: float = 4.0, weight: float = 8.0) -> nn.Module:
    """Another network with the same function, up to rounding.

    Of each convolution ``conv<i>`` that the batch norm ``bn<i>`` of the same module follows, the weights are multiplied
    by ``weight``, and the norm's running statistics with them. Where ReLU and ``conv<i+1>`` come next, the norm's gain
    and bias are multiplied by ``gain``, and that convolution's weights divided by it. Both are powers of two, so that
    weights are rescaled without rounding.

    Args:
        model: Left as it is. ReLU, maxima and the like may lie between its layers: what commutes with a factor.
        gain: Above 0.
        weight: Above 0.

    Raises:
        ValueError: It has no such convolution.
    """
    twin, found = copy.deepcopy(model), 0
    for module in twin.modules():
        own = dict(module.named_children())
        numbers = _numbers(own)
        for i in numbers:
            conv, norm = own[f"conv{i}"], own[f"bn{i}"]
            conv.weight *= weight
            norm.running_mean *= weight
            norm.running_var.copy_(weight**2 * (norm.running_var + norm.eps) - norm.eps)
        for i, after in pairwise(numbers):
            own[f"bn{i}"].weight *= gain
            own[f"bn{i}"].bias *= gain
            own[f"conv{after}"].weight /= gain
        found += len(numbers)
    if not found:
        raise ValueError(
            f"model must have convolutions conv1, ... with batch norms bn1, ... Got {type(model).__name__}."
        )
    return twin


def _numbers(own: Mapping[str, nn.Module]) -> list[int]:
    """From 1, of the convolutions that have a norm."""
    return list(takewhile(lambda i: {f"conv{i}", f"bn{i}"} <= own.keys(), count(1)))
