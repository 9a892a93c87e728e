"""Losses of a student, for each example: cross-entropy with the labels, and distillation from a teacher's logits."""

from __future__ import annotations

from typing import Literal

import torch
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
    _check(student_logits, teacher_logits, temperature)
    if divergence not in ("teacher||student", "student||teacher"):
        raise ValueError(f"divergence must be 'teacher||student' or 'student||teacher'. Got {divergence!r}.")
    student, teacher = student_logits / temperature, teacher_logits / temperature
    p, q = (teacher, student) if divergence == "teacher||student" else (student, teacher)
    return _reduce(temperature**2 * _kl(p, q), reduction)


def dkd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    targets: Tensor,
    temperature: float,
    alpha: float = 1.0,
    beta: float = 8.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Decoupled knowledge distillation (Zhao et al., CVPR 2022, arXiv 2203.08679, eq. 7): alpha TCKD + beta NCKD.

    With alpha = 1 and beta = 1 - p, where p is the teacher's probability of the target class at this temperature,
    it would be `kd_loss`: the paper's point is that beta should not fall as the teacher grows sure. Logits of half
    precision are taken to float32, which the loss then is.

    Args:
        student_logits: ``[N, C]``, C at least 2.
        teacher_logits: ``[N, C]``; no gradient flows into them unless they require one.
        targets: ``[N]``, integers in ``[0, C)``; another value is torch's error of an index out of bounds.
        temperature: T, above 0.
        alpha: Weight of `tckd_loss`.
        beta: Weight of `nckd_loss`. It depends on the pair: the reference code has 8 for ResNet32x4 with ResNet8x4 on
            CIFAR-100, and 6 for VGG13 with VGG8.
        reduction: ``"mean"`` or ``"sum"`` over the examples, or ``"none"`` for ``[N]``.

    Raises:
        ValueError: A shape is another, ``temperature`` is not positive, or ``reduction`` is unknown.
    """
    target_class = tckd_loss(student_logits, teacher_logits, targets, temperature, "none")
    other_classes = nckd_loss(student_logits, teacher_logits, targets, temperature, "none")
    return _reduce(alpha * target_class + beta * other_classes, reduction)


def tckd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    targets: Tensor,
    temperature: float,
    reduction: Reduction = "mean",
) -> Tensor:
    """The target-class part of `dkd_loss`: T^2 KL between "target or not" of the teacher and of the student.

    The arguments and errors are those of `dkd_loss`.
    """
    _check(student_logits, teacher_logits, temperature, targets)
    student, teacher = (_target_or_not(_wide(z) / temperature, targets) for z in (student_logits, teacher_logits))
    return _reduce(temperature**2 * _kl(teacher, student), reduction)


def nckd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    targets: Tensor,
    temperature: float,
    reduction: Reduction = "mean",
) -> Tensor:
    """The part of `dkd_loss` of the other classes: `kd_loss` among all classes but the target; 0 for two classes.

    The arguments and errors are those of `dkd_loss`.
    """
    _check(student_logits, teacher_logits, temperature, targets)
    student, teacher = (_without_target(_wide(z), targets) for z in (student_logits, teacher_logits))
    return kd_loss(student, teacher, temperature, reduction)


def standardised_kd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float,
    reduction: Reduction = "mean",
) -> Tensor:
    """`kd_loss` of each example's z-scored logits (Sun et al., CVPR 2024, arXiv 2403.01427).

    A shift or a positive scale of an example's logits changes nothing, in the student's or the teacher's; so the
    student's gradient grows as the spread of its logits shrinks. The z-score is the paper's, with the population
    deviation, sqrt(mean((z - mean(z))^2)); its code divides by the sample deviation + 1e-7, which is this loss at a
    temperature sqrt(C / (C - 1)) times as high, but for the factor T^2. Constant logits have the z-score 0; those of
    half precision are taken to float32, which the loss then is.

    Args:
        student_logits: ``[N, C]``.
        teacher_logits: ``[N, C]``; no gradient flows into them unless they require one.
        temperature: T, above 0, the paper's base temperature; its code runs CIFAR-100 at 2 or 3.
        reduction: ``"mean"`` or ``"sum"`` over the examples, or ``"none"`` for ``[N]``.

    Raises:
        ValueError: The shapes differ, ``temperature`` is not positive, or ``reduction`` is unknown.
    """
    _check(student_logits, teacher_logits, temperature)
    student, teacher = (_standardise(_wide(z)) for z in (student_logits, teacher_logits))
    return kd_loss(student, teacher, temperature, reduction)


def loss_weights(alpha: float) -> tuple[float, float]:
    """The weights (task, distillation) of the form (1 - alpha) task + alpha distillation.

    Raises:
        ValueError: ``alpha`` is not in [0, 1].
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be in [0, 1]. Got {alpha}.")
    return 1 - alpha, alpha


def _kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(softmax(p) || softmax(q)) of each row; finite in value and gradient where a probability is 0."""
    return F.kl_div(F.log_softmax(q, dim=1), F.log_softmax(p, dim=1), reduction="none", log_target=True).sum(1)


def _wide(logits: Tensor) -> Tensor:
    """In float32 at least: a sum over classes that is rounded to 8 bits would drown the target-class part."""
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def _target_or_not(logits: Tensor, targets: Tensor) -> Tensor:
    """Logits ``[N, 2]`` whose softmax is the probability of the target class and that of all others."""
    others = _without_target(logits, targets).logsumexp(1, keepdim=True)
    return torch.cat([logits.gather(1, targets[:, None]), others], dim=1)


def _without_target(logits: Tensor, targets: Tensor) -> Tensor:
    """The logits ``[N, C - 1]`` of the other classes: the last class takes the target's place."""
    return logits.scatter(1, targets[:, None], logits[:, -1:])[:, :-1]


def _standardise(logits: Tensor) -> Tensor:
    spread = (logits.amax(1, keepdim=True) - logits.amin(1, keepdim=True)).detach()
    constant = spread == 0
    # The z-score does not depend on the scale: with a spread of 1 its squares neither overflow nor vanish.
    centred = (logits - logits.mean(1, keepdim=True)) / spread.masked_fill(constant, 1)
    variance = centred.square().mean(1, keepdim=True).masked_fill(constant, 1)
    return centred / variance.sqrt()


def _check(student_logits: Tensor, teacher_logits: Tensor, temperature: float, targets: Tensor | None = None) -> None:
    if student_logits.shape != teacher_logits.shape or student_logits.ndim != 2:
        raise ValueError(
            f"student_logits and teacher_logits must both be [N, C]. Got {list(student_logits.shape)} and "
            f"{list(teacher_logits.shape)}: do student and teacher have the same classes?"
        )
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0. Got {temperature}.")
    if targets is None:
        return
    examples, classes = student_logits.shape
    if targets.shape != (examples,) or targets.dtype != torch.int64:
        raise ValueError(
            f"targets must be [N] of int64, here [{examples}]. Got {list(targets.shape)} of {targets.dtype}. "
            "Give the number of each example's class."
        )
    if classes < 2:
        raise ValueError(f"logits must have at least 2 classes, the target and another. Got {classes}. Use kd_loss.")


def _reduce(per_example: Tensor, reduction: Reduction) -> Tensor:
    if reduction == "none":
        return per_example
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none'. Got {reduction!r}.")
    return per_example.mean() if reduction == "mean" else per_example.sum()
