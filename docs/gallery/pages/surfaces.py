"""
Surfaces to turn and compare
============================

Several surfaces on one page, hand in hand: turn one and the others turn, point at one
and all of them say their value there. The page is a single file; ``write_html`` writes
it, and it opens without a network.
"""

import landscape as ls
import small

page = ls.explore(small.planes(), term="ce")
