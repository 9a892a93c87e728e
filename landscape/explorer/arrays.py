"""Arrays as text that a page reads back to the last bit."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def packed(values: ArrayLike) -> dict[str, Any]:
    """An array as ``{"shape", "f64"}``: little-endian float64 in base64, which ``unpacked`` of ``common.js`` reads.

    NaN and infinities stay what they are, which JSON has no numbers for.
    """
    array = np.ascontiguousarray(values, dtype="<f8")
    return {"shape": list(array.shape), "f64": base64.b64encode(array.tobytes()).decode("ascii")}
