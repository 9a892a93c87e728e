"""The folder of a run: its files, its configuration, what it was made with, and its checkpoints."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from dot import models
from dot.config import RunConfig, load_run, to_toml
from dot.data.images import ImageSet
from dot.journal import Journal
from dot.plain import read_json, to_json
from dot.tensors import load_tensors
from dot.world import World
from landscape.files import write_whole
from landscape.provenance import digest_model, stamp

OTHER_TEACHER = (
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

    @property
    def kept(self) -> list[int]:
        """The epochs whose weights are kept, ascending."""
        names = [path.stem.removeprefix("epoch-") for path in (self.path / "checkpoints").glob("epoch-*.pt")]
        return sorted(int(name) for name in names if name.isdecimal())

    @property
    def last_epoch(self) -> int | None:
        """The epoch that the trained weights are of; None where they are those of a checkpoint from elsewhere."""
        return None if self.config.weights else self.config.train.epochs

    def network(self, data: ImageSet, device: torch.device, epoch: int | None = None) -> nn.Module:
        """The trained network on a device, in eval mode; or what it was after an epoch.

        Raises:
            FileNotFoundError: Training has not ended, or the weights after ``epoch`` are not kept.
            ValueError: The weights are cut short, or are of another network.
        """
        model = build_network(self.config, data, device)
        if epoch is not None:
            _load_kept(model, self, epoch)
        elif not self.done:
            raise FileNotFoundError(f"{self.path} must hold a finished run. Got no model.safetensors: train it first.")
        else:
            load_weights(model, self.weights, self.config.model)
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


def make_folder(config: RunConfig, root: Path) -> Run:
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


def begin(run: Run, teacher: nn.Module | None, device: torch.device, recording: bool, world: World) -> dict[str, Any]:
    """What the run is made with, kept in its folder from its start; the teacher must stay the same to the end."""
    path = run.path / "environment.json"
    teacher_sha256 = "" if teacher is None else digest_model(teacher)
    if path.exists():
        found: dict[str, Any] = read_json(path)
        if found["teacher_sha256"] != teacher_sha256:
            raise ValueError(OTHER_TEACHER.format(run=run.path, teacher=run.config.teacher))
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


def load_weights(module: nn.Module, path: Path, what: str) -> None:
    """Load a file of weights into a module.

    Raises:
        ValueError: It is not there, broken, or of another module than ``what``.
    """
    try:
        module.load_state_dict(safetensors.torch.load_file(path))
    except (FileNotFoundError, SafetensorError, RuntimeError) as error:
        raise ValueError(f"{path} must hold the weights of {what}. Got {error}.") from error


def _load_kept(module: nn.Module, run: Run, epoch: int) -> None:
    """Load the weights after an epoch into a module."""
    if epoch not in run.kept:
        kept = f"those of {', '.join(map(str, run.kept))}" if run.kept else "none"
        raise FileNotFoundError(
            f"epoch must be one whose weights {run.path} keeps. Got {epoch}; kept are {kept}. Which are kept is said "
            "before training, by checkpoints of [record]; without an epoch the trained weights are measured."
        )
    path = kept_at(run, epoch)
    try:
        module.load_state_dict(load_tensors(path, "Measure another epoch, or train the run again in another folder."))
    except (AttributeError, TypeError, RuntimeError) as error:
        raise ValueError(f"{path} must hold the weights of {run.config.model}. Got {error}.") from error


def plain_tensors(module: nn.Module) -> bytes:
    """A module's state as a safetensors file."""
    return safetensors.torch.save({name: tensor.contiguous() for name, tensor in module.state_dict().items()})


def build_network(config: RunConfig, data: ImageSet, device: torch.device) -> nn.Module:
    """The network of a run for its data, not trained."""
    return models.build(config.model, in_channels=data.in_channels, num_classes=data.num_classes).to(device)


def two_inputs(data: ImageSet) -> Tensor:
    """Two inputs: what a loss that compares features finds their shapes from."""
    return data.inputs_of(data.test, torch.arange(2))


def kept_at(run: Run, epoch: int) -> Path:
    """Where the weights after an epoch are kept."""
    return run.path / "checkpoints" / f"epoch-{epoch:04d}.pt"


def save_checkpoint(run: Run, state: Mapping[str, Any]) -> None:
    """Replace the last checkpoint, and keep it as the previous one."""
    new = run.path / "checkpoints" / "new.pt"
    write_tensors(new, state)
    if run.last.exists():
        os.replace(run.last, run.previous)
    os.replace(new, run.last)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint as data only: a pickle that would run code is refused.

    Raises:
        ValueError: It is not a checkpoint of plain data, or is cut short.
    """
    state = load_tensors(path, "Delete the file to train this run from its start.")
    if not isinstance(state, dict):
        raise ValueError(f"{path} must be a checkpoint of this package. Got {type(state).__name__}: delete the file.")
    return state


def write_tensors(path: Path, state: Mapping[str, Any]) -> None:
    """Write plain data with tensors as a checkpoint, whole or not at all."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_whole(path, buffer.getvalue())
