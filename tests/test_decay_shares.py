"""Shares of the weight decay, and DeepKD as settings, against a numpy loop written from the docstring's update."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from dot import DOT, PerLossMomentum, cross_entropy, deepkd_settings, dkd_loss, nckd_loss, tckd_loss
from dot.momentum import per_loss_momentum

Array = np.ndarray
NAMES = ("a", "b", "c")
MOMENTA = {"a": 0.85, "b": 0.7, "c": 0.95}
SHARES = [
    {"a": 0.2, "b": 0.3, "c": 0.5},
    {"c": 1.0},  # not the first, and none for the losses that alone reach some parameters
    {"c": 0.25, "b": 0.75},  # in another order
    None,
]


def by_hand(
    p: Array,
    steps: Sequence[Sequence[Array | None]],
    momenta: Sequence[float],
    shares: Sequence[float],
    lr: float = 0.02,
    m: float = 0.8,
    w: float = 1e-2,
    *,
    nesterov: bool = False,
    maximize: bool = False,
) -> Array:
    """One parameter after its steps; each step holds the losses' gradients, None where missing."""
    v: list[Array | None] = [None] * len(momenta)
    for there in steps:
        reached = [k for k, g in enumerate(there) if g is not None or v[k] is not None]
        known = sum(shares[k] for k in reached)
        move = np.zeros_like(p)
        for k in reached:
            m_k = momenta[k] if len(reached) > 1 else m
            share = shares[k] / known if known > 0 else float(k == reached[0])
            g = np.zeros_like(p) if there[k] is None else there[k] * (-1 if maximize else 1)
            g = g + share * w * p
            v[k] = g if v[k] is None else m_k * v[k] + g
            move = move + (g + m_k * v[k] if nesterov else v[k])
        p = p - lr * move
    return p


def random_steps(seed: int, steps: int = 60) -> tuple[list[Array], list[list[list[Array | None]]]]:
    """Starts, and gradients ``[parameter][step][loss]``; how often each loss comes differs between the parameters."""
    rng = np.random.default_rng(seed)
    chances = [(1, 1, 1), (0.5, 0.5, 0.5), (0, 0.6, 0.6), (0.6, 0.6, 0), (0.6, 0, 0), (0, 0, 0.6), (0, 0, 0)]
    starts = [rng.standard_normal(shape) for shape in [(3, 2), (4,), (), (2, 1), (3,), (2, 2), (2,)]]
    return starts, [
        [[rng.standard_normal(p.shape) if rng.random() < c else None for c in chance] for _ in range(steps)]
        for p, chance in zip(starts, chances, strict=True)
    ]


def on(device: torch.device, arrays: Sequence[Array]) -> list[nn.Parameter]:
    return [nn.Parameter(torch.tensor(array, device=device)) for array in arrays]


def feed(opt: PerLossMomentum, params: Sequence[Tensor], gradients: Sequence[Sequence[Array | None]]) -> None:
    """Linear losses whose gradients are those given, ``[parameter][loss]``."""
    losses = {}
    for k, name in enumerate(opt.losses):
        terms = [
            (p * torch.as_tensor(g[k], device=p.device)).sum()
            for p, g in zip(params, gradients, strict=True)
            if g[k] is not None
        ]
        if terms:
            losses[name] = torch.stack(terms).sum()
    opt.backward(**losses)


def run(opt: PerLossMomentum, params: Sequence[Tensor], steps: Sequence[Sequence[Sequence[Array | None]]]) -> None:
    for gradients in zip(*steps, strict=True):
        feed(opt, params, gradients)
        opt.step()


# --- the update -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("foreach", [True, False, None])
@pytest.mark.parametrize("shares", SHARES)
@pytest.mark.parametrize("switches", [{}, {"nesterov": True}, {"maximize": True}, {"nesterov": True, "maximize": True}])
def test_the_decay_is_divided_as_written(
    device: torch.device, foreach: bool | None, shares: dict[str, float] | None, switches: dict[str, bool]
) -> None:
    starts, steps = random_steps(0)
    params = on(device, starts)
    use: dict[str, Any] = {"momenta": MOMENTA, "momentum": 0.8, "weight_decay": 1e-2, "decay_shares": shares}
    opt = PerLossMomentum(params, 0.02, foreach=foreach, **use, **switches)
    run(opt, params, steps)
    by_name = [(shares or {"a": 1.0}).get(name, 0.0) for name in NAMES]
    for p, start, its in zip(params, starts, steps, strict=True):
        truth = by_hand(start, its, list(MOMENTA.values()), by_name, **switches)
        np.testing.assert_allclose(p.detach().cpu().numpy(), truth, rtol=0, atol=1e-12)


