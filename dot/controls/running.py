"""Trains and measures what is left of a plan, in as many processes as asked for; what is finished is never repeated.

<folder>/
    plan.json        which run is which arm's, for each seed, and how they are measured
    runs/            run folders, see `dot.runs`; shared with `reproduce` in the same folder
    measured/        <run>.json, the numbers of a run, and <run>.h5, the lines that its flatness is read from
    controls.json    the comparisons; written last

Processes share the work through lock files: one takes a run that nobody has, so that further ones may be started on
the same folder, on other machines too.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing

from dot import runs
from dot.config import RunConfig
from dot.controls import measuring
from dot.controls.config import Plan
from dot.plain import read_json, to_json
from dot.trainer import Diverged
from dot.world import ALONE
from landscape.files import Taken, claim, write_whole

log = logging.getLogger(__name__)

_LOOK_AGAIN = 1.0
"""Seconds between two looks at runs that other processes are at."""


def run(plan: Plan, folder: Path, device: torch.device, workers: int = 1, checkpoint: Path | None = None) -> None:
    """Train the teacher and everything that is not measured yet.

    Args:
        plan: What to do.
        folder: Of the study.
        device: To train and measure on.
        workers: Processes, at least 1, each with a run at a time.
        checkpoint: The teacher's weights, where the study says that it takes them from one.

    Raises:
        ValueError: The folder holds a study in which an arm was another run, or that was measured otherwise; see
            `dot.runs.train` too.
        OSError: The folder cannot be written.
        KeyboardInterrupt: It was asked to stop, and has saved where it was.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1. Got {workers}.")
    _claim(plan, folder)
    _waiting("the teacher", lambda: runs.teach(plan.study, folder / "runs", device, checkpoint, ALONE))
    workers = min(workers, len(unmeasured(plan, folder)))
    if workers > 1:
        _share(plan, folder, device, workers)
    elif workers:
        _work(plan, folder, device)


def unmeasured(plan: Plan, folder: Path) -> dict[str, RunConfig]:
    """The runs that are still to be trained or measured, by name."""
    return {name: config for name, config in plan.runs.items() if not measured_at(folder, name).exists()}


def measured_at(folder: Path, run: str) -> Path:
    """Where the numbers of a run are."""
    return folder / "measured" / f"{run}.json"


def numbers(folder: Path, run: str) -> dict[str, Any]:
    """The numbers of a measured run; or ``{"diverged": why}``.

    Raises:
        FileNotFoundError: It is not measured yet.
        ValueError: The file is cut short.
    """
    found: dict[str, Any] = read_json(measured_at(folder, run))
    return found


def _claim(plan: Plan, folder: Path) -> None:
    """Keep which run is whose and how runs are measured; a study that has begun may grow, what it had must stay."""
    try:
        (folder / "measured").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{folder} cannot be made: {error.strerror}. Give another folder with -o.") from error
    path, now = folder / "plan.json", {"measured_with": _measured_with(plan), "runs": _whose(plan)}

    def keep() -> None:
        with claim(path):
            if path.exists():
                _check_grown(folder, read_json(path), now)
            write_whole(path, (to_json(now) + "\n").encode())

    _waiting("the plan", keep)


