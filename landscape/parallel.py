"""Which part of a surface this process measures, and starting processes that measure one each.

Everything rests on `evaluate(..., shard="i/n")`; what is here only supplies i and n.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from landscape.merging import merge
from landscape.parts import Part, part_path, plan_path


def detect(environ: Mapping[str, str] = os.environ) -> Part:
    """The part of this process: its rank under torchrun, its task in a Slurm array or step; else the whole.

    Raises:
        ValueError: The environment holds numbers that do not fit together.
    """
    if "RANK" in environ and "WORLD_SIZE" in environ:
        return Part(int(environ["RANK"]), int(environ["WORLD_SIZE"]))
    part = Part()
    if "SLURM_ARRAY_TASK_ID" in environ:
        first, step = int(environ["SLURM_ARRAY_TASK_MIN"]), int(environ.get("SLURM_ARRAY_TASK_STEP", "1"))
        index = (int(environ["SLURM_ARRAY_TASK_ID"]) - first) // step
        count = int(environ["SLURM_ARRAY_TASK_COUNT"])
        if index >= count:
            raise ValueError(
                f"a Slurm array must be a range to be parts of a surface, such as 0-{count - 1}. Got task "
                f"{environ['SLURM_ARRAY_TASK_ID']} of {count}: use such a range, or --shard."
            )
        part = Part(index, count)
    if "SLURM_STEP_ID" in environ:  # started by srun: several tasks share the job
        tasks = int(environ.get("SLURM_STEP_NUM_TASKS", environ.get("SLURM_NTASKS", "1")))
        part = Part(part.index * tasks + int(environ["SLURM_PROCID"]), part.count * tasks)
    return part


def together(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the parts run at the same time under torchrun, so that the last one can merge them."""
    return "RANK" in environ and int(environ.get("WORLD_SIZE", "1")) > 1


def gather(out: Path, part: Part, data_shard: Part) -> None:
    """Wait for every rank of torchrun; the first then merges all parts into ``out`` and removes them.

    Raises:
        ValueError, OSError: As `merge`.
    """
    # Torch's default is half an hour, which ranks of different devices may well be apart after days.
    patient = timedelta(days=365)
    mine = not torch.distributed.is_initialized()
    if mine:
        torch.distributed.init_process_group("gloo", timeout=patient)
    group = None if mine else torch.distributed.new_group(backend="gloo", timeout=patient)
    try:
        torch.distributed.barrier(group)
        if part.index == 0:
            paths = [part_path(out, Part(i, part.count), data_shard) for i in range(part.count)]
            merge(paths, part_path(out, Part(), data_shard))
            for path in (*paths, *([plan_path(out)] if data_shard.whole else [])):  # else other parts share it
                path.unlink(missing_ok=True)
        torch.distributed.barrier(group)
    finally:
        torch.distributed.destroy_process_group(group)


def launch(workers: int, work: Callable[..., Any], *arguments: Any) -> Any:
    """Call ``work(*arguments)`` in ``workers`` processes of this machine, by torchrun's own launcher.

    A worker that dies is started again, up to three times, with all the others: what is finished is in the files.

    Args:
        workers: How many, at least 1. The CPU threads of this process are shared out among them.
        work: A function that can be pickled; it finds its rank in the environment, as under torchrun.
        arguments: Of the function; pickled too.

    Returns:
        What the first worker returned.

    Raises:
        ValueError: ``workers`` is not positive.
        RuntimeError: Workers failed each time; the message of the first is in ours.
        KeyboardInterrupt: As anywhere; the workers have ended, and kept what was finished.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if workers < 1:
        raise ValueError(f"workers must be at least 1. Got {workers}.")
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=workers,
        run_id=f"landscape-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=3,
    )
    environ = {
        "OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // workers)),
        # A store for each attempt: in a shared one, workers that are started again find the addresses of dead ones.
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    }
    try:
        with _quietly(environ):
            return elastic_launch(config, _recorded)(work, *arguments)[0]
    except ChildFailedError as error:
        said = error.get_first_failure()[1].message
        first = said["message"] if isinstance(said, dict) else said
        raise RuntimeError(f"all workers must end well. Got a failure of {sorted(error.failures)}: {first}") from error
    except SignalException as error:
        if error.sigval != signal.SIGINT:
            raise
        raise KeyboardInterrupt from error


@contextmanager
def _quietly(environ: Mapping[str, str]) -> Iterator[None]:
    """With variables for the workers, and without the launcher's log of every attempt: we say once what went wrong."""
    before = {name: os.environ.get(name) for name in environ}
    loggers = [logging.getLogger(name) for name in ("torch.distributed.elastic", "torch.multiprocessing.spawn")]
    levels = [logger.level for logger in loggers]
    try:
        os.environ.update(environ)
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _recorded(work: Callable[..., Any], *arguments: Any) -> Any:
    """``work(*arguments)``, whose exception is kept for the launcher."""
    from torch.distributed.elastic.multiprocessing.errors import record

    return record(work)(*arguments)