@pytest.mark.parametrize("foreach", [True, False])
def test_by_default_the_first_loss_carries_it_all(device: torch.device, foreach: bool) -> None:
    ends = []
    for shares in (None, {"a": 1.0}, {"a": 1.0, "b": 0.0, "c": 0.0}):
        starts, steps = random_steps(1)
        params = on(device, starts)
        use: dict[str, Any] = {"momenta": MOMENTA, "weight_decay": 1e-2, "foreach": foreach}
        opt = PerLossMomentum(params, 0.02, decay_shares=shares, **use)
        run(opt, params, steps)
        ends.append(params)
    for other in ends[1:]:
        assert all(torch.equal(p, q) for p, q in zip(ends[0], other, strict=True))


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 1000),
    parts=st.tuples(*[st.sampled_from([0.0, 0.1, 1.0, 3.0])] * 3).filter(any),
    momentum=st.sampled_from([0.0, 0.5, 0.9]),
    nesterov=st.booleans(),
    foreach=st.booleans(),
)
def test_with_equal_momenta_it_is_sgd_on_the_sum_whatever_the_shares(
    seed: int, parts: tuple[float, ...], momentum: float, nesterov: bool, foreach: bool
) -> None:
    nesterov = nesterov and momentum > 0  # torch's SGD has no Nesterov step without momentum
    starts, steps = random_steps(seed, steps=15)
    params, twins = on(torch.device("cpu"), starts), on(torch.device("cpu"), starts)
    shares = {name: part / sum(parts) for name, part in zip(NAMES, parts, strict=True)}
    use: dict[str, Any] = {"weight_decay": 1e-2, "momentum": momentum, "nesterov": nesterov, "foreach": foreach}
    opt = PerLossMomentum(params, 0.05, momenta=dict.fromkeys(NAMES, momentum), decay_shares=shares, **use)
    sgd = torch.optim.SGD(twins, 0.05, **use)
    run(opt, params, steps)
    reached = set()
    for gradients in zip(*steps, strict=True):
        for q, losses in zip(twins, gradients, strict=True):
            there = [torch.tensor(g) for g in losses if g is not None]
            if there or q in reached:  # once a loss has reached it, a missing gradient counts as zero
                reached.add(q)
                q.grad = torch.stack(there).sum(0) if there else torch.zeros_like(q)
        sgd.step()
        sgd.zero_grad()
    for p, q in zip(params, twins, strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-12)


def test_the_function_takes_the_shares_as_they_are(device: torch.device) -> None:
    starts, steps = random_steps(2, steps=8)
    params = on(device, starts)
    twins = [p.detach().clone() for p in params]
    buffers: dict[str, list[Tensor | None]] = {name: [None] * len(twins) for name in NAMES}
    use: dict[str, Any] = {"momenta": MOMENTA, "momentum": 0.8, "weight_decay": 1e-2, "decay_shares": SHARES[0]}
    opt = PerLossMomentum(params, 0.02, **use)
    run(opt, params, steps)
    for gradients in zip(*steps, strict=True):
        named = {
            name: [None if g[k] is None else torch.as_tensor(g[k], device=device) for g in gradients]
            for k, name in enumerate(NAMES)
        }
        per_loss_momentum(twins, named, buffers, lr=0.02, **use)
    assert all(torch.equal(p, q) for p, q in zip(params, twins, strict=True))


# --- groups and state -------------------------------------------------------------------------------------------------


def grouped(device: torch.device, starts: Sequence[Array], *, shares: bool) -> tuple[list[nn.Parameter], Any]:
    params = on(device, starts)
    own = {"decay_shares": SHARES[0]} if shares else {}
    groups = [{"params": params[:3]} | own, {"params": params[3:]}]
    default = {"c": 1.0} if shares else None
    return params, PerLossMomentum(groups, 0.02, momenta=MOMENTA, weight_decay=0.1, decay_shares=default)


