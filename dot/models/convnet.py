"""A small convolutional network for small images: a student with little capacity, quick on a CPU."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from dot.models.layers import global_average


class ConvNet(nn.Module):
    """Two 3x3 convolutions with batch norm, each followed by a 2x2 maximum, global average, classifier.

    Args:
        widths: Channels of the two convolutions.
        in_channels: Of the images ``[N, in_channels, H, W]``, at least 4x4.
        num_classes: Of the logits ``[N, num_classes]``.
    """

    def __init__(self, widths: tuple[int, int], in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.conv2 = nn.Conv2d(widths[0], widths[1], 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(widths[1])
        self.pool = global_average()
        self.fc = nn.Linear(widths[1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images ``[N, in_channels, H, W]`` to logits ``[N, num_classes]``."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        return self.fc(self.pool(x))


def build(in_channels: int, num_classes: int, *, width: int) -> ConvNet:
    """``convnet<width>``: so many channels, then twice as many."""
    return ConvNet((width, 2 * width), in_channels, num_classes)
