"""What rules that combine conflicting gradients would make of a conflict, by the TorchJD library.

    pip install "dot-landscape[multitask]"

Each rule takes the inner products of the terms' gradients and gives a weight to each; their weighted sum is the
combined gradient, against which an optimizer would step. The rules are TorchJD's own (Quinton and Rey, "Jacobian
Descent for Multi-Objective Optimization", arXiv 2406.16232), here for looking at, not for training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from landscape.conflict import inner_products
from landscape.conflict.result import Conflict
from landscape.isolation import preserve_rng
from landscape.results import Array

RULES = ("mean", "pcgrad", "mgda", "upgrad")
"""Equal weights; projection of conflicting gradients (Yu et al. 2020, arXiv 2001.06782); the shortest vector in the
convex hull (Desideri 2012, by Frank-Wolfe, Sener and Koltun 2018); projection onto the dual cone (arXiv 2406.16232)."""


@dataclass
class Combined:
    """What a rule makes of the gradients of K terms, at each of B records.

    Attributes:
        rule: Its name.
        terms: Names of the terms.
        step: Step (or batch number) of each record, ``[B]``.
        weights: Weight of each gradient in the combined one d, ``[B, K]``.
        cosine: Cosine of each term's gradient with d, ``[B, K]``; NaN where one of the two is zero.
        decrease: ``[B, K]``: by how much a step of length 1 along -d lowers each term, to first order: g_k . d / |d|.
            Negative where the step raises the term; NaN where d is zero.
    """

    rule: str
    terms: tuple[str, ...]
    step: NDArray[np.int64]
    weights: Array
    cosine: Array
    decrease: Array


def combine(conflict: Conflict, rule: str) -> Combined:
    """Combine the gradients of a conflict's terms, record by record.

    Args:
        conflict: Of any number of terms.
        rule: One of `RULES`. ``"pcgrad"`` takes the terms in a random order, the same in each call; ``"upgrad"`` solves
            its projection to 1e-4 only, so that a much smaller gradient may still be opposed a little.

    Raises:
        ImportError: TorchJD is not installed.
        ValueError: There is no such rule.
    """
    weighting = _weighting(rule)
    total = conflict.total
    with preserve_rng(0), torch.no_grad():
        rows = [weighting(torch.from_numpy(grams)).numpy() for grams in total]
    weights = np.array(rows, dtype=np.float64).reshape(len(total), len(conflict.terms))
    onto = np.einsum("bkm,bm->bk", total, weights)  # g_k . d
    length = np.sqrt(np.maximum(np.einsum("bk,bk->b", weights, onto), 0.0))[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        decrease = np.where(length > 0, onto / length, np.nan)
        cosine = np.clip(decrease / inner_products.norms(total), -1.0, 1.0)
    return Combined(rule, conflict.terms, conflict.step, weights, cosine, decrease)


def _weighting(rule: str) -> Any:
    if rule not in RULES:
        raise ValueError(f"rule must be one of {', '.join(RULES)}. Got {rule!r}.")
    try:
        from torchjd import aggregation
    except ImportError as error:
        raise ImportError(
            'landscape.conflict.aggregation needs TorchJD. Got none: pip install "dot-landscape[multitask]".'
        ) from error
    return {
        "mean": aggregation.MeanWeighting,
        "pcgrad": aggregation.PCGradWeighting,
        "mgda": aggregation.MGDAWeighting,
        "upgrad": aggregation.UPGradWeighting,
    }[rule]()
