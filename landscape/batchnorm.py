"""Batch-norm statistics re-estimated where the weights are.

Running statistics belong to the weights that they were gathered at; far from those, a network in eval mode is measured
with statistics that no training would have given it (Garipov et al., "Loss Surfaces, Mode Connectivity, and Fast
Ensembling of DNNs", NeurIPS 2018, appendix A.2, re-estimate them along their curves).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

BnMode = Literal["eval", "recalibrate"]


def norms(model: nn.Module) -> list[_BatchNorm]:
    """The batch norms of a model that keep running statistics."""
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]


def recalibrate(model: nn.Module, forward: Callable[[], None]) -> None:
    """Replace the running statistics by their averages over what ``forward`` sends through the model.

    Args:
        model: A private copy in eval mode; only its batch norms go to train mode, and come back.
        forward: Runs the model over a sample, batch by batch; each batch counts the same.
    """
    layers = norms(model)
    momenta = [layer.momentum for layer in layers]
    try:
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # a plain average over the batches
            layer.train()
        forward()
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
            layer.eval()
