"""
As wide as a column
===================

Within ``ls.plot.style("paper")`` figures are as wide as one column of a page, or as
two, with letters of 7 to 8 points. ``caption`` gives the sentence for the text under
it: what is shown, of how many examples, seeds and directions. The same results give the
same bytes, as PDF, SVG and PNG, by ``ls.plot.save(figure, "curves")``.
"""

import landscape as ls
import small

with ls.plot.style("paper", columns=1):
    figure = ls.plot.curves(small.lines(), term="ce")

print(ls.plot.caption(figure))
