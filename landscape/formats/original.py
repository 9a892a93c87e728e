"""Surface files of the original loss-landscape tool.

Li, Xu, Taylor, Studer and Goldstein, Visualizing the Loss Landscape of Neural Nets, NeurIPS 2018, arXiv 1712.09913;
https://github.com/tomgoldstein/loss-landscape.

Such a file holds ``dir_file`` (the name of the file with the directions), ``xcoordinates``, of a plane
``ycoordinates``, and ``train_loss`` and ``train_acc`` or ``test_loss`` and ``test_acc``: the accuracy in percent, -1 in
both where a point is pending.

The tool allocates ``[nx, ny]`` for a plane, but fills it in the order of ``[ny, nx]``, which is also how it draws it:
for other than square planes the shape in the file is wrong and the order is right.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from pathlib import Path
from typing import Literal

import h5py
import numpy as np

from landscape.hdf5 import reading, write_new
from landscape.provenance import command_line, now, versions
from landscape.results import DONE, NOT_FINITE, PENDING, Array, Surface

_NOT_YET = -1.0
_SPLITS: tuple[Literal["train", "test"], ...] = ("train", "test")
_MOST_EXAMPLES = 10**7
"""Fractions of smaller denominators are further apart than the rounding of a float64."""
_NEARLY_0 = 1e-12
"""The tool's axes may miss 0 by rounding."""


def write_original(surface: Surface, path: Path, term: str) -> None:
    """Write what the original tool would have: all that its plots read, and nothing else.

    ``term`` becomes the loss, ``[ny, nx]`` or ``[nx]``. The accuracy is 100 times the term ``correct``, or 100 times
    what ``error`` leaves; without either it is NaN, since the tool's plots of lines read it unasked. A surface of the
    split ``test`` gives ``test_loss`` and ``test_acc``; any other ``train_loss`` and ``train_acc``.

    No file of directions is written, and ``dir_file`` is empty (or as it was read): the tool needs a tensor for each
    of ``net.parameters()``, in their order, and pairs them unchecked. A surface knows by name those that moved, not
    the order of all. So the tool can draw the file but must not go on with it; it also takes each loss of 0 or less
    for a pending one.

    Raises:
        ValueError: The surface is a bundle of lines.
        KeyError: The surface has no such term.
        OSError: The file cannot be written; one that was there is kept.
    """
    if surface.dims[0] == "direction":
        raise ValueError(
            f"the original tool has one line or one plane a file. Got a bundle of {len(surface.status)} lines. "
            "Export it as CSV or NPZ, or measure one direction."
        )
    pending, loss, accuracy = surface.status == PENDING, surface.values(term), _accuracy(surface)
    split = "test" if surface.attrs.get("split") == "test" else "train"

    def write(file: h5py.File) -> None:
        file["dir_file"] = str(surface.attrs.get("dir_file", ""))
        file["xcoordinates"] = surface.x
        if surface.y is not None:
            file["ycoordinates"] = surface.y
        file[f"{split}_loss"] = np.where(pending, _NOT_YET, loss)
        file[f"{split}_acc"] = np.where(pending, _NOT_YET, accuracy)

    write_new(path, write)


def read_original(path: str | Path, *, split: Literal["train", "test"] | None = None) -> Surface:
    """Read a surface file of the original tool, of a line or a plane.

    The loss becomes the term ``ce``, the accuracy the term ``correct``, a share; one that is NaN everywhere is left
    out. Written again with `export`, all values are the same to the last bit: for an accuracy as long as it is a count
    out of at most 10 million examples.

    The tool keeps no standard errors, which are NaN, no directions, and hardly where the numbers come from: of its
    attributes ``normalize`` and ``ignore`` are what the names of the files say, others ``"unknown"``.

    Args:
        path: Of the file.
        split: Which of the two, for a file that holds both.

    Returns:
        A surface to draw, save and compare; it cannot be resumed. ``origin`` is the point at 0, or NaN where the grid
        has none.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a surface file of the tool, or does not say which split is meant.
    """
    path = Path(path)
    with reading(path) as file:
        split = _split(file, path, split)
        x = _axis(file, "xcoordinates", path)
        y = _axis(file, "ycoordinates", path) if "ycoordinates" in file else None
        shape = (len(x),) if y is None else (len(y), len(x))
        loss = _cells(file, f"{split}_loss", shape, path)
        accuracy = _cells(file, f"{split}_acc", shape, path) if f"{split}_acc" in file else np.full(shape, np.nan)
        dir_file = file["dir_file"].asstr()[()] if "dir_file" in file else ""
    # Killed between its two writes, the tool leaves a loss without its accuracy: that point is measured again.
    pending = (loss == _NOT_YET) | (accuracy == _NOT_YET)
    means = {"ce": np.where(pending, np.nan, loss)}
    if pending.all() or not np.isnan(accuracy[~pending]).all():
        means["correct"] = np.where(pending, np.nan, accuracy / 100)
    finite = np.all([np.isfinite(values) for values in means.values()], axis=0)
    return Surface(
        x=x,
        y=y,
        dims=("x",) if y is None else ("y", "x"),
        means=means,
        sems={name: np.full(shape, np.nan) for name in means},
        status=np.where(pending, PENDING, np.where(finite, DONE, NOT_FINITE)).astype(np.uint8),
        origin={name: (_at_0(x, y, values), math.nan) for name, values in means.items()},
        attrs=_attrs(path, dir_file, split, "x" if y is None else "xy"),
    )


