"""Distillation losses by name: hints against a loop over positions, networks left as they were, errors that help."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dot import distillation, dkd_loss, kd_loss, standardised_kd_loss
from dot.distillation import Decoupled, Distillation, Hint, Hinton, Outputs, Standardised, make, observe
from dot.models import build

MINE = """
from torch.nn import functional as F
from dot.distillation import Distillation

class Attention(Distillation):
    student_layers = teacher_layers = ("layer3",)

    def forward(self, student, teacher, labels):
        maps = [F.normalize(o.features["layer3"].square().mean(1).flatten(1)) for o in (student, teacher)]
        return (maps[0] - maps[1]).square().mean(1)

def attention(student, teacher, example):
    return Attention()

def nothing(student, teacher, example):
    return student
"""


@dataclass(frozen=True)
class Settings:
    distillation: str = "kd"
    temperature: float = 4.0
    alpha: float = 1.0
    beta: float = 8.0
    student_layers: tuple[str, ...] = ()
    teacher_layers: tuple[str, ...] = ()
    permute_teacher: bool = False


@pytest.fixture
def pair(device: torch.device) -> tuple[nn.Module, nn.Module]:
    return build("resnet8", num_classes=5).to(device), build("resnet8x4", num_classes=5).to(device)


@pytest.fixture
def images(device: torch.device) -> Tensor:
    return torch.randn(3, 3, 32, 32, device=device)


def outputs(features: dict[str, Tensor]) -> Outputs:
    return Outputs(torch.zeros(len(next(iter(features.values()))), 5), features)


def pooled_by_hand(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    """The mean of each bin; bin i of n goes from floor(i H / n) to ceil((i + 1) H / n)."""
    result = np.zeros((*maps.shape[:2], height, width))
    for i, j in np.ndindex(height, width):
        top, bottom = i * maps.shape[2] // height, -(-(i + 1) * maps.shape[2] // height)
        left, right = j * maps.shape[3] // width, -(-(j + 1) * maps.shape[3] // width)
        result[:, :, i, j] = maps[:, :, top:bottom, left:right].mean((2, 3))
    return result


def hint_by_hand(student: Tensor, teacher: Tensor, regressor: nn.Module) -> np.ndarray:
    s, t = (maps.detach().cpu().numpy() for maps in (student, teacher))
    weight, bias = (p.detach().cpu().numpy() for p in (regressor.weight, regressor.bias))
    if s.ndim == 2:
        s, t = s[:, :, None, None], t[:, :, None, None]
    height, width = min(s.shape[2], t.shape[2]), min(s.shape[3], t.shape[3])
    s, t = pooled_by_hand(s, height, width), pooled_by_hand(t, height, width)
    losses = []
    for example in range(len(s)):
        squares = []
        for channel, i, j in np.ndindex(t.shape[1:]):
            regressed = sum(weight[channel, c] * s[example, c, i, j] for c in range(s.shape[1])) + bias[channel]
            squares.append((regressed - t[example, channel, i, j]) ** 2)
        losses.append(sum(squares) / len(squares))
    return np.array(losses)


SHAPES = {
    "maps": ((2, 3, 4, 5), (2, 6, 4, 5)),
    "vectors": ((2, 3), (2, 6)),
    "a larger student": ((2, 3, 8, 8), (2, 6, 4, 2)),
    "a larger teacher": ((2, 3, 3, 4), (2, 6, 7, 8)),
    "each larger one way": ((2, 3, 5, 2), (2, 6, 2, 6)),
    "one position": ((1, 3, 1, 1), (1, 6, 4, 4)),
}


@pytest.mark.parametrize(("ours", "theirs"), SHAPES.values(), ids=SHAPES.keys())
def test_a_hint_is_the_loop_over_positions(
    device: torch.device, ours: tuple[int, ...], theirs: tuple[int, ...]
) -> None:
    hint = Hint(["a"], ["b"], [3], [6]).double().to(device)
    s = torch.randn(ours, dtype=torch.float64, device=device)
    t = torch.randn(theirs, dtype=torch.float64, device=device)
    each = hint(outputs({"a": s}), outputs({"b": t}), torch.zeros(len(s), dtype=torch.int64))
    np.testing.assert_allclose(each.detach().cpu().numpy(), hint_by_hand(s, t, hint.regressors[0]), rtol=1e-10)


def test_the_regressor_of_maps_is_a_convolution_with_kernel_1(device: torch.device) -> None:
    hint = Hint(["a"], ["b"], [3], [6]).to(device)
    s, t = torch.randn(2, 3, 4, 4, device=device), torch.randn(2, 6, 4, 4, device=device)
    regressor = hint.regressors[0]
    guided = F.conv2d(s, regressor.weight[:, :, None, None], regressor.bias)
    each = hint(outputs({"a": s}), outputs({"b": t}), torch.zeros(2))
    torch.testing.assert_close(each, (guided - t).square().mean((1, 2, 3)))


def test_hints_add_up_and_their_gradients_are_difference_quotients(device: torch.device) -> None:
    hint = Hint(["a", "b"], ["x", "y"], [3, 2], [4, 5]).double().to(device)
    a, b = (torch.randn(shape, dtype=torch.float64, device=device) for shape in ((2, 3, 4, 4), (2, 2)))
    x, y = (torch.randn(shape, dtype=torch.float64, device=device) for shape in ((2, 4, 2, 2), (2, 5)))
    parameters = list(hint.parameters())
    assert len(parameters) == 4

    def loss(a: Tensor, b: Tensor, *_: Tensor) -> Tensor:
        return hint(outputs({"a": a, "b": b}), outputs({"x": x, "y": y}), torch.zeros(2))

    expected = hint_by_hand(a, x, hint.regressors[0]) + hint_by_hand(b, y, hint.regressors[1])
    np.testing.assert_allclose(loss(a, b).detach().cpu().numpy(), expected, rtol=1e-10)
    assert torch.autograd.gradcheck(loss, (a.requires_grad_(), b.requires_grad_(), *parameters))


def test_one_layer_may_follow_two_hints(device: torch.device) -> None:
    hint = Hint(["a", "a"], ["x", "y"], [3, 3], [4, 5]).to(device)
    a, x, y = (torch.randn(2, c, device=device) for c in (3, 4, 5))
    each = hint(outputs({"a": a}), outputs({"x": x, "y": y}), torch.zeros(2))
    expected = hint_by_hand(a, x, hint.regressors[0]) + hint_by_hand(a, y, hint.regressors[1])
    np.testing.assert_allclose(each.detach().cpu().numpy(), expected, rtol=1e-5)


def test_a_hint_reaches_its_regressors_and_the_student_alone(pair: tuple[nn.Module, nn.Module], images: Tensor) -> None:
    student, teacher = pair
    settings = Settings("hint", student_layers=("layer2", "pool"), teacher_layers=("layer2", "pool"))
    hint = make(settings, student, teacher, images[:2])
    with torch.no_grad():
        guide = observe(teacher, hint.teacher_layers, images)
    each = hint(observe(student, hint.student_layers, images), guide, torch.zeros(3))
    assert each.shape == (3,)
    each.mean().backward()
    for parameter in hint.parameters():
        assert parameter.grad.abs().sum() > 0
    assert student.conv1.weight.grad.abs().sum() > 0
    assert student.fc.weight.grad is None, "after the last layer that is read"
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert not set(map(id, hint.parameters())) & {id(p) for net in pair for p in net.parameters()}


@pytest.mark.parametrize("name", distillation.names())
def test_every_loss_works_under_autocast(pair: tuple[nn.Module, nn.Module], images: Tensor, name: str) -> None:
    student, teacher = pair
    layers = {"student_layers": ("layer1", "pool"), "teacher_layers": ("layer2", "pool")} if name == "hint" else {}
    loss = make(Settings(name, **layers), student, teacher, images)
    labels = torch.tensor([0, 4, 2], device=images.device)
    with torch.autocast(images.device.type, torch.bfloat16):
        with torch.no_grad():
            guide = observe(teacher, loss.teacher_layers, images)
        each = loss(observe(student, loss.student_layers, images), guide, labels)
    assert each.dtype == torch.float32
    each.mean().backward()
    assert torch.isfinite(each).all()
    assert torch.isfinite(student.conv1.weight.grad).all()


def test_losses_of_logits_by_name(pair: tuple[nn.Module, nn.Module], images: Tensor) -> None:
    s, t = torch.randn(2, 4, 5, device=images.device)
    labels = torch.tensor([0, 4, 2, 2], device=images.device)
    seen, guide = Outputs(s, {}), Outputs(t, {})
    for name, kind, expected in (
        ("kd", Hinton, kd_loss(s, t, 3.0, "none")),
        ("dkd", Decoupled, dkd_loss(s, t, labels, 3.0, 0.5, 2.0, "none")),
        ("standardised-kd", Standardised, standardised_kd_loss(s, t, 3.0, "none")),
    ):
        loss = make(Settings(name, temperature=3.0, alpha=0.5, beta=2.0), *pair, images)
        assert type(loss) is kind
        assert loss.student_layers == loss.teacher_layers == ()
        assert not list(loss.parameters())
        assert torch.equal(loss(seen, guide, labels), expected)
    assert torch.equal(Decoupled(4.0)(seen, guide, labels), dkd_loss(s, t, labels, 4.0, reduction="none"))


def test_a_hint_finds_the_channels_of_its_layers(pair: tuple[nn.Module, nn.Module], images: Tensor) -> None:
    settings = Settings("hint", student_layers=("layer1", "pool"), teacher_layers=("layer3", "fc"))
    hint = make(settings, *pair, images[:1])
    assert [(r.in_features, r.out_features) for r in hint.regressors] == [(16, 256), (64, 5)]
    assert (hint.student_layers, hint.teacher_layers) == (("layer1", "pool"), ("layer3", "fc"))
    assert {p.device for p in hint.parameters()} == {images.device}


def test_a_loss_is_made_on_the_device_of_its_example() -> None:
    with torch.device("meta"):
        networks, example = [build("resnet8", num_classes=5) for _ in range(2)], torch.empty(1, 3, 32, 32)
    hint = make(Settings("hint", student_layers=("pool",), teacher_layers=("pool",)), *networks, example)
    assert {p.device.type for p in hint.parameters()} == {"meta"}


def test_the_regressors_are_drawn_from_the_global_generator(pair: tuple[nn.Module, nn.Module], images: Tensor) -> None:
    settings = Settings("hint", student_layers=("pool",), teacher_layers=("pool",))
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(make(settings, *pair, images).regressors[0].weight)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    torch.manual_seed(1)
    assert torch.equal(nn.Linear(64, 256).weight, drawn[0].cpu())


class Restless(nn.Module):
    """Counts its passes in any mode, in place and by a new tensor, and has one layer that is always in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.frozen = nn.BatchNorm1d(4).eval()
        self.fc = nn.Linear(4, 5)
        self.register_buffer("passes", torch.zeros(()))
        self.register_buffer("replaced", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        self.replaced = self.replaced + 1
        return self.fc(self.frozen(self.body(x)))


@pytest.mark.parametrize("name", distillation.names())
def test_networks_are_left_as_they_were(device: torch.device, images: Tensor, name: str) -> None:
    layers = {"student_layers": ("body.0",), "teacher_layers": ("body.1",)} if name == "hint" else {}
    networks = [Restless().to(device) for _ in range(2)]
    networks[0].body.train()
    networks[1].eval()
    tensors = [tensor for net in networks for tensor in (*net.parameters(), *net.buffers())]
    before = copy.deepcopy(tensors)
    modes = [[module.training for module in net.modules()] for net in networks]
    make(Settings(name, **layers), *networks, images)
    after = [tensor for net in networks for tensor in (*net.parameters(), *net.buffers())]
    assert all(one is other for one, other in zip(tensors, after, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert [[module.training for module in net.modules()] for net in networks] == modes
    assert all(p.grad is None for net in networks for p in net.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for net in networks for m in net.modules())


def test_observe_with_layers(pair: tuple[nn.Module, nn.Module], images: Tensor) -> None:
    net = pair[0].eval()
    seen = observe(net, ("layer3", "pool"), images)
    assert torch.equal(seen.logits, net(images))
    assert seen.features.keys() == {"layer3", "pool"}
    assert torch.equal(net.fc(seen.features["pool"]), seen.logits)
    torch.testing.assert_close(seen.features["layer3"].mean((2, 3)), seen.features["pool"])
    assert seen.logits.requires_grad
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_observe_without_layers_makes_no_hooks(monkeypatch: pytest.MonkeyPatch, images: Tensor) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("no hooks are needed")

    monkeypatch.setattr(distillation, "features", refuse)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5)).to(images.device)
    seen = observe(net, (), images)
    assert torch.equal(seen.logits, net(images))
    assert seen.features == {}


def test_your_own_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pair: tuple[nn.Module, nn.Module], images: Tensor
) -> None:
    """The example of the class's docstring, on networks."""
    (tmp_path / "my_distillation.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    example = "\n".join(line.strip() for line in MINE.split("class Attention")[1].split("def attention")[0].split("\n"))
    shown = "\n".join(line.strip() for line in (Distillation.__doc__ or "").split("\n"))
    assert example.strip() in shown
    loss = make(Settings("my_distillation:attention"), *pair, images)
    assert isinstance(loss, Distillation)
    seen, guide = observe(pair[0], loss.student_layers, images), observe(pair[1], loss.teacher_layers, images)
    each = loss(seen, guide, torch.zeros(3))
    assert each.shape == (3,)
    assert (each > 0).all()
    assert torch.equal(loss(seen, seen, torch.zeros(3)), torch.zeros_like(each))
    with pytest.raises(
        ValueError, match=r"my_distillation:nothing must return a dot.distillation.Distillation. Got \w+\."
    ):
        make(Settings("my_distillation:nothing"), *pair, images)


def test_a_distillation_without_a_forward_says_so() -> None:
    class Empty(Distillation):
        pass

    with pytest.raises(NotImplementedError, match=r"Empty must have a forward\(student, teacher, labels\)"):
        Empty()(Outputs(torch.zeros(1, 2), {}), Outputs(torch.zeros(1, 2), {}), torch.zeros(1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings("ddk"), r"losses.distillation must be among kd, dkd, .*Got 'ddk'. Did you mean dkd\?"),
        (Settings("zzz"), r"Got 'zzz'. Did you mean kd, dkd, standardised-kd, hint\?"),
        (Settings("no_such_module:f"), r"losses.distillation must name a function that can be imported"),
        (Settings(":f"), r"losses.distillation must be module:function, such as my_losses:contrastive. Got ':f'"),
        (
            Settings("hint", student_layers=("layer9",), teacher_layers=("layer1",)),
            r"layers must name modules of the model. Got 'layer9'. Did you mean layer\d",
        ),
        (
            Settings("hint", student_layers=("layer1", "layer2"), teacher_layers=("layer1",)),
            r"must be of one length, at least 1. Got 2, 1, 2, 1. Name a teacher's layer",
        ),
        (Settings("hint"), r"must be of one length, at least 1. Got 0, 0, 0, 0\."),
    ],
)
def test_make_refuses(pair: tuple[nn.Module, nn.Module], images: Tensor, settings: Settings, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(settings, *pair, images)


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        ((2, 3, 4, 4), (2, 6), r"must both be \[N, C\] or both \[N, C, H, W\]. Got \[2, 3, 4, 4\] and \[2, 6\]\."),
        ((2, 7, 3), (2, 7, 6), r"must both be \[N, C\] or both \[N, C, H, W\]. Got \[2, 7, 3\] and \[2, 7, 6\]\."),
        ((2, 3, 4, 4), (2, 1, 4, 4), r"must be \[2, 6, 4, 4\], as the regressor gives. Got \[2, 1, 4, 4\]\."),
        ((2, 3), (1, 6), r"must be \[2, 6\], as the regressor gives. Got \[1, 6\]\."),
    ],
)
def test_a_hint_refuses_features_that_do_not_fit(ours: tuple[int, ...], theirs: tuple[int, ...], message: str) -> None:
    hint = Hint(["a"], ["b"], [3], [6])
    with pytest.raises(ValueError, match=message):
        hint(outputs({"a": torch.zeros(ours)}), outputs({"b": torch.zeros(theirs)}), torch.zeros(2))


