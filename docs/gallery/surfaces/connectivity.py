"""
From one network to another
===========================

The loss on the straight line between two students from different seeds, and along a
curve that was trained to stay low between them. The barrier is how far a path rises
above the line between the values at its ends. That a low path was found shows that one
exists; that none was found would show little.
"""

import landscape as ls
import small

problem = small.problem("KD+SGD", seed=0)
end = small.trained("KD+SGD", seed=1).net
line = ls.directions.interpolation(problem.model, end)
curve = ls.connectivity.bezier(problem, end, term="ce", steps=300, lr=0.05)
paths = {
    "straight line": ls.evaluate(problem, line, ls.Grid1D((0, 1, 41))),
    "trained curve": ls.evaluate(problem, curve.directions, curve.path(41)),
}

ls.plot.connectivity(paths, term="ce")
