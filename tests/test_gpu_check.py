"""The check for machines with an accelerator runs on the CPU too, small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "gpu_check.py"


def test_it_runs_on_the_cpu(tmp_path: Path) -> None:
    out = tmp_path / "cpu.json"
    asked = [sys.executable, str(SCRIPT), "--device", "cpu", "--skip-tests", "-o", str(out)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert found["holds"]
    assert found["agreement"]["differences"]["surface (relative)"] == 0  # the CPU agrees with itself to the last bit
    assert found["study"]["table"][0] == ["", "CE", "KD+SGD", "KD+DOT"]


def test_a_device_that_is_not_there_is_refused() -> None:
    asked = [sys.executable, str(SCRIPT), "--device", "cuda:99"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "cuda:99 must be there" in done.stderr
