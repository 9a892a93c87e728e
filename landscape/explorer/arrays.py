"""Arrays as text that a page reads back to the last bit."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def packed(values: ArrayLike) -> dict[str, Any]:
    """An array as ``{"shape", "f64"}``, of bytes ``"u8"``, in base64: ``unpacked`` of ``common.js`` reads it.

    Numbers are little-endian float64. NaN and infinities stay what they are, which JSON has no numbers for.
    """
    given = np.asarray(values)
    kind, dtype = ("u8", "u1") if given.dtype == np.uint8 else ("f64", "<f8")
    array = np.ascontiguousarray(given, dtype=dtype)
    return {"shape": list(given.shape), kind: base64.b64encode(array.tobytes()).decode("ascii")}
