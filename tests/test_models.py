"""The networks against the published counts."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from dot.models import build, names

# Trainable parameters, millions of multiply-adds of a 32x32 colour image, batch-norm layers; 100 classes.
RESNETS = {
    "resnet8": (83_892, 12.5, 9),
    "resnet14": (181_108, 26.7, 15),
    "resnet20": (278_324, 40.8, 21),
    "resnet32": (472_756, 69.1, 33),
    "resnet44": (667_188, 97.4, 45),
    "resnet56": (861_620, 125.8, 57),
    "resnet110": (1_736_564, 253.2, 111),
    "resnet8x4": (1_233_540, 177.1, 10),
    "resnet32x4": (7_433_860, 1_083.0, 34),
}
CONVNETS = {"convnet4": 4, "convnet8": 8, "convnet16": 16}


def multiply_adds(net: nn.Module, image: Tensor) -> int:
    """Of convolutions and linear layers for one image, counted while it passes."""
    total = 0

    def count(module: nn.Module, _: tuple[Tensor, ...], out: Tensor) -> None:
        nonlocal total
        # Each output number costs as many as its filter has weights.
        total += out.numel() * math.prod(module.weight.shape[1:])

    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    net(image)
    return total


def test_every_network_is_counted_here() -> None:
    assert sorted(names()) == sorted([*RESNETS, *CONVNETS])


@pytest.mark.parametrize("name", RESNETS)
def test_resnets_have_the_published_counts(name: str) -> None:
    with torch.device("meta"):
        net = build(name).eval()
        macs = multiply_adds(net, torch.empty(1, 3, 32, 32))
    parameters, millions, norms = RESNETS[name]
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert all(p.requires_grad for p in net.parameters())
    assert sum(isinstance(module, nn.BatchNorm2d) for module in net.modules()) == norms
    assert round(macs / 1e6, 1) == millions


@pytest.mark.parametrize("name", CONVNETS)
def test_convnets_have_the_counts_of_their_layers(name: str) -> None:
    """By hand: two 3x3 convolutions without bias, two norms, a classifier."""
    width = CONVNETS[name]
    net = build(name, in_channels=1, num_classes=10)
    by_hand = 9 * width + 2 * width + 9 * width * 2 * width + 4 * width + 2 * width * 10 + 10
    assert sum(p.numel() for p in net.parameters()) == by_hand
    assert sum(isinstance(module, nn.BatchNorm2d) for module in net.modules()) == 2


@pytest.mark.parametrize("name", [*RESNETS, *CONVNETS])
@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 8), (1, 32)])
def test_shapes(name: str, channels: int, side: int) -> None:
    with torch.device("meta"):
        net = build(name, in_channels=channels, num_classes=7).eval()
        assert net(torch.empty(2, channels, side, side)).shape == (2, 7)


@pytest.mark.parametrize("name", ["resnet8", "resnet8x4", "convnet8"])
@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 32)])
def test_networks_compute(device: torch.device, name: str, channels: int, side: int) -> None:
    """Finite logits that differ between images, and a gradient for every parameter."""
    net = build(name, in_channels=channels, num_classes=10).to(device)
    logits = net(torch.randn(4, channels, side, side, device=device))
    assert logits.shape == (4, 10)
    assert torch.isfinite(logits).all()
    assert not torch.equal(logits[0], logits[1])
    logits.square().sum().backward()
    for parameter, p in net.named_parameters():
        assert p.grad is not None, parameter
        assert p.grad.abs().sum() > 0, parameter


def test_stages_halve_the_image_twice(device: torch.device) -> None:
    shapes = {}
    net = build("resnet8").to(device).eval()
    for name in ("layer1", "layer2", "layer3"):
        getattr(net, name).register_forward_hook(lambda *a, name=name: shapes.update({name: tuple(a[2].shape)}))
    net(torch.zeros(1, 3, 32, 32, device=device))
    assert shapes == {"layer1": (1, 16, 32, 32), "layer2": (1, 32, 16, 16), "layer3": (1, 64, 8, 8)}


def test_a_block_is_what_the_paper_says(device: torch.device) -> None:
    """relu(bn(conv(relu(bn(conv x)))) + shortcut x), with the functions called one by one."""
    net = build("resnet8", num_classes=10).to(device)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):  # so that a norm is not the identity
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    weights = net.eval().state_dict()

    def conv(x: Tensor, key: str, stride: int) -> Tensor:
        weight = weights[f"{key}.weight"]
        return torch.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def norm(x: Tensor, key: str) -> Tensor:
        mean, var, scale, shift = (
            weights[f"{key}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * scale + shift

    image = torch.randn(2, 3, 32, 32, device=device)
    x = norm(conv(image, "conv1", 1), "bn1").relu()
    for stage, stride in (("layer1.0", 1), ("layer2.0", 2), ("layer3.0", 2)):
        out = norm(conv(x, f"{stage}.conv1", stride), f"{stage}.bn1").relu()
        out = norm(conv(out, f"{stage}.conv2", 1), f"{stage}.bn2")
        beside = x if stride == 1 else norm(conv(x, f"{stage}.shortcut.0", stride), f"{stage}.shortcut.1")
        x = (out + beside).relu()
    truth = x.mean((2, 3)) @ weights["fc.weight"].T + weights["fc.bias"]
    torch.testing.assert_close(net(image), truth, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet8x4", "convnet4"])
def test_norms_are_applied_once_a_step(device: torch.device, name: str) -> None:
    net = build(name).to(device).train()
    net(torch.randn(2, 3, 32, 32, device=device))
    assert {int(m.num_batches_tracked) for m in net.modules() if isinstance(m, nn.BatchNorm2d)} == {1}


def test_weights_are_drawn_from_the_global_generator() -> None:
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(copy.deepcopy(build("resnet8").state_dict()))
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0]["conv1.weight"], states[2]["conv1.weight"])


def test_kaiming_normal_over_the_outputs() -> None:
    weight = build("resnet32x4").layer3[0].conv1.weight  # 128 channels to 256
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 256)), rel=0.02)
    assert weight.mean().item() == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("resnet8x5", "resnet8x4"), ("resnet21", "resnet20"), ("ResNet56", "resnet56"), ("convnet", "convnet8")],
)
def test_an_unknown_name_lists_close_ones(name: str, expected: str) -> None:
    with pytest.raises(ValueError, match=rf"Got '{name}'. Did you mean .*{expected}\b"):
        build(name)


def test_a_name_like_none_lists_all() -> None:
    with pytest.raises(ValueError, match=r"Got 'zzz'. Did you mean ") as error:
        build("zzz")
    assert all(name in str(error.value) for name in names())
