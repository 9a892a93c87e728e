"""Augmentation of a whole batch at once, on its device, drawn from a key.

Each image is treated on its own. What is drawn comes from a CPU generator, so that it is the same on every device, and
each kind of augmentation draws only where it is asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dot.data.images import shift, upload

_AREA = (0.08, 1.0)
_RATIO = (3 / 4, 4 / 3)
_TRIES = 10


@dataclass(frozen=True)
class Augmentation:
    """What is done to an image, in this order: resized crop, rotation, shift, flip.

    Attributes:
        shift: Moved by up to this many pixels in both directions, black coming in (pad and crop).
        flip: Mirrored left to right, one time in two.
        rotate: Turned by up to this many degrees either way.
        resized_crop: A rectangle of 8 to 100 % of the area and a ratio of 3/4 to 4/3 is brought to the whole size.
    """

    shift: int = 0
    flip: bool = False
    rotate: float = 0.0
    resized_crop: bool = False

    def __post_init__(self) -> None:
        if self.shift < 0:
            raise ValueError(f"shift must be at least 0 pixels. Got {self.shift}.")
        if not 0 <= self.rotate <= 180:
            raise ValueError(f"rotate must be 0 to 180 degrees. Got {self.rotate}.")


def augment(images: Tensor, recipe: Augmentation, draw: torch.Generator) -> Tensor:
    """A batch, augmented.

    Args:
        images: uint8 ``[N, C, H, W]``.
        recipe: What is done.
        draw: A CPU generator; see `dot.data.images.generator`.

    Returns:
        uint8 ``[N, C, H, W]``.
    """
    if recipe.resized_crop:
        images = resized_crop(images, draw)
    if recipe.rotate > 0:
        images = rotate(images, recipe.rotate, draw)
    images = shift(images, recipe.shift, draw)
    return flip(images, draw) if recipe.flip else images


def flip(images: Tensor, draw: torch.Generator) -> Tensor:
    """Mirror each image ``[N, C, H, W]`` left to right, one time in two."""
    chosen = upload(torch.rand(len(images), generator=draw) < 0.5, images.device)
    return torch.where(chosen[:, None, None, None], images.flip(3), images)


def rotate(images: Tensor, degrees: float, draw: torch.Generator) -> Tensor:
    """Turn each image counter-clockwise about its centre by an angle drawn evenly from -degrees to degrees.

    As Pillow's ``Image.rotate(angle, BILINEAR)``: a new pixel whose centre comes from within the image is interpolated
    between the four pixels around that place, those beyond the edge being those at the edge; any other is black.
    Unlike there, values are rounded and not cut.

    Args:
        images: uint8 ``[N, C, H, W]``.
        degrees: At most.
        draw: A CPU generator.
    """
    n, _, height, width = images.shape
    angles = upload(torch.deg2rad((torch.rand(n, generator=draw) * 2 - 1) * degrees), images.device)
    cos, sin = angles.cos()[:, None, None], angles.sin()[:, None, None]
    right = torch.arange(width, device=images.device) + 0.5 - width / 2  # from the centre to a pixel's own
    down = (torch.arange(height, device=images.device) + 0.5 - height / 2)[:, None]
    x = cos * right - sin * down + width / 2
    y = sin * right + cos * down + height / 2
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return _sample(images, x - 0.5, y - 0.5) * inside[:, None]


def resized_crop(images: Tensor, draw: torch.Generator) -> Tensor:
    """Cut a rectangle out of each image and bring it to the size of the image, bilinear, not smoothed before.

    Area (8 to 100 % of the image's) and logarithm of the ratio of width to height (3/4 to 4/3) are drawn evenly, up to
    ten times until the rectangle fits; then its place. Where none fits, it is the largest one in the middle whose ratio
    is allowed. As torchvision's ``RandomResizedCrop(antialias=False)``.

    Args:
        images: uint8 ``[N, C, H, W]``.
        draw: A CPU generator.
    """
    n, _, height, width = images.shape
    top, left, tall, wide = upload(rectangles(n, height, width, draw), images.device)[:, :, None]
    x = _centres(width, wide, images.device) + left
    y = _centres(height, tall, images.device) + top
    return _sample(images, x[:, None, :].expand(n, height, width), y[:, :, None].expand(n, height, width))


def rectangles(n: int, height: int, width: int, draw: torch.Generator) -> Tensor:
    """Where `resized_crop` cuts: top, left, height and width in pixels, int64 ``[4, N]``."""
    area, ratio, down, right = torch.rand(4, n, _TRIES, generator=draw, dtype=torch.float64)
    area = height * width * (_AREA[0] + (_AREA[1] - _AREA[0]) * area)
    low, high = map(math.log, _RATIO)
    ratio = torch.exp(low + (high - low) * ratio)
    wide, tall = (area * ratio).sqrt().round().long(), (area / ratio).sqrt().round().long()
    fits = (wide > 0) & (wide <= width) & (tall > 0) & (tall <= height)
    first = fits.long().argmax(1, keepdim=True)  # of several that fit, and 0 where none does
    wide, tall, down, right = (values.gather(1, first)[:, 0] for values in (wide, tall, down, right))
    top = (down * (height - tall + 1)).long()
    left = (right * (width - wide + 1)).long()
    middle = torch.tensor(_middle(height, width))[:, None]
    return torch.where(fits.any(1), torch.stack([top, left, tall, wide]), middle)


def _middle(height: int, width: int) -> tuple[int, int, int, int]:
    """The largest rectangle of an allowed ratio in the middle of an image: top, left, height, width."""
    tall, wide = min(height, round(width / _RATIO[0])), min(width, round(height * _RATIO[1]))
    return (height - tall) // 2, (width - wide) // 2, tall, wide


def _centres(pixels: int, cut: Tensor, device: torch.device) -> Tensor:
    """Where the centres of so many new pixels lie among ``cut`` old ones, ``[N, pixels]``; none beyond an edge."""
    places = (torch.arange(pixels, device=device) + 0.5) * cut / pixels - 0.5
    return places.clamp(min=0).minimum(cut - 1)


def _sample(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Images at places ``[N, H, W]`` in pixels, 0 being the centre of the first; bilinear, rounded to uint8."""
    height, width = images.shape[2:]
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=3)
    values = F.grid_sample(images.float(), grid.float(), "bilinear", padding_mode="border", align_corners=False)
    return values.round().to(torch.uint8)
