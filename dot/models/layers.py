"""What families share: a convolution with its norm, the average before the classifier, how weights are drawn."""

from __future__ import annotations

from torch import Tensor, nn


def conv_norm(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, *, groups: int = 1, bias: bool = False
) -> list[nn.Module]:
    """A convolution that keeps the size at stride 1, and its batch norm."""
    padding = kernel // 2
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=bias)
    return [conv, nn.BatchNorm2d(out_channels)]


def global_average() -> nn.Sequential:
    """``[N, C, H, W]`` to ``[N, C]``, for any size; a module, so that `dot.models.features` can name it."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Channels ``[N, groups * C, H, W]`` in turn from each group (ShuffleNet, Zhang et al., 2018, figure 1)."""
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


def draw_convolutions(net: nn.Module) -> None:
    """Kaiming-normal weights over the outputs (He et al., 2015), biases 0."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def draw_classifier(linear: nn.Linear) -> None:
    """Normal weights of deviation 0.01, biases 0."""
    nn.init.normal_(linear.weight, std=0.01)
    nn.init.zeros_(linear.bias)
