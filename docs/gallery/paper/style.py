"""
As wide as a column
===================

Within ``ls.plot.style("paper")`` figures are as wide as one column of a page, or two,
with letters of 7 to 8 points; ``caption`` gives the sentence for the text under it, and
``save`` writes PDF, SVG and PNG, the same bytes for the same figure.
"""

import landscape as ls
import small

with ls.plot.style("paper", columns=1):
    figure = ls.plot.curves(small.lines(), term="ce")

print(ls.plot.caption(figure))
