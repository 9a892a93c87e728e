"""Image sets: what is in them, and that order and augmentation depend on seed, epoch and step alone."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import Tensor

from dot import data
from dot.config import Augmentation
from dot.data.augment import apply, draw
from dot.data.drawing import generator, shuffled


def test_digits_are_the_1797_images_of_scikit_learn(device: torch.device) -> None:
    digits, bunch = data.load("digits", device), load_digits()
    assert (len(digits.train), len(digits.test)) == (898, 899)
    for split in (digits.train, digits.test):
        assert split.images.dtype == torch.uint8
        assert split.labels.dtype == torch.int64
        assert split.images.shape == (len(split), 1, 8, 8)
        assert {split.images.device.type, split.labels.device.type} == {device.type}
    found = Counter(
        (image.numpy().tobytes(), int(label))
        for split in (digits.train, digits.test)
        for image, label in zip(split.images.cpu(), split.labels.cpu(), strict=True)
    )
    wanted = Counter(
        (image.astype(np.uint8).tobytes(), int(label)) for image, label in zip(bunch.images, bunch.target, strict=True)
    )
    assert found == wanted, "every image once, in one half only, with its own label"
    assert (digits.in_channels, digits.num_classes, digits.white) == (1, 10, int(bunch.images.max()))


def test_both_halves_have_the_classes_in_equal_shares() -> None:
    digits = data.load("digits", torch.device("cpu"))
    train, test = (torch.bincount(split.labels, minlength=10) for split in (digits.train, digits.test))
    assert int((train - test).abs().max()) <= 1


def test_the_halves_are_the_same_always() -> None:
    first = data.load("digits", torch.device("cpu"))
    torch.manual_seed(99)
    np.random.seed(99)
    second = data.load("digits", torch.device("cpu"))
    for name in ("train", "test"):
        assert torch.equal(getattr(first, name).images, getattr(second, name).images)
        assert torch.equal(getattr(first, name).labels, getattr(second, name).labels)


def test_training_inputs_have_zero_mean_and_unit_deviation(device: torch.device) -> None:
    digits = data.load("digits", device)
    inputs = digits.inputs(digits.train.images)
    assert inputs.dtype == torch.float32
    assert inputs.shape == digits.train.images.shape
    assert abs(float(inputs.double().mean())) < 1e-6
    assert abs(float(inputs.double().std()) - 1) < 1e-6
    image = digits.test.images[:1]
    white = torch.full_like(image, 16)
    span = digits.inputs(white) - digits.inputs(torch.zeros_like(image))
    torch.testing.assert_close(span, torch.full_like(span, 1 / digits.std[0]))


@pytest.mark.parametrize(("name", "close"), [("digit", "digits"), ("cifar", "cifar10, cifar100"), ("", "digits")])
def test_an_unknown_set_lists_close_ones(name: str, close: str) -> None:
    with pytest.raises(ValueError, match=f"data must be a known image set. Got '{name}'. Did you mean {close}?"):
        data.load(name, torch.device("cpu"))


def shifted(image: Tensor, down: int, right: int) -> Tensor:
    """Pixel by pixel: what lies ``down`` below and ``right`` of a place comes to it; black from outside."""
    out = torch.zeros_like(image)
    channels, height, width = image.shape
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                if 0 <= y + down < height and 0 <= x + right < width:
                    out[c, y, x] = image[c, y + down, x + right]
    return out


def shifted_by(images: Tensor, pixels: int, by: torch.Generator) -> Tensor:
    return apply(draw(Augmentation(shift=pixels), len(images), by), images)


@pytest.mark.parametrize("pixels", [1, 2])
def test_shift_equals_a_slow_twin_on_each_image(pixels: int, device: torch.device) -> None:
    images = torch.randint(1, 17, (40, 2, 6, 5), dtype=torch.uint8)
    moved = shifted_by(images.to(device), pixels, generator(3, 1, 4)).cpu()
    assert moved.shape == images.shape
    assert moved.dtype == images.dtype
    steps = range(-pixels, pixels + 1)
    found = set()
    for image, result in zip(images, moved, strict=True):
        fitting = [
            (down, right) for down in steps for right in steps if torch.equal(shifted(image, down, right), result)
        ]
        assert len(fitting) == 1, "moved by one whole step, both channels alike"
        found.update(fitting)
    assert len(found) > (2 * pixels + 1) ** 2 / 2, "each image by a step of its own"


def test_shifts_are_drawn_evenly() -> None:
    images = torch.zeros(9000, 1, 3, 3, dtype=torch.uint8)
    images[:, 0, 1, 1] = 1
    counts = shifted_by(images, 1, generator(0, 1, 0))[:, 0].long().sum(0).flatten()
    chi2 = float(((counts - 1000) ** 2 / 1000).sum())
    assert chi2 < 32, "8 degrees of freedom: exceeded once in 10,000 seeds"


def test_no_shift_leaves_the_images() -> None:
    images = torch.randint(0, 17, (3, 1, 4, 4), dtype=torch.uint8)
    assert torch.equal(shifted_by(images, 0, generator(0)), images)


def test_the_same_key_draws_the_same_shifts_whatever_the_global_state() -> None:
    images = torch.randint(0, 17, (16, 1, 8, 8), dtype=torch.uint8)
    state = torch.get_rng_state()
    first = shifted_by(images, 1, generator(0, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    assert torch.equal(shifted_by(images, 1, generator(0, 1, 2)), first)
    for key in [(1, 1, 2), (0, 2, 2), (0, 1, 3)]:
        assert not torch.equal(shifted_by(images, 1, generator(*key)), first)


@given(n=st.integers(1, 300), size=st.integers(1, 70), seed=st.integers(0, 2**40), epoch=st.integers(1, 500))
def test_batches_cover_each_example_once(n: int, size: int, seed: int, epoch: int) -> None:
    found = shuffled(n, size, seed, epoch)
    assert sorted(torch.cat(found).tolist()) == list(range(n))
    sizes = [len(batch) for batch in found]
    assert len(found) == -(-n // size), "no more steps than whole batches would take"
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    state = torch.get_rng_state()
    first = torch.cat(shuffled(100, 8, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    assert torch.equal(torch.cat(shuffled(100, 8, 0, 1)), first)
    assert torch.equal(torch.cat(shuffled(100, 30, 0, 1)), first), "whatever the size of a batch"
    for seed, epoch in [(1, 1), (0, 2), (1, 0), (2, 1)]:
        assert not torch.equal(torch.cat(shuffled(100, 8, seed, epoch)), first)


def test_keys_of_other_lengths_draw_other_numbers() -> None:
    keys = [(1,), (1, 0), (1, 2), (1, 2, 0), (1, 2, 1), (2, 1), (2, 1, 0), (0, 1), (1, 0, 0), (0, 1, 0)]
    drawn = {tuple(torch.rand(4, generator=generator(*key)).tolist()) for key in keys}
    assert len(drawn) == len(keys), "the order of an epoch and the shifts of its first step are drawn independently"
