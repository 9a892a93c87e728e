"""The ResNets (He et al., 2016), for small images and for ImageNet.

``resnet8`` to ``resnet110`` have three stages (section 4.2) with the widths of the distillation literature: 16 channels
in the stem and 16, 32, 64 in the stages; ``resnet8x4`` and ``resnet32x4`` have 32 and 64, 128, 256. ``resnet18`` and
``resnet50`` have the four stages of table 1 behind a 3x3 stem that keeps the size of a small image; their forms with
``-imagenet``, and ``resnet34-imagenet``, have the 7x7 stem. A projection (1x1 convolution and batch norm) bridges each
change of shape; a bottleneck halves the image in its 3x3 convolution.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from dot.models.layers import conv_norm, draw_convolutions, global_average


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = _shortcut(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, in_channels, H, W]`` to ``[N, channels, H / stride, W / stride]``."""
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class Bottleneck(nn.Module):
    """A 3x3 convolution on a quarter of the channels, between two 1x1 convolutions, and a shortcut."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        narrow = channels // self.expansion
        self.conv1 = nn.Conv2d(in_channels, narrow, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(narrow)
        self.conv2 = nn.Conv2d(narrow, narrow, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(narrow)
        self.conv3 = nn.Conv2d(narrow, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.shortcut = _shortcut(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, in_channels, H, W]`` to ``[N, channels, H / stride, W / stride]``."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        return F.relu(self.bn3(self.conv3(out)) + self.shortcut(x))


class ResNet(nn.Sequential):
    """Stem, stages of which each but the first halves the image, global average, classifier.

    Images ``[N, in_channels, H, W]`` to logits ``[N, num_classes]``.

    Args:
        block: `Block` or `Bottleneck`.
        blocks: How many blocks each stage has.
        stem: Channels of the first convolution.
        widths: Channels that each stage gives.
        in_channels: Of the images.
        num_classes: Of the logits.
        imagenet: Whether the stem is a 7x7 convolution and a maximum, a quarter of the image, or a 3x3 convolution.
    """

    def __init__(
        self,
        block: type[Block | Bottleneck],
        blocks: Sequence[int],
        stem: int,
        widths: Sequence[int],
        in_channels: int,
        num_classes: int,
        *,
        imagenet: bool,
    ) -> None:
        super().__init__()  # its modules run in the order in which they are named here
        kernel, stride = (7, 2) if imagenet else (3, 1)
        self.conv1, self.bn1 = conv_norm(in_channels, stem, kernel, stride)
        self.relu = nn.ReLU()
        if imagenet:
            self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        for i, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            entering = widths[i - 1] if i else stem
            first = block(entering, width, stride=2 if i else 1)
            self.add_module(f"layer{i + 1}", nn.Sequential(first, *(block(width, width, 1) for _ in range(count - 1))))
        self.pool = global_average()
        self.fc = nn.Linear(widths[-1], num_classes)
        draw_convolutions(self)


def _shortcut(in_channels: int, channels: int, stride: int) -> nn.Module:
    if stride == 1 and in_channels == channels:
        return nn.Identity()
    return nn.Sequential(*conv_norm(in_channels, channels, 1, stride))


_FOUR_STAGES: dict[int, tuple[type[Block | Bottleneck], tuple[int, ...]]] = {
    18: (Block, (2, 2, 2, 2)),
    34: (Block, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
}


def build(in_channels: int, num_classes: int, *, depth: int, wide: bool = False, imagenet: bool = False) -> ResNet:
    """``resnet<depth>``, ``resnet<depth>x4`` where wide, ``resnet<depth>-imagenet`` with that stem."""
    if depth in _FOUR_STAGES:
        block, blocks = _FOUR_STAGES[depth]
        widths = [width * block.expansion for width in (64, 128, 256, 512)]
        return ResNet(block, blocks, 64, widths, in_channels, num_classes, imagenet=imagenet)
    blocks = ((depth - 2) // 6,) * 3
    stem, *widths = (32, 64, 128, 256) if wide else (16, 16, 32, 64)
    return ResNet(Block, blocks, stem, widths, in_channels, num_classes, imagenet=imagenet)
