"""Surfaces against closed forms, against a brute-force evaluator, and against an ordinary evaluation loop."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracles import HazardNet, averages, batched, images, objective, plane
from plain import evaluate
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

import landscape as ls
from landscape.directions import Directions
from landscape.results import DONE, NOT_FINITE


class Quadratic(nn.Module):
    """Example n has the loss ``(w - t_n) H (w - t_n) / 2``."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(4, 3, dtype=torch.float64))
        root = torch.randn(12, 12, dtype=torch.float64)
        self.register_buffer("hessian", root @ root.T / 12)

    def forward(self, targets):
        """``[N, 12]`` to ``[N]``."""
        away = self.w.flatten() - targets
        return 0.5 * torch.einsum("ni,ij,nj->n", away, self.hessian, away)


def quadratic(device, n: int = 23) -> tuple[ls.Problem, torch.Tensor]:
    model, targets = Quadratic(), torch.randn(n, 12, dtype=torch.float64)
    return ls.Problem(model.to(device), lambda m, b: {"loss": m(b)}, list(targets.split(5))), targets


def closed_form(problem: ls.Problem, targets: torch.Tensor, directions: Directions, xs, ys) -> np.ndarray:
    """The polynomial in x and y that the mean loss is, ``[ny, nx]``."""
    w, h = (t.detach().cpu().numpy() for t in (problem.model.w.flatten(), problem.model.hessian))
    d, e = (axis["w"].cpu().numpy().ravel() for axis in directions.axes)
    away = w - targets.numpy()
    constant, slope = 0.5 * np.einsum("ni,ij,nj->n", away, h, away).mean(), h @ away.mean(axis=0)
    x, y = np.asarray(xs)[None, :], np.asarray(ys)[:, None]
    bent = 0.5 * (d @ h @ d * x**2 + e @ h @ e * y**2) + d @ h @ e * x * y
    return constant + x * (slope @ d) + y * (slope @ e) + bent


@pytest.mark.parametrize(
    "grid",
    [
        ls.Grid2D(x=(-1, 1, 7), y=(-0.5, 0.5, 5)),
        ls.Grid2D(x=(-0.5, 0.5, 5), y=(-1, 1, 7)),
        ls.Grid2D(x=(-0.25, 1.5, 7), y=(0.5, 2, 5)),
    ],
    ids=["7x5", "5x7", "off-centre"],
)
@pytest.mark.parametrize("normalize", ["filter", "layer", "model", "none"])
def test_every_cell_of_a_quadratic_equals_its_formula(grid, normalize, device):
    problem, targets = quadratic(device)
    directions = ls.directions.random(problem.model, normalize=normalize, seed=2)
    surface = evaluate(problem, directions, grid)
    expected = closed_form(problem, targets, directions, grid.xs, grid.ys)
    assert surface.dims == ("y", "x")
    assert surface.values("loss").shape == (len(surface.y), len(surface.x)) == (grid.y[2], grid.x[2])
    assert surface.values("loss").dtype == np.float64
    np.testing.assert_array_equal(surface.x, grid.xs)
    np.testing.assert_array_equal(surface.y, grid.ys)
    assert np.abs(surface.values("loss") - expected).max() <= 1e-12
    at_zero = closed_form(problem, targets, directions, [0.0], [0.0])[0, 0]
    assert surface.origin["loss"][0] == pytest.approx(at_zero, abs=1e-12)
    assert (surface.status == DONE).all()


def test_a_line_and_a_bundle_of_a_quadratic_equal_their_formulas(device):
    problem, targets = quadratic(device)
    directions = ls.directions.random(problem.model, n=2)
    grid = ls.Grid1D(x=(-0.5, 1, 7))
    expected = np.stack(
        [
            closed_form(problem, targets, directions, grid.xs, [0.0])[0],
            closed_form(problem, targets, directions, [0.0], grid.xs)[:, 0],
        ]
    )
    bundle = evaluate(problem, directions, grid)
    assert (bundle.dims, bundle.y) == (("direction", "x"), None)
    np.testing.assert_allclose(bundle.values("loss"), expected, rtol=0, atol=1e-12)
    line = evaluate(problem, ls.directions.random(problem.model, n=1), grid)
    assert (line.dims, line.y) == (("x",), None)
    np.testing.assert_allclose(line.values("loss"), expected[0], rtol=0, atol=1e-12)


