"""How a ``torch.amp.GradScaler``, which knows ``.grad`` alone, gets to see the gradients that an optimizer keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dot.per_loss import PerLossMomentum


class ScalerView:
    """Kept gradients as ``.grad`` of stand-ins without storage: what ``torch.amp.GradScaler`` reads and unscales."""

    def __init__(self, optimizer: PerLossMomentum) -> None:
        self._optimizer = optimizer
        self.param_groups: list[dict[str, Any]] = []

    def collect(self) -> None:
        """Take up the gradients of this step."""
        optimizer, stand_ins = self._optimizer, []
        for group in optimizer.param_groups:
            for p in group["params"]:
                for name in optimizer.losses:
                    gradient = optimizer._kept(p, name)
                    if gradient is not None:
                        gradient = gradient.contiguous().clone()  # unscaled in place; autograd may share it
                        optimizer._keep(p, name, gradient)
                        stand_in = gradient.new_empty(()).expand(gradient.shape)
                        stand_in.grad = gradient
                        stand_ins.append(stand_in)
        self.param_groups = [{"params": stand_ins}]

    def step(self) -> None:
        """The optimizer's step; the scaler calls it unless a gradient is not finite."""
        self._optimizer.step()
