"""What a student imitates, and how: losses that read what both networks gave for a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from dot.config import Losses
from dot.losses import kd_loss
from dot.models.features import features


@dataclass(frozen=True)
class Outputs:
    """What a network gave for a batch.

    Attributes:
        logits: ``[N, C]``.
        features: Outputs of the layers that were asked for, by the module's name.
    """

    logits: Tensor
    features: Mapping[str, Tensor] = field(default_factory=dict)


class Distillation(nn.Module):
    student_layers: tuple[str, ...] = ()
    teacher_layers: tuple[str, ...] = ()


class Hinton(Distillation):
    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor) -> Tensor:
        return kd_loss(student.logits, teacher.logits, self.temperature, reduction="none")


def make(losses: Losses, student: nn.Module, teacher: nn.Module, example: Tensor) -> Distillation:
    return Hinton(losses.temperature)


def observe(model: nn.Module, layers: Sequence[str], inputs: Tensor) -> Outputs:
    if not layers:
        return Outputs(model(inputs))
    with features(model, layers) as kept:
        return Outputs(model(inputs), dict(kept))
