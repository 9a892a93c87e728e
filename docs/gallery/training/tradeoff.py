"""
One loss against the other
==========================

The way that each method takes through the plane of its two test losses, from the hollow
marker after the first epoch to the filled one after the last. Lower and further left is
better in both; a line that turns up or right pays for one loss with the other.
"""

import landscape as ls
import small

paths = {
    method: [small.trained(method, seed).losses for seed in small.SEEDS]
    for method in small.METHODS
}

ls.plot.tradeoff(paths, labels=("task loss (test)", "distillation loss (test)"))
