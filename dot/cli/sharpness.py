"""Say how flat the minima of runs are, with errors, and whether methods can be told apart.

Of run folders, grouped by method and paired by seed; or of your own networks, each through a function that returns a
landscape.Problem. What was measured of a run is kept in its folder, and not measured again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from dot.cli._shared import Common, Output, Reply, UsageError, find_beside_user, load_problem
from dot.plain import to_json

if TYPE_CHECKING:
    from landscape.sharpness import Flatness, Verdict

EXAMPLES = (
    "sharpness studies/digits-quick/runs/*convnet8*",
    "sharpness --problem my_network:problem --measures width-0.1 sam -o flatness",
)


@dataclass(frozen=True)
class Options(Common):
    """Options of ``sharpness``."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Run folders."""
    problem: tuple[str, ...] = ()
    """Instead of runs: module:function, or name=module:function; several of one name are its seeds, in order."""
    output: Output = None
    """A folder for flatness.json, with all numbers and the verdict in words, and the figures."""
    term: str = ""
    """Which loss; ce for runs, the first one of a problem, by default."""
    split: Literal["train", "test", ""] = ""
    """Which images of runs; train by default."""
    images: int = 0
    """So many images of runs, drawn; all by default."""
    directions: int = 20
    """Random directions of the lines."""
    measures: tuple[str, ...] = ()
    """Short names of the numbers that are wanted, such as width-0.1 or sam; all by default."""
    device: str = ""
    """Where to measure runs: auto (the default), cpu, cuda or mps."""


def run(options: Options) -> Reply:
    """Run the verb."""
    if bool(options.runs) == bool(options.problem):
        came = "both" if options.runs else "neither"
        raise UsageError(f"expected run folders, or --problem module:function. Got {came}.")
    found = _of_runs(options) if options.runs else _of_problems(options)
    from dot import flatness
    from dot.outcome import as_text

    verdict = flatness.compare(found)
    if verdict is None:
        text = "\n\n".join(str(one) for group in found.values() for one in group)
    else:
        text = "\n".join([as_text(flatness.brief(verdict)), "", flatness.LEGEND, *verdict.notes])
    data: dict[str, Any] = {"flatness": {name: list(map(flatness.as_plain, group)) for name, group in found.items()}}
    data |= {} if verdict is None else {"verdict": asdict(verdict), "sentences": verdict.sentences()}
    if options.output is not None:
        text += "\n\n" + "\n".join(map(str, _write(options.output, data, verdict)))
    return Reply(text, data)


def _write(folder: Path, data: Mapping[str, Any], verdict: Verdict | None) -> list[Path]:
    """The numbers as JSON, and the figures of a comparison."""
    from landscape import plot
    from landscape.files import write_whole

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{folder} cannot be made: {error.strerror}. Give another folder with -o.") from error
    written = [folder / "flatness.json"]
    write_whole(written[0], (to_json(data) + "\n").encode())
    if verdict is not None:
        written += plot.save(plot.flatness(verdict), folder / "flatness")
        written += plot.save(plot.verdicts(verdict), folder / "verdicts")
    return written


def _of_runs(options: Options) -> dict[str, list[Flatness]]:
    from dot import devices, flatness, grouping
    from dot.runs import open_run

    asked = flatness.Asked(
        split=options.split or "train",
        term=options.term or "ce",
        images=options.images,
        directions=options.directions,
        measures=options.measures,
    )
    flatness.check(asked)
    device = devices.pick(options.device or "auto")
    groups = grouping.by_setting([open_run(path) for path in options.runs])
    return {
        name: [flatness.measured(run, asked, device, must_keep=False) for run in group]
        for name, group in groups.items()
    }


def _of_problems(options: Options) -> dict[str, list[Flatness]]:
    if options.split or options.images or options.device:
        raise UsageError("--split, --images and --device go with run folders. Got --problem, whose function chooses.")
    import landscape as ls

    find_beside_user()
    found: dict[str, list[Flatness]] = {}
    for given in options.problem:
        name, _, path = given.rpartition("=")
        group = found.setdefault(name or path, [])
        group.append(
            ls.sharpness.summary(
                load_problem(path),
                term=options.term or None,
                measures=options.measures or None,
                n_directions=options.directions,
                seed=len(group),
            )
        )
    return found
