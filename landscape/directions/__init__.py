"""Directions in weight space: what the coordinates of a surface are multiples of.

d = ls.directions.random(model, n=2, normalize="filter", seed=0)
"""

from landscape.directions.axes import Directions
from landscape.directions.checkpoints import interpolation, plane
from landscape.directions.gaussian import random

__all__ = ["Directions", "interpolation", "plane", "random"]
