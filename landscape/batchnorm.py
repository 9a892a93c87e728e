"""Batch-norm statistics re-estimated where the weights are.

Running statistics belong to the weights that they were gathered at; far from those, a network in eval mode is measured
with statistics that no training would have given it (Garipov et al., "Loss Surfaces, Mode Connectivity, and Fast
Ensembling of DNNs", NeurIPS 2018, appendix A.2, re-estimate them along their curves).
"""

from __future__ import annotations

from contextlib import closing
from typing import Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from landscape.batches import Reader
from landscape.problem import Objective

BnMode = Literal["eval", "recalibrate"]


def norms(model: nn.Module) -> list[_BatchNorm]:
    """The batch norms of a model that keep running statistics."""
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]


def recalibrate(model: nn.Module, objective: Objective, sample: Reader) -> None:
    """Replace the running statistics by their averages over a sample.

    Args:
        model: A private copy; only its batch norms are in train mode meanwhile.
        objective: Runs the model on a batch; what it returns does not matter.
        sample: Each of its batches counts the same.
    """
    layers = norms(model)
    momenta = [layer.momentum for layer in layers]
    try:
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # a plain average over the batches
        with torch.no_grad(), closing(sample.read()) as batches:
            for batch in batches:
                model.eval()  # an objective may have left it in another mode
                for layer in layers:
                    layer.train()
                objective(model, batch)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        model.eval()
