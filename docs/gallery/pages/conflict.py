"""
Gradient conflict, layer by layer
=================================

The cosine over training and in every layer, hand in hand, for each method. Point at a
layer, or at a step, to see it in both; ``page.write_html("conflict.html")`` writes the
page as one file.
"""

import landscape as ls
import small

conflicts = {method: small.trained(method).conflict for method in small.METHODS}

page = ls.explore(conflicts)
