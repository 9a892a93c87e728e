"""ShuffleNet (Zhang et al., 2018) at width 1 with three groups, in the form of the distillation literature.

For small images, the stem is a 1x1 convolution that keeps the size. The activation after each convolution of single
channels is that literature's; the paper has none there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dot.models.layers import conv_norm, global_average, shuffle

_GROUPS, _STEM = 3, 24
_STAGES = ((240, 4), (480, 8), (960, 4))
"""Channels, and how many units."""


class Unit(nn.Module):
    """A grouped 1x1 convolution, a shuffle, a 3x3 convolution of each channel, a grouped 1x1 convolution.

    Added to the input; at stride 2, side by side with the input's average.

    Args:
        in_channels: Of the input ``[N, in_channels, H, W]``.
        channels: Of the output.
        stride: 1, with as many channels out as in, or 2.
        groups: Of the first convolution; of the last, always three.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, groups: int) -> None:
        super().__init__()
        made = channels if stride == 1 else channels - in_channels
        narrow = made // 4
        self.groups, self.stride = groups, stride
        self.reduce = nn.Sequential(*conv_norm(in_channels, narrow, 1, groups=groups), nn.ReLU())
        self.spread = nn.Sequential(
            *conv_norm(narrow, narrow, 3, stride, groups=narrow), nn.ReLU(), *conv_norm(narrow, made, 1, groups=_GROUPS)
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[N, in_channels, H, W]`` to ``[N, channels, H / stride, W / stride]``."""
        out = self.spread(shuffle(self.reduce(x), self.groups))
        if self.stride == 1:
            return F.relu(out + x)
        return F.relu(torch.cat([out, F.avg_pool2d(x, 3, 2, padding=1)], 1))


class ShuffleNetV1(nn.Sequential):
    """Stem, three stages that each halve the image, global average, classifier.

    Images ``[N, in_channels, H, W]`` to logits ``[N, num_classes]``.

    Args:
        in_channels: Of the images.
        num_classes: Of the logits.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()  # its modules run in the order in which they are named here
        self.stem = nn.Sequential(*conv_norm(in_channels, _STEM, 1), nn.ReLU())
        entering = _STEM
        for i, (width, count) in enumerate(_STAGES):
            first = Unit(
                entering, width, stride=2, groups=_GROUPS if i else 1
            )  # the stem has too few channels for groups
            rest = (Unit(width, width, stride=1, groups=_GROUPS) for _ in range(count - 1))
            self.add_module(f"layer{i + 1}", nn.Sequential(first, *rest))
            entering = width
        self.pool = global_average()
        self.fc = nn.Linear(entering, num_classes)


def build(in_channels: int, num_classes: int) -> ShuffleNetV1:
    """``shufflenetv1``."""
    return ShuffleNetV1(in_channels, num_classes)
