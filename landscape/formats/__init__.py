"""Surfaces in the files of other programs: CSV, NumPy, ParaView and the original loss-landscape tool.

    from landscape import formats
    formats.export(surface, "surface.vtp", term="ce")
    surface = formats.read_original("resnet56_surface.h5")

They read results and compute nothing. What a surface is measured into, and resumed from, is `landscape.store`.
"""

from landscape.formats.exporting import export
from landscape.formats.original import read_original

__all__ = ["export", "read_original"]
