"""Image sets of a few images in the true formats of their files, and a server that gives them away."""

from __future__ import annotations

import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dot.data.archives import Archive
from dot.data.cifar import Cifar, Part
from dot.data.tiny_imagenet import TinyImageNet

Pixels = NDArray[np.uint8]


def noise(key: int, *shape: int) -> Pixels:
    return np.random.default_rng(key).integers(0, 256, shape, dtype=np.uint8)


def encoded(pixels: Pixels | Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """The bytes of an image file; pixels are ``[H, W, 3]``, or ``[H, W]`` for a greyscale one."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def folder(base: Path, classes: tuple[str, ...] = ("ant", "bee", "cat"), each: int = 4, edge: int = 8) -> Path:
    """An image folder with so many images of each class to train on and half of them in ``val``, all different."""
    for part, number in (("train", each), ("val", each // 2)):
        for name in classes:
            for i in range(number):
                key = int.from_bytes(hashlib.sha256(f"{part}/{name}/{i}".encode()).digest()[:4])
                put(base / part / name / f"{i:03d}.png", encoded(noise(key, edge, edge, 3)))
    return base


def pixels_of(path: Path) -> Pixels:
    """``[3, H, W]``, of a file that is RGB."""
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return np.asarray(image).transpose(2, 0, 1)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def tiny_imagenet(kind: TinyImageNet, base: Path) -> tuple[TinyImageNet, Path]:
    """The zip file of a set of three classes in a folder, and the set that expects it; JPEG, some of it greyscale."""
    wnids, files, lines = ["n03", "n01", "n02"], {}, []
    for c, wnid in enumerate(wnids):
        files[f"train/{wnid}/{wnid}_boxes.txt"] = b"x\t0\t0\t1\t1\n"
        for i in range(4):
            pixels = noise(10 * c + i, 64, 64, 3)
            image = pixels[..., 0] if i == 1 else pixels
            files[f"train/{wnid}/images/{wnid}_{i}.JPEG"] = encoded(image, "JPEG", quality=95)
    for i in range(6):
        files[f"val/images/val_{i}.JPEG"] = encoded(noise(100 + i, 64, 64, 3), "JPEG")
        lines.append(f"val_{i}.JPEG\t{wnids[i % 3]}\t0\t0\t9\t9\n")
    files["val/val_annotations.txt"] = "".join(lines).encode()
    files["wnids.txt"] = "\n".join(wnids).encode()
    files["test/images/test_0.JPEG"] = encoded(noise(1000, 64, 64, 3), "JPEG")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in files.items():
            file.writestr(f"tiny-imagenet-200/{name}", data)
    path = put(base / "tiny-imagenet-200.zip", buffer.getvalue())
    archive = Archive(kind.archive.url, path.stat().st_size, sha256(buffer.getvalue()))
    classes = None if kind.classes is None else 2
    return replace(kind, archive=archive, all_classes=3, train_each=4, test_each=2, classes=classes), path


def cifar(kind: Cifar, base: Path, records: int = 7) -> tuple[Cifar, Path, dict[str, bytes]]:
    """The archive of a set with so many records in each file, the set that expects it, and the bytes of the files."""
    files = {}
    for i, name in enumerate([*kind.train, *kind.test]):
        rows = noise(i, records, kind.label_bytes + 3072)
        rows[:, : kind.label_bytes] %= kind.num_classes
        files[name] = rows.tobytes()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in {**files, "readme.html": b"<html>"}.items():
            info = tarfile.TarInfo(f"{kind.folder}/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    path = put(base / kind.archive.url.rsplit("/", 1)[1], buffer.getvalue())
    made = replace(
        kind,
        archive=Archive(kind.archive.url, path.stat().st_size, sha256(buffer.getvalue())),
        train={name: Part(records, sha256(files[name])) for name in kind.train},
        test={name: Part(records, sha256(files[name])) for name in kind.test},
    )
    return made, path, files


@dataclass
class Server:
    """An address, and the paths that were asked for."""

    url: str
    asked: list[str] = field(default_factory=list)


@contextmanager
def server(folder: Path) -> Iterator[Server]:
    """Gives the files of a folder away at an address of this machine."""
    found = Server("")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))  # type: ignore[arg-type]

        def do_GET(self) -> None:
            found.asked.append(self.path)
            super().do_GET()

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        found.url = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield found
        finally:
            running.shutdown()
            thread.join()
