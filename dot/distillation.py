"""What a distillation loss sees of student and teacher, the losses that ship, and your own by ``module:function``.

    distillation = make(losses, student, teacher, images[:2])
    with torch.no_grad():
        guide = observe(teacher, distillation.teacher_layers, images)
    seen = observe(student, distillation.student_layers, images)
    loss = distillation(seen, guide, labels).mean()

Its weight, its warm-up and the optimizer of its parameters are the trainer's matter.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dot import importing
from dot.losses import dkd_loss, kd_loss, standardised_kd_loss
from dot.models.features import features


@dataclass(frozen=True)
class Outputs:
    """What a network gave for a batch."""

    logits: Tensor
    """``[N, C]``."""
    features: Mapping[str, Tensor] = field(default_factory=dict)
    """Outputs of the layers asked for, by module name."""


class Distillation(nn.Module):
    """A distillation loss. Derive yours from it: name the layers that it reads, and give a loss for each example.

        class Attention(Distillation):
            student_layers = teacher_layers = ("layer3",)

            def forward(self, student, teacher, labels):
                maps = [F.normalize(o.features["layer3"].square().mean(1).flatten(1)) for o in (student, teacher)]
                return (maps[0] - maps[1]).square().mean(1)

    Its parameters, if any, are trained by this loss alone. Keep student and teacher out of its attributes: theirs would
    be among them.
    """

    student_layers: tuple[str, ...] = ()
    """Modules of the student whose outputs it reads, as in ``student.named_modules()``."""
    teacher_layers: tuple[str, ...] = ()
    """Those of the teacher."""

    def __call__(self, student: Outputs, teacher: Outputs, labels: Tensor) -> Tensor:
        """What `forward` gives.

        Raises:
            ValueError: It is not a number for each example.
        """
        found: Tensor = super().__call__(student, teacher, labels)
        if found.shape != labels.shape:
            raise ValueError(
                f"{type(self).__name__} must give a number for each of the {len(labels)} examples. Got the shape "
                f"{list(found.shape)}: leave out the mean or sum over them."
            )
        return found

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor) -> Tensor:
        """The loss ``[N]`` of each example.

        Args:
            student: Logits ``[N, C]`` and the features of ``student_layers``.
            teacher: Logits ``[N, C]`` and the features of ``teacher_layers``.
            labels: ``[N]``, integers in ``[0, C)``.
        """
        raise NotImplementedError(f"{type(self).__name__} must have a forward(student, teacher, labels). Write one.")


class Hinton(Distillation):
    """`dot.losses.kd_loss`, for each example."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor) -> Tensor:
        """The loss ``[N]``; the labels are not read."""
        return kd_loss(student.logits, teacher.logits, self.temperature, "none")


class Decoupled(Distillation):
    """`dot.losses.dkd_loss`, for each example."""

    def __init__(self, temperature: float, alpha: float = 1.0, beta: float = 8.0) -> None:
        super().__init__()
        self.temperature, self.alpha, self.beta = temperature, alpha, beta

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor) -> Tensor:
        """The loss ``[N]``."""
        return dkd_loss(student.logits, teacher.logits, labels, self.temperature, self.alpha, self.beta, "none")


