"""Studies with controls: arms are what they say, runs are made once, and numbers are those taken by hand."""

from __future__ import annotations

import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from tiny import CPU

from dot import data as image_sets
from dot import models, runs
from dot.cli import info, main, validate
from dot.config import ConfigError
from dot.controls import budget, measuring, page, results, running
from dot.controls.config import Plan, load_plan, names
from dot.controls.measuring import MEASURES
from dot.data.drawing import drawn
from landscape import store
from landscape.files import claim

CONTROLS = """
name = "tiny-controls"
study = "tiny.toml"
seeds = [0, 1]
baselines = ["sgd"]
reach = 2.25

[arms.sgd]
method = "kd-sgd"

[arms.dot]
method = "kd-dot"
about = "the method in question"

[arms.weights]
method = "kd-sgd"
losses = { w_kd = 3.6 }

[factors.delta]
of = "dot"
vary = "train.delta"
values = [0.0, -0.05]
"""


def recipe(folder: Path, text: str = CONTROLS) -> str:
    tiny.recipe(folder, tiny.RECIPE.replace("images = 64\n", ""))
    (folder / "controls.toml").write_text(text)
    return str(folder / "controls.toml")


def faults_of(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_plan(recipe(folder, text))
    return str(caught.value)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    """The tiny controls, run once; not to be written to."""
    folder = tmp_path_factory.mktemp("controls")
    plan = load_plan(recipe(folder))
    running.run(plan, folder / "study", CPU)
    return plan, folder / "study"


# Arms


def test_arms_share_all_but_what_is_said_of_them(tmp_path: Path) -> None:
    plan = load_plan(recipe(tmp_path))
    assert list(plan.arms) == ["sgd", "dot", "weights", "delta=0", "delta=-0.05"]
    assert [(job.arm, job.seed) for job in plan.jobs[:6]] == [*((arm, 0) for arm in plan.arms), ("sgd", 1)]
    by_arm = {job.arm: asdict(job.run) for job in plan.jobs if job.seed == 0}
    plain = by_arm["sgd"]
    for arm, changed in {
        "weights": {("losses", "w_kd"): 3.6},
        "dot": {("method",): "kd-dot", ("train", "delta"): 0.075},
        "delta=-0.05": {("method",): "kd-dot", ("train", "delta"): -0.05},
    }.items():
        for (*tables, key), value in changed.items():
            table = by_arm[arm]
            for name in tables:
                table = table[name]
            assert table[key] == value
            table[key] = plain[tables[0]][key] if tables else plain[key]
        assert by_arm[arm] == plain


def gains(run: Any) -> tuple[float, float, float]:
    """How far constant gradients of 1 of both losses, and weights of 1, move the weights: by simulation."""
    use, m = run.train, run.train.momentum
    momenta = (m - use.delta, m + use.delta, m - use.delta)
    moved = []
    for momentum, force in zip(momenta, (run.losses.w_ce, run.losses.w_kd, use.weight_decay), strict=True):
        v = 0.0
        for _ in range(5000):
            v = momentum * v + force
        moved.append(use.lr * v)
    return tuple(moved)


@pytest.mark.parametrize("shipped", ["digits-controls", "cifar10-small-controls"])
def test_the_matched_arms_have_the_gains_that_they_are_to_match(shipped: str) -> None:
    """FACTS of the method: at momentum 0.9 and delta 0.075 a constant gradient moves 5.71 and 40 lr, not 10 lr."""
    plan = load_plan(shipped)
    run = {job.arm: job.run for job in plan.jobs if job.seed == 0}
    sgd, led = gains(run["kd-sgd"]), gains(run["kd-dot"])
    assert [b / a for a, b in zip(sgd, led, strict=True)] == pytest.approx([4 / 7, 4.0, 4 / 7], rel=1e-6)
    assert gains(run["loss-weights-and-decay"]) == pytest.approx(led, rel=1e-6)
    assert gains(run["inverse"]) == pytest.approx(sgd, rel=1e-6)
    assert gains(run["larger-step"])[1] == pytest.approx(led[1], rel=1e-6)
    if "exchanged" in run:
        assert gains(run["loss-weights"])[:2] == pytest.approx(led[:2], rel=1e-6)
        assert gains(run["less-decay"])[2] == pytest.approx(led[2], rel=1e-6)
        assert [b / a for a, b in zip(sgd, gains(run["exchanged"]), strict=True)] == pytest.approx([4.0, 4 / 7, 4.0])


@pytest.mark.parametrize("shipped", names())
def test_shipped_controls_are_whole(shipped: str) -> None:
    plan = load_plan(shipped)
    assert len(plan.jobs) == len(plan.arms) * len(plan.study.seeds)
    assert {job.run.teacher for job in plan.jobs} == {plan.study.teacher_run().name}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("w_kd = 3.6", "w_dk = 3.6", r"arms.weights.losses.w_dk is not known. Did you mean w_kd?"),
        ('vary = "train.delta"', 'vary = "train.detla"', "arms.delta=0.train.detla is not known. Did you mean delta?"),
        ('vary = "train.delta"', 'vary = "student.delta"', "factors.delta.vary must be train.<key> or losses.<key>."),
        ("values = [0.0, -0.05]", "values = [0.0, 0.1]", "arms.delta=0.1.train.delta must be at most momentum in size"),
        ('of = "dot"', 'of = "dto"', "factors.delta.of must name an arm. Got 'dto'. Did you mean dot?"),
        ('baselines = ["sgd"]', 'baselines = ["sdg"]', "baselines must name arms. Got 'sdg'. Did you mean sgd?"),
        ('baselines = ["sgd"]', "baselines = []", "baselines must name at least one arm. Got none."),
        ('method = "kd-sgd"\n\n', 'method = "kd-sgd"\ntrain.delta = 0.1\n\n', "delta is read by kd-dot alone."),
        ('method = "kd-dot"', 'method = "kd-dot"\ntrain.sam = 0.1', "arms.dot.train.sam must be 0 with kd-dot"),
        ('method = "kd-sgd"\nlosses', 'method = "kd-sdg"\nlosses', "Did you mean kd-sgd?"),
        ("[0.0, -0.05]", '["a"]', "factors.delta.values[0] must be a number. Got 'a'."),
        ("seeds = [0, 1]", "seeds = [0, 0]", "seeds must be at least one, each once."),
        ("[0.0, -0.05]", "[0.05, 0.05000001]", "factors.delta.values must be at least one, different to six digits."),
        ("[0.0, -0.05]", "[]", "factors.delta.values must be at least one"),
        ('method = "kd-sgd"\nlosses', 'method = "ce"\nlosses', "arms.weights.losses are not read by ce"),
    ],
)
def test_a_fault_of_an_arm_is_named_before_anything_starts(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in CONTROLS
    assert said in faults_of(tmp_path, CONTROLS.replace(old, new, 1))


def test_one_arm_alone_is_refused(tmp_path: Path) -> None:
    text = CONTROLS.split("[arms.dot]")[0]
    assert "arms must be at least two, to be compared. Got ['sgd']." in faults_of(tmp_path, text)


@pytest.mark.parametrize("change", ["student.train.lr=0.1", "train.weight_decay=0", "losses.w_kd=0.5"])
def test_what_arms_are_matched_to_is_not_changed_from_outside(tmp_path: Path, change: str) -> None:
    controls = recipe(tmp_path)
    with pytest.raises(ConfigError, match="must stay as it is: arms are matched to it"):
        load_plan(controls, [change])
    assert load_plan(controls, ["teacher.train.lr=0.1", "student.train.epochs=3"])
    free = CONTROLS.replace("losses = { w_kd = 3.6 }", "losses = { temperature = 2.0 }")
    assert load_plan(recipe(tmp_path, free), [change])


def test_all_faults_at_once(tmp_path: Path) -> None:
    text = CONTROLS.replace("w_kd = 3.6", "w_kd = -1").replace("-0.05]", "0.5]")
    found = faults_of(tmp_path, text)
    assert "has 2 faults" in found
    assert "arms.weights.losses.w_kd" in found
    assert "arms.delta=0.5.train.delta" in found


def test_unknown_controls(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"Got 'digit-controls'\. Did you mean digits-controls\?"):
        load_plan("digit-controls")


def test_info_and_validate_know_controls(finished: tuple[Plan, Path], tmp_path: Path) -> None:
    path = Path(recipe(tmp_path))
    found = info.describe(path)
    assert (found["kind"], found["runs"], found["arms"][:2]) == ("controls", 10, ["sgd", "dot"])
    assert info.describe(finished[1])["measured"] == "10 of 10 runs"
    assert validate.run(validate.Options((path, finished[1]))).ok
    path.write_text(CONTROLS.replace("w_kd", "w_dk"))
    assert "Did you mean w_kd?" in validate.run(validate.Options((path,))).text


# Runs


def test_numbers_equal_those_taken_by_hand(finished: tuple[Plan, Path]) -> None:
    plan, folder = finished
    for job in plan.jobs:
        found = running.numbers(folder, job.run.name)
        assert list(found) == list(MEASURES)
        run = runs.open_run(folder / "runs" / job.run.name)
        data = image_sets.load("digits", CPU)
        student, teacher = run.network(data, CPU), runs.open_run(folder / "runs" / job.run.teacher).network(data, CPU)
        for name, split in (("train", data.train), ("test", data.test)):
            with torch.no_grad():
                guess, truth = student(tiny.normalised(split.images)), teacher(tiny.normalised(split.images))
            labels = split.labels
            assert found[f"ce_{name}"] == pytest.approx(float(tiny.each_ce(guess, labels).mean()), rel=1e-4)
            assert found[f"kd_{name}"] == pytest.approx(float(tiny.each_kd(guess, truth, 4.0).mean()), rel=1e-4)
            assert found[f"kl_{name}"] == pytest.approx(float(tiny.each_kd(guess, truth, 1.0).mean()), rel=1e-4)
            same = sum(int(g.argmax()) == int(t.argmax()) for g, t in zip(guess, truth, strict=True))
            assert found[f"agreement_{name}"] == pytest.approx(100 * same / len(labels))
            if name == "test":
                right = sum(int(g.argmax()) == int(label) for g, label in zip(guess, labels, strict=True))
                assert found["accuracy"] == pytest.approx(100 * right / len(labels))
        tests = [line["test"] for line in tiny.metrics(run.path)]
        assert found["accuracy_best"] == pytest.approx(max(100 * test["accuracy"] for test in tests))
        reached = [i for i, test in enumerate(tests, 1) if test["ce"] <= 2.25]
        assert found["epochs"] == (min(reached) if reached else None)
        conflict = store.load_conflict(run.conflict)
        assert found["cosine"] == pytest.approx(np.mean(conflict.cosine))
        assert found["negative"] == pytest.approx(np.mean(conflict.cosine < 0))
        assert found["cosine_test"] == pytest.approx(cosine_by_hand(student, teacher, data.test), abs=1e-4)
        lines = store.load_surface(folder / "measured" / f"{job.run.name}.h5")
        ends = [max(values[0], values[-1]) - lines.origin["ce"][0] for values in lines.values("ce")]
        if min(ends) < 1.0:
            assert found["width_1"] is None, "a line that ended before the rise has no width"
        shares = (conflict.inconsistent["kd"] / conflict.norm["kd"]) ** 2
        assert found["inconsistent_kd"] == pytest.approx(np.mean(shares))


def cosine_by_hand(student: Any, teacher: Any, split: Any) -> float:
    """Of the gradients of both mean losses over all the images of a split."""
    inputs = tiny.normalised(split.images)
    logits = student.eval()(inputs)
    with torch.no_grad():
        truth = teacher(inputs)
    ce, kd = tiny.each_ce(logits, split.labels).mean(), tiny.each_kd(logits, truth, 4.0).mean()
    a, b = (
        torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(student.parameters()), retain_graph=True)])
        for loss in (ce, kd)
    )
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))