def _accuracy(surface: Surface) -> Array:
    if "correct" in surface.terms:
        return _percent(surface.values("correct"))
    if "error" in surface.terms:
        return _percent(1 - surface.values("error"))
    return np.full(surface.status.shape, np.nan)


def _percent(share: Array) -> Array:
    """``100 k / n`` as the tool rounds it, from ``k / n``: 100 times the rounded share can miss it by the last bit."""
    known, where = np.unique(share, return_inverse=True)
    return np.array([_counted(value) for value in known.tolist()])[where].reshape(share.shape)


def _counted(share: float) -> float:
    if not math.isfinite(share):
        return share
    nearest = Fraction(share).limit_denominator(_MOST_EXAMPLES)
    if math.isclose(nearest, share, rel_tol=0.0, abs_tol=2**-52):
        return 100 * nearest.numerator / nearest.denominator
    return 100 * share


def _split(file: h5py.File, path: Path, wanted: Literal["train", "test"] | None) -> Literal["train", "test"]:
    found = [name for name in _SPLITS if f"{name}_loss" in file]
    if not found or (wanted and wanted not in found):
        needed = " or ".join(f"{name}_loss" for name in ([wanted] if wanted else _SPLITS))
        raise ValueError(
            f"{path} must be a surface file of the original loss-landscape tool, with {needed}. "
            f"Got {', '.join(file) or 'nothing'}."
        )
    if len(found) > 1 and not wanted:
        raise ValueError(f"split must say which one of {path} to read. Got train and test: give one of them.")
    return wanted or found[0]


def _array(file: h5py.File, name: str, path: Path) -> Array:
    found = file.get(name)
    if not isinstance(found, h5py.Dataset) or found.dtype.kind not in "fiu":
        raise ValueError(f"{path} must have an array of numbers called {name}. Got {', '.join(file)}.")
    return np.asarray(found[()], np.float64)


def _axis(file: h5py.File, name: str, path: Path) -> Array:
    values = _array(file, name, path)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all() or not (np.diff(values) > 0).all():
        raise ValueError(f"{name} of {path} must be a list of increasing numbers. Got {values.tolist()}.")
    return values


def _cells(file: h5py.File, name: str, shape: tuple[int, ...], path: Path) -> Array:
    values = _array(file, name, path)
    if values.size != math.prod(shape):
        raise ValueError(
            f"{name} of {path} must have a value for each of {' x '.join(map(str, reversed(shape)))} points. "
            f"Got {values.size}."
        )
    return values.reshape(shape)


def _at_0(x: Array, y: Array | None, values: Array) -> float:
    at_0 = np.abs(x) < _NEARLY_0
    if y is not None:
        at_0 = np.outer(np.abs(y) < _NEARLY_0, at_0)
    return float(values[at_0][0]) if at_0.any() else math.nan


def _attrs(path: Path, dir_file: str, split: str, axes: str) -> dict[str, object]:
    names = f"{dir_file} {path.name}"
    return {
        "created_at": now(),
        "command": command_line(),
        "versions": versions(),
        "machine": "unknown",
        "seed": -1,
        "n_examples": "",
        "plan": {"threads": 0, "device": "unknown"},
        "checkpoint_sha256": "",
        "directions_sha256": "",
        "data_sha256": "",
        "normalize": _said(names, "norm", axes, ("filter", "layer")),
        "ignore": _said(names, "ignore", axes, ("biasbn",)),
        "bn_mode": "eval",
        "precision": "unknown",
        "split": split,
        "dir_file": dir_file,
        "imported_from": path.name,
    }


def _said(names: str, option: str, axes: str, known: tuple[str, ...]) -> str:
    """What file names say of an option, where every axis has the same and it means here what it means there."""
    matches = [re.search(rf"_{axis}{option}=([a-z]+)", names) for axis in axes]
    values = {match[1] if match else "" for match in matches}
    return next((value for value in known if values == {value}), "unknown")
