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

from dot import cross_entropy, dkd_loss, kd_loss, loss_weights, nckd_loss, standardised_kd_loss, tckd_loss

Array = np.ndarray
DIRECTIONS = ("teacher||student", "student||teacher")
TARGETS = np.array([0, 4, 2, 2, 1, 3])


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


def tckd_by_hand(s: Array, t: Array, targets: Array, temperature: float) -> Array:
    """Section 3.1 of the DKD paper: b = [p_t, 1 - p_t], with the probability of the other classes summed."""
    rows = []
    for s_row, t_row, target in zip(s, t, targets, strict=True):
        pairs = []
        for row in (t_row, s_row):
            total = sum(math.exp(z / temperature) for z in row)
            others = sum(math.exp(z / temperature) for i, z in enumerate(row) if i != target)
            pairs.append((math.exp(row[target] / temperature) / total, others / total))
        rows.append(sum(a * math.log(a / b) for a, b in zip(*pairs, strict=True)))
    return temperature**2 * np.array(rows)


def nckd_by_hand(s: Array, t: Array, targets: Array, temperature: float) -> Array:
    """The same section: p-hat, the softmax among the classes that are not the target."""
    rows = []
    for s_row, t_row, target in zip(s, t, targets, strict=True):
        hats = []
        for row in (t_row, s_row):
            powers = [math.exp(z / temperature) for i, z in enumerate(row) if i != target]
            hats.append([power / sum(powers) for power in powers])
        rows.append(sum(a * math.log(a / b) for a, b in zip(*hats, strict=True)))
    return temperature**2 * np.array(rows)


def z_scores(logits: Array, ddof: int = 0) -> Array:
    rows = []
    for row in logits:
        mean = sum(row) / len(row)
        deviation = math.sqrt(sum((z - mean) ** 2 for z in row) / (len(row) - ddof))
        rows.append([(z - mean) / deviation for z in row])
    return np.array(rows)


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


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize(("loss", "truth"), [(tckd_loss, tckd_by_hand), (nckd_loss, nckd_by_hand)])
def test_the_parts_of_dkd_are_the_sums_written_out(
    device: torch.device,
    logits: tuple[Array, Array],
    temperature: float,
    loss: Callable[..., Tensor],
    truth: Callable[..., Array],
) -> None:
    each = truth(*logits, TARGETS, temperature)
    s, t, y = on(device, *logits, TARGETS)
    np.testing.assert_allclose(loss(s, t, y, temperature, "none").cpu().numpy(), each, rtol=1e-10)
    assert loss(s, t, y, temperature).item() == pytest.approx(each.mean(), rel=1e-12)
    assert loss(s, t, y, temperature, "sum").item() == pytest.approx(each.sum(), rel=1e-12)


def test_dkd_is_the_weighted_sum_of_its_parts(device: torch.device, logits: tuple[Array, Array]) -> None:
    target_class, other_classes = (truth(*logits, TARGETS, 4.0) for truth in (tckd_by_hand, nckd_by_hand))
    s, t, y = on(device, *logits, TARGETS)
    each = dkd_loss(s, t, y, 4.0, 0.7, 2.0, "none")
    np.testing.assert_allclose(each.cpu().numpy(), 0.7 * target_class + 2 * other_classes, rtol=1e-10)
    defaults = target_class + 8 * other_classes
    assert dkd_loss(s, t, y, 4.0).item() == pytest.approx(defaults.mean(), rel=1e-12)
    assert dkd_loss(s, t, y, 4.0, reduction="sum").item() == pytest.approx(defaults.sum(), rel=1e-12)


def logits_and_targets(size: float) -> st.SearchStrategy[tuple[Array, Array, Array]]:
    """Two sets of logits up to ``size``, of 1 to 4 examples and 2 to 6 classes, and targets."""

    def drawn(shape: tuple[int, int]) -> st.SearchStrategy[tuple[Array, Array, Array]]:
        n, c = shape
        z = st.lists(st.lists(st.floats(-size, size), min_size=c, max_size=c), min_size=n, max_size=n).map(np.array)
        return st.tuples(z, z, st.lists(st.integers(0, c - 1), min_size=n, max_size=n).map(np.array))

    return st.tuples(st.integers(1, 4), st.integers(2, 6)).flatmap(drawn)


many = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # the device is the same for each example
)


@many
@given(drawn=logits_and_targets(20.0), temperature=st.floats(0.5, 10))
def test_dkd_with_the_weights_of_kd_is_kd(
    device: torch.device, drawn: tuple[Array, Array, Array], temperature: float
) -> None:
    """Eq. 6: KD = TCKD + (1 - p) NCKD, with p the teacher's probability of the target; the gradients too."""
    for s_row, t_row, target in zip(*drawn, strict=True):
        s, t = (z.requires_grad_() for z in on(device, s_row[None], t_row[None]))
        beta = 1 - softmax(t_row[None] / temperature)[0, target]
        decoupled = dkd_loss(s, t, torch.tensor([target], device=device), temperature, 1.0, beta)
        coupled = kd_loss(s, t, temperature)
        torch.testing.assert_close(decoupled, coupled, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(
            torch.autograd.grad(decoupled, s), torch.autograd.grad(coupled, s), rtol=1e-9, atol=1e-9
        )


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("examples", [1, 3])
@pytest.mark.parametrize("loss", [tckd_loss, nckd_loss, dkd_loss, standardised_kd_loss, kd_loss])
def test_gradients_are_difference_quotients(
    device: torch.device, loss: Callable[..., Tensor], examples: int, classes: int
) -> None:
    s, t = torch.randn(2, examples, classes, dtype=torch.float64, device=device).mul(2).requires_grad_().unbind()
    y = torch.randint(classes, (examples,), device=device)
    labelled = (y,) if loss in (tckd_loss, nckd_loss, dkd_loss) else ()
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, *labelled, 3.0, reduction="none"), (s, t))


