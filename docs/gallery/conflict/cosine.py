"""
Do two gradients agree?
=======================

The cosine between the gradients of the task loss and of the distillation loss, on
batches met while training: at 1 they pull the same way, below 0 a step along one raises
the other loss. The band reaches from the lowest seed to the highest. Nothing is
smoothed, and the gradients of batches are noisy: their mean cosine is closer to 0 than
that of the gradients over all the data.
"""

import landscape as ls
import small

conflicts = {
    method: [small.trained(method, seed).conflict for seed in small.SEEDS]
    for method in small.METHODS
}

ls.plot.cosine(conflicts)
