"""Persistence against components merged one vertex at a time, closed forms, and noise of known size."""

from __future__ import annotations

import itertools
import math
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

import landscape as ls
from landscape.results import DONE, NOT_FINITE, PENDING, Sampled, Surface
from landscape.sharpness import persistence

pytest.importorskip("gudhi")


def surface(values, x=None, y=None, dims=None, sem=0.01, sampled=None, **attrs) -> Surface:
    """A line of one dimension, a plane of two, or what ``dims`` says."""
    values = np.asarray(values, float)
    dims = dims or (("x",) if values.ndim == 1 else ("y", "x"))
    return Surface(
        x=np.arange(values.shape[-1], dtype=float) if x is None else x,
        y=(np.arange(len(values), dtype=float) if y is None else y) if dims[0] == "y" else None,
        dims=dims,
        means={"ce": values},
        sems={"ce": np.full(values.shape, sem)},
        status=np.where(np.isfinite(values), DONE, NOT_FINITE).astype(np.uint8),
        origin={"ce": (0.0, 0.0)},
        attrs=attrs,
        sampled=sampled,
    )


def merged(field) -> list[tuple[tuple[int, ...], tuple[int, ...] | None]]:
    """``(minimum, saddle)`` by union-find: vertices are added from low to high, and join their neighbours."""
    parent: dict[tuple[int, ...], tuple[int, ...]] = {}

    def root(v):
        while parent[v] != v:
            v = parent[v]
        return v

    found = []
    cells = [cell for cell in np.ndindex(field.shape) if np.isfinite(field[cell])]
    for cell in sorted(cells, key=lambda c: field[c]):
        parent[cell] = cell
        for axis, step in itertools.product(range(field.ndim), (-1, 1)):
            near = tuple(i + step * (k == axis) for k, i in enumerate(cell))
            if near not in parent or root(near) == root(cell):
                continue
            low, high = sorted((root(near), root(cell)), key=lambda c: field[c])
            if field[high] < field[cell]:
                found.append((high, cell))
            parent[high] = low
    return found + [(v, None) for v in parent if root(v) == v]


distinct = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@given(distinct, st.integers(1, 7), st.integers(1, 7))
def test_basins_are_those_that_merge_as_vertices_are_added(rng, rows, columns) -> None:
    field = rng.permutation(rows * columns).reshape(rows, columns).astype(float)
    found = persistence(surface(field), "ce")
    assert {(b.cell, b.saddle) for b in found} == set(merged(field))
    for basin in found:
        expected = math.inf if basin.saddle is None else field[basin.saddle] - field[basin.cell]
        assert basin.persistence == expected
        assert basin.value == field[basin.cell]


@given(distinct, st.integers(1, 30))
def test_so_are_those_of_a_line(rng, n) -> None:
    field = rng.permutation(n).astype(float)
    assert {(b.cell, b.saddle) for b in persistence(surface(field), "ce")} == set(merged(field))


@given(distinct, st.integers(2, 6), st.integers(2, 6), st.integers(1, 12))
def test_cells_that_are_not_finite_are_walls(rng, rows, columns, walls) -> None:
    field = rng.permutation(rows * columns).reshape(rows, columns).astype(float)
    field.ravel()[rng.integers(0, field.size, walls)] = rng.choice([np.nan, np.inf, -np.inf])
    found = persistence(surface(field), "ce")
    assert {(b.cell, b.saddle) for b in found} == set(merged(field))
    assert found.not_finite == (~np.isfinite(field)).sum()
    assert f"{found.not_finite} cells are not finite" in str(found)


@given(arrays(np.float64, (4, 5), elements=st.integers(0, 3).map(float)))
def test_ties_change_no_persistence(field) -> None:
    """Which of equal cells stands for a basin is open; how long each lasts is not."""
    lasts = lambda pairs: sorted(math.inf if s is None else field[s] - field[m] for m, s in pairs)  # noqa: E731
    assert lasts((b.cell, b.saddle) for b in persistence(surface(field), "ce")) == lasts(merged(field))


