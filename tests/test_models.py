"""The networks against the published counts."""

from __future__ import annotations

import copy
import math
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dot.models import build, names

# Trainable parameters, millions of multiply-adds of a colour image, batch-norm layers, by image side and classes.
COUNTS = {
    (32, 100): {
        "resnet8": (83_892, 12.5, 9),
        "resnet14": (181_108, 26.7, 15),
        "resnet20": (278_324, 40.8, 21),
        "resnet32": (472_756, 69.1, 33),
        "resnet44": (667_188, 97.4, 45),
        "resnet56": (861_620, 125.8, 57),
        "resnet110": (1_736_564, 253.2, 111),
        "resnet8x4": (1_233_540, 177.1, 10),
        "resnet32x4": (7_433_860, 1_083.0, 34),
        "resnet18": (11_220_132, 555.5, 20),
        "resnet50": (23_705_252, 1_298.0, 53),
        "wrn_16_1": (180_916, 26.7, 13),
        "wrn_16_2": (703_284, 101.1, 13),
        "wrn_40_1": (569_780, 83.3, 37),
        "wrn_40_2": (2_255_156, 327.6, 37),
        "vgg8": (3_965_028, 96.2, 5),
        "vgg11": (9_277_284, 209.4, 8),
        "vgg13": (9_462_180, 284.9, 10),
        "vgg16": (14_774_436, 398.2, 13),
        "vgg19": (20_086_692, 511.4, 16),
        "mobilenetv2": (812_836, 6.5, 53),
        "shufflenetv1": (949_258, 38.7, 49),
        "shufflenetv2": (1_355_528, 44.5, 56),
    },
    (64, 200): {  # multiply-adds as counted on the networks of the published rows, but for the one that takes no 64x64
        "resnet18": (11_271_432, 2_221.8, 20),
        "mobilenetv2-tinyimagenet": (2_497_480, 215.7, 53),
        "shufflenetv2": (1_458_028, None, 56),
    },
    (224, 1000): {  # multiply-adds as published: 1.8, 3.7 and 4.1 G with projections, 569 M in MobileNet's table 4
        "resnet18-imagenet": (11_689_512, 1_814.1, 20),
        "resnet34-imagenet": (21_797_672, 3_663.8, 36),
        "resnet50-imagenet": (25_557_032, 4_089.2, 53),
        "mobilenetv1-imagenet": (4_231_976, 568.7, 27),
    },
}
COUNTED = [(name, *shape, *counts) for shape, networks in COUNTS.items() for name, counts in networks.items()]
PUBLISHED = sorted({name for name, *_ in COUNTED})
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
    assert sorted(names()) == sorted([*PUBLISHED, *CONVNETS])


@pytest.mark.parametrize(("name", "side", "classes", "parameters", "millions", "norms"), COUNTED)
def test_networks_have_the_published_counts(
    name: str, side: int, classes: int, parameters: int, millions: float | None, norms: int
) -> None:
    with torch.device("meta"):
        net = build(name, num_classes=classes).eval()
        macs = multiply_adds(net, torch.empty(1, 3, side, side))
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert all(p.requires_grad for p in net.parameters())
    assert sum(isinstance(module, nn.BatchNorm2d) for module in net.modules()) == norms
    assert millions is None or round(macs / 1e6, 1) == millions


@pytest.mark.parametrize("name", COUNTS[32, 100])
def test_convolutions_cost_four_times_as_much_at_twice_the_side(name: str) -> None:
    with torch.device("meta"):
        net = build(name).eval()
        classifier = net.fc.weight.numel()
        small, large = (multiply_adds(copy.deepcopy(net), torch.empty(1, 3, side, side)) for side in (32, 64))
    assert large - classifier == 4 * (small - classifier)


@pytest.mark.parametrize("name", CONVNETS)
def test_convnets_have_the_counts_of_their_layers(name: str) -> None:
    """By hand: two 3x3 convolutions without bias, two norms, a classifier."""
    width = CONVNETS[name]
    net = build(name, in_channels=1, num_classes=10)
    by_hand = 9 * width + 2 * width + 9 * width * 2 * width + 4 * width + 2 * width * 10 + 10
    assert sum(p.numel() for p in net.parameters()) == by_hand
    assert sum(isinstance(module, nn.BatchNorm2d) for module in net.modules()) == 2


