"""Flatness numbers of a minimum, each with its error and definition, and whether groups of minima can be told apart."""

from landscape.sharpness.comparing import compare
from landscape.sharpness.curvature import curvatures
from landscape.sharpness.flatness import Flatness
from landscape.sharpness.lines import lines
from landscape.sharpness.measure import Definition, Measure
from landscape.sharpness.ranking import Agreement, agreement
from landscape.sharpness.settings import Settings
from landscape.sharpness.summarising import names, summary
from landscape.sharpness.topology import Basin, Topology, persistence
from landscape.sharpness.verdict import Difference, Group, Row, Verdict
from landscape.sharpness.widths import Widths, basin_widths

__all__ = [
    "Agreement",
    "Basin",
    "Definition",
    "Difference",
    "Flatness",
    "Group",
    "Measure",
    "Row",
    "Settings",
    "Topology",
    "Verdict",
    "Widths",
    "agreement",
    "basin_widths",
    "compare",
    "curvatures",
    "lines",
    "names",
    "persistence",
    "summary",
]