def test_the_standard_error_is_that_of_the_examples(device):
    problem, targets = quadratic(device)
    directions = ls.directions.random(problem.model)
    surface = evaluate(problem, directions, ls.Grid2D(x=(-1, 1, 3), y=(-1, 1, 3)))
    w = problem.model.w.detach().cpu().flatten() + directions.axes[0]["w"].cpu().flatten()
    away = (w - targets).numpy()
    losses = 0.5 * np.einsum("ni,ij,nj->n", away, problem.model.hessian.cpu().numpy(), away)
    assert surface.sem("loss")[1, 2] == pytest.approx(losses.std(ddof=1) / math.sqrt(len(losses)), rel=1e-10)


def plain_loss(model, batches, device) -> float:
    """What a training script would write to report its cross-entropy."""
    model.eval()
    total, n = 0.0, 0
    with torch.no_grad():
        for x, y in batches:
            losses = F.cross_entropy(model(x.to(device)), y.to(device), reduction="none")
            total += losses.double().sum().item()
            n += len(y)
    return total / n


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_origin_is_the_plain_loss_bit_for_bit(dtype, device):
    x, y = images(22)
    batches = batched(x.to(dtype), y, 8)
    model = HazardNet().to(device, dtype)
    problem = ls.Problem(model, objective, batches)
    directions = ls.directions.random(model)
    on = evaluate(problem, directions, ls.Grid2D(x=(-1, 1, 3), y=(-1, 1, 5)))
    off = evaluate(problem, directions, ls.Grid2D(x=(0.5, 1, 2), y=(-1, 1, 3)))
    loss = plain_loss(model, batches, device)
    assert on.values("ce")[2, 1] == on.origin["ce"][0] == off.origin["ce"][0] == loss
    assert on.sem("ce")[2, 1] == on.origin["ce"][1] == off.origin["ce"][1]
    assert 0.0 not in off.x
    assert on.attrs["n_examples"] == 22


