"""The arithmetic of one momentum buffer for each loss: a step, in place, on lists of tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


def per_loss_momentum(
    params: Sequence[Tensor],
    gradients: Mapping[str, Sequence[Tensor | None]],
    buffers: Mapping[str, list[Tensor | None]],
    *,
    lr: float,
    momenta: Mapping[str, float],
    momentum: float,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
    foreach: bool | None = None,
) -> None:
    """The functional form of `dot.PerLossMomentum`: one step, in place on ``params`` and ``buffers``.

    Call it under ``torch.no_grad()``; the numbers are taken as they are, see `split_momentum` for DOT's.

    Args:
        params: Tensors to update.
        gradients: For each loss a gradient for each parameter, or None; left as they are.
        buffers: For each loss the momentum buffers, None before a loss first reaches a parameter; filled in here.
        lr, momenta, momentum, weight_decay, nesterov, maximize, foreach: As `PerLossMomentum`.

    Raises:
        RuntimeError: A gradient is sparse.
    """
    buckets: dict[tuple[Any, ...], list[int]] = {}
    for i, p in enumerate(params):
        state = tuple((gradients[name][i] is not None, buffers[name][i] is not None) for name in momenta)
        if any(gradient or buffer for gradient, buffer in state):
            buckets.setdefault((state, p.device, p.dtype), []).append(i)
        if any(g is not None and g.is_sparse for g in (gradients[name][i] for name in momenta)):
            raise RuntimeError("gradients must be dense. Got a sparse one: use an embedding with sparse=False.")
    for (state, *_), members in buckets.items():
        reached = [name for name, (gradient, buffer) in zip(momenta, state, strict=True) if gradient or buffer]
        settings = _Settings(
            lr=lr,
            momenta=[momenta[name] for name in reached] if len(reached) > 1 else [momentum],
            weight_decay=weight_decay,
            nesterov=nesterov,
            maximize=maximize,
        )
        plain = all(type(params[i]) in (Tensor, torch.nn.Parameter) for i in members)
        if plain if foreach is None else foreach:
            _update_together([params[i] for i in members], members, reached, gradients, buffers, settings)
        else:
            for i in members:
                _update_one(params[i], i, reached, gradients, buffers, settings)


class _Settings(NamedTuple):
    lr: float
    momenta: Sequence[float]
    weight_decay: float
    nesterov: bool
    maximize: bool


def _update_one(
    p: Tensor,
    i: int,
    reached: Sequence[str],
    gradients: Mapping[str, Sequence[Tensor | None]],
    buffers: Mapping[str, list[Tensor | None]],
    use: _Settings,
) -> None:
    """The update of one parameter, as it is written in the docstring of `PerLossMomentum`."""
    total = torch.zeros_like(p)
    for name, momentum in zip(reached, use.momenta, strict=True):
        g, buffer = gradients[name][i], buffers[name][i]
        if g is not None and use.maximize:
            g = -g
        if use.weight_decay and name == reached[0]:
            g = p * use.weight_decay if g is None else g.add(p, alpha=use.weight_decay)
        if buffer is None:
            assert g is not None  # a loss without a buffer is among the reached ones because of its gradient
            buffer = buffers[name][i] = g.clone()
        else:
            buffer.mul_(momentum)
            if g is not None:
                buffer.add_(g)
        change = buffer
        if use.nesterov:
            change = buffer * momentum if g is None else g.add(buffer, alpha=momentum)
        total.add_(change)
    p.add_(total, alpha=-use.lr)


def _update_together(
    params: list[Tensor],
    members: list[int],
    reached: Sequence[str],
    gradients: Mapping[str, Sequence[Tensor | None]],
    buffers: Mapping[str, list[Tensor | None]],
    use: _Settings,
) -> None:
    """`_update_one` for parameters in the same state: the same operations, each over all of them in one call."""
    total = [torch.zeros_like(p) for p in params]
    for name, momentum in zip(reached, use.momenta, strict=True):
        g = _present([gradients[name][i] for i in members])
        old = _present([buffers[name][i] for i in members])
        if g and use.maximize:
            g = list(torch._foreach_neg(g))
        if use.weight_decay and name == reached[0]:
            decay = use.weight_decay
            g = list(torch._foreach_add(g, params, alpha=decay) if g else torch._foreach_mul(params, decay))
        if old:
            new = old
            torch._foreach_mul_(new, momentum)
            if g:
                torch._foreach_add_(new, g)
        else:
            new = [t.clone() for t in g]
            for i, buffer in zip(members, new, strict=True):
                buffers[name][i] = buffer
        change = new
        if use.nesterov:
            change = list(torch._foreach_add(g, new, alpha=momentum) if g else torch._foreach_mul(new, momentum))
        torch._foreach_add_(total, change)
    torch._foreach_add_(params, total, alpha=-use.lr)


def _present(tensors: Sequence[Tensor | None]) -> list[Tensor]:
    """The tensors that are there: all of them, or none, for parameters in the same state."""
    return [t for t in tensors if t is not None]


def split_momentum(momentum: float, delta: float) -> dict[str, float]:
    """DOT's momentum of each loss: ``{"task": momentum - delta, "distill": momentum + delta}``.

    Raises:
        ValueError: ``momentum`` is not in [0, 1), ``|delta| > momentum``, or ``momentum + |delta| >= 1``.
    """
    check_momentum("momentum", momentum)
    if not abs(delta) <= momentum:
        raise ValueError(f"delta must be at most momentum ({momentum}) in size. Got {delta}: a momentum would be < 0.")
    if not momentum + abs(delta) < 1:
        raise ValueError(
            f"momentum + |delta| must be below 1. Got {momentum} + {abs(delta)}: the buffer of the leading loss would "
            f"grow without bound and training diverge. Use |delta| < {1 - momentum:.4g}."
        )
    return {"task": momentum - delta, "distill": momentum + delta}


def check_momentum(name: str, value: float) -> None:
    """Refuse a momentum outside [0, 1).

    Raises:
        ValueError: With ``name`` and the value.
    """
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and below 1 (at 1 its buffer never decays). Got {value}.")
