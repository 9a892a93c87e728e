"""The study of DOT: its optimizer, losses, models, data, training, runs and the command line.

    from dot import DOT, kd_loss

The names below are imported on first use, so that ``dot-landscape --help`` does not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dot.losses import (
        cross_entropy,
        dkd_loss,
        kd_loss,
        loss_weights,
        nckd_loss,
        standardised_kd_loss,
        tckd_loss,
    )
    from dot.momentum import deepkd_settings, per_loss_momentum
    from dot.optim import DOT
    from dot.per_loss import PerLossMomentum

__all__ = [
    "DOT",
    "PerLossMomentum",
    "cross_entropy",
    "deepkd_settings",
    "dkd_loss",
    "kd_loss",
    "loss_weights",
    "nckd_loss",
    "per_loss_momentum",
    "standardised_kd_loss",
    "tckd_loss",
]

_HOMES = {
    "DOT": "dot.optim",
    "PerLossMomentum": "dot.per_loss",
    "per_loss_momentum": "dot.momentum",
    "deepkd_settings": "dot.momentum",
    "cross_entropy": "dot.losses",
    "dkd_loss": "dot.losses",
    "kd_loss": "dot.losses",
    "loss_weights": "dot.losses",
    "nckd_loss": "dot.losses",
    "standardised_kd_loss": "dot.losses",
    "tckd_loss": "dot.losses",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in ("config", "data", "distillation", "models", "runs", "study"):
        return import_module(f"dot.{name}")
    raise AttributeError(f"module 'dot' has no attribute {name!r}")