@many
@given(
    drawn=logits_and_targets(1e4),
    temperature=st.sampled_from([1.0, 4.0]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    loss=st.sampled_from([tckd_loss, nckd_loss, dkd_loss, standardised_kd_loss, kd_loss]),
)
def test_extreme_logits_give_finite_losses_and_gradients(
    device: torch.device,
    drawn: tuple[Array, Array, Array],
    temperature: float,
    dtype: torch.dtype,
    loss: Callable[..., Tensor],
) -> None:
    s, t = (torch.tensor(z, dtype=dtype, device=device).requires_grad_() for z in drawn[:2])
    labelled = on(device, drawn[2]) if loss in (tckd_loss, nckd_loss, dkd_loss) else ()
    each = loss(s, t, *labelled, temperature, reduction="none")
    assert each.shape == (len(s),)
    assert torch.isfinite(each).all()
    for gradient in torch.autograd.grad(each.sum(), [s, t]):
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("temperature", [3.0, 4.0])
@pytest.mark.parametrize("loss", [tckd_loss, nckd_loss, dkd_loss, standardised_kd_loss])
def test_logits_of_half_precision_lose_no_more_of_it(
    device: torch.device, loss: Callable[..., Tensor], temperature: float, autocast: bool
) -> None:
    """Against the same logits in float64: sums rounded to bfloat16 would be wrong by multiples of the loss."""
    s, t = (torch.randn(2, 64, 100, device=device) * 4).to(torch.bfloat16)
    labelled = () if loss is standardised_kd_loss else (torch.randint(100, (64,), device=device),)
    with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
        each = loss(s, t, *labelled, temperature, reduction="none")
    assert each.dtype == torch.float32
    truth = loss(s.double(), t.double(), *labelled, temperature, reduction="none")
    torch.testing.assert_close(each.double(), truth, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dkd_of_opposite_certainties_in_closed_form(device: torch.device, dtype: torch.dtype) -> None:
    """The student's other classes have 2 exp(-1000) in all; among them it is undecided, the teacher sure."""
    s = torch.tensor([[1e3, 0.0, 0.0]], dtype=dtype, device=device, requires_grad=True)
    t = torch.tensor([[0.0, 1e3, 0.0]], dtype=dtype, device=device)
    y = torch.tensor([0], device=device)
    assert tckd_loss(s, t, y, 1.0).item() == pytest.approx(1e3 - math.log(2), rel=1e-6)
    assert nckd_loss(s, t, y, 1.0).item() == pytest.approx(math.log(2), rel=1e-6)
    (gradient,) = torch.autograd.grad(dkd_loss(s, t, y, 1.0, 1.0, 8.0), s)
    np.testing.assert_allclose(gradient.cpu().numpy(), [[1, -0.5 - 4, -0.5 + 4]], rtol=1e-6)


@pytest.mark.parametrize("gap", [15.0, 40.0])
def test_a_target_that_dominates_does_not_blur_the_other_classes(device: torch.device, gap: float) -> None:
    """Where p rounds to 1 in float32, the others still teach; compared with the loss without that class."""
    s, t = torch.randn(2, 5, 4, device=device) * 2
    pad = lambda z: torch.cat([torch.full((5, 1), gap, device=device), z], dim=1)  # noqa: E731
    y = torch.zeros(5, dtype=torch.int64, device=device)
    truth = nckd_by_hand(*(pad(z).double().cpu().numpy() for z in (s, t)), np.zeros(5, dtype=int), 1.0)
    np.testing.assert_allclose(nckd_loss(pad(s), pad(t), y, 1.0, "none").cpu().numpy(), truth, rtol=1e-4, atol=1e-6)


def test_with_two_classes_dkd_is_the_target_class_alone(device: torch.device) -> None:
    s, t = torch.randn(2, 4, 2, dtype=torch.float64, device=device)
    s.requires_grad_()
    y = torch.tensor([0, 1, 1, 0], device=device)
    others = nckd_loss(s, t, y, 4.0, "none")
    assert torch.equal(others, torch.zeros_like(others))
    assert not torch.autograd.grad(others.sum(), s)[0].any()
    torch.testing.assert_close(dkd_loss(s, t, y, 4.0, reduction="none"), kd_loss(s, t, 4.0, "none"))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_standardised_kd_is_kd_of_the_z_scores(
    device: torch.device, logits: tuple[Array, Array], temperature: float
) -> None:
    truth = kd_by_hand(*map(z_scores, logits), temperature)
    s, t = on(device, *logits)
    each = standardised_kd_loss(s, t, temperature, "none").cpu().numpy()
    np.testing.assert_allclose(each, truth, rtol=1e-10)
    assert standardised_kd_loss(s, t, temperature).item() == pytest.approx(truth.mean(), rel=1e-12)
    # The sample deviation of the paper's code is another temperature, as the docstring says.
    higher = temperature * math.sqrt(5 / 4)
    sample = kd_by_hand(*(z_scores(z, ddof=1) for z in logits), temperature)
    ours = standardised_kd_loss(s, t, higher, "none").cpu().numpy() * (temperature / higher) ** 2
    np.testing.assert_allclose(ours, sample, rtol=1e-10)


@many
@given(
    seed=st.integers(0, 1000),
    shift=st.floats(-100, 100),
    scale=st.floats(1e-3, 1e3),
    whose=st.sampled_from(["student", "teacher"]),
)
def test_standardised_kd_knows_neither_shift_nor_scale(
    device: torch.device, seed: int, shift: float, scale: float, whose: str
) -> None:
    s, t = on(device, *np.random.default_rng(seed).standard_normal((2, 3, 5)))
    moved = (s * scale + shift, t) if whose == "student" else (s, t * scale + shift)
    torch.testing.assert_close(
        standardised_kd_loss(*moved, 2.0, "none"), standardised_kd_loss(s, t, 2.0, "none"), rtol=1e-7, atol=1e-9
    )


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_standardised_kd_of_tiny_and_huge_logits(device: torch.device, scale: float) -> None:
    """Their squares are 0 and infinite in float32."""
    s, t = torch.randn(2, 3, 5, device=device)
    expected = standardised_kd_loss(s, t, 2.0, "none")
    torch.testing.assert_close(standardised_kd_loss(s * scale, t / scale, 2.0, "none"), expected)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e4])
