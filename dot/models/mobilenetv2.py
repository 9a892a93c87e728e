"""MobileNetV2 (Sandler et al., 2018) in the two forms of the distillation literature.

``mobilenetv2`` is that for CIFAR: half the width, ReLU in place of ReLU6. ``mobilenetv2-tinyimagenet`` has the full
width, a 1x1 stem that keeps the size, and convolutions with bias. Both have a 1x1 convolution before the first stage's
other two, which the paper leaves out.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from dot.models.layers import conv_norm, draw_classifier, draw_convolutions, global_average

_STAGES = ((16, 1), (24, 2), (32, 3), (64, 4), (96, 3), (160, 3), (320, 1))
"""Channels at full width, and how many blocks."""


class Block(nn.Module):
    """A 1x1 expansion, a 3x3 convolution of each channel, a 1x1 projection; added to the input where shapes agree."""

    def __init__(
        self, in_channels: int, channels: int, stride: int, factor: int, *, bias: bool, activation: type[nn.Module]
    ) -> None:
        super().__init__()
        wide = in_channels * factor
        self.layers = nn.Sequential(
            *conv_norm(in_channels, wide, 1, bias=bias),
            activation(),
            *conv_norm(wide, wide, 3, stride, groups=wide, bias=bias),
            activation(),
            *conv_norm(wide, channels, 1, bias=bias),
        )
        self.residual = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        """``[N, in_channels, H, W]`` to ``[N, channels, H / stride, W / stride]``."""
        out = self.layers(x)
        return x + out if self.residual else out


class MobileNetV2(nn.Sequential):
    """Stem, seven stages, a 1x1 convolution to 1,280 channels, global average, classifier.

    Images ``[N, in_channels, H, W]`` to logits ``[N, num_classes]``.

    Args:
        stem: The first convolution, before its norm.
        width: Of the stages, as a factor.
        strides: Of the seven stages.
        num_classes: Of the logits.
        bias: Whether convolutions have one.
        activation: ``nn.ReLU`` or ``nn.ReLU6``.
    """

    def __init__(
        self,
        stem: nn.Conv2d,
        width: float,
        strides: Sequence[int],
        num_classes: int,
        *,
        bias: bool,
        activation: type[nn.Module],
    ) -> None:
        super().__init__()  # its modules run in the order in which they are named here
        entering = stem.out_channels
        self.stem = nn.Sequential(stem, nn.BatchNorm2d(entering), activation())
        for i, ((full, count), stride) in enumerate(zip(_STAGES, strides, strict=True)):
            channels, blocks = int(full * width), []
            for first in [True] + [False] * (count - 1):
                factor = 6 if i else 1
                blocks.append(
                    Block(entering, channels, stride if first else 1, factor, bias=bias, activation=activation)
                )
                entering = channels
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.head = nn.Sequential(*conv_norm(entering, 1280, 1, bias=bias), activation())
        self.pool = global_average()
        self.fc = nn.Linear(1280, num_classes)


def build(in_channels: int, num_classes: int, *, tinyimagenet: bool = False) -> MobileNetV2:
    """``mobilenetv2``, or ``mobilenetv2-tinyimagenet``."""
    if tinyimagenet:
        # The padding adds a ring of the bias around the image, as in the network of the published Tiny-ImageNet rows.
        stem = nn.Conv2d(in_channels, 32, 1, padding=1)
        return MobileNetV2(stem, 1, (1, 2, 2, 2, 1, 1, 1), num_classes, bias=True, activation=nn.ReLU6)
    stem = nn.Conv2d(in_channels, 16, 3, 2, padding=1, bias=False)
    net = MobileNetV2(stem, 0.5, (1, 1, 2, 2, 1, 2, 1), num_classes, bias=False, activation=nn.ReLU)
    draw_convolutions(net)
    draw_classifier(net.fc)
    return net
