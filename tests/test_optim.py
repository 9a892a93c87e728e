"""DOT and PerLossMomentum against numpy loops written from the published update, never from the implementation."""

from __future__ import annotations

import copy
import io
import itertools
import math
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dot import DOT, PerLossMomentum, per_loss_momentum
from dot.momentum import split_momentum

Array = np.ndarray
Pair = tuple[Array | None, Array | None]
FOREACH = (True, False, None)


# --- the oracles ------------------------------------------------------------------------------------------------------


def dot_by_hand(p: Array, pairs: Sequence[Pair], lr: Any, m: float, d: float, w: float) -> Array:
    """One parameter's trajectory: ``pairs`` holds each step's (task, distillation) gradients, ``None`` where missing.

    A buffer exists from its loss's first gradient on, and from then a missing gradient counts as zero. The momenta
    part only where both buffers exist. Weight decay goes to the task's gradient, or to the only one there is.
    """
    p = p.copy()
    v_t: Array | None = None
    v_k: Array | None = None
    path = []
    for (g_t, g_k), rate in zip(pairs, np.broadcast_to(lr, len(pairs)), strict=True):
        has_t = v_t is not None or g_t is not None
        has_k = v_k is not None or g_k is not None
        decay = w * p
        m_t, m_k = (m - d, m + d) if has_t and has_k else (m, m)
        update = np.zeros_like(p)
        if has_t:
            g = (0.0 if g_t is None else g_t) + decay
            v_t = g if v_t is None else m_t * v_t + g
            update = update + v_t
        if has_k:
            g = (0.0 if g_k is None else g_k) + (0.0 if has_t else decay)
            v_k = g if v_k is None else m_k * v_k + g
            update = update + v_k
        p = p - rate * update
        path.append(p)
    return np.stack(path)


def per_loss_by_hand(
    p: Array,
    steps: Sequence[tuple[Array | None, ...]],
    lr: float,
    momenta: Sequence[float],
    m: float,
    w: float,
    *,
    nesterov: bool = False,
    maximize: bool = False,
) -> Array:
    """The same for any number of losses, with Nesterov's step and ascent."""
    p = p.copy()
    v: list[Array | None] = [None] * len(momenta)
    path = []
    for there in steps:
        reached = [i for i, g in enumerate(there) if g is not None or v[i] is not None]
        update = np.zeros_like(p)
        for i in reached:
            m_i = momenta[i] if len(reached) > 1 else m
            g = np.zeros_like(p) if there[i] is None else there[i] * (-1.0 if maximize else 1.0)
            if i == reached[0]:
                g = g + w * p
            v[i] = g if v[i] is None else m_i * v[i] + g
            update = update + (g + m_i * v[i] if nesterov else v[i])
        p = p - lr * update
        path.append(p)
    return np.stack(path)


# --- random gradients, and the loops that feed them -------------------------------------------------------------------


class Case(NamedTuple):
    """A parameter's start and its gradients ``[step][loss]``."""

    start: Array
    steps: list[tuple[Array | None, ...]]


GROUPS: list[dict[str, Any]] = [
    {},
    {"lr": 0.01, "momentum": 0.9, "delta": 0.09, "weight_decay": 1e-2},
    {"lr": 0.1, "momentum": 0.8, "delta": -0.15, "weight_decay": 0.0},
    {"momentum": 0.4, "delta": -0.4, "weight_decay": 1e-3},
    {"momentum": 0.5, "delta": 0.49},
]
DEFAULTS = {"lr": 0.05, "momentum": 0.9, "delta": 0.075, "weight_decay": 5e-4}
# How often each loss reaches a parameter: always, now and then, only one loss, none.
CHANCES = {
    2: [(1, 1), (0.6, 0.6), (0.7, 0), (0, 0.7), (0, 0)],
    3: [(1, 1, 1), (0.5, 0.5, 0.5), (0, 0.6, 0.6), (0, 0, 0.6)],
}


def random_cases(losses: int, steps: int = 200, seed: int = 0) -> list[Case]:
    rng = np.random.default_rng(seed)
    # In some steps a loss is not computed at all, in some none is.
    live = rng.random((steps, losses)) < 0.9
    live[rng.random(steps) < 0.05] = False
    cases = []
    for j, chances in enumerate(CHANCES[losses]):
        shape = [(3, 4), (5,), (), (2, 1, 3), (4,)][j]
        present = (rng.random((steps, losses)) < chances) & live
        gradients = rng.standard_normal((steps, losses, *shape))
        cases.append(
            Case(
                rng.standard_normal(shape),
                [tuple(gradients[t, i] if present[t, i] else None for i in range(losses)) for t in range(steps)],
            )
        )
    return cases


def on(device: torch.device, arrays: Sequence[Array]) -> list[nn.Parameter]:
    return [nn.Parameter(torch.tensor(array, device=device)) for array in arrays]


def linear_loss(params: Sequence[Tensor], gradients: Sequence[Any]) -> Tensor | None:
    """A loss whose gradient of each parameter is the one given, and that does not know parameters without one."""
    terms = [
        (torch.as_tensor(g, dtype=p.dtype, device=p.device).conj() * p).sum().real
        for p, g in zip(params, gradients, strict=True)
        if g is not None
    ]
    return sum(terms) if terms else None


def feed_backward(opt: PerLossMomentum, params: Sequence[Tensor], gradients: Sequence[Sequence[Any]]) -> None:
    """One step's gradients ``[loss][parameter]`` through `backward`."""
    losses = {n: linear_loss(params, g) for n, g in zip(opt.losses, gradients, strict=True)}
    present = {name: loss for name, loss in losses.items() if loss is not None}
    if present:
        opt.backward(**present)


def feed_reference(set_to_none: bool) -> Callable[..., None]:
    """The same in the order of the reference's loops, DOT only."""

    def feed(opt: DOT, params: Sequence[Tensor], gradients: Sequence[Sequence[Any]]) -> None:
        task, distill = (linear_loss(params, g) for g in gradients)
        opt.zero_grad(set_to_none)
        if distill is not None:
            distill.backward(retain_graph=True)
        opt.step_kd()
        opt.zero_grad(set_to_none)
        if task is not None:
            task.backward()

    return feed


def trajectory(
    opt: PerLossMomentum, params: Sequence[Tensor], cases: Sequence[Case], feed: Callable[..., None] = feed_backward
) -> Iterator[list[Array]]:
    for t in range(len(cases[0].steps)):
        feed(opt, params, list(zip(*(case.steps[t] for case in cases), strict=True)))
        opt.step()
        yield [p.detach().cpu().numpy().copy() for p in params]


def largest_difference(paths: Sequence[Sequence[Array]], truths: Sequence[Array]) -> float:
    """Over steps and parameters, of paths ``[step][parameter]`` and truths ``[parameter][step]``."""
    return max(float(np.abs(ours - truths[j][t]).max()) for t, row in enumerate(paths) for j, ours in enumerate(row))


# --- a small network with a parameter of each kind --------------------------------------------------------------------


class TwoHeads(nn.Module):
    """A body that both losses reach, a head that only the task loss reaches, a projector of the distillation loss."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.projector = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(6, 2)

    def losses(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Task and distillation loss of inputs ``[N, 4]``."""
        features = torch.tanh(self.body(x))
        task = (self.head(features) - x[:, :3]).square().mean()
        return task, (self.projector(features) - 1).square().mean()


@pytest.fixture
def net(device: torch.device) -> TwoHeads:
    return TwoHeads().to(device, torch.float64)


