"""
Methods against a baseline
==========================

The difference of each method from a baseline, paired by seed, with its 95 % interval:
filled where a difference was found, hollow where none was. An interval that reaches
across zero does not show that there is no difference; with three seeds it is wide.
"""

import landscape as ls
import small
from landscape.comparing import paired


def final(method, term):
    return {seed: small.trained(method, seed).losses[term][-1] for seed in small.SEEDS}


measures = {}
for term, name in enumerate(("task loss (test)", "distillation loss (test)")):
    measures[name] = {}
    for method in ("CE", "KD+DOT"):
        found = paired(final(method, term), final("KD+SGD", term))
        effect = ls.plot.Effect(found.mean, found.low, found.high, found.found)
        measures[name][method] = effect

ls.plot.effects(measures, baseline="KD+SGD")
