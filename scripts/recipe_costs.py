"""What each recipe costs, and whether its results are in this repository; the table of docs/reproduce-the-paper.md.

    python scripts/recipe_costs.py            # print it
    python scripts/recipe_costs.py --write    # and put it into the page

Costs are counted, not timed: multiply-adds of convolutions and linear layers for an image, times images and epochs. A
backward pass counts twice a forward pass. A step of CE is a forward and a backward pass of the student; KD adds a
forward pass of the teacher, DOT a second backward pass.
"""

from __future__ import annotations

import argparse
import re
from importlib import resources
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from dot import models
from dot.config import StudyConfig, load_study

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reproduce-the-paper.md"
SETS = {
    "cifar10": (50_000, 32, 10),
    "cifar100": (50_000, 32, 100),
    "tiny-imagenet": (100_000, 64, 200),
    "tiny-imagenet-20-32": (10_000, 32, 20),
    "imagenet": (1_281_167, 224, 1000),
}
"""Images to train on, their edge, classes."""


def multiply_adds(model: str, edge: int, classes: int) -> int:
    """Of a forward pass for one image, without computing it."""
    with torch.device("meta"):
        network, image = models.build(model, num_classes=classes).eval(), torch.empty(1, 3, edge, edge)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    return counter.get_total_flops() // 2


def row(study: StudyConfig) -> list[str]:
    """Of the table."""
    images, edge, classes = SETS[study.data]
    teacher, student = (multiply_adds(part.model, edge, classes) for part in (study.teacher, study.student))
    met = images * study.student.train.epochs
    costs = [
        images * study.teacher.train.epochs * 3 * teacher,
        met * 3 * student,
        met * (3 * student + teacher),
        met * (5 * student + teacher),
    ]
    kept = ROOT / "figures" / study.name / "manifest.json"
    paper = f"{study.paper.kd_sgd:.2f} → {study.paper.kd_dot:.2f}" if study.paper.source else "none"
    return [
        f"`{study.name}`",
        f"{study.teacher.train.epochs}, {study.student.train.epochs}",
        str(len(study.seeds)),
        *(f"{cost / 1e15:.3g}" for cost in costs),
        paper,
        f"[figures/{study.name}](../figures/{study.name})" if kept.exists() else "not run",
    ]


def table() -> str:
    """Of all recipes but the digits."""
    names = sorted(p.name.removesuffix(".toml") for p in (resources.files("dot") / "recipes").iterdir() if p.is_file())
    heads = [
        "recipe",
        "epochs (teacher, student)",
        "seeds",
        "teacher",
        "CE",
        "KD",
        "KD+DOT",
        "paper, KD → KD+DOT",
        "status",
    ]
    rows = [heads, ["---"] * len(heads), *(row(load_study(name)) for name in names if not name.startswith("digits"))]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into the page")
    found = table()
    print(found, end="")
    if parser.parse_args().write:
        marks = r"(<!-- table: scripts/recipe_costs.py -->\n).*?(<!-- end of table -->)"
        PAGE.write_text(re.sub(marks, lambda m: f"{m[1]}\n{found}\n{m[2]}", PAGE.read_text(), flags=re.S))


if __name__ == "__main__":
    main()