def test_observe_refuses_a_layer_that_does_not_run(images: Tensor) -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Flatten(), nn.Flatten()

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)

    with pytest.raises(ValueError, match=r"layers must run in the forward pass. Got idle, which did not."):
        observe(Idle(), ("used", "idle"), images)


def test_a_broken_teacher_gives_each_class_the_logit_of_another(pair, images) -> None:
    student, teacher = pair
    whole, broken = (make(Settings(permute_teacher=broken), student, teacher, images[:2]) for broken in (False, True))
    labels = torch.zeros(3, dtype=torch.long, device=images.device)
    logits, truth = student(images), teacher(images)
    moved = torch.stack([truth[:, (c - 1) % 5] for c in range(5)], dim=1)
    found = broken(Outputs(logits), Outputs(truth), labels)
    torch.testing.assert_close(found, whole(Outputs(logits), Outputs(moved), labels))
    assert not torch.allclose(found, whole(Outputs(logits), Outputs(truth), labels))


def test_a_broken_teacher_reads_the_same_layers_and_trains_the_same_weights(pair, images) -> None:
    settings = Settings("hint", student_layers=("layer1",), teacher_layers=("layer1",), permute_teacher=True)
    found = make(settings, *pair, images[:2])
    assert (found.student_layers, found.teacher_layers) == (("layer1",), ("layer1",))
    assert sum(p.numel() for p in found.parameters()) == 16 * 64 + 64
