"""Flatness numbers of a minimum, each with its error and definition, and whether groups of minima can be told apart."""

from landscape.sharpness.curvature import curvatures
from landscape.sharpness.flatness import Flatness
from landscape.sharpness.lines import lines
from landscape.sharpness.measure import Definition, Measure
from landscape.sharpness.settings import Settings
from landscape.sharpness.summarising import summary
from landscape.sharpness.widths import Widths, basin_widths

__all__ = ["Definition", "Flatness", "Measure", "Settings", "Widths", "basin_widths", "curvatures", "lines", "summary"]
