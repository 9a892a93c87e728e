"""The networks that `bench_surface.py` measures, and how much work their passes are."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dot import models

PEAKS = {"H100": 989e12, "H200": 989e12}
"""Dense bf16 operations a second of NVIDIA's data sheets (SXM)."""


def resnet20() -> nn.Module:
    return models.build("resnet20", num_classes=10)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))


class Block(nn.Module):
    """Causal attention and a feed-forward part, each behind a layer norm and beside a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """``[N, T, width]``."""
        n, length, width = x.shape
        q, k, v = self.qkv(self.norms[0](x)).view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(n, length, width))
        return x + self.feed(self.norms[1](x))


class GPT(nn.Module):
    """As GPT-2: 4 layers of width 256, sequences of 128, a vocabulary of 1000."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(1000, 256), nn.Embedding(128, 256)
        self.blocks = nn.Sequential(*(Block(256, 4) for _ in range(4)))
        self.norm, self.head = nn.LayerNorm(256), nn.Linear(256, 1000, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """``[N, T]`` to logits ``[N, T, 1000]``."""
        x = self.tokens(ids) + self.places(torch.arange(ids.shape[1], device=ids.device))
        return self.head(self.norm(self.blocks(x)))


def flops(model: nn.Module, example: Tensor) -> float:
    """Two for each multiplication of the convolutions and linear layers, for one example."""
    found = 0

    def count(layer: Any, _: Any, output: Tensor) -> None:
        nonlocal found
        found += 2 * layer.weight[0].numel() * output[0].numel()

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    with torch.no_grad():
        model(example)
    for hook in hooks:
        hook.remove()
    return float(found)
