"""
Which layers disagree
=====================

The same cosine for the weights of each layer, a mean over training, with the lowest and
the highest seed. A layer to the left of the others is one in which the two losses pull
apart most.
"""

import landscape as ls
import small

conflicts = {
    method: [small.trained(method, seed).conflict for seed in small.SEEDS]
    for method in small.METHODS
}

ls.plot.layers(conflicts)
