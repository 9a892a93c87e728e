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
path = directions.points["trajectory"]
(left, bottom), (right, top) = path.min(0) - 1, path.max(0) + 1
grid = ls.Grid2D(x=(left, right, 25), y=(bottom, top, 25))
plane = ls.evaluate(problem, directions, grid)

ls.plot.trajectory(plane, term="ce", epochs=range(len(checkpoints)))
