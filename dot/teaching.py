"""A trained network as the teacher of a student: frozen, in the precision that was asked for, each answer kept once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dot.data.augment import Views
from dot.data.drawing import upload
from dot.devices import autocast
from dot.distillation import Outputs, observe
from dot.logit_cache import LogitCache


class Teacher:
    """What a student imitates.

    Args:
        network: On the device; frozen and put into eval mode.
        layers: Modules whose outputs are needed besides the logits.
        precision: ``"float32"``, or ``"bf16"`` for `torch.autocast` inside; what it gives is float32.
        cache: Of logits; None to ask the network each time.
    """

    def __init__(
        self,
        network: nn.Module,
        layers: Sequence[str] = (),
        precision: str = "float32",
        cache: LogitCache | None = None,
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.cache = cache
        self._layers, self._precision = layers, precision

    def __call__(self, inputs: Tensor) -> Outputs:
        """Logits float32 ``[N, C]`` and the layers' outputs for inputs ``[N, C, H, W]``."""
        with torch.inference_mode(), autocast(inputs.device, self._precision):
            found = observe(self.network, self._layers, inputs)
        kept = {name: feature.clone().float() for name, feature in found.features.items()}
        return Outputs(found.logits.clone().float(), kept)  # autograd takes no tensors of the inference mode

    def of(self, inputs: Tensor, indices: Tensor, views: Views) -> Outputs:
        """The same for training images in their views, from the cache where there is one.

        Args:
            inputs: Of these images in these views.
            indices: Of the images, on the CPU.
            views: How they are seen.
        """
        if self.cache is None:
            return self(inputs)
        numbers = views.numbers
        rows = self.cache.rows(indices, torch.zeros_like(indices) if numbers is None else numbers)
        missing = self.cache.missing(rows)
        if len(missing):
            self.cache.put(rows[missing], self(inputs[upload(missing, inputs.device)]).logits)
        return Outputs(self.cache.get(rows))
