"""Finished probes on the disk: appended as they come, so that a killed process loses none, then one HDF5 file."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from landscape.averages import probe
from landscape.batches import Reader
from landscape.derivatives import Derivatives
from landscape.files import claim
from landscape.hdf5 import read_attrs, reading, write_attrs, write_labelled, write_new, write_scale
from landscape.isolation import preserve_rng
from landscape.provenance import digest_model, stamp
from landscape.results import Array

SCHEMA = "dot-landscape/probes"
"""Of the HDF5 file."""

_HEAD = struct.Struct("<iI")
"""Number of the probe, and a checksum of its row."""

Arrays = Mapping[str, Array]


class Kept:
    """Rows of finished probes: those of an earlier call, and where new ones go.

    Attributes:
        rows: ``{number of the probe: row}``, of an earlier call.
    """

    def __init__(self, path: Path | None = None, identity: Mapping[str, Any] | None = None, columns: int = 0) -> None:
        self.rows: dict[int, Array] = {}
        self._path, self._identity, self._columns = path, dict(identity or {}), columns
        self._log: BinaryIO | None = None
        if path is not None:
            self.rows |= _finished(path, self._identity)
            self._log = self._opened(log_path(path))

    def add(self, number: int, row: Array) -> None:
        """Append a finished probe.

        Raises:
            OSError: The file cannot be written.
        """
        if self._log is not None:
            body = row.astype("<f8").tobytes()
            self._log.write(_HEAD.pack(number, zlib.crc32(body)) + body)
            self.rows[number] = row

    def finish(self, attrs: Mapping[str, Any], x: Array | None = None, curves: Arrays | None = None) -> None:
        """Write all probes into the HDF5 file, with what follows from them.

        Args:
            attrs: Numbers of the result, by name.
            x: Coordinates of curves, if there are any.
            curves: Arrays over ``x``, by name.

        Raises:
            OSError: The file cannot be written.
        """
        if self._path is None:
            return
        numbers = range(len(self.rows))

        def write(file: Any) -> None:
            write_attrs(file, {"schema": SCHEMA, "schema_version": 1} | self._identity | dict(attrs))
            write_scale(file, "probe", np.array(numbers), "number of the random probe", "1")
            rows = np.stack([self.rows[n] for n in numbers])
            write_scale(file, "column", np.arange(rows.shape[1]), "what is kept of a probe", "1")
            write_labelled(file, "rows", rows, ("probe", "column"))
            if x is not None:
                write_scale(file, "x", x, "eigenvalue", "1")
                for name, values in (curves or {}).items():
                    write_labelled(file, name, values, ("x",))

        write_new(self._path, write)
        self.close()
        log_path(self._path).unlink(missing_ok=True)

    def close(self) -> None:
        """Close the log."""
        if self._log is not None:
            self._log.close()
            self._log = None

    def _opened(self, path: Path) -> BinaryIO:
        head = json.dumps(self._identity).encode() + b"\n"
        try:
            file = open(path, "r+b" if path.exists() else "w+b", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise OSError(f"{path} must be a file that can be written. Got: {error}. Check its folder.") from error
        first = file.readline()
        if first.endswith(b"\n"):
            refuse_another(json.loads(first), self._identity, path)
            self.rows |= _read(file, self._columns)
        else:  # a new one, or one that was killed before its first line was whole
            file.seek(0)
            file.write(head)
        file.truncate()
        return file


def log_path(path: Path) -> Path:
    """Where the probes of a file lie until it is finished."""
    return path.with_name(f"{path.name}.probes")


@contextmanager
def keeping(out: str | os.PathLike[str] | None, identity: Mapping[str, Any] | None, columns: int) -> Iterator[Kept]:
    """What an earlier call has kept, and where new probes go; by one process at a time.

    Args:
        out: The HDF5 file; None keeps nothing.
        identity: What must be the same, see `identity_of`.
        columns: Length of a row.

    Raises:
        ValueError: There is a file of something else; what differs is named.
        OSError: The file cannot be written, or another process writes it.
    """
    if out is None:
        yield Kept()
        return
    path = Path(out)
    with claim(path):
        kept = Kept(path, identity, columns)
        try:
            yield kept
        finally:
            kept.close()
            if not kept.rows:  # what failed at once may be asked otherwise
                log_path(path).unlink(missing_ok=True)


def identity_of(out: object, derivatives: Derivatives, seed: int, **more: Any) -> dict[str, Any] | None:
    """What must be the same for a file to be of the same matrix and probes; None where nothing is kept."""
    if out is None:
        return None
    problem = derivatives.problem
    with preserve_rng(0, problem.device):
        first = probe(problem.private_copy(), problem.objective, Reader(problem.batches, problem.device))
    term = next(iter(first)) if derivatives.term is None else derivatives.term
    dtype = next(derivatives.model.parameters()).dtype
    return {
        "checkpoint_sha256": digest_model(problem.model),
        "data_sha256": problem.data_sha256(),
        "split": problem.split,
        "term": term,
        "first_batch": first.get(term, 0.0),
        "curvature": derivatives.kind,
        "parameters_sha256": hashlib.sha256("\n".join(derivatives.names).encode()).hexdigest(),
        "precision": str(dtype).removeprefix("torch."),
        "differences": derivatives.differences,
        "seed": seed,
        **more,
    }


def provenance(derivatives: Derivatives, seed: int) -> dict[str, Any]:
    """What a result says of its making."""
    named = {"curvature": derivatives.kind, "split": derivatives.problem.split, "seed": seed}
    return stamp(derivatives.problem.device) | named | ({} if derivatives.term is None else {"term": derivatives.term})


def refuse_another(found: Mapping[str, Any], identity: Mapping[str, Any], path: Path) -> None:
    """Refuse a file of another matrix or of other probes.

    Raises:
        ValueError: What differs, by name.
    """
    differing = [key for key, value in identity.items() if found.get(key) != value]
    if differing:
        raise ValueError(
            f"{path} must be of this measurement. Got a file that differs in {', '.join(differing)}. Write to another "
            "file."
        )


def _finished(path: Path, identity: Mapping[str, Any]) -> dict[int, Array]:
    if not path.exists():
        return {}
    with reading(path) as file:
        refuse_another(read_attrs(file), {"schema": SCHEMA} | dict(identity), path)
        return dict(enumerate(np.asarray(file["rows"][()])))


def _read(file: BinaryIO, columns: int) -> dict[int, Array]:
    """The whole rows of a log, which is left at their end: what a killed process has left half written is cut off."""
    found: dict[int, Array] = {}
    while True:
        end = file.tell()
        head, body = file.read(_HEAD.size), file.read(8 * columns)
        if len(body) < 8 * columns or zlib.crc32(body) != _HEAD.unpack(head)[1]:
            file.seek(end)
            return found
        found[_HEAD.unpack(head)[0]] = np.frombuffer(body, "<f8")
