"""Streamed images against a slow twin that decodes each file whole, and workers that are killed or interrupted."""

from __future__ import annotations

import io
import itertools
import math
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import image_files
import numpy as np
import processes
import pytest
import sklearn.datasets
import torch
from image_files import Pixels, encoded, noise, put
from PIL import Image
from torch import Tensor

from dot.data import fitting, streaming
from dot.data.augment import Augmentation, Views, apply, draw
from dot.data.decoding import decode
from dot.data.drawing import generator
from dot.data.fitting import fit
from dot.data.folders import listing
from dot.data.images import ImageSet, Order
from dot.data.streaming import Streamed

EVERYTHING = Augmentation(shift=1, flip=True, rotate=20.0, resized_crop=True)
SHAPES = [(8, 8), (40, 30), (9, 61), (50, 3), (1, 1)]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """An image folder of 12 images to train on, of several shapes, and 6 held out."""
    folder = image_files.folder(tmp_path / "pets")
    for i, shape in enumerate(SHAPES):
        put(folder / "train" / "bee" / f"more {i}.png", encoded(noise(i, *shape, 3)))
    return folder


def streamed(base: Path, size: int = 8, workers: int = 0) -> Streamed:
    return Streamed.of(base, listing(base).train, size, workers)


def orders(n: int, each: int = 4, recipe: Augmentation = EVERYTHING) -> list[Order]:
    chosen = torch.randperm(n, generator=generator(1)).split(each)
    return [(indices, draw(recipe, len(indices), generator(2, i))) for i, indices in enumerate(chosen)]


def rectangle(chances: Tensor, height: int, width: int) -> tuple[int, int, int, int]:
    """Top, left, height and width, try by try."""
    for area, ratio, down, right in chances.T.tolist():
        pixels = height * width * (0.08 + 0.92 * area)
        shape = math.exp(math.log(3 / 4) + (math.log(4 / 3) - math.log(3 / 4)) * ratio)
        wide, tall = round(math.sqrt(pixels * shape)), round(math.sqrt(pixels / shape))
        if 0 < wide <= width and 0 < tall <= height:
            return int(down * (height - tall + 1)), int(right * (width - wide + 1)), tall, wide
    tall, wide = min(height, round(width * 4 / 3)), min(width, round(height * 4 / 3))
    return (height - tall) // 2, (width - wide) // 2, tall, wide


def twin(path: Path, size: int, chances: Tensor | None) -> Pixels:
    """Straight: the whole file is decoded, then the rectangle brought to the size. ``[3, size, size]``."""
    with Image.open(path) as image:
        whole = image.convert("RGB")
    width, height = whole.size
    if chances is None:
        edge = size / round(size * 256 / 224) * min(width, height)
        box = ((width - edge) / 2, (height - edge) / 2, (width + edge) / 2, (height + edge) / 2)
    else:
        top, left, tall, wide = rectangle(chances, height, width)
        box = (left, top, left + wide, top + tall)
    return np.asarray(whole.resize((size, size), Image.Resampling.BILINEAR, box)).transpose(2, 0, 1)


@pytest.mark.parametrize("recipe", [EVERYTHING, Augmentation(resized_crop=True), Augmentation(flip=True)])
def test_batches_equal_a_slow_twin(recipe: Augmentation, base: Path, device: torch.device) -> None:
    part = streamed(base).to(device)
    paths = [base / picture.member for picture in listing(base).train]
    asked = orders(len(part), recipe=recipe)
    found = list(part.batches(asked))
    assert len(found) == len(asked)
    for images, (indices, views) in zip(found, asked, strict=True):
        crops = [None] * len(indices) if views.crops is None else views.crops
        whole = np.stack([twin(paths[i], 8, crop) for i, crop in zip(indices.tolist(), crops, strict=True)])
        wanted = apply(replace(views, crops=None), torch.from_numpy(whole).to(device))
        assert (images.dtype, images.device.type) == (torch.uint8, device.type)
        assert torch.equal(images, wanted)


