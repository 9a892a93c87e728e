"""Strict JSON: a number that is not finite is null, since NaN is no JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def to_json(data: Any, indent: int | None = 2) -> str:
    """Data as JSON; what JSON does not know (a path, say) is written as text."""
    return json.dumps(_finite(data), indent=indent, allow_nan=False, default=str)


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        ValueError: It is cut short or no JSON; the file is named.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of the JSON, or of the text's encoding
        raise ValueError(f"{path} must be JSON. Got a file that is cut short or of another kind: {error}.") from error


def _finite(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {str(key): _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
