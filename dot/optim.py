"""DOT: SGD with a momentum buffer for each loss (Zhao et al., ICCV 2023, arXiv 2307.08436, section 3.3).

`DOT` is the two-loss face of `dot.per_loss.PerLossMomentum`, with the momenta of the task and the distillation loss
moved apart by ``delta`` so that distillation leads. Its functional form is `dot.momentum.per_loss_momentum`, with the
momenta of `split_momentum`.

There is no Adam form. DOT lets a loss lead through the length of its momentum: a constant gradient moves the weights
by ``lr / (1 - momentum)`` of itself. Adam divides each coordinate by the root of its second moment, which cancels
exactly this gain; and with one second moment for all losses it is no longer a buffer for each loss, with one for each
loss the losses' weights no longer mean anything. Neither is the method of the paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dot.momentum import split_momentum
from dot.per_loss import ParamsT, PerLossMomentum


class DOT(PerLossMomentum):
    r"""The Distillation-Oriented Trainer: SGD whose distillation momentum is larger than its task momentum.

    Zhao et al., ICCV 2023, arXiv 2307.08436, section 3.3 and algorithm 1. For each parameter::

        v_t <- (momentum - delta) v_t + (g_t + weight_decay p)
        v_k <- (momentum + delta) v_k + g_k
        p   <- p - lr (v_t + v_k)

    A constant gradient moves the weights by lr / (1 - m) of itself: at 0.9 and delta 0.075 by 5.7 lr for the task and
    40 lr for distillation, against 10 lr in SGD. ``delta=0`` is `torch.optim.SGD` on the sum of both losses. A
    parameter that only one loss reaches uses ``momentum`` and takes its weight decay from that loss; see
    `PerLossMomentum` for missing gradients.

    Args:
        params: Parameters, or groups with their own ``lr``, ``momentum``, ``delta`` and ``weight_decay``.
        lr: Learning rate, at least 0.
        momentum: In [0, 1).
        delta: ``|delta| <= momentum`` and ``momentum + |delta| < 1``; negative lets the task lead.
        weight_decay: At least 0.
        nesterov: Look one step ahead, for each buffer.
        maximize: Ascend.
        foreach: Update many tensors in one call; by default for plain tensors and parameters, not their subclasses.

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> optimizer = DOT(student.parameters(), lr=0.05, momentum=0.9, delta=0.075, weight_decay=5e-4)
        >>> optimizer.backward(task=0.1 * loss_ce, distill=0.9 * loss_kd)
        >>> optimizer.step()

        or in the order of loops written for the reference code, which may call ``zero_grad`` in between:

        >>> loss_kd.backward(retain_graph=True); optimizer.step_kd()
        >>> loss_ce.backward(); optimizer.step()
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        momentum: float = 0.9,
        delta: float = 0.075,
        weight_decay: float = 0.0,
        *,
        nesterov: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "delta": delta, "weight_decay": weight_decay}
        self._prepare(("task", "distill"), params, defaults, nesterov, maximize, foreach)

    def _momenta(self, group: Mapping[str, Any]) -> dict[str, float]:
        return split_momentum(group["momentum"], group["delta"])

    def step_kd(self) -> None:
        """Move the gradients in ``.grad``, those of the distillation loss, out of the way; ``.grad`` becomes None.

        Nothing is updated yet: `step` does that for both losses, once the task loss has filled ``.grad``.

        Raises:
            RuntimeError: It was called before without a `step` in between, so that ``.grad`` may mix both losses.
        """
        parameters = self._parameters()
        if any(self._kept(p, "distill") is not None for p in parameters):
            raise RuntimeError(
                "step_kd() must be called once before each step(). Got a second call: .grad may hold both losses. "
                "For micro-batches use backward(task=..., distill=...), which adds up each loss by itself."
            )
        for p in parameters:
            if p.grad is not None:
                self.state[p]["away_distill"], p.grad = p.grad, None
