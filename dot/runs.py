"""Run folders: a training run on disk, resumed where it was, and the problem that it makes for measurements.

runs/<method>-<model>-<hash8>/
    config.toml         resolved; its digest is the hash in the folder's name
    environment.json    versions, machine, command, digest of the teacher's weights
    metrics.jsonl       a line an epoch
    checkpoints/        last.pt, and the weights after the epochs asked for
    conflict.h5         gradient conflict recorded while training
    model.safetensors   the trained weights; written last
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from dot import data as image_sets
from dot import models
from dot.config import RunConfig, load_run, to_toml
from dot.data.images import ImageSet, Split
from dot.interrupt import deferred_interrupt
from dot.journal import Journal
from dot.losses import cross_entropy, kd_loss
from dot.plain import read_json, to_json
from dot.recording import ConflictRecorder, discard
from dot.trainer import Trainer, logits_of
from landscape import Problem
from landscape.files import claim, write_whole
from landscape.isolation import preserve_rng, thread_count
from landscape.progress import bar
from landscape.provenance import digest_model, stamp

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
        try:
            model.load_state_dict(safetensors.torch.load_file(self.weights, device=str(device)))
        except (SafetensorError, RuntimeError) as error:
            raise ValueError(f"{self.weights} must hold the weights of {self.config.model}. Got {error}.") from error
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


def problem(path: str | Path, split: str = "train", device: str | torch.device = "cpu") -> Problem:
    """What a trained student is measured on: ``{"ce", "kd", "error"}`` over a split, not augmented.

    The teacher's logits are computed once and kept with the batches; a run without a teacher has no ``kd``.

    Args:
        path: A run folder; its teacher's lies beside it.
        split: ``"train"`` or ``"test"``.
        device: Where to measure.

    Raises:
        FileNotFoundError: The run or its teacher is not there or not finished.
        ValueError: The split is unknown, or the teacher has changed since the run was trained.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test'. Got {split!r}.")
    run, on = open_run(path), torch.device(device)
    data = image_sets.load(run.config.data, on)
    teacher = run.teacher()
    examples: Split = getattr(data, split)
    columns = {"inputs": data.inputs(examples.images), "labels": examples.labels}
    if teacher is not None:
        network = teacher.network(data, on)
        if digest_model(network) != read_json(run.path / "environment.json")["teacher_sha256"]:
            raise ValueError(_OTHER_TEACHER.format(run=run.path, teacher=run.config.teacher))
        columns["teacher_logits"] = logits_of(network, data, examples)
    pieces = {name: column.split(_MEASURED_BATCH) for name, column in columns.items()}
    batches = [dict(zip(pieces, batch, strict=True)) for batch in zip(*pieces.values(), strict=True)]
    return Problem(run.network(data, on), _objective(run.config.losses.temperature), batches, split)


def _objective(temperature: float) -> Callable[[nn.Module, Mapping[str, Tensor]], dict[str, Tensor]]:
    def objective(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        logits, labels = model(batch["inputs"]), batch["labels"]
        terms = {"ce": cross_entropy(logits, labels, reduction="none")}
        if "teacher_logits" in batch:
            terms["kd"] = kd_loss(logits, batch["teacher_logits"], temperature, reduction="none")
        return terms | {"error": (logits.argmax(1) != labels).float()}

    return objective


def train(config: RunConfig, root: str | Path, device: torch.device, *, recording: bool = True, label: str = "") -> Run:
    """Train a run in its folder under ``root``, or go on where it was; a finished one is returned as it is.

    Args:
        config: Of the run; its teacher's folder must lie under ``root``.
        root: Where run folders lie.
        device: To train on.
        recording: Whether conflict is recorded, where there is a teacher. It changes no weight.
        label: Name on the progress bar; the run's name by default.

    Raises:
        ValueError: The folder holds another configuration, or the teacher's weights have changed since it began.
        FileNotFoundError: The teacher is not there or not finished.
        Diverged: A loss is not finite; the last good checkpoint is kept.
        KeyboardInterrupt: It was asked to stop, and has saved where it was.
        OSError: The folder cannot be written, or another process is training in it.
    """
    run = _claim(config, Path(root))
    if run.done:
        discard(run.path)  # what a process killed after its last write has left
        return run
    with claim(run.path), preserve_rng(None, device), thread_count(_threads(run)):
        _train(run, device, recording, label or config.name)
    return run


def _threads(run: Run) -> int:
    """As the configuration says, else as the run began: the last bits of sums depend on it."""
    begun = run.path / "environment.json"
    return run.config.threads or (int(read_json(begun)["threads"]) if begun.exists() else 0)


def _train(run: Run, device: torch.device, recording: bool, label: str) -> None:
    config = run.config
    data = image_sets.load(config.data, device)
    teacher_run = run.teacher()
    teacher = None if teacher_run is None else teacher_run.network(data, device)
    environment = _environment(run, teacher, device, recording)
    torch.manual_seed(config.seed)
    model = _build(config, data, device)
    recorder = ConflictRecorder(run.path, model, teacher, data, config) if teacher is not None and recording else None
    trainer = Trainer(model, teacher, data, config, recorder)
    metrics = Journal(run.path / "metrics.jsonl", at="epoch")
    if run.last.exists():
        try:
            trainer.load_state(load_checkpoint(run.last))
        except (KeyError, TypeError, IndexError, AttributeError, RuntimeError) as error:
            raise ValueError(
                f"{run.last} must be a checkpoint of this run. Got something else ({_first_line(error)}). Delete the "
                "file to train this run from its start."
            ) from error
    metrics.cut(trainer.place.epoch)
    if recorder is not None:
        recorder.cut(trainer.place.step)
    with deferred_interrupt() as stop, bar(config.train.epochs, label, "epoch") as progress:
        progress.update(trainer.place.epoch)
        while trainer.place.epoch < config.train.epochs:
            numbers = trainer.run_epoch(stop)
            if numbers is not None:
                metrics.append(numbers)
                progress.update()
                if trainer.place.epoch in config.record.checkpoints:
                    _write_tensors(_kept(run, trainer.place.epoch), model.state_dict())
            metrics.sync()
            if recorder is not None:
                recorder.sync()
            _write_tensors(run.last, trainer.state())
            if stop():
                raise KeyboardInterrupt
    if recorder is not None:
        recorder.consolidate(run.conflict, environment | {"checkpoint_sha256": digest_model(model)})
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    write_whole(run.weights, safetensors.torch.save(weights))
    discard(run.path)


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


def _environment(run: Run, teacher: nn.Module | None, device: torch.device, recording: bool) -> dict[str, Any]:
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
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path} must be a checkpoint of plain tensors. Got one that is cut short, or that would run code when "
            f"loaded, which was refused ({_first_line(error)}). Delete the file to train this run from its start."
        ) from error
    if not isinstance(state, dict):
        raise ValueError(f"{path} must be a checkpoint of this package. Got {type(state).__name__}: delete the file.")
    return state


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _write_tensors(path: Path, state: Mapping[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_whole(path, buffer.getvalue())
