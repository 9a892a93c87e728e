"""Run folders: a training run on disk, resumed where it was, and the problem that it makes for measurements.

runs/<method>-<model>-<hash8>/
    config.toml         resolved; its digest is the hash in the folder's name
    environment.json    versions, machine, command, digest of the teacher's weights
    metrics.jsonl       a line an epoch
    checkpoints/        last.pt, the one before it, and the weights after the epochs asked for
    conflict.h5         gradient conflict recorded while training
    distillation.safetensors  of a distillation loss that has weights of its own
    model.safetensors   the trained weights; written last
    logits-*/           a teacher's logits, where its students share them
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from dot import data as image_sets
from dot import models
from dot.config import RunConfig, StudyConfig, load_run, to_toml
from dot.data.augment import Views
from dot.data.drawing import drawn, upload
from dot.data.images import ImageSet, Part
from dot.distillation import Distillation, Outputs, make, observe
from dot.interrupt import deferred_interrupt
from dot.journal import Journal
from dot.logit_cache import LogitCache
from dot.losses import cross_entropy
from dot.models.checkpoints import load_reference
from dot.plain import read_json, to_json
from dot.recording import ConflictRecorder, discard
from dot.teaching import Teacher
from dot.tensors import first_line, load_tensors
from dot.trainer import Trainer, channels_last
from dot.world import ALONE, World, synchronised
from landscape import Problem
from landscape.files import claim, write_whole
from landscape.isolation import preserve_rng, thread_count
from landscape.progress import bar
from landscape.provenance import digest_model, stamp

log = logging.getLogger(__name__)

_MEASURED_BATCH = 512
_OTHER_TEACHER = (
    "{run} must be used with the teacher that it was trained with. Got other weights in {teacher}: put those back, or "
    "delete this run to begin again."
)


@dataclass(frozen=True)
class Run:
    """A run folder and what its ``config.toml`` says.

    Attributes:
        path: Of the folder.
        config: Resolved.
    """

    path: Path
    config: RunConfig

    @property
    def done(self) -> bool:
        """Whether training has ended."""
        return self.weights.exists()

    @property
    def weights(self) -> Path:
        """The trained weights."""
        return self.path / "model.safetensors"

    @property
    def last(self) -> Path:
        """The checkpoint that training goes on from."""
        return self.path / "checkpoints" / "last.pt"

    @property
    def previous(self) -> Path:
        """The checkpoint before the last."""
        return self.path / "checkpoints" / "previous.pt"

    @property
    def distillation(self) -> Path:
        """Trained weights of the distillation loss, if it has any."""
        return self.path / "distillation.safetensors"

    @property
    def conflict(self) -> Path:
        """Gradient conflict recorded while training."""
        return self.path / "conflict.h5"

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """A record for each epoch: see `Trainer.run_epoch`."""
        return Journal(self.path / "metrics.jsonl", at="epoch").read()

    def teacher(self) -> Run | None:
        """The teacher's run, beside this one; None where the run has no teacher.

        Raises:
            FileNotFoundError: It is not there.
        """
        return open_run(self.path.parent / self.config.teacher) if self.config.teacher else None

    def network(self, data: ImageSet, device: torch.device) -> nn.Module:
        """The trained network on a device, in eval mode.

        Raises:
            FileNotFoundError: Training has not ended.
            ValueError: The weights are cut short, or are of another network.
        """
        if not self.done:
            raise FileNotFoundError(f"{self.path} must hold a finished run. Got no model.safetensors: train it first.")
        model = _build(self.config, data, device)
        _load(model, self.weights, self.config.model)
        return model.eval()


def is_run(path: Path) -> bool:
    """Whether a folder is a run folder; one that merely holds a ``config.toml`` is not."""
    return (path / "config.toml").exists() and (path / "environment.json").exists()


def open_run(path: str | Path) -> Run:
    """A run folder that is there.

    Raises:
        FileNotFoundError: There is none.
        ConfigError: Its ``config.toml`` has faults.
    """
    path = Path(path)
    if not (path / "config.toml").exists():
        raise FileNotFoundError(f"expected a run folder with a config.toml at {path}. There is none.")
    return Run(path, load_run(path / "config.toml"))


def problem(
    path: str | Path, split: str = "train", device: str | torch.device = "cpu", images: int = 0, seed: int = 0
) -> Problem:
    """What a trained student is measured on: ``{"ce", "kd", "error"}`` over a split, not augmented.

    What the teacher gives is computed once and kept; a run without a teacher has no ``kd``.

    Args:
        path: A run folder; its teacher's lies beside it.
        split: ``"train"`` or ``"test"``.
        device: Where to measure.
        images: So many of the split, drawn; 0 for all.
        seed: Of the draw.

    Raises:
        FileNotFoundError: The run or its teacher is not there or not finished.
        ValueError: An argument is out of its range, the teacher has changed since the run was trained, or the trained
            weights of its distillation loss are gone or broken.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test'. Got {split!r}.")
    if images < 0:
        raise ValueError(f"images must be at least 0, which is all of them. Got {images}.")
    run, on = open_run(path), torch.device(device)
    data = image_sets.load(run.config.data, on)
    part: Part = getattr(data, split)
    batches = drawn(len(part), images, seed).split(_MEASURED_BATCH)
    model, teacher_run = run.network(data, on), run.teacher()
    if teacher_run is None:
        return Problem(model, _objective(None), lambda: _measured(data, part, batches), split)
    network = teacher_run.network(data, on)
    if digest_model(network) != read_json(run.path / "environment.json")["teacher_sha256"]:
        raise ValueError(_OTHER_TEACHER.format(run=run.path, teacher=run.config.teacher))
    distillation = make(run.config.losses, model, network, _example(data))
    if distillation.state_dict():
        _load(distillation, run.distillation, run.config.losses.distillation)
    teacher = Teacher(network, distillation.teacher_layers)
    taught = [vars(teacher(batch["inputs"])) for batch in _measured(data, part, batches)]
    return Problem(model, _objective(distillation), lambda: _measured(data, part, batches, taught), split)


