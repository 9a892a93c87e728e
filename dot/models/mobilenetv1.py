"""MobileNet (Howard et al., 2017) for ImageNet, at full width."""

from __future__ import annotations

from torch import nn

from dot.models.layers import conv_norm, global_average

_STAGES = ((64, 1), (128, 2), (256, 2), (512, 6), (1024, 2))
"""Channels, and how many separable convolutions."""


class MobileNetV1(nn.Sequential):
    """A convolution that halves the image, five stages of which all but the first do too, global average, classifier.

    Images ``[N, in_channels, H, W]`` to logits ``[N, num_classes]``.

    Args:
        in_channels: Of the images.
        num_classes: Of the logits.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()  # its modules run in the order in which they are named here
        entering = 32
        self.stem = nn.Sequential(*conv_norm(in_channels, entering, 3, 2), nn.ReLU())
        for i, (width, count) in enumerate(_STAGES):
            first = _separable(entering, width, stride=2 if i else 1)
            self.add_module(
                f"layer{i + 1}", nn.Sequential(first, *(_separable(width, width, 1) for _ in range(count - 1)))
            )
            entering = width
        self.pool = global_average()
        self.fc = nn.Linear(entering, num_classes)


def _separable(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    """A 3x3 convolution of each channel, then a 1x1 convolution across them."""
    depthwise = conv_norm(in_channels, in_channels, 3, stride, groups=in_channels)
    return nn.Sequential(*depthwise, nn.ReLU(), *conv_norm(in_channels, channels, 1), nn.ReLU())


def build(in_channels: int, num_classes: int) -> MobileNetV1:
    """``mobilenetv1-imagenet``."""
    return MobileNetV1(in_channels, num_classes)
