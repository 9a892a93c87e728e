"""A teacher and its cache: logits against the network asked image by image, and files that were broken in every way."""

from __future__ import annotations

import contextlib
import copy
import errno
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from tiny import CPU
from torch import Tensor, nn

from dot import kd_loss, logit_cache, models
from dot.data.augment import Views, apply
from dot.distillation import Outputs
from dot.logit_cache import LogitCache
from dot.teaching import Teacher
from landscape.provenance import digest_model

IMAGES, PIXELS, VIEWS = 5, 1, 18
"""A shift by up to a pixel each way, and a flip: 3 x 3 x 2 views."""


class Asked(nn.Module):
    """A network that remembers how many images it was shown in each call."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.inner = models.build("resnet8", in_channels=1, num_classes=10)
        with torch.no_grad():
            self.inner.train()(torch.randn(64, 1, 8, 8))  # statistics of no default value
        self.rows: list[int] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.rows.append(len(inputs))
        return self.inner(inputs)


@pytest.fixture
def network() -> Asked:
    return Asked()


Batch = tuple[Tensor, Tensor, Views]


def batches(size: int = 16, seed: int = 0) -> list[Batch]:
    """Inputs, indices and views: each image in each view once, shuffled."""
    images = tiny.digits(CPU, IMAGES, 1).train.images
    every = torch.cartesian_prod(torch.arange(IMAGES), torch.arange(3), torch.arange(3), torch.arange(2))
    found = []
    for part in every[torch.randperm(len(every), generator=torch.Generator().manual_seed(seed))].split(size):
        views = Views(shifts=part[:, 1:3], pixels=PIXELS, flips=part[:, 3].bool())
        found.append((tiny.normalised(apply(views, images[part[:, 0]])), part[:, 0], views))
    return found


def one_by_one(network: Asked, batch: Batch) -> Tensor:
    """Logits ``[N, C]`` in float32 of each image, cut out of the padded one by hand and shown alone."""
    _, indices, views = batch
    images, found = tiny.digits(CPU, IMAGES, 1).train.images.numpy(), []
    assert views.shifts is not None
    assert views.flips is not None
    for index, (down, right), flipped in zip(indices, views.shifts.tolist(), views.flips, strict=True):
        padded = np.zeros((10, 10), np.uint8)
        padded[1:9, 1:9] = images[int(index), 0]
        window = padded[down : down + 8, right : right + 8]
        seen = torch.from_numpy(np.ascontiguousarray(window[:, ::-1] if flipped else window))
        with torch.no_grad():
            found.append(network.inner.eval()(tiny.normalised(seen[None, None]))[0])
    return torch.stack(found)


def assert_rounded(found: Tensor, wanted: Tensor) -> None:
    """Float16 numbers, the nearest to those wanted, which are known to the float32 sums of a network, 1e-6 or so."""
    assert found.dtype == torch.float32
    assert torch.equal(found, found.half().float())
    spacing = torch.from_numpy(np.spacing(wanted.half().abs().numpy())).float()
    assert ((found - wanted).abs() <= spacing / 2 + 2e-6).all()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "teacher" / "logits"


def opened(folder: Path, images: int = IMAGES, views: int = VIEWS, classes: int = 10) -> LogitCache:
    return LogitCache(folder, images, views, classes, CPU)


def taught(teacher: Teacher, all_of: list[Batch]) -> list[Tensor]:
    return [teacher.of(*batch).logits for batch in all_of]


@pytest.mark.parametrize("resident", [False, True])
def test_what_is_read_is_the_rounding_of_what_the_network_gives(
    resident: bool, network: Asked, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with all logits on the device, for which memory apart from the file stands in."""
    monkeypatch.setattr(logit_cache, "_free", lambda device: 10**12 if resident else 0)
    cache = opened(folder)
    teacher = Teacher(network, cache=cache)
    first = taught(teacher, batches())
    assert network.rows == [16, 16, 16, 16, 16, 10]
    for found, batch in zip(first, batches(), strict=True):
        assert_rounded(found, one_by_one(network, batch))
    assert tiny.same(taught(teacher, batches()), first), "a later use"
    cache.flush()
    if resident:
        np.save(folder / "logits.npy", np.zeros((IMAGES, VIEWS, 10), np.float16))
    assert tiny.same(taught(teacher, batches()), first), "and one after the flush"
    assert len(network.rows) == 6


