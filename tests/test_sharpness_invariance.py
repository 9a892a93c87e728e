"""Which numbers move when a ReLU network is rescaled and its function stays: those that do not claim to stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from oracles import rescaled
from torch import nn

import landscape as ls
from landscape.sharpness import Flatness, Settings, summary
from landscape.sharpness.summarising import recipes

LAYERS = (3.0, 0.4)
UNITS = (torch.linspace(0.4, 2.5, 8).double(), torch.linspace(2.0, 0.5, 7).double())


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 3)).double()


def convolutions() -> nn.Module:
    torch.manual_seed(4)
    head = [nn.Flatten(), nn.Linear(8 * 4, 7), nn.ReLU(), nn.Linear(7, 3)]
    return nn.Sequential(
        nn.Unflatten(1, (1, 5)), nn.Unflatten(2, (1, 5)), nn.Conv2d(1, 8, (1, 2)), nn.ReLU(), *head
    ).double()


def measured(model: nn.Module) -> Flatness:
    torch.manual_seed(5)
    data = [(6 * torch.randn(30, 5).double(), torch.randint(0, 3, (30,)))]
    problem = ls.Problem.from_loss(model, {"ce": nn.CrossEntropyLoss(reduction="none")}, data)
    drawn = ls.directions.random(model, n=2, seed=1)
    plane = ls.evaluate(problem, drawn, ls.Grid2D(x=(-1, 1, 9), y=(-1, 1, 9)))
    settings = Settings(rises=(0.1,), noise=(0.25,), draws=4, steps=6, starts=2, trace_error=0.3)
    lines = summary(problem, n_directions=5, settings=settings)
    area = summary(problem, surface=plane, measures=["area-0.1"], settings=settings)
    return Flatness((*lines, *area), lines.attrs)


@pytest.mark.parametrize("make", [network, convolutions])
def test_the_function_is_the_same(make):
    model, x = make(), torch.randn(9, 5).double()
    for factors in (LAYERS, UNITS):
        twin = rescaled(model, factors)
        torch.testing.assert_close(twin(x), model(x), rtol=1e-12, atol=1e-12)
        assert not torch.equal(next(twin.parameters()), next(model.parameters()))


@pytest.mark.parametrize("make", [network, convolutions])
def test_a_number_moves_under_exactly_those_rescalings_that_it_does_not_claim(make):
    before, by_layer, by_unit = (measured(m) for m in (make(), rescaled(make(), LAYERS), rescaled(make(), UNITS)))
    assert len(before) == 11
    assert before.left_out == {}
    for measure in before:
        moved = [abs(after[measure.key].value / measure.value - 1) for after in (by_layer, by_unit)]
        kept = {"filters": (True, True), "layers": (True, False), "none": (False, False)}[measure.what.invariant]
        for by, is_kept in zip(moved, kept, strict=True):
            assert (by < 1e-6) if is_kept else (by > 1e-3), (measure.key, moved)


def test_directions_that_are_not_scaled_to_the_weights_claim_nothing():
    model = network()
    problem = ls.Problem.from_loss(
        model, {"ce": nn.CrossEntropyLoss(reduction="none")}, [(torch.randn(9, 5).double(), torch.randint(0, 3, (9,)))]
    )
    for normalize, claims in (("filter", "layers"), ("layer", "layers"), ("model", "none"), ("none", "none")):
        drawn = ls.directions.random(model, n=1, normalize=normalize)
        line = ls.evaluate(problem, drawn, ls.Grid1D(x=(-1, 1, 5)))
        assert summary(problem, line, measures=["curvature"])["curvature"].what.invariant == claims
    given = ls.directions.from_tensors(model, drawn.axes[0], normalize="filter", partial=True)
    line = ls.evaluate(problem, given, ls.Grid1D(x=(-1, 1, 5)))
    assert summary(problem, line, measures=["curvature"])["curvature"].what.invariant == "none"


def test_the_table_of_the_docs_has_every_number_and_each_does_as_it_claims():
    page = Path(__file__).parent.parent / "figures" / "flatness" / "invariance.json"
    rows = json.loads(page.read_text())["measures"]
    assert [row["key"] for row in rows] == list(recipes(Settings(), plane=True))
    assert [row["found"] for row in rows] == [row["invariant"] for row in rows]
