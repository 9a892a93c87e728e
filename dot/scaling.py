"""How a ``torch.amp.GradScaler``, which knows ``.grad`` alone, gets to see gradients that an optimizer keeps itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor


class ScalerView:
    """Gradients as ``.grad`` of stand-ins without storage: what the scaler reads, and unscales in place.

    Args:
        step: Called by ``scaler.step`` unless a gradient is not finite.
    """

    def __init__(self, step: Callable[[], Any]) -> None:
        self.step = step
        self.param_groups: list[dict[str, Any]] = []

    def show(self, gradients: Iterable[Tensor]) -> None:
        """Let the scaler see these gradients; they must be free to be written to."""
        stand_ins = []
        for gradient in gradients:
            stand_in = gradient.new_empty(()).expand(gradient.shape)
            stand_in.grad = gradient
            stand_ins.append(stand_in)
        self.param_groups = [{"params": stand_ins}]