@pytest.mark.parametrize("classes", [2, 7])
def test_constant_logits_have_z_scores_of_zero(device: torch.device, value: float, classes: int) -> None:
    """Also where the mean of equal numbers is rounded, as of seven times 0.1 in float32."""
    flat = torch.full((2, classes), value, device=device, requires_grad=True)
    other = torch.randn(2, classes, device=device)
    z = torch.tensor(z_scores(other.double().cpu().numpy()), dtype=torch.float32, device=device)
    for pair, expected in (((flat, other), (0 * z, z)), ((other, flat), (z, 0 * z)), ((flat, flat), (0 * z, 0 * z))):
        loss = standardised_kd_loss(*pair, 2.0, "none")
        torch.testing.assert_close(loss, kd_loss(*expected, 2.0, "none"), rtol=1e-4, atol=1e-6)
        (gradient,) = torch.autograd.grad(loss.sum(), flat)
        assert gradient.abs().max() < 10


@pytest.mark.parametrize(
    ("call", "message"),
    [
        *(
            (
                lambda s, t, y, loss=loss: loss(s, t, y[:4], 4.0),
                r"targets must be \[N\] of int64, here \[6\]. Got \[4\]",
            )
            for loss in (dkd_loss, tckd_loss, nckd_loss)
        ),
        *(
            (lambda s, t, y, loss=loss: loss(s, t[:, :3], y, 4.0), r"must both be \[N, C\]. Got \[6, 5\] and \[6, 3\]")
            for loss in (dkd_loss, tckd_loss, nckd_loss)
        ),
        (lambda s, t, y: dkd_loss(s, t, s.softmax(1), 4.0), r"Got \[6, 5\] of torch.float64. Give the number of each"),
        (lambda s, t, y: dkd_loss(s, t, y.double(), 4.0), r"Got \[6\] of torch.float64"),
        (lambda s, t, y: dkd_loss(s[:, :1], t[:, :1], 0 * y, 4.0), r"at least 2 classes, .*Got 1. Use kd_loss"),
        (lambda s, t, y: dkd_loss(s, t, y, -1.0), r"temperature must be above 0. Got -1.0\."),
        (lambda s, t, y: dkd_loss(s, t, y, 4.0, reduction="x"), r"reduction must be 'mean', 'sum' or 'none'. Got 'x'"),
        (lambda s, t, y: standardised_kd_loss(s[0], t[0], 4.0), r"must both be \[N, C\]. Got \[5\] and \[5\]"),
        (lambda s, t, y: standardised_kd_loss(s, t, 0.0), r"temperature must be above 0. Got 0.0\."),
        (lambda s, t, y: standardised_kd_loss(s, t, 4.0, "x"), r"reduction must be 'mean', 'sum' or 'none'. Got 'x'"),
    ],
)
def test_the_other_losses_refuse(logits: tuple[Array, Array], call: Callable[..., Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(*on(torch.device("cpu"), *logits, TARGETS))


@pytest.mark.parametrize("loss", [dkd_loss, tckd_loss, nckd_loss])
@pytest.mark.parametrize("target", [5, -1, -100])
def test_a_target_that_is_no_class_is_out_of_bounds(
    logits: tuple[Array, Array], loss: Callable[..., Tensor], target: int
) -> None:
    s, t, y = on(torch.device("cpu"), *logits, np.where(TARGETS == 4, target, TARGETS))
    with pytest.raises(RuntimeError, match=f"index {target} is out of bounds"):
        loss(s, t, y, 4.0)
