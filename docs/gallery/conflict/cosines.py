"""
Every two of several gradients
==============================

Any number of losses can be asked, at weights that stand still: here the task loss, the
distillation loss, and label smoothing, which pulls the outputs towards all classes
alike. Red cells are losses that pull apart. Each number is the mean over batches; in
brackets stands the cosine of the gradients over all the images, which the noise of the
batches does not reach.
"""

import landscape as ls
import small


def objective(net, batch):
    smooth = -net(batch[0]).log_softmax(1).mean(1)
    return {**small.objective(net, batch), "smooth": smooth}


batches = small.batches(*small.examples("train"))
problem = ls.Problem(small.trained("KD+SGD").net, objective, batches)
conflict = ls.conflict.measure(problem, terms=("ce", "kd", "smooth"))

ls.plot.cosines(conflict)