def test_another_process_reads_what_was_flushed(network: Asked, folder: Path) -> None:
    cache = opened(folder)
    first = taught(Teacher(network, cache=cache), batches())
    cache.flush()
    torch.save((batches(), first), folder / "first.pt")
    code = f"""
import sys, torch
from pathlib import Path
from dot.logit_cache import LogitCache
from dot.teaching import Teacher
torch.serialization.add_safe_globals([__import__("dot.data.augment").data.augment.Views])
asked, first = torch.load(sys.argv[1], weights_only=True)
cache = LogitCache(Path(sys.argv[1]).parent, {IMAGES}, {VIEWS}, 10, torch.device("cpu"))
teacher = Teacher(torch.nn.Identity(), cache=cache)  # whose answers would be of another shape
assert all(torch.equal(teacher.of(*batch).logits, found) for batch, found in zip(asked, first))
"""
    command = [sys.executable, "-c", code, str(folder / "first.pt")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": os.getcwd()})
    assert done.returncode == 0, done.stderr


def test_the_network_is_asked_only_for_what_is_missing(network: Asked, folder: Path) -> None:
    cache = opened(folder)
    teacher = Teacher(network, cache=cache)
    whole = batches(IMAGES * VIEWS)[0]
    inputs, indices, views = whole
    teacher.of(inputs[::3], indices[::3], views[slice(None, None, 3)])
    assert network.rows == [30]
    found = teacher.of(*whole).logits
    assert network.rows == [30, 60]
    assert_rounded(found, one_by_one(network, whole))
    assert torch.equal(teacher.of(*whole).logits, found)
    assert network.rows == [30, 60]


def test_a_flush_writes_what_is_new(network: Asked, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, written = logit_cache._write, []

    def write(path: Path, rows: list[int], values: np.ndarray) -> None:
        written.append((path.name, len(rows)))
        plain(path, rows, values)

    monkeypatch.setattr(logit_cache, "_write", write)
    cache = opened(folder)
    for part in (batches()[:2], [], batches()[:3]):
        taught(Teacher(network, cache=cache), part)
        cache.flush()
    assert written == [("logits.npy", 32), ("there.npy", 32), ("logits.npy", 16), ("there.npy", 16)]


def test_without_augmentation_there_is_one_view(network: Asked, folder: Path) -> None:
    inputs = tiny.normalised(tiny.digits(CPU, IMAGES, 1).train.images)
    teacher = Teacher(network, cache=opened(folder, views=1))
    found = [teacher.of(inputs, torch.arange(IMAGES), Views()).logits for _ in range(2)]
    with torch.no_grad():
        assert_rounded(found[0], torch.cat([network.inner(one[None]) for one in inputs]))
    assert torch.equal(*found)
    assert network.rows == [IMAGES]


class Killed(BaseException):
    """Stands for SIGKILL: what is in memory is lost, what was written stays."""


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("at", [1, 2])
def test_killed_anywhere_in_a_flush_nothing_wrong_is_read(
    at: int, share: float, network: Asked, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the writing of the logits (1) or of the word that they are there (2), at its start, within it, at its end."""
    cache = opened(folder)
    first = taught(Teacher(network, cache=cache), batches()[:3])
    cache.flush()
    taught(Teacher(network, cache=cache), batches()[3:])
    plain, calls = logit_cache._write, []

    def write(path: Path, rows: list[int], values: np.ndarray) -> None:
        calls.append(path.name)
        if len(calls) < at:
            return plain(path, rows, values)
        n = round(share * len(rows))
        plain(path, rows[:n], values[:n])
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(logit_cache, "_write", write)
        with pytest.raises(Killed):
            cache.flush()
    assert calls == ["logits.npy", "there.npy"][:at]
    network.rows.clear()
    found = taught(Teacher(network, cache=opened(folder)), batches())
    left = 0 if at == 1 else round(share * 42)
    assert sum(network.rows) == 42 - left
    assert tiny.same(found[:3], first)
    for logits, batch in zip(found, batches(), strict=True):
        assert_rounded(logits, one_by_one(network, batch))


def test_killed_before_any_flush(network: Asked, folder: Path) -> None:
    taught(Teacher(network, cache=opened(folder)), batches())
    network.rows.clear()
    found = taught(Teacher(network, cache=opened(folder)), batches())
    assert sum(network.rows) == IMAGES * VIEWS
    assert_rounded(found[0], one_by_one(network, batches()[0]))


def test_killed_while_the_files_are_made(network: Asked, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        patch.setattr(logit_cache.shutil, "rmtree", lambda *_, **__: None)  # the dead do not tidy up
        with pytest.raises(Killed):
            opened(folder)
    assert not folder.exists()
    assert_rounded(taught(Teacher(network, cache=opened(folder)), batches())[0], one_by_one(network, batches()[0]))


def cut(path: Path, kept: int) -> None:
    path.write_bytes(path.read_bytes()[:kept])


DAMAGES: dict[str, Callable[[Path], object]] = {
    "logits cut short": lambda folder: cut(folder / "logits.npy", -1),
    "an empty file": lambda folder: cut(folder / "logits.npy", 0),
    "words cut short": lambda folder: cut(folder / "there.npy", 100),
    "no words": lambda folder: (folder / "there.npy").unlink(),
    "no logits": lambda folder: (folder / "logits.npy").unlink(),
    "another file": lambda folder: (folder / "logits.npy").write_bytes(b"not an array" * 1000),
    "another shape": lambda folder: np.save(folder / "logits.npy", np.zeros((VIEWS, IMAGES, 10), np.float16)),
    "another type": lambda folder: np.save(folder / "logits.npy", np.zeros((IMAGES, VIEWS, 10), np.float32)),
    "a pickle": lambda folder: np.save(folder / "there.npy", np.array([{}]), allow_pickle=True),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_broken_file_is_refused_and_what_to_do_is_said(damage: Callable[[Path], object], folder: Path) -> None:
    opened(folder)
    damage(folder)
    with pytest.raises(ValueError, match=rf"{folder}/\w+\.npy must hold (float16|bool) of shape \[5, 18") as caught:
        opened(folder)
    assert f"Delete the folder {folder}" in str(caught.value)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    opened(folder)


def test_a_cache_of_other_sizes_is_refused(folder: Path) -> None:
    opened(folder)
    for sizes in ({"images": 4}, {"views": 9}, {"classes": 7}):
        with pytest.raises(ValueError, match="must hold"):
            opened(folder, **sizes)


def test_the_size_is_said_before(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    opened(folder, images=1000, classes=500)
    assert caplog.messages == [f"teacher's logits: 18 MB in {folder}"]
    assert sum(path.stat().st_size for path in folder.iterdir()) == pytest.approx(18e6, rel=0.01)
    opened(folder, images=1000, classes=500)
    assert len(caplog.messages) == 1


def test_two_at_a_time(network: Asked, folder: Path) -> None:
    """What each has of its own is there for a third, what both have too, and nothing is lost."""
    all_of = batches()
    a, b = opened(folder), opened(folder)
    one, other = taught(Teacher(network, cache=a), all_of[:4]), taught(Teacher(network, cache=b), all_of[2:])
    a.flush()
    b.flush()
    network.rows.clear()
    for cache in (opened(folder), b):
        found = taught(Teacher(network, cache=cache), all_of)
        assert tiny.same(found, [*one, *other[2:]])
    assert network.rows == []
    assert tiny.same(taught(Teacher(network, cache=a), all_of[:4]), one)


def test_two_that_begin_at_once_share_the_files(network: Asked, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, first = os.replace, []

    def late(old: Any, new: Any) -> None:
        if not first:
            first.append(None)
            cache = opened(folder)
            first[0] = taught(Teacher(network, cache=cache), batches()[:2])
            cache.flush()
        replace(old, new)

    monkeypatch.setattr(os, "replace", late)
    cache = opened(folder)
    network.rows.clear()
    assert tiny.same(taught(Teacher(network, cache=cache), batches()[:2]), first[0])
    assert network.rows == []
    assert [path.name for path in folder.parent.iterdir()] == ["logits"], "nothing is left"


def test_a_disk_without_room_is_an_error_at_once(disk: Path) -> None:
    with pytest.raises(OSError, match=r"needs 2 MB\. Got a disk with 1 MB free: free some, or set compute.cache_teach"):
        opened(disk / "logits", images=1000, classes=60)
    assert list(disk.iterdir()) == []


def test_a_disk_that_fills_up_later_does_not_matter(disk: Path) -> None:
    """Were the space not reserved, a write to mapped memory would end the process here."""
    cache = opened(disk / "logits", images=300)
    stat = os.statvfs(disk)
    (disk / "ballast").write_bytes(b"x" * stat.f_bavail * stat.f_frsize)
    rows = torch.arange(300 * VIEWS)
    logits = torch.randn(len(rows), 10).half().float()
    for part in rows.split(1000):
        cache.put(part, logits[part])
    cache.flush()
    again = opened(disk / "logits", images=300)
    assert len(again.missing(rows)) == 0
    assert torch.equal(again.get(rows), logits)


@pytest.mark.parametrize("at", [1, 2])
def test_a_disk_that_fails_is_tried_again(
    at: int, network: Asked, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, calls = opened(folder), []

    def fsync(number: int) -> None:
        calls.append(number)
        if len(calls) in (at, at + 1):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    first = taught(Teacher(network, cache=cache), batches())
    with pytest.raises(OSError, match="Input/output error"):
        cache.flush()
    assert tiny.same(taught(Teacher(network, cache=cache), batches()), first)
    while len(calls) < at + 2:
        with contextlib.suppress(OSError):
            cache.flush()
    network.rows.clear()
    assert tiny.same(taught(Teacher(network, cache=opened(folder)), batches()), first)
    assert network.rows == []


def test_float32_is_the_network_itself(network: Asked) -> None:
    inputs = batches()[0][0]
    state = digest_model(network)
    found = Teacher(network, ["inner.layer2", "inner.pool"])(inputs)
    with torch.no_grad():
        assert torch.equal(found.logits, network.inner(inputs))
    assert {name: list(t.shape) for name, t in found.features.items()} == {
        "inner.layer2": [16, 32, 4, 4],
        "inner.pool": [16, 64],
    }
    assert digest_model(network) == state
    assert not network.inner.training
    assert not any(p.requires_grad for p in network.parameters())


def test_bf16_is_near_float32(network: Asked) -> None:
    """Within 1/64 of the largest: bfloat16 has 8 significant bits, and errors of layers add up like random ones."""
    inputs, state = batches()[0][0], copy.deepcopy(network.state_dict())
    exact, rough = (Teacher(network, ["inner.layer3"], kind)(inputs) for kind in ("float32", "bf16"))
    for a, b in ((exact.logits, rough.logits), (exact.features["inner.layer3"], rough.features["inner.layer3"])):
        assert b.dtype == torch.float32
        assert 0 < (a - b).abs().max() < a.abs().max() / 64
    assert tiny.same(dict(network.state_dict()), dict(state)), "values and types"


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_gradients_flow_from_what_it_gives(precision: str, network: Asked, folder: Path) -> None:
    inputs, indices, views = batches()[0]
    student = torch.randn(16, 10, requires_grad=True)
    direct = Teacher(network, ["inner.pool"], precision)(inputs)
    cached = Teacher(network, precision=precision, cache=opened(folder)).of(inputs, indices, views)
    assert isinstance(cached, Outputs)
    found = []
    for outputs in (direct, cached):
        assert not outputs.logits.requires_grad
        loss = kd_loss(student, outputs.logits, 4.0)
        found.append(torch.autograd.grad(loss, student)[0])
        p, q = (outputs.logits / 4).softmax(1), (student.detach() / 4).softmax(1)
        torch.testing.assert_close(found[-1], 4 * (q - p) / 16)
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-4)
    weight = torch.ones(64, requires_grad=True)
    (direct.features["inner.pool"] * weight).sum().backward()
    torch.testing.assert_close(weight.grad, direct.features["inner.pool"].sum(0))
