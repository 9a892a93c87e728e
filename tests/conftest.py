"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

# For this process and its children: the networks are tiny, and more threads only wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device-only", action="store_true", help="only tests that take the device fixture")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--device-only"):
        items[:] = [item for item in items if "device" in getattr(item, "fixturenames", ())]


@pytest.fixture
def device() -> Iterator[torch.device]:
    """Where public computations are tested: ``PYTEST_TORCH_DEVICE``, the CPU by default.

    A test that falls back to the CPU silently fails: it leaves the memory of the device untouched.
    """
    chosen = torch.device(os.environ.get("PYTEST_TORCH_DEVICE", "cpu"))
    if chosen.type != "cuda":
        yield chosen
        return
    torch.cuda.reset_peak_memory_stats(chosen)
    before = torch.cuda.max_memory_allocated(chosen)
    yield chosen
    assert torch.cuda.max_memory_allocated(chosen) > before, f"nothing was computed on {chosen}"


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    path = tmp_path / "disk"
    path.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", path], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a small disk must be mounted here, which needs root: {done.stderr.strip()}")
    yield path
    subprocess.run(["umount", "-l", path], check=True)
