"""The ResNets for small images (He et al., 2016, section 4.2), with the widths of the distillation literature.

``resnetN`` has 16 channels in the stem and 16, 32, 64 in its three stages; ``resnetNx4`` has 32 and 64, 128, 256.
A projection (1x1 convolution and batch norm) bridges each change of shape.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """``[N, in_channels, H, W]`` to ``[N, channels, H / stride, W / stride]``."""
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNet(nn.Module):
    """Stem, three stages that halve the image twice, global average, classifier.

    Args:
        depth: 6 n + 2, with n blocks a stage.
        stem: Channels of the first convolution.
        widths: Channels of the three stages.
        in_channels: Of the images ``[N, in_channels, H, W]``.
        num_classes: Of the logits ``[N, num_classes]``.
    """

    def __init__(self, depth: int, stem: int, widths: tuple[int, int, int], in_channels: int, num_classes: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, stem, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        before = [stem, *widths[:-1]]
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(
                Block(entering, width, stride=1 if i == 0 else 2),
                *(Block(width, width, stride=1) for _ in range(blocks - 1)),
            )
            for i, (entering, width) in enumerate(zip(before, widths, strict=True))
        )
        self.fc = nn.Linear(widths[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Images ``[N, in_channels, H, W]`` to logits ``[N, num_classes]``."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


def build(in_channels: int, num_classes: int, *, depth: int, wide: bool = False) -> ResNet:
    """``resnet<depth>``, or ``resnet<depth>x4`` where wide."""
    stem, widths = (32, (64, 128, 256)) if wide else (16, (16, 32, 64))
    return ResNet(depth, stem, widths, in_channels, num_classes)