@pytest.fixture
def x(device: torch.device) -> Tensor:
    return torch.randn(8, 4, dtype=torch.float64, device=device)


def assert_same(a: nn.Module, b: nn.Module, atol: float = 1e-12) -> None:
    for (name, p), q in zip(a.named_parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=atol, msg=lambda text, name=name: f"{name}: {text}")


def kept(opt: PerLossMomentum) -> dict[str, list[Tensor | None]]:
    return {name: [None if g is None else g.clone() for g in opt.gradients(name)] for name in opt.losses}


def assert_equal_lists(a: Sequence[Tensor | None], b: Sequence[Tensor | None]) -> None:
    for ours, theirs in zip(a, b, strict=True):
        assert (ours is None) == (theirs is None)
        assert ours is None or torch.equal(ours, theirs)


# --- the update -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("foreach", FOREACH)
@pytest.mark.parametrize(
    "feed",
    [feed_backward, feed_reference(True), feed_reference(False)],
    ids=["backward", "reference", "reference-set-to-zero"],
)
def test_dot_is_the_published_update(
    device: torch.device, foreach: bool | None, feed: Callable[..., None], record_property: Callable[..., None]
) -> None:
    cases = [case for seed in range(len(GROUPS)) for case in random_cases(2, seed=seed)]
    params = on(device, [case.start for case in cases])
    per_group = len(CHANCES[2])
    groups = [g | {"params": params[i * per_group : (i + 1) * per_group]} for i, g in enumerate(GROUPS)]
    opt = DOT(groups, **DEFAULTS, foreach=foreach)
    truths = []
    for i, case in enumerate(cases):
        use = DEFAULTS | GROUPS[i // per_group]
        truths.append(
            dot_by_hand(case.start, case.steps, use["lr"], use["momentum"], use["delta"], use["weight_decay"])
        )

    largest = largest_difference(list(trajectory(opt, params, cases, feed)), truths)

    record_property("largest_difference", largest)
    print(f"\nDOT, numpy loop, 200 steps, foreach={foreach}: largest difference {largest:.1e}")
    assert largest <= 1e-12


@pytest.mark.parametrize("foreach", FOREACH)
@pytest.mark.parametrize("switches", [{}, {"nesterov": True}, {"maximize": True}, {"nesterov": True, "maximize": True}])
def test_three_losses_are_three_buffers(
    device: torch.device, foreach: bool | None, switches: dict[str, bool], record_property: Callable[..., None]
) -> None:
    momenta = {"task": 0.85, "target": 0.7, "rest": 0.95}
    cases = random_cases(3, steps=100)
    params = on(device, [case.start for case in cases])
    opt = PerLossMomentum(params, 0.02, momenta=momenta, momentum=0.8, weight_decay=1e-2, foreach=foreach, **switches)
    truths = [per_loss_by_hand(c.start, c.steps, 0.02, list(momenta.values()), 0.8, 1e-2, **switches) for c in cases]

    largest = largest_difference(list(trajectory(opt, params, cases)), truths)

    record_property("largest_difference", largest)
    print(f"\nthree losses, numpy loop, 100 steps, foreach={foreach}, {switches}: largest difference {largest:.1e}")
    assert largest <= 1e-12


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize(
    "use",
    [
        {},
        {"weight_decay": 1e-2},
        {"weight_decay": 1e-2, "nesterov": True},
        {"weight_decay": 1e-2, "maximize": True},
        {"weight_decay": 1e-2, "nesterov": True, "maximize": True},
    ],
)
def test_without_delta_it_is_sgd_on_the_sum(
    net: TwoHeads, x: Tensor, use: dict[str, Any], foreach: bool, record_property: Callable[..., None]
) -> None:
    twin = copy.deepcopy(net)
    opt = DOT(net.parameters(), lr=0.1, momentum=0.9, delta=0.0, foreach=foreach, **use)
    sgd = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9, **use)
    sign = -1 if use.get("maximize") else 1
    largest = 0.0
    for _ in range(200):
        task, distill = net.losses(x)
        opt.backward(task=sign * task, distill=sign * distill)
        opt.step()
        sgd.zero_grad()
        (sign * sum(twin.losses(x))).backward()
        sgd.step()
        for p, q in zip(net.parameters(), twin.parameters(), strict=True):
            largest = max(largest, (p - q).abs().max().item())
    record_property("largest_difference", largest)
    print(f"\ndelta=0, torch.optim.SGD, 200 steps, foreach={foreach}, {use}: largest difference {largest:.1e}")
    assert largest <= 1e-12


@pytest.mark.parametrize("order", ["backward", "reference"])
def test_without_distillation_it_is_sgd(net: TwoHeads, x: Tensor, order: str) -> None:
    twin = copy.deepcopy(net)
    opt = DOT(net.parameters(), lr=0.1, momentum=0.9, delta=0.075, weight_decay=1e-2)
    sgd = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
    for _ in range(50):
        task, _ = net.losses(x)
        if order == "backward":
            opt.backward(task=task)
        else:
            task.backward()
        opt.step()
        sgd.zero_grad()
        twin.losses(x)[0].backward()
        sgd.step()
    assert_same(net, twin)
    assert opt.momentum_buffers("distill") == [None] * 6


