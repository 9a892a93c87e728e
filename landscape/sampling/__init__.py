"""How few examples a cell of a surface needs, and how far its estimate may be off.

`Sampler` says which examples of which cells are to be evaluated next, and takes their losses. What it rests on has a
file each: the fixed random order of the examples (`order`), the predictors from anchor cells (`predictors`), the
two-phase regression estimate with its error (`estimate`), how many examples to ask for (`allocation`), and the two
phases (`first_phase`, `second_phase`). Numbers only: neither networks nor files.

Sources: W. G. Cochran, "Sampling Techniques", 3rd ed., 1977; C.-E. Sarndal, B. Swensson, J. Wretman, "Model Assisted
Survey Sampling", 1992; P. Hall, "The Bootstrap and Edgeworth Expansion", 1992.
"""

from landscape.sampling.estimate import Estimate
from landscape.sampling.sampler import Goal, Request, Sampler

__all__ = ["Estimate", "Goal", "Request", "Sampler"]
