"""Fixtures shared by all tests."""

from __future__ import annotations

import os

import pytest
import torch


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Where public computations are tested: ``PYTEST_TORCH_DEVICE``, the CPU by default; no silent fall-back."""
    chosen = torch.device(os.environ.get("PYTEST_TORCH_DEVICE", "cpu"))
    torch.zeros(1, device=chosen)
    return chosen


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
