"""
The largest eigenvalues
=======================

The curvature along the few directions in which the loss rises most steeply, with the
residual that each eigenvalue was computed to. They move with the scale of a network's
layers: within one run they can be followed, between methods they are no ranking.
"""

import landscape as ls
import small

found = {
    method: ls.hessian.eigenpairs(small.problem(method), term="ce", k=6)
    for method in ("KD+SGD", "KD+DOT")
}

ls.plot.eigenvalues(found)