def test_a_double_well_has_the_depth_of_its_formula() -> None:
    """(x^2 - 1)^2 + y^2 has minima of 0 at x = -1 and 1, and a saddle of 1 between them."""
    x, y = np.linspace(-2, 2, 41), np.linspace(-1, 1, 11)
    tilt = 1e-3
    found = persistence(surface((x**2 - 1) ** 2 + y[:, None] ** 2 + tilt * x, x, y), "ce")
    lower, higher = found.basins
    assert (lower.at, lower.saddle, lower.persistence) == (pytest.approx((-1, 0), abs=1e-9), None, math.inf)
    assert higher.at == pytest.approx((1, 0), abs=1e-9)
    assert higher.saddle_at == pytest.approx((0, 0), abs=1e-9)
    assert higher.persistence == pytest.approx(1 - tilt)
    assert (found.minima, found.saddles) == ([lower.cell, higher.cell], [higher.saddle])
    assert not lower.at_edge
    assert not higher.at_edge


def test_diagonal_neighbours_do_not_touch() -> None:
    found = persistence(surface([[0.0, 5.0], [6.0, 1.0]]), "ce")
    assert [(b.cell, b.persistence) for b in found] == [((0, 0), math.inf), ((1, 1), 4.0)]


def test_a_bowl_has_one_minimum_and_a_slope_has_it_at_the_edge() -> None:
    x = np.linspace(-1, 1, 9)
    (bowl,) = persistence(surface(x**2 + x[:, None] ** 2, x, x), "ce")
    assert (bowl.at, bowl.at_edge) == ((0.0, 0.0), False)
    (slope,) = persistence(surface(x + 2 * x[:, None], x, x), "ce")
    assert (slope.at, slope.at_edge) == ((-1.0, -1.0), True)
    assert "at the edge" in str(persistence(surface(x, x), "ce"))


def test_each_line_of_a_bundle_is_its_own() -> None:
    lines = np.array([[3.0, 1.0, 2.0, 0.0, 4.0], [0.0, 1.0, 2.0, 3.0, 4.0]])
    found = persistence(surface(lines, dims=("direction", "x")), "ce")
    assert [(b.cell, b.at, b.saddle) for b in found] == [
        ((0, 3), (3.0,), None),
        ((1, 0), (0.0,), None),
        ((0, 1), (1.0,), (0, 2)),
    ]


# --- noise ------------------------------------------------------------------------------------------------------------


def two_wells(depth) -> np.ndarray:
    return np.array([5.0, 0.0, 1.0 + depth, 1.0, 5.0])


def wide(cells: int) -> float:
    """Standard errors that hold for all cells at once, at 95 %."""
    from scipy import stats

    return float(stats.norm.isf(0.05 / 2 / cells))


def test_of_all_examples_only_rounding_is_noise_and_for_others_the_sum_of_the_standard_errors_is() -> None:
    for depth, above, above_like in ((1e-7, False, False), (0.01, True, False), (0.2, True, True)):
        basin = persistence(surface(two_wells(depth), sem=0.02), "ce").basins[1]
        assert basin.persistence == pytest.approx(depth)
        assert (basin.above_noise, basin.above_noise_like) == (above, above_like)
        assert basin.error_like == pytest.approx(basin.error + wide(5) * 0.04)
    said = str(persistence(surface(two_wells(0.01), sem=0.02), "ce"))
    assert "Minima of ce: 2, 2 of them above the noise." in said
    assert "not shown to be above that of other examples" in said


def test_the_rounding_is_that_of_the_surface_where_it_is_known() -> None:
    known = {"origin": {"ce": 1e-3, "kd": 9.0}, "corners": {"ce": 2e-3, "kd": 9.0}}
    basin = persistence(surface(two_wells(0.0005), errors=known), "ce").basins[1]
    assert basin.error == pytest.approx(2e-3 * (1.0 + 1.0005))
    assert not basin.above_noise


