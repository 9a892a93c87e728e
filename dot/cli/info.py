"""Say what a file or folder holds: surfaces, conflict, run folders, studies, checkpoints, weights, metrics, recipes.

Any file that this package writes is known; one that is broken or of another kind is named as such.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from dot.cli._shared import Common, Reply
from dot.plain import read_json

EXAMPLES = (
    "info studies/digits-quick",
    "info runs/kd-dot-convnet8-*/checkpoints/last.pt --json",
)


@dataclass(frozen=True)
class Options(Common):
    """Options of ``info``."""

    path: Annotated[Path, tyro.conf.Positional]
    """A file or folder written by this package."""


def run(options: Options) -> Reply:
    """Run the verb."""
    data = describe(options.path)
    return Reply("\n".join([str(options.path), *_lines(data)]), data)


def describe(path: Path) -> dict[str, Any]:
    """What a path holds, ready for JSON.

    Raises:
        FileNotFoundError: There is nothing.
        ValueError: It is not something that this package writes, or is broken.
    """
    if not path.exists():
        raise FileNotFoundError(f"expected a file or folder at {path}. There is none.")
    if path.is_dir():
        return _folder(path)
    readers = {
        ".h5": _hdf5,
        ".pt": _checkpoint,
        ".safetensors": _weights,
        ".jsonl": _journal,
        ".json": read_json,
        ".toml": _recipe,
        ".html": lambda p: {"kind": "page", "bytes": p.stat().st_size},
        ".pdf": lambda p: {"kind": "figure", "bytes": p.stat().st_size},
        ".png": lambda p: {"kind": "figure", "bytes": p.stat().st_size},
        ".svg": lambda p: {"kind": "figure", "bytes": p.stat().st_size},
    }
    if path.suffix not in readers:
        raise ValueError(
            f"{path} must end in one of {', '.join(readers)}, or be a folder. Got {path.suffix or 'none'}."
        )
    found = readers[path.suffix](path)
    if not isinstance(found, dict):
        raise ValueError(f"{path} must be a file of this package. Got JSON of another kind.")
    return found


def _folder(path: Path) -> dict[str, Any]:
    from dot.runs import open_run

    if (path / "study.json").exists():
        return {"kind": "study"} | describe(path / "study.json")
    if (path / "study.toml").exists():
        return {"kind": "study, not finished"} | _recipe(path / "study.toml")
    if (path / "plan.json").exists():
        return _controls(path)
    run = open_run(path)
    epochs = run.metrics
    return {
        "kind": "run folder",
        "done": run.done,
        "epochs": "weights of a checkpoint" if run.config.weights else f"{len(epochs)} of {run.config.train.epochs}",
        "last epoch": epochs[-1] if epochs else None,
        "files": sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()),
        "config": asdict(run.config),
    }


def _controls(path: Path) -> dict[str, Any]:
    """How far a study with controls is."""
    from dot.controls.running import measured_at

    whose = read_json(path / "plan.json")["runs"]
    runs = {name for of_seed in whose.values() for name in of_seed.values()}
    measured = sum(measured_at(path, name).exists() for name in runs)
    return {
        "kind": "study with controls",
        "measured": f"{measured} of {len(runs)} runs",
        "seeds of each arm": {arm: len(of_seed) for arm, of_seed in whose.items()},
    }


def _hdf5(path: Path) -> dict[str, Any]:
    from landscape import describing

    return describing.describe(path)


def _checkpoint(path: Path) -> dict[str, Any]:
    from dot.runs import load_checkpoint

    state: Any = load_checkpoint(path)
    try:
        if "place" not in state:
            return {"kind": "weights of an epoch", "tensors": _shapes(state)}
        place = {key: value for key, value in state["place"].items() if key != "sums"}
        return {"kind": "checkpoint", "place": place, "tensors": _shapes(state["model"])}
    except (AttributeError, TypeError, KeyError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path} must be a checkpoint of this package. Got something else.") from error


def _shapes(tensors: Any) -> dict[str, list[int]]:
    if not tensors:
        raise ValueError("no tensors")
    return {name: list(tensor.shape) for name, tensor in tensors.items()}


def _weights(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return {"kind": "weights", "tensors": {name: file.get_slice(name).get_shape() for name in file.keys()}}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} must be a safetensors file. Got one that is cut short or of another kind.") from error


def _journal(path: Path) -> dict[str, Any]:
    from dot.journal import Journal

    records = Journal(path, at="").read()
    return {"kind": "records", "number": len(records), "last": records[-1] if records else None}


def _recipe(path: Path) -> dict[str, Any]:
    from dot.config import load_run, load_study
    from dot.controls.config import is_controls, load_plan

    if path.name == "config.toml":
        return {"kind": "run configuration"} | asdict(load_run(path))
    if is_controls(path):
        plan = load_plan(str(path))
        return {"kind": "controls", "arms": list(plan.arms), "runs": len(plan.runs), "study": asdict(plan.study)}
    return {"kind": "study"} | asdict(load_study(str(path)))


def _lines(data: Any, indent: int = 2) -> list[str]:
    """Nested data as indented lines, one value a line."""
    lines = []
    for key, value in data.items():
        if isinstance(value, dict):
            lines += [" " * indent + f"{key}:", *_lines(value, indent + 2)]
        elif isinstance(value, list) and value and isinstance(value[0], str):
            lines += [" " * indent + f"{key}:", *(" " * (indent + 2) + item for item in value)]
        else:
            lines.append(" " * indent + f"{key}: {value}")
    return lines
