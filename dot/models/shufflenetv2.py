"""ShuffleNetV2 (Ma et al., 2018) at width 1, with the 1x1 stem of the distillation literature, for small images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dot.models.layers import conv_norm, global_average, shuffle

_STEM, _HEAD = 24, 1024
_STAGES = ((116, 4), (232, 8), (464, 4))
"""Channels, and how many units."""


class Unit(nn.Module):
    """Two branches side by side, shuffled. At stride 1 each has half of the input, and the left one passes it on."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        half = channels // 2
        self.stride = stride
        self.left: nn.Module = nn.Identity()
        if stride == 2:
            depthwise = conv_norm(in_channels, in_channels, 3, 2, groups=in_channels)
            self.left = nn.Sequential(*depthwise, *conv_norm(in_channels, half, 1), nn.ReLU())
        self.right = nn.Sequential(
            *conv_norm(in_channels if stride == 2 else half, half, 1),
            nn.ReLU(),
            *conv_norm(half, half, 3, stride, groups=half),
            *conv_norm(half, half, 1),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[N, in_channels, H, W]`` to ``[N, channels, H / stride, W / stride]``."""
        left, right = x.chunk(2, 1) if self.stride == 1 else (x, x)
        return shuffle(torch.cat([self.left(left), self.right(right)], 1), groups=2)


class ShuffleNetV2(nn.Sequential):
    """Stem, three stages that each halve the image, a 1x1 convolution, global average, classifier.

    Images ``[N, in_channels, H, W]`` to logits ``[N, num_classes]``.

    Args:
        in_channels: Of the images.
        num_classes: Of the logits.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()  # its modules run in the order in which they are named here
        self.stem = nn.Sequential(*conv_norm(in_channels, _STEM, 1), nn.ReLU())
        entering = _STEM
        for i, (width, count) in enumerate(_STAGES, start=1):
            rest = (Unit(width, width, stride=1) for _ in range(count - 1))
            self.add_module(f"layer{i}", nn.Sequential(Unit(entering, width, stride=2), *rest))
            entering = width
        self.head = nn.Sequential(*conv_norm(entering, _HEAD, 1), nn.ReLU())
        self.pool = global_average()
        self.fc = nn.Linear(_HEAD, num_classes)


def build(in_channels: int, num_classes: int) -> ShuffleNetV2:
    """``shufflenetv2``."""
    return ShuffleNetV2(in_channels, num_classes)