def test_what_a_part_says_of_itself(base: Path, device: torch.device) -> None:
    part = streamed(base).to(device)
    assert (len(part), part.shape) == (17, (3, 8, 8))
    assert part.labels.tolist() == [0] * 4 + [1] * 9 + [2] * 4
    assert part.labels.device.type == device.type
    (nothing,) = part.batches([(torch.empty(0, dtype=torch.int64), Views())])
    assert nothing.shape == (0, 3, 8, 8)


@pytest.mark.parametrize("shape", [(32, 32), (64, 32), (48, 96)])
def test_the_middle_is_what_is_left_of_the_whole_when_its_edges_are_cut(shape: tuple[int, int]) -> None:
    """In two steps, as evaluation is usually said: shorter side to 256/224 of the size, then the middle square."""
    pixels = noise(3, *shape, 3)
    tall, wide = (16 * edge // min(shape) for edge in shape)
    small = np.asarray(Image.fromarray(pixels).resize((wide, tall), Image.Resampling.BILINEAR)).astype(int)
    top, left = (tall - 14) // 2, (wide - 14) // 2
    found = fit(encoded(pixels), 14).transpose(1, 2, 0)
    assert np.abs(found - small[top : top + 14, left : left + 14]).max() <= 1


def test_every_mode_becomes_rgb() -> None:
    grey, rgb = noise(0, 12, 9), noise(2, 12, 9, 3)
    palette = Image.frombytes("P", (9, 12), grey.tobytes())
    palette.putpalette(noise(3, 256, 3).tobytes())
    files = {
        "L": encoded(grey),
        "1": encoded(Image.fromarray(grey > 99)),
        "P": encoded(palette),
        "RGBA": encoded(np.dstack([rgb, grey])),
        "CMYK": encoded(Image.frombytes("CMYK", (9, 12), noise(4, 12, 9, 4).tobytes()), "TIFF"),
        "CMYK JPEG": encoded(Image.frombytes("CMYK", (9, 12), noise(4, 12, 9, 4).tobytes()), "JPEG"),
        "L JPEG": encoded(grey, "JPEG"),
    }
    chances = draw(Augmentation(resized_crop=True), 1, generator(5)).crops
    for mode, file in files.items():
        in_rgb = io.BytesIO(encoded(decode(file).transpose(1, 2, 0)))
        assert np.array_equal(fit(file, 7, chances), twin(in_rgb, 7, chances[0])), mode  # type: ignore
        assert np.array_equal(fit(file, 7), twin(in_rgb, 7, None)), mode  # type: ignore
    with pytest.raises(ValueError, match="more than 8 bits"):
        fit(encoded(Image.fromarray(np.zeros((8, 8), np.uint16))), 4)


# JPEG at a part of its size


@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
@pytest.mark.parametrize("zoom", [1, 2, 4])
@pytest.mark.parametrize("quality", [75, 95])
def test_jpeg_at_a_part_of_its_size_differs_little(name: str, zoom: int, quality: int, tmp_path: Path) -> None:
    with Image.open(Path(sklearn.datasets.__file__).parent / "images" / name) as photograph:
        large = photograph.resize((640 * zoom, 427 * zoom), Image.Resampling.BICUBIC)
    path = put(tmp_path / "a.jpg", encoded(large, "JPEG", quality=quality))
    crops = draw(Augmentation(resized_crop=True), 4, generator(7)).crops
    assert crops is not None
    for size, chances in itertools.product((96, 224), (None, *crops.split(1))):
        wanted = twin(path, size, None if chances is None else chances[0]).astype(int)
        difference = np.abs(fit(path.read_bytes(), size, chances) - wanted)
        assert difference.mean() < 1
        assert difference.max() <= 16


def test_a_jpeg_is_never_decoded_smaller_than_twice_what_is_asked_for() -> None:
    scales = set()
    for height, width, size in itertools.product((7, 16, 33, 64), (8, 17, 47, 65), (1, 2, 3, 7)):
        file = encoded(noise(1, height, width, 3), "JPEG")
        for edge in range(1, min(height, width) + 1, 5):
            with Image.open(io.BytesIO(file)) as image:
                scale = fitting._decode_smaller(image, (0, 0, edge, edge), size)
                assert image.size == (math.ceil(width / scale), math.ceil(height / scale))
            assert scale == 1 or edge / scale >= 2 * size
            assert scale == 8 or edge / (2 * scale) < 2 * size, "no smaller one would do"
            scales.add(scale)
    assert scales == {1, 2, 4, 8}


def test_a_gradient_stays_in_its_place_when_decoded_smaller() -> None:
    """A wrong scale of the rectangle would move it; from an edge that is no multiple of 8."""
    ramp = np.broadcast_to(np.linspace(0, 255, 331)[None, :, None], (277, 331, 3)).round().astype(np.uint8)
    file, plain = encoded(ramp, "JPEG", quality=95), encoded(ramp)
    crops = draw(Augmentation(resized_crop=True), 30, generator(8)).crops
    assert crops is not None
    for chances in crops.split(1):
        assert np.abs(fit(file, 16, chances) - fit(plain, 16, chances).astype(int)).max() <= 2


# Workers and orders


def test_the_number_of_workers_changes_no_bit(base: Path) -> None:
    asked = orders(17)
    before = torch.get_rng_state()
    found = [torch.cat(list(streamed(base, workers=workers).batches(asked))) for workers in (0, 1, 2)]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert torch.equal(torch.get_rng_state(), before), "nothing is drawn from the generator of a user's network"


def test_a_slice_of_each_order_gives_that_slice_of_its_batch(base: Path) -> None:
    asked, part = orders(17, each=6), streamed(base)
    whole = list(part.batches(asked))
    for cut in (slice(0, 3), slice(3, 6), slice(1, None, 2)):
        parts = list(part.batches((indices[cut], views[cut]) for indices, views in asked))
        assert all(torch.equal(piece, batch[cut]) for piece, batch in zip(parts, whole, strict=True))


@pytest.mark.parametrize("workers", [0, 1])
def test_orders_are_asked_for_as_they_are_needed(workers: int, base: Path) -> None:
    endless = itertools.cycle(orders(17))
    found = list(itertools.islice(streamed(base, workers=workers).batches(endless), 7))
    assert torch.equal(found[0], found[5])
    assert torch.equal(found[1], found[6])


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_the_orders_is_not_hidden(workers: int, base: Path) -> None:
    def failing() -> object:
        yield from orders(17)[:1]
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match=r"^mine$"):
        list(streamed(base, workers=workers).batches(failing()))  # type: ignore[arg-type]


