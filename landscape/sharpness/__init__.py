"""Flatness numbers of a minimum, each with its error and definition, and whether groups of minima can be told apart."""

from landscape.sharpness.lines import Measure, Widths, basin_widths, curvatures, lines, summary

__all__ = ["Measure", "Widths", "basin_widths", "curvatures", "lines", "summary"]
