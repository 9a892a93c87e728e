"""Augmentation of a batch against a loop over images and pixels, Pillow, and torch's own resizing of a cut-out."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from dot.config import Augmentation
from dot.data.augment import Views, apply, draw, flip, resized_crop, rotate, shift
from dot.data.augment import rectangles as cuts
from dot.data.drawing import generator

SHAPES = pytest.mark.parametrize("shape", [(3, 8, 8), (1, 7, 7), (3, 6, 11), (2, 9, 4)])
EVERYTHING = Augmentation(shift=2, flip=True, rotate=20.0, resized_crop=True)


def batch(n: int, *shape: int) -> Tensor:
    return torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def views(n: int, *key: int, **recipe: Any) -> Views:
    return draw(Augmentation(**recipe), n, generator(*key))


def augment(images: Tensor, recipe: Augmentation, by: torch.Generator) -> Tensor:
    return apply(draw(recipe, len(images), by), images)


def rectangles(n: int, height: int, width: int, *key: int) -> Tensor:
    chances = views(n, *key, resized_crop=True).crops
    assert chances is not None
    return cuts(chances, height, width)


def turned(image: Tensor, degrees: float) -> np.ndarray:
    """Counter-clockwise about the centre, pixel by pixel, in float64; black where the centre comes from outside."""
    channels, height, width = image.shape
    out = np.zeros((channels, height, width))
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    for row in range(height):
        for column in range(width):
            right, down = column + 0.5 - width / 2, row + 0.5 - height / 2
            x, y = cos * right - sin * down + width / 2, sin * right + cos * down + height / 2
            if not (0 <= x < width and 0 <= y < height):
                continue
            left, top = math.floor(x - 0.5), math.floor(y - 0.5)
            for i in (0, 1):
                for j in (0, 1):
                    weight = (1 - abs(y - 0.5 - top - i)) * (1 - abs(x - 0.5 - left - j))
                    pixel = image[:, min(max(top + i, 0), height - 1), min(max(left + j, 0), width - 1)]
                    out[:, row, column] += weight * pixel.numpy()
    return out


@SHAPES
@pytest.mark.parametrize("degrees", [20.0, 90.0, 180.0])
def test_rotation_equals_a_slow_twin_on_each_image(
    shape: tuple[int, ...], degrees: float, device: torch.device
) -> None:
    images = batch(12, *shape)
    drawn = views(12, 3, 1, 4, rotate=degrees).angles
    assert drawn is not None
    assert len(set(drawn.tolist())) == 12
    found = rotate(images.to(device), drawn).cpu()
    assert (found.dtype, found.shape) == (torch.uint8, images.shape)
    for image, angle, result in zip(images, drawn.tolist(), found, strict=True):
        assert np.abs(turned(image, angle) - result.numpy()).max() <= 0.51, angle


@SHAPES
def test_rotation_is_that_of_pillow(shape: tuple[int, ...], device: torch.device) -> None:
    images = batch(12, *shape)
    angles = torch.linspace(-20, 20, 12)
    found = rotate(images.to(device), angles).cpu()
    for image, angle, result in zip(images, angles.tolist(), found, strict=True):
        for channel, mine in zip(image, result, strict=True):
            theirs = np.asarray(Image.fromarray(channel.numpy()).rotate(angle, Image.Resampling.BILINEAR))
            assert np.abs(theirs.astype(int) - mine.numpy()).max() <= 1, "it cuts where ours is rounded"


def test_angles_are_drawn_evenly() -> None:
    images = torch.zeros(4000, 1, 1, 41, dtype=torch.uint8)
    images[:, 0, 0, 0] = 255  # it leaves the row of pixels at 1.4 degrees
    gone = augment(images, Augmentation(rotate=14.0), generator(0)).flatten(1).sum(1) == 0
    share = float(gone.float().mean())
    limit = math.degrees(math.asin(0.5 / 20))
    assert abs(share - (1 - limit / 14)) < 4 * math.sqrt(0.1 * 0.9 / 4000)


def test_a_flip_mirrors_half_of_the_images(device: torch.device) -> None:
    images = batch(2000, 2, 3, 4)
    found = augment(images.to(device), Augmentation(flip=True), generator(1)).cpu()
    mirrored = 0
    for image, result in zip(images, found, strict=True):
        other = torch.stack([torch.stack([row.flip(0) for row in channel]) for channel in image])
        assert torch.equal(result, image) or torch.equal(result, other)
        mirrored += torch.equal(result, other)
    assert abs(mirrored - 1000) < 4 * math.sqrt(500)


@SHAPES
def test_a_resized_crop_is_the_cut_out_rectangle_resized(shape: tuple[int, ...], device: torch.device) -> None:
    images = batch(40, *shape)
    found = augment(images.to(device), Augmentation(resized_crop=True), generator(3, 1, 4)).cpu()
    assert (found.dtype, found.shape) == (torch.uint8, images.shape)
    where = rectangles(40, *shape[1:], 3, 1, 4).T.tolist()
    assert len({tuple(cut) for cut in where}) > 20
    for image, (top, left, tall, wide), result in zip(images, where, found, strict=True):
        cut = image[None, :, top : top + tall, left : left + wide].double()
        assert cut.shape[2:] == (tall, wide), "within the image"
        wanted = F.interpolate(cut, shape[1:], mode="bilinear", align_corners=False, antialias=False)[0]
        assert float((wanted - result).abs().max()) <= 0.51


@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 1000))
def test_rectangles_lie_within_the_image(height: int, width: int, seed: int) -> None:
    top, left, tall, wide = rectangles(50, height, width, seed)
    assert int(min(top.min(), left.min())) >= 0
    assert int(min(tall.min(), wide.min())) >= 1
    assert int((top + tall).max()) <= height
    assert int((left + wide).max()) <= width


def drawn_one_by_one(height: int, width: int, chance: np.random.Generator) -> tuple[int, int, int, int]:
    """A rectangle drawn as the definition says, in a loop, by other random numbers."""
    for _ in range(10):
        area = height * width * chance.uniform(0.08, 1)
        ratio = math.exp(chance.uniform(math.log(3 / 4), math.log(4 / 3)))
        wide, tall = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < tall <= height:
            return int(chance.integers(height - tall + 1)), int(chance.integers(width - wide + 1)), tall, wide
    if width / height < 3 / 4:
        wide, tall = width, round(width / (3 / 4))
    elif width / height > 4 / 3:
        wide, tall = round(height * 4 / 3), height
    else:
        wide, tall = width, height
    return (height - tall) // 2, (width - wide) // 2, tall, wide


@pytest.mark.parametrize(("height", "width"), [(32, 32), (12, 30), (6, 60), (60, 6), (3, 3)])
def test_rectangles_are_distributed_as_in_a_loop(height: int, width: int) -> None:
    chance = np.random.default_rng(0)
    loop = np.array([drawn_one_by_one(height, width, chance) for _ in range(4000)], dtype=np.float64)
    batch = rectangles(4000, height, width, 0).T.numpy().astype(np.float64)
    for power in (1, 2):
        a, b = loop**power, batch**power
        error = np.sqrt((a.var(0) + b.var(0)) / 4000)
        assert (np.abs(a.mean(0) - b.mean(0)) <= 4.5 * error + 1e-9).all()
    products = [(values[:, [0, 0, 2]] * values[:, [1, 2, 3]]) for values in (loop, batch)]
    error = np.sqrt((products[0].var(0) + products[1].var(0)) / 4000)
    assert (np.abs(products[0].mean(0) - products[1].mean(0)) <= 4.5 * error + 1e-9).all()


def test_everything_in_its_order(device: torch.device) -> None:
    images = batch(16, 3, 8, 8)
    assert torch.equal(augment(images, Augmentation(), generator(0)), images)
    drawn = draw(EVERYTHING, 16, generator(4, 1, 0))
    assert drawn.crops is not None
    assert drawn.angles is not None
    assert drawn.shifts is not None
    assert drawn.flips is not None
    turned_crops = rotate(resized_crop(images, drawn.crops), drawn.angles)
    wanted = flip(shift(turned_crops, drawn.shifts, 2), drawn.flips)
    found = augment(images.to(device), EVERYTHING, generator(4, 1, 0)).cpu()
    assert int((found.int() - wanted.int()).abs().max()) <= 1, "another device rounds otherwise"
    assert float((found != wanted).float().mean()) < 0.01
    for part in ("shift", "flip", "rotate", "resized_crop"):
        less = augment(images, replace(EVERYTHING, **{part: getattr(Augmentation(), part)}), generator(4, 1, 0))
        assert not torch.equal(less, wanted), part


def test_the_same_key_draws_the_same_whatever_the_global_state(device: torch.device) -> None:
    images = batch(16, 3, 8, 8).to(device)
    state = torch.get_rng_state()
    first = augment(images, EVERYTHING, generator(0, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    assert torch.equal(augment(images, EVERYTHING, generator(0, 1, 2)), first)
    for key in [(1, 1, 2), (0, 2, 2), (0, 1, 3)]:
        assert not torch.equal(augment(images, EVERYTHING, generator(*key)), first)
    assert torch.equal(images.cpu(), batch(16, 3, 8, 8)), "the images themselves stay"


def test_a_part_of_a_batch_is_seen_as_in_the_whole(device: torch.device) -> None:
    images = batch(17, 3, 8, 8).to(device)
    drawn = draw(EVERYTHING, 17, generator(2))
    whole = apply(drawn, images)
    for part in (slice(0, 5), slice(5, 17), slice(3, 3)):
        assert torch.equal(apply(drawn[part], images[part]), whole[part])


@pytest.mark.parametrize("recipe", [Augmentation(shift=1), Augmentation(shift=2, flip=True), Augmentation(flip=True)])
def test_a_number_for_each_view(recipe: Augmentation) -> None:
    image = batch(1, 1, 9, 9).expand(2000, -1, -1, -1)
    drawn = draw(recipe, 2000, generator(0))
    assert drawn.numbers is not None
    seen: dict[int, bytes] = {}
    for number, view in zip(drawn.numbers.tolist(), apply(drawn, image), strict=True):
        assert seen.setdefault(number, view.numpy().tobytes()) == view.numpy().tobytes()
    assert sorted(seen) == list(range(recipe.views or 0)), "2000 draws meet them all"
    assert len(set(seen.values())) == recipe.views, "no two views are one"


@pytest.mark.parametrize("recipe", [Augmentation(rotate=1.0, flip=True), Augmentation(shift=4, resized_crop=True)])
def test_views_without_number(recipe: Augmentation) -> None:
    assert recipe.views is None
