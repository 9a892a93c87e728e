"""DOT: SGD with a momentum buffer for each loss (Zhao et al., ICCV 2023, arXiv 2307.08436, section 3.3).

`PerLossMomentum` keeps one buffer for each named loss; `DOT` is its two-loss face, with the momenta of the task and
the distillation loss moved apart by ``delta`` so that distillation leads.

There is no Adam form. DOT lets a loss lead through the length of its momentum: a constant gradient moves the weights
by ``lr / (1 - momentum)`` of itself. Adam divides each coordinate by the root of its second moment, which cancels
exactly this gain; and with one second moment for all losses it is no longer a buffer for each loss, with one for each
loss the losses' weights no longer mean anything. Neither is the method of the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

ParamsT = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]


class PerLossMomentum(Optimizer):
    r"""SGD with one momentum buffer for each named loss.

    For a parameter p that two or more losses reach, with the gradient g_l of each loss l (weighted already)::

        v_l <- m_l v_l + g_l              (the first listed loss that reaches p: + weight_decay p)
        p   <- p - lr sum_l v_l           (nesterov: sum_l (g_l + m_l v_l))

    The first step sets a buffer to its gradient, as `torch.optim.SGD` does. A parameter that a single loss reaches
    uses ``momentum``. One that no loss has reached is left alone; once a buffer exists, a missing gradient counts as
    zero. With all momenta equal this is SGD on the sum of the losses. Memory: one buffer a loss, and its gradient
    between `backward` and `step`.

    Args:
        params: Parameters, or groups with their own ``lr``, ``momenta``, ``momentum`` and ``weight_decay``.
        lr: Learning rate, at least 0.
        momenta: ``{loss name: momentum}``, each at least 0 and below 1; names are Python identifiers. The first is
            the primary loss: it carries the weight decay, and its gradient may come through ``.grad``.
        momentum: Of parameters that a single loss reaches.
        weight_decay: At least 0; enters through one loss only.
        nesterov: Look one step ahead, for each buffer.
        maximize: Ascend.
        foreach: Update many tensors in one call; by default wherever the parameters are dense.

    Raises:
        ValueError: An argument is out of its range; the message names it and what came.

    Example:
        >>> optimizer = PerLossMomentum(net.parameters(), lr=0.1, momenta={"task": 0.85, "top": 0.95, "rest": 0.95})
        >>> optimizer.backward(task=loss_ce, top=loss_top, rest=loss_rest)
        >>> optimizer.step()
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        *,
        momenta: Mapping[str, float],
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
    ) -> None:
        defaults = {"lr": lr, "momenta": dict(momenta), "momentum": momentum, "weight_decay": weight_decay}
        self._prepare(tuple(momenta), params, defaults, nesterov, maximize, foreach)

    def _prepare(
        self,
        losses: tuple[str, ...],
        params: ParamsT,
        defaults: dict[str, Any],
        nesterov: bool,
        maximize: bool,
        foreach: bool | None,
    ) -> None:
        if not losses or not all(name.isidentifier() for name in losses):
            raise ValueError(f"losses must be named by Python identifiers, at least one. Got {losses!r}.")
        self.losses = losses
        self._scaled: _ScalerView | None = None
        switches = {"nesterov": nesterov, "maximize": maximize, "foreach": foreach}
        super().__init__(params, defaults | switches)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters; what it does not name comes from the defaults.

        Raises:
            ValueError: A value is out of its range.
        """
        merged = self.defaults | param_group
        for name in ("lr", "weight_decay"):
            if not merged[name] >= 0:
                raise ValueError(f"{name} must be at least 0. Got {merged[name]}.")
        _check_momentum("momentum", merged["momentum"])
        self._momenta(merged)
        super().add_param_group(param_group)

    def _momenta(self, group: Mapping[str, Any]) -> dict[str, float]:
        """Momentum of each loss in a group, checked."""
        momenta = dict(group["momenta"])
        if tuple(momenta) != self.losses:
            raise ValueError(f"momenta must name the losses {', '.join(self.losses)}. Got {', '.join(momenta)}.")
        for name, value in momenta.items():
            _check_momentum(f"the momentum of {name!r}", value)
        return momenta

    def backward(self, *, retain_graph: bool = False, **losses: Tensor) -> None:
        """Compute and keep the gradients of each named loss, without touching ``.grad``.

        Losses that share a graph are differentiated one after the other. Called again before `step` (micro-batches),
        the gradients of each loss add up. A loss that is left out has no gradient in this step.

        Args:
            retain_graph: Keep the graph after the last loss too.
            **losses: Scalars, by the names of the optimizer's losses, each already times its weight.

        Raises:
            ValueError: No loss, an unknown name, or a loss that is not a scalar with a gradient.
        """
        for name, loss in losses.items():
            if name not in self.losses:
                raise ValueError(f"losses must be among {', '.join(self.losses)}. Got {name!r}.")
            if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
                raise ValueError(f"{name} must be a scalar tensor with a gradient. Got {_describe(loss)}.")
        if not losses:
            raise ValueError(f"backward needs at least one of {', '.join(self.losses)}. Got none.")
        parameters = [p for group in self.param_groups for p in group["params"] if p.requires_grad]
        last = list(losses)[-1]
        for name, loss in losses.items():
            keep_graph = retain_graph or name != last
            for p, gradient in zip(
                parameters,
                torch.autograd.grad(loss, parameters, retain_graph=keep_graph, allow_unused=True),
                strict=True,
            ):
                if gradient is not None:
                    before = self._kept(p, name)
                    self._keep(p, name, gradient if before is None else before + gradient)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every buffer and parameter from the gradients kept since the last step, and forget them.

        Where `backward` was not given the primary loss, its gradient is taken from ``.grad``, which becomes None.

        Args:
            closure: Computes the losses and calls `backward`; what it returns is returned.

        Raises:
            RuntimeError: The primary loss has a gradient both from `backward` and in ``.grad``, or one is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = group["params"]
            gradients = {name: [self._take(p, name) for p in params] for name in self.losses}
            buffers = {name: [self._stored(p, f"momentum_{name}") for p in params] for name in self.losses}
            per_loss_momentum(
                params,
                gradients,
                buffers,
                lr=group["lr"],
                momenta=self._momenta(group),
                momentum=group["momentum"],
                weight_decay=group["weight_decay"],
                nesterov=group["nesterov"],
                maximize=group["maximize"],
                foreach=group["foreach"],
            )
            for name in self.losses:
                for p, buffer in zip(params, buffers[name], strict=True):
                    if buffer is not None:
                        self.state[p][f"momentum_{name}"] = buffer
        return loss

    def gradients(self, loss: str) -> list[Tensor | None]:
        """The gradient of a loss that the next `step` will use, for each parameter in the order of the groups.

        Raises:
            ValueError: An unknown name.
        """
        if loss not in self.losses:
            raise ValueError(f"loss must be one of {', '.join(self.losses)}. Got {loss!r}.")
        return [self._kept(p, loss) for group in self.param_groups for p in group["params"]]

    def momentum_buffers(self, loss: str) -> list[Tensor | None]:
        """The momentum buffer of a loss for each parameter, in the order of the groups; None where there is none."""
        return [self._stored(p, f"momentum_{loss}") for group in self.param_groups for p in group["params"]]

    @torch.no_grad()
    def clip_grad_norm_(self, max_norm: float, of: str = "sum") -> Tensor:
        """Scale kept gradients so that a norm over all parameters is at most ``max_norm``.

        Call it between `backward` (after `unscale_`, with a scaler) and `step`.

        Args:
            max_norm: Above 0.
            of: ``"sum"``: the norm is that of the sum of the losses' gradients, and all are scaled alike; or the name
                of a loss, whose gradient alone is measured and scaled.

        Returns:
            The norm before clipping, a scalar.

        Raises:
            ValueError: ``max_norm`` is not positive, or ``of`` is no name of a loss and not ``"sum"``.
        """
        if not max_norm > 0:
            raise ValueError(f"max_norm must be above 0. Got {max_norm}.")
        if of != "sum" and of not in self.losses:
            raise ValueError(f"of must be 'sum' or one of {', '.join(self.losses)}. Got {of!r}.")
        names = self.losses if of == "sum" else (of,)
        kept: dict[Tensor, dict[str, Tensor]] = {}
        for group in self.param_groups:
            for p in group["params"]:
                found = {name: g for name in names if (g := self._kept(p, name)) is not None}
                if found:
                    kept[p] = found
        totals = [torch.stack(list(found.values())).sum(0) for found in kept.values()]
        norm = torch.nn.utils.get_total_norm(totals)
        scale = torch.clamp(max_norm / (norm + 1e-6), max=1.0)
        for p, found in kept.items():
            for name, gradient in found.items():
                self._keep(p, name, gradient * scale.to(gradient.device))
        return norm

    def unscale_(self, scaler: torch.amp.GradScaler) -> None:
        """Divide the kept gradients of every loss by the scaler's scale; for clipping before `scaled_step`."""
        self._scaled = _ScalerView(self)
        scaler.unscale_(self._scaled)  # type: ignore[arg-type]

    def scaled_step(self, scaler: torch.amp.GradScaler) -> None:
        """`step` under a ``torch.amp.GradScaler``: skipped where the gradient of any loss is not finite.

        ``scaler.step(optimizer)`` would see ``.grad`` alone. The losses are scaled by the caller::

            optimizer.backward(task=scaler.scale(loss_ce), distill=scaler.scale(loss_kd))
            optimizer.scaled_step(scaler)
            scaler.update()
        """
        if self._scaled is None:
            self.unscale_(scaler)
        scaler.step(self._scaled)  # type: ignore[arg-type]
        self._scaled = None
        for group in self.param_groups:
            for p in group["params"]:
                for name in self.losses:  # of a skipped step; they must not add to the next
                    self._take(p, name)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load buffers, kept gradients and settings from `state_dict`.

        Raises:
            ValueError: It is of an optimizer with other losses.
        """
        for state in state_dict["state"].values():
            for key in state:
                if key.partition("_")[2] not in self.losses:
                    raise ValueError(f"state must be of the losses {', '.join(self.losses)}. Got {key!r}.")
        super().load_state_dict(state_dict)

    def _stored(self, p: Tensor, key: str) -> Tensor | None:
        return self.state.get(p, {}).get(key)  # without making an entry for a parameter that no loss has reached

    def _keep(self, p: Tensor, name: str, gradient: Tensor) -> None:
        if name == self.losses[0] and self._stored(p, f"gradient_{name}") is None and p.grad is not None:
            p.grad = gradient  # the primary gradient came through .grad, and stays there
        else:
            self.state[p][f"gradient_{name}"] = gradient

    def _kept(self, p: Tensor, name: str) -> Tensor | None:
        kept = self._stored(p, f"gradient_{name}")
        return p.grad if kept is None and name == self.losses[0] else kept

    def _take(self, p: Tensor, name: str) -> Tensor | None:
        kept = self.state.get(p, {}).pop(f"gradient_{name}", None)
        if name == self.losses[0] and p.grad is not None:
            if kept is not None:
                raise RuntimeError(
                    f"the gradient of {name!r} must come from backward({name}=...) or from .grad. "
                    "Got both: call zero_grad() before step()."
                )
            kept, p.grad = p.grad, None
        return kept


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
        foreach: Update many tensors in one call; by default wherever the parameters are dense.

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
        parameters = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if any(self._stored(p, "gradient_distill") is not None for p in parameters):
            raise RuntimeError(
                "step_kd() must be called once before each step(). Got a second call: .grad may hold both losses. "
                "For micro-batches use backward(task=..., distill=...), which adds up each loss by itself."
            )
        for p in parameters:
            self.state[p]["gradient_distill"], p.grad = p.grad, None


def split_momentum(momentum: float, delta: float) -> dict[str, float]:
    """DOT's momentum of each loss: ``{"task": momentum - delta, "distill": momentum + delta}``.

    Raises:
        ValueError: ``momentum`` is not in [0, 1), ``|delta| > momentum``, or ``momentum + |delta| >= 1``.
    """
    _check_momentum("momentum", momentum)
    if not abs(delta) <= momentum:
        raise ValueError(f"delta must be at most momentum ({momentum}) in size. Got {delta}: a momentum would be < 0.")
    if not momentum + abs(delta) < 1:
        raise ValueError(
            f"momentum + |delta| must be below 1. Got {momentum} + {abs(delta)}: the buffer of the leading loss would "
            f"grow without bound and training diverge. Use |delta| < {1 - momentum:.4g}, such as 0.075 at 0.9."
        )
    return {"task": momentum - delta, "distill": momentum + delta}


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
    """The functional form of `PerLossMomentum`: one step, in place on ``params`` and ``buffers``.

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


class _ScalerView:
    """Kept gradients as ``.grad`` of stand-ins without storage: what ``torch.amp.GradScaler`` reads and unscales."""

    def __init__(self, optimizer: PerLossMomentum) -> None:
        self._optimizer = optimizer
        stand_ins = []
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
        self._optimizer.step()


def _check_momentum(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and below 1 (at 1 its buffer never decays). Got {value}.")


def _describe(value: Any) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"shape {list(value.shape)}" + ("" if value.requires_grad else " that does not require a gradient")
