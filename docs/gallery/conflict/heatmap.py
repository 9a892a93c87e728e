"""
Layers over training
====================

The cosine of both gradients in each layer and at each recorded step, of one seed: where
in the network, and when, the two losses pull apart. Each cell is one batch, and its
noise is in it.
"""

import landscape as ls
import small

conflicts = {method: small.trained(method).conflict for method in small.METHODS}

ls.plot.heatmap(conflicts)