def through_a_file(opt: PerLossMomentum) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(opt.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_a_group_has_its_own_shares(device: torch.device) -> None:
    starts, steps = random_steps(3)
    params, opt = grouped(device, starts, shares=True)
    run(opt, params, steps)
    for i, (p, start, its) in enumerate(zip(params, starts, steps, strict=True)):
        shares = [0.2, 0.3, 0.5] if i < 3 else [0.0, 0.0, 1.0]
        truth = by_hand(start, its, list(MOMENTA.values()), shares, m=0.9, w=0.1)
        np.testing.assert_allclose(p.detach().cpu().numpy(), truth, rtol=0, atol=1e-12)
    opt.param_groups[1]["decay_shares"]["c"] = 0.0
    assert opt.defaults["decay_shares"] == {"c": 1.0}


@pytest.mark.parametrize("how", ["state_dict", "pickle", "copy"])
def test_shares_are_kept(device: torch.device, how: str) -> None:
    starts, steps = random_steps(4, steps=20)
    params, opt = grouped(device, starts, shares=True)
    run(opt, params, [its[:10] for its in steps])
    if how == "state_dict":
        again, other = grouped(device, [p.detach().cpu().numpy() for p in params], shares=False)
        other.load_state_dict(through_a_file(opt))
    else:
        again, other = pickle.loads(pickle.dumps((params, opt))) if how == "pickle" else copy.deepcopy((params, opt))
    for o, ps in ((opt, params), (other, again)):
        run(o, ps, [its[10:] for its in steps])
    assert all(torch.equal(p, q) for p, q in zip(params, again, strict=True))


def test_a_state_from_before_there_were_shares_loads(device: torch.device) -> None:
    starts, steps = random_steps(5, steps=10)
    params, opt = grouped(device, starts, shares=False)
    again, other = grouped(device, starts, shares=False)
    state = through_a_file(opt)
    for group in state["param_groups"]:
        del group["decay_shares"]
    other.load_state_dict(state)
    for o, ps in ((opt, params), (other, again)):
        run(o, ps, steps)
    assert all(torch.equal(p, q) for p, q in zip(params, again, strict=True))


REFUSED = [
    ({"a": 0.5, "d": 0.5}, r"decay_shares must name losses among a, b, c\. Got a, d\."),
    ({"a": 1.5, "b": -0.5}, r"the decay share of 'b' must be at least 0\. Got -0\.5\."),
    ({"a": float("nan")}, r"the decay share of 'a' must be at least 0\. Got nan\."),
    ({"a": 0.5}, r"decay_shares must sum to 1\. Got 0\.5: scale weight_decay instead\."),
    ({}, r"decay_shares must sum to 1\. Got 0: scale weight_decay instead\."),
]


@pytest.mark.parametrize(("shares", "message"), REFUSED)
def test_shares_that_divide_nothing_are_refused(shares: dict[str, float], message: str) -> None:
    p, q = on(torch.device("cpu"), [np.ones(2), np.ones(2)])
    with pytest.raises(ValueError, match=message):
        PerLossMomentum([p], 0.1, momenta=MOMENTA, decay_shares=shares)
    opt = PerLossMomentum([p], 0.1, momenta=MOMENTA)
    with pytest.raises(ValueError, match=message):
        opt.add_param_group({"params": [q], "decay_shares": shares})
    state = opt.state_dict()
    state["param_groups"][0]["decay_shares"] = shares
    with pytest.raises(ValueError, match=message):
        opt.load_state_dict(state)
    opt.backward(a=p.sum())
    opt.param_groups[0]["decay_shares"] = shares
    with pytest.raises(ValueError, match=message):
        opt.step()
    assert torch.equal(p, torch.ones_like(p))


# --- DeepKD -----------------------------------------------------------------------------------------------------------


def test_deepkds_settings() -> None:
    paper, released = deepkd_settings(), deepkd_settings(0.9, 0.05, form="released")
    assert paper["momenta"] == pytest.approx({"task": 0.975, "target": 0.825, "non_target": 0.975})
    assert (paper["momentum"], paper["decay_shares"]) == (0.9, {"task": 1.0})
    assert released["momenta"] == pytest.approx({"task": 0.85, "target": 0.85, "non_target": 0.95})
    assert (released["momentum"], released["decay_shares"]) == (0.9, {"target": 1.0})
    assert deepkd_settings(0.9, -0.075)["momenta"] == pytest.approx(
        {"task": 0.825, "target": 0.975, "non_target": 0.825}
    )


@pytest.mark.parametrize(
    ("use", "message"),
    [
        ({"momentum": 1.0}, r"momentum must be at least 0 and below 1 .*Got 1\.0\."),
        ({"momentum": 0.9, "delta": 0.1}, r"momentum \+ \|delta\| must be below 1\. Got 0\.9 \+ 0\.1"),
        ({"momentum": 0.1, "delta": -0.2}, r"delta must be at most momentum \(0\.1\) in size\. Got -0\.2"),
        ({"form": "code"}, r"form must be 'paper' or 'released'\. Got 'code'\."),
    ],
)
def test_deepkds_settings_refuse(use: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        deepkd_settings(**use)


def logits_of(net: nn.Linear, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    teacher = 3 * torch.randn(len(x), 5, generator=rng, dtype=x.dtype).to(x.device)
    return net(x), teacher, torch.arange(len(x), device=x.device) % 5


@pytest.mark.parametrize("form", ["paper", "released"])
@pytest.mark.parametrize("delta", [0.075, -0.075])
def test_deepkd_trains_as_it_says(device: torch.device, form: Any, delta: float) -> None:
    """Against a numpy loop with the gradients of each loss by themselves; alpha 1, beta 8, as DKD's sum has them."""
    torch.manual_seed(0)
    net = nn.Linear(4, 5, dtype=torch.float64).to(device)
    x = torch.randn(6, 4, dtype=torch.float64, device=device)
    opt = PerLossMomentum(net.parameters(), lr=0.05, weight_decay=1e-2, **deepkd_settings(0.9, delta, form))
    held: dict[tuple[int, str], Array] = {}
    for _ in range(10):
        student, teacher, labels = logits_of(net, x)
        losses = {
            "task": cross_entropy(student, labels),
            "target": 1.0 * tckd_loss(student, teacher, labels, 4.0),
            "non_target": 8.0 * nckd_loss(student, teacher, labels, 4.0),
        }
        torch.testing.assert_close(losses["target"] + losses["non_target"], dkd_loss(student, teacher, labels, 4.0))
        expected = []
        for i, p in enumerate(net.parameters()):
            before = p.detach().cpu().numpy()
            for name, loss in losses.items():
                g = torch.autograd.grad(loss, p, retain_graph=True)[0].cpu().numpy()
                if name == ("task" if form == "paper" else "target"):
                    g = g + 1e-2 * before
                ahead = name == "non_target" or (name == "task" and form == "paper")
                m = 0.9 + delta if ahead else 0.9 - delta
                held[i, name] = g if (i, name) not in held else m * held[i, name] + g
            expected.append(before - 0.05 * sum(held[i, name] for name in losses))
        opt.backward(**losses)
        opt.step()
        for p, truth in zip(net.parameters(), expected, strict=True):
            np.testing.assert_allclose(p.detach().cpu().numpy(), truth, rtol=0, atol=1e-12)


def test_deepkd_without_delta_is_sgd_on_dkd(device: torch.device) -> None:
    torch.manual_seed(0)
    net = nn.Linear(4, 5, dtype=torch.float64).to(device)
    twin = copy.deepcopy(net)
    x = torch.randn(6, 4, dtype=torch.float64, device=device)
    opt = PerLossMomentum(net.parameters(), lr=0.05, weight_decay=1e-2, **deepkd_settings(0.9, 0.0))
    sgd = torch.optim.SGD(twin.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-2)
    for _ in range(10):
        student, teacher, labels = logits_of(net, x)
        target, rest = (loss(student, teacher, labels, 4.0) for loss in (tckd_loss, nckd_loss))
        opt.backward(task=F.cross_entropy(student, labels), target=target, non_target=8 * rest)
        opt.step()
        student, teacher, labels = logits_of(twin, x)
        sgd.zero_grad()
        (F.cross_entropy(student, labels) + dkd_loss(student, teacher, labels, 4.0)).backward()
        sgd.step()
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-12)


def test_memory_is_a_buffer_a_loss_and_its_gradient_until_the_step() -> None:
    (p,) = on(torch.device("cpu"), [np.ones(2)])
    opt = PerLossMomentum([p], 0.1, **deepkd_settings())
    opt.backward(task=p.sum(), target=p.sum(), non_target=p.sum())
    assert len(opt.state[p]) == 3
    opt.step()
    assert sorted(opt.state[p]) == ["momentum_non_target", "momentum_target", "momentum_task"]


def test_dot_is_what_it_was(device: torch.device) -> None:
    """Its decay enters through the task, as the general optimizer's through its first loss."""
    starts, steps = random_steps(6, steps=10)
    pairs = [[its[1:] for its in s] for s in steps]
    params, twins = on(device, starts), on(device, starts)
    momenta = {"task": 0.9 - 0.075, "distill": 0.9 + 0.075}
    run(DOT(params, 0.02, weight_decay=0.1), params, pairs)
    run(PerLossMomentum(twins, 0.02, momenta=momenta, weight_decay=0.1, decay_shares={"task": 1.0}), twins, pairs)
    assert all(torch.equal(p, q) for p, q in zip(params, twins, strict=True))
