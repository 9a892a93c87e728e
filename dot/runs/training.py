"""Training in a run folder: begun, gone on with, and finished; the teacher's and the students'."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dot import data as image_sets
from dot.config import RunConfig, StudyConfig
from dot.data.images import ImageSet
from dot.distillation import Distillation, make
from dot.interrupt import deferred_interrupt
from dot.journal import Journal
from dot.logit_cache import LogitCache
from dot.models.checkpoints import load_reference
from dot.plain import read_json
from dot.recording import ConflictRecorder, discard
from dot.runs.folder import (
    Run,
    begin,
    build_network,
    kept_at,
    load_checkpoint,
    make_folder,
    plain_tensors,
    save_checkpoint,
    two_inputs,
    write_tensors,
)
from dot.teaching import Teacher
from dot.tensors import first_line
from dot.trainer import Trainer, channels_last
from dot.world import ALONE, World, synchronised
from landscape.files import claim, write_whole
from landscape.isolation import preserve_rng, thread_count
from landscape.progress import bar
from landscape.provenance import digest_model

log = logging.getLogger(__name__)


def train(
    config: RunConfig,
    root: str | Path,
    device: torch.device,
    *,
    recording: bool = True,
    label: str = "",
    world: World = ALONE,
) -> Run:
    """Train a run in its folder under ``root``, or go on where it was; a finished one is returned as it is.

    Args:
        config: Of the run; its teacher's folder must lie under ``root``.
        root: Where run folders lie.
        device: To train on.
        recording: Whether conflict is recorded, where there is a teacher. It changes no weight.
        label: Name on the progress bar; the run's name by default.
        world: The processes that train together; all of them call this, and the first one writes.

    Raises:
        ValueError: The folder holds another configuration, the teacher's weights have changed since it began, or the
            configuration takes its weights from a checkpoint, see `teach`.
        FileNotFoundError: The teacher is not there or not finished.
        Diverged: A loss is not finite; the last good checkpoint is kept.
        KeyboardInterrupt: It was asked to stop, and has saved where it was.
        OSError: The folder cannot be written, or another process is training in it.
        RuntimeError: Another process of the world has ended.
    """
    if config.weights and not Run(Path(root) / config.name, config).done:
        raise ValueError(
            f"a run that is trained must not name a checkpoint's weights. Got {config.weights}: use teach."
        )
    run = make_folder(config, Path(root)) if world.first else Run(Path(root) / config.name, config)
    if world.any(world.first and run.done):
        if world.first:
            discard(run.path)  # what a process killed after its last write has left
        return run
    alone = claim(run.path) if world.first else nullcontext()
    with alone, preserve_rng(None, device), thread_count(_threads(run)):
        _train(run, device, recording, label or config.name, world)
    world.wait()
    return run


def teach(study: StudyConfig, root: Path, device: torch.device, checkpoint: Path | None, world: World) -> Run:
    """The teacher of a study, trained or with the weights of a checkpoint; one that is there already stays as it is.

    Args:
        study: Says which of the two.
        root: Where run folders lie.
        device: To train on.
        checkpoint: With the weights, as `dot.models.checkpoints.load_reference` reads them.
        world: The processes that train together.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: A checkpoint is needed and not given, is another than that of the study, or does not fit.
        OSError: The folder cannot be written, or another process is at it. And as `train`.
    """
    config = study.teacher_run()
    if not config.weights:
        return train(config, root, device, label="teacher", world=world)
    if world.first and not Run(root / config.name, config).done:
        if checkpoint is None:
            raise ValueError(
                f"the teacher takes its weights from a checkpoint of SHA-256 {config.weights}: give its path."
            )
        with preserve_rng(None, device), thread_count(config.compute.threads):
            _adopt(config, root, checkpoint, device)
    world.wait()
    return Run(root / config.name, config)


def _adopt(config: RunConfig, root: Path, checkpoint: Path, device: torch.device) -> None:
    """Make a run folder with the weights of a checkpoint, measured on the test images."""
    data = image_sets.load(config.data, device)
    model = build_network(config, data, device)
    load_reference(model, checkpoint)  # before there is a folder
    found = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    if found != config.weights:
        raise ValueError(f"{checkpoint} must be the checkpoint of SHA-256 {config.weights}. Got one of {found}.")
    trainer = Trainer(model, None, None, data, config)
    run = make_folder(config, root)
    with claim(run.path):
        begin(run, None, device, False, ALONE)
        metrics = Journal(run.path / "metrics.jsonl", at="epoch")
        metrics.cut(-1)
        metrics.append({"epoch": 0, "test": trainer.evaluate()})
        metrics.sync()
        write_whole(run.weights, plain_tensors(model))


def _threads(run: Run) -> int:
    """As the configuration says, else as the run began: the last bits of sums depend on it."""
    begun = run.path / "environment.json"
    return run.config.compute.threads or (int(read_json(begun)["threads"]) if begun.exists() else 0)


def _train(run: Run, device: torch.device, recording: bool, label: str, world: World) -> None:
    config = run.config
    data = image_sets.load(config.data, device)
    network = _teacher_network(run, data, device)
    environment = begin(run, network, device, recording, world) if world.first else {}
    world.wait()
    torch.manual_seed(config.seed)
    model = build_network(config, data, device)
    distillation = None if network is None else make(config.losses, model, network, two_inputs(data))
    if config.compute.sync_batch_norm:
        model = synchronised(model, world, device)
    teacher = recorder = None
    if network is not None and distillation is not None:
        cache = _logit_cache(run, network, data, device) if config.compute.cache_teacher else None
        layers = distillation.teacher_layers
        teacher = Teacher(channels_last(network), layers, config.compute.teacher_precision, cache)
        if recording:
            recorder = ConflictRecorder(run.path, model, teacher, distillation, data, config, world)
    trainer = Trainer(model, teacher, distillation, data, config, recorder, world)
    metrics = Journal(run.path / "metrics.jsonl", at="epoch")
    _go_on(run, trainer, recorder)
    if not world.same(trainer.place.step):
        raise RuntimeError(
            f"all processes must go on from the same checkpoint of {run.path}. Got others at other steps: they need a "
            "file system that all of them share."
        )
    if world.first:
        metrics.cut(trainer.place.epoch)
        if recorder is not None:
            recorder.cut(trainer.place.step)

    def save() -> None:
        """Everything up to now on the disk, the checkpoint last: what it counts on is there before it."""
        if teacher is not None and teacher.cache is not None:
            teacher.cache.flush()  # each process has logits of its own
        if not world.first:
            return
        metrics.sync()
        if recorder is not None:
            recorder.sync()
        if trainer.place.step_in_epoch == 0 and trainer.place.epoch in config.record.checkpoints:
            write_tensors(kept_at(run, trainer.place.epoch), model.state_dict())
        save_checkpoint(run, trainer.state() | ({} if recorder is None else {"recorder": recorder.state()}))

    with deferred_interrupt(alone=world.size == 1) as stop, bar(config.train.epochs, label, "epoch") as progress:
        progress.update(trainer.place.epoch)
        while trainer.place.epoch < config.train.epochs:
            numbers = trainer.run_epoch(stop)
            if numbers is not None:
                metrics.append(numbers)
                progress.update()
            stopping = world.any(stop())
            ends = stopping or trainer.place.epoch == config.train.epochs
            _attempt(save, run, trainer, ends=ends)
            if stopping:
                world.wait()  # torchrun ends all as soon as one has ended
                raise KeyboardInterrupt
    if world.first:
        _finish(run, model, distillation, recorder, environment)


def _attempt(save: Callable[[], None], run: Run, trainer: Trainer, *, ends: bool) -> None:
    """Save; where it cannot be done, training goes on and the next epoch tries again, unless it ends here.

    Raises:
        OSError: It ends here; the message says from where training will go on.
    """
    try:
        save()
    except OSError as error:
        good = f"The last good state is that of {run.last}." if run.last.exists() else "There is no checkpoint yet."
        if ends:
            raise OSError(f"{error} {good} Run the same command again to go on from there.") from error
        log.warning("epoch %d: %s %s Training goes on.", trainer.place.epoch, error, good)


def _finish(
    run: Run,
    model: nn.Module,
    distillation: Distillation | None,
    recorder: ConflictRecorder | None,
    environment: dict[str, Any],
) -> None:
    """Write the results, the weights last."""
    if recorder is not None:
        recorder.consolidate(run.conflict, environment | {"checkpoint_sha256": digest_model(model)})
    if distillation is not None and distillation.state_dict():
        write_whole(run.distillation, plain_tensors(distillation))
    write_whole(run.weights, plain_tensors(model))
    discard(run.path)


def _teacher_network(run: Run, data: ImageSet, device: torch.device) -> nn.Module | None:
    teacher = run.teacher()
    return None if teacher is None else teacher.network(data, device)


def _logit_cache(run: Run, teacher: nn.Module, data: ImageSet, device: torch.device) -> LogitCache:
    """The cache beside the teacher's weights, named after all that its logits depend on."""
    config = run.config
    settings = [digest_model(teacher), data.name, data.digest, asdict(config.train.augment)]
    key = hashlib.sha256(json.dumps([*settings, config.compute.teacher_precision]).encode()).hexdigest()
    folder, views = run.path.parent / config.teacher / f"logits-{key[:12]}", config.train.augment.views
    assert views is not None  # the configuration was checked
    return LogitCache(folder, len(data.train), views, data.num_classes, device)


def _go_on(run: Run, trainer: Trainer, recorder: ConflictRecorder | None) -> None:
    """Load the last checkpoint that can be read, if there is one.

    Raises:
        ValueError: There is one, and neither it nor the one before can be read.
    """
    faults: list[str] = []
    for path in (run.last, run.previous):
        if not path.exists():
            continue
        try:
            state = load_checkpoint(path)
            trainer.load_state(state)
            if recorder is not None:
                recorder.load_state(state["recorder"])
        except ValueError as error:
            faults.append(str(error))
            continue
        except (KeyError, TypeError, IndexError, AttributeError, RuntimeError) as error:
            faults.append(
                f"{path} must be a checkpoint of this run. Got something else ({first_line(error)}). Delete the file "
                "to train this run from its start."
            )
            continue
        if faults:
            log.warning("%s Going on from the one before it.", faults[0])
        return
    if faults:
        raise ValueError(" ".join(faults))
