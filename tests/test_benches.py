"""The scripts behind docs/performance.md run, and say what they are asked; how long anything takes is not asserted."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"


def result(script: str, *options: str, out: Path) -> Any:
    asked = [sys.executable, str(SCRIPTS / script), *options, "-o", str(out)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


def test_the_bench_of_a_surface(tmp_path):
    found = result("bench_surface.py", "--quick", "--repeats", "1", out=tmp_path / "b.json")
    assert found["commit"]
    assert found["machine"]
    assert set(found["results"]) == {"ResNet-20, 1000 images", "GPT-2-like, 256 x 128 tokens", "MLP, 10,000 vectors"}
    for name, case in found["results"].items():
        assert {"plain", "fp32", "bf16"} <= set(case["ratios"])
        assert ("folded by hand" in case["ratios"]) == name.startswith("ResNet")
        assert case["errors"]["fp32"] < 1e-5
        assert case["errors"]["bf16"] < 0.1
        assert all(map(math.isfinite, case["ratios"].values()))


def test_the_bench_of_growth(tmp_path):
    found = result("bench_surface.py", "--quick", "--scale", out=tmp_path / "s.json")["results"]
    assert [len(points) for points in found.values()] == [2, 2, 1, 2]
    assert all(p["peak_mb"] > 10 for sweep in ("cells", "examples", "model") for p in found[sweep])
    assert (tmp_path / "s.png").stat().st_size > 5000


def test_the_bench_of_a_conflict(tmp_path):
    asked = ("--rounds", "1", "--batches", "1", "--case", "ResNet-20")
    (found,) = result("bench_conflict.py", *asked, out=tmp_path / "c.json")["results"]["measure"].values()
    assert found["seconds_of_a_batch"].keys() == {"plain", "measure"}
    assert all(found[name] > 0 for name in ("ratio", "ratio_of_processor_time"))


def test_the_check_of_coverage(tmp_path):
    options = ("--repeats", "12", "--problems", "digits", "near-zero")
    asked = [sys.executable, str(SCRIPTS / "check_coverage.py"), *options, "-o", str(tmp_path / "c.json")]
    subprocess.run(asked, capture_output=True, check=False)  # twelve repeats may well fail the check
    rows = json.loads((tmp_path / "c.json").read_text())["rows"]
    assert [(row["problem"], row["term"]) for row in rows] == [
        ("digits", "loss"),
        ("digits", "error"),
        ("near-zero", "loss"),
        ("near-zero", "error"),
    ]
    assert all(0.5 < row["covered"] <= 1 for row in rows if row["cells"])


def test_the_bench_of_recording(tmp_path):
    options = ("--rounds", "1", "--batches", "1", "--case", "ResNet20")
    found = result("bench_conflict.py", *options, out=tmp_path / "c.json")["results"]
    assert not found["measure"]
    (case,) = found["recording"].values()
    assert case["goal"] == 0.03
    for method in ("kd-sgd", "kd-dot"):
        assert case[method]["every"] == 50
        assert 0 < case[method]["share"] < 1


def test_the_departure_from_sgd(tmp_path):
    options = ("--recipe", "digits-quick", "--seeds", "0", "--epochs", "2")
    found = result("figure_departure.py", *options, out=tmp_path / "d.json")
    assert found["identity_holds_to"] < 1e-5
    assert all(0 < found["means"][name]["0"] < 1 for name in ("term", "departure", "explained"))
    assert (tmp_path / "d.png").stat().st_size > 5000


def test_the_bench_of_curvature(tmp_path):
    found = result("bench_hessian.py", "--small", out=tmp_path / "h.json")["results"]
    assert all(found["product"][way]["ratio"] > 0 for way in ("alone", "together"))
    ours = {row["what"]: row for row in found["tools"] if row["tool"] == "ours"}
    assert ours.keys() == {"eigenvalues", "trace", "trace, hutch++", "density"}
    assert ours["density"]["products"] == 2 * 4
    assert ours["eigenvalues"]["off"] < found["asked"]["tolerance"]
    for name in ("trace", "trace, hutch++"):
        row = ours[name]
        assert row["error"] <= found["asked"]["rel_error"] * abs(row["values"][0])
        assert row["off"] < 5 * (found["asked"]["rel_error"] + found["reference"]["errors"]["trace"])


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))


def test_tables_of_the_page_are_those_of_its_files(scripts):
    import performance_tables

    for path, text in performance_tables.tables().items():
        assert path.read_text() == text


def test_work_is_counted_as_published(scripts):
    """ResNet-20 at 32 x 32: 40.8 million multiply-adds (He et al. 2016 and its reimplementations)."""
    import bench_networks
    import torch

    count = bench_networks.flops(bench_networks.resnet20(), torch.zeros(1, 3, 32, 32))
    assert count / 2 == pytest.approx(40.8e6, rel=0.02)
