"""
Contours of planes
==================

The loss in a plane of two random directions, every cell in the colour of its own mean
over all images, on one scale and one set of levels for all networks. The cross is where
training ended. A plane is two directions of thousands: it shows a shape, and is no
measure of flatness.
"""

import landscape as ls
import small

planes = {}
for method in small.METHODS:
    problem = small.problem(method)
    directions = ls.directions.random(problem.model, n=2, normalize="filter", seed=0)
    planes[method] = ls.evaluate(
        problem, directions, ls.Grid2D(x=(-1, 1, 21), y=(-1, 1, 21))
    )

ls.plot.contour(planes, term="ce")
