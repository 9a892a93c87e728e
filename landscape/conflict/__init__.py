"""Gradient conflict: how the terms of an objective pull at the same weights.

Zhao et al., "DOT: A Distillation-Oriented Trainer" (ICCV 2023, arXiv 2307.08436), section 3, finds the task and the
distillation gradients of a student in conflict. Everything here follows from the inner products of the terms'
gradients in each layer (their Gram matrix).
"""

from landscape.conflict.aggregation import RULES, Combined, combine
from landscape.conflict.gradients import gram
from landscape.conflict.measuring import Parts, decompose, from_gram, layers_of, measure
from landscape.conflict.result import Conflict

__all__ = [
    "RULES",
    "Combined",
    "Conflict",
    "Parts",
    "combine",
    "decompose",
    "from_gram",
    "gram",
    "layers_of",
    "measure",
]