def test_an_uneven_last_batch_has_its_exact_weight(device):
    batches = [torch.zeros(9), torch.ones(1)]
    problem = ls.Problem(nn.Linear(1, 1).to(device), lambda m, b: {"mean": b}, batches)
    surface = evaluate(problem, ls.directions.random(problem.model), ls.Grid2D(x=(-1, 1, 3), y=(-1, 1, 3)))
    assert (surface.values("mean") == 0.1).all()
    np.testing.assert_allclose(surface.sem("mean"), 0.1, rtol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_network_with_every_hazard_equals_the_brute_force_evaluator(dtype, device):
    x, y = images(22)
    batches = batched(x.to(dtype), y, 8)
    model = HazardNet().to(dtype)
    directions = ls.directions.random(model, ignore="none", seed=1)
    grid = ls.Grid2D(x=(-0.5, 1, 4), y=(-1, 1, 3))
    expected = plane(model, objective, batches, directions.axes, grid.xs, grid.ys)
    on_device = model.to(device)
    surface = evaluate(ls.Problem(on_device, objective, batches), directions, grid)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    for term, (means, sems) in expected.items():
        np.testing.assert_allclose(surface.values(term), means, rtol=tolerance)
        np.testing.assert_allclose(surface.sem(term), sems, rtol=max(tolerance, 1e-9))


class _Small(nn.Module):
    def __init__(self, sizes, norm, tied):
        super().__init__()
        layers = []
        for a, b in pairwise(sizes):
            layers += [nn.Linear(a, b), *([nn.BatchNorm1d(b)] if norm else []), nn.Tanh()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(sizes[-1], 3)
        if tied:
            self.twin = nn.Linear(sizes[-1], 3)
            self.twin.weight = self.head.weight
        self.double()
        self(torch.randn(9, sizes[0], dtype=torch.float64))

    def forward(self, x):
        z = self.body(x)
        return self.head(z) + (self.twin(z) if hasattr(self, "twin") else 0)


axis = st.one_of(
    st.tuples(st.floats(0.1, 2), st.integers(1, 2)).map(lambda a: (-a[0], a[0], 2 * a[1] + 1)),
    st.tuples(st.floats(-1, 0), st.floats(0.3, 2), st.integers(2, 4)).filter(lambda a: a[0] != -a[1]),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    norm=st.booleans(),
    tied=st.booleans(),
    n=st.integers(1, 17),
    batch=st.integers(1, 7),
    x=axis,
    y=axis,
    normalize=st.sampled_from(["filter", "layer", "model", "none"]),
    ignore=st.sampled_from(["biasbn", "none"]),
    seed=st.integers(0, 2**31),
)
def test_any_small_network_equals_the_brute_force_evaluator(
    device, sizes, norm, tied, n, batch, x, y, normalize, ignore, seed
):
    torch.manual_seed(seed)
    model = _Small(sizes, norm, tied)
    batches = batched(torch.randn(n, sizes[0], dtype=torch.float64), torch.randint(0, 3, (n,)), batch)
    directions = ls.directions.random(model, normalize=normalize, ignore=ignore, seed=seed)
    grid = ls.Grid2D(x, y)
    expected = plane(model, objective, batches, directions.axes, grid.xs, grid.ys)
    surface = evaluate(ls.Problem(model.to(device), objective, batches), directions, grid)
    for term, (means, sems) in expected.items():
        np.testing.assert_allclose(surface.values(term), means, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(surface.sem(term), sems, rtol=1e-7, atol=1e-9)
        if (grid.xs == 0).any() and (grid.ys == 0).any():
            zero = int(np.flatnonzero(grid.ys == 0)[0]), int(np.flatnonzero(grid.xs == 0)[0])
            assert surface.values(term)[zero] == surface.origin[term][0]


def _loader(x, y, **options):
    return DataLoader(TensorDataset(x, y), batch_size=8, **options)


@pytest.mark.parametrize("kind", ["list", "loader", "shuffling", "own generator", "sampler's generator"])
def test_the_same_call_gives_the_same_numbers(kind, device):
    data = images(22)
    batches = {
        "list": lambda: batched(*data),
        "loader": lambda: _loader(*data),
        "shuffling": lambda: _loader(*data, shuffle=True),
        "own generator": lambda: _loader(*data, shuffle=True, generator=torch.Generator().manual_seed(1)),
        "sampler's generator": lambda: _loader(
            *data, sampler=RandomSampler(data[1], generator=torch.Generator().manual_seed(1))
        ),
    }[kind]()
    model = HazardNet().to(device)

    def noisy(m, batch):
        terms = objective(m, batch)
        return terms | {"noise": torch.randn(len(terms["ce"])), "numpy": torch.from_numpy(np.random.rand(4))}

    problem = ls.Problem(model, noisy, batches)
    directions, grid = ls.directions.random(model), ls.Grid2D(x=(-1, 1, 3), y=(-1, 1, 3))
    first = evaluate(problem, directions, grid)
    torch.manual_seed(1234)
    np.random.seed(1234)
    torch.rand(10)
    second = evaluate(problem, directions, grid)
    assert first.attrs["data_sha256"] == second.attrs["data_sha256"]
    for term in first.terms:
        np.testing.assert_array_equal(first.values(term), second.values(term))
        np.testing.assert_array_equal(first.sem(term), second.sem(term))
    assert first.origin == second.origin


def test_each_cell_costs_one_pass_over_the_data_and_the_origin_two():
    calls = []
    problem = ls.Problem(HazardNet(), lambda m, b: calls.append(1) or objective(m, b), batched(*images(22)))
    evaluate(problem, ls.directions.random(problem.model), ls.Grid2D(x=(-1, 1, 5), y=(-1, 1, 3)))
    assert len(calls) == (14 + 2) * 3 + 1  # the second pass at the origin finds what is not steady; a batch is kept


def test_running_statistics_are_not_perturbed(device):
    seen = []

    def watching(m, batch):
        seen.append((m.norm.running_mean.clone(), m.norm.running_var.clone(), m.norm.num_batches_tracked.clone()))
        assert not any(module.training for module in m.modules())
        return objective(m, batch)

    model = HazardNet().to(device)
    problem = ls.Problem(model, watching, batched(*images()))
    surface = evaluate(problem, ls.directions.random(model, ignore="none"), ls.Grid2D((-9, 9, 3), (-9, 9, 3)))
    assert all(torch.equal(a, b) for s in seen for a, b in zip(s, model.norm.buffers(), strict=True))
    assert (surface.status == DONE).all()


class _Log(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(1, 1))


def test_cells_that_are_not_finite_are_results():
    """The term is log(1 + 2 x) around a weight of 1: not a number for x < -1/2, minus infinity at -1/2."""
    model = _Log().double()
    axes = ({"w": torch.full((1, 1), 2.0, dtype=torch.float64)},)
    problem = ls.Problem(model, lambda m, b: {"log": m.w.log().flatten().expand(len(b)), "one": b}, [torch.ones(3)])
    line = evaluate(problem, Directions(axes, "none", "none"), ls.Grid1D(x=(-1, 1, 5)))
    with np.errstate(invalid="ignore", divide="ignore"):
        np.testing.assert_allclose(line.values("log"), np.log(1 + 2 * line.x), rtol=1e-15)
    assert list(line.status) == [NOT_FINITE, NOT_FINITE, DONE, DONE, DONE]
    assert (line.values("one") == 1).all()
    assert line.complete


def test_unperturbed_weights_that_are_not_finite_are_an_error(tmp_path):
    model = _Log()
    with torch.no_grad():
        model.w.fill_(-1)
    problem = ls.Problem(model, lambda m, b: {"log": m.w.log().flatten()}, [torch.ones(1)])
    with pytest.raises(ValueError, match=r"term 'log' must be finite at the unperturbed weights\. Got nan"):
        evaluate(problem, ls.directions.random(model), ls.Grid2D((-1, 1, 3), (-1, 1, 3)), out=tmp_path / "s.h5")
    assert list(tmp_path.iterdir()) == []


def test_terms_may_have_their_own_numbers_of_examples():
    problem = ls.Problem(nn.Linear(2, 2), lambda m, b: {"tokens": b.flatten(), "first": b[:, 0]}, [torch.rand(4, 3)])
    surface = evaluate(problem, ls.directions.random(problem.model), ls.Grid2D((-1, 1, 3), (-1, 1, 3)))
    assert surface.attrs["n_examples"] == {"tokens": 12, "first": 4}


@pytest.mark.parametrize("missing_at", ["the origin", "a cell"])
def test_terms_that_come_and_go_are_refused_by_name(missing_at):
    """A cell without a value must not be called done."""
    calls = []

    def fickle(m, b):
        calls.append(1)
        there = len(calls) > 1 if missing_at == "the origin" else len(calls) != 4
        return {"a": b} | ({"late": b} if there else {})

    problem = ls.Problem(nn.Linear(2, 2), fickle, [torch.ones(3)])
    with pytest.raises(ValueError, match="late"):
        evaluate(problem, ls.directions.random(problem.model), ls.Grid2D((-1, 1, 3), (-1, 1, 3)))


@pytest.mark.parametrize("at", [0, 1])
def test_an_empty_batch_counts_for_nothing(at):
    batches = [torch.rand(3), torch.rand(4)]
    problem = ls.Problem(nn.Linear(2, 2), lambda m, b: {"a": b}, [*batches[:at], torch.ones(0), *batches[at:]])
    surface = evaluate(problem, ls.directions.random(problem.model), ls.Grid2D((-1, 1, 3), (-1, 1, 3)))
    values = torch.cat(batches).double().numpy()
    np.testing.assert_allclose(surface.values("a"), values.mean(), rtol=1e-14)
    np.testing.assert_allclose(surface.sem("a"), values.std(ddof=1) / math.sqrt(7), rtol=1e-10)


def test_a_single_example_has_no_standard_error():
    problem = ls.Problem(nn.Linear(2, 2), lambda m, b: {"a": b}, [torch.ones(1)])
    surface = evaluate(problem, ls.directions.random(problem.model), ls.Grid2D((-1, 1, 3), (-1, 1, 3)))
    assert np.isnan(surface.sem("a")).all()
    assert (surface.status == DONE).all()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (nn.Sequential(nn.Linear(3, 2)), "must belong to the model. Got '0.weight', which the model does not have"),
        (nn.Linear(4, 2), r"direction of 'weight' must have the parameter's shape \[2, 3\]. Got \[2, 4\]"),
    ],
)
def test_directions_of_another_network_are_refused_by_name(other, message, tmp_path):
    problem = ls.Problem(nn.Linear(3, 2), objective, batched(torch.randn(4, 3), torch.ones(4).long()))
    with pytest.raises(ValueError, match=message):
        evaluate(problem, ls.directions.random(other), ls.Grid2D((-1, 1, 3), (-1, 1, 3)), out=tmp_path / "s.h5")
    assert list(tmp_path.iterdir()) == []


def test_a_plane_needs_two_directions():
    problem = ls.Problem(nn.Linear(3, 2), objective, batched(torch.randn(4, 3), torch.ones(4).long()))
    with pytest.raises(ValueError, match=r"Grid2D needs two directions\. Got 1"):
        evaluate(problem, ls.directions.random(problem.model, n=1), ls.Grid2D((-1, 1, 3), (-1, 1, 3)))


def test_a_term_that_is_not_there_is_named():
    problem = ls.Problem(nn.Linear(3, 2), objective, batched(torch.randn(4, 3), torch.ones(4).long()))
    surface = evaluate(problem, ls.directions.random(problem.model), ls.Grid2D((-1, 1, 3), (-1, 1, 3)))
    assert surface.terms == ("ce", "kd", "correct")
    for read in (surface.values, surface.sem):
        with pytest.raises(KeyError, match=r"one of ce, kd, correct\. Got 'loss'"):
            read("loss")
    assert repr(surface) == "<Surface y 3 x x 3: ce, kd, correct; 9 of 9 cells done>"


def test_a_frozen_parameter_moves_like_any_other(device):
    model, (x, y) = HazardNet().double(), images()
    assert not model.hidden.weight.requires_grad
    only = Directions(({"hidden.weight": torch.ones_like(model.hidden.weight.detach())},), "none", "none")
    expected = averages(model, objective, batched(x.double(), y), only.axes, (0.1,))
    line = evaluate(ls.Problem(model.to(device), objective, batched(x.double(), y)), only, ls.Grid1D((0, 0.1, 2)))
    assert line.values("ce")[1] == pytest.approx(expected["ce"][0], rel=1e-12)
    assert line.values("ce")[1] != line.values("ce")[0]


@pytest.mark.parametrize("kind", ["own generator", "augmentation that goes on"])
def test_data_that_change_from_pass_to_pass_are_refused(kind):
    generator, count = torch.Generator().manual_seed(0), iter(range(1000))

    def batches():
        if kind == "own generator":
            return [(torch.randn(4, 3, generator=generator), torch.arange(4) % 2)]
        return [(torch.full((4, 3), float(next(count))), torch.arange(4) % 2)]

    problem = ls.Problem.from_loss(torch.nn.Linear(3, 2), {"ce": torch.nn.CrossEntropyLoss(reduction="none")}, batches)
    with pytest.raises(ValueError, match="batches must be the same at every pass"):
        evaluate(problem, ls.directions.random(problem.model, n=1), ls.Grid1D((-1, 1, 3)))


def test_an_objective_that_uses_another_model_is_warned_of():
    model, data = torch.nn.Linear(3, 2), [torch.randn(4, 3)]
    problem = ls.Problem(model, lambda m, x: {"a": model(x).sum(1)}, data)
    with pytest.warns(UserWarning, match="does the objective use the model that it is given"):
        evaluate(problem, ls.directions.random(model, n=1), ls.Grid1D((-1, 1, 3)))
