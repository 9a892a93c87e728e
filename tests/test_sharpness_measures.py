"""Widths, noise, PAC-Bayes sigmas and areas against closed forms, counted points, and their intervals in many draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import Quadratic, random_quadratic, share_below
from scipy import stats
from test_sharpness import line

import landscape as ls
from landscape.results import PENDING, Sampled
from landscape.sharpness import area, centres, noise, pac_bayes, widths
from landscape.sharpness.measure import Definition

WHAT = Definition("it", "it", "it", "no paper", "small", "none")
SEEDS = 300


def problem(model, device="cpu") -> ls.Problem:
    return ls.Problem(model.to(device), lambda m, b: {"loss": m(b)}, [torch.zeros(2)])


def not_under_95(covered) -> bool:
    """Whether so many of all intervals may well be 95 %: a one-sided test at 1 %."""
    return stats.binom.cdf(sum(covered), len(covered), 0.95) > 0.01


def inside(measure, truth: float) -> bool:
    return measure.low <= truth <= measure.high


# Intervals


def test_students_interval_holds_the_mean_of_normal_samples():
    draws = np.random.default_rng(0).normal(3, 2, (SEEDS, 6))
    assert not_under_95([inside(centres.mean(WHAT, each), 3.0) for each in draws])


@pytest.mark.parametrize("n", [6, 7, 20, 21])
def test_the_interval_of_a_median_holds_it_whatever_the_law(n):
    """Of lognormal samples, a third of which are only known to be larger than 1.4."""
    draws = np.random.default_rng(n).lognormal(0, 1, (SEEDS, n))
    found = [centres.median(WHAT, np.minimum(each, 1.4), each > 1.4) for each in draws]
    assert not_under_95([inside(measure, 1.0) for measure in found])
    for each, measure in zip(draws, found, strict=True):
        assert measure.censored == (each > 1.4).sum()
        if not measure.at_least:
            assert measure.value == np.median(each)


def test_the_median_of_samples_half_of_which_are_censored_is_a_lower_bound():
    reached, censored = np.array([1.0, 2, 3, 4, 4, 4]), np.array([False] * 3 + [True] * 3)
    found = centres.median(WHAT, reached, censored)
    assert (found.value, found.low, found.high, found.censored, found.at_least) == (3.5, 1.0, math.inf, 3, True)
    assert "3 of 6 lines end before" in found.note
    fewer = centres.median(WHAT, reached, np.array([False] * 4 + [True] * 2))
    assert (fewer.value, fewer.low, fewer.high, fewer.at_least) == (3.5, 1.0, math.inf, False)
    assert math.isnan(centres.median(WHAT, np.arange(5.0), np.zeros(5, bool)).low)  # 2 / 2^5 is above 5 %


# Widths


@given(st.lists(st.floats(-5, 0.99), min_size=1, max_size=4), st.floats(1, 100), st.lists(st.floats(-5, 100)))
def test_a_crossing_lies_on_the_parabola_through_the_points_around_it(before, crossing, after):
    values = np.array([0.0, *before, crossing, *after])
    x = np.cumsum(np.linspace(1, 2, len(values))) - 1
    found = widths._reach(x, values, 1.0, widths._parabolic)
    i = 1 + len(before)
    assert not found[1]
    assert x[i - 1] <= found[0] <= x[i]
    through = np.polynomial.Polynomial.fit(x[i - 2 : i + 1], values[i - 2 : i + 1], 2)
    assert through(found[0]) == pytest.approx(1.0, abs=1e-6 * crossing)


def test_widths_of_a_smooth_basin_are_right_on_a_coarse_grid_where_straight_lines_are_not():
    x = np.linspace(-1, 1, 21)
    surface = line(x, *(np.cosh(k * x) - 1 for k in (2.0, 3.0, 4.0)))
    exact = np.array([2 * math.acosh(2.0) / k for k in (2.0, 3.0, 4.0)])
    found = widths.width(surface, "ce", 1.0)
    np.testing.assert_allclose(found.samples, exact, rtol=3e-3)
    assert (np.abs(widths.basin_widths(surface, "ce", 1.0).width / exact - 1) > 3e-3).any()
    assert found.note == ""
    coarse = widths.width(line(x[::5], x[::5] ** 2), "ce", 0.04)
    assert coarse.samples[0] == pytest.approx(0.4, rel=1e-12)
    assert "coarse grid: straight lines give 60% else" in coarse.note  # 2 * 0.5 * 0.04 / 0.25 = 0.16


def test_the_median_width_along_random_directions_is_in_its_interval():
    """One filter of two weights: its directions lie evenly on a circle, so half are more curved than the mean."""
    w = torch.nn.Linear(2, 1, bias=False)
    h, size = np.array([1.0, 9.0]), float(w.weight.detach().norm())
    truth = 2 * math.sqrt(2 * 0.1 / (h.mean() * size**2))
    covered = []
    for seed in range(SEEDS):
        drawn = np.array([a["weight"].numpy()[0] for a in ls.directions.random(w, n=20, seed=seed).axes])
        width = 2 * np.sqrt(2 * 0.1 / (drawn**2 @ h))
        covered.append(inside(centres.median(WHAT, width, np.zeros(20, bool)), truth))
    assert not_under_95(covered)


# Noise


def test_expected_sharpness_is_half_the_variance_times_a_trace_and_holds_it_in_its_interval():
    """Filter-normalised noise has the covariance |w_f|^2 / 3 in each filter of three weights; the slope cancels."""
    model = torch.nn.Linear(3, 4, bias=False).double()
    h = np.linspace(0.1, 9, 12).reshape(4, 3)
    truth = 0.1**2 / 2 * (h * (model.weight.detach().square().sum(1, keepdim=True) / 3).numpy()).sum()
    x = np.array([-0.1, 0.0, 0.1])
    covered = []
    for seed in range(SEEDS):
        drawn = [a["weight"].numpy() for a in ls.directions.random(model, n=20, seed=seed).axes]
        surface = line(x, *(5 + d.sum() * x + (h * d**2).sum() * x**2 / 2 for d in drawn))
        covered.append(inside(noise.expected(surface, "ce", 0.1), truth))
    assert not_under_95(covered)


def test_expected_sharpness_needs_its_points():
    x = np.linspace(-1, 1, 11)
    with pytest.raises(ValueError, match=r"points at -0\.1 and 0\.1\. Got none there: -1 to 1"):
        noise.expected(line(x, x**2), "ce", 0.1)
    with pytest.raises(ValueError, match=r"'ce' must be finite at -0\.2 and 0\.2"):
        noise.expected(line(x, np.where(np.isclose(x, 0.2), np.nan, x**2)), "ce", 0.2)
    with pytest.raises(ValueError, match=r"size must be above 0\. Got 0"):
        noise.expected(line(x, x**2), "ce", 0)


# PAC-Bayes


@pytest.mark.parametrize("relative", [False, True])
def test_sigma_on_a_quadratic_loss_is_the_root_of_twice_the_rise_over_the_mean_of_the_draws(relative, device):
    h, g = random_quadratic(9, 0, 0.1)
    w = np.random.default_rng(1).standard_normal(9)
    made = problem(Quadratic(h, g, w), device)
    measure = pac_bayes.relative if relative else pac_bayes.isotropic
    found = measure(made, "loss", 0.1, 12, 3)
    drawn = ls.directions.random(made.model, n=12, normalize="none", ignore="none", seed=3)
    along = np.array([axis["w"].cpu().numpy() * (np.abs(w) if relative else 1) for axis in drawn.axes])
    curved = np.einsum("ni,ij,nj->n", along, h, along)
    sigma = math.sqrt(2 * 0.1 / curved.mean())
    assert found.value == pytest.approx(sigma, rel=2e-4)
    np.testing.assert_allclose(found.samples, sigma * (1.5 - curved / curved.mean() / 2), rtol=2e-3)
    assert found.samples.mean() == pytest.approx(found.value, rel=1e-12)
    assert found.what.invariant == ("filters" if relative else "none")


def test_sigma_holds_the_root_of_twice_the_rise_over_the_trace_in_its_interval():
    h = np.linspace(0.1, 3, 30)
    truth = math.sqrt(2 * 0.1 / h.sum())
    covered = []
    for seed in range(SEEDS):
        curved = np.random.default_rng(seed).standard_normal((10, 30)) ** 2 @ h
        covered.append(inside(pac_bayes.bearable(WHAT, lambda s, q=curved: s * s * q / 2, 0.1, 1.0), truth))
    assert not_under_95(covered)


def test_the_first_rise_counts_a_loss_that_never_rises_is_a_lower_bound_and_one_that_always_does_is_refused():
    wave = pac_bayes.bearable(WHAT, lambda s: np.full(5, math.sin(s)), 0.5, 0.01)
    assert wave.value == pytest.approx(math.pi / 6, rel=1e-4)
    bounded = pac_bayes.bearable(WHAT, lambda s: np.full(5, 0.05), 0.1, 1.0)
    assert bounded.at_least
    assert "however large the noise" in bounded.note
    with pytest.raises(ValueError, match=r"must rise by less than 0\.1 under small noise"):
        pac_bayes.bearable(WHAT, lambda s: np.full(5, 0.5), 0.1, 1.0)
    with pytest.raises(ValueError, match=r"must be finite, and rise, around noise of 2"):
        pac_bayes.bearable(WHAT, lambda s: np.full(5, 0.0 if s < 2 else math.nan), 0.1, 1.0)


def test_noise_that_is_not_finite_counts_as_a_rise():
    found = pac_bayes.bearable(WHAT, lambda s: np.full(5, s if s < 2 else math.nan), 0.5, 1.5)
    assert found.value == pytest.approx(0.5, rel=1e-4)


# Areas


def plane(x, y, values):
    return line(x, *values, y=y)


@given(st.lists(st.floats(-3, 3), min_size=4, max_size=4))
def test_the_share_of_a_cell_is_that_of_the_points_in_it(corners):
    values = np.array(corners).reshape(2, 2)
    assert area._share(values)[0, 0] == pytest.approx(share_below(values), abs=0.02)


def test_the_area_of_a_bowl_is_that_of_its_ellipse():
    x, y = np.linspace(-1, 1, 161), np.linspace(-1.5, 1.5, 201)
    values = 2 + 2 * x[None, :] ** 2 + 0.5 * y[:, None] ** 2 + 0.3 * x[None, :] * y[:, None]
    found = area.low_loss(plane(x, y, values), "ce", 0.5)
    assert found.value == pytest.approx(2 * math.pi * 0.5 / math.sqrt(4.0 * 1.0 - 0.3**2), rel=1e-3)
    assert not found.at_least
    assert math.isnan(found.low)
    assert found.note == f"{found.value / 6:.0%} of the plane"


def test_the_area_under_a_slope_is_exact_on_any_grid_and_reaches_the_border():
    x, y = np.array([-1.0, -0.2, 0.0, 0.7, 1.0]), np.array([-1.0, 0.0, 0.4, 1.0])
    found = area.low_loss(plane(x, y, np.broadcast_to(3 + x, (4, 5))), "ce", 0.25)
    assert found.value == pytest.approx(2 * 1.25, rel=1e-12)
    assert found.at_least
    assert "62% of the plane, up to its border" in found.note


def test_a_point_that_is_not_finite_counts_as_above():
    x = np.linspace(-1, 1, 5)
    values = np.full((5, 5), 2.0)
    values[2, 2] = 0.0
    low = area.low_loss(plane(x, x, values), "ce", 1.0)
    # each of the four cells: half of the edges, cut along either diagonal: 1/8 from the near one, 1/4 from the far one
    assert low.value == pytest.approx(4 * 0.25 * (1 / 8 + 1 / 4) / 2, rel=1e-12)
    values[2, 3] = np.nan
    assert area.low_loss(plane(x, x, values), "ce", 1.0).value < low.value


def test_a_sampled_plane_gives_the_areas_with_all_points_lower_and_higher():
    x = np.linspace(-1, 1, 41)
    values = 3 * x[None, :] ** 2 + 3 * x[:, None] ** 2
    surface = plane(x, x, values)
    sems = {"ce": np.full((41, 41), 0.05)}
    surface.sampled = Sampled(np.full((41, 41), 9), sems, sems, {"ce": np.full((41, 41), 0.02)})
    found = area.low_loss(surface, "ce", 1.0)
    low, high = (area.low_loss(plane(x, x, values), "ce", 1 - by).value for by in (1.96 * 0.02, -1.96 * 0.02))
    assert [found.low, found.high] == pytest.approx([low, high], rel=1e-12)
    assert low < found.value < high


def test_an_area_is_of_a_complete_plane():
    x = np.linspace(-1, 1, 5)
    pending = plane(x, x, np.ones((5, 5)))
    pending.status[0, 0] = PENDING
    for surface in (line(x, x**2), pending):
        with pytest.raises(ValueError, match=r"surface must be a complete plane"):
            area.low_loss(surface, "ce", 1.0)
    with pytest.raises(ValueError, match=r"rise must be above 0\. Got -1"):
        area.low_loss(plane(x, x, np.ones((5, 5))), "ce", -1)
    with pytest.raises(ValueError, match=r"y must have a point at the origin"):
        area.low_loss(plane(x, x + 3, np.ones((5, 5))), "ce", 1.0)