def _measured(
    data: ImageSet, part: Part, batches: Sequence[Tensor], taught: Sequence[dict[str, Any]] = ()
) -> Iterator[dict[str, Any]]:
    """Inputs, labels and what the teacher gave for each batch of indices."""
    for i, images in enumerate(part.batches((chosen, Views()) for chosen in batches)):
        labels = part.labels[upload(batches[i], part.labels.device)]
        yield {"inputs": data.inputs(images), "labels": labels} | ({"taught": taught[i]} if taught else {})


def _objective(
    distillation: Distillation | None,
) -> Callable[[nn.Module, Mapping[str, Any]], dict[str, Tensor]]:
    def objective(model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        labels = batch["labels"]
        student = observe(model, () if distillation is None else distillation.student_layers, batch["inputs"])
        terms = {"ce": cross_entropy(student.logits, labels, reduction="none")}
        if distillation is not None:
            terms["kd"] = distillation(student, Outputs(**batch["taught"]), labels)
        return terms | {"error": (student.logits.argmax(1) != labels).float()}

    return objective


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
    model = _build(config, data, device)
    load_reference(model, checkpoint)  # before there is a folder
    found = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    if found != config.weights:
        raise ValueError(f"{checkpoint} must be the checkpoint of SHA-256 {config.weights}. Got one of {found}.")
    trainer = Trainer(model, None, None, data, config)
    run = _claim(config, root)
    with claim(run.path):
        _environment(run, None, device, False, ALONE)
        metrics = Journal(run.path / "metrics.jsonl", at="epoch")
        metrics.cut(-1)
        metrics.append({"epoch": 0, "test": trainer.evaluate()})
        metrics.sync()
        write_whole(run.weights, _plain_tensors(model))


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
    run = _claim(config, Path(root)) if world.first else Run(Path(root) / config.name, config)
    if world.any(world.first and run.done):
        if world.first:
            discard(run.path)  # what a process killed after its last write has left
        return run
    alone = claim(run.path) if world.first else nullcontext()
    with alone, preserve_rng(None, device), thread_count(_threads(run)):
        _train(run, device, recording, label or config.name, world)
    world.wait()
    return run


def _threads(run: Run) -> int:
    """As the configuration says, else as the run began: the last bits of sums depend on it."""
    begun = run.path / "environment.json"
    return run.config.compute.threads or (int(read_json(begun)["threads"]) if begun.exists() else 0)


def _train(run: Run, device: torch.device, recording: bool, label: str, world: World) -> None:
    config = run.config
    data = image_sets.load(config.data, device)
    network = _teacher_network(run, data, device)
    environment = _environment(run, network, device, recording, world) if world.first else {}
    world.wait()
    torch.manual_seed(config.seed)
    model = _build(config, data, device)
    distillation = None if network is None else make(config.losses, model, network, _example(data))
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
            _write_tensors(_kept(run, trainer.place.epoch), model.state_dict())
        _save(run, trainer.state() | ({} if recorder is None else {"recorder": recorder.state()}))

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
        write_whole(run.distillation, _plain_tensors(distillation))
    write_whole(run.weights, _plain_tensors(model))
    discard(run.path)


def _load(module: nn.Module, path: Path, what: str) -> None:
    try:
        module.load_state_dict(safetensors.torch.load_file(path))
    except (FileNotFoundError, SafetensorError, RuntimeError) as error:
        raise ValueError(f"{path} must hold the weights of {what}. Got {error}.") from error


def _plain_tensors(module: nn.Module) -> bytes:
    return safetensors.torch.save({name: tensor.contiguous() for name, tensor in module.state_dict().items()})


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


def _example(data: ImageSet) -> Tensor:
    """Two inputs: what a loss that compares features finds their shapes from."""
    return data.inputs_of(data.test, torch.arange(2))


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


def _save(run: Run, state: Mapping[str, Any]) -> None:
    """Replace the last checkpoint, and keep it as the previous one."""
    new = run.path / "checkpoints" / "new.pt"
    _write_tensors(new, state)
    if run.last.exists():
        os.replace(run.last, run.previous)
    os.replace(new, run.last)


def _claim(config: RunConfig, root: Path) -> Run:
    """The run's folder, made if need be; refused where it holds another configuration."""
    path = root / config.name
    settings = path / "config.toml"
    if settings.exists():
        if load_run(settings) != config:
            raise ValueError(
                f"{path} must hold the configuration that its name says. Got another in config.toml: it is not "
                "overwritten; move the folder away, or train under another output folder."
            )
        return Run(path, config)
    try:
        (path / "checkpoints").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{path} cannot be made: {error.strerror}. Give another output folder.") from error
    write_whole(settings, to_toml(config).encode())
    return Run(path, config)


def _environment(
    run: Run, teacher: nn.Module | None, device: torch.device, recording: bool, world: World
) -> dict[str, Any]:
    """What the run is made with, kept in its folder from its start; the teacher must stay the same to the end."""
    path = run.path / "environment.json"
    teacher_sha256 = "" if teacher is None else digest_model(teacher)
    if path.exists():
        found: dict[str, Any] = read_json(path)
        if found["teacher_sha256"] != teacher_sha256:
            raise ValueError(_OTHER_TEACHER.format(run=run.path, teacher=run.config.teacher))
        if found["recording"] != recording:
            raise ValueError(
                f"{run.path} must go on {'with' if found['recording'] else 'without'} recording, as it began. "
                "Delete it to begin again."
            )
        return found
    environment = stamp(device) | {
        "device": device.type,
        "seed": run.config.seed,
        "threads": torch.get_num_threads(),
        "recording": recording,
        "processes": world.size,
        "teacher_sha256": teacher_sha256,
    }
    write_whole(path, to_json(environment).encode())
    return environment


def _build(config: RunConfig, data: ImageSet, device: torch.device) -> nn.Module:
    return models.build(config.model, in_channels=data.in_channels, num_classes=data.num_classes).to(device)


def _kept(run: Run, epoch: int) -> Path:
    return run.path / "checkpoints" / f"epoch-{epoch:04d}.pt"


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint as data only: a pickle that would run code is refused.

    Raises:
        ValueError: It is not a checkpoint of plain data, or is cut short.
    """
    state = load_tensors(path, "Delete the file to train this run from its start.")
    if not isinstance(state, dict):
        raise ValueError(f"{path} must be a checkpoint of this package. Got {type(state).__name__}: delete the file.")
    return state


def _write_tensors(path: Path, state: Mapping[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_whole(path, buffer.getvalue())
