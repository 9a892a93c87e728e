"""
All eigenvalues
===============

How the eigenvalues of the Hessian are distributed, estimated without computing one of
them: a tall peak at zero, and a tail. The band is the 95 % interval over random probes,
and each eigenvalue is broadened, by as much as the legend says. The scale of a
network's layers moves all of it.
"""

import landscape as ls
import small

densities = {
    method: ls.hessian.density(small.problem(method), term="ce", probes=4, steps=40)
    for method in small.METHODS
}

ls.plot.density(densities)
