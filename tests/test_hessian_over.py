"""Curvature over surfaces and training runs: every cell against a dense matrix, and files that resume."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

import landscape as ls
from landscape import hessian, wholeness
from landscape.results import DONE, NOT_FINITE, PENDING
from tests import oracles
from tests.oracles import HazardNet, batched, fingerprint, images, objective

GRID = ls.Grid2D(x=(-1, 1, 3), y=(-0.5, 1, 2))
LINE = ls.Grid1D(x=(-1, 1, 3))
TERMS = ("smallest", "largest", "ratio")


def hazard():
    torch.manual_seed(4)
    x, y = images()
    return ls.Problem(HazardNet().double(), objective, batched(x.double(), y))


def plane(problem):
    return ls.directions.random(problem.model, n=2, seed=1)


def moved(problem, axes, point):
    """A copy of the model at a point."""
    twin = copy.deepcopy(problem.model)
    state = dict([*twin.named_parameters(), *twin.named_buffers()])
    for axis, coordinate in zip(axes, point, strict=True):
        for name, d in axis.items():
            state[name].data += coordinate * d
    return twin


def eigenvalues(problem, model):
    return np.linalg.eigvalsh(oracles.hessian(model, problem.objective, problem.batches, "ce"))


class Stop(Exception):
    pass


class Stopping:
    """An objective that ends the process, so to speak, after so many calls."""

    def __init__(self, calls):
        self.left = calls

    def __call__(self, model, batch):
        self.left -= 1
        if self.left < 0:
            raise Stop
        return objective(model, batch)


def test_every_cell_has_the_ends_of_its_dense_matrix(device):
    problem = hazard()
    directions = plane(problem)
    model = copy.deepcopy(problem.model).to(device)
    on_device = ls.Problem(model, objective, problem.batches)
    found = hessian.over(on_device, directions, GRID, "ce", tolerance=1e-9, max_products=500)
    assert found.terms == TERMS
    assert (found.status == DONE).all()
    cells = [((j, i), (x, y)) for j, y in enumerate(GRID.ys) for i, x in enumerate(GRID.xs)]
    for index, point in cells:
        values = eigenvalues(problem, moved(problem, directions.axes, point))
        scale = abs(values).max()
        assert found.values("smallest")[index] == pytest.approx(values[0], abs=1e-8 * scale)
        assert found.values("largest")[index] == pytest.approx(values[-1], abs=1e-8 * scale)
        assert found.values("ratio")[index] == pytest.approx(abs(values[0] / values[-1]), abs=1e-7)
    values = eigenvalues(problem, problem.model)
    for name, value in (("smallest", values[0]), ("largest", values[-1])):
        assert found.origin[name][0] == pytest.approx(value, abs=1e-8 * abs(values).max())
    assert found.attrs["n_examples"] == 22


def test_errors_bound_what_is_off():
    problem = hazard()
    directions = ls.directions.random(problem.model, n=2, seed=1)
    found = hessian.over(problem, directions, LINE, "ce", tolerance=0.05)
    assert found.dims == ("direction", "x")
    for line, axis in enumerate(directions.axes):
        for i, x in enumerate(LINE.xs):
            values = eigenvalues(problem, moved(problem, [axis], [x]))
            scale = abs(values).max()
            for name in ("smallest", "largest"):
                assert abs(values - found.values(name)[line, i]).min() <= found.sem(name)[line, i] + 1e-13
                assert found.sem(name)[line, i] <= 0.051 * scale
            ratio = found.values("ratio")[line, i]
            worst = max(
                abs(abs(small / large) - ratio)
                for small in found.values("smallest")[line, i] + np.array([-1, 1]) * found.sem("smallest")[line, i]
                for large in found.values("largest")[line, i] + np.array([-1, 1]) * found.sem("largest")[line, i]
            )
            assert worst <= found.sem("ratio")[line, i] * (1 + 1e-9)


def test_a_resumed_file_is_that_of_one_go(tmp_path):
    problem = hazard()
    directions = plane(problem)
    calls = Stopping(10**9)
    one_go = hessian.over(
        ls.Problem(problem.model, calls, problem.batches), directions, GRID, "ce", out=tmp_path / "a.h5"
    )
    needed = 10**9 - calls.left
    path = tmp_path / "b.h5"
    stopping = ls.Problem(problem.model, Stopping(int(0.6 * needed)), problem.batches)
    with pytest.raises(Stop):
        hessian.over(stopping, directions, GRID, "ce", out=path)
    half = ls.load(path)
    assert 0 < (half.status == PENDING).sum() < half.status.size
    calls.left = 10**9
    done = half.status == DONE
    np.testing.assert_array_equal(half.values("largest")[done], one_go.values("largest")[done])
    resumed = hessian.over(ls.Problem(problem.model, calls, problem.batches), directions, GRID, "ce", out=path)
    assert 10**9 - calls.left < 0.75 * needed
    stored, in_memory = ls.load(path), hessian.over(problem, directions, GRID, "ce")
    for name in TERMS:
        for other in (resumed, stored, in_memory):
            np.testing.assert_array_equal(one_go.values(name), other.values(name))
            np.testing.assert_array_equal(one_go.sem(name), other.sem(name))
            assert one_go.origin[name] == other.origin[name]
    assert not wholeness.faults(path)
    assert stored.attrs["data_sha256"] == one_go.attrs["data_sha256"]


def test_a_finished_file_is_returned(tmp_path):
    problem = hazard()
    path = tmp_path / "c.h5"
    first = hessian.over(problem, plane(problem), GRID, "ce", out=path)
    bytes_before = path.read_bytes()
    calls = Stopping(len(problem.batches))  # a single pass, to compare the objective
    again = hessian.over(ls.Problem(problem.model, calls, problem.batches), plane(problem), GRID, "ce", out=path)
    np.testing.assert_array_equal(first.values("ratio"), again.values("ratio"))
    assert path.read_bytes() == bytes_before


def test_a_file_of_another_measurement_is_refused(tmp_path):
    problem = hazard()
    path = tmp_path / "c.h5"
    directions = ls.directions.random(problem.model, n=1)
    hessian.over(problem, directions, LINE, "ce", out=path)
    other = ls.Problem(HazardNet().double(), objective, problem.batches)
    shorter = ls.Problem(problem.model, objective, problem.batches[:2])
    softer = ls.Problem(problem.model, lambda m, b: {"ce": objective(m, b)["ce"] * 0.5}, problem.batches)
    for of, options, message in (
        (other, {}, "checkpoint_sha256"),
        (shorter, {}, "data_sha256"),
        (softer, {}, "over the first batch it has"),
        (problem, {"kind": "gauss-newton"}, "matrix"),
        (problem, {"tolerance": 0.1}, "tolerance"),
        (problem, {"parameters": ["mix"]}, "parameters"),
        (problem, {"grid": ls.Grid1D(x=(-1, 1, 5))}, "x"),
        (problem, {"directions": ls.directions.random(problem.model, n=1, seed=5)}, "directions_sha256"),
    ):
        arguments = {"directions": directions, "grid": LINE, "term": "ce", "out": path} | options
        with pytest.raises(ValueError, match=message):
            hessian.over(of, **arguments)
    with pytest.raises(ValueError, match=r"Got a file that differs|it has"):
        ls.evaluate(problem, directions, LINE, out=path)


def test_cells_that_are_not_finite_are_kept_as_such(tmp_path):
    problem = hazard()
    huge = {"mix": torch.full_like(problem.model.mix, 1e308) * problem.model.mix.detach().sign()}  # logits overflow
    directions = ls.directions.from_tensors(problem.model, huge, partial=True)
    found = hessian.over(problem, directions, LINE, "ce", out=tmp_path / "d.h5")
    assert found.status.tolist() == [NOT_FINITE, DONE, NOT_FINITE]
    assert np.isnan(found.values("largest")).tolist() == [True, False, True]
    assert not wholeness.faults(tmp_path / "d.h5")


def test_directions_may_move_buffers_and_frozen_weights():
    problem = hazard()
    end = HazardNet().double()
    directions = ls.directions.interpolation(problem.model, end)
    assert {"norm.running_mean", "hidden.weight"} <= set(directions.axes[0])
    found = hessian.over(problem, directions, ls.Grid1D(x=(0, 1, 2)), "ce", tolerance=1e-9, max_products=500)
    for i, model in enumerate((problem.model, end)):
        model.hidden.weight.requires_grad_(False)
        values = eigenvalues(problem, model)
        assert found.values("largest")[i] == pytest.approx(values[-1], rel=1e-6)
        assert found.values("smallest")[i] == pytest.approx(values[0], abs=1e-6 * abs(values).max())


def test_cells_that_are_given_up_are_told():
    problem = hazard()
    directions = ls.directions.random(problem.model, n=1)
    with pytest.warns(UserWarning, match=r"3 of 3 cells were given up after 3 products: see their residuals"):
        found = hessian.over(problem, directions, LINE, "ce", tolerance=1e-6, max_products=3)
    assert (found.sem("largest") > 1e-6).all()


def test_cells_that_an_earlier_call_has_given_up_are_told_too(tmp_path):
    problem, out = hazard(), tmp_path / "cells.h5"
    directions = ls.directions.random(problem.model, n=1)
    scarce = {"tolerance": 1e-6, "max_products": 3, "out": out}
    calls = Stopping(10**9)
    with pytest.warns(UserWarning, match="3 of 3 cells"):
        hessian.over(ls.Problem(problem.model, calls, problem.batches), directions, LINE, "ce", **scarce)
    out.unlink()
    calls = Stopping(int(0.8 * (10**9 - calls.left)))
    with pytest.raises(Stop):
        hessian.over(ls.Problem(problem.model, calls, problem.batches), directions, LINE, "ce", **scarce)
    assert 0 < (ls.load(out).status == PENDING).sum() < 3
    for _ in range(2):  # resumed, then finished
        with pytest.warns(UserWarning, match=r"3 of 3 cells were given up after 3 products"):
            hessian.over(problem, directions, LINE, "ce", **scarce)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-6])
def test_cells_within_the_tolerance_are_not_called_given_up(tolerance, recwarn):
    problem = hazard()
    for model in (problem.model, copy.deepcopy(problem.model).float()):
        batches = [tuple(p.to(model.mix.dtype) if p.is_floating_point() else p for p in b) for b in problem.batches]
        here = ls.Problem(model, objective, batches)
        hessian.over(here, ls.directions.random(model, n=1), LINE, "ce", tolerance=tolerance, max_products=300)
    assert not [w for w in recwarn if "given up" in str(w.message)]


def test_everything_is_left_as_it_was():
    problem = hazard()
    directions, other = plane(problem), HazardNet().state_dict()
    before = fingerprint(problem.model)
    hessian.over(problem, directions, GRID, "ce")
    hessian.over_checkpoints(problem, [other], "ce")
    assert fingerprint(problem.model) == before


def test_wrong_arguments_are_refused():
    problem = hazard()
    with pytest.raises(ValueError, match=r"Grid2D needs two directions\. Got 1"):
        hessian.over(problem, ls.directions.random(problem.model, n=1), GRID, "ce")
    with pytest.raises(ValueError, match=r"directions must belong to the model\. Got 'mix'"):
        hessian.over(ls.Problem(nn.Linear(2, 2), objective, [0]), plane(problem), GRID, "ce")
    with pytest.raises(ValueError, match=r"tolerance must be at least 0 and below 1\. Got 2"):
        hessian.over(problem, plane(problem), GRID, "ce", tolerance=2)


# Training runs


def test_checkpoints_have_the_ends_of_their_dense_matrices(tmp_path):
    problem = hazard()
    run = [HazardNet().double() for _ in range(3)]
    torch.save(run[2].state_dict(), tmp_path / "last.pt")
    found = hessian.over_checkpoints(
        problem, [run[0], run[1].state_dict(), tmp_path / "last.pt"], "ce", tolerance=1e-9, max_products=500
    )
    assert found.converged.all()
    for i, model in enumerate(run):
        values = eigenvalues(problem, model)
        scale = abs(values).max()
        assert found.smallest[i] == pytest.approx(values[0], abs=1e-8 * scale)
        assert found.largest[i] == pytest.approx(values[-1], abs=1e-8 * scale)
        assert max(found.smallest_residual[i], found.largest_residual[i]) <= 1.01e-9 * scale


def test_a_checkpoint_without_buffers_has_the_models():
    problem = hazard()
    other = HazardNet().double()
    weights = dict(other.named_parameters())
    both = hessian.over_checkpoints(problem, [other, weights], "ce", tolerance=1e-9, max_products=500)
    twin = copy.deepcopy(problem.model)
    twin.load_state_dict({name: t.detach() for name, t in weights.items()}, strict=False)
    values = eigenvalues(problem, twin)
    assert both.largest[1] == pytest.approx(values[-1], rel=1e-7)
    assert both.largest[0] != pytest.approx(values[-1], rel=1e-3)


def test_a_checkpoint_that_does_not_fit_is_named():
    problem = hazard()
    wrong = HazardNet().double().state_dict() | {"mix": torch.zeros(2)}
    with pytest.warns(UserWarning, match=r"1 of 1 checkpoints were given up after 3 products: see their residuals"):
        hessian.over_checkpoints(problem, [problem.model], "ce", tolerance=1e-6, max_products=3)
    with pytest.raises(ValueError, match=r"'mix' of checkpoint 1 must have the shape \[8, 3\]\. Got \[2\]"):
        hessian.over_checkpoints(problem, [problem.model, wrong], "ce")
    with pytest.raises(TypeError, match=r"checkpoints must be a sequence, such as a list\. Got generator"):
        hessian.over_checkpoints(problem, (m for m in [problem.model]), "ce")
    lost = HazardNet().double()
    lost.norm.running_var.fill_(math.nan)
    found = hessian.over_checkpoints(problem, [lost, problem.model], "ce")
    assert np.isnan(found.largest).tolist() == [True, False]
