"""
What the other gradient does not share
======================================

A cosine says nothing of size. Here each gradient is split into the part that both share
and the rest, and the share of the rest in its squared norm is drawn: 0 where the other
gradient has all of it, 1 where it has none.
"""

import landscape as ls
import small

conflicts = {
    method: [small.trained(method, seed).conflict for seed in small.SEEDS]
    for method in ("KD+SGD", "KD+DOT")
}

ls.plot.inconsistency(conflicts)
