"""The script of the known cases: each cell of its table is what the minima themselves give."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

import landscape as ls
from dot import runs

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "make_flatness.py"
CONTROLS = """
name = "tiny-flatness"
study = "tiny.toml"
seeds = [0, 1, 2, 3]
baselines = ["sgd"]
changes = [
  "teacher.model=convnet4", "student.train.epochs=1", "student.train.milestones=[]", "train.batch_size=128",
  "record.every=0", "record.checkpoints=[]", "measure.images=20", "measure.directions=2", "measure.line_points=3",
]

[arms.sgd]
method = "ce"

[arms.sam]
method = "ce"
train = { sam = 0.2 }
"""


def made(folder: Path) -> Any:
    asked = [sys.executable, str(SCRIPT), str(folder / "controls.toml"), "--output", str(folder / "study")]
    asked += ["--figure", str(folder / "known"), "--splits", "5", "--images", "100"]
    done = subprocess.run([*asked, "--measures", "noise-0.1", "curvature"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "known.json").read_text())


@pytest.fixture(scope="module")
def folder() -> Path:
    path = tiny.folder()
    tiny.recipe(path)
    (path / "controls.toml").write_text(CONTROLS)
    return path


def test_the_known_cases_of_a_tiny_study(folder: Path) -> None:
    found = made(folder)
    assert found["commit"]
    assert found["machine"]
    assert [case["name"] for case in found["cases"]] == ["SAM", "rescaled", "A/A"]
    assert list(found["measures"]) == ["noise-0.1", "curvature"]
    plan = json.loads((folder / "study" / "plan.json").read_text())["runs"]
    for arm, seed in (("sgd", 0), ("sam", 3)):
        problem = runs.problem(folder / "study" / "runs" / plan[arm][str(seed)], "train", images=100)
        for measure in ls.sharpness.summary(problem, term="ce", measures=["noise-0.1", "curvature"], seed=seed):
            assert found["measures"][measure.key]["values"][arm][seed] == pytest.approx(measure.value)
    for measure in found["measures"].values():
        sgd, sam = (np.log(measure["values"][arm]) for arm in ("sgd", "sam"))
        cases = measure["cases"]
        assert cases["SAM"]["value"] == pytest.approx(np.exp(np.mean(sam - sgd)))
        assert cases["A/A"]["value"] == pytest.approx(np.exp(np.mean(sgd[2:] - sgd[:2])))
        assert (cases["rescaled"]["outcome"], cases["rescaled"]["right"]) == ("same", True)
        assert cases["rescaled"]["n"] == 4
        assert cases["A/A"]["n"] == 2
        assert measure["right"] == sum(case["right"] is True for case in cases.values())
        assert measure["false_alarms"] in (0, 0.2, 0.4, 0.6, 0.8, 1)
        assert measure["tau"]["n"] == 8
    said = (folder / "known.txt").read_text().splitlines()
    assert said[0].split("  ")[0] == "measure"
    assert "rescaled" in said[0]
    assert "same" in said[2]
    assert len(said) == 5
    assert (folder / "known-arms.txt").read_text().count("\n") == 4


def test_what_is_measured_is_measured_once(folder: Path) -> None:
    before = tiny.mtimes(folder / "study" / "flatness")
    assert sum(path.endswith(".h5") for path in before) == 12
    first = json.loads((folder / "known.json").read_text())
    assert {**made(folder), "made_at": ""} == {**first, "made_at": ""}
    assert {**before, **tiny.mtimes(folder / "study" / "flatness")} == before
