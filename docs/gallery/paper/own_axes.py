"""
On your own axes
================

Every kind draws on axes that you give it as ``ax=``, as many as it has panels, so that
several can share one figure. What stands around the axes is yours then: titles,
letters, sizes.
"""

from matplotlib.figure import Figure

import landscape as ls
import small

figure = Figure(figsize=(8.6, 6.6), layout="constrained")
axes = figure.subplot_mosaic([["curves", "losses"], ["plane", "layers"]])

conflicts = {method: [small.trained(method).conflict] for method in small.METHODS}
losses = {method: [small.trained(method).losses] for method in small.METHODS}
ls.plot.curves(small.lines(), term="ce", ax=axes["curves"])
ls.plot.tradeoff(losses, ax=axes["losses"])
ls.plot.contour(small.planes()["KD+SGD"], term="ce", ax=axes["plane"])
ls.plot.layers(conflicts, ax=axes["layers"])
for name in ("losses", "layers"):  # the methods look the same in every figure
    axes[name].get_legend().remove()
axes["curves"].set_ylim(top=300)  # room for the one that stays
for letter, ax in zip("abcd", axes.values(), strict=True):
    ax.set_title(letter, loc="left", fontweight="bold")
