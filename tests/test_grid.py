"""Coordinates: exact zeros, exact symmetry, and each cell once."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import landscape as ls
from landscape.grid import coordinates, shape, units


@given(last=st.floats(1e-6, 1e6), half=st.integers(1, 200))
def test_a_symmetric_axis_has_an_exact_zero_and_is_its_own_mirror_image(last, half):
    x = coordinates((-last, last, 2 * half + 1), "x")
    assert x.dtype == np.float64
    assert len(x) == 2 * half + 1
    assert (x[0], x[half], x[-1]) == (-last, 0.0, last)
    assert np.array_equal(x, -x[::-1])
    np.testing.assert_allclose(x, np.linspace(-last, last, len(x)), atol=1e-15 * last, rtol=1e-14)
    assert (np.diff(x) > 0).all()


@given(first=st.floats(-1e3, 1e3), length=st.floats(1e-2, 1e3), points=st.integers(2, 100))
def test_an_off_centre_axis_is_evenly_spaced_with_both_ends(first, length, points):
    last = first + length
    if first == -last:
        return
    x = coordinates((first, last, points), "y")
    assert (len(x), x[0], x[-1]) == (points, first, last)
    a, b = Fraction(first), Fraction(last)
    exact = [float(a + (b - a) * i / (points - 1)) for i in range(points)]
    np.testing.assert_allclose(x, exact, rtol=0, atol=1e-15 * max(abs(first), abs(last)))


@given(step=st.floats(1e-6, 1e6), before=st.integers(1, 100), after=st.integers(1, 100))
def test_zero_is_exact_wherever_the_points_of_an_axis_meet_it(step, before, after):
    if before == after:
        after += 1
    x = coordinates((-before * step, after * step, before + after + 1), "x")
    assert x[before] == 0.0
    assert (np.diff(x) > 0).all()


@pytest.mark.parametrize(
    ("axis", "zero"), [((-0.3, 1, 14), 3), ((-0.1, 0.5, 7), 1), ((-1, 3, 5), 1), ((-0.6, 0.1, 8), 6), ((0, 1, 11), 0)]
)
def test_an_off_centre_axis_that_passes_through_zero_has_an_exact_zero(axis, zero):
    """At 1e-17 the origin would be neither on the grid nor off it: flatness numbers could not be read there."""
    assert coordinates(axis, "x")[zero] == 0.0


@pytest.mark.parametrize("axis", ["x", "y"])
def test_an_even_count_on_a_symmetric_axis_is_refused(axis):
    axes = {"x": (-1, 1, 5), "y": (-1, 1, 5)} | {axis: (-1, 1, 50)}
    with pytest.raises(ValueError, match=r"^points must be odd") as caught:
        ls.Grid2D(**axes)
    assert str(caught.value) == f"points must be odd so that 0 is on the grid. Got 50 for {axis}. Use 51."


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        ((1, -1, 5), "x must run from a smaller to a larger finite coordinate. Got 1 to -1"),
        ((1, 1, 5), "smaller to a larger"),
        ((float("nan"), 1, 5), "finite"),
        ((0, float("inf"), 5), "finite"),
        ((0, 1, 1), "x must have a whole number of points, at least 2. Got 1"),
        ((0, 1, 2.5), "whole number of points"),
        ((0, 1), r"x must be \(first, last, points\), such as \(-1, 1, 51\)"),
    ],
)
@pytest.mark.parametrize("make", [ls.Grid1D, lambda x: ls.Grid2D(x, (-1, 1, 3))])
def test_a_faulty_axis_is_named_at_once(axis, message, make):
    with pytest.raises(ValueError, match=message):
        make(axis)


def test_a_line_takes_one_axis():
    with pytest.raises(TypeError):
        ls.Grid1D((-1, 1, 3), (-1, 1, 5))


def test_shapes_keep_their_axes():
    plane = ls.Grid2D(x=(-1, 1, 7), y=(-2, 2, 5))
    line = ls.Grid1D(x=(-1, 1, 7))
    assert shape(plane, 2) == (("y", "x"), (5, 7))
    assert shape(line, 1) == (("x",), (7,))
    assert shape(line, 3) == (("direction", "x"), (3, 7))
    for n in (1, 3):
        with pytest.raises(ValueError, match=f"Grid2D needs two directions. Got {n}"):
            shape(plane, n)


def test_rows_of_a_plane_hold_each_cell_once_at_its_own_coordinates():
    grid = ls.Grid2D(x=(-1, 1, 3), y=(0, 3, 4))
    cells = dict(cell for row in units(grid, 2) for cell in row)
    assert cells == {(j, i): (x, y) for j, y in enumerate([0, 1, 2, 3]) for i, x in enumerate([-1, 0, 1])}
    assert [len(row) for row in units(grid, 2)] == [3] * 4


def test_rows_of_a_line_are_its_points_and_of_a_bundle_its_lines():
    grid = ls.Grid1D(x=(-1, 1, 3))
    assert list(units(grid, 1)) == [[((0,), (-1,))], [((1,), (0,))], [((2,), (1,))]]
    assert list(units(grid, 2)) == [
        [((0, 0), (-1, 0)), ((0, 1), (0, 0)), ((0, 2), (1, 0))],
        [((1, 0), (0, -1)), ((1, 1), (0, 0)), ((1, 2), (0, 1))],
    ]
