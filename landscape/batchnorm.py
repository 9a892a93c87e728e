"""Batch-norm statistics re-estimated where the weights are.

Running statistics belong to the weights that they were gathered at; far from those, a network in eval mode is measured
with statistics that no training would have given it (Garipov et al., "Loss Surfaces, Mode Connectivity, and Fast
Ensembling of DNNs", NeurIPS 2018, appendix A.2, re-estimate them along their curves).
"""

from __future__ import annotations

from contextlib import closing
from typing import Any, Literal

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
        model: A private copy; only its batch norms run in train mode meanwhile.
        objective: Runs the model on a batch; what it returns does not matter.
        sample: Each of its batches counts the same.
    """
    layers = norms(model)
    momenta = [layer.momentum for layer in layers]
    # At the door of each as well, since an objective may set modes of its own.
    hooks = [layer.register_forward_pre_hook(_into_train_mode) for layer in layers]
    try:
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # a plain average over the batches
        with torch.no_grad(), closing(sample.read()) as batches:
            for number, batch in enumerate(batches):
                model.eval()
                for layer in layers:
                    layer.train()
                _forward(model, objective, batch, number)
    finally:
        for hook in hooks:
            hook.remove()
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        model.eval()


def _into_train_mode(layer: nn.Module, inputs: object) -> None:
    layer.training = True


def _forward(model: nn.Module, objective: Objective, batch: Any, number: int) -> None:
    try:
        objective(model, batch)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ValueError(
            f"batches must have two examples or more for statistics to be re-estimated. Got batch {number} with one: "
            "use drop_last, or another bn_sample."
        ) from error
