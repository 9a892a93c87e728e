"""The arithmetic of one momentum buffer for each loss: a step, in place, on lists of tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypedDict

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
    decay_shares: Mapping[str, float] | None = None,
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
        lr, momenta, momentum, weight_decay, decay_shares, nesterov, maximize, foreach: As `PerLossMomentum`.

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
            decays=[weight_decay * share for share in _shares_of(reached, decay_shares or {})],
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
    decays: Sequence[float]
    nesterov: bool
    maximize: bool


def _shares_of(reached: Sequence[str], shares: Mapping[str, float]) -> list[float]:
    """Share of the weight decay that each of these losses carries: they sum to 1 whichever losses are missing."""
    found = [shares.get(name, 0.0) for name in reached]
    total = sum(found)
    return [share / total for share in found] if total else [1.0] + [0.0] * (len(reached) - 1)


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
    for name, momentum, decay in zip(reached, use.momenta, use.decays, strict=True):
        g, buffer = gradients[name][i], buffers[name][i]
        if g is not None and use.maximize:
            g = -g
        if decay:
            g = p * decay if g is None else g.add(p, alpha=decay)
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
    for name, momentum, decay in zip(reached, use.momenta, use.decays, strict=True):
        g = _present([gradients[name][i] for i in members])
        old = _present([buffers[name][i] for i in members])
        if g and use.maximize:
            g = list(torch._foreach_neg(g))
        if decay:
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


class PerLossSettings(TypedDict):
    """Keyword arguments of `dot.PerLossMomentum` that say what each loss gets."""

    momenta: dict[str, float]
    momentum: float
    decay_shares: dict[str, float]


def deepkd_settings(
    momentum: float = 0.9, delta: float = 0.075, form: Literal["paper", "released"] = "paper"
) -> PerLossSettings:
    """DeepKD's momenta (Huang et al., 2025, arXiv 2505.15133), as settings of `dot.PerLossMomentum`.

    Its losses are ``task``, `dot.cross_entropy`; ``target``, `dot.tckd_loss`; and ``non_target``, `dot.nckd_loss`.
    What is left out: the mask that hides all but the teacher's highest logits.

    Args:
        momentum: In [0, 1); of parameters that a single loss reaches, too.
        delta: ``|delta| <= momentum`` and ``momentum + |delta| < 1``. The paper's configurations have 0.075 or 0.05;
            negative swaps the momenta, and 0 makes them equal, which is SGD on the sum of the losses.
        form: ``"paper"``: ``momentum + delta`` for task and non_target, ``momentum - delta`` for target; the weight
            decay is the task's, as in DOT. ``"released"``: what the published code does where all losses reach a
            parameter: the task has the momentum of target, and target the weight decay. (There it is the decay of
            weights that the other two losses have moved already: a difference of the order of lr times weight_decay.)

    Returns:
        ``momenta``, ``momentum`` and ``decay_shares``, by the names of the losses.

    Raises:
        ValueError: ``momentum`` or ``delta`` is out of its range, or ``form`` is unknown.

    Example:
        >>> optimizer = PerLossMomentum(student.parameters(), lr=0.05, weight_decay=5e-4, **deepkd_settings())
    """
    if form not in ("paper", "released"):
        raise ValueError(f"form must be 'paper' or 'released'. Got {form!r}.")
    behind, ahead = split_momentum(momentum, delta).values()
    task, decayed = (ahead, "task") if form == "paper" else (behind, "target")
    return {
        "momenta": {"task": task, "target": behind, "non_target": ahead},
        "momentum": momentum,
        "decay_shares": {decayed: 1.0},
    }


def check_decay_shares(shares: Mapping[str, float], losses: Sequence[str]) -> None:
    """Refuse shares of the weight decay that are not a division of it among these losses.

    Raises:
        ValueError: An unknown name, a share below 0, or a sum other than 1.
    """
    if not set(shares) <= set(losses):
        raise ValueError(f"decay_shares must name losses among {', '.join(losses)}. Got {', '.join(shares)}.")
    for name, share in shares.items():
        if not share >= 0:
            raise ValueError(f"the decay share of {name!r} must be at least 0. Got {share}.")
    total = sum(shares.values())
    if not math.isclose(total, 1, abs_tol=1e-6):
        raise ValueError(f"decay_shares must sum to 1. Got {total}: scale weight_decay instead.")


def check_momentum(name: str, value: float) -> None:
    """Refuse a momentum outside [0, 1).

    Raises:
        ValueError: With ``name`` and the value.
    """
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and below 1 (at 1 its buffer never decays). Got {value}.")