@pytest.mark.parametrize("lost", [ConnectionResetError("by peer"), EOFError()])
def test_a_worker_that_ends_while_its_batch_is_fetched(lost: Exception) -> None:
    def loader() -> object:
        yield "a batch"
        raise lost

    found = streaming._results(loader())  # type: ignore[arg-type]
    assert next(found) == "a batch"
    with pytest.raises(RuntimeError, match="must start and stay") as caught:
        next(found)
    assert caught.value.__cause__ is lost


def test_workers_share_the_machine_with_other_processes(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(workers: int | None) -> int:
        return replace(streamed(base), workers=workers)._loader([]).num_workers

    monkeypatch.setattr(streaming, "cpus", lambda: 2)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert [chosen(None), chosen(0), chosen(1)] == [2, 0, 1]
    for processes_here, wanted in ((1, 2), (2, 1), (8, 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes_here))
        assert chosen(None) == wanted


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["cut short", "a page", "missing"])
def test_a_corrupt_image_is_named(kind: str, workers: int, base: Path) -> None:
    part = streamed(base, workers=workers)
    path = base / part.members[5]
    whole = path.read_bytes()
    path.unlink() if kind == "missing" else path.write_bytes(whole[:70] if kind == "cut short" else b"<html>")
    with pytest.raises(ValueError, match=re.escape(f"{path} must be a whole image. Got one that cannot")) as caught:
        list(part.batches(orders(17)))
    assert "\n" not in str(caught.value)


