"""Files of tensors that anyone may have made, read as data only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def load_tensors(path: Path, remedy: str) -> Any:
    """What ``torch.save`` wrote, on the CPU; a pickle that would run code is refused.

    Args:
        path: Of the file.
        remedy: What to do about a file that cannot be read; ends the message.

    Raises:
        ValueError: It is cut short, or no file of plain containers and tensors.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file raises anything
        raise ValueError(
            f"{path} must be a checkpoint of plain tensors. Got one that is cut short, or that would run code when "
            f"loaded, which was refused ({first_line(error)}). {remedy}"
        ) from error


def first_line(error: Exception) -> str:
    """Of what an error says; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
