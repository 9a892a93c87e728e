"""
How exact each cell is
======================

A cell that is estimated from some of the images has an error. Here every cell was
sampled until its standard error was 5 % of its mean: on the left what was reached, on
the right how many images that took. Near the minimum most images have no loss and a few
have much, so that more of them are needed.
"""

import landscape as ls
import small

problem = small.problem("KD+SGD")
directions = ls.directions.random(problem.model, n=2, normalize="filter", seed=0)
surface = ls.evaluate(
    problem, directions, ls.Grid2D(x=(-1, 1, 11), y=(-1, 1, 11)), rel_error=0.05
)

ls.plot.error(surface, term="ce")
