"""Eigenpairs against dense matrices, of small networks and of matrices that are known by heart."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import eigsh
from torch import nn

import landscape as ls
from landscape.hessian.thick_restart import extreme, room
from tests import oracles
from tests.oracles import HazardNet, batched, fingerprint, images, objective

ORDERED = {"LA": lambda v: np.argsort(-v), "SA": np.argsort, "LM": lambda v: np.argsort(-abs(v))}


def hazard(device=None):
    x, y = images()
    return ls.Problem(HazardNet().double().to(device), objective, batched(x.double(), y))


def cross_entropy(model, batch):
    return {"ce": F.cross_entropy(model(batch[0]), batch[1], reduction="none")}


def small(network=None):
    network = network or nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))  # 31 parameters
    x, y = torch.randn(11, 3, dtype=torch.float64), torch.arange(11) % 3
    return ls.Problem(network.double(), cross_entropy, batched(x, y, 6))


def dense(problem, term="ce"):
    return oracles.hessian(problem.model, problem.objective, problem.batches, term)


def flat(vector):
    return torch.cat([t.reshape(-1) for t in vector.values()]).cpu().numpy()


# The whole network


@pytest.mark.parametrize("which", ORDERED)
@pytest.mark.parametrize("make", [hazard, small])
def test_eigenpairs_are_those_of_the_dense_matrix(make, which, device):
    problem = make()
    matrix = dense(problem)
    values, vectors = np.linalg.eigh(matrix)
    best = ORDERED[which](values)[:4]
    assert (values < -0.01 * values.max()).any()  # a saddle
    on_device = ls.Problem(problem.model.to(device), problem.objective, problem.batches)
    found = ls.hessian.eigenpairs(on_device, "ce", 4, which, tolerance=1e-9)
    assert found.converged
    np.testing.assert_allclose(found.values, values[best], rtol=1e-8)
    for value, residual, vector, expected in zip(
        found.values, found.residuals, found.vectors, vectors[:, best].T, strict=True
    ):
        v = flat(vector)
        assert np.linalg.norm(v) == pytest.approx(1, abs=1e-12)
        assert v[np.abs(v).argmax()] > 0
        assert abs(v @ expected) == pytest.approx(1, abs=1e-6)
        assert residual == pytest.approx(np.linalg.norm(matrix @ v - value * v), abs=1e-13)
        assert residual <= 1e-9 * max(abs(value), 1e-3 * abs(values).max()) * 1.01 + 1e-13
        assert {n: t.shape for n, t in vector.items()} == {
            n: p.shape for n, p in problem.model.named_parameters() if p.requires_grad
        }


def test_an_eigenvalue_lies_within_the_residual():
    problem = hazard()
    values = np.linalg.eigvalsh(dense(problem))
    for tolerance in (0.3, 1e-2, 1e-3):
        found = ls.hessian.eigenpairs(problem, "ce", 3, tolerance=tolerance)
        for value, residual in zip(found.values, found.residuals, strict=True):
            assert np.abs(values - value).min() <= residual + 1e-14
        assert (found.residuals <= tolerance * np.abs(found.values) * 1.01).all()


def test_products_are_counted():
    calls = []

    def counted(model, batch):
        calls.append(1)
        return cross_entropy(model, batch)

    problem = small()
    found = ls.hessian.eigenpairs(ls.Problem(problem.model, counted, problem.batches), k=2)
    tight = ls.hessian.eigenpairs(problem, k=2, tolerance=1e-9)
    assert len(calls) == len(problem.batches) * (found.products - 1)  # the residuals' two share their passes
    assert found.products < tight.products


def test_a_search_that_is_given_up_tells_what_it_has():
    problem = hazard()
    values = np.linalg.eigvalsh(dense(problem))
    with pytest.warns(UserWarning, match=r"the search for 3 eigenpairs was given up after 6 products.*max_products"):
        found = ls.hessian.eigenpairs(problem, "ce", 3, tolerance=1e-9, max_products=6)
    assert not found.converged
    assert found.products == 6 + 3
    for value, residual in zip(found.values, found.residuals, strict=True):
        assert np.abs(values - value).min() <= residual
    assert found.residuals.max() > 1e-9


@pytest.mark.parametrize("kind", ["gauss-newton", "empirical-fisher"])
def test_other_kinds_have_no_negative_eigenvalue(kind):
    problem = small()
    found = ls.hessian.eigenpairs(problem, k=31, which="SA", kind=kind)  # made whole
    assert found.kind == kind
    matrix = ls.hessian.operator(problem, kind=kind) @ np.eye(31)
    np.testing.assert_allclose(found.values, np.linalg.eigvalsh(matrix), atol=1e-14)
    assert found.values[0] > -1e-14


def test_the_same_call_gives_the_same_and_changes_nothing():
    x, y = images()
    model = HazardNet()
    problem = ls.Problem(model, objective, batched(x, y))
    before = fingerprint(model)
    first, again = (ls.hessian.eigenpairs(problem, "ce", 2) for _ in range(2))
    other = ls.hessian.eigenpairs(problem, "ce", 2, seed=1)
    assert fingerprint(model) == before
    np.testing.assert_array_equal(first.values, again.values)
    assert all(torch.equal(a[n], b[n]) for a, b in zip(first.vectors, again.vectors, strict=True) for n in a)
    assert (first.values != other.values).all()
    np.testing.assert_allclose(first.values, other.values, rtol=1e-3)


def test_differences_give_the_same_values():
    problem = hazard()
    values = np.linalg.eigvalsh(dense(problem))[::-1]
    found = ls.hessian.eigenpairs(problem, "ce", 2, tolerance=1e-5, differences=True)
    np.testing.assert_allclose(found.values, values[:2], rtol=1e-5)


def test_double_precision_is_asked_for():
    problem = ls.Problem(HazardNet(), objective, batched(*images()))
    twin = copy.deepcopy(problem.model).double()
    values = np.linalg.eigvalsh(oracles.hessian(twin, objective, [(x.double(), y) for x, y in problem.batches], "ce"))
    found = ls.hessian.eigenpairs(problem, "ce", 1, tolerance=1e-10, precision="float64")
    assert found.values[0] == pytest.approx(values[-1], rel=1e-8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"which": "BE"}, r"which must be one of LA, SA, LM\. Got 'BE'"),
        ({"k": 0}, r"k must be from 1 to 31, the number of parameters\. Got 0"),
        ({"k": 32}, r"k must be from 1 to 31, the number of parameters\. Got 32"),
        ({"tolerance": 1.0}, r"tolerance must be at least 0 and below 1\. Got 1\.0"),
        ({"max_products": 4}, r"max_products must be at least 5, the number of eigenpairs\. Got 4"),
        ({"seed": -1}, r"seed must be 0 or more\. Got -1"),
        ({"kind": "fisher"}, r"kind must be one of hessian, gauss-newton, empirical-fisher"),
        ({"term": "kd"}, r"term must be among those of the objective: ce\. Got 'kd'"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ls.hessian.eigenpairs(small(), **options)


def test_a_surface_along_eigenvectors_has_their_curvature():
    problem = hazard()
    found = ls.hessian.eigenpairs(problem, "ce", 2, tolerance=1e-9)
    drawn = found.directions(problem.model)
    assert (len(drawn), drawn.kind, drawn.normalize) == (2, "eigenvectors", "none")
    h = 1e-3
    surface = ls.evaluate(problem, drawn, ls.Grid1D(x=(-h, h, 3)))
    low, middle, high = surface.values("ce").T
    np.testing.assert_allclose((low - 2 * middle + high) / h**2, found.values, rtol=1e-4)
    scaled = found.directions(problem.model, normalize="model").axes[0]
    weights = torch.cat([p.reshape(-1) for p in problem.model.parameters() if p.requires_grad])
    assert np.linalg.norm(flat(scaled)) == pytest.approx(weights.norm().item(), rel=1e-12)
    block = ls.hessian.eigenpairs(problem, "ce", 1, parameters=["mix"]).directions(problem.model)
    assert list(block.axes[0]) == ["mix"]


def test_it_is_said_in_a_line():
    said = str(ls.hessian.eigenpairs(small(), k=2))
    assert "within" in said
    assert said.endswith("products")


# Blocks


@pytest.mark.parametrize("by", ["layer", "parameter"])
def test_blocks_are_those_of_the_dense_matrix(by):
    problem = hazard()
    matrix = dense(problem)
    found = ls.hessian.blocks(problem, "ce", k=2, by=by, tolerance=1e-10)
    parts, start = {}, 0
    for name, p in problem.model.named_parameters():
        if p.requires_grad:
            part = name if by == "parameter" else name.rpartition(".")[0] or "(root)"
            parts.setdefault(part, []).extend(range(start, start + p.numel()))
            start += p.numel()
    assert list(found) == list(parts)
    whole = np.linalg.eigvalsh(matrix)[-1]
    for part, at in parts.items():
        values = np.linalg.eigvalsh(matrix[np.ix_(at, at)])[::-1]
        np.testing.assert_allclose(found[part].values, values[:2], rtol=1e-8, atol=1e-12 * whole)
        assert found[part].values[0] <= whole


def test_a_layer_that_the_term_does_not_depend_on_has_no_block():
    problem = small()
    problem.model.unused = nn.Linear(2, 2)  # after the last layer of the forward pass below
    of = ls.Problem(problem.model, lambda m, b: cross_entropy(m[:3], b), problem.batches)
    assert list(ls.hessian.blocks(of)) == ["0", "2"]
    with pytest.raises(ValueError, match=r"term must be among those of the objective: ce\. Got 'kd'"):
        ls.hessian.blocks(of, "kd")
    none = ls.Problem(problem.model, lambda m, b: {"ce": torch.ones(len(b[0]), requires_grad=True) * 2}, of.batches)
    with pytest.raises(ValueError, match=r"term 'ce' must depend on the model's parameters"):
        ls.hessian.blocks(none)


# The operator


def test_the_operator_is_the_dense_matrix(device):
    problem = small()
    matrix = dense(problem)
    found = ls.hessian.operator(ls.Problem(problem.model.to(device), problem.objective, problem.batches))
    assert (found.shape, found.dtype) == ((31, 31), np.float64)
    rng = np.random.default_rng(0)
    one, several = rng.standard_normal(31), rng.standard_normal((31, 3))
    np.testing.assert_allclose(found @ one, matrix @ one, atol=1e-13)
    np.testing.assert_allclose(found.rmatvec(one), matrix @ one, atol=1e-13)
    np.testing.assert_allclose(found @ several, matrix @ several, atol=1e-13)
    np.testing.assert_allclose(found.T @ several, matrix @ several, atol=1e-13)
    np.testing.assert_allclose(found @ several.astype(np.float32), matrix @ several, atol=1e-5)
    assert (found @ one[:, None]).shape == (31, 1)
    values = eigsh(found, 2, which="LA", return_eigenvectors=False)
    np.testing.assert_allclose(np.sort(values), np.linalg.eigvalsh(matrix)[-2:], rtol=1e-10)
    parts = found.split(one)
    assert {name: part.shape for name, part in parts.items()} == {
        name: tuple(p.shape) for name, p in problem.model.named_parameters()
    }
    np.testing.assert_array_equal(np.concatenate([part.ravel() for part in parts.values()]), one)


def test_columns_share_their_forward_passes():
    calls = []

    def counted(model, batch):
        calls.append(1)
        return cross_entropy(model, batch)

    problem = small()
    found = ls.hessian.operator(ls.Problem(problem.model, counted, problem.batches))
    found @ np.eye(31)
    assert len(calls) == len(problem.batches)


# The search itself


def _matrix(values, seed=0):
    rng = np.random.default_rng(seed)
    turned = np.linalg.qr(rng.standard_normal((len(values), len(values))))[0]
    return torch.as_tensor(turned * values @ turned.T), torch.as_tensor(rng.standard_normal(len(values)))


def _search(values, k, which, tolerance=1e-10, seed=0, max_products=2000):
    matrix, start = _matrix(np.asarray(values, float), seed)
    return matrix, extreme(
        matrix.__matmul__, start, k, which, tolerance=tolerance, floor=1e-3, max_products=max_products
    )


@pytest.mark.parametrize("which", ORDERED)
def test_a_value_at_zero_is_not_passed_over(which):
    values = np.arange(50.0)  # scipy 1.17's eigsh says 1 and 2 are the smallest
    _, found = _search(values, 2, which)
    np.testing.assert_allclose(found.values, values[ORDERED[which](values)[:2]], atol=1e-10)


@pytest.mark.parametrize("values", [np.zeros(50), np.ones(50), np.repeat([3.0, 0.0], [4, 46]), -np.ones(50)])
@pytest.mark.parametrize("which", ORDERED)
def test_a_matrix_of_few_different_values_ends_at_once(values, which):
    _, found = _search(values, 3, which)
    assert found.converged
    np.testing.assert_allclose(found.values, values[ORDERED[which](values)[:3]], atol=1e-12)
    gram = found.vectors @ found.vectors.T
    torch.testing.assert_close(gram, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    size=st.integers(31, 120),
    k=st.integers(1, 6),
    which=st.sampled_from([*ORDERED, "ends"]),
    power=st.sampled_from([1, 3, 5]),  # both ends stand out
    seed=st.integers(0, 1000),
)
def test_the_ends_of_any_spectrum_are_found(size, k, which, power, seed):
    assert size > room(k)
    values = np.random.default_rng(seed).standard_normal(size) ** power
    matrix, found = _search(values, k, which, 1e-8, seed)
    ascending = np.sort(values)
    turns = np.stack([ascending, ascending[::-1]], 1).ravel()
    best = turns[:k] if which == "ends" else values[ORDERED[which](values)[:k]]
    assert found.converged
    scale = abs(values).max()
    np.testing.assert_allclose(found.values, best, atol=1e-7 * scale)
    residuals = (matrix @ found.vectors.T - found.vectors.T * found.values).norm(dim=0)
    assert (residuals <= 1e-8 * found.values.abs().clamp(min=1e-3 * scale) + 1e-12 * scale).all()