def _check_grown(folder: Path, begun: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse a study in which something that was there has changed."""
    changed = [key for key, value in begun["measured_with"].items() if now["measured_with"].get(key) != value]
    if changed:
        raise ValueError(
            f"{folder} must be measured as it began. Got other values of {', '.join(changed)}. Give another folder "
            "with -o."
        )
    for arm, of_seed in begun["runs"].items():
        for seed, name in of_seed.items():
            found = now["runs"].get(arm, {}).get(seed)
            if found != name:
                came = f"run {found}" if found else "none"
                raise ValueError(
                    f"{folder} must hold these controls. Got arm {arm!r} with seed {seed} as run {name} there and "
                    f"{came} here: a study that has begun may get more arms and seeds, but the arms that it has must "
                    "stay. Give another folder with -o."
                )


def _measured_with(plan: Plan) -> dict[str, Any]:
    """What the numbers of a run depend on besides the run, as JSON gives it back."""
    lines = {key: value for key, value in asdict(plan.study.measure).items() if key != "flatness"}
    return lines | {"reach": plan.controls.reach, "temperature": plan.study.losses.temperature}


def _whose(plan: Plan) -> dict[str, dict[str, str]]:
    """Name of the run of each arm and seed."""
    found: dict[str, dict[str, str]] = {}
    for job in plan.jobs:
        found.setdefault(job.arm, {})[str(job.seed)] = job.run.name
    return found


def _share(plan: Plan, folder: Path, device: torch.device, workers: int) -> None:
    """Do the work in several processes; where one fails, all end."""
    arguments = (os.getpid(), plan, folder, device, workers)
    try:
        torch.multiprocessing.start_processes(_worker, arguments, workers, start_method="spawn")
    except torch.multiprocessing.ProcessRaisedException as error:
        raise RuntimeError(str(error).strip().splitlines()[-1]) from error  # what it was, after its traceback
    except torch.multiprocessing.ProcessExitedException as error:
        raise RuntimeError(
            f"a worker must live to its end. Got one that was killed ({error}): is there too little memory? What was "
            "finished is kept: run the same command again, with fewer --workers."
        ) from error


def _worker(number: int, parent: int, plan: Plan, folder: Path, device: torch.device, workers: int) -> None:
    """The body of one of several processes; it ends with its parent, however that ends."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("dot").setLevel(logging.INFO)
    os.environ["TQDM_DISABLE"] = "1"  # bars of several processes would write over each other
    if not plan.study.compute.threads:
        torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    with suppress(KeyboardInterrupt):  # the first process says so
        _work(plan, folder, device, lambda: os.getppid() != parent)


def _work(plan: Plan, folder: Path, device: torch.device, stop: Callable[[], bool] = lambda: False) -> None:
    """Do runs that nobody is at until all are done."""
    arms, said = _arms(plan), False
    while left := unmeasured(plan, folder):
        busy = 0
        for name in left:
            if stop():
                return
            try:
                _do(plan, left[name], folder, device, arms[name])
            except Taken:
                busy += 1
        if busy == len(left):
            if not said:
                log.info("other processes are at the %d runs that are left: waiting for them", busy)
            said = True
            time.sleep(_LOOK_AGAIN)


def _waiting(what: str, work: Callable[[], Any]) -> None:
    """Do something that another process may be at, once that has ended."""
    said = False
    while True:
        try:
            work()
            return
        except Taken:
            if not said:
                log.info("another process is at %s: waiting for it", what)
            said = True
            time.sleep(_LOOK_AGAIN)


def _do(plan: Plan, config: RunConfig, folder: Path, device: torch.device, label: str) -> None:
    """Train and measure a run.

    Raises:
        Taken: Another process is at it.
    """
    path = measured_at(folder, config.name)
    with claim(path):
        if path.exists():
            return  # done since the list was made
        started = time.perf_counter()
        found: Mapping[str, Any]
        try:
            trained = runs.train(config, folder / "runs", device, label=label)
            lines = path.with_suffix(".h5")
            found = measuring.measure(trained, plan.study, plan.controls.reach, device, lines)
        except Diverged as error:
            found = {"diverged": str(error)}
        write_whole(path, (to_json(found) + "\n").encode())
    said = "diverged" if "diverged" in found else f"{found['accuracy']:.2f} %"
    all_runs = len(plan.runs)
    done = all_runs - len(unmeasured(plan, folder))
    log.info("[%d/%d] %s: %s, %.0f s", done, all_runs, label, said, time.perf_counter() - started)


def _arms(plan: Plan) -> dict[str, str]:
    """How each run is called in a log: after the first arm that it is of."""
    return {job.run.name: f"{job.arm}, seed {job.seed}" for job in reversed(plan.jobs)}
