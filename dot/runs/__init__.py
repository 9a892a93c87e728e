"""Run folders: a training run on disk, resumed where it was, and the problem that it makes for measurements.

runs/<method>-<model>-<hash8>/
    config.toml         resolved; its digest is the hash in the folder's name
    environment.json    versions, machine, command, digest of the teacher's weights
    metrics.jsonl       a line an epoch
    checkpoints/        last.pt, the one before it, and the weights after the epochs asked for
    conflict.h5         gradient conflict recorded while training
    distillation.safetensors  of a distillation loss that has weights of its own
    model.safetensors   the trained weights; written last
    surface.h5, lines.h5, flatness-*.h5   what was measured on them
    logits-*/           a teacher's logits, where its students share them
"""

from dot.runs.folder import Run, is_run, load_checkpoint, open_run
from dot.runs.measured import problem
from dot.runs.training import teach, train

__all__ = ["Run", "is_run", "load_checkpoint", "open_run", "problem", "teach", "train"]
