"""Draws what batch-norm statistics do to a loss surface, for docs/own-network.md.

    python scripts/figure_bn_mode.py

Trains two ResNet-20 on digits, from two seeds, and measures the task loss with running statistics as they are and with
statistics re-estimated at every point: along ten random directions, and on the straight line between the two networks.
Writes figures/bn-mode; needs a clean checkout, so that the commit in the numbers is the code that made them.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import torch
from make_figures import ROOT, clean_commit
from matplotlib.figure import Figure

import landscape as ls
from dot import runs
from dot.config import load_study
from landscape.batchnorm import BnMode
from landscape.provenance import stamp

TARGET = ROOT / "figures" / "bn-mode"
NAMES = {"eval": "as they are", "recalibrate": "re-estimated"}


def main() -> None:
    commit = clean_commit()
    cpu = torch.device("cpu")
    recipe = load_study("digits").teacher_run()
    trained = [runs.train(replace(recipe, seed=seed), ROOT / "studies" / "bn-mode", cpu) for seed in (0, 1)]
    problems = [runs.problem(run.path, "train", cpu) for run in trained]
    random = ls.directions.random(problems[0].model, n=10, seed=0)
    between = ls.directions.interpolation(problems[0].model, problems[1].model)
    panels = {
        "ten random directions": measured(problems[0], random, ls.Grid1D((-1, 1, 21)), trained[0].path / "lines"),
        "from one network to another": measured(problems[0], between, ls.Grid1D((0, 1, 21)), trained[0].path / "line"),
    }
    TARGET.mkdir(parents=True, exist_ok=True)
    draw(panels).savefig(TARGET / "bn-mode.png", dpi=110)
    numbers = {
        title: {mode: surface.values("ce").tolist() for mode, surface in surfaces.items()}
        for title, surfaces in panels.items()
    }
    made = stamp(cpu) | {"command": "python scripts/figure_bn_mode.py", "commit": commit}
    (TARGET / "bn-mode.json").write_text(json.dumps(made | {"ce": numbers}, indent=1) + "\n")


def measured(
    problem: ls.Problem, directions: ls.directions.Directions, grid: ls.Grid1D, stem: Path
) -> dict[str, ls.Surface]:
    return {
        mode: ls.evaluate(problem, directions, grid, out=stem.with_name(f"{stem.name}-{mode}.h5"), bn_mode=mode)
        for mode in get_args(BnMode)
    }


def draw(panels: dict[str, dict[str, ls.Surface]]) -> Figure:
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    figure.suptitle("ResNet-20 on digits, with batch-norm statistics as they are and re-estimated", fontsize=11)
    for ax, (title, surfaces) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        ls.plot.curves({NAMES[mode]: surface for mode, surface in surfaces.items()}, term="ce", ax=ax)
        ax.set_title(title, fontsize=10)
    return figure


if __name__ == "__main__":
    main()
