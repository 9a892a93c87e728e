"""The flatness in files and in run folders, compared by method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dot.runs import Run
    from landscape.sharpness import Flatness, Verdict


def of_files(found: Mapping[Path, Flatness]) -> Verdict:
    """Flatness files, compared: those in run folders grouped as the runs are, in pairs of one seed; others one by one.

    Raises:
        ValueError: Some lie in run folders and others do not, two in one folder, or all are of one method.
    """
    from dot import flatness, grouping, runs

    owned = {runs.open_run(path.parent).path: path for path in found if runs.is_run(path.parent)}
    if len(owned) not in (0, len(found)):
        raise ValueError("files must all lie in run folders, a file in each, or none of them. Got both.")
    if owned:
        groups = grouping.by_setting(list(map(runs.open_run, owned)))
        verdict = flatness.compare({name: [found[owned[run.path]] for run in group] for name, group in groups.items()})
    else:
        verdict = flatness.compare({str(path.with_suffix("")): [one] for path, one in found.items()})
    return _of_two(verdict)


def of_runs(found: Sequence[Run]) -> Verdict:
    """The flatness that was measured of runs, compared.

    Raises:
        ValueError: Not all were measured in one way, or all are of one method.
    """
    from dot import flatness, grouping

    groups = grouping.by_setting(found)
    asked = flatness.kept_alike(groups)
    if asked is None:
        raise ValueError(
            "runs must have their flatness measured, all in one way. Got some without. "
            "Run dot-landscape sharpness with these folders first."
        )
    return _of_two(flatness.compare(flatness.kept(groups, asked)))


def _of_two(verdict: Verdict | None) -> Verdict:
    if verdict is None:
        raise ValueError("flatness must be of two methods or more, to be compared. Got one.")
    return verdict