@pytest.mark.parametrize("switches", [{}, {"nesterov": True}, {"maximize": True}])
def test_foreach_and_loop_give_the_same_bits(device: torch.device, switches: dict[str, bool]) -> None:
    cases = random_cases(2, steps=60)
    ends = []
    for foreach in FOREACH:
        params = on(device, [case.start for case in cases])
        opt = DOT(params, **DEFAULTS, foreach=foreach, **switches)
        ends.append(list(trajectory(opt, params, cases))[-1] + [b for n in opt.losses for b in opt.momentum_buffers(n)])
    for together, alone, default in zip(*ends, strict=True):
        if together is None:
            assert alone is None
            assert default is None
        elif device.type == "cpu":
            assert torch.equal(torch.as_tensor(together), torch.as_tensor(alone))
            assert torch.equal(torch.as_tensor(together), torch.as_tensor(default))
        else:  # another kernel may fuse a product and a sum
            torch.testing.assert_close(torch.as_tensor(together), torch.as_tensor(alone), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("foreach", FOREACH)
def test_the_function_is_the_class(device: torch.device, foreach: bool | None) -> None:
    cases = random_cases(2, steps=30)
    params = on(device, [case.start for case in cases])
    twins = [p.detach().clone() for p in params]
    buffers: dict[str, list[Tensor | None]] = {name: [None] * len(twins) for name in ("task", "distill")}
    opt = DOT(params, **DEFAULTS, nesterov=True, foreach=foreach)
    for t, _ in enumerate(trajectory(opt, params, cases)):
        gradients = {
            name: [None if (g := c.steps[t][i]) is None else torch.tensor(g, device=device) for c in cases]
            for i, name in enumerate(opt.losses)
        }
        before = {name: [None if g is None else g.clone() for g in gs] for name, gs in gradients.items()}
        per_loss_momentum(
            twins,
            gradients,
            buffers,
            lr=0.05,
            momenta=split_momentum(0.9, 0.075),
            momentum=0.9,
            weight_decay=5e-4,
            nesterov=True,
            foreach=foreach,
        )
        assert_equal_lists(twins, params)
        for name in opt.losses:
            assert_equal_lists(buffers[name], opt.momentum_buffers(name))
            assert_equal_lists(gradients[name], before[name])


@pytest.mark.parametrize(("momentum", "delta", "gains"), [(0.9, 0.075, (5.7, 40)), (0.9, 0.09, (5.3, 100))])
def test_effective_step_of_a_constant_gradient(
    device: torch.device, momentum: float, delta: float, gains: tuple[float, float]
) -> None:
    for loss, gain in zip(("task", "distill"), gains, strict=True):
        p = nn.Parameter(torch.zeros(1, dtype=torch.float64, device=device))
        opt = DOT([p], 1.0, momentum, delta)
        for _ in range(1500):
            before = p.item()
            opt.backward(task=p.sum() * (loss == "task"), distill=p.sum() * (loss == "distill"))
            opt.step()
        assert before - p.item() == pytest.approx(gain, rel=0.01)
        assert before - p.item() == pytest.approx(1 / (1 - split_momentum(momentum, delta)[loss]), rel=1e-6)


# --- which loss reaches what ------------------------------------------------------------------------------------------


def test_step_without_gradients_leaves_all_alone(net: TwoHeads) -> None:
    before = copy.deepcopy(net)
    opt = DOT(net.parameters(), lr=0.1, weight_decay=0.1)
    opt.step()
    opt.step_kd()
    opt.step()
    assert_same(net, before, atol=0)
    assert not opt.state
    assert opt.gradients("task") == opt.momentum_buffers("distill") == [None] * 6


def test_a_missing_gradient_counts_as_zero(device: torch.device) -> None:
    """By hand: task gradients 1, none, none; distillation gradients 1, 1, none."""
    p = nn.Parameter(torch.zeros(1, dtype=torch.float64, device=device))
    opt = DOT([p], lr=1.0, momentum=0.5, delta=0.25)
    opt.backward(task=p.sum(), distill=p.sum())
    opt.step()
    assert p.item() == -2
    opt.backward(distill=p.sum())
    opt.step()
    assert p.item() == -2 - (0.25 + 1.75)
    opt.step()
    assert p.item() == -4 - (0.0625 + 0.75 * 1.75)


def test_first_step_sets_the_buffers_to_the_gradients(device: torch.device) -> None:
    both, task_only, distill_only = params = on(device, [np.array([2.0]), np.array([2.0]), np.array([2.0])])
    opt = DOT(params, lr=0.5, momentum=0.9, delta=0.075, weight_decay=0.1)
    opt.backward(task=(3 * both + 3 * task_only).sum(), distill=(5 * both + 5 * distill_only).sum())
    opt.step()
    values = {n: [None if b is None else b.item() for b in opt.momentum_buffers(n)] for n in opt.losses}
    # Weight decay is in the task buffer; in the distillation buffer only where that is the only one, from the start.
    assert values["task"] == pytest.approx([3.2, 3.2, None])
    assert values["distill"] == pytest.approx([5.0, None, 5.2])
    assert [p.item() for p in params] == pytest.approx([2 - 0.5 * 8.2, 2 - 0.5 * 3.2, 2 - 0.5 * 5.2])


def test_weight_decay_moves_to_the_task_once_it_reaches_a_parameter(device: torch.device) -> None:
    pairs: list[Pair] = [(None, np.array([1.0])), (np.array([2.0]), np.array([1.0])), (None, np.array([1.0]))]
    (p,) = on(device, [np.array([3.0])])
    opt = DOT([p], lr=0.1, momentum=0.9, delta=0.075, weight_decay=0.1)
    ours = list(trajectory(opt, [p], [Case(np.array([3.0]), pairs)]))
    # By hand: v_k = 1 + .3; then v_t = 2 + .1 p, v_k = .975 * 1.3 + 1.
    first = 3 - 0.1 * 1.3
    second = first - 0.1 * (2 + 0.1 * first + 0.975 * 1.3 + 1)
    assert ours[0][0] == pytest.approx(first, abs=1e-14)
    assert ours[1][0] == pytest.approx(second, abs=1e-14)
    np.testing.assert_allclose(np.stack(ours)[:, 0], dot_by_hand(np.array([3.0]), pairs, 0.1, 0.9, 0.075, 0.1))


def test_frozen_parameters_stay(net: TwoHeads, x: Tensor) -> None:
    net.body.requires_grad_(False)
    before = copy.deepcopy(net.body)
    opt = DOT(net.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        task, distill = net.losses(x)
        opt.backward(task=task, distill=distill)
        opt.step()
    assert_same(net.body, before, atol=0)


# --- gradients: where they come from, and what cannot spoil them ------------------------------------------------------


@pytest.fixture
def truth(net: TwoHeads, x: Tensor) -> dict[str, list[Tensor | None]]:
    """The two losses' gradients, from autograd alone."""
    losses = dict(zip(("task", "distill"), net.losses(x), strict=True))
    params = list(net.parameters())
    return {
        name: list(torch.autograd.grad(loss, params, retain_graph=True, allow_unused=True))
        for name, loss in losses.items()
    }


def assert_kept(opt: PerLossMomentum, truth: dict[str, list[Tensor | None]]) -> None:
    for name, gradients in truth.items():
        assert_equal_lists(opt.gradients(name), gradients)


def test_backward_leaves_grad_alone(net: TwoHeads, x: Tensor, truth: dict[str, list[Tensor | None]]) -> None:
    opt = DOT(net.parameters(), lr=0.1)
    task, distill = net.losses(x)
    opt.backward(task=task, distill=distill)
    assert all(p.grad is None for p in net.parameters())
    assert_kept(opt, truth)
    opt.step()
    assert all(p.grad is None for p in net.parameters())
    assert opt.gradients("task") == opt.gradients("distill") == [None] * 6


def test_backward_leaves_an_older_grad_alone_and_step_refuses_it(
    net: TwoHeads, x: Tensor, truth: dict[str, list[Tensor | None]]
) -> None:
    before = copy.deepcopy(net)
    opt = DOT(net.parameters(), lr=0.1)
    net.losses(x)[0].backward()
    left_over = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
    task, distill = net.losses(x)
    opt.backward(task=task, distill=distill)
    assert_equal_lists([p.grad for p in net.parameters()], left_over)
    with pytest.raises(RuntimeError, match=r"'task' must come from backward\(task=...\) or from \.grad"):
        opt.step()
    assert_same(net, before, atol=0)
    opt.zero_grad()
    task, distill = net.losses(x)  # as the message says: zero_grad, then backward
    opt.backward(task=task, distill=distill)
    assert_kept(opt, truth)


def test_grad_that_comes_after_backward_is_refused(
    net: TwoHeads, x: Tensor, truth: dict[str, list[Tensor | None]]
) -> None:
    before = copy.deepcopy(net)
    groups = [{"params": list(module.parameters())} for module in (net.body, net.head, net.projector)]
    opt = DOT(groups, lr=0.1)
    task, distill = net.losses(x)
    opt.backward(task=task, distill=distill)
    net.head.bias.grad = torch.ones_like(net.head.bias)
    with pytest.raises(RuntimeError, match=r"Got both: call zero_grad\(\) before backward\(\)"):
        opt.step()
    assert_same(net, before, atol=0)  # not even the first group
    opt.zero_grad()
    task, distill = net.losses(x)
    opt.backward(task=task, distill=distill)
    assert_kept(opt, truth)
    opt.step()
    for p, t, k in zip(before.parameters(), truth["task"], truth["distill"], strict=True):
        p.data.sub_((0 if t is None else t) + (0 if k is None else k), alpha=0.1)
    assert_same(net, before)


def test_grad_of_a_parameter_that_backward_did_not_reach_is_refused_too(net: TwoHeads, x: Tensor) -> None:
    opt = DOT(net.parameters(), lr=0.1)
    net.projector.bias.grad = torch.ones_like(net.projector.bias)
    task, distill = net.losses(x)
    opt.backward(task=task, distill=distill)
    with pytest.raises(RuntimeError, match="Got both"):
        opt.step()


def test_zero_grad_cannot_spoil_the_kept_gradients(
    net: TwoHeads, x: Tensor, truth: dict[str, list[Tensor | None]]
) -> None:
    opt = DOT(net.parameters(), lr=0.1)
    task, distill = net.losses(x)
    distill.backward(retain_graph=True)
    opt.step_kd()
    assert all(p.grad is None for p in net.parameters())
    opt.zero_grad(set_to_none=False)
    net.zero_grad(set_to_none=False)
    task.backward()
    assert_kept(opt, truth)


def test_the_losses_do_not_mix_without_zero_grad(
    net: TwoHeads, x: Tensor, truth: dict[str, list[Tensor | None]]
) -> None:
    opt = DOT(net.parameters(), lr=0.1)
    task, distill = net.losses(x)
    distill.backward(retain_graph=True)
    opt.step_kd()
    task.backward()
    assert_kept(opt, truth)
    opt.step()
    assert all(p.grad is None for p in net.parameters())  # so that no gradient of this step is in the next


@pytest.mark.parametrize("between", ["nothing", "task", "distill", "other parameters"])
def test_a_second_step_kd_is_refused(net: TwoHeads, x: Tensor, between: str) -> None:
    opt = DOT(net.parameters(), lr=0.1)
    task, distill = net.losses(x)
    if between == "other parameters":  # the second call would file the task's gradient under distillation
        net.projector.weight.sum().backward()
    else:
        distill.backward(retain_graph=True)
    opt.step_kd()
    if between == "task":
        task.backward()
    elif between == "distill":
        net.losses(x)[1].backward()
    elif between == "other parameters":
        net.head.weight.sum().backward()
    with pytest.raises(RuntimeError, match=r"step_kd\(\) must be called once before each step\(\)"):
        opt.step_kd()


def test_step_kd_after_a_step_is_fine(net: TwoHeads, x: Tensor) -> None:
    opt = DOT(net.parameters(), lr=0.1)
    for _ in range(3):
        task, distill = net.losses(x)
        distill.backward(retain_graph=True)
        opt.step_kd()
        task.backward()
        opt.step()


def test_the_two_orders_mix(net: TwoHeads, x: Tensor, truth: dict[str, list[Tensor | None]]) -> None:
    opt = DOT(net.parameters(), lr=0.1)
    task, distill = net.losses(x)
    opt.backward(distill=distill, retain_graph=True)
    task.backward()
    assert_kept(opt, truth)


@pytest.mark.parametrize("order", ["backward", "reference"])
def test_micro_batches_add_up_to_the_full_batch(
    net: TwoHeads, x: Tensor, truth: dict[str, list[Tensor | None]], order: str
) -> None:
    opt = DOT(net.parameters(), lr=0.1)
    parts = [[loss / 4 for loss in net.losses(part)] for part in x.chunk(4)]
    if order == "backward":
        for task, distill in parts:
            opt.backward(task=task, distill=distill)
    else:
        for _, distill in parts:
            distill.backward(retain_graph=True)
        opt.step_kd()
        for task, _ in parts:
            task.backward()
    for name, gradients in truth.items():
        for ours, theirs in zip(opt.gradients(name), gradients, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-14)


def test_a_failed_backward_keeps_nothing(net: TwoHeads, x: Tensor, truth: dict[str, list[Tensor | None]]) -> None:
    """A loop that meets an error halfway and tries again must not count the first loss twice."""
    opt = DOT(net.parameters(), lr=0.1)
    task, distill = net.losses(x)
    gone = net.losses(x)[1]
    gone.backward()
    opt.zero_grad()
    with pytest.raises(RuntimeError, match="second time"):
        opt.backward(task=task, distill=gone, retain_graph=True)
    opt.backward(task=task, distill=distill)
    assert_kept(opt, truth)


def test_backward_retains_the_graph_if_asked(net: TwoHeads, x: Tensor) -> None:
    opt = DOT(net.parameters(), lr=0.1)
    task, distill = net.losses(x)
    opt.backward(task=task, distill=distill, retain_graph=True)
    once = kept(opt)
    opt.backward(distill=distill, task=task)
    for name, gradients in once.items():
        assert_equal_lists(opt.gradients(name), [None if g is None else g + g for g in gradients])
    with pytest.raises(RuntimeError, match="second time"):
        opt.backward(task=task)


def test_closure(net: TwoHeads, x: Tensor) -> None:
    twin = copy.deepcopy(net)
    opt, plain = DOT(net.parameters(), lr=0.1), DOT(twin.parameters(), lr=0.1)

    def closure() -> Tensor:
        task, distill = net.losses(x)
        opt.backward(task=task, distill=distill)
        return task + distill

    for _ in range(3):
        returned = opt.step(closure)
        task, distill = twin.losses(x)
        plain.backward(task=task, distill=distill)
        assert plain.step() is None
        assert torch.equal(returned, task + distill)
    assert_same(net, twin, atol=0)


@pytest.mark.parametrize("foreach", [True, False])
def test_expanded_gradients(device: torch.device, foreach: bool) -> None:
    start = np.arange(6.0).reshape(2, 3)
    (p,) = on(device, [start])
    (stride_zero,) = torch.autograd.grad(p.sum(), [p])
    assert stride_zero.stride() == (0, 0)
    opt = DOT([p], 0.1, weight_decay=0.0, foreach=foreach)
    for _ in range(3):
        opt.backward(task=p.sum(), distill=p.sum())
        opt.clip_grad_norm_(1e9)
        opt.step()
    ones = np.ones((2, 3))
    truth = dot_by_hand(start, [(ones, ones)] * 3, 0.1, 0.9, 0.075, 0.0)[-1]
    np.testing.assert_allclose(p.detach().cpu().numpy(), truth, atol=1e-13)


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("scaled", [False, True])
def test_parameters_that_share_a_gradient_tensor(device: torch.device, foreach: bool, scaled: bool) -> None:
    a, b = on(device, [np.array([1.0, 2.0]), np.array([3.0, 4.0])])
    shared = torch.autograd.grad((a + b).square().sum(), [a, b])
    assert shared[0].data_ptr() == shared[1].data_ptr()
    scaler = torch.amp.GradScaler(device.type, init_scale=8.0, enabled=scaled)
    opt = DOT([a, b], 0.05, weight_decay=0.0, foreach=foreach)
    u, v_t, v_k, ends = np.array([4.0, 6.0]), 0.0, 0.0, []
    for _ in range(4):
        opt.backward(task=scaler.scale((a + b).square().sum()), distill=scaler.scale((a + b).sum()))
        opt.scaled_step(scaler)
        scaler.update()
        v_t, v_k = 0.825 * v_t + 2 * u, 0.975 * v_k + 1
        u = u - 2 * 0.05 * (v_t + v_k)
        ends.append((a + b).detach().cpu().numpy())
        np.testing.assert_allclose(ends[-1], u, atol=1e-12)
    np.testing.assert_allclose((b - a).detach().cpu().numpy(), [2, 2], atol=1e-12)


def test_tied_parameters_move_once(device: torch.device) -> None:
    first, second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    second.weight = first.weight
    tied = nn.Sequential(first, second).to(device, torch.float64)
    start = first.weight.detach().cpu().numpy().copy()
    opt = DOT(tied.parameters(), 0.1, weight_decay=0.01)
    assert len(opt.gradients("task")) == 1
    for _ in range(3):
        opt.backward(task=first.weight.sum() + 2 * second.weight.sum(), distill=second.weight.sum())
        opt.step()
    pairs = [(np.full((2, 2), 3.0), np.ones((2, 2)))] * 3
    truth = dot_by_hand(start, pairs, 0.1, 0.9, 0.075, 0.01)[-1]
    np.testing.assert_allclose(second.weight.detach().cpu().numpy(), truth, atol=1e-12)


@pytest.mark.parametrize("foreach", [True, False])
def test_complex_parameters(device: torch.device, foreach: bool) -> None:
    rng = np.random.default_rng(0)
    start, *gradients = rng.standard_normal((9, 3)) + 1j * rng.standard_normal((9, 3))
    pairs: list[Pair] = list(zip(gradients[::2], gradients[1::2], strict=True))
    params = on(device, [start])
    opt = DOT(params, **DEFAULTS, foreach=foreach)
    ours = list(trajectory(opt, params, [Case(start, pairs)]))
    truth = dot_by_hand(start, pairs, 0.05, 0.9, 0.075, 5e-4)
    np.testing.assert_allclose(np.stack(ours)[:, 0], truth, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("foreach", [True, False])
def test_narrow_parameters(device: torch.device, dtype: torch.dtype, foreach: bool) -> None:
    """With numbers that a bfloat16 holds exactly, beside a float64 parameter in the same group."""
    narrow = nn.Parameter(torch.tensor([8.0, 4.0], device=device, dtype=dtype))
    wide = nn.Parameter(narrow.detach().double())
    opt = DOT([narrow, wide], lr=0.5, momentum=0.5, delta=0.25, foreach=foreach)
    for _ in range(3):
        opt.backward(task=(narrow + wide).sum(), distill=2 * (narrow + wide).sum())
        opt.step()
    assert narrow.dtype == opt.momentum_buffers("task")[0].dtype == dtype
    assert torch.equal(narrow.double(), wide)
    one, two = np.ones(2), np.full(2, 2.0)
    truth = dot_by_hand(np.array([8.0, 4.0]), [(one, two)] * 3, 0.5, 0.5, 0.25, 0.0)[-1]
    assert wide.tolist() == truth.tolist()


def test_sparse_gradients_are_refused_before_anything_moves(device: torch.device) -> None:
    table = nn.Embedding(5, 2, sparse=True, device=device)
    (p,) = on(device, [np.ones(2)])
    before = table.weight.detach().clone()
    opt = DOT([{"params": [p]}, {"params": table.parameters()}], lr=0.1)
    opt.backward(task=table(torch.tensor([1, 2], device=device)).sum() + p.sum())
    with pytest.raises(RuntimeError, match=r"gradients must be dense. Got a sparse one"):
        opt.step()
    assert torch.equal(table.weight, before)
    assert p.tolist() == [1, 1]  # nor the group before


# --- clipping and loss scaling ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["backward", "reference"])
@pytest.mark.parametrize("of", ["sum", "task", "distill"])
@pytest.mark.parametrize("max_norm", [0.05, 100.0])
def test_clipping(
    net: TwoHeads, x: Tensor, truth: dict[str, list[Tensor | None]], of: str, max_norm: float, order: str
) -> None:
    # What torch makes of the same gradients, put into .grad of a twin.
    twin = copy.deepcopy(net)
    names = ("task", "distill") if of == "sum" else (of,)
    for i, p in enumerate(twin.parameters()):
        there = [truth[name][i] for name in names if truth[name][i] is not None]
        p.grad = sum(there) if there else None
    norm = torch.nn.utils.clip_grad_norm_(twin.parameters(), max_norm)
    assert (norm > 0.05) == (max_norm == 0.05) or max_norm == 100

    opt = DOT(net.parameters(), lr=0.1)
    task, distill = net.losses(x)
    if order == "backward":
        opt.backward(task=task, distill=distill)
    else:
        distill.backward(retain_graph=True)
        opt.step_kd()
        task.backward()
    before = kept(opt)
    returned = opt.clip_grad_norm_(max_norm, of=of)

    torch.testing.assert_close(returned, norm, rtol=1e-12, atol=0)
    coefficient = min(1.0, max_norm / (norm.item() + 1e-6))
    for i, p in enumerate(twin.parameters()):
        ours = [opt.gradients(name)[i] for name in names]
        there = [g for g in ours if g is not None]
        assert bool(there) == (p.grad is not None)
        if there:
            torch.testing.assert_close(sum(there), p.grad, rtol=1e-12, atol=1e-15)
        for name in ("task", "distill"):
            if before[name][i] is not None:
                factor = coefficient if name in names else 1.0
                torch.testing.assert_close(opt.gradients(name)[i], before[name][i] * factor, rtol=1e-12, atol=1e-15)
    opt.step()
    assert opt.gradients("task") == opt.gradients("distill") == [None] * 6


def test_clipping_without_gradients(net: TwoHeads) -> None:
    assert DOT(net.parameters(), lr=0.1).clip_grad_norm_(1.0).item() == 0


def give(opt: DOT, order: str, task: Tensor, distill: Tensor) -> None:
    if order == "backward":
        opt.backward(task=task, distill=distill)
    else:
        distill.backward(retain_graph=True)
        opt.step_kd()
        task.backward()


@pytest.mark.parametrize("order", ["backward", "reference"])
@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("clip", [None, "sum", "distill"])
def test_a_scaled_step_is_the_step(net: TwoHeads, x: Tensor, order: str, enabled: bool, clip: str | None) -> None:
    twin = copy.deepcopy(net)
    scaler = torch.amp.GradScaler(x.device.type, init_scale=2.0**12, enabled=enabled)
    opt, plain = (DOT(n.parameters(), lr=0.1, weight_decay=1e-3) for n in (net, twin))
    for _ in range(5):
        task, distill = net.losses(x)
        give(opt, order, scaler.scale(task), scaler.scale(distill))
        if clip:
            opt.unscale_(scaler)
            norm = opt.clip_grad_norm_(0.02, of=clip)
        opt.scaled_step(scaler)
        scaler.update()
        task, distill = twin.losses(x)
        give(plain, order, task, distill)
        if clip:
            torch.testing.assert_close(plain.clip_grad_norm_(0.02, of=clip), norm)
        plain.step()
    assert_same(net, twin, atol=1e-15)
    assert scaler.get_scale() == (2.0**12 if enabled else 1.0)


@pytest.mark.parametrize("order", ["backward", "reference"])
@pytest.mark.parametrize("bad", ["task", "distill"])
@pytest.mark.parametrize("value", [math.inf, math.nan])
@pytest.mark.parametrize("unscale", [False, True])
def test_a_scaled_step_skips_what_is_not_finite(
    net: TwoHeads, x: Tensor, order: str, bad: str, value: float, unscale: bool
) -> None:
    twin = copy.deepcopy(net)
    scaler = torch.amp.GradScaler(x.device.type, init_scale=64.0)
    opt, plain = (DOT(n.parameters(), lr=0.1) for n in (net, twin))
    for step in range(3):
        task, distill = net.losses(x)
        if step == 1:
            before, buffers = copy.deepcopy(net), [b for n in opt.losses for b in opt.momentum_buffers(n)]
            buffers = copy.deepcopy(buffers)
            task, distill = (task * value, distill) if bad == "task" else (task, distill * value)
        give(opt, order, scaler.scale(task), scaler.scale(distill))
        if unscale:
            opt.unscale_(scaler)
        opt.scaled_step(scaler)
        scaler.update()
        assert opt.gradients("task") == opt.gradients("distill") == [None] * 6
        assert all(p.grad is None for p in net.parameters())
        if step == 1:
            assert_same(net, before, atol=0)
            assert_equal_lists([b for n in opt.losses for b in opt.momentum_buffers(n)], buffers)
            assert scaler.get_scale() == 32.0
        else:
            give(plain, order, *twin.losses(x))
            plain.step()
    assert_same(net, twin, atol=1e-15)


def test_unscaling_twice_is_refused(net: TwoHeads, x: Tensor) -> None:
    scaler = torch.amp.GradScaler(x.device.type, init_scale=64.0)
    opt = DOT(net.parameters(), lr=0.1)
    task, distill = net.losses(x)
    opt.backward(task=scaler.scale(task), distill=scaler.scale(distill))
    opt.unscale_(scaler)
    with pytest.raises(RuntimeError, match=r"unscale_\(\) has already been called"):
        opt.unscale_(scaler)


def test_optimizers_share_a_scaler(net: TwoHeads, x: Tensor) -> None:
    twin = copy.deepcopy(net)
    scaler = torch.amp.GradScaler(x.device.type, init_scale=64.0)
    several = [DOT([p], lr=0.1) for p in net.parameters()]
    plain = DOT(twin.parameters(), lr=0.1)
    for step in range(4):
        task, distill = net.losses(x)
        for opt in several:
            opt.backward(task=scaler.scale(task), distill=scaler.scale(distill), retain_graph=True)
        if step % 2:
            for opt in several:
                opt.unscale_(scaler)
        for opt in several:
            opt.scaled_step(scaler)
        scaler.update()
        task, distill = twin.losses(x)
        plain.backward(task=task, distill=distill)
        plain.step()
    assert_same(net, twin, atol=1e-15)


def test_a_scaler_cannot_step_it_alone(net: TwoHeads, x: Tensor) -> None:
    """It would unscale the task's gradient, and let the distillation gradient through 65,536 times too large."""
    before = copy.deepcopy(net)
    scaler = torch.amp.GradScaler(x.device.type)
    opt = DOT(net.parameters(), lr=0.1)
    task, distill = net.losses(x)
    give(opt, "reference", scaler.scale(task), scaler.scale(distill))
    with pytest.raises(RuntimeError, match="scaled_step"):
        scaler.step(opt)
    assert_same(net, before, atol=0)


def test_a_plain_step_after_unscale_leaves_nothing_behind(net: TwoHeads, x: Tensor) -> None:
    """`step` in place of `scaled_step` once: the next `scaled_step` must still unscale its own gradients."""
    twin = copy.deepcopy(net)
    scaler = torch.amp.GradScaler(x.device.type, init_scale=64.0)
    opt, plain = (DOT(n.parameters(), lr=0.1) for n in (net, twin))
    for step in range(2):
        task, distill = net.losses(x)
        opt.backward(task=scaler.scale(task), distill=scaler.scale(distill))
        if step == 0:
            opt.unscale_(scaler)
            opt.step()
        else:
            opt.scaled_step(scaler)
        scaler.update()
        task, distill = twin.losses(x)
        plain.backward(task=task, distill=distill)
        plain.step()
    assert_same(net, twin, atol=1e-15)


# --- state, groups, schedules -----------------------------------------------------------------------------------------


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("when", ["before any", "after step", "after backward", "after step_kd"])
def test_state_dict_round_trip_gives_the_same_bits(device: torch.device, when: str) -> None:
    cases = random_cases(2, steps=20)
    params = on(device, [case.start for case in cases])
    groups = [{"params": params[:2], "lr": 0.01, "delta": -0.05}, {"params": params[2:]}]
    opt = DOT(groups, **DEFAULTS)
    at = 0 if when == "before any" else 10
    if at:
        list(trajectory(opt, params, [Case(c.start, c.steps[:at]) for c in cases]))
    gradients = list(zip(*(case.steps[at] for case in cases), strict=True))
    assert any(g is not None for g in gradients[1])
    if when == "after backward":
        feed_backward(opt, params, gradients)
    elif when == "after step_kd":
        linear_loss(params, gradients[1]).backward()
        opt.step_kd()

    again = on(device, [p.detach().cpu().numpy() for p in params])
    other = DOT([{"params": again[:2]}, {"params": again[2:]}], lr=0.7, momentum=0.1, delta=0.0)
    other.load_state_dict(through_a_file(opt.state_dict()))

    for name in opt.losses:
        assert_equal_lists(other.gradients(name), opt.gradients(name))
        assert_equal_lists(other.momentum_buffers(name), opt.momentum_buffers(name))
    rest = at
    if when in ("after backward", "after step_kd"):
        for o, ps in ((opt, params), (other, again)):
            if when == "after step_kd" and (task := linear_loss(ps, gradients[0])) is not None:
                task.backward()
            o.step()
        rest += 1
    tail = [Case(c.start, c.steps[rest:]) for c in cases]
    for ours, theirs in zip(trajectory(opt, params, tail), trajectory(other, again, tail), strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)


def stepped(opt: torch.optim.Optimizer, p: Tensor) -> torch.optim.Optimizer:
    if isinstance(opt, PerLossMomentum):
        opt.backward(**{name: p.sum() for name in opt.losses})
    else:
        p.grad = torch.ones_like(p)
    opt.step()
    return opt


def two(p: nn.Parameter, *names: str) -> PerLossMomentum:
    return PerLossMomentum([p], 0.1, momenta=dict.fromkeys(names, 0.9))


FOREIGN: dict[str, tuple[Callable[[nn.Parameter], Any], Callable[[nn.Parameter], Any]]] = {
    "sgd into DOT": (lambda p: torch.optim.SGD([p], 0.1, momentum=0.9), lambda p: DOT([p], 0.1)),
    "other names": (lambda p: two(p, "a", "b"), lambda p: two(p, "a", "c")),
    "fewer": (lambda p: two(p, "a", "b"), lambda p: two(p, "a", "b", "c")),
    "more": (lambda p: two(p, "a", "b", "c"), lambda p: two(p, "a", "b")),
    "other order": (lambda p: two(p, "a", "b"), lambda p: two(p, "b", "a")),
    "general into DOT": (lambda p: two(p, "task", "distill"), lambda p: DOT([p], 0.1)),
    "DOT into general": (lambda p: DOT([p], 0.1), lambda p: two(p, "task", "distill")),
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("after_a_step", [True, False])
def test_state_of_other_losses_is_refused(device: torch.device, kind: str, after_a_step: bool) -> None:
    """At loading, before anything is taken over: not by a KeyError in a later step."""
    p, q = on(device, [np.ones(2), np.ones(2)])
    theirs, ours = FOREIGN[kind][0](p), FOREIGN[kind][1](q)
    state = (stepped(theirs, p) if after_a_step else theirs).state_dict()
    with pytest.raises(ValueError, match="losses"):
        ours.load_state_dict(state)
    stepped(ours, q)


@pytest.mark.parametrize("how", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))], ids=["copy", "pickle"])
def test_a_copied_optimizer_works(device: torch.device, how: Callable[[Any], Any]) -> None:
    """As each of torch.optim does."""
    (p,) = on(device, [np.ones(2)])
    opt = stepped(DOT([p], 0.1), p)
    q, other = how((p, opt))
    stepped(opt, p)
    stepped(other, q)
    assert torch.equal(p, q)
    assert other.param_groups[0]["params"][0] is q


def test_groups_do_not_share_their_momenta(device: torch.device) -> None:
    p, q = on(device, [np.ones(2), np.ones(2)])
    momenta = {"a": 0.5, "b": 0.9}
    opt = PerLossMomentum([{"params": [p]}, {"params": [q]}], 0.1, momenta=momenta)
    opt.param_groups[0]["momenta"]["a"] = 0.0
    assert opt.param_groups[1]["momenta"] == opt.defaults["momenta"] == momenta == {"a": 0.5, "b": 0.9}


def test_add_param_group(device: torch.device) -> None:
    cases = random_cases(2, steps=20)[:2]
    params = on(device, [case.start for case in cases])
    opt = DOT(params[:1], **DEFAULTS)
    early = [Case(cases[0].start, cases[0].steps[:10])]
    list(trajectory(opt, params[:1], early))
    opt.add_param_group({"params": params[1:], "lr": 0.3, "delta": -0.05})
    late = [Case(c.start, c.steps[10:]) for c in cases]
    end = list(trajectory(opt, params, late))[-1]
    np.testing.assert_allclose(end[0], dot_by_hand(cases[0].start, cases[0].steps, 0.05, 0.9, 0.075, 5e-4)[-1])
    np.testing.assert_allclose(end[1], dot_by_hand(cases[1].start, cases[1].steps[10:], 0.3, 0.9, -0.05, 5e-4)[-1])


def test_named_parameters(net: TwoHeads, x: Tensor) -> None:
    opt = DOT(net.named_parameters(), lr=0.1)
    task, distill = net.losses(x)
    opt.backward(task=task, distill=distill)
    opt.step()
    assert opt.state_dict()["param_groups"][0]["param_names"] == [name for name, _ in net.named_parameters()]


def one_cycle(opt: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=0.3, total_steps=40, cycle_momentum=False)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("schedule", "rate"),
    [
        (lambda opt: torch.optim.lr_scheduler.StepLR(opt, 10, 0.1), lambda t: 0.05 * 0.1 ** (t // 10)),
        (lambda opt: torch.optim.lr_scheduler.LambdaLR(opt, lambda t: 1 / (1 + t)), lambda t: 0.05 / (1 + t)),
        # The lowest points and the top are known: max/25, max, max/25/1e4.
        (one_cycle, {0: 0.3 / 25, 11: 0.3, 39: 0.3 / 25e4}),
    ],
    ids=["StepLR", "LambdaLR", "OneCycleLR"],
)
def test_schedules(device: torch.device, schedule: Callable[..., Any], rate: Any) -> None:
    cases = [case for case in random_cases(2, steps=40) if any(g is not None for step in case.steps for g in step)]
    params = on(device, [case.start for case in cases])
    opt = DOT(params, **DEFAULTS)
    scheduler = schedule(opt)
    rates, ours = [], []
    for row in trajectory(opt, params, cases):
        rates.append(opt.param_groups[0]["lr"])
        ours.append(row)
        if len(ours) < 40:
            scheduler.step()
    known = rate if isinstance(rate, dict) else {t: rate(t) for t in range(40)}
    for t, value in known.items():
        assert rates[t] == pytest.approx(value, rel=1e-9)
    truths = [dot_by_hand(c.start, c.steps, rates, 0.9, 0.075, 5e-4) for c in cases]
    assert largest_difference(ours, truths) <= 1e-12


def test_a_schedule_that_cycles_momentum_too_far_says_so(device: torch.device) -> None:
    (p,) = on(device, [np.ones(2)])
    opt = DOT([p], 0.1, momentum=0.85, delta=0.075)
    torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=0.3, total_steps=40, max_momentum=0.95)
    opt.backward(task=p.sum(), distill=p.sum())
    with pytest.raises(ValueError, match=r"momentum \+ \|delta\| must be below 1. Got 0.95 \+ 0.075"):
        opt.step()


# --- properties -------------------------------------------------------------------------------------------------------

PROPERTY = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # the device is the same for each example
)
MOMENTUM_DELTA = st.floats(0, 0.95).flatmap(
    lambda m: st.tuples(st.just(m), st.floats(-0.999, 0.999).map(lambda f: f * min(m, 1 - m)))
)


