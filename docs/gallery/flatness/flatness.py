"""
How flat are the minima?
========================

A panel for each measure of flatness: a dot a seed, and the mean with its 95 % interval
over seeds and directions. Under each panel stands which way is flatter.
:doc:`../../flatness` says which measures to trust: the last one moves with the scale of
the layers, which changes nothing else about a network.
"""

import landscape as ls
import small

groups = {
    method: [small.problem(method, seed) for seed in small.SEEDS]
    for method in small.METHODS
}
measures = ["width-0.1", "noise-0.1", "top-eigenvalue"]
verdict = ls.sharpness.compare(groups, term="ce", measures=measures, n_directions=6)

ls.plot.flatness(verdict)
