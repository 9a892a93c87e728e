"""Layout and lower precision: within their errors of the module as it is, whose weights stay in their own."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from oracles import brute_force
from test_folding import averages, lived, moved
from torch import Tensor, nn

import landscape as ls
from dot.models import build
from landscape import folding
from landscape.fastpath import hasten, quickest


def ce(model, batch):
    x, y = batch
    return {"ce": F.cross_entropy(model(x), y, reduction="none")}


def batches(size: int = 8) -> list[tuple[Tensor, Tensor]]:
    return list(zip(torch.randn(16, 3, 8, 8).split(size), torch.randint(0, 10, (16,)).split(size), strict=True))


@pytest.mark.parametrize("ignore", ["biasbn", "none"])
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"channels_last": True}, 3e-6),
        ({"dtype": torch.bfloat16}, 3e-2),
        ({"channels_last": True, "dtype": torch.bfloat16}, 3e-2),
    ],
    ids=["channels last", "bf16", "both"],
)
def test_a_hastened_network_is_the_same_up_to_its_rounding(options, error, ignore):
    model, data = build("resnet8", num_classes=10), batches()
    for x, _ in data:
        model(x)
    model.eval()
    axes = ls.directions.random(model, n=2, ignore=ignore, seed=1).axes
    base = {n: t.detach().clone() for n, t in [*model.named_parameters(), *model.named_buffers()]}
    folded = folding.fold(model, lambda m: ce(m, data[0]))
    assert hasten(folded, **options) is folded.module
    folded.follow(axes)
    assert folded.linear == (ignore == "biasbn")
    for point in [(0.0, 0.0), (0.4, -0.3), (-0.2, 0.5)]:
        expected = brute_force(model, ce, data, axes, point)["ce"][0]
        module = moved(folded, base, axes, point)
        assert averages(module, ce, data)["ce"] == pytest.approx(expected, rel=error)
        with torch.no_grad():
            assert module(data[0][0]).dtype == torch.float32
    assert {p.dtype for p in folded.module.parameters()} == {torch.float32}


def test_a_network_without_norms_is_hastened_too():
    model, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 10)).eval(), batches()[0][0]
    plain = copy.deepcopy(model)
    hasten(model, channels_last=True, dtype=torch.bfloat16)
    with torch.no_grad():
        assert model(x).dtype == torch.float32
        assert torch.allclose(model(x), plain(x), atol=2e-2)
        assert not torch.equal(model(x), plain(x))
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_outputs_of_any_structure_come_in_single_precision():
    class Several(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x):
            return {"logits": (z := self.layer(x)), "parts": [z, (z > 0)], "name": "z"}

    with torch.no_grad():
        found = hasten(lived(Several()), dtype=torch.bfloat16)(torch.ones(2, 3))
    assert found["logits"].dtype == found["parts"][0].dtype == torch.float32
    assert found["parts"][1].dtype == torch.bool
    assert found["name"] == "z"


def test_the_quickest_is_that_of_the_least_median():
    times = {25: iter([9, 3, 3, 3]), 50: iter([1, 9, 2, 2]), 100: iter([1, 1, 5, 5])}
    calls = []

    def seconds(size):
        calls.append(size)
        return next(times[size])

    assert quickest([25, 50, 100], seconds) == 50
    assert calls == [25, 50, 100] * 4
    assert quickest([25, 50], lambda size: 1.0) == 25
