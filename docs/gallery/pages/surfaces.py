"""
Surfaces to turn and compare
============================

Several surfaces on one page, hand in hand: turn one and all of them turn, point at a
place and all of them say their value there. Term, scale and colours are chosen in the
page, and stand in its address, so that a view can be sent;
``page.write_html("surfaces.html")`` writes the page as one file.
"""

import landscape as ls
import small

page = ls.explore(small.planes(), term="ce")
