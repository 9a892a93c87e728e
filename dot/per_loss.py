"""SGD with one momentum buffer for each named loss: what DOT and its controls are settings of."""

from __future__ import annotations

import keyword
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from dot.momentum import check_decay_shares, check_momentum, per_loss_momentum
from dot.scaling import ScalerView

ParamsT = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]


class PerLossMomentum(Optimizer):
    r"""SGD with one momentum buffer for each named loss.

    For a parameter p that two or more losses reach, with the gradient g_l of each loss l (weighted already)::

        g_l <- g_l + s_l weight_decay p   (s_l: the loss's share of the weight decay)
        v_l <- m_l v_l + g_l
        p   <- p - lr sum_l v_l           (nesterov: sum_l (g_l + m_l v_l))

    The first step sets a buffer to its gradient, as `torch.optim.SGD` does. A parameter that a single loss reaches
    uses ``momentum``. One that no loss has reached is left alone; once a buffer exists, a missing gradient counts as
    zero. With all momenta equal this is SGD on the sum of the losses, whatever the shares. Memory: one buffer a loss,
    and its gradient between `backward` and `step`.

    Args:
        params: Parameters, or groups with their own ``lr``, ``momenta``, ``momentum``, ``weight_decay`` and
            ``decay_shares``.
        lr: Learning rate, at least 0.
        momenta: ``{loss name: momentum}``, each at least 0 and below 1; names are Python identifiers. The first is
            the primary loss, whose gradient may come through ``.grad``.
        momentum: Of parameters that a single loss reaches.
        weight_decay: At least 0; enters once, divided among the losses by ``decay_shares``.
        decay_shares: ``{loss name: share}``, each at least 0, summing to 1; a loss without one has 0. By default the
            primary loss has all. Shares are rescaled to the losses that reach a parameter; where these have none, the
            first listed of them carries the decay.
        nesterov: Look one step ahead, for each buffer.
        maximize: Ascend.
        foreach: Update many tensors in one call; by default for plain tensors and parameters, not their subclasses.

    Raises:
        ValueError: An argument is out of its range; the message names it and what came.

    Example:
        >>> optimizer = PerLossMomentum(net.parameters(), lr=0.1, momenta={"task": 0.85, "top": 0.95, "rest": 0.95})
        >>> optimizer.backward(task=loss_ce, top=loss_top, rest=loss_rest)
        >>> optimizer.step()
    """

    _step_supports_amp_scaling = True  # so that GradScaler.step leaves a mark, by which step() can refuse it
    _view: ScalerView | None = None
    _unscaled = False

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        *,
        momenta: Mapping[str, float],
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        decay_shares: Mapping[str, float] | None = None,
        nesterov: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
    ) -> None:
        defaults = {"lr": lr, "momenta": dict(momenta), "momentum": momentum, "weight_decay": weight_decay}
        defaults["decay_shares"] = None if decay_shares is None else dict(decay_shares)
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
        if not losses or not all(_is_name(name) for name in losses):
            raise ValueError(f"losses must be named by Python identifiers, at least one. Got {losses!r}.")
        self.losses = losses
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
        check_momentum("momentum", merged["momentum"])
        self._momenta(merged)
        self._decay_shares(merged)
        for name in ("momenta", "decay_shares"):
            if merged.get(name) is not None:
                param_group[name] = dict(merged[name])  # a group's own, not the one of the defaults
        super().add_param_group(param_group)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"losses": self.losses}

    def _momenta(self, group: Mapping[str, Any]) -> dict[str, float]:
        """Momentum of each loss in a group, checked."""
        momenta = dict(group["momenta"])
        if tuple(momenta) != self.losses:
            raise ValueError(f"momenta must name the losses {', '.join(self.losses)}. Got {', '.join(momenta)}.")
        for name, value in momenta.items():
            check_momentum(f"the momentum of {name!r}", value)
        return momenta

    def _decay_shares(self, group: Mapping[str, Any]) -> dict[str, float] | None:
        """Shares of a group, checked; None, as in a state saved before there were shares, is all for the primary."""
        shares = group.get("decay_shares")
        if shares is not None:
            check_decay_shares(shares, self.losses)
        return shares

    def backward(self, *, retain_graph: bool = False, **losses: Tensor) -> None:
        """Compute and keep the gradients of each named loss, without touching ``.grad``.

        Losses that share a graph are differentiated one after the other. Called again before `step` (micro-batches),
        the gradients of each loss add up. A loss that is left out has no gradient in this step.

        Args:
            retain_graph: Keep the graph after the last loss too.
            **losses: Scalars, by the names of the optimizer's losses, each already times its weight.

        Raises:
            ValueError: No loss, nothing to train, an unknown name, or a loss that is not a scalar with a gradient.
        """
        for name, loss in losses.items():
            if name not in self.losses:
                raise ValueError(f"losses must be among {', '.join(self.losses)}. Got {name!r}.")
            if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
                raise ValueError(f"{name} must be a scalar tensor with a gradient. Got {_describe(loss)}.")
        if not losses:
            raise ValueError(f"backward needs at least one of {', '.join(self.losses)}. Got none.")
        parameters = [p for p in self._parameters() if p.requires_grad]
        if not parameters:
            raise ValueError("backward needs a parameter that requires a gradient. Got none: all are frozen.")
        last = list(losses)[-1]
        found = {
            name: torch.autograd.grad(loss, parameters, retain_graph=retain_graph or name != last, allow_unused=True)
            for name, loss in losses.items()
        }  # all of them before any is kept: a loss that fails must not leave another's gradient to be counted twice
        if all(gradient is None for gradients in found.values() for gradient in gradients):
            raise ValueError(
                f"a loss must reach a parameter of this optimizer. Got {', '.join(found)}, which reach none."
            )
        for name, gradients in found.items():
            for p, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    before = self._stored(p, f"gradient_{name}")
                    self.state[p][f"gradient_{name}"] = gradient if before is None else before + gradient

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every buffer and parameter from the gradients kept since the last step, and forget them.

        Where `backward` was not given the primary loss, its gradient is taken from ``.grad``, which becomes None: read
        gradient norms before. A parameter that has buffers moves on with its momentum when no gradient is new, where
        `torch.optim.SGD` would leave one whose ``.grad`` is None.

        Args:
            closure: Computes the losses and calls `backward`; what it returns is returned.

        Raises:
            RuntimeError: The primary loss has a gradient both from `backward` and in ``.grad``, or one is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._check_before_step()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.requires_grad]  # one frozen later stays where it is
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
                decay_shares=self._decay_shares(group),
                nesterov=group["nesterov"],
                maximize=group["maximize"],
                foreach=group["foreach"],
            )
            for name in self.losses:
                for p, buffer in zip(params, buffers[name], strict=True):
                    if buffer is not None:
                        self.state[p][f"momentum_{name}"] = buffer
        self._unscaled = False
        return loss

    def _check_before_step(self) -> None:
        """Refuse a step before any parameter has moved or any gradient is gone."""
        if hasattr(self, "grad_scale"):
            del self.grad_scale, vars(self)["found_inf"]
            raise RuntimeError(
                "step() must not be called by a scaler. Got scaler.step(optimizer): use scaled_step(scaler)."
            )
        parameters = self._parameters()
        primary = self.losses[0]
        if any(self._stored(p, f"gradient_{primary}") is not None for p in parameters) and any(
            p.grad is not None for p in parameters
        ):
            raise RuntimeError(
                f"the gradient of {primary!r} must come from backward({primary}=...) or from .grad. "
                "Got both: call zero_grad() before backward()."
            )
        for p in parameters:
            for name in self.losses:
                if (g := self._kept(p, name)) is not None and g.is_sparse:
                    raise RuntimeError("gradients must be dense. Got a sparse one: use an embedding with sparse=False.")
        for group in self.param_groups:
            self._momenta(group)
            self._decay_shares(group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear ``.grad``, and forget what `backward` has kept; what ``step_kd`` put away stays."""
        super().zero_grad(set_to_none)
        for state in self.state.values():
            for name in self.losses:
                state.pop(f"gradient_{name}", None)

    def gradients(self, loss: str) -> list[Tensor | None]:
        """The gradient of a loss that the next `step` will use, for each parameter in the order of the groups.

        Raises:
            ValueError: An unknown name.
        """
        self._check_loss(loss)
        return [self._kept(p, loss) for p in self._parameters()]

    def replace_gradients(self, change: Callable[[list[Tensor]], list[Tensor]]) -> None:
        """Put other gradients in the place of those kept, of all losses at once: summed over processes, say.

        Args:
            change: Gets the gradients that the next `step` will use, and returns as many of the same shapes.
        """
        places = [(p, name) for p in self._parameters() for name in self.losses if self._kept(p, name) is not None]
        found = change([self._kept(p, name) for p, name in places])  # type: ignore[misc]
        for (p, name), gradient in zip(places, found, strict=True):
            self._keep(p, name, gradient)

    def momentum_buffers(self, loss: str) -> list[Tensor | None]:
        """The momentum buffer of a loss for each parameter, in the order of the groups; None where there is none.

        Raises:
            ValueError: An unknown name.
        """
        self._check_loss(loss)
        return [self._stored(p, f"momentum_{loss}") for p in self._parameters()]

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
        for p in self._parameters():
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
        if self._view is None:
            self._view = ScalerView(lambda: self.step())  # kept, since a scaler knows its optimizers by their id
        own = []
        for p in self._parameters():
            for name in self.losses:
                if (gradient := self._kept(p, name)) is not None:
                    own.append(gradient.contiguous().clone())  # unscaled in place; autograd may share it
                    self._keep(p, name, own[-1])
        self._view.show(own)
        scaler.unscale_(self._view)  # type: ignore[arg-type]
        self._unscaled = True

    def scaled_step(self, scaler: torch.amp.GradScaler) -> None:
        """`step` under a ``torch.amp.GradScaler``: skipped where the gradient of any loss is not finite.

        ``scaler.step(optimizer)`` would see ``.grad`` alone. The losses are scaled by the caller::

            optimizer.backward(task=scaler.scale(loss_ce), distill=scaler.scale(loss_kd))
            optimizer.scaled_step(scaler)
            scaler.update()
        """
        if not self._unscaled:
            self.unscale_(scaler)
        scaler.step(self._view)  # type: ignore[arg-type]
        self.discard()  # the gradients of a skipped step must not add to the next

    def discard(self) -> None:
        """Forget the gradients kept since the last `step`, ``.grad`` included: for a loop that skips a step."""
        self._unscaled = False
        for p in self._parameters():
            for name in self.losses:
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
        for group in state_dict["param_groups"]:
            try:
                self._momenta(group)
                self._decay_shares(group)
            except KeyError as missing:
                raise ValueError(
                    f"state must be of the losses {', '.join(self.losses)}. Got a group without {missing}."
                ) from None
        super().load_state_dict(state_dict)

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def _check_loss(self, loss: str) -> None:
        if loss not in self.losses:
            raise ValueError(f"loss must be one of {', '.join(self.losses)}. Got {loss!r}.")

    def _stored(self, p: Tensor, key: str) -> Tensor | None:
        return self.state.get(p, {}).get(key)  # without making an entry for a parameter that no loss has reached

    def _keep(self, p: Tensor, name: str, gradient: Tensor) -> None:
        if name == self.losses[0] and self._stored(p, f"gradient_{name}") is None and p.grad is not None:
            p.grad = gradient  # the primary gradient came through .grad, and stays there
        else:
            away = self._stored(p, f"away_{name}") is not None
            self.state[p][f"away_{name}" if away else f"gradient_{name}"] = gradient

    def _kept(self, p: Tensor, name: str) -> Tensor | None:
        kept = self._stored(p, f"gradient_{name}")
        kept = self._stored(p, f"away_{name}") if kept is None else kept
        return p.grad if kept is None and name == self.losses[0] else kept

    def _take(self, p: Tensor, name: str) -> Tensor | None:
        state = self.state.get(p, {})
        kept, away = state.pop(f"gradient_{name}", None), state.pop(f"away_{name}", None)
        kept = away if kept is None else kept
        if name == self.losses[0] and p.grad is not None:
            kept, p.grad = p.grad, None
        return kept


def _is_name(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name) and name not in ("self", "retain_graph", "sum")


def _describe(value: Any) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"shape {list(value.shape)}" + ("" if value.requires_grad else " that does not require a gradient")