def test_a_killed_worker_is_an_error_and_no_hang(base: Path) -> None:
    batches = streamed(base, workers=2).batches(itertools.cycle(orders(17)))
    next(batches)
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    os.kill(workers[0].pid, signal.SIGKILL)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match=r"decode images must start and stay. One ended: .* Else memory ran out"):
        for _ in batches:
            pass


SCRIPT = """
import itertools, signal, sys, time
from pathlib import Path

import torch

from dot.data.augment import Views
from dot.data.folders import listing
from dot.data.streaming import Streamed
from dot.interrupt import deferred_interrupt


def run():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    part = Streamed.of(Path("pets"), listing(Path("pets")).train, 8, 2)
    order = (torch.arange(4), Views())
    if sys.argv[1] == "at once":
        for i, _ in enumerate(part.batches(itertools.repeat(order))):
            print(i, flush=True)
    with deferred_interrupt() as asked:
        for i, _ in enumerate(part.batches(itertools.repeat(order))):
            print(i, flush=True)
            if asked():
                left = i + 20 if "left" not in locals() else left
                if i == left:
                    break
    print("saved", flush=True)


if __name__ == "__main__":
    run()
"""


def started(base: Path, *arguments: str, code: str = SCRIPT) -> subprocess.Popen[str]:
    (base.parent / "script.py").write_text(code)
    return processes.started([sys.executable, "script.py", *arguments], base.parent)


def someone_is_left(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("how", ["at once", "deferred"])
def test_ctrl_c_is_left_to_the_main_process(how: str, base: Path) -> None:
    process = started(base, how)
    assert [process.stdout.readline() for _ in range(5)] == [f"{i}\n" for i in range(5)]  # type: ignore[union-attr]
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert err.count("KeyboardInterrupt\n") == (how == "at once"), err
    assert out.endswith("\nsaved\n") == (how == "deferred")
    assert (process.returncode == 0) == (how == "deferred"), err
    processes.until(lambda: not someone_is_left(process.pid), "the workers end", seconds=60)


def test_workers_end_with_a_main_process_that_is_killed(base: Path) -> None:
    process = started(base, "at once")
    assert process.stdout.readline() == "0\n"  # type: ignore[union-attr]
    process.kill()
    process.communicate(timeout=60)
    processes.until(lambda: not someone_is_left(process.pid), "the workers end", seconds=60)


def test_a_script_that_its_own_workers_run_again_is_told_so(base: Path) -> None:
    process = started(base, "at once", code=SCRIPT.replace('if __name__ == "__main__":', "if True:"))
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert "RuntimeError: the processes that decode images must start and stay." in err.strip().splitlines()[-1]


# The set


def test_a_set_gives_inputs(base: Path, device: torch.device) -> None:
    found = streaming.image_set("pets", listing(base), 8, mean=(0.1, 0.2, 0.3), std=(1.0, 0.5, 0.25), workers=0)
    assert isinstance(found.to(device), ImageSet)
    (images,) = found.to(device).test.batches([(torch.arange(6), Views())])
    inputs = found.to(device).inputs(images)
    wanted = (images.double() / 255 - torch.tensor([0.1, 0.2, 0.3], device=device)[:, None, None]) * torch.tensor(
        [1.0, 2.0, 4.0], device=device
    )[:, None, None]
    torch.testing.assert_close(inputs.double(), wanted, atol=1e-5, rtol=0)
    assert (found.in_channels, found.num_classes, found.white, found.skipped) == (3, 3, 255, 0)
