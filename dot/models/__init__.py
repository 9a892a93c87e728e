"""Networks by name: ``build("resnet8x4", in_channels=3, num_classes=100)``, your own ``build("my_network:build")``.

`dot.models.features` gives the outputs of their inner modules; `dot.models.checkpoints` reads published weights.
"""

from dot.models.registry import build, names

__all__ = ["build", "names"]
