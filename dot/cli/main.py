"""Finding the verb, reading its options, and turning what happens into a line and an exit status.

Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted (what was finished is kept).
"""

from __future__ import annotations

import contextlib
import difflib
import io
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module, metadata
from keyword import iskeyword
from types import ModuleType
from typing import Any

VERBS = {
    "reproduce": "run a whole study: teacher, students, surfaces, conflict, figures, report",
    "train": "train one student (and its teacher)",
    "study": "compare a method with its controls, pairwise by seed",
    "surface": "measure a loss surface of a run, or of your own network",
    "merge": "put the parts of a surface together",
    "conflict": "measure how the gradients of terms agree",
    "sharpness": "say how flat minima are, and whether methods can be told apart",
    "plot": "draw result files as PDF, SVG and PNG",
    "explore": "a page with surfaces to rotate in the browser",
    "report": "a page with the table and figures of measured runs",
    "export": "write a surface for other programs: CSV, NumPy, ParaView, the original tool",
    "import": "read a surface of the original loss-landscape tool",
    "info": "say what a file or folder holds",
    "validate": "say what is wrong with files and folders, all of it at once",
    "data": "list, fetch, verify and describe image sets",
    "doctor": "check this machine and installation",
}
"""Verbs and what each does; see `module_of`."""

RESUMED = ("reproduce", "train", "study", "surface", "data")
"""Verbs that go on where they were interrupted."""

PROGRAM = "dot-landscape"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; the arguments are those of the process by default. Returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without unicode gets a question mark, not a traceback
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"{PROGRAM} {metadata.version(PROGRAM)}")
        return 0
    verb, *rest = arguments
    if verb not in VERBS:
        close = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"Did you mean {close[0]}?" if close else f"The verbs are {', '.join(VERBS)}."
        return _fail(2, f"verb must be a known one. Got {verb!r}. {hint}")
    from dot.cli._shared import UsageError
    from dot.plain import to_json

    module = module_of(verb)
    options, status = _options(verb, module, rest)
    if options is None:
        return status
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    speaks = "WORLD_SIZE" not in os.environ or os.environ.get("RANK", "0") == "0"  # under torchrun one for all
    for package in ("dot", "landscape"):
        logging.getLogger(package).setLevel(logging.INFO if speaks else logging.WARNING)
    try:
        reply = module.run(options)
        if speaks:
            print(to_json(reply.data) if options.json else reply.text, flush=True)
    except KeyboardInterrupt:
        kept = "What was finished is kept: run the same command to go on." if verb in RESUMED else "Run it again."
        return _fail(130, f"interrupted. {kept}")
    except BrokenPipeError:  # the reader has left, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        return _fail(2 if isinstance(error, UsageError) else 1, _sentence(error))
    return 0 if reply.ok else 1


def module_of(verb: str) -> ModuleType:
    """The module of a verb, which has its name; no module can be called ``import``: it is ``import_``."""
    return import_module(f"dot.cli.{verb}_" if iskeyword(verb) else f"dot.cli.{verb}")


def _options(verb: str, module: Any, arguments: list[str]) -> tuple[Any, int]:
    """The options of a verb; or None and the exit status, where help was asked for or the usage is wrong."""
    import tyro

    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            options = tyro.cli(
                module.Options,
                prog=f"{PROGRAM} {verb}",
                description=module.__doc__,
                args=arguments,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as stop:
        if stop.code:
            return None, _fail(2, f"{_flat(errors.getvalue())} See {PROGRAM} {verb} --help.")
        print("\nexamples:\n" + "\n".join(f"  {PROGRAM} {example}" for example in module.EXAMPLES))
        return None, 0
    return options, 0


def _overview() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb.ljust(width)}  {does}" for verb, does in VERBS.items())
    return (
        f"usage: {PROGRAM} VERB [OPTIONS]     ({PROGRAM} VERB --help for the options of a verb)\n\n"
        "Shows what a training method does to the optimisation of a network: loss surfaces,\n"
        "flatness and gradient conflict, of any torch module and of students trained with CE,\n"
        "KD+SGD and KD+DOT.\n\n"
        f"verbs:\n{verbs}\n\nexamples:\n  {PROGRAM} reproduce\n  {PROGRAM} reproduce --quick -o quick"
    )


def _fail(status: int, message: str) -> int:
    print(f"{PROGRAM}: {message}", file=sys.stderr)
    return status


def _sentence(error: Exception) -> str:
    """The message of an error on one line; a kind of error that nobody wrote a message for is named."""
    message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    expected = isinstance(error, (ValueError, OSError, RuntimeError, KeyError, TypeError)) and message
    line = " ".join(message.split())
    return line if expected else f"{type(error).__name__}: {line} (--debug shows where)"


def _flat(frame: str) -> str:
    """The text inside tyro's frame, as one line: without its title, its rulers and the pointer to --help."""
    inside = [line.strip("│╭╮╰╯─ ") for line in frame.splitlines()[1:]]
    said = [line for line in inside if line.strip("-") and "--help" not in line and "full helptext" not in line]
    return " ".join(said).rstrip(".") + "."
