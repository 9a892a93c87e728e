"""The spectral density: against the exactly broadened spectrum of a dense Hessian, and what its errors say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from oracles import dense_curvature, fingerprint, objective
from scipy.integrate import trapezoid
from test_hessian_probes import REPEATS, Dense, Stops, data, network, not_under, problem

import landscape as ls
from landscape.hessian import density, effective_dimension, lanczos
from landscape.hessian.density import density_of
from landscape.hessian.kept import Kept, log_path
from landscape.hessian.lanczos import quadrature


@pytest.fixture(scope="module")
def hessian():
    return dense_curvature(network(), objective, data(), "ce")


def broadened(matrix, x, width):
    """The spectrum of a dense matrix, each eigenvalue a Gaussian of 1/D."""
    values = np.linalg.eigvalsh(matrix)
    each = np.exp(-0.5 * ((x[:, None] - values) / width) ** 2) / (width * math.sqrt(2 * math.pi))
    return each.mean(1)


def of(matrix, seed=0, probes=10, steps=20, **options):
    return density_of(Dense(matrix), Kept(), probes, steps, seed=seed, **options)


def wishart(size=60, rows=30, seed=0):
    """A matrix without negative eigenvalues, half of whose eigenvalues are 0."""
    factor = np.random.default_rng(seed).standard_normal((rows, size))
    return factor.T @ factor / rows


def test_the_density_is_that_of_the_dense_hessian(device, hessian):
    found = density(problem(device), "ce", probes=20, steps=30, precision="float64")
    assert len(found.x) == len(found.density) == 1024
    assert found.band.shape == (2, 1024)
    assert trapezoid(found.density, found.x) == pytest.approx(1, abs=1e-9)
    true = broadened(hessian, found.x, found.width)
    assert trapezoid(true, found.x) == pytest.approx(1, abs=1e-3)  # the axis holds the spectrum
    low, high = found.band
    assert np.all((low >= 0) & (low <= found.density) & (found.density <= high))
    slack = 1e-3 * true.max()
    assert np.mean((true >= low - slack) & (true <= high + slack)) > 0.9
    assert trapezoid(np.abs(true - found.density), found.x) < trapezoid(high - low, found.x)
    assert found.overlap < 1e-12
    assert found.products == 20 * 30


def test_many_probes_come_as_near_as_the_steps_let_them(hessian):
    found = of(hessian, probes=800, steps=25)
    true = broadened(hessian, found.x, found.width)
    sampling = trapezoid(np.diff(found.band, axis=0)[0] / 2, found.x)
    assert trapezoid(np.abs(true - found.density), found.x) < sampling + found.quadrature_error
    assert sampling < 0.1
    assert found.quadrature_error < 0.01


def test_bands_and_moments_cover_as_they_say(hessian):
    """200 seeds: E[lambda^k], the density at its peak and on its flank."""
    values = np.linalg.eigvalsh(hessian)
    moments = {k: np.mean(values**k) for k in (1, 2, 3)}
    covered = dict.fromkeys(moments, 0)
    at_points = np.zeros(3)
    for seed in range(REPEATS):
        found = of(hessian, seed, steps=12, width=0.05)
        for k, true in moments.items():
            mean = found.moment(k)
            covered[k] += mean.low <= true <= mean.high
        points = np.searchsorted(found.x, [0.0, 0.1, 0.3])
        true = broadened(hessian, found.x[points], 0.05)
        at_points += (found.band[0][points] <= true) & (true <= found.band[1][points])
    assert all(not_under(count, REPEATS) for count in [*covered.values(), *at_points.astype(int)]), (covered, at_points)


def test_moments_are_exact_for_each_probe(hessian):
    """v^T H^k v by repeated products, up to the degree that the steps allow."""
    found = of(hessian, probes=2, steps=4)
    signs = np.array([1.0, -1.0])
    starts = [v.numpy() / math.sqrt(57) for v in ls.hessian.probes.rademacher(Dense(hessian), 0, range(2))]
    assert all(np.isin(v * math.sqrt(57), signs).all() for v in starts)
    for k in range(8):
        powers = np.linalg.matrix_power(hessian, k)
        assert found.moment(k).value == pytest.approx(np.mean([v @ powers @ v for v in starts]), rel=1e-9)
    with pytest.raises(ValueError, match=r"k must be from 0 to 7.*Got 8"):
        found.moment(8)


def test_a_start_whose_directions_are_used_up_ends_early():
    values = np.repeat([-2.0, 0.5, 3.0], 10)
    basis, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((30, 30)))
    matrix = Dense((basis * values) @ basis.T)
    found = density_of(matrix, Kept(), 4, 25, seed=0, width=0.1)
    assert found.products == matrix.products == 4 * 3
    for nodes, weights in zip(*found.rules, strict=True):
        assert nodes[weights > 0] == pytest.approx([-2.0, 0.5, 3.0])
        assert weights.sum() == pytest.approx(1)
    assert found.quadrature_error == 0
    assert found.mean(np.reciprocal).value == pytest.approx(np.mean(1 / values), rel=0.5)  # 0 is not among the nodes
    assert trapezoid(found.density, found.x) == pytest.approx(1)


@pytest.mark.parametrize("matrix", [np.zeros((3, 3)), 4 * np.eye(5), np.array([[2.0]])])
def test_a_matrix_with_one_eigenvalue(matrix):
    found = of(matrix)
    assert found.x[np.argmax(found.density)] == pytest.approx(matrix[0, 0], abs=2 * found.width)
    assert trapezoid(found.density, found.x) == pytest.approx(1)
    assert found.moment(1).value == pytest.approx(matrix[0, 0])


def test_lanczos_keeps_its_directions_orthogonal_and_sees_where_they_are_not(monkeypatch):
    """Eigenvalues over twelve orders, where plain Lanczos loses all orthogonality."""
    values = np.logspace(-12, 0, 60)
    basis, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((60, 60)))
    matrix = Dense((basis * values) @ basis.T)
    start = torch.ones(1, 60, dtype=torch.float64) / math.sqrt(60)
    (found,) = lanczos.lanczos(matrix.multiply, start, 40)
    assert found.overlap < 1e-12
    (plain,) = lanczos.lanczos(matrix.multiply, start, 15)
    assert plain.diagonal == pytest.approx(found.diagonal[: len(plain.diagonal)])

    repeated = Dense((basis * np.repeat([1.0, 2.0, 3.0], 20)) @ basis.T)
    (short,) = lanczos.lanczos(repeated.multiply, start, 40)
    assert quadrature(short).nodes == pytest.approx([1, 2, 3])
    monkeypatch.setattr(lanczos, "_BREAKDOWN", 0.0)  # goes on along directions of rounding,
    monkeypatch.setattr(lanczos, "_PASSES", 1)  # and is sloppy
    (lost,) = lanczos.lanczos(repeated.multiply, start, 40)
    assert lost.overlap > 1e-6


def test_lost_orthogonality_is_warned_of(monkeypatch):
    monkeypatch.setattr(lanczos, "_PASSES", 0)
    with pytest.warns(UserWarning, match="directions of Lanczos overlap by"):
        density(problem(), "ce", probes=2, steps=5, width=1.0)


def test_a_width_too_narrow_for_the_steps_is_warned_of(hessian):
    with pytest.warns(UserWarning, match="misplaced for want of steps: a width of 0.01 is too narrow"):
        found = density(problem(), "ce", steps=6, width=0.01, probes=20)
    true = broadened(hessian, found.x, 0.01)
    assert trapezoid(np.abs(true - found.density), found.x) > 0.1


def test_probes_together_are_what_they_are_alone(monkeypatch, hessian):
    together = of(hessian, probes=5)
    monkeypatch.setattr(ls.hessian.probes, "_TOGETHER", 1)
    alone = of(hessian, probes=5)
    assert together.density == pytest.approx(alone.density, rel=1e-9)
    assert together.products == alone.products == 100


def test_the_effective_dimension_covers_and_has_its_limits():
    matrix = wishart()
    values = np.clip(np.linalg.eigvalsh(matrix), 0, None)
    true, covered = np.sum(values / (values + 0.1)), 0
    for seed in range(REPEATS):
        found = effective_dimension(of(matrix, seed, steps=12), 0.1)
        covered += found.low <= true <= found.high
    assert not_under(covered, REPEATS), covered
    seen = of(matrix, probes=200, steps=40)
    for scale in (1e-3, 1.0, 1e3):
        found = effective_dimension(seen, scale)
        assert abs(found.value - np.sum(values / (values + scale))) < 4 * found.sem
    assert effective_dimension(seen, 1e6).value == pytest.approx(seen.moment(1).value * 60 / 1e6, rel=1e-4)
    assert effective_dimension(seen, 1e-3).value == pytest.approx(30, rel=0.1)  # its rank


def test_negative_eigenvalues_have_no_effective_dimension():
    basis, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((40, 40)))
    matrix = (basis * np.repeat([-1.0, 1.0], 20)) @ basis.T
    found = of(matrix, probes=200, steps=5)
    assert found.mean(lambda values: values < 0).value == pytest.approx(0.5, abs=0.03)
    dimension = effective_dimension(found, 1.0)
    assert abs(dimension.value - 10) < 4 * dimension.sem
    with pytest.raises(ValueError, match=r"scale must be a positive number. Got 0"):
        effective_dimension(found, 0)


def test_an_interrupted_density_goes_on_and_ends_as_in_one_go(tmp_path, monkeypatch):
    monkeypatch.setattr(ls.hessian.probes, "_TOGETHER", 2)
    out, whole = tmp_path / "d.h5", Stops()
    asked = {"probes": 5, "steps": 6}
    expected = density(problem(of=whole), "ce", **asked)
    with pytest.raises(KeyboardInterrupt):
        density(problem(of=Stops(at=1 + 3 * 6 + 10)), "ce", out=out, **asked)
    assert log_path(out).exists()
    resumed = Stops()
    found = density(problem(of=resumed), "ce", out=out, **asked)
    assert found.density.tolist() == expected.density.tolist()
    assert found.band.tolist() == expected.band.tolist()
    assert (found.products, found.overlap) == (expected.products, expected.overlap)
    assert resumed.calls == whole.calls - 3 * 6 + 1  # a block of two probes was done; one call to see the objective
    assert not log_path(out).exists()
    more = Stops()
    wider = density(problem(of=more), "ce", out=out, probes=6, steps=6, width=0.2)
    assert more.calls == 1 + 3 * 6
    fresh = density(problem(), "ce", probes=6, steps=6, width=0.2)
    assert wider.density == pytest.approx(fresh.density, rel=1e-6)
    with pytest.raises(ValueError, match="differs in steps"):
        density(problem(), "ce", out=out, probes=5, steps=7)


def test_the_file_has_the_curves_with_their_axis(tmp_path):
    import xarray

    found = density(problem(), "ce", probes=3, steps=6, out=tmp_path / "d.h5")
    with xarray.open_dataset(tmp_path / "d.h5", engine="h5netcdf") as read:
        assert read["density"].dims == ("x",)
        assert read["density"].values.tolist() == found.density.tolist()
        assert read["low"].values.tolist() == found.band[0].tolist()
        assert read["x"].values.tolist() == found.x.tolist()
        assert read.attrs["term"] == "ce"
        assert read.attrs["width"] == found.width


def test_nothing_of_the_users_is_changed(device):
    asked = problem(device)
    before = fingerprint(asked.model)
    density(asked, "ce", probes=2, steps=4)
    assert fingerprint(asked.model) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"probes": 1}, "probes must be at least 2.*Got 1"),
        ({"steps": 0}, "steps must be at least 1. Got 0"),
        ({"width": 0.0}, "width must be a positive number.*Got 0.0"),
        ({"points": 50}, "points must be at least .*Got 50"),
        ({"seed": -1}, "seed must be 0 or more. Got -1"),
    ],
)
def test_what_cannot_be_asked_for(options, said):
    with pytest.raises(ValueError, match=said):
        density(problem(), "ce", **options)
