"""
Planes in 3-D
=============

The planes of :doc:`contour` as filled surfaces, on one height and one colour scale.
What lies behind a ridge is hidden and heights cannot be read off exactly: it is the
figure for a talk, where contours are the one to measure by, and
:doc:`../pages/surfaces` the one to turn.
"""

import landscape as ls
import small

ls.plot.relief(small.planes(), term="ce")