def bowls(device: torch.device, seed: int) -> tuple[Array, Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    rng = np.random.default_rng(seed)
    start, a, b = rng.standard_normal((3, 4))
    return (
        start,
        lambda p: (p - torch.tensor(a, device=device)).square().sum() / 2,
        lambda p: (p - torch.tensor(b, device=device)).cosh().log().sum(),
    )


def follow(device: torch.device, start: Array, task: Any, distill: Any, steps: int = 12, **use: Any) -> Array:
    (p,) = on(device, [start])
    opt = DOT([p], **use)
    path = []
    for t in range(steps):
        there = {"task": t % 3 != 1, "distill": t % 4 != 2}
        losses = {n: f(p) for n, f in (("task", task), ("distill", distill)) if there[n]}
        if losses:
            opt.backward(**losses)
        opt.step()
        path.append(p.detach().cpu().numpy().copy())
    return np.stack(path)


@PROPERTY
@given(seed=st.integers(0, 1000), md=MOMENTUM_DELTA, c=st.floats(1e-3, 1e3))
def test_scaling_the_losses_is_scaling_the_rate(
    device: torch.device, seed: int, md: tuple[float, float], c: float
) -> None:
    start, task, distill = bowls(device, seed)
    use = {"momentum": md[0], "delta": md[1]}
    plain = follow(device, start, task, distill, lr=0.02, **use)
    scaled = follow(device, start, lambda p: c * task(p), lambda p: c * distill(p), lr=0.02 / c, **use)
    np.testing.assert_allclose(scaled, plain, rtol=1e-10, atol=1e-10)


@PROPERTY
@given(seed=st.integers(0, 1000), md=MOMENTUM_DELTA)
def test_swapping_the_losses_is_turning_delta_around(device: torch.device, seed: int, md: tuple[float, float]) -> None:
    start, task, distill = bowls(device, seed)
    paths = []
    for losses, sign in (((task, distill), 1), ((distill, task), -1)):
        (p,) = on(device, [start])
        opt = DOT([p], 0.02, md[0], sign * md[1])
        for t in range(12):
            there = [(n, f(p)) for n, f in zip(opt.losses, losses, strict=True) if f is task or t % 3 != 1]
            opt.backward(**dict(there))
            opt.step()
        paths.append(p.detach().cpu().numpy())
    np.testing.assert_allclose(paths[0], paths[1], rtol=1e-12, atol=1e-12)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("use", "message"),
    [
        ({"lr": -0.1}, r"lr must be at least 0. Got -0.1\."),
        ({"lr": math.nan}, r"lr must be at least 0. Got nan\."),
        ({"weight_decay": -1e-4}, r"weight_decay must be at least 0. Got -0.0001\."),
        ({"momentum": -0.1}, r"momentum must be at least 0 and below 1 .*Got -0.1\."),
        ({"momentum": 1.0}, r"momentum must be at least 0 and below 1 \(at 1 its buffer never decays\). Got 1.0\."),
        ({"momentum": math.nan}, r"momentum must be .*Got nan\."),
        ({"momentum": 0.3, "delta": 0.31}, r"delta must be at most momentum \(0.3\) in size. Got 0.31"),
        ({"momentum": 0.3, "delta": -0.31}, r"delta must be at most momentum \(0.3\) in size. Got -0.31"),
        ({"delta": math.nan}, r"delta must be at most momentum .*Got nan"),
        ({"delta": 0.1}, r"momentum \+ \|delta\| must be below 1. Got 0.9 \+ 0.1: .*grow without bound.*diverge"),
        ({"delta": -0.2}, r"momentum \+ \|delta\| must be below 1. Got 0.9 \+ 0.2: .*Use \|delta\| < 0.1"),
    ],
)
@pytest.mark.parametrize("where", ["all", "group", "added"])
def test_dot_refuses(use: dict[str, float], message: str, where: str) -> None:
    p, q = on(torch.device("cpu"), [np.ones(2), np.ones(2)])
    if where == "all":
        with pytest.raises(ValueError, match=message):
            DOT([p], **({"lr": 0.1} | use))
    elif where == "group":
        with pytest.raises(ValueError, match=message):
            DOT([{"params": [p]}, {"params": [q], **use}], lr=0.1)
    else:
        opt = DOT([p], lr=0.1)
        with pytest.raises(ValueError, match=message):
            opt.add_param_group({"params": [q], **use})
        assert len(opt.param_groups) == 1


