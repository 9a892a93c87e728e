"""Augmentation: what is drawn for each image of a batch, and how a whole batch is then seen, on its device.

Draws are made on the CPU, so that they are the same on every device, each kind only where it is asked for. They can be
cut like the batch: a process that has a part of it sees its images as one that has all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dot.config import Augmentation
from dot.data.drawing import upload

_AREA = (0.08, 1.0)
_RATIO = (3 / 4, 4 / 3)
_TRIES = 10


@dataclass(frozen=True)
class Views:
    """How each image of a batch is seen; None leaves that out. On the CPU, images first.

    Attributes:
        crops: Uniform chances ``[N, 4, tries]`` for area, ratio and place; see `rectangles`.
        angles: Degrees counter-clockwise ``[N]``.
        shifts: Where the window begins in the padded image, down and right, int64 ``[N, 2]``.
        pixels: How wide the image is padded for `shifts`.
        flips: bool ``[N]``.
    """

    crops: Tensor | None = None
    angles: Tensor | None = None
    shifts: Tensor | None = None
    pixels: int = 0
    flips: Tensor | None = None

    def __getitem__(self, part: slice) -> Views:
        def cut(values: Tensor | None) -> Tensor | None:
            return None if values is None else values[part]

        return Views(cut(self.crops), cut(self.angles), cut(self.shifts), self.pixels, cut(self.flips))

    @property
    def numbers(self) -> Tensor | None:
        """Which of `dot.config.Augmentation.views` each image is seen in, int64 ``[N]`` from 0; None without draws."""
        side = 2 * self.pixels + 1
        number = None if self.shifts is None else self.shifts[:, 0] * side + self.shifts[:, 1]
        if self.flips is None:
            return number
        return self.flips.long() + (0 if number is None else 2 * number)


def draw(recipe: Augmentation, n: int, by: torch.Generator) -> Views:
    """How each of ``n`` images is to be seen, drawn by a CPU generator; see `dot.data.drawing.generator`."""
    crops = torch.rand(4, n, _TRIES, generator=by, dtype=torch.float64).transpose(0, 1) if recipe.resized_crop else None
    angles = (torch.rand(n, generator=by) * 2 - 1) * recipe.rotate if recipe.rotate > 0 else None
    shifts = torch.randint(0, 2 * recipe.shift + 1, (2, n), generator=by).T if recipe.shift > 0 else None
    flips = torch.rand(n, generator=by) < 0.5 if recipe.flip else None
    return Views(crops, angles, shifts, recipe.shift, flips)


def apply(views: Views, images: Tensor) -> Tensor:
    """A batch uint8 ``[N, C, H, W]`` as it is to be seen."""
    steps: list[tuple[Callable[[Tensor, Tensor], Tensor], Tensor | None]] = [
        (resized_crop, views.crops),
        (rotate, views.angles),
        (lambda batch, shifts: shift(batch, shifts, views.pixels), views.shifts),
        (flip, views.flips),
    ]
    for step, drawn in steps:
        if drawn is not None:
            images = step(images, drawn)
    return images


def flip(images: Tensor, chosen: Tensor) -> Tensor:
    """Mirror the chosen ones (bool ``[N]``) of the images ``[N, C, H, W]`` left to right."""
    return torch.where(upload(chosen, images.device)[:, None, None, None], images.flip(3), images)


def shift(images: Tensor, windows: Tensor, pixels: int) -> Tensor:
    """Pad each image with so many black pixels on each side, and cut out the window that begins at ``windows``.

    Args:
        images: ``[N, C, H, W]``.
        windows: Down and right, int64 ``[N, 2]`` in [0, 2 pixels].
        pixels: At least 0.
    """
    n, _, height, width = images.shape
    padded = F.pad(images, (pixels,) * 4)
    every = padded.unfold(2, height, 1).unfold(3, width, 1)
    down, right = upload(windows, images.device).T
    return every[torch.arange(n, device=images.device), :, down, right]


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Turn each image counter-clockwise about its centre.

    As Pillow's ``Image.rotate(angle, BILINEAR)``: a new pixel whose centre comes from within the image is interpolated
    between the four pixels around that place, those beyond the edge being those at the edge; any other is black.
    Unlike there, values are rounded and not cut.

    Args:
        images: uint8 ``[N, C, H, W]``.
        degrees: Of each, ``[N]``.
    """
    height, width = images.shape[2:]
    angles = upload(torch.deg2rad(degrees), images.device)
    cos, sin = angles.cos()[:, None, None], angles.sin()[:, None, None]
    right = torch.arange(width, device=images.device) + 0.5 - width / 2  # from the centre to a pixel's own
    down = (torch.arange(height, device=images.device) + 0.5 - height / 2)[:, None]
    x = cos * right - sin * down + width / 2
    y = sin * right + cos * down + height / 2
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return _sample(images, x - 0.5, y - 0.5) * inside[:, None]


def resized_crop(images: Tensor, chances: Tensor) -> Tensor:
    """Cut a rectangle out of each image and bring it to the size of the image, bilinear, not smoothed before.

    As torchvision's ``RandomResizedCrop(antialias=False)``.

    Args:
        images: uint8 ``[N, C, H, W]``.
        chances: See `rectangles`.
    """
    n, _, height, width = images.shape
    top, left, tall, wide = upload(rectangles(chances, height, width), images.device)[:, :, None]
    x = _centres(width, wide, images.device) + left
    y = _centres(height, tall, images.device) + top
    return _sample(images, x[:, None, :].expand(n, height, width), y[:, :, None].expand(n, height, width))


def rectangles(chances: Tensor, height: int, width: int) -> Tensor:
    """Where `resized_crop` cuts images of one size: top, left, height and width in pixels, int64 ``[4, N]``.

    Area (8 to 100 % of the image's) and logarithm of the ratio of width to height (3/4 to 4/3) are drawn evenly, up to
    ten times until the rectangle fits; then its place. Where none fits, it is the largest one in the middle whose ratio
    is allowed.

    Args:
        chances: Evenly drawn in [0, 1) for area, ratio, place down and right of each try, float64 ``[N, 4, tries]``.
        height: Of the images.
        width: Likewise.
    """
    area, ratio, down, right = chances.transpose(0, 1)
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
