"""The one progress bar: on stderr, with the time left, only on a terminal and only for what takes over a second."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any

from tqdm import tqdm


def bar(total: int | None, label: str, unit: str = "it") -> tqdm[Any]:
    """A bar of ``total`` steps to ``update``, None where nobody knows how many.

    Silent without a terminal and on every rank but the first.
    """
    other_rank = "WORLD_SIZE" in os.environ and os.environ.get("RANK", "0") != "0"
    hidden = other_rank or not sys.stderr.isatty()
    columns = shutil.get_terminal_size().columns  # 80 on a terminal that does not know its size
    return tqdm(
        total=total, desc=label, unit=unit, file=sys.stderr, disable=hidden, delay=1, leave=False, ncols=columns
    )
