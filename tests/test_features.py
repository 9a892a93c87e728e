"""Outputs of inner modules: against modules called by hand, with gradients through them, and no hook left behind."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dot.models import build, names
from dot.models.features import features


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_features_are_the_outputs_of_the_modules(device: torch.device) -> None:
    net = build("resnet8", num_classes=10).to(device).eval()
    image = torch.randn(2, 3, 32, 32, device=device)
    with features(net, ["layer1", "layer3.0.bn2", "pool"]) as kept:
        assert kept == {}
        logits = net(image)
    first = net.layer1(torch.relu(net.bn1(net.conv1(image))))
    assert torch.equal(kept["layer1"], first)
    assert torch.equal(net.fc(kept["pool"]), logits)
    entering = net.layer2(first)
    block = net.layer3[0]
    assert torch.equal(kept["layer3.0.bn2"], block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(entering))))))
    assert kept.keys() == {"layer1", "layer3.0.bn2", "pool"}


def test_gradients_flow_through_features(device: torch.device) -> None:
    """The gradient of a loss on a stage, against the same stage called by hand."""
    net = build("resnet8", num_classes=10).to(device)
    image = torch.randn(4, 3, 16, 16, device=device, requires_grad=True)
    with features(net, ["layer2"]) as kept:
        logits = net(image)
    reached = [image, *net.conv1.parameters(), *net.layer1.parameters(), *net.layer2.parameters()]
    found = torch.autograd.grad(kept["layer2"].square().mean(), reached, retain_graph=True)
    by_hand = net.layer2(net.layer1(torch.relu(net.bn1(net.conv1(image))))).square().mean()
    for one, other in zip(found, torch.autograd.grad(by_hand, reached), strict=True):
        torch.testing.assert_close(one, other)
    # And to the logits from the feature itself.
    (onward,) = torch.autograd.grad(logits.sum(), kept["layer2"])
    assert onward.shape == kept["layer2"].shape
    assert onward.abs().sum() > 0


@pytest.mark.parametrize("name", names())
def test_every_network_has_a_pool_before_its_classifier(name: str) -> None:
    with torch.device("meta"):
        net = build(name, num_classes=7).eval()
        with features(net, ["pool", "fc"]) as kept:
            net(torch.empty(2, 3, 32, 32))
    assert kept["pool"].shape == (2, net.fc.in_features)
    assert kept["fc"].shape == (2, 7)


def test_each_pass_begins_anew() -> None:
    class Sometimes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: torch.Tensor, both: bool) -> torch.Tensor:
            x = self.a(self.a(x))  # called twice: the last output is kept
            return self.b(x) if both else x

    net, x = Sometimes(), torch.randn(3, 2)
    with features(net, ["a", "b"]) as kept:
        net(x, both=True)
        assert set(kept) == {"a", "b"}
        net(2 * x, both=False)
        assert set(kept) == {"a"}
        torch.testing.assert_close(kept["a"], net.a(net.a(2 * x)), msg="that of the last pass")


def test_hooks_are_removed_also_after_an_error() -> None:
    net = build("convnet4")
    with pytest.raises(RuntimeError), features(net, ["conv1", "pool"]):  # noqa: PT012
        assert hooks(net) == 3
        net(torch.zeros(1, 2, 8, 8))
    assert hooks(net) == 0
    with features(net, ["conv1"]) as kept:
        pass
    net(torch.zeros(1, 3, 8, 8))
    assert kept == {}


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["layer3", "layr1"], r"Got 'layr1'. Did you mean .*\blayer1\b"),
        (["layer2.0.conv3"], r"Got 'layer2.0.conv3'. Did you mean .*layer2.0.conv2"),
        (["zzz"], r"Got 'zzz'. Did you mean conv1, bn1, relu, layer1, layer2, layer3, pool, fc\?"),
    ],
)
def test_an_unknown_name_lists_close_ones(layers: list[str], message: str) -> None:
    net = build("resnet8")
    with pytest.raises(ValueError, match=message), features(net, layers):
        pass
    assert hooks(net) == 0


def test_one_name_is_given_as_a_list() -> None:
    with (
        pytest.raises(TypeError, match=r"Got the string 'layer1'. Write \['layer1'\]"),
        features(build("resnet8"), "layer1"),
    ):
        pass


def test_a_module_that_gives_no_tensor_is_named() -> None:
    net = nn.Sequential(nn.LSTM(3, 4))
    message = "0 must give a tensor. Got tuple from LSTM. Name a module inside it."
    with features(net, ["0"]), pytest.raises(TypeError, match=message):
        net(torch.zeros(2, 1, 3))