def test_of_a_sample_the_errors_are_those_of_sampling_and_of_the_difference_from_the_origin() -> None:
    values = two_wells(0.5)
    half, diff = np.array([9.0, 9.0, 0.1, 0.2, 9.0]), np.array([9.0, 9.0, 0.01, 0.02, 9.0])
    errors = Sampled(np.full(5, 10), {"ce": half / 2}, {"ce": half}, {"ce": diff})
    basin = persistence(surface(values, sem=99.0, sampled=errors), "ce").basins[1]
    assert (basin.cell, basin.saddle) == ((3,), (2,))
    assert basin.error == pytest.approx(wide(5) / 1.96 * 0.3, rel=1e-4)
    assert basin.error_like == pytest.approx(wide(5) * 0.03, rel=1e-4)
    assert "difference from the origin" in str(persistence(surface(values, sampled=errors), "ce"))


def test_a_flat_field_of_pure_noise_has_no_minimum_above_it_in_95_of_100_surfaces() -> None:
    rng = np.random.default_rng(0)
    false = 0
    for _ in range(100):
        found = persistence(surface(1.0 + rng.normal(0, 0.1, (6, 6)), sem=0.1), "ce")
        false += any(b.above_noise_like for b in found if b.saddle is not None)
        assert len(found) > 1
    assert false <= 11  # 5 expected at most; 11 or fewer in 98.9 % of such cases


def test_without_a_standard_error_nothing_is_shown_for_other_examples() -> None:
    basin = persistence(surface(two_wells(3.0), sem=math.nan), "ce").basins[1]
    assert (basin.above_noise, basin.above_noise_like) == (True, False)


class _Wells(nn.Module):
    """Two wells along ``w``, tilted by each example in its own way."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1, 1, dtype=torch.float64))

    def forward(self, tilt):
        """``(w^2 - 1)^2 + tilt w`` for each example."""
        return ((self.w**2 - 1) ** 2 + tilt * self.w).reshape(-1)


def test_the_bound_on_a_measured_surface_is_one_on_the_difference_example_by_example(device) -> None:
    tilt = 0.3 + torch.randn(50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    problem = ls.Problem(_Wells().to(device), lambda model, batch: {"ce": model(batch)}, list(tilt.split(20)))
    one = ls.directions.random(problem.model, n=1, normalize="none", ignore="none", seed=0)
    length = float(one.axes[0]["w"])
    x = np.linspace(-2, 2, 17)
    (lower, higher) = persistence(ls.evaluate(problem, one, ls.Grid1D(x=(-2, 2, 17))), "ce")

    each = (np.square(np.square(length * x) - 1) + tilt.numpy()[:, None] * length * x).T
    assert {lower.cell, higher.cell} == {cell for cell, _ in merged(each.mean(1))}
    difference = each[higher.saddle] - each[higher.cell]
    assert higher.persistence == pytest.approx(difference.mean())
    assert higher.error_like >= wide(17) * difference.std(ddof=1) / math.sqrt(50)
    alone = (each[higher.saddle].std(ddof=1) + each[higher.cell].std(ddof=1)) / math.sqrt(50)
    assert higher.error_like == pytest.approx(wide(17) * alone, rel=1e-3)


# --- unhappy paths ----------------------------------------------------------------------------------------------------


def test_a_field_without_a_finite_cell_has_no_minimum() -> None:
    found = persistence(surface(np.full((3, 3), np.nan)), "ce")
    assert (len(found), found.not_finite, found.minima, found.saddles) == (0, 9, [], [])


def test_faulty_surfaces_are_refused() -> None:
    pending = surface([1.0, 2.0, 3.0])
    pending.status[1] = PENDING
    with pytest.raises(ValueError, match=r"surface must be complete\. Got pending cells"):
        persistence(pending, "ce")
    with pytest.raises(KeyError, match=r"one of ce\. Got 'kd'"):
        persistence(surface([1.0, 2.0]), "kd")


def test_without_gudhi_it_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "gudhi", None)
    with pytest.raises(ImportError, match=r"needs gudhi\. Got none.* pip install dot-landscape\[topology\]"):
        persistence(surface([1.0, 2.0]), "ce")
    assert ls.sharpness.persistence is persistence


def test_the_surface_is_left_as_it_was() -> None:
    field = np.array([[1.0, np.nan], [0.0, 2.0]])
    given_ = surface(field.copy())
    persistence(given_, "ce")
    np.testing.assert_array_equal(given_.means["ce"], field)
