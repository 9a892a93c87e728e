"""
Every two of several gradients
==============================

Any number of losses can be asked, at weights that stand still: here the task loss, the
distillation loss, and their weighted sum. Each number is the mean over batches; in
brackets stands the cosine of the gradients over all the images, which the noise of the
batches does not reach.
"""

import landscape as ls
import small


def objective(net, batch):
    losses = small.objective(net, batch)
    return {**losses, "total": 0.1 * losses["ce"] + 0.9 * losses["kd"]}


student = small.trained("KD+SGD").net
problem = ls.Problem(student, objective, small.batches(*small.examples("train")))
conflict = ls.conflict.measure(problem, terms=("ce", "kd", "total"))

ls.plot.cosines(conflict)
