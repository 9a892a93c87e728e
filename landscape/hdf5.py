"""What HDF5 needs from us: files that appear whole, attributes that come back as they were, arrays with named axes.

Nothing here knows what a surface is; `landscape.store` does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from landscape.files import write_whole

_JSON = ("{", "[", '"')
"""How the text of a list, a table, or a text that would look like one, begins."""


@contextmanager
def reading(path: str | Path) -> Iterator[h5py.File]:
    """Open a file to read.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is not HDF5, or is cut short.
        OSError: Another process is writing it.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"expected a file at {path}. There is none.")
    try:
        file = h5py.File(path, "r")
    except BlockingIOError as error:
        raise OSError(f"{path} is being written by another process: wait for it to end.") from error
    except OSError as error:
        raise ValueError(f"{path} must be an HDF5 file. Got one that is cut short or of another kind.") from error
    with file:
        yield file


def write_new(path: str | Path, write: Callable[[h5py.File], None]) -> None:
    """Make a file in memory and write it whole: HDF5 itself does not survive a full disk, it ends the process.

    Raises:
        OSError: The folder cannot be written or is full; a file that was there is kept.
    """
    with h5py.File(str(path), "w", driver="core", backing_store=False) as file:
        write(file)
        file.flush()
        image = file.id.get_file_image()
    write_whole(path, image)


def write_attrs(group: h5py.Group, attrs: Mapping[str, Any]) -> None:
    """Write attributes: numbers and texts as they are, lists and tables as JSON."""
    for key, value in attrs.items():
        # What could be read as JSON is written as JSON, so that every text comes back as it was.
        structured = isinstance(value, (dict, list)) or (isinstance(value, str) and value[:1] in _JSON)
        group.attrs[key] = json.dumps(value) if structured else value


def read_attrs(group: h5py.Group) -> dict[str, Any]:
    """What `write_attrs` wrote."""
    attrs = {}
    for key, value in group.attrs.items():
        value = value.item() if isinstance(value, np.generic) else value
        attrs[key] = json.loads(value) if isinstance(value, str) and value[:1] in _JSON else value
    return attrs


def check_names(terms: Iterable[str], axes: Sequence[str]) -> None:
    """Refuse a term's name that HDF5 could not hold beside its axes.

    Raises:
        ValueError: With the name.
    """
    for name in terms:
        if name in ("", ".", *axes) or "/" in name:
            raise ValueError(
                f"term {name!r} cannot be stored: a name must not be empty, '.', an axis, or hold a slash."
            )


def write_scale(group: h5py.Group, name: str, values: NDArray[Any], long_name: str, units: str) -> None:
    """Write the coordinates of an axis, for `write_labelled` to point to."""
    group[name] = values
    group[name].make_scale(name)
    group[name].attrs["long_name"], group[name].attrs["units"] = long_name, units


def write_labelled(group: h5py.Group, name: str, values: NDArray[Any], dims: Sequence[str]) -> None:
    """Write an array, contiguous and uncompressed, whose axes are scales of ``group``.

    The scales are hard-linked into the array's own group, so that xarray opens each group with its coordinates.
    """
    dataset = group.create_dataset(name, data=values)
    for axis, dim in enumerate(dims):
        dataset.dims[axis].attach_scale(group[dim])
        if dim not in dataset.parent:
            dataset.parent[dim] = group[dim]


def write_compressed(group: h5py.Group, name: str, values: NDArray[Any]) -> None:
    """Write an array that is not read often, compressed; a text as such."""
    if values.dtype.kind == "U":
        group[name] = str(values)
    else:
        packed = values.ndim > 0 and values.size > 0
        group.create_dataset(
            name, data=values, compression="gzip" if packed else None, compression_opts=1 if packed else None
        )


def read_compressed(group: h5py.Group) -> dict[str, NDArray[Any]]:
    """Every array that `write_compressed` wrote into a group and the groups in it, by its path."""
    found: dict[str, NDArray[Any]] = {}

    def take(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            text = h5py.check_string_dtype(item.dtype) is not None
            found[name] = np.array(item.asstr()[()] if text else item[()])

    group.visititems(take)
    return found


def write_tensor(group: h5py.Group, name: str, tensor: torch.Tensor) -> None:
    """Write a tensor of any device and dtype, compressed; a slash in its name, a folder to HDF5, comes back too."""
    values = tensor.detach().cpu()
    wide = values.float() if values.dtype == torch.bfloat16 else values  # HDF5 has no bfloat16
    dataset = group.create_dataset(name.replace("/", "|"), data=wide.numpy(), compression="gzip" if wide.ndim else None)
    dataset.attrs["dtype"] = str(values.dtype).removeprefix("torch.")
    if "/" in name:
        dataset.attrs["name"] = name


def read_tensors(group: h5py.Group) -> dict[str, torch.Tensor]:
    """Every tensor that `write_tensor` wrote into a group, on the CPU, in its own dtype."""
    return {
        str(dataset.attrs.get("name", name)): torch.as_tensor(dataset[()]).to(getattr(torch, dataset.attrs["dtype"]))
        for name, dataset in group.items()
    }
