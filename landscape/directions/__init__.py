"""Directions in weight space: what the coordinates of a surface are multiples of.

d = ls.directions.random(model, n=2, normalize="filter", seed=0)
"""

from landscape.directions.axes import Directions
from landscape.directions.checkpoints import interpolation, plane
from landscape.directions.files import load, save
from landscape.directions.gaussian import random
from landscape.directions.gradient import gradient
from landscape.directions.tensors import from_tensors
from landscape.directions.trajectory import trajectory

__all__ = [
    "Directions",
    "from_tensors",
    "gradient",
    "interpolation",
    "load",
    "plane",
    "random",
    "save",
    "trajectory",
]
