"""
Can the minima be told apart?
=============================

Every two methods, compared by pairs of one seed: how many times as large the first is
in each measure, dark where it is flatter and light where it is sharper. Grey means that
no difference was found, which does not show that there is none: three seeds are few.
``print(verdict)`` says the same in words, with intervals.
"""

import landscape as ls
import small

groups = {
    method: [small.problem(method, seed) for seed in small.SEEDS]
    for method in small.METHODS
}
measures = ["width-0.1", "noise-0.1", "top-eigenvalue"]
verdict = ls.sharpness.compare(groups, term="ce", measures=measures, n_directions=6)

ls.plot.verdicts(verdict)
