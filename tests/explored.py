"""Surfaces to be explored in tests, with every kind of cell, as files and in memory."""

from __future__ import annotations

import numpy as np

from landscape.directions import Directions
from landscape.results import DONE, NOT_FINITE, PENDING, Surface

HOSTILE = '<script>alert(1)</script> "quoted" & <b>bold</b>'
TERMS = ("ce", "kd", "error")


def plane(seed=0, shape=(5, 7), extent=1.0, low=0.5, terms=TERMS, **attrs):
    """A noisy bowl; of ``error`` some cells are 0."""
    draw = np.random.default_rng(seed)
    x, y = np.linspace(-extent, extent, shape[1]), np.linspace(-2 * extent, 2 * extent, shape[0])
    bowl = low + 3 * x[None, :] ** 2 + 2 * y[:, None] ** 2
    values = {
        "ce": bowl + draw.uniform(0, 0.1, shape),
        "kd": 2 * bowl + draw.uniform(0, 0.1, shape),
        "error": np.where(bowl < 2, 0.0, 0.3),
    }
    sems = {term: draw.uniform(0.01, 0.02, shape) for term in terms}
    middle = (shape[0] // 2, shape[1] // 2)
    return Surface(
        x,
        y,
        ("y", "x"),
        {term: values[term] for term in terms},
        sems,
        np.full(shape, DONE, dtype=np.uint8),
        {term: (float(values[term][middle]), float(sems[term][middle])) for term in terms},
        {"normalize": "filter", "ignore": "biasbn", "seed": 0, "n_examples": 100, "split": "train"} | attrs,
    )


def with_holes(surface):
    """A row that is pending, and in the second row an infinity and a NaN."""
    for term in surface.terms:
        surface.means[term][-1, :] = np.nan
        surface.means[term][1, 2], surface.means[term][1, 3] = np.inf, np.nan
    surface.status[-1, :], surface.status[1, 2:4] = PENDING, NOT_FINITE
    return surface


def with_path(surface):
    """The path of a training run and its ends."""
    way = np.array([[-0.8, -1.5], [-0.4, -0.5], [0.0, 0.0]])
    points = {"trajectory": way, "start <b>": way[:1], "end": way[-1:]}
    axes = ({}, {})
    surface.directions = Directions(axes, normalize="filter", ignore="biasbn", seed=0, kind="trajectory", points=points)
    return surface


def bundle(seed=0, lines=3, points=9, **attrs):
    """Parabolas along random directions; a single line has no axis of directions."""
    x = np.linspace(-1, 1, points)
    bends = np.random.default_rng(seed).uniform(1, 3, lines)
    values = 0.25 + bends[:, None] * x**2
    dims = ("direction", "x")
    if lines == 1:
        values, dims = values[0], ("x",)
    status = np.full(values.shape, DONE, dtype=np.uint8)
    attrs = {"normalize": "filter", "n_examples": 100, "split": "train"} | attrs
    return Surface(x, None, dims, {"ce": values}, {"ce": values * 0.1}, status, {"ce": (0.25, 0.025)}, attrs)
