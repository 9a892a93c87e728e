"""Losses of a student: cross-entropy with the labels, and distillation from a teacher's logits."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

Reduction = Literal["mean", "sum", "none"]


def cross_entropy(logits: Tensor, targets: Tensor, reduction: Reduction = "mean") -> Tensor:
    """Cross-entropy with integer labels.

    Args:
        logits: ``[N, C]``.
        targets: ``[N]``, integers in ``[0, C)``.
        reduction: ``"mean"`` or ``"sum"`` over the examples, or ``"none"`` for ``[N]``.
    """
    return F.cross_entropy(logits, targets, reduction=reduction)


def kd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float,
    reduction: Reduction = "mean",
    divergence: Literal["teacher||student", "student||teacher"] = "teacher||student",
) -> Tensor:
    r"""Knowledge distillation (Hinton et al., 2015, arXiv 1503.02531): T^2 KL(softmax(t / T) || softmax(s / T)).

    The factor T^2 keeps the size of the gradient independent of the temperature.

    Args:
        student_logits: ``[N, C]``.
        teacher_logits: ``[N, C]``; no gradient flows into them unless they require one.
        temperature: T, above 0.
        reduction: ``"mean"`` or ``"sum"`` over the examples, or ``"none"`` for ``[N]``.
        divergence: ``"teacher||student"`` as in Hinton's loss and the DOT reference code; write-ups of the DOT paper
            name the arguments the other way round, which is ``"student||teacher"``.

    Raises:
        ValueError: The shapes differ, ``temperature`` is not positive, or a name is unknown.
    """
    if student_logits.shape != teacher_logits.shape or student_logits.ndim != 2:
        raise ValueError(
            f"student_logits and teacher_logits must both be [N, C]. Got {list(student_logits.shape)} and "
            f"{list(teacher_logits.shape)}: do student and teacher have the same classes?"
        )
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0. Got {temperature}.")
    if divergence not in ("teacher||student", "student||teacher"):
        raise ValueError(f"divergence must be 'teacher||student' or 'student||teacher'. Got {divergence!r}.")
    student, teacher = student_logits / temperature, teacher_logits / temperature
    p, q = (teacher, student) if divergence == "teacher||student" else (student, teacher)
    pointwise = F.kl_div(F.log_softmax(q, dim=1), F.softmax(p, dim=1), reduction="none")
    per_example = pointwise.sum(1) * temperature**2
    if reduction == "none":
        return per_example
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none'. Got {reduction!r}.")
    return per_example.mean() if reduction == "mean" else per_example.sum()


def loss_weights(alpha: float) -> tuple[float, float]:
    """The weights (task, distillation) of the form (1 - alpha) task + alpha distillation.

    Raises:
        ValueError: ``alpha`` is not in [0, 1].
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be in [0, 1]. Got {alpha}.")
    return 1 - alpha, alpha