def test_dot_without_delta_and_sgd_record_the_same(finished: tuple[Plan, Path]) -> None:
    plan, folder = finished
    of = {job.arm: folder / "runs" / job.run.name / "conflict.h5" for job in plan.jobs if job.seed == 0}
    one, other = store.load_conflict(of["sgd"]), store.load_conflict(of["delta=0"])
    np.testing.assert_array_equal(one.step, other.step)
    np.testing.assert_allclose(one.cosine, other.cosine, atol=1e-3)
    for term in ("ce", "kd"):
        np.testing.assert_allclose(one.norm[term], other.norm[term], rtol=1e-3)
    led = store.load_conflict(of["dot"])
    assert np.abs(one.cosine - led.cosine).max() > 0.01, "delta changes the way"


def test_a_finished_study_trains_and_measures_nothing(finished: tuple[Plan, Path]) -> None:
    plan, folder = finished
    before = tiny.mtimes(folder / "runs") | tiny.mtimes(folder / "measured")
    running.run(plan, folder, CPU)
    assert tiny.mtimes(folder / "runs") | tiny.mtimes(folder / "measured") == before


def test_a_study_may_grow_and_what_it_had_must_stay(finished: tuple[Plan, Path], tmp_path: Path) -> None:
    folder = tmp_path / "study"
    shutil.copytree(finished[1], folder)
    before = tiny.mtimes(folder / "runs")
    grown = CONTROLS.replace("values = [0.0, -0.05]", "values = [0.0, -0.05, 0.05]").replace("[0, 1]", "[0, 1, 2]")
    plan = load_plan(recipe(tmp_path, grown))
    assert len(running.unmeasured(plan, folder)) == 8, "an arm with two seeds and a third seed of six"
    running.run(plan, folder, CPU)
    files = {path: time for path, time in before.items() if Path(path).is_file()}
    assert files.items() <= tiny.mtimes(folder / "runs").items(), "no run was made again"
    assert not running.unmeasured(plan, folder)
    for text, said in (
        (grown.replace("w_kd = 3.6", "w_kd = 3.5"), "Got arm 'weights' with seed 0 as run"),
        (grown.replace("[0, 1, 2]", "[0, 1]"), "and none here: a study that has begun may get more arms and seeds"),
        (grown.replace("reach = 2.25", "reach = 2.0"), "must be measured as it began. Got other values of reach."),
    ):
        with pytest.raises(ValueError, match=re.escape(said)):
            running.run(load_plan(recipe(tmp_path, text)), folder, CPU)
    plan = load_plan(recipe(tmp_path, grown), ["measure.directions=4"])
    with pytest.raises(ValueError, match="Got other values of directions"):
        running.run(plan, folder, CPU)


