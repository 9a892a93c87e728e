"""Published weights: state dicts with the reference's names, made here, against the network that they came from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dot.models import build
from dot.models.checkpoints import load_reference


def reference_names(name: str, model: str) -> str:
    """What the reference calls a tensor of ours."""
    if model.startswith("wrn"):
        stage, _, rest = name.partition(".")
        if stage.startswith("layer"):
            name = f"block{stage[5:]}.layer.{rest}"
        return name.replace("shortcut", "convShortcut")
    if model in ("resnet18", "resnet50"):
        return name.replace("fc.", "linear.")
    if model.startswith("resnet"):
        return name.replace("shortcut", "downsample")
    return f"other.{name}"


def checkpoint(model: str, **sizes: int) -> tuple[nn.Module, dict[str, Tensor]]:
    """A network with weights and statistics of no default value, and its state dict in the reference's names."""
    net = build(model, **sizes).train()
    with torch.no_grad():
        for _ in range(2):
            net(torch.randn(4, 3, 32, 32))
    return net.eval(), {reference_names(name, model): tensor for name, tensor in net.state_dict().items()}


def saved(state: object, folder: Path, name: str = "checkpoint.pth") -> Path:
    torch.save(state, folder / name)
    return folder / name


@pytest.mark.parametrize(
    "name",
    [
        "resnet8x4",
        "resnet20",
        "resnet18",
        "resnet18-imagenet",
        "wrn_16_2",
        "vgg8",
        "mobilenetv1-imagenet",
        "mobilenetv2",
        "mobilenetv2-tinyimagenet",
        "shufflenetv1",
        "shufflenetv2",
    ],
)
def test_the_reference_s_weights_give_its_logits(tmp_path: Path, name: str) -> None:
    reference, state = checkpoint(name, num_classes=10)
    ours = build(name, num_classes=10).eval()
    load_reference(ours, saved({"epoch": 240, "model": state}, tmp_path))
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(ours(image), reference(image))


def test_resnets_and_wide_resnets_are_matched_by_name(tmp_path: Path) -> None:
    for name in ("resnet14", "wrn_16_1"):  # blocks of the same shapes, one after another
        reference, state = checkpoint(name)
        ours = build(name)
        load_reference(ours, saved(dict(reversed(state.items())), tmp_path))
        for key, tensor in reference.state_dict().items():
            if not key.endswith("num_batches_tracked"):
                assert torch.equal(tensor, ours.state_dict()[key]), key


def test_a_plain_state_dict_one_saved_in_parallel_and_one_without_counts(tmp_path: Path) -> None:
    reference, state = checkpoint("vgg8")
    for kept in (
        state,
        {f"module.{name}": tensor for name, tensor in state.items()},
        {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")},
    ):
        ours = build("vgg8").eval()
        load_reference(ours, str(saved(kept, tmp_path, "checkpoint.pt")))
        image = torch.randn(1, 3, 32, 32)
        assert torch.equal(ours(image), reference(image))
        assert {int(m.num_batches_tracked) for m in ours.modules() if isinstance(m, nn.BatchNorm2d)} == {0}


def test_a_classifier_that_is_a_convolution(tmp_path: Path) -> None:
    reference, state = checkpoint("mobilenetv2-tinyimagenet", num_classes=10)
    state = {key: tensor[..., None, None] if key == "other.fc.weight" else tensor for key, tensor in state.items()}
    ours = build("mobilenetv2-tinyimagenet", num_classes=10)
    load_reference(ours, saved({"model": state}, tmp_path))
    assert torch.equal(ours.fc.weight, reference.fc.weight)


@pytest.mark.parametrize(
    ("held", "into", "sizes", "expected", "got"),
    [
        ("resnet8", "resnet8", {"num_classes": 10}, "fc.weight of shape [10, 64]", "fc.weight of shape [100, 64]"),
        ("resnet8", "resnet14", {}, "layer1.1.conv1.weight of shape [16, 16, 3, 3]", "layer2.0.conv1.weight"),
        ("vgg8", "vgg11", {}, "layer3.3.weight of shape [256, 256, 3, 3]", "other.layer4.0.weight"),
        ("vgg8", "resnet8", {}, "conv1.weight of shape [16, 3, 3, 3]", "other.layer1.0.weight of shape [64, 3, 3, 3]"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, held: str, into: str, sizes: dict[str, int], expected: str, got: str
) -> None:
    path = saved({"model": checkpoint(held)[1]}, tmp_path)
    net = build(into, **sizes)
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    with pytest.raises(ValueError, match=re.escape(f"Expected {expected}. Got {got}")) as error:
        load_reference(net, path)
    assert str(path) in str(error.value)
    assert all(torch.equal(tensor, before[key]) for key, tensor in net.state_dict().items()), "the model is as it was"


def test_shapes_that_agree_are_not_enough(tmp_path: Path) -> None:
    """A mean where a variance belongs."""
    _, state = checkpoint("vgg8")
    swapped = {
        name.replace("_mean", "_*").replace("_var", "_mean").replace("_*", "_var"): t for name, t in state.items()
    }
    with pytest.raises(ValueError, match=r"Expected layer1.1.running_mean of .* Got other.layer1.1.running_var of"):
        load_reference(build("vgg8"), saved(swapped, tmp_path))


def test_a_file_that_ends_early_or_goes_on(tmp_path: Path) -> None:
    _, state = checkpoint("vgg8")
    with pytest.raises(ValueError, match=r"Expected fc.bias of shape \[100\]. Got nothing more."):
        load_reference(build("vgg8"), saved(dict(list(state.items())[:-1]), tmp_path))
    with pytest.raises(ValueError, match=r"Expected nothing more. Got projector.weight of shape \[3\]."):
        load_reference(build("vgg8"), saved(state | {"projector.weight": torch.ones(3)}, tmp_path))


class Code:
    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("code ran",))


def test_what_is_no_checkpoint_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = build("resnet8")
    with pytest.raises(FileNotFoundError, match=r"expected a checkpoint at .*none.pth. There is none."):
        load_reference(net, tmp_path / "none.pth")
    with pytest.raises(ValueError, match="would run code when loaded, which was refused"):
        load_reference(net, saved({"model": Code()}, tmp_path))
    (tmp_path / "cut.pth").write_bytes(b"PK")
    with pytest.raises(ValueError, match="cut short"):
        load_reference(net, tmp_path / "cut.pth")
    with pytest.raises(ValueError, match=r"must hold a state dict, or one under 'model'\. Got list"):
        load_reference(net, saved([torch.ones(3)], tmp_path))
    with pytest.raises(ValueError, match="Got a table of epoch, state_dict"):
        load_reference(net, saved({"epoch": 3, "state_dict": {}}, tmp_path))
    assert "code ran" not in capsys.readouterr().out
