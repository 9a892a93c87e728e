"""
Curves along random directions
==============================

How fast the loss rises when the trained weights move away along random directions,
scaled filter by filter to the weights themselves. The band holds the middle 80 % of all
curves, over directions and over seeds: where two bands lie on each other, the methods
are not told apart. A flat curve says nothing about how well a network does on new
images.
"""

import landscape as ls
import small

lines = {}
for method in small.METHODS:
    lines[method] = []
    for seed in small.SEEDS:
        problem = small.problem(method, seed)
        directions = ls.directions.random(
            problem.model, n=10, normalize="filter", seed=seed
        )
        lines[method].append(ls.evaluate(problem, directions, ls.Grid1D((-1, 1, 21))))

ls.plot.curves(lines, term="ce")
