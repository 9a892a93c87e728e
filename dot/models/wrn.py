"""Wide ResNets (Zagoruyko and Komodakis, 2016), without dropout: ``wrn_16_2`` has 16 layers, and twice the width.

The distillation literature's released code calls the norm after each stage a second time in a forward pass, to give
features before the activation, so that its running statistics move twice a step. Here each norm is applied once.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from dot.models.layers import draw_convolutions, global_average


class Block(nn.Module):
    """Norm and activation before each of two 3x3 convolutions, and a shortcut.

    Where the number of channels changes, the shortcut is a 1x1 convolution of the input after its norm and activation.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.shortcut = None
        if in_channels != channels:
            self.shortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, in_channels, H, W]`` to ``[N, channels, H / stride, W / stride]``."""
        active = F.relu(self.bn1(x))
        out = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return out + (x if self.shortcut is None else self.shortcut(active))


class WideResNet(nn.Sequential):
    """Stem, three stages that halve the image twice, norm, global average, classifier.

    Images ``[N, in_channels, H, W]`` to logits ``[N, num_classes]``.

    Args:
        depth: 6 n + 4, with n blocks a stage.
        widen: The stages have 16, 32 and 64 times so many channels.
        in_channels: Of the images.
        num_classes: Of the logits.
    """

    def __init__(self, depth: int, widen: int, in_channels: int, num_classes: int) -> None:
        super().__init__()  # its modules run in the order in which they are named here
        blocks = (depth - 4) // 6
        widths = [16, 16 * widen, 32 * widen, 64 * widen]
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False)
        for i, (entering, width) in enumerate(pairwise(widths)):
            first = Block(entering, width, stride=2 if i else 1)
            self.add_module(f"layer{i + 1}", nn.Sequential(first, *(Block(width, width, 1) for _ in range(blocks - 1))))
        self.bn1 = nn.BatchNorm2d(widths[-1])
        self.relu = nn.ReLU()
        self.pool = global_average()
        self.fc = nn.Linear(widths[-1], num_classes)
        draw_convolutions(self)
        nn.init.zeros_(self.fc.bias)


def build(in_channels: int, num_classes: int, *, depth: int, widen: int) -> WideResNet:
    """``wrn_<depth>_<widen>``."""
    return WideResNet(depth, widen, in_channels, num_classes)
