"""
What both gradients share
=========================

The length of the part that both gradients have in common, and of what is left of each,
over training. Where the shared part is the shorter one, most of a step serves one of
the two losses alone. The split into parts is a definition (``ls.conflict.decompose``);
others are possible.
"""

import landscape as ls
import small

conflicts = {
    method: [small.trained(method, seed).conflict for seed in small.SEEDS]
    for method in ("KD+SGD", "KD+DOT")
}

ls.plot.decomposition(conflicts)
