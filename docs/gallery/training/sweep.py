"""
What a setting does
===================

A number at every value of a setting that was tried: each seed a dot, their mean a line,
and the band from the lowest to the highest. The ring marks the best mean, not the best
seed. It was chosen on the numbers that are shown, so it is better than what new runs
would give.
"""

import landscape as ls
import small

losses = {
    delta: [small.trained("KD+DOT", s, delta=delta).losses[0][-1] for s in small.SEEDS]
    for delta in (0.0, 0.025, 0.05, 0.075)
}

ls.plot.sweep(
    {"KD+DOT": losses}, x_label="delta", y_label="task loss (test)", best="lowest"
)
