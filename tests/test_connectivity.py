"""The curve between two networks: against a loop over plain tensors, and where the valley is known."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from oracles import HazardNet, averages, batched, fingerprint, images, objective
from torch import nn
from torch.func import functional_call

import landscape as ls
from landscape.connectivity import bezier


def _net():
    return nn.Sequential(nn.Linear(36, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def _batches():
    x, y = images()
    return batched(x.double().flatten(1), y)  # 8, 8 and 6 examples


def _reference(start, end, batches, term, steps, lr, momentum, seed):
    """The control point and the losses of section 3.2, by plain tensors and SGD written out."""
    w1, w2 = ({name: p.detach() for name, p in m.named_parameters()} for m in (start, end))
    theta = {name: ((w1[name] + w2[name]) / 2).requires_grad_() for name in w1}
    velocity = {name: torch.zeros_like(p) for name, p in w1.items()}
    losses = []
    for step, t in enumerate(np.random.default_rng(seed).random(steps)):
        phi = {n: (1 - t) ** 2 * w1[n] + 2 * t * (1 - t) * theta[n] + t**2 * w2[n] for n in w1}
        terms = objective(lambda x, phi=phi: functional_call(start, phi, x), batches[step % len(batches)])
        losses.append(terms[term].mean())
        gradients = torch.autograd.grad(losses[-1], list(theta.values()))
        with torch.no_grad():
            for (name, p), g in zip(theta.items(), gradients, strict=True):
                velocity[name] = momentum * velocity[name] + g
                p -= lr * velocity[name]
    return theta, [float(loss.detach()) for loss in losses]


@pytest.mark.parametrize(("term", "momentum"), [("ce", 0.9), ("kd", 0.0)])
def test_the_curve_is_that_of_plain_gradient_descent(term, momentum, device):
    start, end, batches = _net(), _net(), _batches()
    theta, losses = _reference(start, end, batches, term, 10, 0.3, momentum, 4)
    problem = ls.Problem(start.to(device), objective, batches)
    curve = bezier(problem, end.state_dict(), term=term, steps=10, lr=0.3, momentum=momentum, seed=4)
    np.testing.assert_allclose(curve.losses, losses, rtol=1e-12)
    for name, p in start.named_parameters():
        to_control, to_end = (axis[name].cpu() for axis in curve.directions.axes)
        there = end.get_parameter(name).detach().cpu()
        torch.testing.assert_close(p.detach().cpu() + to_control, theta[name].detach(), rtol=0, atol=1e-12)
        torch.testing.assert_close(p.detach().cpu() + to_end, there, rtol=0, atol=1e-15)
    assert (curve.directions.kind, curve.directions.seed, curve.directions.normalize) == ("bezier", 4, "none")


def test_the_path_follows_the_formula_from_network_to_network():
    start, end = _net(), _net()
    curve = bezier(ls.Problem(start, objective, _batches()), end, term="ce", steps=3, lr=0.1)
    path = curve.path(5)
    np.testing.assert_allclose(path.xs, [0, 0.25, 0.5, 0.75, 1])
    w1, w2 = (m[0].weight.detach() for m in (start, end))
    theta = w1 + curve.directions.axes[0]["0.weight"]
    for t, point in zip(path.xs, path.coordinates, strict=True):
        found = w1 + sum(c * axis["0.weight"] for c, axis in zip(point, curve.directions.axes, strict=True))
        expected = (1 - t) ** 2 * w1 + 2 * t * (1 - t) * theta + t**2 * w2
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-15)
    assert len(curve.path().xs) == 51
    np.testing.assert_array_equal(path.coordinates[[0, -1]], [[0, 0], [0, 1]])
    places = {name: at.tolist() for name, at in curve.directions.points.items()}
    assert places == {"start": [[0, 0]], "control": [[1, 0]], "end": [[0, 1]]}


def _ring(model, batch):
    """A valley along the circle |w| = 1."""
    radius = model(batch).square().sum()
    return {"ring": ((radius - 1) ** 2).expand(len(batch))}


def test_a_curve_stays_in_a_valley_that_the_straight_line_leaves(device):
    start, end = (nn.Linear(2, 1, bias=False).double() for _ in range(2))
    angle = math.radians(150)
    with torch.no_grad():
        start.weight.copy_(torch.eye(2, dtype=torch.float64)[:1])
        end.weight.copy_(torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64))
    batches = [torch.eye(2, dtype=torch.float64)]
    problem = ls.Problem(start.to(device), _ring, batches)
    curve = bezier(problem, end.to(device), term="ring", steps=300, lr=0.05)
    axes = [{name: d.cpu() for name, d in axis.items()} for axis in curve.directions.axes]

    def barrier(points):
        return max(averages(start, _ring, batches, axes, point)["ring"][0] for point in points)

    straight = barrier([(0, t) for t in np.linspace(0, 1, 51)])
    assert straight == pytest.approx((math.cos(angle / 2) ** 2 - 1) ** 2, rel=1e-12)
    assert barrier(curve.path().coordinates) < straight / 10
    assert curve.losses[-50:].mean() < curve.losses[:50].mean() / 2


def test_the_loss_along_the_curve_is_evaluated_as_on_any_path():
    start, end, batches = _net(), _net(), _batches()
    problem = ls.Problem(start, objective, batches)
    curve = bezier(problem, end, term="ce", steps=5, lr=0.1)
    surface = ls.evaluate(problem, curve.directions, curve.path(5))
    expected = [
        averages(start, objective, batches, curve.directions.axes, p)["ce"][0] for p in curve.path(5).coordinates
    ]
    np.testing.assert_allclose(surface.values("ce"), expected, rtol=1e-12)
    assert surface.values("ce")[-1] == pytest.approx(averages(end, objective, batches, (), ())["ce"][0], rel=1e-12)


def test_training_is_in_train_mode_leaves_everything_as_it_was_and_repeats():
    x, y = images()
    generator = torch.Generator().manual_seed(3)
    data = torch.utils.data.TensorDataset(x, y)
    modes = []

    def watching(model, batch):
        modes.append({m.training for m in model.modules()})
        model.eval()
        return objective(model.train(), batch)

    for loader in (
        torch.utils.data.DataLoader(data, batch_size=8, shuffle=True, generator=generator),
        torch.utils.data.DataLoader(data, batch_size=8, shuffle=True),
    ):
        model, end = HazardNet(), HazardNet()
        before = fingerprint(model, generator), fingerprint(end)
        problem = ls.Problem(model, watching, loader)
        curve = bezier(problem, end, term="ce", steps=7, lr=0.05)
        assert (fingerprint(model, generator), fingerprint(end)) == before
        torch.manual_seed(99)
        with torch.no_grad():
            again = bezier(problem, end, term="ce", steps=7, lr=0.05)
        assert again.directions.sha256 == curve.directions.sha256
        assert np.array_equal(again.losses, curve.losses)
        assert bezier(problem, end, term="ce", steps=7, lr=0.05, seed=1).directions.sha256 != curve.directions.sha256
    assert modes[0] == {True}
    assert all(mode == {True} for mode in modes)


def test_frozen_parameters_keep_to_the_straight_line_and_buffers_to_the_start():
    start, end = HazardNet(), HazardNet()
    curve = bezier(ls.Problem(start, objective, batched(*images())), end, term="ce", steps=4, lr=0.05)
    to_control, to_end = curve.directions.axes
    assert set(to_control) == set(to_end) == dict(start.named_parameters()).keys()
    torch.testing.assert_close(to_control["hidden.weight"], to_end["hidden.weight"] / 2, rtol=1e-6, atol=1e-7)
    assert not torch.allclose(to_control["again.weight"], to_end["again.weight"] / 2, rtol=1e-3)
    assert not any(d.requires_grad for axis in curve.directions.axes for d in axis.values())


def test_a_parameter_that_the_term_does_not_reach_stays_on_the_straight_line():
    start, end = _net(), _net()
    for model in (start, end):
        model[0].unused = nn.Parameter(torch.randn(3).double())
    curve = bezier(ls.Problem(start, objective, _batches()), end, term="ce", steps=2, lr=0.1)
    to_control, to_end = (axis["0.unused"] for axis in curve.directions.axes)
    torch.testing.assert_close(to_control, to_end / 2, rtol=1e-14, atol=1e-15)


def _not_finite(model, batch):
    return {"ce": objective(model, batch)["ce"] * (math.nan if len(batch[0]) < 8 else 1)}


def _another(model, batch):
    return {"ce": torch.ones(len(batch[0]), requires_grad=True) * 2}


@pytest.mark.parametrize(
    ("arguments", "of", "message"),
    [
        ({"steps": 0}, objective, r"steps must be at least 1\. Got 0"),
        ({"lr": 0.0}, objective, r"lr must be finite and above 0\. Got 0\.0"),
        ({"lr": math.nan}, objective, r"lr must be finite and above 0\. Got nan"),
        ({"momentum": 1.0}, objective, r"momentum must be at least 0 and below 1\. Got 1\.0"),
        ({"term": "loss"}, objective, r"term must be among those of the objective: ce, kd, correct\. Got 'loss'"),
        ({"term": "correct"}, objective, r"term 'correct' must be differentiable\. Got one without a gradient"),
        ({}, _another, r"term 'ce' must depend on the model's parameters\. Got one that does not"),
        ({}, _not_finite, r"term 'ce' must be finite\. Got nan in step 2\. Use a smaller lr"),
        ({"end": nn.Linear(2, 2)}, objective, r"end must have the model's tensors only\. Got 'weight'"),
        ({"end": {}}, objective, r"end must have every tensor of the model\. Got no '0\.weight'"),
    ],
)
def test_faulty_arguments_are_named(arguments, of, message):
    problem = ls.Problem(_net(), of, _batches())
    with pytest.raises(ValueError, match=message):
        bezier(problem, **({"end": _net(), "term": "ce", "steps": 3, "lr": 0.1} | arguments))


def test_a_frozen_network_has_no_curve():
    problem = ls.Problem(_net().requires_grad_(False), objective, _batches())
    with pytest.raises(ValueError, match=r"parameters that require gradients\. Got none: all are frozen"):
        bezier(problem, copy.deepcopy(problem.model), term="ce", steps=1, lr=0.1)
