"""Flatness numbers of lines whose widths and curvatures are known by heart."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

import landscape as ls
from landscape.results import DONE, NOT_FINITE, PENDING, Surface
from landscape.sharpness import basin_widths, curvatures, summary


def line(x, *values, y=None) -> Surface:
    """A surface of given values: a line, a bundle where there are several, a plane where there is a ``y``."""
    array = np.array(values, float)
    dims = ("y", "x") if y is not None else ("direction", "x")
    array, dims = (array[0], ("x",)) if len(values) == 1 and y is None else (array, dims)
    status = np.where(np.isfinite(array), DONE, NOT_FINITE).astype(np.uint8)
    zero = {name: int(np.argmin(np.abs(axis))) for name, axis in (("x", x), ("y", y)) if axis is not None}
    at_zero = float(array[tuple(zero.get(dim, 0) for dim in dims)])
    return Surface(
        x=np.asarray(x, float),
        y=None if y is None else np.asarray(y, float),
        dims=dims,
        means={"ce": array},
        sems={"ce": np.zeros_like(array)},
        status=status,
        origin={"ce": (at_zero, 0.0)},
        attrs={},
    )


X = np.linspace(-2, 2, 4001)


@pytest.mark.parametrize("h", [0.5, 1.0, 7.0])
@pytest.mark.parametrize("rise", [0.1, 0.5])
def test_a_parabola_has_its_width_and_its_curvature(h, rise):
    surface = line(X, 3 + 0.5 * h * X**2)
    found = basin_widths(surface, "ce", rise)
    assert found.width[0] == pytest.approx(2 * math.sqrt(2 * rise / h), abs=4e-6)
    assert not found.censored[0]
    assert curvatures(surface, "ce")[0] == pytest.approx(h, rel=1e-9)


def test_the_width_is_exact_where_the_crossing_is_a_point_of_the_grid():
    x = np.linspace(-1, 1, 9)
    assert basin_widths(line(x, 4 * x**2), "ce", 1.0).width[0] == 1.0


def test_each_side_has_its_own_reach():
    values = np.where(X < 0, -4 * X, X)
    found = basin_widths(line(X, values), "ce", 1.0)
    assert found.width[0] == pytest.approx(0.25 + 1.0, abs=1e-12)
    off_centre = np.linspace(-0.5, 3, 8)
    found = basin_widths(line(off_centre, np.where(off_centre < 0, -4 * off_centre, off_centre)), "ce", 1.0)
    assert found.width[0] == pytest.approx(1.25, abs=1e-12)


def test_the_first_crossing_counts_and_a_dip_below_the_origin_does_not():
    x = np.array([-2.0, -1, 0, 1, 2, 3])
    found = basin_widths(line(x, [3.0, -1.0, 0.0, 2.0, 0.0, 9.0]), "ce", 1.0)
    assert found.width[0] == pytest.approx(1.5 + 0.5)
    assert not found.censored[0]


def test_a_basin_wider_than_the_grid_is_censored_at_its_end():
    both = basin_widths(line(X, 0.01 * X**2), "ce", 1.0)
    assert (both.width[0], both.censored[0]) == (4.0, True)
    right = basin_widths(line(X, np.where(X < 0, -X, 0)), "ce", 1.0)
    assert right.width[0] == pytest.approx(3.0, abs=1e-12)
    assert right.censored[0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_cell_that_is_not_finite_ends_the_basin_and_censors_it(bad):
    x = np.linspace(-1, 1, 5)
    found = basin_widths(line(x, [9.0, 2.0, 0.0, 0.1, bad]), "ce", 1.0)
    assert found.width[0] == pytest.approx(0.25 + 0.5)
    assert found.censored[0]


def test_a_bundle_gives_a_number_for_each_line():
    h = np.array([1.0, 2.0, 8.0])
    surface = line(X, *(0.5 * k * X**2 for k in h))
    np.testing.assert_allclose(basin_widths(surface, "ce", 0.2).width, 2 * np.sqrt(0.4 / h), atol=4e-6)
    np.testing.assert_allclose(curvatures(surface, "ce"), h, rtol=1e-9)


def test_a_plane_is_its_two_axes_through_the_origin():
    x, y = np.linspace(-1, 1, 401), np.linspace(-2, 3, 1001)
    values = 1 + 2 * x[None, :] ** 2 + 0.5 * y[:, None] ** 2 + x[None, :] * y[:, None]
    surface = line(x, *values, y=y)
    found = basin_widths(surface, "ce", 0.5)
    np.testing.assert_allclose(found.width, [2 * math.sqrt(0.25), 2 * math.sqrt(1.0)], atol=1e-4)
    np.testing.assert_allclose(curvatures(surface, "ce"), [4.0, 1.0], rtol=1e-9)


def test_a_slope_does_not_change_the_curvature():
    x = np.arange(-3, 11) / 10
    assert curvatures(line(x, 5 - 3 * x + 1.5 * x**2), "ce")[0] == pytest.approx(3.0, rel=1e-9)


@pytest.mark.parametrize("level", [0.0, 0.5])
def test_a_term_that_does_not_change_is_not_curved(level):
    assert curvatures(line(X, np.full(len(X), level)), "ce")[0] == pytest.approx(0.0, abs=1e-12)


def test_a_grid_coarser_than_the_radius_uses_the_neighbours_of_the_origin():
    x = np.array([-1.0, 0.0, 1.0, 2.0])
    assert curvatures(line(x, [1.0, 0.0, 2.0, 50.0]), "ce", radius=0.1)[0] == pytest.approx(3.0, rel=1e-12)


def test_only_points_within_the_radius_count():
    values = np.where(np.abs(X) <= 0.25, X**2, 100.0)
    assert curvatures(line(X, values), "ce")[0] == pytest.approx(2.0, rel=1e-9)
    assert curvatures(line(X, np.where(np.abs(X) <= 0.5, X**2, np.nan)), "ce", radius=0.5)[0] == pytest.approx(2.0)


def test_errors_say_what_is_wrong():
    surface = line(X, X**2)
    for rise in (0, -1, math.nan):
        with pytest.raises(ValueError, match=rf"rise must be above 0\. Got {rise}"):
            basin_widths(surface, "ce", rise)
    for measure in (lambda s: basin_widths(s, "ce", 1.0), lambda s: curvatures(s, "ce")):
        pending = line(X, X**2)
        pending.status[7] = PENDING
        with pytest.raises(ValueError, match=r"surface must be complete\. Got pending cells"):
            measure(pending)
        with pytest.raises(ValueError, match=r"x must have a point at the origin\. Got 0\.5 to 1 without 0"):
            measure(line([0.5, 1.0], [1.0, 2.0]))
    with pytest.raises(ValueError, match=r"go on to both sides of the origin\. Got 0 to 1"):
        curvatures(line([0.0, 0.5, 1.0], [0.0, 1.0, 2.0]), "ce")
    with pytest.raises(ValueError, match=r"'ce' must be finite within 0\.25 of the origin"):
        curvatures(line(np.linspace(-1, 1, 21), [math.inf if i == 11 else 1.0 for i in range(21)]), "ce")


@pytest.mark.parametrize("measure", [lambda s: basin_widths(s, "kd", 1.0), lambda s: curvatures(s, "kd")])
def test_a_term_that_is_not_there_is_named(measure):
    with pytest.raises(KeyError, match=r"one of ce\. Got 'kd'"):
        measure(line(X, X**2))


class _Bowl(nn.Module):
    """Loss ``sum(h * (w - w0)^2) / 2``, at its minimum."""

    def __init__(self, h):
        super().__init__()
        self.w = nn.Parameter(torch.randn(4, 3, dtype=torch.float64))
        self.register_buffer("w0", self.w.detach().clone())
        self.register_buffer("h", torch.as_tensor(h, dtype=torch.float64))

    def forward(self, x):
        """One loss for each example."""
        return (0.5 * (self.h * (self.w - self.w0) ** 2).sum()).expand(len(x))


def _problem(h, device) -> ls.Problem:
    return ls.Problem(_Bowl(h).to(device), lambda m, b: {"loss": m(b)}, [torch.zeros(2)])


LINES = ("width-0.1", "width-1", "curvature", "noise-0.1", "noise-0.25")


def test_a_round_bowl_is_as_curved_as_its_weights_are_long_in_every_direction(device):
    """Filter normalisation gives every direction the length of the weights, so no direction differs."""
    problem = _problem(3.0, device)
    curvature = 3.0 * float(problem.model.w.detach().square().sum())
    found = summary(problem, n_directions=6, measures=LINES)
    assert found.keys() == LINES
    row = found["curvature"]
    assert (row.n, row.censored, row.center) == (6, 0, "mean")
    assert [row.value, row.low, row.high] == pytest.approx([curvature] * 3, rel=1e-9)
    for rise in (0.1, 1.0):
        row = found[f"width-{rise:g}"]
        assert (row.n, row.censored, row.center, row.at_least) == (6, 0, "median", False)
        assert [row.value, row.low, row.high] == pytest.approx([2 * math.sqrt(2 * rise / curvature)] * 3, rel=1e-6)
    for size in (0.1, 0.25):
        row = found[f"noise-{size:g}"]
        assert [row.value, row.low, row.high] == pytest.approx([size**2 / 2 * curvature] * 3, rel=1e-9)


def test_the_numbers_of_directions_that_differ(device):
    """Mean and Student's interval of curvature and mean rise; median and order statistics of the widths."""
    problem = _problem(torch.linspace(0.1, 9, 12).reshape(4, 3), device)
    drawn = ls.directions.random(problem.model, n=9, seed=5)
    surface = ls.evaluate(problem, drawn, ls.Grid1D(x=(-1, 1, 41)))
    h = problem.model.h.cpu().numpy()
    exact = np.array([(h * axis["w"].cpu().numpy() ** 2).sum() for axis in drawn.axes])
    np.testing.assert_allclose(curvatures(surface, "loss"), exact, rtol=1e-9)
    for found in (summary(problem, n_directions=9, seed=5, measures=LINES), summary(problem, surface, measures=LINES)):
        for key, expected in (("curvature", exact), ("noise-0.1", 0.005 * exact), ("noise-0.25", 0.03125 * exact)):
            interval = stats.ttest_1samp(expected, 0).confidence_interval(0.95)
            row = found[key]
            np.testing.assert_allclose(row.samples, expected, rtol=1e-8)
            assert [row.value, row.low, row.high] == pytest.approx([expected.mean(), *interval], rel=1e-8)
        for rise in (0.1, 1.0):
            expected, row = np.sort(2 * np.sqrt(2 * rise / exact)), found[f"width-{rise:g}"]
            np.testing.assert_allclose(np.sort(row.samples), expected, rtol=1e-6)
            # P(B <= 1) = 10 / 512 < 0.025 < P(B <= 2) for nine coins
            assert [row.value, row.low, row.high] == pytest.approx(expected[[4, 1, 7]], rel=1e-6)
            assert [row.quantile(share) for share in (0.1, 0.9)] == pytest.approx(expected[[0, 8]], rel=1e-6)


def test_one_direction_has_no_interval_and_a_basin_that_does_not_end_is_a_lower_bound(device):
    found = summary(_problem(1e-6, device), n_directions=1)
    assert math.isnan(found["curvature"].low)
    assert math.isnan(found["curvature"].high)
    row = found["width-1"]
    assert (row.value, row.censored, row.n, row.at_least) == (2.0, 1, 1, True)
    assert "1 of 1 lines end before" in row.note
    assert "basin width at +1: at least 2" in str(row)
