"""The losses against sums written out in numpy."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dot import cross_entropy, kd_loss, loss_weights

Array = np.ndarray
DIRECTIONS = ("teacher||student", "student||teacher")


def softmax(z: Array) -> Array:
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def kl_by_hand(p: Array, q: Array) -> Array:
    """KL(p || q) of each row, term by term."""
    rows = []
    for p_row, q_row in zip(p, q, strict=True):
        rows.append(sum(a * (math.log(a) - math.log(b)) for a, b in zip(p_row, q_row, strict=True)))
    return np.array(rows)


def kd_by_hand(s: Array, t: Array, temperature: float, divergence: str = "teacher||student") -> Array:
    student, teacher = softmax(s / temperature), softmax(t / temperature)
    pair = (teacher, student) if divergence == "teacher||student" else (student, teacher)
    return temperature**2 * kl_by_hand(*pair)


@pytest.fixture
def logits() -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((6, 5)) * 3, rng.standard_normal((6, 5)) * 3


def on(device: torch.device, *arrays: Array) -> list[Tensor]:
    return [torch.tensor(a, device=device) for a in arrays]


@pytest.mark.parametrize("divergence", DIRECTIONS)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_kd_is_the_sum_written_out(
    device: torch.device, logits: tuple[Array, Array], temperature: float, divergence: str
) -> None:
    truth = kd_by_hand(*logits, temperature, divergence)
    s, t = on(device, *logits)
    each = kd_loss(s, t, temperature, reduction="none", divergence=divergence)
    np.testing.assert_allclose(each.cpu().numpy(), truth, rtol=1e-10)
    for reduction, value in (("mean", truth.mean()), ("sum", truth.sum())):
        loss = kd_loss(s, t, temperature, reduction=reduction, divergence=divergence)
        assert loss.shape == ()
        assert loss.item() == pytest.approx(value, rel=1e-12)


def test_kd_defaults(device: torch.device, logits: tuple[Array, Array]) -> None:
    loss = kd_loss(*on(device, *logits), 4.0)
    assert loss.item() == pytest.approx(kd_by_hand(*logits, 4.0, "teacher||student").mean(), rel=1e-12)


def test_the_directions_differ(logits: tuple[Array, Array]) -> None:
    one, other = (kd_by_hand(*logits, 4.0, divergence).mean() for divergence in DIRECTIONS)
    assert abs(one - other) > 0.01


def test_kd_of_a_known_pair(device: torch.device) -> None:
    """Probabilities (3/4, 1/4) against (1/2, 1/2) at T = 2: by hand, 4 (3/4 log 3/2 + 1/4 log 1/2)."""
    student = torch.zeros(1, 2, dtype=torch.float64, device=device)
    teacher = torch.tensor([[2 * math.log(3), 0.0]], dtype=torch.float64, device=device)
    assert kd_loss(student, teacher, 2.0).item() == pytest.approx(4 * (0.75 * math.log(1.5) - 0.25 * math.log(2)))


@pytest.mark.parametrize("divergence", DIRECTIONS)
@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_kd_gradient_is_the_difference_quotient(
    device: torch.device, logits: tuple[Array, Array], temperature: float, divergence: str, reduction: str
) -> None:
    s, t = on(device, *logits)
    (gradient,) = torch.autograd.grad(kd_loss(s.requires_grad_(), t, temperature, reduction, divergence), [s])
    step, truth = 1e-5, np.zeros_like(logits[0])
    for index in np.ndindex(truth.shape):
        up, down = logits[0].copy(), logits[0].copy()
        up[index] += step
        down[index] -= step
        ends = [getattr(kd_by_hand(z, logits[1], temperature, divergence), reduction)() for z in (up, down)]
        truth[index] = (ends[0] - ends[1]) / (2 * step)
    np.testing.assert_allclose(gradient.cpu().numpy(), truth, rtol=1e-6, atol=1e-8)


def test_kd_gradient_in_closed_form(device: torch.device, logits: tuple[Array, Array]) -> None:
    s, t = on(device, *logits)
    (gradient,) = torch.autograd.grad(kd_loss(s.requires_grad_(), t, 4.0), [s])
    truth = 4.0 * (softmax(logits[0] / 4) - softmax(logits[1] / 4)) / len(logits[0])
    np.testing.assert_allclose(gradient.cpu().numpy(), truth, rtol=1e-10, atol=1e-14)


def test_kd_gradient_does_not_fade_with_the_temperature(device: torch.device, logits: tuple[Array, Array]) -> None:
    """At high T it is that of half the squared distance of the centred logits over C: without T^2 it would vanish."""
    s, t = on(device, *logits)
    (gradient,) = torch.autograd.grad(kd_loss(s.requires_grad_(), t, 1e4), [s])
    difference = logits[0] - logits[1]
    limit = (difference - difference.mean(1, keepdims=True)) / difference.size
    np.testing.assert_allclose(gradient.cpu().numpy(), limit, rtol=0, atol=1e-3 * np.abs(limit).max())


def test_kd_is_zero_between_equals(device: torch.device, logits: tuple[Array, Array]) -> None:
    (s,) = on(device, logits[0])
    s.requires_grad_()
    loss = kd_loss(s, s.detach() + 3.0, 4.0)
    (gradient,) = torch.autograd.grad(loss, [s])
    assert abs(loss.item()) < 1e-13
    assert gradient.abs().max().item() < 1e-13


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kd_of_large_logits_is_finite(device: torch.device, dtype: torch.dtype) -> None:
    s = torch.tensor([[1e4, -1e4, 0.0]], device=device, dtype=dtype, requires_grad=True)
    t = -s.detach()
    loss = kd_loss(s, t, 1.0)
    loss.backward()
    assert loss.dtype == dtype
    assert loss.item() == pytest.approx(2e4, rel=1e-2)
    assert torch.isfinite(s.grad).all()


def test_the_teacher_gets_no_gradient(device: torch.device) -> None:
    student, teacher = nn.Linear(3, 4).to(device), nn.Linear(3, 4).to(device)
    x = torch.randn(5, 3, device=device)
    with torch.no_grad():
        targets = teacher(x)
    kd_loss(student(x), targets, 4.0).backward()
    assert targets.grad is None
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in student.parameters())


def test_a_teacher_that_asks_for_a_gradient_gets_the_right_one(
    device: torch.device, logits: tuple[Array, Array]
) -> None:
    s, t = on(device, *logits)
    (gradient,) = torch.autograd.grad(kd_loss(s, t.requires_grad_(), 4.0), [t])
    step, direction = 1e-5, np.random.default_rng(1).standard_normal(logits[1].shape)
    ends = [kd_by_hand(logits[0], logits[1] + sign * step * direction, 4.0).mean() for sign in (1, -1)]
    assert (gradient.cpu().numpy() * direction).sum() == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6)


@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # the device is the same for each example
)
@given(
    seed=st.integers(0, 1000),
    temperature=st.floats(0.25, 20),
    shift=st.floats(-50, 50),
    divergence=st.sampled_from(DIRECTIONS),
)
def test_kd_properties(device: torch.device, seed: int, temperature: float, shift: float, divergence: str) -> None:
    s, t = on(device, *np.random.default_rng(seed).standard_normal((2, 4, 7)))
    each = kd_loss(s, t, temperature, "none", divergence)
    assert (each >= -1e-12).all()
    torch.testing.assert_close(kd_loss(s + shift, t - shift, temperature, "none", divergence), each, atol=1e-9, rtol=0)
    scaled = temperature**2 * kd_loss(s / temperature, t / temperature, 1.0, "none", divergence)
    torch.testing.assert_close(scaled, each, atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, t: kd_loss(s, t[:, :4], 4.0), r"must both be \[N, C\]. Got \[6, 5\] and \[6, 4\]: .*same classes"),
        (lambda s, t: kd_loss(s, t[:1], 4.0), r"must both be \[N, C\]. Got \[6, 5\] and \[1, 5\]"),
        (lambda s, t: kd_loss(s[0], t[0], 4.0), r"must both be \[N, C\]. Got \[5\] and \[5\]"),
        (lambda s, t: kd_loss(s, t, 0.0), r"temperature must be above 0. Got 0.0\."),
        (lambda s, t: kd_loss(s, t, -4.0), r"temperature must be above 0. Got -4.0\."),
        (lambda s, t: kd_loss(s, t, math.nan), r"temperature must be above 0. Got nan\."),
        (lambda s, t: kd_loss(s, t, 4.0, "batchmean"), r"reduction must be 'mean', 'sum' or 'none'. Got 'batchmean'\."),
        (
            lambda s, t: kd_loss(s, t, 4.0, divergence="reverse"),
            r"divergence must be 'teacher\|\|student' or 'student\|\|teacher'. Got 'reverse'\.",
        ),
    ],
)
def test_kd_refuses(logits: tuple[Array, Array], call: Callable[..., Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(*on(torch.device("cpu"), *logits))


def test_cross_entropy_is_the_sum_written_out(device: torch.device, logits: tuple[Array, Array]) -> None:
    targets = np.array([0, 4, 2, 2, 1, 3])
    truth = -np.log(softmax(logits[0])[np.arange(6), targets])
    z, y = on(device, logits[0], targets)
    np.testing.assert_allclose(cross_entropy(z, y, "none").cpu().numpy(), truth, rtol=1e-12)
    assert cross_entropy(z, y).item() == pytest.approx(truth.mean(), rel=1e-12)
    assert cross_entropy(z, y, "sum").item() == pytest.approx(truth.sum(), rel=1e-12)


def test_loss_weights() -> None:
    assert loss_weights(0.9) == pytest.approx((0.1, 0.9))
    assert loss_weights(0.0) == (1, 0)
    assert loss_weights(1.0) == (0, 1)
    for alpha in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=rf"alpha must be in \[0, 1\]. Got {alpha}\."):
            loss_weights(alpha)
