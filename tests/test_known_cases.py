"""The known cases: rescaled twins are the same functions, and an outcome is right where it is what is known."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from dot import models

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))
import known_cases  # noqa: E402
from known_cases import CASES, Member, groups, rescaled  # noqa: E402

FOUND = ("flatter", "sharper", "same", "not told apart", "too few pairs", "undefined")


def used(name: str) -> nn.Module:
    """A network in eval mode whose batch norms have been used: gains of both signs, small and large variances."""
    torch.manual_seed(1)
    model = models.build(name, in_channels=3, num_classes=10).double()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_()
                module.running_var.copy_(10 ** torch.empty_like(module.running_var).uniform_(-6, 1))
                module.weight.normal_()
                module.bias.normal_()
    return model.eval()


@pytest.mark.parametrize(
    ("name", "factors"),
    [
        ("convnet8", {"conv1.weight": 8.0, "bn1.weight": 4.0, "bn1.bias": 4.0, "conv2.weight": 2.0}),
        (
            "resnet8",
            {"conv1.weight": 8.0}
            | {
                f"layer{i}.0.{part}": factor
                for i in (1, 2, 3)
                for part, factor in (
                    ("conv1.weight", 8.0), ("bn1.weight", 4.0), ("bn1.bias", 4.0), ("conv2.weight", 2.0),
                )
            },
        ),
    ],
)  # fmt: skip
def test_a_rescaled_network_is_the_same_function(name: str, factors: dict[str, float]) -> None:
    model, images = used(name), torch.randn(5, 3, 8, 8, dtype=torch.float64)
    before = copy.deepcopy(model.state_dict())
    twin = rescaled(model)
    assert not twin.training
    torch.testing.assert_close(twin(images), model(images), rtol=1e-10, atol=1e-10)
    for key, p in twin.named_parameters():
        assert torch.equal(p, factors.get(key, 1.0) * before[key]), key
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items()), "the model stays"
    single = model.float()
    torch.testing.assert_close(rescaled(single)(images.float()), single(images.float()), rtol=1e-3, atol=1e-3)


def test_what_cannot_be_rescaled_is_said() -> None:
    with pytest.raises(ValueError, match=r"must have convolutions conv1, \.\.\. Got Linear|Got Linear"):
        rescaled(nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("name", "judged"),
    [
        ("SAM", (True, False, False, None, None, None)),
        ("large batch, equal epochs", (False, True, False, None, None, None)),
        ("large batch, equal steps", (False, True, False, None, None, None)),
        ("rescaled", (False, False, True, None, None, None)),
        ("A/A", (False, False, True, True, None, None)),
    ],
)
def test_an_outcome_is_right_where_it_is_what_is_known(name: str, judged: tuple[bool | None, ...]) -> None:
    (case,) = [case for case in CASES if case.name == name]
    assert tuple(map(case.right, FOUND)) == judged


def test_the_groups_of_a_study() -> None:
    found = groups({"sgd": {s: f"a{s}" for s in range(5)}, "sam": {s: f"b{s}" for s in range(5)}}, twins=3)
    assert found["sam"] == [Member(f"b{s}", s) for s in range(5)]
    assert found["rescaled"] == [Member(f"a{s}", s, twin=True) for s in range(3)]
    assert [member.seed for member in found["first half"]] == [0, 1]
    assert [member.seed for member in found["second half"]] == [2, 3]
    assert [case.name for case in known_cases.cases(list(found))] == ["SAM", "rescaled", "A/A"]