def test_the_limits_themselves() -> None:
    assert split_momentum(0.9, 0.075) == {"task": pytest.approx(0.825), "distill": pytest.approx(0.975)}
    assert split_momentum(0.4, -0.4) == {"task": 0.8, "distill": 0.0}
    assert split_momentum(0.0, 0.0) == {"task": 0.0, "distill": 0.0}
    with pytest.raises(ValueError, match="diverge"):
        split_momentum(0.5, 0.5)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        ({"momenta": {}}, r"losses must be named by Python identifiers, at least one. Got \(\)"),
        ({"momenta": {"a b": 0.9}}, r"losses must be named by Python identifiers, at least one. Got \('a b',\)"),
        ({"momenta": {"a": 0.9, "b": 1.0}}, r"the momentum of 'b' must be at least 0 and below 1 .*Got 1.0\."),
        ({"momenta": {"a": -0.5}}, r"the momentum of 'a' must be at least 0 and below 1 .*Got -0.5\."),
        ({"momenta": {"a": 0.5}, "momentum": 1.5}, r"momentum must be at least 0 and below 1 .*Got 1.5\."),
    ],
)
def test_per_loss_momentum_refuses(use: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PerLossMomentum(on(torch.device("cpu"), [np.ones(2)]), 0.1, **use)


@pytest.mark.parametrize("name", ["self", "retain_graph", "sum", "class"])
def test_names_that_a_call_could_not_pass_are_refused(name: str) -> None:
    """``backward(class=...)`` cannot be written, ``retain_graph`` is an option there, ``sum`` one of clipping."""
    with pytest.raises(ValueError, match="losses must be named"):
        PerLossMomentum(on(torch.device("cpu"), [np.ones(2)]), 0.1, momenta={name: 0.9, "other": 0.9})


def test_a_group_must_name_the_same_losses() -> None:
    p, q = on(torch.device("cpu"), [np.ones(2), np.ones(2)])
    with pytest.raises(ValueError, match=r"momenta must name the losses a, b. Got a, c\."):
        PerLossMomentum(
            [{"params": [p]}, {"params": [q], "momenta": {"a": 0.9, "c": 0.9}}], 0.1, momenta={"a": 0.5, "b": 0.9}
        )


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        (lambda p: {}, r"backward needs at least one of task, distill. Got none\."),
        (lambda p: {"task": p.sum(), "kd": p.sum()}, r"losses must be among task, distill. Got 'kd'\."),
        (lambda p: {"task": p * 2}, r"task must be a scalar tensor with a gradient. Got shape \[2\]\."),
        (
            lambda p: {"task": p.sum(), "distill": p.sum().detach()},
            r"distill must be a scalar tensor with a gradient. Got shape \[\] that does not require a gradient",
        ),
        (lambda p: {"task": 0.5}, r"task must be a scalar tensor with a gradient. Got float\."),
    ],
)
def test_backward_refuses(losses: Callable[[Tensor], dict[str, Any]], message: str) -> None:
    (p,) = on(torch.device("cpu"), [np.ones(2)])
    opt = DOT([p], 0.1)
    with pytest.raises(ValueError, match=message):
        opt.backward(**losses(p))
    assert opt.gradients("task") == opt.gradients("distill") == [None]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda o: o.gradients("kd"), r"loss must be one of task, distill. Got 'kd'\."),
        (lambda o: o.momentum_buffers("kd"), r"loss must be one of task, distill. Got 'kd'\."),
        (lambda o: o.clip_grad_norm_(0.0), r"max_norm must be above 0. Got 0.0\."),
        (lambda o: o.clip_grad_norm_(math.nan), r"max_norm must be above 0. Got nan\."),
        (lambda o: o.clip_grad_norm_(1.0, of="kd"), r"of must be 'sum' or one of task, distill. Got 'kd'\."),
    ],
)
def test_methods_refuse(call: Callable[[DOT], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(DOT(on(torch.device("cpu"), [np.ones(2)]), 0.1))


def test_the_random_cases_cover_what_they_should() -> None:
    """Parameters that both, one or no loss reaches; steps with both, either and neither gradient."""
    cases = random_cases(2)
    seen = [{tuple(g is not None for g in step) for step in case.steps} for case in cases]
    everything = set(itertools.product([True, False], repeat=2))
    assert seen[1] == everything
    assert seen[2] == {(True, False), (False, False)}
    assert seen[3] == {(False, True), (False, False)}
    assert seen[4] == {(False, False)}


def test_zero_grad_forgets_what_backward_kept_and_not_what_step_kd_put_away(net: TwoHeads, x: Tensor) -> None:
    opt = DOT(net.parameters(), lr=0.1)
    task, distill = net.losses(x)
    opt.backward(task=task * float("nan"), distill=distill)
    opt.zero_grad()
    assert opt.gradients("task") == opt.gradients("distill") == [None] * 6
    _, distill = net.losses(x)
    distill.backward()
    opt.step_kd()
    opt.zero_grad()
    assert any(g is not None for g in opt.gradients("distill"))
    assert DOT(net.parameters(), lr=0.1).load_state_dict(opt.state_dict()) is None
    opt.discard()
    assert opt.gradients("distill") == [None] * 6


def test_a_parameter_frozen_later_stays_where_it_is(net: TwoHeads, x: Tensor) -> None:
    opt = DOT(net.parameters(), lr=0.1, weight_decay=0.1)
    for frozen in (False, True):
        net.body.requires_grad_(not frozen)
        before = [p.detach().clone() for p in net.body.parameters()]
        task, distill = net.losses(x)
        opt.backward(task=task, distill=distill)
        opt.step()
        moved = [not torch.equal(a, b) for a, b in zip(before, net.body.parameters(), strict=True)]
        assert moved == [not frozen] * len(moved)


def test_losses_of_another_network_are_refused(net: TwoHeads, x: Tensor) -> None:
    task, distill = copy.deepcopy(net).losses(x)
    with pytest.raises(ValueError, match=r"a loss must reach a parameter of this optimizer\. Got task, distill"):
        DOT(net.parameters(), lr=0.1).backward(task=task, distill=distill)
