"""Which flatness numbers change when a ReLU network is rescaled while its function stays, for docs/flatness.md.

    python scripts/flatness_invariance.py

A network of three linear layers is trained on digits, and then rescaled in two ways: each layer by a factor of its own,
which the next one undoes; and each unit by a factor of its own. Each is measured in double precision. Writes
figures/flatness/invariance.{json,txt}, and fails where a number does not do what its definition says.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from stamped import ROOT, stamped
from torch import Tensor, nn

import landscape as ls
from dot.outcome import as_text
from landscape.isolation import thread_count

TARGET = ROOT / "figures" / "flatness"
MOVED = 1e-3
"""Relative change above which a number has moved."""


def trained(images: Tensor, labels: Tensor) -> nn.Sequential:
    """A few seconds of SGD."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    for _ in range(40):
        for rows in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[rows]), labels[rows]).backward()
            optimizer.step()
    return model.double()


def rescaled(model: nn.Sequential, factors: Sequence[Tensor]) -> nn.Sequential:
    """The same function: units of each hidden layer times factors, ``[units]`` each, which the next layer undoes."""
    twin = copy.deepcopy(model)
    layers = [module for module in twin if isinstance(module, nn.Linear)]
    with torch.no_grad():
        for layer, after, factor in zip(layers[:-1], layers[1:], factors, strict=True):
            layer.weight *= factor[:, None]
            layer.bias *= factor
            after.weight /= factor
    return twin


def measured(model: nn.Sequential, images: Tensor, labels: Tensor) -> dict[str, ls.sharpness.Measure]:
    """All numbers, those of a plane too, by their keys."""
    losses = {"ce": nn.CrossEntropyLoss(reduction="none")}
    problem = ls.Problem.from_loss(model, losses, [(images.double(), labels)], "train")
    drawn = ls.directions.random(model, n=2, seed=0)
    plane = ls.evaluate(problem, drawn, ls.Grid2D(x=(-1, 1, 21), y=(-1, 1, 21)), label="plane")
    found = dict(ls.sharpness.summary(problem))
    areas = [f"area-{rise:g}" for rise in ls.sharpness.Settings().rises]
    return found | dict(ls.sharpness.summary(problem, surface=plane, measures=areas))


def main() -> None:
    digits = load_digits()
    images, labels = torch.tensor(digits.data[::2] / 16).float(), torch.tensor(digits.target[::2])
    with thread_count(1):
        model = trained(images, labels)
        draw = torch.Generator().manual_seed(0)
        layers = [torch.full((32,), factor).double() for factor in (2.0, 0.25)]
        units = [torch.empty(32).double().uniform_(-1, 1, generator=draw).exp() for _ in range(2)]
        networks = {"before": model, "layers": rescaled(model, layers), "units": rescaled(model, units)}
        found = {name: measured(network, images, labels) for name, network in networks.items()}
    rows = [row({name: numbers[key] for name, numbers in found.items()}) for key in found["before"]]
    TARGET.mkdir(parents=True, exist_ok=True)
    made = stamped(torch.device("cpu"), {"moved": MOVED, "layers": [2.0, 0.25], "measures": rows})
    (TARGET / "invariance.json").write_text(json.dumps(made, indent=1) + "\n")
    write_table(rows, TARGET / "invariance.txt")
    wrong = [str(row["name"]) for row in rows if row["invariant"] != row["found"]]
    if wrong:
        sys.exit(f"expected each number to be as invariant as it says. Got otherwise: {', '.join(wrong)}.")


def row(numbers: dict[str, ls.sharpness.Measure]) -> dict[str, object]:
    """What one number is before and after, and what that says."""
    what, values = numbers["before"].what, {name: measure.value for name, measure in numbers.items()}
    moved = {name: abs(values[name] / values["before"] - 1) > MOVED for name in ("layers", "units")}
    found = "none" if moved["layers"] else "layers" if moved["units"] else "filters"
    said = {"invariant": what.invariant, "found": found}
    return {"key": what.key, "name": what.name, "source": what.source} | said | {"values": values, "moved": moved}


def write_table(rows: list[dict[str, object]], path: Path) -> None:
    cells = [["", "before", "after layers", "", "after units", "", "source"]]
    for each in rows:
        values, moved = each["values"], each["moved"]
        after = [[f"{values[by]:.4g}", "moves" if moved[by] else "unchanged"] for by in ("layers", "units")]
        cells.append([each["name"], f"{values['before']:.4g}", *after[0], *after[1], each["source"]])
    path.write_text(as_text(cells) + "\n")
    print(path.read_text(), end="")


if __name__ == "__main__":
    main()
