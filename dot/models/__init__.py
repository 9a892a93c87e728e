"""Networks by name: ``build("resnet8x4", in_channels=3, num_classes=100)``."""

from dot.models.registry import build, names

__all__ = ["build", "names"]