@pytest.mark.parametrize("name", [*PUBLISHED, *CONVNETS])
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 8, 8), (3, 8, 8), (1, 32, 32), (3, 27, 40)])
def test_shapes(name: str, channels: int, height: int, width: int) -> None:
    with torch.device("meta"):
        net = build(name, in_channels=channels, num_classes=7).eval()
        assert net(torch.empty(2, channels, height, width)).shape == (2, 7)


@pytest.mark.parametrize("name", [*PUBLISHED, *CONVNETS])
def test_a_step_on_four_images(device: torch.device, name: str) -> None:
    """Finite loss, a gradient for every parameter, norms applied once; the same logits twice and after a round trip."""
    net = build(name, in_channels=1, num_classes=10).to(device).train()
    images = torch.randn(4, 1, 32, 32, device=device)
    loss = nn.functional.cross_entropy(net(images), torch.arange(4, device=device))
    assert torch.isfinite(loss)
    loss.backward()
    for parameter, p in net.named_parameters():
        assert p.grad is not None, parameter
        assert torch.isfinite(p.grad).all(), parameter
        # A bias before a norm has no effect, and its gradient is 0 but for rounding.
        assert p.grad.abs().sum() > 0 or parameter.endswith("bias"), parameter
    assert {int(m.num_batches_tracked) for m in net.modules() if isinstance(m, nn.BatchNorm2d)} == {1}
    torch.optim.SGD(net.parameters(), lr=1e-3).step()

    copied = build(name, in_channels=1, num_classes=10).to(device).eval()
    copied.load_state_dict(net.eval().state_dict())
    with torch.no_grad():
        logits = net(images)
        assert torch.isfinite(logits).all()
        assert not torch.equal(logits[0], logits[1])
        assert torch.equal(logits, net(images))
        assert torch.equal(logits, copied(images))


@pytest.mark.parametrize("name", ["resnet8", "resnet8x4", "convnet8"])
def test_networks_compute_on_digits(device: torch.device, name: str) -> None:
    net = build(name, in_channels=1, num_classes=10).to(device)
    logits = net(torch.randn(4, 1, 8, 8, device=device))
    assert logits.shape == (4, 10)
    logits.square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in net.parameters())


def test_stages_halve_the_image_twice(device: torch.device) -> None:
    shapes = {}
    net = build("resnet8").to(device).eval()
    for name in ("layer1", "layer2", "layer3"):
        getattr(net, name).register_forward_hook(lambda *a, name=name: shapes.update({name: tuple(a[2].shape)}))
    net(torch.zeros(1, 3, 32, 32, device=device))
    assert shapes == {"layer1": (1, 16, 32, 32), "layer2": (1, 32, 16, 16), "layer3": (1, 64, 8, 8)}


