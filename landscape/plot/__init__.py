"""Figures of what was measured: one file for each kind, each returning a ``matplotlib.figure.Figure``.

They read results and compute nothing but means and bands for drawing. No window is opened, and neither ``pyplot`` nor
the global ``rcParams`` is touched.
"""

from landscape.plot._alt import alt_text
from landscape.plot._caption import caption
from landscape.plot._save import save
from landscape.plot._style import style
from landscape.plot.connectivity import connectivity
from landscape.plot.contour import contour
from landscape.plot.cosine import cosine
from landscape.plot.curves import curves
from landscape.plot.decomposition import decomposition
from landscape.plot.density import density
from landscape.plot.difference import difference
from landscape.plot.effects import Effect, effects
from landscape.plot.eigenvalues import eigenvalues
from landscape.plot.error import error
from landscape.plot.flatness import flatness
from landscape.plot.heatmap import heatmap
from landscape.plot.inconsistency import inconsistency
from landscape.plot.layers import layers
from landscape.plot.matrix import cosines
from landscape.plot.relief import relief
from landscape.plot.sweep import sweep
from landscape.plot.tradeoff import tradeoff
from landscape.plot.trajectory import trajectory
from landscape.plot.verdicts import verdicts

__all__ = [
    "Effect",
    "alt_text",
    "caption",
    "connectivity",
    "contour",
    "cosine",
    "cosines",
    "curves",
    "decomposition",
    "density",
    "difference",
    "effects",
    "eigenvalues",
    "error",
    "flatness",
    "heatmap",
    "inconsistency",
    "layers",
    "relief",
    "save",
    "style",
    "sweep",
    "tradeoff",
    "trajectory",
    "verdicts",
]
