"""A copy of a network that can be put elsewhere, and vectors of its parameters."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from landscape import modules


class Standing:
    """Where a private copy of a network stands.

    A vector ``[D]`` holds the parameters that count one after the other, see `split`.

    Args:
        model: The copy; only the parameters that count will require gradients.
        names: Of the parameters that count.
    """

    def __init__(self, model: nn.Module, names: Collection[str]) -> None:
        self.model = model
        for name, p in model.named_parameters():
            p.requires_grad_(name in names)
        self._named = {name: p for name, p in model.named_parameters() if name in names}
        self._base = self._standing()
        self._place = 0

    @property
    def names(self) -> list[str]:
        """Of the parameters, in the order of a vector."""
        return list(self._named)

    @property
    def size(self) -> int:
        """D, how many numbers a vector has."""
        return sum(p.numel() for p in self._base)

    @property
    def device(self) -> torch.device:
        """Of the vectors: the model's; the CPU for MPS, which has no float64."""
        at = self._base[0].device
        return torch.device("cpu") if at.type == "mps" else at

    def split(self, vector: Tensor) -> dict[str, Tensor]:
        """``{parameter name: tensor}`` of a vector ``[D]``, each in the parameter's shape."""
        parts = vector.split([p.numel() for p in self._base])
        return {name: part.reshape(p.shape) for part, (name, p) in zip(parts, self._named.items(), strict=True)}

    def join(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The vector ``[D]`` of ``{parameter name: tensor}``, float64."""
        return self._flat([tensors[name] for name in self._named])

    def weights(self) -> Tensor:
        """The problem's own weights ``[D]``, float64."""
        return self._flat(self._base)

    def move(self, offset: Tensor | None = None) -> None:
        """Go to the problem's weights plus an offset ``[D]``; without one, back to them."""
        self._go_to(self._base, offset)

    @torch.no_grad()
    def put(self, tensors: Mapping[str, Tensor]) -> None:
        """Give the copy these parameters and buffers, by name; `move` brings back those of ``names`` only."""
        own = modules.state(self.model)
        for name, tensor in tensors.items():
            own[name].copy_(tensor)
        self._place += 1

    def _standing(self) -> list[Tensor]:
        """A copy of the weights where the copy stands."""
        return [p.detach().clone() for p in self._named.values()]

    @torch.no_grad()
    def _go_to(self, weights: Sequence[Tensor], offset: Tensor | None = None) -> None:
        torch._foreach_copy_(list(self._named.values()), list(weights))
        if offset is not None:
            for p, part in zip(self._named.values(), self.split(offset).values(), strict=True):
                p.add_(part.to(p))
        self._place += 1

    def _flat(self, tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat([t.detach().reshape(-1).to(self.device, torch.float64) for t in tensors])