def without_runs(finished: tuple[Plan, Path], folder: Path) -> Plan:
    """The teacher alone."""
    plan, whole = finished
    teacher = plan.study.teacher_run().name
    shutil.copytree(whole / "runs" / teacher, folder / "runs" / teacher)
    return plan


def test_two_processes_share_a_folder(finished: tuple[Plan, Path], tmp_path: Path) -> None:
    plan = finished[0]
    command = [sys.executable, "-m", "dot", "study", recipe(tmp_path), "-o", str(tmp_path / "study")]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    done = [line for text in said for line in text.splitlines() if line.startswith("[")]
    assert len(done) == len(plan.runs), "each run once"
    assert all(running.numbers(tmp_path / "study", name) == running.numbers(finished[1], name) for name in plan.runs)


def test_a_run_that_another_process_is_at_is_waited_for(
    finished: tuple[Plan, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = without_runs(finished, tmp_path)
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with claim(tmp_path / "runs" / plan.jobs[0].run.name):
            held.set()
            release.wait(120)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    watch = threading.Thread(target=lambda: (wait_until(lambda: "waiting for them" in caplog.text), release.set()))
    watch.start()
    with caplog.at_level("INFO", logger="dot"):
        running.run(plan, tmp_path, CPU)
    thread.join()
    assert caplog.text.count("other processes are at the 1 runs that are left: waiting for them") == 1
    assert not running.unmeasured(plan, tmp_path)


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 100
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)


def test_a_worker_that_is_killed_is_told_of(
    finished: tuple[Plan, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = without_runs(finished, tmp_path)
    monkeypatch.setattr(running, "_worker", die)
    with pytest.raises(RuntimeError, match=r"a worker must live to its end.*run the same command again, with fewer"):
        running.run(plan, tmp_path, CPU, workers=2)


def die(*arguments: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_workers_end_with_the_process_that_began_them(finished: tuple[Plan, Path], tmp_path: Path) -> None:
    plan = without_runs(finished, tmp_path)
    running._work(plan, tmp_path, CPU, stop=lambda: True)
    assert len(running.unmeasured(plan, tmp_path)) == len(plan.runs)


def test_several_workers_find_the_same(finished: tuple[Plan, Path], tmp_path: Path) -> None:
    plan, folder = finished
    (tmp_path / "runs").mkdir()
    shutil.copytree(folder / "runs" / plan.study.teacher_run().name, tmp_path / "runs" / plan.study.teacher_run().name)
    running.run(plan, tmp_path, CPU, workers=2)
    for name in plan.runs:
        assert running.numbers(tmp_path, name) == running.numbers(folder, name)
        assert tiny.differences(tmp_path / "runs" / name, folder / "runs" / name) == []


def test_a_worker_that_fails_is_named(finished: tuple[Plan, Path], tmp_path: Path) -> None:
    plan, folder = finished
    teacher = plan.study.teacher_run().name
    shutil.copytree(folder / "runs" / teacher, tmp_path / "runs" / teacher)
    for name in plan.runs:
        broken = tmp_path / "runs" / name
        broken.mkdir()
        (broken / "config.toml").write_text("method = 1")
    with pytest.raises(RuntimeError, match=r"ConfigError: .*config.toml has"):
        running.run(plan, tmp_path, CPU, workers=2)
    with pytest.raises(ValueError, match=r"workers must be at least 1\. Got 0"):
        running.run(plan, tmp_path, CPU, workers=0)


def test_an_arm_that_diverges_is_a_result(finished: tuple[Plan, Path], tmp_path: Path) -> None:
    folder = tmp_path / "study"
    shutil.copytree(finished[1], folder)
    text = CONTROLS.replace("[factors", '[arms.huge]\nmethod = "kd-sgd"\ntrain = { lr = 1e6 }\n\n[factors')
    plan = load_plan(recipe(tmp_path, text))
    running.run(plan, folder, CPU)
    found = results.gather(plan, folder, CPU)
    assert found.diverged == {"huge": [0, 1]}
    assert all(math.isnan(value) for value in found.numbers["accuracy"]["huge"].values())
    assert found.comparisons("sgd", "accuracy")["huge"].verdict == "too few pairs"
    row = next(row for row in results.means(found) if row[0] == "huge")
    assert row[1] == "undefined"
    assert row[-1] == "2 (2 diverged)"
    assert next(row for row in results.differences(found, "sgd") if row[0] == "huge")[1] == "no pairs"
    assert "loss must be finite" in running.numbers(folder, plan.jobs[3].run.name)["diverged"]
    page.draw(found, tmp_path)


def test_killed_again_and_again_no_run_is_repeated_and_none_lost(finished: tuple[Plan, Path], tmp_path: Path) -> None:
    plan, whole = finished
    controls, folder = recipe(tmp_path), tmp_path / "study"
    command = [sys.executable, "-m", "dot", "study", controls, "-o", str(folder), "--workers", "2", "--device", "cpu"]
    moments, seen = random.Random(6), {}
    for _ in range(3):
        left, deadline = len(running.unmeasured(plan, folder)), time.monotonic() + 120
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
        while len(running.unmeasured(plan, folder)) == left and process.poll() is None:
            assert time.monotonic() < deadline, "it does not get on"
            time.sleep(0.01)
        time.sleep(moments.random() * 0.5)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        weights = {path: path.stat().st_mtime_ns for path in folder.rglob("model.safetensors")}
        assert seen.items() <= weights.items(), "a finished run stays as it is"
        assert len(running.unmeasured(plan, folder)) < left, "and each time some more are measured"
        seen = weights
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    for name in plan.runs:
        assert running.numbers(folder, name) == running.numbers(whole, name)
        epochs = [line["epoch"] for line in tiny.metrics(folder / "runs" / name)]
        assert epochs == [1, 2]
    assert {p.name for p in (folder / "runs").iterdir() if p.is_dir()} == {*plan.runs, plan.study.teacher_run().name}


# Results


def test_results_say_what_was_compared(finished: tuple[Plan, Path]) -> None:
    plan, folder = finished
    found = results.gather(plan, folder, CPU)
    raw = json.loads(found.to_json())
    assert set(raw["comparisons"]) == {"sgd"}
    assert set(raw["comparisons"]["sgd"]) == set(raw["measures"]) == set(MEASURES)
    for measure, arms in raw["comparisons"]["sgd"].items():
        for arm, compared in arms.items():
            ours, theirs = ([raw["numbers"][measure][name][seed] for seed in ("0", "1")] for name in (arm, "sgd"))
            if None not in ours + theirs:
                assert compared["mean"] == pytest.approx(np.mean(np.subtract(ours, theirs)), abs=1e-12)
                assert compared["n"] == 2
            assert compared["verdict"] in ("higher", "lower", "no difference found", "too few pairs")
    heading, *rows = results.means(found, ["accuracy"])
    assert heading == ["", "accuracy (%)", "n"]
    first = [raw["numbers"]["accuracy"]["sgd"][seed] for seed in ("0", "1")]
    assert rows[0] == ["sgd", f"{np.mean(first):.2f} ± {np.std(first, ddof=1):.2f}", "2"]
    assert [row[0] for row in results.differences(found, "sgd")] == ["minus sgd", *list(plan.arms)[1:]]


def test_the_page_and_its_figures(finished: tuple[Plan, Path], tmp_path: Path) -> None:
    plan, folder = finished
    found = results.gather(plan, folder, CPU)
    page.draw(found, tmp_path)
    html = (tmp_path / "controls.html").read_text()
    assert "the method in question" in html
    assert "5 arms, 2 seeds each" in html
    assert (tmp_path / "figures" / "against-sgd.png").stat().st_size > 5000
    drawn = page.figure(found, "sgd")
    compared = found.comparisons("sgd", "accuracy")
    centres = [line.get_xdata()[0] for line in drawn.axes[0].get_lines()[1:] if line.get_marker() == "o"]
    assert centres == [c.mean for c in compared.values()]
    assert [label.get_text() for label in drawn.axes[0].get_yticklabels()] == list(compared)


def test_a_dry_run_says_what_would_run_and_trains_nothing(tmp_path: Path) -> None:
    plan, folder = load_plan(recipe(tmp_path)), tmp_path / "study"
    heading, *rows = budget.table(plan, folder)
    assert [row[heading.index("done")] for row in rows] == ["0/2"] * 5
    assert rows[2][2] == "losses.w_kd=3.6"
    assert 0 < budget.seconds(plan, folder, CPU) < 600
    assert not folder.exists()


def test_how_long_is_told_from_the_runs_that_are_there(finished: tuple[Plan, Path], tmp_path: Path) -> None:
    plan, folder = finished
    more = replace(plan, jobs=load_plan(recipe(tmp_path), ["seeds=[0, 1, 2]"]).jobs)
    took: dict[str, float] = {}
    for job in plan.jobs:
        lines = (folder / "runs" / job.run.name / "metrics.jsonl").read_text().splitlines()
        took.setdefault(job.run.method, sum(json.loads(line)["seconds"] for line in lines))
    assert budget.seconds(more, folder, CPU) == pytest.approx(2 * took["kd-sgd"] + 3 * took["kd-dot"])
    assert budget.seconds(plan, folder, CPU) == 0


def test_measuring_reads_as_many_training_images_as_the_study_says(finished: tuple[Plan, Path], tmp_path: Path) -> None:
    plan, folder = finished
    study = replace(plan.study, measure=replace(plan.study.measure, images=100))
    run = runs.open_run(folder / "runs" / plan.jobs[0].run.name)
    found = measuring.measure(run, study, 2.25, CPU, tmp_path / "lines.h5")
    data = image_sets.load("digits", CPU)
    chosen = drawn(len(data.train), 100, 0)
    assert len(set(chosen.tolist())) == 100
    with torch.no_grad():
        guess = run.network(data, CPU)(tiny.normalised(data.train.images[chosen]))
    wanted = float(tiny.each_ce(guess, data.train.labels[chosen]).mean())
    assert found["ce_train"] == pytest.approx(wanted, rel=1e-4)


def test_a_number_that_some_seeds_lack_says_so(finished: tuple[Plan, Path]) -> None:
    found = results.gather(*finished, CPU)
    found.numbers["curvature"]["dot"][1] = math.nan
    row = results.means(found, ["accuracy", "curvature"])[2]
    assert row[0] == "dot"
    assert row[1].count("of") == 0
    assert row[2].endswith(" (1 of 2)")
    row = results.differences(found, "sgd", ["accuracy", "curvature"])[1]
    assert row[2].endswith(" (1 of 2)")


# The verb


def test_the_verb_says_what_would_run_and_refuses_what_cannot(
    finished: tuple[Plan, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    controls = recipe(tmp_path)
    assert main(["study", controls, "-o", str(tmp_path / "new"), "--dry-run", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["arms"] == ["sgd", "dot", "weights", "delta=0", "delta=-0.05"]
    assert len(said["runs"]) == 10
    assert not (tmp_path / "new").exists()
    shutil.copytree(finished[1], tmp_path / "done")
    assert main(["study", controls, "-o", str(tmp_path / "done")]) == 0
    text = capsys.readouterr().out
    assert "minus sgd" in text
    assert (tmp_path / "done" / "controls.json").exists()
    for options, said in (
        (["--set", "seeds=[0, 0]"], "seeds must be at least one, each once"),
        (["--set", "student.train.momentum=0.99"], "student.train.delta must be at most momentum in size"),
        (["--teacher", "none.pth"], "--teacher must be a checkpoint. There is none at none.pth."),
    ):
        assert main(["study", controls, "-o", str(tmp_path / "done"), *options]) == 1
        errors = capsys.readouterr().err
        assert said in errors
        assert "Traceback" not in errors
    assert main(["study", controls, "-o", str(tmp_path / "new"), "--workers", "0"]) == 2
    assert "--workers must be at least 1. Got 0." in capsys.readouterr().err


def test_the_teacher_may_come_from_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = models.build("resnet8", in_channels=1, num_classes=10)
    torch.save({"model": net.state_dict()}, tmp_path / "given.pth")
    controls = recipe(tmp_path, CONTROLS.split("[factors")[0])
    options = ["--set", "seeds=[0]", "--set", "student.train.epochs=1", "--set", "student.train.milestones=[]"]
    given = ["--teacher", str(tmp_path / "given.pth")]
    assert main(["study", controls, "-o", str(tmp_path / "study"), *options, *given]) == 0, capsys.readouterr().err
    (teacher,) = (tmp_path / "study" / "runs").glob("ce-resnet8-*")
    data = image_sets.load("digits", CPU)
    found = runs.open_run(teacher).network(data, CPU)
    assert all(torch.equal(p, q) for p, q in zip(found.parameters(), net.parameters(), strict=True))
