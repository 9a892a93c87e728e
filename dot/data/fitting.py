"""A part of an image file brought to a square, decoded no larger than need be.

JPEG can be decoded at 1/2, 1/4 or 1/8 of its size, which costs less. That is done where twice the pixels that are asked
for remain on each side: on photographs the square then differs from that of a full decode by less than 1 of 255 in the
mean and by 16 at most, to which a test holds it. Without that reserve it would be three times as much.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dot.data.augment import rectangles
from dot.data.decoding import in_rgb

_RESERVE = 2
_SCALES = (8, 4, 2)
_MIDDLE = 256 / 224

Box = tuple[float, float, float, float]
"""Left, top, right and bottom edge, in pixels of the whole image."""


def fit(data: bytes, size: int, chances: Tensor | None = None) -> NDArray[np.uint8]:
    """Pixels ``[3, size, size]`` of a rectangle of an image file, RGB; bilinear over all pixels that a new one covers.

    Args:
        data: The bytes of the file.
        size: Edge of the square.
        chances: Of the rectangle, ``[1, 4, tries]``; see `dot.data.augment.rectangles`. None: the middle one that is
            left where the shorter side is brought to 256/224 of the size and the middle square is cut out.

    Raises:
        Exception: It cannot be decoded; see `dot.data.decoding.decode`.
    """
    with Image.open(io.BytesIO(data)) as image:
        box = _middle(*image.size, size) if chances is None else _drawn(*image.size, chances)
        scale = _decode_smaller(image, box, size)
        rgb = in_rgb(image)
    left, top, right, bottom = (edge / scale for edge in box)
    square = rgb.resize((size, size), Image.Resampling.BILINEAR, (left, top, right, bottom))
    return np.asarray(square).transpose(2, 0, 1)


def _drawn(width: int, height: int, chances: Tensor) -> Box:
    top, left, tall, wide = rectangles(chances, height, width)[:, 0].tolist()
    return left, top, left + wide, top + tall


def _middle(width: int, height: int, size: int) -> Box:
    edge = size * min(width, height) / round(size * _MIDDLE)
    left, top = (width - edge) / 2, (height - edge) / 2
    return left, top, left + edge, top + edge


def _decode_smaller(image: Image.Image, box: Box, size: int) -> int:
    """Have an image decoded at a part of its size, where that pays; returns what its edges are divided by."""
    left, top, right, bottom = box
    spare = min(right - left, bottom - top) / (_RESERVE * size)
    scale = next((scale for scale in _SCALES if scale <= spare), 1)
    if scale == 1 or image.draft(None, (image.width // scale, image.height // scale)) is None:
        return 1
    return scale
