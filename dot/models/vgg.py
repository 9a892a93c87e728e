"""VGG with batch norm (Simonyan and Zisserman, 2015), as the distillation literature cuts it for small images.

Five stages of 3x3 convolutions with 64, 128, 256, 512, 512 channels. The image is halved after each of the first three
(the paper halves it five times, for ImageNet), and one linear layer stands for the paper's three.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from dot.models.layers import conv_norm, draw_classifier, draw_convolutions, global_average

_CONVOLUTIONS = {8: (1, 1, 1, 1, 1), 11: (1, 1, 2, 2, 2), 13: (2,) * 5, 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


class VGG(nn.Sequential):
    """Five stages with a 2x2 maximum after each of the first three, global average, classifier.

    Images ``[N, in_channels, H, W]``, at least 8x8, to logits ``[N, num_classes]``.

    Args:
        convolutions: How many each stage has.
        in_channels: Of the images.
        num_classes: Of the logits.
    """

    def __init__(self, convolutions: Sequence[int], in_channels: int, num_classes: int) -> None:
        super().__init__()  # its modules run in the order in which they are named here
        entering = in_channels
        for i, (count, width) in enumerate(zip(convolutions, (64, 128, 256, 512, 512), strict=True), start=1):
            layers: list[nn.Module] = []
            for _ in range(count):
                layers += [*conv_norm(entering, width, 3, bias=True), nn.ReLU()]
                entering = width
            self.add_module(f"layer{i}", nn.Sequential(*layers))
            if i <= 3:
                self.add_module(f"maxpool{i}", nn.MaxPool2d(2))
        self.pool = global_average()
        self.fc = nn.Linear(entering, num_classes)
        draw_convolutions(self)
        draw_classifier(self.fc)


def build(in_channels: int, num_classes: int, *, depth: int) -> VGG:
    """``vgg<depth>``."""
    return VGG(_CONVOLUTIONS[depth], in_channels, num_classes)
