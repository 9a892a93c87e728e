"""
The way of a run
================

The checkpoints of a training run, projected into the plane of their two principal
components, over the loss in that plane. The axes say how much of the way lies in the
plane; what lies outside is not seen, and the height under a checkpoint is that of its
projection. A smooth arc is what principal components make even of a random walk.
"""

import landscape as ls
import small

problem = small.problem("KD+SGD")
checkpoints = small.trained("KD+SGD").checkpoints
directions = ls.directions.trajectory(problem.model, checkpoints)
low, high = (
    directions.points["trajectory"].min(0) - 1,
    directions.points["trajectory"].max(0) + 1,
)
grid = ls.Grid2D(x=(low[0], high[0], 25), y=(low[1], high[1], 25))
plane = ls.evaluate(problem, directions, grid)

ls.plot.trajectory(plane, term="ce", epochs=range(len(checkpoints)))