class ByHand:
    """The functions of a network called one by one, with weights by name."""

    def __init__(self, net: nn.Module) -> None:
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):  # so that a norm is not the identity
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.5, 0.5)
                nn.init.uniform_(module.running_mean, -0.5, 0.5)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
        self.weights = net.eval().state_dict()

    def conv(self, x: Tensor, key: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = self.weights[f"{key}.weight"]
        bias = self.weights.get(f"{key}.bias")
        return torch.conv2d(x, weight, bias, stride=stride, padding=weight.shape[-1] // 2, groups=groups)

    def norm(self, x: Tensor, key: str) -> Tensor:
        mean, var, scale, shift = (
            self.weights[f"{key}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * scale + shift

    def chain(self, x: Tensor, key: str, first: int, stride: int = 1, groups: int = 1) -> Tensor:
        """The convolution at place ``first`` of a Sequential, and the norm after it."""
        return self.norm(self.conv(x, f"{key}.{first}", stride, groups), f"{key}.{first + 1}")


def deal(x: Tensor, groups: int) -> Tensor:
    """Channels like cards: the first of each group, then the second of each ..."""
    size = x.shape[1] // groups
    return x[:, [group * size + i for i in range(size) for group in range(groups)]]


def close(found: Tensor, truth: Tensor) -> None:
    torch.testing.assert_close(found, truth, rtol=1e-4, atol=1e-4)


def test_a_resnet_is_what_the_paper_says(device: torch.device) -> None:
    """relu(bn(conv(relu(bn(conv x)))) + shortcut x)."""
    net = build("resnet8", num_classes=10).to(device)
    by = ByHand(net)
    image = torch.randn(2, 3, 32, 32, device=device)
    x = by.norm(by.conv(image, "conv1"), "bn1").relu()
    for stage, stride in (("layer1.0", 1), ("layer2.0", 2), ("layer3.0", 2)):
        out = by.norm(by.conv(x, f"{stage}.conv1", stride), f"{stage}.bn1").relu()
        out = by.norm(by.conv(out, f"{stage}.conv2"), f"{stage}.bn2")
        beside = x if stride == 1 else by.chain(x, f"{stage}.shortcut", 0, stride)
        x = (out + beside).relu()
    close(net(image), x.mean((2, 3)) @ by.weights["fc.weight"].T + by.weights["fc.bias"])


def test_a_bottleneck_behind_the_stem_of_imagenet(device: torch.device) -> None:
    net = build("resnet50-imagenet").to(device)
    image = torch.randn(2, 3, 32, 32, device=device)
    by = ByHand(net)
    x = torch.max_pool2d(by.norm(by.conv(image, "conv1", 2), "bn1").relu(), 3, 2, padding=1)
    assert x.shape == (2, 64, 8, 8)
    out = by.norm(by.conv(x, "layer1.0.conv1"), "layer1.0.bn1").relu()
    out = by.norm(by.conv(out, "layer1.0.conv2"), "layer1.0.bn2").relu()
    out = by.norm(by.conv(out, "layer1.0.conv3"), "layer1.0.bn3")
    close(nn.Sequential(*list(net)[:4])(image), x)
    close(net.layer1[0](x), (out + by.chain(x, "layer1.0.shortcut", 0)).relu())


def test_a_wide_block_has_its_activations_before_its_convolutions(device: torch.device) -> None:
    net = build("wrn_16_2").to(device)
    by = ByHand(net)
    for key, channels, stride in (("layer2.0", 32, 2), ("layer2.1", 64, 1)):
        x = torch.randn(2, channels, 8, 8, device=device)
        active = by.norm(x, f"{key}.bn1").relu()
        out = by.norm(by.conv(active, f"{key}.conv1", stride), f"{key}.bn2").relu()
        beside = by.conv(active, f"{key}.shortcut", 2) if stride == 2 else x
        close(net.get_submodule(key)(x), by.conv(out, f"{key}.conv2") + beside)


def test_a_shufflenet_unit(device: torch.device) -> None:
    net = build("shufflenetv1").to(device)
    by = ByHand(net)
    for key, channels, stride, groups in (("layer1.0", 24, 2, 1), ("layer2.0", 240, 2, 3), ("layer2.1", 480, 1, 3)):
        x = torch.randn(2, channels, 8, 8, device=device)
        narrow = by.weights[f"{key}.spread.0.weight"].shape[0]
        out = deal(by.chain(x, f"{key}.reduce", 0, groups=groups).relu(), groups)
        out = by.chain(out, f"{key}.spread", 0, stride, groups=narrow).relu()
        out = by.chain(out, f"{key}.spread", 3, groups=3)
        joined = out + x if stride == 1 else torch.cat([out, nn.functional.avg_pool2d(x, 3, 2, padding=1)], 1)
        close(net.get_submodule(key)(x), joined.relu())


def test_a_unit_of_the_second_shufflenet(device: torch.device) -> None:
    net = build("shufflenetv2").to(device)
    by = ByHand(net)
    for key, channels, half, stride in (("layer2.0", 116, 116, 2), ("layer2.1", 232, 116, 1)):
        x = torch.randn(2, channels, 8, 8, device=device)
        left, right = (x, x) if stride == 2 else (x[:, :half], x[:, half:])
        if stride == 2:
            left = by.chain(by.chain(left, f"{key}.left", 0, 2, groups=channels), f"{key}.left", 2).relu()
        right = by.chain(by.chain(right, f"{key}.right", 0).relu(), f"{key}.right", 3, stride, groups=half)
        right = by.chain(right, f"{key}.right", 5).relu()
        close(net.get_submodule(key)(x), deal(torch.cat([left, right], 1), 2))


@pytest.mark.parametrize(
    ("name", "channels", "ceiling"), [("mobilenetv2", 16, None), ("mobilenetv2-tinyimagenet", 32, 6)]
)
def test_an_inverted_residual(device: torch.device, name: str, channels: int, ceiling: float | None) -> None:
    net = build(name).to(device)
    by = ByHand(net)
    key, x = "layer3.1", 9 * torch.randn(2, channels, 8, 8, device=device)
    out = by.chain(x, f"{key}.layers", 0).clamp(0, ceiling)
    out = by.chain(out, f"{key}.layers", 3, groups=6 * channels).clamp(0, ceiling)
    close(net.get_submodule(key)(x), x + by.chain(out, f"{key}.layers", 6))


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
    [
        ("resnet8x5", "resnet8x4"),
        ("resnet21", "resnet20"),
        ("ResNet56", "resnet56"),
        ("convnet", "convnet8"),
        ("wrn-40-2", "wrn_40_2"),
        ("WRN16_2", "wrn_16_2"),
        ("vgg13_bn", "vgg13"),
        ("resnet34", "resnet34-imagenet"),
        ("mobilenetv1", "mobilenetv1-imagenet"),
        ("MobileNetV2", "mobilenetv2"),
        ("ShuffleV2", "shufflenetv2"),
    ],
)
def test_an_unknown_name_lists_close_ones(name: str, expected: str) -> None:
    with pytest.raises(ValueError, match=rf"Got '{name}'. Did you mean .*{expected}\b"):
        build(name)


def test_a_name_like_none_lists_all() -> None:
    with pytest.raises(ValueError, match=r"Got 'zzz'. Did you mean ") as error:
        build("zzz")
    assert all(name in str(error.value) for name in names())


@pytest.fixture
def own_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_networks.py").write_text(
        "from torch import nn\n"
        "def linear(in_channels, num_classes):\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_channels, num_classes))\n"
        "def deep(num_classes, depth):\n"
        "    return linear(3, num_classes)\n"
        "def nothing(**sizes):\n"
        "    return None\n"
        "def faulty(in_channels, num_classes):\n"
        "    raise TypeError('of its own')\n"
        "number = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_networks", raising=False)


@pytest.mark.usefixtures("own_networks")
def test_a_network_of_ones_own_is_found_by_import() -> None:
    net = build("own_networks:linear", in_channels=2, num_classes=5)
    assert net(torch.zeros(4, 2, 3, 3)).shape == (4, 5)


@pytest.mark.usefixtures("own_networks")
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("own_networks:", r"model must be module:function, such as my_network:build. Got 'own_networks:'"),
        (":linear", r"model must be module:function, such as my_network:build. Got ':linear'"),
        ("no_such_module:linear", r"that can be imported. Got 'no_such_module:linear': No module named"),
        ("own_networks:liner", r"that can be imported. Got 'own_networks:liner': .*has no attribute 'liner'"),
        ("own_networks:number", r"must name a function. Got 'own_networks:number', which is of type int"),
        (
            "own_networks:deep",
            r"of in_channels and num_classes. Got \(num_classes, depth\): .*'depth'.* Write a function",
        ),
        ("own_networks:nothing", r"own_networks:nothing must return a torch.nn.Module. Got NoneType"),
    ],
)
def test_what_is_wrong_with_a_network_of_ones_own(path: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(path)


@pytest.mark.usefixtures("own_networks")
def test_an_error_inside_ones_own_network_is_not_covered_up() -> None:
    with pytest.raises(TypeError, match="of its own"):
        build("own_networks:faulty")