class Standardised(Distillation):
    """`dot.losses.standardised_kd_loss`, for each example."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor) -> Tensor:
        """The loss ``[N]``; the labels are not read."""
        return standardised_kd_loss(student.logits, teacher.logits, self.temperature, "none")


class Hint(Distillation):
    """FitNets (Romero et al., 2015, arXiv 1412.6550, eq. 3): the student's features, regressed, against the teacher's.

    For each pair of layers a linear regressor r takes the student's channels to the teacher's at each position, which
    is a 1x1 convolution for maps ``[N, C, H, W]`` and a matrix for vectors ``[N, C]``. The loss of an example is the
    mean of (r(student) - teacher)^2, summed over the pairs; the paper has half the sum in place of the mean, so that
    large layers weigh more. Where maps differ in size, the larger is average-pooled to the smaller.

    Args:
        student_layers: Guided layers, names as in ``student.named_modules()``.
        teacher_layers: The hint of each.
        student_channels: C of each guided layer.
        teacher_channels: C of each hint.

    Raises:
        ValueError: The four differ in length or are empty; in the forward pass, the features of a pair do not fit.
    """

    def __init__(
        self,
        student_layers: Sequence[str],
        teacher_layers: Sequence[str],
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
    ) -> None:
        super().__init__()
        lengths = [len(student_layers), len(teacher_layers), len(student_channels), len(teacher_channels)]
        if len(set(lengths)) != 1 or not lengths[0]:
            raise ValueError(
                "student_layers, teacher_layers and the channels of both must be of one length, at least 1. "
                f"Got {', '.join(map(str, lengths))}. Name a teacher's layer for each of the student's."
            )
        self.student_layers, self.teacher_layers = tuple(student_layers), tuple(teacher_layers)
        self.regressors = nn.ModuleList(map(nn.Linear, student_channels, teacher_channels))

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor) -> Tensor:
        """The loss ``[N]``; neither labels nor logits are read."""
        pairs = zip(self.student_layers, self.teacher_layers, self.regressors, strict=True)
        return torch.stack([_hint(student.features[s], teacher.features[t], r) for s, t, r in pairs]).sum(0)


class Permuted(Distillation):
    """A distillation loss with a broken teacher, as a control: each class gets its logit of the one before it.

    What is as peaked, and as hard to fit, as the teacher's answer, and tells nothing true about the classes.
    """

    def __init__(self, loss: Distillation) -> None:
        super().__init__()
        self.loss = loss
        self.student_layers, self.teacher_layers = loss.student_layers, loss.teacher_layers

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor) -> Tensor:
        """The loss ``[N]``."""
        found: Tensor = self.loss(student, Outputs(teacher.logits.roll(1, dims=1), teacher.features), labels)
        return found


def observe(model: nn.Module, layers: Sequence[str], inputs: Tensor) -> Outputs:
    """One forward pass, in the model's mode, with gradients where they are enabled.

    Args:
        model: A network that gives logits ``[N, C]``.
        layers: Modules to keep the outputs of, as in ``model.named_modules()``; with none the pass is a plain one.
        inputs: ``[N, ...]``.

    Raises:
        ValueError: A layer is not the model's, or does not run in its forward pass.
        TypeError: A layer gives no tensor.
    """
    if not layers:
        return Outputs(model(inputs))
    with features(model, layers) as kept:
        logits = model(inputs)
    idle = [name for name in layers if name not in kept]
    if idle:
        raise ValueError(f"layers must run in the forward pass. Got {', '.join(idle)}, which did not. Name others.")
    return Outputs(logits, kept)


class _Settings(Protocol):
    """What `make` reads."""

    @property
    def distillation(self) -> str: ...
    @property
    def temperature(self) -> float: ...
    @property
    def alpha(self) -> float: ...
    @property
    def beta(self) -> float: ...
    @property
    def student_layers(self) -> Sequence[str]: ...
    @property
    def teacher_layers(self) -> Sequence[str]: ...
    @property
    def permute_teacher(self) -> bool: ...


def make(losses: _Settings, student: nn.Module, teacher: nn.Module, example: Tensor) -> Distillation:
    """The distillation loss that ``losses`` names, on the device of ``example``.

    Where it has parameters, they are drawn from torch's global generator.

    Args:
        losses: Has ``distillation``, one of `names` or ``module:function`` for your own: a function of ``(student,
            teacher, example)`` that returns a `Distillation`. And what those read: ``temperature`` (above 0),
            ``alpha`` and ``beta`` of "dkd", ``student_layers`` and ``teacher_layers`` of "hint". And
            ``permute_teacher``, for a `Permuted` one.
        student: Left as it is, modes and buffers too.
        teacher: Likewise.
        example: Inputs ``[n, C, H, W]`` of both, for one pass in which "hint" finds the channels of its layers.

    Raises:
        ValueError: The name is unknown, a layer is not a module's, the lists of layers differ in length, or a function
            cannot be imported or returns something else.
    """
    name = losses.distillation
    if ":" in name:
        function = importing.find(name, argument="losses.distillation", example="my_losses:contrastive")
        found = function(student, teacher, example)
        if not isinstance(found, Distillation):
            raise ValueError(f"{name} must return a dot.distillation.Distillation. Got {type(found).__name__}.")
    elif name in _SHIPPED:
        found = _SHIPPED[name](losses, student, teacher, example)
    else:
        close = difflib.get_close_matches(name, _SHIPPED, n=1, cutoff=0.5) or names()
        raise ValueError(
            f"losses.distillation must be among {', '.join(names())}, or module:function. Got {name!r}. "
            f"Did you mean {', '.join(close)}?"
        )
    return (Permuted(found) if losses.permute_teacher else found).to(example.device)


def names() -> list[str]:
    """Every name that `make` takes, besides ``module:function``."""
    return list(_SHIPPED)


def _make_hint(losses: _Settings, student: nn.Module, teacher: nn.Module, example: Tensor) -> Hint:
    students, teachers = losses.student_layers, losses.teacher_layers
    return Hint(students, teachers, _channels(student, students, example), _channels(teacher, teachers, example))


_SHIPPED: dict[str, Callable[[_Settings, nn.Module, nn.Module, Tensor], Distillation]] = {
    "kd": lambda losses, *_: Hinton(losses.temperature),
    "dkd": lambda losses, *_: Decoupled(losses.temperature, losses.alpha, losses.beta),
    "standardised-kd": lambda losses, *_: Standardised(losses.temperature),
    "hint": _make_hint,
}


def _channels(model: nn.Module, layers: Sequence[str], example: Tensor) -> list[int]:
    """C of each layer's output; a copy runs, so that the model keeps its modes and buffers."""
    probe = copy.deepcopy(model).eval()
    with torch.no_grad():
        seen = observe(probe, layers, example).features
    return [seen[name].shape[1] for name in layers]


def _hint(student: Tensor, teacher: Tensor, regressor: nn.Module) -> Tensor:
    """The mean squared difference ``[N]`` of a pair's features."""
    student, teacher = _same_size(student, teacher)
    guided = regressor(student.movedim(1, -1)).movedim(-1, 1)
    if guided.shape != teacher.shape:
        raise ValueError(
            f"the teacher's features must be {list(guided.shape)}, as the regressor gives. Got {list(teacher.shape)}. "
            "Give teacher_channels as its layers have them."
        )
    return F.mse_loss(guided, teacher, reduction="none").flatten(1).mean(1)


def _same_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Maps average-pooled to the smaller height and width; vectors as they are."""
    if student.ndim != teacher.ndim or student.ndim not in (2, 4):
        raise ValueError(
            f"features of a pair must both be [N, C] or both [N, C, H, W]. Got {list(student.shape)} and "
            f"{list(teacher.shape)}. Name other layers."
        )
    if student.shape[2:] == teacher.shape[2:]:
        return student, teacher
    size = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
    return F.adaptive_avg_pool2d(student, size), F.adaptive_avg_pool2d(teacher, size)
