"""
One plane less another
======================

Where is one network's loss higher than the other's? Red and solid lines where the first
is higher, blue and dashed ones where the second is. Grey, dotted cells lie within the
error of the difference, which does not show that the two are equal. Both planes must
have one grid; each has directions of its own, scaled to its own weights.
"""

import landscape as ls
import small

planes = small.planes()
names = ("KD+DOT", "KD+SGD")

ls.plot.difference(planes["KD+DOT"], planes["KD+SGD"], term="ce", names=names)
