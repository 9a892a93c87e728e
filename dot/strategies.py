"""The training methods: what each does with the losses of a batch. Everything else of training is shared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from dot.config import Optimisation, RunConfig
from dot.optim import DOT
from dot.world import World

Losses = Mapping[str, Tensor]


class Strategy(Protocol):
    """A method of training: an optimizer, the losses it needs, and a step."""

    @property
    def optimizer(self) -> Optimizer:
        """What updates the weights."""
        ...

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the losses that `step` reads."""
        ...

    def step(self, losses: Losses, share: float, again: Callable[[], Losses]) -> dict[str, Tensor]:
        """Update the weights; returns the norms of the gradients by name, scalars on the device.

        Args:
            losses: Means over the batch, or this process's part of them.
            share: Of the distillation loss's weight, in [0, 1].
            again: The same losses of the same batch, at the weights of the time.
        """
        ...


class SummedLoss:
    """One backward pass through the weighted sum of the losses, and `torch.optim.SGD`."""

    def __init__(
        self, parameters: Iterable[Tensor], config: RunConfig, weights: Mapping[str, float], world: World
    ) -> None:
        self.needs = tuple(weights)
        self.optimizer = self._made(parameters, config.train)
        self._weights, self._world = weights, world

    def step(self, losses: Losses, share: float, again: Callable[[], Losses]) -> dict[str, Tensor]:
        """Update the weights; the norm is that of the gradient of the sum."""
        norm = torch.nn.utils.get_total_norm(self._gradients(losses, share))
        self.optimizer.step()
        return {"total": norm}

    def _made(self, parameters: Iterable[Tensor], use: Optimisation) -> Optimizer:
        return SGD(parameters, lr=use.lr, momentum=use.momentum, weight_decay=use.weight_decay, nesterov=use.nesterov)

    def _gradients(self, losses: Losses, share: float) -> list[Tensor]:
        """Those of the sum over all processes, which fill ``.grad``."""
        self.optimizer.zero_grad()
        shares = {"ce": 1.0, "kd": share}
        torch.stack([weight * shares[name] * losses[name] for name, weight in self._weights.items()]).sum().backward()
        reached = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        gradients = self._world.total([p.grad for p in reached])
        for p, gradient in zip(reached, gradients, strict=True):
            p.grad = gradient
        return gradients


class SharpnessAware(SummedLoss):
    """SAM: the gradient is taken where the loss is nearly largest within a radius; then SGD moves the weights.

    Foret et al., ICLR 2021, arXiv 2010.01412, algorithm 1, of `pytorch_optimizer`: from w to w + rho g / |g|, g the
    gradient at w, a second pass there, back to w, and a step of `torch.optim.SGD` with that pass's gradient. With
    several processes g is that of the whole batch, so that all ascend alike.
    """

    def step(self, losses: Losses, share: float, again: Callable[[], Losses]) -> dict[str, Tensor]:
        """Update the weights; the norm is that of the gradient of the sum at the weights, before the ascent."""
        norm = torch.nn.utils.get_total_norm(self._gradients(losses, share))
        self.optimizer.step(lambda: self._gradients(again(), share))  # type: ignore[arg-type,return-value]
        return {"total": norm}

    def _made(self, parameters: Iterable[Tensor], use: Optimisation) -> Optimizer:
        try:
            from pytorch_optimizer import SAM
        except ImportError as error:
            raise ImportError(
                'train.sam needs pytorch_optimizer. Got none: pip install "dot-landscape[sam]".'
            ) from error
        made: Optimizer = SAM(
            parameters,
            SGD,
            rho=use.sam,
            lr=use.lr,
            momentum=use.momentum,
            weight_decay=use.weight_decay,
            nesterov=use.nesterov,
        )
        return made


class DistillationOriented:
    """A gradient for each of the two losses, and `DOT`."""

    needs = ("ce", "kd")

    def __init__(self, parameters: Iterable[Tensor], config: RunConfig, world: World) -> None:
        use = config.train
        self.optimizer = DOT(
            parameters,
            lr=use.lr,
            momentum=use.momentum,
            delta=use.delta,
            weight_decay=use.weight_decay,
            nesterov=use.nesterov,
        )
        self._losses, self._world, self._shared = config.losses, world, use.shared_gradient

    def step(self, losses: Losses, share: float, again: Callable[[], Losses]) -> dict[str, Tensor]:
        """Update the weights; the norms are those of each loss's gradient and of their sum."""
        task, distill = self._losses.w_ce * losses["ce"], self._losses.w_kd * share * losses["kd"]
        if self._shared:
            task = distill = (task + distill) / 2
        self.optimizer.backward(task=task, distill=distill)
        self.optimizer.replace_gradients(self._world.total)
        of_task, of_distill = (self.optimizer.gradients(name) for name in self.optimizer.losses)
        pairs = [[g for g in pair if g is not None] for pair in zip(of_task, of_distill, strict=True)]
        norms = {
            "total": torch.nn.utils.get_total_norm([torch.stack(pair).sum(0) for pair in pairs if pair]),
            "task": torch.nn.utils.get_total_norm([g for g in of_task if g is not None]),
            "distill": torch.nn.utils.get_total_norm([g for g in of_distill if g is not None]),
        }
        self.optimizer.step()
        return norms


def strategy(parameters: Iterable[Tensor], config: RunConfig, world: World) -> Strategy:
    """The strategy of a run's method.

    Raises:
        ImportError: It is SAM, and `pytorch_optimizer` is not installed.
    """
    if config.method == "kd-dot":
        return DistillationOriented(parameters, config, world)
    weights = {"ce": 1.0} if config.method == "ce" else {"ce": config.losses.w_ce, "kd": config.losses.w_kd}
    kind = SharpnessAware if config.train.sam else SummedLoss
    return kind(parameters, config, weights, world)
